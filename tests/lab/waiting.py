"""Waiting for a condition, with a limit.

Whoever waits for the world says what for, and how long; what does not come in time is an error by that name.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.lab.failures import NotInTime

T = TypeVar("T")

POLL_SECONDS = 0.005


def eventually(condition: Callable[[], T | None], timeout: float, what: str | Callable[[], str]) -> T:
    """Return the first true value of *condition*; raise NotInTime, naming *what*, when none comes in time.

    What *condition* raises goes up at once. *what* may be a function, to tell the last state seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if late:
            raise NotInTime(what if isinstance(what, str) else what(), timeout)
        time.sleep(POLL_SECONDS)
