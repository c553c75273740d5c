"""Rounded: its value is NumPy's, its bound holds, and the bound is neither wide nor narrow beyond use."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitensor as mt
from minitensor.autograd import Rounded
from minitensor.autograd.rounding import _additions
from minitensor.errors import UnsupportedError

DTYPES = [np.float16, np.float32, np.float64]


def standardize(x, axes, eps=1e-5):
    c = x - np.mean(x, axis=axes, keepdims=True)
    return c / np.sqrt(np.mean(c * c, axis=axes, keepdims=True) + eps)


FORMULAS = {
    "sum of all": lambda x: np.sum(x),
    "sum along rows": lambda x: np.sum(x, axis=1),
    "sum along columns": lambda x: np.sum(x, axis=0),
    "sum by its method": lambda x: x.sum(axis=1),
    "sum over a tuple": lambda x: np.sum(x, axis=(0, 1), keepdims=True),
    "mean": lambda x: np.mean(x, axis=-1, keepdims=True),
    "mean of all": lambda x: np.mean(x),
    "mean by its method": lambda x: x.mean(axis=0),
    "square": lambda x: x * x,
    "times a Python float": lambda x: 0.1 * x,
    "plus a Python float": lambda x: x + 1e-5,
    "divided by a Python int": lambda x: x / 3,
    "a Python float divided": lambda x: 1.1 / (x * x + 0.3),
    "quotient": lambda x: x / (x * x + 1),
    "root": lambda x: np.sqrt(x * x + 0.1),
    "negative": lambda x: -(x - 0.7),
    "centred": lambda x: x - np.mean(x, axis=1, keepdims=True),
    "centred twice": lambda x: (lambda c: c - np.mean(c, axis=1, keepdims=True))(x - np.mean(x, axis=1, keepdims=True)),
    "standardize": lambda x: standardize(x, (1,)),
    "standardize over columns": lambda x: standardize(x, (0,)),
    "standardize over all": lambda x: standardize(x, (0, 1)),
    "through float16": lambda x: (x.astype(np.float16) if x.dtype != np.longdouble else x) * 3,
    "through float32": lambda x: (x.astype(np.float32) if x.dtype != np.longdouble else x) * 3,
    "read and reshaped": lambda x: (x[1:, ::2] * 0.3).reshape(-1),
}
SHAPES = [(300, 400), (4, 7), (3, 127), (1000, 2), (1, 1)]


def error_and_bound(formula, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distance of the formula's value in x's dtype from its value in longdouble, and what Rounded says of it."""
    found = formula(Rounded(x))
    plain = np.asarray(formula(x))
    assert (found.shape, found.dtype) == (plain.shape, plain.dtype)
    np.testing.assert_array_equal(found.value, plain, "not the computation under test")
    return np.abs(plain.astype(np.longdouble) - formula(x.astype(np.longdouble))), found.bound


def draw(shape: tuple[int, ...], dtype: type, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape) + offset
    return (values * (0.02 if dtype is np.float16 else 1)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_the_bound_holds(name: str, dtype: type) -> None:
    for shape in SHAPES:
        for offset in (0.0, 3.0):
            error, bound = error_and_bound(FORMULAS[name], draw(shape, dtype, offset=offset))
            assert np.all(error <= bound), (shape, offset, np.max(error / bound))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    "name", ["sum along rows", "sum along columns", "mean", "times a Python float", "quotient", "root", "centred", "standardize"]
)
def test_the_bound_is_not_absurd_and_a_thousandth_of_it_is_wrong(name: str, dtype: type) -> None:
    error, bound = error_and_bound(FORMULAS[name], draw((300, 400), dtype, offset=1.0))
    assert np.max(bound) <= 1e4 * np.max(error)
    assert np.any(error > bound / 1000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "F", "transposed", "every second", "reversed", "repeated rows", "repeated columns"])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_the_bound_of_a_sum_holds_in_every_layout(layout: str, axis, dtype: type) -> None:
    """Equal numbers let rounding errors add up, in whatever order NumPy meets them."""
    for number in (0.1, 0.7, 1 / 3):
        x = np.full((60, 500), number / 500).astype(dtype)
        x = {
            "C": x, "F": np.asfortranarray(x), "transposed": x.T, "every second": x[:, ::2], "reversed": x[::-1, ::-1],
            "repeated rows": np.broadcast_to(x[:1], x.shape), "repeated columns": np.broadcast_to(x[:, :1], x.shape),
        }[layout]  # fmt: skip
        error, bound = error_and_bound(lambda a: np.sum(a, axis=axis), x)
        assert np.all(error <= bound), np.max(error / bound)


