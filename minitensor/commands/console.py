"""What a terminal shows: coloured tables and progress where rich is installed and a person looks on, plain text otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minitensor.tables import Table

WIDE = 120  # columns
STYLES = {"ok": "green", "WRONG": "bold red", "blind": "yellow", "": ""}


def _rich_console() -> Any:
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


def show(table: Table) -> None:
    """Print a table."""
    console = _rich_console()
    if console is None:
        print(table)
        return
    from rich.table import Table as RichTable

    # A narrow terminal loses the last column, which explains, rather than the ends of all words
    columns = len(table.columns) if console.width >= WIDE else len(table.columns) - 1
    shown = RichTable(*table.columns[:columns], title=table.title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for row, mark in zip(table.rows, table.marks or [""] * len(table.rows), strict=True):
        shown.add_row(*row[:columns], style=STYLES[mark])
    console.print(shown)


def say(text: str, mark: str = "") -> None:
    """Print a line."""
    console = _rich_console()
    if console is None:
        print(text)
    else:
        console.print(text, style=STYLES[mark], highlight=False, markup=False)


@contextmanager
def progress(about: str = "") -> Iterator[Callable[[str], None]]:
    """Something to tell each step of long work: shown behind ``about`` while it lasts, and only to a person."""
    console = _rich_console()
    if console is None:
        yield lambda step: None
        return
    with console.status("starting") as status:
        yield lambda step: status.update(about + step)
