"""Module: a function with parameters and buffers that can be named, moved, saved and loaded. As ``torch.nn.Module``."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from minitensor import Tensor, zeros_like
from minitensor.arrays import parse_device
from minitensor.errors import DTypeError, GraphError, UnsupportedError, describe
from minitensor.tensor import RemovableHandle

from . import hooks, state
from .parameter import Parameter, rebind
from .summary import Summary, summarize

_REGISTRIES = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "module"}  # and what one entry is called


class Module:
    """Base class of layers: give it parameters as attributes and a ``forward``.

    A `Parameter` or Module set as an attribute is registered under that name; other Tensors are registered by `register_buffer`.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = Parameter([2.0])
    ...     def forward(self, x):
    ...         return self.weight * x
    >>> scale = Scale()
    >>> scale(Tensor([3.0])).item(), [name for name, _ in scale.named_parameters()]
    (6.0, ['weight'])
    """

    _version: ClassVar[int] = 1  # of the names and shapes in a state dict, for `_adapt_state`
    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent: frozenset[str]  # the buffers that are not saved
    _module_hooks: hooks.Hooks

    def __init__(self) -> None:
        for registry in _REGISTRIES:
            object.__setattr__(self, registry, {})
        self._non_persistent = frozenset()
        self._module_hooks = OrderedDict()
        self.training = True

    def forward(self, *inputs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method: write one")

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        if self._module_hooks:
            return hooks.call(self, inputs, params)
        return self.forward(*inputs, **params)

    # -- registration -------------------------------------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a parameter, or None for one that this module does without.

        `TypeError` for a name that is no string or a value that is no Parameter, `KeyError` for a name that is empty, has a dot in it, or
        is an attribute already.
        """
        _check(self, "_parameters", name, param, self)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a Tensor that moves with the module and is not learned, such as a running mean; or None.

        A buffer that is not ``persistent`` is left out of `state_dict`. Errors as `register_parameter`.
        """
        _check(self, "_buffers", name, tensor, self)
        self._buffers[name] = tensor
        self._non_persistent = self._non_persistent - {name} if persistent else self._non_persistent | {name}

    def register_module(self, name: str, module: Module | None) -> None:
        """Register a module inside this one, or None. Errors as `register_parameter`; `ValueError` for one that contains this one."""
        _check(self, "_modules", name, module, self)
        self._modules[name] = module

    def add_module(self, name: str, module: Module | None) -> None:
        """`register_module` by its other name."""
        self.register_module(name, module)

    def __setattr__(self, name: str, value: Any) -> None:
        home = _home(self, name)
        if isinstance(value, Parameter) or (isinstance(value, Module) and home != "_parameters"):
            registry = "_parameters" if isinstance(value, Parameter) else "_modules"
            _check(self, registry, name, value, type(self))  # what the instance has under this name makes room
            if home != registry and (home or name in self.__dict__):
                delattr(self, name)
            self.__dict__[registry][name] = value
        elif home is None:
            object.__setattr__(self, name, value)
        elif home == "_modules" and value is None:
            self.register_module(name, None)
        elif value is None or (home == "_buffers" and isinstance(value, Tensor)):
            self.__dict__[home][name] = value
        else:
            needed = {"_parameters": "a Parameter", "_buffers": "a Tensor", "_modules": "a Module"}[home]
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a {_REGISTRIES[home]}: assign {needed} or None, got {describe(value)}; "
                f"after `del module.{name}` it can be anything"
            )

    def __getattr__(self, name: str) -> Any:
        home = _home(self, name)
        if home is not None:
            return self.__dict__[home][name]
        hint = "" if "_module_hooks" in self.__dict__ else "; its __init__ has not called super().__init__()"
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        home = _home(self, name)
        if home is None:
            object.__delattr__(self, name)
        else:
            del self.__dict__[home][name]

    def __dir__(self) -> list[str]:
        registered = {name for registry in _REGISTRIES for name in self.__dict__.get(registry, ()) if name.isidentifier()}
        return sorted({*super().__dir__(), *registered})

    # -- names --------------------------------------------------------------------------------------------------------------------

    def named_modules(self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all inside it, each once, with dotted names: parents before children, in the order of registration.

        Modules in ``memo`` are left out, and those that come are added; ``remove_duplicate=False`` names a shared one every time.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, each once, with their names."""
        seen = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one, each once."""
        return (child for _, child in self.named_children())

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name; without ``recurse`` only this module's own."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Every buffer once, with its dotted name; without ``recurse`` only this module's own."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Every buffer once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_members(self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, value in module.__dict__[registry].items():
                if value is not None and id(value) not in seen:
                    if remove_duplicate:
                        seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def get_submodule(self, target: str) -> Module:
        """The module with this dotted name, ``""`` for this one; `AttributeError` when there is none."""
        module = self
        for name in target.split(".") if target else []:
            module = _member(module, "_modules", name, target)
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with this dotted name; `AttributeError` when there is none."""
        path, _, name = target.rpartition(".")
        parameter: Parameter = _member(self.get_submodule(path), "_parameters", name, target)
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with this dotted name; `AttributeError` when there is none."""
        path, _, name = target.rpartition(".")
        buffer: Tensor = _member(self.get_submodule(path), "_buffers", name, target)
        return buffer

    # -- all at once --------------------------------------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` with every module inside this one, children first, and with this one; returns itself."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and all inside it; returns itself."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be True or False, got {mode!r}")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Learn all parameters, or none of them; returns itself."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; or let those that are there be 0."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else zeros_like(parameter.grad)

    def to(self, *target: Any, device: Any = None, dtype: Any = None) -> Self:
        """Move to a device, cast to a floating dtype, or both: ``to("cuda")``, ``to(np.float64)``, ``to("cuda", np.float64)``.

        A Tensor stands for its device and dtype. Returns itself. Floating parameters and buffers are cast, others are only moved;
        gradients go along. The Parameters and buffers stay the same objects, so an optimiser that holds them goes on. Nothing is changed
        when it fails: `DeviceError` for a device that is not there, `DTypeError` for a dtype that is not floating, `UnsupportedError` for
        neither or two of one kind, `GraphError` for a buffer that an operation made.

        >>> class Two(Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.weight = Parameter([1.0])
        ...         self.register_buffer("steps", Tensor([1]))
        >>> {name: value.dtype.name for name, value in Two().to(np.float64).state_dict().items()}
        {'weight': 'float64', 'steps': 'int64'}
        """
        device, dtype = _parsed(target, device, dtype)
        moved = []
        for name, tensor in {id(tensor): (name, tensor) for name, tensor in [*self.named_parameters(), *self.named_buffers()]}.values():
            if not tensor.is_leaf:
                raise GraphError(f"to: an operation made the buffer {name!r}, so it cannot be moved; register buffer.detach() instead")
            grad = None if tensor.grad is None else _moved(tensor.grad, device, dtype)
            moved.append((tensor, _moved(tensor.detach(), device, dtype), grad))
        for tensor, values, grad in moved:
            rebind(tensor, values._array)
            tensor.grad = grad
        return self

    def cpu(self) -> Self:
        """``to("cpu")``."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> Self:
        """``to("cuda")``, or to the GPU with this number or name."""
        return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    def half(self) -> Self:
        """``to(np.float16)``."""
        return self.to(np.float16)

    def float(self) -> Self:
        """``to(np.float32)``."""
        return self.to(np.float32)

    def double(self) -> Self:
        """``to(np.float64)``."""
        return self.to(np.float64)

    # -- hooks --------------------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before every forward; what it returns, unless None, takes the place of the arguments.

        One value stands for a tuple of one. With ``with_kwargs`` it is ``hook(module, args, kwargs)``, which returns None or
        ``(args, kwargs)``. Hooks run in the order of their registration, ``prepend`` puts one before all others. ``.remove()`` on the
        handle takes it away.
        """
        return hooks.register(self._module_hooks, hooks.Hook("forward_pre", hook, with_kwargs), prepend)

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after every forward; what it returns, unless None, takes the output's place.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``. The rest as for `register_forward_pre_hook`.

        >>> class Double(Module):
        ...     def forward(self, x):
        ...         return 2 * x
        >>> double = Double()
        >>> handle = double.register_forward_hook(lambda module, args, output: output + 1)
        >>> double(Tensor([1.0]))
        tensor([3.])
        >>> handle.remove()
        """
        return hooks.register(self._module_hooks, hooks.Hook("forward", hook, with_kwargs), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when a walk reaches the outputs; a tuple that it returns takes the place of ``grad_output``.

        ``grad_output`` is a tuple with the cotangent of every output: zeros for one that nobody used, None for one that requires no
        grad. One Tensor stands for a tuple of one. The forward must return a Tensor or a tuple. `GraphError` and `ShapeError` for a tuple
        of another length or shape.
        """
        return hooks.register(self._module_hooks, hooks.Hook("backward_pre", hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when a walk has reached the inputs; a tuple takes the place of ``grad_input``.

        ``grad_input`` has the cotangent of every positional argument, None for one that is no Tensor or requires no grad. When none does,
        the hook is called as soon as the outputs are reached. ``grad_output`` and errors as for `register_full_backward_pre_hook`.
        """
        return hooks.register(self._module_hooks, hooks.Hook("backward", hook), prepend)

    # -- saving -------------------------------------------------------------------------------------------------------------------

    def state_dict(self, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The values of parameters and persistent buffers by dotted name, a `minitensor.nn.state.StateDict`.

        They are without graphs, and later changes of the module do not reach them; ``keep_vars`` gives the Parameters and buffers
        themselves. ``destination`` is a dict to be filled, ``prefix`` stands before every name.
        """
        return state.save(self, destination, prefix, keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> state.IncompatibleKeys:
        """Take values over by name: Tensors, arrays of NumPy or CuPy, or anything with ``__array__`` or ``__dlpack__``, also PyTorch's.

        They are copied and cast to this module's dtypes and devices; with ``assign`` parameters and buffers take the given dtypes and
        devices over and forget their gradients. The Parameters and buffers stay the same objects. Without ``strict``, missing and
        unexpected names are only returned. All other names and values that do not fit are named in one `StateDictError`, before anything
        is changed.

        >>> class Bias(Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.bias = Parameter([0.0, 0.0])
        >>> Bias().load_state_dict({"bias": np.ones(2)})
        <All keys matched successfully>
        >>> Bias().load_state_dict({"biass": np.ones(2)})
        Traceback (most recent call last):
        minitensor.errors.StateDictError: load_state_dict of Bias: nothing was changed, because
          missing: 'bias'
          unexpected: 'biass' (did you mean 'bias'?)
        """
        return state.load(self, state_dict, strict, assign)

    def _adapt_state(self, state: dict[str, Any], prefix: str, version: int | None) -> list[str]:
        """Make a given state fit this layer, before names are compared: add an entry, rename one, or make the parameters of a lazy layer.

        Called by `load_state_dict` for every module, parents first, with one dict for all, which may be edited. The layer's own
        names begin with ``prefix``; ``version`` is the `_version` that wrote the state, None when it does not tell. Returned messages
        are reported as errors, also without ``strict``. When the load fails, all that was done to modules and their Tensors is undone.
        """
        return []

    # -- copying ------------------------------------------------------------------------------------------------------------------

    def _copied(self) -> Self:
        """A deep copy; `GraphError` with the name of the attribute that cannot be copied, because an operation made it."""
        try:
            return copy.deepcopy(self)
        except GraphError as error:
            for path, module in self.named_modules():
                for name, value in vars(module).items():
                    if isinstance(value, Tensor) and not value.is_leaf:
                        raise GraphError(
                            f"{type(self).__name__} cannot be copied: an operation made the Tensor that it keeps as "
                            f"{f'{path}.{name}' if path else name!r}; keep .detach() of it instead"
                        ) from error
            raise

    # -- showing ------------------------------------------------------------------------------------------------------------------

    def summary(self, *inputs: Any) -> Summary:
        """A table of all modules inside: class, shape of what comes out, and number of parameters; and the totals.

        ``inputs`` are Tensors, arrays, or shapes, for which random numbers are drawn; without them the shapes stay blank. What is shared
        counts once, where it comes first. A deep copy is run, in eval mode, without grad and without hooks (but for methods of the modules
        themselves), so nothing changes: not the statistics of a norm layer, not a lazy layer, not the random numbers to come.
        `TypeError` for an input that is nothing of these, and what a layer raises.

        >>> class Scale(Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.weight = Parameter([2.0, 3.0])
        ...     def forward(self, x):
        ...         return self.weight * x
        >>> Scale().summary((4, 2))
        Scale on float32 (4, 2)
        module  class  output shape  parameters
        Scale   Scale  (4, 2)        2
        2 parameters, 2 trainable; 0 in buffers; 8 bytes
        """
        return summarize(self, inputs)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr: the constructor's arguments."""
        return ""

    def _children_shown(self) -> Iterable[tuple[str, str]]:
        """The children's names and reprs."""
        return ((name, repr(child)) for name, child in self._modules.items())

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {shown}" for name, shown in self._children_shown()]
        if not children and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        lines = [*extra.splitlines(), *(child.replace("\n", "\n  ") for child in children)]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def _home(module: Module, name: str) -> str | None:
    """The registry that has this name; none before ``super().__init__()``."""
    attributes = module.__dict__
    for registry in _REGISTRIES:
        if name in attributes.get(registry, ()):
            return registry
    return None


def _check(module: Module, registry: str, name: Any, value: Any, taken: Any) -> None:
    """Refuse what cannot be registered; a name that ``taken`` has as an attribute is free only if this registry has it."""
    owner, what = type(module).__name__, _REGISTRIES[registry]
    kind = {"_parameters": Parameter, "_buffers": Tensor, "_modules": Module}[registry]
    if registry not in module.__dict__:
        raise AttributeError(f"{owner}: call super().__init__() before setting {name!r}")
    if not isinstance(name, str):
        raise TypeError(f"{owner}: the name of a {what} must be a string, got {name!r} ({type(name).__name__})")
    if not name or "." in name:
        raise KeyError(f"{owner}: {name!r} cannot name a {what}: dots join names, so a name has none and is not empty")
    if name not in module.__dict__[registry] and hasattr(taken, name):
        raise KeyError(f"{owner}: {name!r} is an attribute already, so it cannot name a {what}")
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{owner}: {what} {name!r} must be a {kind.__name__} or None, got {describe(value)}")
    if isinstance(value, Module) and any(inner is module for inner in value.modules()):
        raise ValueError(f"{owner}: module {name!r} contains this one, which would then be inside itself")


def _member(module: Module, registry: str, name: str, target: str) -> Any:
    """What a module has registered under a name, which is the last part of ``target``."""
    members = {key: value for key, value in module.__dict__[registry].items() if value is not None}
    if name not in members:
        what = _REGISTRIES[registry]
        raise AttributeError(
            f"no {what} {target!r}: {type(module).__name__} has no {what} {name!r}; it has: {', '.join(members) or 'none'}"
        )
    return members[name]


def _parsed(target: tuple[Any, ...], device: Any, dtype: Any) -> tuple[str | None, Any]:
    """The device and the dtype that `Module.to` was asked for, checked."""
    devices, dtypes = [device], [dtype]
    for value in target:
        if isinstance(value, Tensor):
            devices.append(value.device)
            dtypes.append(value.dtype)
        else:
            (devices if isinstance(value, str) and value not in np.sctypeDict else dtypes).append(value)
    devices, dtypes = ([value for value in values if value is not None] for values in (devices, dtypes))
    if max(len(devices), len(dtypes)) != 1:
        raise UnsupportedError(f"to: one device, one floating dtype or one of each is needed, got devices {devices} and dtypes {dtypes}")
    try:
        dtype = np.dtype(dtypes[0]) if dtypes else None
    except TypeError as error:
        raise DTypeError(f"to: a device or a floating dtype is needed, got {dtypes[0]!r}") from error
    if dtype is not None and dtype.kind != "f":
        raise DTypeError(f"to: parameters can be cast to a floating dtype only, got {dtype}")
    return parse_device(devices[0]) if devices else None, dtype


def _moved(tensor: Tensor, device: str | None, dtype: Any) -> Tensor:
    cast = tensor if dtype is None or tensor.dtype.kind != "f" else tensor.to(dtype)
    return cast if device is None else cast.to(device)
