"""`torch_says`: what PyTorch answers, asked in PyTorch's own words and recorded, so that the tests need no PyTorch.

    def test_softplus(torch_says):
        expected = torch_says(lambda torch: torch.nn.functional.softplus(torch.tensor([-1.0, 2.0])))

The answer (a tensor, a number, or a list, tuple or dict of them) comes back as NumPy arrays: in a dict for a dict, in a list for the
others. It is read from recorded/MODULE.safetensors; ``pytest --record-torch tests/nn/test_MODULE.py`` asks PyTorch anew and writes the
file. Where PyTorch is installed, every run asks it again and holds the record to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

RECORDED = Path(__file__).parent / "recorded"

try:
    import torch
except ImportError:
    torch = None


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--record-torch``."""
    parser.addoption("--record-torch", action="store_true", help="ask PyTorch anew and write tests/recorded/")


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> Iterator[dict[str, np.ndarray]]:
    """Every answer of one test module, by name; written when the module is through, if it is being recorded."""
    path = RECORDED / f"{request.module.__name__.removeprefix('test_')}.safetensors"
    if not request.config.getoption("--record-torch"):
        yield load_file(path) if path.exists() else {}
        return
    answers: dict[str, np.ndarray] = {}
    yield answers
    if answers:
        RECORDED.mkdir(exist_ok=True)
        save_file(dict(sorted(answers.items())), path, {"torch": torch.__version__})


@pytest.fixture
def torch_says(request: pytest.FixtureRequest, record: dict[str, np.ndarray]) -> Callable[[Callable[[Any], Any]], Any]:
    """Ask PyTorch, or the record of what it said."""
    asked = 0

    def says(ask: Callable[[Any], Any]) -> Any:
        nonlocal asked
        name, asked = f"{request.node.name}/{asked}/", asked + 1
        if request.config.getoption("--record-torch"):
            if torch is None:
                pytest.fail("--record-torch needs PyTorch: pip install torch")
            answer = _flat(ask(torch))
            record.update({name + key: value for key, value in answer.items()})
        else:
            answer = {key.removeprefix(name): value for key, value in record.items() if key.startswith(name)}
            assert answer, f"PyTorch's answer is not recorded: pytest --record-torch {request.path}"
            if torch is not None:
                fresh = _flat(ask(torch))
                assert fresh.keys() == answer.keys(), f"the record of {name} has other parts"
                for key, value in fresh.items():
                    np.testing.assert_allclose(value, answer[key], 1e-6, 1e-6, err_msg=f"the record of {name}{key} is stale")
        if set(answer) == {"value"}:
            return answer["value"]
        if all(key.startswith("#") for key in answer):
            return [answer[f"#{i}"] for i in range(len(answer))]
        return answer

    return says


def _flat(answer: Any) -> dict[str, np.ndarray]:
    """Tensors, numbers, and lists, tuples and dicts of them, as arrays by name."""
    if isinstance(answer, dict):
        parts = answer
    elif isinstance(answer, (list, tuple)):
        parts = {f"#{i}": value for i, value in enumerate(answer)}
    else:
        parts = {"value": answer}
    # a copy: PyTorch goes on writing into the memory of what it has answered
    return {key: np.array(value.detach().numpy() if isinstance(value, torch.Tensor) else value, order="C") for key, value in parts.items()}
