"""A real switch for tests: ovsdb-server and ovs-vswitchd as direct children, ended by their process ids.

Its datapath is OVS's dummy: OpenFlow is the real thing and packets go nowhere, so that it needs neither root nor
a namespace and makes no device.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.adapters.ovsdb_server import OvsdbServer, within_ten_seconds


class VSwitchd:
    """The switch of *rundir*. It may be killed, started again, stopped and continued."""

    def __init__(self, rundir: Path) -> None:
        self.rundir = rundir
        self.database = OvsdbServer(rundir)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it has done what the database wants."""
        self._process = subprocess.Popen(
            [
                "ovs-vswitchd",
                "-vconsole:off",
                self.database.remote,
                "--enable-dummy=override",
                "--disable-system",
                f"--unixctl={self.rundir / 'vswitchd.ctl'}",
                f"--log-file={self.rundir / 'vswitchd.log'}",
                "--no-chdir",
            ],
            env=os.environ | {"OVS_RUNDIR": str(self.rundir)},
        )
        for bridge in self.vsctl("list-br").split():
            within_ten_seconds(lambda bridge=bridge: self._answers(bridge), f"{bridge} answers")

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def add_bridge(self, bridge: str, *ports: str) -> None:
        """Make *bridge*; *ports* get the numbers from 1."""
        words = ["add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=dummy", "fail_mode=secure"]
        for number, port in enumerate(ports, 1):
            words += ["--", "add-port", bridge, port]
            words += ["--", "set", "interface", port, "type=dummy", f"ofport_request={number}"]
        self.vsctl("--timeout=10", *words)

    def vsctl(self, *words: str) -> str:
        """ovs-vsctl, which waits until the switch has followed."""
        return _said("ovs-vsctl", f"--db={self.database.remote}", *words)

    def ofctl(self, command: str, bridge: str, *words: str) -> str:
        """ovs-ofctl, as an operator would use it."""
        socket = f"unix:{self.rundir / bridge}.mgmt"
        return _said("ovs-ofctl", "--no-names", "--no-stats", "-O", "OpenFlow15", command, socket, *words)

    def flows(self, bridge: str, *match: str) -> list[str]:
        """Return the flows as they are printed, in an order of their own."""
        return sorted(line.strip() for line in self.ofctl("dump-flows", bridge, *match).splitlines())

    def groups(self, bridge: str) -> list[str]:
        """Return the groups as they are printed, in an order of their own."""
        printed = self.ofctl("dump-groups", bridge).splitlines()
        return sorted(line.strip() for line in printed if "group_id=" in line)

    def _answers(self, bridge: str) -> bool:
        command = ["ovs-ofctl", "-O", "OpenFlow15", "dump-groups", f"unix:{self.rundir / bridge}.mgmt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def a_switch(rundir: Path) -> Iterator[VSwitchd]:
    """A running switch without bridges."""
    switch = VSwitchd(rundir)
    try:
        switch.database.start()
        switch.start()
        yield switch
    finally:
        switch.kill()
        switch.database.kill()


def children(command: str = "ovs-ofctl") -> list[int]:
    """The process ids of this process's children of that name, whether they run or wait to be reaped."""
    threads = Path("/proc/self/task").iterdir()
    pids = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    return [pid for pid in pids if name_of(pid) == command]


def name_of(pid: int) -> str | None:
    """The name of the program that *pid* runs, None when there is no such process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return None


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout
