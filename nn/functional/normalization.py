"""Normalisation as functions of the parameters. As ``torch.nn.functional``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitensor import Tensor, no_grad, ones, zeros
from minitensor.errors import DTypeError, ShapeError, describe

from ..norm import formulas, primitives

__all__ = ["instance_norm"]


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    backward: str | Callable[..., Any] = "analytic",
) -> Tensor:
    """``y = (x - mu) / sqrt(v + eps) * weight + bias``, with the mean mu and biased variance v of each instance and channel.

    Shapes: input (N, C, S...) with at least one spatial axis; ``weight`` and ``bias`` (C,) or one style per instance, (N, C); the
    running statistics (C,). Statistics are taken from the input, or, without ``use_input_stats``, from the running ones. With
    both, running statistics move to ``(1 - momentum) old + momentum new``, where new is the mean over the batch of mu and of the
    *unbiased* variance, v m / (m - 1). float16 and float32 are computed in float64 and rounded once, to the input's dtype.

    ``backward`` says who differentiates: ``"analytic"``, the closed form dx = r (h - mean(h) - x_hat mean(h x_hat)) with h = weight g
    and r = 1 / sqrt(v + eps); ``"autograd"``, the rules of mean, subtraction, multiplication, sqrt and division alone; or your own,
    ``(x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)`` in NumPy, with gamma and beta of shape (C,).

    Raises `ShapeError` for a rank, channel count or slice of one element that cannot be normalised, `DTypeError` for numbers that
    are not floating. Source: Ulyanov et al., arXiv 1607.08022; ``torch.nn.functional.instance_norm``.

    >>> x = Tensor([[[1.0, 2.0, 3.0]]])
    >>> instance_norm(x)
    tensor([[[-1.2247,  0.    ,  1.2247]]])
    """
    _check(input, running_mean, running_var, weight, bias, use_input_stats, eps)
    if backward not in ("analytic", "autograd") and not callable(backward):
        raise ValueError(f"backward must be 'analytic', 'autograd' or a function, got {backward!r}")
    axes = tuple(range(2, input.ndim))
    if not use_input_stats:
        mean, var = (formulas.widen(_per_channel(buffer, input)) for buffer in (running_mean, running_var))
        x_hat = (formulas.widen(input) - mean) / np.sqrt(var + eps)
        return Tensor.astype(formulas.affine(x_hat, _per_channel(weight, input), _per_channel(bias, input)), input.dtype)
    y: Tensor
    if callable(backward):
        y = _with_own_backward(input, weight, bias, axes, eps, backward)
    else:
        way = primitives.normalize if backward == "analytic" else formulas.normalize
        y = way(input, _per_channel(weight, input), _per_channel(bias, input), axes=axes, eps=eps)
    if running_mean is not None and running_var is not None and input.size:
        _update(running_mean, running_var, input.detach(), axes, momentum)
    return y


def _with_own_backward(x: Tensor, weight: Any, bias: Any, axes: tuple[int, ...], eps: float, backward: Callable[..., Any]) -> Any:
    channels: dict[str, Any] = {"dtype": x.dtype, "device": x.device}
    gamma = ones(x.shape[1], **channels) if weight is None else weight
    beta = zeros(x.shape[1], **channels) if bias is None else bias
    for name, parameter in (("weight", gamma), ("bias", beta)):
        if parameter.ndim != 1:
            raise ShapeError(f"instance_norm: a backward of your own needs {name} of shape (C,), got {parameter.shape}")
    return primitives.normalize_with(backward, axes, eps)(x, gamma, beta)


def _per_channel(parameter: Tensor | None, x: Tensor) -> Any:
    """(C,) or (N, C) as an array that broadcasts against (N, C, S...)."""
    if parameter is None:
        return None
    batch = parameter.shape[0] if parameter.ndim == 2 else 1
    return parameter.reshape(batch, x.shape[1], *(1,) * (x.ndim - 2))


def _update(running_mean: Tensor, running_var: Tensor, x: Tensor, axes: tuple[int, ...], momentum: float) -> None:
    m = math.prod(x.shape[2:])
    wide = formulas.widen(x)
    c = formulas.centre(wide, axes)
    with no_grad():
        for buffer, new in ((running_mean, np.mean(wide, axis=axes)), (running_var, np.sum(c * c, axis=axes) / (m - 1))):
            buffer[...] = (1 - momentum) * formulas.widen(buffer) + momentum * np.mean(new, axis=0)


def _check(x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, use_input_stats: bool, eps: float) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"instance_norm: a Tensor is needed, got {describe(x)}; mt.tensor(array) makes one")
    if not eps >= 0:
        raise ValueError(f"instance_norm: eps must not be negative, got {eps}")
    if x.ndim < 3:
        raise ShapeError(f"instance_norm: (N, C, S...) with at least one spatial axis is needed, got shape {x.shape}")
    if x.dtype.kind != "f":
        raise DTypeError(f"instance_norm: floating numbers are needed, got {describe(x)}; use x.astype(mt.float32)")
    n, c = x.shape[:2]
    for name, parameter, shapes in (
        ("weight", weight, ((c,), (n, c))),
        ("bias", bias, ((c,), (n, c))),
        ("running_mean", running_mean, ((c,),)),
        ("running_var", running_var, ((c,),)),
    ):
        if parameter is not None and parameter.shape not in shapes:
            expected = " or ".join(map(str, shapes))
            raise ShapeError(f"instance_norm: {name} must have shape {expected} for an input of shape {x.shape}, got {parameter.shape}")
    for name, buffer in (("running_mean", running_mean), ("running_var", running_var)):
        if buffer is not None and buffer.requires_grad:
            raise ValueError(f"instance_norm: {name} must not require grad: no gradient flows through running statistics")
    if (running_mean is None) != (running_var is None):
        raise ValueError("instance_norm: running_mean and running_var come together, or not at all")
    if not use_input_stats and running_mean is None:
        raise ValueError("instance_norm: without use_input_stats, running_mean and running_var are needed")
    if use_input_stats and math.prod(x.shape[2:]) == 1:
        raise ShapeError(
            f"instance_norm: each slice of an input of shape {x.shape} has one element, whose variance says nothing; more are needed"
        )
