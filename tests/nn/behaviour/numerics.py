"""How many digits are right, and what happens where numbers end."""

from __future__ import annotations

from typing import Any

import numpy as np

from .row import Theme
from .seeing import EPS, digits, noise, normalised, numbers, outcome
from .systems import System

theme = Theme("Digits of float32", peers=("PyTorch", "MLX"))
layers = Theme("Digits of other dtypes, of parameters and buffers")

CENTRED = "the mean is removed twice, and nothing is folded into x a + b"
WIDE = "computed in float64"
ZERO = "0 is allowed, as in PyTorch"
ROUNDED_ONCE = "float16 is computed in float64 and rounded once"


def digits_of_y(lib: System, x: np.ndarray) -> str:
    return digits(lib.array(lib.instance_norm(lib.tensor(x), EPS)), normalised(x))


def digits_of_dx(lib: System, x: np.ndarray) -> str:
    """Those of dx = r (g - mean(g) - x_hat mean(g x_hat)), relative to its largest element."""
    g = noise(*x.shape, dtype="float32", seed=1)
    found = lib.vjp(lambda t: lib.instance_norm(t, EPS), lib.tensor(x, requires_grad=True), lib.tensor(g))
    x_hat, r = normalised(x), 1 / np.sqrt(x.var(2, keepdims=True, dtype=np.float64) + EPS)
    expected = r * (g - g.mean(2, keepdims=True, dtype=np.float64) - x_hat * (g * x_hat).mean(2, keepdims=True))
    return digits(lib.array(found) / np.abs(expected).max(), expected / np.abs(expected).max())


def about(offset: float, scale: float = 1.0) -> np.ndarray:
    """offset + scale N(0, 1) as float32."""
    return (offset + scale * noise(1, 4, 512)).astype(np.float32)


def constant(value: float) -> np.ndarray:
    return np.full((1, 1, 48, 48), value, np.float32)


@theme.row("y of N(0, 1)", "error below 1e-5")
def y_standard(lib: System) -> str:
    return digits_of_y(lib, about(0))


@theme.row("y of 5e3 + N(0, 1)", "error below 1e-5", CENTRED)
def y_near(lib: System) -> str:
    return digits_of_y(lib, about(5e3))


@theme.row("y of 1e5 + N(0, 1)", "error below 1e-5", CENTRED)
def y_far(lib: System) -> str:
    return digits_of_y(lib, about(1e5))


@theme.row("y of an image, 1e6 + N(0, 1)", "error below 1e-5", CENTRED)
def y_image(lib: System) -> str:
    return digits_of_y(lib, (1e6 + noise(1, 1, 48, 48)).astype(np.float32))


@theme.row("y of 1e15 N(0, 1)", "error below 1e-5")
def y_large(lib: System) -> str:
    return digits_of_y(lib, about(0, 1e15))


@theme.row("y of 1e25 N(0, 1), whose squares leave float32", "error below 1e-5", WIDE)
def y_beyond(lib: System) -> str:
    return digits_of_y(lib, about(0, 1e25))


@theme.row("dx of N(0, 1), relative", "error below 1e-5")
def dx_standard(lib: System) -> str:
    return digits_of_dx(lib, about(0))


@theme.row("dx of 1e5 + N(0, 1), relative", "error below 1e-5", CENTRED)
def dx_far(lib: System) -> str:
    return digits_of_dx(lib, about(1e5))


@theme.row("dx of 1e15 N(0, 1), relative", "error below 1e-5", "MLX's formula has the cube of 1 / sqrt(v + eps)")
def dx_large(lib: System) -> str:
    return digits_of_dx(lib, about(0, 1e15))


@theme.row("dx of 1e25 N(0, 1), whose squares leave float32, relative", "error below 1e-5", WIDE)
def dx_beyond(lib: System) -> str:
    return digits_of_dx(lib, about(0, 1e25))


@theme.row("y of a slice of 0.1", "exact", CENTRED)
def y_constant_tenth(lib: System) -> str:
    return digits_of_y(lib, constant(0.1))


@theme.row("y of a slice of 3456.7", "exact", CENTRED)
def y_constant_thousands(lib: System) -> str:
    return digits_of_y(lib, constant(3456.7))


@theme.row("y of a slice of 1e7 / 3", "exact", CENTRED)
def y_constant_millions(lib: System) -> str:
    return digits_of_y(lib, constant(1e7 / 3))


@theme.row("y of a constant slice, `eps=0`", "zeros", ZERO)
def y_flat(lib: System) -> str:
    return outcome(lambda: numbers(lib.array(lib.instance_norm(lib.tensor(constant(3.0)), 0.0)), constant(3.0)))


def dx_without_eps(lib: System, x: np.ndarray) -> str:
    def call() -> str:
        t, g = lib.tensor(x, requires_grad=True), lib.tensor(noise(*x.shape, dtype="float32", seed=1))
        return "zero" if np.abs(lib.array(lib.vjp(lambda t: lib.instance_norm(t, 0.0), t, g))).max() < 1e-6 else "not zero"

    return outcome(call)


