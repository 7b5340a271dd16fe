"""What a command gives back, and how it refuses its input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CommandError", "CommandResult"]


class CommandError(ValueError):
    """Input that a command cannot work with; the message says what to change."""


@dataclass(frozen=True)
class CommandResult:
    """Outcome of a command.

    Attributes:
        verdict: one sentence, printed last.
        passed: exit code 0 or 1.
        report: content of the JSON file.
        text: printed before the verdict.
    """

    verdict: str
    passed: bool = True
    report: dict[str, Any] = field(default_factory=dict)
    text: str = ""
