"""The walk: every node once, nothing shared is written into, and errors before anything is changed."""

import math
import re
import time

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import GraphError, ShapeError
from minitensor.primitive import Primitive


def leaf(*values: float, dtype: type = np.float64) -> mt.Tensor:
    return mt.tensor(values, dtype, requires_grad=True)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_chain_of_200000_nodes(create_graph: bool) -> None:
    """Forward, backward and being freed, without recursion and in linear time."""
    x = mt.tensor(1.0, np.float64, requires_grad=True)
    y = x
    for _ in range(200_000 if not create_graph else 20_000):
        y = -y
    y.backward(create_graph=create_graph)
    assert x.grad.item() == 1.0
    x.grad = None
    del y


def test_a_chain_that_is_never_walked_is_freed() -> None:
    y = mt.tensor(1.0, requires_grad=True)
    for _ in range(200_000):
        y = y + 1
    del y


def test_60_doublings_take_60_steps() -> None:
    """2**60 paths lead from the end to x, and each node is walked once."""
    calls = []

    def rule(g: object, _y: object, _a: object, _b: object) -> object:
        calls.append(1)
        return g

    double = Primitive(np.add, rule, rule)
    x = mt.tensor(1.0, np.float64, requires_grad=True)
    y = x
    for _ in range(60):
        y = double(y, y)
    (g,) = mt.grad(y, x)
    assert g.item() == 2.0**60
    assert len(calls) == 2 * 60


def test_cost_is_linear() -> None:
    """Ten times the nodes take about ten times the time: a quadratic walk would take a hundred."""

    def seconds(n: int) -> float:
        x = leaf(1.0)
        y = x
        for _ in range(n):
            y = y * x
        begin = time.process_time()
        y.backward()
        return time.process_time() - begin

    few = min(seconds(2_000) for _ in range(5))
    assert min(seconds(20_000) for _ in range(2)) < 40 * few


def test_a_tensor_used_twice_gets_both_gradients() -> None:
    x = leaf(3.0)
    (x * x + x).backward()
    assert x.grad.tolist() == [7.0]


def test_gradients_add_up_over_calls() -> None:
    x = leaf(3.0)
    for expected in (2.0, 4.0, 6.0):
        (2 * x).backward()
        assert x.grad.tolist() == [expected]


@pytest.mark.parametrize("create_graph", [False, True])
def test_adding_never_writes_into_a_shared_cotangent(create_graph: bool) -> None:
    """``a + b`` hands both inputs one array: when a gets more, b must not see it."""
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = a + b
    (y + a + a * 10).backward(mt.tensor([1.0, 1.0], np.float64), create_graph=create_graph)
    assert a.grad.tolist() == [12.0, 12.0]
    assert b.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "order", [lambda y, a, b: (y + a) + b, lambda y, a, b: a + (b + y), lambda y, a, b: (a + a) + (y + b) - a, lambda y, a, b: y - -a - -b]
)
def test_shared_cotangents_in_any_order(order, create_graph: bool) -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    u = mt.tensor([1.0, 1.0], np.float64)
    order(a + b, a, b).backward(u, create_graph=create_graph)
    assert a.grad.tolist() == b.grad.tolist() == [2.0, 2.0]
    assert u.tolist() == [1.0, 1.0]


def test_the_users_cotangent_and_grads_are_not_written_into() -> None:
    """a.grad may be the cotangent itself; a second backward makes a new array."""
    a, u = leaf(1.0, 2.0), mt.tensor([1.0, 5.0], np.float64)
    (a + 0.0).backward(u)
    first = a.grad
    (a + a + a).backward(u)
    assert (u.tolist(), first.tolist(), a.grad.tolist()) == ([1.0, 5.0], [1.0, 5.0], [4.0, 20.0])


def test_a_broadcast_cotangent_is_not_written_into() -> None:
    """The cotangent of a sum is one number shown many times."""
    x = leaf(1.0, 2.0, 3.0)
    (x.sum() + (x * x).sum() + x.sum()).backward()
    assert x.grad.tolist() == [4.0, 6.0, 8.0]


# -- released and retained graphs -----------------------------------------------------------------------------------------------------


