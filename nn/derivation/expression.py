"""A formula as data: what a NumPy expression does with its names, to be printed as Python or as LaTeX, or taken apart."""

from __future__ import annotations

import ast
import inspect
import numbers
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minitensor.errors import UnsupportedError

Rule = Callable[..., Any]  # its parameters name what it reads

INFIX: Mapping[Any, type[ast.operator]] = {
    np.add: ast.Add,
    np.subtract: ast.Sub,
    np.multiply: ast.Mult,
    np.divide: ast.Div,
    np.power: ast.Pow,
}
GREEK = {"mu": r"\mu", "gamma": r"\gamma", "beta": r"\beta", "eps": r"\varepsilon", "ell": r"\ell", "sigma": r"\sigma"}


class Expression(NDArrayOperatorsMixin):
    """A name, or a NumPy function of expressions and numbers.

    >>> c, r = Expression("c"), Expression("r")
    >>> print(np.sum(c * r, axis=-1) / 2)
    np.sum(c * r, axis=-1) / 2
    """

    __slots__ = ("arguments", "function", "params")

    dtype = np.dtype(np.float64)  # which nothing widens: a formula is about numbers, not about their digits

    def __init__(self, function: Any, arguments: tuple[Any, ...] = (), params: Mapping[str, Any] | None = None) -> None:
        self.function, self.arguments, self.params = function, arguments, dict(params or {})

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **params: Any) -> Expression:
        if method != "__call__":
            raise UnsupportedError(f"a formula cannot hold np.{ufunc.__name__}.{method}")
        return Expression(ufunc, inputs, params)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Expression:
        return Expression(function, args, params)

    def __str__(self) -> str:
        return ast.unparse(_tree(self))

    def __repr__(self) -> str:
        return f"<Expression {self}>"

    @property
    def name(self) -> str | None:
        """The name, where it is nothing but a name."""
        return self.function if isinstance(self.function, str) else None

    @property
    def parts(self) -> tuple[Any, ...]:
        """What the function is applied to: its arguments, and the values of its parameters."""
        return (*self.arguments, *self.params.values())

    def with_arguments(self, change: Callable[[Any], Any]) -> Expression:
        """The function of changed parts."""
        return Expression(self.function, tuple(map(change, self.arguments)), {key: change(each) for key, each in self.params.items()})


def reads(rule: Rule) -> tuple[str, ...]:
    """The names of what a rule reads: those of its parameters.

    >>> reads(lambda q_bar, c: 2 * c * q_bar)
    ('q_bar', 'c')
    """
    try:
        return _parameters(rule)
    except TypeError:  # a callable that cannot be hashed
        return tuple(inspect.signature(rule).parameters)


@cache  # a signature takes longer to make than a rule to run
def _parameters(rule: Rule) -> tuple[str, ...]:
    return tuple(inspect.signature(rule).parameters)


def traced(rule: Rule) -> Any:
    """What a rule does, as an `Expression` of the names that it reads, or a number; `UnsupportedError` where it cannot be told.

    >>> print(traced(lambda q_bar, c: 2 * c * q_bar))
    2 * c * q_bar
    """
    try:
        return rule(*map(Expression, reads(rule)))
    except (TypeError, AttributeError, ValueError) as error:
        raise UnsupportedError(
            f"the formula of ({', '.join(reads(rule))}) cannot be written down: {error}. Formulas are made of operators and NumPy functions"
        ) from error


def axis_of(value: Expression) -> Any:
    """The argument ``axis`` of a sum or a mean."""
    return value.params.get("axis", value.arguments[1] if len(value.arguments) > 1 else None)


def source(rule: Rule) -> str:
    """A rule as a line of Python.

    >>> source(lambda s_bar, s: s_bar / (2 * s))
    's_bar / (2 * s)'
    """
    return str(traced(rule))


def latex(
    rule: Rule, indexed: Collection[str] = (), over: Callable[[Any], tuple[str, ...]] = lambda axis: ("i",), free: bool = True
) -> str:
    """A rule as LaTeX; names in ``indexed`` get the index i.

    ``over`` tells of an axis argument what a sum along it runs over, where "i" stands for the elements of a slice. With ``free`` what the
    formula is equal to has the index i as well, so that its sums take j.

    >>> print(latex(lambda q_bar, c: 2 * c * q_bar, indexed=("c", "q_bar")))
    2 c_i \\bar{q}_i
    >>> print(latex(lambda y, g, axes: y * (g - np.sum(g * y, axis=axes)), indexed=("y", "g")))
    y_i \\left(g_i - \\sum_{j} g_j y_j\\right)
    """
    return latex_of(traced(rule), indexed, over, free)


def latex_of(
    expression: Any, indexed: Collection[str] = (), over: Callable[[Any], tuple[str, ...]] = lambda axis: ("i",), free: bool = True
) -> str:
    """An `Expression` as LaTeX, as `latex` writes that of a rule."""
    return _Latex(frozenset(indexed), over, "i" if free else "").of(expression)


def symbol(name: str) -> str:
    r"""A name as LaTeX: Greek letters, hats, and a bar for the adjoint of a node.

    >>> print(symbol("mu"), symbol("x_hat_bar"))
    \mu \bar{\hat{x}}
    """
    if name.endswith("_bar"):
        inner = symbol(name[:-4])
        return rf"\{'overline' if 'mathrm' in inner else 'bar'}{{{inner}}}"
    if name.endswith("_hat"):
        return rf"\hat{{{symbol(name[:-4])}}}"
    return GREEK.get(name) or (name if len(name) == 1 else rf"\mathrm{{{name}}}".replace("_", r"\_"))


