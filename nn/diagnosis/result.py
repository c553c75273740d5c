"""What a diagnosis says: a verdict, the mistakes in one sentence each, hints that tell less, a table and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from minitensor.autograd.plots import from_matplotlib
from minitensor.tables import Table

from .coefficients import RIGHT, TERMS, Coefficients
from .naming import Mistake

Edge = tuple[str, str]
MARKS = {"right": "ok", "wrong": "WRONG", "not graded": "blind"}


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a backward pass: "right", "wrong" or "not graded". As a bool it is true where that is "right".

    ``outputs`` says of dx, dgamma, dbeta and, where a forward was given, y, whether it is right, wrong or was not returned. ``mistakes``
    holds, per mistake, the names that fit it equally, the likeliest first; each was verified to reproduce the numbers on data that it was
    not found with. Where nothing does, `explained` is False and ``residual`` tells how far off the numbers are. ``failing_edges`` are
    known where the function returned its staged adjoints.
    """

    layer: str
    verdict: str
    outputs: Mapping[str, str]
    mistakes: Sequence[Sequence[Mistake]] = ()
    coefficients: Coefficients | None = None
    residual: float = 0.0
    notes: Sequence[str] = ()
    failing_edges: Sequence[Edge] = ()
    problem: str = ""

    def __bool__(self) -> bool:
        return self.verdict == "right"

    def remarked(self, remarks: Sequence[str]) -> Diagnosis:
        """The same, with further notes."""
        return replace(self, notes=(*self.notes, *remarks))

    @property
    def wrong(self) -> list[str]:
        """The outputs that are wrong."""
        return [name for name, verdict in self.outputs.items() if verdict == "wrong"]

    @property
    def unexplained(self) -> list[str]:
        """The outputs that are wrong, and no mistake says why."""
        told = {name for names in self.mistakes for name in names[0].explains}
        return [name for name in self.wrong if name not in told]

    @property
    def explained(self) -> bool:
        """Whether all that is wrong has a name."""
        return not self.unexplained

    @property
    def sentence(self) -> str:
        """The diagnosis in one sentence, or one for each mistake."""
        if self.verdict == "not graded":
            return f"Not graded: {self.problem}"
        if self.verdict == "right":
            return f"Right: {listed([name for name, verdict in self.outputs.items() if verdict == 'right'])}."
        told = [_told(names) for names in self.mistakes]
        if left := self.unexplained:
            told.append(f"unexplained: {listed(left)} differ{'s' * (len(left) == 1)} by {self.residual:.2g} of the largest value")
        return f"Wrong: {'; and '.join(told)}."

    def hint(self, level: int = 3) -> str:
        """What is told of a mistake: 1 which gradient is wrong, 2 also on which path, 3 everything."""
        if level not in (1, 2, 3):
            raise ValueError(f"hint: the level is 1, 2 or 3, got {level!r}")
        if self.verdict != "wrong" or level == 3:
            return self.sentence
        named = {verdict: [name for name, own in self.outputs.items() if own == verdict] for verdict in ("wrong", "right")}
        which = "; ".join(f"{listed(some)} {'is' if len(some) == 1 else 'are'} {verdict}" for verdict, some in named.items() if some)
        if level == 1:
            return f"{which}."
        paths = list(dict.fromkeys(names[0].path for names in self.mistakes))
        return f"{which}. Look at {listed(paths)}." if paths else f"{which}. {self._by_coefficients()}"

    def _by_coefficients(self) -> str:
        """What the coefficients tell where nothing has a name."""
        if self.coefficients is None or "dx" not in self.wrong:
            return "No single path can be blamed."
        off = [term for term, name, right in zip(TERMS, self.coefficients.names, RIGHT, strict=True) if name != str(right)]
        return f"Look at the term{'s' if len(off) > 1 else ''} {listed(off)}."

    def __str__(self) -> str:
        lines = [self.sentence, *self.notes]
        if self.coefficients is not None and "dx" in self.wrong:
            c = self.coefficients
            lines.append(
                f"dx = c1 [r h] + c2 [r mean(h)] + c3 [r x_hat mean(h x_hat)]: {c} for 1 | -1 | -1, and {c.residual:.1g} left over"
            )
        if self.failing_edges:
            lines.append("Failing edges: " + ", ".join(f"{step} -> {parent}" for step, parent in self.failing_edges))
        return "\n".join(lines)

    def table(self) -> Table:
        """One row per output."""
        rows = []
        for name, verdict in self.outputs.items():
            told = "; ".join(_told(names) for names in self.mistakes if name in names[0].explains)
            rows.append((name, verdict, told or ("unexplained" if verdict == "wrong" else "")))
        return Table(self.layer, ("output", "verdict", "what was done"), rows, [MARKS[verdict] for verdict in self.outputs.values()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(line)}</p>" for line in str(self).split("\n"))
        return notes + (self.table().to_html() if self.outputs else "")

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        c = self.coefficients
        return {
            "layer": self.layer,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "outputs": dict(self.outputs),
            "explained": self.explained,
            "mistakes": [
                [{key: getattr(one, key) for key in ("sentence", "where", "path", "explains", "known_as")} for one in names]
                for names in self.mistakes
            ],
            "coefficients": None if c is None else {"values": list(c.values), "names": list(c.names), "residual": c.residual},
            "residual": self.residual if math.isfinite(self.residual) else None,  # JSON has no inf
            "notes": list(self.notes),
            "failing edges": [list(edge) for edge in self.failing_edges],
            "problem": self.problem,
        }

    def figure(self) -> Any:
        """The three coefficients of dx as bars, each with the mark that it should reach: a ``matplotlib.figure.Figure``."""
        if self.coefficients is None:
            raise ValueError("figure: there is no dx, and so no coefficients to draw")
        make, _ = from_matplotlib()
        figure = make(figsize=(6, 3), layout="constrained")
        axes = figure.add_subplot()
        values, names = self.coefficients.values, self.coefficients.names
        right = [name == str(wanted) for name, wanted in zip(names, RIGHT, strict=True)]
        shown = [
            f"{term}\n{name if name != '?' else f'{value:.3g} (no product)'}"
            for term, name, value in zip(TERMS, names, values, strict=True)
        ]
        bars = axes.bar(range(3), values, color=["#0072b2" if ok else "#d55e00" for ok in right], width=0.55)
        for bar, ok in zip(bars, right, strict=True):
            bar.set_hatch("" if ok else "//")  # not by colour alone
        axes.hlines(
            RIGHT, [k - 0.4 for k in range(3)], [k + 0.4 for k in range(3)], colors="#262626", linestyles="dashed", label="right: 1, -1, -1"
        )
        axes.axhline(0, color="#8c8c8c", linewidth=0.8)
        axes.set_xticks(range(3), shown)
        axes.set_ylabel("coefficient (median over slices)")
        axes.legend(frameon=False)
        return figure


def _told(names: Sequence[Mistake]) -> str:
    """A mistake in one sentence; where others would give the same numbers, they are told too."""
    first, *others = names
    same = [other.sentence for other in others if other.sentence != first.sentence]
    return first.sentence + (f" (the same numbers would come from: {'; or '.join(same)})" if same else "")


def listed(words: Sequence[str]) -> str:
    """Words as they are listed in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
