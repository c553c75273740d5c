"""The InstanceNorm layers: PyTorch's constructor and meaning, with clearer errors."""

from __future__ import annotations

import numpy as np
import pytest

import minitensor as mt
from minitensor import nn
from minitensor.errors import DTypeError, ShapeError
from minitensor.nn import functional
from minitensor.nn.derivation import staged_backward

LAYERS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
SPATIAL = {1: (7,), 2: (4, 5), 3: (2, 3, 4)}
WAYS = ["analytic", "autograd", staged_backward]


def normalised(x, eps=1e-5):
    axes = tuple(range(2, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


@pytest.mark.parametrize("spatial", LAYERS)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("way", WAYS, ids=["analytic", "autograd", "own"])
def test_output(spatial, batched, way, rng):
    x = rng.normal(size=(2 if batched else 1, 3, *SPATIAL[spatial]))
    layer = LAYERS[spatial](3, affine=True, dtype=np.float64, backward=way)
    layer.weight.data, layer.bias.data = [2.0, -1.0, 0.5], [1.0, 2.0, 3.0]
    y = layer(mt.tensor(x if batched else x[0]))
    per_channel = (1, 3, *(1,) * spatial)
    expected = normalised(x) * layer.weight.data.reshape(per_channel) + layer.bias.data.reshape(per_channel)
    np.testing.assert_allclose(y.detach().numpy(), expected if batched else expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("parameters", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("way", WAYS, ids=["analytic", "autograd", "own"])
def test_dtypes(dtype, parameters, way, rng):
    """The output and dx have the input's dtype, dgamma and dbeta the parameters'."""
    layer = nn.InstanceNorm1d(2, affine=True, dtype=parameters, backward=way)
    x = mt.tensor(rng.normal(size=(3, 2, 6)).astype(dtype), requires_grad=True)
    y = layer(x)
    y.backward(mt.tensor(rng.normal(size=x.shape)))
    assert (y.dtype, x.grad.dtype, layer.weight.grad.dtype, layer.bias.grad.dtype) == (dtype, dtype, parameters, parameters)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e25), (np.float32, 1e-15), (np.float64, 1e140)])
@pytest.mark.parametrize("way", WAYS, ids=["analytic", "autograd", "own"])
def test_squares_beyond_the_dtype(dtype, scale, way, rng):
    """float32 squares leave float32 at 1e19: both walks and all ways compute wider, and agree with the same numbers scaled."""
    x, g = rng.normal(size=(2, 3, 7)).astype(dtype), rng.normal(size=(2, 3, 7)).astype(dtype)
    scaled = mt.tensor(x * dtype(scale), requires_grad=True)
    y = functional.instance_norm(scaled, eps=0.0, backward=way)
    expected = mt.tensor(x.astype(np.float64), requires_grad=True)
    (dx,) = mt.grad(functional.instance_norm(expected, eps=0.0), expected, mt.tensor(g.astype(np.float64)))
    np.testing.assert_allclose(y.detach().numpy(), normalised(x.astype(np.float64), 0.0), rtol=1e-5, atol=1e-6)
    for traced in (False, True):
        (found,) = mt.grad(y, scaled, mt.tensor(g), create_graph=traced, retain_graph=True)
        np.testing.assert_allclose(found.detach().numpy() * scale, dx.numpy(), rtol=1e-4, atol=1e-5)


def test_half_precision_is_computed_wider(rng):
    """300 N(0, 1) in float16: squares overflow float16, the result is within one rounding."""
    x = (300 * rng.normal(size=(1, 2, 512))).astype(np.float16)
    for way in ("analytic", "autograd"):
        y = functional.instance_norm(mt.tensor(x), backward=way).numpy()
        np.testing.assert_allclose(y, normalised(x.astype(np.float64)), rtol=1e-3, atol=1e-6)


def test_weights_per_instance_get_their_gradients(rng):
    """Weight and bias of shape (N, C), as style networks need; either way."""
    x, g = rng.normal(size=(2, 3, 7)), rng.normal(size=(2, 3, 7))
    for way in ("analytic", "autograd"):
        weight, bias = (mt.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in range(2))
        y = functional.instance_norm(mt.tensor(x), weight=weight, bias=bias, backward=way)
        y.backward(mt.tensor(g))
        np.testing.assert_allclose(weight.grad.numpy(), (g * normalised(x)).sum(2), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(bias.grad.numpy(), g.sum(2), rtol=1e-12, atol=1e-12)


# -- running statistics ----------------------------------------------------------------------------------------------------------


def test_the_running_variance_is_the_mean_of_unbiased_variances():
    """Instances [0, 2] and [0, 6] have unbiased variances 2 and 18: momentum 1 keeps their mean, 10, and the mean of means, 2."""
    layer = nn.InstanceNorm1d(1, momentum=1.0, track_running_stats=True)
    layer(mt.tensor([[[0.0, 2.0]], [[0.0, 6.0]]]))
    assert (layer.running_mean.item(), layer.running_var.item()) == (2.0, 10.0)


def test_the_running_statistics_keep_their_digits():
    """Of a constant float32 slice: its value, to the last bit, and the variance 0."""
    layer = nn.InstanceNorm1d(1, momentum=1.0, track_running_stats=True)
    layer(mt.full((2, 1, 48), 12345.678))
    assert (layer.running_mean.tolist(), layer.running_var.tolist()) == (mt.tensor([12345.678]).tolist(), [0.0])


def test_a_refused_backward_leaves_the_running_statistics_alone(rng):
    mean, var = mt.zeros(3), mt.ones(3)
    with pytest.raises(ShapeError, match="weight of shape"):
        functional.instance_norm(mt.randn(2, 3, 7), mean, var, mt.ones(2, 3), backward=staged_backward)
    assert (mean.tolist(), var.tolist()) == ([0.0] * 3, [1.0] * 3)


def test_momentum_weighs_the_new_statistics(rng):
    x = rng.normal(size=(4, 2, 9)) * 3 + 1
    layer = nn.InstanceNorm1d(2, momentum=0.3, track_running_stats=True, dtype=np.float64)
    layer(mt.tensor(x))
    layer(mt.tensor(x))
    mean, var = x.mean(2).mean(0), x.var(2, ddof=1).mean(0)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.49 * 0 + 0.51 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.49 * 1 + 0.51 * var, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 0


def test_eval_uses_the_running_statistics_only_when_they_are_tracked(rng):
    x = mt.tensor(rng.normal(size=(2, 2, 9)))
    plain = nn.InstanceNorm1d(2)
    np.testing.assert_array_equal(plain(x).numpy(), plain.eval()(x).numpy())
    layer = nn.InstanceNorm1d(2, track_running_stats=True, dtype=np.float64).eval()
    layer.running_mean[...] = [1.0, -1.0]
    layer.running_var[...] = [4.0, 0.25]
    expected = (x.numpy() - np.array([[1.0], [-1.0]])) / np.sqrt(np.array([[4.0], [0.25]]) + 1e-5)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)
    assert layer.running_mean.tolist() == [1.0, -1.0], "eval leaves the statistics alone"


def test_eval_gradient_is_that_of_an_affine_map(rng):
    layer = nn.InstanceNorm1d(2, affine=True, track_running_stats=True, dtype=np.float64).eval()
    layer.weight.data = [2.0, -3.0]
    layer.running_var[...] = [4.0, 0.25]
    x, g = mt.tensor(rng.normal(size=(2, 2, 5)), requires_grad=True), rng.normal(size=(2, 2, 5))
    layer(x).backward(mt.tensor(g))
    np.testing.assert_allclose(x.grad.numpy(), g * np.array([[2.0], [-3.0]]) / np.sqrt(np.array([[4.0], [0.25]]) + 1e-5), rtol=1e-12)


def test_momentum_none_freezes_and_one_element_is_fine_in_eval(rng):
    layer = nn.InstanceNorm1d(2, momentum=None, track_running_stats=True)
    layer(mt.tensor(rng.normal(size=(2, 2, 9))))
    assert (layer.running_mean.tolist(), layer.running_var.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    assert layer.eval()(mt.ones(2, 2, 1)).shape == (2, 2, 1)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("way", WAYS, ids=["analytic", "autograd", "own"])
def test_an_empty_batch_gives_an_empty_output_and_zero_gradients(affine, way):
    layer = nn.InstanceNorm2d(3, affine=affine, track_running_stats=True, backward=way)
    x = mt.zeros(0, 3, 4, 5, requires_grad=True)
    y = layer(x)
    y.backward(mt.zeros(0, 3, 4, 5))
    assert y.shape == x.grad.shape == (0, 3, 4, 5)
    assert layer.running_var.tolist() == [1.0, 1.0, 1.0]
    assert not affine or layer.weight.grad.tolist() == [0.0, 0.0, 0.0]


# -- the analytic way, and a backward of your own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", LAYERS)
def test_the_ways_agree_and_share_no_rule(spatial, rng):
    x, g = rng.normal(size=(2, 3, *SPATIAL[spatial])), rng.normal(size=(2, 3, *SPATIAL[spatial]))
    found = []
    for way in WAYS:
        layer = LAYERS[spatial](3, eps=0.3, affine=True, dtype=np.float64, backward=way)
        layer.weight.data, layer.bias.data = [2.0, -1.0, 0.5], [1.0, 2.0, 3.0]
        t = mt.tensor(x, requires_grad=True)
        y = layer(t)
        (dx,) = mt.grad(y, t, mt.tensor(g), create_graph=True)
        found.append([*mt.grad(y, [t, layer.weight, layer.bias], mt.tensor(g), retain_graph=True), *mt.grad(dx, t, mt.tensor(x))])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-11, atol=1e-12)


def primitives_below(node):
    seen, stack = set(), [node]
    while stack:
        node = stack.pop()
        stack += [edge for edge in node.edges if edge is not None]
        seen.add(node.name)
    return seen - {"leaf", "reshape", "astype"}


def test_the_graphs_are_those_promised():
    x = mt.ones(1, 1, 6, requires_grad=True)
    assert primitives_below(functional.instance_norm(x)._node) == {"normalize"}
    composed = primitives_below(functional.instance_norm(x, backward="autograd")._node)
    assert composed == {"mean", "subtract", "multiply", "add", "sqrt", "divide"}


def test_a_backward_may_write_into_what_it_gets(rng):
    """It gets copies: the layer's own numbers, and those of the other ways, stay as they are."""

    def greedy(x, gamma, beta, eps, dy):
        found = staged_backward(x, gamma, beta, eps, dy)
        for value in (x, gamma, beta, dy):
            value *= 0
        return found

    x, g = mt.tensor(rng.normal(size=(2, 3, 7)), requires_grad=True), mt.tensor(rng.normal(size=(2, 3, 7)))
    before = x.tolist(), g.tolist()
    (dx,) = mt.grad(functional.instance_norm(x, backward=greedy), x, g)
    (expected,) = mt.grad(functional.instance_norm(x), x, g)
    np.testing.assert_allclose(dx.numpy(), expected.numpy(), rtol=1e-12)
    assert (x.tolist(), g.tolist()) == before


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda x, gamma, beta, eps, dy: dy, r"must return \(dx, dgamma, dbeta\)"),
        (lambda x, gamma, beta, eps, dy: (dy, gamma, beta.sum()), r"dbeta must have shape \(2,\), got \(\)"),
        (lambda x, gamma, beta, eps, dy: (dy[0], gamma, beta), r"dx must have shape \(3, 2, 6\), got \(2, 6\)"),
    ],
)
def test_a_backward_of_the_wrong_shape_is_named(backward, message):
    layer = nn.InstanceNorm1d(2, affine=True, backward=backward)
    with pytest.raises(ShapeError, match=message):
        layer(mt.randn(3, 2, 6, requires_grad=True)).backward(mt.randn(3, 2, 6))


