"""Random slips in the source of a backward function, by the generic grammar of mutation testing.

The grammar knows expressions and statements and nothing of normalisation or its derivatives, so that what it makes can test a diagnosis
blindly. A *site* is one place with one kind of slip; sites are drawn uniformly, then one of the site's alternatives.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

Sample = tuple[Any, ...]  # x, gamma, beta, eps, dy, and groups where the function takes them
IMAGES = ((3, 4, 5, 7), (2, 6, 3, 4), (5, 2, 4, 3))
MATRICES = ((9, 5), (4, 7), (6, 3))
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div)
REDUCTIONS = {"sum": "mean", "mean": "sum", "var": "std", "std": "var"}
PREFERENCE = 4  # how many times as likely a variable of the same shape is taken for another
PATIENCE = 3000  # draws in a row without a new mutant, after which there are no more


class Mutant(NamedTuple):
    """A source with slips, what they are, and whether it is *equivalent*: gives the right answer all the same."""

    source: str
    what: str
    equivalent: bool


class Site(NamedTuple):
    """A place for a slip: the statement (or header of a compound one) it lies in, the node, the kind, and what may stand there wrongly."""

    unit: ast.AST
    node: ast.AST
    kind: str
    alternatives: list[ast.AST]


def mutants(source: str, count: int, slips: int, seed: int) -> list[Mutant]:
    """Up to ``count`` usable mutants, all different, with this number of slips at places apart from each other.

    Fewer come back only where no more were found. ``source`` must be right: its answers say which mutants are equivalent.
    """
    rng = random.Random(seed)
    given = samples(source)
    right = [answer(source, sample) for sample in given]
    places = list(sites(source, given[0]))
    found: list[Mutant] = []
    tried, seen, idle = set(), {source}, 0
    while len(found) < count and idle < PATIENCE:
        idle += 1
        chosen = sorted((k, rng.randrange(len(places[k].alternatives))) for k in rng.sample(range(len(places)), slips))
        if tuple(chosen) in tried:
            continue
        tried.add(tuple(chosen))
        edits = [(places[k], places[k].alternatives[i]) for k, i in chosen]
        if any(_within(a.node, b.node) for (a, _), (b, _) in itertools.permutations(edits, 2)):
            continue
        text = _edited(source, edits)
        if text in seen or not usable(text, given[0]):
            continue
        seen.add(text)
        equivalent = all(agree(answer(text, sample), expected) for sample, expected in zip(given, right, strict=True))
        found.append(Mutant(text, "; ".join(_described(*edit) for edit in edits), equivalent))
        idle = 0
    return found


# -- running ---------------------------------------------------------------------------------------------------------------------------


def compiled(source: str) -> Callable[..., Any]:
    """The function ``backward`` of this source, which may use ``np``."""
    scope: dict[str, Any] = {"np": np}
    with warnings.catch_warnings(action="ignore"):  # such as the SyntaxWarning of 2(x)
        exec(compile(source, "<backward>", "exec"), scope)
    return scope["backward"]


def answer(source: str, sample: Sample) -> tuple[np.ndarray, ...] | None:
    """(dx, dgamma, dbeta) as finite real arrays, dx in the shape of x; None where the source fails to give that."""
    try:
        function = compiled(source)
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):  # wrong code may well divide by 0
            dx, dgamma, dbeta = function(*(value.copy() if isinstance(value, np.ndarray) else value for value in sample))
            parts = np.asarray(dx), np.asarray(dgamma), np.asarray(dbeta)
    except Exception:  # whatever wrong code may raise
        return None
    fit = parts[0].shape == sample[0].shape and all(part.dtype.kind in "fiu" and np.isfinite(part).all() for part in parts)
    return parts if fit else None


def usable(source: str, sample: Sample) -> bool:
    """Whether the source compiles and runs on the sample, and gives finite real arrays with dx in the shape of x."""
    return answer(source, sample) is not None


def agree(one: tuple[np.ndarray, ...] | None, other: tuple[np.ndarray, ...] | None, rtol: float = 1e-9) -> bool:
    """Whether two answers are equal in every shape, and in every array within ``rtol`` of its largest element."""
    if one is None or other is None:
        return False
    return all(a.shape == b.shape and np.max(np.abs(a - b)) <= rtol * np.max(np.abs(b)) for a, b in zip(one, other, strict=True))


def samples(source: str) -> list[Sample]:
    """Random inputs of several shapes: images (N, C, H, W) where the source takes them, with groups if it asks for them, else (N, D)."""
    takes_groups = "groups" in inspect.signature(compiled(source)).parameters
    for shapes in (IMAGES, MATRICES):
        given = [_sample(shape, takes_groups) for shape in shapes]
        if usable(source, given[0]):
            return given
    raise ValueError(f"the source runs neither on images (N, C, H, W) nor on matrices (N, D):\n{source}")


def _sample(shape: tuple[int, ...], takes_groups: bool) -> Sample:
    """Slices with scales and offsets of their own, weights of both signs, and eps comparable with the variances."""
    rng = np.random.default_rng(shape)
    own = (*shape[:2], *(1,) * (len(shape) - 2)) if len(shape) > 2 else (1, shape[1])
    x = rng.normal(size=shape) * rng.uniform(0.5, 2, own) + rng.uniform(-2, 2, own)
    gamma, beta = rng.uniform(0.5, 2, (2, shape[1]))
    gamma[::2] *= -1
    return x, gamma, beta, float(rng.uniform(0.3, 0.9)), rng.normal(size=shape), *((shape[1] // 2,) if takes_groups else ())


# -- the grammar -----------------------------------------------------------------------------------------------------------------------


def sites(source: str, sample: Sample) -> Iterator[Site]:
    """Every place for a slip, in the order of the source."""
    shapes = _shapes(source, sample)
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            known = [argument.arg for argument in function.args.args]
            for unit in _units(function.body):
                for node in ast.walk(unit):
                    for place, kind, alternatives in _slips(node, known, shapes):
                        others = [other for other in alternatives if ast.dump(other) != ast.dump(place)]
                        if others:
                            yield Site(unit, place, kind, others)
                stored = (node.id for node in ast.walk(unit) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
                known += [name for name in dict.fromkeys(stored) if name not in known]


def _units(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Simple statements, and the expressions in the headers of compound ones; inner functions are looked at for themselves."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef):
            continue
        if not hasattr(statement, "body"):
            yield statement
            continue
        yield from (child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr))
        yield from _units(statement.body + getattr(statement, "orelse", []))


def _slips(node: ast.AST, known: list[str], shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[ast.AST, str, list[ast.AST]]]:
    """Where in or at this node a slip may happen, its kind, and what it leaves there."""
    match node:
        case ast.BinOp(left, op, right):
            yield node, "operator exchanged", [ast.BinOp(left, other(), right) for other in _other_operators(op, right)]
            yield node, "operand dropped", [left, right, *([_minus(right)] if isinstance(op, ast.Sub) else [])]
            yield left, "minus added", [_minus(left)]
            yield right, "minus added", [_minus(right)]
            if not isinstance(op, (ast.Add, ast.Mult)):
                yield node, "operands exchanged", [ast.BinOp(right, op, left)]
        case ast.UnaryOp(ast.USub(), operand):
            yield node, "minus dropped", [operand]
        case ast.Constant(bool(value)):
            yield node, "constant changed", [ast.Constant(not value)]
        case ast.Constant(int(value) | float(value)):
            yield node, "constant changed", _other_numbers(value)
        case ast.Tuple(elements, ast.Load()) if all(map(_literal, elements)):
            shorter = [ast.Tuple(elements[:k] + elements[k + 1 :], ast.Load()) for k in range(len(elements))]
            longer = [ast.Tuple([*elements, ast.Constant(axis)], ast.Load()) for axis in range(4)]
            yield node, "tuple changed", [*shorter, *longer]
        case ast.Call(function, arguments, keywords):
            if isinstance(function, ast.Attribute) and function.attr in REDUCTIONS:
                other = ast.Attribute(function.value, REDUCTIONS[function.attr], ast.Load())
                yield node, "reduction exchanged", [ast.Call(other, arguments, keywords)]
            yield node, "call removed", _operands(node)
            if keywords:
                fewer = [keywords[:k] + keywords[k + 1 :] for k in range(len(keywords))]
                yield node, "keyword left out", [ast.Call(function, arguments, rest) for rest in fewer]
            yield node, "arguments exchanged", [ast.Call(function, swapped, keywords) for swapped in _exchanged(arguments)]
        case ast.Name(name, ast.Load()) if name in known:
            yield node, "variable exchanged", _other_variables(name, known, shapes)
        case ast.Assign([ast.Name(name)], value):
            yield value, "minus added", [_minus(value)]
            yield value, "variable instead", _other_variables(name, known, shapes)
        case ast.AugAssign(target, op, value):
            yield node, "operator exchanged", [ast.AugAssign(target, other(), value) for other in _other_operators(op, value)]
            # "pass" and not nothing: it may be the only statement of a loop
            yield node, "statement deleted", [ast.Pass()]
            yield node, "overwritten", [ast.Assign([target], value, lineno=node.lineno)]
        case ast.Return(ast.Tuple(elements)):
            yield node, "results exchanged", [ast.Return(ast.Tuple(swapped, ast.Load())) for swapped in _exchanged(elements)]
            for element in elements:
                yield element, "minus added", [_minus(element)]


def _minus(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), node)


def _number(value: float) -> ast.expr:
    return ast.Constant(value) if value >= 0 else _minus(ast.Constant(-value))  # as the parser has it, which sets parentheses right


def _literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))


def _other_operators(op: ast.operator, right: ast.expr) -> list[type[ast.operator]]:
    """``**`` comes in only before a number: a power of two integer variables may be too large to compute."""
    if isinstance(op, ast.Pow):
        return [ast.Mult, ast.Div]
    return [other for other in OPERATORS if other is not type(op)] + [ast.Pow] * (isinstance(op, ast.Mult) and _literal(right))


def _other_numbers(value: float) -> list[ast.AST]:
    others = dict.fromkeys(other for other in (value + 1, value - 1, 2 * value, value / 2, 0, 1) if other != value)
    return [_number(int(other) if isinstance(value, int) and other == int(other) else other) for other in others]


def _other_variables(name: str, known: list[str], shapes: dict[str, tuple[int, ...]]) -> list[ast.AST]:
    others = [other for other in known if other != name]
    return [ast.Name(other, ast.Load()) for other in others for _ in range(PREFERENCE if shapes.get(other) == shapes.get(name) else 1)]


def _operands(call: ast.Call) -> list[ast.AST]:
    """What a call was applied to: a method's object, else the arguments."""
    if isinstance(call.func, ast.Attribute) and not (isinstance(call.func.value, ast.Name) and call.func.value.id == "np"):
        return [call.func.value]
    return [argument for argument in call.args if not isinstance(argument, ast.Constant)]


