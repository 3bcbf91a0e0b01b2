"""The newest value per key, handed from one task to another in the same event loop.

Putting never waits; what lies here never outgrows the number of keys. A key keeps the place of its first put
until it is taken. There is one taker; when its waiting is cancelled, nothing is lost.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Mailbox(Generic[K, V]):
    """With `fold`, a key that still lies here gets `fold(old, new)`; without, the newest value wins."""

    def __init__(self, fold: Callable[[V, V], V] | None = None) -> None:
        self._fold = fold
        self._values: dict[K, V] = {}
        self._filled = asyncio.Event()

    def put(self, key: K, value: V) -> None:
        if self._fold is not None and key in self._values:
            value = self._fold(self._values[key], value)
        self._values[key] = value
        self._filled.set()

    async def take(self) -> dict[K, V]:
        """Wait until something is here, then take all of it."""
        while not self._values:
            await self._filled.wait()
        return self.take_now()

    def take_now(self) -> dict[K, V]:
        """Take all that is here, which may be nothing."""
        values, self._values = self._values, {}
        self._filled.clear()
        return values

    def __len__(self) -> int:
        return len(self._values)
