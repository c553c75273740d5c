"""The known mistakes in the backward pass of a normalisation: one list, which ``--plant``, the blindness figures and the tests share.

A mistake is a line of the derivation (`Derivation.program`) written wrongly. The lines see x in the shape in which a slice extends along
``axes`` (see `minitensor.nn.norm.layout`), so they serve every layer of the family; what is no mistake in a layer, such as leaving out the
path through the mean of RMSNorm, is not among the `known_faults` of that layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from ..norm import Norm, formulas, layout
from ..norm.layout import Layout, Shape
from .expression import Rule
from .norms import instance_norm, rms_norm
from .step import call

Replaced = Mapping[str, Rule]

PROGRAM, UNCENTRED_PROGRAM = ({**each.program, "dx": lambda x_bar: x_bar} for each in (instance_norm, rms_norm))
Where = Callable[[Shape], Layout]


def _sum(v: Any, axes: Shape) -> Any:
    return np.sum(v, axis=axes, keepdims=True)


def _first_instance(v: Any, gamma: Any) -> Any:
    """The first of the instances that share a gamma; all of v where no two do."""
    return v[:1] if gamma.shape[0] == 1 else v


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, one sentence on what was done, and the lines of the derivation's `program` that are written wrongly."""

    name: str
    sentence: str
    replaced: Replaced = field(repr=False)

    def backward(
        self, x: Any, gamma: Any, beta: Any, eps: float, dy: Any, *, where: Where = layout.per_instance, centred: bool = True
    ) -> tuple[Any, Any, Any]:
        """The backward pass with this mistake in it."""
        return staged_backward(x, gamma, beta, eps, dy, self.replaced, where=where, centred=centred)

    def of(self, layer: Norm) -> Callable[..., tuple[Any, Any, Any]]:
        """The backward pass of this layer with this mistake in it."""
        return partial(self.backward, where=layer.layout, centred=layer.centred)


def staged_backward(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: float,
    dy: Any,
    replaced: Replaced | None = None,
    *,
    where: Where = layout.per_instance,
    centred: bool = True,
) -> tuple[Any, Any, Any]:
    """(dx, dgamma, dbeta) of y = gamma x_hat + beta, line by line; ``replaced`` holds lines that are written otherwise.

    The lines are those of the derivation's `program`. They may also read ``last``, ``batch``, ``with_batch`` and ``sharing``: the length
    of the last axis of a slice and of the batch, and how many elements make a slice over the batch too, or share one gamma.

    Shapes: x and dy (N, C, S...), gamma and beta (C,), or what the layer whose `Norm.layout` is given as ``where`` takes. beta may be
    None, and dbeta is None then. Runs on everything the formulas run on, Tensors included.

    >>> x = np.array([[[1.0, 2.0, 4.0]]])
    >>> dx, dgamma, dbeta = staged_backward(x, np.ones(1), np.zeros(1), 0.1, np.array([[[1.0, 0.0, 0.0]]]))
    >>> dx.round(3), dbeta
    (array([[[ 0.24 , -0.329,  0.089]]]), array([1.]))
    """
    seen = where(x.shape)
    scale = seen.spread(gamma)
    scale = scale.reshape((1,) * (len(seen.view) - scale.ndim) + scale.shape)
    env: dict[str, Any] = {
        "x": seen.look(formulas.widen(x)),
        "y_bar": seen.look(formulas.widen(dy)),
        "gamma": scale,
        "beta": 0 if beta is None else seen.spread(beta).reshape(scale.shape),
        "eps": eps,
        "axes": seen.axes,
        "shared": tuple(i for i, n in enumerate(scale.shape) if n == 1),
        "m": seen.m,
        "last": seen.view[seen.axes[-1]],
        "batch": x.shape[0],
        "with_batch": math.prod(seen.view[i] for i in {0, *seen.axes}),
        "sharing": x.size // gamma.size,
    }
    replaced = replaced or {}
    env |= {name: call(rule, env) for name, rule in replaced.items() if name in env}
    for name, rule in (PROGRAM if centred else UNCENTRED_PROGRAM).items():
        env[name] = call(replaced.get(name, rule), env)
    dbeta = None if beta is None else env["beta_bar"].reshape(gamma.shape)
    return env["dx"].reshape(x.shape), env["gamma_bar"].reshape(gamma.shape), dbeta


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

    def backward(replaced: Replaced) -> Any:  # what is not centred is not shifted either: RMSNorm has no beta
        parts = staged_backward(x, gamma, beta if centred else None, 0.1, g, replaced, where=lambda _: where, centred=centred)
        return np.concatenate([part.ravel() for part in parts if part is not None])

    right = backward({})
    return tuple(name for name, fault in FAULTS.items() if not np.allclose(backward(fault.replaced), right, rtol=1e-9, atol=1e-9))


