"""A derivation as data: its steps, one adjoint rule per edge, and the closed forms that the steps lead to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from minitensor.drawing import Drawing

from .check import Check, check
from .exercise import exercise
from .expression import Rule, reads
from .judges import JUDGES
from .picture import picture
from .step import Edge, Env, Step, call, fitted, sum_of
from .text import latex, markdown

Size = int | str  # an axis of a leaf: its length, or "m"


@dataclass(frozen=True)
class Derivation:
    """y = last step( ... first step(leaves)), and the adjoint of every node, bar(p) = sum of rule(bar(s), ...) over the edges s -> p.

    ``leaves`` gives each leaf the shape that it is checked in, where ``"m"`` is the length that the checks vary; ``()`` is a number.
    ``constants`` are what formulas read besides nodes, such as the tuple ``axes``; ``m`` is always among them. ``positive`` names the
    leaves that must be, ``data`` those that have no gradient. ``closed_form`` holds, per leaf, a rule of leaves, constants and ``g``,
    the cotangent of the output, for the whole gradient; ``double_backward``, per leaf or ``g``, one of these and ``u`` for the gradient of
    <u, gradient of the first leaf>.

    A derivation of one's own takes about ten lines:

    >>> from minitensor.nn.derivation import step
    >>> total = lambda v, axes: np.sum(v, axis=axes, keepdims=True)
    >>> l2 = Derivation(
    ...     "l2_normalize",
    ...     leaves={"x": (3, "m"), "eps": ()},
    ...     constants={"axes": (1,)},
    ...     positive={"eps"},
    ...     steps=(
    ...         step("q", lambda x: x * x, "the square", x=lambda q_bar, x: 2 * x * q_bar),
    ...         step("n", lambda q, axes: total(q, axes), "its sum", q=lambda n_bar: n_bar),
    ...         step(
    ...             "s", lambda n, eps: np.sqrt(n + eps), n=lambda s_bar, s: s_bar / (2 * s), eps=lambda s_bar, s: np.sum(s_bar / (2 * s))
    ...         ),
    ...         step("y", lambda x, s: x / s, x=lambda y_bar, s: y_bar / s, s=lambda y_bar, x, s, axes: -total(y_bar * x, axes) / (s * s)),
    ...     ),
    ... )
    >>> l2.edges
    (('y', 'x'), ('y', 's'), ('s', 'n'), ('s', 'eps'), ('n', 'q'), ('q', 'x'))
    """

    name: str
    leaves: Mapping[str, Sequence[Size]]
    steps: Sequence[Step]
    closed_form: Mapping[str, Rule] = field(default_factory=dict)
    double_backward: Mapping[str, Rule] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    positive: frozenset[str] | set[str] = frozenset()
    title: str = ""

    def __post_init__(self) -> None:
        known = {*self.leaves, *self.constants, "m"}
        for each in self.steps:
            if each.name in known:
                raise ValueError(f"{self.name}: two things are called {each.name}")
            if missing := [name for name in reads(each.forward) if name not in known]:
                raise ValueError(f"{self.name}: step {each.name} reads {', '.join(missing)}, which no step before it makes")
            known.add(each.name)
            parents = [name for name in reads(each.forward) if name not in self.constants and name != "m"]
            if extra := [name for name in each.adjoints if name not in parents]:
                raise ValueError(f"{self.name}: step {each.name} has rules for {', '.join(extra)}, which it does not read")
            if lacking := [name for name in parents if name not in each.adjoints and name not in self.data]:
                raise ValueError(f"{self.name}: step {each.name} has no adjoint rule for {', '.join(lacking)}")
            for parent, rule in each.adjoints.items():
                self._check_rule(each.name, parent, rule)

    def _check_rule(self, name: str, parent: str, rule: Rule) -> None:
        known = {*self.leaves, *self.constants, "m", *(f"{each.name}" for each in self.steps), f"{name}_bar"}
        if unknown := [read for read in reads(rule) if read not in known]:
            raise ValueError(
                f"{self.name}: the rule {name} -> {parent} reads {', '.join(unknown)}; it may read {name}_bar, nodes, leaves and constants"
            )

    @cached_property
    def data(self) -> frozenset[str]:
        """The leaves that no step has a rule for."""
        return frozenset(self.leaves) - {parent for each in self.steps for parent in each.adjoints}

    @property
    def output(self) -> str:
        """The name of the last step."""
        return self.steps[-1].name

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The steps by their names."""
        return {each.name: each for each in self.steps}

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """(step, parent) of every edge, in the order of the backward pass."""
        return tuple((each.name, parent) for each in reversed(self.steps) for parent in each.adjoints)

    @cached_property
    def rules(self) -> dict[Edge, Rule]:
        """The adjoint rule of every edge."""
        return {(name, parent): self.by_name[name].adjoints[parent] for name, parent in self.edges}

    @cached_property
    def program(self) -> dict[str, Rule]:
        """The forward and the backward as one list of assignments, after ``<output>_bar``: the cotangent of the output.

        The rule of an edge is called ``<step>_to_<parent>``, the adjoint of a node, the sum over its edges, ``<node>_bar``.

        >>> from minitensor.nn.derivation import softmax
        >>> list(softmax.program)
        ['e', 'z', 'y', 'y_to_e', 'y_to_z', 'z_bar', 'z_to_e', 'e_bar', 'e_to_x', 'x_bar']
        """
        program = {each.name: each.forward for each in self.steps}
        used: dict[str, list[str]] = {}
        for name, parent in self.edges:
            if name != self.output and f"{name}_bar" not in program:
                program[f"{name}_bar"] = sum_of(used[name])
            program[f"{name}_to_{parent}"] = self.rules[name, parent]
            used.setdefault(parent, []).append(f"{name}_to_{parent}")
        return program | {f"{leaf}_bar": sum_of(used[leaf]) for leaf in self.leaves if leaf in used}

    def size(self, leaves: Mapping[str, Any]) -> int:
        """m, read off the leaves: the elements along the constant ``axes``, else the axis that is called so, else 1."""
        if "axes" in self.constants:
            shape = np.shape(leaves[next(iter(self.leaves))])
            return math.prod(shape[axis] for axis in self.constants["axes"])
        for name, shape in self.leaves.items():
            if "m" in shape:
                return int(np.shape(leaves[name])[list(shape).index("m")])
        return 1

    def forward(self, leaves: Mapping[str, Any], hold: Mapping[str, Any] | None = None) -> Env:
        """Every node by its name; a node in ``hold`` has the value that stands there, whatever its step says.

        >>> from minitensor.nn.derivation import softmax
        >>> env = softmax.forward({"x": np.log([[1.0, 3.0]])})
        >>> env["y"], softmax.forward({"x": np.zeros((1, 2))}, hold={"e": env["e"]})["y"]
        (array([[0.25, 0.75]]), array([[0.25, 0.75]]))
        """
        if missing := [name for name in self.leaves if name not in leaves]:
            raise ValueError(f"{self.name} needs the leaves {', '.join(self.leaves)}; {', '.join(missing)} is missing")
        env: Env = {"m": self.size(leaves), **self.constants, **leaves}
        for each in self.steps:
            env[each.name] = hold[each.name] if hold and each.name in hold else call(each.forward, env)
        return env

    def backward(
        self, env: Mapping[str, Any], g: Any, rules: Mapping[Edge, Rule] | None = None, feed: Mapping[str, Any] | None = None
    ) -> tuple[Env, dict[Edge, Any]]:
        """The adjoint of every node and the contribution of every edge, from the cotangent g of the output.

        ``rules`` are taken in the place of the derivation's own. With ``feed``, right adjoints by node, each rule gets the right adjoint
        of its own step (carried mode), so that only a wrong rule gives a wrong contribution; without, what the rules before it made.
        Raises `ShapeError` for a contribution that does not fit its parent, because a sum is missing.
        """
        replaced = {**self.rules, **(rules or {})}
        bars: Env = {self.output: g}
        contributions: dict[Edge, Any] = {}
        for name, parent in self.edges:
            bar = (feed or bars)[name]
            made = call(replaced[name, parent], {**env, f"{name}_bar": bar})
            contributions[name, parent] = made = fitted(made, env[parent], f"{name} -> {parent}")
            bars[parent] = made if parent not in bars else bars[parent] + made
        return bars, contributions

    def closed(self, env: Mapping[str, Any], g: Any, u: Any = None) -> Env:
        """The closed forms at these values: of the gradients, or with u of <u, gradient of the first leaf>."""
        forms = self.closed_form if u is None else self.double_backward
        given = {**env, "g": g, "u": u}
        return {name: fitted(call(rule, given), given[name], f"closed form of {name}") for name, rule in forms.items()}

    def check(
        self,
        rules: Any = None,
        *,
        closed_form: Mapping[str, Rule] | None = None,
        double_backward: Mapping[str, Rule] | None = None,
        judges: Iterable[str] = tuple(JUDGES),
        mode: str = "carried",
        seed: int = 0,
        progress: Callable[[str], None] = lambda step: None,
    ) -> Check:
        """Have every rule, closed form and double-backward form judged by `JUDGES`, independently of each other.

        ``rules`` are judged in the place of the derivation's own, edge by edge: a mapping {("q", "c"): rule} or {"q_to_c": rule}, or a
        namespace, such as ``globals()`` or a module, of which the functions called <step>_to_<parent> are taken. ``closed_form`` and
        ``double_backward`` are the forms that are judged, by default the derivation's own. In the mode ``"carried"`` each rule is given the
        right adjoint of its own step, so that a wrong rule is wrong alone; in ``"cumulative"`` what the rules before it made.

        The judges draw x and g from ``seed``. A rule is WRONG where it differs, gives nan or a shape that does not fit, raises, or is not
        written yet (returns None or ``...``); a judge who cannot run it, where floats can, says "not judged". Raises ValueError for an
        unknown edge, judge or mode, and for a rule that reads what is not there.

        >>> from minitensor.nn.derivation import instance_norm
        >>> without_2 = {"q_to_c": lambda q_bar, c: c * q_bar}
        >>> check = instance_norm.check(without_2, closed_form={}, double_backward={}, judges=["exact", "proof"])
        >>> check.wrong, check.summary()
        ((('q', 'c'),), '12 of 13 lines are right; WRONG: q -> c.')
        """
        return check(
            self, rules, closed_form=closed_form, double_backward=double_backward, judges=judges, mode=mode, seed=seed, progress=progress
        )

    def draw(self, check: Check | None = None) -> Drawing:
        """The graph with the adjoint rule on every edge; with a `Check` a wrong edge is red, thick and marked ×."""
        return picture(self, check)

    def latex(self) -> str:
        """The derivation as a LaTeX fragment: the forward, the contribution of every edge, the closed forms. It needs amsmath."""
        return latex(self)

    def markdown(self, check: Check | None = None) -> str:
        """The derivation as Markdown; with a `Check` every line has a column for each judge."""
        return markdown(self, check)

    def exercise(self, solution: bool = False, module: str = "minitensor.nn.derivation") -> str:
        """The derivation as a Python file in which the rules are to be written, or with ``solution`` are written.

        ``module`` is where the file imports this derivation from, by its name. Raises `UnsupportedError` for a formula that is more than
        operators and NumPy functions.
        """
        return exercise(self, solution, module)
