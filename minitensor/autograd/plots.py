"""Pictures of a gradient check: where it is off, and how the error falls with the step."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minitensor.arrays import Array
from minitensor.autograd.differences import central_difference, forward_difference, remembered, richardson
from minitensor.autograd.subject import Refusal, Subject
from minitensor.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = {"WRONG": ("X", "wrong"), "kink": ("v", "at a kink"), "uncertain": ("o", "uncertain")}
LEAST = 1e-17  # an error of 0 has no logarithm
ROUNDING = 1e-8  # a scale that ends lower would paint rounding errors in the colours of mistakes


def from_matplotlib() -> tuple[Any, Any]:
    """Figure and LogNorm, imported when a picture is asked for: matplotlib is optional, and slow to load."""
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(f'pictures need the extra "report": pip install -e ".[report]" from the checkout ({error})') from error
    return Figure, LogNorm


def heatmap(maps: Sequence[tuple[str, Array, Array]]) -> Figure:
    """Per input the largest |analytic - numerical| of each element, all on one scale; of more than two axes the last makes the rows."""
    make, scale = from_matplotlib()
    figure: Figure = make(figsize=(5 * len(maps), 4), layout="constrained")
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    worst = max(float(np.max(errors, initial=0, where=np.isfinite(errors))) for _, errors, _ in maps)
    norm = scale(LEAST, max(worst, ROUNDING))
    for axes, (name, errors, marks) in zip(panels, maps, strict=True):
        grid = np.atleast_2d(errors.reshape(-1, errors.shape[-1]) if errors.ndim else errors)
        image = axes.imshow(np.where(np.isfinite(grid), np.maximum(grid, LEAST), np.nan), norm=norm, cmap="viridis", aspect="auto")
        for mark, (marker, label) in MARKERS.items():
            rows, columns = np.nonzero(marks.reshape(grid.shape) == mark)
            if len(rows):
                axes.scatter(columns, rows, marker=marker, s=80, facecolor="#b3261e", edgecolor="white", linewidth=1, label=label)
        if (marks != "ok").any():
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15))  # below, where it hides no element
        down, right = [("", ""), ("", "axis 0"), ("axis 0", "axis 1"), ("all axes but the last", "last axis")][min(errors.ndim, 3)]
        axes.set(title=f"{name}, shape {errors.shape}", xlabel=right)
        if errors.ndim:
            axes.xaxis.get_major_locator().set_params(integer=True)
        else:
            axes.set_xticks([])
        if errors.ndim > 1:
            axes.set_ylabel(down)
            axes.yaxis.get_major_locator().set_params(integer=True)
        else:
            axes.set_yticks([])
    figure.colorbar(image, ax=list(panels), label="|analytic - numerical|")
    return figure


def step_sizes(subject: Subject, cotangent: Array, direction: Array, analytic: float) -> Figure:
    """Four numerical derivatives of <cotangent, y> along ``direction``, their distance to ``analytic`` over the step."""
    along = remembered(lambda t: cotangent @ subject.values(subject.x + t * direction))
    methods: dict[str, Callable[[float], Any]] = {
        "forward": lambda h: forward_difference(along, h),
        "central": lambda h: central_difference(along, h),
        "Richardson": lambda h: richardson(along, h, levels=3).value,
        "complex step": lambda h: cotangent @ subject.complex_slopes(subject.x, direction, h),
    }
    make, _ = from_matplotlib()
    figure: Figure = make(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = 10.0 ** np.arange(0, -15.5, -0.5)
    for (name, method), marker in zip(methods.items(), "os^D", strict=True):
        try:
            found = np.array([method(h) for h in steps])
        except Refusal:  # the complex step, which then has no curve
            continue
        errors = np.maximum(np.abs(found - analytic) / (abs(analytic) or 1.0), LEAST)
        axes.loglog(steps, errors, marker=marker, markersize=4, label=name)
    axes.invert_xaxis()
    axes.set(xlabel="step size h", ylabel="distance to the analytic derivative" + (", relative" if analytic else ""))
    if not np.isfinite(analytic):
        axes.set_title(f"the analytic derivative is {analytic}: nothing is near it")
    axes.grid(True, alpha=0.3)
    axes.legend()
    return figure


def svg(figure: Figure) -> str:
    """The picture as an element of a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]  # without the prolog, which HTML does not take
