"""Losses, as functions and as layers: against PyTorch, against differences, at kinks and at the ends of the range."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle

import numpy as np
import pytest
from checks import assert_rounding, check_device, check_first, check_second
from hypothesis import given
from hypothesis import strategies as st

import minitensor as mt
from minitensor.errors import DeviceError, DTypeError, ShapeError
from minitensor.nn import loss as layers
from minitensor.nn.functional import activation
from minitensor.nn.functional import loss as functional

REDUCTIONS = ["none", "mean", "sum"]


def drawn(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def probabilities(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """Numbers between 0.05 and 0.95."""
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


def distributions(shape: tuple[int, ...], axis: int = -1, seed: int = 2) -> np.ndarray:
    """Positive numbers whose sum along the axis is 1."""
    p = probabilities(shape, seed)
    return p / p.sum(axis=axis, keepdims=True)


def fits(found: mt.Tensor, expected: np.ndarray, rtol: float = 1e-13) -> None:
    """Equal up to the rounding of float64."""
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=rtol, atol=1e-14)


# -- of numbers and of probabilities --------------------------------------------------------------------------------------------------

SHAPE = (3, 4)
WEIGHTS = probabilities(SHAPE, 7)
# x - target on both sides of every kink: 0, and delta or beta, which are 0.7, 1 and 1.5; differences must not step over one
DISTANCES = np.array([[0.2, -0.5, 0.6, -0.8], [0.9, -1.1, 1.3, -1.2], [1.6, -1.9, 2.4, -0.1]])
# function, layer, input, target, options
PAIRED = {
    "mse": ("mse_loss", "MSELoss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {}),
    "mse, weight": ("mse_loss", None, drawn(SHAPE), drawn(SHAPE, 2), {"weight": WEIGHTS}),
    "l1": ("l1_loss", "L1Loss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {}),
    "l1, weight": ("l1_loss", None, drawn(SHAPE), drawn(SHAPE, 2), {"weight": WEIGHTS}),
    "huber": ("huber_loss", "HuberLoss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {}),
    "huber, delta": ("huber_loss", "HuberLoss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {"delta": 0.7}),
    "huber, weight": ("huber_loss", None, drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {"delta": 1.5, "weight": WEIGHTS}),
    "smooth l1": ("smooth_l1_loss", "SmoothL1Loss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {}),
    "smooth l1, beta": ("smooth_l1_loss", "SmoothL1Loss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {"beta": 0.7}),
    "smooth l1, beta 0": ("smooth_l1_loss", "SmoothL1Loss", drawn(SHAPE, 2) + DISTANCES, drawn(SHAPE, 2), {"beta": 0.0}),
    "bce": ("binary_cross_entropy", "BCELoss", probabilities(SHAPE), probabilities(SHAPE, 2), {}),
    "bce, weight": ("binary_cross_entropy", "BCELoss", probabilities(SHAPE), probabilities(SHAPE, 2), {"weight": WEIGHTS[0]}),
    "logits": ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss", 3 * drawn(SHAPE), probabilities(SHAPE, 2), {}),
    "logits, weight": (
        "binary_cross_entropy_with_logits", "BCEWithLogitsLoss", 3 * drawn(SHAPE), probabilities(SHAPE, 2), {"weight": WEIGHTS[:, :1]},
    ),
    "logits, pos_weight": (
        "binary_cross_entropy_with_logits", "BCEWithLogitsLoss", 3 * drawn(SHAPE), probabilities(SHAPE, 2),
        {"weight": WEIGHTS, "pos_weight": 3 * WEIGHTS[1]},
    ),
    "kl": ("kl_div", "KLDivLoss", np.log(distributions(SHAPE)), distributions(SHAPE, seed=3), {}),
    "kl, log": ("kl_div", "KLDivLoss", np.log(distributions(SHAPE)), np.log(distributions(SHAPE, seed=3)), {"log_target": True}),
    "of nothing": ("mse_loss", "MSELoss", np.zeros((2, 0)), np.zeros((2, 0)), {}),
    "of one number": ("huber_loss", "HuberLoss", np.array(0.4), np.array(2.0), {}),
}  # fmt: skip


def reductions(function: str) -> list[str]:
    """What the function takes as its reduction."""
    return [*REDUCTIONS, "batchmean"] if function == "kl_div" else REDUCTIONS


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch's, of KLDivLoss
@pytest.mark.parametrize("name", PAIRED)
def test_as_pytorch(name, torch_says):
    """The value, both gradients and the second derivative, for each reduction; function and layer alike."""
    function, layer, *arrays, options = PAIRED[name]
    cotangents = {reduction: drawn(arrays[0].shape if reduction == "none" else (), 5) for reduction in reductions(function)}
    w = drawn(arrays[0].shape, 6)

    def ask(torch):
        answers = {}
        theirs = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
        for reduction, u in cotangents.items():
            tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
            loss = getattr(torch.nn.functional, function)(*tensors, reduction=reduction, **theirs)
            gradients = torch.autograd.grad(loss, tensors, torch.tensor(u), create_graph=True)
            (second,) = torch.autograd.grad(gradients[0], tensors[0], torch.tensor(w), allow_unused=True)
            zeros = torch.zeros(arrays[0].shape, dtype=torch.float64)
            parts = (loss, *gradients, zeros if second is None else zeros + second)
            answers.update({f"{reduction} {i}": part for i, part in enumerate(parts)})
        return answers

    expected = torch_says(ask)
    for reduction, u in cotangents.items():
        tensors = [mt.tensor(array, requires_grad=True) for array in arrays]
        loss = getattr(functional, function)(*tensors, reduction=reduction, **options)
        gradients = mt.grad(loss, tensors, mt.tensor(u), create_graph=True)
        found = [loss, *gradients, *mt.grad(gradients[0], tensors[0], mt.tensor(w), allow_unused=True)]
        for i, ours in enumerate(found):
            # PyTorch adds 1e-12 in the second derivative of bce
            rtol = 1e-10 if function == "binary_cross_entropy" and i == len(found) - 1 else 1e-13
            fits(mt.zeros(w.shape) if ours is None else ours, expected[f"{reduction} {i}"], rtol)
        if layer is not None:
            module = getattr(layers, layer)(reduction=reduction, **options)
            np.testing.assert_array_equal(module(*tensors).detach().numpy(), loss.detach().numpy())
            assert repr(module) == f"{layer}()"
            for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
                np.testing.assert_array_equal(twin(*tensors).detach().numpy(), loss.detach().numpy())


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("name", [name for name in PAIRED if name != "of nothing"])
def test_against_differences(name, reduction):
    """In the input, in the target, and in the weights, which PyTorch does not differentiate."""
    function, _, x, target, options = PAIRED[name]
    weights = {key: value for key, value in options.items() if "weight" in key}

    def call(x, target, *values):
        chosen = options | dict(zip(weights, values, strict=True)) | {"reduction": reduction}
        return getattr(functional, function)(x, target, **chosen)

    arrays = [x, target, *weights.values()]
    check_first(call, arrays)
    check_second(call, arrays)


@pytest.mark.parametrize("name", PAIRED)
def test_on_the_stand_in(name, cupy):
    function, _, x, target, options = PAIRED[name]

    def call(x, target):
        return getattr(functional, function)(x, target, **options)

    check_device(call, [x, target])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", [name for name in PAIRED if name != "of nothing"])
def test_the_dtype_stays_and_float16_is_rounded_once(name, dtype):
    function, _, x, target, options = PAIRED[name]
    x, target = x.astype(dtype), target.astype(dtype)
    options = {key: value.astype(dtype) if isinstance(value, np.ndarray) else value for key, value in options.items()}

    def run(*arrays, options):
        tensor = mt.tensor(arrays[0], requires_grad=True)
        loss = getattr(functional, function)(tensor, arrays[1], **options)
        return loss.detach(), *mt.grad(loss, tensor)

    wide = {key: value.astype(np.float64) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    exact = run(x.astype(np.float64), target.astype(np.float64), options=wide)
    for ours, right in zip(run(x, target, options=options), exact, strict=True):
        assert ours.dtype == dtype
        assert_rounding(ours, right)


def test_the_losses_dtype_is_the_inputs():
    for target in (np.zeros(3), np.zeros(3, np.float32), np.zeros(3, int), np.zeros(3, bool), np.zeros(3, np.uint8)):
        assert functional.mse_loss(mt.ones(3), target).dtype == np.float32
        assert functional.binary_cross_entropy_with_logits(mt.ones(3, dtype=np.float16), target).dtype == np.float16
    assert functional.cross_entropy(mt.ones(2, 3), np.full((2, 3), 1 / 3)).dtype == np.float32
    assert functional.cross_entropy(mt.ones(2, 3), [0, 1], weight=np.ones(3)).dtype == np.float32


def test_float16_means_in_float32():
    """A sum of 70000 squares is beyond float16, their mean is not; neither are 5000 equal terms lost."""
    assert functional.mse_loss(mt.full((70_000,), 2.0, np.float16), mt.zeros(70_000, dtype=np.float16)).item() == 4
    assert functional.l1_loss(mt.ones(5000, dtype=np.float16), np.zeros(5000), reduction="sum").item() == np.float16(5000)
    logits = mt.tensor(np.zeros((5000, 2)), np.float16, requires_grad=True)
    loss = functional.cross_entropy(logits, np.zeros(5000, int))
    assert loss.item() == np.float16(math.log(2))
    np.testing.assert_allclose(mt.grad(loss, logits)[0].numpy(), np.float16([[-1e-4, 1e-4]] * 5000), rtol=0)


def test_integers_and_booleans_are_targets():
    x = mt.tensor([0.3, -0.7], np.float64)
    for function in (functional.mse_loss, functional.binary_cross_entropy_with_logits, functional.kl_div):
        expected = function(x, np.array([1.0, 0.0])).item()
        for target in ([1, 0], np.array([True, False]), mt.tensor([1, 0]), np.array([1, 0], np.uint8)):
            assert function(x, target).item() == expected
    # of uint8, NumPy's log is a float16
    assert functional.kl_div(x, np.array([3, 5], np.uint8)).item() == functional.kl_div(x, np.array([3.0, 5.0])).item()


def test_python_floats_take_the_inputs_dtype():
    x = mt.tensor([[0.1, 0.7]], np.float64)
    assert functional.mse_loss(x, [[0.1, 0.7]]).item() == 0
    assert functional.l1_loss(x, [[0.0, 0.7]], weight=[0.1, 1.0], reduction="sum").item() == 0.1 * 0.1
    assert functional.cross_entropy(x, [[0.3, 0.7]]).item() == functional.cross_entropy(x, np.array([[0.3, 0.7]])).item()


KINKS = {
    "l1": ("l1_loss", [0.0, -0.0, 1.0], [0.0, 0.0, 1.0], {}),
    "huber": ("huber_loss", [-1.5, 0.0, 1.5], [0.0, 0.0, 0.0], {"delta": 1.5}),
    "smooth l1": ("smooth_l1_loss", [-1.5, 0.0, 1.5], [0.0, 0.0, 0.0], {"beta": 1.5}),
    "smooth l1, beta 0": ("smooth_l1_loss", [-1.0, 0.0], [0.0, 0.0], {"beta": 0.0}),
    "bce": ("binary_cross_entropy", [0.0, 1.0, 0.0, 1.0, 0.0, 1e-13, 1e-60], [0.0, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0], {}),
    "kl": ("kl_div", [-0.5, -1.0], [0.0, 0.2], {}),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", KINKS)
def test_values_and_derivatives_at_a_kink_are_pytorchs(name, create_graph, torch_says):
    function, values, target, options = KINKS[name]

    def ask(torch):
        x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        loss = getattr(torch.nn.functional, function)(x, torch.tensor(target, dtype=torch.float64), reduction="none", **options)
        (g,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
        h = torch.autograd.grad(g.sum(), x)[0] if name in ("huber", "smooth l1") else torch.zeros(0)
        return [loss, g, h]

    x = mt.tensor(values, np.float64, requires_grad=True)
    loss = getattr(functional, function)(x, np.array(target), reduction="none", **options)
    (g,) = mt.grad(loss.sum(), x, retain_graph=True, create_graph=create_graph)
    expected = torch_says(ask)
    fits(loss, expected[0])
    fits(g, expected[1], 1e-8 if name == "bce" else 1e-13)  # the 1e-12 of binary_cross_entropy is a float32 there
    if expected[2].size and create_graph:
        fits(mt.grad(g.sum(), x)[0], expected[2])


def test_a_probability_of_0_in_the_target_adds_nothing():
    """Neither to the loss, nor to a gradient, nor where the input is impossible too."""
    for target, log_target in (([0.0, 1.0], False), ([-np.inf, 0.0], True)):
        x = mt.tensor([-np.inf, -0.5], np.float64, requires_grad=True)
        t = mt.tensor(target, np.float64, requires_grad=True)
        losses = functional.kl_div(x, t, reduction="none", log_target=log_target)
        assert losses.tolist() == [0.0, 0.5]
        for g in mt.grad(losses.sum(), [x, t], create_graph=True):
            assert g[0].item() == 0
            assert np.isfinite(g.detach().numpy()).all()


def test_batchmean_of_one_number_is_its_loss():
    x = mt.tensor(-0.5, np.float64)
    assert functional.kl_div(x, 1.0, "batchmean").item() == 0.5


def test_the_target_of_bce_gets_a_finite_gradient():
    t = mt.tensor([0.5, 0.5], np.float64, requires_grad=True)
    loss = functional.binary_cross_entropy(mt.tensor([0.0, 1.0], np.float64), t, reduction="sum")
    assert mt.grad(loss, t)[0].tolist() == [100.0, -100.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_large_logits_of_two_classes(create_graph):
    x = mt.tensor([-1e4, -1e4, 1e4, 1e4, -30.0, 30.0], np.float32, requires_grad=True)
    t = mt.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0], requires_grad=True)
    losses = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    small = np.exp(-30.0, dtype=np.float32)
    np.testing.assert_allclose(losses.detach().numpy(), [0, 1e4, 1e4, 0, small, small], rtol=1e-6)
    gx, gt = mt.grad(losses.sum(), [x, t], create_graph=create_graph)
    np.testing.assert_allclose(gx.detach().numpy(), [0, -1, 1, 0, small, -small], rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(gt.detach().numpy(), -x.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("function", ["huber_loss", "smooth_l1_loss"])
def test_large_distances_overflow_nothing(function):
    x = mt.tensor([-3e38, 1e30], np.float32, requires_grad=True)
    losses = getattr(functional, function)(x, [0.0, 0.0], reduction="none")
    np.testing.assert_allclose(losses.detach().numpy(), [3e38, 1e30], rtol=1e-6)
    assert mt.grad(losses.sum(), x)[0].tolist() == [-1.0, 1.0]


@given(st.floats(-30, 30), st.floats(0, 1))
def test_with_logits_is_without_logits_of_a_sigmoid(logit, target):
    x = mt.tensor(logit, np.float64)
    exact = functional.binary_cross_entropy_with_logits(x, target).item()
    assert functional.binary_cross_entropy(activation.sigmoid(x), target).item() == pytest.approx(
        exact, rel=np.finfo(float).eps * math.exp(abs(logit)) + 1e-14, abs=1e-15
    )


# -- of classes -----------------------------------------------------------------------------------------------------------------------

LOGITS = [(5,), (4, 5), (1, 5), (4, 5, 3), (2, 5, 2, 3)]
OPTIONS = [
    {"reduction": reduction, "label_smoothing": smoothing, "weight": weight}
    for reduction, smoothing, weight in itertools.product(REDUCTIONS, (0.0, 0.1), (None, WEIGHTS.ravel()[:5]))
]


def class_axis(shape: tuple[int, ...]) -> int:
    """Where the classes are."""
    return min(1, len(shape) - 1)


def classes(shape: tuple[int, ...], ignored: int | None = None) -> np.ndarray:
    """A class for each element; some are ignored."""
    rng = np.random.default_rng(8)
    shape = tuple(n for axis, n in enumerate(shape) if axis != class_axis(shape))
    target = rng.integers(0, 5, shape)
    return target if ignored is None else np.where(rng.random(shape) < 0.4, ignored, target)


def asked(torch, function, x, target, options):
    """PyTorch's loss and gradient of logits x."""
    tensor = torch.tensor(x, requires_grad=True)
    theirs = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    loss = getattr(torch.nn.functional, function)(tensor, torch.tensor(target), **theirs)
    return [loss, *torch.autograd.grad(loss, tensor, torch.tensor(drawn(tuple(loss.shape), 9)))]


