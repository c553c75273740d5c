"""Wrong behaviours to plant, by the module whose rows must show them. Many are what another system does."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import numpy as np
import pytest

import minitensor as mt
from minitensor import nn
from minitensor.nn import state
from minitensor.nn.norm import base, channels_last, formulas, functional, layer_norm, layout
from minitensor.nn.norm.base import Norm, TrackingNorm
from minitensor.nn.norm.instance_norm import _InstanceNorm
from minitensor.nn.norm.kernels import numpy_blocked
from minitensor.nn.norm.lazy import _LazyInstanceNorm

Fault = Callable[[pytest.MonkeyPatch], None]


# -- how to plant ----------------------------------------------------------------------------------------------------------------


def put(owner: Any, name: str, value: Any) -> Fault:
    """Something else in the place of an attribute."""
    return lambda patch: patch.setattr(owner, name, value)


def around(owner: Any, name: str, wrong: Callable[..., Any]) -> Fault:
    """A function that is called with the right one before its arguments."""
    right = getattr(owner, name)
    return put(owner, name, wraps(right)(lambda *args, **options: wrong(right, *args, **options)))


def after(owner: Any, name: str, change: Callable[[Any, Any], Any]) -> Fault:
    """What a function returned, changed by ``change(result, first argument)``."""
    return around(owner, name, lambda right, *args, **options: change(right(*args, **options), args[0]))


def together(*faults: Fault) -> Fault:
    """Several changes that make one fault."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for fault in faults:
            fault(patch)

    return plant


def of_function(wrong: Callable[..., Any], name: str = "instance_norm") -> Fault:
    """`around` a function of the functional form, under both names by which it is called."""
    return together(*(around(owner, name, wrong) for owner in (functional, nn.functional)))


def other_default(function: Any) -> Fault:
    """Another default of ``backward=``."""
    return put(function, "__kwdefaults__", function.__kwdefaults__ | {"backward": "autograd"})


def nothing(*args: Any, **options: Any) -> None:
    """A check that does not check."""


# -- the constructor -------------------------------------------------------------------------------------------------------------

NO_CHECKS = together(
    *(put(functional, f"check_{what}", nothing) for what in ("options", "input", "slices")),
    *(put(functional, f"_check_{what}", nothing) for what in ("parameters", "statistics")),
    *(put(module, "positive_int", lambda layer, name, value: value) for module in (base, channels_last)),
    put(channels_last, "check_input", nothing),
    put(Norm, "_check_channels", nothing),
)


def plain_int(layer: Any, name: str, value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} must be an int")
    return value


def positive_eps(name: str, eps: float, backward: Any) -> None:
    if not eps > 0:
        raise ValueError(f"{name}: eps must be positive")


def take_anything(right: Any, self: Any, *args: Any, **options: Any) -> None:
    right(self, args[0] if args else 3)


def set_up_in_half(right: Any, self: Any, eps: Any, backward: Any, shape: Any, weight: Any, bias: Any, device: Any, dtype: Any) -> Any:
    return right(self, eps, backward, shape, weight, bias, None, np.float16)


def float_momentum(right: Any, self: Any, features: Any, eps: Any, momentum: Any, *rest: Any) -> None:
    """Lucid's, which cannot take None."""
    right(self, features, eps, float(momentum), *rest)


def strange_buffers(_: None, layer: Any) -> None:
    if layer.running_var is not None:
        layer.running_var, layer.num_batches_tracked = mt.zeros(()), mt.ones(1)


# -- shapes and dtypes -----------------------------------------------------------------------------------------------------------


def name_the_rank(layer: Any, x: Any, layouts: str, hint: str = "") -> None:
    raise ValueError(f"expected another input (got {x.ndim}D input)")


def batched_only(self: Any, x: Any) -> int:
    if x.ndim != 2 + len(self.spatial):
        raise ValueError(f"got {x.ndim}D input")
    return x.shape[1]


