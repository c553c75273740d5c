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
import operator
import sys
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import count, takewhile
from typing import Any, TypeVar

import numpy as np
from numpy import ndarray

from minitensor.arrays import Array, ShapeDtype, as_array, refuse_masked
from minitensor.errors import DTypeError, GraphError, UnsupportedError, describe, operation_failed
from minitensor.grad_mode import mode
from minitensor.tensor import DISPATCH, Tensor, table, wrap

Rule = Callable[..., Any]
P = TypeVar("P", bound=Callable[..., Any])
_clock = count().__next__  # one tick per node, so that a node is younger than its inputs


class Node(ShapeDtype):
    """One recorded call: the primitive, its arguments, and the edges to what made them.

    Nodes point to inputs only and never to Tensors, so that reference counting alone frees a graph, and new values for a Tensor
    leave the graph as it was. Where no rule reads an input's values, its edge stands in its place and tells shape and dtype.
    Two edges have slots of their own: few nodes have more, and a tuple per node is one more object for Python's collector to visit.
    """

    __slots__ = ("hooks", "inputs", "left", "output", "params", "primitive", "rest", "right", "time", "where")
    primitive: Any  # a Primitive, or what gives cotangents in its place
    params: dict[str, Any]
    left: Any  # edges, to a Node or a Leaf: of the first input, the second, and the rest, which is None where there is no second
    right: Any
    rest: tuple[Any, ...] | None
    inputs: Sequence[Any] | None  # None once the walk has released them; within, None where a rule needs no more than the edge
    output: Any
    hooks: dict[Any, Callable[[Tensor], Tensor | None]] | None
    time: int
    where: str  # the line of the user's program, set under detect_anomaly alone

    @property
    def edges(self) -> tuple[Any, ...]:
        """What made each input, None where that requires no gradient."""
        return (self.left,) if self.rest is None else (self.left, self.right, *self.rest)

    @property
    def name(self) -> str:
        """The primitive's name."""
        return str(self.primitive.name)

    def vjp_traced(self, g: Tensor, asked: Sequence[Any]) -> Sequence[Any]:
        """The cotangents of the inputs whose edges are ``asked`` for (None stands for the others), recorded on Tensors."""
        inputs = [
            edge if value is None else wrap(value, edge) if hasattr(value, "__array_function__") else value
            for value, edge in zip(self.inputs or (), self.edges, strict=True)
        ]
        output = self if self.output is None else wrap(self.output, self)
        cotangents = self.primitive.vjp(g, output, inputs, self.params, asked, True)
        # A rule may give a constant as a plain array
        return [c if c is None or isinstance(c, Tensor) else wrap(as_array(c)) for c in cotangents]


_new = Node.__new__


def node_of(
    primitive: Any,
    params: dict[str, Any],
    left: Any,
    right: Any,
    rest: tuple[Any, ...] | None,
    inputs: Sequence[Any],
    output: Any,
    value: Any,
    kind: type[Node] = Node,
) -> Node:
    """A new node for the result ``value``; a plain function, because Python takes twice as long to call a class.

    ``kind`` is a subclass that gives its cotangents otherwise: a Function, or one of several outputs.
    """
    node = _new(kind)
    node.primitive = primitive
    node.params = params
    node.left = left
    node.right = right
    node.rest = rest
    node.inputs = inputs
    node.output = output
    node.shape = value.shape
    node.dtype = value.dtype
    node.hooks = None
    node.time = _clock()
    return node


def as_slots(edges: Sequence[Any]) -> tuple[Any, Any, tuple[Any, ...] | None]:
    """Edges as a node keeps them: left, right, and the rest, which is None where there is only one."""
    return (edges[0], edges[1], tuple(edges[2:])) if len(edges) > 1 else (edges[0], None, None)


