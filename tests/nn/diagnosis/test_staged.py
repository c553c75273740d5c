"""Which edges fail, from staged adjoints: planted slips are found where they are, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from hand_ins import HAND_INS

from minitensor.nn.derivation import instance_norm
from minitensor.nn.derivation.expression import reads
from minitensor.nn.diagnosis.learner import Learner, Outcome
from minitensor.nn.diagnosis.probes import LAYERS, probes
from minitensor.nn.diagnosis.program import environment
from minitensor.nn.diagnosis.staged import failing_edges

EDGES = [edge for edge in instance_norm.edges if edge[1] != "eps"]  # nobody returns the gradient of eps
layers = pytest.mark.parametrize("layer", LAYERS)
edges = pytest.mark.parametrize("edge", EDGES, ids="_to_".join)


def times(edge, factor):
    """The rule of an edge, times a number or a function of the nodes."""
    rule = instance_norm.rules[edge]
    names = (*reads(rule), *(name for name in ("s", "m", "gamma") if name not in reads(rule)))
    body = f"lambda {', '.join(names)}: rule({', '.join(reads(rule))}) * ({factor})"
    return {edge: eval(body, {"rule": rule})}


def misread(edge, name, other):
    """The rule of an edge, with another node in the place of one that it reads."""
    rule = instance_norm.rules[edge]
    names = [each for each in reads(rule) if each != name]
    given = ", ".join(each if each != name else other for each in reads(rule))
    return {edge: eval(f"lambda {', '.join({*names, other})}: rule({given})", {"rule": rule})}


def outcomes(layer, rules, returned=lambda name: True, shaped=lambda array: array[0]):
    """What a function returns whose rules are these, and right elsewhere, on all probes."""
    found = []
    for probe in probes(layer):
        leaves = environment(probe)
        derivation = replace(instance_norm, constants={name: leaves[name] for name in ("axes", "shared")})
        bars, _ = derivation.backward(derivation.forward({name: leaves[name] for name in derivation.leaves}), leaves["y_bar"], rules)
        shapes = {"dx": probe.x.shape, "dgamma": probe.gamma.shape, "dbeta": probe.beta.shape}
        gradients = {name: bars[name[1:]].reshape(shape) for name, shape in shapes.items()}
        steps = [name for name in derivation.by_name if name != "y" and returned(name)]
        found.append(Outcome(**gradients, adjoints={f"{name}_bar": shaped(bars[name]) for name in steps}))
    return found


def failing(layer, rules, **how):
    return failing_edges(layer, probes(layer), outcomes(layer, rules, **how))


@layers
def test_what_is_right_fails_nowhere(layer):
    assert failing(layer, {}) == []


@layers
@edges
@pytest.mark.parametrize("factor", ["2", "-1", "0", "m", "1 / m", "m / (m - 1)", "1 + 1e-5"])
def test_a_slip_in_a_factor_is_found_where_it_is_and_only_there(layer, edge, factor):
    assert failing(layer, times(edge, factor)) == [edge]


@layers
@pytest.mark.parametrize(
    ("edge", "name", "other"),
    [
        (("q", "c"), "c", "x"),
        (("q", "c"), "c", "x_hat"),
        (("x_hat", "c"), "r", "s"),
        (("x_hat", "c"), "r", "v"),
        (("x_hat", "r"), "c", "x"),
        (("r", "s"), "s", "r"),
        (("s", "v"), "s", "v"),
        (("y", "x_hat"), "gamma", "beta"),
        (("y", "gamma"), "x_hat", "c"),
    ],
)
def test_a_slip_in_what_is_read(layer, edge, name, other):
    assert failing(layer, misread(edge, name, other)) == [edge]


@layers
@pytest.mark.parametrize("edge", [("c", "mu"), ("x_hat", "r")])
def test_a_sum_that_was_forgotten(layer, edge):
    """The adjoint then has the shape of x, and all steps after it have."""
    found = []
    for probe, outcome in zip(probes(layer), outcomes(layer, {}), strict=True):
        bars = {name.removesuffix("_bar"): array for name, array in outcome.adjoints.items()}
        env = environment(probe)
        c = env["x"][0] - env["x"][0].mean(axis=env["axes"], keepdims=True)
        wrong = -bars["c"] if edge[1] == "mu" else bars["x_hat"] * c
        found.append(replace(outcome, adjoints={"c": bars["c"], "x_hat": bars["x_hat"], edge[1]: wrong}))
    assert edge in failing_edges(layer, probes(layer), found)
    assert {step for step, _ in failing_edges(layer, probes(layer), found)} <= {edge[0], edge[1], "r", "s", "v", "q", "mu"}


@layers
@pytest.mark.parametrize("first", [0, 3, 6, 9])
def test_two_slips_are_both_found(layer, first):
    for second in range(first + 1, len(EDGES)):
        rules = times(EDGES[first], "3") | times(EDGES[second], "-1 / 2")
        assert failing(layer, rules) == [EDGES[first], EDGES[second]]


@layers
def test_slips_that_cancel_are_both_found(layer):
    """The 2 of d(c c) and the 1/2 of the root: dx is right without both."""
    rules = times(("q", "c"), "1 / 2") | times(("s", "v"), "2")
    for wrong, right in zip(outcomes(layer, rules), outcomes(layer, {}), strict=True):
        np.testing.assert_allclose(wrong.dx, right.dx, rtol=1e-12)
    assert failing(layer, rules) == [("s", "v"), ("q", "c")]


@layers
def test_what_no_edge_explains_alone_is_told_of_all_that_come_together(layer):
    assert failing(layer, times(("q", "c"), "s ** 3 + 1")) == [("x_hat", "c"), ("q", "c")]


@layers
def test_between_adjoints_that_are_given_all_steps_are_suspected(layer):
    def some(name):
        return name in ("x_hat", "v", "mu")

    assert failing(layer, {}, returned=some) == []
    assert failing(layer, times(("r", "s"), "-1"), returned=some) == [("x_hat", "r"), ("r", "s"), ("s", "v")]
    # v -> q -> c stands apart from x_hat -> c, and both lead to mu and to x
    found = failing(layer, times(("q", "c"), "1 / 2"), returned=some)
    assert ("q", "c") in found
    assert {*found} <= {("v", "q"), ("q", "c")}


def rows(array):
    """(slices, elements of each) of images."""
    return array.reshape(-1, array.shape[-1] * array.shape[-2])


ARRANGED = [
    *((layer, np.squeeze) for layer in LAYERS),
    *((layer, np.transpose) for layer in ("batch_norm", "layer_norm")),
    *(("instance_norm", shaped) for shaped in (rows, lambda array: rows(array).T)),
]


@pytest.mark.parametrize(("layer", "shaped"), ARRANGED)
def test_any_arrangement_of_the_axes(layer, shaped):
    def read(array):
        return shaped(array[0])

    assert failing(layer, {}, shaped=read) == []
    for edge in (("v", "q"), ("c", "mu")):
        assert failing(layer, times(edge, "m"), shaped=read) == [edge]


@pytest.mark.parametrize("spelled", ["mu", "mu_bar", "dmu", "d_mu", "Mu"])
def test_names(spelled):
    found = outcomes("batch_norm", times(("c", "mu"), "-1"))
    named = [replace(each, adjoints={spelled: each.adjoints["mu_bar"], "c": each.adjoints["c_bar"]}) for each in found]
    assert failing_edges("batch_norm", probes("batch_norm"), named) == [("c", "mu")]


def test_what_is_no_adjoint_is_not_judged():
    """Nodes of the forward, unknown names, unknown shapes, no staged adjoints, no gradients at all."""
    given, found = probes("batch_norm"), outcomes("batch_norm", times(("mu", "x"), "-1"))
    others = [{}, {"mu": [probe.x.mean(axis=0) for probe in given]}, {"dt": [np.ones(3)] * 5}, {"dmu": [np.ones(2)] * 5}]
    for adjoints in others:
        named = [replace(each, adjoints={name: values[k] for name, values in adjoints.items()}) for k, each in enumerate(found)]
        assert failing_edges("batch_norm", given, named) == []
    assert failing_edges("batch_norm", given, [Outcome(problem="no")] * len(given)) == []


def test_nan_is_wrong_where_it_arises():
    assert failing("layer_norm", times(("s", "v"), "float('nan')")) == [("s", "v")]


@layers
def test_a_function_that_returns_its_stages(layer):
    """As learners write it, with the forward computed again."""
    source = HAND_INS[layer]["steps"].replace(
        "return dx, dgamma, dbeta", "return dx, dgamma, dbeta, dict(dxhat=dxhat, dr=dr, ds=ds, dv=dv, dmu=dmu)"
    )

    def failing(source):
        scope = {"np": np}
        exec(source, scope)
        learner = Learner(scope["backward"], layer=layer)
        return failing_edges(layer, probes(layer), [learner.outcome(probe) for probe in probes(layer)])

    assert failing(source) == []
    assert failing(source.replace("ds = -dr", "ds = dr")) == [("r", "s")]
    assert failing(source.replace("dmu = -np.sum", "dmu = np.sum")) == [("c", "mu")]
