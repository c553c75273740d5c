"""Layers as functions of their parameters, in PyTorch's signatures with NumPy's ``axis``. As ``torch.nn.functional``."""

from ..norm.functional import adaptive_instance_norm, batch_norm, group_norm, instance_norm, layer_norm, rms_norm

__all__ = ["adaptive_instance_norm", "batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]
