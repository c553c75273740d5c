"""Whether a learner's backward pass is right without any tolerance: its own code, unmodified, on fractions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from minitensor.errors import DTypeError

from ..derivation.exact import IrrationalRoot, exact, random_rationals, values
from ..derivation.faults import staged_backward
from ..norm import formulas
from ..norm.layout import Shape
from .learner import GRADIENTS, Learner, Problem, raised
from .probes import LAYERS, Probe

Array = Any

# Of x, with slices of 5, 7 and 8 elements; those of a group hold several channels
SHAPES: dict[str, tuple[Shape, ...]] = {
    "instance_norm": ((2, 3, 1, 5), (2, 3, 7, 1), (2, 3, 2, 4)),
    "batch_norm": ((5, 3), (7, 3), (8, 3)),
    "layer_norm": ((3, 5), (3, 7), (3, 8)),
    "group_norm": ((2, 10, 1, 1), (2, 14, 1, 1), (2, 4, 2, 2)),
}
GROUPS = 2
_SAME = 1e-6  # relative: what floats make of the same formula


@dataclass(frozen=True)
class Exactly:
    """True where every gradient is equal, False where one is not, None where fractions cannot tell; and that in one sentence."""

    equal: bool | None
    sentence: str


def exactly(learner: Learner, layer: str, seed: int = 0) -> Exactly:
    """Compare the gradients of the learner's code with the right ones in rational arithmetic, for slices of three lengths.

    All slices of x are one vector up to order, sign and an offset, so that they have one variance v, and eps = v v + 1/4 makes the root
    rational: sqrt(v + eps) = v + 1/2. Equality of rational functions at random points proves nothing, but only by a rare chance is
    something wrong equal. Code that writes into arrays of floats, or takes another root, does not run on fractions and is not judged. Nor
    is code that gives other numbers with floats: exp and log have no rational value (see `derivation.exact.Exact`). Never raises.

    >>> def backward(x, gamma, beta, eps, dy):
    ...     r = (x.var(1, keepdims=True) + eps) ** -0.5
    ...     x_hat, h = (x - x.mean(1, keepdims=True)) * r, dy * gamma
    ...     return r * (h - h.mean(1, keepdims=True) - x_hat * (h * x_hat).mean(1, keepdims=True))
    >>> exactly(Learner(backward, layer="layer_norm"), "layer_norm").sentence
    'equal in rational arithmetic, without tolerance, at m = 5, 7 and 8'
    """
    given = [_probe(layer, shape, np.random.default_rng([seed, *shape])) for shape in SHAPES[layer]]
    try:
        for probe in given:
            if differing := _differing(learner, probe):
                return Exactly(False, f"{differing} in rational arithmetic at m = {probe.layout.m}")
    except _NotJudged as reason:
        return Exactly(None, f"not judged in rational arithmetic: {reason}")
    *others, last = (probe.layout.m for probe in given)
    return Exactly(True, f"equal in rational arithmetic, without tolerance, at m = {', '.join(map(str, others))} and {last}")


class _NotJudged(Exception):
    """Why fractions cannot tell."""


def _probe(layer: str, shape: Shape, rng: np.random.Generator) -> Probe:
    """Fractions in which every root that is needed is rational."""
    groups = GROUPS if layer == "group_norm" else None
    where = LAYERS[layer](shape, groups)
    base = random_rationals((where.m,), rng)
    x = np.empty(where.view, dtype=object)
    along = [axis for axis in range(x.ndim) if axis not in where.axes]
    slices = x.transpose(*along, *where.axes)
    for index in np.ndindex(*(x.shape[axis] for axis in along)):
        offset = random_rationals((1,), rng)
        slices[index] = (rng.permutation(base) * int(rng.choice([-1, 1])) + offset).reshape(slices[index].shape)
    c = formulas.less_mean(base, (0,))
    v = np.mean(c * c)
    gamma, beta = random_rationals((2, shape[1]), rng)
    return Probe(layer, x.reshape(shape), gamma, beta, v * v + Fraction(1, 4), random_rationals(shape, rng), groups)


def _differing(learner: Learner, probe: Probe) -> str:
    """Which gradient differs and by how much, or ""."""
    right = staged_backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, where=lambda shape: probe.layout)
    found = _run(learner, probe)
    for name, expected in zip(GRADIENTS, map(values, right), strict=True):
        if name not in found:
            continue
        if found[name].size != expected.size:
            return f"{name} has shape {found[name].shape}, and {expected.shape} is needed,"
        given = found[name].reshape(expected.shape)
        if (given != expected).any():
            _check_on_floats(learner, probe, name, given)
            off = np.max(np.abs(given - expected)) / np.max(np.abs(expected))
            return f"{name} differs by {float(off):.0e} of its largest value"
    return ""


def _run(learner: Learner, probe: Probe) -> dict[str, Array]:
    """The gradients that the learner's code returns, as fractions."""
    if learner.style == "Function":
        raise _NotJudged("a Function computes with Tensors, which hold floats")
    try:
        found = {name: np.asarray(value) for name, value in learner.results(probe).items() if name in GRADIENTS and value is not None}
        if "dx" not in found:
            raise _NotJudged(f"{learner.called} returned no dx")
        if floats := [name for name, value in found.items() if value.dtype != object]:
            raise _NotJudged(f"{floats[0]} came back in an array of {found[floats[0]].dtype}")
        return {name: values(value) for name, value in found.items()}
    except Problem as problem:
        raise _NotJudged(_reason(problem)) from problem
    except _NotJudged:
        raise
    except Exception as error:  # not real numbers, not finite, or of a class of the learner's
        raise _NotJudged(raised(error)) from error


def _reason(problem: Problem) -> str:
    if isinstance(problem.__cause__, IrrationalRoot):
        return "the code takes another root than that of the variance + eps"
    if isinstance(problem.__cause__, DTypeError):
        return "the code makes floats of the numbers that it is given, or writes them into an array of floats"
    return problem.sentence


def _check_on_floats(learner: Learner, probe: Probe, name: str, given: Array) -> None:
    """Fractions tell of a difference only where the code computes with them what it computes with floats."""
    floats = {key: _floats(getattr(probe, key)) for key in ("x", "gamma", "beta", "dy")}
    found = getattr(learner.outcome(replace(probe, **floats, eps=_floats(probe.eps).item())), name)
    expected = _floats(given)
    close = {"rtol": 0, "atol": _SAME * np.max(np.abs(expected))}
    if found is None or found.size != given.size or not np.allclose(found.reshape(given.shape), expected, **close):
        raise _NotJudged("the code computes something else with floats than with fractions, of which exp and log have no value")


def _floats(numbers: Any) -> Array:
    return values(exact(numbers)).astype(np.float64)
