"""Exact rational numbers with an exact derivative, which run ordinary NumPy code in object arrays.

A number is value + tangent d with d d = 0 (a dual number), so that f(value + tangent d) = f(value) + f'(value) tangent d. There is no
rounding, hence no tolerance: two formulas are equal or they are not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np

from minitensor.errors import DTypeError, UnsupportedError

_Result = TypeVar("_Result")
_ZERO, _ONE = Fraction(0), Fraction(1)


class IrrationalRoot(ArithmeticError):
    """The square root of ``radicand``, a Fraction, is no rational number.

    >>> exact(2).item().sqrt()
    Traceback (most recent call last):
    ...
    minitensor.nn.derivation.exact.IrrationalRoot: sqrt(2) is no rational number: take eps = s s - v, so that sqrt(v + eps) = s
    """

    def __init__(self, radicand: Fraction) -> None:
        fix = "a square, or a square + eps, was expected" if radicand < 0 else "take eps = s s - v, so that sqrt(v + eps) = s"
        super().__init__(f"sqrt({radicand}) is no rational number: {fix}")
        self.radicand = radicand


def _operator(rule: Callable[[Exact, Exact], _Result]) -> Callable[[Exact, Any], _Result]:
    """The rule for everything that has an exact value; NumPy takes arrays element by element when they are declined."""

    @wraps(rule)
    def operator(self: Exact, other: Any) -> _Result:
        if type(other) is not Exact:
            value = _rational(other)
            if value is None:
                return NotImplemented  # type: ignore[no-any-return]
            other = _dual(value)
        return rule(self, other)

    return operator


class Exact:
    """value + tangent d with d d = 0, both of them Fractions.

    The other operand may be an int, a bool, a Fraction, a float or a NumPy scalar; a float stands for a simple rational within two
    units of its last place, 1./7 for 1/7 and 1e-5 for 1/100000. NumPy makes a float of a float32 that stands left of an operator or
    beside an array, and float32(0.1) then is a float like any other, not 1/10. Exponents are whole or half. Comparisons, ``==`` and
    ``hash`` look at the value alone, so ``np.maximum``, ``np.sort`` and ``np.where`` choose a branch as they do with floats, and the
    tangent is that of the branch: choose points without ties.

    ``exp``, ``log`` and ``tanh`` have the exact derivative, but no rational value: each argument is given an arbitrary one, always the
    same and of the right sign. exp(-a) = 1 / exp(a), log(1 / a) = -log(a) and tanh(-a) = -tanh(a) hold; other identities, such as
    exp(a - b) = exp(a) / exp(b), do not. So results that agree are equal, but results that differ are not judged.

    Raises IrrationalRoot; ZeroDivisionError; ArithmeticError for nan, infinities, log(a) with a <= 0, and abs at 0 with a tangent;
    UnsupportedError for other exponents; DTypeError where the number would become a float.

    >>> x = Exact(3, 1)
    >>> x * x, 1 / x, (x + 1) ** -0.5, x - 1.0 / 7
    (9 + 6 d, 1/3 - 1/9 d, 1/2 - 1/16 d, 20/7 + 1 d)
    """

    __slots__ = ("tangent", "value")

    value: Fraction
    tangent: Fraction

    def __init__(self, value: Any, tangent: Any = 0) -> None:
        self.value, self.tangent = _number(value), _number(tangent)

    @_operator
    def __add__(self, other: Exact) -> Exact:
        if self.tangent or other.tangent:
            return _dual(self.value + other.value, self.tangent + other.tangent)
        return _dual(self.value + other.value)

    @_operator
    def __sub__(self, other: Exact) -> Exact:
        if self.tangent or other.tangent:
            return _dual(self.value - other.value, self.tangent - other.tangent)
        return _dual(self.value - other.value)

    @_operator
    def __mul__(self, other: Exact) -> Exact:
        if self.tangent or other.tangent:
            return _dual(self.value * other.value, self.tangent * other.value + self.value * other.tangent)
        return _dual(self.value * other.value)

    @_operator
    def __truediv__(self, other: Exact) -> Exact:
        if not other.value:
            raise ZeroDivisionError(f"({self}) / ({other}): what is divided by must not be 0; a constant slice needs eps > 0")
        quotient = self.value / other.value
        if self.tangent or other.tangent:
            return _dual(quotient, (self.tangent - quotient * other.tangent) / other.value)
        return _dual(quotient)

    @_operator
    def __rsub__(self, other: Exact) -> Exact:
        return other - self

    @_operator
    def __rtruediv__(self, other: Exact) -> Exact:
        return other / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __pow__(self, exponent: Any) -> Exact:
        power = _rational(exponent)
        if power is None or power.denominator > 2:
            raise UnsupportedError(f"({self}) ** {exponent!r}: only whole and half exponents are exact")
        if power < 0:
            return 1 / self**-power
        if power.denominator == 2:
            return self.sqrt() ** power.numerator
        n = power.numerator
        return _dual(self.value**n, n * self.value ** (n - 1) * self.tangent if self.tangent and n else _ZERO)

    def __neg__(self) -> Exact:
        return _dual(-self.value, -self.tangent)

    def __pos__(self) -> Exact:
        return self

    def __abs__(self) -> Exact:
        if self.tangent and not self.value:
            raise ArithmeticError(f"abs({self}): abs has no derivative at 0; choose another point")
        return -self if self.value < 0 else self

    __lt__ = _operator(lambda self, other: self.value < other.value)
    __le__ = _operator(lambda self, other: self.value <= other.value)
    __gt__ = _operator(lambda self, other: self.value > other.value)
    __ge__ = _operator(lambda self, other: self.value >= other.value)
    __eq__ = _operator(lambda self, other: self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        raise DTypeError(
            f"{self} does not become a float, which would round it. Arrays of exact numbers have dtype object: "
            "make room for them with np.zeros_like(x), not np.zeros(x.shape), and leave out .astype"
        )

    def __int__(self) -> int:
        raise DTypeError(f"{self} does not become an int, which would lose its fraction and its tangent")

    # NumPy's functions call these on the elements of an object array

    def conjugate(self) -> Exact:
        return self

    def sqrt(self) -> Exact:
        p, q = self.value.numerator, self.value.denominator
        root = Fraction(math.isqrt(max(p, 0)), math.isqrt(q))
        if root * root != self.value:
            raise IrrationalRoot(self.value)
        if not self.tangent:
            return _dual(root)
        if not root:
            raise ZeroDivisionError(f"sqrt({self}): sqrt has no derivative at 0; take eps > 0")
        return _dual(root, self.tangent / (2 * root))

    def exp(self) -> Exact:
        drawn = _drawn("exp", abs(self.value))
        value = 1 / drawn if self.value > 0 else drawn if self.value else _ONE
        return _dual(value, value * self.tangent)

    def log(self) -> Exact:
        if self.value <= 0:
            raise ArithmeticError(f"log({self}): log needs a positive number")
        drawn = _drawn("log", max(self.value, 1 / self.value))
        return _dual(drawn if self.value > 1 else -drawn if self.value < 1 else _ZERO, self.tangent / self.value)

    def tanh(self) -> Exact:
        drawn = _drawn("tanh", abs(self.value))
        value = drawn if self.value > 0 else -drawn if self.value else _ZERO
        return _dual(value, (1 - value * value) * self.tangent)

    def __repr__(self) -> str:
        if not self.tangent:
            return f"{self.value}"
        return f"{self.value} {'-' if self.tangent < 0 else '+'} {abs(self.tangent)} d"


def exact(values: Any) -> Any:
    """An object array of Exact with tangent 0, from numbers, nested lists or arrays of them; what is Exact already stays as it is.

    Raises DTypeError for what is no real number, ArithmeticError for nan and infinities.

    >>> x = exact([0.1, 2, Fraction(1, 3)])
    >>> x.mean(), x.var(), np.sqrt(x * x).sum()
    (73/90, 2899/4050, 73/30)
    """
    # A list that NumPy made numbers of would be rounded: [1, 2**63 + 1]
    array = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    return _elementwise(lambda element: element if type(element) is Exact else Exact(element), array)


def values(array: Any) -> Any:
    """The values, as an object array of Fractions; numbers that are not Exact are taken as by `exact`.

    >>> values([Exact(3, 1), 0.5])
    array([Fraction(3, 1), Fraction(1, 2)], dtype=object)
    """
    return _elementwise(lambda element: element.value, exact(array))


def tangents(array: Any) -> Any:
    """The tangents, as an object array of Fractions; 0 for numbers that are not Exact.

    >>> x = Exact(3, 1)
    >>> tangents([x * x, 1 / x, 7])
    array([Fraction(6, 1), Fraction(-1, 9), Fraction(0, 1)], dtype=object)
    """
    return _elementwise(lambda element: element.tangent, exact(array))


def random_rationals(shape: int | tuple[int, ...], rng: np.random.Generator, positive: bool = False) -> Any:
    """An object array of Exact: small fractions p/q with 1 <= |p| <= 9 and 1 <= q <= 7, never 0.

    >>> random_rationals((2, 3), np.random.default_rng(0))
    array([[-2, -6/5, -5/7],
           [1/2, 3/5, 1/4]], dtype=object)
    """
    numerators = rng.integers(1, 10, shape) * (1 if positive else rng.choice([-1, 1], shape))
    return exact(numerators) / rng.integers(1, 8, shape)


def _elementwise(function: Callable[[Any], Any], array: Any) -> Any:
    return np.fromiter(map(function, array.flat), dtype=object, count=array.size).reshape(array.shape)


def _dual(value: Fraction, tangent: Fraction = _ZERO) -> Exact:
    """An Exact of Fractions, without the conversions of the constructor: most of the time goes into making them."""
    number = Exact.__new__(Exact)
    number.value, number.tangent = value, tangent
    return number


def _number(number: Any) -> Fraction:
    value = _rational(number)
    if value is None:
        raise DTypeError(f"{number!r} is no real number: Exact takes int, bool, Fraction, float and NumPy's scalars")
    return value


def _rational(number: Any) -> Fraction | None:
    """The Fraction that a number stands for; None for everything that is no real number."""
    if isinstance(number, Fraction):
        return number
    if isinstance(number, int | np.integer | np.bool):
        return Fraction(int(number))
    return _simplest(number) if isinstance(number, float | np.floating) else None


@lru_cache(typed=True)  # a float32 is equal to the float64 made of it, and stands for another rational
def _simplest(number: Any) -> Fraction:
    """The rational of smallest denominator within two units in the last place: those are what 1 - 1./7, computed in floats, may lose."""
    if not np.isfinite(number):
        raise ArithmeticError(f"{number} is no rational number: look for a division by 0, or a maximum that starts at -inf")
    value = Fraction(*number.as_integer_ratio())
    if value.denominator == 1:
        return value
    reach = 2 * Fraction(*np.spacing(abs(number)).as_integer_ratio())
    return _simplest_between(value - reach, value + reach)


def _simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """Continued fractions: the first whole number of the interval, or the whole part and the reciprocal of the simplest rest."""
    whole = math.ceil(low)
    if whole <= high:
        return Fraction(whole)
    return whole - 1 + 1 / _simplest_between(1 / (high - whole + 1), 1 / (low - whole + 1))


def _drawn(function: str, argument: Fraction) -> Fraction:
    """A number between 0 and 1 that depends on nothing but the function and its argument."""
    rng = random.Random(f"{function} {argument}")  # of a str: the same in every process
    denominator = rng.randint(100, 999)
    return Fraction(rng.randrange(1, denominator), denominator)