def test_a_released_graph_says_so_before_anything_is_changed() -> None:
    """A second walk that would reach a released part raises, although another part of its graph is still whole."""
    x, z = leaf(2.0), leaf(5.0)
    y = x * x
    (y * 3).backward()
    other = z * z
    with pytest.raises(GraphError, match=r"released by an earlier walk.*multiply.*retain_graph=True"):
        (y + other).backward()
    assert x.grad.tolist() == [12.0]
    assert z.grad is None
    other.backward()
    assert z.grad.tolist() == [10.0]


@pytest.mark.parametrize("walk", [lambda y, x: y.backward(), lambda y, x: mt.grad(y, x)])
def test_a_second_walk_raises_a_runtime_error(walk) -> None:
    x = leaf(2.0)
    y = x * x
    walk(y, x)
    with pytest.raises(RuntimeError, match="retain_graph"):
        walk(y, x)


def test_retain_graph_twice_adds() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(GraphError):
        y.backward()


def test_create_graph_retains_unless_told_otherwise() -> None:
    x = leaf(2.0)
    y = x * x
    mt.grad(y, x, create_graph=True)
    mt.grad(y, x, create_graph=True, retain_graph=False)
    with pytest.raises(GraphError):
        mt.grad(y, x)


def test_a_rule_that_raises_leaves_the_gradients_alone() -> None:
    def rule(g: object, _y: object, _x: object) -> object:
        raise ZeroDivisionError

    x, z = leaf(1.0), leaf(1.0)
    with pytest.raises(ZeroDivisionError):
        (Primitive(np.exp, rule)(x) + z).backward()
    assert x.grad is None
    assert z.grad is None
    assert mt.is_grad_enabled()


# -- what backward() is given ---------------------------------------------------------------------------------------------------------


def test_several_elements_need_a_cotangent() -> None:
    with pytest.raises(GraphError, match=r"shape \(2, 3\), so a cotangent of that shape is needed"):
        (mt.ones(2, 3, requires_grad=True) * 2).backward()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_one_element_of_any_shape_needs_none(shape: tuple) -> None:
    x = mt.full(shape, 3.0, requires_grad=True)
    (x * x).backward()
    assert (x.grad.shape, x.grad.item()) == (shape, 6.0)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (1, 2, 3)])
def test_a_cotangent_of_another_shape(shape: tuple) -> None:
    y = mt.ones(2, 3, requires_grad=True) * 2
    for walk in (lambda: y.backward(mt.ones(shape)), lambda: mt.grad(y, y, [np.ones(shape)])):
        with pytest.raises(ShapeError, match=re.escape(f"(2, 3), the cotangent {shape}")):
            walk()


def test_without_a_graph() -> None:
    with pytest.raises(GraphError, match=r"float32 \(2,\) does not require grad"):
        mt.ones(2).backward(mt.ones(2))
    with mt.no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(GraphError, match="under no_grad"):
        y.backward()


def test_backward_of_a_leaf() -> None:
    x = leaf(2.0)
    x.backward()
    x.backward()
    assert x.grad.tolist() == [2.0]


def test_only_leaves_get_grad() -> None:
    x = leaf(2.0)
    y = x * x
    (y * 3).backward()
    assert y.grad is None


def test_a_leaf_that_is_gone_is_passed_over() -> None:
    x, z = leaf(2.0), leaf(3.0)
    y = x * z
    del x
    y.backward()
    assert z.grad.tolist() == [2.0]


def test_backward_under_no_grad() -> None:
    x = leaf(2.0)
    y = x * x
    with mt.no_grad():
        y.backward()
    assert x.grad.tolist() == [4.0]


def test_the_gradient_of_the_raw_walk_has_no_graph_and_that_of_the_traced_one_has() -> None:
    for create_graph in (False, True):
        x = leaf(2.0)
        (x * x * x).backward(create_graph=create_graph)
        assert x.grad.requires_grad is create_graph
        if create_graph:
            (h,) = mt.grad(x.grad, x)
            assert h.tolist() == [12.0]


# -- grad() ---------------------------------------------------------------------------------------------------------------------------


def test_grad_leaves_grad_alone() -> None:
    x = leaf(2.0)
    x.grad = mt.tensor([7.0], np.float64)
    assert mt.grad(x * x, x)[0].tolist() == [4.0]
    assert x.grad.tolist() == [7.0]


