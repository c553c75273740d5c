"""Every argument of the constructors: its default, what it reaches, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .reasons import BACKWARD, EARLY, NAN, WRONG_DTYPE
from .row import Theme
from .seeing import listed, noise, numbers, outcome
from .systems import System

defaults = Theme("Constructor")
refused = Theme("Arguments that make a layer, or none")

NAMED = "names what was wrong"

NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def arguments(cls: type) -> str:
    """The arguments of a class in order, with their defaults."""
    words: list[str] = []
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(name if parameter.default is parameter.empty else f"{name}={parameter.default!r}")
    return ", ".join(words)


def default(lib: System, name: str) -> str:
    return repr(getattr(lib.nn.InstanceNorm2d(3), name))


def made(lib: System, *args: Any, **options: Any) -> str:
    """Whether InstanceNorm2d can be made with these."""

    def make() -> str:
        lib.nn.InstanceNorm2d(*args, **options)
        return "accepted"

    naming = {name: name for name in ("num_features", "eps", "momentum", "dtype", "device")}
    return outcome(make, naming | {"the argument": r"argument '\w+'"})


def held(layer: Any) -> list[str]:
    """The names of the parameters and buffers that are not None."""
    return [name for name in NAMES if getattr(layer, name) is not None]


def everything(lib: System, **options: Any) -> Any:
    """A layer with every parameter and buffer."""
    return lib.nn.InstanceNorm2d(3, affine=True, track_running_stats=True, **options)


def dtypes(lib: System, layer: Any) -> str:
    found: dict[str, list[str]] = {}
    for name in NAMES:
        found.setdefault(lib.array(getattr(layer, name)).dtype.name, []).append(name)
    return "; ".join(f"{listed(names)}: {dtype}" for dtype, names in found.items())


@defaults.row(
    "arguments, order, defaults",
    "num_features, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False, device=None, dtype=None, *, bias=True, "
    "backward='analytic'",
    BACKWARD,
    lucid="the same without bias",
    torch_js="num_features, eps, momentum, affine",
)
def arguments_of_the_layer(lib: System) -> str:
    return arguments(lib.nn.InstanceNorm2d)


@defaults.row("`eps`, default", "1e-05", lucid="1e-05")
def eps_default(lib: System) -> str:
    return default(lib, "eps")


@defaults.row("`momentum`, default", "0.1", lucid="0.1")
def momentum_default(lib: System) -> str:
    return default(lib, "momentum")


@defaults.row("`affine`, default", "False", lucid="False", torch_js="off")
def affine_default(lib: System) -> str:
    return default(lib, "affine")


@defaults.row("`track_running_stats`, default", "False", lucid="False", torch_js="no such argument: no running statistics")
def track_running_stats_default(lib: System) -> str:
    return default(lib, "track_running_stats")


@defaults.row("parameters and buffers by default", "none: all five names are None")
def nothing_by_default(lib: System) -> str:
    return listed(held(lib.nn.InstanceNorm2d(3))) or "none: all five names are None"


@defaults.row("`affine=True`", "weight and bias")
def affine_makes(lib: System) -> str:
    return listed(held(lib.nn.InstanceNorm2d(3, affine=True)))


@defaults.row("`affine=True, bias=False`", "weight", lucid="no such argument")
def without_bias(lib: System) -> str:
    return listed(held(lib.nn.InstanceNorm2d(3, affine=True, bias=False)))


@defaults.row("`bias=True` without affine", "none")
def bias_alone(lib: System) -> str:
    return listed(held(lib.nn.InstanceNorm2d(3, bias=True))) or "none"


@defaults.row("`track_running_stats=True`", "running_mean, running_var and num_batches_tracked", lucid="running_mean and running_var")
def tracking_makes(lib: System) -> str:
    return listed(held(lib.nn.InstanceNorm2d(3, track_running_stats=True)))


@defaults.row("their initial values", "weight 1, bias 0, running_mean 0, running_var 1, num_batches_tracked 0")
def initial_values(lib: System) -> str:
    layer = everything(lib)
    return ", ".join(f"{name} {np.unique(lib.array(getattr(layer, name))).item():g}" for name in NAMES)


@defaults.row("their shapes", "weight (3,), bias (3,), running_mean (3,), running_var (3,), num_batches_tracked ()")
def shapes_made(lib: System) -> str:
    layer = everything(lib)
    return ", ".join(f"{name} {lib.array(getattr(layer, name)).shape}" for name in NAMES)


@defaults.row("`dtype` reaches", "weight, bias, running_mean and running_var: float64; num_batches_tracked: int64")
def dtype_reaches(lib: System) -> str:
    return dtypes(lib, everything(lib, dtype=lib.dtype("float64")))


@defaults.row("dtypes by default", "weight, bias, running_mean and running_var: float32; num_batches_tracked: int64")
def dtype_default(lib: System) -> str:
    return dtypes(lib, everything(lib))


@defaults.row(
    "dtypes after `set_default_dtype(float64)`", "weight, bias, running_mean and running_var: float64; num_batches_tracked: int64"
)
def dtype_of_the_library(lib: System) -> str:
    before = lib.own.get_default_dtype()
    lib.own.set_default_dtype(lib.dtype("float64"))
    try:
        return dtypes(lib, everything(lib))
    finally:
        lib.own.set_default_dtype(before)


@defaults.row("dtypes after `layer.double()`", "weight, bias, running_mean and running_var: float64; num_batches_tracked: int64")
def dtype_cast(lib: System) -> str:
    return dtypes(lib, everything(lib).double())


@defaults.row("`device` reaches", "all five")
def device_reaches(lib: System) -> str:
    with lib.elsewhere() as device:
        layer = everything(lib, device=device)
        found = [name for name in NAMES if str(getattr(layer, name).device).startswith(device)]
    return "all five" if len(found) == len(NAMES) else listed(found)


@defaults.row("attributes that keep the arguments", "num_features, eps, momentum, affine and track_running_stats")
def attributes(lib: System) -> str:
    layer = lib.nn.InstanceNorm2d(3, 0.5, 0.25, True, True)
    given = {"num_features": 3, "eps": 0.5, "momentum": 0.25, "affine": True, "track_running_stats": True}
    return listed([name for name, value in given.items() if getattr(layer, name, None) == value])


@defaults.row("`repr`", "InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)")
def printed(lib: System) -> str:
    return repr(lib.nn.InstanceNorm2d(3))


@defaults.row("`repr`, everything on", "InstanceNorm2d(3, eps=1e-05, momentum=None, affine=True, bias=True, track_running_stats=True)")
def printed_in_full(lib: System) -> str:
    return repr(lib.nn.InstanceNorm2d(3, momentum=None, affine=True, track_running_stats=True))


@refused.row("`num_features=0`", "ValueError naming num_features", "a layer of no channels is a mistake")
def no_features(lib: System) -> str:
    return made(lib, 0)


@refused.row("`num_features=-1`", "ValueError naming num_features", EARLY)
def negative_features(lib: System) -> str:
    return made(lib, -1)


@refused.row("`num_features=-1`, affine", "ValueError naming num_features", NAMED)
def negative_features_affine(lib: System) -> str:
    return made(lib, -1, affine=True)


@refused.row("`num_features=3.0`", "TypeError naming num_features", EARLY)
def float_features(lib: System) -> str:
    return made(lib, 3.0)


@refused.row("`num_features=3.0`, affine", "TypeError naming num_features", NAMED)
def float_features_affine(lib: System) -> str:
    return made(lib, 3.0, affine=True)


@refused.row('`num_features="3"`', "TypeError naming num_features", EARLY)
def string_features(lib: System) -> str:
    return made(lib, "3")


@refused.row("`num_features=None`", "TypeError naming num_features", EARLY)
def none_features(lib: System) -> str:
    return made(lib, None)


@refused.row("`num_features=True`", "TypeError naming num_features", NAMED)
def true_features(lib: System) -> str:
    return made(lib, True, affine=True)


@refused.row("`num_features` a NumPy integer", "accepted")
def numpy_features(lib: System) -> str:
    return made(lib, np.int64(3), affine=True)


@refused.row("`eps=0`", "accepted")
def eps_zero(lib: System) -> str:
    return made(lib, 3, eps=0)


@refused.row("`eps=-1`", "ValueError naming eps", NAN)
def eps_negative(lib: System) -> str:
    return made(lib, 3, eps=-1.0)


@refused.row("`eps=nan`", "ValueError naming eps", NAN)
def eps_nan(lib: System) -> str:
    return made(lib, 3, eps=float("nan"))


@refused.row("`eps=None`", "TypeError naming eps", EARLY)
def eps_none(lib: System) -> str:
    return made(lib, 3, eps=None)


@refused.row('`eps="1e-5"`', "TypeError naming eps", EARLY)
def eps_string(lib: System) -> str:
    return made(lib, 3, eps="1e-5")


@refused.row("`momentum=None`", "accepted", lucid="TypeError")
def momentum_none(lib: System) -> str:
    return made(lib, 3, momentum=None)


@refused.row("`dtype` an integer's, tracking", "TypeError naming dtype", "running statistics would lose their fractions")
def dtype_integer_tracking(lib: System) -> str:
    return made(lib, 3, track_running_stats=True, dtype=lib.dtype("int64"))


@refused.row("`dtype` an integer's, affine", "TypeError naming dtype", WRONG_DTYPE)
def dtype_integer(lib: System) -> str:
    return made(lib, 3, affine=True, dtype=lib.dtype("int64"))


@refused.row("`dtype` complex, affine", "TypeError naming dtype", "there is no such layer: the call fails in PyTorch too")
def dtype_complex(lib: System) -> str:
    return made(lib, 3, affine=True, dtype=lib.dtype("complex64"))


@refused.row("`device` that does not exist", "RuntimeError naming device")
def device_unknown(lib: System) -> str:
    return made(lib, 3, affine=True, device="nowhere")


@refused.row("an argument that does not exist", "TypeError naming the argument")
def unknown_argument(lib: System) -> str:
    return made(lib, 3, features=3)


@refused.row("`bias` by position", "TypeError")
def bias_by_position(lib: System) -> str:
    return made(lib, 3, 1e-5, 0.1, True, False, None, None, False)


@refused.row('`backward="nobody"`, and a call', "ValueError naming backward", "PyTorch has one backward")
def unknown_backward(lib: System) -> str:
    def run() -> str:
        x = noise(2, 3, 7)
        return numbers(lib.array(lib.nn.InstanceNorm1d(3, backward="nobody")(lib.tensor(x))), x)

    return outcome(run, {"backward": "backward"})
