"""What is written to OVSDB, and what a real ovsdb-server makes of it."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import structlog

from portwatch.errors import OvsdbUnavailable, TransactionFailed
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.transaction import Transaction
from tests.adapters.ovsdb_reader import TABLES, Reader, link_when, reading, running_server, set_tag
from tests.adapters.ovsdb_server import OvsdbServer

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OvsdbServer]:
    with running_server(tmp_path) as server:
        yield server


async def test_a_column_is_set_and_unset(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        assert await reader.database.transact(set_tag(reader, 7))
        assert server.vsctl("get", "Port", "br-int", "tag").strip() == "7"
        assert await reader.database.transact(set_tag(reader, None))
        assert server.vsctl("get", "Port", "br-int", "tag").strip() == "[]"


async def test_what_was_written_is_told_when_transact_returns(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        await reader.database.transact(set_tag(reader, 7))
        await reader.next()
        assert reader.row("Port", "br-int")["tag"] == 7


async def test_setting_and_deleting_a_key_leaves_other_writers_keys(server: OvsdbServer) -> None:
    server.vsctl("set", "Port", "br-int", "external_ids:theirs=1", "external_ids:portwatch-old=1")
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set_key("external_ids", "portwatch-seq", "42")
            row.set_key("external_ids", "theirs-too", "not yet")
            row.delete_key("external_ids", "portwatch-old")
            row.delete_key("external_ids", "never-was")
            # Somebody writes while we do, and we have not heard of it.
            server.vsctl("set", "Port", "br-int", "external_ids:theirs=2", "external_ids:theirs-too=2")

        assert await reader.database.transact(build)

        await reader.until(
            "Port",
            external_ids={"theirs": "2", "theirs-too": "not yet", "portwatch-seq": "42"},
            name="br-int",
        )


async def test_a_key_that_somebody_sets_at_the_same_moment_on_a_row_of_defaults_is_ours_in_the_end(
    server: OvsdbServer,
) -> None:
    async with Database(server.remote, {"Port": ("external_ids",)}) as database:
        reader = Reader(database)
        ((_, uuid),) = [(row.table, row.uuid) for row in (await reader.next()).rows]

        def build(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set_key("external_ids", "portwatch-seq", "2")
            server.vsctl("set", "Port", "br-int", "external_ids:portwatch-seq=1")

        await database.transact(build)

        await reader.until("Port", external_ids={"portwatch-seq": "2"})


async def test_a_transaction_larger_than_the_sockets_buffer_is_sent_as_the_server_reads(server: OvsdbServer) -> None:
    text = "x" * 1_000_000
    async with Database(server.remote, TABLES, heartbeat=30) as database:
        reader = Reader(database)
        await reader.next()
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set_key("external_ids", "large", text)

        server.stop()
        under_way = asyncio.create_task(database.transact(build))
        await asyncio.sleep(0)
        server.go_on()

        assert await under_way
        await reader.until("Port", name="br-int", external_ids={"large": text})


async def test_the_last_word_on_a_key_counts(server: OvsdbServer) -> None:
    server.vsctl("set", "Port", "br-int", "external_ids:a=1", "external_ids:b=1", "external_ids:c=1")
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(transaction: Transaction) -> None:
            for row in (transaction.row("Port", uuid), transaction.row("Port", uuid)):
                assert row is not None
                row.set_key("external_ids", "a", "2")
                row.delete_key("external_ids", "a")
                row.delete_key("external_ids", "b")
                row.set_key("external_ids", "b", "2")

        await reader.database.transact(build)

        await reader.until("Port", name="br-int", external_ids={"b": "2", "c": "1"})


async def test_a_row_that_has_gone_is_none_and_nothing_is_sent(server: OvsdbServer) -> None:
    async with reading(server) as reader:

        def build(transaction: Transaction) -> None:
            assert transaction.row("Port", uuid4()) is None

        assert not await reader.database.transact(build)


async def test_what_is_so_already_is_no_change(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        assert await reader.database.transact(set_tag(reader, 7))
        assert not await reader.database.transact(set_tag(reader, 7))


async def test_what_is_so_still_but_not_for_long_is_a_change(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        there = asyncio.create_task(reader.database.transact(set_tag(reader, 7)))
        back = asyncio.create_task(reader.database.transact(set_tag(reader, None)))
        assert await there
        assert await back
        assert server.vsctl("get", "Port", "br-int", "tag").strip() == "[]"


async def test_many_transactions_at_once_are_all_applied(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(number: int, transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set_key("external_ids", f"key-{number}", str(number))

        async with asyncio.TaskGroup() as tasks:
            for number in range(200):
                tasks.create_task(reader.database.transact(partial(build, number)))

        await reader.until("Port", name="br-int", external_ids={f"key-{n}": str(n) for n in range(200)})


async def test_a_column_that_was_verified_and_changed_meanwhile_is_looked_at_again(
    server: OvsdbServer,
) -> None:
    server.vsctl("set", "Port", "br-int", "tag=1")
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None
        seen: list[object] = []

        def increment(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            seen.append(row.get("tag"))
            if len(seen) == 1:
                server.vsctl("set", "Port", "br-int", "tag=10")  # somebody is faster
            row.verify("tag")
            tag = row.get("tag")
            assert isinstance(tag, int)
            row.set("tag", tag + 1)

        await reader.database.transact(increment)

        assert seen == [1, 10]
        assert server.vsctl("get", "Port", "br-int", "tag").strip() == "11"


async def test_a_port_and_its_interface_are_made_in_one_transaction(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        bridge_uuid = reader.find("Bridge", name="br-int")
        assert bridge_uuid is not None

        def build(transaction: Transaction) -> None:
            bridge = transaction.row("Bridge", bridge_uuid)
            assert bridge is not None
            interface = transaction.insert("Interface")
            interface.set("name", "tap1")
            port = transaction.insert("Port")
            port.set("name", "tap1")
            port.set("interfaces", {interface.uuid})
            port.set_key("external_ids", "portwatch-owner", "true")
            ports = bridge.get("ports")
            assert isinstance(ports, frozenset)
            bridge.verify("ports")
            bridge.set("ports", ports | {port.uuid})

        await reader.database.transact(build)

        await reader.until("Port", name="tap1", external_ids={"portwatch-owner": "true"})
        (interface,) = reader.row("Port", "tap1")["interfaces"]
        assert reader.rows["Interface", interface]["name"] == "tap1"
        assert len(reader.row("Bridge", "br-int")["ports"]) == 2


async def test_what_ovsdb_server_refuses_is_told_in_its_words(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set("interfaces", {uuid4()})

        with pytest.raises(TransactionFailed, match="referential integrity violation"):
            await reader.database.transact(build)

        assert reader.database.link.connections == 1
        assert await reader.database.transact(set_tag(reader, 7))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tag", 5000),
        ("tag", "5"),
        ("tag", {"a": "b"}),
        ("name", None),
        ("external_ids", "text"),
        ("external_ids", {"a": 1}),
        ("external_ids", {"a": "NUL \0"}),
        ("external_ids", {"\ud800": "half a surrogate pair"}),
        ("interfaces", "tap1"),
        ("statistics", {}),
    ],
)
async def test_a_wrong_value_is_refused_where_it_is_set_and_harms_nobody(
    server: OvsdbServer, column: str, value: object
) -> None:
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set(column, value)

        with pytest.raises(ValueError, match=f"^Port.{column}"):
            await reader.database.transact(build)

        assert await reader.database.transact(set_tag(reader, 7))
        assert reader.database.link.connections == 1


async def test_without_a_connection_nothing_is_sent_and_the_words_say_so(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        server.kill()
        await link_when(reader.database, connected=False)
        with pytest.raises(OvsdbUnavailable, match="nothing was sent"):
            await reader.database.transact(set_tag(reader, 7))


async def test_a_transaction_without_an_answer_may_have_been_applied(server: OvsdbServer) -> None:
    async with Database(server.remote, TABLES, heartbeat=5) as database:
        reader = Reader(database)
        await reader.next()
        server.stop()
        with pytest.raises(OvsdbUnavailable, match=r"after 0\.1 s; it may or may not have been applied"):
            await database.transact(set_tag(reader, 7), timeout=0.1)

        server.go_on()
        await reader.until("Port", name="br-int", tag=7)  # here it was
        assert await database.transact(set_tag(reader, 8))


async def test_a_transaction_that_loses_its_connection_may_have_been_applied(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        server.stop()
        under_way = asyncio.create_task(reader.database.transact(set_tag(reader, 7)))
        await asyncio.sleep(0)
        server.kill()
        with pytest.raises(OvsdbUnavailable, match="may or may not have been applied"):
            await under_way


async def test_a_transaction_that_loses_its_connection_half_sent_harms_nobody(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        uuid = reader.find("Port", name="br-int")
        assert uuid is not None

        def build(transaction: Transaction) -> None:
            row = transaction.row("Port", uuid)
            assert row is not None
            row.set_key("external_ids", "large", "x" * 1_000_000)

        server.stop()
        under_way = asyncio.create_task(reader.database.transact(build))
        await asyncio.sleep(0)
        server.kill()
        with pytest.raises(OvsdbUnavailable):
            await under_way
        server.start()
        assert (await reader.next()).whole
        assert await reader.database.transact(set_tag(reader, 7))


async def test_a_transaction_that_is_cancelled_leaves_nothing_behind(server: OvsdbServer) -> None:
    async with Database(server.remote, TABLES, heartbeat=5) as database:
        reader = Reader(database)
        await reader.next()
        server.stop()
        under_way = asyncio.create_task(database.transact(set_tag(reader, 7)))
        await asyncio.sleep(0)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        server.go_on()

        assert await database.transact(set_tag(reader, 8))
        await reader.until("Port", name="br-int", tag=8)


async def test_what_build_raises_is_raised_and_nothing_is_sent(server: OvsdbServer) -> None:
    async with reading(server) as reader:

        def build(transaction: Transaction) -> None:
            set_tag(reader, 7)(transaction)
            raise LookupError("no such network")

        with pytest.raises(LookupError, match="no such network"):
            await reader.database.transact(build)

        assert server.vsctl("get", "Port", "br-int", "tag").strip() == "[]"
        assert await reader.database.transact(set_tag(reader, 8))


async def test_connecting_and_losing_the_connection_are_logged_once_each(server: OvsdbServer) -> None:
    with structlog.testing.capture_logs() as logs:
        async with reading(server) as reader:
            server.kill()
            await link_when(reader.database, connected=False)
            await reader.database.link_after(reader.database.link)
            server.start()
            await reader.next()

    assert [entry["event"] for entry in logs] == [
        "ovsdb connected",
        "ovsdb disconnected",
        "ovsdb not connected",
        "ovsdb connected",
    ]
