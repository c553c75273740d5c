"""Activations: functions of one Tensor, elementwise or along an axis. As ``torch.nn.functional``.

The result has the input's dtype; float16 is computed in float32 and rounded once. The elementwise ones take every shape and keep it, and
nan stays nan. All raise `TypeError` for an input that is no Tensor and `DTypeError` for one that is not floating.

They are made of NumPy functions, so derivatives of every order are exact; what a derivative is at a kink stands with each function. Two are
primitives of their own, closed under differentiation, because formulas for them that do not overflow contain ``|x|``, which has no
derivative at 0, where they have one::

    sigmoid(x)     vjp:  g y (1 - y)
    softplus(x)    vjp:  g sigmoid(x)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

import minitensor as mt
from minitensor import Tensor, primitive
from minitensor.errors import ShapeError, describe

from ..arguments import check_floating, named_axis

__all__ = [
    "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish",
    "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink",
    "threshold",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])
OnTensors = Callable[..., Tensor]
where: OnTensors = mt.where  # the same function as np.where, which is typed as giving arrays


def widen(x: Tensor) -> Tensor:
    """float16 in float32, where exponentials do not overflow and sums keep their digits; everything else as it comes."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def narrow(y: Tensor, dtype: Any) -> Tensor:
    """``y`` in ``dtype``."""
    return y if y.dtype == dtype else y.astype(dtype)


def _activation(function: F) -> F:
    """Check the input, compute float16 in float32, and give the result the input's dtype."""

    @functools.wraps(function)
    def call(input: Tensor, *args: Any, **params: Any) -> Tensor:
        check_floating(function.__name__, input)
        return narrow(function(widen(input), *args, **params), input.dtype)

    return cast(F, call)


# -- linear in pieces -----------------------------------------------------------------------------------------------------------------


