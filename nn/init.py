"""Initial values: each function gives a Tensor or Parameter new values, recorded by nothing, and returns it. As ``torch.nn.init``.

Shape, dtype, device and ``requires_grad`` stay. A graph recorded before keeps the old values. ``generator`` is a
`numpy.random.Generator`; without one, the random numbers are those that `minitensor.manual_seed` seeds. They are drawn in float64 on the
CPU, so that a seed gives the same weights on every device, and rounded to the Tensor's dtype.

Weights have the shape ``(out, in, *kernel)``. With k the product of the kernel's lengths, fan_in = in * k is the number of inputs that one
output sums, and fan_out = out * k.

All raise `TypeError` for what is not a Tensor, `DTypeError` for a Tensor that is not floating, `GraphError` for one that an operation made.
"""

from __future__ import annotations

import difflib
import math
from typing import Any, TypeAlias, TypeVar

import numpy as np

from minitensor import Tensor
from minitensor.creation import default_generator
from minitensor.errors import DTypeError, ShapeError, describe

__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "orthogonal_", "sparse_",
    "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip

T = TypeVar("T", bound=Tensor)
Generator: TypeAlias = "np.random.Generator | None"  # in quotes: NumPy loads its random numbers when they are asked for

GAINS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"), 1.0),
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": None,  # depends on its slope
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The gain: the factor by which weights are scaled to make up for what a nonlinearity takes from the variance.

    ===================== =============================
    linear, conv, sigmoid 1
    tanh                  5 / 3
    relu                  sqrt(2)
    leaky_relu            sqrt(2 / (1 + slope**2))
    selu                  3 / 4
    ===================== =============================

    ``param`` is the slope of leaky_relu, 0.01 by default. Raises `ValueError` for other names.

    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    if nonlinearity not in GAINS:
        near = difflib.get_close_matches(str(nonlinearity), GAINS, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"calculate_gain: nonlinearity {nonlinearity!r} is unknown{guess or '; there are ' + ', '.join(GAINS)}")
    gain = GAINS[nonlinearity]
    if gain is not None:
        return gain
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, (int, float, np.number)):
        raise ValueError(f"calculate_gain: the slope of leaky_relu must be a number, got {slope!r}")
    return math.sqrt(2 / (1 + slope**2))


