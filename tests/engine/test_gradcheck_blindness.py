"""A check that could not have failed is refused, and an honest one never is."""

import numpy as np
import pytest
from cases import CASES

import minitensor as mt
from minitensor import nn
from minitensor.autograd import gradcheck, gradgradcheck
from minitensor.nn.derivation import FAULTS
from minitensor.primitive import Primitive

SHAPE = (2, 3, 4, 5)


def leaf(rng, *shape):
    return mt.tensor(rng.standard_normal(shape), requires_grad=True)


def layer(rng, backward="analytic", affine=False, eps=1e-5):
    made = nn.InstanceNorm2d(3, eps=eps, affine=affine, dtype=np.float64, backward=backward)
    if affine:
        made.weight.data, made.bias.data = rng.standard_normal((2, 3))
    return made


each_way = pytest.mark.parametrize("backward", ["analytic", "autograd"])
LOSSES = {
    "sum(y)": lambda y, x: y.sum(),
    "sum(y**2)": lambda y, x: (y**2).sum(),
    "mean(y * y)": lambda y, x: np.mean(y * y),
    "sum(x + y), a residual": lambda y, x: (x + y).sum(),
    "y.mean per channel": lambda y, x: y.mean(axis=(2, 3)),
    "mean of squares per channel": lambda y, x: (y**2).mean(axis=(2, 3)),
}


@each_way
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_usual_losses_on_a_normalisation_layer_are_refused(rng, loss, affine, backward) -> None:
    norm = layer(rng, backward, affine=affine)
    if affine:  # a shift would let the squares see the layer
        norm.bias.data = np.zeros(3)
    for params in ({"fast_mode": True}, {"method": "taylor"}):
        result = gradcheck(lambda x: LOSSES[loss](norm(x), x), leaf(rng, *SHAPE), raise_exception=False, **params)
        assert result.verdict == "blind", str(result)
        assert result.blind or "0 everywhere" in result.reason


@each_way
def test_the_full_check_is_refused_with_its_reason(rng, backward) -> None:
    for loss, operations in (("sum(y)", {"normalize", "multiply"}), ("sum(y**2)", {"normalize", "multiply", "power"})):
        with pytest.raises(mt.errors.GradcheckError) as caught:
            gradcheck(lambda x, loss=loss: LOSSES[loss](layer(rng, backward)(x), x), leaf(rng, 1, 3, 2, 3))
        result = caught.value.result
        assert operations & {each.operation for each in result.blind}
        assert all(row.verdict == "ok" for row in result.rows)  # nothing is wrong: nothing could be seen
        assert "REFUSED: this check could not have failed" in " ".join(str(result).split())
        assert "is nearly annihilated on the way to input 0" in str(result)


@each_way
def test_parameters_among_the_inputs_do_not_hide_it(rng, backward) -> None:
    def norm(x, gamma, beta):
        return nn.functional.instance_norm(x, weight=gamma, bias=beta, backward=backward)

    inputs = (leaf(rng, *SHAPE), leaf(rng, 3), leaf(rng, 3))
    assert gradcheck(norm, inputs, fast_mode=True)
    assert gradcheck(lambda *each: norm(*each).sum(), inputs, fast_mode=True, raise_exception=False).verdict == "blind"


@each_way
@pytest.mark.parametrize(("eps", "affine"), [(1e-5, False), (0.1, True)])
def test_honest_checks_of_the_layer_pass(rng, affine, eps, backward) -> None:
    norm = layer(rng, backward, affine, eps)
    x = leaf(rng, 1, 3, 2, 2)
    w = rng.standard_normal(x.shape)
    assert gradcheck(norm, x)
    assert gradcheck(lambda x: (w * norm(x)).sum(), x)
    assert gradcheck(norm, x, fast_mode=True)
    assert gradcheck(norm, x, method="taylor")
    assert gradgradcheck(norm, x, fast_mode=True)
    assert gradcheck(lambda x, shift: norm(x + shift), (x, leaf(rng, 1, 3, 1, 1)))  # which makes no difference, and is told


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_known_mistake_of_a_backward_is_found(rng, fault) -> None:
    norm = layer(rng, fault.backward, affine=True, eps=0.1)
    inputs = (leaf(rng, 2, 3, 2, 4), leaf(rng, 3), leaf(rng, 3))

    def function(x, gamma, beta):
        return nn.functional.instance_norm(x, weight=gamma, bias=beta, eps=norm.eps, backward=fault.backward)

    assert gradcheck(function, inputs, fast_mode=True, raise_exception=False).verdict == "wrong"


