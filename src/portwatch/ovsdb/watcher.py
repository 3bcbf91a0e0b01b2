"""What happens to this host's ports and bridges, as an async iterator; it starts with the full picture."""

import asyncio
from collections.abc import AsyncIterator, Callable

from portwatch.ovsdb.changes import Changes
from portwatch.ovsdb.picture import Picture, PictureChange


async def watch(
    changes: AsyncIterator[Changes], picture: Picture, clock: Callable[[], float]
) -> AsyncIterator[PictureChange]:
    """Keep *picture* up to date and yield what is otherwise in it; an empty change tells that it was looked at.

    The first one brings everything there is.
    """
    coming = asyncio.ensure_future(anext(changes))
    try:
        while True:
            patience = None if picture.expires is None else max(0.0, picture.expires - clock())
            await asyncio.wait({coming}, timeout=patience)
            if coming.done():
                news = coming.result()
                coming = asyncio.ensure_future(anext(changes))
                yield picture.apply(news.rows, clock(), whole=news.whole)
            elif expired := picture.expire(clock()):
                yield expired
    finally:
        coming.cancel()
