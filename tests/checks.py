"""Differentiate a case in both walks, and compare with differences of its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import minitensor as mt
from minitensor.autograd import richardson

Call = Callable[..., Any]
EPS = float(np.finfo(np.float64).eps)


class Derivatives(NamedTuple):
    """What the two walks give for one call, along random cotangents and directions that depend on the shapes alone."""

    y: mt.Tensor
    raw: list[mt.Tensor]  # the gradients of <y, u> by the walk on arrays
    traced: list[mt.Tensor]  # the same, by the walk that records itself
    second: list[mt.Tensor]  # the gradients of <traced, w> with respect to the inputs and u

    def all(self) -> list[mt.Tensor]:
        """Every Tensor in it."""
        return [self.y, *self.raw, *self.traced, *self.second]


def derivatives(call: Call, inputs: Any, device: str = "cpu") -> Derivatives:
    """Both walks and the second derivative of ``call`` on this device."""
    u, w, _ = _directions(call, inputs)
    u, w = mt.tensor(u, device=device, requires_grad=True), [mt.tensor(part, device=device) for part in w]

    def recorded() -> tuple[mt.Tensor, list[mt.Tensor]]:
        tensors = [mt.tensor(x, device=device, requires_grad=x.dtype.kind == "f") for x in inputs]
        return call(*tensors), [tensor for tensor in tensors if tensor.requires_grad]

    y, leaves = recorded()
    raw = mt.grad(y, leaves, u)
    y, leaves = recorded()
    traced = mt.grad(y, leaves, u, create_graph=True)
    total = sum((np.sum(g * part) for g, part in zip(traced, w, strict=True)), start=mt.tensor(0.0, np.float64, device))
    second = mt.grad(total, [*leaves, u], allow_unused=True) if total.requires_grad else [None] * (len(leaves) + 1)
    return Derivatives(y, raw, traced, [mt.zeros_like(x) if g is None else g for g, x in zip(second, [*leaves, u], strict=True)])


def check_first(call: Call, inputs: Any) -> None:
    """Both walks give identical gradients, of the inputs' shapes and dtypes, and these fit Richardson differences of the values."""
    u, _, v = _directions(call, inputs)
    found = derivatives(call, inputs)
    differentiable = [x for x in inputs if x.dtype.kind == "f"]
    for raw, traced, x in zip(found.raw, found.traced, differentiable, strict=True):
        assert (raw.shape, raw.dtype) == (traced.shape, traced.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(raw.numpy(), traced.detach().numpy(), "the two walks disagree")

    def along(h: float) -> Iterator[np.ndarray]:
        yield u * call(*_moved(inputs, v, h)).numpy()

    _fits(found.raw, v, along)


def check_second(call: Call, inputs: Any) -> None:
    """The derivative of the traced gradient fits Richardson differences of the raw one, in the inputs and in the cotangent."""
    u, w, v = _directions(call, inputs)
    v_u = np.random.default_rng(5).standard_normal(u.shape)

    def along(h: float) -> Iterator[np.ndarray]:
        moved = _moved(inputs, v, h)
        for tensor in moved:
            tensor.requires_grad = tensor.dtype.kind == "f"
        leaves = [tensor for tensor in moved if tensor.requires_grad]
        for g, part in zip(mt.grad(call(*moved), leaves, mt.tensor(u + h * v_u)), w, strict=True):
            yield g.numpy() * part

    _fits(derivatives(call, inputs).second, [*v, v_u], along)


def check_device(call: Call, inputs: Any) -> None:
    """On the (stand-in) GPU all of `derivatives` stays there and has the CPU's numbers."""
    for here, there in zip(derivatives(call, inputs).all(), derivatives(call, inputs, "cuda").all(), strict=True):
        assert there.device == "cuda:0"
        assert (there.shape, there.dtype) == (here.shape, here.dtype)
        np.testing.assert_array_equal(there.detach().cpu().numpy(), here.detach().numpy())


def assert_rounding(found: mt.Tensor, exact: mt.Tensor) -> None:
    """A few roundings of float32 from what float64 gives, and for float16 the one rounding of the result."""
    y = np.abs(exact.numpy())
    allowed = 8 * np.finfo(np.float32).eps * np.maximum(1, y)  # what is near 0 may be a difference of numbers near 1
    if found.dtype == np.float16:
        allowed = allowed + np.spacing(y.astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(found.numpy().astype(np.float64) - exact.numpy()) <= allowed).all()


def check_third(call: Call, inputs: Any) -> None:
    """The third derivative along one direction, by traced walks, fits Richardson differences of the second."""
    u, _, v = _directions(call, inputs)

    def along(h: float, order: int) -> float:
        leaves = _moved(inputs, v, h)
        for leaf in leaves:
            leaf.requires_grad = True
        value = np.sum(call(*leaves) * u)
        for _ in range(order):
            value = sum(np.sum(d * part) for d, part in zip(mt.grad(value, leaves, create_graph=True), v, strict=True))
        return float(value.item())

    third, estimate = along(0.0, 3), richardson(lambda h: along(h, 2), h=0.1, levels=6, noise=1e-12)
    assert estimate.error < 1e-6 * abs(third), "this check would be blind"
    assert abs(third - estimate.value) <= estimate.error + 1e-12 * abs(third), f"{third} against {estimate}"


def _directions(call: Call, inputs: Any) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The cotangent u, a weight and a direction for every differentiable input."""
    rng = np.random.default_rng(7)
    shapes = [x.shape for x in inputs if x.dtype.kind == "f"]
    u = rng.standard_normal(call(*map(mt.tensor, inputs)).shape)
    return u, [rng.standard_normal(shape) for shape in shapes], [rng.standard_normal(shape) / 4 for shape in shapes]


def _moved(inputs: Any, directions: list[np.ndarray], h: float) -> list[mt.Tensor]:
    steps = iter(directions)
    return [mt.tensor(x + h * next(steps) if x.dtype.kind == "f" else x) for x in inputs]


def _fits(gradients: list[mt.Tensor], directions: list[np.ndarray], along: Callable[[float], Iterator[np.ndarray]]) -> None:
    """<gradients, directions> against the derivative of the sum of what ``along`` yields; refuses when it could not tell 1 per mille."""
    terms = np.concatenate([(g.detach().numpy() * v).ravel() for g, v in zip(gradients, directions, strict=True)])
    magnitude = sum(float(np.abs(part).sum()) for part in along(0.0))
    estimate = richardson(lambda h: sum(float(part.sum()) for part in along(h)), h=0.01, levels=6, noise=8 * EPS * magnitude)
    allowance = estimate.error + 64 * EPS * float(np.abs(terms).sum())
    assert allowance <= 1e-3 * float(np.abs(terms).max(initial=0)) + 1e-9, "this check would be blind"
    assert abs(float(terms.sum()) - estimate.value) <= allowance, f"{terms.sum()} against {estimate}"
