"""Parameter: a Tensor that a Module learns."""

from __future__ import annotations

from typing import Any

from minitensor import Tensor, zeros
from minitensor.arrays import Array


class Parameter(Tensor):
    """A Tensor that requires grad and that a `Module` registers when it becomes an attribute.

    ``data`` (numbers, nested lists, an array or a Tensor) is copied. ``requires_grad=False`` makes one that is saved and moved with its
    module and not learned; `DTypeError` when an integer is to require grad. As ``torch.nn.Parameter``, which shares the memory instead.

    >>> Parameter([1.0, 2.0])
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()
    kind = "parameter"  # how drawings tell it from other leaves

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None, device: Any = None) -> None:
        super().__init__(data, dtype, device, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def rebind(tensor: Tensor, array: Array) -> None:
    """Give a leaf another array, also of another dtype, shape or device; whoever holds the Tensor sees it.

    ``tensor.data = array`` would cast to the old dtype, and wants the old shape. The leaf stays the one that hooks and recorded graphs
    refer to.
    """
    tensor._array = array
    if tensor._node is not None:
        tensor._node.dtype, tensor._node.shape = array.dtype, array.shape


class UninitializedParameter(Parameter):
    """The place of a Parameter whose shape is not known yet: no elements, but a dtype and a device. As ``torch.nn.UninitializedParameter``.

    >>> place = UninitializedParameter()
    >>> place.materialize(Tensor([1.0, 2.0])); place
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(zeros(0, dtype=dtype, device=device), requires_grad)

    def materialize(self, values: Tensor) -> None:
        """Become an ordinary Parameter with these values, and stay the same object, which an optimiser may hold."""
        self.__class__ = Parameter  # type: ignore[assignment]
        rebind(self, values.detach()._array.copy())

    def __repr__(self) -> str:
        return "<UninitializedParameter>"
