"""A backward pass as a straight-line program whose lines can be exchanged, on as many variants at once as stand along the first axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..derivation.expression import Expression
from .probes import Probe

Env = dict[str, Any]
Shape = tuple[int, ...]
Writing = Mapping[str, tuple[Expression, ...]]  # per line its formulas: the first is computed, the others are ways to write the same

LEAVES = ("x", "y_bar", "gamma", "beta", "eps")
SIZES = ("N", "C", "H", "W")


def environment(probe: Probe) -> Env:
    """What the lines read: the leaves and the sizes, with an axis in front for variants, and over which axes sums run."""
    where = probe.layout
    rank = len(where.view)
    gamma = where.spread(probe.gamma)
    parameter = (1,) * (rank - gamma.ndim) + gamma.shape
    sizes = dict(zip(SIZES, probe.x.shape, strict=False)) | ({"G": probe.groups} if probe.groups else {})
    return {
        "x": probe.x.reshape(1, *where.view),
        "y_bar": probe.dy.reshape(1, *where.view),
        "gamma": gamma.reshape(1, *parameter),
        "beta": probe.beta.reshape(1, *parameter),
        **{name: np.full((1,) * (rank + 1), float(number)) for name, number in {"eps": probe.eps, **sizes}.items()},
        "axes": tuple(axis - rank for axis in where.axes),
        "shared": tuple(axis - rank for axis in range(rank) if parameter[axis] == 1),
    }


def evaluate(formula: Any, env: Mapping[str, Any], known: Mapping[int, Any]) -> Any:
    """The value of a formula; ``known`` holds those of parts that were computed before, by their identity."""
    if not isinstance(formula, Expression):
        return formula
    if isinstance(formula.function, str):
        return env[formula.function]
    if id(formula) in known:
        return known[id(formula)]
    params = {key: env[value.function] if isinstance(value, Expression) else value for key, value in formula.params.items()}
    return formula.function(*[evaluate(part, env, known) for part in formula.arguments], **params)


def parts(formula: Any) -> Iterator[Expression]:
    """A formula and all that it is made of, the innermost first."""
    if isinstance(formula, Expression):
        for part in formula.arguments:
            yield from parts(part)
        yield formula


class Program:
    """The lines of a writing, in their order."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.lines = list(writing)
        self._functions = {line: _compiled(formulas[0]) for line, formulas in writing.items()}
        self._reads = {
            line: {part.name for formula in formulas for part in parts(formula) if part.name} for line, formulas in writing.items()
        }
        self.readers = {line: self._below(line) for line in writing}

    def edited(self, formulas: Mapping[str, Any]) -> Program:
        """The program with these formulas in the place of the lines' own."""
        return Program({line: (formulas[line],) if line in formulas else own for line, own in self.writing.items()})

    def _below(self, line: str) -> list[str]:
        """The lines that change with this one."""
        touched = {line}
        for other in self.lines:
            if self._reads[other] & touched:
                touched.add(other)
        return [other for other in self.lines if other in touched and other != line]

    def __getitem__(self, line: str) -> tuple[Expression, ...]:
        return self.writing[line]

    def value(self, line: str, env: Env) -> Any:
        """What the line computes."""
        return self._functions[line](env)

    def leading_to(self, output: str) -> list[str]:
        """The lines that the output depends on, and itself."""
        needed = {output}
        for line in reversed(self.lines):
            if line in needed:
                needed |= self._reads[line]
        return [line for line in self.lines if line in needed]

    def read_below(self, line: str, output: str) -> list[str]:
        """The lines up to this one that the lines after it read on the way to the output, or that are the output."""
        lines = self.leading_to(output)
        place = lines.index(line) + 1
        below = {name for other in lines[place:] for name in self._reads[other]} | {output}
        return [other for other in lines[:place] if other in below]

    def run(self, env: Env) -> Env:
        """All lines."""
        env = dict(env)
        for line in self.lines:
            env[line] = self._functions[line](env)
        return env

    def after(self, line: str, value: Any, env: Env) -> Env:
        """All lines, where this line has this value."""
        return self.rest(self.readers[line], {**env, line: value})

    def rest(self, lines: Sequence[str], env: Env) -> Env:
        """What is in env, and these lines computed from it."""
        for line in lines:
            env[line] = self._functions[line](env)
        return env

    def known_parts(self, line: str, env: Env) -> dict[int, Any]:
        """The values of all that the formulas of this line are made of, by their identity."""
        known: dict[int, Any] = {}
        for formula in self.writing[line]:
            for part in parts(formula):
                if part.name is None:
                    known[id(part)] = evaluate(part, env, known)
        return known

    def names_above(self, line: str) -> list[str]:
        """The lines above this one that do more than give another name."""
        return [name for name in self.lines[: self.lines.index(line)] if self.writing[name][0].name is None]


def _compiled(formula: Any) -> Callable[[Env], Any]:
    """A formula as a function: as a tree it would be walked thousands of times."""
    code = compile(str(formula), "<formula>", "eval")
    scope = {"np": np}
    return lambda env: eval(code, scope, env)
