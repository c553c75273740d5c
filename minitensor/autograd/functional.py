"""Products with the Jacobian J and the Hessian H of a function, and J and H themselves.

The inputs are taken as new leaves: the user's Tensors, their graphs and their ``.grad`` stay as they are, and only what ``func`` does with
its arguments counts, not what it captured. With ``create_graph`` they are connected to the user's Tensors that require grad.
Return values have the structure that PyTorch gives them: a tuple where a tuple was given or returned, else a single Tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minitensor.autograd.walk import grad
from minitensor.errors import DTypeError, GraphError, ShapeError, UnsupportedError, describe
from minitensor.grad_mode import enable_grad
from minitensor.ops import concatenate
from minitensor.tensor import Tensor, wrap

Function = Callable[..., Any]
Tensors = tuple[Tensor, ...]


def vjp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(*inputs), v @ J)``: the vector-Jacobian product sum_k v[k] . d outputs[k] / d inputs[i], by one walk.

    ``inputs`` is one floating Tensor (or array, or number) or a tuple of them; ``v`` has the outputs' shapes and may be left out for one
    output of one element. The products have the inputs' shapes and dtypes; they are zeros where the outputs do not depend on an
    input, which ``strict`` refuses. With ``create_graph`` outputs and products can be differentiated again. Raises `DTypeError` for
    inputs that are not floating, `UnsupportedError` for outputs that are not Tensors, `ShapeError` and `GraphError` for a ``v`` that
    does not fit or is missing. As ``torch.autograd.functional.vjp``.

    >>> y, product = vjp(np.square, Tensor([1.0, 2.0]), Tensor([1.0, 10.0]))
    >>> y, product                                # v * 2x
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    return _vjp(_Asked("vjp", create_graph, strict), func, inputs, v)


def jvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(*inputs), J @ v)``: the Jacobian-vector product sum_i d outputs[k] / d inputs[i] . v[i], exact and without differences.

    v @ J is linear in v, so its own vector-Jacobian product with respect to v is J @ v: two walks, whatever the sizes. Here ``v`` has
    the inputs' shapes and may be left out for one input of one element; the products have the outputs' shapes and dtypes. All else,
    also what is raised, as in `vjp`. As ``torch.autograd.functional.jvp``.

    >>> y, product = jvp(np.square, Tensor([1.0, 2.0]), Tensor([1.0, 10.0]))
    >>> y, product                                # 2x * v
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    return _jvp(_Asked("jvp", create_graph, strict), func, inputs, v)


def jacobian(func: Function, inputs: Any, create_graph: bool = False, strict: bool = False) -> Any:
    """J[k][i] = d outputs[k] / d inputs[i], of shape ``outputs[k].shape + inputs[i].shape`` and the dtype of ``inputs[i]``.

    One walk per element of the outputs. A single Tensor for a single input and output; a tuple over the inputs or over the outputs where
    one of them is a tuple; a tuple of tuples, ``J[k][i]``, where both are. Raises as `vjp` does; ``strict`` wants every output to
    depend on every input. As ``torch.autograd.functional.jacobian``.

    >>> jacobian(lambda x: x * x, Tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    return _jacobian(_Asked("jacobian", create_graph, strict), func, inputs)


def hessian(func: Function, inputs: Any, create_graph: bool = False, strict: bool = False) -> Any:
    """H[i][j] = d**2 func / d inputs[i] d inputs[j], of shape ``inputs[i].shape + inputs[j].shape`` and the dtype of ``inputs[j]``.

    ``func`` must return one Tensor of one element, else `GraphError`. A single Tensor for a single input, else a tuple of tuples. One walk
    per element of the inputs; `vhp` and `hvp` give a product with a vector at the price of one or two. Raises as `jacobian` does;
    ``strict`` also refuses a gradient that is constant. As ``torch.autograd.functional.hessian``.

    >>> hessian(lambda x: x[0] ** 2 * x[1], Tensor([3.0, 5.0]))
    tensor([[10.,  6.],
            [ 6.,  0.]])
    """
    asked = _Asked("hessian", create_graph, strict)
    found = _jacobian(asked, _Gradient(asked, func), _as_tuple(inputs))
    return found if isinstance(inputs, tuple) else found[0][0]


def vhp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(*inputs), v @ H)``: `vjp` of the gradient; H is that of `hessian`, and is not formed.

    ``func`` must return one Tensor of one element; ``v`` and the product have the inputs' shapes. H is symmetric wherever the second
    derivatives are continuous, so that this is `hvp` for less work. Raises as `hessian` does. As ``torch.autograd.functional.vhp``.

    >>> vhp(lambda x: x[0] ** 2 * x[1], Tensor([3.0, 5.0]), Tensor([1.0, 0.0]))
    (tensor(45.), tensor([10.,  6.]))
    """
    return _of_gradient(_vjp, _Asked("vhp", create_graph, strict), func, inputs, v)


def hvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(*inputs), H @ v)``: `jvp` of the gradient. All else as in `vhp`. As ``torch.autograd.functional.hvp``.

    >>> hvp(lambda x: x[0] ** 2 * x[1], Tensor([3.0, 5.0]), Tensor([1.0, 0.0]))
    (tensor(45.), tensor([10.,  6.]))
    """
    return _of_gradient(_jvp, _Asked("hvp", create_graph, strict), func, inputs, v)


