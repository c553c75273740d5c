"""The derivation of a backward pass as data, its judges, and the mistakes that are made in it."""

from .blindness import Blindness, ComparedChecks, blindness, compare_checks
from .check import Check
from .derivation import Derivation
from .exact import Exact, IrrationalRoot, exact
from .faults import FAULTS, Fault, known_faults, staged_backward
from .gradient_check import GradientCheck
from .judges import JUDGES, Row
from .norms import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from .softmax import softmax, softmax_cross_entropy
from .step import Step, step

DERIVATIONS = {each.name: each for each in (instance_norm, batch_norm, layer_norm, group_norm, rms_norm, softmax, softmax_cross_entropy)}

__all__ = [
    "DERIVATIONS",
    "FAULTS",
    "JUDGES",
    "Blindness",
    "Check",
    "ComparedChecks",
    "Derivation",
    "Exact",
    "Fault",
    "GradientCheck",
    "IrrationalRoot",
    "Row",
    "Step",
    "batch_norm",
    "blindness",
    "compare_checks",
    "exact",
    "group_norm",
    "instance_norm",
    "known_faults",
    "layer_norm",
    "rms_norm",
    "softmax",
    "softmax_cross_entropy",
    "staged_backward",
    "step",
]
