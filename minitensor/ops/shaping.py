"""Functions that move elements about: their derivatives move the cotangent back."""

from __future__ import annotations

import operator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from minitensor.arrays import as_array
from minitensor.errors import ShapeError, UnsupportedError, describe
from minitensor.ops.indexing import scatter
from minitensor.primitive import ListPrimitive, primitive, serve, without_gradient


def _only(keyword: str, value: Any, rule: Any) -> None:
    """Refuse a keyword's value that the derivative rule does not know."""
    if value != rule:
        raise UnsupportedError(f"the keyword {keyword}= has no derivative rule for {value!r} (only for {rule!r})")


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    _only("order", order, "C")
    return a.reshape(shape)


def _ravel(a: Any, order: str = "C") -> Any:
    _only("order", order, "C")
    return np.ravel(a)


def _transpose(g: Any, _y: Any, _x: Any, axes: Any = None) -> Any:
    return g.transpose() if axes is None else g.transpose(tuple(int(i) for i in np.argsort([a % _x.ndim for a in axes])))


def _concatenate(g: Any, _y: Any, _xs: Any, axis: Any = 0) -> Any:
    if axis is None:  # NumPy's spelling of "ravel first"
        edges = list(accumulate((x.size for x in _xs), initial=0))
        return [g[i:j].reshape(x.shape) for x, (i, j) in zip(_xs, pairwise(edges), strict=True)]
    before = (slice(None),) * (axis % g.ndim)
    edges = list(accumulate((x.shape[axis] for x in _xs), initial=0))
    return [g[(*before, slice(i, j))] for i, j in pairwise(edges)]


