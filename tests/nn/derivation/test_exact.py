"""Exact numbers: a field with a derivative, in which learners' NumPy code runs as it stands."""

import math
import os
import subprocess
import sys
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minitensor.errors import DTypeError, UnsupportedError
from minitensor.nn.derivation.exact import Exact, IrrationalRoot, exact, random_rationals, tangents, values

fractions = st.fractions(-20, 20, max_denominator=30)
duals = st.builds(Exact, fractions, fractions)
floats = st.floats(-(2**50), 2**50, allow_subnormal=False)


def parts(number):
    return number.value, number.tangent


def same(one, other):
    return one.shape == other.shape and (values(one) == values(other)).all() and (tangents(one) == tangents(other)).all()


# ---------------------------------------------------------------- a field, and its derivative


@given(duals, duals, duals)
def test_the_laws_of_a_field(a, b, c):
    assert parts(a + b) == parts(b + a)
    assert parts(a * b) == parts(b * a)
    assert parts(a + (b + c)) == parts((a + b) + c)
    assert parts(a * (b * c)) == parts((a * b) * c)
    assert parts(a * (b + c)) == parts(a * b + a * c)
    assert parts(a - b) == parts(a + -b)
    assert parts(a + 0) == parts(a * 1) == parts(+a) == parts(a)
    assume(b)
    assert parts(a / b * b) == parts(a)
    assert parts(a * b**-1) == parts(a / b)


@given(duals, duals)
def test_the_rules_of_product_and_quotient(a, b):
    (u, du), (v, dv) = parts(a), parts(b)
    assert (a * b).tangent == du * v + u * dv
    assume(v)
    assert (a / b).tangent == (du * v - u * dv) / v**2


RATIONAL = {
    "1 / (x x + 1)": lambda x: 1 / (x * x + 1),
    "(2 x - 3) x / (x x + 5)": lambda x: (2 * x - 3) * x / (x * x + 5),
    "x**3 - x / 7": lambda x: x**3 - x / 7,
    "((x x + 1)**2)**0.5": lambda x: ((x * x + 1) ** 2) ** 0.5,
    "((x x + 1)**2)**-1.5": lambda x: ((x * x + 1) ** 2) ** -1.5,
    "np.sqrt(np.square(x x + 2))": lambda x: np.sqrt(np.square(x * x + 2)),
    "abs(x + 40) / 3 - 1": lambda x: abs(-x - 40) / 3 - 1,
}


@pytest.mark.parametrize("f", RATIONAL.values(), ids=RATIONAL)
@settings(max_examples=25)
@given(x=fractions)
def test_the_tangent_is_the_limit_of_the_difference_quotient(f, x):
    """In rationals nothing cancels: halving h takes the error of the central difference to a quarter, down to any size."""
    slope = f(Exact(x, 1)).tangent

    def error(h):
        return abs((f(Exact(x + h)) - f(Exact(x - h))).value / (2 * h) - slope)

    h = Fraction(1, 10**12)
    assert error(h) <= Fraction(1, 10**18)
    assert error(h / 2) <= error(h) * Fraction(1001, 4000)


@given(fractions, fractions, st.integers(-5, 5))
def test_powers(s, t, n):
    assume(s)
    assert parts(Exact(s, t) ** n) == (s**n, n * s ** (n - 1) * t)
    root, half = abs(s), Fraction(n, 2)
    for exponent in (half, n / 2):  # x**(n/2) at x = s s
        assert parts(Exact(s * s, t) ** exponent) == (root**n, half * root ** (n - 2) * t)


def test_powers_at_0():
    assert parts(Exact(0, 3) ** 0) == (1, 0)
    assert parts(Exact(0, 3) ** 1) == (0, 3)
    assert parts(Exact(0, 3) ** 2) == (0, 0)
    with pytest.raises(ZeroDivisionError, match=r"\(1\) / \(0 \+ 3 d\)"):
        Exact(0, 3) ** -1


@given(duals)
def test_the_transcendental_functions_have_their_derivatives_signs_and_reflections(a):
    e, t = a.exp(), a.tanh()
    assert e.value > 0
    assert (e.value > 1) == (a.value > 0)
    assert e.tangent == e.value * a.tangent
    assert parts((-a).exp()) == parts(1 / e)
    assert abs(t.value) < 1
    assert (t.value > 0) == (a.value > 0)
    assert t.tangent == (1 - t.value**2) * a.tangent
    assert parts((-a).tanh()) == parts(-t)
    assume(a.value > 0)
    assert (a.log().value > 0) == (a.value > 1)
    assert a.log().tangent == a.tangent / a.value
    assert parts((1 / a).log()) == parts(-a.log())


