"""nn.optim: PyTorch's numbers over many steps, what an update leaves alone, state that travels, and what is refused."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from itertools import product

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import ShapeError
from minitensor.nn import optim
from minitensor.nn.optim import SGD, Adam, AdamW, Optimizer

SHAPES = [(3, 4), (5,), ()]
STEPS = 30


def options(**choices):
    """Every combination, as dicts."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


CASES = [
    *(("SGD", case) for case in options(momentum=[0, 0.9], dampening=[0, 0.3], weight_decay=[0, 0.1], maximize=[False, True])),
    *(("SGD", case) for case in options(momentum=[0.9], nesterov=[True], weight_decay=[0, 0.1], maximize=[False, True])),
    *(
        ("Adam", case)
        for case in options(amsgrad=[False, True], weight_decay=[0, 0.1], maximize=[False, True], decoupled_weight_decay=[False, True])
    ),
    *(("AdamW", case) for case in options(amsgrad=[False, True], maximize=[False, True])),
    *(("AdamW", case) for case in options(weight_decay=[0, 0.5])),
    *((name, {"betas": (0.0, 0.5), "eps": 0.1}) for name in ("Adam", "AdamW")),
    *((name, {}) for name in ("SGD", "Adam", "AdamW")),
]


def names(cases):
    return [f"{name} {' '.join(f'{key}={value}' for key, value in case.items())}" for name, case in cases]


def problem(tensor, dtype=np.float64):
    """Three parameters, and a function that gives them gradients: a part that draws to 0, noise, and now and then none."""
    rng = np.random.default_rng(3)
    parameters = [tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in SHAPES]

    def gradients():
        for i, parameter in enumerate(parameters):
            noise = tensor(rng.standard_normal(SHAPES[i]).astype(dtype))
            parameter.grad = None if i == 1 and rng.random() < 0.4 else noise + 0.5 * parameter.detach()

    return parameters, gradients


def values(parameters):
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters])


def trajectory(tensor, optimizer, case, dtype=np.float64):
    """All parameters after 1, 2, 3 and `STEPS` steps; ``tensor`` and ``optimizer`` are PyTorch's or ours."""
    parameters, gradients = problem(tensor, dtype)
    optimizer = optimizer(parameters, **{"lr": 0.05, **case})
    reached = []
    for _ in range(STEPS):
        gradients()
        optimizer.step()
        reached.append(values(parameters))
    return np.stack(reached)[[0, 1, 2, -1]]


@pytest.mark.parametrize(("name", "case"), CASES, ids=names(CASES))
def test_every_option_gives_pytorchs_numbers(name, case, torch_says):
    expected = torch_says(lambda torch: trajectory(torch.tensor, getattr(torch.optim, name), case))
    np.testing.assert_allclose(trajectory(mt.tensor, getattr(optim, name), case), expected, rtol=1e-14, atol=1e-14)


SINGLE = [
    *((name, {}) for name in ("SGD", "Adam", "AdamW")),
    *(("SGD", {"momentum": 0.9, "weight_decay": 0.1, "nesterov": nesterov}) for nesterov in (False, True)),
    *((name, {"amsgrad": True, "weight_decay": 0.1}) for name in ("Adam", "AdamW")),
]


