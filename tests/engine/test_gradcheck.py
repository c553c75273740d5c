"""gradcheck finds what is wrong, passes what is right, and says what it could not tell."""

import math
import re
import warnings

import numpy as np
import pytest
from casework import POSITIVE, spread
from hypothesis import given
from hypothesis import strategies as st

import minitensor as mt
from minitensor.autograd import gradcheck, gradgradcheck
from minitensor.autograd.differences import slopes, taylor
from minitensor.errors import DTypeError, GradcheckError, GraphError, ShapeError
from minitensor.primitive import JointPrimitive, Primitive

METHODS = ["richardson", "central", "complex", "taylor"]
each_method = pytest.mark.parametrize("method", METHODS)


def leaves(*shapes, domain=()):
    return tuple(mt.tensor(x, requires_grad=True) for x in spread(shapes, *domain))


def verdict(*args, **params):
    """The whole result, which need not be fine."""
    return gradcheck(*args, raise_exception=False, **params)


def _shift(g, _y, _a, _b):
    return np.concatenate([g[1:], g[:1]])


WRONG = {
    "1 % too large": (Primitive(np.exp, lambda g, y, _x: g * y * 1.01), [(3, 4)]),
    "1 per mille off in one element": (Primitive(np.exp, lambda g, y, _x: g * y * np.where(y == y.max(), 1.001, 1)), [(3, 4)]),
    "the wrong sign": (Primitive(np.cos, lambda g, _y, x: g * np.sin(x)), [(3, 4)]),
    "a missing term": (Primitive(lambda x: x * np.sum(x), lambda g, _y, x: g * np.sum(x)), [(4,)]),
    "inputs exchanged": (Primitive(np.multiply, lambda g, _y, a, _b: g * a, lambda g, _y, _a, b: g * b), [(3,), (3,)]),
    "forgotten division": (Primitive(np.mean, lambda g, _y, _x: g), [(3, 4)]),
    "cotangent ignored": (Primitive(np.exp, lambda _g, y, _x: y), [(3, 4)]),
    "cotangent squared": (Primitive(np.exp, lambda g, y, _x: g * g * y), [(3, 4)]),
    "elements shifted": (Primitive(np.add, lambda g, _y, _a, _b: g, _shift), [(3,), (3,)]),
    "one input without": (Primitive(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g * 0), [(3,), (3,)]),
    "transposed": (Primitive(lambda x: x + 0, lambda g, _y, _x: g.swapaxes(0, 1)), [(3, 3)]),
    "broadcast by a mean": (
        JointPrimitive(np.multiply, lambda g, _y, a, b: (g * b, (g * a).mean(axis=0)), arity=2),
        [(4, 3), (3,)],
    ),
}
RIGHT = {
    "exp": (np.exp, [(3, 4)]),
    "an affine layer": (lambda x, w, b: np.tanh(x @ w + b), [(3, 4), (4, 2), (2,)]),
    "a product, broadcast": (np.multiply, [(4, 3), (3,)]),
    "linear": (lambda x: 3 * x - 1, [(2, 3)]),
    "0-d": (lambda x: x * x, [()]),
    "two outputs": (lambda x: (np.sin(x), np.sum(x * x)), [(3,)]),
    "one used twice": (lambda x: x * np.sum(x, axis=0) / x[0], [(3, 2)]),
}


@each_method
@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found(name, method, fast_mode) -> None:
    function, shapes = WRONG[name]
    result = verdict(function, leaves(*shapes, domain=POSITIVE), method=method, fast_mode=fast_mode)
    assert (result.verdict, bool(result)) == ("wrong", False)
    assert {row.verdict for row in result.rows} <= {"WRONG", "ok"}


@each_method
@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule_passes(name, method, fast_mode) -> None:
    function, shapes = RIGHT[name]
    assert gradcheck(function, leaves(*shapes, domain=POSITIVE), method=method, fast_mode=fast_mode).ok


@pytest.mark.parametrize("factor", [1 + 1e-9, 1 - 1e-9])
def test_the_computed_tolerance_is_tight(factor) -> None:
    """A factor that no usual tolerance would see."""
    assert verdict(Primitive(np.sin, lambda g, _y, x: g * np.cos(x) * factor), leaves((3,))).verdict == "wrong"
    assert verdict(Primitive(np.sin, lambda g, _y, x: g * np.cos(x)), leaves((3,))).verdict == "ok"


