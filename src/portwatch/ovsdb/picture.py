"""The rows of this host, joined: which ports are plugged in here, and the switch's own ports. Pure.

Feed it changed rows, and it tells which ports are otherwise now. A whole picture is compared with the one before, for
across a reconnect nobody says what has gone. One changed row costs what hangs on it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from portwatch.fabric.attachment import SwitchPorts
from portwatch.model import GRE, TUNNEL_TYPES, NetworkType, OfPort, Plug, PortId
from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.rows import BridgeRow, InterfaceRow, PortRow, Unfit, plug

PATCH_TO_TUNNEL: Final = "patch-tun"
PATCH_TO_INTEGRATION: Final = "patch-int"
TUNNEL_PORTS: Final[Mapping[NetworkType, str]] = {kind: f"pw-{kind}" for kind in sorted(TUNNEL_TYPES)}
"""Names of our own ports; Neutron's for the patch ports, which operators know."""

NO_DEVICE: Final = -1
"""The ofport that ovs-vswitchd writes for an Interface whose device it cannot open."""
OFPORT_PATIENCE: Final = 10.0
"""Seconds for which a wired port whose ofport is unset stays wired: the column is ephemeral, and empty for a moment
after ovsdb-server restarts."""


@dataclass(slots=True)
class PictureChange:
    """What is otherwise now. A plug of None: the port has gone."""

    plugs: dict[PortId, Plug | None] = field(default_factory=dict)
    switch: bool = False
    """Did a bridge, or one of the switch's own ports, change?"""

    def __bool__(self) -> bool:
        return bool(self.plugs) or self.switch


