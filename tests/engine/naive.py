"""A second, naive engine that shares nothing with the first: dense Jacobians by the complex step, summed over all paths by recursion.

A program is a list of steps, each one NumPy function of values that were there before. On Tensors the functions record themselves; here
the same functions run on plain arrays. No rule is written down: every Jacobian of a step is Im f(x + ih) / h, one element at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

STEP = 1e-30


class Op(NamedTuple):
    """A function of arrays or Tensors, and the same for complex arrays where NumPy's is not analytic."""

    name: str
    function: Callable[..., Any]
    analytic: Callable[..., Any]


class Step(NamedTuple):
    """One call: which function, on which earlier values, with which parameters."""

    op: Op
    args: tuple[int, ...]
    params: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.op.name}{self.args}{self.params or ''}"


class Adjoint(NamedTuple):
    """A cotangent, the same with every term made positive (how large rounding errors may be), and whether there is any path."""

    value: np.ndarray
    size: np.ndarray
    reached: bool


def run(steps: Sequence[Step], inputs: Sequence[Any]) -> list[Any]:
    """All values of a program: the inputs and one for every step, of whatever kind the inputs are."""
    values = list(inputs)
    for step in steps:
        values.append(step.op.function(*(values[i] for i in step.args), **step.params))
    return values


def jacobian(step: Step, place: int, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """d step / d inputs[place] as a matrix, from flattened array to flattened array."""
    points = [np.asarray(x, np.complex128) for x in inputs]
    columns = []
    for element in range(points[place].size):
        moved = list(points)
        moved[place] = points[place].copy()
        moved[place].reshape(-1)[element] += 1j * STEP
        columns.append(np.imag(step.op.analytic(*moved, **step.params)).ravel() / STEP)
    return np.stack(columns, axis=1) if columns else np.zeros((np.size(step.op.analytic(*points, **step.params)), 0))


def adjoints(steps: Sequence[Step], values: Sequence[np.ndarray], seeds: Mapping[int, np.ndarray]) -> Callable[[int], Adjoint]:
    """The cotangent of any value: its seed and, from every step that uses it, the step's own cotangent times its Jacobian."""
    first = len(values) - len(steps)

    @cache
    def adjoint(i: int) -> Adjoint:
        value = np.zeros(np.size(values[i])) + (np.ravel(seeds[i]) if i in seeds else 0)
        size, reached = np.abs(value), i in seeds
        for output, step in enumerate(steps, start=first):
            for place, argument in enumerate(step.args):
                above = adjoint(output) if argument == i else None
                if above is None or not above.reached:
                    continue
                matrix = jacobian(step, place, [values[j] for j in step.args])
                value = value + above.value.ravel() @ matrix
                size = size + above.size.ravel() @ np.abs(matrix)
                reached = True
        shape = np.shape(values[i])
        return Adjoint(value.reshape(shape), size.reshape(shape), reached)

    return adjoint


# -- functions whose NumPy spelling is not analytic, written so that they are ------------------------------------------------------------


def absolute(z: Any) -> Any:
    """Away from 0."""
    return z * np.sign(np.real(z))


def constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of the real part alone: a function with steps, away from them."""
    return lambda z, **params: function(np.real(z), **params)


def variance(z: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """NumPy's takes absolute values on the way."""
    squares = (z - np.mean(z, axis=axis, keepdims=True)) ** 2
    total = np.sum(squares, axis=axis, keepdims=keepdims)
    return total / (np.size(z) / max(np.size(total), 1) - ddof)


def deviation(z: Any, **params: Any) -> Any:
    """The root of `variance`."""
    return np.sqrt(variance(z, **params))


def norm(z: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The Euclidean one."""
    return np.sqrt(np.sum(z * z, axis=axis, keepdims=keepdims))


def logsumexp(z: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """By its definition."""
    return np.log(np.sum(np.exp(z), axis=axis, keepdims=keepdims))


def erf(z: Any) -> Any:
    """By its power series, for small arguments."""
    return 2 / math.sqrt(math.pi) * sum((-1) ** n * z ** (2 * n + 1) / (math.factorial(n) * (2 * n + 1)) for n in range(30))
