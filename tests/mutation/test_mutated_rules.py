"""Every derivative rule but `normalize` and `bce`, changed in every systematic way: the checks notice, or no test could."""

from __future__ import annotations

import ast

import pytest
import test_corners
import test_devices
import test_kinks
import test_walk
from cases import CASES
from casework import case
from checks import check_first, check_second
from equivalent import EQUIVALENT
from mutants import SCORES, Subject, Trial, checks_in, judge, on_the_stand_in, subjects, swapped, tree_of, trials_of
from test_primitives import PRIMITIVES

from minitensor import ops
from minitensor.nn.functional.activation import log1pexp, logistic
from minitensor.nn.norm import primitives as norm
from minitensor.primitive import Primitive

NORMALISATIONS = [norm.standardize, norm.rstd]
ACTIVATIONS = [logistic, log1pexp]
CASED = [
    *CASES,
    *(case(f, (2, 3, 2, 3), axes=axes, eps=0.3) for f in NORMALISATIONS for axes in [(2, 3), (0, 2, 3), (1,)]),
    *(case(f, (2, 5), axes=(1,), eps=0.3, centred=False) for f in NORMALISATIONS),
    *(case(f, (2, 3)) for f in ACTIVATIONS),
]
OTHERS = [
    *trials_of(*checks_in(test_kinks), *checks_in(test_corners), on_the_stand_in(test_devices.test_the_gradient_comes_home)),
    *trials_of(test_walk.test_derivatives_to_the_fourth_order, test_walk.test_mixed_derivatives_of_a_power_at_exponent_0),
]
ALL = sorted([*PRIMITIVES, *NORMALISATIONS, *ACTIVATIONS], key=lambda primitive: primitive.name)
SUBJECTS = sorted(subjects(ALL), key=lambda subject: subject.function.__module__)


def trials(*primitives: Primitive) -> list[Trial]:
    """The checks of these primitives: the first order of every case, then the second, then what is chosen at kinks and in corners."""
    cases = [each for each in CASED if each.primitive in primitives]
    cases.sort(key=lambda each: any(x.size == 0 for x in each.inputs))  # no elements, no news
    checks = [
        Trial(f"{check.__name__} {each.name}", lambda check=check, each=each: check(each.call, each.inputs))
        for check in (check_first, check_second)
        for each in cases
    ]
    return checks + OTHERS


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_mutant_of_a_rule_is_killed_or_equivalent(subject: Subject) -> None:
    judges = trials(*subject.users)
    fates = {mutant.name: judge(mutant, judges) for mutant in subject.mutants()}
    survivors = [name for name, killer in fates.items() if killer is None]
    equivalent = EQUIVALENT.get(subject.name, {})
    SCORES[subject.function.__module__, subject.name] = len(fates), len(fates) - len(survivors), len(equivalent)
    assert sorted(survivors) == sorted(equivalent)


def test_exchanged_rules_are_found() -> None:
    fates = {mutant.name: judge(mutant, trials(primitive)) for primitive in ALL for mutant in swapped(primitive)}
    SCORES["rules of two inputs exchanged", ""] = len(fates), sum(killer is not None for killer in fates.values()), 0
    assert [name for name, killer in fates.items() if killer is None] == []


def test_every_proof_is_about_a_function_that_is_there() -> None:
    assert EQUIVALENT.keys() <= {subject.name for subject in SUBJECTS}


def _only(name: str) -> Subject:
    (found,) = [subject for subject in SUBJECTS if subject.name == name]
    return found


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_the_rules_themselves_survive(subject: Subject) -> None:
    """The control of the suite: planted like a mutant, the function as it is passes (a few of) the same tests."""
    assert judge(subject.mutant("as it is", tree_of(subject.function)), trials(*subject.users)[:6]) is None


@pytest.mark.parametrize(("expression", "survives"), [("g * np.cos(x) * 1", True), ("g * np.cos(x) * 1.001", False), ("g * y", False)])
def test_a_change_that_changes_nothing_survives(expression: str, survives: bool) -> None:
    """And so the suite can say that its tests have a hole."""
    subject = _only("sin[0]")
    mutant = subject.mutant(expression, ast.parse(f"lambda g, y, x: {expression}", mode="eval").body)
    assert (judge(mutant, trials(*subject.users)) is None) is survives


def test_nothing_stays_planted() -> None:
    rule, reads = ops.exp.rules, ops.exp.reads
    assert judge(next(_only("exp[0]").mutants()), trials(ops.exp)) is not None
    assert (ops.exp.rules, ops.exp.reads) == (rule, reads)
