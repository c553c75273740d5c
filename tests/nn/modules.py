"""Programs that run with PyTorch and with minitensor, for the tests of modules; and small modules that they share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

import minitensor as mt
from minitensor import nn


def both(torch_says, program):
    """The lines that ``program(library)`` tells with PyTorch, and with minitensor."""

    def ask(torch):
        names = ("nn", "tensor", "float64", "ones", "zeros")
        theirs = SimpleNamespace(grad=torch.autograd.grad, **{name: getattr(torch, name) for name in names})
        return np.frombuffer("\n".join(program(theirs)).encode(), np.uint8)  # a record holds numbers only

    return bytes(torch_says(ask)).decode().split("\n"), "\n".join(program(mt)).split("\n")


class Affine(nn.Module):
    def __init__(self, n=2):
        super().__init__()
        self.weight = nn.Parameter(mt.ones(n))
        self.bias = nn.Parameter(mt.zeros(n))
        self.register_buffer("calls", mt.zeros(1))

    def forward(self, x):
        return self.weight * x + self.bias


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Affine()
        self.second = Affine()
        self.scale = nn.Parameter([3.0])

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def family(lib):
    """A tree with everything in it: shared modules and parameters, missing ones, buffers of both kinds, names out of order."""

    class Leaf(lib.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.register_buffer("count", lib.ones(1))
            self.weight = lib.nn.Parameter(lib.ones(n, 2))
            self.register_parameter("bias", None)
            self.register_buffer("scratch", lib.zeros(n), persistent=False)
            self.register_buffer("nothing", None)

        def forward(self, x):
            return x

        def extra_repr(self):
            return f"{len(self.weight)}, out=2"

    class Top(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = lib.nn.Sequential(Leaf(1), Leaf(2))
            self.scale = lib.nn.Parameter(lib.ones(3))
            self.again = self.body[1]
            self.absent = None
            self.add_module("hole", None)
            self.tied = Leaf(2)
            self.tied.weight = self.body[1].weight
            self.tied.count = self.body[0].count
            self.heads = lib.nn.ModuleDict({"one": Leaf(3)})

    return Top()


class Mixed(nn.Module):
    """Parameters and buffers of every kind, some shared."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(np.array([1.5, 2.5], np.float32))
        self.frozen = nn.Parameter(np.array([1, 2]), requires_grad=False)
        self.register_buffer("mean", mt.tensor([0.5]))
        self.register_buffer("steps", mt.tensor(3))
        self.register_buffer("mask", mt.tensor([True]), persistent=False)
        self.inner = Affine()
        self.inner.weight = self.weight
        self.inner.calls = self.mean

    def tensors(self):
        return [*self.parameters(), *self.buffers()]
