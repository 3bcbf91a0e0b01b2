"""Three hypervisors with portwatch on each, for a whole session; every test begins and ends with none of its ports."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from portwatch.fabric.purpose import is_ours
from portwatch.openflow import parse
from portwatch.openflow.flow import Item
from tests.lab import Agent, Hypervisor, Keys, Lab, Network, Nic, Port, Vm, eventually

BRIDGES = ("br-int", "br-tun")


@dataclass
class Site:
    """The lab as one test sees it: what it plugs is remembered, and unplugged when it ends."""

    lab: Lab
    agents: dict[str, Agent]
    plugged: list[tuple[Hypervisor, Nic | Port]] = field(default_factory=list)

    @property
    def hypervisors(self) -> tuple[Hypervisor, ...]:
        return self.lab.hypervisors

    def network(self, name: str = "net", vni: int | None = None) -> Network:
        """Return a network that no other test has."""
        _COUNT["networks"] += 1
        number = _COUNT["networks"]
        return Network(f"{name}-{number}", vni or 1000 + number)

    def guest(
        self, hypervisor: Hypervisor, network: Network, *addresses: str, keys: Keys | None = None, **options: Any
    ) -> tuple[Vm, Nic]:
        """Plug a new VM with one card into *network*."""
        _COUNT["guests"] += 1
        number = _COUNT["guests"]
        vm = self.lab.vm(f"g{number}")
        nic = vm.nic(f"port-{number}", self.lab.mac(), addresses, network, **options)
        self.plug(hypervisor, nic, keys)
        return vm, nic

    def plug(self, hypervisor: Hypervisor, port: Nic | Port, keys: Keys | None = None, **options: Any) -> None:
        hypervisor.plug(port, keys, **options)
        self.plugged.append((hypervisor, port))

    def unplug(self, hypervisor: Hypervisor, port: Nic | Port) -> None:
        self.plugged.remove((hypervisor, port))
        hypervisor.unplug(port)

    def ask(self, hypervisor: Hypervisor, path: str) -> Any:
        """Return what an agent answers under /v1."""
        status, body = self.agents[hypervisor.name].http_get(f"/v1/{path}")
        assert status == 200, body
        return json.loads(body)

    def command(
        self, hypervisor: Hypervisor, *arguments: str, status: int = 0, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a `portwatch` command on a hypervisor, beside its agent; it ends with *status*."""
        place = f"--net=/run/netns/{hypervisor.namespace.name}"
        ended = subprocess.run(
            ["nsenter", place, sys.executable, "-m", "portwatch", *arguments],
            env=self.agents[hypervisor.name].environment | environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended

    def port(self, hypervisor: Hypervisor, port: Nic | Port) -> dict[str, Any] | None:
        """Return a port as its agent shows it."""
        port_id = port.port.id if isinstance(port, Nic) else port.id
        return next((row for row in self.ask(hypervisor, "ports") if row["port_id"] == port_id), None)

    def wait_active(self, hypervisor: Hypervisor, port: Nic | Port) -> dict[str, Any]:
        """Wait until a port is ACTIVE where it is plugged."""
        row: dict[str, Any] | None = None

        def active() -> bool:
            nonlocal row
            row = self.port(hypervisor, port)
            return row is not None and row["status"] == "ACTIVE"

        eventually(active, 5, f"{port} is ACTIVE on {hypervisor.name}")
        assert row is not None
        return row

    def wait_known(self, hypervisor: Hypervisor, mac: str, host: Hypervisor | None) -> None:
        """Wait until *hypervisor* forwards a MAC to *host*, or, with None, has no entry for it."""

        def known() -> bool:
            found = [row["host"] for row in self.ask(hypervisor, "fdb") if row["mac"] == mac]
            return found == ([host.name] if host else []) and self.ask(hypervisor, "audit")["settled"]

        eventually(known, 5, f"{hypervisor.name} forwards {mac} to {host.name if host else 'nobody'}")

    def check(self) -> None:
        """What must hold after every test: increments equal a full recompute; the switch holds what is wanted."""
        for hypervisor in self.hypervisors:
            agent = self.agents[hypervisor.name]
            if not agent.process.running:
                continue

            audit: dict[str, Any] = {}

            def quiet(hypervisor: Hypervisor = hypervisor, audit: dict[str, Any] = audit) -> bool:
                audit.update(self.ask(hypervisor, "audit"))
                return bool(audit["settled"] and not audit["spared"])

            def words(hypervisor: Hypervisor = hypervisor, audit: dict[str, Any] = audit) -> str:
                networks = self.ask(hypervisor, "networks")
                return f"{hypervisor.name} owes its switch nothing; it says {audit} of {networks}"

            eventually(quiet, 10, words)
            assert self.ask(hypervisor, "audit")["recompute_differs"] == []
            for bridge in BRIDGES:
                assert self.wanted(hypervisor, bridge) == self.held(hypervisor, bridge), f"{hypervisor.name} {bridge}"

    def wanted(self, hypervisor: Hypervisor, bridge: str) -> list[str]:
        """Return our flows and groups as the agent tells them."""
        return sorted(row["text"] for row in self.ask(hypervisor, "flows") if row["bridge"] == bridge)

    def held(self, hypervisor: Hypervisor, bridge: str) -> list[str]:
        """Return our flows and groups as the switch itself tells them."""
        items: list[Item] = [
            *parse.flows("\n".join(hypervisor.dump_flows(bridge))),
            *parse.groups("\n".join(hypervisor.dump_groups(bridge))),
        ]
        return sorted(item.text() for item in items if is_ours(item))

    def foreign(self, hypervisor: Hypervisor, bridge: str) -> list[str]:
        """Return the flows that are not portwatch's, as the switch tells them."""
        return sorted(line for line in hypervisor.dump_flows(bridge) if "cookie=0x7077" not in line)

    def clear(self) -> None:
        """Unplug what the test has plugged."""
        for hypervisor, port in reversed(self.plugged):
            hypervisor.unplug(port)
        self.plugged.clear()


_COUNT = {"networks": 0, "guests": 0}


@pytest.fixture(scope="session")
def running() -> Iterator[Site]:
    with Lab(3) as lab:
        agents = {hypervisor.name: lab.agent(hypervisor) for hypervisor in lab.hypervisors}
        for agent in agents.values():
            agent.start()
        for agent in agents.values():
            agent.wait_ready()
        yield Site(lab, agents)
        for agent in agents.values():
            if agent.process.running:
                assert agent.stop() == 0


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """Lend out the session's lab, and look afterwards whether all is as it should be."""
    yield running
    running.check()
    running.clear()
    for hypervisor in running.hypervisors:
        if running.agents[hypervisor.name].process.running:
            eventually(
                lambda hypervisor=hypervisor: not running.ask(hypervisor, "ports"),  # type: ignore[misc]
                5,
                f"{hypervisor.name} has no port left",
            )
    running.check()
