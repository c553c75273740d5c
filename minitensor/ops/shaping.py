"""Functions that move elements about: their derivatives move the cotangent back."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from minitensor.primitive import ListPrimitive, primitive, serve, without_gradient


def _reshape(a: Any, shape: Any) -> Any:
    return a.reshape(shape)


def _transpose(g: Any, _y: Any, _x: Any, axes: Any = None) -> Any:
    return g.transpose() if axes is None else g.transpose(tuple(int(i) for i in np.argsort([a % _x.ndim for a in axes])))


def _concatenate(g: Any, _y: Any, _xs: Any, axis: Any = 0) -> Any:
    if axis is None:  # NumPy's spelling of "ravel first"
        edges = list(accumulate((x.size for x in _xs), initial=0))
        return [g[i:j].reshape(x.shape) for x, (i, j) in zip(_xs, pairwise(edges), strict=True)]
    before = (slice(None),) * (axis % g.ndim)
    edges = list(accumulate((x.shape[axis] for x in _xs), initial=0))
    return [g[(*before, slice(i, j))] for i, j in pairwise(edges)]


reshape = serve(np.reshape, primitive(_reshape, lambda g, _y, _x, shape: g.reshape(_x.shape)))
transpose = primitive(np.transpose, _transpose)
swapaxes = primitive(np.swapaxes, lambda g, _y, _x, axis1, axis2: g.swapaxes(axis1, axis2))
broadcast_to = primitive(np.broadcast_to, lambda g, _y, _x, shape: g)  # the walk sums what was broadcast
concatenate = serve(np.concatenate, ListPrimitive(np.concatenate, _concatenate))

without_gradient(np.shape, np.ndim, np.size, np.result_type, np.zeros_like, np.ones_like, np.full_like, np.empty_like)
