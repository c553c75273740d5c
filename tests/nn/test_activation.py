"""Activations, as functions and as layers: against PyTorch, against differences, at kinks and at the ends of the range."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
from checks import assert_rounding, check_device, check_first, check_second
from hypothesis import given
from hypothesis import strategies as st

import minitensor as mt
from minitensor.errors import DTypeError, ShapeError
from minitensor.nn import activation as layers
from minitensor.nn.functional import activation as functional
from minitensor.nn.functional.activation import log1pexp, logistic

# layer, function, options in their order, repr
TABLE = [
    ("ReLU", "relu", {}, "ReLU()"),
    ("ReLU6", "relu6", {}, "ReLU6()"),
    ("LeakyReLU", "leaky_relu", {}, "LeakyReLU(negative_slope=0.01)"),
    ("LeakyReLU", "leaky_relu", {"negative_slope": -0.3}, "LeakyReLU(negative_slope=-0.3)"),
    ("ELU", "elu", {}, "ELU(alpha=1.0)"),
    ("ELU", "elu", {"alpha": 1.5}, "ELU(alpha=1.5)"),
    ("SELU", "selu", {}, "SELU()"),
    ("CELU", "celu", {}, "CELU(alpha=1.0)"),
    ("CELU", "celu", {"alpha": 1.5}, "CELU(alpha=1.5)"),
    ("GELU", "gelu", {}, "GELU(approximate='none')"),
    ("GELU", "gelu", {"approximate": "tanh"}, "GELU(approximate='tanh')"),
    ("SiLU", "silu", {}, "SiLU()"),
    ("Mish", "mish", {}, "Mish()"),
    ("Sigmoid", "sigmoid", {}, "Sigmoid()"),
    ("LogSigmoid", "logsigmoid", {}, "LogSigmoid()"),
    ("Hardtanh", "hardtanh", {}, "Hardtanh(min_val=-1.0, max_val=1.0)"),
    ("Hardtanh", "hardtanh", {"min_val": -0.5, "max_val": 3}, "Hardtanh(min_val=-0.5, max_val=3)"),
    ("Hardsigmoid", "hardsigmoid", {}, "Hardsigmoid()"),
    ("Hardswish", "hardswish", {}, "Hardswish()"),
    ("Tanh", "tanh", {}, "Tanh()"),
    ("Softplus", "softplus", {}, "Softplus(beta=1.0, threshold=20.0)"),
    ("Softplus", "softplus", {"beta": 2.0, "threshold": 3.0}, "Softplus(beta=2.0, threshold=3.0)"),
    ("Softsign", "softsign", {}, "Softsign()"),
    ("Tanhshrink", "tanhshrink", {}, "Tanhshrink()"),
    ("Softshrink", "softshrink", {}, "Softshrink(0.5)"),
    ("Softshrink", "softshrink", {"lambd": 1.0}, "Softshrink(1.0)"),
    ("Hardshrink", "hardshrink", {}, "Hardshrink(0.5)"),
    ("Hardshrink", "hardshrink", {"lambd": 1.0}, "Hardshrink(1.0)"),
    ("Threshold", "threshold", {"threshold": 0.5, "value": 20}, "Threshold(threshold=0.5, value=20)"),
    ("Softmax", "softmax", {"axis": 1}, "Softmax(axis=1)"),
    ("Softmax", "softmax", {"axis": -3}, "Softmax(axis=-3)"),
    ("LogSoftmax", "log_softmax", {"axis": 0}, "LogSoftmax(axis=0)"),
    ("LogSoftmax", "log_softmax", {"axis": -1}, "LogSoftmax(axis=-1)"),
    ("Softmin", "softmin", {"axis": 2}, "Softmin(axis=2)"),
    ("GLU", "glu", {}, "GLU(axis=-1)"),
    ("GLU", "glu", {"axis": 1}, "GLU(axis=1)"),
]
IDS = [text for *_, text in TABLE]
ELEMENTWISE = [(name, options) for _, name, options, _ in TABLE if name != "glu" and "axis" not in options]
ELEMENTWISE_IDS = [text for (_, name, options, text) in TABLE if name != "glu" and "axis" not in options]
KINKS = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 3.0, 6.0])  # 1.5 is the threshold of a Softplus


def smooth(shape: tuple[int, ...] = (2, 4, 6)) -> np.ndarray:
    """Numbers on both sides of every kink, and none nearer than 0.05, so that differences do not step over one."""
    drawn = np.random.default_rng(3).uniform(-7, 7, 4 * math.prod(shape))
    return drawn[np.abs(drawn[:, None] - KINKS).min(axis=1) > 0.05][: math.prod(shape)].reshape(shape)


def cotangents(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One of the output's shape for the first derivative, one of the input's for the second."""
    rng = np.random.default_rng(4)
    return rng.standard_normal(shape), rng.standard_normal(smooth().shape)


