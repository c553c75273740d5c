"""A row of the table of behaviours, as data, and a theme: the rows of one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .systems import System

Probe = Callable[[System], str]


@dataclass(frozen=True)
class Row:
    """One point of behaviour.

    ``probe`` makes one system show it and says in a few words what came; it does not know what should come. ``ours`` is what must come from
    minitensor, and ``why`` the reason where that differs from a peer that the probe runs on. ``lucid`` and ``torch_js`` were read, not run.
    """

    name: str
    point: str
    probe: Probe
    peers: tuple[str, ...]
    ours: str
    why: str = ""
    lucid: str = ""
    torch_js: str = ""


@dataclass
class Theme:
    """Rows that stand in one table; ``peers`` are the systems that their probes run on besides minitensor."""

    title: str
    peers: tuple[str, ...] = ("PyTorch",)
    rows: list[Row] = field(default_factory=list)

    def row(self, point: str, ours: str, why: str = "", lucid: str = "", torch_js: str = "") -> Callable[[Probe], Probe]:
        """Make a row of the decorated probe."""

        def add(probe: Probe) -> Probe:
            name = f"{probe.__module__.rpartition('.')[2]}.{probe.__name__}"
            self.rows.append(Row(name, point, probe, self.peers, ours, why, lucid, torch_js))
            return probe

        return add
