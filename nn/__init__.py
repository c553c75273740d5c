"""Layers with an analytic backward that is checked against its own derivation. Import it as ``from minitensor import nn``."""

if __name__ == "nn":
    raise ImportError(
        "a bare `import nn` would make second copies of the classes; write `from minitensor import nn` "
        "(this folder is installed as minitensor.nn)"
    )

from minitensor.nn import functional
from minitensor.nn.comparison import Comparison, compare_backward
from minitensor.nn.module import Module
from minitensor.nn.norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from minitensor.nn.parameter import Parameter

__all__ = [
    "Comparison",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "Module",
    "Parameter",
    "compare_backward",
    "functional",
]