@pytest.mark.parametrize(("layer", "function", "options", "text"), TABLE, ids=IDS)
def test_as_pytorch(layer, function, options, text, torch_says):
    """The value, the gradient and, where PyTorch has one, the second derivative; function and layer alike."""
    call = getattr(functional, function)
    x = mt.tensor(smooth(), requires_grad=True)
    y = call(x, **options)
    u, w = cotangents(y.shape)
    (g,) = mt.grad(y, x, mt.tensor(u), create_graph=True)
    (h,) = mt.grad(g, x, mt.tensor(w), allow_unused=True) if g.requires_grad else (None,)

    def ask(torch):
        theirs = {"dim" if name == "axis" else name: value for name, value in options.items()}
        x = torch.tensor(smooth(), requires_grad=True)
        y = getattr(torch.nn, layer)(**theirs)(x)
        assert torch.equal(y, getattr(torch.nn.functional, function)(x, **theirs))
        (g,) = torch.autograd.grad(y, x, torch.tensor(u), create_graph=True)
        if function == "hardsigmoid":  # has no second derivative there
            return {"y": y, "g": g}
        (h,) = torch.autograd.grad(g, x, torch.tensor(w), allow_unused=True) if g.requires_grad else (None,)
        return {"y": y, "g": g, "h": torch.zeros_like(x) if h is None else h}

    expected = torch_says(ask)
    np.testing.assert_allclose(y.detach().numpy(), expected["y"], rtol=1e-13, atol=1e-15)
    rtol = 1e-7 if function == "hardsigmoid" else 1e-12  # PyTorch multiplies by 1 / 6 in float32
    np.testing.assert_allclose(g.detach().numpy(), expected["g"], rtol=rtol, atol=1e-14)
    if "h" in expected:
        np.testing.assert_allclose(np.zeros_like(w) if h is None else h.numpy(), expected["h"], rtol=1e-11, atol=1e-13)
    module = getattr(layers, layer)(*options.values())
    assert repr(module) == text
    assert list(module.parameters()) == []
    np.testing.assert_array_equal(module(x).detach().numpy(), y.detach().numpy())
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        np.testing.assert_array_equal(twin(x).detach().numpy(), y.detach().numpy())


@pytest.mark.parametrize(("layer", "function", "options", "text"), TABLE, ids=IDS)
def test_against_differences(layer, function, options, text):
    def call(x):
        return getattr(functional, function)(x, **options)

    check_first(call, [smooth((2, 2, 4))])
    check_second(call, [smooth((2, 2, 4))])


@pytest.mark.parametrize(("layer", "function", "options", "text"), TABLE, ids=IDS)
def test_on_the_stand_in(layer, function, options, text, cupy):
    def call(x):
        return getattr(functional, function)(x, **options)

    check_device(call, [smooth()])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("layer", "function", "options", "text"), TABLE, ids=IDS)
