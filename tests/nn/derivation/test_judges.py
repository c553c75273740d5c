"""Five judges, who call right what is right, and wrong what is not: at that edge, and nowhere else."""

import sys
from functools import cache

import numpy as np
import pytest
from slips import changed, slips

from minitensor.nn.derivation import DERIVATIONS, Derivation, instance_norm, softmax, softmax_cross_entropy, step
from minitensor.nn.derivation.judges import JUDGES, Autograd, ComplexStep, Differences, Proof, Rationals

NAMES = sorted(DERIVATIONS)
BOTH = [pytest.param(judge, name, id=f"{judge}-{name}") for judge in JUDGES for name in NAMES]


@cache
def judge(kind, name):
    """A judge, who keeps what it found out about the right derivation."""
    return JUDGES[kind](DERIVATIONS[name])


def total(v, axes):
    return np.sum(v, axis=axes, keepdims=True)


def not_right(rows):
    return [(row.name, row.verdict, row.reason) for row in rows if row.verdict != "right"]


def verdicts(rows):
    return {row.name: row.verdict for row in rows}


def wrong(rows):
    return [row.name for row in rows if row.verdict == "WRONG"]


def one_step(forward, rule, **leaves):
    """y = forward(x), of one leaf."""
    return Derivation("one_step", {"x": (2, "m"), **leaves}, (step("y", forward, x=rule),))


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_what_is_right_is_right(kind, name):
    derivation, opinion = DERIVATIONS[name], judge(kind, name)
    rows = opinion.edges(derivation.rules)
    rows += opinion.closed_forms(derivation.closed_form) + opinion.double_backward(derivation.double_backward)
    assert not_right(rows) == []
    assert len(rows) == len(derivation.edges) + len(derivation.closed_form) + len(derivation.double_backward)
    errors = [row.error for row in rows]
    assert errors == [None] * len(rows) if kind == "proof" else max(errors) < (1e-10 if kind == "differences" else 1e-14)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in JUDGES if kind != "proof" for name in NAMES])
def test_what_is_right_is_right_cumulatively(kind, name):
    assert not_right(judge(kind, name).edges(DERIVATIONS[name].rules, carried=False)) == []


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("kind", ["autograd", "differences", "complex step", "exact"])
def test_other_numbers_do_not_change_a_verdict(kind, seed):
    opinion = JUDGES[kind](instance_norm, seed)
    assert not_right(opinion.edges(instance_norm.rules)) == []
    assert wrong(opinion.edges({**instance_norm.rules, ("q", "c"): lambda q_bar, c: c * q_bar})) == ["q -> c"]


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_every_slip_is_seen_where_it_is_and_only_there(kind, name):
    """The slips of one round stand at every other edge: if a slip spoilt a neighbour, or hid, the rows would not alternate."""
    derivation, opinion = DERIVATIONS[name], judge(kind, name)
    known = {edge: list(slips(derivation, edge).items()) for edge in derivation.edges}
    for first in (0, 1):
        chosen = derivation.edges[first::2]
        for k in range(max(len(known[edge]) for edge in chosen)):
            planted = {edge: known[edge][k] for edge in chosen if k < len(known[edge])}
            rows = opinion.edges({**derivation.rules, **{edge: slip for edge, (_, slip) in planted.items()}})
            expected = {" -> ".join(edge): "WRONG" if edge in planted else "right" for edge in derivation.edges}
            assert verdicts(rows) == expected, {" -> ".join(edge): what for edge, (what, _) in planted.items()}


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize("edge", instance_norm.edges, ids=" -> ".join)
def test_a_single_slip_spoils_no_other_line(kind, edge):
    slip = changed(instance_norm.rules[edge], lambda made: made * 3)
    assert wrong(judge(kind, "instance_norm").edges({**instance_norm.rules, edge: slip})) == [" -> ".join(edge)]


SLIPS = {
    "2 missing": {("q", "c"): lambda q_bar, c: c * q_bar},
    "1/2 missing": {("s", "v"): lambda s_bar, s: s_bar / s},
    "sign of d(1/s)": {("r", "s"): lambda r_bar, s: r_bar / (s * s)},
    "mean path dropped": {("c", "mu"): lambda c_bar, axes: 0 * total(c_bar, axes)},
    "unbiased": {("v", "q"): lambda v_bar, m: v_bar / (m - 1)},
    "c forgotten in d r": {("x_hat", "r"): lambda x_hat_bar, axes: total(x_hat_bar, axes)},
    "sign of the mean": {("c", "mu"): lambda c_bar, axes: total(c_bar, axes)},
}
BELOW_R = "r -> s, s -> v, s -> eps, v -> q, q -> c, c -> x"


