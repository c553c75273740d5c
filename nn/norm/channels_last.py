"""InstanceNorm for channels-last inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitensor import Tensor

from ..arguments import positive_int
from . import layout
from .base import Norm, refuse_rank
from .functional import check_input, normalized
from .layout import Layout, Shape


class InstanceNorm(Norm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, S..., C), each instance and channel by its own mu and v: MLX's layer.

    ``InstanceNorm(dims, eps=1e-5, affine=False)`` and ``backward=`` (see `functional.instance_norm`). Parameters have shape (dims,).
    There are no running statistics. As in MLX a slice of one element gives the bias, and ``eps`` must be positive (`ValueError`); unlike
    there, the channel count is always checked (`ShapeError`), an empty batch gives an empty output, and the output has the input's
    dtype, float64 computed as such. Source: ``mlx.nn.InstanceNorm``.

    >>> import minitensor as mt
    >>> InstanceNorm(3)(mt.randn(2, 8, 9, 3)).shape
    (2, 8, 9, 3)
    """

    def __init__(self, dims: int, eps: float = 1e-5, affine: bool = False, *, backward: str | Callable[..., Any] = "analytic") -> None:
        super().__init__()
        self.dims, self.affine = positive_int(self, "dims", dims), affine
        self._set_up(eps, backward, (self.dims,), affine, affine, None, None)
        if not eps > 0:
            raise ValueError(f"InstanceNorm: eps must be positive, got {eps}")

    def layout(self, shape: Shape) -> Layout:
        """Each instance and channel by itself, the channels last."""
        return layout.channels_last(shape)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the output has the input's shape and dtype."""
        if not isinstance(input, Tensor) or input.ndim < 3:
            refuse_rank(self, input, "(N, S..., C) with at least one spatial axis", "; InstanceNorm1d to 3d take the channels first")
        self._check_channels(input, input.shape[-1], "dims", self.dims)
        check_input("InstanceNorm", input, self.epsilon(input.dtype), self.backward)
        where = self.layout(input.shape)
        return normalized(input, self.weight, self.bias, where, (self.dims,), self.epsilon(input.dtype), self.backward)

    def extra_repr(self) -> str:
        return f"{self.dims}, eps={self.eps}, affine={self.affine}"
