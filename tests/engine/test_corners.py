"""Corners in which a number was wrong once, or was lost without a word."""

from __future__ import annotations

import numpy as np
import pytest

import minitensor as mt
from minitensor.autograd import Rounded
from minitensor.errors import DTypeError, ShapeError, UnsupportedError
from minitensor.primitive import Primitive


def grad_of(function, *values, **params):
    tensors = [mt.tensor(value, requires_grad=True) for value in values]
    return [g.tolist() for g in mt.grad(function(*tensors, **params).sum(), tensors)]


@pytest.mark.parametrize("step", [0.5, np.float32(0.5), mt.tensor(0.5)], ids=repr)
def test_arange_with_any_kind_of_floating_step(step):
    assert mt.arange(0, 2, step).tolist() == [0.0, 0.5, 1.0, 1.5]


def test_indices_and_axes_may_be_changed_after_recording():
    x = mt.tensor(np.arange(8.0).reshape(2, 2, 2), requires_grad=True)
    index, axes = [0, 1], [2, 0, 1]
    picked, turned = mt.getitem(x, index), np.transpose(x, axes)
    index[0], axes[:] = 1, [0, 1, 2]
    weights = np.arange(8.0).reshape(2, 2, 2)
    (g,) = mt.grad(picked, x, mt.tensor(weights), retain_graph=True)
    np.testing.assert_array_equal(g.numpy(), weights)
    (g,) = mt.grad(turned, x, mt.tensor(weights))
    np.testing.assert_array_equal(g.numpy(), weights.transpose(1, 2, 0))


def test_a_tensor_may_be_an_index():
    x = mt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for picked in (x[mt.tensor([2, 2])], mt.getitem(x, mt.tensor([2, 2]))):
        assert mt.grad(picked.sum(), x)[0].tolist() == [0.0, 0.0, 2.0]


def test_unsigned_exponents_do_not_wrap():
    assert grad_of(lambda x: x ** np.array([0, 1, 2], np.uint8), [2.0, 2.0, 2.0]) == [[0.0, 1.0, 4.0]]


def test_var_without_degrees_of_freedom_has_no_gradient():
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="Degrees of freedom"):
        assert np.isnan(grad_of(lambda x: mt.var(x, ddof=2), [1.0, 2.0])).all()


@pytest.mark.parametrize("kind", [np.ma.MaskedArray, np.matrix])
def test_masked_arrays_and_matrices_are_refused(kind):
    value = np.ones((1, 2)).view(kind)
    for attempt in (lambda: mt.tensor(value), lambda: mt.multiply(mt.ones(2), value)):
        with pytest.raises(DTypeError, match="not a plain array"):
            attempt()


def test_updating_a_leaf_in_place_keeps_it_a_leaf():
    w = mt.tensor([1.0, 2.0], requires_grad=True)
    kept = w
    (w * w).sum().backward()
    with mt.no_grad():
        w -= 0.5 * w.grad
        w *= 2.0
        w += 1.0
        w /= 1.0
    assert w is kept
    assert w.requires_grad
    assert w.tolist() == [1.0, 1.0]


def test_updating_elsewhere_makes_a_new_tensor():
    w = mt.tensor([1.0], requires_grad=True)
    y = w
    y += 1.0
    assert y is not w
    assert (w.tolist(), y.tolist()) == ([1.0], [2.0])
    assert mt.grad(y, w)[0].tolist() == [1.0]


def test_writing_values_that_carry_a_graph_is_refused():
    """z[0] = w[0] * 2 would cut the graph; without a graph, and under no_grad, values may be written."""
    w, z = mt.tensor([1.0, 2.0], requires_grad=True), mt.zeros(2)
    with pytest.raises(UnsupportedError, match="forget the graph"):
        z[0] = w[0] * 2
    z[0] = (w[0] * 2).detach()
    with mt.no_grad():
        z[1] = w[1] * 2
    assert z.tolist() == [2.0, 4.0]


def test_keywords_may_be_tensors():
    x = mt.tensor([1.0, 3.0])
    assert np.allclose(a=x, b=x)
    assert np.argmax(a=x).item() == 1


def test_concatenate_takes_numbers():
    assert grad_of(lambda x: np.concatenate([2.0, x], axis=None) * np.array([1.0, 2.0, 3.0]), [1.0, 1.0]) == [[2.0, 3.0]]


def test_grad_records_under_no_grad_when_it_is_asked_to():
    x = mt.tensor([2.0], requires_grad=True)
    u = mt.tensor([3.0], requires_grad=True)
    y = x * x
    with mt.no_grad():
        (dx,) = mt.grad([y, y], x, [u, u], create_graph=True)
    assert mt.grad(dx, u)[0].tolist() == [8.0]


def test_rules_may_return_arrays_or_tensors_in_either_walk():
    constant = mt.primitive(lambda x: 2 * x, lambda g, _y, _x: np.full(_x.shape, 2.0))
    lifted = mt.primitive(lambda x: 3 * x, lambda g, _y, _x: mt.full(_x.shape, 3.0, dtype=mt.float64))
    for function, slope in ((constant, 2.0), (lifted, 3.0)):
        x = mt.tensor(np.ones(2), requires_grad=True)
        for traced in (False, True):
            (g,) = mt.grad(function(x).sum(), x, create_graph=traced)
            assert isinstance(g, mt.Tensor)
            assert isinstance(g.data, np.ndarray)
            assert g.tolist() == [slope, slope]


