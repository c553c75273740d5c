"""What a diagnosis says: of right code that it is right, of each known mistake its name, and of garbage that it is unexplained."""

import json
import re
from functools import partial

import numpy as np
import pytest
from hand_ins import HAND_INS
from right_variants import right_variants
from source_mutants import compiled

from minitensor import nn
from minitensor.autograd import Function
from minitensor.nn.derivation import FAULTS, instance_norm, known_faults, staged_backward
from minitensor.nn.diagnosis import Diagnosis, Learner, Mistake, diagnose, diagnose_outcomes, probes
from minitensor.nn.diagnosis.coefficients import RIGHT
from minitensor.nn.diagnosis.probes import LAYERS
from minitensor.nn.norm import formulas

SIZES = {
    "instance_norm": (nn.InstanceNorm2d(4, affine=True), (3, 4, 2, 5)),
    "batch_norm": (nn.BatchNorm1d(5), (7, 5)),
    "layer_norm": (nn.LayerNorm(7), (5, 7)),
    "group_norm": (nn.GroupNorm(2, 10), (3, 10, 4, 2)),
}
KNOWN = [(layer, name) for layer, (norm, shape) in SIZES.items() for name in known_faults(norm, shape)]
GRADIENTS = ("dx", "dgamma", "dbeta")


def program(layer, **replaced):
    """A backward pass of this layer, with lines of the derivation written otherwise."""

    def backward(x, gamma, beta, eps, dy, groups=None):
        return staged_backward(x, gamma, beta, eps, dy, replaced, where=lambda shape: LAYERS[layer](shape, groups))

    if layer == "group_norm":
        return backward
    return lambda x, gamma, beta, eps, dy: backward(x, gamma, beta, eps, dy)


def with_results(change, layer="instance_norm"):
    """The right backward pass, whose results are changed."""
    right = program(layer)
    if layer == "group_norm":
        return lambda x, gamma, beta, eps, dy, groups: change(*right(x, gamma, beta, eps, dy, groups))
    return lambda x, gamma, beta, eps, dy: change(*right(x, gamma, beta, eps, dy))


def changed(source, old, new):
    assert old in source
    return compiled(source.replace(old, new))


def known_as(diagnosis):
    return {mistake.known_as for names in diagnosis.mistakes for mistake in names}


# -- right ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "style"), [(layer, style) for layer, styles in HAND_INS.items() for style in styles])
def test_right_hand_ins_are_right(layer, style):
    found = diagnose(compiled(HAND_INS[layer][style]), layer=layer)
    assert found
    assert found.verdict == "right"
    assert found.outputs == dict.fromkeys(GRADIENTS, "right")
    assert found.mistakes == ()
    assert found.sentence == "Right: dx, dgamma and dbeta."
    assert found.explained
    assert found.wrong == []


@pytest.mark.parametrize("layer", LAYERS)
def test_right_variants_raise_no_false_alarm(layer):
    given = probes(layer)
    for source in right_variants(layer, 100, seed=3):
        learner = Learner(compiled(source), layer=layer)
        found = diagnose_outcomes(layer, given, [learner.outcome(probe) for probe in given])
        assert found, f"{found}\n{source}"
        assert not found.notes, f"{found}\n{source}"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_planted_slip_in_a_right_variant_is_seen(layer):
    """A control: where nothing is found in right variants, a mistake in each of them is."""
    given = probes(layer)
    for source in right_variants(layer, 20, seed=4):
        learner = Learner(changed(source, "return (dx, dgamma, dbeta)", "return (dx / len(x), dgamma, dbeta)"), layer=layer)
        found = diagnose_outcomes(layer, given, [learner.outcome(probe) for probe in given])
        assert known_as(found) >= {"averaged-over-batch"}


@pytest.mark.parametrize("layer", LAYERS)
def test_results_in_single_precision_are_right(layer):
    assert diagnose(with_results(lambda *parts: tuple(part.astype(np.float32) for part in parts), layer), layer=layer)