@given(st.sampled_from([np.exp, np.sin, np.tanh, np.square]), st.floats(-3, 3), st.floats(-30, 30), st.integers(0, 5))
def test_no_false_alarm_at_any_scale(function, size, offset, seed) -> None:
    """Inputs and outputs of any size, and differences of large numbers."""
    x = np.random.default_rng(seed).standard_normal(3) * 10.0**size
    result = verdict(lambda t: function(t / 10.0**size) * 10.0**-size + offset, mt.tensor(x, requires_grad=True))
    assert result.verdict == "ok", str(result)


@pytest.mark.parametrize("method", ["richardson", "complex", "taylor"])
@pytest.mark.parametrize("size", [1e-12, 1e12])
@pytest.mark.parametrize("function", [np.square, np.reciprocal, lambda x: x * (1 + x)])
def test_no_false_alarm_at_inputs_of_any_size(function, size, method) -> None:
    """Far steps give values far from f(x), with their own rounding; and a step of 1/8 is lost in 1e12."""
    x = mt.tensor(np.array([0.6, -1.2, 2.0]) * size, requires_grad=True)
    assert gradcheck(function, x, method=method)


@pytest.mark.parametrize("seed", range(12))
def test_no_false_alarm_in_relu_networks(seed) -> None:
    """Kinks within reach of the first steps, outputs and whole rows that are 0, a saturated softmax: over 1000 derivatives each."""
    draw = np.random.default_rng(seed).standard_normal
    inputs = tuple(mt.tensor(draw(shape), requires_grad=True) for shape in [(5, 4), (4, 6), (6,), (6, 3), (3,)])
    labels = np.arange(5), np.array([0, 2, 1, 1, 0])

    def network(x, w, b, v, c):
        y = np.maximum(x @ w + b, 0) @ v + c
        return np.maximum(y, 0) if seed % 2 else -np.mean((y - mt.logsumexp(y, axis=1, keepdims=True))[labels])

    result = verdict(network, inputs, seed=seed)
    assert result.verdict == "ok", str(result)


def test_an_error_bar_is_no_luck() -> None:
    """28 entries of a tableau: two agree by chance to 1e-12, and are 3e-12 off."""
    rng = np.random.default_rng(28)
    inputs = tuple(mt.tensor(rng.standard_normal(shape), requires_grad=True) for shape in [(5, 4), (4, 6), (6,), (6, 3), (3,)])
    labels = np.arange(5), rng.integers(0, 3, 5)

    def loss(x, w, b, v, c):
        y = np.maximum(x @ w + b, 0) @ v + c
        return -np.mean((y - mt.logsumexp(y, axis=1, keepdims=True))[labels])

    assert gradcheck(loss, inputs, seed=28)


def test_contributions_that_cancel_widen_the_bar() -> None:
    """A cross-entropy of 0: the gradient is what is left of 1/3 - 1/3."""
    x = mt.tensor([[40.0, 0.0, 1.0], [38.0, -3.0, 2.0], [50.0, 2.0, 1.0]], np.float64, requires_grad=True)
    for method in METHODS:
        result = verdict(lambda x: -np.mean((x - mt.logsumexp(x, axis=1, keepdims=True))[:, 0]), x, method=method)
        assert result.verdict == "blind", str(result)
        assert "0 everywhere" in result.reason


def test_the_worst_elements_are_named() -> None:
    function, _ = WRONG["1 per mille off in one element"]
    x = mt.tensor([[0.5, 2.0], [1.0, -1.0]], np.float64, requires_grad=True)
    rows = verdict(function, x).rows
    assert [(row.input, row.element, row.verdict) for row in rows] == [("input 0", "[0, 1]", "WRONG")] * 2
    assert {row.output for row in rows} == {"[0, 1]", "random u"}
    assert rows[0].difference == pytest.approx(abs(rows[0].analytic - rows[0].numerical))
    assert rows[0].difference > 1e6 * rows[0].bar


def test_an_element_of_the_second_output_is_named() -> None:
    result = verdict(lambda a, b: (a * b, a * b.detach()), leaves((2,), (2,)))
    assert {(row.input, row.output[0]) for row in result.rows if row.verdict == "WRONG"} == {("input 1", "1"), ("input 1", "r")}


# -- gradgradcheck ----------------------------------------------------------------------------------------------------------------


