"""How many known mistakes a gradient check accepts: pinned counts, and checks of which the answer is known beforehand."""

import builtins
import importlib
import json
import sys
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitensor as mt
from minitensor import nn
from minitensor.errors import DTypeError, GraphError, MissingPackageError, ShapeError
from minitensor.nn.derivation import FAULTS, known_faults, staged_backward
from minitensor.nn.derivation.blindness import Blindness, ComparedChecks, blindness, compare_checks
from minitensor.nn.derivation.gradient_check import GRADIENTS, LAYERS, LOSSES, RULES, SHAPE, GradientCheck, layer_for

USUAL = partial(GradientCheck, shape=(2, 3, 4, 5), eps=1e-5, gamma="ones", beta="zeros")
AFFINE = partial(USUAL, gamma="random", beta="random")
GOOD = partial(AFFINE, eps=0.1)
EPS = {"eps-twice", "eps-forgotten", "eps-outside-root"}
GAMMA = {"gamma-forgotten", "gamma-twice", "y-for-x-hat"}  # none of them shows where gamma is 1 and beta 0
MEAN = {"no-mean-path", "mean-not-summed", "mean-without-1/m", "mean-with-1/m-twice", "mean-path-sign", "x-for-centred"}

judged = cache(lambda recipe, loss, rule: blindness(recipe(loss, rule)))
every_layer = pytest.mark.parametrize("layer", LAYERS)


# -- the pattern: losses, rules and numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "loss", "counts"),
    [
        (USUAL, "sum(y)", (21, 21, 21)),
        (USUAL, "sum(y**2)", (8, 9, 14)),
        (USUAL, "sum(y**4)", (3, 6, 6)),
        (USUAL, "sum(w*y)", (3, 6, 6)),
        (AFFINE, "sum(y)", (20, 20, 20)),
        (AFFINE, "sum(w*y)", (0, 3, 3)),
        (GOOD, "sum(y)", (20, 20, 20)),
        (GOOD, "sum(w*y)", (0, 0, 0)),
    ],
)
def test_how_many_are_accepted(recipe, loss, counts):
    found = [judged(recipe, loss, rule) for rule in ("allclose", "gradcheck", "MiniTorch")]
    assert tuple(len(each.accepted) for each in found) == counts
    assert {(each.known, each.refuses_right) for each in found} == {(31, False)}
    assert [each.ok for each in found] == [not n for n in counts]


@pytest.mark.parametrize("recipe", [USUAL, AFFINE, GOOD])
def test_rel_error_refuses_the_right_backward_where_the_gradient_is_0(recipe):
    found = judged(recipe, "sum(y)", "rel_error")
    assert (found.refuses_right, found.accepted, found.ok) == (True, (), False)
    assert "refuses the right one" in found.count
    assert [sentence for sentence in found.wrong if "useless" in sentence]
    assert not judged(recipe, "sum(w*y)", "rel_error").refuses_right


def test_which_are_accepted():
    assert set(judged(USUAL, "sum(w*y)", "gradcheck").accepted) == EPS | GAMMA
    assert set(judged(USUAL, "sum(w*y)", "rel_error").accepted) == GAMMA
    assert set(judged(AFFINE, "sum(w*y)", "gradcheck").accepted) == EPS
    assert set(judged(USUAL, "sum(y**2)", "gradcheck").accepted) == GAMMA | MEAN
    assert judged(GOOD, "sum(w*y)", "gradcheck").accepted == ()


def test_what_sum_of_y_accepts_is_what_gives_0(rng):
    """Asked of the mistakes themselves, on other numbers."""
    shape = (2, 4, 3, 5)
    x, gamma, beta = rng.standard_normal(shape), rng.uniform(0.5, 2, 4), rng.uniform(0.5, 2, 4)
    zero = {name for name, fault in FAULTS.items() if np.max(np.abs(fault.backward(x, gamma, beta, 0.1, np.ones(shape))[0])) < 1e-12}
    found = blindness(GradientCheck("sum(y)", "allclose"))
    assert set(found.accepted) == zero & set(blindness(lambda backward: True).accepted)
    assert len(found.accepted) == 20


@every_layer
def test_the_default_is_not_blind(layer):
    found = blindness(GradientCheck(), layer, grades=GRADIENTS)
    assert found.ok
    assert found.known == len(known_faults(layer_for(layer, SHAPE), SHAPE)) > 30


