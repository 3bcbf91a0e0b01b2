"""What this agent says and hears on the bus: typed at the border, in the reactor's order, under our own name.

It is the link's speaker: it greets a new connection with all that is ours, and ends with a farewell or a last will.
Nothing of the local path waits here.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network

import structlog

from portwatch import wire
from portwatch.bus.connection import Broker, Message, Publication
from portwatch.bus.link import Link, Words
from portwatch.config import Config
from portwatch.convergence import Convergence, Timing
from portwatch.errors import Refused
from portwatch.events import (
    LEAVING,
    OFFLINE,
    ONLINE,
    STOPPED,
    ClaimGone,
    ClaimKey,
    HostStatus,
    Manifest,
    PortEvent,
    PortRemoved,
    rewires,
)
from portwatch.fabric.announcer import Identity
from portwatch.fabric.directory import Directory
from portwatch.fabric.reactor import Reactor, StaleEvent
from portwatch.introduction import Introduction
from portwatch.logs import Seldom
from portwatch.mailbox import Mailbox
from portwatch.metrics import Metrics
from portwatch.model import HostName, IpNetwork, NetworkId, Status
from portwatch.speech import Speech
from portwatch.wire import News

INBOX_SLICE = 200
"""Messages handled before other tasks get their turn: a flood of messages must not hold up a local port."""
MANIFEST_DELAY = 0.25
"""Seconds in which a network's changes share one manifest; the contract allows one."""
FOLLOWERS_BEHIND = 1000
"""Events that a follower of the live events may be behind before it loses the oldest."""
REMOTE_SEEN = 10_000

log = structlog.get_logger()


def now() -> datetime:
    """Return the time of day, for people and for sequences."""
    return datetime.now(UTC)


