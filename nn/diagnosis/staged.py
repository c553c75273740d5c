"""Which lines of a derivation went wrong, where a learner's function returns its staged adjoints too."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain
from operator import mul
from typing import Any

import numpy as np

from ..derivation import instance_norm
from ..derivation.expression import Rule, reads
from ..derivation.step import Edge, Env, call
from .learner import Outcome
from .probes import Probe
from .program import environment

Array = Any
Shape = tuple[int, ...]
Contributions = Mapping[Edge, Callable[[Env], Any]]  # of some edges, made otherwise than by their rule

CLOSE = 1e-7  # of the largest value
# Names of nodes as they are compared, in which underscores and capitals do not count
_PLAIN = {name.replace("_", ""): name for name in (*instance_norm.by_name, "x", "gamma", "beta") if name != instance_norm.output}


@np.errstate(all="ignore")  # nan and inf are wrong
def failing_edges(layer: str, probes: Sequence[Probe], outcomes: Sequence[Outcome]) -> list[Edge]:
    """The edges (step, parent) whose adjoint rule is wrong, from the adjoints that the learner's function returned on these probes.

    Each is judged in carried mode: it should be what the rules of the derivation make of the learner's own adjoints of the steps that use
    the node. So a slip fails once, and two that cancel each other both fail. Where the learner returned none, the rules make it of those
    before. Of several edges that come together in a node, those are named that can explain the difference alone, with another factor or
    something else in the place of what their rule reads; all of them where none can.

    Adjoints are called as the nodes of the derivation are, "mu", "mu_bar" or "dmu"; axes of length 1 may be missing, axes merged, or all
    in reverse order. Other names and shapes are not known, and what equals the node itself is not its adjoint. Without any staged adjoint
    nothing can be told: [].

    >>> from minitensor.nn.diagnosis.probes import probes
    >>> probe = probes("batch_norm")[0]
    >>> s, c = np.sqrt(probe.x.var(axis=0) + probe.eps), probe.x - probe.x.mean(axis=0)
    >>> dx_hat = probe.dy * probe.gamma
    >>> dr = (dx_hat * c).sum(axis=0)
    >>> ds = -dr / s  # of d(1/s) = -ds / s^2
    >>> dx = (dx_hat / s + c * ds / s / len(c)) - (dx_hat / s).mean(axis=0)
    >>> failing_edges("batch_norm", [probe], [Outcome(dx=dx, adjoints={"x_hat_bar": dx_hat, "dr": dr, "ds": ds})])
    [('r', 's')]
    """
    stages = [_Stages(probe, outcome) for probe, outcome in zip(probes, outcomes, strict=True) if outcome.dx is not None]
    nodes = [node for node in _PLAIN.values() if stages and all(node in each.given for each in stages)]
    if not {*nodes} - {"x", "gamma", "beta"}:
        return []
    for each in stages:
        each.given = {node: each.given[node] for node in nodes}
    right = [node for node in nodes if all(each.is_right(node) for each in stages)]
    cleared = {edge for node in right for edge in stages[0].leading_to(node) if all(each.matters(node, edge) for each in stages)}
    found = set(chain.from_iterable(_blamed(stages, node, cleared) for node in nodes if node not in right))
    return [edge for edge in instance_norm.edges if edge in found]


def _blamed(stages: Sequence[_Stages], node: str, cleared: Collection[Edge]) -> Sequence[Edge]:
    """Which of the edges that lead to a node explain what is wrong there; none that something right came through, if there are others."""
    edges = list(stages[0].leading_to(node))
    edges = [edge for edge in edges if edge not in cleared] or edges
    if len(edges) == 1:
        return edges
    return [edge for edge in edges if any(all(each.explains(node, edge, slip) for each in stages) for slip in _slips(edge))] or edges


def _slips(edge: Edge) -> Iterator[Callable[[Env], Any]]:
    """The rule of an edge, and the rule with something else in the place of what it reads."""
    rule = instance_norm.rules[edge]
    yield partial(call, rule)
    for name in reads(rule):
        for other in (*instance_norm.leaves, *instance_norm.by_name, "y_bar", "1"):
            if name not in ("axes", "shared", other):
                yield partial(_misread, rule, name, other)


def _misread(rule: Rule, name: str, other: str, env: Env) -> Any:
    return call(rule, {**env, name: env[other]})


class _Stages:
    """The adjoints that a learner's function returned on a probe, and what they should be."""

    def __init__(self, probe: Probe, outcome: Outcome) -> None:
        leaves = environment(probe)
        constants = {name: leaves[name] for name in ("axes", "shared")}
        derivation = replace(instance_norm, constants=constants)
        forward = derivation.forward({name: leaves[name] for name in derivation.leaves})
        self.env: Env = {**forward, "y_bar": leaves["y_bar"], "1": 1.0}
        self.given: dict[str, Array] = {}
        named = {**outcome.adjoints, "dx": outcome.dx, "dgamma": outcome.dgamma, "dbeta": outcome.dbeta}
        for name, value in named.items():
            node = _node(name)
            if node and value is not None:
                read = _reading(value, np.shape(self.env[node]), np.shape(self.env["x"]))
                if read is not None and not _close(read, self.env[node]):
                    self.given[node] = read

    def leading_to(self, node: str) -> Iterator[Edge]:
        """The edges to a node from the nearest adjoints that are given."""
        for edge in instance_norm.edges:
            if edge[1] == node:
                yield edge
                if edge[0] not in self.given:
                    yield from self.leading_to(edge[0])

    def expected(self, node: str, otherwise: Contributions) -> Array:
        """What the adjoint of a node should be, given those of the learner's that lead to it."""
        if node == instance_norm.output:
            return self.env["y_bar"]
        total = 0.0
        for edge in instance_norm.edges:
            if edge[1] == node:
                bar = self.given[edge[0]] if edge[0] in self.given else self.expected(edge[0], otherwise)
                env = {**self.env, f"{edge[0]}_bar": bar}
                total = total + (otherwise[edge](env) if edge in otherwise else call(instance_norm.rules[edge], env))
        return total

    def is_right(self, node: str) -> bool:
        """Whether the learner's adjoint is what it should be."""
        return _close(self.given[node], self.expected(node, {}))

    def matters(self, node: str, edge: Edge) -> bool:
        """Whether the adjoint of a node changes with the contribution of an edge."""
        return not _close(self.expected(node, {edge: lambda env: 0.0}), self.expected(node, {}))

    def explains(self, node: str, edge: Edge, slip: Callable[[Env], Any]) -> bool:
        """Whether the learner's adjoint is what it should be, but for this contribution of an edge, times any number."""
        others = self.expected(node, {edge: lambda env: 0.0})
        part, whole = self.expected(node, {edge: slip}) - others, self.given[node] - others
        factor = np.sum(whole * part) / np.sum(part * part)
        return _close(self.given[node], others + factor * part)


def _node(name: str) -> str | None:
    """The node that an adjoint of this name belongs to."""
    plain = name.lower().replace("_", "").removesuffix("bar")
    return _PLAIN.get(plain) or _PLAIN.get(plain.removeprefix("d"))


def _reading(value: Array, node: Shape, x: Shape) -> Array | None:
    """The value in the shape of its node, or of x, where the sum over the slice was forgotten; None where its axes are not known."""
    for shape in (node, x):
        for array in (value, value.T):
            if array.size == math.prod(shape) and _ends(array.shape) <= _ends(shape):
                return array.reshape(shape)
    return None


def _ends(shape: Shape) -> set[int]:
    """How many elements the first axes have together: if those of one shape are among those of another, it merges axes of that."""
    return {1, *accumulate(shape, mul)}


def _close(value: Array, right: Array) -> bool:
    """Equal to `CLOSE`, and nan where the other is."""
    value, right = np.broadcast_arrays(value, right)
    largest = np.max(np.abs(right), initial=0, where=np.isfinite(right))
    return bool(np.allclose(value, right, rtol=0, atol=CLOSE * largest, equal_nan=True))
