"""Backward passes that are right, but of another forward: one with a slip in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from minitensor import Tensor, grad

from .edits import Edit
from .naming import DISTINCT, FORWARD, LIKE, Data, Found, Mistake, space_of
from .probes import Probe
from .program import environment, evaluate

Array = Any
WRITING = "chain"


def gradients_of_another_forward(given: Sequence[Probe], data: Data, alone: Mapping[str, Sequence[Found]]) -> list[list[Mistake]]:
    """The slip in the forward whose true gradients, by autograd, are what the learner's function gave.

    It shows in dgamma, so it is among those that explain dgamma ``alone``, where the learner returned that.
    """
    if "y" in data.outputs:
        return []
    for edit in _edits(data) if "dgamma" not in data.outputs else [edits[0] for _, edits, _ in alone.get("dgamma", ())]:
        if edit.name in FORWARD[1:] and _explains(edit, given, data):
            sentence = f"the gradients are the right ones of another forward: {edit.sentence}"
            return [
                [
                    Mistake(
                        sentence, edit.place, "the forward that the backward belongs to", tuple(data.wrong), program=partial(_shaped, edit)
                    )
                ]
            ]
    return []


def _shaped(edit: Edit, probe: Probe) -> dict[str, Array]:
    return {name: value.reshape(getattr(probe, LIKE[name]).shape) for name, value in gradients_of(edit, probe).items()}


def _edits(data: Data) -> Iterator[Edit]:
    space = space_of(WRITING, data.layer, data.seed, DISTINCT)
    for line in FORWARD[1:]:
        for group in space.variants(line):
            for sources in group.sources:
                formula, slip, filler = sources[0]
                if not slip.odd:
                    yield slip.edit(line, formula, filler)


def _explains(edit: Edit, given: Sequence[Probe], data: Data) -> bool:
    for probe, found in zip(given, data.given, strict=True):
        made = gradients_of(edit, probe)
        if any(name not in made or not data.close(made[name].reshape(found[name].shape), found[name]) for name in data.outputs):
            return False
    return True


def gradients_of(edit: Edit, probe: Probe) -> dict[str, Array]:
    """The gradients of the forward with this slip in it; none where its output has not the shape of x."""
    env = environment(probe)
    leaves = {name: Tensor(env[name], requires_grad=True) for name in ("x", "gamma", "beta")}
    env |= leaves
    program = space_of(WRITING, probe.layer, 0, DISTINCT).program
    for line in islice(program.lines, program.lines.index("y") + 1):
        env[line] = evaluate(edit.new if line == edit.name else program[line][0], env, {})
    y = env["y"]
    if not isinstance(y, Tensor) or not y.requires_grad or y.shape != env["x"].shape:
        return {}
    found = grad(y, list(leaves.values()), Tensor(env["y_bar"]), allow_unused=True)
    return {
        name: np.zeros(leaf.shape) if value is None else value.numpy()
        for name, leaf, value in zip(("dx", "dgamma", "dbeta"), leaves.values(), found, strict=True)
    }
