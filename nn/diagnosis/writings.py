"""How the backward of a normalisation is written: three programs that compute the same, each line in the spellings that are usual.

A line is a name and its formulas, the first of them the derivation's own; they read what stands above. A mistake is looked for as a small
change in one of these formulas, so what a learner may have spelled must stand here, or be a small change away.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ..derivation.expression import Rule, traced
from ..derivation.faults import PROGRAM
from .program import Writing

COUNTED = ", counted"
Lines = dict[str, tuple[Rule, ...]]


def _sum(v: Any, axes: Any) -> Any:
    return np.sum(v, axis=axes, keepdims=True)


def _mean(v: Any, axes: Any) -> Any:
    return np.mean(v, axis=axes, keepdims=True)


# What is spelled differently in the forward, which a backward usually computes again
_FORWARD: Lines = {
    "mu": (lambda x, axes, m: _sum(x, axes) / m, lambda x, axes, m: 1 / m * _sum(x, axes)),
    "q": (lambda c: c**2,),
    "v": (
        lambda q, axes, m: _sum(q, axes) / m,
        lambda q, axes, m: 1 / m * _sum(q, axes),
        lambda x, axes: np.var(x, axis=axes, keepdims=True),  # which has a mean of its own
    ),
    "s": (lambda v, eps: (v + eps) ** 0.5,),
    "r": (lambda v, eps: (v + eps) ** -0.5, lambda v, eps: 1 / np.sqrt(v + eps)),
    "x_hat": (lambda c, s: c / s, lambda x, mu, s: (x - mu) / s),
}
_CHAIN: Lines = _FORWARD | {
    "x_hat_to_c": (lambda x_hat_bar, s: x_hat_bar / s,),
    "x_hat_to_r": (lambda c, x_hat_bar, axes: _sum(c * x_hat_bar, axes),),
    "r_to_s": (
        lambda r_bar, s: -1 / s**2 * r_bar,
        lambda r_bar, s: -r_bar / s**2,
        lambda r_bar, r: -r_bar * r * r,
        lambda r_bar, r: -r_bar * r**2,
        lambda r_bar, s: -1 / (s * s) * r_bar,
    ),
    "s_to_v": (
        lambda s_bar, s: 0.5 * s_bar / s,
        lambda s_bar, s: 0.5 / s * s_bar,
        lambda s_bar, s: 0.5 * (1 / s) * s_bar,
        lambda s_bar, r: s_bar * 0.5 * r,
        lambda s_bar, v, eps: 0.5 * (v + eps) ** -0.5 * s_bar,
        lambda s_bar, v, eps: 0.5 * 1 / np.sqrt(v + eps) * s_bar,
    ),
    "v_to_q": (lambda v_bar, m: 1 / m * v_bar,),
    "q_to_c": (lambda q_bar, c: 2 * (c * q_bar), lambda q_bar, c: q_bar * 2 * c),
    "x_bar": (lambda x_hat_to_c, q_to_c, mu_to_x: x_hat_to_c + q_to_c + mu_to_x,),
    "c_to_mu": (
        lambda x_hat_to_c, q_to_c, axes: -_sum(x_hat_to_c + q_to_c, axes),
        lambda x_hat_to_c, q_to_c, axes: -1 * _sum(x_hat_to_c + q_to_c, axes),
        lambda c_bar, axes: -1 * _sum(c_bar, axes),
        lambda c_bar, axes: _sum(-c_bar, axes),
    ),
    "mu_to_x": (lambda mu_bar, m: 1 / m * mu_bar,),
}
_HEAD: Lines = {
    "x_hat_bar": (lambda y_bar, gamma: y_bar * gamma,),
    "gamma_bar": (
        lambda y_bar, x_hat, shared: _sum(y_bar * x_hat, shared),
        lambda y_bar, c, r, shared: _sum(y_bar * c * r, shared),
        lambda y_bar, c, s, shared: _sum(y_bar * c / s, shared),
    ),
    "beta_bar": (lambda y_bar, shared: _sum(y_bar, shared),),
}
_COURSE: Lines = _HEAD | {
    "v_bar": (
        lambda x_hat_bar, c, v, eps, axes: _sum(x_hat_bar * c, axes) * -0.5 * (v + eps) ** -1.5,
        lambda x_hat_bar, x, mu, v, eps, axes: _sum(x_hat_bar * (x - mu) * -0.5 * (v + eps) ** -1.5, axes),
        lambda x_hat_bar, c, v, eps, axes: _sum(x_hat_bar * c * (-0.5 * (v + eps) ** -1.5), axes),
        lambda x_hat_bar, c, r, axes: -0.5 * r**3 * _sum(x_hat_bar * c, axes),
        lambda x_hat_bar, c, r, axes: _sum(x_hat_bar * c, axes) * (-0.5) * r * r * r,
    ),
    "direct_mu_bar": (
        lambda x_hat_bar, s, axes: _sum(x_hat_bar * (-1 / s), axes),
        lambda x_hat_bar, s, axes: _sum(-x_hat_bar / s, axes),
        lambda x_hat_bar, r, axes: _sum(-x_hat_bar * r, axes),
        lambda x_hat_bar, r, axes: -r * _sum(x_hat_bar, axes),
        lambda x_hat_bar, v, eps, axes: _sum(x_hat_bar * -1 / np.sqrt(v + eps), axes),
    ),
    "variance_mu_bar": (
        lambda v_bar, c, axes: v_bar * _mean(-2 * c, axes),
        lambda v_bar, c, axes, m: v_bar * _sum(-2 * c, axes) / m,
        lambda v_bar, x, mu, axes, m: v_bar * _sum(-2 * (x - mu), axes) / m,
    ),
    "mu_bar": (lambda direct_mu_bar, variance_mu_bar: direct_mu_bar + variance_mu_bar,),
    "direct": (
        lambda x_hat_bar, r: x_hat_bar * r,
        lambda x_hat_bar, s: x_hat_bar / s,
        lambda x_hat_bar, v, eps: x_hat_bar / np.sqrt(v + eps),
    ),
    "through_v": (
        lambda v_bar, c, m: v_bar * 2 * c / m,
        lambda v_bar, c, m: 2 * c * v_bar / m,
        lambda v_bar, x, mu, m: v_bar * 2 * (x - mu) / m,
        lambda v_bar, c, m: v_bar * (2 / m) * c,
    ),
    "through_mu": (lambda mu_bar, m: mu_bar / m, lambda mu_bar, m: 1 / m * mu_bar),
    "dx": (lambda direct, through_v, through_mu: direct + through_v + through_mu,),
}
_CLOSED: Lines = _HEAD | {
    "sum_h": (lambda x_hat_bar, axes: _sum(x_hat_bar, axes),),
    "sum_h_x_hat": (lambda x_hat_bar, x_hat, axes: _sum(x_hat_bar * x_hat, axes),),
    "bracket": (
        lambda x_hat_bar, x_hat, sum_h, sum_h_x_hat, m: m * x_hat_bar - sum_h - x_hat * sum_h_x_hat,
        lambda x_hat_bar, x_hat, sum_h, sum_h_x_hat, m: m * x_hat_bar - (sum_h + x_hat * sum_h_x_hat),
    ),
    "dx": (
        lambda bracket, r, m: r * bracket / m,
        lambda bracket, r, m: 1 / m * r * bracket,
        lambda bracket, r, m: r / m * bracket,
        lambda bracket, s, m: bracket / (m * s),
        lambda bracket, s, m: 1 / m / s * bracket,
    ),
}
_MEANS: Lines = _HEAD | {
    "mean_h": (lambda x_hat_bar, axes: _mean(x_hat_bar, axes), lambda x_hat_bar, axes, m: _sum(x_hat_bar, axes) / m),
    "mean_h_x_hat": (
        lambda x_hat_bar, x_hat, axes: _mean(x_hat_bar * x_hat, axes),
        lambda x_hat_bar, x_hat, axes, m: _sum(x_hat_bar * x_hat, axes) / m,
    ),
    "bracket": (
        lambda x_hat_bar, x_hat, mean_h, mean_h_x_hat: x_hat_bar - mean_h - x_hat * mean_h_x_hat,
        lambda x_hat_bar, x_hat, mean_h, mean_h_x_hat: x_hat_bar - (mean_h + x_hat * mean_h_x_hat),
    ),
    "dx": (lambda bracket, r: r * bracket, lambda bracket, s: bracket / s),
}


# Of BatchNorm alone, in which gamma is shared by just what is normalised together
_PARAMETERS: Lines = _HEAD | {
    "bracket": (
        lambda y_bar, x_hat, gamma_bar, beta_bar, m: m * y_bar - beta_bar - x_hat * gamma_bar,
        lambda y_bar, x_hat, gamma_bar, beta_bar, m: m * y_bar - (beta_bar + x_hat * gamma_bar),
    ),
    "dx": (
        lambda bracket, gamma, r, m: gamma * r * bracket / m,
        lambda bracket, gamma, s, m: gamma / (m * s) * bracket,
        lambda bracket, gamma, r, m: 1 / m * gamma * r * bracket,
        lambda bracket, gamma, r, m: gamma * r / m * bracket,
    ),
}


def _written(lines: Mapping[str, Rule], more: Lines) -> Writing:
    return {name: tuple(map(traced, (rule, *more.get(name, ())))) for name, rule in lines.items()}


@cache
def writings(layer: str) -> dict[str, Writing]:
    """The programs by their names: the derivation's chain of steps, the course's three partial derivatives, and two closed forms.

    Each of them again with the means of the forward as sums over m, where a wrong m spoils all.
    """
    forward = {name: rule for name, rule in PROGRAM.items() if name in ("mu", "c", "q", "v", "s", "r", "x_hat", "y")}
    found = {"chain": _written({key: rule for key, rule in PROGRAM.items() if key not in ("s_to_eps", "eps_bar")}, _CHAIN)}
    closed = {"course": _COURSE, "closed": _CLOSED, "means": _MEANS} | ({"parameters": _PARAMETERS} if layer == "batch_norm" else {})
    for name, lines in closed.items():
        first, more = {key: formulas[0] for key, formulas in lines.items()}, {key: formulas[1:] for key, formulas in lines.items()}
        found[name] = _written({**forward, **first}, {**_FORWARD, **more})
    count = {"m": (traced(_COUNTS[layer]),)}
    return {
        name: count | {line: (*formulas[1:], formulas[0]) if line in counted else formulas for line, formulas in program.items()}
        for program_name, program in found.items()
        for name, counted in ((program_name, ()), (program_name + COUNTED, ("mu", "v", "mean_h", "mean_h_x_hat")))
    }


_COUNTS: dict[str, Rule] = {
    "instance_norm": lambda H, W: H * W,
    "batch_norm": lambda N: N * 1,
    "layer_norm": lambda C: C * 1,
    "group_norm": lambda C, G, H, W: C / G * H * W,
}
