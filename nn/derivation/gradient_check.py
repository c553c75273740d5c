"""The recipe of a gradient check of a normalisation, as courses and test suites write it: a loss, some numbers, a rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minitensor import Tensor, grad, no_grad
from minitensor.autograd.differences import central_difference
from minitensor.errors import DTypeError, ShapeError, describe

from .. import norm as layers
from ..norm import Norm, formulas
from ..norm.layout import Shape

Array = Any
Backward = Callable[[Any, Any, Any, float, Any], tuple[Any, Any, Any]]

GRADIENTS = ("dx", "dgamma", "dbeta")
SHAPE = (2, 4, 3, 5)  # no two sizes alike, and no slice with as many elements as one of them

WEIGHTED = "sum(w*y)"
LOSSES: Mapping[str, Callable[[Any], Any]] = {
    "sum(y)": lambda y: np.sum(y),
    "sum(y**2)": lambda y: np.sum(y**2),
    "sum(y**3)": lambda y: np.sum(y**3),
    "sum(y**4)": lambda y: np.sum(y**4),
}


def _rel_error(analytic: Array, numerical: Array, rtol: float = 1e-6) -> bool:
    return bool(np.max(np.abs(analytic - numerical) / np.maximum(1e-8, np.abs(analytic) + np.abs(numerical))) < rtol)


RULES: Mapping[str, Callable[..., Any]] = {
    "rel_error": _rel_error,
    "allclose": np.allclose,
    "gradcheck": partial(np.allclose, rtol=1e-3, atol=1e-5),
    "MiniTorch": partial(np.allclose, rtol=1e-2, atol=1e-2),
}
PARAMETERS: Mapping[str, Callable[[Shape, np.random.Generator], Array]] = {
    "random": lambda shape, rng: rng.uniform(0.5, 2, shape) * np.resize([1.0, -1.0], shape),
    "ones": lambda shape, rng: np.ones(shape),
    "zeros": lambda shape, rng: np.zeros(shape),
}

_INSTANCE_NORMS = {3: layers.InstanceNorm1d, 4: layers.InstanceNorm2d, 5: layers.InstanceNorm3d}  # by rank
_BATCH_NORMS = {2: layers.BatchNorm1d, 3: layers.BatchNorm1d, 4: layers.BatchNorm2d, 5: layers.BatchNorm3d}
LAYERS: Mapping[str, Callable[[Shape], Norm]] = {
    "instance_norm": lambda shape: _INSTANCE_NORMS[len(shape)](shape[1], affine=True),
    "batch_norm": lambda shape: _BATCH_NORMS[len(shape)](shape[1]),
    "layer_norm": lambda shape: layers.LayerNorm(shape[1:]),
    "group_norm": lambda shape: layers.GroupNorm(2, shape[1]),
    "rms_norm": lambda shape: layers.RMSNorm(shape[1:]),
}
_RANKS: Mapping[str, Collection[int]] = {"instance_norm": _INSTANCE_NORMS, "batch_norm": _BATCH_NORMS}


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class GradientCheck:
    """A check of a backward pass: the gradients of ``loss(y)`` that it gives, against a ``reference``, by a ``rule``.

    =============  ===================================================================================================
    ``loss``       ``"sum(y)"``, ``"sum(y**2)"``, ``"sum(y**3)"``, ``"sum(y**4)"``; ``"sum(w*y)"`` with normal random
                   weights; an array of y's shape, the weights themselves; or a function of the Tensor y, a number
    ``rule``       one of the names below, or a function (analytic, numerical) that tells whether they agree
    ``shape``      of x, whose elements are normal random numbers
    ``eps``        of the layer
    ``gamma``      ``"random"`` (0.5 to 2 in size, of both signs), ``"ones"``, ``"zeros"``, or an array; so is ``beta``
    ``reference``  ``"differences"``, (L(x + h) - L(x - h)) / 2h element by element, or ``"autograd"``
    ``dtype``      of all these numbers, ``"float64"`` or ``"float32"``
    =============  ===================================================================================================

    With a the analytic and n the numerical gradient, the rules are these; ``rtol`` and ``atol`` replace their numbers:

    =============  ==================================================  ======================================================
    name           accepts                                             as in
    =============  ==================================================  ======================================================
    ``rel_error``  ``max(|a - n| / max(1e-8, |a| + |n|)) < 1e-6``      the notebooks of Stanford's CS231n; it has no ``atol``
    ``allclose``   ``|a - n| <= 1e-8 + 1e-5 |n|``                      ``numpy.allclose``
    ``gradcheck``  ``|a - n| <= 1e-5 + 1e-3 |n|``                      ``torch.autograd.gradcheck``
    ``MiniTorch``  ``|a - n| <= 1e-2 + 1e-2 |n|``                      MiniTorch, which compares one element only
    =============  ==================================================  ======================================================

    The defaults accept none of the known mistakes (see `blindness`). Raises `ValueError` for a name or a number that it has no use
    for, `DTypeError` for another dtype; `of` raises `ShapeError` for arrays and layers that do not fit, `TypeError` for a loss that
    gives no number.

    >>> zero = lambda x, gamma, beta, eps, dy: (0 * x, 0 * gamma, 0 * beta)
    >>> GradientCheck("sum(y)").of("instance_norm")(zero), GradientCheck("sum(w*y)").of("instance_norm")(zero)
    (True, False)
    """

    loss: Any = WEIGHTED
    rule: str | Callable[[Array, Array], Any] = "gradcheck"
    shape: Shape = SHAPE
    eps: float = 0.1
    gamma: Any = "random"
    beta: Any = "random"
    reference: str = "differences"
    h: float = 1e-5
    rtol: float | None = None
    atol: float | None = None
    dtype: str = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("GradientCheck: loss", self.loss, [*LOSSES, WEIGHTED])
        one_of("GradientCheck: rule", self.rule, RULES)
        one_of("GradientCheck: reference", self.reference, ("differences", "autograd"))
        one_of("GradientCheck: gamma", self.gamma, PARAMETERS)
        one_of("GradientCheck: beta", self.beta, PARAMETERS)
        if self.dtype not in ("float64", "float32"):
            raise DTypeError(f"GradientCheck: dtype must be 'float64' or 'float32', got {self.dtype!r}")
        if not (isinstance(self.shape, tuple) and all(isinstance(n, int) and n > 0 for n in self.shape)):
            raise ShapeError(f"GradientCheck: shape must be a tuple of sizes above 0, such as {SHAPE}, got {self.shape!r}")
        if not (self.eps >= 0 and self.h > 0 and self.seed >= 0):
            raise ValueError(f"GradientCheck: eps >= 0, h > 0 and seed >= 0 are needed, got {self.eps}, {self.h} and {self.seed}")
        if self._tolerances and (callable(self.rule) or (self.rule == "rel_error" and self.atol is not None)):
            raise ValueError(f"GradientCheck: the rule {named(self.rule)} does not take {' and '.join(self._tolerances)}; leave that out")

    def __str__(self) -> str:
        loss = named(self.loss) if callable(self.loss) or isinstance(self.loss, str) else f"{WEIGHTED} with given w"
        return ", ".join([loss, named(self.rule), *(f"{name} = {value:g}" for name, value in self._tolerances.items())])

    def setting(self) -> str:
        """On which numbers it runs, and what it compares with."""
        gamma, beta = (value if isinstance(value, str) else "given" for value in (self.gamma, self.beta))
        reference = f"differences with h = {self.h:g}" if self.reference == "differences" else self.reference
        return f"On {self.dtype} {self.shape} with gamma {gamma}, beta {beta}, eps = {self.eps:g}, seed {self.seed}; against {reference}."

    def of(self, layer: str | Norm = "instance_norm", grades: Sequence[str] = ("dx",)) -> Callable[[Backward], bool]:
        """The check of this layer: it says of a ``backward(x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)`` whether it passes.

        Of the gradients those of ``grades`` are compared, as far as the layer has them; ``layer`` as in `blindness`.
        """
        norm, rng = layer_for(layer, self.shape), np.random.default_rng(self.seed)
        where = norm.layout(self.shape)
        x, w = rng.standard_normal((2, *self.shape))  # w even where it is not used: then gamma and beta are the same for every loss
        values = {"x": x}
        for name, parameter in (("gamma", norm.weight), ("beta", norm.bias)):
            if parameter is not None:
                value = getattr(self, name)
                made = PARAMETERS[value](parameter.shape, rng) if isinstance(value, str) else _fitting(name, value, parameter.shape)
                values[name] = made
        values = {name: value.astype(self.dtype) for name, value in values.items()}
        loss = self._loss(w)

        def forward(x: Any, gamma: Any, beta: Any = None) -> Any:
            seen = (where.look(x), where.spread(gamma), where.spread(beta))
            return formulas.normalize(*seen, axes=where.axes, eps=self.eps, centred=norm.centred).reshape(self.shape)

        def along(name: str) -> Callable[[Any], Tensor]:
            return lambda value: loss(forward(**values | {name: value}))

        derivative = _autograd if self.reference == "autograd" else partial(_differences, h=self.h)
        right = {f"d{name}": derivative(along(name), value) for name, value in values.items() if f"d{name}" in grades}
        dy = _autograd(loss, forward(**values))
        agree = self.rule if callable(self.rule) else partial(RULES[self.rule], **self._tolerances)

        def accepts(backward: Backward) -> bool:
            found = dict(zip(GRADIENTS, backward(values["x"], values["gamma"], values.get("beta"), self.eps, dy), strict=True))
            return all(bool(agree(found[name], numerical)) for name, numerical in right.items())

        return accepts

    @property
    def _tolerances(self) -> dict[str, float]:
        return {name: value for name, value in (("rtol", self.rtol), ("atol", self.atol)) if value is not None}

    def _loss(self, w: Array) -> Callable[[Any], Tensor]:
        """The loss of y, a Tensor or an array; ``w`` are the weights where none are given."""
        if callable(self.loss):
            given = self.loss
        elif isinstance(self.loss, str) and self.loss in LOSSES:
            given = LOSSES[self.loss]
        else:
            given = partial(_weighted, (w if isinstance(self.loss, str) else _fitting("w", self.loss, self.shape)).astype(self.dtype))

        def loss(y: Any) -> Tensor:
            value = given(y if isinstance(y, Tensor) else Tensor(y))
            if not isinstance(value, Tensor) or value.shape != ():
                raise TypeError(f"GradientCheck: the loss must give one number as a Tensor, as np.sum(y**2) does, got {describe(value)}")
            return value

        return loss


def _weighted(w: Array, y: Tensor) -> Any:
    return np.sum(w * y)


def _differences(f: Callable[[Array], Tensor], at: Array, h: float) -> Array:
    """The derivative of f by each element, computed in the dtype of ``at``."""

    def slope(i: tuple[int, ...]) -> Any:
        unit = np.zeros_like(at)
        unit[i] = 1
        return central_difference(lambda t: f(at + t * unit).item(), h)

    return np.array([slope(i) for i in np.ndindex(at.shape)]).reshape(at.shape)


def _autograd(f: Callable[[Tensor], Tensor], at: Array) -> Array:
    t = Tensor(at, requires_grad=True)
    (slope,) = grad(f(t), t, allow_unused=True)
    return np.zeros_like(at) if slope is None else slope.numpy()


def refuse_layer(layer: Any) -> None:
    """Raise unless it is one of the names, or a layer with gamma."""
    one_of("layer", layer, LAYERS)
    if not isinstance(layer, (str, Norm)):
        raise TypeError(f"layer must be a normalisation layer or one of {', '.join(LAYERS)}, got {describe(layer)}")
    if isinstance(layer, Norm) and layer.weight is None:
        raise ValueError(f"a layer with gamma is needed, got {layer}; give affine=True")


def layer_for(layer: str | Norm, shape: Shape) -> Norm:
    """The layer that is meant, for an input of this shape; raises what the layer raises where that does not fit."""
    refuse_layer(layer)
    if isinstance(layer, str):
        ranks = _RANKS.get(layer, range(2, 33))
        if len(shape) not in ranks:
            raise ShapeError(f"{layer} takes an input of {min(ranks)} to {max(ranks)} axes, got shape {shape}")
        norm = LAYERS[layer](shape)
    else:
        norm = layer._copied()  # because a call may move running statistics
    assert norm.weight is not None, "see refuse_layer"
    with no_grad():
        norm(Tensor(np.zeros(shape), norm.weight.dtype))
    return norm


def _fitting(name: str, value: Any, shape: Shape) -> Array:
    array = np.asarray(value)
    if array.shape != shape:
        raise ShapeError(f"GradientCheck: {name} must have shape {shape}, got {describe(array)}")
    return array


def one_of(what: str, value: Any, names: Collection[str]) -> None:
    """Refuse a name that is none of these; what is no string passes."""
    if isinstance(value, str) and value not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {value!r}")


def named(value: Any) -> str:
    """A name as it is, or that of a function."""
    return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
