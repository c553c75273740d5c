"""The pictures of a gradient check show what the numbers say, without pyplot; and a clear word where they cannot be drawn."""

import builtins
import io
import sys

import numpy as np
import pytest
from PIL import Image

import minitensor as mt
from minitensor.autograd import gradcheck
from minitensor.errors import MissingPackageError, UnsupportedError
from minitensor.primitive import Primitive

OFF = Primitive(np.exp, lambda g, y, _x: g * y * np.where(y == y.max(), 1.001, 1))


@pytest.fixture
def inputs(rng):
    return mt.tensor(rng.standard_normal((2, 3)), requires_grad=True), mt.tensor(rng.standard_normal(3), requires_grad=True)


@pytest.fixture
def wrong(inputs):
    return gradcheck(lambda x, y: OFF(x) * y, inputs, raise_exception=False)


@pytest.fixture
def right(inputs):
    return gradcheck(lambda x, y: np.exp(x) * y, inputs)


def curves(result):
    """Per curve the errors, from the largest step to the smallest."""
    (axes,) = result.step_sizes().axes
    assert axes.get_xlabel() == "step size h"
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_the_heat_map_marks_the_wrong_element(wrong, inputs) -> None:
    first, second, bar = wrong.heatmap().axes
    assert [axes.get_title() for axes in (first, second)] == ["input 0, shape (2, 3)", "input 1, shape (3,)"]
    assert bar.get_ylabel() == "|analytic - numerical|"
    shown = first.images[0].get_array()
    at = np.unravel_index(np.argmax(inputs[0].data), (2, 3))
    assert np.unravel_index(np.argmax(shown), (2, 3)) == at
    assert np.sum(shown > 1e-9) == 1
    (marks,) = first.collections
    assert marks.get_offsets().tolist() == [[at[1], at[0]]]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["wrong"]
    assert len(second.collections) == 0
    assert first.images[0].norm.vmax == second.images[0].norm.vmax  # one scale


def test_a_right_gradient_has_no_marks_and_dark_colours(right) -> None:
    *maps, _ = right.heatmap().axes
    assert all(len(axes.collections) == 0 for axes in maps)
    assert all(image.norm(image.get_array()).max() < 0.6 for axes in maps for image in axes.images)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 3), (2, 2, 2, 2)])
def test_inputs_of_every_rank_have_a_heat_map(shape) -> None:
    x = mt.tensor(np.linspace(1, 2, int(np.prod(shape))).reshape(shape), requires_grad=True)
    axes = gradcheck(np.exp, x).heatmap().axes[0]
    assert axes.images[0].get_array().size == x.size


def test_kinks_are_marked() -> None:
    x = mt.tensor([-1.0, 0.0, 2.0], np.float64, requires_grad=True)
    axes = gradcheck(np.abs, x, raise_exception=False).heatmap().axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["at a kink"]


def test_a_right_gradient_gives_a_v_and_a_wrong_one_a_plateau(right, wrong) -> None:
    good, bad = curves(right), curves(wrong)
    assert list(good) == list(bad) == ["forward", "central", "Richardson", "complex step"]
    assert good["forward"].min() < 1e-6 < 1e-2 < good["forward"][0]
    assert good["forward"][-1] > 1e-4
    assert good["central"].min() < 1e-8
    assert good["Richardson"].min() < 1e-10
    assert good["complex step"][-10:].max() < 1e-13
    plateau = bad["complex step"][-1]
    assert plateau > 1e-5
    for name in ("central", "Richardson"):
        assert np.allclose(bad[name][8:20], plateau, rtol=0.05)


def test_a_function_that_leaves_the_complex_world_has_three_curves() -> None:
    x = mt.tensor([1.0, 2.0], np.float64, requires_grad=True)
    assert list(curves(gradcheck(lambda x: np.exp(x.astype(np.float64)), x))) == ["forward", "central", "Richardson"]


def test_a_derivative_of_0_is_drawn_in_absolute_terms(rng) -> None:
    result = gradcheck(lambda x: x * 0, mt.tensor([1.0, 2.0], np.float64, requires_grad=True), raise_exception=False)
    assert "relative" not in result.step_sizes().axes[0].get_ylabel()


def test_a_gradient_of_nan_is_said_in_the_picture() -> None:
    result = gradcheck(Primitive(np.exp, lambda g, y, _x: g * y * np.nan), mt.ones(2, requires_grad=True), raise_exception=False)
    assert result.step_sizes().axes[0].get_title() == "the analytic derivative is nan: nothing is near it"


def test_where_there_is_nothing_to_draw(inputs) -> None:
    fast = gradcheck(lambda x, y: np.exp(x) * y, inputs, fast_mode=True)
    with pytest.raises(UnsupportedError, match="fast_mode=False"):
        fast.heatmap()
    assert curves(fast)
    refused = gradcheck(lambda x: x[:0], inputs[0], raise_exception=False)
    with pytest.raises(UnsupportedError, match="refused before"):
        refused.step_sizes()
    assert refused._repr_html_().count("<svg") == 0
    assert "no floating element" in refused._repr_html_()


def test_the_notebook_shows_tables_and_pictures(wrong) -> None:
    page = wrong._repr_html_()
    assert page.count("<svg") == 2
    assert "WRONG" in page
    assert "<table>" in page
    assert "<?xml" not in page


def test_figures_can_be_saved_and_pyplot_is_left_alone(wrong) -> None:
    before = "matplotlib.pyplot" in sys.modules
    for figure in (wrong.heatmap(), wrong.step_sizes()):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        assert len(np.unique(np.asarray(Image.open(buffer)))) > 10
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_without_matplotlib_the_text_is_shown_and_the_extra_is_named(wrong, monkeypatch) -> None:
    original = builtins.__import__

    def without(name, *args):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    for draw in (wrong.heatmap, wrong.step_sizes):
        with pytest.raises(MissingPackageError, match=r'pip install -e "\.\[report\]"'):
            draw()
    page = wrong._repr_html_()
    assert "WRONG" in page
    assert "<svg" not in page
