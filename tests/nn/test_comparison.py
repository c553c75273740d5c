"""The comparison accepts every right layer, refuses every wrong one, and says truly what it could not have seen."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from norm_table import EPS, ROWS, made, numbers

from minitensor import Tensor, nn, no_grad
from minitensor.autograd import Function
from minitensor.errors import DTypeError, ShapeError, UnsupportedError
from minitensor.nn.comparison import Comparison, Row, compare, compare_backward, random_cotangent, subject
from minitensor.nn.derivation import FAULTS, known_faults, staged_backward
from minitensor.nn.norm.layout import per_instance

KINDS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
SPATIAL = {1: (9,), 2: (4, 5), 3: (2, 3, 4)}
QUANTITIES = ["y", "dx", "dgamma", "dbeta", "H u"]
BLIND_AT_SMALL_EPS = {"eps-twice", "eps-forgotten", "eps-outside-root"}


def layer_of(spatial=2, *, eps=0.1, affine=True, dtype="float64", backward="analytic", seed=3, **more):
    """A layer of three channels with random gamma (both signs) and beta."""
    rng = np.random.default_rng(seed)
    layer = KINDS[spatial](3, eps=eps, affine=affine, dtype=dtype, backward=backward, **more)
    if affine:
        layer.weight.data = rng.uniform(0.5, 2, 3) * [1, -1, 1]
        if layer.bias is not None:
            layer.bias.data = rng.uniform(0.5, 2, 3)
    return layer


def input_of(spatial=2, *, batched=True, dtype="float64", offset=0.0, scale=1.0, seed=7):
    x = np.random.default_rng(seed).standard_normal((2, 3, *SPATIAL[spatial])) * scale + offset
    return (x if batched else x[0]).astype(dtype)


# -- right layers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", KINDS)
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("eps", [1e-5, 0.1, 10.0])
def test_right_layers_agree(spatial, batched, affine, dtype, eps):
    result = compare_backward(layer_of(spatial, eps=eps, affine=affine, dtype=dtype), input_of(spatial, batched=batched, dtype=dtype))
    assert result, str(result)
    assert all(math.isfinite(row.tolerance) for row in result.rows)
    assert len(result.rows) == (12 if affine else 6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("offset", [1e2, 1e4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2])
def test_right_layers_agree_far_from_zero(dtype, offset, scale):
    """float16 holds 10,000 and its neighbours 8 apart: such slices are nearly constant, and the bound says so."""
    result = compare_backward(layer_of(dtype=dtype), input_of(dtype=dtype, offset=offset, scale=scale))
    assert result, str(result)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("eps", [1e-5, 10.0])
def test_right_layers_agree_on_constant_slices(dtype, value, eps):
    x = input_of(dtype=dtype)
    x[0, 1] = x[1, 2] = value
    assert compare_backward(layer_of(eps=eps, dtype=dtype), x)
    assert compare_backward(layer_of(eps=eps, dtype=dtype), np.full_like(x, value))


def test_unbounded_roundings_are_not_held_against_the_layer():
    """A constant float64 slice at 1e17: its computed variance may be anything up to 100, so nothing but dbeta is known."""
    result = compare_backward(layer_of(eps=1e-5), np.full((2, 3, 4, 5), 1e17))
    assert result, str(result)
    assert {row.verdict for row in result.rows} == {"ok", "blind"}
    assert all(row.verdict == "blind" for row in result.rows if row.quantity in ("y", "dx", "dgamma", "H u"))
    assert "no-mean-path" in result.unseen
    assert "dbeta-averaged" not in result.unseen
    assert not compare_backward(layer_of(backward=FAULTS["dbeta-averaged"].backward), np.full((2, 3, 4, 5), 1e17))


@pytest.mark.parametrize("seed", range(40))
def test_slices_so_far_away_that_x_hat_is_unknown(seed, monkeypatch):
    """dbeta is known all the same, and so is the noise in its differences: |x_hat| is at most sqrt(m)."""
    monkeypatch.setattr(subject, "known_faults", lambda *_: {"dbeta-averaged": FAULTS["dbeta-averaged"]})
    rng = np.random.default_rng(seed)
    layer = nn.InstanceNorm2d(3, eps=1e-5, affine=True, dtype="float64")
    layer.weight.data, layer.bias.data = rng.uniform(0.5, 2, (2, 3))
    x = 1e16 * rng.uniform(0.5, 2, (2, 3, 1, 1)) + 2 * rng.integers(-3, 4, (2, 3, 4, 5))
    result = compare_backward(layer, x, seed=seed)
    assert result, str(result)
    assert result.rows[0].tolerance == math.inf
    assert all(math.isfinite(row.tolerance) for row in result.rows if "dbeta" in row.quantity)


@given(
    spatial=st.sampled_from([1, 2, 3]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    eps=st.floats(-5, 1).map(lambda exponent: 10**exponent),
    scale=st.floats(-2, 2).map(lambda exponent: 10**exponent),
    offset=st.floats(-1e4, 1e4),
    seed=st.integers(0, 2**32),
    affine=st.booleans(),
)
@settings(max_examples=60)
def test_no_false_alarm(spatial, dtype, eps, scale, offset, seed, affine):
    x = input_of(spatial, dtype=dtype, scale=scale, offset=offset, seed=seed)
    result = compare_backward(layer_of(spatial, eps=eps, affine=affine, dtype=dtype, seed=seed), x, seed=seed)
    assert result, str(result)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_layer_of_another_dtype_than_the_input(dtype):
    assert compare_backward(layer_of(dtype=dtype), input_of())
    assert compare_backward(layer_of(), input_of(dtype=dtype))


def test_memory_layout_and_byte_order_do_not_matter():
    x = input_of()
    results = [
        compare_backward(layer_of(), each) for each in (x, np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1], x.astype(">f8"), Tensor(x))
    ]
    assert all(results)
    assert all(result.rows[0].relative < 1e-14 for result in results)


def test_a_layer_without_bias():
    result = compare_backward(layer_of(bias=False), input_of())
    assert result
    assert {row.quantity for row in result.rows} == {"y", "dx", "dgamma", "H u", "dx . v", "dgamma . v", "H u . v"}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backward", ["analytic", "autograd", staged_backward])
def test_the_layer_and_the_input_are_not_changed(training, backward):
    """Statistics, gradients, mode and values stay as they were; statistics are taken from the input either way."""
    layer = layer_of(backward=backward, track_running_stats=True).train(training)
    layer.running_mean[...] = [1.0, 2.0, 3.0]
    x = Tensor(input_of(), requires_grad=True)
    before = {name: np.array(value) for name, value in layer.state_dict().items()}
    assert compare_backward(layer, x)
    after = layer.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(np.asarray(after[name]), value, err_msg=name)
    assert (layer.training, layer.backward, layer.weight.grad, layer.bias.grad, x.grad) == (training, backward, None, None, None)
    np.testing.assert_array_equal(x.data, input_of())


# -- every layer of the family -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.usefixtures("rows_only")
def test_every_layer_agrees(name, dtype):
    row = ROWS[name]
    for parameters in ("weight and bias", *(["nothing"] if dtype == "float64" else [])):
        layer = made(row, parameters, dtype)
        result = compare_backward(layer, numbers(row).x.astype(dtype))
        assert result, str(result)
        gradients = ["dx", *(f"d{subject.NAMES[each]}" for each, _ in layer.named_parameters())]
        assert list(dict.fromkeys(row.quantity for row in result.rows if row.opinion == "autograd")) == ["y", *gradients, "H u"]
        assert len(result.rows) == 3 * len(gradients) + 3
        assert "assumed" not in str(result)
        assert (result.layer, result.eps, result.m) == (row.kind.__name__, EPS, layer.layout(row.shape).m)


@pytest.mark.usefixtures("rows_only")
def test_numbers_with_bounds_that_fail_are_told(monkeypatch):
    """The negative control: tolerances that could not be computed never pass for computed ones."""

    def failing(value):
        raise UnsupportedError("Rounded: planted")

    monkeypatch.setattr(compare, "Rounded", failing)
    assert "Tolerances are assumed, 1,000 roundings of the largest value: planted." in str(compare_backward(layer_of(), input_of()))


def test_the_eps_of_rms_norm_is_that_of_its_input():
    for dtype, eps in (("float32", 2.0**-23), ("float64", 2.0**-52), ("float16", 2.0**-23)):
        result = compare_backward(nn.RMSNorm(7), input_of().reshape(2, -1)[:, :14].reshape(4, 7).astype(dtype))
        assert result, str(result)
        assert result.eps == eps


@pytest.mark.parametrize("name", ["InstanceNorm", "GroupNorm-flat", "LayerNorm"])
@pytest.mark.usefixtures("rows_only")
def test_every_known_mistake_in_every_layer_is_refused(name):
    row = ROWS[name]
    known = known_faults(made(row), row.shape)
    for fault in known.values():
        layer = made(row)
        layer.backward = fault.of(layer)
        assert compare_backward(layer, numbers(row).x).wrong, fault.name
    for fault in set(FAULTS) - set(known):  # negative control: what is not known as a mistake is none
        layer = made(row)
        layer.backward = FAULTS[fault].of(layer)
        assert not compare_backward(layer, numbers(row).x).wrong, fault


@given(
    name=st.sampled_from(list(ROWS)),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    eps=st.floats(-9, 1).map(lambda exponent: 10**exponent),
    scale=st.floats(-3, 3).map(lambda exponent: 10**exponent),
    offset=st.floats(-4, 16).map(lambda exponent: 10**exponent),
    data=st.data(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("rows_only")
def test_no_false_alarm_in_any_layer(name, dtype, eps, scale, offset, data):
    """Any batch, any offset that the dtype holds: slices may be constant there, and 1e16 away nothing is known."""
    row, seed = ROWS[name], data.draw(st.integers(0, 2**32))
    layer = made(row, data.draw(st.sampled_from(["weight and bias", "nothing"])), dtype, eps=eps)
    batched = len(row.shape) > 2 and "unbatched" not in name
    shape = (data.draw(st.integers(1, 4)), *row.shape[1:]) if batched else row.shape
    x = np.random.default_rng(seed).standard_normal(shape) * scale + offset
    result = compare_backward(layer, np.clip(x, -6e4, 6e4).astype(dtype) if dtype == "float16" else x.astype(dtype), seed=seed)
    assert not result.wrong, str(result)


@pytest.mark.parametrize("name", ["BatchNorm2d", "RMSNorm-2"])
def test_unseen_is_true_in_other_layers(name, monkeypatch):
    """As `test_unseen_is_what_brute_force_says`, in float32 and with an eps too small to be seen."""
    row = ROWS[name]
    x = numbers(row).x.astype(np.float32)
    result = compare_backward(made(row, dtype="float32", eps=1e-9), x)
    assert result
    assert result.known == len(known_faults(made(row), row.shape))
    assert set(result.unseen) >= {"eps-twice", "eps-forgotten"}
    monkeypatch.setattr(compare, "_unseen", lambda *_: (1, []))
    found = []
    for fault in known_faults(made(row), row.shape).values():
        layer = made(row, dtype="float32", eps=1e-9)
        layer.backward = fault.of(layer)
        if not compare_backward(layer, x).wrong:
            found.append(fault.name)
    assert result.unseen == tuple(found)


@pytest.mark.parametrize(("name", "known"), [("BatchNorm2d", 41), ("GroupNorm", 42), ("LayerNorm", 41), ("RMSNorm-2", 34)])
def test_only_what_is_a_mistake_in_the_layer_is_known(name, known):
    row = ROWS[name]
    result = compare_backward(made(row), numbers(row).x)
    assert (result.known, result.unseen) == (known, ())
    assert f"Each of the {known} known mistakes would have shown" in str(result)
    assert result._repr_html_().count("<tr") == len(result.rows) + 1
    assert f"{row.kind.__name__}, eps = {EPS:g}, on float64 {row.shape}" in result._repr_html_()


def test_a_batch_of_one_cannot_show_what_is_wrong_with_the_batch():
    row = ROWS["GroupNorm"]
    result = compare_backward(made(row), numbers(row).x[:1])
    assert set(result.unseen) == {"m-counts-the-batch", "averaged-over-batch", "dgamma-batch-mean", "dgamma-first-instance"}


def test_lazy_layers_get_their_parameters_from_the_input():
    layer = nn.LazyInstanceNorm2d(eps=0.1, affine=True)
    result = compare_backward(layer, input_of())
    assert result, str(result)
    assert {"dgamma", "dbeta"} <= {row.quantity for row in result.rows}
    assert isinstance(layer.weight, nn.UninitializedParameter)  # nothing of the layer is changed


def test_a_norm_with_a_backward_of_its_own_inside():
    """Its forward does not read self.backward, so no mistake can be planted; it is compared as any layer is."""

    class Outside(nn.InstanceNorm2d):
        def forward(self, x):
            return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)

    class Wrong(nn.InstanceNorm2d):
        def forward(self, x):
            return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps, backward=FAULTS["unbiased"].backward)

    for kind, right in ((Outside, True), (Wrong, False)):
        result = compare_backward(kind(3, eps=0.1, affine=True), input_of())
        assert result.ok is right
        assert (result.known, result.unseen) == (3, ())
        assert "Known of any layer: one of its gradients a tenth too large." in str(result)


# -- layers of one's own -----------------------------------------------------------------------------------------------------------


class _Isru(Function):
    @staticmethod
    def forward(ctx, x, a):
        ctx.save_for_backward(x, a)
        return x / np.sqrt(1 + a * x * x)

    @staticmethod
    def backward(ctx, g):
        x, a = ctx.saved_tensors
        r = 1 / np.sqrt(1 + a * x * x)
        return g * r * r * r, np.sum(g * x * x * x * r * r * r) / -2


def mistaken(name, backward, forward=_Isru.forward):
    return type(name, (_Isru,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def with_result(change):
    """The right backward, its results changed."""
    return lambda ctx, g: change(*_Isru.backward(ctx, g))


def keeps_r(ctx, x, a):
    r = 1 / np.sqrt(1 + a * x * x)  # neither input nor output: a number of which no derivative is known
    ctx.save_for_backward(x, r)
    return x * r


def kept(ctx, g):
    x, r = ctx.saved_tensors
    return g * r * r * r, np.sum(g * x * x * x * r * r * r) / -2


class Isru(nn.Module):
    """x / sqrt(1 + a x**2), with the backward of a Function."""

    def __init__(self, function=_Isru, dtype="float64"):
        super().__init__()
        self.function, self.a = function, nn.Parameter(np.array(0.7, dtype))

    def forward(self, x):
        return self.function.apply(x, self.a)

    def formula(self, x, a):
        return x / np.sqrt(1 + a * x * x)


MISTAKES = {
    "dx": (mistaken("wrong", with_result(lambda dx, da: (dx * 1.001, da))), {"dx", "H u"}),
    "da": (mistaken("wrong", with_result(lambda dx, da: (dx, -da))), {"da"}),
    "da is 0": (mistaken("wrong", with_result(lambda dx, da: (dx, None))), {"da"}),
    "both are 0": (mistaken("wrong", with_result(lambda dx, da: (None, None))), {"dx", "da", "H u"}),
    "H u": (mistaken("wrong", kept, keeps_r), {"H u"}),
    "y": (mistaken("wrong", _Isru.backward, lambda ctx, x, a: 1.01 * _Isru.forward(ctx, x, a)), {"y"}),
    "nan": (mistaken("wrong", with_result(lambda dx, da: (dx * np.nan, da))), {"dx", "H u"}),
    "one is inf": (
        mistaken("wrong", with_result(lambda dx, da: (dx + np.where(dx == np.max(dx), 1 / (da - da.detach()), 0), da))),
        {"dx"},
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_right_layer_of_ones_own_agrees(dtype):
    layer = Isru(dtype=dtype)
    result = compare_backward(layer, input_of(dtype=dtype))
    assert result, str(result)
    assert [row.quantity for row in result.rows if row.opinion == "autograd"] == ["y", "dx", "da", "H u"]
    assert len(result.rows) == 9
    assert all(row.origin.startswith("roundings of") for row in result.rows)
    assert (result.layer, result.eps, result.m, result.known) == ("Isru", None, None, 2)
    assert result.unseen == (("da a tenth too large",) if dtype == "float16" else ())
    assert str(result).startswith(f"Isru, on {dtype} (2, 3, 4, 5): unit roundoff")
    assert result._repr_html_().count("<tr") == 10
    assert layer.a.grad is None


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_layer_of_ones_own_is_refused(mistake):
    function, wrong = MISTAKES[mistake]
    result = compare_backward(Isru(function), input_of())
    assert not result
    assert {row.quantity for row in result.rows if not row.ok and row.opinion == "autograd"} >= wrong
    assert set(result.wrong) - {f"{name} . v" for name in wrong} >= wrong
    assert set(result.wrong) <= {each for name in (*wrong, "H u") for each in (name, f"{name} . v")}
    assert ("keeps something as a plain number" in str(result)) == (mistake == "H u")


@given(
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    scale=st.floats(-2, 1).map(lambda exponent: 10**exponent),
    a=st.floats(0, 3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40)
def test_no_false_alarm_in_a_layer_of_ones_own(dtype, scale, a, seed):
    layer = Isru(dtype=dtype)
    layer.a.data = np.array(a)
    result = compare_backward(layer, input_of(1, dtype=dtype, scale=scale, seed=seed), seed=seed)
    assert not result.wrong, str(result)


def of_formula(formula, *parameters, forward=None):
    """A layer whose forward is its formula, unless told otherwise."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            for i, value in enumerate(parameters):
                setattr(self, f"p{i}", nn.Parameter(np.array(value)))

        def formula(self, x, *values):
            return formula(x, *values)

        def forward(self, x):
            return (forward or formula)(x, *self.parameters())

    return Layer()


