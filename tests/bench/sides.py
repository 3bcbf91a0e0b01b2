"""Systems that are measured beside each other, each on hypervisors of its own: what differs is here, and only here.

Both are plugged into by the same hands, by one transaction in OVSDB, and both are looked at by the same eyes: the
flow monitor of the other host's switch.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.bench.ports import Plugger, plugger
from tests.bench.sightings import Sightings, by_vlan, sightings
from tests.bench.stage import agents
from tests.lab import Binding, Lab, Network, Ovn, Port, crowd
from tests.lab.crowd import Member


class Side(ABC):
    """One system on two hypervisors: ports come on the first, entries on the second."""

    name: str
    bridge: str
    """Where it forwards to other hosts."""
    hands: Plugger
    far_hands: Plugger
    far: Sightings

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @abstractmethod
    async def found(self, network: Network, others: Sequence[Member]) -> None:
        """Make a network, and let *others*, hosts that are not there otherwise, have ports in it."""

    @abstractmethod
    async def close(self, network: Network, others: Sequence[Member]) -> None:
        """Undo `found`, when our own ports are gone."""

    @abstractmethod
    async def introduce(self, ports: Sequence[Port]) -> None:
        """Do what somebody central does before ports may come, and wait until every host has heard of it."""

    @abstractmethod
    async def dismiss(self, ports: Sequence[Port]) -> None:
        """Undo `introduce`, when the ports have gone."""

    @abstractmethod
    def station(self, text: str) -> str | None:
        """Return the MAC to which a flow forwards, over a tunnel; None of any other flow."""


class Portwatch(Side):
    """An agent on each hypervisor and a broker; a port needs nobody's word before it comes."""

    name = "portwatch"
    bridge = "br-tun"

    async def found(self, network: Network, others: Sequence[Member]) -> None:
        await asyncio.to_thread(crowd.come, self.lab.broker, network, others)

    async def close(self, network: Network, others: Sequence[Member]) -> None:
        await asyncio.to_thread(crowd.go, self.lab.broker, network, others)

    async def introduce(self, ports: Sequence[Port]) -> None:
        """Nothing: all that is needed comes with the port."""

    async def dismiss(self, ports: Sequence[Port]) -> None:
        """Nothing."""

    def station(self, text: str) -> str | None:
        return by_vlan(text)


class Peer(Side):
    """OVN: logical ports exist before their interfaces come, as an orchestrator sees to it."""

    name = "OVN"
    bridge = "br-int"

    def __init__(self, lab: Lab, ovn: Ovn) -> None:
        super().__init__(lab)
        self._ovn = ovn
        self._macs: dict[Binding, str] = {}

    async def found(self, network: Network, others: Sequence[Member]) -> None:
        named = {f"{network.id}-{mac}": mac for member in others for mac in member.macs}
        await asyncio.to_thread(self._found, network, others, named)

    def _found(self, network: Network, others: Sequence[Member], named: Mapping[str, str]) -> None:
        self._ovn.add_switch(network.id)
        if not others:
            return
        self._ovn.add_ports(network.id, named.items())
        self._know(named)
        self._ovn.add_hosts({f"far{member.number}": member.ip for member in others})
        hosts = {f"{network.id}-{mac}": f"far{member.number}" for member in others for mac in member.macs}
        self._ovn.bind_elsewhere(hosts)

    async def close(self, network: Network, others: Sequence[Member]) -> None:
        await asyncio.to_thread(self._ovn.delete_switch, network.id)
        await asyncio.to_thread(self._ovn.remove_hosts, [f"far{member.number}" for member in others])
        await asyncio.to_thread(self._ovn.sync)

    async def introduce(self, ports: Sequence[Port]) -> None:
        await asyncio.to_thread(self._introduce, ports)

    def _introduce(self, ports: Sequence[Port]) -> None:
        by_network: dict[str, list[Port]] = {}
        for port in ports:
            assert port.network is not None
            by_network.setdefault(port.network.id, []).append(port)
        for network, some in by_network.items():
            self._ovn.add_ports(network, [(port.id, " ".join((port.mac, *port.fixed_ips))) for port in some])
        self._know({port.id: port.mac for port in ports})

    async def dismiss(self, ports: Sequence[Port]) -> None:
        await asyncio.to_thread(self._ovn.delete_ports, [port.id for port in ports])

    def _know(self, macs: Mapping[str, str]) -> None:
        self._macs |= {binding: macs[name] for name, binding in self._ovn.bindings(macs).items()}

    def station(self, text: str) -> str | None:
        # The lookup of the MAC stands since the logical port exists; what comes with its interface is this.
        if "tun_id" in text and "output:" in text and (found := _OUT.match(text)):
            return self._macs.get(Binding(int(found[1], 16), int(found[2], 16)))
        return None


_OUT = re.compile(r"reg15=(0x[0-9a-f]+),metadata=(0x[0-9a-f]+) ")


@asynccontextmanager
async def sides(*, peers: bool) -> AsyncIterator[list[Side]]:
    """Set up portwatch and, with *peers*, OVN, each with two hypervisors; both stand until the end."""
    async with AsyncExitStack() as stack:
        lab = stack.enter_context(Lab(2))
        stack.enter_context(agents(lab))
        found: list[Side] = [Portwatch(lab)]
        if peers:
            lab = stack.enter_context(Lab(2, broker=False))
            ovn = lab.ovn()
            stack.callback(ovn.stop)
            ovn.start()
            found.append(Peer(lab, ovn))
        for side in found:
            here, elsewhere = side.lab.hypervisors
            side.hands = await stack.enter_async_context(plugger(here))
            side.far_hands = await stack.enter_async_context(plugger(elsewhere))
            side.far = await stack.enter_async_context(sightings(elsewhere, side.bridge, side.station))
        yield found
