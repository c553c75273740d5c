"""Function: an operation of one's own with forward and backward written out, as PyTorch's ``torch.autograd.Function``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from minitensor.arrays import ShapeDtype, as_array
from minitensor.errors import GraphError, ShapeError, describe
from minitensor.grad_mode import mode, no_grad
from minitensor.primitive import Node, Several, as_slots, calling_line, node_of, part_of
from minitensor.tensor import Tensor, wrap


class Context:
    """The ``ctx`` that forward and backward share: saved Tensors, and whatever else is set on it as an attribute."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Tensor | None, ...] = ()
        self._fixed: tuple[Tensor, ...] = ()
        self._places: list[int | None] = []  # which output each saved Tensor is, if any
        self._node: Any = None  # in a walk that records itself: the node of this call, to which saved outputs are connected

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs and outputs for backward, which finds them in ``saved_tensors``, connected to the graph."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(f"save_for_backward takes Tensors, got {describe(tensor)}; set other values as attributes: ctx.axis = axis")
        self._saved = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Outputs that carry no gradient, such as indices or masks."""
        self._fixed = outputs

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept; in a walk with ``create_graph`` connected, so that second derivatives are right."""
        if self._node is None:
            return self._saved
        return tuple(
            tensor if tensor is None or place is None else part_of(self._node, place, tensor._array)
            for tensor, place in zip(self._saved, self._places, strict=True)
        )

    def settle(self, outputs: Sequence[Any]) -> None:
        """After forward: keep the values as they are now, and saved outputs by number, so that no node holds a Tensor that holds it."""
        places = {id(output): k for k, output in enumerate(outputs)}
        self._places = [None if tensor is None else places.get(id(tensor)) for tensor in self._saved]
        self._saved = tuple(
            None if tensor is None else wrap(tensor._array, tensor._node if place is None else None)
            for tensor, place in zip(self._saved, self._places, strict=True)
        )


class Function:
    """An operation with a forward and a backward of your own::

        y_1, ..., y_k = forward(ctx, x_1, ..., x_n)
        dL/dx_1, ..., dL/dx_n = backward(ctx, dL/dy_1, ..., dL/dy_k)

    Subclass it with two static methods and call ``YourFunction.apply(x_1, ..., x_n)``. ``forward`` runs without recording and returns
    a Tensor or a tuple; ``backward`` gets one cotangent per output (zeros for one that nobody used) and returns one gradient per
    argument of ``forward``, of that argument's shape, or None. ``ctx.save_for_backward`` and ``ctx.saved_tensors`` carry inputs and
    outputs over; made of Tensor operations on these, a backward can itself be differentiated. ``ctx.needs_input_grad`` tells which
    gradients are asked for. Raises `GraphError` and `ShapeError` for a wrong number and shape of gradients.
    As ``torch.autograd.Function``, but unused outputs always give zeros, and there is exactly one gradient per argument.

    >>> import numpy as np
    >>> class Exp(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         y = np.exp(x)
    ...         ctx.save_for_backward(y)
    ...         return y
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (y,) = ctx.saved_tensors
    ...         return g * y
    >>> x = Tensor([0.0], requires_grad=True)
    >>> Exp.apply(x).backward(); x.grad
    tensor([1.])
    """

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not instantiated: call {type(self).__name__}.apply(...)")

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """The values; to be written in the subclass."""
        raise NotImplementedError("a Function needs a static method forward(ctx, ...)")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradients of the arguments of forward; to be written in the subclass."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call forward and remember the call for backward."""
        edges = [value._node if isinstance(value, Tensor) else None for value in args]
        ctx = Context(tuple(edge is not None for edge in edges))
        with no_grad():
            result = cls.forward(ctx, *args)
        outputs = result if isinstance(result, tuple) else (result,)
        if not any(isinstance(output, Tensor) for output in outputs):
            raise TypeError(f"{cls.__name__}.forward must return a Tensor or a tuple with Tensors, got {describe(result)}")
        if not (any(edges) and mode.enabled):
            return result
        ctx.settle(outputs)
        fixed = {id(output) for output in ctx._fixed}
        ctx._fixed = ()
        several = isinstance(result, tuple)
        arrays = [output._array if isinstance(output, Tensor) else None for output in outputs]
        inputs = [edge or (ShapeDtype(x.shape, x.dtype) if isinstance(x, Tensor) else x) for edge, x in zip(edges, args, strict=True)]
        value = Several.like(arrays) if several else arrays[0]
        node = node_of(_Backward(cls), {}, *as_slots(edges), inputs, ctx, value, _FunctionNode)
        if mode.anomaly:
            node.where = calling_line()
        connected = [
            part_of(node, k, output._array)
            if isinstance(output, Tensor) and output.dtype.kind == "f" and id(output) not in fixed
            else output
            for k, output in enumerate(outputs)
        ]
        return tuple(connected) if several else connected[0]


class _FunctionNode(Node):
    """The node of one call; ``output`` holds its context."""

    __slots__ = ()

    def vjp_traced(self, g: Any, asked: Sequence[Any]) -> Sequence[Any]:
        connected = copy.copy(self.output)
        connected._node = self
        return self.primitive.vjp(g, connected, self.inputs or (), self.params, asked, True)  # type: ignore[no-any-return]


class _Backward:
    """What stands in a node in the place of a `Primitive`: the backward of a Function."""

    def __init__(self, function: type[Function]) -> None:
        self.function, self.name = function, function.__name__

    def vjp(self, g: Any, ctx: Any, inputs: Sequence[Any], params: Any, edges: Sequence[Any], traced: bool) -> Sequence[Any]:
        """The gradients that backward returns, checked."""
        cotangents = g.complete() if isinstance(g, Several) else (g,)
        found = self.function.backward(ctx, *(each if isinstance(each, Tensor) else wrap(as_array(each)) for each in cotangents))
        gradients = found if isinstance(found, tuple) else (found,)
        if len(gradients) != len(inputs):
            raise GraphError(
                f"{self.name}.backward must return {len(inputs)} gradient(s), one per argument of forward, got {len(gradients)}"
            )
        for i, (gradient, x) in enumerate(zip(gradients, inputs, strict=True)):
            if gradient is None or edges[i] is None:
                continue
            if not isinstance(gradient, Tensor):
                raise TypeError(f"{self.name}.backward: gradient {i} must be a Tensor or None, got {describe(gradient)}")
            if gradient.shape != x.shape:
                raise ShapeError(f"{self.name}.backward: gradient {i} must have the shape {x.shape} of its input, got {gradient.shape}")
        return gradients
