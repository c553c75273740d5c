"""The functional form: its arguments one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constructor import arguments
from .reasons import BACKWARD, NAN, STYLES, WRONG_VALUE
from .row import Theme
from .seeing import agree, listed, noise, normalised, numbers, outcome, shape
from .systems import System

theme = Theme("Functional form")

GIVEN_SHAPE = "the shape that was given, not one multiplied by N"

X = noise(2, 3, 7)


def called(lib: System, **given: Any) -> str:
    """`numbers` of a call with arrays as keyword arguments."""
    options = {name: lib.tensor(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    x = options.pop("input", X)
    naming = {name: rf"\b{name}\b" for name in ("weight", "bias", "running_mean", "running_var", "momentum", "eps", "use_input_stats")}
    naming["the whole shape"] = shape(*np.shape(x))
    values = x if isinstance(x, np.ndarray) else lib.array(x)
    return outcome(lambda: numbers(lib.array(lib.functional.instance_norm(lib.tensor(values), **options)), values), naming)


def styled(lib: System, **given: np.ndarray) -> str:
    """Whether weight and bias do what they should, and get their gradients, which are sums over the batch unless they are per instance."""

    def call() -> str:
        parameters = {name: lib.tensor(value, requires_grad=True) for name, value in given.items()}
        y, x_hat, g = lib.functional.instance_norm(lib.tensor(X), **parameters), normalised(X), noise(2, 3, 7, seed=1)
        column = {name: value.reshape(-1, 3, 1) for name, value in given.items()}
        expected = x_hat * column.get("weight", np.ones(1)) + column.get("bias", np.zeros(1))
        words = ["y " + agree(lib.array(y), expected)]
        found = lib.grad(y, list(parameters.values()), lib.tensor(g))
        for (name, value), gradient in zip(given.items(), found, strict=True):
            per_instance = (g * x_hat if name == "weight" else g).sum(2)
            words.append(f"d{name} " + agree(lib.array(gradient), per_instance if value.shape[0] == 2 else per_instance.sum(0)))
        return ", ".join(words)

    return outcome(call, {name: rf"\b{name}\b" for name in given})


@theme.row(
    "arguments, order, defaults",
    "input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-05, *, "
    "backward='analytic'",
    BACKWARD,
)
def arguments_of_the_function(lib: System) -> str:
    return arguments(lib.functional.instance_norm)


@theme.row("`weight` alone", "y right, dweight right")
def weight_alone(lib: System) -> str:
    return styled(lib, weight=noise(3, seed=2))


@theme.row("`bias` alone", "y right, dbias right")
def bias_alone(lib: System) -> str:
    return styled(lib, bias=noise(3, seed=2))


@theme.row("both of shape (C,)", "y right, dweight right, dbias right")
def both(lib: System) -> str:
    return styled(lib, weight=noise(3, seed=2), bias=noise(3, seed=3))


@theme.row("both of shape (N, C)", "y right, dweight right, dbias right", STYLES, lucid="shape (C,) only")
def per_instance(lib: System) -> str:
    return styled(lib, weight=noise(2, 3, seed=2), bias=noise(2, 3, seed=3))


@theme.row("`weight` of shape (1, C)", "ValueError naming weight and the whole shape", "says which shapes fit")
def one_row(lib: System) -> str:
    return called(lib, weight=np.ones((1, 3)))


@theme.row("`weight` of a wrong size", "ValueError naming weight and the whole shape", GIVEN_SHAPE)
def wrong_weight(lib: System) -> str:
    return called(lib, weight=np.ones(4))


@theme.row("`bias` of a wrong size", "ValueError naming bias and the whole shape", GIVEN_SHAPE)
def wrong_bias(lib: System) -> str:
    return called(lib, bias=np.ones(4))


@theme.row(
    "running statistics of a wrong size",
    "ValueError naming running_mean and the whole shape",
    GIVEN_SHAPE,
)
def wrong_buffers(lib: System) -> str:
    return called(lib, running_mean=np.zeros(4), running_var=np.ones(4))


def buffers_after(lib: System, **options: Any) -> str:
    mean, var = lib.tensor(np.zeros(3)), lib.tensor(np.ones(3))
    lib.functional.instance_norm(lib.tensor(X), mean, var, **options)
    return "moved, in place" if lib.array(mean).any() else "kept"


@theme.row("running statistics, `use_input_stats=True`", "moved, in place", lucid="kept")
def moved_by_the_function(lib: System) -> str:
    return buffers_after(lib)


@theme.row("running statistics, `use_input_stats=False`", "kept", lucid="kept")
def kept_by_the_function(lib: System) -> str:
    return buffers_after(lib, use_input_stats=False)


@theme.row("`running_mean` alone", "ValueError naming running_mean and running_var")
def mean_alone(lib: System) -> str:
    return called(lib, running_mean=np.zeros(3))


@theme.row("`running_var` alone", "ValueError naming running_mean and running_var")
def var_alone(lib: System) -> str:
    return called(lib, running_var=np.ones(3))


@theme.row(
    "`use_input_stats=False` without running statistics",
    "ValueError naming running_mean, running_var and use_input_stats",
    WRONG_VALUE,
    lucid="uses the input's",
)
def nothing_to_use(lib: System) -> str:
    return called(lib, use_input_stats=False)


@theme.row("running statistics that require grad", "ValueError naming running_mean", WRONG_VALUE)
def buffers_with_gradient(lib: System) -> str:
    buffers = {name: lib.tensor(np.ones(3), requires_grad=True) for name in ("running_mean", "running_var")}
    return called(lib, **buffers)


@theme.row("`momentum=None`", "TypeError naming momentum")
def no_momentum(lib: System) -> str:
    return called(lib, running_mean=np.zeros(3), running_var=np.ones(3), momentum=None)


@theme.row("`eps=-1`", "ValueError naming eps", NAN)
def negative_eps(lib: System) -> str:
    return called(lib, eps=-1.0)


@theme.row("axes it takes", "3, 4, 5, 6 and 7 axes")
def axes_taken(lib: System) -> str:
    sizes = (2, 3, 4, 2, 2, 2, 2)
    said = {rank: called(lib, input=noise(*sizes[:rank])) for rank in range(8)}
    return listed([str(rank) for rank, what in said.items() if what == "normalises"]) + " axes"


@theme.row("an input (N, C)", "ValueError naming the whole shape")
def no_spatial_axis(lib: System) -> str:
    return called(lib, input=noise(2, 3))


@theme.row("an input (N, C), by running statistics", "uses the running statistics")
def no_spatial_axis_fixed(lib: System) -> str:
    return called(lib, input=noise(2, 3), running_mean=np.zeros(3), running_var=np.ones(3), use_input_stats=False)
