"""Independent judges of a derivation: five ways to know a derivative that share nothing with the rule that is judged."""

from collections.abc import Mapping

from .floats import Autograd, ComplexStep, Differences
from .judge import Judge
from .proof import Proof
from .rationals import Rationals
from .verdict import Row

JUDGES: Mapping[str, type[Judge]] = {each.name: each for each in (Autograd, Differences, ComplexStep, Rationals, Proof)}

__all__ = ["JUDGES", "Autograd", "ComplexStep", "Differences", "Judge", "Proof", "Rationals", "Row"]
