"""Symbols as numbers: what they compute is what sympy knows, and 0 is proved or refuted."""

import operator
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from minitensor.errors import DTypeError, UnsupportedError
from minitensor.nn.derivation.symbolic import Symbols

NAMES = ("a", "b")
A, B = sympy.symbols("a b", positive=True)


def pair():
    symbols = Symbols(NAMES)
    return symbols, symbols.symbol("a"), symbols.symbol("b")


@st.composite
def formulas(draw, depth=2):
    """A formula of two numbers, as a function of these and of where its functions come from."""
    if depth == 0:
        kind = draw(st.sampled_from(["a", "b", "number"]))
        number = Fraction(draw(st.integers(1, 5)), draw(st.integers(1, 3)))
        return {"a": lambda a, b, f: a, "b": lambda a, b, f: b, "number": lambda a, b, f: f("number")(number)}[kind]
    kind = draw(st.sampled_from(["add", "sub", "mul", "truediv", "sqrt", "exp", "log", "tanh"]))
    left = draw(formulas(depth=depth - 1))
    if kind in ("sqrt", "exp", "log", "tanh"):
        return lambda a, b, f: f(kind)(b / (left(a, b, f) * left(a, b, f) + a))  # neither negative nor large
    right = draw(formulas(depth=depth - 1))
    if kind == "truediv":
        return lambda a, b, f: left(a, b, f) / (right(a, b, f) * right(a, b, f) + a)
    return lambda a, b, f: getattr(operator, kind)(left(a, b, f), right(a, b, f))


def numpys(name):
    return (lambda number: number) if name == "number" else getattr(np, name)


def sympys(name):
    return (lambda number: sympy.Rational(number.numerator, number.denominator)) if name == "number" else getattr(sympy, name)


@settings(max_examples=25)
@given(formulas())
def test_values_and_derivatives_are_those_of_sympy(formula):
    symbols, a, b = pair()
    made = formula(a, b, numpys) + 0 * a
    at = {"a": 1.25, "b": 0.75}
    expected = formula(A, B, sympys)
    for found, truth in (
        (made, expected),
        (symbols.derivative(made, a), sympy.diff(expected, A)),
        (symbols.derivative(made, b), sympy.diff(expected, B)),
    ):
        number = float(sympy.sympify(truth).evalf(subs={A: 1.25, B: 0.75}))
        assert symbols.substituted(found + 0 * a, {name: complex(value) for name, value in at.items()}) == pytest.approx(number, rel=1e-9)
    assert symbols.is_zero(made - made) is True
    assert symbols.is_zero(made - formula(a, b, numpys)) is True
    assert symbols.is_zero(made * made + 1) is False


@pytest.mark.parametrize(
    "zero",
    [
        lambda a, b: np.sqrt(a + b) ** 2 - a - b,
        lambda a, b: (a + b) ** 0.5 - np.sqrt(b + a),
        lambda a, b: (a + b) ** -1.5 * (a + b) - 1 / np.sqrt(a + b),
        lambda a, b: 1 / np.sqrt(a + b) - np.sqrt(a + b) / (a + b),
        lambda a, b: 1 / (a + b) + 1 / (a - b) - 2 * a / (a * a - b * b),
        lambda a, b: (a * a - b * b) / (a - b) - a - b,
        lambda a, b: np.sqrt(1 + np.sqrt(a)) ** 4 - 1 - 2 * np.sqrt(a) - a,
        lambda a, b: np.exp(a + 2 * b) - np.exp(a) * np.exp(b) ** 2,
        lambda a, b: np.exp(-a) - 1 / np.exp(a),
        lambda a, b: np.exp(a - np.log(a + b)) - np.exp(a) / (a + b),
        lambda a, b: a / 3 + a * (2.0 / 3) - a,
        lambda a, b: a**-2 - 1 / (a * a),
        lambda a, b: a - a,
    ],
)
def test_what_is_zero_is_proved(zero):
    symbols, a, b = pair()
    assert symbols.is_zero(zero(a, b)) is True


