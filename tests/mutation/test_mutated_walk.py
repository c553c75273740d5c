"""The walk and what records for it, made wrong in every way that we could think of: the project's own tests notice each."""

from __future__ import annotations

import functools
import sys
from types import ModuleType

import numpy as np
import pytest
import test_anomaly
import test_corners
import test_devices
import test_dtypes
import test_function
import test_grad_modes
import test_hooks
import test_memory
import test_mutation
import test_primitives
import test_walk
from cases import CASES
from checks import check_first, check_second
from mutants import SCORES, Mutant, Trial, checks_in, edited, judge, on_the_stand_in, trials_of

from minitensor.autograd import walk
from minitensor.primitive import Primitive

WALK = {
    # What happens to a cotangent on its way
    "no sum over a broadcast": ("extra > 0 else g", "extra > 9 else g"),
    "no sum over a broadcast axis of length 1": ("axes = tuple(i for i in range(-summed.ndim, 0) if", "axes = tuple(i for i in () if"),
    "no cotangent is stretched": ("g = summed if summed.shape == like.shape else np.broadcast_to(summed, like.shape)", "g = summed"),
    "no cast to the input's dtype": ("return g if g.dtype == like.dtype else g.astype(like.dtype)", "return g"),
    "what has the right shape is never cast": (
        "cotangent.shape != edge.shape or cotangent.dtype is not edge.dtype",
        "cotangent.shape != edge.shape",
    ),
    "what has the right dtype is never summed": (
        "cotangent.shape != edge.shape or cotangent.dtype is not edge.dtype",
        "cotangent.dtype is not edge.dtype",
    ),
    "a rule's Tensor is taken as it is": (
        "fit(cotangent if traced else _bare(cotangent), edge, node.name)",
        "fit(cotangent, edge, node.name)",
    ),
    "a cotangent that does not fit passes": (
        'raise ShapeError(f"the rule of {giver} gave',
        'return g; raise ShapeError(f"the rule of {giver} gave',
    ),
    # Adding up
    "the last cotangent wins": ("pending[edge] = total = before + cotangent", "pending[edge] = total = cotangent"),
    "the first cotangent wins": ("pending[edge] = total = before + cotangent", "total = before"),
    "the third cotangent is lost": ("before += cotangent", "pass"),
    "adding in place into what is shared": ("elif edge in owned:", "elif not traced and hasattr(before, '__iadd__'):"),
    "the traced walk adds in place": ("if not traced and hasattr(total", "if hasattr(total"),
    "NumPy's scalars are owned": ('if not traced and hasattr(total, "__iadd__"):', "if not traced:"),
    # The order and the visits
    "oldest first": ("nodes.sort(key=_TIME, reverse=True)", "nodes.sort(key=_TIME)"),
    "in the order of the search": ("nodes.sort(key=_TIME, reverse=True)", "pass"),
    "cotangents stay until the end": ("g = pending.pop(node, None)", "g = pending.get(node, None)"),
    "a node without a cotangent is walked": ("if g is None:\n                continue", "if g is None:\n                g = 0.0"),
    "only the first root": ("pending = dict(roots)", "pending = dict(list(roots.items())[:1])"),
    "the rules for other inputs are called too": ("edges = [edge if edge in wanted else None for edge in edges]", "pass"),
    "the search goes below nothing": (
        "if edge is not None and edge not in seen:",
        "if edge is not None and edge not in seen and edge.edges:",
    ),
    # Targets
    "targets above other targets are forgotten": (
        "if node in targets:\n                    found",
        "if node in targets and not node.edges:\n                    found",
    ),
    "nodes that lead to targets are not wanted": ("if not wanted.isdisjoint(node.edges):", "if wanted >= {*node.edges}:"),
    "a target without a way below it is not wanted": (
        "elif node in targets:\n            wanted.add(node)",
        "elif node in targets:\n            pass",
    ),
    "all inputs may be unused": ("if missing and not allow_unused:", "if False:"),
    "no input may be unused": ("if missing and not allow_unused:", "if missing:"),
    "an input that requires no grad is taken": (
        'not isinstance(tensor, Tensor) or not tensor.requires_grad:\n            raise GraphError(\n                f"grad:',
        'False:\n            raise GraphError(\n                f"grad:',
    ),
    # Released and retained
    "nothing is released": ("if not retain:", "if False:"),
    "everything is released": ("if not retain:", "if True:"),
    "released before it is used": (
        "if traced:\n                cotangents =",
        "if not retain:\n                node.inputs = None\n            if traced:\n                cotangents =",
    ),
    "outputs are not released": ("node.inputs = node.output = None", "node.inputs = None"),
    "a released graph is walked by backward": ("if node.inputs is None and all_needed:", "if False:"),
    "a released graph is walked by grad": ("if node.inputs is None:\n                raise", "if False:\n                raise"),
    "a released part that nobody needs is refused": ("_nodes_below(roots, all_needed=targets is None)", "_nodes_below(roots)"),
    "backward ignores retain_graph": (
        "found = walk(roots, None, create_graph, create_graph if retain_graph is None else retain_graph)",
        "found = walk(roots, None, create_graph, create_graph)",
    ),
    "create_graph does not retain": (
        "found = walk(roots, None, create_graph, create_graph if retain_graph is None else retain_graph)",
        "found = walk(roots, None, create_graph, bool(retain_graph))",
    ),
    "grad ignores retain_graph": (
        "set(targets), create_graph, create_graph if retain_graph is None else retain_graph)",
        "set(targets), create_graph, create_graph)",
    ),
    "grad with create_graph does not retain": (
        "set(targets), create_graph, create_graph if retain_graph is None else retain_graph)",
        "set(targets), create_graph, bool(retain_graph))",
    ),
    # Recording the walk
    "the traced walk is not recorded under no_grad": (
        "with enable_grad() if traced else no_grad():\n        for",
        "with enable_grad() if False else no_grad():\n        for",
    ),
    "the traced walk records only if it is on anyway": (
        "with enable_grad() if traced else no_grad():\n        for",
        "if True:\n        for",
    ),
    "the raw walk is recorded": (
        "if traced:\n                cotangents",
        "if True:\n                g = g if isinstance(g, Tensor) else wrap(as_array(g))\n                cotangents",
    ),
    "the gradient of backward loses its graph": (
        "gradient = cotangent if create_graph else wrap(cotangent)",
        "gradient = wrap(cotangent._array if create_graph else cotangent)",
    ),
    "the sum with .grad is not recorded": (
        "with enable_grad() if create_graph else no_grad():\n            owner",
        "with no_grad():\n            owner",
    ),
    "the sum with .grad is always recorded": (
        "with enable_grad() if create_graph else no_grad():\n            owner",
        "with enable_grad():\n            owner",
    ),
    "the gradients of grad lose their graph": (
        "found[node] if create_graph else wrap(found[node]) for",
        "wrap(as_array(found[node])) if not create_graph else found[node].detach() for",
    ),
    # Gathering
    ".grad is overwritten": ("gradient if owner.grad is None else owner.grad + gradient", "gradient"),
    ".grad is added into in place": (
        "owner.grad = gradient if owner.grad is None else owner.grad + gradient",
        "if owner.grad is None:\n                owner.grad = gradient\n"
        "            else:\n                np.add(owner.grad._array, gradient._array, out=owner.grad._array)",
    ),
    "a leaf that is gone is not passed over": (
        "if owner is None:\n            continue",
        "if owner is None:\n            raise GraphError",
    ),
    # Where it begins
    "an output given twice counts once": ("roots[node] = g if node not in roots else roots[node] + g", "roots[node] = g"),
    "the sum of an output's cotangents is not recorded": (
        "with enable_grad() if traced else no_grad():\n            g = _seed",
        "with no_grad():\n            g = _seed",
    ),
    "outputs without a graph are taken": ("if not isinstance(output, Tensor) or not output.requires_grad:", "if False:"),
    "several elements need no cotangent": ("if output.size != 1:", "if False:"),
    "one element of any shape needs one": ("if output.size != 1:", "if output.shape != ():"),
    "the cotangent begins with 0": ("np.ones_like(output._array)", "np.zeros_like(output._array)"),
    "a cotangent of any shape is taken": ("if gradient.shape != output.shape:", "if False:"),
    "a cotangent of any dtype is taken": ("gradient if gradient.dtype == output.dtype else gradient.astype(output.dtype)", "gradient"),
    "the cotangent is a constant": (
        "return gradient if traced else gradient._array\n",
        "return gradient.detach() if traced else gradient._array\n",
    ),
    "a cotangent on another device is taken": ("if gradient.device != output.device:", "if False:"),
    "an array is a list of cotangents": ("if isinstance(grad_outputs, (list, tuple)):", "if grad_outputs is not None:"),
    "any number of cotangents is taken": (
        "if len(given) != len(outputs):",
        "given = (given * len(outputs))[: len(outputs)]\n    if False:",
    ),
    # Hooks and anomalies
    "hooks are not called": ("if node.hooks:", "if False:"),
    "what a hook returns is not used": ('g = fit(changed if traced else changed._array, node, "a hook")', "pass"),
    "only the first hook is called": ("list(node.hooks.values())", "list(node.hooks.values())[:1]"),
    "a hook sees a constant": ("hook(g if traced else wrap(as_array(g)))", "hook(g.detach() if traced else wrap(as_array(g)))"),
    "a hook may give another shape": ("if not isinstance(changed, Tensor) or changed.shape != node.shape:", "if False:"),
    "anomalies pass": ("if watched:", "if False:"),
    "an infinity is no anomaly": ("np.all(np.isfinite(part))", "not np.any(np.isnan(part))"),
    "every anomaly is called nan": ('else "inf"', 'else "nan"'),
}

