"""What a right backward pass has left out because it vanishes.

Two parts of the derivation are 0 in the right place, so a gradient without them has the right values:

- the variance depends on x through mu too, but that path carries sum(x - mu) / m, which is 0;
- x may stand for x - mu in d(c c) = 2 c dc: the difference is one number per slice, which the path through the mean takes off again.

Where mu, or x - mu, is *held* at another value, neither is 0 any more, and each way to write the gradient gives its own dx.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..derivation.expression import Rule
from ..derivation.faults import staged_backward
from ..norm import formulas
from .learner import GRADIENTS, Learner
from .probes import Probe, probes

Array = Any
Lines = Mapping[str, Rule]  # of the derivation's program, written otherwise

DRAWS = slice(1, 3)  # of the probes: slices that are long enough, and not so many that loops over them take long
ALIKE = 1e-8  # of the largest value

FORMS: dict[str, Lines] = {
    "full": {},
    "one path": {"c_to_mu": lambda x_hat_to_c, axes: -np.sum(x_hat_to_c, axis=axes, keepdims=True)},
    "x": {"q_to_c": lambda q_bar, x: 2 * x * q_bar},
}
# Ways to write the variance that are equal until something is held
CENTRED: tuple[Lines, ...] = (
    {},
    {"v": lambda x, axes: np.var(x, axis=axes, keepdims=True)},
    {"v": lambda x, c, axes: formulas.mean(x * c, axes)},
)
SQUARES: Lines = {"v": lambda x, mu, axes: formulas.mean(x * x, axes) - mu * mu}
# What dx may look like: for a variance of squares, x is no slip
WRITTEN = [
    (name, {**variance, **lines}) for name, lines in FORMS.items() for variance in (*CENTRED, SQUARES) if (name, variance) != ("x", SQUARES)
]
# The forms that dx may be equal to where mu is held, those where x - mu is held, and what that means
STORIES: tuple[tuple[set[str], set[str], str], ...] = (
    (
        {"one path"},
        {"one path"},
        "right; the variance also depends on x through mu, but that path carries sum(x - mu) / m = 0, so leaving it out changes nothing",
    ),
    (
        {"full", "x"},
        {"x"},
        "right; x stands for x - mu in the derivative of (x - mu)^2, but the path through mu takes the difference off again",
    ),
)


@np.errstate(all="ignore")  # what is held may make a variance negative
def vanishing(learner: Learner, layer: str, seed: int = 0) -> str:
    """One sentence on the term that a right dx does without, and why it vanishes; "" where there is none, or it cannot be told.

    The learner's own code runs on arrays in which everything that is equal to mu, or to x - mu, is exchanged for other numbers. What it
    makes of these must be what one of the `FORMS` makes of them, and no other, on two draws. Nothing is said of code that never computes
    the adjoint of the variance: the closed form r (h - mean(h) - x_hat mean(h x_hat)) has no such path to leave out. Never raises.

    >>> def backward(x, gamma, beta, eps, dy):
    ...     mu = x.mean(0)
    ...     s = np.sqrt(((x - mu) ** 2).mean(0) + eps)
    ...     h = dy * gamma
    ...     dvar = (h * (x - mu)).sum(0) * -0.5 / s**3
    ...     dmu = (-h / s).sum(0)
    ...     return h / s + dvar * 2 * (x - mu) / len(x) + dmu / len(x)
    >>> vanishing(Learner(backward, layer="batch_norm"), "batch_norm").split(", ")[0]
    'right; the variance also depends on x through mu'
    """
    drawn = probes(layer, seed)[DRAWS]
    if not all(_is_right(learner, probe) for probe in drawn):
        return ""
    told = {_story(learner, probe, np.random.default_rng([seed, *probe.x.shape])) for probe in drawn}
    return told.pop() if len(told) == 1 else ""


class Held(np.ndarray[Any, Any]):
    """An array, and what is computed from it, in which numbers are exchanged for others as soon as they arise.

    A subclass, so that the learner's code meets all that an ndarray has. ``exchange`` gives the others, or None for an array that has none.
    """

    exchange: Callable[[Array], Array | None]

    def __array_finalize__(self, source: Any) -> None:
        self.exchange = getattr(source, "exchange", lambda array: None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple[Any, ...] = (), **params: Any) -> Any:
        plain = {name: _plain(value) for name, value in params.items()} | ({"out": tuple(map(_plain, out))} if out else {})
        made = getattr(ufunc, method)(*map(_plain, inputs), **plain)
        if not out:
            return self._seen(made)
        if len(out) == 1 and (others := self._others(made)) is not None:
            made[...] = others
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Any:
        return self._seen(super().__array_function__(function, types, args, params))

    def __getitem__(self, key: Any) -> Any:
        return self._seen(super().__getitem__(key))  # a single number would forget what it is

    def _others(self, made: Any) -> Any:
        return self.exchange(made) if isinstance(made, (np.ndarray, np.floating)) and made.dtype.kind == "f" and made.size else None

    def _seen(self, made: Any) -> Any:
        if not isinstance(made, (np.ndarray, np.floating)):
            return made
        others = self._others(_plain(made))
        seen = np.asarray(made if others is None else others).view(Held)
        seen.exchange = self.exchange
        return seen


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Held) else value


def held(x: Array, numbers: Array, others: Array) -> Held:
    """x, and whatever is computed from it, where any array of these numbers or of their negatives, in any arrangement, becomes the others.

    >>> x = held(np.array([[1.0, 2.0], [5.0, 7.0]]), numbers=np.array([1.5, 6.0]), others=np.array([0.0, 10.0]))
    >>> np.asarray(x - x.sum(axis=1, keepdims=True) / 2)
    array([[ 1.,  2.],
           [-5., -3.]])
    """
    known = np.concatenate([numbers.ravel(), -numbers.ravel()])
    order = np.argsort(known)
    keys, values = known[order], np.concatenate([others.ravel(), -others.ravel()])[order]
    rounding = 1e-11 * np.abs(keys).max()

    def exchange(array: Array) -> Array | None:
        above = np.searchsorted(keys, array - rounding).clip(max=len(keys) - 1)
        return values[above] if (np.abs(keys[above] - array) <= rounding).all() else None

    found: Held = x.view(Held)
    found.exchange = exchange
    return found


def _is_right(learner: Learner, probe: Probe) -> bool:
    outcome = learner.outcome(probe)
    given = {name: getattr(outcome, name) for name in GRADIENTS}
    right = dict(zip(GRADIENTS, _backward(probe, {}), strict=True))
    return given["dx"] is not None and all(value is None or _alike(value, right[name]) for name, value in given.items())


def _story(learner: Learner, probe: Probe, rng: np.random.Generator) -> str:
    """What the forms mean that dx is equal to where mu is held, and where x - mu is."""
    axes = probe.layout.axes
    x = probe.layout.look(probe.x)
    mu = formulas.mean(x, axes)
    c = x - mu
    s = np.sqrt(formulas.mean(c * c, axes) + probe.eps)
    v_bar = _backward(probe, {"dx": lambda v_bar, x: v_bar + 0 * x})[0]
    if (dx := _held_dx(learner, probe, v_bar, 2 * v_bar)) is None or _alike(dx, _backward(probe, {})[0]):
        return ""  # it never computes v_bar
    of_mu = _forms(learner, probe, "mu", mu, mu * rng.uniform(0.3, 0.7, mu.shape))
    of_c = _forms(learner, probe, "c", c, c + s * (rng.uniform(0.3, 0.6, mu.shape) + 0.3 * rng.standard_normal(c.shape)))
    return next((story for *forms, story in STORIES if forms == [of_mu, of_c]), "")


def _forms(learner: Learner, probe: Probe, node: str, numbers: Array, others: Array) -> set[str]:
    """The forms that the learner's dx is equal to where this node is held at other numbers."""
    dx, hold = _held_dx(learner, probe, numbers, others), {node: lambda: others}
    return set() if dx is None else {name for name, lines in WRITTEN if _alike(dx, _backward(probe, {**lines, **hold})[0])}


def _held_dx(learner: Learner, probe: Probe, numbers: Array, others: Array) -> Array | None:
    """What the learner's code gives where it meets the others in the place of the numbers; None where it cannot."""
    try:
        return np.asarray(learner.results(replace(probe, x=held(probe.x, numbers, others)))["dx"], dtype=np.float64)
    except Exception:  # the code, or what it returned: no array of numbers
        return None


def _backward(probe: Probe, lines: Lines) -> tuple[Any, Any, Any]:
    return staged_backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, lines, where=lambda shape: probe.layout)


def _alike(value: Array, right: Array) -> bool:
    return value.shape == right.shape and bool(np.allclose(value, right, rtol=0, atol=ALIKE * np.max(np.abs(right))))
