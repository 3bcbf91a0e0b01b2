"""What this agent hears on the bus: typed as it comes, and told to the reactor in slices, in its order.

Nothing that comes trips the reader: what is not as the contract says is refused, counted, and logged seldom.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network

import structlog

from portwatch import wire
from portwatch.bus.connection import Message
from portwatch.config import Config
from portwatch.errors import Refused
from portwatch.events import ClaimGone, ClaimKey, HostStatus, Manifest, PortEvent, PortRemoved, rewires
from portwatch.fabric.announcer import Identity
from portwatch.fabric.directory import Directory
from portwatch.fabric.reactor import Reactor, StaleEvent
from portwatch.followers import Followers
from portwatch.introduction import Introduction
from portwatch.logs import Seldom
from portwatch.mailbox import Mailbox
from portwatch.metrics import Metrics
from portwatch.model import HostName, IpNetwork
from portwatch.wire import News

INBOX_SLICE = 200
"""Messages handled before other tasks get their turn: a flood of messages must not hold up a local port."""
REMOTE_SEEN = 10_000

log = structlog.get_logger()


def now() -> datetime:
    """Return the time of day, for people and for sequences."""
    return datetime.now(UTC)


class Hearing:
    """One agent's. After what it hears it calls *decided*: the reactor may have decided something."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        reactor: Reactor,
        metrics: Metrics,
        introduction: Introduction,
        followers: Followers,
        decided: Callable[[], None],
        directory: Directory | None = None,
    ) -> None:
        """*directory*: who wants the ports' details, if anybody."""
        self.connected_at = now()
        """Since when events tell how long they took: what was said before had to wait for us."""
        self.overwritten: set[str] = set()
        """Topics that may be ours, and on which others have spoken."""
        self.remote_seen: deque[tuple[int, datetime, ClaimKey]] = deque(maxlen=REMOTE_SEEN)
        """Events of others that changed what is wanted: the generation, and the event's own time."""
        self.clocks: dict[HostName, float] = {}
        """By how many seconds each host's last live event was older than its arrival; far off if a clock is."""
        self._topics = wire.Topics(config.bus.prefix)
        self._identity, self._reactor, self._metrics = identity, reactor, metrics
        self._introduction = introduction
        self._followers = followers
        self._decided = decided
        self._directory = directory
        self._allowed = _allowed(config, identity)
        self._inbox: Mailbox[str, tuple[News, bool]] = Mailbox(partial(newer, identity.host))
        self._rewiring: list[tuple[datetime, ClaimKey]] = []
        """Of the messages in hand: the events that ask for other flows, if those of their port differ at all."""
        self._seldom = Seldom()

    def receive(self, message: Message) -> None:
        """Type a message as it comes: a refused one must not hide the good one before it on its topic."""
        try:
            news = self._topics.decode(message.topic, message.payload, self._allowed)
        except Refused as error:
            self._refuse(message.topic, error)
            if (port_id := self._topics.described(message.topic)) is not None:
                refused = wire.DirectoryRefused(port_id, error.detail)
                self._inbox.put(f"refused {message.topic}", (refused, message.replayed))
            nothing_yet = not self.overwritten
            self._note_overwritten(message.topic)
            if nothing_yet and self.overwritten:
                self._decided()  # else nobody would look at it before something else comes
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

    async def read(self) -> None:
        """Take in what the bus says, for ever, in slices."""
        while True:
            self._hear(await self._inbox.take(INBOX_SLICE))
            await asyncio.sleep(0)

    def take_in(self) -> None:
        """Take in all that has come, now."""
        self._hear(self._inbox.take_now())

    def take_overwritten(self) -> set[str]:
        """Return the topics that may be ours and on which others have spoken since the last time."""
        overwritten, self.overwritten = self.overwritten, set()
        return overwritten

    # --- within -------------------------------------------------------------------------------------------------------

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
                self._note_overwritten(self._topics.manifest(network_id, host))
            case HostStatus():
                before = self._reactor.presence.hosts.get(news.host)
                if before is not None and before.state != news.state:
                    log.info("a host changed its state", host=news.host, state=news.state, before=before.state)
                self._reactor.seen(news, clock)
            case wire.HostGone():
                self._reactor.forgot(news.host)
                self._note_overwritten(self._topics.host(news.host))
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
        held = self._reactor.fabric.heard.claims.get(news.key)
        if not self._reactor.heard(news, now(), clock, replayed=replayed):
            return
        if isinstance(news, ClaimGone):
            if held is None:
                return
            news = PortRemoved(held)  # its own last word was overtaken, or lost
        self._metrics.port_events.labels(news.type, "remote").inc()
        if self._followers:
            self._followers.tell(wire.encode_event(replace(news, time=news.time or now())))
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

    def _note_overwritten(self, topic: str) -> None:
        """What is retained here is not what its owner said: if that is us, it is to be said again."""
        if f"/{self._identity.host}" in topic:
            self.overwritten.add(topic)


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
