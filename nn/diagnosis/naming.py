"""From the learner's numbers to names: which mistakes, known or not, compute them on every probe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, combinations, islice
from typing import Any

import numpy as np

from ..derivation.expression import Expression
from ..derivation.faults import FAULTS, Fault
from .edits import Edit
from .probes import Probe, probes
from .program import Program, environment, evaluate
from .search import Edits, Space
from .writings import COUNTED, writings

Array = Any
Gradients = Mapping[str, Array]  # those that the learner returned, of "dx", "dgamma", "dbeta"

Found = tuple[str, Edits, tuple[str, ...]]  # a writing, slips in it, and the outputs that they explain

MOST = 3  # names of one mistake that are told, where several compute the same
SMALL, DISTINCT = 0, 1  # the probes for pairs of slips, and for single ones
TRIED = 200  # candidates per search; those that agree on the small probe by chance are few
LINES = {"dx": "dx", "dgamma": "gamma_bar", "dbeta": "beta_bar", "y": "y"}
LIKE = {"dx": "x", "dgamma": "gamma", "dbeta": "beta", "y": "x"}  # the leaf whose shape an output has
FORWARD = ("m", "mu", "c", "q", "v", "s", "r", "x_hat")


@dataclass(frozen=True)
class Mistake:
    """What was done, in one sentence; what it is in (``where``: an edge, or a line); and which of the outputs it explains.

    ``program``, where there is one, gives these outputs on any `Probe`: the right program with this mistake in it, and with those that it
    was found together with.
    """

    sentence: str
    where: str
    path: str
    explains: tuple[str, ...]
    known_as: str = ""
    program: Callable[[Probe], dict[str, Array]] | None = field(default=None, repr=False, compare=False)


class Data:
    """The probes, what is right on them, and what the learner's function gave; ``precision`` is how equal the same numbers are."""

    def __init__(self, layer: str, seed: int, given: Sequence[Gradients], precision: float = 1e-7) -> None:
        self.layer, self.seed, self.given, self.precision = layer, seed, given, precision
        self.probes = probes(layer, seed)
        self.outputs = [name for name in LINES if all(name in each for each in given)]
        self.wrong = [name for name in self.outputs if not self.agrees(name, [env[LINES[name]] for env in _bases(layer, "chain", seed)])]

    def agrees(self, output: str, found: Iterable[Array]) -> bool:
        """Whether these are the learner's numbers, on every probe."""
        return all(
            self.close(np.asarray(value).reshape(given[output].shape), given[output])
            for value, given in zip(found, self.given, strict=True)
        )

    def close(self, value: Array, given: Array) -> bool:
        """Whether these are the same numbers; nan and inf where the other has them."""
        if value.shape != given.shape:
            return False
        largest = np.max(np.abs(given), initial=0, where=np.isfinite(given))
        return bool(np.allclose(value, given, rtol=0, atol=self.precision * largest, equal_nan=True))

    def target(self, output: str, number: int) -> Array:
        """The learner's numbers on the probe of this number, in the shape of the program's line."""
        like = _bases(self.layer, "chain", self.seed)[number][LIKE[output]]
        return self.given[number][output].reshape(like.shape[1:])

    def explaining(self, output: str, writing: str, found: Iterable[Edits]) -> Iterator[Found]:
        """Those that explain this output on every probe, and what else they explain."""
        for edits in islice(found, TRIED):
            explained = self.explained(writing, edits)
            if output in explained:
                fewer = (
                    some for some in combinations(edits, len(edits) - 1) if some and set(explained) <= set(self.explained(writing, some))
                )
                yield writing, next(fewer, edits), explained

    def explained(self, writing: str, edits: Edits) -> tuple[str, ...]:
        """The outputs that the program with these edits computes as the learner's function does, on every probe."""
        program = _program(self.layer, writing)
        left = list(self.outputs)
        for base, given in zip(_bases(self.layer, writing, self.seed), self.given, strict=True):
            env = _edited(program, edits, base)
            left = [name for name in left if self.close(_in_shape(env, name, given[name].shape), given[name])]
            if not left:
                break
        return tuple(left)


def _edited(program: Program, edits: Edits, env: dict[str, Any]) -> dict[str, Any]:
    """The program with these edits, from what it computes without them."""
    for edit in sorted(edits, key=lambda edit: program.lines.index(edit.name)):
        env = program.after(edit.name, evaluate(edit.new, env, {}), env)
    return env


