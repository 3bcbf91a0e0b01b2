"""A crowd: many hosts that exist on the bus alone, each with some ports, said as a real agent says them.

They are published over one connection, retained: a thousand hosts in some hundred milliseconds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address

from portwatch import wire
from portwatch.events import ONLINE, HostStatus, PortAdded, manifest_of
from portwatch.model import Claim, HostName, Mac, NetworkId, NetworkType, Port, PortId, Status, Vni
from tests.lab.broker import Broker
from tests.lab.ports import Network

SESSION = "crowd"
TOPICS = wire.Topics("portwatch/v1")


@dataclass(frozen=True)
class Member:
    """One host of the crowd, by its number: its tunnel address lies in 10.9.0.0/16, its MACs in 0a:00:00:00:00:00/8."""

    number: int
    ports: int = 1
    """How many it has in each network into which it comes."""

    @property
    def host(self) -> HostName:
        return HostName(f"far{self.number}")

    @property
    def ip(self) -> str:
        """The tunnel address."""
        return str(IPv4Address("10.9.0.0") + self.number)

    @property
    def macs(self) -> list[Mac]:
        """The MACs of its ports, the same in each network."""
        places = (f"0a:{place.to_bytes(2).hex(':')}" for place in range(self.ports))
        return [Mac(f"{place}:{self.number.to_bytes(3).hex(':')}") for place in places]

    def claims(self, network: Network) -> list[Claim]:
        """Return what it says of its ports."""
        return [self._claim(network, place, mac) for place, mac in enumerate(self.macs)]

    def _claim(self, network: Network, place: int, mac: Mac) -> Claim:
        port = Port(
            port_id=PortId(f"far-port-{self.number}-{network.id}-{place}"),
            network_id=NetworkId(network.id),
            network_type=NetworkType(network.type),
            segmentation_id=Vni(network.segmentation_id),
            mac=mac,
        )
        return Claim(self.host, port, IPv4Address(self.ip), Status.ACTIVE, SESSION, seq=1, revision=1)


def members(number: int, first: int = 1, ports: int = 1) -> list[Member]:
    """Return *number* hosts, counted from *first*."""
    return [Member(first + place, ports) for place in range(number)]


def come(broker: Broker, network: Network, crowd: Iterable[Member]) -> None:
    """Let each say its port, its manifest and that it is online, all retained."""
    broker.retain(message for member in crowd for message in _words(member, network))


def go(broker: Broker, network: Network, crowd: Iterable[Member]) -> None:
    """Let each port end: its topic is cleared, and its manifest counts nothing any more."""
    broker.retain(message for member in crowd for message in _end(member, network))


def _words(member: Member, network: Network) -> Iterator[tuple[str, bytes]]:
    claims, host, network_id = member.claims(network), member.host, NetworkId(network.id)
    now = datetime.now(UTC)
    status = HostStatus(host, SESSION, ONLINE, IPv4Address(member.ip), network.type, "crowd", now)
    for claim in claims:
        yield TOPICS.port(network_id, host, claim.port.port_id), wire.encode_event(PortAdded(claim, 1, now))
    yield TOPICS.manifest(network_id, host), wire.encode_manifest(manifest_of(network_id, host, SESSION, claims))
    yield TOPICS.host(host), wire.encode_host(status)


def _end(member: Member, network: Network) -> Iterator[tuple[str, bytes]]:
    host, network_id = member.host, NetworkId(network.id)
    for claim in member.claims(network):
        yield TOPICS.port(network_id, host, claim.port.port_id), b""
    yield TOPICS.manifest(network_id, host), wire.encode_manifest(manifest_of(network_id, host, SESSION, []))
