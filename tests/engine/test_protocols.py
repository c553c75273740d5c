"""NumPy's protocols: NumPy functions on Tensors record themselves, or say that they cannot, when they are called."""

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import UnsupportedError
from minitensor.primitive import Primitive
from minitensor.tensor import DISPATCH

X = np.array([[0.5, 1.5, 2.5], [3.5, 0.25, 1.25]])
M = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])

RECORDED = {
    "exp": lambda x: np.exp(x),
    "add array left": lambda x: np.ones(3) + x,
    "number on the left": lambda x: np.float64(2) / x,
    "maximum": lambda x: np.maximum(x, 1.0),
    "sum": lambda x: np.sum(x, axis=1),
    "sum positional": lambda x: np.sum(x, 1),
    "sum, no out": lambda x: np.sum(x, axis=0, out=None),
    "mean": lambda x: np.mean(x, axis=(0, 1), keepdims=True),
    "var": lambda x: np.var(x, axis=0, ddof=1),
    "max": lambda x: np.max(x, 0),
    "where": lambda x: np.where(X > 1, x, 0.0),
    "matmul": lambda x: np.matmul(x, M),
    "array @ Tensor": lambda x: M @ x,
    "Tensor @ array": lambda x: x @ M,
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "transpose": lambda x: np.transpose(x),
    "transpose axes": lambda x: np.transpose(x, (1, 0)),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 2, 3)),
    "concatenate": lambda x: np.concatenate([x, X], axis=1),
    "concatenate an array first": lambda x: np.concatenate((X, x)),
    "amax": lambda x: np.amax(x, axis=0),
    "std": lambda x: np.std(x, axis=0, ddof=1),
    "prod": lambda x: np.prod(x, axis=1),
    "cumsum": lambda x: np.cumsum(x, 1),
    "clip": lambda x: np.clip(x, 0.5, 2.0),
    "clip by name": lambda x: np.clip(x, a_min=0.5, a_max=None),
    "abs": lambda x: np.abs(x),
    "around": lambda x: np.around(x, 1),
    "round": lambda x: np.round(x),
    "copy": lambda x: np.copy(x),
    "concat": lambda x: np.concat([x, x]),
    "permute_dims": lambda x: np.permute_dims(x, (1, 0)),
    "pow": lambda x: np.pow(x, 2),
    "stack": lambda x: np.stack([X, x], axis=-1),
    "split": lambda x: np.split(x, 3, axis=1)[2],
    "pad": lambda x: np.pad(x, (1, 2), "constant", constant_values=3.0),
    "reshape, order": lambda x: np.reshape(x, (3, 2), order="C"),
    "ravel, order": lambda x: np.ravel(x, order="C"),
    "sort": lambda x: np.sort(x, 0),
    "sort, kind": lambda x: np.sort(x, kind="mergesort"),
    "take": lambda x: np.take(x, [2, 0, 0], 1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[0], [2]]), axis=1),
    "trace": lambda x: np.trace(x, 1),
    "diagonal": lambda x: np.diagonal(x, -1),
    "tril": lambda x: np.tril(x, -1),
    "dot": lambda x: np.dot(M, x),
    "inner": lambda x: np.inner(x, X),
    "outer": lambda x: np.outer(x, M),
    "tensordot": lambda x: np.tensordot(x, M, 1),
    "einsum": lambda x: np.einsum("ij,jk->k", x, M),
    "einsum, interleaved": lambda x: np.einsum(X, [0, 1], x, [0, 1], [1]),
    "einsum, out=None": lambda x: np.einsum("ij->j", x, out=None),
    "norm": lambda x: np.linalg.norm(x, axis=1),
    "norm inf": lambda x: np.linalg.norm(x, np.inf),
    "norm of rows": lambda x: np.linalg.norm(x, 3, 1, True),
}


@pytest.mark.parametrize("call", RECORDED.values(), ids=RECORDED)
def test_numpy_functions_record_themselves(call) -> None:
    x = mt.tensor(X, requires_grad=True)
    y = call(x)
    assert isinstance(y, mt.Tensor)
    assert y.requires_grad
    np.testing.assert_array_equal(y.detach().numpy(), call(X))


