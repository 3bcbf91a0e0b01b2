"""A hypervisor's own Open vSwitch: ovsdb-server, ovs-vswitchd (userspace datapath), and tools to ask them.

Laid out as packages do it: `db.sock`, pid files, control sockets, `<bridge>.mgmt` lie in one run directory.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from tests.lab import shell
from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
START_SECONDS = 20.0
COMMAND_SECONDS = 20

Value = str | int | float | bool | list["Value"] | dict[str, "Value"]


class OpenVSwitch:
    """Two daemons in one namespace; *started* is called each time ovs-vswitchd has come up."""

    def __init__(self, name: str, namespace: Namespace, children: Children, started: Callable[[], None]) -> None:
        self.rundir = children.directory / name
        self.rundir.mkdir()
        self.db = self.rundir / "db.sock"
        self._started = started
        self._database = database = self.rundir / "conf.db"
        self._environment = os.environ | {
            f"OVS_{kind}": str(self.rundir) for kind in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")
        }
        self.ovsdb_server = Process(
            children,
            f"{name}-ovsdb-server",
            ["ovsdb-server", str(database), f"--remote=punix:{self.db}", *self._options("ovsdb-server")],
            namespace=namespace,
            environment=self._environment,
            ready=self._wait_for_database,
            log=self.rundir / "ovsdb-server.log",
        )
        self.vswitchd = Process(
            children,
            f"{name}-ovs-vswitchd",
            ["ovs-vswitchd", f"unix:{self.db}", *self._options("ovs-vswitchd")],
            namespace=namespace,
            environment=self._environment,
            ready=self._wait_for_switch,
            log=self.rundir / "ovs-vswitchd.log",
        )

    def make_database(self, template: Path) -> None:
        """Begin with an empty database, copied from *template*."""
        shutil.copy(template, self._database)

    def vsctl(self, *arguments: str) -> str:
        return self._tool("ovs-vsctl", f"--db=unix:{self.db}", f"--timeout={COMMAND_SECONDS}", *arguments)

    def ofctl(self, *arguments: str, stdin: str = "") -> str:
        return self._tool("ovs-ofctl", f"--timeout={COMMAND_SECONDS}", *arguments, stdin=stdin)

    def appctl(self, *arguments: str, target: str = "ovs-vswitchd") -> str:
        return self._tool("ovs-appctl", f"--timeout={COMMAND_SECONDS}", f"--target={target}", *arguments)

    def row(self, table: str, name: str) -> dict[str, Value] | None:
        """Return one row, column by column (maps as dicts, sets as lists, an unset column as []); or None."""
        text = self.vsctl("--format=json", "--if-exists", "list", table, name)
        answer = json.loads(text) if text.strip() else {"data": []}
        return {
            column: _value(cell)
            for cells in answer["data"]
            for column, cell in zip(answer["headings"], cells, strict=True)
        } or None

    def _tool(self, *argv: str, stdin: str = "") -> str:
        # OVS's sockets are files, so its tools need not enter the namespace
        return shell.run(*argv, stdin=stdin, environment=self._environment, timeout=COMMAND_SECONDS + 5)

    def _options(self, daemon: str) -> list[str]:
        log = self.rundir / f"{daemon}.log"
        return [
            "--no-chdir",
            "--pidfile",
            f"--log-file={log}",
            "-vconsole:off",
            "-vsyslog:off",
            "-vfile:info",
        ]

    def _wait_for_database(self, process: Process) -> None:
        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                try:
                    connection.connect(str(self.db))
                    connection.sendall(b'{"id": 0, "method": "echo", "params": []}')
                    return bool(connection.recv(1))
                except OSError:
                    return False

        process.until(answers, START_SECONDS, "answers on its socket")

    def _wait_for_switch(self, process: Process) -> None:
        control = self.rundir / f"ovs-vswitchd.{process.pid}.ctl"
        process.until(control.exists, START_SECONDS, "opens its control socket")
        # A write lets ovs-vsctl wait until vswitchd has configured everything up to it; a new pid is a write.
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:lab-vswitchd-pid={process.pid}")
        self._started()


def make_template(path: Path) -> None:
    """Write an empty database, to be copied: quicker than making each anew."""
    shell.run("ovsdb-tool", "create", str(path), str(SCHEMA))


def _value(cell: object) -> Value:
    match cell:
        case ["map", list(pairs)]:
            return {str(_value(key)): _value(value) for key, value in pairs}
        case ["set", list(items)]:
            return [_value(item) for item in items]
        case ["uuid", str(uuid)]:
            return uuid
        case str() | int() | float():
            return cell
    raise TypeError(f"no OVSDB value: {cell!r}")
