"""What this agent says on the bus, under its own name, and what it listens to there; what it hears is `hearing`'s.

It is the link's speaker: it greets a new connection with all that is ours, and ends with a farewell or a last will.
Nothing of the local path waits here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from portwatch import wire
from portwatch.bus.connection import Broker, Message, Publication
from portwatch.bus.link import Link, Words
from portwatch.config import Config
from portwatch.convergence import Convergence, Timing
from portwatch.events import (
    LEAVING,
    OFFLINE,
    ONLINE,
    STOPPED,
    ClaimKey,
)
from portwatch.fabric.announcer import Identity
from portwatch.fabric.directory import Directory
from portwatch.fabric.reactor import Reactor
from portwatch.followers import Followers
from portwatch.hearing import Hearing, now
from portwatch.introduction import Introduction
from portwatch.mailbox import Mailbox
from portwatch.metrics import Metrics
from portwatch.model import HostName, NetworkId, Status
from portwatch.speech import Speech

MANIFEST_DELAY = 0.25
"""Seconds in which a network's changes share one manifest; the contract allows one."""

log = structlog.get_logger()


class Exchange:
    """One agent's. After what is heard *decided* is called: the reactor may have decided something."""

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
        self.started_at = now()
        self._config, self._identity, self._reactor, self._metrics = config, identity, reactor, metrics
        self._convergence = convergence
        self._directory = directory
        self._speech = Speech(self.topics, identity, config.tunnel.type, self.started_at)
        self._introduction = Introduction(identity, self.started_at, self.say_presence)
        self._manifests: Mailbox[NetworkId, None] = Mailbox()
        self.followers = Followers()
        self.hearing = Hearing(
            config, identity, reactor, metrics, self._introduction, self.followers, decided, directory
        )
        self._due: set[NetworkId] = set()
        self._interest: tuple[int, ...] = ()
        self._asked: dict[NetworkId, tuple[HostName, ...]] = {}
        """Whose share of which network is asked for by itself: a subscription beside that to the network."""
        self._connections = 0

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
            self.followers.tell(publications[0].payload)
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
        if self.hearing.overwritten:
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
        return bool(self.hearing.overwritten)

    def _say_again(self, clock: float) -> None:
        overwritten = self.hearing.take_overwritten()
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
        self.hearing.receive(message)

    def announcement(self) -> Publication:
        return self._present()

    async def introduced(self) -> None:
        """Return when the name and the tunnel address are ours. IdentityTaken, AddressTaken: they are not."""
        first = await self._introduction.complete()
        self.hearing.connected_at = now()
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
        self.hearing.take_in()
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