METHODS = {
    "sum": lambda x: x.sum(axis=0, keepdims=True),
    "mean": lambda x: x.mean(1),
    "var": lambda x: x.var(axis=1),
    "max": lambda x: x.max(axis=0),
    "min": lambda x: x.min(),
    "argmax": lambda x: x.argmax(axis=1),
    "argmax keepdims": lambda x: x.argmax(0, keepdims=True),
    "argmin": lambda x: x.argmin(),
    "argsort": lambda x: x.argsort(axis=0),
    "any": lambda x: (x > 2).any(axis=0),
    "all": lambda x: (x > 0).all(axis=1, keepdims=True),
    "std": lambda x: x.std(0, ddof=1),
    "prod": lambda x: x.prod(axis=1, keepdims=True),
    "cumsum": lambda x: x.cumsum(axis=1),
    "cumsum flat": lambda x: x.cumsum(),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(),
    "squeeze": lambda x: x[:1].squeeze(),
    "squeeze axis": lambda x: x[:, :1].squeeze(axis=1),
    "diagonal": lambda x: x.diagonal(1),
    "trace": lambda x: x.trace(),
    "take": lambda x: x.take([0, 5, 5]),
    "take axis": lambda x: x.take([[0, 1]], axis=1),
    "clip": lambda x: x.clip(0.5, 2),
    "clip max": lambda x: x.clip(max=2),
    "dot": lambda x: x.dot(M),
    "copy": lambda x: x.copy(),
    "reshape": lambda x: x.reshape(3, 2),
    "reshape tuple": lambda x: x.reshape((3, -1)),
    "reshape number": lambda x: x.reshape(-1),
    "transpose": lambda x: x.transpose(),
    "transpose axes": lambda x: x.transpose(1, 0),
    "transpose tuple": lambda x: x.transpose((1, 0)),
    "T": lambda x: x.T,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "astype": lambda x: x.astype(np.float32),
    "getitem": lambda x: x[0, 1:],
    "neg": lambda x: -x,
    "pos": lambda x: +x,
    "abs": lambda x: abs(x),
    "matmul": lambda x: x @ x.T,
    "and": lambda x: (x > 1) & (x < 3),
    "or": lambda x: (x > 3) | (x < 1),
    "invert": lambda x: ~(x > 1),
}


@pytest.mark.parametrize("call", METHODS.values(), ids=METHODS)
def test_methods_give_what_numpys_give(call) -> None:
    found, expected = call(mt.tensor(X)), call(X)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("call", [*METHODS.values(), *RECORDED.values()])
def test_under_no_grad_nothing_is_recorded(call) -> None:
    with mt.no_grad():
        assert not call(mt.tensor(X, requires_grad=True)).requires_grad


ARRAYS = {
    "exp": lambda: (mt.exp(X), np.exp(X)),
    "sum": lambda: (mt.sum(X, axis=1, keepdims=True), np.sum(X, axis=1, keepdims=True)),
    "add": lambda: (mt.add(X, 1), X + 1),
    "matmul": lambda: (mt.matmul(X, M), X @ M),
    "reshape": lambda: (mt.reshape(X, (3, 2)), X.reshape(3, 2)),
    "getitem": lambda: (mt.getitem(X, (0, slice(1, None))), X[0, 1:]),
    "concatenate": lambda: (mt.concatenate([X, X], axis=1), np.concatenate([X, X], axis=1)),
    "where": lambda: (mt.where(X > 1, X, 0), np.where(X > 1, X, 0)),
    "astype": lambda: (mt.astype(X, np.float32), X.astype(np.float32)),
    "list": lambda: (mt.exp([0.0, 1.0]), np.exp([0.0, 1.0])),
}


@pytest.mark.parametrize("call", ARRAYS.values(), ids=ARRAYS)
def test_arrays_in_array_out(call) -> None:
    found, expected = call()
    assert type(found) is np.ndarray
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_every_name_of_ops_is_the_packages_name_for_a_numpy_function() -> None:
    for name in mt.ops.__all__:
        assert getattr(mt, name) is getattr(mt.ops, name)
        if name == "linalg":
            assert DISPATCH[np.linalg.norm] is mt.linalg.norm
        elif hasattr(np, name):
            assert DISPATCH[getattr(np, name)] is getattr(mt, name)


WITHOUT_RULE = {
    "numpy.linalg.pinv": lambda x: np.linalg.pinv(x),
    "numpy.fft.fft": lambda x: np.fft.fft(x),
    "numpy.nextafter": lambda x: np.nextafter(x, x),
    "numpy.bincount": lambda x: np.bincount(x),
    "numpy.heaviside": lambda x: np.heaviside(x, 0.0),
    "numpy.fmod": lambda x: np.fmod(x, 2.0),
}


@pytest.mark.parametrize("name", WITHOUT_RULE)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_function_without_a_rule_is_named(name: str, requires_grad: bool) -> None:
    with pytest.raises(UnsupportedError, match=f"{name} has no derivative rule") as caught:
        WITHOUT_RULE[name](mt.tensor(X, requires_grad=requires_grad))
    assert isinstance(caught.value, TypeError)