def _values(x):
    return x.detach() if isinstance(x, mt.Tensor) else x


DETACHED = {
    "saved output": Primitive(np.exp, lambda g, y, _x: g * _values(y)),
    "saved input": Primitive(lambda x: x * x * x, lambda g, _y, x: 3 * g * _values(x) ** 2),
    "half of it": Primitive(lambda x: x * x * x, lambda g, _y, x: 3 * g * x * _values(x)),
    "detached cotangent": Primitive(np.exp, lambda g, y, _x: _values(g) * y),
}


@pytest.mark.parametrize("method", ["richardson", "central", "taylor"])
@pytest.mark.parametrize("name", DETACHED)
def test_a_detached_rule_passes_at_first_order_and_is_found_at_second(name, method) -> None:
    (x,) = leaves((2, 2), domain=POSITIVE)
    assert gradcheck(DETACHED[name], x, method=method)
    assert gradgradcheck(DETACHED[name], x, raise_exception=False, method=method).verdict == "wrong"


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("name", RIGHT)
def test_right_second_derivatives_pass(name, fast_mode) -> None:
    function, shapes = RIGHT[name]
    assert gradgradcheck(function, leaves(*shapes, domain=POSITIVE), fast_mode=fast_mode)


def test_gradgradcheck_takes_the_cotangents() -> None:
    (x,) = leaves((3,))
    result = gradgradcheck(np.sin, x, mt.tensor([1.0, 2.0, 3.0]))
    assert {row.input for row in result.rows} == {"input 0", "cotangent 0"}
    assert gradgradcheck(lambda x: (x * x, np.argmax(x), np.exp(x)), x, [mt.ones(3), mt.ones(3)])
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        gradgradcheck(np.sin, x, mt.ones(2))
    # a cotangent of 0 leaves nothing of the second derivative with respect to x, but all of it with respect to the cotangent
    assert any("input 0 is 0" in note for note in gradgradcheck(np.sin, x, mt.zeros(3)).notes)


def test_gradgradcheck_refuses_the_complex_step() -> None:
    result = gradgradcheck(np.sin, leaves((2,))[0], method="complex", raise_exception=False)
    assert result.verdict == "refused"
    assert "does not take complex numbers" in result.reason


# -- kinks and noise --------------------------------------------------------------------------------------------------------------

KINKS = {
    "abs": (np.abs, 0.0, "-1 below and 1 above"),
    "relu": (lambda x: np.maximum(x, 0.0), 0.0, "0 below and 1 above"),
    "clip at the end": (lambda x: np.minimum(x, 2.0), 2.0, "1 below and 0 above"),
    "relu'(0) = 7": (Primitive(lambda x: np.maximum(x, 0), lambda g, _y, x: g * ((x > 0) + 7 * (x == 0))), 0.0, "0 below and 1 above"),
}


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in KINKS for method in METHODS if (name, method) != ("abs", "complex")]
)
def test_a_kink_is_named_and_not_called_wrong(name, method) -> None:
    function, at, sides = KINKS[name]
    x = mt.tensor([-1.5, at, 1.5], np.float64, requires_grad=True)
    result = verdict(function, x, method=method)
    assert result.verdict == "uncertain"
    if method != "taylor":
        assert f"input 0 [1] (output [1]) has slope {sides}" in str(result)
        assert {(row.element, row.verdict) for row in result.rows} == {("[1]", "kink")}
    else:
        assert "kink" in str(result)
    assert gradcheck(function, mt.tensor([-1.5, 0.25, 1.5], np.float64, requires_grad=True), method=method)


@pytest.mark.parametrize("distance", [1e-3, -1e-5, 1e-7, -1e-8])
def test_a_kink_nearby_is_seen_past(distance) -> None:
    x = mt.tensor([distance, 1.0], np.float64, requires_grad=True)
    assert gradcheck(np.abs, x)
    assert verdict(Primitive(np.abs, lambda g, _y, x: -g * np.sign(x)), x).verdict == "wrong"


def test_ties_are_kinks() -> None:
    assert verdict(np.max, mt.tensor([1.0, 2.0, 2.0], np.float64, requires_grad=True)).verdict == "uncertain"


def test_a_jump_is_refused() -> None:
    result = verdict(lambda x: x * x + (x >= 1).astype(np.float64), mt.tensor([1.0, 2.0], np.float64, requires_grad=True))
    assert result.verdict == "uncertain"
    assert "jumps here" in result.reason