def calling_line() -> str:
    """The innermost line that is neither ours nor NumPy's, as ``file:line``."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("minitensor", "numpy"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


_NUMBERS = (float, int, bool)
_UNREAD, _UNREAD_PAIR = (None,), (None, None)  # what is kept of inputs that no rule reads
_NONE: dict[str, Any] = {}  # the parameters of a call without any


def _own(value: Any) -> Any:
    """A parameter of our own: the user may change a list or an array of indices before the backward pass."""
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(map(_own, value))
    if isinstance(value, dict):
        return {key: _own(each) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(*(operator.index(end) if hasattr(end, "dtype") else end for end in (value.start, value.stop, value.step)))
    if isinstance(value, Tensor):
        if value.requires_grad and mode.enabled:
            raise UnsupportedError("a parameter requires grad, but no rule gives its derivative; use .detach() if that is meant")
        value = value._array
    return value.copy() if hasattr(value, "__array_function__") else value


class Primitive:
    """A function of arrays with one derivative rule per input, callable on arrays, Tensors and numbers.

    ``latex`` tells the rules as formulas, one for each input that has one; those of elementwise functions are derived from the rules.
    """

    def __init__(self, function: Callable[..., Any], *rules: Rule | None, name: str | None = None, latex: str | Sequence[str] = ()) -> None:
        self.function, self.rules = function, rules
        self.name = name or function.__name__.lstrip("_")
        self.latex = (latex,) if isinstance(latex, str) else tuple(latex)
        self.__doc__ = function.__doc__
        self.arity = len(rules)
        if not rules:
            raise UnsupportedError(f"primitive({self.name}): one rule per input is needed, got none")
        signatures = [_arguments(rule, 2 + self.arity) if rule else [] for rule in rules]
        for names in signatures:
            if names and len(names) < 2 + self.arity:
                inputs = ", ".join(f"x{i}" for i in range(1, 1 + self.arity))
                raise UnsupportedError(
                    f"primitive({self.name}): one rule per input, so each takes (g, y, {inputs}); got ({', '.join(names)})"
                )
        # What each rule reads, as bits: 1 for the output, 2 for the first input, 4 for the second, ...
        self.reads: Sequence[int] = [_bits(names[1 : 2 + self.arity]) for names in signatures]
        self._name_no_input = all(name == "_" for names in signatures for name in names[2 : 2 + self.arity])  # lambda g, *_: ...
        self.params = tuple(max(signatures, key=len)[2 + self.arity :])

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *args: Any, **params: Any) -> Any:
        if params or len(args) != self.arity:
            args, params = self.bind(args, params)
            return self.record(*args, params=params)
        return self.record(*args)

    def bind(self, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional parameters by name; a keyword without a rule is refused here, when it is called."""
        if len(args) < self.arity and params:
            inputs = self._names[len(args) : self.arity]  # NumPy takes arrays by name too: np.sum(a=x)
            args += tuple(params.pop(name) for name in takewhile(params.__contains__, inputs))
        if len(args) > self.arity:
            named = dict(zip(self._names[self.arity :], args[self.arity :], strict=False))
            if len(args) - self.arity > len(named) or named.keys() & params.keys():
                raise UnsupportedError(
                    f"{self.name}: one argument too many, or given twice (it takes {self.arity} array(s), then {self._known()})"
                )
            params = named | params
        for key in params.keys() - set(self.params):
            if key in ("out", "dtype") and params[key] is None:
                del params[key]  # NumPy's own spelling of "none of this"
                continue
            hint = {"dim": "; the axis is named axis=", "keepdim": "; NumPy writes keepdims="}.get(key, "")
            raise UnsupportedError(f"{self.name}: the keyword {key}= has no derivative rule (it takes {self._known()}){hint}")
        if len(args) < self.arity:
            hint = "; np.where(mask.numpy()) gives indices" if self.name == "where" else ""
            raise UnsupportedError(f"{self.name} takes {self.arity} array(s), got {len(args)}{hint}")
        return args[: self.arity], {name: _own(value) for name, value in params.items()}

    def _known(self) -> str:
        return ", ".join(f"{name}=" for name in self.params) or "no keywords"

    @cached_property
    def _names(self) -> Sequence[str]:
        """The function's arguments in their order: first the inputs, then what may follow without its name."""
        try:
            return tuple(inspect.signature(self.function).parameters)
        except ValueError:  # some of NumPy's C functions tell no signature
            return (*("",) * self.arity, *self.params)

    def forward(self, arrays: Sequence[Any], params: dict[str, Any]) -> Array:
        """The function on raw arrays."""
        return self.function(*arrays, **params)

    def record(self, *inputs: Any, params: dict[str, Any] = _NONE) -> Any:
        """Call the function and, where a gradient is required, remember the call."""
        values = [value._array if isinstance(value, Tensor) else _checked(value) for value in inputs]
        try:
            output = self.forward(values, params)
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed(self.name, values, error) from error
        if not any(isinstance(value, Tensor) for value in inputs):
            return output
        edges = [value._node if isinstance(value, Tensor) else None for value in inputs]
        return self.remember(as_array(output), inputs, values, edges, params)

    def remember(self, output: Array, inputs: Sequence[Any], values: Sequence[Any], edges: Sequence[Any], params: dict[str, Any]) -> Tensor:
        """The output as a Tensor, with a node if a gradient is required."""
        if not (any(edges) and mode.enabled) or output.dtype.kind in "biu":
            return wrap(output)
        if output.dtype.kind == "c":
            raise DTypeError(f"{self.name}: complex numbers cannot carry a gradient; the operands are {', '.join(map(describe, values))}")
        reads = 0
        for i, edge in enumerate(edges):
            reads |= self.reads_of(i) if edge is not None else 0
        kept = [_keep(user, value, edge, reads & 2 << i) for i, (user, value, edge) in enumerate(zip(inputs, values, edges, strict=True))]
        node = node_of(self, params, *as_slots(edges), kept, output if reads & 1 else None, output)
        if mode.anomaly:
            node.where = calling_line()
        return wrap(output, node)

    def reads_of(self, i: int) -> int:
        """What the rule for input i reads."""
        return self.reads[i]

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        """One cotangent per input, None where nobody asks; the walk tells at least two edges, also for one input."""
        return [
            None if rule is None or edge is None else rule(g, y, *inputs, **params) for rule, edge in zip(self.rules, edges, strict=False)
        ]


