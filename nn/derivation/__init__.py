"""The derivation of a backward pass, and the mistakes that are made in it."""

from .faults import FAULTS, Fault, staged_backward

__all__ = ["FAULTS", "Fault", "staged_backward"]
