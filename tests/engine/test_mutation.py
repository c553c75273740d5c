"""Mutation: writing never gives a silently wrong gradient."""

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import GraphError, ShapeError


def both_orders(y: mt.Tensor, x: mt.Tensor) -> tuple[list, list]:
    """The gradient and the gradient of its sum."""
    (g,) = mt.grad(y, x, np.ones(y.shape), create_graph=True)
    (h,) = mt.grad(g.sum(), x)
    return g.tolist(), h.tolist()


def test_tensor_copies() -> None:
    array = np.array([1.0, 2.0])
    for t in (mt.tensor(array), mt.Tensor(array), mt.tensor(mt.tensor(array))):
        array[0] = 9.0
        assert t.tolist() == [1.0, 2.0]
        array[0] = 1.0


def test_tensor_of_a_tensor_shares_nothing() -> None:
    t = mt.tensor([1.0, 2.0], requires_grad=True)
    new = mt.tensor(t)
    assert not np.shares_memory(new.data, t.data)
    assert not new.requires_grad


@pytest.mark.parametrize(
    "view", [lambda t: t.data, lambda t: t.numpy(), lambda t: np.asarray(t), lambda t: t.data[0:1], lambda t: t.data.reshape(-1)]
)
def test_views_refuse_writing(view) -> None:
    t = mt.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        view(t)[0] = 9.0
    assert t.tolist() == [1.0, 2.0]


def test_operations_are_not_slowed_by_the_flag() -> None:
    """Only the view is read-only: the Tensor's own array is as it was."""
    t = mt.ones(2)
    assert not t.data.flags.writeable
    assert t._array.flags.writeable