def test_grad_of_several_outputs_and_inputs() -> None:
    x, z = leaf(2.0, 3.0), leaf(5.0)
    gx, gz = mt.grad([x * z, x.sum()], [x, z], [np.array([1.0, 10.0]), None])
    assert gx.tolist() == [6.0, 51.0]
    assert gz.tolist() == [32.0]


def test_grad_with_an_output_twice() -> None:
    x = leaf(2.0)
    y = x * x
    assert mt.grad([y, y], x, [mt.tensor([1.0], np.float64), mt.tensor([10.0], np.float64)])[0].tolist() == [44.0]


def test_grad_with_an_input_twice() -> None:
    x = leaf(2.0)
    first, second = mt.grad(x * x, [x, x])
    assert first.tolist() == second.tolist() == [4.0]


def test_grad_at_an_intermediate_and_at_the_output_itself() -> None:
    x = leaf(2.0)
    h = x * x
    y = h * h
    assert [g.tolist() for g in mt.grad(y, [x, h, y])] == [[32.0], [8.0], [1.0]]


def test_grad_of_an_output_that_is_also_below_another() -> None:
    x = leaf(2.0)
    h = x * x
    y = h * 3
    assert [g.tolist() for g in mt.grad([y, h], [h, x])] == [[4.0], [16.0]]


def test_grad_with_an_array_as_cotangent() -> None:
    """One array is one cotangent, not a list of them."""
    x = mt.ones(1, 3, requires_grad=True)
    assert mt.grad(x * 2, x, np.array([[1.0, 2.0, 3.0]]))[0].tolist() == [[2.0, 4.0, 6.0]]


@pytest.mark.parametrize("given", [[None], [None] * 3, mt.tensor([1.0])])
def test_grad_with_another_number_of_cotangents(given) -> None:
    x = leaf(2.0)
    with pytest.raises(GraphError, match="2 outputs need as many grad_outputs"):
        mt.grad([x * 2, x * 3], x, given)


def test_unused_inputs() -> None:
    x, z, mask = leaf(2.0), leaf(5.0), leaf(1.0)
    with pytest.raises(GraphError, match=r"do not depend on input\(s\) \[1\]; pass allow_unused=True"):
        mt.grad(x * x, [x, z])
    assert [g and g.tolist() for g in mt.grad(x * x, [x, z], allow_unused=True)] == [[4.0], None]
    assert mt.grad(mt.where(mask, x, z), [mask, x], allow_unused=True)[0] is None


def test_inputs_without_requires_grad() -> None:
    x = leaf(2.0)
    with pytest.raises(GraphError, match=r"input 1 \(float32 \(3,\)\) does not require grad"):
        mt.grad(x * x, [x, mt.ones(3)], allow_unused=True)


def test_a_rule_that_is_not_asked_for_is_not_called() -> None:
    """Neither the rules of nodes beside the path, nor the rules for other inputs of nodes on it."""

    def forbidden(g: object, *_: object) -> object:
        raise AssertionError("a rule off the path was called")

    x, w = leaf(2.0), leaf(3.0)
    beside = Primitive(np.exp, forbidden)(w)
    product = Primitive(np.multiply, lambda g, _y, _a, b: g * b, forbidden)
    assert mt.grad(product(x, w) + beside + x, x)[0].tolist() == [4.0]


def test_what_is_off_the_path_is_not_released() -> None:
    x, w = leaf(2.0), leaf(3.0)
    squared = w * w
    mt.grad(x * squared, x)
    squared.backward()
    assert w.grad.tolist() == [6.0]


# -- higher orders --------------------------------------------------------------------------------------------------------------------