def longest_path(x: np.ndarray, axis) -> int:
    """The additions that one number goes through in ``x.sum(axis)``, counted by masking.

    Among ones, a huge M at i and -M at j swallow every number that is added to either before the two meet: what is missing in the sum
    is the size of the smallest part of the tree that holds both, and i lies in as many parts as there are different sizes.
    """
    writable = np.lib.stride_tricks.as_strided(x, writeable=True)
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else [i % x.ndim for i in axis]
    places = [tuple(p[axes.index(i)] if i in axes else 0 for i in range(x.ndim)) for p in np.ndindex(*(x.shape[i] for i in axes))]
    sizes: dict[tuple, set] = {place: set() for place in places}
    writable[...] = 1
    for i, j in combinations(places, 2):
        writable[i], writable[j] = 1e30, -1e30
        missing = len(places) - int(np.ravel(x.sum(axis=axis))[0])
        sizes[i].add(missing)
        sizes[j].add(missing)
        writable[i] = writable[j] = 1
    return max(map(len, sizes.values()))


ORDERS = {
    "7": (np.empty(7, np.float32), None),
    "8": (np.empty(8, np.float32), None),
    "63": (np.empty(63, np.float32), 0),
    "127": (np.empty(127, np.float32), 0),
    "128": (np.empty(128, np.float32), 0),
    "143": (np.empty(143, np.float32), 0),
    "float64 127": (np.empty(127), 0),
    "columns": (np.empty((40, 3), np.float32), 0),
    "rows": (np.empty((3, 40), np.float32), 1),
    "all": (np.empty((10, 13), np.float32), (0, 1)),
    "outer and inner": (np.empty((5, 3, 9), np.float32), (0, 2)),
    "two inner": (np.empty((2, 7, 9), np.float32), (1, 2)),
    "two outer": (np.empty((7, 9, 2), np.float32), (0, 1)),
    "F rows": (np.empty((3, 40), np.float32, order="F"), 1),
    "F columns": (np.empty((40, 3), np.float32, order="F"), 0),
    "F outer and inner": (np.empty((5, 3, 9), np.float32, order="F"), (0, 2)),
    "every second": (np.empty((6, 20), np.float32)[:, ::2], (0, 1)),
    "every third of each": (np.empty((18, 20), np.float32)[::3, ::3], (0, 1)),
    "reversed": (np.empty((4, 20), np.float32)[:, ::-1], (0, 1)),
    "length 1 in between": (np.empty((6, 1, 9), np.float32), (0, 2)),
    "length 1 inside": (np.empty((40, 1), np.float32), 0),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_count_of_additions_is_what_numpy_does(order: str) -> None:
    x, axis = ORDERS[order]
    assert longest_path(x, axis) <= _additions(x, axis) <= x.size - 1


@pytest.mark.parametrize("n", [7, 8, 63, 127, 128, 129, 143, 200])
def test_the_count_of_additions_is_exact_in_one_row(n: int) -> None:
    x = np.empty(n, np.float32)
    assert longest_path(x, None) == _additions(x, None)


STEPS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b * b + 1),
    "root": lambda a, b: np.sqrt(a * a + 0.01) - b,
    "rows": lambda a, b: a + np.mean(b, axis=1, keepdims=True),
    "columns": lambda a, b: a - np.sum(b, axis=0, keepdims=True) * 0.01,
    "all": lambda a, b: a * np.mean(b),
    "scaled": lambda a, b: 0.3 * a - b / 7,
}


@given(
    steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    dtype=st.sampled_from([np.float16, np.float32]),
    seed=st.integers(0, 999),
)
def test_the_bound_holds_for_any_formula(steps, shape, dtype, seed: int) -> None:
    def formula(x):
        values = [x, x * 0.5]
        for step, i, j in steps:
            values.append(STEPS[step](values[i % len(values)], values[j % len(values)]))
        return values[-1]

    error, bound = error_and_bound(formula, draw(shape, dtype, seed))
    assert not np.any(np.isnan(bound))
    assert np.all(error <= bound)


@pytest.mark.parametrize("traced", [False, True])
def test_a_whole_graph_runs_on_rounded_numbers(traced: bool) -> None:
    """Forward and backward: the gradients are those of plain arrays, and their bound holds against float64."""
    x, u = draw((6, 50), np.float32, 1, 2.0), draw((6, 50), np.float32, 2)

    def gradient(x, u, dtype=None):
        t = mt.Tensor(x, dtype, requires_grad=True)
        return mt.grad(standardize(t, (1,)), t, [mt.Tensor(u, dtype)], create_graph=traced)[0]._array

    found = gradient(Rounded(x), Rounded(u))
    np.testing.assert_array_equal(found.value, gradient(x, u))
    error = np.abs(found.value - gradient(x, u, np.float64))
    assert np.all(error <= found.bound)
    assert np.max(found.bound) <= 1e4 * np.max(error)
    assert np.any(error > found.bound / 1000)


