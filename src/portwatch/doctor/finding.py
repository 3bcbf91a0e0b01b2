"""A finding: what is wrong, what it means, what to do.

A `fault` stops something from working; a `warning` will, or may.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SHOWN: Final = 5
"""Of many things of one kind, so many are named."""


class Severity(StrEnum):
    FAULT = "fault"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    name: str
    severity: Severity
    what: str
    means: str
    todo: str


FAULT, WARNING = Severity.FAULT, Severity.WARNING


def some(names: Sequence[str]) -> str:
    """Return *names* for people: not all, if they are many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