def _fault(name: str, sentence: str, **replaced: Rule) -> Fault:
    return Fault(name, sentence, replaced)


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        # paths left out
        _fault("no-mean-path", "the path through the mean is left out: x moves mu too", x_bar=lambda c_to_x: c_to_x),
        _fault("no-variance-path", "the path through the variance is left out: x moves v too", c_bar=lambda x_hat_to_c: x_hat_to_c),
        _fault("no-statistics-paths", "mean and variance are taken for constants, as in eval mode", x_bar=lambda x_hat_to_c: x_hat_to_c),
        _fault("no-direct-path", "only the paths through the statistics are kept", c_bar=lambda q_to_c: q_to_c),
        # sums and counts
        _fault("mean-not-summed", "the sum over the slice is forgotten in d mu", c_to_mu=lambda c_bar: -c_bar),
        _fault("variance-not-summed", "the sum over the slice is forgotten in d r", x_hat_to_r=lambda x_hat_bar, c: x_hat_bar * c),
        _fault("mean-without-1/m", "1/m is missing in the path through the mean", mu_to_x=lambda mu_bar: mu_bar),
        _fault("mean-with-1/m-twice", "1/m stands twice in the path through the mean", mu_to_x=lambda mu_bar, m: mu_bar / m**2),
        _fault("variance-without-1/m", "1/m is missing in the path through the variance", v_to_q=lambda v_bar: v_bar),
        _fault("variance-with-1/m-twice", "1/m stands twice in the path through the variance", v_to_q=lambda v_bar, m: v_bar / m**2),
        _fault("m-is-one-axis", "m counts the last axis only, not all that were reduced", m=lambda last: last),
        _fault("m-counts-the-batch", "m counts the batch axis too, as BatchNorm does", m=lambda with_batch: with_batch),
        _fault("unbiased", "the variance path divides by m - 1, the forward by m", v_to_q=lambda v_bar, m: v_bar / (m - 1)),
        _fault(
            "unbiased-rstd",
            "r is made from the unbiased variance, the forward from the biased",
            s=lambda v, m, eps: np.sqrt(v * m / (m - 1) + eps),
        ),
        _fault(
            "averaged-over-batch", "dx is divided by the batch size, which the loss has done already", dx=lambda x_bar, batch: x_bar / batch
        ),
        # factors, signs, powers
        _fault("no-2", "the 2 of d(c c) = 2 c dc is missing", q_to_c=lambda q_bar, c: c * q_bar),
        _fault("no-half", "the 1/2 of d sqrt is missing", s_to_v=lambda s_bar, s: s_bar / s),
        _fault("variance-path-sign", "the sign of d(1/s) is lost", r_to_s=lambda r_bar, s: r_bar / (s * s)),
        _fault(
            "mean-path-sign", "the sign of d(x - mu) / d mu is lost", c_to_mu=lambda c_bar, axes: np.sum(c_bar, axis=axes, keepdims=True)
        ),
        _fault("sign", "dx has the wrong sign", dx=lambda x_bar: -x_bar),
        _fault("s-for-s-squared", "d(1/s) has s where s squared belongs", r_to_s=lambda r_bar, s: -r_bar / s),
        _fault("s-cubed", "d(1/s) has s cubed where s squared belongs", r_to_s=lambda r_bar, s: -r_bar / (s * s * s)),
        _fault("variance-for-deviation", "x - mu is divided by the variance, not by its root", r=lambda s: 1 / (s * s)),
        # eps
        _fault("eps-twice", "eps is added twice", s=lambda v, eps: np.sqrt(v + 2 * eps)),
        _fault("eps-forgotten", "eps is left out", s=lambda v: np.sqrt(v)),
        _fault("eps-outside-root", "eps stands outside the root", s=lambda v, eps: np.sqrt(v) + eps),
        # gamma
        _fault("gamma-forgotten", "gamma is missing in dx", y_to_x_hat=lambda y_bar: y_bar),
        _fault("gamma-twice", "gamma is applied twice in dx", y_to_x_hat=lambda y_bar, gamma: y_bar * gamma * gamma),
        # the wrong array
        _fault(
            "x-for-centred",
            "x stands where x - mu belongs in d r",
            x_hat_to_r=lambda x_hat_bar, x, axes: np.sum(x_hat_bar * x, axis=axes, keepdims=True),
        ),
        _fault(
            "x-hat-for-centred",
            "x_hat stands where x - mu belongs in d r",
            x_hat_to_r=lambda x_hat_bar, x_hat, axes: np.sum(x_hat_bar * x_hat, axis=axes, keepdims=True),
        ),
        _fault(
            "y-for-x-hat",
            "y was kept where x_hat is needed in d r",
            x_hat_to_r=lambda x_hat_bar, x_hat, gamma, beta, s, axes: np.sum(
                x_hat_bar * (gamma * x_hat + beta) * s, axis=axes, keepdims=True
            ),
        ),
        # dgamma and dbeta
        _fault("dgamma-without-x-hat", "x_hat is missing in dgamma", y_to_gamma=lambda y_bar, shared: _sum(y_bar, shared)),
        _fault("dgamma-of-centred", "dgamma uses x - mu, not x_hat", y_to_gamma=lambda y_bar, c, shared: _sum(y_bar * c, shared)),
        _fault("dgamma-of-x", "dgamma uses x, not x_hat", y_to_gamma=lambda y_bar, x, shared: _sum(y_bar * x, shared)),
        _fault(
            "dgamma-of-y",
            "dgamma uses y, not x_hat",
            y_to_gamma=lambda y_bar, gamma, x_hat, beta, shared: _sum(y_bar * (gamma * x_hat + beta), shared),
        ),
        _fault(
            "dgamma-with-gamma",
            "dgamma is multiplied by gamma",
            y_to_gamma=lambda y_bar, gamma, x_hat, shared: _sum(y_bar * gamma * x_hat, shared),
        ),
        _fault("dgamma-averaged", "dgamma is a mean, not a sum", gamma_bar=lambda y_to_gamma, sharing: y_to_gamma / sharing),
        _fault("dgamma-batch-mean", "dgamma is averaged over the batch", gamma_bar=lambda y_to_gamma, batch: y_to_gamma / batch),
        _fault(
            "dgamma-first-instance",
            "dgamma is not summed over the batch",
            y_to_gamma=lambda y_bar, x_hat, gamma, shared: _sum(_first_instance(y_bar * x_hat, gamma), shared),
        ),
        _fault("dbeta-averaged", "dbeta is a mean, not a sum", beta_bar=lambda y_to_beta, sharing: y_to_beta / sharing),
        _fault("dbeta-with-gamma", "dbeta is multiplied by gamma", y_to_beta=lambda y_bar, gamma, shared: _sum(y_bar * gamma, shared)),
        _fault(
            "dgamma-dbeta-swapped",
            "dgamma and dbeta are swapped",
            y_to_gamma=lambda y_bar, shared: _sum(y_bar, shared),
            y_to_beta=lambda y_bar, x_hat, shared: _sum(y_bar * x_hat, shared),
        ),
    )
}
