"""Mutation testing: does a test suite notice when the code is wrong?

Tests that pass prove nothing unless they would fail for wrong code. So we make the code wrong on purpose, in many small ways, one at a
time, and run the tests on every such *mutant*. A mutant is *killed* when some test fails, by whatever error. One that *survives* shows a
hole in the tests, unless it is *equivalent*: other code for the same function, which no test can tell apart.

Here are the two ways to make mutants. `rule_mutants` changes the syntax tree of every derivative rule systematically. `edited` plants
one change of the text of a module, which a person has thought out. `judge` runs the tests.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import fake_cupy
import numpy as np
import pytest

from minitensor.primitive import Primitive

SCORES: dict[tuple[str, str], tuple[int, int, int]] = {}  # by module and function: mutants made, killed, and proved equivalent


Function = ast.Lambda | ast.FunctionDef


class Mutant(NamedTuple):
    """A fault, and how to plant it for the time of a test."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], object]


class Trial(NamedTuple):
    """One test of the project, ready to be called."""

    name: str
    run: Callable[[], object]


def judge(mutant: Mutant, trials: list[Trial]) -> str | None:
    """The first trial that fails while ``mutant`` is planted, or None: it survives. The killer moves to the front of ``trials``, because
    what has killed one mutant is likely to kill the next.
    """
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(patch)
        for i, trial in enumerate(trials):
            try:
                trial.run()
            except (Exception, pytest.fail.Exception):  # the latter is what pytest.raises raises when nothing was raised
                trials.insert(0, trials.pop(i))
                return trial.name
    return None


