"""InstanceNorm with the channels last, which is MLX's."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constructor import arguments
from .reasons import BACKWARD, EARLY, EMPTY, WHOLE_SHAPE, WRONG_COUNT, WRONG_DTYPE
from .row import Theme
from .seeing import agree, digits, listed, noise, normalised, outcome, shape, single
from .systems import System

theme = Theme("Channels last: `nn.InstanceNorm`", peers=("MLX",))


def made(lib: System, *args: Any, **options: Any) -> str:
    def make() -> str:
        lib.nn.InstanceNorm(*args, **options)
        return "accepted"

    return outcome(make, {"dims": "dims", "eps": "eps"})


def seen(y: np.ndarray, x: np.ndarray) -> str:
    """Which numbers came out for (N, S..., C)."""
    if y.shape != x.shape:
        return f"an output of shape {y.shape}"
    if not y.size:
        return "empty output"
    if not y.any():
        return "zeros"
    return "normalises" if agree(np.moveaxis(y, -1, 1), normalised(np.moveaxis(x, -1, 1))) == "right" else "other numbers"


def run(lib: System, x: np.ndarray, *args: Any, **options: Any) -> str:
    naming = {"the whole shape": shape(*x.shape), "dims": r"\bdims\b", "the dtype": rf"\b{x.dtype}", "the rank": rf"\b{x.ndim} dimensions"}
    return outcome(lambda: seen(lib.array(lib.nn.InstanceNorm(*(args or (3,)), **options)(lib.tensor(x))), x), naming)


@theme.row("arguments, order, defaults", "dims, eps=1e-05, affine=False, *, backward='analytic'", BACKWARD)
def arguments_of_the_layer(lib: System) -> str:
    return arguments(lib.nn.InstanceNorm)


@theme.row("parameters by default", "none")
def nothing_by_default(lib: System) -> str:
    layer = lib.nn.InstanceNorm(3)
    return listed([name for name in ("weight", "bias") if getattr(layer, name, None) is not None]) or "none"


@theme.row("`affine=True`", "weight 1 (3,) and bias 0 (3,)")
def affine(lib: System) -> str:
    layer = lib.nn.InstanceNorm(3, affine=True)
    values = {name: lib.array(getattr(layer, name)) for name in ("weight", "bias")}
    return listed([f"{name} {np.unique(value).item():g} {value.shape}" for name, value in values.items()])


@theme.row("`dims=0`", "ValueError naming dims", EARLY)
def no_dims(lib: System) -> str:
    return made(lib, 0)


@theme.row("`dims=-1`", "ValueError naming dims", EARLY)
def negative_dims(lib: System) -> str:
    return made(lib, -1)


@theme.row("`dims=3.0`", "TypeError naming dims", EARLY)
def float_dims(lib: System) -> str:
    return made(lib, 3.0)


@theme.row("`eps=0`", "ValueError naming eps")
def eps_zero(lib: System) -> str:
    return made(lib, 3, eps=0.0)


@theme.row("`eps=-1`", "ValueError naming eps")
def eps_negative(lib: System) -> str:
    return made(lib, 3, eps=-1.0)


@theme.row("axes it takes", "3, 4, 5 and 6 axes")
def axes_taken(lib: System) -> str:
    said = {rank: run(lib, single(*(2, 4, 5, 2, 2)[: rank - 1], 3)) for rank in range(1, 7)}
    return listed([str(rank) for rank, what in said.items() if what == "normalises"]) + " axes"


@theme.row("two axes", "ValueError naming the whole shape", WHOLE_SHAPE)
def two_axes(lib: System) -> str:
    return run(lib, single(2, 3))


@theme.row("channel count, 4 given and `dims=3`", "ValueError naming the whole shape and dims", WRONG_COUNT)
def mismatch(lib: System) -> str:
    return run(lib, single(2, 5, 4))


@theme.row("the same, affine", "ValueError naming the whole shape and dims", "says which count was expected")
def mismatch_affine(lib: System) -> str:
    return run(lib, single(2, 5, 4), affine=True)


@theme.row(
    "channel count, 1 given and `dims=3`, affine",
    "ValueError naming the whole shape and dims",
    WRONG_COUNT,
)
def broadcast(lib: System) -> str:
    return run(lib, single(2, 5, 1), affine=True)


@theme.row("one spatial element", "zeros")
def one_element(lib: System) -> str:
    return run(lib, single(2, 1, 3))


@theme.row("m = 0", "empty output")
def no_space(lib: System) -> str:
    return run(lib, single(2, 0, 3))


@theme.row("N = 0", "empty output", EMPTY)
def no_batch(lib: System) -> str:
    return run(lib, single(0, 5, 3))


@theme.row("eval against training", "the same to the last bit")
def eval_is_training(lib: System) -> str:
    layer, x = lib.nn.InstanceNorm(3), lib.tensor(single(2, 7, 3))
    trained = lib.array(layer(x))
    return "the same to the last bit" if np.array_equal(trained, lib.array(layer.eval()(x))) else "different"


def output_dtype(lib: System, dtype: str, **options: Any) -> str:
    return outcome(lambda: str(lib.nn.InstanceNorm(3, **options)(lib.tensor(noise(2, 7, 3, dtype=dtype))).dtype).rpartition(".")[2])


@theme.row("output of float16", "float16")
def half(lib: System) -> str:
    return output_dtype(lib, "float16")


@theme.row("output of float16, affine", "float16", "the output has the input's dtype")
def half_affine(lib: System) -> str:
    return output_dtype(lib, "float16", affine=True)


@theme.row("output of float64", "float64")
def double(lib: System) -> str:
    return output_dtype(lib, "float64")


@theme.row("digits of float64 N(0, 1)", "error below 1e-12", "float64 is computed as such")
def digits_of_double(lib: System) -> str:
    x = noise(1, 512, 4)
    y = lib.array(lib.nn.InstanceNorm(4)(lib.tensor(x)))
    return digits(np.moveaxis(y, -1, 1), normalised(np.moveaxis(x, -1, 1)), best=1e-12)


@theme.row("float16 of 512 and -512, whose squares float16 has not", "[1.0, -1.0]")
def large_half(lib: System) -> str:
    x = np.array([[[512.0], [-512.0]]], np.float16)
    return str(lib.array(lib.nn.InstanceNorm(1)(lib.tensor(x))).ravel().tolist())


@theme.row("int64", "TypeError naming the whole shape and the dtype", WRONG_DTYPE)
def integers(lib: System) -> str:
    return run(lib, np.arange(42).reshape(2, 7, 3))


@theme.row("names in the state dict, affine", "weight, bias")
def names(lib: System) -> str:
    layer = lib.nn.InstanceNorm(3, affine=True)
    return ", ".join(layer.state_dict() if hasattr(layer, "state_dict") else layer.parameters())


@theme.row("`repr`", "InstanceNorm(3, eps=1e-05, affine=False)")
def printed(lib: System) -> str:
    return repr(lib.nn.InstanceNorm(3))
