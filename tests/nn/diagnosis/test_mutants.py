"""Out of sample: slips that a generic grammar makes in right code, knowing nothing of normalisation, are named truly or not at all.

A name is true where its program gives the mutant's numbers on inputs that the diagnosis has not seen: other shapes, other eps, other
distributions. What has no name must be called unexplained.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hand_ins import HAND_INS
from source_mutants import agree, answer, compiled, mutants, samples, usable

from minitensor.nn.diagnosis import Probe, coefficients, diagnose, probes
from minitensor.nn.diagnosis.naming import Data

STYLES = ("steps", "course", "graph", "compact")
DRAWN = {1: 12, 2: 6}  # mutants of each style, by the number of slips in them
SEED = 0
NAMED = 0.95  # the share of what is wrong that is named at least, in each layer, singles and doubles as drawn
LEAVES = {"dx": "x", "dgamma": "gamma", "dbeta": "beta"}


def arguments(probe):
    return (probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, *([probe.groups] if probe.groups else []))


def squeezed(shape):
    """Axes of length 1 too many are no mistake."""
    return [length for length in shape if length != 1]


class Seen:
    """What a source gives on inputs that nn/diagnosis does not know, beside what is right there."""

    def __init__(self, layer, source):
        self.is_right, self.results = True, []
        for sample in samples(HAND_INS[layer]["steps"]):
            right, found = answer(HAND_INS[layer]["steps"], sample), answer(source, sample)
            if found is None:  # it raises, or gives nan, on inputs of this shape
                self.is_right = False
                continue
            found = [
                one.reshape(like.shape) if squeezed(one.shape) == squeezed(like.shape) else one
                for one, like in zip(found, right, strict=True)
            ]
            self.is_right &= agree(found, right, rtol=1e-6)
            self.results.append((Probe(layer, *sample), dict(zip(LEAVES, found, strict=True))))
        self.runs_on_probes = all(usable(source, arguments(probe)) for probe in probes(layer))

    def misshapen(self, output):
        """Whether this gradient has not the shape of what it is the gradient of."""
        return any(found[output].shape != getattr(probe, LEAVES[output]).shape for probe, found in self.results)

    def agrees(self, mistake):
        """Whether the program of a mistake gives the same numbers."""
        for probe, found in self.results:
            made = mistake.program(probe)
            for output in mistake.explains:
                if not agree((made[output],), (found[output],), rtol=1e-6):
                    return False
        return True

    def has(self, shares):
        """Whether dx has these coefficients."""
        found = coefficients([probe for probe, _ in self.results], [found["dx"] for _, found in self.results])
        return found.named and found.names == shares.names


@np.errstate(all="ignore")  # wrong programs may well divide by 0
def false_claims(diagnosis, seen):
    """What a diagnosis says that is not so."""
    if diagnosis.verdict == "not graded":
        return []
    claims = [diagnosis.sentence] if bool(diagnosis) != seen.is_right else []
    for mistake in (mistake for names in diagnosis.mistakes for mistake in names):
        if mistake.program is not None:
            true = seen.agrees(mistake)
        elif mistake.path.startswith("the shape of"):
            true = all(map(seen.misshapen, mistake.explains))
        elif mistake.path == "numbers that are not finite":
            true = not seen.runs_on_probes
        else:  # nothing but the coefficients may be told without a program
            true = mistake.explains == ("dx",) and seen.has(diagnosis.coefficients)
        claims += [] if true else [mistake.sentence]
    return claims


def kind_of(diagnosis, seen):
    """What a mutant counts as."""
    if seen.is_right:
        return "equivalent"
    if any(map(seen.misshapen, LEAVES)):
        return "misshapen"
    if diagnosis.verdict == "not graded":
        return "raises on some shapes"
    return "named" if diagnosis.explained else "unexplained"


@pytest.mark.parametrize("layer", HAND_INS)
def test_mutants_are_named_truly_or_called_unexplained(layer):
    kinds, unexplained, claims = {slips: Counter() for slips in DRAWN}, [], []
    for slips, count in DRAWN.items():
        for style in STYLES:
            for mutant in mutants(HAND_INS[layer][style], count, slips, SEED):
                diagnosis, seen = diagnose(compiled(mutant.source), layer=layer), Seen(layer, mutant.source)
                kind = kind_of(diagnosis, seen)
                kinds[slips][kind] += 1
                unexplained += [f"{style}: {mutant.what}"] if kind == "unexplained" else []
                claims += [f"{style}: {mutant.what}: {claim}" for claim in false_claims(diagnosis, seen)]
    assert not claims, "\n".join(claims)
    together = sum(kinds.values(), Counter())
    assert together.total() == len(STYLES) * sum(DRAWN.values())
    wrong = together["named"] + together["unexplained"]
    assert wrong >= 0.8 * together.total()  # else the share would say little
    assert together["named"] >= NAMED * wrong, "\n".join([f"{together['named'] / wrong:.1%} are named: {kinds}", *unexplained])


# -- the judge sees what is false --------------------------------------------------------------------------------------------------------

RIGHT = HAND_INS["batch_norm"]["steps"]
WRONG = RIGHT.replace("dx = dc + np.ones((N, D)) * dmu / N", "dx = dc * np.ones((N, D)) * dmu / N")
OTHER = RIGHT.replace("dc += 2 * c * dq", "dc += 3 * c * dq")
TWO = WRONG.replace("2 * c * dq", "2 * c / dq")


def diagnosed(source):
    return diagnose(compiled(source), layer="batch_norm")


def test_what_is_true_is_no_false_claim():
    for source in (RIGHT, WRONG, OTHER, TWO):
        assert source == RIGHT or not Seen("batch_norm", source).is_right
        assert diagnosed(source).explained
        assert not false_claims(diagnosed(source), Seen("batch_norm", source))


@pytest.mark.parametrize(("told", "source"), [(WRONG, OTHER), (OTHER, WRONG), (TWO, WRONG), (WRONG, TWO)])
def test_the_name_of_another_mistake_is_a_false_claim(told, source):
    found = diagnosed(told)
    assert len(false_claims(found, Seen("batch_norm", source))) == sum(map(len, found.mistakes))


def test_a_wrong_verdict_is_a_false_claim():
    found = diagnosed(RIGHT)
    assert false_claims(found, Seen("batch_norm", WRONG)) == [found.sentence]
    assert false_claims(replace(found, verdict="wrong"), Seen("batch_norm", RIGHT))


def test_a_shape_that_is_as_it_should_be_is_a_false_claim():
    misshapen = RIGHT.replace("dbeta = np.sum(dy, axis=0)", "dbeta = np.sum(dy, axis=1)")
    found = diagnosed(misshapen)
    assert not false_claims(found, Seen("batch_norm", misshapen))
    assert false_claims(found, Seen("batch_norm", WRONG))


def test_coefficients_of_another_gradient_are_a_false_claim():
    found = diagnosed(OTHER)
    without = replace(found, mistakes=[[replace(mistake, program=None) for mistake in names] for names in found.mistakes])
    assert not false_claims(without, Seen("batch_norm", OTHER))
    assert false_claims(without, Seen("batch_norm", WRONG))
    assert false_claims(without, Seen("batch_norm", RIGHT.replace("2 * c * dq", "4 * c * dq")))


def test_a_search_that_takes_anything_for_the_same_makes_false_claims(monkeypatch):
    source = RIGHT.replace("dmu / N", "np.sin(dmu) / N")
    assert not diagnosed(source).explained
    monkeypatch.setattr(Data, "close", lambda self, value, given: value.shape == given.shape and not np.array_equal(value, given))
    assert false_claims(diagnosed(source), Seen("batch_norm", source))
