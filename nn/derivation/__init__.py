"""The derivation of a backward pass, and the mistakes that are made in it."""

from .faults import FAULTS, Fault, known_faults, staged_backward

__all__ = ["FAULTS", "Fault", "known_faults", "staged_backward"]
