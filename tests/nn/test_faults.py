"""The list of known mistakes: the backward that they are put into is right, and each of them is wrong in its own way."""

import re
from itertools import combinations

import numpy as np
import pytest
from norm_table import BATCHED, EPS, ROWS, made, numbers

from minitensor import Tensor, grad, nn
from minitensor.nn.derivation import FAULTS, Fault, known_faults, staged_backward
from minitensor.nn.derivation.expression import reads
from minitensor.nn.derivation.faults import PROGRAM
from minitensor.nn.norm import formulas

NAMES = ("dx", "dgamma", "dbeta")
COUNTS = ("m", "last", "batch", "with_batch", "sharing")

# x_hat = c / s, so x_hat for c in d r divides by one s more: the same as s cubed for s squared
SAME_MISTAKE = {("s-cubed", "x-hat-for-centred")}


@pytest.fixture
def case(rng):
    """(x, gamma, beta, eps, g): a scale and an offset per slice, gamma of both signs, mean(g) and mean(g x_hat) away from 0."""
    slices = (2, 3, 1, 1)
    x = rng.standard_normal((2, 3, 5, 7)) * np.exp(rng.uniform(-1, 1, slices)) + rng.uniform(1, 3, slices) * rng.choice([-1, 1], slices)
    gamma, beta = rng.uniform(0.5, 2, 3) * [1, -1, 1], rng.uniform(0.5, 2, 3) * [-1, 1, 1]
    g = rng.standard_normal(x.shape) + rng.uniform(0.7, 2, slices) - rng.uniform(0.7, 2, slices) * formulas.standardize(x, (2, 3), EPS)
    return x, gamma, beta, EPS, g


def distance(one, other):
    """The largest difference, relative to the largest value."""
    return np.max(np.abs(one - other)) / np.max(np.abs(other))


def test_without_a_mistake_it_is_the_closed_form(case):
    x, gamma, _, eps, g = case
    axes = (2, 3)
    x_hat, r = formulas.standardize(x, axes, eps), formulas.rstd(x, axes, eps)
    dx, dgamma, dbeta = formulas.normalize_backward(g, x_hat, r, gamma.reshape(1, 3, 1, 1), axes)
    for found, right in zip(staged_backward(*case), (dx, dgamma.sum((0, 2, 3)), dbeta.sum((0, 2, 3))), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d])
