"""What a right gradient does without: told where a term was left out, in many spellings, and never where none was."""

import numpy as np
import pytest
from hand_ins import HAND_INS
from right_variants import _GRAMMAR, right_variants

from minitensor.autograd import Function
from minitensor.nn.derivation.faults import FAULTS, staged_backward
from minitensor.nn.diagnosis.learner import Learner
from minitensor.nn.diagnosis.probes import LAYERS
from minitensor.nn.diagnosis.vanishing import FORMS, STORIES, held, vanishing

PATH, X = (story for _, _, story in STORIES)
layers = pytest.mark.parametrize("layer", LAYERS)


def told(source, layer):
    scope = {"np": np}
    exec(source, scope)
    return vanishing(Learner(scope["backward"], scope.get("forward"), layer), layer)


def edited(layer, style, *changes):
    """A hand-in with other lines, each of which must be there."""
    source = HAND_INS[layer][style]
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return source


# The path from the variance through mu left out, in the styles that have it
WITHOUT_PATH = {
    "instance_norm": [
        ("steps", ("dmu = -np.sum(dc,", "dmu = -np.sum(dxhat * r,")),
        ("course", ("    dmean += dvar * np.sum(-2 * (x - mean), axis=(2, 3), keepdims=True) / m\n", "")),
        ("graph", ("dmu = -1 * (dxmu1 + dxmu2).sum", "dmu = -1 * dxmu1.sum")),
        (
            "rows",
            (
                "drows = dcentred - dcentred.mean(axis=1)[:, None]",
                "dvar = dstd / (2 * std); drows = grad / std + 2 * dvar * centred / m - (grad / std).mean(axis=1)[:, None]",
            ),
        ),
        ("loops",),
    ],
    "batch_norm": [
        ("steps", ("dmu = -np.sum(dc,", "dmu = -np.sum(dxhat * r,")),
        ("course", (" + dvar * np.sum(-2 * (x - mu_B), axis=0) / m", "")),
        ("graph", ("dmean = -dxmu.sum", "dmean = -dxmu1.sum")),
    ],
    "layer_norm": [
        ("steps", ("dmu = -np.sum(dc,", "dmu = -np.sum(dc1,")),
        ("course", (" + dvar * (-2.0 * (x - mean)).mean(1).reshape(n, 1)", "")),
        ("graph", ("dmu = -np.sum(dx1,", "dmu = -np.sum(dxmu1,")),
    ],
    "group_norm": [
        ("steps", ("dmu = -np.sum(dc,", "dmu = -np.sum(dxhat * r,")),
        ("course", (" + dvar * np.mean(-2 * (xg - mean), axis=ax, keepdims=True)", "")),
        ("graph", ("dmu = -dx1.sum", "dmu = -dxmu1.sum")),
    ],
}
# x in the place of x - mu in the derivative of the square
WITH_X = {
    "instance_norm": [
        ("steps", ("2 * c * dq", "2 * x * dq")),
        ("course", ("np.sum(-2 * (x - mean)", "np.sum(-2 * x"), ("dvar * 2 * (x - mean) / m", "dvar * 2 * x / m")),
        ("graph", ("2 * xmu * dsq", "2 * x * dsq")),
    ],
    "batch_norm": [
        ("steps", ("2 * c * dq", "x * dq * 2")),
        ("course", ("np.sum(-2 * (x - mu_B)", "np.sum(-2 * x"), ("(2 * (x - mu_B) / m)", "(2 * x / m)")),
        ("graph", ("dsq * 2 * xmu", "dsq * (x + x)")),
    ],
    "layer_norm": [
        ("steps", ("dq * 2 * c", "dq * 2 * x")),
        ("course", ("(-2.0 * (x - mean)).mean", "(-2.0 * x).mean"), ("dvar * 2.0 * (x - mean) / d", "dvar * 2.0 * x / d")),
        ("graph", ("2 * xmu * dsq", "2 * xt * dsq")),
    ],
    "group_norm": [
        ("steps", ("dq * 2 * c", "dq * 2 * xg")),
        ("course", ("np.mean(-2 * (xg - mean)", "np.mean(-2 * xg"), ("2 * dvar * (xg - mean) / m", "2 * dvar * xg / m")),
        ("graph", ("2.0 * xmu * dsq", "2.0 * flat * dsq")),
    ],
}


def cases(table):
    return [pytest.param(layer, style, changes, id=f"{layer}-{style}") for layer, rows in table.items() for style, *changes in rows]


@pytest.mark.parametrize(("layer", "style", "changes"), cases(WITHOUT_PATH))
def test_the_path_from_the_variance_through_mu(layer, style, changes):
    assert told(edited(layer, style, *changes), layer) == PATH


