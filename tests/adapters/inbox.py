"""A client of the bus for tests: what it received waits in an inbox."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from portwatch.bus.connection import Broker, Connection, Message, Publication

WILL = Publication("hosts/hv1", b"offline", retain=True)
MARK = Publication("mark", b"here")
PATIENCE = 10.0
BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


class Inbox:
    """What a connection received and the test has not looked at."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    def __call__(self, message: Message) -> None:
        self._messages.put_nowait(message)

    async def next(self) -> Message:
        return await asyncio.wait_for(self._messages.get(), PATIENCE)

    async def take(self, count: int) -> list[Message]:
        return [await self.next() for _ in range(count)]

    def empty(self) -> bool:
        return self._messages.empty()


@asynccontextmanager
async def a_client(
    broker: Broker, client_id: str = "client", *, will: Publication = WILL
) -> AsyncIterator[tuple[Connection, Inbox]]:
    inbox = Inbox()
    async with broker.connect(client_id=client_id, will=will, receive=inbox) as connection:
        yield connection, inbox


@pytest.fixture(autouse=True)
def nothing_goes_wrong_in_silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Asyncio logs what nobody retrieved: exceptions of tasks, futures and callbacks."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
