"""The rest of the family: BatchNorm, LayerNorm, GroupNorm and RMSNorm."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import statistics
from .constructor import arguments
from .reasons import BACKWARD, WRONG_COUNT
from .row import Theme
from .seeing import noise, numbers, outcome, shape, single
from .systems import System

taken = Theme("The family: arguments and names")
batch = Theme("BatchNorm")
trailing = Theme("LayerNorm, GroupNorm, RMSNorm", peers=("PyTorch", "MLX"))

CONSTANT = "without eps a slice of one value gives the bias, and no gradient"
UNCHANGED = "a call that fails changes nothing"
WRONG_SHAPE = "a wrong shape is a ValueError that names it"
OWN_DTYPE = "the output has the input's dtype"

PAIR = statistics.PAIR.astype(np.float32)  # mean 2, variance 6 or, unbiased, 8


def names(lib: System, layer: Any) -> str:
    state = layer.state_dict()
    return f"{', '.join(state)}; version {state._metadata['']['version']}"


@taken.row(
    "`BatchNorm2d`: arguments, order, defaults",
    "num_features, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *, bias=True, "
    "backward='analytic'",
    BACKWARD,
)
def arguments_of_batch_norm_layer(lib: System) -> str:
    return arguments(lib.nn.BatchNorm2d)


@taken.row(
    "`LayerNorm`",
    "normalized_shape, eps=1e-05, elementwise_affine=True, bias=True, device=None, dtype=None, *, backward='analytic'",
    BACKWARD,
)
def arguments_of_layer_norm_layer(lib: System) -> str:
    return arguments(lib.nn.LayerNorm)


@taken.row(
    "`GroupNorm`",
    "num_groups, num_channels, eps=1e-05, affine=True, device=None, dtype=None, *, bias=True, backward='analytic'",
    BACKWARD,
)
def arguments_of_group_norm_layer(lib: System) -> str:
    return arguments(lib.nn.GroupNorm)


@taken.row(
    "`RMSNorm`",
    "normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None, *, backward='analytic'",
    BACKWARD,
)
def arguments_of_rms_norm_layer(lib: System) -> str:
    return arguments(lib.nn.RMSNorm)


@taken.row(
    "`functional.batch_norm`",
    "input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05, *, backward='analytic'",
    BACKWARD,
)
def arguments_of_batch_norm(lib: System) -> str:
    return arguments(lib.functional.batch_norm)


@taken.row("`functional.layer_norm`", "input, normalized_shape, weight=None, bias=None, eps=1e-05, *, backward='analytic'", BACKWARD)
def arguments_of_layer_norm(lib: System) -> str:
    return arguments(lib.functional.layer_norm)


@taken.row("`functional.group_norm`", "input, num_groups, weight=None, bias=None, eps=1e-05, *, backward='analytic'", BACKWARD)
def arguments_of_group_norm(lib: System) -> str:
    return arguments(lib.functional.group_norm)


@taken.row("`functional.rms_norm`", "input, normalized_shape, weight=None, eps=None, *, backward='analytic'", BACKWARD)
def arguments_of_rms_norm(lib: System) -> str:
    return arguments(lib.functional.rms_norm)


@taken.row("names in the state dict: `BatchNorm2d`", "weight, bias, running_mean, running_var, num_batches_tracked; version 2")
def names_of_batch_norm(lib: System) -> str:
    return names(lib, lib.nn.BatchNorm2d(3))


@taken.row("`LayerNorm`", "weight, bias; version 1")
def names_of_layer_norm(lib: System) -> str:
    return names(lib, lib.nn.LayerNorm(6))


@taken.row("`GroupNorm`", "weight, bias; version 1")
def names_of_group_norm(lib: System) -> str:
    return names(lib, lib.nn.GroupNorm(2, 6))


@taken.row("`RMSNorm`", "weight; version 1")
def names_of_rms_norm(lib: System) -> str:
    return names(lib, lib.nn.RMSNorm(6))


def of_one_channel(lib: System, x: np.ndarray, training: bool = True, **options: Any) -> str:
    """What a layer of one channel makes of (N, C, L), and the batches that it counted."""
    layer = lib.nn.BatchNorm1d(1, **options).train(training)
    said = outcome(
        lambda: numbers(lib.array(layer(lib.tensor(x))).reshape(1, 1, -1), x.reshape(1, 1, -1)), {"the whole shape": shape(*x.shape)}
    )
    return said if layer.num_batches_tracked is None else f"{said}, {layer.num_batches_tracked.item()} counted"


def flat(lib: System, name: str, *args: int, value: float = 3.0) -> str:
    """Output and gradient of slices of one value, by a layer with the bias 2 where it has one."""

    def call() -> str:
        layer = getattr(lib.nn, name)(*args, eps=0.0)
        if getattr(layer, "bias", None) is not None:
            layer.bias = lib.parameter(np.full(6, 2, np.float32))
        x = lib.tensor(np.full((2, 6), value, np.float32), requires_grad=True)
        found = {"y": layer(x), "dx": lib.vjp(layer, x, lib.tensor(single(2, 6)))}
        return ", ".join(f"{what} {' and '.join(f'{v + 0.0:g}' for v in np.unique(lib.array(found[what])))}" for what in found)

    return outcome(call, {"eps": "eps"})


def called(lib: System, x: np.ndarray, name: str, *args: int) -> str:
    """The dtype of what a layer returned, or the error."""
    return outcome(lambda: lib.array(getattr(lib.nn, name)(*args)(lib.tensor(x))).dtype, {"the whole shape": shape(*x.shape)})


@batch.row("training", "normalises, 1 counted")
def in_training(lib: System) -> str:
    return of_one_channel(lib, 3 * single(2, 1, 7))


@batch.row("eval", "uses the running statistics, 0 counted")
def in_eval(lib: System) -> str:
    return of_one_channel(lib, 3 * single(2, 1, 7), training=False)


@batch.row("eval, `track_running_stats=False`", "normalises")
def in_eval_without_tracking(lib: System) -> str:
    return of_one_channel(lib, 3 * single(2, 1, 7), training=False, track_running_stats=False)


@batch.row("variance that is kept", "unbiased")
def variance_kept(lib: System) -> str:
    layer = lib.nn.BatchNorm1d(1, momentum=1.0)
    layer(lib.tensor(PAIR))
    return {8: "unbiased", 6: "biased"}.get(lib.array(layer.running_var).item(), "something else")


@batch.row("`momentum=None`, batches with means 2 and 4", "running_mean 3, 2 counted")
def momentum_none(lib: System) -> str:
    layer = lib.nn.BatchNorm1d(1, momentum=None)
    for x in (PAIR, PAIR + 2):
        layer(lib.tensor(x))
    return f"running_mean {layer.running_mean.item():g}, {layer.num_batches_tracked.item()} counted"


@batch.row("one element per channel, training", "ValueError naming the whole shape, 0 counted", UNCHANGED)
def one_element(lib: System) -> str:
    return of_one_channel(lib, single(1, 1, 1))


@batch.row("one element per channel, eval", "uses the running statistics, 0 counted")
def one_element_in_eval(lib: System) -> str:
    return of_one_channel(lib, single(1, 1, 1), training=False)


@batch.row("N = 0, training", "empty output, 0 counted", "an empty batch says nothing about the statistics")
def no_batch(lib: System) -> str:
    return of_one_channel(lib, single(0, 1, 7))


@batch.row("channel count, 4 given and `num_features=1`", "ValueError naming the whole shape, 0 counted", WRONG_SHAPE)
def mismatch(lib: System) -> str:
    return of_one_channel(lib, single(2, 4, 7))


@batch.row("the same, neither affine nor tracking", "ValueError naming the whole shape", WRONG_COUNT)
def mismatch_of_nothing(lib: System) -> str:
    return of_one_channel(lib, single(2, 4, 7), affine=False, track_running_stats=False)


@batch.row("a constant channel, `eps=0`, bias 2", "y 2, dx 0", CONSTANT)
def constant_channel(lib: System) -> str:
    return flat(lib, "BatchNorm1d", 6)


@batch.row("output of float64, parameters float32", "float64", OWN_DTYPE)
def double_of_batch_norm(lib: System) -> str:
    return called(lib, noise(2, 6), "BatchNorm1d", 6)


def made(lib: System, name: str, *args: int) -> str:
    def make() -> str:
        getattr(lib.nn, name)(*args)
        return "accepted"

    return outcome(make)


@trailing.row("`LayerNorm`, a constant slice, `eps=0`, bias 2", "y 2, dx 0", CONSTANT)
def constant_position(lib: System) -> str:
    return flat(lib, "LayerNorm", 6)


@trailing.row("`GroupNorm`, the same", "y 2, dx 0", CONSTANT)
def constant_group(lib: System) -> str:
    return flat(lib, "GroupNorm", 2, 6)


@trailing.row("`RMSNorm`, a slice of zeros, `eps=0`", "y 0, dx 0", CONSTANT)
def zeros(lib: System) -> str:
    return flat(lib, "RMSNorm", 6, value=0.0)


@trailing.row("`RMSNorm`, default of `eps` by dtype", "float16 1.2e-07, float32 1.2e-07, float64 2.2e-16", "as PyTorch's")
def default_eps(lib: System) -> str:
    """What was added to the mean square, by the output for slices of one small value."""
    found, small = {}, 2.0**-13
    for dtype in ("float16", "float32", "float64"):
        layer = lib.nn.RMSNorm(6)
        layer.weight = lib.parameter(np.ones(6, dtype))
        y = lib.array(layer(lib.tensor(np.full((1, 6), small, dtype))))
        found[dtype] = small**2 * (float(y[0, 0]) ** -2 - 1)
    return ", ".join(f"{dtype} {eps:.1e}" for dtype, eps in found.items())


@trailing.row("`LayerNorm(6)`, an input (2, 5)", "ValueError naming the whole shape", WRONG_SHAPE)
def mismatch_of_layer_norm(lib: System) -> str:
    return called(lib, single(2, 5), "LayerNorm", 6)


@trailing.row("`RMSNorm(6)`, an input (2, 5)", "ValueError naming the whole shape", WRONG_SHAPE)
def mismatch_of_rms_norm(lib: System) -> str:
    return called(lib, single(2, 5), "RMSNorm", 6)


@trailing.row("`GroupNorm(2, 6)`, an input (2, 4)", "ValueError naming the whole shape", WRONG_SHAPE)
def mismatch_of_group_norm(lib: System) -> str:
    return called(lib, single(2, 4), "GroupNorm", 2, 6)


@trailing.row("`LayerNorm(0)`", "ValueError", "a layer of no elements is a mistake")
def no_shape(lib: System) -> str:
    return made(lib, "LayerNorm", 0)


@trailing.row("`GroupNorm(4, 6)`", "ValueError")
def undivided(lib: System) -> str:
    return made(lib, "GroupNorm", 4, 6)


@trailing.row("`LayerNorm`, output of float16, parameters float32", "float16", OWN_DTYPE)
def half(lib: System) -> str:
    return called(lib, noise(2, 6, dtype="float16"), "LayerNorm", 6)


@trailing.row("output of float64, parameters float32", "float64", OWN_DTYPE)
def double(lib: System) -> str:
    return called(lib, noise(2, 6), "LayerNorm", 6)