def test_without_a_mistake_it_is_autograd(kind, rng):
    layer = kind(3, eps=EPS, affine=True, dtype="float64", backward="autograd")
    layer.weight.data, layer.bias.data = rng.standard_normal((2, 3))
    shape = (2, 3, 4, 3, 5)[: 2 + len(kind.spatial)]
    x, g = Tensor(rng.standard_normal(shape), requires_grad=True), rng.standard_normal(shape)
    right = grad(layer(x), (x, layer.weight, layer.bias), Tensor(g))
    for found, expected in zip(staged_backward(x.data, layer.weight.data, layer.bias.data, EPS, g), right, strict=True):
        np.testing.assert_allclose(found, expected.data, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_without_a_mistake_it_is_the_backward_of_every_layer(row):
    layer, (x, weight, bias, g) = made(row), numbers(row)
    t = Tensor(x, requires_grad=True)
    right = grad(layer(t), [t, *layer.parameters()], Tensor(g))
    found = Fault("none", "nothing is wrong", {}).of(layer)(x, weight, None if layer.bias is None else bias, layer.eps, g)
    for part, expected in zip(filter(lambda part: part is not None, found), right, strict=True):
        np.testing.assert_allclose(part, expected.data, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("row", BATCHED.values(), ids=BATCHED)
def test_what_is_known_of_a_layer_is_wrong_there_and_nothing_else_is(row):
    """On other sizes and numbers than those with which the list is made."""
    layer, (x, weight, bias, g) = made(row), numbers(row)
    known, beta = known_faults(layer, row.shape), None if layer.bias is None else bias
    assert list(known) == [name for name in FAULTS if name in known]
    right = staged_backward(x, weight, beta, EPS, g, where=layer.layout, centred=layer.centred)
    for name, fault in FAULTS.items():
        found = fault.of(layer)(x, weight, beta, EPS, g)
        off = max(distance(one, other) for one, other in zip(found, right, strict=True) if one is not None)
        assert (off > 1e-6) == (name in known), name


@pytest.mark.parametrize("name", ["InstanceNorm2d", "InstanceNorm", "BatchNorm2d", "GroupNorm", "LayerNorm-2", "RMSNorm"])
def test_what_is_known_does_not_depend_on_the_size_of_the_batch(name):
    layer, shape = made(ROWS[name]), ROWS[name].shape
    assert known_faults(layer, (1, *shape[1:])) == known_faults(layer, shape)
    if name == "InstanceNorm2d":
        assert known_faults(layer, shape[1:]) == known_faults(layer, shape)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_mistake_shows(fault, case):
    found, right = fault.backward(*case), staged_backward(*case)
    assert [part.shape for part in found] == [part.shape for part in right]
    assert max(map(distance, found, right)) > 1e-3


def test_mistakes_differ_from_one_another(case):
    results = {name: fault.backward(*case) for name, fault in FAULTS.items()}
    alike = {(a, b) for a, b in combinations(results, 2) if max(map(distance, results[a], results[b])) < 1e-6}
    assert alike == SAME_MISTAKE


@pytest.mark.parametrize(
    ("name", "touched"),
    [
        ("no-mean-path", {"dx"}),
        ("unbiased", {"dx"}),
        ("gamma-forgotten", {"dx"}),
        ("eps-twice", {"dx", "dgamma"}),
        ("unbiased-rstd", {"dx", "dgamma"}),
        ("dgamma-of-x", {"dgamma"}),
        ("dbeta-averaged", {"dbeta"}),
        ("dgamma-dbeta-swapped", {"dgamma", "dbeta"}),
    ],
)
def test_a_mistake_touches_what_its_name_says(name, touched, case):
    found, right = FAULTS[name].backward(*case), staged_backward(*case)
    assert {part for part, one, other in zip(NAMES, found, right, strict=True) if distance(one, other) > 1e-3} == touched


@pytest.mark.parametrize("program", [PROGRAM, *(PROGRAM | fault.replaced for fault in FAULTS.values())], ids=["right", *FAULTS])
def test_a_line_uses_only_what_stands_above_it(program):
    known = {"x", "y_bar", "gamma", "beta", "eps", "axes", "shared", *COUNTS}
    for name, rule in program.items():
        assert set(reads(rule)) <= known, name
        known.add(name)
    assert known >= {"dx", "gamma_bar", "beta_bar"}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_mistake_has_a_name_a_sentence_and_a_line(fault):
    assert FAULTS[fault.name] is fault
    assert re.fullmatch(r"[a-z0-9/]+(-[a-z0-9/]+)*", fault.name)
    assert fault.sentence.strip() == fault.sentence
    assert "\n" not in fault.sentence
    assert 10 < len(fault.sentence) < 100
    assert fault.replaced
    assert set(fault.replaced) <= {*PROGRAM, "m"}  # another name would be a line that nothing reads


def test_sentences_are_not_repeated():
    assert len({fault.sentence for fault in FAULTS.values()}) == len(FAULTS) >= 40


@pytest.mark.parametrize("fault", [Fault("none", "nothing is wrong", {}), *FAULTS.values()], ids=lambda fault: fault.name)
def test_runs_on_complex_numbers(fault, case):
    """A step i h in x moves the imaginary part by h times the derivative of the real one."""
    x, gamma, beta, eps, g = case
    v, h = np.cos(np.arange(x.size)).reshape(x.shape), 1e-6
    step = 1e-30
    through = fault.backward(x + 1j * step * v, gamma.astype(complex), beta.astype(complex), eps, g.astype(complex))
    above, below = fault.backward(x + h * v, gamma, beta, eps, g), fault.backward(x - h * v, gamma, beta, eps, g)
    for part, up, down, here in zip(through, above, below, fault.backward(*case), strict=True):
        assert part.dtype == complex
        np.testing.assert_allclose(part.real, here, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(part.imag / step, (up - down) / (2 * h), rtol=1e-7, atol=1e-7 * max(1, np.max(np.abs(here))))


@pytest.mark.parametrize("fault", [Fault("none", "nothing is wrong", {}), *FAULTS.values()], ids=lambda fault: fault.name)
def test_runs_on_tensors_and_can_be_differentiated_again(fault, case):
    x, gamma, beta, eps, g = case
    tensors = [Tensor(part, requires_grad=True) for part in (x, gamma, beta, g)]
    dx, dgamma, dbeta = fault.backward(*tensors[:3], eps, tensors[3])
    for found, expected in zip((dx, dgamma, dbeta), fault.backward(*case), strict=True):
        np.testing.assert_allclose(found.data, expected, rtol=1e-12, atol=1e-12)
    u = np.sin(np.arange(x.size)).reshape(x.shape)
    (again,) = grad(dx, tensors[3], Tensor(u), create_graph=True)  # linear in g: the transpose of dx = J g
    np.testing.assert_allclose(np.sum(again.data * g), np.sum(u * fault.backward(*case)[0]), rtol=1e-12)
    v = np.cos(np.arange(x.size)).reshape(x.shape)
    (second,) = grad(dx, tensors[0], Tensor(u), allow_unused=True)
    h = 1e-30
    moved = fault.backward(x + 1j * h * v, gamma.astype(complex), beta.astype(complex), eps, g.astype(complex))[0]
    expected = np.sum(moved.imag * u) / h
    assert np.sum(second.data * v) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_mistake_in_the_layer_survives_both_walks(case):
    """Planted into the layer, a mistake gives the same dx with and without create_graph, and the same as called by hand."""
    x, gamma, beta, eps, g = case
    layer = nn.InstanceNorm2d(3, eps=eps, affine=True, dtype="float64", backward=FAULTS["unbiased"].backward)
    layer.weight.data, layer.bias.data = gamma, beta
    for create_graph in (False, True):
        t = Tensor(x, requires_grad=True)
        (dx,) = grad(layer(t), t, Tensor(g), create_graph=create_graph)
        np.testing.assert_allclose(dx.data, FAULTS["unbiased"].backward(*case)[0], rtol=1e-12, atol=1e-13)
        assert distance(dx.data, staged_backward(*case)[0]) > 1e-3
