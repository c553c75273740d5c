"""Containers: modules in a row, in a list, in a dict. As ``torch.nn.Sequential``, ``ModuleList`` and ``ModuleDict``."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from itertools import groupby
from typing import Any, Self, overload

from minitensor.errors import describe

from .module import Module


class _Numbered(Module):
    """What `Sequential` and `ModuleList` share: modules that an index reaches and that are named ``"0"``, ``"1"``, ..."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # None stands only where somebody put it

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._part(index) if isinstance(index, slice) else self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.register_module(self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        for name in list(self._modules)[index] if isinstance(index, slice) else [self._name(index)]:
            del self._modules[name]
        self._number(list(self))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def append(self, module: Module) -> Self:
        """Put a module at the end; returns itself."""
        if str(len(self)) in self._modules:  # a slice keeps the names that its modules had
            self._number(list(self))
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Put several modules at the end; returns itself."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}: several modules are needed, got {describe(modules)}; append takes one")
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before the one with this index and number all anew; returns itself."""
        if not -len(self) <= operator.index(index) <= len(self):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range, it has {len(self)} modules")
        modules = list(self)
        modules.insert(index, module)
        self.append(module)  # refuses what cannot be a module of this one
        self._number(modules)
        return self

    def pop(self, key: int | slice = -1) -> Module:
        """Take one module out and return it, or several as a container; what is left is numbered anew."""
        taken = self[key]
        del self[key]
        return taken

    def _name(self, index: int) -> str:
        try:
            return list(self._modules)[operator.index(index)]
        except IndexError:
            raise IndexError(f"{type(self).__name__}: index {index} is out of range, it has {len(self)} modules") from None

    def _part(self, part: slice) -> Self:
        return type(self)(list(self)[part])  # type: ignore[call-arg]  # as ModuleList takes them; Sequential has its own

    def _number(self, modules: list[Module]) -> None:
        self._modules.clear()
        self._modules.update((str(i), module) for i, module in enumerate(modules))

    def _children_shown(self) -> Iterator[tuple[str, str]]:
        """Equal neighbours on one line, unless they have names: ``(0-2): 3 x Linear(...)``."""
        for _, group in groupby(super()._children_shown(), key=lambda child: child[1] if child[0].isdigit() else child):
            (first, shown), *others = group
            yield (f"{first}-{others[-1][0]}", f"{1 + len(others)} x {shown}") if others else (first, shown)


class Sequential(_Numbered):
    """y = f_n(... f_2(f_1(x))): modules one behind the other, ``Sequential(f_1, ..., f_n)``.

    A dict of modules, such as an OrderedDict, names them; otherwise they are ``"0"``, ``"1"``, ... It can be indexed, also by slices, which
    keep the names; ``append``, ``extend``, ``insert``, ``pop``, ``del`` and ``+`` work as on a list. Where positions change, all are
    numbered anew. Without modules it is the identity. `TypeError` for what is no Module. As ``torch.nn.Sequential``.

    >>> class Double(Module):
    ...     def forward(self, x):
    ...         return 2 * x
    >>> model = Sequential(Double(), Double(), Double())
    >>> model(1.0), model[1:](1.0)
    (8.0, 4.0)
    >>> model
    Sequential(
      (0-2): 3 x Double()
    )
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        only = modules[0] if len(modules) == 1 else None
        if isinstance(only, (list, tuple)):
            raise TypeError("Sequential takes modules one by one: Sequential(*modules)")
        named = only if isinstance(only, Mapping) and not isinstance(only, Module) else {str(i): each for i, each in enumerate(modules)}
        for name, module in named.items():
            self.register_module(name, module)  # type: ignore[arg-type]  # which refuses what is no Module

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        for module in self:
            input = module(input)
        return input

    def register_module(self, name: str, module: Module | None) -> None:
        """As `Module.register_module`, but None, which cannot be called, is refused with a `TypeError`."""
        if module is None:
            raise TypeError(f"{type(self).__name__}: module {name!r} must be a Module, got None")
        super().register_module(name, module)

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise TypeError(f"Sequential + {describe(other)}: a Sequential is needed; Sequential(*modules) makes one")
        return Sequential(*self, *other)

    def _part(self, part: slice) -> Self:
        return type(self)(dict(list(self._modules.items())[part]))


class ModuleList(_Numbered):
    """Modules in a list, registered, without a forward of its own.

    It can be indexed, also by slices, and has ``append``, ``extend``, ``insert``, ``pop``, ``del``, ``+`` and ``in``; the names are always
    ``"0"``, ``"1"``, ... `TypeError` for what is neither a Module nor None. As ``torch.nn.ModuleList``.

    >>> layers = ModuleList([Sequential(), Sequential()])
    >>> len(layers.append(ModuleDict())), layers[-1]
    (3, ModuleDict())
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend([] if modules is None else modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])


class ModuleDict(Module, MutableMapping[str, Module]):
    """Modules in a dict, registered, without a forward of its own; in the order in which they were put in.

    ``ModuleDict(modules)`` takes a mapping or pairs of a name and a module; the methods are a dict's. `TypeError` for what is neither a
    Module nor None, `KeyError` for a name that is empty, has a dot in it, or is an attribute (``"keys"``). As ``torch.nn.ModuleDict``.

    >>> heads = ModuleDict({"mean": Sequential()})
    >>> heads["scale"] = Sequential()
    >>> list(heads), "scale" in heads
    (['mean', 'scale'], True)
    """

    _modules: dict[str, Module]  # type: ignore[assignment]  # None stands only where somebody put it
    __eq__, __hash__ = object.__eq__, object.__hash__  # two mappings with the same entries are two modules

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update({} if modules is None else modules)

    def __getitem__(self, key: str) -> Module:
        try:
            return self._modules[key]
        except KeyError:
            raise KeyError(f"ModuleDict: no module {key!r}; it has: {', '.join(self) or 'none'}") from None

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        self[key]  # raises for a name that is not there
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def popitem(self) -> tuple[str, Module]:
        """Take the last name and module out and return them, as a dict does; `KeyError` when there is none."""
        return self._modules.popitem()
