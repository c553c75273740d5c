"""``minitensor diagnose``: call a learner's backward pass on probes, and name the mistake in it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from textwrap import indent
from typing import Any

from minitensor.commands import console, sandbox
from minitensor.commands.inputs import BadInput
from minitensor.nn.diagnosis.probes import LAYERS

STATUS = {"right": 0, "wrong": 1, "not graded": 2}
MARKS = {"right": "ok", "wrong": "WRONG", "not graded": "blind"}
LEAST_MEMORY = 512  # MB, of which Python and NumPy take a good part


def add_to(commands: Any) -> None:
    """Add the command and its options to the parser."""
    parser = commands.add_parser(
        "diagnose",
        help="name the mistake in a backward pass of a normalisation",
        description="Call a function on prepared probes, in a process of its own with limited time and memory, and say what is wrong with "
        "the gradients that it returns. Exit status: 0 right, 1 wrong, 2 not graded, with the reason.",
    )
    parser.add_argument(
        "code",
        metavar="FILE.py:FUNCTION",
        help="backward(x, gamma, beta, eps, dy), backward(dout, cache) or a Function class; or NOTEBOOK.ipynb:FUNCTION; "
        "or the file alone, where one function in it can be meant",
    )
    parser.add_argument("--forward", metavar="NAME", help="the forward in the same file (default: the one of the same name, if any)")
    parser.add_argument("--layer", choices=LAYERS, default="instance_norm", help="what is differentiated (default: %(default)s)")
    parser.add_argument("--hint", type=int, choices=(1, 2, 3), help="only a hint: 1 what is wrong, 2 on which path, 3 the mistake")
    parser.add_argument("--seed", type=int, default=0, help="seed of the probes (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the diagnosis as JSON")
    parser.add_argument("--time", type=float, default=20, metavar="SECONDS", help="what the code may take (default: %(default)s)")
    parser.add_argument(
        "--memory", type=int, default=2048, metavar="MB", help="what the code may take (default: %(default)s; not limited on Windows)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    from minitensor.nn.diagnosis import diagnose_outcomes, probes

    _check_options(options)
    given = probes(options.layer, options.seed)
    result = sandbox.outcomes(options.code, given, options.layer, options.forward, options.time, options.memory)
    if result.problem:
        verdict, sentence = "not graded", f"not graded: {options.code}: {result.problem}"
        described: dict[str, Any] = {"verdict": verdict, "problem": result.problem}
    else:
        diagnosis = diagnose_outcomes(options.layer, given, result.outcomes, seed=options.seed)
        diagnosis = diagnosis.remarked(result.remarks) if diagnosis else diagnosis
        verdict, described = diagnosis.verdict, diagnosis.to_dict()
        sentence = str(diagnosis) if options.hint is None else diagnosis.hint(options.hint)
    if result.called:
        console.say(f"called: {result.called}")
    told = dict.fromkeys(warning for outcome in result.outcomes for warning in outcome.warnings)
    for heading, text in (
        ("the code warned:", "\n".join(told)),
        ("the code printed:", "\n".join(dict.fromkeys(result.printed.splitlines())).strip()),
    ):
        if text:
            console.say(f"{heading}\n{indent(text, '  | ')}")
    console.say(sentence, MARKS[verdict])
    if options.json is not None:
        asked = {"code": options.code, "called": result.called, "layer": options.layer, "seed": options.seed}
        options.json.write_text(json.dumps(asked | described, indent=2) + "\n")
    return STATUS[verdict]


def _check_options(options: argparse.Namespace) -> None:
    if options.seed < 0:
        raise BadInput(f"--seed must not be negative, got {options.seed}")
    if not 0 < options.time < math.inf:
        raise BadInput(f"--time must be a positive number of seconds, got {options.time:g}")
    if options.memory < LEAST_MEMORY:
        raise BadInput(f"--memory must be at least {LEAST_MEMORY}, got {options.memory}")
    if options.json is not None and not options.json.parent.is_dir():
        raise BadInput(f"--json {options.json}: the folder {options.json.parent} is not there")
