# ruff: noqa: E501  (the lines of the mutants are as long as they are)
"""Mutants of the rules that no test can kill, with the proof: what they compute is the same.

By function, then by the line as the mutant has it. A mutant that is killed has no place here: the tests refuse it.
"""

PATH = "`optimize` chooses the order of the products, not their result"
DIAGONAL = "without a letter that comes twice, the index below is the identity"
ALONE = "without an axis the array has just one, so the axis None means that one"
ROW = "the axis is taken modulo b's one axis, so any number means it"
SYMMETRIC = "the axes of inner(a, b) are those of inner(b, a)"
TIE = "a tie has been taken out before"
NDIM = "the output has as many axes as the input"

EQUIVALENT: dict[str, dict[str, str]] = {
    "_cumsum": {"axis = axis": ALONE},
    "_dot_axes": {
        "return 0 if 0 in (np.ndim(a), np.ndim(b)) else (-1, -2)": ROW,
        "return 0 if 0 in (np.ndim(a), np.ndim(b)) else (-1, 1 if np.ndim(b) == 1 else -2)": ROW,
    },
    "_einsum": {
        "def _einsum(g: Any, k: int, xs: Sequence[Any], subscripts: str, optimize: Any=True) -> Any:": PATH,
        "optimize = optimize": PATH + "; NumPy takes a path for other operands, where it is one of pairs that exist",
        "optimize = True": PATH,
        "optimize = optimize if optimize else True": PATH,
        "optimize = optimize if isinstance(optimize, (bool, str)) else False": PATH,
        "part = np.einsum(f'{','.join(given)}->{known}', g, *xs[:k], *xs[k + 1:])": PATH,
        "if own == len(terms[k]):": DIAGONAL,
        "if len(own) == terms[k]:": DIAGONAL,
    },
    "_p_norm_rule": {
        "if p >= 0 and p % 2 == 0:": "p = 0 has returned before",
        "return 0": "the walk broadcasts a number",
        "return -(unreduce(g, x, axis) * 0)": "0 is -0",
        "if p > 1 and p % 2 == 0:": "the smallest even number above 0 is 2",
        "return unreduce(g, x, axis) * np.sign(ratio) * np.absolute(np.where(ratio == 0, 2, ratio)) ** (p - 1)": "where the ratio is 0, its sign is a factor",
    },
    "_power_base": {
        "return g * b * a ** np.where((a == 0) & (b == 0), 2, b - 1.0)": "where a = b = 0: b a and b a**2 are 0, and so are their derivatives",
    },
    "_power_exponent": {
        "return g * y * np.log(np.where(a == 0, 1, np.where(a >= 0, a, np.nan)))": "a = 0 has been taken out before",
    },
    "_prod": {
        "others = _others(turned.reshape((*turned.shape[:x.ndim - len(last)], _count(x, axis))))": "as many axes are moved last as are reduced",
    },
    "_softmax": {
        "e = np.exp(x - np.where(x == -np.inf, 0, y))": "where x is -inf, exp(x - y) is 0 for every finite y; y is -inf where every x is",
        "e = np.exp(x - np.where(y == -np.inf, 1, y))": "y is -inf where every x is, and exp(-inf - 1) is 0 too",
        "return unreduce(g, y, axis) * over(e, np.sum(e, axis=_axes(x, axis), keepdims=True))": "y has length 1 where x was reduced, else x's",
        "return unreduce(g, x, axis) * over(e, np.sum(e, axis=_axes(y, axis), keepdims=True))": NDIM + ", its reduced axes put back",
    },
    "_sort": {
        "axis = axis": ALONE,
        "places = np.argsort(np.argsort(row, axis=axis), axis=axis)": "elements that tie stay alike only along directions in which their order does not matter",
    },
    "_take_along": {
        "grid = [np.arange(n).reshape((-1,) + (1,) * (_y.ndim - 1 - i)) for i, n in enumerate(_x.shape)]": NDIM,
    },
    "_transpose": {
        "return g.transpose() if axes is None else g.transpose(tuple((int(i) for i in np.argsort([a % _y.ndim for a in axes]))))": NDIM,
    },
    "_unpad": {
        "return g[tuple((slice(before, before + n) for (before, _), n in zip(_widths(pad_width, _y.ndim), _x.shape, strict=True)))]": NDIM,
    },
    "inner[0]": {"lambda g, _y, _a, b: _tensordot_left(g, _y, _a, b, _inner_axes(b, _a))": SYMMETRIC},
    "inner[1]": {"lambda g, _y, a, _b: _tensordot_right(g, _y, a, _b, _inner_axes(_b, a))": SYMMETRIC},
    "maximum[0]": {"lambda g, _y, a, b: np.where(a == b, g / 2, np.where(a <= b, 0, g))": TIE},
    "maximum[1]": {"lambda g, _y, a, b: np.where(a == b, g / 2, np.where(b <= a, 0, g))": TIE},
    "minimum[0]": {"lambda g, _y, a, b: np.where(a == b, g / 2, np.where(a >= b, 0, g))": TIE},
    "minimum[1]": {"lambda g, _y, a, b: np.where(a == b, g / 2, np.where(b >= a, 0, g))": TIE},
}