def refuse_empty(right: Any, name: str, x: Any, *options: Any) -> None:
    if x.size == 0:
        raise IndexError("select() of a tensor of size zero")


class ColumnMajor:
    """An output that lies otherwise in memory."""

    def __init__(self, y: Any, _: Any) -> None:
        self._values = np.asfortranarray(y.numpy())

    def detach(self) -> ColumnMajor:
        return self

    def numpy(self) -> np.ndarray:
        return self._values


def cast(dtype: Any) -> Fault:
    return of_function(lambda right, *args, **options: right(*args, **options).astype(dtype))


# -- statistics ------------------------------------------------------------------------------------------------------------------


def forward_by_running_statistics(self: Any, x: Any) -> Any:
    """In training too, where they are tracked and counted; without them a last bit that depends on the mode."""
    if self.track_running_stats:
        self.num_batches_tracked[...] = self.num_batches_tracked.item() + 1
        return functional.instance_norm(x, self.running_mean, self.running_var, use_input_stats=False)
    return functional.instance_norm(x) * (1 if self.training else 1 + 1e-6)


def move_pooled(running_mean: Any, running_var: Any, x: Any, where: Any, momentum: float) -> None:
    """Lucid's biased variance of the pooled batch, with Chainer's momentum, which weighs the old value."""
    for buffer, statistic in ((running_mean, np.mean), (running_var, np.var)):
        if buffer is not None:
            buffer[...] = momentum * buffer.numpy() + (1 - momentum) * statistic(x.detach().numpy())


def keep_without_batch(right: Any, self: Any, x: Any) -> Any:
    return right(self, x) if x.ndim == 2 + len(self.spatial) else functional.instance_norm(x.reshape(1, *x.shape)).reshape(x.shape)


def move_first(right: Any, x: Any, running_mean: Any = None, running_var: Any = None, *rest: Any, **options: Any) -> Any:
    """And always, in eval too."""
    functional._move(running_mean, running_var, x, layout.per_instance(x.shape), 0.5)
    return right(x, running_mean, running_var, *rest, **options)


def never_move(right: Any, *args: Any, **options: Any) -> Any:
    """Lucid's functional form."""
    return right(*args, **(options | {"momentum": 0.0}))


def new_buffers(y: Any, layer: Any) -> Any:
    """With a graph."""
    if layer.running_mean is not None:
        layer.running_mean = layer.running_mean + y.sum()
    return y


# -- numbers ---------------------------------------------------------------------------------------------------------------------


def one_pass(right: Any, x: Any, *given: Any, weight: Any = None, eps: float = 1e-5, **options: Any) -> Any:
    """E[x^2] - E[x]^2 times m / (m - 1), folded into x a + b, in the dtype of the input; to the gradient they are constants."""
    axes, values, m = tuple(range(2, x.ndim)), x.detach(), x.shape[-1]
    mean = np.mean(values, axis=axes, keepdims=True)
    var = (np.mean(values * values, axis=axes, keepdims=True) - mean * mean) * (m / (m - 1))
    weight = given[2] if len(given) > 2 else weight
    a = 1 / np.sqrt(var + eps)
    y = x * a - mean * a
    return (y if weight is None else y * weight.reshape(-1, 1)).astype(x.dtype)


def off_by(order: int) -> Fault:
    """Everything right but the derivative of this order."""

    def wrong(right: Any, x: Any, *args: Any, **options: Any) -> Any:
        return right(x, *args, **options) + (x - x.detach()) ** order

    return of_function(wrong)


def mean_over_the_batch(right: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, **options: Any) -> Any:
    """Chainer's gradients of weight and bias."""
    n = x.shape[0]
    return right(x, mean, var, *(p / n + (p.detach() - p.detach() / n) for p in (weight, bias)), **options)


# -- functional form, styles -----------------------------------------------------------------------------------------------------


def without_parameters(right: Any, x: Any, *buffers: Any, weight: Any = None, bias: Any = None, **options: Any) -> Any:
    return right(x, *buffers[:2], **options)


