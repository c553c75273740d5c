"""Rules with one slip, made from right rules."""

import inspect
from functools import wraps

from minitensor.nn.derivation.expression import reads


def changed(rule, change, *extra):
    """The rule followed by ``change(value, *extra)``, where ``extra`` names more that is read."""
    names = reads(rule)
    more = [name for name in extra if name not in names]

    @wraps(rule)
    def slip(*args):
        env = dict(zip((*names, *more), args, strict=True))
        return change(rule(*(env[name] for name in names)), *(env[name] for name in extra))

    slip.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (*names, *more)])
    return slip


def without(rule, name):
    """The rule with 1 in the place of what it reads by that name."""
    names = reads(rule)

    @wraps(rule)
    def slip(*args):
        return rule(*(arg * 0 + 1 if each == name else arg for each, arg in zip(names, args, strict=True)))

    slip.__signature__ = inspect.signature(rule)
    return slip


def factors(derivation, step, rule):
    """The nodes, besides the adjoint, that a rule reads."""
    known = {*derivation.leaves, *derivation.by_name, "m"}
    return [name for name in reads(rule) if name in known]


def slips(derivation, edge):
    """Of one rule, each generic slip by its name."""
    step, parent = edge
    rule = derivation.rules[edge]
    found = {
        "twice": changed(rule, lambda made: made * 2),
        "sign": changed(rule, lambda made: -made),
        "times m": changed(rule, lambda made, m: made * m, "m"),
        "one term more": changed(rule, lambda made, node: made + node, parent),
    }
    return found | {f"without {name}": without(rule, name) for name in factors(derivation, step, rule)}
