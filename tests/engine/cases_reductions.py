"""Cases of the functions that reduce axes, and of cumsum."""

from __future__ import annotations

from itertools import product

import numpy as np
from casework import Case, case

from minitensor import ops

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
    ((0, 3), {"axis": 1}),
]
# Two elements at least: of one, the deviation is 0, a kink
SPREAD_OUT = [(shape, params) for shape, params in AXES if np.size(np.var(np.ones(shape), **params)) < np.size(np.ones(shape))]
ZEROS = {
    "no zero": [1, 2, 1, 1, 3],
    "one zero": [1, 2, 0, 1, 3],
    "two zeros": [0, 2, 1, 0, 3],
    "three zeros": [0, 0, 1, 0, 3],
    "zeros only": [0, 0, 0, 0, 0],
}


def reductions() -> list[Case]:
    every = [ops.sum, ops.mean, ops.var, ops.max, ops.min, ops.prod, ops.logsumexp]
    return [
        *(case(f, shape, **params) for f, (shape, params) in product(every, AXES)),
        *(case(ops.std, shape, **params) for shape, params in SPREAD_OUT),
        *(case(f, (3, 4), axis=axis, ddof=ddof) for f in (ops.var, ops.std) for axis, ddof in [(None, 1), (0, 1), (1, 0.5)]),
        case(ops.std, (), call=lambda a, x: a * x.std(), name="an element at the mean", given=[[1.0, 2.0, 3.0]]),
        case(ops.sum, (0, 3), axis=0),
        case(ops.prod, (0, 3), axis=0),
        *(case(ops.prod, (n,), name=f"{n} factors") for n in (1, 2, 5, 7, 8)),
        *(case(ops.prod, (5,), call=lambda x, m: ops.prod(x * m), name=name, given=[m]) for name, m in ZEROS.items()),
        case(
            ops.prod,
            (5, 2),
            call=lambda x, m: x.prod(axis=0) * (x * m).prod(axis=0),
            name="some zeros",
            given=[[[0, 1]] * 3 + [[0, 0]] * 2],
        ),
        case(ops.max, (3, 4), call=lambda x: np.amax(x, axis=0), name="amax"),
        case(ops.min, (3, 4), call=lambda x: np.amin(x, 1, keepdims=True), name="amin"),
        *(case(ops.cumsum, shape) for shape in [(4,), (2, 3), (), (0,)]),
        *(case(ops.cumsum, (2, 3, 4), axis=axis) for axis in [0, 1, -1, None]),
        case(ops.logsumexp, (3,), call=lambda x, m: ops.logsumexp(ops.where(m, x, -np.inf)), name="with -inf", given=[[True, False, True]]),
    ]
