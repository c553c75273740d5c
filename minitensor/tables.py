"""A table of strings, as plain text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLES = {"WRONG": ' style="color: #b3261e; font-weight: bold"', "blind": ' style="color: #8a6d00"'}


@dataclass(frozen=True)
class Table:
    """A heading, column names and rows; ``marks`` gives each row a verdict to be coloured by: ``"ok"``, ``"WRONG"``, ``"blind"``.

    >>> print(Table("squares", ("n", "n*n"), (("2", "4"), ("10", "100"))))
    squares
    n   n*n
    2   4
    10  100
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Sequence[str] = ()

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (self.columns, *self.rows)
        ]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """The table as an HTML fragment, styled by itself because a notebook has no style sheet of ours."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        styles = [_STYLES.get(mark, "") for mark in self.marks or [""] * len(self.rows)]
        body = "".join(
            f"<tr{style}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row, style in zip(self.rows, styles, strict=True)
        )
        return f"<table><caption>{escape(self.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
