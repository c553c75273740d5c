"""How a learner's code is called: every style and spelling gives the same gradients, and what goes wrong is one sentence."""

import re
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from minitensor import Tensor
from minitensor.autograd import Function
from minitensor.nn.derivation.faults import staged_backward
from minitensor.nn.diagnosis.learner import Learner
from minitensor.nn.diagnosis.probes import LAYERS, Probe
from minitensor.nn.norm import formulas, layout

SHAPES = {"instance_norm": (2, 6, 4, 5), "batch_norm": (7, 5), "layer_norm": (4, 7), "group_norm": (2, 6, 4, 5)}
AXES = {"instance_norm": (2, 3), "batch_norm": (0,), "layer_norm": (1,)}


def a_probe(layer="instance_norm", shape=None, seed=0):
    rng = np.random.default_rng(seed)
    shape = shape or SHAPES[layer]
    x, dy = rng.standard_normal((2, *shape))
    gamma, beta = rng.uniform(0.5, 2, (2, shape[1]))
    return Probe(layer, x, gamma, beta, 0.1, dy, groups=3 if layer == "group_norm" else None)


def right(probe):
    return staged_backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy, where=lambda shape: probe.layout)


def is_right(outcome, probe, gradients=("dx", "dgamma", "dbeta")):
    """Whether just these gradients came, and as they should."""
    assert outcome.problem == "", outcome.problem
    for name, expected in zip(("dx", "dgamma", "dbeta"), right(probe), strict=True):
        found = getattr(outcome, name)
        if name not in gradients:
            assert found is None
        else:
            assert found.dtype == np.float64
            if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-9, atol=1e-12):
                return False
    return True


# -- a plain function -------------------------------------------------------------------------------------------------------------


def backward(x, gamma, beta, eps, dy):
    return staged_backward(x, gamma, beta, eps, dy)


def another_order(dout, epsilon, weight, bias, inputs):
    return backward(inputs, weight, bias, epsilon, dout)


def letters(x, w, b, eps, g):
    return backward(x, w, b, eps, g)


def g_is_gamma(x, g, b, eps, dy):
    return backward(x, g, b, eps, dy)


def g_is_gamma_among_unknown_names(x, g, b, e, d):
    return backward(x, g, b, e, d)


def unknown_names(p, q, r, s, t):
    return backward(p, q, r, s, t)


def two_known_names(dout, an_array, size, offset, small):
    return backward(an_array, size, offset, small, dout)


def without_beta(grad_output, x, weight, eps):
    return backward(x, weight, np.zeros_like(weight), eps, grad_output)


def with_defaults(x, gamma, beta, axes=(2, 3), eps=1e-5, *, dy, verbose=False):
    assert (axes, verbose) == ((2, 3), False)
    return backward(x, gamma, beta, eps, dy)


def star(*args):
    return backward(*args)


PLAIN = [
    backward,
    another_order,
    letters,
    g_is_gamma,
    g_is_gamma_among_unknown_names,
    unknown_names,
    two_known_names,
    without_beta,
    with_defaults,
    star,
    partial(staged_backward, centred=True),
    lambda x, gamma, beta, eps, dy: list(backward(x, gamma, beta, eps, dy)),
    lambda x, gamma, beta, eps, dy: dict(zip(("dx", "dgamma", "dbeta"), backward(x, gamma, beta, eps, dy), strict=True)),
    lambda x, gamma, beta, eps, dy: tuple(Tensor(each) for each in backward(x, gamma, beta, eps, dy)),
    lambda x, gamma, beta, eps, dy: tuple(each.tolist() for each in backward(x, gamma, beta, eps, dy)),
    lambda x, gamma, beta, eps, dy: tuple(each.astype(np.longdouble) for each in backward(x, gamma, beta, eps, dy)),
]


@pytest.mark.parametrize("function", PLAIN, ids=lambda function: getattr(function, "__name__", "partial"))
def test_plain(function):
    learner, probe = Learner(function), a_probe()
    assert learner.style == "plain"
    outcome = learner.outcome(probe)
    assert is_right(outcome, probe)
    assert (outcome.y, outcome.adjoints, outcome.mutated, outcome.warnings) == (None, {}, (), ())
    assert outcome.shapes == {"dx": (2, 6, 4, 5), "dgamma": (6,), "dbeta": (6,)}


