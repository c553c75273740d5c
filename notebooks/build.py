"""Make each notebook from its source: ``python notebooks/build.py`` runs every ``NN_name.py`` and writes ``NN_name.ipynb`` with outputs.

With ``--check`` nothing is written: it fails when a notebook does not run, or when the committed one has other cells or other kinds of
output than a fresh run of its source. (The digits of a rounding error may differ between machines, so numbers are not compared: the
notebooks assert what they claim.)
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[tuple[str, ...]]]]:
    """The kind and the text of every cell, and the kinds of its outputs."""
    found = []
    for cell in notebook.cells:
        outputs = [(output.output_type, *sorted(output.get("data", {}))) for output in cell.get("outputs", [])]
        found.append((cell.cell_type, cell.source, outputs))
    return found


def executed(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, run from top to bottom; a failing cell raises."""
    notebook = jupytext.read(source)
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"  # the same on every build
    NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(HERE)}}).execute()
    return notebook


def main() -> int:
    check = "--check" in sys.argv[1:]
    for source in sorted(HERE.glob("[0-9][0-9]_*.py")):
        target = source.with_suffix(".ipynb")
        notebook = executed(source)
        if not check:
            nbformat.write(notebook, target)
        elif cells(nbformat.read(target, as_version=4)) != cells(notebook):
            print(f"{target.name} was not made from {source.name}: run python notebooks/build.py", file=sys.stderr)
            return 1
        print(f"{source.name}: {len(notebook.cells)} cells ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
