"""Garbage collection at moments of our own: see docs/decisions/0007.

What is known of a large network is hundreds of thousands of objects without cycles, which go by their reference
counts. To look through them all takes the collector half a second, in which nothing else happens, again and again
while they come.
"""

import asyncio
import gc
from typing import Final

YOUNG: Final = (10_000, 10)
"""Objects made until the youngest are looked through (1 ms), and how often that is done until the next older are."""
NEVER: Final = 2**31 - 1
FULL_EVERY: Final = 3600.0
"""Seconds between two looks at everything: what long-lived objects in a cycle, closed connections say, leave behind."""


def tame() -> None:
    """Let the collector look at young objects only, by itself."""
    gc.set_threshold(*YOUNG, NEVER)


async def collect() -> None:
    """Look at everything, seldom, for ever."""
    while True:
        await asyncio.sleep(FULL_EVERY)
        gc.collect()