def test_layers_differ():
    """Where gamma varies inside a slice, sum(y) is no constant of the layer."""
    counts = {layer: len(blindness(GradientCheck("sum(y)"), layer).accepted) for layer in LAYERS}
    assert counts == {"instance_norm": 20, "batch_norm": 20, "layer_norm": 0, "group_norm": 0, "rms_norm": 0}
    usual = {layer: len(blindness(GradientCheck("sum(y)", gamma="ones", beta="zeros"), layer).accepted) for layer in LAYERS}
    assert usual == {"instance_norm": 21, "batch_norm": 21, "layer_norm": 21, "group_norm": 21, "rms_norm": 3}


@given(st.lists(st.floats(-12, 1), min_size=2, max_size=2))
@settings(max_examples=10)
def test_a_wider_tolerance_accepts_no_less(exponents):
    narrow, wide = sorted(exponents)
    found = [
        blindness(GradientCheck("sum(y**3)", "allclose", rtol=10**each, atol=10**each, reference="autograd")).accepted
        for each in (narrow, wide)
    ]
    assert set(found[0]) <= set(found[1])


@pytest.mark.parametrize(
    ("rule", "numerical", "least"),
    [
        ("rel_error", 0.0, 1e-14),  # of 1e-8, which stands for what is smaller
        ("rel_error", 2.0, 4e-6),
        ("allclose", 0.0, 1e-8),
        ("allclose", 2.0, 1e-8 + 2e-5),
        ("gradcheck", 0.0, 1e-5),
        ("gradcheck", 2.0, 1e-5 + 2e-3),
        ("MiniTorch", 0.0, 1e-2),
        ("MiniTorch", 2.0, 3e-2),
    ],
)
def test_a_rule_accepts_up_to_its_bound(rule, numerical, least):
    """One element that is off by a little less, and by a little more."""
    off = [np.array([1.0, numerical + share * least]) for share in (0.99, 1.01)]
    assert [bool(RULES[rule](analytic, np.array([1.0, numerical]))) for analytic in off] == [True, False]


# -- what is compared --------------------------------------------------------------------------------------------------------------


