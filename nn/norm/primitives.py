"""Normalisation as primitives: two small ones closed under differentiation, and the fused one that the layers call.

    standardize(x)   vjp:  rstd(x) (g - mean(g) - y mean(g y))
    rstd(x)          vjp:  g rstd(x)**2 standardize(x) (-1 / m)

Each rule is made of the two functions themselves, so derivatives of every order are exact.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitensor import Tensor
from minitensor.errors import ShapeError, describe
from minitensor.primitive import JointPrimitive, Primitive, primitive

from . import formulas
from .formulas import Axes, less_mean, mean
from .kernels import numpy_blocked
from .layout import Layout

Backward = Callable[[Any, Any, Any, float, Any], Sequence[Any]]  # (x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)

standardize = primitive(
    formulas.standardize,
    lambda g, y, x, axes, eps, centred=True: (
        rstd(x, axes=axes, eps=eps, centred=centred) * (less_mean(g, axes, centred) - y * mean(g * y, axes))
    ),
)
rstd: Primitive = primitive(
    formulas.rstd,
    lambda g, y, x, axes, eps, centred=True: (
        g * y * y * standardize(x, axes=axes, eps=eps, centred=centred) * (-1 / math.prod(x.shape[i] for i in axes))
    ),
)


def _normalize(g: Any, _y: Any, x: Any, gamma: Any, _beta: Any, axes: Axes, eps: float, centred: bool = True) -> tuple[Any, Any, Any]:
    x = formulas.widen(x)
    x_hat, r = (f(x, axes=axes, eps=eps, centred=centred) for f in (standardize, rstd))
    return formulas.normalize_backward(g, x_hat, r, gamma, axes, centred)


class _Normalize(JointPrimitive):
    """y = gamma x_hat + beta, fused: on NumPy arrays both directions run in a kernel, everywhere else by the readable formulas."""

    def forward(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        if numpy_blocked.serves(*arrays, axes=params["axes"]):
            return numpy_blocked.forward(*arrays, **params)
        return super().forward(arrays, params)

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        x, gamma, _beta = inputs
        if not traced and isinstance(g, np.ndarray) and numpy_blocked.serves(x, gamma, axes=params["axes"]):
            return numpy_blocked.backward(g, x, gamma, **params)
        return super().vjp(g, y, inputs, params, edges, traced)


normalize = _Normalize(formulas.normalize, _normalize, arity=3)


def _widened_copy(value: Any) -> Any:
    """An array that a function of the user's may write into; a Tensor cannot be written into while it is recorded."""
    if value is None:
        return None
    wide = formulas.widen(value)
    return wide.copy() if wide is value and not isinstance(value, Tensor) else wide


def _check_signature(name: str, backward: Backward) -> None:
    try:
        inspect.signature(backward).bind("x", "gamma", "beta", "eps", "dy")
    except TypeError as error:
        raise TypeError(f"{name} must take (x, gamma, beta, eps, dy) and return (dx, dgamma, dbeta): {error}") from error
    except ValueError:
        pass  # a function written in C has no signature


def normalize_with(backward: Backward, layout: Layout, eps: float, centred: bool = True) -> JointPrimitive:
    """``normalize`` with somebody's own backward in the place of its rule; x, gamma and beta come in the layer's own shapes."""

    name = getattr(backward, "__name__", "backward")

    def forward(x: Any, gamma: Any, beta: Any) -> Any:
        y = normalize(layout.look(x), layout.spread(gamma), layout.spread(beta), axes=layout.axes, eps=eps, centred=centred)
        return y.reshape(x.shape)

    def rule(g: Any, _y: Any, x: Any, gamma: Any, beta: Any) -> Sequence[Any]:
        _check_signature(name, backward)
        found = backward(_widened_copy(x), _widened_copy(gamma), _widened_copy(beta), eps, _widened_copy(g))
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            raise ShapeError(f"{name}(x, gamma, beta, eps, dy) must return (dx, dgamma, dbeta), got {describe(found)}")
        found = [None if value is None else cotangent for cotangent, value in zip(found, (x, gamma, beta), strict=True)]
        for label, cotangent, value in zip(("dx", "dgamma", "dbeta"), found, (x, gamma, beta), strict=True):
            if value is not None and np.shape(cotangent) != value.shape:
                raise ShapeError(f"{name}: {label} must have shape {value.shape}, got {np.shape(cotangent)}")
        return found

    return JointPrimitive(forward, rule, arity=3, name=f"normalize with {name}")
