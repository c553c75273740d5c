"""The walk: from outputs back to leaves, every node once, after all that use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minitensor.arrays import as_array
from minitensor.errors import DeviceError, GraphError, ShapeError, describe
from minitensor.grad_mode import enable_grad, no_grad
from minitensor.primitive import Node
from minitensor.tensor import DISPATCH, Leaf, Tensor, wrap

Cotangents = dict[Any, Any]  # Node or Leaf -> cotangent: a raw array, or a Tensor in the traced walk


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
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
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


def walk(roots: Cotangents, targets: set[Any] | None, traced: bool, retain: bool) -> Cotangents:
    """The cotangents of ``targets`` (None: of every leaf), given those of the ``roots``.

    Order: a node is ready when all nodes that use it have been walked, so each is visited once and the cost is linear in the number
    of edges. Here, once for all rules, a cotangent is summed or broadcast to its input's shape and cast to its dtype. Raw arrays
    serve the first order; with ``traced``, Tensors that record themselves.
    """
    users, wanted = _survey(roots, targets)
    pending: Cotangents = {}
    owned: set[Any] = set()  # cotangents that this walk made and may add into; others may be shared
    for root, g in roots.items():
        _accumulate(pending, owned, root, g, traced)
    ready = [node for node in roots if not users[node]]
    found: Cotangents = {}
    with enable_grad() if traced else no_grad():
        while ready:
            node = ready.pop()
            g = pending.pop(node, None)
            if g is not None and (isinstance(node, Leaf) if targets is None else node in targets):
                found[node] = as_array(g)
            asked = node.edges if targets is None else [edge if edge in wanted else None for edge in node.edges]
            walked = g is not None and any(edge is not None for edge in asked)
            cotangents = node.vjp(g, asked, traced) if walked else [None] * len(asked)
            if len(cotangents) != len(node.edges):
                raise GraphError(f"the rule of {node.name} gave {len(cotangents)} cotangents for {len(node.edges)} inputs")
            for edge, want, cotangent in zip(node.edges, asked, cotangents, strict=True):
                if edge is None:
                    continue
                if want is not None and cotangent is not None:
                    _accumulate(pending, owned, edge, fit(cotangent, edge), traced)
                users[edge] -= 1
                if not users[edge]:
                    ready.append(edge)
            if walked and not retain:
                node.release()
    return found


def fit(g: Any, like: Any) -> Any:
    """A cotangent summed or broadcast to the shape of ``like`` and cast to its dtype."""
    if g.shape != like.shape:
        extra = g.ndim - like.ndim
        summed = g.sum(axis=tuple(range(extra))) if extra > 0 else g
        axes = tuple(i for i in range(-summed.ndim, 0) if like.shape[i] == 1 != summed.shape[i])
        summed = summed.sum(axis=axes, keepdims=True) if axes else summed
        try:
            g = summed if summed.shape == like.shape else np.broadcast_to(summed, like.shape)
        except ValueError as error:
            raise ShapeError(f"{like.name}: a cotangent of shape {g.shape} does not fit the shape {like.shape}") from error
    return g if g.dtype == like.dtype else g.astype(like.dtype)


def _accumulate(pending: Cotangents, owned: set[Any], node: Any, g: Any, traced: bool) -> None:
    before = pending.get(node)
    if before is None:
        pending[node] = g
    elif node in owned:
        before += g
        pending[node] = before
    else:
        pending[node] = before + g
        if not traced:
            owned.add(node)


def _survey(roots: Iterable[Any], targets: set[Any] | None) -> tuple[dict[Any, int], set[Any]]:
    """How many nodes use each node below the roots, and which nodes lead to a target; refuses a released graph before anything changes."""
    users: dict[Any, int] = dict.fromkeys(roots, 0)
    order, stack = [], list(users)
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and node.inputs is None:
            raise GraphError(
                f"this graph was released by an earlier walk (at {node.name!r}): pass retain_graph=True to the first backward() or grad(), "
                "or compute the output again"
            )
        order.append(node)
        for edge in node.edges:
            if edge is None:
                continue
            if edge not in users:
                users[edge] = 0
                stack.append(edge)
            users[edge] += 1
    if targets is None:
        return users, set(users)
    return users, _leading_to(targets, order, users)


def _leading_to(targets: set[Any], nodes: list[Any], users: dict[Any, int]) -> set[Any]:
    above: dict[Any, list[Any]] = {}
    for node in nodes:
        for edge in node.edges:
            if edge is not None:
                above.setdefault(edge, []).append(node)
    wanted, stack = set(), [node for node in targets if node in users]
    while stack:
        node = stack.pop()
        if node not in wanted:
            wanted.add(node)
            stack.extend(above.get(node, ()))
    return wanted


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
        gradient = wrap(np.ones_like(output._data))
    if not isinstance(gradient, Tensor):
        gradient = Tensor(gradient, device=output.device)
    if gradient.shape != output.shape:
        raise ShapeError(f"backward: the output has shape {output.shape}, the cotangent {gradient.shape}")
    if gradient.device != output.device:
        raise DeviceError(f"backward: the output is on {output.device}, the cotangent on {gradient.device}; use .to({output.device!r})")
    gradient = gradient if gradient.dtype == output.dtype else gradient.astype(output.dtype)
    return gradient if traced else gradient._data


DISPATCH[Tensor.backward] = backward
