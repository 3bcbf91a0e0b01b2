"""The shapes of all payloads: docs/contract.md, section 4. msgspec holds what comes against them."""

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from portwatch.model import SEQ_MAX, Kind, State, Status, Vni

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