def test_a_wrong_backward_is_seen_to_be_wrong():
    """That nothing above is right by itself: with two arguments exchanged it is not."""
    probe = a_probe()
    assert not is_right(Learner(lambda x, beta, gamma, eps, dy: backward(x, beta, gamma, eps, dy)).outcome(probe), probe)
    assert not is_right(Learner(lambda *args: [2 * each for each in backward(*args)]).outcome(probe), probe)


def test_called_tells_how_it_was_understood():
    assert Learner(two_known_names).called == "two_known_names(dout=dy, an_array=x, size=gamma, offset=beta, small=eps)"
    assert Learner(with_defaults).called == "with_defaults(x, gamma, beta, eps, dy)"


def group_backward(x, gamma, beta, G, eps, dy):
    return staged_backward(x, gamma, beta, eps, dy, where=partial(layout.per_group, groups=G))


@pytest.mark.parametrize(
    "function",
    [
        group_backward,
        lambda x, gamma, beta, eps, dy, num_groups: group_backward(x, gamma, beta, num_groups, eps, dy),
        lambda p, q, r, s, t, groups=None: group_backward(p, q, r, groups, s, t),
    ],
)
def test_groups(function):
    probe = a_probe("group_norm")
    assert is_right(Learner(function, layer="group_norm").outcome(probe), probe)


def test_some_gradients_only():
    probe = a_probe()
    dx, dgamma, dbeta = right(probe)
    for returned, gradients in [
        (dx, ("dx",)),
        (dx.tolist(), ("dx",)),
        ([dx], ("dx",)),
        ((dx, dgamma, None), ("dx", "dgamma")),
        ({"dx": dx, "dbeta": dbeta}, ("dx", "dbeta")),
    ]:
        assert is_right(Learner(lambda x, gamma, beta, eps, dy: returned).outcome(probe), probe, gradients=gradients)
    assert is_right(Learner(lambda x, gamma, eps, dy: (dx, dgamma)).outcome(probe), probe, gradients=("dx", "dgamma"))


def test_adjoints():
    probe = a_probe()
    s_bar = np.ones((2, 6, 1, 1), np.float32)
    extra = {"s_bar": s_bar, "float64": probe.x, "not there": None}
    for returned in ((*right(probe), extra), {"dx": right(probe)[0], **extra}):
        outcome = Learner(lambda x, gamma, beta, eps, dy: returned).outcome(probe)
        assert outcome.problem == ""
        assert list(outcome.adjoints) == ["s_bar", "float64"]
        assert outcome.adjoints["s_bar"].dtype == np.float64
        assert outcome.adjoints["s_bar"].shape == s_bar.shape


def test_shapes_and_dtypes_are_told_as_they_came():
    probe = a_probe()
    dx, dgamma, dbeta = right(probe)
    outcome = Learner(lambda x, gamma, beta, eps, dy: (dx.astype("f"), dgamma.reshape(1, 6, 1, 1), dbeta[None])).outcome(probe)
    assert outcome.shapes == {"dx": dx.shape, "dgamma": (1, 6, 1, 1), "dbeta": (1, 6)}
    assert outcome.dtypes == {"dx": "float32", "dgamma": "float64", "dbeta": "float64"}
    assert (outcome.dgamma.shape, outcome.dbeta.shape) == ((6,), (6,))
    odd = Learner(lambda x, gamma, beta, eps, dy: (dx[0], dgamma[:, None] * np.ones((2, 6)).T, 3.0)).outcome(probe)
    assert (odd.dx.shape, odd.dgamma.shape, odd.dbeta.shape) == ((6, 4, 5), (6, 2), ())


# -- forward with a cache -----------------------------------------------------------------------------------------------------------


def reference_forward(x, gamma, beta, eps, layer):
    axes = AXES[layer]
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return gamma.reshape(shape) * (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps) + beta.reshape(shape)


def forward_with_param(x, gamma, beta, bn_param, layer="batch_norm"):
    assert bn_param["mode"] == "train"
    assert bn_param["running_mean"].shape == bn_param["running_var"].shape == gamma.shape
    y = reference_forward(x, gamma, beta, bn_param["eps"], layer)
    return y, (x, gamma, beta, bn_param["eps"], layer)