FORMULAS = {
    "no parameter": (lambda x: x / np.sqrt(1 + x * x),),
    "two parameters": (lambda x, a, b: a * x * x + b, np.ones(5), 2.0),
    "linear": (lambda x, a: a * x, 3.0),
    "one number": (lambda x: np.sum(x * x),),
    "another shape": (lambda x, w: np.einsum("nchw,kc->nk", x, w), np.ones((2, 3))),
    "tanh": (np.tanh,),
    "softmax": (lambda x: np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True),),
    "relu": (lambda x: np.maximum(x, 0),),
    "a parameter without use": (lambda x, a: x * x, 1.0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_of_all_kinds(name):
    formula, *parameters = FORMULAS[name]
    result = compare_backward(of_formula(formula, *parameters), input_of())
    assert result, str(result)
    assert len(result.rows) == 6 + 3 * len(parameters)
    assert result.unseen == (("dp0 a tenth too large",) if name == "a parameter without use" else ())
    assumed = name in ("another shape", "tanh", "softmax", "relu")
    assert ("Tolerances are assumed, 1,000 roundings of the largest value: no error bound is known for np." in str(result)) == assumed
    assert {row.origin.startswith("assumed") for row in result.rows if row.opinion == "autograd"} == {assumed}
    tenth = of_formula(formula, *parameters, forward=lambda x, *values: formula(x, *values) + 0.1 * np.sum(x - x.detach()))
    assert "dx" in compare_backward(tenth, input_of()).wrong


def test_the_second_derivative_of_a_linear_layer_is_zero():
    result = compare_backward(of_formula(*FORMULAS["linear"]), input_of())
    row = next(row for row in result.rows if row.quantity == "H u")
    assert (row.difference, row.relative, row.verdict, row.origin) == (0, 0, "ok", "roundings of both ways: H u is 0")


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: x / (1 + np.abs(x)),
        lambda x: x / np.sqrt(np.var(x, axis=-1, keepdims=True) + 1),
        lambda x: np.sum(np.abs(x)) * np.sum(x * x),
        lambda x: np.sqrt(1 + x.astype(np.float64) * x),
    ],
    ids=["abs", "var", "real", "cast"],
)
def test_a_formula_that_drops_the_imaginary_part_is_compared_without_the_complex_step(formula):
    result = compare_backward(of_formula(formula), input_of())
    assert result, str(result)
    assert {row.opinion for row in result.rows} == {"autograd", "Richardson"}
    assert "The complex step of dx is left out" in str(result)
    tenth = of_formula(formula, forward=lambda x: formula(x) + 0.1 * np.sum(x - x.detach()))
    assert "dx" in compare_backward(tenth, input_of()).wrong


