"""One table of cases for every primitive: what it is called with, in float64 and away from kinks.

All numbers of a case are distinct and evenly spread, so that none ties with another and none is 0. The call is written for Tensors on any
device; floating inputs are differentiated, masks and indices are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minitensor import ops
from minitensor.ops.elementwise import to_device
from minitensor.ops.indexing import scatter
from minitensor.primitive import Primitive


class Case(NamedTuple):
    """A primitive and one way to call it."""

    name: str
    primitive: Primitive
    inputs: tuple[np.ndarray, ...]
    call: Callable[..., Any]


def spread(shapes: tuple[Any, ...], low: float = -2.0, high: float = 2.0, signs: bool = False) -> tuple[np.ndarray, ...]:
    """Arrays of these shapes whose elements are distinct and lie between ``low`` and ``high``; ``signs`` makes about half negative."""
    sizes = [math.prod(shape) for shape in shapes]
    rng = np.random.default_rng(sum(sizes) + 100 * len(sizes))
    values = low + (high - low) * rng.permutation(np.arange(sum(sizes)) + 0.3) / sum(sizes)
    values = values * rng.choice([-1, 1], values.shape) if signs else values
    return tuple(part.reshape(shape) for part, shape in zip(np.split(values, np.cumsum(sizes)[:-1]), shapes, strict=True))


def case(primitive: Primitive, *shapes: Any, call: Any = None, name: str = "", domain: Any = (), given: Any = (), **params: Any) -> Case:
    """``primitive(*inputs, **params)``, or ``call(*inputs)``; ``given`` are the masks and indices that follow the floating inputs."""
    told = name or " ".join([*map(str, shapes), *(f"{key}={value}" for key, value in params.items())])
    inputs = (*spread(shapes, *domain), *map(np.asarray, given))
    return Case(f"{primitive.name}: {told}", primitive, inputs, call or (lambda *inputs: primitive(*inputs, **params)))


POSITIVE = (0.5, 2.5)
SIGNED = (0.5, 2.5, True)
PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (2, 3)), ((2, 3), ()), ((), ()), ((2, 1), (1, 1, 3)), ((0, 3), (3,))]
SHAPES = [(3, 4), (), (2, 1, 3), (0,)]


def _elementwise() -> list[Case]:
    binary = [ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum]
    unary = [ops.negative, ops.positive, ops.square, ops.exp, ops.sin, ops.cos, ops.tanh, ops.absolute, ops.sign]
    return [
        *(case(f, *shapes) for f, shapes in product(binary, PAIRS)),
        *(case(ops.divide, *shapes, domain=SIGNED) for shapes in PAIRS),
        *(case(ops.power, *shapes, domain=POSITIVE) for shapes in PAIRS),
        *(case(f, shape) for f, shape in product(unary, SHAPES)),
        *(case(f, shape, domain=POSITIVE) for f, shape in product([ops.sqrt, ops.log], SHAPES)),
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
        case(ops.where, (4,), call=lambda x: ops.where(x > 0, x * x, 0.0), name="x > 0"),
        case(ops.where, (4,), call=lambda x: ops.where(x > 0, 1.0, x), name="one side a number"),
        *(case(ops.astype, shape, dtype=np.float64) for shape in SHAPES),
        *(case(to_device, shape, call=_there_and_back, name=str(shape)) for shape in [(3, 4), ()]),
    ]


def _there_and_back(x: Any) -> Any:
    away = to_device(x, source=x.device, target="cpu")
    return to_device(away * away, source="cpu", target=x.device)


AXES = [
    ((3, 4), {}),
    ((3, 4), {"axis": 0}),
    ((3, 4), {"axis": -1, "keepdims": True}),
    ((2, 3, 4), {"axis": (0, 2)}),
    ((2, 3, 4), {"axis": (-1, 0), "keepdims": True}),
    ((2, 3, 4), {"axis": (2, 0, 1)}),
    ((2, 3, 4), {"axis": None, "keepdims": True}),
    ((2, 3), {"axis": ()}),
    ((2, 1, 3), {"axis": 1}),
    ((), {}),
    ((), {"axis": (), "keepdims": True}),
]


def _reductions() -> list[Case]:
    return [
        *(case(f, shape, **params) for f, (shape, params) in product([ops.sum, ops.mean, ops.var, ops.max, ops.min], AXES)),
        *(case(ops.var, (3, 4), axis=axis, ddof=ddof) for axis, ddof in [(None, 1), (0, 1), (1, 0.5)]),
        case(ops.sum, (0, 3), axis=0),
    ]


RESHAPED = [((3, 4), (2, 6)), ((3, 4), -1), ((2, 3), (3, -1, 1)), ((), (1, 1)), ((1, 1), ()), ((0, 3), (3, 0))]
TRANSPOSED = [((3, 4), None), ((2, 3, 4), (2, 0, 1)), ((2, 3, 4), (-1, 0, 1)), ((2, 3, 4), None), ((), None), ((), ())]
SWAPPED = [((2, 3, 4), (0, -1)), ((2, 3, 4), (1, 1)), ((2, 3), (-2, 1))]
BROADCAST = [((3,), (2, 3)), ((2, 1), (4, 2, 3)), ((), (2, 2)), ((2, 3), (2, 3)), ((1,), (0,))]
JOINED = [
    (((2, 3), (1, 3), (4, 3)), 0),
    (((2, 1), (2, 3)), 1),
    (((1, 2, 1), (1, 2, 3)), -1),
    (((2, 2), (3,), (1, 1)), None),
    (((2,),), 0),
    (((0, 2), (3, 2)), 0),
]


def _joined(*shapes: tuple[int, ...], axis: int | None) -> Case:
    return case(ops.concatenate, *shapes, call=lambda *xs: ops.concatenate(xs, axis=axis), name=f"{shapes} axis={axis}")


def _shaping() -> list[Case]:
    return [
        *(case(ops.reshape, before, shape=after) for before, after in RESHAPED),
        *(case(ops.transpose, shape, axes=axes) for shape, axes in TRANSPOSED),
        *(case(ops.swapaxes, shape, axis1=i, axis2=j) for shape, (i, j) in SWAPPED),
        *(case(ops.broadcast_to, before, shape=after) for before, after in BROADCAST),
        *(_joined(*shapes, axis=axis) for shapes, axis in JOINED),
        case(ops.concatenate, (2, 3), call=lambda x: ops.concatenate([x, x * x]), name="x twice"),
    ]


RANKS = [
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 3)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (5, 3, 1)),
    ((2, 1, 3), (3,)),
    ((1, 1), (1, 1)),
    ((2, 0), (0, 3)),
]


def _linalg() -> list[Case]:
    return [
        *(case(ops.matmul, *shapes) for shapes in RANKS),
        case(ops.matmul, (3, 3), call=lambda x: x @ x, name="x @ x"),
        case(ops.matmul, (3, 4), call=lambda x, a: a @ x, name="integers @ x", given=[[[1, 2, 3], [4, 5, 7]]]),
        case(ops.matmul, (4, 3), call=lambda x, a: x @ a, name="x @ integers", given=[[1, 2, 4]]),
    ]


READ = {
    "0": 0,
    "-1": -1,
    "1:": slice(1, None),
    "::-2": slice(None, None, -2),
    "3:0:-1": slice(3, 0, -1),
    "9:": slice(9, None),
    "...": ...,
    "None": None,
    "..., 1": (..., 1),
    "1, ..., None, ::2": (1, ..., None, slice(None, None, 2)),
    ":, 2, 1:": (slice(None), 2, slice(1, None)),
    "2, 0, 1": (2, 0, 1),
    "()": (),
    "np.int64(1)": np.int64(1),
    "True": True,
    "[0, 0, 1]": [0, 0, 1],
    "[]": [],
    "[-1, 3]": [-1, 3],
    "[[0, 1], [1, 1]]": np.array([[0, 1], [1, 1]]),
    "[0, 0], [2, 2]": ([0, 0], [2, 2]),
    "[1, 1], :, [0, 1]": ([1, 1], slice(None), [0, 1]),
    ":, [2, 0, 2]": (slice(None), np.array([2, 0, 2])),
    "1, [0, 0]": (1, [0, 0]),
    "[[0], [1]], [0, 1, 0]": (np.array([[0], [1]]), np.array([0, 1, 0])),
    "None, [1, 1]": (None, [1, 1]),
    "mask": np.array([True, False, True, True]),
    "mask of 2 axes": np.arange(12).reshape(4, 3) % 3 == 1,
    "empty mask": np.zeros(4, bool),
    ":, mask": (slice(None), np.array([False, True, True])),
}


def _indexing() -> list[Case]:
    return [
        *(case(ops.getitem, (4, 3, 2), call=lambda x, i=index: x[i], name=name) for name, index in READ.items()),
        *(
            case(scatter, np.empty((4, 3, 2))[index].shape, index=index, shape=(4, 3, 2))._replace(name=f"scatter: {name}")
            for name, index in READ.items()
        ),
        case(ops.getitem, (), call=lambda x: x[()], name="0-d ()"),
        case(ops.getitem, (), call=lambda x: x[..., None], name="0-d ..., None"),
        case(ops.getitem, (5, 2), call=lambda x, i: x[i], name="a Tensor of integers", given=[[3, 3, 0]]),
        case(ops.getitem, (5, 2), call=lambda x, i: x[i], name="a Tensor of bools", given=[[True, False, True, True, False]]),
        case(ops.getitem, (5, 2), call=lambda x, i, j: x[i, j], name="two Tensors of integers", given=[[3, 3, 0], [1, 1, 1]]),
        case(ops.getitem, (5,), call=lambda x: x[x > 0], name="x > 0"),
        case(ops.getitem, (5,), call=lambda x: x[1:] * x[:-1], name="neighbours"),
    ]


CASES = [*_elementwise(), *_reductions(), *_shaping(), *_linalg(), *_indexing()]
