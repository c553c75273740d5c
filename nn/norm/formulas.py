"""The closed forms of normalisation, written once, as NumPy expressions.

They run on whatever implements NumPy's protocols: float arrays (computing), complex arrays (complex step), arrays that carry a
rounding bound (tolerances), Tensors (drawing, and derivatives of the derivative). So they say ``1 / np.sqrt(v + eps)`` and
``mean(c * c)``, never ``np.var`` or ``** -0.5``, which leave some of these worlds.

Per slice of m elements, with mu and v the mean and the biased variance of x, and r = 1 / sqrt(v + eps)::

    x_hat = r (x - mu)
    y     = gamma x_hat + beta
    dx    = r (h - mean(h) - x_hat mean(h x_hat)),   h = gamma g

RMSNorm is the same without the mean (``centred=False``): x_hat = r x with v = mean(x x), and dx = r (h - x_hat mean(h x_hat)).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Axes = tuple[int, ...]


def mean(x: Any, axes: Axes) -> Any:
    """The mean over ``axes``, which stay as length 1."""
    return np.mean(x, axis=axes, keepdims=True)


def less_mean(x: Any, axes: Axes, centred: bool = True) -> Any:
    """x - mean(x), or x itself where nothing is centred."""
    return x - mean(x, axes) if centred else x


def centre(x: Any, axes: Axes, centred: bool = True) -> Any:
    """x - mu, centred twice: with exact numbers the second time changes nothing, in floating point it removes the rounding error of mu."""
    return less_mean(less_mean(x, axes, centred), axes, centred)


def inverse_root(v: Any, eps: float) -> Any:
    """1 / sqrt(v + eps), and 0 where both are 0: a constant slice without eps has x_hat = 0, and no gradient."""
    if eps != 0:
        return 1 / np.sqrt(v + eps)
    flat = np.equal(v, 0)
    return np.where(flat, 0, 1 / np.sqrt(np.where(flat, 1, v)))


def default_eps(dtype: Any) -> float:
    """What RMSNorm adds unless told otherwise: the spacing at 1 of the input's dtype, or of float32 for narrower ones."""
    return float(np.finfo(np.result_type(dtype, np.float32)).eps)


def rstd(x: Any, axes: Axes, eps: float, centred: bool = True) -> Any:
    """r = 1 / sqrt(v + eps)."""
    c = centre(x, axes, centred)
    return inverse_root(mean(c * c, axes), eps)


def standardize(x: Any, axes: Axes, eps: float, centred: bool = True) -> Any:
    """x_hat = r (x - mu)."""
    c = centre(x, axes, centred)
    return c * inverse_root(mean(c * c, axes), eps)


def widen(x: Any) -> Any:
    """float16 and float32 are computed in float64, so that no offset and no square costs a digit; everything else as it comes."""
    return x.astype(np.float64) if x.dtype in (np.float16, np.float32) else x


def narrow(y: Any, x: Any) -> Any:
    """y in the dtype of x: the one rounding of the result."""
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def affine(x_hat: Any, gamma: Any, beta: Any) -> Any:
    """y = gamma x_hat + beta, where either may be None."""
    y = x_hat if gamma is None else x_hat * gamma
    return y if beta is None else y + beta


def normalize(x: Any, gamma: Any, beta: Any, axes: Axes, eps: float, centred: bool = True) -> Any:
    """y = gamma (x - mu) / sqrt(v + eps) + beta, in the dtype of x."""
    return narrow(affine(standardize(widen(x), axes, eps, centred), gamma, beta), x)


def normalize_backward(g: Any, x_hat: Any, r: Any, gamma: Any, axes: Axes, centred: bool = True) -> tuple[Any, Any, Any]:
    """(dx, dgamma, dbeta), the latter two not yet summed over the axes along which gamma and beta were broadcast."""
    g = widen(g)
    h = g if gamma is None else g * gamma
    dx = r * (less_mean(h, axes, centred) - x_hat * mean(h * x_hat, axes))
    return dx, g * x_hat, g


def normalize_double_backward(g: Any, u: Any, x_hat: Any, r: Any, gamma: Any, axes: Axes, centred: bool = True) -> tuple[Any, Any, Any]:
    """The gradients of <u, dx> with respect to x, g and gamma, the latter not yet summed over the axes along which gamma was broadcast.

    With J t = r (t - mean(t) - x_hat mean(t x_hat)), which is symmetric, so that dx = J h, and with a = mean(u x_hat),
    b = mean(h x_hat), k = mean(u (h - mean(h)))::

        d <u, dx> / dx = -r (r x_hat (k - a b) + b J u + a J h),    d / dg = gamma J u,    d / dgamma = g J u
    """
    h = g if gamma is None else g * gamma
    a, b, k = mean(u * x_hat, axes), mean(h * x_hat, axes), mean(u * less_mean(h, axes, centred), axes)
    jacobian_u, jacobian_h = (r * (less_mean(t, axes, centred) - x_hat * mean(t * x_hat, axes)) for t in (u, h))
    dx = -r * (r * x_hat * (k - a * b) + b * jacobian_u + a * jacobian_h)
    return dx, jacobian_u if gamma is None else gamma * jacobian_u, g * jacobian_u


def normalize_fixed(x: Any, mu: Any, v: Any, gamma: Any, beta: Any, eps: float) -> Any:
    """y = gamma (x - mu) / sqrt(v + eps) + beta with given statistics, which are constants: eval mode. In the dtype of x."""
    return narrow(affine((widen(x) - widen(mu)) * inverse_root(widen(v), eps), gamma, beta), x)
