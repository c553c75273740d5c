"""DOT text from plain nodes and edges. Kinds differ in shape and in colour, for print and for every kind of eye (after Okabe and Ito)."""

from __future__ import annotations

from html import escape
from importlib import import_module
from types import ModuleType
from typing import Any

from minitensor.drawing.graph import KINDS, MARKS, DrawnEdge, DrawnGraph, DrawnNode
from minitensor.errors import MissingPackageError

STYLES = {
    "leaf": {"shape": "ellipse", "margin": "0.02,0.02", "fillcolor": "#d6eaf8", "color": "#0072b2"},
    "parameter": {"shape": "hexagon", "margin": "0,0", "fillcolor": "#fdebc8", "color": "#b87a00"},
    "constant": {"shape": "note", "fillcolor": "#f2f2f2", "color": "#8c8c8c"},
    "operation": {"shape": "box", "style": "filled,rounded", "fillcolor": "#ffffff", "color": "#4d4d4d"},
    "output": {"peripheries": "2", "fillcolor": "#d5f0e6", "color": "#007a5a"},  # laid over the style of its kind
}
EDGE_STYLES = {
    "": {},
    "wrong": {"color": "#b3261e", "fontcolor": "#b3261e", "penwidth": "3", "arrowsize": "0.9"},
    "unsure": {"style": "dashed", "penwidth": "1.8"},
}
FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontcolor": "#262626"}
MISSING = (
    'a picture needs the packages graphviz and pygraphviz: pip install -e ".[draw]" from the checkout '
    "(or pip install graphviz pygraphviz); .text() shows the graph without them"
)


def graphviz_package() -> ModuleType:
    """The package graphviz, imported when it is needed; `MissingPackageError` says how to get it."""
    try:
        return import_module("graphviz")
    except ImportError as error:
        raise MissingPackageError(MISSING) from error


def dot_text(graph: DrawnGraph, legend: bool) -> str:
    """The graph in the DOT language, the same text in every run; raises `MissingPackageError` without the package graphviz."""
    dot = graphviz_package().Digraph(
        "compute_graph",
        # ordering=in: arguments stand from left to right, so that a - b and b - a look different; nslimit bounds the time for a layout
        graph_attr={
            "ordering": "in",
            "nslimit": "2",
            "nslimit1": "2",
            "ranksep": "0.3",
            "nodesep": "0.25",
            "bgcolor": "white",
            "labelloc": "t",
            "fontsize": "13",
            **FONT,
        },
        node_attr={"style": "filled", "fontsize": "12", "height": "0.36", "width": "0.6", "margin": "0.11,0.05", **FONT},
        edge_attr={"color": "#666666", "arrowsize": "0.6", "penwidth": "0.9"},
    )
    if graph.name:
        dot.attr(label=f"<<b>{_plain(graph.name)}</b>>")
    for node in graph.nodes:
        dot.node(f"n{node.number}", _label(node), **_style(node.kind, node.output))
    for edge in graph.edges:
        dot.edge(f"n{edge.source}", f"n{edge.target}", **_edge_style(edge))
    if legend:
        _legend(dot, graph)
    return str(dot.source)


def _style(kind: str, output: bool) -> dict[str, str]:
    return STYLES[kind] | (STYLES["output"] if output else {})


def _edge_style(edge: DrawnEdge) -> dict[str, str]:
    """With a space that keeps the label off the line."""
    label = {"label": f"<&#160;{_plain(MARKS[edge.mark] + edge.label)}>", "fontsize": "10", **FONT} if edge.label else {}
    return label | EDGE_STYLES[edge.mark]


def _plain(text: str) -> str:
    return escape(text).replace("\\", "\\&#8288;")  # an invisible character, or Graphviz would replace \N by the node's name


def _label(node: DrawnNode) -> str:
    facts = f"{node.size} {node.dtype}".strip() if node.dtype or node.shape else ""
    small = [f'<font point-size="10" color="#595959">{_plain(line)}</font>' for line in (node.params, facts) if line]
    return f"<{'<br/>'.join([f'<b>{_plain(node.name)}</b>', *small])}>"


def _legend(dot: Any, graph: DrawnGraph) -> None:
    """A strip below the picture: the kinds that are in it, held there by invisible edges."""
    entries = {kind: _style(kind, False) for kind in KINDS if any(node.kind == kind for node in graph.nodes)}
    entries["output"] = _style("operation", True)
    with dot.subgraph(name="cluster_legend") as box:
        box.attr(label="", color="#d9d9d9", style="rounded", margin="5", rank="same")
        box.attr("node", fontsize="9", height="0.2", width="0.3", margin="0.05,0.02")
        box.node("legend", "legend", shape="plaintext", style="", fontcolor="#737373")
        for name, style in entries.items():
            box.node(f"legend_{name}", name, **style)
    middle = list(entries)[len(entries) // 2]
    for node in graph.nodes:
        if node.output:
            dot.edge(f"n{node.number}", f"legend_{middle}", style="invis")