def trials_of(*tests: Callable[..., Any]) -> Iterator[Trial]:
    """Every call of these test functions that pytest would make: one for each row of their ``parametrize`` marks."""
    for test in tests:
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for rows in itertools.product(*(list(mark.args[1]) for mark in marks)):
            given: dict[str, Any] = {}
            for mark, row in zip(marks, rows, strict=True):
                names = [name.strip() for name in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
                given |= dict(zip(names, [row] if len(names) == 1 else row, strict=True))
            yield Trial(f"{test.__name__}{[*given.values()]}", lambda test=test, given=given: test(**given))


def checks_in(module: ModuleType, *without: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The test functions of a module that ask for no fixture, but for those ``without``."""
    tests = [value for name, value in vars(module).items() if name.startswith("test_") and value not in without]
    return [test for test in tests if set(inspect.signature(test).parameters) <= _parametrized(test)]


def _parametrized(test: Callable[..., Any]) -> set[str]:
    marks = [mark.args[0] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return {name.strip() for names in marks for name in (names.split(",") if isinstance(names, str) else names)}


def on_the_stand_in(test: Callable[..., None]) -> Callable[..., None]:
    """A test with its fixture ``cupy``."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "cupy", fake_cupy)
            test(**given, cupy=fake_cupy)

    return run


# -- faults in the rules, made systematically -----------------------------------------------------------------------------------------

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}
PAIRS = [("a", "b"), ("x", "y"), ("lo", "hi"), ("low", "high"), ("left", "right"), ("axis1", "axis2"), ("source", "target"), ("i", "j")]
PAIRS += [("source", "destination"), ("rows", "columns"), ("m", "n"), ("reduced", "last"), ("axis", "offset")]
FUNCTIONS = [("sin", "cos"), ("sinh", "cosh"), ("maximum", "minimum"), ("tril", "triu"), ("zeros_like", "ones_like")]
COMMUTATIVE = ("max", "min", "maximum", "minimum", "swapaxes")  # in their arguments
CONVERSIONS = ("list", "tuple", "int", "as_array")
MODULES = ("np", "math", "arrays", "operator")


def _partners(pairs: list[tuple[str, str]], name: str, known: Iterable[str]) -> Iterator[str]:
    """What ``name`` may be taken for. An underscore says that a value is not read; wrong code would read it."""
    bare = {other.lstrip("_"): other for other in known}
    for pair in pairs:
        if name.lstrip("_") in pair:
            other = pair[1 - pair.index(name.lstrip("_"))]
            if other in bare:
                yield bare[other]


def _wrong(node: ast.AST, known: Iterable[str]) -> Iterator[ast.expr]:
    """Expressions to stand wrongly in the place of ``node``; ``known`` are the arguments and variables of the function."""
    match node:
        case ast.BinOp(ast.Name("g"), ast.Mult(), ast.Constant(0)):
            yield node.left
        case ast.BinOp(left, op, right):
            yield left
            if isinstance(op, ast.Sub):
                yield ast.UnaryOp(ast.USub(), right)
            elif not isinstance(op, (ast.Pow, ast.Mod, ast.Div, ast.FloorDiv)):
                yield right
            if isinstance(op, (ast.MatMult, ast.Div, ast.Pow)):
                yield ast.BinOp(right, op, left)
            if type(op) in OPERATORS:
                yield ast.BinOp(left, OPERATORS[type(op)](), right)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield operand
        case ast.Compare(left, [op], [right]):
            for other in COMPARISONS[type(op)]:
                yield ast.Compare(left, [other()], [right])
        case ast.BoolOp(_, values):
            yield from values
        case ast.IfExp(_, body, orelse):
            yield body
            yield orelse
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Name(name):
            yield from (ast.Name(other, ast.Load()) for other in _partners(PAIRS, name, known))
        case ast.Attribute(ast.Name("np" | "math") as module, name):
            yield from (ast.Attribute(module, other, ast.Load()) for other in _partners(FUNCTIONS, name, (*np.__all__,)))
        case ast.Call(function, arguments, keywords):
            called = ast.unparse(function)
            if isinstance(function, ast.Attribute) and not (isinstance(function.value, ast.Name) and function.value.id in MODULES):
                yield function.value  # x.reshape(...) -> x
            elif arguments and not isinstance(arguments[0], ast.Starred) and called not in CONVERSIONS:
                yield arguments[0]  # np.sign(x) -> x
            if len(arguments) > 1 and called.split(".")[-1] not in COMMUTATIVE:
                yield ast.Call(function, [*arguments[:-2], arguments[-1], arguments[-2]], keywords)
            for i, keyword in enumerate(keywords):
                if keyword.arg != "strict":  # that is an assertion
                    yield ast.Call(function, arguments, keywords[:i] + keywords[i + 1 :])
        case ast.Subscript(value):
            yield value
        case ast.Slice(lower, upper, step):
            if lower:
                yield ast.Slice(None, upper, step)
            if upper:
                yield ast.Slice(lower, None, step)
        case ast.Tuple([first, second]):
            yield ast.Tuple([second, first], ast.Load())


def _places(node: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    """The parts of a function that may be mutated: not its annotations, error messages and docstring, nor defaults that nothing reads."""
    if isinstance(node, (ast.Raise, ast.JoinedStr)) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return
    yield node
    if ast.unparse(node) in ("g * 0", "-1"):  # 0 has many other spellings; and of -1, the sign is enough
        return
    for field, value in ast.iter_fields(node):
        parts = value if isinstance(value, list) else [value]
        if field in ("annotation", "returns", "decorator_list", "ctx"):
            continue
        if isinstance(node, ast.arguments) and field == "defaults":
            owners = [*node.posonlyargs, *node.args][-len(parts) :] if parts else []
            parts = [
                default for owner, default in zip(owners, parts, strict=True) if owner.arg in names and isinstance(default, ast.Constant)
            ]
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)) and field == "comparators":
            continue  # a set has no order
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (field == "func" or node.func.id == "isinstance"):
            continue
        for part in parts:
            if isinstance(part, ast.AST):
                yield from _places(part, names)


