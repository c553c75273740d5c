"""The comparison: a layer's analytic backward against autograd, and both against numbers that share nothing with either."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minitensor import Tensor, enable_grad, grad, no_grad
from minitensor.autograd import Rounded, complex_step, richardson
from minitensor.errors import DTypeError, ShapeError, UnsupportedError, describe
from minitensor.tables import Table

from .derivation.faults import FAULTS
from .module import Module
from .norm import formulas
from .parameter import Parameter

Array = Any
TINY_STEP = 1e-100  # of the complex step: its square is nothing beside 1, and times a small derivative it is still a normal number


@dataclass(frozen=True)
class Row:
    """One quantity, two opinions.

    ``difference`` and ``relative`` are the largest absolute difference and its ratio to the largest value, ``tolerance`` the bound at
    that element (or at the worst one, when an element leaves its bound), ``used`` the largest share that an element uses of its bound.
    The ``verdict`` is ``"ok"``, ``"WRONG"`` when an element uses more than all or is nan, ``"blind"`` when no element has a bound.
    """

    quantity: str
    opinion: str
    difference: float
    relative: float
    tolerance: float
    used: float
    origin: str

    @property
    def verdict(self) -> str:
        """``"ok"``, ``"WRONG"`` or ``"blind"``."""
        if not self.used <= 1:  # nan is not
            return "WRONG"
        return "blind" if math.isinf(self.tolerance) else "ok"

    @property
    def ok(self) -> bool:
        """Whether the row is not wrong."""
        return self.verdict != "WRONG"


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare_backward` found; prints as a table and shows itself in a notebook.

    True when no row is wrong and the check could have failed: a comparison on which no known mistake would have shown proves nothing.
    """

    layer: str
    eps: float
    shape: tuple[int, ...]
    dtype: str
    unit: float
    m: int
    rows: tuple[Row, ...]
    unseen: tuple[str, ...] = ()
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether no row is wrong, and some mistake could have shown."""
        return all(row.ok for row in self.rows) and len(self.unseen) < len(FAULTS)

    def __bool__(self) -> bool:
        return self.ok

    def table(self) -> Table:
        """The rows as strings."""
        return Table(
            f"{self.layer}, eps = {self.eps:g}, on {self.dtype} {self.shape}: m = {self.m} per slice, unit roundoff u = {self.unit:.1e}",
            ("quantity", "analytic against", "max |diff|", "relative", "tolerance", "used", "verdict", "the tolerance comes from"),
            [
                (
                    r.quantity,
                    r.opinion,
                    f"{r.difference:.1e}",
                    f"{r.relative:.1e}",
                    f"{r.tolerance:.1e}",
                    f"{r.used:.2g}",
                    r.verdict,
                    r.origin,
                )
                for r in self.rows
            ],
            [row.verdict for row in self.rows],
        )

    def unseen_sentence(self) -> str:
        """Which known mistakes this input could not have shown, and why the second derivative was not compared, if it was not."""
        known = len(FAULTS)
        sentence = f"{len(self.unseen)} of the {known} known mistakes could NOT have shown on this input: {', '.join(self.unseen)}."
        if not self.unseen:
            sentence = f"Each of the {known} known mistakes would have shown on this input."
        if len(self.unseen) == known:
            sentence = f"None of the {known} known mistakes could have shown on this input: the comparison proves nothing."
        return f"{sentence} {self.note}".strip()

    @property
    def wrong(self) -> tuple[str, ...]:
        """The quantities that differ, each once."""
        return tuple(dict.fromkeys(row.quantity for row in self.rows if not row.ok))

    def verdict(self) -> str:
        """AGREE, DIFFER with the quantities that do, or BLIND: in one sentence."""
        if self.wrong:
            return f"DIFFER: {', '.join(self.wrong)}."
        return "AGREE." if self.ok else "BLIND: nothing could have shown."

    def __str__(self) -> str:
        return f"{self.table()}\n{self.verdict()} {self.unseen_sentence()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{self.table().to_html()}<p><b>{self.verdict()}</b> {self.unseen_sentence()}</p>"

    def to_dict(self) -> dict[str, Any]:
        """The same, for JSON, which has no nan and no inf: they become None."""

        def known(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        rows = [{name: known(value) for name, value in asdict(row).items()} | {"verdict": row.verdict, "ok": row.ok} for row in self.rows]
        return {**asdict(self), "rows": rows, "ok": self.ok}


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
    """Run ``layer`` forward and backward two ways, and compare y, dx, dgamma, dbeta and H u.

    H u is the Hessian of <g, y> with respect to x times a random u: the second derivative.

    The analytic way is the layer's own ``backward`` (the closed form, or a function given to the layer); the other is
    ``backward="autograd"``. They share no rule at first order. A third opinion on the analytic gradients is numerical: directional
    derivatives by Richardson-extrapolated central differences and by the complex step, in float64, from the forward alone.

    ``x`` is an array or Tensor of the layer's input shape; the layer's parameters are used as they are and nothing of the layer is
    changed. ``cotangent`` has the output's shape; by default it is drawn from ``seed``, as all directions are. Statistics are always
    taken from the input. A backward of your own that turns its Tensors into arrays (``np.asarray``) is compared without H u. Raises
    what the layer raises for a bad input, `ShapeError` for an empty one, `DTypeError` for a dtype beyond float16, float32 and float64.

    The tolerance of every element is computed, not chosen: both ways run once more on numbers that carry a bound of their rounding
    error (`minitensor.autograd.Rounded`), and the two bounds are added. Numerical opinions add their own error estimate.

    >>> from minitensor import nn
    >>> rng = np.random.default_rng(1)
    >>> bool(compare_backward(nn.InstanceNorm1d(2, eps=0.1, affine=True), rng.normal(size=(2, 2, 7)) ))
    True
    """
    if not hasattr(layer, "formula"):
        raise TypeError(f"compare_backward: a layer with a formula is needed, such as nn.InstanceNorm2d, got {type(layer).__name__}")
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.dtype.name not in ("float16", "float32", "float64"):
        raise DTypeError(f"compare_backward: float16, float32 or float64 is needed, got {describe(x)}; use x.astype(np.float64)")
    if x.size == 0:
        raise ShapeError(f"compare_backward: an input with elements is needed, got shape {x.shape}")
    with no_grad():
        copy.deepcopy(layer)(x)  # raises for a bad input; a copy, because the layer may track statistics
    # Not default_rng(seed) alone: x is often drawn from that, and a cotangent proportional to x - mu makes dx vanish
    rng = np.random.default_rng([seed, *b"cotangent"])
    g = random_cotangent(x.detach().cpu().numpy(), layer.axes(x.ndim), rng) if cotangent is None else np.asarray(cotangent)
    trial = _Experiment(layer, x.detach(), Tensor(g, x.dtype, x.device), Tensor(rng.standard_normal(x.shape), x.dtype, x.device))

    progress("analytic backward")
    analytic = trial.run(getattr(layer, "backward", "analytic"))
    progress("autograd")
    composed = trial.run("autograd")
    progress("rounding bounds of both ways")
    bounds = {name: bound + trial.bounds["autograd"][name] for name, bound in trial.bounds["analytic"].items()}
    unit = float(np.finfo(x.dtype).eps) / 2
    rows = [
        _row(name, "autograd", one, composed[name], bounds[name], _amplification(name, composed[name], bounds[name], unit))
        for name, one in analytic.items()
    ]
    rows += _numerical_rows(trial, rng, analytic, composed, bounds, unit, progress)
    unseen = []
    for fault in FAULTS.values():
        progress(f"would this input show {fault.name}?")
        if not trial.shows(fault.backward, composed, bounds):
            unseen.append(fault.name)
    note = f"H u was not compared, because the backward cannot be differentiated: {trial.refused}" if trial.refused else ""
    wrong = {row.quantity for row in rows if not row.ok}
    if wrong and wrong <= {"H u", "H u . v"}:
        note = (
            "The first derivatives are right and H u is not: the backward keeps something as a plain number on its way "
            "(.detach(), float(), writing into an array), which its own derivative then lacks."
        )
    return Comparison(type(layer).__name__, layer.eps, x.shape, str(x.dtype), unit, trial.m, tuple(rows), tuple(unseen), note)


def random_cotangent(x: Array, axes: tuple[int, ...], rng: np.random.Generator) -> Array:
    """g = noise + a + b x_hat, a and b between 0.7 and 2 in size in every slice; float64 numbers for an input like x.

    The paths through the statistics carry mean(g) and mean(g x_hat). Plain noise leaves both near 0 on large slices, and a mistake in
    those paths would hardly show. Where a sum over all of x would leave its dtype's range (float16), g is scaled by a power of two.
    """
    statistics = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    a, b = rng.uniform(0.7, 2, (2, *statistics)) * rng.choice([-1, 1], (2, *statistics))
    scale = min(1.0, 2.0 ** math.floor(math.log2(float(np.finfo(x.dtype).max) / (8 * x.size))))
    return scale * (rng.standard_normal(x.shape) + a + b * formulas.standardize(x.astype(np.float64), axes, np.finfo(x.dtype).tiny))


class _Experiment:
    """One layer, one input, one cotangent g and one direction u: everything that is computed from them."""

    def __init__(self, layer: Module, x: Tensor, g: Tensor, u: Tensor) -> None:
        self.layer, self.x, self.g, self.u = layer, x, g, u
        self.refused: UnsupportedError | None = None  # why a backward of somebody's own could not be differentiated
        self.m = math.prod(x.shape[i] for i in layer.axes(x.ndim))

    def run(self, backward: Any) -> dict[str, Array]:
        """y, dx, dgamma, dbeta and H u, with this backward; the first derivatives by the raw walk, H u through the traced one."""
        return {name: value.cpu().numpy() for name, value in self._run(backward, self.x, self.g, self.u, lambda tensor: tensor).items()}

    @cached_property
    def bounds(self) -> dict[str, dict[str, Array]]:
        """The rounding bounds of the closed form and of the composed way: the same runs, on numbers that carry their bound."""

        def lift(tensor: Tensor) -> Tensor:
            return Tensor(Rounded(tensor.detach().cpu().numpy()), device="cpu")

        def run(backward: str) -> dict[str, Array]:
            found = self._run(backward, lift(self.x), lift(self.g), lift(self.u), lift)
            bounds = {name: value._array.bound for name, value in found.items()}
            return {name: np.where(np.isnan(bound), np.inf, bound) for name, bound in bounds.items()}  # 0 times inf: nothing is known

        return {backward: run(backward) for backward in ("analytic", "autograd")}

    def shows(self, backward: Any, right: dict[str, Array], bounds: dict[str, Array]) -> bool:
        """Whether some element of some row would leave its tolerance with this backward."""
        with np.errstate(all="ignore"):  # a wrong backward may well divide by 0
            first = self._first(self._prepared(backward, lambda tensor: tensor), self.x, self.g)[2]
            if any(not _within(value.cpu().numpy(), right[name], bounds[name]) for name, value in first.items()):
                return True
            return not _within(self.run(backward)["H u"], right["H u"], bounds["H u"])

    def _run(self, backward: Any, x: Tensor, g: Tensor, u: Tensor, lift: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        y, x, first = self._first(self._prepared(backward, lift), x, g)
        try:
            (dx,) = grad(y, x, g, create_graph=True)
        except UnsupportedError as error:  # somebody's own backward that leaves the world of Tensors, as np.asarray(x) does
            self.refused = error
            return {"y": y.detach(), **first}
        assert dx is not None, "grad raises when y does not depend on x"
        # A wrong backward of somebody's own may return a dx without x in it: its H u is 0
        (hessian_u,) = grad(dx, x, u, allow_unused=True) if dx.requires_grad else (None,)
        return {"y": y.detach(), **first, "H u": dx.detach() * 0 if hessian_u is None else hessian_u}

    @staticmethod
    def _first(layer: Module, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x = x.detach()
        x.requires_grad = True
        y = layer(x)
        leaves = {"dx": x, "dgamma": layer.weight, "dbeta": layer.bias}
        present = {name: leaf for name, leaf in leaves.items() if leaf is not None}
        return y, x, dict(zip(present, grad(y, list(present.values()), g, retain_graph=True), strict=True))  # type: ignore[arg-type]

    def _prepared(self, backward: Any, lift: Callable[[Tensor], Tensor]) -> Module:
        """A copy of the layer with this backward, its parameters lifted, its statistics always the input's."""
        layer = copy.deepcopy(self.layer).train()
        layer.backward = backward
        layer.running_mean = layer.running_var = None
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                lifted = lift(parameter.detach())
                layer._parameters[name] = Parameter(lifted, device=lifted.device)
        return layer


