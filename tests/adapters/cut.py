"""A connection to a switch that breaks at a chosen moment: what is left of a bundle when a switch dies under it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

BUNDLE_CONTROL = 33
COMMIT_REQUEST = 4


class Cut(Enum):
    BEFORE_COMMIT = "before"
    AFTER_COMMIT = "after"


@asynccontextmanager
async def a_cut_connection(rundir: Path, bridge: str, new: str, cut: Cut) -> AsyncIterator[None]:
    """Offer *bridge* under the name *new* too; there the connection breaks when a bundle is to be committed."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, switch = await asyncio.open_unix_connection(rundir / f"{bridge}.mgmt")
        back = asyncio.create_task(_copy(answers, writer))
        try:
            while not _commits(message := await _message(reader)):
                switch.write(message)
            back.cancel()
            await asyncio.wait([back])
            if cut is Cut.AFTER_COMMIT:
                switch.write(message)
                await answers.readexactly(1)  # it is done, and the switch says so
        except asyncio.IncompleteReadError:
            back.cancel()
        finally:
            switch.close()
            writer.close()

    async with await asyncio.start_unix_server(meet, rundir / f"{new}.mgmt"):
        yield


async def _message(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(8)
    return header + await reader.readexactly(int.from_bytes(header[2:4]) - 8)


def _commits(message: bytes) -> bool:
    return message[1] == BUNDLE_CONTROL and int.from_bytes(message[12:14]) == COMMIT_REQUEST


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(65536):
        writer.write(octets)