# -- errors --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_a_wrong_channel_count_is_always_an_error(affine, track):
    with pytest.raises(ShapeError, match=r"num_features is 3.*\(2, 4, 5, 5\) has C = 4"):
        nn.InstanceNorm2d(3, affine=affine, track_running_stats=track)(mt.zeros(2, 4, 5, 5))


@pytest.mark.parametrize(("shape", "fits"), [((2, 3, 4, 5, 6), "InstanceNorm3d"), ((4, 5), "InstanceNorm1d"), ((3,), ""), ((), "")])
def test_a_wrong_rank_names_the_layouts_and_the_layer_that_fits(shape, fits):
    with pytest.raises(ShapeError, match=rf"\(N, C, H, W\) or \(C, H, W\).*{fits}"):
        nn.InstanceNorm2d(3)(mt.zeros(shape))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: functional.instance_norm(mt.zeros(2, 3, 1, 1)), ShapeError, r"\(2, 3, 1, 1\) has one element"),
        (lambda: functional.instance_norm(mt.zeros(2, 3)), ShapeError, r"\(2, 3\)"),
        (lambda: functional.instance_norm(mt.tensor(np.zeros((2, 3, 4), int))), DTypeError, "int64"),
        (lambda: functional.instance_norm(np.zeros((2, 3, 4))), TypeError, "Tensor"),
        (lambda: functional.instance_norm(mt.zeros(2, 3, 4), weight=mt.ones(4)), ShapeError, r"weight must have shape \(3,\) or \(2, 3\)"),
        (lambda: functional.instance_norm(mt.zeros(2, 3, 4), mt.zeros(3)), ValueError, "come together"),
        (lambda: functional.instance_norm(mt.zeros(2, 3, 4), use_input_stats=False), ValueError, "running_mean and running_var"),
        (lambda: functional.instance_norm(mt.zeros(2, 3, 4), mt.ones(3, requires_grad=True), mt.ones(3)), ValueError, "requires? grad"),
        (lambda: functional.instance_norm(mt.zeros(2, 3, 4), backward="both"), ValueError, "'analytic', 'autograd'"),
        (lambda: functional.instance_norm(mt.zeros(2, 3, 4), eps=-1.0), ValueError, "eps must not be negative"),
        (lambda: nn.InstanceNorm1d(0), ValueError, "positive"),
        (lambda: nn.InstanceNorm1d(3.0), TypeError, "int"),
        (lambda: nn.InstanceNorm1d(True), TypeError, "int"),
        (lambda: nn.InstanceNorm1d(3, eps=-1e-5), ValueError, "eps"),
        (lambda: nn.InstanceNorm1d(3, eps=float("nan")), ValueError, "eps"),
        (lambda: nn.InstanceNorm1d(3, device="cuda"), RuntimeError, "CuPy"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_nan_spoils_its_slice_and_no_other(rng):
    x = rng.normal(size=(2, 3, 7))
    x[1, 2, 3] = np.nan
    for way in ("analytic", "autograd"):
        spoiled = np.isnan(functional.instance_norm(mt.tensor(x), backward=way).numpy()).all(axis=2)
        assert spoiled.tolist() == [[False, False, False], [False, False, True]]


# -- the constructor -----------------------------------------------------------------------------------------------------------------


def test_names_order_and_initial_values_are_pytorchs():
    layer = nn.InstanceNorm2d(2, affine=True, track_running_stats=True)
    state = {name: value.tolist() for name, value in layer.state_dict().items()}
    assert list(state.items()) == [
        ("weight", [1.0, 1.0]),
        ("bias", [0.0, 0.0]),
        ("running_mean", [0.0, 0.0]),
        ("running_var", [1.0, 1.0]),
        ("num_batches_tracked", 0),
    ]
    assert layer.num_batches_tracked.dtype == np.int64
    assert nn.InstanceNorm2d(2).state_dict() == {}
    assert list(nn.InstanceNorm2d(2, affine=True, bias=False).state_dict()) == ["weight"]


def test_repr():
    assert repr(nn.InstanceNorm2d(3)) == ("InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)")


def test_reset_parameters(rng):
    layer = nn.InstanceNorm1d(2, affine=True, track_running_stats=True)
    layer.weight.data = [3.0, 4.0]
    layer(mt.tensor(rng.normal(size=(2, 2, 5)) + 7))
    layer.reset_parameters()
    assert (layer.weight.tolist(), layer.running_mean.tolist(), layer.running_var.tolist()) == ([1.0, 1.0], [0.0, 0.0], [1.0, 1.0])
