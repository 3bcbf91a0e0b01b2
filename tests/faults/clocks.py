"""Clocks that are apart, and are stepped while all runs: nothing is decided by them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage
from tests.lab import eventually

ROWS = Rows("The clock")
fault = ROWS.fault

OFFSETS = ("5", "-5", "0")
"""Hours."""
STEPS = ("-24", "24", "-720")
SEEN_SECONDS = 5.0


@fault(
    "hours apart, and stepped by days while a port moves from host to host",
    flows=None,
    elsewhere=None,
    within=20,
)
def stepped(stage: Stage) -> Story:
    with _clocks(stage) as clocks:
        stage.until_converged(20)
        port, place = stage.plug(stage.hv, "10.0.9.1/16"), stage.hv
        for clock, step, new in zip(clocks, STEPS, (stage.second, stage.third, stage.hv), strict=True):
            _set(clock, step)
            stage.site.plug(new, port)
            stage.unplug(place, port)
            place = new
            seen = f"{port.mac} is on {place.name}, for all"
            eventually(lambda at=place.name: _places(stage, port.mac) == {at}, SEEN_SECONDS, seen)  # type: ignore[misc]
        stage.unplug(place, port)
    yield


@contextmanager
def _clocks(stage: Stage) -> Iterator[list[Path]]:
    """Run agents with clocks of their own, set by what is written into their files; then the others again."""
    usual, clocks = dict(stage.site.agents), []
    for (name, agent), offset in zip(usual.items(), OFFSETS, strict=True):
        clock = stage.site.lab.state / f"{name}.clock"
        _set(clock, offset)
        clocks.append(clock)
        agent.stop()
        command = (sys.executable, "-m", "tests.lab.clocked", str(clock), "run")
        stage.site.agents[name] = stage.site.lab.agent(agent.hypervisor, command)
        stage.site.agents[name].start()
    try:
        yield clocks
    finally:
        for name, agent in usual.items():
            stage.site.agents[name].stop()
            stage.site.agents[name] = agent
            agent.start()


def _set(clock: Path, hours: str) -> None:
    """Whoever reads the clock sees the old time or the new one, and never an empty file."""
    new = clock.with_suffix(".new")
    new.write_text(hours)
    new.replace(clock)


def _places(stage: Stage, mac: str) -> set[str]:
    """Return the hosts on which the hypervisors see a station."""
    rows = (row for hypervisor in stage.site.hypervisors for row in stage.ask(hypervisor, "fdb"))
    return {str(row["host"]) for row in rows if row["mac"] == mac}
