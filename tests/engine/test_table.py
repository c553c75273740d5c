"""The rule table where the cases do not reach: values against NumPy, what is refused, and that constants are left alone."""

import math

import numpy as np
import pytest
from casework import spread

import minitensor as mt
from minitensor.errors import DTypeError, ShapeError, UnsupportedError
from minitensor.primitive import Primitive

X = np.array([[0.5, -1.5, 2.5], [3.5, 0.25, -1.25]])


# -- values ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
def test_erf_keeps_shape_and_dtype(dtype, shape) -> None:
    x = np.full(shape, 0.75, dtype)
    for y in (mt.erf(x), mt.erf(mt.tensor(x)).numpy()):
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(y, np.full(shape, math.erf(0.75), dtype))


def test_erf_of_numbers_lists_and_integers() -> None:
    assert mt.erf(0.5) == math.erf(0.5)
    assert mt.erf([0, 1]).tolist() == [0.0, math.erf(1.0)]
    assert mt.erf(mt.tensor([-1, 2])).tolist() == [math.erf(-1.0), math.erf(2.0)]
    assert mt.erf(mt.tensor([-np.inf, np.inf])).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("x", [1j, np.array([1 + 2j]), mt.tensor([1j])])
def test_erf_refuses_complex_numbers(x) -> None:
    with pytest.raises(UnsupportedError, match=r"erf\(complex.*real numbers are needed"):
        mt.erf(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), ()])
def test_logsumexp_is_stable(axis, keepdims, dtype) -> None:
    for offset in (0.0, 1000.0, -1000.0):
        x = (X + offset).astype(dtype)
        expected = np.log(np.sum(np.exp(x.astype(float) - offset), axis=axis, keepdims=keepdims)) + offset
        y = mt.logsumexp(mt.tensor(x), axis=axis, keepdims=keepdims)
        assert (y.shape, y.dtype) == (expected.shape, dtype)
        np.testing.assert_allclose(y.numpy(), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([-np.inf, -np.inf], -np.inf),
        ([-np.inf, 2.0], 2.0),
        ([np.inf, -np.inf, 1e4], np.inf),
        ([np.nan, 1.0], np.nan),
        ([5], 5.0),
        (7.0, 7.0),
    ],
)
def test_logsumexp_of_infinities(x, expected) -> None:
    """Without a warning, which would be an error here."""
    np.testing.assert_array_equal(mt.logsumexp(np.asarray(x)), expected)


def test_the_softmax_of_large_numbers_is_not_spoiled_by_the_rounding_of_their_logsumexp() -> None:
    x = mt.tensor([30000.0, 30000.0, 29999.0], requires_grad=True)
    (g,) = mt.grad(mt.logsumexp(x), x)
    e = np.exp([0.0, 0.0, -1.0])
    np.testing.assert_allclose(g.numpy(), e / e.sum(), rtol=1e-6)


CLIPS = {
    "both": lambda f, x: f(x, -1.0, 1.0),
    "lower": lambda f, x: f(x, 0.0, None),
    "integers": lambda f, x: f(x, -1, 2),
    "upper": lambda f, x: f(x, None, 0.5),
    "by name": lambda f, x: f(x, a_min=-1, a_max=1),
    "arrays": lambda f, x: f(x, [-1.0, 0.0, 1.0], [[2.0], [0.5]]),
    "lo > hi": lambda f, x: f(x, 1.0, -1.0),
    "nan bound": lambda f, x: f(x, np.nan, 1.0),
}


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_clip_gives_what_numpys_gives(clip) -> None:
    expected = clip(np.clip, X)
    np.testing.assert_array_equal(clip(mt.clip, X), expected)
    np.testing.assert_array_equal(clip(np.clip, mt.tensor(X)).numpy(), expected)


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="min= and max= are NumPy 2.1's")
def test_clip_takes_the_newer_names() -> None:
    x = mt.tensor(X, requires_grad=True)
    np.testing.assert_array_equal(np.clip(x, min=0.0, max=1.0).detach().numpy(), np.clip(X, 0.0, 1.0))
    np.testing.assert_array_equal(np.clip(x, max=1.0).detach().numpy(), np.clip(X, None, 1.0))


