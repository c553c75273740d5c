"""Where the judged tests are found, and the score at the end of the run."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "engine"))

from mutants import SCORES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The share of mutants killed, by module, and with ``-v`` by function too."""
    if not SCORES:
        return
    terminalreporter.section("mutants killed")
    for module in [*dict.fromkeys(module for module, _ in SCORES), ""]:
        rows = [(name, score) for (home, name), score in SCORES.items() if module in ("", home)]
        terminalreporter.write_line(_row(module or "all", *map(sum, zip(*(score for _, score in rows), strict=True))))
        if terminalreporter.config.option.verbose > 0 and module:
            for name, score in rows:
                terminalreporter.write_line(_row(f"    {name}", *score))


def _row(name: str, made: int, killed: int, equivalent: int) -> str:
    return f"{name:40} {killed:4} of {made - equivalent:4}" + (f", and {equivalent} proved equivalent" if equivalent else "")
