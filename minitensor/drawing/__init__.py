"""Pictures of graphs: a graph becomes plain nodes and edges, these become DOT text, and DOT becomes SVG, PNG or PDF."""

from minitensor.drawing.drawing import Drawing, draw

__all__ = ["Drawing", "draw"]