@pytest.mark.parametrize("kind", ["autograd", "differences", "complex step", "exact"])
@pytest.mark.parametrize(
    ("planted", "right", "cumulative", "carried"),
    [
        (["2 missing"], False, "q -> c, c -> x", "q -> c"),
        (["1/2 missing"], False, "s -> v, v -> q, q -> c, c -> x", "s -> v"),
        (["sign of d(1/s)"], False, BELOW_R, "r -> s"),
        (["mean path dropped"], False, "c -> mu, mu -> x", "c -> mu"),
        (["unbiased"], False, "v -> q, q -> c, c -> x", "v -> q"),
        (["c forgotten in d r"], False, f"x_hat -> r, {BELOW_R}", "x_hat -> r"),
        (["2 missing", "1/2 missing"], True, "s -> v, v -> q", "s -> v, q -> c"),
        (["sign of the mean", "unbiased"], False, "v -> q, q -> c, c -> x, c -> mu, mu -> x", "v -> q, c -> mu"),
    ],
    ids=str,
)
def test_two_modes(kind, planted, right, cumulative, carried):
    rules = {edge: rule for name in planted for edge, rule in SLIPS[name].items()}
    opinion = judge(kind, "instance_norm")
    for mode, expected in ((True, carried), (False, cumulative)):
        assert ", ".join(wrong(opinion.edges({**instance_norm.rules, **rules}, carried=mode))) == expected
    (point,) = judge("autograd", "instance_norm").points
    dx, truth = (instance_norm.backward(point.env, point.g, given)[0]["x"] for given in (rules, {}))
    assert np.allclose(dx, truth) == right


def test_a_proof_knows_only_the_carried_mode():
    rows = judge("proof", "instance_norm").edges(instance_norm.rules, carried=False)
    assert {row.verdict for row in rows} == {"not judged"}
    assert "by itself" in rows[0].reason


def judged(opinion, part, forms):
    return (opinion.closed_forms if part == "closed form" else opinion.double_backward)(forms)


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize(
    "factor",
    [
        pytest.param(lambda m: m - 1, id="right at m = 2 only"),
        pytest.param(lambda m: m - 2, id="right at m = 3 only"),
        pytest.param(lambda m: -1, id="sign"),
    ],
)
def test_a_wrong_form_is_wrong(kind, factor):
    derivation = DERIVATIONS["rms_norm"]
    for part, forms in (("closed form", derivation.closed_form), ("double backward", derivation.double_backward)):
        slipped = {name: changed(form, lambda made, m: made * factor(m), "m") for name, form in forms.items()}
        assert {row.verdict for row in judged(judge(kind, "rms_norm"), part, slipped)} == {"WRONG"}


