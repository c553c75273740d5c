"""Learners' code on fractions: right answers are equal without tolerance, wrong ones are not, and what cannot run is not judged."""

import numpy as np
import pytest
from hand_ins import HAND_INS
from right_variants import right_variants

from minitensor.autograd import Function
from minitensor.nn.derivation.faults import FAULTS
from minitensor.nn.diagnosis.exactly import GROUPS, SHAPES, exactly
from minitensor.nn.diagnosis.learner import Learner, Problem
from minitensor.nn.diagnosis.probes import LAYERS, probes

EQUAL = "equal in rational arithmetic, without tolerance, at m = 5, 7 and 8"
FLOATS = "not judged in rational arithmetic: the code makes floats of the numbers that it is given, or writes them into an array of floats"
STYLES = [(layer, style) for layer, styles in HAND_INS.items() for style in styles if style != "loops"]
layers = pytest.mark.parametrize("layer", LAYERS)


def judged(source, layer="batch_norm", seed=0):
    scope = {"np": np}
    exec(source, scope)
    return exactly(Learner(scope["backward"], scope.get("forward"), layer), layer, seed)


@layers
def test_the_slices_have_the_lengths_that_are_told(layer):
    assert [LAYERS[layer](shape, GROUPS).m for shape in SHAPES[layer]] == [5, 7, 8]


@pytest.mark.parametrize(("layer", "style"), STYLES)
def test_right_answers_are_equal(layer, style):
    found = judged(HAND_INS[layer][style], layer)
    assert (found.equal, found.sentence) == (True, EQUAL)


@layers
def test_no_right_answer_is_called_wrong(layer):
    found = [judged(source, layer) for source in right_variants(layer, 15, seed=5)]
    assert False not in [each.equal for each in found]
    assert sum(each.equal is True for each in found) >= 5


@pytest.mark.parametrize("seed", range(5))
def test_at_other_points(seed):
    assert judged(HAND_INS["group_norm"]["graph"], "group_norm", seed).equal


def test_a_mistake_that_floats_hardly_see():
    source = HAND_INS["batch_norm"]["compact"].replace("(N * dy - dbeta", "(N * dy * (1 + 1e-9) - dbeta")
    found = judged(source)
    assert found.equal is False
    assert found.sentence.startswith("dx differs by ")
    assert "e-09 of its largest value in rational arithmetic at m = 5" in found.sentence


@layers
@pytest.mark.parametrize("name", FAULTS)
def test_mistakes_are_not_equal(layer, name):
    """Each either differs, or takes a root that is not rational."""
    scope = {"np": np, "fault": FAULTS[name], "LAYERS": LAYERS}
    groups = ", groups" if layer == "group_norm" else ""
    source = f"""
def backward(x, gamma, beta, eps, dy{groups}):
    return fault.backward(x, gamma, beta, eps, dy, where=lambda shape: LAYERS[{layer!r}](shape, {"groups" if groups else None}))
"""
    exec(source, scope)
    found = exactly(Learner(scope["backward"], layer=layer), layer)
    same_here = name == "m-is-one-axis" and layer in ("batch_norm", "layer_norm")
    same_here |= name == "m-counts-the-batch" and layer == "batch_norm"
    assert found.equal in ((True,) if same_here else (False, None))
    if found.equal is None:
        assert "another root" in found.sentence


@pytest.mark.parametrize("gradient", ["dx", "dgamma", "dbeta"])
def test_every_gradient_is_compared(gradient):
    found = judged(HAND_INS["layer_norm"]["graph"].replace("return dx", f"{gradient} = {gradient} * 2\n    return dx"), "layer_norm")
    assert found.equal is False
    assert found.sentence.startswith(f"{gradient} differs by ")


def test_axes_of_length_1_too_many_are_told_elsewhere():
    assert judged(HAND_INS["batch_norm"]["compact"].replace("return dx, dgamma", "return dx, dgamma[None]")).equal
    found = judged(HAND_INS["batch_norm"]["compact"].replace("return dx", "return dx[:1]"))
    assert (found.equal, found.sentence) == (False, "dx has shape (1, 3), and (5, 3) is needed, in rational arithmetic at m = 5")


def test_dx_alone_is_enough():
    source = HAND_INS["batch_norm"]["compact"].replace("return dx, dgamma, dbeta", "return dx")
    assert judged(source).equal


