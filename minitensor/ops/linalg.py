"""Products of vectors, matrices and tensors; norms."""

from __future__ import annotations

import operator
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitensor.arrays import as_array
from minitensor.errors import ShapeError, UnsupportedError, describe
from minitensor.ops.indexing import scatter
from minitensor.ops.reductions import over, unreduce
from minitensor.primitive import ListPrimitive, primitive, serve


def _matmul_left(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g[..., None] * b
    if _a.ndim == 1:
        return (b @ g[..., None])[..., 0]
    return g @ b.swapaxes(-1, -2)


def _matmul_right(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if a.ndim == 1:
        return a[:, None] * g[..., None, :] if _b.ndim > 1 else g * a
    if _b.ndim == 1:
        return (a.swapaxes(-1, -2) @ g[..., None])[..., 0]
    return a.swapaxes(-1, -2) @ g


def _pairs(a: Any, b: Any, axes: Any) -> tuple[list[int], list[int]]:
    """The axes of a and of b that `numpy.tensordot` sums over, in pairs."""
    m, n = np.ndim(a), np.ndim(b)
    if isinstance(axes, (int, np.integer)):
        return list(range(m - axes, m)), list(range(axes))
    left, right = ([axis] if isinstance(axis, (int, np.integer)) else axis for axis in axes)
    return [int(i) % m for i in left], [int(j) % n for j in right]


def _rest(x: Any, axes: list[int]) -> tuple[int, ...]:
    return tuple(i for i in range(np.ndim(x)) if i not in axes)


def _tensordot_left(g: Any, _y: Any, _a: Any, b: Any, axes: Any = 2) -> Any:
    """g has the free axes of a, then those of b. Summed over the latter, the axes that a and b share stand last, in b's order."""
    left, right = _pairs(_a, b, axes)
    free = _rest(_a, left)
    whole = np.tensordot(g, b, (tuple(range(len(free), np.ndim(g))), _rest(b, right)))
    return np.moveaxis(whole, tuple(range(whole.ndim)), (*free, *(left[right.index(j)] for j in sorted(right))))


def _tensordot_right(g: Any, _y: Any, a: Any, _b: Any, axes: Any = 2) -> Any:
    """Summed over the free axes of a, the axes that a and b share stand first, in a's order."""
    left, right = _pairs(a, _b, axes)
    free = _rest(a, left)
    whole = np.tensordot(a, g, (free, tuple(range(len(free)))))
    return np.moveaxis(whole, tuple(range(whole.ndim)), (*(right[left.index(i)] for i in sorted(left)), *_rest(_b, right)))


def _dot_axes(a: Any, b: Any) -> Any:
    return 0 if 0 in (np.ndim(a), np.ndim(b)) else (-1, -1 if np.ndim(b) == 1 else -2)


def _inner_axes(a: Any, b: Any) -> Any:
    return 0 if 0 in (np.ndim(a), np.ndim(b)) else (-1, -1)


def _letters(subscripts: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """One letter for every axis of every operand and of the result: dots become letters, and an output that is implied is named."""
    left, arrow, out = subscripts.partition("->")
    if not arrow:
        out = "..." + "".join(c for c in sorted(left) if c not in ".," and left.count(c) == 1)
    terms = left.split(",")
    dotted = [n - len(term) + 3 if "..." in term else 0 for term, n in zip(terms, ndims, strict=True)]
    spare = "".join(c for c in string.ascii_letters if c not in subscripts)[: max(dotted)]
    return [term.replace("...", spare[len(spare) - n :]) for term, n in zip(terms, dotted, strict=True)], out.replace("...", spare)


def _einsum(g: Any, k: int, xs: Sequence[Any], subscripts: str, optimize: Any = False) -> Any:
    """The cotangent of operand k: g times the other operands, summed over what operand k does not have."""
    terms, out = _letters(subscripts, [np.ndim(x) for x in xs])
    own = "".join(dict.fromkeys(terms[k]))
    given = [out, *terms[:k], *terms[k + 1 :]]
    known = "".join(c for c in own if any(c in term for term in given))
    optimize = optimize if isinstance(optimize, (bool, str)) else True  # a path is one for the operands of the forward pass
    part = np.einsum(f"{','.join(given)}->{known}", g, *xs[:k], *xs[k + 1 :], optimize=optimize)
    part = part[tuple(slice(None) if c in known else None for c in own)]  # the walk broadcasts over axes that were summed away
    if len(own) == len(terms[k]):
        return part
    shape = np.shape(xs[k])  # a letter that comes twice has read a diagonal
    index = [
        (np.arange(max(n, part.shape[own.index(c)])) % n).reshape([-1 if c == other else 1 for other in own])
        for c, n in zip(terms[k], shape, strict=True)
    ]
    return scatter(part, index=tuple(index), shape=shape)


class _Einsum(ListPrimitive):
    """`numpy.einsum`, called with subscripts and operands or with each operand followed by the list of its axes."""

    def reads_of(self, k: int) -> int:
        return ~(1 | 2 << k)  # the cotangent of operand k is made of every operand but k

    def __call__(self, *args: Any, **params: Any) -> Any:
        subscripts, operands = _spelled(args)
        (operands,), params = self.bind((operands,), {"subscripts": subscripts, **params})
        return self.record(*operands, params=params)

    def forward(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        return np.einsum(params["subscripts"], *arrays, optimize=params.get("optimize", False))

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        return [None if edge is None else _einsum(g, k, inputs, **params) for k, edge in enumerate(edges)]


def _spelled(args: Sequence[Any]) -> tuple[str, list[Any]]:
    """Subscripts and operands from either way of calling `numpy.einsum`."""
    if args and isinstance(args[0], str):
        return args[0].replace(" ", ""), list(args[1:])
    try:
        # NumPy's axis 0 is A, and 26 is a
        symbols = string.ascii_uppercase + string.ascii_lowercase
        told = ["".join("..." if i is Ellipsis else symbols[operator.index(i)] for i in axes) for axes in args[1::2]]
        arrow = ["->" + "".join("..." if i is Ellipsis else symbols[operator.index(i)] for i in args[-1])] if len(args) % 2 else []
    except (TypeError, IndexError) as error:
        raise UnsupportedError(
            "einsum takes subscripts and operands, or each operand followed by a list of its axes (0 to 51 or Ellipsis)"
        ) from error
    return ",".join(told) + "".join(arrow), list(args[0 : 2 * len(told) : 2])


def _p_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    return np.linalg.norm(x, ord, axis, keepdims)


def _p_norm_rule(g: Any, y: Any, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    p = 2 if ord is None else ord
    if p == 0:
        return unreduce(g, x, axis) * 0  # the number of elements that are not 0
    ratio = over(x, unreduce(y, x, axis))
    if p > 0 and p % 2 == 0:
        return unreduce(g, x, axis) * ratio ** (p - 1)
    # sign(x) |x / y|**(p - 1), without a power of 0 that could be infinite
    return unreduce(g, x, axis) * np.sign(ratio) * np.absolute(np.where(ratio == 0, 1, ratio)) ** (p - 1)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """`numpy.linalg.norm`: of vectors for any ``ord``, of matrices for None, "fro", 1, -1, inf and -inf.

    The gradient is 0 where the norm is 0; elements that tie for the largest share it equally.
    `UnsupportedError` for the norms that need singular values (2, -2 and "nuc" of matrices).

    >>> import minitensor as mt
    >>> x = mt.tensor([3.0, 4.0], requires_grad=True)
    >>> mt.linalg.norm(x).backward(); x.grad        # x / norm(x)
    tensor([0.6, 0.8])
    """
    x = as_array(x)
    x = x.astype(np.float64) if x.dtype.kind in "biu" else x
    if axis is None:
        if ord is None:
            return p_norm(x, keepdims=keepdims)
        axes = tuple(range(x.ndim))
    else:
        axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    if len(axes) == 1:
        if ord not in (np.inf, -np.inf):
            return p_norm(x, ord=ord if ord is None or isinstance(ord, str) else float(ord), axis=axes[0], keepdims=keepdims)
        return (np.max if ord > 0 else np.min)(np.absolute(x), axis=axes, keepdims=keepdims)
    if len(axes) != 2:
        raise ShapeError(f"norm({describe(x)}): one axis makes vectors, two make matrices, got {len(axes)}")
    if ord in (None, "fro", "f"):
        return p_norm(x, axis=axes, keepdims=keepdims)
    if ord not in (1, -1, np.inf, -np.inf):
        raise UnsupportedError(f"norm: ord={ord!r} of matrices has no derivative rule (it has for None, 'fro', 1, -1, inf and -inf)")
    summed, left = axes if abs(ord) == 1 else axes[::-1]
    sums = np.sum(np.absolute(x), axis=summed, keepdims=True)
    found = (np.max if ord > 0 else np.min)(sums, axis=left, keepdims=True)
    return found if keepdims else np.squeeze(found, axis=axes)


# a (..., n, k) @ b (..., k, p), 1-d operands as NumPy treats them; the walk sums over batch axes that were broadcast
matmul = primitive(np.matmul, _matmul_left, _matmul_right, latex=(r"\bar A = \bar Y B^\top", r"\bar B = A^\top \bar Y"))
tensordot = primitive(
    np.tensordot,
    _tensordot_left,
    _tensordot_right,
    latex=(r"\bar a_{ik} = \sum_j \bar y_{ij} b_{kj}", r"\bar b_{kj} = \sum_i a_{ik} \bar y_{ij}"),
)
dot = primitive(
    np.dot,
    lambda g, _y, _a, b: _tensordot_left(g, _y, _a, b, _dot_axes(_a, b)),
    lambda g, _y, a, _b: _tensordot_right(g, _y, a, _b, _dot_axes(a, _b)),
    latex=(r"\bar A = \bar Y B^\top", r"\bar B = A^\top \bar Y"),
)
inner = primitive(
    np.inner,
    lambda g, _y, _a, b: _tensordot_left(g, _y, _a, b, _inner_axes(_a, b)),
    lambda g, _y, a, _b: _tensordot_right(g, _y, a, _b, _inner_axes(a, _b)),
    latex=(r"\bar A = \bar Y B", r"\bar B = \bar Y^\top A"),
)
outer = primitive(
    np.outer,
    lambda g, _y, _a, b: (g @ np.ravel(b)).reshape(np.shape(_a)),
    lambda g, _y, a, _b: (np.ravel(a) @ g).reshape(np.shape(_b)),
    latex=(r"\bar a = \bar Y b", r"\bar b = \bar Y^\top a"),
)
einsum = serve(
    np.einsum, _Einsum(np.einsum, _einsum, latex=r"\bar x_k = \operatorname{einsum}(\bar y, x_1, \dots, x_{k-1}, x_{k+1}, \dots)")
)
p_norm = primitive(_p_norm, _p_norm_rule, latex=r"\bar x_i = \bar y \operatorname{sign}(x_i) \, (|x_i| / y)^{p - 1}")
serve(np.linalg.norm, norm)
