"""The walk: from outputs back to leaves, every node once, after all that use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy import ndarray

from minitensor.arrays import as_array
from minitensor.errors import DeviceError, DTypeError, GraphError, ShapeError, UnsupportedError, describe
from minitensor.grad_mode import enable_grad, mode, no_grad
from minitensor.primitive import Several
from minitensor.tensor import DISPATCH, Tensor, wrap

Cotangents = dict[Any, Any]  # Node or Leaf -> cotangent: a raw array, or a Tensor in the traced walk
_TIME = attrgetter("time")


def backward(tensor: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
    """`Tensor.backward`, which documents it."""
    roots = _roots([tensor], [gradient], create_graph)
    found = walk(roots, None, create_graph, create_graph if retain_graph is None else retain_graph)
    for leaf, cotangent in found.items():
        owner = leaf.tensor()
        if owner is None:
            continue  # nobody can ask a Tensor that is gone for its gradient
        gradient = cotangent if create_graph else wrap(cotangent)
        with enable_grad() if create_graph else no_grad():
            owner.grad = gradient if owner.grad is None else owner.grad + gradient


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The vector-Jacobian products sum_k grad_outputs[k] . d outputs[k] / d inputs[i], a tuple with one entry per input.

    Shapes and dtypes are the inputs'. ``grad_outputs`` may be left out for outputs of one element. ``.grad`` is not touched. With
    ``create_graph`` the results can be differentiated again. Raises `GraphError` for an input that the outputs do not depend on,
    unless ``allow_unused`` (then None stands in its place). As ``torch.autograd.grad``.

    >>> x = Tensor([2.0], requires_grad=True)
    >>> (dx,) = grad(x * x * x, x, create_graph=True)   # 3 x**2
    >>> grad(dx, x)                                     # 6 x
    (tensor([12.]),)
    """
    outputs, inputs = _listed("outputs", outputs), _listed("inputs", inputs)
    if isinstance(grad_outputs, (list, tuple)):
        given = list(grad_outputs)
    else:
        given = [None] * len(outputs) if grad_outputs is None else [grad_outputs]
    if len(given) != len(outputs):
        raise GraphError(f"grad: {len(outputs)} outputs need as many grad_outputs, got {len(given)}")
    for i, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            raise GraphError(
                f"grad: input {i} ({describe(tensor)}) does not require grad; set requires_grad=True before computing the outputs"
            )
    targets = [tensor._node for tensor in inputs]
    found = walk(_roots(outputs, given, create_graph), set(targets), create_graph, create_graph if retain_graph is None else retain_graph)
    missing = [i for i, node in enumerate(targets) if node not in found]
    if missing and not allow_unused:
        raise GraphError(f"grad: the outputs do not depend on input(s) {missing}; pass allow_unused=True to get None for them")
    return tuple(None if node not in found else found[node] if create_graph else wrap(found[node]) for node in targets)


def _listed(what: str, given: Any) -> list[Any]:
    if isinstance(given, Tensor):
        return [given]
    if not hasattr(given, "__iter__"):
        raise UnsupportedError(f"grad: {what} must be a Tensor or a sequence of Tensors, got {describe(given)}")
    return list(given)


def walk(roots: Cotangents, targets: set[Any] | None, traced: bool, retain: bool) -> Cotangents:
    """The cotangents of ``targets`` (None: of every leaf), given those of the ``roots``.

    Order: a node is younger than its inputs, so from the youngest to the oldest every node comes after all that use it, is visited once,
    and the cost is linear in the number of edges. Here, once for all rules, a cotangent is summed or broadcast to its input's shape and
    cast to its dtype. Raw arrays serve the first order; with ``traced``, Tensors that record themselves.
    """
    nodes = _nodes_below(roots, all_needed=targets is None)
    wanted = None if targets is None else _leading_to(targets, nodes)
    pending = dict(roots)
    owned: set[Any] = set()  # cotangents that this walk made and may add into; others may be shared
    found: Cotangents = {}
    watched = mode.anomaly
    with enable_grad() if traced else no_grad():
        for node in nodes:
            g = pending.pop(node, None)
            if g is None:
                continue
            if node.hooks:
                g = _hooked(node, g, traced)
            edges = (node.left, node.right) if not node.rest else node.edges  # two, for a node with one as well
            if targets is None or wanted is None:  # together; both are named for the type checker
                if node.time < 0:  # a leaf
                    found[node] = as_array(g)
                    continue
            else:
                if node in targets:
                    found[node] = as_array(g)
                edges = [edge if edge in wanted else None for edge in edges]
                if not any(edges):
                    continue
            if traced:
                cotangents = node.vjp_traced(g, edges)
            else:
                y = node.output
                cotangents = node.primitive.vjp(g, node if y is None else y, node.inputs, node.params, edges, False)
            for edge, cotangent in zip(edges, cotangents):  # noqa: B905  (each is checked to be complete where it is made)
                if edge is None or cotangent is None:
                    continue
                if type(cotangent) is not ndarray or cotangent.shape != edge.shape or cotangent.dtype is not edge.dtype:
                    cotangent = fit(cotangent if traced else _bare(cotangent), edge, node.name)
                if watched:
                    _refuse_anomaly(node, edge, cotangent)
                before = pending.get(edge)
                if before is None:
                    pending[edge] = cotangent
                elif edge in owned:
                    before += cotangent
                else:
                    pending[edge] = total = before + cotangent
                    if not traced and hasattr(total, "__iadd__"):  # which NumPy's scalars have not
                        owned.add(edge)
            if not retain:
                node.inputs = node.output = None
    return found