@pytest.mark.parametrize(("layer", "style"), [(layer, style) for layer in LAYERS for style in ("steps", "course", "compact")])
def test_code_that_computes_in_single_precision_is_right(layer, style):
    source = HAND_INS[layer][style]
    head, body = source.split("\n", 1)
    down = "    x, gamma, beta, dy = (a.astype(np.float32) for a in (x, gamma, beta, dy))\n"
    found = diagnose(compiled(f"{head}\n{down}{body}"), layer=layer)
    assert found
    assert any("single precision" in note for note in found.notes)


@pytest.mark.parametrize("name", ["no-2", "mean-without-1/m", "eps-forgotten", "dgamma-of-x", "unbiased"])
def test_a_mistake_in_single_precision_is_still_named(name):
    def backward(x, gamma, beta, eps, dy):
        return [part.astype(np.float32) for part in FAULTS[name].backward(*(np.float32(a) for a in (x, gamma, beta, eps, dy)))]

    assert known_as(diagnose(backward)) == {name}


@pytest.mark.parametrize("guard", [1e-12, 1e-10])
def test_tiny_guards_against_a_division_by_zero_are_right(guard):
    assert diagnose(changed(HAND_INS["batch_norm"]["steps"], "r = 1 / s", f"r = 1 / (s + {guard})"), layer="batch_norm")
    assert diagnose(
        changed(HAND_INS["batch_norm"]["steps"], "v = np.mean(q, axis=0)", f"v = np.mean(q, axis=0) + {guard}"), layer="batch_norm"
    )


# -- known mistakes ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "name"), KNOWN)
def test_a_known_mistake_is_named_by_its_sentence(layer, name):
    found = diagnose(program(layer, **FAULTS[name].replaced), layer=layer)
    assert found.verdict == "wrong"
    assert found.explained
    assert len(found.mistakes) == 1
    (names,) = found.mistakes
    assert name in [mistake.known_as for mistake in names]
    assert FAULTS[name].sentence in found.sentence
    for mistake in names:  # what else is said of it gives the same numbers, in this layer
        assert_same(mistake, name, layer)


def assert_same(mistake, name, layer):
    for probe in probes(layer, seed=5):
        right = FAULTS[name].backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, where=lambda _, p=probe: p.layout)
        for output, value in zip(GRADIENTS, right, strict=True):
            np.testing.assert_allclose(mistake.program(probe)[output], value, rtol=1e-9, atol=1e-9 * np.abs(value).max())


def test_the_comparison_of_names_tells_others_apart():
    """A control."""
    (names,) = diagnose(program("instance_norm", **FAULTS["no-2"].replaced)).mistakes
    with pytest.raises(AssertionError):
        assert_same(names[0], "no-half", "instance_norm")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("layer", LAYERS)
def test_names_do_not_depend_on_the_seed(layer, seed):
    for name in ("no-variance-path", "eps-outside-root", "dgamma-of-x", "x-for-centred"):
        assert name in known_as(diagnose(program(layer, **FAULTS[name].replaced), layer=layer, seed=seed))
    assert diagnose(program(layer), layer=layer, seed=seed)


@pytest.mark.parametrize(
    ("name", "coefficients"),
    [
        ("no-mean-path", "1 | 0 | -1"),
        ("no-half", "1 | -1 | -2"),
        ("m-is-one-axis", "1 | -m/W | -m/W"),
        ("variance-not-summed", "? | ? | ?"),
    ],
)
def test_coefficients_stand_beside_the_names(name, coefficients):
    found = diagnose(program("instance_norm", **FAULTS[name].replaced))
    assert str(found.coefficients) == coefficients
    assert coefficients in str(found)


def test_of_two_programs_with_the_same_numbers_both_are_told():
    found = diagnose(program("instance_norm", **FAULTS["s-cubed"].replaced))
    assert known_as(found) == {"s-cubed", "x-hat-for-centred"}
    assert f"the same numbers would come from: {FAULTS['x-hat-for-centred'].sentence}" in found.sentence


# -- more than one mistake --------------------------------------------------------------------------------------------------------------


