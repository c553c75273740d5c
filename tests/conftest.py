"""What all tests share: defaults that no test can leave changed, and hypothesis without a clock or a dice of its own."""

import sys
from collections.abc import Iterator
from types import ModuleType

import fake_cupy
import hypothesis
import numpy as np
import pytest

import minitensor as mt
from minitensor.nn.comparison import compare
from minitensor.nn.norm.kernels import numpy_blocked

pytest_plugins = ["torch_says"]

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Every test starts and ends with the default dtype, the default device and the random numbers of a fresh import."""
    dtype, device = mt.get_default_dtype(), mt.get_default_device()
    mt.manual_seed(0)
    yield
    mt.set_default_dtype(dtype)
    mt.set_default_device(device)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240607)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in, in CuPy's place."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", fake_cupy)
    return fake_cupy


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalisation by the formulas alone: then both walks use one expression, and may be asked for identical numbers."""
    monkeypatch.setattr(numpy_blocked, "serves", lambda *_, **__: False)


@pytest.fixture
def rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons without what could not have been seen, which takes most of their time."""
    monkeypatch.setattr(compare, "_unseen", lambda *_: (1, []))
