"""vjp, jvp, jacobian, hessian, vhp, hvp: against closed forms, differences, each other, and PyTorch where it is installed."""

import re
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from checks import EPS
from hypothesis import given

import minitensor as mt
from minitensor.autograd import richardson
from minitensor.errors import DTypeError, GraphError, ShapeError, UnsupportedError
from minitensor.primitive import Primitive

Case = tuple[Callable[..., Any], list[tuple[int, ...]]]

FUNCTIONS: dict[str, Case] = {
    "elementwise": (lambda x: np.sin(x) * x, [(3,)]),
    "to one element": (lambda x: np.exp(x).sum(), [(2, 3)]),
    "from one element": (lambda x: x * np.array([1.0, 2.0, 3.0]) * x, [()]),
    "one element": (lambda x: np.tanh(x) * x, [(1,)]),
    "two inputs": (lambda x, w: np.tanh(x @ w), [(2, 3), (3, 2)]),
    "two outputs": (lambda x: (np.exp(x), (x * x).sum(axis=0)), [(2, 3)]),
    "two of both": (lambda x, w: (x * w.sum(), np.sin(w) @ x, x.sum() * 3.0), [(3,), (2, 3)]),
    "an output twice": (lambda x: (x * x,) * 2, [(2,)]),
    "an input comes out": (lambda x, w: (w, x * w), [(2,), (2,)]),
    "an output above another": (lambda x: ((h := np.exp(x)), h * x), [(2,)]),
    "indexed": (lambda x: x[[0, 2, 0]] * x[1], [(3,)]),
    "a tuple of one": (lambda x: (x * x,), [(2,)]),
}
SCALARS: dict[str, Case] = {
    "one input": (lambda x: (np.exp(x) * x[::-1]).sum(), [(3,)]),
    "a matrix": (lambda x: ((x @ x) * x).sum(), [(2, 2)]),
    "two inputs": (lambda x, w: (np.sin(x) @ w @ x).reshape(1, 1), [(2,), (2, 2)]),
    "one number": (lambda x: np.tanh(x) * x, [()]),
    "two inputs apart": (lambda x, w: (x * x * x).sum() + (w * w).sum(), [(2,), (1, 2)]),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_scalar = pytest.mark.parametrize("name", SCALARS)


def as_tuple(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


def drawn(shapes: Any, seed: int, dtype: Any = np.float64) -> Any:
    """Random Tensors of these shapes: one, or a tuple of several."""
    rng = np.random.default_rng(seed)
    made = tuple(mt.tensor(rng.standard_normal(shape), dtype) for shape in shapes)
    return made if len(made) > 1 else made[0]


def like(tensors: Any, seed: int) -> Any:
    """Random Tensors in the structure and the shapes of these."""
    made = as_tuple(drawn([t.shape for t in as_tuple(tensors)], seed))
    return made if isinstance(tensors, tuple) else made[0]


def inner(us: Any, vs: Any) -> float:
    """<u, v> over all parts."""
    return sum(float((u.detach().numpy() * v.detach().numpy()).sum()) for u, v in zip(as_tuple(us), as_tuple(vs), strict=True))


def flat_matrix(found: Any, ys: Any, xs: Any) -> np.ndarray:
    """A Jacobian in any structure as one matrix."""
    rows = found if isinstance(ys, tuple) else (found,)
    return np.block([[part.numpy().reshape(y.size, x.size) for part, x in zip(as_tuple(row), as_tuple(xs), strict=True)]
                     for row, y in zip(rows, as_tuple(ys), strict=True)])  # fmt: skip


def flat_vector(tensors: Any) -> np.ndarray:
    return np.concatenate([t.detach().numpy().ravel() for t in as_tuple(tensors)])


def check_along(f: Callable[..., Any], xs: Any, vs: Any, us: Any, found: float) -> None:
    """<u, J v> against Richardson differences of <u, f(x + h v)>."""

    def value(h: float) -> float:
        return inner(us, f(*(x + h * v for x, v in zip(as_tuple(xs), as_tuple(vs), strict=True))))

    noise = 8 * EPS * float(np.abs(flat_vector(us) * flat_vector(f(*as_tuple(xs)))).sum())
    estimate = richardson(value, h=0.01, levels=6, noise=noise)
    allowance = estimate.error + 64 * EPS * abs(found)
    assert allowance < 1e-6 * (1 + abs(found)), "this check would be blind"
    assert abs(found - estimate.value) <= allowance


# -- what they are --------------------------------------------------------------------------------------------------------------------


@every_function
def test_jvp_is_the_derivative_along_v(name: str) -> None:
    f, shapes = FUNCTIONS[name]
    xs, vs = drawn(shapes, 0), drawn(shapes, 1)
    ys, product = mt.jvp(f, xs, vs)
    us = like(ys, 2)
    check_along(f, xs, vs, us, inner(us, product))


def test_a_wrong_derivative_is_not_the_derivative_along_v() -> None:
    wrong = Primitive(np.sin, lambda g, _y, x: g * np.cos(x) * 1.0001)
    x, v, u = (drawn([(3,)], seed) for seed in range(3))
    with pytest.raises(AssertionError, match=r"^assert .* <= "):
        check_along(wrong, x, v, u, inner(u, mt.jvp(wrong, x, v)[1]))


def adjoint(f: Callable[..., Any], xs: Any, vs: Any) -> tuple[float, float]:
    """<u, J v> and <J^T u, v>."""
    ys, forward = mt.jvp(f, xs, vs)
    us = like(ys, 2)
    return inner(us, forward), inner(mt.vjp(f, xs, us)[1], vs)


@every_function
def test_jvp_and_vjp_are_adjoint(name: str) -> None:
    f, shapes = FUNCTIONS[name]
    left, right = adjoint(f, drawn(shapes, 0), drawn(shapes, 1))
    assert left == pytest.approx(right, rel=1e-12)
    assert abs(left) > 1e-3


def test_a_rule_that_is_not_linear_is_not_adjoint() -> None:
    left, right = adjoint(Primitive(np.sin, lambda g, _y, x: (g + g * g) * np.cos(x)), drawn([(3,)], 0), drawn([(3,)], 1))
    assert abs(left - right) > 1e-3


@every_function
def test_jacobian_times_vector(name: str) -> None:
    """The matrix, from both sides, against the products; and shapes, dtypes and structure as documented."""
    f, shapes = FUNCTIONS[name]
    xs, vs = drawn(shapes, 0), drawn(shapes, 1)
    ys, forward = mt.jvp(f, xs, vs)
    us = like(ys, 2)
    again, backward = mt.vjp(f, xs, us)
    found = mt.jacobian(f, xs)

    assert isinstance(found, tuple) is (isinstance(ys, tuple) or isinstance(xs, tuple))
    for row, y in zip(found if isinstance(ys, tuple) else (found,), as_tuple(ys), strict=True):
        assert isinstance(row, tuple) is isinstance(xs, tuple)
        assert [part.shape for part in as_tuple(row)] == [y.shape + x.shape for x in as_tuple(xs)]
    assert isinstance(forward, tuple) is isinstance(ys, tuple) is isinstance(again, tuple)
    assert isinstance(backward, tuple) is isinstance(xs, tuple)
    assert [t.shape for t in as_tuple(forward)] == [y.shape for y in as_tuple(ys)]
    assert [t.shape for t in as_tuple(backward)] == [x.shape for x in as_tuple(xs)]

    matrix = flat_matrix(found, ys, xs)
    np.testing.assert_allclose(matrix @ flat_vector(vs), flat_vector(forward), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(flat_vector(us) @ matrix, flat_vector(backward), rtol=1e-12, atol=1e-14)
    for values in (ys, again):
        np.testing.assert_array_equal(flat_vector(values), flat_vector(f(*as_tuple(xs))))
    assert not any(t.requires_grad for t in (*as_tuple(ys), *as_tuple(again), *as_tuple(forward), *as_tuple(backward)))


matrices = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32)).map(
    lambda drawn: np.random.default_rng(drawn[2]).standard_normal(drawn[:2])
)


@given(matrices)
def test_the_jacobian_of_a_linear_map_is_its_matrix(a: np.ndarray) -> None:
    x = mt.ones(a.shape[1], dtype=np.float64)
    np.testing.assert_array_equal(mt.jacobian(lambda x: a @ x, x).numpy(), a)
    np.testing.assert_array_equal(mt.jacobian(lambda x: x @ a.T, x).numpy(), a)


@given(matrices)
def test_the_hessian_of_a_quadratic_form(a: np.ndarray) -> None:
    a = a.T @ a[:, ::-1]  # square, and not symmetric
    x = mt.ones(len(a), dtype=np.float64)
    np.testing.assert_allclose(mt.hessian(lambda x: x @ a @ x, x).numpy(), a + a.T, rtol=1e-12, atol=1e-14)


def test_the_jacobian_and_hessian_of_log_sum_exp() -> None:
    """p, and diag(p) - p p^T."""
    x = drawn([(5,)], 0)
    p = np.exp(x.numpy()) / np.exp(x.numpy()).sum()
    np.testing.assert_allclose(mt.jacobian(lambda x: np.log(np.exp(x).sum()), x).numpy(), p, rtol=1e-13)
    np.testing.assert_allclose(mt.hessian(lambda x: np.log(np.exp(x).sum()), x).numpy(), np.diag(p) - np.outer(p, p), rtol=1e-13)


@every_scalar
def test_hessian_vhp_and_hvp(name: str) -> None:
    """H is symmetric; both products are H v; and H v is the derivative of the gradient along v."""
    f, shapes = SCALARS[name]
    xs, vs = drawn(shapes, 0), drawn(shapes, 1)
    found = mt.hessian(f, xs)
    assert isinstance(found, tuple) is isinstance(xs, tuple)
    for row, x in zip(found if isinstance(xs, tuple) else (found,), as_tuple(xs), strict=True):
        assert [part.shape for part in as_tuple(row)] == [x.shape + other.shape for other in as_tuple(xs)]
    matrix = flat_matrix(found, xs, xs)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12, atol=1e-14)
    assert np.abs(matrix).max() > 1e-3
    for product in (mt.vhp, mt.hvp):
        y, along = product(f, xs, vs)
        assert isinstance(along, tuple) is isinstance(xs, tuple)
        assert [t.shape for t in as_tuple(along)] == [x.shape for x in as_tuple(xs)]
        np.testing.assert_allclose(flat_vector(along), matrix @ flat_vector(vs), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(y.numpy(), f(*as_tuple(xs)).numpy())
    us = like(xs, 2)
    check_along(lambda *xs: mt.vjp(f, xs)[1], xs, vs, us, inner(us, along))


def test_a_hessian_that_is_not_symmetric_is_reported_as_it_is() -> None:
    """A rule that is wrong at second order: vhp and hvp differ, as v @ H and H @ v do."""
    twisted = Primitive(np.multiply, lambda g, _y, _a, b: g * b * b, lambda g, _y, a, _b: g * a)
    x, v = mt.tensor([2.0, 3.0], np.float64), mt.tensor([1.0, 10.0], np.float64)
    h = mt.hessian(lambda x: twisted(x[0], x[1]), x).numpy()
    assert h.tolist() == [[0.0, 6.0], [1.0, 0.0]]
    assert mt.vhp(lambda x: twisted(x[0], x[1]), x, v)[1].tolist() == (v.numpy() @ h).tolist()
    assert mt.hvp(lambda x: twisted(x[0], x[1]), x, v)[1].tolist() == (h @ v.numpy()).tolist()


# -- higher orders --------------------------------------------------------------------------------------------------------------------


def test_jvp_of_jvp() -> None:
    """D_v D_w f, and the third derivative along one direction."""
    x, v, w = (drawn([(3,)], seed) for seed in range(3))

    def along(f: Callable[..., Any], direction: mt.Tensor) -> Callable[..., Any]:
        return lambda x: mt.jvp(f, x, direction, create_graph=True)[1]

    second = mt.jvp(along(np.sin, v), x, w)[1]
    np.testing.assert_allclose(second.numpy(), -np.sin(x.numpy()) * v.numpy() * w.numpy(), rtol=1e-13)
    third = mt.jvp(along(along(np.sin, v), v), x, v)[1]
    np.testing.assert_allclose(third.numpy(), -np.cos(x.numpy()) * v.numpy() ** 3, rtol=1e-13)


def test_third_derivatives() -> None:
    """d**3 sum(x**4) / 6 = 4 x on the diagonal, by three different ways."""
    x = drawn([(3,)], 0)

    def f(x: mt.Tensor) -> mt.Tensor:
        return (x * x * x * x).sum() / 6

    expected = np.zeros((3, 3, 3))
    expected[range(3), range(3), range(3)] = 4 * x.numpy()
    for third in (
        mt.jacobian(lambda x: mt.hessian(f, x, create_graph=True), x),
        mt.hessian(lambda x: mt.jacobian(f, x, create_graph=True)[1], x),
        mt.jacobian(lambda x: mt.jacobian(lambda x: mt.jacobian(f, x, create_graph=True), x, create_graph=True), x),
    ):
        np.testing.assert_allclose(third.numpy(), expected[1] if third.ndim == 2 else expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("product", [mt.vhp, mt.hvp])
def test_third_derivatives_from_products_with_the_hessian(product) -> None:
    """The gradient of v^T H(x) v / 2 in x, and in v."""
    x, v = mt.tensor([0.3, 0.5], np.float64, requires_grad=True), mt.tensor([2.0, 3.0], np.float64, requires_grad=True)
    y, hv = product(lambda x: np.exp(x).sum(), x, v, create_graph=True)
    in_x, in_v = mt.grad((hv * v).sum(), [x, v], retain_graph=True)
    np.testing.assert_allclose(in_x.numpy(), np.exp(x.detach().numpy()) * v.detach().numpy() ** 2, rtol=1e-13)
    np.testing.assert_allclose(in_v.numpy(), 2 * np.exp(x.detach().numpy()) * v.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(mt.grad(y, x)[0].numpy(), np.exp(x.detach().numpy()), rtol=1e-13)


# -- the user's Tensors ---------------------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[..., Any]] = {
    "vjp": lambda x, **how: mt.vjp(lambda x: x * x * x, x, np.ones(2), **how)[1],
    "jvp": lambda x, **how: mt.jvp(lambda x: x * x * x, x, np.ones(2), **how)[1],
    "jacobian": lambda x, **how: mt.jacobian(lambda x: (x * x * x).sum(), x, **how),
    "hessian": lambda x, **how: diagonal(mt.hessian(lambda x: (x * x * x * x).sum() / 4, x, **how)),
    "vhp": lambda x, **how: mt.vhp(lambda x: (x * x * x * x).sum() / 4, x, np.ones(2), **how)[1],
    "hvp": lambda x, **how: mt.hvp(lambda x: (x * x * x * x).sum() / 4, x, np.ones(2), **how)[1],
}
diagonal = mt.enable_grad()(lambda h: h.sum(axis=0))
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
@pytest.mark.parametrize("how", [{}, {"strict": True}, {"create_graph": True}, {"create_graph": True, "strict": True}])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_users_tensors_are_left_alone(call, how: dict, requires_grad: bool) -> None:
    """3 x**2 in every call; only create_graph connects it to an x that requires grad, and to nothing else."""
    x = mt.tensor([2.0, 3.0], np.float64, requires_grad=requires_grad)
    x.grad = mt.tensor([7.0, 7.0], np.float64)
    before = x._array, x._node
    found = call(x, **how)
    assert found.tolist() == [12.0, 27.0]
    assert found.requires_grad is ("create_graph" in how)
    assert (x._array, x._node) == before
    assert (x.grad.tolist(), x.requires_grad) == ([7.0, 7.0], requires_grad)
    if "create_graph" in how and requires_grad:
        assert mt.grad(found.sum(), x)[0].tolist() == [12.0, 18.0]
        call(x * 1.0, **how).sum().backward()
        assert x.grad.tolist() == [19.0, 25.0]


@every_call
def test_under_no_grad(call) -> None:
    x = mt.tensor([2.0, 3.0], np.float64)
    with mt.no_grad():
        assert call(x).tolist() == [12.0, 27.0]
        assert call(x, create_graph=True).requires_grad
        assert not mt.is_grad_enabled()


def test_the_mode_is_restored_after_an_error() -> None:
    with mt.no_grad():
        for call in (mt.vjp, mt.jvp, mt.jacobian, mt.hessian, mt.vhp, mt.hvp):
            with pytest.raises(ZeroDivisionError):
                call(lambda x: 1 // 0, 1.0)
            assert not mt.is_grad_enabled()


@every_call
def test_the_users_graph_is_not_released(call) -> None:
    w = mt.tensor([2.0, 3.0], np.float64, requires_grad=True)
    x = w * w
    call(x)
    call(x, create_graph=True)
    x.backward(np.ones(2))
    assert w.grad.tolist() == [4.0, 6.0]


@every_call
def test_an_input_whose_graph_is_gone(call) -> None:
    """Its value is enough, unless a gradient is asked for that lies beyond it."""
    w = mt.tensor([2.0, 3.0], np.float64, requires_grad=True)
    x = w * 1.0
    (x * x).sum().backward()
    assert call(x).tolist() == [12.0, 27.0]
    found = call(x, create_graph=True)
    with pytest.raises(GraphError, match="released"):
        mt.grad(found.sum(), w)


@pytest.mark.parametrize("create_graph", [False, True])
def test_what_the_function_captures_is_a_constant(create_graph: bool) -> None:
    """Also when it is the input itself: d(x_captured * x)/dx = x_captured."""
    x = mt.tensor([2.0, 3.0], np.float64, requires_grad=True)
    found = mt.jacobian(lambda arg: x * arg, x, create_graph=create_graph)
    assert found.tolist() == [[2.0, 0.0], [0.0, 3.0]]
    if create_graph:  # and yet connected to it
        assert mt.grad(found, x, np.ones((2, 2)))[0].tolist() == [1.0, 1.0]


def test_captured_graphs_are_not_released() -> None:
    w = mt.tensor([2.0, 3.0], np.float64, requires_grad=True)
    square = w * w
    mt.vjp(lambda x: x * square, np.ones(2), np.ones(2))
    square.backward(np.ones(2))
    assert w.grad.tolist() == [4.0, 6.0]


def test_the_same_tensor_twice() -> None:
    x = drawn([(2,)], 0)
    first, second = mt.vjp(lambda a, b: (a * b * b).sum(), (x, x))[1]
    np.testing.assert_allclose(first.numpy(), x.numpy() ** 2)
    np.testing.assert_allclose(second.numpy(), 2 * x.numpy() ** 2)


# -- what the outputs do not depend on ------------------------------------------------------------------------------------------------


def constant(*xs: mt.Tensor) -> mt.Tensor:
    return mt.ones(3, dtype=np.float64)


@pytest.mark.parametrize("create_graph", [False, True])
def test_zeros_where_there_is_no_path(create_graph: bool) -> None:
    x, w = mt.ones(2, dtype=np.float64), mt.ones(2, 1, dtype=np.float32)

    def first(x: mt.Tensor, w: mt.Tensor) -> mt.Tensor:
        return x * x

    assert mt.vjp(first, (x, w), x, create_graph)[1][1].tolist() == [[0.0], [0.0]]
    assert mt.jvp(first, (x, w), (mt.zeros_like(x), w), create_graph)[1].tolist() == [0.0, 0.0]
    unused = mt.jacobian(first, (x, w), create_graph)[1]
    assert (unused.shape, unused.dtype, np.any(unused.detach().numpy())) == ((2, 2, 1), np.float32, False)
    (_, xw), (wx, ww) = mt.hessian(lambda x, w: (x * x).sum(), (x, w), create_graph)
    assert [part.shape for part in (xw, wx, ww)] == [(2, 2, 1), (2, 1, 2), (2, 1, 2, 1)]
    assert [part.dtype for part in (xw, wx, ww)] == [np.float32, np.float64, np.float32]
    assert not any(np.any(part.detach().numpy()) for part in (xw, wx, ww))


def test_zeros_for_outputs_without_a_graph() -> None:
    x = mt.ones(2, dtype=np.float64)
    assert mt.vjp(constant, x, mt.ones(3))[1].tolist() == [0.0, 0.0]
    assert mt.jvp(constant, x, x)[1].tolist() == [0.0, 0.0, 0.0]
    assert mt.jacobian(constant, x).tolist() == [[0.0, 0.0]] * 3
    assert mt.jacobian(lambda x: x > 0, x).tolist() == [[0.0, 0.0]] * 2
    assert mt.jvp(lambda x: (x > 0, x), x, x)[1][1].tolist() == [1.0, 1.0]
    for f in (lambda x: constant()[0], lambda x: x.sum()):
        assert mt.hessian(f, x).tolist() == [[0.0, 0.0]] * 2
        assert mt.vhp(f, x, x)[1].tolist() == mt.hvp(f, x, x)[1].tolist() == [0.0, 0.0]


STRICT: dict[str, tuple[Callable[..., Any], str]] = {
    "vjp, output": (lambda x, **how: mt.vjp(constant, x, np.ones(3), **how), r"vjp: output 0 \(float64 \(3,\)\) does not depend"),
    "vjp, input": (lambda x, **how: mt.vjp(lambda x, w: x.sum(), (x, x), **how), r"no path links an output to input 1 \(float64 \(2,\)\)"),
    "jvp, output": (lambda x, **how: mt.jvp(lambda x: (x, constant()), x, x, **how), r"jvp: output 1 \(float64 \(3,\)\)"),
    "jvp, input": (lambda x, **how: mt.jvp(lambda x, w: w, (x, x), (x, x), **how), "jvp: no path links an output to input 0"),
    "jacobian, output": (lambda x, **how: mt.jacobian(constant, x, **how), "jacobian: output 0"),
    "jacobian, a pair": (lambda x, **how: mt.jacobian(lambda x, w: (x * w, w), (x, x), **how), "no path links output 1 to input 0"),
    "hessian, output": (lambda x, **how: mt.hessian(lambda x: constant()[0], x, **how), "hessian: output 0"),
    "hessian, linear": (lambda x, **how: mt.hessian(lambda x: x.sum(), x, **how), r"hessian: the derivative .* input 0 .* is constant"),
    "hessian, a pair": (
        lambda x, **how: mt.hessian(lambda x, w: (x * x).sum() + (w * w).sum(), (x, x), **how),
        "hessian: no path links output 0 to input 1",
    ),
    "vhp, linear": (lambda x, **how: mt.vhp(lambda x: x.sum(), x, x, **how), "vhp: the derivative .* is constant"),
    "hvp, linear": (lambda x, **how: mt.hvp(lambda x: x.sum(), x, x, **how), "hvp: the derivative .* is constant"),
}
STRICT_AGAIN: dict[str, Callable[..., Any]] = {
    "vjp": lambda x, **how: mt.vjp(lambda x: x.sum(), x, **how),
    "jvp": lambda x, **how: mt.jvp(lambda x: 2 * x, x, x, **how),
    "jacobian": lambda x, **how: mt.jacobian(lambda x: 2 * x, x, **how),
    "hessian": lambda x, **how: mt.hessian(lambda x: x @ x, x, **how),
    "vhp": lambda x, **how: mt.vhp(lambda x: x @ x, x, x, **how),
    "hvp": lambda x, **how: mt.hvp(lambda x: x @ x, x, x, **how),
}


@pytest.mark.parametrize("name", STRICT)
def test_strict_refuses_zeros(name: str) -> None:
    call, match = STRICT[name]
    x = mt.ones(2, dtype=np.float64)
    call(x)
    with pytest.raises(GraphError, match=rf"{match}.*strict=True"):
        call(x, strict=True)


@pytest.mark.parametrize("name", STRICT_AGAIN)
def test_strict_refuses_a_constant_that_is_to_be_differentiated_again(name: str) -> None:
    call, x = STRICT_AGAIN[name], mt.ones(2, dtype=np.float64)
    call(x, strict=True)
    call(x, create_graph=True)
    with pytest.raises(GraphError, match=rf"^{name}: the derivative that links .* is constant.*strict=True"):
        call(x, strict=True, create_graph=True)


# -- what they are given --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [np.array([1.0, 2.0]), [1.0, 2.0], np.array([1.0, 2.0], np.float32), mt.tensor([1.0, 2.0])])
def test_arrays_and_lists_of_numbers_are_inputs(inputs) -> None:
    expected = inputs.dtype if hasattr(inputs, "dtype") else np.float32
    found = mt.jacobian(lambda x: x * x, inputs)
    assert (found.dtype, found.tolist()) == (expected, [[2.0, 0.0], [0.0, 4.0]])


def test_numbers_are_inputs() -> None:
    y, found = mt.vjp(lambda x: x * x, 3.0)
    assert (y.item(), found.item(), found.shape, found.dtype) == (9.0, 6.0, (), np.float32)
    assert mt.hessian(lambda x, w: x * x * w, (np.float64(3.0), 5.0))[0][1].item() == 6.0


def test_arrays_stay_the_users() -> None:
    array, kept = np.array([1.0, 2.0]), []
    y, _ = mt.vjp(lambda x: kept.append(x) or x * 1.0, array, array)
    array[0] = 7.0
    assert (kept[0].tolist(), y.tolist(), array.tolist()) == ([1.0, 2.0], [1.0, 2.0], [7.0, 2.0])


def test_v_of_numbers_takes_the_dtype_that_is_needed() -> None:
    """0.1 becomes float64 at once, not by way of float32."""
    x = mt.ones(1, dtype=np.float64)
    for product in (mt.vjp, mt.jvp):
        assert product(lambda x: x * 1.0, x, [0.1])[1].tolist() == [0.1]
        assert product(lambda x: x * 1.0, x, (mt.tensor([2]),))[1].tolist() == [2.0]


@pytest.mark.parametrize("call", [mt.vjp, mt.jvp, mt.jacobian, mt.hessian, mt.vhp, mt.hvp])
@pytest.mark.parametrize(
    ("inputs", "error", "match"),
    [
        (3, DTypeError, r"input 0 is int64 \(\), only floating ones have derivatives"),
        ((1.0, mt.ones(2, dtype=np.int32)), DTypeError, r"input 1 is int32 \(2,\).*\.astype\(mt\.float32\)"),
        (True, DTypeError, "bool"),
        (1j, DTypeError, "complex128"),
        ([mt.ones(1), mt.ones(1)], UnsupportedError, "input 0 is a list of Tensors; several inputs are given as a tuple"),
        ((), GraphError, "at least one input is needed"),
    ],
)
def test_inputs_that_are_refused(call, inputs, error: type, match: str) -> None:
    with pytest.raises(error, match=rf"^{call.__name__}: .*{match}"):
        call(lambda *xs: xs[0], inputs)


@pytest.mark.parametrize("call", [mt.vjp, mt.jvp, mt.jacobian])
@pytest.mark.parametrize(
    ("returned", "match"), [(np.ones(2), r"output 0 is float64 \(2,\)"), (3.0, "output 0 is float"), (None, "NoneType"), ([], "list")]
)
def test_outputs_that_are_refused(call, returned, match: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"^{call.__name__}: func must return a Tensor or a tuple of Tensors, .*{match}"):
        call(lambda x: returned, 1.0)
    with pytest.raises(UnsupportedError, match="output 1 is"):
        call(lambda x: (x, returned), 1.0)


@pytest.mark.parametrize("call", [mt.hessian, mt.vhp, mt.hvp])
@pytest.mark.parametrize(
    ("f", "match"), [(lambda x: x, r"got float32 \(2,\)"), (lambda x: (x.sum(),), "got tuple"), (lambda x: 3.0, "got float")]
)
def test_a_hessian_is_that_of_one_element(call, f, match: str) -> None:
    with pytest.raises(GraphError, match=rf"^{call.__name__}: func must return one Tensor of one element, {match}"):
        call(f, mt.ones(2), **({} if call is mt.hessian else {"v": mt.ones(2)}))


@pytest.mark.parametrize("call", [mt.vjp, mt.jvp, mt.vhp, mt.hvp])
def test_v_must_fit(call) -> None:
    def f(x: mt.Tensor) -> mt.Tensor:
        return x * x if call in (mt.vjp, mt.jvp) else (x * x).sum()

    for v, error, match in (
        (None, GraphError, r"v may be left out only where it has one element; here it must fit float32 (2,)"),
        (mt.ones(3), ShapeError, "part 0 of v is float32 (3,), but float32 (2,) is needed"),
        (mt.ones(()), ShapeError, "part 0 of v is float32 (), but float32 (2,) is needed"),
        ((mt.ones(2), mt.ones(2)), GraphError, "v must have 1 part(s), float32 (2,); got 2"),
    ):
        with pytest.raises(error, match=re.escape(f"{call.__name__}: {match}")):
            call(f, mt.ones(2), v)


@pytest.mark.parametrize("call", [mt.vjp, mt.jvp])
def test_v_of_several(call) -> None:
    def f(x: mt.Tensor, w: mt.Tensor) -> tuple:
        return x * w, w

    with pytest.raises(GraphError, match=re.escape("v must have 2 part(s), float32 (2,), float32 (2,); got 1")):
        call(f, (mt.ones(2), mt.ones(2)), mt.ones(2))
    with pytest.raises(GraphError, match="v may be left out"):
        call(f, (mt.ones(1), mt.ones(1)))
    with pytest.raises(ShapeError, match="part 1 of v"):
        call(f, (mt.ones(2), mt.ones(2)), (mt.ones(2), mt.ones(2, 1)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_v_is_1_for_one_element(shape: tuple) -> None:
    x = mt.full(shape, 3.0)
    assert mt.vjp(lambda x: (x * x,), x)[1].tolist() == np.full(shape, 6.0).tolist()
    assert mt.jvp(lambda x: x * mt.ones(2), x)[1].shape == (x * mt.ones(2)).shape
    for product in (mt.vhp, mt.hvp):
        assert product(lambda x: x * x * x, x)[1].tolist() == np.full(shape, 18.0).tolist()


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
@pytest.mark.parametrize("create_graph", [False, True])
def test_nothing_in_nothing_out(shape: tuple, create_graph: bool) -> None:
    x = mt.ones(shape)
    assert mt.jacobian(lambda x: x * x, x, create_graph).shape == shape + shape
    assert mt.jacobian(lambda x: (x * x).sum(), x, create_graph).shape == shape
    assert mt.jacobian(lambda x: x[:0], mt.ones(2, 3), create_graph).shape == (0, 3, 2, 3)
    assert mt.hessian(lambda x: (x * x).sum(), x, create_graph).shape == shape + shape
    for product in (mt.vjp, mt.jvp):
        y, found = product(lambda x: x * x, x, x, create_graph)
        assert y.shape == found.shape == shape
    assert mt.jvp(lambda x: (x * x).sum(), x, x, create_graph)[1].item() == 0.0
    for product in (mt.vhp, mt.hvp):
        assert product(lambda x: (x * x).sum(), x, x, create_graph)[1].shape == shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype: type) -> None:
    """Derivatives have the dtype of the input, tangents that of the output."""
    x, w = mt.ones(2, dtype=dtype), mt.ones(2, dtype=np.float64)
    _, (dx, dw) = mt.vjp(lambda x, w: x * w, (x, w), w)
    y, tangent = mt.jvp(lambda x, w: x * w, (x, w), (w, x))
    (jx, jw), ((hxx, hxw), (hwx, hww)) = mt.jacobian(lambda x, w: x * w, (x, w)), mt.hessian(lambda x, w: (x * w).sum(), (x, w))
    assert {t.dtype for t in (dx, jx, hxx, hwx)} == {np.dtype(dtype)}
    assert {t.dtype for t in (dw, jw, hxw, hww, y, tangent)} == {np.dtype(np.float64)}


def test_a_function_is_called_once() -> None:
    calls = []

    def f(x: mt.Tensor) -> mt.Tensor:
        calls.append(x)
        return (x * x).sum()

    for call in (mt.vjp, mt.jacobian, mt.hessian):
        call(f, mt.ones(3))
    for call in (mt.jvp, mt.vhp, mt.hvp):
        call(f, mt.ones(3), mt.ones(3))
    assert len(calls) == 6


def test_a_long_chain_needs_no_recursion() -> None:
    def f(x: mt.Tensor) -> mt.Tensor:
        for _ in range(5_000):
            x = x + x * 1e-3
        return x

    x = mt.tensor(1.0, np.float64)
    expected = 1.001**5_000
    for call in (mt.vjp, mt.jvp):
        assert call(f, x)[1].item() == pytest.approx(expected, rel=1e-10)


def test_newtons_method() -> None:
    """Solving H step = -gradient finds the point without slope in a few steps."""
    x = mt.tensor([0.7, -0.4], np.float64)

    def f(x: mt.Tensor) -> mt.Tensor:
        return (np.exp(x) + np.exp(-2.0 * x)).sum() + x[0] * x[1]

    for _ in range(8):
        x = x - np.linalg.solve(mt.hessian(f, x).numpy(), mt.jacobian(f, x).numpy())
    assert np.abs(mt.jacobian(f, x).numpy()).max() < 1e-14
    assert x[0].item() == pytest.approx(x[1].item(), rel=1e-12)


# -- devices and other libraries ------------------------------------------------------------------------------------------------------


@every_function
def test_the_same_on_the_other_device(name: str, cupy) -> None:
    f, shapes = FUNCTIONS[name]
    if name == "from one element":  # its constant is NumPy's
        f = lambda x: x * mt.tensor([1.0, 2.0, 3.0], np.float64, x.device) * x  # noqa: E731
    xs, vs = drawn(shapes, 0), drawn(shapes, 1)
    us = like(mt.vjp(f, xs, like(f(*as_tuple(xs)), 2))[0], 2)
    for create_graph in (False, True):
        here = [mt.vjp(f, xs, us, create_graph), mt.jvp(f, xs, vs, create_graph), mt.jacobian(f, xs, create_graph)]
        x2, v2, u2 = (moved(tensors) for tensors in (xs, vs, us))
        there = [mt.vjp(f, x2, u2, create_graph), mt.jvp(f, x2, v2, create_graph), mt.jacobian(f, x2, create_graph)]
        for a, b in zip(leaves(there), leaves(here), strict=True):
            assert (a.device, a.tolist()) == ("cuda:0", b.tolist())


@every_scalar
def test_the_same_hessian_on_the_other_device(name: str, cupy) -> None:
    f, shapes = SCALARS[name]
    xs, vs = drawn(shapes, 0), drawn(shapes, 1)
    here = [mt.hessian(f, xs), mt.vhp(f, xs, vs), mt.hvp(f, xs, vs)]
    there = [mt.hessian(f, moved(xs)), mt.vhp(f, moved(xs), moved(vs)), mt.hvp(f, moved(xs), moved(vs))]
    for a, b in zip(leaves(there), leaves(here), strict=True):
        assert (a.device, a.tolist()) == ("cuda:0", b.tolist())


def moved(tensors: Any) -> Any:
    return tuple(t.cuda() for t in tensors) if isinstance(tensors, tuple) else tensors.cuda()


def leaves(nested: Any) -> list[Any]:
    """The Tensors in tuples, lists and tuples of tuples."""
    return [leaf for part in nested for leaf in leaves(part)] if isinstance(nested, (tuple, list)) else [nested]


def structure(found: Any) -> Any:
    """Nested tuples of (dtype, requires_grad, values)."""
    if isinstance(found, tuple):
        return tuple(map(structure, found))
    return str(found.dtype).removeprefix("torch."), found.requires_grad, np.array(found.detach().tolist()).round(10).tolist()


PAIRS: dict[str, Callable[..., Any]] = {
    "vjp": lambda F, x, w, **how: F.vjp(lambda x: x * x * x, x, x, **how),
    "vjp, two inputs": lambda F, x, w, **how: F.vjp(lambda x, w: w @ (x * x), (x, w), x, **how),
    "vjp, a tuple of one": lambda F, x, w, **how: F.vjp(lambda x: (x * x,), (x,), (x,), **how),
    "vjp, no v": lambda F, x, w, **how: F.vjp(lambda x, w: (w @ x).sum(), (x, w), **how),
    "vjp, unused": lambda F, x, w, **how: F.vjp(lambda x, w: (x * x).sum(), (x, w), **how),
    "vjp, linear": lambda F, x, w, **how: F.vjp(lambda x: x.sum(), x, **how),
    "vjp, captured": lambda F, x, w, **how: F.vjp(lambda arg: (arg * arg * x).sum(), x, **how),
    "jvp": lambda F, x, w, **how: F.jvp(lambda x: (x * x, w @ x), x, x, **how),
    "jvp, two inputs": lambda F, x, w, **how: F.jvp(lambda x, w: w @ (x * x), (x, w), (x, w), **how),
    "jvp, unused": lambda F, x, w, **how: F.jvp(lambda x, w: x * x, (x, w), (x, w), **how),
    "jvp, linear": lambda F, x, w, **how: F.jvp(lambda x: x + x, x, x, **how),
    "jacobian": lambda F, x, w, **how: F.jacobian(lambda x: x * x * x, x, **how),
    "jacobian, two in": lambda F, x, w, **how: F.jacobian(lambda x, w: w @ (x * x), (x, w), **how),
    "jacobian, two out": lambda F, x, w, **how: F.jacobian(lambda x: (x * x, (x * x * x).sum()), x, **how),
    "jacobian, two of both": lambda F, x, w, **how: F.jacobian(lambda x, w: (w * x * x, w * w), (x, w), **how),
    "jacobian, tuples of one": lambda F, x, w, **how: F.jacobian(lambda x: (x * x,), (x,), **how),
    "jacobian, linear": lambda F, x, w, **how: F.jacobian(lambda x: w @ x, x, **how),
    "hessian": lambda F, x, w, **how: F.hessian(lambda x: (x * x * x).sum(), x, **how),
    "hessian, two inputs": lambda F, x, w, **how: F.hessian(lambda x, w: ((w @ (x * x)) * x).sum(), (x, w), **how),
    "hessian, apart": lambda F, x, w, **how: F.hessian(lambda x, w: (x * x * x).sum() + (w * w).sum(), (x, w), **how),
    "hessian, linear": lambda F, x, w, **how: F.hessian(lambda x: x.sum(), x, **how),
    "hessian, a tuple of one": lambda F, x, w, **how: F.hessian(lambda x: (x * x * x).sum().reshape(1, 1), (x,), **how),
    "vhp": lambda F, x, w, **how: F.vhp(lambda x, w: ((w @ (x * x)) * x).sum(), (x, w), (x, w), **how),
    "vhp, unused": lambda F, x, w, **how: F.vhp(lambda x, w: (x * x * x).sum(), (x, w), (x, w), **how),
    "vhp, quadratic": lambda F, x, w, **how: F.vhp(lambda x: (x * x).sum(), x, x, **how),
    "vhp, linear": lambda F, x, w, **how: F.vhp(lambda x: x.sum(), x, x, **how),
    "hvp": lambda F, x, w, **how: F.hvp(lambda x: (x * x * x).sum(), x, x, **how),
    "hvp, two inputs": lambda F, x, w, **how: F.hvp(lambda x, w: ((w @ (x * x)) * x).sum(), (x, w), (x, w), **how),
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_pytorch_gives_the_same(name: str, requires_grad: bool, create_graph: bool, strict: bool) -> None:
    """Structure, dtype, whether a graph goes with it, values; and strict refuses the same calls."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, w = [[0.5, -1.5], [[1.0, 2.0], [3.0, -4.0]]]

    def run(F: Any, make: Callable[..., Any], dtype: Any, refusal: type) -> Any:
        try:
            made = [make(values, dtype=dtype, requires_grad=requires_grad) for values in (x, w)]
            return structure(PAIRS[name](F, *made, create_graph=create_graph, strict=strict))
        except refusal as error:
            return "refused by strict" if "strict" in str(error) else error

    ours = run(mt, mt.tensor, np.float64, GraphError)
    assert ours == run(torch.autograd.functional, torch.tensor, torch.float64, RuntimeError)
