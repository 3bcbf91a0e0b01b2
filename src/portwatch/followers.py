"""Who follows the live events: each gets all of them from when it came, but what it is too slow for."""

import asyncio
from collections.abc import AsyncGenerator

FOLLOWERS_BEHIND = 1000
"""Events that a follower may be behind before it loses the oldest."""


class Followers:
    """Of one agent's port events, and those of the hosts that it listens to."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def tell(self, payload: bytes) -> None:
        """The JSON of an event, for all who follow."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(payload)

    async def follow(self) -> AsyncGenerator[bytes]:
        """Yield the JSON of each port event from now on."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(FOLLOWERS_BEHIND)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
