"""The watcher's own time limit, and what is none of it."""

import asyncio
from typing import cast

import pytest

from portwatch.ovsdb.changes import Changes
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture
from portwatch.ovsdb.watcher import watch


class Failing:
    """A database whose failure happens to be a TimeoutError, as that of a socket is (ETIMEDOUT)."""

    async def __anext__(self) -> Changes:
        raise TimeoutError("connection timed out")


@pytest.mark.asyncio
async def test_a_database_that_fails_by_a_timeout_of_its_own_ends_the_watch() -> None:
    changes = watch(cast("Database", Failing()), Picture("br-int", "br-tun"), lambda: 0.0)

    with pytest.raises(TimeoutError, match="connection timed out"):
        async with asyncio.timeout(5):
            await anext(changes)