def fits_pytorch(torch_says, function, kind, x, target, cases):
    """The function, its gradient, and the layer, with every choice of options."""
    name = function.__name__
    expected = torch_says(lambda torch: [part for options in cases for part in asked(torch, name, x, target, options)])
    for options, loss, gradient in zip(cases, expected[::2], expected[1::2], strict=True):
        tensor = mt.tensor(x, requires_grad=True)
        ours = function(tensor, target, **options)
        fits(ours, loss)
        fits(mt.grad(ours, tensor, mt.tensor(drawn(ours.shape, 9)))[0], gradient)
        layer = kind(**options)
        np.testing.assert_array_equal(layer(tensor, mt.tensor(target)).detach().numpy(), ours.detach().numpy())
        assert repr(layer) == f"{kind.__name__}()"


@pytest.mark.parametrize("kind", ["classes", "some ignored", "a class ignored", "probabilities"])
@pytest.mark.parametrize("shape", LOGITS, ids=str)
def test_cross_entropy_as_pytorch(shape, kind, torch_says):
    x = 3 * drawn(shape)
    ignored = {"some ignored": -100, "a class ignored": 2}.get(kind)
    target = distributions(shape, class_axis(shape)) if kind == "probabilities" else classes(shape, ignored)
    cases = [options | ({} if ignored is None else {"ignore_index": ignored}) for options in OPTIONS]
    fits_pytorch(torch_says, functional.cross_entropy, layers.CrossEntropyLoss, x, target, cases)


