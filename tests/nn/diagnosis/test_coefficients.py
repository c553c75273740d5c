"""The three coefficients of a gradient: planted products are read off and named, and what is no such product is not."""

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitensor.nn.derivation import FAULTS, staged_backward
from minitensor.nn.diagnosis import coefficients, probes
from minitensor.nn.diagnosis.coefficients import RIGHT

LAYERS = ("instance_norm", "batch_norm", "layer_norm", "group_norm")
SCALARS = {
    "instance_norm": ("m", "(m - 1)", "N", "W", "s", "gamma"),
    "batch_norm": ("m", "(m - 1)", "s", "gamma"),
    "layer_norm": ("m", "(m - 1)", "N", "s"),  # gamma varies within a slice
    "group_norm": ("m", "(m - 1)", "N", "W", "s"),
}


def made_of(probe):
    """The three terms, in the shape of the view, and the scalars by their names, which broadcast against them."""
    where = probe.layout
    x, dy = probe.x.reshape(where.view), probe.dy.reshape(where.view)
    gamma = np.broadcast_to(where.spread(probe.gamma), where.view)
    means = {"axis": where.axes, "keepdims": True}
    c = x - x.mean(**means)
    v = (c**2).mean(**means)
    s = np.sqrt(v + probe.eps)
    x_hat, h = c / s, gamma * dy
    terms = h / s, h.mean(**means) / s, x_hat * (h * x_hat).mean(**means) / s
    sizes = {"m": where.m, "N": probe.x.shape[0], "W": probe.x.shape[-1]}
    return terms, sizes | {"s": s, "gamma": gamma, "v": v, "eps": probe.eps, "sqrt": np.sqrt}


def value_of(name, scalars):
    """A name such as ``-2 m/(3 s^2)``, computed."""
    product = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", name).replace("^", "**")
    return eval(product, {"__builtins__": {}}, dict(scalars))


def planted(layer, names):
    """The gradients on the probes of this layer whose coefficients have these names, or are these numbers."""
    found = []
    for probe in probes(layer):
        terms, scalars = made_of(probe)
        dx = sum(value_of(str(name), scalars) * term for name, term in zip(names, terms, strict=True))
        found.append(dx.reshape(probe.x.shape))
    return found


def named(layer, names):
    return coefficients(probes(layer), planted(layer, names))


@pytest.mark.parametrize("layer", LAYERS)
def test_of_what_is_right_they_are_1_and_minus_1_and_minus_1(layer):
    given_ = probes(layer)
    right = [staged_backward(p.x, p.gamma, p.beta, p.eps, p.dy, where=lambda _, p=p: p.layout)[0] for p in given_]
    found = coefficients(given_, right)
    assert str(found) == "1 | -1 | -1"
    assert found.named
    np.testing.assert_allclose(found.values, RIGHT, rtol=1e-12)
    assert found.residual < 1e-13


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("no-mean-path", "1 | 0 | -1"),
        ("no-variance-path", "1 | -1 | 0"),
        ("no-direct-path", "0 | 0 | -1"),
        ("mean-without-1/m", "1 | -m | -1"),
        ("variance-with-1/m-twice", "1 | -1 | -1/m"),
        ("unbiased", "1 | -1 | -m/(m - 1)"),
        ("averaged-over-batch", "1/N | -1/N | -1/N"),
        ("no-half", "1 | -1 | -2"),
        ("s-cubed", "1 | -1 | -1/s"),
        ("eps-forgotten", "s/sqrt(v) | -s/sqrt(v) | -s^3/sqrt(v)^3"),
        ("gamma-forgotten", "1/gamma | -1/gamma | -1/gamma"),
        ("gamma-twice", "gamma | -gamma | -gamma"),
        ("variance-not-summed", "? | ? | ?"),
    ],
)
def test_of_known_mistakes(fault, names):
    """Derived by hand from what each of them does."""
    given_ = probes("instance_norm")
    assert str(coefficients(given_, [FAULTS[fault].backward(p.x, p.gamma, p.beta, p.eps, p.dy)[0] for p in given_])) == names


