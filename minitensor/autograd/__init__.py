"""Differentiation: the walk through a graph, and the numerical opinions that check it."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from minitensor.autograd.function import Function
from minitensor.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp
from minitensor.autograd.walk import grad
from minitensor.grad_mode import detect_anomaly, enable_grad, is_grad_enabled, no_grad, set_grad_enabled

if _TYPE_CHECKING:
    from minitensor.autograd.checks import gradcheck, gradgradcheck
    from minitensor.autograd.differences import complex_step, richardson
    from minitensor.autograd.result import GradCheck
    from minitensor.autograd.rounding import Rounded

__all__ = [
    "Function", "GradCheck", "Rounded", "complex_step", "detect_anomaly", "enable_grad", "grad", "gradcheck", "gradgradcheck",
    "hessian", "hvp", "is_grad_enabled", "jacobian", "jvp", "no_grad", "richardson", "set_grad_enabled", "vhp", "vjp",
]  # fmt: skip

# The checks are loaded when they are asked for, so that `import minitensor` costs little more than NumPy
_CHECKS = {
    "complex_step": "differences", "richardson": "differences", "gradcheck": "checks", "gradgradcheck": "checks",
    "GradCheck": "result", "Rounded": "rounding",
}  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name not in _CHECKS:
        raise AttributeError(f"module 'minitensor.autograd' has no attribute {name!r}")
    value = globals()[name] = getattr(_import_module(f"minitensor.autograd.{_CHECKS[name]}"), name)
    return value