PRIMITIVE = {
    "recording under no_grad": ("if not (any(edges) and mode.enabled) or", "if not any(edges) or"),
    "integers carry a graph": ('or output.dtype.kind in "biu":', 'or output.dtype.kind in "":'),
    "complex numbers carry a graph": ('if output.dtype.kind == "c":', "if False:"),
    "only the first rule's values are kept": ("reads |= self.reads_of(i) if", "reads = self.reads_of(i) if"),
    "everything is kept": ("reads |= self.reads_of(i) if edge is not None else 0", "reads = -1"),
    "the output is always kept": (
        "kept, output if reads & 1 else None, output)\n        if mode.anomaly",
        "kept, output, output)\n        if mode.anomaly",
    ),
    "a user's array is not copied": (
        'return value.copy() if value is user and hasattr(value, "__array_function__") else value',
        "return value",
    ),
    "lists of indices are not copied": ("return (tuple if isinstance(value, tuple) else list)(map(_own, value))", "return value"),
    "arrays of indices are not copied": (
        'return value.copy() if hasattr(value, "__array_function__") else value\n\n\nclass',
        "return value\n\n\nclass",
    ),
    "rules that nobody asks for are called": ("None if rule is None or edge is None else rule", "None if rule is None else rule"),
    "a rule may give too few cotangents": ("if len(cotangents) != len(inputs):", "if False:"),
    "the traced walk sees constants": (
        'wrap(value, edge) if hasattr(value, "__array_function__") else value',
        'wrap(value) if hasattr(value, "__array_function__") else value',
    ),
    "the traced walk sees a constant output": ("wrap(self.output, self)", "wrap(self.output)"),
    "plain arrays are taken for Tensors": ("c if c is None or isinstance(c, Tensor) else wrap(as_array(c))", "c"),
    "no line is noted": ("if mode.anomaly:", "if False:"),
    "one input: recording whatever the mode": (
        "if edge is None or output.dtype is not edge.dtype or not mode.usual:\n            return self.remember(output, (x,)",
        "if edge is None or output.dtype is not edge.dtype:\n            return self.remember(output, (x,)",
    ),
    "one input: integers carry a graph": (
        "if edge is None or output.dtype is not edge.dtype or not mode.usual:\n            return self.remember(output, (x,)",
        "if edge is None or not mode.usual:\n            return self.remember(output, (x,)",
    ),
    "one input: everything is kept": ("kept = (value,) if reads & 2 else _UNREAD\n", "kept = (value,)\n"),
    "one input: nothing is kept": ("kept = (value,) if reads & 2 else _UNREAD\n", "kept = _UNREAD\n"),
    "one input: the output is always kept": (
        "edge, None, None, kept, output if reads & 1 else None, output)",
        "edge, None, None, kept, output, output)",
    ),
    "one input: parameters do not reach the rule": ("rule(g, y, x, **params) if params else rule(g, y, x)", "rule(g, y, x)"),
    "two inputs: recording whatever the mode": (
        "if edge is None or output.dtype is not edge.dtype or not mode.usual:\n            return self.remember(output, (a, b)",
        "if edge is None or output.dtype is not edge.dtype:\n            return self.remember(output, (a, b)",
    ),
    "two inputs: edges exchanged": ("left, right, (), kept", "right, left, (), kept"),
    "two inputs: the left edge is lost": ("left, right, (), kept", "None, right, (), kept"),
    "two inputs: values exchanged": ("(a, b), (left, right) = inputs, self.rules", "(b, a), (left, right) = inputs, self.rules"),
    "two inputs: rules exchanged": ("(a, b), (left, right) = inputs, self.rules", "(a, b), (right, left) = inputs, self.rules"),
    "two inputs: only what the left rule reads is kept": ("reads = reads_left | reads_right", "reads = reads_left"),
    "two inputs: only what the right rule reads is kept": ("reads = reads_left | reads_right", "reads = reads_right"),
    "two inputs: what the right rule reads is kept for the left": ("reads = reads_left\n", "reads = reads_left | reads_right\n"),
    "two inputs: what the left rule reads is kept for the right": ("reads = reads_right\n", "reads = reads_left | reads_right\n"),
    "two inputs: the output is always kept": ("(), kept, output if reads & 1 else None, output)", "(), kept, output, output)"),
    "two inputs: the output is never kept": ("(), kept, output if reads & 1 else None, output)", "(), kept, None, output)"),
    "two inputs: a left rule that is not asked for is called": ("return edges[0] and left(", "return left("),
    "two inputs: a right rule that is not asked for is called": ("edges[1] and right(", "right("),
    "two inputs: parameters do not reach the rules": ("if params:\n            left, right", "if False:\n            left, right"),
}