def fit(g: Any, like: Any, giver: str) -> Any:
    """A cotangent that ``giver`` gave, summed or broadcast to the shape of ``like`` and cast to its dtype."""
    if g.shape != like.shape:
        extra = g.ndim - like.ndim
        summed = g.sum(axis=tuple(range(extra))) if extra > 0 else g
        axes = tuple(i for i in range(-summed.ndim, 0) if like.shape[i] == 1 != summed.shape[i])
        summed = summed.sum(axis=axes, keepdims=True) if axes else summed
        try:
            g = summed if summed.shape == like.shape else np.broadcast_to(summed, like.shape)
        except ValueError as error:
            raise ShapeError(f"the rule of {giver} gave a cotangent of shape {g.shape} for an input of shape {like.shape}") from error
    return g if g.dtype == like.dtype else g.astype(like.dtype)


def _bare(g: Any) -> Any:
    """A rule may give a constant as a Tensor or as a number."""
    return g._array if isinstance(g, Tensor) else g if hasattr(g, "shape") else as_array(g)


def _hooked(node: Any, g: Any, traced: bool) -> Any:
    for hook in list(node.hooks.values()):
        changed = hook(g if traced else wrap(as_array(g)))
        if changed is None:
            continue
        if not isinstance(changed, Tensor) or changed.shape != node.shape:
            raise ShapeError(f"a hook on {node.name} must return None or a Tensor of shape {node.shape}, got {describe(changed)}")
        g = fit(changed if traced else changed._array, node, "a hook")
    return g


def _refuse_anomaly(node: Any, edge: Any, g: Any) -> None:
    parts = list(g.parts.values()) if isinstance(g, Several) else [g]
    if not all(np.all(np.isfinite(part)) for part in parts):
        bad = "nan" if any(np.any(np.isnan(part)) for part in parts) else "inf"
        where = getattr(node, "where", "outside detect_anomaly()")
        raise GraphError(f"detect_anomaly: the backward of {node.name!r}, called at {where}, gave {bad} for an input {describe(edge)}")


def _nodes_below(roots: Iterable[Any], all_needed: bool = True) -> list[Any]:
    """The roots and all that they were computed from, youngest first; refuses a released graph, if all of it is needed."""
    seen = set(roots)
    nodes, stack = [], list(seen)
    while stack:
        node = stack.pop()
        if node.inputs is None and all_needed:
            raise _released(node)
        nodes.append(node)
        for edge in (node.left, node.right) if not node.rest else node.edges:  # the property would cost a call
            if edge is not None and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    nodes.sort(key=_TIME, reverse=True)
    return nodes


def _leading_to(targets: set[Any], nodes: list[Any]) -> set[Any]:
    """The nodes that are a target or lead to one; refuses a released graph on the way."""
    wanted: set[Any] = set()
    for node in reversed(nodes):  # inputs first
        if not wanted.isdisjoint(node.edges):
            if node.inputs is None:
                raise _released(node)
            wanted.add(node)
        elif node in targets:
            wanted.add(node)
    return wanted


def _released(node: Any) -> GraphError:
    return GraphError(
        f"this graph was released by an earlier walk (at {node.name!r}): pass retain_graph=True to the first backward() or grad(), "
        "or compute the output again"
    )


def _roots(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None], traced: bool) -> Cotangents:
    roots: Cotangents = {}
    for output, gradient in zip(outputs, gradients, strict=True):
        if not isinstance(output, Tensor) or not output.requires_grad:
            raise GraphError(
                f"backward: {describe(output)} does not require grad: no input of it was made with "
                "requires_grad=True, or it was computed under no_grad"
            )
        with enable_grad() if traced else no_grad():
            g = _seed(output, gradient, traced)
            node = output._node
            roots[node] = g if node not in roots else roots[node] + g
    return roots


def _seed(output: Tensor, gradient: Any, traced: bool) -> Any:
    if gradient is None:
        if output.size != 1:
            raise GraphError(
                f"backward: the output has shape {output.shape}, so a cotangent of that shape is needed: "
                "pass gradient= (or grad_outputs=), or reduce it first, as in (w * y).sum()"
            )
        gradient = wrap(np.ones_like(output._array))
    if not isinstance(gradient, Tensor):
        gradient = Tensor(gradient, device=output.device)
    if gradient.shape != output.shape:
        raise ShapeError(f"backward: the output has shape {output.shape}, the cotangent {gradient.shape}")
    if gradient.device != output.device:
        raise DeviceError(f"backward: the output is on {output.device}, the cotangent on {gradient.device}; use .to({output.device!r})")
    if gradient.dtype.kind == "c":
        raise DTypeError(f"backward: the output is {describe(output)}, so the cotangent must be real, got {describe(gradient)}")
    gradient = gradient if gradient.dtype == output.dtype else gradient.astype(output.dtype)
    return gradient if traced else gradient._array


DISPATCH[Tensor.backward] = backward