class _Asked(NamedTuple):
    """The name under which the user asked, for the errors, and how."""

    name: str
    create_graph: bool
    strict: bool

    def leaves(self, inputs: Any) -> Tensors:
        """The inputs as Tensors that require grad and that nobody else holds."""
        given = _as_tuple(inputs)
        if not given:
            raise GraphError(f"{self.name}: at least one input is needed, got an empty tuple")
        return tuple(self._leaf(f"input {i}", value) for i, value in enumerate(given))

    def _leaf(self, what: str, value: Any) -> Tensor:
        if isinstance(value, list) and any(isinstance(part, Tensor) for part in value):
            raise UnsupportedError(f"{self.name}: {what} is a list of Tensors; several inputs are given as a tuple")
        tensor = value if isinstance(value, Tensor) else Tensor(value)
        if tensor.dtype.kind != "f":
            raise DTypeError(f"{self.name}: {what} is {describe(tensor)}, only floating ones have derivatives; use .astype(mt.float32)")
        if self.create_graph and tensor.requires_grad:
            return tensor.reshape(tensor.shape)
        tensor = tensor.detach()
        tensor.requires_grad = True
        return tensor

    def outputs(self, func: Function, xs: Tensors) -> tuple[Tensors, bool]:
        """What ``func`` returns as a tuple, and whether it was one."""
        returned = func(*xs)
        ys = _as_tuple(returned)
        for k, y in enumerate(ys):
            if not isinstance(y, Tensor):
                raise UnsupportedError(f"{self.name}: func must return a Tensor or a tuple of Tensors, output {k} is {describe(y)}")
            if self.strict and not y.requires_grad:
                raise GraphError(f"{self.name}: output {k} ({describe(y)}) does not depend on the inputs, which strict=True refuses")
        return ys, ys is returned

    def vector(self, v: Any, like: Tensors) -> Tensors:
        """``v`` as one Tensor for each of ``like``."""
        needed = ", ".join(map(describe, like))
        if v is None:
            if len(like) != 1 or like[0].size != 1:
                raise GraphError(f"{self.name}: v may be left out only where it has one element; here it must fit {needed or '()'}")
            return (wrap(np.ones_like(like[0]._array)),)
        given = _as_tuple(v)
        if len(given) != len(like):
            raise GraphError(f"{self.name}: v must have {len(like)} part(s), {needed}; got {len(given)}")
        vs = tuple(part if isinstance(part, Tensor) else Tensor(part, x.dtype, x.device) for part, x in zip(given, like, strict=True))
        for i, (part, x) in enumerate(zip(vs, like, strict=True)):
            if part.shape != x.shape:
                raise ShapeError(f"{self.name}: part {i} of v is {describe(part)}, but {describe(x)} is needed")
        return vs

    def filled(self, found: Sequence[Tensor | None], like: Tensors, link: str, ahead: tuple[int, ...] = ()) -> Tensors:
        """The derivatives, of shape ``ahead`` and then ``like``, with zeros where there is no path, which ``strict`` refuses."""
        whole = []
        for i, (derivative, x) in enumerate(zip(found, like, strict=True)):
            if self.strict and derivative is None:
                raise GraphError(f"{self.name}: no path links {link} {i} ({describe(x)}), and strict=True refuses the zeros")
            if self.strict and self.create_graph and derivative is not None and not derivative.requires_grad:
                raise GraphError(
                    f"{self.name}: the derivative that links {link} {i} ({describe(x)}) is constant: "
                    "its own derivative would be zero, which strict=True refuses"
                )
            whole.append(wrap(np.zeros_like(x._array, shape=(*ahead, *x.shape))) if derivative is None else derivative)
        return tuple(whole)

    def result(self, tensors: Tensors, several: bool) -> Any:
        """Without a graph unless one was asked for, and a tuple only where the user gave one."""
        kept = tensors if self.create_graph else tuple(tensor.detach() for tensor in tensors)
        return kept if several else kept[0]


