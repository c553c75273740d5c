"""Richardson's error bar is honest, and the complex step says when it is blind."""

import math

import numpy as np
import pytest

from minitensor.autograd import complex_step, richardson
from minitensor.autograd.differences import central_difference, forward_difference, slopes
from minitensor.errors import UnsupportedError

EPS = float(np.finfo(float).eps)
SMOOTH = {
    "exp": (math.exp, math.exp),
    "sin": (math.sin, math.cos),
    "linear": (lambda t: 3 * t + 0.1, lambda t: 3.0),
    "square": (lambda t: t * t, lambda t: 2 * t),
    "cubic": (lambda t: t**3 - 2 * t, lambda t: 3 * t * t - 2),
    "degree 9": (lambda t: t**9 - t**4 + 1, lambda t: 9 * t**8 - 4 * t**3),
    "1 / (1 + t**2)": (lambda t: 1 / (1 + t * t), lambda t: -2 * t / (1 + t * t) ** 2),
    "1 / (1 + 25 t**2)": (lambda t: 1 / (1 + 25 * t * t), lambda t: -50 * t / (1 + 25 * t * t) ** 2),
    "sin 20 t": (lambda t: math.sin(20 * t), lambda t: 20 * math.cos(20 * t)),
    "sqrt": (lambda t: math.sqrt(3 + t), lambda t: 0.5 / math.sqrt(3 + t)),
}
POINTS = [0.0, 0.3, -0.7, 1.1, -1.9]


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("point", POINTS)
def test_the_bar_covers_the_error_and_is_short(name: str, point: float) -> None:
    f, derivative = SMOOTH[name]
    noise = EPS * (abs(f(point)) + abs(f(point + 0.1)) + abs(f(point - 0.1)) + 2 * abs(derivative(point) * point) + 20)
    value, error = richardson(lambda h: f(point + h), noise=noise)
    assert abs(value - derivative(point)) <= error
    assert error <= 1e-7 * max(1.0, abs(derivative(point)))


@pytest.mark.parametrize("name", ["exp", "sin", "cubic", "sqrt"])
def test_extrapolation_gains_digits(name: str) -> None:
    """Half a dozen wide steps give twelve digits, where the smallest of them alone would give four."""
    f, derivative = SMOOTH[name]
    value, error = richardson(f, h=0.5, levels=6)
    assert abs(value - derivative(0.0)) <= error + 1e-14
    assert error < 1e-11
    assert abs(central_difference(f, 0.5 / 2**5) - derivative(0.0)) > 1e-7


@pytest.mark.parametrize("noise", [1e-12, 1e-8, 1e-4])
def test_noise_widens_the_bar(noise: float) -> None:
    """Of 200 noisy functions none leaves its bar; and a bar that does not know of the noise is left now and then."""
    outside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)

        def f(h: float) -> float:
            return math.exp(h) + rng.uniform(-noise, noise)

        value, error = richardson(f, noise=noise)
        assert abs(value - 1) <= error <= 1e3 * noise
        value, error = richardson(f)
        outside += abs(value - 1) > error
    assert outside > 0


@pytest.mark.parametrize("kink", [2e-4, 5e-4])
@pytest.mark.parametrize("f", [abs, lambda t: max(t, 0.0), lambda t: float(t > 0)], ids=["abs", "relu", "jump"])
def test_a_kink_between_the_points_has_a_wide_bar(f, kink: float) -> None:
    assert richardson(lambda h: f(h - kink) + math.sin(h)).error > 1e-3


@pytest.mark.parametrize("f", [abs, lambda t: max(t, 0.0), lambda t: float(t > 0)], ids=["abs", "relu", "jump"])
def test_what_the_smallest_steps_alone_see_is_in_the_bar(f) -> None:
    """All but the smallest step agree on the mean of both slopes, which is wrong."""
    value, error = richardson(lambda h: f(h - 0.0009) + math.sin(h), noise=EPS)
    assert abs(value - (0 if f is abs else 1)) <= error


@pytest.mark.parametrize("kink", [0.003, 0.01, 0.04, 0.09])
def test_a_kink_farther_away_is_seen_past(kink: float) -> None:
    """The large steps cross it and the small ones do not: what is returned is the slope here."""
    value, error = richardson(lambda h: abs(h - kink) + math.sin(h), noise=EPS)
    assert abs(value - 0.0) <= error < 1e-2


