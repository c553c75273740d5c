"""What a judge says of one line: right, wrong, or that it cannot tell."""

from __future__ import annotations

from dataclasses import dataclass

RIGHT, WRONG, NOT_JUDGED = "right", "WRONG", "not judged"


@dataclass(frozen=True)
class Row:
    """What one judge says of one line.

    ``part`` is ``"edge"``, ``"closed form"`` or ``"double backward"``, and ``name`` the line: ``"q -> c"``, ``"closed form of x"`` or
    ``"double backward: x"``. ``error`` is the largest difference from the truth, relative to the largest value of the truth and of the
    adjoint that the rule was given; None where there are no numbers. The ``verdict`` is ``"right"``, ``"WRONG"`` or ``"not judged"``.
    """

    part: str
    name: str
    judge: str
    error: float | None
    verdict: str
    reason: str = ""


class Wrong(Exception):
    """The line is wrong, and why."""

    def __init__(self, reason: str, error: float | None = None) -> None:
        super().__init__(reason)
        self.error = error


class NotJudged(Exception):
    """This judge cannot tell, and why."""


def told(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
