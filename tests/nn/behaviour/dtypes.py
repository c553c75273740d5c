"""Kinds of numbers: what is taken, what comes out, and in which dtype gradients arrive."""

from __future__ import annotations

from typing import Any

import numpy as np

from .reasons import WRONG_DTYPE
from .row import Theme
from .seeing import noise, numbers, outcome
from .systems import System

theme = Theme("dtypes")

MIXED = "nothing is lost by mixing"


def given(lib: System, dtype: str, parameters: str | None = None, naming: str = "-") -> str:
    """The dtypes of output and gradients for an input of one dtype and parameters of another."""

    def call() -> str:
        options: dict[str, Any] = {} if parameters is None else {"affine": True, "dtype": lib.dtype(parameters)}
        layer = lib.nn.InstanceNorm1d(3, **options)
        x = lib.tensor(noise(2, 3, 7, dtype=dtype), requires_grad=True)
        y = layer(x)
        wanted = {"dx": x} if parameters is None else {"dx": x, "dweight": layer.weight, "dbias": layer.bias}
        gradients = lib.grad(y, list(wanted.values()), lib.tensor(noise(2, 3, 7, dtype=dtype, seed=1)))
        found = {"y": y, **dict(zip(wanted, gradients, strict=True))}
        return ", ".join(f"{name} {lib.array(value).dtype}" for name, value in found.items())

    return outcome(call, {"the dtype": dtype})


def refused(lib: System, x: np.ndarray) -> str:
    return outcome(lambda: numbers(lib.array(lib.nn.InstanceNorm1d(3)(lib.tensor(x))), x), {"the dtype": rf"\b{x.dtype}"})


@theme.row("float16", "y float16, dx float16")
def half(lib: System) -> str:
    return given(lib, "float16")


@theme.row("float32", "y float32, dx float32")
def single(lib: System) -> str:
    return given(lib, "float32")


@theme.row("float64", "y float64, dx float64")
def double(lib: System) -> str:
    return given(lib, "float64")


@theme.row("bfloat16", "no such dtype", "NumPy has none")
def brain(lib: System) -> str:
    if not hasattr(lib.own, "bfloat16"):
        return "no such dtype"
    y = lib.nn.InstanceNorm1d(3)(lib.tensor(noise(2, 3, 7)).to(lib.own.bfloat16))
    return f"y {str(y.dtype).rpartition('.')[2]}"


@theme.row("float16, parameters float16", "y float16, dx float16, dweight float16, dbias float16")
def half_half(lib: System) -> str:
    return given(lib, "float16", "float16")


@theme.row(
    "float16, parameters float32", "y float16, dx float16, dweight float32, dbias float32", lucid="statistics in float32 under autocast"
)
def half_single(lib: System) -> str:
    return given(lib, "float16", "float32")


@theme.row("float32, parameters float64", "y float32, dx float32, dweight float64, dbias float64", MIXED)
def single_double(lib: System) -> str:
    return given(lib, "float32", "float64")


@theme.row("float64, parameters float32", "y float64, dx float64, dweight float32, dbias float32", MIXED)
def double_single(lib: System) -> str:
    return given(lib, "float64", "float32")


@theme.row("float64, running statistics float32", "y float64, in eval float64, running_mean float32")
def double_tracking(lib: System) -> str:
    def call() -> str:
        layer, x = lib.nn.InstanceNorm1d(3, track_running_stats=True), lib.tensor(noise(2, 3, 7))
        trained, fixed = lib.array(layer(x)), lib.array(layer.eval()(x))
        return f"y {trained.dtype}, in eval {fixed.dtype}, running_mean {lib.array(layer.running_mean).dtype}"

    return outcome(call)


@theme.row("float16, running statistics float16", "y float16, running_mean float16")
def half_tracking(lib: System) -> str:
    layer = lib.nn.InstanceNorm1d(3, track_running_stats=True, dtype=lib.dtype("float16"))
    y = layer(lib.tensor(noise(2, 3, 7, dtype="float16")))
    return f"y {lib.array(y).dtype}, running_mean {lib.array(layer.running_mean).dtype}"


@theme.row("int64", "TypeError naming the dtype", WRONG_DTYPE)
def integers(lib: System) -> str:
    return refused(lib, np.arange(42).reshape(2, 3, 7))


@theme.row("bool", "TypeError naming the dtype", WRONG_DTYPE)
def booleans(lib: System) -> str:
    return refused(lib, noise(2, 3, 7) > 0)


@theme.row("complex64", "TypeError naming the dtype", WRONG_DTYPE)
def complex_numbers(lib: System) -> str:
    return refused(lib, noise(2, 3, 7).astype(np.complex64))
