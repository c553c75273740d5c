"""A layer as the comparison sees it: a forward with a backward of its own, and the same forward as a plain formula."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from minitensor import Tensor, enable_grad, grad, no_grad
from minitensor.errors import ShapeError, describe

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
    ``y`` is its output for ``x``. Raises what the layer raises for a bad input, `TypeError` for a layer without a formula or with one
    that takes other arguments, `ShapeError` when forward and formula differ in shape.
    """

    m: int | None = None  # the number of elements of a slice, where there are slices
    eps: float | None = None
    holomorphic = False  # whether the formula is known to be one of complex numbers too

    def __init__(self, layer: Module, x: Tensor) -> None:
        if not callable(getattr(layer, "formula", None)):
            raise TypeError(
                f"compare_backward: {type(layer).__name__} has no formula: write a method formula(self, x, *parameters) that gives "
                "the forward in plain NumPy, for autograd and numerical derivatives to run on"
            )
        self.x, self.layer = x.detach(), layer._copied()
        with no_grad():
            self.y = self.layer(x)  # before the parameters are looked at: lazy ones get their shapes from x
        self.layer.train()
        self.own_parameters = _parameters_of(self.layer)
        self.symbols = {name: NAMES.get(name, name) if isinstance(layer, Norm) else name for name in self.own_parameters}
        self._check_formula(x)

    def _check_formula(self, x: Tensor) -> None:
        name, names = type(self.layer).__name__, ", ".join(["x", *self.own_parameters])
        try:
            inspect.signature(self.layer.formula).bind(x, *self.own_parameters)
        except TypeError as error:
            raise TypeError(f"compare_backward: {name}.formula must take ({names}), one argument per parameter: {error}") from error
        except ValueError:
            pass  # a function written in C has no signature
        with no_grad():
            y = self.formula({"x": x, **self.parameters})
        for method, value in (("forward", self.y), ("formula", y)):
            if not isinstance(value, Tensor):
                raise TypeError(f"compare_backward: {name}.{method} must give one Tensor for a Tensor, got {describe(value)}")
        if y.shape != self.y.shape:
            raise ShapeError(f"compare_backward: {name}.formula gives {describe(y)}, and its forward {describe(self.y)}")

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The layer's own parameters by their symbols, detached."""
        return {self.symbols[name]: value.detach() for name, value in self.own_parameters.items() if value is not None}

    def formula(self, values: dict[str, Any]) -> Any:
        """The forward on any kind of number, given as ``{"x": ..., symbol: ...}``."""
        return self.layer.formula(values["x"], *(values.get(self.symbols[name]) for name in self.own_parameters))

    def on_arrays(self, values: dict[str, Any]) -> Array:
        """The formula on plain arrays, real or complex, all of them cast to what they have in common."""
        kind = np.result_type(*(value.dtype for value in values.values()))
        y = self.formula({name: value.astype(kind) for name, value in values.items()})
        return y.detach().numpy() if isinstance(y, Tensor) else y  # a Tensor where a buffer of the layer is in the formula

    @cached_property
    def on_cpu(self) -> Subject:
        """The same where plain arrays are."""
        return self if self.x.device == "cpu" else subject_of(copy.deepcopy(self.layer).cpu(), self.x.cpu())

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
        replaced = {id(own): values[self.symbols[name]] for name, own in self.own_parameters.items() if own is not None}
        layer = copy.deepcopy(self.layer, replaced)  # what stands in the memo is not copied but taken from there, wherever it is held
        layer.__dict__.update(changed)
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
        super().__init__(layer, x)
        self.holomorphic = type(layer).formula is Norm.formula
        self.layer.eps = self.eps = layer.epsilon(x.dtype)  # RMSNorm's depends on the dtype, and numerical derivatives use float64
        for name in self.layer._buffers:
            self.layer._buffers[name] = None
        self.where: Layout = self.layer.layout(x.shape)
        self.m = self.where.m
        seen = self.where.look(x.detach().cpu().numpy().astype(np.float64))
        squares = np.sum(formulas.centre(seen, self.where.axes, layer.centred) ** 2, axis=self.where.axes)
        if np.all(np.isfinite(seen)) and not np.all(np.isfinite(squares)):
            raise ValueError(
                f"compare_backward: the squares of values up to {np.max(np.abs(seen)):.1e} overflow float64, which the layer would be "
                "blamed for; scale the input"
            )

    def _check_formula(self, x: Tensor) -> None:
        for name, parameter in self.own_parameters.items():
            if name in NAMES and parameter is not None and parameter.size != math.prod(self.layer.layout(x.shape).parameter):
                raise ShapeError(f"compare_backward: one style for all instances is compared, {name} has shape {parameter.shape}")
        super()._check_formula(x)

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
        """``|x_hat|`` <= sqrt(m), whatever the bound of its roundings says."""
        gamma = self.parameters.get("gamma")
        largest = 1.0 if gamma is None else float(np.max(np.abs(gamma.cpu().numpy())))
        return 2 * math.sqrt(self.where.m) * largest

    def faults(self, shape: tuple[int, ...]) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The layer with each of the mistakes that are known for it; none where a forward of somebody's own has its backward inside."""
        if not self._hands_backward_on():
            return {}
        known = known_faults(self.layer, shape)
        return {name: partial(self._with, backward=fault.of(self.layer)) for name, fault in known.items()}

    def _hands_backward_on(self) -> bool:
        """Whether the layer's forward differentiates as its attribute ``backward`` says."""
        called = []

        def backward(x: Any, gamma: Any, beta: Any, eps: float, dy: Any) -> Any:
            called.append(eps)
            return dy, gamma, beta

        x = self.x.detach()  # another Tensor of the same numbers
        x.requires_grad = True
        with enable_grad():
            y = self._with({"x": x, **self.parameters}, backward=backward)
        if y.requires_grad:
            grad(y, x, y.detach(), allow_unused=True)
        return bool(called)


def subject_of(layer: Module, x: Tensor) -> Subject:
    """The layer as the comparison sees it."""
    return NormSubject(layer, x) if isinstance(layer, Norm) else Subject(layer, x)


def _parameters_of(layer: Module) -> dict[str, Any]:
    """The parameters of a module and of all inside it by their dotted names, each once, None where one is registered as None."""
    found: dict[str, Any] = {}
    for prefix, module in layer.named_modules():
        for name, value in module._parameters.items():
            if value is None or not any(value is other for other in found.values()):
                found[f"{prefix}.{name}" if prefix else name] = value
    return found


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
