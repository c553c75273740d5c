"""The comparison: a layer's analytic backward against autograd, and both against numbers that share nothing with either."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from minitensor import Tensor, enable_grad, grad
from minitensor.autograd import Rounded, complex_step, richardson
from minitensor.errors import DTypeError, ShapeError, UnsupportedError, describe

from ..module import Module
from ..parameter import Parameter
from .result import Comparison, Row
from .subject import Array, Subject, subject_of

TINY_STEP = 1e-100  # of the complex step: its square is nothing beside 1, and times a small derivative it is still a normal number
ASSUMED = 1000  # roundings of the largest value, where no bound is known

Bounds = dict[str, Array]
Forward = Callable[[dict[str, Any]], Any]


@enable_grad()
@np.errstate(all="ignore")  # nan, inf and overflow show in the rows
def compare_backward(
    layer: Module,
    x: Tensor | Array,
    *,
    seed: int = 0,
    cotangent: Array | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Run ``layer`` forward and backward two ways, and compare y, dx, the gradients of its parameters, and H u.

    H u is the Hessian of <g, y> with respect to x times a random u: the second derivative.

    The analytic way is the layer's own backward (of a normalisation layer: the closed form, or a function given to it as ``backward=``);
    the other is autograd on the layer's ``formula(x, *parameters)``, its forward in plain NumPy. They share no rule at first order. A
    third opinion on the analytic gradients is numerical: directional derivatives by Richardson-extrapolated central differences and by
    the complex step, in float64, from the formula alone. A layer of your own needs such a method, which takes the parameters in the
    order of their registration, those of modules inside it too; its backward may be any, for instance a `minitensor.autograd.Function`
    in its ``forward``.

    ``x`` is an array or Tensor of the layer's input shape; the layer's parameters are used as they are and nothing of the layer is
    changed. ``cotangent`` has the output's shape; by default it is drawn from ``seed``, as all directions are. Statistics are always
    taken from the input. A backward of your own that turns its Tensors into arrays (``np.asarray``) is compared without H u. Raises
    what the layer raises for a bad input, `ShapeError` for an empty one and where forward and formula differ in shape, `DTypeError` for
    a dtype beyond float16, float32 and float64, `TypeError` for a layer without a formula or with one that takes other arguments.

    The tolerance of every element is computed, not chosen: both ways run once more on numbers that carry a bound of their rounding
    error (`minitensor.autograd.Rounded`), and the two bounds are added. Numerical opinions add their own error estimate. Where a layer
    of your own uses a function for which no such bound is known, 1,000 roundings of the largest value stand for it, and the table
    says so; it also says when the complex step is left out, because a formula (with ``np.abs``, say) drops the imaginary part.

    >>> from minitensor import nn
    >>> rng = np.random.default_rng(1)
    >>> bool(compare_backward(nn.InstanceNorm1d(2, eps=0.1, affine=True), rng.normal(size=(2, 2, 7)) ))
    True
    """
    if isinstance(x, tuple) and all(isinstance(n, int) for n in x):
        raise TypeError(f"compare_backward: an array is needed, not its shape; np.random.default_rng(0).normal(size={x}) makes one")
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.dtype.name not in ("float16", "float32", "float64"):
        raise DTypeError(f"compare_backward: float16, float32 or float64 is needed, got {describe(x)}; use x.astype(np.float64)")
    if x.size == 0:
        raise ShapeError(f"compare_backward: an input with elements is needed, got shape {x.shape}")
    if cotangent is not None and (cotangent := np.asarray(cotangent)).dtype.kind not in "fiub":
        raise DTypeError(f"compare_backward: the cotangent must be real numbers, got {describe(cotangent)}")
    if seed < 0:
        raise ValueError(f"compare_backward: seed must not be negative, got {seed}")
    subject = subject_of(layer, x)
    # Not default_rng(seed) alone: x is often drawn from that, and a cotangent proportional to x - mu makes dx vanish
    rng = np.random.default_rng([seed, *b"cotangent"])
    g = subject.cotangent(x.detach().cpu().numpy(), subject.y.shape, rng) if cotangent is None else cotangent
    trial = _Experiment(subject, x.detach(), Tensor(g, x.dtype, x.device), Tensor(rng.standard_normal(x.shape), x.dtype, x.device))

    progress("analytic backward")
    analytic = trial.run(subject.own)
    progress("autograd")
    composed = trial.run(subject.composed)
    progress("rounding bounds of both ways")
    bounds = trial.both_bounds(composed)
    if not trial.twice:
        analytic.pop("H u", None)
    rows = [
        _row(name, "autograd", one, composed[name], bounds[name], trial.origin(name, composed[name], bounds[name]))
        for name, one in analytic.items()
    ]
    rows += _numerical_rows(trial, rng, analytic, composed, bounds, progress)
    lost = [name for name, value in composed.items() if not np.isfinite(value).all()]
    if lost:
        trial.notes.append(
            f"Autograd itself gives nan or inf in {', '.join(lost)}: {x.dtype} may be too narrow, or there is no derivative."
        )
    known, unseen = _unseen(trial, composed, bounds, progress)
    wrong = {row.quantity for row in rows if not row.ok}
    if wrong and wrong <= {"H u", "H u . v"}:
        trial.notes.append(
            "The first derivatives are right and H u is not: the backward keeps something as a plain number on its way (.detach(), "
            "float(), writing into an array, a value of forward that is neither input nor output), which its own derivative then lacks."
        )
    return Comparison(
        type(layer).__name__,
        subject.eps,
        x.shape,
        str(x.dtype),
        trial.unit,
        subject.m,
        tuple(rows),
        known,
        tuple(unseen),
        " ".join(trial.notes),
    )


