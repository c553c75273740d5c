"""Every normalisation layer, every way to differentiate it: values, derivatives of three orders, digits, slices, devices, errors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from checks import check_first, check_second, check_third, derivatives
from hypothesis import given, settings
from hypothesis import strategies as st
from norm_table import (
    BATCH,
    BATCHED,
    EPS,
    INSTANCE,
    LAST,
    ROWS,
    TRACKING,
    Row,
    applied,
    asked,
    assert_rounded,
    by_hand,
    group,
    in_80_bits,
    in_torch,
    inputs,
    made,
    numbers,
    own_backward,
    per_element,
    torch_layer,
    trailing,
)

import minitensor as mt
from minitensor import nn
from minitensor.autograd import gradcheck, gradgradcheck
from minitensor.errors import DeviceError, DTypeError, ShapeError
from minitensor.nn import functional
from minitensor.nn.norm import formulas, layout, primitives

every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
batched_row = pytest.mark.parametrize("row", BATCHED.values(), ids=BATCHED)
ONE_EACH = {name: ROWS[name] for name in ("InstanceNorm1d", "InstanceNorm", "BatchNorm2d", "GroupNorm-flat", "LayerNorm", "RMSNorm")}
one_of_each = pytest.mark.parametrize("row", ONE_EACH.values(), ids=ONE_EACH)
WAYS = ["analytic", "autograd", "own"]
every_way = pytest.mark.parametrize("way", WAYS[:2])
PARAMETERS = [
    (name, parameters)
    for name, row in ROWS.items()
    for parameters in ("weight and bias", "weight", "nothing")
    if parameters != "weight" or row.kind not in (nn.InstanceNorm, nn.RMSNorm)
]


# -- values and first derivatives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS)
def test_values_and_gradients_are_pytorchs(name, parameters, torch_says):
    """Three ways, three dtypes, two walks: PyTorch's float64 numbers, rounded once."""
    row = ROWS[name]
    x, g = numbers(row).x, numbers(row).g
    expected = torch_says(lambda torch: in_torch(torch, row, torch_layer(torch, row, parameters), x, g))
    for way, dtype, traced in product(WAYS, (np.float64, np.float32, np.float16), (False, True)):
        found = asked(made(row, parameters, dtype, way), x.astype(dtype), g, traced)
        assert found.keys() == expected.keys()
        for part in expected:
            assert found[part].dtype == dtype
            assert_rounded(found[part], expected[part], f"{part} {way} {dtype.__name__} {traced=}")


@every_row
def test_train_and_eval_are_the_same_without_running_statistics(row):
    options = {"track_running_stats": False} if "Batch" in row.kind.__name__ else {}
    layer, x = made(row, **options), mt.tensor(numbers(row).x)
    np.testing.assert_array_equal(layer(x).detach().numpy(), layer.eval()(x).detach().numpy())


@every_row
@every_way
def test_mixed_dtypes(row, way):
    """The output and dx have the input's dtype, the parameters' gradients the parameters'; all of them are rounded once."""
    x, g = numbers(row).x, numbers(row).g
    exact = asked(made(row), x, g)
    for dtype, of_parameters in product((np.float64, np.float32, np.float16), repeat=2):
        found = asked(made(row, dtype=of_parameters, backward=way), x.astype(dtype), g)
        for part, value in found.items():
            assert value.dtype == (dtype if part in ("y", "dx") else of_parameters)
            assert_rounded(value, exact[part], part)


# -- derivatives by numbers --------------------------------------------------------------------------------------------------------


@batched_row
@every_way
@pytest.mark.parametrize("check", [check_first, check_second])
def test_derivatives_by_numbers(row, way, check, no_kernel):
    layer = made(row, backward=way)
    check(applied(layer), inputs(row, layer))


@pytest.mark.parametrize("row", TRACKING.values(), ids=TRACKING)
@pytest.mark.parametrize("check", [check_first, check_second])
def test_derivatives_with_running_statistics(row, check):
    layer = with_statistics(made(row, track_running_stats=True)).eval()
    check(applied(layer), inputs(row, layer))