def _mutated(tree: Function, is_rule: bool) -> Iterator[tuple[str, Function]]:
    """Every mutant of a function, under the name of the line that it changes."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    known = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    known |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    results = [tree.body] if isinstance(tree, ast.Lambda) else [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value]
    changes: list[tuple[ast.AST, ast.AST]] = []
    for place in _places(tree, read):
        if not isinstance(getattr(place, "ctx", None), ast.Store):
            changes += [(place, wrong) for wrong in _wrong(place, known)]
    for result in results if is_rule else ():
        if not isinstance(result, (ast.List, ast.ListComp, ast.Tuple)):
            changes += [(result, ast.parse(text, mode="eval").body) for text in ("g", "g * 0")]
            if ast.unparse(result) != "g * 0":  # 0 has no sign
                changes.append((result, ast.UnaryOp(ast.USub(), result)))
    whole = ast.unparse(tree)
    seen, count = {whole}, Counter[str]()
    for place, wrong in changes:
        mutant = ast.fix_missing_locations(copy.deepcopy(tree, {id(place): copy.deepcopy(wrong)}))
        text = ast.unparse(mutant)
        if text in seen:
            continue
        seen.add(text)
        (line,) = [new.strip().replace('"', "'") for old, new in zip(whole.splitlines(), text.splitlines(), strict=True) if new != old]
        count[line] += 1
        yield line + (f"  # {count[line]}" if count[line] > 1 else ""), mutant


class Subject:
    """A function that rules are made of: a rule, or a helper of the same module that rules call."""

    def __init__(self, name: str, function: FunctionType, is_rule: bool) -> None:
        self.name, self.function, self.is_rule = name, function, is_rule
        self.users: list[Primitive] = []

    def mutants(self) -> Iterator[Mutant]:
        """Every mutant of the function."""
        for name, tree in _mutated(tree_of(self.function), self.is_rule):
            yield self.mutant(name, tree)

    def mutant(self, name: str, tree: Function) -> Mutant:
        """The function with another syntax tree, in the rules that use it and nowhere else."""
        made = _made(tree, self.function)

        def plant(patch: pytest.MonkeyPatch) -> None:
            for user in self.users:
                plant_rules(patch, user, [rule and _rebuilt(rule, self.function, made) for rule in user.rules])
                for vjp in _own_vjp(user):
                    patch.setattr(type(user), "vjp", _rebuilt(vjp, self.function, made))

        return Mutant(name, plant)


EVERYTHING = (2 << 64) - 1  # the bits in `Primitive.reads` of an output and of 64 inputs


def plant_rules(patch: pytest.MonkeyPatch, user: Primitive, rules: Iterable[Any]) -> None:
    """Give a primitive other rules. It keeps all inputs and outputs, so that no mutant dies merely of reading what was not kept."""
    patch.setattr(user, "rules", tuple(rules))
    patch.setattr(user, "reads", [EVERYTHING] * user.arity)
    patch.setattr(user, "reads_of", lambda i: EVERYTHING)
    patch.setattr(user, "_name_no_input", False)


def subjects(primitives: Iterable[Primitive]) -> list[Subject]:
    """All rules of the primitives and the helpers of these rules, each once, with the primitives that use it."""
    found: dict[FunctionType, Subject] = {}
    for primitive in primitives:
        for i, rule in enumerate([*primitive.rules, *_own_vjp(primitive)]):
            for function in [rule, *helpers(rule)] if rule else []:
                if function.__name__ == "vjp":
                    continue
                if function not in found:
                    name = f"{primitive.name}[{i}]" if function.__name__ == "<lambda>" else function.__name__
                    found[function] = Subject(name, function, function is rule)
                if primitive not in found[function].users:
                    found[function].users.append(primitive)
                found[function].is_rule |= function is rule
    return [*found.values()]


def _own_vjp(primitive: Primitive) -> list[FunctionType]:
    """How a primitive of a kind of its own applies its rules."""
    vjp = type(primitive).vjp
    return [vjp] if vjp.__module__ != Primitive.__module__ else []


def swapped(primitive: Primitive) -> Iterator[Mutant]:
    """The primitive with the rules of two inputs exchanged, where these differ."""
    for i, j in itertools.combinations(range(len(primitive.rules)), 2):
        rules = list(primitive.rules)
        if rules[i] and rules[j] and ast.unparse(tree_of(rules[i])) != ast.unparse(tree_of(rules[j])):
            rules[i], rules[j] = rules[j], rules[i]
            yield Mutant(f"{primitive.name}: rules {i} and {j} exchanged", lambda patch, rules=rules: plant_rules(patch, primitive, rules))


def helpers(function: FunctionType) -> list[FunctionType]:
    """The plain functions of the same module that ``function`` calls, and those that they call."""
    found: list[FunctionType] = []
    stack = [function]
    while stack:
        caller = stack.pop()
        for name in _names(caller.__code__):
            value = caller.__globals__.get(name)
            if isinstance(value, FunctionType) and value.__module__ == function.__module__ and value not in [function, *found]:
                found.append(value)
                stack.append(value)
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@functools.cache
def _nodes(module: str) -> list[ast.AST]:
    return [*ast.walk(ast.parse(inspect.getsource(sys.modules[module])))]


def tree_of(function: FunctionType) -> Function:
    """The syntax tree of a function. A lambda has no name, but its code knows the line and the column where its expression begins."""
    nodes, code = _nodes(function.__module__), function.__code__
    if function.__name__ != "<lambda>":
        return next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == function.__name__)
    begin = min((line, column) for line, _, column, end in code.co_positions() if end)  # the rest is about the whole
    return next(node for node in nodes if isinstance(node, ast.Lambda) and (node.body.lineno, node.body.col_offset) == begin)


def _made(tree: Function, like: FunctionType) -> FunctionType:
    """The function that a syntax tree describes, at home where ``like`` is."""
    world, file = dict(like.__globals__), like.__code__.co_filename
    if isinstance(tree, ast.Lambda):
        return eval(compile(ast.Expression(tree), file, "eval"), world)
    exec(compile(ast.Module([tree], []), file, "exec"), world)
    return world[tree.name]


def _rebuilt(rule: FunctionType, function: FunctionType, made: FunctionType) -> FunctionType:
    """``rule`` with ``made`` in the place of ``function`` wherever it is called from here; the module itself stays as it is."""
    world = dict(rule.__globals__)

    def moved(part: FunctionType) -> FunctionType:
        part = made if part is function else part
        new = FunctionType(part.__code__, world, part.__name__, part.__defaults__, part.__closure__)
        new.__kwdefaults__ = part.__kwdefaults__
        return new

    world |= {part.__name__: _shallow(moved(part)) for part in helpers(rule)}
    return moved(rule)


def _shallow(function: FunctionType, limit: int = 20) -> Callable[..., Any]:
    """A wrong recursion may go on for ever, with arrays that grow and grow: it ends early."""
    depth = 0

    def call(*args: Any, **params: Any) -> Any:
        nonlocal depth
        if depth == limit:
            raise RecursionError
        depth += 1
        try:
            return function(*args, **params)
        finally:
            depth -= 1

    return call


# -- faults that a person thought out ---------------------------------------------------------------------------------------------------


def edited(module: ModuleType, name: str, old: str, new: str) -> Mutant:
    """The module with ``new`` in the place of ``old``, a text that occurs once in it.

    Others hold references to its functions, so the functions stay and get the code that the edited text compiles to.
    """
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{name}: {source.count(old)} places in {module.__name__} read\n{old}"
    file = str(module.__file__)
    before, after = (dict(_codes(compile(text, file, "exec"))) for text in (source, source.replace(old, new)))
    assert before.keys() == after.keys(), name
    changed = [path for path in before if before[path].co_code != after[path].co_code or _plain(before[path]) != _plain(after[path])]
    assert changed, f"{name}: nothing changes"

    def plant(patch: pytest.MonkeyPatch) -> None:
        for path in changed:
            function = functools.reduce(lambda part, key: inspect.getattr_static(part, key), path.split("."), module)
            patch.setattr(function, "__code__", after[path])

    return Mutant(name, plant)


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """The functions of a module and the methods of its classes, by their qualified names."""
    for part in code.co_consts:
        if isinstance(part, CodeType) and "<" not in part.co_qualname:
            if part.co_flags & inspect.CO_OPTIMIZED:
                yield part.co_qualname, part
            else:  # the body of a class
                yield from _codes(part)


def _plain(code: CodeType) -> Any:
    """What code refers to, without its lines and columns."""
    constants = [_plain(part) if isinstance(part, CodeType) else part for part in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, repr(constants)
