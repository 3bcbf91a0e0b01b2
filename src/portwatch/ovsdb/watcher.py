"""What happens to this host's ports and bridges, as an async iterator; it starts with the full picture."""

import asyncio
from collections.abc import AsyncIterator, Callable

from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture, PictureChange


async def watch(database: Database, picture: Picture, clock: Callable[[], float]) -> AsyncIterator[PictureChange]:
    """Keep *picture* up to date and yield what is otherwise in it; an empty change tells that it was looked at.

    The first one brings everything there is.
    """
    while True:
        patience = None if picture.expires is None else max(0.0, picture.expires - clock())
        limit = asyncio.timeout(patience)
        try:
            async with limit:
                news = await anext(database)
        except TimeoutError:
            if not limit.expired():
                raise  # the database's own
            if expired := picture.expire(clock()):
                yield expired
        else:
            yield picture.apply(news.rows, clock(), whole=news.whole)
