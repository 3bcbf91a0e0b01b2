"""Publications under way: how many at once, whose they are, since when they wait. Knows no library.

The window bounds what is sent and not yet acknowledged, over all callers, first come first served.
"""

import asyncio
from dataclasses import dataclass

from portwatch.bus.connection import End
from portwatch.errors import PublishRefused


class Batch:
    """The publications of one call."""

    def __init__(self, size: int) -> None:
        self.unsettled = size
        self.refused: list[PublishRefused] = []
        self._woken = asyncio.Event()

    async def settled(self) -> None:
        """Wait until the broker has answered for all of them, or never will."""
        if self.unsettled:
            await self._woken.wait()

    def settle(self, refusal: PublishRefused | None) -> None:
        """One of them is answered for."""
        if refusal is not None:
            self.refused.append(refusal)
        self.unsettled -= 1
        if not self.unsettled:
            self.wake()

    def wake(self) -> None:
        self._woken.set()


@dataclass(slots=True, eq=False)
class _Sent:
    topic: str
    batch: Batch
    at: float


class Window:
    """Of `size` places. A place taken is given back by `settle`, `give_back`, or the end."""

    def __init__(self, size: int, end: End) -> None:
        self._places = asyncio.Semaphore(size)
        self._end = end
        self._sent: dict[int, _Sent] = {}
        self._settled_at = 0.0

    async def take_place(self) -> None:
        """Wait for a place; `BusUnavailable` when the connection ends meanwhile."""
        await self._places.acquire()
        if self._end.came:
            self._places.release()
            self._end.check()

    def give_back(self) -> None:
        self._places.release()

    def sent(self, number: int, topic: str, batch: Batch, now: float) -> None:
        self._sent[number] = _Sent(topic, batch, now)

    def settle(self, number: int, now: float, code: int | None = None, words: str = "") -> None:
        """The broker has answered for this number; with a code, it refuses."""
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        self._settled_at = now
        self._places.release()
        sent.batch.settle(PublishRefused(sent.topic, code, words) if code is not None else None)

    def silence(self, now: float) -> float:
        """The seconds for which the broker has owed an answer and given none."""
        if not self._sent:
            return 0.0
        oldest = next(iter(self._sent.values()))
        return now - max(oldest.at, self._settled_at)

    def close(self) -> None:
        """The end has come: wake everybody."""
        for sent in self._sent.values():
            sent.batch.wake()
            self._places.release()
        self._sent.clear()
