"""Module and Parameter: registration, names, modes, moving, copying, showing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from modules import Affine, Mixed, Pair, both, family

import minitensor as mt
from minitensor import nn
from minitensor.errors import DeviceError, DTypeError, GraphError, UnsupportedError
from minitensor.nn import Sequential

# -- registration -----------------------------------------------------------------------------------------------------------------


def test_attributes_are_registered_by_kind():
    pair = Pair()
    assert [name for name, _ in pair.named_parameters()] == ["scale", "first.weight", "first.bias", "second.weight", "second.bias"]
    assert [name for name, _ in pair.named_buffers()] == ["first.calls", "second.calls"]
    assert len(list(pair.parameters())) == 5


ASSIGNED = {
    "None over a parameter": lambda lib, m: setattr(m, "p", None),
    "None over a buffer": lambda lib, m: setattr(m, "b", None),
    "None over a module": lambda lib, m: setattr(m, "m", None),
    "a Tensor over a parameter": lambda lib, m: setattr(m, "p", lib.ones(1)),
    "a number over a parameter": lambda lib, m: setattr(m, "p", 1.0),
    "a Parameter over a parameter": lambda lib, m: setattr(m, "p", lib.nn.Parameter(lib.ones(1))),
    "a Tensor over a buffer": lambda lib, m: setattr(m, "b", lib.zeros(1)),
    "a number over a buffer": lambda lib, m: setattr(m, "b", 1.0),
    "a Parameter over a buffer": lambda lib, m: setattr(m, "b", lib.nn.Parameter(lib.ones(1))),
    "a Parameter over a module": lambda lib, m: setattr(m, "m", lib.nn.Parameter(lib.ones(1))),
    "a Parameter over a plain attribute": lambda lib, m: setattr(m, "plain", lib.nn.Parameter(lib.ones(1))),
    "a Parameter over an attribute of the class": lambda lib, m: setattr(m, "fixed", lib.nn.Parameter(lib.ones(1))),
    "a Module over a parameter": lambda lib, m: setattr(m, "p", lib.nn.Module()),
    "a Module over a transient buffer": lambda lib, m: setattr(m, "t", lib.nn.Module()),
    "a Module over a module": lambda lib, m: setattr(m, "m", lib.nn.Sequential()),
    "a number over a module": lambda lib, m: setattr(m, "m", 1.0),
    "a Tensor over a module": lambda lib, m: setattr(m, "m", lib.ones(1)),
    "a Tensor over nothing": lambda lib, m: setattr(m, "new", lib.ones(1)),
    "a Parameter over nothing": lambda lib, m: setattr(m, "new", lib.nn.Parameter(lib.ones(1))),
    "a parameter deleted": lambda lib, m: delattr(m, "p"),
    "a transient buffer deleted and made anew": lambda lib, m: (delattr(m, "t"), m.register_buffer("t", lib.ones(1))),
    "a module deleted": lambda lib, m: delattr(m, "m"),
    "a plain attribute deleted": lambda lib, m: delattr(m, "plain"),
    "nothing deleted": lambda lib, m: delattr(m, "new"),
    "a buffer registered again": lambda lib, m: m.register_buffer("b", lib.zeros(2), persistent=False),
    "a parameter registered again": lambda lib, m: m.register_parameter("p", None),
    "register_parameter: a Tensor": lambda lib, m: m.register_parameter("new", lib.ones(1)),
    "register_parameter: over a buffer": lambda lib, m: m.register_parameter("b", None),
    "register_parameter: over an attribute": lambda lib, m: m.register_parameter("plain", None),
    "register_parameter: a dot": lambda lib, m: m.register_parameter("a.b", None),
    "register_parameter: no name": lambda lib, m: m.register_parameter("", None),
    "register_parameter: a number as a name": lambda lib, m: m.register_parameter(1, None),
    "register_buffer: a number": lambda lib, m: m.register_buffer("new", 1.0),
    "register_buffer: over a parameter": lambda lib, m: m.register_buffer("p", None),
    "register_buffer: a dot": lambda lib, m: m.register_buffer("a.b", None),
    "register_buffer: no name": lambda lib, m: m.register_buffer("", None),
    "register_buffer: a number as a name": lambda lib, m: m.register_buffer(1, None),
    "register_module: a Tensor": lambda lib, m: m.register_module("new", lib.ones(1)),
    "register_module: over a method": lambda lib, m: m.register_module("forward", None),
    "register_module: a dot": lambda lib, m: m.add_module("a.b", None),
    "register_module: no name": lambda lib, m: m.add_module("", None),
    "register_module: a number as a name": lambda lib, m: m.add_module(1, None),
}


@pytest.mark.parametrize("what", ASSIGNED)
def test_what_may_be_assigned_and_registered_is_as_in_pytorch(what, torch_says):
    """The kind of error, and what the module holds afterwards, in its order; where PyTorch raises, nothing of ours has changed."""

    def program(lib):
        class Holder(lib.nn.Module):
            fixed = 7

            def __init__(self):
                super().__init__()
                self.plain = 1
                self.m = lib.nn.Module()
                self.p = lib.nn.Parameter(lib.ones(1))
                self.q = lib.nn.Parameter(lib.ones(1))
                self.register_buffer("b", lib.ones(1))
                self.register_buffer("t", lib.ones(1), persistent=False)

        holder = Holder()
        try:
            ASSIGNED[what](lib, holder)
        except Exception as error:
            return [next(kind.__name__ for kind in (AttributeError, KeyError, TypeError, ValueError) if isinstance(error, kind))]
        held = [
            [name for name, _ in holder.named_parameters()],
            [name for name, _ in holder.named_buffers()],
            [name for name, _ in holder.named_modules()],
            list(holder.state_dict()),
            [f"{name}: {type(getattr(holder, name)).__name__}" for name in ("p", "b", "m", "plain", "new") if hasattr(holder, name)],
        ]
        return [*map(str, held), str(holder)]

    theirs, ours = both(torch_says, program)
    assert ours == theirs


def test_a_refused_assignment_changes_nothing():
    pair = Pair()
    before = list(pair.state_dict())
    for name, value in (("scale", mt.ones(1)), ("first", 3), ("forward", nn.Parameter([1.0])), ("a.b", Affine())):
        with pytest.raises((TypeError, KeyError)):
            setattr(pair, name, value)
    with pytest.raises(ValueError, match="would then be inside itself"):
        pair.first = pair
    assert list(pair.state_dict()) == before


def test_errors_of_registration_name_the_module_the_name_and_what_was_got():
    affine = Affine()
    with pytest.raises(TypeError, match=r"Affine: 'weight' is a parameter: assign a Parameter or None, got float32 \(3,\)"):
        affine.weight = mt.ones(3)
    with pytest.raises(TypeError, match=r"Affine: parameter 'w' must be a Parameter or None, got float32 \(3,\)"):
        affine.register_parameter("w", mt.ones(3))
    with pytest.raises(KeyError, match="'calls' is an attribute already, so it cannot name a module"):
        affine.add_module("calls", Affine())
    with pytest.raises(TypeError, match="must be a string, got 3"):
        affine.add_module(3, Affine())
    with pytest.raises(KeyError, match=r"'a\.b' cannot name a buffer"):
        affine.register_buffer("a.b", None)


def test_a_module_cannot_be_inside_itself():
    pair = Pair()
    with pytest.raises(ValueError, match="module 'up' contains this one"):
        pair.first.up = pair
    with pytest.raises(ValueError, match="module 'self' contains this one"):
        pair.register_module("self", pair)


def test_plain_attributes_may_come_before_super():
    class Early(nn.Module):
        def __init__(self):
            self.n, self.table = 3, mt.ones(2)
            super().__init__()
            self.weight = nn.Parameter(mt.ones(self.n))

    early = Early()
    assert early.weight.shape == (3,)
    assert list(early.state_dict()) == ["weight"]


@pytest.mark.parametrize("value", [nn.Parameter([1.0]), Affine()], ids=["parameter", "module"])
def test_forgetting_super_is_told(value):
    class Forgetful(nn.Module):
        def __init__(self):
            self.weight = value

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) before setting 'weight'"):
        Forgetful()

    class Plain(nn.Module):
        def __init__(self):
            self.n = 3

    with pytest.raises(AttributeError, match=r"has not called super\(\).__init__\(\)"):
        Plain()(1)
    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\)"):
        Plain().register_buffer("b", None)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Pathless has no forward"):
        type("Pathless", (nn.Module,), {})()(1)


def test_an_unknown_attribute_is_named_and_known_ones_are_listed():
    with pytest.raises(AttributeError, match="'Affine' object has no attribute 'wieght'") as caught:
        _ = Affine().wieght
    assert (caught.value.name, type(caught.value.obj)) == ("wieght", Affine)  # from which Python makes "Did you mean"
    assert {"weight", "calls", "forward"} <= set(dir(Affine()))
    assert "0" not in dir(Sequential(Affine()))


# -- names ------------------------------------------------------------------------------------------------------------------------


def test_names_and_their_order_are_pytorchs(torch_says):
    def program(lib):
        top = family(lib)
        listed = {
            "modules": top.named_modules(),
            "again": top.named_modules(remove_duplicate=False),
            "below": top.named_modules(prefix="top"),
            "memo": top.named_modules(memo={top.body, top.heads}),
            "children": top.named_children(),
            "parameters": top.named_parameters(),
            "every": top.named_parameters("top", remove_duplicate=False),
            "own": top.named_parameters(recurse=False),
            "buffers": top.named_buffers(),
            "every buffer": top.named_buffers("top", remove_duplicate=False),
            "own buffers": top.body[0].named_buffers("leaf", recurse=False),
            "state": top.state_dict().items(),
            "prefixed": top.body.state_dict(prefix="x.").items(),
        }
        lines = [f"{what}: {' '.join(name for name, _ in pairs)}" for what, pairs in listed.items()]
        counts = [list(top.modules()), list(top.children()), list(top.parameters()), list(top.parameters(recurse=False)),
                  list(top.buffers()), list(top.buffers(recurse=False))]  # fmt: skip
        lines.append(str(list(map(len, counts))))
        visited = []
        assert top.apply(lambda module: visited.append(type(module).__name__)) is top
        return [*lines, " ".join(visited), *repr(top).split("\n")]

    theirs, ours = both(torch_says, program)
    assert ours == theirs


def test_members_are_found_by_their_path():
    top = family(mt)
    assert top.get_submodule("") is top
    assert top.get_submodule("body.1") is top.again
    assert top.get_parameter("heads.one.weight") is top.heads["one"].weight
    assert top.get_parameter("scale") is top.scale
    assert top.get_buffer("body.0.scratch") is top.body[0].scratch


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("submodule", "body.7", "no module 'body.7': Sequential has no module '7'; it has: 0, 1"),
        ("submodule", "body.0.deep.er", "no module 'body.0.deep.er': Leaf has no module 'deep'; it has: none"),
        ("submodule", "hole", "no module 'hole': Top has no module 'hole'"),
        ("submodule", "scale", "Top has no module 'scale'"),
        ("parameter", "body.0.bias", "no parameter 'body.0.bias': Leaf has no parameter 'bias'; it has: weight"),
        ("parameter", "body.0.count", "Leaf has no parameter 'count'"),
        ("parameter", "nobody.weight", "Top has no module 'nobody'; it has: body, again, tied, heads"),
        ("buffer", "body.0.weight", "Leaf has no buffer 'weight'; it has: count, scratch"),
    ],
)
def test_a_path_that_leads_nowhere_is_told(kind, target, message):
    with pytest.raises(AttributeError, match=message):
        getattr(family(mt), f"get_{kind}")(target)


# -- all at once ------------------------------------------------------------------------------------------------------------------


def test_modes_reach_every_module_through_its_own_train():
    class Frozen(Affine):
        def train(self, mode=True):
            return super().train(False)

    pair = Pair()
    pair.third = Sequential(Frozen())
    assert pair.eval() is pair
    assert not any(module.training for module in pair.modules())
    pair.train()
    assert [name for name, module in pair.named_modules() if not module.training] == ["third.0"]
    with pytest.raises(ValueError, match="mode must be True or False, got 'yes'"):
        pair.train("yes")


def test_gradients_gather_and_are_forgotten():
    pair = Pair()
    pair(mt.ones(2)).sum().backward()
    assert all(parameter.grad is not None for parameter in pair.parameters())
    pair.zero_grad(set_to_none=False)
    assert all(parameter.grad.tolist() == [0.0] * parameter.size for parameter in pair.parameters())
    pair.scale.grad = None
    pair.zero_grad(set_to_none=False)
    assert pair.scale.grad is None
    pair.zero_grad()
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_requires_grad_is_switched_for_all():
    pair = Pair()
    assert pair.first.requires_grad_(False) is pair.first
    assert [name for name, parameter in pair.named_parameters() if parameter.requires_grad] == ["scale", "second.weight", "second.bias"]
    assert pair.requires_grad_().first.bias.requires_grad


@pytest.mark.parametrize(
    ("ask", "dtype"),
    [
        (lambda m: m.to(np.float64), "float64"),
        (lambda m: m.to("float64"), "float64"),
        (lambda m: m.to("cpu", np.float64), "float64"),
        (lambda m: m.to(np.float64, "cpu"), "float64"),
        (lambda m: m.to(dtype=np.float16), "float16"),
        (lambda m: m.to("cpu", dtype=np.float16), "float16"),
        (lambda m: m.to(mt.zeros(1, dtype=np.float64)), "float64"),
        (lambda m: m.to("cpu"), "float32"),
        (lambda m: m.to(device="cpu"), "float32"),
        (lambda m: m.double(), "float64"),
        (lambda m: m.half(), "float16"),
        (lambda m: m.float(), "float32"),
        (lambda m: m.cpu(), "float32"),
    ],
)
def test_casting_keeps_the_objects_and_their_sharing(ask, dtype):
    mixed = Mixed()
    (mixed.inner(mt.ones(2)) * mt.tensor([1.0, 3.0])).sum().backward()
    before = mixed.tensors()
    assert ask(mixed) is mixed
    assert [id(tensor) for tensor in mixed.tensors()] == [id(tensor) for tensor in before]
    assert mixed.inner.weight is mixed.weight
    assert mixed.inner.calls is mixed.mean
    kinds = {name: value.dtype.name for name, value in [*mixed.named_parameters(), *mixed.named_buffers()]}
    assert kinds == {"weight": dtype, "frozen": "int64", "mean": dtype, "steps": "int64", "mask": "bool", "inner.bias": dtype}
    assert (mixed.weight.tolist(), mixed.steps.item()) == ([1.5, 2.5], 3)
    assert (mixed.weight.grad.dtype.name, mixed.weight.grad.tolist()) == (dtype, [1.0, 3.0])
    mixed.zero_grad()
    (mixed.weight * mt.tensor([2.0, 4.0], dtype)).sum().backward()
    assert (mixed.weight.grad.dtype.name, mixed.weight.grad.tolist()) == (dtype, [2.0, 4.0])


def test_what_was_recorded_before_a_cast_gives_gradients_of_the_new_dtype():
    affine = Affine()
    seen = []
    affine.weight.register_hook(lambda g: seen.append(g.dtype.name))
    y = affine(mt.ones(2)).sum()
    affine.double()
    y.backward()
    assert affine.weight.grad.dtype == np.float64
    assert seen == ["float64"], "a hook stays with its parameter"


def test_a_gradient_with_a_graph_keeps_it():
    affine = Affine()
    (affine.weight**3).sum().backward(create_graph=True)
    affine.double()
    affine.weight.grad.sum().backward()
    assert affine.weight.grad.tolist() == [9.0, 9.0]  # 3 w**2 + 6 w


def test_moving_to_a_gpu_and_back(cupy):
    mixed = Mixed()
    mixed.inner(mt.ones(2)).sum().backward()
    before = mixed.tensors()
    assert mixed.cuda() is mixed
    assert {tensor.device for tensor in mixed.tensors()} == {"cuda:0"}
    assert mixed.weight.grad.device == "cuda:0"
    assert mixed.inner(mt.ones(2, device="cuda")).device == "cuda:0"
    assert mixed.state_dict()["weight"].device == "cuda:0"
    mixed.to("cpu", np.float64)
    assert [(id(tensor), tensor.device) for tensor in mixed.tensors()] == [(id(tensor), "cpu") for tensor in before]
    assert (mixed.weight.dtype, mixed.weight.grad.dtype, mixed.steps.dtype) == (np.float64, np.float64, np.int64)
    assert Mixed().cuda(0).weight.device == Mixed().cuda("cuda:0").weight.device == "cuda:0"


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m.to("gpu"), DeviceError, "device 'gpu' is unknown"),
        (lambda m: m.to("cuda:7"), DeviceError, "'cuda:7' is not there"),
        (lambda m: m.cuda(7), DeviceError, "'cuda:7' is not there"),
        (lambda m: m.to("cuda:7", np.float64), DeviceError, "'cuda:7' is not there"),
        (lambda m: m.to(np.int64), DTypeError, "a floating dtype only, got int64"),
        (lambda m: m.to(dtype=np.complex64), DTypeError, "a floating dtype only, got complex64"),
        (lambda m: m.to(3), DTypeError, "got 3"),
        (lambda m: m.to(), UnsupportedError, "one device, one floating dtype"),
        (lambda m: m.to(None), UnsupportedError, "one device, one floating dtype"),
        (lambda m: m.to("cpu", device="cuda"), UnsupportedError, "got devices"),
        (lambda m: m.to(np.float32, np.float64), UnsupportedError, "and dtypes"),
    ],
)
def test_a_move_that_fails_changes_nothing(ask, error, message, cupy):
    mixed = Mixed()
    before = [(id(tensor), tensor.dtype, tensor.device) for tensor in mixed.tensors()]
    with pytest.raises(error, match=message):
        ask(mixed)
    assert [(id(tensor), tensor.dtype, tensor.device) for tensor in mixed.tensors()] == before


def test_a_buffer_with_a_graph_is_not_moved():
    mixed = Mixed()
    mixed.inner.calls = mixed.weight * 2
    with pytest.raises(GraphError, match=r"the buffer 'inner.calls'.*register buffer.detach\(\)"):
        mixed.double()
    assert mixed.weight.dtype == np.float32


# -- copies and repr --------------------------------------------------------------------------------------------------------------


def test_copies_are_deep():
    pair = Pair()
    for twin in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        twin.scale.data = [0.0]
        assert pair.scale.item() == 3
        assert isinstance(twin.scale, nn.Parameter)
        assert twin.scale.requires_grad


def test_a_copy_shares_inside_and_not_outside():
    top = family(mt)
    twin = copy.deepcopy(top)
    assert twin.again is twin.body[1]
    assert twin.tied.weight is twin.again.weight
    assert twin.tied.count is twin.body[0].count
    assert {id(tensor) for tensor in [*top.parameters(), *top.buffers()]}.isdisjoint(
        id(tensor) for tensor in [*twin.parameters(), *twin.buffers()]
    )
    assert list(twin.state_dict()) == list(top.state_dict()), "a buffer that is not saved stays so"
    twin.body[0].count[...] = 5.0
    assert top.body[0].count.item() == 1


def test_a_copy_has_hooks_of_its_own():
    class Counting(Affine):
        def __init__(self):
            super().__init__()
            self.count = 0
            self.handle = self.register_forward_hook(self.counted)

        def counted(self, module, args, output):
            self.count += 1

    one = Counting()
    twin = copy.deepcopy(one)
    twin(mt.ones(2))
    assert (one.count, twin.count) == (0, 1), "a hook that is a method was copied with its module"
    twin.handle.remove()
    twin(mt.ones(2))
    one(mt.ones(2))
    assert (one.count, twin.count) == (1, 1)


def test_repr_nests():
    assert repr(Pair()) == "Pair(\n  (first): Affine()\n  (second): Affine()\n)"


def test_repr_is_pytorchs(torch_says):
    def program(lib):
        class Lines(lib.nn.Module):
            def __init__(self, extra, *children):
                super().__init__()
                self.extra = extra
                for i, child in enumerate(children):
                    self.add_module(f"child{i}", child)

            def extra_repr(self):
                return self.extra

        shown = [
            Lines(""),
            Lines("3, 4, bias=True"),
            Lines("one\ntwo"),
            Lines("with a child", Lines("a")),
            Lines("one\ntwo", Lines("a\nb", Lines("")), None, Lines("")),
            lib.nn.ModuleList([Lines("a", Lines("b")) for _ in range(3)] + [Lines("b")] + [Lines("c")] * 2),
        ]
        return "\n".join(map(repr, shown)).split("\n")

    theirs, ours = both(torch_says, program)
    assert ours == theirs


def test_parameter():
    parameter = nn.Parameter([1.0])
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert type(parameter * 2) is mt.Tensor
    assert repr(parameter) == "Parameter containing:\ntensor([1.], requires_grad=True)"
    assert not nn.Parameter(mt.ones(2), False).requires_grad, "as in PyTorch, the second argument says so"
    with pytest.raises(DTypeError, match="int64"):
        nn.Parameter([1])