class Unary(Primitive):
    """A `Primitive` of one input, with its loops unrolled: together with `Binary` it serves nearly every call, so its speed counts."""

    def record(self, x: Any, params: dict[str, Any] = _NONE) -> Any:  # type: ignore[override]
        if not isinstance(x, Tensor):
            return super().record(x, params=params)
        value, edge = x._array, x._node
        try:
            output = self.function(value, **params) if params else self.function(value)
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed(self.name, [value], error) from error
        if type(output) is not ndarray:
            output = as_array(output)
        if edge is None or output.dtype is not edge.dtype or not mode.usual:
            return self.remember(output, (x,), (value,), (edge,), params)
        reads = self.reads[0]
        kept = (value,) if reads & 2 else _UNREAD
        return wrap(output, node_of(self, params, edge, None, None, kept, output if reads & 1 else None, output))

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        (x,), (rule,) = inputs, self.rules
        if x is None:
            x = edges[0]
        return (rule(g, y, x, **params) if params else rule(g, y, x),)  # type: ignore[misc]


class Binary(Primitive):
    """A `Primitive` of two inputs with a rule each, with its loops unrolled."""

    def record(self, a: Any, b: Any, params: dict[str, Any] = _NONE) -> Any:  # type: ignore[override]
        if isinstance(a, Tensor):
            x, left = a._array, a._node
        elif type(a) in _NUMBERS:
            x, left = a, None
        else:
            return super().record(a, b, params=params)
        if isinstance(b, Tensor):
            y, right = b._array, b._node
        elif type(b) in _NUMBERS:
            y, right = b, None
        else:
            return super().record(a, b, params=params)
        try:
            output = self.function(x, y, **params) if params else self.function(x, y)
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed(self.name, [x, y], error) from error
        if type(output) is not ndarray:
            output = as_array(output)
        edge = left or right
        if edge is None or output.dtype is not edge.dtype or not mode.usual:
            return self.remember(output, (a, b), (x, y), (left, right), params)
        reads_left, reads_right = self.reads
        if right is None:  # only the left rule will run, so only what that reads is kept; the same on the other side
            reads = reads_left
            kept = (x if reads & 2 else None, y if reads & 4 else _stand_in(y))
        elif left is None:
            reads = reads_right
            kept = (x if reads & 2 else _stand_in(x), y if reads & 4 else None)
        else:
            reads = reads_left | reads_right
            kept = _UNREAD_PAIR if self._name_no_input else (x if reads & 2 else left, y if reads & 4 else right)
        return wrap(output, node_of(self, params, left, right, (), kept, output if reads & 1 else None, output))

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        (a, b), (left, right) = inputs, self.rules
        if a is None:
            a = edges[0]
        if b is None:
            b = edges[1]
        if params:
            left, right = partial(left, **params), partial(right, **params)  # type: ignore[arg-type, misc]
        return edges[0] and left(g, y, a, b), edges[1] and right(g, y, a, b)  # type: ignore[misc]


