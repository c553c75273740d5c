"""Pictures of a gradient check: where it is off, and how the error falls with the step."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitensor.arrays import Array
from minitensor.autograd.differences import central_difference, forward_difference, remembered, richardson
from minitensor.autograd.subject import Refusal, Subject
from minitensor.errors import MissingPackageError

try:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingPackageError(f'pictures need the extra "report": pip install -e ".[report]" from the checkout ({error})') from error

MARKERS = {"WRONG": ("x", "wrong"), "kink": ("v", "at a kink"), "uncertain": ("o", "uncertain")}
LEAST = 1e-17  # an error of 0 has no logarithm


def heatmap(maps: Sequence[tuple[str, Array, Array]]) -> Figure:
    """Per input the largest |analytic - numerical| of each element; an input of more than two axes is shown as rows of its last axis."""
    figure = Figure(figsize=(5 * len(maps), 4), layout="constrained")
    for axes, (name, errors, marks) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        grid = np.atleast_2d(errors.reshape(-1, errors.shape[-1]) if errors.ndim else errors)
        shown = np.where(np.isfinite(grid), np.maximum(grid, LEAST), np.nan)
        finite = shown[np.isfinite(shown)]
        low, high = (finite.min(), finite.max()) if finite.size else (LEAST, 1.0)
        image = axes.imshow(shown, norm=LogNorm(low, max(high, 10 * low)), cmap="viridis", aspect="auto")
        figure.colorbar(image, ax=axes, label="|analytic - numerical|")
        places = marks.reshape(grid.shape)
        for mark, (marker, label) in MARKERS.items():
            rows, columns = np.nonzero(places == mark)
            if len(rows):
                axes.scatter(columns, rows, marker=marker, s=80, facecolor="#b3261e", edgecolor="white", linewidth=1, label=label)
        if (places != "ok").any():
            axes.legend(loc="upper right")
        axes.set(title=f"{name}, shape {errors.shape}", xlabel="last axis", ylabel="all other axes")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    return figure


def step_sizes(subject: Subject, cotangent: Array, direction: Array, analytic: float) -> Figure:
    """Four numerical derivatives of <cotangent, y> along ``direction``, their distance to ``analytic`` over the step."""
    along = remembered(lambda t: cotangent @ subject.values(subject.x + t * direction))
    methods: dict[str, Callable[[float], Any]] = {
        "forward": lambda h: forward_difference(along, h),
        "central": lambda h: central_difference(along, h),
        "Richardson": lambda h: richardson(along, h, levels=3).value,
        "complex step": lambda h: cotangent @ subject.complex_slopes(direction, h),
    }
    figure = Figure(figsize=(8, 4.5), layout="constrained")
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
    axes.grid(True, alpha=0.3)
    axes.legend()
    return figure


def svg(figure: Figure) -> str:
    """The picture as an element of a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]  # without the prolog, which HTML does not take
