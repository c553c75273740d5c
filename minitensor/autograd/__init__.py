"""Differentiation: the walk through a graph, and the numerical opinions that check it."""

from minitensor.autograd.differences import complex_step, richardson
from minitensor.autograd.function import Function
from minitensor.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp
from minitensor.autograd.gradcheck import gradcheck, gradgradcheck
from minitensor.autograd.result import GradCheck
from minitensor.autograd.rounding import Rounded
from minitensor.autograd.walk import grad
from minitensor.grad_mode import detect_anomaly, enable_grad, is_grad_enabled, no_grad, set_grad_enabled

__all__ = [
    "GradCheck", "Function", "Rounded", "complex_step", "detect_anomaly", "enable_grad", "grad", "gradcheck", "gradgradcheck", "hessian", "hvp",
    "is_grad_enabled", "jacobian", "jvp", "no_grad", "richardson", "set_grad_enabled", "vhp", "vjp",
]  # fmt: skip
