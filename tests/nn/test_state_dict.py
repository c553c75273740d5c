"""State dicts: what is in them, what is taken over, and what is told when it does not fit."""

from __future__ import annotations

import copy
import pickle
import re
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modules import Affine, Mixed, Pair, both, family

import minitensor as mt
from minitensor import nn
from minitensor.errors import StateDictError
from minitensor.nn import ModuleList, Sequential


def test_state_travels():
    one, other = Pair(), Pair()
    for parameter in one.parameters():
        parameter.data = np.full(parameter.shape, 7.0)
    saved = one.state_dict()
    one.scale.data = [0.0]
    assert saved["scale"].item() == 7, "a state dict is a snapshot"
    assert not saved["scale"].requires_grad
    result = other.load_state_dict(saved)
    assert result == ([], [])
    assert repr(result) == "<All keys matched successfully>"
    assert other.second.bias.tolist() == [7.0, 7.0]
    assert other.second.bias.requires_grad


def test_the_dict_tells_versions_by_path(torch_says):
    def program(lib):
        top = family(lib)
        type(top.body[0])._version = 3
        held = top.state_dict()
        below = top.body.state_dict(prefix="x.")
        into = OrderedDict(a=1)
        assert top.state_dict(destination=into) is into
        return [
            " ".join(f"{path}:{told['version']}" for path, told in held._metadata.items()),
            " ".join(f"{path}:{told['version']}" for path, told in below._metadata.items()),
            " ".join(into),
        ]

    theirs, ours = both(torch_says, program)
    assert ours == theirs
    held = family(mt).state_dict()
    assert isinstance(held, OrderedDict)
    assert copy.deepcopy(held)._metadata == pickle.loads(pickle.dumps(held))._metadata == held._metadata


def test_keep_vars_gives_the_parameters_themselves():
    pair = Pair()
    assert pair.state_dict(keep_vars=True)["first.bias"] is pair.first.bias


def test_loading_keeps_the_objects():
    pair = Pair()
    pair.second.weight = pair.first.weight
    scale, version = pair.scale, pair.state_dict()
    version["scale"] = mt.tensor([4.0])
    pair.load_state_dict(version)
    assert pair.scale is scale
    assert scale.item() == 4
    assert pair.second.weight is pair.first.weight


class Exporting:
    """An array of somebody else's: it has ``__dlpack__`` and is no NumPy array."""

    def __init__(self, values, **attributes):
        self.values = values
        self.__dict__.update(attributes)

    def __dlpack__(self, **asked):
        return self.values.__dlpack__(**asked)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Converting:
    """And one that has ``__array__`` only."""

    def __array__(self, dtype=None, copy=None):
        return np.array([5.0, 6.0])


