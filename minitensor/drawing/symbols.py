"""Symbols as numbers: what a rule computes when NumPy's functions get sympy expressions, and how a book would write it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minitensor import arrays
from minitensor.errors import MissingPackageError, UnsupportedError

try:
    import sympy
    from sympy.printing.latex import LatexPrinter
except ImportError as error:
    raise MissingPackageError(f'formulas need the extra "report": pip install -e ".[report]" from the checkout ({error})') from error

G, Y = sympy.symbols(r"\bar{y} y", real=True)  # such a name also sorts G before all other factors
_KNOWN = (sympy.log(2), sympy.log(10), sympy.sqrt(sympy.pi), sympy.pi)  # what a float in a rule may stand for


def symbol(name: str, real: bool = True) -> Any:
    """A sympy symbol: a real number, or with ``real=False`` one that may be a condition."""
    return sympy.Symbol(name, real=True) if real else sympy.Symbol(name)


class Symbolic(NDArrayOperatorsMixin):
    """A sympy expression that NumPy's functions and operators take for a number; a condition counts as 0 or 1.

    `UnsupportedError` for functions without a symbolic counterpart, such as those that move elements.

    >>> print(np.tanh(Symbolic(symbol("x"))) ** 2)
    tanh(x)**2
    """

    __slots__ = ("expression",)

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    def __str__(self) -> str:
        return str(self.expression)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **params: Any) -> Symbolic:
        if method != "__call__":
            raise UnsupportedError(f"np.{ufunc.__name__}.{method} is not known for symbols")
        return self.__array_function__(ufunc, (), inputs, params)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Symbolic:
        if params or function not in FUNCTIONS:
            raise UnsupportedError(f"np.{function.__name__} is not known for symbols{' with keywords' if params else ''}")
        return Symbolic(FUNCTIONS[function](*map(expression_of, args)))


def expression_of(value: Any) -> Any:
    """The sympy expression of an operand; a float that stands for a constant, such as ``math.log(2)``, becomes that constant."""
    if isinstance(value, Symbolic):
        return value.expression
    return sympy.nsimplify(float(value), _KNOWN) if isinstance(value, (float, np.floating)) and np.isfinite(value) else sympy.sympify(value)


def _where(condition: Any, a: Any, b: Any) -> Any:
    return sympy.Piecewise((a, condition), (b, True))


def _number(value: Any) -> Any:
    return value if isinstance(value, sympy.Expr) else _where(value, 1, 0)


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*map(_number, args))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    function: _on_numbers(counterpart)
    for function, counterpart in {
        np.add: operator.add,
        np.subtract: operator.sub,
        np.multiply: operator.mul,
        np.divide: operator.truediv,
        np.power: operator.pow,
        np.negative: operator.neg,
        np.positive: operator.pos,
        np.square: lambda x: x**2,
        np.sqrt: sympy.sqrt,
        np.reciprocal: lambda x: 1 / x,
        np.exp: sympy.exp,
        np.expm1: lambda x: sympy.exp(x) - 1,
        np.log: sympy.log,
        np.log1p: lambda x: sympy.log(1 + x),
        np.log2: lambda x: sympy.log(x, 2),
        np.log10: lambda x: sympy.log(x, 10),
        np.sin: sympy.sin,
        np.cos: sympy.cos,
        np.tan: sympy.tan,
        np.arctan: sympy.atan,
        np.sinh: sympy.sinh,
        np.cosh: sympy.cosh,
        np.tanh: sympy.tanh,
        arrays.erf: sympy.erf,
        np.absolute: sympy.Abs,
        np.sign: sympy.sign,
        np.floor: sympy.floor,
        np.ceil: sympy.ceiling,
        np.trunc: lambda x: sympy.sign(x) * sympy.floor(sympy.Abs(x)),
        np.rint: sympy.Function("rint", real=True),
        np.round: sympy.Function("round", real=True),
        np.maximum: sympy.Max,
        np.minimum: sympy.Min,
        np.clip: lambda x, lo, hi: sympy.Min(hi, sympy.Max(lo, x)),
        np.copy: lambda x: x,
        arrays.astype: lambda x: x,
        np.equal: sympy.Eq,
        np.less: operator.lt,
        np.less_equal: operator.le,
        np.greater: operator.gt,
        np.greater_equal: operator.ge,
    }.items()
} | {np.where: _where, np.bitwise_and: sympy.And, np.bitwise_or: sympy.Or, np.invert: sympy.Not}


def tidied(cotangent: Any) -> Any:
    """The same, as a book would write it: cases outermost, and the cotangent of the output in front of each.

    >>> x = symbol("x")
    >>> print(tidied(G - G * x * x))
    \\bar{y}*(1 - x**2)
    """
    folded = sympy.piecewise_fold(cotangent)
    cases = folded.args if isinstance(folded, sympy.Piecewise) else [(folded, True)]
    return sympy.Piecewise(*((_factored(value.subs(_equalities(condition))), _settled(condition)) for value, condition in cases))


def _factored(value: Any) -> Any:
    """The cotangent of the output times the rest; a rule that is not linear in it is wrong, and is shown as it is."""
    factored = G * value.subs(G, 1)
    return factored if sympy.expand(value - factored) in (0, sympy.nan) else value


def _equalities(condition: Any) -> dict[Any, Any]:
    """What a condition says is equal."""
    parts = condition.args if isinstance(condition, sympy.And) else [condition]
    return {part.lhs: part.rhs for part in parts if isinstance(part, sympy.Eq)}


def _settled(condition: Any) -> Any:
    """A condition without parts that its equalities decide: a = b and a > b is never met."""
    if not isinstance(condition, sympy.And):
        return condition
    known = _equalities(condition)
    return sympy.And(*(part if isinstance(part, sympy.Eq) else part.subs(known) for part in condition.args))


class _Printer(LatexPrinter):  # type: ignore[misc]
    """LaTeX as a book writes it."""

    def __init__(self) -> None:
        super().__init__({"ln_notation": True, "inv_trig_style": "full", "fold_func_brackets": True})

    def _as_ordered_terms(self, expr: Any, order: Any = None) -> Any:
        """1 + x and 1 - x, but b - 1."""
        return sorted(super()._as_ordered_terms(expr, order), key=lambda term: (term.could_extract_minus_sign(), not term.is_number))

    def _print_Mul(self, expr: Any) -> str:
        """Powers with an unknown exponent at the end: b a**(b - 1)."""
        powers = [factor for factor in expr.args if factor.is_Pow and factor.base.is_Symbol and factor.exp.free_symbols]
        rest = sympy.Mul(*(factor for factor in expr.args if factor not in powers))
        if not powers or not rest.free_symbols:
            return str(super()._print_Mul(expr))
        return " ".join(map(self._print, (rest, *powers)))

    def _print_Symbol(self, expr: Any, style: str = "plain") -> str:
        """Words upright, or they would look like products."""
        word = expr.name.isalpha() and len(expr.name) > 1
        return rf"\mathrm{{{expr.name}}}" if word else str(super()._print_Symbol(expr, style))

    def _print_Abs(self, expr: Any, exp: Any = None) -> str:
        """Without the character that separates the cells of a Markdown table."""
        return rf"\lvert {self._print(expr.args[0])} \rvert" + (f"^{{{exp}}}" if exp else "")

    def _print_log(self, expr: Any, exp: Any = None) -> str:
        """ln 2 and ln x need no brackets."""
        return rf"\ln {self._print(expr.args[0])}" if exp is None and expr.args[0].is_Atom else str(super()._print_log(expr, exp))

    def _print_And(self, expr: Any) -> str:
        """Two inequalities that meet, as one chain: lo <= x <= hi."""
        rising = [part.reversed if isinstance(part, (sympy.Gt, sympy.Ge)) else part for part in expr.args]
        for left, right in permutations(rising, 2):
            if len(rising) == 2 and isinstance(left, (sympy.Lt, sympy.Le)) and left.rhs == right.lhs:
                return self._print(left) + self._print(right).removeprefix(self._print(right.lhs))  # type: ignore[no-any-return]
        return str(super()._print_And(expr))


def to_latex(expression: Any) -> str:
    """A sympy expression as LaTeX.

    >>> print(to_latex(1 - sympy.log(symbol("x"))))
    1 - \\ln x
    """
    return str(_Printer().doprint(expression))


def to_text(expression: Any) -> str:
    """A sympy expression as Python would spell it, with g for the cotangent of the output."""
    return str(expression.xreplace({G: symbol("g")}))
