"""Losses: how far an input is from a target. As ``torch.nn.functional``.

``reduction`` says what becomes of the losses of the elements: ``"none"`` gives them as they are, ``"sum"`` their sum, ``"mean"`` the sum
divided by their number, which over no elements is nan, as in PyTorch. Another word raises `ValueError`.

Input and target have the same shape, else `ShapeError`: nothing is broadcast. (PyTorch broadcasts and warns: the loss between (N, 1) and
(N,) is one of N * N pairs.) Losses of classes say themselves which targets they take. A target is a Tensor or an array; integers and
booleans count as numbers of the input's dtype, and a floating target that requires grad gets its gradient. A ``weight`` of the elements
broadcasts to the input's shape.

The loss has the input's dtype; float16 is computed in float32 and rounded once. All raise `TypeError` for an input that is no Tensor,
`DTypeError` for one that is not floating, `DeviceError` for a target or weight on another device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minitensor as mt
from minitensor import Tensor, primitive
from minitensor.errors import DeviceError, DTypeError, ShapeError, describe

from ..arguments import check_floating
from .activation import OnTensors, log1pexp, log_softmax, narrow, where, widen

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss",
    "smooth_l1_loss",
]  # fmt: skip

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(name: str, reduction: Any, known: tuple[str, ...] = REDUCTIONS) -> None:
    """Refuse a reduction that is not ``known``."""
    if reduction not in known:
        raise ValueError(f"{name}: reduction must be {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, got {reduction!r}")


def check_ignore_index(name: str, ignore_index: Any) -> None:
    """Refuse what is no int: a boolean would ignore class 0 or 1."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(
            f"{name}: ignore_index must be an int, got {ignore_index!r}; PyTorch's old size_average=, which stood before it, is left out"
        )


def _reduced(name: str, losses: Tensor, reduction: str, dtype: Any, share: Tensor | None = None) -> Tensor:
    """The losses, their sum, or their mean: the sum divided by ``share``, or else by the number of elements."""
    check_reduction(name, reduction)
    if reduction == "none":
        return narrow(losses, dtype)
    total = losses.sum()
    if reduction == "mean":  # a number / nan is nan without the warning that NumPy has for 0 / 0
        total = total / (losses.size or math.nan) if share is None else total / where(share == 0, math.nan, share)
    return narrow(total, dtype)


def _beside(name: str, input: Tensor, what: str, other: Any) -> Tensor:
    """A target or weight as a Tensor on the input's device; Python floats take the input's dtype."""
    if not isinstance(other, Tensor):
        given = Tensor(other, device=input.device)
        if given.dtype.kind == "c":
            raise DTypeError(f"{name}: {what} must be real numbers, got {describe(given)}")
        return given if hasattr(other, "dtype") or given.dtype.kind != "f" else Tensor(other, input.dtype, input.device)
    if other.device != input.device:
        raise DeviceError(f"{name}: input is on {input.device!r}, {what} on {other.device!r}; move one of them with .to(device)")
    return other


