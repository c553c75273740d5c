"""Devices: what is said when they are not there, and every case of the table on a stand-in for CuPy that refuses what CuPy refuses."""

import copy
import pickle
import sys

import numpy as np
import pytest
from cases import CASES, Case
from checks import derivatives

import minitensor as mt
from minitensor import arrays
from minitensor.errors import DeviceError, ShapeError, UnsupportedError
from minitensor.primitive import Primitive


@pytest.fixture
def without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where CuPy is not installed, also when it is."""
    monkeypatch.setitem(sys.modules, "cupy", None)


ASKED = {
    "tensor": lambda device: mt.tensor([1.0], device=device),
    "zeros": lambda device: mt.zeros(2, device=device),
    "full": lambda device: mt.full((2,), 1.0, device=device),
    "arange": lambda device: mt.arange(3, device=device),
    "randn": lambda device: mt.randn(3, device=device),
    "to": lambda device: mt.ones(2).to(device),
    "set_default_device": mt.set_default_device,
}
asked_everywhere = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


@asked_everywhere
def test_without_cupy_the_error_says_what_to_install(ask, without_cupy) -> None:
    with pytest.raises(DeviceError, match=r"not installed: pip install cupy-cuda12x"):
        ask("cuda")
    assert mt.get_default_device() == "cpu"


def test_cuda_method_without_cupy(without_cupy) -> None:
    with pytest.raises(DeviceError, match="cupy-cuda12x"):
        mt.ones(2).cuda()


@asked_everywhere
@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:x", "cpu:0", "CPU", ""])
def test_unknown_device(ask, device: str) -> None:
    with pytest.raises(DeviceError, match=r"unknown: use 'cpu', 'cuda' or 'cuda:N'"):
        ask(device)


@asked_everywhere
def test_without_gpu_the_error_says_so(ask, cupy, monkeypatch) -> None:
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(DeviceError, match="finds no GPU"):
        ask("cuda")


def test_a_failing_driver_is_a_missing_gpu(cupy, monkeypatch) -> None:
    def fail() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", fail)
    with pytest.raises(DeviceError, match=r"finds no GPU \(cudaErrorInsufficientDriver\)"):
        mt.zeros(2, device="cuda")


@pytest.mark.parametrize("device", ["cuda:1", "cuda:30"])
def test_a_gpu_that_is_not_there(device: str, cupy) -> None:
    with pytest.raises(DeviceError, match=rf"'{device}' is not there: CuPy finds 1 GPU"):
        mt.zeros(2, device=device)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_gives_the_same_numbers_on_the_other_device(case: Case, cupy) -> None:
    """Forward, both walks and second order; and nothing becomes a NumPy array on the way."""
    expected, found = derivatives(case.call, case.inputs), derivatives(case.call, case.inputs, "cuda")
    for there, here in zip(found.all(), expected.all(), strict=True):
        assert there.device == "cuda:0"
        assert isinstance(there._array, cupy.ndarray)
        assert (there.shape, there.dtype) == (here.shape, here.dtype)
        np.testing.assert_array_equal(there.detach().cpu().numpy(), here.detach().numpy())


BAD_RULES = {
    "converts the cotangent": lambda g, _y, x: np.asarray(g) * x,
    "mixes in a NumPy array": lambda g, _y, x: g * np.ones(x.shape),
    "makes a NumPy array without like=": lambda g, _y, x: np.where(x > 0, g, np.zeros(x.shape)),
    "asks for where= in a reduction": lambda g, _y, x: g * np.sum(x, where=True),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("rule", BAD_RULES.values(), ids=BAD_RULES)
def test_a_rule_that_only_works_on_numpy_is_found(rule, traced: bool, cupy) -> None:
    x = mt.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    with pytest.raises((TypeError, DeviceError)):
        mt.grad(Primitive(np.exp, rule)(x), x, mt.ones(2, device="cuda"), create_graph=traced)


@pytest.mark.parametrize("exponent", [np.float32(2), np.float64(0.5), np.int64(3)])
def test_numpy_scalars_may_be_mixed_in(exponent, cupy) -> None:
    x = mt.tensor([1.0, 4.0], device="cuda", requires_grad=True)
    (g,) = mt.grad(x**exponent, x, [mt.ones(2, device="cuda")], create_graph=True)
    np.testing.assert_allclose(g.detach().cpu().numpy(), float(exponent) * np.array([1.0, 4.0]) ** (float(exponent) - 1))


def test_a_constant_matrix_at_second_order(cupy) -> None:
    """``a @ w`` with a constant: CuPy's own ``@`` would not make way for the Tensor of the traced walk."""
    a, w = mt.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda"), mt.ones(2, 1, device="cuda", requires_grad=True)
    (g,) = mt.grad((a @ w) * (a @ w), w, mt.ones(2, 1, device="cuda"), create_graph=True)
    (h,) = mt.grad(g.sum(), w)
    np.testing.assert_array_equal(h.cpu().numpy(), [[2 * (1 + 2 + 9 + 12)], [2 * (2 + 4 + 12 + 16)]])


MIXED = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "where": lambda a, b: mt.where(a > 0, a, b),
    "concatenate": lambda a, b: np.concatenate([a, b]),
    "equal": lambda a, b: a == b,
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_mixing_devices_names_both_operands(mix, cupy) -> None:
    a, b = mt.ones((2, 2), device="cuda", requires_grad=True), mt.ones((2, 2), dtype=np.float64)
    for pair in ((a, b), (b, a)):
        with pytest.raises(DeviceError, match=r"(?s)float(32|64) \(2, 2\).*float(32|64) \(2, 2\).*different devices.*\.to\("):
            mix(*pair)


