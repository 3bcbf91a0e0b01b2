"""OVSDB in asyncio: watched and written to on the event loop, by one connection, without a thread.

`async with Database(...)` connects, and connects again; `async for` yields what changed, the newest only;
`transact` writes. python-ovs itself is behind `session` and `idl`; when to run it, behind `poller`.

One run handles at most 50 messages, but the first load is *one* message, and holds the loop for as long as it
takes to build all rows: 0.05 s for 500 ports, 0.2 s for 2,000. Here is the place to look if that is too long.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import structlog

from portwatch.errors import OvsdbUnavailable, TransactionFailed
from portwatch.ovsdb.changes import Changes, RowChange
from portwatch.ovsdb.idl import INCOMPLETE, SUCCESS, TRY_AGAIN, UNCHANGED, Replica, Sent
from portwatch.ovsdb.poller import Wakeups, Wants
from portwatch.ovsdb.session import Session, Tls
from portwatch.ovsdb.transaction import Transaction

log: Final = structlog.get_logger(__name__)

# So many rows may come and go while the reader is away before they are forgotten on its behalf.
_PASSERS_BY: Final = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """How we stand with ovsdb-server. `connections`: how many so far; `reason`: why there is none now."""

    connected: bool = False
    connections: int = 0
    reason: str = "not connected yet"


class Database:
    """The watched columns of OVSDB, for one reader (`async for`) and any number of writers (`transact`).

    A server that says nothing for `heartbeat` seconds is asked for an echo; if none comes for as long again,
    the connection is given up and made anew.
    """

    def __init__(
        self,
        remote: str,
        tables: Mapping[str, Collection[str]],
        *,
        name: str = "Open_vSwitch",
        tls: Tls | None = None,
        heartbeat: float = 5.0,
    ) -> None:
        self.remote = remote
        self._session = Session(remote, name, tables, heartbeat=heartbeat, tls=tls)
        # Who watches nothing is on a short visit, and no news to the people on call.
        self._log_connected = log.info if tables else log.debug
        self._link = Link()
        self._turned = asyncio.Event()
        self._closed = False
        self._failure: Exception | None = None
        self._live: Replica | None = None
        # The last that was live: a reader who comes late still finds what was true when the connection broke.
        self._replica: Replica | None = None
        self._whole = False
        self._told: set[tuple[str, UUID]] = set()
        self._news = asyncio.Event()
        self._flights: dict[Sent, asyncio.Future[None]] = {}
        self._moved = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to connect; do not wait for it."""
        self._wakeups = Wakeups(self._wake)
        self._wake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._end(f"{self.remote}: closed")

    # --- how we stand ---------------------------------------------------------------------------------------

    @property
    def link(self) -> Link:
        return self._link

    @property
    def connected(self) -> bool:
        """Whether we see what the server holds."""
        return self._link.connected

    @property
    def last_error(self) -> str | None:
        """Why not, in words for people; None while connected."""
        return None if self._link.connected else self._link.reason

    async def link_after(self, seen: Link) -> Link:
        """Wait until the link is no more as it was seen."""
        while self._link == seen:
            await self._turned.wait()
        return self._link

    async def schema(self) -> Mapping[str, Any]:
        """Wait for a connection and return the server's own schema, for those who bring their own IDL."""
        while self._live is None:
            if self._failure is not None:
                raise self._failure
            await self.link_after(self._link)
        return self._live.schema

    # --- reading --------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Changes]:
        return self

    async def __anext__(self) -> Changes:
        """What changed since the last time: each row once, as it is now, however long the reader was away."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            if (changes := self._take()) is not None:
                return changes
            await self._news.wait()

    def _take(self) -> Changes | None:
        replica = self._replica
        if replica is None:
            return None
        if self._whole:
            self._whole = False
            replica.touched.clear()
            rows = tuple(replica.everything())
            self._told = {(row.table, row.uuid) for row in rows}
            return Changes(whole=True, rows=rows)
        self._forget_passers_by(replica)
        rows = tuple(RowChange(*key, replica.columns(*key)) for key in replica.touched)
        replica.touched.clear()
        for row in rows:
            (self._told.discard if row.columns is None else self._told.add)((row.table, row.uuid))
        return Changes(whole=False, rows=rows) if rows else None

    def _forget_passers_by(self, replica: Replica) -> None:
        """A row that came and went while the reader was away was never there, for the reader."""
        touched = replica.touched
        for key in [key for key in touched if key not in self._told and replica.columns(*key) is None]:
            del touched[key]

    # --- writing --------------------------------------------------------------------------------------------

    async def transact(self, build: Callable[[Transaction], None], *, timeout: float = 5.0) -> bool:
        """Apply what `build` fills in, all or nothing; return whether there was anything to change.

        `build` is called at once, and anew when a column that it verified has changed meanwhile.
        `TransactionFailed`: ovsdb-server refused. `OvsdbUnavailable`: its words say whether it was sent.
        """
        limit = asyncio.timeout(timeout)
        fate = "nothing was sent"
        try:
            async with limit:
                while True:
                    replica = self._writable()
                    version = replica.version
                    transaction = Transaction(replica)
                    build(transaction)
                    sent = replica.send(transaction.edits.values())
                    if sent.status == INCOMPLETE:
                        fate = "it may or may not have been applied"
                        await self._answer(sent)
                    if sent.status == SUCCESS:
                        return True
                    if sent.status == UNCHANGED and not self._flights:
                        return False
                    if sent.status == UNCHANGED:
                        # Only compared with what the server has told so far, not with what we are changing.
                        await asyncio.wait(list(self._flights.values()))
                    elif sent.status == TRY_AGAIN:
                        fate = "it was not applied: others kept changing the same columns"
                        await self._change(replica, version)
                    else:
                        raise TransactionFailed(f"{self.remote}: ovsdb-server refused: {sent.words}")
        except TimeoutError:
            if not limit.expired():
                raise
            words = f"{self.remote}: no end of a transaction after {timeout:g} s; {fate}"
            raise OvsdbUnavailable(words) from None

    def _writable(self) -> Replica:
        if self._failure is not None:
            raise self._failure
        if self._live is None:
            raise OvsdbUnavailable(f"{self._link.reason}; nothing was sent")
        return self._live

    async def _answer(self, sent: Sent) -> None:
        """Wait for ovsdb-server's answer. Several may be under way; it answers in order."""
        flight = self._flights[sent] = asyncio.get_running_loop().create_future()
        self._arm()
        try:
            await flight
        finally:
            del self._flights[sent]

    async def _change(self, replica: Replica, version: int) -> None:
        """Wait until the replica shows something newer, or is no more."""
        while self._live is replica and replica.version == version:
            self._moved.clear()
            await self._moved.wait()

    # --- the machinery --------------------------------------------------------------------------------------

    def _wake(self) -> None:
        try:
            self._session.run()
        except Exception as error:  # noqa: BLE001  # no weather: whoever reads or writes gets it
            self._failure = error
            self._end(str(error))
        else:
            self._settle()
            self._arm()

    def _arm(self) -> None:
        wants = Wants()
        self._session.wait(wants)
        self._wakeups.arm(wants, connected=self._session.connected)

    def _settle(self) -> None:
        """Draw the conclusions from a run."""
        live = self._session.replica
        if live is not self._live:
            if self._live is not None:
                self._lose(self._session.reason)
                log.warning(
                    "ovsdb disconnected",
                    remote=self.remote,
                    reason=self._link.reason,
                    do="see that ovsdb-server runs; what is wired stays wired",
                )
            if live is not None:
                self._live = self._replica = live
                self._whole = True
                self._turn(Link(connected=True, connections=self._link.connections + 1, reason=""))
                self._log_connected("ovsdb connected", remote=self.remote, connections=self._link.connections)
        elif live is None and self._session.reason not in ("", self._link.reason):
            self._turn(replace(self._link, reason=self._session.reason))
            log.warning(
                "ovsdb not connected",
                remote=self.remote,
                reason=self._link.reason,
                do="see that ovsdb-server runs and that ovsdb.remote is its address; it is tried again",
            )
        for sent, flight in self._flights.items():
            if sent.ask() != INCOMPLETE and not flight.done():
                flight.set_result(None)
        self._moved.set()
        if live is not None and (self._whole or live.touched):
            self._news.set()
            if len(live.touched) > _PASSERS_BY + 2 * (live.size + len(self._told)):
                self._forget_passers_by(live)

    def _lose(self, reason: str) -> None:
        self._live = None
        self._turn(replace(self._link, connected=False, reason=reason))
        for flight in self._flights.values():
            if not flight.done():
                flight.set_exception(OvsdbUnavailable(f"{reason}; the transaction may or may not have been applied"))

    def _turn(self, link: Link) -> None:
        self._link = link
        self._turned.set()
        self._turned = asyncio.Event()

    def _end(self, reason: str) -> None:
        self._wakeups.disarm()
        self._session.close()
        self._lose(reason)
        self._moved.set()
        self._news.set()
