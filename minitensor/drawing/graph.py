"""A graph as plain nodes and edges: no arrays, no references, and the same numbers in every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitensor.arrays import ShapeDtype
from minitensor.errors import describe
from minitensor.tensor import Leaf, Tensor

MARKS = {"": "", "wrong": "× ", "unsure": "? "}  # of an edge, and what stands before its label for those who do not see its colour
KINDS = {"leaf": "leaves", "parameter": "parameters", "constant": "constants", "operation": "operations"}  # and how several are called


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """What is drawn of one leaf, parameter, constant or operation."""

    number: int
    kind: str
    name: str
    shape: tuple[int | str, ...]  # an axis may have a name for a length, "m"
    dtype: str  # empty for Python numbers, which have none
    params: str = ""
    output: bool = False

    @property
    def size(self) -> str:
        """The shape in text: (2, 3, m)."""
        return str(self.shape).replace("'", "")


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """The node numbered ``source`` is argument ``position`` of the node numbered ``target``; ``mark`` is one of `MARKS`."""

    source: int
    target: int
    position: int
    label: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class DrawnGraph:
    """Nodes in topological order (inputs before users, inputs in argument order), and edges in the order of their targets."""

    name: str
    nodes: tuple[DrawnNode, ...]
    edges: tuple[DrawnEdge, ...]
    note: str = ""

    @property
    def alt(self) -> str:
        """One sentence for those who do not see the picture, and the ``note``."""
        counts = [(sum(node.kind == kind for node in self.nodes), kind, several) for kind, several in KINDS.items()]
        counts.append((sum(node.output for node in self.nodes), "output", "outputs"))
        title = f"Compute graph of {self.name}" if self.name else "Compute graph"
        counted = ", ".join(f"{n} {one if n == 1 else several}" for n, one, several in counts if n)
        return f"{title}: {counted}" + (f"; {self.note}" if self.note else "")

    @property
    def span(self) -> int:
        """How many rows all arrows cross together in a picture: what a layout has to place."""
        row = [0] * len(self.nodes)
        for edge in self.edges:
            row[edge.target] = max(row[edge.target], row[edge.source] + 1)
        return sum(row[edge.target] - row[edge.source] for edge in self.edges)

    def listing(self) -> str:
        """One line per node: number, kind, name, shape, dtype, the numbers of its inputs, parameters, and whether it is an output.

        Below it stands one line for each edge to it that has a label.
        """
        inputs: list[list[str]] = [[] for _ in self.nodes]
        for edge in self.edges:
            inputs[edge.target].append(str(edge.source))
        digits = len(str(len(inputs) - 1))
        rows = []
        for node, used in zip(self.nodes, inputs, strict=True):
            facts = [f"{node.number:{digits}}", node.kind, node.name, node.size, node.dtype]
            rows.append([*facts, " ".join(["<-", *used]) if used else "", node.params, "=> output" if node.output else ""])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip()] for row in rows]
        for edge in self.edges:
            if edge.label:
                lines[edge.target].append(f"{'':{digits}}    {edge.source} -> {edge.target}  {MARKS[edge.mark]}{edge.label}")
        return "\n".join([self.alt, *(line for node in lines for line in node)])


@dataclass(eq=False, slots=True)
class _Constant:
    """One use of a value that carries no gradient."""

    value: Any
    edges: tuple[()] = ()


def drawn_graph(outputs: Sequence[Tensor], name: str, names: Mapping[str, Tensor]) -> DrawnGraph:
    """The graph below ``outputs``; ``names`` tells what the user calls some of its Tensors."""
    called = {id(tensor._array if tensor._node is None else tensor._node): key for key, tensor in names.items()}
    roots = [_Constant(tensor._array) if tensor._node is None else tensor._node for tensor in outputs]
    ends, number = set(roots), dict[Any, int]()
    nodes: list[DrawnNode] = []
    edges: list[DrawnEdge] = []
    stack: list[tuple[Any, list[tuple[int, Any]] | None]] = [(root, None) for root in reversed(roots)]
    while stack:  # each node is met twice: before its sources and, with them, after
        node, sources = stack.pop()
        if node in number:
            continue
        if sources is None:
            sources = _sources(node)
            stack.append((node, sources))
            stack.extend((source, None) for _, source in reversed(sources))
        else:
            number[node] = len(nodes)
            nodes.append(_drawn(node, len(nodes), called, node in ends))
            edges.extend(DrawnEdge(number[source], number[node], position) for position, source in sources)
    return DrawnGraph(name, tuple(nodes), tuple(edges))


def _sources(node: Any) -> list[tuple[int, Any]]:
    """The arguments by position: what made them, or a constant; a released graph has forgotten its constants, and None is no argument."""
    values = getattr(node, "inputs", None) or [None] * len(node.edges)
    found = [value if edge is None else edge for edge, value in zip(node.edges, values, strict=True)]
    return [
        (position, source if edge is not None else _Constant(source))
        for position, (edge, source) in enumerate(zip(node.edges, found, strict=True))
        if source is not None
    ]


def _drawn(node: Any, number: int, called: Mapping[int, str], output: bool) -> DrawnNode:
    if isinstance(node, _Constant):
        value, shape = node.value, tuple(np.shape(node.value))
        name = called.get(id(value)) or ("constant" if shape or isinstance(value, ShapeDtype) else _short(value))
        return DrawnNode(number, "constant", name, shape, str(getattr(value, "dtype", "")), "", output)
    own = called.get(id(node), "")
    if isinstance(node, Leaf):
        kind = "parameter" if getattr(type(node.tensor()), "kind", "") == "parameter" else "leaf"  # what a class of Tensors may say
        return DrawnNode(number, kind, own or kind, node.shape, str(node.dtype), "", output)
    told = {key: value for key, value in node.params.items() if value is not False and (value is not None or key == "index")}
    params = ", ".join(f"{key}={_short(value)}" for key, value in told.items())
    name = f"{own} = {node.name}" if own not in ("", node.name) else node.name
    dtypes = node.dtype if isinstance(node.dtype, tuple) else (node.dtype,)  # of a function with several outputs
    return DrawnNode(number, "operation", name, node.shape, ", ".join(map(str, dtypes)), params, output)


def _short(value: Any) -> str:
    """A value in a few characters that are the same in every run: never an address, never a long array."""
    if isinstance(value, (tuple, list)):
        opening, closing = "()" if isinstance(value, tuple) else "[]"
        inner = ", ".join(map(_short, value[:8])) + ", …" * (len(value) > 8)
        return f"{opening}{inner}{',' * (opening == '(' and len(value) == 1)}{closing}"
    if isinstance(value, slice):
        ends = ["" if end is None else _short(end) for end in (value.start, value.stop, value.step)]
        return ":".join(ends if ends[2] else ends[:2])
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _short(value.item()) if value.shape == () else describe(value)
    if isinstance(value, (int, float, complex, str, np.dtype, type(None))):
        text = str(value) if isinstance(value, np.dtype) else repr(value)
        text = f"{value:.6g}" if isinstance(value, float) and len(text) > 8 else text
        return text if len(text) <= 40 else text[:39] + "…"
    return "..." if value is ... else str(getattr(value, "__name__", type(value).__name__))
