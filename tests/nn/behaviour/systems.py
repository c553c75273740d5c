"""The systems that a probe runs on, each under the same few names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np


class System:
    """minitensor or PyTorch: ``nn`` and ``functional`` are its own, and what is spelled differently has one name here."""

    name: ClassVar[str]
    own: Any  # the top module
    nn: Any
    functional: Any

    @property
    def version(self) -> str:
        """As released, without the kind of build."""
        return str(self.own.__version__).partition("+")[0]

    def dtype(self, name: str) -> Any:
        """``"float16"`` as the system's own object."""
        return getattr(self.own, name)

    def tensor(self, values: Any, requires_grad: bool = False) -> Any:
        """A tensor with the dtype of the array."""
        return self.own.tensor(np.asarray(values), requires_grad=requires_grad)

    def parameter(self, values: Any) -> Any:
        """What a layer can be given in the place of its weight."""
        return self.nn.Parameter(self.tensor(values))

    def array(self, tensor: Any) -> np.ndarray:
        """A copy of the values."""
        return np.array(tensor.detach().numpy())

    def grad(self, y: Any, x: Any, cotangent: Any, **options: Any) -> Any:
        """The derivative of ``y`` with respect to one input or several."""
        raise NotImplementedError

    def vjp(self, function: Callable[[Any], Any], x: Any, cotangent: Any) -> Any:
        """The derivative of a function at a tensor that requires grad, which can be differentiated again."""
        return self.grad(function(x), x, cotangent, create_graph=True)[0]

    def instance_norm(self, x: Any, eps: float) -> Any:
        """(N, C, S...) normalised, nothing else."""
        return self.functional.instance_norm(x, eps=eps)

    def elsewhere(self) -> AbstractContextManager[str]:
        """A device that is not the default one and exists everywhere."""
        raise NotImplementedError


class Minitensor(System):
    """This project."""

    name = "minitensor"

    def __init__(self) -> None:
        import minitensor

        self.own, self.nn, self.functional = minitensor, minitensor.nn, minitensor.nn.functional

    def dtype(self, name: str) -> Any:
        return np.dtype(name)

    def grad(self, y: Any, x: Any, cotangent: Any, **options: Any) -> Any:
        return self.own.grad(y, x, cotangent, **options)

    @contextmanager
    def elsewhere(self) -> Iterator[str]:
        """A GPU, played by the tests' stand-in for CuPy."""
        import fake_cupy

        before = sys.modules.get("cupy")
        sys.modules["cupy"] = fake_cupy
        try:
            yield "cuda"
        finally:
            del sys.modules["cupy"]
            if before is not None:
                sys.modules["cupy"] = before


class PyTorch(System):
    """PyTorch."""

    name = "PyTorch"

    def __init__(self) -> None:
        import torch

        self.own, self.nn, self.functional = torch, torch.nn, torch.nn.functional

    def grad(self, y: Any, x: Any, cotangent: Any, **options: Any) -> Any:
        return self.own.autograd.grad(y, x, cotangent, **options)

    @contextmanager
    def elsewhere(self) -> Iterator[str]:
        yield "meta"


class MLX(System):
    """MLX, whose channels stand last."""

    name = "MLX"

    def __init__(self) -> None:
        import mlx.core
        import mlx.nn

        self.own, self.nn, self.functional = mlx.core, mlx.nn, None
        mlx.core.set_default_device(mlx.core.cpu)  # the only one that has float64

    def tensor(self, values: Any, requires_grad: bool = False) -> Any:
        values = np.asarray(values)
        return self.own.array(values, dtype=self.dtype(values.dtype.name))

    def parameter(self, values: Any) -> Any:
        return self.tensor(values)

    def array(self, tensor: Any) -> np.ndarray:
        return np.array(tensor)

    def instance_norm(self, x: Any, eps: float) -> Any:
        last = self.nn.InstanceNorm(x.shape[1], eps)(self.own.moveaxis(x, 1, -1))
        return self.own.moveaxis(last, -1, 1)

    def vjp(self, function: Callable[[Any], Any], x: Any, cotangent: Any) -> Any:
        return self.own.vjp(function, [x], [cotangent])[1][0]


PEERS = (PyTorch, MLX)


def installed() -> list[System]:
    """The peers that can be imported here."""
    found: list[System] = []
    for peer in PEERS:
        try:
            found.append(peer())
        except ImportError:
            continue
    return found
