"""The command line. Exit status: 0 when everything agrees, 1 when something differs, 2 for bad input (one line on stderr)."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from minitensor import __version__, errors
from minitensor.commands import compare, derive, diagnose
from minitensor.commands.inputs import BadInput


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, not the whole usage."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = _Parser(prog="minitensor", description="Plain NumPy, differentiated; and derivations that are checked.")
    parser.add_argument("--version", action="version", version=f"minitensor {__version__}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal's encoding lacks
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command in (compare, derive, diagnose):
        command.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell reports for a program that the closed pipe ended
    except (BadInput, errors.ShapeError, errors.DTypeError, errors.DeviceError, errors.MissingPackageError, OSError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"minitensor: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minitensor: interrupted", file=sys.stderr)
        return 130
