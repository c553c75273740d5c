"""What a comparison found: rows of two opinions, that print as a table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from minitensor.tables import Table


@dataclass(frozen=True)
class Row:
    """One quantity, two opinions.

    ``difference`` and ``relative`` are the largest absolute difference and its ratio to the largest value, ``tolerance`` the bound at
    that element (or at the worst one, when an element leaves its bound), ``used`` the largest share that an element uses of its bound.
    The ``verdict`` is ``"ok"``, ``"WRONG"`` when an element uses more than all or is nan, ``"blind"`` when no element has a bound.
    """

    quantity: str
    opinion: str
    difference: float
    relative: float
    tolerance: float
    used: float
    origin: str

    @property
    def verdict(self) -> str:
        """``"ok"``, ``"WRONG"`` or ``"blind"``."""
        if not self.used <= 1:  # nan is not
            return "WRONG"
        return "blind" if math.isinf(self.tolerance) else "ok"

    @property
    def ok(self) -> bool:
        """Whether the row is not wrong."""
        return self.verdict != "WRONG"


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare_backward` found; prints as a table and shows itself in a notebook.

    True when no row is wrong and the check could have failed: a comparison on which no known mistake would have shown proves nothing.
    """

    layer: str
    eps: float | None
    shape: tuple[int, ...]
    dtype: str
    unit: float
    m: int | None
    rows: tuple[Row, ...]
    known: int
    unseen: tuple[str, ...] = ()
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether no row is wrong, and some mistake could have shown."""
        return all(row.ok for row in self.rows) and len(self.unseen) < self.known

    def __bool__(self) -> bool:
        return self.ok

    def table(self) -> Table:
        """The rows as strings."""
        eps = "" if self.eps is None else f", eps = {self.eps:g}"
        m = "" if self.m is None else f"m = {self.m} per slice, "
        return Table(
            f"{self.layer}{eps}, on {self.dtype} {self.shape}: {m}unit roundoff u = {self.unit:.1e}",
            ("quantity", "analytic against", "max |diff|", "relative", "tolerance", "used", "verdict", "the tolerance comes from"),
            [
                (
                    r.quantity,
                    r.opinion,
                    f"{r.difference:.1e}",
                    f"{r.relative:.1e}",
                    f"{r.tolerance:.1e}",
                    f"{r.used:.2g}",
                    r.verdict,
                    r.origin,
                )
                for r in self.rows
            ],
            [row.verdict for row in self.rows],
        )

    def unseen_sentence(self) -> str:
        """Which known mistakes this input could not have shown, and what was not done as usual."""
        sentence = f"{len(self.unseen)} of the {self.known} known mistakes could NOT have shown on this input: {', '.join(self.unseen)}."
        if not self.unseen:
            each = "The one known mistake" if self.known == 1 else f"Each of the {self.known} known mistakes"
            sentence = f"{each} would have shown on this input."
        if len(self.unseen) == self.known:
            sentence = "No known mistake could have shown on this input: the comparison proves nothing."
        return f"{sentence} {self.note}".strip()

    @property
    def wrong(self) -> tuple[str, ...]:
        """The quantities that differ, each once."""
        return tuple(dict.fromkeys(row.quantity for row in self.rows if not row.ok))

    def verdict(self) -> str:
        """AGREE, DIFFER with the quantities that do, or BLIND: in one sentence."""
        if self.wrong:
            return f"DIFFER: {', '.join(self.wrong)}."
        return "AGREE." if self.ok else "BLIND: nothing could have shown."

    def __str__(self) -> str:
        return f"{self.table()}\n{self.verdict()} {self.unseen_sentence()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{self.table().to_html()}<p><b>{escape(self.verdict())}</b> {escape(self.unseen_sentence())}</p>"

    def to_dict(self) -> dict[str, Any]:
        """The same, for JSON, which has no nan and no inf: they become None."""

        def known(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        rows = [{name: known(value) for name, value in asdict(row).items()} | {"verdict": row.verdict, "ok": row.ok} for row in self.rows]
        return {**asdict(self), "rows": rows, "ok": self.ok}
