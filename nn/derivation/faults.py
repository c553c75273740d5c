"""The known mistakes in the backward pass of a normalisation: one list, which ``--plant``, the blindness figures and the tests share.

The backward pass is written in stages, as one derives it on paper, each stage a formula whose parameters name what it uses::

    c = x - mu    q = c c    v = mean(q)    s = sqrt(v + eps)    r = 1 / s    x_hat = c r    y = gamma x_hat + beta

A mistake is a stage written wrongly. The stages see x in the shape in which a slice extends along ``axes`` (see
`minitensor.nn.norm.layout`), so they serve every layer of the family; what is no mistake in a layer, such as leaving out the path
through the mean of RMSNorm, is not among the `known_faults` of that layer.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from ..norm import Norm, formulas, layout
from ..norm.layout import Layout, Shape

Stage = Callable[..., Any]
Stages = Mapping[str, Stage]
Where = Callable[[Shape], Layout]


def _per_slice(v: Any, axes: Shape) -> Any:
    return np.sum(v, axis=axes, keepdims=True)


def _count(x: Any, axes: Iterable[int]) -> int:
    return math.prod(x.shape[i] for i in axes)


def _first_instance(v: Any, gamma: Any) -> Any:
    """The first of the instances that share a gamma; all of v where no two do."""
    return v[:1] if v.ndim > gamma.ndim or gamma.shape[0] == 1 else v


# A name ending in _bar is the adjoint of that node: d loss / d node.
STAGES: Stages = {
    "m": lambda x, axes: _count(x, axes),
    "c": lambda x, axes, centred: formulas.centre(x, axes, centred),
    "q": lambda c: c * c,
    "v": lambda q, x, axes: _per_slice(q, axes) / _count(x, axes),  # not m: a mistake in counting is made in the backward pass
    "s": lambda v, eps: np.sqrt(v + eps),
    "r": lambda s: 1 / s,
    "x_hat": lambda c, r: c * r,
    "h": lambda g, gamma: g * gamma,
    "r_bar": lambda h, c, axes: _per_slice(h * c, axes),
    "s_bar": lambda r_bar, s: -r_bar / (s * s),
    "v_bar": lambda s_bar, s: s_bar / (2 * s),
    "q_bar": lambda v_bar, m: v_bar / m,
    "c_bar": lambda h, r, c, q_bar: h * r + 2 * c * q_bar,
    "mu_bar": lambda c_bar, axes, centred: -_per_slice(c_bar, axes) if centred else 0,
    "dx": lambda c_bar, mu_bar, m: c_bar + mu_bar / m,
    "dgamma": lambda g, x_hat: g * x_hat,  # to be summed over all that share one gamma, as dbeta
    "dbeta": lambda g: g,
}


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, one sentence on what was done, and the stages that are written wrongly."""

    name: str
    sentence: str
    stages: Stages = field(repr=False)

    def backward(
        self, x: Any, gamma: Any, beta: Any, eps: float, dy: Any, *, where: Where = layout.per_instance, centred: bool = True
    ) -> tuple[Any, Any, Any]:
        """The backward pass with this mistake in it."""
        return staged_backward(x, gamma, beta, eps, dy, self.stages, where=where, centred=centred)

    def of(self, layer: Norm) -> Callable[..., tuple[Any, Any, Any]]:
        """The backward pass of this layer with this mistake in it."""
        return partial(self.backward, where=layer.layout, centred=layer.centred)


def staged_backward(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: float,
    dy: Any,
    replaced: Stages | None = None,
    *,
    where: Where = layout.per_instance,
    centred: bool = True,
) -> tuple[Any, Any, Any]:
    """(dx, dgamma, dbeta) of y = gamma x_hat + beta, stage by stage; ``replaced`` holds stages written otherwise.

    Shapes: x and dy (N, C, S...), gamma and beta (C,), or what the layer whose `Norm.layout` is given as ``where`` takes. beta may be
    None, and dbeta is None then. Runs on everything the formulas run on, Tensors included.

    >>> x = np.array([[[1.0, 2.0, 4.0]]])
    >>> dx, dgamma, dbeta = staged_backward(x, np.ones(1), np.zeros(1), 0.1, np.array([[[1.0, 0.0, 0.0]]]))
    >>> dx.round(3), dbeta
    (array([[[ 0.24 , -0.329,  0.089]]]), array([1.]))
    """
    seen = where(x.shape)
    known: dict[str, Any] = {
        "x": seen.look(formulas.widen(x)),
        "g": seen.look(formulas.widen(dy)),
        "gamma": seen.spread(gamma),
        "beta": 0 if beta is None else seen.spread(beta),
        "eps": eps,
        "axes": seen.axes,
        "centred": centred,
        "shared": x.size // gamma.size,  # how many elements one gamma scales
    }
    for name, stage in {**STAGES, **(replaced or {})}.items():
        known[name] = stage(*(known[read] for read in _reads(stage)))
    dgamma, dbeta = (_onto(known["gamma"], known[name]).reshape(gamma.shape) for name in ("dgamma", "dbeta"))
    return known["dx"].reshape(x.shape), dgamma, None if beta is None else dbeta


