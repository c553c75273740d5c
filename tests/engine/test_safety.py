"""Safety: mistakes are named before anything is changed, writing reaches no recorded graph, nothing recurses, nothing leaks."""

from __future__ import annotations

import array
import gc
import re
import warnings
import weakref
from collections.abc import Callable, Iterator
from importlib import import_module
from types import CellType, FunctionType
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

import minitensor as mt
from minitensor.autograd import Function
from minitensor.errors import DeviceError, DTypeError, GraphError, ShapeError, UnsupportedError
from minitensor.primitive import JointPrimitive, Primitive

core: Any = import_module("minitensor.primitive")  # whose name the function of that name has taken
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_walks = pytest.mark.parametrize("create_graph", [False, True])


def leaf(*values: float, dtype: Any = np.float64) -> mt.Tensor:
    return mt.tensor(values, dtype, requires_grad=True)


# -- named errors ------------------------------------------------------------------------------------------------------------------------


def _released() -> tuple[list[mt.Tensor], mt.Tensor, mt.Tensor, list[str]]:
    """Leaves with gradients, an output whose graph is released in part, one that is whole, and a list that hooks write into."""
    x, z = leaf(2.0, 3.0), leaf(5.0, 7.0)
    h = np.exp(x)
    (h * 2).sum().backward()
    z.grad = mt.tensor([1.0, 1.0], np.float64)
    called: list[str] = []
    partly, whole = (h + z).sum(), (z * z).sum()
    for tensor in (x, z, partly, whole):
        tensor.register_hook(lambda _g: called.append("hook"))
    return [x, z], partly, whole, called


