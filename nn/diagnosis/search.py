"""The search: which small change of the right program computes what the learner's function computed?

All one-slip changes of a line are evaluated together, as arrays with an axis more, on the small probe; so are pairs of them. What agrees
there must agree on every other probe before it is called a name. So a name is never a guess: it is a program that reproduces the learner's
numbers on data with which it was not found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..derivation.expression import Expression
from .edits import HOLE, Edit, Slip, slips
from .program import LEAVES, SIZES, Env, Program, Shape, evaluate

Edits = tuple[Edit, ...]
Source = tuple[Expression, Slip, int]  # the formula, the slip in it, and the number of what fills it

MOST = 8  # slips that make the same are kept
SAME = 1e-8  # of the largest value: what agrees to this is the same, with numbers made so that nothing is nearly alike


def same(value: Any, target: Any, precision: float) -> Any:
    """Which of the variants along the first axes are the target."""
    close = precision * np.max(np.abs(target))
    last = (..., *(-1,) * target.ndim)
    hits = np.abs(value[last] - target[last]) <= close  # few get any further
    for place in map(tuple, np.argwhere(hits)):
        hits[place] = np.all(np.abs(value[place] - target) <= close)
    return hits


@dataclass(frozen=True)
class Variants:
    """Values of one line, all of one shape, along the first axis; and per value what makes it."""

    values: Any
    sources: list[list[Source]]


class Space:
    """The programs that are one slip, or two, away from a right one."""

    def __init__(self, program: Program, env: Env, known: dict[Any, list[Variants]]) -> None:
        self.program, self._known = program, known  # what other writings have in common with this one is made once
        self._own: dict[str, list[Variants]] = {}
        self._seconds_of: dict[str, list[tuple[Slip, dict[int, list[Source]]]]] = {}
        self.base = program.run(env)
        rank = env["x"].ndim - 1
        self._first_slice = tuple(slice(None) if axis - rank in env["axes"] else slice(1) for axis in range(rank))
        self.axes = [tuple(axis - rank for axis in some) for k in range(1, rank + 1) for some in combinations(range(rank), k)]
        self.sizes = [size for size in (*SIZES, "G") if size in env]

    def variants(self, line: str) -> list[Variants]:
        """What one slip makes of a line, without those that make no difference."""
        if line in self._own:
            return self._own[line]
        scope = (*LEAVES, *self.sizes, *self.program.names_above(line))
        key = (line, scope, frozenset(map(str, self.program[line])))
        if key not in self._known:
            self._known[key] = list(self._made(line, scope))
        self._own[line] = self._known[key]
        return self._own[line]

    def _made(self, line: str, scope: Sequence[str]) -> Iterator[Variants]:
        right, known = self.base[line], self.program.known_parts(line, self.base)
        found: dict[Shape, dict[bytes, tuple[Any, list[Source]]]] = {}
        for formula in self.program[line]:
            for slip in slips(formula, scope, self.axes):
                for values, members in with_fillers(slip, range(len(slip.fillers)), self.base, known):
                    flat = values.reshape(len(values), -1)
                    largest = np.abs(flat).max(1)
                    good = np.isfinite(largest)
                    if values.shape[2:] == right.shape[1:]:
                        good &= np.abs(flat - right.reshape(1, -1)).max(1) > SAME * largest
                    rounded = (flat / np.where(largest > 0, largest, 1)[:, None]).round(7) + 0.0  # -0 and 0 are one
                    group = found.setdefault(values.shape[2:], {})
                    for i in np.flatnonzero(good):
                        key = rounded[i].tobytes() + b"%.7g" % largest[i]
                        group.setdefault(key, (values[i, 0], []))[1].append((formula, slip, members[i]))
        for group in filter(None, found.values()):
            yield Variants(np.stack([value for value, _ in group.values()]), [sources for _, sources in group.values()])

    def singles(self, output: str, target: Any, lines: Collection[str], precision: float) -> Iterator[Edits]:
        """One slip in one of these lines that makes this output the target."""
        for line in lines:
            for group in self.variants(line):
                for i in np.flatnonzero(same(self.program.after(line, group.values, self.base)[output], target, precision)):
                    for formula, slip, filler in group.sources[i]:
                        yield (slip.edit(line, formula, filler),)

    def pairs(self, output: str, target: Any, lines: Collection[str], precision: float) -> Iterator[Edits]:
        """Two slips, in two of these lines; odd ones are looked for only alone."""
        return self._paired(self.program, self.base, self._firsts, output, target, lines, precision)

    def with_one_more(self, output: str, target: Any, edits: Edits, lines: Collection[str], precision: float) -> Iterator[Edits]:
        """These edits, and one slip more in one of these lines, of which another may be spelled otherwise: that makes a difference now."""
        program = self.program.edited({edit.name: edit.new for edit in edits})
        env = program.run(self.base)
        leading = program.leading_to(output)
        for place, line in enumerate(leading):
            for sources, values, seen in self._seconds(line, env, 1, _as_it_is) if line in lines else ():
                for k, _ in np.argwhere(same(program.rest(leading[place + 1 :], {**seen, line: values})[output], target, precision)):
                    for formula, slip, filler in sources[k]:
                        yield (*edits, slip.edit(line, formula, filler))
        for more in self._paired(program, env, lambda line: self._spellings(line, env), output, target, lines, precision):
            yield (*edits, *more)

    def _paired(
        self,
        program: Program,
        base: Env,
        firsts: Callable[[str], Iterable[_Batch]],
        output: str,
        target: Any,
        lines: Collection[str],
        precision: float,
    ) -> Iterator[Edits]:
        """Line by line: all that one slip above can have made of the values that are still read is a batch (few of them differ), and each
        slip of this line is tried on the whole batch.
        """
        batches: list[_Batch] = []
        leading = program.leading_to(output)
        cut = self.one_slice if output in ("dx", "y") else _as_it_is  # a look at one slice is enough, and cheaper
        target = cut(target)
        for place, line in enumerate(leading):
            for batch in batches:
                env = {**base, **batch.values}
                if line in lines:
                    for sources, values, seen in self._seconds(line, env, len(batch.origins), cut):
                        hits = same(program.rest(leading[place + 1 :], {**seen, line: values})[output], target, precision)
                        for k, j in np.argwhere(np.broadcast_to(hits, (len(sources), len(batch.origins)))):
                            for formula, slip, filler in sources[k]:
                                for first, (origin, wrong, put) in batch.origins[j]:
                                    yield wrong.edit(first, origin, put), slip.edit(line, formula, filler)
                batch.values[line] = program.value(line, env)
            batches += firsts(line) if line in lines else ()
            batches = _merged(batches, base, program.read_below(line, output))

    def _spellings(self, line: str, env: Env) -> Iterator[_Batch]:
        for formula in self.program[line][1:]:
            value = evaluate(formula, env, {})
            if not same(value, env[line][0], SAME).all():
                yield _Batch({line: value}, [[(line, (formula, Slip(formula, ""), 0))]])

    def _firsts(self, line: str) -> Iterator[_Batch]:
        for group in self.variants(line):
            chosen = [k for k, sources in enumerate(group.sources) if _likely(sources)]
            yield _Batch({line: group.values[chosen]}, [[(line, source) for source in group.sources[k]][:MOST] for k in chosen])

    def one_slice(self, value: Any) -> Any:
        """The first slice of an array: along all axes but those of a slice, the first element."""
        return value[(..., *self._first_slice)] if isinstance(value, np.ndarray) else value

    def _seconds(self, line: str, whole: Env, count: int, cut: Callable[[Any], Any]) -> Iterator[tuple[list[list[Source]], Any, Env]]:
        """The slips of a line, their values on a batch, by shape, and the cut batch that these belong to."""
        env = {name: cut(value) for name, value in whole.items()}
        known = {True: self.program.known_parts(line, whole), False: self.program.known_parts(line, env)}
        groups: dict[Shape, tuple[list[list[Source]], list[Any]]] = {}
        for slip, members in self._distinct(line):
            for values, chosen in with_fillers(slip, list(members), whole if slip.across else env, known[slip.across]):
                values = cut(values) if slip.across else values
                sources, pieces = groups.setdefault(values.shape[2:], ([], []))
                sources += [members[filler] for filler in chosen]
                pieces.append(np.broadcast_to(values, (len(chosen), count, *values.shape[2:])))
        for sources, pieces in groups.values():
            yield sources, np.concatenate(pieces), env

    def _distinct(self, line: str) -> list[tuple[Slip, dict[int, list[Source]]]]:
        """One slip for each variant, with all that make the same, those together that differ in what fills them.

        With a slip above, it matters in which of its spellings a line is written, so the others count as slips, of no name.
        """
        if line not in self._seconds_of:
            found: dict[int, tuple[Slip, dict[int, list[Source]]]] = {}
            for formula in self.program[line][1:]:
                spelling = Slip(formula, "")
                found[id(spelling)] = spelling, {0: [(formula, spelling, 0)]}
            for group in self.variants(line):
                for sources in group.sources:
                    likely = [source for source in sources if not source[1].odd][:MOST]
                    if likely:
                        _, slip, filler = likely[0]
                        found.setdefault(id(slip), (slip, {}))[1][filler] = likely
            self._seconds_of[line] = list(found.values())
        return self._seconds_of[line]


@dataclass
class _Batch:
    """Values of lines along the first axis, and of each what made them: the line and the slip in it."""

    values: dict[str, Any]
    origins: list[list[tuple[str, Source]]]


def _merged(batches: list[_Batch], base: Env, live: Collection[str]) -> list[_Batch]:
    """The batches with what is still read alone, those of one shape together, each value once.

    To have few shapes, values are spread: to one per slice where they vary no more than that, else to all of x.
    """
    groups: dict[Any, list[_Batch]] = {}
    whole, slices = base["x"].shape[1:], base["mu"].shape[1:]
    for batch in batches:
        count = len(batch.origins)
        values: dict[str, Any] = {}
        for name in live:
            value: Any = batch.values.get(name, base[name])
            shape = slices if np.broadcast_shapes(value.shape[1:], slices) == slices else whole
            values[name] = np.broadcast_to(value, (count, *shape))
        if count and any(name in batch.values for name in live):
            groups.setdefault(tuple(value.shape[1:] for value in values.values()), []).append(_Batch(values, batch.origins))
    return [batch for batch in map(_deduplicated, groups.values()) if batch.origins]


def _deduplicated(group: list[_Batch]) -> _Batch:
    values = {name: np.concatenate([batch.values[name] for batch in group]) for name in group[0].values}
    origins = [origin for batch in group for origin in batch.origins]
    flat = np.concatenate([value.reshape(len(origins), -1) for value in values.values()], axis=1)
    finite = np.isfinite(flat).all(1)
    with np.errstate(all="ignore"):
        digits = np.where(flat == 0, 0, 7 - np.floor(np.log10(np.abs(flat) + (flat == 0))))
        rounded = np.round(flat * 10.0**digits) + 0.0
    keys = np.concatenate([rounded, digits], axis=1)
    first: dict[bytes, int] = {}
    kept: list[list[tuple[str, Source]]] = []
    chosen: list[int] = []
    for i in np.flatnonzero(finite):
        place = first.setdefault(keys[i].tobytes(), len(kept))
        if place == len(kept):
            kept.append(list(origins[i]))
            chosen.append(int(i))
        elif len(kept[place]) < MOST:
            kept[place] += origins[i]
    return _Batch({name: value[chosen] for name, value in values.items()}, kept)


def _as_it_is(value: Any) -> Any:
    return value


def _likely(sources: list[Source]) -> bool:
    return any(not slip.odd for _, slip, _ in sources)


def with_fillers(slip: Slip, chosen: Sequence[int], env: Env, known: Mapping[int, Any]) -> Iterator[tuple[Any, list[int]]]:
    """The values of a slip, by shape, along a first axis for these of its fillers and a second for the variants in env."""
    rank = env["x"].ndim
    if not slip.fillers:
        try:
            value = np.asarray(evaluate(slip.formula, env, known), float)
        except np.exceptions.AxisError:  # a sum of a plain number
            return
        yield (value if value.ndim else value.reshape((1,) * rank))[None], [0]
        return
    groups: dict[Shape, list[int]] = {}
    for i in chosen:
        filler = slip.fillers[i]
        groups.setdefault(env[filler].shape[1:] if isinstance(filler, str) else (1,) * (rank - 1), []).append(i)
    for members in groups.values():
        pieces = [env[filler] if isinstance(filler := slip.fillers[i], str) else np.full((1,) * rank, filler) for i in members]
        variants = max(map(len, pieces))
        hole = np.stack([piece if len(piece) == variants else np.broadcast_to(piece, (variants, *piece.shape[1:])) for piece in pieces])
        value = np.asarray(evaluate(slip.formula, {**env, HOLE: hole}, known), float)
        yield value if len(value) == len(members) else np.broadcast_to(value, (len(members), *value.shape[1:])), members
