"""A broker within the process: `memory://`, for a host alone and for tests. One event loop, no socket.

It does what an MQTT broker does, in one fixed order: each delivery is a callback of its own, in the order of
publication, so who publishes while receiving disturbs nobody. When `publish` returns, every receiver has been
called; over a network that does not hold.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

from portwatch.bus.connection import Connection, End, Message, Publication
from portwatch.errors import BusUnavailable


class MemoryBroker:
    """`retained` is what the broker holds, by topic: look at it, or clear it to let the broker forget."""

    def __init__(self) -> None:
        self.retained: dict[str, Publication] = {}
        self._expires: dict[str, float] = {}
        self._connections: dict[str, _MemoryConnection] = {}

    @asynccontextmanager
    async def connect(
        self, *, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> AsyncGenerator[Connection]:
        await asyncio.sleep(0)
        self._cut(client_id, BusUnavailable("memory://: another connection took over this client id"))
        connection = self._connections[client_id] = _MemoryConnection(self, client_id, will, receive)
        try:
            yield connection
        except BaseException:
            connection.lose(BusUnavailable("memory://: this side left by an exception"))
            raise
        connection.leave()

    def drop(self, client_id: str) -> None:
        """Cut this client's connection, as a broken wire does: the broker publishes its will."""
        self._cut(client_id, BusUnavailable("memory://: the connection was cut"))

    def _cut(self, client_id: str, reason: BusUnavailable) -> None:
        if connection := self._connections.get(client_id):
            connection.lose(reason)

    def remove(self, connection: "_MemoryConnection") -> None:
        if self._connections.get(connection.client_id) is connection:
            del self._connections[connection.client_id]

    def distribute(self, publication: Publication) -> None:
        if publication.retain:
            self._retain(publication)
        for connection in self._connections.values():
            if connection.wants(publication.topic):
                connection.send(publication)

    def replay(self, connection: "_MemoryConnection", pattern: list[str]) -> None:
        now = asyncio.get_running_loop().time()
        for topic, publication in list(self.retained.items()):
            if self._expires.get(topic, now + 1) <= now:
                del self.retained[topic], self._expires[topic]
            elif _matches(pattern, topic.split("/")):
                connection.send(publication, replayed=True)

    def _retain(self, publication: Publication) -> None:
        self._expires.pop(publication.topic, None)
        if not publication.payload:
            self.retained.pop(publication.topic, None)
            return
        self.retained[publication.topic] = publication
        if publication.expiry is not None:
            self._expires[publication.topic] = asyncio.get_running_loop().time() + publication.expiry


class _MemoryConnection:
    session_present = False

    def __init__(
        self, broker: MemoryBroker, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> None:
        self.client_id = client_id
        self._broker = broker
        self._will = will
        self._receive = receive
        self._patterns: dict[str, list[str]] = {}
        self._end = End()

    async def publish(self, *publications: Publication) -> None:
        self._end.check()
        for publication in publications:
            self._broker.distribute(publication)
        await self._answer()

    async def subscribe(self, *filters: str, own: bool = True) -> None:  # noqa: ARG002 - all comes once, whatever matches
        self._end.check()
        patterns = {topic_filter: _pattern(topic_filter) for topic_filter in filters}
        self._patterns |= patterns
        for pattern in patterns.values():
            self._broker.replay(self, pattern)
        await self._answer()

    async def unsubscribe(self, *filters: str) -> None:
        self._end.check()
        for topic_filter in filters:
            self._patterns.pop(topic_filter, None)
        await self._answer()

    async def closed(self) -> NoReturn:
        await self._end.wait()

    async def _answer(self) -> None:
        """The answer comes behind what the broker has sent before; a lost connection brings none."""
        await asyncio.sleep(0)
        self._end.check()

    def wants(self, topic: str) -> bool:
        levels = topic.split("/")
        return any(_matches(pattern, levels) for pattern in self._patterns.values())

    def send(self, publication: Publication, *, replayed: bool = False) -> None:
        message = Message(publication.topic, publication.payload, replayed, publication.content_type)
        asyncio.get_running_loop().call_soon(self._deliver, message)

    def _deliver(self, message: Message) -> None:
        if self._end.came:
            return
        try:
            self._receive(message)
        except Exception as error:  # noqa: BLE001  # whatever it is, `closed` raises it
            self.lose(error)

    def lose(self, reason: Exception) -> None:
        """The connection breaks. The will is sent once, and never after a goodbye."""
        if self._end.come(reason):
            self._broker.remove(self)
            self._broker.distribute(self._will)

    def leave(self) -> None:
        """Say goodbye. What `receive` raised is raised here, if nobody has seen it yet."""
        self._end.come(BusUnavailable("memory://: this side has left"))
        self._broker.remove(self)
        self._end.check_receive()


def _pattern(topic_filter: str) -> list[str]:
    """The levels of a filter: `+` stands for one whole level, `#` for the rest."""
    levels = topic_filter.split("/")
    for place, level in enumerate(levels, start=1):
        if ("+" in level and level != "+") or ("#" in level and (level != "#" or place < len(levels))):
            raise ValueError(f"{topic_filter!r} is not a topic filter (+ or # as a whole level, # last)")
    if not topic_filter:
        raise ValueError("an empty topic filter matches nothing")
    return levels


def _matches(pattern: list[str], levels: list[str]) -> bool:
    """MQTT 5, section 4.7: `a/#` matches `a` too; a wildcard in front does not match `$…`."""
    if levels[0].startswith("$") and pattern[0] in ("+", "#"):
        return False
    for place, level in enumerate(pattern):
        if level == "#":
            return True
        if place == len(levels) or level not in ("+", levels[place]):
            return False
    return len(pattern) == len(levels)
