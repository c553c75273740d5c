"""Layers with an analytic backward that is checked against its own derivation. Import it as ``from minitensor import nn``."""

if __name__ == "nn":
    raise ImportError(
        "a bare `import nn` would make second copies of the classes; write `from minitensor import nn` "
        "(this folder is installed as minitensor.nn)"
    )

from . import functional
from .comparison import Comparison, compare_backward
from .module import Module
from .norm import *
from .norm import __all__ as _norms
from .parameter import Parameter, UninitializedParameter

__all__ = ["Comparison", "Module", "Parameter", "UninitializedParameter", "compare_backward", "functional", *_norms]
