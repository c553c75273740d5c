"""Kinks and ties: what a derivative is where there is none, at first and at second order."""

import numpy as np
import pytest

import minitensor as mt

HALVES = {
    "maximum": (lambda a, b: mt.maximum(a, b), [2.0, 1.0, 3.0], [1.0, 1.0, 5.0], [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]),
    "minimum": (lambda a, b: mt.minimum(a, b), [2.0, 1.0, 3.0], [1.0, 1.0, 5.0], [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", HALVES)
def test_maximum_and_minimum_share_a_tie_in_halves(name: str, create_graph: bool) -> None:
    call, a, b, da, db = HALVES[name]
    ta, tb = mt.tensor(a, requires_grad=True), mt.tensor(b, requires_grad=True)
    ga, gb = mt.grad(call(ta, tb), [ta, tb], np.array([1.0, 4.0, 1.0]), create_graph=create_graph)
    assert ga.tolist() == [x * w for x, w in zip(da, [1.0, 4.0, 1.0], strict=True)]
    assert gb.tolist() == [x * w for x, w in zip(db, [1.0, 4.0, 1.0], strict=True)]


def test_the_same_tensor_on_both_sides_gets_the_whole_cotangent() -> None:
    x = mt.tensor([1.0, -2.0], requires_grad=True)
    assert mt.grad(mt.maximum(x, x), x, np.array([3.0, 5.0]))[0].tolist() == [3.0, 5.0]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.max(), [[0, 1 / 3, 1 / 3], [0, 0, 1 / 3]]),
        (lambda x: x.max(axis=0), [[0, 1, 1 / 2], [1, 0, 1 / 2]]),
        (lambda x: x.max(axis=1, keepdims=True), [[0, 1 / 2, 1 / 2], [0, 0, 1]]),
        (lambda x: x.max(axis=(0, 1)), [[0, 1 / 3, 1 / 3], [0, 0, 1 / 3]]),
        (lambda x: (-x).min(axis=1), [[0, -1 / 2, -1 / 2], [0, 0, -1]]),
        (lambda x: x.min(), [[0.5, 0, 0], [0, 0.5, 0]]),
    ],
)
def test_max_and_min_share_ties_equally(call, expected, create_graph: bool) -> None:
    x = mt.tensor([[1.0, 7.0, 7.0], [2.0, 1.0, 7.0]], np.float64, requires_grad=True)
    y = call(x)
    (g,) = mt.grad(y, x, [mt.ones_like(y)], create_graph=create_graph)
    np.testing.assert_allclose(g.detach().numpy(), expected)


def test_an_infinite_maximum_still_has_a_gradient() -> None:
    x = mt.tensor([1.0, np.inf], requires_grad=True)
    assert mt.grad(x.max(), x)[0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("call", [mt.max, mt.min])
def test_a_nan_gets_the_gradient_of_the_extremum_that_it_makes(call, create_graph: bool) -> None:
    x = mt.tensor([[1.0, np.nan, 3.0], [2.0, 5.0, 4.0], [np.nan, 1.0, np.nan]], np.float64, requires_grad=True)
    y = call(x, axis=1)
    (g,) = mt.grad(y, x, np.array([1.0, 1.0, 3.0]), create_graph=create_graph)
    chosen = 1 if call is mt.max else 0
    assert g.tolist() == [[0.0, 1.0, 0.0], [1.0 - chosen, chosen, 0.0], [1.5, 0.0, 1.5]]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("x", "lo", "hi", "expected"),
    [
        ([-1.0, 0.0, 0.5, 1.0, 2.0], 0.0, 1.0, ([0, 1, 1, 1, 0], 1, 1)),  # at its bounds, x gets it
        ([0.0, 1.0, 2.0], 1.0, 1.0, ([0, 1, 0], 1, 1)),
        ([-1.0, 0.5, 5.0], 1.0, 0.0, ([0, 0, 0], 0, 3)),  # lo > hi gives hi
        ([np.nan, 0.5], 0.0, 1.0, ([0, 1], 0, 0)),
        ([-np.inf, np.inf], 0.0, 1.0, ([0, 0], 1, 1)),
    ],
)
def test_clip_gives_the_gradient_to_one_of_the_three(x, lo, hi, expected, create_graph: bool) -> None:
    tensors = [mt.tensor(value, np.float64, requires_grad=True) for value in (x, lo, hi)]
    y = mt.clip(*tensors)
    np.testing.assert_array_equal(y.detach().numpy(), np.clip(x, lo, hi))
    found = mt.grad(y, tensors, np.ones(len(x)), create_graph=create_graph)
    assert [g.tolist() for g in found] == [np.multiply(values, 1.0).tolist() for values in expected]


