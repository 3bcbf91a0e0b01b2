"""The newest value per key, handed from one task to another in the same event loop.

Putting never waits; what lies here never outgrows the number of keys. A key keeps the place of its first put
until it is taken. There is one taker; when its waiting is cancelled, nothing is lost.
"""

import asyncio
from collections.abc import Callable
from itertools import islice
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

    async def take(self, most: int | None = None) -> dict[K, V]:
        """Wait until something is here, then take all of it, or the *most* that have lain here longest."""
        while not self._values:
            await self._filled.wait()
        return self.take_now(most)

    def take_now(self, most: int | None = None) -> dict[K, V]:
        """Take all that is here, which may be nothing, or the *most* that have lain here longest."""
        if most is None or len(self._values) <= most:
            values, self._values = self._values, {}
            self._filled.clear()
            return values
        return {key: self._values.pop(key) for key in list(islice(self._values, most))}

    def drop(self, key: K) -> None:
        """Take what lies here for *key*, if anything, and forget it."""
        self._values.pop(key, None)
        if not self._values:
            self._filled.clear()  # else a taker would never wait again, and nobody else would have a turn

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)
