"""What a probe saw, in words: errors and what they name, warnings, and which of the numbers that are known came out."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

EPS = 1e-5


def outcome(call: Callable[[], Any], naming: Mapping[str, str] | None = None) -> str:
    """What a call returned, or its error and which of the patterns the message has; warnings come first.

    An error is told by the built-in class that it is caught by; ``naming`` has a pattern for everything that the message may name.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = str(call())
        except Exception as error:
            result = _told(error, naming or {})
    return ", then ".join([*dict.fromkeys(warning.category.__name__ for warning in caught), result])


def _told(error: Exception, naming: Mapping[str, str]) -> str:
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins")
    found = [name for name, pattern in naming.items() if re.search(pattern, str(error))]
    return f"{kind} naming {listed(found)}" if found else kind


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def shape(*sizes: int) -> str:
    """The pattern of a whole shape, as a tuple or as a list."""
    return rf"[(\[]{', '.join(map(str, sizes))},?[)\]]"


def noise(*sizes: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """The same random numbers for every system."""
    return np.random.default_rng(seed).normal(size=sizes).astype(dtype)


def single(*sizes: int) -> np.ndarray:
    """`noise` in float32."""
    return noise(*sizes, dtype="float32")


def normalised(x: np.ndarray, eps: float = EPS) -> np.ndarray:
    """x_hat of (N, C, S...) in float64."""
    axes = tuple(range(2, x.ndim))
    x = x.astype(np.float64)
    c = x - x.mean(axes, keepdims=True)
    c -= c.mean(axes, keepdims=True)
    return c / np.sqrt(np.mean(c * c, axes, keepdims=True) + eps)


def numbers(y: np.ndarray, x: np.ndarray, running: tuple[float, float] = (0.0, 1.0)) -> str:
    """Which numbers came out of a layer for an input (N, C, S...)."""
    if y.shape != x.shape:
        return f"an output of shape {y.shape}"
    if not y.size:
        return "empty output"
    if np.isnan(y).all():
        return "nan"
    if not y.any():
        return "zeros"
    mean, var = running
    candidates = {"normalises": normalised(x), "uses the running statistics": (x - mean) / np.sqrt(var + EPS)}
    return next((name for name, expected in candidates.items() if np.allclose(y, expected, 1e-5, 1e-5)), "other numbers")


def digits(y: np.ndarray, expected: np.ndarray, best: float = 1e-5) -> str:
    """The power of ten above the largest error; those at rounding level, which differ from processor to processor, are all ``best``."""
    error = float(np.abs(y - expected).max())
    if not error < 0.1:
        return "all zeros" if not y.any() else "no digit right"
    return "exact" if error == 0 else f"error below 1e-{-math.ceil(math.log10(max(error, best)))}"


def agree(found: Any, expected: Any, rtol: float = 1e-5) -> str:
    """``right`` or ``wrong``."""
    return "right" if np.allclose(found, expected, rtol, rtol * float(np.max(np.abs(expected), initial=0))) else "wrong"
