"""Lazy InstanceNorm layers: what they are before the first call, what makes them whole, and what must not."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minitensor as mt
from minitensor import nn
from minitensor.errors import DTypeError, ShapeError, StateDictError
from minitensor.nn.optim import SGD

KINDS = {
    1: (nn.LazyInstanceNorm1d, nn.InstanceNorm1d),
    2: (nn.LazyInstanceNorm2d, nn.InstanceNorm2d),
    3: (nn.LazyInstanceNorm3d, nn.InstanceNorm3d),
}
SPATIAL = {1: (7,), 2: (4, 5), 3: (2, 3, 4)}
OPTIONS = {
    "as they come": {},
    "no bias": {"bias": False},
    "affine only": {"track_running_stats": False},
    "tracking only": {"affine": False},
    "neither": {"affine": False, "track_running_stats": False},
}
every_rank = pytest.mark.parametrize("d", KINDS)
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def is_lazy(layer):
    """Nothing known yet: the class, the count, and every place without elements."""
    places = [tensor for name, tensor in (*layer.named_parameters(), *layer.named_buffers()) if name != "num_batches_tracked"]
    return type(layer).__name__.startswith("Lazy") and layer.num_features == 0 and not any(tensor.size for tensor in places)


@every_rank
@every_option
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
def test_the_first_call_makes_the_eager_layer(d, options, batched, rng):
    """Of its class, with its state dict and its output; the channels are found from the rank, where PyTorch always reads axis 1."""
    lazy_kind, eager_kind = KINDS[d]
    x = mt.tensor(rng.normal(size=(2, 5, *SPATIAL[d])[not batched :]))
    lazy, eager = (
        lazy_kind(dtype=np.float64, **options),
        eager_kind(5, dtype=np.float64, **{"affine": True, "track_running_stats": True} | options),
    )
    assert is_lazy(lazy)
    y, expected = lazy(x), eager(x)
    assert (type(lazy), lazy.num_features, repr(lazy)) == (eager_kind, 5, repr(eager))
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
    assert {name: value.tolist() for name, value in lazy.state_dict().items()} == {
        name: value.tolist() for name, value in eager.state_dict().items()
    }
    assert [(type(p), p.requires_grad) for p in lazy.parameters()] == [(type(p), p.requires_grad) for p in eager.parameters()]
    with pytest.raises(ShapeError, match="num_features is 5"):
        lazy(mt.zeros(2, 4, *SPATIAL[d]))


@every_rank
def test_defaults_are_pytorchs_lazy_ones(d, torch_says):
    """Affine and tracking are on, unlike in the eager layer."""
    name = KINDS[d][0].__name__
    x = np.random.default_rng(2).normal(size=(2, 3, *SPATIAL[d]))

    def told(layer, x):
        y = layer(x)
        return [y, layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.num_batches_tracked]

    expected = torch_says(lambda torch: told(getattr(torch.nn, name)(dtype=torch.float64), torch.tensor(x)))
    for found, answer in zip(told(KINDS[d][0](dtype=np.float64), mt.tensor(x)), expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), answer, rtol=1e-12, atol=1e-13)


def test_an_optimiser_that_holds_the_places_trains_the_parameters(rng):
    layer = nn.LazyInstanceNorm1d()
    weight, bias = layer.weight, layer.bias
    optimiser = SGD(layer.parameters(), lr=0.5)
    x = mt.tensor(rng.normal(size=(2, 3, 7)), np.float32)
    y = layer(x)
    assert (layer.weight is weight, layer.bias is bias) == (True, True)
    y.backward(mt.ones_like(y))
    optimiser.step()
    np.testing.assert_allclose(layer.bias.detach().numpy(), -0.5 * 14 * np.ones(3), rtol=1e-6)


@every_option
def test_a_first_call_that_fails_leaves_it_lazy(options):
    layer = nn.LazyInstanceNorm2d(**options)
    held = [*layer.parameters(), *layer.buffers()]
    for bad, error in (
        (mt.zeros(2, 3), ShapeError),
        (mt.zeros(2, 3, 1, 1), ShapeError),
        (mt.zeros(2, 3, 4, 5).astype(int), DTypeError),
        (np.zeros((2, 3, 4, 5)), TypeError),
        (mt.zeros(2, 0, 4, 5), ValueError),
    ):
        with pytest.raises(error):
            layer(bad)
        assert is_lazy(layer)
        assert all(one is other for one, other in zip(held, [*layer.parameters(), *layer.buffers()], strict=True))
    assert layer(mt.randn(2, 3, 4, 5)).shape == (2, 3, 4, 5)


def test_the_first_call_may_be_in_eval_mode():
    """Then one spatial element is enough, as for the eager layer, and the statistics stay at their beginning."""
    layer = nn.LazyInstanceNorm1d(eps=0.0).eval()
    assert layer(mt.full((2, 3, 1), 7.0)).tolist() == [[[7.0]] * 3] * 2
    assert (layer.training, layer.running_mean.tolist()) == (False, [0.0] * 3)


def test_the_first_batch_is_counted_once(rng):
    x = mt.tensor(rng.normal(size=(2, 3, 7)), np.float32)
    lazy, eager = nn.LazyInstanceNorm1d(), nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    lazy(x), eager(x)
    assert lazy.running_var.tolist() == eager.running_var.tolist()


def test_an_empty_batch_makes_it_whole():
    layer = nn.LazyInstanceNorm1d()
    assert layer(mt.zeros(0, 3, 7)).shape == (0, 3, 7)
    assert (layer.num_features, layer.running_var.tolist()) == (3, [1.0] * 3)


# -- state dicts -------------------------------------------------------------------------------------------------------------------


@every_rank
@pytest.mark.parametrize("options", [options for name, options in OPTIONS.items() if name != "neither"])
def test_a_state_dict_makes_it_whole(d, options, rng):
    lazy_kind, eager_kind = KINDS[d]
    trained = eager_kind(4, dtype=np.float64, **{"affine": True, "track_running_stats": True} | options)
    for parameter in trained.parameters():
        parameter.data = rng.normal(size=4)
    x = mt.tensor(rng.normal(size=(2, 4, *SPATIAL[d])))
    trained(x)
    layer = lazy_kind(dtype=np.float64, **options)
    held = list(layer.parameters())
    layer.load_state_dict(trained.state_dict())
    assert (type(layer), layer.num_features) == (eager_kind, 4)
    assert all(one is other for one, other in zip(held, layer.parameters(), strict=True))
    np.testing.assert_array_equal(layer.eval()(x).detach().numpy(), trained.eval()(x).detach().numpy())


def test_one_inside_another_module_is_made_whole_too():
    inner = nn.InstanceNorm1d(4, affine=True)
    outer = nn.Sequential(nn.LazyInstanceNorm1d(track_running_stats=False))
    outer.load_state_dict(nn.Sequential(inner).state_dict())
    assert type(outer[0]) is nn.InstanceNorm1d


@pytest.mark.parametrize(
    "state",
    [
        {"weight": mt.ones(4)},  # the bias is missing
        {"weight": mt.ones(4), "bias": mt.ones(5)},
        {"weight": mt.ones(4, 2), "bias": mt.ones(4, 2)},
        {"weight": mt.ones(()), "bias": mt.ones(())},
        {"weight": mt.ones(4), "bias": mt.ones(4), "scale": mt.ones(4)},
        {"weight": "four", "bias": "four"},
    ],
    ids=str,
)
def test_a_state_dict_that_does_not_fit_leaves_it_lazy(state):
    layer = nn.LazyInstanceNorm1d(track_running_stats=False)
    held = list(layer.parameters())
    with pytest.raises(StateDictError, match="nothing was changed"):
        layer.load_state_dict(state)
    assert is_lazy(layer)
    assert all(one is other for one, other in zip(held, layer.parameters(), strict=True))
    assert layer(mt.randn(2, 3, 7)).shape == (2, 3, 7)


def test_a_lazy_state_dict_loads_into_a_lazy_layer():
    layer = nn.LazyInstanceNorm1d()
    layer.load_state_dict(nn.LazyInstanceNorm1d().state_dict())
    assert is_lazy(layer)


# -- moved and copied before the first call ----------------------------------------------------------------------------------------


@every_option
def test_another_dtype_before_the_first_call(options):
    layer = nn.LazyInstanceNorm1d(**options).to(np.float64)
    layer(mt.randn(2, 3, 7, dtype=np.float64))
    tensors = [tensor for name, tensor in (*layer.named_parameters(), *layer.named_buffers()) if name != "num_batches_tracked"]
    assert {tensor.dtype for tensor in tensors} <= {np.dtype(np.float64)}
    assert {tensor.shape for tensor in tensors} <= {(3,)}


@every_option
@pytest.mark.parametrize("how", ["to", "device="])
def test_another_device_before_the_first_call(options, how, cupy):
    layer = nn.LazyInstanceNorm1d(**options).to("cuda") if how == "to" else nn.LazyInstanceNorm1d(device="cuda", **options)
    y = layer(mt.randn(2, 3, 7, device="cuda"))
    assert {str(tensor.device) for tensor in (y, *layer.parameters(), *layer.buffers())} == {"cuda:0"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["deepcopy", "pickle"])
def test_copies_made_before_the_first_call_are_lazy_and_apart(copied):
    layer = nn.LazyInstanceNorm1d()
    twin = copied(layer)
    twin(mt.randn(2, 5, 7))
    assert is_lazy(layer)
    layer(mt.randn(2, 3, 7))
    assert (layer.num_features, twin.num_features) == (3, 5)
    assert layer.weight is not twin.weight


def test_without_anything_to_learn_or_keep_it_still_becomes_the_eager_layer():
    """PyTorch's keeps 0 features and warns at every call."""
    layer = nn.LazyInstanceNorm1d(affine=False, track_running_stats=False)
    assert layer(mt.randn(2, 3, 7)).shape == (2, 3, 7)
    assert (type(layer), layer.num_features, layer.state_dict()) == (nn.InstanceNorm1d, 3, {})


def test_repr_before_the_first_call():
    assert (
        repr(nn.LazyInstanceNorm2d()) == "LazyInstanceNorm2d(0, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"
    )


def test_a_hook_on_a_placeholder_stays():
    layer = nn.LazyInstanceNorm1d()
    layer.bias.register_hook(lambda g: 10 * g)
    layer(mt.randn(2, 3, 4)).sum().backward()
    assert layer.bias.grad.tolist() == [80.0, 80.0, 80.0]