@every_layer
@pytest.mark.parametrize("loss", [*LOSSES, "sum(w*y)"])
def test_differences_autograd_and_the_right_backward_agree(layer, loss):
    norm, taken = layer_for(layer, SHAPE), {}
    for reference in ("differences", "autograd"):
        taken[reference] = []

        def rule(analytic, numerical, pairs=taken[reference]):
            pairs.append((analytic, numerical))
            return True

        GradientCheck(loss, rule, reference=reference).of(layer, GRADIENTS)(
            partial(staged_backward, where=norm.layout, centred=norm.centred)
        )
    assert len(taken["differences"]) == len(taken["autograd"]) == (2 if layer == "rms_norm" else 3)
    for (analytic, numerical), (again, right) in zip(taken["differences"], taken["autograd"], strict=True):
        np.testing.assert_array_equal(analytic, again)
        assert analytic.shape == numerical.shape == right.shape
        np.testing.assert_allclose(analytic, right, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(numerical, right, rtol=1e-6, atol=1e-6)


def test_a_right_backward_that_were_wrong_would_be_seen(monkeypatch):
    """The control of the three opinions: with a mistake in the one that counts as right, no check accepts it."""
    module = importlib.import_module("minitensor.nn.derivation.blindness")
    wrong = FAULTS["unbiased"].replaced
    monkeypatch.setattr(module, "staged_backward", lambda *args, **where: staged_backward(*args[:5], {**wrong, **args[5]}, **where))
    for reference in ("differences", "autograd"):
        assert blindness(GradientCheck(reference=reference)).refuses_right


def test_a_loss_is_a_name_an_array_or_a_function():
    ones, named = np.ones(SHAPE), blindness(GradientCheck("sum(y)"))
    assert blindness(GradientCheck(ones)).accepted == named.accepted
    assert blindness(GradientCheck(lambda y: np.sum(y))).accepted == named.accepted
    assert blindness(GradientCheck(lambda y: np.sum(np.exp(y)))).ok
    assert len(named.accepted) == 20


def test_gamma_and_beta_are_names_or_arrays():
    one, zero = np.ones(4), np.zeros(4)
    named, given = (blindness(GradientCheck(gamma=gamma, beta=beta)) for gamma, beta in (("ones", "zeros"), (one, zero)))
    assert set(named.accepted) == set(given.accepted) == GAMMA
    assert "gamma given, beta given" in given.setting
    # dgamma-with-gamma and dbeta-with-gamma need a gamma too
    more = set(blindness(GradientCheck(gamma="ones", beta="zeros"), grades=GRADIENTS).accepted)
    assert more == GAMMA | {"dgamma-of-y", "dgamma-with-gamma", "dbeta-with-gamma"}


def test_rtol_and_atol_replace_those_of_the_rule():
    assert blindness(GradientCheck("sum(y)", "rel_error", rtol=1.1)).refuses_right is False
    loose = blindness(GradientCheck(rule="allclose", rtol=0.0, atol=1e6))
    assert len(loose.accepted) == loose.known
    assert "allclose, rtol = 0, atol = 1e+06" in str(loose)


def test_float32_differences_refuse_the_right_backward():
    assert blindness(GradientCheck(dtype="float32")).refuses_right
    assert blindness(GradientCheck(dtype="float32", h=1e-2, rule="MiniTorch")).ok
    assert blindness(GradientCheck(dtype="float32", reference="autograd")).ok


def test_a_seed_gives_other_numbers_and_the_same_ones_again():
    def taken(seed):
        numbers = []
        GradientCheck(seed=seed, reference="autograd").of()(lambda *args: numbers.extend(args) or staged_backward(*args))
        return numbers

    for one, again, other in zip(taken(0), taken(0), taken(1), strict=True):
        np.testing.assert_array_equal(one, again)
        assert np.ndim(one) == 0 or not np.array_equal(one, other)
    assert {*np.sign(taken(2)[1])} == {-1.0, 1.0}  # gamma


# -- checks of one's own -----------------------------------------------------------------------------------------------------------


@every_layer
def test_yes_to_everything_accepts_everything_and_no_refuses_the_right_one(layer):
    yes, no = blindness(lambda backward: True, layer, grades=GRADIENTS), blindness(lambda backward: False, layer, grades=GRADIENTS)
    assert yes.accepted == tuple(known_faults(layer_for(layer, SHAPE), SHAPE))
    assert (len(yes.accepted), yes.refuses_right, yes.ok) == (yes.known, False, False)
    assert (no.accepted, no.refuses_right, no.ok) == ((), True, False)


def on(shape, rng, layer="instance_norm"):
    """A check of one's own: all three gradients, against those of autograd."""
    norm = layer_for(layer, shape)
    x, dy = rng.standard_normal((2, *shape))
    gamma = rng.uniform(0.5, 2, norm.weight.shape)
    beta = None if norm.bias is None else rng.uniform(0.5, 2, norm.bias.shape)
    right = staged_backward(x, gamma, beta, 0.1, dy, where=norm.layout, centred=norm.centred)

    def check(backward):
        found = backward(x, gamma, beta, 0.1, dy)
        for one, other in zip(found, right, strict=True):
            if other is not None:
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)

    return check


@every_layer
def test_a_check_of_assertions(layer, rng):
    found = blindness(on((4, 6, 5), rng, layer), layer, grades=GRADIENTS)
    assert found.ok
    assert len(found.raised) == found.known
    assert f"Errors counted as a no: AssertionError ({found.known} times)." in str(found)


def test_a_mistake_is_one_on_the_shapes_that_the_check_uses(rng):
    short, long = on((2, 3, 7), rng), on((2, 3, 4, 5), rng)
    known = [blindness(check).known for check in (short, long, lambda backward: (short(backward), long(backward))[0])]
    assert known == [30, 31, 31]  # the last of one spatial axis is all that is reduced
    assert "m-is-one-axis" in blindness(lambda backward: backward and None).accepted


@every_layer
def test_a_grade_counts_the_mistakes_that_show_in_it(layer, rng):
    shape = (3, 6, 4, 5)
    norm = layer_for(layer, shape)
    x, dy = rng.standard_normal((2, *shape)) + 0.5
    gamma = rng.uniform(0.5, 2, norm.weight.shape)
    beta = None if norm.bias is None else rng.uniform(0.5, 2, norm.bias.shape)
    right = staged_backward(x, gamma, beta, 0.1, dy, where=norm.layout, centred=norm.centred)
    for k, (grade, part) in enumerate(zip(GRADIENTS, right, strict=True)):
        if part is not None:
            wrong = [
                name for name, fault in FAULTS.items() if not np.allclose(fault.of(norm)(x, gamma, beta, 0.1, dy)[k], part, 1e-9, 1e-9)
            ]
            assert blindness(lambda backward: True, layer, grades=(grade,)).accepted == tuple(wrong)


