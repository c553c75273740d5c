"""``minitensor derive --report DIR``: one self-contained index.html, whose formulas are pictures that matplotlib sets."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path

from minitensor.commands.report import filled, image, written
from minitensor.nn.derivation.check import Check
from minitensor.nn.derivation.judges import JUDGES
from minitensor.nn.derivation.text import MARKS, PARTS, Line, given, lines, said

POINTS = 13  # the size of a formula's letters


def write(folder: Path, check: Check, step: Callable[[str], None]) -> Path:
    """Write ``folder``/index.html, which needs no network, and return its path."""
    step("drawing the graph")
    derivation, drawn = check.derivation, check.draw()
    step("setting the formulas")
    page = filled(
        "derive.html",
        title=escape(derivation.title or derivation.name),
        subject=escape(f"{derivation.name}, {given(derivation)}; {check.mode}, seed {check.seed}."),
        mark="ok" if check.ok else "wrong",
        verdict=escape(check.summary()),
        graph=image(drawn.svg.encode(), "svg+xml", drawn.alt),
        parts="\n".join(_part(check, part) for part in PARTS),
        judged=f'<div class="scroll">{check.table().to_html()}</div>' + "".join(f"<p>{escape(note)}</p>" for note in check.notes()),
    )
    return written(folder, page)


def _part(check: Check, part: str) -> str:
    chosen = [line for line in lines(check.derivation, check.rules) if line.part == part]
    if not chosen:
        return ""
    head = ("line", "formula", "because") if part == "forward" else ("line", "formula", *JUDGES)
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f'<h2>{PARTS[part]}</h2><div class="scroll"><table><tr>{cells}</tr>{"".join(_row(line, check) for line in chosen)}</table></div>'


def _row(line: Line, check: Check) -> str:
    rest = [line.note] if line.part == "forward" else [MARKS[verdict] for verdict in said(check, line)]
    cells = [f"<code>{escape(line.name)}</code>", formula(line.latex), *map(escape, rest)]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def formula(latex: str) -> str:
    r"""A formula as a picture in the line of the text; its LaTeX is what a screen reader says.

    >>> formula(r"\mu = \frac{1}{m}")[:20]
    '<img class="formula"'
    """
    import matplotlib  # here, behind the import of report, which says how to get it
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser

    spelled = latex.replace(r"\mathrel{+}=", r"+\!\!=").replace(r"\frac", r"\dfrac")  # what mathtext knows, in the size of a display
    text = f"${spelled}$"
    width, height, depth, *_ = MathTextParser("path").parse(text, prop=FontProperties(size=POINTS))
    figure = Figure(figsize=(width / 72, height / 72))
    figure.text(0, depth / height, text, fontsize=POINTS)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "formula"}):  # the same names in every run
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    style = f"width: {width:.1f}pt; vertical-align: -{depth:.1f}pt"
    return f'<img class="formula" src="data:image/svg+xml;base64,{data}" alt="{escape(latex)}" style="{style}">'
