"""class Tensor: an array, its gradient and its place in the graph; operators and NumPy's protocols. No mathematics.

What an operation does stands in the rule table: `DISPATCH` maps a NumPy function to the primitive that serves it for Tensors, and the
operators below are spellings of it (``a + b`` is ``DISPATCH[np.add](a, b)``). `minitensor.primitive` fills the table.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex

import numpy as np

from minitensor import arrays
from minitensor.arrays import Array, ShapeDtype
from minitensor.errors import DTypeError, GraphError, ShapeError, UnsupportedError, describe, operation_failed
from minitensor.grad_mode import is_grad_enabled

DISPATCH: dict[Callable[..., Any], Callable[..., Any]] = {}


class _Served(Protocol):
    """What serves a NumPy function for Tensors, as the operators see it."""

    def __call__(self, *args: Any, **params: Any) -> Tensor: ...

    def record(self, *inputs: Any) -> Tensor:
        """A call without parameters."""
        ...


class _Table:
    """The same by name, for the operators and methods below: ``table.add``."""

    if TYPE_CHECKING:  # a real __getattr__ would slow every operator down

        def __getattr__(self, name: str) -> _Served: ...


table = _Table()


class Leaf(ShapeDtype):
    """The end of a graph: where the gradient of a Tensor that the user made is gathered.

    It refers to its Tensor weakly, so that Tensor and Leaf form no circle and reference counting frees both.
    """

    __slots__ = ("hooks", "tensor")
    left = right = rest = None
    edges: tuple[()] = ()
    inputs: tuple[()] = ()
    name = "leaf"
    time = -1  # older than every operation

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.shape, tensor.dtype)
        self.tensor = weakref.ref(tensor)
        self.hooks: dict[Any, Callable[[Tensor], Tensor | None]] | None = None


class RemovableHandle:
    """What `Tensor.register_hook` and the hooks of a Module return: it takes the hook away again."""

    def __init__(self, hooks: dict[Any, Any], hook: Any) -> None:
        self._hooks, self._key = hooks, object()  # a key of its own: as a key, the handle would hold what holds it
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        self._hooks.pop(self._key, None)


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    ``Tensor(data, dtype=None, device=None, requires_grad=False)`` copies ``data`` (numbers, nested lists, an array or a Tensor). Python
    floats become `get_default_dtype()`, Python ints int64; arrays keep their dtype. `DTypeError` when something other than a
    floating dtype is to require a gradient.

    >>> import numpy as np
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> y = np.sum(x * np.exp(x))        # plain NumPy records itself
    >>> y.backward()
    >>> x.grad                           # (1 + x) exp(x)
    tensor([ 5.4366, 22.1672])
    """

    __slots__ = ("__weakref__", "_array", "_grad", "_node")  # not _data: np.ma reads an attribute of that name past every protocol
    _array: Array
    _grad: Tensor | None
    _node: Any  # Leaf, minitensor.primitive.Node, or None when no gradient is required

    def __init__(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> None:
        self._array = arrays.new_array(data._array if isinstance(data, Tensor) else data, dtype, device)
        self._grad = self._node = None
        self.requires_grad = requires_grad

    # -- what it is ---------------------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The values, as a read-only view; assigning gives new ones of the same shape (a graph recorded before keeps the old)."""
        return arrays.read_only(self._array)

    @data.setter
    def data(self, values: Any) -> None:
        self._refuse_inner("data = ...")
        array = arrays.new_array(values._array if isinstance(values, Tensor) else values, self.dtype, self.device)
        if array.shape != self.shape:
            raise ShapeError(f"data = ...: the Tensor has shape {self.shape}, the new values {array.shape}")
        self._array = array

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` gathered, of the same shape and dtype; None before, and may be set to None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (not isinstance(value, Tensor) or (value.shape, value.dtype) != (self.shape, self.dtype)):
            raise ShapeError(f"grad = ...: None or a Tensor {describe(self)} is needed, got {describe(value)}")
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this Tensor are recorded."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if bool(value) == self.requires_grad:
            return
        if not self.is_leaf:
            raise GraphError(
                "requires_grad can only be changed on a Tensor that no operation made; use .detach() for a copy without gradient"
            )
        if value and self.dtype.kind != "f":
            raise DTypeError(f"only floating Tensors can require a gradient, this one is {self.dtype}; use .astype(mt.float32)")
        self._node = Leaf(self) if value else None

    @property
    def is_leaf(self) -> bool:
        """True unless a recorded operation made this Tensor."""
        return self._node is None or isinstance(self._node, Leaf)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        return self._array.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype of the elements."""
        return self._array.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        return arrays.device_of(self._array)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self.transpose()

    # -- ways out -----------------------------------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values without a graph; no copy is made, and none is needed, because operations never write into their inputs."""
        return wrap(self._array)

    def numpy(self) -> Array:
        """A read-only NumPy view; raises `UnsupportedError` where a gradient or a device would be lost in silence."""
        return self.__array__()

    def item(self) -> Any:
        """The one element as a Python number; `ShapeError` when there is not exactly one."""
        if self.size != 1:
            raise ShapeError(f"item(): one element is needed, this Tensor has shape {self.shape}")
        return self._array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._array.tolist()

    def to(self, target: Any) -> Tensor:
        """On another device (``"cpu"``, ``"cuda"``, ``"cuda:1"``) or of another dtype; itself when nothing changes."""
        if target is None:
            raise UnsupportedError("to: a device or a dtype is needed, got None")
        if not isinstance(target, str) or target in np.sctypeDict:
            return self if np.dtype(target) == self.dtype else self.astype(target)
        device = arrays.parse_device(target)
        return self if device == self.device else table.to_device(self, self.device, device)

    def cpu(self) -> Tensor:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """On the first GPU."""
        return self.to("cuda")

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add d self / d leaf, contracted with the cotangent ``gradient``, to the ``.grad`` of every leaf.

        ``gradient`` has this Tensor's shape and may be left out for one element. The graph is released on the way unless
        ``retain_graph`` (default: ``create_graph``); with ``create_graph`` the gradients are themselves differentiable. Raises
        `GraphError` without a graph, through a released graph, or without a cotangent for several elements.

        >>> x = Tensor([3.0], requires_grad=True)
        >>> (x * x).backward(); x.grad
        tensor([6.])
        """
        DISPATCH[Tensor.backward](self, gradient, retain_graph, create_graph)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook(g)`` with this Tensor's cotangent g in every walk that reaches it; what it returns, unless None, takes g's place.

        Hooks run in the order of their registration, once per walk, when all parts of g have been summed. ``.remove()`` on the handle
        takes the hook away. Raises `GraphError` for a Tensor that does not require grad. As ``torch.Tensor.register_hook``.

        >>> x = Tensor([1.0], requires_grad=True)
        >>> handle = x.register_hook(lambda g: 2 * g)
        >>> (3 * x).backward(); x.grad
        tensor([6.])
        >>> handle.remove()
        """
        if self._node is None:
            raise GraphError("register_hook: this Tensor does not require grad, so no walk reaches it")
        hooks = self._node.hooks = self._node.hooks or {}
        handle = RemovableHandle(hooks, hook)
        if "retain_grad" in hooks:  # .grad is what is left when all hooks have run
            hooks["retain_grad"] = hooks.pop("retain_grad")
        return handle

    def retain_grad(self) -> None:
        """Gather the gradient in ``.grad`` although an operation made this Tensor; on a leaf, where that is done anyway, nothing changes.

        >>> x = Tensor([3.0], requires_grad=True)
        >>> y = x * x
        >>> y.retain_grad(); (2 * y).backward(); y.grad
        tensor([2.])
        """
        if self._node is None:
            raise GraphError("retain_grad: this Tensor does not require grad")
        if self.is_leaf:
            return
        owner = weakref.ref(self)  # the graph must not keep its Tensors alive

        def gather(g: Tensor) -> None:
            tensor = owner()
            if tensor is not None:
                tensor.grad = g if tensor.grad is None else tensor.grad + g

        self._node.hooks = self._node.hooks or {}
        self._node.hooks["retain_grad"] = gather

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was asked for on a Tensor that is no leaf."""
        return self._node is not None and "retain_grad" in (self._node.hooks or ())

    # -- writing ------------------------------------------------------------------------------------------------------------------

    def __setitem__(self, index: Any, values: Any) -> None:
        """``t[index] = values``, on a copy: a graph recorded before keeps the old array."""
        if self.requires_grad and is_grad_enabled():
            raise GraphError("t[...] = values on a Tensor that requires grad is not recorded; write under mt.no_grad()")
        if isinstance(values, Tensor) and values.requires_grad and is_grad_enabled():
            raise UnsupportedError(
                "t[...] = values would forget the graph of the values; join parts with np.concatenate, or write values.detach()"
            )
        self._refuse_inner("t[...] = ...")
        array = self._array.copy()
        new = values._array if isinstance(values, Tensor) else values
        try:
            array[_plain_index(index)] = new
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed("t[...] = values", [array, new], error) from error
        self._array = array

    def _refuse_inner(self, what: str) -> None:
        if not self.is_leaf:
            raise GraphError(
                f"{what}: this Tensor was made by the operation {self._node.name!r}, and its graph needs the value; use .detach() first"
            )

    # -- NumPy's protocols --------------------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **params: Any) -> Any:
        """NEP 13: ``np.exp(t)``, ``np.ones(3) * t``."""
        if method != "__call__":
            raise UnsupportedError(
                f"np.{ufunc.__name__}.{method} has no derivative rule in minitensor; use the function of that name, such as np.sum"
            )
        return _served(ufunc)(*inputs, **params)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Any:
        """NEP 18: ``np.mean(t, axis=1)``."""
        return _served(function)(*args, **params)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.requires_grad:
            raise UnsupportedError(
                "this Tensor requires grad, and a NumPy array would forget its graph: "
                "use t.detach() for the values, or a NumPy function on t itself"
            )
        if self.device != "cpu":
            raise UnsupportedError(f"this Tensor lives on {self.device!r}: use t.cpu() first")
        return np.array(self._array, dtype, copy=True) if copy else np.asarray(arrays.read_only(self._array), dtype)

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        """The array itself, without a copy, for ``torch.from_dlpack(t)``; whoever writes into it changes this Tensor, its graphs,
        and gradients that share the array: those of a and b in ``a + b`` are one.

        `UnsupportedError` when the Tensor requires grad, which the capsule would forget.
        """
        if self.requires_grad:
            raise UnsupportedError("this Tensor requires grad, and DLPack would forget its graph: use t.detach()")
        asked = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        return self._array.__dlpack__(**{name: value for name, value in asked.items() if value is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's numbers for the device: (1, 0) for the CPU, (2, N) for ``"cuda:N"``."""
        return self._array.__dlpack_device__()  # type: ignore[no-any-return]

    # -- Python's protocols -------------------------------------------------------------------------------------------------------

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        prefix = "tensor("
        values = arrays.to_device(self._array, "cpu")
        body = np.array2string(values, separator=", ", prefix=prefix, precision=4) if isinstance(values, np.ndarray) else repr(values)
        notes = [] if self.size else [f"shape={self.shape}"]
        if self.dtype not in (arrays.get_default_dtype(), np.int64, np.bool_):
            notes.append(f"dtype={self.dtype}")
        if self.device != "cpu":
            notes.append(f"device={self.device!r}")
        if self.requires_grad:
            notes.append("requires_grad=True" if self.is_leaf else f"grad_fn=<{self._node.name}>")
        return prefix + ", ".join([body, *notes]) + ")"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d Tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value)._array.any())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth value of a Tensor of shape {self.shape} is ambiguous: compare, then reduce with np.any or np.all")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"an index must be an integer, this Tensor is {self.dtype}")
        return int(self.item())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise GraphError("only Tensors that no operation made can be copied deeply; use .detach() first")
        new = type(self).__new__(type(self))
        new._array, new._grad, new._node = self._array.copy(), None, None
        memo[id(self)] = new
        if self._grad is not None:
            new._grad = wrap(self._grad._array.copy())
        new.requires_grad = self.requires_grad
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied by value: a graph does not travel."""
        if not self.is_leaf:
            raise GraphError("a Tensor with a graph cannot be copied or pickled; use .detach() first")
        return _rebuild, (type(self), arrays.to_device(self._array, "cpu"), self.device, self.requires_grad)

    # -- operators: spellings of the table ----------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return table.add.record(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return table.add.record(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return table.subtract.record(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return table.subtract.record(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return table.multiply.record(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return table.multiply.record(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return table.divide.record(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return table.divide.record(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return table.power.record(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return table.power.record(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return table.matmul.record(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return table.matmul.record(other, self)

    def __iadd__(self, other: Any) -> Tensor:
        return self._updated(self + other)

    def __isub__(self, other: Any) -> Tensor:
        return self._updated(self - other)

    def __imul__(self, other: Any) -> Tensor:
        return self._updated(self * other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._updated(self / other)

    def __ipow__(self, other: Any) -> Tensor:
        return self._updated(self**other)

    def __imatmul__(self, other: Any) -> Tensor:
        return self._updated(self @ other)

    def _updated(self, result: Tensor) -> Tensor:
        """``w -= lr * w.grad`` under `no_grad` gives a leaf new values; elsewhere ``t += 1`` is ``t = t + 1``."""
        if is_grad_enabled() or not (self.is_leaf and self.requires_grad):
            return result
        self.data = result
        return self

    def __neg__(self) -> Tensor:
        return table.negative.record(self)

    def __pos__(self) -> Tensor:
        return table.positive.record(self)

    def __abs__(self) -> Tensor:
        return table.absolute.record(self)

    def __getitem__(self, index: Any) -> Tensor:
        return table.getitem(self, index)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return table.equal(self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return table.not_equal(self, other)

    def __lt__(self, other: Any) -> Tensor:
        return table.less(self, other)

    def __le__(self, other: Any) -> Tensor:
        return table.less_equal(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return table.greater(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return table.greater_equal(self, other)

    def __and__(self, other: Any) -> Tensor:
        return table.bitwise_and(self, other)

    def __or__(self, other: Any) -> Tensor:
        return table.bitwise_or(self, other)

    def __xor__(self, other: Any) -> Tensor:
        return table.bitwise_xor(self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__  # they commute

    def __invert__(self) -> Tensor:
        return table.invert(self)

    # -- methods that NumPy's arrays have too: see the NumPy function of the same name. An unknown keyword, such as dim=, reaches
    # the primitive, whose error names the keywords that have a rule. ---------------------------------------------------------------

    def astype(self, dtype: Any) -> Tensor:
        """The same values as ``dtype``; the gradient comes back in this Tensor's dtype."""
        return table.astype(self, np.dtype(dtype))

    def sum(self, axis: Any = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.sum`"""
        return table.sum(self, axis=axis, keepdims=keepdims, **unknown)

    def mean(self, axis: Any = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.mean`"""
        return table.mean(self, axis=axis, keepdims=keepdims, **unknown)

    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.var`"""
        return table.var(self, axis=axis, ddof=ddof, keepdims=keepdims, **unknown)

    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.std`; its gradient is 0 where all elements are equal."""
        return table.std(self, axis=axis, ddof=ddof, keepdims=keepdims, **unknown)

    def prod(self, axis: Any = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.prod`; its gradient is exact with zeros among the elements, too."""
        return table.prod(self, axis=axis, keepdims=keepdims, **unknown)

    def cumsum(self, axis: Any = None, **unknown: Any) -> Tensor:
        """`numpy.cumsum`"""
        return table.cumsum(self, axis=axis, **unknown)

    def max(self, axis: Any = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.max`; elements that tie for the maximum share the gradient equally."""
        return table.max(self, axis=axis, keepdims=keepdims, **unknown)

    def min(self, axis: Any = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """`numpy.min`; elements that tie for the minimum share the gradient equally."""
        return table.min(self, axis=axis, keepdims=keepdims, **unknown)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """`numpy.argmax`; integers, without gradient."""
        return table.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """`numpy.argmin`; integers, without gradient."""
        return table.argmin(self, axis=axis, keepdims=keepdims)

    def argsort(self, axis: Any = -1, kind: Any = None) -> Tensor:
        """`numpy.argsort`; integers, without gradient."""
        return table.argsort(self, axis=axis, kind=kind)

    def any(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """`numpy.any`; bools, without gradient."""
        return table.any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """`numpy.all`; bools, without gradient."""
        return table.all(self, axis=axis, keepdims=keepdims)

    def sort(self, axis: Any = -1, **unknown: Any) -> Tensor:
        """`numpy.sort`: a sorted copy; this Tensor stays as it is."""
        return table.sort(self, axis=axis, **unknown)

    def take(self, indices: Any, axis: Any = None, **unknown: Any) -> Tensor:
        """`numpy.take`"""
        return table.take(self, indices, axis=axis, **unknown)

    def clip(self, *bounds: Any, **named: Any) -> Tensor:
        """`numpy.clip`; the gradient passes at the bounds, too."""
        return table.clip(self, *bounds, **named)

    def dot(self, other: Any) -> Tensor:
        """`numpy.dot`"""
        return table.dot(self, other)

    def copy(self) -> Tensor:
        """`numpy.copy`; the gradient passes."""
        return table.copy(self)

    def ravel(self, **unknown: Any) -> Tensor:
        """`numpy.ravel`"""
        return table.ravel(self, **unknown)

    def flatten(self, **unknown: Any) -> Tensor:
        """`numpy.ravel`; NumPy's difference, that one of the two copies, is of no account where nothing is written in place."""
        return table.ravel(self, **unknown)

    def squeeze(self, axis: Any = None) -> Tensor:
        """`numpy.squeeze`"""
        return table.squeeze(self, axis=axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """`numpy.diagonal`"""
        return table.diagonal(self, offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1, **unknown: Any) -> Tensor:
        """`numpy.trace`"""
        return table.trace(self, offset, axis1, axis2, **unknown)

    def round(self, decimals: int = 0) -> Tensor:
        """`numpy.round`; the gradient is 0."""
        return table.round(self, decimals=decimals)

    __round__ = round

    def reshape(self, *shape: SupportsIndex | tuple[int, ...], **unknown: Any) -> Tensor:
        """`numpy.reshape`, the shape as a tuple or as arguments."""
        return table.reshape(self, unpacked(shape), **unknown)

    def transpose(self, *axes: SupportsIndex | tuple[int, ...]) -> Tensor:
        """`numpy.transpose`, the axes as a tuple or as arguments; without any, in reverse order."""
        return table.transpose(self, None if axes in ((), (None,)) else unpacked(axes))

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """`numpy.swapaxes`"""
        return table.swapaxes(self, axis1, axis2)


_new = Tensor.__new__


def wrap(array: Array, node: Any = None) -> Tensor:
    """A Tensor around an array, without a copy or a check: the way in for results of operations."""
    tensor = _new(Tensor)
    tensor._array = array
    tensor._grad = None
    tensor._node = node
    return tensor


def _served(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return DISPATCH[function]
    except KeyError:
        name = f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}"
        raise UnsupportedError(
            f"{name} has no derivative rule in minitensor; t.detach().numpy() gives it plain values, without gradient"
        ) from None


def unpacked(given: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape or axes that came as one tuple or as several arguments."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list, np.ndarray)) else given


def _plain_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain_index(part) for part in index)
    if isinstance(index, Tensor):
        return index._array
    return index


def _rebuild(kind: type[Tensor], array: Array, device: str, requires_grad: bool) -> Tensor:
    tensor = kind.__new__(kind)
    Tensor.__init__(tensor, array, None, device, requires_grad)
    return tensor
