"""What an input may look like: its rank, its channels, slices of one element, and nothing at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from .reasons import EMPTY, SHAPE_TOO, WHOLE_SHAPE, WRONG_COUNT
from .row import Theme
from .seeing import listed, noise, numbers, outcome, shape
from .systems import System

ranks = Theme("Ranks")
channels = Theme("Channel count, 4 given and `num_features=3`")
single = Theme("One spatial element")
empty = Theme("Empty inputs")

LAYOUTS = {1: r"\(N, C, L\) or \(C, L\)", 2: r"\(N, C, H, W\) or \(C, H, W\)", 3: r"\(N, C, D, H, W\) or \(C, D, H, W\)"}


def run(lib: System, layer: Any, x: np.ndarray) -> str:
    return numbers(lib.array(layer(lib.tensor(x))), x)


def accepted(lib: System, spatial: int) -> str:
    """The ranks that a layer takes, each with as many channels as it was made for."""
    found = []
    for rank in range(8):
        size = [4] * rank
        if rank > spatial:
            size[rank - spatial - 1] = 3  # the axis before the spatial ones
        x = noise(*size)
        said = outcome(lambda x=x: lib.array(getattr(lib.nn, f"InstanceNorm{spatial}d")(3)(lib.tensor(x))).shape == x.shape)
        found += [str(rank)] if said == "True" else []
    return f"{listed(found)} axes"


def refused(lib: System, spatial: int, size: tuple[int, ...], fits: str) -> str:
    """What the error for another rank names."""
    layer = getattr(lib.nn, f"InstanceNorm{spatial}d")(3)
    naming = {
        "the whole shape": shape(*size),
        "the layouts": LAYOUTS[spatial],
        "the layer that fits": fits,
        "the rank": rf"\b{len(size)}D\b",
    }
    return outcome(lambda: run(lib, layer, noise(*size)), naming)


@ranks.row("InstanceNorm1d takes", "2 and 3 axes", lucid="3 axes", torch_js="3 axes are shown")
def taken_1d(lib: System) -> str:
    return accepted(lib, 1)


@ranks.row("InstanceNorm2d takes", "3 and 4 axes", lucid="4 axes")
def taken_2d(lib: System) -> str:
    return accepted(lib, 2)


@ranks.row("InstanceNorm3d takes", "4 and 5 axes", lucid="5 axes")
def taken_3d(lib: System) -> str:
    return accepted(lib, 3)


@ranks.row(
    "other ranks, 1d",
    "ValueError naming the whole shape, the layouts and the layer that fits",
    WHOLE_SHAPE,
    lucid="ValueError naming the rank",
)
def refused_1d(lib: System) -> str:
    return refused(lib, 1, (2, 3, 4, 5), "InstanceNorm2d")


@ranks.row(
    "other ranks, 2d",
    "ValueError naming the whole shape, the layouts and the layer that fits",
    WHOLE_SHAPE,
    lucid="ValueError naming the rank",
)
def refused_2d(lib: System) -> str:
    return refused(lib, 2, (2, 3, 4, 5, 6), "InstanceNorm3d")


@ranks.row(
    "other ranks, 3d",
    "ValueError naming the whole shape, the layouts and the layer that fits",
    WHOLE_SHAPE,
    lucid="ValueError naming the rank",
)
def refused_3d(lib: System) -> str:
    return refused(lib, 3, (3, 5), "InstanceNorm1d")


@ranks.row("unbatched input", "as a batch of one", lucid="ValueError naming the rank")
def unbatched(lib: System) -> str:
    def call() -> str:
        x = noise(3, 4, 5)
        layer = lib.nn.InstanceNorm2d(3)
        alone, first = (lib.array(layer(lib.tensor(value))) for value in (x, x[None]))
        return "as a batch of one" if np.array_equal(alone, first[0]) else "otherwise than a batch of one"

    return outcome(call)


@ranks.row("an array that is no tensor", "TypeError naming the type and the way out", "says what to do")
def no_tensor(lib: System) -> str:
    return outcome(lambda: lib.nn.InstanceNorm1d(3)(noise(2, 3, 7)).shape, {"the type": "numpy|float64", "the way out": r"tensor\("})


@ranks.row("output of a transposed input", "contiguous")
def transposed(lib: System) -> str:
    x = lib.tensor(noise(2, 4, 5, 3))
    y = lib.nn.InstanceNorm2d(3)(lib.own.moveaxis(x, -1, 1)).detach().numpy()
    return "contiguous" if y.flags.c_contiguous else "in the input's memory order"


def mismatch(lib: System, affine: bool, track: bool) -> str:
    x = noise(2, 4, 5, 5)
    naming = {"the whole shape": shape(*x.shape), "num_features": "num_features"}
    return outcome(lambda: run(lib, lib.nn.InstanceNorm2d(3, affine=affine, track_running_stats=track), x), naming)


@channels.row("plain", "ValueError naming the whole shape and num_features", WRONG_COUNT, lucid="not checked")
def mismatch_plain(lib: System) -> str:
    return mismatch(lib, False, False)


@channels.row("affine", "ValueError naming the whole shape and num_features", SHAPE_TOO, lucid="fails by reshape or broadcast")
def mismatch_affine(lib: System) -> str:
    return mismatch(lib, True, False)


@channels.row("tracking", "ValueError naming the whole shape and num_features", WRONG_COUNT, lucid="not checked")
def mismatch_tracking(lib: System) -> str:
    return mismatch(lib, False, True)


@channels.row("affine, tracking", "ValueError naming the whole shape and num_features", SHAPE_TOO, lucid="fails by reshape or broadcast")
def mismatch_both(lib: System) -> str:
    return mismatch(lib, True, True)


def one_element(lib: System, training: bool, **options: Any) -> str:
    x = noise(2, 3, 1, 1)
    layer = lib.nn.InstanceNorm2d(3, **options).train(training)
    return outcome(lambda: run(lib, layer, x), {"the whole shape": shape(*x.shape)})


@single.row("training", "ValueError naming the whole shape", lucid="zeros")
def one_training(lib: System) -> str:
    return one_element(lib, True)


@single.row("eval without tracking", "ValueError naming the whole shape", lucid="zeros")
def one_eval(lib: System) -> str:
    return one_element(lib, False)


@single.row("training with tracking", "ValueError naming the whole shape")
def one_training_tracking(lib: System) -> str:
    return one_element(lib, True, track_running_stats=True)


@single.row("eval with tracking", "uses the running statistics")
def one_eval_tracking(lib: System) -> str:
    return one_element(lib, False, track_running_stats=True)


@single.row("unbatched, training", "ValueError naming the whole shape", "the shape that was given")
def one_unbatched(lib: System) -> str:
    return outcome(
        lambda: lib.nn.InstanceNorm2d(3)(lib.tensor(noise(3, 1, 1))).shape,
        {"the whole shape": shape(3, 1, 1), "a shape of its own": shape(1, 3, 1, 1)},
    )


def nothing(lib: System, *size: int, training: bool = True, **options: Any) -> str:
    """Output, gradients and running statistics of an input without elements."""

    def call() -> str:
        layer = lib.nn.InstanceNorm2d(3, **options).train(training)
        x = lib.tensor(np.zeros(size), requires_grad=True)
        y = layer(x)
        wanted = [x, *(p for p in (layer.weight, layer.bias) if p is not None)]
        gradients = [lib.array(g) for g in lib.grad(y, wanted, lib.tensor(np.zeros(y.shape)))]
        words = [numbers(lib.array(y), np.zeros(size)), "zero gradients" if not any(g.any() for g in gradients) else "other gradients"]
        if layer.running_mean is not None:
            mean, var = lib.array(layer.running_mean), lib.array(layer.running_var)
            kept = (mean == 0).all() and (var == 1).all()
            words.append(f"buffers {'kept' if kept else 'nan' if np.isnan(mean).all() and np.isnan(var).all() else 'moved'}")
        return ", ".join(words)

    return outcome(call)


@empty.row("N = 0", "empty output, zero gradients")
def no_batch(lib: System) -> str:
    return nothing(lib, 0, 3, 4, 5)


@empty.row("N = 0, affine", "empty output, zero gradients", EMPTY)
def no_batch_affine(lib: System) -> str:
    return nothing(lib, 0, 3, 4, 5, affine=True, dtype=lib.dtype("float64"))


@empty.row("N = 0, tracking, training", "empty output, zero gradients, buffers kept", "an empty batch says nothing about the statistics")
def no_batch_tracking(lib: System) -> str:
    return nothing(lib, 0, 3, 4, 5, track_running_stats=True)


@empty.row("N = 0, tracking, eval", "empty output, zero gradients, buffers kept")
def no_batch_eval(lib: System) -> str:
    return nothing(lib, 0, 3, 4, 5, track_running_stats=True, training=False)


@empty.row("m = 0", "empty output, zero gradients")
def no_space(lib: System) -> str:
    return nothing(lib, 2, 3, 0, 5)


@empty.row("m = 0, affine", "empty output, zero gradients")
def no_space_affine(lib: System) -> str:
    return nothing(lib, 2, 3, 0, 5, affine=True, dtype=lib.dtype("float64"))


@empty.row("m = 0, tracking, training", "empty output, zero gradients, buffers kept")
def no_space_tracking(lib: System) -> str:
    return nothing(lib, 2, 3, 0, 5, track_running_stats=True)


@empty.row("C = 0, in the functional form", "empty output")
def no_channels(lib: System) -> str:
    x = np.zeros((2, 0, 7))
    return outcome(lambda: numbers(lib.array(lib.functional.instance_norm(lib.tensor(x))), x))


@empty.row("C = 0, with weight and bias", "empty output", "as without weight and bias")
def no_channels_affine(lib: System) -> str:
    x, p = np.zeros((2, 0, 7)), np.zeros(0)
    return outcome(lambda: numbers(lib.array(lib.functional.instance_norm(lib.tensor(x), weight=lib.tensor(p), bias=lib.tensor(p))), x))
