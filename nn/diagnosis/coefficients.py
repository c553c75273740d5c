"""The three coefficients of a gradient, and what each is made of.

Every right dx of a normalisation, however it is written, is::

    dx = c1 [r h] + c2 [r mean(h)] + c3 [r x_hat mean(h x_hat)],    (c1, c2, c3) = (1, -1, -1),    h = gamma dy

A slip on one of the three paths multiplies its coefficient, usually by a small rational number and small powers of m, m - 1, N, s and
gamma. The logarithm of such a product is linear in the exponents, so one least-squares solve over the slices of several probes reads
them off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from ..norm import formulas
from .probes import Probe

Array = Any

RIGHT = (1, -1, -1)
TERMS = ("r h", "r mean(h)", "r x_hat mean(h x_hat)")
EXACT = 1e-7  # relative: what is left over, and how far a coefficient may be from its name
RATIONALS = sorted({Fraction(a, b) for a in range(1, 7) for b in range(1, 7)}, key=lambda q: (q.numerator + q.denominator, q))
LARGEST_EXPONENT = 6


@dataclass(frozen=True)
class Coefficients:
    """c1, c2, c3 over all slices of all probes: their medians, what each is called ("?" where it is no such product), and the share
    of dx that the three terms leave over."""

    values: tuple[float, float, float]
    names: tuple[str, str, str]
    residual: float

    @property
    def named(self) -> bool:
        """Whether the three terms are all of dx, and each coefficient has a name."""
        return self.residual < EXACT and "?" not in self.names

    def __str__(self) -> str:
        return " | ".join(self.names)


@np.errstate(all="ignore")
def coefficients(probes: Sequence[Probe], dx: Sequence[Array]) -> Coefficients:
    """The coefficients of a gradient that was computed on these probes.

    >>> from minitensor.nn.derivation import FAULTS
    >>> from minitensor.nn.diagnosis import probes
    >>> given = probes("instance_norm")
    >>> print(coefficients(given, [FAULTS["no-2"].backward(p.x, p.gamma, p.beta, p.eps, p.dy)[0] for p in given]))
    1 | -1 | -1/2
    """
    found, left, scalars = [], 0.0, []
    for probe, value in zip(probes, dx, strict=True):
        if not np.isfinite(value).all():
            continue
        slices = _slices(probe)
        basis = np.stack([slices[name] for name in TERMS], axis=2)
        given = _by_slice(probe, value)
        sizes = np.linalg.norm(basis, axis=1, keepdims=True)
        fitted = np.linalg.pinv(basis / sizes) @ given[:, :, None]
        rest = given - (basis / sizes @ fitted)[:, :, 0]
        left = max(left, float(np.linalg.norm(rest) / max(np.linalg.norm(given), np.finfo(float).tiny)))
        found.append(fitted[:, :, 0] / sizes[:, 0, :])
        scalars.append({name: np.broadcast_to(number, len(given)) for name, number in slices["scalars"].items()})
    if not found:
        return Coefficients((np.nan,) * 3, ("?",) * 3, np.nan)
    c = np.concatenate(found)
    known = {name: np.concatenate([each[name] for each in scalars]) for name in scalars[0]}
    names = [_name(c[:, k], known, float(np.abs(c).max())) if left < EXACT else "?" for k in range(3)]
    values = [float(np.median(c[:, k])) for k in range(3)]
    return Coefficients((values[0], values[1], values[2]), (names[0], names[1], names[2]), left)


def _by_slice(probe: Probe, value: Array) -> Array:
    """(slices, m): a value of the shape of x, or one that broadcasts against the view."""
    where = probe.layout
    rest = [axis for axis in range(len(where.view)) if axis not in where.axes]
    whole = np.broadcast_to(value.reshape(where.view) if value.size == probe.x.size else where.spread(value), where.view)
    return whole.transpose(*rest, *where.axes).reshape(-1, where.m)


def _slices(probe: Probe) -> dict[str, Any]:
    x, dy, gamma = (_by_slice(probe, value) for value in (probe.x, probe.dy, probe.gamma))
    m, h = x.shape[1], gamma * dy
    mean = {"axes": (1,)}
    c = x - formulas.mean(x, **mean)
    v = formulas.mean(c * c, **mean)
    s = np.sqrt(v + probe.eps)
    x_hat, one = c / s, np.ones_like(x)
    scalars: dict[str, Any] = {"m": m, "m - 1": m - 1, "N": probe.x.shape[0], "s": s[:, 0]}
    if np.ptp(gamma, axis=1).max() == 0:
        scalars["gamma"] = gamma[:, 0]
    if probe.x.ndim == 4:
        scalars["W"] = probe.x.shape[3]
    elif m == probe.x.shape[0]:
        del scalars["N"]
    scalars |= {"sqrt(v)": np.sqrt(v)[:, 0], "(sqrt(v) + eps)": (np.sqrt(v) + probe.eps)[:, 0]}
    scalars["sqrt(v m/(m - 1) + eps)"] = np.sqrt(v * m / (m - 1) + probe.eps)[:, 0]
    terms = (h / s, formulas.mean(h, **mean) / s * one, x_hat * formulas.mean(h * x_hat, **mean) / s)
    return {**dict(zip(TERMS, terms, strict=True)), "scalars": scalars}


def _name(c: Array, known: Mapping[str, Array], largest: float) -> str:
    """The coefficient as a rational number times powers of what is known, the fewest that do; "?" where none do.

    Beside the ``largest``, rounding is 0.
    """
    if np.all(np.abs(c) <= EXACT * largest):
        return "0"
    if np.any(c == 0):
        return "?"
    logs = {name: np.log(np.abs(value)) for name, value in known.items()}
    own = np.log(np.abs(c))
    for size in range(4):
        for some in combinations(known, size):
            design = np.column_stack([np.ones_like(own), *(logs[name] for name in some)])
            exponents, _, rank, _ = np.linalg.lstsq(design, own, rcond=None)
            whole = np.round(exponents[1:])
            if (
                rank < size + 1
                or np.any(whole == 0)
                or np.any(np.abs(whole) > LARGEST_EXPONENT)
                or np.abs(exponents[1:] - whole).max(initial=0) > 1e-4
            ):
                continue
            rest = c / np.prod([known[name] ** power for name, power in zip(some, whole, strict=True)], axis=0, initial=1.0)
            for rational in RATIONALS if np.ptp(rest) < EXACT * abs(rest[0]) else ():
                if abs(abs(rest[0]) / float(rational) - 1) < EXACT:
                    return _printed(rational * int(np.sign(rest[0])), dict(zip(some, map(int, whole), strict=True)))
    return "?"


def _printed(rational: Fraction, powers: Mapping[str, int]) -> str:
    over = [_power(name, power) for name, power in powers.items() if power > 0]
    under = [_power(name, -power) for name, power in powers.items() if power < 0]
    if rational.numerator not in (1, -1) or not over:
        over.insert(0, str(abs(rational.numerator)))
    if rational.denominator != 1:
        under.insert(0, str(rational.denominator))
    sign = "-" if rational < 0 else ""
    bottom = under[0] if len(under) == 1 else f"({' '.join(under)})"
    return sign + " ".join(over) + (f"/{bottom}" if under else "")


def _power(name: str, power: int) -> str:
    base = f"({name})" if " " in name and name[0] not in "(s" else name
    return base if power == 1 else f"{base}^{power}"
