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