def _arguments(rule: Rule, count: int) -> list[str]:
    """The names of a rule's arguments; ``*rest`` stands, under its own name, for as many as make ``count``."""
    code = getattr(rule, "__code__", None)
    if code is None or hasattr(rule, "__self__"):
        return list(inspect.signature(rule).parameters)
    first, named = code.co_argcount, code.co_kwonlyargcount  # inspect would take most of the time of our import
    rest = [code.co_varnames[first + named]] * (count - first) if code.co_flags & inspect.CO_VARARGS else []
    return [*code.co_varnames[:first], *rest, *code.co_varnames[first : first + named]]


def _bits(names: list[str]) -> int:
    return sum(1 << i for i, name in enumerate(names) if not name.startswith("_"))


def _checked(value: Any) -> Any:
    """An operand that is no Tensor: lists become arrays, masked arrays and matrices are refused."""
    if hasattr(value, "__len__") and not hasattr(value, "dtype"):
        return np.array(value)  # a copy, also of what NumPy would only look into, such as array.array
    refuse_masked(value)
    return value


def _keep(user: Any, value: Any, edge: Any, read: int) -> Any:
    """What a node remembers of one argument; of an array that the user gave, and may write into later, a copy."""
    if not hasattr(value, "dtype"):
        return value
    if read:
        return value.copy() if value is user and hasattr(value, "__array_function__") else value
    return edge or (ShapeDtype(value.shape, value.dtype) if value is user else _stand_in(value))


def _stand_in(value: Any) -> Any:
    """Shape and dtype of a constant that no rule reads: told by itself, if it is a number or so small that it weighs no more."""
    return value if type(value) in _NUMBERS or value.size < 32 else ShapeDtype(value.shape, value.dtype)


class ListPrimitive(Primitive):
    """A function whose first argument is a list of arrays: one rule gives the cotangents of all of them."""

    def __init__(self, function: Callable[..., Any], rule: Rule, latex: str = "") -> None:
        super().__init__(function, rule, latex=latex)
        self.reads = [_bits(_arguments(rule, 3)[1:3])]

    def reads_of(self, i: int) -> int:
        return self.reads[0] & 1 | (~1 if self.reads[0] & 2 else 0)  # all inputs, or none

    def __call__(self, *args: Any, **params: Any) -> Any:
        (arrays,), params = self.bind(args, params)
        return self.record(*[each if isinstance(each, Tensor) else as_array(each) for each in arrays], params=params)

    def forward(self, arrays: Sequence[Any], params: dict[str, Any]) -> Array:
        return self.function(arrays, **params)

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        return _complete(self.name, self.rules[0](g, y, inputs, **params), inputs)  # type: ignore[misc]


class JointPrimitive(Primitive):
    """A function of a fixed number of arrays with one rule that gives all cotangents together, because they share their work."""

    def __init__(
        self, function: Callable[..., Any], rule: Rule, arity: int, name: str | None = None, latex: str | Sequence[str] = ()
    ) -> None:
        super().__init__(function, *[rule] * arity, name=name, latex=latex)

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        return _complete(self.name, self.rules[0](g, y, *inputs, **params), inputs)  # type: ignore[misc]


