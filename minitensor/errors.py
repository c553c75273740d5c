"""Named errors: what was asked, what was got, the likely fix.

Each inherits from the built-in error that NumPy or PyTorch would raise, so that existing ``except`` clauses keep working.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ShapeError(ValueError):
    """Shapes do not fit together, or do not fit the layer."""


class DTypeError(TypeError):
    """A dtype cannot do what was asked, such as an integer that should carry a gradient."""


class DeviceError(RuntimeError):
    """A device is not there, or operands live on different devices."""


class GraphError(RuntimeError):
    """The graph cannot be walked: it was released, never recorded, or lacks a cotangent."""


class UnsupportedError(TypeError):
    """NumPy has this function or keyword, but minitensor has no rule for it."""


class StateDictError(RuntimeError):
    """A state dict does not fit the module it was to be loaded into; the message lists everything that does not."""


class MissingPackageError(ImportError):
    """An optional package is needed here and is not installed."""


class CheckpointError(ValueError):
    """A file is no checkpoint that can be loaded, or something cannot be kept in one."""


class GradcheckError(RuntimeError):
    """A gradient check found a mistake or was refused; ``result`` is the `minitensor.autograd.GradCheck` that says which."""

    def __init__(self, result: Any) -> None:
        super().__init__(str(result))
        self.result = result


def describe(value: Any) -> str:
    """``float32 (2, 3)`` for arrays and Tensors, the type's name for everything else.

    >>> import numpy as np
    >>> describe(np.zeros((2, 3), np.float32)), describe(2.0)
    ('float32 (2, 3)', 'float')
    """
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} {tuple(value.shape)}"
    return type(value).__name__


def operation_failed(name: str, inputs: Iterable[Any], error: Exception) -> Exception:
    """The error of an operation, with its name and the shape and dtype of every input."""
    inputs = list(inputs)
    operands = ", ".join(describe(value) for value in inputs)
    message = f"{name}({operands}): {error}"
    if len({type(value).__module__.partition(".")[0] for value in inputs if hasattr(value, "__array_function__")}) > 1:
        return DeviceError(f"{message}\nThe operands live on different devices: move one of them with .to(device).")
    if isinstance(error, ValueError):
        return ShapeError(message)
    return IndexError(message) if isinstance(error, IndexError) else UnsupportedError(message)