@theme.row("dx of a constant slice, `eps=0`", "zero", ZERO)
def dx_flat(lib: System) -> str:
    return dx_without_eps(lib, constant(3.0))


@theme.row("dx of a slice of two elements, `eps=0`", "zero", ZERO)
def dx_of_two(lib: System) -> str:
    return dx_without_eps(lib, np.array([[[1.0, 4.0]]], np.float32))


def spoiled(lib: System, value: float) -> str:
    """Which slices one bad element makes nan."""
    x = noise(2, 3, 7, dtype="float32")
    x[1, 2, 3] = value
    with np.errstate(invalid="ignore"):
        bad = np.isnan(lib.array(lib.instance_norm(lib.tensor(x), EPS)))
    if not np.array_equal(bad.all(2), bad.any(2)):
        return "parts of slices"
    return "its slice alone" if bad.all(2).tolist() == [[False] * 3, [False, False, True]] else f"{bad.all(2).sum()} of 6 slices"


@theme.row("one nan spoils", "its slice alone")
def one_nan(lib: System) -> str:
    return spoiled(lib, np.nan)


@theme.row("one inf spoils", "its slice alone")
def one_inf(lib: System) -> str:
    return spoiled(lib, np.inf)


@layers.row("float64, y of 3e5 + N(0, 1)", "error below 1e-12", CENTRED)
def y_double(lib: System) -> str:
    x = 3e5 + noise(1, 4, 512)
    return digits(lib.array(lib.instance_norm(lib.tensor(x), EPS)), normalised(x - 3e5), best=1e-12)


def half(lib: System, parameters: str) -> tuple[str, str]:
    """Those of y and, relatively, of dweight for float16 of 60 + N(0, 1) in an affine layer."""
    x, g = (60 + noise(1, 4, 512)).astype(np.float16), noise(1, 4, 512, dtype="float16", seed=1)
    layer = lib.nn.InstanceNorm1d(4, affine=True, dtype=lib.dtype(parameters))
    y = layer(lib.tensor(x))
    (dweight,) = lib.grad(y, [layer.weight], lib.tensor(g))
    return digits(lib.array(y), normalised(x), 1e-3), relative_dweight(lib.array(dweight), x, g)


def relative_dweight(found: np.ndarray, x: np.ndarray, g: np.ndarray) -> str:
    expected = (g * normalised(x)).sum((0, 2))
    return digits(found / np.abs(expected).max(), expected / np.abs(expected).max(), 1e-3 if found.dtype == np.float16 else 1e-5)


@layers.row("float16, y of 60 + N(0, 1), parameters float16", "error below 1e-3", ROUNDED_ONCE)
def y_half_half(lib: System) -> str:
    return half(lib, "float16")[0]


@layers.row("its dweight, relative", "error below 1e-3", ROUNDED_ONCE)
def dweight_half_half(lib: System) -> str:
    return half(lib, "float16")[1]


@layers.row("float16, y of 60 + N(0, 1), parameters float32", "error below 1e-3")
def y_half_single(lib: System) -> str:
    return half(lib, "float32")[0]


@layers.row("its dweight, relative", "error below 1e-5")
def dweight_half_single(lib: System) -> str:
    return half(lib, "float32")[1]


@layers.row("dweight of 1e5 + N(0, 1), relative", "error below 1e-5", CENTRED)
def dweight_far(lib: System) -> str:
    x, g = about(1e5), noise(1, 4, 512, dtype="float32", seed=1)
    weight = lib.tensor(np.ones(4, np.float32), requires_grad=True)
    (found,) = lib.grad(lib.functional.instance_norm(lib.tensor(x), weight=weight), [weight], lib.tensor(g))
    return relative_dweight(lib.array(found), x, g)


def trained(lib: System) -> tuple[Any, np.ndarray]:
    """A layer whose running statistics are those of an input at 1e5, and the input."""
    layer, x = lib.nn.InstanceNorm1d(4, momentum=1.0, track_running_stats=True), about(1e5)
    layer(lib.tensor(x))
    return layer, x


@layers.row("running variance of 1e5 + N(0, 1), relative", "error below 1e-5", CENTRED)
def variance_far(lib: System) -> str:
    layer, x = trained(lib)
    expected = x.astype(np.float64).var((0, 2), ddof=1)
    return digits(lib.array(layer.running_var) / expected, np.ones(4))


@layers.row("eval of 1e5 + N(0, 1) by its own running statistics", "error below 1e-5", "the mean is subtracted first, in float64")
def eval_far(lib: System) -> str:
    layer, x = trained(lib)
    mean, var = (lib.array(b).astype(np.float64).reshape(4, 1) for b in (layer.running_mean, layer.running_var))
    return digits(lib.array(layer.eval()(lib.tensor(x))), (x - mean) / np.sqrt(var + EPS))