@pytest.mark.parametrize(("layer", "style", "changes"), cases(WITH_X))
def test_x_for_its_deviation(layer, style, changes):
    assert told(edited(layer, style, *changes), layer) == X


@pytest.mark.parametrize(("layer", "style"), [(layer, style) for layer, styles in HAND_INS.items() for style in styles if style != "loops"])
def test_nothing_is_told_where_nothing_was_left_out(layer, style):
    """The closed form among them, which never had such a path."""
    assert told(HAND_INS[layer][style], layer) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.mean(x, axis=0)", "np.sum(x, axis=0) / m"),
        ("np.mean(x, axis=0)", "1 / m * x.sum(0)"),
        ("np.mean(x, axis=0)", "np.ones(m) @ x / m"),
        ("np.mean(x, axis=0)", "sum(x) / m"),
        ("np.mean(x, axis=0)", "np.array([x[:, j].mean() for j in range(x.shape[1])])"),
        ("np.mean(x, axis=0)", "np.einsum('nd->d', x / m)"),
        ("np.mean(x, axis=0)", "np.average(x, axis=0)"),
        ("np.mean((x - mu_B) ** 2, axis=0)", "np.var(x, axis=0)"),
        ("np.mean((x - mu_B) ** 2, axis=0)", "x.std(axis=0) ** 2"),
        ("np.mean((x - mu_B) ** 2, axis=0)", "np.mean(np.square(np.subtract(x, mu_B)), axis=0)"),
        ("np.mean((x - mu_B) ** 2, axis=0)", "np.mean(x * x, axis=0) - mu_B ** 2"),
        ("x_hat = (x - mu_B)", "c = x.copy(); c -= mu_B; x_hat = c"),
        ("x_hat = (x - mu_B)", "x_hat = -(mu_B - x)"),
        ("x_hat = (x - mu_B)", "c = np.zeros_like(x); np.subtract(x, mu_B, out=c); x_hat = c"),
        ("dvar * (2 * (x - mu_B) / m)", "2 / m * (x_hat * np.sqrt(var_B + eps)) * dvar"),
        ("m = x.shape[0]", "m = x.shape[0]; x = x.copy(); x = x.astype(np.float64)"),
    ],
)
def test_other_spellings(old, new):
    short = edited("batch_norm", "course", *WITHOUT_PATH["batch_norm"][1][1:])
    assert old in short
    assert told(short.replace(old, new), "batch_norm") == PATH
    assert told(edited("batch_norm", "course", (old, new)), "batch_norm") == ""


def test_a_square_of_x_has_2_x_as_its_derivative():
    """v = mean(x^2) - mu^2 is another way to write the variance, in which x stands for nothing else."""
    source = edited("batch_norm", "course", *WITH_X["batch_norm"][1][1:])
    assert told(source.replace("np.mean((x - mu_B) ** 2, axis=0)", "np.mean(x * x, axis=0) - mu_B ** 2"), "batch_norm") == ""


@layers
@pytest.mark.parametrize(
    ("routes", "courses", "stories"),
    [
        (("compact", "projected", "in_place", "course", "chain"), (0, 1), {""}),
        (("course",), (2,), {"", PATH}),
        (("course",), (3,), {"", X}),
    ],
    ids=["whole", "without the path", "x"],
)
def test_random_spellings(layer, routes, courses, stories, monkeypatch):
    """Of code in which a term was left out it may be told, of other code nothing is."""
    monkeypatch.setitem(_GRAMMAR, "route", routes)
    monkeypatch.setitem(_GRAMMAR, "course", tuple(_GRAMMAR["course"][k] for k in courses))
    assert {told(source, layer) for source in right_variants(layer, 20, seed=11)} == stories


@layers
@pytest.mark.parametrize("fault", FAULTS)
def test_of_wrong_answers_nothing_is_told(layer, fault):
    def backward(x, gamma, beta, eps, dy, groups=None):
        return FAULTS[fault].backward(x, gamma, beta, eps, dy, where=lambda shape: LAYERS[layer](shape, groups))

    assert vanishing(Learner(backward, layer=layer), layer) == ""


@layers
@pytest.mark.parametrize(("form", "story"), [("full", ""), ("one path", PATH), ("x", X)])
def test_the_forms_themselves(layer, form, story):
    def backward(x, gamma, beta, eps, dy, groups=None):
        return staged_backward(x, gamma, beta, eps, dy, FORMS[form], where=lambda shape: LAYERS[layer](shape, groups))

    assert vanishing(Learner(backward, layer=layer), layer) == story


