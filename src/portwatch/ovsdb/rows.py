"""Frozen snapshots of OVSDB rows, and rows → Plug: pure.

The border: what an orchestrator wrote into `external_ids` becomes typed here, or is the port's fault, named by key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from portwatch.errors import printable
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
    PortDetails,
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
OWNER_KEY: Final = "portwatch-owner"
"""On the Port rows that we made: what `portwatch cleanup` may remove."""

IDENTITY_KEYS: Final = frozenset({"iface-id", "attached-mac", "iface-status"})
"""What libvirt and os-vif write by themselves: all that is read of an Interface when the bus tells the rest."""
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
    names: frozenset[str]
    """By what somebody may ask for it: `iface-id` and `attached-mac` as they were written, the MAC in lower case."""


def plug(interface: InterfaceRow, port: PortRow, *, directory: bool = False) -> Plug | Unfit | None:
    """Return the port that is plugged in by these rows; None when it is none, or has no OpenFlow port yet.

    With *directory* the rows say who it is, and the bus tells the rest.
    """
    ids = interface.external_ids
    if directory:
        ids = {key: text for key, text in ids.items() if key in IDENTITY_KEYS}
    if "iface-id" not in ids:
        return None
    try:
        port_id = PortId(ids["iface-id"])
        network_id = NetworkId(ids["network-id"]) if ids.get("network-id") else None
    except ValueError as error:
        names = frozenset({ids["iface-id"], ids.get("attached-mac", "").strip().lower()})
        return Unfit(interface.name, f"bad-id: {printable(str(error))[:300]}", names)
    try:
        ofport = OfPort(interface.ofport or 0)
    except ValueError:
        return None
    tag = port.tag or 0
    remembered = _saved_network(port.external_ids.get(NETWORK_KEY))
    return Plug(
        port=replace(_port(port_id, network_id, ids), from_directory=directory),
        ofport=ofport,
        vlan=LocalVlan(tag) if LocalVlan.LOWEST <= tag <= LocalVlan.HIGHEST else None,
        seq=_saved_seq(port.external_ids.get(SEQ_KEY)),
        # Whose network the bus has yet to tell may still be in the one for which we wired it.
        remembered=remembered if directory or remembered == network_id else None,
        installed=port.external_ids.get(INSTALLED_KEY) == "true",
    )


def details(keys: Mapping[str, str]) -> PortDetails:
    """Return what *keys* of an Interface would say of a port; a `ValueError` names the first wrong one."""
    name = keys.get("network-id", "").strip()
    try:
        network_id = NetworkId(name) if name else None
    except ValueError as error:
        raise ValueError(f"bad-network-id: {error}") from None
    port = _port(PortId("port"), network_id, keys)
    if port.fault:
        raise ValueError(port.fault)
    return PortDetails(
        network_id=network_id,
        network_type=port.network_type,
        segmentation_id=port.segmentation_id,
        mac=port.mac,
        fixed_ips=port.fixed_ips,
        allowed_address_pairs=port.allowed_address_pairs,
        device_owner=port.device_owner,
        kind=port.kind if keys.get("port-kind", "").strip() else None,
        admin_up=port.admin_up,
    )


def keys(details: PortDetails) -> dict[str, str]:
    """Return *details* as keys of an Interface: the way back."""
    texts = {
        "network-id": details.network_id or "",
        "network-type": details.network_type,
        "segmentation-id": "" if details.segmentation_id is None else str(int(details.segmentation_id)),
        "attached-mac": details.mac or "",
        "fixed-ips": ",".join(map(str, details.fixed_ips)),
        "allowed-address-pairs": ",".join(map(str, details.allowed_address_pairs)),
        "device-owner": details.device_owner,
        "port-kind": details.kind or "",
        "admin-state": "up" if details.admin_up else "down",
    }
    return {key: str(text) for key, text in texts.items() if text}


def _port(port_id: PortId, network_id: NetworkId | None, ids: Mapping[str, str]) -> Port:
    faults: list[str] = []

    def read(key: str, parse: Callable[[str], T], absent: T) -> T:
        text = ids.get(key, "").strip()
        if not text:
            return absent
        try:
            return parse(text)
        except ValueError as error:
            words = printable(str(error))
            said, _, rest = words.partition(" is ")
            why = f", {rest}" if said in (repr(text), text) else f": {words}"
            faults.append(f"bad-{key}: {key} is {text[:80]!r}{why[:200]}"[:REASON_MAX])
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


def _saved_network(text: str | None) -> NetworkId | None:
    try:
        return NetworkId(text) if text else None
    except ValueError:
        return None


def _saved_seq(text: str | None) -> int | None:
    if not text or not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        return None
    return min(int(text), SEQ_MAX)