def _exchanged(nodes: list[ast.expr]) -> Iterator[list[ast.expr]]:
    for i, j in itertools.combinations(range(len(nodes)), 2):
        swapped = list(nodes)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        yield swapped


def _shapes(source: str, sample: Sample) -> dict[str, tuple[int, ...]]:
    """The shapes that the variables of ``backward`` have at its end, of arrays and numbers."""
    tree = ast.parse(source)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "backward")
    for statement in function.body:
        if isinstance(statement, ast.Return):
            statement.value = ast.parse("locals()", mode="eval").body
    variables = compiled(ast.unparse(tree))(*sample)
    return {name: np.shape(value) for name, value in variables.items() if isinstance(value, (np.ndarray, int, float))}


# -- writing ---------------------------------------------------------------------------------------------------------------------------


def _within(inner: ast.AST, outer: ast.AST) -> bool:
    return any(node is inner for node in ast.walk(outer))


def _edited(source: str, edits: list[tuple[Site, ast.AST]]) -> str:
    """The source with the statements of the edits written anew, and all the rest as it was, comments too."""
    text = source.encode()  # the columns of a syntax tree count bytes
    starts = list(itertools.accumulate((len(line) for line in text.splitlines(keepends=True)), initial=0))
    changes = {id(site.node): new for site, new in edits}
    units = {id(site.unit): site.unit for site, _ in edits}.values()
    for unit in sorted(units, key=lambda unit: (unit.lineno, unit.col_offset), reverse=True):
        first, last = starts[unit.lineno - 1] + unit.col_offset, starts[unit.end_lineno - 1] + unit.end_col_offset
        text = text[:first] + ast.unparse(_with(unit, changes)).encode() + text[last:]
    return text.decode()


def _with(part: Any, changes: dict[int, ast.AST]) -> Any:
    """A syntax tree with some nodes exchanged, the given one left as it is."""
    if id(part) in changes:
        return changes[id(part)]
    if isinstance(part, list):
        return [_with(child, changes) for child in part]
    if not isinstance(part, ast.AST):
        return part
    copy = type(part)(**{name: _with(value, changes) for name, value in ast.iter_fields(part)})
    return ast.copy_location(copy, part)


def _described(site: Site, new: ast.AST) -> str:
    return f"line {site.node.lineno}: {ast.unparse(site.node)} -> {ast.unparse(new)} ({site.kind})"