WRITES = {
    "data = list": lambda t: setattr(t, "data", [7.0, 8.0]),
    "data = array": lambda t: setattr(t, "data", np.array([7.0, 8.0])),
    "data = Tensor": lambda t: setattr(t, "data", mt.tensor([7.0, 8.0])),
    "t[...] = list": mt.no_grad()(lambda t: t.__setitem__(..., [7.0, 8.0])),
    "t[i] = numbers": mt.no_grad()(lambda t: (t.__setitem__(0, 7.0), t.__setitem__(-1, mt.tensor(8.0)))),
    "t[mask] = array": mt.no_grad()(lambda t: t.__setitem__(np.array([True, True]), np.array([7.0, 8.0]))),
    "t[Tensor] = array": mt.no_grad()(lambda t: t.__setitem__(mt.tensor([1, 0]), np.array([8.0, 7.0]))),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_new_values_leave_recorded_graphs_as_they_were(write) -> None:
    x = mt.tensor([2.0, 3.0], requires_grad=True)
    y = x * x * x
    write(x)
    assert (x.tolist(), x.dtype, x.requires_grad, x.is_leaf) == ([7.0, 8.0], np.float32, True, True)
    assert both_orders(y, x) == ([12.0, 27.0], [12.0, 18.0])
    assert both_orders(x * x * x, x) == ([147.0, 192.0], [42.0, 48.0])


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_new_values_reach_no_other_tensor(write) -> None:
    x = mt.tensor([2.0, 3.0])
    others = [x.detach(), x.reshape(2), x[:], x.transpose(), mt.broadcast_to(x, (2,)), x.to("cpu").astype(np.float32)]
    view = x.data
    write(x)
    assert [other.tolist() for other in others] == [[2.0, 3.0]] * len(others)
    assert view.tolist() == [2.0, 3.0]


def test_a_constant_may_be_rewritten() -> None:
    x, w = mt.tensor([2.0, 3.0], requires_grad=True), mt.tensor([5.0, 6.0])
    y = x * x * w
    w[0] = 100.0
    w.data = [0.0, 0.0]
    assert both_orders(y, x)[0] == [20.0, 36.0]


USER_ARRAYS = {
    "factor": (lambda x, a: x * x * a, np.array([5.0, 6.0]), [20.0, 36.0]),
    "factor on the left": (lambda x, a: a * (x * x), np.array([5.0, 6.0]), [20.0, 36.0]),
    "divisor": (lambda x, a: x * x / a, np.array([4.0, 2.0]), [1.0, 3.0]),
    "exponent": (lambda x, a: x**a, np.array([2.0, 3.0]), [4.0, 27.0]),
    "matrix": (lambda x, a: x * x @ a, np.array([[1.0, 2.0], [3.0, 4.0]]), [12.0, 42.0]),
    "mask": (lambda x, a: np.where(a, x * x, x), np.array([True, False]), [4.0, 1.0]),
    "integers": (lambda x, a: (x * x)[a], np.array([0, 0]), [8.0, 0.0]),
    "integers in a tuple": (lambda x, a: (x * x)[a,], np.array([1, 0]), [4.0, 6.0]),
    "mask as index": (lambda x, a: (x * x)[a], np.array([True, True]), [4.0, 6.0]),
    "list of factors": (lambda x, a: x * x * a, [5.0, 6.0], [20.0, 36.0]),
    "list of integers": (lambda x, a: (x * x)[a], [1, 1], [0.0, 12.0]),
    "compared": (lambda x, a: np.maximum(x * x, a), np.array([0.0, 0.0]), [4.0, 6.0]),
}


@pytest.mark.parametrize("name", USER_ARRAYS)
def test_the_users_own_arrays_may_be_written_into(name: str) -> None:
    """What an operation was given as a NumPy array or a list may change before the walk."""
    call, array, expected = USER_ARRAYS[name]
    array = array.copy()
    x = mt.tensor([2.0, 3.0], np.float64, requires_grad=True)
    y = call(x, array)
    array[:] = [type(array[0])(0)] * 2 if isinstance(array, list) else 1 - array
    assert both_orders(y, x)[0] == expected


def test_the_users_cotangent_may_be_written_into() -> None:
    x, u = mt.tensor([2.0, 3.0], requires_grad=True), np.ones(2, np.float32)
    (x + 0).backward(u)
    u[:] = 9.0
    assert x.grad.tolist() == [1.0, 1.0]


def test_writing_while_recording_is_refused() -> None:
    x = mt.tensor([2.0, 3.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"write under mt\.no_grad\(\)"):
        x[0] = 5.0
    with mt.no_grad(), mt.enable_grad(), pytest.raises(GraphError):
        x[0] = 5.0
    assert x.tolist() == [2.0, 3.0]
    t = mt.tensor([1.0, 2.0])
    t[0] = 5.0
    assert t.tolist() == [5.0, 2.0]


def test_writing_into_a_result_is_refused() -> None:
    y = mt.tensor([2.0, 3.0], requires_grad=True) * 2
    with mt.no_grad():
        for write in (lambda: y.__setitem__(0, 5.0), lambda: setattr(y, "data", [1.0, 2.0])):
            with pytest.raises(GraphError, match=r"made by the operation 'multiply'.*use \.detach\(\)"):
                write()
    free = y.detach()
    free[0] = 5.0
    assert (free.tolist(), y.tolist()) == ([5.0, 6.0], [4.0, 6.0])


def test_data_keeps_shape_and_dtype() -> None:
    x = mt.ones(2, requires_grad=True)
    with pytest.raises(ShapeError, match=r"shape \(2,\), the new values \(3,\)"):
        x.data = np.ones(3)
    x.data = np.array([1, 2], np.int8)
    assert (x.dtype, x.tolist()) == (np.float32, [1.0, 2.0])


def test_data_is_copied_when_assigned() -> None:
    x, array = mt.ones(2), np.ones(2, np.float32)
    x.data = array
    array[:] = 9.0
    assert x.tolist() == [1.0, 1.0]


def test_in_place_operators_rebind() -> None:
    """``x += 1`` makes a new Tensor, as for every immutable thing."""
    x = mt.tensor([2.0, 3.0], requires_grad=True)
    y = z = x * x
    y += 1
    y *= x
    assert z.tolist() == [4.0, 9.0]
    assert both_orders(y, x)[0] == [13.0, 28.0]


def test_an_array_of_indices_may_be_changed() -> None:
    x, index = mt.tensor([1.0, 2.0], requires_grad=True), np.array([0, 0])
    y = np.take(x, index)
    index[:] = 1
    assert mt.grad(y, x, np.ones(2))[0].tolist() == [2.0, 0.0]