def test_forward_and_cache():
    source = """
def forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    var = ((x - mu) ** 2).mean(axis=0)
    return gamma * (x - mu) / np.sqrt(var + eps) + beta, (x, mu, var, gamma, eps)

def backward(dout, cache):
    x, mu, var, gamma, eps = cache
    m, h = len(x), dout * gamma
    dvar = (h * (x - mu)).sum(axis=0) * -0.5 * (var + eps) ** -1.5
    dmu = (-h / np.sqrt(var + eps)).sum(axis=0)
    return h / np.sqrt(var + eps) + dvar * 2 * (x - mu) / m + dmu / m, (dout * (x - mu)).sum(axis=0) / np.sqrt(var + eps), dout.sum(axis=0)
"""
    assert told(source, "batch_norm") == PATH
    assert (
        told(source.replace("sum(axis=0)\n    return h", "sum(axis=0) + dvar * np.mean(-2 * (x - mu), axis=0)\n    return h"), "batch_norm")
        == ""
    )


def test_what_cannot_be_told():
    class Norm(Function):
        @staticmethod
        def forward(ctx, x, gamma, beta, eps):
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return dy, None, None, None

    assert vanishing(Learner(Norm, layer="batch_norm"), "batch_norm") == ""
    assert told("def backward(x, gamma, beta, eps, dy):\n    raise KeyError", "batch_norm") == ""
    short = edited("batch_norm", "course", *WITHOUT_PATH["batch_norm"][1][1:])
    assert told(short.replace("m = x.shape[0]", "m = x.shape[0]; x = np.asarray(x)"), "batch_norm") == ""  # forgets what is held
    assert told(short.replace("return dx", "assert type(x) is np.ndarray\n    return dx"), "batch_norm") == ""  # right, but not held


def test_nobody_is_disturbed(capsys):
    short = edited("batch_norm", "course", *WITHOUT_PATH["batch_norm"][1][1:])
    assert told(short.replace("return dx", "print(dx); np.log(dx)\n    return dx"), "batch_norm") == PATH
    assert capsys.readouterr() == ("", "")


# -- arrays that are held ----------------------------------------------------------------------------------------------------------


def a_held_array():
    return held(np.array([[1.0, 2.0], [5.0, 7.0]]), np.array([1.5, 6.0]), np.array([10.0, 20.0]))


@pytest.mark.parametrize(
    "mean",
    [
        lambda x: x.mean(axis=1),
        lambda x: x.mean(1, keepdims=True).ravel(),
        lambda x: np.mean(x, axis=1),
        lambda x: np.array([row.mean() for row in x]),
        lambda x: np.stack([x[i].sum() / 2 for i in range(2)]),
        lambda x: np.array([(x[i, 0] + x[i, 1]) / 2 for i in range(2)]),
        lambda x: x.T.sum(0) * 0.5,
        lambda x: -(-x).mean(axis=1),
        lambda x: np.add.reduce(x / 2, axis=1),
        lambda x: x @ np.full(2, 0.5),
        lambda x: np.dot(x, np.full(2, 0.5)),
        lambda x: np.einsum("ij->i", x / 2),
        lambda x: np.divide(x.sum(axis=1), 2, out=np.zeros(2)),
        lambda x: np.add(x[:, 0], x[:, 1]).__itruediv__(2),
        lambda x: x.reshape(4)[[0, 2]] / 2 + x.flat[1::2] / 2,
        lambda x: (x[:, :1] + x[:, 1:])[:, 0].astype(float).copy() / 2,
    ],
)
def test_a_mean_is_exchanged_however_it_arises(mean):
    np.testing.assert_array_equal(np.asarray(mean(a_held_array())), [10.0, 20.0])


def test_only_arrays_of_nothing_else_are_exchanged():
    x = a_held_array()
    for other in (x.sum(axis=1) / [2, 1], x.sum(axis=1), x[:0], x > 1.5, x.argmax(), np.divmod(x, 2)[0], x.shape):
        assert 10.0 not in np.ravel(other)
    np.testing.assert_array_equal(np.asarray(a_held_array()), [[1.0, 2.0], [5.0, 7.0]])


def test_it_is_an_array_otherwise():
    x = a_held_array()
    assert isinstance(x, np.ndarray)
    assert f"{x[0, 0]:.1f}" == "1.0"
    assert bool(x[0, 0] < x[0, 1])
    assert float(x[1, 1]) == 7.0
    x[0] = 4
    np.add.at(x, ([1], [1]), 1.0)
    assert x.tolist() == [[4.0, 4.0], [5.0, 8.0]]
