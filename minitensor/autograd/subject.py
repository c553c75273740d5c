"""The function under check, as a map of one float64 vector to another: its values, its walk backwards, its complex twin."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from minitensor import arrays
from minitensor.arrays import Array
from minitensor.autograd.differences import EPS
from minitensor.autograd.walk import grad
from minitensor.errors import DTypeError, GraphError, UnsupportedError, describe
from minitensor.grad_mode import enable_grad, no_grad
from minitensor.tensor import Tensor, wrap

SHAKE = 2.0**-6  # far above the rounding even of float16, and small enough that the factors of a long chain stay near 1
TINY_STEP = 1e-100  # of the complex step: its square is nothing beside 1, and times a small derivative it is still a normal number


class Call(NamedTuple):
    """One call of the function: the leaves it was given, its floating outputs, and their values as one vector."""

    leaves: list[Tensor]
    outputs: list[Tensor]
    y: Array


class Subject:
    """``fn`` and its inputs: x is all checked inputs as one float64 vector, y all floating outputs as another.

    Every call gets copies, so that nothing of the user's is changed. Raises `GraphError` when no input requires a gradient,
    `DTypeError` for complex inputs, `TypeError` when ``fn`` gives something other than Tensors.
    """

    def __init__(self, fn: Callable[..., Any], inputs: Any, names: Sequence[str] = ()) -> None:
        self.fn = fn
        self.inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        self.checked = [i for i, value in enumerate(self.inputs) if isinstance(value, Tensor) and value.requires_grad]
        for i, value in enumerate(self.inputs):
            if getattr(value, "dtype", np.dtype(bool)).kind == "c":
                raise DTypeError(f"gradcheck: input {i} is {describe(value)}; complex numbers cannot carry a gradient: give both parts")
        if not self.checked:
            given = ", ".join(map(describe, self.inputs)) or "nothing"
            raise GraphError(
                f"gradcheck: no input requires a gradient, so there is nothing to check (got {given}); "
                "give floating Tensors made with requires_grad=True, each as an input of its own and not inside a list or dict"
            )
        self.names = list(names) or [f"input {i}" for i in self.checked]
        self.shapes = [self.inputs[i].shape for i in self.checked]
        self.places = list(pairwise(accumulate(map(math.prod, self.shapes), initial=0)))  # where each input stands in x
        self.x = _flat(self.inputs[i] for i in self.checked)
        base = self.call(self.x)
        self.y = base.y
        self.output_shapes = [output.shape for output in base.outputs]
        self.output_devices = [output.device for output in base.outputs]
        self.cut = [k for k, output in enumerate(base.outputs) if not output.requires_grad]
        self.nodes = nodes_between(base)
        self.narrow = {node.name: node.dtype for node in self.nodes if np.finfo(node.dtype).eps > EPS}
        self.unit = max([EPS, *(float(np.finfo(dtype).eps) for dtype in self.narrow.values())])

    def call(self, x: Array) -> Call:
        """``fn`` on fresh float64 leaves that hold ``x``; all other floating Tensors are given as float64 constants."""
        args = [value if i in self.checked else _upcast(value) for i, value in enumerate(self.inputs)]
        for i, (start, end), shape in zip(self.checked, self.places, self.shapes, strict=True):
            args[i] = Tensor(x[start:end].reshape(shape), np.float64, self.inputs[i].device, requires_grad=True)
        return self.called(args)

    def called(self, args: Sequence[Any]) -> Call:
        """``fn`` on these arguments, in which it must write nothing."""
        before = [value._array if isinstance(value, Tensor) else _own(value) for value in args]
        with enable_grad():
            outputs = self.fn(*args)
        for i, (old, value) in enumerate(zip(before, args, strict=True)):
            if old is not value._array if isinstance(value, Tensor) else not _same(old, value):
                raise Refusal(f"fn changed its input {i}: a function that writes into its inputs has no derivative to compare.")
        floating = [output for output in _tensors(outputs) if output.dtype.kind == "f"]
        return Call([args[i] for i in self.checked], floating, _flat(floating))

    def values(self, x: Array) -> Array:
        """y at ``x``; nan everywhere where ``fn`` cannot be called or gives another shape, because a step has left its domain."""
        try:
            with np.errstate(all="ignore"):
                y = self.call(x).y
        except (ValueError, ArithmeticError):  # numpy.linalg.LinAlgError is a ValueError
            return np.full_like(self.y, np.nan)
        return y if y.shape == self.y.shape else np.full_like(self.y, np.nan)

    def pullback(self, call: Call, cotangent: Array) -> Array:
        """The gradient of <cotangent, y> with respect to x, by the walk under check; an output without a graph adds nothing."""
        ends = list(accumulate((output.size for output in call.outputs), initial=0))
        walked = [
            (output, Tensor(cotangent[start:end].reshape(output.shape), output.dtype, output.device))
            for output, (start, end) in zip(call.outputs, pairwise(ends), strict=True)
            if output.requires_grad
        ]
        if not walked:
            return np.zeros_like(self.x)
        outputs, cotangents = zip(*walked, strict=True)
        with np.errstate(all="ignore"):
            found = grad(outputs, call.leaves, cotangents, retain_graph=True, allow_unused=True)
        return _flat(wrap(np.zeros(leaf.shape)) if g is None else g for g, leaf in zip(found, call.leaves, strict=True))

    def shaken(self, call: Call, cotangent: Array, rng: np.random.Generator) -> Array:
        """`pullback` with every cotangent on the way off by a random factor, 1 + SHAKE times a normal number."""

        def shake(g: Tensor) -> Tensor:
            return g * Tensor(1 + SHAKE * rng.standard_normal(g.shape), g.dtype, g.device)

        with hooked(nodes_between(call), shake):
            return self.pullback(call, cotangent)

    def noise(self, moves: Iterable[Array]) -> Array:
        """The rounding error of y: two roundings, or what y does along small moves t beyond a + b t + c |t| + d t**2, whichever is more.

        A smooth function leaves t**4 there, and a kink at x nothing; rounding leaves twice its standard deviation.
        """
        noise = 2 * self.unit * np.abs(self.y)
        for move in moves:
            with np.errstate(all="ignore"):
                one, two, four = (self.values(self.x + k * move) + self.values(self.x - k * move) - 2 * self.y for k in (1, 2, 4))
            noise = np.fmax(noise, np.abs(8 * one - 6 * two + four) / 8)
        return noise

    def complex_slopes(self, x: Array, direction: Array, step: float = TINY_STEP) -> Array:
        """dy along ``direction`` at ``x``, as Im y(x + i step direction) / step; `Refusal` when ``fn`` takes no complex numbers.

        ``fn`` is called on plain complex arrays, and on complex Tensors without a gradient where it needs Tensors.
        """
        moved = x + 1j * step * direction
        args = [value._array if isinstance(value, Tensor) else _own(value) for value in map(_upcast, self.inputs)]
        for i, (start, end), shape in zip(self.checked, self.places, self.shapes, strict=True):
            args[i] = arrays.to_device(moved[start:end].reshape(shape), self.inputs[i].device)
        with no_grad(), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            try:
                try:
                    outputs = self.fn(*args)
                except (AttributeError, TypeError):
                    outputs = self.fn(*(wrap(value) if hasattr(value, "__array_function__") else value for value in args))
            except Exception as error:  # whatever fn does not do with complex numbers
                raise Refusal(f"fn does not take complex numbers ({type(error).__name__}: {error})") from error
        listed = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        parts = [np.asarray(arrays.to_device(getattr(part, "_array", part), "cpu")).ravel() for part in listed]
        y = np.concatenate([part for part in parts if part.dtype.kind in "fc"] or [np.empty(0)])
        if y.shape != self.y.shape:
            raise Refusal(f"on complex numbers fn gives {y.size} numbers, on real ones {self.y.size}")
        return np.imag(y) / step


@contextmanager
def hooked(nodes: Iterable[Any], hook: Callable[[Tensor], Any]) -> Iterator[None]:
    """``hook`` on the cotangents of ``nodes``, after the hooks of the user."""
    before = [(node, node.hooks) for node in nodes]
    for node, hooks in before:
        node.hooks = {**(hooks or {}), "gradcheck": hook}
    try:
        yield
    finally:
        for node, hooks in before:
            node.hooks = hooks


def nodes_between(call: Call) -> list[Any]:
    """The recorded operations from the outputs down to the leaves, each once; those that lead to no leaf are left out."""
    users: dict[Any, list[Any]] = {}
    stack = [output._node for output in call.outputs if output.requires_grad]
    seen = set(stack)
    while stack:
        node = stack.pop()
        for edge in node.edges:
            if edge is not None:
                users.setdefault(edge, []).append(node)
                if edge not in seen:
                    seen.add(edge)
                    stack.append(edge)
    leading: dict[Any, None] = {}  # a set that remembers the order
    stack = [leaf._node for leaf in call.leaves]
    while stack:
        for user in users.get(stack.pop(), ()):
            if user not in leading:
                leading[user] = None
                stack.append(user)
    return [node for node in leading if not isinstance(node.dtype, tuple)]  # of several outputs, every part has a node of its own


class Refusal(Exception):
    """Why a check would prove nothing."""


def _upcast(value: Any) -> Any:
    """A constant for ``fn``: floating Tensors without their graph and in float64, everything else as it is."""
    if not isinstance(value, Tensor):
        return _own(value)
    return Tensor(value, np.float64) if value.dtype.kind == "f" else value.detach()


def _own(value: Any) -> Any:
    return value.copy() if hasattr(value, "__array_function__") else value


def _same(one: Any, other: Any) -> bool:
    return one is other if not hasattr(one, "__array_function__") else bool(((one == other) | (one != one)).all())


def _flat(tensors: Iterable[Any]) -> Array:
    """All elements as one float64 vector on the CPU."""
    parts = [np.asarray(arrays.to_device(tensor._array, "cpu"), np.float64).ravel() for tensor in tensors]
    return np.concatenate([np.empty(0), *parts])


def _tensors(outputs: Any) -> Sequence[Tensor]:
    listed = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    for output in listed:
        if not isinstance(output, Tensor):
            raise TypeError(f"gradcheck: fn must give a Tensor or a tuple of Tensors, got {describe(output)}")
        if output.dtype.kind == "c":
            raise UnsupportedError(f"gradcheck: fn gives {describe(output)}; complex outputs have no gradient: give np.real and np.imag")
    return listed
