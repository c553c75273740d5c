"""The known mistakes in the backward pass of InstanceNorm: one list, which ``--plant``, the blindness figures and the tests share.

The backward pass is written in stages, as one derives it on paper, each stage a formula whose parameters name what it uses::

    c = x - mu    q = c c    v = mean(q)    s = sqrt(v + eps)    r = 1 / s    x_hat = c r    y = gamma x_hat + beta

A mistake is a stage written wrongly.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..norm import formulas

Stage = Callable[..., Any]
Stages = Mapping[str, Stage]


def _per_slice(v: Any) -> Any:
    return np.sum(v, axis=tuple(range(2, v.ndim)), keepdims=True)


def _per_channel(v: Any) -> Any:
    return np.sum(v, axis=(0, *range(2, v.ndim)))


# A name ending in _bar is the adjoint of that node: d loss / d node.
STAGES: Stages = {
    "m": lambda x: math.prod(x.shape[2:]),
    "c": lambda x: formulas.centre(x, tuple(range(2, x.ndim))),
    "q": lambda c: c * c,
    "v": lambda q, x: _per_slice(q) / math.prod(x.shape[2:]),  # not m: a mistake in counting is made in the backward pass
    "s": lambda v, eps: np.sqrt(v + eps),
    "r": lambda s: 1 / s,
    "x_hat": lambda c, r: c * r,
    "h": lambda g, gamma: g * gamma,
    "r_bar": lambda h, c: _per_slice(h * c),
    "s_bar": lambda r_bar, s: -r_bar / (s * s),
    "v_bar": lambda s_bar, s: s_bar / (2 * s),
    "q_bar": lambda v_bar, m: v_bar / m,
    "c_bar": lambda h, r, c, q_bar: h * r + 2 * c * q_bar,
    "mu_bar": lambda c_bar: -_per_slice(c_bar),
    "dx": lambda c_bar, mu_bar, m: c_bar + mu_bar / m,
    "dgamma": lambda g, x_hat: _per_channel(g * x_hat),
    "dbeta": lambda g: _per_channel(g),
}


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, one sentence on what was done, and the stages that are written wrongly."""

    name: str
    sentence: str
    stages: Stages = field(repr=False)

    def backward(self, x: Any, gamma: Any, beta: Any, eps: float, dy: Any) -> tuple[Any, Any, Any]:
        """The backward pass with this mistake in it."""
        return staged_backward(x, gamma, beta, eps, dy, self.stages)


def staged_backward(x: Any, gamma: Any, beta: Any, eps: float, dy: Any, replaced: Stages | None = None) -> tuple[Any, Any, Any]:
    """(dx, dgamma, dbeta) of y = gamma x_hat + beta, stage by stage; ``replaced`` holds stages written otherwise.

    Shapes: x and dy (N, C, S...), gamma and beta (C,). Runs on everything the formulas run on, Tensors included.

    >>> x = np.array([[[1.0, 2.0, 4.0]]])
    >>> dx, dgamma, dbeta = staged_backward(x, np.ones(1), np.zeros(1), 0.1, np.array([[[1.0, 0.0, 0.0]]]))
    >>> dx.round(3), dbeta
    (array([[[ 0.24 , -0.329,  0.089]]]), array([1.]))
    """
    channels = (1, -1, *(1,) * (x.ndim - 2))
    known: dict[str, Any] = {
        "x": formulas.widen(x),
        "g": formulas.widen(dy),
        "gamma": gamma.reshape(channels),
        "beta": beta.reshape(channels),
        "eps": eps,
    }
    for name, stage in {**STAGES, **(replaced or {})}.items():
        known[name] = stage(*(known[parameter] for parameter in inspect.signature(stage).parameters))
    return known["dx"], known["dgamma"], known["dbeta"]


