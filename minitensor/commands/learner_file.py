"""A learner's function, named by where it is defined: ``FILE.py:FUNCTION``, ``NOTEBOOK.ipynb:FUNCTION``, or the file alone."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from minitensor.autograd import Function
from minitensor.commands.inputs import BadInput
from minitensor.commands.user_code import executed
from minitensor.nn.diagnosis.learner import raised

SUFFIXES = (".py", ".ipynb")


class LearnerFile(NamedTuple):
    """The functions that a file holds."""

    backward: Any
    forward: Callable[..., Any] | None


def file_and_name(spec: str) -> tuple[Path, str]:
    """The file and the function, '' where the file stands alone; raises `BadInput` for what is neither.

    >>> file_and_name("hw/layers.py:backward")[1], file_and_name("hw.ipynb")[1]
    ('backward', '')
    """
    file, _, name = (spec, "", "") if spec.endswith(SUFFIXES) else spec.rpartition(":")
    if not file.endswith(SUFFIXES):
        raise BadInput(f"{spec}: FILE.py:FUNCTION or NOTEBOOK.ipynb:FUNCTION is needed, such as hw.py:backward")
    return Path(file), name


def load(spec: str, forward: str | None = None) -> LearnerFile:
    """Run the file and find the function, and its forward: the one named, else of the same name with forward for backward, if any.

    Raises `BadInput` with one line, whatever the file does.
    """
    path, name = file_and_name(spec)
    try:
        module = executed(path)
    except (Exception, SystemExit) as error:
        raise error if isinstance(error, BadInput) else BadInput(f"{path} cannot be run: {raised(error)}") from error
    name = name or _only(path, module)
    backward = _found(path, module, name)
    if forward is not None:
        return LearnerFile(backward, _found(path, module, forward))
    stem, middle, _ = name.rpartition("backward")
    likely = [name.replace("backward", "forward"), f"{stem}forward"] if middle else []  # the second for batchnorm_backward_alt
    return LearnerFile(backward, next((getattr(module, each) for each in likely if hasattr(module, each)), None))


def _gradients(module: ModuleType) -> list[str]:
    """Names of the functions in the file that may be a backward pass: those called so, else all."""
    kinds = (FunctionType, type)
    own = {name: value for name, value in vars(module).items() if isinstance(value, kinds) and value.__module__ == module.__name__}
    classes = [name for name, value in own.items() if isinstance(value, type) and issubclass(value, Function)]
    functions = [name for name, value in own.items() if isinstance(value, FunctionType)]
    return classes + [name for name in functions if "backward" in name.lower()] or functions


def _only(path: Path, module: ModuleType) -> str:
    names = _gradients(module)
    if len(names) != 1:
        told = f"{len(names)} that may be meant, {', '.join(names)}" if names else "none"
        raise BadInput(f"{path}: say which function is meant, as {path}:FUNCTION; the file holds {told}")
    return names[0]


def _found(path: Path, module: ModuleType, name: str) -> Any:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        near = difflib.get_close_matches(name, vars(module), n=1)
        hint = f"did you mean {near[0]}?" if near else f"it holds {', '.join(_gradients(module)) or 'no function'}"
        raise BadInput(f"{path} has no {name}; {hint}") from None