BUFFER = np.zeros((2, 3))
KEYWORDS = {
    "where": lambda x: np.exp(x, where=X > 1),
    "out": lambda x: np.exp(x, out=BUFFER),
    "dtype": lambda x: np.sum(x, dtype=np.float32),
    "casting": lambda x: np.add(x, 1, casting="no"),
    "order": lambda x: np.reshape(x, (3, 2), order="F"),
    "initial": lambda x: np.max(x, axis=0, initial=0.0),
    "correction": lambda x: np.var(x, correction=1),
    "mean": lambda x: np.var(x, mean=1.0),
    "stat_length": lambda x: np.pad(x, 1, mode="mean", stat_length=1),
    "stable": lambda x: np.sort(x, stable=True),
    "subok": lambda x: np.copy(x, subok=True),
}


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_keyword_without_a_rule_is_refused_when_called(keyword: str) -> None:
    with pytest.raises(UnsupportedError, match=f"the keyword {keyword}= has no derivative rule"):
        KEYWORDS[keyword](mt.tensor(X, requires_grad=True))
    assert not BUFFER.any()


def test_the_error_lists_the_keywords_that_have_a_rule() -> None:
    with pytest.raises(UnsupportedError, match=r"^sum: the keyword dtype= has no derivative rule \(it takes axis=, keepdims=\)$"):
        np.sum(mt.tensor(X), dtype=np.float32)
    with pytest.raises(UnsupportedError, match=r"^exp: the keyword where= has no derivative rule \(it takes no keywords\)$"):
        np.exp(mt.tensor(X), where=True)


@pytest.mark.parametrize("write", [lambda x: np.add(X, x, out=BUFFER), lambda x: BUFFER.__iadd__(x), lambda x: np.add(X, 1, out=x)])
def test_nothing_is_written_into_an_array(write) -> None:
    with pytest.raises(TypeError, match="out="):
        write(mt.tensor(X, requires_grad=True))
    assert not BUFFER.any()


@pytest.mark.parametrize(
    "call", [lambda x: x.sum(dim=0), lambda x: x.max(dim=1), lambda x: mt.mean(x, dim=0), lambda x: mt.concatenate([x, x], dim=0)]
)
def test_dim_is_told_that_it_is_axis(call) -> None:
    with pytest.raises(UnsupportedError, match=r"the axis is named axis="):
        call(mt.tensor(X))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: mt.exp(x, 5),
        lambda x: mt.add(x, x, x),
        lambda x: mt.swapaxes(x, 0, 1, 0),
        lambda x: mt.sum(x, 0, axis=0),
        lambda x: mt.getitem(x, 0, 1),
        lambda x: mt.add(x),
    ],
)
def test_too_many_arguments_are_not_dropped_in_silence(call) -> None:
    with pytest.raises(TypeError):
        call(mt.tensor(X))


@pytest.mark.parametrize("method", ["reduce", "accumulate", "outer", "reduceat", "at"])
def test_ufunc_methods_are_refused(method: str) -> None:
    x = mt.tensor(X, requires_grad=True)
    args = {"outer": (x, x), "reduceat": (x, [0]), "at": (x, [0], 1.0)}.get(method, (x,))
    with pytest.raises(UnsupportedError, match=rf"np\.add\.{method} has no derivative rule"):
        getattr(np.add, method)(*args)


@pytest.mark.parametrize(
    "convert", [np.asarray, np.array, np.ascontiguousarray, lambda t: t.numpy(), lambda t: np.random.default_rng(0).permutation(t)]
)
def test_a_tensor_that_requires_grad_does_not_become_an_array(convert) -> None:
    with pytest.raises(UnsupportedError, match=r"would forget its graph: use t\.detach\(\)"):
        convert(mt.tensor(X, requires_grad=True))
    np.testing.assert_array_equal(np.sort(np.ravel(convert(mt.tensor(X)))), np.sort(X.ravel()))


def test_asarray_with_dtype_and_copy() -> None:
    t = mt.tensor(X)
    assert np.asarray(t, np.float32).dtype == np.float32
    assert np.shares_memory(np.asarray(t), t.data)
    copied = np.array(t)
    copied[...] = 0
    assert t.tolist() == X.tolist()


