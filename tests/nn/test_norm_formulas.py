"""Formulas, primitives and the kernel: three spellings of one derivative, held together."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_first, check_second, check_third
from hypothesis import given
from hypothesis import strategies as st
from norm_table import EPS, assert_rounded

import minitensor as mt
from minitensor.nn import functional
from minitensor.nn.norm import formulas, primitives
from minitensor.nn.norm.kernels import numpy_blocked
from minitensor.primitive import primitive

AXES = (2, 3)
SHAPE = (2, 3, 4, 5)


@pytest.fixture
def x(rng):
    """Every slice with its own scale and offset."""
    return rng.normal(size=SHAPE) * rng.uniform(0.3, 3, (2, 3, 1, 1)) + rng.uniform(-3, 3, (2, 3, 1, 1))


@pytest.fixture
def gamma(rng):
    return rng.uniform(0.5, 2, (1, 3, 1, 1)) * np.array([1, -1, 1]).reshape(1, 3, 1, 1)


@pytest.fixture
def beta(rng):
    return rng.uniform(0.5, 2, (1, 3, 1, 1))


def test_the_formula_is_the_definition(x, gamma, beta):
    expected = gamma * (x - x.mean(AXES, keepdims=True)) / np.sqrt(x.var(AXES, keepdims=True) + EPS) + beta
    np.testing.assert_allclose(formulas.normalize(x, gamma, beta, AXES, EPS), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("function", [primitives.standardize, primitives.rstd], ids=lambda f: f.name)
@pytest.mark.parametrize("axes", [(2, 3), (0, 2, 3), (1,)], ids=str)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("check", [check_first, check_second])
def test_the_two_primitives_are_differentiated_rightly(function, axes, centred, check, x):
    check(lambda t: function(t, axes=axes, eps=EPS, centred=centred), [x])


@pytest.mark.parametrize("check", [check_first, check_second])
def test_the_fused_primitive_is_differentiated_rightly(check, x, gamma, beta, no_kernel):
    check(lambda *inputs: primitives.normalize(*inputs, axes=AXES, eps=EPS), [x, gamma, beta])


@pytest.mark.parametrize("way", ["analytic", "autograd"])
@pytest.mark.parametrize("fixed", [False, True], ids=["input statistics", "running statistics"])
def test_the_double_backward_is_the_closed_form(way, fixed, x, gamma, rng):
    """P = <u, dx> + <a, dgamma> + <b, dbeta> differentiated by g, gamma, x and beta, against the formulas derived on paper."""
    g, u, a, b, mu, v = *rng.normal(size=(2, *SHAPE)), *rng.normal(size=(3, 3)), rng.uniform(0.5, 2, 3)
    statistics = [mt.tensor(mu), mt.tensor(v)] if fixed else [None, None]
    t, weight, bias, cotangent = leaves = [mt.tensor(each, requires_grad=True) for each in (x, gamma.ravel(), a, g)]
    y = functional.instance_norm(t, *statistics, weight, bias, use_input_stats=not fixed, eps=EPS, backward=way)
    first = mt.grad(y, leaves[:3], cotangent, create_graph=True)
    found = mt.grad(first, [cotangent, weight, t, bias], [mt.tensor(each) for each in (u, a, b)], allow_unused=True)

    def mean(values):
        return values.mean(AXES, keepdims=True)

    mu, v, a, b = (each.reshape(1, 3, 1, 1) for each in (mu, v, a, b))
    r = 1 / np.sqrt(v + EPS) if fixed else formulas.rstd(x, AXES, EPS)
    x_hat = (x - mu) * r if fixed else formulas.standardize(x, AXES, EPS)

    def project(values):
        return values if fixed else values - mean(values) - x_hat * mean(values * x_hat)

    p, q, c = mean(u * x_hat), mean(g * x_hat), mean(u * g) - mean(u) * mean(g) - mean(u * x_hat) * mean(g * x_hat)
    curved = 0 if fixed else gamma * r**2 * (c * x_hat + q * project(u) + p * project(g))
    expected = gamma * r * project(u) + a * x_hat + b, (r * u * project(g)).sum((0, 2, 3)), a * r * project(g) - curved
    assert found[3] is None or not found[3].numpy().any()
    for one, other in zip(found[:3], expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-13, atol=1e-13)


def test_a_saved_statistic_would_be_caught(x):
    """Planted: a rule that keeps r and x_hat as plain arrays is right at first order, and wrong at second."""

    def frozen(g, _y, x):
        values = x.detach().numpy() if isinstance(x, mt.Tensor) else x
        x_hat, r = formulas.standardize(values, AXES, EPS), formulas.rstd(values, AXES, EPS)
        return r * (g - formulas.mean(g, AXES) - x_hat * formulas.mean(g * x_hat, AXES))

    faulty = primitive(lambda x: formulas.standardize(x, AXES, EPS), frozen)
    check_first(faulty, [x])
    with pytest.raises(AssertionError, match="against"):
        check_second(faulty, [x])


def test_third_order_is_exact(x):
    """PyTorch is silently wrong here."""
    check_third(lambda t: primitives.normalize(t, None, None, axes=AXES, eps=EPS), [x])


@given(
    shape=st.sampled_from([(2, 3, 7), (1, 1, 2), (5, 2, 3, 3), (2, 2, 2, 3, 4), (1, 300, 11), (3, 1, 1, 401)]),
    dtype=st.sampled_from([np.float64, np.float32, np.float16]),
    scaled=st.booleans(),
    shifted=st.booleans(),
    per_instance=st.booleans(),
    centred=st.booleans(),
    eps=st.sampled_from([EPS, 0.0]),
    flat=st.booleans(),
    block=st.sampled_from([1, 1000, 1 << 20]),
    seed=st.integers(0, 9),
)
def test_the_kernel_equals_the_formulas(shape, dtype, scaled, shifted, per_instance, centred, eps, flat, block, seed):
    """Both directions, in float64 to rounding and in lower precision to one rounding of the result; also where a slice is constant."""
    rng = np.random.default_rng(seed)
    axes = tuple(range(2, len(shape)))
    parameter = (shape[0] if per_instance else 1, shape[1], *(1,) * len(axes))
    x, g = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    x[0, 0] = x[0, 0] if not flat else 0.1 if centred else 0.0
    gamma = rng.uniform(-2, 2, parameter).astype(dtype) if scaled else None
    beta = rng.uniform(-2, 2, parameter).astype(dtype) if shifted else None
    assert numpy_blocked.serves(x, gamma, beta, axes=axes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_blocked, "_BLOCK", block)
        y = numpy_blocked.forward(x, gamma, beta, axes, eps, centred)
        found = numpy_blocked.backward(g, x, gamma, axes, eps, centred)
    wide = [None if a is None else a.astype(np.float64) for a in (x, gamma, beta, g)]
    expected_y = formulas.normalize(*wide[:3], axes, eps, centred)
    x_hat, r = (f(wide[0], axes, eps, centred) for f in (formulas.standardize, formulas.rstd))
    dx, *sums = formulas.normalize_backward(wide[3], x_hat, r, wide[1], axes, centred)
    assert y.dtype == found[0].dtype == dtype
    assert_rounded(y, expected_y)
    # dx is a difference: where it is 0 (m = 2 without eps), noise of the size of its terms stands for it
    info, h = np.finfo(dtype), wide[3] if gamma is None else wide[3] * wide[1]
    atol = max(float(info.smallest_subnormal), 1e-14 * float(np.abs(r * h).max()))
    np.testing.assert_allclose(found[0].astype(np.float64), dx, rtol=max(0.51 * float(info.eps), 1e-14), atol=atol)
    for one, other in zip(found[1:], sums, strict=True):
        np.testing.assert_allclose(one, other.sum(axes, keepdims=True), rtol=1e-12, atol=1e-12)


def test_the_kernel_declines_what_it_cannot_do():
    x = np.zeros((2, 3, 4))
    assert numpy_blocked.serves(x, axes=(2,))
    assert not numpy_blocked.serves(x, axes=(0, 2))
    assert not numpy_blocked.serves(x.astype(complex), axes=(2,))
    assert not numpy_blocked.serves(x[:0], axes=(2,))
    assert not numpy_blocked.serves(x, np.zeros((1, 1, 4)), axes=(2,))
    assert not numpy_blocked.serves(x.astype(np.longdouble), axes=(2,))
    assert not numpy_blocked.serves(mt.tensor(x), axes=(2,))
    assert not numpy_blocked.serves(x, mt.ones(1, 3, 1), axes=(2,))


@pytest.mark.parametrize("way", ["analytic", "autograd"])
@pytest.mark.parametrize("offset", [0, 1e4, -1e5, 1e6])
@pytest.mark.parametrize("m", [2, 48 * 48])
def test_large_offsets_cost_no_digits(way, offset, m, rng):
    """y and dx of float32 input are an 80-bit reference, rounded once, at any offset."""
    x = (offset + rng.normal(size=(1, 2, m))).astype(np.float32)
    g = rng.normal(size=x.shape).astype(np.float32)
    t = mt.tensor(x, requires_grad=True)
    y = functional.instance_norm(t, eps=1e-5, backward=way)
    (dx,) = mt.grad(y, t, mt.tensor(g))
    exact = x.astype(np.longdouble)
    x_hat, r = formulas.standardize(exact, (2,), 1e-5), formulas.rstd(exact, (2,), 1e-5)
    exact_dx = formulas.normalize_backward(g.astype(np.longdouble), x_hat, r, None, (2,))[0]
    assert_rounded(y.detach().numpy(), x_hat)
    assert_rounded(dx.numpy(), exact_dx)


@pytest.mark.parametrize("value", [0.1, 3.0, 12345.678, 1e7 / 3])
def test_a_constant_slice_becomes_zero(value):
    x = np.full((1, 1, 48), value, np.float32)
    for y in (numpy_blocked.forward(x, None, None, (2,), 1e-5), formulas.normalize(x, None, None, (2,), 1e-5)):
        np.testing.assert_array_equal(y, 0)
