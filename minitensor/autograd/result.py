"""What a gradient check found: GradCheck, which prints as a table and shows itself in a notebook."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from minitensor.arrays import Array
from minitensor.autograd import plots
from minitensor.autograd.blindness import Unseen
from minitensor.errors import MissingPackageError, UnsupportedError
from minitensor.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 100  # columns of the printed sentences
HEADS = {
    "ok": "OK",
    "wrong": "WRONG",
    "uncertain": "REFUSED: not certain",
    "blind": "REFUSED: this check could not have failed",
    "refused": "REFUSED",
}


@dataclass(frozen=True)
class Row:
    """One element: the derivative of ``output`` with respect to ``element`` of an input, by the walk and by numbers.

    ``verdict`` is ``"ok"``, ``"WRONG"``, ``"kink"`` or ``"uncertain"``. By method "taylor", ``bar`` is the slope of the remainder, by all
    others the tolerance.
    """

    input: str
    element: str
    output: str
    analytic: float
    numerical: float
    difference: float
    bar: float
    verdict: str


@dataclass(frozen=True, eq=False, repr=False)
class GradCheck:
    """The result of `gradcheck`; true when the gradient is right and a mistake would have shown.

    ``verdict`` is ``"ok"``, ``"wrong"``, ``"uncertain"`` (an element sits at a kink, or the numbers are too noisy), ``"blind"`` (a mistake
    would not have shown) or ``"refused"``; ``reason`` says why in a sentence, ``rows`` holds the worst elements of every input, ``blind``
    the operations in which a mistake would not have shown. ``print(result)`` shows all of it.
    """

    title: str
    verdict: str
    reason: str
    rows: tuple[Row, ...] = ()
    origin: str = ""
    notes: tuple[str, ...] = ()
    blind: tuple[Unseen, ...] = ()
    bar: str = "tolerance"
    maps: tuple[tuple[str, Array, Array], ...] = field(default=())  # per input: its name, the largest error and the marks of its elements
    evidence: Any = None  # what `step_sizes` computes its curves from

    @property
    def ok(self) -> bool:
        """Whether the gradient is right and a mistake would have shown."""
        return self.verdict == "ok"

    def __bool__(self) -> bool:
        return self.ok

    def head(self) -> str:
        """The verdict in a line."""
        return f"{self.title}: {HEADS[self.verdict]}. {self.reason}".strip()

    def table(self) -> Table:
        """The worst elements of every input."""
        rows = [
            (r.input, r.element, r.output, _number(r.analytic), _number(r.numerical), f"{r.difference:.1e}", f"{r.bar:.2g}", r.verdict)
            for r in self.rows
        ]
        columns = ("input", "element", "output", "analytic", "numerical", "|diff|", self.bar, "verdict")
        return Table("the worst elements", columns, rows, ["ok" if r.verdict == "ok" else "WRONG" for r in self.rows])

    def blind_table(self) -> Table:
        """The operations in which a mistake would not have shown."""
        rows = [(each.operation, str(each.shape), each.reason) for each in self.blind]
        return Table("a mistake in these operations would not have shown", ("operation", "shape", "because"), rows)

    def _tables(self) -> list[Table]:
        return [table for table, rows in ((self.table(), self.rows), (self.blind_table(), self.blind)) if rows]

    def _sentences(self) -> list[str]:
        return [sentence for sentence in (self.origin, *self.notes) if sentence]

    def __str__(self) -> str:
        return "\n".join(
            [*_wrapped(self.head()), *map(str, self._tables()), *(line for each in self._sentences() for line in _wrapped(each))]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        text = [f"<p><b>{escape(self.head())}</b></p>", *(table.to_html() for table in self._tables())]
        text += [f"<p>{escape(sentence)}</p>" for sentence in self._sentences()]
        try:
            figures = ([self.heatmap()] if self.maps else []) + ([self.step_sizes()] if self.evidence else [])
        except MissingPackageError:
            figures = []
        return "".join([*text, *map(plots.svg, figures)])

    def heatmap(self) -> Figure:
        """A picture per input: how far each element is off at worst, with the wrong, kinked and uncertain ones marked.

        A `matplotlib.figure.Figure`. Raises `MissingPackageError` without matplotlib, `UnsupportedError` when the check did not look at
        elements (``fast_mode``, ``method="taylor"``, too many of them, or refused before it compared anything).
        """
        if not self.maps:
            raise UnsupportedError("heatmap: this check compared no single elements; use fewer, fast_mode=False and not 'taylor'")
        return plots.heatmap(self.maps)

    def step_sizes(self) -> Figure:
        """Error against step size for the forward and the central difference, Richardson and, where it serves, the complex step.

        Along one random direction, relative to the analytic derivative. With a right gradient the lines fall until rounding lifts them
        again, a V; with a wrong one they end on a plateau as high as the mistake. Raises `MissingPackageError` without matplotlib,
        `UnsupportedError` when the check was refused before it compared anything.
        """
        if not self.evidence:
            raise UnsupportedError("step_sizes: this check was refused before it compared anything")
        return plots.step_sizes(*self.evidence)


def _number(value: float) -> str:
    return f"{value + 0.0:.7g}"  # -0.0 + 0.0 is 0.0


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
