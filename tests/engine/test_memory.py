"""Memory: reference counting alone frees a graph, and what no rule needs is not kept."""

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

import minitensor as mt
from minitensor.primitive import Primitive


class Watched(np.ndarray):
    """An array that can be watched: NumPy's own take no weak references."""


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """No cycle collector: what is freed here is freed by reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def watched(*values: float) -> np.ndarray:
    return np.array(values).view(Watched)


class Kept:
    """Whether the arrays of an operation's inputs and output live on in its graph."""

    def __init__(self, call, n: int) -> None:
        leaves = [mt.tensor([0.5, 1.5], np.float64, requires_grad=True) for _ in range(n)]
        inner = [leaf * 1.0 for leaf in leaves]  # so that the leaves do not hold the arrays
        for tensor in inner:
            tensor._array = tensor._array.view(Watched)
        self.inputs = [weakref.ref(tensor._array) for tensor in inner]
        y = call(*inner)
        self.output = weakref.ref(y._array)
        self.node = y._node

    def __eq__(self, other: object) -> bool:
        return ([ref() is not None for ref in self.inputs], self.output() is not None) == other

    def __repr__(self) -> str:
        return repr(([ref() is not None for ref in self.inputs], self.output() is not None))


READS = {
    "add": (lambda a, b: a + b, ([False, False], False)),
    "subtract": (lambda a, b: a - b, ([False, False], False)),
    "multiply": (lambda a, b: a * b, ([True, True], False)),
    "multiply by a constant": (lambda a: a * mt.ones(2), ([False], False)),
    "divide": (lambda a, b: a / b, ([False, True], True)),
    "negative": (lambda x: -x, ([False], False)),
    "exp": (np.exp, ([False], True)),
    "tanh": (np.tanh, ([False], True)),
    "sqrt": (np.sqrt, ([False], True)),
    "log": (np.log, ([True], False)),
    "sin": (np.sin, ([True], False)),
    "sum": (np.sum, ([False], False)),
    "mean": (np.mean, ([False], False)),
    "max": (np.max, ([True], True)),
    "matmul": (lambda a, b: a @ b, ([True, True], False)),
    "getitem": (lambda x: x[[0, 0]], ([False], False)),
    "astype": (lambda x: x.astype(np.float32), ([False], False)),
    "where": (lambda a, b: mt.where(np.array([True, False]), a, b), ([False, False], False)),
    "concatenate": (lambda a, b: np.concatenate([a, b]), ([False, False], False)),
}


@pytest.mark.parametrize("name", READS)
def test_only_what_a_rule_reads_is_kept(name: str) -> None:
    call, expected = READS[name]
    kept = Kept(call, len(expected[0]))
    assert kept == expected
    kept.node.inputs = kept.node.output = None  # as the walk leaves it behind
    assert kept == ([False] * len(expected[0]), False)


def test_a_rule_that_is_not_needed_keeps_nothing() -> None:
    """In ``x * constant`` nobody asks for the constant's gradient, so x is not kept."""
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    constant = mt.tensor([3.0, 4.0])
    y = (x + 0) * constant
    assert [value is constant._array for value in y._node.inputs] == [False, True]
    h = x + 0
    y = constant * h
    assert all(value is not h._array for value in y._node.inputs)


@pytest.mark.parametrize("retain", [False, True])
def test_reference_counting_frees_a_graph(retain: bool) -> None:
    for create_graph in (False, True):
        x = mt.tensor([1.0, 2.0], requires_grad=True)
        h = np.exp(x)
        y = (h * h + x).sum()
        y.backward(retain_graph=retain, create_graph=create_graph)
        refs = [weakref.ref(t) for t in (x, h, y)]
        if create_graph:
            x.grad = None  # with create_graph, x.grad refers to x, and x to it
        del x, h, y
        assert [ref() for ref in refs] == [None] * 3


def test_a_tensor_is_freed_with_its_last_reference() -> None:
    x = mt.tensor([1.0], requires_grad=True)
    ref = weakref.ref(x)
    y = x * 2
    del x
    assert ref() is None  # the graph points to the leaf, not to the Tensor
    y.backward()


def test_saved_arrays_go_as_the_walk_passes() -> None:
    """When the first operation's rule runs, the arrays of the last are gone, though y is still there."""
    alive: list[bool] = []

    def rule(g: object, _y: object, _x: object) -> object:
        alive.append(ref() is not None)
        return g

    for retain in (False, True):
        x = mt.tensor([0.1, 0.2], np.float64, requires_grad=True)
        first = Primitive(np.positive, rule)(x)
        h = first * 2.0
        h._array = h._array.view(Watched)
        ref = weakref.ref(h._array)
        y = np.sin(h).sum()
        del h, first
        assert ref() is not None
        y.backward(retain_graph=retain)
    assert alive == [False, True]


def test_cotangents_go_as_the_walk_passes() -> None:
    """A long chain of large cotangents never holds more than a few of them."""
    living: list[int] = []
    refs: list[weakref.ref] = []

    def rule(g: object, _y: object, _x: object) -> object:
        new = np.array(g).view(Watched)
        refs.append(weakref.ref(new))
        living.append(sum(ref() is not None for ref in refs))
        return new

    step = Primitive(np.positive, rule)
    y = mt.tensor([1.0, 2.0], np.float64, requires_grad=True)
    for _ in range(50):
        y = step(y)
    y.backward(mt.ones(2))
    assert len(living) == 50
    assert max(living) <= 3


def test_operations_do_not_copy_constants_of_the_package() -> None:
    """Tensors never write into their arrays, so the graph shares them."""
    x, w = mt.ones(3, requires_grad=True), mt.tensor([1.0, 2.0, 3.0])
    assert (x * w)._node.inputs[1] is w._array
    assert x.detach()._array is x._array


def test_under_no_grad_nothing_is_kept() -> None:
    x = mt.ones(3, requires_grad=True)
    with mt.no_grad():
        h = x * 2
        h._array = h._array.view(Watched)
        ref = weakref.ref(h._array)
        y = np.sin(h)
    del h
    assert ref() is None
    assert y._node is None
