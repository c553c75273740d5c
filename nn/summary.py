"""The summary of a module: what is inside, what comes out of each part, and how many numbers it holds."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minitensor import Tensor, no_grad
from minitensor.creation import default_generator
from minitensor.errors import describe
from minitensor.tables import Table

if TYPE_CHECKING:
    from .module import Module


@dataclass(frozen=True)
class Row:
    """One module: its dotted name, class, the shapes that came out of it, and its own parameters, those that no row above has.

    ``shared`` counts the elements of its parameters that a row above has.
    """

    name: str
    kind: str
    output: str
    parameters: int
    shared: int


@dataclass(frozen=True, repr=False)
class Summary:
    """What `Module.summary` found; prints as a table and shows itself in a notebook.

    ``parameters``, ``trainable`` and ``buffers`` count elements, ``bytes`` those of both; what is shared counts once.
    """

    title: str
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    buffers: int
    bytes: int

    def table(self, indent: str = "  ") -> Table:
        """The rows as strings, the names indented."""
        cells = []
        for row in self.rows:
            path = row.name.split(".") if row.name else []
            shared = f" (+{row.shared:,} shared)" if row.shared else ""
            cells.append((indent * len(path) + (path[-1] if path else row.kind), row.kind, row.output, f"{row.parameters:,}{shared}"))
        return Table(self.title, ("module", "class", "output shape", "parameters"), cells)

    def totals(self) -> str:
        """The totals in one line."""
        return f"{self.parameters:,} parameters, {self.trainable:,} trainable; {self.buffers:,} in buffers; {self.bytes:,} bytes"

    def __str__(self) -> str:
        return f"{self.table()}\n{self.totals()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        indent = "\u2003"  # a wide space: HTML drops common ones
        return f"{self.table(indent).to_html()}<p>{self.totals()}</p>"


def summarize(module: Module, inputs: tuple[Any, ...]) -> Summary:
    """`Module.summary`, which documents it."""
    trial = module._copied().eval()
    shapes: dict[Module, list[str]] = {}
    title = type(module).__name__
    if inputs:
        given = _inputs(trial, inputs)
        title += f" on {', '.join(map(describe, given))}"
        _let_go_of_hooks(trial)
        for each in trial.modules():
            each.register_forward_hook(lambda each, args, output: shapes.setdefault(each, []).append(_shape(output)))
        with no_grad(), _random_numbers_put_back():
            trial(*given)
    parameters, buffers = list(trial.parameters()), list(trial.buffers())
    return Summary(
        title,
        tuple(_rows(trial, shapes)),
        sum(parameter.size for parameter in parameters),
        sum(parameter.size for parameter in parameters if parameter.requires_grad),
        sum(buffer.size for buffer in buffers),
        sum(tensor.size * tensor.dtype.itemsize for tensor in [*parameters, *buffers]),
    )


def _rows(trial: Module, shapes: Mapping[Module, list[str]]) -> Iterator[Row]:
    above: set[int] = set()
    for name, module in trial.named_modules(remove_duplicate=False):
        own = {id(parameter): parameter.size for parameter in module.parameters(recurse=False)}
        shared = sum(size for key, size in own.items() if key in above)
        above |= own.keys()
        # a module that is called several times may give several shapes
        yield Row(name, type(module).__name__, " or ".join(dict.fromkeys(shapes.get(module, []))), sum(own.values()) - shared, shared)


def _inputs(module: Module, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Tensors as they are, arrays as Tensors, and for a shape random numbers of the module's dtype, on its device."""
    like = next((tensor for tensor in [*module.parameters(), *module.buffers()] if tensor.dtype.kind == "f"), Tensor(0.0))
    rng = np.random.default_rng(0)  # local, so that the user's random numbers go on as they would have
    made = []
    for i, value in enumerate(inputs):
        if isinstance(value, Tensor) or hasattr(value, "__array_function__"):
            made.append(value if isinstance(value, Tensor) else Tensor(value))
            continue
        try:
            made.append(Tensor(rng.standard_normal(tuple(map(operator.index, value))), like.dtype, like.device))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"summary: input {i} must be a Tensor, an array, or a shape such as (8, 3, 32, 32), got {value!r} ({type(value).__name__})"
            ) from error
    return made


def _let_go_of_hooks(trial: Module) -> None:
    """Take the hooks away that would reach out of the copy: all but methods of the modules in it, which were copied with them."""
    inside = {id(module) for module in trial.modules()}
    for module in trial.modules():
        for key, hook in list(module._module_hooks.items()):
            if id(getattr(hook.function, "__self__", None)) not in inside:
                del module._module_hooks[key]


def _shape(output: Any) -> str:
    if isinstance(output, Mapping):
        return ", ".join(f"{name}: {_shape(value)}" for name, value in output.items())
    if isinstance(output, (tuple, list)):
        return ", ".join(map(_shape, output))
    return str(output.shape) if isinstance(output, Tensor) else type(output).__name__


@contextmanager
def _random_numbers_put_back() -> Iterator[None]:
    """A forward that draws leaves the package's random numbers as they were."""
    generator = default_generator().bit_generator
    before = generator.state
    try:
        yield
    finally:
        generator.state = before
