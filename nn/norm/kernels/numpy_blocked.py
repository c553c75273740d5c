"""Normalisation in NumPy, a block of rows at a time, so that a block stays in cache through all its passes.

A row is one slice (m elements). Blocks are worked on in float64 whatever the input's dtype, which keeps the error of float16 and
float32 results at one rounding for any offset; only the result is written in the input's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formulas import inverse_root

_BLOCK = 1 << 21  # bytes of float64 scratch: of 128 KiB to 4 MiB, 2 MiB was as fast as any; small blocks pay NumPy's cost per call

Float64 = NDArray[np.float64]


def serves(x: Any, *parameters: Any, axes: tuple[int, ...]) -> bool:
    """Whether all are NumPy arrays, x of floats, the slices innermost, and scale and shift (if any) constant within a slice."""
    first = x.ndim - len(axes)
    return (
        tuple(axes) == tuple(range(first, x.ndim))
        and all(value is None or isinstance(value, np.ndarray) for value in (x, *parameters))
        and x.dtype in (np.float16, np.float32, np.float64)
        and x.size > 0
        and all(value is None or set(value.shape[first - x.ndim :]) <= {1} for value in parameters)
    )


def forward(x: Any, gamma: Any, beta: Any, axes: tuple[int, ...], eps: float, centred: bool = True) -> Any:
    """y = gamma x_hat + beta."""
    rows, per_row = _rows(x, axes)
    scale, shift = per_row(gamma), per_row(beta)
    y = np.empty(rows.shape, x.dtype)
    for block, c, scratch in _blocks(rows):
        r = _centre(rows[block], c, scratch, eps, centred)
        c *= r if scale is None else r * scale[block]
        if shift is not None:
            c += shift[block]
        y[block] = c
    return y.reshape(x.shape)


def backward(g: Any, x: Any, gamma: Any, axes: tuple[int, ...], eps: float, centred: bool = True) -> tuple[Any, Any, Any]:
    """(dx, dgamma, dbeta), the latter two summed over each slice, one number per row."""
    rows, per_row = _rows(x, axes)
    scale, g = per_row(gamma), g.reshape(rows.shape)
    m = rows.shape[1]
    dx = np.empty(rows.shape, x.dtype)
    dgamma, dbeta = np.empty((2, len(rows), 1))
    for block, c, scratch in _blocks(rows):
        r = _centre(rows[block], c, scratch, eps, centred)
        c *= r  # x_hat from here on
        dgamma[block] = _dot(g[block], c, scratch)
        dbeta[block] = np.sum(g[block], axis=1, keepdims=True, dtype=np.float64)
        c *= dgamma[block] / -m
        c += g[block]
        if centred:
            c -= dbeta[block] / m
        c *= r if scale is None else r * scale[block]
        dx[block] = c
    statistics = (*x.shape[: x.ndim - len(axes)], *(1,) * len(axes))
    return dx.reshape(x.shape), dgamma.reshape(statistics), dbeta.reshape(statistics)


def _rows(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """x as (rows, m), and how a parameter that broadcasts against x becomes one number per row."""
    outer = x.shape[: x.ndim - len(axes)]
    rows = x.reshape(math.prod(outer), -1)

    def per_row(parameter: Any) -> Float64 | None:
        if parameter is None:
            return None
        return np.broadcast_to(parameter, (*outer, *(1,) * len(axes))).reshape(-1, 1).astype(np.float64)

    return rows, per_row


def _blocks(rows: Any) -> Iterator[tuple[slice, Float64, Float64]]:
    """Slices of rows, each with two arrays to work in that stay in cache."""
    step = min(len(rows), max(1, _BLOCK // (8 * rows.shape[1])))
    work = np.empty((2, step, rows.shape[1]))
    for start in range(0, len(rows), step):
        n = min(step, len(rows) - start)
        yield slice(start, start + n), work[0, :n], work[1, :n]


def _centre(rows: Any, c: Float64, scratch: Float64, eps: float, centred: bool) -> Float64:
    """Leave x - mu in ``c``, centred twice (see `formulas.centre`), and return r."""
    c[...] = rows
    for _ in range(2 if centred else 0):
        c -= np.mean(c, axis=1, keepdims=True)
    r: Float64 = inverse_root(_dot(c, c, scratch) / c.shape[1], eps)
    return r


def _dot(a: Any, b: Float64, scratch: Float64) -> Float64:
    """The sum of a b over each row. Pairwise, because the error of a plain dot product grows with m."""
    np.multiply(a, b, out=scratch)
    total: Float64 = np.sum(scratch, axis=1, keepdims=True)
    return total