@pytest.mark.parametrize(("f", "slope"), [(abs, 0.0), (lambda t: max(t, 0.0), 0.5)], ids=["abs", "relu"])
def test_at_a_kink_the_mean_of_both_slopes_is_returned(f, slope: float) -> None:
    """Symmetric differences cannot see a kink at 0 itself: no bar warns of it."""
    value, error = richardson(f)
    assert (value, error) == pytest.approx((slope, 0.0), abs=1e-15)


def test_richardson_with_one_level_has_no_bar() -> None:
    assert math.isinf(richardson(math.exp, levels=1).error)


def test_arrays_are_differentiated_element_by_element() -> None:
    """Also where one element has left its domain at the larger steps, and where another is nan at all of them."""

    def f(h: float) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.array([math.exp(h), np.sqrt(0.01 + h), np.nan, 3 * h])

    value, error = richardson(f, noise=np.full(4, EPS))
    np.testing.assert_allclose(value[[0, 1, 3]], [1.0, 5.0, 3.0], rtol=1e-6)
    assert np.all(np.abs(value - [1.0, 5.0, np.nan, 3.0])[[0, 1, 3]] <= error[[0, 1, 3]])
    assert np.isnan(value[2])
    assert np.isinf(error[2])


@pytest.mark.parametrize("kink", [1e-3, -1e-5, 1e-7, -1e-9])
def test_smaller_ladders_see_past_a_kink(kink: float) -> None:
    found = slopes(lambda h: abs(h - kink), noise=EPS)
    assert not found.kink
    assert abs(found.value + math.copysign(1, kink)) <= found.error < 1e-3


@pytest.mark.parametrize("f", [abs, lambda t: max(t, 0.0), lambda t: 2 + abs(t), lambda t: max(2 + t, 2 - 3 * t)])
def test_a_kink_at_0_is_seen_on_every_ladder(f) -> None:
    found = slopes(f, noise=4 * EPS)
    assert found.kink
    assert found.error >= 0.49 * abs(found.above - found.below) > 0.4


@pytest.mark.parametrize("f", [math.exp, math.sin, lambda t: t**2, lambda t: t**4, lambda t: abs(t) ** 1.5, lambda t: 3 * t, lambda t: 0.0])
def test_what_is_smooth_or_flat_has_no_kink(f) -> None:
    found = slopes(f, noise=EPS)
    assert not found.kink
    assert found.error < 0.01


@pytest.mark.parametrize(("difference", "order"), [(forward_difference, 1), (central_difference, 2)])
def test_the_order_of_plain_differences(difference, order: int) -> None:
    errors = [abs(difference(math.exp, h) - 1) for h in (1e-2, 1e-3)]
    assert math.log10(errors[0] / errors[1]) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize(
    ("f", "exact"),
    [
        (lambda z: np.exp(z), 1.0),
        (lambda z: np.sin(1 + z), math.cos(1)),
        (lambda z: (1 + z) ** 3, 3.0),
        (lambda z: np.sum((np.array([1.0, 2.0]) + z) / np.sqrt(np.mean((np.array([1.0, 3.0]) + z) ** 2))), None),
    ],
    ids=["exp", "sin", "cube", "arrays"],
)
def test_the_complex_step_is_exact_to_rounding(f, exact) -> None:
    expected = richardson(lambda h: float(np.real(f(complex(h))))) if exact is None else (exact, 4 * EPS)
    assert abs(complex_step(f) - expected[0]) <= expected[1] + 1e-14


LOST = {
    "abs": lambda z: np.abs(z),
    "real": lambda z: np.real(z) ** 2,
    "var": lambda z: np.var(np.array([1.0, 2.0, 3.0]) + z),
    "a cast": lambda z: np.asarray(z).real.astype(np.float64) * 2,
    "a constant": lambda z: 3.0,
}


@pytest.mark.parametrize("f", LOST.values(), ids=LOST)
def test_the_complex_step_refuses_what_lost_the_imaginary_part(f) -> None:
    with pytest.raises(UnsupportedError, match="lost the imaginary part"):
        complex_step(f)
