"""dtypes: Python numbers are weak, a gradient has its input's dtype, and only floating numbers carry one."""

import operator

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import DTypeError, UnsupportedError

FLOATS = [np.float16, np.float32, np.float64]
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
UNARY = [
    mt.negative, mt.positive, mt.square, mt.sqrt, mt.reciprocal, mt.exp, mt.log, mt.sin, mt.cos, mt.tanh, mt.absolute, mt.sign,
    mt.sum, mt.mean, mt.var, mt.max, mt.min,
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [2, 2.0, True])
@pytest.mark.parametrize("operation", ARITHMETIC)
@pytest.mark.parametrize("shape", [(2,), ()])
def test_python_numbers_are_weak(operation, number, dtype: type, shape: tuple) -> None:
    for traced in (False, True):
        for call in (lambda t: operation(t, number), lambda t: operation(number, t)):
            t = mt.full(shape, 1.5, dtype, requires_grad=True)
            y = call(t)
            (g,) = mt.grad(y, t, [mt.ones_like(y)], create_graph=traced)
            assert y.dtype == g.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("function", UNARY, ids=lambda f: f.name)
def test_functions_of_one_input_keep_its_dtype(function, dtype: type) -> None:
    for traced in (False, True):
        t = mt.tensor([0.5, 1.5], dtype, requires_grad=True)
        y = function(t)
        (g,) = mt.grad(y, t, [mt.ones_like(y)], create_graph=traced)
        assert y.dtype == g.dtype == dtype


@pytest.mark.parametrize("operation", [*ARITHMETIC, np.maximum, operator.matmul])
@pytest.mark.parametrize("a", FLOATS)
@pytest.mark.parametrize("b", FLOATS)
def test_mixed_dtypes_promote_and_gradients_come_back_in_their_own(operation, a: type, b: type) -> None:
    for traced in (False, True):
        ta, tb = mt.tensor([0.5, 1.5], a, requires_grad=True), mt.tensor([2.0, 0.7], b, requires_grad=True)
        y = operation(ta, tb)
        ga, gb = mt.grad(y, [ta, tb], [mt.ones_like(y)], create_graph=traced)
        assert (y.dtype, ga.dtype, gb.dtype) == (np.result_type(a, b), a, b)


@pytest.mark.parametrize(
    "other", [np.float64(2), np.ones(3), np.int64(2), np.arange(1, 4), np.float32(2), [1.0, 2.0, 3.0], (1, 2, 3)], ids=repr
)
@pytest.mark.parametrize("operation", ARITHMETIC)
def test_numpy_numbers_arrays_and_lists_give_tensors_with_gradients(operation, other) -> None:
    """In either order; promotion is NumPy's."""
    t = mt.tensor([0.5, 1.5, 2.5], requires_grad=True)
    for y, plain in (
        (operation(t, other), operation(t.detach().numpy(), other)),
        (operation(other, t), operation(other, t.detach().numpy())),
    ):
        assert isinstance(y, mt.Tensor)
        assert (y.dtype, y.requires_grad) == (plain.dtype, True)
        np.testing.assert_array_equal(y.detach().numpy(), plain)
        (g,) = mt.grad(y, t, np.ones(3), create_graph=True)
        assert (g.dtype, g.shape) == (np.float32, (3,))


def test_lists_among_the_inputs_of_concatenate() -> None:
    t = mt.tensor([1.0, 2.0], requires_grad=True)
    (g,) = mt.grad(np.concatenate([[5.0], t, (6.0, 7.0)]), t, np.arange(5.0))
    assert g.tolist() == [1.0, 2.0]


def test_a_list_of_tensors_is_refused() -> None:
    """NumPy would read their values and forget their graphs."""
    x = mt.ones(2, requires_grad=True)
    for use in (
        lambda: mt.tensor([x, x]),
        lambda: mt.ones(2) * [x, x],
        lambda: np.array([x, x]),
        lambda: np.exp([x, x]),
        lambda: mt.exp([x]),
    ):
        with pytest.raises(UnsupportedError, match="would forget its graph"):
            use()


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.bool_, np.complex64])
def test_only_floats_require_grad(dtype: type) -> None:
    with pytest.raises(DTypeError, match=f"{np.dtype(dtype)}; use .astype"):
        mt.tensor([1, 0], dtype, requires_grad=True)
    t = mt.tensor([1, 0], dtype)
    with pytest.raises(DTypeError, match="only floating"):
        t.requires_grad = True
    assert not t.requires_grad
    for make in (mt.zeros, mt.ones, mt.eye):
        with pytest.raises(DTypeError):
            make(2, dtype=dtype, requires_grad=True)


