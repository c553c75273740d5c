"""What judges on numbers of another kind have in common: they blame a rule for an exception only where floats raise one too."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..expression import Rule
from ..step import Env
from .floats import Autograd
from .judge import Judge
from .verdict import NotJudged, Wrong, told


class OtherNumbers(Judge):
    """A judge on fractions or symbols, for which not all that NumPy knows is defined."""

    def stumbled(self, rule: Rule, error: Exception, target: str) -> Exception:
        """Wrong, as floats say, or not judged."""
        try:
            self._floats.answer(rule, self._env, target, target)
        except Wrong as wrong:
            return wrong
        return NotJudged(told(error))

    @cached_property
    def _floats(self) -> Autograd:
        return Autograd(self.derivation, self.seed)

    @cached_property
    def _env(self) -> Env:
        """All that a rule can read."""
        (point,) = self._floats.points
        rng = np.random.default_rng(self.seed)
        bars = {f"{name}_bar": self._floats.numbers(name, np.shape(point.env[name]), rng) for name in self.derivation.by_name}
        return {**point.env, **bars, "g": point.g, "u": point.u}
