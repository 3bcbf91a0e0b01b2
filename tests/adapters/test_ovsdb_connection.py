"""The connection to OVSDB: servers that come, go, hang and turn out to be others."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from portwatch.errors import OvsdbUnavailable
from portwatch.ovsdb.database import Database, Link
from portwatch.ovsdb.session import DatabaseMismatch, Tls
from tests.adapters.ovsdb_reader import (
    TABLES,
    Reader,
    absent_server,
    add_ports,
    link_when,
    on_bridge,
    reading,
    running_server,
    set_tag,
    told,
)
from tests.adapters.ovsdb_server import SCHEMA, OvsdbServer

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OvsdbServer]:
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture
def absent(tmp_path: Path) -> Iterator[OvsdbServer]:
    with absent_server(tmp_path) as server:
        yield server


async def test_after_a_restart_the_whole_picture_lacks_what_was_removed_meanwhile(
    server: OvsdbServer,
) -> None:
    add_ports(server, "stays", "goes")
    async with reading(server) as reader:
        server.kill()
        link = await link_when(reader.database, connected=False)
        assert "ovsdb-server closed the connection" in link.reason
        where = [["name", "==", "goes"]]
        server.transact_offline(
            {"op": "delete", "table": "Port", "where": where},
            {"op": "delete", "table": "Interface", "where": where},
            on_bridge([["ports", "delete", named(reader, "Port", "goes")]]),
        )
        server.start()

        changes = await reader.next()

        assert changes.whole
        assert reader.names("Port") == reader.names("Interface") == {"br-int", "stays"}
        assert reader.database.link == Link(connected=True, connections=2, reason="")


async def test_it_survives_one_restart_after_another(server: OvsdbServer) -> None:
    start = time.monotonic()
    async with reading(server) as reader:
        for number in range(10):
            server.kill()
            await link_when(reader.database, connected=False)
            server.start()
            add_ports(server, f"tap{number}")
            await reader.until("Port", name=f"tap{number}")

        assert reader.database.link.connections == 11
    assert time.monotonic() - start < 10  # the back-off does not grow while it succeeds


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_reading_writing_and_coming_back_work_on_either_loop(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        for tag in range(1, 4):
            server.kill()
            await link_when(reader.database, connected=False)
            server.start()
            assert (await reader.next()).whole
            await reader.database.transact(set_tag(reader, tag))
            await reader.until("Port", name="br-int", tag=tag)


async def test_what_changed_before_the_connection_broke_is_told_though_there_is_no_server_now(
    server: OvsdbServer,
) -> None:
    async with reading(server) as reader:
        add_ports(server, "tap1")
        await told(reader.database, "tap1")
        server.kill()
        await link_when(reader.database, connected=False)

        await reader.next()

        assert reader.names("Port") == {"br-int", "tap1"}


async def test_a_server_that_is_stopped_is_noticed_and_found_again(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        server.stop()
        link = await link_when(reader.database, connected=False)
        assert "ovsdb-server does not answer" in link.reason

        server.go_on()
        assert (await reader.next()).whole
        assert reader.database.connected
        add_ports(server, "tap1")
        await reader.until("Port", name="tap1")


async def test_a_server_that_answers_the_heartbeat_stays_connected(server: OvsdbServer) -> None:
    async with Database(server.remote, TABLES, heartbeat=0.02) as database:
        reader = Reader(database)
        await reader.next()
        runs = runs_of(database)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(database)

        assert database.link.connections == 1
        assert 5 < len(runs) < 200


async def test_a_server_that_is_absent_is_waited_for_without_haste_and_found(absent: OvsdbServer) -> None:
    async with Database(absent.remote, TABLES) as database:
        runs = runs_of(database)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(database)
        assert len(runs) < 20
        assert not database.connected
        assert database.last_error == f"{absent.remote}: no such socket: is ovsdb-server running?"

        absent.start()

        assert (await Reader(database).next()).whole
        assert database.last_error is None


async def test_a_socket_that_nobody_listens_on_is_said_in_words(server: OvsdbServer) -> None:
    server.kill()
    async with Database(server.remote, TABLES) as database:
        await database.link_after(Link())
        assert database.last_error == f"{server.remote}: connection refused: is ovsdb-server running?"


async def test_a_socket_that_we_may_not_open_is_said_in_words(server: OvsdbServer) -> None:
    server.socket.chmod(0)
    with as_nobody():
        async with Database(server.remote, TABLES) as database:
            await database.link_after(Link())
            assert "permission denied: portwatch must be in the group that owns the socket" in str(database.last_error)


@pytest.mark.parametrize("remote", ["/run/openvswitch/db.sock", "punix:/run/db.sock", "udp:127.0.0.1:6640", ""])
async def test_an_address_that_is_none_is_refused(remote: str) -> None:
    with pytest.raises(ValueError, match="database's address"):
        Database(remote, TABLES)


async def test_a_table_without_columns_is_refused_for_it_would_mean_all_of_them() -> None:
    with pytest.raises(ValueError, match="say which columns of Port"):
        Database("unix:/nowhere", {"Port": ()})


async def test_another_database_on_that_socket_is_named_to_reader_and_writer(tmp_path: Path) -> None:
    schema = tmp_path / "other.ovsschema"
    columns = {"name": {"type": "string"}}
    schema.write_text(json.dumps({"name": "Other", "version": "1.0.0", "tables": {"Port": {"columns": columns}}}))
    server = OvsdbServer(tmp_path, schema=schema)
    server.start()
    try:
        async with Database(server.remote, TABLES) as database:
            with pytest.raises(DatabaseMismatch, match="no database Open_vSwitch"):
                await anext(database)
            with pytest.raises(DatabaseMismatch):
                await database.transact(lambda _: None)
            assert not database.connected
        async with Database(server.remote, {"Bridge": ("name",)}, name="Other") as database:
            with pytest.raises(DatabaseMismatch) as lacking:
                await anext(database)
            assert (lacking.value.table, lacking.value.column) == ("Bridge", "")
        async with Database(server.remote, {"Port": ("name", "tag")}, name="Other") as database:
            with pytest.raises(DatabaseMismatch, match="no table Port, column tag in database Other") as lacking:
                await anext(database)
            assert (lacking.value.table, lacking.value.column) == ("Port", "tag")
    finally:
        server.kill()


async def test_a_schema_that_is_converted_beneath_us_is_read_anew(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        with converted(server) as columns:
            columns["colour"] = {"type": "string"}

        assert (await reader.next()).whole
        add_ports(server, "tap1")
        await reader.until("Port", name="tap1")


async def test_a_watched_column_that_a_conversion_takes_away_is_named(server: OvsdbServer) -> None:
    async with reading(server) as reader:
        with converted(server) as columns:
            del columns["trunks"]

        with pytest.raises(DatabaseMismatch, match="no table Port, column trunks in database Open_vSwitch"):
            await reader.next()


@contextmanager
def converted(server: OvsdbServer) -> Iterator[dict[str, Any]]:
    """Change the columns of Port while the server runs."""
    schema = json.loads(SCHEMA.read_text())
    yield schema["tables"]["Port"]["columns"]
    newer = server.folder / "newer.ovsschema"
    newer.write_text(json.dumps(schema))
    subprocess.run(["ovsdb-client", "convert", server.remote, newer], check=True)


async def test_closing_gives_back_every_descriptor_and_timer(server: OvsdbServer) -> None:
    before = open_files()
    loop = asyncio.get_running_loop()

    async with reading(server) as reader:
        database = reader.database
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        assert open_files() > before
    async with Database("unix:/nowhere", TABLES):
        await asyncio.sleep(0)

    with pytest.raises(StopAsyncIteration):
        await waiting
    assert open_files() == before
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]  # noqa: SLF001
    with pytest.raises(OvsdbUnavailable, match="closed"):
        await database.transact(lambda _: None)


async def test_descriptors_beyond_1023_are_no_hindrance(server: OvsdbServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        async with reading(server) as reader:
            add_ports(server, "tap1")
            await reader.until("Port", name="tap1")
            server.kill()
            await link_when(reader.database, connected=False)
            server.start()
            assert (await reader.next()).whole
    finally:
        for number in many:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library forgets a socket there
async def test_over_tls_everything_arrives_too(tmp_path: Path) -> None:
    tls = certificates(tmp_path)
    port = free_port()
    server = OvsdbServer(
        tmp_path,
        options=(
            f"--remote=pssl:{port}:127.0.0.1",
            f"--private-key={tls.private_key}",
            f"--certificate={tls.certificate}",
            f"--ca-cert={tls.ca_cert}",
        ),
    )
    server.start()
    try:
        server.vsctl("add-br", "br-int")
        add_ports(server, *(f"tap{number}" for number in range(300)), external_ids={"vm": "ü" * 100})
        remote = f"ssl:127.0.0.1:{port}"
        async with Database(remote, TABLES, tls=tls) as database:
            reader = Reader(database)
            assert len((await reader.next()).rows) > 600
            with server.client() as somebody:
                for number in range(300, 400):
                    add_ports(somebody, f"tap{number}")
            await reader.until("Port", name="tap399")

        missing = Tls(private_key=tmp_path / "nowhere", certificate=tls.certificate, ca_cert=tls.ca_cert)
        async with Database(remote, TABLES, tls=missing) as database:
            await database.link_after(Link())
            assert "No such file" in str(database.last_error)

        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        async with Database(remote, TABLES, tls=certificates(elsewhere)) as database:
            await database.link_after(Link())
            assert "the TLS handshake failed" in str(database.last_error)
    finally:
        server.kill()


async def test_a_certificate_renewed_on_disk_is_used_at_the_next_connect(tmp_path: Path) -> None:
    (server_folder := tmp_path / "server").mkdir()
    (ours := tmp_path / "ours").mkdir()
    theirs, tls, port = certificates(server_folder), certificates(ours), free_port()
    trusted = Tls(tls.private_key, tls.certificate, theirs.certificate)
    server = OvsdbServer(
        tmp_path,
        options=(
            f"--remote=pssl:{port}:127.0.0.1",
            f"--private-key={theirs.private_key}",
            f"--certificate={theirs.certificate}",
            f"--ca-cert={tmp_path / 'trusted.pem'}",
        ),
    )
    (tmp_path / "trusted.pem").write_bytes(tls.certificate.read_bytes())
    server.start()
    try:
        async with Database(f"ssl:127.0.0.1:{port}", TABLES, tls=trusted) as database:
            link = await database.link_after(Link())
            assert link.connected
            server.kill()
            link = await database.link_after(link)
            certificates(ours)  # and the old one counts no more
            (tmp_path / "trusted.pem").write_bytes(tls.certificate.read_bytes())

            server.start()

            while not link.connected:
                link = await database.link_after(link)
            assert link.connections == 2
    finally:
        server.kill()


def runs_of(database: Database) -> list[None]:
    """Count how often python-ovs is run from now on."""
    session = database._session  # noqa: SLF001  # haste shows in no other way
    runs: list[None] = []
    run = session.run

    def counted() -> None:
        runs.append(None)
        run()

    session.run = counted  # type: ignore[method-assign]
    return runs


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to open everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def certificates(folder: Path) -> Tls:
    """A key and a certificate that is its own authority, good for both sides."""
    tls = Tls(folder / "key.pem", folder / "certificate.pem", folder / "certificate.pem")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tls.private_key)
    subprocess.run(
        ["openssl", "req", "-x509", "-days", "2", "-subj", "/CN=portwatch", *key, "-out", tls.certificate],
        check=True,
        capture_output=True,
    )
    return tls


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_files() -> set[str]:
    """What this process has open, sockets by their inode."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.add(str(descriptor.readlink()))
    return found


def named(reader: Reader, table: str, name: str) -> list[str]:
    return ["uuid", str(reader.find(table, name=name))]