def test_the_dtype_stays_and_float16_is_rounded_once(layer, function, options, text, dtype):
    call, rounded = getattr(functional, function), smooth().astype(dtype)

    def run(array):
        x = mt.tensor(array, requires_grad=True)
        y = call(x, **options)
        (g,) = mt.grad(y, x, mt.tensor(cotangents(y.shape)[0].astype(dtype).astype(array.dtype)))
        return y.detach(), g

    for found, exact in zip(run(rounded), run(rounded.astype(np.float64)), strict=True):
        assert found.dtype == dtype
        assert_rounding(found, exact)


AT_KINKS = {
    "relu": [0.0, -0.0],
    "relu6": [0.0, 6.0],
    "leaky_relu": [0.0],
    "elu": [0.0],
    "selu": [0.0],
    "celu": [0.0],
    "gelu": [0.0],
    "silu": [0.0],
    "mish": [0.0],
    "sigmoid": [0.0],
    "logsigmoid": [0.0],
    "hardtanh": [-1.0, 1.0],
    "hardsigmoid": [-3.0, 3.0],
    "hardswish": [-3.0, 0.0, 3.0],
    "tanh": [0.0],
    "softplus": [0.0, 20.0],
    "softsign": [0.0],
    "tanhshrink": [0.0],
    "softshrink": [-0.5, 0.0, 0.5],
    "hardshrink": [-0.5, 0.0, 0.5],
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", AT_KINKS)
def test_the_derivative_at_a_kink_is_pytorchs(name, create_graph, torch_says):
    def ask(torch):
        x = torch.tensor(AT_KINKS[name], dtype=torch.float64, requires_grad=True)
        y = getattr(torch.nn.functional, name)(x)
        return [y, *torch.autograd.grad(y.sum(), x)]

    x = mt.tensor(AT_KINKS[name], np.float64, requires_grad=True)
    y = getattr(functional, name)(x)
    found = [y, *mt.grad(y.sum(), x, create_graph=create_graph)]
    for ours, theirs in zip(found, torch_says(ask), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-15)


def test_the_derivative_of_threshold_at_its_threshold():
    x = mt.tensor([0.5, 0.6], requires_grad=True)
    assert mt.grad(functional.threshold(x, 0.5, 3.0).sum(), x)[0].tolist() == [0.0, 1.0]


SECOND = {
    "relu": (lambda x: functional.relu(x), [0.0], [0.0]),
    "elu": (lambda x: functional.elu(x, 1.5), [0.0], [1.5]),
    "selu": (lambda x: functional.selu(x), [0.0], [1.0507009873554805 * 1.6732632423543772]),
    "celu": (lambda x: functional.celu(x, 4.0), [0.0], [0.25]),
    "softsign": (lambda x: functional.softsign(x), [0.0], [0.0]),
    "hardtanh": (lambda x: functional.hardtanh(x) * x, [-1.0, 0.5, 1.0], [0.0, 2.0, 0.0]),
    "hardswish": (lambda x: functional.hardswish(x), [-3.0, 1.0, 3.0], [0.0, 1 / 3, 0.0]),
    "gelu": (lambda x: functional.gelu(x), [0.0], [math.sqrt(2 / math.pi)]),
    "sigmoid": (lambda x: functional.sigmoid(x), [0.0], [0.0]),
    "softplus": (lambda x: functional.softplus(x), [0.0], [0.25]),
    "silu": (lambda x: functional.silu(x), [0.0], [0.5]),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_derivative_at_a_kink(name):
    call, values, expected = SECOND[name]
    x = mt.tensor(values, np.float64, requires_grad=True)
    (g,) = mt.grad(call(x).sum(), x, create_graph=True)
    (h,) = mt.grad(g.sum(), x, allow_unused=True) if g.requires_grad else (None,)
    np.testing.assert_allclose([0.0] * len(values) if h is None else h.tolist(), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("call", "orders"),
    [
        (logistic, [1 / 2, 1 / 4, 0, -1 / 8, 0, 1 / 4]),
        (log1pexp, [math.log(2), 1 / 2, 1 / 4, 0, -1 / 8, 0]),
    ],
    ids=["sigmoid", "softplus"],
)
def test_every_order_at_0(call, orders):
    """Where formulas that are made of |x| are wrong from the first or second order on."""
    x = mt.tensor(0.0, np.float64, requires_grad=True)
    y = call(x)
    for expected in orders:
        assert y.item() == pytest.approx(expected, abs=1e-15)
        (y,) = mt.grad(y, x, create_graph=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), ELEMENTWISE, ids=ELEMENTWISE_IDS)
def test_large_numbers_do_no_harm(name, options, dtype):
    """Value, gradient and second derivative are finite and without a warning up to 1e18 (float16: 6e4); nan stays nan."""
    top = 6e4 if dtype is np.float16 else 1e18
    values = np.array([-top, -1e4, -100.0, -30.0, -12.0, 12.0, 30.0, 100.0, 1e4, top], dtype)
    x = mt.tensor(values, requires_grad=True)
    y = getattr(functional, name)(x, **options)
    (g,) = mt.grad(y, x, mt.ones_like(y), create_graph=True)
    (h,) = mt.grad(g, x, mt.ones_like(g), allow_unused=True) if g.requires_grad else (None,)
    for found in (y, g) if h is None else (y, g, h):
        assert found.dtype == dtype
        assert np.isfinite(found.detach().numpy()).all()
    assert np.isnan(getattr(functional, name)(mt.tensor([np.nan], dtype), **options).item())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0.0, np.inf]),
        ("relu6", [0.0, 6.0]),
        ("elu", [-1.0, np.inf]),
        ("sigmoid", [0.0, 1.0]),
        ("logsigmoid", [-np.inf, 0.0]),
        ("softplus", [0.0, np.inf]),
        ("tanh", [-1.0, 1.0]),
        ("hardsigmoid", [0.0, 1.0]),
        ("hardshrink", [-np.inf, np.inf]),
    ],
)
def test_infinity(name, expected):
    assert getattr(functional, name)(mt.tensor([-np.inf, np.inf])).tolist() == expected


