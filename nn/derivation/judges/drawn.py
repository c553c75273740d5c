"""What judges on numbers that are drawn at random have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ..step import Env
from .judge import Judge, Point


class Drawn(Judge):
    """A judge at random points."""

    @abstractmethod
    def numbers(self, name: str, shape: tuple[int, ...], rng: np.random.Generator, positive: bool = False) -> Any:
        """The value of a leaf, of g or of u."""

    def run(self, leaves: Env) -> tuple[Env, Env]:
        """The leaves, and all nodes."""
        return leaves, self.derivation.forward(leaves)

    def point(self, m: int) -> Point:
        """A draw in the declared shapes."""
        rng = np.random.default_rng([self.seed, m])
        shapes = self.shapes(m)
        leaves, env = self.run({name: self.numbers(name, shape, rng, name in self.derivation.positive) for name, shape in shapes.items()})
        g = self.numbers("g", np.shape(env[self.derivation.output]), rng)
        return Point(m, leaves, env, g, self.numbers("u", shapes[self.first], rng))