@st.composite
def products(draw, layer):
    """A rational number times one or two scalars, or the square of one, by its name: not so small that rounding would hide it."""
    rational = Fraction(draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    some = draw(st.lists(st.sampled_from(SCALARS[layer]), max_size=2, unique=True))
    powers = {name: draw(st.sampled_from((-2, -1, 1, 2) if len(some) == 1 else (-1, 1))) for name in some}
    product = [str(rational.numerator), *(f"{name}^{power}" for name, power in powers.items() if power > 0)]
    under = [str(rational.denominator), *(f"{name}^{-power}" for name, power in powers.items() if power < 0)]
    return f"{draw(st.sampled_from(('', '-')))}{' '.join(product)}/({' '.join(under)})"


@pytest.mark.parametrize("layer", LAYERS)
@settings(max_examples=25)
@given(st.data())
def test_planted_products_are_read_off(layer, data):
    names = [data.draw(products(layer)) for _ in RIGHT]
    found = named(layer, names)
    assert found.named, found
    for name, told in zip(names, found.names, strict=True):
        for probe in probes(layer, seed=1):  # other numbers than those that they were found with
            scalars = made_of(probe)[1]
            np.testing.assert_allclose(value_of(told, scalars), value_of(name, scalars), rtol=1e-9, err_msg=f"{told} for {name}")


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from((-1, 1)))
def test_a_rational_number_is_printed_in_lowest_terms(top, bottom, sign):
    wanted = Fraction(sign * top, bottom)
    assert named("batch_norm", (1, f"{sign * top}/{bottom}", -1)).names == ("1", str(wanted), "-1")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("m/(m - 1)", "m/(m - 1)"),
        ("(m - 1)/m", "(m - 1)/m"),
        ("1/(2 (m - 1)^2)", "1/(2 (m - 1)^2)"),
        ("-3 N/(2 m)", "-3 N/(2 m)"),
        ("m^2 s", "m^2 s"),
        ("1/m^2", "1/m^2"),
        ("s/(sqrt(v) + eps)", "s/(sqrt(v) + eps)"),
        ("s^3/sqrt(v m/(m - 1) + eps)^3", "s^3/sqrt(v m/(m - 1) + eps)^3"),
        ("2 gamma^2", "2 gamma^2"),
        ("-W/m", "-W/m"),
    ],
)
def test_how_products_are_printed(name, told):
    assert named("instance_norm", (1, name, -1)).names == ("1", told, "-1")


@pytest.mark.parametrize("layer", LAYERS)
def test_zero_is_told_of_each_alone(layer):
    for names in (("0", "-1", "-1"), ("1", "0", "-1"), ("1", "-1", "0"), ("0", "0", "-1"), ("0", "0", "0")):
        found = named(layer, names)
        assert found.names == names
        assert found.named


@pytest.mark.parametrize("factor", ["sqrt(2)", "7/11", "(1 + s)", "(m + 1)", "s^0.5", "eps"])
def test_what_is_no_such_product_has_no_name(factor):
    found = named("instance_norm", (1, -1, f"-{factor}"))
    assert found.names == ("1", "-1", "?")
    assert not found.named
    assert found.residual < 1e-12


def test_zero_in_some_slices_alone_has_no_name():
    dx = planted("instance_norm", RIGHT)
    for probe, value in zip(probes("instance_norm"), dx, strict=True):
        terms = made_of(probe)[0]
        value[0] += terms[1][0]  # takes the path through the mean away from the first instance
    found = coefficients(probes("instance_norm"), dx)
    assert found.names == ("1", "?", "-1")
    assert found.residual < 1e-12


@pytest.mark.parametrize("off", [1e-6, 1e-3])
def test_a_number_that_is_not_quite_a_product_has_no_name(off):
    assert named("batch_norm", (1, -1, -1 - off)).names == ("1", "-1", "?")


@pytest.mark.parametrize("layer", LAYERS)
def test_what_lies_outside_the_three_terms_is_left_over(layer, rng):
    given_ = probes(layer)
    noise = [rng.standard_normal(probe.x.shape) for probe in given_]
    found = coefficients(given_, noise)
    assert found.names == ("?", "?", "?")
    assert found.residual > 0.5
    share = 1e-3
    spoiled = [value + share * each for value, each in zip(planted(layer, RIGHT), noise, strict=True)]
    found = coefficients(given_, spoiled)
    assert found.names == ("?", "?", "?")
    assert 1e-5 < found.residual < 1e-2
    np.testing.assert_allclose(found.values, RIGHT, atol=0.1)


def test_one_spoiled_probe_is_enough():
    dx = planted("instance_norm", RIGHT)
    dx[-1] = dx[-1].copy()
    dx[-1].flat[0] += 1e-3
    assert not coefficients(probes("instance_norm"), dx).named


def test_probes_with_nan_or_inf_are_left_out():
    dx = planted("instance_norm", RIGHT)
    dx[0], dx[3] = np.full_like(dx[0], np.nan), np.full_like(dx[3], np.inf)
    assert str(coefficients(probes("instance_norm"), dx)) == "1 | -1 | -1"
    nothing = coefficients(probes("instance_norm"), [np.full_like(each, np.nan) for each in dx])
    assert nothing.names == ("?", "?", "?")
    assert not nothing.named
    assert np.isnan([*nothing.values, nothing.residual]).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e9])
def test_a_gradient_of_another_scale_is_not_called_zero(scale):
    found = named("instance_norm", [f"{number * scale!r}" for number in RIGHT])
    assert "0" not in found.names
    np.testing.assert_allclose(found.values, np.multiply(RIGHT, scale), rtol=1e-9)


def test_values_are_medians_over_the_slices():
    found = named("instance_norm", ("gamma", "-m", "-s"))
    gamma, m, s = [], [], []
    for probe in probes("instance_norm"):
        scalars = made_of(probe)[1]
        per_slice = probe.x.shape[:2]
        gamma += list(scalars["gamma"][:, :, 0, 0].ravel())
        m += [scalars["m"]] * int(np.prod(per_slice))
        s += list(scalars["s"].ravel())
    np.testing.assert_allclose(found.values, (np.median(gamma), -np.median(m), -np.median(s)), rtol=1e-10)
