"""draw: a picture of the graph below a Tensor."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from minitensor.drawing.dot import dot_text
from minitensor.drawing.graph import DrawnGraph, drawn_graph
from minitensor.drawing.render import PNG_DPI, render
from minitensor.errors import MissingPackageError
from minitensor.tensor import Tensor

LARGEST = 2000  # nodes: nobody could read more
LONGEST = 20_000  # rows that all arrows cross together: a layout takes ten seconds or so, and cannot be interrupted


def draw(y: Tensor | Sequence[Tensor], name: str = "", *, names: Mapping[str, Tensor] | None = None, legend: bool = True) -> Drawing:
    """A `Drawing` of the graph below ``y``, one Tensor or a list of them, with the title ``name``.

    ``names`` gives Tensors in the graph the user's names: ``names={"x": x, "gamma": gamma}``. Leaves, parameters, constants,
    operations and outputs differ in shape and in colour, and a ``legend`` tells them apart. Drawing changes nothing: the graph can be
    walked afterwards, and a released graph can still be drawn, without its constants. `TypeError` for anything but Tensors.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> print(draw((2.0 * x * x).sum(), names={"x": x}).text())
    Compute graph: 1 leaf, 1 constant, 3 operations, 1 output
    0  constant   2.0       ()
    1  leaf       x         (2,)  float32
    2  operation  multiply  (2,)  float32  <- 0 1
    3  operation  multiply  (2,)  float32  <- 2 1
    4  operation  sum       ()    float32  <- 3    => output
    """
    outputs = [y] if isinstance(y, Tensor) else y
    if not isinstance(outputs, (list, tuple)) or not outputs or not all(isinstance(output, Tensor) for output in outputs):
        raise TypeError(f"draw: a Tensor or a list of Tensors is needed, got {_kinds(outputs)}")
    for key, tensor in (names or {}).items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"draw: names maps names to Tensors, but {key!r} is of type {type(tensor).__name__}")
    return Drawing(drawn_graph(outputs, name, names or {}), legend)


def _kinds(y: object) -> str:
    return f"{type(y).__name__} of ({', '.join(type(each).__name__ for each in y)})" if isinstance(y, (list, tuple)) else type(y).__name__


class Drawing:
    """A graph's picture: shows itself in Jupyter, `save` writes files, `text` serves terminals. Made by `draw`; keeps no array alive."""

    def __init__(self, graph: DrawnGraph, legend: bool = True) -> None:
        self.graph, self.legend = graph, legend

    def __repr__(self) -> str:
        return f"<{self.alt}>"

    @property
    def alt(self) -> str:
        """The picture in one sentence, such as ``Compute graph: 3 leaves, 12 operations, 1 output``."""
        return self.graph.alt

    def text(self) -> str:
        """The graph in plain text, one line per node with the numbers of its inputs; needs no package."""
        return self.graph.listing()

    @cached_property
    def dot(self) -> str:
        """The picture in the DOT language; `MissingPackageError` without the package graphviz."""
        return dot_text(self.graph, self.legend)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG, with `alt` as its label for screen readers."""
        svg = self._render("svg").decode()
        return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(self.alt)}"', 1)

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG."""
        return self._render("png")

    @property
    def pdf(self) -> bytes:
        """The picture as PDF."""
        return self._render("pdf")

    def _render(self, kind: str) -> bytes:
        nodes, edges = len(self.graph.nodes), len(self.graph.edges)
        if nodes > LARGEST or self.graph.span > LONGEST:
            raise ValueError(
                f"nobody could read a picture of {nodes} nodes and {edges} arrows like these; use .text() or .dot, or draw a part"
            )
        return render(self.dot, kind)

    def save(self, path: str | Path) -> Path:
        """Write the picture to ``path`` as its suffix says: ``.svg``, ``.png``, ``.pdf`` or ``.dot``, or nothing when rendering fails."""
        path = Path(path)
        if path.suffix.lower() not in (".svg", ".png", ".pdf", ".dot"):
            raise ValueError(f"save: the suffix of {path.name!r} is not one of .svg, .png, .pdf, .dot")
        made = getattr(self, path.suffix.lower()[1:])
        path.write_bytes(made.encode() if isinstance(made, str) else made)
        return path

    def _repr_mimebundle_(self, **_filter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """SVG for notebooks and PNG for previews that show no SVG; where there can be no picture, the text and why."""
        try:
            pictures = {"image/svg+xml": self.svg, "image/png": self.png}
        except MissingPackageError as error:
            return {"text/plain": f"{self.text()}\n\n{error}"}, {}
        except ValueError as error:
            return {"text/plain": f"{self!r}: {error}"}, {}
        width, height = struct.unpack(">II", self.png[16:24])
        size = {"width": width * 96 // PNG_DPI, "height": height * 96 // PNG_DPI}
        return {"text/plain": repr(self), **pictures}, {"image/png": size}

    def _repr_svg_(self) -> str | None:
        return self._repr_mimebundle_()[0].get("image/svg+xml")
