"""``minitensor compare``: the analytic backward of a layer against autograd, on a real picture and on a probe."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from minitensor import Tensor, nn
from minitensor.commands import console
from minitensor.commands.inputs import BadInput, Input, read_input
from minitensor.nn.derivation import FAULTS

DTYPES = ("float64", "float32", "float16")
LAYERS = {"instance_norm": {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}}  # by rank, batch included
PROBE_SHAPE = (2, 3, 8, 9)
PROBE_EPS = 0.1  # comparable with the probe's variances, so that a mistake with eps shows


def add_to(commands: Any) -> None:
    """Add the command and its options to the parser."""
    parser = commands.add_parser(
        "compare",
        help="compare a layer's analytic backward with autograd",
        description="Run a layer forward and backward two ways, analytic and autograd, and compare y, dx, dgamma, dbeta and a "
        "second derivative; numerical derivatives give a third opinion. "
        "Exit status: 0 everything agrees, 1 something differs, 2 bad input.",
    )
    parser.add_argument(
        "input", nargs="?", metavar="INPUT", help="a picture, a .npy or .npz array, or a shape such as 2x3x8x9 (default: a photograph)"
    )
    parser.add_argument("--layer", choices=sorted(LAYERS), default="instance_norm", help="which layer (default: %(default)s)")
    parser.add_argument("--eps", type=float, default=1e-5, help="added to the variance (default: %(default)s)")
    parser.add_argument(
        "--affine", action=argparse.BooleanOptionalAction, default=True, help="with random gamma and beta (default), or without"
    )
    parser.add_argument("--num-features", type=int, metavar="C", help="the layer's channel count (default: the input's)")
    parser.add_argument("--dtype", choices=DTYPES, help="compute in this dtype (default: an array's own, float32 for pictures and shapes)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    parser.add_argument("--size", type=_size, metavar="HxW", help="resize the picture")
    parser.add_argument("--scale", choices=("255", "unit"), default="255", help="picture values from 0 to 255 (default) or from 0 to 1")
    parser.add_argument("--unbatched", action="store_true", help="the array is (C, ...), without a batch axis")
    parser.add_argument("--plant", metavar="NAME", help="put a known mistake into the analytic backward; 'list' names them all")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the tables as JSON")
    parser.add_argument("--report", metavar="DIR", type=Path, help="write DIR/index.html: tables, pictures, graphs, step sizes, timings")
    parser.set_defaults(run=run)


@np.errstate(all="ignore")  # nan, inf and overflow are looked for, and reported
def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    if options.plant == "list":
        width = max(map(len, FAULTS))
        for fault in FAULTS.values():
            print(f"{fault.name:{width}}  {fault.sentence}")
        return 0
    if options.plant is not None and options.plant not in FAULTS:
        near = difflib.get_close_matches(options.plant, FAULTS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(f"--plant {options.plant}: no such mistake; {hint}`minitensor compare --plant list` names them all")
    if options.seed < 0:
        raise BadInput(f"--seed must not be negative, got {options.seed}")
    if not 0 <= options.eps < np.inf:
        raise BadInput(f"--eps must be a number from 0 up, got {options.eps}")
    if options.num_features is not None and options.num_features < 1:
        raise BadInput(f"--num-features must be positive, got {options.num_features}")
    if options.json is not None and not options.json.parent.is_dir():
        raise BadInput(f"--json {options.json}: the folder {options.json.parent} is not there")
    if options.report is not None:
        if options.report.exists() and not options.report.is_dir():
            raise BadInput(f"--report {options.report}: a folder is needed, and this is a file")
        from minitensor.commands import report  # needs packages that a bare install lacks; say so before the work, not after
    rng = np.random.default_rng([options.seed, 1])
    given = read_input(options.input, dtype=options.dtype, scale=options.scale, size=options.size, seed=options.seed)
    layer = _layer_for(given, options, rng)
    _check_range(given, layer)
    probe, probe_layer = _probe(options, rng)
    x = Tensor(given.array, device=options.device)

    console.say(f"input: {given.name} {given.array.shape}" + (f" ({given.note})" if given.note else ""))
    if options.plant:
        console.say(f"planted into the analytic backward: {options.plant} ({FAULTS[options.plant].sentence})")
    with console.progress() as step:
        on_input = nn.compare_backward(layer, x, seed=options.seed, progress=lambda text: step(f"input: {text}"))
        on_probe = nn.compare_backward(probe_layer, probe, seed=options.seed, progress=lambda text: step(f"probe: {text}"))
    for title, comparison in ((f"INPUT: {given.name}", on_input), ("PROBE: made so that every known mistake shows", on_probe)):
        console.say(f"\n{title}")
        console.show(comparison.table())
        console.say(comparison.unseen_sentence())
    agree = on_input.ok and on_probe.ok
    console.say(f"\n{verdict(on_input, on_probe)}", "ok" if agree else "WRONG")

    if options.json is not None:
        described = {"input": given.name, "note": given.note, "planted": options.plant, "seed": options.seed, "agree": agree}
        options.json.write_text(json.dumps(described | {"on_input": on_input.to_dict(), "on_probe": on_probe.to_dict()}, indent=2) + "\n")
    if options.report is not None:
        with console.progress() as step:
            trials = (report.Trial(f"INPUT: {given.name}", layer, x, on_input), report.Trial("PROBE", probe_layer, probe, on_probe))
            written = report.write(options.report, given, trials, verdict(on_input, on_probe), options.plant, step)
        console.say(f"report: {written}")
    return 0 if agree else 1


def verdict(on_input: nn.Comparison, on_probe: nn.Comparison) -> str:
    """One sentence on both tables."""
    tables = {"input": on_input, "probe": on_probe}
    differ = [f"on the {name} {', '.join(table.wrong)}" for name, table in tables.items() if table.wrong]
    if differ:
        return f"DIFFER: {'; '.join(differ)}."
    if not on_input.ok:
        return "BLIND: nothing could have shown on the input, so agreement there proves nothing."
    verdicts = [row.verdict for table in tables.values() for row in table.rows]
    blind = verdicts.count("blind")
    judged = f"all {len(verdicts)} rows" if not blind else f"{len(verdicts) - blind} rows (the other {blind} have no bound)"
    return f"AGREE: {judged} lie within tolerances that were computed, not chosen."


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"HxW is needed, such as 240x320, got {text!r}")
    return int(found[1]), int(found[2])


def _layer_for(given: Input, options: argparse.Namespace, rng: np.random.Generator) -> Any:
    shape = given.array.shape
    if given.is_picture and options.unbatched:
        raise BadInput(f"--unbatched is for arrays; the picture {given.name} is read as (1, C, H, W)")
    kinds = LAYERS[options.layer]
    rank = len(shape) + options.unbatched
    if rank not in kinds:
        expected = ", ".join(str(kind - options.unbatched) for kind in kinds)
        fix = "" if options.unbatched else "; --unbatched says that the batch axis is missing"
        raise BadInput(f"{given.name}: {options.layer} takes arrays of {expected} axes, got shape {shape}{fix}")
    channels = shape[0 if options.unbatched else 1]
    return _made(kinds[rank], options.num_features or channels, options.eps, options.affine, given.array.dtype, options, rng)


def _check_range(given: Input, layer: Any) -> None:
    """Refuse what leaves the range of the dtype that is computed in: the layer would be blamed for it."""
    limits = np.finfo(np.float64)
    axes = layer.axes(given.array.ndim)
    values = given.array.astype(np.float64)
    squares = np.sum((values - np.mean(values, axis=axes, keepdims=True)) ** 2, axis=axes)
    case = f"{given.name}: with eps = {layer.eps:g}"
    if not np.all(squares + layer.eps < limits.max):
        raise BadInput(f"{case} and values up to {np.max(np.abs(values)):.1e}, variance + eps overflows {limits.dtype}")
    if not np.all(squares + layer.eps >= limits.tiny):
        raise BadInput(f"{case} and a slice that is (nearly) constant, 1 / sqrt(variance + eps) overflows {limits.dtype}")


def _made(kind: Any, channels: int, eps: float, affine: bool, dtype: Any, options: argparse.Namespace, rng: np.random.Generator) -> Any:
    backward = FAULTS[options.plant].backward if options.plant else "analytic"
    layer = kind(channels, eps=eps, affine=affine, dtype=dtype, device=options.device, backward=backward)
    signs = rng.permutation(np.resize([1.0, -1.0], channels))  # both signs, however few channels there are
    gamma, beta = rng.uniform(0.5, 2, channels) * signs, rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)
    if affine:
        layer.weight.data, layer.bias.data = gamma, beta
    return layer


def _probe(options: argparse.Namespace, rng: np.random.Generator) -> tuple[Any, Any]:
    """A float64 input on which every known mistake shows: m >= 6 and unlike the other sizes, a scale and an offset per slice."""
    slices = (*PROBE_SHAPE[:2], 1, 1)
    x = rng.standard_normal(PROBE_SHAPE) * np.exp(rng.uniform(np.log(0.3), np.log(3), slices)) + rng.uniform(-3, 3, slices)
    layer = _made(LAYERS[options.layer][4], PROBE_SHAPE[1], PROBE_EPS, True, np.float64, options, rng)
    return Tensor(x, device=options.device), layer