def test_modules_inside_and_buffers():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(np.array([1.0, -2.0, 3.0, 0.5, 2.0]))

        def forward(self, x):
            return x * self.weight

    class Outer(nn.Module):
        def __init__(self, slip):
            super().__init__()
            self.shift = nn.Parameter(np.array(0.3))
            self.inner, self.again = Scale(), [slip]
            self.again.append(self.inner)  # the same module, held where no registry looks
            self.register_buffer("mask", Tensor(np.array([1.0, 0.0, 1.0, 1.0, 0.0])))

        def forward(self, x):
            return (self.again[1](x) * self.again[0] + self.shift) ** 2 * self.mask

        def formula(self, x, shift, weight):
            return (x * weight + shift) ** 2 * self.mask

    result = compare_backward(Outer(1.0), input_of())
    assert result, str(result)
    assert [row.quantity for row in result.rows if row.opinion == "autograd"] == ["y", "dx", "dshift", "dinner.weight", "H u"]
    assert {"dx", "dinner.weight"} <= set(compare_backward(Outer(1.001), input_of()).wrong)


def test_a_parameter_that_two_modules_share_is_one():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(np.array(2.0))

        def forward(self, x):
            return x * self.weight

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Scale(), Scale()
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(self.one(x) ** 2)

        def formula(self, x, weight):
            return (x * weight) ** 2 * weight

    result = compare_backward(Tied(), input_of())
    assert result, str(result)
    assert [row.quantity for row in result.rows if row.opinion == "autograd"] == ["y", "dx", "done.weight", "H u"]


