"""A crowd: many hosts that exist on the bus alone, each with one port, said as a real agent says it.

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
    """One host of the crowd, by its number: its tunnel address lies in 10.9.0.0/16, its MAC in 0a:00:00:00:00:00/24."""

    number: int

    @property
    def host(self) -> HostName:
        return HostName(f"far{self.number}")

    @property
    def ip(self) -> str:
        """The tunnel address."""
        return str(IPv4Address("10.9.0.0") + self.number)

    @property
    def mac(self) -> Mac:
        return Mac(f"0a:00:00:{self.number.to_bytes(3).hex(':')}")

    def claim(self, network: Network) -> Claim:
        """Return what it says of its one port."""
        port = Port(
            port_id=PortId(f"far-port-{self.number}"),
            network_id=NetworkId(network.id),
            network_type=NetworkType(network.type),
            segmentation_id=Vni(network.segmentation_id),
            mac=self.mac,
        )
        return Claim(self.host, port, IPv4Address(self.ip), Status.ACTIVE, SESSION, seq=1, revision=1)


def members(number: int, first: int = 1) -> list[Member]:
    """Return *number* hosts, counted from *first*."""
    return [Member(first + place) for place in range(number)]


def come(broker: Broker, network: Network, crowd: Iterable[Member]) -> None:
    """Let each say its port, its manifest and that it is online, all retained."""
    broker.retain(message for member in crowd for message in _words(member, network))


def go(broker: Broker, network: Network, crowd: Iterable[Member]) -> None:
    """Let each port end: its topic is cleared, and its manifest counts nothing any more."""
    broker.retain(message for member in crowd for message in _end(member, network))


def _words(member: Member, network: Network) -> Iterator[tuple[str, bytes]]:
    claim, host, network_id = member.claim(network), member.host, NetworkId(network.id)
    now = datetime.now(UTC)
    manifest = manifest_of(network_id, host, SESSION, [claim])
    status = HostStatus(host, SESSION, ONLINE, claim.tunnel_ip, network.type, "crowd", now)
    yield TOPICS.port(network_id, host, claim.port.port_id), wire.encode_event(PortAdded(claim, 1, now))
    yield TOPICS.manifest(network_id, host), wire.encode_manifest(manifest)
    yield TOPICS.host(host), wire.encode_host(status)


def _end(member: Member, network: Network) -> Iterator[tuple[str, bytes]]:
    claim, host, network_id = member.claim(network), member.host, NetworkId(network.id)
    yield TOPICS.port(network_id, host, claim.port.port_id), b""
    yield TOPICS.manifest(network_id, host), wire.encode_manifest(manifest_of(network_id, host, SESSION, []))
