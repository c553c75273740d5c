"""Reading parts of an array; the derivative adds the cotangent back where it was read, once for every time it was read."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from minitensor.arrays import array_module
from minitensor.primitive import Primitive, primitive, serve


def _getitem(x: Any, index: Any) -> Any:
    return x[index]


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    whole = np.zeros_like(g, shape=shape)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts):
        whole[index] = g
    else:
        array_module(g).add.at(whole, index, g)  # an integer array may name one element several times
    return whole


getitem = serve(
    operator.getitem,
    primitive(
        _getitem,
        lambda g, _y, _x, index: scatter(g, index=index, shape=_x.shape),
        latex=r"\bar x_i = \sum_{k \,:\, \mathrm{index}_k = i} \bar y_k",
    ),
)
scatter: Primitive = primitive(_scatter, lambda g, _y, _x, index, shape: g[index], latex=r"\bar x_k = \bar y_{\mathrm{index}_k}")