def forward_with_eps(x, gamma, beta, eps=1e-5, layer="batch_norm"):
    return forward_with_param(x, gamma, beta, {"mode": "train", "eps": eps, "running_mean": gamma, "running_var": gamma}, layer)


def cached_backward(dout, cache):
    x, gamma, beta, eps, layer = cache
    return right(Probe(layer, x, gamma, beta, eps, dout))


@pytest.mark.parametrize("layer", AXES)
@pytest.mark.parametrize("forward", [forward_with_param, forward_with_eps])
@pytest.mark.parametrize("swapped", [False, True])
def test_forward_and_cache(layer, forward, swapped):
    function = (lambda cache, dout: cached_backward(dout, cache)) if swapped else cached_backward
    learner, probe = Learner(function, partial(forward, layer=layer), layer), a_probe(layer)
    assert learner.style == "cache"
    outcome = learner.outcome(probe)
    assert is_right(outcome, probe)
    np.testing.assert_allclose(outcome.y, reference_forward(probe.x, probe.gamma, probe.beta, probe.eps, layer))


def spatial_forward(x, gamma, beta, G, gn_param):
    """Takes gamma and beta as (1, C, 1, 1) only."""
    n, _, _, _ = x.shape
    grouped = x.reshape(n, G, -1)
    x_hat = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + gn_param["eps"])
    return gamma * x_hat.reshape(x.shape) + beta, (x, gamma, beta, gn_param["eps"], G)


def spatial_backward(dout, cache):
    x, gamma, beta, eps, groups = cache
    dx, dgamma, dbeta = staged_backward(x, gamma.ravel(), beta.ravel(), eps, dout, where=partial(layout.per_group, groups=groups))
    return dx, dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)


@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (2, 6, 4, 6), (2, 6, 5, 1), (2, 3, 4, 3)])
def test_gamma_with_axes_where_the_code_wants_it(shape):
    """With W = C, gamma of shape (C,) broadcasts without an error and gives another layer; that must not be taken for the learner's."""
    probe = a_probe("group_norm", shape)
    learner = Learner(spatial_backward, spatial_forward, "group_norm")
    outcome = learner.outcome(probe)
    assert is_right(outcome, probe)
    assert outcome.shapes["dgamma"] == (1, shape[1], 1, 1)
    other = a_probe("group_norm", (3, 6, 2, 6), seed=1)
    assert is_right(learner.outcome(other), other)


def test_where_no_shape_of_gamma_works_the_error_is_the_one_further_on():
    def fails(dout, cache):
        raise LookupError("here")

    assert "LookupError: here" in Learner(fails, spatial_forward, "group_norm").outcome(a_probe("group_norm")).problem
    assert "could not be broadcast" in Learner(lambda x, gamma, beta, eps, dy: x * np.ones(7)).outcome(a_probe()).problem


def test_forward_of_a_plain_backward():
    probe = a_probe()
    for forward in (forward_with_eps, lambda x, gamma, beta, eps: reference_forward(x, gamma, beta, eps, "instance_norm")):
        outcome = Learner(backward, partial(forward, layer="instance_norm") if forward is forward_with_eps else forward).outcome(probe)
        assert is_right(outcome, probe)
        np.testing.assert_allclose(outcome.y, reference_forward(probe.x, probe.gamma, probe.beta, probe.eps, "instance_norm"))


# -- a Function -------------------------------------------------------------------------------------------------------------------


