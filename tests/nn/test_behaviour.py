"""The table of behaviours: minitensor does what it says, the record of the others is theirs, and every row can fail."""

from __future__ import annotations

import re
from pathlib import Path

import behaviour
import pytest
from behaviour import ROWS, THEMES
from behaviour.faults import FAULTS
from behaviour.record import read
from behaviour.systems import Minitensor, installed
from behaviour.tables import family

VERSIONS, OBSERVED = read()
PAGE = Path(__file__).parents[2] / "docs" / "layers.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_minitensor_does_what_it_must(row):
    assert row.probe(Minitensor()) == row.ours


def test_the_record_is_not_stale():
    peers = {peer.name: peer for peer in installed() if peer.version == VERSIONS[peer.name]}
    if not peers:
        pytest.skip(f"none of {VERSIONS} is installed")
    now = {row.name: {name: row.probe(peers[name]) for name in row.peers if name in peers} for row in ROWS}
    assert now == {row: {name: said for name, said in by.items() if name in peers} for row, by in OBSERVED.items()}


def test_the_record_has_the_rows():
    assert {row.name: set(row.peers) for row in ROWS} == {name: set(by) for name, by in OBSERVED.items()}
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_difference_has_a_reason_and_nothing_else_has(row):
    assert bool(row.why) == any(said != row.ours for said in OBSERVED[row.name].values())


def differs(row):
    """Whether the probe says something else; one that a fault brings to its end shows nothing."""
    try:
        return row.probe(Minitensor()) != row.ours
    except Exception:
        return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", sorted({row.name.partition(".")[0] for row in ROWS}))
def test_every_row_can_fail(module, monkeypatch):
    """Every fault shows in a row in which no fault before it showed, and in the end all rows have shown one."""
    left = [row for row in ROWS if row.name.startswith(f"{module}.")]
    for number, fault in enumerate(FAULTS[module]):
        with monkeypatch.context() as patch:
            fault(patch)
            still = [row for row in left if not differs(row)]
        assert len(still) < len(left), f"fault {number} shows nothing new"
        left = still
    assert [row.name for row in left] == []


def test_the_page_has_every_table():
    shown = [getattr(getattr(behaviour, module), theme) for module, theme in re.findall(r"^table\((\w+)\.(\w+)\)$", PAGE.read_text(), re.M)]
    assert [theme.title for theme in shown] == [theme.title for theme in THEMES]


def test_the_family_by_its_layouts():
    together = {row[0]: row[3] for row in family().rows}
    assert together["InstanceNorm2d"] == "(H, W)"
    assert together["BatchNorm2d"] == "(N, H, W)"
    assert together["GroupNorm"] == "(C/G, H, W)"
