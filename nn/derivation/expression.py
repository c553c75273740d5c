"""A formula as data: what a NumPy expression does with its names, to be printed as Python or as LaTeX, or taken apart."""

from __future__ import annotations

import ast
import inspect
import numbers
from collections.abc import Callable, Collection, Mapping
from functools import cache
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


def source(rule: Rule) -> str:
    """A rule as a line of Python.

    >>> source(lambda s_bar, s: s_bar / (2 * s))
    's_bar / (2 * s)'
    """
    return str(traced(rule))


def latex(rule: Rule, indexed: Collection[str] = (), summed: Mapping[str, str] | None = None) -> str:
    """A rule as LaTeX; names in ``indexed`` get the index i, ``summed`` tells by the name of an axis argument what a sum runs over.

    >>> print(latex(lambda q_bar, c: 2 * c * q_bar, indexed=("c", "q_bar")))
    2 c_i \\bar{q}_i
    """
    return _Latex(indexed, {"axes": "i", **(summed or {})}).of(traced(rule))


def symbol(name: str) -> str:
    r"""A name as LaTeX: Greek letters, hats, and a bar for the adjoint of a node.

    >>> print(symbol("mu"), symbol("x_hat_bar"))
    \mu \bar{\hat{x}}
    """
    if name.endswith("_bar"):
        return rf"\bar{{{symbol(name[:-4])}}}"
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


_SUM, _PRODUCT, _POWER, _ATOM = range(4)  # how strongly a printed formula holds together


class _Latex:
    """LaTeX as a book writes it: products by juxtaposition, quotients as fractions, c c as a square."""

    def __init__(self, indexed: Collection[str], summed: Mapping[str, str]) -> None:
        self.indexed, self.summed = indexed, summed

    def of(self, value: Any) -> str:
        return self.printed(value)[0]

    def held(self, value: Any, strength: int) -> str:
        text, own = self.printed(value)
        return text if own >= strength else rf"\left({text}\right)"

    def printed(self, value: Any) -> tuple[str, int]:
        if not isinstance(value, Expression):
            return (str(value), _ATOM) if not isinstance(value, numbers.Real) or value >= 0 else (str(value), _SUM)
        if value.name is not None:
            return symbol(value.name) + ("_i" if value.name in self.indexed else ""), _ATOM
        function, arguments = value.function, value.arguments
        if function in (np.add, np.subtract):
            sign = "+" if function is np.add else "-"
            return f"{self.of(arguments[0])} {sign} {self.held(arguments[1], _PRODUCT)}", _SUM
        if function is np.negative:
            return f"-{self.held(arguments[0], _PRODUCT)}", _SUM
        if function is np.multiply:
            left, right = (self.held(each, _PRODUCT) for each in arguments)
            return (f"{left}^2", _POWER) if left == right and self.printed(arguments[0])[1] == _ATOM else (f"{left} {right}", _PRODUCT)
        if function is np.divide:
            if isinstance(arguments[0], Expression) and arguments[0].function is np.negative:
                return f"-{self.printed(arguments[0].arguments[0] / arguments[1])[0]}", _SUM
            return rf"\frac{{{self.of(arguments[0])}}}{{{self.of(arguments[1])}}}", _PRODUCT
        if function is np.power:
            return f"{self.held(arguments[0], _ATOM)}^{{{self.of(arguments[1])}}}", _POWER
        if function is np.sqrt:
            return rf"\sqrt{{{self.of(arguments[0])}}}", _ATOM
        if function is np.exp:
            return f"e^{{{self.of(arguments[0])}}}", _POWER
        if function in (np.sum, np.mean):
            axis = value.params.get("axis")
            over = self.summed.get(str(axis), "")
            sign = rf"\sum_{{{over}}}" if over else r"\sum"
            mean = r"\frac{1}{m} " if function is np.mean else ""
            return f"{mean}{sign} {self.held(arguments[0], _PRODUCT)}", _PRODUCT
        name = {"log": r"\ln"}.get(function.__name__, rf"\operatorname{{{function.__name__}}}".replace("_", r"\_"))
        return rf"{name}\left({', '.join(self.of(each) for each in arguments)}\right)", _ATOM