MIXED = [
    ("no-2", "mean-path-sign"),
    ("no-mean-path", "no-half"),
    ("gamma-forgotten", "dgamma-of-x"),
    ("variance-without-1/m", "mean-without-1/m"),
    ("s-for-s-squared", "dbeta-averaged"),
    ("no-variance-path", "dgamma-averaged"),
    ("eps-forgotten", "mean-path-sign"),
    ("unbiased", "sign"),
    ("no-mean-path", "dgamma-without-x-hat", "dbeta-with-gamma"),
    ("no-2", "dgamma-of-centred", "dbeta-averaged"),
]


@pytest.mark.parametrize("some", MIXED, ids=" ".join)
@pytest.mark.parametrize("layer", ["instance_norm", "batch_norm"])
def test_mistakes_at_once_are_named(layer, some):
    replaced = {line: rule for name in some for line, rule in FAULTS[name].replaced.items()}
    found = diagnose(program(layer, **replaced), layer=layer)
    assert found.explained
    for names in found.mistakes:
        for mistake in names:
            assert_computes(mistake, program(layer, **replaced), layer)


def assert_computes(mistake, backward, layer):
    """What the mistake explains, on inputs that it was not found with."""
    for probe in probes(layer, seed=6):
        found = dict(zip(GRADIENTS, backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy), strict=True))
        for output in mistake.explains:
            value = found[output]
            np.testing.assert_allclose(mistake.program(probe)[output], value, rtol=1e-9, atol=1e-9 * np.abs(value).max())


def test_two_slips_that_cancel_are_right():
    """2 and 1/2 left out: dx cannot tell."""
    assert diagnose(program("instance_norm", **FAULTS["no-2"].replaced, **FAULTS["no-half"].replaced))


# -- gradients of gamma and beta --------------------------------------------------------------------------------------------------------


def test_axes_of_length_1_too_many_are_right():
    assert diagnose(with_results(lambda dx, dgamma, dbeta: (dx, dgamma[None, :, None, None], dbeta[:, None])))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "np.sum(dy * xhat, axis=(0, 2, 3))",
            "np.sum(dy * xhat, axis=(2, 3))",
            "dgamma has shape (3, 4), and (4,) is needed: it is summed over the axes (2, 3) instead of (0, 2, 3)",
        ),
        (
            "np.sum(dy, axis=(0, 2, 3))",
            "np.sum(dy, axis=(0, 1, 3))",
            "dbeta has shape (2,), and (4,) is needed: it is summed over the axes (0, 1, 3) instead of (0, 2, 3)",
        ),
        (
            "np.sum(dy, axis=(0, 2, 3))",
            "np.sum(dy)",
            "dbeta has shape (), and (4,) is needed: it is summed over the axes (0, 1, 2, 3) instead of (0, 2, 3)",
        ),
        (
            "np.sum(dy * xhat, axis=(0, 2, 3))",
            "dy * xhat",
            "dgamma has shape (3, 4, 2, 5), and (4,) is needed: it is summed over the axes () instead of (0, 2, 3)",
        ),
        ("np.sum(dy * xhat, axis=(0, 2, 3))", "np.zeros((3, 2))", "dgamma has shape (3, 2), and (4,) is needed"),
    ],
)
def test_wrong_shapes_are_told_with_the_axes_that_were_summed(old, new, said):
    found = diagnose(changed(HAND_INS["instance_norm"]["steps"], old, new))
    assert found.verdict == "wrong"
    assert found.explained
    assert found.sentence == f"Wrong: {said}."
    assert found.outputs == {**dict.fromkeys(GRADIENTS, "right"), said.split()[0]: "wrong"}
    assert [names[0].path for names in found.mistakes] == [f"the shape of {said.split()[0]}"]


def test_the_right_sum_in_a_wrong_shape_is_not_a_sum_over_other_axes():
    found = diagnose(
        changed(HAND_INS["group_norm"]["course"], "np.sum(dyg, axis=(0, 3, 4)).reshape(C)", "np.sum(dyg, axis=(0, 3, 4))"),
        layer="group_norm",
    )
    assert "dbeta has shape (2, 5), and (10,) is needed" in found.sentence
    assert "instead of" not in found.sentence


