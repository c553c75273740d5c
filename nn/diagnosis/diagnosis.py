"""diagnose: is a learner's backward pass right, and if not, which mistake is it?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from ..derivation.faults import staged_backward
from ..norm import formulas
from ..norm.layout import Layout, Shape
from .coefficients import RIGHT, TERMS, Coefficients, coefficients
from .exactly import exactly
from .learner import Learner, Outcome
from .naming import DISTINCT, JOINED, LIKE, LINES, SMALL, Data, Mistake, combined, known, known_pair, one_slip, right_results, two_slips
from .other_forward import gradients_of_another_forward
from .probes import Probe, probes
from .result import Diagnosis, listed
from .staged import failing_edges
from .vanishing import vanishing

Array = Any
GRADIENTS = ("dx", "dgamma", "dbeta")
DOUBLE = 1e-7  # of the largest value: what is nearer is the same
SINGLE = 1e-4  # what is right to this is right in single precision: no mistake is so small on these probes
PATHS_OF_TERMS = ("the direct path", "the path through the mean", "the path through the variance")


def diagnose(backward: Any, forward: Callable[..., Any] | None = None, layer: str = "instance_norm", *, seed: int = 0) -> Diagnosis:
    """Whether a backward pass of a normalisation is right, and which mistake is in it, from its numbers alone.

    ``backward`` is ``(x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)``; or ``(dy, cache)`` together with its ``forward``, as in the course
    CS231n; or a `minitensor.autograd.Function` class (see `Learner`). ``layer`` is "instance_norm" (x of shape (N, C, H, W)),
    "batch_norm" or "layer_norm" (N, D), or "group_norm" (N, C, H, W). It is called on probes in float64 in which every mistake shows
    (`probes`); ``seed`` gives others.

    What the function returned is right, in whatever form it was written, or it is searched for among the programs that are one or two slips
    away from a right one; a name is told only when that program gives the same numbers on probes that it was not found with. So nothing is
    guessed: what has no such name is called unexplained, with how far off it is. The learner's code runs here, without limits; the
    command ``minitensor diagnose`` runs it in a process of its own. Raises `TypeError` where backward is no function, `ValueError` for
    another layer; everything that the learner's code does wrong is a verdict.

    >>> def backward(x, gamma, beta, eps, dy):
    ...     m = x.shape[2] * x.shape[3]
    ...     mu = x.mean((2, 3), keepdims=True)
    ...     r = 1 / np.sqrt(((x - mu) ** 2).mean((2, 3), keepdims=True) + eps)
    ...     x_hat, h = (x - mu) * r, dy * gamma[:, None, None]
    ...     dx = r / m * (m * h - h.sum((2, 3), keepdims=True))
    ...     return dx, (dy * x_hat).sum((0, 2, 3)), dy.sum((0, 2, 3))
    >>> print(diagnose(backward).sentence)
    Wrong: the path through the variance is left out: x moves v too.
    """
    learner = Learner(backward, forward, layer)
    given = probes(layer, seed)
    found = diagnose_outcomes(layer, given, [learner.outcome(probe) for probe in given], seed=seed)
    return found.remarked(remarks(learner, layer)) if found else found


def remarks(learner: Learner, layer: str) -> list[str]:
    """What is worth saying of code that is right: which term it left out, and why that vanishes; and whether it is right exactly."""
    said = (vanishing(learner, layer), exactly(learner, layer).sentence)
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said if sentence]


@np.errstate(all="ignore")  # nan and inf are looked for, and told
def diagnose_outcomes(layer: str, given: Sequence[Probe], outcomes: Sequence[Outcome], *, seed: int = 0) -> Diagnosis:
    """The diagnosis of what a learner's function gave on the `probes` of this seed, which may have been called elsewhere."""
    if problem := next((each for each in outcomes if each.problem and each.dx is None), None):
        return Diagnosis(layer, "not graded", {}, problem=problem.problem)
    notes = list(dict.fromkeys(each.problem for each in outcomes if each.problem))
    misshapen = list(_misshapen(given, outcomes))
    lost = list(_not_finite(outcomes, (SMALL, DISTINCT), {name for mistake in misshapen for name in mistake.explains}))
    bad = {name for mistake in (*misshapen, *lost) for name in mistake.explains}
    outputs = [name for name in LINES if all(getattr(each, name) is not None for each in outcomes) and name not in bad]
    results = [{name: getattr(each, name) for name in outputs} for each in outcomes]
    off = _off(layer, seed, results)
    single = off < SINGLE or any(each.dtypes.get(name, "float64") != "float64" for each in outcomes for name in outputs)
    backward, forward = (
        Data(layer, seed, [{name: each[name] for name in some if name in each} for each in results], SINGLE if single else DOUBLE)
        for some in (GRADIENTS, ("y",))
    )
    wrong = {*backward.wrong, *forward.wrong, *bad}
    verdicts = {name: "wrong" if name in wrong else "right" for name in LINES if name in (*outputs, *bad)}
    if not wrong:
        if off > DOUBLE:
            notes.append(f"The numbers are off by {off:.0e}, as in single precision, or with a small guard added somewhere.")
        if cancelling := failing_edges(layer, given, outcomes):
            notes.append("The gradients are right, but not these steps on the way: their mistakes cancel.")
        return Diagnosis(layer, "right", verdicts, notes=notes, failing_edges=cancelling)
    found = [[mistake] for mistake in (*misshapen, *lost)] + (_named(given, forward) if forward.wrong else [])
    shares = coefficients(given, [each["dx"] for each in results]) if "dx" in outputs else None
    if backward.wrong:
        found += _named(given, backward)
        found += [
            [mistake]
            for mistake in _not_finite(outcomes, range(len(outcomes)), {*bad, *(name for some in found for name in some[0].explains)})
        ]
        if not any("dx" in each[0].explains for each in found) and "dx" in backward.wrong and shares is not None and shares.named:
            found += _of_coefficients(shares)
    return Diagnosis(
        layer,
        "wrong",
        verdicts,
        tuple(tuple(_on_its_path(name, shares) for name in some) for some in found),
        shares,
        np.inf if lost else off,
        tuple(notes),
        tuple(failing_edges(layer, given, outcomes)),
    )


