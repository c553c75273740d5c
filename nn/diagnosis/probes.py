"""What a learner's backward is called on: numbers in which every mistake leaves a trace.

Every slice has its own scale and offset, so that powers of s and a mean left in are seen; eps is comparable with the variance; gamma has
both signs and beta is not 0; mean(h) and mean(h x_hat) are pushed away from 0, so that no term vanishes; and no two of the sizes m, m - 1,
N, C, H, W are alike, so that powers of each can be told apart over several shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..norm import formulas, layout
from ..norm.layout import Layout, Shape

Array = Any

LAYERS: dict[str, Callable[[Shape, int | None], Layout]] = {
    "instance_norm": lambda shape, groups: layout.per_instance(shape),
    "batch_norm": lambda shape, groups: layout.per_channel(shape),
    "layer_norm": lambda shape, groups: layout.per_position(shape, shape[1:]),
    "group_norm": lambda shape, groups: layout.per_group(shape, groups or 1),
}

# Pairs of slips are looked for on the first, which is small, single ones on the second, in which no two sizes are alike
SHAPES: dict[str, tuple[Shape, ...]] = {
    "instance_norm": ((2, 2, 3, 3), (3, 4, 2, 5), (2, 5, 3, 7), (5, 3, 4, 11), (4, 3, 5, 3), (7, 2, 3, 2)),
    "batch_norm": ((4, 3), (7, 5), (13, 4), (29, 6), (11, 3)),
    "layer_norm": ((3, 4), (5, 7), (4, 13), (6, 29), (3, 11)),
    "group_norm": ((2, 4, 3, 3), (3, 10, 4, 2), (2, 9, 3, 4), (5, 4, 3, 7), (4, 6, 1, 5)),
}
GROUPS: dict[Shape, int] = {(2, 4, 3, 3): 2, (3, 10, 4, 2): 2, (2, 9, 3, 4): 3, (5, 4, 3, 7): 2, (4, 6, 1, 5): 3}
EPS = (None, None, 0.3, 0.05, 0.2, 0.4)  # None: half the smallest variance, so that v - eps has a root too


@dataclass(frozen=True)
class Probe:
    """The arguments of one call, float64: x and dy (N, C, H, W) or (N, D), gamma and beta (C,) or (D,); ``groups`` of a GroupNorm."""

    layer: str
    x: Array
    gamma: Array
    beta: Array
    eps: float
    dy: Array
    groups: int | None = None

    @property
    def layout(self) -> Layout:
        """What is normalised together."""
        return LAYERS[self.layer](self.x.shape, self.groups)


def probes(layer: str, seed: int = 0) -> list[Probe]:
    """The probes of a layer, ``"instance_norm"``, ``"batch_norm"``, ``"layer_norm"`` or ``"group_norm"``: the small one first.

    >>> [probe.x.shape for probe in probes("batch_norm")]
    [(4, 3), (7, 5), (13, 4), (29, 6), (11, 3)]
    """
    rng = np.random.default_rng([seed, *b"diagnosis"])
    return [_probe(layer, shape, eps, rng) for shape, eps in zip(SHAPES[layer], EPS, strict=False)]


def _probe(layer: str, shape: Shape, eps: float | None, rng: np.random.Generator) -> Probe:
    groups = GROUPS[shape] if layer == "group_norm" else None
    where = LAYERS[layer](shape, groups)
    slices = tuple(1 if i in where.axes else n for i, n in enumerate(where.view))
    sign = partial(rng.choice, [-1.0, 1.0])
    x = rng.standard_normal(where.view) * np.exp(rng.uniform(-1, 1, slices)) + rng.uniform(0.5, 3, slices) * sign(slices)
    eps = eps or float(np.var(x, axis=where.axes).min()) / 2
    gamma, beta = rng.uniform(0.5, 2, (2, shape[1])) * sign((2, shape[1]))
    x_hat = formulas.standardize(x, where.axes, eps)
    dy = (
        rng.standard_normal(where.view)
        + (rng.uniform(0.7, 2, slices) * sign(slices))
        + (rng.uniform(0.7, 2, slices) * sign(slices)) * x_hat
    )
    return Probe(layer, x.reshape(shape), gamma, beta, eps, dy.reshape(shape), groups)
