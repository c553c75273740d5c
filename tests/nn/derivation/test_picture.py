"""The picture of a derivation: every edge with its rule, and a wrong edge that nobody can overlook."""

import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from minitensor.drawing.graph import DrawnGraph
from minitensor.errors import MissingPackageError
from minitensor.nn.derivation import DERIVATIONS, instance_norm, softmax, softmax_cross_entropy
from minitensor.nn.derivation.picture import picture
from minitensor.nn.derivation.text import lines

ALL = pytest.mark.parametrize("derivation", DERIVATIONS.values(), ids=DERIVATIONS)
SVG = "{http://www.w3.org/2000/svg}"
SLIP = ("q", "c")


@pytest.fixture(scope="module")
def slipped():
    return instance_norm.check({SLIP: lambda q_bar, c: c * q_bar}, judges=("autograd",))


def drawn_edges(derivation, graph: DrawnGraph):
    """The edges as (step, parent), with their labels and marks."""
    names = [*derivation.leaves, *derivation.by_name]
    return {(names[edge.target], names[edge.source]): (edge.label, edge.mark) for edge in graph.edges}


@ALL
def test_nodes_and_edges(derivation):
    drawing = derivation.draw()
    found = drawn_edges(derivation, drawing.graph)
    told = {line.name: line.text for line in lines(derivation)}
    assert {edge: label for edge, (label, _) in found.items() if label} == {
        (name, parent): told[f"{name} -> {parent}"] for name, parent in derivation.edges
    }
    assert {parent for (_, parent), (label, _) in found.items() if not label} == derivation.data
    assert all(mark == "" for _, mark in found.values())
    assert [node.name for node in drawing.graph.nodes if node.kind == "operation"] == [told[name] for name in derivation.by_name]
    assert [node.name for node in drawing.graph.nodes if node.output] == [told[derivation.output]]


@ALL
def test_the_svg_opens_and_says_what_it_shows(derivation):
    root = ElementTree.fromstring(derivation.draw().svg)
    assert root.get("aria-label") == derivation.draw().alt
    assert derivation.title in root.get("aria-label")
    texts = {"".join(text.itertext()).replace("\xa0", " ").strip() for text in root.iter(f"{SVG}text")}
    assert {line.text for line in lines(derivation) if line.part in ("forward", "edge")} <= texts


@ALL
def test_text_needs_no_package(derivation, monkeypatch):
    for package in ("graphviz", "pygraphviz"):
        monkeypatch.setitem(sys.modules, package, None)
    text = derivation.draw().text()
    for line in lines(derivation):
        assert (line.text in text) == (line.part in ("forward", "edge"))
    with pytest.raises(MissingPackageError, match="pip install"):
        derivation.draw().svg


def test_the_wrong_edge_and_no_other_is_marked(slipped):
    drawing = slipped.draw()
    assert {edge for edge, (_, mark) in drawn_edges(instance_norm, drawing.graph).items() if mark == "wrong"} == {SLIP}
    assert drawing.alt.endswith("; wrong: q -> c")
    assert [line.strip() for line in drawing.text().splitlines() if "×" in line] == ["5 -> 6  × c_bar += c * q_bar"]


def test_the_wrong_edge_is_red_and_thick_and_has_a_cross(slipped):
    wrong, fine = slipped.draw().svg, instance_norm.draw().svg
    assert wrong.count('<path fill="none" stroke="#b3261e" stroke-width="3"') == 1
    assert wrong.count("×") == 1
    assert "#b3261e" not in fine
    assert "×" not in fine


def test_judges_who_disagree_show_as_a_dashed_line():
    class Split:
        verdicts = {"y -> e": "judges disagree", "y -> z": "right"}  # noqa: RUF012
        rules = softmax.rules

    drawing = picture(softmax, Split)
    assert {edge for edge, (_, mark) in drawn_edges(softmax, drawing.graph).items() if mark} == {("y", "e")}
    assert drawing.alt.endswith("; the judges disagree on y -> e")
    assert len(re.findall(r"stroke-dasharray", drawing.svg)) == 1
    assert "? e_bar += y_bar / z" in drawing.text()


def test_a_right_check_leaves_the_picture_as_it_is():
    check = softmax.check(judges=("autograd",))
    assert check.draw().dot == softmax.draw().dot


def test_a_leaf_without_a_gradient_is_a_constant():
    kinds = {node.name: node.kind for node in softmax_cross_entropy.draw().graph.nodes}
    assert (kinds["x"], kinds["t"]) == ("leaf", "constant")


def test_shapes_follow_m():
    drawing = softmax.draw()
    assert [node.size for node in drawing.graph.nodes] == ["(3, m)", "(3, m)", "(3, 1)", "(3, m)"]
    assert "(3, m)" in drawing.svg
    np.testing.assert_equal(drawing.text().count("'"), 0)
