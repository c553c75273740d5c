"""The rules as formulas: those of elementwise primitives run on symbols as they are, all others carry their LaTeX themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

from minitensor import ops
from minitensor.drawing.symbols import FUNCTIONS, G, Symbolic, Y, expression_of, symbol, tidied, to_latex, to_text
from minitensor.errors import UnsupportedError
from minitensor.primitive import ListPrimitive, Primitive
from minitensor.tables import Table
from minitensor.tensor import DISPATCH

_PLACES = {"source": "cpu", "target": "cpu", "dtype": None}  # parameters of elementwise primitives that have no default


@dataclass(frozen=True)
class SymbolicRules:
    """An elementwise primitive on symbols: what it computes of its inputs, and the cotangent of each input, None without a rule."""

    inputs: tuple[Any, ...]
    function: Any
    cotangents: tuple[Any, ...]


def symbolic_rules(primitive: Primitive) -> SymbolicRules:
    """The function and the rules of an elementwise primitive, run on symbols; `UnsupportedError` where they do not run on them.

    >>> print(symbolic_rules(ops.tanh).cotangents[0])
    \\bar{y}*(1 - y**2)
    """
    if isinstance(primitive, ListPrimitive):
        raise UnsupportedError(f"{primitive.name} does not run on symbols: it takes a list")
    params = {name: _PLACES[name] for name in primitive.params if name in _PLACES}
    inputs = tuple(
        symbol(name, real=rule is not None)  # an input without a rule may be a condition
        for name, rule in zip(input_names(primitive), primitive.rules, strict=True)
    )
    given = [Symbolic(x) for x in inputs]
    try:
        counterpart = FUNCTIONS.get(primitive.function)
        function = counterpart(*inputs) if counterpart else expression_of(primitive.function(*given, **params))
        cotangents = [rule and tidied(expression_of(rule(Symbolic(G), Symbolic(Y), *given, **params))) for rule in primitive.rules]
    except (TypeError, AttributeError, ValueError) as error:
        raise UnsupportedError(f"{primitive.name} does not run on symbols: {error}") from error
    return SymbolicRules(inputs, function, tuple(cotangents))


def input_names(primitive: Primitive) -> list[str]:
    """The inputs as the rules call them; of a list, its first and its last."""
    if isinstance(primitive, ListPrimitive):
        return ["x_1", "...", "x_n"]
    names = [name.lstrip("_") for name in inspect.signature(_first_rule(primitive)).parameters][2 : 2 + primitive.arity]
    return names if len(names) == primitive.arity else [f"x_{i + 1}" for i in range(primitive.arity)]


def _first_rule(primitive: Primitive) -> Any:
    return next(rule for rule in primitive.rules if rule)


def family(primitive: Primitive) -> str:
    """The name of the module that holds its rules.

    >>> family(ops.tanh)
    'elementwise'
    """
    return str(_first_rule(primitive).__module__.rpartition(".")[2])


@dataclass(frozen=True)
class Formula:
    """One primitive: as LaTeX what it computes, and the cotangent of every input that has one; ``text`` is the same for terminals."""

    name: str
    family: str
    function: str
    cotangents: tuple[str, ...]
    text: tuple[str, ...]


def formula(primitive: Primitive) -> Formula:
    r"""The formulas of a primitive; `UnsupportedError` when its rules neither run on symbols nor carry ``latex=``.

    >>> formula(ops.divide).cotangents
    ('\\bar{a} = \\frac{\\bar{y}}{b}', '\\bar{b} = - \\frac{\\bar{y} y}{b}')
    """
    if primitive.latex:
        return _carried(primitive)
    try:
        rules = symbolic_rules(primitive)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}; primitive(..., latex=...) tells its formulas, one for each input that has a rule") from error
    cotangents = [(x, cotangent) for x, cotangent in zip(rules.inputs, rules.cotangents, strict=True) if cotangent is not None]
    return Formula(
        primitive.name,
        family(primitive),
        f"y = {to_latex(rules.function)}",
        tuple(f"{_barred(to_latex(x))} = {to_latex(cotangent)}" for x, cotangent in cotangents),
        (to_text(rules.function), *(f"{x}: {to_text(cotangent)}" for x, cotangent in cotangents)),
    )


def _carried(primitive: Primitive) -> Formula:
    names, told = input_names(primitive), primitive.latex
    if not isinstance(primitive, ListPrimitive):
        having = [name for name, rule in zip(names, primitive.rules, strict=True) if rule]
        if len(told) != len(having):
            raise UnsupportedError(f"{primitive.name} has rules for {', '.join(having)}, and latex= holds {len(told)} formula(s)")
    named = [name for name in primitive.params if any(rf"\mathrm{{{name}}}" in formula for formula in told)]
    called = ", ".join([*names, *(rf"\mathrm{{{name}}}" for name in named)]).replace("...", r"\dots")
    function = f"y = {_upright(primitive.name)}({called})"
    called = f"{primitive.name}({', '.join([*names, *named])})"
    return Formula(primitive.name, family(primitive), function, told, (called, *told))


def _barred(name: str) -> str:
    return rf"\bar{{{name}}}" if len(name) == 1 else rf"\overline{{{name}}}"


def _upright(name: str) -> str:
    return r"\operatorname{" + name.replace("_", r"\_") + "}"


def primitives(package: ModuleType = ops) -> list[Primitive]:
    """Every primitive in the modules of ``package``, by family, in the order of their definition."""
    modules = [import_module(info.name) for info in walk_packages(package.__path__, package.__name__ + ".")]
    found = [(module.__name__, each) for module in modules for each in vars(module).values() if isinstance(each, Primitive)]
    found.sort(key=lambda pair: pair[0].rpartition(".")[2] != family(pair[1]))  # a module that imports a primitive comes after its own
    return sorted(dict.fromkeys(each for _, each in found), key=family)


def functions_without_gradient() -> list[str]:
    """The NumPy functions that take Tensors and give plain values."""
    return sorted(function.__name__ for function, served in DISPATCH.items() if _gives_plain_values(served))


def composed_functions() -> list[str]:
    """The NumPy functions that are served by several primitives together."""
    return sorted(
        f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
        for function, served in DISPATCH.items()
        if (getattr(function, "__module__", None) or "").startswith("numpy")
        and not isinstance(served, Primitive)
        and not _gives_plain_values(served)
    )


def _gives_plain_values(served: Any) -> bool:
    return getattr(served, "__qualname__", "").startswith("_plain.")


class DerivativeTable:
    """Formulas by family: Markdown with LaTeX for notebooks, plain text for terminals. Made by `derivative_table`."""

    def __init__(self, formulas: Sequence[Formula]) -> None:
        self.formulas = tuple(formulas)

    def families(self) -> Iterator[tuple[str, list[Formula]]]:
        """Each family with its formulas."""
        for name, rows in groupby(self.formulas, key=lambda row: row.family):
            yield name, list(rows)

    def __str__(self) -> str:
        columns = ("primitive", "function", "cotangents, with g for that of the output")
        return "\n\n".join(
            str(Table(name, columns, [(row.name, row.text[0], "; ".join(row.text[1:])) for row in rows])) for name, rows in self.families()
        )

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        """One row per cotangent; the character that separates cells is escaped."""
        lines = []
        for name, rows in self.families():
            lines += [f"**{name}**", "", "| primitive | function | cotangents |", "| --- | --- | --- |"]
            for row in rows:
                for i, cotangent in enumerate(row.cotangents):
                    cells = (f"`{row.name}`" if i == 0 else "", _math(row.function) if i == 0 else "", _math(cotangent))
                    lines.append(" | ".join(["", *(cell.replace("|", r"\|") for cell in cells), ""]).strip())
            lines.append("")
        return "\n".join(lines)


def _math(latex: str) -> str:
    return rf"$\displaystyle {latex}$"


def derivative_table(package: ModuleType = ops) -> DerivativeTable:
    """The formulas of every primitive in the modules of ``package``; `UnsupportedError` for one that has none."""
    return DerivativeTable([formula(primitive) for primitive in primitives(package)])
