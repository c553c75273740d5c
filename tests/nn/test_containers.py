"""Sequential, ModuleList and ModuleDict: what a list and a dict can do, with PyTorch's names."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
from modules import Affine, both

import minitensor as mt
from minitensor import nn
from minitensor.nn import ModuleDict, ModuleList, Sequential


def numbered(lib, *numbers):
    """Modules that can be told apart: one parameter each, of so many elements."""

    class Numbered(lib.nn.Module):
        def __init__(self, number):
            super().__init__()
            self.number = number
            self.weight = lib.nn.Parameter(lib.ones(number))

        def forward(self, x):
            return 10 * x + self.number

        def extra_repr(self):
            return str(self.number)

    return [Numbered(number) for number in numbers]


def told(container):
    """The names in the state dict, and what a list or dict of it would be."""
    names = " ".join(container.state_dict())
    inside = container.items() if hasattr(container, "items") else enumerate(container)
    return f"{names} | {len(container)} | {' '.join(f'{key}:{module.number}' for key, module in inside)}"


LISTED = {
    "append": lambda c, m: c.append(m[3]),
    "append twice": lambda c, m: c.append(m[3]).append(m[4]),
    "extend": lambda c, m: c.extend(m[3:]),
    "extend by what it has": lambda c, m: c.extend(list(c)),
    "insert at 0": lambda c, m: c.insert(0, m[3]),
    "insert at 1": lambda c, m: c.insert(1, m[3]),
    "insert at the end": lambda c, m: c.insert(3, m[3]),
    "set": lambda c, m: c.__setitem__(1, m[3]),
    "set the last": lambda c, m: c.__setitem__(-1, m[3]),
    "delete": lambda c, m: c.__delitem__(0),
    "delete the last": lambda c, m: c.__delitem__(-1),
    "delete a slice": lambda c, m: c.__delitem__(slice(0, 2)),
    "delete every other": lambda c, m: c.__delitem__(slice(None, None, 2)),
    "pop": lambda c, m: c.pop(0),
    "pop the last": lambda c, m: c.pop(-1),
    "pop a slice": lambda c, m: c.pop(slice(1, None)),
    "index": lambda c, m: c[1],
    "negative index": lambda c, m: c[-3],
    "slice": lambda c, m: c[1:],
    "slice with a step": lambda c, m: c[::2],
    "empty slice": lambda c, m: c[5:],
    "reversed slice": lambda c, m: c[::-1],
    "add": lambda c, m: c + type(c)(*([m[3:]] if "List" in type(c).__name__ else m[3:])),
    "add in place": lambda c, m: c.__iadd__(type(c)(*([m[3:]] if "List" in type(c).__name__ else m[3:]))),
    "index out of range": lambda c, m: c[3],
    "negative index out of range": lambda c, m: c[-4],
    "set out of range": lambda c, m: c.__setitem__(3, m[3]),
    "delete out of range": lambda c, m: c.__delitem__(3),
    "set a number": lambda c, m: c.__setitem__(0, 3.0),
    "append a number": lambda c, m: c.append(3.0),
    "append a function": lambda c, m: c.append(len),
    "extend by a number": lambda c, m: c.extend(3),
    "index by a string": lambda c, m: c["0"],
    "index by a float": lambda c, m: c[1.0],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
@pytest.mark.parametrize("what", LISTED)
def test_lists_do_as_pytorchs(kind, what, torch_says):
    """What is returned, and what is inside afterwards, under which names."""

    def program(lib):
        modules = numbered(lib, 1, 2, 3, 4, 5)
        container = lib.nn.Sequential(*modules[:3]) if kind == "Sequential" else lib.nn.ModuleList(modules[:3])
        try:
            found = LISTED[what](container, modules)
        except Exception as error:
            return [next(each.__name__ for each in (IndexError, TypeError) if isinstance(error, each))]
        if what.startswith("insert"):
            found = None  # PyTorch's Sequential returns itself, its ModuleList does not
        found = f"{found.number}" if hasattr(found, "number") else found and f"{type(found).__name__} {told(found)}"
        return [told(container), str(found), str(container.training)]

    theirs, ours = both(torch_says, program)
    assert ours == theirs


@pytest.mark.parametrize("kind", [Sequential, ModuleList])
def test_what_a_list_refuses_leaves_it_as_it_was(kind):
    modules = numbered(mt, 1, 2, 3)
    container = kind(*modules) if kind is Sequential else kind(modules)
    before = told(container)
    for refused in (
        lambda: container.append(3),
        lambda: container.insert(0, 3),
        lambda: container.insert(4, Affine()),
        lambda: container.insert(-4, Affine()),
        lambda: container.insert(0, container),
        lambda: container.__setitem__(0, "module"),
    ):
        with pytest.raises((TypeError, IndexError, ValueError), match=kind.__name__):
            refused()
        assert told(container) == before


def test_sequential_runs_one_behind_the_other():
    model = Sequential(*numbered(mt, 1, 2, 3))
    assert model(0) == 123
    assert model[1:](0) == 23
    assert (model[:1] + model[2:])(0) == 13
    assert Sequential()(7) == 7


def test_sequential_takes_names_from_a_dict(torch_says):
    def program(lib):
        modules = numbered(lib, 1, 2, 3, 4)
        named = lib.nn.Sequential(OrderedDict(zip(["conv", "norm", "act"], modules[:3], strict=True)))
        lines = [told(named), told(named[1:]), str(named.conv is named[0])]
        named[1] = modules[3]
        lines.append(told(named))
        del named[0]
        return [*lines, told(named), *repr(named).split("\n")]

    theirs, ours = both(torch_says, program)
    assert ours == theirs


def test_a_module_dict_is_a_module_and_no_names():
    heads = ModuleDict({"a": Affine()})
    assert list(Sequential(heads).state_dict()) == ["0.a.weight", "0.a.bias", "0.a.calls"]


def test_a_slice_can_grow():
    """PyTorch's would lose its last module, whose name is taken over."""
    part = Sequential(*numbered(mt, 1, 2, 3))[1:]
    part.append(numbered(mt, 4)[0])
    assert told(part) == "0.weight 1.weight 2.weight | 3 | 0:2 1:3 2:4"