@pytest.mark.parametrize("shape", LOGITS, ids=str)
def test_nll_as_pytorch(shape, torch_says):
    x, target = drawn(shape), classes(shape, 2)
    cases = [{"reduction": r, "weight": w, "ignore_index": i} for r in REDUCTIONS for w in (None, WEIGHTS.ravel()[:5]) for i in (2, -100)]
    fits_pytorch(torch_says, functional.nll_loss, layers.NLLLoss, x, target, cases)


def calls(shape: tuple[int, ...]):
    """Losses of classes as functions of logits, weights and, where they are probabilities, the target; with their arrays."""
    x, weight, target = drawn(shape), WEIGHTS.ravel()[:5].copy(), classes(shape, -100)
    soft = distributions(shape, class_axis(shape))
    for reduction in ("none", "mean"):
        yield lambda x, w, r=reduction: functional.cross_entropy(x, target, w, reduction=r), [x, weight]
        yield lambda x, w, r=reduction: functional.cross_entropy(x, target, w, reduction=r, label_smoothing=0.1), [x, weight]
        yield lambda x, w, q, r=reduction: functional.cross_entropy(x, q, w, reduction=r, label_smoothing=0.1), [x, weight, soft]
        yield lambda x, w, r=reduction: functional.nll_loss(x, target, w, reduction=r), [x, weight]


