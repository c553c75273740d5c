"""Hooks on cotangents, gradients that inner Tensors keep, and set_grad_enabled."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import GraphError, ShapeError

both_walks = pytest.mark.parametrize("create_graph", [False, True])


def leaf(*values: float, dtype: Any = np.float64) -> mt.Tensor:
    return mt.tensor(values, dtype, requires_grad=True)


# -- register_hook -----------------------------------------------------------------------------------------------------------------------


@both_walks
def test_a_hook_sees_the_summed_cotangent_once(create_graph: bool) -> None:
    """On a leaf and on an inner Tensor, however many operations use them."""
    x = leaf(2.0, 3.0)
    h = x * x
    seen: dict[str, list[Any]] = {"x": [], "h": []}
    x.register_hook(lambda g: seen["x"].append(g.tolist()))
    h.register_hook(lambda g: seen["h"].append(g.tolist()))
    (h * h + 3 * h + x + (h + x)).sum().backward(create_graph=create_graph)
    assert seen == {"h": [[12.0, 22.0]], "x": [[50.0, 134.0]]}
    assert x.grad.tolist() == [50.0, 134.0]


@both_walks
def test_hooks_run_in_the_order_of_their_registration_and_pass_their_results_on(create_graph: bool) -> None:
    x, seen = leaf(1.0), []
    x.register_hook(lambda g: seen.append(("first", g.item())) or g + 1)
    x.register_hook(lambda g: seen.append(("second", g.item())))
    x.register_hook(lambda g: seen.append(("third", g.item())) or 10 * g)
    (3 * x).backward(create_graph=create_graph)
    assert seen == [("first", 3.0), ("second", 4.0), ("third", 4.0)]
    assert x.grad.tolist() == [40.0]


@both_walks
def test_what_a_hook_on_an_inner_tensor_returns_flows_on(create_graph: bool) -> None:
    x = leaf(2.0)
    h = x * x
    h.register_hook(lambda g: -g)
    (h * 3 + x).backward(create_graph=create_graph)
    assert x.grad.tolist() == [-12.0 + 1.0]


def test_a_hook_does_not_change_what_other_tensors_get() -> None:
    """``a + b`` hands both one cotangent; replacing it for one must not reach the other, nor the cotangent that was given."""
    a, b, u = leaf(1.0), leaf(2.0), mt.tensor([1.0], np.float64)
    a.register_hook(lambda g: g * 100)
    (a + b).backward(u)
    assert (a.grad.tolist(), b.grad.tolist(), u.tolist()) == ([100.0], [1.0], [1.0])


def test_removal() -> None:
    x = leaf(1.0)
    first, second = x.register_hook(lambda g: g + 1), x.register_hook(lambda g: g * 10)
    (2 * x).backward()
    first.remove()
    (2 * x).backward()
    second.remove()
    second.remove()
    (2 * x).backward()
    assert x.grad.tolist() == [30.0 + 20.0 + 2.0]


def test_removal_of_an_earlier_hook_keeps_the_order_of_the_others() -> None:
    x, seen = leaf(1.0), []
    handles = [x.register_hook(lambda _g, i=i: seen.append(i)) for i in range(4)]
    handles[1].remove()
    x.register_hook(lambda _g: seen.append(4))
    x.backward()
    assert seen == [0, 2, 3, 4]


@both_walks
def test_removal_during_the_walk(create_graph: bool) -> None:
    """Of itself: called once. Of a hook on a Tensor further down: not called any more."""
    x = leaf(2.0)
    h, seen = x * x, []
    below = x.register_hook(lambda _g: seen.append("below"))

    def once(_g: mt.Tensor) -> None:
        seen.append("once")
        own.remove()
        below.remove()

    own = h.register_hook(once)
    h.register_hook(lambda _g: seen.append("after"))
    y = h * 3
    for _ in range(2):
        y.backward(retain_graph=True, create_graph=create_graph)
    assert seen == ["once", "after", "after"]
    assert x.grad.tolist() == [24.0]


def test_registration_during_the_walk() -> None:
    x = leaf(2.0)
    h, seen = x * x, []
    h.register_hook(lambda _g: seen.append("h") or (x.register_hook(lambda _g: seen.append("x")) and None))
    (h * 3).backward()
    assert seen == ["h", "x"]


WRONG = {
    "shape": (lambda _g: mt.ones(3), r"float32 \(3,\)"),
    "shape that would broadcast": (lambda g: g.sum(), r"float64 \(\)"),
    "array": (lambda g: g.numpy(), r"float64 \(2,\)"),
    "number": (lambda _g: 1.0, "float"),
    "False": (lambda _g: False, "bool"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named_before_a_grad_is_changed(name: str) -> None:
    hook, told = WRONG[name]
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x.register_hook(hook)
    with pytest.raises(ShapeError, match=rf"hook on leaf must return None or a Tensor of shape \(2,\), got {told}"):
        (x * z).sum().backward()
    assert (x.grad, z.grad) == (None, None)
    y = np.exp(z)
    y.register_hook(hook)
    with pytest.raises(ShapeError, match="hook on exp"):
        y.sum().backward()


@both_walks
@pytest.mark.parametrize("other", [np.float16, np.float64, np.int64])
def test_what_a_hook_returns_is_cast_to_the_tensors_dtype(other: type, create_graph: bool) -> None:
    x = leaf(1.0, 2.0, dtype=np.float32)
    h = x * 1.0
    for tensor in (h, x):
        tensor.register_hook(lambda g: mt.tensor([3, 4], other) * g.astype(other))
    h.retain_grad()
    h.sum().backward(create_graph=create_graph)
    assert (x.grad.dtype, h.grad.dtype) == (np.float32, np.float32)
    assert (h.grad.tolist(), x.grad.tolist()) == ([3.0, 4.0], [9.0, 16.0])


@both_walks
def test_an_error_in_a_hook_leaves_gradients_and_modes_alone(create_graph: bool) -> None:
    def fail(_g: mt.Tensor) -> None:
        raise ZeroDivisionError

    x, z = leaf(1.0), leaf(2.0)
    x.register_hook(fail)
    with mt.no_grad():
        with mt.enable_grad():
            y = z * 5 + x * 2
        with pytest.raises(ZeroDivisionError):
            y.backward(create_graph=create_graph)
        assert not mt.is_grad_enabled()
    assert mt.is_grad_enabled()
    assert (x.grad, z.grad) == (None, None)


def test_only_tensors_that_require_grad_take_hooks() -> None:
    with pytest.raises(GraphError, match="register_hook: this Tensor does not require grad"):
        mt.ones(2).register_hook(print)
    with mt.no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(GraphError, match="does not require grad"):
        y.register_hook(print)


@both_walks
def test_grad_sees_hooks_of_targets_and_of_what_lies_on_the_way(create_graph: bool) -> None:
    x, w = leaf(2.0), leaf(5.0)
    h = x * x
    y = h * w
    x.register_hook(lambda g: g + 1)
    h.register_hook(lambda g: g * 2)
    y.register_hook(lambda g: g * 10)
    w.register_hook(lambda _g: pytest.fail("w is not asked for"))
    gx, gh, gy = mt.grad(y, [x, h, y], create_graph=create_graph)
    assert [g.tolist() for g in (gy, gh, gx)] == [[10.0], [100.0], [401.0]]
    assert x.grad is None


@both_walks
def test_hooks_beside_the_path_are_not_called(create_graph: bool) -> None:
    x, w = leaf(2.0), leaf(5.0)
    beside = w * w
    beside.register_hook(lambda _g: pytest.fail("beside the path"))
    assert mt.grad(x * beside, x, create_graph=create_graph)[0].tolist() == [25.0]


def test_hooks_take_part_in_derivatives_of_derivatives() -> None:
    """The hook squares the cotangent of h = x**2 in y = h**2: g = (2 h)**2 2 x = 8 x**5, and dg/dx = 40 x**4."""
    x = leaf(2.0)
    h = x * x
    h.register_hook(lambda g: g * g)
    (g,) = mt.grad(h * h, x, create_graph=True)
    assert g.tolist() == [8 * 2.0**5]
    h._node.hooks.clear()  # the second derivative alone, without the hook in its own walk
    assert mt.grad(g, x)[0].tolist() == [40 * 2.0**4]


def test_inside_a_hook_recording_is_as_the_walk_needs_it() -> None:
    """Off in the raw walk, also when the user's program records; on in the traced walk, also under no_grad."""
    for create_graph in (False, True):
        x, seen = leaf(1.0), []
        x.register_hook(lambda g, seen=seen: seen.append((mt.is_grad_enabled(), g.requires_grad)))
        y = x * x
        with mt.set_grad_enabled(not create_graph):
            y.backward(create_graph=create_graph)
        assert seen == [(create_graph, create_graph)]


