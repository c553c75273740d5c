"""The hooks of a Module: functions that are called before and after its forward, and around its part of a backward pass.

Around the backward pass: the outputs, and the inputs, go through an identity whose backward calls the hooks. It is put there only for
a module that has such hooks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from minitensor import Tensor
from minitensor.autograd import Function
from minitensor.errors import GraphError, ShapeError, describe
from minitensor.tensor import RemovableHandle

if TYPE_CHECKING:
    from .module import Module

Values = tuple[Any, ...]  # the arguments or results of a call, or their cotangents: None where there is none


class Hook(NamedTuple):
    """A function, and when it is called: ``"forward_pre"``, ``"forward"``, ``"backward_pre"`` or ``"backward"``."""

    kind: str
    function: Callable[..., Any]
    with_kwargs: bool = False


Hooks = OrderedDict[object, Hook]


def register(hooks: Hooks, hook: Hook, prepend: bool) -> RemovableHandle:
    """Add a hook behind all others, or before them."""
    if not callable(hook.function):
        raise TypeError(f"a hook must be a function, got {describe(hook.function)}")
    handle = RemovableHandle(hooks, hook)
    if prepend:
        hooks.move_to_end(next(reversed(hooks)), last=False)
    return handle


def call(module: Module, args: Values, kwargs: dict[str, Any]) -> Any:
    """``module.forward(*args, **kwargs)`` with all hooks of the module."""
    for hook in _of(module, "forward_pre"):
        args, kwargs = _called_before(hook, module, args, kwargs)
    before, after = _of(module, "backward_pre"), _of(module, "backward")
    passing = _Passing(module, before, after, len(args)) if before or after else None
    if passing:
        args = passing.inputs(args)
    result = module.forward(*args, **kwargs)
    for hook in _of(module, "forward"):
        changed = hook.function(module, args, *([kwargs] if hook.with_kwargs else []), result)
        result = result if changed is None else changed
    return passing.outputs(result) if passing else result


def _of(module: Module, kind: str) -> list[Hook]:
    return [hook for hook in module._module_hooks.values() if hook.kind == kind]


def _called_before(hook: Hook, module: Module, args: Values, kwargs: dict[str, Any]) -> tuple[Values, dict[str, Any]]:
    if not hook.with_kwargs:
        changed = hook.function(module, args)
        return (args if changed is None else changed if isinstance(changed, tuple) else (changed,)), kwargs
    changed = hook.function(module, args, kwargs)
    if changed is None:
        return args, kwargs
    if isinstance(changed, tuple) and len(changed) == 2 and isinstance(changed[0], tuple) and isinstance(changed[1], dict):
        return changed
    raise RuntimeError(
        f"a forward pre-hook with_kwargs of {type(module).__name__} must return None or a tuple (args, kwargs), got {describe(changed)}"
    )


class _Passing:
    """One call of a module with backward hooks: its cotangents pass the outputs first and the inputs last."""

    def __init__(self, module: Module, before: list[Hook], after: list[Hook], n_inputs: int) -> None:
        self.module, self.before, self.after = module, before, after
        self.no_grad_input: Values | None = (None,) * n_inputs  # what hooks are told when no input requires grad
        self.grad_output: Values | None = None  # from the moment when it passes the outputs until the inputs are reached

    def inputs(self, args: Values) -> Values:
        watched = _watched(args, self._at_inputs)
        if watched is not args:
            self.no_grad_input = None
        return watched

    def outputs(self, result: Any) -> Any:
        if isinstance(result, tuple):
            outputs = _watched(result, self._at_outputs)
            return type(result)(*outputs) if hasattr(result, "_fields") else outputs  # a named tuple stays one
        if not isinstance(result, Tensor):
            name = type(self.module).__name__
            raise TypeError(f"{name}: backward hooks need a forward that returns a Tensor or a tuple, got {describe(result)}")
        return _watched((result,), self._at_outputs)[0]

    def _at_outputs(self, grads: Values) -> Values:
        for hook in self.before:
            grads = self._checked("backward pre-hook", hook.function(self.module, grads), grads)
        if self.no_grad_input is None:
            self.grad_output = grads
            return grads
        for hook in self.after:
            self._checked("backward hook", hook.function(self.module, self.no_grad_input, grads), self.no_grad_input)
        return grads

    def _at_inputs(self, grads: Values) -> Values:
        grad_output, self.grad_output = self.grad_output, None
        if grad_output is None:  # a walk that came by another way than the outputs: the derivative of a derivative
            return grads
        for hook in self.after:
            grads = self._checked("backward hook", hook.function(self.module, grads, grad_output), grads)
        return grads

    def _checked(self, what: str, changed: Any, before: Values) -> Values:
        if changed is None:
            return before
        changed = (changed,) if isinstance(changed, Tensor) else changed
        where = f"a {what} of {type(self.module).__name__}"
        if not isinstance(changed, (tuple, list)) or len(changed) != len(before):
            got = f"{len(changed)} entries" if isinstance(changed, (tuple, list)) else describe(changed)
            raise GraphError(f"{where} must return None or a tuple with {len(before)} entries, got {got}")
        for i, (new, old) in enumerate(zip(changed, before, strict=True)):
            if new is not None and (old is None or not isinstance(new, Tensor) or new.shape != old.shape):
                needed = "None, because no gradient is asked for there" if old is None else f"None or a Tensor {describe(old)}"
                raise ShapeError(f"{where} must return {needed} in place {i}, got {describe(new)}")
        return tuple(changed)


def _watched(values: Values, change: Callable[[Values], Values]) -> Values:
    """The values, those that require grad through an identity whose backward lets ``change`` see and change the cotangents."""
    places = [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
    if not places:
        return values

    def at_places(grads: Values) -> Values:
        by_place = dict(zip(places, grads, strict=True))
        changed = change(tuple(by_place.get(i) for i in range(len(values))))
        return tuple(changed[i] for i in places)

    passed = dict(zip(places, _Identity.apply(at_places, *(values[i] for i in places)), strict=True))
    return tuple(passed.get(i, value) for i, value in enumerate(values))


class _Identity(Function):
    """y_k = x_k; the cotangents go through the function that is the first argument."""

    @staticmethod
    def forward(ctx: Any, change: Callable[[Values], Values], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.change = change
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Values:
        return None, *ctx.change(grads)
