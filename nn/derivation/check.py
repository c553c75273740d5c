"""Every line of a derivation before its judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from minitensor.drawing import Drawing
from minitensor.tables import Table

from .expression import Rule, reads, source
from .judges import JUDGES, Row
from .step import Edge

if TYPE_CHECKING:
    from .derivation import Derivation

MODES = ("carried", "cumulative")
_MARKS = {"right": "ok", "WRONG": "WRONG"}
_WIDTH = 60  # of a formula in the table


@dataclass(frozen=True, repr=False)
class Check:
    """What the judges say of a derivation; prints as a table and shows itself in a notebook.

    True when every line is right by at least two judges, and by all that could tell.
    """

    derivation: Derivation
    mode: str
    seed: int
    rules: Mapping[Edge, Rule]  # those that were given
    formulas: Mapping[str, str]  # of every line
    rows: tuple[Row, ...]

    @property
    def verdicts(self) -> dict[str, str]:
        """Of every line: ``"right"``, ``"WRONG"``, ``"judges disagree"``, or ``"not judged"`` where none could tell."""
        return {name: self._together([row.verdict for row in self.rows if row.name == name]) for name in self.formulas}

    @staticmethod
    def _together(verdicts: Sequence[str]) -> str:
        said = {verdict for verdict in verdicts if verdict != "not judged"}
        return "judges disagree" if len(said) > 1 else said.pop() if said else "not judged"

    @property
    def wrong(self) -> tuple[Edge, ...]:
        """The edges whose rule is wrong."""
        verdicts = self.verdicts
        return tuple(edge for edge in self.derivation.edges if verdicts[" -> ".join(edge)] == "WRONG")

    @property
    def marks(self) -> float:
        """The fraction of the edges whose rule is right."""
        verdicts = self.verdicts
        return sum(verdicts[" -> ".join(edge)] == "right" for edge in self.derivation.edges) / len(self.derivation.edges)

    @property
    def ok(self) -> bool:
        """Whether every line is right, by at least two judges."""
        return all(verdict == "right" and self._times_right[name] >= 2 for name, verdict in self.verdicts.items())

    @property
    def _times_right(self) -> Counter[str]:
        return Counter(row.name for row in self.rows if row.verdict == "right")

    def __bool__(self) -> bool:
        return self.ok

    def table(self) -> Table:
        """A line for each rule, a column for each judge: its error, ``=`` for equal fractions, ``-`` where it cannot tell."""
        verdicts, judges = self.verdicts, list(dict.fromkeys(row.judge for row in self.rows))
        cells = {(row.name, row.judge): _cell(row) for row in self.rows}
        return Table(
            f"{self.derivation.title or self.derivation.name}, {self.mode}, seed {self.seed}",
            ("line", "rule", *judges, "verdict"),
            [
                (name, shorten(formula, _WIDTH, placeholder=" ..."), *(cells[name, judge] for judge in judges), verdicts[name])
                for name, formula in self.formulas.items()
            ],
            [_MARKS.get(verdict, "blind") for verdict in verdicts.values()],
        )

    def notes(self) -> list[str]:
        """What is wrong with the lines that are, and why a judge could not tell."""
        wrong: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.verdict == "WRONG":
                wrong.setdefault(row.name, []).append(row)
        notes = []
        for name, rows in wrong.items():
            formulas = [row for row in rows[1:] if row.judge == "proof" and row.reason.startswith("it gives")]
            notes.append(f"{name}: {'; '.join(f'{row.reason} ({row.judge})' for row in (rows[0], *formulas))}.")
        refused: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if row.verdict == "not judged":
                refused.setdefault((row.judge, row.reason), []).append(row.name)
        notes += [f"{judge} did not judge {', '.join(names)}: {reason}." for (judge, reason), names in refused.items()]
        once = [name for name, verdict in self.verdicts.items() if verdict == "right" and self._times_right[name] < 2]
        return [*notes, *([f"Judged by one judge only, which is not enough: {', '.join(once)}."] if once else [])]

    def summary(self) -> str:
        """How many lines are right, and which are not: in one sentence."""
        verdicts = self.verdicts
        right = sum(verdict == "right" for verdict in verdicts.values())
        others: dict[str, list[str]] = {}
        for name, verdict in verdicts.items():
            if verdict != "right":
                others.setdefault(verdict, []).append(name)
        parts = [f"{right} of {len(verdicts)} lines are right", *(f"{said}: {', '.join(names)}" for said, names in others.items())]
        return f"{'; '.join(parts)}."

    def __str__(self) -> str:
        return "\n".join([str(self.table()), self.summary(), *self.notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{self.table().to_html()}<p><b>{escape(self.summary())}</b> {'<br>'.join(map(escape, self.notes()))}</p>"

    def draw(self) -> Drawing:
        """The graph of the derivation, with what was found on its edges."""
        return self.derivation.draw(self)

    def to_dict(self) -> dict[str, Any]:
        """The same, for JSON, which has no nan and no inf: they become None."""
        rows = [asdict(row) | {"error": row.error if row.error is not None and math.isfinite(row.error) else None} for row in self.rows]
        return {
            "derivation": self.derivation.name,
            "mode": self.mode,
            "seed": self.seed,
            "ok": self.ok,
            "marks": self.marks,
            "wrong": [list(edge) for edge in self.wrong],
            "verdicts": self.verdicts,
            "formulas": dict(self.formulas),
            "rows": rows,
        }


def check(
    derivation: Derivation,
    rules: Any = None,
    *,
    closed_form: Mapping[str, Rule] | None = None,
    double_backward: Mapping[str, Rule] | None = None,
    judges: Iterable[str] = tuple(JUDGES),
    mode: str = "carried",
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> Check:
    """Have every adjoint rule, closed form and double-backward form of ``derivation`` judged; see `Derivation.check`."""
    if mode not in MODES:
        raise ValueError(f'check: mode must be "carried" or "cumulative", got {mode!r}')
    if seed < 0:
        raise ValueError(f"check: seed must not be negative, got {seed}")
    asked = [judges] if isinstance(judges, str) else list(judges)
    for name in asked:
        if name not in JUDGES:
            raise ValueError(f"check: there is no judge {name!r}{_hint(name, JUDGES)}; there are {', '.join(JUDGES)}")
    given = {} if rules is None else _edges_in(derivation, rules)
    edges = {**derivation.rules, **given}
    for (step, parent), rule in edges.items():
        _check_reads(derivation, f"{step} -> {parent}", rule, [f"{step}_bar"])
    closed = _forms(derivation, "closed form", derivation.closed_form if closed_form is None else closed_form, ["g"])
    double = _forms(derivation, "double backward", derivation.double_backward if double_backward is None else double_backward, ["g", "u"])
    rows: list[Row] = []
    for name in asked:
        judge = JUDGES[name](derivation, seed)
        progress(f"{name}: {len(edges)} edges")
        rows += judge.edges(edges, mode == "carried")
        if closed or double:
            progress(f"{name}: closed forms")
        rows += judge.closed_forms(closed)
        rows += judge.double_backward(double)
    formulas = {f"{step} -> {parent}": _written(rule) for (step, parent), rule in edges.items()}
    formulas |= {f"closed form of {name}": _written(rule) for name, rule in closed.items()}
    formulas |= {f"double backward: {name}": _written(rule) for name, rule in double.items()}
    return Check(derivation, mode, seed, given, formulas, tuple(rows))


def _edges_in(derivation: Derivation, rules: Any) -> dict[Edge, Rule]:
    """The rules by edge, from a mapping by edge or by name, or from a namespace, which holds other things too."""
    given = dict(rules if isinstance(rules, Mapping) else vars(rules))
    edges = {f"{step}_to_{parent}": (step, parent) for step, parent in derivation.edges}
    found: dict[Edge, Rule] = {}
    for key, rule in given.items():
        edge = key if key in derivation.rules else edges.get(key)
        if edge is None:
            written = "_to_".join(map(str, key)) if isinstance(key, tuple) else str(key)
            meant = callable(rule) and (written.partition("_to_")[0] in derivation.by_name or get_close_matches(written, edges, 1, 0.8))
            if "__name__" not in given or ("_to_" in written and meant):
                raise ValueError(f"{derivation.name} has no edge {written}{_hint(written, edges)}; its edges are {', '.join(edges)}")
        elif not callable(rule):
            raise TypeError(f"{derivation.name}: the rule {' -> '.join(edge)} must be a function, got {type(rule).__name__}")
        else:
            found[edge] = rule
    if given and not found:
        raise ValueError(f"{derivation.name}: there is no rule among what was given; functions called {', '.join(edges)} are taken")
    if "__name__" in given:  # an exercise, of which nothing may be left out
        found |= {edge: _not_written for edge in derivation.edges if edge not in found}
    return found


def _not_written() -> None:
    """What a rule that was deleted from an exercise gives."""


def _forms(derivation: Derivation, part: str, forms: Mapping[str, Rule], also: Sequence[str]) -> Mapping[str, Rule]:
    targets = [leaf for leaf in derivation.leaves if leaf not in derivation.data] + (["g"] if "u" in also else [])
    for name, rule in forms.items():
        if name not in targets:
            raise ValueError(f"{derivation.name} has no {part} of {name}{_hint(name, targets)}; there may be one of {', '.join(targets)}")
        _check_reads(derivation, f"{part} of {name}", rule, also)
    return forms


def _check_reads(derivation: Derivation, what: str, rule: Rule, also: Sequence[str]) -> None:
    known = [*also, *derivation.by_name, *derivation.leaves, *derivation.constants, "m"]
    for name in reads(rule):
        if name not in known:
            raise ValueError(f"{derivation.name}: the rule {what} reads {name}{_hint(name, known)}; it may read {', '.join(known)}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f", did you mean {near[0]}?" if near else ""


def _written(rule: Rule) -> str:
    """The formula, or where it cannot be told the name of the function."""
    try:
        return source(rule)
    except Exception:  # somebody's rule, on numbers that it was not written for
        return getattr(rule, "__name__", type(rule).__name__)


def _cell(row: Row) -> str:
    if row.verdict == "not judged":
        return "-"
    error = "" if row.error is None else f"{row.error:.0e}"
    if row.verdict == "WRONG":
        return f"WRONG {error}".rstrip()
    return {"exact": "=", "proof": "proved"}.get(row.judge, error)
