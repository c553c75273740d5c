"""Module: a function with parameters and buffers that can be named, saved and loaded. As ``torch.nn.Module``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from minitensor import Tensor
from minitensor.errors import ShapeError, describe

from .parameter import Parameter


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` did not find, and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers: give it parameters as attributes and a ``forward``.

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

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        for registry in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, registry, {})
        self.training = True

    def forward(self, *inputs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise TypeError(f"{type(self).__name__} has no forward method: write one")

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        return self.forward(*inputs, **params)

    # -- registration -------------------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before setting {name!r}")
        kind = self._parameters if isinstance(value, Parameter) else self._modules if isinstance(value, Module) else None
        # A name keeps its room: None or a Tensor set over a registered name stays registered
        home = kind if kind is not None else next((room for room in self._rooms() if name in room), None)
        for room in self._rooms():
            if room is not home:
                room.pop(name, None)
        if home is None:
            object.__setattr__(self, name, value)
            return
        if home is self._parameters and not isinstance(value, Parameter | None):
            raise TypeError(f"{name!r} is a parameter: assign a Parameter or None, not {type(value).__name__}")
        if home is self._buffers and not isinstance(value, Tensor | None):
            raise TypeError(f"{name!r} is a buffer: assign a Tensor or None, not {type(value).__name__}")
        self.__dict__.pop(name, None)
        home[name] = value

    def __getattr__(self, name: str) -> Any:
        for room in self._rooms():
            if name in room:
                return room[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for room in self._rooms():
            if name in room:
                del room[name]
                return
        object.__delattr__(self, name)

    def _rooms(self) -> tuple[dict[str, Any], ...]:
        return tuple(self.__dict__.get(room, {}) for room in ("_parameters", "_buffers", "_modules"))

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Register a parameter, or None for one that this module does without."""
        self._parameters[name] = parameter

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Register a Tensor that is saved but not learned, such as a running mean."""
        self._buffers[name] = tensor

    # -- names --------------------------------------------------------------------------------------------------------------------

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child._walk(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name."""
        seen: set[int] = set()
        for prefix, module in self._walk():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield prefix + name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Every buffer with its dotted name."""
        for prefix, module in self._walk():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    yield prefix + name, buffer

    # -- modes --------------------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training mode for this module and all inside it; returns itself."""
        for _, module in self._walk():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """Evaluation mode: ``train(False)``."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    # -- saving -------------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """The values of parameters and buffers by dotted name, without graphs; later changes of the module do not reach them."""
        return {prefix + name: value.detach() for prefix, module in self._walk() for name, value in module._values()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take values over by name, cast to this module's dtypes and devices.

        Raises `ShapeError` (wrong shapes) or `KeyError` (with ``strict``: names missing or unexpected), naming all of them, before
        anything is changed.
        """
        own = {prefix + name: value for prefix, module in self._walk() for name, value in module._values()}
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if strict and (missing or unexpected):
            raise KeyError(
                f"load_state_dict of {type(self).__name__}: missing {missing}, unexpected {unexpected} (strict=False takes the rest over)"
            )
        given = {name: Tensor(state[name], own[name].dtype, own[name].device) for name in own if name in state}
        wrong = [
            f"{name}: {describe(own[name])} here, {describe(value)} given"
            for name, value in given.items()
            if value.shape != own[name].shape
        ]
        if wrong:
            raise ShapeError(f"load_state_dict of {type(self).__name__}: " + "; ".join(wrong))
        for name, value in given.items():
            own[name].data = value
        return IncompatibleKeys(missing, unexpected)

    def _values(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in (self._parameters | self._buffers).items() if value is not None]

    # -- showing ------------------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr: the constructor's arguments."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._modules.items()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n  ".join([f"{type(self).__name__}({self.extra_repr()}", *children]) + "\n)"