ORDERS = [None, 2, 1, 3, -1, 0.5, 0, np.inf, -np.inf]
NORMS = [
    *(((5,), {"ord": ord}) for ord in ORDERS),
    *(((3, 4), {"ord": ord, "axis": axis, "keepdims": keep}) for ord in ORDERS for axis in (0, -1, (1,)) for keep in (False, True)),
    *(((3, 4), {"ord": ord}) for ord in (None, "fro", "f", 1, -1, np.inf, -np.inf)),
    *(((2, 3, 4), {"ord": ord, "axis": axis}) for ord in (None, "fro", 1, -1, np.inf, -np.inf) for axis in ((0, 1), (2, 0), (-1, -2))),
    ((2, 3, 4), {}),
    ((2, 3, 4), {"keepdims": True}),
    ((3, 4), {"ord": 1, "keepdims": True}),
    ((), {}),
]


@pytest.mark.parametrize(("shape", "params"), NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_norms_are_numpys(shape, params, dtype) -> None:
    (x,) = spread((shape,), 1.0, 9.0, True)
    x = np.rint(x).astype(dtype)
    x = np.where(x == 0, dtype(1), x)
    expected = np.linalg.norm(x, **params)
    for found in (mt.linalg.norm(x, **params), np.linalg.norm(mt.tensor(x), **params).numpy()):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.dtype == expected.dtype


EINSUMS = [
    ("ij->ji", (2, 3)),
    ("ii", (3, 3)),
    ("...i->...", (2, 3)),
    ("i...->...", (2, 3)),
    ("ij,jk", (2, 3), (3, 4)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("aB,Bc", (2, 3), (3, 4)),
    ("...ij,...jk", (2, 2, 3), (3, 4)),
]


@pytest.mark.parametrize("args", EINSUMS)
def test_einsum_gives_what_numpys_gives(args) -> None:
    subscripts, *shapes = args
    xs = spread(tuple(shapes))
    expected = np.einsum(subscripts, *xs)
    for found in (mt.einsum(subscripts, *xs), mt.einsum(subscripts, *map(mt.tensor, xs)).numpy()):
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "lists", [([0, 1], [1, 2]), ([3, 1], [1, 0]), ([30, 1], [1, 27]), ([..., 1], [1, ...], [...]), ([5, 6], [6, 7], [7, 5])]
)
def test_einsum_with_lists_gives_what_numpys_gives(lists) -> None:
    a, b = spread(((2, 3), (3, 2)))
    last = lists[2:]
    expected = np.einsum(a, lists[0], b, lists[1], *last)
    found = np.einsum(mt.tensor(a, requires_grad=True), lists[0], mt.tensor(b), lists[1], *last)
    np.testing.assert_array_equal(found.detach().numpy(), expected)


@pytest.mark.parametrize("product", [np.dot, np.inner, np.outer, lambda a, b: np.tensordot(a, b, 0)])
def test_products_with_a_number(product) -> None:
    x = mt.tensor(X, requires_grad=True)
    for y, expected in ((product(x, 2.0), product(X, 2.0)), (product(2.0, x), product(2.0, X))):
        np.testing.assert_array_equal(y.detach().numpy(), expected)
        assert mt.grad(y.sum(), x)[0].tolist() == np.full_like(X, 2.0).tolist()


def test_split_gives_what_numpys_gives() -> None:
    x = np.arange(24.0).reshape(4, 6)
    for sections, axis in [(2, 0), (3, 1), (6, -1), ([1, 3], 0), ((2, 2, 5), 1), ([-2], 1), ([9], 0), (np.array([1]), 0), ([], 0)]:
        found, expected = np.split(mt.tensor(x), sections, axis), np.split(x, sections, axis)
        assert isinstance(found, list)
        assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    assert [part.tolist() for part in mt.split([1, 2], 2)] == [[1], [2]]


@pytest.mark.parametrize("width", [1, (2,), (1, 2), ((1, 2),), ((1, 0), (0, 2)), ((1,), (2,)), [[0, 1], [2, 0]], np.array([1, 2])])
def test_pad_gives_what_numpys_gives(width) -> None:
    for value in (0, 7.0, (1, 2), ((1, 2), (3, 4))):
        expected = np.pad(X, width, constant_values=value)
        np.testing.assert_array_equal(np.pad(mt.tensor(X), width, constant_values=value).numpy(), expected)


def test_sort_of_ties_is_stable_in_its_gradient() -> None:
    x = mt.tensor(np.tile([1.0, 0.0], 40), requires_grad=True)
    (g,) = mt.grad(np.sort(x), x, np.arange(80.0))
    assert g.tolist() == np.stack([np.arange(40.0, 80.0), np.arange(40.0)], axis=1).ravel().tolist()


# -- refusals -------------------------------------------------------------------------------------------------------------------------

REFUSED = {
    "reshape order": (lambda x: np.reshape(x, (3, 2), order="F"), "order= has no derivative rule for 'F'"),
    "ravel order": (lambda x: x.ravel(order="F"), "order= has no derivative rule for 'F'"),
    "flatten order": (lambda x: x.flatten(order="A"), "order= has no derivative rule for 'A'"),
    "pad mode": (lambda x: np.pad(x, 1, "reflect"), "mode= has no derivative rule for 'reflect'"),
    "pad function": (lambda x: np.pad(x, 1, mode=max), "mode= has no derivative rule"),
    "sum dtype": (lambda x: x.sum(dtype=np.float32), "sum: the keyword dtype="),
    "prod initial": (lambda x: np.prod(x, initial=2.0), "prod: the keyword initial="),
    "cumsum dtype": (lambda x: x.cumsum(dtype=np.float32), "cumsum: the keyword dtype="),
    "std correction": (lambda x: np.std(x, correction=1), "std: the keyword correction="),
    "trace dtype": (lambda x: x.trace(dtype=np.float32), "trace: the keyword dtype="),
    "stack casting": (lambda x: np.stack([x], casting="no"), "stack: the keyword casting="),
    "clip out": (lambda x: mt.clip(x, 0, 1, out=np.zeros(3)), "clip: the keyword out="),
    "clip dtype": (lambda x: x.clip(0, 1, dtype=np.float32), "clip: the keyword dtype="),
    "clip twice": (lambda x: mt.clip(x, 0, 1, max=1), "clip: bounds were given twice"),
    "take out": (lambda x: np.take(x, [0], out=np.zeros(1)), "take: the keyword out="),
    "sort stable": (lambda x: np.sort(x, stable=True), "sort: the keyword stable="),
    "einsum casting": (lambda x: np.einsum("ij", x, casting="no"), r"einsum: the keyword casting= .*optimize="),
    "einsum letters": (lambda x: np.einsum(x, [0, 52]), "einsum takes subscripts and operands"),
    "einsum, no axes": (lambda x: mt.einsum(x), "einsum takes subscripts and operands"),
    "einsum, no list": (lambda x: mt.einsum(x, x), "einsum takes subscripts and operands"),
    "norm 2": (lambda x: np.linalg.norm(x, 2), r"norm: ord=2 of matrices has no derivative rule \(it has for"),
    "norm -2": (lambda x: np.linalg.norm(x, -2, axis=(0, 1)), "ord=-2 of matrices"),
    "norm nuc": (lambda x: np.linalg.norm(x, "nuc"), "ord='nuc' of matrices"),
    "dot out": (lambda x: np.dot(x, x.T, out=np.zeros((2, 2))), "dot: the keyword out="),
    "logsumexp dim": (lambda x: mt.logsumexp(x, dim=0), "the axis is named axis="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_when_called(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        call(mt.tensor(X, requires_grad=True))


WRONG = {
    "split": (lambda x: np.split(x, 2, axis=1), r"split\(float64 \(2, 3\)\): axis 1 of length 3 cannot be divided into 2"),
    "split axis": (lambda x: np.split(x, 1, axis=2), r"split\(float64 \(2, 3\)\): there is no axis 2"),
    "take mode": (lambda x: np.take(x, [0], mode="wrong"), r"take\(float64 \(2, 3\)\): mode is 'raise', 'wrap' or 'clip', got 'wrong'"),
    "einsum operand": (lambda x: np.einsum("ijk->i", x), r"einsum\(float64 \(2, 3\)\): .*too many subscripts"),
    "einsum count": (lambda x: np.einsum("ij,jk", x), r"einsum\(float64 \(2, 3\)\): "),
    "einsum size": (lambda x: np.einsum("ij,jk", x, x), r"einsum\(float64 \(2, 3\), float64 \(2, 3\)\): "),
    "einsum output": (lambda x: np.einsum("ij->kj", x), r"einsum\(float64 \(2, 3\)\): "),
    "einsum twice": (lambda x: np.einsum("ij->jj", x), r"einsum\(float64 \(2, 3\)\): "),
    "tensordot": (lambda x: np.tensordot(x, x, 1), r"tensordot\(float64 \(2, 3\), float64 \(2, 3\)\): "),
    "dot": (lambda x: x.dot(x), r"dot\(float64 \(2, 3\), float64 \(2, 3\)\): "),
    "norm axes": (
        lambda x: np.linalg.norm(x, axis=(0, 1, 2)),
        r"norm\(float64 \(2, 3\)\): one axis makes vectors, two make matrices, got 3",
    ),
    "norm of three axes": (lambda x: np.linalg.norm(x[None], "fro"), r"norm\(float64 \(1, 2, 3\)\): one axis makes vectors"),
    "norm of vectors": (lambda x: np.linalg.norm(x, "fro", axis=1), "Invalid norm order 'fro' for vectors"),
    "stack": (lambda x: np.stack([x, x.T]), r"stack\(float64 \(2, 3\), float64 \(3, 2\)\): "),
    "squeeze": (lambda x: x.squeeze(axis=0), r"squeeze\(float64 \(2, 3\)\): "),
    "pad": (lambda x: np.pad(x, (1, 2, 3)), r"pad\(float64 \(2, 3\)\): "),
    "logsumexp": (lambda x: mt.logsumexp(x, axis=2), r"logsumexp\(float64 \(2, 3\)\): axis 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_shape_names_the_operation_and_its_operands(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(ShapeError, match=message):
        call(mt.tensor(X, requires_grad=True))


def test_take_beyond_the_end() -> None:
    with pytest.raises(IndexError, match=r"take\(float64 \(2, 3\)\): index 6 is out of bounds"):
        mt.tensor(X).take([6])


# -- what is kept ---------------------------------------------------------------------------------------------------------------------


def saved(y: mt.Tensor) -> list[bool]:
    """Which inputs' values the node of ``y`` keeps."""
    return [hasattr(value, "__array_function__") for value in y._node.inputs]


def test_einsum_keeps_only_what_another_operands_cotangent_needs() -> None:
    a, b, c = (mt.ones(8, 8, requires_grad=True) for _ in range(3))
    assert saved(np.einsum("ij->i", a)) == [False]
    assert saved(np.einsum("ij,jk,kl->il", a, b, c)) == [True, True, True]
    assert saved(np.einsum("ij,jk->ik", a, b.detach())) == [False, True]
    assert saved(np.einsum("ij,jk->ik", a.detach(), b)) == [True, False]


@pytest.mark.parametrize(
    "call",
    [
        *(
            lambda x, f=f: f(x)
            for f in (mt.sum, mt.mean, mt.cumsum, mt.ravel, mt.squeeze, mt.flip, mt.tril, mt.triu, mt.trace, mt.diagonal)
        ),
        lambda x: mt.pad(x, 1),
        lambda x: mt.take(x, [0, 1]),
        lambda x: mt.stack([x, x]),
        lambda x: mt.einsum("ij->ji", x),
    ],
)
def test_what_only_moves_elements_keeps_none(call) -> None:
    y = call(mt.ones(8, 8, requires_grad=True))
    assert not any(saved(y))
    assert y._node.output is None


def test_every_formula_of_the_table_is_latex_with_one_entry_per_rule() -> None:
    """Elementwise rules have none of their own: theirs can be derived."""
    for family in (mt.ops.reductions, mt.ops.shaping, mt.ops.linalg, mt.ops.indexing):
        own = [made for made in vars(family).values() if isinstance(made, Primitive) and made.rules[0].__module__ == family.__name__]
        assert own
        for made in own:
            assert len(made.latex) in (1, len(made.rules)), made
            assert all(r"\bar " in formula and formula.count("{") == formula.count("}") for formula in made.latex), made


def test_dtypes_of_gradients_stay() -> None:
    x = mt.tensor(X, mt.float32, requires_grad=True)
    for call in (
        mt.prod,
        mt.logsumexp,
        mt.std,
        mt.erf,
        mt.linalg.norm,
        mt.expm1,
        mt.log2,
        lambda x: mt.clip(x, -1, 1.5),
        lambda x: mt.sort(x, axis=None),
    ):
        y = call(abs(x) + 1)
        assert y.dtype == np.float32
        assert mt.grad(y.sum(), x)[0].dtype == np.float32


def test_a_complex_result_cannot_carry_a_gradient() -> None:
    with pytest.raises(DTypeError, match="complex"):
        np.einsum("i,i", mt.ones(2, requires_grad=True), np.ones(2) * 1j)
