"""NumPy or CuPy: which module owns an array, where arrays live, which dtype numbers get. The only file that imports CuPy."""

from __future__ import annotations

import math
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from minitensor.errors import DeviceError, DTypeError, UnsupportedError, describe

Array = Any  # numpy.ndarray, cupy.ndarray, or anything that implements NumPy's protocols

_defaults: dict[str, Any] = {"dtype": np.dtype(np.float32), "device": "cpu"}


class ShapeDtype:
    """What is known of an array whose values are not kept."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __array_ufunc__(self, *call: Any, **params: Any) -> Any:
        raise UnsupportedError("a rule reads the values of an argument whose name begins with an underscore; take the underscore away")


def get_default_dtype() -> np.dtype[Any]:
    """The dtype that Python floats get.

    >>> get_default_dtype()
    dtype('float32')
    """
    return _defaults["dtype"]  # type: ignore[no-any-return]


def set_default_dtype(dtype: Any) -> None:
    """Let Python floats become ``dtype`` (float16, float32 or float64) from now on.

    >>> set_default_dtype(np.float64); get_default_dtype()
    dtype('float64')
    >>> set_default_dtype(np.float32)
    """
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise DTypeError(f"set_default_dtype: a floating dtype is needed, got {dtype}")
    _defaults["dtype"] = dtype


def get_default_device() -> str:
    """Where new Tensors are made: ``"cpu"`` unless `set_default_device` said otherwise."""
    return _defaults["device"]  # type: ignore[no-any-return]


def set_default_device(device: str) -> None:
    """Make new Tensors on ``device`` from now on; raises `DeviceError` when it is not there."""
    _defaults["device"] = parse_device(device)


def cupy_module() -> ModuleType:
    """CuPy with a GPU behind it, or a `DeviceError` that says which of the two is missing."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            "device 'cuda' needs CuPy, which is not installed: pip install cupy-cuda12x (CUDA 12) or cupy-cuda13x (CUDA 13)"
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own CUDARuntimeError, which cannot be named without a GPU driver
        raise DeviceError(f"device 'cuda': CuPy is installed but finds no GPU ({error}); use device='cpu'") from error
    if count == 0:
        raise DeviceError("device 'cuda': CuPy is installed but finds no GPU; use device='cpu'")
    return cupy  # type: ignore[no-any-return]


def parse_device(device: Any) -> str:
    """The normal form of a device's name: ``"cpu"`` or ``"cuda:N"``; None means the default device.

    >>> parse_device("cpu"), parse_device(None)
    ('cpu', 'cpu')
    """
    if device is None:
        return get_default_device()
    found = re.fullmatch(r"(cpu)|cuda(?::(\d+))?", str(device))
    if not found:
        raise DeviceError(f"device {device!r} is unknown: use 'cpu', 'cuda' or 'cuda:N'")
    if found[1]:
        return "cpu"
    index, count = int(found[2] or 0), cupy_module().cuda.runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device 'cuda:{index}' is not there: CuPy finds {count} GPU(s)")
    return f"cuda:{index}"


def is_cupy(value: Any) -> bool:
    """True for a ``cupy.ndarray``; never imports CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def array_module(array: Array) -> ModuleType:
    """``numpy`` or ``cupy``, whichever made the array."""
    return sys.modules["cupy"] if is_cupy(array) else np


def device_of(array: Array) -> str:
    """``"cpu"`` or ``"cuda:N"``."""
    return f"cuda:{array.device.id}" if is_cupy(array) else "cpu"


def on_device(device: Any) -> tuple[ModuleType, AbstractContextManager[Any]]:
    """The array module for a device and the context in which to call it.

    >>> module, context = on_device("cpu")
    >>> with context:
    ...     module.zeros(2)
    array([0., 0.])
    """
    name = parse_device(device)
    if name == "cpu":
        return np, nullcontext()
    cupy = cupy_module()
    return cupy, cupy.cuda.Device(int(name.partition(":")[2]))


def to_device(array: Array, device: Any) -> Array:
    """The array on ``device``: itself when it is there already, else a copy."""
    name = parse_device(device)
    if device_of(array) == name:
        return array
    if name == "cpu":
        return sys.modules["cupy"].asnumpy(array)
    module, context = on_device(name)
    with context:
        return module.asarray(array)


def as_array(value: Any) -> Array:
    """NumPy's reductions return scalars: make them 0-d arrays again; leave every kind of array as it is."""
    return value if hasattr(value, "__array_function__") else np.asarray(value)