@pytest.mark.parametrize("kind", JUDGES)
def test_a_form_with_a_wrong_third_term_is_wrong(kind):
    def dx(x, gamma, eps, g, axes, m):
        r = 1 / np.sqrt(total(x * x, axes) / m + eps)
        return r * (gamma * g - 2 * x * r * total(gamma * g * x * r, axes) / m)

    def ddx(x, gamma, eps, g, u, axes, m):  # the last of three terms has a sign too many
        r = 1 / np.sqrt(total(x * x, axes) / m + eps)
        x_hat, h = x * r, gamma * g
        a, b, k = (total(v, axes) / m for v in (u * x_hat, h * x_hat, u * h))
        ju, jh = r * (u - x_hat * a), r * (h - x_hat * b)
        return -r * (r * x_hat * (k - a * b) + b * ju - a * jh)

    opinion = judge(kind, "rms_norm")
    assert wrong(opinion.closed_forms({"x": dx})) == ["closed form of x"]
    assert wrong(opinion.double_backward({"x": ddx})) == ["double backward: x"]


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize("name", ["softmax", "softmax_cross_entropy"])
def test_a_wrong_form_of_softmax_is_wrong(kind, name):
    opinion, derivation = judge(kind, name), DERIVATIONS[name]
    for part, forms in (("closed form", derivation.closed_form), ("double backward", derivation.double_backward)):
        slipped = {leaf: changed(form, lambda made: made * 2) for leaf, form in forms.items()}
        cannot_tell = kind == "exact" and name != "softmax"  # an exp and a log are two numbers without a relation
        assert {row.verdict for row in judged(opinion, part, slipped)} == {"not judged" if cannot_tell else "WRONG"}


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda q_bar, c: None, "not written yet"),
        (lambda q_bar, c: ..., "not written yet"),
        (lambda q_bar, c: c[7, 7, 7, 7], "IndexError"),
        (lambda q_bar, c: c.nothing, "AttributeError"),
        (lambda q_bar, c: np.concatenate([c, c]), "does not fit its parent"),
        (lambda q_bar, c: 2 * c * q_bar / 0, "nan or inf"),
        (lambda q_bar, c: 2j * c * q_bar, "not real numbers"),
        (lambda q_bar, c: "2 c", "not real numbers"),
    ],
    ids=["None", "...", "IndexError", "AttributeError", "shape", "inf", "complex", "text"],
)
def test_a_rule_that_gives_no_contribution_is_wrong(kind, rule, reason):
    rows = judge(kind, "instance_norm").edges({**instance_norm.rules, ("q", "c"): rule})
    assert wrong(rows) == ["q -> c"]
    assert reason in next(row.reason for row in rows if row.verdict == "WRONG")


def unwritten(e_bar):
    raise NotImplementedError


@pytest.mark.parametrize("kind", JUDGES)
def test_a_rule_that_says_so_is_not_written_yet(kind):
    rows = judge(kind, "softmax").edges({**softmax.rules, ("e", "x"): unwritten})
    assert [(row.name, row.reason) for row in rows if row.verdict == "WRONG"] == [("e -> x", "not written yet")]


@pytest.mark.parametrize("kind", ["autograd", "differences", "complex step", "exact"])
def test_what_comes_after_a_rule_that_gives_nothing_has_no_adjoint(kind):
    rows = judge(kind, "instance_norm").edges({**instance_norm.rules, ("r", "s"): lambda r_bar: ...}, carried=False)
    found = {row.name: (row.verdict, row.reason) for row in rows}
    assert found["r -> s"] == ("WRONG", "not written yet")
    assert found["s -> v"] == ("not judged", "no adjoint of s came this far")
    assert found["c -> x"][0] == "WRONG"


@pytest.mark.parametrize("kind", ["exact", "proof"])
def test_what_these_numbers_cannot_do_is_no_mistake(kind):
    rules = {**instance_norm.rules, ("q", "c"): lambda q_bar, c: 2 * np.asarray(c, np.float64) * q_bar}
    (row,) = (row for row in judge(kind, "instance_norm").edges(rules) if row.verdict != "right")
    assert (row.name, row.verdict) == ("q -> c", "not judged")
    assert {row.verdict for row in judge("autograd", "instance_norm").edges(rules)} == {"right"}


@pytest.mark.parametrize("kind", JUDGES)
def test_a_rule_that_writes_into_what_it_reads_spoils_nothing(kind):
    def rule(e_bar, e):
        e_bar *= e
        e *= 0
        return e_bar

    opinion = JUDGES[kind](softmax)  # one that no other test shares
    for _ in range(2):
        assert not_right(opinion.edges({**softmax.rules, ("e", "x"): rule})) == []


def centred(x, axes):
    return x - np.mean(x, axis=axes, keepdims=True)


def standard(variance):
    """y = (x - mean(x)) / sqrt(variance(x) + eps) in one step, with its right rule."""

    def rule(y_bar, x, eps, axes, m):
        c = centred(x, axes)
        r = 1 / np.sqrt(total(c * c, axes) / m + eps)
        return r * (centred(y_bar, axes) - c * r * total(y_bar * c * r, axes) / m)

    return Derivation(
        "standard",
        leaves={"x": (2, "m"), "eps": ()},
        constants={"axes": (1,)},
        positive={"eps"},
        steps=(
            step(
                "y",
                lambda x, eps, axes: centred(x, axes) / np.sqrt(variance(x, axes) + eps),
                x=rule,
                eps=lambda y_bar, y, x, eps, axes: -np.sum(y_bar * y / (variance(x, axes) + eps)) / 2,
            ),
        ),
    )


