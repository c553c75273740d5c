"""Functions that reduce axes. m is the number of elements that one result is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minitensor.primitive import primitive, without_gradient


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)


def _count(x: Any, axis: Any) -> int:
    return math.prod(x.shape[i] for i in _axes(x, axis))


def _unreduce(g: Any, x: Any, axis: Any) -> Any:
    """``g`` with the reduced axes of ``x`` put back as length 1, so that it broadcasts against ``x``."""
    reduced = _axes(x, axis)
    return g.reshape(tuple(1 if i in reduced else n for i, n in enumerate(x.shape)))


def _sum(g: Any, _y: Any, _x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _unreduce(g, _x, axis)


def _mean(g: Any, _y: Any, _x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _unreduce(g, _x, axis) / _count(_x, axis)


def _var(g: Any, _y: Any, x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    freedom = _count(x, axis) - ddof
    scale = 2 / freedom if freedom > 0 else math.nan  # NumPy's variance is nan or inf there
    return _unreduce(g, x, axis) * (x - np.mean(x, axis=axis, keepdims=True)) * scale


def _extremum(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    ties = x == _unreduce(y, x, axis)
    return _unreduce(g, x, axis) * ties / np.sum(ties, axis=_axes(x, axis), keepdims=True)


# The names are NumPy's, so this module hides Python's own sum, max and min.
sum = primitive(np.sum, _sum)
mean = primitive(np.mean, _mean)
var = primitive(np.var, _var)
max = primitive(np.max, _extremum)
min = primitive(np.min, _extremum)

without_gradient(np.argmax, np.argmin, np.any, np.all, np.count_nonzero)
