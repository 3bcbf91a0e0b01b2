"""What was measured, and how it is said: a table for people, JSON for programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any


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

    def _percentile(self, percent: int) -> float:
        if len(self.seconds) == 1:
            return self.seconds[0]
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Row:
    """A line of the report: durations, one figure with its unit, or a ratio; what is asked of it, too."""

    name: str
    samples: Samples | None = None
    figure: float | None = None
    unit: str = ""
    ratio: float | None = None
    bound: float | None = None
    """Above this the run has failed: generous, for a busy machine must not fail for its neighbours' sake."""
    goal: float | None = None
    """What we want of the ratio or the figure, at most, on a quiet machine; a run that misses it has not failed."""
    series: str = ""
    """The line of a plot to which the durations or the figure belong, *size* being where on it."""
    size: int = 0

    @property
    def fails(self) -> bool:
        return self.bound is not None and self.ratio is not None and self.ratio > self.bound

    @property
    def value(self) -> float:
        """The ratio or the figure; of durations the median, in seconds."""
        if self.samples is not None:
            return self.samples.p50
        value = self.ratio if self.ratio is not None else self.figure
        assert value is not None
        return value

    @property
    def said(self) -> str:
        """The ratio or the figure, in words."""
        return f"× {self.ratio:.2f}" if self.ratio is not None else f"{self.value:,.2f} {self.unit}"

    def cells(self) -> tuple[str, ...]:
        """Return the row's four columns."""
        if self.samples is not None:
            times = (self.samples.p50, self.samples.p95, max(self.samples.seconds))
            return (*(f"{1000 * each:.2f}" for each in times), str(len(self.samples.seconds)))
        wanted = f"goal ≤ {self.goal:g}" if self.goal is not None else ""
        return (self.said, "", wanted, f"≤ {self.bound:g}" if self.bound is not None else "")

    def json(self) -> dict[str, Any]:
        """Return the row for programs: times in seconds, without what it has not."""
        plain: dict[str, Any] = {"name": self.name}
        if self.samples is not None:
            longest = max(self.samples.seconds)
            plain |= {"p50": self.samples.p50, "p95": self.samples.p95, "max": longest}
            plain["seconds"] = [round(each, 6) for each in self.samples.seconds]
        plain |= {key: value for key in _PLAIN if (value := getattr(self, key)) not in {None, ""}}
        return plain | ({"size": self.size} if self.series else {})

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "Row":
        """Return what `json` was made of."""
        samples = Samples.of(plain["seconds"]) if "seconds" in plain else None
        others = {key: plain[key] for key in (*_PLAIN, "size") if key in plain}
        return cls(plain["name"], samples, **others)


_PLAIN = ("figure", "unit", "ratio", "bound", "goal", "series")


def table(title: str, rows: Sequence[Row]) -> str:
    """Return a table of Markdown, lined up to be read as it is."""
    lines = [(f"{title} (milliseconds)", "p50", "p95", "max", "n"), *((row.name, *row.cells()) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    cells = [
        "| "
        + line[0].ljust(widths[0])
        + "".join(f" | {each:>{width}}" for each, width in zip(line[1:], widths[1:], strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join((cells[0], rule, *cells[1:]))


def say(words: str) -> None:
    """Tell who waits what is going on."""
    print(f"  … {words}", flush=True)
