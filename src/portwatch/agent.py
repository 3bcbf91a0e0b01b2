"""One running agent: brings the reactor its news and carries out what it decides. The loud half; it knows no tables.

OVSDB, bus and switch each have their task; all of them meet in `_carry_out`, which hands on events, records and work.
Nothing here waits for the bus.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from functools import partial

import structlog

from portwatch import __version__, wire
from portwatch.bus.connection import Broker, Message, Publication
from portwatch.bus.link import Link, Words
from portwatch.config import Config
from portwatch.errors import OvsdbUnavailable, Refused, TransactionFailed
from portwatch.events import OFFLINE, ONLINE, STOPPED, ClaimGone, HostStatus, Manifest, PortEvent, PortRemoved
from portwatch.fabric.announcer import Identity
from portwatch.fabric.pipeline import OWN, Bridge, Policy
from portwatch.fabric.reactor import PortRecord, Reactor, StaleEvent
from portwatch.mailbox import Mailbox
from portwatch.metrics import Metrics
from portwatch.model import NetworkId, PortId
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Drift
from portwatch.ovsdb import records
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture, PictureChange
from portwatch.switch.ofctl import OfCtl
from portwatch.switch.programmer import Programmer

INBOX_SLICE = 200
"""Messages handled before other tasks get their turn: a flood of messages must not hold up a local port."""
MANIFEST_DELAY = 0.25
"""Seconds in which a network's changes share one manifest; the contract allows one."""
TICK = 0.5
"""Seconds between looks at what only time decides."""
WATCHERS_BEHIND = 1000
"""Events that a follower of the live events may be behind before it loses the oldest."""
REFUSALS_EVERY = 10.0
"""Seconds in which refused messages of one reason are logged once."""

log = structlog.get_logger()


def now() -> datetime:
    """Return the time of day, for people and for sequences."""
    return datetime.now(UTC)


