"""The link to the bus that is always made again: subscriptions, what is ours on the bus, the last will.

Whoever uses it says what to listen to and what to say; the link keeps both across connections. Nothing waits for it.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import structlog

from portwatch.bus.connection import Broker, Connection, Message, Publication
from portwatch.errors import AddressTaken, BusRefused, BusUnavailable, IdentityTaken, PublishRefused, SubscribeRefused
from portwatch.mailbox import Mailbox

SOON, LATE = 1.0, 8.0
"""Seconds within which the next attempt to connect falls: after the first failure, and at most."""

STOOD = 10.0
"""Seconds after which a connection was a good one: only then is the next attempt made as soon as the first."""
REFUSED_AGAIN = 10.0
"""Seconds after which the broker is asked again for what it has refused."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Words:
    """What is to be said on one topic: these publications, in order. The newest replaces what is not yet said."""

    publications: tuple[Publication, ...]
    said: Callable[[], None] = lambda: None
    """Called when the broker has taken them."""


class Speaker(Protocol):
    """Whoever uses the link."""

    def will(self) -> Publication:
        """Return what the broker shall say when we are gone without a word."""

    def greeting(self) -> Iterable[Publication]:
        """Return everything that is ours, in the order in which a new connection shall say it."""

    def farewell(self) -> Iterable[Publication]:
        """Return the last words of an agent that stops."""

    def subscribing(self, filters: frozenset[str]) -> None:
        """These are about to be subscribed to: all that is retained there comes (again)."""

    def speaks_of_us(self, topic_filter: str) -> bool:
        """Is this a filter by which our own words are to come back? By the others they would come once more."""

    def receive(self, message: Message) -> None:
        """Take in a message; called for each, as it comes."""

    def announcement(self) -> Publication:
        """Return what is said first on a new connection: who we are."""

    async def introduced(self) -> None:
        """Return when the name is ours to speak under, or raise `IdentityTaken`."""


class Backoff:
    """How long to wait before each attempt: at random, for who was thrown out together shall not come back together."""

    def __init__(self) -> None:
        self._within = SOON

    def pause(self) -> float:
        """Return how long to wait this time."""
        within, self._within = self._within, min(self._within * 2, LATE)
        return random.uniform(0, within)  # noqa: S311  # no secret

    def reset(self) -> None:
        """The connection was a good one."""
        self._within = SOON


