"""Many threads build and walk graphs of their own at once, with the results of one thread alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cases import CASES
from checks import derivatives

import minitensor as mt
from minitensor.errors import GraphError

WORKERS = 8


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    """Threads give way to each other as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(task: Callable[[int], Any], n: int = WORKERS) -> list[Any]:
    """``task(i)`` on n threads that all start together."""
    barrier = threading.Barrier(n)

    def started(i: int) -> Any:
        barrier.wait(60)
        return task(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(started, range(n)))


def test_every_thread_gets_the_numbers_of_a_serial_run() -> None:
    """Forward, both walks and second order of cases of the whole table, each on several threads at once, with other ones beside it."""
    chosen = CASES[::7]

    def task(i: int) -> list[Any]:
        turned = chosen[i * 5 :] + chosen[: i * 5]
        found = {case.name: [t.tolist() for t in derivatives(case.call, case.inputs).all()] for case in turned}
        return [found[case.name] for case in chosen]

    serial = task(0)
    assert all(found == serial for found in at_once(task, 4))


def _penalty(x: mt.Tensor, w: mt.Tensor, scale: float) -> mt.Tensor:
    h = np.tanh(x @ w) * scale
    for _ in range(10):
        h = h + np.sin(h) * x.sum()
    return (h * h).mean()


@pytest.mark.parametrize("create_graph", [False, True])
def test_graphs_on_shared_leaves(create_graph: bool) -> None:
    """The leaves belong to all, each graph to one thread; grad() writes nothing into them."""
    rng = np.random.default_rng(0)
    x, w = (mt.tensor(rng.standard_normal(shape), requires_grad=True) for shape in [(4, 3), (3, 2)])

    def task(i: int) -> list[Any]:
        found = []
        for _ in range(10):
            gradients = mt.grad(_penalty(x, w, 1.0 + i), [x, w], create_graph=create_graph)
            if create_graph:
                gradients = mt.grad(sum(np.sum(g * g) for g in gradients), [x, w])
            found.append([g.tolist() for g in gradients])
        assert all(each == found[0] for each in found)
        return found[0]

    serial = [task(i) for i in range(WORKERS)]
    assert at_once(task) == serial
    assert (x.grad, w.grad) == (None, None)


def test_one_retained_graph_walked_by_all() -> None:
    x = mt.tensor([1.0, 2.0], np.float64, requires_grad=True)
    y = np.exp(x * x)
    h = y * x + y

    def task(i: int) -> list[Any]:
        return [mt.grad(h, [x, y], np.array([1.0, float(i)]), retain_graph=True)[0].tolist() for _ in range(30)]

    serial = [task(i) for i in range(WORKERS)]
    assert at_once(task) == serial


def test_backward_into_leaves_of_ones_own() -> None:
    shared = mt.tensor(np.linspace(-1, 1, 12).reshape(3, 4))

    def task(i: int) -> Any:
        w = mt.full((4,), 0.1 * i, np.float64, requires_grad=True)
        for _ in range(20):
            loss = ((shared @ w - i) ** 2).mean()
            loss.backward()
            with mt.no_grad():
                w -= 0.1 * w.grad
            w.grad = None
        return w.tolist()

    serial = [task(i) for i in range(WORKERS)]
    assert at_once(task) == serial


def test_modes_are_per_thread() -> None:
    """Each thread switches recording and anomaly mode on and off in its own way, and sees nothing of the others."""

    def task(i: int) -> None:
        x = mt.tensor([0.0], requires_grad=True)
        for step in range(50):
            with mt.set_grad_enabled((i + step) % 2 == 0):
                assert (x * 2).requires_grad is ((i + step) % 2 == 0)
                with mt.no_grad() if i % 3 else mt.enable_grad():
                    assert (x * 2).requires_grad is (i % 3 == 0)
                assert mt.is_grad_enabled() is ((i + step) % 2 == 0)
            assert (x * 2).requires_grad
            with np.errstate(divide="ignore"):
                if i % 2:
                    with mt.detect_anomaly(), pytest.raises(GraphError, match="sqrt"):
                        np.sqrt(x).backward()
                else:
                    np.sqrt(x).backward()
                    assert x.grad.tolist() == [np.inf]
                    x.grad = None

    at_once(task)


def test_one_decorated_function_on_all_threads() -> None:
    @mt.no_grad()
    def frozen(x: mt.Tensor) -> bool:
        return (x * 2).requires_grad

    @mt.set_grad_enabled(True)
    def thawed(x: mt.Tensor) -> tuple[bool, bool]:
        return (x * 2).requires_grad, frozen(x)

    def task(i: int) -> set[Any]:
        x = mt.ones(2, requires_grad=True)
        with mt.set_grad_enabled(i % 2 == 0):
            return {(frozen(x), *thawed(x), mt.is_grad_enabled() is (i % 2 == 0)) for _ in range(100)}

    assert at_once(task) == [{(False, True, False, True)}] * WORKERS


def test_hooks_of_shared_leaves_are_called_by_each_walk() -> None:
    x = mt.tensor([1.0], np.float64, requires_grad=True)
    x.register_hook(lambda g: g * 2)

    def task(i: int) -> set[float]:
        seen: set[float] = set()
        for _ in range(30):
            handle = (y := x * float(i)).register_hook(lambda g: g + 1)
            seen.add(mt.grad(y, x)[0].item())
            handle.remove()
        return seen

    assert at_once(task) == [{4.0 * i} for i in range(WORKERS)]


def test_a_graph_begun_on_one_thread_and_walked_on_another() -> None:
    x = mt.tensor([2.0], np.float64, requires_grad=True)
    y = x * x
    found: list[Any] = []
    with mt.no_grad():  # this thread's mode is not the other's
        thread = threading.Thread(target=lambda: found.extend(mt.grad(y * x, x, create_graph=True)))
        thread.start()
        thread.join()
    assert found[0].tolist() == [12.0]
    assert mt.grad(found[0], x)[0].tolist() == [12.0]
