"""Events to JSON bytes and back, topic names, digests: the published contract (docs/contract.md, section 4).

The border: what `decode` returns is typed; what is not as the contract says is `Refused` with a short reason.
Unknown fields are ignored, so that a newer peer may say more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from portwatch.errors import Refused
from portwatch.events import EVENT_TYPES, ClaimGone, HostStatus, Manifest, PortEvent
from portwatch.model import (
    SEQ_MAX,
    VXLAN,
    AddressPair,
    Claim,
    HostName,
    IpNetwork,
    Kind,
    Mac,
    NetworkId,
    NetworkType,
    Port,
    PortDetails,
    PortId,
    State,
    Status,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)

PORT_EVENT_CONTENT_TYPE: Final = "application/cloudevents+json"
JSON_CONTENT_TYPE: Final = "application/json"
PAYLOAD_MAX: Final = 64 * 1024
"""Bytes. A port event takes about 600; what is larger is not one."""
MANIFEST_EXPIRY: Final = 24 * 3600
"""Seconds that the manifest of a share that became empty stays on the broker."""

REASONS: Final = (
    "fault",
    *("foreign-topic", "too-large", "not-json", "wrong-shape", "wrong-value"),
    *("endpoint-not-allowed", "topic-mismatch", "stale"),
)
"""Why a message is refused: the labels of a metric. `stale` is for whoever holds the state to say."""

_NUMBER_DIGITS: Final = 18

_UNKNOWN_NETWORK: Final = "_"

_Count = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
_PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*(?!\n)$"
_Text = Annotated[str, Meta(max_length=256, pattern=_PRINTABLE)]
_Addresses = Annotated[tuple[_Text, ...], Meta(max_length=1024)]
_Owner = Annotated[str, Meta(max_length=255, pattern=_PRINTABLE)]
_Few = Annotated[tuple[_Text, ...], Meta(max_length=256)]
"""What is passed on in an event, with room to spare."""
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
_Moment = Annotated[datetime, Meta(tz=True)]


def _told(**schema: object) -> Meta:
    """Say in the JSON Schema what the model's own types check: they refuse by value, msgspec by shape."""
    return Meta(extra_json_schema=schema)


_Id = Annotated[str, _told(minLength=1, maxLength=128, pattern=r"^[^$/+#\x00-\x1f\x7f][^/+#\x00-\x1f\x7f]*$")]
_Mac = Annotated[str, _told(pattern="^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$", examples=["fa:16:3e:00:00:01"])]
_Ip = Annotated[str, _told(description="An IPv4 or IPv6 address.", examples=["10.0.0.5", "fd00::5"])]
_NetworkType = Annotated[str, _told(pattern="^[a-z][a-z0-9_-]{0,31}$", examples=["vxlan", "geneve", "gre"])]
_Vni = Annotated[int, _told(minimum=Vni.LOWEST, maximum=Vni.HIGHEST)]


class PortData(Struct, frozen=True):
    """`data` of a port event: the claim."""

    port_id: _Id
    host: _Id
    session: _Text
    seq: _Count
    revision: _Count
    state: State
    status: Status
    network_id: _Id | None = None
    network_type: _NetworkType = "vxlan"
    segmentation_id: _Vni | None = None
    mac: _Mac | None = None
    fixed_ips: _Addresses = ()
    allowed_address_pairs: _Addresses = ()
    device_owner: _Text = ""
    kind: Kind = Kind.SINGLE
    tunnel_ip: _Ip | None = None
    reason: Annotated[str, Meta(max_length=1024, pattern=_PRINTABLE)] | UnsetType = UNSET


class PortMessage(Struct, frozen=True):
    """A port event as a CloudEvent 1.0 in structured mode."""

    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: Literal["portwatch.port.added", "portwatch.port.updated", "portwatch.port.removed"]
    subject: _Text
    time: _Moment
    data: PortData
    datacontenttype: str = "application/json"


class ManifestMessage(Struct, frozen=True):
    """`manifests/{network_id}/{host}`."""

    host: _Id
    session: _Text
    count: _Count
    digest: _Digest


class HostMessage(Struct, frozen=True):
    """`hosts/{host}`."""

    host: _Id
    session: _Text
    state: Literal["online", "stopped", "leaving", "offline"]
    tunnel_ip: _Ip | None = None
    tunnel_type: _Text | None = None
    version: _Text = ""
    started_at: _Moment | None = None
    tunnel_since: _Moment | None = None