@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 2)], ids=str)
def test_losses_of_classes_against_differences(shape):
    """In the logits, in probabilities, and in the weights, which PyTorch does not differentiate."""
    for call, arrays in calls(shape):
        check_first(call, arrays)
        check_second(call, arrays)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 2)], ids=str)
def test_losses_of_classes_on_the_stand_in(shape, cupy):
    """Also where the target is a Tensor there, or an array on the CPU."""
    for call, arrays in calls(shape):
        check_device(call, arrays)
    x = mt.tensor(drawn((4, 5)), device="cuda")
    target = classes((4, 5))
    there = [functional.cross_entropy(x, given).item() for given in (target, mt.tensor(target, device="cuda"))]
    assert there == [functional.cross_entropy(x.cpu(), target).item()] * 2
    layer = layers.CrossEntropyLoss(weight=WEIGHTS.ravel()[:5])
    layer.weight = layer.weight.to("cuda")
    assert layer(x, target).device == "cuda:0"


def test_the_target_of_cross_entropy_gets_its_gradient(torch_says):
    x, q = drawn((4, 5)), distributions((4, 5))
    weight = WEIGHTS.ravel()[:5]

    def ask(torch):
        tensor = torch.tensor(q, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(torch.tensor(x), tensor, torch.tensor(weight), label_smoothing=0.2)
        return torch.autograd.grad(loss, tensor)

    tensor = mt.tensor(q, requires_grad=True)
    loss = functional.cross_entropy(mt.tensor(x), tensor, weight, label_smoothing=0.2)
    fits(mt.grad(loss, tensor)[0], torch_says(ask)[0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_large_logits_of_classes(create_graph):
    x = mt.tensor([[1e4, 0.0, -1e4], [1e4, 1e4, 0.0], [-3e38, 3e37, 0.0]], np.float32, requires_grad=True)
    losses = functional.cross_entropy(x, [2, 1, 1], reduction="none")
    np.testing.assert_allclose(losses.detach().numpy(), [2e4, math.log(2), 0], rtol=1e-6)
    (g,) = mt.grad(losses.sum(), x, create_graph=create_graph)
    np.testing.assert_allclose(g.detach().numpy(), [[1, 0, -1], [0.5, -0.5, 0], [0, 0, 0]], atol=1e-7)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_masked_class(create_graph):
    """A logit of -inf has probability 0 and gets no gradient."""
    x = mt.tensor([[1.0, -np.inf, 0.0]], np.float64, requires_grad=True)
    loss = functional.cross_entropy(x, [0])
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-15)
    (g,) = mt.grad(loss, x, create_graph=create_graph)
    assert g[0, 1].item() == 0
    assert np.isfinite(g.detach().numpy()).all()


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=5), st.data())
def test_a_class_is_a_distribution_with_one_event(logits, data):
    target = data.draw(st.integers(0, len(logits) - 1))
    x = mt.tensor([logits], np.float64)
    certain = np.eye(len(logits))[[target]]
    loss = functional.cross_entropy(x, [target]).item()
    assert functional.cross_entropy(x, certain).item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    assert functional.nll_loss(activation.log_softmax(x, 1), [target]).item() == loss
    assert functional.kl_div(activation.log_softmax(x, 1), certain, "batchmean").item() == pytest.approx(loss, rel=1e-12, abs=1e-14)


