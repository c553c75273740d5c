"""Every derivative rule, changed in every systematic way: the checks of the table of cases notice, or no test could."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import fake_cupy
import pytest
import test_corners
import test_kinks
from cases import CASES, Case
from casework import case
from checks import check_first, check_second
from equivalent import EQUIVALENT
from mutants import SCORES, Mutant, Subject, Trial, judge, subjects, swapped, tests_in, tree_of, trials_of
from test_devices import test_the_gradient_comes_home
from test_primitives import PRIMITIVES

from minitensor import ops
from minitensor.nn.norm import primitives as norm
from minitensor.primitive import Primitive

NORM = [
    case(function, (2, 3, 2, 3), axes=axes, eps=0.3)
    for function in (norm.standardize, norm.rstd)
    for axes in [(2, 3), (0, 2, 3), (1,)]
]


def on_the_stand_in(test: Callable[..., None]) -> Callable[..., None]:
    """The test with its fixture ``cupy``."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "cupy", fake_cupy)
            test(**given, cupy=fake_cupy)

    return run


ALL_CASES = [*CASES, *NORM]
OTHERS = [*trials_of(*tests_in(test_kinks), *tests_in(test_corners), on_the_stand_in(test_the_gradient_comes_home))]
SUBJECTS = subjects(sorted({*PRIMITIVES, norm.standardize, norm.rstd}, key=lambda p: p.name))


def trials(primitives: list[Primitive]) -> list[Trial]:
    """The checks of these primitives: the first order of every case, then the second, then what is chosen at kinks and in corners."""
    cases = [each for each in ALL_CASES if each.primitive in primitives]
    cases.sort(key=lambda each: sum(x.size for x in each.inputs) == 0)  # nothing is found out from no elements
    checks = [
        Trial(f"{check.__name__} {each.name}", lambda check=check, each=each: check(each.call, each.inputs))
        for check in (check_first, check_second)
        for each in cases
    ]
    return checks + OTHERS
