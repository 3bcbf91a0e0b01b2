"""What a broker is to portwatch: publish, subscribe, retained messages and a last will, over one connection.

Everything is QoS 1: a message comes at least once, in order on its own topic; between topics nothing is
promised. A connection that is lost stays lost: who wants another connects and subscribes again.

`Message.replayed` says whether a message was there before the subscription, and comes because of it; live ones are not,
whether they were published as retained or not (MQTT: no retain as published). An empty payload ends a topic. Who
subscribes to what he publishes hears himself.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol

from portwatch.errors import BusUnavailable


@dataclass(frozen=True, slots=True)
class Message:
    """What a subscriber gets."""

    topic: str
    payload: bytes
    replayed: bool
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publisher sends. `expiry`: the seconds after which the broker forgets it."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str | None = None
    expiry: int | None = None

    def __post_init__(self) -> None:
        if not self.topic or any(character in self.topic for character in "+#\0"):
            raise ValueError(f"{self.topic!r} is not a topic to publish on (not empty, no + # or NUL)")


class Connection(Protocol):
    """One connection to the broker. After its end every call raises `BusUnavailable`."""

    @property
    def session_present(self) -> bool:
        """Whether the broker still knows this client's subscriptions."""

    async def publish(self, *publications: Publication) -> None:
        """Send in this order, pipelined; return when the broker has acknowledged all.

        `PublishRefused` names those that the broker refused; the rest has been taken. `BusUnavailable`: any of
        them may or may not have arrived.
        """

    async def subscribe(self, *filters: str, own: bool = True) -> None:
        """Ask for these topics; their retained messages come, before or after this returns.

        Not *own*: what this client has published itself need not come by them (MQTT 5, 3.8.3.1: No Local).
        They come again when the subscription stood already. `SubscribeRefused` names those that the
        broker refused; the rest stands.
        """

    async def unsubscribe(self, *filters: str) -> None:
        """Ask no more. A filter that was never subscribed is no error."""

    async def closed(self) -> NoReturn:
        """Wait for the connection's end; raise `BusUnavailable` with the reason, or what `receive` raised."""


class Broker(Protocol):
    """Where connections come from."""

    def connect(
        self, *, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> AbstractAsyncContextManager[Connection]:
        """Connect, or raise `BusUnavailable`.

        `receive` is called in the event loop, once for each message, and must neither block nor raise. If it
        raises, the connection ends; `closed()` raises that very exception, and so does a normal leaving.

        Leaving the context normally is a goodbye: the broker keeps the will to itself. Leaving it by an
        exception, cancellation included, is an end like any other: the broker publishes the will. Who means
        to stop publishes his last words and leaves normally.
        """


class End:
    """A connection's end: it comes once, and its first reason stands."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._reason: Exception | None = None

    @property
    def came(self) -> bool:
        return self._reason is not None

    def come(self, reason: Exception) -> bool:
        """Note the reason; say whether it is the first."""
        if self._reason is not None:
            return False
        self._reason = reason
        self._came.set()
        return True

    def check(self) -> None:
        """Raise `BusUnavailable` when the end has come."""
        if isinstance(self._reason, BusUnavailable):
            raise BusUnavailable(str(self._reason)) from self._reason.__cause__
        if self._reason is not None:
            raise BusUnavailable(f"what receives the messages failed: {self._reason!r}") from self._reason

    def check_receive(self) -> None:
        """Raise what `receive` raised, when that was the end."""
        if self._reason is not None and not isinstance(self._reason, BusUnavailable):
            raise self._reason

    async def wait(self) -> NoReturn:
        """Wait for the end and raise its reason."""
        await self._came.wait()
        self.check_receive()
        self.check()
        raise AssertionError("an end has a reason")
