"""What is wrong in a learner's backward pass: the mistake by its name, from the numbers alone."""

from .coefficients import Coefficients, coefficients
from .diagnosis import diagnose, diagnose_outcomes
from .learner import Learner, Outcome
from .naming import Mistake
from .probes import Probe, probes
from .result import Diagnosis

__all__ = ["Coefficients", "Diagnosis", "Learner", "Mistake", "Outcome", "Probe", "coefficients", "diagnose", "diagnose_outcomes", "probes"]