def test_a_tolerance_that_would_hide_a_mistake_is_refused(rng) -> None:
    """The classic: a gradient of 1e-6, and atol=1e-4."""
    x = leaf(rng, 3)
    result = gradcheck(lambda x: 1e-6 * np.sin(x), x, atol=1e-4, raise_exception=False)
    assert result.verdict == "blind"
    result = gradcheck(lambda x: np.exp(x) + 1e-6 * np.sin(x), x, atol=1e-4, raise_exception=False)
    assert (result.verdict, [each.operation for each in result.blind]) == ("blind", ["sin", "multiply"])
    assert "10 % more here stays within the tolerance" in str(result)
    assert "a smaller tolerance" in result.reason
    assert gradcheck(lambda x: np.exp(x) + 1e-6 * np.sin(x), x)


def _normalised(x):
    m = np.mean(x, axis=0)
    return (x - m) / np.sqrt(np.mean((x - m) ** 2, axis=0) + 1e-5)


def test_a_bias_before_a_normalisation_is_told_with_all_outputs_and_refused_with_a_loss(rng) -> None:
    """One number cannot tell a derivative that is 0 for any loss from a badly chosen loss; the advice helps."""
    inputs = leaf(rng, 6, 4), leaf(rng, 4, 3), leaf(rng, 3)
    result = gradcheck(lambda x, w, c: _normalised(x @ w + c), inputs)
    assert "The derivative with respect to input 2 is 0 everywhere here." in result.notes
    result = gradcheck(lambda x, w, c: np.mean((_normalised(x @ w + c) - np.eye(6, 3)) ** 2), inputs, raise_exception=False)
    assert result.verdict == "blind"
    assert "on the way to input 2" in result.blind[0].reason
    assert "Let fn give all its outputs" in result.reason


def test_what_cancels_up_to_rounding_hands_nothing_on(rng) -> None:
    """The shift of a saturated softmax: of its cotangent rounding is left, beside derivatives of 1e-10."""
    x = mt.tensor(np.array([[0.1, 0.3, -0.2], [1.0, 0.7, 0.75]]), requires_grad=True)
    result = gradcheck(lambda x: _softmax(100 * x), x)
    assert any("hand on nothing here" in note for note in result.notes)


def test_a_tolerance_is_no_reason_to_call_a_derivative_0(rng) -> None:
    result = gradcheck(np.exp, leaf(rng, 3), atol=np.inf, raise_exception=False)
    assert (result.verdict, "0 everywhere" in result.reason) == ("blind", False)
    assert "a smaller tolerance" in result.reason


def test_what_the_refusal_is_for() -> None:
    """A wrong rule that the refused check would have accepted, and the honest one finds."""
    x = mt.tensor(np.random.default_rng(1).standard_normal((2, 6)), requires_grad=True)

    def softmax(x):
        e = np.exp(x - np.max(x, axis=1, keepdims=True))
        return e / np.sum(e, axis=1, keepdims=True)

    lazy = Primitive(softmax, lambda g, y, _x: 1.5 * y * (g - (g * y).sum(axis=1, keepdims=True)))
    blind = gradcheck(lambda x: np.sum(lazy(x)), x, raise_exception=False)
    assert blind.verdict == "blind"
    assert {row.verdict for row in blind.rows} == {"ok"}
    assert gradcheck(lazy, x, raise_exception=False).verdict == "wrong"


def _softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _logsumexp(x):
    m = np.max(x, axis=-1, keepdims=True)
    return np.log(np.sum(np.exp(x - m), axis=-1, keepdims=True)) + m


