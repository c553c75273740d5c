"""What all judges have in common: which derivative each line of a derivation has to be, and how a rule is asked for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from minitensor.errors import ShapeError

from ..expression import Rule, reads
from ..step import Edge, Env, Step, call, fitted
from .verdict import NOT_JUDGED, RIGHT, WRONG, NotJudged, Row, Wrong, told

if TYPE_CHECKING:
    from ..derivation import Derivation


_Known = TypeVar("_Known")


class Truth(NamedTuple):
    """A derivative, how far from the truth it may be, and of a directional derivative its direction."""

    value: Any
    error: Any = 0.0
    along: Any = None


class Line(NamedTuple):
    """What is judged: a rule, at slices of m elements, and the step it belongs to, where it is judged by itself."""

    rule: Rule
    m: int
    step: Step | None = None


@dataclass
class Point:
    """Leaves, the nodes that follow from them, a cotangent g of the output and a direction u; and what is known there already."""

    m: int
    leaves: Env
    env: Env
    g: Any
    u: Any
    known: dict[Any, Any] = field(default_factory=dict)


class Judge(ABC):
    """An opinion on every line of a derivation.

    The truth of an edge s -> p is the derivative of <g, output> by p where it is used in step s: p is moved in this step alone, and all
    steps after it are replayed. The truth of a closed form is the derivative of <g, output> by a leaf; of a double-backward form, that
    of <u, gradient of the first leaf> by a leaf or by g, where the derivation's own rules make the gradient.
    """

    name: ClassVar[str]
    sizes: ClassVar[Sequence[int]] = (7,)  # m, of each point

    def __init__(self, derivation: Derivation, seed: int = 0) -> None:
        self.derivation, self.seed = derivation, seed

    @np.errstate(all="ignore")  # nan and inf are judged
    def edges(self, rules: Mapping[Edge, Rule], carried: bool = True) -> list[Row]:
        """A row for every edge, with these rules; ``carried`` feeds each of them the right adjoint of its step, else their own."""

        def at(point: Point) -> list[Row]:
            fed = None if carried else {self.derivation.output: point.g}
            return [self._row("edge", name, partial(self._edge, point, edge, rules[edge], fed)) for edge, name in names.items()]

        names = {edge: " -> ".join(edge) for edge in self.derivation.edges}
        return self._everywhere("edge", list(names.values()), at)

    @np.errstate(all="ignore")
    def closed_forms(self, forms: Mapping[str, Rule]) -> list[Row]:
        """A row for every closed form of a gradient, by leaf."""
        return self._forms("closed form", "closed form of {}", forms, self.gradient, "g")

    @np.errstate(all="ignore")
    def double_backward(self, forms: Mapping[str, Rule]) -> list[Row]:
        """A row for every form of the gradient of <u, gradient of the first leaf>, by leaf or ``"g"``."""
        return self._forms("double backward", "double backward: {}", forms, self.second_gradient, "u")

    # what makes a judge

    @abstractmethod
    def point(self, m: int) -> Point:
        """Where it judges, with slices of m elements."""

    @abstractmethod
    def differentiate(self, function: Callable[[Any], Any], at: Any, weights: Any) -> Truth:
        """The derivative of <weights, function(value)> at value = at."""

    @abstractmethod
    def taken(self, made: Any) -> Any:
        """What a rule made, as this judge's numbers."""

    @abstractmethod
    def agree(self, line: Line, made: Any, truth: Truth, given: Any) -> float | None:
        """The error, where it is none; raises Wrong or NotJudged. ``given`` is the adjoint that the rule was given."""

    def stumbled(self, rule: Rule, error: Exception, target: str) -> Exception:
        """What to say of a rule that raised an exception."""
        return Wrong(told(error))

    # points

    @cached_property
    def points(self) -> list[Point]:
        """A point for each size."""
        return [self.point(m) for m in self.sizes]

    def shapes(self, m: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the leaves, as they are declared."""
        return {name: tuple(m if size == "m" else int(size) for size in shape) for name, shape in self.derivation.leaves.items()}

    @property
    def first(self) -> str:
        """The leaf whose gradient is differentiated again."""
        return next(iter(self.derivation.leaves))

    # truths

    def truth(self, point: Point, edge: Edge) -> Truth:
        """The contribution that an edge has to make."""
        derivation, env, (name, parent) = self.derivation, point.env, edge
        position = derivation.steps.index(derivation.by_name[name])
        before = {each.name: env[each.name] for each in derivation.steps[:position]}

        def output(moved: Any) -> Any:
            held = {**before, name: call(derivation.by_name[name].forward, {**env, parent: moved})}
            return derivation.forward(point.leaves, hold=held)[derivation.output]

        return self._remembered(point, edge, lambda: self.differentiate(output, env[parent], point.g))

    def bar(self, point: Point, node: str) -> Truth:
        """The right adjoint of a node: the sum over the edges of those who use it."""
        if node == self.derivation.output:
            return Truth(point.g)
        used = [self.truth(point, edge) for edge in self.derivation.edges if edge[1] == node]
        return Truth(sum(each.value for each in used), sum(each.error for each in used))

    def carried(self, point: Point, edge: Edge) -> tuple[Any, Truth]:
        """The right adjoint of a step, and what an edge has to make of it."""
        return self.bar(point, edge[0]).value, self.truth(point, edge)

    def gradient(self, point: Point, leaf: str) -> Truth:
        """The derivative of <g, output> by a leaf."""

        def output(moved: Any) -> Any:
            return self.derivation.forward({**point.leaves, leaf: moved})[self.derivation.output]

        return self._remembered(point, leaf, lambda: self.differentiate(output, point.leaves[leaf], point.g))

    def second_gradient(self, point: Point, name: str) -> Truth:
        """The derivative of <u, gradient of the first leaf> by a leaf, or by g."""

        def gradient(moved: Any) -> Any:
            g, leaves = (moved, point.leaves) if name == "g" else (point.g, {**point.leaves, name: moved})
            return self.derivation.backward(self.derivation.forward(leaves), g)[0][self.first]

        at = point.g if name == "g" else point.leaves[name]
        return self._remembered(point, ("u", name), lambda: self.differentiate(gradient, at, point.u))

    def _remembered(self, point: Point, key: Any, made: Callable[[], _Known]) -> _Known:
        if key not in point.known:
            try:
                point.known[key] = made()
            except NotJudged as refusal:
                point.known[key] = refusal
            except Exception as error:  # the forward runs on plain numbers; on these, or near them, it does not
                point.known[key] = NotJudged(told(error))
        found: _Known = point.known[key]
        if isinstance(found, NotJudged):
            raise found
        return found

    # rules

    def answer(self, rule: Rule, env: Mapping[str, Any], target: str, what: str) -> Any:
        """What the rule makes of these numbers, in the shape of ``target``."""
        try:
            made = call(rule, {name: _own(env[name]) for name in reads(rule)})
            if made is None or made is Ellipsis:
                raise NotImplementedError
            return fitted(self.taken(made), env[target], what)
        except NotImplementedError:
            raise Wrong("not written yet") from None
        except ShapeError as error:
            raise Wrong(str(error).removeprefix(f"{what}: ")) from error
        except Wrong:
            raise
        except Exception as error:  # whatever somebody's rule may raise
            raise self.stumbled(rule, error, target) from error

    def _edge(self, point: Point, edge: Edge, rule: Rule, fed: Env | None) -> float | None:
        name, parent = edge
        what = f"{name} -> {parent}"
        if fed is None:
            bar, truth = self.carried(point, edge)
            made = self.answer(rule, {**point.env, f"{name}_bar": bar}, parent, what)
            return self.agree(Line(rule, point.m, self.derivation.by_name[name]), made, truth, bar)
        if name not in fed:
            raise NotJudged(f"no adjoint of {name} came this far")
        made = self.answer(rule, {**point.env, f"{name}_bar": fed[name]}, parent, what)
        fed[parent] = fed[parent] + made if parent in fed else made
        return self.agree(Line(rule, point.m), made, self.truth(point, edge), fed[name])

    def _forms(self, part: str, naming: str, forms: Mapping[str, Rule], truth: Callable[[Point, str], Truth], given: str) -> list[Row]:
        def judged(point: Point, target: str, name: str) -> float | None:
            env = {**point.env, "g": point.g, "u": point.u}
            made = self.answer(forms[target], env, target, name)
            return self.agree(Line(forms[target], point.m), made, truth(point, target), env[given])

        def at(point: Point) -> list[Row]:
            return [self._row(part, name, partial(judged, point, target, name)) for target, name in names.items()]

        names = {target: naming.format(target) for target in forms}
        return self._everywhere(part, list(names.values()), at)

    # rows

    def _row(self, part: str, name: str, judged: Callable[[], float | None]) -> Row:
        try:
            return Row(part, name, self.name, judged(), RIGHT)
        except Wrong as wrong:
            return Row(part, name, self.name, wrong.error, WRONG, str(wrong))
        except NotJudged as refusal:
            return Row(part, name, self.name, None, NOT_JUDGED, str(refusal))

    def _everywhere(self, part: str, names: Sequence[str], at: Callable[[Point], list[Row]]) -> list[Row]:
        """Right is what is right at every point."""
        try:
            points = self.points if names else []
        except NotJudged as refusal:
            return [Row(part, name, self.name, None, NOT_JUDGED, str(refusal)) for name in names]
        gravity = [RIGHT, NOT_JUDGED, WRONG]
        rows = zip(*map(at, points), strict=True)
        return [max(found, key=lambda row: (gravity.index(row.verdict), row.error or 0)) for found in rows]


def _own(value: Any) -> Any:
    """A copy of an array: somebody's rule may write into it."""
    return value.copy() if isinstance(value, np.ndarray) else value