def _unseen(trial: _Experiment, right: Bounds, bounds: Bounds, progress: Callable[[str], None]) -> tuple[int, list[str]]:
    """How many mistakes are known, and which of them could not have shown; where none are: gradients a tenth too large."""
    faults = trial.subject.faults(trial.x.shape)
    if not faults:
        trial.notes.insert(0, "Known of any layer: one of its gradients a tenth too large.")
        gradients = [name for name in right if name not in ("y", "H u")]
        return len(gradients), [f"{name} a tenth too large" for name in gradients if _within(1.1 * right[name], right[name], bounds[name])]
    unseen = []
    for name, forward in faults.items():
        progress(f"would this input show {name}?")
        if not trial.shows(forward, right, bounds):
            unseen.append(name)
    return len(faults), unseen


class _Experiment:
    """One layer, one input, one cotangent g and one direction u: everything that is computed from them."""

    def __init__(self, subject: Subject, x: Tensor, g: Tensor, u: Tensor) -> None:
        self.subject, self.x, self.g, self.u = subject, x, g, u
        self.unit = float(np.finfo(x.dtype).eps) / 2
        self.notes: list[str] = []  # what was not done as usual, and why
        self.twice = True  # whether all backwards could be differentiated again
        self.assumed = False  # whether the rounding bounds are not known

    def run(self, forward: Forward) -> dict[str, Array]:
        """y, dx, the gradients of the parameters and H u; the first derivatives by the raw walk, H u through the traced one."""
        y, x, first = self._first(forward, _as_it_is)
        try:
            first |= self._second(y, x, _as_it_is)
        except UnsupportedError as error:  # somebody's own backward that leaves the world of Tensors, as np.asarray(x) does
            self.twice = False
            self.notes.append(f"H u was not compared, because the backward cannot be differentiated: {error}.")
        return {name: value.cpu().numpy() for name, value in first.items()}

    @cached_property
    def bounds(self) -> dict[str, Bounds]:
        """The rounding bounds of the closed form and of the composed way: the same runs, on numbers that carry their bound."""

        def lift(tensor: Tensor) -> Tensor:
            return Tensor(Rounded(tensor.detach().cpu().numpy()), device="cpu")

        def run(forward: Forward) -> Bounds:
            y, x, found = self._first(forward, lift)
            found |= self._second(y, x, lift) if self.twice else {}
            bounds = {name: value._array.bound for name, value in found.items()}
            return {name: np.where(np.isnan(bound), np.inf, bound) for name, bound in bounds.items()}  # 0 times inf: nothing is known

        here = self.subject.on_cpu
        return {"analytic": run(here.closed_form), "autograd": run(here.composed)}

    def both_bounds(self, right: dict[str, Array]) -> Bounds:
        """The sum of both ways' bounds; what `ASSUMED` roundings make, where a layer uses something that no bound is known for."""
        try:
            one, other = self.bounds.values()
        except Exception as error:  # whatever a layer cannot do with these numbers, with plain ones it could
            self.assumed = True
            reason = str(error).rpartition("Rounded: ")[2]
            self.notes.append(f"Tolerances are assumed, {ASSUMED:,} roundings of the largest value: {reason}.")
            largest = {name: float(np.max(np.abs(value), initial=0)) for name, value in right.items()}
            if "H u" in right:  # may be 0, and is a sum of terms of this size
                largest["H u"] = max(
                    largest["H u"], largest["dx"] / float(np.max(self.subject.spread(self.x.cpu().numpy().astype(np.float64))))
                )
            return {name: np.full(value.shape, ASSUMED * self.unit * largest[name]) for name, value in right.items()}
        # A wrong backward that divides by 0 has no bound; it is held to the other way's
        one = other | one
        return {name: bound + np.where(np.isfinite(one[name]), one[name], bound) for name, bound in other.items()}

    def origin(self, name: str, value: Array, bound: Array) -> str:
        """Where a tolerance comes from, in words."""
        largest = float(np.max(np.abs(value.astype(np.float64))))
        amplified = f"{float(np.max(bound)) / (self.unit * largest):.2g} u max|{name}|" if largest else f"{name} is 0"
        return f"{'assumed' if self.assumed else 'roundings of both ways'}: {amplified}"

    def shows(self, forward: Forward, right: dict[str, Array], bounds: Bounds) -> bool:
        """Whether some element of some row would leave its tolerance with this forward, whose backward is wrong."""
        with np.errstate(all="ignore"):  # a wrong backward may well divide by 0
            y, x, first = self._first(forward, _as_it_is)
            if any(not _within(value.cpu().numpy(), right[name], bounds[name]) for name, value in first.items()):
                return True
            return self.twice and not _within(self._second(y, x, _as_it_is)["H u"].cpu().numpy(), right["H u"], bounds["H u"])

    def _first(self, forward: Forward, lift: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """y, x and all that takes no second walk; what y does not depend on has the gradient 0."""
        x = lift(self.x).detach()
        x.requires_grad = True
        parameters = {}
        for name, value in self.subject.parameters.items():
            lifted = lift(value)
            parameters[name] = Parameter(lifted, device=lifted.device)
        y = forward({"x": x, **parameters})
        leaves = [x, *parameters.values()]
        found = grad(y, leaves, lift(self.g), retain_graph=True, allow_unused=True) if y.requires_grad else [None] * len(leaves)
        gradients = [leaf.detach() * 0 if g is None else g for leaf, g in zip(leaves, found, strict=True)]
        return y, x, {"y": y.detach(), **dict(zip(("dx", *(f"d{name}" for name in parameters)), gradients, strict=True))}

    def _second(self, y: Tensor, x: Tensor, lift: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """H u: 0 where dx does not depend on x, because y is linear or a backward of somebody's own is wrong."""
        (dx,) = grad(y, x, lift(self.g), create_graph=True, allow_unused=True) if y.requires_grad else (None,)
        (hessian_u,) = grad(dx, x, lift(self.u), allow_unused=True) if dx is not None and dx.requires_grad else (None,)
        return {"H u": x.detach() * 0 if hessian_u is None else hessian_u}


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _within(one: Array, other: Array, tolerance: Array) -> bool:
    return bool(np.all(np.abs(one.astype(np.float64) - other) <= tolerance))


def _row(quantity: str, opinion: str, one: Array, other: Array, tolerance: Array, origin: str) -> Row:
    one, other, tolerance = (np.asarray(value, np.float64) for value in (one, other, tolerance))
    difference = np.where(one == other, 0.0, np.abs(one - other))  # two infinities of one sign agree
    unbounded = np.isinf(tolerance) & ~np.isnan(difference)
    used = np.where(unbounded | (difference == 0), 0.0, difference / np.where(tolerance > 0, tolerance, np.finfo(float).tiny))
    share = float(np.max(used))
    telling = used if not share <= 1 else difference if share > 0 else tolerance  # a nan comes first; no difference at all: the widest
    where = np.argmax(np.where(unbounded, -1.0, telling))
    most, largest = float(np.max(difference)), float(np.max(np.abs(other)))
    return Row(quantity, opinion, most, most / largest if largest else most, float(tolerance.flat[where]), share, origin)


def _numerical_rows(
    trial: _Experiment,
    rng: np.random.Generator,
    analytic: dict[str, Array],
    composed: dict[str, Array],
    bounds: dict[str, Array],
    progress: Callable[[str], None],
) -> list[Row]:
    """Directional derivatives of <g, y> along random directions, from the forward formula alone, in float64."""
    subject = trial.subject.on_cpu

    def wide(tensor: Tensor) -> Array:
        return tensor.detach().cpu().numpy().astype(np.float64)

    leaves = {"x": wide(trial.x), **{name: wide(value) for name, value in subject.parameters.items()}}
    g, u = wide(trial.g), wide(trial.u)
    # A step moves x by a share of each slice's spread, parameters by about 1
    spread = subject.spread(leaves["x"])

    def along(name: str, spread: Array | float) -> Array:
        """A random direction v with the signs of the gradient, so that <gradient, v> does not cancel down to its rounding error."""
        return np.copysign(rng.standard_normal(composed[name].shape), composed[name]) * spread

    def weighted(values: dict[str, Any]) -> Any:
        return np.sum(g * subject.on_arrays(values))

    def loss(leaf: str, v: Array) -> Callable[[Any], Any]:
        return lambda t: weighted(leaves | {leaf: leaves[leaf] + t * v})

    def by_complex_step(f: Callable[[complex], Any]) -> float:
        """nan where the formula drops the imaginary part on its way, and it shows."""
        with warnings.catch_warnings(action="ignore", category=np.exceptions.ComplexWarning):
            try:
                return complex_step(f, h=TINY_STEP)
            except UnsupportedError:
                return math.nan

    def noise(weights: Array, bound: Array, name: str, leaf: str) -> float:
        """The rounding error in float64 of a sum weighted by ``weights``, and of the moved leaf in it.

        An infinite one says nothing and would drown the numbers: 0 stands for it.
        """
        unit = float(np.finfo(np.float64).eps) / 2  # bounds are in the input's dtype
        total = unit * (_along(np.abs(weights), bound) / trial.unit + _along(np.abs(composed[name]), np.abs(leaves[leaf])))
        return total if math.isfinite(total) else 0.0

    rows, holomorphic = [], True
    for leaf in leaves:
        name = f"d{leaf}"
        v = along(name, spread if leaf == "x" else 1.0)
        found, slack = _along(analytic[name], v), _along(bounds[name], np.abs(v))
        progress(f"{name} by Richardson-extrapolated differences")
        rounding = noise(g, np.minimum(bounds["y"], subject.reach(composed["y"])), name, leaf)
        numerical = richardson(loss(leaf, v), noise=rounding)
        origin = f"roundings of {name}, error bar {numerical.error:.0e}"
        rows.append(_row(f"{name} . v", "Richardson", found, numerical.value, slack + numerical.error, origin))
        progress(f"{name} by the complex step")
        exact, right = by_complex_step(loss(leaf, v)), _along(composed[name], v)
        # Where autograd and the differences agree, and only the complex step does not, the formula drops the imaginary part unseen
        if not subject.holomorphic and not abs(exact - right) <= slack and abs(numerical.value - right) <= slack + numerical.error:
            trial.notes.append(f"The complex step of {name} is left out: the formula drops the imaginary part (np.abs, np.var, a cast).")
            holomorphic = holomorphic and leaf != "x"
        else:
            rows.append(_row(f"{name} . v", "complex step", found, exact, slack, f"roundings of {name}"))

    if "H u" not in analytic or not holomorphic:
        return rows
    progress("H u by Richardson on the complex step")
    v = along("H u", spread)
    second = richardson(
        lambda t: by_complex_step(lambda z: weighted(leaves | {"x": leaves["x"] + t * v + z * u})),
        noise=noise(u, bounds["dx"], "H u", "x"),
    )
    found, slack = _along(analytic["H u"], v), _along(bounds["H u"], np.abs(v))
    origin = f"roundings of H u, error bar {second.error:.0e}"
    rows.append(_row("H u . v", "Richardson + complex", found, second.value, slack + second.error, origin))
    return rows


def _along(gradient: Array, v: Array) -> float:
    return float(np.sum(gradient * v, dtype=np.float64))
