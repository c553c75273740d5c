"""The table of derivatives is proved: by sympy from the function, by NumPy from the primitive, also at kinks; and a wrong rule is found."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import CASES

import minitensor as mt
from minitensor import ops
from minitensor.errors import UnsupportedError
from minitensor.primitive import ListPrimitive, Primitive
from minitensor.tensor import DISPATCH

sympy = pytest.importorskip("sympy", reason="formulas need the extra report")
from minitensor.drawing import formulas  # noqa: E402
from minitensor.drawing.formulas import SymbolicRules, derivative_table, family, formula, primitives, symbolic_rules  # noqa: E402
from minitensor.drawing.symbols import G, Symbolic, Y, tidied, to_latex  # noqa: E402

PRIMITIVES = primitives()
ELEMENTWISE = [primitive for primitive in PRIMITIVES if family(primitive) == "elementwise"]
named = {"ids": lambda primitive: primitive.name}
# What sympy's own names mean in NumPy; the derivative of a jump is 0 wherever it can be asked for
NAMES = [{"rint": np.rint, "round": np.round, "DiracDelta": np.zeros_like, "Heaviside": np.heaviside}, "numpy", "math"]
KINKS = (sympy.Piecewise, sympy.Max, sympy.Min, sympy.Heaviside, sympy.DiracDelta)
POINTS = 200

rules_of, table_of_all = cache(symbolic_rules), cache(derivative_table)


def numbers(expression: Any, symbols: Any, values: Any) -> np.ndarray:
    """The expression at each of the points."""
    if expression.has(sympy.erf):
        expression = expression.replace(sympy.erf, sympy.Function("vectorised_erf"))
    function = sympy.lambdify(symbols, expression, [{"vectorised_erf": mt.erf}, *NAMES])
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(function(*values), float), values[0].shape)


def points(rules: SymbolicRules, grid: bool = False) -> list[np.ndarray]:
    """Random points, or every combination of a few whole and half numbers: zeros, ties, bounds that cross."""
    conditions = [not x.is_real for x in rules.inputs]
    if grid:
        sides = [[False, True] if condition else [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0] for condition in conditions]
        return [np.array(column) for column in zip(*itertools.product(*sides), strict=True)]
    rng = np.random.default_rng(3)
    return [rng.random(POINTS) < 0.5 if condition else rng.uniform(-2.5, 2.5, POINTS) for condition in conditions]


def values_of(primitive: Primitive, rules: SymbolicRules, at: list[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(primitive.function(*at, **params(primitive)), float)


def params(primitive: Primitive) -> dict[str, Any]:
    given = {"source": "cpu", "target": "cpu", "dtype": np.float64}
    return {name: given[name] for name in primitive.params if name in given}


def prove(primitive: Primitive, rules: SymbolicRules) -> bool:
    """Compare the rules with sympy.diff of the function; True where sympy proves it for all points, not only at random ones."""
    proved = True
    for x, cotangent in zip(rules.inputs, rules.cotangents, strict=True):
        if cotangent is None:
            continue
        found, expected = cotangent.xreplace({Y: rules.function}), G * sympy.diff(rules.function, x)
        if expected.has(sympy.Derivative):  # a step: sympy knows no derivative, but the function is constant
            assert cotangent == 0
            proved = False
            continue
        at = points(rules)
        u = np.random.default_rng(4).standard_normal(POINTS)
        ours, theirs = (numbers(expression, [G, *rules.inputs], [u, *at]) for expression in (found, expected))
        inside = np.isfinite(theirs) & np.isfinite(values_of(primitive, rules, at))
        assert inside.sum() >= POINTS / 4, "too few points where the function is defined"
        np.testing.assert_allclose(ours[inside], theirs[inside], rtol=1e-12, atol=1e-14, err_msg=f"{primitive.name}, input {x}")
        proved &= found == expected or (not (found - expected).has(*KINKS) and sympy.simplify(found - expected) == 0)
    return proved


NOT_PROVED = {"maximum", "minimum", "clip", "where", "power", "sign", "floor", "ceil", "trunc", "rint", "round"}


@pytest.mark.parametrize("primitive", ELEMENTWISE, **named)
def test_the_rule_on_symbols_is_the_derivative_by_sympy(primitive: Primitive) -> None:
    """At random points for all, and as an identity for all that have no cases."""
    assert prove(primitive, rules_of(primitive)) == (primitive.name not in NOT_PROVED)


@pytest.mark.parametrize("primitive", ELEMENTWISE, **named)
def test_the_function_on_symbols_is_the_function(primitive: Primitive) -> None:
    rules = rules_of(primitive)
    for at in (points(rules), points(rules, grid=True)):
        expected = values_of(primitive, rules, at)
        inside = np.isfinite(expected)
        assert inside.sum() >= len(inside) / 4
        np.testing.assert_allclose(numbers(rules.function, rules.inputs, at)[inside], expected[inside], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("primitive", ELEMENTWISE, **named)
def test_the_formula_is_what_the_rule_does_on_arrays(primitive: Primitive) -> None:
    """Between kinks and on them: the cases of the table are those of the rule."""
    rules = rules_of(primitive)
    for at in (points(rules), points(rules, grid=True)):
        y = values_of(primitive, rules, at)
        g = np.random.default_rng(4).standard_normal(y.shape)
        for rule, cotangent in zip(primitive.rules, rules.cotangents, strict=True):
            if rule is None:
                continue
            with np.errstate(all="ignore"):
                expected = np.broadcast_to(np.asarray(rule(g, y, *at, **params(primitive)), float), y.shape)
            inside = np.isfinite(expected) & np.isfinite(y)
            assert inside.sum() >= len(inside) / 4
            found = numbers(cotangent, [G, Y, *rules.inputs], [g, y, *at])
            np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("primitive", [ops.sign, ops.floor, ops.ceil, ops.trunc, ops.rint, ops.round], **named)
def test_a_step_is_constant_between_its_jumps(primitive: Primitive) -> None:
    """Which is what sympy does not know."""
    (x,) = points(rules_of(primitive))
    np.testing.assert_array_equal(primitive(x + 1e-9), primitive(x - 1e-9))


WRONG = {
    "the wrong sign": Primitive(np.tanh, lambda g, y, _x: g * (1 + y * y)),
    "1 per mille": Primitive(np.exp, lambda g, y, _x: 1.001 * g * y),
    "cotangent ignored": Primitive(np.exp, lambda _g, y, _x: y),
    "cotangent squared": Primitive(np.exp, lambda g, y, _x: g * g * y),
    "another function": Primitive(np.sin, lambda g, _y, x: g * np.cosh(x)),
    "inputs exchanged": Primitive(np.multiply, lambda g, _y, a, _b: g * a, lambda g, _y, _a, b: g * b),
    "one input of two": Primitive(np.divide, lambda g, _y, _a, b: g / b, lambda g, _y, _a, b: -g / b),
    "the other side of the kink": Primitive(np.maximum, lambda g, _y, a, b: g * (a < b), lambda g, _y, a, b: g * (b < a)),
    "a step that rises": Primitive(np.floor, lambda g, _y, _x: g),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found(name: str) -> None:
    with pytest.raises(AssertionError):
        prove(WRONG[name], symbolic_rules(WRONG[name]))


def test_a_tie_is_compared() -> None:
    """The grid tells halves from wholes: a table that gave a tie to one side would differ from the rule."""
    whole = symbolic_rules(Primitive(np.maximum, lambda g, _y, a, b: g * (a >= b), lambda g, _y, a, b: g * (b > a)))
    a, b = at = points(whole, grid=True)
    found = numbers(whole.cotangents[0], [G, *whole.inputs], [np.ones(a.shape), *at])
    expected = ops.maximum.rules[0](1.0, None, a, b)
    assert np.all(found[a != b] == expected[a != b])
    assert np.all(found[a == b] != expected[a == b])


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda primitive: f"{family(primitive)}.{primitive.name}")
def test_every_primitive_has_a_formula_for_every_input_with_a_rule(primitive: Primitive) -> None:
    row = formula(primitive)
    assert row.name == primitive.name
    assert len(row.cotangents) == (1 if isinstance(primitive, ListPrimitive) else sum(rule is not None for rule in primitive.rules))
    for told in (row.function, *row.cotangents):
        assert balanced(told), told
    for told in row.cotangents:
        assert re.match(r"\\(bar|overline)\s*[{a-zA-Z]", told), told
        assert " = " in told
    assert row.function.startswith("y = ")


def balanced(latex: str) -> bool:
    """Every brace and every environment that is opened is closed."""
    bare = latex.replace(r"\{", "").replace(r"\}", "")
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in bare))
    pairs = [latex.count(r"\left") - latex.count(r"\leftarrow") - latex.count(r"\right"), latex.count(r"\begin") - latex.count(r"\end")]
    return min(depths) >= 0 and depths[-1] == 0 and pairs == [0, 0] and "$" not in latex


def test_an_open_brace_would_be_seen() -> None:
    assert not balanced(r"\frac{1}{2")
    assert not balanced(r"\begin{cases} 1")
    assert not balanced(r"} {")
    assert balanced(r"\{ \left( \frac{1}{2} \right) \}")


def test_the_table_holds_the_primitives_that_the_cases_hold() -> None:
    table = table_of_all()
    assert len(table.formulas) == len(PRIMITIVES)
    assert set(PRIMITIVES) == {case.primitive for case in CASES}
    assert {row.family for row in table.formulas} == {"elementwise", "reductions", "shaping", "indexing", "linalg"} | {
        family(primitive) for primitive in PRIMITIVES
    }


def test_a_primitive_that_does_not_run_on_symbols_must_carry_its_formula() -> None:
    with pytest.raises(UnsupportedError, match=r"sum does not run on symbols: .*latex="):
        formula(Primitive(np.sum, lambda g, _y, _x, axis=None: g))
    with pytest.raises(UnsupportedError, match=r"matmul has rules for a, b, and latex= holds 1 formula"):
        formula(Primitive(np.matmul, lambda g, _y, _a, b: g @ b.T, lambda g, _y, a, _b: a.T @ g, latex=r"\bar A = \bar Y B^\top"))


def test_a_rule_that_moves_elements_is_not_mistaken_for_an_elementwise_one() -> None:
    """broadcast_to passes its cotangent on as it is, and the walk sums it: on symbols this would look like the identity."""
    for primitive in PRIMITIVES:
        if family(primitive) != "elementwise":
            with pytest.raises(UnsupportedError, match="does not run on symbols"):
                symbolic_rules(primitive)


BOOK = {
    ops.tanh: (r"y = \tanh {x}", r"\bar{x} = \bar{y} \left(1 - y^{2}\right)"),
    ops.log2: (r"y = \frac{\ln x}{\ln 2}", r"\bar{x} = \frac{\bar{y}}{x \ln 2}"),
    ops.erf: (r"y = \operatorname{erf}x", r"\bar{x} = \frac{2 \bar{y} e^{- x^{2}}}{\sqrt{\pi}}"),
    ops.divide: (r"y = \frac{a}{b}", r"\bar{a} = \frac{\bar{y}}{b}", r"\bar{b} = - \frac{\bar{y} y}{b}"),
    ops.absolute: (r"y = \lvert x \rvert", r"\bar{x} = \bar{y} \operatorname{sign}x"),
}


@pytest.mark.parametrize("primitive", BOOK, **named)
def test_it_reads_like_a_book(primitive: Primitive) -> None:
    row = formula(primitive)
    assert (row.function, *row.cotangents) == BOOK[primitive]


def test_cases_chains_and_words() -> None:
    told = " ".join(formula(next(each for each in PRIMITIVES if each.name == "clip")).cotangents)
    assert r"\mathrm{lo} \leq x \leq \mathrm{hi}" in told
    assert r"x < \mathrm{lo} \leq \mathrm{hi}" in told
    assert r"\overline{\mathrm{lo}} = " in told
    assert formula(ops.getitem).function == r"y = \operatorname{getitem}(x, \mathrm{index})"
    assert formula(ops.maximum).cotangents[0].count(r"\\") == 2  # three cases
    assert "|" not in formula(ops.absolute).function  # which would end a cell


def test_the_table_shows_itself_as_markdown_and_as_text() -> None:
    table = table_of_all()
    lines = table._repr_markdown_().splitlines()
    assert [line for line in lines if line.startswith("**")] == [f"**{name}**" for name, _ in table.families()]
    rows = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("|")]
    assert {len(row) for row in rows} == {5}, "every row has three cells"
    assert sum(row[1].strip().startswith("`") for row in rows) == len(table.formulas)
    assert "tanh" in str(table)
    assert "x: g*(1 - y**2)" in str(table)
    assert "\\" not in str(table).partition("indexing\n")[0].replace(r"\bar x = \bar y", "")


def test_every_function_that_takes_tensors_is_told_once() -> None:
    plain, composed = formulas.functions_without_gradient(), formulas.composed_functions()
    assert {"argmax", "isnan", "less", "shape", "result_type"} <= set(plain)
    assert {"clip", "split", "linalg.norm"} <= set(composed)
    primitive = {function for function, served in DISPATCH.items() if isinstance(served, Primitive)}
    others = {function for function in DISPATCH if (getattr(function, "__module__", None) or "").partition(".")[0] != "numpy"}
    assert len(plain) + len(composed) + len(primitive | others) == len(DISPATCH)


def test_symbols_refuse_what_they_cannot_do() -> None:
    x = Symbolic(sympy.Symbol("x"))
    for attempt in (lambda: np.flip(x), lambda: np.add.reduce(x), lambda: np.exp(x, dtype=float), lambda: np.hypot(x, x)):
        with pytest.raises(UnsupportedError, match="not known for symbols"):
            attempt()


def test_cases_keep_what_is_not_linear_in_the_cotangent() -> None:
    """A wrong rule is shown as it is, not as the rule that it should have been."""
    assert tidied(G * G * Y) == G * G * Y
    assert tidied(Y) == Y


def test_terms_stand_as_in_a_book() -> None:
    a, b, x = sympy.symbols("a b x", real=True)
    assert to_latex(b * a ** (b - 1)) == "b a^{b - 1}"
    assert [to_latex(each) for each in (x + 1, 1 - x**2, b - 1, a + b)] == ["1 + x", "1 - x^{2}", "b - 1", "a + b"]


def test_importing_minitensor_does_not_load_formulas() -> None:
    code = "import sys, minitensor; print('sympy' in sys.modules, 'minitensor.drawing.formulas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_sympy_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['sympy'] = None; import minitensor.drawing.formulas"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingPackageError" in done.stderr
    assert 'pip install -e ".[report]"' in done.stderr