class Several:
    """The cotangents of a function's several outputs, by number; those that nobody used are missing."""

    def __init__(self, parts: dict[int, Any], shape: tuple[Any, ...], dtype: tuple[Any, ...]) -> None:
        self.parts, self.shape, self.dtype = parts, shape, dtype

    @classmethod
    def like(cls, outputs: Sequence[Any]) -> Several:
        """None of the cotangents yet."""
        return cls({}, tuple(getattr(y, "shape", None) for y in outputs), tuple(getattr(y, "dtype", None) for y in outputs))

    def __add__(self, other: Several) -> Several:
        both = {k: self.parts[k] + other.parts[k] for k in self.parts.keys() & other.parts.keys()}
        return Several(self.parts | other.parts | both, self.shape, self.dtype)

    def complete(self) -> list[Any]:
        """One cotangent per output: zeros where nobody used it, None where it is no array."""
        some = next(iter(self.parts.values()))
        return [
            self.parts[k] if k in self.parts else None if shape is None else np.zeros_like(some, shape=shape, dtype=dtype)
            for k, (shape, dtype) in enumerate(zip(self.shape, self.dtype, strict=True))
        ]


class _Part:
    """What stands in a node in the place of a `Primitive`: one of several outputs."""

    name = "output"

    def vjp(self, g: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        return [Several({params["number"]: g}, edges[0].shape, edges[0].dtype)]


class _PartNode(Node):
    __slots__ = ()

    def vjp_traced(self, g: Tensor, asked: Sequence[Any]) -> Sequence[Any]:
        return self.primitive.vjp(g, None, (), self.params, asked, True)  # type: ignore[no-any-return]


def part_of(node: Any, number: int, array: Array) -> Tensor:
    """Output ``number`` of a function as a Tensor: of the node itself when that has one output, else of a part of it."""
    if not isinstance(node.dtype, tuple):
        return wrap(array, node)
    return wrap(array, node_of(_Part(), {"number": number}, node, None, None, _UNREAD, None, array, _PartNode))


def _complete(name: str, cotangents: Sequence[Any], inputs: Sequence[Any]) -> Sequence[Any]:
    if len(cotangents) != len(inputs):
        raise GraphError(f"the rule of {name} gave {len(cotangents)} cotangents for {len(inputs)} inputs")
    return cotangents


def primitive(function: Callable[..., Any], *rules: Rule | None, latex: str | Sequence[str] = ()) -> Primitive:
    """Make ``function`` differentiable: one rule per input, None for an input without a gradient.

    A rule ``(g, y, *inputs, **params)`` gives the cotangent of its input from that of the output, g; see `minitensor.primitive`. A NumPy
    function is served from now on under its own name too. Raises `UnsupportedError` for rules that do not take every input.

    >>> cube = primitive(lambda x: x**3, lambda g, _y, x: 3 * g * x**2)
    >>> x = Tensor([2.0], requires_grad=True)
    >>> cube(x).backward(); x.grad
    tensor([12.])
    """
    kind = {1: Unary, 2: Binary}.get(len(rules), Primitive) if all(rules) else Primitive
    made = kind(function, *rules, latex=latex)
    return serve(function, made) if getattr(np, made.name, None) is function else made


def serve(function: Callable[..., Any], made: P) -> P:
    """Enter ``made`` into the table as what serves ``function`` on Tensors."""
    DISPATCH[function] = made
    setattr(table, function.__name__, made)
    return made


def without_gradient(*functions: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """Enter functions that see Tensors as plain values: comparisons, shapes, predicates. Tensors in, Tensor out; arrays in, array out."""
    return tuple(serve(function, _plain(function)) for function in functions)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **params: Any) -> Any:
        values = [value._array if isinstance(value, Tensor) else value for value in args]
        named = {name: value._array if isinstance(value, Tensor) else value for name, value in params.items()}
        try:
            result = function(*values, **named)
        except (ValueError, TypeError, IndexError) as error:
            raise operation_failed(function.__name__, values, error) from error
        traced = any(isinstance(value, Tensor) for value in (*args, *params.values()))
        return wrap(as_array(result)) if traced and hasattr(result, "dtype") else result

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call
