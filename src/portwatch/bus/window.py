"""Publications under way: how many at once, whose they are, since when they wait. Knows no library.

The window bounds what is sent and not yet acknowledged, over all callers, first come first served.
"""

import asyncio
from dataclasses import dataclass

from portwatch.bus.connection import End, Publication
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
    publication: Publication
    batch: Batch
    at: float
    """When it was sent first."""
    again_at: float
    """When it was sent last."""


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

    @property
    def full(self) -> bool:
        """Is there no place to take at once?"""
        return self._places.locked()

    def give_back(self) -> None:
        self._places.release()

    def sent(self, number: int, publication: Publication, batch: Batch, now: float) -> None:
        self._sent[number] = _Sent(publication, batch, now, now)

    @property
    def owed(self) -> bool:
        """Does the broker owe an answer?"""
        return bool(self._sent)

    def overdue(self, before: float) -> list[int]:
        """Return the numbers of what was last sent *before* then and has no answer."""
        return [number for number, sent in self._sent.items() if sent.again_at < before]

    def publication(self, number: int) -> Publication:
        return self._sent[number].publication

    def sent_again(self, number: int, new: int, now: float) -> None:
        """It was sent once more, under a *new* number; whoever waits for it has waited since the first time."""
        sent = self._sent[new] = self._sent.pop(number)
        sent.again_at = now

    def settle(self, number: int, now: float, code: int | None = None, words: str = "") -> None:
        """The broker has answered for this number; with a code, it refuses."""
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        self._settled_at = now
        self._places.release()
        sent.batch.settle(PublishRefused(sent.publication.topic, code, words) if code is not None else None)

    def silence(self, now: float) -> float:
        """The seconds for which the broker has owed an answer and given none."""
        if not self._sent:
            return 0.0
        oldest = min(sent.at for sent in self._sent.values())
        return now - max(oldest, self._settled_at)

    def close(self) -> None:
        """The end has come: wake everybody."""
        for sent in self._sent.values():
            sent.batch.wake()
            self._places.release()
        self._sent.clear()