class Link:
    """One agent's. `listen` and `say` at any time; `run` connects for ever."""

    def __init__(self, broker: Broker, name: str, speaker: Speaker) -> None:
        """*name* begins the client id; its rest is random, so that a double of this host disturbs no session."""
        self.trouble: str | None = "not yet connected"
        """Why there is no connection, for people; None when there is one."""
        self.connections = 0
        self._broker = broker
        self._client_id = f"portwatch-{name}-{uuid4().hex[:12]}"
        self._speaker = speaker
        self._wanted: frozenset[str] = frozenset()
        self._dropped: frozenset[str] = frozenset()
        self.refused: dict[str, str] = {}
        """What the broker refuses, by topic or filter, and why: it is asked again."""
        self._unsaid: dict[str, Words] = {}
        self._outbox: Mailbox[str, Words] = Mailbox()
        self._work = asyncio.Event()
        self._stopped = asyncio.Event()
        self._on_change: Callable[[], None] = lambda: None

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Call *notify* whenever the connection comes or goes."""
        self._on_change = notify

    def listen(self, filters: Iterable[str]) -> None:
        """Be subscribed to exactly these from now on; what was dropped and is wanted again is told anew."""
        wanted = frozenset(filters)
        self._dropped |= self._wanted - wanted
        self._wanted = wanted
        self._work.set()

    def listen_again(self, filters: Iterable[str]) -> None:
        """Ask once more for what is retained under these, as far as they are listened to."""
        self._dropped |= self._wanted.intersection(filters)
        self._work.set()

    def say(self, topic: str, words: Words) -> None:
        """Publish as soon as there is a connection."""
        self._outbox.put(topic, words)
        self._work.set()

    def stop(self) -> None:
        """Say the farewell, if there is anybody to hear it, and let `run` end."""
        self._stopped.set()
        self._work.set()

    async def run(self) -> None:
        """Connect, and connect again, until `stop`."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            since = loop.time()
            try:
                async with self._broker.connect(
                    client_id=self._client_id, will=self._speaker.will(), receive=self._speaker.receive
                ) as connection:
                    stepping_down = await self._converse(connection)
                if stepping_down is not None:
                    raise stepping_down
            except BusUnavailable as error:
                if self.trouble != str(error):
                    log.warning(
                        "no connection to the bus; trying again",
                        error=str(error),
                        do="see that the broker runs and lets this host in (keys bus.*); what is wired stays wired",
                    )
                self.trouble = str(error)
                self._on_change()
                if loop.time() - since > STOOD:
                    backoff.reset()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), backoff.pause())

    # --- within --------------------------------------------------------------------------------------------------

    async def _converse(self, connection: Connection) -> IdentityTaken | None:
        """Speak and listen until the connection is lost, or until `stop`: leaving normally withholds the will."""
        subscribed = await self._subscribe(connection, frozenset())
        await self._publish(connection, _each((self._speaker.announcement(),)))
        try:
            await self._speaker.introduced()
        except AddressTaken as error:
            # The name is ours, and the broker retains that it lives.
            await self._publish(connection, _each(self._speaker.farewell()))
            return error
        except IdentityTaken as error:
            return error
        # From here on news goes to the outbox, and behind the greeting: each topic's newest word comes last.
        self.trouble = None
        greeting = _each(self._speaker.greeting())
        for topic in greeting:
            self._outbox.drop(topic)
        await self._publish(connection, greeting)
        self.connections += 1
        log.info("connected to the bus", filters=len(subscribed))
        self._on_change()
        self._work.set()
        closed = asyncio.ensure_future(connection.closed())
        closed.add_done_callback(lambda _: self._work.set())
        try:
            while not self._stopped.is_set():
                try:
                    async with asyncio.timeout(REFUSED_AGAIN if self.refused else None):
                        await self._work.wait()
                except TimeoutError:
                    self._ask_again()
                if closed.done():
                    closed.result()
                self._work.clear()
                await self._speak(connection)
                if self._wanted != subscribed or self._dropped:
                    subscribed = await self._subscribe(connection, subscribed)
            await self._publish(connection, _each(self._speaker.farewell()))
        finally:
            closed.cancel()
        return None

    async def _subscribe(self, connection: Connection, subscribed: frozenset[str]) -> frozenset[str]:
        wanted, dropped = self._wanted, self._dropped
        self._dropped = frozenset()
        if new := wanted - (subscribed - dropped):
            self._speaker.subscribing(new)
            ours = frozenset(filter(self._speaker.speaks_of_us, new))
            for filters, own in ((ours, True), (new - ours, False)):
                try:
                    await connection.subscribe(*sorted(filters), own=own)
                except SubscribeRefused as error:
                    # The rest stands: one forbidden network silences no other.
                    self._note_refusals(error)
        if old := subscribed - wanted:
            await connection.unsubscribe(*sorted(old))
        return wanted

    async def _speak(self, connection: Connection) -> None:
        batch = self._outbox.take_now()
        for topic in batch:
            self.refused.pop(topic, None)
            self._unsaid.pop(topic, None)
        await self._publish(connection, batch)
        for topic, words in batch.items():
            if topic not in self.refused:
                words.said()

    async def _publish(self, connection: Connection, batch: Mapping[str, Words]) -> None:
        try:
            await connection.publish(*(each for words in batch.values() for each in words.publications))
        except PublishRefused as error:
            self._note_refusals(error)
            self._unsaid |= {topic: batch[topic] for topic in error.topics if topic in batch}

    def _note_refusals(self, error: BusRefused) -> None:
        new = [topic for topic in error.topics if topic not in self.refused]
        if new:
            log.error(
                "the bus refuses what we ask",
                topic=new[0],
                error=str(error),
                more=len(new) - 1,
                do="let this host's user write and read it, in the broker's access list",
            )
        self.refused |= dict.fromkeys(error.topics, str(error))
        self._on_change()

    def _ask_again(self) -> None:
        """Ask once more for what was refused: the operator may have mended the broker's access list."""
        for topic, words in self._unsaid.items():
            if topic not in self._outbox:
                self._outbox.put(topic, words)
        self._dropped |= self._wanted & self.refused.keys()
        self._unsaid.clear()
        self.refused.clear()
        self._work.set()


def _each(publications: Iterable[Publication]) -> dict[str, Words]:
    """Return publications, each on its own topic, as words."""
    return {publication.topic: Words((publication,)) for publication in publications}
