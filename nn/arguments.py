"""What a layer or a function may be given: the checks that many of them share."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from minitensor import Tensor
from minitensor.arrays import parse_device
from minitensor.errors import DTypeError, describe

F = TypeVar("F", bound=Callable[..., Any])


def check_floating(name: str, value: Any, what: str = "input") -> None:
    """Refuse what is no Tensor of floating numbers."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {what} must be a Tensor, got {describe(value)}; mt.tensor(array) makes one")
    if value.dtype.kind != "f":
        raise DTypeError(f"{name}: {what} must be floating numbers, got {describe(value)}; use {what}.astype(mt.float32)")


def named_axis(function: F) -> F:
    """Tell a caller who writes PyTorch's ``dim=`` that it is ``axis=`` here."""

    @functools.wraps(function)
    def call(*args: Any, **params: Any) -> Any:
        if "dim" in params:
            raise TypeError(f"{function.__qualname__.removesuffix('.__init__')}: the keyword dim= is named axis= here, as NumPy names it")
        return function(*args, **params)

    return cast(F, call)


def positive_int(layer: object, name: str, value: Any) -> int:
    """The value as an int, if it is one and positive."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{type(layer).__name__}: {name} must be an int, got {value!r}")
    if number < 1:
        raise ValueError(f"{type(layer).__name__}: {name} must be positive, got {value}")
    return number


def placement(layer: object, device: Any, dtype: Any) -> dict[str, Any]:
    """Where and in what dtype a layer makes its parameters; None is the default of either."""
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise DTypeError(f"{type(layer).__name__}: dtype must be a floating one, got {np.dtype(dtype)}")
    return {"dtype": dtype, "device": parse_device(device)}


def int_shape(layer: object, name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """One int or several as a shape of positive ints."""
    sizes = value if isinstance(value, (tuple, list)) else (value,)
    if hasattr(value, "shape"):
        raise TypeError(f"{type(layer).__name__}: {name} must be an int or a tuple of ints, got {value!r}")
    if not sizes:
        raise ValueError(f"{type(layer).__name__}: {name} must name at least one axis, got {value!r}")
    return tuple(positive_int(layer, name, size) for size in sizes)