class Standardized(Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        return formulas.standardize(x, (2, 3), eps) * gamma.reshape(-1, 1, 1) + beta.reshape(-1, 1, 1)

    @staticmethod
    def backward(ctx, dy):
        x, gamma, beta = ctx.saved_tensors
        return (*staged_backward(x, gamma, beta, ctx.eps, dy), None)


class Doubled(Standardized):
    @staticmethod
    def backward(ctx, dy):
        dx, *others = Standardized.backward(ctx, dy)
        return 2 * dx, *others


class Forgetful(Standardized):
    @staticmethod
    def backward(ctx, dy):
        return Standardized.backward(ctx, dy)[:3]


def test_a_function_class():
    learner, probe = Learner(Standardized), a_probe()
    assert (learner.style, learner.called) == ("Function", "Standardized.apply(x, gamma, beta, eps)")
    outcome = learner.outcome(probe)
    assert is_right(outcome, probe)
    np.testing.assert_allclose(outcome.y, reference_forward(probe.x, probe.gamma, probe.beta, probe.eps, "instance_norm"))
    assert not is_right(Learner(Doubled).outcome(probe), probe)


def test_a_function_class_that_returns_too_little():
    outcome = Learner(Forgetful).outcome(a_probe())
    assert outcome.kind == "raised"
    assert "GraphError: Forgetful.backward must return 4 gradient(s), one per argument of forward, got 3" in outcome.problem


# -- what cannot be called --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "layer", "told"),
    [
        (lambda x, gamma, beta, dy: x, "instance_norm", r"<lambda>\(x, gamma, beta, dy\): none of its parameters is known to be eps"),
        (lambda x: x, "instance_norm", "none of its parameters is known to be gamma or eps or dy"),
        (lambda x, gamma, beta, eps, dy, axes: x, "instance_norm", "none of its parameters is known"),
        (lambda x, y, eps, dy: x, "instance_norm", "none of its parameters is known"),
        (lambda x, x_hat, mu, var, dy: x, "instance_norm", "none of its parameters is known"),
        (backward, "group_norm", "none of its parameters is known to be groups; call them x, gamma, beta, eps, dy, groups"),
        (star, "group_norm", "known to be groups"),
        (cached_backward, "batch_norm", r"cached_backward\(dout, cache\) needs the forward that makes its cache"),
        (dict, "batch_norm", "dict is a class, but none derived from minitensor.autograd.Function"),
    ],
)
def test_signatures_that_say_too_little(function, layer, told):
    outcome = Learner(function, layer=layer).outcome(a_probe(layer))
    assert outcome.kind == "signature"
    assert outcome.dx is None
    assert re.search(told, outcome.problem), outcome.problem


def test_what_is_no_function():
    with pytest.raises(TypeError, match="backward must be a function or a Function class, got NoneType; forward alone has no gradients"):
        Learner(None, forward_with_eps)
    with pytest.raises(TypeError, match=r"backward must be .*, got float64 \(2,\)$"):
        Learner(np.zeros(2))
    with pytest.raises(TypeError, match="forward must be a function, got str"):
        Learner(backward, "forward")
    with pytest.raises(ValueError, match=r"layer must be one of instance_norm, .*, got 'rms_norm'"):
        Learner(backward, layer="rms_norm")
    assert set(LAYERS) == set(SHAPES)


# -- what goes wrong in the code --------------------------------------------------------------------------------------------------


def raises(error):
    def function(x, gamma, beta, eps, dy):
        raise error

    return function


def divides(x, gamma, beta, eps, dy):
    return 1 / 0


def calls_itself(x, gamma, beta, eps, dy):
    return calls_itself(x, gamma, beta, eps, dy)


def asks(x, gamma, beta, eps, dy):
    return input("dx? ")


def adds_shapes(x, gamma, beta, eps, dy):
    return x + np.ones(7)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (divides, r"^divides raised an error: ZeroDivisionError: division by zero \(.*test_learner.py:\d+\)$"),
        (adds_shapes, r"ValueError: operands could not be broadcast together with shapes \(2,6,4,5\) \(7,\) \(.*test_learner.py:\d+\)$"),
        (calls_itself, r"^calls_itself called itself without end: RecursionError: .*test_learner.py:\d+\)$"),
        (asks, r"^asks asked for input, which nobody answers: EOFError: .*test_learner.py:\d+\)$"),
        (raises(SystemExit(3)), r"^function ended the program: SystemExit: 3 \(.*test_learner.py:\d+\)$"),
        (raises(MemoryError()), "^function ran out of memory: MemoryError: "),
        (raises(ValueError("two\n  lines")), r"ValueError: two lines \("),
        (raises(ValueError("long" * 1000)), r"ValueError: (long){125} \("),
    ],
)
def test_errors_are_one_sentence(function, told):
    outcome = Learner(function).outcome(a_probe())
    assert outcome.kind == "raised"
    assert outcome.dx is None
    assert re.search(told, outcome.problem), outcome.problem


def test_whoever_interrupts_is_heard():
    with pytest.raises(KeyboardInterrupt):
        Learner(raises(KeyboardInterrupt())).outcome(a_probe())