TABLES: list[tuple[ModuleType, dict[str, tuple[str, str]]]] = [(walk, WALK), (sys.modules[Primitive.__module__], PRIMITIVE)]
ROWS = [(module, name, *change) for module, table in TABLES for name, change in table.items()]


SLOW = (
    test_walk.test_a_chain_of_200000_nodes,
    test_walk.test_a_chain_that_is_never_walked_is_freed,
    test_walk.test_cost_is_linear,
    test_dtypes.test_the_default_dtype,
)
MODULES = [test_walk, test_corners, test_memory, test_mutation, test_grad_modes, test_dtypes, test_hooks, test_function]


TRIALS = [
    *trials_of(*(check for module in MODULES for check in checks_in(module, *SLOW))),
    *trials_of(*(np.errstate(all="ignore")(check) for check in checks_in(test_anomaly))),
    *trials_of(
        test_primitives.test_a_rule_may_give_a_constant_as_a_plain_array,
        test_primitives.test_a_rule_with_too_few_cotangents_is_named,
        test_primitives.test_a_cotangent_of_an_impossible_shape_is_refused,
        on_the_stand_in(test_devices.test_the_cotangent_must_be_on_the_same_device),
    ),
    *(
        Trial(f"{check.__name__} {each.name}", lambda check=check, each=each: check(each.call, each.inputs))
        for check in (check_first, check_second)
        for each in CASES[:40:4]
    ),
]


