"""What is wrong in a learner's backward pass: the mistake by its name, from the numbers alone."""

from .coefficients import Coefficients, coefficients
from .probes import Probe, probes

__all__ = ["Coefficients", "Probe", "coefficients", "probes"]