def test_complex_results_of_recorded_operations_are_refused() -> None:
    x = mt.ones(2, requires_grad=True)
    with pytest.raises(DTypeError, match=r"multiply: complex .* float32 \(2,\), complex"):
        x * 1j
    assert (x.detach() * 1j).dtype == np.complex64


def test_integer_results_end_the_graph() -> None:
    x = mt.tensor([1.5, -2.5], requires_grad=True)
    for y in (x.astype(np.int64), x > 0, np.argmax(x), x.astype(bool)):
        assert not y.requires_grad


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("other", FLOATS)
def test_a_cast_gives_the_gradient_back_in_the_first_dtype(dtype: type, other: type) -> None:
    x = mt.tensor([1.5, -2.5], dtype, requires_grad=True)
    for y in (x.astype(other), x.to(other)):
        (g,) = mt.grad(y * y, x, np.ones(2), create_graph=True)
        assert (y.dtype, g.dtype, g.tolist()) == (other, dtype, [3.0, -5.0])


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        (1, np.int64),
        (True, np.bool_),
        ([1, 2], np.int64),
        ([1.0, 2], np.float32),
        ([1, 2.5], np.float32),
        ([True, 2.5], np.float32),
        ([[1, 2], [3, 4.5]], np.float32),
        ([], np.float32),
        ([[]], np.float32),
        ((1, 2), np.int64),
        (range(3), np.int64),
        (1j, np.complex128),
        (np.float64(1), np.float64),
        (np.float16(1), np.float16),
        ([np.float64(1)], np.float64),
        (np.ones(2), np.float64),
        (np.ones(2, np.int8), np.int8),
    ],
    ids=repr,
)
def test_the_dtype_of_new_tensors(data, dtype: type) -> None:
    assert mt.tensor(data).dtype == dtype
    assert mt.tensor(data, np.float64 if dtype != np.complex128 else np.complex64).dtype in (np.float64, np.complex64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_default_dtype(dtype: type) -> None:
    mt.set_default_dtype(dtype)
    assert mt.get_default_dtype() == dtype
    made = [
        mt.tensor(1.0),
        mt.tensor([1, 2.5]),
        mt.zeros(2),
        mt.ones(2),
        mt.full((2,), 1.0),
        mt.arange(0.0, 1.0, 0.5),
        mt.linspace(0, 1, 3),
        mt.eye(2),
        mt.randn(2),
        mt.rand(2),
    ]
    assert {t.dtype for t in made} == {np.dtype(dtype)}
    assert {t.dtype for t in (mt.tensor(1), mt.full((2,), 7), mt.arange(3), mt.randint(0, 5, (2,)))} == {np.dtype(np.int64)}


@pytest.mark.parametrize("dtype", [np.int64, bool, complex, "U3"])
def test_the_default_dtype_is_floating(dtype) -> None:
    with pytest.raises(DTypeError, match="floating dtype is needed"):
        mt.set_default_dtype(dtype)
    assert mt.get_default_dtype() == np.float32


@pytest.mark.parametrize("data", ["text", None, [None], {"a": 1}, object(), 2**70], ids=["text", "None", "list", "dict", "object", "large"])
def test_only_numbers_become_tensors(data) -> None:
    with pytest.raises(DTypeError, match="numbers are needed"):
        mt.tensor(data)


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        mt.tensor([[1.0], [1.0, 2.0]])


def test_names_of_dtypes_are_numpys() -> None:
    assert (mt.float16, mt.float32, mt.float64, mt.int64, mt.bool_) == (np.float16, np.float32, np.float64, np.int64, np.bool_)
    assert isinstance(mt.ones(1).dtype, np.dtype)


def test_a_cotangent_is_cast_to_the_outputs_dtype() -> None:
    x = mt.ones(2, requires_grad=True)
    (x * 2).backward(mt.ones(2, dtype=np.float64))
    assert x.grad.dtype == np.float32
    y = x * 2
    for create_graph in (False, True):
        assert mt.grad(y, y, np.ones(2), create_graph=create_graph, retain_graph=True)[0].dtype == np.float32


def test_random_integers_need_an_integer_dtype() -> None:
    with pytest.raises(DTypeError, match="integer dtype"):
        mt.randint(0, 3, (2,), dtype=np.float32)
