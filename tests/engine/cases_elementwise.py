"""Cases of the elementwise functions."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from casework import PAIRS, POSITIVE, SHAPES, SIGNED, Case, case

from minitensor import ops
from minitensor.ops.elementwise import clipped, to_device

CLIPS = {
    "between": lambda x: np.clip(x, -1.0, 1.0),
    "below": lambda x: np.clip(x, None, 1.0),
    "above": lambda x: np.clip(x, -1, None),
    "by name": lambda x: np.clip(x, a_min=-1.0, a_max=0.5),
    "the newer names": lambda x: ops.clip(x, min=-1.0, max=0.5),
    "the method": lambda x: x.clip(-0.5, 0.5),
    "the method, by name": lambda x: x.clip(max=0.5),
    "a number between": lambda x: ops.clip(0.2, x, x + 1.0),
    "lo > hi": lambda x: ops.clip(x, 1.0, -1.0) * x,
    "itself as a bound": lambda x: ops.clip(x * x, x, 2.0),
}


def elementwise() -> list[Case]:
    binary = [ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum]
    unary = [
        ops.negative,
        ops.positive,
        ops.square,
        ops.exp,
        ops.expm1,
        ops.sin,
        ops.cos,
        ops.arctan,
        ops.sinh,
        ops.cosh,
        ops.tanh,
        ops.erf,
    ]
    kinked = [ops.absolute, ops.sign, ops.floor, ops.ceil, ops.trunc, ops.rint, ops.round, ops.copy]
    positive = [ops.sqrt, ops.log, ops.log1p, ops.log2, ops.log10]
    return [
        *(case(f, *shapes) for f, shapes in product(binary, PAIRS)),
        *(case(ops.divide, *shapes, domain=SIGNED) for shapes in PAIRS),
        *(case(ops.power, *shapes, domain=POSITIVE) for shapes in PAIRS),
        *(case(f, shape) for f, shape in product([*unary, *kinked], SHAPES)),
        *(case(f, shape, domain=POSITIVE) for f, shape in product(positive, SHAPES)),
        *(case(ops.tan, shape, domain=(-1.2, 1.2)) for shape in SHAPES),
        *(case(ops.reciprocal, shape, domain=SIGNED) for shape in SHAPES),
        *(case(ops.power, (3, 4), call=lambda x, n=n: x**n, name=f"x ** {n!r}", domain=SIGNED) for n in [3, 2, 1, 0, -1, -2, 2.0, True]),
        *(
            case(ops.power, (5,), call=lambda x, n=n: x**n, name=f"x ** {n!r}", domain=POSITIVE)
            for n in [0.5, -1.5, np.float64(1.5), np.float32(2)]
        ),
        *(case(ops.power, (5,), call=lambda x, a=a: a**x, name=f"{a!r} ** x") for a in [2.0, 3, 0.5, np.float64(1.5)]),
        case(ops.power, (2, 3), name="x ** integers", domain=SIGNED, given=[[3, 2, 0]]),
        case(ops.power, (2, 3), call=lambda x, n: n**x, name="integers ** x", given=[[3, 2, 1]]),
        case(ops.multiply, (3,), call=lambda x: 2 * x, name="2 * x"),
        case(ops.multiply, (3,), call=lambda x: x * x, name="x * x"),
        case(ops.divide, (3,), call=lambda x: 1 / x, name="1 / x", domain=SIGNED),
        case(ops.divide, (3,), call=lambda x: x / x, name="x / x", domain=SIGNED),
        case(ops.subtract, (3,), call=lambda x: 1 - x, name="1 - x"),
        case(ops.maximum, (3, 4), call=lambda x: ops.maximum(x, 0.0), name="max(x, 0)"),
        case(ops.minimum, (3, 4), call=lambda x: ops.minimum(0.0, x), name="min(0, x)"),
        *(
            case(ops.where, *shapes, call=lambda a, b, mask: ops.where(mask, a, b), name=f"{shapes} {np.shape(mask)}", given=[mask])
            for shapes, mask in [
                (((2, 3), (2, 3)), [[True, False, True], [False, False, True]]),
                (((3,), (2, 1)), [[True], [False]]),
                (((), (2, 2)), [True, False]),
                (((), ()), [True, False]),
                (((2,), ()), False),
            ]
        ),
        case(ops.round, (3, 4), decimals=1, domain=(-0.2, 0.2)),
        *(
            case(clipped, *shapes, call=ops.clip, name=f"Tensors {shapes}")
            for shapes in [
                ((3, 4), (3, 4), (3, 4)),
                ((3, 4), (4,), ()),
                ((), (2, 3), (3,)),
                ((), (), ()),
                ((2, 1), (1, 3), (3,)),
                ((0, 3), (3,), ()),
            ]
        ),
        *(case(clipped, (3, 4), call=call, name=name) for name, call in CLIPS.items()),
        case(clipped, (3,), call=lambda lo, a: ops.clip(a, lo), name="integers above a Tensor", given=[[-1, 0, 3]]),
        case(clipped, (3,), call=lambda hi, a: ops.clip(a, None, hi), name="integers below a Tensor", given=[[-1, 0, 3]]),
        case(ops.where, (4,), call=lambda x: ops.where(x > 0, x * x, 0.0), name="x > 0"),
        case(ops.where, (4,), call=lambda x: ops.where(x > 0, 1.0, x), name="one side a number"),
        *(case(ops.astype, shape, dtype=np.float64) for shape in SHAPES),
        case(to_device, (3,), call=lambda x: to_device(x, source=x.device, target=x.device), name="once"),
        *(case(to_device, shape, call=_there_and_back, name=str(shape)) for shape in [(3, 4), ()]),
    ]


def _there_and_back(x: Any) -> Any:
    away = to_device(x, source=x.device, target="cpu")
    return to_device(away * away, source="cpu", target=x.device)