def _within(one: Array, other: Array, tolerance: Array) -> bool:
    return bool(np.all(np.abs(one.astype(np.float64) - other) <= tolerance))


def _row(quantity: str, opinion: str, one: Array, other: Array, tolerance: Array, origin: str) -> Row:
    one, other, tolerance = (np.asarray(value, np.float64) for value in (one, other, tolerance))
    difference = np.where(one == other, 0.0, np.abs(one - other))  # two infinities of one sign agree
    unbounded = np.isinf(tolerance) & ~np.isnan(difference)
    used = np.where(unbounded | (difference == 0), 0.0, difference / np.where(tolerance > 0, tolerance, np.finfo(float).tiny))
    share = float(np.max(used))
    where = np.argmax(np.where(unbounded, -1.0, difference if share <= 1 else used))  # a nan comes first
    most, largest = float(np.max(difference)), float(np.max(np.abs(other)))
    return Row(quantity, opinion, most, most / largest if largest else most, float(tolerance.flat[where]), share, origin)


def _amplification(name: str, value: Array, bound: Array, unit: float) -> str:
    largest = float(np.max(np.abs(value.astype(np.float64))))
    amplified = f"{float(np.max(bound)) / (unit * largest):.2g} u max|{name}|" if largest else f"{name} is 0"
    return f"roundings of both ways: {amplified}"


