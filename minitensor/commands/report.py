"""``minitensor compare --report DIR``: one self-contained index.html."""

from __future__ import annotations

import base64
import io
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from minitensor import Tensor, draw, grad, nn
from minitensor.autograd import complex_step, richardson
from minitensor.autograd.differences import central_difference, forward_difference
from minitensor.commands.inputs import Input
from minitensor.commands.layers import Trial
from minitensor.errors import GraphError, MissingPackageError, UnsupportedError
from minitensor.nn.comparison.subject import subject_of
from minitensor.nn.derivation import FAULTS
from minitensor.tables import Table

try:
    import pygraphviz  # noqa: F401 - drawings need it; better said before the work than after
    from matplotlib.figure import Figure
    from PIL import Image
except ImportError as error:
    raise MissingPackageError(f'--report needs the extra "report": pip install -e ".[report]" from the checkout ({error})') from error

REPEATS = 15


def write(
    folder: Path,
    given: Input,
    trials: Sequence[Trial],
    comparisons: Sequence[nn.Comparison],
    verdict: str,
    planted: str | None,
    step: Callable[[str], None],
) -> Path:
    """Write ``folder``/index.html, which needs no network, and return its path."""
    on_input, on_probe = trials
    tables = []
    for trial, comparison in zip(trials, comparisons, strict=True):
        title, sentence = escape(trial.title), escape(comparison.unseen_sentence())
        tables.append(f'<h3>{title}</h3><div class="scroll">{comparison.table().to_html()}</div><p>{sentence}</p>')
    step("drawing the graphs")
    graphs = _graphs(on_probe)
    step("step sizes")
    steps = _figure(_step_sizes(on_probe, comparisons[1]), "Error of numerical derivatives against the step size", "svg")
    step("timing both ways")
    subject = f"{' '.join(repr(on_input.layer).split())} on {given.name} {given.array.shape} {given.array.dtype}." + (
        f" Input: {given.note}." if given.note else ""
    )
    if planted:
        subject += f" Planted into the analytic backward: {planted} ({FAULTS[planted].sentence})."
    page = filled(
        "report.html",
        title=escape(given.name),
        subject=escape(subject),
        mark="ok" if all(comparisons) else "wrong",
        verdict=escape(verdict),
        tables="\n".join(tables),
        pictures=_pictures(on_input) if given.is_picture else "",
        graphs=graphs,
        steps=steps,
        timings=_timings(trials).to_html(),
    )
    return written(folder, page)


def filled(template: str, **texts: str) -> str:
    """A page: one of the templates beside this file, which all have the same style."""
    here = Path(__file__).parent
    style = (here / "style.html").read_text(encoding="utf-8")
    return Template((here / template).read_text(encoding="utf-8")).substitute(texts, style=style)