def test_a_check_of_dx_alone_is_blind_to_the_other_gradients(rng):
    x, dy = rng.standard_normal((2, 2, 3, 4, 5))
    gamma, beta = rng.uniform(0.5, 2, (2, 3))
    right = staged_backward(x, gamma, beta, 0.1, dy)[0]
    found = blindness(lambda backward: np.allclose(backward(x, gamma, beta, 0.1, dy)[0], right, rtol=1e-9), grades=GRADIENTS)
    assert found.accepted
    assert {name.partition("-")[0] for name in found.accepted} == {"dgamma", "dbeta"}
    assert len(found.accepted) == 42 - 31


def test_a_check_may_run_the_layer_itself(rng):
    x, w = mt.tensor(rng.standard_normal((2, 3, 4, 5)), requires_grad=True), rng.standard_normal((2, 3, 4, 5))
    gamma, beta = mt.tensor([0.5, -2.0, 1.0]), mt.tensor([1.0, 2.0, -1.0])

    def dx(backward):
        return mt.grad(np.sum(w * nn.functional.instance_norm(x, None, None, gamma, beta, eps=0.1, backward=backward)), x)[0].numpy()

    assert blindness(lambda backward: np.allclose(dx(backward), dx("autograd"))).ok
    assert not blindness(lambda backward: np.allclose(dx(backward), dx(backward))).ok


def test_what_a_check_raises_is_told():
    def broken(backward):
        raise ValueError("operands could not\nbe broadcast")

    found = blindness(broken)
    assert found.refuses_right
    assert found.check == "broken"
    assert found.raised["right"] == "ValueError: operands could not be broadcast"
    assert "so this check is useless: it raised ValueError: operands could not be broadcast." in str(found)
    assert "Errors counted as a no: ValueError (31 times)." in str(found)
    assert "Errors" not in str(blindness(lambda backward: False))


def test_an_answer_without_a_truth_value_is_an_error_of_the_check():
    assert "ambiguous" in blindness(lambda backward: np.ones(2)).raised["right"]


def test_an_interrupt_is_no_answer():
    def interrupted(backward):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blindness(interrupted)


def test_a_wrong_backward_may_divide_by_0(rng):
    """The fixture of the suite makes warnings errors, which would be counted as refusals."""
    x, ones = np.ones((2, 3, 4, 5)), np.ones(3)
    found = blindness(lambda backward: backward(x, ones, ones, 0.1, x) is not None)
    assert "eps-forgotten" in found.accepted
    assert found.raised == {}


# -- layers as objects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "known"),
    [
        (nn.LayerNorm(5), 41),  # m is the last axis
        (nn.LayerNorm((3, 5)), 42),
        (nn.LayerNorm(5, bias=False), 39),
        (nn.GroupNorm(4, 4), 42),
        (nn.InstanceNorm(5, affine=True), 42),
        (nn.BatchNorm2d(4), 41),
        (nn.RMSNorm(5), 33),
    ],
    ids=repr,
)
def test_a_layer_tells_what_is_normalised_together(layer, known):
    found = blindness(GradientCheck(), layer, grades=GRADIENTS)
    assert found.layer == type(layer).__name__
    assert (found.known, found.accepted, found.refuses_right) == (known, (), False)


def test_nothing_of_the_layer_is_changed():
    layer = nn.BatchNorm2d(4)
    before = {name: value.numpy().copy() for name, value in layer.state_dict().items()}
    blindness(GradientCheck(reference="autograd"), layer)
    assert layer.training
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


# -- what is shown -----------------------------------------------------------------------------------------------------------------


def test_it_prints_the_names_and_the_sentences():
    found = judged(USUAL, "sum(y**2)", "gradcheck")
    text, page = str(found), found._repr_html_()
    assert repr(found) == text
    assert text.startswith("sum(y**2), gradcheck: accepts 9 of 31 known mistakes in dx of instance_norm\n")
    for name in FAULTS:
        assert (f"\n{name} " in text) == (name in found.accepted) == (f"<td>{name}</td>" in page)
    assert FAULTS["no-mean-path"].sentence in text
    assert text.endswith("gamma ones, beta zeros, eps = 1e-05, seed 0; against differences with h = 1e-05.")
    assert found.wrong == (f"9 of 31 wrong backward passes are accepted: {', '.join(found.accepted)}.",)