LOSSY = {
    "np.var": lambda x, axes: np.var(x, axis=axes, keepdims=True),
    "np.abs": lambda x, axes: np.mean(np.abs(centred(x, axes)) ** 2, axis=axes, keepdims=True),
    ".real": lambda x, axes: np.mean(centred(x, axes).real ** 2, axis=axes, keepdims=True),
    ".conj()": lambda x, axes: np.mean(centred(x, axes) * centred(x, axes).conj(), axis=axes, keepdims=True),
    "a cast": lambda x, axes: np.mean(centred(np.asarray(x, np.float64), axes) ** 2, axis=axes, keepdims=True),
    "float()": lambda x, axes: np.array([[np.mean([(float(a) - float(sum(row)) / len(row)) ** 2 for a in row])] for row in x]),
}


@pytest.mark.parametrize("lossy", LOSSY)
def test_the_complex_step_refuses_what_drops_the_imaginary_part(lossy):
    """Only a part of y goes that way, so that the derivative would be wrong, but not 0."""
    derivation = standard(LOSSY[lossy])
    wrong_rule = {**derivation.rules, ("y", "x"): lambda y_bar, x: y_bar}
    for rules in (derivation.rules, wrong_rule):
        found = {row.name: row for row in ComplexStep(derivation).edges(rules)}
        assert found["y -> x"].verdict == "not judged"
        assert found["y -> eps"].verdict == "right"  # whose way is open
    assert verdicts(Differences(derivation).edges(wrong_rule)) == {"y -> x": "WRONG", "y -> eps": "right"}
    analytic = standard(lambda x, axes: np.mean(centred(x, axes) ** 2, axis=axes, keepdims=True))
    assert not_right(ComplexStep(analytic).edges(analytic.rules)) == []


def test_only_the_edges_above_a_lossy_step_are_refused():
    variance = step("v", LOSSY["np.var"], x=lambda v_bar, c, m: 2 * v_bar * c / m)
    steps = [variance if each.name == "v" else each for each in instance_norm.steps if each.name != "q"]
    derivation = Derivation("with_var", instance_norm.leaves, steps, constants=instance_norm.constants, positive={"eps"})
    found = verdicts(ComplexStep(derivation).edges(derivation.rules))
    assert found.pop("v -> x") == "not judged"
    assert set(found.values()) == {"right"}
    for kind in (Autograd, Differences, Rationals, Proof):
        assert not_right(kind(derivation).edges(derivation.rules)) == []


def test_differences_know_when_they_know_nothing():
    derivation = one_step(lambda x: np.sin(1e9 * x), lambda y_bar, x: 1e9 * np.cos(1e9 * x) * y_bar)
    (row,) = Differences(derivation).edges(derivation.rules)
    assert row.verdict == "not judged"
    assert "may be off" in row.reason


def test_autograd_refuses_a_forward_that_leaves_its_world():
    derivation = one_step(lambda x: x * float(np.sum(x * 0) + 2), lambda y_bar: 2 * y_bar)
    assert not_right(Differences(derivation).edges(derivation.rules)) == []
    derivation = one_step(lambda x: np.array([[float(each) for each in row] for row in x]) * 2, lambda y_bar: 2 * y_bar)
    (row,) = Autograd(derivation).edges(derivation.rules)
    assert row.verdict == "not judged"


def test_a_root_that_is_irrational_is_not_judged_exactly():
    derivation = one_step(lambda x: np.sqrt(x * x + 1), lambda y_bar, x, y: y_bar * x / y)
    (row,) = Rationals(derivation).edges(derivation.rules)
    assert (row.verdict, row.reason) == ("not judged", "irrational root in step y")
    assert not_right(Proof(derivation).edges(derivation.rules)) == []


@pytest.mark.parametrize("m", Rationals.sizes)
def test_one_eps_makes_all_roots_rational(m):
    point = Rationals(instance_norm).point(m)
    s = point.env["s"]
    assert np.all(s * s == point.env["v"] + point.leaves["eps"])
    assert point.leaves["eps"].value > 0
    assert len({abs(each) for each in point.leaves["x"].flat}) > 2
    assert any(each.value < 0 for each in point.leaves["x"].flat)


