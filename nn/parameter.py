"""Parameter: a Tensor that a Module learns."""

from __future__ import annotations

from typing import Any

from minitensor import Tensor


class Parameter(Tensor):
    """A Tensor that requires grad and that a `Module` registers when it becomes an attribute.

    >>> Parameter([1.0, 2.0])
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()
    kind = "parameter"  # how drawings tell it from other leaves

    def __init__(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = True) -> None:
        super().__init__(data, dtype, device, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