@pytest.mark.parametrize(("axes", "sum_of"), [((0,), "dy"), ((1,), "dy * xhat")])
def test_wrong_axes_in_matrices(axes, sum_of):
    source = HAND_INS["batch_norm"]["steps"]
    found = diagnose(changed(source, f"np.sum({sum_of}, axis=0)", f"np.sum({sum_of}, axis=1)"), layer="batch_norm")
    assert "it is summed over the axes (1,) instead of (0,)" in found.sentence


def test_a_dx_of_another_shape():
    found = diagnose(with_results(lambda dx, dgamma, dbeta: (dx.sum(0), dgamma, dbeta)))
    assert found.sentence == "Wrong: dx has shape (4, 2, 5), and (3, 4, 2, 5) is needed."
    assert found.coefficients is None
    assert found.hint(2) == "dx is wrong; dgamma and dbeta are right. Look at the shape of dx."


def test_dx_alone_is_graded_alone():
    right = program("instance_norm")
    assert diagnose(lambda x, gamma, beta, eps, dy: right(x, gamma, beta, eps, dy)[0]).outputs == {"dx": "right"}
    fault = FAULTS["no-2"].backward
    found = diagnose(lambda x, gamma, beta, eps, dy: fault(x, gamma, beta, eps, dy)[0])
    assert found.outputs == {"dx": "wrong"}
    assert known_as(found) == {"no-2"}


# -- numbers that are not finite --------------------------------------------------------------------------------------------------------


def test_minus_eps_in_the_root():
    found = diagnose(changed(HAND_INS["instance_norm"]["steps"], "s = np.sqrt(v + eps)", "s = np.sqrt(v - eps)"))
    assert found.verdict == "wrong"
    assert found.explained
    assert "in s, the sign of eps is wrong" in found.sentence


def test_a_division_by_zero():
    found = diagnose(changed(HAND_INS["instance_norm"]["steps"], "dx = dc + dmu / m", "dx = dc / (x - x) + dmu / m"))
    assert found.verdict == "wrong"
    assert "dx holds nan or inf on every input" in found.sentence
    assert found.residual == np.inf
    json.dumps(found.to_dict())


def test_nan_in_one_input_alone():
    def backward(x, gamma, beta, eps, dy):
        dx, dgamma, dbeta = staged_backward(x, gamma, beta, eps, dy)
        return dx * (np.nan if x.shape[-1] == 11 else 1), dgamma, dbeta

    found = diagnose(backward)
    assert found.outputs == {"dx": "wrong", "dgamma": "right", "dbeta": "right"}
    assert "dx holds nan or inf on some inputs" in found.sentence


# -- garbage ----------------------------------------------------------------------------------------------------------------------------


GARBAGE = {
    "noise": lambda x: np.random.default_rng(x.shape).standard_normal(x.shape),
    "a constant": lambda x: np.full(x.shape, 0.37),
    "a sine": np.sin,
    "a polynomial": lambda x: x**3 - x,
}


@pytest.mark.parametrize(
    ("layer", "garbage"), [*((layer, "noise") for layer in LAYERS), *(("batch_norm", name) for name in GARBAGE if name != "noise")]
)
def test_garbage_is_unexplained(layer, garbage):
    def backward(x, gamma, beta, eps, dy):
        return GARBAGE[garbage](x), *(np.random.default_rng(k).standard_normal(gamma.shape) for k in (1, 2))

    made = backward if layer != "group_norm" else lambda x, gamma, beta, eps, dy, groups: backward(x, gamma, beta, eps, dy)
    found = diagnose(made, layer=layer)
    assert found.verdict == "wrong"
    assert not found.explained
    assert found.mistakes == ()
    assert re.fullmatch(r"Wrong: unexplained: dx, dgamma and dbeta differ by [-+.e\d]+ of the largest value\.", found.sentence)
    assert 0.5 < found.residual < 100


def test_zeros_alone_are_not_called_the_gradient_of_another_forward():
    assert "forward" not in diagnose(lambda x, gamma, beta, eps, dy: 0 * x).sentence


