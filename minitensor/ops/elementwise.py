"""Elementwise functions and their derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitensor import arrays
from minitensor.errors import UnsupportedError
from minitensor.primitive import Primitive, primitive, serve, without_gradient


def _power_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)):  # a Python number stays weak: float32 ** 2 is float32
        return g * (b * a ** (b - 1)) if b else g * 0
    # 0**0 has the finite derivative 0; 1.0, because an unsigned 0 - 1 would wrap
    return g * b * a ** np.where((a == 0) & (b == 0), 1, b - 1.0)


def _power_exponent(g: Any, y: Any, a: Any, _b: Any) -> Any:
    return g * y * np.log(np.where(a == 0, 1, np.where(a > 0, a, np.nan)))  # 0**b is constant in b > 0; a < 0 has no real derivative


def _clip(x: Any, lo: Any, hi: Any) -> Any:
    raised = x if lo is None else np.maximum(x, lo)
    return raised if hi is None else np.minimum(raised, hi)


def _fits(low: Any, high: Any) -> Any:
    """1 where low <= high; None is no bound."""
    return True if low is None or high is None else low <= high


def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None, **unknown: Any) -> Any:
    """`numpy.clip`; None is no bound, bounds may be Tensors, and ``min=``, ``max=`` are other names of ``a_min``, ``a_max``.

    The gradient goes to ``a`` inside and at its bounds, else to the bound that was taken; lo > hi gives hi, which then gets it all.
    """
    if (min is not None or max is not None) and (a_min is not None or a_max is not None):
        raise UnsupportedError("clip: bounds were given twice, as a_min, a_max and as min=, max=")
    return clipped(a, a_min if min is None else min, a_max if max is None else max, **unknown)


def _move(x: Any, source: str, target: str) -> Any:
    return arrays.to_device(x, target)


# A rule's names: g cotangent, y output, x, a, b inputs; an underscore marks what the rule does not read, *_ all the rest.
add = primitive(np.add, lambda g, *_: g, lambda g, *_: g)
subtract = primitive(np.subtract, lambda g, *_: g, lambda g, *_: -g)
multiply = primitive(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
divide = primitive(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
power = primitive(np.power, _power_base, _power_exponent)
negative = primitive(np.negative, lambda g, _y, _x: -g)
positive = primitive(np.positive, lambda g, _y, _x: g)
square = primitive(np.square, lambda g, _y, x: 2 * g * x)
sqrt = primitive(np.sqrt, lambda g, y, _x: g / (2 * y))
reciprocal = primitive(np.reciprocal, lambda g, y, _x: -g * y * y)
exp = primitive(np.exp, lambda g, y, _x: g * y)
expm1 = primitive(np.expm1, lambda g, _y, x: g * np.exp(x))  # y + 1 would lose the digits of exp(x) at x << 0
log = primitive(np.log, lambda g, _y, x: g / x)
log1p = primitive(np.log1p, lambda g, _y, x: g / (1 + x))
log2 = primitive(np.log2, lambda g, _y, x: g / (x * math.log(2)))
log10 = primitive(np.log10, lambda g, _y, x: g / (x * math.log(10)))
sin = primitive(np.sin, lambda g, _y, x: g * np.cos(x))
cos = primitive(np.cos, lambda g, _y, x: -g * np.sin(x))
tan = primitive(np.tan, lambda g, y, _x: g * (1 + y * y))
arctan = primitive(np.arctan, lambda g, _y, x: g / (1 + x * x))
sinh = primitive(np.sinh, lambda g, _y, x: g * np.cosh(x))
cosh = primitive(np.cosh, lambda g, _y, x: g * np.sinh(x))
tanh = primitive(np.tanh, lambda g, y, _x: g - g * y * y)
erf = primitive(arrays.erf, lambda g, _y, x: g * (2 / math.sqrt(math.pi)) * np.exp(-x * x))
absolute = primitive(np.absolute, lambda g, _y, x: g * np.sign(x))
sign = primitive(np.sign, lambda g, _y, _x: g * 0)
floor = primitive(np.floor, lambda g, _y, _x: g * 0)
ceil = primitive(np.ceil, lambda g, _y, _x: g * 0)
trunc = primitive(np.trunc, lambda g, _y, _x: g * 0)
rint = primitive(np.rint, lambda g, _y, _x: g * 0)
round = primitive(np.round, lambda g, _y, _x, decimals=0: g * 0)
maximum = primitive(  # np.where, because g * (a > b) would turn an infinite g into nan
    np.maximum,
    lambda g, _y, a, b: np.where(a == b, g / 2, np.where(a < b, 0, g)),
    lambda g, _y, a, b: np.where(a == b, g / 2, np.where(b < a, 0, g)),
)
minimum = primitive(
    np.minimum,
    lambda g, _y, a, b: np.where(a == b, g / 2, np.where(a > b, 0, g)),
    lambda g, _y, a, b: np.where(a == b, g / 2, np.where(b > a, 0, g)),
)
clipped = primitive(
    _clip,
    lambda g, _y, x, lo, hi: np.where(_fits(lo, x), np.where(_fits(x, hi), g, 0), 0),
    lambda g, _y, x, lo, hi: np.where(x < lo, np.where(_fits(lo, hi), g, 0), 0),
    lambda g, _y, x, lo, hi: np.where((x if lo is None else np.maximum(x, lo)) > hi, g, 0),
)
where = primitive(
    np.where,
    None,
    lambda g, _y, condition, _a, _b: np.where(condition, g, 0),
    lambda g, _y, condition, _a, _b: np.where(condition, 0, g),
)
astype = serve(arrays.astype, primitive(arrays.astype, lambda g, _y, _x, dtype: g))  # the walk casts every cotangent to its input's dtype
to_device: Primitive = serve(
    arrays.to_device,
    primitive(_move, lambda g, _y, _x, source, target: to_device(g, source=target, target=source), latex=r"\bar x = \bar y"),
)

copy = primitive(np.copy, lambda g, _y, _x: g)

serve(np.clip, clip)
serve(np.around, round)
if hasattr(np, "astype"):  # NumPy 2.1
    serve(np.astype, astype)
abs = absolute

equal, not_equal, less, less_equal, greater, greater_equal = without_gradient(
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal
)
logical_and, logical_or, logical_xor, logical_not = without_gradient(np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
bitwise_and, bitwise_or, bitwise_xor, invert = without_gradient(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert)
isnan, isinf, isfinite, iscomplexobj, isrealobj = without_gradient(np.isnan, np.isinf, np.isfinite, np.iscomplexobj, np.isrealobj)
isclose, allclose, array_equal = without_gradient(np.isclose, np.allclose, np.array_equal)