@pytest.mark.parametrize("function", [lambda x: x**4, np.square])
def test_a_flat_point_is_no_kink(function) -> None:
    assert gradcheck(function, mt.tensor([0.0, 1.0], np.float64, requires_grad=True))


@pytest.mark.parametrize("function", [np.log, np.sqrt, np.reciprocal])
def test_a_domain_that_ends_close_by(function) -> None:
    """The first steps leave the domain; smaller ones do not."""
    assert gradcheck(function, mt.tensor([1e-12, 1e-5, 1.0, 1e6], np.float64, requires_grad=True))


def test_a_function_that_raises_at_a_step_has_left_its_domain() -> None:
    def picky(x):
        if (x.data < 1).any():
            raise ValueError("outside")
        return np.sqrt(x - 1)

    assert gradcheck(picky, mt.tensor([1.01, 3.0], np.float64, requires_grad=True))


# -- refused ----------------------------------------------------------------------------------------------------------------------


def test_other_values_at_the_next_call_are_refused() -> None:
    rng = np.random.default_rng(0)
    result = verdict(lambda x: x * rng.random(), leaves((3,)))
    assert (result.verdict, result.rows) == ("refused", ())
    assert "other values when it is called again" in result.reason
    assert "other values" not in verdict(lambda x: x * (1 + 1e-13 * rng.random()), leaves((3,)), nondet_tol=1e-9).reason


def test_writing_into_inputs_is_refused() -> None:
    def rebind(x):
        x.data = x.data * 2
        return x * x

    def write(x, a):
        a *= 2
        return x * a

    a = np.ones(3)
    for check in (gradcheck, gradgradcheck):
        assert "fn changed its input 0" in check(rebind, leaves((3,)), raise_exception=False).reason
        assert "fn changed its input 1" in check(write, (*leaves((3,)), a), raise_exception=False).reason
    assert a.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("function", "x", "reason"),
    [
        (np.log, [-1.0, 1.0], "1 of 2 output elements are not finite"),
        (lambda x: np.argmax(x), [1.0, 2.0], "no floating element"),
        (lambda x: x.astype(np.int64), [1.0, 2.0], "no floating element"),
        (lambda x: x[:0], [1.0, 2.0], "no floating element"),
        (lambda x: (), [1.0, 2.0], "no floating element"),
        (np.exp, [], "have no elements"),
    ],
)
@np.errstate(invalid="ignore")
def test_nothing_to_compare_is_refused(function, x, reason) -> None:
    with pytest.raises(GradcheckError, match=reason) as caught:
        gradcheck(function, mt.tensor(x, np.float64, requires_grad=True))
    assert caught.value.result.verdict == "refused"
    assert str(caught.value) == str(caught.value.result)


def test_a_gradient_that_is_not_finite_is_wrong_where_the_derivative_is() -> None:
    """The nan that 0 times inf gives in the branch that `where` did not take."""
    x = mt.tensor([-1.0, 4.0], np.float64, requires_grad=True)
    with np.errstate(all="ignore"):
        assert verdict(lambda x: np.where(x > 0, np.sqrt(x), 0.0), x).verdict == "wrong"
    assert gradcheck(lambda x: np.where(x > 0, np.sqrt(np.maximum(x, 0.5)), 0.0), x)


def test_an_output_without_a_graph_is_told() -> None:
    result = verdict(lambda x: (x * x, (x * x).detach()), leaves((3,)))
    assert result.verdict == "wrong"
    assert "No graph leads from output 1 to the inputs" in str(result)


def test_errors_of_the_call() -> None:
    x = mt.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match=r"no input requires a gradient.*float32 \(3,\).*requires_grad=True"):
        gradcheck(np.exp, mt.ones(3), raise_exception=False)
    with pytest.raises(GraphError, match="got int"):
        gradcheck(np.exp, (3,))
    with pytest.raises(DTypeError, match=r"input 1 is complex128 \(2,\)"):
        gradcheck(np.multiply, (x, np.zeros(2, complex)))
    with pytest.raises(TypeError, match="must give a Tensor or a tuple of Tensors, got float"):
        gradcheck(lambda x: 3.0, x)
    with pytest.raises(TypeError, match="got float64"):
        gradcheck(lambda x: x.detach().numpy(), x)
    for check in (gradcheck, gradgradcheck):
        with pytest.raises(ValueError, match="richardson, central, complex, taylor, got 'newton'"):
            check(np.exp, x, method="newton")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eps": 0.0}, "eps is a step and must be positive, got 0.0"),
        ({"eps": math.nan}, "eps is a step"),
        ({"atol": -1.0}, "atol is a tolerance and must not be negative, got -1.0"),
        ({"rtol": math.nan}, "rtol is a tolerance"),
    ],
)
def test_steps_and_tolerances_that_cannot_be_one(params, message) -> None:
    with pytest.raises(ValueError, match=message):
        gradcheck(np.exp, leaves((2,))[0], raise_exception=False, **params)