def test_the_transcendental_functions_at_their_fixed_points():
    assert parts(Exact(0, 2).exp()) == (1, 2)
    assert parts(Exact(1, 2).log()) == (0, 2)
    assert parts(Exact(0, 2).tanh()) == (0, 2)


def test_the_transcendental_functions_are_the_same_in_every_process():
    code = "from minitensor.nn.derivation.exact import Exact; x = Exact(7) / 3; print([x.exp(), x.log(), x.tanh()])"
    x = Exact(7) / 3
    environment = {**os.environ, "PYTHONHASHSEED": "20240607"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert other == f"{[x.exp(), x.log(), x.tanh()]}\n"


def test_what_transcendental_functions_can_and_cannot_show():
    """A softmax that shifts by the maximum is right, and yet unequal: the documented limit."""
    x = exact([1, 2, 4])
    plain = np.exp(x) / np.exp(x).sum()
    shifted = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    assert plain.sum() == shifted.sum() == 1
    assert not same(plain, shifted)
    assert same(1 / (1 + np.exp(-x)), np.exp(x) / (np.exp(x) + 1))


# ---------------------------------------------------------------- what refuses


@pytest.mark.parametrize("radicand", [2, Fraction(4, 3), Fraction(3, 4), -4, 10**40 + 1])
def test_an_irrational_root_is_named(radicand):
    for root in (Exact.sqrt, np.sqrt, lambda x: x**0.5, lambda x: x**-1.5):
        with pytest.raises(IrrationalRoot, match="no rational number") as caught:
            root(Exact(radicand, 1))
        assert caught.value.radicand == radicand
    with pytest.raises(IrrationalRoot, match=r"sqrt\(v \+ eps\) = s" if radicand > 0 else r"a square \+ eps"):
        np.sqrt(exact([4, radicand]))


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (lambda: Exact(0, 1).sqrt(), ZeroDivisionError, "no derivative at 0; take eps > 0"),
        (lambda: abs(Exact(0, 1)), ArithmeticError, "no derivative at 0"),
        (lambda: Exact(1, 2) / Exact(0, 1), ZeroDivisionError, r"\(1 \+ 2 d\) / \(0 \+ 1 d\)"),
        (lambda: 1 / exact([1, 0]), ZeroDivisionError, "eps > 0"),
        (lambda: Exact(0).log(), ArithmeticError, r"log\(0\)"),
        (lambda: np.log(exact(-2)), ArithmeticError, r"log\(-2\)"),
        (lambda: Exact(1) + math.nan, ArithmeticError, "nan is no rational"),
        (lambda: exact([1.0, -np.inf]), ArithmeticError, "starts at -inf"),
        (lambda: Exact(8) ** (1 / 3), UnsupportedError, "whole and half"),
        (lambda: exact([2, 3]) ** exact([2, 2]), UnsupportedError, "whole and half"),
        (lambda: exact([[1, 2], [3]]), DTypeError, r"\[1, 2\] is no real number"),
        (lambda: exact(np.empty(2, object)), DTypeError, "None is no real number"),
        (lambda: Exact(1j), DTypeError, "1j is no real number"),
        (lambda: Exact(1) + "1", TypeError, "unsupported operand"),
        (lambda: float(Exact(1) / 3), DTypeError, "1/3 does not become a float"),
        (lambda: int(Exact(1, 2)), DTypeError, r"1 \+ 2 d does not become an int"),
        (lambda: np.zeros(2).__setitem__(0, Exact(1)), DTypeError, "zeros_like"),
        (lambda: np.zeros(2).__setitem__(slice(None), exact([1, 2])), DTypeError, "zeros_like"),
        (lambda: np.zeros(2).__iadd__(exact([1, 2])), TypeError, "Cannot cast"),
        (lambda: exact([1, 2]).astype(np.float64), DTypeError, "zeros_like"),
    ],
)
def test_what_has_no_exact_answer_is_refused(compute, error, message):
    with pytest.raises(error, match=message):
        compute()


def test_at_0_without_a_tangent_nothing_is_in_doubt():
    assert parts(Exact(0).sqrt()) == parts(abs(Exact(0))) == (0, 0)


# ---------------------------------------------------------------- floats and other operands


