"""JSON bytes to what a message says, typed.

What is not as the contract says is `Refused`, a ValueError or one of msgspec's errors; `topics` makes one of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from msgspec import UNSET
from msgspec.json import Decoder

from portwatch.errors import Refused
from portwatch.events import EVENT_TYPES, ClaimGone, HostStatus, Manifest, PortEvent
from portwatch.model import (
    VXLAN,
    AddressPair,
    Claim,
    HostName,
    IpNetwork,
    Mac,
    NetworkId,
    NetworkType,
    Port,
    PortDetails,
    PortId,
    Status,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from portwatch.wire.messages import DetailsMessage, HostMessage, ManifestMessage, PortMessage

_NUMBER_DIGITS: Final = 18
_PORT: Final = Decoder(PortMessage)
_MANIFEST: Final = Decoder(ManifestMessage)
_HOST: Final = Decoder(HostMessage)
_DETAILS: Final = Decoder(DetailsMessage)


@dataclass(frozen=True, slots=True)
class ManifestGone:
    """The retained manifest of a host in a network was cleared."""

    network_id: NetworkId
    host: HostName


@dataclass(frozen=True, slots=True)
class HostGone:
    """The retained status of a host was cleared: an operator forgot it."""

    host: HostName


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """The details of a port, as the orchestrator has them now."""

    port_id: PortId
    details: PortDetails


@dataclass(frozen=True, slots=True)
class DirectoryRefused:
    """What stands in the directory for a port cannot be used, and why. Made by whoever meets the refusal."""

    port_id: PortId
    why: str


@dataclass(frozen=True, slots=True)
class DirectoryGone:
    """The details of a port were cleared."""

    port_id: PortId


DirectoryNews = DirectoryEntry | DirectoryRefused | DirectoryGone
News = PortEvent | ClaimGone | Manifest | ManifestGone | HostStatus | HostGone | DirectoryNews


def _endpoint(text: str | None, allowed: Iterable[IpNetwork]) -> TunnelEndpoint | None:
    if text is None:
        return None
    address = tunnel_endpoint(text)
    networks = tuple(allowed)
    if networks and not any(address in network for network in networks):
        raise Refused("endpoint-not-allowed", f"{address} is in no network of tunnel.allowed_peers")
    return address


def _utc(moment: datetime) -> datetime:
    """Return *moment* in UTC, in which we say it again: there the first and the last day of all years may not exist."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment} is no time in UTC") from None


def decode_port(
    network_id: NetworkId | None,
    host: HostName,
    port_id: PortId,
    payload: bytes,
    allowed: Iterable[IpNetwork],
) -> PortEvent | ClaimGone:
    if not payload:
        return ClaimGone((network_id, host, port_id))
    message = _PORT.decode(payload)
    data = message.data
    if (data.network_id, data.host, data.port_id) != (network_id, host, port_id):
        raise Refused("topic-mismatch", f"the payload is about {data.network_id}/{data.host}/{data.port_id}")
    network_type = VXLAN if data.network_type == VXLAN else NetworkType(data.network_type)
    port = Port(
        port_id=port_id,
        network_id=network_id,
        network_type=network_type,
        segmentation_id=None if data.segmentation_id is None else Vni(data.segmentation_id),
        mac=None if data.mac is None else Mac(data.mac),
        fixed_ips=tuple(map(fixed_ip, data.fixed_ips)),
        allowed_address_pairs=tuple(map(AddressPair.parse, data.allowed_address_pairs)),
        device_owner=data.device_owner,
        kind=data.kind,
        state=data.state,
        admin_up=data.status is not Status.DOWN,
    )
    claim = Claim(
        host=host,
        port=port,
        tunnel_ip=_endpoint(data.tunnel_ip, allowed),
        status=data.status,
        session=data.session,
        seq=data.seq,
        revision=data.revision,
        reason=None if data.reason is UNSET else data.reason,
    )
    number = message.id.rpartition("/")[2]
    known = number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS
    return EVENT_TYPES[message.type](claim, int(number) if known else 0, _utc(message.time))


def decode_manifest(network_id: NetworkId, host: HostName, payload: bytes) -> Manifest | ManifestGone:
    if not payload:
        return ManifestGone(network_id, host)
    message = _MANIFEST.decode(payload)
    if message.host != host:
        raise Refused("topic-mismatch", f"the payload is about {message.host}")
    return Manifest(network_id, host, message.session, message.count, message.digest)


def decode_host(host: HostName, payload: bytes, allowed: Iterable[IpNetwork]) -> HostStatus | HostGone:
    if not payload:
        return HostGone(host)
    message = _HOST.decode(payload)
    if message.host != host:
        raise Refused("topic-mismatch", f"the payload is about {message.host}")
    return HostStatus(
        host=host,
        session=message.session,
        state=message.state,
        tunnel_ip=_endpoint(message.tunnel_ip, allowed),
        tunnel_type=message.tunnel_type,
        version=message.version,
        started_at=None if message.started_at is None else _utc(message.started_at),
        tunnel_since=None if message.tunnel_since is None else _utc(message.tunnel_since),
    )


def decode_details(port_id: PortId, payload: bytes) -> DirectoryEntry | DirectoryGone:
    if not payload:
        return DirectoryGone(port_id)
    message = _DETAILS.decode(payload)
    if message.port_id not in (None, port_id):
        raise Refused("topic-mismatch", f"the payload is about {message.port_id}")
    details = PortDetails(
        network_id=None if message.network_id is None else NetworkId(message.network_id),
        network_type=NetworkType(message.network_type),
        segmentation_id=None if message.segmentation_id is None else Vni(message.segmentation_id),
        mac=None if message.mac is None else Mac(message.mac),
        fixed_ips=tuple(dict.fromkeys(map(fixed_ip, message.fixed_ips))),
        allowed_address_pairs=tuple(dict.fromkeys(map(AddressPair.parse, message.allowed_address_pairs))),
        device_owner=message.device_owner,
        kind=message.kind,
        admin_up=message.admin_state == "up",
    )
    return DirectoryEntry(port_id, details)
