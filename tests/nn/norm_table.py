"""The normalisation layers in one table, and three opinions on each: PyTorch's, plain loops, and the closed form in 80 bits.

The loops know nothing of layouts: they ask, of one index at a time, which slice it belongs to and which weight it meets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minitensor as mt
from minitensor import nn
from minitensor.nn.norm import formulas

EPS = 0.3  # comparable with the variances, so that a mistake with it shows
NAMES = ("y", "dx", "dweight", "dbias")


class Where(NamedTuple):
    """Of the index of an element: which slice it belongs to, and which element of weight and bias it meets."""

    slice_of: Callable[[tuple[int, ...]], Any]
    parameter_of: Callable[[tuple[int, ...]], Any]


INSTANCE = Where(lambda i: i[:2], lambda i: i[1])
UNBATCHED = Where(lambda i: i[0], lambda i: i[0])
LAST = Where(lambda i: (i[0], i[-1]), lambda i: i[-1])
BATCH = Where(lambda i: i[1], lambda i: i[1])


def group(channels: int) -> Where:
    """Groups of that many neighbouring channels."""
    return Where(lambda i: (i[0], i[1] // channels), lambda i: i[1])


def trailing(k: int) -> Where:
    """The k last axes."""
    return Where(lambda i: i[:-k], lambda i: i[-k:])


class Row(NamedTuple):
    """A layer: its class, named as in PyTorch, the arguments that give its sizes, the shape of an input, and where its slices lie."""

    kind: type[nn.Norm]
    sizes: tuple[Any, ...]
    shape: tuple[int, ...]
    where: Where


ROWS = {
    "InstanceNorm1d": Row(nn.InstanceNorm1d, (3,), (2, 3, 7), INSTANCE),
    "InstanceNorm2d": Row(nn.InstanceNorm2d, (3,), (2, 3, 4, 5), INSTANCE),
    "InstanceNorm3d": Row(nn.InstanceNorm3d, (3,), (2, 3, 4, 2, 1), INSTANCE),
    "InstanceNorm1d-unbatched": Row(nn.InstanceNorm1d, (3,), (3, 7), UNBATCHED),
    "InstanceNorm2d-unbatched": Row(nn.InstanceNorm2d, (3,), (3, 2, 5), UNBATCHED),
    "InstanceNorm3d-unbatched": Row(nn.InstanceNorm3d, (3,), (3, 2, 1, 4), UNBATCHED),
    "InstanceNorm": Row(nn.InstanceNorm, (3,), (2, 4, 5, 3), LAST),
    "BatchNorm1d": Row(nn.BatchNorm1d, (3,), (7, 3), BATCH),
    "BatchNorm1d-L": Row(nn.BatchNorm1d, (3,), (2, 3, 5), BATCH),
    "BatchNorm2d": Row(nn.BatchNorm2d, (3,), (2, 3, 4, 5), BATCH),
    "BatchNorm3d": Row(nn.BatchNorm3d, (3,), (2, 3, 4, 2, 1), BATCH),
    "GroupNorm": Row(nn.GroupNorm, (2, 6), (3, 6, 4, 5), group(3)),
    "GroupNorm-flat": Row(nn.GroupNorm, (2, 14), (3, 14), group(7)),
    "LayerNorm": Row(nn.LayerNorm, (7,), (2, 3, 7), trailing(1)),
    "LayerNorm-2": Row(nn.LayerNorm, ((4, 5),), (2, 3, 4, 5), trailing(2)),
    "RMSNorm": Row(nn.RMSNorm, (7,), (2, 3, 7), trailing(1)),
    "RMSNorm-2": Row(nn.RMSNorm, ((4, 5),), (2, 3, 4, 5), trailing(2)),
}
BATCHED = {name: row for name, row in ROWS.items() if row.where is not UNBATCHED}
TRACKING = {name: row for name, row in ROWS.items() if name.startswith("Batch") or row.kind in (nn.InstanceNorm1d, nn.InstanceNorm2d)}


def per_element(row: Row, values: Any) -> np.ndarray:
    """Weights, biases or statistics as the elements of the input meet them."""
    return np.array([values[row.where.parameter_of(i)] for i in np.ndindex(row.shape)]).reshape(row.shape)


def flags(row: Row, parameters: str) -> dict[str, bool]:
    """The keywords for a layer with "weight and bias", "weight" or "nothing"."""
    switch = "elementwise_affine" if row.kind in (nn.LayerNorm, nn.RMSNorm) else "affine"
    if row.kind in (nn.InstanceNorm, nn.RMSNorm):  # a bias cannot be asked for apart
        return {switch: parameters != "nothing"}
    return {switch: parameters != "nothing", "bias": parameters == "weight and bias"}


def made(row: Row, parameters: str = "weight and bias", dtype: Any = np.float64, backward: str = "analytic", **options: Any) -> Any:
    """The layer, with the numbers of the table in its parameters; ``backward="own"`` is `own_backward`."""
    layer = row.kind(*row.sizes, **{"eps": EPS} | flags(row, parameters) | options).to(dtype)
    layer.backward = own_backward(layer) if backward == "own" else backward
    for name in ("weight", "bias"):
        if getattr(layer, name) is not None:
            getattr(layer, name).data = getattr(numbers(row), name)
    return layer


class Numbers(NamedTuple):
    """An input, the parameters, and a cotangent."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    g: np.ndarray