def _named(given: Sequence[Probe], data: Data) -> list[list[Mistake]]:
    """The mistakes, each with the names that fit it equally; those that take longest to find come last."""
    if found := known(data) or _of_other_statistics(given, data):
        return found
    alone = one_slip(data)
    if all(alone.values()):
        return combined(data, alone)
    return gradients_of_another_forward(given, data, alone) or known_pair(data) or combined(data, two_slips(data, alone))


def _on_its_path(mistake: Mistake, shares: Coefficients | None) -> Mistake:
    """Where paths are added up, the coefficients tell which of them is wrong."""
    if mistake.path != JOINED or shares is None:
        return mistake
    off = [path for path, name, right in zip(PATHS_OF_TERMS, shares.names, RIGHT, strict=True) if name != str(right)]
    return replace(mistake, path=listed(off)) if 0 < len(off) < len(RIGHT) else mistake


def _off(layer: str, seed: int, results: Sequence[Mapping[str, Array]]) -> float:
    """How far the numbers are from the right ones, relative to the largest of these; inf where they are not finite."""
    largest = 0.0
    for right, found in zip(right_results(layer, seed), results, strict=True):
        for name, value in found.items():
            off = np.max(np.abs(value - right[name])) / np.max(np.abs(right[name]))
            largest = max(largest, float(off) if np.isfinite(off) else np.inf)
    return largest


def _misshapen(given: Sequence[Probe], outcomes: Sequence[Outcome]) -> Iterator[Mistake]:
    """Gradients that have not the shape of what they are the gradients of, and over which axes they were summed."""
    probe, outcome = given[DISTINCT], outcomes[DISTINCT]
    where = probe.layout
    x_hat = formulas.standardize(probe.x.reshape(where.view), where.axes, probe.eps).reshape(probe.x.shape)
    summed = {"dgamma": probe.dy * x_hat, "dbeta": probe.dy}
    for name, leaf in LIKE.items():
        value, wanted = getattr(outcome, name), getattr(probe, leaf).shape
        if value is None or value.shape == wanted:
            continue
        sentence = f"{name} has shape {value.shape}, and {wanted} is needed"
        for axes in _axes(probe.x.ndim) if name in summed else ():
            total = summed[name].sum(axis=axes)
            right = tuple(axis for axis in range(probe.x.ndim) if axis != 1)
            if axes != right and total.size == value.size and np.allclose(total.ravel(), value.ravel(), rtol=1e-6):
                sentence += f": it is summed over the axes {axes} instead of {right}"
                break
        yield Mistake(sentence, name, f"the shape of {name}", (name,))


def _axes(rank: int) -> Iterator[Shape]:
    for count in range(rank + 1):
        yield from combinations(range(rank), count)


def _of_other_statistics(given: Sequence[Probe], data: Data) -> list[list[Mistake]]:
    """The right formula, over other axes of x."""
    rank = given[0].x.ndim
    for axes in filter(None, _axes(rank)) if "y" not in data.outputs else ():

        def where(shape: Shape, axes: Shape = axes) -> Layout:
            return Layout(shape, axes, (1, shape[1], *(1,) * (rank - 2)))

        made = [_over_other_axes(where, probe) for probe in given]
        if all(data.agrees(name, [each[name] for each in made]) for name in data.outputs):
            named = listed([("N", "C", "H", "W")[axis] if rank == 4 else ("N", "D")[axis] for axis in axes])
            sentence = f"mean and variance are taken over the axes {axes} of x, {named}: those of another layer"
            program = partial(_over_other_axes, where)
            return [[Mistake(sentence, "mu", "which elements are normalised together", tuple(data.wrong), program=program)]]
    return []


def _over_other_axes(where: Callable[[Shape], Layout], probe: Probe) -> dict[str, Array]:
    made = staged_backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, where=where)
    return dict(zip(GRADIENTS, made, strict=True))


def _of_coefficients(shares: Coefficients) -> list[list[Mistake]]:
    """Where no program is known that makes these coefficients, they are the diagnosis themselves: each with its path."""
    found = []
    for name, right, term, path in zip(shares.names, RIGHT, TERMS, PATHS_OF_TERMS, strict=True):
        if name != str(right):
            sentence = f"{path} is left out" if name == "0" else f"in {path}, the term {term} has the coefficient {name}, not {right}"
            found.append([Mistake(sentence, term, path, ("dx",))])
    return found


def _not_finite(outcomes: Sequence[Outcome], where: Sequence[int], besides: Collection[str]) -> Iterator[Mistake]:
    """Outputs that hold nan or inf on one of these probes, on the first two of which even v - eps has a root."""
    for name in LINES:
        values = [getattr(outcome, name) for outcome in outcomes]
        if name in besides or any(value is None for value in values) or all(np.isfinite(values[i]).all() for i in where):
            continue
        everywhere = not any(np.isfinite(value).all() for value in values)
        seen = "on every input" if everywhere else "on some inputs"
        sentence = f"{name} holds nan or inf {seen}: the root of a negative number, or a division by 0"
        yield Mistake(sentence, name, "numbers that are not finite", (name,))
