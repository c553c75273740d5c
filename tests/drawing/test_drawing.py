"""Drawings: golden DOT files, files that open, and what happens where something is missing.

After an intended change: MINITENSOR_UPDATE_GOLDEN=1 pytest tests/drawing, then look at the difference.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import minitensor as mt
from minitensor.drawing import Drawing, dot, draw, render
from minitensor.errors import MissingPackageError
from minitensor.primitive import Primitive

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"


class Weight(mt.Tensor):
    kind = "parameter"


def filled(*shape, dtype="float32", make=mt.Tensor):
    return make(np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), dtype=dtype, requires_grad=True)


def square():
    x = filled(3)
    return draw(x * x)


def affine():
    x, w, b = filled(8, 4), filled(4, 3, make=Weight), filled(3, make=Weight)
    return draw(np.sum(np.tanh(x @ w + b), axis=(0, 1)), "affine, tanh, sum", names={"x": x, "w": w, "b": b})


def broadcast():
    x = filled(4, 1)
    return draw([2.0 * x + np.ones((1, 3), np.float32), x / np.float64(0.1)])


def instance_norm(eps=1e-5):
    x, gamma, beta = filled(2, 3, 4, 4), filled(1, 3, 1, 1), filled(1, 3, 1, 1)
    mean = np.mean(x, axis=(2, 3), keepdims=True)
    centred = x - mean
    var = np.mean(centred * centred, axis=(2, 3), keepdims=True)
    y = (x - mean) / np.sqrt(var + eps) * gamma + beta
    return draw(y, names={"x": x, "gamma": gamma, "beta": beta, "mean": mean, "var": var, "y": y})


GRAPHS = {make.__name__: make for make in (square, affine, broadcast, instance_norm)}


def kinds(drawing):
    return [node.kind for node in drawing.graph.nodes]


def arrows(drawing):
    return [(edge.source, edge.target, edge.position) for edge in drawing.graph.edges]


# -- the same picture in every run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_golden(name, monkeypatch):
    path = GOLDEN / f"{name}.dot"
    if os.environ.get("MINITENSOR_UPDATE_GOLDEN"):
        GRAPHS[name]().save(path)
    assert GRAPHS[name]().dot == path.read_text(encoding="utf-8")
    # negative control: the comparison sees another colour
    monkeypatch.setitem(dot.STYLES, "output", dot.STYLES["output"] | {"color": "#ff0000"})
    assert GRAPHS[name]().dot != path.read_text(encoding="utf-8")


def test_golden_sees_another_constant():
    assert instance_norm(eps=1e-3).dot != (GOLDEN / "instance_norm.dot").read_text(encoding="utf-8")


def run(program, **environment):
    path = os.pathsep.join([*(str(Path(each).parent) for each in mt.__path__), *sys.path])
    found = subprocess.run([sys.executable, *program], env=os.environ | {"PYTHONPATH": path} | environment, capture_output=True, check=True)
    return found.stdout.decode()


def test_same_text_for_every_hash_seed():
    shown = [run([__file__], PYTHONHASHSEED=seed, PYTHONIOENCODING="utf-8") for seed in ("0", "1", "4242")]
    assert shown[0].splitlines() == "".join(make().dot for make in GRAPHS.values()).splitlines()
    assert shown[0] == shown[1] == shown[2]


def test_params_never_show_an_address_or_a_long_array():
    f = Primitive(lambda x, key, rows: x + 1, lambda g, _y, _x, key, rows: g, name="f")
    text = draw(f(filled(3), key=object(), rows=np.arange(1000))).text()
    assert "key=object, rows=int64 (1000,)" in text
    assert (
        draw(f(filled(3), key=len, rows=(slice(1, None), ..., slice(None, 2, 2), 0.1 + 0.2)))
        .text()
        .count("key=len, rows=(1:, ..., :2:2, 0.3)")
    )


# -- structure --------------------------------------------------------------------------------------------------------------------


def test_both_edges_of_a_square():
    assert arrows(square()) == [(0, 1, 0), (0, 1, 1)]
    assert square().dot.count("n0 -> n1\n") == 2


def test_inputs_before_users_in_argument_order():
    a, b = filled(2), filled(2)
    there, back = draw(a - b, names={"a": a, "b": b}), draw(b - a, names={"a": a, "b": b})
    assert [node.name for node in there.graph.nodes] == ["a", "b", "subtract"]
    assert [node.name for node in back.graph.nodes] == ["b", "a", "subtract"]
    for make in GRAPHS.values():
        assert all(source < target for source, target, _ in arrows(make()))


def test_constants_are_drawn_once_per_use():
    x, two = filled(2), mt.Tensor([2.0, 3.0])
    drawing = draw(x * two + x * two, names={"c": two})
    assert kinds(drawing) == ["leaf", "constant", "operation", "constant", "operation", "operation"]
    assert [node.name for node in drawing.graph.nodes if node.kind == "constant"] == ["c", "c"]


def test_scalar_constants_show_their_value():
    drawing = broadcast()
    assert [(n.name, n.shape, n.dtype) for n in drawing.graph.nodes if n.kind == "constant"] == [
        ("2.0", (), ""),
        ("constant", (1, 3), "float32"),
        ("0.1", (), "float64"),
    ]


def test_released_graph_is_drawn_without_constants():
    x = filled(2)
    y = np.sum(2.0 * np.tanh(x))
    assert kinds(draw(y)) == ["constant", "leaf", "operation", "operation", "operation"]
    y.backward()
    assert kinds(draw(y)) == ["leaf", "operation", "operation", "operation"]


def test_optional_input_is_skipped():
    scale = Primitive(lambda x, w: x if w is None else x * w, lambda g, _y, _x, w: g * w, lambda g, _y, x, _w: g * x, name="scale")
    assert arrows(draw(scale(filled(2), None))) == [(0, 1, 0)]
    assert arrows(draw(scale(filled(2), filled(2)))) == [(0, 2, 0), (1, 2, 1)]


def test_traced_graph():
    x = filled(2)
    (dx,) = mt.grad(np.sum(np.tanh(x)), x, create_graph=True)
    drawing = draw(dx, names={"x": x, "dx": dx})
    assert drawing.graph.nodes[-1].name.startswith("dx = ")
    assert "x" in [node.name for node in drawing.graph.nodes]
    assert "tanh" in drawing.svg


def test_tensors_without_operations_are_one_node():
    assert draw(mt.Tensor([1.0])).text() == "Compute graph: 1 constant, 1 output\n0  constant  constant  (1,)  float32  => output"
    assert draw(mt.Tensor(2.5)).graph.nodes[0].name == "2.5"
    assert draw(filled(2)).alt == "Compute graph: 1 leaf, 1 output"
    assert draw(filled(2, make=Weight)).alt == "Compute graph: 1 parameter, 1 output"
    assert "parameter" in draw(filled(2, make=Weight)).svg


def test_a_leaf_whose_tensor_is_gone():
    w = filled(2, make=Weight)
    y = np.exp(w)
    assert kinds(draw(y)) == ["parameter", "operation"]
    del w
    assert kinds(draw(y)) == ["leaf", "operation"]


def test_several_outputs():
    x = filled(2)
    y = np.tanh(x)
    drawing = draw((y, y * y, y))
    assert [node.output for node in drawing.graph.nodes] == [False, True, True]
    assert drawing.alt == "Compute graph: 1 leaf, 2 operations, 2 outputs"


def test_alt_counts_everything():
    assert affine().alt == "Compute graph of affine, tanh, sum: 1 leaf, 2 parameters, 4 operations, 1 output"
    assert repr(instance_norm()) == "<Compute graph: 3 leaves, 1 constant, 10 operations, 1 output>"


def test_a_deep_chain():
    y = filled(2)
    for _ in range(20_000):
        y = np.negative(y)
    drawing = draw(y)
    assert drawing.text().splitlines()[-1] == "20000  operation  negative  (2,)  float32  <- 19999  => output"
    assert "n19999 -> n20000\n" in drawing.dot
    with pytest.raises(ValueError, match=r"20001 nodes and 20000 arrows .* use \.text\(\) or \.dot"):
        _ = drawing.svg
    assert set(drawing._repr_mimebundle_()[0]) == {"text/plain"}
    assert drawing._repr_svg_() is None


def test_too_many_long_arrows():
    y = x = filled(2)
    for _ in range(100):
        y = np.negative(y) + x
    assert draw(y).graph.span == 2 * 100 + sum(range(2, 202, 2))  # by hand: 200 short arrows, and one from x to every addition
    y = x
    for _ in range(200):
        y = np.negative(y) + x
    assert len(draw(y).graph.nodes) < 2000
    with pytest.raises(ValueError, match="draw a part"):
        _ = draw(y).png


# -- drawing changes nothing ------------------------------------------------------------------------------------------------------


def test_drawing_changes_nothing():
    x, w = filled(3), filled(3)
    y = np.sum(np.tanh(x * w))
    before = y._node.edges, y._node.edges[0].inputs
    drawing = draw(y, names={"x": x})
    assert drawing.svg
    assert x.grad is None
    assert w.grad is None
    assert (y._node.edges, y._node.edges[0].inputs) == before
    text = drawing.text()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), (1 - np.tanh(x.data * w.data) ** 2) * w.data, rtol=1e-6)
    assert drawing.text() == text


def test_a_drawing_keeps_no_array_alive():
    y = np.tanh(filled(3))
    gone = weakref.ref(y._array)
    drawing = draw(y)
    assert gone() is not None  # negative control: the Tensor does
    del y
    assert gone() is None
    assert drawing.dot


# -- what it looks like -----------------------------------------------------------------------------------------------------------


def test_kinds_differ_in_shape_and_in_colour():
    looks = {kind: style for kind, style in dot.STYLES.items() if kind != "output"}
    looks["output"] = dot.STYLES["operation"] | dot.STYLES["output"]
    for (_, a), (_, b) in combinations(looks.items(), 2):
        assert (a["shape"], a.get("peripheries")) != (b["shape"], b.get("peripheries"))
        assert a["fillcolor"] != b["fillcolor"]
        assert a["color"] != b["color"]


def test_legend_names_the_kinds_in_the_picture():
    assert [kind for kind in dot.STYLES if f"legend_{kind} [" in affine().dot] == ["leaf", "parameter", "operation", "output"]
    x = filled(2)
    assert "legend" in draw(x * x).dot
    assert "legend" not in draw(x * x, legend=False).dot


def test_params_stand_in_small_print():
    small = [each.text for each in ElementTree.fromstring(instance_norm().svg).iter(f"{SVG}text") if each.get("font-size") == "10.00"]
    assert small.count("axis=(2, 3), keepdims=True") == 2
    x = filled(2)
    assert draw(x.sum(axis=None, keepdims=False)).graph.nodes[-1].params == ""  # these say nothing


def test_any_name_can_be_drawn():
    x = filled(2)
    drawing = draw(x * x, 'A < B & "C"', names={"<x & 'γ'\\N>": x})
    root = ElementTree.fromstring(drawing.svg)
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert 'A < B & "C"' in texts
    assert "<x & 'γ'\\\u2060N>" in texts  # not <x & 'γ'n0>
    assert root.get("aria-label") == drawing.alt


# -- files ------------------------------------------------------------------------------------------------------------------------


def test_saved_files_open(tmp_path):
    drawing = instance_norm()
    for suffix, start in (("svg", b"<svg "), ("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-"), ("dot", b"digraph "), ("PNG", b"\x89PNG")):
        path = drawing.save(str(tmp_path / f"graph.{suffix}"))
        assert isinstance(path, Path)
        assert path.read_bytes().startswith(start)
    texts = {each.text for each in ElementTree.parse(tmp_path / "graph.svg").getroot().iter(f"{SVG}text")}
    assert {"x", "gamma", "mean", "var = mean", "sqrt", "divide", "y = add", "1e-05", "(2, 3, 4, 4) float32", "legend"} <= texts
    assert "tanh" not in texts  # negative control
    assert (tmp_path / "graph.dot").read_text(encoding="utf-8") == drawing.dot


def test_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"'graph\.jpeg' is not one of \.svg, \.png, \.pdf, \.dot"):
        square().save(tmp_path / "graph.jpeg")
    assert not list(tmp_path.iterdir())


def test_mimebundle():
    data, metadata = affine()._repr_mimebundle_(include=None, exclude=None)
    assert set(data) == {"text/plain", "image/svg+xml", "image/png"}
    assert data["image/svg+xml"] == affine()._repr_svg_()
    width = int.from_bytes(data["image/png"][16:20], "big")
    assert metadata["image/png"]["width"] == width // 2
    points = float(ElementTree.fromstring(data["image/svg+xml"]).get("width").removesuffix("pt"))
    assert width // 2 == pytest.approx(points * 96 / 72, abs=2)  # both pictures show at one size


def test_nothing_on_stderr_and_stderr_still_works(capfd):
    assert square().svg
    with render._quiet():
        os.write(2, b"Fontconfig warning")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


# -- what is missing --------------------------------------------------------------------------------------------------------------


def test_importing_it_imports_nothing_heavy():
    code = "import minitensor.drawing, sys; print(sorted({'graphviz', 'pygraphviz', 'IPython'} & set(sys.modules)))"
    assert run(["-c", code]).strip() == "[]"


@pytest.fixture
def no_renderer(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))


HELP = r'pip install -e "\.\[draw\]" from the checkout \(or pip install graphviz pygraphviz\); \.text\(\)'


@pytest.mark.usefixtures("no_renderer")
@pytest.mark.parametrize("package", ["graphviz", "pygraphviz"])
def test_missing_packages_are_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    drawing = square()
    for suffix in ("svg", "png", "pdf"):
        with pytest.raises(MissingPackageError, match=HELP):
            drawing.save(tmp_path / f"graph.{suffix}")
    assert not list(tmp_path.iterdir())
    assert "multiply" in drawing.text()
    (data, _), shown = drawing._repr_mimebundle_(), drawing._repr_svg_()
    assert set(data) == {"text/plain"}
    assert data["text/plain"].startswith(drawing.text())
    assert 'pip install -e ".[draw]"' in data["text/plain"]
    assert shown is None


def test_dot_needs_graphviz_alone(monkeypatch, no_renderer):
    assert square().dot
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(MissingPackageError, match=HELP):
        _ = square().dot


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for the dot program is a shell script")
def test_dot_program_serves_where_pygraphviz_is_missing(no_renderer, tmp_path):
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "<svg $*/>"\n')
    program.chmod(0o755)
    assert "-Tsvg" in square().svg


# -- errors -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (3.0, "got float"),
        (np.ones(2), "got ndarray"),
        ([], r"got list of \(\)"),
        ([mt.Tensor(1.0), None], r"got list of \(Tensor, NoneType\)"),
    ],
)
def test_only_tensors_are_drawn(wrong, told):
    with pytest.raises(TypeError, match=told):
        draw(wrong)


def test_names_map_to_tensors():
    x = filled(2)
    with pytest.raises(TypeError, match="'x' is of type ndarray"):
        draw(x * x, names={"x": x.data})
    assert isinstance(draw(x * x, names={"elsewhere": filled(2)}), Drawing)


if __name__ == "__main__":
    for make in GRAPHS.values():
        print(make().dot, end="")