def _stack(g: Any, _y: Any, _xs: Any, axis: int = 0) -> Any:
    g = np.moveaxis(g, axis, 0)
    return [g[i] for i in range(len(_xs))]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """`numpy.split`: a list of parts along ``axis``, as many equal ones as a number says, or cut before the indices of a list."""
    ary = as_array(ary)
    try:
        length = ary.shape[axis]
    except IndexError as error:
        raise ShapeError(f"split({describe(ary)}): there is no axis {axis}") from error
    if np.ndim(indices_or_sections):
        edges = [0, *(int(i) for i in indices_or_sections), length]
    else:
        sections = operator.index(indices_or_sections)
        if sections < 1 or length % sections:
            raise ShapeError(f"split({describe(ary)}): axis {axis} of length {length} cannot be divided into {sections} equal parts")
        edges = [length // sections * i for i in range(sections + 1)]
    before = (slice(None),) * (axis % ary.ndim)
    return [ary[(*before, slice(i, j))] for i, j in pairwise(edges)]


def _widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """How many elements before and after each axis."""
    if isinstance(pad_width, dict):
        given = {axis % ndim: width for axis, width in pad_width.items()}
        pad_width = [np.broadcast_to(given.get(axis, 0), 2) for axis in range(ndim)]
    return tuple((int(before), int(after)) for before, after in np.broadcast_to(pad_width, (ndim, 2)))


def _pad(array: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = 0) -> Any:
    _only("mode", mode, "constant")
    return np.pad(array, _widths(pad_width, np.ndim(array)) or 0, mode="constant", constant_values=constant_values)


def _unpad(g: Any, _y: Any, _x: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = 0) -> Any:
    return g[tuple(slice(before, before + n) for (before, _), n in zip(_widths(pad_width, _x.ndim), _x.shape, strict=True))]


def _onto_diagonal(g: Any, _x: Any, offset: int, axis1: int, axis2: int) -> Any:
    """Zeros of the shape of ``_x`` with the last axis of ``g`` on a diagonal."""
    axis1, axis2 = axis1 % _x.ndim, axis2 % _x.ndim
    rows, columns = _x.shape[axis1], _x.shape[axis2]
    i = np.arange(max(0, min(rows, columns - offset) - max(-offset, 0))) + max(-offset, 0)
    shape = (*(n for axis, n in enumerate(_x.shape) if axis not in (axis1, axis2)), rows, columns)
    return np.moveaxis(scatter(g, index=(..., i, i + offset), shape=shape), (-2, -1), (axis1, axis2))


def _diagonal(g: Any, _y: Any, _x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return _onto_diagonal(g, _x, offset, axis1, axis2)


def _trace(g: Any, _y: Any, _x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return _onto_diagonal(g[..., None], _x, offset, axis1, axis2)


def _sort(g: Any, _y: Any, x: Any, axis: Any = -1, kind: Any = None) -> Any:
    row = x.reshape(-1) if axis is None else x
    axis = -1 if axis is None else axis
    places = np.argsort(np.argsort(row, axis=axis, kind="stable"), axis=axis)  # where each element went, ties in their order
    return np.take_along_axis(g, places, axis).reshape(x.shape)


def _picked(x: Any, indices: Any, axis: int | None, mode: str) -> tuple[Any, ...]:
    """The index by which `numpy.take` reads ``x``, or ``x`` as one row without an axis."""
    length = x.size if axis is None else x.shape[axis]
    if mode == "wrap":
        indices = as_array(indices) % length
    elif mode == "clip":
        indices = np.minimum(np.maximum(as_array(indices), 0), length - 1)
    elif mode != "raise":
        raise ValueError(f"mode is 'raise', 'wrap' or 'clip', got {mode!r}")
    return (*(slice(None),) * (0 if axis is None else axis % x.ndim), indices)


def _take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Any:
    a = as_array(a)
    return (a.reshape(-1) if axis is None else a)[_picked(a, indices, axis, mode)]


def _untake(g: Any, _y: Any, _x: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Any:
    shape = (_x.size,) if axis is None else _x.shape
    return scatter(g, index=_picked(_x, indices, axis, mode), shape=shape).reshape(_x.shape)


def _take_along(g: Any, _y: Any, _x: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        return scatter(g, index=(indices,), shape=(_x.size,)).reshape(_x.shape)
    grid = [np.arange(n).reshape((-1,) + (1,) * (_x.ndim - 1 - i)) for i, n in enumerate(_x.shape)]
    grid[axis] = indices
    return scatter(g, index=tuple(grid), shape=_x.shape)


_RESHAPED = r"\bar x = \operatorname{reshape}(\bar y)"
_PART = r"\bar x_k = \text{part } k \text{ of } \bar y"
_GATHERED = r"\bar x_i = \sum_{k \,:\, \mathrm{indices}_k = i} \bar y_k"

reshape = serve(np.reshape, primitive(_reshape, lambda g, _y, _x, shape, order="C": g.reshape(_x.shape), latex=_RESHAPED))
ravel = serve(np.ravel, primitive(_ravel, lambda g, _y, _x, order="C": g.reshape(_x.shape), latex=_RESHAPED))
squeeze = primitive(np.squeeze, lambda g, _y, _x, axis=None: g.reshape(_x.shape), latex=_RESHAPED)
expand_dims = primitive(np.expand_dims, lambda g, _y, _x, axis: g.reshape(_x.shape), latex=_RESHAPED)
transpose = primitive(np.transpose, _transpose, latex=r"\bar x = \operatorname{transpose}^{-1}(\bar y)")
swapaxes = primitive(
    np.swapaxes, lambda g, _y, _x, axis1, axis2: g.swapaxes(axis1, axis2), latex=r"\bar x = \operatorname{swapaxes}(\bar y)"
)
moveaxis = primitive(
    np.moveaxis,
    lambda g, _y, _x, source, destination: np.moveaxis(g, destination, source),
    latex=r"\bar x = \operatorname{moveaxis}^{-1}(\bar y)",
)
flip = primitive(np.flip, lambda g, _y, _x, axis=None: np.flip(g, axis), latex=r"\bar x = \operatorname{flip}(\bar y)")
# the walk sums what was broadcast
broadcast_to = primitive(np.broadcast_to, lambda g, _y, _x, shape: g, latex=r"\bar x_i = \sum_{k \,:\, y_k \text{ is } x_i} \bar y_k")
concatenate = serve(np.concatenate, ListPrimitive(np.concatenate, _concatenate, latex=_PART))
stack = serve(np.stack, ListPrimitive(np.stack, _stack, latex=_PART))
pad = serve(np.pad, primitive(_pad, _unpad, latex=r"\bar x = \text{the inner part of } \bar y"))
tril = primitive(np.tril, lambda g, _y, _x, k=0: np.tril(g, k), latex=r"\bar x = \operatorname{tril}(\bar y)")
triu = primitive(np.triu, lambda g, _y, _x, k=0: np.triu(g, k), latex=r"\bar x = \operatorname{triu}(\bar y)")
diagonal = primitive(np.diagonal, _diagonal, latex=r"\bar x_{ij} = [j - i = \mathrm{offset}] \, \bar y_{\min(i, j)}")
trace = primitive(np.trace, _trace, latex=r"\bar x_{ij} = [j - i = \mathrm{offset}] \, \bar y")
sort = primitive(np.sort, _sort, latex=r"\bar x_{\pi(i)} = \bar y_i \text{ where } y_i = x_{\pi(i)}")
take = serve(np.take, primitive(_take, _untake, latex=_GATHERED))
take_along_axis = primitive(np.take_along_axis, _take_along, latex=_GATHERED)
serve(np.split, split)

argsort, shape, ndim, size = without_gradient(np.argsort, np.shape, np.ndim, np.size)
without_gradient(np.result_type, np.zeros_like, np.ones_like, np.full_like, np.empty_like)
