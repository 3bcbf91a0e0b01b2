"""What is ours in OVSDB, and how it is taken away: our ports, and our keys and tags on the Port rows of others. Pure.

The bridges stay, for others may have ports there; so does the Datapath row, which any program may read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.rows import INSTALLED_KEY, NETWORK_KEY, OWNER_KEY, SEQ_KEY, BridgeRow, PortRow
from portwatch.ovsdb.transaction import Transaction

_RECORD: Final = (NETWORK_KEY, SEQ_KEY, INSTALLED_KEY)


@dataclass(slots=True)
class Belongings:
    """Rows, by what becomes of them: names for people, UUIDs for the transaction."""

    ports: dict[UUID, str] = field(default_factory=dict)
    """Ports that we made: patch and tunnel ports."""
    records: dict[UUID, str] = field(default_factory=dict)
    """Ports of others on which we have noted something."""
    bridges: dict[UUID, str] = field(default_factory=dict)
    """The bridges that have a port of ours."""


def belongings(rows: Iterable[RowChange]) -> Belongings:
    """Find what is ours among *rows*, which must be all there are of Bridge and Port."""
    found = Belongings()
    bridges = []
    for row in rows:
        if row.columns is None:
            continue
        if row.table == "Port":
            port = PortRow.of(row.uuid, row.columns)
            if port.external_ids.get(OWNER_KEY) == "true":
                found.ports[row.uuid] = port.name
            elif port.external_ids.keys() & set(_RECORD):
                found.records[row.uuid] = port.name
        elif row.table == "Bridge":
            bridges.append(BridgeRow.of(row.uuid, row.columns))
    found.bridges = {bridge.uuid: bridge.name for bridge in bridges if bridge.ports & found.ports.keys()}
    return found


def remove(ours: Belongings, transaction: Transaction) -> None:
    """Take *ours* away; a row that has gone meanwhile is passed over."""
    for uuid in ours.bridges:
        if (bridge := transaction.row("Bridge", uuid)) is not None:
            # A Port that no bridge names is gone: ovsdb-server sweeps it away, and its Interface.
            bridge.verify("ports")
            ports = bridge.get("ports")
            assert isinstance(ports, frozenset), "a column of references is a set"
            bridge.set("ports", ports - ours.ports.keys())
    for uuid in ours.records:
        if (port := transaction.row("Port", uuid)) is not None:
            ids = port.get("external_ids")
            assert isinstance(ids, dict), "a column of keys is a map"
            if NETWORK_KEY in ids:
                port.set("tag", None)  # ours: it goes with the note which network it stood for
            for key in _RECORD:
                port.delete_key("external_ids", key)
