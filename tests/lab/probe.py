"""Pings: a few and their result, or many in the background and the gaps between their answers."""

import re
import signal
import time
from dataclasses import dataclass
from itertools import pairwise

from tests.lab import shell
from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process

REPLY = re.compile(r"\[(?P<time>[\d.]+)\] \d+ bytes from .* icmp_seq=(?P<sequence>\d+)(?!.*DUP)")
DUPLICATE = re.compile(r"\[[\d.]+\] \d+ bytes from .*\(DUP!\)$")
SUMMARY = re.compile(r"(?P<sent>\d+) packets transmitted, (?P<received>\d+) received(?:, \+(?P<more>\d+) dup)?")
UNREACHABLE = 1  # ping's status without any answer
NO_ROUTE = 2


@dataclass(frozen=True)
class PingResult:
    """How many pings went out, and how many came back."""

    sent: int
    received: int
    duplicates: int = 0

    @property
    def ok(self) -> bool:
        """Every ping was answered, and once."""
        return self.sent > 0 and self.received == self.sent and not self.duplicates


@dataclass(frozen=True)
class Gap:
    """A time without answers, between two moments (seconds since the epoch)."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class ProbeResult:
    """What a high-rate probe saw; *lost* are the unanswered sequence numbers before the last answered one."""

    sent: int
    received: int
    duplicates: int
    lost: tuple[int, ...]
    longest_gap: Gap
    answered: tuple[float, ...] = ()
    """When each answer came, in seconds since the epoch."""


class Probe:
    """A running ping, many times a second."""

    def __init__(self, children: Children, namespace: Namespace, address: str, interval: float) -> None:
        argv = ["ping", "-n", "-D", "-i", f"{interval:g}", address]
        name = children.unique(f"{namespace.name}-ping")
        self._process = Process(children, name, argv, namespace=namespace)
        self._started = time.time()
        self._process.start()

    def answers(self) -> int:
        """Return how many answers have come up to now."""
        return sum(1 for line in self._process.output.all() if REPLY.match(line))

    def stop(self) -> ProbeResult:
        """End it and return what it saw."""
        self._process.stop(signal.SIGINT)
        return probe_result(self._process.output.all(), self._started, time.time())


def ping(namespace: Namespace, address: str, count: int, interval: float, timeout: float) -> PingResult:
    """Ping, and wait for the answers; no route is no answer."""
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", f"{interval:g}", "-W", f"{timeout:g}", address]
    limit = count * interval + timeout + shell.COMMAND_SECONDS
    output = shell.run(*argv, namespace=namespace.name, timeout=limit, accept=(0, UNREACHABLE, NO_ROUTE))
    summary = SUMMARY.search(output)
    if summary is None:
        return PingResult(sent=0, received=0)
    return PingResult(int(summary["sent"]), int(summary["received"]), int(summary["more"] or 0))


def probe_result(lines: list[str], started: float, ended: float) -> ProbeResult:
    """Read ping's output; a gap may also lie before the first answer or after the last."""
    replies = {int(reply["sequence"]): float(reply["time"]) for reply in map(REPLY.match, lines) if reply}
    gaps = [Gap(before, after) for before, after in pairwise([started, *sorted(replies.values()), ended])]
    summary = next(filter(None, map(SUMMARY.search, lines)), None)
    last = max(replies, default=0)
    return ProbeResult(
        sent=int(summary["sent"]) if summary else last,
        received=len(replies),
        duplicates=sum(1 for line in lines if DUPLICATE.match(line)),
        lost=tuple(number for number in range(1, last) if number not in replies),
        longest_gap=max(gaps, key=lambda gap: gap.seconds),
        answered=tuple(sorted(replies.values())),
    )
