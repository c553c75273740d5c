"""``minitensor derive``: the derivation of a backward pass, line by line, with the verdicts of independent judges."""

from __future__ import annotations

import argparse
import difflib
import json
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minitensor.commands import console
from minitensor.commands.inputs import BadInput
from minitensor.commands.user_code import executed, module_at
from minitensor.errors import describe
from minitensor.nn.derivation import DERIVATIONS, Derivation
from minitensor.nn.derivation.check import Check
from minitensor.nn.derivation.text import given, lines
from minitensor.nn.diagnosis.learner import raised
from minitensor.tables import Table


def add_to(commands: Any) -> None:
    """Add the command and its options to the parser."""
    parser = commands.add_parser(
        "derive",
        help="derive a layer's backward, every line judged",
        description="Print the derivation of a backward pass: the steps of the forward, what each contributes to the adjoints of its "
        "parents, the closed forms, and what independent judges say of every line. "
        "Exit status: 0 everything is right, 1 something differs or the judges disagree, 2 bad input.",
    )
    parser.add_argument(
        "layer",
        metavar="LAYER",
        help=f"{', '.join(DERIVATIONS)}, or a Derivation of your own as MODULE:NAME or FILE.py:NAME",
    )
    parser.add_argument(
        "--rules", metavar="FILE.py", type=Path, help="judge the rules in this file, a filled exercise, in the place of our own"
    )
    parser.add_argument(
        "--mode",
        choices=("carried", "cumulative"),
        default="carried",
        help="what a rule gets from the rules before it: the right adjoint, so that only a wrong rule fails (carried, the default), "
        "or what they made (cumulative)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--latex", action="store_true", help="print the derivation as LaTeX, unjudged, and nothing else")
    shown.add_argument(
        "--json", metavar="FILE", nargs="?", type=Path, const=Path("-"), help="write the verdicts as JSON; without FILE print nothing else"
    )
    parser.add_argument("--report", metavar="DIR", type=Path, help="write DIR/index.html: the formulas, the verdicts and the graph")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    _check_options(options)
    if options.report is not None:
        from minitensor.commands import derive_report  # needs packages that a bare install lacks; say so before the work, not after
    derivation = _derivation(options.layer)
    if options.latex:
        with _blamed(f"{options.layer}, as LaTeX"):
            print(derivation.latex(), end="")
        return 0
    with _blamed(f"--rules {options.rules}"):
        rules = None if options.rules is None else vars(executed(options.rules))
    with console.progress() as step, _blamed(f"{options.layer}, when checked"):
        check = derivation.check(rules, mode=options.mode, seed=options.seed, progress=step)
    only_json = options.json == Path("-")
    if not only_json:
        _show(derivation, check)
    if options.json is not None:
        text = json.dumps(check.to_dict(), indent=2)
        print(text) if only_json else options.json.write_text(text + "\n")
    if options.report is not None:
        with console.progress() as step:
            written = derive_report.write(options.report, check, step)
        if not only_json:
            console.say(f"report: {written}")
    return 0 if check.ok else 1


def _show(derivation: Derivation, check: Check) -> None:
    found = lines(derivation, check.rules)
    console.say(f"{derivation.title or derivation.name}, {given(derivation)}\n")
    console.show(Table("forward", ("step", "because"), [(line.text, line.note) for line in found if line.part == "forward"]))
    judged, told = check.table(), {line.name: line.text for line in found}
    rows = [(name, *said, told[name]) for name, _, *said in judged.rows]  # the formula last: it may be long
    line, rule, *rest = judged.columns
    console.say("")
    console.show(Table(judged.title, (line, *rest, rule), rows, judged.marks))
    console.say(f"\n{check.summary()}", "ok" if check.ok else "WRONG")
    for note in check.notes():
        console.say(note)


def _derivation(spec: str) -> Derivation:
    if spec in DERIVATIONS:
        return DERIVATIONS[spec]
    home, _, name = spec.rpartition(":")
    if not home or not name:
        near = difflib.get_close_matches(spec, DERIVATIONS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadInput(f"{spec}: {', '.join(DERIVATIONS)}, or a Derivation of your own as MODULE:NAME or FILE.py:NAME, is needed{hint}")
    with _blamed(f"{spec}, when imported"):
        module = module_at(home)
    try:
        found = operator.attrgetter(name)(module)
    except AttributeError:
        held = [key for key, value in vars(module).items() if isinstance(value, Derivation)]
        raise BadInput(f"{spec}: there is no {name}; the Derivations there are {', '.join(held) or 'none'}") from None
    if not isinstance(found, Derivation):
        raise BadInput(f"{spec}: a Derivation is needed, and {name} is {describe(found)}")
    return found


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Say of an exception in one line whose it is."""
    try:
        yield
    except (BadInput, MemoryError, BrokenPipeError):
        raise
    except (Exception, SystemExit) as error:
        raise BadInput(f"{what}: {raised(error)}") from error


def _check_options(options: argparse.Namespace) -> None:
    if options.seed < 0:
        raise BadInput(f"--seed must not be negative, got {options.seed}")
    if options.json is not None and not options.json.parent.is_dir():
        raise BadInput(f"--json {options.json}: the folder {options.json.parent} is not there")
    if options.report is not None and options.report.exists() and not options.report.is_dir():
        raise BadInput(f"--report {options.report}: a folder is needed, and this is a file")
