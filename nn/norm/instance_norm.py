"""The InstanceNorm layers: each instance and channel by its own mean and variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitensor import Tensor

from . import functional, layout
from .base import TrackingNorm
from .layout import Layout, Shape


class _InstanceNorm(TrackingNorm):
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
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias, backward)

    def layout(self, shape: Shape) -> Layout:
        """Each instance and channel by itself; an input without a batch is a batch of one."""
        return layout.per_instance(shape if len(shape) == 2 + len(self.spatial) else (1, *shape))

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) or, without a batch, (C, ...); the output has the input's shape and dtype."""
        self._check_channels(input, self._channels(input), "num_features", self.num_features)
        where, use_input_stats = self.layout(input.shape), self.training or not self.track_running_stats
        if use_input_stats:
            functional.check_slices(type(self).__name__, input.shape, where)
        x = input.reshape(where.view)
        y = functional.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats=use_input_stats,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.epsilon(x.dtype),
            backward=self.backward,
        )
        return y.reshape(input.shape)

    def _channels(self, x: Any) -> int:
        """The channel count of an input, whose rank is checked."""
        rank = 2 + len(self.spatial)
        if not isinstance(x, Tensor) or x.ndim not in (rank - 1, rank):
            spatial = ", ".join(self.spatial)
            self._refuse_rank(x, "InstanceNorm", f"(N, C, {spatial}) or (C, {spatial})")
        return int(x.shape[x.ndim - rank + 1])

    def _adapt_state(self, state: dict[str, Any], prefix: str, version: int | None) -> list[str]:
        held = [prefix + name for name in ("running_mean", "running_var") if prefix + name in state]
        if held and version is None and not self.track_running_stats:
            return [
                f"{', '.join(held)}: this layer tracks no running statistics, and a checkpoint without versions may come from a time "
                "when InstanceNorm used them in eval mode; make the layer with track_running_stats=True to use them, or delete the keys"
            ]
        return super()._adapt_state(state, prefix, version)


class InstanceNorm1d(_InstanceNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C, L) or (C, L). See `InstanceNorm2d`, which it equals but for the rank.

    >>> import minitensor as mt
    >>> InstanceNorm1d(3)(mt.randn(2, 3, 7)).shape
    (2, 3, 7)
    """

    spatial = ("L",)


class InstanceNorm2d(_InstanceNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C, H, W) or (C, H, W), each instance and channel by its own mu and v.

    Constructor, defaults, state-dict names and the meaning of train/eval are PyTorch's: ``affine`` and ``track_running_stats`` are
    off (the paper's own code has affine on); ``bias=False`` keeps the weight only. With tracking, eval mode uses the running
    statistics; ``momentum=None`` freezes them (unlike `BatchNorm2d`, which then takes the cumulative average), and
    ``num_batches_tracked`` stays 0. ``weight`` and ``bias`` may be replaced by Parameters of shape (N, C), one style per instance; see
    also `AdaIN`. Beyond PyTorch, ``backward=`` says who differentiates (see `functional.instance_norm`).

    The output has the input's shape and dtype; parameters and running statistics have shape (num_features,). Constructing raises
    `TypeError` or `ValueError` for a ``num_features`` that is no positive int or an ``eps`` below 0, `DTypeError` for a dtype that is
    not floating, `DeviceError` for a device that is not there. Calling raises `ShapeError` for another rank, always for another channel
    count, and for slices of one element, and `DTypeError` for numbers that are not floating. Source: Ulyanov et al., arXiv 1607.08022;
    ``torch.nn.InstanceNorm2d``.

    >>> import minitensor as mt
    >>> layer = InstanceNorm2d(3, affine=True)
    >>> layer(mt.randn(2, 3, 8, 9)).shape
    (2, 3, 8, 9)
    """

    spatial = ("H", "W")


class InstanceNorm3d(_InstanceNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C, D, H, W) or (C, D, H, W). See `InstanceNorm2d`: the same but for the rank.

    >>> import minitensor as mt
    >>> InstanceNorm3d(3)(mt.randn(2, 3, 4, 8, 9)).shape
    (2, 3, 4, 8, 9)
    """

    spatial = ("D", "H", "W")