class Exchange:
    """One agent's. After what it hears it calls *decided*: the reactor may have decided something."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        reactor: Reactor,
        broker: Broker,
        metrics: Metrics,
        convergence: Convergence,
        decided: Callable[[], None],
        directory: Directory | None = None,
    ) -> None:
        """*directory*: who wants the ports' details from the bus, if anybody."""
        self.topics = wire.Topics(config.bus.prefix)
        self.link = Link(broker, identity.host, self)
        self.link.when_changed(self._count_connections)
        self.connected_at = self.started_at = now()
        self._config, self._identity, self._reactor, self._metrics = config, identity, reactor, metrics
        self._convergence = convergence
        self._decided = decided
        self._directory = directory
        self._allowed = _allowed(config, identity)
        self._speech = Speech(self.topics, identity, config.tunnel.type, self.started_at)
        self._introduction = Introduction(identity, self.started_at, self.say_presence)
        self._inbox: Mailbox[str, tuple[News, bool]] = Mailbox(partial(newer, identity.host))
        self._manifests: Mailbox[NetworkId, None] = Mailbox()
        self._followers: set[asyncio.Queue[bytes]] = set()
        self._due: set[NetworkId] = set()
        self._interest = (-1, -1, -1)
        self._asked: dict[NetworkId, tuple[HostName, ...]] = {}
        """Whose share of which network is asked for by itself: a subscription beside that to the network."""
        self._overwritten: set[str] = set()
        """Topics that may be ours, and on which others have spoken."""
        self._seldom = Seldom()
        self.remote_seen: deque[tuple[int, datetime, ClaimKey]] = deque(maxlen=REMOTE_SEEN)
        """Events of others that changed what is wanted: the generation, and the event's own time."""
        self._rewiring: list[tuple[datetime, ClaimKey]] = []
        """Of the messages in hand: the events that ask for other flows, if those of their port differ at all."""
        self._connections = 0
        self.clocks: dict[HostName, float] = {}
        """By how many seconds each host's last live event was older than its arrival; far off if a clock is."""

    # --- what the reactor has decided ---------------------------------------------------------------------------------

    def carry_out(self, since: float) -> None:
        """Say the reactor's events and manifests, listen to what it wants; *since*: when the news was seen."""
        reactor = self._reactor
        for event in reactor.events:
            publications = self._speech.event(event)
            said = partial(self._published, since, event.key)
            self.link.say(publications[0].topic, Words(publications, said))
            self._metrics.port_events.labels(event.type, "local").inc()
            if event.claim.status is Status.ERROR:
                log.warning(
                    "a port is not wired",
                    port=event.claim.port.port_id,
                    network=event.claim.port.network_id,
                    reason=event.claim.reason,
                    do="correct what the reason names; `portwatch explain` tells all that is known of the port",
                )
            self._tell_followers(publications[0].payload)
        reactor.events.clear()
        for network_id in reactor.manifests:
            self._manifests.put(network_id, None)
        self._due |= reactor.manifests
        reactor.manifests.clear()
        interest = (*reactor.interest, self._directory.interest if self._directory else 0)
        if interest != self._interest:
            self._interest = interest
            self.link.listen(self._filters())

    def heal(self, clock: float) -> None:
        """Say again what others have cleared or overwritten of ours.

        Ask again for what is retained in networks that stay incomplete: a message may have been lost.
        """
        if self._overwritten:
            self._say_again(clock)
        snapshots = self._reactor.snapshots
        for network_id, hosts in snapshots.to_ask_again(clock).items():
            log.warning(
                "a network stays incomplete; asking the bus for it again",
                network=network_id,
                host=hosts[0],
                more=len(hosts) - 1,
                do="see that these hosts' agents run, and that the broker's queue limits fit all that is retained",
            )
            self.link.listen_again(each for host in hosts for each in self.topics.of_share(network_id, host))
        if snapshots.asked != self._asked:
            self._asked = snapshots.asked
            self.link.listen(self._filters())

    @property
    def waits(self) -> bool:
        """Is there anything for the next `heal`?"""
        return bool(self._overwritten)

    def _note_overwritten(self, topic: str) -> None:
        """What is retained here is not what its owner said: if that is us, it is said again at the next `heal`."""
        if f"/{self._identity.host}" in topic:
            self._overwritten.add(topic)

    def _say_again(self, clock: float) -> None:
        overwritten, self._overwritten = self._overwritten, set()
        reactor, host = self._reactor, self._identity.host
        for claim in tuple(reactor.announcer.claims.values()):
            port = claim.port
            if self.topics.port(port.network_id, host, port.port_id) in overwritten:
                reactor.insist(port.port_id, now(), clock)
            if port.network_id is not None and self.topics.manifest(port.network_id, host) in overwritten:
                reactor.manifests.add(port.network_id)
        if self.topics.host(host) in overwritten:
            self.say_presence()

    # --- tasks --------------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Take in what the bus says, for ever, in slices."""
        while True:
            self._hear(await self._inbox.take(INBOX_SLICE))
            await asyncio.sleep(0)

    async def publish_manifests(self) -> None:
        """Publish the manifests of networks whose ports here changed, for ever; changes close together share one."""
        while True:
            changed = await self._manifests.take()
            await asyncio.sleep(MANIFEST_DELAY)
            for network_id in changed | self._manifests.take_now():
                self._due.discard(network_id)
                publication = self._manifest(network_id)
                self.link.say(publication.topic, Words((publication,)))

    # --- the link's speaker -------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Type a message as it comes: a refused one must not hide the good one before it on its topic."""
        try:
            news = self.topics.decode(message.topic, message.payload, self._allowed)
        except Refused as error:
            self._refuse(message.topic, error)
            if (port_id := self.topics.described(message.topic)) is not None:
                refused = wire.DirectoryRefused(port_id, error.detail)
                self._inbox.put(f"refused {message.topic}", (refused, message.replayed))
            self._note_overwritten(message.topic)
            return
        if isinstance(news, HostStatus) and news.host == self._identity.host:
            self._introduction.hear_ourselves(news)
            if news.session == self._identity.session:
                self._inbox.put(message.topic, (news, message.replayed))  # as the others see us
        elif isinstance(news, HostStatus) and not self._introduction.done:
            self._introduction.hear_of_stranger(news)
            if news.host in self._reactor.hosts_of_interest:  # for other reasons, too
                self._inbox.put(message.topic, (news, message.replayed))
        else:
            if isinstance(news, PortEvent) and news.claim.session == self._identity.session:
                self._reactor.announcer.heard(news.claim)  # at once: what follows on its topic may hide it in the inbox
            self._inbox.put(message.topic, (news, message.replayed))

    def announcement(self) -> Publication:
        return self._present()

    async def introduced(self) -> None:
        """Return when the name and the tunnel address are ours. IdentityTaken, AddressTaken: they are not."""
        first = await self._introduction.complete()
        self.connected_at = now()
        if first:
            self.link.listen(self._filters())

    def will(self) -> Publication:
        return self._host(OFFLINE)

    def greeting(self) -> Iterable[Publication]:
        for event in self._reactor.say_again(now()):
            yield from self._speech.event(event)
        networks, self._reactor.manifests = self._reactor.manifests, set()
        for network_id in networks:
            yield self._manifest(network_id)
        yield self._present()

    def farewell(self) -> Iterable[Publication]:
        yield from map(self._manifest, self._due)
        yield self._host(STOPPED)

    def subscribing(self, filters: frozenset[str]) -> None:
        self._hear(self._inbox.take_now())
        if filters.issuperset(self.topics.of_ourselves(self._identity.host)):
            self._introduction.begin()  # here, and not later: what is retained may come before all is subscribed
            self._reactor.connecting()
            if self._directory is not None:
                self._directory.connecting(time.monotonic())
        clock, snapshots = time.monotonic(), self._reactor.snapshots
        for network_id in self._reactor.fabric.networks:
            if filters.intersection(self.topics.of_network(network_id)):
                snapshots.subscribed(network_id, clock)
            if filters.issuperset(self.topics.of_ourselves(self._identity.host)):
                snapshots.subscribed(network_id, clock, self._identity.host)
        for network_id, hosts in self._asked.items():
            for host in hosts:
                if filters.intersection(self.topics.of_share(network_id, host)):
                    snapshots.subscribed(network_id, clock, host)

    def speaks_of_us(self, topic_filter: str) -> bool:
        return self.topics.is_of_host(topic_filter, self._identity.host)

    # --- for those who watch ------------------------------------------------------------------------------------------

    async def follow(self) -> AsyncGenerator[bytes]:
        """Yield the JSON of each port event from now on, of this host and those it listens to."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(FOLLOWERS_BEHIND)
        self._followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    # --- within -------------------------------------------------------------------------------------------------------

    def _filters(self) -> set[str]:
        """Return what to be subscribed to: the networks that have a port here, the hosts in them, our own words."""
        host = self._identity.host
        filters = {*self.topics.of_ourselves(host)}
        if not self._introduction.done and self._identity.endpoint is not None:
            filters.add(self.topics.hosts)  # does anybody live at our tunnel address?
        for network_id in self._reactor.fabric.networks:
            filters.update(self.topics.of_network(network_id))
        filters.update(map(self.topics.host, self._reactor.hosts_of_interest))
        for network_id, hosts in self._asked.items():
            filters.update(each for name in hosts for each in self.topics.of_share(network_id, name))
        if self._directory is not None:
            filters.update(map(self.topics.directory, self._directory.plugs))
        return filters

    def _hear(self, messages: Mapping[str, tuple[News, bool]]) -> None:
        generation = self._reactor.progress.generation
        with self._reactor.planner.together():
            for topic, (news, replayed) in messages.items():
                try:
                    self._hear_one(news, replayed=replayed)
                except StaleEvent as error:
                    self._refuse(topic, Refused("stale", str(error)))
                except Exception:
                    # A retained message that trips us would end every agent that reads it, and every start of it.
                    self._metrics.refused("fault")
                    if (more := self._seldom.unsaid("fault")) is not None:
                        log.exception(
                            "a message from the bus could not be handled; it is passed over",
                            topic=topic[:200],
                            more=more,
                            do="report this, it is a fault of portwatch's",
                        )
        if self._reactor.progress.generation != generation:
            self.remote_seen.extend((self._reactor.progress.generation, *each) for each in self._rewiring)
        self._rewiring.clear()
        self._decided()

    def _hear_one(self, news: News, *, replayed: bool) -> None:
        clock = time.monotonic()
        match news:
            case PortEvent() | ClaimGone():
                self._hear_of_port(news, clock, replayed=replayed)
            case Manifest():
                self._reactor.stated(news, clock)
            case wire.ManifestGone(network_id, host):
                self._reactor.snapshots.unstated(network_id, host, clock)
                self._note_overwritten(self.topics.manifest(network_id, host))
            case HostStatus():
                before = self._reactor.presence.hosts.get(news.host)
                if before is not None and before.state != news.state:
                    log.info("a host changed its state", host=news.host, state=news.state, before=before.state)
                self._reactor.seen(news, clock)
            case wire.HostGone():
                self._reactor.forgot(news.host)
                self._note_overwritten(self.topics.host(news.host))
            case wire.DirectoryEntry() | wire.DirectoryRefused() | wire.DirectoryGone():
                self._hear_of_details(news)

    def _hear_of_details(self, news: wire.DirectoryNews) -> None:
        """Pass it on; `_decided` tells the reactor, for many together."""
        if self._directory is None:
            return
        match news:
            case wire.DirectoryEntry(port_id, details):
                self._directory.told(port_id, details)
            case wire.DirectoryRefused(port_id, why):
                self._directory.refused(port_id, why)
            case wire.DirectoryGone(port_id):
                self._directory.gone(port_id)

    def _hear_of_port(self, news: PortEvent | ClaimGone, clock: float, *, replayed: bool) -> None:
        if self._directory is not None and isinstance(news, PortEvent) and news.key[1] == self._identity.host:
            self._directory.recalled(news.claim)
        held = self._reactor.fabric.claims.get(news.key)
        if not self._reactor.heard(news, now(), clock, replayed=replayed):
            return
        if isinstance(news, ClaimGone):
            if held is None:
                return
            news = PortRemoved(held)  # its own last word was overtaken, or lost
        self._metrics.port_events.labels(news.type, "remote").inc()
        self._tell_followers(wire.encode_event(replace(news, time=news.time or now())))
        if not replayed and news.time is not None:
            self.clocks[news.claim.host] = (now() - news.time).total_seconds()
        if news.time is not None and news.time >= self.connected_at and rewires(held, news):
            self._rewiring.append((news.time, news.key))

    def _refuse(self, topic: str, error: Refused) -> None:
        self._metrics.refused(error.reason)
        if (more := self._seldom.unsaid(error.reason)) is not None:
            log.warning(
                "message from the bus refused",
                reason=error.reason,
                topic=topic[:200],
                detail=error.detail[:200],
                more=more,
                do="see who publishes that; it changed nothing here",
            )

    def _manifest(self, network_id: NetworkId) -> Publication:
        return self._speech.manifest(self._reactor.announcer.manifest(network_id))

    def say_presence(self) -> None:
        """Say how this host is: an operator may have drained it."""
        publication = self._present()
        self.link.say(publication.topic, Words((publication,)))

    def _present(self) -> Publication:
        return self._host(LEAVING if self._reactor.leaving else ONLINE)

    def _host(self, state: str) -> Publication:
        return self._speech.host(state, self._introduction.tunnel_since)

    def _count_connections(self) -> None:
        if self.link.connections > self._connections > 0:
            self._metrics.reconnects.labels("bus").inc()
        self._connections = self.link.connections

    def _published(self, since: float, claim: ClaimKey) -> None:
        self._convergence.observe(Timing(now(), "published", claim, time.perf_counter() - since))

    def _tell_followers(self, payload: bytes) -> None:
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(payload)


def newer(here: HostName, old: tuple[News, bool], new: tuple[News, bool]) -> tuple[News, bool]:
    """Of two words on one topic the later counts, unless it is an older revision of the same session: a replay.

    On a topic of our own host, *here*, it counts even so: it is what the broker retains now, and is to be put right.
    Whether it was said before we listened is told by the first that spoke of the same attachment.
    """
    before, after = old[0], new[0]
    if isinstance(before, PortEvent) and isinstance(after, PortEvent) and before.claim.session == after.claim.session:
        if after.claim.revision < before.claim.revision and after.claim.host != here:
            return old
        if after.claim.seq == before.claim.seq:
            return after, old[1]
    return new


def _allowed(config: Config, identity: Identity) -> tuple[IpNetwork, ...]:
    """Return where tunnel endpoints may be; none: anywhere. We hear ourselves, whether we are our own peer or not."""
    peers = config.tunnel.allowed_peers
    return (*peers, ip_network(identity.endpoint)) if peers and identity.endpoint else peers or ()