def refuse_masked(value: Any) -> None:
    """A mask would get lost, and a matrix multiplies differently: both are refused rather than misread."""
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise DTypeError(f"{type(value).__name__} is not a plain array: use np.asarray(...), or .filled(value) for a masked one")


def new_array(data: Any, dtype: Any = None, device: Any = None) -> Array:
    """A new array from numbers, nested lists or an array; arrays keep their dtype, Python floats get the default dtype, also among ints."""
    refuse_masked(data)
    if not hasattr(data, "__array_function__"):
        python = _first_number(data) in (bool, int, float)
        data = np.array(data, dtype=dtype)
        dtype = get_default_dtype() if python and dtype is None and data.dtype.kind == "f" else dtype
    if device is None:
        device = device_of(data) if is_cupy(data) else get_default_device()
    moved = to_device(data, device)
    return _only_numbers("tensor", moved.astype(data.dtype if dtype is None else dtype, copy=True))


def shared_array(array: Any) -> Array:
    """A view of a NumPy array: the same memory, whatever becomes of the shape of the array that was given."""
    if not isinstance(array, np.ndarray):
        raise UnsupportedError(f"from_numpy: a numpy.ndarray is needed, got {type(array).__name__}; tensor(...) takes more")
    refuse_masked(array)
    return _only_numbers("from_numpy", array.view(np.ndarray))


def imported_array(source: Any) -> Array:
    """The array behind ``__dlpack__``, without a copy: NumPy's where the memory is the CPU's, CuPy's where it is a GPU's."""
    if not hasattr(source, "__dlpack__"):
        raise UnsupportedError(f"from_dlpack: an object with __dlpack__ is needed, got {type(source).__name__}; tensor(...) copies")
    kind = int(source.__dlpack_device__()[0])
    if kind not in (1, 2, 3, 13):  # DLPack's numbers for memory of the CPU, of CUDA, pinned for CUDA, and managed by CUDA
        raise DeviceError(f"from_dlpack: {describe(source)} lives on device type {kind}; only the CPU (1, 3) and CUDA (2, 13) serve")
    module = np if kind in (1, 3) else cupy_module()
    try:
        return module.from_dlpack(source)
    except (BufferError, RuntimeError) as error:
        told = describe(source)
        hint = "; float32 holds every bfloat16 exactly: convert first (.float() in PyTorch)" if "bfloat16" in told else ""
        raise UnsupportedError(f"from_dlpack: {module.__name__} cannot share {told}: {error}{hint}") from error


def _only_numbers(name: str, array: Array) -> Array:
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"{name}: numbers are needed, got dtype {array.dtype}")
    return array


def _first_number(data: Any) -> type:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    # An empty list holds no number; like PyTorch, it becomes floating
    return float if isinstance(data, (list, tuple)) else type(data)


def astype(array: Array, dtype: Any) -> Array:
    """``array.astype(dtype)``, which NumPy 2.0 has as a method only."""
    return array.astype(dtype)


def erf(x: Array) -> Array:
    r"""2 / sqrt(pi) times the integral of exp(-t**2) over t from 0 to x, elementwise.

    The result has the shape of ``x`` and its dtype; integers become float64. `UnsupportedError` for complex numbers.

    >>> import minitensor as mt
    >>> x = mt.tensor([0.0, 0.5], requires_grad=True)
    >>> y = mt.erf(x); y
    tensor([0.    , 0.5205], grad_fn=<erf>)
    >>> y.sum().backward(); x.grad           # 2 / sqrt(pi) exp(-x**2)
    tensor([1.1284, 0.8788])
    """
    x = as_array(x)
    if x.dtype.kind not in "biuf":
        raise DTypeError(f"real numbers are needed, got {x.dtype}")
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    if is_cupy(x):
        from cupyx.scipy.special import erf as cupy_erf

        return cupy_erf(x.astype(dtype)).astype(dtype)
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype)


def read_only(array: Array) -> Array:
    """A view that refuses writing. CuPy has no such flag: there it is the user's duty not to write."""
    view = array.view()
    if isinstance(view, np.ndarray):
        view.flags.writeable = False
    return view
