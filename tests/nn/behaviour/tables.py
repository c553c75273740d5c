"""The rows as tables: minitensor observed now, the others as recorded or read."""

from __future__ import annotations

from collections.abc import Sequence

from minitensor import nn
from minitensor.tables import Table

from .record import read
from .row import Theme
from .systems import Minitensor


class MarkdownTable(Table):
    """A table that a notebook shows by Markdown, so that code and headings of a page are styled alike."""

    def _repr_markdown_(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def table(theme: Theme) -> MarkdownTable:
    """A theme's rows; columns in which nothing stands are left out."""
    versions, observed = read()
    here = Minitensor()
    peers = [f"{name} {version}" for name, version in versions.items()]
    columns = ["", "minitensor", *peers, "Lucid (read)", "torch.js (read)", "why we differ"]
    rows = [
        [
            row.point,
            _code(row.probe(here)),
            *(_code(observed[row.name].get(name, "")) for name in versions),
            row.lucid,
            row.torch_js,
            row.why,
        ]
        for row in theme.rows
    ]
    kept = [i for i, column in enumerate(zip(*rows, strict=True)) if any(column)]
    return MarkdownTable(theme.title, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def family() -> MarkdownTable:
    """Which axes every layer of the family normalises together, told by its own `layout`."""
    sizes = {"N": 7, "C": 6, "H": 4, "W": 5}
    names = {size: name for name, size in sizes.items()} | {3: "G", 2: "C/G", 1: "1"}
    n, c, h, w = sizes.values()
    layers = {
        nn.InstanceNorm2d(c): (n, c, h, w),
        nn.InstanceNorm(c): (n, h, w, c),
        nn.BatchNorm2d(c): (n, c, h, w),
        nn.GroupNorm(3, c): (n, c, h, w),
        nn.LayerNorm((c, h, w)): (n, c, h, w),
        nn.LayerNorm(w): (n, c, h, w),
        nn.RMSNorm(w): (n, c, h, w),
    }
    rows = []
    for layer, shape in layers.items():
        where = layer.layout(shape)
        together = [where.view[axis] for axis in where.axes]
        told = [shape, where.view, together, where.parameter]
        rows.append([type(layer).__name__, *(_letters(sizes_, names) for sizes_ in told), "no" if not layer.centred else "yes"])
    return MarkdownTable("family", ["layer", "input", "looked at as", "normalised together", "weight and bias as", "mean removed"], rows)


def _letters(shape: Sequence[int], names: dict[int, str]) -> str:
    return f"({', '.join(names[size] for size in shape)})"


def _code(cell: str) -> str:
    """What quotes Python is set as code."""
    return f"`{cell}`" if "=" in cell else cell
