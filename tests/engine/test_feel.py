"""How a Tensor feels: shape, repr, comparison, conversion, copying."""

import copy
import pickle
import weakref

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import GraphError, ShapeError

REPR = {
    "tensor(1.)": lambda: mt.tensor(1.0),
    "tensor(7)": lambda: mt.tensor(7),
    "tensor([ True])": lambda: mt.tensor([True]),
    "tensor([1. , 2.5])": lambda: mt.tensor([1.0, 2.5]),
    "tensor([1.2346])": lambda: mt.tensor([1.23456789]),
    "tensor([1., 2.], dtype=float64)": lambda: mt.tensor(np.array([1.0, 2.0])),
    "tensor([1], dtype=int8)": lambda: mt.tensor([1], mt.int8),
    "tensor([1.], requires_grad=True)": lambda: mt.tensor([1.0], requires_grad=True),
    "tensor([2.], grad_fn=<multiply>)": lambda: mt.tensor([1.0], requires_grad=True) * 2,
    "tensor(1., grad_fn=<getitem>)": lambda: mt.tensor([1.0], requires_grad=True)[0],
    "tensor([[1.]], grad_fn=<reshape>)": lambda: mt.tensor([1.0], requires_grad=True).reshape(1, 1),
    "tensor([2.])": lambda: (mt.tensor([1.0], requires_grad=True) * 2).detach(),
    "tensor([], shape=(0,))": lambda: mt.tensor([]),
    "tensor([], shape=(2, 0), dtype=float64)": lambda: mt.zeros(2, 0, dtype=mt.float64),
    "tensor([[1, 2],\n        [3, 4]])": lambda: mt.tensor([[1, 2], [3, 4]]),
    "tensor([nan, inf])": lambda: mt.tensor([np.nan, np.inf]),
    "tensor([1.5], dtype=float16, grad_fn=<add>)": lambda: mt.tensor([1.0], mt.float16, requires_grad=True) + 0.5,
}


@pytest.mark.parametrize("text", REPR)
def test_repr(text: str) -> None:
    assert repr(REPR[text]()) == str(REPR[text]()) == text


def test_repr_follows_the_default_dtype_and_shortens_long_tensors() -> None:
    long = repr(mt.arange(5000))
    assert "..." in long
    assert len(long) < 100
    mt.set_default_dtype(np.float64)
    assert repr(mt.tensor(1.5)) == "tensor(1.5)"
    assert repr(mt.tensor(1.5, mt.float32)) == "tensor(1.5, dtype=float32)"


def test_shape_is_a_plain_tuple_of_ints() -> None:
    t = mt.zeros(2, 3)
    assert type(t.shape) is tuple
    assert t.shape == (2, 3)
    assert {type(n) for n in t.shape} == {int}
    assert (t.ndim, t.size, t.T.shape, t.device) == (2, 6, (3, 2), "cpu")


@pytest.mark.parametrize("make", [mt.zeros, mt.ones, mt.rand, mt.randn])
def test_shapes_are_given_as_arguments_or_as_a_tuple(make) -> None:
    assert make(2, 3).shape == make((2, 3)).shape == make([2, 3]).shape == (2, 3)
    assert make().shape == make(()).shape == ()
    assert make(3, requires_grad=True).requires_grad


def test_what_is_made() -> None:
    assert mt.full(2, 7).tolist() == mt.full((2,), 7).tolist() == [7, 7]
    assert mt.arange(1, 7, 2).tolist() == [1, 3, 5]
    assert mt.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert mt.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert mt.eye(2).tolist() == [[1, 0], [0, 1]]
    x = mt.ones(2, dtype=np.float16, requires_grad=True)
    for like, value in ((mt.zeros_like(x), 0), (mt.ones_like(x), 1), (mt.full_like(x, 3), 3)):
        assert (like.dtype, like.requires_grad, like.tolist()) == (np.float16, False, [value] * 2)
    assert mt.zeros_like(x, np.int64).dtype == np.int64
    assert mt.ones_like(x, requires_grad=True).requires_grad


def test_a_seed_repeats_and_leaves_numpys_generators_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    draws = []
    for seed in (5, 5, 6):
        mt.manual_seed(seed)
        draws.append([*mt.randn(3).tolist(), *mt.rand(3).tolist(), *mt.randint(0, 99, (3,)).tolist()])
    assert draws[0] == draws[1] != draws[2]
    assert np.random.rand() == expected  # noqa: NPY002
    assert all(0 <= value < 1 for value in mt.rand(100).tolist())
    assert set(mt.randint(2, 5, (100,)).tolist()) == {2, 3, 4}


