"""Frozen snapshots of OVSDB rows, and rows → Plug: pure.

The border: what an orchestrator wrote into `external_ids` becomes typed here, or is the port's fault, named by key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from portwatch.model import (
    SEQ_MAX,
    SHARED_OWNERS,
    VXLAN,
    AddressPair,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Plug,
    Port,
    PortId,
    State,
    Vni,
    fixed_ip,
)

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "Open_vSwitch": ("bridges", "external_ids", "datapaths"),
    "Bridge": ("name", "ports", "datapath_type", "fail_mode", "protocols"),
    "Port": ("name", "interfaces", "tag", "external_ids"),
    "Interface": ("name", "type", "ofport", "external_ids"),
    "Datapath": ("capabilities",),
}
"""What is watched. Never whole tables: statistics change every few seconds."""

NETWORK_KEY: Final = "portwatch-network"
SEQ_KEY: Final = "portwatch-seq"
INSTALLED_KEY: Final = "portwatch-installed"

SYSTEM: Final = "system"
"""The datapath type that an empty one means."""

OWNER_MAX: Final = 255
REASON_MAX: Final = 1000
"""Characters of a reason: an event takes 1,024."""
LISTED_MAX: Final = 256
"""Addresses, or address pairs, of one port: what fits an event with room to spare."""
DIGITS_MAX: Final = 19
"""Digits of a number from outside: enough for every `seq`, and never slow to read."""

T = TypeVar("T")
Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InterfaceRow:
    """What an Interface is: its device's name, its number on the bridge, what was written about it."""

    uuid: UUID
    name: str
    type: str
    ofport: int | None
    external_ids: Mapping[str, str]

    @classmethod
    def of(cls, uuid: UUID, columns: Columns) -> Self:
        ids = columns["external_ids"]
        return cls(uuid, columns["name"], columns["type"], columns["ofport"], ids)


@dataclass(frozen=True, slots=True)
class PortRow:
    """A Port: one Interface, or several that are bonded."""

    uuid: UUID
    name: str
    interfaces: frozenset[UUID]
    tag: int | None
    external_ids: Mapping[str, str]

    @classmethod
    def of(cls, uuid: UUID, columns: Columns) -> Self:
        interfaces = frozenset(columns["interfaces"])
        return cls(uuid, columns["name"], interfaces, columns["tag"], columns["external_ids"])


@dataclass(frozen=True, slots=True)
class BridgeRow:
    """A Bridge and its ports."""

    uuid: UUID
    name: str
    ports: frozenset[UUID]
    datapath_type: str
    fail_mode: str | None
    protocols: frozenset[str]

    @classmethod
    def of(cls, uuid: UUID, columns: Columns) -> Self:
        ports, protocols = frozenset(columns["ports"]), frozenset(columns["protocols"])
        datapath_type = columns["datapath_type"] or SYSTEM
        return cls(uuid, columns["name"], ports, datapath_type, columns["fail_mode"], protocols)


@dataclass(frozen=True, slots=True)
class Unfit:
    """An Interface whose ids cannot name a port on the bus: counted and explained, never published."""

    interface: str
    reason: str


def plug(interface: InterfaceRow, port: PortRow) -> Plug | Unfit | None:
    """Return the port that is plugged in by these rows; None when it is none, or has no OpenFlow port yet."""
    ids = interface.external_ids
    if "iface-id" not in ids:
        return None
    try:
        port_id = PortId(ids["iface-id"])
        network_id = NetworkId(ids["network-id"]) if ids.get("network-id") else None
    except ValueError as error:
        return Unfit(interface.name, f"bad-id: {_printable(str(error))[:300]}")
    try:
        ofport = OfPort(interface.ofport or 0)
    except ValueError:
        return None
    tag = port.tag or 0
    remembered = port.external_ids.get(NETWORK_KEY) == network_id and network_id is not None
    return Plug(
        port=_port(port_id, network_id, ids),
        ofport=ofport,
        vlan=LocalVlan(tag) if LocalVlan.LOWEST <= tag <= LocalVlan.HIGHEST else None,
        seq=_saved_seq(port.external_ids.get(SEQ_KEY)),
        remembered=network_id if remembered else None,
        installed=port.external_ids.get(INSTALLED_KEY) == "true",
    )


def _port(port_id: PortId, network_id: NetworkId | None, ids: Mapping[str, str]) -> Port:
    faults: list[str] = []

    def read(key: str, parse: Callable[[str], T], absent: T) -> T:
        text = ids.get(key, "").strip()
        if not text:
            return absent
        try:
            return parse(text)
        except ValueError as error:
            faults.append(f"bad-{key}: {key} is {text[:80]!r}: {_printable(str(error)[:200])}"[:REASON_MAX])
            return absent

    owner = read("device-owner", _owner, "")
    return Port(
        port_id=port_id,
        network_id=network_id,
        network_type=read("network-type", NetworkType, VXLAN),
        segmentation_id=read("segmentation-id", lambda text: Vni(_number(text)), None),
        mac=read("attached-mac", Mac, None),
        fixed_ips=read("fixed-ips", lambda text: _listed(text, fixed_ip), ()),
        allowed_address_pairs=read("allowed-address-pairs", lambda text: _listed(text, AddressPair.parse), ()),
        device_owner=owner,
        kind=read("port-kind", _kind, Kind.SHARED if owner in SHARED_OWNERS else Kind.SINGLE),
        # An orchestrator that does not know the key has no destinations of migrations: what it plugs is active.
        state=State.ACTIVE if ids.get("iface-status", "active") == "active" else State.PREPARING,
        admin_up=read("admin-state", _admin_up, True),
        fault=faults[0] if faults else None,
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _listed(text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > LISTED_MAX:
        raise ValueError(f"{len(parts)} of them; at most {LISTED_MAX}")
    return tuple(dict.fromkeys(map(parse, parts)))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _owner(text: str) -> str:
    if len(text) > OWNER_MAX or not text.isprintable():
        raise ValueError(f"at most {OWNER_MAX} printable characters")
    return text


def _kind(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        raise ValueError("single or shared") from None


def _admin_up(text: str) -> bool:
    if text not in ("up", "down"):
        raise ValueError("up or down")
    return text == "up"


def _saved_seq(text: str | None) -> int | None:
    if not text or not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        return None
    return min(int(text), SEQ_MAX)
