"""What most benchmarks stand on: portwatch on every hypervisor of a lab, ready, and what its process costs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import Agent, Lab

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def agents(lab: Lab) -> Iterator[list[Agent]]:
    """Run portwatch on each hypervisor, logging as in production."""
    running = [lab.agent(hypervisor, environment={"PORTWATCH_LOG__LEVEL": "info"}) for hypervisor in lab.hypervisors]
    for agent in running:
        agent.start()
    for agent in running:
        agent.wait_ready()
    yield running
    for agent in running:
        agent.stop()


@dataclass(frozen=True)
class Cost:
    """What a process has used: seconds of CPU, its finished children's included, and the bytes that it holds."""

    cpu: float
    memory: int

    @classmethod
    def of(cls, pid: int) -> "Cost":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes = int(status.partition("VmRSS:")[2].split()[0])
        return cls(sum(map(int, fields[11:15])) / _TICKS, 1024 * kilobytes)