AGAIN: dict[str, Callable[[list[mt.Tensor], mt.Tensor, mt.Tensor], Any]] = {
    "backward": lambda _leaves, partly, _whole: partly.backward(),
    "backward, create_graph": lambda _leaves, partly, _whole: partly.backward(create_graph=True),
    "backward, retain_graph": lambda _leaves, partly, _whole: partly.backward(retain_graph=True),
    "a sum of both": lambda _leaves, partly, whole: (whole + partly).backward(),
    "grad of several": lambda leaves, partly, whole: mt.grad([whole, partly], leaves),
    "grad of several, create_graph": lambda leaves, partly, whole: mt.grad([whole, partly], leaves, create_graph=True),
    "grad, unused allowed": lambda leaves, partly, _whole: mt.grad(partly, leaves, allow_unused=True),
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_second_walk_through_a_released_part_changes_nothing(name: str) -> None:
    """No gradient, no hook, and not the part that is whole: that can still be walked."""
    leaves, partly, whole, called = _released()
    before = [tensor.grad.tolist() for tensor in leaves]
    with pytest.raises(RuntimeError, match=r"released by an earlier walk \(at 'exp'\): pass retain_graph=True"):
        AGAIN[name](leaves, partly, whole)
    assert called == []
    assert [tensor.grad.tolist() for tensor in leaves] == before
    assert mt.grad(whole, leaves[1])[0].tolist() == [10.0, 14.0]


def test_a_walk_that_failed_is_told_from_one_that_ended() -> None:
    """A rule that raises leaves every gradient alone; what the walk had passed is released, and the next walk says so."""

    def fail(_g: object, _y: object, _x: object) -> object:
        raise ZeroDivisionError

    x = leaf(1.0)
    y = np.exp(Primitive(np.positive, fail)(x))
    with pytest.raises(ZeroDivisionError):
        y.backward()
    with pytest.raises(GraphError, match=r"released by an earlier walk \(at 'exp'\)"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize("make", [lambda x: x * 2, lambda x: x.reshape(2, 1), lambda x: np.stack([x, x])])
def test_the_shape_of_several_elements_is_named(make: Callable[[mt.Tensor], mt.Tensor]) -> None:
    x = leaf(1.0, 2.0)
    y = make(x)
    for walk in (lambda: y.backward(), lambda: mt.grad(y, x), lambda: mt.grad([x.sum(), y], x, [None, None])):
        with pytest.raises(GraphError, match=re.escape(f"shape {y.shape}, so a cotangent of that shape is needed")):
            walk()
    assert x.grad is None
    empty = mt.zeros(0, requires_grad=True) * 2
    with pytest.raises(GraphError, match=r"shape \(0,\)"):
        empty.backward()


@pytest.mark.parametrize("outputs", [3.0, None, "y", np.ones(2), [3.0], [None], [np.ones(2)]], ids=repr)
def test_grad_of_what_is_no_tensor_is_named(outputs: Any) -> None:
    with pytest.raises((TypeError, RuntimeError), match=r"(grad|backward): .*(float|NoneType|str)"):
        mt.grad(outputs, leaf(1.0))


@pytest.mark.parametrize("inputs", [3.0, None, "x", np.ones(2), [3.0], [None], [np.ones(2)]], ids=repr)
def test_grad_by_what_is_no_tensor_is_named(inputs: Any) -> None:
    with pytest.raises((TypeError, RuntimeError), match=r"grad: .*(float|NoneType|str)"):
        mt.grad(leaf(1.0) * 2, inputs)


COTANGENTS: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (np.ones((2, 1)), ShapeError, r"the output has shape \(2,\), the cotangent \(2, 1\)"),
    "a number": (1.0, ShapeError, r"the cotangent \(\)"),
    "text": ("ab", DTypeError, "numbers are needed"),
    "complex array": (np.array([1j, 2]), DTypeError, "complex128"),
    "complex Tensor": (mt.tensor([1j, 2]), DTypeError, "complex128"),
}


@pytest.mark.parametrize("name", COTANGENTS)
def test_a_cotangent_that_does_not_fit(name: str) -> None:
    u, error, told = COTANGENTS[name]
    x = leaf(1.0, 2.0)
    y = x * x
    for walk in (lambda: y.backward(u), lambda: mt.grad(y, x, [u]), lambda: mt.grad(y, x, [u], create_graph=True)):
        with pytest.raises(error, match=told):
            walk()
    assert x.grad is None
    y.sum().backward()  # and nothing was released
    assert x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("u", [[1, 10], np.array([True, True]), np.array([1, 10], np.int8), mt.tensor([1.0, 10.0], np.float16)], ids=repr)
def test_a_cotangent_of_another_real_dtype_is_cast(u: Any) -> None:
    x = leaf(1.0, 2.0, dtype=np.float32)
    (x * 1).backward(u)
    assert (x.grad.dtype, x.grad.tolist()) == (np.float32, np.asarray(u, np.float32).tolist())


def test_cotangents_on_another_device(cupy: Any) -> None:
    here, there = leaf(1.0), mt.ones(1, device="cuda", requires_grad=True)
    for y, x, u in ((here * 2, here, mt.ones(1, device="cuda")), (there * 2, there, mt.ones(1))):
        with pytest.raises(DeviceError, match=r"the cotangent on .*use \.to\("):
            mt.grad(y, x, u)
    with pytest.raises(DeviceError, match="different devices"):
        np.where(mt.tensor([True]), here, there)
    with pytest.raises(DeviceError, match="different devices"):
        here @ there


IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "+=": lambda t, v: t.__iadd__(v),
    "-=": lambda t, v: t.__isub__(v),
    "*=": lambda t, v: t.__imul__(v),
    "/=": lambda t, v: t.__itruediv__(v),
}
EXPECTED = {"+=": [4.0, 6.0], "-=": [0.0, 2.0], "*=": [4.0, 8.0], "/=": [1.0, 2.0]}


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_operators_on_a_leaf(sign: str) -> None:
    """Recorded: a new Tensor, and the leaf keeps its values. Under no_grad: the leaf itself gets new values, and graphs keep the old."""
    w = leaf(2.0, 4.0)
    recorded = w * w
    new = IN_PLACE[sign](w, 2.0)
    assert new is not w
    assert (w.tolist(), w.is_leaf, new.tolist(), new.is_leaf) == ([2.0, 4.0], True, EXPECTED[sign], False)
    with mt.no_grad():
        assert IN_PLACE[sign](w, 2.0) is w
    assert (w.tolist(), w.is_leaf, w.requires_grad, w.dtype) == (EXPECTED[sign], True, True, np.float64)
    assert mt.grad(recorded, w, np.ones(2))[0].tolist() == [4.0, 8.0]


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_operators_under_no_grad_keep_shape_and_dtype(sign: str) -> None:
    w = leaf(2.0, 4.0, dtype=np.float16)
    with mt.no_grad():
        IN_PLACE[sign](w, np.array([2.0, 2.0]))
        assert (w.dtype, w.tolist()) == (np.float16, EXPECTED[sign])
        with pytest.raises(ShapeError, match=r"shape \(2,\), the new values \(3, 2\)"):
            IN_PLACE[sign](w, np.ones((3, 2)))
    assert w.tolist() == EXPECTED[sign]


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_operators_on_integers_on_results_and_from_arrays(sign: str) -> None:
    if sign != "/=":
        number = mt.tensor([2, 4])
        assert IN_PLACE[sign](number, 2).dtype == np.int64
    inner = leaf(2.0, 4.0) * 1
    with mt.no_grad():
        assert IN_PLACE[sign](inner, 2.0) is not inner
    assert inner.tolist() == [2.0, 4.0]
    buffer = np.array([2.0, 4.0])
    with pytest.raises((UnsupportedError, TypeError)):  # NumPy would write into the array and forget the graph
        IN_PLACE[sign](buffer, leaf(1.0, 2.0))
    assert buffer.tolist() == [2.0, 4.0]


