"""ONNX's own tests of InstanceNormalization, recorded from the package onnx, version 1.23.2; its tolerances are rtol 1e-3, atol 1e-7.

The second one has more than one instance, so that it catches statistics taken over the batch.
"""

from __future__ import annotations

import numpy as np
import pytest
from norm_table import assert_rounded
from safetensors.numpy import load_file
from torch_says import RECORDED

import minitensor as mt
from minitensor.nn import functional

CASES = {"test_instancenorm_example": 1e-5, "test_instancenorm_epsilon": 1e-2}  # and epsilon, which ONNX stores in float32
every_case = pytest.mark.parametrize(("name", "epsilon"), CASES.items(), ids=CASES)
every_way = pytest.mark.parametrize("way", ["analytic", "autograd"])


def recorded(name):
    record = load_file(RECORDED / "onnx.safetensors")
    return (record[f"{name}/{part}"] for part in ("x", "scale", "B", "y"))


@every_case
@every_way
def test_a_node_of_onnx(name, epsilon, way):
    *inputs, y = recorded(name)
    x, scale, bias = map(mt.tensor, inputs)
    found = functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon, backward=way).numpy()
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-7)  # ONNX computes in float32
    # and nearer to the definition than the record is
    wide, scale, bias = (
        np.reshape(each.astype(np.float64), shape) for each, shape in zip(inputs, (x.shape, (-1, 1, 1), (-1, 1, 1)), strict=True)
    )
    exact = scale * (wide - wide.mean((2, 3), keepdims=True)) / np.sqrt(wide.var((2, 3), keepdims=True) + epsilon) + bias
    assert_rounded(found, exact)


def test_statistics_over_the_batch_are_caught():
    *inputs, y = recorded("test_instancenorm_epsilon")
    x, scale, bias = map(mt.tensor, inputs)
    found = functional.batch_norm(x, None, None, scale, bias, training=True, eps=1e-2).numpy()
    assert not np.allclose(found, y, rtol=1e-3, atol=1e-7)
