"""The derivations of softmax, and of the cross-entropy of a softmax.

Code subtracts the largest x first, against overflow. That changes neither y nor any gradient, so the derivation leaves it out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .derivation import Derivation
from .step import step


def _sum(v: Any, axes: tuple[int, ...]) -> Any:
    return np.sum(v, axis=axes, keepdims=True)


def _softmax(x: Any, axes: tuple[int, ...]) -> Any:
    e = np.exp(x)
    return e / _sum(e, axes)


def _double(x: Any, g: Any, u: Any, axes: tuple[int, ...]) -> Any:
    """With a = sum(u y) and b = sum(g y): <u, dx> = sum(u g y) - a b."""
    y = _softmax(x, axes)
    a, b = _sum(u * y, axes), _sum(g * y, axes)
    return y * (u * g - _sum(u * g * y, axes) - b * (u - a) - a * (g - b))


_EXP = step("e", lambda x: np.exp(x), "exp is its own derivative", x=lambda e_bar, e: e_bar * e)
_TOTAL = step("z", lambda e, axes: np.sum(e, axis=axes, keepdims=True), "what all are divided by", e=lambda z_bar: z_bar)

softmax = Derivation(
    "softmax",
    leaves={"x": (3, "m")},
    steps=(
        _EXP,
        _TOTAL,
        step(
            "y",
            lambda e, z: e / z,
            "z serves the whole row, so its adjoint is a sum",
            e=lambda y_bar, z: y_bar / z,
            z=lambda y_bar, y, z, axes: -np.sum(y_bar * y, axis=axes, keepdims=True) / z,
        ),
    ),
    closed_form={"x": lambda x, g, axes: (y := _softmax(x, axes)) * (g - _sum(g * y, axes))},
    double_backward={
        "x": _double,
        "g": lambda x, u, axes: (y := _softmax(x, axes)) * (u - _sum(u * y, axes)),
    },
    constants={"axes": (1,)},
    title="softmax",
)

softmax_cross_entropy = Derivation(
    "softmax_cross_entropy",
    leaves={"x": (3, "m"), "t": (3, "m")},
    steps=(
        _EXP,
        _TOTAL,
        step("ell", lambda z: np.log(z), "so that no quotient has to be differentiated", z=lambda ell_bar, z: ell_bar / z),
        step(
            "log_p",
            lambda x, ell: x - ell,
            "the logarithm of softmax(x)",
            x=lambda log_p_bar: log_p_bar,
            ell=lambda log_p_bar, axes: -np.sum(log_p_bar, axis=axes, keepdims=True),
        ),
        step(
            "y",
            lambda log_p, t, rows: -np.sum(t * log_p) / rows,
            "the mean over the rows; t holds the probabilities that were wished for, usually a 1 among zeros",
            log_p=lambda y_bar, t, rows: -y_bar * t / rows,
        ),
    ),
    # Of a t whose rows sum to 1 this is g (p - t) / rows
    closed_form={"x": lambda x, t, g, axes, rows: g * (_softmax(x, axes) * _sum(t, axes) - t) / rows},
    double_backward={
        "x": lambda x, t, g, u, axes, rows: g * _sum(t, axes) * (p := _softmax(x, axes)) * (u - _sum(u * p, axes)) / rows,
        "g": lambda x, t, u, axes, rows: np.sum(u * (_softmax(x, axes) * _sum(t, axes) - t)) / rows,
    },
    constants={"axes": (1,), "rows": 3},
    title="softmax cross-entropy",
)
