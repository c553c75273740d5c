"""What a case of the table is: a primitive, what it is called with, in float64 and away from kinks.

All numbers of a case are distinct and evenly spread, so that none ties with another and none is 0. The call is written for Tensors on any
device; floating inputs are differentiated, masks and indices are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minitensor.primitive import Primitive


class Case(NamedTuple):
    """A primitive and one way to call it."""

    name: str
    primitive: Primitive
    inputs: tuple[np.ndarray, ...]
    call: Callable[..., Any]


def spread(shapes: tuple[Any, ...], low: float = -2.0, high: float = 2.0, signs: bool = False) -> tuple[np.ndarray, ...]:
    """Arrays of these shapes whose elements are distinct and lie between ``low`` and ``high``; ``signs`` makes about half negative."""
    sizes = [math.prod(shape) for shape in shapes]
    rng = np.random.default_rng(sum(sizes) + 100 * len(sizes))
    values = low + (high - low) * rng.permutation(np.arange(sum(sizes)) + 0.3) / sum(sizes)
    values = values * rng.choice([-1, 1], values.shape) if signs else values
    return tuple(part.reshape(shape) for part, shape in zip(np.split(values, np.cumsum(sizes)[:-1]), shapes, strict=True))


def case(primitive: Primitive, *shapes: Any, call: Any = None, name: str = "", domain: Any = (), given: Any = (), **params: Any) -> Case:
    """``primitive(*inputs, **params)``, or ``call(*inputs)``; ``given`` are the masks and indices that follow the floating inputs."""
    told = name or " ".join([*map(str, shapes), *(f"{key}={value}" for key, value in params.items())])
    inputs = (*spread(shapes, *domain), *map(np.asarray, given))
    return Case(f"{primitive.name}: {told}", primitive, inputs, call or (lambda *inputs: primitive(*inputs, **params)))


POSITIVE = (0.5, 2.5)
SIGNED = (0.5, 2.5, True)
PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (2, 3)), ((2, 3), ()), ((), ()), ((2, 1), (1, 1, 3)), ((0, 3), (3,))]
SHAPES = [(3, 4), (), (2, 1, 3), (0,)]
