"""detect_anomaly names the operation that first gave nan or inf in a backward pass, and the line of the user's program that called it."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

import minitensor as mt
from minitensor.errors import GraphError

both_walks = pytest.mark.parametrize("create_graph", [False, True])


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """NumPy's own warnings would come first."""
    with np.errstate(all="ignore"):
        yield


def leaf(*values: float) -> mt.Tensor:
    return mt.tensor(values, np.float64, requires_grad=True)


def here(back: int = 0) -> str:
    """``file:line`` of the line that calls this, or of one so many lines above it."""
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno - back}"


def told(operation: str, where: str, bad: str) -> str:
    return re.escape(f"the backward of {operation!r}, called at {where}, gave {bad} for an input float64")


@both_walks
def test_the_operation_and_the_line_are_named(create_graph: bool) -> None:
    x = leaf(0.0, 1.0)
    with mt.detect_anomaly():
        y = np.sqrt(x)
        where = here(1)
        total = (y * 2).sum()
        with pytest.raises(GraphError, match=told("sqrt", where, "inf")):
            total.backward(create_graph=create_graph)
        assert x.grad is None


NOT_FINITE: dict[str, tuple[Callable[[Any], Any], float, str, str]] = {
    "sqrt": (np.sqrt, 0.0, "sqrt", "inf"),
    "log": (np.log, 0.0, "log", "inf"),
    "sqrt of a negative number": (np.sqrt, -1.0, "sqrt", "nan"),
    "divide": (lambda x: 1 / x, 0.0, "divide", "inf"),
    "an operator": (lambda x: x**-1, 0.0, "power", "inf"),
    "a method": (lambda x: (x - x.mean()) / 0.0, 1.0, "divide", "inf"),
    "a branch not taken": (lambda x: mt.where(x > 0, np.sqrt(x), 0.0), 0.0, "sqrt", "nan"),
    "an overflow": (np.exp, 1e4, "exp", "inf"),
    "an overflow in the cotangent": (lambda x: x * 1e200 * 1e200, 1e-300, "multiply", "inf"),
    "a list of inputs": (lambda x: np.einsum("i,i->", x, [np.inf]), 1.0, "einsum", "inf"),
}


@both_walks
@pytest.mark.parametrize("name", NOT_FINITE)
def test_nan_and_inf(name: str, create_graph: bool) -> None:
    call, value, operation, bad = NOT_FINITE[name]
    with mt.detect_anomaly():
        y = call(leaf(value))
        with pytest.raises(GraphError, match=rf"the backward of '{operation}', called at {re.escape(__file__)}:\d+, gave {bad}"):
            y.sum().backward(create_graph=create_graph)


def test_the_first_operation_on_the_way_back_is_named() -> None:
    """What it gives is handed on by all the others."""
    x = leaf(0.0)
    with mt.detect_anomaly():
        h = np.sin(x * 3)
        y = np.sqrt(h)
        where = here(1)
        z = np.exp(y) + np.cos(y)
        with pytest.raises(GraphError, match=told("sqrt", where, "inf")):
            mt.grad(z, x)


def _deep(x: mt.Tensor) -> mt.Tensor:
    def inner(values: list[mt.Tensor]) -> list[mt.Tensor]:
        return [np.sqrt(value) for value in values]

    return inner([x])[0]


def test_nested_in_functions_the_innermost_line_of_the_program_is_named() -> None:
    lines, start = inspect.getsourcelines(_deep)
    number = start + next(i for i, line in enumerate(lines) if "np.sqrt" in line)
    with mt.detect_anomaly():
        y = _deep(leaf(0.0))
        with pytest.raises(GraphError, match=told("sqrt", f"{__file__}:{number}", "inf")):
            y.backward()


def test_as_a_decorator() -> None:
    @mt.detect_anomaly()
    def step(value: float) -> list[float]:
        """What it does."""
        x = leaf(value)
        np.sqrt(x).backward()
        return x.grad.tolist()

    assert step(4.0) == [0.25]
    with pytest.raises(GraphError, match=told("sqrt", here().rpartition(":")[0], "inf").replace(re.escape(", gave"), r":\d+, gave")):
        step(0.0)
    assert (step.__name__, step.__doc__) == ("step", "What it does.")
    assert_not_watched()


def assert_not_watched() -> None:
    x = leaf(0.0)
    np.sqrt(x).backward()
    assert x.grad.tolist() == [np.inf]


def test_after_the_context_nothing_is_checked() -> None:
    x = leaf(0.0)
    with mt.detect_anomaly():
        y = np.sqrt(x)
    y.backward()
    assert x.grad.tolist() == [np.inf]
    assert_not_watched()


