"""A derivation as text: complete, readable by LaTeX, the same in every run, and saying what the code does."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser

from minitensor.nn.derivation import DERIVATIONS, Derivation, instance_norm, layer_norm, softmax, step
from minitensor.nn.derivation.expression import latex, symbol
from minitensor.nn.derivation.judges import JUDGES
from minitensor.nn.derivation.text import PARTS, lines, shapes

ALL = pytest.mark.parametrize("derivation", DERIVATIONS.values(), ids=DERIVATIONS)


@pytest.fixture(scope="module")
def checked():
    """The check of softmax with a slip in one rule."""
    return softmax.check({("y", "z"): lambda y_bar, y, z, axes: np.sum(y_bar * y, axis=axes, keepdims=True) / z})


@ALL
def test_every_line_is_there_once(derivation):
    found = lines(derivation)
    told = [*derivation.by_name, *(f"{name} -> {parent}" for name, parent in derivation.edges)]
    told += [f"closed form of {name}" for name in derivation.closed_form] + [
        f"double backward: {name}" for name in derivation.double_backward
    ]
    assert [line.name for line in found] == told
    assert list(dict.fromkeys(line.part for line in found)) == list(PARTS)


@ALL
def test_latex_compiles(derivation):
    parser = MathTextParser("path")
    for line in lines(derivation):
        parser.parse("$" + line.latex.replace(r"\mathrel{+}=", "+=") + "$")


@ALL
def test_latex_fragment(derivation):
    text = derivation.latex()
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
    assert text.count(r"\begin{align*}") == text.count(r"\end{align*}") == len([each for each in derivation.steps if each.adjoints]) + 3
    assert re.findall(r"^.*[^\x20-\x7e\n].*$", text, re.MULTILINE) == []
    for name in (*derivation.leaves, *derivation.by_name):
        assert symbol(name) in text
        assert name in derivation.data or symbol(f"{name}_bar") in text or name == derivation.output


def test_latex_of_a_bad_formula_is_seen():
    """A negative control of the parser."""
    with pytest.raises(ValueError, match="Expected"):
        MathTextParser("path").parse(r"$\frac{1}{m} \sum_{i} x_i}$")


@ALL
def test_the_plain_text_is_the_code(derivation):
    """Run, the plain text of the forward and of the backward gives what the derivation gives."""
    rng = np.random.default_rng(3)
    leaves = {name: rng.uniform(0.5, 2, [5 if size == "m" else size for size in shape]) for name, shape in derivation.leaves.items()}
    env = derivation.forward(leaves)
    g = rng.standard_normal(np.shape(env[derivation.output]))
    bars, _ = derivation.backward(env, g)

    def summed(function):
        return lambda values, axes=None: function(values, axis=axes, keepdims=axes is not None)

    functions = {"sum": summed(np.sum), "mean": summed(np.mean), "sqrt": np.sqrt, "exp": np.exp, "log": np.log}
    run = functions | dict(derivation.constants) | leaves | {"m": env["m"], f"{derivation.output}_bar": g}
    run |= {f"{name}_bar": np.zeros(np.shape(env[name])) for name in env if name in bars and name != derivation.output}
    for line in lines(derivation):
        if line.part in ("forward", "edge"):
            exec(line.text.replace("+=", "= " + line.text.partition(" +=")[0] + " +"), run)
    for name in derivation.by_name:
        np.testing.assert_allclose(run[name], env[name])
    for name in bars:
        np.testing.assert_allclose(run[f"{name}_bar"], bars[name])
    closed = derivation.closed(env, g)
    for line in lines(derivation):
        if line.part == "closed form":
            name = line.name.removeprefix("closed form of ")
            exec("; ".join(reversed(line.text.split(", a = "))), run | {"g": g}, values := {})
            np.testing.assert_allclose(np.broadcast_to(values[f"{name}_bar"], np.shape(closed[name])), closed[name], atol=1e-12)


def test_indices():
    """i for what varies within a slice, j in a sum where i is taken, n for the slices."""
    found = {line.name: line.latex for line in (*lines(instance_norm), *lines(layer_norm))}
    assert found["q -> c"] == r"\bar{c}_i \mathrel{+}= 2 c_i \bar{q}_i"
    assert found["c -> mu"] == r"\bar{\mu} \mathrel{+}= -\sum_{i} \bar{c}_i"
    assert found["s -> eps"] == r"\bar{\varepsilon} \mathrel{+}= \sum_{n} \frac{\bar{s}}{2 s}"
    assert found["y -> gamma"] == r"\bar{\gamma}_i \mathrel{+}= \sum_{n} \bar{y}_i \hat{x}_i"  # LayerNorm's gamma varies within a slice
    assert {line.name: line.latex for line in lines(instance_norm)}["y -> gamma"] == (
        r"\bar{\gamma} \mathrel{+}= \sum_{n, i} \bar{y}_i \hat{x}_i"
    )


def test_shapes():
    assert shapes(instance_norm)["x_hat"] == (2, 3, "m")
    assert shapes(instance_norm)["r"] == (2, 3, 1)


def test_closed_forms_are_told_in_the_words_of_the_forward():
    found = {line.name: line.text for line in lines(instance_norm)}
    assert found["closed form of x"] == "x_bar = r * (g * gamma - mean(g * gamma, axes) - x_hat * mean(g * gamma * x_hat, axes))"
    assert found["double backward: x"].endswith(", a = mean(g * gamma, axes), b = mean(u * x_hat, axes), k = mean(g * gamma * x_hat, axes)")


def test_a_wrong_closed_form_is_told_as_it_is():
    """It is not shown as the right one."""
    wrong = Derivation(
        "wrong",
        softmax.leaves,
        softmax.steps,
        {"x": lambda x, g, axes: np.exp(x) / (1 + np.sum(np.exp(x), axis=axes, keepdims=True)) * g},
        constants=softmax.constants,
    )
    assert lines(wrong)[-1].text == "x_bar = e / (1 + z) * g"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (lambda a, b: a - (b - a), r"a - \left(b - a\right)"),
        (lambda a, b: a - -b, "a + b"),
        (lambda a, b: -a * b, "-a b"),
        (lambda a, b: -(a + b), r"-\left(a + b\right)"),
        (lambda a, b: -a / -b, r"\frac{a}{b}"),
        (lambda a, b: (a + b) * (a + b), r"\left(a + b\right)^2"),
        (lambda a, b: a / b * (a / b), r"\frac{a}{b} \frac{a}{b}"),
        (lambda a, b: a * 1, "a"),
        (lambda a, b: a**2 * a**2, "a^{2} a^{2}"),
        (lambda a, b: np.sum(a) * b, r"\left(\sum_{i} a\right) b"),
        (lambda a, b: b * np.sum(a), r"b \sum_{i} a"),
        (lambda a, b: np.log(a * b) + np.cosh(a), r"\ln\left(a b\right) + \operatorname{cosh} a"),
        (lambda a, b: np.maximum(a, 0.5), r"\operatorname{maximum}\left(a, 0.5\right)"),
    ],
)
def test_signs_brackets_and_powers(rule, told):
    assert latex(rule, over=lambda axis: ("i",), indexed=(), free=False).replace("_{i}", "") == told.replace("_{i}", "")


def test_a_rule_that_is_no_formula_is_called_by_its_name():
    def clipped(y_bar, x):
        return y_bar if x.sum() > 0 else 0 * y_bar

    odd = Derivation("odd", {"x": ("m",)}, [step("y", lambda x: x * 2, x=clipped)])
    assert lines(odd)[-1].text == "x_bar += clipped(y_bar, x)"
    assert lines(odd)[-1].right == r"\operatorname{clipped}\left(\bar{y}_i, x_i\right)"


def test_names_and_special_characters_in_notes():
    odd = Derivation("odd_one", {"x": ("m",)}, [step("y", lambda x: x * 2, "50 % of x & no parent's #_", x=lambda y_bar: y_bar * 2)])
    assert r"50 \% of $x$ \& no parent's \#\_" in odd.latex()
    assert r"\section*{odd\_one, with $x$ ($m$,).}" not in odd.latex()
    assert r"\section*{odd\_one}" in odd.latex()


def test_markdown_has_every_verdict(checked):
    text = softmax.markdown(checked)
    rows = {cells[1].strip(" `"): cells for line in text.splitlines() if len(cells := re.split(r"(?<!\\)\|", line)) > 3}
    for line in lines(softmax, checked.rules):
        assert line.latex in rows[line.name][2]
    judged = {(row.name, row.judge): row.verdict for row in checked.rows}
    for line in lines(softmax):
        if line.part != "forward":
            marks = [cell.strip() for cell in rows[line.name][-len(JUDGES) - 1 : -1]]
            said = [judged.get((line.name, judge), "") for judge in JUDGES]
            assert marks == [{"right": "✓", "WRONG": "✗", "not judged": "–", "": ""}[each] for each in said]
    assert "✗" in text
    assert "✗" not in softmax.markdown(softmax.check(judges=["autograd"]))


def test_the_rule_that_was_checked_is_shown(checked):
    assert r"\bar{z} \mathrel{+}= \frac{\sum_{i} \bar{y}_i y_i}{z}" in softmax.markdown(checked)
    assert r"\bar{z} \mathrel{+}= -\frac{\sum_{i} \bar{y}_i y_i}{z}" in softmax.markdown()


def test_the_same_text_in_every_run():
    told = "[(each.latex(), each.markdown(), each.exercise(True)) for each in DERIVATIONS.values()]"
    code = f"from minitensor.nn.derivation import DERIVATIONS; print({told})"
    made = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1