def test_a_numpy_array_does_not_slip_in(cupy) -> None:
    with pytest.raises(DeviceError, match="different devices"):
        np.ones(2) * mt.ones(2, device="cuda")


def test_the_cotangent_must_be_on_the_same_device(cupy) -> None:
    y = mt.ones(2, device="cuda", requires_grad=True) * 2
    with pytest.raises(DeviceError, match=r"output is on cuda:0, the cotangent on cpu"):
        y.backward(mt.ones(2))


@pytest.mark.parametrize("traced", [False, True])
def test_the_gradient_comes_home(traced: bool, cupy) -> None:
    """Through a move to the other device and back, each gradient is on its Tensor's own device."""
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    there = x.cuda()
    y = (there * there).cpu() * x
    gx, gthere = mt.grad(y, [x, there], mt.ones(2), create_graph=traced)
    assert (there.device, gx.device, gthere.device) == ("cuda:0", "cpu", "cuda:0")
    np.testing.assert_array_equal(gx.detach().numpy(), [3.0, 12.0])
    if traced:
        np.testing.assert_array_equal(mt.grad(gx.sum(), x)[0].numpy(), [6.0, 12.0])


def test_moving_does_not_keep_what_was_moved(cupy) -> None:
    x = mt.ones(2, requires_grad=True)
    assert all(not hasattr(value, "__array_function__") for value in x.cuda()._node.inputs)


def test_to_is_itself_when_nothing_changes(cupy) -> None:
    here, there = mt.ones(2), mt.ones(2, device="cuda")
    assert here.cpu() is here
    assert there.cuda() is there
    assert there.to("cuda:0") is there
    assert here.to(mt.float32) is here
    assert here.to("float64").dtype == np.float64


def test_default_device(cupy) -> None:
    mt.set_default_device("cuda")
    assert mt.get_default_device() == "cuda:0"
    made = [
        mt.tensor([1.0]),
        mt.zeros(2),
        mt.ones(2),
        mt.full((2,), 3),
        mt.arange(3),
        mt.linspace(0, 1, 3),
        mt.eye(2),
        mt.randn(2),
        mt.rand(2),
        mt.randint(0, 3, (2,)),
    ]
    assert {t.device for t in [*made, *map(mt.zeros_like, made), mt.tensor(np.ones(2))]} == {"cuda:0"}
    assert mt.zeros(2, device="cpu").device == "cpu"


def test_what_is_made_is_the_same_on_every_device(cupy) -> None:
    for make in (
        lambda **on: mt.arange(1, 7, 2, **on),
        lambda **on: mt.linspace(0, 1, 5, **on),
        lambda **on: mt.eye(2, 3, **on),
        lambda **on: mt.full((2,), True, **on),
    ):
        here, there = make(), make(device="cuda")
        assert (here.dtype, here.tolist()) == (there.dtype, there.tolist())
    mt.manual_seed(3)
    here = mt.randn(4)
    mt.manual_seed(3)
    assert mt.randn(4, device="cuda").tolist() == here.tolist()


def test_ways_out_of_the_other_device(cupy) -> None:
    t = mt.tensor([1.5, 2.0], device="cuda")
    for convert in (np.asarray, mt.Tensor.numpy):
        with pytest.raises(UnsupportedError, match=r"lives on 'cuda:0': use t\.cpu\(\) first"):
            convert(t)
    assert t.tolist() == [1.5, 2.0]
    assert t[0].item() == float(t[0]) == 1.5
    assert repr(t) == "tensor([1.5, 2. ], device='cuda:0')"
    assert isinstance(t.data, cupy.ndarray)


def test_writing_on_the_other_device(cupy) -> None:
    t = mt.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    y = (t * t).sum()
    t.data = [5.0, 6.0]
    with mt.no_grad():
        t[0] = 7.0
    y.backward()
    assert (t.tolist(), t.device, t.grad.tolist()) == ([7.0, 6.0], "cuda:0", [2.0, 4.0])
    with pytest.raises(ShapeError):
        t.data = [1.0]


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_stay_on_the_device(clone, cupy) -> None:
    t = mt.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    new = clone(t)
    assert (new.device, new.requires_grad, new.tolist()) == ("cuda:0", True, [1.0, 2.0])
    assert new._array is not t._array


def test_a_tensor_has_no_cuda_array_interface(cupy) -> None:
    """CuPy would consume it and drop the gradient."""
    assert not hasattr(mt.ones(2, device="cuda"), "__cuda_array_interface__")


def test_array_module_and_device_of(cupy) -> None:
    assert arrays.array_module(np.ones(2)) is np
    assert arrays.array_module(cupy.asarray([1.0])) is cupy
    assert [arrays.device_of(a) for a in (np.ones(2), cupy.asarray([1.0]))] == ["cpu", "cuda:0"]


def test_the_stand_in_is_as_strict_as_cupy(cupy) -> None:
    """What this file relies on: each of these lines raises TypeError on cupy.ndarray, too."""
    a, t = cupy.asarray([[1.0, 2.0], [3.0, 4.0]]), mt.ones((2, 2), device="cuda")
    for refused in (
        lambda: np.asarray(a),
        lambda: a + np.ones(2),
        lambda: np.ones(2) + a,
        lambda: np.exp2(a),
        lambda: np.add.reduce(a),
        lambda: np.concatenate([a, np.ones((2, 2))]),
        lambda: np.sum(a, where=True),
        lambda: a @ t,
        lambda: a * [1.0, 2.0],
    ):
        with pytest.raises(TypeError):
            refused()
    assert isinstance(a * t, mt.Tensor)
    assert isinstance(a.sum(), cupy.ndarray)