def test_a_forward_that_records_nothing_is_wrong_and_not_an_error():
    result = compare_backward(of_formula(lambda x, a: a * x * x, 2.0, forward=lambda x, a: (a * x * x).detach()), input_of())
    assert set(result.wrong) == {"dx", "dp0", "H u", "dx . v", "dp0 . v", "H u . v"}


def test_a_derivative_that_the_dtype_cannot_hold_is_told():
    """x**4 leaves float16: y is 0 there, and autograd's nan confirms nothing."""
    layer = of_formula(lambda x: x / np.sqrt(1 + x * x * x * x))
    result = compare_backward(layer, input_of(dtype="float16", scale=100.0))
    assert "dx" in result.wrong
    assert "Autograd itself gives nan or inf in dx, H u: float16 may be too narrow" in str(result)
    assert compare_backward(layer, input_of(scale=100.0))


def test_a_layer_that_does_nothing_is_blind():
    result = compare_backward(of_formula(lambda x: 0 * x), input_of())
    assert (result.wrong, result.ok) == ((), False)
    assert "BLIND: nothing could have shown. No known mistake could have shown on this input" in str(result)


def test_a_function_that_leaves_the_tensors_is_compared_without_its_second_derivative():
    def backward(ctx, g):
        x, a = (np.asarray(value) for value in ctx.saved_tensors)
        r = 1 / np.sqrt(1 + a * x * x)
        return g * r**3, np.sum(g * x**3 * r**3) / -2

    def forward(ctx, x, a):
        y = _Isru.forward(ctx, x, a)
        ctx.save_for_backward(x.detach(), a.detach())
        return y

    with_detached = compare_backward(Isru(mistaken("detached", backward, forward)), input_of())
    assert with_detached.wrong == ("H u", "H u . v")
    with pytest.raises(UnsupportedError, match="would forget its graph"):
        compare_backward(Isru(mistaken("plain", backward)), input_of())