def test_zeros_are_not_called_the_gradients_of_another_forward():
    """No forward has zeros for all three gradients, but one whose output has lost its shape."""
    found = diagnose(with_results(lambda dx, dgamma, dbeta: (0 * dx, 0 * dgamma, 0 * dbeta)))
    assert found.verdict == "wrong"
    assert "forward" not in found.sentence


@pytest.mark.parametrize("size", [1e-2, 1e-3])
def test_a_little_noise_is_unexplained_and_its_size_is_told(size):
    def backward(x, gamma, beta, eps, dy):
        dx, dgamma, dbeta = staged_backward(x, gamma, beta, eps, dy)
        return dx + size * np.abs(dx).max() * np.random.default_rng(x.shape).choice([-1, 1], x.shape), dgamma, dbeta

    found = diagnose(backward)
    assert not found.explained
    assert found.sentence == f"Wrong: unexplained: dx differs by {size:.2g} of the largest value."
    assert found.residual == pytest.approx(size)


@pytest.mark.parametrize("factor", [1e-9, 7 / 11, 1e9])
def test_an_odd_factor_is_not_called_a_path_left_out(factor):
    found = diagnose(with_results(lambda dx, dgamma, dbeta: (factor * dx, dgamma, dbeta)))
    assert found.verdict == "wrong"
    assert "left out" not in found.sentence


# -- other statistics, another forward --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "axes", "named"),
    [
        ("layer_norm", (0,), "N"),
        ("batch_norm", (1,), "D"),
        ("instance_norm", (0, 2, 3), "N, H and W"),
        ("instance_norm", (1, 2, 3), "C, H and W"),
        ("instance_norm", (3,), "W"),
        ("group_norm", (0, 2, 3), "N, H and W"),
        ("group_norm", (2, 3), "H and W"),
    ],
)
def test_the_right_formula_over_other_axes_is_told(layer, axes, named):
    """Forward and backward agree with each other, so that a check of the gradient alone would pass."""

    def forward(x, gamma, beta, eps):
        parameter = (1, -1, *(1,) * (x.ndim - 2))
        return gamma.reshape(parameter) * formulas.standardize(x, axes, eps) + beta.reshape(parameter)

    def backward(x, gamma, beta, eps, dy):
        rest = tuple(axis for axis in range(x.ndim) if axis != 1)
        x_hat, r = formulas.standardize(x, axes, eps), formulas.rstd(x, axes, eps)
        h = dy * gamma.reshape(1, -1, *(1,) * (x.ndim - 2))
        dx = r * (h - h.mean(axes, keepdims=True) - x_hat * (h * x_hat).mean(axes, keepdims=True))
        return dx, (dy * x_hat).sum(rest), dy.sum(rest)

    made = backward if layer != "group_norm" else lambda x, gamma, beta, eps, dy, groups: backward(x, gamma, beta, eps, dy)
    found = diagnose(made, layer=layer)
    assert found.verdict == "wrong"
    assert found.explained
    assert f"mean and variance are taken over the axes {axes} of x, {named}" in found.sentence
    given = forward if layer != "group_norm" else lambda x, gamma, beta, eps, groups: forward(x, gamma, beta, eps)
    with_forward = diagnose(made, given, layer)
    assert with_forward.outputs["y"] == "wrong"
    assert with_forward.outputs["dx"] == "wrong"
    assert f"mean and variance are taken over the axes {axes} of x, {named}" in with_forward.sentence


@pytest.mark.parametrize(
    ("r", "told"),
    [
        (lambda v, m, eps: 1 / (np.sqrt(v) + eps), "eps stands outside the root"),
        (lambda v, m, eps: 1 / (v + eps), "the root is missing"),
        (lambda v, m, eps: 1 / np.sqrt(v * m / (m - 1) + eps), "m - 1 for m"),
    ],
    ids=["eps outside", "no root", "unbiased"],
)
def test_right_gradients_of_another_forward_are_told(r, told):
    """By complex steps, so that the gradients are those of the forward whatever it is."""
    axes = (2, 3)

    def forward(x, gamma, beta, eps):
        c = x - x.mean(axes, keepdims=True)
        return gamma[:, None, None] * c * r((c * c).mean(axes, keepdims=True), x[0, 0].size, eps) + beta[:, None, None]

    found = diagnose(lambda x, gamma, beta, eps, dy: gradients(forward, x, gamma, beta, eps, dy))
    assert found.verdict == "wrong"
    assert found.explained
    assert found.sentence.startswith("Wrong: the gradients are the right ones of another forward")
    assert told in found.sentence


