"""AdaIN, and the scales and shifts per instance that style networks make."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_first, check_second, check_third, derivatives
from norm_table import EPS, assert_rounded

import minitensor as mt
from minitensor import nn
from minitensor.autograd import gradcheck
from minitensor.errors import DTypeError, ShapeError
from minitensor.nn import functional

every_way = pytest.mark.parametrize("way", ["analytic", "autograd"])
every_check = pytest.mark.parametrize("check", [check_first, check_second])


@pytest.fixture
def pictures(rng):
    """A content and a style of another spatial size, exact in float16; every slice with its own scale and offset."""

    def picture(*shape):
        slices = (*shape[:2], *(1,) * (len(shape) - 2))
        return (rng.normal(size=shape) * rng.uniform(0.5, 2, slices) + rng.uniform(-2, 2, slices)).astype(np.float16).astype(np.float64)

    return picture(2, 3, 4, 5), picture(2, 3, 7, 2)


def adain(way="analytic", eps=EPS):
    return lambda content, style: functional.adaptive_instance_norm(content, style, eps, backward=way)


def exactly(content, style, eps):
    """The definition, in 80 bits."""
    content, style = (each.astype(np.longdouble) for each in (content, style))

    def statistics(x):
        axes = tuple(range(2, x.ndim))
        mean = x.mean(axes, keepdims=True)
        return mean, np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)

    (mean, deviation), (style_mean, style_deviation) = statistics(content), statistics(style)
    as_content = (*content.shape[:2], *(1,) * (content.ndim - 2))
    return (content - mean) / deviation * style_deviation.reshape(as_content) + style_mean.reshape(as_content)


# -- values ------------------------------------------------------------------------------------------------------------------------


def test_values_and_gradients_are_those_of_the_definition_in_pytorch(pictures, rng, torch_says):
    g = rng.normal(size=pictures[0].shape).astype(np.float16).astype(np.float64)

    def in_pytorch(torch):
        content, style = (torch.tensor(each, requires_grad=True) for each in pictures)
        variance, mean = torch.var_mean(style, (2, 3), correction=0, keepdim=True)
        y = torch.sqrt(variance + EPS) * torch.nn.functional.instance_norm(content, eps=EPS) + mean
        return [y, *torch.autograd.grad(y, (content, style), torch.tensor(g))]

    expected = torch_says(in_pytorch)
    for way in ("analytic", "autograd"):
        for dtype in (np.float64, np.float32, np.float16):
            for of_style in (np.float64, np.float16):
                for traced in (False, True):
                    content, style = (mt.tensor(each, d, requires_grad=True) for each, d in zip(pictures, (dtype, of_style), strict=True))
                    y = adain(way)(content, style)
                    found = [y, *mt.grad(y, (content, style), mt.tensor(g, dtype), create_graph=traced)]
                    assert [each.dtype for each in found] == [dtype, dtype, of_style]
                    for value, exact in zip(found, expected, strict=True):
                        assert_rounded(value.detach().numpy(), exact)


@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 3, 2, 2, 4)])
def test_the_style_may_have_another_rank(shape, pictures, rng):
    style = rng.normal(size=shape)
    found = nn.AdaIN(eps=EPS)(mt.tensor(pictures[0]), mt.tensor(style)).numpy()
    np.testing.assert_allclose(found, exactly(pictures[0], style, EPS).astype(float), rtol=1e-12, atol=1e-12)


def test_the_output_has_the_statistics_of_the_style(pictures):
    content, style = pictures
    y = nn.AdaIN(eps=0.0)(mt.tensor(content), mt.tensor(style)).numpy()
    np.testing.assert_allclose(y.mean((2, 3)), style.mean((2, 3)), rtol=1e-12)
    np.testing.assert_allclose(y.var((2, 3)), style.var((2, 3)), rtol=1e-12)


@every_way
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_a_picture_in_its_own_style_is_itself(way, eps, pictures):
    """Constant slices too."""
    picture = np.concatenate([pictures[0], np.full((2, 1, 4, 5), 12345.678)], axis=1)
    for dtype in (np.float64, np.float32, np.float16):
        x = mt.tensor(picture, dtype)
        assert_rounded(adain(way, eps)(x, x).numpy(), x.numpy().astype(np.float64))


@every_way
@pytest.mark.parametrize(("offset", "scale"), [(1e6, 1.0), (-1e5, 1.0), (0.0, 1e18)])
def test_no_magnitude_costs_digits(way, offset, scale, pictures):
    content, style = ((offset + scale * each).astype(np.float32) for each in pictures)
    assert_rounded(adain(way, 1e-5)(mt.tensor(content), mt.tensor(style)).numpy(), exactly(content, style, 1e-5))


# -- derivatives -------------------------------------------------------------------------------------------------------------------


@every_way
@every_check
def test_gradients_reach_both(way, check, pictures, no_kernel):
    check(adain(way), pictures)


def test_gradcheck(pictures):
    assert gradcheck(adain(), tuple(mt.tensor(each, requires_grad=True) for each in pictures), fast_mode=True)


@every_way
def test_third_order_is_exact(way, pictures):
    check_third(adain(way), pictures)


@every_way
def test_constant_pictures_without_eps(way, pictures, rng):
    """A constant content becomes the style's mean, and no gradient reaches it; a constant style gives its colour, and takes g / m."""
    content, style = (each.copy() for each in pictures)
    content[0, 0], style[1, 1] = 0.1, -7.7
    leaves = [mt.tensor(each, requires_grad=True) for each in (content, style)]
    g = rng.normal(size=content.shape)
    y = adain(way, 0.0)(*leaves)
    np.testing.assert_allclose(y.detach().numpy()[0, 0], style[0, 0].mean(), rtol=1e-14)
    np.testing.assert_allclose(y.detach().numpy()[1, 1], -7.7, rtol=1e-14)
    first = mt.grad(y, leaves, mt.tensor(g), create_graph=True)
    second = mt.grad(first, leaves, [mt.tensor(rng.normal(size=each.shape)) for each in pictures])
    assert not any(order[0].detach().numpy()[0, 0].any() for order in (first, second))
    np.testing.assert_allclose(first[1].detach().numpy()[1, 1], g[1, 1].sum() / style[1, 1].size, rtol=1e-12)
    assert not second[1].numpy()[1, 1].any()
    assert all(np.isfinite(each.detach().numpy()).all() for each in (*first, *second))


