"""Primitives: a NumPy function with one derivative expression per input; and Node, what a graph remembers of one call.

A rule gets ``(g, y, *inputs, **params)``: the cotangent of the output, the output, the inputs, and returns the cotangent of its input in
any shape that broadcasts to or from it: the walk sums or broadcasts it to the input's shape and casts it to the input's dtype.

    primitive(np.exp,      lambda g, y, _x: g * y)
    primitive(np.multiply, lambda g, _y, _a, b: g * b,   lambda g, _y, a, _b: g * a)

An argument whose name begins with an underscore is not kept for the backward pass: the rule may ask for its ``shape``, ``ndim``,
``size`` and ``dtype``, not for its values. Rules use only what arrays and Tensors share, so that one expression serves NumPy arrays
(first order), CuPy arrays (on a GPU) and Tensors (recorded again: any order).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from minitensor.arrays import Array, ShapeDtype, as_array, refuse_masked
from minitensor.errors import DTypeError, UnsupportedError, describe, operation_failed
from minitensor.grad_mode import mode
from minitensor.tensor import DISPATCH, Tensor, wrap

Rule = Callable[..., Any]
P = TypeVar("P", bound=Callable[..., Any])


class Node(ShapeDtype):
    """One recorded call: the primitive, its arguments, and the edges to what made them.

    Nodes point to inputs only and never to Tensors, so that reference counting alone frees a graph, and new values for a Tensor
    leave the graph as it was; of an array that the user gave, and may write into later, the node keeps a copy. Where no rule reads an
    input's values, its edge stands in its place and tells shape and dtype.
    """

    __slots__ = ("edges", "inputs", "output", "params", "primitive")

    def __init__(
        self, primitive: Primitive, given: Sequence[Any], values: list[Any], params: dict[str, Any], edges: list[Any], output: Array
    ) -> None:
        self.shape, self.dtype = output.shape, output.dtype
        self.primitive, self.params, self.edges = primitive, params, edges
        kept = primitive.kept(edges)
        self.output = output if 0 in kept else None
        self.inputs: list[Any] | None = [
            (value.copy() if value is user and hasattr(value, "__array_function__") else value)
            if i in kept or not hasattr(value, "dtype")
            else edge or ShapeDtype(value.shape, value.dtype)
            for i, (user, value, edge) in enumerate(zip(given, values, edges, strict=True), start=1)
        ]

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.primitive.name

    def vjp(self, g: Any, asked: Sequence[Any], traced: bool) -> Sequence[Any]:
        """The cotangents of the inputs whose edges are ``asked`` for (None stands for the others), on raw arrays or recorded on Tensors."""
        inputs, output = self.inputs, self if self.output is None else self.output
        assert inputs is not None, "the walk refuses released graphs"
        if traced:
            inputs = [
                wrap(value, edge) if hasattr(value, "__array_function__") else value for value, edge in zip(inputs, self.edges, strict=True)
            ]
            output = output if output is self else wrap(output, self)
        cotangents = self.primitive.vjp(g, output, inputs, self.params, asked, traced)
        if traced:  # a rule may give a constant as a plain array
            return [c if c is None or isinstance(c, Tensor) else wrap(as_array(c)) for c in cotangents]
        return [c._data if isinstance(c, Tensor) else c for c in cotangents]

    def release(self) -> None:
        """Let go of the saved arrays; a later walk finds the graph released."""
        self.inputs = self.output = None


_PLAIN = (np.ndarray, float, int)  # the usual operands, which need no closer look


def _own(value: Any) -> Any:
    """A parameter of our own: the user may change a list or an array of indices before the backward pass."""
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(map(_own, value))
    if isinstance(value, Tensor):
        value = value._data
    return value.copy() if hasattr(value, "__array_function__") else value


class Primitive:
    """A function of arrays with one derivative rule per input, callable on arrays, Tensors and numbers."""

    def __init__(self, function: Callable[..., Any], *rules: Rule | None, name: str | None = None) -> None:
        self.function, self.rules = function, rules
        self.name = name or function.__name__.lstrip("_")
        self.__doc__ = function.__doc__
        self.arity = len(rules)
        signatures = [list(inspect.signature(rule).parameters) if rule else [] for rule in rules]
        # Per rule, which of (y, *inputs) it reads: 0 is the output, 1 the first input
        self._reads = [{i for i, name in enumerate(names[1 : 2 + self.arity]) if not name.startswith("_")} for names in signatures]
        self.params = tuple(max(signatures, key=len)[2 + self.arity :])
        try:
            self._positional = tuple(inspect.signature(function).parameters)[self.arity :]
        except ValueError:  # some of NumPy's C functions tell no signature
            self._positional = self.params

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *args: Any, **params: Any) -> Any:
        if params or len(args) != self.arity:
            return self.record(*self.bind(args, params))
        return self.record(args, params)

    def bind(self, args: Sequence[Any], params: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """Positional parameters by name; a keyword without a rule is refused here, when it is called."""
        known = ", ".join(f"{name}=" for name in self.params) or "no keywords"
        named = dict(zip(self._positional, args[self.arity :], strict=False))
        if len(args) - self.arity > len(self._positional) or named.keys() & params.keys():
            raise UnsupportedError(f"{self.name}: one argument too many, or given twice (it takes {self.arity} array(s), then {known})")
        params = named | params
        for key in params.keys() - set(self.params):
            if key == "out" and params[key] is None:
                del params[key]  # NumPy's own spelling of "no out="
                continue
            hint = {"dim": "; the axis is named axis=", "keepdim": "; NumPy writes keepdims="}.get(key, "")
            raise UnsupportedError(f"{self.name}: the keyword {key}= has no derivative rule (it takes {known}){hint}")
        if len(args) < self.arity:
            raise UnsupportedError(f"{self.name} takes {self.arity} array(s), got {len(args)}")
        return args[: self.arity], {name: _own(value) for name, value in params.items()}

    def forward(self, arrays: list[Any], params: dict[str, Any]) -> Array:
        """The function on raw arrays."""
        return self.function(*arrays, **params)

    def record(self, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
        """Call the function and, where a gradient is required, remember the call."""
        values, edges, traced, recording = [], [], False, False
        for value in inputs:
            edge = None
            if isinstance(value, Tensor):
                traced, edge, value = True, value._node, value._data
                recording = recording or edge is not None
            elif isinstance(value, (list, tuple)):
                value = as_array(value)
            elif type(value) not in _PLAIN:
                refuse_masked(value)
            values.append(value)
            edges.append(edge)
        try:
            output = self.forward(values, params)
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed(self.name, values, error) from error
        if not traced:
            return output
        output = as_array(output)
        if not (recording and mode.enabled) or output.dtype.kind in "biu":
            return wrap(output)
        if output.dtype.kind == "c":
            raise DTypeError(f"{self.name}: complex numbers cannot carry a gradient; the operands are {', '.join(map(describe, values))}")
        return wrap(output, Node(self, inputs, values, params, edges, output))

    def kept(self, edges: Sequence[Any]) -> set[int]:
        """What the rules that will be needed read: 0 for the output, i for the i-th input."""
        return set().union(*(reads for reads, edge in zip(self._reads, edges, strict=True) if edge is not None))

    def vjp(self, g: Any, y: Any, inputs: list[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        """One cotangent per input, None where nobody asks."""
        return [rule(g, y, *inputs, **params) if rule and edge is not None else None for rule, edge in zip(self.rules, edges, strict=True)]


class ListPrimitive(Primitive):
    """A function whose first argument is a list of arrays: one rule gives the cotangents of all of them."""

    def __init__(self, function: Callable[..., Any], rule: Rule) -> None:
        super().__init__(function, rule)
        names = list(inspect.signature(rule).parameters)
        self.params = tuple(names[3:])
        self._reads = [{i for i, name in enumerate(names[1:3]) if not name.startswith("_")}]

    def __call__(self, *args: Any, **params: Any) -> Any:
        (arrays,), params = self.bind(args, params)
        return self.record([each if isinstance(each, Tensor) else as_array(each) for each in arrays], params)

    def forward(self, arrays: list[Any], params: dict[str, Any]) -> Array:
        return self.function(arrays, **params)

    def kept(self, edges: Sequence[Any]) -> set[int]:
        (reads,) = self._reads
        return (reads & {0}) | (set(range(1, 1 + len(edges))) if 1 in reads else set())

    def vjp(self, g: Any, y: Any, inputs: list[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        (rule,) = self.rules
        assert rule is not None
        return rule(g, y, inputs, **params)  # type: ignore[no-any-return]


class JointPrimitive(Primitive):
    """A function of a fixed number of arrays with one rule that gives all cotangents together, because they share their work."""

    def __init__(self, function: Callable[..., Any], rule: Rule, arity: int, name: str | None = None) -> None:
        super().__init__(function, *[rule] * arity, name=name)

    def vjp(self, g: Any, y: Any, inputs: list[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        rule = self.rules[0]
        assert rule is not None
        return rule(g, y, *inputs, **params)  # type: ignore[no-any-return]


def primitive(function: Callable[..., Any], *rules: Rule | None) -> Primitive:
    """Make ``function`` differentiable: one rule per input, None for an input without a gradient.

    >>> cube = primitive(lambda x: x**3, lambda g, _y, x: 3 * g * x**2)
    >>> x = Tensor([2.0], requires_grad=True)
    >>> cube(x).backward(); x.grad
    tensor([12.])
    """
    return serve(function, Primitive(function, *rules))


def serve(function: Callable[..., Any], made: P) -> P:
    """Enter ``made`` into the table as what serves ``function`` on Tensors."""
    DISPATCH[function] = made
    return made


def without_gradient(*functions: Callable[..., Any]) -> None:
    """Enter functions that pass Tensors through as plain values: comparisons, shapes, predicates."""
    for function in functions:
        serve(function, _plain(function))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **params: Any) -> Any:
        values = [value._data if isinstance(value, Tensor) else value for value in args]
        params = {name: value._data if isinstance(value, Tensor) else value for name, value in params.items()}
        try:
            result = function(*values, **params)
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed(function.__name__, values, error) from error
        return wrap(as_array(result)) if hasattr(result, "dtype") else result

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call