def test_small_numbers_keep_their_digits(torch_says):
    """1 + tanh(x / 2), a usual way to a sigmoid without overflow, has no digit left at -40."""
    x = np.array([-700.0, -100.0, -40.0, -20.0])
    expected = torch_says(lambda torch: [torch.sigmoid(torch.tensor(x)), torch.nn.functional.silu(torch.tensor(x))])
    np.testing.assert_allclose(functional.sigmoid(mt.tensor(x)).numpy(), expected[0], rtol=1e-14)
    np.testing.assert_allclose(functional.silu(mt.tensor(x)).numpy(), expected[1], rtol=1e-14)
    np.testing.assert_allclose(log1pexp(mt.tensor(x)).numpy(), np.log1p(np.exp(x)), rtol=1e-15)


FLOATS = st.floats(-1e6, 1e6)


@given(FLOATS)
def test_identities(number):
    x = mt.tensor(number, np.float64)
    assert (functional.sigmoid(x) + functional.sigmoid(-x)).item() == pytest.approx(1, rel=1e-15)
    assert (log1pexp(x) - log1pexp(-x)).item() == pytest.approx(number, rel=1e-15, abs=1e-15)
    assert (functional.relu(x) - functional.relu(-x)).item() == number
    assert (functional.softshrink(x) + np.clip(x, -0.5, 0.5)).item() == pytest.approx(number, rel=1e-15)
    assert functional.hardswish(x).item() == pytest.approx(number * functional.hardsigmoid(x).item(), rel=1e-15)


