"""The rules as formulas: those of elementwise primitives are run on symbols as they are, all others carry their LaTeX themselves."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from itertools import groupby, permutations
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minitensor import arrays, ops
from minitensor.errors import MissingPackageError, UnsupportedError
from minitensor.primitive import ListPrimitive, Primitive
from minitensor.tables import Table
from minitensor.tensor import DISPATCH, Tensor

try:
    import sympy
    from sympy.printing.latex import LatexPrinter
except ImportError as error:
    raise MissingPackageError(f'formulas need the extra "report": pip install -e ".[report]" from the checkout ({error})') from error

G, Y = sympy.Symbol(r"\bar{y}", real=True), sympy.Symbol("y", real=True)  # the name of G also sorts it before the other factors
_KNOWN = (sympy.log(2), sympy.log(10), sympy.sqrt(sympy.pi), sympy.pi)  # what a float in a rule may stand for


class Symbolic(NDArrayOperatorsMixin):
    """A sympy expression that NumPy's functions and operators take for a number; a condition counts as 0 or 1.

    Raises `UnsupportedError` for functions that have no symbolic counterpart here, such as those that move elements.

    >>> print(np.tanh(Symbolic(sympy.Symbol("x"))) ** 2)
    tanh(x)**2
    """

    __slots__ = ("expression",)

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    def __str__(self) -> str:
        return str(self.expression)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **params: Any) -> Symbolic:
        if method != "__call__":
            raise UnsupportedError(f"Symbolic: np.{ufunc.__name__}.{method} is not known for symbols")
        return self.__array_function__(ufunc, (), inputs, params)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Symbolic:
        if params or function not in _FUNCTIONS:
            raise UnsupportedError(f"Symbolic: np.{function.__name__} is not known for symbols{' with keywords' if params else ''}")
        return Symbolic(_FUNCTIONS[function](*map(_expression, args)))


def _expression(value: Any) -> Any:
    """The sympy expression for an operand; floats that stand for a constant, such as ``math.log(2)``, become that constant."""
    if isinstance(value, Symbolic):
        return value.expression
    return sympy.nsimplify(float(value), _KNOWN) if isinstance(value, (float, np.floating)) and np.isfinite(value) else sympy.sympify(value)


def _where(condition: Any, a: Any, b: Any) -> Any:
    return sympy.Piecewise((a, condition), (b, True))


def _number(value: Any) -> Any:
    """Relations are numbers here; a symbol is one already."""
    return value if isinstance(value, sympy.Expr) else _where(value, 1, 0)


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*map(_number, args))


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    function: _on_numbers(made)
    for function, made in {
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
        np.arcsin: sympy.asin,
        np.arccos: sympy.acos,
        np.arctan: sympy.atan,
        np.sinh: sympy.sinh,
        np.cosh: sympy.cosh,
        np.tanh: sympy.tanh,
        np.arcsinh: sympy.asinh,
        np.arccosh: sympy.acosh,
        np.arctanh: sympy.atanh,
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
        arrays.erf: sympy.erf,
        arrays.astype: lambda x: x,
        np.equal: sympy.Eq,
        np.not_equal: sympy.Ne,
        np.less: operator.lt,
        np.less_equal: operator.le,
        np.greater: operator.gt,
        np.greater_equal: operator.ge,
    }.items()
} | {
    np.where: _where,
    np.logical_and: sympy.And,
    np.logical_or: sympy.Or,
    np.logical_not: sympy.Not,
    np.bitwise_and: sympy.And,
    np.bitwise_or: sympy.Or,
    np.invert: sympy.Not,
}
_PLACES = {"source": "cpu", "target": "cpu", "dtype": None}  # parameters without a default: where an array lies, and its dtype


@dataclass(frozen=True)
class SymbolicRules:
    """An elementwise primitive on symbols: what it computes of ``inputs``, and for each input the cotangent, None without a rule."""

    inputs: tuple[Any, ...]
    function: Any
    cotangents: tuple[Any, ...]


def symbolic_rules(primitive: Primitive) -> SymbolicRules:
    """Run the function and the rules of an elementwise primitive on symbols; `UnsupportedError` where these do not run on them.

    >>> print(symbolic_rules(ops.tanh).cotangents[0])
    \\bar{y}*(1 - y**2)
    """
    inputs = tuple(
        sympy.Symbol(name, real=True) if rule else sympy.Symbol(name)  # an input without a rule may be a condition
        for name, rule in zip(_names(primitive), primitive.rules, strict=True)
    )
    given = [Symbolic(x) for x in inputs]
    try:
        known = primitive.function in _FUNCTIONS
        function = _FUNCTIONS[primitive.function](*inputs) if known else _expression(primitive.function(*given, **_params(primitive)))
        cotangents = [rule and tidied(_expression(rule(Symbolic(G), Symbolic(Y), *given, **_params(primitive)))) for rule in primitive.rules]
    except (TypeError, AttributeError, ValueError) as error:
        raise UnsupportedError(f"{primitive.name} does not run on symbols: {error}") from error
    return SymbolicRules(inputs, function, tuple(cotangents))


def _names(primitive: Primitive) -> list[str]:
    """The names of the inputs, as the rules call them."""
    rule = next(rule for rule in primitive.rules if rule)
    names = [name.lstrip("_") for name in inspect.signature(rule).parameters][2 : 2 + primitive.arity]
    return names if len(names) == primitive.arity else [f"x_{i + 1}" for i in range(primitive.arity)]


def _params(primitive: Primitive) -> dict[str, Any]:
    """What the rules of an elementwise primitive need beside its inputs."""
    rule = next(rule for rule in primitive.rules if rule)
    return {name: _PLACES[name] for name in inspect.signature(rule).parameters if name in _PLACES}


def tidied(cotangent: Any) -> Any:
    """The same cotangent, as a book would write it: its factor of the cotangent of the output in front, and cases outermost.

    >>> x = sympy.Symbol("x", real=True)
    >>> print(tidied(G - G * x * x))
    \\bar{y}*(1 - x**2)
    """
    factor = sympy.piecewise_fold(cotangent.subs(G, 1))
    if sympy.simplify(sympy.piecewise_fold(cotangent - G * factor)) not in (0, sympy.nan) and not factor.has(sympy.nan):
        return cotangent  # a rule that is not linear in its cotangent is wrong, and shown as it is
    if not isinstance(factor, sympy.Piecewise):
        return G * factor
    cases = [(value.subs(_equalities(condition)), condition) for value, condition in sympy.simplify(factor).args]
    return sympy.Piecewise(*((G * value, condition) for value, condition in cases))


def _equalities(condition: Any) -> dict[Any, Any]:
    """What a condition says is equal to a number."""
    parts = condition.args if isinstance(condition, sympy.And) else [condition]
    return {part.lhs: part.rhs for part in parts if isinstance(part, sympy.Eq) and part.rhs.is_number}


class _Printer(LatexPrinter):  # type: ignore[misc]
    """LaTeX as books write it."""

    def __init__(self) -> None:
        super().__init__({"ln_notation": True, "inv_trig_style": "full", "fold_func_brackets": True})

    def _as_ordered_terms(self, expr: Any, order: Any = None) -> Any:
        """1 + x and 1 - x, but b - 1."""
        return sorted(super()._as_ordered_terms(expr, order="rev-lex"), key=lambda term: term.could_extract_minus_sign())

    def _print_Symbol(self, expr: Any, style: str = "plain") -> str:
        word = expr.name.isalpha() and len(expr.name) > 1
        return rf"\mathrm{{{expr.name}}}" if word else str(super()._print_Symbol(expr, style))

    def _print_Abs(self, expr: Any, exp: Any = None) -> str:
        """Without the character that separates the cells of a Markdown table."""
        return rf"\lvert {self._print(expr.args[0])} \rvert" + (f"^{{{exp}}}" if exp else "")

    def _print_And(self, expr: Any) -> str:
        """Two inequalities that meet as one chain: lo <= x <= hi."""
        rising = [part.reversed if isinstance(part, (sympy.Gt, sympy.Ge)) else part for part in expr.args]
        for left, right in permutations(rising, 2):
            if len(rising) == 2 and isinstance(left, (sympy.Lt, sympy.Le)) and left.rhs == right.lhs:
                return f"{self._print(left)} {self._print(right).removeprefix(self._print(right.lhs)).lstrip()}"
        return str(super()._print_And(expr))


def to_latex(expression: Any) -> str:
    """A sympy expression in LaTeX.

    >>> print(to_latex(sympy.exp(-sympy.Symbol("x"))))
    e^{- x}
    """
    return str(_Printer().doprint(expression))


@dataclass(frozen=True)
class Formula:
    """One primitive: its family, and as LaTeX what it computes and the cotangent of each input that has one; ``text`` is the same, plain."""

    name: str
    family: str
    function: str
    derivatives: tuple[str, ...]
    text: tuple[str, ...]


def formula(primitive: Primitive) -> Formula:
    r"""The formulas of a primitive; `UnsupportedError` when its rules neither run on symbols nor carry ``latex=`` for every input.

    >>> formula(ops.divide).derivatives
    ('\\bar{a} = \\frac{\\bar{y}}{b}', '\\bar{b} = - \\frac{\\bar{y} y}{b}')
    """
    rule = next(rule for rule in primitive.rules if rule)
    family = rule.__module__.rpartition(".")[2]
    if primitive.latex:
        return _carried(primitive, family)
    try:
        rules = symbolic_rules(primitive)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}; its primitive(...) needs latex=, one formula for each input with a rule") from error
    cotangents = {x: c for x, c in zip(rules.inputs, rules.cotangents, strict=True) if c is not None}
    plain = {G: sympy.Symbol("g", real=True)}
    return Formula(
        primitive.name,
        family,
        f"y = {to_latex(rules.function)}",
        tuple(rf"\bar{{{to_latex(x)}}} = {to_latex(cotangent)}" for x, cotangent in cotangents.items()),
        (f"y = {rules.function}", *(f"{x}: {cotangent.xreplace(plain)}" for x, cotangent in cotangents.items())),
    )


def _carried(primitive: Primitive, family: str) -> Formula:
    names = ["x_1, \\dots, x_n"] if isinstance(primitive, ListPrimitive) else _names(primitive)
    with_rule = [name for name, rule in zip(names, primitive.rules, strict=True) if rule]
    if len(primitive.latex) not in (1, len(with_rule)):
        raise UnsupportedError(f"{primitive.name} has rules for {', '.join(with_rule)}, but latex= holds {len(primitive.latex)} formulas")
    told = [
        text if "\\bar" in text.partition("=")[0] and "=" in text else rf"\bar{{{name}}} = {text}"
        for name, text in zip(with_rule, primitive.latex, strict=False)
    ]
    function = rf"y = \operatorname{{{primitive.name}}}({', '.join(names)})".replace("_", r"\_")
    return Formula(primitive.name, family, function, tuple(told), (f"y = {primitive.name}({', '.join(names)})", *told))


def primitives(package: ModuleType = ops) -> list[Primitive]:
    """Every primitive that stands in a module of ``package``, once, by family and name."""
    modules = [import_module(info.name) for info in walk_packages(package.__path__, package.__name__ + ".")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Primitive)}
    return sorted(found, key=lambda primitive: (formula_family(primitive), primitive.name))


class DerivativeTable:
    """The formulas of primitives, by family: Markdown with LaTeX in a notebook, plain text in a terminal. Made by `derivative_table`."""

    def __init__(self, formulas: Sequence[Formula]) -> None:
        self.formulas = tuple(formulas)

    def __str__(self) -> str:
        return "\n\n".join(
            str(Table(family, ("primitive", "function", "cotangents"), [(row.name, row.text[0], "; ".join(row.text[1:])) for row in rows]))
            for family, rows in self.families()
        )