def _as_tuple(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


def _vjp(asked: _Asked, func: Function, inputs: Any, v: Any) -> tuple[Any, Any]:
    with enable_grad():
        xs = asked.leaves(inputs)
        ys, several = asked.outputs(func, xs)
        found = _pulled_back(asked.vector(v, ys), ys, xs, asked.create_graph)
        return asked.result(ys, several), asked.result(asked.filled(found, xs, "an output to input"), isinstance(inputs, tuple))


def _jvp(asked: _Asked, func: Function, inputs: Any, v: Any) -> tuple[Any, Any]:
    with enable_grad():
        xs = asked.leaves(inputs)
        vs = asked.vector(v, xs)
        ys, several = asked.outputs(func, xs)
        us = tuple(wrap(np.zeros_like(y._array)) for y in ys)  # u @ J is linear in u, so any finite u will do
        for u, y in zip(us, ys, strict=True):
            u.requires_grad = y.requires_grad
        pulled = asked.filled(_pulled_back(us, ys, xs, True), xs, "an output to input")
        found = _pulled_back(vs, pulled, us, asked.create_graph)
        return asked.result(ys, several), asked.result(asked.filled(found, ys, "an input to output"), several)


def _jacobian(asked: _Asked, func: Function, inputs: Any) -> Any:
    with enable_grad():
        xs = asked.leaves(inputs)
        ys, several = asked.outputs(func, xs)
        rows = [asked.filled(_stacked(y, xs, asked.create_graph), xs, f"output {k} to input", y.shape) for k, y in enumerate(ys)]
        whole = tuple(asked.result(row, isinstance(inputs, tuple)) for row in rows)
        return whole if several else whole[0]


def _pulled_back(vs: Tensors, ys: Tensors, xs: Tensors, create_graph: bool) -> tuple[Tensor | None, ...]:
    """v @ J by `grad`; None where there is no path."""
    outputs = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    if not outputs:
        return (None,) * len(xs)
    inputs = [x for x in xs if x.requires_grad]
    found = iter(grad([y for y, _ in outputs], inputs, [v for _, v in outputs], create_graph=create_graph, allow_unused=True))
    return tuple(next(found) if x.requires_grad else None for x in xs)


def _stacked(y: Tensor, xs: Tensors, create_graph: bool) -> list[Tensor | None]:
    """J for one output, a row for each of its elements; None where there is no path."""
    if not y.requires_grad or not y.size:
        return [None] * len(xs)
    flat = y.reshape(-1)
    rows = [grad(flat[j], xs, retain_graph=True, create_graph=create_graph, allow_unused=True) for j in range(y.size)]
    columns = zip(xs, zip(*rows, strict=True), strict=True)
    return [
        None if column[0] is None else concatenate([g.reshape((1, *x.shape)) for g in column]).reshape(y.shape + x.shape)
        for x, column in columns
    ]


class _Gradient:
    """The gradient of ``func`` as a function that can be differentiated; it remembers the value of ``func``."""

    output: Tensor

    def __init__(self, asked: _Asked, func: Function) -> None:
        self.asked, self.func = asked._replace(create_graph=True), func

    def __call__(self, *xs: Tensor) -> Tensors:
        self.output, gradient = _vjp(self.asked, self._one_element, xs, None)
        return gradient  # type: ignore[no-any-return]

    def _one_element(self, *xs: Tensor) -> Tensor:
        y = self.func(*xs)
        if not isinstance(y, Tensor) or y.size != 1:
            raise GraphError(f"{self.asked.name}: func must return one Tensor of one element, got {describe(y)}")
        return y


def _of_gradient(product: Callable[..., Any], asked: _Asked, func: Function, inputs: Any, v: Any) -> tuple[Any, Any]:
    gradient = _Gradient(asked, func)
    _, found = product(asked, gradient, _as_tuple(inputs), v)
    return asked.result((gradient.output,), False), found if isinstance(inputs, tuple) else found[0]