def test_shared_modules_stay_shared():
    model = Sequential(*numbered(mt, 1, 2))
    model.append(model[0])
    twin = copy.deepcopy(model)
    assert twin[2] is twin[0]
    assert len(list(twin.parameters())) == 2
    assert list(twin.state_dict()) == ["0.weight", "1.weight", "2.weight"]


def test_a_list_can_be_extended_by_itself():
    container = ModuleList(numbered(mt, 1, 2))
    container += container
    assert told(container) == "0.weight 1.weight 2.weight 3.weight | 4 | 0:1 1:2 2:1 3:2"


def test_membership_and_order_are_a_lists():
    modules = numbered(mt, 1, 2, 3)
    container = ModuleList(modules[:2])
    assert modules[1] in container
    assert modules[2] not in container
    assert list(reversed(container)) == modules[1::-1]
    assert told(container + modules[2:]) == "0.weight 1.weight 2.weight | 3 | 0:1 1:2 2:3"
    assert container.pop() is modules[1]
    assert ModuleList([None, modules[0]])[0] is None, "a place without a module, as in PyTorch"


def test_a_list_has_no_forward():
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        ModuleList()(1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Sequential([Affine()]), r"one by one: Sequential\(\*modules\)"),
        (lambda: Sequential(Affine(), len), "Sequential: module '1' must be a Module or None, got builtin_function_or_method"),
        (lambda: Sequential(Affine(), None), "Sequential: module '1' must be a Module, got None"),
        (lambda: Sequential(Affine()).add_module("x", None), "module 'x' must be a Module, got None"),
        (lambda: Sequential() + Affine(), r"Sequential \+ Affine: a Sequential is needed"),
        (lambda: ModuleList(Affine()), "ModuleList: several modules are needed, got Affine"),
        (lambda: ModuleList([mt.ones(2)]), r"ModuleList: module '0' must be a Module or None, got float32 \(2,\)"),
        (lambda: ModuleDict({"a": 3}), "ModuleDict: module 'a' must be a Module or None, got int"),
        (lambda: ModuleDict({3: Affine()}), "the name of a module must be a string, got 3"),
    ],
)
def test_what_is_no_module_is_told(wrong, message):
    with pytest.raises(TypeError, match=message):
        wrong()


