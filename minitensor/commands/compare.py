"""``minitensor compare``: the analytic backward of a layer against autograd, on a real picture and on a probe."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from minitensor import nn
from minitensor.commands import console
from minitensor.commands.inputs import BadInput, read_input
from minitensor.commands.layers import KINDS, FamilyLayer, Trial
from minitensor.commands.own_layer import OwnLayer, argument
from minitensor.nn.comparison.subject import subject_of
from minitensor.nn.derivation import FAULTS, Fault, known_faults

DTYPES = ("float64", "float32", "float16")


def add_to(commands: Any) -> None:
    """Add the command and its options to the parser."""
    parser = commands.add_parser(
        "compare",
        help="compare a layer's analytic backward with autograd",
        description="Run a layer forward and backward two ways, analytic and autograd, and compare y, dx, the gradients of the parameters "
        "and a second derivative; numerical derivatives give a third opinion. "
        "Exit status: 0 everything agrees, 1 something differs, 2 bad input.",
    )
    parser.add_argument(
        "input", nargs="?", metavar="INPUT", help="a picture, a .npy or .npz array, or a shape such as 2x3x8x9 (default: a photograph)"
    )
    parser.add_argument(
        "--layer",
        default="instance_norm",
        help=f"{', '.join(KINDS)}, or a Module of your own as MODULE:CLASS or FILE.py:CLASS, with a method formula(x, *parameters) "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        type=argument,
        metavar="NAME=VALUE",
        help="an argument for the constructor of a layer of your own",
    )
    parser.add_argument("--eps", type=float, help="added to the variance (default: 1e-5; of rms_norm, the spacing of the dtype at 1)")
    parser.add_argument("--affine", action=argparse.BooleanOptionalAction, help="with random gamma and beta (default), or without")
    parser.add_argument("--num-features", type=int, metavar="C", help="the layer's channel count (default: the input's)")
    parser.add_argument(
        "--groups", type=int, metavar="G", help="of group_norm (default: as many, up to 32, as leave two channels or more to a group)"
    )
    parser.add_argument(
        "--trailing", type=int, metavar="K", help="how many trailing axes layer_norm and rms_norm normalise (default: all but the first)"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="compute in this dtype (default: an array's own, float32 for pictures and shapes)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    parser.add_argument("--size", type=_size, metavar="HxW", help="resize the picture")
    parser.add_argument("--scale", choices=("255", "unit"), default="255", help="picture values from 0 to 255 (default) or from 0 to 1")
    parser.add_argument("--unbatched", action="store_true", help="the array is (C, ...), without a batch axis (instance_norm)")
    parser.add_argument(
        "--plant", metavar="NAME", help="put a known mistake into the analytic backward of a normalisation; 'list' names them all"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the tables as JSON")
    parser.add_argument("--report", metavar="DIR", type=Path, help="write DIR/index.html: tables, pictures, graphs, step sizes, timings")
    parser.set_defaults(run=run)


@np.errstate(all="ignore")  # nan, inf and overflow are looked for, and reported
def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    _check_options(options)
    if options.report is not None and options.plant != "list":
        from minitensor.commands import report  # needs packages that a bare install lacks; say so before the work, not after
    rng = np.random.default_rng([options.seed, 1])
    chosen = FamilyLayer(options) if options.layer in KINDS else OwnLayer(options)
    read = cache(partial(read_input, options.input, dtype=options.dtype, scale=options.scale, size=options.size, seed=options.seed))
    if options.plant == "list":
        faults = _faults(chosen.on_probe(read, rng), options)
        width = max(map(len, faults))
        for fault in faults.values():
            print(f"{fault.name:{width}}  {fault.sentence}")
        return 0
    given, trials = read(), (chosen.on_input(read, rng), chosen.on_probe(read, rng))
    planted = _faults(trials[1], options)[options.plant] if options.plant else None

    console.say(f"input: {given.name} {given.array.shape}" + (f" ({given.note})" if given.note else ""))
    with chosen.blamed("in its repr"):
        console.say(f"layer: {' '.join(repr(trials[0].layer).split())}")
    if planted:
        for trial in trials:
            trial.layer.backward = planted.of(trial.layer)
        console.say(f"planted into the analytic backward: {planted.name} ({planted.sentence})")
    comparisons = []
    for where, trial in zip(("input", "probe"), trials, strict=True):
        with console.progress(f"{where}: ") as step, chosen.blamed("in the comparison"):
            comparisons.append(nn.compare_backward(trial.layer, trial.x, seed=options.seed, progress=step))
    on_input, on_probe = comparisons
    for trial, comparison in zip(trials, comparisons, strict=True):
        console.say(f"\n{trial.title}")
        console.show(comparison.table())
        console.say(comparison.unseen_sentence())
    agree = on_input.ok and on_probe.ok
    console.say(f"\n{verdict(on_input, on_probe)}", "ok" if agree else "WRONG")

    if options.json is not None:
        described = {"input": given.name, "note": given.note, "layer": options.layer, "planted": options.plant, "seed": options.seed}
        tables = {"agree": agree, "on_input": on_input.to_dict(), "on_probe": on_probe.to_dict()}
        options.json.write_text(json.dumps(described | tables, indent=2) + "\n")
    if options.report is not None:
        with console.progress() as step, chosen.blamed("in the report"):
            written = report.write(options.report, given, trials, comparisons, verdict(on_input, on_probe), options.plant, step)
        console.say(f"report: {written}")
    return 0 if agree else 1


def verdict(on_input: nn.Comparison, on_probe: nn.Comparison) -> str:
    """One sentence on both tables."""
    tables = {"input": on_input, "probe": on_probe}
    differ = [f"on the {name} {', '.join(table.wrong)}" for name, table in tables.items() if table.wrong]
    if differ:
        return f"DIFFER: {'; '.join(differ)}."
    empty = [name for name, table in tables.items() if not table.ok]
    if empty:
        return f"BLIND: nothing could have shown on the {' and the '.join(empty)}, so agreement there proves nothing."
    verdicts = [row.verdict for table in tables.values() for row in table.rows]
    blind = verdicts.count("blind")
    judged = f"all {len(verdicts)} rows" if not blind else f"{len(verdicts) - blind} rows (the other {blind} have no bound)"
    assumed = any(row.origin.startswith("assumed") for table in tables.values() for row in table.rows)
    return f"AGREE: {judged} lie within tolerances that were {'assumed, because no bound is known' if assumed else 'computed, not chosen'}."


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"HxW is needed, such as 240x320, got {text!r}")
    return int(found[1]), int(found[2])


def _check_options(options: argparse.Namespace) -> None:
    if options.plant not in (None, "list", *FAULTS):
        near = difflib.get_close_matches(options.plant, FAULTS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(
            f"--plant {options.plant}: no such mistake; {hint}`minitensor compare --layer {options.layer} --plant list` names them all"
        )
    if options.seed < 0:
        raise BadInput(f"--seed must not be negative, got {options.seed}")
    if options.eps is not None and not 0 <= options.eps < np.inf:
        raise BadInput(f"--eps must be a number from 0 up, got {options.eps}")
    for name in ("num_features", "groups", "trailing"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} must be positive, got {value}")
    if options.json is not None and not options.json.parent.is_dir():
        raise BadInput(f"--json {options.json}: the folder {options.json.parent} is not there")
    if options.report is not None and options.report.exists() and not options.report.is_dir():
        raise BadInput(f"--report {options.report}: a folder is needed, and this is a file")


def _faults(probe: Trial, options: argparse.Namespace) -> dict[str, Fault]:
    """The mistakes that are mistakes in this layer, where some can be planted; refuses a planted one that is none."""
    layer, name = probe.layer, f"--plant {options.plant}"
    if not isinstance(layer, nn.Norm):
        raise BadInput(f"{name}: the known mistakes are those of normalisations, and {options.layer} is none; write one into its backward")
    if not subject_of(layer, probe.x).faults(probe.x.shape):
        raise BadInput(f"{name}: the forward of {options.layer} does not use self.backward; write the mistake into its own")
    faults = known_faults(layer, probe.x.shape)
    if options.plant != "list" and options.plant not in faults:
        raise BadInput(f"{name}: no mistake in {options.layer}, whose gradients are the same with it ({FAULTS[options.plant].sentence})")
    return faults
