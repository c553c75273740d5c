"""The comparison of a layer's analytic backward with autograd and with numerical derivatives."""

from .compare import compare_backward
from .result import Comparison, Row
from .subject import random_cotangent

__all__ = ["Comparison", "Row", "compare_backward", "random_cotangent"]