@_activation
def relu(input: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0. Nair and Hinton, ICML 2010.

    >>> relu(Tensor([-1.0, 0.0, 2.0]))
    tensor([0., 0., 2.])
    """
    return where(input <= 0, 0, input)


@_activation
def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6); the derivative is 0 at 0 and at 6.

    >>> relu6(Tensor([-1.0, 2.0, 7.0]))
    tensor([0., 2., 6.])
    """
    return hardtanh(input, 0.0, 6.0)


@_activation
def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x for x > 0, else ``negative_slope`` x; the derivative at 0 is the slope. Maas et al., ICML 2013.

    >>> leaky_relu(Tensor([-1.0, 2.0]), 0.1)
    tensor([-0.1,  2. ])
    """
    return where(input > 0, input, negative_slope * input)


@_activation
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x for x > 0, else ``weight`` x: `leaky_relu` with a slope that is learned; the derivative at 0 is the slope.

    ``weight`` has one element, or one for each of the channels, which are axis 1 of the input; else `ShapeError`.
    He et al., arXiv 1502.01852.

    >>> prelu(Tensor([[-1.0, -1.0], [2.0, -3.0]]), Tensor([0.5, 0.1]))
    tensor([[-0.5, -0.1],
            [ 2. , -0.3]])
    """
    if not isinstance(weight, Tensor):
        raise TypeError(f"prelu: weight must be a Tensor, got {describe(weight)}; leaky_relu takes a number")
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.shape not in ((), (1,), (channels,)):
        raise ShapeError(f"prelu: weight must have shape (1,) or ({channels},) for an input of shape {input.shape}, got {describe(weight)}")
    slope = weight.reshape(-1, *(1,) * (input.ndim - 2)) if input.ndim > 1 else weight.reshape(())
    return where(input > 0, input, slope * input)


@_activation
def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """x for x > ``threshold``, else ``value``; the derivative at the threshold is 0.

    >>> threshold(Tensor([-1.0, 0.5, 2.0]), 0.5, 9.0)
    tensor([9., 9., 2.])
    """
    return where(input <= threshold, value, input)


@_activation
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """min(max(x, ``min_val``), ``max_val``); the derivative is 0 at both ends. `ValueError` for min_val > max_val.

    >>> hardtanh(Tensor([-2.0, 0.5, 2.0]))
    tensor([-1. ,  0.5,  1. ])
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val must not be greater than max_val, got {min_val} and {max_val}")
    return where(input <= min_val, min_val, where(input >= max_val, max_val, input))


@_activation
def hardsigmoid(input: Tensor) -> Tensor:
    """min(max(x / 6 + 1 / 2, 0), 1); the derivative is 0 at -3 and at 3.

    >>> hardsigmoid(Tensor([-4.0, 0.0, 1.5]))
    tensor([0.  , 0.5 , 0.75])
    """
    return hardtanh(input, -3.0, 3.0) / 6 + 0.5


@_activation
def hardswish(input: Tensor) -> Tensor:
    """x min(max(x / 6 + 1 / 2, 0), 1); the derivative is 0 at -3 and 1 at 3. Howard et al., arXiv 1905.02244.

    >>> hardswish(Tensor([-4.0, 0.0, 1.5]))
    tensor([-0.   ,  0.   ,  1.125])
    """
    return input * hardsigmoid(input)


@_activation
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where ``|x|`` > ``lambd``, else 0; the derivative is 0 at -lambd and lambd.

    >>> hardshrink(Tensor([-1.0, 0.3, 0.5]))
    tensor([-1.,  0.,  0.])
    """
    return where(abs(input) <= lambd, 0, input)


@_activation
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambd for x > ``lambd``, x + lambd for x < -lambd, else 0; the derivative is 0 at -lambd and lambd.

    `ValueError` for lambd < 0.

    >>> softshrink(Tensor([-1.0, 0.3, 0.75]))
    tensor([-0.5 ,  0.  ,  0.25])
    """
    if not lambd >= 0:
        raise ValueError(f"softshrink: lambd must not be negative, got {lambd}")
    return input - np.clip(input, -lambd, lambd)


# -- smooth, or with one exponential branch -------------------------------------------------------------------------------------------


@_activation
def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else ``alpha`` (exp(x) - 1); the derivatives at 0 are those from the left: alpha. Clevert et al., arXiv 1511.07289.

    >>> elu(Tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    return where(input > 0, input, alpha * np.expm1(where(input > 0, 0, input)))


@_activation
def selu(input: Tensor) -> Tensor:
    """s x for x > 0, else s a (exp(x) - 1), with a = 1.6733 and s = 1.0507, which draw mean and variance of a layer towards 0 and 1.

    The derivatives at 0 are those from the left: s a. Klambauer et al., arXiv 1706.02515.

    >>> selu(Tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return 1.0507009873554804934193349852946 * elu(input, 1.6732632423543772848170429916717)


@_activation
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else ``alpha`` (exp(x / alpha) - 1); the second derivative at 0 is that from the left: 1 / alpha.

    `ValueError` for alpha = 0. Barron, arXiv 1704.07483.

    >>> celu(Tensor([-1.0, 2.0]), 2.0)
    tensor([-0.7869,  2.    ])
    """
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0, x is divided by it")
    return where(input > 0, input, alpha * np.expm1(where(input > 0, 0, input) / alpha))


@_activation
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x) = x (1 + erf(x / sqrt(2))) / 2, Phi the distribution function of N(0, 1).

    ``approximate="tanh"`` gives x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2 instead; other words raise `ValueError`.
    Hendrycks and Gimpel, arXiv 1606.08415.

    >>> gelu(Tensor([-1.0, 2.0])), gelu(Tensor([-1.0, 2.0]), approximate="tanh")
    (tensor([-0.1587,  1.9545]), tensor([-0.1588,  1.9546]))
    """
    if approximate == "none":
        erf: Tensor = mt.erf(input * math.sqrt(0.5))
        return input * (0.5 + 0.5 * erf)
    if approximate == "tanh":
        bounded = np.clip(input, -10, 10)  # tanh is 1 long before, and the cube cannot overflow
        return input * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (bounded + 0.044715 * bounded**3)))
    raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


@_activation
def silu(input: Tensor) -> Tensor:
    """x sigmoid(x), also called swish. Elfwing et al., arXiv 1702.03118.

    >>> silu(Tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """
    return input * sigmoid(input)


@_activation
def mish(input: Tensor) -> Tensor:
    """x tanh(log(1 + exp(x))). Misra, arXiv 1908.08681.

    >>> mish(Tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.944 ])
    """
    return input * np.tanh(softplus(input))


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


logistic: OnTensors = primitive(_sigmoid, lambda g, y, _x: g * y * (1 - y))
log1pexp: OnTensors = primitive(_softplus, lambda g, _y, x: g * logistic(x))


@_activation
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow.

    >>> sigmoid(Tensor([-1000.0, 0.0, 2.0]))
    tensor([0.    , 0.5   , 0.8808])
    """
    return logistic(input)


@_activation
def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), without overflow.

    >>> logsigmoid(Tensor([-50.0, 0.0, 2.0]))
    tensor([-50.    ,  -0.6931,  -0.1269])
    """
    return -log1pexp(-input)


