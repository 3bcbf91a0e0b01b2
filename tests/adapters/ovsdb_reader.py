"""Somebody who follows a database as the watcher would, and what can happen in it meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from portwatch.ovsdb.changes import Changes
from portwatch.ovsdb.database import Database, Link
from portwatch.ovsdb.transaction import Transaction
from tests.adapters.ovsdb_server import Client, OvsdbServer, insert

TABLES = {
    "Open_vSwitch": ("bridges", "external_ids"),
    "Bridge": ("name", "ports", "fail_mode"),
    "Port": ("name", "tag", "trunks", "external_ids", "interfaces"),
    "Interface": ("name", "type", "ofport", "admin_state", "external_ids"),
}
HEARTBEAT = 0.2


@contextmanager
def absent_server(folder: Path) -> Iterator[OvsdbServer]:
    """A server that has not been started yet, and will be ended."""
    server = OvsdbServer(folder)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running_server(folder: Path) -> Iterator[OvsdbServer]:
    """A server with an empty integration bridge."""
    with absent_server(folder) as server:
        server.start()
        server.vsctl("add-br", "br-int")
        yield server


class Reader:
    """A picture kept up to date by the changes, as the watcher would."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rows: dict[tuple[str, UUID], Mapping[str, object]] = {}

    async def next(self) -> Changes:
        async with asyncio.timeout(10):
            changes = await anext(self.database)
        if changes.whole:
            self.rows.clear()
        for row in changes.rows:
            if row.columns is None:
                del self.rows[row.table, row.uuid]
            else:
                self.rows[row.table, row.uuid] = row.columns
        return changes

    async def until(self, table: str, **columns: object) -> UUID:
        """Read on until a row has these columns."""
        while (found := self.find(table, **columns)) is None:
            await self.next()
        return found

    def find(self, table: str, **columns: object) -> UUID | None:
        matching = (
            uuid
            for (of, uuid), row in self.rows.items()
            if of == table and all(row[name] == value for name, value in columns.items())
        )
        return next(matching, None)

    def row(self, table: str, name: str) -> Mapping[str, Any]:
        uuid = self.find(table, name=name)
        assert uuid is not None, f"no {table} {name}"
        return self.rows[table, uuid]

    def names(self, table: str) -> set[object]:
        return {row["name"] for (of, _), row in self.rows.items() if of == table}


@asynccontextmanager
async def reading(server: OvsdbServer) -> AsyncIterator[Reader]:
    """A reader that has the first picture."""
    async with Database(server.remote, TABLES, heartbeat=HEARTBEAT) as database:
        reader = Reader(database)
        assert (await reader.next()).whole
        yield reader


async def link_when(database: Database, *, connected: bool) -> Link:
    async with asyncio.timeout(10):
        link = database.link
        while link.connected is not connected:
            link = await database.link_after(link)
    return link


async def told(database: Database, port: str) -> None:
    """Wait until the database has heard of a port, without being its reader."""
    live = database._live  # noqa: SLF001  # the reader must not come for it
    assert live is not None
    async with asyncio.timeout(10):
        while port not in {(row.columns or {}).get("name") for row in live.everything()}:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def add_ports(client: Client | OvsdbServer, *names: str, external_ids: Mapping[str, str] | None = None) -> None:
    """Add ports to the integration bridge in one transaction."""
    keys = ["map", [list(pair) for pair in (external_ids or {}).items()]]
    operations = []
    for number, name in enumerate(names):
        operations.append(insert("Interface", f"i{number}", name=name, external_ids=keys))
        operations.append(insert("Port", f"p{number}", name=name, interfaces=["named-uuid", f"i{number}"]))
    ports = ["set", [["named-uuid", f"p{number}"] for number in range(len(names))]]
    operations.append(on_bridge([["ports", "insert", ports]]))
    refused = [answer for answer in client.transact(*operations) if "error" in (answer or {})]
    assert not refused, refused


def on_bridge(mutations: list[object]) -> dict[str, Any]:
    return {"op": "mutate", "table": "Bridge", "where": [["name", "==", "br-int"]], "mutations": mutations}


def update(table: str, name: str, **columns: object) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": [["name", "==", name]], "row": columns}


def set_tag(reader: Reader, tag: int | None, port: str = "br-int") -> Callable[[Transaction], None]:
    uuid = reader.find("Port", name=port)
    assert uuid is not None

    def build(transaction: Transaction) -> None:
        if (row := transaction.row("Port", uuid)) is not None:
            row.set("tag", tag)

    return build
