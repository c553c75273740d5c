"""The judge who computes with symbols: what is right is equal as a formula, whatever the numbers are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from minitensor.errors import MissingPackageError

from ..exact import Exact
from ..expression import Rule, reads
from ..step import Edge, Env, call
from .judge import Line, Point, Truth
from .other_numbers import OtherNumbers
from .verdict import NotJudged, Wrong, told


class _Step(NamedTuple):
    """What a rule of one step can read, what it has to give, and which names are free symbols."""

    free: Collection[str]
    env: Env
    truth: Truth


class Proof(OtherNumbers):
    """sympy, for m = 2 and m = 3: many a wrong formula is right at one of them.

    A rule is proved within its own step, for parents and an adjoint that are any numbers; where it reads more than these, it is proved
    from the leaves, as closed forms are.
    """

    name = "proof"
    sizes = (2, 3)

    def point(self, m: int) -> Point:
        try:
            plain, shapes = self._plain(m), self.shapes(m)
            symbols = _symbols({**shapes, "g": np.shape(plain[self.derivation.output]), "u": shapes[self.first]})
            leaves = {name: symbols[name] for name in shapes}
            return Point(m, leaves, self.derivation.forward(leaves), symbols["g"], symbols["u"])
        except NotJudged:
            raise
        except Exception as error:  # floats of the declared shapes run through it
            raise NotJudged(told(error)) from error

    def shapes(self, m: int) -> dict[str, tuple[int, ...]]:
        """The declared shapes cut down: to 2 along all axes besides m; with m = 3, to be quicker, to 2 along those of one length."""
        lengths = [size for shape in self.derivation.leaves.values() for size in shape if size != "m"]

        def cut(size: int | str) -> int:
            return m if size == "m" else min(int(size), 2 if m == 2 or size == lengths[0] else 1)

        return {name: tuple(map(cut, shape)) for name, shape in self.derivation.leaves.items()}

    def differentiate(self, function: Callable[[Any], Any], at: Any, weights: Any) -> Truth:
        zero = 0 * np.ravel(at)[0]  # makes symbols of constants
        weighted = [(w, value) for w, value in zip(np.ravel(weights), np.ravel(function(at) + zero), strict=True)]
        found = [sum((w * value.parent.derivative(value, x) for w, value in weighted), start=zero) for x in np.ravel(at)]
        return Truth(_shaped(found, np.shape(at)))

    def taken(self, made: Any) -> Any:
        from ..symbolic import Symbolic

        return _shaped([each if isinstance(each, Symbolic) else Exact(each).value for each in np.ravel(made)], np.shape(made))

    def agree(self, line: Line, made: Any, truth: Truth, given: Any) -> None:
        for difference in np.ravel(made - truth.value):
            zero = difference.parent.is_zero(difference)
            much = shorten(str(difference), 80, placeholder=" ...")
            shown = f"it gives too much by {much}, with m = {line.m}"
            if zero is False:
                raise Wrong(shown)
            if zero is None:
                raise NotJudged(f"{shown}, which is 0 at some numbers and could not be proved to be 0")

    def _edge(self, point: Point, edge: Edge, rule: Rule, fed: Env | None) -> None:
        if fed is not None:
            raise NotJudged("a rule is proved by itself, in the mode carried")
        alone = self._remembered(point, ("alone", edge), lambda: self._by_itself(point.m, edge))
        if not set(reads(rule)) <= set(alone.env):
            alone = self._remembered(point, ("from leaves", edge), lambda: self._from_leaves(point.m, edge, alone))
        self.agree(Line(rule, point.m), self.answer(rule, alone.env, edge[1], " -> ".join(edge)), alone.truth, None)

    def _by_itself(self, m: int, edge: Edge) -> _Step:
        (name, parent), plain = edge, self._plain(m)
        forward = self.derivation.by_name[name].forward
        fixed = {each: plain[each] for each in ("m", *self.derivation.constants)}
        free = {each: np.shape(plain[each]) for each in reads(forward) if each not in fixed} | {f"{name}_bar": np.shape(plain[name])}
        symbols = _symbols(free)
        env = {**fixed, **symbols}
        env[name] = call(forward, env)
        return _Step(free, env, self.differentiate(lambda moved: call(forward, {**env, parent: moved}), env[parent], env[f"{name}_bar"]))

    def _from_leaves(self, m: int, edge: Edge, alone: _Step) -> _Step:
        """With all nodes; the truth is that of the step by itself, at the values that its parents have."""
        bar, plain, shapes = f"{edge[0]}_bar", self._plain(m), self.shapes(m)
        symbols = _symbols({**shapes, bar: np.shape(plain[edge[0]])})
        env = {**self.derivation.forward({name: symbols[name] for name in shapes}), bar: symbols[bar]}
        values = {name: np.asarray(env[each])[index] for each in alone.free for index, name in _elements(each, np.shape(env[each]))}
        zero = 0 * np.ravel(env[bar])[0]
        truth = [each.parent.substituted(each, values) + zero for each in np.ravel(alone.truth.value)]
        return _Step((*shapes, bar), env, Truth(_shaped(truth, np.shape(alone.truth.value))))

    def _plain(self, m: int) -> Env:
        """All nodes as floats, for their shapes."""
        rng = np.random.default_rng(self.seed)
        return self.derivation.forward({name: self._floats.numbers(name, shape, rng, True) for name, shape in self.shapes(m).items()})


def _symbols(shapes: Mapping[str, tuple[int, ...]]) -> Env:
    """Arrays of symbols, all of one ring."""
    try:
        from ..symbolic import Symbols  # not sooner: sympy takes a second to import
    except MissingPackageError as missing:
        raise NotJudged(str(missing)) from missing
    names = {name: dict(_elements(name, shape)) for name, shape in shapes.items()}
    symbols = Symbols([each for inside in names.values() for each in inside.values()])
    return {name: _shaped([symbols.symbol(each) for each in inside.values()], shapes[name]) for name, inside in names.items()}


def _elements(name: str, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """Every index, and what the element there is called."""
    for index in np.ndindex(shape):
        yield index, f"{name}[{', '.join(map(str, index))}]" if index else name


def _shaped(elements: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """An object array, or for () the element itself."""
    return np.fromiter(elements, dtype=object, count=len(elements)).reshape(shape)[()]
