"""GroupNorm: each instance and group of channels by its own mean and variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitensor import Tensor

from ..arguments import positive_int
from . import functional, layout
from .base import Norm, refuse_rank
from .layout import Layout, Shape


class GroupNorm(Norm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias, mu and v over each of ``num_groups`` groups of neighbouring channels of an instance.

    ``GroupNorm(num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True)``, as PyTorch's, and
    ``backward=`` (see `functional.instance_norm`). Takes (N, C) and (N, C, S...) with C = ``num_channels``, a multiple of
    ``num_groups``; parameters have shape (C,). One group is LayerNorm over all but the batch, C groups are InstanceNorm. Raises
    `ValueError` when C cannot be divided, `ShapeError` for another channel count. Source: Wu & He, arXiv 1803.08494;
    ``torch.nn.GroupNorm``.

    >>> import minitensor as mt
    >>> GroupNorm(3, 6)(mt.randn(20, 6, 10, 10)).shape
    (20, 6, 10, 10)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        backward: str | Callable[..., Any] = "analytic",
    ) -> None:
        super().__init__()
        self.num_groups = positive_int(self, "num_groups", num_groups)
        self.num_channels = positive_int(self, "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(f"GroupNorm: num_channels = {num_channels} does not divide into num_groups = {num_groups}")
        self.affine = affine
        self._set_up(eps, backward, (self.num_channels,), affine, affine and bias, device, dtype)

    def layout(self, shape: Shape) -> Layout:
        """Each instance and group of neighbouring channels."""
        return layout.per_group(shape, self.num_groups)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the output has the input's shape and dtype."""
        if not isinstance(input, Tensor) or input.ndim < 2:
            refuse_rank(self, input, "(N, C) or (N, C, S...)")
        self._check_channels(input, input.shape[1], "num_channels", self.num_channels)
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.epsilon(input.dtype), backward=self.backward)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"