def test_a_hook_may_walk_another_graph() -> None:
    x, z = leaf(2.0), leaf(3.0)
    inner = z * z
    x.register_hook(lambda _g: inner.backward())
    (x * 5).backward()
    assert (x.grad.tolist(), z.grad.tolist()) == ([5.0], [6.0])


def test_hooks_stay_with_the_tensor_when_it_gets_new_values() -> None:
    x = leaf(1.0)
    x.register_hook(lambda g: g * 7)
    x.data = [4.0]
    (x * x).backward()
    assert x.grad.tolist() == [56.0]


def test_copies_have_no_hooks() -> None:
    x = leaf(1.0)
    x.register_hook(lambda g: g * 7)
    for new in (mt.tensor(x, requires_grad=True), x.detach(), x.copy()):
        new.requires_grad = True
        assert not new.retains_grad
        assert mt.grad(new * 2, new)[0].tolist() == [2.0]


def test_hooks_are_not_called_for_tensors_that_no_cotangent_reaches() -> None:
    x, mask = leaf(1.0, 2.0), leaf(1.0, 0.0)
    mask.register_hook(lambda _g: pytest.fail("no cotangent"))
    np.where(mask, x, 0.0).sum().backward()
    assert (x.grad.tolist(), mask.grad) == ([1.0, 0.0], None)


