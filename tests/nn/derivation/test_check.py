"""A check: whose rules are taken, what the judges say together, and how it is shown."""

import json
import types

import numpy as np
import pytest
from slips import changed

from minitensor.nn.derivation import DERIVATIONS, instance_norm, softmax
from minitensor.nn.derivation.judges import JUDGES, Autograd
from minitensor.nn.derivation.judges.judge import Truth

QUICK = {"closed_form": {}, "double_backward": {}, "judges": ("autograd", "complex step")}


def without_2(q_bar, c):
    return c * q_bar


def y_to_z(y_bar, y, axes):
    return -np.sum(y_bar * y, axis=axes, keepdims=True)


@pytest.fixture(scope="module")
def whole():
    """softmax, of which 1 / z is forgotten in one rule, before all judges."""
    return softmax.check({"y_to_z": y_to_z})


@pytest.mark.parametrize("name", DERIVATIONS)
def test_what_is_shipped_is_right_for_judges_who_share_nothing(name):
    check = DERIVATIONS[name].check(judges=("complex step", "exact"))
    assert check
    assert check.ok
    assert check.marks == 1
    assert check.wrong == ()
    assert set(check.verdicts.values()) == {"right"}
    assert list(check.verdicts)[: len(DERIVATIONS[name].edges)] == [" -> ".join(edge) for edge in DERIVATIONS[name].edges]


def test_all_judges_see_the_wrong_edge_and_no_other(whole):
    assert not whole
    assert whole.wrong == (("y", "z"),)
    assert whole.marks == 0.75
    assert {(row.name, row.verdict) for row in whole.rows if row.verdict != "right"} == {("y -> z", "WRONG")}
    assert [row.judge for row in whole.rows if row.verdict == "WRONG"] == list(JUDGES)
    assert [(row.part, row.name) for row in whole.rows[:7]] == [
        *(("edge", name) for name in ("y -> e", "y -> z", "z -> e", "e -> x")),
        ("closed form", "closed form of x"),
        ("double backward", "double backward: x"),
        ("double backward", "double backward: g"),
    ]


def module_of(**members):
    module = types.ModuleType("learner")
    vars(module).update(members, np=np, forward=len, convert_to_float=float, e_to=None)
    return module


@pytest.mark.parametrize("rules", [{("q", "c"): without_2}, {"q_to_c": without_2}], ids=["by edge", "by name"])
def test_rules_are_taken_by_edge_or_by_name(rules):
    check = instance_norm.check(rules, **QUICK)
    assert check.wrong == (("q", "c"),)
    assert check.rules == {("q", "c"): without_2}
    assert check.formulas["q -> c"] == "c * q_bar"


ALL = {f"{step}_to_{parent}": rule for (step, parent), rule in instance_norm.rules.items()}


@pytest.mark.parametrize("namespace", [module_of, lambda **members: vars(module_of(**members))], ids=["module", "namespace"])
def test_an_exercise_is_a_namespace_in_which_nothing_may_be_missing(namespace):
    check = instance_norm.check(namespace(**ALL | {"q_to_c": without_2}), **QUICK)
    assert check.wrong == (("q", "c"),)
    assert check.formulas["q -> c"] == "c * q_bar"
    written = {name: rule for name, rule in ALL.items() if name not in ("q_to_c", "r_to_s")}
    check = instance_norm.check(namespace(**written), **QUICK)
    assert set(check.wrong) == {("q", "c"), ("r", "s")}
    assert {row.reason for row in check.rows if row.verdict == "WRONG"} == {"not written yet"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"q_to_x": without_2}, r"instance_norm has no edge q_to_x, did you mean q_to_c\?; its edges are y_to_x_hat"),
        ({("q", "mu"): without_2}, r"no edge q_to_mu, did you mean c_to_mu\?"),
        ({"helper": without_2}, "no edge helper"),
        (module_of(q_to_cc=without_2), r"no edge q_to_cc, did you mean q_to_c\?"),
        (module_of(qq_to_c=without_2), r"no edge qq_to_c, did you mean q_to_c\?"),
        (module_of(), "there is no rule among what was given; functions called y_to_x_hat"),
        ({"q_to_c": lambda q_bar, cc: q_bar}, r"the rule q -> c reads cc, did you mean c\?; it may read q_bar, mu"),
        ({"q_to_c": lambda v_bar, c: v_bar}, "the rule q -> c reads v_bar"),
    ],
)
def test_a_rule_for_no_edge_or_of_no_node_is_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        instance_norm.check(rules, **QUICK)


def test_a_rule_must_be_a_function():
    with pytest.raises(TypeError, match="the rule q -> c must be a function, got int"):
        instance_norm.check({"q_to_c": 2}, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judges": ["autogard"]}, r"there is no judge 'autogard', did you mean autograd\?; there are autograd, differences"),
        ({"mode": "both"}, 'mode must be "carried" or "cumulative", got \'both\''),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"closed_form": {"y": without_2}}, "instance_norm has no closed form of y; there may be one of x, gamma, beta, eps"),
        ({"closed_form": {"g": without_2}}, "no closed form of g"),
        ({"double_backward": {"gama": without_2}}, r"no double backward of gama, did you mean gamma\?"),
        ({"closed_form": {"x": lambda x, u: x}}, "the rule closed form of x reads u"),
        ({"double_backward": {"x": lambda x, uu: x}}, r"the rule double backward of x reads uu, did you mean u\?"),
    ],
)
def test_what_is_not_known_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        instance_norm.check(**options)


def test_one_judge_is_not_enough():
    check = softmax.check(judges=["exact"])
    assert set(check.verdicts.values()) == {"right"}
    assert not check.ok
    assert "Judged by one judge only, which is not enough: y -> e" in str(check)


