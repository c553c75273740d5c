"""The layers and the comparison on a device: on the stand-in for CuPy always, on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

import minitensor as mt
from minitensor import nn
from minitensor.commands import main
from minitensor.errors import DeviceError
from minitensor.nn.derivation import staged_backward


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def gpu(request):
    """The device "cuda", behind which is the one or the other."""
    if request.param == "stand-in":
        request.getfixturevalue("cupy")
    try:
        mt.zeros(1, device="cuda")
    except DeviceError as error:
        pytest.skip(str(error))
    return "cuda"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("way", ["analytic", "autograd", staged_backward], ids=["analytic", "autograd", "own"])
def test_the_layer_gives_the_numbers_of_the_cpu(gpu, dtype, way, rng):
    """Output, gradients by both walks, the second derivative, running statistics and eval; and all of it stays on the device."""
    values, cotangent = rng.normal(size=(2, 2, 3, 4, 5)).astype(dtype)

    def everything(device):
        layer = nn.InstanceNorm2d(3, eps=0.1, affine=True, track_running_stats=True, device=device, dtype=dtype, backward=way)
        layer.weight.data, layer.bias.data = [1.5, -0.7, 0.9], [0.3, -1.0, 0.5]
        x, g = mt.tensor(values, device=device, requires_grad=True), mt.tensor(cotangent, device=device)
        y = layer(x)
        raw = mt.grad(y, [x, layer.weight, layer.bias], g, retain_graph=True)
        (traced,) = mt.grad(y, x, g, create_graph=True)
        found = [y, *raw, traced, *mt.grad(traced, x, g), layer.running_mean, layer.running_var, layer.eval()(x)]
        assert {tensor.device for tensor in found} == {mt.zeros(1, device=device).device}
        return [tensor.detach().cpu().numpy() for tensor in found]

    rounding = 4 * float(np.finfo(dtype).eps)
    for here, there in zip(everything("cpu"), everything(gpu), strict=True):
        np.testing.assert_allclose(there, here, rtol=rounding, atol=8 * rounding)


@pytest.mark.parametrize(("planted", "status"), [((), 0), (("--plant", "unbiased"), 1)], ids=["right", "planted"])
def test_compare(gpu, planted, status, tmp_path, capsys):
    pytest.importorskip("pygraphviz", reason="the report needs its extra")
    assert main(["compare", "2x3x4x5", "--device", gpu, "--report", str(tmp_path), *planted]) == status
    assert ("AGREE" in capsys.readouterr().out) == (status == 0)
    assert (tmp_path / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize("layer", ["batch_norm", "group_norm", "layer_norm", "rms_norm"])
def test_compare_other_layers(gpu, layer, capsys):
    assert main(["compare", "2x6x4x5", "--layer", layer, "--device", gpu]) == 0
    assert "AGREE: all " in capsys.readouterr().out


def test_compare_a_layer_with_a_buffer(gpu, rng):
    """Its formula is run on arrays, and on numbers that carry a bound, where these are: on the CPU."""

    class Masked(nn.Module):
        def __init__(self, slip=1.0):
            super().__init__()
            self.slip, self.weight = slip, nn.Parameter(rng.normal(size=5))
            self.register_buffer("mask", mt.tensor([1.0, 0.0, 1.0, 2.0, 1.0], dtype=np.float64))

        def forward(self, x):
            return x * x * (self.slip * self.weight) * self.mask

        def formula(self, x, weight):
            return x * x * weight * self.mask

    x = mt.tensor(rng.normal(size=(4, 5)), device=gpu)
    found = nn.compare_backward(Masked().to(gpu), x)
    assert found, str(found)
    assert "assumed" not in str(found)
    assert found.wrong == ()
    assert {"y", "dx", "dweight"} <= set(nn.compare_backward(Masked(1.01).to(gpu), x).wrong)