def _numerical_rows(
    trial: _Experiment,
    rng: np.random.Generator,
    analytic: dict[str, Array],
    composed: dict[str, Array],
    bounds: dict[str, Array],
    unit: float,
    progress: Callable[[str], None],
) -> list[Row]:
    """Directional derivatives of <g, y> along random directions, from the forward formula alone, in float64."""
    layer = trial.layer

    def wide(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().cpu().numpy().astype(np.float64)

    leaves = {"x": wide(trial.x), "gamma": wide(layer.weight), "beta": wide(layer.bias)}
    g, u = wide(trial.g), wide(trial.u)
    # A step moves x by a share of each slice's spread, gamma and beta by about 1
    spread = np.sqrt(np.var(leaves["x"], axis=layer.axes(trial.x.ndim), keepdims=True) + layer.eps)

    def along(name: str, spread: Array | float) -> Array:
        """A random direction v with the signs of the gradient, so that <gradient, v> does not cancel down to its rounding error."""
        return np.copysign(rng.standard_normal(composed[name].shape), composed[name]) * spread

    def formula(values: dict[str, Any]) -> Array:
        kind = np.result_type(*(value for value in values.values() if value is not None))
        return layer.formula(*(None if value is None else value.astype(kind) for value in values.values()))

    def loss(leaf: str, step: Any, v: Array) -> Any:
        return np.sum(g * formula(leaves | {leaf: leaves[leaf] + step * v}))

    def noise(weights: Array, bound: Array) -> float:
        """The rounding error of a weighted sum in float64. An infinite one says nothing and would drown the numbers: 0 stands for it."""
        narrow = float(np.finfo(np.float64).eps) / 2 / unit  # from a bound in the input's dtype to one in float64
        total = narrow * _along(np.abs(weights), bound)
        return total if math.isfinite(total) else 0.0

    largest = 1.0 if leaves["gamma"] is None else float(np.max(np.abs(leaves["gamma"])))
    reach = 2 * math.sqrt(trial.m) * largest  # |x_hat| <= sqrt(m), whatever the bound of its roundings says
    rows = []
    for leaf, value in leaves.items():
        if value is None:
            continue
        name = f"d{leaf}"
        v = along(name, spread if leaf == "x" else 1.0)
        found, slack = _along(analytic[name], v), _along(bounds[name], np.abs(v))
        progress(f"{name} by Richardson-extrapolated differences")
        numerical = richardson(lambda t: float(loss(leaf, t, v)), noise=noise(g, np.minimum(bounds["y"], reach)))  # noqa: B023 - called at once
        origin = f"roundings of {name}, error bar {numerical.error:.0e}"
        rows.append(_row(f"{name} . v", "Richardson", found, numerical.value, slack + numerical.error, origin))
        progress(f"{name} by the complex step")
        exact = complex_step(lambda z: loss(leaf, z, v), h=TINY_STEP)  # noqa: B023 - called at once
        rows.append(_row(f"{name} . v", "complex step", found, exact, slack, f"roundings of {name}"))

    if "H u" not in analytic:
        return rows
    progress("H u by Richardson on the complex step")
    v = along("H u", spread)
    second = richardson(
        lambda t: complex_step(lambda z: np.sum(g * formula(leaves | {"x": leaves["x"] + t * v + z * u})), h=TINY_STEP),
        noise=noise(u, bounds["dx"]),
    )
    found, slack = _along(analytic["H u"], v), _along(bounds["H u"], np.abs(v))
    origin = f"roundings of H u, error bar {second.error:.0e}"
    rows.append(_row("H u . v", "Richardson + complex", found, second.value, slack + second.error, origin))
    return rows


def _along(gradient: Array, v: Array) -> float:
    return float(np.sum(gradient * v, dtype=np.float64))