@cache  # a signature takes longer to make than a stage to run
def _reads(stage: Stage) -> tuple[str, ...]:
    """The names of what a stage uses."""
    return tuple(inspect.signature(stage).parameters)


def _onto(parameter: Any, v: Any) -> Any:
    """v summed over the axes along which the parameter was broadcast."""
    lead = v.ndim - parameter.ndim
    return np.sum(v, axis=(*range(lead), *(lead + i for i, n in enumerate(parameter.shape) if n == 1)), keepdims=True)


def known_faults(layer: Norm, shape: Shape) -> dict[str, Fault]:
    """The mistakes that are mistakes in this layer, for an input of this shape with a batch of more than one.

    >>> from minitensor import nn
    >>> "no-mean-path" in known_faults(nn.LayerNorm(5), (4, 5)), "no-mean-path" in known_faults(nn.RMSNorm(5), (4, 5))
    (True, False)
    """
    seen = layer.layout(shape)
    lead = len(seen.view) - len(seen.parameter)
    # The batch is enlarged unless it is not one: then gamma differs along the first axis
    batch = lead > 0 or seen.parameter[0] == 1
    view = tuple(size if n > 1 or (i == 0 and batch) else 1 for i, (n, size) in enumerate(zip(seen.view, _SIZES, strict=False)))
    parameter = tuple(view[lead + i] if n > 1 else 1 for i, n in enumerate(seen.parameter))
    names = _wrong_in(Layout(view, seen.axes, parameter), layer.centred)
    return {name: FAULTS[name] for name in names}


_SIZES = (2, 3, 4, 5, 7, 6, *(2,) * 26)  # of a small array of the same kind: unlike one another, and m large enough


@cache
def _wrong_in(where: Layout, centred: bool) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *where.view)) + 0.5
    gamma, beta = rng.uniform(0.5, 2, (2, *where.parameter))

    def backward(replaced: Stages) -> Any:  # what is not centred is not shifted either: RMSNorm has no beta
        parts = staged_backward(x, gamma, beta if centred else None, 0.1, g, replaced, where=lambda _: where, centred=centred)
        return np.concatenate([part.ravel() for part in parts if part is not None])

    right = backward({})
    return tuple(name for name, fault in FAULTS.items() if not np.allclose(backward(fault.stages), right, rtol=1e-9, atol=1e-9))


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
        _fault("m-is-one-axis", "m counts the last axis only, not all that were reduced", m=lambda x, axes: x.shape[axes[-1]]),
        _fault("m-counts-the-batch", "m counts the batch axis too, as BatchNorm does", m=lambda x, axes: _count(x, {0, *axes})),
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
        _fault("mean-path-sign", "the sign of d(x - mu) / d mu is lost", mu_bar=lambda c_bar, axes: _per_slice(c_bar, axes)),
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
        _fault("x-for-centred", "x stands where x - mu belongs in d r", r_bar=lambda h, x, axes: _per_slice(h * x, axes)),
        _fault("x-hat-for-centred", "x_hat stands where x - mu belongs in d r", r_bar=lambda h, x_hat, axes: _per_slice(h * x_hat, axes)),
        _fault(
            "y-for-x-hat",
            "y was kept where x_hat is needed in d r",
            r_bar=lambda h, x_hat, gamma, beta, s, axes: _per_slice(h * (gamma * x_hat + beta) * s, axes),
        ),
        # dgamma and dbeta
        _fault("dgamma-without-x-hat", "x_hat is missing in dgamma", dgamma=lambda g: g),
        _fault("dgamma-of-centred", "dgamma uses x - mu, not x_hat", dgamma=lambda g, c: g * c),
        _fault("dgamma-of-x", "dgamma uses x, not x_hat", dgamma=lambda g, x: g * x),
        _fault("dgamma-of-y", "dgamma uses y, not x_hat", dgamma=lambda g, gamma, x_hat, beta: g * (gamma * x_hat + beta)),
        _fault("dgamma-with-gamma", "dgamma is multiplied by gamma", dgamma=lambda g, gamma, x_hat: g * gamma * x_hat),
        _fault("dgamma-averaged", "dgamma is a mean, not a sum", dgamma=lambda g, x_hat, shared: g * x_hat / shared),
        _fault("dgamma-batch-mean", "dgamma is averaged over the batch", dgamma=lambda g, x_hat, x: g * x_hat / x.shape[0]),
        _fault(
            "dgamma-first-instance", "dgamma is not summed over the batch", dgamma=lambda g, x_hat, gamma: _first_instance(g * x_hat, gamma)
        ),
        _fault("dbeta-averaged", "dbeta is a mean, not a sum", dbeta=lambda g, shared: g / shared),
        _fault("dbeta-with-gamma", "dbeta is multiplied by gamma", dbeta=lambda h: h),
        _fault(
            "dgamma-dbeta-swapped",
            "dgamma and dbeta are swapped",
            dgamma=lambda g: g,
            dbeta=lambda g, x_hat: g * x_hat,
        ),
    )
}
