"""What an operation of the engine costs, beside the peers that are installed: ``python tests/benchmarks/engine_speed.py``.

All contenders take turns within one run and are compared by the median of their CPU time, so that whatever else the machine does
falls on all of them alike. Every library uses one thread.
"""

from __future__ import annotations

import importlib.util
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


def medians(programs: dict[str, Program], rounds: int) -> dict[str, float]:
    """CPU seconds of each program, the median of as many rounds; in every round each has its turn. nan for one that fails."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            start = time.process_time()
            try:
                program()
            except RecursionError:
                times[name].append(float("nan"))
                continue
            if number:  # the first round warms up
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def import_times(rounds: int) -> dict[str, float]:
    """Seconds until a fresh interpreter has imported a library, in turn, from compiled files."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def importing(name: str) -> Program:
        return lambda: subprocess.run([sys.executable, "-c", f"import {name}"], check=True, env=environment, capture_output=True)

    times: dict[str, list[float]] = {name: [] for name in ("numpy", *installed())}
    for number in range(rounds + 1):
        for name in times:
            start = time.perf_counter()
            importing(name)()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def report(rounds: int = 25) -> str:
    """The table of ``docs/performance.md``."""
    names = installed()
    libraries = {name: LIBRARIES[name]() for name in names}

    def row(told: str, times: dict[str, float], count: int) -> str:
        ours = times["minitensor"]
        cells = [f"{ours / count * 1e6:.2f} µs"] + [f"{ours / times[name]:.2f}" for name in names[1:]]
        return f"| {told} | " + " | ".join("–" if "nan" in cell else cell for cell in cells) + " |"

    lines = ["| | minitensor | " + " | ".join(f"of {name}'s" for name in names[1:]) + " |", "| --- |" + " ---: |" * len(names)]
    for constants, told in ((False, "an operation, w and b with gradients"), (True, "an operation, w and b constants")):
        times = medians({name: operations(libraries[name], constants) for name in names}, rounds)
        lines.append(row(told, times, OPERATIONS))
    for length, repeats in ((20_000, max(1, rounds // 3)), (200_000, max(1, rounds // 8)), (1_000_000, 1)):
        contenders = names if length == 20_000 else [name for name in names if name in ("minitensor", "torch")]
        times = {name: float("nan") for name in names}
        times |= medians({name: chain(libraries[name], length) for name in contenders}, repeats)
        lines.append(row(f"an addition in a chain of {length:,}", times, length))
    imports = import_times(max(3, rounds // 2))
    lines += ["", "| import | s | above NumPy, ms |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {taken:.3f} | {(taken - imports['numpy']) * 1e3:.0f} |" for name, taken in imports.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(*map(int, sys.argv[1:])))
