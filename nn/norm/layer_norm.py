"""LayerNorm and RMSNorm: each position by the statistics of its trailing axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minitensor import Tensor

from ..arguments import int_shape
from . import formulas, functional, layout
from .base import Norm, refuse_rank
from .layout import Layout, Shape


class _TrailingNorm(Norm):
    normalized_shape: Shape
    elementwise_affine: bool

    def layout(self, shape: Shape) -> Layout:
        """Each position of the leading axes, over all of the trailing ones."""
        return layout.per_position(shape, self.normalized_shape)

    def _check_trailing(self, x: Any) -> None:
        shape = self.normalized_shape
        if not isinstance(x, Tensor) or x.shape[-len(shape) :] != shape:
            refuse_rank(self, x, f"(..., {', '.join(map(str, shape))})")

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LayerNorm(_TrailingNorm):
    """y = (x - mu) / sqrt(v + eps) * weight + bias, with mu and v over the trailing axes, those of ``normalized_shape``.

    ``LayerNorm(normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None)``, as PyTorch's, and
    ``backward=`` (see `functional.instance_norm`). Parameters have the shape ``normalized_shape``, an int for one axis. Raises
    `ShapeError` for an input that does not end in it. Source: Ba et al., arXiv 1607.06450; ``torch.nn.LayerNorm``.

    >>> import minitensor as mt
    >>> LayerNorm(10)(mt.randn(20, 5, 10)).shape
    (20, 5, 10)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        backward: str | Callable[..., Any] = "analytic",
    ) -> None:
        super().__init__()
        self.normalized_shape = int_shape(self, "normalized_shape", normalized_shape)
        self.elementwise_affine = elementwise_affine
        self._set_up(eps, backward, self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the output has the input's shape and dtype."""
        self._check_trailing(input)
        eps = self.epsilon(input.dtype)
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, eps, backward=self.backward)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bias={self.bias is not None}"


class RMSNorm(_TrailingNorm):
    """y = x / sqrt(mean(x x) + eps) * weight, the mean over the trailing axes, those of ``normalized_shape``: nothing is centred.

    ``RMSNorm(normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None)``, as PyTorch's, and ``backward=`` (see
    `functional.rms_norm`). ``eps=None`` is the spacing at 1 of the input's dtype, or of float32 for float16. Raises as `LayerNorm`.
    Source: Zhang & Sennrich, arXiv 1910.07467; ``torch.nn.RMSNorm``.

    >>> import minitensor as mt
    >>> RMSNorm(2, eps=0.0, elementwise_affine=False)(mt.tensor([[3.0, 4.0]]))
    tensor([[0.8485, 1.1314]])
    """

    centred = False
    bias: None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        backward: str | Callable[..., Any] = "analytic",
    ) -> None:
        super().__init__()
        self.normalized_shape = int_shape(self, "normalized_shape", normalized_shape)
        self.elementwise_affine = elementwise_affine
        self._set_up(0.0 if eps is None else eps, backward, self.normalized_shape, elementwise_affine, False, device, dtype)
        self.eps = eps

    def epsilon(self, dtype: Any) -> float:
        """What is added to the mean square of an input of this dtype."""
        return formulas.default_eps(dtype) if self.eps is None else self.eps

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the output has the input's shape and dtype."""
        self._check_trailing(input)
        return functional.rms_norm(input, self.normalized_shape, self.weight, self.eps, backward=self.backward)
