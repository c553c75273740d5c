"""The rule table, by family: every differentiable function with its derivative."""

from minitensor.ops.elementwise import (
    absolute,
    add,
    astype,
    cos,
    divide,
    exp,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    power,
    reciprocal,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from minitensor.ops.indexing import getitem
from minitensor.ops.linalg import matmul
from minitensor.ops.reductions import max, mean, min, sum, var
from minitensor.ops.shaping import broadcast_to, concatenate, reshape, swapaxes, transpose

__all__ = [
    "absolute", "add", "astype", "broadcast_to", "concatenate", "cos", "divide", "exp", "getitem", "log", "matmul", "max", "maximum",
    "mean", "min", "minimum", "multiply", "negative", "positive", "power", "reciprocal", "reshape", "sign", "sin", "sqrt", "square",
    "subtract", "sum", "swapaxes", "tanh", "transpose", "var", "where",
]  # fmt: skip