# -- along an axis --------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(-100, 100))
def test_softmax_is_a_distribution_that_a_constant_does_not_change(numbers, constant):
    x = mt.tensor(numbers, np.float64)
    p = functional.softmax(x, 0)
    assert p.sum().item() == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(functional.softmax(x + constant, 0).numpy(), p.numpy(), rtol=1e-8)
    np.testing.assert_allclose(np.exp(functional.log_softmax(x, 0)).numpy(), p.numpy(), rtol=1e-9)
    np.testing.assert_array_equal(functional.softmin(-x, 0).numpy(), p.numpy())


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_large_logits(name, torch_says):
    values = np.array([[1e4, 1e4 + 1, -1e4], [3e38, -3e38, 0.0], [-1e4, -1e4, -1e4 - 2]], np.float32)
    u = np.array([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0], [2.0, 1.0, 1.0]], np.float32)

    def ask(torch):
        x = torch.tensor(values, requires_grad=True)
        y = getattr(torch.nn.functional, name)(x, dim=1)
        return [y, *torch.autograd.grad(y, x, torch.tensor(u))]

    x = mt.tensor(values, requires_grad=True)
    with np.errstate(over="ignore"):  # the logarithm of a probability that float32 cannot hold is -inf
        y = getattr(functional, name)(x, axis=1)
        (g,) = mt.grad(y, x, mt.tensor(u))
    for ours, theirs in zip((y.detach(), g), torch_says(ask), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_masked_logit_has_no_probability_and_no_gradient(create_graph):
    x = mt.tensor([0.0, -np.inf, 1.0], np.float64, requires_grad=True)
    p = functional.softmax(x, 0)
    (g,) = mt.grad(p, x, np.array([1.0, 5.0, -2.0]), create_graph=create_graph)
    assert p[1].item() == g[1].item() == 0
    assert np.isfinite(g.detach().numpy()).all()
    assert functional.log_softmax(x, 0)[1].item() == -np.inf


def test_a_slice_of_nothing_but_masked_logits_is_nan():
    with pytest.warns(RuntimeWarning, match="invalid value"):
        p = functional.softmax(mt.tensor([-np.inf, -np.inf]), 0)
    assert np.isnan(p.numpy()).all()


def test_float16_sums_in_float32():
    """4000 exponentials, whose sum in float16 would stop growing at 2048; and the gradient of each is as exact."""
    x = mt.tensor(np.zeros(4000, np.float16), requires_grad=True)
    assert functional.log_softmax(x, 0)[0].item() == np.float16(-math.log(4000))
    (g,) = mt.grad(functional.log_softmax(x, 0), x, mt.ones_like(x))
    np.testing.assert_allclose(g.numpy(), np.zeros(4000), atol=0)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_dtype_casts_first(name, torch_says):
    x = np.array([[1, 2, 3], [3, 0, -1]])
    theirs = torch_says(lambda torch: getattr(torch.nn.functional, name)(torch.tensor(x), dim=0, dtype=torch.float64))
    ours = getattr(functional, name)(mt.tensor(x), axis=0, dtype=mt.float64)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-14)
    assert getattr(functional, name)(mt.ones(2, 2), 0, mt.float16).dtype == np.float16


# -- PReLU ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "weight"), [((), (1,)), ((4,), (1,)), ((4,), ()), ((2, 3), (3,)), ((2, 3), (1,)), ((2, 3, 4, 2), (3,)), ((2, 3, 4), ())]
)
def test_prelu(shape, weight, torch_says):
    rng = np.random.default_rng(5)
    values, slopes, u = rng.standard_normal(shape), rng.standard_normal(weight), rng.standard_normal(shape)

    def ask(torch):
        x, w = torch.tensor(values, requires_grad=True), torch.tensor(slopes, requires_grad=True)
        y = torch.nn.functional.prelu(x, w)
        return [y, *torch.autograd.grad(y, [x, w], torch.tensor(u))]

    x, w = mt.tensor(values, requires_grad=True), mt.tensor(slopes, requires_grad=True)
    y = functional.prelu(x, w)
    for ours, theirs in zip((y.detach(), *mt.grad(y, [x, w], mt.tensor(u))), torch_says(ask), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-14)


def test_prelu_against_differences():
    check_first(functional.prelu, [smooth((2, 3, 4)), np.array([0.3, -0.5, 1.2])])
    check_second(functional.prelu, [smooth((2, 3, 4)), np.array([0.3, -0.5, 1.2])])


