"""The link to the bus that is always made again: subscriptions, what is ours on the bus, the last will.

Whoever uses it says what to listen to and what to say; the link keeps both across connections. Nothing waits for it.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import structlog

from portwatch.bus.connection import Broker, Connection, Message, Publication
from portwatch.errors import BusUnavailable, PublishRefused, SubscribeRefused
from portwatch.mailbox import Mailbox

BACKOFF = (0.1, 5.0)
"""Seconds between attempts to connect: at first, and at most. With jitter: a thousand come back at once."""

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


class Link:
    """One agent's. `listen` and `say` at any time; `run` connects for ever."""

    def __init__(self, broker: Broker, name: str, speaker: Speaker, inbox: Mailbox[str, Message]) -> None:
        """*name* begins the client id; its rest is random, so that a double of this host disturbs no session."""
        self.trouble: str | None = "not yet connected"
        """Why there is no connection, for people; None when there is one."""
        self.connections = 0
        self._broker = broker
        self._client_id = f"portwatch-{name}-{uuid4().hex[:12]}"
        self._speaker = speaker
        self._inbox = inbox
        self._wanted: frozenset[str] = frozenset()
        self._dropped: frozenset[str] = frozenset()
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
        pause, most = BACKOFF
        while not self._stopped.is_set():
            try:
                async with self._broker.connect(
                    client_id=self._client_id, will=self._speaker.will(), receive=self._receive
                ) as connection:
                    pause = BACKOFF[0]
                    await self._converse(connection)
            except (BusUnavailable, SubscribeRefused) as error:
                if self.trouble != str(error):
                    log.warning("no connection to the bus; trying again", error=str(error))
                self.trouble = str(error)
                self._on_change()
                try:
                    await asyncio.wait_for(self._stopped.wait(), pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter is no secret
                except TimeoutError:
                    pause = min(pause * 2, most)

    # --- within --------------------------------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        self._inbox.put(message.topic, message)

    async def _converse(self, connection: Connection) -> None:
        """Speak and listen until the connection is lost, or until `stop`: leaving normally withholds the will."""
        subscribed = await self._subscribe(connection, frozenset())
        # From here on news goes to the outbox, and behind the greeting: each topic's newest word comes last.
        self.trouble = None
        await self._publish(connection, self._speaker.greeting())
        self.connections += 1
        log.info("connected to the bus", filters=len(subscribed))
        self._on_change()
        self._work.set()
        closed = asyncio.ensure_future(connection.closed())
        try:
            while not self._stopped.is_set():
                work = asyncio.ensure_future(self._work.wait())
                await asyncio.wait({closed, work}, return_when=asyncio.FIRST_COMPLETED)
                work.cancel()
                if closed.done():
                    closed.result()
                self._work.clear()
                await self._speak(connection)
                if self._wanted != subscribed or self._dropped:
                    subscribed = await self._subscribe(connection, subscribed)
            await self._publish(connection, self._speaker.farewell())
        finally:
            closed.cancel()

    async def _subscribe(self, connection: Connection, subscribed: frozenset[str]) -> frozenset[str]:
        wanted, dropped = self._wanted, self._dropped
        self._dropped = frozenset()
        if new := wanted - (subscribed - dropped):
            self._speaker.subscribing(new)
            await connection.subscribe(*sorted(new))
        if old := subscribed - wanted:
            await connection.unsubscribe(*sorted(old))
        return wanted

    async def _speak(self, connection: Connection) -> None:
        batch = self._outbox.take_now().values()
        await self._publish(connection, (each for words in batch for each in words.publications))
        for words in batch:
            words.said()

    async def _publish(self, connection: Connection, publications: Iterable[Publication]) -> None:
        try:
            await connection.publish(*publications)
        except PublishRefused as error:
            log.error("the bus refuses what we publish", topic=error.topic, error=str(error))
