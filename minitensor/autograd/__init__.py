"""Differentiation: the walk through a graph, and the numerical opinions that check it."""

from minitensor.autograd.differences import complex_step, richardson
from minitensor.autograd.rounding import Rounded
from minitensor.autograd.walk import grad
from minitensor.grad_mode import enable_grad, is_grad_enabled, no_grad

__all__ = ["Rounded", "complex_step", "enable_grad", "grad", "is_grad_enabled", "no_grad", "richardson"]