PLAIN = {
    np.shape: lambda x: np.shape(x),
    np.ndim: lambda x: np.ndim(x),
    np.size: lambda x: np.size(x),
    np.result_type: lambda x: np.result_type(x, np.float16),
    np.equal: lambda x: np.equal(x, 1.5),
    np.not_equal: lambda x: x != 1.5,
    np.less: lambda x: x < 1.5,
    np.less_equal: lambda x: np.less_equal(x, 1.5),
    np.greater: lambda x: np.greater(X, x),
    np.greater_equal: lambda x: np.greater_equal(x, X),
    np.bitwise_and: lambda x: np.bitwise_and(x > 1, x < 2),
    np.bitwise_or: lambda x: np.bitwise_or(x > 2, x < 1),
    np.invert: lambda x: np.invert(x > 1),
    np.logical_and: lambda x: np.logical_and(x, x > 1),
    np.logical_or: lambda x: np.logical_or(x > 1, x),
    np.bitwise_xor: lambda x: np.bitwise_xor(x > 1, x > 2),
    np.logical_xor: lambda x: np.logical_xor(x > 1, x > 2),
    np.logical_not: lambda x: np.logical_not(x),
    np.iscomplexobj: lambda x: np.iscomplexobj(x),
    np.isrealobj: lambda x: np.isrealobj(x),
    np.argsort: lambda x: np.argsort(x, axis=0, kind="stable"),
    np.isnan: lambda x: np.isnan(x),
    np.isinf: lambda x: np.isinf(x),
    np.isfinite: lambda x: np.isfinite(x),
    np.isclose: lambda x: np.isclose(x, X + 1e-12),
    np.allclose: lambda x: np.allclose(x, X, atol=1e-3),
    np.array_equal: lambda x: np.array_equal(X, x),
    np.argmax: lambda x: np.argmax(x, axis=1),
    np.argmin: lambda x: np.argmin(x),
    np.any: lambda x: np.any(x > 2, axis=0),
    np.all: lambda x: np.all(x > 0),
    np.count_nonzero: lambda x: np.count_nonzero(x > 1),
    np.zeros_like: lambda x: np.zeros_like(x),
    np.ones_like: lambda x: np.ones_like(x, dtype=np.int8),
    np.full_like: lambda x: np.full_like(x, 3),
    np.empty_like: lambda x: np.empty_like(x) * 0,
}


def test_every_function_without_gradient_is_tried() -> None:
    assert set(PLAIN) == {
        f
        for f, served in DISPATCH.items()
        if getattr(served, "__module__", "") == "minitensor.primitive" and not isinstance(served, Primitive) and hasattr(np, f.__name__)
    }


@pytest.mark.parametrize("function", PLAIN, ids=lambda f: f.__name__)
def test_functions_without_gradient_pass_through(function) -> None:
    """They give what NumPy gives, as a Tensor where NumPy gives an array, and nothing is recorded."""
    found, expected = PLAIN[function](mt.tensor(X, requires_grad=True)), PLAIN[function](X)
    if not isinstance(expected, (np.ndarray, np.generic)):
        assert (type(found), found) == (type(expected), expected)
        return
    assert isinstance(found, mt.Tensor)
    assert not found.requires_grad
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_errors_of_functions_name_operation_shapes_and_dtypes() -> None:
    a, b = mt.ones(2, 3), mt.zeros(4, dtype=np.float64)
    for call, name in ((lambda: a + b, "add"), (lambda: a @ b, "matmul"), (lambda: a == b, "equal"), (lambda: np.maximum(a, b), "maximum")):
        with pytest.raises(mt.errors.ShapeError, match=rf"{name}\(float32 \(2, 3\), float64 \(4,\)\)"):
            call()
    with pytest.raises(mt.errors.ShapeError, match=r"reshape\(float32 \(2, 3\)\).*\(4,\)"):
        a.reshape(4)
    with pytest.raises(mt.errors.ShapeError, match=r"concatenate\(float32 \(2, 3\), float64 \(4,\)\)"):
        np.concatenate([a, b])
    with pytest.raises(IndexError, match=r"getitem\(float32 \(2, 3\)\).*out of bounds"):
        a[5]
    with pytest.raises(ValueError, match=r"sum\(float32 \(2, 3\)\): axis 7"):
        a.sum(axis=7)


def test_a_student_formula_is_already_a_program() -> None:
    """Plain NumPy code, written for arrays, on Tensors."""

    def softmax(x):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    x, u = mt.tensor(X, requires_grad=True), np.array([[1.0, -2.0, 0.5], [0.3, 0.1, 2.0]])
    (g,) = mt.grad(softmax(x), x, u)
    p = softmax(X)
    np.testing.assert_allclose(g.numpy(), p * (u - np.sum(p * u, axis=-1, keepdims=True)), rtol=1e-12)