def _assign(index: Any, values: Any, grad: bool = False, integers: bool = False) -> Callable[[], None]:
    def write() -> None:
        t = mt.tensor([1, 2, 3], np.int64 if integers else np.float32, requires_grad=grad)
        with mt.no_grad():
            t[index] = values

    return write


ASSIGNMENTS: dict[str, tuple[Callable[[], None], type[Exception], str]] = {
    "a shape that does not fit": (_assign(slice(None), [1.0, 2.0]), ValueError, "shape"),
    "an index out of range": (_assign(7, 1.0), IndexError, "out of bounds"),
    "text": (_assign(0, "seven"), ValueError, "float"),
    "a complex number": (_assign(0, 1j), TypeError, "complex"),
    "a floating index": (_assign(0.5, 1.0), IndexError, "integers"),
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_assignments_that_do_not_fit(name: str) -> None:
    write, error, told = ASSIGNMENTS[name]
    with pytest.raises(error, match=told):
        write()


def test_a_failed_assignment_changes_nothing() -> None:
    t = leaf(1.0, 2.0)
    with mt.no_grad(), pytest.raises(ValueError, match="broadcast"):
        t[:] = [1.0, 2.0, 3.0]
    assert t.tolist() == [1.0, 2.0]


NUMBERS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "iteration over 0-d": (lambda: list(mt.tensor(1.0)), TypeError, "0-d"),
    "unpacking 0-d": (lambda: (lambda *args: args)(*mt.tensor(1.0)), TypeError, "0-d"),
    "in 0-d": (lambda: len(mt.tensor(1.0)), TypeError, "0-d"),
    "bool of several": (lambda: not mt.ones(2), ValueError, "ambiguous"),
    "and of several": (lambda: mt.ones(2) and True, ValueError, "ambiguous"),
    "bool of a comparison": (lambda: 1 if mt.ones(2) == mt.ones(2) else 0, ValueError, "ambiguous"),
    "float of several": (lambda: float(leaf(1.0, 2.0)), ShapeError, r"shape \(2,\)"),
    "int of several": (lambda: int(mt.ones((2, 2))), ShapeError, r"shape \(2, 2\)"),
    "float of none": (lambda: float(mt.ones(0)), ShapeError, r"shape \(0,\)"),
    "index of several": (lambda: [1, 2][mt.tensor([0, 1])], ShapeError, r"shape \(2,\)"),
    "asarray": (lambda: np.asarray(leaf(1.0)), UnsupportedError, r"detach\(\)"),
    "array": (lambda: np.array([leaf(1.0)]), UnsupportedError, r"detach\(\)"),
    "asarray of a result": (lambda: np.asarray(leaf(1.0) * 2, np.float32), UnsupportedError, r"detach\(\)"),
    "numpy()": (lambda: leaf(1.0).numpy(), UnsupportedError, r"detach\(\)"),
    "a list of them": (lambda: mt.tensor([leaf(1.0)]), UnsupportedError, r"detach\(\)"),
    "dim": (lambda: leaf(1.0).sum(dim=0), UnsupportedError, "axis="),
    "keepdim": (lambda: leaf(1.0).mean(axis=0, keepdim=True), UnsupportedError, "keepdims="),
    "dim of a function": (lambda: np.concatenate([leaf(1.0)], dim=0), TypeError, "dim"),
    "where": (lambda: np.sum(leaf(1.0), where=[True]), UnsupportedError, "where=.*axis=, keepdims="),
    "out": (lambda: np.exp(leaf(1.0), out=np.ones(1)), UnsupportedError, "out="),
    "dtype": (lambda: np.add(leaf(1.0), 1.0, dtype=np.float64), UnsupportedError, "dtype="),
    "einsum without operands": (lambda: mt.einsum("i->i"), Exception, "einsum"),
    "requires_grad of an index": (lambda: setattr(mt.arange(3), "requires_grad", True), DTypeError, "int64"),
    "requires_grad of a comparison": (lambda: setattr(leaf(1.0) > 0, "requires_grad", True), DTypeError, "bool"),
    "requires_grad of complex": (lambda: mt.tensor([1j], requires_grad=True), DTypeError, "complex128"),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_misuse_is_named(name: str) -> None:
    use, error, told = NUMBERS[name]
    with pytest.raises(error, match=told):
        use()


def test_a_rule_of_none_is_no_gradient() -> None:
    """For one input as for several."""
    steps = mt.primitive(lambda x: np.round(x), None)
    x = leaf(1.4)
    for create_graph in (False, True):
        assert mt.grad(steps(x) * x, x, create_graph=create_graph)[0].tolist() == [1.0]
    assert mt.grad(steps(x), x, allow_unused=True) == (None,)


# -- mutation: what is written between forward and backward ------------------------------------------------------------------------------


def private(value: Any, owned: list[Any]) -> Any:
    """A copy down to the last list and array, also of what a function has captured; what can be written into is noted in ``owned``."""
    if isinstance(value, np.ndarray):
        owned.append(value.copy())
    elif isinstance(value, list):
        owned.append([private(each, owned) for each in value])
    elif isinstance(value, dict):
        owned.append({key: private(each, owned) for key, each in value.items()})
    elif isinstance(value, tuple) and type(value) is tuple:
        return tuple(private(each, owned) for each in value)
    elif isinstance(value, FunctionType) and value.__module__.startswith("cases"):
        cells = tuple(CellType(private(cell.cell_contents, owned)) for cell in value.__closure__ or ())
        copied = FunctionType(value.__code__, value.__globals__, value.__name__, private(value.__defaults__, owned), cells)
        copied.__kwdefaults__ = value.__kwdefaults__
        return copied
    else:
        return value
    return owned[-1]


def scribble(value: Any) -> None:
    """Other numbers in place, of the same kind."""
    if isinstance(value, np.ndarray):
        value[...] = ~value if value.dtype.kind == "b" else value * 0 + (1 - (value == 1))
    elif isinstance(value, list):
        value[:] = [1 - each if isinstance(each, int) else each for each in value]
        value.reverse()
    elif isinstance(value, dict):
        for key, each in value.items():
            value[key] = 1 - each if isinstance(each, int) else each


def write(t: mt.Tensor) -> None:
    """New values by both of the ways that there are."""
    t.data = np.zeros(t.shape)
    with mt.no_grad():
        t[...] = 7


def gradients(case: Case, kept: int | None, writing: bool) -> list[Any]:
    """Both walks of the case; ``kept`` is the one leaf, with arrays for all others (None: every input is a Tensor)."""
    owned: list[Any] = []
    call = private(case.call, owned)
    arrays = [x.copy() for x in case.inputs]
    given = [mt.tensor(x, requires_grad=x.dtype.kind == "f") if kept in (None, i) else x for i, x in enumerate(arrays)]
    y = call(*given)
    leaves = [t for t in given if isinstance(t, mt.Tensor) and t.requires_grad]
    if writing:
        for value in [*arrays, *owned]:
            scribble(value)
        for t in given:
            if isinstance(t, mt.Tensor):
                write(t)
    u = np.random.default_rng(3).standard_normal(y.shape)
    traced = mt.grad(y, leaves, u, create_graph=True)
    total = [np.sum(g * g) for g in traced if g.requires_grad]
    second = mt.grad(total, leaves, retain_graph=True, allow_unused=True) if total else ()
    raw = mt.grad(y, leaves, u)
    if writing:
        scribble(u)
    return [None if g is None else g.tolist() for g in (*raw, *traced, *second)]


def check_mutation(case: Case) -> None:
    floating = [i for i, x in enumerate(case.inputs) if x.dtype.kind == "f"]
    alone = [] if "integers . x" in case.name or len(case.inputs) < 2 else floating  # ndarray.dot asks no other class
    for kept in [None, *alone]:
        assert gradients(case, kept, writing=True) == gradients(case, kept, writing=False)


@each_case
def test_writing_between_forward_and_backward_changes_no_gradient(case: Case) -> None:
    """Into the arrays that the user passed, into what they gave as parameters, and into Tensors."""
    check_mutation(case)


def _same(value: Any) -> Any:
    return tuple(map(_same, value)) if isinstance(value, tuple) else value._array if isinstance(value, mt.Tensor) else value


FORGETFUL = {
    "arrays are not copied": ("_keep", lambda _user, value, _edge, _read: value),
    "parameters are not copied": ("_own", _same),
}


@pytest.mark.parametrize("name", FORGETFUL)
def test_an_engine_that_keeps_what_is_the_users_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, forgetful = FORGETFUL[name]
    monkeypatch.setattr(core, function, forgetful)

    def found(case: Case) -> bool:
        try:
            check_mutation(case)
        except (AssertionError, ValueError, IndexError):
            return True
        return False

    assert any(found(case) for case in CASES)


def _later(give: Callable[[mt.Tensor, Any], mt.Tensor], value: Any, change: Callable[[Any], Any]) -> Callable[[], tuple[Any, Any]]:
    """The gradient with and without a change between forward and backward."""

    def run() -> tuple[Any, Any]:
        found = []
        for changed in (False, True):
            owned: list[Any] = []
            x = mt.tensor(np.arange(1.0, 13.0).reshape(3, 4), requires_grad=True)
            mine = mt.tensor(value.data) if isinstance(value, mt.Tensor) else private(value, owned)
            mine = array.array("d", value) if isinstance(value, array.array) else mine
            y = give(x, mine)
            if changed:
                change(mine)
            found.append(mt.grad(y, x, np.arange(float(y.size)).reshape(y.shape))[0].tolist())
        return found[0], found[1]

    return run


def _set(index: Any, value: Any) -> Callable[[Any], None]:
    return lambda target: target.__setitem__(index, value)


def _reshaped(target: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer NumPys would rather not
        target.shape = target.shape[::-1]


WRITTEN: dict[str, Callable[[], tuple[Any, Any]]] = {
    "list of places": _later(lambda x, i: x[i], [0, 0, 2], _set(0, 1)),
    "nested list of places": _later(lambda x, i: x[i], [[0, 1], [2, 2]], lambda i: _set(0, 2)(i[0])),
    "list in a tuple": _later(lambda x, i: x[i, 1:], [0, 2], _set(0, 1)),
    "array of places": _later(lambda x, i: x[:, i], np.array([3, 0]), _set(0, 1)),
    "Tensor of places": _later(lambda x, i: x[i], mt.tensor([2, 0]), _set(0, 1)),
    "mask": _later(lambda x, m: x[m], np.array([True, False, True]), _set(slice(None), [True, True, False])),
    "0-d array": _later(lambda x, i: x[i], np.array(2), _set((), 0)),
    "0-d array in a slice": _later(lambda x, i: x[i : i + 2], np.array(0), _set((), 1)),
    "0-d Tensor in a slice": _later(lambda x, i: x[i:], mt.tensor(2), lambda i: setattr(i, "data", 1)),
    "stop of a slice": _later(lambda x, i: x[:, :i], np.array(2), _set((), 3)),
    "step of a slice": _later(lambda x, i: x[:, :: (i, i)[0]], np.array(2), _set((), 3)),
    "take": _later(lambda x, i: np.take(x, i, axis=1), [0, 0, 3], _set(0, 1)),
    "take, by name": _later(lambda x, i: x.take(indices=i), np.array([0, 0, 3]), _set(0, 1)),
    "take, a Tensor": _later(lambda x, i: x.take(i), mt.tensor([0, 0, 3]), _set(0, 1)),
    "take_along_axis": _later(lambda x, i: np.take_along_axis(x, i, 1), np.array([[0], [1], [2]]), _set((0, 0), 3)),
    "reshape": _later(lambda x, shape: np.reshape(x, shape), [2, 6], _set(0, 3)),
    "reshape, a method": _later(lambda x, shape: x.reshape(shape), [2, 6], _set(0, 3)),
    "transpose": _later(lambda x, axes: np.transpose(x, axes), [1, 0], lambda axes: axes.reverse()),
    "moveaxis": _later(lambda x, axes: np.moveaxis(x, axes, [1, 0]), [0, 1], lambda axes: axes.reverse()),
    "sum over axes in an array": _later(lambda x, axes: x.sum(axis=tuple(axes)), [0], _set(0, 1)),
    "expand_dims": _later(lambda x, axes: np.expand_dims(x, tuple(axes)), [0, 3], _set(0, 1)),
    "flip": _later(lambda x, axes: np.flip(x, tuple(axes)), [0], _set(0, 1)),
    "broadcast_to": _later(lambda x, shape: np.broadcast_to(x, shape), [2, 3, 4], _set(0, 7)),
    "pad, a list": _later(lambda x, width: np.pad(x, width), [[1, 2], [0, 1]], lambda width: _set(0, 2)(width[0])),
    "pad, an array": _later(lambda x, width: np.pad(x, width), np.array([[1, 2], [0, 1]]), _set((0, 0), 2)),
    "pad, a dictionary": _later(lambda x, width: np.pad(x, width), {0: (1, 2)}, _set(0, (2, 1))),
    "split": _later(lambda x, cuts: np.split(x, cuts, axis=1)[1], [1, 3], _set(0, 0)),
    "tensordot": _later(lambda x, axes: np.tensordot(x, np.eye(4), axes), [[1], [0]], lambda axes: axes.reverse()),
    "tensordot, inner lists": _later(lambda x, axes: np.tensordot(x, np.ones((3, 4)), axes), [[0, 1], [0, 1]], lambda a: _set(0, 1)(a[0])),
    "einsum, lists of axes": _later(lambda x, axes: np.einsum(x, axes, [1, 0]), [0, 1], lambda axes: axes.reverse()),
    "einsum, a path": _later(
        lambda x, path: np.einsum("ij,jk,k->i", x, np.eye(4), np.arange(4.0), optimize=path), ["einsum_path", (0, 1), (0, 1)], _set(0, "x")
    ),
    "norm": _later(lambda x, axes: np.linalg.norm(x, axis=tuple(axes)), [0], _set(0, 1)),
    "where": _later(lambda x, m: np.where(m, x, 2 * x), np.array([True, False, True, False]), _set(slice(None), False)),
    "clip": _later(lambda x, lo: np.clip(x, lo, 9.0), np.array([2.5, 2.5, 2.5, 2.5]), _set(slice(None), 99.0)),
    "list of factors": _later(lambda x, a: x * a, [1.0, 2.0, 3.0, 4.0], _set(0, 9.0)),
    "array of factors": _later(lambda x, a: a * x, np.array([1.0, 2.0, 3.0, 4.0]), _set(0, 9.0)),
    "array.array of factors": _later(lambda x, a: x * a, array.array("d", [1.0, 2.0, 3.0, 4.0]), _set(0, 9.0)),
    "a part of an array": _later(lambda x, a: x * a[::2], np.arange(8.0), _set(slice(None), 9.0)),
    "exponents": _later(lambda x, a: x**a, np.array([1, 2, 3, 0]), _set(slice(None), 1)),
    "matrix": _later(lambda x, a: x @ a, np.eye(4), _set((0, 0), 9.0)),
    "operands of einsum": _later(lambda x, a: np.einsum("ij,j", x, a), np.arange(4.0), _set(slice(None), 9.0)),
    "parts of concatenate": _later(lambda x, a: np.concatenate([a, x]), np.ones((2, 4)), _set(slice(None), 9.0)),
    "the list of concatenate": _later(lambda x, parts: np.concatenate([x, *parts]), [np.ones((2, 4))], lambda parts: parts.clear()),
    "the shape of a part": _later(lambda x, a: np.concatenate([a, x]), np.ones((2, 4)), _reshaped),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_parameters_may_be_written_into(name: str) -> None:
    before, after = WRITTEN[name]()
    assert before == after


# -- no recursion ------------------------------------------------------------------------------------------------------------------------


def test_a_chain_of_a_million_additions() -> None:
    """Forward, backward, and being freed."""
    x = mt.tensor(1.0, np.float64, requires_grad=True)
    y = x
    for _ in range(1_000_000):
        y = y + 1.0
    y.backward()
    assert (y.item(), x.grad.item()) == (1_000_001.0, 1.0)
    del y


def test_a_chain_of_20000_additions_whose_gradient_is_differentiated() -> None:
    x = mt.tensor(3.0, np.float64, requires_grad=True)
    y = x * x
    for _ in range(20_000):
        y = y + x
    (g,) = mt.grad(y, x, create_graph=True)
    assert g.item() == 6.0 + 20_000
    assert mt.grad(g, x)[0].item() == 2.0


@both_walks
def test_60_doublings(create_graph: bool) -> None:
    """2**60 paths, 60 nodes; the traced gradient is a graph of as many."""
    x = mt.tensor(1.0, np.float64, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    (g,) = mt.grad(y * y, x, create_graph=create_graph)
    assert g.item() == 2.0**121
    if create_graph:
        assert mt.grad(g, x)[0].item() == 2.0**121


class Negative(Function):
    """One step of a chain of operations by hand, which keeps its input."""

    @staticmethod
    def forward(ctx: Any, x: mt.Tensor) -> mt.Tensor:
        ctx.save_for_backward(x)
        return -x

    @staticmethod
    def backward(ctx: Any, g: mt.Tensor) -> mt.Tensor:
        return -g


class Twins(Function):
    """One step with two outputs."""

    @staticmethod
    def forward(ctx: Any, x: mt.Tensor) -> Any:
        return x * 1, -x

    @staticmethod
    def backward(ctx: Any, g: mt.Tensor, h: mt.Tensor) -> mt.Tensor:
        return g - h


def _hooked(y: mt.Tensor) -> mt.Tensor:
    y.register_hook(lambda g: g)
    y.retain_grad()
    return -y


STEPS: dict[str, Callable[[mt.Tensor], mt.Tensor]] = {
    "one input, output kept": np.tanh,
    "two inputs, both kept": lambda y: y * y,
    "three inputs": lambda y: np.where(True, y, y),
    "a list of inputs": lambda y: np.concatenate([y, y])[:1],
    "parameters": lambda y: y.reshape(1),
    "Function": Negative.apply,
    "Function with two outputs": lambda y: Twins.apply(y)[1],
    "hooks": _hooked,
}


@pytest.mark.parametrize("name", STEPS)
def test_deep_graphs_are_freed_without_recursion(name: str) -> None:
    """Walked or not: 20,000 steps of every kind of node."""
    for walked in (False, True):
        x = mt.tensor([0.0], np.float64, requires_grad=True)
        y = x
        for _ in range(20_000):
            y = STEPS[name](y)
        if walked:
            y.sum().backward()
            assert np.isfinite(x.grad.numpy()).all()
        del y


def test_a_deep_gradient_is_freed_without_recursion() -> None:
    x = mt.tensor(0.5, np.float64, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = np.tanh(y)
    y.backward(create_graph=True)
    del y
    x.grad = None


# -- no reference cycles -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def without_collector() -> Iterator[None]:
    """All that is there is set aside, and nothing is collected: what `leaked` finds was made since and is held by a cycle."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def leaked(use: Callable[[], Any]) -> int:
    """How many objects ``use`` leaves behind that only the cycle collector can free."""
    gc.collect()
    use()
    return gc.collect()


def _forward(case: Case) -> tuple[mt.Tensor, list[mt.Tensor]]:
    tensors = [mt.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.inputs]
    return case.call(*tensors), [t for t in tensors if t.requires_grad]


def _with_hooks(case: Case) -> None:
    y, leaves = _forward(case)
    handles = [t.register_hook(lambda g: g * 1) for t in (y, *leaves)]
    y.retain_grad()
    y.backward(mt.ones_like(y))
    handles[0].remove()


def _second_order(case: Case) -> None:
    y, leaves = _forward(case)
    found = mt.grad(y, leaves, mt.ones_like(y), create_graph=True)
    total = [np.sum(g * g) for g in found if g.requires_grad]
    if total:
        mt.grad(total, leaves, create_graph=True, allow_unused=True)


def _failing(case: Case) -> None:
    """An error of the call itself, one of the walk, and one of a hook on the way."""
    y, leaves = _forward(case)

    def fail(_g: mt.Tensor) -> None:
        raise ZeroDivisionError

    leaves[0].register_hook(fail)
    for attempt in (
        lambda: case.primitive(*leaves, nonsense=1),
        lambda: np.concatenate([y.reshape(-1), mt.ones((2, 2))]),
        lambda: y.backward(mt.ones((2, 3, 4, 5))),
        lambda: y.backward(mt.ones_like(y)),
        lambda: mt.grad(y, mt.ones(2)),
    ):
        try:
            attempt()
        except (ValueError, TypeError, RuntimeError, ZeroDivisionError):
            continue


LIVES: dict[str, Callable[[Case], Any]] = {
    "recorded only": _forward,
    "walked": lambda case: (made := _forward(case))[0].backward(mt.ones_like(made[0])),
    "hooks and retain_grad": _with_hooks,
    "grad with create_graph": _second_order,
    "errors": _failing,
}


@each_case
def test_reference_counting_frees_everything(case: Case, without_collector: None) -> None:
    for name, life in LIVES.items():
        life(case)  # what is made once and for all is there
        assert leaked(lambda life=life: life(case)) == 0, name


def test_a_cycle_is_found(without_collector: None) -> None:
    def cycle() -> None:
        x = leaf(1.0)
        x.register_hook(lambda g: g * x)  # the user's own: x holds the hook, which holds x

    assert leaked(cycle) > 0


def test_functions_by_hand_and_joint_rules_are_freed(without_collector: None) -> None:
    ratio = JointPrimitive(np.divide, lambda g, y, a, b: (g / b, -g * y / b), arity=2)

    def use() -> None:
        x, w = leaf(2.0), leaf(3.0)
        left, right = Twins.apply(w)
        y = ratio(Negative.apply(x), left - 2 * right)
        (g,) = mt.grad(y, x, create_graph=True)
        refs = [weakref.ref(t) for t in (x, w, y, g)]
        g.sum().backward()
        del x, w, y, g, left, right
        assert [ref() for ref in refs] == [None] * 4

    use()
    assert leaked(use) == 0


def test_gradients_with_a_graph_keep_no_leaf_alive(without_collector: None) -> None:
    """x.grad has a graph that ends in x, by a weak reference."""

    def use() -> None:
        x = leaf(2.0)
        h = x * x
        h.retain_grad()
        (h * h).backward(create_graph=True)
        refs = [weakref.ref(t) for t in (x, h, x.grad, h.grad)]
        del x, h
        assert [ref() for ref in refs] == [None] * 4

    use()
    assert leaked(use) == 0
