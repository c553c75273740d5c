"""One line of a derivation: what it computes, and one adjoint rule for each of its parents."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from minitensor.errors import ShapeError

from .expression import Expression, Rule, reads, traced

Edge = tuple[str, str]  # (step, parent): the unit of a derivation, and of its marking
Env = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One line of the forward, ``name = forward(parents)``, with one adjoint rule for each parent. Made by `step`."""

    name: str
    forward: Rule
    note: str
    adjoints: Mapping[str, Rule]

    @cached_property
    def reduced(self) -> tuple[str, ...]:
        """The axes that it reduced, by the names of the constants that hold them."""
        found = []

        def look(value: Any) -> None:
            if isinstance(value, Expression):
                axis = value.params.get("axis")
                if axis is not None:
                    found.append(str(axis))
                for part in value.parts:
                    look(part)

        look(traced(self.forward))
        return tuple(dict.fromkeys(found))


def step(name: str, forward: Rule, note: str = "", /, **adjoints: Rule) -> Step:
    """The `Step` name = forward(...), whose parameters name its parents; each further argument is the rule of one parent.

    A rule gives the contribution of this step to its parent's adjoint. Its parameters name what it reads: nodes, constants, and
    ``<name>_bar``, the adjoint of the step. What is smaller than the parent is broadcast; what is larger lacks a sum, and is wrong.

    >>> step("q", lambda c: c * c, "the square", c=lambda q_bar, c: 2 * c * q_bar).name
    'q'
    """
    return Step(name, forward, note, adjoints)


def call(rule: Rule, env: Mapping[str, Any]) -> Any:
    """The rule on what it reads."""
    return rule(*(env[name] for name in reads(rule)))


def sum_of(names: Sequence[str]) -> Rule:
    """The rule that adds these up.

    >>> reads(sum_of(["a", "b"])), sum_of(["a", "b"])(1, 2)
    (('a', 'b'), 3)
    """

    def total(*contributions: Any) -> Any:
        return reduce(operator.add, contributions)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    total.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return total


def fitted(value: Any, like: Any, what: str) -> Any:
    """``value`` broadcast to the shape of ``like``."""
    shape, wanted = np.shape(value), np.shape(like)
    if shape == wanted:
        return value
    try:
        fits = np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{what}: a contribution of shape {shape} does not fit its parent of shape {wanted}; is a sum missing?")
    return value + like * 0  # of whatever kind of number it is
