"""The layer of a linear map."""

from __future__ import annotations

import math
from typing import Any

import minitensor as mt
from minitensor import Tensor

from . import init
from .arguments import placement, positive_int
from .functional.linear import linear
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """y = x A^T + b: (..., in_features) to (..., out_features), with the parameters A = ``weight`` and b = ``bias``.

    The weight has shape (out_features, in_features), the bias (out_features,); both start as U(-k, k) with k = 1 / sqrt(in_features).
    ``bias=False`` does without. Constructing raises `TypeError` or `ValueError` for a number of features that is no positive int;
    calling raises what `functional.linear` does. As ``torch.nn.Linear``.

    >>> layer = Linear(3, 2)
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    >>> layer(mt.randn(5, 3)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.in_features = positive_int(self, "in_features", in_features)
        self.out_features = positive_int(self, "out_features", out_features)
        place = placement(self, device, dtype)
        self.weight = Parameter(mt.zeros(self.out_features, self.in_features, **place))
        self.register_parameter("bias", Parameter(mt.zeros(self.out_features, **place)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, from the numbers that `minitensor.manual_seed` seeds."""
        bound = 1 / math.sqrt(self.in_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
