"""A derivation as text: every formula, traced from the code that is checked, as LaTeX, as Markdown and in plain letters."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from minitensor.errors import UnsupportedError

from .expression import Expression, Rule, axis_of, latex_of, reads, symbol, traced
from .judges import JUDGES, Differences

if TYPE_CHECKING:
    from .check import Check
    from .derivation import Derivation
    from .step import Edge

PARTS = {"forward": "Forward", "edge": "Backward", "closed form": "Closed form", "double backward": "Double backward"}
MARKS = {"right": "✓", "WRONG": "✗", "judges disagree": "?", "not judged": "–", "": ""}
_LENGTHS = (7, 8)  # of "m", to see which shapes follow it
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", **{c: rf"\{c}" for c in "_&%#${}"}}


@dataclass(frozen=True)
class Line:
    """One formula, called as a `Check` calls it ("q -> c", "closed form of x"), or by its step in the forward."""

    part: str
    name: str
    left: str
    relation: str
    right: str
    text: str
    note: str = ""
    where: tuple[str, ...] = ()

    @property
    def latex(self) -> str:
        """left = right, a = ..."""
        return ", \\quad ".join([f"{self.left} {self.relation} {self.right}", *self.where])


def lines(derivation: Derivation, rules: Mapping[Edge, Rule] | None = None) -> tuple[Line, ...]:
    """Every formula of a derivation, in the order of `PARTS`; ``rules`` are taken in the place of the derivation's own.

    >>> from minitensor.nn.derivation import instance_norm
    >>> for line in lines(instance_norm)[:9:4]:
    ...     print(line.text, " ", line.latex)
    mu = mean(x, axes)   \\mu = \\frac{1}{m} \\sum_{i} x_i
    s = sqrt(v + eps)   s = \\sqrt{v + \\varepsilon}
    x_hat_bar += y_bar * gamma   \\bar{\\hat{x}}_i \\mathrel{+}= \\bar{y}_i \\gamma
    """
    return _Lines(derivation).all({**derivation.rules, **(rules or {})})


def latex(derivation: Derivation) -> str:
    """The derivation as a LaTeX fragment, which needs the package amsmath."""
    found, names = lines(derivation), _names(derivation)
    wanted = {part: [line for line in found if line.part == part] for part in PARTS}
    out = [rf"\section*{{{_escaped(derivation.title or derivation.name)}}}", _prose(_title(derivation), names)]
    for part, heading in PARTS.items():
        if not wanted[part]:
            continue
        out += ["", rf"\subsection*{{{heading}}}", _prose(_introduction(derivation, part), names)]
        if part != "edge":
            out.append(_aligned(wanted[part], names))
            continue
        for step in reversed(derivation.steps):
            backward = [line for line in wanted[part] if line.name.startswith(f"{step.name} -> ")]
            if backward:
                forward = next(line for line in wanted["forward"] if line.name == step.name)
                note = f": {_prose(step.note, names)}" if step.note else ""
                out += [f"From ${forward.latex}${note}.", _aligned(backward, names)]
    return "\n".join(out) + "\n"


def markdown(derivation: Derivation, check: Check | None = None) -> str:
    """The derivation as Markdown: a table for each part, with a `Check` one column for each judge."""
    names, found = _names(derivation), lines(derivation, None if check is None else check.rules)
    out = [_prose(_title(derivation), names, str), ""]
    for part, heading in PARTS.items():
        chosen = [line for line in found if line.part == part]
        if not chosen:
            continue
        judges = () if check is None or part == "forward" else tuple(JUDGES)
        columns = ["", "formula", *(("because",) if any(line.note for line in chosen) else ()), *judges]
        out += [f"**{heading}.** {_prose(_introduction(derivation, part), names, str)}", "", _row(columns), _row(["---"] * len(columns))]
        for line in chosen:
            cells = [f"`{line.name}`", rf"$\displaystyle {line.latex}$"]
            cells += [_prose(line.note, names, str)] if "because" in columns else []
            cells += [MARKS[verdict] for verdict in said(check, line)] if check is not None and judges else []
            out.append(_row(cells))
        out.append("")
    return "\n".join(out)


def said(check: Check, line: Line) -> list[str]:
    """What each judge says of a line; nothing where it was not asked."""
    found = {row.judge: row.verdict for row in check.rows if row.name == line.name}
    return [found.get(judge, "") for judge in JUDGES]


def plain(expression: Any) -> str:
    """An expression in letters that all can read: as Python, without ``np.`` and ``keepdims``.

    >>> print(plain(traced(lambda r_bar, c, axes: np.sum(r_bar * c, axis=axes, keepdims=True))))
    sum(r_bar * c, axes)
    """
    return ast.unparse(_Plain().visit(ast.parse(str(expression), mode="eval")))


def shapes(derivation: Derivation) -> dict[str, tuple[int | str, ...]]:
    """The shape of every node; an axis that follows the length m is called so."""
    small, large = (_drawn(derivation, length) for length in _LENGTHS)
    return {
        name: tuple(a if a == b else "m" for a, b in zip(np.shape(small[name]), np.shape(large[name]), strict=True))
        for name in (*derivation.leaves, *derivation.by_name)
    }


class _Plain(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return ast.Name(node.attr)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        along = [each.value for each in node.keywords if each.arg != "keepdims"]
        return ast.Call(node.func, [*node.args, *along], [])


class _Lines:
    """The formulas of one derivation, and what its names are like."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation, self.shapes = derivation, shapes(derivation)
        self.env = _drawn(derivation, _LENGTHS[0])
        within = {name for name, shape in self.shapes.items() if "m" in shape}
        first = next(iter(derivation.leaves))
        self.indexed = within | {f"{name}_bar" for name in within}
        self.indexed |= {letter for letter, like in (("g", derivation.output), ("u", first)) if like in within}

    def all(self, rules: Mapping[Edge, Rule]) -> tuple[Line, ...]:
        derivation, first = self.derivation, next(iter(self.derivation.leaves))
        found = [self.line("forward", each.name, each.name, _written(each.forward), note=each.note) for each in derivation.steps]
        for name, parent in derivation.edges:
            found.append(self.line("edge", f"{name} -> {parent}", f"{parent}_bar", _written(rules[name, parent])))
        for name, rule in derivation.closed_form.items():
            found.append(self.line("closed form", f"closed form of {name}", f"{name}_bar", *self.shortened(self.folded(rule))))
        for name, rule in derivation.double_backward.items():
            line = self.line("double backward", f"double backward: {name}", name, *self.shortened(self.folded(rule)))
            left = rf"\frac{{\partial}}{{\partial {line.left}}} \left\langle u, {symbol(f'{first}_bar')} \right\rangle"
            found.append(replace(line, left=left, text=f"d <u, {first}_bar> / d {line.text}"))
        return tuple(found)

    def line(self, part: str, name: str, left: str, right: Any, where: Mapping[str, Any] | None = None, note: str = "") -> Line:
        sign, relation = ("+=", r"\mathrel{+}=") if part == "edge" else ("=", "=")
        told = {letter: (self.latex(each, False), plain(each)) for letter, each in (where or {}).items()}
        text = f"{left} {sign} {plain(right)}" + "".join(f", {letter} = {short}" for letter, (_, short) in told.items())
        equations = tuple(f"{letter} = {formula}" for letter, (formula, _) in told.items())
        return Line(part, name, self.symbol(left), relation, self.latex(right, left in self.indexed), text, note, equations)

    def latex(self, expression: Any, free: bool) -> str:
        return latex_of(expression, self.indexed, self.over, free)

    def symbol(self, name: str) -> str:
        return symbol(name) + ("_i" if name in self.indexed else "")

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes of a slice."""
        return self.derivation.constants.get("axes") or tuple(k for k, size in enumerate(next(iter(self.shapes.values()))) if size == "m")

    def over(self, axis: Any) -> tuple[str, ...]:
        """What a sum along these axes runs over: i, the elements of a slice, and n, the slices. Axes of length 1 do not count."""
        shape = next(iter(self.shapes.values()))
        along = self.derivation.constants.get(str(axis)) if isinstance(axis, Expression) else axis
        along = range(len(shape)) if along is None else np.atleast_1d(along)
        summed = {int(k) % len(shape) for k in along if shape[k] != 1}
        sliced = {k % len(shape) for k in self.axes if shape[k] != 1}
        return ("n",) * bool(summed - sliced) + ("i",) * bool(summed & sliced)

    def folded(self, rule: Rule) -> Any:
        """A closed form in the words of the forward: what has the value of a node, at random numbers, is called by its name."""
        env, known = self.env, {name: self.env[name] for name in self.derivation.by_name}
        seen: dict[int, tuple[Any, Any]] = {}

        def fold(value: Any) -> tuple[Any, Any]:
            if not isinstance(value, Expression):
                return value, value
            if value.name is not None:
                return value, env[value.name]
            if id(value) not in seen:
                arguments = [fold(each) for each in value.arguments]
                params = {key: fold(each) for key, each in value.params.items()}
                number = value.function(*(n for _, n in arguments), **{key: n for key, (_, n) in params.items()})
                alike = (name for name, node in known.items() if np.shape(node) == np.shape(number) and np.allclose(node, number, 1e-9, 0))
                name = next(alike, None)
                seen[id(value)] = value.with_arguments(lambda each: fold(each)[0]) if name is None else Expression(name), number
            return seen[id(value)]

        expression = _written(rule)
        if isinstance(expression.function, _Opaque):
            return expression
        with np.errstate(all="ignore"):
            return fold(expression)[0]

    def shortened(self, expression: Any) -> tuple[Any, dict[str, Any]]:
        """The expression, and what letters stand in it for: sums over a slice that occur more than once."""
        occur = Counter(str(each) for each in _walk(expression) if each.function in (np.sum, np.mean) and "i" in self.over(axis_of(each)))
        letters = (letter for letter in "abkpqwAB" if letter not in _names(self.derivation))
        called: dict[str, str] = {}
        meaning: dict[str, Any] = {}

        def shorten(value: Any) -> Any:
            if not isinstance(value, Expression) or value.name is not None:
                return value
            text = str(value)
            if occur[text] < 2:
                return value.with_arguments(shorten)
            if text not in called:
                called[text] = letter = next(letters)
                meaning[letter] = value.with_arguments(shorten)
            return Expression(called[text])

        return shorten(expression), meaning


def _written(rule: Rule) -> Any:
    """What a rule does; of one that is no formula its name and what it reads, of one that is not written yet three dots."""
    try:
        made = traced(rule)
        return Expression("...") if made is None or made is ... else made
    except UnsupportedError:
        return Expression(_Opaque(rule.__name__.strip("<>")), tuple(map(Expression, reads(rule))))


@dataclass(frozen=True)
class _Opaque:
    __name__: str


def _walk(value: Any) -> Iterator[Expression]:
    """Every expression in an expression, as often as it occurs."""
    if isinstance(value, Expression):
        yield value
        for part in value.parts:
            yield from _walk(part)


def _drawn(derivation: Derivation, m: int) -> Mapping[str, Any]:
    """Every node at random leaves, with a cotangent g and a direction u."""
    with np.errstate(all="ignore"):
        point = Differences(derivation).point(m)
    return {**point.env, "g": point.g, "u": point.u}


def _names(derivation: Derivation) -> set[str]:
    return {*derivation.leaves, *derivation.by_name, *"gimnu"} - {"a"}  # the article


def given(derivation: Derivation) -> str:
    """The leaves with their shapes, and the constants, in a few words."""
    sizes = [f"{name} {shape_text(shape)}" if shape else f"{name} a number" for name, shape in derivation.leaves.items()]
    return f"with {', '.join(sizes + [f'{name} = {value}' for name, value in derivation.constants.items()])}"


def shape_text(shape: Iterable[int | str]) -> str:
    """The shape as Python writes a tuple, but with m for "m"."""
    return str(tuple(shape)).replace("'", "")


def _title(derivation: Derivation) -> str:
    return f"{derivation.title or derivation.name}, {given(derivation)}."


def _introduction(derivation: Derivation, part: str) -> str:
    first = next(iter(derivation.leaves))
    return {
        "forward": "i counts the elements of a slice, n the slices, which names do not show.",
        "edge": "Every step gives each of its parents a contribution, and these add up to the parent's adjoint.",
        "closed form": f"With g, the adjoint of {derivation.output}, the contributions come to",
        "double backward": f"The gradients of the product of a direction u with the gradient of {first}:",
    }[part]


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def _prose(text: str, names: Collection[str], escaped: Callable[[str], str] = _escaped) -> str:
    """A sentence in which the names of nodes are set as mathematics."""
    parts = re.split(r"(?<!')\b(\w+)", text)  # the s of "parent's" is no name
    return "".join(f"${symbol(part)}$" if part in names else escaped(part) for part in parts)


def _aligned(chosen: Collection[Line], names: Collection[str]) -> str:
    rows = []
    for line in chosen:
        note = rf" && \text{{{_prose(line.note, names)}}}" if line.note else ""
        rows.append(f"  {line.left} &{line.relation} {line.right}{note}")
        rows += [f"  {equation.replace('=', '&=', 1)}" for equation in line.where]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(rows), r"\end{align*}"])


def _row(cells: Collection[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