def _computed(writing: str, edits: Edits, probe: Probe) -> dict[str, Array]:
    program = _program(probe.layer, writing)
    env = _edited(program, edits, program.run(environment(probe)))
    return {name: _in_shape(env, name, getattr(probe, like).shape) for name, like in LIKE.items()}


def _computed_by(fault: Fault, probe: Probe) -> dict[str, Array]:
    made = fault.backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, where=lambda shape: probe.layout)
    return dict(zip(LINES, made, strict=False))


def _in_shape(env: Mapping[str, Any], output: str, shape: tuple[int, ...]) -> Array:
    """What a program gives for this output, as an array of the learner's shape; as it is, where it has too many elements for that."""
    like = env[LIKE[output]]
    value = np.asarray(env[LINES[output]])
    if np.broadcast_shapes(value.shape, like.shape) != like.shape:
        return value
    return np.broadcast_to(value, like.shape).reshape(shape)


@cache
def _program(layer: str, writing: str) -> Program:
    return Program(writings(layer)[writing])


@cache
def _bases(layer: str, writing: str, seed: int) -> list[dict[str, Any]]:
    """The right program on every probe."""
    return [_program(layer, writing).run(environment(probe)) for probe in probes(layer, seed)]


@cache
def right_results(layer: str, seed: int) -> list[dict[str, Array]]:
    """The right dx, dgamma, dbeta and y on every probe."""
    bases = zip(probes(layer, seed), _bases(layer, "chain", seed), strict=True)
    return [{name: env[line].reshape(getattr(probe, LIKE[name]).shape) for name, line in LINES.items()} for probe, env in bases]


@cache
def space_of(writing: str, layer: str, seed: int, number: int) -> Space:
    """The programs around a right one, on the probe of this number."""
    return Space(_program(layer, writing), environment(probes(layer, seed)[number]), _shared(layer, seed, number))


@cache
def _shared(layer: str, seed: int, number: int) -> dict[Any, Any]:
    return {}


def known(data: Data) -> list[list[Mistake]]:
    """The known mistakes that explain everything by themselves: one mistake, with the names that fit it equally."""
    found = [fault for fault in FAULTS.values() if _explains(fault, data)]
    return [[_of_fault(fault, fault, tuple(data.wrong)) for fault in found]] if found else []


def known_pair(data: Data) -> list[list[Mistake]]:
    """Two known mistakes that explain everything together."""
    for pair in combinations(FAULTS.values(), 2):
        one, other = pair
        if not one.replaced.keys() & other.replaced.keys():
            both = Fault(f"{one.name} and {other.name}", "", {**one.replaced, **other.replaced})
            if _explains(both, data):
                return [[_of_fault(fault, both, tuple(data.wrong))] for fault in pair]
    return []


def _of_fault(fault: Fault, program: Fault, explains: tuple[str, ...]) -> Mistake:
    line = next(iter(fault.replaced))
    return Mistake(fault.sentence, _place(line), _path(line), explains, fault.name, partial(_computed_by, program))


def _explains(fault: Fault, data: Data) -> bool:
    if "y" in data.outputs:
        return False
    for probe, given in zip(data.probes, data.given, strict=True):
        made = _computed_by(fault, probe)
        if not all(data.close(made[name], given[name]) for name in data.outputs):
            return False
    return True


def _lines(data: Data, writing: str, output: str) -> list[str]:
    """The lines of a writing in which something can go wrong: not those that only give a name, nor y where it is not asked for."""
    return [name for name, formulas in writings(data.layer)[writing].items() if formulas[0].name is None and (name != "y" or output == "y")]


def one_slip(data: Data) -> dict[str, list[Found]]:
    """Per output that is wrong, all slips that explain it by themselves."""
    return {name: list(_singles(data, name)) for name in data.wrong}


def _singles(data: Data, output: str) -> Iterator[Found]:
    for writing in writings(data.layer):
        space = space_of(writing, data.layer, data.seed, DISTINCT)
        found = space.singles(LINES[output], data.target(output, DISTINCT), _lines(data, writing, output), data.precision)
        yield from islice(data.explaining(output, writing, found), MOST)


def _pairs(data: Data, output: str, forward: bool = True) -> Iterator[Found]:
    """All pairs of slips that explain this output: any, or none of them in the ``forward``."""
    for writing in writings(data.layer):
        if writing.endswith(COUNTED) == forward:  # where the forward takes means by itself, a wrong m spoils the backward alone
            chosen = [line for line in _lines(data, writing, output) if forward or line not in FORWARD[1:]]
            space = space_of(writing, data.layer, data.seed, SMALL)
            found = space.pairs(LINES[output], data.target(output, SMALL), chosen, data.precision)
            yield from data.explaining(output, writing, found)


