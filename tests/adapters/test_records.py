"""What the agent writes to Port rows: of the attachment that the row is of, and of no earlier one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portwatch.agent import Agent
from portwatch.bus.memory import MemoryBroker
from portwatch.config import Config
from portwatch.errors import OvsdbUnavailable
from portwatch.fabric.announcer import Identity
from portwatch.metrics import Metrics
from portwatch.model import HostName, PortId
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture
from portwatch.ovsdb.rows import TABLES
from portwatch.ovsdb.transaction import Transaction
from portwatch.switch.ofctl import OfCtl
from tests.adapters.ovsdb_reader import running_server
from tests.adapters.ovsdb_server import OvsdbServer

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

PORT = ("network-id=blue", "segmentation-id=100", 'attached-mac="fa:16:3e:00:00:01"')


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OvsdbServer]:
    with running_server(tmp_path) as server:
        yield server


class Host:
    """An agent on a real ovsdb-server; its switch takes everything, when it is told to."""

    def __init__(self, server: OvsdbServer, database: Database, ofctl: OfCtl) -> None:
        self.server, self.database = server, database
        self.picture = Picture("br-int", "br-tun")
        identity = Identity(HostName("hv1"), "s1", None)
        metrics = Metrics("0", bridges=("br-int", "br-tun"), reasons=())
        self.agent = Agent(Config(), identity, self.picture, database, ofctl, MemoryBroker(), metrics)

    async def look(self, until: Callable[[], bool]) -> None:
        """Follow the database until something is so."""
        async with asyncio.timeout(10):
            while not until():
                changes = await anext(self.database)
                await self.agent.plugged(self.picture.apply(changes.rows, 0.0, whole=changes.whole))

    def install(self) -> None:
        """Let both bridges take what is owed."""
        for bridge, ledger in self.agent.reactor.ledgers.items():
            if not ledger.known:
                self.agent.reactor.read_back(bridge, [])
            ledger.take()
            ledger.committed()
            self.agent.committed(bridge, self.agent.reactor.progress.generation)

    def ofport(self, name: str) -> int | None:
        plug = self.picture.plugs.get(PortId(name))
        return int(plug.ofport) if plug else None

    async def plug(self, name: str, ofport: int, *before: str, keys: tuple[str, ...] = PORT) -> None:
        """Plug a port in, in one transaction with what is done *before*, and let the agent see it."""
        external_ids = (f"external_ids:{key}" for key in (f"iface-id={name}", *keys))
        self.server.vsctl(
            *(*before, "--", "add-port", "br-int", f"tap-{name}"),
            *("--", "set", "Interface", f"tap-{name}", f"ofport={ofport}", *external_ids),
        )
        await self.look(lambda: self.ofport(name) == ofport)

    async def unplug(self, name: str) -> None:
        self.server.vsctl("del-port", f"tap-{name}")
        await self.look(lambda: self.ofport(name) is None)

    async def write(self) -> None:
        """Let the agent write all it has to: the last is that a port of its own making is not wired."""
        await self.plug("last", 99, keys=())
        writing = asyncio.create_task(self.agent.records.run())
        await self.look(lambda: (plug := self.picture.plugs[PortId("last")]).seq is not None and not plug.installed)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    def remembered(self, name: str) -> tuple[int | None, bool]:
        plug = self.picture.plugs[PortId(name)]
        return plug.seq, plug.installed


@asynccontextmanager
async def a_host_with_a_port(server: OvsdbServer) -> AsyncIterator[Host]:
    """Return a host with p1, which is installed, and whose row is not written yet."""
    async with Database(server.remote, TABLES) as database, OfCtl(server.folder) as ofctl:
        host = Host(server, database, ofctl)
        await host.plug("p1", 5)
        host.install()
        yield host


async def test_a_port_that_is_installed_has_that_on_its_row(server: OvsdbServer) -> None:
    async with a_host_with_a_port(server) as host:
        await host.write()

        assert host.remembered("p1") == (host.agent.reactor.announcer.claims[PortId("p1")].seq, True)


async def test_a_port_that_was_made_anew_in_one_transaction_is_not_said_to_be_installed(server: OvsdbServer) -> None:
    async with a_host_with_a_port(server) as host:
        await host.plug("p1", 6, "del-port", "tap-p1")
        await host.write()

        assert host.remembered("p1") == (None, False)


async def test_a_port_that_was_away_does_not_get_the_age_of_its_earlier_attachment(server: OvsdbServer) -> None:
    async with a_host_with_a_port(server) as host:
        await host.unplug("p1")
        await host.plug("p1", 6)
        await host.write()

        assert host.remembered("p1") == (None, False)


async def test_what_could_not_be_written_is_written_later_but_not_on_another_attachments_row(
    server: OvsdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_host_with_a_port(server) as host:
        await host.plug("p2", 7, keys=(*PORT[:2], PORT[2].replace(":01", ":02")))
        host.install()

        async def fail(build: Callable[[Transaction], None]) -> bool:
            """OVSDB goes, and what was still read of it is that p1 was made anew."""
            await host.plug("p1", 6, "del-port", "tap-p1")
            failed.set()
            raise OvsdbUnavailable("gone")

        failed = asyncio.Event()
        with monkeypatch.context() as patch:
            patch.setattr(host.database, "transact", fail)
            writing = asyncio.create_task(host.agent.records.run())
            await failed.wait()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        await host.write()

        assert host.remembered("p1") == (None, False)
        assert host.remembered("p2")[1]
