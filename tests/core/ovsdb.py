"""A hypervisor's OVSDB in a dict: change it, and take the rows that changed, as the IDL tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.rows import INSTALLED_KEY, NETWORK_KEY, SEQ_KEY

BRIDGES = ("br-int", "br-tun")
_ROOT = UUID(int=0)


def ids_of(name: str = "p1", network: str | None = "blue", /, **changes: str | None) -> dict[str, str]:
    """Return the `external_ids` of a port that lacks nothing; `attached_mac=None` leaves the key out."""
    number = int("".join(letter for letter in name if letter.isdigit()) or 1)
    known: dict[str, str | None] = {
        "iface_id": name,
        "attached_mac": f"fa:16:3e:00:00:{number:02x}",
        "network_id": network,
        "segmentation_id": "100",
        "fixed_ips": f"10.0.0.{number}",
    }
    return {key.replace("_", "-"): text for key, text in {**known, **changes}.items() if text is not None}


def remembered(network: str = "blue", seq: int = 5, *, installed: bool = True) -> dict[str, str]:
    """Return the `external_ids` of a Port row on which portwatch has written."""
    return {NETWORK_KEY: network, SEQ_KEY: str(seq), INSTALLED_KEY: "true" if installed else "false"}


def _type_of(name: str) -> str:
    """Return the type of an interface: portwatch's own tell it by their names."""
    kind, _, rest = name.partition("-")
    return {"patch": "patch", "pw": rest}.get(kind, "")


@dataclass
class Ovsdb:
    """Rows by name. A port and its interface have one name, as `ovs-vsctl add-port` makes them."""

    rows: dict[UUID, tuple[str, dict[str, object]]] = field(default_factory=dict)
    changed: dict[UUID, str] = field(default_factory=dict)
    """The rows that changed, and their tables."""
    made: int = 0

    def __post_init__(self) -> None:
        for bridge in BRIDGES:
            self.add_bridge(bridge)

    # --- changing ------------------------------------------------------------------------------------------------

    def add_bridge(self, name: str) -> UUID:
        return self._make(
            "Bridge", name, ports=frozenset(), datapath_type="netdev", fail_mode="secure", protocols=frozenset()
        )

    def add(
        self,
        name: str,
        ids: Mapping[str, str] | None = None,
        ofport: int | None = 5,
        bridge: str = "br-int",
        tag: int | None = None,
        row: Mapping[str, str] | None = None,
    ) -> None:
        """Make an interface, its port, and put it on the bridge."""
        interface = self._make("Interface", name, type=_type_of(name), ofport=ofport, external_ids=dict(ids or {}))
        port = self._make("Port", name, interfaces=frozenset({interface}), tag=tag, external_ids=dict(row or {}))
        self.put(port, bridge)

    def put(self, port: UUID, bridge: str) -> None:
        uuid = self.uuid("Bridge", bridge)
        self.set("Bridge", bridge, ports=self._ports_of(uuid) | {port})

    def remove(self, name: str) -> None:
        """Take the port off its bridge, and with it its interface."""
        interface, port = self.uuid("Interface", name), self.uuid("Port", name)
        for uuid, (table, _) in list(self.rows.items()):
            if table == "Bridge" and port in self._ports_of(uuid):
                self._change(uuid, ports=self._ports_of(uuid) - {port})
        for uuid in (interface, port):
            self.changed[uuid], _ = self.rows.pop(uuid)

    def set(self, table: str, name: str, **columns: object) -> None:
        """Change columns of a row."""
        self._change(self.uuid(table, name), **columns)

    def set_ids(self, name: str, **changes: str | None) -> None:
        """Change keys of an interface's `external_ids`; None removes a key."""
        _, columns = self.rows[self.uuid("Interface", name)]
        ids: dict[str, str] = dict(columns["external_ids"])  # type: ignore[call-overload]  # a map of texts
        for key, text in changes.items():
            ids.pop(key.replace("_", "-"), None)
            if text is not None:
                ids[key.replace("_", "-")] = text
        self.set("Interface", name, external_ids=ids)

    # --- telling -------------------------------------------------------------------------------------------------

    def uuid(self, table: str, name: str) -> UUID:
        """Return the newest row of that name."""
        return next(
            uuid for uuid, (where, columns) in reversed(self.rows.items()) if (where, columns["name"]) == (table, name)
        )

    def take(self) -> list[RowChange]:
        """Return the rows that changed since the last time."""
        changed, self.changed = self.changed, {}
        return [self._photograph(uuid, table) for uuid, table in changed.items()]

    def whole(self) -> list[RowChange]:
        """Return all rows."""
        self.changed.clear()
        return [self._photograph(uuid, table) for uuid, (table, _) in self.rows.items()]

    # --- within --------------------------------------------------------------------------------------------------

    def _make(self, table: str, name: str, **columns: object) -> UUID:
        self.made += 1
        uuid = uuid5(_ROOT, f"{table} {name} {self.made}")
        self.rows[uuid] = (table, {"name": name, **columns})
        self.changed[uuid] = table
        return uuid

    def _change(self, uuid: UUID, **columns: object) -> None:
        table, before = self.rows[uuid]
        self.rows[uuid] = (table, {**before, **columns})
        self.changed[uuid] = table

    def _ports_of(self, uuid: UUID) -> frozenset[UUID]:
        ports = self.rows[uuid][1]["ports"]
        assert isinstance(ports, frozenset)
        return ports

    def _photograph(self, uuid: UUID, table: str) -> RowChange:
        found = self.rows.get(uuid)
        return RowChange(table, uuid, dict(found[1]) if found else None)
