"""The closed forms of normalisation, written once, as NumPy expressions.

They run on whatever implements NumPy's protocols: float arrays (computing), complex arrays (complex step), arrays that carry a
rounding bound (tolerances), Tensors (drawing, and derivatives of the derivative). So they say ``1 / np.sqrt(v + eps)`` and
``mean(c * c)``, never ``np.var`` or ``** -0.5``, which leave some of these worlds.

Per slice of m elements, with mu and v the mean and the biased variance of x, and r = 1 / sqrt(v + eps)::

    x_hat = r (x - mu)
    y     = gamma x_hat + beta
    dx    = r (h - mean(h) - x_hat mean(h x_hat)),   h = gamma g
"""

from __future__ import annotations

from typing import Any

import numpy as np

Axes = tuple[int, ...]


def mean(x: Any, axes: Axes) -> Any:
    """The mean over ``axes``, which stay as length 1."""
    return np.mean(x, axis=axes, keepdims=True)


def centre(x: Any, axes: Axes) -> Any:
    """x - mu, centred twice: with exact numbers the second time changes nothing, in floating point it removes the rounding error of mu."""
    c = x - mean(x, axes)
    return c - mean(c, axes)


def rstd(x: Any, axes: Axes, eps: float) -> Any:
    """r = 1 / sqrt(v + eps)."""
    c = centre(x, axes)
    return 1 / np.sqrt(mean(c * c, axes) + eps)


def standardize(x: Any, axes: Axes, eps: float) -> Any:
    """x_hat = r (x - mu)."""
    return centre(x, axes) * rstd(x, axes, eps)


def widen(x: Any) -> Any:
    """float16 and float32 are computed in float64, so that no offset and no square costs a digit; everything else as it comes."""
    return x.astype(np.float64) if x.dtype in (np.float16, np.float32) else x


def affine(x_hat: Any, gamma: Any, beta: Any) -> Any:
    """y = gamma x_hat + beta, where either may be None."""
    y = x_hat if gamma is None else x_hat * gamma
    return y if beta is None else y + beta


def normalize(x: Any, gamma: Any, beta: Any, axes: Axes, eps: float) -> Any:
    """y = gamma (x - mu) / sqrt(v + eps) + beta, in the dtype of x."""
    c = centre(widen(x), axes)
    x_hat = c / np.sqrt(mean(c * c, axes) + eps)
    y = affine(x_hat, gamma, beta)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def normalize_backward(g: Any, x_hat: Any, r: Any, gamma: Any, axes: Axes) -> tuple[Any, Any, Any]:
    """(dx, dgamma, dbeta), the latter two not yet summed over the axes along which gamma and beta were broadcast."""
    g = widen(g)
    h = g if gamma is None else g * gamma
    dx = r * (h - mean(h, axes) - x_hat * mean(h * x_hat, axes))
    return dx, g * x_hat, g
