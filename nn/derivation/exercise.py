"""A derivation as an exercise: the forward is given, and every adjoint rule is a function to be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .expression import reads, source
from .text import given, shape_text, shapes

if TYPE_CHECKING:
    from .derivation import Derivation

_HEAD = '''\
"""The backward pass of {title}, one function for each edge of its graph.

`forward` shows the steps, {given}.
The adjoint a_bar is the derivative of the loss by a, and has the shape of a. Each step contributes to the adjoints of its parents:
write what each function returns. A result that is smaller than the parent is broadcast; one that is larger lacks a sum. A function may
read every node, leaf and constant, m, and the adjoint of its own step: its parameters name what it reads.
"""

import numpy as np
from {module} import {name} as DERIVATION


def forward({leaves}):
'''
_TAIL = """

if __name__ == "__main__":
    print(DERIVATION.check(globals()))
"""


def exercise(derivation: Derivation, solution: bool = False, module: str = "minitensor.nn.derivation") -> str:
    """The text of a Python file: the forward, one function for each edge with ``...`` for its body, and the check of what was written.

    With ``solution`` the functions are complete. ``module`` is where the derivation can be imported from, by its name. Raises
    `UnsupportedError` where a formula cannot be written down, because it is more than operators and NumPy functions.

    >>> from minitensor.nn.derivation import softmax
    >>> print(exercise(softmax, solution=True).partition("def e_to_x")[2].partition("if")[0].rstrip())
    (e_bar, e):
        \"""The contribution of e = np.exp(x) to x_bar, of shape (3, m).\"""
        return e_bar * e
    """
    known = shapes(derivation)
    constants = [name for name in derivation.constants if any(name in reads(each.forward) for each in derivation.steps)]
    text = _HEAD.format(
        title=derivation.title or derivation.name,
        given=given(derivation),
        module=module,
        name=derivation.name,
        leaves=", ".join([*derivation.leaves, *constants]),
    )
    for each in derivation.steps:
        text += f"    {each.name} = {source(each.forward)}{f'  # {each.note}' if solution and each.note else ''}\n"
    text += f"    return {derivation.output}\n"
    for (name, parent), rule in derivation.rules.items():
        size = f"of shape {shape_text(known[parent])}" if known[parent] else "a number"
        told = f'"""The contribution of {name} = {source(derivation.by_name[name].forward)} to {parent}_bar, {size}."""'
        body = f"return {source(rule)}" if solution else "..."
        text += f"\n\ndef {name}_to_{parent}({', '.join(reads(rule))}):\n    {told}\n    {body}\n"
    return text + _TAIL