def test_equality_is_elementwise_and_hash_is_identity() -> None:
    a, b = mt.tensor([1.0, 2.0]), mt.tensor([1.0, 3.0])
    assert (a == b).tolist() == [True, False]
    assert (a != b).tolist() == [False, True]
    assert (a == 1).dtype == np.bool_
    assert (a == None).tolist() == [False, False]  # noqa: E711
    assert hash(a) != hash(mt.tensor([1.0, 2.0]))
    assert len({a, a, b}) == 2
    assert {a: 1}[a] == 1


def test_comparisons_are_never_recorded() -> None:
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    for y in (x == x, x != 1, x < 2, x > x, x >= 1.5):
        assert not y.requires_grad
        assert y.dtype == np.bool_


def test_nothing_requires_grad_unless_asked() -> None:
    def made(**params: bool) -> list[mt.Tensor]:
        x = mt.Tensor([1.0], **params)
        counted = [mt.arange(0.0, 2.0, **params), mt.linspace(0, 1, 3, **params), mt.eye(2, **params), mt.full((2,), 1.5, **params)]
        like = [mt.zeros_like(x, **params), mt.ones_like(x, **params), mt.full_like(x, 2, **params)]
        return [x, mt.tensor(1.0, **params), *(make(2, **params) for make in (mt.zeros, mt.ones, mt.rand, mt.randn)), *counted, *like]

    assert not any(t.requires_grad for t in made())
    assert all(t.requires_grad and t.is_leaf for t in made(requires_grad=True))


def test_len_iteration_and_membership() -> None:
    assert len(mt.zeros(3, 2)) == 3
    x = mt.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2
    rows = list(x)
    assert [row.tolist() for row in rows] == x.tolist()
    (rows[0] * rows[1]).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert 3 in x
    assert 5.0 not in x
    _, b = x
    assert b.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("use", [len, iter, list])
def test_0d_tensors_have_no_length(use) -> None:
    with pytest.raises(TypeError, match="0-d"):
        use(mt.tensor(1.0))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_becomes_a_number(shape: tuple) -> None:
    t = mt.full(shape, 2.5, requires_grad=True)
    assert (t.item(), float(t), int(t), bool(t)) == (2.5, 2.5, 2, True)
    assert type(t.item()) is float
    assert f"{t:.3f}" == "2.500"
    assert f"{t}" == str(t)
    assert f"{mt.full(shape, 7):04d}" == "0007"


@pytest.mark.parametrize("use", [lambda t: t.item(), float, int, lambda t: f"{t:.2f}"])
def test_several_elements_do_not_become_a_number(use) -> None:
    with pytest.raises(ShapeError, match=r"one element is needed, this Tensor has shape \(2,\)"):
        use(mt.ones(2))


def test_the_truth_of_several_elements_is_ambiguous() -> None:
    for t in (mt.ones(2), mt.tensor([])):
        with pytest.raises(ValueError, match=r"ambiguous: compare, then reduce with np\.any or np\.all"):
            bool(t)


def test_integers_are_indices_and_floats_are_not() -> None:
    assert ["a", "b", "c"][mt.tensor(2)] == "c"
    assert list(range(mt.tensor(2))) == [0, 1]
    assert mt.ones(5)[mt.tensor(1) : mt.tensor(4)].shape == (3,)
    with pytest.raises(TypeError, match="index must be an integer, this Tensor is float32"):
        ["a"][mt.tensor(0.0)]


def test_numpy_calls_float_when_a_tensor_is_put_into_an_array() -> None:
    """The documented way out that NumPy takes by itself."""
    buffer = np.zeros(2)
    buffer[0] = mt.tensor(3.0, requires_grad=True)
    assert buffer.tolist() == [3.0, 0.0]


def test_tolist() -> None:
    assert mt.tensor([[1, 2]]).tolist() == [[1, 2]]
    assert mt.tensor(1.5, requires_grad=True).tolist() == 1.5


