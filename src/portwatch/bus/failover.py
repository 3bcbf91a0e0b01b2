"""Several brokers, in order of preference: the first that answers, and back to an earlier one when that answers again.

What one broker retains need not be on another: whoever uses a connection says all that is his, as on every connect.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final, NoReturn

from portwatch.bus.connection import Broker, Connection, Message, Publication
from portwatch.errors import BusUnavailable

HOME_SECONDS: Final = 30.0
"""How long, about, between two looks at the brokers that are preferred to the one in use."""


class Failover:
    """The brokers, the preferred one first."""

    def __init__(self, brokers: Sequence[Broker], home_seconds: float = HOME_SECONDS) -> None:
        self._brokers = tuple(brokers)
        self._home_seconds = home_seconds

    @asynccontextmanager
    async def connect(
        self, *, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> AsyncGenerator[Connection]:
        async with AsyncExitStack() as stack:
            troubles: list[str] = []
            for broker in self._brokers:
                try:
                    connection = await stack.enter_async_context(
                        broker.connect(client_id=client_id, will=will, receive=receive)
                    )
                    break
                except BusUnavailable as error:
                    troubles.append(str(error))
            else:
                raise BusUnavailable("; ".join(troubles))
            if not troubles:
                yield connection
                return
            preferred = self._brokers[: len(troubles)]
            # A will of no weight: who looks says nothing, and a look that is cut short means nothing.
            lightly = replace(will, retain=False)
            yield _Lease(connection, lambda: self._answering(preferred, f"{client_id}-look", lightly))

    async def _answering(self, brokers: Sequence[Broker], client_id: str, will: Publication) -> None:
        """Return when one of these brokers answers."""
        while True:
            jitter = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            await asyncio.sleep(self._home_seconds * jitter)
            for broker in brokers:
                try:
                    async with broker.connect(client_id=client_id, will=will, receive=lambda _: None):
                        return
                except BusUnavailable:
                    continue  # as before


class _Lease:
    """A connection that ends, too, when a preferred broker answers again."""

    def __init__(self, connection: Connection, better: Callable[[], Awaitable[None]]) -> None:
        self._connection, self._better = connection, better
        self.publish = connection.publish
        self.subscribe = connection.subscribe
        self.unsubscribe = connection.unsubscribe

    @property
    def session_present(self) -> bool:
        return self._connection.session_present

    async def closed(self) -> NoReturn:
        lost = asyncio.ensure_future(self._connection.closed())
        better = asyncio.ensure_future(self._better())
        try:
            await asyncio.wait({lost, better}, return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                lost.result()
            better.result()
            raise BusUnavailable("a preferred broker answers again; going back to it")
        finally:
            lost.cancel()
            better.cancel()
            await asyncio.wait({lost, better})
