"""What the normalisation layers share: scale and shift, running statistics, and where their slices lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import minitensor as mt
from minitensor import Tensor
from minitensor.errors import ShapeError, describe

from ..arguments import placement, positive_int
from ..module import Module
from ..parameter import Parameter
from . import formulas, functional
from .layout import Layout, Shape


class Norm(Module):
    """y = weight x_hat + bias, the slices of x standardised: by the input's statistics, unless a subclass has others.

    A subclass says in `layout` which elements are normalised together.
    """

    centred: ClassVar[bool] = True  # whether the mean is subtracted; RMSNorm does not
    eps: float | None
    backward: str | Callable[..., Any]
    weight: Parameter | None
    bias: Parameter | None

    def layout(self, shape: Shape) -> Layout:
        """Where the slices of an input of this shape lie."""
        raise NotImplementedError(f"{type(self).__name__} has no layout method: write one")

    def formula(self, x: Any, gamma: Any, beta: Any) -> Any:
        """The forward formula on plain arrays of any kind of number (float, complex, ...); gamma and beta as the layer's, or None."""
        where = self.layout(x.shape)
        gamma, beta = where.spread(gamma), where.spread(beta)
        eps = self.epsilon(x.dtype)
        return formulas.normalize(where.look(x), gamma, beta, axes=where.axes, eps=eps, centred=self.centred).reshape(x.shape)

    def epsilon(self, dtype: Any) -> float:
        """What is added to the variance of an input of this dtype."""
        assert self.eps is not None, "only RMSNorm has an eps that depends on the dtype"
        return self.eps

    def reset_parameters(self) -> None:
        """Weight 1 and bias 0."""
        for parameter, value in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                parameter.data = mt.full_like(parameter, value)

    def _check_channels(self, x: Tensor, channels: int, name: str, expected: int) -> None:
        if channels != expected:
            raise ShapeError(f"{type(self).__name__}: {name} is {expected}, but an input of shape {x.shape} has C = {channels}")

    def _set_up(
        self, eps: float, backward: str | Callable[..., Any], shape: Shape, weight: bool, bias: bool, device: Any, dtype: Any
    ) -> dict[str, Any]:
        """Check eps, backward and dtype and make the parameters; returns where and in what dtype they were made."""
        functional.check_options(type(self).__name__, eps, backward)
        self.eps, self.backward = eps, backward
        place = placement(self, device, dtype)
        self.register_parameter("weight", Parameter(mt.ones(shape, **place)) if weight else None)
        self.register_parameter("bias", Parameter(mt.zeros(shape, **place)) if bias else None)
        return place


class TrackingNorm(Norm):
    """A normalisation of ``num_features`` channels that may keep running statistics. As ``torch.nn.modules.batchnorm._NormBase``."""

    _version = 2  # PyTorch's: since 2, num_batches_tracked is among the buffers

    spatial: ClassVar[tuple[str, ...]]  # the names of the spatial axes
    num_batches_tracked: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
        backward: str | Callable[..., Any],
    ) -> None:
        super().__init__()
        self.num_features = positive_int(self, "num_features", num_features)
        self.momentum, self.affine, self.track_running_stats = momentum, affine, track_running_stats
        place = self._set_up(eps, backward, (self.num_features,), affine, affine and bias, device, dtype)
        self.register_buffer("running_mean", mt.zeros(num_features, **place) if track_running_stats else None)
        self.register_buffer("running_var", mt.ones(num_features, **place) if track_running_stats else None)
        counter = mt.zeros((), dtype=mt.int64, device=place["device"]) if track_running_stats else None
        self.register_buffer("num_batches_tracked", counter)

    def reset_running_stats(self) -> None:
        """Running mean 0, running variance 1 and no batch counted, where they are tracked."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer[...] = value

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and the running statistics anew."""
        self.reset_running_stats()
        super().reset_parameters()

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _adapt_state(self, state: dict[str, Any], prefix: str, version: int | None) -> list[str]:
        counter = f"{prefix}num_batches_tracked"
        if self.num_batches_tracked is not None and (version is None or version < 2) and counter not in state:
            state[counter] = self.num_batches_tracked
        return []

    def _refuse_rank(self, x: Any, family: str, layouts: str) -> None:
        """`refuse_rank`, with the layer of the family that takes such an input."""
        fits = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}.get(getattr(x, "ndim", 0))
        refuse_rank(self, x, layouts, f"; {family}{fits} takes {x.ndim} axes" if fits else "")


def refuse_rank(layer: Module, x: Any, layouts: str, hint: str = "") -> None:
    """The error for an input that has not the axes which the layer takes, or is no Tensor at all."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{type(layer).__name__} takes a Tensor {layouts}, got {describe(x)}; mt.tensor(array) makes one")
    raise ShapeError(f"{type(layer).__name__} takes {layouts}, got shape {x.shape}{hint}")
