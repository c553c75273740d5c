"""The linear map, as a function and as a layer: against PyTorch, against differences, its initial values and its errors."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from checks import check_device, check_first, check_second

import minitensor as mt
from minitensor.errors import DTypeError, ShapeError
from minitensor.nn.functional.linear import linear
from minitensor.nn.linear import Linear

SHAPES = [
    ((5, 3), (4, 3), (4,)),
    ((5, 3), (4, 3), None),
    ((3,), (4, 3), (4,)),
    ((2, 5, 3), (4, 3), (4,)),
    ((2, 1, 5, 3), (4, 3), None),
    ((2, 5, 3), (3,), ()),
    ((5, 3), (3,), None),
    ((3,), (3,), None),
    ((0, 3), (4, 3), (4,)),
    ((2, 0, 3), (4, 3), (4,)),
]


def drawn(*shapes: tuple[int, ...] | None) -> list[np.ndarray]:
    """Normal numbers of these shapes, where there is one."""
    rng = np.random.default_rng(11)
    return [rng.standard_normal(shape) for shape in shapes if shape is not None]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_as_pytorch(shapes, torch_says):
    arrays = drawn(*shapes)
    tensors = [mt.tensor(array, requires_grad=True) for array in arrays]
    y = linear(*tensors)
    u = np.random.default_rng(12).standard_normal(y.shape)

    def ask(torch):
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        y = torch.nn.functional.linear(*tensors)
        return [y, *torch.autograd.grad(y, tensors, torch.tensor(u))]

    for ours, theirs in zip((y, *mt.grad(y, tensors, mt.tensor(u))), torch_says(ask), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("shapes", SHAPES[:6], ids=str)
def test_against_differences(shapes):
    check_first(linear, drawn(*shapes))
    check_second(linear, drawn(*shapes))


@pytest.mark.parametrize("shapes", SHAPES[:4], ids=str)
def test_on_the_stand_in(shapes, cupy):
    check_device(linear, drawn(*shapes))


def test_dtypes_are_promoted():
    for left in (np.float16, np.float32, np.float64):
        for right in (np.float16, np.float32, np.float64):
            assert linear(mt.ones(2, 3, dtype=left), mt.ones(4, 3, dtype=right), mt.ones(4, dtype=right)).dtype == np.result_type(
                left, right
            )


def test_float16_sums_in_float32():
    """Products over a long axis, and the gradient of a bias over a long batch: in float16, 1 + 2048 is 2048."""
    n = 3001
    x, a, b = (mt.tensor(np.ones(shape, np.float16), requires_grad=True) for shape in ((n, 1), (2, 1), (2,)))
    y = linear(x, a, b)
    assert [g.tolist() for g in mt.grad(y, [a, b], mt.ones_like(y))] == [[[3000.0], [3000.0]], [3000.0, 3000.0]]
    assert linear(mt.ones(1, n, dtype=np.float16), mt.ones(1, n, dtype=np.float16)).item() == 3000
    rng = np.random.default_rng(0)
    x, a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((20, 300), (10, 300), (10,)))
    exact = x.astype(float) @ a.T.astype(float) + b
    found = linear(*map(mt.tensor, (x, a, b)))
    assert found.dtype == np.float16
    assert (np.abs(found.numpy() - exact) <= 0.51 * np.spacing(np.abs(exact).astype(np.float16)) + 1e-5).all()


def test_the_weight_gradient_of_a_long_batch_needs_little_memory():
    """One matrix product, not one of (out, in) for each of 300 sequences, to be summed: that takes 300 * 50 * 50 * 4 bytes."""
    x, a = mt.ones(300, 2, 50), mt.ones(50, 50, requires_grad=True)
    y = linear(x, a)
    u = mt.ones_like(y)
    tracemalloc.start()
    try:
        mt.grad(y, a, u)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000


# -- the layer ------------------------------------------------------------------------------------------------------------------------


def test_the_layer():
    layer = Linear(3, 2)
    assert repr(layer) == "Linear(in_features=3, out_features=2, bias=True)"
    assert repr(Linear(3, 2, bias=False)) == "Linear(in_features=3, out_features=2, bias=False)"
    assert [(name, tensor.shape, tensor.dtype) for name, tensor in layer.state_dict().items()] == [
        ("weight", (2, 3), np.float32),
        ("bias", (2,), np.float32),
    ]
    assert list(Linear(3, 2, False).state_dict()) == ["weight"]
    assert Linear(3, 2, False).bias is None
    x = mt.randn(4, 3)
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() @ layer.weight.data.T + layer.bias.data, rtol=1e-6, atol=1e-7)
    layer(x).sum().backward()
    assert layer.weight.grad.shape == (2, 3)
    assert layer.bias.grad.tolist() == [4.0, 4.0]


def test_the_layer_as_pytorchs(torch_says):
    weight, bias, x = drawn((4, 3), (4,), (2, 5, 3))

    def ask(torch):
        layer = torch.nn.Linear(3, 4, dtype=torch.float64)
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        return layer(torch.tensor(x))

    layer = Linear(3, 4, dtype=np.float64)
    layer.load_state_dict({"weight": weight, "bias": bias})
    np.testing.assert_allclose(layer(mt.tensor(x)).detach().numpy(), torch_says(ask), rtol=1e-14)


def test_initial_values_are_uniform():
    """U(-1/2, 1/2) for 4 inputs, weight and bias: mean 0, variance 1/12, and as good as no gap to the bounds."""
    layer = Linear(4, 20_000, dtype=np.float64)
    for values in (layer.weight.data, layer.bias.data):
        assert np.abs(values).max() <= 0.5
        assert np.abs(values).max() > 0.499
        assert abs(values.mean()) < 0.01
        assert values.var() == pytest.approx(1 / 12, rel=0.02)


def test_a_seed_gives_the_same_layer_again():
    mt.manual_seed(5)
    one = Linear(3, 2)
    mt.manual_seed(5)
    other = Linear(3, 2)
    assert one.weight.tolist() == other.weight.tolist()
    assert one.bias.tolist() == other.bias.tolist()
    before = one.weight.tolist()
    one.reset_parameters()
    assert one.weight.tolist() != before
    assert one.weight.requires_grad


def test_device_and_dtype(cupy):
    layer = Linear(np.int64(3), 2, device="cuda", dtype=np.float16)
    assert {(p.device, p.dtype, p.requires_grad) for p in layer.parameters()} == {("cuda:0", np.dtype(np.float16), True)}
    y = layer(mt.ones(5, 3, dtype=np.float16, device="cuda"))
    assert (y.shape, y.device, y.dtype) == ((5, 2), "cuda:0", np.float16)


# -- errors ---------------------------------------------------------------------------------------------------------------------------

ERRORS = [
    (lambda: linear(np.ones((2, 3)), mt.ones(4, 3)), TypeError, r"linear: input must be a Tensor, got float64 \(2, 3\)"),
    (lambda: linear(mt.ones(2, 3), np.ones((4, 3))), TypeError, r"linear: weight must be a Tensor, got float64 \(4, 3\)"),
    (lambda: linear(mt.ones(2, 3), mt.ones(4, 3), 1.0), TypeError, "linear: bias must be a Tensor, got float"),
    (
        lambda: linear(mt.ones(2, 3, dtype=int), mt.ones(4, 3)),
        DTypeError,
        r"linear: input must be floating numbers, got int64 \(2, 3\); use input.astype",
    ),
    (
        lambda: linear(mt.ones(2, 4), mt.ones(5, 3)),
        ShapeError,
        r"linear: input \(..., in\) and weight \(out, in\) must have the same last axis, got input .* \(2, 4\), weight float32 \(5, 3\)",
    ),
    (lambda: linear(mt.tensor(1.0), mt.ones(5, 3)), ShapeError, r"got input float32 \(\), weight float32 \(5, 3\)"),
    (lambda: linear(mt.ones(2, 3), mt.ones(1, 5, 3)), ShapeError, r"weight float32 \(1, 5, 3\)"),
    (lambda: linear(mt.ones(2, 3), mt.tensor(1.0)), ShapeError, r"weight float32 \(\)"),
    (
        lambda: linear(mt.ones(2, 3), mt.ones(5, 3), mt.ones(1)),
        ShapeError,
        r"linear: bias must have the shape \(5,\) of the outputs, got input float32 \(2, 3\), weight float32 \(5, 3\), bias float32 \(1,\)",
    ),
    (lambda: linear(mt.ones(2, 3), mt.ones(3), mt.ones(1)), ShapeError, r"the shape \(\) of the outputs"),
    (lambda: Linear(3, 2)(mt.ones(2, 4)), ShapeError, "linear: input"),
    (lambda: Linear(0, 2), ValueError, "Linear: in_features must be positive, got 0"),
    (lambda: Linear(3, -2), ValueError, "Linear: out_features must be positive, got -2"),
    (lambda: Linear(3.0, 2), TypeError, "Linear: in_features must be an int, got 3.0"),
    (lambda: Linear(3, 2, dtype=int), DTypeError, "floating"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
