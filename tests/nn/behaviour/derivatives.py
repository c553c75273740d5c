"""Derivatives of every order, judged by differences of the order below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .row import Theme
from .seeing import agree, noise, normalised, outcome
from .systems import System

theme = Theme("Derivatives")

CONSTANTS = "PyTorch's second derivative keeps the statistics as constants"

X = noise(2, 3, 5)
STEP = 1e-3


def derivative(lib: System, function: Callable[[Any], Any], order: int) -> str:
    """Whether the derivative of this order, against random cotangents, is the slope of the one below, along a random direction."""

    def nth(k: int) -> Callable[[Any], Any]:
        return function if k == 0 else lambda x: lib.vjp(nth(k - 1), x, lib.tensor(noise(*X.shape, seed=k)))

    def lower(t: float) -> float:
        value = nth(order - 1)(lib.tensor(X + t * direction, requires_grad=True))
        return float((lib.array(value) * noise(*X.shape, seed=order)).sum())

    def slope(h: float) -> float:
        return (lower(h) - lower(-h)) / (2 * h)

    direction = noise(*X.shape, seed=9)
    expected = (4 * slope(STEP / 2) - slope(STEP)) / 3  # Richardson: the error is of fourth order in the step

    def call() -> str:
        found = lib.array(nth(order)(lib.tensor(X, requires_grad=True)))
        return agree((found * direction).sum(), expected)

    return outcome(call)


def layer(lib: System, **options: Any) -> Any:
    """An affine layer of float64 with weight and bias that are not 1 and 0, and a large eps."""
    made = lib.nn.InstanceNorm1d(3, eps=0.3, affine=True, dtype=lib.dtype("float64"), **options)
    made.weight, made.bias = lib.parameter(noise(3, seed=7)), lib.parameter(noise(3, seed=8))
    return made


@theme.row("first, of x", "right")
def first(lib: System) -> str:
    return derivative(lib, layer(lib), 1)


@theme.row("second, of x", "right")
def second(lib: System) -> str:
    return derivative(lib, layer(lib), 2)


@theme.row("third, of x", "right", CONSTANTS)
def third(lib: System) -> str:
    return derivative(lib, layer(lib), 3)


@theme.row("fourth, of x", "right", CONSTANTS)
def fourth(lib: System) -> str:
    return derivative(lib, layer(lib), 4)


def in_eval(lib: System, order: int) -> str:
    made = layer(lib, track_running_stats=True)
    made(lib.tensor(X))
    made.eval()
    return derivative(lib, lambda x: made(x * x * x), order)  # an affine map alone has no second derivative


@theme.row("first to third in eval with tracking, of (x^3)", "right, right, right")
def fixed(lib: System) -> str:
    return ", ".join(in_eval(lib, order) for order in (1, 2, 3))


@theme.row("dweight and dbias", "sums over the batch")
def of_parameters(lib: System) -> str:
    made, g = layer(lib), noise(*X.shape, seed=1)
    found = [lib.array(d) for d in lib.grad(made(lib.tensor(X)), [made.weight, made.bias], lib.tensor(g))]
    sums = [(g * normalised(X, 0.3)).sum((0, 2)), g.sum((0, 2))]
    if all(agree(one, total) == "right" for one, total in zip(found, sums, strict=True)):
        return "sums over the batch"
    return "means over the batch" if all(agree(one, total / 2) == "right" for one, total in zip(found, sums, strict=True)) else "wrong"


@theme.row("derivative of dx with respect to weight", "right")
def mixed(lib: System) -> str:
    made, x = layer(lib), lib.tensor(X, requires_grad=True)
    g, u = lib.tensor(noise(*X.shape, seed=1)), lib.tensor(noise(*X.shape, seed=2))
    (dx,) = lib.grad(made(x), [x], g, create_graph=True)
    (found,) = lib.grad(dx, [made.weight], u, retain_graph=True)
    per_channel = (lib.array(dx) * lib.array(u)).sum((0, 2))
    return agree(lib.array(found), per_channel / lib.array(made.weight))  # dx is linear in the weight


@theme.row("sum of dx over each slice", "zero")
def sums_of_dx(lib: System) -> str:
    made, x = layer(lib), lib.tensor(X, requires_grad=True)
    (dx,) = lib.grad(made(x), [x], lib.tensor(noise(*X.shape, seed=1)))
    return "zero" if np.abs(lib.array(dx).sum(2)).max() < 1e-12 else "not zero"


@theme.row("`layer.forward(x)` against `layer(x)`", "the same", torch_js="forward is the only spelling")
def forward(lib: System) -> str:
    made, x = layer(lib), lib.tensor(X)
    return "the same" if np.array_equal(lib.array(made.forward(x)), lib.array(made(x))) else "different"
