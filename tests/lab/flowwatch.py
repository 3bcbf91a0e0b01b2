"""What changes in a bridge's flow tables while one looks, by whomever: told by the switch (`ovs-ofctl monitor`)."""

from pathlib import Path

from portwatch.switch.monitor import FlowEvent, parse_event
from tests.lab.processes import Children, Process

STAND_SECONDS = 10.0
STANDING = "packet in format"  # the last thing it logs before it listens


class FlowWatch:
    """A running flow monitor. It ends with its bridge, and then tells what it had seen."""

    def __init__(self, children: Children, name: str, rundir: Path, bridge: str) -> None:
        argv = ["ovs-ofctl", "--no-names", "-O", "OpenFlow15", "--unixctl=none", "-vofctl:console:dbg"]
        argv += ["monitor", f"unix:{rundir}/{bridge}.mgmt", "watch:!initial"]
        self._process = Process(children, children.unique(f"{name}-{bridge}-watch"), argv, ready=self._wait)
        self._process.start()

    def stop(self) -> list[FlowEvent]:
        """End it, and return every change it told."""
        self._process.kill()
        return [event for event in map(parse_event, self._process.errors.all()) if event]

    def _wait(self, process: Process) -> None:
        process.until(lambda: any(STANDING in line for line in process.errors.all()), STAND_SECONDS, "listens")