def numbers(row: Row, seed: int = 5) -> Numbers:
    """Slices with scales and offsets of their own, weights of both signs, no bias 0; all of it exact in float16."""
    rng = np.random.default_rng(seed)
    first = (*row.shape[:2], *(1,) * (len(row.shape) - 2))
    x = rng.normal(size=row.shape) * rng.uniform(0.5, 2, first) + rng.uniform(-2, 2, first)
    shape = row.sizes[-1] if isinstance(row.sizes[-1], tuple) else row.sizes[-1:]
    weight = rng.uniform(0.5, 2, shape) * (-1.0) ** np.arange(math.prod(shape)).reshape(shape)
    given = (x, weight, rng.uniform(0.5, 2, shape), rng.normal(size=row.shape))
    return Numbers(*(each.astype(np.float16).astype(np.float64) for each in given))


def applied(layer: Any) -> Callable[..., mt.Tensor]:
    """The layer as a function of its input and of its parameters."""
    names = [name for name, _ in layer.named_parameters()]

    def call(x: mt.Tensor, *parameters: mt.Tensor) -> mt.Tensor:
        layer._parameters.update(zip(names, parameters, strict=True))
        return layer(x)

    return call


def inputs(row: Row, layer: Any) -> list[np.ndarray]:
    """What `applied` takes, with the numbers of the table."""
    given = numbers(row)
    return [given.x, *(getattr(given, name) for name, _ in layer.named_parameters())]


def asked(layer: Any, x: np.ndarray, g: np.ndarray, traced: bool = False) -> dict[str, np.ndarray]:
    """y, and the gradients of <g, y>, by name."""
    t = mt.tensor(x, requires_grad=True)
    y = layer(t)
    leaves = {"dx": t} | {f"d{name}": parameter for name, parameter in layer.named_parameters()}
    found = mt.grad(y, list(leaves.values()), mt.tensor(g.astype(x.dtype)), create_graph=traced)
    return {name: value.detach().numpy() for name, value in zip(("y", *leaves), (y, *found), strict=True)}


# -- three opinions --------------------------------------------------------------------------------------------------------------


def torch_layer(torch: Any, row: Row, parameters: str = "weight and bias", **options: Any) -> Any:
    """PyTorch's layer, in float64 and with the numbers of the table."""
    kind = torch.nn.InstanceNorm2d if row.where is LAST else getattr(torch.nn, row.kind.__name__)
    layer = kind(*row.sizes, **{"eps": EPS, "dtype": torch.float64} | flags(row, parameters) | options)
    for name, parameter in layer.named_parameters():
        parameter.data = torch.tensor(getattr(numbers(row), name))
    return layer


def in_torch(torch: Any, row: Row, layer: Any, x: np.ndarray, g: np.ndarray) -> dict[str, Any]:
    """What `asked` tells, of PyTorch's layer."""
    t = torch.tensor(x, requires_grad=True)
    y = layer(t.movedim(-1, 1)).movedim(1, -1) if row.where is LAST else layer(t)
    leaves = {"dx": t} | {f"d{name}": parameter for name, parameter in layer.named_parameters()}
    return {"y": y} | dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), torch.tensor(g)), strict=True))


def by_hand(where: Where, x: Any, weight: Any = None, bias: Any = None, eps: float = EPS, centred: bool = True) -> np.ndarray:
    """y by loops over slices, each summed without rounding."""
    slices = defaultdict(list)
    for i in np.ndindex(x.shape):
        slices[where.slice_of(i)].append(i)
    y = np.empty(x.shape)
    for members in slices.values():
        values = [float(x[i]) for i in members]
        mu = math.fsum(values) / len(values) if centred else 0.0
        v = math.fsum((value - mu) ** 2 for value in values) / len(values)
        for i, value in zip(members, values, strict=True):
            j = where.parameter_of(i)
            y[i] = (1 if weight is None else weight[j]) * (value - mu) / math.sqrt(v + eps) + (0 if bias is None else bias[j])
    return y


def own_backward(layer: Any) -> Callable[..., Any]:
    """A backward of one's own for this layer: the closed form, on arrays of any precision and on Tensors."""

    def backward(x: Any, gamma: Any, beta: Any, eps: float, dy: Any) -> Any:
        where = layer.layout(x.shape)
        x_hat, r = (f(where.look(x), where.axes, eps, layer.centred) for f in (formulas.standardize, formulas.rstd))
        dx, *sums = formulas.normalize_backward(where.look(dy), x_hat, r, where.spread(gamma), where.axes, layer.centred)
        extra = len(where.view) - len(where.parameter)
        axes = tuple(i for i in range(len(where.view)) if i < extra or where.parameter[i - extra] == 1)
        return dx.reshape(x.shape), *(None if p is None else s.sum(axes).reshape(p.shape) for p, s in zip((gamma, beta), sums, strict=True))

    return backward


def in_80_bits(layer: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: np.ndarray) -> dict[str, np.ndarray]:
    """What `asked` tells of a layer, computed in `numpy.longdouble`."""
    beta = None if layer.bias is None else bias
    x, weight, beta, g = (None if each is None else each.astype(np.longdouble) for each in (x, weight, beta, g))
    return dict(zip(NAMES, (layer.formula(x, weight, beta), *own_backward(layer)(x, weight, beta, layer.eps, g)), strict=True))


def assert_rounded(found: np.ndarray, exact: np.ndarray, what: str = "", noise: float = 1e-12) -> None:
    """Equal but for the one rounding of the result to its dtype (and for float64 the noise of the computation)."""
    info = np.finfo(found.dtype)
    atol = max(float(info.smallest_subnormal), noise * float(np.abs(exact).max(initial=0)))
    np.testing.assert_allclose(found.astype(exact.dtype), exact, max(0.51 * float(info.eps), noise), atol, err_msg=what)
