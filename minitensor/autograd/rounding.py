"""Rounded: an array that carries a bound of its rounding error, so that a tolerance is computed instead of guessed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minitensor.errors import UnsupportedError


class Rounded:
    """A value and a bound: ``abs(value - exact) <= bound``, elementwise, to first order in the unit roundoff u.

    Every operation of the computation under test is done once more on the same numbers in the same dtype, and beside it the
    bound is carried along (running error analysis: Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.3)::

        fl(a + b)    bound  e_a + e_b                 + u |result|
        fl(a * b)    bound  |a| e_b + |b| e_a + e_a e_b + u |result|
        fl(a / b)    bound  (e_a + |a/b| e_b) / (|b| - e_b) + u |result|
        fl(sqrt a)   bound  e_a / (sqrt a + sqrt(a - e_a)) + u |result|
        fl(sum a)    bound  sum e_a + k u sum |a|,  k additions on the longest path of NumPy's pairwise summation

    It implements NumPy's protocols, so formulas and whole graphs run on it as they are. Inputs are exact: their bound is 0.

    >>> x = Rounded(np.float32([1.0, 3.0]))
    >>> y = x / 3
    >>> bool(np.all(abs(y.value - np.array([1 / 3, 1.0])) <= y.bound)), y.bound.max() < 1e-7
    (True, np.True_)
    """

    def __init__(self, value: Any, bound: Any = 0.0) -> None:
        self.value = np.asarray(value)
        self.bound = np.broadcast_to(np.asarray(bound, np.float64), self.value.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    @property
    def dtype(self) -> Any:
        """The dtype of the value; the bound is float64."""
        return self.value.dtype

    def __repr__(self) -> str:
        return f"Rounded({self.value!r}, bound={self.bound!r})"

    def view(self) -> Rounded:
        """Itself: nothing here is written into."""
        return self

    def copy(self) -> Rounded:
        """Itself: nothing here is written into."""
        return self

    def astype(self, dtype: Any, copy: bool = True) -> Rounded:
        """The value cast, with one more rounding where the new dtype is narrower."""
        value = self.value.astype(dtype)
        return Rounded(value, self.bound if np.can_cast(self.dtype, dtype) else self.bound + _roundoff(value))

    def reshape(self, *shape: Any) -> Rounded:
        """Value and bound in another shape."""
        value = self.value.reshape(*shape)
        return Rounded(value, self.bound.reshape(value.shape))

    def __getitem__(self, index: Any) -> Rounded:
        return Rounded(self.value[index], self.bound[index])

    def sum(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        """The sum over ``axis``, with the additions of NumPy's pairwise summation counted."""
        magnitude = np.sum(np.abs(self.value), axis=axis, keepdims=keepdims, dtype=np.float64)
        bound = np.sum(self.bound, axis=axis, keepdims=keepdims) + _additions(self.value, axis) * _unit(self.dtype) * magnitude
        return Rounded(self.value.sum(axis=axis, keepdims=keepdims), bound)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        """The mean over ``axis``, as NumPy computes it: in float32 for float16."""
        wide = self.astype(np.float32) if self.dtype == np.float16 else self  # as NumPy does
        total = wide.sum(axis=axis, keepdims=keepdims)
        m = self.size // max(total.size, 1)
        if wide is not self:  # cast a buffer of 8192 at a time, whose sums are joined one by one
            magnitude = np.sum(np.abs(wide.value), axis=axis, keepdims=keepdims, dtype=np.float64)
            total = Rounded(total.value, total.bound + m // 8192 * _unit(np.float32) * magnitude)
        return Rounded(self.value.mean(axis=axis, keepdims=keepdims), (total / m).astype(self.dtype).bound)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **params: Any) -> Any:
        if method != "__call__" or params:
            raise UnsupportedError(f"Rounded: no error bound is known for np.{ufunc.__name__}.{method} with {params}")
        if ufunc is np.equal:  # of the values: what is chosen by it has a bound, the choice has none
            return ufunc(*(x.value if isinstance(x, Rounded) else x for x in inputs))
        return _propagated(ufunc, *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Rounded:
        if function not in _FUNCTIONS:
            raise UnsupportedError(f"Rounded: no error bound is known for np.{function.__name__}")
        return _FUNCTIONS[function](*args, **params)

    def __add__(self, other: Any) -> Rounded:
        return _propagated(np.add, self, other)

    def __radd__(self, other: Any) -> Rounded:
        return _propagated(np.add, other, self)

    def __sub__(self, other: Any) -> Rounded:
        return _propagated(np.subtract, self, other)

    def __rsub__(self, other: Any) -> Rounded:
        return _propagated(np.subtract, other, self)

    def __mul__(self, other: Any) -> Rounded:
        return _propagated(np.multiply, self, other)

    def __rmul__(self, other: Any) -> Rounded:
        return _propagated(np.multiply, other, self)

    def __truediv__(self, other: Any) -> Rounded:
        return _propagated(np.divide, self, other)

    def __rtruediv__(self, other: Any) -> Rounded:
        return _propagated(np.divide, other, self)

    def __neg__(self) -> Rounded:
        return _propagated(np.negative, self)


def _propagated(ufunc: Any, *inputs: Any) -> Rounded:
    if ufunc not in _PROPAGATED:
        raise UnsupportedError(f"Rounded: no error bound is known for np.{ufunc.__name__}")
    value = ufunc(*(x.value if isinstance(x, Rounded) else x for x in inputs))
    operands = [_operand(x, value.dtype) for x in inputs]
    return Rounded(value, _PROPAGATED[ufunc](value, *operands) + _roundoff(value))


def _operand(x: Any, dtype: Any) -> Rounded:
    """A Python number is rounded to the dtype of the operation before anything else happens to it."""
    if type(x) in (bool, int, float):
        return Rounded(np.asarray(x, dtype), abs(float(dtype.type(x)) - x))
    return x if isinstance(x, Rounded) else Rounded(x)


def _unit(dtype: Any) -> float:
    """The unit roundoff: half the gap between 1 and the next number."""
    return float(np.finfo(dtype).eps) / 2


def _roundoff(value: Any) -> Any:
    """What one rounding to nearest can change, gradual underflow included; numbers beyond the largest are not bounded."""
    smallest = float(np.finfo(value.dtype).smallest_subnormal)
    underflow = smallest / 2 or smallest  # half of float64's own is no number any more
    return np.where(np.isfinite(value), np.maximum(np.abs(value, dtype=np.float64) * _unit(value.dtype), underflow), np.inf)


def _additions(a: Any, axis: Any) -> int:
    """The longest path through NumPy's sum: pairwise over the reduced axes that lie innermost in memory, one by one over the rest."""
    axes = normalize_axis_tuple(range(a.ndim) if axis is None else axis, a.ndim)
    count: int = math.prod(a.shape[i] for i in axes)
    inner: int = 1  # how many numbers lie one after the other
    step = None  # and where the next one would lie
    for stride, i in sorted((abs(stride), i) for i, stride in enumerate(a.strides) if a.shape[i] > 1):
        if stride == 0:
            return count - 1  # a broadcast array: whatever the order, no path is longer than this
        if i not in axes or stride != (step or stride):
            break
        inner, step = inner * a.shape[i], stride * a.shape[i]
    return _pairwise(inner) + count // inner - 1


@cache
def _pairwise(n: int) -> int:
    """Up to 128 numbers are summed by 8 accumulators, which are joined in 3 levels, and then the rest of n / 8; more are halved first."""
    if n <= 128:
        return n - 1 if n < 8 else n // 8 + 2 + n % 8
    half = n // 2 - n // 2 % 8
    return 1 + max(_pairwise(half), _pairwise(n - half))


def _divide(value: Any, a: Rounded, b: Rounded) -> Any:
    room = np.abs(b.value, dtype=np.float64) - b.bound
    return np.where(room > 0, (a.bound + np.abs(value) * b.bound) / np.where(room > 0, room, 1), np.inf)


def _sqrt(value: Any, a: Rounded) -> Any:
    below = np.sqrt(np.maximum(a.value.astype(np.float64) - a.bound, 0))
    path = value + below
    return np.where(path > 0, a.bound / np.where(path > 0, path, 1), np.sqrt(a.bound))


def _where(condition: Any, a: Any, b: Any) -> Rounded:
    dtype = np.result_type(*(x.dtype if isinstance(x, Rounded) else x for x in (a, b)))
    one, other = _operand(a, dtype), _operand(b, dtype)
    return Rounded(np.where(condition, one.value, other.value), np.where(condition, one.bound, other.bound))


_PROPAGATED: dict[Any, Callable[..., Any]] = {
    np.add: lambda _value, a, b: a.bound + b.bound,
    np.subtract: lambda _value, a, b: a.bound + b.bound,
    np.multiply: lambda _value, a, b: np.abs(a.value) * b.bound + np.abs(b.value) * a.bound + a.bound * b.bound,
    np.divide: _divide,
    np.negative: lambda _value, a: a.bound,
    np.sqrt: _sqrt,
}

_FUNCTIONS: dict[Any, Callable[..., Rounded]] = {
    np.sum: lambda a, axis=None, keepdims=False: a.sum(axis, keepdims),
    np.mean: lambda a, axis=None, keepdims=False: a.mean(axis, keepdims),
    np.broadcast_to: lambda a, shape: Rounded(np.broadcast_to(a.value, shape), np.broadcast_to(a.bound, shape)),
    np.where: _where,
    np.ones_like: lambda a: Rounded(np.ones_like(a.value)),
}
