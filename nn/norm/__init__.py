"""The InstanceNorm family: formulas, primitives, kernels, layers."""

from .instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d

__all__ = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]