def test_tensors_inside_a_list_are_not_looked_for() -> None:
    with pytest.raises(GraphError, match=r"got list.*not inside a list or dict"):
        gradcheck(lambda xs: xs[0] * xs[1], (list(leaves((2,), (2,))),))


def test_on_another_device(cupy) -> None:
    x = mt.tensor([0.5, 2.0], np.float64, device="cuda", requires_grad=True)
    for method in METHODS:
        assert gradcheck(lambda x: np.tanh(x) * x, x, method=method)
    assert gradgradcheck(lambda x: np.tanh(x) * x, x)


def test_errors_of_the_function_are_not_swallowed() -> None:
    def broken(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        gradcheck(broken, mt.ones(3, requires_grad=True))


# -- inputs -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_inputs_are_checked_in_float64_and_it_is_said(dtype) -> None:
    seen = set()

    def function(x, c):
        seen.update([x.dtype, c.dtype])
        return np.tanh(x) * c

    x, c = mt.tensor([0.1, 0.2], dtype, requires_grad=True), mt.tensor([1.0, 3.0], dtype)
    result = gradcheck(function, (x, c))
    assert seen == {np.dtype(np.float64)}
    assert f"Checked in float64: input 0 is {np.dtype(dtype)}" in str(result)
    assert "Checked" not in str(gradcheck(function, (mt.tensor([0.1, 0.2], np.float64, requires_grad=True), c)))
    wrong = Primitive(np.tanh, lambda g, y, _x: g * (1 - y * y) * (1 + 1e-6))
    assert verdict(wrong, x).verdict == "wrong"


def test_precision_lost_on_the_way_widens_the_bars_and_is_said() -> None:
    (x,) = leaves((3,))
    result = gradcheck(lambda x: np.tanh(x.astype(np.float32)), x)
    assert "Precision was lost on the way: astype (float32), tanh (float32) computes with 7 digits" in " ".join(str(result).split())
    assert 1e-8 < result.rows[0].bar < 1e-3
    wrong = Primitive(np.tanh, lambda g, y, _x: g * (1 - y * y) * 1.01)
    assert verdict(lambda x: wrong(x.astype(np.float32)), x).verdict == "wrong"


def test_inputs_and_their_gradients_are_left_alone() -> None:
    x, c = mt.tensor([1.0, 2.0], requires_grad=True), mt.tensor([3.0, 4.0], requires_grad=True)
    (x * c).sum().backward()
    before = [x.tolist(), x.grad.tolist(), c.tolist(), c.grad.tolist()]
    assert gradcheck(lambda x: x * c.detach(), x)
    assert gradgradcheck(lambda x: x * x, x)
    assert [x.tolist(), x.grad.tolist(), c.tolist(), c.grad.tolist()] == before
    assert (x.dtype, x.requires_grad, x.is_leaf) == (np.float32, True, True)


def test_inputs_of_every_kind() -> None:
    (x,) = leaves((4,))
    assert gradcheck(lambda x, n, index, flag, c: x[index] * n * c if flag else x, (x, 3, np.array([0, 2]), True, mt.tensor(2)))
    assert gradcheck(lambda a, b: a * b, [x, x])  # one Tensor twice is two inputs
    assert gradcheck(lambda x, e: (x * x, e * e), (x, mt.zeros(0, requires_grad=True)))
    assert gradcheck(np.exp, x * 2)  # no leaf, and checked all the same
    shared = mt.Tensor(np.broadcast_to(np.array([1.0, 2.0]), (3, 2)), requires_grad=True)
    assert gradcheck(np.square, shared)  # elements that shared their memory are moved one at a time


def test_no_grad_outside_does_not_matter() -> None:
    (x,) = leaves((3,))
    with mt.no_grad():
        assert gradcheck(np.exp, x)
        assert gradgradcheck(np.exp, x)


def test_calls_as_in_pytorch() -> None:
    (x,) = leaves((3,))
    assert gradcheck(lambda x: x**3, (x,), eps=1e-6, atol=1e-4)
    assert gradcheck(lambda x: x**3, x, eps=1e-6, atol=1e-4, rtol=1e-3, method="central", nondet_tol=0.0, fast_mode=True)
    assert gradgradcheck(lambda x: x**3, (x,), eps=1e-6, atol=1e-4)
    with pytest.raises(RuntimeError, match="WRONG"):
        gradcheck(Primitive(np.exp, lambda g, _y, _x: g), (x,), eps=1e-6, atol=1e-4)
    assert gradcheck(Primitive(np.exp, lambda g, _y, _x: g), (x,), raise_exception=False) is not None


def test_a_given_tolerance_replaces_the_computed_one() -> None:
    (x,) = leaves((3,), domain=POSITIVE)
    slightly = Primitive(np.exp, lambda g, y, _x: g * y * 1.001)
    assert verdict(slightly, x).verdict == "wrong"
    result = gradcheck(slightly, x, rtol=0.01)
    assert "The tolerance was given: atol = 0, rtol = 0.01." in str(result)
    assert result.rows[0].bar == pytest.approx(0.01 * abs(result.rows[0].numerical))
    assert verdict(slightly, x, rtol=1e-4).verdict == "wrong"
    # what is asked to be closer than the numbers themselves are cannot be called wrong
    assert verdict(np.exp, x, atol=0.0).verdict in ("ok", "uncertain")


def test_seeds_change_the_draw_and_nothing_else() -> None:
    (x,) = leaves((3,))
    same, other = (gradcheck(np.exp, x, seed=seed, fast_mode=True) for seed in (0, 1))
    assert str(same) == str(gradcheck(np.exp, x, fast_mode=True)) != str(other)


def test_many_outputs_are_checked_by_random_cotangents() -> None:
    x = mt.tensor(np.linspace(1, 2, 3), requires_grad=True)
    weights = np.random.default_rng(0).standard_normal((3, 1025))
    assert "1025 outputs are too many for a full Jacobian" in " ".join(str(gradcheck(lambda x: x * x @ weights, x)).split())
    wrong = Primitive(lambda x: x * x, lambda g, _y, x: g * x)
    assert verdict(lambda x: wrong(x) @ weights, x).verdict == "wrong"


def test_many_inputs_are_checked_by_random_directions() -> None:
    x = mt.tensor(np.linspace(1, 2, 2049), requires_grad=True)
    assert "2049 input elements are too many to move one by one" in " ".join(str(gradcheck(np.square, x)).split())
    wrong = Primitive(np.square, lambda g, y, x: 2 * g * x * np.where(y == y.max(), 1.001, 1))
    assert verdict(wrong, x).verdict == "wrong"


# -- the complex step -------------------------------------------------------------------------------------------------------------

LOST = {
    "abs": (np.abs, "the imaginary part was lost"),
    "var": (np.var, "the imaginary part was lost"),
    "a norm": (lambda x: np.sqrt(np.sum(np.abs(x) ** 2)), "the imaginary part was lost"),
    "a cast": (lambda x: x.astype(np.float64) * 2, "ComplexWarning"),
    "a part of the path": (lambda x: np.abs(x) * x, "a part of the path left the complex world"),
    "var in a denominator": (lambda x: x / (1 + np.var(x)), "a part of the path left the complex world"),
    "a gradient inside": (lambda x: mt.grad(x * x, x, mt.ones_like(x), create_graph=True)[0], "does not take complex numbers"),
}


@pytest.mark.parametrize("name", LOST)
def test_the_complex_step_is_refused_where_the_complex_world_is_left(name) -> None:
    """And Richardson judges the gradient in its place."""
    function, reason = LOST[name]
    (x,) = leaves((4,))
    result = verdict(function, x, method="complex")
    assert result.verdict == "refused"
    assert reason in result.reason
    assert "Richardson judges" in result.reason
    assert "error bar of Richardson" in result.origin
    assert {row.verdict for row in result.rows} == {"ok"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(function, x)


def test_a_wrong_gradient_is_found_also_where_the_complex_step_is_refused() -> None:
    result = verdict(Primitive(np.abs, lambda g, _y, x: -g * np.sign(x)), leaves((4,)), method="complex")
    assert result.verdict == "wrong"
    assert "Richardson judges" in result.reason


def test_the_complex_step_runs_functions_of_tensors_too() -> None:
    (x,) = leaves((2, 3), domain=POSITIVE)
    weight = mt.tensor([1.0, 2.0, 3.0], np.float64, requires_grad=True)
    for function in (lambda x: np.exp(x) * weight, lambda x: x * x.cpu(), lambda x: mt.tanh(x).mean(axis=0)):
        assert gradcheck(function, x, method="complex")


def test_the_complex_step_has_short_bars() -> None:
    (x,) = leaves((3,))
    by_step, by_richardson = (gradcheck(np.exp, x, method=method).rows[0].bar for method in ("complex", "richardson"))
    assert by_step < by_richardson < 1e-11


# -- Taylor -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [math.exp, math.sin, lambda t: 1 / (1 + 25 * (t + 0.3) ** 2), lambda t: (1 + t) ** 3])
def test_the_slope_is_2_or_1(f) -> None:
    right = slopes(f, noise=1e-15).value
    found = taylor(f, float(right), noise=1e-15)
    assert found.verdict == "right"
    assert found.slope == pytest.approx(2, abs=0.1) or found.slope == pytest.approx(3, abs=0.1)  # 3 where f'' = 0
    for factor in (1.01, -1.0, 1 + 1e-5):
        wrong = taylor(f, float(right) * factor, noise=1e-15)
        assert (wrong.verdict, wrong.slope) == ("wrong", pytest.approx(1, abs=0.1))


@pytest.mark.parametrize(
    ("f", "derivative", "expected"),
    [
        (lambda t: 3 * t + 1, 3.0, "linear"),
        (lambda t: 3 * t + 1, 3.01, "wrong"),
        (abs, 0.0, "kink"),
        (abs, 1.0, "kink"),
        (lambda t: abs(t - 0.01), -1.0, "linear"),  # the kink is out of the reach of small steps
        (lambda t: abs(t - 0.01), 1.0, "wrong"),
        (lambda t: float(t > 0.05), 0.0, "linear"),
    ],
)
def test_what_the_remainder_says(f, derivative, expected) -> None:
    assert taylor(f, derivative, noise=1e-16).verdict == expected


def test_the_slopes_are_shown() -> None:
    (x,) = leaves((3,), domain=POSITIVE)
    right = gradcheck(np.exp, x, method="taylor")
    wrong = verdict(Primitive(np.exp, lambda g, y, _x: g * y * 1.01), x, method="taylor")
    assert all(row.bar == pytest.approx(2, abs=0.05) for row in right.rows)
    assert all(row.bar == pytest.approx(1, abs=0.05) for row in wrong.rows)
    assert re.search(r"\|diff\| +slope +verdict", str(right))


# -- printing ---------------------------------------------------------------------------------------------------------------------


def test_the_text() -> None:
    x = mt.tensor(np.array([1.0, 2.0]), requires_grad=True)
    text = str(gradcheck(np.square, x))
    assert text.splitlines()[0] == "gradcheck by Richardson, full Jacobian (2 x 2) and a random cotangent: OK."
    assert text.splitlines()[1] == "the worst elements"
    assert text.splitlines()[2].split() == ["input", "element", "output", "analytic", "numerical", "|diff|", "tolerance", "verdict"]
    assert text.splitlines()[3].endswith("ok")
    assert text.splitlines()[-1] == "The tolerance was computed: the error bar of Richardson, and the rounding of the gradient."
    assert repr(gradcheck(np.square, x)) == text


def test_every_text_fits_100_columns() -> None:
    (x,) = leaves((2, 3, 2, 2))
    results = [
        verdict(lambda x: np.abs(x.astype(np.float32)), mt.zeros(2, 3, requires_grad=True)),
        verdict(lambda x: np.sum((x - np.mean(x)) / np.sqrt(np.var(x))), x),
        verdict(np.abs, x, method="complex"),
        verdict(lambda x: x * x.detach(), x, method="taylor"),
        gradgradcheck(np.exp, leaves((2, 2))[0]),
    ]
    assert all(len(line) <= 100 for result in results for line in str(result).splitlines())
    assert {result.verdict for result in results} == {"uncertain", "blind", "refused", "wrong", "ok"}
