"""Cases of the functions that move elements, and of indexing."""

from __future__ import annotations

from itertools import product

import numpy as np
from casework import SHAPES, Case, case

from minitensor import ops
from minitensor.ops.indexing import scatter

RESHAPED = [((3, 4), (2, 6)), ((3, 4), -1), ((2, 3), (3, -1, 1)), ((), (1, 1)), ((1, 1), ()), ((0, 3), (3, 0)), ((6,), 3 * (1,) + (6,))]
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


FLIPPED = [((4,), None), ((2, 3), None), ((2, 3), 0), ((2, 3, 2), (0, -1)), ((2, 3), -1), ((), None), ((0, 2), 0), ((2, 3), ())]
MOVED = [((2, 3, 4), 0, -1), ((2, 3, 4), (0, 1), (-1, 0)), ((2, 3, 4), [2], [0]), ((2,), 0, 0)]
PADDED = [
    ((2, 3), 1),
    ((2, 3), (2,)),
    ((2, 3), (1, 2)),
    ((2, 3), ((1, 0),)),
    ((2, 3), ((1, 0), (0, 2))),
    ((2, 3), ((1,), (2,))),
    ((2, 3), {-1: 2}),
    ((2, 3), {0: (1, 0), 1: 1}),
    ((2, 3), 0),
    ((), 3),
    ((0, 2), 1),
]
DIAGONALS = [
    ((3, 3), {}),
    ((3, 4), {"offset": 1}),
    ((3, 4), {"offset": 3}),
    ((3, 4), {"offset": -1}),
    ((4, 2), {"offset": -3}),
    ((3, 4), {"offset": 9}),
    ((3, 4), {"offset": -9}),
    ((2, 3, 4), {}),
    ((2, 3, 4), {"axis1": 2, "axis2": 0}),
    ((2, 3, 4), {"offset": 1, "axis1": -2, "axis2": -1}),
    ((2, 3, 4, 2), {"offset": -1, "axis1": 1, "axis2": 3}),
    ((0, 2), {}),
]
TAKEN = [
    ((4,), {"indices": [2, 0, 2]}),
    ((4,), {"indices": 1}),
    ((4, 3), {"indices": [[5, 0], [-1, 5]]}),
    ((4, 3), {"indices": [3, 3, -1], "axis": 0}),
    ((4, 3), {"indices": [[2, 0], [0, -3]], "axis": 1}),
    ((4, 3), {"indices": 2, "axis": -1}),
    ((4, 3), {"indices": [5, -7, 1, 2], "axis": 0, "mode": "wrap"}),
    ((4, 3), {"indices": [5, -7, 1, 2], "axis": 1, "mode": "clip"}),
    ((4, 3), {"indices": [50, -70], "mode": "wrap"}),
    ((4, 3), {"indices": 50, "mode": "clip"}),
    ((4, 3), {"indices": np.zeros((0, 2), int), "axis": 1}),
]
ALONG = [
    ((4, 3), [[0, 3, 3]], 0),
    ((4, 3), [[0, 1], [2, 2], [0, 0], [-1, 0]], 1),
    ((4, 3), [[0, 1]], -1),
    ((2, 1, 3), [[[0, 2, 2, 0]]], 2),
    ((1, 3), [[0, 2, 2], [1, 0, 2]], 1),
    ((4, 3), [11, 0, 11], None),
]
SPLIT = {
    "3 parts": lambda x: ops.split(x, 3, axis=1)[1],
    "at indices": lambda x: ops.split(x, [1, 3])[1],
    "at indices beyond": lambda x: np.split(x, [1, 9])[1],
    "all parts": lambda x: ops.concatenate([part * part for part in np.split(x, 2)]),
    "-1": lambda x: np.split(x, (2,), -1)[0],
}


def _stacked(*shapes: tuple[int, ...], axis: int) -> Case:
    return case(ops.stack, *shapes, call=lambda *xs: ops.stack(xs, axis=axis), name=f"{shapes} axis={axis}")