def test_forward_and_cache():
    source = """
def forward(x, gamma, beta, bn_param):
    running = bn_param.get("running_mean", np.zeros(x.shape[1]))
    bn_param["running_mean"] = bn_param.get("momentum", 0.9) * running + 0.1 * x.mean(axis=0)
    mu, s = x.mean(axis=0), np.sqrt(x.var(axis=0) + bn_param["eps"])
    x_hat = (x - mu) / s
    return gamma * x_hat + beta, (x_hat, s, gamma)

def backward(dout, cache):
    x_hat, s, gamma = cache
    h = dout * gamma
    dx = (h - h.mean(axis=0) - x_hat * (h * x_hat).mean(axis=0)) / s
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)
"""
    assert judged(source).equal
    assert judged(source.replace("h - h.mean", "h - 2 * h.mean")).equal is False


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (HAND_INS["instance_norm"]["loops"], FLOATS.partition(": ")[2]),
        ("def backward(x, gamma, beta, eps, dy):\n    return float(x[0, 0, 0, 0]) * x", FLOATS.partition(": ")[2]),
        ("def backward(x, gamma, beta, eps, dy):\n    return x.astype(float)", FLOATS.partition(": ")[2]),
        ("def backward(x, gamma, beta, eps, dy):\n    return np.ones(x.shape)", "dx came back in an array of float64"),
        ("def backward(x, gamma, beta, eps, dy):\n    return np.sqrt(x * x + 3)", "the code takes another root"),
        ("def backward(x, gamma, beta, eps, dy):\n    raise KeyError('no')", "backward raised an error: KeyError: 'no' (<string>:2)"),
        ("def backward(x, gamma, beta, eps, dy):\n    return {'y': x}", "backward(x, gamma, beta, eps, dy) returned no dx"),
        ("def backward(x, gamma, beta, eps, dy):\n    return np.array([x[0, 0, 0, 0], 'a'], dtype=object)", "DTypeError: 'a'"),
        ("def backward(x, gamma, beta, eps, dy):\n    return x * np.nan", "ArithmeticError: nan is no rational number"),
        ("def backward(x, gamma, beta, eps, dy):\n    return np.fft.fft(x)", "backward raised an error: "),
        ("def backward(a, cache):\n    return a", "needs the forward that makes its cache"),
    ],
)
def test_what_does_not_run_on_fractions_is_not_judged(source, reason):
    found = judged(source, "instance_norm")
    assert found.equal is None
    assert found.sentence.startswith("not judged in rational arithmetic: ")
    assert reason in found.sentence


@pytest.mark.parametrize("layer", ["batch_norm", "layer_norm"])
def test_exp_and_log_have_no_value(layer):
    right = HAND_INS[layer]["compact"]
    source = right.replace("std = np.sqrt(x.var(axis=0) + eps)", "std = np.exp(0.5 * np.log(x.var(axis=0) + eps))")
    source = source.replace(
        "(np.mean(c * c, axis=-1, keepdims=True) + eps) ** -0.5", "np.exp(-0.5 * np.log(np.mean(c * c, -1, keepdims=True) + eps))"
    )
    assert source != right
    found = judged(source, layer)
    assert found.equal is None
    assert "of which exp and log have no value" in found.sentence


def test_a_function_class_is_not_judged():
    class Norm(Function):
        @staticmethod
        def forward(ctx, x, gamma, beta, eps):
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return dy, None, None, None

    found = exactly(Learner(Norm, layer="batch_norm"), "batch_norm")
    assert (found.equal, found.sentence) == (
        None,
        "not judged in rational arithmetic: a Function computes with Tensors, which hold floats",
    )


def test_nobody_is_disturbed(capsys):
    noisy = HAND_INS["batch_norm"]["compact"].replace(
        "    N = len(x)\n", "    N = len(x)\n    print(N)\n    import warnings; warnings.warn('w')\n"
    )
    assert judged(noisy).equal
    assert capsys.readouterr() == ("", "")


def test_results_are_what_the_code_returned():
    """`Learner.results`: as it is, with gamma and beta in the shape that the code wants, and on copies."""

    def spread(x, gamma, beta, eps, dy):
        x[:] = 0
        return dy * gamma * np.ones((1, x.shape[1], 1, 1)), None, [gamma.shape], {"mu": "a string"}

    probe = probes("instance_norm")[2]
    found = Learner(spread).results(probe)
    assert (found["dgamma"], found["dbeta"], found["mu"]) == (None, [(1, 5, 1, 1)], "a string")
    assert probe.x.all()


def test_results_that_there_are_none_of():
    def backward(x, gamma, beta, eps, dy):
        return x / nothing  # noqa: F821

    probe = probes("batch_norm")[0]
    with pytest.raises(Problem, match="NameError") as raised:
        Learner(backward, layer="batch_norm").results(probe)
    assert isinstance(raised.value.__cause__, NameError)
    with pytest.raises(Problem, match="none of its parameters"):
        Learner(lambda y, cache, z: 0, layer="batch_norm").results(probe)