def test_like_functions_take_a_device_and_a_dtype():
    x = mt.ones(2, 3, dtype=mt.float64)
    assert mt.zeros_like(x).dtype == np.float64
    assert mt.full_like(x, 7, dtype=mt.float32, device="cpu").dtype == np.float32
    with pytest.raises(RuntimeError, match="CuPy"):
        mt.ones_like(x, device="cuda")


def test_means_of_many_halves_stay_within_their_bound():
    """NumPy casts float16 in buffers of 8192 and joins their sums one by one; a bound that forgets this is broken here."""
    x = np.full(1 << 22, 0.1, np.float16)
    x[::3] = 0.33
    mean = Rounded(x).mean()
    assert abs(float(mean.value) - x.astype(np.float64).mean()) <= mean.bound


def test_masked_arrays_do_not_forget_the_graph_on_either_side() -> None:
    x, masked = mt.tensor([1.0, 2.0], requires_grad=True), np.ma.masked_equal([1.0, 2.0], 1)
    for call in (lambda: masked + x, lambda: x + masked, lambda: np.ma.multiply(x, x), lambda: np.ma.getdata(x)):
        with pytest.raises(TypeError):
            call()


def test_a_parameter_that_requires_grad_is_refused() -> None:
    x, c = mt.ones(2, requires_grad=True), mt.tensor(2.0, requires_grad=True)
    with pytest.raises(UnsupportedError, match=r"a parameter requires grad.*detach"):
        np.pad(x, 1, constant_values=c)
    assert np.pad(x, 1, constant_values=c.detach()).tolist() == [2.0, 1.0, 1.0, 2.0]


def test_a_rule_may_give_a_number() -> None:
    flat = mt.primitive(lambda x: x * 0, lambda g, _y, _x: 0.0)
    x = mt.ones(2, requires_grad=True)
    for create_graph in (False, True):
        assert mt.grad(flat(x).sum(), x, create_graph=create_graph)[0].tolist() == [0.0, 0.0]


def test_rules_with_the_rest_of_their_arguments_in_one_name() -> None:
    x = mt.tensor([3.0], requires_grad=True)
    square = mt.primitive(lambda x: x * x, lambda g, *rest: 2 * g * rest[1])
    assert mt.grad(square(x), x)[0].tolist() == [6.0]
    total = mt.primitive(lambda x, axis=None: x.sum(axis), lambda g, *_, axis=None: g)
    assert mt.grad(total(x, axis=0), x)[0].tolist() == [1.0]


def test_a_rule_that_reads_what_it_said_it_would_not_is_told_so() -> None:
    wrong = mt.primitive(lambda x: x * x, lambda g, _y, _x: 2 * g * _x)
    x = mt.ones(2, requires_grad=True)
    with pytest.raises(UnsupportedError, match="begins with an underscore"):
        wrong(x).sum().backward()


def test_the_rule_that_gave_a_wrong_shape_is_named() -> None:
    wrong = Primitive(np.positive, lambda g, _y, _x: g[:2])  # not mt.primitive, which would serve np.positive from now on
    x = mt.ones(3, 4, requires_grad=True)
    with pytest.raises(ShapeError, match=r"the rule of positive gave a cotangent of shape \(2, 4\) for an input of shape \(3, 4\)"):
        mt.grad(wrong(np.exp(x)).sum(), x)


def test_a_primitive_needs_a_rule() -> None:
    with pytest.raises(UnsupportedError, match="one rule per input is needed"):
        mt.primitive(lambda x: x)


def test_arrays_may_be_given_by_name() -> None:
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    assert np.sum(a=x).item() == 3.0
    assert np.stack(arrays=[x, x]).shape == (2, 2)
    assert np.pad(array=x, pad_width=1).tolist() == [0.0, 1.0, 2.0, 0.0]


def test_infinite_cotangents_do_not_pass_a_mask() -> None:
    """sqrt'(0) is infinite, and infinity times 0 would be nan."""
    z = mt.tensor([-1.0, 4.0], requires_grad=True)
    for call in (lambda: np.maximum(z, 0), lambda: -np.minimum(-z, 0), lambda: np.clip(z, 0, None)):
        with np.errstate(divide="ignore"):
            assert mt.grad(np.sqrt(call()).sum(), z)[0].tolist() == [0.0, 0.25]


def test_parts_may_be_counted_by_a_tensor() -> None:
    x = mt.arange(6.0, requires_grad=True)
    assert [len(part) for part in np.split(x, mt.tensor([1]))] == [1, 5]
    assert [len(part) for part in np.split(x, mt.tensor(3))] == [2, 2, 2]


def test_full_takes_a_tensor_of_one_element_and_any_integer_as_shape() -> None:
    assert mt.full(np.int64(2), mt.tensor(1.5)).tolist() == [1.5, 1.5]
    with pytest.raises(UnsupportedError, match="detach"):
        mt.full((2,), mt.tensor(1.5, requires_grad=True))


def test_operators_and_methods_that_arrays_have_too() -> None:
    t, m = mt.tensor([1.26, -2.5]), mt.tensor([True, False])
    assert t.round(1).tolist() == pytest.approx([1.3, -2.5])
    assert round(t).tolist() == [1.0, -2.0]
    assert (m ^ True).tolist() == (True ^ m).tolist() == [False, True]
    assert (True & m).tolist() == [True, False]
    assert (False | m).tolist() == [True, False]
    assert mt.ones(4, 3).reshape(np.array([3, 4])).shape == (3, 4)
    assert mt.ones(4, 3).transpose(None).shape == (3, 4)
    with pytest.raises(UnsupportedError, match="a device or a dtype"):
        t.to(None)
    with pytest.raises(ShapeError, match=r"t\[...\] = values\(float32 \(2,\), list\)"):
        t[0:2] = [1, 2, 3]