@pytest.mark.parametrize(("name", "case"), SINGLE, ids=names(SINGLE))
def test_float32_to_rounding(name, case, torch_says):
    expected = torch_says(lambda torch: trajectory(torch.tensor, getattr(torch.optim, name), case, np.float32))
    found = trajectory(mt.tensor, getattr(optim, name), case, np.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_with_options_of_their_own(name, torch_says):
    """Options from the group, else from the call; changed between steps; a group added on the way."""

    def run(tensor, optimizer):
        parameters, gradients = problem(tensor)
        groups = [{"params": parameters[0], "lr": 0.5, "weight_decay": 0.2}, {"params": [parameters[1]], "maximize": True}]
        optimizer = optimizer(groups, lr=0.05, weight_decay=0.1)
        for step in range(12):
            if step == 4:
                optimizer.add_param_group({"params": parameters[2:], "lr": 0.25})
            optimizer.param_groups[0]["lr"] *= 0.8
            gradients()
            optimizer.step()
        return values(parameters)

    expected = torch_says(lambda torch: run(torch.tensor, getattr(torch.optim, name)))
    np.testing.assert_allclose(run(mt.tensor, getattr(optim, name)), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_signatures_are_pytorchs(name, torch_says):
    """Names, order and defaults, without the options that choose an implementation; and the keys of a state dict."""
    case = {"momentum": 0.9} if name == "SGD" else {"amsgrad": True}

    def described(tensor, optimizer):
        left_out = {"self", "foreach", "capturable", "differentiable", "fused"}
        arguments = [p for p in inspect.signature(optimizer.__init__).parameters.values() if p.name not in left_out]
        parameters, gradients = problem(tensor)
        gradients()
        made = optimizer(parameters, **case)
        made.step()
        state = made.state_dict()
        keys = {*state, *(set(state["param_groups"][0]) - left_out), *state["state"][0], *map(str, state["state"])}
        return [" ".join(f"{p.name}={p.default}:{p.kind}" for p in arguments), *sorted(keys)]

    expected = torch_says(lambda torch: dict.fromkeys(described(torch.tensor, getattr(torch.optim, name)), 0))
    assert set(described(mt.tensor, getattr(optim, name))) == set(expected)


@pytest.mark.parametrize(("name", "case"), [("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {})])
def test_goes_on_from_pytorchs_state(name, case, torch_says):
    """Arrays made of what PyTorch remembers after 5 steps, and 5 steps more."""

    def ask(torch):
        parameters, gradients = problem(torch.tensor)
        optimizer = getattr(torch.optim, name)(parameters, lr=0.05, **case)
        reached = {}
        for step in range(10):
            gradients()
            optimizer.step()
            if step == 4:
                reached = {f"{i} {key}": value for i, state in optimizer.state_dict()["state"].items() for key, value in state.items()}
                reached = {key: value.clone() for key, value in reached.items()} | {"middle": values(parameters)}
        return {**reached, "end": values(parameters)}

    answer = torch_says(ask)
    parameters, gradients = problem(mt.tensor)
    for _ in range(5):
        gradients()
    optimizer = getattr(optim, name)(parameters, lr=0.05, **case)
    state = optimizer.state_dict()
    for key in answer.keys() - {"middle", "end"}:
        number, what = key.split()
        state["state"].setdefault(int(number), {})[what] = answer[key]
    optimizer.load_state_dict(state)
    for parameter, value in zip(parameters, np.split(answer["middle"], [12, 17]), strict=True):
        parameter.data = value.reshape(parameter.shape)
    # The noise does not depend on the values, so 5 unused rounds of gradients lead to the same numbers
    for _ in range(5):
        gradients()
        optimizer.step()
    np.testing.assert_allclose(values(parameters), answer["end"], rtol=1e-12)


# -- what a step leaves alone -----------------------------------------------------------------------------------------------------------

KINDS = [(SGD, {}), (SGD, {"momentum": 0.9, "nesterov": True}), (Adam, {"amsgrad": True}), (AdamW, {})]
every_kind = pytest.mark.parametrize(("kind", "case"), KINDS, ids=["SGD", "momentum", "Adam", "AdamW"])


@every_kind
def test_a_step_is_not_recorded_and_spares_earlier_graphs(kind, case):
    w = mt.tensor([2.0, 3.0], dtype=np.float64, requires_grad=True)
    optimizer = kind([w], lr=0.1, **case)
    for _ in range(3):
        old = w.data.copy()
        loss = (w**3).sum()
        w.grad = None
        loss.backward(create_graph=True)  # the gradient has a graph of its own
        assert w.grad.requires_grad
        gradient = w.grad
        optimizer.step()
        assert w.is_leaf
        assert w.requires_grad
        assert not any(value.requires_grad for value in optimizer.state[w].values() if isinstance(value, mt.Tensor))
        assert (w.data != old).all()
        (raw,) = mt.grad(loss, w, retain_graph=True)
        (second,) = mt.grad(gradient.sum(), w)
        np.testing.assert_allclose(raw.numpy(), 3 * old**2, rtol=1e-15)
        np.testing.assert_allclose(second.numpy(), 6 * old, rtol=1e-15)


@every_kind
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_stay(kind, case, dtype):
    """Also with options that are NumPy's float64, which would promote; what is remembered is float32 at least."""
    w, scalar = mt.tensor(np.ones(3, dtype), requires_grad=True), mt.tensor(dtype(1), requires_grad=True)
    case = {key: np.float64(value) if isinstance(value, float) else value for key, value in case.items()}
    if kind is not SGD:
        case["betas"] = (np.float64(0.9), np.float64(0.99))
    optimizer = kind([w, scalar], lr=np.float64(0.1), weight_decay=np.float64(0.1), **case)
    for _ in range(2):
        for parameter in (w, scalar):
            parameter.grad = mt.ones_like(parameter)
        optimizer.step()
    assert (w.dtype, w.shape, scalar.dtype, scalar.shape) == (dtype, (3,), dtype, ())
    remembered = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, mt.Tensor)]
    assert all(value.dtype == np.promote_types(dtype, np.float32) for value in remembered)
    assert bool(remembered) == (kind is not SGD or "momentum" in case)


def test_float16_is_updated_in_float32():
    """In float16 the squares of these gradients, and eps, are 0: Adam would divide by 0."""
    small = np.array([1e-4, -1e-5, 0], np.float16)
    w, wide = mt.tensor(np.zeros(3, np.float16), requires_grad=True), mt.tensor(np.zeros(3, np.float32), requires_grad=True)
    for parameter in (w, wide):
        parameter.grad = mt.tensor(small.astype(parameter.dtype))
        Adam([parameter], lr=0.1).step()
    np.testing.assert_allclose(wide.data, [-0.1, 0.1, 0], rtol=2e-3)
    assert (w.data == wide.data.astype(np.float16)).all()


@every_kind
def test_a_device_gives_the_numbers_of_the_cpu(kind, case, cupy):
    def run(device):
        w = mt.tensor([[1.0, -2.0], [0.5, 3.0]], device=device, requires_grad=True)
        scalar = mt.tensor(2.0, device=device, requires_grad=True)
        optimizer = kind([w, scalar], lr=0.1, weight_decay=0.1, **case)
        for _ in range(3):
            optimizer.zero_grad()
            (scalar * np.sum(np.exp(w))).backward()
            optimizer.step()
        state = optimizer.state_dict()
        optimizer.load_state_dict(state)
        devices = {value.device for each in optimizer.state.values() for value in each.values() if isinstance(value, mt.Tensor)}
        assert {w.device, scalar.device} == {mt.zeros(1, device=device).device} >= devices
        optimizer.zero_grad(set_to_none=False)
        assert w.grad.device == w.device
        return [*w.tolist(), scalar.item()]

    assert run("cuda") == run("cpu")


@every_kind
def test_without_a_gradient_nothing_happens(kind, case):
    used, unused = (mt.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = kind([used, unused], weight_decay=0.5, **case)
    used.grad = mt.tensor([1.0])
    assert optimizer.step() is None
    assert used.item() != 1
    assert unused.item() == 1
    assert unused not in optimizer.state


def test_gradients_may_gather_over_steps():
    """The buffer is not the gradient's own array: b = g, then b = 0.5 g + (g + g)."""
    w = mt.tensor([0.0], requires_grad=True)
    optimizer = SGD([w], lr=1.0, momentum=0.5)
    for _ in range(2):
        (2 * w).sum().backward()
        optimizer.step()
    assert w.item() == -2 - (0.5 * 2 + 4)


def test_zero_grad():
    w, unused = (mt.tensor(np.ones(2), requires_grad=True) for _ in range(2))
    optimizer = SGD([w, unused])
    w.grad = gradient = mt.tensor(np.ones(2))
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0, 0]
    assert w.grad.dtype == np.float64
    assert unused.grad is None
    assert gradient.tolist() == [1, 1]
    optimizer.zero_grad()
    assert w.grad is None


def test_a_closure_is_recorded_and_its_loss_handed_back():
    w = mt.tensor([3.0], requires_grad=True)
    optimizer = SGD([w], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with mt.no_grad():
        assert optimizer.step(closure).item() == 9
    assert w.item() == 0


# -- state ------------------------------------------------------------------------------------------------------------------------------


def same(one, other):
    """Whether two state dicts hold equal numbers, and as Python sees them the same ones."""
    return repr(one) == repr(other) and all(
        (np.asarray(value) == np.asarray(other["state"][i][key])).all() for i, state in one["state"].items() for key, value in state.items()
    )


@every_kind
def test_a_state_dict_goes_on_exactly(kind, case):
    parameters, gradients = problem(mt.tensor)
    optimizer = kind(parameters, **case)
    for _ in range(3):
        gradients()
        optimizer.step()
    state, before = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    twins = [mt.tensor(parameter.data, requires_grad=True) for parameter in parameters]
    twin = kind(twins, lr=123.0)
    twin.load_state_dict(state)
    assert same(twin.state_dict(), before)
    for _ in range(3):
        gradients()
        for parameter, other in zip(parameters, twins, strict=True):
            other.grad = parameter.grad
        optimizer.step()
        twin.step()
        assert (values(parameters) == values(twins)).all()
    assert same(state, before), "later steps must not reach a state dict"
    assert same(twin.state_dict(), optimizer.state_dict())


@every_kind
def test_copies_go_on_exactly(kind, case):
    parameters, gradients = problem(mt.tensor)
    optimizer = kind(parameters, **case)
    gradients()
    optimizer.step()
    reached = []
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        twins = twin.param_groups[0]["params"]
        assert not set(twins) & set(parameters)
        for parameter, other in zip(parameters, twins, strict=True):
            other.grad = parameter.grad
        assert same(twin.state_dict(), optimizer.state_dict())
        twin.step()
        assert (values(twins) != values(parameters)).any()
        reached.append(values(twins))
    optimizer.step()
    assert all((each == values(parameters)).all() for each in reached)


def test_loading_casts_to_the_parameters_dtype():
    w = mt.tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer = Adam([w])
    state = optimizer.state_dict()
    state["state"] = {0: {"step": np.float32(4), "exp_avg": np.ones(2), "exp_avg_sq": mt.ones(2, dtype=np.float64)}}
    optimizer.load_state_dict(state)
    assert {optimizer.state[w][key].dtype for key in ("exp_avg", "exp_avg_sq")} == {np.dtype(np.float32)}
    w.grad = mt.ones(2)
    optimizer.step()
    assert optimizer.state[w]["step"] == 5
    assert type(optimizer.state[w]["step"]) is int, "in float32 the powers of beta would be rounded"
    assert w.dtype == np.float32


def refused(change, message, error=ValueError, kind=Adam):
    """Loading a changed state dict is refused, and nothing has happened."""
    parameters, gradients = problem(mt.tensor)
    optimizer = kind([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5}])
    gradients()
    optimizer.step()
    state, before = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    state = change(copy.deepcopy(state)) or state
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert same(optimizer.state_dict(), before)
    assert optimizer.param_groups[0]["params"] == parameters[:2]


def changed(path, value):
    """A function that sets one entry of a state dict."""

    def change(state):
        *way, last = path
        place = state
        for key in way:
            place = place[key]
        place[last] = value
        return state

    return change


@pytest.mark.parametrize(
    ("change", "message", "error"),
    [
        (lambda state: {"weight": mt.ones(2)}, r"load_state_dict of Adam: 'state' and 'param_groups' .*, got \['weight'\]", ValueError),
        (changed(["param_groups"], [{"params": [0, 1]}]), r"groups of \[2, 1\] parameters here, of \[2\] given", ValueError),
        (changed(["param_groups", 1, "params"], [2, 3]), r"groups of \[2, 1\] parameters here, of \[2, 2\] given", ValueError),
        (changed(["param_groups", 1, "lr"], -1.0), "lr must be a number and not negative, got -1.0", ValueError),
        (changed(["param_groups", 0], {"params": [0, 1], "lr": 1.0}), "groups lack amsgrad, betas.*saved by another optimizer", ValueError),
        (changed(["state", 7], {}), r"state of parameters \[7\], which are in no group", ValueError),
        (changed(["state", 0, "exp_avg"], np.ones(3)), r"exp_avg of parameter 0: .* is float64 \(3, 4\), got float64 \(3,\)", ShapeError),
    ],
)  # fmt: skip
def test_loading_refuses_before_anything_is_changed(change, message, error):
    refused(change, message, error)


def test_adamw_stays_decoupled():
    refused(changed(["param_groups", 0, "decoupled_weight_decay"], False), "AdamW: decoupled_weight_decay must be True", kind=AdamW)


def test_names():
    parameters, gradients = problem(mt.tensor)
    optimizer = Adam(zip("abc", parameters, strict=True))
    assert optimizer.param_groups[0]["param_names"] == ["a", "b", "c"]
    assert optimizer.param_groups[0]["params"] == parameters
    gradients()
    optimizer.step()
    state = optimizer.state_dict()
    assert state["param_groups"][0]["param_names"] == ["a", "b", "c"]
    plain = Adam([mt.tensor(parameter.data, requires_grad=True) for parameter in parameters])
    plain.load_state_dict(state)
    assert plain.param_groups[0]["param_names"] == ["a", "b", "c"]
    optimizer.load_state_dict(Adam(parameters).state_dict())
    assert optimizer.param_groups[0]["param_names"] == ["a", "b", "c"], "names stay where the state has none"
    grouped = Adam([{"params": [("a", parameters[0])]}])
    grouped.add_param_group({"params": [("b", parameters[1])], "lr": 0.5})
    assert [group["param_names"] for group in grouped.param_groups] == [["a"], ["b"]]


def test_a_group_is_the_users_own_dict():
    """What is filled in does not show in the dict that was given, and options of the user's own stay."""
    given = {"params": [mt.ones(1, requires_grad=True)], "origin": "encoder"}
    optimizer = SGD([given], lr=0.5)
    assert set(given) == {"params", "origin"}
    assert optimizer.param_groups[0]["origin"] == "encoder"
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_repr():
    w, v = (mt.ones(1, requires_grad=True) for _ in range(2))
    expected = """
AdamW (
Parameter Group 0
    amsgrad: False
    betas: (0.9, 0.999)
    decoupled_weight_decay: True
    eps: 1e-08
    lr: 0.5
    maximize: False
    param_names: ['w']
    weight_decay: 0.01
Parameter Group 1
    amsgrad: False
    betas: (0.9, 0.999)
    decoupled_weight_decay: True
    eps: 1e-08
    lr: 0.25
    maximize: False
    param_names: ['v']
    weight_decay: 0.01
)"""
    assert repr(AdamW([{"params": [("w", w)], "lr": 0.5}, {"params": [("v", v)]}], lr=0.25)) == expected.lstrip()


# -- refusals ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (lambda w: w, r"SGD: Tensors or groups in a fixed order are needed, such as model.parameters\(\) or \[w\], got float32 \(2,\)"),
        (lambda w: {"params": [w]}, "in a fixed order are needed.*got dict"),
        (lambda w: {w}, "in a fixed order are needed.*got set"),
        (lambda w: [{"params": {w}}], "in a fixed order are needed.*got set"),
        (lambda w: 3, "in a fixed order are needed.*got int"),
        (lambda w: [{"params": None}], "in a fixed order are needed.*got NoneType"),
        (lambda w: [{"lr": 1.0}], "a group is a dict with the key 'params', got {'lr': 1.0}"),
        (lambda w: [{"params": [w]}, w], r"a group is a dict with the key 'params', got tensor"),
        (lambda w: [w, np.ones(2)], r"parameter 1: a Tensor is needed, got float64 \(2,\)"),
        (lambda w: "weight", "parameter 0: a Tensor is needed, got str"),
        (lambda w: [("a", np.ones(2))], r"parameter 'a': a Tensor is needed, got float64 \(2,\)"),
        (lambda w: [(w, w)], r"a pair \(name, Tensor\), got \[\(tensor"),
        (lambda w: [("a", "b", w)], r"a pair \(name, Tensor\), got \[\('a'"),
    ],
)  # fmt: skip
def test_what_are_no_parameters(params, message):
    with pytest.raises(TypeError, match=message):
        SGD(params(mt.zeros(2, requires_grad=True)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (lambda w: [], "SGD: no parameters were given; an iterator"),
        (lambda w: iter(()), "SGD: no parameters were given; an iterator"),
        (lambda w: [w, w * 2], r"parameter 1 \(float32 \(2,\)\) was made by an operation"),
        (lambda w: [w, w], r"parameter 1 \(float32 \(2,\)\) was given before"),
        (lambda w: [("a", w), ("b", w)], r"parameter 'b' \(float32 \(2,\)\) was given before"),
        (lambda w: [{"params": [w]}, {"params": w}], r"parameter 0 \(float32 \(2,\)\) was given before"),
        (lambda w: [("a", w), mt.zeros(2, requires_grad=True)], "either all parameters come with a name or none does"),
        (lambda w: [{"params": [w]}, {"params": [("a", mt.zeros(2, requires_grad=True))]}], "either all parameters come with a name"),
        (lambda w: [{"params": [("a", w)]}, {"params": mt.zeros(2, requires_grad=True)}], "either all parameters come with a name"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_optimized(params, message):
    with pytest.raises(ValueError, match=message):
        SGD(params(mt.zeros(2, requires_grad=True)))


def test_a_frozen_parameter_stays():
    """A partly frozen network can be handed over whole."""
    learned, frozen = mt.ones(2, requires_grad=True), mt.ones(2)
    optimizer = SGD([learned, frozen], lr=0.5, weight_decay=1.0)
    (learned * frozen).sum().backward()
    optimizer.step()
    assert (learned.tolist(), frozen.tolist()) == ([0.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize("value", [-0.1, math.nan, "0.1", None, mt.ones(2).tolist()])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SGD, "lr"),
        (SGD, "momentum"),
        (SGD, "dampening"),
        (SGD, "weight_decay"),
        (Adam, "lr"),
        (Adam, "eps"),
        (Adam, "weight_decay"),
        (AdamW, "weight_decay"),
    ],
)
def test_numbers_that_must_not_be_negative(kind, name, value):
    w = mt.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match=f"{kind.__name__}: {name} must be a number and not negative, got"):
        kind([w], **{name: value})
    with pytest.raises(ValueError, match=f"{name} must be a number and not negative"):
        kind([{"params": w, name: value}])


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("betas", [(0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, 0.9, 0.9), 0.9, (0.9, "0.9"), (math.nan, 0.9)])
def test_betas(kind, betas):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: betas must be two numbers in \[0, 1\), got"):
        kind([mt.zeros(2, requires_grad=True)], betas=betas)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_needs_momentum(case):
    with pytest.raises(ValueError, match="SGD: nesterov needs momentum and no dampening, got momentum="):
        SGD([mt.zeros(2, requires_grad=True)], nesterov=True, **case)


def test_a_refused_group_is_not_added():
    w, v = (mt.zeros(2, requires_grad=True) for _ in range(2))
    optimizer = SGD([w])
    with pytest.raises(ValueError, match="was given before"):
        optimizer.add_param_group({"params": [v, w]})
    with pytest.raises(ValueError, match="lr must be a number"):
        optimizer.add_param_group({"params": [v], "lr": -1})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [v]})


def test_an_optimizer_without_update_says_so():
    w = mt.zeros(2, requires_grad=True)
    w.grad = mt.ones(2)
    with pytest.raises(TypeError, match="Optimizer has no update method: write one"):
        Optimizer([w], {}).step()


def test_momentum_does_not_share_the_gradients_memory():
    g, w = np.ones(1), mt.ones(1, dtype=np.float64, requires_grad=True)
    w.grad = mt.from_numpy(g)
    optimizer = SGD([w], lr=0.1, momentum=0.9)
    optimizer.step()
    g[0] = 50
    assert optimizer.state[w]["momentum_buffer"].tolist() == [1.0]