@every_way
def test_on_a_device(way, pictures, cupy):
    here, there = (derivatives(adain(way), pictures, device).all() for device in ("cpu", "cuda"))
    assert {str(each.device) for each in there} == {"cuda:0"}
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other.detach().cpu().numpy(), one.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_an_empty_batch():
    content, style = mt.zeros(0, 3, 4, requires_grad=True), mt.zeros(0, 3, 5, requires_grad=True)
    y = nn.AdaIN()(content, style)
    y.backward(mt.zeros(0, 3, 4))
    assert (y.shape, content.grad.shape, style.grad.shape) == ((0, 3, 4), (0, 3, 4), (0, 3, 5))


def test_the_layer_has_nothing_to_learn():
    layer = nn.AdaIN()
    assert (layer.state_dict(), list(layer.parameters()), repr(layer)) == ({}, [], "AdaIN(eps=1e-05)")


@pytest.mark.parametrize(
    ("content", "style", "error", "words"),
    [
        (mt.zeros(2, 3, 4), mt.zeros(1, 3, 4), ShapeError, ["(2, 3, 4)", "(1, 3, 4)", "(N, C)", "broadcast_to"]),
        (mt.zeros(2, 3, 4), mt.zeros(2, 4, 4), ShapeError, ["(2, 3, 4)", "(2, 4, 4)"]),
        (mt.zeros(2, 3), mt.zeros(2, 3, 4), ShapeError, ["content", "(N, C, S...)", "(2, 3)"]),
        (mt.zeros(2, 3, 4), mt.zeros(2, 3), ShapeError, ["style", "(N, C, S...)", "(2, 3)"]),
        (mt.zeros(2, 3, 1), mt.zeros(2, 3, 4), ShapeError, ["content", "more than one element", "(2, 3, 1)"]),
        (mt.zeros(2, 3, 4), mt.zeros(2, 3, 1, 1), ShapeError, ["style", "more than one element", "(2, 3, 1, 1)"]),
        (mt.zeros(2, 3, 4), mt.zeros(2, 3, 0), ShapeError, ["style", "more than one element", "(2, 3, 0)"]),
        (mt.zeros(2, 3, 4), np.zeros((2, 3, 4)), TypeError, ["Tensor", "float64 (2, 3, 4)"]),
        (mt.zeros(2, 3, 4).astype(int), mt.zeros(2, 3, 4), DTypeError, ["int64 (2, 3, 4)", "astype"]),
    ],
)
def test_errors_name_the_picture_and_the_shapes(content, style, error, words):
    with pytest.raises(error) as raised:
        nn.AdaIN()(content, style)
    assert not [word for word in words if word not in str(raised.value)], str(raised.value)


@pytest.mark.parametrize("options", [{"eps": -1.0}, {"eps": None}, {"backward": "both"}], ids=str)
def test_nonsense_is_refused_when_the_layer_is_made(options):
    with pytest.raises((TypeError, ValueError), match=rf"AdaIN: {next(iter(options))}"):
        nn.AdaIN(**options)