def _tree(value: Any) -> ast.expr:
    """The syntax tree, whose printer knows where brackets belong."""
    if not isinstance(value, Expression):
        if isinstance(value, (numbers.Number, str, type(None), tuple, np.number)):
            return ast.parse(repr(value.item() if isinstance(value, np.number) else value), mode="eval").body
        raise UnsupportedError(f"a formula holds names and numbers, got {type(value).__name__}")
    if value.name is not None:
        return ast.Name(value.name)
    if value.function in INFIX:
        left, right = value.arguments
        return ast.BinOp(_tree(left), INFIX[value.function](), _tree(right))
    if value.function is np.negative:
        return ast.UnaryOp(ast.USub(), _tree(value.arguments[0]))
    function = ast.Attribute(ast.Name("np"), value.function.__name__)
    return ast.Call(
        function, [_tree(each) for each in value.arguments], [ast.keyword(key, _tree(each)) for key, each in value.params.items()]
    )


_SUM, _OPEN, _PRODUCT, _POWER, _ATOM = range(5)  # how strongly a printed formula holds together; _OPEN: it ends in a sum without brackets


@dataclass(frozen=True)
class _Latex:
    """LaTeX as a book writes it: products by juxtaposition, quotients as fractions, c c as a square, a sign in front of the product."""

    indexed: frozenset[str]
    over: Callable[[Any], tuple[str, ...]]
    index: str  # that of what varies within a slice; none before the first sum where the formula is a number per slice

    def of(self, value: Any) -> str:
        return self.printed(value)[0]

    def held(self, value: Any, strength: int) -> str:
        text, own = self.printed(value)
        return text if own >= strength else rf"\left({text}\right)"

    def printed(self, value: Any) -> tuple[str, int]:
        negative, value = _signed(value)
        if negative:
            return f"-{self.held(value, _OPEN)}", _SUM
        if not isinstance(value, Expression):
            return str(value), _ATOM
        if value.name is not None:
            return symbol(value.name) + (f"_{self.index}" if value.name in self.indexed and self.index else ""), _ATOM
        function, arguments = value.function, value.arguments
        if function in (np.add, np.subtract):
            minus, right = _signed(arguments[1])
            sign = "-" if minus != (function is np.subtract) else "+"
            return f"{self.of(arguments[0])} {sign} {self.held(right, _OPEN)}", _SUM
        if function is np.multiply:
            return self.product(_factors(value))
        if function is np.divide:
            return rf"\frac{{{self.of(arguments[0])}}}{{{self.of(arguments[1])}}}", _PRODUCT
        if function is np.power:
            return f"{self.held(arguments[0], _ATOM)}^{{{self.of(arguments[1])}}}", _POWER
        if function is np.sqrt:
            return rf"\sqrt{{{self.of(arguments[0])}}}", _ATOM
        if function is np.exp:
            return f"e^{{{self.of(arguments[0])}}}", _POWER
        if function in (np.sum, np.mean):
            return self.sum(value, function is np.mean)
        name = {"log": r"\ln"}.get(function.__name__, rf"\operatorname{{{function.__name__}}}".replace("_", r"\_"))
        if len(arguments) == 1 and self.printed(arguments[0])[1] == _ATOM:
            return f"{name} {self.of(arguments[0])}", _PRODUCT
        return rf"{name}\left({', '.join(map(self.of, arguments))}\right)", _PRODUCT

    def product(self, factors: list[Any]) -> tuple[str, int]:
        last = self.printed(factors[-1])[1]
        shown = [self.held(factor, _PRODUCT) for factor in factors[:-1]] + [self.held(factors[-1], _OPEN)]
        powers = []
        for text, alike in groupby(text for text in shown if text != "1"):
            several = list(alike)
            powers += (
                several if "^" in text or text.startswith((r"\frac", r"\sum")) else [text + (f"^{len(several)}" if several[1:] else "")]
            )
        return " ".join(powers) or "1", _OPEN if last == _OPEN else _PRODUCT

    def sum(self, value: Expression, mean: bool) -> tuple[str, int]:
        over = [name for name in self.over(axis_of(value)) if name != "i" or _names(value.arguments[0]) & self.indexed]
        inner = replace(self, index=_NEXT[self.index]) if "i" in over else self
        run = ", ".join(inner.index if name == "i" else name for name in over)
        sign = "\\sum" if not mean else r"\frac{1}{m} \sum" if over == ["i"] else r"\operatorname{mean}"
        return f"{sign}{f'_{{{run}}}' if run else ''} {inner.held(value.arguments[0], _OPEN)}", _OPEN


_NEXT = dict(pairwise(["", *"ijkl"]))  # deeper sums than these, nobody could read


def _signed(value: Any) -> tuple[bool, Any]:
    """Whether a minus stands in front, and what stands behind it."""
    if isinstance(value, numbers.Real):
        return value < 0, abs(value)
    if isinstance(value, Expression) and value.function is np.negative:
        negative, inner = _signed(value.arguments[0])
        return not negative, inner
    if isinstance(value, Expression) and value.function in (np.multiply, np.divide):
        (left, a), (right, b) = map(_signed, value.arguments)
        return left != right, Expression(value.function, (a, b))
    return False, value


def _factors(value: Any) -> list[Any]:
    if isinstance(value, Expression) and value.function is np.multiply:
        return [factor for part in value.arguments for factor in _factors(part)]
    return [value]


def _names(value: Any) -> set[str]:
    """The names in an expression."""
    if not isinstance(value, Expression):
        return set()
    return {value.name} if value.name is not None else {name for part in value.parts for name in _names(part)}