def _with_one_more(data: Data, output: str, edits: Edits) -> Iterator[Found]:
    """These slips and one more, in whatever writing of the backward."""
    lines = {edit.name for edit in edits}
    for writing in writings(data.layer):
        if writing.endswith(COUNTED) == ("m" in lines):
            space = space_of(writing, data.layer, data.seed, SMALL)
            chosen = [line for line in _lines(data, writing, output) if line not in lines]
            found = space.with_one_more(LINES[output], data.target(output, SMALL), edits, chosen, data.precision)
            yield from data.explaining(output, writing, found)


def two_slips(data: Data, alone: Mapping[str, list[Found]]) -> dict[str, list[Found]]:
    """Two slips in what one does not explain. What goes wrong in the forward shows in dgamma, so it is looked for there first."""
    found = dict(alone)
    for name in reversed(data.wrong):
        if name != "dx" and not found[name]:
            found[name] = list(islice(_pairs(data, name), 4))
    if "dx" in data.wrong and not found["dx"]:
        shown = {tuple((edit.name, str(edit.new)) for edit in edits): edits for _, edits, _ in found.get("dgamma", ())}
        before = [edits for edits in shown.values() if all(edit.name in FORWARD for edit in edits)][:MOST]
        more = chain.from_iterable(_with_one_more(data, "dx", edits) for edits in before)
        found["dx"] = list(islice(more, 4)) or list(islice(_pairs(data, "dx", forward="dgamma" not in data.outputs), 4))
    return found


def combined(data: Data, per_output: Mapping[str, list[Found]]) -> list[list[Mistake]]:
    """One explanation of all that is wrong, else one for each output: mistakes, each with the names that fit it equally."""
    together = [each for each in chain.from_iterable(per_output.values()) if set(data.outputs) == set(each[2])]
    if together:
        return _told(together, tuple(data.wrong))
    return [told for name, found in per_output.items() if found for told in _told(found, (name,))]


def _told(found: Sequence[Found], explains: tuple[str, ...]) -> list[list[Mistake]]:
    """Of all that fits, the simplest, told as lists of alternatives, one list per slip."""
    ranked = sorted(found, key=lambda each: sum(_cost(edit) for edit in each[1]))
    lists = [
        [
            Mistake(edit.sentence, edit.place, _path(edit.name), explains, program=partial(_computed, writing, edits))
            for edit in edits
            if edit.what  # another spelling is none
        ]
        for writing, edits, _ in ranked
    ]
    first = lists[0]
    # Another name for one of the slips, where all others are the same; and of the same place, one is enough
    alternatives = [other for other in lists if len(other) == len(first) and sum(a != b for a, b in zip(other, first, strict=True)) <= 1]
    return [list({other[i].where: other[i] for other in reversed(alternatives)}.values())[::-1][:MOST] for i in range(len(first))]


def _cost(edit: Edit) -> float:
    """How far a slip is from what people do: a sign or a factor that is missing comes before an odd name."""
    words = ("missing", "sign", "too many", " for ", "over other axes")
    likely = next((i for i, word in enumerate(words) if word in edit.what), len(words))
    return likely + 10 * edit.odd + 10 * (edit.name == "m" and likely < words.index(" for ")) + len(str(edit.new)) / 1000


def _place(line: str) -> str:
    return Edit(line, Expression(line), Expression(line), "").place


JOINED = "where the paths are added up"
PATHS = {
    "the forward that the backward computes again": FORWARD,
    "the direct path": ("x_hat_to_c", "direct", "x_hat_bar", "y_to_x_hat"),
    "the path through the variance": (
        "x_hat_to_r",
        "r_to_s",
        "s_to_v",
        "v_to_q",
        "q_to_c",
        "v_bar",
        "through_v",
        "sum_h_x_hat",
        "mean_h_x_hat",
    ),
    "the path through the mean": ("c_to_mu", "mu_to_x", "direct_mu_bar", "variance_mu_bar", "mu_bar", "through_mu", "sum_h", "mean_h"),
    "the gradient of gamma": ("y_to_gamma", "gamma_bar"),
    "the gradient of beta": ("y_to_beta", "beta_bar"),
    "the count m": ("m",),
}


def _path(line: str) -> str:
    return next((path for path, lines in PATHS.items() if line in lines), JOINED)
