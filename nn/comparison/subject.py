"""A layer as the comparison sees it: a forward with a backward of its own, and the same forward as a plain formula."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minitensor import Tensor

from ..derivation.faults import known_faults
from ..module import Module
from ..norm import Norm, formulas
from ..norm.layout import Layout

Array = Any
Lift = Callable[[Tensor], Tensor]  # of a Tensor to the same one on other numbers
NAMES = {"weight": "gamma", "bias": "beta"}  # what the mathematics of normalisation calls them


class Subject:
    """A layer with a method ``formula(x, *parameters)``: its forward in plain NumPy, the parameters in the order of their registration.

    The layer's own backward is whatever its ``forward`` records: a `minitensor.autograd.Function`, a primitive, or plain operations.
    """

    m: int | None = None  # the number of elements of a slice, where there are slices
    eps: float | None = None

    def __init__(self, layer: Module) -> None:
        if not callable(getattr(layer, "formula", None)):
            raise TypeError(
                f"compare_backward: {type(layer).__name__} has no formula: write a method formula(self, x, *parameters) that gives "
                "the forward in plain NumPy, for autograd and numerical derivatives to run on"
            )
        self.layer = copy.deepcopy(layer).train()
        self.own_parameters = self.layer._parameters
        self.symbols = {name: name for name in self.own_parameters}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The layer's own parameters by their symbols, detached."""
        return {self.symbols[name]: value.detach() for name, value in self.own_parameters.items() if value is not None}

    def formula(self, values: dict[str, Any]) -> Any:
        """The forward on any kind of number, given as ``{"x": ..., symbol: ...}``."""
        return self.layer.formula(values["x"], *(values.get(self.symbols[name]) for name in self.own_parameters))

    def composed(self, values: dict[str, Any]) -> Any:
        """The forward that autograd differentiates by the rules of NumPy's functions."""
        return self.formula(values)

    def closed_form(self, values: dict[str, Any]) -> Any:
        """The forward whose backward is the right closed form, as far as one is known: the layer's own."""
        return self.own(values)

    def own(self, values: dict[str, Any]) -> Any:
        """The forward with the layer's own backward; the parameters are `Parameter` objects."""
        return self._with(values)

    def _with(self, values: dict[str, Any], **changed: Any) -> Any:
        """The forward of the layer with these parameters, and attributes changed."""
        layer = copy.copy(self.layer)
        parameters = {name: values.get(self.symbols[name]) for name in self.own_parameters}
        layer.__dict__.update(_parameters=parameters, **changed)
        return layer(values["x"])

    def cotangent(self, x: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """A random cotangent for an output of this shape."""
        return rng.standard_normal(shape) + rng.uniform(0.7, 2)

    def spread(self, x: Array) -> Array | float:
        """By how much numerical derivatives may move x."""
        return float(np.std(x)) or 1.0

    def reach(self, y: Array) -> float:
        """A bound of the rounding error of y, whatever the numbers that carry theirs say."""
        return math.inf

    def faults(self, shape: tuple[int, ...]) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The known mistakes: forwards with a wrong backward."""
        return {}


class NormSubject(Subject):
    """A normalisation layer, its statistics always the input's."""

    layer: Norm

    def __init__(self, layer: Norm, x: Tensor) -> None:
        super().__init__(layer)
        self.layer.eps = self.eps = layer.epsilon(x.dtype)  # RMSNorm's depends on the dtype, and numerical derivatives use float64
        for name in self.layer._buffers:
            self.layer._buffers[name] = None
        self.symbols = NAMES
        self.where: Layout = self.layer.layout(x.shape)
        self.m = self.where.m

    def closed_form(self, values: dict[str, Any]) -> Any:
        """The forward with the closed form, also where somebody's own backward stands in the layer."""
        return self._with(values, backward="analytic")

    def cotangent(self, x: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """See `random_cotangent`."""
        return random_cotangent(x, self.where, rng, self.layer.centred)

    def spread(self, x: Array) -> Array:
        """A share of each slice's spread."""
        assert self.eps is not None
        seen = self.where.look(x)
        r = formulas.rstd(seen, self.where.axes, self.eps, self.layer.centred)
        return np.broadcast_to(1 / np.where(r == 0, 1, r), seen.shape).reshape(x.shape)

    def reach(self, y: Array) -> float:
        """|x_hat| <= sqrt(m), whatever the bound of its roundings says."""
        gamma = self.parameters.get("gamma")
        largest = 1.0 if gamma is None else float(np.max(np.abs(gamma.cpu().numpy())))
        return 2 * math.sqrt(self.where.m) * largest

    def faults(self, shape: tuple[int, ...]) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The layer with each of the mistakes that are known for it."""
        known = known_faults(self.layer, shape)
        return {name: partial(self._with, backward=fault.of(self.layer)) for name, fault in known.items()}


def subject_of(layer: Module, x: Tensor) -> Subject:
    """The layer as the comparison sees it."""
    return NormSubject(layer, x) if isinstance(layer, Norm) else Subject(layer)


def random_cotangent(x: Array, where: Layout, rng: np.random.Generator, centred: bool = True) -> Array:
    """g = noise + a + b x_hat, a and b between 0.7 and 2 in size in every slice; float64 numbers for an input like x.

    The paths through the statistics carry mean(g) and mean(g x_hat). Plain noise leaves both near 0 on large slices, and a mistake in
    those paths would hardly show. Where a sum over all of x would leave its dtype's range (float16), g is scaled by a power of two.
    """
    seen = where.look(x.astype(np.float64))
    statistics = tuple(1 if i in where.axes else n for i, n in enumerate(seen.shape))
    a, b = rng.uniform(0.7, 2, (2, *statistics)) * rng.choice([-1, 1], (2, *statistics))
    scale = min(1.0, 2.0 ** math.floor(math.log2(float(np.finfo(x.dtype).max) / (8 * x.size))))
    x_hat = formulas.standardize(seen, where.axes, float(np.finfo(x.dtype).tiny), centred)
    return (scale * (rng.standard_normal(seen.shape) + a + b * x_hat)).reshape(x.shape)