def gradients(forward, x, gamma, beta, eps, dy):
    """Those of sum(dy * y), element by element."""
    made = []
    arguments = x, gamma, beta
    for k, argument in enumerate(arguments):
        gradient = np.empty(argument.size)
        for i in range(argument.size):
            moved = [value.astype(complex) for value in arguments]
            moved[k].flat[i] += 1e-30j
            gradient[i] = np.sum(dy * forward(*moved, eps).imag) / 1e-30
        made.append(gradient.reshape(argument.shape))
    return made


# -- the forward by itself --------------------------------------------------------------------------------------------------------------


def forward_of(r):
    def forward(x, gamma, beta, eps):
        c = x - x.mean((2, 3), keepdims=True)
        return gamma[:, None, None] * c * r((c * c).mean((2, 3), keepdims=True), eps) + beta[:, None, None]

    return forward


RIGHT_FORWARD = forward_of(lambda v, eps: 1 / np.sqrt(v + eps))


def test_a_right_forward_is_graded_too():
    found = diagnose(program("instance_norm"), RIGHT_FORWARD)
    assert found
    assert found.outputs == dict.fromkeys((*GRADIENTS, "y"), "right")


def test_a_wrong_forward_beside_a_right_backward():
    found = diagnose(program("instance_norm"), forward_of(lambda v, eps: 1 / (np.sqrt(v) + eps)))
    assert found.verdict == "wrong"
    assert found.outputs == {**dict.fromkeys(GRADIENTS, "right"), "y": "wrong"}
    assert found.explained
    assert all(mistake.explains == ("y",) for names in found.mistakes for mistake in names)
    assert found.hint(1) == "y is wrong; dx, dgamma and dbeta are right."


def test_a_right_forward_beside_a_wrong_backward():
    found = diagnose(program("instance_norm", **FAULTS["no-2"].replaced), RIGHT_FORWARD)
    assert found.outputs == {"dx": "wrong", "dgamma": "right", "dbeta": "right", "y": "right"}
    assert known_as(found) == {"no-2"}


def test_both_wrong_have_a_verdict_each():
    found = diagnose(program("instance_norm", **FAULTS["no-2"].replaced), forward_of(lambda v, eps: 1 / (np.sqrt(v) + eps)))
    assert found.outputs == {"dx": "wrong", "dgamma": "right", "dbeta": "right", "y": "wrong"}
    assert found.explained
    assert {mistake.explains for names in found.mistakes for mistake in names} == {("y",), ("dx",)}


# -- styles -----------------------------------------------------------------------------------------------------------------------------


def batchnorm_forward(x, gamma, beta, bn_param):
    eps = bn_param.get("eps", 1e-5)
    mean, var = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma * x_hat + beta, (x, x_hat, mean, var, gamma, eps)


def batchnorm_backward(dout, cache, slip=1):
    x, x_hat, mean, var, gamma, eps = cache
    n = x.shape[0]
    dx_hat = dout * gamma
    dvar = np.sum(dx_hat * (x - mean), axis=0) * -0.5 * (var + eps) ** -1.5
    dmean = np.sum(dx_hat, axis=0) * -1 / np.sqrt(var + eps)
    dx = dx_hat / np.sqrt(var + eps) + dvar * 2 * slip * (x - mean) / n + dmean / n
    return dx, np.sum(dout * x_hat, axis=0), np.sum(dout, axis=0)


