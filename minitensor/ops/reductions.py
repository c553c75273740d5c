"""Functions that reduce axes. m is the number of elements that one result is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minitensor.arrays import as_array
from minitensor.primitive import primitive, serve, without_gradient


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)


def _count(x: Any, axis: Any) -> int:
    return math.prod(x.shape[i] for i in _axes(x, axis))


def unreduce(g: Any, x: Any, axis: Any) -> Any:
    """``g`` with the reduced axes of ``x`` put back as length 1, so that it broadcasts against ``x``."""
    reduced = _axes(x, axis)
    return g.reshape(tuple(1 if i in reduced else n for i, n in enumerate(x.shape)))


def over(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0."""
    return a / np.where(b == 0, np.inf, b)


def _sum(g: Any, _y: Any, _x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return unreduce(g, _x, axis)


def _mean(g: Any, _y: Any, _x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return unreduce(g, _x, axis) / _count(_x, axis)


def _freed(x: Any, axis: Any, ddof: float) -> float:
    """1 / (m - ddof), nan where NumPy's variance is nan or inf."""
    freedom = _count(x, axis) - ddof
    return 1 / freedom if freedom > 0 else math.nan


def _var(g: Any, _y: Any, x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return unreduce(g, x, axis) * (x - np.mean(x, axis=axis, keepdims=True)) * (2 * _freed(x, axis, ddof))


def _std(g: Any, y: Any, x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return unreduce(g, x, axis) * over(x - np.mean(x, axis=axis, keepdims=True), unreduce(y, x, axis)) * _freed(x, axis, ddof)


def _extremum(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    ties = (x == unreduce(y, x, axis)) | np.isnan(x)  # a nan is its slice's maximum and equal to nothing
    return unreduce(g, x, axis) * ties / np.sum(ties, axis=_axes(x, axis), keepdims=True)


def _others(x: Any) -> Any:
    """Along the last axis, the product of all elements but the own, by a tree of pairs: without division, zeros do no harm."""
    half = x.shape[-1] // 2
    if half == 0:
        return np.ones_like(x)
    left, right, odd = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    rest = _others(np.concatenate([left * right, odd], axis=-1))
    return np.concatenate([rest[..., :half] * right, rest[..., :half] * left, rest[..., half:]], axis=-1)


def _prod(g: Any, _y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    reduced = _axes(x, axis)
    last = tuple(range(x.ndim - len(reduced), x.ndim))
    turned = np.moveaxis(x, reduced, last)
    others = _others(turned.reshape((*turned.shape[: x.ndim - len(reduced)], _count(x, axis))))
    return unreduce(g, x, axis) * np.moveaxis(others.reshape(turned.shape), last, reduced)


def _cumsum(g: Any, _y: Any, _x: Any, axis: Any = None) -> Any:
    axis = 0 if axis is None else axis
    return np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis).reshape(_x.shape)


def _logsumexp(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(a))) over ``axis`` (None, an int or a tuple), without overflow.

    The result has the shape of `numpy.sum`'s and the dtype of ``a``; integers become float64. A slice of nothing but -inf gives -inf
    and the gradient 0.
    `ShapeError` for an axis that is not there.

    >>> import minitensor as mt
    >>> x = mt.tensor([1000.0, 1000.0, 0.0], requires_grad=True)
    >>> y = mt.logsumexp(x); print(f"{y:.2f}")     # 1000 + log(2)
    1000.69
    >>> y.backward(); x.grad                       # softmax(x)
    tensor([0.5, 0.5, 0. ])
    """
    a = as_array(a)
    top = np.max(a, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):
        y = np.log(np.sum(np.exp(a - top), axis=axis, keepdims=True)) + top
    return y if keepdims else y.reshape(tuple(n for i, n in enumerate(y.shape) if i not in _axes(a, axis)))


def _softmax(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    y = unreduce(y, x, axis)
    e = np.exp(x - np.where(y == -np.inf, 0, y))
    return unreduce(g, x, axis) * over(e, np.sum(e, axis=_axes(x, axis), keepdims=True))  # the sum is 1 up to the rounding of y


# The names are NumPy's, so this module hides Python's own sum, max, min, any and all.
sum = primitive(np.sum, _sum, latex=r"\bar x_i = \bar y")
mean = primitive(np.mean, _mean, latex=r"\bar x_i = \frac{1}{m} \bar y")
var = primitive(np.var, _var, latex=r"\bar x_i = \frac{2}{m - \mathrm{ddof}} \bar y \, (x_i - \operatorname{mean} x)")
std = primitive(np.std, _std, latex=r"\bar x_i = \frac{1}{m - \mathrm{ddof}} \bar y \, \frac{x_i - \operatorname{mean} x}{y}")
max = primitive(np.max, _extremum, latex=r"\bar x_i = \bar y \, \frac{[x_i = y]}{\sum_j [x_j = y]}")
min = primitive(np.min, _extremum, latex=r"\bar x_i = \bar y \, \frac{[x_i = y]}{\sum_j [x_j = y]}")
prod = primitive(np.prod, _prod, latex=r"\bar x_i = \bar y \prod_{j \ne i} x_j")
cumsum = primitive(np.cumsum, _cumsum, latex=r"\bar x_i = \sum_{j \ge i} \bar y_j")
logsumexp = primitive(_logsumexp, _softmax, latex=r"\bar x_i = \bar y \, e^{x_i - y}")
serve(np.amax, max)
serve(np.amin, min)

argmax, argmin, any, all, count_nonzero = without_gradient(np.argmax, np.argmin, np.any, np.all, np.count_nonzero)
