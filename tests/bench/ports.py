"""Ports that a benchmark plugs and pulls by the shortest way: one OVSDB transaction, no command started for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.transaction import Transaction
from tests.lab import Hypervisor, Port

COLUMNS = {
    "Bridge": ("name", "ports"),
    "Port": ("name", "interfaces"),
    "Interface": ("name", "type", "ofport", "external_ids"),
}
"""No more than what is needed: what this process hears of, it hears of on the same cores."""


class Plugger:
    """Writes to one hypervisor's OVSDB, and sees what vswitchd makes of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rows: dict[tuple[str, UUID], RowChange] = {}
        self.named: dict[tuple[str, str], UUID] = {}
        """By table and name."""
        self._sent = 0.0

    async def until_loaded(self) -> None:
        """Take in the first picture."""
        self._take((await anext(self.database)).rows)

    async def plug(self, *ports: Port) -> float:
        """Add the ports to br-int in one transaction; return, once it is committed, when it was sent (wall clock).

        What it takes to put a large transaction into words is ours, and counts for nobody.
        """
        bridge = self.named["Bridge", "br-int"]

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
            self._change(transaction, bridge, lambda ports: ports | rows)

        return await self._transact(build)

    async def unplug(self, *ports: Port) -> float:
        """Take the ports out of br-int; return as `plug` does."""
        bridge = self.named["Bridge", "br-int"]
        gone = {self.named["Port", port.device] for port in ports}

        def build(transaction: Transaction) -> None:
            self._change(transaction, bridge, lambda ports: ports - gone)

        return await self._transact(build)

    async def _transact(self, build: Callable[[Transaction], None]) -> float:
        loop = asyncio.get_running_loop()

        def noted(transaction: Transaction) -> None:
            loop.call_soon(self._note)  # `transact` lets the loop run again when it has sent what was built
            build(transaction)

        await self.database.transact(noted)
        return self._sent

    def _note(self) -> None:
        self._sent = time.time()

    async def until_numbered(self, *ports: Port) -> None:
        """Wait until vswitchd has given each of the ports its OpenFlow number."""
        waiting = {port.device for port in ports}
        while waiting := {device for device in waiting if not self._number(device)}:
            self._take((await anext(self.database)).rows)

    async def until_gone(self, *ports: Port) -> None:
        """Wait until the ports' rows are gone."""
        waiting = {("Interface", port.device) for port in ports}
        while waiting := waiting & self.named.keys():
            self._take((await anext(self.database)).rows)

    def _number(self, device: str) -> bool:
        uuid = self.named.get(("Interface", device))
        columns = self.rows["Interface", uuid].columns if uuid else None
        number = columns["ofport"] if columns else None
        return isinstance(number, int) and number > 0

    def _take(self, rows: tuple[RowChange, ...]) -> None:
        for row in rows:
            key = (row.table, row.uuid)
            known = self.rows.pop(key, None)
            if known is not None and (name := _name(known)) and self.named.get((row.table, name)) == row.uuid:
                del self.named[row.table, name]
            if row.columns is not None:
                self.rows[key] = row
                if name := _name(row):
                    self.named[row.table, name] = row.uuid

    @staticmethod
    def _change(transaction: Transaction, bridge: UUID, change: Callable[[frozenset[UUID]], frozenset[UUID]]) -> None:
        """Change a bridge's ports as they are by now, for others have ports in it, too."""
        edit = transaction.row("Bridge", bridge)
        assert edit is not None
        edit.verify("ports")
        ports = edit.get("ports")
        assert isinstance(ports, frozenset)
        edit.set("ports", change(ports))


def _name(row: RowChange) -> str:
    name = (row.columns or {}).get("name", "")
    assert isinstance(name, str)
    return name


@asynccontextmanager
async def plugger(hypervisor: Hypervisor) -> AsyncIterator[Plugger]:
    """Connect to a hypervisor's OVSDB."""
    async with Database(f"unix:{hypervisor.db}", COLUMNS) as database:
        hands = Plugger(database)
        await hands.until_loaded()
        yield hands