@pytest.mark.parametrize(
    ("layer", "error", "told"),
    [
        (nn.Module(), TypeError, "Module has no formula: write a method formula"),
        (
            of_formula(lambda x: x * 2, forward=lambda x: x[0]),
            ShapeError,
            r"formula gives float64 \(2, 3, 4, 5\), and its forward float64 \(3,",
        ),
        (of_formula(lambda x: x, forward=lambda x: (x, x)), TypeError, "Layer.forward must give one Tensor for a Tensor, got tuple"),
        (of_formula(lambda x: 1.0, forward=lambda x: x), TypeError, "Layer.formula must give one Tensor for a Tensor, got float"),
        (of_formula(lambda x: np.linalg.inv(x), forward=lambda x: x), UnsupportedError, "numpy.linalg.inv has no derivative rule"),
    ],
    ids=["no formula", "shapes", "tuple", "number", "no rule"],
)
def test_layers_that_cannot_be_compared(layer, error, told):
    with pytest.raises(error, match=told):
        compare_backward(layer, input_of())


def test_a_formula_with_other_arguments():
    class Other(Isru):
        def formula(self, x):
            return x

    with pytest.raises(TypeError, match=r"Other.formula must take \(x, a\), one argument per parameter: too many positional arguments"):
        compare_backward(Other(), input_of())


def test_names_are_escaped_in_html():
    result = compare_backward(of_formula(lambda x: x * x, forward=lambda x: x * x.detach()), input_of())
    named = Comparison("<L>", None, (1,), "float64", 1e-16, None, result.rows, 1, (), "<note>")
    assert "&lt;L&gt;" in named._repr_html_()
    assert "&lt;note&gt;" in named._repr_html_()
    assert "<note>" not in named._repr_html_()


# -- wrong layers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_known_mistake_is_refused(fault):
    result = compare_backward(layer_of(backward=fault.backward), input_of())
    assert not result
    assert result.ok is False
    assert result.rows[0].ok  # y: the forward is right


def wrong_by(factor):
    def backward(x, gamma, beta, eps, dy):
        dx, dgamma, dbeta = staged_backward(x, gamma, beta, eps, dy)
        return dx * factor, dgamma, dbeta

    return backward


@pytest.mark.parametrize(("dtype", "factor"), [("float64", 1 + 1e-12), ("float32", 1 + 1e-6), ("float16", 1.005)])
def test_a_small_error_is_seen(dtype, factor):
    assert compare_backward(layer_of(dtype=dtype, backward=wrong_by(1)), input_of(dtype=dtype))
    result = compare_backward(layer_of(dtype=dtype, backward=wrong_by(factor)), input_of(dtype=dtype))
    assert {row.quantity for row in result.rows if not row.ok} >= {"dx"}


