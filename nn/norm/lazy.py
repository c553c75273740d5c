"""Lazy InstanceNorm layers: they learn their channel count from the first input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

import minitensor as mt
from minitensor import Tensor

from ..parameter import UninitializedParameter
from .instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, _InstanceNorm


class _LazyInstanceNorm(_InstanceNorm):
    eager: ClassVar[type[_InstanceNorm]]  # what the layer becomes

    def __init__(
        self,
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
        super().__init__(1, eps, momentum, affine, track_running_stats, device, dtype, bias=bias, backward=backward)
        self.num_features = 0
        for name, parameter in self._parameters.items():
            if parameter is not None:
                self._parameters[name] = UninitializedParameter(dtype=parameter.dtype, device=parameter.device)
        for name in ("running_mean", "running_var"):
            buffer = self._buffers[name]
            self._buffers[name] = None if buffer is None else buffer[:0]

    def forward(self, input: Tensor) -> Tensor:
        """Become the eager layer for the input's channel count, and normalise with that."""
        channels = self._channels(input)
        with mt.no_grad():  # a trial on a layer of its own: a bad input raises before anything here has changed
            self._eager(channels).train(self.training)(input)
        self._become(channels)
        return self.forward(input)

    def _eager(self, channels: int) -> _InstanceNorm:
        like = next((t for t in (*self._parameters.values(), self.running_mean) if t is not None), None)
        return self.eager(
            channels,
            self.epsilon(None),
            self.momentum,
            self.affine,
            self.track_running_stats,
            like.device if like is not None else None,
            like.dtype if like is not None else None,
            bias=self.bias is not None,
            backward=self.backward,
        )

    def _become(self, channels: int) -> None:
        """Take the eager layer's class and values; the Parameters stay the same objects, because an optimiser may hold them."""
        made = self._eager(channels)
        for name, parameter in self._parameters.items():
            values = made._parameters[name]
            if isinstance(parameter, UninitializedParameter) and values is not None:
                parameter.materialize(values)
        self._buffers.update(made._buffers)
        self.num_features = channels
        self.__class__ = self.eager  # type: ignore[assignment]

    def _adapt_state(self, state: dict[str, Any], prefix: str, version: int | None) -> list[str]:
        """Become the eager layer for the channel count of what is loaded, so that the layer is whole without a call."""
        shapes = {np.shape(state[prefix + name]) for name in ("weight", "bias", "running_mean", "running_var") if prefix + name in state}
        shape: tuple[int, ...] = shapes.pop() if len(shapes) == 1 else ()
        if len(shape) == 1 and shape != (0,):
            self._become(shape[0])
        return _InstanceNorm._adapt_state(self, state, prefix, version)  # super() would ask for the class that this was


class LazyInstanceNorm1d(_LazyInstanceNorm):
    """`InstanceNorm1d` whose ``num_features`` the first input tells. See `LazyInstanceNorm2d`.

    >>> LazyInstanceNorm1d()(mt.randn(2, 3, 7)).shape
    (2, 3, 7)
    """

    spatial, eager = InstanceNorm1d.spatial, InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm):
    """`InstanceNorm2d` whose ``num_features`` the first input, or the first state dict that is loaded, tells.

    ``LazyInstanceNorm2d(eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *, bias=True)``.
    **affine and track_running_stats are on**, as in PyTorch's lazy layers, and unlike in `InstanceNorm2d`. The channel axis is found
    from the rank, so an unbatched input serves too. Until then parameters are placeholders without elements; afterwards the layer *is* an
    `InstanceNorm2d`, and its Parameters are the same objects. Raises as `InstanceNorm2d`; a call that fails leaves the layer lazy.
    Source: ``torch.nn.LazyInstanceNorm2d``.

    >>> layer = LazyInstanceNorm2d()
    >>> layer(mt.randn(2, 3, 8, 9)).shape, type(layer).__name__, layer.num_features
    ((2, 3, 8, 9), 'InstanceNorm2d', 3)
    """

    spatial, eager = InstanceNorm2d.spatial, InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm):
    """`InstanceNorm3d` whose ``num_features`` the first input tells. See `LazyInstanceNorm2d`.

    >>> LazyInstanceNorm3d()(mt.randn(2, 3, 4, 8, 9)).shape
    (2, 3, 4, 8, 9)
    """

    spatial, eager = InstanceNorm3d.spatial, InstanceNorm3d
