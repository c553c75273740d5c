"""Tensors from nothing, filled, counted, drawn at random, with ``dtype=None, device=None, requires_grad=False``; or on given memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitensor import arrays
from minitensor.errors import DTypeError
from minitensor.tensor import Tensor, unpacked, wrap

_random: np.random.Generator | None = None  # made at the first draw: NumPy loads its random numbers when they are asked for


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of ``data``; see `Tensor`.

    >>> tensor([[1, 2], [3, 4]]).dtype, tensor(1.5).dtype
    (dtype('int64'), dtype('float32'))
    """
    return Tensor(data, dtype, device, requires_grad)


def from_numpy(array: Any) -> Tensor:
    """A Tensor on the memory of a NumPy array: no copy, the same shape and dtype, no gradient until ``requires_grad`` is set.

    Writing into ``array`` changes the Tensor, and with it what a later backward pass of a graph recorded before sees: not doing so is the
    user's duty (`tensor` copies instead). ``t[...] = values`` and ``t.data = values`` give the Tensor memory of its own. Raises
    `UnsupportedError` for what is not a NumPy array, `DTypeError` for masked arrays, matrices and what is not numbers.
    As ``torch.from_numpy``.

    >>> array = np.zeros(3)
    >>> t = from_numpy(array)
    >>> array[0] = 7.0; t
    tensor([7., 0., 0.], dtype=float64)
    """
    return wrap(arrays.shared_array(array))


def from_dlpack(source: Any) -> Tensor:
    """A Tensor on the memory of any object with ``__dlpack__``: an array of NumPy, CuPy, JAX, a tensor of PyTorch, a Tensor.

    No copy, the same shape and dtype, on the device of the source, no gradient; writing is the user's duty, as for `from_numpy`.
    ``torch.from_dlpack(t)`` and its like are the way back. Raises `UnsupportedError` without ``__dlpack__``, for a source that requires
    grad and for a dtype that NumPy lacks (bfloat16), `DeviceError` where CuPy is needed and missing. As ``torch.from_dlpack``.

    >>> from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    return wrap(arrays.imported_array(source))


def _made(name: str, args: tuple[Any, ...], dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    module, context = arrays.on_device(device)
    with context:
        made = wrap(getattr(module, name)(*args, dtype=dtype))
    made.requires_grad = requires_grad
    return made


def zeros(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """0 everywhere; the shape as a tuple or as arguments.

    >>> zeros(2, 3).shape
    (2, 3)
    """
    return _made("zeros", (unpacked(shape),), dtype or arrays.get_default_dtype(), device, requires_grad)


def ones(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """1 everywhere; the shape as a tuple or as arguments."""
    return _made("ones", (unpacked(shape),), dtype or arrays.get_default_dtype(), device, requires_grad)


def full(shape: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere; its kind decides the dtype when none is given.

    >>> full((2,), 7)
    tensor([7, 7])
    """
    shape = tuple(shape) if hasattr(shape, "__len__") else (shape,)
    fill_value = np.asarray(fill_value) if isinstance(fill_value, Tensor) else fill_value  # which refuses to forget a graph
    return _made("full", (shape, fill_value), dtype or arrays.new_array(fill_value, device="cpu").dtype, device, requires_grad)


def arange(*limits: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``arange(stop)``, ``arange(start, stop[, step])``: integers unless a limit is a float.

    >>> arange(3), arange(0.0, 1.0, 0.5)
    (tensor([0, 1, 2]), tensor([0. , 0.5]))
    """
    limits = tuple(limit.item() if isinstance(limit, Tensor) else limit for limit in limits)
    floating = np.result_type(*limits).kind == "f"
    return _made("arange", limits, dtype or (arrays.get_default_dtype() if floating else np.int64), device, requires_grad)


def linspace(start: float, stop: float, num: int, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``num`` numbers from ``start`` to ``stop``, both included.

    >>> linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    return _made("linspace", (start, stop, num), dtype or arrays.get_default_dtype(), device, requires_grad)


def eye(n: int, m: int | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """1 on the diagonal of an (n, m) matrix, 0 elsewhere."""
    return _made("eye", (n, m), dtype or arrays.get_default_dtype(), device, requires_grad)


def zeros_like(other: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """0 in the shape, dtype and device of ``other``, unless told otherwise."""
    return full_like(other, 0, dtype, device, requires_grad)


def ones_like(other: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """1 in the shape, dtype and device of ``other``, unless told otherwise."""
    return full_like(other, 1, dtype, device, requires_grad)


def full_like(other: Tensor, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` in the shape, dtype and device of ``other``, unless told otherwise."""
    return full(other.shape, fill_value, dtype or other.dtype, device or other.device, requires_grad)


def manual_seed(seed: int) -> None:
    """Start the random numbers of this package anew; NumPy's own generators are left alone.

    >>> manual_seed(0); a = randn(3)
    >>> manual_seed(0); bool((randn(3) == a).numpy().all())
    True
    """
    global _random
    _random = np.random.default_rng(seed)


def default_generator() -> np.random.Generator:
    """What every draw without a generator of its own comes from; see `manual_seed`."""
    global _random
    _random = _random or np.random.default_rng()
    return _random


def _drawn(values: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    # Drawn on the CPU and then moved, so that a seed gives the same numbers on every device
    return Tensor(np.asarray(values), dtype or arrays.get_default_dtype(), device, requires_grad)


def randn(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Standard normal numbers; the shape as a tuple or as arguments."""
    return _drawn(default_generator().standard_normal(unpacked(shape)), dtype, device, requires_grad)


def rand(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1); the shape as a tuple or as arguments."""
    return _drawn(default_generator().random(unpacked(shape)), dtype, device, requires_grad)


def randint(low: int, high: int, size: Any, dtype: Any = np.int64, device: Any = None) -> Tensor:
    """Uniform integers in [low, high)."""
    if np.dtype(dtype).kind not in "iu":
        raise DTypeError(f"randint: an integer dtype is needed, got {np.dtype(dtype)}")
    return _drawn(default_generator().integers(low, high, size), dtype, device, False)