def test_the_name_of_one_judge_will_do():
    assert {row.judge for row in softmax.check(judges="exact").rows} == {"exact"}


def test_two_modes():
    rules = {"s_to_v": lambda s_bar, s: s_bar / s}
    assert instance_norm.check(rules, **QUICK).wrong == (("s", "v"),)
    assert instance_norm.check(rules, mode="cumulative", **QUICK).wrong == (("s", "v"), ("v", "q"), ("q", "c"), ("c", "x"))


def test_a_broken_judge_shows_as_a_disagreement(monkeypatch):
    """All its derivatives are twice too large: further in, the adjoints that it feeds are so too, and it contradicts nobody."""
    honest = Autograd.differentiate
    monkeypatch.setattr(Autograd, "differentiate", lambda *given: Truth(2 * honest(*given).value))
    check = softmax.check(judges=("autograd", "complex step", "exact"))
    assert [name for name, verdict in check.verdicts.items() if verdict == "right"] == ["z -> e", "e -> x"]
    assert {verdict for verdict in check.verdicts.values() if verdict != "right"} == {"judges disagree"}
    assert not check.ok
    assert check.wrong == ()
    assert check.marks == 0.5
    assert "judges disagree: y -> e, y -> z, closed form of x" in str(check)


def test_a_form_that_is_right_for_small_slices_only_shows_as_a_disagreement():
    """A proof at m = 2 and 3 proves no more than that."""
    form = changed(softmax.closed_form["x"], lambda made, m: made * (1 + (m - 2) * (m - 3)), "m")
    check = softmax.check(closed_form={"x": form}, double_backward={})
    assert check.verdicts["closed form of x"] == "judges disagree"
    found = {row.judge: row.verdict for row in check.rows if row.part == "closed form"}
    assert found == {**dict.fromkeys(JUDGES, "WRONG"), "proof": "right"}


@pytest.mark.parametrize("harmless", [2, 3])
def test_a_form_that_is_right_for_one_small_slice_is_wrong(harmless):
    form = changed(softmax.closed_form["x"], lambda made, m: made * (m - harmless + 1), "m")
    check = softmax.check(closed_form={"x": form}, double_backward={})
    assert check.verdicts["closed form of x"] == "WRONG"
    assert [row.judge for row in check.rows if row.verdict == "WRONG"] == list(JUDGES)


def test_forms_that_are_given_are_judged_and_no_others():
    check = softmax.check(closed_form={}, double_backward={"g": lambda u: u}, judges=("autograd", "exact"))
    assert [name for name in check.verdicts if "->" not in name] == ["double backward: g"]
    assert check.verdicts["double backward: g"] == "WRONG"


def test_what_nobody_can_judge_is_not_right():
    def rule(q_bar, c):
        return 2 * c.astype(float) * q_bar

    check = instance_norm.check({"q_to_c": rule}, closed_form={}, double_backward={}, judges=("exact", "proof"))
    assert check.verdicts["q -> c"] == "not judged"
    assert not check.ok
    assert check.marks == 12 / 13
    assert "exact did not judge q -> c: DTypeError" in str(check)


def test_the_table(whole):
    text = str(whole)
    assert text.splitlines()[0] == "softmax, carried, seed 0"
    columns = text.splitlines()[1].split("  ")
    assert [column.strip() for column in columns if column] == ["line", "rule", *JUDGES, "verdict"]
    right, wrong = text.splitlines()[2:4]
    assert right.startswith("y -> e  ")
    assert "y_bar / z" in right
    assert right.split()[-3:] == ["=", "proved", "right"]
    assert "-np.sum(y_bar * y, axis=axes, keepdims=True)" in wrong
    assert wrong.count("WRONG") == 6
    assert wrong.endswith("WRONG")
    assert "6 of 7 lines are right; WRONG: y -> z." in text
    assert "y -> z: it gives" in text
    assert repr(whole) == text
    assert list(whole.table().marks) == ["ok", "WRONG", "ok", "ok", "ok", "ok", "ok"]


def test_a_rule_that_is_no_formula_is_called_by_its_name():
    def by_loops(q_bar, c):
        return np.array([2 * a * b for a, b in zip(q_bar.flat, c.flat, strict=True)]).reshape(c.shape)

    check = instance_norm.check({"q_to_c": by_loops}, closed_form={}, double_backward={})
    assert check.formulas["q -> c"] == "by_loops"
    assert check.ok


def test_html_escapes_what_it_shows(whole):
    html = whole._repr_html_()
    assert "y -&gt; z" in html
    assert "->" not in html
    assert "<b>6 of 7 lines are right; WRONG: y -&gt; z.</b>" in html
    assert html.count("<tr style=") == 1


def test_json(whole):
    found = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert (found["derivation"], found["mode"], found["seed"]) == ("softmax", "carried", 0)
    assert (found["ok"], found["marks"], found["wrong"]) == (False, 0.75, [["y", "z"]])
    assert found["verdicts"] == whole.verdicts
    assert len(found["rows"]) == len(whole.rows) == 35
    assert found["rows"][0].keys() == {"part", "name", "judge", "error", "verdict", "reason"}


def test_a_check_is_repeatable(whole):
    assert softmax.check({"y_to_z": y_to_z}).to_dict() == whole.to_dict()
    assert softmax.check(judges=["autograd"], seed=1).rows != softmax.check(judges=["autograd"], seed=2).rows


def test_it_draws_itself(whole):
    assert "y -> z" in whole.draw().text()


def test_progress_names_every_judge():
    steps = []
    softmax.check(judges=("autograd", "exact"), progress=steps.append)
    assert steps == ["autograd: 4 edges", "autograd: closed forms", "exact: 4 edges", "exact: closed forms"]