def written(folder: Path, page: str) -> Path:
    """The page as ``folder``/index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "index.html"
    target.write_text(page, encoding="utf-8", errors="backslashreplace")
    return target


def image(data: bytes, kind: str, alt: str, caption: str = "") -> str:
    """A picture that stands in the page itself."""
    encoded = base64.b64encode(data).decode("ascii")
    described = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="data:image/{kind};base64,{encoded}" alt="{escape(alt)}">{described}</figure>'


def _figure(figure: Figure, alt: str, kind: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None})
    return image(buffer.getvalue(), "svg+xml" if kind == "svg" else kind, alt)


def _pictures(trial: Trial) -> str:
    before, layer = trial.x.cpu().numpy().astype(np.float64), trial.layer
    shown = [(before[0], float(before.min()), float(before.max()), "before: the input")]
    if isinstance(layer, nn.Norm) and type(layer).formula is nn.Norm.formula:
        made = "mean 0 and variance 1" if layer.centred else "mean square 1"
        caption = f"after: every slice of {layer.layout(before.shape).m:,} elements with {made} (from -2.5 to 2.5, without gamma and beta)"
        shown.append((layer.formula(before, None, None)[0], -2.5, 2.5, caption))
    else:
        after = layer(trial.x).detach().cpu().numpy().astype(np.float64)
        if after.ndim == 4 and after.shape[1] in (1, 3) and np.isfinite(after).all():
            shown.append(
                (after[0], float(after.min()), float(after.max()), f"after: the output, from {after.min():.3g} to {after.max():.3g}")
            )
    figures = []
    for values, low, high, caption in shown:
        pixels = (255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]).save(buffer, "PNG")
        figures.append(image(buffer.getvalue(), "png", f"The picture {caption}", caption))
    return f'<h2>The picture</h2><div class="pair">{"".join(figures)}</div>'


def _graphs(trial: Trial) -> str:
    """The layer as it was compared (perhaps with a planted mistake), and its formula, which autograd differentiates."""
    subject = subject_of(trial.layer, trial.x)
    forward, backward = [], []
    for way, run in {"analytic": subject.own, "autograd": subject.composed}.items():
        x = trial.x.detach()
        x.requires_grad = True
        names = {"x": x, **{name: nn.Parameter(value, device=value.device) for name, value in subject.parameters.items()}}
        y = run(names)
        drawn = draw(y, names=names)
        forward.append(image(drawn.svg.encode(), "svg+xml", f"{way}: {drawn.alt}", f"{way}: y"))
        try:
            (dx,) = grad(y, x, Tensor(np.ones(y.shape), y.dtype, y.device), create_graph=True, allow_unused=True)
        except (GraphError, UnsupportedError):  # a forward that records nothing, a backward that cannot be differentiated
            continue
        if dx is not None:
            drawn, caption = draw(dx, names=names), f"{way}: dx, recorded so that it can be differentiated again"
            backward.append(image(drawn.svg.encode(), "svg+xml", f"{way}: {drawn.alt}", caption))
    return (
        f'<div class="pair">{"".join(forward)}</div>'
        "<details><summary>The graphs of dx, as recorded with create_graph=True</summary>"
        f'<div class="pair">{"".join(backward)}</div></details>'
    )


def _step_sizes(trial: Trial, comparison: nn.Comparison) -> Figure:
    rng = np.random.default_rng(0)
    subject = subject_of(trial.layer, trial.x).on_cpu
    leaves = {name: value.cpu().numpy().astype(np.float64) for name, value in {"x": trial.x.detach(), **subject.parameters}.items()}
    g = subject.cotangent(leaves["x"], subject.y.shape, rng)
    v = rng.standard_normal(trial.x.shape) * subject.spread(leaves["x"])
    x = trial.x.detach()
    x.requires_grad = True
    y = trial.layer(x)
    (dx,) = grad(y, x, Tensor(g, x.dtype, x.device), allow_unused=True) if y.requires_grad else (None,)
    analytic = 0.0 if dx is None else float((dx.cpu().numpy() * v).sum())

    def loss(t: Any) -> Any:
        return np.sum(g * subject.on_arrays(leaves | {"x": leaves["x"] + t * v}))

    steps = 10.0 ** np.arange(0, -16.5, -0.5)
    methods: dict[str, Callable[[float], float]] = {
        "forward": lambda h: forward_difference(loss, h),
        "central": lambda h: central_difference(loss, h),
        "Richardson": lambda h: richardson(loss, h, levels=3).value,
        "complex step": lambda h: complex_step(loss, h),
    }
    if ("dx . v", "complex step") not in {(row.quantity, row.opinion) for row in comparison.rows}:
        del methods["complex step"]  # the formula is none of complex numbers
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for (name, method), marker in zip(methods.items(), "os^D", strict=False):
        errors = [max(abs(method(h) - analytic) / (abs(analytic) or 1), 1e-17) for h in steps]
        axes.loglog(steps, errors, marker=marker, markersize=4, label=name)
    axes.invert_xaxis()
    axes.set(xlabel="step size h", ylabel="relative distance to the analytic derivative", ylim=(5e-18, 3))
    axes.grid(True, alpha=0.3)
    axes.legend()
    return figure


def _timings(trials: Sequence[Trial]) -> Table:
    rows = []
    for trial in trials:
        subject = subject_of(trial.layer, trial.x)
        x = trial.x.detach()
        x.requires_grad = True
        values = {"x": x, **{name: nn.Parameter(value, device=value.device) for name, value in subject.parameters.items()}}
        ways: tuple[Callable[[], Tensor], ...] = (partial(trial.layer, x), partial(subject.composed, values))
        seconds = [[_seconds(way, x) for way in ways] for _ in range(REPEATS)]
        analytic, composed = (1000 * statistics.median(times) for times in zip(*seconds, strict=True))
        rows.append((trial.title.partition(":")[0].lower(), f"{analytic:.3g} ms", f"{composed:.3g} ms", f"{composed / analytic:.2f}"))
    return Table(f"forward and backward, median of {REPEATS}", ("on the", "analytic", "autograd", "autograd / analytic"), rows)


def _seconds(forward: Callable[[], Tensor], x: Tensor) -> float:
    start = time.perf_counter()
    y = forward()
    if y.requires_grad:
        grad(y, x, Tensor(np.ones(y.shape), y.dtype, y.device), allow_unused=True)
    return time.perf_counter() - start
