"""Numerical derivatives of a function of one real variable: opinions that share nothing with the walk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minitensor.errors import UnsupportedError


class Estimate(NamedTuple):
    """A derivative, and how far from the truth it may be."""

    value: float
    error: float


def forward_difference(f: Callable[[float], float], h: float) -> float:
    """(f(h) - f(0)) / h, with an error of order h."""
    return (f(h) - f(0.0)) / h


def central_difference(f: Callable[[float], float], h: float) -> float:
    """(f(h) - f(-h)) / 2h, with an error of order h**2."""
    return (f(h) - f(-h)) / (2 * h)


def richardson(f: Callable[[float], float], h: float = 0.1, levels: int = 8, noise: float = 0.0) -> Estimate:
    """f'(0) by central differences at h, h/2, h/4, ..., extrapolated to h = 0.

    With D(h) = f'(0) + c_2 h**2 + c_4 h**4 + ..., each column of the tableau removes the next power:
    T[i, j] = T[i, j-1] + (T[i, j-1] - T[i-1, j-1]) / (4**j - 1). The entry that differs least from its two parents is returned, and
    that difference is its error bar (Ridders 1982), or its distance from the entry of the smallest steps, which alone may see a kink
    nearby. ``noise``, the rounding error of one value of ``f``, widens the bar by 2 noise / h: extrapolation makes 1.7 noise / h of it.

    >>> import math
    >>> value, error = richardson(math.exp)
    >>> abs(value - 1.0) <= error < 1e-9
    True
    """
    best = Estimate(float("nan"), float("inf"))
    before: list[float] = []
    for i in range(levels):
        step = h / 2**i
        row = [central_difference(f, step)]
        for j, above in enumerate(before):
            row.append(row[j] + (row[j] - above) / (4 ** (j + 1) - 1))
            error = max(abs(row[-1] - row[-2]), abs(row[-1] - above)) + 2 * noise / step
            if error < best.error:
                best = Estimate(row[-1], error)
        before = row
    return Estimate(best.value, max(best.error, abs(best.value - before[-1]) - 2 * noise / step))


def complex_step(f: Callable[[complex], complex], h: float = 1e-200) -> float:
    """f'(0) = Im f(ih) / h for an f that is real on the real axis and holomorphic: no subtraction, so no cancellation.

    Raises `UnsupportedError` when ``f`` gives back a real number, because then it dropped the imaginary part on the way (a cast,
    ``np.abs``, ``np.var``) and the answer would be a silent 0. Source: Squire and Trapp, SIAM Review 40 (1998).

    >>> complex_step(lambda z: np.sin(1.0 + z)) == np.cos(1.0)
    np.True_
    """
    value: Any = f(1j * h)
    if not np.iscomplexobj(value):
        raise UnsupportedError("complex_step: the function lost the imaginary part (a cast, abs, var, ...); use richardson instead")
    return float(np.imag(value) / h)
