"""Ports that a benchmark plugs and pulls by the shortest way: one OVSDB transaction, no command started for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.rows import TABLES
from portwatch.ovsdb.transaction import Transaction
from tests.lab import Hypervisor, Port

WRITABLE = {
    **TABLES,
    "Port": (*TABLES["Port"], "other_config"),
    "Interface": (*TABLES["Interface"], "mac"),
}


class Plugger:
    """Writes to one hypervisor's OVSDB, and sees what vswitchd makes of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rows: dict[tuple[str, UUID], RowChange] = {}

    async def until_loaded(self) -> None:
        """Take in the first picture."""
        self._take((await anext(self.database)).rows)

    async def plug(self, *ports: Port) -> None:
        """Add the ports to br-int in one transaction; return when ovsdb-server has committed it."""
        bridge = self._bridge()

        def build(transaction: Transaction) -> None:
            rows = set()
            for port in ports:
                interface = transaction.insert("Interface")
                interface.set("name", port.device)
                interface.set("type", "internal")
                interface.set("external_ids", port.keys())
                row = transaction.insert("Port")
                row.set("name", port.device)
                row.set("interfaces", {interface.uuid})
                rows.add(row.uuid)
            edit = transaction.row("Bridge", bridge)
            assert edit is not None
            edit.set("ports", self._ports(bridge) | rows)

        await self.database.transact(build)

    async def unplug(self, *ports: Port) -> None:
        """Take the ports out of br-int; return when ovsdb-server has committed it."""
        bridge = self._bridge()
        gone = {self._uuid("Port", port.device) for port in ports}

        def build(transaction: Transaction) -> None:
            edit = transaction.row("Bridge", bridge)
            assert edit is not None
            edit.set("ports", self._ports(bridge) - gone)

        await self.database.transact(build)

    async def until_numbered(self, *ports: Port) -> None:
        """Wait until vswitchd has given each of the ports its OpenFlow number."""
        while any(not self._number(port) for port in ports):
            self._take((await anext(self.database)).rows)

    async def until_gone(self, *ports: Port) -> None:
        """Wait until the ports' rows are gone."""
        devices = {port.device for port in ports}
        while any(
            row.table == "Interface" and row.columns and row.columns["name"] in devices for row in self.rows.values()
        ):
            self._take((await anext(self.database)).rows)

    def _number(self, port: Port) -> bool:
        row = next((row for row in self.rows.values() if _is_interface(row, port.device)), None)
        number = row.columns["ofport"] if row and row.columns else None
        return isinstance(number, int) and number > 0

    def _take(self, rows: tuple[RowChange, ...]) -> None:
        for row in rows:
            if row.columns is None:
                self.rows.pop((row.table, row.uuid), None)
            else:
                self.rows[row.table, row.uuid] = row

    def _uuid(self, table: str, name: str) -> UUID:
        return next(
            row.uuid for row in self.rows.values() if row.table == table and row.columns and row.columns["name"] == name
        )

    def _bridge(self) -> UUID:
        return self._uuid("Bridge", "br-int")

    def _ports(self, bridge: UUID) -> set[UUID]:
        columns = self.rows["Bridge", bridge].columns
        assert columns is not None
        ports = columns["ports"]
        assert isinstance(ports, frozenset)
        return set(ports)


def _is_interface(row: RowChange, device: str) -> bool:
    return row.table == "Interface" and row.columns is not None and row.columns["name"] == device


@asynccontextmanager
async def plugger(hypervisor: Hypervisor) -> AsyncIterator[Plugger]:
    """Connect to a hypervisor's OVSDB."""
    async with Database(f"unix:{hypervisor.db}", WRITABLE) as database:
        hands = Plugger(database)
        await hands.until_loaded()
        yield hands