def three_axes(right: Any, x: Any, *rest: Any, **options: Any) -> Any:
    if x.ndim != 3:
        raise ValueError(f"got {x.ndim}D input")
    return right(x, *rest, **options)


def own_style(right: Any, content: Any, style: Any, *rest: Any, **options: Any) -> Any:
    return right(content, content, *rest, **options)


def swapped(right: Any, content: Any, style: Any, *rest: Any, **options: Any) -> Any:
    return right(style, content, *rest, **options)


def strange_layer(_: None, layer: Any) -> None:
    layer.register_buffer("calls", mt.zeros(1))
    layer.eps = 2.0


# -- states and lazy layers ------------------------------------------------------------------------------------------------------


def load_names(self: Any, given: Any, strict: bool = True) -> Any:
    """Set what is there, whatever it is."""
    for name, value in given.items():
        object.__setattr__(self, name, value)
    return [], []


def with_eps(saved: Any, layer: Any) -> Any:
    saved["eps"] = mt.tensor(layer.eps)
    return saved


def fail_on_none(self: Any) -> None:
    self.weight.data = mt.ones_like(self.weight)


def forget_features(y: Any, layer: Any) -> Any:
    layer.num_features = 0
    if layer.weight is not None:
        layer.weight = nn.Parameter(layer.weight.detach().numpy())
    return y


def four_axes(right: Any, self: Any, x: Any) -> Any:
    if x.ndim != 4:
        raise ValueError(f"got {x.ndim}D input")
    return right(self, x)


def strange_parameters(_: Any, layer: Any) -> None:
    layer.register_parameter("gain", layer.weight)
    if layer.weight is not None:
        layer.weight.data = [2.0] * layer.dims


# -- relatives -------------------------------------------------------------------------------------------------------------------


def nan_of_nothing(v: Any, eps: float) -> Any:
    """PyTorch's."""
    return 1 / np.sqrt(v + eps)


def other_mode(right: Any, *args: Any, training: bool, **options: Any) -> Any:
    return right(*args, training=not training, **options)


def groups_that_divide(right: Any, self: Any, groups: int, channels: int, *rest: Any, **options: Any) -> None:
    right(self, math.gcd(groups, channels), channels, *rest, **options)