# -- retain_grad -------------------------------------------------------------------------------------------------------------------------


@both_walks
def test_retain_grad_gathers_as_a_leaf_does(create_graph: bool) -> None:
    x = leaf(2.0)
    h = x * x
    assert not h.retains_grad
    h.retain_grad()
    h.retain_grad()
    assert h.retains_grad
    y = 3 * h
    for expected in (3.0, 6.0):
        y.backward(retain_graph=True, create_graph=create_graph)
        assert h.grad.tolist() == [expected]
        assert h.grad.requires_grad is False or create_graph
    h.grad = None
    y.backward()
    assert (h.grad.tolist(), x.grad.tolist()) == ([3.0], [36.0])


def test_retained_gradients_of_a_traced_walk_can_be_differentiated() -> None:
    x = leaf(2.0)
    h = x * x
    h.retain_grad()
    (h * h * h).backward(create_graph=True)
    assert h.grad.tolist() == [48.0]
    assert mt.grad(h.grad, x)[0].tolist() == [6 * 4.0 * 4.0]


@pytest.mark.parametrize("retained_first", [False, True])
def test_what_is_retained_is_what_is_left_after_all_hooks(retained_first: bool) -> None:
    x = leaf(2.0)
    h = x * x
    if retained_first:
        h.retain_grad()
    h.register_hook(lambda g: g * 10)
    if not retained_first:
        h.retain_grad()
    h.register_hook(lambda g: g + 1)
    (3 * h).backward()
    assert (h.grad.tolist(), x.grad.tolist()) == ([31.0], [124.0])


def test_retain_grad_of_leaves_and_of_what_requires_none() -> None:
    x = leaf(2.0)
    x.retain_grad()
    assert not x.retains_grad
    (x * 3).backward()
    assert x.grad.tolist() == [3.0]
    with pytest.raises(GraphError, match="retain_grad: this Tensor does not require grad"):
        mt.ones(2).retain_grad()
    assert not mt.ones(2).retains_grad


