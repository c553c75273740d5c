"""``minitensor compare --report DIR``: one self-contained index.html."""

from __future__ import annotations

import base64
import copy
import io
import statistics
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np

from minitensor import Tensor, draw, grad, nn
from minitensor.autograd import complex_step, richardson
from minitensor.autograd.differences import central_difference, forward_difference
from minitensor.commands.inputs import Input
from minitensor.errors import MissingPackageError
from minitensor.nn.comparison import random_cotangent
from minitensor.nn.derivation import FAULTS
from minitensor.tables import Table

try:
    import pygraphviz  # noqa: F401 - drawings need it; better said before the work than after
    from matplotlib.figure import Figure
    from PIL import Image
except ImportError as error:
    raise MissingPackageError(f'--report needs the extra "report": pip install -e ".[report]" from the checkout ({error})') from error

REPEATS = 15


class Trial(NamedTuple):
    """A layer, an input, and what the comparison found there."""

    title: str
    layer: Any
    x: Tensor
    comparison: nn.Comparison


def write(folder: Path, given: Input, trials: Sequence[Trial], verdict: str, planted: str | None, step: Callable[[str], None]) -> Path:
    """Write ``folder``/index.html, which needs no network, and return its path."""
    on_input, on_probe = trials
    tables = []
    for trial in trials:
        title, sentence = escape(trial.title), escape(trial.comparison.unseen_sentence())
        tables.append(f'<h3>{title}</h3><div class="scroll">{trial.comparison.table().to_html()}</div><p>{sentence}</p>')
    step("drawing the graphs")
    graphs = _graphs(on_probe)
    step("step sizes")
    steps = _figure(_step_sizes(on_probe), "Error of four numerical derivatives against the step size", "svg")
    step("timing both ways")
    subject = f"{on_input.comparison.layer} on {given.name} {given.array.shape} {given.array.dtype}." + (
        f" Input: {given.note}." if given.note else ""
    )
    if planted:
        subject += f" Planted into the analytic backward: {planted} ({FAULTS[planted].sentence})."
    page = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(given.name),
        subject=escape(subject),
        mark="ok" if all(trial.comparison for trial in trials) else "wrong",
        verdict=escape(verdict),
        tables="\n".join(tables),
        pictures=_pictures(on_input) if given.is_picture else "",
        graphs=graphs,
        steps=steps,
        timings=_timings(trials).to_html(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "index.html"
    target.write_text(page, encoding="utf-8", errors="backslashreplace")
    return target


def _image(data: bytes, kind: str, alt: str, caption: str = "") -> str:
    encoded = base64.b64encode(data).decode("ascii")
    described = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="data:image/{kind};base64,{encoded}" alt="{escape(alt)}">{described}</figure>'


def _figure(figure: Figure, alt: str, kind: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None})
    return _image(buffer.getvalue(), "svg+xml" if kind == "svg" else kind, alt)


def _pictures(trial: Trial) -> str:
    before = trial.x.cpu().numpy()[0].astype(np.float64)
    after = trial.layer.formula(before[None], None, None)[0]
    shown = []
    for values, caption in (
        (before, "before: the input"),
        (after, "after: every channel with mean 0 and variance 1 (shown from -2.5 to 2.5, without gamma and beta)"),
    ):
        low, high = (values.min(), values.max()) if values is before else (-2.5, 2.5)
        pixels = (255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]).save(buffer, "PNG")
        shown.append(_image(buffer.getvalue(), "png", f"The picture {caption}", caption))
    return f'<h2>The picture</h2><div class="pair">{"".join(shown)}</div>'


def _graphs(trial: Trial) -> str:
    forward, backward = [], []
    for way, layer in _ways(trial).items():
        x = trial.x.detach()
        x.requires_grad = True
        y = layer(x)
        names = {"x": x, "gamma": layer.weight, "beta": layer.bias}
        drawn = draw(y, names=names)
        forward.append(_image(drawn.svg.encode(), "svg+xml", f"{way}: {drawn.alt}", f"{way}: y"))
        (dx,) = grad(y, x, Tensor(np.ones(y.shape), y.dtype, y.device), create_graph=True)
        assert dx is not None
        drawn = draw(dx, names=names)
        backward.append(
            _image(drawn.svg.encode(), "svg+xml", f"{way}: {drawn.alt}", f"{way}: dx, recorded so that it can be differentiated again")
        )
    return (
        f'<div class="pair">{"".join(forward)}</div>'
        "<details><summary>The graphs of dx, as recorded with create_graph=True</summary>"
        f'<div class="pair">{"".join(backward)}</div></details>'
    )


def _ways(trial: Trial) -> dict[str, Any]:
    """The layer as it was compared (perhaps with a planted mistake), and its twin that autograd differentiates."""
    twin = copy.deepcopy(trial.layer)
    twin.backward = "autograd"
    return {"analytic": trial.layer, "autograd": twin}


def _step_sizes(trial: Trial) -> Figure:
    rng = np.random.default_rng(0)
    layer, x = trial.layer, trial.x.detach()
    gamma, beta, values = (tensor.detach().cpu().numpy() for tensor in (layer.weight, layer.bias, x))
    g = random_cotangent(values, layer.axes(x.ndim), rng)
    v = rng.standard_normal(x.shape)
    x.requires_grad = True
    (dx,) = grad(layer(x), x, Tensor(g, x.dtype, x.device))
    assert dx is not None
    analytic = float((dx.cpu().numpy() * v).sum())

    def loss(t: Any) -> Any:
        moved = values + t * v
        return np.sum(g * layer.formula(moved, gamma.astype(moved.dtype), beta.astype(moved.dtype)))

    steps = 10.0 ** np.arange(0, -16.5, -0.5)
    methods: dict[str, Callable[[float], float]] = {
        "forward": lambda h: forward_difference(loss, h),
        "central": lambda h: central_difference(loss, h),
        "Richardson": lambda h: richardson(loss, h, levels=3).value,
        "complex step": lambda h: complex_step(loss, h),
    }
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for (name, method), marker in zip(methods.items(), "os^D", strict=True):
        errors = [max(abs(method(h) - analytic) / abs(analytic), 1e-17) for h in steps]
        axes.loglog(steps, errors, marker=marker, markersize=4, label=name)
    axes.invert_xaxis()
    axes.set(xlabel="step size h", ylabel="relative distance to the analytic derivative", ylim=(5e-18, 3))
    axes.grid(True, alpha=0.3)
    axes.legend()
    return figure


def _timings(trials: Sequence[Trial]) -> Table:
    rows = []
    for trial in trials:
        x = trial.x.detach()
        x.requires_grad = True
        g = Tensor(np.ones(x.shape), x.dtype, x.device)
        layers = _ways(trial)
        seconds: dict[str, list[float]] = {way: [] for way in layers}
        for _ in range(REPEATS):
            for way, layer in layers.items():
                start = time.perf_counter()
                grad(layer(x), x, g)
                seconds[way].append(time.perf_counter() - start)
        analytic, composed = (1000 * statistics.median(times) for times in seconds.values())
        rows.append((trial.title, f"{analytic:.3g} ms", f"{composed:.3g} ms", f"{composed / analytic:.2f}"))
    return Table(f"forward and backward, median of {REPEATS}", ("input", "analytic", "autograd", "autograd / analytic"), rows)
