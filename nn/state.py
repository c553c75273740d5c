"""State dicts: the values of a Module by dotted name, written and read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minitensor import Tensor
from minitensor.arrays import Array, device_of, imported_array, new_array, to_device
from minitensor.errors import StateDictError, describe

from .parameter import rebind

if TYPE_CHECKING:
    from .module import Module

SHOWN = 20  # of one kind in a message; strict=False returns all names


class StateDict(OrderedDict[str, Tensor]):
    """The values of a module by dotted name; ``_metadata`` tells every module's ``_version`` by its path: ``{"conv": {"version": 1}}``."""

    def __init__(self, *items: Any, **named: Any) -> None:
        super().__init__(*items, **named)
        self._metadata: dict[str, dict[str, Any]] = {}


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` did not find, and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not (self.missing_keys or self.unexpected_keys):
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def save(module: Module, destination: Any, prefix: str, keep_vars: bool) -> Any:
    """`Module.state_dict`, which documents it."""
    destination = StateDict() if destination is None else destination
    if hasattr(destination, "_metadata"):
        destination._metadata[prefix.removesuffix(".")] = {"version": module._version}
    for name, tensor in _own(module):
        destination[prefix + name] = tensor if keep_vars else tensor.detach()
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    return destination


def load(module: Module, state: Any, strict: bool, assign: bool) -> IncompatibleKeys:
    """`Module.load_state_dict`, which documents it."""
    who = f"load_state_dict of {type(module).__name__}"
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise TypeError(f"{who}: a dict of names and arrays is needed, got {_told(state)}")
    given, versions = dict(state), getattr(state, "_metadata", None) or {}
    with _put_back_on_error(module):
        problems = _adapted(module, given, versions, "")
        own = dict(_all(module, ""))
        missing, unexpected = [name for name in own if name not in given], [name for name in given if name not in own]
        arrays: dict[str, Array] = {}
        for name in (name for name in own if name in given):
            try:
                arrays[name] = _fitting(given[name], own[name], assign)
            except (TypeError, ValueError, RuntimeError, BufferError) as error:
                problems.append(f"{name!r}: {error}")
        names = _wrong_names(missing, unexpected) if strict else []
        if names or problems:
            fixes = _likely_fixes(own, state, only_names=not problems)
            raise StateDictError("\n  ".join([f"{who}: nothing was changed, because", *names, *_first(problems, str), *fixes]))
    for name, array in arrays.items():
        rebind(own[name], array)
        if assign:
            own[name].grad = None
    return IncompatibleKeys(missing, unexpected)


def _own(module: Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and the persistent buffers of a module without its children."""
    yield from ((name, parameter) for name, parameter in module._parameters.items() if parameter is not None)
    yield from ((name, buffer) for name, buffer in module._buffers.items() if buffer is not None and name not in module._non_persistent)


def _all(module: Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    yield from ((prefix + name, tensor) for name, tensor in _own(module))
    for name, child in module._modules.items():
        if child is not None:
            yield from _all(child, f"{prefix}{name}.")


def _adapted(module: Module, given: dict[str, Any], versions: Mapping[str, Any], prefix: str) -> list[str]:
    """Let every module edit the state, parents first; the problems that they report."""
    version = versions.get(prefix.removesuffix("."), {}).get("version")
    problems = list(module._adapt_state(given, prefix, version))
    for name, child in module._modules.items():
        if child is not None:
            problems += _adapted(child, given, versions, f"{prefix}{name}.")
    return problems


@contextmanager
def _put_back_on_error(module: Module) -> Iterator[None]:
    """What a module may do to adapt is undone in place if the block raises: attributes, registrations, what lazy ones become."""
    modules, tensors = list(module.modules()), [*module.parameters(), *module.buffers()]
    kinds = [(each, type(each)) for each in (*modules, *tensors)]
    values = [(tensor, tensor._array, tensor._grad, tensor._node) for tensor in tensors]
    dicts = [(d, d.copy()) for each in modules for d in (vars(each), *vars(each).values()) if isinstance(d, dict)]
    try:
        yield
    except BaseException:
        for each, kind in kinds:
            each.__class__ = kind
        for tensor, array, grad, node in values:
            tensor._array, tensor._grad, tensor._node = array, grad, node
        for d, content in dicts:
            d.clear()
            d.update(content)
        raise


def _fitting(value: Any, own: Tensor, assign: bool) -> Array:
    """A copy of a given value, of the module's dtype and device unless it is to be assigned; an error that says why not."""
    array = _array(value)
    if array.shape != own.shape:
        raise ValueError(f"shape {own.shape} here, {array.shape} given")
    if assign:
        if own.requires_grad and array.dtype.kind != "f":
            raise ValueError(f"requires grad, which {array.dtype} cannot")
        return array
    if not np.can_cast(array.dtype, own.dtype, "same_kind"):
        raise ValueError(f"{own.dtype} here, and {array.dtype} given, which does not fit into it")
    return to_device(array.astype(own.dtype, copy=False), own.device)


def _array(value: Any) -> Array:
    """A copy of a given value as an array, where it lives."""
    array = value.detach() if hasattr(value, "detach") else value  # a Tensor of ours or of PyTorch
    try:
        if isinstance(array, Tensor):
            array = array._array
        elif not hasattr(array, "__array_function__"):
            # np.array keeps Python floats as they are, new_array would round them to the default dtype
            array = imported_array(array) if hasattr(array, "__dlpack__") else np.array(array)
        return new_array(array, device=device_of(array))
    except TypeError as error:
        raise TypeError(f"{_told(value)} cannot be read as an array: {error}") from error


def _told(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, Mapping) else describe(value)


def _wrong_names(missing: list[str], unexpected: list[str]) -> list[str]:
    def guessed(name: str) -> str:
        near = get_close_matches(name, missing, 1)
        return f"{name!r} (did you mean {near[0]!r}?)" if near else repr(name)

    lines = {"missing": _first(missing, repr), "unexpected": _first(unexpected, guessed)}
    return [f"{what}: {', '.join(names)}" for what, names in lines.items() if names]


def _first(told: list[str], show: Callable[[str], str]) -> list[str]:
    """As many as one can read, and how many more there are."""
    return [*map(show, told[:SHOWN]), *([f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else [])]


def _likely_fixes(own: Mapping[str, Any], given: Mapping[str, Any], only_names: bool) -> list[str]:
    fitting = len(own.keys() & given.keys())
    for name, value in given.items():
        if isinstance(value, Mapping) and name not in own:
            return [f"the values stand one level deeper: load_state_dict(state[{name!r}])"]
    if not fitting:
        if prefix := _prefix(given, own):
            whose = ", as DataParallel writes them" if prefix == "module." else ""
            stripped = f"{{name.removeprefix({prefix!r}): value for name, value in state.items()}}"
            return [f"every name begins with {prefix!r}{whose}: load_state_dict({stripped})"]
        if prefix := _prefix(own, given):
            return [f"the names lack {prefix!r}: get_submodule({prefix.removesuffix('.')!r}).load_state_dict(state)"]
    return [f"strict=False takes over the {fitting} that fit and leaves the rest as it is"] if only_names and fitting else []


def _prefix(names: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What all names begin with and some are wanted without."""
    first = next(iter(names), "")
    prefixes = [first[: i + 1] for i, letter in enumerate(first) if letter == "."]
    for prefix in prefixes:
        if all(name.startswith(prefix) for name in names) and any(name.removeprefix(prefix) in wanted for name in names):
            return prefix
    return None
