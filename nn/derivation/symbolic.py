"""Symbols that run ordinary NumPy code in object arrays, and proofs that two formulas of them are the same.

The numbers are polynomials in the symbols, with negative powers too. What is none, such as a root, is adjoined as one more symbol t with
a known derivative, so that the derivative of every formula is again such a number.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cache, wraps
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minitensor.errors import MissingPackageError, UnsupportedError

from .exact import Exact

try:
    import sympy
    from sympy.polys.orderings import lex
    from sympy.polys.rings import PolyRing
except ImportError as error:
    raise MissingPackageError(f'proofs need the extra "report": pip install -e ".[report]" from the checkout ({error})') from error

_Result = TypeVar("_Result")


class _Function(NamedTuple):
    """A function t of a: its derivative, how to compute it, and how to print it."""

    slope: Callable[[Any, Any], Any]
    compute: Callable[[Any], Any]
    printed: Callable[[Any], Any]


_FUNCTIONS: Mapping[str, _Function] = {
    "sqrt": _Function(lambda t, a: 1 / (2 * t), np.sqrt, sympy.sqrt),
    "exp": _Function(lambda t, a: t, np.exp, sympy.exp),
    "log": _Function(lambda t, a: 1 / a, np.log, sympy.log),
    "tanh": _Function(lambda t, a: 1 - t * t, np.tanh, sympy.tanh),
    # Of a sum: to cancel polynomials takes longer than all else together
    "reciprocal": _Function(lambda t, a: -t * t, lambda a: 1 / a, lambda a: 1 / a),
}
_MOST = 20  # functions of one point: a ring has its generators from the beginning


class Symbols:
    """The symbols called ``names``, and all that is made of them.

    >>> symbols = Symbols(["v", "eps"])
    >>> v, eps = symbols.symbol("v"), symbols.symbol("eps")
    >>> s = np.sqrt(v + eps)
    >>> s, symbols.derivative(s, v), symbols.is_zero(s * s - v - eps)
    (sqrt(eps + v), 1/(2*sqrt(eps + v)), True)
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.ring = _ring(-(-(len(self.names) + _MOST) // 16))
        self._adjoined: dict[tuple[str, Any], int] = {}
        self._slopes: dict[tuple[int, int], Any] = {}

    def symbol(self, name: str) -> Symbolic:
        """The symbol of that name."""
        return Symbolic(self, self.ring.gens[self.names.index(name)])

    def constant(self, number: Fraction) -> Any:
        """A number as an element of the ring."""
        return self.ring.ground_new(sympy.QQ(number.numerator, number.denominator))

    def adjoin(self, function: str, argument: Any) -> Any:
        """The generator that stands for this function of this argument."""
        key = function, argument
        if key not in self._adjoined:
            if len(self._adjoined) == _MOST:
                raise UnsupportedError(f"more than {_MOST} different roots, exponentials and denominators in one formula")
            self._adjoined[key] = len(self.names) + len(self._adjoined)
        return self.ring.gens[self._adjoined[key]]

    def reciprocal(self, element: Any) -> Any:
        """1 / element: of a product of powers itself, of a sum adjoined."""
        if not element:
            raise ZeroDivisionError("division by the formula 0")
        if len(element) == 1:
            ((powers, coefficient),) = element.terms()
            return self.ring.from_dict({tuple(-power for power in powers): 1 / coefficient})
        return self.adjoin("reciprocal", element.monic()) * (1 / element.LC)

    def derivative(self, value: Symbolic, symbol: Symbolic) -> Symbolic:
        """d value / d symbol, through all that was adjoined."""
        return Symbolic(self, self._derivative(value.element, self.ring.gens.index(symbol.element)))

    def _derivative(self, element: Any, at: int) -> Any:
        total = element.diff(self.ring.gens[at])
        for (function, argument), index in list(self._adjoined.items()):
            if _contains(element, index):
                t = self.ring.gens[index]
                if (index, at) not in self._slopes:
                    slope = _FUNCTIONS[function].slope(Symbolic(self, t), Symbolic(self, argument))
                    self._slopes[index, at] = slope.element * self._derivative(argument, at)
                if slope := self._slopes[index, at]:
                    total += element.diff(t) * slope
        return total

    def is_zero(self, value: Symbolic) -> bool | None:
        """Whether it is 0 whatever the symbols are; None where neither can be proved.

        Roots and denominators are removed by what defines them, t t = a and t a = 1. What is then not 0 is refuted by numbers.
        """
        rest = value.element
        for (function, argument), index in reversed(self._adjoined.items()):  # an argument holds only what was adjoined before
            if function in ("sqrt", "reciprocal") and rest:
                rest = self._without(rest, function, argument, index)
        if not rest:
            return True
        return None if self._vanishes(rest) else False

    def _without(self, element: Any, function: str, argument: Any, index: int) -> Any:
        """The same up to a factor, without powers of t: of a root t the remainder a + b t, which is 0 only if a and b are."""
        by_power: dict[int, dict[Any, Any]] = {}
        for powers, coefficient in element.terms():
            by_power.setdefault(powers[index], {})[*powers[:index], 0, *powers[index + 1 :]] = coefficient
        low, high, total = min(by_power) // 2, max(by_power), self.ring.zero
        for power, terms in by_power.items():
            root = function == "sqrt"
            factor = argument ** (power // 2 - low) * self.ring.gens[index] ** (power % 2) if root else argument ** (high - power)
            total += self.ring.from_dict(terms) * factor
        return total

    @np.errstate(all="ignore")
    def _vanishes(self, element: Any) -> bool:
        """Whether it is 0, as far as floats can tell, at an arbitrary positive point."""
        summands = self._summands(element, self._completed([complex(random.Random(name).uniform(0.5, 2)) for name in self.names]))
        return not abs(sum(summands)) > 1e-9 * sum(map(abs, summands))  # nor can they where they are nan or inf

    def substituted(self, value: Symbolic, point: Mapping[str, Any]) -> Any:
        """The value at a point, which has a number of any kind for every name."""
        return sum(self._summands(value.element, self._completed([point[name] for name in self.names])))

    def _completed(self, point: list[Any]) -> list[Any]:
        """The numbers of all generators, from those of the names."""
        for function, argument in self._adjoined:
            point.append(_FUNCTIONS[function].compute(sum(self._summands(argument, point))))
        return point

    @staticmethod
    def _summands(element: Any, point: list[Any]) -> list[Any]:
        one = point[0] ** 0  # of their kind
        return [
            math.prod((p**k for p, k in zip(point, powers, strict=False) if k), start=one * c.numerator / c.denominator)
            for powers, c in element.terms()
        ]

    def printed(self, element: Any) -> Any:
        """The sympy expression of an element."""
        known = [*map(sympy.Symbol, self.names), *self.ring.symbols[len(self.names) :]]
        for (function, argument), index in self._adjoined.items():
            known[index] = _FUNCTIONS[function].printed(argument.as_expr(*known))
        return element.as_expr(*known)


@cache  # which takes longer to make than most proofs
def _ring(size: int) -> Any:
    """A ring with that many times 16 generators."""
    return PolyRing([sympy.Dummy() for _ in range(16 * size)], sympy.QQ, lex)


def _operator(rule: Callable[[Any, Any], _Result]) -> Callable[[Symbolic, Any], _Result]:
    """The rule for everything that has an exact value; NumPy takes arrays element by element when they are declined."""

    @wraps(rule)
    def operator(self: Symbolic, other: Any) -> Any:
        if isinstance(other, Symbolic):
            return rule(self, other.element)
        number = _fraction(other)
        return NotImplemented if number is None else rule(self, self.parent.constant(number))

    return operator


class Symbolic:
    """A formula of `Symbols`, with what NumPy asks of the elements of an object array.

    Two numbers are equal if they are written alike (`Symbols.is_zero` of their difference knows more); none is larger than another.

    >>> x = Symbols(["x"]).symbol("x")
    >>> np.array([x, 2 * x]) / x, 1 / (x - 1), np.exp(x - np.log(x))
    (array([1, 2], dtype=object), 1/(x - 1), exp(x)/x)
    """

    __slots__ = ("element", "parent")

    def __init__(self, parent: Symbols, element: Any) -> None:
        self.parent, self.element = parent, element

    __add__ = __radd__ = _operator(lambda self, other: self._new(self.element + other))
    __mul__ = __rmul__ = _operator(lambda self, other: self._new(self.element * other))
    __sub__ = _operator(lambda self, other: self._new(self.element - other))
    __rsub__ = _operator(lambda self, other: self._new(other - self.element))
    __truediv__ = _operator(lambda self, other: self._new(self.element * self.parent.reciprocal(other)))
    __rtruediv__ = _operator(lambda self, other: self._new(other * self.parent.reciprocal(self.element)))
    __eq__ = _operator(lambda self, other: bool(self.element == other))

    def __pow__(self, exponent: Any) -> Symbolic:
        power = _fraction(exponent)
        if power is None or power.denominator > 2:
            raise UnsupportedError(f"({self}) ** {exponent!r}: only whole and half exponents are known for symbols")
        if power < 0:
            return self._new(self.parent.reciprocal((self**-power).element))
        base = self if power.denominator == 1 else self.sqrt()
        return self._new(base.element**power.numerator)

    def __neg__(self) -> Symbolic:
        return self._new(-self.element)

    def __pos__(self) -> Symbolic:
        return self

    def __hash__(self) -> int:
        return hash(self.element)

    def __bool__(self) -> bool:
        return bool(self.element)

    # NumPy's functions call these on the elements of an object array

    def conjugate(self) -> Symbolic:
        return self

    def sqrt(self) -> Symbolic:
        return self._new(self.parent.adjoin("sqrt", self.element))

    def log(self) -> Symbolic:
        return self._new(self.parent.adjoin("log", self.element))

    def tanh(self) -> Symbolic:
        return self._new(self.parent.adjoin("tanh", self.element))

    def exp(self) -> Symbolic:
        """With exp(a + 2 b) = exp(a) exp(b)**2 and exp(log(a)) = a."""
        ring, parent = self.parent.ring, self.parent
        logarithms = {ring.gens[index]: key[1] for key, index in parent._adjoined.items() if key[0] == "log"}
        total = self._new(ring.one)
        for powers, coefficient in self.element.terms():
            whole = coefficient.denominator == 1
            term = ring.from_dict({powers: ring.domain.one if whole else coefficient})
            base = logarithms[term] if term in logarithms else parent.adjoin("exp", term)
            total = total * self._new(base) ** (int(coefficient) if whole else 1)
        return total

    def _new(self, element: Any) -> Symbolic:
        return Symbolic(self.parent, element)

    def __repr__(self) -> str:
        return str(self.parent.printed(self.element))


def _fraction(number: Any) -> Fraction | None:
    return Exact(number).value if isinstance(number, int | float | Fraction | np.number | np.bool) else None


def _contains(element: Any, index: int) -> bool:
    return any(powers[index] for powers in element.itermonoms())
