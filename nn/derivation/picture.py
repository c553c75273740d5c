"""The compute graph of a derivation as a picture: the adjoint rule on every edge, and what a check says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minitensor.drawing import Drawing
from minitensor.drawing.graph import DrawnEdge, DrawnGraph, DrawnNode

from .expression import reads
from .text import lines, shapes

if TYPE_CHECKING:
    from .check import Check
    from .derivation import Derivation

_MARKS = {"WRONG": "wrong", "judges disagree": "unsure"}


def picture(derivation: Derivation, check: Check | None = None) -> Drawing:
    """The leaves and the steps; on the edge to each parent what the step adds to the parent's adjoint.

    With a `Check`, an edge that is wrong is red, thick and marked ×, one on which the judges disagree dashed and marked ?.

    >>> from minitensor.nn.derivation import softmax
    >>> print(picture(softmax).text())
    Compute graph of softmax: 1 leaf, 3 operations, 1 output
    0  leaf       x                 (3, m)
    1  operation  e = exp(x)        (3, m)  <- 0
         0 -> 1  x_bar += e_bar * e
    2  operation  z = sum(e, axes)  (3, 1)  <- 1
         1 -> 2  e_bar += z_bar
    3  operation  y = e / z         (3, m)  <- 1 2  => output
         1 -> 3  e_bar += y_bar / z
         2 -> 3  z_bar += -sum(y_bar * y, axes) / z
    """
    known, told = shapes(derivation), {line.name: line for line in lines(derivation, None if check is None else check.rules)}
    number = {name: k for k, name in enumerate((*derivation.leaves, *derivation.by_name))}
    nodes, edges = [], []
    for name, k in number.items():
        kind = "operation" if name in derivation.by_name else "constant" if name in derivation.data else "leaf"
        label = told[name].text if name in derivation.by_name else name
        nodes.append(DrawnNode(k, kind, label, known[name], "", "", name == derivation.output))
    verdicts = {} if check is None else check.verdicts
    for step in derivation.steps:
        parents = [name for name in reads(step.forward) if name in number]
        for position, parent in enumerate(parents):
            edge = f"{step.name} -> {parent}"
            label = told[edge].text if edge in told else ""
            edges.append(DrawnEdge(number[parent], number[step.name], position, label, _MARKS.get(verdicts.get(edge, ""), "")))
    return Drawing(DrawnGraph(derivation.title or derivation.name, tuple(nodes), tuple(edges), _note(derivation, verdicts)))


def _note(derivation: Derivation, verdicts: dict[str, str]) -> str:
    edges = [f"{name} -> {parent}" for name, parent in derivation.edges]
    found = {what: [edge for edge in edges if verdicts.get(edge) == verdict] for verdict, what in _SAID.items()}
    return "; ".join(f"{what} {', '.join(chosen)}" for what, chosen in found.items() if chosen)


_SAID = {"WRONG": "wrong:", "judges disagree": "the judges disagree on"}
