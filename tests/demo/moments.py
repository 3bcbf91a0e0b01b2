"""When something happened, by Open vSwitch's own tools and not by our word.

`ovsdb-client monitor` tells when a host's database had a change, `ovs-ofctl monitor` when a switch had a flow.
Both stamp what they have read, to the millisecond, by the one clock of this machine.
"""

import csv
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

from tests.lab import Hypervisor, eventually
from tests.lab.processes import Lines

STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
RESOLUTION = 0.001
BRIDGES = ("br-int", "br-tun")
SECONDS = 10.0


@dataclass(frozen=True)
class RowChange:
    """A change of an Interface row; *action* is `insert`, `delete`, or `old` and `new`."""

    time: float
    action: str
    name: str
    keys: str


@dataclass(frozen=True)
class FlowChange:
    """A flow that came (ADDED, MODIFIED) or went (DELETED)."""

    time: float
    bridge: str
    event: str
    text: str

    def says_where(self, mac: str) -> bool:
        """Is this the programmed entry for frames to *mac*? Those that the switch learns by itself time out."""
        place = self.bridge == "br-int" or "table=20 " in self.text
        return place and f"dl_dst={mac} " in self.text and "hard_timeout" not in self.text

    def sends_to(self, address: str) -> bool:
        """Does it tunnel to *address*? Versions of ovs-ofctl write that differently."""
        return f"load:{int(IPv4Address(address)):#x}->" in self.text or f":{address}->" in self.text


class Moments:
    """What one hypervisor's observers have seen."""

    def __init__(self, host: str, directory: Path) -> None:
        self.host = host
        self._rows = Lines(directory / f"{host}-moments-ovsdb.out")
        self._replies = {bridge: Lines(directory / f"{host}-moments-{bridge}.out") for bridge in BRIDGES}
        self._flows = {bridge: Lines(directory / f"{host}-moments-{bridge}.err") for bridge in BRIDGES}

    def listening(self) -> bool:
        """Do all observers listen?"""
        return all(lines.all() for lines in (self._rows, *self._replies.values()))

    def rows(self, since: float) -> list[RowChange]:
        """Return the changes of the database since then, as far as they are known."""
        return [change for change in row_changes(self._rows.all()) if change.time > since - RESOLUTION]

    def flows(self, bridge: str, since: float) -> list[FlowChange]:
        """Return the changes of a bridge's flows since then, as far as they are known."""
        changes = flow_changes(bridge, self._flows[bridge].all())
        return [change for change in changes if change.time > since - RESOLUTION]

    def changed(self, wanted: Callable[[RowChange], bool], since: float) -> float:
        """Return when the database first had such a change after *since*; wait for it."""

        def first() -> float | None:
            changes = filter(wanted, row_changes(self._rows.all()))
            return _first(since, (change.time for change in changes))

        return eventually(first, SECONDS, f"such a change in the database of {self.host}")

    def switched(self, bridge: str, wanted: Callable[[FlowChange], bool], since: float) -> float:
        """Return when the bridge first had such a change after *since*; wait for it."""

        def first() -> float | None:
            changes = filter(wanted, flow_changes(bridge, self._flows[bridge].all()))
            return _first(since, (change.time for change in changes))

        return eventually(first, SECONDS, f"such a change on {bridge} of {self.host}")


@contextmanager
def watching(hypervisors: Iterable[Hypervisor], directory: Path) -> Iterator[dict[str, Moments]]:
    """Let observers watch each hypervisor's database and bridges; yield what they see, by host."""
    moments = {hypervisor.name: Moments(hypervisor.name, directory) for hypervisor in hypervisors}
    with ExitStack() as observers:
        for hypervisor in hypervisors:
            for name, command in _commands(hypervisor).items():
                observers.enter_context(_observer(hypervisor, directory / f"{hypervisor.name}-moments-{name}", command))
        eventually(lambda: all(each.listening() for each in moments.values()), SECONDS, "all observers listen")
        yield moments


def row_changes(lines: Iterable[str]) -> Iterator[RowChange]:
    """Read what `ovsdb-client --timestamp --format=csv monitor` prints: a time, a head, rows, an empty line."""
    time = 0.0
    for cells in csv.reader(lines):
        if len(cells) == 1 and STAMP.fullmatch(cells[0]):
            time = _seconds(cells[0])
        elif len(cells) == 4 and cells[0] != "row":
            yield RowChange(time, *cells[1:])


def flow_changes(bridge: str, lines: Iterable[str]) -> Iterator[FlowChange]:
    """Read what `ovs-ofctl --timestamp monitor` prints: a time and `reply`, then an indented line for each flow."""
    time = 0.0
    for line in lines:
        if stamp := STAMP.match(line):
            time = _seconds(stamp[0])
        elif line.startswith(" event="):
            event, _, text = line.removeprefix(" event=").partition(" ")
            yield FlowChange(time, bridge, event, text)


def _commands(hypervisor: Hypervisor) -> dict[str, list[str]]:
    database = ["ovsdb-client", "--timestamp", "--format=csv", "monitor", f"unix:{hypervisor.db}"]
    switch = ["ovs-ofctl", "--timestamp", "--no-names", "monitor"]
    commands = {bridge: [*switch, bridge, "watch:!initial"] for bridge in BRIDGES}
    return {"ovsdb": [*database, "Open_vSwitch", "Interface", "name,external_ids"], **commands}


@contextmanager
def _observer(hypervisor: Hypervisor, path: Path, command: list[str]) -> Iterator[None]:
    """Run one tool, as the lab runs its own: out of reach of the terminal's Ctrl-C, and gone when we are.

    It goes before all others to a processor, where that is allowed: a busy machine must not make its stamps late.
    """
    environment = os.environ | {"OVS_RUNDIR": str(hypervisor.rundir)}
    with path.with_suffix(".out").open("wb") as output, path.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    try:
        with suppress(PermissionError):
            os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
        yield
    finally:
        process.kill()
        process.wait()


def _first(since: float, times: Iterator[float]) -> float | None:
    return next((time for time in times if time > since - RESOLUTION), None)


def _seconds(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
