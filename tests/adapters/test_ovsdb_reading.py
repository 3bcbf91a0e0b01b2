"""What is read from OVSDB, as a real ovsdb-server tells it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from portwatch.ovsdb.database import Database
from tests.adapters.ovsdb_reader import TABLES, Reader, add_ports, reading, running_server, told, update
from tests.adapters.ovsdb_server import OvsdbServer

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OvsdbServer]:
    with running_server(tmp_path) as server:
        yield server


async def test_the_first_changes_are_the_whole_picture(server: OvsdbServer) -> None:
    server.vsctl("add-port", "br-int", "tap1", "tag=5", "--", "set", "Interface", "tap1", "external_ids:iface-id=p1")

    async with Database(server.remote, TABLES) as database:
        reader = Reader(database)
        changes = await reader.next()

        assert changes.whole
        assert reader.names("Bridge") == {"br-int"}
        assert reader.names("Port") == reader.names("Interface") == {"br-int", "tap1"}
        assert reader.row("Port", "tap1")["tag"] == 5
        assert reader.row("Interface", "tap1")["external_ids"] == {"iface-id": "p1"}


async def test_a_port_that_comes_changes_and_goes_is_told_as_it_is_each_time(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        server.vsctl("add-port", "br-int", "tap1")
        port = await reader.until("Port", name="tap1", tag=None)
        server.vsctl("set", "Port", "tap1", "tag=7")
        await reader.until("Port", name="tap1", tag=7)
        server.vsctl("set", "Port", "tap1", "tag=8")
        await reader.until("Port", name="tap1", tag=8)
        server.vsctl("clear", "Port", "tap1", "tag")
        await reader.until("Port", name="tap1", tag=None)
        server.vsctl("del-port", "tap1")
        changes = await reader.next()

        assert not changes.whole
        assert [row.uuid for row in changes.rows if row.table == "Port" and row.columns is None] == [port]
        assert reader.names("Port") == reader.names("Interface") == {"br-int"}


async def test_a_value_is_plain_python(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        server.vsctl("add-port", "br-int", "tap1", "trunks=3,4", "external_ids:a=b")
        await reader.until("Port", name="tap1")

        port = reader.row("Port", "tap1")
        assert port["tag"] is None
        assert port["trunks"] == frozenset({3, 4})
        assert port["external_ids"] == {"a": "b"}
        (interface,) = port["interfaces"]
        assert reader.rows["Interface", interface]["name"] == "tap1"
        assert reader.row("Bridge", "br-int")["ports"] > {reader.find("Port", name="tap1")}


async def test_a_photograph_does_not_change_any_more(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        server.vsctl("add-port", "br-int", "tap1", "external_ids:a=1")
        await reader.until("Port", name="tap1")
        before = reader.row("Port", "tap1")

        server.vsctl("set", "Port", "tap1", "external_ids:a=2")
        await reader.until("Port", name="tap1", external_ids={"a": "2"})

        assert before["external_ids"] == {"a": "1"}


async def test_keys_that_arrive_one_by_one_are_seen_one_by_one(server: OvsdbServer) -> None:
    keys = {
        "iface-id": "p1",
        "attached-mac": "fa:16:3e:00:00:01",
        "network-id": "blue",
        "segmentation-id": "7",
    }
    seen: dict[str, str] = {}
    async with reading(server) as reader:
        add_ports(server, "tap1")
        await reader.until("Interface", name="tap1", external_ids={})
        for key, value in keys.items():
            server.transact(
                {
                    "op": "mutate",
                    "table": "Interface",
                    "where": [["name", "==", "tap1"]],
                    "mutations": [["external_ids", "insert", ["map", [[key, value]]]]],
                }
            )
            seen[key] = value
            await reader.until("Interface", name="tap1", external_ids=seen)


async def test_a_new_row_that_has_nothing_but_defaults_is_told(server: OvsdbServer) -> None:
    async with Database(server.remote, {"Port": ("tag", "external_ids")}) as database:
        reader = Reader(database)
        assert len((await reader.next()).rows) == 1

        add_ports(server, "tap1")

        (row,) = (await reader.next()).rows
        assert row.columns == {"tag": None, "external_ids": {}}


async def test_only_the_columns_that_were_asked_for_are_told(server: OvsdbServer) -> None:
    async with Database(server.remote, {"Port": ("name",)}) as database:
        reader = Reader(database)
        await reader.next()

        server.vsctl("set", "Port", "br-int", "tag=9")
        add_ports(server, "tap1")

        assert [row.columns for row in (await reader.next()).rows] == [{"name": "tap1"}]


async def test_a_busy_reader_gets_each_row_once_and_as_it_is_now(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        with server.client() as somebody:
            add_ports(somebody, "tap1")
            for tag in range(1, 101):
                somebody.transact(update("Port", "tap1", tag=tag))
        add_ports(server, "last")
        await told(reader.database, "last")  # the reader is away while all of it comes in

        changes = await reader.next()

        told_of = [(row.table, row.uuid) for row in changes.rows]
        assert len(told_of) == len(set(told_of))
        assert reader.row("Port", "tap1")["tag"] == 100
        assert reader.names("Port") == {"br-int", "tap1", "last"}


async def test_ports_that_came_and_went_while_the_reader_was_away_take_no_room(
    server: OvsdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portwatch.ovsdb.database._PASSERS_BY", 10)
    async with reading(server) as reader:
        with server.client() as somebody:
            for number in range(200):
                add_ports(somebody, f"tap{number}")
                somebody.transact(update("Bridge", "br-int", ports=["set", []]))
                await asyncio.sleep(0)
        add_ports(server, "last")
        await told(reader.database, "last")
        replica = reader.database._replica  # noqa: SLF001  # how much is kept is nobody's business but a test's
        assert replica is not None
        assert len(replica.touched) < 100

        changes = await reader.next()

        assert reader.names("Port") == {"last"}
        assert len([row for row in changes.rows if row.columns is None]) == 2  # br-int's own port and interface


async def test_more_messages_than_one_run_handles_are_all_told_at_once(server: OvsdbServer) -> None:
    add_ports(server, "tap1")
    async with Database(server.remote, TABLES, heartbeat=30) as database:
        reader = Reader(database)
        await reader.next()
        with server.client() as somebody:  # the loop stands still meanwhile
            for number in range(60):
                somebody.transact(update("Interface", "tap1", external_ids=["map", [["vm", str(number)]]]))
            somebody.transact()  # by its answer everything before it has been told to us

        async with asyncio.timeout(5):  # no heartbeat comes to help
            await reader.until("Interface", name="tap1", external_ids={"vm": "59"})


async def test_a_thousand_ports_come_and_go(server: OvsdbServer) -> None:
    names = [f"tap{number}" for number in range(1000)]
    async with reading(server) as reader:
        add_ports(server, *names)
        while len(reader.names("Interface")) < 1001:
            await reader.next()
        server.transact(update("Bridge", "br-int", ports=["set", []]))
        while reader.names("Interface"):
            await reader.next()

        assert not reader.names("Port")


@pytest.mark.parametrize("text", ["日本語ü€" * 20_000, 'quo"te \\ {brace} [', "\u2028\x7f"])
async def test_any_text_in_a_key_is_read_as_it_is(server: OvsdbServer, text: str) -> None:
    async with reading(server) as reader:
        add_ports(server, "tap1", external_ids={"vm": text})
        await reader.until("Interface", name="tap1", external_ids={"vm": text})
        assert reader.database.link.connections == 1


async def test_characters_cut_in_two_by_a_read_do_not_cost_the_connection(server: OvsdbServer) -> None:
    add_ports(server, "tap1")
    async with reading(server) as reader:
        with server.client() as somebody:  # the loop stands still meanwhile, so that many messages lie in wait
            for number in range(300):
                keys = ["map", [["vm", f"{number} " + "日本語" * 30]]]
                somebody.transact(update("Interface", "tap1", external_ids=keys))
        await reader.until("Interface", name="tap1", external_ids={"vm": "299 " + "日本語" * 30})

        assert reader.database.link.connections == 1