@pytest.mark.parametrize(
    "nonzero",
    [
        lambda a, b: np.sqrt(a + b) - np.sqrt(a) - np.sqrt(b),
        lambda a, b: np.sqrt(a) * np.sqrt(a + b) - a,
        lambda a, b: 1 / (a + b) - 1 / a - 1 / b,
        lambda a, b: np.exp(a) - np.exp(2 * a),
        lambda a, b: 1e-6 * a,
        lambda a, b: np.log(a + b) - np.tanh(a),
        lambda a, b: np.exp(a / 3) ** 3 - np.exp(b),
    ],
)
def test_what_is_not_zero_is_refuted(nonzero):
    symbols, a, b = pair()
    assert symbols.is_zero(nonzero(a, b)) is False


@pytest.mark.parametrize(
    "unknown",
    [
        lambda a, b: np.sqrt(a) * np.sqrt(b) - np.sqrt(a * b),
        lambda a, b: np.sqrt(4 * a) - 2 * np.sqrt(a),
        lambda a, b: np.log(a * b) - np.log(a) - np.log(b),
        lambda a, b: np.exp(a / 3) ** 3 - np.exp(a),
    ],
)
def test_what_it_cannot_prove_it_does_not_refute(unknown):
    symbols, a, b = pair()
    assert symbols.is_zero(unknown(a, b)) is None


def test_a_derivative_goes_through_all_that_was_adjoined():
    symbols, a, b = pair()
    y = np.exp(np.sqrt(a + b)) / np.log(a)
    s = np.sqrt(a + b)
    assert symbols.is_zero(symbols.derivative(y, b) - y / (2 * s)) is True
    assert symbols.is_zero(symbols.derivative(y, a) - y / (2 * s) + y / (np.log(a) * a)) is True
    t = np.tanh(a * b)
    assert symbols.is_zero(symbols.derivative(t, b) - a * (1 - t * t)) is True


def test_ordinary_numpy_code_runs_in_object_arrays():
    symbols, a, b = pair()
    x = np.array([a, b, a * b], dtype=object)
    assert symbols.is_zero(np.mean(x) - (a + b + a * b) / 3) is True
    assert symbols.is_zero(np.var(x[:2]) - (a - b) ** 2 / 4) is True
    assert np.sum(a * x) == a * np.sum(x)  # a scalar times an array
    assert (2.5 * x)[0] == a * Fraction(5, 2) == np.float64(2.5) * a
    assert (x @ x) == a * a + b * b + a * a * b * b
    assert np.all((1 / x)[:2] == np.array([1 / a, 1 / b]))


def test_comparisons_look_at_the_formula():
    _, a, b = pair()
    assert a + b == b + a
    assert a != b
    assert a != 0
    assert a - a == 0
    assert not a - a
    assert hash(a + b) == hash(b + a)
    assert +a == a
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        with pytest.raises(TypeError, match="not supported"):
            compare(a, b)


def test_it_becomes_no_float():
    _, a, _ = pair()
    with pytest.raises(TypeError):
        float(a)
    with pytest.raises(TypeError):
        np.zeros(2)[0] = a


def test_what_is_no_number_is_declined():
    _, a, _ = pair()
    with pytest.raises(TypeError):
        a + "1"
    with pytest.raises(DTypeError, match="is no real number"):
        a + np.complex128(1j)
    with pytest.raises(ArithmeticError, match="nan is no rational number"):
        a + float("nan")
    with pytest.raises(UnsupportedError, match="only whole and half exponents"):
        a ** (1 / 3)
    with pytest.raises(ZeroDivisionError, match="division by the formula 0"):
        1 / (a - a)


def test_there_is_room_for_so_many_functions():
    _, a, _ = pair()
    many = a + np.arange(100)
    with pytest.raises(UnsupportedError, match=r"more than \d+ different roots"):
        np.sqrt(many)


def test_it_prints_as_sympy_does():
    _, a, b = pair()
    assert str(np.sqrt(a + b) / (a - b)) == "sqrt(a + b)/(a - b)"
    assert str(np.exp(np.sqrt(a)) * 2) == "2*exp(sqrt(a))"
