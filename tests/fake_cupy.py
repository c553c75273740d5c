"""A stand-in for CuPy, put into `sys.modules` by a fixture: computed by NumPy underneath, but as strict as CuPy about what it meets.

As cupy.ndarray does, its arrays refuse to become a NumPy array unasked, refuse to be mixed with one, hand operations with foreign classes
to NumPy's dispatch except for ``@``, which never makes way, and answer reductions with 0-d arrays instead of scalars. A function that is
not listed here does not exist, nor does a keyword that is refused here.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy

SCALARS = (bool, int, float, complex, numpy.generic, numpy.dtype, type, str, slice, type(None), type(...))


class Device:
    """A device number that is also a context manager, as ``cupy.cuda.Device``."""

    def __init__(self, id: int = 0) -> None:
        self.id = id

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass


cuda = SimpleNamespace(Device=Device, runtime=SimpleNamespace(getDeviceCount=lambda: 1))


def _bare(value: Any) -> Any:
    """The NumPy array inside; everything that cupy would refuse is refused."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, (list, tuple)):
        return type(value)(map(_bare, value))
    if not isinstance(value, SCALARS):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _bare_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_bare_index, index))
    return index if isinstance(index, numpy.ndarray) else _bare(index)  # indices alone may come from NumPy


def _dressed(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(map(_dressed, result))
    return ndarray(numpy.asarray(result)) if isinstance(result, (numpy.ndarray, numpy.generic)) else result


class _Function:
    """A NumPy function on these arrays alone."""

    def __init__(self, function: Any) -> None:
        self.function, self.__name__ = function, function.__name__

    def __call__(self, *args: Any, **params: Any) -> Any:
        if params.keys() & REFUSED.get(self.__name__, set()):
            raise TypeError(f"{self.__name__}() got an unexpected keyword argument")
        if params.get("kind") not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        return _dressed(self.function(*_bare(args), **{key: _bare(value) for key, value in params.items()}))

    def at(self, array: ndarray, index: Any, value: Any) -> None:
        self.function.at(array._array, _bare_index(index), _bare(value))


class ndarray:
    """A NumPy array that no NumPy function sees."""

    def __init__(self, array: numpy.ndarray) -> None:
        self._array = array

    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    dtype = property(lambda self: self._array.dtype)
    device = property(lambda self: Device(0))
    __cuda_array_interface__ = property(lambda self: {"version": 3})

    def __array__(self, *args: Any, **params: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **params: Any) -> Any:
        function = LISTED.get(ufunc.__name__)
        foreign = [x for x in inputs if not isinstance(x, (ndarray, numpy.ndarray, bool, int, float, complex, numpy.generic))]
        return NotImplemented if method != "__call__" or function is None or foreign else function(*inputs, **params)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Any:
        mine = (LINALG if function.__module__ == "numpy.linalg" else LISTED).get(function.__name__)
        return NotImplemented if mine is None or any(t not in (ndarray, numpy.ndarray) for t in types) else mine(*args, **params)

    def __matmul__(self, other: Any) -> ndarray:
        return LISTED["matmul"](self, other)  # does not make way for other classes

    def __iadd__(self, other: Any) -> ndarray:
        self._array += _bare(other)
        return self

    def __getitem__(self, index: Any) -> ndarray:
        return _dressed(self._array[_bare_index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._array[_bare_index(index)] = _bare(value)

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        return bool(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __repr__(self) -> str:
        return repr(self._array)

    def get(self) -> numpy.ndarray:
        return self._array.copy()

    def item(self) -> Any:
        return self._array.item()

    def tolist(self) -> Any:
        return self._array.tolist()

    def __reduce__(self) -> Any:
        return asarray, (self.get(),)

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("this capsule neither copies nor moves")
        return _Capsule(self._array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.id


class _Capsule:
    """A promise of the memory of a GPU, which nobody but `from_dlpack` below can redeem."""

    def __init__(self, array: numpy.ndarray) -> None:
        self.array = array


def from_dlpack(source: Any) -> ndarray:
    if source.__dlpack_device__()[0] not in (2, 13):
        raise TypeError("CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))` instead.")
    return ndarray(source.__dlpack__(stream=1, max_version=(1, 0)).array.view())


def asarray(value: Any, dtype: Any = None) -> ndarray:
    return value if isinstance(value, ndarray) else ndarray(numpy.array(value, dtype))


def asnumpy(array: ndarray) -> numpy.ndarray:
    return array.get()


def erf(array: ndarray) -> ndarray:
    """What ``cupyx.scipy.special`` has; complex numbers are not among its types."""
    return ndarray(numpy.asarray(numpy.frompyfunc(math.erf, 1, 1)(array._array), array.dtype))


def __getattr__(name: str) -> Any:
    try:
        return LISTED[name]
    except KeyError:
        raise AttributeError(f"module 'cupy' has no attribute {name!r}") from None


def _operator(ufunc: Any, swapped: bool = False) -> Any:
    def method(self: ndarray, other: Any) -> Any:
        pair = (other, self) if swapped else (self, other)
        return LISTED[ufunc.__name__](*pair) if isinstance(other, ndarray) else ufunc(*pair)  # else: NumPy's dispatch

    return method


def _method(name: str) -> Any:
    return lambda self, *args, **params: _dressed(getattr(self._array, name)(*_bare(args), **params))


REFUSED = {
    **{name: {"where", "initial"} for name in ["sum", "mean", "var", "std", "prod", "max", "min", "any", "all"]},
    "sort": {"order", "stable"}, "argsort": {"order", "stable"}, "cumsum": {"keepdims"},
}  # fmt: skip
FUNCTIONS = """
    add subtract multiply divide remainder power negative positive square sqrt reciprocal exp expm1 log log1p log2 log10
    sin cos tan arctan sinh cosh tanh absolute sign floor ceil trunc rint round maximum minimum where copy
    equal not_equal less less_equal greater greater_equal bitwise_and bitwise_or bitwise_xor invert
    logical_and logical_or logical_xor logical_not isnan isinf isfinite isclose allclose array_equal iscomplexobj isrealobj
    sum mean var std prod cumsum max min any all argmax argmin argsort count_nonzero
    ravel squeeze expand_dims transpose swapaxes moveaxis flip broadcast_to concatenate stack pad tril triu diagonal trace sort
    take_along_axis matmul dot inner outer tensordot einsum shape ndim size result_type
    zeros ones full arange linspace eye zeros_like ones_like full_like empty_like
"""
OPERATORS = {
    "add": numpy.add, "sub": numpy.subtract, "mul": numpy.multiply, "truediv": numpy.divide, "pow": numpy.power, "eq": numpy.equal,
    "ne": numpy.not_equal, "lt": numpy.less, "le": numpy.less_equal, "gt": numpy.greater, "ge": numpy.greater_equal,
    "and": numpy.bitwise_and, "or": numpy.bitwise_or, "mod": numpy.remainder,
}  # fmt: skip
METHODS = """
    sum mean max min any all reshape transpose swapaxes astype copy view __neg__ __abs__ __invert__
"""

LISTED = {name: _Function(getattr(numpy, name)) for name in FUNCTIONS.split()}
LINALG = {"norm": _Function(numpy.linalg.norm)}
linalg = SimpleNamespace(**LINALG)
for name, ufunc in OPERATORS.items():
    setattr(ndarray, f"__{name}__", _operator(ufunc))
    if name in ("add", "sub", "mul", "truediv", "pow", "mod", "and", "or"):
        setattr(ndarray, f"__r{name}__", _operator(ufunc, swapped=True))
for name in METHODS.split():
    setattr(ndarray, name, _method(name))
