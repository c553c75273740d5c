"""The lazy layers: what they learn from their first input, or from a state dict."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constructor import NAMES, arguments, everything, held
from .reasons import BACKWARD, NAN, SHAPE_TOO
from .row import Theme
from .seeing import listed, noise, numbers, outcome, shape, single
from .systems import System

theme = Theme("Lazy layers")

STAYS_LAZY = "a call that fails leaves the layer lazy"
TOLD = "the state tells the channel count"


def called(lib: System, layer: Any, *size: int) -> str:
    """The outcome of a call, with what the layer is then."""
    x = single(*size)

    def call() -> str:
        y = lib.array(layer(lib.tensor(x)))
        return numbers(y, x) if x.ndim == 4 else numbers(y[None], x[None])

    return f"{outcome(call, {'the whole shape': shape(*size)})}; {layer_now(layer)}"


def layer_now(layer: Any) -> str:
    return f"{type(layer).__name__} of {layer.num_features}"


@theme.row(
    "arguments, order, defaults",
    "eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *, bias=True, backward='analytic'",
    BACKWARD,
    lucid="affine and track_running_stats off",
)
def arguments_of_the_layer(lib: System) -> str:
    return arguments(lib.nn.LazyInstanceNorm2d)


@theme.row("parameters and buffers by default", "all five", lucid="none")
def everything_by_default(lib: System) -> str:
    found = held(lib.nn.LazyInstanceNorm2d())
    return "all five" if len(found) == len(NAMES) else listed(found)


@theme.row("`num_features` before the first call", "0")
def features_before(lib: System) -> str:
    return str(lib.nn.LazyInstanceNorm2d().num_features)


@theme.row(
    "`repr` before the first call", "LazyInstanceNorm2d(0, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"
)
def printed(lib: System) -> str:
    return repr(lib.nn.LazyInstanceNorm2d())


@theme.row("first call", "normalises; InstanceNorm2d of 3")
def first_call(lib: System) -> str:
    return called(lib, lib.nn.LazyInstanceNorm2d(), 2, 3, 4, 5)


@theme.row(
    "first call, 1d and 3d",
    "InstanceNorm1d of 3 and InstanceNorm3d of 3",
    torch_js="1d is fed (batch, features), and each sample normalised over its features: layer norm",
)
def first_call_of_others(lib: System) -> str:
    layers = lib.nn.LazyInstanceNorm1d(), lib.nn.LazyInstanceNorm3d()
    for layer, size in zip(layers, ((2, 3, 7), (2, 3, 2, 3, 2)), strict=True):
        layer(lib.tensor(single(*size)))
    return listed([layer_now(layer) for layer in layers])


@theme.row("first call, in eval", "uses the running statistics; InstanceNorm2d of 3")
def first_call_in_eval(lib: System) -> str:
    return called(lib, lib.nn.LazyInstanceNorm2d().eval(), 2, 3, 4, 5)


@theme.row("first call with unbatched input", "normalises; InstanceNorm2d of 3", "the rank tells where the channels are")
def first_call_unbatched(lib: System) -> str:
    return called(lib, lib.nn.LazyInstanceNorm2d(), 3, 4, 5)


@theme.row("the same, where both axes have the same length", "normalises; InstanceNorm1d of 7")
def first_call_unbatched_square(lib: System) -> str:
    layer, x = lib.nn.LazyInstanceNorm1d(), single(7, 7)
    return outcome(lambda: f"{numbers(lib.array(layer(lib.tensor(x)))[None], x[None])}; {layer_now(layer)}")


@theme.row("first call with another rank", "ValueError naming the whole shape; LazyInstanceNorm2d of 0", STAYS_LAZY)
def first_call_refused(lib: System) -> str:
    return called(lib, lib.nn.LazyInstanceNorm2d(), 3, 5)


@theme.row(
    "first call with one spatial element",
    "ValueError naming the whole shape; LazyInstanceNorm2d of 0",
    STAYS_LAZY,
)
def first_call_of_one_element(lib: System) -> str:
    return called(lib, lib.nn.LazyInstanceNorm2d(), 2, 3, 1, 1)


@theme.row("affine and tracking both off", "normalises; InstanceNorm2d of 3", "learning the channel count is the point of the layer")
def plain(lib: System) -> str:
    return called(lib, lib.nn.LazyInstanceNorm2d(affine=False, track_running_stats=False), 2, 3, 4, 5)


@theme.row("second call with other channels", "ValueError naming the whole shape; InstanceNorm2d of 3", SHAPE_TOO)
def second_call(lib: System) -> str:
    layer = lib.nn.LazyInstanceNorm2d()
    layer(lib.tensor(single(2, 3, 4, 5)))
    return called(lib, layer, 2, 4, 4, 5)


@theme.row("after `load_state_dict`", "InstanceNorm2d of 3, weight (3,)", TOLD, lucid="initialised")
def after_loading(lib: System) -> str:
    layer = lib.nn.LazyInstanceNorm2d()
    layer.load_state_dict(everything(lib).state_dict())
    return f"{layer_now(layer)}, weight {lib.array(layer.weight).shape}"


@theme.row("first call after `load_state_dict`", "normalises; InstanceNorm2d of 3", TOLD, lucid="works")
def first_call_after_loading(lib: System) -> str:
    layer = lib.nn.LazyInstanceNorm2d()
    layer.load_state_dict(everything(lib).state_dict())
    return called(lib, layer, 2, 3, 4, 5)


@theme.row(
    "after a `load_state_dict` that fails", "RuntimeError; then normalises; InstanceNorm2d of 4", "loading that fails changes nothing"
)
def after_failed_loading(lib: System) -> str:
    layer, given = lib.nn.LazyInstanceNorm2d(), everything(lib).state_dict()
    del given["bias"]
    return f"{outcome(lambda: layer.load_state_dict(given))}; then {called(lib, layer, 2, 4, 4, 5)}"


@theme.row("the parameters after the first call", "the same objects")
def parameters_after(lib: System) -> str:
    layer = lib.nn.LazyInstanceNorm2d()
    before = layer.weight, layer.bias
    layer(lib.tensor(single(2, 3, 4, 5)))
    return "the same objects" if before[0] is layer.weight and before[1] is layer.bias else "new objects"


@theme.row("`bias=False` and `dtype` reach the layer", "weight, running_mean and running_var of float64")
def options_reach(lib: System) -> str:
    layer = lib.nn.LazyInstanceNorm2d(bias=False, dtype=lib.dtype("float64"))
    layer(lib.tensor(noise(2, 3, 4, 5)))
    found = [name for name in held(layer) if lib.array(getattr(layer, name)).dtype == np.float64]
    return f"{listed(found)} of float64"


@theme.row("`eps=-1`", "ValueError naming eps", NAN)
def negative_eps(lib: System) -> str:
    return outcome(lambda: layer_now(lib.nn.LazyInstanceNorm2d(eps=-1.0)), {"eps": "eps"})


@theme.row("`num_features` given", "TypeError")
def features_given(lib: System) -> str:
    return outcome(lambda: layer_now(lib.nn.LazyInstanceNorm2d(num_features=3)))