class Picture:
    """The host's rows and what they amount to. `clock` values are seconds of a clock that only goes forward."""

    def __init__(self, integration: str, tunnel: str, *, directory: bool = False) -> None:
        """*directory*: the ports' details come from the bus, whatever else the rows say of them."""
        self.integration, self.tunnel = integration, tunnel
        self._directory = directory
        self.plugs: dict[PortId, Plug] = {}
        self.unfit: dict[UUID, Unfit] = {}
        self.switch_ports = SwitchPorts()
        self.hostname: str | None = None
        self._interfaces: dict[UUID, InterfaceRow] = {}
        self._ports: dict[UUID, PortRow] = {}
        self._bridges: dict[UUID, BridgeRow] = {}
        self._datapaths: dict[UUID, Mapping[str, str]] = {}
        self._datapath_of: Mapping[str, UUID] = {}
        """Datapath type → its row."""
        self._port_of: dict[UUID, UUID] = {}
        self._bridge_of: dict[UUID, UUID] = {}
        self._claimed: dict[UUID, PortId] = {}
        """Interface → the port id that it gives now."""
        self._places: dict[PortId, dict[UUID, Plug]] = {}
        """Port id → the interfaces that give it; the first one counts."""
        self._own: set[UUID] = set()
        self._unset: dict[UUID, float] = {}
        """Interfaces of wired ports whose ofport is unset, since when."""

    @property
    def capabilities(self) -> Mapping[str, str]:
        """What the datapath beneath our bridges can, as ovs-vswitchd says it; empty while it has not."""
        bridge = self.bridge(self.tunnel)
        uuid = self._datapath_of.get(bridge.datapath_type) if bridge else None
        return self._datapaths.get(uuid, {}) if uuid else {}

    def bridge(self, name: str) -> BridgeRow | None:
        """Return the row of a bridge."""
        return next((row for row in self._bridges.values() if row.name == name), None)

    @property
    def orphans(self) -> list[str]:
        """The names of the integration bridge's interfaces without a device: the row is left, the device is gone."""
        return sorted(
            row.name
            for uuid, row in self._interfaces.items()
            if row.ofport == NO_DEVICE and self._bridge_name(uuid) == self.integration
        )

    def port_row(self, port_id: PortId) -> UUID | None:
        """Return the Port row of a port that is plugged in."""
        places = self._places.get(port_id)
        return self._port_of.get(next(iter(places))) if places else None

    def interface(self, port_id: PortId) -> InterfaceRow | None:
        """Return the Interface row of a port that is plugged in."""
        places = self._places.get(port_id)
        return self._interfaces.get(next(iter(places))) if places else None

    def portless(self, name: str) -> Iterator[tuple[InterfaceRow, str]]:
        """Yield the interfaces of this name, or with this port id, that give no port, and why they do not."""
        for uuid, row in self._interfaces.items():
            known = uuid in self._claimed or uuid in self.unfit or uuid in self._own
            if known or name not in (row.name, row.external_ids.get("iface-id")):
                continue
            if self._bridge_name(uuid) != self.integration:
                yield row, f"it is not on {self.integration}"
            elif "iface-id" not in row.external_ids:
                yield row, "external_ids:iface-id is not set"
            else:
                yield row, "it has no OpenFlow port; `portwatch doctor` says if its device cannot be opened"

    def apply(self, rows: Iterable[RowChange], clock: float, *, whole: bool = False) -> PictureChange:
        """Take in changed rows; with *whole*, they are all there are."""
        affected: set[UUID] = set()
        switch = look = whole
        if whole:
            affected |= self._interfaces.keys()
            for table in (self._interfaces, self._ports, self._bridges, self._port_of, self._bridge_of):
                table.clear()
            self._datapaths.clear()
        for row in rows:
            match row.table:
                case "Interface":
                    self._take_interface(row)
                    affected.add(row.uuid)
                case "Port":
                    affected |= self._take_port(row)
                case "Bridge":
                    before = self._bridges.get(row.uuid)
                    affected |= self._take_bridge(row)
                    switch |= before is None or row.columns is None or _differ(before, self._bridges[row.uuid])
                case "Open_vSwitch" if row.columns is not None:
                    self.hostname = row.columns["external_ids"].get("hostname")  # type: ignore[attr-defined]
                    self._datapath_of = row.columns["datapaths"]  # type: ignore[assignment]
                    look = True
                case "Datapath":
                    self._take_datapath(row)
                    look = True
        change = self._look_at(affected, clock)
        if switch or look or any(uuid in self._own or self._is_own(uuid) for uuid in affected):
            ports = self._own_ports()
            switch |= ports != self.switch_ports
            self.switch_ports = ports
        change.switch = switch
        return change

    def expire(self, clock: float) -> PictureChange:
        """Let go of the ports whose ofport has been unset for too long."""
        late = [uuid for uuid, since in self._unset.items() if clock - since >= OFPORT_PATIENCE]
        return self._look_at(late, clock)

    @property
    def expires(self) -> float | None:
        """When to call `expire`."""
        return min(self._unset.values()) + OFPORT_PATIENCE if self._unset else None

    # --- within --------------------------------------------------------------------------------------------------

    def _take_datapath(self, row: RowChange) -> None:
        if row.columns is None:
            self._datapaths.pop(row.uuid, None)
        else:
            self._datapaths[row.uuid] = row.columns["capabilities"]  # type: ignore[assignment]

    def _take_interface(self, row: RowChange) -> None:
        if row.columns is None:
            self._interfaces.pop(row.uuid, None)
        else:
            self._interfaces[row.uuid] = InterfaceRow.of(row.uuid, row.columns)

    def _take_port(self, row: RowChange) -> set[UUID]:
        before = self._ports.pop(row.uuid, None)
        old = before.interfaces if before else frozenset()
        for interface in old:
            if self._port_of.get(interface) == row.uuid:
                del self._port_of[interface]
        new: frozenset[UUID] = frozenset()
        if row.columns is not None:
            after = self._ports[row.uuid] = PortRow.of(row.uuid, row.columns)
            new = after.interfaces
            self._port_of.update(dict.fromkeys(new, row.uuid))
        return set(old | new)

    def _take_bridge(self, row: RowChange) -> set[UUID]:
        before = self._bridges.pop(row.uuid, None)
        old = before.ports if before else frozenset()
        new: frozenset[UUID] = frozenset()
        if row.columns is not None:
            after = self._bridges[row.uuid] = BridgeRow.of(row.uuid, row.columns)
            new = after.ports
        changed = old ^ new
        for port in old - new:
            if self._bridge_of.get(port) == row.uuid:
                del self._bridge_of[port]
        self._bridge_of.update(dict.fromkeys(new - old, row.uuid))
        return {interface for port in changed if port in self._ports for interface in self._ports[port].interfaces}

    def _look_at(self, interfaces: Iterable[UUID], clock: float) -> PictureChange:
        """Look at interfaces anew: first at all, then compare, for a port may go from one to another of them."""
        touched = {port_id for uuid in interfaces for port_id in self._read(uuid, clock)}
        change = PictureChange()
        for port_id in touched:
            self._compare(port_id, change)
        return change

    def _read(self, uuid: UUID, clock: float) -> set[PortId]:
        """Look at an interface anew. Return the ports that it gave and gives."""
        now = self._plug(uuid, clock)
        before = self._claimed.pop(uuid, None)
        self.unfit.pop(uuid, None)
        if isinstance(now, Unfit):
            self.unfit[uuid] = now
            now = None
        if now is not None:
            # A dict keeps its order: the interface that had the port keeps it, as long as it is there.
            self._places.setdefault(now.port.port_id, {})[uuid] = now
            self._claimed[uuid] = now.port.port_id
        if before is not None and (now is None or before != now.port.port_id):
            self._places[before].pop(uuid, None)
        return {port_id for port_id in (before, self._claimed.get(uuid)) if port_id is not None}

    def _plug(self, uuid: UUID, clock: float) -> Plug | Unfit | None:
        interface, port = self._interfaces.get(uuid), self._ports.get(self._port_of.get(uuid, uuid))
        since = self._unset.pop(uuid, clock)
        if interface is None or port is None or self._bridge_name(uuid) != self.integration:
            return None
        if interface.ofport is None and (held := self._held(uuid)) is not None and clock - since < OFPORT_PATIENCE:
            self._unset[uuid] = since
            numbered = InterfaceRow(uuid, interface.name, interface.type, held.ofport, interface.external_ids)
            return plug(numbered, port, directory=self._directory)
        return plug(interface, port, directory=self._directory)

    def _bridge_name(self, interface: UUID) -> str | None:
        port = self._port_of.get(interface)
        bridge = self._bridges.get(self._bridge_of.get(port, port)) if port else None
        return bridge.name if bridge else None

    def _held(self, uuid: UUID) -> Plug | None:
        port_id = self._claimed.get(uuid)
        return self._places[port_id].get(uuid) if port_id else None

    def _compare(self, port_id: PortId, change: PictureChange) -> None:
        places = self._places.get(port_id)
        now = next(iter(places.values())) if places else None
        if not places:
            self._places.pop(port_id, None)
        if now == self.plugs.get(port_id):
            return
        change.plugs[port_id] = now
        if now is None:
            del self.plugs[port_id]
        else:
            self.plugs[port_id] = now

    def _is_own(self, uuid: UUID) -> bool:
        row = self._interfaces.get(uuid)
        return row is not None and row.name in _OWN_TYPES

    def _own_ports(self) -> SwitchPorts:
        numbers: dict[tuple[str, str], OfPort] = {}
        self._own = set()
        for bridge in (self.bridge(self.integration), self.bridge(self.tunnel)):
            for uuid in bridge.ports if bridge else ():
                port = self._ports.get(uuid)
                for interface in port.interfaces if port and port.name in _OWN_TYPES else ():
                    self._own.add(interface)
                    row = self._interfaces.get(interface)
                    if row is None or row.type not in _OWN_TYPES.get(row.name, ()):
                        continue
                    if bridge and OfPort.LOWEST <= (row.ofport or 0) <= OfPort.HIGHEST:
                        numbers[bridge.name, row.name] = OfPort(row.ofport or 0)
        tunnels = ((kind, numbers.get((self.tunnel, name))) for kind, name in TUNNEL_PORTS.items())
        return SwitchPorts(
            numbers.get((self.integration, PATCH_TO_TUNNEL)),
            numbers.get((self.tunnel, PATCH_TO_INTEGRATION)),
            tuple((kind, number) for kind, number in tunnels if number is not None),
            self.capabilities.get("nd_ext") == "true",
        )


_OWN_TYPES: Final[Mapping[str, frozenset[str]]] = {
    PATCH_TO_TUNNEL: frozenset({"patch"}),
    PATCH_TO_INTEGRATION: frozenset({"patch"}),
    **{name: frozenset({kind, "ip6gre"} if kind == GRE else {kind}) for kind, name in TUNNEL_PORTS.items()},
}
"""What our own interfaces are. One with such a name and of another type is somebody else's."""


def _differ(before: BridgeRow, after: BridgeRow) -> bool:
    """Is anything of the bridge otherwise, but for its ports?"""
    return replace(before, ports=after.ports) != after