FAULTS: dict[str, tuple[Fault, ...]] = {
    "constructor": (
        together(
            put(_InstanceNorm.__init__, "__defaults__", (1e-3, 0.9, True, True, None, None)),
            put(_InstanceNorm.__init__, "__kwdefaults__", {"bias": True, "backward": "autograd"}),
        ),
        NO_CHECKS,
        around(Norm, "_set_up", set_up_in_half),
        put(base, "positive_int", plain_int),
        put(functional, "check_options", positive_eps),
        around(_InstanceNorm, "__init__", take_anything),
        around(TrackingNorm, "__init__", float_momentum),
        after(TrackingNorm, "__init__", strange_buffers),
    ),
    "shapes": (
        NO_CHECKS,
        put(base, "refuse_rank", name_the_rank),
        put(_InstanceNorm, "_channels", batched_only),
        around(functional, "check_input", refuse_empty),
        of_function(lambda right, *args, **options: right(*args, **(options | {"use_input_stats": True}))),
        after(_InstanceNorm, "forward", ColumnMajor),
    ),
    "dtypes": (NO_CHECKS, cast(np.float32), cast(np.float64), lambda patch: patch.setattr(mt, "bfloat16", np.float32, raising=False)),
    "statistics": (
        NO_CHECKS,
        put(_InstanceNorm, "forward", forward_by_running_statistics),
        put(layout, "per_instance", layout.per_channel),
        put(functional, "_move", move_pooled),
        around(_InstanceNorm, "forward", keep_without_batch),
        of_function(move_first),
        after(_InstanceNorm, "forward", new_buffers),
    ),
    "numerics": (of_function(one_pass), put(layout, "per_instance", layout.per_channel)),
    "derivatives": (
        *(off_by(order) for order in (1, 2, 3, 4)),
        of_function(mean_over_the_batch),
        put(nn.Module, "__call__", lambda self, x: 2 * self.forward(x)),
    ),
    "functions": (
        NO_CHECKS,
        *(of_function(wrong) for wrong in (without_parameters, never_move, move_first, three_axes)),
        other_default(nn.functional.instance_norm),
    ),
    "styles": (
        NO_CHECKS,
        of_function(without_parameters),
        cast(np.float16),
        put(nn.Module, "__setattr__", object.__setattr__),
        of_function(own_style, "adaptive_instance_norm"),
        of_function(swapped, "adaptive_instance_norm"),
        *map(other_default, (nn.functional.adaptive_instance_norm, nn.AdaIN.__init__)),
        after(nn.AdaIN, "__init__", strange_layer),
    ),
    "states": (
        put(TrackingNorm, "_version", 1),
        put(_InstanceNorm, "_adapt_state", nn.Module._adapt_state),
        around(_InstanceNorm, "_adapt_state", lambda right, self, given, prefix, version: right(self, given, prefix, None)),
        put(nn.Module, "load_state_dict", load_names),
        put(nn.Module, "load_state_dict", lambda self, given, strict=True: ([], [])),
        after(nn.Module, "state_dict", with_eps),
        around(nn.Module, "state_dict", lambda right, self: right(self, keep_vars=True)),
        put(TrackingNorm, "reset_running_stats", nothing),
        put(TrackingNorm, "reset_parameters", fail_on_none),
    ),
    "lazy": (
        put(_LazyInstanceNorm.__init__, "__defaults__", (1e-5, 0.1, False, False, None, None)),
        NO_CHECKS,
        put(_InstanceNorm, "_channels", batched_only),
        put(state, "_put_back_on_error", lambda module: nullcontext()),
        after(_LazyInstanceNorm, "forward", forget_features),
        after(_LazyInstanceNorm, "_become", lambda _, layer: setattr(layer, "num_features", 0)),
        after(_LazyInstanceNorm, "__init__", lambda _, layer: setattr(layer, "num_features", 1)),
        around(_LazyInstanceNorm, "__init__", lambda right, self, num_features=0, **options: right(self, **options)),
    ),
    "channels_last": (
        put(nn.InstanceNorm.__init__, "__defaults__", (1e-3, True)),
        NO_CHECKS,
        put(channels_last, "refuse_rank", nothing),
        around(nn.InstanceNorm, "__init__", lambda right, self, dims, eps=1e-5, affine=False: right(self, dims, abs(eps) + 1e-5, affine)),
        around(nn.InstanceNorm, "forward", four_axes),
        after(nn.InstanceNorm, "forward", lambda y, layer: y * (1 if layer.training else 1 + 1e-6)),
        together(put(formulas, "widen", lambda x: x), put(numpy_blocked, "serves", lambda *args, **options: False)),
        after(Norm, "_set_up", strange_parameters),
    ),
    "relatives": (
        together(
            *(other_default(layer.__init__) for layer in (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)),
            *(other_default(getattr(nn.functional, f"{kind}_norm")) for kind in ("batch", "layer", "group", "rms")),
        ),
        together(put(TrackingNorm, "_version", 1), put(Norm, "_version", 0)),
        around(functional, "check_input", refuse_empty),
        put(functional, "_move", move_pooled),
        of_function(other_mode, "batch_norm"),
        together(*(put(module, "ShapeError", IndexError) for module in (base, functional))),
        together(*(put(module, "inverse_root", nan_of_nothing) for module in (formulas, numpy_blocked))),
        put(formulas, "default_eps", lambda dtype: 1e-5),
        put(layer_norm, "int_shape", lambda layer, name, value: (value,)),
        around(nn.GroupNorm, "__init__", groups_that_divide),
        after(functional, "normalized", lambda y, x: y.astype(np.float32)),
    ),
}