CLOSED = {
    "exp": (np.exp, [math.exp(0.7)] * 4),
    "sin": (np.sin, [math.cos(0.7), -math.sin(0.7), -math.cos(0.7), math.sin(0.7)]),
    "log": (np.log, [1 / 0.7, -1 / 0.7**2, 2 / 0.7**3, -6 / 0.7**4]),
    "x**5": (lambda x: x**5, [5 * 0.7**4, 20 * 0.7**3, 60 * 0.7**2, 120 * 0.7]),
    "x**-1": (lambda x: x**-1, [-(0.7**-2), 2 * 0.7**-3, -6 * 0.7**-4, 24 * 0.7**-5]),
    "1/x": (lambda x: 1 / x, [-(0.7**-2), 2 * 0.7**-3, -6 * 0.7**-4, 24 * 0.7**-5]),
    "reciprocal": (np.reciprocal, [-(0.7**-2), 2 * 0.7**-3, -6 * 0.7**-4, 24 * 0.7**-5]),
    "sqrt": (np.sqrt, [0.5 * 0.7**-0.5, -0.25 * 0.7**-1.5, 0.375 * 0.7**-2.5, -0.9375 * 0.7**-3.5]),
    "2**x": (lambda x: 2.0**x, [2**0.7 * math.log(2) ** n for n in (1, 2, 3, 4)]),
    "x**x": (lambda x: x**x, [0.7**0.7 * (math.log(0.7) + 1), 0.7**0.7 * ((math.log(0.7) + 1) ** 2 + 1 / 0.7)]),
    "tanh": (
        np.tanh,
        [1 - (t := math.tanh(0.7)) ** 2, -2 * t * (1 - t * t), (1 - t * t) * (6 * t * t - 2), (1 - t * t) * (16 * t - 24 * t**3)],
    ),
    "square": (np.square, [1.4, 2.0, 0.0]),
    "x * x * x": (lambda x: x * x * x, [3 * 0.49, 6 * 0.7, 6.0, 0.0]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_derivatives_to_the_fourth_order(name: str) -> None:
    function, expected = CLOSED[name]
    x = mt.tensor(0.7, np.float64, requires_grad=True)
    y = function(x)
    for value in expected:
        y = mt.grad(y, x, create_graph=True)[0] if y.requires_grad else mt.zeros_like(x)
        assert y.item() == pytest.approx(value, rel=1e-12, abs=1e-12)


def test_mixed_derivatives_of_a_power_at_exponent_0() -> None:
    """d/db d/da a**b = a**(b-1) (1 + b log a), which is 1 / a at b = 0."""
    a, b = mt.tensor(2.0, np.float64, requires_grad=True), mt.tensor(0.0, np.float64, requires_grad=True)
    (da,) = mt.grad(a**b, a, create_graph=True)
    (db,) = mt.grad(a**b, b, create_graph=True)
    assert mt.grad(da, b)[0].item() == mt.grad(db, a)[0].item() == 0.5


def test_the_hessian_of_a_quadratic_form() -> None:
    rng = np.random.default_rng(0)
    a, x = rng.standard_normal((4, 4)), mt.tensor(rng.standard_normal(4), requires_grad=True)
    (g,) = mt.grad(x @ a @ x, x, create_graph=True)
    rows = [mt.grad(g[i], x, retain_graph=True)[0].numpy() for i in range(4)]
    np.testing.assert_allclose(rows, a + a.T, rtol=1e-14)


def test_the_cotangent_can_be_differentiated() -> None:
    """Twice the transposed product is the product: forward mode from reverse mode."""
    x, u = leaf(0.3, 0.5), mt.tensor([1.0, 1.0], np.float64, requires_grad=True)
    (g,) = mt.grad(np.sin(x), x, u, create_graph=True)
    (tangent,) = mt.grad(g, u, np.array([2.0, 3.0]))
    np.testing.assert_allclose(tangent.numpy(), np.cos([0.3, 0.5]) * [2.0, 3.0])


def test_gradients_that_add_up_keep_their_graph() -> None:
    """Also under no_grad: create_graph asks for it."""
    x = leaf(3.0)
    for _ in range(2):
        y = x * x * x
        with mt.no_grad():
            y.backward(create_graph=True)
    assert x.grad.tolist() == [54.0]
    assert mt.grad(x.grad, x)[0].tolist() == [36.0]


def test_backward_through_a_gradient() -> None:
    """A gradient penalty: d/dx (dy/dx)**2."""
    x = leaf(3.0)
    (g,) = mt.grad(x * x * x, x, create_graph=True)
    (g * g).backward()
    assert x.grad.tolist() == [2 * 27.0 * 18.0]


def test_a_released_part_that_is_not_needed_is_no_obstacle() -> None:
    x, w = leaf(2.0), leaf(3.0)
    h = x * x
    y = h * w
    h.backward()
    assert mt.grad(y, w)[0].tolist() == [4.0]


def test_a_plain_backward_after_a_recorded_one_records_nothing() -> None:
    x = leaf(3.0)
    (x * x).backward(create_graph=True)
    (x * x).backward()
    assert x.grad.tolist() == [12.0]
    assert not x.grad.requires_grad
