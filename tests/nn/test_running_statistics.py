"""Running statistics: how they move, when they stay, and what eval mode makes of them."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np
import pytest
from norm_table import EPS, TRACKING, UNBATCHED, asked, assert_rounded, in_torch, made, numbers, per_element, torch_layer

import minitensor as mt
from minitensor import nn
from minitensor.errors import StateDictError
from minitensor.nn import functional
from minitensor.nn.norm import functional as norm_functional
from minitensor.nn.norm import layout

MOMENTA = [0.3, 0.0, 1.0, -0.5, None]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
every_row = pytest.mark.parametrize("row", TRACKING.values(), ids=TRACKING)


def tracking(row, **options):
    return made(row, track_running_stats=True, **options)


def kept(layer):
    """The running statistics and the count."""
    return {name: buffer.numpy().copy() for name, buffer in layer.named_buffers()}


# -- against PyTorch ---------------------------------------------------------------------------------------------------------------


@every_row
@pytest.mark.parametrize("momentum", MOMENTA)
def test_two_batches_and_then_eval(row, momentum, torch_says):
    """The statistics after two batches, and what eval mode makes of them: values and gradients, by three ways and in three dtypes."""
    first, second = numbers(row).x, numbers(row, seed=6).x
    g = numbers(row).g

    def in_pytorch(torch):
        layer = torch_layer(torch, row, track_running_stats=True, momentum=momentum)
        for x in (first, second):
            layer(torch.tensor(x))
        if momentum == -0.5:  # which may make the variance negative
            return {name: getattr(layer, name) for name in BUFFERS}
        return {name: getattr(layer, name) for name in BUFFERS} | in_torch(torch, row, layer.eval(), second, g)

    expected = torch_says(in_pytorch)
    for way in ("analytic", "autograd", "own"):
        layer = tracking(row, momentum=momentum, backward=way)
        for x in (first, second):
            layer(mt.tensor(x))
        for name in BUFFERS:
            np.testing.assert_allclose(getattr(layer, name).numpy(), expected[name], rtol=1e-12, atol=1e-12)
        if "y" not in expected:
            continue
        for traced in (False, True):
            for part, value in asked(layer.eval(), second, g, traced).items():
                assert_rounded(value, expected[part], f"{part} {way} {traced=}")


@every_row
def test_switched_off_after_the_layer_was_made(row, torch_says):
    """BatchNorm leaves its statistics alone, InstanceNorm moves them all the same; in eval the former uses them, the latter does not."""

    def trained(layer, x):
        layer.track_running_stats = False
        y = layer(x)
        return y, layer.num_batches_tracked, layer.eval()(x), layer.running_mean

    x = numbers(row).x
    expected = torch_says(lambda torch: trained(torch_layer(torch, row, track_running_stats=True), torch.tensor(x)))
    for value, answer in zip(trained(tracking(row), mt.tensor(x)), expected, strict=True):
        np.testing.assert_allclose(value.detach().numpy(), answer, rtol=1e-12, atol=1e-12)


# -- against plain loops -----------------------------------------------------------------------------------------------------------


def moves_fit(row):
    """One step from 0 and 1 by 0.3: the means, and the *unbiased* variances of the slices, averaged over the batch where it has several."""
    layer, x = tracking(row, momentum=0.3), numbers(row).x
    layer(mt.tensor(x))
    slices = [defaultdict(list) for _ in range(3)]  # of each channel
    for i in np.ndindex(x.shape):
        slices[row.where.parameter_of(i)][row.where.slice_of(i)].append(x[i])
    mean, var = ([np.mean([f(s) for s in each.values()]) for each in slices] for f in (np.mean, lambda s: np.var(s, ddof=1)))
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.3 * np.array(mean), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.7 + 0.3 * np.array(var), rtol=1e-12)


@every_row
def test_moves_are_those_of_plain_loops(row):
    moves_fit(row)


@every_row
def test_eval_is_an_affine_map_by_the_running_statistics(row):
    """In every dtype rounded once, and the statistics stay."""
    layer, (x, weight, bias, _) = tracking(row).eval(), numbers(row)
    mean, var = np.array([0.25, -1.5, 3.0]), np.array([0.5, 2.0, 1.25])
    exact = per_element(row, weight) * (x - per_element(row, mean)) / np.sqrt(per_element(row, var) + EPS) + per_element(row, bias)
    for dtype in (np.float64, np.float32, np.float16):
        layer.to(dtype)
        with mt.no_grad():
            layer.running_mean[...], layer.running_var[...] = mean, var
        assert_rounded(layer(mt.tensor(x, dtype)).detach().numpy(), exact, str(dtype))
        np.testing.assert_array_equal(layer.running_mean.numpy(), mean)


@every_row
def test_without_eps_a_channel_that_never_varied_gives_the_bias(row):
    layer, x = tracking(row, eps=0.0, dtype=np.float32).eval(), mt.tensor(numbers(row).x, np.float32, requires_grad=True)
    layer.running_var[...] = 0.0
    y = layer(x)
    y.backward(mt.tensor(numbers(row).g))
    np.testing.assert_array_equal(y.detach().numpy(), per_element(row, layer.bias.detach().numpy()))
    assert not x.grad.numpy().any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@every_row
def test_narrow_buffers_are_rounded_once_per_step(row, dtype):
    layer, x = tracking(row, dtype=dtype, momentum=0.3), numbers(row).x
    mean, var = (np.array(buffer.tolist()) for buffer in (layer.running_mean, layer.running_var))
    for _ in range(2):
        exact = tracking(row, momentum=0.3)
        exact.running_mean[...], exact.running_var[...] = mean, var
        exact(mt.tensor(x))
        layer(mt.tensor(x, dtype))
        mean, var = layer.running_mean.numpy(), layer.running_var.numpy()
        assert mean.dtype == var.dtype == dtype
        assert_rounded(mean, exact.running_mean.numpy())
        assert_rounded(var, exact.running_var.numpy())


def test_large_offsets_and_squares_cost_no_digits(rng):
    """The variance of 1e6 + N(0, 1), and of numbers whose squares float32 cannot hold, if float64 buffers keep it."""
    for kind, scale, offset in [(kind, *each) for kind in (nn.InstanceNorm1d, nn.BatchNorm1d) for each in ((1.0, 1e6), (1e25, 0.0))]:
        x = (offset + scale * rng.normal(size=(1, 2, 48))).astype(np.float32)
        layer = kind(2, momentum=1.0, track_running_stats=True, dtype=np.float64)
        layer(mt.tensor(x))
        exact = x.astype(np.longdouble)
        np.testing.assert_allclose(layer.running_mean.numpy(), exact.mean((0, 2)).astype(float), rtol=1e-12)
        np.testing.assert_allclose(layer.running_var.numpy(), exact.var((0, 2), ddof=1).astype(float), rtol=1e-12)


# -- when they move, and when they stay --------------------------------------------------------------------------------------------


@every_row
def test_they_move_in_place_also_under_no_grad_and_carry_no_gradient(row):
    layer, x = tracking(row), mt.tensor(numbers(row).x, requires_grad=True)
    buffers, before = dict(layer.named_buffers()), kept(layer)
    with mt.no_grad():
        layer(x)
    once = kept(layer)
    y = layer(x)
    y.backward(mt.ones_like(y))
    assert all(getattr(layer, name) is buffer for name, buffer in buffers.items()), "an outside holder sees them move"
    assert not any(buffer.requires_grad or buffer.grad is not None for buffer in buffers.values())
    for name in ("running_mean", "running_var"):
        assert (once[name] != before[name]).all()
        assert (buffers[name].numpy() != once[name]).all()


@every_row
def test_training_does_not_look_at_them(row):
    layer, x = tracking(row, momentum=0.0), mt.tensor(numbers(row).x)
    expected = layer(x).tolist()
    layer.running_mean[...], layer.running_var[...] = 1e30, -1.0
    assert layer(x).tolist() == expected


@every_row
def test_eval_and_empty_batches_leave_them(row):
    layer = tracking(row)
    layer(mt.tensor(numbers(row).x))
    before = kept(layer)
    layer.eval()(mt.tensor(numbers(row).x))
    layer.train()
    if row.where is not UNBATCHED:
        layer(mt.zeros(0, *row.shape[1:]))
    if row.kind is not nn.BatchNorm1d:
        layer(mt.zeros(*row.shape[:-1], 0))
    np.testing.assert_equal(kept(layer), before)


FAILING = {
    "channels": lambda layer, row: layer(mt.zeros(*(n + 1 for n in row.shape))),
    "rank": lambda layer, row: layer(mt.zeros(*row.shape, 2, 2)),
    "integers": lambda layer, row: layer(mt.zeros(*row.shape).astype(int)),
    "one element": lambda layer, row: layer(mt.zeros(1, 3, *(1 for _ in layer.spatial))),
    "weight": lambda layer, row: (setattr(layer, "weight", nn.Parameter([1.0, 2.0])), layer(mt.zeros(*row.shape))),
    "eps": lambda layer, row: (setattr(layer, "eps", -1.0), layer(mt.zeros(*row.shape))),
    "momentum": lambda layer, row: (setattr(layer, "momentum", "fast"), layer(mt.zeros(*row.shape))),
    "backward": lambda layer, row: (setattr(layer, "backward", "both"), layer(mt.zeros(*row.shape))),
    "gradient": lambda layer, row: (setattr(layer.running_var, "requires_grad", True), layer(mt.zeros(*row.shape))),
}


@every_row
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_a_call_that_fails_leaves_them(row, failing):
    layer = tracking(row)
    layer(mt.tensor(numbers(row).x))
    before = kept(layer)
    with pytest.raises((TypeError, ValueError)):
        failing(layer, row)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(layer, name).detach().numpy(), value)


def test_the_functional_forms_move_what_they_are_given():
    x, mean, var = mt.tensor(np.random.default_rng(0).normal(size=(4, 3, 5))), mt.zeros(3), mt.ones(3)
    functional.instance_norm(x, mean, var, use_input_stats=False)
    functional.batch_norm(x, mean, var)
    assert (mean.tolist(), var.tolist()) == ([0.0] * 3, [1.0] * 3)
    functional.instance_norm(x, mean, var, momentum=1.0)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), x.numpy().var(2, ddof=1).mean(0), rtol=1e-6)
    functional.batch_norm(x, mean, var, training=True, momentum=1.0)
    np.testing.assert_allclose(var.numpy(), x.numpy().var((0, 2), ddof=1), rtol=1e-6)


def test_without_momentum_batch_norm_keeps_the_average_and_goes_on_counting_from_a_checkpoint(rng):
    batches = rng.normal(size=(5, 4, 3, 7)) + 3
    layer = nn.BatchNorm1d(3, momentum=None, dtype=np.float64)
    for x in batches[:3]:
        layer(mt.tensor(x))
    other = nn.BatchNorm1d(3, momentum=None, dtype=np.float64)
    other.load_state_dict(layer.state_dict())
    for x in batches[3:]:
        other(mt.tensor(x))
    assert other.num_batches_tracked.item() == 5
    np.testing.assert_allclose(other.running_mean.numpy(), batches.mean((0, 1, 3)), rtol=1e-12)
    np.testing.assert_allclose(other.running_var.numpy(), batches.var((1, 3), ddof=1).mean(0), rtol=1e-12)
    other.reset_running_stats()
    assert {name: value.tolist() for name, value in other.named_buffers()} == {
        "running_mean": [0.0] * 3, "running_var": [1.0] * 3, "num_batches_tracked": 0,
    }  # fmt: skip


def test_a_layer_whose_statistics_were_taken_away():
    """Training works, eval of InstanceNorm says what is missing, eval of BatchNorm uses the batch's, as PyTorch's do."""
    x = mt.tensor(np.random.default_rng(0).normal(size=(2, 3, 7)))
    instance, batch = (kind(3, track_running_stats=True) for kind in (nn.InstanceNorm1d, nn.BatchNorm1d))
    for layer in (instance, batch):
        layer.running_mean = layer.running_var = None
        expected = layer(x)
    np.testing.assert_array_equal(batch.eval()(x).detach().numpy(), expected.detach().numpy())
    with pytest.raises(ValueError, match=r"without use_input_stats, running_mean and running_var are needed"):
        instance.eval()(x)


# -- old checkpoints ---------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_from_before_batches_were_counted():
    layer = nn.BatchNorm1d(2)
    layer(mt.randn(3, 2, 5))
    layer.load_state_dict({name: value for name, value in nn.BatchNorm1d(2).state_dict().items() if name != "num_batches_tracked"})
    assert (layer.num_batches_tracked.item(), layer.running_var.tolist()) == (1, [1.0, 1.0])
    new = layer.state_dict()
    del new["num_batches_tracked"]
    with pytest.raises(StateDictError, match="num_batches_tracked"):
        layer.load_state_dict(new)


def test_a_checkpoint_from_the_time_when_instance_norm_always_tracked():
    """Without versions it is refused even when not strict, with the two ways out; with a version the keys are merely unexpected."""
    state = nn.InstanceNorm2d(3, track_running_stats=True).state_dict()
    with pytest.raises(StateDictError, match=r"running_mean, running_var.*track_running_stats=True.*delete"):
        nn.InstanceNorm2d(3).load_state_dict(dict(state), strict=False)
    assert nn.InstanceNorm2d(3).load_state_dict(state, strict=False).unexpected_keys == list(BUFFERS)


# -- planted mistakes ----------------------------------------------------------------------------------------------------------------


def biased(move, mean, var, x, where, momentum):
    old = (1 - momentum) * var.numpy()
    move(mean, var, x, where, momentum)
    var[...] = old + (var.numpy() - old) * (where.m - 1) / where.m


def pooled(move, mean, var, x, where, momentum):
    """What another library does for InstanceNorm."""
    move(mean, var, x, layout.per_channel(x.shape), momentum)


def forgetful(move, mean, var, x, where, momentum):
    move(mean, var, x, where, 1.0)


@pytest.mark.parametrize("planted", [biased, pooled, forgetful])
@pytest.mark.parametrize("name", ["InstanceNorm2d", "BatchNorm2d"])
def test_statistics_that_move_otherwise_are_noticed(planted, name, monkeypatch):
    monkeypatch.setattr(norm_functional, "_move", partial(planted, norm_functional._move))
    if (planted, name) == (pooled, "BatchNorm2d"):
        moves_fit(TRACKING[name])  # which pools the batch
        return
    with pytest.raises(AssertionError, match="Not equal"):
        moves_fit(TRACKING[name])
