"""OVN on the lab's hypervisors, for comparison: databases and northd beside the broker, a controller on each host.

Nothing of it is the system's: own sockets, files and processes, which end with the lab.
"""

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tests.lab import shell
from tests.lab.failures import LabError
from tests.lab.hypervisor import Hypervisor
from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process
from tests.lab.underlay import BROKER

T = TypeVar("T")

SCHEMAS = Path("/usr/share/ovn")
SOUTHBOUND_PORT = 6642
START_SECONDS = 20.0
SYNC_SECONDS = 120
AT_ONCE = 2_000
"""Rows a command: an argument list has its bound."""


@dataclass(frozen=True)
class Binding:
    """What the flows of all hosts call a logical port: its own number, in the network of that number."""

    port: int
    datapath: int


class Ovn:
    """OVN, with Geneve; it needs Debian's packages ovn-central and ovn-host."""

    def __init__(self, children: Children, center: Namespace, hypervisors: Sequence[Hypervisor]) -> None:
        self._directory = children.directory / "ovn"
        self._directory.mkdir()
        self._hypervisors = hypervisors
        southbound = "--remote=db:OVN_Southbound,SB_Global,connections"
        self._databases = [
            self._daemon(children, center, name, "ovsdb-server", str(self._directory / f"{name}.db"), *remotes)
            for name, remotes in (("nb", [self._remote("nb")]), ("sb", [self._remote("sb"), southbound]))
        ]
        databases = [f"--ovnnb-db=unix:{self._socket('nb')}", f"--ovnsb-db=unix:{self._socket('sb')}"]
        self.northd = self._daemon(children, center, "northd", "ovn-northd", *databases)
        self.controllers = [
            self._daemon(
                *(children, hypervisor.namespace, hypervisor.name, "ovn-controller", f"unix:{hypervisor.db}"),
                rundir=hypervisor.rundir,
            )
            for hypervisor in hypervisors
        ]

    def start(self) -> None:
        """Start all of it; return when each controller has said that it has done what is wanted."""
        for name in ("nb", "sb"):
            database, schema = self._directory / f"{name}.db", SCHEMAS / f"ovn-{name}.ovsschema"
            if not schema.exists():
                raise LabError(f"there is no {schema}: please `.ci/setup peers`, which installs Debian's OVN")
            shell.run("ovsdb-tool", "create", str(database), str(schema))
        for process in self._databases:
            process.start()
        # Without probes, as large sites do it: a controller that is busy for 5 s is cut off else, and begins anew.
        place = f"ptcp:{SOUTHBOUND_PORT}:{BROKER.ipv4}"
        silence = ("--", "set", "Connection", ".", "inactivity_probe=0")
        self._tool("ovn-sbctl", "sb", "init", "--", "set-connection", place, *silence)
        self.northd.start()
        for hypervisor in self._hypervisors:
            hypervisor.create_bridge()
            settings = {
                "ovn-remote": f"tcp:{BROKER.ipv4}:{SOUTHBOUND_PORT}",
                "ovn-encap-type": "geneve",
                "ovn-encap-ip": hypervisor.ip,
                "ovn-bridge-datapath-type": "netdev",
                "ovn-remote-probe-interval": "0",
            }
            keys = [f"external_ids:{key}={json.dumps(value)}" for key, value in settings.items()]
            hypervisor.vsctl("set", "Open_vSwitch", ".", *keys)
        for process in self.controllers:
            process.start()
        self.controllers[0].until(
            lambda: len(self._rows("sb", "Chassis", "name")) == len(self._hypervisors),
            START_SECONDS,
            "every controller has introduced itself",
        )
        self.sync()

    def stop(self) -> None:
        """End it, controllers first."""
        for process in (*self.controllers, self.northd, *self._databases):
            process.kill()

    def sync(self) -> None:
        """Wait until every controller has installed all that is wanted by now."""
        self._nbctl("--wait=hv", "sync")

    def add_switch(self, name: str) -> None:
        self._nbctl("ls-add", name)

    def delete_switch(self, name: str) -> None:
        """Delete a network with its ports, and wait until it is gone everywhere."""
        self._nbctl("--wait=hv", "ls-del", name)

    def add_ports(self, switch: str, addresses: Iterable[tuple[str, str]]) -> None:
        """Make logical ports, given as (name, addresses), and wait until every controller knows them."""
        for some in _portions(addresses):
            words: list[str] = []
            for number, (name, address) in enumerate(some):
                row = [f"name={json.dumps(name)}", f"addresses={json.dumps(address)}"]
                words += ["--", f"--id=@p{number}", "create", "Logical_Switch_Port", *row]
            ports = ",".join(f"@p{number}" for number in range(len(some)))
            self._nbctl(*words, "--", "add", "Logical_Switch", switch, "ports", ports)
        self.sync()

    def delete_ports(self, names: Iterable[str]) -> None:
        """Delete logical ports, and wait until no controller knows them."""
        for some in _portions(names):
            self._nbctl(*(word for name in some for word in ("--", "lsp-del", name)))
        self.sync()

    def bindings(self, names: Iterable[str]) -> dict[str, Binding]:
        """Return the numbers of logical ports."""
        datapaths = {row[0]: row[1] for row in self._rows("sb", "Datapath_Binding", "_uuid,tunnel_key")}
        known = {row[0]: row for row in self._rows("sb", "Port_Binding", "logical_port,tunnel_key,datapath")}
        return {name: Binding(known[name][1], datapaths[known[name][2]]) for name in names}

    def add_hosts(self, ips: Mapping[str, str]) -> None:
        """Make hosts that exist in the southbound database alone, given as name → tunnel address."""
        words = (word for host, ip in ips.items() for word in ("--", "chassis-add", host, "geneve", ip))
        self._tool("ovn-sbctl", "sb", *words)

    def bind_elsewhere(self, hosts: Mapping[str, str]) -> None:
        """Have logical ports be on such hosts, given as port → host, and wait until every controller knows it."""
        # By UUID: `lsp-bind` reads all ports anew for each one, which takes minutes for 10,000.
        chassis = dict(self._rows("sb", "Chassis", "name,_uuid"))
        ports = dict(self._rows("sb", "Port_Binding", "logical_port,_uuid"))
        for some in _portions(hosts.items()):
            pairs = [(ports[port], f"chassis={chassis[host]}") for port, host in some]
            self._tool("ovn-sbctl", "sb", *(word for pair in pairs for word in ("--", "set", "Port_Binding", *pair)))
        self.sync()

    def remove_hosts(self, hosts: Iterable[str]) -> None:
        """Take away hosts that `add_hosts` has made."""
        for some in _portions(hosts):
            self._tool("ovn-sbctl", "sb", *(word for host in some for word in ("--", "chassis-del", host)))

    def _rows(self, database: str, table: str, columns: str) -> list[list[Any]]:
        text = self._tool(f"ovn-{database}ctl", database, "--format=json", f"--columns={columns}", "list", table)
        return [
            [cell[1] if isinstance(cell, list) and cell[0] == "uuid" else cell for cell in row]
            for row in json.loads(text)["data"]
        ]

    def _nbctl(self, *arguments: str) -> str:
        return self._tool("ovn-nbctl", "nb", *arguments)

    def _tool(self, program: str, database: str, *arguments: str) -> str:
        words = (program, f"--db=unix:{self._socket(database)}", f"--timeout={SYNC_SECONDS}", *arguments)
        return shell.run(*words, timeout=SYNC_SECONDS + 5)

    def _socket(self, database: str) -> Path:
        return self._directory / f"{database}.sock"

    def _remote(self, database: str) -> str:
        return f"--remote=punix:{self._socket(database)}"

    def _daemon(
        self, children: Children, place: Namespace, name: str, program: str, *arguments: str, rundir: Path | None = None
    ) -> Process:
        directory = rundir or self._directory
        log = directory / f"{program}-{name}.log"
        kinds = ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")
        options = ["--no-chdir", f"--pidfile={directory / name}.{program}.pid"]
        options += [f"--log-file={log}", "-vconsole:off", "-vsyslog:off", "-vfile:info"]
        return Process(
            children,
            f"ovn-{name}-{program}",
            [program, *arguments, *options],
            namespace=place,
            environment=os.environ | {f"{who}_{kind}": str(directory) for who in ("OVS", "OVN") for kind in kinds},
            ready=lambda process: process.until(
                lambda: _answers(directory / f"{program}.{process.pid}.ctl"), START_SECONDS, "opens its control socket"
            ),
            log=log,
        )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


def _portions(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, AT_ONCE)):
        yield some
