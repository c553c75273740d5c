"""Whether operations are recorded: a switch per thread."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator


class _GradMode(threading.local):
    enabled = True

    def __init__(self) -> None:
        self.before: list[bool] = []  # a stack per thread, because one decorator object serves recursive calls and many threads


mode = _GradMode()


class _Switch(ContextDecorator):
    enabled: bool

    def __enter__(self) -> None:
        mode.before.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *error: object) -> None:
        mode.enabled = mode.before.pop()


class no_grad(_Switch):
    """Do not record: ``with mt.no_grad(): ...`` or ``@mt.no_grad()``, per thread.

    >>> import minitensor as mt
    >>> x = mt.tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (2 * x).requires_grad
    False
    """

    enabled = False


class enable_grad(_Switch):
    """Record again inside `no_grad`."""

    enabled = True


def is_grad_enabled() -> bool:
    """Whether operations are being recorded on this thread."""
    return mode.enabled