def _fault(name: str, sentence: str, **stages: Stage) -> Fault:
    return Fault(name, sentence, stages)


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        # paths left out
        _fault("no-mean-path", "the path through the mean is left out: x moves mu too", dx=lambda c_bar: c_bar),
        _fault("no-variance-path", "the path through the variance is left out: x moves v too", c_bar=lambda h, r: h * r),
        _fault("no-statistics-paths", "mean and variance are taken for constants, as in eval mode", dx=lambda h, r: h * r),
        _fault("no-direct-path", "only the paths through the statistics are kept", c_bar=lambda c, q_bar: 2 * c * q_bar),
        # sums and counts
        _fault("mean-not-summed", "the sum over the slice is forgotten in d mu", mu_bar=lambda c_bar: -c_bar),
        _fault("variance-not-summed", "the sum over the slice is forgotten in d r", r_bar=lambda h, c: h * c),
        _fault("mean-without-1/m", "1/m is missing in the path through the mean", dx=lambda c_bar, mu_bar: c_bar + mu_bar),
        _fault("mean-with-1/m-twice", "1/m stands twice in the path through the mean", dx=lambda c_bar, mu_bar, m: c_bar + mu_bar / m**2),
        _fault("variance-without-1/m", "1/m is missing in the path through the variance", q_bar=lambda v_bar: v_bar),
        _fault("variance-with-1/m-twice", "1/m stands twice in the path through the variance", q_bar=lambda v_bar, m: v_bar / m**2),
        _fault("m-is-one-axis", "m counts the last axis only, not all that were reduced", m=lambda x: x.shape[-1]),
        _fault("m-counts-the-batch", "m counts the batch axis too, as BatchNorm does", m=lambda x: x.size // x.shape[1]),
        _fault("unbiased", "the variance path divides by m - 1, the forward by m", q_bar=lambda v_bar, m: v_bar / (m - 1)),
        _fault(
            "unbiased-rstd",
            "r is made from the unbiased variance, the forward from the biased",
            s=lambda v, m, eps: np.sqrt(v * m / (m - 1) + eps),
        ),
        _fault(
            "averaged-over-batch",
            "dx is divided by the batch size, which the loss has done already",
            dx=lambda x, c_bar, mu_bar, m: (c_bar + mu_bar / m) / x.shape[0],
        ),
        # factors, signs, powers
        _fault("no-2", "the 2 of d(c c) = 2 c dc is missing", c_bar=lambda h, r, c, q_bar: h * r + c * q_bar),
        _fault("no-half", "the 1/2 of d sqrt is missing", v_bar=lambda s_bar, s: s_bar / s),
        _fault("variance-path-sign", "the sign of d(1/s) is lost", s_bar=lambda r_bar, s: r_bar / (s * s)),
        _fault("mean-path-sign", "the sign of d(x - mu) / d mu is lost", mu_bar=lambda c_bar: _per_slice(c_bar)),
        _fault("sign", "dx has the wrong sign", dx=lambda c_bar, mu_bar, m: -(c_bar + mu_bar / m)),
        _fault("s-for-s-squared", "d(1/s) has s where s squared belongs", s_bar=lambda r_bar, s: -r_bar / s),
        _fault("s-cubed", "d(1/s) has s cubed where s squared belongs", s_bar=lambda r_bar, s: -r_bar / (s * s * s)),
        _fault("variance-for-deviation", "x - mu is divided by the variance, not by its root", r=lambda s: 1 / (s * s)),
        # eps
        _fault("eps-twice", "eps is added twice", s=lambda v, eps: np.sqrt(v + 2 * eps)),
        _fault("eps-forgotten", "eps is left out", s=lambda v: np.sqrt(v)),
        _fault("eps-outside-root", "eps stands outside the root", s=lambda v, eps: np.sqrt(v) + eps),
        # gamma
        _fault("gamma-forgotten", "gamma is missing in dx", h=lambda g: g),
        _fault("gamma-twice", "gamma is applied twice in dx", h=lambda g, gamma: g * gamma * gamma),
        # the wrong array
        _fault("x-for-centred", "x stands where x - mu belongs in d r", r_bar=lambda h, x: _per_slice(h * x)),
        _fault("x-hat-for-centred", "x_hat stands where x - mu belongs in d r", r_bar=lambda h, x_hat: _per_slice(h * x_hat)),
        _fault(
            "y-for-x-hat",
            "y was kept where x_hat is needed in d r",
            r_bar=lambda h, x_hat, gamma, beta, s: _per_slice(h * (gamma * x_hat + beta) * s),
        ),
        # dgamma and dbeta
        _fault("dgamma-without-x-hat", "x_hat is missing in dgamma", dgamma=lambda g: _per_channel(g)),
        _fault("dgamma-of-centred", "dgamma uses x - mu, not x_hat", dgamma=lambda g, c: _per_channel(g * c)),
        _fault("dgamma-of-x", "dgamma uses x, not x_hat", dgamma=lambda g, x: _per_channel(g * x)),
        _fault("dgamma-of-y", "dgamma uses y, not x_hat", dgamma=lambda g, gamma, x_hat, beta: _per_channel(g * (gamma * x_hat + beta))),
        _fault("dgamma-with-gamma", "dgamma is multiplied by gamma", dgamma=lambda g, gamma, x_hat: _per_channel(g * gamma * x_hat)),
        _fault(
            "dgamma-averaged", "dgamma is a mean, not a sum", dgamma=lambda g, x_hat, x: _per_channel(g * x_hat) / (x.size // x.shape[1])
        ),
        _fault("dgamma-batch-mean", "dgamma is averaged over the batch", dgamma=lambda g, x_hat, x: _per_channel(g * x_hat) / x.shape[0]),
        _fault("dgamma-first-instance", "dgamma is not summed over the batch", dgamma=lambda g, x_hat: _per_channel((g * x_hat)[:1])),
        _fault("dbeta-averaged", "dbeta is a mean, not a sum", dbeta=lambda g, x: _per_channel(g) / (x.size // x.shape[1])),
        _fault("dbeta-with-gamma", "dbeta is multiplied by gamma", dbeta=lambda h: _per_channel(h)),
        _fault(
            "dgamma-dbeta-swapped",
            "dgamma and dbeta are swapped",
            dgamma=lambda g: _per_channel(g),
            dbeta=lambda g, x_hat: _per_channel(g * x_hat),
        ),
    )
}
