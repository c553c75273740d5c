"""Products of matrices and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitensor.primitive import primitive


def _matmul_left(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g[..., None] * b
    if _a.ndim == 1:
        return (b @ g[..., None])[..., 0]
    return g @ b.swapaxes(-1, -2)


def _matmul_right(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if a.ndim == 1:
        return a[:, None] * g[..., None, :] if _b.ndim > 1 else g * a
    if _b.ndim == 1:
        return (a.swapaxes(-1, -2) @ g[..., None])[..., 0]
    return a.swapaxes(-1, -2) @ g


# a (..., n, k) @ b (..., k, p), 1-d operands as NumPy treats them; the walk sums over batch axes that were broadcast
matmul = primitive(np.matmul, _matmul_left, _matmul_right)
