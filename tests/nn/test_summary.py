"""The summary of a module: its rows, its totals, and that looking changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from modules import Affine, Mixed

import minitensor as mt
from minitensor import nn
from minitensor.errors import GraphError, ShapeError
from minitensor.nn import ModuleDict, ModuleList, Sequential


class Dense(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.weight = nn.Parameter(mt.ones(n, m))
        self.bias = nn.Parameter(mt.zeros(m))

    def forward(self, x):
        return x @ self.weight + self.bias


class Net(nn.Module):
    """A list, a dict, a shared module, a module that is never called, and one that is called with two shapes."""

    def __init__(self):
        super().__init__()
        self.body = ModuleList([Dense(3, 4), Dense(4, 4)])
        self.norm = nn.InstanceNorm1d(5, affine=True, track_running_stats=True)
        self.heads = ModuleDict({"mean": Dense(4, 2), "unused": Dense(4, 1)})
        self.again = self.body[1]
        self.heads["unused"].bias.requires_grad = False

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return self.heads["mean"](self.norm(x)), self.again(x[0])


TABLE = """\
Net on float32 (7, 5, 3)
module      class           output shape         parameters
Net         Net             (7, 5, 2), (5, 4)    0
  body      ModuleList                           0
    0       Dense           (7, 5, 4)            16
    1       Dense           (7, 5, 4) or (5, 4)  20
  norm      InstanceNorm1d  (7, 5, 4)            10
  heads     ModuleDict                           0
    mean    Dense           (7, 5, 2)            10
    unused  Dense                                5
  again     Dense           (7, 5, 4) or (5, 4)  0 (+20 shared)
