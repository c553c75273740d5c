"""Whether operations are recorded, and whether they are watched: switches per thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, Self, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True
    anomaly = False
    usual = True  # enabled and not anomaly: one look for the many operations that find both so

    def __init__(self) -> None:
        # Stacks per thread, because one decorator object serves recursive calls and many threads
        self.before: dict[str, list[bool]] = {"enabled": [], "anomaly": []}

    def set(self, field: str, value: bool) -> None:
        setattr(self, field, value)
        self.usual = self.enabled and not self.anomaly


mode = _Mode()


class _Switch(ContextDecorator):
    field = "enabled"
    value = True

    def __enter__(self) -> None:
        mode.before[self.field].append(getattr(mode, self.field))
        mode.set(self.field, self.value)

    def __exit__(self, *error: object) -> None:
        mode.set(self.field, mode.before[self.field].pop())

    def __call__(self, function: _F) -> _F:
        if not isgeneratorfunction(function):
            return super().__call__(function)

        @wraps(function)
        def resumed(*args: Any, **params: Any) -> Any:
            """A generator runs when it is asked for a value: the switch is thrown at every step, not at the call."""
            steps, sent = function(*args, **params), None
            while True:
                with self:
                    try:
                        value = steps.send(sent)
                    except StopIteration as end:
                        return end.value
                sent = yield value

        return resumed  # type: ignore[return-value]


class _Plain(_Switch):
    @overload
    def __new__(cls) -> Self: ...
    @overload
    def __new__(cls, function: _F) -> _F: ...  # type: ignore[misc]
    def __new__(cls, function: Any = None) -> Any:
        switch = super().__new__(cls)
        return switch if function is None else switch(function)  # @no_grad is @no_grad()


class no_grad(_Plain):
    """Do not record: ``with mt.no_grad(): ...`` or ``@mt.no_grad()``, per thread.

    >>> import minitensor as mt
    >>> x = mt.tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (2 * x).requires_grad
    False
    """

    value = False


class enable_grad(_Plain):
    """Record again inside `no_grad`."""


class set_grad_enabled(_Switch):
    """Record or not, as ``enabled`` says: as a call from now on, as ``with set_grad_enabled(enabled): ...`` or as a decorator for a while.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    >>> is_grad_enabled()
    True
    """

    def __init__(self, enabled: bool) -> None:
        self.value = bool(enabled)
        self._outside: bool | None = mode.enabled
        mode.set("enabled", self.value)  # a plain call needs no more

    def __enter__(self) -> None:
        self._undo()
        super().__enter__()

    def __call__(self, function: _F) -> _F:
        self._undo()
        return super().__call__(function)

    def _undo(self) -> None:
        if self._outside is not None:
            mode.set("enabled", self._outside)
            self._outside = None


class detect_anomaly(_Plain):
    """Stop at the operation whose backward first gives nan or inf, and name the line of your program that called it.

    The line is noted while operations are recorded, so the forward pass belongs into the context too. Every operation becomes slower.
    Raises `GraphError` from the walk. As ``torch.autograd.detect_anomaly``.

    >>> import numpy as np, minitensor as mt
    >>> x = mt.tensor([0.0], requires_grad=True)
    >>> with detect_anomaly(), np.errstate(divide="ignore"):
    ...     np.sqrt(x).backward()
    Traceback (most recent call last):
    minitensor.errors.GraphError: ...
    """

    field = "anomaly"


def is_grad_enabled() -> bool:
    """Whether operations are being recorded on this thread."""
    return mode.enabled