def _pair(name: str, input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Input and target of one shape, as numbers to compute with."""
    check_floating(name, input)
    target = _beside(name, input, "target", target)
    if target.shape != input.shape:
        raise ShapeError(f"{name}: input and target must have the same shape, got {describe(input)} and {describe(target)}; reshape one")
    if target.dtype.kind not in "fiub":
        raise DTypeError(f"{name}: target must be real numbers, got {describe(target)}")
    x = widen(input)
    return x, widen(target) if target.dtype.kind == "f" else target.astype(x.dtype)


def _weights(name: str, input: Tensor, weight: Any, what: str = "weight") -> Tensor:
    """One weight per element of the input."""
    weight = _beside(name, input, what, weight)
    try:
        weights: Tensor = mt.broadcast_to(widen(weight), input.shape)
    except ShapeError:
        raise ShapeError(f"{name}: {what} must broadcast to the input, got {describe(weight)} for {describe(input)}") from None
    return weights


def _scaled(name: str, values: Tensor, input: Tensor, weight: Any, what: str = "weight") -> Tensor:
    """The values times their weights, if there are any."""
    return values if weight is None else _weights(name, input, weight, what) * values


# -- of numbers -----------------------------------------------------------------------------------------------------------------------


def mse_loss(input: Tensor, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """(x - t)**2. With weights w, w (x - t)**2, and the mean is the sum divided by the sum of the weights.

    >>> mse_loss(Tensor([1.0, 2.0]), [0.0, 4.0])
    tensor(2.5)
    """
    x, t = _pair("mse_loss", input, target)
    d = x - t
    return _weighted("mse_loss", d * d, reduction, input, weight)


def l1_loss(input: Tensor, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """``|x - t|``; the derivative at x = t is 0. Weights as in `mse_loss`.

    >>> l1_loss(Tensor([1.0, 2.0]), [0.0, 4.0])
    tensor(1.5)
    """
    x, t = _pair("l1_loss", input, target)
    return _weighted("l1_loss", abs(x - t), reduction, input, weight)


def _weighted(name: str, losses: Tensor, reduction: str, input: Tensor, weight: Any) -> Tensor:
    """As `_reduced`, but the mean is that of the weighted elements."""
    share = None if weight is None else _weights(name, input, weight).sum()
    return _reduced(name, _scaled(name, losses, input, weight), reduction, input.dtype, share)


def huber_loss(input: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    """d**2 / 2 for ``|d|`` < ``delta``, else delta (``|d|`` - delta / 2), with d = x - t; the second derivative at ``|d|`` = delta is 0.

    With weights, each loss is multiplied by its weight; the mean is still divided by the number of elements, as in PyTorch.
    `ValueError` unless delta > 0. Huber, "Robust estimation of a location parameter", 1964.

    >>> huber_loss(Tensor([0.5, 3.0]), [0.0, 0.0], reduction="none")
    tensor([0.125, 2.5  ])
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    x, t = _pair("huber_loss", input, target)
    return _reduced("huber_loss", _scaled("huber_loss", _huber(x - t, delta), input, weight), reduction, input.dtype)


def _huber(d: Tensor, delta: float) -> Tensor:
    if delta == math.inf:
        return d * d / 2
    bounded = where(abs(d) < delta, d, delta * np.sign(d.detach()))  # no square that could overflow
    return bounded * (d - bounded / 2)


def smooth_l1_loss(input: Tensor, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d**2 / (2 ``beta``) for ``|d|`` < beta, else ``|d|`` - beta / 2, with d = x - t.

    That is `huber_loss` divided by its delta; beta = 0 is `l1_loss`. The second derivative at ``|d|`` = beta is 0. `ValueError` for
    beta < 0. Girshick, arXiv 1504.08083.

    >>> smooth_l1_loss(Tensor([0.5, 3.0]), [0.0, 0.0], reduction="none")
    tensor([0.125, 2.5  ])
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    x, t = _pair("smooth_l1_loss", input, target)
    return _reduced("smooth_l1_loss", _huber(x - t, beta) / beta if beta else abs(x - t), reduction, input.dtype)


# -- of probabilities -----------------------------------------------------------------------------------------------------------------


def _logs(x: Any) -> tuple[Any, Any]:
    """log(x) and log(1 - x), neither below -100, so that a loss stays finite."""
    zero, one = x == 0, x == 1
    return (
        np.where(zero, -100, np.maximum(np.log(np.where(zero, 1, x)), -100)),
        np.where(one, -100, np.log1p(-np.where(one, 0, x))),
    )


def _bce(x: Any, t: Any) -> Any:
    log_x, log_1_x = _logs(x)
    return -(t * log_x + (1 - t) * log_1_x)


def _bce_to_target(g: Any, _y: Any, x: Any, _t: Any) -> Any:
    log_x, log_1_x = _logs(x)
    return g * (log_1_x - log_x)


# A primitive, because the derivative of a logarithm that is cut off would be 0 where the loss is largest; 1e-12 is PyTorch's
bce: OnTensors = primitive(_bce, lambda g, _y, x, t: g * (x - t) / np.maximum(x * (1 - x), 1e-12), _bce_to_target)


def binary_cross_entropy(input: Tensor, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """-(t log(x) + (1 - t) log(1 - x)), for probabilities x and t; each logarithm is at least -100.

    The derivative is (x - t) / (x (1 - x)), where the denominator is at least 1e-12, also at x = 0 and x = 1: both bounds are PyTorch's.
    `ValueError` for an input or target that is not between 0 and 1. From logits, `binary_cross_entropy_with_logits` is exact.

    >>> binary_cross_entropy(Tensor([0.5, 0.9, 0.0]), [1, 1, 1], reduction="none")
    tensor([  0.6931,   0.1054, 100.    ])
    """
    name = "binary_cross_entropy"
    x, t = _pair(name, input, target)
    for what, p in (("input", x), ("target", t)):
        if not np.all((p >= 0) & (p <= 1)):
            raise ValueError(
                f"{name}: {what} must be between 0 and 1, got {float(p.min())} to {float(p.max())}; "
                "binary_cross_entropy_with_logits takes logits"
            )
    return _reduced(name, _scaled(name, bce(x, t), input, weight), reduction, input.dtype)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """-(p t log(s) + (1 - t) log(1 - s)), with s = sigmoid(x) and p = ``pos_weight``, which broadcasts to the input.

    p > 1 makes a positive that is missed cost more than a false alarm.

    >>> binary_cross_entropy_with_logits(Tensor([0.0, 200.0, -200.0]), [1, 1, 1], reduction="none")
    tensor([  0.6931,   0.    , 200.    ])
    """
    name = "binary_cross_entropy_with_logits"
    x, t = _pair(name, input, target)
    losses = _scaled(name, t, input, pos_weight, "pos_weight") * log1pexp(-x) + (1 - t) * log1pexp(x)
    return _reduced(name, _scaled(name, losses, input, weight), reduction, input.dtype)


def kl_div(input: Tensor, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (log(t) - x), the terms of the Kullback-Leibler divergence of exp(x) from t; note that x is the *logarithm* of a probability.

    With ``log_target`` the target is one too: exp(t) (t - x). Where the probability t is 0, so are the term and its derivatives (that
    in t is infinite, and 0 stands for it). A negative one gives nan, and NumPy warns.

    The divergence itself is the sum over the events: ``reduction="batchmean"``, the sum divided by the length of axis 0, is its mean over
    a batch. ``"mean"`` divides by the number of events too.

    >>> x, t = Tensor([[0.5, 0.5]]), [[1.0, 0.0]]
    >>> kl_div(np.log(x), t, reduction="batchmean")     # log(2)
    tensor(0.6931)
    """
    check_reduction("kl_div", reduction, (*REDUCTIONS, "batchmean"))
    x, t = _pair("kl_div", input, target)
    impossible = t == (-math.inf if log_target else 0)
    t = where(impossible, 1, t)  # what log or exp makes of it would be infinite, and 0 * inf nan, also on the way back
    p, log_p = (mt.exp(t), t) if log_target else (t, mt.log(t))
    losses: Tensor = p * where(impossible, 0, log_p - x)
    if reduction != "batchmean":
        return _reduced("kl_div", losses, reduction, input.dtype)
    return narrow(losses.sum() / ((input.shape[0] or math.nan) if input.ndim else 1), input.dtype)


# -- of classes -----------------------------------------------------------------------------------------------------------------------


def nll_loss(input: Tensor, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-w_t x_t, where x_t is the element of the class t, whose *logarithm* of a probability it should be, and w_t the class's weight.

    Shapes: input (C,), (N, C) or (N, C, d1, ...) for C classes; target, of integers from 0 to C - 1, the same without C; weight (C,).
    Where the target is ``ignore_index`` the loss is 0. The mean is the sum divided by the sum of the w_t of targets not ignored: without
    any, nan. Raises `DTypeError` for a target that is not of integers, `IndexError` for a class that is not there.

    >>> nll_loss(Tensor([[-0.1, -2.0], [-3.0, -0.5]]), [0, 1])
    tensor(0.3)
    """
    axis = _class_axis("nll_loss", input)
    classes, kept = _classes("nll_loss", input, axis, _beside("nll_loss", input, "target", target), ignore_index)
    losses, share = _at_classes(widen(input), axis, classes, kept, _class_weights("nll_loss", input, axis, weight))
    return _reduced("nll_loss", losses, reduction, input.dtype, share)


def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-sum_c q_c w_c log softmax(x)_c, for logits x, probabilities q of the classes c and their weights w.

    Shapes: input (C,), (N, C) or (N, C, d1, ...) for C classes; weight (C,). The target is either

    - classes: integers from 0 to C - 1 of the input's shape without C. q is 1 at the class and else 0. ``ignore_index`` and the mean are
      those of `nll_loss`;
    - or probabilities: floating numbers q of the input's shape. The mean is over N, d1, ...

    ``label_smoothing`` s between 0 and 1 puts (1 - s) q + s / C in the place of q. Softmax and logarithm are one step, so large logits do
    no harm. Raises `DTypeError` for a target whose dtype does not go with its shape, `IndexError` for a class that is not there,
    `ValueError` for an ``ignore_index`` from 0 on with probabilities. Label smoothing: Szegedy et al., arXiv 1512.00567.

    >>> cross_entropy(Tensor([[0.0, 0.0], [0.0, 200.0]]), [0, 0], reduction="none")
    tensor([  0.6931, 200.    ])
    """
    name = "cross_entropy"
    axis = _class_axis(name, input)
    target = _beside(name, input, "target", target)
    weight = _class_weights(name, input, axis, weight)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing must be between 0 and 1, got {label_smoothing}")
    log_p = log_softmax(widen(input), axis)
    even = label_smoothing / input.shape[axis]
    if target.dtype.kind == "f" and target.shape == input.shape:
        check_ignore_index(name, ignore_index)
        if ignore_index >= 0:
            raise ValueError(f"{name}: ignore_index names a class, but the target has probabilities: {describe(target)}")
        q = (1 - label_smoothing) * widen(target) + even
        return _reduced(name, -_over_classes(q * log_p, axis, weight), reduction, input.dtype)
    classes, kept = _classes(name, input, axis, target, ignore_index)
    losses, share = _at_classes(log_p, axis, classes, kept, weight)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - even * where(kept, _over_classes(log_p, axis, weight), 0)
    return _reduced(name, losses, reduction, input.dtype, share)


def _class_axis(name: str, input: Any) -> int:
    check_floating(name, input)
    axis = 0 if input.ndim == 1 else 1
    if not input.ndim or not input.shape[axis]:
        raise ShapeError(f"{name}: input must have shape (C,), (N, C) or (N, C, d1, ...) with C > 0 classes, got {describe(input)}")
    return axis


def _class_weights(name: str, input: Tensor, axis: int, weight: Any) -> Tensor | None:
    if weight is None:
        return None
    weight = _beside(name, input, "weight", weight)
    if weight.shape != (input.shape[axis],):
        raise ShapeError(f"{name}: weight must have one element per class, ({input.shape[axis]},), got {describe(weight)}")
    return widen(weight) if weight.dtype.kind == "f" else weight.astype(widen(input).dtype)  # unsigned ones have no negative


def _classes(name: str, input: Tensor, axis: int, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The class of each element, 0 where it is ignored, and which are not."""
    check_ignore_index(name, ignore_index)
    shape = input.shape[:axis] + input.shape[axis + 1 :]
    if target.dtype.kind not in "iu" or target.shape != shape:
        kind = DTypeError if target.dtype.kind not in "iu" else ShapeError
        other = f", or floating probabilities of shape {input.shape}" if name == "cross_entropy" else ""
        raise kind(f"{name}: for an input {describe(input)} the target must be integers of shape {shape}{other}, got {describe(target)}")
    unsigned, target = target.dtype.kind == "u", target.astype(np.int64)
    kept = (target != ignore_index) | (unsigned and ignore_index < 0)  # the largest unsigned numbers are negative now
    classes = where(kept, target, 0)
    count = input.shape[axis]
    if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < count:
        raise IndexError(
            f"{name}: an input {describe(input)} has the classes 0 to {count - 1}, the target {describe(target)} has "
            f"{int(classes.min())} to {int(classes.max())}; only ignore_index, {ignore_index}, may be outside"
        )
    return classes, kept


def _at_classes(log_p: Tensor, axis: int, classes: Tensor, kept: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """-w_t log_p_t, 0 where it is ignored, and the sum of the w_t that are not."""
    at_class = mt.take_along_axis(log_p, mt.expand_dims(classes, axis), axis=axis).squeeze(axis)
    weights = kept.astype(log_p.dtype) if weight is None else where(kept, weight[classes], 0)
    return where(kept, -weights * at_class, 0), weights.sum()


def _over_classes(terms: Tensor, axis: int, weight: Tensor | None) -> Tensor:
    """The weighted sum over the classes."""
    if weight is not None:
        terms = terms * weight.reshape(-1, *(1,) * (terms.ndim - 1 - axis))
    return terms.sum(axis=axis)