class Agent:
    """Made when this host's first picture is known; *picture* is kept up to date by whoever calls `plugged`."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        picture: Picture,
        database: Database,
        ofctl: OfCtl,
        broker: Broker,
        metrics: Metrics,
    ) -> None:
        self.config, self.identity, self.picture, self.metrics = config, identity, picture, metrics
        policy = Policy(config.ports.arp_responder, config.ports.unknown_unicast == "flood")
        self.reactor = Reactor(identity, policy)
        self.topics = wire.Topics(config.bus.prefix)
        self.inbox: Mailbox[str, Message] = Mailbox()
        self.link = Link(broker, identity.host, self, self.inbox)
        names = {Bridge.INTEGRATION: config.bridges.integration, Bridge.TUNNEL: config.bridges.tunnel}
        self.programmers = {
            bridge: Programmer(name, self.reactor.ledgers[bridge], OWN, _Account(self, bridge), ofctl, metrics)
            for bridge, name in names.items()
        }
        self.started_at = now()
        self._database = database
        self._records: Mailbox[PortId, PortRecord] = Mailbox()
        self._manifests: Mailbox[NetworkId, None] = Mailbox()
        self._followers: set[asyncio.Queue[bytes]] = set()
        self._interest = (-1, -1)
        self._seen: dict[PortId, float] = {}
        self._remote_seen: deque[tuple[int, datetime]] = deque(maxlen=10_000)
        self._refusals: dict[str, tuple[float, int]] = {}
        self.clock = time.monotonic

    # --- OVSDB ---------------------------------------------------------------------------------------------------

    def plugged(self, change: PictureChange) -> None:
        """The picture changed."""
        seen = time.perf_counter()
        for port_id, plug in change.plugs.items():
            if plug is None:
                self._seen.pop(port_id, None)
            elif port_id not in self.reactor.plugs:
                self._seen[port_id] = seen
        self.reactor.plugged(change.plugs, self.picture.switch_ports, now())
        self._carry_out()

    async def write_records(self) -> None:
        """Keep the Port rows as the reactor wants them remembered, for ever."""
        while True:
            wanted = await self._records.take()
            try:
                await self._database.transact(partial(records.write, self.picture, wanted))
            except OvsdbUnavailable as error:
                # The next full picture brings the rows again, and with them what they lack.
                log.warning("Port rows not written", ports=len(wanted), error=str(error))
            except TransactionFailed as error:
                log.error("ovsdb-server refuses what we write", ports=sorted(wanted), error=str(error))

    # --- the bus -------------------------------------------------------------------------------------------------

    async def read_bus(self) -> None:
        """Take in what the bus says, for ever, in slices."""
        while True:
            batch = list((await self.inbox.take()).values())
            for start in range(0, len(batch), INBOX_SLICE):
                self._hear(batch[start : start + INBOX_SLICE])
                await asyncio.sleep(0)

    async def publish_manifests(self) -> None:
        """Publish the manifests of networks whose ports here changed, for ever; changes close together share one."""
        while True:
            changed = await self._manifests.take()
            await asyncio.sleep(MANIFEST_DELAY)
            for network_id in changed | self._manifests.take_now():
                publication = self._manifest(network_id)
                self.link.say(publication.topic, Words((publication,)))

    async def keep_time(self) -> None:
        """Look at what only time decides, for ever."""
        while True:
            await asyncio.sleep(TICK)
            self.reactor.settle(now(), time.monotonic())
            self._carry_out()

    def will(self) -> Publication:
        return self._host(OFFLINE)

    def greeting(self) -> Iterable[Publication]:
        for event in self.reactor.say_again(now()):
            yield from self._words(event)
        networks, self.reactor.manifests = self.reactor.manifests, set()
        for network_id in networks:
            yield self._manifest(network_id)
        yield self._host(ONLINE)

    def farewell(self) -> Iterable[Publication]:
        yield self._host(STOPPED)

    def subscribing(self, filters: frozenset[str]) -> None:
        self._hear(self.inbox.take_now().values())
        if filters.issuperset(self.topics.of_ourselves(self.identity.host)):
            self.reactor.connecting()
        for network_id in self.reactor.fabric.networks:
            if filters.intersection(self.topics.of_network(network_id)):
                self.reactor.snapshots.subscribed(network_id, time.monotonic())

    # --- for those who watch -------------------------------------------------------------------------------------

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield the JSON of each port event from now on, of this host and those it listens to."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(WATCHERS_BEHIND)
        self._followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    @property
    def troubles(self) -> dict[str, str]:
        """What is not as it should be, by component."""
        troubles = {}
        if not self._database.connected:
            troubles["ovsdb"] = self._database.last_error or "not connected"
        for programmer in self.programmers.values():
            if programmer.trouble is not None:
                troubles.setdefault("switch", f"{programmer.bridge}: {programmer.trouble}")
        if self.link.trouble is not None:
            troubles["bus"] = self.link.trouble
        return troubles

    # --- within --------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Hand on what the reactor has decided: events to the bus, records to OVSDB, work to the programmers."""
        reactor = self.reactor
        for event in reactor.events:
            publications = self._words(event)
            said = partial(self._published, time.perf_counter())
            self.link.say(publications[0].topic, Words(publications, said))
            self.metrics.port_events.labels(event.type, "local").inc()
            self._tell_followers(publications[0].payload)
        reactor.events.clear()
        for network_id in reactor.manifests:
            self._manifests.put(network_id, None)
        reactor.manifests.clear()
        for port_id, record in reactor.records.items():
            self._records.put(port_id, record)
        reactor.records.clear()
        for bridge, programmer in self.programmers.items():
            if reactor.ledgers[bridge].owes:
                programmer.kick()
        if reactor.interest != self._interest:
            self._interest = reactor.interest
            self.link.listen(self._filters())

    def committed(self, bridge: Bridge, generation: int) -> None:
        """A bridge holds what was wanted at *generation*."""
        installed = self.reactor.committed(bridge, generation, now())
        done = time.perf_counter()
        local = self.metrics.convergence_seconds.labels("local")
        for port_id in installed:
            if (seen := self._seen.pop(port_id, None)) is not None:
                local.observe(done - seen)
                log.info("port installed", port=port_id, seconds=round(done - seen, 4))
        remote = self.metrics.convergence_seconds.labels("remote")
        while self._remote_seen and self._remote_seen[0][0] <= self.reactor.reached:
            remote.observe(max(0.0, (now() - self._remote_seen.popleft()[1]).total_seconds()))
        self._carry_out()

    def _filters(self) -> set[str]:
        """Return what to be subscribed to: the networks that have a port here, the hosts in them, our own words."""
        host = self.identity.host
        filters = {*self.topics.of_ourselves(host)}
        for network_id in self.reactor.fabric.networks:
            filters.update(self.topics.of_network(network_id))
        filters.update(map(self.topics.host, self.reactor.hosts_of_interest))
        return filters

    def _hear(self, messages: Iterable[Message]) -> None:
        for message in messages:
            try:
                self._hear_one(message)
            except Refused as error:
                self._refuse(message.topic, error)
        self._carry_out()

    def _hear_one(self, message: Message) -> None:
        clock = time.monotonic()
        news = self.topics.decode(message.topic, message.payload, self.config.tunnel.allowed_peers or ())
        match news:
            case PortEvent() | ClaimGone():
                try:
                    heard = self.reactor.heard(news, now(), clock)
                except StaleEvent as error:
                    raise Refused("stale", str(error)) from None
                if heard and isinstance(news, PortEvent):
                    self.metrics.port_events.labels(news.type, "remote").inc()
                    if news.time is not None and not isinstance(news, PortRemoved):
                        self._remote_seen.append((self.reactor.generation, news.time))
                    self._tell_followers(message.payload)
            case Manifest():
                self.reactor.stated(news, clock)
            case wire.ManifestGone(network_id, host):
                self.reactor.snapshots.unstated(network_id, host)
            case HostStatus():
                self.reactor.seen(news)
            case wire.HostGone():
                self.reactor.hosts.pop(news.host, None)

    def _refuse(self, topic: str, error: Refused) -> None:
        self.metrics.refused(error.reason)
        clock = time.monotonic()
        last, unsaid = self._refusals.get(error.reason, (-REFUSALS_EVERY, 0))
        if clock - last < REFUSALS_EVERY:
            self._refusals[error.reason] = (last, unsaid + 1)
            return
        self._refusals[error.reason] = (clock, 0)
        log.warning(
            "message from the bus refused",
            reason=error.reason,
            topic=topic[:200],
            detail=error.detail[:200],
            more=unsaid,
        )

    def _words(self, event: PortEvent) -> tuple[Publication, ...]:
        port = event.claim.port
        topic = self.topics.port(port.network_id, event.claim.host, port.port_id)
        said = Publication(topic, wire.encode_event(event), True, wire.PORT_EVENT_CONTENT_TYPE)
        if not isinstance(event, PortRemoved):
            return (said,)
        end = Publication(topic, said.payload, False, wire.PORT_EVENT_CONTENT_TYPE)
        return end, Publication(topic, b"", True)

    def _manifest(self, network_id: NetworkId) -> Publication:
        manifest = self.reactor.announcer.manifest(network_id)
        topic = self.topics.manifest(network_id, self.identity.host)
        expiry = None if manifest.count else wire.MANIFEST_EXPIRY
        return Publication(topic, wire.encode_manifest(manifest), True, wire.JSON_CONTENT_TYPE, expiry)

    def _host(self, state: str) -> Publication:
        status = HostStatus(
            host=self.identity.host,
            session=self.identity.session,
            state=state,
            tunnel_ip=self.identity.endpoint,
            tunnel_type=self.config.tunnel.type,
            version=__version__,
            started_at=self.started_at,
        )
        return Publication(self.topics.host(self.identity.host), wire.encode_host(status), True, wire.JSON_CONTENT_TYPE)

    def _published(self, since: float) -> None:
        self.metrics.convergence_seconds.labels("published").observe(time.perf_counter() - since)

    def _tell_followers(self, payload: bytes) -> None:
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(payload)


class _Account:
    """One bridge's side of the reactor, as its programmer sees it."""

    def __init__(self, agent: Agent, bridge: Bridge) -> None:
        self._agent, self._bridge = agent, bridge

    @property
    def generation(self) -> int:
        return self._agent.reactor.generation

    def read_back(self, items: Iterable[Item]) -> Drift:
        drift = self._agent.reactor.read_back(self._bridge, items)
        self._agent.committed(self._bridge, -1)
        return drift

    def committed(self, generation: int) -> None:
        self._agent.committed(self._bridge, generation)
