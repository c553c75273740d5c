"""By whose statistics a layer normalises, and how the running ones move."""

from __future__ import annotations

from typing import Any

import numpy as np

from .reasons import WRONG_VALUE
from .row import Theme
from .seeing import noise, numbers, outcome
from .systems import System

used = Theme("Which statistics")
running = Theme("Running statistics")

RUNNING = 1.0, 4.0


def tracking(lib: System, **options: Any) -> Any:
    """A layer of one channel that keeps running statistics, those of `RUNNING`."""
    layer = lib.nn.InstanceNorm1d(1, track_running_stats=True, **options)
    layer.running_mean, layer.running_var = (lib.tensor(np.array([value], np.float32)) for value in RUNNING)
    return layer


def which(lib: System, training: bool, track: bool) -> str:
    x = 3 * noise(2, 1, 7)
    layer = tracking(lib) if track else lib.nn.InstanceNorm1d(1)
    return numbers(lib.array(layer.train(training)(lib.tensor(x))), x, RUNNING)


@used.row("training", "normalises")
def in_training(lib: System) -> str:
    return which(lib, True, False)


@used.row("eval", "normalises")
def in_eval(lib: System) -> str:
    return which(lib, False, False)


@used.row("training, tracking", "normalises")
def in_training_tracking(lib: System) -> str:
    return which(lib, True, True)


@used.row("eval, tracking", "uses the running statistics")
def in_eval_tracking(lib: System) -> str:
    return which(lib, False, True)


@used.row("eval against training without tracking", "the same to the last bit")
def eval_is_training(lib: System) -> str:
    layer, x = lib.nn.InstanceNorm1d(3), lib.tensor(noise(2, 3, 7, dtype="float32"))
    same = np.array_equal(lib.array(layer(x)), lib.array(layer.eval()(x)))
    return "the same to the last bit" if same else "different"


@used.row("training, running statistics nan", "normalises")
def spoiled_buffers(lib: System) -> str:
    layer, x = tracking(lib), noise(2, 1, 7)
    layer.running_mean = layer.running_var = lib.tensor(np.array([np.nan], np.float32))
    return numbers(lib.array(layer(lib.tensor(x))), x)


def without_buffers(lib: System, training: bool) -> str:
    layer, x = tracking(lib).train(training), noise(2, 1, 7)
    layer.running_mean = layer.running_var = None
    naming = {"running_mean": "running_mean", "use_input_stats": "use_input_stats"}
    return outcome(lambda: numbers(lib.array(layer(lib.tensor(x))), x), naming)


@used.row("tracking, buffers set to None, training", "normalises")
def no_buffers_in_training(lib: System) -> str:
    return without_buffers(lib, True)


@used.row("tracking, buffers set to None, eval", "ValueError naming running_mean and use_input_stats", WRONG_VALUE)
def no_buffers_in_eval(lib: System) -> str:
    return without_buffers(lib, False)


# instances with means 1 and 3 and unbiased variances 2 and 18
PAIR = np.array([[[0.0, 2.0]], [[0.0, 6.0]]])


def moved(lib: System, momentum: float | None) -> str:
    layer = tracking(lib, momentum=momentum)
    layer(lib.tensor(PAIR))
    value = lib.array(layer.running_mean).item()
    return "kept" if value == RUNNING[0] else f"running_mean from 1 to {value:g} where the input's is 2"


@running.row("variance that is kept", "unbiased, per instance, averaged", lucid="biased, over the pooled batch")
def variance_kept(lib: System) -> str:
    layer = tracking(lib, momentum=1.0)
    layer(lib.tensor(PAIR))
    names = {10: "unbiased, per instance, averaged", 5: "biased, per instance, averaged", 8: "unbiased, pooled", 6: "biased, pooled"}
    return names.get(lib.array(layer.running_var).item(), "something else")


@running.row("`momentum=0.25`", "running_mean from 1 to 1.25 where the input's is 2")
def momentum_usual(lib: System) -> str:
    return moved(lib, 0.25)


@running.row("`momentum=0`", "kept")
def momentum_zero(lib: System) -> str:
    return moved(lib, 0.0)