class NoArray:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no numbers")


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "returned no dx, got NoneType"),
        ((None, None, None), r"returned no dx, got \(NoneType, NoneType, NoneType\)"),
        ({}, "returned no dx, got a dict of nothing"),
        ({"dX": 1.0}, "returned no dx, got a dict of dX"),
        ((), r"must return \(dx, dgamma, dbeta\), or dx alone, got \(\)"),
        ((np.ones(3), np.ones(3)), r"must return \(dx, dgamma, dbeta\), or dx alone, got \(float64 \(3,\), float64 \(3,\)\)"),
        ((np.ones(3),) * 4, "must return"),
        ("dx", "dx must be an array of real numbers, got str 'dx'"),
        ((np.ones(3), 1j, None), "dgamma must be an array of real numbers, got complex 1j"),
        (np.ones((2, 3), complex), r"dx must be an array of real numbers, got complex128 \(2, 3\)"),
        (np.array([None]), r"dx must be an array of real numbers, got object \(1,\)"),
        ([[1.0], [1.0, 2.0]], "dx must be an array of real numbers, got list: ValueError: "),
        (NoArray(), "dx must be an array of real numbers, got NoArray: RuntimeError: no numbers"),
        ((np.ones(3), None, None, {"s_bar": "?"}), "s_bar must be an array of real numbers, got str"),
        (lambda: None, "dx must be an array of real numbers, got function <function"),
        pytest.param(
            np.broadcast_to(1.0, (2**20, 2**20, 2**16)),
            r"dx must be an array of real numbers, got float64 \(1048576, .*MemoryError",
            id="huge",
        ),
    ],
)
def test_what_is_no_gradient(returned, told):
    outcome = Learner(lambda x, gamma, beta, eps, dy: returned).outcome(a_probe())
    assert outcome.kind == "returned"
    assert outcome.dx is None
    assert re.search(told, outcome.problem), outcome.problem


@pytest.mark.parametrize("made", [None, 3.0, np.ones(3), (np.ones(3), None, None)])
def test_a_forward_without_a_cache(made):
    outcome = Learner(cached_backward, lambda x, gamma, beta, eps: made, "batch_norm").outcome(a_probe("batch_norm"))
    assert outcome.kind == "returned"
    assert "must return (out, cache), got " in outcome.problem


def test_nan_and_inf_are_for_the_diagnosis():
    outcome = Learner(lambda x, gamma, beta, eps, dy: x / 0).outcome(a_probe())
    assert (outcome.problem, outcome.warnings) == ("", ())
    assert not np.isfinite(outcome.dx).any()


# -- what the code does to others -------------------------------------------------------------------------------------------------


def test_inputs_that_are_written_into():
    def centres_in_place(x, gamma, beta, eps, dy):
        answer = backward(x.copy(), gamma, beta, eps, dy)
        x -= x.mean((2, 3), keepdims=True)
        dy.shape = (-1,)
        return answer

    probe = a_probe()
    before = replace(probe, x=probe.x.copy())
    outcome = Learner(centres_in_place).outcome(probe)
    assert (outcome.mutated, outcome.kind) == (("x", "dy"), "changed its input")
    assert "wrote into the caller's x and dy: work on a copy" in outcome.problem
    np.testing.assert_array_equal(probe.x, before.x)
    assert is_right(replace(outcome, problem=""), probe)  # the gradients are there all the same


def test_an_error_says_more_than_what_was_written_before_it():
    def both(x, gamma, beta, eps, dy):
        x += 1
        raise LookupError("here")

    outcome = Learner(both).outcome(a_probe())
    assert (outcome.mutated, outcome.kind) == (("x",), "raised")


def test_printing_and_warnings_disturb_nobody(capsys, tmp_path):
    def chats(x, gamma, beta, eps, dy):
        print("hello")
        for _ in range(3):
            warnings.warn("careful", RuntimeWarning, stacklevel=1)
        np.log(np.zeros(2))
        return backward(x, gamma, beta, eps, dy)

    probe = a_probe()
    outcome = Learner(chats).outcome(probe)
    assert is_right(outcome, probe)
    assert outcome.warnings == ("RuntimeWarning: careful",)
    assert capsys.readouterr() == ("", "")
    with (tmp_path / "out").open("w+") as out:
        Learner(chats, out=out).outcome(probe)
        out.seek(0)
        assert set(out.read().splitlines()) == {"hello"}
