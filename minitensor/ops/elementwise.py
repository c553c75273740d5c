"""Elementwise functions and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitensor import arrays
from minitensor.primitive import Primitive, primitive, serve, without_gradient


def _power_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)):  # a Python number stays weak: float32 ** 2 is float32
        return g * (b * a ** (b - 1)) if b else g * 0
    # 0**0 has the finite derivative 0; 1.0, because an unsigned 0 - 1 would wrap
    return g * b * a ** np.where((a == 0) & (b == 0), 1, b - 1.0)


def _power_exponent(g: Any, y: Any, a: Any, _b: Any) -> Any:
    return g * y * np.log(np.where(a == 0, 1, np.where(a > 0, a, np.nan)))  # 0**b is constant in b > 0; a < 0 has no real derivative


def _move(x: Any, source: str, target: str) -> Any:
    return arrays.to_device(x, target)


# A rule's names: g cotangent, y output, x, a, b inputs; an underscore marks what the rule does not read.
add = primitive(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)
subtract = primitive(np.subtract, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)
multiply = primitive(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
divide = primitive(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
power = primitive(np.power, _power_base, _power_exponent)
negative = primitive(np.negative, lambda g, _y, _x: -g)
positive = primitive(np.positive, lambda g, _y, _x: g)
square = primitive(np.square, lambda g, _y, x: 2 * g * x)
sqrt = primitive(np.sqrt, lambda g, y, _x: g / (2 * y))
reciprocal = primitive(np.reciprocal, lambda g, y, _x: -g * y * y)
exp = primitive(np.exp, lambda g, y, _x: g * y)
log = primitive(np.log, lambda g, _y, x: g / x)
sin = primitive(np.sin, lambda g, _y, x: g * np.cos(x))
cos = primitive(np.cos, lambda g, _y, x: -g * np.sin(x))
tanh = primitive(np.tanh, lambda g, y, _x: g * (1 - y * y))
absolute = primitive(np.absolute, lambda g, _y, x: g * np.sign(x))
sign = primitive(np.sign, lambda g, _y, _x: g * 0)
maximum = primitive(
    np.maximum,
    lambda g, _y, a, b: g * (a > b) + g / 2 * (a == b),
    lambda g, _y, a, b: g * (b > a) + g / 2 * (a == b),
)
minimum = primitive(
    np.minimum,
    lambda g, _y, a, b: g * (a < b) + g / 2 * (a == b),
    lambda g, _y, a, b: g * (b < a) + g / 2 * (a == b),
)
where = primitive(
    np.where,
    None,
    lambda g, _y, condition, _a, _b: np.where(condition, g, 0),
    lambda g, _y, condition, _a, _b: np.where(condition, 0, g),
)
astype = primitive(arrays.astype, lambda g, _y, _x, dtype: g)  # the walk casts every cotangent to its input's dtype
to_device: Primitive = serve(
    arrays.to_device, primitive(_move, lambda g, _y, _x, source, target: to_device(g, source=target, target=source))
)

without_gradient(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
without_gradient(np.bitwise_and, np.bitwise_or, np.invert, np.logical_and, np.logical_or, np.logical_not)
without_gradient(np.isnan, np.isinf, np.isfinite, np.isclose, np.allclose, np.array_equal)