def test_with_a_cache():
    assert diagnose(batchnorm_backward, batchnorm_forward, "batch_norm").outputs == dict.fromkeys((*GRADIENTS, "y"), "right")
    wrong = diagnose(partial(batchnorm_backward, slip=0.5), batchnorm_forward, "batch_norm")
    assert wrong.outputs["dx"] == "wrong"
    assert known_as(wrong) == {"no-2"}


def test_a_function_class():
    class Norm(Function):
        @staticmethod
        def forward(ctx, x, gamma, beta, eps):
            ctx.save_for_backward(x, gamma, beta)
            ctx.eps = eps
            return RIGHT_FORWARD(x, gamma, beta, eps)

        @staticmethod
        def backward(ctx, dy):
            return *FAULTS["no-mean-path"].backward(*ctx.saved_tensors, ctx.eps, dy), None

    found = diagnose(Norm)
    assert found.outputs == {"dx": "wrong", "dgamma": "right", "dbeta": "right", "y": "right"}
    assert known_as(found) == {"no-mean-path"}


@pytest.mark.parametrize(
    ("backward", "said"),
    [
        (lambda x, gamma, beta, eps, dy: 1 / 0, "ZeroDivisionError"),
        (lambda x, gamma, beta, eps, dy: None, "returned no dx"),
        (lambda x, gamma, beta, eps, dy: ("no", "numbers", "here"), "dx must be an array of real numbers"),
        (lambda x: x, "none of its parameters"),
        (lambda dout, cache: dout, "needs the forward"),
    ],
)
def test_what_does_not_run_is_not_graded(backward, said):
    found = diagnose(backward)
    assert not found
    assert found.verdict == "not graded"
    assert said in found.problem
    assert found.sentence == found.hint(1) == f"Not graded: {found.problem}"
    assert found.outputs == {}
    assert found.wrong == []
    assert said.split("<")[0] in found._repr_html_()
    json.dumps(found.to_dict())


def test_code_that_writes_into_its_input_is_graded_with_a_note():
    def backward(x, gamma, beta, eps, dy):
        found = staged_backward(x, gamma, beta, eps, dy)
        dy *= 0
        return found

    found = diagnose(backward)
    assert found
    assert any("wrote into the caller's dy" in note for note in found.notes)


def test_what_is_no_function_and_no_layer_is_an_error():
    with pytest.raises(TypeError, match="backward must be a function"):
        diagnose(np.zeros(3))
    with pytest.raises(ValueError, match="layer must be one of"):
        diagnose(program("instance_norm"), layer="rms_norm")


# -- how it is told ---------------------------------------------------------------------------------------------------------------------


HINTED = [
    ("no-2", "the path through the variance"),
    ("mean-path-sign", "the path through the mean"),
    ("dgamma-of-x", "the gradient of gamma"),
]


@pytest.mark.parametrize(("name", "path"), HINTED)
def test_hints_tell_more_level_by_level(name, path):
    found = diagnose(program("instance_norm", **FAULTS[name].replaced))
    first, second, third = (found.hint(level) for level in (1, 2, 3))
    output = "dgamma" if name.startswith("dgamma") else "dx"
    assert first.startswith(f"{output} is wrong; ")
    assert path not in first
    assert second == f"{first[:-1]}. Look at {path}."
    steps = [*(f"{step} -> {parent}" for step, parent in instance_norm.edges), *FAULTS[name].replaced, FAULTS[name].sentence]
    for step in steps:
        assert step not in first
        assert step not in second
    assert third == found.sentence == found.hint()
    assert FAULTS[name].sentence in third


def test_hints_of_what_is_unexplained():
    def backward(x, gamma, beta, eps, dy):
        return np.sin(x), *staged_backward(x, gamma, beta, eps, dy)[1:]

    assert diagnose(backward).hint(2).startswith("dx is wrong; dgamma and dbeta are right. Look at the terms")
    odd = with_results(lambda dx, dgamma, dbeta: (dx, np.sin(dgamma), dbeta))
    assert diagnose(odd).hint(2) == "dgamma is wrong; dx and dbeta are right. No single path can be blamed."


