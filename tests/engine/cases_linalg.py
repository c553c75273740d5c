"""Cases of the products of vectors, matrices and tensors, and of norms."""

from __future__ import annotations

import numpy as np
from casework import SIGNED, Case, case

from minitensor import ops
from minitensor.ops.linalg import p_norm

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


DOTTED = [
    ((), ()),
    ((), (2, 3)),
    ((2,), ()),
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 3)),
    ((2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((2, 2, 3), (2, 3, 2)),
    ((2, 0), (0, 3)),
]
INNER = [((), ()), ((), (2, 3)), ((2,), ()), ((4,), (4,)), ((3, 4), (4,)), ((4,), (3, 4)), ((2, 3), (4, 3)), ((2, 2, 3), (2, 1, 3))]
OUTER = [((2,), (3,)), ((2, 2), (3, 1)), ((), (3,)), ((), ()), ((0,), (2,))]
SUMMED = [
    ((2, 3), (3, 4), 1),
    ((2, 3, 2), (3, 2, 4), 2),
    ((2,), (3, 2), 0),
    ((), (2,), 0),
    ((), (), ((), ())),
    ((2, 3, 4), (4, 5, 3), ([1, 2], [2, 0])),
    ((2, 3, 4), (4, 5, 3), ((2, 1), (0, 2))),
    ((2, 3), (2, 3), ((-1, 0), (1, -2))),
    ((2, 3, 4), (5, 3), (1, 1)),
    ((2, 3, 4), (5, 3), (-2, -1)),
    ((3, 2, 4, 2), (2, 2, 4, 3), ((3, 0, 1), (0, 3, 1))),
]
EINSUMS = [
    ("ij->ij", (2, 3)),
    ("ij->ji", (2, 3)),
    ("ij", (2, 3)),
    ("ba", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("", ()),
    ("->", ()),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("ii->", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iji->j", (3, 2, 3)),
    ("iii->i", (3, 3, 3)),
    ("iijj->ij", (2, 2, 3, 3)),
    ("iijj", (2, 2, 3, 3)),
    ("i...->...", (2, 3, 2)),
    ("...", (2, 3)),
    ("...i->i...", (2, 3, 2)),
    ("...ii->...i", (2, 3, 3)),
    ("i...i", (3, 2, 3)),
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij, jk -> k i", (2, 3), (3, 4)),
    ("kj,ji", (2, 3), (3, 4)),
    ("bB,Ba", (2, 3), (3, 4)),
    ("i,i->", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    ("i,i", (3,), (3,)),
    ("i,j", (2,), (3,)),
    (",ij->ij", (), (2, 3)),
    ("ij,->", (2, 3), ()),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("ij,kl->ik", (2, 3), (2, 2)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("ii,jj->ij", (2, 2), (3, 3)),
    ("ii,i->", (3, 3), (3,)),
    ("iij,jkk->ik", (2, 2, 3), (3, 2, 2)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...ij,...jk", (5, 1, 2, 3), (4, 3, 2)),
    ("...,...->...", (2, 1), (3,)),
    ("...,...", (2, 3), ()),
    ("a...,...b->b...a", (2, 3, 2), (2, 4)),
    ("i...,i->...", (2, 3), (2,)),
    ("ij,jk", (2, 1), (3, 4)),
    ("ij,ij->ij", (2, 1), (1, 3)),
    ("ij,ij->", (2, 3), (1, 3)),
    ("ij,j->i", (2, 3), (1,)),
    ("ii,i->i", (1, 1), (3,)),
    ("ii,i->", (3, 3), (1,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
    ("ij,jk,ki", (2, 3), (3, 2), (2, 2)),
    ("i,ij,j->", (2,), (2, 3), (3,)),
    ("a,b,c,d->dcba", (2,), (1,), (3,), (2,)),
    ("i,i,i,i->i", (3,), (3,), (3,), (3,)),
    ("...i,...i,i...->...", (2, 3), (3,), (3, 2)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
    ("ii->i", (0, 0)),
]
INTERLEAVED = {
    "a, [0, 1], b, [1, 2]": lambda a, b: np.einsum(a, [0, 1], b, [1, 2]),
    "a, [0, 1], b, [1, 2], [2, 0]": lambda a, b: ops.einsum(a, [0, 1], b, [1, 2], [2, 0]),
    "a, [3, 30], b, [30, 27]": lambda a, b: np.einsum(a, (3, 30), b, (30, 27)),
    "a, [..., 7], b, [7, ...], [...]": lambda a, b: np.einsum(a, [..., 7], b, [7, ...], [...]),
    "optimize": lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [], optimize=True),
}
OPTIMIZED = [True, False, "greedy", "optimal", ["einsum_path", (1, 2), (0, 1)]]
VECTORS = [None, 2, 1, 3, 4, 2.5, 0.5, 0, -1, -2, np.float32(2), np.int64(3)]
NORMED = [
    ((3, 4), {}),
    ((2, 3, 2), {"keepdims": True}),
    ((), {}),
    ((3, 4), {"axis": 0}),
    ((3, 4), {"axis": (-1,), "keepdims": True}),
    ((3, 4), {"ord": "fro"}),
    ((3, 2, 4), {"ord": "fro", "axis": (2, 0)}),
    ((3, 2, 4), {"axis": (0, 1), "keepdims": True}),
    ((3, 2, 4), {"ord": 3, "axis": 1}),
    ((3, 4), {"ord": 2, "axis": -1, "keepdims": True}),
    ((0, 3), {"axis": 1}),
]
EXTREMES = [
    ((5,), {"ord": np.inf}),
    ((3, 4), {"ord": np.inf, "axis": 0, "keepdims": True}),
    ((3, 5), {"ord": np.inf}),
    ((3, 4), {"ord": 1}),
    ((2, 3, 4), {"ord": 1, "axis": (0, 2)}),
    ((2, 3, 4), {"ord": np.inf, "axis": (2, 0), "keepdims": True}),
]


def linalg() -> list[Case]:
    return [
        *(case(ops.dot, *shapes) for shapes in DOTTED),
        *(case(ops.inner, *shapes) for shapes in INNER),
        *(case(ops.outer, *shapes) for shapes in OUTER),
        case(ops.tensordot, (2, 3, 2), (3, 2, 4), name="no axes"),
        *(case(ops.tensordot, a, b, axes=axes) for a, b, axes in SUMMED),
        *(case(f, (3, 3), call=lambda x, f=f: f(x, x), name="x with x") for f in (ops.dot, ops.inner, ops.outer)),
        case(ops.dot, (3,), call=lambda x, a: a.dot(x), name="integers . x", given=[[[1, 2, 3], [4, 5, 7]]]),
        *(
            case(ops.einsum, *shapes, call=lambda *xs, s=subscripts: np.einsum(s, *xs), name=f"{subscripts!r} {shapes}")
            for subscripts, *shapes in EINSUMS
        ),
        *(case(ops.einsum, (2, 3), (3, 2), call=call, name=name) for name, call in INTERLEAVED.items()),
        *(
            case(ops.einsum, (2, 3), (3, 2), (2, 2), call=lambda *xs, o=o: np.einsum("ij,jk,ki->j", *xs, optimize=o), name=f"optimize={o}")
            for o in OPTIMIZED
        ),
        case(ops.einsum, (2, 2), call=lambda x: np.einsum("ij,jk,kl->il", x, x, x), name="x three times"),
        case(ops.einsum, (2, 3), call=lambda x, a: np.einsum("ij,jk", a, x), name="integers and x", given=[[[1, 2], [3, 5]]]),
        *(case(p_norm, (5,), call=lambda x, p=p: ops.linalg.norm(x, p), name=f"ord={p!r}", domain=SIGNED) for p in VECTORS),
        *(case(p_norm, shape, call=lambda x, p=p: np.linalg.norm(x, **p), name=f"{shape} {p}", domain=SIGNED) for shape, p in NORMED),
        case(p_norm, (), call=lambda a, x: a * ops.linalg.norm(x), name="an element 0", given=[[0.0, 3.0, 4.0]]),
        *(
            case(ops.max, shape, call=lambda x, p=p: np.linalg.norm(x, **p), name=f"norm {shape} {p}", domain=SIGNED)
            for shape, p in EXTREMES
        ),
        *(
            case(ops.min, shape, call=lambda x, p=p: np.linalg.norm(x, **p), name=f"norm {shape} {p}", domain=SIGNED)
            for shape, p in [(shape, {**params, "ord": -params["ord"]}) for shape, params in EXTREMES]
        ),
        *(case(ops.matmul, *shapes) for shapes in RANKS),
        case(ops.matmul, (3, 3), call=lambda x: x @ x, name="x @ x"),
        case(ops.matmul, (3, 4), call=lambda x, a: a @ x, name="integers @ x", given=[[[1, 2, 3], [4, 5, 7]]]),
        case(ops.matmul, (4, 3), call=lambda x, a: x @ a, name="x @ integers", given=[[1, 2, 4]]),
    ]
