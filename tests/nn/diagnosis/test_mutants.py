"""Out of sample: slips that the grammar of mutation testing makes in right code, which knows nothing of normalisation, are named truly.

A name is true where its program gives the mutant's numbers on inputs that the diagnosis has not seen: other shapes, other eps, other
distributions. What is not named must be called unexplained.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hand_ins import HAND_INS
from source_mutants import Mutant, agree, answer, compiled, mutants, samples

from minitensor.nn.diagnosis import Mistake, Probe, coefficients, diagnose
from minitensor.nn.diagnosis import diagnosis as grading

STYLES = ("steps", "course", "graph", "compact")
DRAWN = {1: 12, 2: 6}  # by the number of slips
SEED = 0
NAMED = 0.95  # at least so much of what is wrong, by layer, singles and doubles as drawn
GRADIENTS = ("dx", "dgamma", "dbeta")
LIKE = {"dx": "x", "dgamma": "gamma", "dbeta": "beta"}


def probe_of(layer, sample):
    x, gamma, beta, eps, dy, *groups = sample
    return Probe(layer, x, gamma, beta, eps, dy, *groups)


def fresh(layer, source):
    """Inputs that nn/diagnosis does not know, and what the source gives there; without those where it fails or is not finite."""
    given = [(probe_of(layer, sample), answer(source, sample)) for sample in samples(HAND_INS[layer]["steps"])]
    return [(probe, dict(zip(GRADIENTS, found, strict=True))) for probe, found in given if found is not None]


def kind_of(layer, source):
    """What a mutant is, as the fresh inputs tell: right, of a wrong shape, or wrong."""
    right = [answer(HAND_INS[layer]["steps"], sample) for sample in samples(HAND_INS[layer]["steps"])]
    found = [answer(source, sample) for sample in samples(HAND_INS[layer]["steps"])]
    if all(agree(one, other, rtol=1e-6) for one, other in zip(found, right, strict=True)):
        return "right"
    if any(
        one is not None and [part.size for part in one] != [part.size for part in other] for one, other in zip(found, right, strict=True)
    ):
        return "misshapen"
    return "wrong"


def is_true(mistake, layer, source):
    """Whether the program of a mistake gives the mutant's numbers for all that it explains."""
    for probe, found in fresh(layer, source):
        with np.errstate(all="ignore"):
            made = mistake.program(probe)
        if not all(
            agree((np.asarray(made[name]),), (found[name].reshape(np.shape(getattr(probe, LIKE[name]))),), rtol=1e-6)
            for name in mistake.explains
        ):
            return False
    return True


def false_claims(diagnosis, layer, source):
    """What a diagnosis says of a mutant that is not so."""
    kind = kind_of(layer, source)
    claims = []
    if (diagnosis.verdict == "right") != (kind == "right"):
        claims.append(f"{diagnosis.verdict}, but it is {kind}")
    for mistake in (mistake for names in diagnosis.mistakes for mistake in names):
        if mistake.path.startswith("the shape of"):
            name = mistake.explains[0]
            true = any(found[name].shape != getattr(probe, LIKE[name]).shape for probe, found in fresh(layer, source))
        elif mistake.path == "numbers that are not finite":
            true = "nan or inf" in mistake.sentence
        elif mistake.program is None:  # read off the coefficients, which other inputs must have too
            pairs = fresh(layer, source)
            others = coefficients([probe for probe, _ in pairs], [found["dx"] for _, found in pairs])
            true = diagnosis.coefficients.named and others.names == diagnosis.coefficients.names
        else:
            true = is_true(mistake, layer, source)
        claims += [] if true else [mistake.sentence]
    return claims


def outcome_of(diagnosis, layer, source):
    """What came of a mutant."""
    kind = kind_of(layer, source)
    if kind == "wrong":
        return diagnosis.verdict if diagnosis.verdict != "wrong" else "named" if diagnosis.explained else "unexplained"
    return kind


@pytest.mark.parametrize("layer", HAND_INS)
def test_mutants_are_named_truly_or_called_unexplained(layer):
    outcomes, unexplained, claims = {slips: Counter() for slips in DRAWN}, [], []
    for slips, count in DRAWN.items():
        for style in STYLES:
            for mutant in mutants(HAND_INS[layer][style], count, slips, SEED):
                diagnosis = diagnose(compiled(mutant.source), layer=layer)
                outcome = outcome_of(diagnosis, layer, mutant.source)
                outcomes[slips][outcome] += 1
                unexplained += [f"{style}: {mutant.what}"] if outcome == "unexplained" else []
                claims += [f"{style}: {mutant.what}: {claim}" for claim in false_claims(diagnosis, layer, mutant.source)]
    assert not claims, "\n".join(claims)
    together = sum(outcomes.values(), Counter())
    assert together.total() == len(STYLES) * sum(DRAWN.values())
    assert set(together) <= {"named", "unexplained", "right", "misshapen", "not graded"}
    share = together["named"] / (together["named"] + together["unexplained"])
    assert share >= NAMED, f"{share:.1%} of {outcomes} named; not:\n" + "\n".join(unexplained)
