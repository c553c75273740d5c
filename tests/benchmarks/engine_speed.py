"""What an operation of the engine costs, beside the peers that are installed: ``python tests/benchmarks/engine_speed.py``.

The libraries take turns, each time in a process of its own, because a library's heap and its share of Python's garbage collection are
a part of what it costs. They are compared by the median of their CPU time, so that whatever else the machine does falls on all alike.
Every library uses one thread.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Program = Callable[[], object]
OPERATIONS = 1002  # a third each: multiply, add, tanh
VALUES = {"x": [0.1, 0.2, 0.3, 0.4], "w": [1.1, 0.9, 1.2, 0.8], "b": [0.1, 0.2, -0.1, -0.3]}


class Library(NamedTuple):
    """What a program needs of a library: Tensors, a function, and how to run it forward and backward."""

    tensor: Callable[[np.ndarray, bool], Any]
    tanh: Callable[[Any], Any]
    differentiate: Callable[[Callable[..., Any], list[Any], np.ndarray], Any]  # (function, its inputs, the cotangent of its output)


def minitensor() -> Library:
    """Ours."""
    import minitensor as mt

    return Library(lambda a, grad: mt.tensor(a, requires_grad=grad), mt.tanh, lambda f, xs, g: f(*xs).backward(mt.from_numpy(g)))


def torch() -> Library:
    """PyTorch, on one thread."""
    import torch

    torch.set_num_threads(1)
    tensor = lambda a, grad: torch.tensor(a, requires_grad=grad)  # noqa: E731
    return Library(tensor, torch.tanh, lambda f, xs, g: f(*xs).backward(torch.from_numpy(g)))


def mygrad() -> Library:
    """MyGrad."""
    import mygrad

    return Library(lambda a, grad: mygrad.tensor(a, constant=not grad), mygrad.tanh, lambda f, xs, g: f(*xs).backward(g))


def autograd() -> Library:
    """HIPS autograd: inputs become Tensors for the time of one call."""
    import autograd
    import autograd.numpy

    def differentiate(f: Callable[..., Any], xs: list[Any], g: np.ndarray) -> Any:
        inputs = [x for x, grad in xs if grad]
        return autograd.make_vjp(lambda given: f(*given, *(x for x, grad in xs if not grad)))(inputs)[0](g)

    return Library(lambda a, grad: (a, grad), autograd.numpy.tanh, differentiate)


LIBRARIES = {"minitensor": minitensor, "torch": torch, "autograd": autograd, "mygrad": mygrad}


def installed() -> list[str]:
    """The libraries that can be measured here, ours first."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name)]


def operations(library: Library, constants: bool) -> Program:
    """1002 operations on 4 elements, forward and backward; w and b are constants, or get gradients too."""
    inputs = [library.tensor(np.array(VALUES[name], np.float32), name == "x" or not constants) for name in "xwb"]
    g = np.ones(4, np.float32)

    def function(x: Any, w: Any, b: Any) -> Any:
        for _ in range(OPERATIONS // 3):
            x = library.tanh(x * w + b)
        return x

    return lambda: library.differentiate(function, inputs, g)


def chain(library: Library, length: int) -> Program:
    """A chain of additions of a constant to 4 elements, forward and backward."""
    inputs = [library.tensor(np.array(VALUES[name], np.float32), name == "x") for name in "xb"]
    g = np.ones(4, np.float32)

    def function(x: Any, b: Any) -> Any:
        for _ in range(length):
            x = x + b
        return x

    return lambda: library.differentiate(function, inputs, g)


WORKLOADS: dict[str, tuple[Callable[[Library], Program], int]] = {
    "an operation, w and b with gradients": (lambda library: operations(library, False), OPERATIONS),
    "an operation, w and b constants": (lambda library: operations(library, True), OPERATIONS),
    "an addition in a chain of 20,000": (lambda library: chain(library, 20_000), 20_000),
    "an addition in a chain of 200,000": (lambda library: chain(library, 200_000), 200_000),
    "an addition in a chain of 1,000,000": (lambda library: chain(library, 1_000_000), 1_000_000),
}


def cpu_time(program: Program, repeats: int) -> float:
    """Median CPU seconds of a program, after a first run that warms up; nan if the library cannot go so deep."""
    times = []
    for number in range(repeats + 1):
        start = time.process_time()
        try:
            program()
        except RecursionError:
            return float("nan")
        if number:
            times.append(time.process_time() - start)
    return statistics.median(times)


def measured(name: str) -> dict[str, float]:
    """CPU seconds per operation of every workload, in this process; peers other than PyTorch are spared the long chains."""
    library = LIBRARIES[name]()
    found = {}
    for told, (make, count) in WORKLOADS.items():
        spared = count > 20_000 and name not in ("minitensor", "torch")
        found[told] = float("nan") if spared else cpu_time(make(library), max(1, 60_000 // count)) / count
    return found


def fresh(*arguments: str) -> str:
    """What a fresh interpreter prints, with compiled files."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, *arguments], check=True, env=environment, capture_output=True, text=True).stdout


def in_turn(rounds: int) -> dict[str, dict[str, float]]:
    """`measured` for every library, the median over as many rounds; in every round each has its turn in a process of its own."""
    times: dict[str, list[dict[str, float]]] = {name: [] for name in installed()}
    for _ in range(rounds):
        for name in times:
            times[name].append(json.loads(fresh(__file__, name)))
    return {name: {told: statistics.median(each[told] for each in found) for told in WORKLOADS} for name, found in times.items()}


def import_times(rounds: int) -> dict[str, float]:
    """Seconds until a fresh interpreter has imported a library, in turn."""
    times: dict[str, list[float]] = {name: [] for name in ("numpy", *installed())}
    for number in range(rounds + 1):
        for name in times:
            start = time.perf_counter()
            fresh("-c", f"import {name}")
            if number:  # the first round compiles
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def report(rounds: int) -> str:
    """The tables of ``docs/performance.md``."""
    times, names = in_turn(rounds), installed()
    lines = ["| | minitensor, µs | " + " | ".join(f"of {name}'s" for name in names[1:]) + " |", "| --- |" + " ---: |" * len(names)]
    for told in WORKLOADS:
        ours = times["minitensor"][told]
        cells = [f"{ours * 1e6:.2f}", *(f"{ours / times[name][told]:.2f}" for name in names[1:])]
        lines.append(f"| {told} | " + " | ".join("–" if cell == "nan" else cell for cell in cells) + " |")
    imports = import_times(rounds)
    lines += ["", "| import | s | above NumPy, ms |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {taken:.3f} | {(taken - imports['numpy']) * 1e3:.0f} |" for name, taken in imports.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in LIBRARIES:
        print(json.dumps(measured(sys.argv[1])))
    else:
        print(report(int(sys.argv[1]) if sys.argv[1:] else 5))
