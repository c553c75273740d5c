"""Layers as functions of their parameters, in PyTorch's signatures with NumPy's ``axis``. As ``torch.nn.functional``."""

from .normalization import instance_norm

__all__ = ["instance_norm"]