@_activation
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(``beta`` x)) / beta, and x itself where beta x > ``threshold``. `ValueError` for beta = 0.

    >>> softplus(Tensor([-1000.0, 0.0, 2.0]))
    tensor([0.    , 0.6931, 2.1269])
    """
    if beta == 0:
        raise ValueError("softplus: beta must not be 0, the result is divided by it")
    scaled = beta * input
    return where(scaled > threshold, input, log1pexp(scaled) / beta)


@_activation
def tanh(input: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    >>> tanh(Tensor([-1.0, 2.0]))
    tensor([-0.7616,  0.964 ])
    """
    y: Tensor = mt.tanh(input)
    return y


@_activation
def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x).

    >>> tanhshrink(Tensor([-1.0, 2.0]))
    tensor([-0.2384,  1.036 ])
    """
    return input - np.tanh(input)


@_activation
def softsign(input: Tensor) -> Tensor:
    """x / (1 + ``|x|``); the derivative at 0 is 1, the second 0.

    >>> softsign(Tensor([-1.0, 3.0]))
    tensor([-0.5 ,  0.75])
    """
    return input / (1 + abs(input))


# -- along an axis --------------------------------------------------------------------------------------------------------------------


def _check_axis(name: str, input: Tensor, axis: Any) -> None:
    if not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{name}: axis must be an int, got {axis!r}")
    if not -input.ndim <= axis < input.ndim:
        raise ShapeError(f"{name}: there is no axis {axis} in an input of shape {input.shape}")


def _cast(name: str, input: Any, axis: Any, dtype: Any) -> Tensor:
    """The input, checked, in ``dtype``."""
    cast = input.astype(dtype) if isinstance(input, Tensor) and dtype is not None else input
    check_floating(name, cast)
    _check_axis(name, cast, axis)
    if not cast.shape[axis]:
        raise ShapeError(f"{name}: axis {axis} of an input of shape {cast.shape} has no elements")
    return cast


def _below_top(x: Tensor, axis: int) -> Tensor:
    """x - max(x), so that no exponential overflows. The maximum is a constant: what follows does not change with it."""
    x = widen(x)
    return x - x.detach().max(axis=axis, keepdims=True)


@named_axis
def softmax(input: Tensor, axis: int, dtype: Any = None) -> Tensor:
    """exp(x_i) / sum_j exp(x_j), j along ``axis``, without overflow.

    An element -inf gives 0 and gets the gradient 0. A slice of nothing but -inf, or with an inf, is nan, and NumPy warns of it. The axis
    must be told: which one PyTorch picks by itself depends on the rank, and PyTorch warns of that. The input is cast to ``dtype``, if
    given, before anything else. `ShapeError` for an axis that is not there or has no elements.

    >>> softmax(Tensor([[0.0, 1000.0], [5.0, 5.0]]), axis=1)
    tensor([[0. , 1. ],
            [0.5, 0.5]])
    """
    input = _cast("softmax", input, axis, dtype)
    e: Tensor = mt.exp(_below_top(input, axis))
    return narrow(e / e.sum(axis=axis, keepdims=True), input.dtype)


@named_axis
def log_softmax(input: Tensor, axis: int, dtype: Any = None) -> Tensor:
    """x_i - log(sum_j exp(x_j)), j along ``axis``: the logarithm of `softmax`, where that itself would be 0 or 1. Arguments as there.

    >>> log_softmax(Tensor([-200.0, 5.0, 5.0]), axis=0)
    tensor([-205.6931,   -0.6931,   -0.6931])
    """
    input = _cast("log_softmax", input, axis, dtype)
    x = _below_top(input, axis)
    return narrow(x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True)), input.dtype)


@named_axis
def softmin(input: Tensor, axis: int, dtype: Any = None) -> Tensor:
    """exp(-x_i) / sum_j exp(-x_j), j along ``axis``: `softmax` of -x. Arguments as there.

    >>> softmin(Tensor([0.0, 1000.0]), axis=0)
    tensor([1., 0.])
    """
    return softmax(-_cast("softmin", input, axis, dtype), axis)


@named_axis
@_activation
def glu(input: Tensor, axis: int = -1) -> Tensor:
    """a sigmoid(b), where a and b are the two halves of the input along ``axis``, which is half as long in the result.

    `ShapeError` for an axis that is not there or whose length is odd. Dauphin et al., arXiv 1612.08083.

    >>> glu(Tensor([1.0, 2.0, 0.0, 1000.0]))
    tensor([0.5, 2. ])
    """
    _check_axis("glu", input, axis)
    if input.shape[axis] % 2:
        raise ShapeError(f"glu: axis {axis} must have an even length to be halved, got an input of shape {input.shape}")
    a, b = mt.split(input, 2, axis=axis)
    gated: Tensor = a * sigmoid(b)
    return gated