def test_requires_grad_can_be_changed_on_leaves_only() -> None:
    t = mt.ones(2)
    t.requires_grad = True
    assert t.is_leaf
    y = t * 2
    assert y.requires_grad
    assert not y.is_leaf
    for value in (False, True):
        if value != y.requires_grad:
            with pytest.raises(GraphError, match=r"use \.detach\(\)"):
                y.requires_grad = value
    t.requires_grad = False
    assert not (t * 2).requires_grad
    assert (t * 2).is_leaf
    t.requires_grad = t.requires_grad
    y.requires_grad = True  # as it is already


def test_is_leaf_and_requires_grad_are_decided_by_the_inputs() -> None:
    a, b = mt.ones(2, requires_grad=True), mt.ones(2)
    assert (a * b).requires_grad
    assert not (b * b).requires_grad
    assert not a.detach().requires_grad
    assert a.requires_grad


def test_detach_shares_values_and_stops_gradients() -> None:
    x = mt.tensor([2.0], requires_grad=True)
    (x * x.detach()).backward()
    assert x.grad.tolist() == [2.0]


def test_grad_can_be_set_to_none_or_to_a_tensor_of_the_shape() -> None:
    x = mt.ones(2, requires_grad=True)
    assert x.grad is None
    x.grad = mt.tensor([5.0, 6.0])
    (x * 2).sum().backward()
    assert x.grad.tolist() == [7.0, 8.0]
    x.grad = None
    assert x.grad is None
    for wrong in (5, np.ones(2), mt.ones(3), [1.0, 2.0], mt.ones(2, dtype=np.float64)):
        with pytest.raises(ShapeError, match=r"None or a Tensor float32 \(2,\) is needed, got"):
            x.grad = wrong


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "in a list": lambda t: copy.deepcopy([t])[0],
}


@pytest.mark.parametrize("clone", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_copies_are_new_leaves(clone, requires_grad: bool) -> None:
    t = mt.tensor([1.0, 2.0], np.float16, requires_grad=requires_grad)
    new = clone(t)
    assert (new.tolist(), new.dtype, new.requires_grad, new.is_leaf) == ([1.0, 2.0], np.float16, requires_grad, True)
    assert not np.shares_memory(new.data, t.data)
    if requires_grad:
        (new * new).sum().backward()
        assert (new.grad.tolist(), t.grad) == ([2.0, 4.0], None)


def test_deepcopy_copies_the_gradient_and_keeps_identities() -> None:
    t = mt.ones(2, requires_grad=True)
    (t * 3).sum().backward()
    a, b = copy.deepcopy([t, t])
    assert a is b
    assert a.grad.tolist() == [3.0, 3.0]
    assert not np.shares_memory(a.grad.data, t.grad.data)


@pytest.mark.parametrize("clone", COPIES.values(), ids=COPIES)
def test_results_with_a_graph_are_not_copied(clone) -> None:
    with pytest.raises(GraphError, match=r"use \.detach\(\)"):
        clone(mt.ones(2, requires_grad=True) * 2)


class Named(mt.Tensor):
    """A subclass with something of its own, as nn's parameters are."""


@pytest.mark.parametrize("clone", COPIES.values(), ids=COPIES)
def test_copies_keep_the_class_and_results_do_not(clone) -> None:
    t = Named([1.0, 2.0], requires_grad=True)
    assert type(clone(t)) is Named
    assert type(t * 2) is mt.Tensor
    assert type(mt.exp(t)) is type(t.detach()) is mt.Tensor


def test_tensors_can_be_referred_to_weakly_and_have_no_other_attributes() -> None:
    t = mt.ones(2)
    assert weakref.ref(t)() is t
    with pytest.raises(AttributeError):
        t.name = "x"


def test_the_package_says_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'convolve'"):
        mt.convolve


def test_all_names_exist() -> None:
    assert [name for name in mt.__all__ if not hasattr(mt, name)] == []
    assert sorted(set(mt.__all__)) == sorted(mt.__all__)


def test_errors_inherit_from_the_built_in_ones() -> None:
    """So that existing ``except`` clauses keep working."""
    e = mt.errors
    pairs = [
        (e.ShapeError, ValueError),
        (e.DTypeError, TypeError),
        (e.DeviceError, RuntimeError),
        (e.GraphError, RuntimeError),
        (e.UnsupportedError, TypeError),
        (e.MissingPackageError, ImportError),
    ]
    assert all(issubclass(ours, theirs) for ours, theirs in pairs)