def test_after_an_exception_nothing_is_checked() -> None:
    with pytest.raises(ZeroDivisionError), mt.detect_anomaly():
        raise ZeroDivisionError
    with pytest.raises(GraphError), mt.detect_anomaly():
        np.sqrt(leaf(0.0)).backward()
    assert_not_watched()


def test_nested_contexts() -> None:
    with mt.detect_anomaly():
        with mt.detect_anomaly(), pytest.raises(GraphError):
            np.sqrt(leaf(0.0)).backward()
        with pytest.raises(GraphError):
            np.sqrt(leaf(0.0)).backward()
    assert_not_watched()


def test_a_forward_pass_outside_the_context_says_so() -> None:
    y = np.sqrt(leaf(0.0))
    with mt.detect_anomaly(), pytest.raises(GraphError, match=told("sqrt", "outside detect_anomaly()", "inf")):
        y.backward()


def test_with_no_grad_inside() -> None:
    """The two switches do not undo each other."""
    with mt.detect_anomaly():
        with mt.no_grad():
            assert not (leaf(1.0) * 2).requires_grad
        with pytest.raises(GraphError, match="sqrt"):
            np.sqrt(leaf(0.0)).backward()
    with mt.no_grad(), mt.detect_anomaly():
        assert not (leaf(1.0) * 2).requires_grad
    assert (leaf(1.0) * 2).requires_grad
    assert_not_watched()


def test_the_derivative_of_a_derivative_is_watched_too() -> None:
    """y = x**1.5: dy/dx = 1.5 x**0.5 is finite at 0, and its derivative is not. The line is that of the first grad()."""
    x = leaf(0.0)
    with mt.detect_anomaly():
        y = x**1.5
        (g,) = mt.grad(y, x, create_graph=True)
        where = here(1)
        assert g.tolist() == [0.0]
        with pytest.raises(GraphError, match=told("power", where, "inf")):
            mt.grad(g, x)


@both_walks
def test_a_hook_that_breaks_a_cotangent(create_graph: bool) -> None:
    """The operation that was handed it is the first to give it on."""
    x = leaf(1.0)
    with mt.detect_anomaly():
        h = x * 2
        where = here(1)
        h.register_hook(lambda g: g * np.nan)
        y = h + 1
        with pytest.raises(GraphError, match=told("multiply", where, "nan")):
            y.backward(create_graph=create_graph)


class Broken(mt.autograd.Function):
    """A derivative of infinity, by hand."""

    @staticmethod
    def forward(ctx: Any, x: mt.Tensor) -> Any:
        return x * 2, x * 3

    @staticmethod
    def backward(ctx: Any, g: mt.Tensor, h: mt.Tensor) -> mt.Tensor:
        return (g + h) * np.inf


@both_walks
def test_functions_by_hand(create_graph: bool) -> None:
    with mt.detect_anomaly():
        y, z = Broken.apply(leaf(1.0))
        where = here(1)
        with pytest.raises(GraphError, match=told("Broken", where, "inf")):
            (y + z).backward(create_graph=create_graph)


def test_per_thread() -> None:
    """While one thread watches, another does not."""
    inside, seen = threading.Event(), []
    done = threading.Event()

    def other() -> None:
        assert inside.wait(60)
        with np.errstate(all="ignore"):
            x = leaf(0.0)
            np.sqrt(x).backward()
        seen.append(x.grad.tolist())
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mt.detect_anomaly():
        inside.set()
        assert done.wait(60)
        with pytest.raises(GraphError):
            np.sqrt(leaf(0.0)).backward()
    thread.join()
    assert seen == [[np.inf]]


@pytest.mark.parametrize("case", CASES[::5], ids=lambda case: case.name)
def test_finite_graphs_raise_nothing_and_give_the_same_numbers(case: Case) -> None:
    """In both walks and at second order; with the context around, every gradient is what it is without."""

    def gradients() -> list[Any]:
        tensors = [mt.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.inputs]
        leaves = [tensor for tensor in tensors if tensor.requires_grad]
        y = case.call(*tensors)
        raw = mt.grad(y, leaves, mt.ones_like(y), retain_graph=True)
        traced = mt.grad(y, leaves, mt.ones_like(y), create_graph=True)
        total = [g.sum() for g in traced if g.requires_grad]
        second = mt.grad(total, leaves, allow_unused=True) if total else []
        return [None if g is None else g.tolist() for g in (*raw, *traced, *second)]

    expected = gradients()
    with mt.detect_anomaly():
        assert gradients() == expected
