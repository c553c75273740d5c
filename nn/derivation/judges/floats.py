"""The judges who run the forward on floats: autograd, central differences, the complex step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minitensor import Tensor, grad
from minitensor.autograd import complex_step, richardson
from minitensor.autograd.differences import EPS, remembered
from minitensor.errors import describe

from .drawn import Drawn
from .judge import Line, Truth
from .verdict import NotJudged, Wrong

TOLERANCE = 1e-9  # of the largest value of an edge: far above the rounding errors of a few operations in float64
UNSURE = 1e-3  # of the same: a truth that may be this wrong is none


class Floats(Drawn):
    """A judge of float64 arrays: normal random numbers, positive leaves between 1/2 and 2."""

    def numbers(self, name: str, shape: tuple[int, ...], rng: np.random.Generator, positive: bool = False) -> Any:
        return np.asarray(rng.uniform(0.5, 2, shape) if positive else rng.standard_normal(shape))[()]

    def taken(self, made: Any) -> Any:
        array = np.asarray(made)
        if array.dtype.kind not in "fiub":
            raise Wrong(f"it gives {describe(array)}, not real numbers")
        if not np.isfinite(array).all():
            raise Wrong("it gives nan or inf")
        return array[()]

    def agree(self, line: Line, made: Any, truth: Truth, given: Any) -> float:
        made, value, error = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (made, truth.value, truth.error)))
        scale = max(_largest(value), _largest(given))
        if not (np.isfinite(value).all() and _largest(error) <= UNSURE * scale):
            raise NotJudged(f"its own answer may be off by {_largest(error):.1e}, where {scale:.1e} is the largest value")
        difference = np.abs(made - value)
        most = _largest(difference)
        relative = most / scale if scale else most
        if np.any(difference > error + TOLERANCE * scale):
            at = tuple(map(int, np.unravel_index(np.argmax(difference), difference.shape)))
            raise Wrong(f"it gives {made[at]:.6g}, and {value[at]:.6g} is right{f', at {at}' if at else ''}", relative)
        return relative

    @staticmethod
    def moved(at: Any) -> list[Callable[[Any], Any]]:
        """Of every element of ``at``, a function that moves it by t."""

        def move(unit: Any) -> Callable[[Any], Any]:
            return lambda t: at + t * unit

        return list(map(move, np.eye(np.size(at)).reshape(-1, *np.shape(at))))


class Autograd(Floats):
    """Reverse mode of our own engine, from a leaf that the step alone uses."""

    name = "autograd"

    def differentiate(self, function: Callable[[Any], Any], at: Any, weights: Any) -> Truth:
        leaf = Tensor(np.array(at, np.float64), requires_grad=True)
        value = function(leaf)
        if not isinstance(value, Tensor) or not value.requires_grad:
            raise NotJudged("the forward leaves the world of Tensors (float(), np.asarray, ...)")
        (gradient,) = grad(value, [leaf], Tensor(np.array(weights, np.float64)))
        assert gradient is not None  # a leaf that the output does not depend on is an error
        return Truth(gradient.numpy())


class Differences(Floats):
    """Central differences, extrapolated to a step of 0, with their own error bar."""

    name = "differences"

    def differentiate(self, function: Callable[[Any], Any], at: Any, weights: Any) -> Truth:
        moved, noise = self.moved(at), EPS * float(np.sum(np.abs(weights * function(at))))
        value, error = richardson(remembered(lambda t: np.array([np.sum(weights * function(move(t))) for move in moved])), noise=noise)
        return Truth(np.reshape(value, np.shape(at)), np.reshape(error, np.shape(at)))


class ComplexStep(Floats):
    """Im f(x + ih) / h with a tiny h: no subtraction, and no error but rounding, for a function that is analytic."""

    name = "complex step"

    def differentiate(self, function: Callable[[Any], Any], at: Any, weights: Any) -> Truth:
        def weighted(move: Callable[[Any], Any]) -> Callable[[complex], Any]:
            return lambda z: np.sum(weights * function(move(z)))

        with warnings.catch_warnings(action="error", category=np.exceptions.ComplexWarning):
            if not _analytic(function, at):
                raise NotJudged("the forward is no analytic function: something drops the imaginary part (np.abs, np.var, .real, a cast)")
            return Truth(np.reshape([complex_step(moved) for moved in map(weighted, self.moved(at))], np.shape(at)))


def _analytic(function: Callable[[Any], Any], at: Any, h: float = 1e-4) -> bool:
    """Whether the slope along i w is i times that along w, at a point off the real axis: the equations of Cauchy and Riemann."""
    rng = np.random.default_rng(0)
    w, offset = rng.standard_normal((2, *np.shape(at)))
    z = at + 0.1j * offset

    def slope(direction: Any) -> Any:
        return (function(z + h * direction) - function(z - h * direction)) / (2 * h)

    along, across = slope(w), slope(1j * w)
    return bool(_largest(across - 1j * along) <= 1e-5 * max(_largest(along), _largest(across)))


def _largest(value: Any) -> float:
    return float(np.max(np.abs(value), initial=0.0))
