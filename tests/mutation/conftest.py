"""Where the judged tests are found, and the score at the end of the run."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "engine"))

from mutants import SCORES  # noqa: E402  (it imports the judges)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The share of mutants killed, by what was mutated."""
    if SCORES:
        terminalreporter.section("mutants killed")
        for line in report():
            terminalreporter.write_line(line)


def report() -> list[str]:
    """One line for each part, one for all."""
    total = [sum(column) for column in zip(*SCORES.values(), strict=True)]
    rows = [*SCORES.items(), ("all", total)]
    return [
        f"{name:32} {killed:4} of {made - equivalent:4}" + (f", and {equivalent} proved equivalent" if equivalent else "")
        for name, (made, killed, equivalent) in rows
    ]