@pytest.mark.parametrize(
    ("check", "name"), [(gradcheck, name) for name in ONE_EACH] + [(gradgradcheck, name) for name in ("InstanceNorm1d", "RMSNorm")]
)
def test_gradcheck(check, name):
    """The kernel at first order, the rule of the traced walk at second."""
    layer = made(ROWS[name])
    assert check(applied(layer), tuple(mt.tensor(x, requires_grad=True) for x in inputs(ROWS[name], layer)), fast_mode=True)


@one_of_each
@every_way
def test_third_order_is_exact(row, way):
    check_third(made(row, backward=way), [numbers(row).x])


# -- digits ------------------------------------------------------------------------------------------------------------------------

MAGNITUDES = [  # dtype, offset, scale
    (np.float32, 1e4, 1.0),
    (np.float32, -1e5, 1.0),
    (np.float32, 1e6, 1.0),
    (np.float32, 1.0, 1e-4),
    (np.float32, 0.0, 1e25),
    (np.float32, 0.0, 1e-15),
    (np.float16, 60.0, 1.0),
    (np.float16, 5e4, 2e3),
    (np.float64, 1e6, 1.0),
]


@batched_row
@every_way
def test_no_magnitude_costs_digits(row, way):
    """y and the gradients are the exact numbers, rounded once, however large the offset and whether or not squares fit the dtype."""
    given = numbers(row)
    for dtype, offset, scale in MAGNITUDES:
        layer = made(row, eps=1e-5, backward=way)
        x = (offset + scale * np.random.default_rng(3).normal(size=row.shape)).astype(dtype)
        exact = in_80_bits(layer, x, given.weight, given.bias, given.g)
        for traced in (False, True):
            for part, found in asked(layer, x, given.g, traced).items():
                assert_rounded(found, exact[part], f"{part} of {offset} + {scale} N(0, 1), {dtype.__name__} {traced=}")


def half_constant(row):
    """The numbers of the table, where every slice but the first is constant, or zero if nothing is centred; and where that is."""
    given = numbers(row)
    slices = {}
    of = np.array([slices.setdefault(row.where.slice_of(i), len(slices)) for i in np.ndindex(row.shape)]).reshape(row.shape)
    constants = np.resize([0.1, 12345.678, -1e7 / 3, 1e-4] if row.kind.centred else [0.0], len(slices))
    return np.where(of == 0, given.x, constants[of]), of > 0


def bias_of(layer, row):
    """The bias of every element, 0 where the layer has none."""
    return per_element(row, np.zeros(layer.weight.shape) if layer.bias is None else layer.bias.detach().numpy())


@every_row
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("way", WAYS)
def test_a_constant_slice_gives_the_bias_exactly(row, dtype, way):
    layer = made(row, dtype=dtype, backward=way, eps=1e-5)
    x, constant = half_constant(row)
    y = layer(mt.tensor(x, dtype)).detach().numpy()
    np.testing.assert_array_equal(y[constant], bias_of(layer, row)[constant])


@every_row
@every_way
def test_a_constant_slice_without_eps_is_a_flat_place(row, way):
    """With eps = 0 it gives the bias, and no gradient of the first two orders; its neighbours keep theirs. Nothing warns."""
    layer = made(row, backward=way)
    layer.eps = 0.0  # the channels-last layer asks for more when it is made
    x, constant = half_constant(row)
    g, u = numbers(row).g, np.random.default_rng(4).normal(size=row.shape)
    t = mt.tensor(x, requires_grad=True)
    y = layer(t)
    (first,) = mt.grad(y, t, mt.tensor(g), create_graph=True)
    (second,) = mt.grad(first, t, mt.tensor(u), create_graph=True)
    (raw,) = mt.grad(y, t, mt.tensor(g))
    np.testing.assert_array_equal(y.detach().numpy()[constant], bias_of(layer, row)[constant])
    for order in (raw, first, second):
        np.testing.assert_array_equal(order.detach().numpy()[constant], 0)
        assert np.abs(order.detach().numpy()[~constant]).min() > 1e-12


# -- slices ------------------------------------------------------------------------------------------------------------------------


