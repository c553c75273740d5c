"""State dicts and the reset methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constructor import NAMES, everything, held
from .row import Theme
from .seeing import listed, noise, outcome, shape
from .systems import System

theme = Theme("State dict and reset")


def loaded(lib: System, layer: Any, state: Any, strict: bool = True, **naming: str) -> str:
    """What loading gave: the two lists of names, or the error."""

    def call() -> str:
        missing, unexpected = layer.load_state_dict(state, strict=strict)
        return f"loaded, {len(missing)} missing, {len(unexpected)} unexpected"

    return outcome(call, {name: rf"\b{name}\b" for name in NAMES} | naming)


def versioned(state: Any, version: int | None) -> Any:
    """A state dict of another version, or with none."""
    if version is None:
        return dict(state)
    state._metadata[""]["version"] = version
    return state


@theme.row("names, in order", "weight, bias, running_mean, running_var, num_batches_tracked", lucid="without num_batches_tracked")
def names(lib: System) -> str:
    return ", ".join(everything(lib).state_dict())


@theme.row("names of the default layer", "none")
def no_names(lib: System) -> str:
    return ", ".join(lib.nn.InstanceNorm2d(3).state_dict()) or "none"


@theme.row("version", "2")
def version(lib: System) -> str:
    return str(everything(lib).state_dict()._metadata[""]["version"])


def without_counter(lib: System, version: int | None) -> str:
    state = everything(lib).state_dict()
    del state["num_batches_tracked"]
    return loaded(lib, everything(lib), versioned(state, version))


@theme.row("no num_batches_tracked, version 2", "RuntimeError naming num_batches_tracked")
def no_counter_now(lib: System) -> str:
    return without_counter(lib, 2)


@theme.row("no num_batches_tracked, version 1", "loaded, 0 missing, 0 unexpected")
def no_counter_before(lib: System) -> str:
    return without_counter(lib, 1)


@theme.row("no num_batches_tracked, no version", "loaded, 0 missing, 0 unexpected")
def no_counter_no_version(lib: System) -> str:
    return without_counter(lib, None)


def not_tracked(lib: System, version: int | None, strict: bool) -> str:
    layer = lib.nn.InstanceNorm2d(3, affine=True)
    naming = {"the way out": "track_running_stats=True"}
    return loaded(lib, layer, versioned(everything(lib).state_dict(), version), strict, **naming)


@theme.row(
    "running statistics for a layer that does not track, version 2, strict",
    "RuntimeError naming running_mean, running_var and num_batches_tracked",
)
def not_tracked_now_strict(lib: System) -> str:
    return not_tracked(lib, 2, True)


@theme.row("the same, `strict=False`", "loaded, 0 missing, 3 unexpected")
def not_tracked_now(lib: System) -> str:
    return not_tracked(lib, 2, False)


@theme.row("the same without a version, strict", "RuntimeError naming running_mean, running_var, num_batches_tracked and the way out")
def not_tracked_before_strict(lib: System) -> str:
    return not_tracked(lib, None, True)


@theme.row("the same without a version, `strict=False`", "RuntimeError naming running_mean, running_var and the way out")
def not_tracked_before(lib: System) -> str:
    return not_tracked(lib, None, False)


@theme.row("a wrong shape", "RuntimeError naming weight and both shapes")
def wrong_shape(lib: System) -> str:
    state = everything(lib).state_dict()
    state["weight"] = lib.tensor(np.ones(4, np.float32))
    return loaded(lib, everything(lib), state, **{"both shapes": f"{shape(3)}.*{shape(4)}|{shape(4)}.*{shape(3)}"})


@theme.row("a wrong shape, `strict=False`", "RuntimeError naming weight and both shapes")
def wrong_shape_not_strict(lib: System) -> str:
    state = everything(lib).state_dict()
    state["weight"] = lib.tensor(np.ones(4, np.float32))
    return loaded(lib, everything(lib), state, False, **{"both shapes": f"{shape(3)}.*{shape(4)}|{shape(4)}.*{shape(3)}"})


@theme.row("a missing name, strict", "RuntimeError naming bias")
def missing(lib: System) -> str:
    state = everything(lib).state_dict()
    del state["bias"]
    return loaded(lib, everything(lib), state)


@theme.row("an unexpected name, strict", "RuntimeError naming gain")
def unexpected(lib: System) -> str:
    state = everything(lib).state_dict()
    state["gain"] = lib.tensor(np.ones(3, np.float32))
    return loaded(lib, everything(lib), state, gain=r"\bgain\b")


@theme.row("missing and unexpected names, `strict=False`", "loaded, 1 missing, 1 unexpected")
def renamed(lib: System) -> str:
    state = everything(lib).state_dict()
    state["gain"] = state.pop("weight")
    return loaded(lib, everything(lib), state, False)


@theme.row("float64 into a float32 layer", "float32")
def cast(lib: System) -> str:
    layer = everything(lib)
    layer.load_state_dict(everything(lib, dtype=lib.dtype("float64")).state_dict())
    return listed(list(dict.fromkeys(str(lib.array(getattr(layer, name)).dtype) for name in NAMES[:4])))


@theme.row("parameters and buffers after loading", "the same objects")
def objects_after_loading(lib: System) -> str:
    layer = everything(lib)
    before = [getattr(layer, name) for name in NAMES]
    layer.load_state_dict(everything(lib).state_dict())
    return "the same objects" if all(one is getattr(layer, name) for one, name in zip(before, NAMES, strict=True)) else "new objects"


@theme.row("output after loading what another layer learned", "the same to the last bit")
def carried_over(lib: System) -> str:
    x = lib.tensor(noise(2, 3, 4, 5, dtype="float32"))
    one, other = everything(lib), everything(lib)
    one.weight, one.bias = lib.parameter(noise(3, dtype="float32", seed=1)), lib.parameter(noise(3, dtype="float32", seed=2))
    one(x)
    other.load_state_dict(one.state_dict())
    same = np.array_equal(lib.array(one.eval()(x)), lib.array(other.eval()(x)))
    return "the same to the last bit" if same else "different"


@theme.row("a state dict after another training call", "keeps the old values", "a state dict is a snapshot")
def snapshot(lib: System) -> str:
    layer = everything(lib)
    state = layer.state_dict()
    layer(lib.tensor(1 + noise(2, 3, 4, 5, dtype="float32")))
    return "has the new values" if lib.array(state["running_mean"]).any() else "keeps the old values"


@theme.row("`reset_running_stats()`", "running_mean, running_var and num_batches_tracked")
def reset_statistics(lib: System) -> str:
    return reset(lib, "reset_running_stats")


@theme.row("`reset_parameters()`", "all five")
def reset_everything(lib: System) -> str:
    return reset(lib, "reset_parameters")


def reset(lib: System, method: str) -> str:
    """Which of the five a method brings back to its initial value."""
    layer, initial = everything(lib), everything(lib)
    spoiled = {name: lib.array(getattr(layer, name)) + 7 for name in NAMES}
    layer.load_state_dict({name: lib.tensor(value) for name, value in spoiled.items()})
    getattr(layer, method)()
    back = [name for name in NAMES if np.array_equal(lib.array(getattr(layer, name)), lib.array(getattr(initial, name)))]
    return "all five" if len(back) == len(NAMES) else listed(back)


@theme.row("both on the default layer", "nothing to reset")
def reset_nothing(lib: System) -> str:
    def call() -> str:
        layer = lib.nn.InstanceNorm2d(3)
        layer.reset_running_stats()
        layer.reset_parameters()
        return listed(held(layer)) or "nothing to reset"

    return outcome(call)
