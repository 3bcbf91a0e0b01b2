"""Flow changes as they happen, by whomever: how drift and a restarted switch are noticed at once.

OVS tells of flows only, of no group and no port; it says neither a flow's priority nor who changed it. So an
event is a hint to read back. Who overwrites a flow ADDs it, with the new cookie.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from portwatch.errors import SwitchUnavailable
from portwatch.switch.fault import fault
from portwatch.switch.ofctl import OfCtl


class Change(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """A flow as it is now, or was when it was deleted. *text*: `match actions=…`; a drop has no actions."""

    change: Change
    table: int
    cookie: int
    text: str


_EVENT: Final = re.compile(
    r" event=(ADDED|MODIFIED|DELETED) (?:.* )?table=(\d+) (?:.* )?cookie=(0x[0-9a-f]+|0)(?: (.*))?"
)
# The last thing it logs before it listens: what changes between its first reply and this, it misses.
_STANDING: Final = re.compile(r"\|ofctl\|DBG\|.* packet in format ")
_WORDS_KEPT: Final = 16


def parse_event(line: str) -> FlowEvent | None:
    """Return the event on this line of `ovs-ofctl monitor`, or None when it carries none."""
    if event := _EVENT.fullmatch(line):
        return FlowEvent(Change(event[1]), int(event[2]), int(event[3], 16), event[4] or "")
    return None


@asynccontextmanager
async def watch(ofctl: OfCtl, bridge: str) -> AsyncIterator[AsyncIterator[FlowEvent]]:
    """Watch the flows of *bridge*. Entered once the monitor stands: who reads back after that misses nothing.

    The iterator does not end by itself: it raises SwitchUnavailable when the switch, or the bridge, goes.
    """
    async with ofctl.monitor(bridge, "watch:!initial") as lines:
        try:
            async with asyncio.timeout(ofctl.timeout):
                await _standing(bridge, lines)
        except TimeoutError:
            raise SwitchUnavailable(bridge, f"no flow monitor within {ofctl.timeout:g} s") from None
        yield _events(bridge, lines)


async def _standing(bridge: str, lines: AsyncIterator[str]) -> None:
    words = deque[str](maxlen=_WORDS_KEPT)
    async for line in lines:
        if _STANDING.search(line):
            return
        words.append(line)
    raise _gone(bridge, words)


async def _events(bridge: str, lines: AsyncIterator[str]) -> AsyncIterator[FlowEvent]:
    words = deque[str](maxlen=_WORDS_KEPT)
    async for line in lines:
        if event := parse_event(line):
            yield event
        else:
            words.append(line)
    raise _gone(bridge, words)


def _gone(bridge: str, words: Iterable[str]) -> SwitchUnavailable:
    error = fault(bridge, "".join(f"{line}\n" for line in words))
    if isinstance(error, SwitchUnavailable):
        return error
    return SwitchUnavailable(bridge, f"the flow monitor has ended: {error.detail}")