@given(st.fractions(-1000, 1000, max_denominator=10_000))
def test_a_float_stands_for_the_rational_it_was_made_from(fraction):
    assert Exact(float(fraction)).value == fraction


@given(floats)
def test_a_float_is_left_by_two_units_of_its_last_place_at_most(number):
    assert abs(Exact(number).value - Fraction(number)) <= 2 * Fraction(math.ulp(number))
    assert Exact(-number).value == -Exact(number).value


@given(st.integers(-(2**1000), 2**1000).map(float) | st.just(sys.float_info.max))
def test_a_whole_float_is_itself(number):
    assert Exact(number).value == int(number)


@pytest.mark.parametrize("m", range(2, 60))
def test_float_arithmetic_before_the_exact_one_does_not_show(m):
    """What learners write in floats: 1 - 1./7 is not the float nearest to 6/7, nor is 1./5 * (1./5) the one nearest to 1/25."""
    assert Exact(1.0 / m) == Fraction(1, m)
    assert Exact(1 - 1.0 / m) == 1 - Fraction(1, m)
    assert Exact(1.0 / m * (1.0 / m)) == Fraction(1, m * m)
    assert Exact(1.0 / m * (m - 1) * 2) == Fraction(2 * m - 2, m)
    assert Exact(-0.5 * m**-1.0 / 3) == -Fraction(1, 6 * m)


def test_without_that_rule_it_would_show():
    assert Fraction(1.0 / 7) != Fraction(1, 7)
    assert 1 - 1.0 / 7 != 6 / 7
    assert 1.0 / 5 * (1.0 / 5) != 1 / 25


@pytest.mark.parametrize("literal", ["1e-5", "1e-8", "1e-12", "0.9", "0.999", "-0.5", "1.5", "0.044715", "1e22"])
def test_a_literal_means_what_it_says(literal):
    assert Exact(float(literal)).value == Fraction(literal)


@pytest.mark.parametrize(
    "other",
    [3, True, Fraction(3, 7), 3 / 7, np.float64(3 / 7), np.float32(0.5), np.int64(3), np.uint8(3), np.True_, np.array(3 / 7), np.array(3)],
    ids=lambda other: f"{type(other).__name__} {other}",
)
def test_every_kind_of_operand_on_either_side(other):
    x, number = Exact(Fraction(2, 5), 1), Exact(other.item() if isinstance(other, np.ndarray) else other)
    for operate in (np.add, np.subtract, np.multiply, np.divide):
        assert parts(operate(x, other)) == parts(operate(x, number))
        assert parts(operate(other, x)) == parts(operate(number, x))
    results = {"+": (x + other, other + x), "-": (x - other, -(other - x)), "*": (x * other, other * x), "/": (x / other, 1 / (other / x))}
    for left, right in results.values():
        assert type(left) is Exact
        assert parts(left) == parts(right)
    assert (x < other) == (other > x) == (x.value < number.value)
    assert x != other
    assert number == other


def test_a_float32_is_read_at_its_own_precision():
    assert Exact(np.float32(0.1)) == exact(np.array([0.1], np.float32))[0] == Exact(1) * np.float32(0.1) == Fraction(1, 10)
    assert Exact(0.5) == Exact(np.float32(0.5)) == Exact(np.float16(0.5)) == Fraction(1, 2)
    assert Exact(float(np.float32(0.1))) == np.float32(0.1) * Exact(1) == Fraction(float(np.float32(0.1)))  # NumPy makes a float of it


def test_comparisons_and_hash_look_at_the_value():
    a, b = Exact(1, 5), Exact(2, -5)
    assert a < b <= b
    assert b > a >= a
    assert a != b
    assert a == Exact(1) == 1
    assert a != "1"
    assert len({a, Exact(1), 1, Fraction(1)}) == 1
    assert a
    assert not Exact(0, 1)


@pytest.mark.parametrize(("number", "text"), [(Exact(7) / 3, "7/3"), (Exact(7, Fraction(2, 5)), "7 + 2/5 d"), (Exact(-1, -2), "-1 - 2 d")])
def test_repr(number, text):
    assert repr(number) == text


# ---------------------------------------------------------------- arrays