def test_grad_fills_no_leaf_but_a_retained_gradient_it_passes() -> None:
    """As PyTorch does: retain_grad is a hook, and hooks are called by every walk."""
    x = leaf(2.0)
    h = x * x
    h.retain_grad()
    assert mt.grad(3 * h, x)[0].tolist() == [12.0]
    assert (x.grad, h.grad.tolist()) == (None, [3.0])


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is freed here is freed by reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@both_walks
def test_a_retained_gradient_dies_with_its_tensor(create_graph: bool, without_collector: None) -> None:
    """The graph does not keep the Tensor for it, and a walk after its death passes by."""
    x = leaf(2.0)
    h = x * x
    h.retain_grad()
    y = 3 * h
    ref = weakref.ref(h)
    y.backward(retain_graph=True, create_graph=create_graph)
    gradient = weakref.ref(h.grad)
    del h
    assert (ref(), gradient()) == (None, None)
    y.backward()
    assert x.grad.tolist() == [24.0]


class Hook:
    """A hook that can be watched."""

    def __call__(self, g: mt.Tensor) -> mt.Tensor:
        return g * 2


@pytest.mark.parametrize("walked", [False, True])
def test_hooks_die_with_their_tensor(walked: bool, without_collector: None) -> None:
    x = leaf(2.0)
    h = x * x
    hooks = [Hook(), Hook()]
    handles = [x.register_hook(hooks[0]), h.register_hook(hooks[1])]
    refs = [weakref.ref(each) for each in (x, h, *hooks)]
    if walked:
        h.backward()
    del hooks, handles, x, h
    assert [ref() for ref in refs] == [None] * 4


def test_removed_hooks_die_at_once(without_collector: None) -> None:
    x, hook = leaf(2.0), Hook()
    handle, ref = x.register_hook(hook), weakref.ref(hook)
    del hook
    handle.remove()
    assert ref() is None


# -- set_grad_enabled --------------------------------------------------------------------------------------------------------------------


def recording() -> bool:
    """By the flag and by what happens; the two must agree."""
    recorded = (mt.ones(1, requires_grad=True) * 2).requires_grad
    assert recorded is mt.is_grad_enabled()
    return recorded


@pytest.fixture
def recorded_again() -> Iterator[None]:
    yield
    mt.set_grad_enabled(True)


def test_set_grad_enabled_called(recorded_again: None) -> None:
    for wanted in (False, True, True, False):
        mt.set_grad_enabled(wanted)
        assert recording() is wanted


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("inside", [False, True, 0, 1])
def test_set_grad_enabled_as_context(outside: bool, inside: Any) -> None:
    with mt.enable_grad() if outside else mt.no_grad():
        with mt.set_grad_enabled(inside):
            assert recording() is bool(inside)
            with mt.set_grad_enabled(not inside):
                assert recording() is not bool(inside)
            assert recording() is bool(inside)
        assert recording() is outside
        with pytest.raises(ZeroDivisionError), mt.set_grad_enabled(inside):
            raise ZeroDivisionError
        assert recording() is outside
    assert recording()


@pytest.mark.parametrize("inside", [False, True])
def test_set_grad_enabled_as_decorator(inside: bool) -> None:
    @mt.set_grad_enabled(inside)
    def decorated(depth: int) -> list[bool]:
        """What it does."""
        return [recording(), *(decorated(depth - 1) if depth else [])]

    assert recording()  # decorating changes nothing
    assert decorated(2) == [inside] * 3
    assert (decorated.__name__, decorated.__doc__) == ("decorated", "What it does.")
    with mt.no_grad():
        assert decorated(0) == [inside]
        assert not recording()
    assert recording()


def test_set_grad_enabled_called_within_a_context_ends_with_it() -> None:
    with mt.enable_grad():
        mt.set_grad_enabled(False)
        assert not recording()
    assert recording()


def test_set_grad_enabled_is_per_thread(recorded_again: None) -> None:
    seen: list[bool] = []

    def other() -> None:
        seen.append(recording())
        mt.set_grad_enabled(False)
        seen.append(recording())

    mt.set_grad_enabled(True)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [True, False]
    assert recording()
    mt.set_grad_enabled(False)
    thread = threading.Thread(target=lambda: seen.append(recording()))
    thread.start()
    thread.join()
    assert seen[2]
