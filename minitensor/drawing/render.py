"""DOT text to SVG, PNG or PDF: by pygraphviz, which carries Graphviz inside, else by the ``dot`` program where it is installed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from minitensor.drawing.dot import MISSING, graphviz_package
from minitensor.errors import MissingPackageError

PNG_DPI = 192  # twice the 96 dots of a screen's inch: sharp on dense screens and in print

_lock = threading.Lock()


def render(dot: str, kind: str) -> bytes:
    """The picture of ``dot`` as ``kind`` ("svg", "png" or "pdf"); `MissingPackageError` when nothing here can draw."""
    if kind == "png":
        dot = dot.replace("\n", f"\n\tgraph [dpi={PNG_DPI}]\n", 1)
    try:
        pygraphviz = import_module("pygraphviz")
    except ImportError:
        return _by_program(dot, kind)
    with _quiet():
        return bytes(pygraphviz.AGraph(string=dot).draw(prog="dot", format=kind))


def _by_program(dot: str, kind: str) -> bytes:
    graphviz = graphviz_package()
    try:
        return bytes(graphviz.pipe("dot", kind, dot.encode(), quiet=True))
    except graphviz.ExecutableNotFound as error:
        raise MissingPackageError(MISSING) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Fontconfig's warnings, which C code writes past Python to file descriptor 2."""
    with _lock, open(os.devnull, "w") as nowhere:
        try:
            kept = os.dup(2)
        except OSError:  # a program without a console has nothing to keep quiet
            yield
            return
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