def test_prelu_at_0(torch_says):
    def ask(torch):
        x, w = torch.tensor([0.0, -1.0]), torch.tensor([0.3])
        x.requires_grad_(), w.requires_grad_()
        return list(torch.autograd.grad(torch.nn.functional.prelu(x, w).sum(), [x, w]))

    x, w = mt.tensor([0.0, -1.0], requires_grad=True), mt.tensor([0.3], requires_grad=True)
    for ours, theirs in zip(mt.grad(functional.prelu(x, w).sum(), [x, w]), torch_says(ask), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_prelu_sums_the_gradient_of_a_float16_slope_in_float32():
    x, w = mt.tensor(np.full((5000, 1), -1.0, np.float16)), mt.tensor(np.array([0.5], np.float16), requires_grad=True)
    y = functional.prelu(x, w)
    assert y.dtype == np.float16
    assert mt.grad(y, w, mt.ones_like(y))[0].item() == np.float16(-5000)


def test_the_prelu_layer(cupy):
    layer = layers.PReLU()
    assert (repr(layer), layer.weight.tolist(), layer.weight.dtype) == ("PReLU(num_parameters=1)", [0.25], np.float32)
    layer = layers.PReLU(3, init=0.1, device="cuda", dtype=np.float64)
    assert (layer.weight.shape, layer.weight.device, layer.weight.requires_grad) == ((3,), "cuda:0", True)
    x = mt.tensor(smooth((2, 3, 4)), device="cuda")
    expected = np.where(smooth((2, 3, 4)) > 0, 1, 0.1) * smooth((2, 3, 4))
    np.testing.assert_allclose(layer(x).detach().cpu().numpy(), expected, rtol=1e-15)
    layer.weight.data = np.ones(3)
    layer.reset_parameters()
    assert layer.weight.tolist() == [0.1] * 3
    assert list(layer.state_dict()) == ["weight"]


# -- the form of layers ---------------------------------------------------------------------------------------------------------------


def test_every_function_has_a_layer_and_is_tested_here():
    assert {function for _, function, *_ in TABLE} | {"prelu"} == set(functional.__all__)
    public = {name for name, value in vars(layers).items() if isinstance(value, type) and value.__module__ == layers.__name__}
    assert {name for name in public if not name.startswith("_")} == {layer for layer, *_ in TABLE} | {"PReLU"}


def test_signatures_show():
    assert str(inspect.signature(layers.Softplus)) == "(beta: 'float' = 1.0, threshold: 'float' = 20.0) -> 'None'"
    assert str(inspect.signature(layers.Softmax)) == "(axis: 'int') -> 'None'"
    assert str(inspect.signature(layers.ReLU)).startswith("()")
    assert list(inspect.signature(functional.softmax).parameters) == ["input", "axis", "dtype"]
    assert list(inspect.signature(functional.softplus).parameters) == ["input", "beta", "threshold"]


def test_an_option_is_an_attribute():
    layer = layers.LeakyReLU(0.5)
    layer.negative_slope = 2.0
    assert layer(mt.tensor([-1.0])).item() == -2
    assert repr(layer) == "LeakyReLU(negative_slope=2.0)"


def test_input_by_name():
    assert functional.relu(input=mt.tensor([-1.0])).item() == 0


# -- errors ---------------------------------------------------------------------------------------------------------------------------

ERRORS = [
    (lambda: functional.relu(np.ones(2)), TypeError, r"relu: input must be a Tensor, got float64 \(2,\); mt.tensor"),
    (lambda: functional.gelu(2.0), TypeError, "gelu: input must be a Tensor, got float"),
    (lambda: functional.relu(), TypeError, r"relu\(\) missing 1 required positional argument: 'input'"),
    (lambda: functional.sigmoid(mt.ones(2, dtype=int)), DTypeError, r"sigmoid: input must be floating numbers, got int64 \(2,\); use"),
    (lambda: functional.softmax(mt.ones(2, dtype=int), 0), DTypeError, r"softmax: input must be floating numbers, got int64 \(2,\)"),
    (lambda: functional.softmax(mt.ones(2), 0, int), DTypeError, r"softmax: input must be floating numbers, got int64 \(2,\)"),
    (lambda: functional.softmax([1.0], 0), TypeError, "softmax: input must be a Tensor, got list"),
    (lambda: functional.softmax(mt.ones(2, 2)), TypeError, "missing 1 required positional argument: 'axis'"),
    (lambda: functional.softmax(mt.ones(2, 2), None), TypeError, "softmax: axis must be an int, got None"),
    (lambda: functional.softmax(mt.ones(2, 2), dim=1), TypeError, "softmax: the keyword dim= is named axis= here"),
    (lambda: functional.log_softmax(mt.ones(2, 2), dim=1), TypeError, "log_softmax: the keyword dim= is named axis= here"),
    (lambda: functional.softmin(mt.ones(2, 2), dim=1), TypeError, "softmin: the keyword dim= is named axis= here"),
    (lambda: functional.glu(mt.ones(2, 2), dim=1), TypeError, "glu: the keyword dim= is named axis= here"),
    (lambda: layers.Softmax(dim=1), TypeError, "Softmax: the keyword dim= is named axis= here"),
    (lambda: layers.GLU(dim=1), TypeError, "GLU: the keyword dim= is named axis= here"),
    (lambda: layers.Softmax(), TypeError, "missing 1 required positional argument: 'axis'"),
    (lambda: functional.log_softmax(mt.ones(2, 3), 2), ShapeError, r"log_softmax: there is no axis 2 in an input of shape \(2, 3\)"),
    (lambda: functional.softmin(mt.tensor(1.0), 0), ShapeError, r"softmin: there is no axis 0 in an input of shape \(\)"),
    (lambda: functional.softmax(mt.ones(2, 0), 1), ShapeError, r"softmax: axis 1 of an input of shape \(2, 0\) has no elements"),
    (lambda: functional.glu(mt.ones(2, 3)), ShapeError, r"glu: axis -1 must have an even length to be halved, got .* \(2, 3\)"),
    (lambda: functional.glu(mt.ones(2, 4), 2), ShapeError, r"glu: there is no axis 2"),
    (lambda: functional.gelu(mt.ones(2), "erf"), ValueError, "gelu: approximate must be 'none' or 'tanh', got 'erf'"),
    (lambda: functional.celu(mt.ones(2), 0.0), ValueError, "celu: alpha must not be 0"),
    (lambda: functional.softplus(mt.ones(2), beta=0), ValueError, "softplus: beta must not be 0"),
    (lambda: functional.softshrink(mt.ones(2), -1.0), ValueError, "softshrink: lambd must not be negative, got -1.0"),
    (
        lambda: functional.hardtanh(mt.ones(2), 1.0, -1.0),
        ValueError,
        "hardtanh: min_val must not be greater than max_val, got 1.0 and -1.0",
    ),
    (lambda: functional.prelu(mt.ones(2, 3), 0.5), TypeError, "prelu: weight must be a Tensor, got float; leaky_relu takes a number"),
    (
        lambda: functional.prelu(mt.ones(2, 3), mt.ones(2)),
        ShapeError,
        r"prelu: weight must have shape \(1,\) or \(3,\) for an input of shape \(2, 3\), got float32 \(2,\)",
    ),
    (lambda: functional.prelu(mt.ones(3), mt.ones(3)), ShapeError, r"\(1,\) or \(1,\)"),
    (lambda: layers.PReLU(0), ValueError, "PReLU: num_parameters must be positive, got 0"),
    (lambda: layers.PReLU(1.5), TypeError, "PReLU: num_parameters must be an int, got 1.5"),
    (lambda: layers.ReLU(inplace=True), TypeError, "unexpected keyword argument 'inplace'"),
    (lambda: layers.ELU(1.0, True), TypeError, "takes from 1 to 2 positional arguments"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message[:40] for *_, message in ERRORS])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