def test_a_check_that_accepts_none_has_no_table():
    found = judged(GOOD, "sum(w*y)", "gradcheck")
    assert str(found).splitlines()[0] == "sum(w*y), gradcheck: accepts 0 of 31 known mistakes in dx of instance_norm"
    assert "accepted mistake" not in str(found)
    assert "<table>" not in found._repr_html_()
    assert found.wrong == ()
    assert found


def test_the_page_escapes_what_a_check_raised():
    def check(backward):
        raise ValueError("a < b")

    assert "ValueError: a &lt; b" in blindness(check)._repr_html_()


def test_to_dict_is_json():
    found = judged(USUAL, "sum(y**2)", "gradcheck")
    told = json.loads(json.dumps(found.to_dict()))
    assert told["accepted"] == list(found.accepted)
    assert (told["known"], told["refuses_right"], told["ok"], told["wrong"]) == (31, False, False, list(found.wrong))


@pytest.fixture(scope="module")
def compared():
    pairs = [(loss, rule) for loss in ("sum(y)", "sum(w*y)") for rule in ("allclose", "gradcheck")]
    checks = {pair: USUAL(*pair, reference="autograd") for pair in pairs}
    return compare_checks(checks | {"never": lambda backward: False})


def test_checks_beside_each_other(compared):
    assert str(compared).splitlines() == [
        "accepted mistakes in dx of instance_norm",
        "check     allclose  gradcheck  accepts",
        "sum(y)    21 of 31  21 of 31   -",
        "sum(w*y)  3 of 31   6 of 31    -",
        "never     -         -          0 of 31, refuses the right one",
    ]
    assert compared.results["sum(y)", "allclose"].accepted == judged(USUAL, "sum(y)", "allclose").accepted


def bars(figure):
    """Of each column the lengths of its bars, and the words beside all bars."""
    (axes,) = figure.axes
    lengths = {group.get_label(): [bar.get_width() for bar in group] for group in axes.containers}
    return lengths, [text.get_text() for text in axes.texts]


def test_the_bars_are_as_long_as_the_counts(compared):
    figure = compared.figure()
    lengths, words = bars(figure)
    assert lengths == {"allclose": [21, 3], "gradcheck": [21, 6], "accepts": [0]}
    assert words == ["21 of 31", "3 of 31", "21 of 31", "6 of 31", "0 of 31, refuses the right one"]
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sum(y)", "sum(w*y)", "never"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["allclose", "gradcheck", "accepts"]
    places = [bar.get_y() + bar.get_height() / 2 for group in axes.containers for bar in group]
    assert [round(place) for place in places] == [0, 1, 0, 1, 2]  # each beside its name
    assert len({round(place, 3) for place in places}) == len(places)  # and none upon another


def test_one_check_has_one_bar():
    figure = judged(USUAL, "sum(y**2)", "gradcheck").figure()
    assert bars(figure) == ({"accepts": [9]}, ["9 of 31"])
    assert figure.legends == []


def test_the_picture_is_told_in_words(compared):
    assert compared.alt() == (
        "Bar chart, accepted mistakes in dx of instance_norm: sum(y) with allclose 21 of 31; sum(y) with gradcheck 21 of 31; "
        "sum(w*y) with allclose 3 of 31; sum(w*y) with gradcheck 6 of 31; never 0 of 31, refuses the right one."
    )
    page = compared._repr_html_()
    assert f'<div role="img" aria-label="{compared.alt()}"><svg' in page
    assert "<td>21 of 31</td>" in page


def test_without_matplotlib_the_table_is_shown_and_the_extra_is_named(compared, monkeypatch):
    original = builtins.__import__

    def without(name, *args):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r'pip install -e "\.\[report\]"'):
        compared.figure()
    assert "<svg" not in compared._repr_html_()
    assert "<td>21 of 31</td>" in compared._repr_html_()


def test_pyplot_is_left_alone(compared):
    before = "matplotlib.pyplot" in sys.modules
    compared.figure()
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_types(compared):
    assert isinstance(compared, ComparedChecks)
    assert all(isinstance(each, Blindness) for each in compared.results.values())


