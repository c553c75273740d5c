"""Forward and backward of InstanceNorm, both ways: ``pytest tests/benchmarks --benchmark-only``. Never timed in the tests."""

import numpy as np
import pytest

import minitensor as mt
from minitensor.nn import functional


@pytest.mark.parametrize("shape", [(8, 64, 64, 64), (16, 256, 7, 7), (20, 100, 40)], ids=str)
@pytest.mark.parametrize("way", ["analytic", "autograd"])
def test_forward_and_backward(benchmark, shape, way, rng):
    x = mt.tensor(rng.normal(size=shape).astype(np.float32), requires_grad=True)
    weight, bias = (mt.tensor(rng.normal(size=shape[1]).astype(np.float32), requires_grad=True) for _ in range(2))
    g = mt.tensor(rng.normal(size=shape).astype(np.float32))
    dx, _, _ = benchmark(lambda: mt.grad(functional.instance_norm(x, weight=weight, bias=bias, backward=way), [x, weight, bias], g))
    assert dx.shape == shape
