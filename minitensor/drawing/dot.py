"""DOT text from plain nodes and edges. Kinds differ in shape and in colour: pale fills, dark lines, Okabe and Ito's blue, orange and green."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

from minitensor.drawing.graph import KINDS, DrawnGraph, DrawnNode
from minitensor.errors import MissingPackageError

STYLES = {
    "leaf": {"shape": "ellipse", "fillcolor": "#d6eaf8", "color": "#0072b2"},
    "parameter": {"shape": "hexagon", "fillcolor": "#fdebc8", "color": "#b87a00"},
    "constant": {"shape": "note", "fillcolor": "#f2f2f2", "color": "#8c8c8c"},
    "operation": {"shape": "box", "style": "filled,rounded", "fillcolor": "#ffffff", "color": "#4d4d4d"},
    "output": {"peripheries": "2", "fillcolor": "#d5f0e6", "color": "#007a5a"},  # laid over the style of its kind
}
FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontcolor": "#262626"}
MISSING = (
    'a picture needs the packages graphviz and pygraphviz: pip install -e ".[draw]" from the checkout (or pip install graphviz pygraphviz); '
    ".text() shows the graph without them"
)


def dot_text(graph: DrawnGraph, name: str, legend: bool) -> str:
    """The graph in the DOT language, the same text in every run; raises `MissingPackageError` without the package graphviz."""
    try:
        graphviz = import_module("graphviz")
    except ImportError as error:
        raise MissingPackageError(MISSING) from error
    dot = graphviz.Digraph(
        "compute_graph",
        graph_attr={"rankdir": "TB", "ranksep": "0.3", "nodesep": "0.25", "bgcolor": "white", "labelloc": "t", "fontsize": "13", **FONT},
        node_attr={"style": "filled", "fontsize": "12", "height": "0.36", "width": "0.6", "margin": "0.11,0.05", **FONT},
        edge_attr={"color": "#666666", "arrowsize": "0.6", "penwidth": "0.9"},
    )
    if name:
        dot.attr(label=f"<<b>{escape(name)}</b>>")
    for node in graph.nodes:
        dot.node(f"n{node.number}", _label(node), **_style(node.kind, node.output))
    for edge in graph.edges:
        dot.edge(f"n{edge.source}", f"n{edge.target}")
    if legend:
        _legend(dot, graph)
    return str(dot.source)


def _style(kind: str, output: bool) -> dict[str, str]:
    return STYLES[kind] | (STYLES["output"] if output else {})


def _label(node: DrawnNode) -> str:
    lines = [f"<b>{escape(node.name)}</b>"]
    lines += [f'<font point-size="9" color="#595959">{escape(line)}</font>' for line in (node.params, node.facts) if line]
    return f"<{'<br/>'.join(lines)}>"


def _legend(dot: Any, graph: DrawnGraph) -> None:
    """A strip below the picture: the kinds that are in it."""
    kinds = [kind for kind in KINDS if any(node.kind == kind and not node.output for node in graph.nodes)]
    with dot.subgraph(name="cluster_legend") as box:
        box.attr(label="legend", labeljust="l", fontsize="9", color="#d9d9d9", style="rounded", margin="6", rank="same")
        box.attr("node", fontsize="9", height="0.22", width="0.3", margin="0.06,0.02")
        for kind in kinds:
            box.node(f"legend_{kind}", kind, **_style(kind, False))
        box.node("legend_output", "output", **_style("operation", True))
    for node in graph.nodes:
        if node.output:
            dot.edge(f"n{node.number}", "legend_output", style="invis")
