"""The InstanceNorm layers: each instance and channel by its own mean and variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import minitensor as mt
from minitensor import Tensor
from minitensor.arrays import parse_device
from minitensor.errors import ShapeError, describe

from .. import functional
from ..module import Module
from ..parameter import Parameter
from . import formulas


class _InstanceNorm(Module):
    spatial: ClassVar[tuple[str, ...]]  # the names of the spatial axes

    num_batches_tracked: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        backward: str | Callable[..., Any] = "analytic",
    ) -> None:
        super().__init__()
        if isinstance(num_features, bool) or not isinstance(num_features, int):
            raise TypeError(f"{type(self).__name__}: num_features must be an int, got {num_features!r}")
        if num_features < 1:
            raise ValueError(f"{type(self).__name__}: num_features must be positive, got {num_features}")
        if not eps >= 0:
            raise ValueError(f"{type(self).__name__}: eps must not be negative, got {eps}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats, self.backward = affine, track_running_stats, backward
        place: dict[str, Any] = {"dtype": dtype, "device": parse_device(device)}
        self.register_parameter("weight", Parameter(mt.ones(num_features, **place)) if affine else None)
        self.register_parameter("bias", Parameter(mt.zeros(num_features, **place)) if affine and bias else None)
        self.register_buffer("running_mean", mt.zeros(num_features, **place) if track_running_stats else None)
        self.register_buffer("running_var", mt.ones(num_features, **place) if track_running_stats else None)
        # PyTorch keeps this name in its checkpoints and never advances it; so do we
        self.register_buffer("num_batches_tracked", mt.zeros((), dtype=mt.int64, device=place["device"]) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Running mean 0 and running variance 1, where they are tracked."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and the running statistics anew."""
        self.reset_running_stats()
        for parameter, value in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                parameter.data = mt.full_like(parameter, value)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) or, without a batch, (C, ...); the output has the input's shape and dtype."""
        spatial = ", ".join(self.spatial)
        layouts = f"(N, C, {spatial}) or (C, {spatial})"
        rank = 2 + len(self.spatial)
        if not isinstance(input, Tensor) or input.ndim not in (rank - 1, rank):
            found = f"shape {input.shape}" if isinstance(input, Tensor) else describe(input)
            fits = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}.get(getattr(input, "ndim", 0))
            hint = f"; InstanceNorm{fits} takes {input.ndim} axes" if isinstance(input, Tensor) and fits else ""
            raise ShapeError(f"{type(self).__name__} takes {layouts}, got {found}{hint}")
        batched = input.ndim == rank
        x = input if batched else input.reshape(1, *input.shape)
        if x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: num_features is {self.num_features}, "
                f"but an input {layouts} of shape {input.shape} has C = {x.shape[1]}"
            )
        y = functional.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats=self.training or not self.track_running_stats,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.eps,
            backward=self.backward,
        )
        return y if batched else y.reshape(input.shape)

    def axes(self, ndim: int) -> tuple[int, ...]:
        """The axes over which one slice extends, in an input of ``ndim`` axes."""
        return tuple(range(ndim - len(self.spatial), ndim))

    def formula(self, x: Any, gamma: Any, beta: Any) -> Any:
        """The forward formula on plain arrays of any kind of number (float, complex, ...); gamma and beta have shape (C,) or are None."""
        axes = self.axes(x.ndim)
        gamma, beta = (None if p is None else p.reshape(-1, *(1,) * len(axes)) for p in (gamma, beta))
        return formulas.normalize(x, gamma, beta, axes=axes, eps=self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L). See `InstanceNorm2d`, which it equals but for the rank."""

    spatial = ("L",)


class InstanceNorm2d(_InstanceNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C, H, W) or (C, H, W), each instance and channel by its own mu and v.

    Constructor, defaults, state-dict names and the meaning of train/eval are PyTorch's: ``affine`` and ``track_running_stats`` are
    off; ``momentum=None`` freezes the running statistics; ``bias=False`` keeps the weight only. With tracking, eval mode uses the
    running statistics. Beyond PyTorch, ``backward=`` says who differentiates (see `functional.instance_norm`).

    The output has the input's shape and dtype; parameters and running statistics have shape (num_features,). Constructing raises
    `TypeError` or `ValueError` for a ``num_features`` that is no positive int or an ``eps`` below 0, `DeviceError` for a device that is
    not there. Calling raises `ShapeError` for another rank, always for another channel count, and for slices of one element, and
    `DTypeError` for numbers that are not floating. Source: Ulyanov et al., arXiv 1607.08022; ``torch.nn.InstanceNorm2d``.

    >>> layer = InstanceNorm2d(3, affine=True)
    >>> layer(mt.randn(2, 3, 8, 9)).shape
    (2, 3, 8, 9)
    """

    spatial = ("H", "W")


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W) or (C, D, H, W). See `InstanceNorm2d`, which it equals but for the rank."""

    spatial = ("D", "H", "W")