def test_exact_takes_numbers_lists_and_arrays():
    assert exact(0.25).shape == ()
    assert exact(0.25).item() == Fraction(1, 4)
    assert exact([]).shape == (0,)
    assert exact(np.zeros((0, 3))).shape == (0, 3)
    assert values(exact([[1, 2**63 + 1], [Fraction(1, 3), 0.1]])).tolist() == [[1, 2**63 + 1], [Fraction(1, 3), Fraction(1, 10)]]
    x = exact([Exact(1, 2), 3])
    assert x.dtype == object
    assert exact(x)[0] is x[0]
    assert values(x).tolist() == [1, 3]
    assert tangents(x).tolist() == [2, 0]
    assert all(type(part) is Fraction for part in (*values(x), *tangents(x)))


def test_random_rationals_are_small_not_0_and_repeatable():
    x = random_rationals((40, 50), np.random.default_rng(1))
    assert x.shape == (40, 50)
    numerators, denominators = {v.numerator for v in values(x).flat}, {v.denominator for v in values(x).flat}
    assert numerators == set(range(-9, 10)) - {0}
    assert denominators == set(range(1, 8))
    assert same(x, random_rationals((40, 50), np.random.default_rng(1)))
    assert (random_rationals(100, np.random.default_rng(1), positive=True) > 0).all()


ORDINARY = {
    "np.mean": lambda x: np.mean(x, axis=0),
    "mean keepdims": lambda x: x - x.mean(axis=1, keepdims=True),
    "np.mean of all": np.mean,
    "np.var": lambda x: np.var(x, axis=0),
    "var ddof": lambda x: x.var(axis=1, ddof=1, keepdims=True),
    "np.var of all": np.var,
    "np.sum over axes": lambda x: np.sum(x.reshape(2, 2, 3), axis=(0, 2), keepdims=True),
    "np.std of squares": lambda x: np.std(np.stack([x, -x]), axis=0),
    "np.std of all": lambda x: np.std(np.array([x[0, 0], -x[0, 0]])),
    "np.sqrt": lambda x: np.sqrt(x * x),
    "** -0.5": lambda x: (x * x) ** -0.5,
    "np.power": lambda x: np.power(x * x, -1.5),
    "np.square and np.reciprocal": lambda x: np.reciprocal(np.square(x)),
    "np.abs and np.sign": lambda x: np.abs(x) * np.sign(x),
    "broadcasting": lambda x: 2.0 * x - x[0] / x[:, :1] + np.float64(0.25),
    "np.max": lambda x: np.max(x, axis=1, keepdims=True),
    "np.maximum": lambda x: np.maximum(0, x),
    "np.minimum and np.clip": lambda x: np.minimum(np.clip(x, -1, 1), 0.5),
    "np.where": lambda x: np.where(x > 0, x, 0.1 * x),
    "mask": lambda x: x * (x > 0),
    "np.sort": lambda x: np.sort(x, axis=0),
    "np.argmax": lambda x: x[np.arange(4), np.argmax(x, axis=1)],
    "@": lambda x: x @ x.T,
    "@ floats": lambda x: np.ones((1, 4)) @ x,
    "np.dot": lambda x: np.dot(x.T, x) / 3.0,
    "np.einsum": lambda x: np.einsum("ij,ij->j", x, x),
    "np.outer": lambda x: np.outer(x[0], x[:, 1]),
    "np.cumsum": lambda x: np.cumsum(x, axis=0),
    "np.prod": lambda x: np.prod(x, axis=1),
    "in place": lambda x: _in_place(x.copy()),
    "np.ones": lambda x: np.ones(x.shape) * x / x.shape[0],
    "float matrix": lambda x: (np.eye(4) - np.ones((4, 4)) / 4) @ x,
    "np.zeros_like": lambda x: np.add(np.zeros_like(x), x),
}


def _in_place(x):
    x += 1.5
    x *= x
    x /= 7
    x[0] -= 1
    return x