# -- random numbers -------------------------------------------------------------------------------------------------------------------


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> T:
    """x ~ U(a, b), which rounding to the dtype may take to b itself. Raises `ValueError` unless a <= b.

    >>> import minitensor as mt
    >>> bool((np.abs(uniform_(mt.zeros(100), -1, 1)) <= 1).all())
    True
    """
    shape = _shape("uniform_", tensor)
    if not a <= b:
        raise ValueError(f"uniform_: a <= b is needed, got a = {a}, b = {b}")
    return _fill(tensor, _random(generator).uniform(a, b, shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> T:
    """x ~ N(mean, std**2). Raises `ValueError` for a negative std.

    >>> import minitensor as mt
    >>> mt.manual_seed(0)
    >>> normal_(mt.zeros(3), std=0.01)
    tensor([ 0.0013, -0.0013,  0.0064])
    """
    shape = _shape("normal_", tensor)
    if not std >= 0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return _fill(tensor, _random(generator).normal(mean, std, shape))


def trunc_normal_(tensor: T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator = None) -> T:
    """x ~ N(mean, std**2) given a <= x <= b: x = mean + std * Phi^-1(u), u uniform from Phi((a - mean) / std) to Phi((b - mean) / std).

    Phi is the distribution function of N(0, 1). The bounds are absolute, not in units of std, and hold as rounded to the dtype. Unlike
    PyTorch's, the distribution is exact however far the mean is from [a, b]. Raises `ValueError` unless a <= b and std > 0, and where
    [a, b] lies more than 37 std from the mean, which float64 cannot tell from impossible.

    >>> import minitensor as mt
    >>> bool((np.abs(trunc_normal_(mt.zeros(100), std=2.0)) <= 2).all())
    True
    """
    from statistics import NormalDist  # here, because it loads decimal and fractions

    shape = _shape("trunc_normal_", tensor)
    if not a <= b or not std > 0:
        raise ValueError(f"trunc_normal_: a <= b and std > 0 are needed, got a = {a}, b = {b}, std = {std}")
    below, above = (a - mean) / std, (b - mean) / std
    side = -1 if below > 0 else 1  # the upper tail by its mirror image: Phi is exact near 0 and rounded near 1
    low, high = sorted(math.erfc(-side * bound / math.sqrt(2)) / 2 for bound in (below, above))
    smallest, largest = float(np.finfo(np.float64).tiny), 1 - float(np.finfo(np.float64).epsneg)  # Phi^-1 is infinite at 0 and 1
    if high < smallest:
        raise ValueError(f"trunc_normal_: [a, b] = [{a}, {b}] is more than 37 std from the mean, got mean = {mean}, std = {std}")
    u = np.clip(_random(generator).uniform(low, high, shape), smallest, largest)
    values = mean + side * std * np.vectorize(NormalDist().inv_cdf, [np.float64])(u)
    return _fill(tensor, np.clip(values, a, b))  # a rounding error beyond the bounds


# -- numbers that are known -------------------------------------------------------------------------------------------------------------


def constant_(tensor: T, val: float) -> T:
    """x = val.

    >>> import minitensor as mt
    >>> constant_(mt.zeros(2), 0.5)
    tensor([0.5, 0.5])
    """
    return _fill(tensor, np.full(_shape("constant_", tensor), val))


def ones_(tensor: T) -> T:
    """x = 1.

    >>> import minitensor as mt
    >>> ones_(mt.zeros(2))
    tensor([1., 1.])
    """
    return constant_(tensor, 1)


def zeros_(tensor: T) -> T:
    """x = 0.

    >>> import minitensor as mt
    >>> zeros_(mt.ones(2))
    tensor([0., 0.])
    """
    return constant_(tensor, 0)


def eye_(tensor: T) -> T:
    """1 on the diagonal of a matrix, 0 elsewhere: a linear layer that hands on its inputs. Raises `ShapeError` unless there are 2 axes.

    >>> import minitensor as mt
    >>> eye_(mt.zeros(2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    rows, columns = _shape("eye_", tensor, 2, 2)
    return _fill(tensor, np.eye(rows, columns))


def dirac_(tensor: T, groups: int = 1) -> T:
    """1 at the kernel's centre from channel i to channel i, 0 elsewhere: a convolution that hands on its inputs, in each group anew.

    The weight has the shape ``(out, in / groups, *kernel)`` and 3, 4 or 5 axes. Raises `ShapeError` for another number of axes,
    `ValueError` unless ``groups`` is positive and divides out.

    >>> import minitensor as mt
    >>> dirac_(mt.zeros(2, 2, 3)).tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    out, channels, *kernel = _shape("dirac_", tensor, 3, 5)
    if groups < 1 or out % groups:
        raise ValueError(f"dirac_: groups must be positive and divide the first axis of {describe(tensor)}, got groups = {groups}")
    values = np.zeros((groups, out // groups, channels, *kernel))
    same = np.arange(min(out // groups, channels))
    centre: list[Any] = [slice(n // 2, n // 2 + 1) for n in kernel]
    values[:, same, same, *centre] = 1
    return _fill(tensor, values.reshape(tensor.shape))


# -- random numbers scaled by the fans ----------------------------------------------------------------------------------------------------


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator = None) -> T:
    """x ~ U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)): the variance of `xavier_normal_`.

    >>> import minitensor as mt
    >>> bool((np.abs(xavier_uniform_(mt.zeros(2, 4))) <= 1).all())    # sqrt(6 / 6) = 1
    True
    """
    bound = math.sqrt(3) * _xavier_std("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator = None) -> T:
    """x ~ N(0, std**2), std = gain * sqrt(2 / (fan_in + fan_out)).

    A compromise between keeping the variance of the outputs (1 / fan_in) and that of the gradients (1 / fan_out). Raises `ShapeError` for
    fewer than 2 axes. Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    >>> import minitensor as mt
    >>> mt.manual_seed(0)
    >>> print(f"{xavier_normal_(mt.zeros(300, 500)).std():.3f}")    # sqrt(2 / 800) = 0.050
    0.050
    """
    return normal_(tensor, 0.0, _xavier_std("xavier_normal_", tensor, gain), generator)


def kaiming_uniform_(tensor: T, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None) -> T:
    """x ~ U(-bound, bound), bound = gain * sqrt(3 / fan): the variance of `kaiming_normal_`, and its arguments.

    >>> import minitensor as mt
    >>> bool((np.abs(kaiming_uniform_(mt.zeros(5, 6), nonlinearity="relu")) <= 1).all())    # sqrt(2) * sqrt(3 / 6) = 1
    True
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: T, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None) -> T:
    """x ~ N(0, std**2), std = gain / sqrt(fan), gain = `calculate_gain` (nonlinearity, a).

    ``mode="fan_in"`` keeps the variance of the outputs, ``"fan_out"`` that of the gradients; ``a`` is the slope of leaky_relu. Raises
    `ShapeError` for fewer than 2 axes, `ValueError` for another mode or nonlinearity. He, Zhang, Ren and Sun, "Delving deep into
    rectifiers", ICCV 2015, arXiv 1502.01852.

    >>> import minitensor as mt
    >>> mt.manual_seed(0)
    >>> print(f"{kaiming_normal_(mt.zeros(300, 200), nonlinearity='relu').std():.2f}")    # sqrt(2 / 200) = 0.10
    0.10
    """
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


# -- random matrices ----------------------------------------------------------------------------------------------------------------------


def orthogonal_(tensor: T, gain: float = 1, generator: Generator = None) -> T:
    """W = gain * Q with Q^T Q = I or Q Q^T = I, whichever fits; uniformly distributed. Axes beyond the first count as one.

    Q R = A with normal A, and each column of Q takes the sign of the diagonal of R, which makes the distribution uniform (Mezzadri,
    arXiv math-ph/0609050). Raises `ShapeError` for fewer than 2 axes. Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks", ICLR 2014, arXiv 1312.6120.

    >>> import minitensor as mt
    >>> w = orthogonal_(mt.zeros(2, 5))
    >>> bool(np.allclose(w @ w.T, np.eye(2), atol=1e-6))
    True
    """
    rows, *rest = _shape("orthogonal_", tensor, 2)
    columns = math.prod(rest)
    q, r = np.linalg.qr(_random(generator).standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diagonal(r))
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(rows, *rest))


def sparse_(tensor: T, sparsity: float, std: float = 0.01, generator: Generator = None) -> T:
    """x ~ N(0, std**2), with ceil(sparsity * rows) elements of each column, drawn at random, set to 0.

    Raises `ShapeError` unless there are 2 axes, `ValueError` unless 0 <= sparsity <= 1. Martens, "Deep learning via Hessian-free
    optimization", ICML 2010.

    >>> import minitensor as mt
    >>> np.sum(sparse_(mt.zeros(4, 3), sparsity=0.5) == 0, axis=0)
    tensor([2, 2, 2])
    """
    shape = _shape("sparse_", tensor, 2, 2)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: 0 <= sparsity <= 1 is needed, got {sparsity}")
    random = _random(generator)
    ranks = random.permuted(np.broadcast_to(np.arange(shape[0])[:, None], shape), axis=0)
    return _fill(tensor, np.where(ranks < math.ceil(sparsity * shape[0]), 0.0, random.normal(0.0, std, shape)))


# -- what they share ----------------------------------------------------------------------------------------------------------------------


def _shape(name: str, tensor: Tensor, fewest: int = 0, most: float = math.inf) -> tuple[int, ...]:
    """The shape of a Tensor that can be filled and has between ``fewest`` and ``most`` axes."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: a Tensor is needed, got {describe(tensor)}")
    if tensor.dtype.kind != "f":
        raise DTypeError(f"{name}: a floating Tensor is needed, got {describe(tensor)}; use .astype(mt.float32)")
    if not fewest <= tensor.ndim <= most:
        needed = f"{fewest}" if fewest == most else f"{fewest} or more" if most == math.inf else f"{fewest} to {most}"
        raise ShapeError(f"{name}: {needed} axes are needed, got {describe(tensor)}")
    return tensor.shape


def _random(generator: Generator) -> np.random.Generator:
    if generator is None:
        return default_generator()
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"generator: a numpy.random.Generator such as np.random.default_rng(0) is needed, got {describe(generator)}")
    return generator


def _fill(tensor: T, values: Any) -> T:
    tensor.data = values  # rebinds, casts to the Tensor's dtype and moves to its device
    return tensor


def _fans(name: str, tensor: Tensor) -> dict[str, int]:
    out, channels, *kernel = _shape(name, tensor, 2)
    k = math.prod(kernel)
    return {"fan_in": channels * k, "fan_out": out * k}


def _xavier_std(name: str, tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / max(1, sum(_fans(name, tensor).values())))  # a weight without elements has no fan, and needs no std


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = _fans(name, tensor)
    if mode not in fans:
        raise ValueError(f"{name}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fans[mode]))
