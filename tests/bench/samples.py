"""Durations, and what is said of them: p50, p95, the longest, how many."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Samples:
    """Seconds, measured one after another."""

    seconds: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Samples":
        return cls(tuple(sorted(seconds)))

    @property
    def p50(self) -> float:
        return self._percentile(50)

    @property
    def p95(self) -> float:
        return self._percentile(95)

    def row(self) -> str:
        """Return p50, p95 and the longest in milliseconds, and the count."""
        figures = (self.p50, self.p95, max(self.seconds))
        return "".join(f"{1000 * figure:10.2f}" for figure in figures) + f"{len(self.seconds):8d}"

    def _percentile(self, percent: int) -> float:
        if len(self.seconds) == 1:
            return self.seconds[0]
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


HEADING = f"{'milliseconds':<44}{'p50':>10}{'p95':>10}{'max':>10}{'n':>8}"


def line(name: str, samples: Samples) -> str:
    """Return a line of the table under `HEADING`."""
    return f"{name:<44}{samples.row()}"