@st.composite
def layers(draw):
    """A layer of the family for sizes of any kind, an input's shape, and where its slices lie."""
    n, c, space = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    whole, kind = (n, c, *space), draw(st.sampled_from(["instance", "batch", "group", "layer", "rms", "last"]))
    if kind in ("layer", "rms"):
        k = draw(st.integers(1, len(whole)))
        return Row(nn.LayerNorm if kind == "layer" else nn.RMSNorm, (whole[-k:],), whole, trailing(k))
    if kind == "group":
        groups = draw(st.sampled_from([k for k in range(1, c + 1) if c % k == 0]))
        return Row(nn.GroupNorm, (groups, c), draw(st.sampled_from([whole, (n + 1, c)])), group(c // groups))
    if kind == "last":
        return Row(nn.InstanceNorm, (c,), (n, *space, c), LAST)
    d = len(space) - 1
    if kind == "instance":
        return Row((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[d], (c,), (n, c, *space[:-1], space[-1] + 1), INSTANCE)
    flat = draw(st.booleans()) and d == 0
    return Row((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[d], (c,), (n + 1, c) if flat else (n + 1, *whole[1:]), BATCH)


@given(row=layers(), parameters=st.sampled_from(["weight and bias", "nothing"]), way=st.sampled_from(["analytic", "autograd"]))
@settings(max_examples=150)
def test_slices_lie_where_plain_loops_find_them(row, parameters, way):
    """A group of shape (N, C) may have one element: the bias, as everywhere where nothing varies."""
    if row.kind is nn.GroupNorm and row.shape[0] == 1 and np.prod(row.shape[1:]) == row.sizes[0]:
        row = row._replace(shape=(2, *row.shape[1:]))
    slices_fit(row, made(row, parameters, backward=way))


def slices_fit(row, layer):
    x, weight, bias, _ = numbers(row)
    weight, bias = (None if own is None else value for own, value in ((layer.weight, weight), (layer.bias, bias)))
    expected = by_hand(row.where, x, weight, bias, centred=row.kind.centred)
    for found in (layer(mt.tensor(x)).detach().numpy(), layer.formula(x, weight, bias)):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "bad"), [(name, bad) for name in ROWS for bad in (np.nan, np.inf) if bad != np.inf or ROWS[name].kind.centred]
)
@np.errstate(invalid="ignore")  # NumPy warns of inf - inf
def test_one_nan_or_inf_spoils_its_slice_and_no_other(name, bad):
    """Where nothing is centred, a finite number over inf is 0."""
    row = ROWS[name]
    x = numbers(row).x.copy()
    spoiled = tuple(n - 1 for n in row.shape)
    x[spoiled] = bad
    expected = np.array([row.where.slice_of(i) == row.where.slice_of(spoiled) for i in np.ndindex(row.shape)]).reshape(row.shape)
    for way in ("analytic", "autograd"):
        found = asked(made(row, backward=way), x, numbers(row).g)
        np.testing.assert_array_equal(np.isnan(found["y"]), expected)
        np.testing.assert_array_equal(np.isnan(found["dx"]), expected)


@every_row
def test_memory_order_does_not_matter(row):
    """A transposed or a strided input gives the same numbers as its copy."""
    x, g = numbers(row).x, numbers(row).g
    expected = asked(made(row), x, g)
    padded = np.empty(tuple(2 * n for n in row.shape))[tuple(slice(None, None, 2) for _ in row.shape)]
    padded[...] = x
    for other in (np.asfortranarray(x), padded):
        for part, value in asked(made(row), other, np.asfortranarray(g)).items():
            np.testing.assert_allclose(value, expected[part], rtol=1e-13, atol=1e-13)


def test_channels_last_is_channels_first_turned():
    last, first = ROWS["InstanceNorm"], ROWS["InstanceNorm2d"]
    x, g = numbers(first).x, numbers(first).g
    expected, layer = asked(made(first), x, g), made(last)
    layer.load_state_dict(made(first).state_dict())
    found = asked(layer, np.moveaxis(x, 1, -1), np.moveaxis(g, 1, -1))
    for part in ("y", "dx"):
        np.testing.assert_allclose(np.moveaxis(found[part], -1, 1), expected[part], rtol=1e-12, atol=1e-12)
    for part in ("dweight", "dbias"):
        np.testing.assert_allclose(found[part], expected[part], rtol=1e-12, atol=1e-12)


def test_channels_last_gives_the_bias_for_one_element_and_nothing_for_none():
    layer = nn.InstanceNorm(3, affine=True)
    layer.bias.data = [1.0, 2.0, 3.0]
    assert layer(mt.full((2, 1, 3), 7.0)).tolist() == [[[1.0, 2.0, 3.0]]] * 2
    assert layer(mt.zeros(0, 4, 3)).shape == (0, 4, 3)
    assert layer(mt.zeros(2, 0, 3)).shape == (2, 0, 3)


def test_relatives_meet():
    """One group is LayerNorm over all but the batch, one channel per group is InstanceNorm, a batch of one likewise."""
    x = mt.tensor(np.random.default_rng(1).normal(size=(2, 6, 4, 5)))
    instance = nn.InstanceNorm2d(6)(x).numpy()
    one_group, layer = nn.GroupNorm(1, 6, affine=False)(x), nn.LayerNorm((6, 4, 5), elementwise_affine=False)(x)
    np.testing.assert_allclose(one_group.numpy(), layer.numpy(), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(nn.GroupNorm(6, 6, affine=False)(x).numpy(), instance, rtol=1e-13, atol=1e-13)
    alone = nn.BatchNorm2d(6, affine=False)(x[:1])
    np.testing.assert_allclose(alone.numpy(), instance[:1], rtol=1e-12, atol=1e-13)
    centred = x - np.mean(x, axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(nn.RMSNorm((6, 4, 5), eps=1e-5)(centred).detach().numpy(), layer.numpy(), rtol=1e-12, atol=1e-13)


def test_the_eps_of_rms_norm_is_pytorchs(torch_says):
    """Unless told otherwise: the spacing at 1 of the dtype, of float32 for float16; inputs so small that it shows."""
    x = np.array([[1e-4, -3e-4, 2e-4], [3e-8, 1e-8, 0]])
    expected = torch_says(lambda torch: [torch.nn.RMSNorm(3, dtype=d)(torch.tensor(x, dtype=d)) for d in (torch.float64, torch.float32)])
    for dtype, answer in zip((np.float64, np.float32), expected, strict=True):
        layer = nn.RMSNorm(3, dtype=dtype)
        for found in (layer(mt.tensor(x, dtype)).detach().numpy(), layer.formula(x.astype(dtype), None, None)):
            np.testing.assert_allclose(found, answer, rtol=4 * float(np.finfo(dtype).eps))
    half, single = (nn.RMSNorm(3)(mt.tensor(x.astype(np.float16), dtype)).detach().numpy() for dtype in (np.float16, np.float32))
    np.testing.assert_array_equal(half, single.astype(np.float16))


# -- empty inputs, devices ---------------------------------------------------------------------------------------------------------


@batched_row
@pytest.mark.parametrize("way", WAYS)
def test_an_empty_batch_gives_an_empty_output_and_zero_gradients(row, way):
    layer = made(row, backward=way)
    for traced in (False, True):
        found = asked(layer, np.zeros((0, *row.shape[1:])), np.zeros((0, *row.shape[1:])), traced)
        assert found["y"].shape == found["dx"].shape == (0, *row.shape[1:])
        assert not any(value.any() for value in found.values())
        assert found["dweight"].shape == layer.weight.shape


def with_statistics(layer):
    """Running statistics that are neither those of a fresh layer nor those of any input here."""
    if getattr(layer, "running_mean", None) is not None:
        with mt.no_grad():
            layer.running_mean[...], layer.running_var[...] = [0.3, -0.2, 1.0], [0.5, 2.0, 1.3]
    return layer


@pytest.mark.parametrize(("name", "mode"), [(name, "train") for name in BATCHED] + [(name, "eval") for name in TRACKING])
@every_way
def test_on_a_device(name, mode, way, cupy):
    """The same numbers by both walks and at second order, and all of them on the device."""
    row = ROWS[name]
    options = {"track_running_stats": True} if name in TRACKING else {}

    def fresh(device):
        return with_statistics(made(row, backward=way, **options).to(device)).train(mode == "train")

    found = {}
    for device in ("cpu", "cuda"):
        given, layer = inputs(row, fresh(device)), fresh(device)
        layer(mt.tensor(given[0], device=device))
        found[device] = [buffer for _, buffer in layer.named_buffers()]
        found[device] += derivatives(lambda x, *parameters: applied(fresh(x.device))(x, *parameters), given, device).all()
    assert {tensor.device for tensor in found["cuda"]} == {mt.zeros(1, device="cuda").device}
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(there.detach().cpu().numpy(), here.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_layer_left_on_the_cpu_says_so_and_stays_as_it_was(mode, cupy):
    for kind in (nn.InstanceNorm1d, nn.BatchNorm1d):
        layer = kind(3, affine=False, track_running_stats=True).train(mode == "train")
        with pytest.raises(DeviceError, match=r"\.to\(device\)"):
            layer(mt.zeros(2, 3, 7, device="cuda"))
        assert (layer.running_mean.tolist(), layer.num_batches_tracked.item()) == ([0.0] * 3, 0)


# -- errors ------------------------------------------------------------------------------------------------------------------------

REFUSED = [  # call, error, words that must all be in the message
    (lambda: nn.InstanceNorm2d(3)(mt.zeros(2, 4, 5, 5)), ShapeError, ["num_features", "3", "(2, 4, 5, 5)", "C = 4"]),
    (lambda: nn.InstanceNorm2d(3)(mt.zeros(4, 5, 5)), ShapeError, ["num_features", "3", "(4, 5, 5)", "C = 4"]),
    (lambda: nn.InstanceNorm1d(3)(mt.zeros(2, 3, 4, 4)), ShapeError, ["(N, C, L)", "(C, L)", "(2, 3, 4, 4)", "InstanceNorm2d"]),
    (lambda: nn.InstanceNorm3d(3)(mt.zeros(3, 4, 4)), ShapeError, ["(N, C, D, H, W)", "(3, 4, 4)", "InstanceNorm1d"]),
    (lambda: nn.InstanceNorm2d(3)(mt.zeros(2, 3, 1, 1)), ShapeError, ["(2, 3, 1, 1)", "one element", "variance"]),
    (lambda: nn.InstanceNorm2d(3)(np.zeros((2, 3, 4, 4))), TypeError, ["InstanceNorm2d", "float64 (2, 3, 4, 4)", "mt.tensor"]),
    (lambda: nn.BatchNorm1d(3)(mt.zeros(2, 4)), ShapeError, ["num_features", "3", "(2, 4)", "C = 4"]),
    (lambda: nn.BatchNorm1d(3)(mt.zeros(2, 3, 4, 4)), ShapeError, ["(N, C) or (N, C, L)", "(2, 3, 4, 4)", "BatchNorm2d"]),
    (lambda: nn.BatchNorm2d(3)(mt.zeros(2, 3)), ShapeError, ["(N, C, H, W)", "(2, 3)", "BatchNorm1d"]),
    (lambda: nn.BatchNorm1d(3)(mt.zeros(1, 3)), ShapeError, ["(1, 3)", "one element", "larger batch", "eval"]),
    (lambda: nn.BatchNorm1d(3)(None), TypeError, ["BatchNorm1d", "NoneType"]),
    (lambda: nn.GroupNorm(2, 4)(mt.zeros(2, 6, 3)), ShapeError, ["num_channels", "4", "(2, 6, 3)", "C = 6"]),
    (lambda: nn.GroupNorm(2, 4)(mt.zeros(4)), ShapeError, ["(N, C)", "(4,)"]),
    (lambda: nn.GroupNorm(3, 4), ValueError, ["num_channels = 4", "num_groups = 3"]),
    (lambda: nn.GroupNorm(4, 4)(mt.zeros(1, 4)), ShapeError, ["(1, 4)", "one element", "4 groups"]),
    (lambda: nn.GroupNorm(0, 4), ValueError, ["num_groups", "positive", "0"]),
    (lambda: nn.LayerNorm((3, 4))(mt.zeros(2, 3, 5)), ShapeError, ["(..., 3, 4)", "(2, 3, 5)"]),
    (lambda: nn.LayerNorm(3)(mt.zeros(())), ShapeError, ["(..., 3)", "()"]),
    (lambda: nn.LayerNorm(()), ValueError, ["normalized_shape", "at least one axis", "()"]),
    (lambda: nn.LayerNorm((3, 2.5)), TypeError, ["normalized_shape", "2.5"]),
    (lambda: nn.RMSNorm(3)(mt.zeros(2, 4)), ShapeError, ["(..., 3)", "(2, 4)"]),
    (lambda: nn.InstanceNorm(3)(mt.zeros(2, 3)), ShapeError, ["(N, S..., C)", "(2, 3)"]),
    (lambda: nn.InstanceNorm(3)(mt.zeros(2, 3, 4)), ShapeError, ["dims is 3", "(2, 3, 4)", "C = 4"]),
    (lambda: nn.InstanceNorm(3)(mt.zeros(2, 4, 1)), ShapeError, ["dims is 3", "(2, 4, 1)", "C = 1"]),
    (lambda: nn.InstanceNorm(3)(mt.zeros(2, 4, 3).astype(int)), DTypeError, ["int64 (2, 4, 3)", "astype"]),
    (lambda: nn.InstanceNorm(3, eps=0.0), ValueError, ["eps", "positive", "0.0"]),
    (lambda: nn.InstanceNorm(0), ValueError, ["dims", "positive", "0"]),
    (lambda: functional.layer_norm(mt.zeros(2, 3), 3), TypeError, ["normalized_shape", "tuple", "3"]),
    (lambda: functional.layer_norm(mt.zeros(2, 3), (4,)), ShapeError, ["(4,)", "(2, 3)"]),
    (lambda: functional.layer_norm(mt.zeros(2, 3), (3,), mt.ones(2)), ShapeError, ["weight", "(3,)", "(2, 3)", "(2,)"]),
    (lambda: functional.group_norm(mt.zeros(2, 4), 3), ShapeError, ["C = 4", "(2, 4)", "num_groups = 3"]),
    (lambda: functional.group_norm(mt.zeros(2, 4), 2.0), TypeError, ["num_groups", "int", "2.0"]),
    (lambda: functional.group_norm(mt.zeros(2, 4, 3), 2, bias=mt.ones(2)), ShapeError, ["bias", "(4,)", "(2, 4, 3)", "(2,)"]),
    (lambda: functional.batch_norm(mt.zeros(3), None, None, training=True), ShapeError, ["(N, C)", "(3,)"]),
    (lambda: functional.batch_norm(mt.zeros(2, 3), None, None), ValueError, ["without training", "running_mean", "running_var"]),
    (lambda: functional.batch_norm(mt.zeros(2, 3), mt.zeros(3), mt.ones(4)), ShapeError, ["running_var", "(3,)", "(2, 3)", "(4,)"]),
    (
        lambda: functional.batch_norm(mt.zeros(2, 3), mt.zeros(3), None, training=True),
        ValueError,
        ["running_var", "together"],
    ),
    (lambda: functional.batch_norm(mt.zeros(2, 3), mt.zeros(3, dtype=int), mt.ones(3)), DTypeError, ["running_mean", "int64 (3,)"]),
    (lambda: functional.instance_norm(mt.zeros(2, 3, 4), weight=[1.0, 2.0, 3.0]), TypeError, ["weight", "Tensor", "list"]),
    (
        lambda: functional.instance_norm(mt.zeros(2, 3, 4), weight=mt.ones(3, 2)),
        ShapeError,
        ["weight", "(3,) or (2, 3)", "(3, 2)"],
    ),
    (lambda: functional.instance_norm(mt.zeros(2, 3, 4), mt.zeros(3), mt.ones(3), momentum=None), TypeError, ["momentum", "None"]),
    (lambda: functional.rms_norm(mt.zeros(2, 3), (3,), eps=-1.0), ValueError, ["eps", "-1.0"]),
    (lambda: functional.rms_norm(mt.zeros(2, 3).astype(bool), (3,)), DTypeError, ["bool (2, 3)", "floating"]),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED, ids=[" ".join(words[:2]) for _, _, words in REFUSED])
def test_errors_name_shapes_and_numbers(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert not [word for word in words if word not in str(raised.value)], str(raised.value)


@every_row
@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"eps": -1e-5}, ValueError, "-1e-05"),
        ({"eps": float("nan")}, ValueError, "nan"),
        ({"eps": "1e-5"}, TypeError, "'1e-5'"),
        ({"backward": "both"}, ValueError, "'both'"),
        ({"axis": 1}, TypeError, "axis"),
    ],
    ids=str,
)
def test_no_layer_can_be_made_with_nonsense(row, options, error, word):
    with pytest.raises(error, match=word):
        row.kind(*row.sizes, **options)


@every_row
def test_integers_and_arrays_are_no_input(row):
    layer = row.kind(*row.sizes)
    with pytest.raises(DTypeError, match=rf"int64 .*{row.shape[-1]}.*astype"):
        layer(mt.zeros(row.shape).astype(int))
    with pytest.raises(TypeError, match=r"float64 .*mt\.tensor"):
        layer(np.zeros(row.shape))


# -- planted mistakes: what stands above would notice --------------------------------------------------------------------------------


def test_slices_along_other_axes_are_noticed(monkeypatch):
    row = ROWS["BatchNorm2d"]
    slices_fit(row, made(row))
    monkeypatch.setattr(layout, "per_channel", layout.per_instance)
    with pytest.raises(AssertionError, match="Not equal"):
        slices_fit(row, made(row))


@every_row
def test_a_doubled_eps_is_noticed(row):
    with pytest.raises(AssertionError, match="Not equal"):
        slices_fit(row, made(row, eps=2 * EPS))


@every_row
def test_a_number_off_by_two_roundings_is_noticed(row):
    for dtype in (np.float32, np.float16):
        exact = asked(made(row), numbers(row).x, numbers(row).g)["y"]
        with pytest.raises(AssertionError, match="Not equal"):
            assert_rounded((exact * (1 + 2 * np.finfo(dtype).eps)).astype(dtype), exact)


@one_of_each
def test_single_precision_inside_is_noticed(row, monkeypatch, no_kernel):
    monkeypatch.setattr(formulas, "widen", lambda x: x)
    with pytest.raises((AssertionError, RuntimeWarning), match=r"Not equal|overflow"):
        test_no_magnitude_costs_digits(row, "analytic")


@one_of_each
def test_statistics_as_constants_are_noticed_at_first_order(row, no_kernel):
    """dx = r h, as if mean and variance did not depend on x."""

    def constants(x, gamma, beta, eps, dy):
        where = layer.layout(x.shape)
        _, *sums = own_backward(layer)(x, gamma, beta, eps, dy)
        r = formulas.rstd(where.look(x), where.axes, eps, layer.centred)
        return (r * where.look(dy) * where.spread(gamma)).reshape(x.shape), *sums

    layer = made(row, backward="own")
    check_first(applied(layer), inputs(row, layer))
    layer.backward = constants
    with pytest.raises(AssertionError, match="against"):
        check_first(applied(layer), inputs(row, layer))


@one_of_each
def test_a_detached_statistic_is_noticed_at_second_and_third_order(row, monkeypatch, no_kernel):
    """Right at first order, wrong from then on."""
    layer, rstd = made(row), primitives.rstd
    monkeypatch.setattr(primitives, "rstd", lambda x, **params: rstd(x.detach() if isinstance(x, mt.Tensor) else x, **params))
    check_first(applied(layer), inputs(row, layer))
    with pytest.raises(AssertionError, match="against"):
        check_second(applied(layer), inputs(row, layer))
    with pytest.raises(AssertionError, match="against"):
        check_third(layer, [numbers(row).x])