# -- what is refused ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"loss": "sum(x)"}, ValueError, r"loss must be one of sum\(y\), .*, sum\(w\*y\), got 'sum\(x\)'"),
        ({"rule": "close"}, ValueError, "rule must be one of rel_error, allclose, gradcheck, MiniTorch, got 'close'"),
        ({"reference": "torch"}, ValueError, "reference must be one of differences, autograd, got 'torch'"),
        ({"gamma": "one"}, ValueError, "gamma must be one of random, ones, zeros, got 'one'"),
        ({"beta": "zero"}, ValueError, "beta must be one of random, ones, zeros, got 'zero'"),
        ({"dtype": "float16"}, DTypeError, "dtype must be 'float64' or 'float32', got 'float16'"),
        ({"shape": [2, 3, 4]}, ShapeError, r"shape must be a tuple of sizes above 0, such as \(2, 4, 3, 5\), got \[2, 3, 4\]"),
        ({"shape": (2, 0, 4)}, ShapeError, r"got \(2, 0, 4\)"),
        ({"h": 0.0}, ValueError, "h > 0"),
        ({"eps": -1.0}, ValueError, "eps >= 0"),
        ({"seed": -1}, ValueError, "seed >= 0"),
        ({"rule": "rel_error", "atol": 1e-3}, ValueError, "the rule rel_error does not take atol"),
        ({"rule": np.allclose, "rtol": 1e-3}, ValueError, "the rule allclose does not take rtol"),
        ({"loss": np.ones((2, 3))}, ShapeError, r"w must have shape \(2, 4, 3, 5\), got float64 \(2, 3\)"),
        ({"gamma": np.ones(3)}, ShapeError, r"gamma must have shape \(4,\), got float64 \(3,\)"),
        ({"beta": np.ones(3, np.float32)}, ShapeError, r"beta must have shape \(4,\), got float32 \(3,\)"),
        ({"shape": (4, 5)}, ShapeError, r"instance_norm takes an input of 3 to 5 axes, got shape \(4, 5\)"),
        ({"shape": (4, 5, 1)}, ShapeError, "has one element"),
        ({"loss": lambda y: 3.0}, TypeError, r"the loss must give one number as a Tensor, .*, got float"),
        ({"loss": lambda y: y}, TypeError, r"got float64 \(2, 4, 3, 5\)"),
        ({"loss": lambda y: np.sum(y.detach())}, GraphError, "does not require grad"),
    ],
)
def test_recipes_that_are_refused(options, error, said):
    with pytest.raises(error, match=said):
        blindness(GradientCheck(**options))


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda: blindness(3), TypeError, "a GradientCheck or a function of a backward is needed, got int"),
        (lambda: blindness(GradientCheck(), "weight_norm"), ValueError, "layer must be one of instance_norm, .*, got 'weight_norm'"),
        (lambda: blindness(lambda backward: True, 3), TypeError, "layer must be a normalisation layer or one of .*, got int"),
        (lambda: blindness(GradientCheck(), nn.InstanceNorm2d(4)), ValueError, "a layer with gamma is needed, .* give affine=True"),
        (lambda: blindness(GradientCheck(), nn.LayerNorm(7)), ShapeError, r"LayerNorm takes \(..., 7\), got shape \(2, 4, 3, 5\)"),
        (lambda: blindness(GradientCheck(), nn.GroupNorm(3, 6)), ShapeError, "num_channels is 6"),
        (lambda: blindness(GradientCheck(), grades="dx"), ValueError, "grades must name some of dx, dgamma, dbeta, .*, got 'dx'"),
        (lambda: blindness(GradientCheck(), grades=()), ValueError, r"got \(\)"),
        (lambda: blindness(GradientCheck(), grades=("dy",)), ValueError, r"got \('dy',\)"),
        (lambda: blindness(GradientCheck(), "rms_norm", grades=("dbeta",)), ValueError, r"no mistake in dbeta of RMSNorm\(.*\) is known"),
        (lambda: compare_checks({}), ValueError, "at least one check"),
        (lambda: compare_checks({3: GradientCheck()}), ValueError, "a string or a pair of strings, got 3"),
        (lambda: compare_checks({("a", "b", "c"): GradientCheck()}), ValueError, "a pair of strings"),
    ],
)
def test_questions_that_are_refused(ask, error, said):
    with pytest.raises(error, match=said):
        ask()


def test_a_layer_that_does_not_fit_the_numbers_of_a_check_is_told(rng):
    found = blindness(on((4, 6), rng, "batch_norm"), "instance_norm")
    assert found.raised["right"] == "ShapeError: instance_norm takes an input of 3 to 5 axes, got shape (4, 6)"
    assert found.refuses_right
