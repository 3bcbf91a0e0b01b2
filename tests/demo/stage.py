"""What the steps share: the lab and its agents, the guests, the observers, the screen, and what was proved."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.demo.moments import Moments
from tests.demo.news import News
from tests.demo.proofs import NotSo, Proofs
from tests.demo.screen import Screen
from tests.demo.tenants import COMPUTE, Guest, tenant_of
from tests.lab import Agent, Capture, Dnsmasq, Hypervisor, Lab, Nic, Vm


@dataclass
class Stage:
    """One run of the demo."""

    lab: Lab
    screen: Screen
    proofs: Proofs
    news: News
    agents: dict[str, Agent]
    moments: dict[str, Moments] = field(default_factory=dict)
    nics: dict[str, Nic] = field(default_factory=dict)  # by port
    places: dict[str, str] = field(default_factory=dict)  # port → the host on which it is plugged
    captures: dict[str, Capture] = field(default_factory=dict)  # by port
    servers: dict[str, Dnsmasq] = field(default_factory=dict)  # by guest

    def host(self, name: str) -> Hypervisor:
        return next(hypervisor for hypervisor in self.lab.hypervisors if hypervisor.name == name)

    def vm(self, guest: Guest) -> Vm:
        return self.lab.vms[guest.name]

    def mac(self, guest: Guest) -> str:
        """Return the MAC of a guest's first card."""
        return self.nics[guest.card.port].port.mac

    def make(self, *guests: Guest) -> None:
        """Make guests with their cards, unplugged, and record from now on every frame on each card.

        A service has its addresses from the start; a VM will get its own by DHCP.
        """
        for guest in guests:
            vm = self.lab.vm(guest.name, router=len(guest.cards) > 1)
            for card in guest.cards:
                self.nics[card.port] = vm.nic(
                    card.port,
                    self.lab.mac(),
                    (f"{card.address}/24",),
                    card.network,
                    device_owner=card.owner,
                    configure=card.owner != COMPUTE,
                )
        with ThreadPoolExecutor(len(self.nics)) as together:
            captures = together.map(lambda nic: nic.vm.capture(device=nic.name), self.nics.values())
        self.captures = dict(zip(self.nics, captures, strict=True))

    def others(self, port: str) -> list[str]:
        """Return the other hosts on which the network of *port* has a port."""
        network = self.nics[port].port.network
        there = {host for other, host in self.places.items() if self.nics[other].port.network == network}
        return sorted(there - {self.places[port]})

    def sources(self, tenant: str) -> set[str]:
        """Return the MACs of a tenant."""
        return {nic.port.mac for port, nic in self.nics.items() if tenant_of(port) == tenant}

    def ask(self, host: str, question: str) -> list[dict[str, Any]]:
        """Return what the agent of *host* answers to `GET /v1/…`."""
        status, body = self.agents[host].http_get(f"/v1/{question}")
        if status != 200:
            raise NotSo(f"portwatch on {host} answers {status} to /v1/{question}: {body}")
        answer: list[dict[str, Any]] = json.loads(body)
        return answer