HONEST = {
    "softmax": (_softmax, [(3, 5)]),
    "softmax, weighted": (lambda x: np.sum(np.arange(15).reshape(3, 5) * _softmax(x)), [(3, 5)]),
    "logsumexp, whose shift cancels": (_logsumexp, [(3, 5)]),
    "its sum": (lambda x: np.sum(_logsumexp(x)), [(3, 5)]),
    "cross-entropy": (lambda x: -np.mean((x - _logsumexp(x))[np.arange(3), [0, 2, 1]]), [(3, 5)]),
    "attention": (lambda q, k, v: _softmax(q @ k.transpose() / 2) @ v, [(3, 4), (5, 4), (5, 2)]),
    "unit length": (lambda x: x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)), [(3, 4)]),
    "cosine": (lambda x, y: np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)), [(4,), (4,)]),
    "mean squared error": (lambda x, y: np.mean((x - y) ** 2), [(4,), (4,)]),
    "relu network": (lambda x, w, v: np.maximum(x @ w, 0.0) @ v, [(4, 3), (3, 6), (6, 2)]),
    "its loss": (lambda x, w, v: np.mean((np.maximum(x @ w, 0.0) @ v) ** 2), [(4, 3), (3, 6), (6, 2)]),
    "dead code": (lambda x: x * x + 0 * np.exp(x) + np.sign(x) * x, [(4,)]),
    "a branch not taken": (lambda x, y: np.where(False, x * x, y * y), [(4,), (4,)]),
    "constants beside it": (lambda x: (x * x, np.argmax(x)), [(4,)]),
    "patches": (lambda x: x[:, np.arange(4)[:, None] + np.arange(3)] @ np.arange(1.0, 4.0), [(2, 6)]),
    "centred twice": (lambda x: (x - np.mean(x)) - np.mean(x - np.mean(x)), [(5,)]),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_checks_pass(name, rng) -> None:
    function, shapes = HONEST[name]
    inputs = tuple(leaf(rng, *shape) for shape in shapes)
    assert gradcheck(function, inputs)
    assert gradcheck(function, inputs, method="taylor")
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_what_hands_nothing_on_is_counted_and_what_makes_no_difference_is_named(rng) -> None:
    x, y = leaf(rng, 3), leaf(rng, 3)
    assert "1 operation(s) hand on nothing here" in str(gradcheck(lambda x: x * x + np.sign(x), x))
    result = gradcheck(lambda x, y: np.where(True, x * x, y), (x, y))
    assert "The derivative with respect to input 1 is 0 everywhere here." in result.notes


@pytest.mark.parametrize("function", [np.sign, lambda x: x**0, lambda x: np.sum(_softmax(x)), lambda x: np.where(x > 9, x, 1.0)])
def test_a_derivative_that_is_0_everywhere_is_refused(function, rng) -> None:
    for params in ({}, {"method": "taylor"}, {"fast_mode": True}, {"method": "central"}):
        result = gradcheck(function, leaf(rng, 4), raise_exception=False, **params)
        assert (result.verdict, "0 everywhere" in result.reason) == ("blind", True)


def test_a_minimum_is_refused() -> None:
    x = mt.tensor([3.0, 3.0], np.float64, requires_grad=True)
    assert gradcheck(lambda x: np.sum((x - 3) ** 2), x, raise_exception=False).verdict == "blind"


def test_hooks_of_the_user_stay(rng) -> None:
    """The check takes its own away again, and leaves others at work: a hook that changes the gradient makes it wrong."""
    calls = []

    def function(x):
        y = np.exp(x)
        y._node.hooks = {"mine": lambda g: calls.append(1)}
        return y * y

    assert gradcheck(function, leaf(rng, 3))
    assert calls

    def doubled(x):
        y = np.exp(x)
        y._node.hooks = {"mine": lambda g: 2 * g}
        return y * y

    assert gradcheck(doubled, leaf(rng, 3), raise_exception=False).verdict == "wrong"


def test_a_long_graph_is_sampled(rng) -> None:
    def function(x):
        y = x
        for _ in range(150):
            y = y * 0.99 + x
        return y

    assert "256 of the 300 operations, drawn at random" in " ".join(str(gradcheck(function, leaf(rng, 2))).split())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_primitive_is_refused_without_a_reason(case) -> None:
    """Every case passes, unless it has no elements or its derivative is 0 everywhere."""
    inputs = tuple(mt.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.inputs)
    result = gradcheck(case.call, inputs, fast_mode=True, raise_exception=False)
    if result.verdict == "blind":
        assert "0 everywhere" in result.reason
        assert all(row.analytic == 0 for row in result.rows)
    elif result.verdict == "refused":
        assert not all(tensor.size for tensor in inputs) or not case.call(*inputs).size
    else:
        assert result.verdict == "ok", str(result)
