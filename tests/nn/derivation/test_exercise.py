"""Exercises: the solution passes, what is not written does not, and neither gives the answer away."""

import ast
import re
import types

import numpy as np
import pytest

from minitensor.errors import UnsupportedError
from minitensor.nn.derivation import DERIVATIONS, Derivation, softmax, step

ALL = pytest.mark.parametrize("derivation", DERIVATIONS.values(), ids=DERIVATIONS)


def ran(text, name="exercise"):
    """The names in the file after it has run."""
    module = types.ModuleType(name)
    exec(compile(text, "exercise.py", "exec"), vars(module))
    return vars(module)


@ALL
def test_the_solution_passes(derivation):
    module = ran(derivation.exercise(solution=True))
    assert module["DERIVATION"] is derivation
    check = derivation.check(module, judges=("autograd",))
    assert {check.verdicts[f"{name} -> {parent}"] for name, parent in derivation.edges} == {"right"}


@ALL
def test_what_is_not_written_is_told_so(derivation):
    text = derivation.exercise()
    check = derivation.check(ran(text), judges=("autograd",))
    assert not check.ok
    for name, parent in derivation.edges:
        reasons = {row.reason for row in check.rows if row.name == f"{name} -> {parent}"}
        assert any("not written" in reason for reason in reasons), reasons


@ALL
def test_the_forward_is_given_whole(derivation):
    for solution in (False, True):
        forward = ran(derivation.exercise(solution))["forward"]
        rng = np.random.default_rng(0)
        leaves = {name: rng.uniform(0.5, 2, [5 if size == "m" else size for size in shape]) for name, shape in derivation.leaves.items()}
        read = {name: value for name, value in derivation.constants.items() if name in forward.__code__.co_varnames}
        np.testing.assert_array_equal(forward(**leaves, **read), derivation.forward(leaves)[derivation.output])


@ALL
def test_exercise_and_solution_differ_only_in_the_bodies(derivation):
    def bare(text):
        tree = ast.parse(text)
        for each in ast.walk(tree):
            if isinstance(each, ast.FunctionDef) and each.name != "forward":
                del each.body[1:]
        return ast.dump(tree)

    assert bare(derivation.exercise()) == bare(derivation.exercise(solution=True))


@ALL
def test_the_exercise_gives_nothing_away(derivation):
    text = derivation.exercise()
    assert text.count("    ...\n") == len(derivation.edges)
    assert text.count("return ") == 1
    for each in derivation.steps:
        assert not each.note or each.note not in text


def test_run_as_a_program_it_prints_the_check(capsys):
    ran(softmax.exercise(solution=True), "__main__")
    assert capsys.readouterr().out.strip() == str(softmax.check(ran(softmax.exercise(solution=True)))).strip()


def test_a_slip_in_a_filled_exercise_is_found():
    filled = softmax.exercise(solution=True).replace("return -np.sum", "return np.sum")
    check = softmax.check(ran(filled), judges=("autograd",))
    assert check.wrong == (("y", "z"),)


def test_lines_fit_the_screen():
    longest = max(len(line) for each in DERIVATIONS.values() for line in each.exercise().splitlines())
    assert longest <= 140


def test_where_the_derivation_is_imported_from():
    own = Derivation("double", {"x": ("m",)}, [step("y", lambda x: x * 2, x=lambda y_bar: y_bar * 2)])
    assert "\nfrom course.week3 import double as DERIVATION\n" in own.exercise(module="course.week3")


def test_a_rule_that_is_no_formula_cannot_be_an_exercise():
    own = Derivation("odd", {"x": ("m",)}, [step("y", lambda x: x * 2 if x.sum() > 0 else x, x=lambda y_bar: y_bar * 2)])
    with pytest.raises(UnsupportedError, match=re.escape("the formula of (x) cannot be written down")):
        own.exercise()