DICTED = {
    "set": lambda d, m: d.__setitem__("c", m[2]),
    "set anew": lambda d, m: d.__setitem__("a", m[2]),
    "get": lambda d, m: d["b"],
    "delete": lambda d, m: d.__delitem__("a"),
    "pop": lambda d, m: d.pop("a"),
    "update": lambda d, m: d.update({"b": m[2], "c": m[3]}),
    "update by pairs": lambda d, m: d.update([("c", m[2]), ("a", m[3])]),
    "update by another": lambda d, m: d.update(type(d)({"z": m[2]})),
    "clear": lambda d, m: d.clear(),
    "contains": lambda d, m: ("a" in d, "z" in d),
    "keys": lambda d, m: " ".join(d.keys()),
    "values": lambda d, m: [module.number for module in d.values()],
    "get what is not there": lambda d, m: d["z"],
    "delete what is not there": lambda d, m: d.__delitem__("z"),
    "pop what is not there": lambda d, m: d.pop("z"),
    "a method's name": lambda d, m: d.__setitem__("keys", m[2]),
    "a dot": lambda d, m: d.__setitem__("a.b", m[2]),
    "no name": lambda d, m: d.__setitem__("", m[2]),
    "a number as a name": lambda d, m: d.__setitem__(3, m[2]),
    "a number": lambda d, m: d.__setitem__("c", 3.0),
    "update by a number": lambda d, m: d.update(3),
}


@pytest.mark.parametrize("what", DICTED)
def test_dicts_do_as_pytorchs(what, torch_says):
    def program(lib):
        modules = numbered(lib, 1, 2, 3, 4)
        container = lib.nn.ModuleDict({"b": modules[0], "a": modules[1]})
        try:
            found = DICTED[what](container, modules)
        except Exception as error:
            return [next(each.__name__ for each in (KeyError, TypeError) if isinstance(error, each))]
        return [told(container), str(getattr(found, "number", found)), *repr(container).split("\n")]

    theirs, ours = both(torch_says, program)
    assert ours == theirs


def test_a_dict_has_what_python_gives_a_mapping():
    first, second = numbered(mt, 1, 2)
    heads = ModuleDict([("a", first)])
    assert heads.get("z") is None
    assert heads.pop("z", second) is second
    assert heads.setdefault("b", second) is second
    assert heads != ModuleDict(heads), "two modules, although what is inside is the same"
    assert len({heads, heads}) == 1
    assert heads.popitem() == ("b", second)
    assert told(heads) == "a.weight | 1 | a:1"
    with pytest.raises(KeyError, match="no module 'z'; it has: "):
        heads["z"]


def test_repeated_modules_are_shown_once(torch_says):
    def program(lib):
        lists = [lib.nn.ModuleList(numbered(lib, *numbers)) for numbers in ([], [1], [1, 1], [1, 2, 2, 2, 1, 3, 3])]
        return "\n".join(map(repr, lists)).split("\n")

    theirs, ours = both(torch_says, program)
    assert ours == theirs
    assert repr(Sequential(*numbered(mt, 1, 1, 1, 2))) == "Sequential(\n  (0-2): 3 x Numbered(1)\n  (3): Numbered(2)\n)"
    named = Sequential(dict(zip("ab", numbered(mt, 1, 1), strict=True)))
    assert repr(named) == "Sequential(\n  (a): Numbered(1)\n  (b): Numbered(1)\n)"


def test_gradients_through_containers_are_those_of_the_layers(rng):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Sequential(nn.InstanceNorm1d(2, affine=True), ModuleDict({"gate": Affine(5)})["gate"])
            self.heads = ModuleList(Affine(5) for _ in range(2))

        def forward(self, x):
            h = self.body(x)
            return sum(np.tanh(head(h)) for head in self.heads)

    net = Net().double()
    for parameter in net.parameters():
        parameter.data = rng.normal(size=parameter.shape)
    values, cotangent = rng.normal(size=(2, 3, 2, 5))
    x = mt.tensor(values, requires_grad=True)
    assert mt.autograd.gradcheck(net, x)
    net(x).backward(mt.tensor(cotangent))
    h = net.body[1](net.body[0](x))
    by_hand = mt.grad(np.tanh(net.heads[0](h)) + np.tanh(net.heads[1](h)), list(net.parameters()), mt.tensor(cotangent))
    for parameter, expected in zip(net.parameters(), by_hand, strict=True):
        assert np.abs(parameter.grad.numpy()).min() > 0
        np.testing.assert_allclose(parameter.grad.numpy(), expected.numpy(), rtol=1e-14)


def test_a_member_cannot_be_set_to_none():
    layers = nn.Sequential({"act": nn.ReLU()})
    with pytest.raises(TypeError, match="'act' must be a Module, got None"):
        layers.act = None
    assert layers(mt.ones(1)).tolist() == [1.0]
