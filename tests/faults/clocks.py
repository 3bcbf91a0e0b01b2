"""Clocks that are apart, and are stepped while all runs: nothing is decided by them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage
from tests.lab import Agent, eventually

ROWS = Rows("The clock")
fault = ROWS.fault

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
OFFSETS = ("+5h", "-5h", "+0")
STEPS = ("-1d", "+1d", "-30d")
SEEN_SECONDS = 5.0


@fault("hours apart, and stepped by days while a port moves from host to host", flows=None, elsewhere=None, within=20)
def stepped(stage: Stage) -> Story:
    with _clocks(stage.agents) as clocks:
        for agent, clock, offset in zip(stage.agents, clocks, OFFSETS, strict=True):
            clock.write_text(offset)
            agent.restart()
        stage.until_converged(20)
        port, place = stage.plug(stage.hv, "10.0.9.1/16"), stage.hv
        for clock, step, new in zip(clocks, STEPS, (stage.second, stage.third, stage.hv), strict=True):
            clock.write_text(step)
            stage.site.plug(new, port)
            stage.unplug(place, port)
            place = new
            seen = f"{port.mac} is on {place.name}, for all"
            eventually(lambda at=place.name: _places(stage, port.mac) == {at}, SEEN_SECONDS, seen)  # type: ignore[misc]
        yield
    stage.until_converged(20)


@contextmanager
def _clocks(agents: list[Agent]) -> Iterator[list[Path]]:
    """Give each agent a clock of its own, to be set by what is written into its file; take them away again."""
    assert LIBRARIES, "Debian's libfaketime is installed by `make setup`"
    clocks = []
    for agent in agents:
        clock = agent.process.errors.path.with_suffix(".clock")
        clock.write_text("+0")
        clocks.append(clock)
        agent.environment |= {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    try:
        yield clocks
    finally:
        for agent in agents:
            for name in [name for name in agent.environment if name == "LD_PRELOAD" or name.startswith("FAKETIME")]:
                del agent.environment[name]
            agent.restart()


def _places(stage: Stage, mac: str) -> set[str]:
    """Return the hosts on which the hypervisors see a station."""
    rows = (row for hypervisor in stage.site.hypervisors for row in stage.ask(hypervisor, "fdb"))
    return {str(row["host"]) for row in rows if row["mac"] == mac}
