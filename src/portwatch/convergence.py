"""How long news of a port took: counted for Prometheus, and the latest remembered for whoever looks now."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from portwatch.events import ClaimKey
from portwatch.metrics import STAGES, Metrics

REMEMBERED: Final = 400
"""Timings that are remembered: as many as a plot can show."""


@dataclass(frozen=True, slots=True)
class Timing:
    """News of *claim* has reached *stage* at *time*, after *seconds*."""

    time: datetime
    stage: str
    claim: ClaimKey
    seconds: float


class Convergence:
    """One agent's."""

    def __init__(self, metrics: Metrics) -> None:
        self._histograms = {stage: metrics.convergence_seconds.labels(stage) for stage in STAGES}
        self.latest: deque[Timing] = deque(maxlen=REMEMBERED)

    def observe(self, timing: Timing) -> None:
        """A piece of news has reached a stage."""
        self._histograms[timing.stage].observe(timing.seconds)
        self.latest.append(timing)