def test_identities_of_exp_are_not_known_exactly_but_proved():
    """e / (p z) is 1 with p = exp(log p); to fractions p is any number, so they cannot tell the right rule from the wrong one."""
    leaves, constants = {"x": (3, "m")}, {"axes": (1,)}
    first = [each for each in softmax_cross_entropy.steps if each.name in ("e", "z", "ell", "log_p")]
    last = step("y", lambda log_p: np.exp(log_p), log_p=lambda y_bar, y: y_bar * y)
    derivation = Derivation("softmax_by_logarithms", leaves, (*first, last), constants=constants)
    for factor, verdict in ((1, "right"), (2, "WRONG")):
        rules = {**derivation.rules, ("z", "e"): lambda z_bar, e, log_p, z: factor * z_bar * e / (np.exp(log_p) * z)}
        found = {kind: verdicts(JUDGES[kind](derivation).edges(rules))["z -> e"] for kind in JUDGES}
        assert found == {**dict.fromkeys(JUDGES, verdict), "exact": "not judged"}


def test_a_rule_may_read_more_than_its_step():
    opinion = judge("proof", "instance_norm")
    for factor, expected in ((1, []), (3, ["s -> v"])):
        rules = {**instance_norm.rules, ("s", "v"): lambda s_bar, r, x, c, mu: factor * s_bar * r / 2 + (x - c - mu)[..., :1]}
        assert wrong(opinion.edges(rules)) == expected


def test_a_proof_says_what_is_too_much():
    rows = judge("proof", "instance_norm").edges({**instance_norm.rules, ("q", "c"): lambda q_bar, c: c * q_bar})
    assert [row.reason for row in rows if row.verdict == "WRONG"] == ["it gives too much by -c[0, 0, 0]*q_bar[0, 0, 0], with m = 2"]


def test_lengths_are_cut_alike_and_told_apart():
    assert Proof(instance_norm).shapes(2) == {"x": (2, 2, 2), "gamma": (1, 2, 1), "beta": (1, 2, 1), "eps": ()}
    assert Proof(instance_norm).shapes(3) == {"x": (2, 1, 3), "gamma": (1, 1, 1), "beta": (1, 1, 1), "eps": ()}


@pytest.mark.parametrize("kind", JUDGES)
def test_a_count_of_the_wrong_axis_is_seen(kind):
    for axis in (0, 1):
        rules = {**instance_norm.rules, ("v", "q"): lambda v_bar, x: v_bar / x.shape[axis]}
        assert wrong(judge(kind, "instance_norm").edges(rules)) == ["v -> q"]


def test_without_sympy_a_proof_is_not_judged(monkeypatch):
    monkeypatch.delitem(sys.modules, "minitensor.nn.derivation.symbolic", raising=False)
    monkeypatch.setitem(sys.modules, "sympy", None)
    (row, *_) = Proof(softmax).edges(softmax.rules)
    assert row.verdict == "not judged"
    assert "pip install" in row.reason


@pytest.mark.parametrize("kind", JUDGES)
def test_a_derivation_of_ones_own(kind):
    l2 = Derivation(
        "l2_normalize",
        leaves={"x": (3, "m"), "eps": ()},
        constants={"axes": (1,)},
        positive={"eps"},
        steps=(
            step("n", lambda x, axes: total(x * x, axes), x=lambda n_bar, x: 2 * x * n_bar),
            step("s", lambda n, eps: np.sqrt(n + eps), n=lambda s_bar, s: s_bar / (2 * s), eps=lambda s_bar, s: np.sum(s_bar / (2 * s))),
            step("y", lambda x, s: x / s, x=lambda y_bar, s: y_bar / s, s=lambda y_bar, x, s, axes: -total(y_bar * x, axes) / (s * s)),
        ),
    )
    opinion = JUDGES[kind](l2)
    assert not_right(opinion.edges(l2.rules)) == []
    for edge in l2.edges:
        assert wrong(opinion.edges({**l2.rules, edge: changed(l2.rules[edge], lambda made: -made)})) == [" -> ".join(edge)]
    assert opinion.closed_forms({}) == opinion.double_backward({}) == []