class Learned:
    """A tensor that requires grad, as PyTorch's are in ``dict(model.named_parameters())``."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach first")

    def detach(self):
        return Exporting(np.array([5.0, 6.0]))


@pytest.mark.parametrize(
    "value",
    [
        mt.tensor([5.0, 6.0], np.float64),
        nn.Parameter([5.0, 6.0]),
        np.array([5.0, 6.0]),
        np.array([5, 6]),
        np.array([5.0, 6.0], np.float32),
        [5, 6],
        Exporting(np.array([5.0, 6.0], np.float32)),
        Exporting(np.array([5.0, 6.0], np.float16)),
        Converting(),
        Learned(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_of_every_kind_are_cast_and_copied(value):
    affine = Affine()
    affine.load_state_dict({"weight": value, "bias": [1, 2], "calls": mt.ones(1)})
    assert (affine.weight.dtype, affine.weight.tolist(), affine.bias.tolist()) == (np.float32, [5.0, 6.0], [1.0, 2.0])
    assert affine.weight.requires_grad
    given = getattr(value, "values", value)
    if isinstance(given, np.ndarray):
        given[...] = 0
        assert affine.weight.tolist() == [5.0, 6.0]


def test_arrays_cross_devices(cupy):
    here, there = Affine(), Affine().cuda()
    there.weight.data = [5.0, 6.0]
    here.load_state_dict(there.state_dict())
    assert (here.weight.device, here.weight.tolist()) == ("cpu", [5.0, 6.0])
    there.load_state_dict({"weight": np.ones(2), "bias": there.bias._array, "calls": Exporting(there.calls._array)})
    assert (there.weight.device, there.weight.tolist()) == ("cuda:0", [1.0, 1.0])
    there.load_state_dict(here.state_dict(), assign=True)
    assert (there.weight.device, there.weight.tolist()) == ("cpu", [5.0, 6.0])
    mt.set_default_device("cuda")
    there.load_state_dict({"weight": np.ones(2)}, strict=False, assign=True)
    assert there.weight.device == "cpu", "where the array was, whatever new Tensors get"


def test_assigning_takes_the_given_dtypes():
    affine = Affine()
    affine(mt.ones(2)).sum().backward()
    weight, bias = affine.weight, affine.bias
    bias.requires_grad = False
    affine.load_state_dict({"weight": np.array([5.0, 6.0]), "bias": np.array([1, 2]), "calls": mt.tensor([1])}, assign=True)
    assert affine.weight is weight
    assert (weight.dtype, weight.tolist(), weight.requires_grad, weight.grad) == (np.float64, [5.0, 6.0], True, None)
    assert (bias.dtype, bias.requires_grad, affine.calls.dtype) == (np.int64, False, np.int64)
    (affine.weight * 2).sum().backward()
    assert weight.grad.dtype == np.float64
    with pytest.raises(StateDictError, match="'weight': requires grad, which int64 cannot"):
        affine.load_state_dict({"weight": np.array([5, 6])}, strict=False, assign=True)


def everything(module):
    return [(name, value.tolist(), value.dtype) for name, value in module.state_dict().items()]


def test_everything_that_does_not_fit_is_told_at_once_and_nothing_changes():
    pair = Pair()
    given = pair.state_dict()
    del given["scale"], given["second.calls"]
    given |= {
        "first.weight": mt.full((2,), 9.0),
        "first.bias": mt.ones(3),
        "first.calls": "a string",
        "second.wieght": given.pop("second.weight"),
        "second.bias": np.ones(2, np.complex64),
        "stranger": mt.ones(1),
    }
    before = everything(pair)
    with pytest.raises(StateDictError) as caught:
        pair.load_state_dict(given)
    assert str(caught.value).split("\n") == [
        "load_state_dict of Pair: nothing was changed, because",
        "  missing: 'scale', 'second.weight', 'second.calls'",
        "  unexpected: 'second.wieght' (did you mean 'second.weight'?), 'stranger'",
        "  'first.bias': shape (2,) here, (3,) given",
        "  'first.calls': str cannot be read as an array: tensor: numbers are needed, got dtype <U8",
        "  'second.bias': float32 here, and complex64 given, which does not fit into it",
    ]
    assert everything(pair) == before
    with pytest.raises(StateDictError) as caught:
        pair.load_state_dict(given, strict=False)
    assert "stranger" not in str(caught.value), "names are no error without strict"
    assert "'first.bias': shape" in str(caught.value)
    assert everything(pair) == before
    for name in ("first.bias", "first.calls", "second.bias"):
        del given[name]
    missing = ["scale", "first.bias", "first.calls", "second.weight", "second.bias", "second.calls"]
    result = pair.load_state_dict(given, strict=False)
    assert result == (missing, ["second.wieght", "stranger"])
    assert repr(result).startswith("IncompatibleKeys(missing_keys=['scale', ")
    assert pair.first.weight.tolist() == [9.0, 9.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType cannot be read as an array"),
        ({}, "a dict cannot be read as an array"),
        ([[1.0], [1.0, 2.0]], "inhomogeneous"),
        (np.array([None, None]), "got dtype object"),
        (np.ma.masked_array([1.0, 2.0]), "MaskedArray is not a plain array"),
        pytest.param(Exporting(SimpleNamespace(__dlpack__=None, __dlpack_device__=lambda: (8, 0))), "device type 8", id="elsewhere"),
        (np.float64(3.0), r"shape \(2,\) here, \(\) given"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_taken_over_is_told(value, message):
    with pytest.raises(StateDictError, match=f"'weight': .*{message}"):
        Affine().load_state_dict({"weight": value, "bias": [1, 2], "calls": [1.0]})


def test_python_floats_keep_their_digits():
    affine = Affine().double()
    affine.load_state_dict({"weight": [0.1, 0.2]}, strict=False)
    assert affine.weight.tolist() == [0.1, 0.2]


def test_numbers_are_not_truncated_in_silence():
    mixed = Mixed()
    with pytest.raises(StateDictError, match="'steps': int64 here, and float64 given, which does not fit into it"):
        mixed.load_state_dict({"steps": np.array(2.5)}, strict=False)


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (
            lambda held: {f"module.{name}": value for name, value in held.items()},
            "every name begins with 'module.', as DataParallel writes them: "
            "load_state_dict({name.removeprefix('module.'): value for name, value in state.items()})",
        ),
        (
            lambda held: {f"net.body.{name}": value for name, value in held.items()},
            "every name begins with 'net.body.': load_state_dict({name.removeprefix('net.body.')",
        ),
        (
            lambda held: {name.removeprefix("first."): value for name, value in held.items() if name.startswith("first.")},
            "the names lack 'first.': get_submodule('first').load_state_dict(state)",
        ),
        (lambda held: {"epoch": 3, "model": held}, "the values stand one level deeper: load_state_dict(state['model'])"),
        (lambda held: {"state_dict": held}, "the values stand one level deeper: load_state_dict(state['state_dict'])"),
        (
            lambda held: {name: value for name, value in held.items() if name != "first.bias"},
            "strict=False takes over the 6 that fit and leaves the rest as it is",
        ),
    ],
)
def test_the_likely_fix_is_told_and_is_one(change, fix):
    pair = Pair()
    given, module = change(pair.state_dict()), Sequential(OrderedDict(first=pair.first)) if "lack" in fix else pair
    with pytest.raises(StateDictError) as caught:
        module.load_state_dict(given)
    assert fix in str(caught.value)
    if code := re.search(r"(get_submodule\(.*\)\.)?load_state_dict\(.*\)$", str(caught.value)):
        assert eval(f"module.{code[0]}", {"module": module, "state": given}) == ([], [])


def test_what_a_layer_adds_to_a_state_is_not_counted_as_given():
    layer = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    with pytest.raises(StateDictError, match="strict=False takes over the 1 that fit and"):
        layer.load_state_dict({"weight": np.ones(3)})


def test_where_nothing_fits_no_fix_is_told():
    with pytest.raises(StateDictError) as caught:
        Pair().load_state_dict({"other": mt.ones(1)})
    assert "strict=False" not in str(caught.value)
    with pytest.raises(StateDictError, match="missing: 'scale'"):
        Pair().load_state_dict({})


def test_of_many_names_the_first_are_told():
    many = Sequential(*(Affine() for _ in range(10)))
    with pytest.raises(StateDictError, match=r"'6\.bias', and 10 more\n  unexpected: 'x0', .*'x19', and 5 more"):
        many.load_state_dict({f"x{i}": 1.0 for i in range(25)})


def test_a_checkpoint_of_pytorch_is_loaded_as_it_is():
    torch = pytest.importorskip("torch", reason="its Tensors themselves are loaded here; those of the stand-ins above are in every run")
    theirs = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.InstanceNorm2d(3, affine=True)).double()
    ours = Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, affine=True))
    torch.nn.init.normal_(theirs[0].weight)
    for held in (theirs.state_dict(), theirs.state_dict(keep_vars=True)):
        assert ours.load_state_dict(held) == ([], [])
        np.testing.assert_array_equal(ours[0].weight.detach().numpy(), theirs[0].weight.detach().numpy().astype(np.float32))
        assert ours.load_state_dict(held, assign=True) == ([], [])
        np.testing.assert_array_equal(ours[0].weight.detach().numpy(), theirs[0].weight.detach().numpy())
        ours.float()
    with pytest.raises(StateDictError, match=r"'0.weight': torch.bfloat16 \(3,\) cannot be read as an array"):
        ours.load_state_dict(theirs.bfloat16().state_dict())


@pytest.mark.parametrize("given", [None, [("weight", 1.0)], mt.ones(2), {1: mt.ones(2)}], ids=str)
def test_what_is_no_state_dict_is_refused(given):
    with pytest.raises(TypeError, match="load_state_dict of Affine: a dict of names and arrays is needed, got"):
        Affine().load_state_dict(given)


class Renaming(Affine):
    """Version 2 says weight where version 1 said gamma; there was no bias before versions were written."""

    _version = 2
    seen: list[tuple[str, int | None]]

    def _adapt_state(self, state, prefix, version):
        Renaming.seen.append((prefix, version))
        if version is None:
            state.setdefault(f"{prefix}bias", np.zeros(2))
        if version == 1:
            state[f"{prefix}weight"] = state.pop(f"{prefix}gamma")
        return [f"{prefix}: too new"] if version == 3 else []


@pytest.fixture
def renaming():
    Renaming.seen = []
    return Sequential(Renaming(), Sequential(Renaming()))


def test_layers_adapt_an_older_state(renaming):
    given = renaming.state_dict()
    given["1.0.gamma"] = mt.full((2,), 8.0)
    del given["1.0.weight"]
    given._metadata["1.0"]["version"] = 1
    before = dict(given)
    renaming.load_state_dict(given)
    assert renaming[1][0].weight.tolist() == [8.0, 8.0]
    assert Renaming.seen == [("0.", 2), ("1.0.", 1)]
    assert dict(given).keys() == before.keys(), "a copy was edited"
    Renaming.seen.clear()
    renaming.load_state_dict({name: value for name, value in renaming.state_dict().items() if not name.endswith("bias")})
    assert Renaming.seen == [("0.", None), ("1.0.", None)]
    given = renaming.state_dict()
    given._metadata["0"]["version"] = 3
    with pytest.raises(StateDictError, match=r"0\.: too new"):
        renaming.load_state_dict(given, strict=False)


class Growing(nn.Module):
    """Lazy in every way: parameters, a buffer and a child appear, one parameter is materialised, and the class changes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.UninitializedParameter()
        self.register_parameter("bias", None)
        self.size = None

    def _adapt_state(self, state, prefix, version):
        self.size = len(state[f"{prefix}weight"])
        self.weight.materialize(mt.zeros(self.size))
        self.bias = nn.Parameter(mt.zeros(self.size))
        self.register_buffer("count", mt.zeros(1), persistent=False)
        self.child = Affine()
        self.register_forward_hook(lambda *told: None)
        self.__class__ = Grown
        return super()._adapt_state(state, prefix, version)


