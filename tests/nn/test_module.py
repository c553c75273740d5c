"""Module and Parameter: registration, names, modes, saving."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minitensor as mt
from minitensor import nn
from minitensor.errors import ShapeError


class Affine(nn.Module):
    def __init__(self, n=2):
        super().__init__()
        self.weight = nn.Parameter(mt.ones(n))
        self.bias = nn.Parameter(mt.zeros(n))
        self.register_buffer("calls", mt.zeros(1))

    def forward(self, x):
        return self.weight * x + self.bias


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Affine()
        self.second = Affine()
        self.scale = nn.Parameter([3.0])

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def test_attributes_are_registered_by_kind():
    pair = Pair()
    assert [name for name, _ in pair.named_parameters()] == ["scale", "first.weight", "first.bias", "second.weight", "second.bias"]
    assert [name for name, _ in pair.named_buffers()] == ["first.calls", "second.calls"]
    assert len(list(pair.parameters())) == 5


def test_a_shared_parameter_is_named_once():
    pair = Pair()
    pair.second.weight = pair.first.weight
    assert "second.weight" not in dict(pair.named_parameters())


def test_a_name_keeps_its_room():
    affine = Affine()
    affine.bias = None
    assert [name for name, _ in affine.named_parameters()] == ["weight"]
    with pytest.raises(TypeError, match="'weight' is a parameter"):
        affine.weight = mt.ones(2)
    with pytest.raises(TypeError, match="'calls' is a buffer"):
        affine.calls = 3
    affine.calls = mt.ones(1)
    assert affine.state_dict()["calls"].item() == 1
    affine.calls = nn.Parameter([1.0])
    assert "calls" in dict(affine.named_parameters())
    assert "calls" not in dict(affine.named_buffers())
    del affine.calls
    assert not hasattr(affine, "calls")


def test_forgetting_super_is_told():
    class Forgetful(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter([1.0])

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Forgetful()


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="no forward"):
        nn.Module()(1)


def test_modes_reach_every_module():
    pair = Pair()
    assert pair.eval() is pair
    assert not any((pair.training, pair.first.training, pair.second.training))
    pair.train()
    assert pair.second.training


def test_gradients_gather_and_are_forgotten():
    pair = Pair()
    pair(mt.ones(2)).sum().backward()
    assert all(parameter.grad is not None for parameter in pair.parameters())
    pair.zero_grad()
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_state_travels():
    one, other = Pair(), Pair()
    for parameter in one.parameters():
        parameter.data = np.full(parameter.shape, 7.0)
    state = one.state_dict()
    one.scale.data = [0.0]
    assert state["scale"].item() == 7, "a state dict is a snapshot"
    result = other.load_state_dict(state)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert other.second.bias.tolist() == [7.0, 7.0]
    assert other.second.bias.requires_grad


def test_loading_is_strict_and_changes_nothing_when_it_fails():
    pair = Pair()
    state = pair.state_dict() | {"stranger": mt.ones(1)}
    del state["scale"]
    with pytest.raises(KeyError, match=r"missing \['scale'\], unexpected \['stranger'\]"):
        pair.load_state_dict(state)
    state["first.weight"] = mt.full((2,), 9.0)
    state["first.bias"] = mt.ones(3)
    with pytest.raises(ShapeError, match=r"first.bias: float32 \(2,\) here, float32 \(3,\) given"):
        pair.load_state_dict(state, strict=False)
    assert pair.first.weight.tolist() == [1.0, 1.0]
    del state["first.bias"]
    assert pair.load_state_dict(state, strict=False) == (["first.bias", "scale"], ["stranger"])
    assert pair.first.weight.tolist() == [9.0, 9.0]


def test_loading_casts_to_the_modules_dtype():
    affine = Affine()
    affine.load_state_dict({"weight": np.ones(2) * 2, "bias": [1, 2], "calls": mt.ones(1)})
    assert (affine.weight.dtype, affine.bias.tolist()) == (np.float32, [1.0, 2.0])


def test_copies_are_deep():
    pair = Pair()
    for twin in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        twin.scale.data = [0.0]
        assert pair.scale.item() == 3
        assert isinstance(twin.scale, nn.Parameter)
        assert twin.scale.requires_grad


def test_repr_nests():
    assert repr(Pair()) == "Pair(\n  (first): Affine()\n  (second): Affine()\n)"


def test_parameter():
    parameter = nn.Parameter([1.0])
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert type(parameter * 2) is mt.Tensor
    assert repr(parameter) == "Parameter containing:\ntensor([1.], requires_grad=True)"
