"""The log: one line an event, with fields, to standard error. What repeats is told a few times, and then counted."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from portwatch.config import Config

REPEATS: Final = 5
"""Lines of one warning, or one error, that go through in each `WITHIN` seconds: a storm must not fill the disk."""
WITHIN: Final = 10.0
RESTRAINED: Final = frozenset({"warning", "error"})
"""Levels that repeat while something is wrong: exceptions are logged as errors. What is info happens once."""


def log_to_stderr(config: Config) -> None:
    """Set up structlog as the configuration says."""
    console = config.log.format == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            Restraint(time.monotonic),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            in_order,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.log.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Let a line begin with when, how bad and what: whoever reads raw lines looks there first."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return {**first, **event}


class Restraint:
    """Holds back what repeats, by its words: they are constants, so there are few. `held_back` tells how often."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}
        """Since when, and how often since."""

    def __call__(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        """Let the event pass, or drop it: a processor of structlog's."""
        if level not in RESTRAINED:
            return event
        words, now = str(event["event"]), self._clock()
        since, times = self._told.get(words, (now, 0))
        if now - since >= WITHIN:
            if times > REPEATS:
                event["held_back"] = times - REPEATS
            since, times = now, 0
        self._told[words] = (since, times + 1)
        if times >= REPEATS:
            raise structlog.DropEvent
        return event


class Seldom:
    """Lets what anybody on the bus can bring about, refused messages say, be logged once in *every* seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self._every = every
        self._logged: dict[str, tuple[float, int]] = {}

    def unsaid(self, what: str) -> int | None:
        """Return how often *what* was not logged since the last time, if it is to be logged now; else None."""
        clock = time.monotonic()
        last, unsaid = self._logged.get(what, (-self._every, 0))
        if clock - last < self._every:
            self._logged[what] = (last, unsaid + 1)
            return None
        self._logged[what] = (clock, 0)
        return unsaid
