"""Wait on the event loop for what tells nobody that it has come."""

import asyncio
from collections.abc import Callable

from tests.adapters.inbox import PATIENCE


async def until(condition: Callable[[], object]) -> None:
    """Look again and again, but not for ever."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # that is what this is for
            await asyncio.sleep(0.001)