# -- a mean over nothing --------------------------------------------------------------------------------------------------------------

NOTHING = {
    "all ignored": lambda f, x: f.cross_entropy(x, [-100, -100]),
    "all ignored, smoothed": lambda f, x: f.cross_entropy(x, [-100, -100], label_smoothing=0.1),
    "all ignored, weighted": lambda f, x: f.cross_entropy(x, [-100, -100], weight=np.ones(3)),
    "all ignored, nll": lambda f, x: f.nll_loss(x, [-100, -100]),
    "a weight of 0": lambda f, x: f.nll_loss(x, [0, 0], weight=np.array([0.0, 1.0, 1.0])),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", NOTHING)
def test_a_mean_over_nothing_is_nan_without_a_warning(name, create_graph):
    """And where all are ignored, its gradient is 0, as in PyTorch."""
    x = mt.tensor(drawn((2, 3)), requires_grad=True)
    loss = NOTHING[name](functional, x)
    assert math.isnan(loss.item())
    (g,) = mt.grad(loss, x, create_graph=create_graph)
    if "ignored" in name:
        assert g.tolist() == np.zeros((2, 3)).tolist()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_nothing(reduction):
    expected = {"none": [], "sum": 0.0, "mean": math.nan}[reduction]
    for function in (functional.mse_loss, functional.binary_cross_entropy, functional.kl_div):
        np.testing.assert_equal(function(mt.zeros(0), mt.zeros(0), reduction=reduction).tolist(), expected)
    np.testing.assert_equal(functional.cross_entropy(mt.zeros(0, 3), np.zeros(0, int), reduction=reduction).tolist(), expected)
    np.testing.assert_equal(functional.cross_entropy(mt.zeros(0, 3), mt.zeros(0, 3), reduction=reduction).tolist(), expected)
    assert math.isnan(functional.kl_div(mt.zeros(0, 2), mt.zeros(0, 2), reduction="batchmean").item())


def test_of_all_ignored_sum_and_none_are_0():
    for smoothing in (0.0, 0.1):
        assert functional.cross_entropy(mt.ones(2, 3), [-100, -100], reduction="sum", label_smoothing=smoothing).item() == 0
        assert functional.cross_entropy(mt.ones(2, 3), [-100, -100], reduction="none", label_smoothing=smoothing).tolist() == [0, 0]


# -- layers ---------------------------------------------------------------------------------------------------------------------------


def test_every_function_has_a_layer_and_is_tested_here():
    tested = {function for function, *_ in PAIRED.values()} | {"cross_entropy", "nll_loss"}
    assert tested == set(functional.__all__)
    public = {name for name, value in vars(layers).items() if isinstance(value, type) and value.__module__ == layers.__name__}
    assert {name for name in public if name[0] != "_"} == {name for _, name, *_ in PAIRED.values() if name} | {
        "CrossEntropyLoss",
        "NLLLoss",
    }


def test_weights_are_buffers():
    layer = layers.CrossEntropyLoss(np.array([1.0, 2.0, 3.0], np.float32))
    assert {name: tensor.tolist() for name, tensor in layer.state_dict().items()} == {"weight": [1.0, 2.0, 3.0]}
    assert list(layer.parameters()) == []
    layer = layers.BCEWithLogitsLoss(weight=mt.ones(3), pos_weight=[2.0, 2.0, 2.0])
    assert [name for name, _ in layer.named_buffers()] == ["weight", "pos_weight"]
    assert list(layers.NLLLoss().state_dict()) == list(layers.BCELoss().state_dict()) == []
    other = layers.NLLLoss(mt.zeros(3))
    other.load_state_dict({"weight": [1.0, 2.0, 3.0]})
    assert other(mt.tensor([[-1.0, -2.0, -4.0]]), [2]).item() == 4


def test_signatures_are_pytorchs():
    assert list(inspect.signature(functional.cross_entropy).parameters) == [
        "input", "target", "weight", "ignore_index", "reduction", "label_smoothing",
    ]  # fmt: skip
    assert list(inspect.signature(functional.huber_loss).parameters) == ["input", "target", "reduction", "delta", "weight"]
    assert list(inspect.signature(layers.BCEWithLogitsLoss).parameters) == ["weight", "reduction", "pos_weight"]
    assert list(inspect.signature(layers.CrossEntropyLoss).parameters) == ["weight", "ignore_index", "reduction", "label_smoothing"]
    assert list(inspect.signature(layers.MSELoss).parameters) == ["reduction"]


# -- errors ---------------------------------------------------------------------------------------------------------------------------

X = mt.ones(2, 3)
ERRORS = [
    (lambda f: f.mse_loss(X, X, "avg"), ValueError, "mse_loss: reduction must be 'none', 'mean' or 'sum', got 'avg'"),
    (
        lambda f: f.cross_entropy(X, [0, 1], reduction=None),
        ValueError,
        "cross_entropy: reduction must be .* or 'sum', got None",
    ),
    (lambda f: f.mse_loss(X, X, "batchmean"), ValueError, "'none', 'mean' or 'sum', got 'batchmean'"),
    (lambda f: f.kl_div(X, X, "avg"), ValueError, "kl_div: reduction must be 'none', 'mean', 'sum' or 'batchmean', got 'avg'"),
    (lambda f: layers.MSELoss("avg"), ValueError, "MSELoss: reduction must be 'none', 'mean' or 'sum', got 'avg'"),
    (lambda f: layers.KLDivLoss("avg"), ValueError, "KLDivLoss: reduction must be 'none', 'mean', 'sum' or 'batchmean', got 'avg'"),
    (lambda f: f.mse_loss(np.ones(3), np.ones(3)), TypeError, r"mse_loss: input must be a Tensor, got float64 \(3,\); mt.tensor"),
    (lambda f: f.cross_entropy(np.ones(3), 1), TypeError, r"cross_entropy: input must be a Tensor, got float64 \(3,\)"),
    (lambda f: f.l1_loss(mt.ones(3, dtype=int), np.ones(3)), DTypeError, r"l1_loss: input must be floating numbers, got int64 \(3,\)"),
    (
        lambda f: f.mse_loss(mt.ones(4, 1), mt.ones(4)),
        ShapeError,
        r"mse_loss: input and target must have the same shape, got float32 \(4, 1\) and float32 \(4,\); reshape one",
    ),
    (lambda f: f.l1_loss(X, 0.0), ShapeError, r"l1_loss: .* got float32 \(2, 3\) and float32 \(\)"),
    (lambda f: f.huber_loss(X, mt.ones(3)), ShapeError, "huber_loss: input and target must have the same shape"),
    (lambda f: f.smooth_l1_loss(X, mt.ones(1, 3)), ShapeError, "smooth_l1_loss: input and target must have the same shape"),
    (lambda f: f.kl_div(X, mt.ones(3)), ShapeError, "kl_div: input and target must have the same shape"),
    (lambda f: f.binary_cross_entropy_with_logits(X, mt.ones(2, 1)), ShapeError, "with_logits: input and target must have the same"),
    (lambda f: f.mse_loss(X, np.ones((2, 3), complex)), DTypeError, r"mse_loss: target must be real numbers, got complex128 \(2, 3\)"),
    (
        lambda f: f.mse_loss(X, X, weight=mt.ones(2)),
        ShapeError,
        r"mse_loss: weight must broadcast to the input, got float32 \(2,\) for float32 \(2, 3\)",
    ),
    (lambda f: f.binary_cross_entropy_with_logits(mt.ones(3), mt.ones(3), pos_weight=X), ShapeError, "pos_weight must broadcast to the"),
    (lambda f: f.huber_loss(X, X, delta=0), ValueError, "huber_loss: delta must be positive, got 0"),
    (lambda f: f.smooth_l1_loss(X, X, beta=-1), ValueError, "smooth_l1_loss: beta must not be negative, got -1"),
    (
        lambda f: f.binary_cross_entropy(mt.tensor([0.5, 1.5]), [1, 1]),
        ValueError,
        "binary_cross_entropy: input must be between 0 and 1, got 0.5 to 1.5; binary_cross_entropy_with_logits takes logits",
    ),
    (lambda f: f.binary_cross_entropy(mt.tensor([np.nan]), [1]), ValueError, "input must be between 0 and 1, got nan to nan"),
    (lambda f: f.binary_cross_entropy(mt.tensor([0.5]), [-1]), ValueError, "target must be between 0 and 1, got -1.0 to -1.0"),
    (
        lambda f: f.cross_entropy(X, [0.0, 1.0]),
        DTypeError,
        r"cross_entropy: for an input float32 \(2, 3\) the target must be integers of shape \(2,\), "
        r"or floating probabilities of shape \(2, 3\), got float32 \(2,\)",
    ),
    (lambda f: f.cross_entropy(X, np.eye(3, dtype=int)[:2]), ShapeError, r"or floating probabilities of .*, got int64 \(2, 3\)"),
    (lambda f: f.cross_entropy(X, [True, False]), DTypeError, r"integers of shape \(2,\), .* got bool \(2,\)"),
    (lambda f: f.cross_entropy(X, [0, 1, 2]), ShapeError, r"cross_entropy: .* integers of shape \(2,\), .* got int64 \(3,\)"),
    (lambda f: f.cross_entropy(mt.ones(2, 3, 4), np.zeros((4, 2), int)), ShapeError, r"integers of shape \(2, 4\), .*, got int64 \(4, 2\)"),
    (lambda f: f.cross_entropy(mt.ones(3), [0]), ShapeError, r"integers of shape \(\), .*, got int64 \(1,\)"),
    (lambda f: f.nll_loss(X, X), DTypeError, r"nll_loss: .* the target must be integers of shape \(2,\), got float32 \(2, 3\)"),
    (
        lambda f: f.cross_entropy(X, [0, 3]),
        IndexError,
        r"cross_entropy: an input float32 \(2, 3\) has the classes 0 to 2, the target .* has 0 to 3; only ignore_index, -100, may",
    ),
    *(
        (
            lambda f, wrong=wrong: f.cross_entropy(X, [0, 1], None, wrong),
            TypeError,
            "cross_entropy: ignore_index must be an int, got .* size_average=",
        )
        for wrong in (False, None, 1.5, "a")
    ),
    (lambda f: f.cross_entropy(X, X / 3, None, True), TypeError, "cross_entropy: ignore_index must be an int, got True"),
    (lambda f: layers.CrossEntropyLoss(None, False), TypeError, "CrossEntropyLoss: ignore_index must be an int, got False"),
    (lambda f: layers.NLLLoss(None, True), TypeError, "NLLLoss: ignore_index must be an int, got True"),
    (lambda f: f.nll_loss(X, [0, -1]), IndexError, "nll_loss: .* the classes 0 to 2, the target .* has -1 to 0"),
    (lambda f: f.cross_entropy(X, np.array([0, 255], np.uint8)), IndexError, "has 0 to 255"),
    (lambda f: f.cross_entropy(mt.ones(2, 0), [0, 0]), ShapeError, r"cross_entropy: input must have shape \(C,\), .* got float32 \(2, 0\)"),
    (lambda f: f.nll_loss(mt.tensor(1.0), 0), ShapeError, r"nll_loss: input must have shape .* got float32 \(\)"),
    (
        lambda f: f.cross_entropy(X, [0, 1], weight=[1.0, 2.0]),
        ShapeError,
        r"cross_entropy: weight must have one element per class, \(3,\), got float32 \(2,\)",
    ),
    (lambda f: f.cross_entropy(X, [0, 1], label_smoothing=1.5), ValueError, "label_smoothing must be between 0 and 1, got 1.5"),
    (
        lambda f: f.cross_entropy(X, X / 3, ignore_index=1),
        ValueError,
        r"ignore_index names a class, but .* float32 \(2, 3\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(functional)


def test_another_device_is_told(cupy):
    x = mt.ones(2, 3, device="cuda")
    for call in (
        lambda: functional.mse_loss(x, mt.ones(2, 3)),
        lambda: functional.cross_entropy(x, mt.tensor([0, 1])),
        lambda: functional.cross_entropy(x, [0, 1], weight=mt.ones(3)),
    ):
        with pytest.raises(DeviceError, match=r": input is on 'cuda:0', (target|weight) on 'cpu'; move one of them with .to\(device\)"):
            call()


def test_unsigned_targets_can_ignore_a_class():
    target = np.array([0, 255], np.uint8)
    assert functional.cross_entropy(mt.zeros(2, 3), target, ignore_index=255).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int64, np.float64])
def test_class_weights_of_any_real_dtype(dtype):
    """Unsigned numbers have no negative: weights of them count as the numbers that they are."""
    x = mt.tensor([[-0.1, -2.0], [-3.0, -0.5]], dtype=np.float64)
    found = functional.nll_loss(x, [0, 1], weight=np.array([1, 2], dtype), reduction="none")
    np.testing.assert_allclose(found.numpy(), [0.1, 1.0], rtol=1e-15)


def test_complex_class_weights_are_refused():
    with pytest.raises(DTypeError, match=r"nll_loss: weight must be real numbers, got complex128 \(2,\)"):
        functional.nll_loss(mt.zeros(1, 2), [0], weight=np.array([1j, 2]))


def test_an_unsigned_target_is_never_the_ignored_class():
    with pytest.raises(IndexError, match="classes 0 to 1"):
        functional.nll_loss(mt.zeros(2, 2), np.array([2**64 - 100, 0], np.uint64))


def test_huber_at_infinity():
    """delta = inf is half the square; an infinite distance has the slope delta."""
    x = mt.tensor([0.5, 0.0], requires_grad=True)
    functional.huber_loss(x, [0.0, 0.0], "sum", delta=np.inf).backward()
    assert x.grad.tolist() == [0.5, 0.0]
    x = mt.tensor([0.5, np.inf, -np.inf], requires_grad=True)
    functional.huber_loss(x, [0.0, 0.0, 0.0], "sum", delta=2.0).backward()
    assert x.grad.tolist() == [0.5, 2.0, -2.0]
