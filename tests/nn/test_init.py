"""nn.init: every formula by its numbers, moments of large draws, and what is refused."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import DTypeError, GraphError, ShapeError
from minitensor.nn import init
from minitensor.nn.parameter import Parameter

RANDOM = {
    "uniform_": {},
    "normal_": {},
    "trunc_normal_": {},
    "xavier_uniform_": {},
    "xavier_normal_": {},
    "kaiming_uniform_": {},
    "kaiming_normal_": {},
    "orthogonal_": {},
    "sparse_": {"sparsity": 0.25},
}
KNOWN = ["ones_", "zeros_", "eye_"]
FANS = {(80, 50): (50, 80), (30, 20, 5): (100, 150), (12, 10, 3, 5): (150, 180)}  # shape: (fan_in, fan_out)


def drawn(name, shape, dtype=np.float64, **params):
    """The values that one function gives, with the generator of a fixed seed."""
    return getattr(init, name)(mt.zeros(shape, dtype=dtype), generator=np.random.default_rng(5), **params).numpy()


def standard(shape, uniform):
    """The numbers behind `drawn`, of variance 1."""
    random = np.random.default_rng(5)
    return random.uniform(-math.sqrt(3), math.sqrt(3), shape) if uniform else random.standard_normal(shape)


# -- formulas -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", FANS, ids=str)
@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "normal"])
def test_xavier(shape, uniform):
    for gain in (1.0, 1.7):
        values = drawn("xavier_uniform_" if uniform else "xavier_normal_", shape, gain=gain)
        np.testing.assert_allclose(values, gain * math.sqrt(2 / sum(FANS[shape])) * standard(shape, uniform), rtol=1e-12)


@pytest.mark.parametrize("shape", FANS, ids=str)
@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "normal"])
@pytest.mark.parametrize(("mode", "which"), [("fan_in", 0), ("fan_out", 1)])
def test_kaiming(shape, uniform, mode, which):
    name = "kaiming_uniform_" if uniform else "kaiming_normal_"
    per_gain = standard(shape, uniform) / math.sqrt(FANS[shape][which])
    np.testing.assert_allclose(drawn(name, shape, mode=mode), math.sqrt(2) * per_gain, rtol=1e-12)
    np.testing.assert_allclose(drawn(name, shape, a=math.sqrt(5), mode=mode), per_gain / math.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(drawn(name, shape, mode=mode, nonlinearity="tanh"), 5 / 3 * per_gain, rtol=1e-12)


def test_gains(torch_says):
    asked = [(name, None) for name in init.GAINS] + [("leaky_relu", 0.3), ("leaky_relu", -2), ("relu", 0.3)]
    expected = torch_says(lambda torch: [torch.nn.init.calculate_gain(*question) for question in asked])
    np.testing.assert_allclose([init.calculate_gain(*question) for question in asked], expected, rtol=1e-15)


def test_signatures_are_pytorchs(torch_says):
    """Every name that PyTorch has, every argument and every default."""

    def listed(module):
        functions = [name for name in dir(module) if name.endswith("_") and not name.startswith("_")] + ["calculate_gain"]
        found = {name: inspect.signature(getattr(module, name)).parameters.values() for name in functions}
        return {name: "; ".join(f"{p.name}={p.default}" for p in parameters) for name, parameters in found.items()}

    names = torch_says(lambda torch: {f"{name}({text})": 0 for name, text in listed(torch.nn.init).items()})
    assert {f"{name}({text})" for name, text in listed(init).items()} == set(names)


def test_known_numbers():
    assert init.constant_(mt.zeros(2), -3.5).tolist() == [-3.5, -3.5]
    assert init.ones_(mt.zeros(2)).tolist() == [1, 1]
    assert init.zeros_(mt.ones(2)).tolist() == [0, 0]
    assert init.eye_(mt.ones(3, 2)).tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("shape", [(4, 3, 2), (2, 5, 3), (6, 2, 4, 3), (4, 4, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac(shape, groups, torch_says):
    expected = torch_says(lambda torch: torch.nn.init.dirac_(torch.ones(shape), groups))
    assert (init.dirac_(mt.ones(shape), groups).numpy() == expected).all()


# -- distributions --------------------------------------------------------------------------------------------------------------------


def fits(values, mean, std):
    """Whether the mean and the standard deviation of many draws are within 5 standard errors of what they should be."""
    n, deviations = values.size, values - mean
    squares = deviations**2
    return abs(deviations.mean()) < 5 * std / math.sqrt(n) and abs(squares.mean() - std**2) < 5 * squares.std() / math.sqrt(n)


def test_moments():
    shape = (200, 250)
    assert fits(drawn("uniform_", shape, a=-1, b=3), 1, 4 / math.sqrt(12))
    assert fits(drawn("normal_", shape, mean=2, std=0.3), 2, 0.3)
    assert fits(drawn("xavier_uniform_", shape), 0, math.sqrt(2 / 450))
    assert fits(drawn("kaiming_normal_", shape, nonlinearity="linear"), 0, 1 / math.sqrt(250))
    assert not fits(drawn("normal_", shape, std=1.03), 0, 1)
    assert not fits(drawn("normal_", shape, mean=0.03), 0, 1)


def test_uniform_bounds():
    values = drawn("uniform_", 50_000, a=-1, b=3)
    assert -1 <= values.min() < -0.99
    assert 2.99 < values.max() <= 3


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 0.02, -2, 2), (1, 2, -0.5, math.inf), (0, 1, 3, 4), (0, 1, -12, -11), (0, 1, 9, 50), (0, 1, 30, math.inf)],
)
def test_trunc_normal_is_the_distribution_that_it_says(mean, std, a, b):
    """The moments of a truncated normal, integrated numerically; and no value beyond the bounds."""
    values = drawn("trunc_normal_", 50_000, mean=mean, std=std, a=a, b=b)
    assert a <= values.min() <= values.max() <= b
    peak = min(max(mean, a), b)
    x = np.linspace(max(a, peak - 10 * std), min(b, peak + 10 * std), 2_000_001)
    density = np.exp((((peak - mean) / std) ** 2 - ((x - mean) / std) ** 2) / 2)
    density /= density.sum()
    expected = (x * density).sum()
    assert fits(values, expected, math.sqrt(((x - expected) ** 2 * density).sum()))


class Ends(np.random.Generator):
    """Draws the two ends of its interval, which `numpy.random.Generator` all but never does."""

    def uniform(self, low, high, size):
        return np.array([low, high])


@pytest.mark.parametrize(("a", "b"), [(-math.inf, math.inf), (-math.inf, 0), (0, math.inf), (20, math.inf)])
def test_trunc_normal_is_finite_at_the_ends(a, b):
    """Phi is 0 and 1 there, and its inverse infinite."""
    ends = init.trunc_normal_(mt.zeros(2, dtype=np.float64), a=a, b=b, generator=Ends(np.random.PCG64())).numpy()
    assert a <= ends.min() < ends.max() <= b
    assert np.isfinite(ends).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_trunc_normal_bounds_hold_in_the_dtype(dtype):
    values = drawn("trunc_normal_", 20_000, dtype, std=0.1, a=-0.1, b=0.1)
    assert np.abs(values).max() <= dtype(0.1)
    assert (drawn("trunc_normal_", 3, dtype, a=0.1, b=0.1) == dtype(0.1)).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (4, 3, 2), (8, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("gain", [1, 1.5])
def test_orthogonal(shape, gain):
    w = drawn("orthogonal_", shape, gain=gain).reshape(shape[0], -1)
    product = w.T @ w if w.shape[0] > w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, gain**2 * np.eye(min(w.shape)), atol=1e-14)


def test_orthogonal_is_uniform():
    """Every element of a random 2 x 2 rotation or reflection has mean 0; without the signs of R, the diagonal would not."""
    random = np.random.default_rng(5)
    draws = np.stack([init.orthogonal_(mt.zeros(2, 2, dtype=np.float64), generator=random).numpy() for _ in range(4000)])
    assert (np.abs(draws.mean(0)) < 5 * math.sqrt(0.5 / 4000)).all()


@pytest.mark.parametrize(("sparsity", "zeros"), [(0, 0), (0.1, 2), (0.25, 3), (1, 12)])
def test_sparse(sparsity, zeros):
    """ceil(sparsity * rows) zeros in every column, not always in the same rows, and N(0, std**2) elsewhere."""
    values = drawn("sparse_", (12, 4000), sparsity=sparsity, std=0.5)
    assert ((values == 0).sum(0) == zeros).all()
    if 0 < zeros < 12:
        assert np.abs((values == 0).mean(1) - zeros / 12).max() < 5 * 0.5 / math.sqrt(4000)
    if zeros < 12:
        assert fits(values[values != 0], 0, 0.5)


# -- where the numbers come from, where they go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_manual_seed_repeats(name):
    def draw():
        return getattr(init, name)(mt.zeros(8, 6), **RANDOM[name]).numpy()

    first, second = draw(), draw()
    assert (first != second).any(), "a second draw must be a new one"
    mt.manual_seed(0)  # as before every test
    assert (draw() == first).all()
    given = drawn(name, (8, 6), np.float32, **RANDOM[name])
    assert (draw() == second).all(), "a generator of one's own leaves the package's alone"
    assert (drawn(name, (8, 6), np.float32, **RANDOM[name]) == given).all()


@pytest.mark.parametrize("name", [*RANDOM, *KNOWN])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_stays(name, dtype):
    """The Parameter itself comes back, with its dtype and requires_grad, and a graph recorded before keeps the old values."""
    w = Parameter(mt.full((4, 3), 7.0, dtype=dtype))
    loss = (w * w).sum()
    assert getattr(init, name)(w, **RANDOM.get(name, {})) is w
    assert w.is_leaf
    assert w.requires_grad
    assert (w.shape, w.dtype) == ((4, 3), dtype)
    assert (w.data != 7).all()
    (raw,) = mt.grad(loss, w, retain_graph=True)
    (traced,) = mt.grad(loss, w, create_graph=True)
    assert (raw.numpy() == 14).all()
    assert (traced.detach().numpy() == 14).all()
    (new,) = mt.grad((w * w).sum(), w)
    assert (new.numpy() == 2 * w.data).all(), "the new values are a leaf's"


@pytest.mark.parametrize("name", [*RANDOM, *KNOWN])
def test_a_device_gives_the_numbers_of_the_cpu(name, cupy):
    w, v = mt.zeros(4, 3), mt.zeros(4, 3, device="cuda")
    getattr(init, name)(w, **RANDOM.get(name, {}))
    mt.manual_seed(0)
    getattr(init, name)(v, **RANDOM.get(name, {}))
    assert v.device == "cuda:0"
    assert (v.cpu().numpy() == w.numpy()).all()


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "sparse_"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 3, 0)], ids=str)
def test_nothing_to_fill(name, shape):
    assert drawn(name, shape).shape == shape
    assert init.dirac_(mt.zeros(2, 2, 0)).shape == (2, 2, 0)
    assert drawn("sparse_", (0, 3), sparsity=0.5).shape == (0, 3)


def test_zero_axes():
    for name in ("uniform_", "normal_", "trunc_normal_"):
        assert drawn(name, ()).shape == ()


# -- errors -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RANDOM, *KNOWN, "dirac_"])
def test_only_floating_leaves_are_filled(name):
    function, params = getattr(init, name), RANDOM.get(name, {})
    shape = (2, 2, 2) if name == "dirac_" else (2, 2)
    with pytest.raises(TypeError, match=r"_: a Tensor is needed, got float64 \(2, 2"):
        function(np.zeros(shape), **params)
    with pytest.raises(DTypeError, match=r"_: a floating Tensor is needed, got int64 \(2, 2"):
        function(mt.zeros(shape, dtype=np.int64), **params)
    with pytest.raises(GraphError, match="made by the operation 'multiply'"):
        function(mt.ones(shape, requires_grad=True) * 2, **params)


@pytest.mark.parametrize("name", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_"])
def test_one_axis_has_no_fans(name):
    with pytest.raises(ShapeError, match=rf"{name}: 2 or more axes are needed, got float32 \(3,\)"):
        getattr(init, name)(mt.zeros(3))


def test_wrong_axes():
    with pytest.raises(ShapeError, match=r"eye_: 2 axes are needed, got float32 \(2, 2, 2\)"):
        init.eye_(mt.zeros(2, 2, 2))
    with pytest.raises(ShapeError, match=r"sparse_: 2 axes are needed, got float32 \(2,\)"):
        init.sparse_(mt.zeros(2), 0.5)
    with pytest.raises(ShapeError, match=r"dirac_: 3 to 5 axes are needed, got float32 \(2, 2\)"):
        init.dirac_(mt.zeros(2, 2))


def test_unknown_names():
    with pytest.raises(ValueError, match="nonlinearity 'lekyrelu' is unknown; did you mean 'leaky_relu'"):
        init.kaiming_normal_(mt.zeros(2, 2), nonlinearity="lekyrelu")
    with pytest.raises(ValueError, match="nonlinearity 'gauss' is unknown; there are linear, conv1d"):
        init.calculate_gain("gauss")
    with pytest.raises(ValueError, match="kaiming_uniform_: mode must be 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_uniform_(mt.zeros(2, 2), mode="fan")


@pytest.mark.parametrize("slope", [True, "steep", mt.ones(2)])
def test_a_slope_is_a_number(slope):
    with pytest.raises(ValueError, match="slope of leaky_relu must be a number, got"):
        init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: init.uniform_(w, 1, 0), "uniform_: a <= b is needed, got a = 1, b = 0"),
        (lambda w: init.uniform_(w, math.nan), "uniform_: a <= b is needed, got a = nan"),
        (lambda w: init.normal_(w, 0, -1), "normal_: std must not be negative, got -1"),
        (lambda w: init.trunc_normal_(w, a=2, b=-2), "a <= b and std > 0 are needed, got a = 2, b = -2"),
        (lambda w: init.trunc_normal_(w, std=0), "a <= b and std > 0 are needed, .*std = 0"),
        (lambda w: init.trunc_normal_(w, a=40, b=50), r"\[a, b\] = \[40, 50\] is more than 37 std from the mean, got mean = 0.0"),
        (lambda w: init.trunc_normal_(w, a=-50, b=-40), "more than 37 std"),
        (lambda w: init.sparse_(w, 1.5), "0 <= sparsity <= 1 is needed, got 1.5"),
        (lambda w: init.dirac_(mt.zeros(3, 3, 3), 2), r"divide the first axis of float32 \(3, 3, 3\), got groups = 2"),
        (lambda w: init.dirac_(mt.zeros(3, 3, 3), 0), "groups must be positive"),
    ],
)
def test_bad_numbers(call, message):
    w = mt.full((2, 2), 7.0)
    with pytest.raises(ValueError, match=message):
        call(w)
    assert (w.numpy() == 7).all()


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match=r"numpy.random.Generator such as np.random.default_rng\(0\) is needed, got int"):
        init.normal_(mt.zeros(2), generator=5)