numbers = st.floats(-4, 4).filter(lambda x: abs(x) > 1e-3)
OPERATIONS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negative": lambda a, b: -a,
    "sqrt": lambda a, b: np.sqrt(abs(a) if isinstance(a, float) else Rounded(abs(a.value), a.bound)),
    "sum": lambda a, b: a + b + a if isinstance(a, float) else np.sum(Rounded([a.value, b.value, a.value], [a.bound, b.bound, a.bound])),
    "mean": lambda a, b: (a + b) / 2 if isinstance(a, float) else np.mean(Rounded([a.value, b.value], [a.bound, b.bound])),
}


@given(st.sampled_from(sorted(OPERATIONS)), numbers, numbers, st.floats(0, 0.9), st.floats(0, 0.9))
def test_uncertain_inputs_are_carried_along(name: str, a: float, b: float, e_a: float, e_b: float) -> None:
    """Whatever the exact inputs are within their bounds, the exact result lies within its own; and the worst of them lies near it."""
    operation, e_a, e_b = OPERATIONS[name], e_a * abs(a), e_b * abs(b)
    found = operation(Rounded(a, e_a), Rounded(b, e_b))
    corners = [(a + i * e_a, b + j * e_b) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    worst = max(abs(float(found.value) - float(operation(*corner))) for corner in corners)
    assert worst <= found.bound * (1 + 1e-12)
    assert found.bound <= worst + 1e-14 * (1 + abs(found.value))


def test_overflow_has_no_bound_and_underflow_a_tiny_one() -> None:
    with np.errstate(over="ignore", under="ignore"):
        assert np.isinf((Rounded(np.float16([300.0])) * 300.0).bound).all()
        tiny = Rounded(np.float32([1e-30])) * Rounded(np.float32([1e-30]))
    assert 2.0**-150 <= tiny.bound[0] <= 2.0**-149


def test_division_by_what_may_be_zero_has_no_bound() -> None:
    nearly = Rounded(np.float32([0.1])) + np.float32(0.2) - np.float32(0.3)
    with np.errstate(divide="ignore"):
        assert np.isinf((1.0 / nearly).bound).all()
    assert np.isinf((Rounded(1.0) / Rounded(2.0, 2.0)).bound)
    assert np.isinf((Rounded(1.0) / Rounded(-2.0, 3.0)).bound)


def test_the_root_of_what_may_be_zero() -> None:
    assert np.sqrt(Rounded(0.0, 1e-6)).bound == pytest.approx(1e-3)
    assert np.sqrt(Rounded(1e-6, 1e-4)).bound == pytest.approx(0.1)
    assert np.sqrt(Rounded(0.0)).bound < 1e-300


def test_exact_operations_have_no_more_than_one_rounding() -> None:
    x = Rounded(np.float32([1.0, 2.0, 3.0]))
    assert np.all((-x).bound <= np.finfo(np.float32).eps * 3)
    assert np.all(x.astype(np.float64).bound == 0)
    assert np.all(np.broadcast_to(x, (2, 3)).bound == 0)
    assert np.all(np.ones_like(x).bound == 0)
    assert np.all(x[1:].reshape(2, 1).bound == 0)


def test_a_choice_takes_the_bound_of_what_it_chose() -> None:
    x = Rounded(np.float32([0.0, 2.0]), np.float32([0.25, 0.5]))
    np.testing.assert_array_equal(np.equal(x, 0), [True, False])
    found = np.where(np.equal(x, 0), 1, x)
    assert (found.value.dtype, found.value.tolist(), found.bound.tolist()) == (np.float32, [1.0, 2.0], [0.0, 0.5])


@pytest.mark.parametrize(
    "ask",
    [
        np.exp,
        lambda x: np.sum(x, where=True),
        lambda x: np.add(x, x, out=x),
        np.add.reduce,
        lambda x: np.concatenate([x, x]),
        np.maximum.outer,
        lambda x: np.equal.outer(x, x),
    ],
    ids=["exp", "where=", "out=", "reduce", "concatenate", "outer", "equal.outer"],
)
def test_what_has_no_bound_is_refused(ask) -> None:
    with pytest.raises((UnsupportedError, TypeError)):
        ask(Rounded(np.float32([1.0])))