61 parameters, 60 trainable; 11 in buffers; 292 bytes"""


def test_the_table():
    found = Net().summary((7, 5, 3))
    assert str(found) == TABLE
    assert repr(found) == str(found)
    assert sum(row.parameters for row in found.rows) == found.parameters == 61


def test_without_inputs_shapes_stay_blank():
    found = Net().summary()
    assert {row.output for row in found.rows} == {""}
    assert str(found).startswith("Net\nmodule")
    assert (found.parameters, found.trainable, found.buffers, found.bytes) == (61, 60, 11, 292)


def test_totals_are_pytorchs(torch_says):
    def count(torch):
        model = torch.nn.Sequential(
            torch.nn.BatchNorm2d(3), torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True), torch.nn.LayerNorm((4, 5))
        ).double()
        model.append(model[0])
        model[1].requires_grad_(False)
        parameters, buffers = list(model.parameters()), list(model.buffers())
        return [
            sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad),
            sum(b.numel() for b in buffers), sum(t.nbytes for t in parameters + buffers),
        ]  # fmt: skip

    model = Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, affine=True, track_running_stats=True), nn.LayerNorm((4, 5))).double()
    model.append(model[0])
    model[1].requires_grad_(False)
    found = model.summary((2, 3, 4, 5))
    assert [found.parameters, found.trainable, found.buffers, found.bytes] == [int(number) for number in torch_says(count)]


def test_it_shows_itself_in_a_notebook():
    html = Sequential(Dense(1000, 2)).summary()._repr_html_()
    assert "<td>\u20030</td>" in html, "a browser drops common spaces"
    assert "<p>2,002 parameters" in html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (mt.zeros(2, 3, dtype=np.float64), "float64 (2, 3)"),
        (np.zeros((2, 3), np.int32), "int32 (2, 3)"),
        ((2, 3), "float16 (2, 3)"),
        ([np.int64(2), 3], "float16 (2, 3)"),
    ],
)
def test_inputs_are_tensors_arrays_or_shapes(value, shown):
    assert Dense(3, 4).half().summary(value).title == f"Dense on {shown}"


def test_several_inputs():
    class Scale(nn.Module):
        def forward(self, x, by):
            return {"scaled": x * by, "by": by, "note": [by, "text", None]}

    (row,) = Scale().summary((2, 3), np.ones(3)).rows
    assert row.output == "scaled: (2, 3), by: (3,), note: (3,), str, NoneType"


@pytest.mark.parametrize("value", [3, "text", (2.0, 3), (2, -1), None, ((2, 3), (2, 3))], ids=str)
def test_other_inputs_are_told(value):
    with pytest.raises(TypeError, match=r"summary: input 1 must be a Tensor, an array, or a shape such as \(8, 3, 32, 32\), got "):
        Dense(3, 4).summary((2, 3), value)


def test_what_a_layer_raises_comes_through():
    with pytest.raises(ShapeError, match="matmul"):
        Net().summary((7, 5, 4))


class Drawing(nn.Module):
    def forward(self, x):
        return x * mt.rand(*x.shape)


def test_nothing_changes():
    """Not the mode, the values, the statistics, the gradients, a lazy layer, the random numbers; hooks are not called."""
    calls = []
    model = Sequential(Drawing(), nn.LazyInstanceNorm1d(), nn.BatchNorm1d(4), Mixed().inner)
    model[0].eval()
    model[3].weight.grad = mt.tensor([1.0, 2.0])
    for register in ("forward_pre", "forward", "full_backward", "full_backward_pre"):
        getattr(model[2], f"register_{register}_hook")(lambda *told: calls.append(told))
    names, modes = list(model.state_dict()), [module.training for module in model.modules()]
    before = {name: (id(value), value.tolist()) for name, value in model.state_dict(keep_vars=True).items()}
    mt.manual_seed(5)
    expected = mt.rand(3).tolist()
    mt.manual_seed(5)
    found = model.summary((3, 4, 2))
    assert mt.rand(3).tolist() == expected
    assert [row.output for row in found.rows] == ["(3, 4, 2)"] * 5
    assert [row.parameters for row in found.rows] == [0, 0, 8, 8, 4]
    assert not calls
    assert list(model.state_dict()) == names
    assert {name: (id(value), value.tolist()) for name, value in model.state_dict(keep_vars=True).items()} == before
    assert [module.training for module in model.modules()] == modes
    assert type(model[1]) is nn.LazyInstanceNorm1d
    assert model[3].weight.grad.tolist() == [1.0, 2.0]
    assert len(model[2]._module_hooks) == 4


def test_random_numbers_go_on_also_after_an_error():
    mt.manual_seed(5)
    expected = mt.rand(3).tolist()
    mt.manual_seed(5)
    with pytest.raises(ShapeError):
        Sequential(Drawing(), Dense(3, 4)).summary((2, 7))
    assert mt.rand(3).tolist() == expected


def test_it_runs_in_eval_mode_without_grad():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append((self.training, mt.is_grad_enabled()))
            return x

    Spy().summary((2,))
    assert seen == [(False, False)]
    assert mt.is_grad_enabled()


def test_a_hook_that_is_a_method_belongs_to_the_module():
    """It was copied with it, and may decide on what comes out."""

    class Doubled(Affine):
        def __init__(self):
            super().__init__()
            self.calls_seen = 0
            self.register_forward_hook(self.twice)

        def twice(self, module, args, output):
            self.calls_seen += 1
            return np.concatenate([output, output])

    doubled = Doubled()
    assert doubled.summary((2,)).rows[0].output == "(4,)"
    assert doubled.calls_seen == 0


def test_on_a_gpu(cupy):
    net = Net().cuda()
    assert str(net.summary((7, 5, 3))) == str(Net().summary((7, 5, 3)))
    assert net.body[0].weight.device == "cuda:0"


def test_an_activation_that_is_kept_is_named():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            self.last = self.inner(x)
            return self.last

    layer = Keeping()
    layer(mt.ones(4, 3))
    with pytest.raises(GraphError, match=r"Keeping cannot be copied: .* 'last'; keep \.detach\(\) of it"):
        layer.summary((4, 3))
