"""Numerical derivatives of a function of one real variable: opinions that share nothing with the walk."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minitensor.errors import UnsupportedError

EPS = float(np.finfo(np.float64).eps)
LUCK = 4


class Estimate(NamedTuple):
    """A derivative, and how far from the truth it may be; arrays where the function gives arrays."""

    value: Any
    error: Any


class Slopes(NamedTuple):
    """A derivative with its error bar, the slopes to both sides, and whether they differ however small the step: a kink."""

    value: Any
    error: Any
    below: Any
    above: Any
    kink: Any


class Taylor(NamedTuple):
    """The slope of the Taylor remainder, and what it says: ``"right"``, ``"linear"``, ``"wrong"`` or ``"kink"``."""

    slope: float
    verdict: str
    step: float  # the smallest at which the remainder stands out of the noise


def forward_difference(f: Callable[[float], Any], h: float) -> Any:
    """(f(h) - f(0)) / h, with an error of order h."""
    return (f(h) - f(0.0)) / h


def central_difference(f: Callable[[float], Any], h: float) -> Any:
    """(f(h) - f(-h)) / 2h, with an error of order h**2."""
    return (f(h) - f(-h)) / (2 * h)


@np.errstate(invalid="ignore", over="ignore")  # a step that leaves the domain of f shows as an error bar of inf
def richardson(f: Callable[[float], Any], h: float = 0.1, levels: int = 8, noise: Any = 0.0, unit: float = EPS) -> Estimate:
    """f'(0) by central differences at h, h/2, h/4, ..., extrapolated to h = 0.

    With D(h) = f'(0) + c_2 h**2 + c_4 h**4 + ..., each column of the tableau removes the next power:
    T[i, j] = T[i, j-1] + (T[i, j-1] - T[i-1, j-1]) / (4**j - 1). The entry that differs least from its two parents is returned, and
    four times that difference is its error bar (Ridders 1982; four, because the least of many is partly luck), or its distance from the
    entry of the smallest steps, which alone may see a kink nearby. ``noise``, the rounding error of f(0), widens the bar by 2 noise / h:
    extrapolation makes 1.7 noise / h of it. Of other values it is at least ``2 unit |f|``, two roundings. A function that gives an array
    is differentiated element by element; steps at which it is nan are left out.

    >>> import math
    >>> value, error = richardson(math.exp)
    >>> abs(value - 1.0) <= error < 1e-9
    True
    """
    value, error = np.asarray(np.nan), np.asarray(np.inf)
    before: list[Any] = []
    for i in range(levels):
        step = h / 2**i
        row = [np.asarray(central_difference(f, step))]
        rounding = np.maximum(noise, 2 * unit * np.maximum(np.abs(f(step)), np.abs(f(-step))))
        for j, parent in enumerate(before):
            row.append(row[j] + (row[j] - parent) / (4 ** (j + 1) - 1))
            bar = LUCK * np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - parent)) + 2 * rounding / step
            value, error = np.where(bar < error, row[-1], value), np.where(bar < error, bar, error)
        before = row
    last = before[0]
    for entry in before[1:]:
        last = np.where(np.isnan(entry), last, entry)
    error = np.fmax(error, np.where(np.isnan(last), np.inf, np.abs(value - last) - 2 * rounding / step))
    return Estimate(value, error) if error.ndim else Estimate(float(value), float(error))


@np.errstate(invalid="ignore", over="ignore")
def slopes(f: Callable[[float], Any], h: float = 0.125, levels: int = 8, noise: Any = 0.0, unit: float = EPS, ladders: int = 6) -> Slopes:
    """f'(0) as `richardson` gives it, on ever smaller ladders of steps until every bar is short and no kink is in reach.

    The slopes to both sides at the smallest step s of a ladder differ by J(s) = (f(s) - 2 f(0) + f(-s)) / s. For a smooth function J
    falls at least as s does; where it does not, f has a kink nearer than s, and the bar is at least abs(J) / 2. What remains a kink on
    the last ladder sits at 0 itself, for all that floating point can tell.

    >>> bool(slopes(lambda t: max(t, 0.0)).kink), bool(slopes(lambda t: max(t - 1e-8, 0.0)).kink)
    (True, False)
    """
    at = remembered(f)
    best, first = None, h
    for _ in range(ladders):
        value, error = richardson(at, h, levels, noise, unit)
        s = h / 2 ** (levels - 1)
        below, above, kink = one_sided(at, s, noise)
        found = Slopes(value, np.where(kink, np.maximum(error, np.abs(above - below) / 2), error), below, above, kink)
        if best is None:
            best = found
        else:
            # Steps so small that noise hides the kink seen before say nothing about it
            deaf = best.kink & (16 * noise / s > 0.5 * np.abs(best.above - best.below))
            closer = (found.error < best.error) & ~deaf
            best = Slopes(*(np.where(closer, new, old) for new, old in zip(found, best, strict=True)))
        scale = np.max(np.abs(best.value), initial=0, where=np.isfinite(best.value))
        if not best.kink.any() and np.all(best.error <= 1e-6 * scale + 16 * noise / first):
            break
        h /= 2**levels
    assert best is not None
    return best


def one_sided(f: Callable[[float], Any], h: float, noise: Any = 0.0) -> tuple[Any, Any, Any]:
    """The slopes below and above 0 at the step h, and whether their difference is as large as at 8 h: a kink nearer than h."""
    below, above = forward_difference(f, -h), forward_difference(f, h)
    jump, wide = np.abs(above - below), np.abs(forward_difference(f, 8 * h) - forward_difference(f, -8 * h))
    return below, above, (jump > 0.5 * wide) & (jump > 1e-3 * np.maximum(np.abs(below), np.abs(above))) & (jump > 16 * noise / h)


def remembered(f: Callable[[float], Any]) -> Callable[[float], Any]:
    """``f``, which is called once for every argument."""
    return cache(lambda t: np.asarray(f(t), np.float64))


@np.errstate(invalid="ignore", over="ignore")
def taylor(
    f: Callable[[float], float], derivative: float, h: float = 0.25, noise: float = 0.0, unit: float = EPS, blur: float = 0.0
) -> Taylor:
    """The slope of log R(t) over log t, where R(t) = abs(f(t) - f(0) - t derivative) is the remainder of Taylor's formula.

    R falls like t**2 with the right derivative and like t with a wrong one, and no step has to be chosen: t runs over h, h/2, h/4, ...,
    and the line is fitted (least squares) to the six smallest steps whose remainder still stands out of the rounding error: ``noise`` at
    f(0), at least ``2 unit |f|`` at other values, and ``blur`` of the derivative itself. Where none does, ``f`` is linear. At a kink the
    even part of the remainder falls like t too, and no derivative is right.

    >>> import math
    >>> [taylor(math.exp, slope, noise=1e-16).verdict for slope in (1.0, 1.01)]
    ['right', 'wrong']
    """
    steps = h / 2.0 ** np.arange(60)  # down to 1e-19, for inputs of 1e-12 and less
    sides = np.array([[f(t) - f(0.0) - t * derivative, f(-t) - f(0.0) + t * derivative] for t in steps])
    remainder, even = np.max(np.abs(sides), axis=1), np.abs(sides.sum(axis=1)) / 2
    rounding = np.array([max(noise, 2 * unit * abs(f(t)), 2 * unit * abs(f(-t)), t * blur / 32) for t in steps])

    def fitted(values: Any) -> tuple[float, int]:
        """The slope and the smallest step it was seen at; nan and the next step where there is none to see."""
        loud = np.append(values > 64 * rounding, True)  # no step is smaller than the last
        seen = np.flatnonzero(loud[:-1])[-6:]
        last = int(seen[-1]) if len(seen) else -1
        # A fall by more than t**4 at one halving is a kink or jump that the step no longer reaches: from here on f is linear
        if len(seen) < 4 or (values[last] > 64 * 16 * rounding[last] and not loud[last + 1]):
            return math.nan, min(last + 1, len(steps) - 1)
        return float(np.polyfit(np.log2(steps[seen]), np.log2(values[seen]), 1)[0]), last

    slope, last = fitted(remainder)
    verdict = "linear" if math.isnan(slope) else "right" if slope > 1.5 else "kink" if fitted(even)[0] < 1.5 else "wrong"
    return Taylor(slope, verdict, float(steps[last]))


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