class Grown(Growing):
    _adapt_state = nn.Module._adapt_state


def test_a_lazy_layer_is_made_whole_by_what_is_loaded():
    layer = Growing()
    weight = layer.weight
    layer.load_state_dict({"weight": [1.0, 2.0, 3.0], "bias": [4.0, 5.0, 6.0]} | Affine().state_dict(prefix="child."))
    assert type(layer) is Grown
    assert layer.weight is weight
    assert (layer.weight.tolist(), layer.bias.tolist(), layer.child.weight.tolist()) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [1.0, 1.0])


@pytest.mark.parametrize("also", [{"bias": [4.0, 5.0]}, {"bias": [4.0, 5.0, 6.0]}, {"stranger": 1.0}])
def test_a_lazy_layer_stays_lazy_when_the_load_fails(also):
    both_kinds = Sequential(Affine(), Growing())
    layer = both_kinds[1]
    weight, handle = layer.weight, layer.register_forward_pre_hook(lambda *told: None)
    with pytest.raises(StateDictError):
        both_kinds.load_state_dict({"0.weight": [7.0, 7.0], "1.weight": [1.0, 2.0, 3.0]} | {f"1.{name}": v for name, v in also.items()})
    assert type(layer) is Growing
    assert layer.weight is weight
    assert (type(weight), weight.shape, layer.size, layer.bias) == (nn.UninitializedParameter, (0,), None, None)
    assert not hasattr(layer, "child")
    assert not hasattr(layer, "count")
    assert both_kinds[0].weight.tolist() == [1.0, 1.0]
    assert len(layer._module_hooks) == 1
    handle.remove()
    assert not layer._module_hooks, "the dict that the handle knows is the one that was put back"
    with pytest.raises(KeyError):
        layer.load_state_dict({})  # an error of the layer's own
    assert type(layer) is Growing


@given(st.recursive(st.integers(1, 3), lambda inner: st.lists(inner, max_size=3), max_leaves=8), st.data())
def test_any_tree_survives_copies_and_state_dicts(shape, data):
    """Trees of modules with parameters shared at random: names, sharing and values."""
    weights = []

    def grown(shape):
        if isinstance(shape, list):
            return ModuleList(map(grown, shape))
        layer = Affine(shape)
        layer.weight = data.draw(st.sampled_from([layer.weight, *(w for w in weights if w.size == shape)]))
        layer.weight.data = np.full(shape, float(len(weights)))
        weights.append(layer.weight)
        return layer

    tree = grown(shape)
    twin = copy.deepcopy(tree)
    assert everything(twin) == everything(tree)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in tree.named_parameters()]
    assert len(list(tree.parameters())) == len({id(p) for _, p in tree.named_parameters(remove_duplicate=False)})
    for parameter in twin.parameters():
        parameter.data = np.full(parameter.shape, -1.0)
    assert all(value == -1.0 for name, values, _ in everything(twin) if name.endswith(("weight", "bias")) for value in values)
    twin.load_state_dict(tree.state_dict())
    assert everything(twin) == everything(tree)