def test_an_error_in_the_second_derivative_alone_is_seen():
    """Right values of dx whose graph has lost x: the rows of H u are wrong, and no others."""

    def detached(x, gamma, beta, eps, dy):
        return staged_backward(x.detach() if isinstance(x, Tensor) else x, gamma, beta, eps, dy)

    result = compare_backward(layer_of(backward=detached), input_of())
    assert {(row.quantity, row.opinion) for row in result.rows if not row.ok} == {
        ("H u", "autograd"),
        ("H u . v", "Richardson + complex"),
    }


@pytest.mark.parametrize(
    "backward",
    [
        lambda x, gamma, beta, eps, dy: (np.ones(x.shape), np.ones(3), np.ones(3)),
        lambda x, gamma, beta, eps, dy: (dy * 2.0, gamma, beta),
        lambda x, gamma, beta, eps, dy: (x, x[0, :, 0, 0], gamma),
    ],
    ids=["plain arrays", "no x in dx", "nonsense"],
)
@pytest.mark.parametrize("affine", [True, False])
def test_a_backward_that_is_not_one_is_refused_not_raised(backward, affine):
    assert not compare_backward(layer_of(affine=affine, backward=backward), input_of())


@pytest.mark.parametrize("where", [0, 1, 2], ids=["dx", "dgamma", "dbeta"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_from_a_backward_are_refused(where, value):
    def backward(x, gamma, beta, eps, dy):
        found = list(staged_backward(x, gamma, beta, eps, dy))
        spoiled = np.zeros(found[where].shape)
        spoiled.flat[-1] = value
        found[where] = found[where] + spoiled
        return found

    result = compare_backward(layer_of(backward=backward), input_of())
    assert not result
    assert not next(row for row in result.rows if row.quantity == QUANTITIES[where + 1]).ok
    assert "WRONG" in str(result)


def test_nan_in_the_input_is_reported():
    x = input_of()
    x[1, 2, 3, 4] = np.nan
    result = compare_backward(layer_of(), x)
    assert not any(row.ok for row in result.rows)


# -- what could not have been seen ------------------------------------------------------------------------------------------------

UNSEEN = {
    "probe-like": (2, {}, {}, {}),
    "small eps, float32": (2, {"eps": 1e-5, "dtype": "float32"}, {"dtype": "float32"}, {}),
    "float16": (2, {"dtype": "float16"}, {"dtype": "float16"}, {}),
    "without gamma": (1, {"affine": False}, {}, {}),
    "unbatched": (3, {}, {"batched": False}, {}),
    "constant cotangent": (2, {}, {}, {"cotangent": np.ones((2, 3, 4, 5))}),
    "H u alone": (2, {"eps": 0.0, "affine": False}, {}, {"cotangent": input_of()}),
    "zero cotangent": (2, {}, {}, {"cotangent": np.zeros((2, 3, 4, 5))}),
    "centred": (1, {}, {"scale": 1e-6}, {}),
    "far away": (2, {"dtype": "float32"}, {"dtype": "float32", "offset": 1e6}, {}),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_unseen_is_what_brute_force_says(case, monkeypatch):
    """A mistake is listed exactly when the comparison, with that mistake planted, finds nothing wrong."""
    spatial, of_layer, of_input, more = UNSEEN[case]
    x = input_of(spatial, **of_input)
    layer = layer_of(spatial, **of_layer)
    mistakes = known_faults(layer, x.shape if x.ndim == spatial + 2 else (1, *x.shape))
    result = compare_backward(layer, x, **more)
    assert all(row.ok for row in result.rows)
    planted = compare_backward(layer_of(spatial, backward=FAULTS["sign"].backward, **of_layer), x, **more)
    assert planted.unseen == result.unseen  # it does not depend on what is planted
    monkeypatch.setattr(subject, "known_faults", lambda *_: {})  # the list is known: make it once only
    found = {name: compare_backward(layer_of(spatial, backward=fault.backward, **of_layer), x, **more) for name, fault in mistakes.items()}
    assert result.unseen == tuple(name for name, each in found.items() if all(row.ok for row in each.rows))
    assert result.unseen == tuple(name for name, each in found.items() if all(row.ok for row in each.rows if row.opinion == "autograd"))


def test_the_probe_shows_every_mistake_and_a_picture_does_not():
    assert compare_backward(layer_of(), input_of()).unseen == ()
    large = np.random.default_rng(0).uniform(0, 255, (1, 3, 200, 300)).astype(np.float16)
    assert set(compare_backward(layer_of(eps=1e-5, dtype="float16"), large).unseen) >= BLIND_AT_SMALL_EPS | {
        "unbiased",
        "m-counts-the-batch",
    }


def test_a_zero_cotangent_sees_nothing():
    result = compare_backward(layer_of(), input_of(), cotangent=np.zeros((2, 3, 4, 5)))
    assert all(row.ok for row in result.rows)
    assert result.unseen == tuple(FAULTS)
    assert not result, "a check that could not have failed proves nothing"
    assert "BLIND: nothing could have shown" in str(result)


def test_tolerances_that_are_too_wide_see_nothing_and_say_so(monkeypatch):
    """The negative control: with tolerances ten trillion times wider, a mistake passes, and stands in the list of the unseen."""
    planted = layer_of(backward=FAULTS["unbiased"].backward)
    assert not compare_backward(planted, input_of())
    honest = compare._Experiment.bounds.func
    wider = property(lambda trial: {way: {name: 1e13 * bound for name, bound in of.items()} for way, of in honest(trial).items()})
    monkeypatch.setattr(compare._Experiment, "bounds", wider)
    result = compare_backward(planted, input_of())
    assert all(row.ok for row in result.rows)
    assert "unbiased" in result.unseen


# -- the cotangent ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("seed", range(5))
def test_random_cotangent_keeps_both_means_away_from_zero(dtype, seed):
    """Noise alone has means of about 1 / sqrt(m), in which a mistake in the paths through the statistics would hardly show."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 3, 60, 60)) + 5
    x_hat = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)

    def means(g):
        return np.array([g.mean((2, 3)), (g * x_hat).mean((2, 3))]) / g.std()

    drawn, plain = means(random_cotangent(x.astype(dtype), per_instance(x.shape), rng)), means(rng.standard_normal(x.shape))
    assert np.all(np.abs(drawn) > 0.25)
    assert np.all(np.abs(plain) < 0.1)  # negative control
    assert {-1, 1} == set(np.sign(drawn[0].flat)) == set(np.sign(drawn[1].flat))
    assert len(np.unique(drawn)) == drawn.size


def test_random_cotangent_of_a_large_float16_input_stays_in_range():
    x = np.random.default_rng(0).standard_normal((1, 1, 400, 500)).astype(np.float16)
    g = random_cotangent(x, per_instance(x.shape), np.random.default_rng(1))
    assert 0 < np.abs(g).sum() < np.finfo(np.float16).max
    assert np.abs(random_cotangent(x.astype(np.float32), per_instance(x.shape), np.random.default_rng(1))).sum() > np.finfo(np.float16).max


def test_the_seed_of_the_input_may_be_the_seed_of_the_comparison():
    """A cotangent proportional to x - mu makes dx vanish; that of seed=0 is another one than x from default_rng(0)."""
    received = {}

    def backward(x, gamma, beta, eps, dy):
        dx, dgamma, dbeta = staged_backward(x, gamma, beta, eps, dy)
        if not isinstance(dx, Tensor):
            received[name] = np.max(np.abs(dx))
        return dx, dgamma, dbeta

    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for name, cotangent in (("drawn", None), ("x", x)):
        assert compare_backward(layer_of(eps=0, backward=backward), x, seed=0, cotangent=cotangent)
    assert received["drawn"] > 1
    assert received["x"] < 1e-12  # negative control


def test_seeds():
    """The same seed gives the same rows, another one others."""
    first, again, other = (compare_backward(layer_of(), input_of(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert [row.relative for row in first.rows] != [row.relative for row in other.rows]


def test_a_cotangent_of_ones_is_used():
    """dbeta is then the number of elements per channel; and sum(y) shows none of the mistakes in the variance path."""
    result = compare_backward(layer_of(), input_of(), cotangent=np.ones((2, 3, 4, 5)))
    assert result
    assert {"no-variance-path", "sign", "unbiased"} <= set(result.unseen)
    assert "no-mean-path" not in result.unseen


# -- what comes back --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def right():
    return compare_backward(layer_of(), input_of())


@pytest.fixture(scope="module")
def wrong():
    return compare_backward(layer_of(dtype="float32", backward=FAULTS["unbiased"].backward), input_of(dtype="float32"))


def test_rows(right):
    assert [row.quantity for row in right.rows if row.opinion == "autograd"] == QUANTITIES
    assert [(row.quantity, row.opinion) for row in right.rows[5:]] == [
        *((f"{name} . v", opinion) for name in QUANTITIES[1:4] for opinion in ("Richardson", "complex step")),
        ("H u . v", "Richardson + complex"),
    ]
    for row in right.rows:
        assert row.difference >= 0
        assert 0 <= row.relative < 1e-12
        assert 0 < row.tolerance < 1e-7
        assert 0 <= row.used <= 1
        assert row.ok
        assert row.origin.startswith("roundings of")
    assert (right.layer, right.eps, right.shape, right.dtype, right.m) == ("InstanceNorm2d", 0.1, (2, 3, 4, 5), "float64", 20)
    assert right.unit == 2.0**-53


@pytest.mark.parametrize(("used", "ok"), [(0.0, True), (1.0, True), (1.0000001, False), (math.inf, False), (math.nan, False)])
def test_a_row_is_ok_up_to_its_whole_tolerance(used, ok):
    row = Row("dx", "autograd", 1.0, 1.0, 1.0, used, "")
    assert row.ok is ok
    assert bool(Comparison("L", 0.1, (1,), "float64", 1e-16, 1, (row,), 42)) is ok


def test_str(right, wrong):
    lines = str(right).splitlines()
    assert len(lines) == 1 + 1 + 12 + 1
    assert lines[0].startswith("InstanceNorm2d, eps = 0.1, on float64 (2, 3, 4, 5): m = 20")
    assert lines[-1] == f"AGREE. Each of the {len(FAULTS)} known mistakes would have shown on this input."
    assert str(wrong).splitlines()[-1].startswith(f"DIFFER: {', '.join(wrong.wrong)}. ")
    assert set(wrong.wrong) == {row.quantity for row in wrong.rows if not row.ok}
    assert ("WRONG" in str(right), "WRONG" in str(wrong)) == (False, True)
    assert str(right.table()) in str(right)
    assert right.table().marks == ["ok"] * 12
    assert wrong.table().marks.count("WRONG") == sum(not row.ok for row in wrong.rows) > 0


def test_unseen_sentence(wrong):
    one = Comparison("L", 0.1, (1,), "float64", 1e-16, 1, (), len(FAULTS), ("sign", "no-2"))
    assert one.unseen_sentence() == f"2 of the {len(FAULTS)} known mistakes could NOT have shown on this input: sign, no-2."


def test_html(right, wrong):
    assert right._repr_html_().count("<tr") == 13
    assert "<tr style" not in right._repr_html_()
    assert wrong._repr_html_().count("<td>WRONG</td>") == sum(not row.ok for row in wrong.rows)
    assert wrong.unseen_sentence() in wrong._repr_html_()


def test_to_dict_survives_json(right, wrong):
    for result in (right, wrong):
        described = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert described["ok"] is result.ok
        assert tuple(described["shape"]) == result.shape
        assert tuple(described["unseen"]) == result.unseen
        for row, told in zip(result.rows, described["rows"], strict=True):
            assert (told.pop("ok"), told.pop("verdict")) == (row.ok, row.verdict)
            assert Row(**told) == row


def test_to_dict_has_no_nan_and_no_inf():
    x = input_of()
    x[0, 0, 0, 0] = np.nan
    described = json.loads(json.dumps(compare_backward(layer_of(), x).to_dict(), allow_nan=False))
    assert described["rows"][1]["difference"] is None
    assert described["rows"][1]["ok"] is False


def test_progress_is_told(right):
    steps = []
    compare_backward(layer_of(), input_of(), progress=steps.append)
    assert {"analytic backward", "autograd"} < set(steps)
    assert sum("would this input show" in step for step in steps) == len(FAULTS)


# -- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4, 5, 6), (2, 4, 5, 6), (2, 3, 1, 1), (0, 3, 4, 4), (2, 3, 0, 4)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(ShapeError):
        compare_backward(layer_of(), np.zeros(shape))


@pytest.mark.parametrize("dtype", [int, bool, complex, np.longdouble])
def test_numbers_that_do_not_fit(dtype):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is double here")
    with pytest.raises(DTypeError, match=str(np.dtype(dtype))):
        compare_backward(layer_of(), np.ones((2, 3, 4, 5), dtype))


def test_a_cotangent_of_another_shape():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\)"):
        compare_backward(layer_of(), input_of(), cotangent=np.ones((2, 3, 4)))


def test_a_copy_of_the_layer_gives_the_same(right):
    assert compare_backward(copy.deepcopy(layer_of()), input_of()) == right


def test_a_backward_on_plain_arrays_is_compared_without_its_second_derivative(rng):
    """np.asarray leaves the world of Tensors: the first derivatives are judged, and the sentence says what was not."""

    def backward(x, gamma, beta, eps, dy):
        return staged_backward(*(np.asarray(value) for value in (x, gamma, beta)), eps, np.asarray(dy))

    def wrong(x, gamma, beta, eps, dy):
        return FAULTS["no-2"].backward(*(np.asarray(value) for value in (x, gamma, beta)), eps, np.asarray(dy))

    x = rng.normal(size=(2, 3, 8))
    for function, right in ((backward, True), (wrong, False)):
        found = nn.compare_backward(nn.InstanceNorm1d(3, eps=0.1, affine=True, dtype=np.float64, backward=function), x)
        assert found.ok is right
        assert {row.quantity for row in found.rows} >= {"dx", "dgamma", "dbeta"}
        assert not any("H u" in row.quantity for row in found.rows)
        assert "H u was not compared" in str(found)


def test_it_works_inside_no_grad(rng):
    with no_grad():
        assert nn.compare_backward(nn.InstanceNorm1d(3, eps=0.1), rng.normal(size=(2, 3, 8)))


def test_a_backward_that_loses_its_graph_is_told_why(rng):
    """dx is right in value, but the statistics are kept as plain numbers: the second derivative lacks them."""

    def frozen(x, gamma, beta, eps, dy):
        plain = x.detach() if isinstance(x, Tensor) else x
        dx, _, _ = staged_backward(plain, gamma, beta, eps, dy)
        return dx, *staged_backward(x, gamma, beta, eps, dy)[1:]

    found = nn.compare_backward(nn.InstanceNorm1d(3, eps=0.1, affine=True, dtype=np.float64, backward=frozen), rng.normal(size=(2, 3, 8)))
    assert found.wrong == ("H u", "H u . v")
    assert "keeps something as a plain number" in str(found)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"cotangent": 1j * np.ones((2, 3, 4, 5))}, DTypeError, "the cotangent must be real numbers, got complex128"),
        ({"seed": -1}, ValueError, "seed must not be negative, got -1"),
        ({"x": (2, 3, 4, 5)}, TypeError, r"an array is needed, not its shape; .*normal\(size=\(2, 3, 4, 5\)\)"),
    ],
)
def test_options_that_make_no_sense(options, error, told):
    with pytest.raises(error, match=told):
        compare_backward(layer_of(), **{"x": input_of(), **options})


def test_a_backward_that_takes_other_arguments_is_told_which():
    layer = layer_of(backward=lambda x, gamma, beta, dy: (dy, gamma, beta))
    with pytest.raises(TypeError, match=r"<lambda> must take \(x, gamma, beta, eps, dy\) and return \(dx, dgamma, dbeta\): too many"):
        compare_backward(layer, input_of())


def test_numbers_whose_squares_overflow_are_refused():
    with pytest.raises(ValueError, match=r"squares of values up to \d\.\de\+160 overflow float64"):
        compare_backward(layer_of(), input_of(scale=1e160))


def test_one_style_per_instance_is_not_compared():
    layer = layer_of()
    layer.weight = nn.Parameter(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"one style for all instances is compared, weight has shape \(2, 3\)"):
        compare_backward(layer, input_of())