FINITE = {
    "abs at 0": (lambda x: mt.absolute(x), [0.0, -2.0, 3.0], [0.0, -1.0, 1.0]),
    "abs at -0": (lambda x: abs(x), [-0.0], [0.0]),
    "sign": (lambda x: mt.sign(x), [0.0, 5.0], [0.0, 0.0]),
    "relu by maximum": (lambda x: mt.maximum(x, 0), [0.0, -1.0, 1.0], [0.5, 0.0, 1.0]),
    "relu by where": (lambda x: mt.where(x > 0, x, 0), [0.0, -1.0, 1.0], [0.0, 0.0, 1.0]),
    "x**0 at 0": (lambda x: x**0, [0.0, 2.0], [0.0, 0.0]),
    "x**0.0 at 0": (lambda x: x**0.0, [0.0, 2.0], [0.0, 0.0]),
    "x**array(0) at 0": (lambda x: x ** np.array([0.0, 0.0]), [0.0, 2.0], [0.0, 0.0]),
    "x**int array at 0": (lambda x: x ** np.array([0, 1, 2]), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    "x**1 at 0": (lambda x: x**1, [0.0, -2.0], [1.0, 1.0]),
    "x**2 at 0": (lambda x: x**2, [0.0, -2.0], [0.0, -4.0]),
    "x**3 at a negative x": (lambda x: x**3, [-2.0], [12.0]),
    "0.0**x": (lambda x: 0.0**x, [2.0, 1.5], [0.0, 0.0]),
    "0**x at 0": (lambda x: 0**x, [0.0], [0.0]),
    "array(0)**x": (lambda x: np.array([0.0, 0.0]) ** x, [2.0, 1.0], [0.0, 0.0]),
    "square at 0": (lambda x: mt.square(x), [0.0], [0.0]),
    "mean of equal numbers, absolute": (lambda x: abs(x - x.mean()), [1.0, 1.0], [0.0, 0.0]),
    "var of equal numbers": (lambda x: x.var(), [1.0, 1.0], [0.0, 0.0]),
    "std of equal numbers": (lambda x: x.std(), [1.0, 1.0], [0.0, 0.0]),
    "std of one number": (lambda x: x.std(axis=0, keepdims=True), [3.0], [0.0]),
    "clip at a bound": (lambda x: mt.clip(x, 0.0, 1.0), [0.0, 1.0], [1.0, 1.0]),
    "floor": (lambda x: mt.floor(x), [0.0, 1.5], [0.0, 0.0]),
    "round": (lambda x: mt.round(x), [0.5, 1.5], [0.0, 0.0]),
    "sort, a tie": (lambda x: mt.sort(x) * np.array([1.0, 2.0, 4.0]), [5.0, 3.0, 5.0], [2.0, 1.0, 4.0]),
    "prod, one zero": (lambda x: x.prod(), [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
    "prod, two zeros": (lambda x: x.prod(), [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "prod of nothing": (lambda x: x.prod(), [], []),
    "norm at 0": (lambda x: np.linalg.norm(x), [0.0, 0.0], [0.0, 0.0]),
    "norm of nothing": (lambda x: np.linalg.norm(x), [], []),
    "norm 1": (lambda x: np.linalg.norm(x, 1), [0.0, -2.0], [0.0, -1.0]),
    "norm 1 at 0": (lambda x: np.linalg.norm(x, 1), [0.0, 0.0], [0.0, 0.0]),
    "norm 3 at 0": (lambda x: np.linalg.norm(x, 3), [0.0, 0.0], [0.0, 0.0]),
    "norm 1.5 at an axis": (lambda x: np.linalg.norm(x, 1.5), [0.0, 4.0], [0.0, 1.0]),
    "norm 0.5 at an axis": (lambda x: np.linalg.norm(x, 0.5), [0.0, 4.0], [0.0, 1.0]),
    "norm 0": (lambda x: np.linalg.norm(x, 0), [0.0, 4.0], [0.0, 0.0]),
    "norm inf, a tie": (lambda x: np.linalg.norm(x, np.inf), [2.0, -2.0, 1.0], [0.5, -0.5, 0.0]),
    "norm inf at 0": (lambda x: np.linalg.norm(x, np.inf), [0.0, 0.0], [0.0, 0.0]),
    "norm -inf": (lambda x: np.linalg.norm(x, -np.inf), [2.0, -1.0], [0.0, -1.0]),
    "norm of a zero matrix": (lambda x: np.linalg.norm(x.reshape(2, 2), "fro"), [0.0] * 4, [0.0] * 4),
    "logsumexp of a tie": (lambda x: mt.logsumexp(x), [1.0, 1.0], [0.5, 0.5]),
    "logsumexp with -inf": (lambda x: mt.logsumexp(x), [-np.inf, 1.0], [0.0, 1.0]),
    "logsumexp of -inf": (lambda x: mt.logsumexp(x, keepdims=True), [-np.inf, -np.inf], [0.0, 0.0]),
    "logsumexp of large numbers": (lambda x: mt.logsumexp(x), [1e300, 1e300], [0.5, 0.5]),
    "take, twice the same": (lambda x: mt.take(x, [1, 1]), [1.0, 2.0], [0.0, 2.0]),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", FINITE)
def test_the_chosen_derivative(name: str, create_graph: bool) -> None:
    """Finite and without a warning (a warning is an error in these tests)."""
    call, values, expected = FINITE[name]
    x = mt.tensor(values, np.float64, requires_grad=True)
    y = call(x)
    (g,) = mt.grad(y, x, [mt.ones_like(y)], create_graph=create_graph)
    assert g.tolist() == expected


SECOND = {
    "abs": (lambda x: abs(x) * x, [0.0, -2.0, 3.0], [0.0, -2.0, 2.0]),
    "x**2": (lambda x: x**2, [0.0], [2.0]),
    "x**3": (lambda x: x**3, [0.0, -1.0], [0.0, -6.0]),
    "max twice": (lambda x: x.max() * x.max(), [1.0, 1.0], [1.0, 1.0]),
    "maximum": (lambda x: mt.maximum(x, 0) ** 2, [-1.0, 2.0], [0.0, 2.0]),
    "clip at its bounds": (lambda x: mt.clip(x, 0.0, 1.0) ** 2, [-1.0, 0.0, 1.0, 2.0], [0.0, 2.0, 2.0, 0.0]),
    "prod, one zero": (lambda x: x.prod(), [2.0, 0.0, 3.0], [3.0, 5.0, 2.0]),
    "prod, two zeros": (lambda x: x.prod(), [2.0, 0.0, 0.0], [0.0, 2.0, 2.0]),
    "prod, three zeros": (lambda x: x.prod(), [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "std of equal numbers": (lambda x: x.std(), [1.0, 1.0], [0.0, 0.0]),
    "norm at 0": (lambda x: np.linalg.norm(x), [0.0, 0.0], [0.0, 0.0]),
    "norm on an axis": (lambda x: np.linalg.norm(x), [0.0, 2.0], [0.5, 0.0]),
    "norm 1.5 on an axis": (lambda x: np.linalg.norm(x, 1.5), [0.0, 2.0], [0.0, 0.0]),
    "logsumexp of -inf": (lambda x: mt.logsumexp(x), [-np.inf, -np.inf], [0.0, 0.0]),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_chosen_second_derivative(name: str) -> None:
    call, values, expected = SECOND[name]
    x = mt.tensor(values, np.float64, requires_grad=True)
    (g,) = mt.grad(call(x).sum(), x, create_graph=True)
    assert mt.grad(g.sum(), x)[0].tolist() == expected


def test_0_to_the_0_by_both() -> None:
    a, b = mt.tensor(0.0, np.float64, requires_grad=True), mt.tensor(0.0, np.float64, requires_grad=True)
    y = a**b
    assert y.item() == 1.0
    assert [g.item() for g in mt.grad(y, [a, b])] == [0.0, 0.0]


def test_negative_base_has_no_derivative_in_the_exponent() -> None:
    a, b = mt.tensor([-2.0], requires_grad=True), mt.tensor([3.0], requires_grad=True)
    ga, gb = mt.grad(a**b, [a, b])
    assert ga.tolist() == [12.0]
    assert np.isnan(gb.numpy()).all()


def test_where_keeps_the_other_branch_out() -> None:
    """Provided that the branch not taken is finite: 0 * inf would be nan."""
    x = mt.tensor([0.0, 4.0], requires_grad=True)
    safe = mt.where(x > 0, x, 1.0)
    (g,) = mt.grad(mt.where(x > 0, mt.sqrt(safe), 0.0), x, np.ones(2))
    assert g.tolist() == [0.0, 0.25]


def test_higher_derivatives_of_a_product_of_zeros() -> None:
    """d^3 (a b c) / da db dc = 1 also where a = b = c = 0."""
    x = mt.tensor([0.0, 0.0, 0.0], np.float64, requires_grad=True)
    y = x.prod()
    for i in range(3):
        (g,) = mt.grad(y, x, create_graph=True)
        y = g[i]
    assert y.item() == 1.0


def test_a_norm_of_even_order_is_exact_at_every_order() -> None:
    """d^4/dx^4 (x^4 + 1)^(1/4) = 6 at x = 0, where an absolute value would give 0."""
    x = mt.tensor([0.0, 1.0], np.float64, requires_grad=True)
    y = np.linalg.norm(x, 4)
    for _ in range(4):
        (g,) = mt.grad(y, x, create_graph=True)
        y = g[0]
    assert y.item() == pytest.approx(6.0)


@pytest.mark.parametrize("order", [-1, -2, -0.5])
def test_the_norm_of_negative_order_is_flat_where_an_element_is_0(order: float) -> None:
    x = mt.tensor([0.0, 2.0, 3.0], np.float64, requires_grad=True)
    with np.errstate(divide="ignore"):  # NumPy's own 0 ** negative
        y = np.linalg.norm(x, order)
    assert y.item() == 0
    assert mt.grad(y, x)[0].tolist() == [0.0, 0.0, 0.0]


def test_the_norm_of_order_0_is_flat() -> None:
    """It counts the elements that are not 0; (3, 4), so that a gradient of the shape of the counts would not fit."""
    x = mt.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    assert mt.grad(np.linalg.norm(x, 0, axis=1).sum(), x)[0].tolist() == np.zeros((3, 4)).tolist()
