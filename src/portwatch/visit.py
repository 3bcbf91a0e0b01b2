"""A short visit to the bus, for commands: look at what is retained, leave a word, and go. No agent, no last words.

No broker says that it has told all that it retains: a message of our own comes back behind it, and then there is quiet.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from portwatch import wire
from portwatch.bus.connection import Broker, Connection, Message, Publication
from portwatch.errors import PublishRefused, Refused, SubscribeRefused
from portwatch.events import OFFLINE, HostStatus, PortEvent, PortRemoved
from portwatch.model import HostName

ANSWER_SECONDS: Final = 1.0
"""How long a broker may be silent before it counts as done, if our own message does not come back."""
QUIET_SECONDS: Final = 0.1
"""How much later than a later message a retained one may come: no broker promises an order between topics."""
ALIVE_SECONDS: Final = 2.0
"""How long a living agent may take to answer for its name (docs/contract.md, section 4)."""


class Visit:
    """One connection. `retained` is what it was told of what the broker holds, by topic."""

    connection: Connection

    def __init__(self, prefix: str, marker: str) -> None:
        self.topics = wire.Topics(prefix)
        self.retained: dict[str, bytes] = {}
        self._live: dict[str, bytes] = {}
        self._marker = marker
        self._heard, self._marked = asyncio.Event(), asyncio.Event()

    def receive(self, message: Message) -> None:
        self._heard.set()
        if message.topic == self._marker:
            self._marked.set()
        elif message.replayed and message.payload:
            self.retained[message.topic] = message.payload
        elif not message.replayed:
            self._live[message.topic] = message.payload
            if not message.payload:
                self.retained.pop(message.topic, None)

    async def read(self, *filters: str) -> dict[str, bytes]:
        """Return what is retained under *filters*, as far as the broker tells."""
        await self.connection.subscribe(*filters)
        self._marked.clear()
        try:
            await self.connection.subscribe(self._marker)
            await self.connection.publish(Publication(self._marker, b""))
        except (SubscribeRefused, PublishRefused):
            pass  # forbidden by an access list, perhaps: then time tells
        while await self._hears(QUIET_SECONDS if self._marked.is_set() else ANSWER_SECONDS):
            pass  # it is told something: it may be told more
        return dict(self.retained)

    async def _hears(self, seconds: float) -> bool:
        """Wait for the next message, or say that none came in this time."""
        try:
            await asyncio.wait_for(self._heard.wait(), seconds)
        except TimeoutError:
            return False
        self._heard.clear()
        return True

    async def publish(self, *publications: Publication) -> None:
        await self.connection.publish(*publications)

    def heard(self, topic: str) -> bytes | None:
        """Return the last that was said on *topic* while we listened."""
        return self._live.get(topic)

    async def echoes(self, topic: str) -> bool:
        """Does what we say on *topic* come back to us? An access list may forbid reading in silence."""
        await self.connection.subscribe(topic)
        await self.connection.publish(Publication(topic, b""))
        for _ in range(round(ANSWER_SECONDS / QUIET_SECONDS)):
            if topic in self._live:
                return True
            await self._hears(QUIET_SECONDS)
        return topic in self._live

    async def lives(self, host: HostName) -> bool:
        """Does an agent of this name live? Whoever hears his own last will while he lives says that he is there."""
        topic = self.topics.host(host)
        told = await self.read(topic)
        if topic not in told:
            return False
        status = self.status(told, host)
        if status is not None and not status.lives:
            return False
        # Nonsense proves nothing: a living agent may be about to say its own again.
        will = replace(status or HostStatus(host, "", OFFLINE), state=OFFLINE, session=f"visit-{uuid4().hex}")
        await self.connection.publish(Publication(topic, wire.encode_host(will), False, wire.JSON_CONTENT_TYPE))
        deadline = asyncio.get_running_loop().time() + ALIVE_SECONDS
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            answer = self.status(self._live, host)
            if answer is not None and answer.session != will.session and answer.lives:
                return True
            await self._hears(left)
        return False

    def status(self, told: Mapping[str, bytes], host: HostName) -> HostStatus | None:
        """Return what *told* says of a host; None when that is nothing, or nonsense."""
        topic = self.topics.host(host)
        try:
            news = self.topics.decode(topic, told.get(topic, b""))
        except Refused:
            return None
        return news if isinstance(news, HostStatus) else None

    def withdrawal(self, host: HostName) -> tuple[Publication, ...]:
        """Return what takes away all of *host* that was read: its ports first, its own status last.

        A port's end is said in words, too, for those who follow the events.
        """
        last = self.topics.host(host)
        topics = sorted(self.retained, key=lambda topic: (topic == last, topic))
        return tuple(each for topic in topics for each in self._end(topic))

    def _end(self, topic: str) -> tuple[Publication, ...]:
        gone = Publication(topic, b"", True)
        try:
            news = self.topics.decode(topic, self.retained[topic])
        except Refused:
            return (gone,)
        if not isinstance(news, PortEvent):
            return (gone,)
        claim = replace(news.claim, revision=news.claim.revision + 1)
        words = wire.encode_event(PortRemoved(claim, news.number, datetime.now(UTC)))
        return Publication(topic, words, False, wire.PORT_EVENT_CONTENT_TYPE), gone


@asynccontextmanager
async def visit(broker: Broker, prefix: str, purpose: str) -> AsyncIterator[Visit]:
    """Connect for a moment; *purpose* stands in the client id."""
    client_id = f"portwatch-{purpose}-{uuid4().hex[:12]}"
    # A passer-by has no last words; a broker wants some: nobody else listens to this topic.
    silent = Publication(f"{prefix}/readers/{client_id}", b"")
    visitor = Visit(prefix, silent.topic)
    async with broker.connect(client_id=client_id, will=silent, receive=visitor.receive) as connection:
        visitor.connection = connection
        yield visitor
