"""The case table on a real GPU, through CuPy."""

import numpy as np
import pytest
from cases import CASES, Case
from checks import derivatives

import minitensor as mt
from minitensor.errors import DeviceError


def missing() -> str:
    """Why there is no GPU here, or nothing."""
    try:
        mt.zeros(1, device="cuda")
    except DeviceError as error:
        return str(error)
    return ""


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_on_the_gpu(case: Case) -> None:
    """Forward, both walks and second order agree with NumPy to rounding, and stay on the GPU."""
    import cupy

    expected, found = derivatives(case.call, case.inputs), derivatives(case.call, case.inputs, "cuda")
    for there, here in zip(found.all(), expected.all(), strict=True):
        assert isinstance(there._array, cupy.ndarray)
        assert (there.shape, there.dtype) == (here.shape, here.dtype)
        np.testing.assert_allclose(there.detach().cpu().numpy(), here.detach().numpy(), rtol=1e-11, atol=1e-12)


def test_mixing_devices_on_the_gpu() -> None:
    with pytest.raises(DeviceError, match=r"float32 \(2,\), float32 \(3,\).*different devices"):
        mt.ones(2, device="cuda") + mt.ones(3)


def test_a_constant_matrix_at_second_order_on_the_gpu() -> None:
    a, w = mt.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda"), mt.ones(2, 1, device="cuda", requires_grad=True)
    (g,) = mt.grad((a @ w) * (a @ w), w, mt.ones(2, 1, device="cuda"), create_graph=True)
    (h,) = mt.grad(g.sum(), w)
    np.testing.assert_array_equal(h.cpu().numpy(), [[48.0], [68.0]])


def test_cupy_hands_tensors_to_their_own_rules() -> None:
    import cupy

    x = mt.ones(3, device="cuda", requires_grad=True)
    for y in (cupy.arange(3.0) * x, np.exp(x), np.float32(2) * x, np.concatenate([x, cupy.ones(2)])):
        assert isinstance(y, mt.Tensor)
        assert y.requires_grad


def test_a_large_sum_on_the_gpu() -> None:
    x = mt.ones(1000, 1000, device="cuda", requires_grad=True)
    (x * 2).mean().backward()
    np.testing.assert_allclose(x.grad.cpu().numpy(), 2e-6, rtol=1e-6)