def shaping() -> list[Case]:
    return [
        case(ops.reshape, (2, 3), shape=(3, 2), order="C"),
        *(case(ops.ravel, shape) for shape in SHAPES),
        case(ops.ravel, (2, 3), call=lambda x: x.flatten(), name="flatten"),
        *(
            case(ops.squeeze, shape, axis=axis)
            for shape, axis in [((2, 1, 3, 1), None), ((2, 1, 3, 1), 1), ((1, 2, 1), (0, -1)), ((), None)]
        ),
        *(case(ops.expand_dims, shape, axis=axis) for shape, axis in [((2, 3), 1), ((2, 3), -1), ((), 0), ((2,), (0, 2)), ((2, 3), ())]),
        *(case(ops.moveaxis, shape, source=source, destination=destination) for shape, source, destination in MOVED),
        *(case(ops.flip, shape, axis=axis) for shape, axis in FLIPPED),
        *(_stacked(*shapes, axis=axis) for shapes, axis in [(((2, 3),) * 3, 0), (((2, 3),) * 2, 1), (((2,),) * 2, -1), (((),) * 2, 0)]),
        *(case(f, (3, 4), name="no k") for f in (ops.tril, ops.triu)),
        case(ops.stack, (2, 3), (2, 3), call=lambda *xs: ops.stack(xs), name="no axis"),
        case(ops.stack, (2, 3), call=lambda x: ops.stack([x, x * x], axis=-1), name="x twice"),
        *(case(ops.pad, shape, pad_width=width) for shape, width in PADDED),
        case(ops.pad, (2, 3), pad_width=1, constant_values=7.0),
        case(ops.pad, (2, 3), pad_width=1, constant_values=((1, 2), (3, 4))),
        *(case(f, shape, **params) for f, (shape, params) in product([ops.diagonal, ops.trace], DIAGONALS)),
        *(case(f, shape, k=k) for f, shape, k in product([ops.tril, ops.triu], [(3, 4), (2, 3, 3), (3,)], [0, 1, -2])),
        *(case(ops.sort, shape) for shape in [(5,), (2, 3), (0,)]),
        *(case(ops.sort, (2, 3, 4), axis=axis) for axis in [0, 1, -1, None]),
        case(ops.sort, (), axis=None),
        case(ops.sort, (5,), kind="stable"),
        *(case(ops.take, shape, **params)._replace(name=f"take: {i} {shape} {params}") for i, (shape, params) in enumerate(TAKEN)),
        case(ops.take, (4, 3), call=lambda x, i: np.take(x, i, axis=0), name="a Tensor of indices", given=[[1, 1, 0]]),
        case(ops.take, (4, 3), call=lambda x, i: x.take(i, 1, mode="wrap"), name="a Tensor of indices, wrapped", given=[[4, 1, -5]]),
        *(
            case(
                ops.take_along_axis,
                shape,
                call=lambda x, i, a=axis: ops.take_along_axis(x, i, axis=a),
                name=f"{shape} {i} {axis}",
                given=[i],
            )
            for shape, i, axis in ALONG
        ),
        case(ops.take_along_axis, (3, 4), call=lambda x: np.take_along_axis(x, np.argsort(x, axis=0), 0), name="in order"),
        *(case(ops.getitem, (4, 3), call=call, name=f"split: {name}") for name, call in SPLIT.items()),
        *(case(ops.reshape, before, shape=after) for before, after in RESHAPED),
        *(case(ops.transpose, shape, axes=axes) for shape, axes in TRANSPOSED),
        *(case(ops.swapaxes, shape, axis1=i, axis2=j) for shape, (i, j) in SWAPPED),
        *(case(ops.broadcast_to, before, shape=after) for before, after in BROADCAST),
        *(_joined(*shapes, axis=axis) for shapes, axis in JOINED),
        case(ops.concatenate, (2, 3), call=lambda x: ops.concatenate([x, x * x]), name="x twice"),
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
    "0-d mask": np.array(True),
    "0-d mask, False": np.False_,
    "..., mask of 2 axes, 1": (np.arange(12).reshape(4, 3) % 4 == 1, 1),
    "mask, [1, 0]": (np.array([True, False, False, True]), [1, 0]),
    "[True, False, True, True]": [True, False, True, True],
    "0, :, [0, 0]": (0, slice(None), [0, 0]),
    "[0, 0], ..., 1": ([0, 0], ..., 1),
    "0-d integers": np.array(2),
    "uint8": np.array([3, 3], np.uint8),
    "empty mask": np.zeros(4, bool),
    ":, mask": (slice(None), np.array([False, True, True])),
}


def indexing() -> list[Case]:
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
        case(ops.getitem, (5, 2), call=lambda x, i: x[i, None, ::-1], name="a Tensor of integers, None, ::-1", given=[[[3, 3, 0]]]),
        case(ops.getitem, (5, 2), call=lambda x, i: x[i], name="a 0-d Tensor", given=[3]),
        case(ops.getitem, (5, 2), call=lambda x: x[[[1, 2], [1, 1]]], name="nested lists"),
        case(ops.getitem, (5,), call=lambda x: x[x > 0], name="x > 0"),
        case(ops.getitem, (5,), call=lambda x: x[1:] * x[:-1], name="neighbours"),
    ]
