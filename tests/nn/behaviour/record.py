"""The record of what the peers did. ``cd tests/nn && python -m behaviour.record`` runs every probe on PyTorch and MLX and writes it."""

from __future__ import annotations

import json
from pathlib import Path

from . import ROWS
from .systems import PEERS

PATH = Path(__file__).with_name("recorded.json")


def read() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The peers' versions; and by the row's name what each peer did."""
    recorded = json.loads(PATH.read_text())
    return recorded["versions"], recorded["observed"]


def write() -> None:
    """Ask all peers anew."""
    peers = {peer.name: peer() for peer in PEERS}
    versions = {name: peer.version for name, peer in peers.items()}
    observed = {row.name: {name: row.probe(peers[name]) for name in row.peers} for row in ROWS}
    PATH.write_text(json.dumps({"versions": versions, "observed": observed}, indent=1) + "\n")


if __name__ == "__main__":
    write()
