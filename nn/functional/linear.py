"""The linear map as a function of its parameters. As ``torch.nn.functional``."""

from __future__ import annotations

import math

import numpy as np

from minitensor import Tensor
from minitensor.errors import ShapeError, describe

from ..arguments import check_floating
from .activation import narrow, widen

__all__ = ["linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x A^T + b, with A = ``weight`` and b = ``bias``.

    Shapes: input (..., in), weight (out, in), bias (out,), y (..., out). A weight of shape (in,) has a scalar as its bias and gives y of
    shape (...). The dtype of y is NumPy's promotion of the three; float16 is computed in float32 and rounded once. Raises `TypeError` for
    what is no Tensor, `DTypeError` for what is not floating, `ShapeError` for shapes that do not fit: a bias is not broadcast over
    outputs. As ``torch.nn.functional.linear``.

    >>> linear(Tensor([[1.0, 2.0]]), Tensor([[1.0, 1.0], [1.0, -1.0], [0.0, 2.0]]), Tensor([0.0, 10.0, 0.0]))
    tensor([[3., 9., 4.]])
    """
    given = {"input": input, "weight": weight} | ({} if bias is None else {"bias": bias})
    for name, tensor in given.items():
        check_floating("linear", tensor, name)
    problem = ""
    if weight.ndim not in (1, 2) or not input.ndim or input.shape[-1] != weight.shape[-1]:
        problem = "input (..., in) and weight (out, in) must have the same last axis"
    elif bias is not None and bias.shape != weight.shape[:-1]:
        problem = f"bias must have the shape {weight.shape[:-1]} of the outputs"
    if problem:
        raise ShapeError(f"linear: {problem}, got {', '.join(f'{name} {describe(tensor)}' for name, tensor in given.items())}")
    batch, features = input.shape[:-1], input.shape[-1]
    x = widen(input)  # and with it weight and bias, as NumPy promotes them
    # One matrix product: a stack of them would give the weight a gradient per matrix, to be summed
    rows = x.reshape(math.prod(batch), features) if len(batch) > 1 else x
    y = rows @ weight.T
    y = y if bias is None else y + bias
    y = y.reshape(*batch, *weight.shape[:-1]) if len(batch) > 1 else y
    return narrow(y, np.result_type(*(tensor.dtype for tensor in given.values())))
