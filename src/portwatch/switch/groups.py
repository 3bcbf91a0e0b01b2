"""Group changes as they happen, by whomever: OpenFlow's request forwarding, which `ovs-ofctl monitor` does not ask for.

A connection of our own to the bridge: a hello, one wish, and from then on each change comes with its group's number. As
with the flow monitor, it is not told who changed what, so an event is a hint to read back.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Final

from portwatch.errors import SwitchUnavailable
from portwatch.switch.ofctl import OfCtl


class _Type(IntEnum):
    """The messages of OpenFlow 1.5 that are spoken here."""

    HELLO = 0
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    GROUP_MOD = 15
    BARRIER_REQUEST = 20
    BARRIER_REPLY = 21
    SET_ASYNC = 28
    REQUESTFORWARD = 32


ALL_GROUPS: Final = 0xFFFFFFFC
"""In place of a number: whoever it was has deleted them all."""

_OPENFLOW_15: Final = 6
_HEADER: Final = struct.Struct("!BBHI")
_FORWARDED: Final = struct.Struct("!BBHIHBxI")
"""The request that is forwarded: its header, a group's command and type, and its number."""
_WISH: Final = struct.pack("!HHI", 11, 8, 1)
"""OFPACPT_REQUESTFORWARD_MASTER, which holds for each controller that is no slave: modifications of groups."""


@asynccontextmanager
async def watch_groups(ofctl: OfCtl, bridge: str) -> AsyncIterator[AsyncIterator[int]]:
    """Watch the groups of *bridge*. Entered once the switch has agreed: who reads back after that misses nothing.

    The iterator does not end by itself: it raises SwitchUnavailable when the switch, or the bridge, goes.
    """
    try:
        async with asyncio.timeout(ofctl.timeout):
            reader, writer = await asyncio.open_unix_connection(ofctl.socket(bridge))
    except TimeoutError:
        raise SwitchUnavailable(bridge, f"no connection within {ofctl.timeout:g} s") from None
    except OSError as error:
        raise SwitchUnavailable(bridge, f"{ofctl.socket(bridge)}: {error.strerror}") from None
    try:
        writer.write(_message(_Type.HELLO) + _message(_Type.SET_ASYNC, _WISH) + _message(_Type.BARRIER_REQUEST))
        try:
            async with asyncio.timeout(ofctl.timeout):
                while (await _next(bridge, reader, writer))[0] != _Type.BARRIER_REPLY:
                    pass
        except TimeoutError:
            raise SwitchUnavailable(bridge, f"no group monitor within {ofctl.timeout:g} s") from None
        yield _changes(bridge, reader, writer)
    finally:
        writer.close()


async def _changes(bridge: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[int]:
    while True:
        kind, body = await _next(bridge, reader, writer)
        if kind == _Type.REQUESTFORWARD and len(body) >= _FORWARDED.size:
            _, request, *_, group_id = _FORWARDED.unpack_from(body)
            if request == _Type.GROUP_MOD:
                yield group_id


async def _next(bridge: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
    """Return type and body of the next message; an echo is answered."""
    try:
        _, kind, length, xid = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        body = await reader.readexactly(length - _HEADER.size)
        if kind == _Type.ECHO_REQUEST:
            writer.write(_message(_Type.ECHO_REPLY, body, xid))
    except (OSError, asyncio.IncompleteReadError):
        raise SwitchUnavailable(bridge, "the switch has closed the connection that tells of groups") from None
    return kind, body


def _message(kind: _Type, body: bytes = b"", xid: int = 1) -> bytes:
    return _HEADER.pack(_OPENFLOW_15, kind, _HEADER.size + len(body), xid) + body