@pytest.mark.parametrize("level", [0, 4, None, "2"])
def test_there_are_three_levels(level):
    with pytest.raises(ValueError, match="the level is 1, 2 or 3"):
        diagnose(program("instance_norm")).hint(level)


def test_a_hint_of_what_is_right_is_that():
    assert {diagnose(program("instance_norm")).hint(level) for level in (1, 2, 3)} == {"Right: dx, dgamma and dbeta."}


EVERY = {
    "right": lambda: diagnose(program("instance_norm")),
    "known": lambda: diagnose(program("instance_norm", **FAULTS["s-cubed"].replaced)),
    "unexplained": lambda: diagnose(with_results(lambda dx, dgamma, dbeta: (np.sin(dx), dgamma, dbeta))),
    "nan": lambda: diagnose(with_results(lambda dx, dgamma, dbeta: (dx * np.nan, dgamma, dbeta))),
    "not graded": lambda: diagnose(lambda x, gamma, beta, eps, dy: 1 / 0),
    "shape": lambda: diagnose(with_results(lambda dx, dgamma, dbeta: (dx[0], dgamma, dbeta))),
}


@pytest.mark.parametrize("made", EVERY.values(), ids=EVERY)
def test_as_json(made):
    found = made()
    text = json.dumps(found.to_dict(), allow_nan=True)
    again = json.loads(text)
    assert again["verdict"] == found.verdict
    assert again["sentence"] == found.sentence
    assert again["outputs"] == found.outputs
    assert [[name["sentence"] for name in names] for names in again["mistakes"]] == [
        [name.sentence for name in names] for names in found.mistakes
    ]
    assert again["explained"] == found.explained


@pytest.mark.parametrize("made", EVERY.values(), ids=EVERY)
def test_as_text(made):
    found = made()
    assert str(found).split("\n")[0] == found.sentence
    table = found.table()
    assert str(table) if found.outputs else True
    assert found._repr_html_().startswith("<p>")


def test_html_is_escaped():
    def backward(x, gamma, beta, eps, dy):
        raise ValueError("<script>alert('& now')</script>")

    page = diagnose(backward)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&amp; now" in page
    wrong = diagnose(program("instance_norm", **FAULTS["no-2"].replaced))
    assert "x -> mu" not in wrong._repr_html_()  # an arrow would be markup


def test_a_table_has_a_row_for_each_output():
    found = diagnose(program("instance_norm", **FAULTS["no-2"].replaced, **FAULTS["dgamma-of-x"].replaced))
    rows = {row[0]: row for row in found.table().rows}
    assert list(rows) == ["dx", "dgamma", "dbeta"]
    assert rows["dbeta"][1:] == ("right", "")
    assert rows["dx"][1] == rows["dgamma"][1] == "wrong"
    assert "unexplained" not in str(found.table())


def test_the_figure_has_three_bars_with_their_targets():
    pytest.importorskip("matplotlib").use("Agg")
    found = diagnose(program("instance_norm", **FAULTS["no-half"].replaced))
    (axes,) = found.figure().axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(found.coefficients.values)
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, False, True]  # the third is wrong
    (targets,) = (lines for lines in axes.collections if len(lines.get_segments()) == 3)
    for k, (start, end) in enumerate(targets.get_segments()):
        assert start[1] == end[1] == RIGHT[k]
        assert start[0] < k < end[0]
    assert [label.get_text().split("\n")[1] for label in axes.get_xticklabels()] == list(found.coefficients.names)


def test_there_is_no_figure_without_dx():
    with pytest.raises(ValueError, match="no dx"):
        diagnose(lambda x, gamma, beta, eps, dy: 1 / 0).figure()


def test_a_diagnosis_explains_only_what_it_names():
    mistake = Mistake("one", "dx", "a path", ("dx",))
    half = Diagnosis("instance_norm", "wrong", {"dx": "wrong", "dgamma": "wrong"}, ((mistake,),), residual=0.5)
    assert not half.explained
    assert half.sentence == "Wrong: one; and unexplained: dgamma differs by 0.5 of the largest value."
    assert [row[2] for row in half.table().rows] == ["one", "unexplained"]