@pytest.mark.parametrize("f", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_numpy_code_runs_and_means_the_same(f):
    """The value is what floats give, the tangent is what their central differences give."""
    rng = np.random.default_rng(43)  # no two elements are equal, so nothing ties
    x, t = random_rationals((4, 3), rng), random_rationals((4, 3), rng)
    found = exact(f(np.vectorize(Exact, otypes=[object])(values(x), values(t))))
    point, way, h = values(x).astype(float), values(t).astype(float), 1e-6
    expected = np.asarray(f(point))
    assert found.shape == expected.shape
    np.testing.assert_allclose(values(found).astype(float), expected, rtol=1e-12, atol=1e-12)
    slope = (np.asarray(f(point + h * way)) - f(point - h * way)) / (2 * h)
    np.testing.assert_allclose(tangents(found).astype(float), slope, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- whole backward passes, in the ways learners write them
# x and dy are (m, D), gamma is (D,); each returns (dx, dgamma, dbeta).


def closed_form(x, gamma, eps, dy):
    N = x.shape[0]
    istd = 1 / np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) * istd
    dgamma, dbeta = (dy * x_hat).sum(axis=0), dy.sum(axis=0)
    return 1.0 / N * gamma * istd * (N * dy - dbeta - x_hat * dgamma), dgamma, dbeta


def staged(x, gamma, eps, dy):
    """Node by node along the graph, as the course CS231n teaches it."""
    N, D = x.shape
    xmu = x - 1.0 / N * np.sum(x, axis=0)
    sqrtvar = np.sqrt(1.0 / N * np.sum(xmu**2, axis=0) + eps)
    ivar = 1.0 / sqrtvar
    dxhat = dy * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dvar = 0.5 * 1.0 / sqrtvar * (-1.0 / (sqrtvar**2) * divar)
    dsq = 1.0 / N * np.ones((N, D)) * dvar
    dx1 = dxhat * ivar + 2 * xmu * dsq
    dmu = -1 * np.sum(dx1, axis=0)
    return dx1 + 1.0 / N * np.ones((N, D)) * dmu, np.sum(dy * xmu * ivar, axis=0), np.sum(dy, axis=0)


def of_the_paper(x, gamma, eps, dy):
    """The three sums of the BatchNorm paper."""
    m = len(x)
    mu, var = np.mean(x, 0), np.var(x, 0)
    dx_hat = dy * gamma
    dvar = np.sum(dx_hat * (x - mu) * -0.5 * (var + eps) ** -1.5, axis=0)
    dmu = np.sum(-dx_hat / np.sqrt(var + eps), axis=0) + dvar * np.mean(-2 * (x - mu), axis=0)
    x_hat = (x - mu) * (var + eps) ** (-1 / 2)
    return dx_hat / (var + eps) ** 0.5 + dvar * 2 / m * (x - mu) + dmu / m, np.einsum("nd,nd->d", dy, x_hat), dy.sum(0)


def by_jacobians(x, gamma, eps, dy):
    """Column by column with the whole Jacobian matrix, whose entries 1 - 1./N are made in floats."""
    N, D = x.shape
    dx, dgamma = np.zeros_like(x), np.zeros_like(gamma)
    for j in range(D):
        centring = np.diag(np.full(N, 1 - 1.0 / N)) - 1.0 / N * (1 - np.eye(N))
        c = centring @ x[:, j]
        s = np.sqrt(np.dot(c, c) / N + eps)
        jacobian = (centring - np.outer(c, c) / (N * s * s)) / s
        dx[:, j] = jacobian.T.dot(dy[:, j]) * gamma[j]
        dgamma[j] = sum(dy[i, j] * c[i] / s for i in range(N))
    return dx, dgamma, np.ones(N) @ dy


def as_instance_norm(x, gamma, eps, dy):
    """The columns as channels of one (N, C, H, W) image."""
    m, D = x.shape
    H = 2 if m % 2 == 0 else 1
    image, g = (a.T.reshape(1, D, H, m // H) for a in (x, dy))
    weight = gamma[None, :, None, None]
    std = np.sqrt(np.var(image, axis=(2, 3), keepdims=True) + eps)
    x_hat = (image - np.mean(image, axis=(2, 3), keepdims=True)) / std
    h = weight * g
    dx = h - np.mean(h, axis=(2, 3), keepdims=True) - x_hat * np.mean(h * x_hat, axis=(2, 3), keepdims=True)
    return (dx / std).reshape(D, m).T, np.sum(g * x_hat, axis=(0, 2, 3)), g.sum((0, 2, 3))


def with_transposes(x, gamma, eps, dy):
    """Features first, in place, the count as a float."""
    x, dy, N = x.T, dy.T, float(len(x))
    c = x - x.sum(axis=1, keepdims=True) / N
    r = ((c * c).sum(axis=1, keepdims=True) / N + eps) ** -0.5
    dx = dy * gamma[:, np.newaxis]
    dx -= np.square(r) * c * (dx * c).sum(axis=1, keepdims=True) / N
    dx -= dx.sum(axis=1, keepdims=True) / N
    dx *= r
    return dx.T, (dy * c * r).sum(1), dy.sum(1)


def unbiased(x, gamma, eps, dy):
    """Wrong: the variance path divides by m - 1."""
    N = x.shape[0]
    c = x - x.mean(0)
    r = 1 / np.sqrt((c * c).mean(0) + eps)
    h = gamma * dy
    return r * (h - h.mean(0) - c * r * r * (h * c).sum(0) / (N - 1)), (dy * c * r).sum(0), dy.sum(0)


def without_the_2(x, gamma, eps, dy):
    """Wrong: the 2 of d(c c) = 2 c dc is missing."""
    N = x.shape[0]
    c = x - x.mean(0)
    s = np.sqrt((c * c).mean(0) + eps)
    dc = gamma * dy / s + c / N * (-0.5 / s**3) * (gamma * dy * c).sum(0)
    return dc - dc.mean(0), (dy * c / s).sum(0), dy.sum(0)


def without_the_mean_path(x, gamma, eps, dy):
    """Wrong: x moves mu too."""
    right, dgamma, dbeta = closed_form(x, gamma, eps, dy)
    return right + gamma * dy.mean(0) / np.sqrt(x.var(0) + eps), dgamma, dbeta


RIGHT = [closed_form, staged, of_the_paper, by_jacobians, as_instance_norm, with_transposes]
WRONG = [unbiased, without_the_2, without_the_mean_path]
NAMES = ("dx", "dgamma", "dbeta")


def point(m, seed=0):
    """(x, gamma, eps, dy): the columns of x are signed permutations of one another, so that one eps = s s - v makes every root s."""
    rng = np.random.default_rng([m, seed])
    column = random_rationals(m, rng)
    x = np.stack([sign * rng.permutation(column) for sign in (1, -1, 1)], axis=1)
    v = column.var().value
    s = math.isqrt(int(v)) + 1 + Fraction(int(rng.integers(1, 5)), 3)
    return x, random_rationals(3, rng), exact(s * s - v).item(), random_rationals((m, 3), rng)


def forward(x, gamma, eps):
    c = x - x.mean(0)
    return gamma * c / np.sqrt((c * c).mean(0) + eps)


def derivatives(x, gamma, eps, dy):
    """(dx, dgamma) of sum(dy y), one element after the other, by the tangents of the forward pass alone."""

    def along(array, compute):
        result = np.empty(array.shape, object)
        for i in np.ndindex(array.shape):
            moved = array.copy()
            moved[i] = Exact(array[i].value, 1)
            result[i] = (dy * compute(moved)).sum().tangent
        return result

    return along(x, lambda x: forward(x, gamma, eps)), along(gamma, lambda gamma: forward(x, gamma, eps))


@pytest.mark.parametrize("m", [5, 7, 8])
@pytest.mark.parametrize("backward", RIGHT, ids=lambda f: f.__name__)
def test_right_backward_passes_are_exactly_the_derivative(backward, m):
    x, gamma, eps, dy = point(m)
    dx, dgamma, dbeta = backward(x, gamma, eps, dy)
    expected = (*derivatives(x, gamma, eps, dy), dy.sum(0))
    for name, found, right in zip(NAMES, (dx, dgamma, dbeta), expected, strict=True):
        assert same(found, right), name


@pytest.mark.parametrize("m", [5, 7, 8])
def test_right_backward_passes_are_exactly_one_another(m):
    answers = [backward(*point(m, seed=1)) for backward in RIGHT]
    for one, other in combinations(answers, 2):
        assert all(map(same, one, other))


@pytest.mark.parametrize("m", [5, 7, 8])
@pytest.mark.parametrize("backward", WRONG, ids=lambda f: f.__name__)
def test_wrong_backward_passes_are_unequal(backward, m):
    wrong, right = backward(*point(m)), closed_form(*point(m))
    assert [same(*pair) for pair in zip(wrong, right, strict=True)] == [False, True, True]


def test_the_point_makes_the_root_rational_and_another_does_not():
    x, gamma, eps, dy = point(7)
    for other in (eps + 1, 1e-5, 0):
        with pytest.raises(IrrationalRoot):
            closed_form(x, gamma, other, dy)


def test_a_second_derivative_is_exact_too():
    """dx is linear in dy, so its tangent along dy is the backward pass of that tangent."""
    x, gamma, eps, dy = point(7)
    u = random_rationals(dy.shape, np.random.default_rng(4))
    moved = np.vectorize(Exact, otypes=[object])(values(dy), values(u))
    assert (tangents(closed_form(x, gamma, eps, moved)[0]) == values(closed_form(x, gamma, eps, u)[0])).all()
