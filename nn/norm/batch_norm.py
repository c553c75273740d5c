"""The BatchNorm layers: each channel by its mean and variance over the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitensor import Tensor

from . import functional, layout
from .base import TrackingNorm
from .layout import Layout, Shape


class _BatchNorm(TrackingNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        backward: str | Callable[..., Any] = "analytic",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias, backward)

    def layout(self, shape: Shape) -> Layout:
        """Each channel over the whole batch."""
        return layout.per_channel(shape)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...); the output has the input's shape and dtype."""
        ranks = {2 + len(self.spatial)} | ({2} if len(self.spatial) == 1 else set())
        if not isinstance(input, Tensor) or input.ndim not in ranks:
            layouts = " or ".join(f"(N, {', '.join(('C', *self.spatial[: rank - 2]))})" for rank in sorted(ranks))
            self._refuse_rank(input, "BatchNorm", layouts)
        self._check_channels(input, input.shape[1], "num_features", self.num_features)
        mean, var, counter = self.running_mean, self.running_var, self.num_batches_tracked
        if self.training and not self.track_running_stats:  # switched off after the layer was made: they wait for eval mode
            mean = var = counter = None
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and counter is not None and input.size:
            count = counter.item() + 1
            momentum = 1 / count if self.momentum is None else momentum
        y = functional.batch_norm(
            input,
            mean,
            var,
            self.weight,
            self.bias,
            training=self.training or mean is None,
            momentum=momentum,
            eps=self.epsilon(input.dtype),
            backward=self.backward,
        )
        if self.training and counter is not None and input.size:
            counter[...] = count
        return y


class BatchNorm1d(_BatchNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C) or (N, C, L). See `BatchNorm2d`, which it equals but for the rank.

    >>> import minitensor as mt
    >>> BatchNorm1d(3)(mt.randn(7, 3)).shape
    (7, 3)
    """

    spatial = ("L",)


class BatchNorm2d(_BatchNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C, H, W), each channel by mu and v over the whole batch.

    Constructor, defaults, state-dict names and the meaning of train/eval are PyTorch's: in training mode the statistics are the
    batch's, and running ones are kept (with the unbiased variance) for eval mode; ``momentum=None`` makes them the average over all
    batches, which ``num_batches_tracked`` counts. With ``track_running_stats=False`` eval mode uses the batch's too. Beyond PyTorch,
    ``backward=`` says who differentiates (see `functional.instance_norm`).

    The output has the input's shape and dtype; parameters and running statistics have shape (num_features,). An empty batch gives an
    empty output and leaves the running statistics. Raises as `InstanceNorm2d`; in training also for a channel with one element.
    Source: Ioffe & Szegedy, arXiv 1502.03167; ``torch.nn.BatchNorm2d``.

    >>> import minitensor as mt
    >>> layer = BatchNorm2d(3)
    >>> layer(mt.randn(2, 3, 8, 9)).shape, layer.num_batches_tracked.item()
    ((2, 3, 8, 9), 1)
    """

    spatial = ("H", "W")


class BatchNorm3d(_BatchNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias for (N, C, D, H, W). See `BatchNorm2d`, which it equals but for the rank.

    >>> import minitensor as mt
    >>> BatchNorm3d(3)(mt.randn(2, 3, 4, 8, 9)).shape
    (2, 3, 4, 8, 9)
    """

    spatial = ("D", "H", "W")