@functools.cache
def passing() -> list[Trial]:
    """The tests that may judge: one that fails anyway would kill every mutant."""
    nothing = Mutant("as it is", lambda _patch: None)
    return [trial for trial in TRIALS if judge(nothing, [trial]) is None]


@pytest.mark.parametrize(("module", "name", "old", "new"), ROWS, ids=[name for _, name, *_ in ROWS])
def test_every_fault_is_found(module: ModuleType, name: str, old: str, new: str) -> None:
    killer = judge(edited(module, name, old, new), passing())
    made, killed, _ = SCORES.get((module.__name__, "by hand"), (0, 0, 0))
    SCORES[module.__name__, "by hand"] = made + 1, killed + (killer is not None), 0
    assert killer is not None


def test_the_walk_itself_survives() -> None:
    passed = {trial.name for trial in passing()}
    assert [trial.name for trial in TRIALS if trial.name not in passed] == []


def test_a_change_that_changes_nothing_survives() -> None:
    harmless = edited(walk, "another spelling", "seen = set(roots)", "seen = {*roots}")
    assert judge(harmless, passing()) is None


def test_a_text_that_is_not_there_is_refused() -> None:
    with pytest.raises(AssertionError, match="0 places"):
        edited(walk, "nothing", "this text is not in the walk", "")