@running.row("`momentum=1`", "running_mean from 1 to 2 where the input's is 2")
def momentum_one(lib: System) -> str:
    return moved(lib, 1.0)


@running.row("`momentum=-1`", "running_mean from 1 to 0 where the input's is 2")
def momentum_negative(lib: System) -> str:
    return moved(lib, -1.0)


@running.row("`momentum=None`", "kept", lucid="TypeError")
def momentum_none(lib: System) -> str:
    return moved(lib, None)


@running.row('`momentum="0.1"`', "TypeError naming momentum")
def momentum_string(lib: System) -> str:
    return outcome(lambda: moved(lib, "0.1"), {"momentum": "momentum"})  # type: ignore[arg-type]


@running.row("`num_batches_tracked` after three calls", "0", lucid="no such buffer")
def batches_counted(lib: System) -> str:
    layer = tracking(lib)
    for _ in range(3):
        layer(lib.tensor(PAIR))
    return str(lib.array(layer.num_batches_tracked).item())


@running.row("the buffers after a call", "the same objects", lucid="new ones")
def in_place(lib: System) -> str:
    layer = tracking(lib)
    before = layer.running_mean, layer.running_var
    layer(lib.tensor(PAIR))
    return "the same objects" if before[0] is layer.running_mean and before[1] is layer.running_var else "new objects"


@running.row("order in a call", "output, then update", lucid="update first")
def order(lib: System) -> str:
    """The running mean serves as the bias too, and so shows in the output by the value that it had then."""
    mean, var = (lib.tensor(np.array([value])) for value in RUNNING)
    y = lib.functional.instance_norm(lib.tensor(PAIR), mean, var, bias=mean, momentum=0.5)
    return {1.0: "output, then update", 1.5: "update, then output"}.get(round(float(lib.array(y).mean()), 6), "something else")


@running.row("under `no_grad`", "moved")
def without_recording(lib: System) -> str:
    layer = tracking(lib)
    with lib.own.no_grad():
        layer(lib.tensor(PAIR))
    return "kept" if lib.array(layer.running_mean).item() == RUNNING[0] else "moved"


@running.row("in eval", "kept")
def kept_in_eval(lib: System) -> str:
    layer = tracking(lib).eval()
    layer(lib.tensor(PAIR))
    return "kept" if lib.array(layer.running_mean).item() == RUNNING[0] else "moved"


@running.row("`track_running_stats` switched off later, training", "moved")
def switched_off(lib: System) -> str:
    layer = tracking(lib)
    layer.track_running_stats = False
    layer(lib.tensor(PAIR))
    return "kept" if lib.array(layer.running_mean).item() == RUNNING[0] else "moved"


@running.row("unbatched input", "as a batch of one")
def of_one_instance(lib: System) -> str:
    alone, batch = tracking(lib), tracking(lib)
    alone(lib.tensor(PAIR[1]))
    batch(lib.tensor(PAIR[1:]))
    same = all(np.array_equal(lib.array(getattr(alone, name)), lib.array(getattr(batch, name))) for name in ("running_mean", "running_var"))
    return "as a batch of one" if same else "otherwise"


@running.row("gradients through the buffers", "none")
def graph_of_buffers(lib: System) -> str:
    layer = tracking(lib)
    layer(lib.tensor(PAIR, requires_grad=True))
    return "some" if layer.running_mean.requires_grad or layer.running_var.requires_grad else "none"


@running.row("nan in one channel", "nan in its statistics alone")
def spoiled_channel(lib: System) -> str:
    layer, x = lib.nn.InstanceNorm1d(3, track_running_stats=True), noise(2, 3, 7)
    x[0, 1, 2] = np.nan
    layer(lib.tensor(x))
    spoiled = np.isnan(lib.array(layer.running_mean)), np.isnan(lib.array(layer.running_var))
    return "nan in its statistics alone" if all(s.tolist() == [False, True, False] for s in spoiled) else "elsewhere too"


@running.row("after a call that fails", "ValueError, kept")
def failing_call(lib: System) -> str:
    layer = tracking(lib)
    said = outcome(lambda: layer(lib.tensor(noise(2, 1, 1))))
    return f"{said}, {'kept' if lib.array(layer.running_mean).item() == RUNNING[0] else 'moved'}"
