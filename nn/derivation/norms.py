"""The derivation of the normalisations: one chain of steps, and per layer what is normalised together.

``axes`` are those of a slice of m elements, ``shared`` those along which elements share one gamma (see `minitensor.nn.norm.layout`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..norm import formulas
from .derivation import Derivation, Size
from .step import Step, step

_CENTRE = (
    step("mu", lambda x, axes: np.mean(x, axis=axes, keepdims=True), "the mean of the slice", x=lambda mu_bar, m: mu_bar / m),
    step(
        "c",
        lambda x, mu: x - mu,
        "x moves c twice: directly, and through mu, which all elements of the slice share",
        x=lambda c_bar: c_bar,
        mu=lambda c_bar, axes: -np.sum(c_bar, axis=axes, keepdims=True),
    ),
)
_NO_CENTRE = (step("c", lambda x: x * 1, "RMSNorm subtracts nothing", x=lambda c_bar: c_bar),)
_SCALE = (
    step("q", lambda c: c * c, "the square, for the variance", c=lambda q_bar, c: 2 * c * q_bar),
    step("v", lambda q, axes: np.mean(q, axis=axes, keepdims=True), "the biased variance", q=lambda v_bar, m: v_bar / m),
    step(
        "s",
        lambda v, eps: np.sqrt(v + eps),
        "eps stands inside the root",
        v=lambda s_bar, s: s_bar / (2 * s),
        eps=lambda s_bar, s: np.sum(s_bar / (2 * s)),
    ),
    step("r", lambda s: 1 / s, "multiplying by r is dividing by s", s=lambda r_bar, s: -r_bar / (s * s)),
    step(
        "x_hat",
        lambda c, r: c * r,
        "c is used twice, here and in q; r is one number for the whole slice, so its adjoint is a sum",
        c=lambda x_hat_bar, r: x_hat_bar * r,
        r=lambda x_hat_bar, c, axes: np.sum(x_hat_bar * c, axis=axes, keepdims=True),
    ),
)
_GAMMA: Mapping[str, Any] = {
    "x_hat": lambda y_bar, gamma: y_bar * gamma,
    "gamma": lambda y_bar, x_hat, shared: np.sum(y_bar * x_hat, axis=shared, keepdims=True),
}
_AFFINE = step(
    "y",
    lambda x_hat, gamma, beta: x_hat * gamma + beta,
    "one gamma and one beta serve many elements, so their adjoints are sums over these",
    **_GAMMA,
    beta=lambda y_bar, shared: np.sum(y_bar, axis=shared, keepdims=True),
)
_SCALED = step("y", lambda x_hat, gamma: x_hat * gamma, "one gamma serves many elements, so its adjoint is a sum over these", **_GAMMA)

STEPS: tuple[Step, ...] = (*_CENTRE, *_SCALE, _AFFINE)
UNCENTRED_STEPS: tuple[Step, ...] = (*_NO_CENTRE, *_SCALE, _SCALED)


def _closed(x: Any, gamma: Any, eps: Any, g: Any, axes: Any, centred: bool) -> tuple[Any, Any, Any]:
    x_hat, r = _standard(x, eps, axes, centred)
    return formulas.normalize_backward(g, x_hat, r, gamma, axes, centred)


def _double(x: Any, gamma: Any, eps: Any, g: Any, u: Any, axes: Any, centred: bool) -> tuple[Any, Any, Any]:
    x_hat, r = _standard(x, eps, axes, centred)
    return formulas.normalize_double_backward(g, u, x_hat, r, gamma, axes, centred)


def _standard(x: Any, eps: Any, axes: Any, centred: bool) -> tuple[Any, Any]:
    return formulas.standardize(x, axes, eps, centred), formulas.rstd(x, axes, eps, centred)


def _eps(x: Any, gamma: Any, eps: Any, g: Any, axes: Any, centred: bool) -> Any:
    x_hat, r = _standard(x, eps, axes, centred)
    return -np.sum(g * gamma * x_hat * r * r) / 2


def _sum(v: Any, axes: tuple[int, ...]) -> Any:
    return np.sum(v, axis=axes, keepdims=True)


def normalization(
    name: str, title: str, x: Sequence[Size], gamma: Sequence[Size], axes: tuple[int, ...], shared: tuple[int, ...], centred: bool = True
) -> Derivation:
    """The derivation of a normalisation of x over ``axes``, whose gamma and beta are shared along ``shared``."""
    beta: dict[str, Any] = {"beta": lambda g, shared: _sum(g, shared)} if centred else {}
    return Derivation(
        name,
        leaves={"x": x, "gamma": gamma, **dict.fromkeys(beta, gamma), "eps": ()},
        steps=STEPS if centred else UNCENTRED_STEPS,
        closed_form={
            "x": lambda x, gamma, eps, g, axes: _closed(x, gamma, eps, g, axes, centred)[0],
            "gamma": lambda x, gamma, eps, g, axes, shared: _sum(_closed(x, gamma, eps, g, axes, centred)[1], shared),
            "eps": lambda x, gamma, eps, g, axes: _eps(x, gamma, eps, g, axes, centred),
            **beta,
        },
        double_backward={
            "x": lambda x, gamma, eps, g, u, axes: _double(x, gamma, eps, g, u, axes, centred)[0],
            "g": lambda x, gamma, eps, g, u, axes: _double(x, gamma, eps, g, u, axes, centred)[1],
            "gamma": lambda x, gamma, eps, g, u, axes, shared: _sum(_double(x, gamma, eps, g, u, axes, centred)[2], shared),
        },
        constants={"axes": axes, "shared": shared},
        positive={"eps"},
        title=title,
    )


# The smallest shapes in which nothing is alike: several slices, and several gammas
instance_norm = normalization("instance_norm", "InstanceNorm", (2, 3, "m"), (1, 3, 1), (2,), (0, 2))
batch_norm = normalization("batch_norm", "BatchNorm", ("m", 3), (1, 3), (0,), (0,))
layer_norm = normalization("layer_norm", "LayerNorm", (3, "m"), (1, "m"), (1,), (0,))
group_norm = normalization("group_norm", "GroupNorm", (2, 2, "m", 1), (1, 2, "m", 1), (2, 3), (0, 3))
rms_norm = normalization("rms_norm", "RMSNorm", (3, "m"), (1, "m"), (1,), (0,), centred=False)