class DetailsMessage(Struct, frozen=True, omit_defaults=True):
    """`directory/{port_id}`: what a port event says of the port, and how the orchestrator means it."""

    network_id: _Id | None = None
    network_type: _NetworkType = "vxlan"
    segmentation_id: _Vni | None = None
    mac: _Mac | None = None
    fixed_ips: _Few = ()
    allowed_address_pairs: _Few = ()
    device_owner: _Owner = ""
    kind: Kind | None = None
    admin_state: Literal["up", "down"] = "up"
    port_id: _Id | None = None


def _plain(value: object) -> str | int:
    """Give msgspec the plain number or text of one of the model's own."""
    return int(value) if isinstance(value, int) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_port_decoder = msgspec.json.Decoder(PortMessage)
_manifest_decoder = msgspec.json.Decoder(ManifestMessage)
_host_decoder = msgspec.json.Decoder(HostMessage)
_details_decoder = msgspec.json.Decoder(DetailsMessage)


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


class Topics:
    """The names under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def port(self, network_id: NetworkId | None, host: HostName, port_id: PortId) -> str:
        return f"{self.prefix}/ports/{network_id or _UNKNOWN_NETWORK}/{host}/{port_id}"

    def manifest(self, network_id: NetworkId, host: HostName) -> str:
        return f"{self.prefix}/manifests/{network_id}/{host}"

    def host(self, host: HostName) -> str:
        return f"{self.prefix}/hosts/{host}"

    @property
    def hosts(self) -> str:
        """The filter of all hosts' statuses."""
        return f"{self.prefix}/hosts/+"

    def directory(self, port_id: PortId) -> str:
        return f"{self.prefix}/directory/{port_id}"

    def described(self, topic: str) -> PortId | None:
        """Return the port whose details this topic holds; None when it is no such topic."""
        head = f"{self.prefix}/directory/"
        try:
            return PortId(topic.removeprefix(head)) if topic.startswith(head) else None
        except ValueError:
            return None

    def of_network(self, network_id: NetworkId) -> tuple[str, ...]:
        """Return the filters of all that is said about a network."""
        return (f"{self.prefix}/ports/{network_id}/+/+", f"{self.prefix}/manifests/{network_id}/+")

    def of_share(self, network_id: NetworkId, host: HostName) -> tuple[str, ...]:
        """Return the filters of all that one host says about a network."""
        return (f"{self.prefix}/ports/{network_id}/{host}/+", self.manifest(network_id, host))

    def of_ourselves(self, host: HostName) -> tuple[str, ...]:
        """Return the filters of all that stands on the bus under our own name."""
        return (f"{self.prefix}/ports/+/{host}/+", f"{self.prefix}/manifests/+/{host}", self.host(host))

    def is_of_host(self, topic_filter: str, host: HostName) -> bool:
        """Does a filter ask for what stands under this host's name, and for nothing else?"""
        kind, *levels = topic_filter.removeprefix(f"{self.prefix}/").split("/")
        return {"ports": levels[1:2], "manifests": levels[1:2], "hosts": levels[:1]}.get(kind) == [host]

    def of_everything(self, network: str = "+", host: str = "+") -> tuple[str, ...]:
        """Return the filter of all port events, or those of one network or host."""
        return (f"{self.prefix}/ports/{network}/{host}/+",)

    def decode(self, topic: str, payload: bytes, allowed_peers: Iterable[IpNetwork] = ()) -> News:
        """Return what a message says.

        `Refused` with the reason `foreign-topic`, `too-large`, `not-json`, `wrong-shape`, `wrong-value`,
        `endpoint-not-allowed` or `topic-mismatch`.
        """
        if len(payload) > PAYLOAD_MAX:
            raise Refused("too-large", f"{len(payload)} bytes, at most {PAYLOAD_MAX}")
        if not topic.startswith(self.prefix + "/"):
            raise Refused("foreign-topic", "not under our prefix")
        levels = topic[len(self.prefix) + 1 :].split("/")
        try:
            match levels:
                case ["ports", network, host, port]:
                    return _decode_port(_network(network), HostName(host), PortId(port), payload, allowed_peers)
                case ["manifests", network, host]:
                    return _decode_manifest(NetworkId(network), HostName(host), payload)
                case ["hosts", host]:
                    return _decode_host(HostName(host), payload, allowed_peers)
                case ["directory", port]:
                    return _decode_details(PortId(port), payload)
        except msgspec.ValidationError as error:
            raise Refused("wrong-shape", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("not-json", str(error)) from None
        except ValueError as error:
            raise Refused("wrong-value", str(error)) from None
        raise Refused("foreign-topic", "no topic of ours has this form")


def encode_event(event: PortEvent) -> bytes:
    """Return *event* as the JSON of a CloudEvent."""
    claim, port = event.claim, event.claim.port
    assert event.time is not None, "an event is stamped before it is published"
    data = PortData(
        port_id=port.port_id,
        host=claim.host,
        session=claim.session,
        seq=claim.seq,
        revision=claim.revision,
        state=port.state,
        status=claim.status,
        network_id=port.network_id,
        network_type=port.network_type,
        segmentation_id=port.segmentation_id,
        mac=port.mac,
        fixed_ips=tuple(map(str, port.fixed_ips)),
        allowed_address_pairs=tuple(map(str, port.allowed_address_pairs)),
        device_owner=port.device_owner,
        kind=port.kind,
        tunnel_ip=str(claim.tunnel_ip) if claim.tunnel_ip else None,
        reason=UNSET if claim.reason is None else claim.reason,
    )
    return _encoder.encode(
        PortMessage(
            specversion="1.0",
            id=f"{claim.host}/{claim.session}/{event.number}",
            source=f"/portwatch/hosts/{claim.host}",
            type=event.type,  # type: ignore[arg-type]  # the class says which
            subject=port.port_id,
            time=event.time.astimezone(UTC),
            data=data,
        )
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return *manifest* as JSON."""
    return _encoder.encode(ManifestMessage(manifest.host, manifest.session, manifest.count, manifest.digest))


def encode_host(status: HostStatus) -> bytes:
    """Return *status* as JSON."""
    return _encoder.encode(
        HostMessage(
            host=status.host,
            session=status.session,
            state=status.state,  # type: ignore[arg-type]  # one of HOST_STATES
            tunnel_ip=str(status.tunnel_ip) if status.tunnel_ip else None,
            tunnel_type=status.tunnel_type,
            version=status.version,
            started_at=status.started_at,
            tunnel_since=status.tunnel_since,
        )
    )


def encode_details(details: PortDetails) -> bytes:
    """Return *details* as JSON; what is not set is left out."""
    return _encoder.encode(
        DetailsMessage(
            network_id=details.network_id,
            network_type=details.network_type,
            segmentation_id=details.segmentation_id,
            mac=details.mac,
            fixed_ips=tuple(map(str, details.fixed_ips)),
            allowed_address_pairs=tuple(map(str, details.allowed_address_pairs)),
            device_owner=details.device_owner,
            kind=details.kind,
            admin_state="up" if details.admin_up else "down",
        )
    )


def _network(level: str) -> NetworkId | None:
    return None if level == _UNKNOWN_NETWORK else NetworkId(level)


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


def _decode_port(
    network_id: NetworkId | None,
    host: HostName,
    port_id: PortId,
    payload: bytes,
    allowed: Iterable[IpNetwork],
) -> PortEvent | ClaimGone:
    if not payload:
        return ClaimGone((network_id, host, port_id))
    message = _port_decoder.decode(payload)
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


def _decode_manifest(network_id: NetworkId, host: HostName, payload: bytes) -> Manifest | ManifestGone:
    if not payload:
        return ManifestGone(network_id, host)
    message = _manifest_decoder.decode(payload)
    if message.host != host:
        raise Refused("topic-mismatch", f"the payload is about {message.host}")
    return Manifest(network_id, host, message.session, message.count, message.digest)


def _decode_host(host: HostName, payload: bytes, allowed: Iterable[IpNetwork]) -> HostStatus | HostGone:
    if not payload:
        return HostGone(host)
    message = _host_decoder.decode(payload)
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


def _decode_details(port_id: PortId, payload: bytes) -> DirectoryEntry | DirectoryGone:
    if not payload:
        return DirectoryGone(port_id)
    message = _details_decoder.decode(payload)
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
