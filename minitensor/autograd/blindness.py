"""Could this check have failed? Each operation's cotangent is changed in turn, and the check is asked whether it would notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitensor.arrays import Array
from minitensor.autograd.subject import Call, Subject, hooked, nodes_between
from minitensor.tensor import Tensor

MOST_NODES = 256  # every one costs a few walks
NEARLY_ANNIHILATED = 1e-3
NOTHING = 1e-8  # of the largest contribution: what is smaller has cancelled, or is rounding


@dataclass(frozen=True)
class Unseen:
    """An operation in which a mistake would not have shown, and why; a number tells how little arrives, beside a random cotangent."""

    operation: str
    shape: tuple[int, ...]
    reason: str
    annihilated: bool


def unseen(
    subject: Subject, cotangent: Array, notices: Callable[[Array], bool], constant: Array, rounding: Array, rng: np.random.Generator
) -> tuple[list[Unseen], int]:
    """The operations that the check is blind to, and how many others hand on nothing.

    An operation is blind when ``notices`` says no to the gradient that comes out with its cotangent g scaled by 1.1, or when g lies
    nearly in the kernel of the way from there to an input: |J^T g| < 1e-3 |J^T (g * normal numbers)|, for three cotangents of the
    outputs. Then every path is there, and what they carry cancels: ``sum(y)`` and ``sum(y**2)`` on a normalisation layer.

    With one output element that alone is enough. With several, whose random cotangents leave nothing to be chosen better, paths may
    cancel for good, as the shift inside a softmax does: then all of the input's gradient must be nearly annihilated, and not be
    ``constant``, which says for each input whether its gradient is 0. One output element alone cannot tell the bias before a
    normalisation, of which nothing arrives whatever the loss, from a loss that is badly chosen. An operation of which nothing but
    ``rounding`` arrives at any input, such as a masked branch, is not blind: a mistake there is none of the function.
    """
    probes = [_Probe(subject, u, rng) for u in (cotangent, *rng.standard_normal((2, cotangent.size)))]
    first = probes[0]
    total = first.norms(first.gradient)
    count = len(first.nodes)
    chosen = range(count) if count <= MOST_NODES else sorted(rng.choice(count, MOST_NODES, replace=False))
    found = [(i, *first.contributions(i)) for i in chosen]
    largest = NOTHING * np.max([total, *(random for _, _, _, random in found)], axis=0)
    blind, idle = [], 0
    for i, scaled, arrived, random in found:
        node = first.nodes[i]
        annihilated = (random > largest) & (arrived < NEARLY_ANNIHILATED * random)
        if subject.y.size > 1:
            annihilated &= (total < NEARLY_ANNIHILATED * random) & ~constant
        for probe in probes[1:] if annihilated.any() else ():
            _, again, other = probe.contributions(i)
            annihilated &= again < NEARLY_ANNIHILATED * other
        if annihilated.any():
            block = int(np.argmax(annihilated))
            ratio = arrived[block] / random[block]
            reason = f"its cotangent is nearly annihilated on the way to {subject.names[block]} ({ratio:.0e})"
            blind.append(Unseen(node.name, node.shape, reason, True))
        elif not notices(scaled):
            if (arrived > np.maximum(largest, first.norms(rounding))).any():
                blind.append(Unseen(node.name, node.shape, "10 % more here stays within the tolerance", False))
            else:
                idle += 1
    return blind, idle


class _Probe:
    """One recorded call and one cotangent of its output; nodes are counted, because every call records its own."""

    def __init__(self, subject: Subject, cotangent: Array, rng: np.random.Generator) -> None:
        self.subject, self.cotangent, self.rng = subject, cotangent, rng
        self.call: Call = subject.call(subject.x)
        self.nodes = nodes_between(self.call)
        self.gradient = subject.pullback(self.call, cotangent)

    def contributions(self, i: int) -> tuple[Array, Array, Array]:
        """The gradient with cotangent i scaled by 1.1; per input, how much of it comes through node i, and would if that were random."""
        scaled = self._hooked(i, lambda g: g * 1.1)
        through = 10 * (scaled - self.gradient)
        random = self._hooked(i, self._random(i)) - self.gradient + through
        return scaled, self.norms(through), self.norms(random)

    def _random(self, i: int) -> Callable[[Tensor], Tensor]:
        factors = self.rng.standard_normal(self.nodes[i].shape)
        return lambda g: g * Tensor(factors, g.dtype, g.device)

    def norms(self, gradient: Array) -> Array:
        """The Euclidean norm per input."""
        return np.array([np.linalg.norm(gradient[start:end]) for start, end in self.subject.places])

    def _hooked(self, i: int, hook: Callable[[Tensor], Any]) -> Array:
        with hooked([self.nodes[i]], hook):
            return self.subject.pullback(self.call, self.cotangent)
