"""How blind is a gradient check? It is run on every known mistake, and those that it accepts are counted.

A check is judged here by wrong backward passes of a whole layer; `minitensor.autograd.gradcheck` asks of each operation of one call
whether a mistake in it would show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from minitensor.autograd.plots import from_matplotlib, svg
from minitensor.errors import MissingPackageError, describe
from minitensor.tables import Table

from ..norm import Norm
from ..norm.layout import Shape
from .expression import reads
from .faults import FAULTS, PROGRAM, Replaced, known_faults, staged_backward
from .gradient_check import GRADIENTS, SHAPE, Backward, GradientCheck, layer_for, named, refuse_layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Check = GradientCheck | Callable[[Backward], Any]
Name = str | tuple[str, str]


@dataclass(frozen=True, repr=False)
class Blindness:
    """Which of the ``known`` mistakes a check accepts; prints as a table and shows itself in a notebook.

    ``refuses_right`` tells that it refuses the right backward too. ``raised`` holds the errors that the check raised, by the mistake
    that it was asked about ("right" for none). True when the check accepts the right backward and no other.
    """

    check: str
    setting: str
    layer: str
    grades: tuple[str, ...]
    known: int
    accepted: tuple[str, ...]
    refuses_right: bool
    raised: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether the right backward is accepted, and nothing else."""
        return not self.accepted and not self.refuses_right

    def __bool__(self) -> bool:
        return self.ok

    @property
    def count(self) -> str:
        """``14 of 31``, and whether the right one is refused."""
        return f"{len(self.accepted)} of {self.known}" + (", refuses the right one" if self.refuses_right else "")

    def head(self) -> str:
        """How many mistakes are accepted, in a line."""
        return f"{self.check}: accepts {len(self.accepted)} of {self.known} known mistakes in {', '.join(self.grades)} of {self.layer}"

    def table(self) -> Table:
        """The mistakes that are accepted, and what was done."""
        rows = [(name, FAULTS[name].sentence) for name in self.accepted]
        return Table(self.head(), ("accepted mistake", "what was done"), rows, ["blind"] * len(rows))

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong with the check, in sentences."""
        accepted = f"{len(self.accepted)} of {self.known} wrong backward passes are accepted: {', '.join(self.accepted)}."
        return (*([accepted] if self.accepted else []), *self._refusal())

    def _refusal(self) -> list[str]:
        error = f": it raised {self.raised['right']}" if "right" in self.raised else ""
        return [f"The right backward is refused too, so this check is useless{error}."] if self.refuses_right else []

    def notes(self) -> list[str]:
        """On which numbers the check ran, whether the right backward is refused, and which errors counted as a no."""
        kinds = Counter(error.partition(":")[0] for name, error in self.raised.items() if name != "right")
        errors = ", ".join(f"{kind} ({times} times)" for kind, times in kinds.items())
        return [*filter(None, [self.setting]), *self._refusal(), *([f"Errors counted as a no: {errors}."] if errors else [])]

    def __str__(self) -> str:
        return "\n".join([str(self.table()) if self.accepted else self.head(), *self.notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.table().to_html() if self.accepted else f"<p><b>{escape(self.head())}</b></p>"
        return table + "".join(f"<p>{escape(note)}</p>" for note in self.notes())

    def to_dict(self) -> dict[str, Any]:
        """The same, for JSON."""
        return {**asdict(self), "ok": self.ok, "wrong": self.wrong}

    def figure(self) -> Figure:
        """The bar of this check; see `compare_checks` for several beside each other."""
        return ComparedChecks({self.check: self}).figure()


@dataclass(frozen=True, repr=False)
class ComparedChecks:
    """Several checks beside each other, a `Blindness` by the name of each; prints as a table and shows itself in a notebook."""

    results: Mapping[Name, Blindness]

    @property
    def _grid(self) -> dict[tuple[str, str], Blindness]:
        return {(name, "accepts") if isinstance(name, str) else name: result for name, result in self.results.items()}

    @property
    def _sides(self) -> tuple[list[str], list[str]]:
        rows, columns = zip(*self._grid, strict=True)
        return list(dict.fromkeys(rows)), list(dict.fromkeys(columns))

    def title(self) -> str:
        """What is counted."""
        first = next(iter(self.results.values()))
        return f"accepted mistakes in {', '.join(first.grades)} of {first.layer}"

    def table(self) -> Table:
        """A row for each check; where the names are pairs, a row for each first and a column for each second part."""
        grid, (rows, columns) = self._grid, self._sides
        cells = [[grid[row, column].count if (row, column) in grid else "-" for column in columns] for row in rows]
        return Table(self.title(), ("check", *columns), [(row, *line) for row, line in zip(rows, cells, strict=True)])

    def alt(self) -> str:
        """The picture in words."""
        told = [f"{name if isinstance(name, str) else ' with '.join(name)} {result.count}" for name, result in self.results.items()]
        return f"Bar chart, {self.title()}: {'; '.join(told)}."

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        try:
            drawn = f'<div role="img" aria-label="{escape(self.alt())}">{svg(self.figure())}</div>'
        except MissingPackageError:
            drawn = ""
        return self.table().to_html() + drawn

    def figure(self) -> Figure:
        """A bar for each check, as long as the number of mistakes that it accepts; words tell where it refuses the right backward too.

        A `matplotlib.figure.Figure`. Raises `MissingPackageError` without matplotlib.
        """
        make, _ = from_matplotlib()
        grid, (rows, columns) = self._grid, self._sides
        figure: Figure = make(figsize=(8, 1.5 + 0.2 * len(rows) * (len(columns) + 1)), layout="constrained")
        axes, height = figure.add_subplot(), 0.8 / len(columns)
        for k, column in enumerate(columns):
            chosen = {i - 0.4 + (k + 0.5) * height: grid[row, column] for i, row in enumerate(rows) if (row, column) in grid}
            lengths = [len(result.accepted) for result in chosen.values()]
            bars = axes.barh([*chosen], lengths, height, edgecolor="white", label=column)
            axes.bar_label(bars, [result.count for result in chosen.values()], padding=3, fontsize="small")
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        most = max(result.known for result in grid.values())
        axes.set(xlim=(0, 1.35 * most), xticks=range(0, most + 1, 5), xlabel=self.title())  # room for the words beside the bars
        if len(columns) > 1:
            figure.legend(loc="outside lower center", ncols=len(columns))
        return figure


def blindness(check: Check, layer: str | Norm = "instance_norm", *, grades: Sequence[str] = ("dx",)) -> Blindness:
    """Which known mistakes would a gradient check accept? It is asked about each of them, and about the right backward.

    ``check`` is a `GradientCheck`, or a function of your own: it takes a ``backward(x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)``,
    calls it on numbers that it likes, and returns something true, or None, when it accepts what came. Something false is a no, and so
    is an error, whether it comes from an assertion or from a slip in the check.

    ``layer`` is ``"instance_norm"``, ``"batch_norm"``, ``"layer_norm"`` or ``"rms_norm"`` (over all axes but the first),
    ``"group_norm"`` (two groups), or a layer such as ``nn.LayerNorm(5)``, which tells what is normalised together; its parameters and
    its eps are not used. ``grades`` names the gradients that count, of ``"dx"``, ``"dgamma"`` and ``"dbeta"``: mistakes that touch only
    others are left out. What is a mistake also depends on the shapes on which the check calls ``backward``; without a call it is
    (2, 4, 3, 5).

    Raises `ValueError` for another name, `TypeError` for a check that cannot be called, and what a `GradientCheck` and the layer raise
    for each other.

    >>> usual = GradientCheck("sum(y**2)", gamma="ones", beta="zeros", eps=1e-5)
    >>> print(blindness(usual).count, "|", blindness(GradientCheck("sum(w*y)")).count)
    9 of 31 | 0 of 31
    """
    if not (isinstance(check, GradientCheck) or callable(check)):
        raise TypeError(f"blindness: a GradientCheck or a function of a backward is needed, got {describe(check)}")
    if not grades or isinstance(grades, str) or not set(grades) <= set(GRADIENTS):
        raise ValueError(f"blindness: grades must name some of {', '.join(GRADIENTS)}, such as ('dx',), got {grades!r}")
    refuse_layer(layer)
    raised: dict[str, str] = {}
    seen: dict[Shape, Norm] = {}  # the layer for every shape on which backward was called
    with np.errstate(all="ignore"):  # a wrong backward may well divide by 0
        accepts = check.of(layer, grades) if isinstance(check, GradientCheck) else check

        def accepted(name: str, replaced: Replaced) -> bool:
            def backward(x: Any, gamma: Any, beta: Any, eps: float, dy: Any) -> tuple[Any, Any, Any]:
                if x.shape not in seen:
                    seen[x.shape] = layer_for(layer, x.shape)
                norm = seen[x.shape]
                return staged_backward(x, gamma, beta, eps, dy, replaced, where=norm.layout, centred=norm.centred)

            try:
                answer = accepts(backward)
                return answer is None or bool(answer)
            except Exception as error:  # whatever a check of somebody's own raises
                raised[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
                return False

        right = accepted("right", {})
        known = _known(seen or {SHAPE: layer_for(layer, SHAPE)}, grades)
        found = tuple(name for name in known if accepted(name, FAULTS[name].replaced))
    return Blindness(
        check=str(check) if isinstance(check, GradientCheck) else named(check),
        setting=check.setting() if isinstance(check, GradientCheck) else "",
        layer=layer if isinstance(layer, str) else type(layer).__name__,
        grades=tuple(grades),
        known=len(known),
        accepted=found,
        refuses_right=not right,
        raised=raised,
    )


def compare_checks(checks: Mapping[Any, Check], layer: str | Norm = "instance_norm", *, grades: Sequence[str] = ("dx",)) -> ComparedChecks:
    """The `blindness` of each check by its name, as a table and a bar chart. Pairs for names, of a loss and a rule say, make a grid.

    Raises as `blindness`, and `ValueError` for no checks or for names that are neither strings nor pairs of strings.

    >>> print(compare_checks({"all pass": lambda backward: True, "none pass": lambda backward: False}))
    accepted mistakes in dx of instance_norm
    check      accepts
    all pass   31 of 31
    none pass  0 of 31, refuses the right one
    """
    if not checks:
        raise ValueError("compare_checks: at least one check is needed, such as {'weighted': GradientCheck('sum(w*y)')}")
    for name in checks:
        parts = (name, "") if isinstance(name, str) else name
        if not (isinstance(parts, tuple) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
            raise ValueError(f"compare_checks: the name of a check is a string or a pair of strings, got {name!r}")
    return ComparedChecks({name: blindness(check, layer, grades=grades) for name, check in checks.items()})


def _known(seen: Mapping[Shape, Norm], grades: Sequence[str]) -> list[str]:
    """The mistakes in a graded gradient that the layer has, which are mistakes for one of the shapes at least."""
    norm = next(iter(seen.values()))
    graded = set(grades) - ({"dbeta"} if norm.bias is None else set())
    wrong = {name for shape in seen for name in known_faults(norm, shape)}
    known = [name for name in FAULTS if name in wrong and _touched(name) & graded]
    if not known:
        raise ValueError(f"blindness: no mistake in {', '.join(grades)} of {norm} is known")
    return known


@cache
def _touched(name: str) -> frozenset[str]:
    """The gradients that depend on a line that is written wrongly."""
    lines = set(FAULTS[name].replaced)
    for line, rule in PROGRAM.items():
        if not lines.isdisjoint(reads(rule)):
            lines.add(line)
    return frozenset(name for name, line in zip(GRADIENTS, ("dx", "gamma_bar", "beta_bar"), strict=True) if line in lines)