def test_a_backward_of_your_own_is_refused(pictures):
    with pytest.raises(ValueError, match=r"instance to instance.*'analytic' or 'autograd'"):
        nn.AdaIN(backward=lambda x, gamma, beta, eps, dy: (x, gamma, beta))(*map(mt.tensor, pictures))


# -- a scale and a shift per instance ------------------------------------------------------------------------------------------------


@every_way
@every_check
@pytest.mark.parametrize("fixed", [False, True], ids=["input statistics", "running statistics"])
def test_gradients_of_weights_per_instance(way, check, fixed, pictures, rng, no_kernel):
    statistics = [mt.tensor([0.3, -0.2, 1.0], np.float64), mt.tensor([0.5, 2.0, 1.3], np.float64)] if fixed else [None, None]

    def call(x, weight, bias):
        return functional.instance_norm(x, *statistics, weight, bias, use_input_stats=not fixed, eps=EPS, backward=way)

    check(call, [pictures[0], rng.uniform(-2, 2, (2, 3)), rng.uniform(-2, 2, (2, 3))])


@every_way
def test_one_row_of_weights_per_instance_is_one_layer_per_instance(way, pictures, rng):
    x, (weight, bias) = pictures[0], rng.uniform(-2, 2, (2, 2, 3))
    call = {"eps": EPS, "backward": way}
    together = functional.instance_norm(mt.tensor(x), weight=mt.tensor(weight), bias=mt.tensor(bias), **call).numpy()
    for n in range(2):
        alone = functional.instance_norm(mt.tensor(x[n : n + 1]), weight=mt.tensor(weight[n]), bias=mt.tensor(bias[n]), **call).numpy()
        np.testing.assert_allclose(together[n : n + 1], alone, rtol=1e-13, atol=1e-13)


@every_way
def test_gradients_reach_a_style_network(way, pictures, rng, no_kernel):
    """(1 + gamma) x_hat + beta with gamma and beta linear in a style vector, as StarGAN v2 has it."""

    def call(x, style, network):
        gamma, beta = (np.matmul(style, network[k]) for k in range(2))
        return functional.instance_norm(x, weight=1 + gamma, bias=beta, eps=EPS, backward=way)

    check_first(call, [pictures[0], rng.normal(size=(2, 4)), rng.normal(size=(2, 4, 3))])


@every_way
def test_a_layer_whose_weight_is_replaced(way, pictures, rng):
    """By Parameters of shape (N, C), which it then saves and learns; with input and with running statistics."""
    x, weight, bias = pictures[0], rng.uniform(-2, 2, (2, 3)), rng.uniform(-2, 2, (2, 3))
    layer = nn.InstanceNorm2d(3, affine=True, track_running_stats=True, dtype=np.float64, backward=way)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    for mode in (True, False):
        y = layer.train(mode)(mt.tensor(x))
        mean, var = (x.mean((2, 3)), x.var((2, 3))) if mode else (layer.running_mean.numpy(), layer.running_var.numpy())
        x_hat = (x - mean[..., None, None]) / np.sqrt(var[..., None, None] + 1e-5)
        np.testing.assert_allclose(y.detach().numpy(), weight[..., None, None] * x_hat + bias[..., None, None], rtol=1e-12, atol=1e-12)
        layer.zero_grad()
        y.backward(mt.ones_like(y))
        np.testing.assert_allclose(layer.weight.grad.numpy(), x_hat.sum((2, 3)), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(layer.bias.grad.numpy(), 20.0 * np.ones((2, 3)))
    assert layer.state_dict()["weight"].shape == (2, 3)
    with pytest.raises(ShapeError, match=r"weight must have shape \(3,\) or \(1, 3\).*\(1, 3, 4, 5\), got \(2, 3\)"):
        layer(mt.tensor(x[:1]))


def test_an_unbatched_input_takes_weights_of_one_instance(pictures):
    layer = nn.InstanceNorm2d(3, affine=True, dtype=np.float64)
    expected = layer(mt.tensor(pictures[0][0])).detach().numpy()
    layer.weight = nn.Parameter(2 * np.ones((1, 3)))
    np.testing.assert_allclose(layer(mt.tensor(pictures[0][0])).detach().numpy(), 2 * expected, rtol=1e-12)


# -- planted mistakes ----------------------------------------------------------------------------------------------------------------


def test_a_detached_style_is_noticed(pictures, no_kernel):
    with pytest.raises(AssertionError, match="against"):
        check_first(lambda content, style: adain()(content, style.detach() + 0 * style), pictures)
