"""The judge who computes with fractions: what is right is equal, without a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..exact import Exact, IrrationalRoot, random_rationals, tangents, values
from ..expression import Expression, Rule, reads, traced
from ..step import Edge, Env, call
from .drawn import Drawn
from .judge import Line, Point, Truth
from .other_numbers import OtherNumbers
from .verdict import NotJudged, Wrong, told

_TRANSCENDENTAL = (np.exp, np.log, np.tanh)


class Rationals(OtherNumbers, Drawn):
    """Rational numbers whose derivatives are exact too, at three sizes.

    Along the axis m all slices are the same numbers up to order and sign, so that one eps makes all their roots rational.
    """

    name = "exact"
    sizes = (5, 7, 8)

    def numbers(self, name: str, shape: tuple[int, ...], rng: np.random.Generator, positive: bool = False) -> Any:
        if "m" not in (sizes := self.derivation.leaves.get(name, ())):
            return np.asarray(random_rationals(shape, rng, positive), dtype=object)[()]
        axis = list(sizes).index("m")
        base = random_rationals((shape[axis],), rng, positive)
        drawn = np.empty(shape, dtype=object)
        slices = np.moveaxis(drawn, axis, -1)
        for index in np.ndindex(slices.shape[:-1]):
            slices[index] = rng.permutation(base) * (1 if positive else int(rng.choice([-1, 1])))
        return drawn

    def run(self, leaves: Env) -> tuple[Env, Env]:
        """With every positive number under a root moved so that the root is rational."""
        movable = {name for name in self.derivation.positive if self.derivation.leaves[name] == ()}
        while True:
            env: Env = {"m": self.derivation.size(leaves), **self.derivation.constants, **leaves}
            for step in self.derivation.steps:
                try:
                    env[step.name] = call(step.forward, env)
                except IrrationalRoot as root:
                    name = next((each for each in reads(step.forward) if each in movable), None)
                    if name is None:
                        raise NotJudged(f"irrational root in step {step.name}") from root
                    movable.remove(name)
                    leaves = {**leaves, name: leaves[name] + _next_square(root.radicand) - root.radicand}
                    break
                except Exception as error:  # floats have run through it
                    raise NotJudged(told(error)) from error
            else:
                return leaves, env

    def differentiate(self, function: Callable[[Any], Any], at: Any, weights: Any) -> Truth:
        """Along one random direction, in one run; only by a rare chance has a wrong gradient the same slope."""
        direction = random_rationals(np.shape(at), np.random.default_rng(self.seed)) if np.shape(at) else 1
        return Truth(tangents(np.sum(weights * function(at + direction * Exact(0, 1)))).item(), along=direction)

    def carried(self, point: Point, edge: Edge) -> tuple[Any, Truth]:
        """Any numbers for the adjoint: a right rule is right for all, and the right adjoint would take a replay for each element."""
        env, (name, parent) = point.env, edge
        bar = self.numbers("", np.shape(env[name]), np.random.default_rng([self.seed, *name.encode()]))

        def output(moved: Any) -> Any:
            return call(self.derivation.by_name[name].forward, {**env, parent: moved})

        return bar, self._remembered(point, ("carried", edge), lambda: self.differentiate(output, env[parent], bar))

    def taken(self, made: Any) -> Any:
        values(made)
        return made

    def agree(self, line: Line, made: Any, truth: Truth, given: Any) -> float:
        slope = values(np.sum(made * truth.along)).item()
        difference = abs(slope - truth.value)
        if not difference:
            return 0.0
        if len(self._independent(line)) > 1:
            raise NotJudged("it differs, but two values of exp, log or tanh are independent numbers here, so that only agreement counts")
        where = " along a random direction" if np.shape(truth.along) else ""
        reason = f"it gives {_short(slope)}{where}, and {_short(truth.value)} is right, with m = {line.m}"
        raise Wrong(reason, float(difference / max(abs(slope), abs(truth.value))))

    def _independent(self, line: Line) -> set[str]:
        """The transcendental functions, with what they are applied to, that made the numbers which the rule and the truth are made of."""
        steps, fixed = self.derivation.steps, {"m", *self.derivation.constants}
        if line.step and {*reads(line.rule)} <= {*reads(line.step.forward), line.step.name, f"{line.step.name}_bar", *fixed}:
            steps = [line.step]  # its parents are just numbers
        return _calls(line.rule).union(*(_calls(step.forward) for step in steps))


def _calls(rule: Rule) -> set[str]:
    """The transcendental functions in a formula, with what they are applied to; in code that is no formula, just their names."""

    def found(value: Any) -> Iterator[str]:
        if isinstance(value, Expression):
            if value.function in _TRANSCENDENTAL:
                yield str(value)
            for part in value.parts:
                yield from found(part)

    try:
        return set(found(traced(rule)))
    except Exception:  # somebody's rule, on what it was not written for
        return {name for name in rule.__code__.co_names if name in ("exp", "log", "tanh")}


def _next_square(number: Fraction) -> Fraction:
    """The next square of quarters above a number, or 1/16."""
    return Fraction(math.isqrt(max(math.floor(number * 16), 0)) + 1, 4) ** 2


def _short(number: Fraction) -> str:
    """The fraction, or a float where it is long."""
    return str(number) if number.denominator < 10**6 else f"{float(number):.6g}"
