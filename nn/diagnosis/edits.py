"""What can go wrong in a formula: all formulas that are one slip away from it, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..derivation.expression import Expression

NUMBERS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
OPERATORS = {np.add: "a sum", np.subtract: "a difference", np.multiply: "a product", np.divide: "a quotient"}
HOLE = "?"
PLACES = {
    "m": "the count m",
    "x_hat_bar": "the adjoint of x_hat",
    "v_bar": "the adjoint of v",
    "mu_bar": "the adjoint of mu",
    "c_bar": "the adjoint of c",
    "x_bar": "the adjoint of x",
    "gamma_bar": "y -> gamma",
    "beta_bar": "y -> beta",
    "direct_mu_bar": "the direct part of the adjoint of mu",
    "variance_mu_bar": "the part of the adjoint of mu that comes through v",
    "direct": "the direct term",
    "through_v": "the term through v",
    "through_mu": "the term through mu",
    "sum_h": "the sum of h",
    "mean_h": "the mean of h",
    "sum_h_x_hat": "the sum of h x_hat",
    "mean_h_x_hat": "the mean of h x_hat",
}


@dataclass(frozen=True)
class Edit:
    """In the line ``name``, ``new`` stands where ``old`` belongs; ``what`` says in some words what that is."""

    name: str
    old: Expression
    new: Any
    what: str
    odd: bool = False

    @property
    def place(self) -> str:
        """Where it is: an edge of the derivation, or a line by its name."""
        step, to, parent = self.name.partition("_to_")
        return f"{step} -> {parent}" if to else PLACES.get(self.name, self.name)

    @property
    def sentence(self) -> str:
        """The edit in one sentence."""
        return f"in {self.place}, {self.what}: `{self.new}` stands where `{self.old}` belongs"


@dataclass(frozen=True)
class Slip:
    """A formula with one slip in it: either whole, or with a hole that any of ``fillers``, names or numbers, may stand in."""

    formula: Any
    what: str
    fillers: tuple[str, ...] | tuple[float, ...] = ()
    odd: bool = False  # rarely made, and so not looked for together with another slip
    across: bool = False  # mixes slices

    def edit(self, name: str, old: Expression, i: int) -> Edit:
        """The slip with its i-th filler, in this line."""
        if not self.fillers:
            return Edit(name, old, self.formula, self.what, self.odd)
        filler = self.fillers[i]
        new = filled(self.formula, Expression(filler) if isinstance(filler, str) else filler)
        return Edit(name, old, new, self.what.replace(HOLE, str(filler)), self.odd)


def filled(formula: Any, filler: Any) -> Any:
    """The formula with this in its hole."""
    if not isinstance(formula, Expression):
        return formula
    if formula.name is not None:
        return filler if formula.name == HOLE else formula
    return Expression(formula.function, tuple(filled(part, filler) for part in formula.arguments), formula.params)


def slips(formula: Any, scope: Sequence[str], axes: Sequence[Any]) -> Iterator[Slip]:
    """Every formula that is one slip away: an operator, a name, a number or a sum exchanged or left out, or a wrong factor.

    ``scope`` are the names that could stand there, ``axes`` what a sum could run over.

    >>> c, q = Expression("c"), Expression("q_bar")
    >>> [str(slip.formula) for slip in slips(2 * c * q, ["c", "q_bar"], [])][:5]
    ['2 * c + q_bar', '2 * c - q_bar', 'q_bar - 2 * c', '2 * c / q_bar', 'q_bar / (2 * c)']
    """
    yield from _inside(formula, scope, axes)
    yield Slip(HOLE_NAME, f"{HOLE} for all of it", tuple(scope))
    yield Slip(HOLE_NAME * formula, f"a factor {HOLE} too many", (-1.0, 2.0, 0.5))
    yield Slip(formula * HOLE_NAME, f"a factor {HOLE} too many", tuple(scope), odd=True)
    yield Slip(formula / HOLE_NAME, f"a division by {HOLE} too many", tuple(scope), odd=True)


HOLE_NAME = Expression(HOLE)


def _inside(formula: Any, scope: Sequence[str], axes: Sequence[Any]) -> Iterator[Slip]:
    """The slip is here, or in a part."""
    if not isinstance(formula, Expression):
        yield Slip(HOLE_NAME, f"{HOLE} for {formula}", tuple(number for number in NUMBERS if number != formula))
        return
    if formula.name is not None:
        yield Slip(HOLE_NAME, f"{HOLE} for {formula}", tuple(name for name in scope if name != formula.name))
        yield Slip(-formula, f"the sign of {formula} is wrong")
        if formula.name == "m":
            yield Slip(formula - 1, "m - 1 for m")
        return
    yield from _here(formula, axes)
    for i, part in enumerate(formula.arguments):
        for slip in _inside(part, scope, axes):
            around = (*formula.arguments[:i], slip.formula, *formula.arguments[i + 1 :])
            yield replace(slip, formula=Expression(formula.function, around, formula.params))


def _here(formula: Expression, axes: Sequence[Any]) -> Iterator[Slip]:
    function, arguments = formula.function, formula.arguments
    if function in OPERATORS:
        a, b = arguments
        for other, words in OPERATORS.items():
            if other is not function:
                yield Slip(Expression(other, (a, b)), f"{words} for {OPERATORS[function]}")
            if other in (np.subtract, np.divide):
                yield Slip(Expression(other, (b, a)), f"{words} the other way round")
        for kept, left in ((a, b), (b, a)):
            yield Slip(kept, f"`{left}` is missing")
        if function is np.subtract:
            yield Slip(-b, f"`{a}` is missing")
    elif function is np.power:
        yield Slip(arguments[0], "the power is missing")
        yield Slip(arguments[0] * arguments[1], "a product for a power")
        yield Slip(Expression(np.power, arguments[::-1]), "a power the other way round")
    elif function is np.negative:
        yield Slip(arguments[0], "the sign is missing")
    elif function is np.sqrt:
        yield Slip(arguments[0], "the root is missing")
        yield Slip(np.square(arguments[0]), "a square for a root")
        if getattr(arguments[0], "function", None) is np.add:
            inside, outside = arguments[0].arguments
            yield Slip(np.sqrt(inside) + outside, f"{outside} stands outside the root")
    elif function in (np.sum, np.mean, np.var):
        exchanged: Callable[..., Any] = np.mean if function is np.sum else np.sum
        yield Slip(Expression(exchanged, arguments, formula.params), f"a {exchanged.__name__} for a {function.__name__}")
        yield Slip(arguments[0], f"the {function.__name__} is missing")
        for axis in axes:
            yield Slip(
                Expression(function, arguments, {**formula.params, "axis": axis}),
                f"the {function.__name__} runs over other axes",
                across=True,
            )
