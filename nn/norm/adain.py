"""AdaIN as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitensor import Tensor

from ..module import Module
from . import functional


class AdaIN(Module):
    """y = s(style) (x - mu) / s(x) + mu(style), s = sqrt(v + eps): the content x in the statistics of ``style``.

    Three things are called AdaIN. This is the first, by Huang & Belongie: scale and shift are another picture's statistics. In the
    second (StyleGAN, StarGAN v2) a network makes them of a style vector, and in the third (MUNIT, FUNIT) they are assigned from outside;
    for these two, give `functional.instance_norm` a ``weight`` and ``bias`` of shape (N, C).

    An input of 3 axes is (N, C, L): give one picture as (1, C, H, W). The layer has no parameters; shapes, errors and source
    are those of `functional.adaptive_instance_norm`.

    >>> import minitensor as mt
    >>> AdaIN()(mt.randn(2, 3, 8, 9), mt.randn(2, 3, 5, 4)).shape
    (2, 3, 8, 9)
    """

    def __init__(self, eps: float = 1e-5, *, backward: str | Callable[..., Any] = "analytic") -> None:
        super().__init__()
        functional.check_options("AdaIN", eps, backward)
        self.eps, self.backward = eps, backward

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """The content in the style's statistics, in its own shape and dtype."""
        return functional.adaptive_instance_norm(content, style, self.eps, backward=self.backward)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
