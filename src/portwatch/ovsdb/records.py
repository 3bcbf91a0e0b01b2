"""What we write to OVSDB: a Port row's tag, and what the row remembers of us. Nothing else, and on no other table.

What cannot be written now is written later, unless the port has another attachment by then.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

import structlog

from portwatch.errors import OvsdbUnavailable, TransactionFailed
from portwatch.fabric.status import PortRecord
from portwatch.mailbox import Mailbox
from portwatch.model import PortId
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture
from portwatch.ovsdb.rows import INSTALLED_KEY, NETWORK_KEY, SEQ_KEY
from portwatch.ovsdb.transaction import Transaction

AWAY_RETRY: Final = 0.5
"""Seconds after which rows are written again that could not be, for OVSDB was away."""
REFUSED_RETRY: Final = 5.0
"""Seconds after which those are that ovsdb-server refused: it may be a backup, or its disk full, for a while."""

log = structlog.get_logger()


def write(picture: Picture, records: Mapping[PortId, PortRecord], transaction: Transaction) -> None:
    """Put *records* on the Port rows; a port that has gone meanwhile is passed over. Other writers' keys stay."""
    for port_id, record in records.items():
        uuid = picture.port_row(port_id)
        row = transaction.row("Port", uuid) if uuid else None
        if row is None:
            continue
        row.set_key("external_ids", SEQ_KEY, str(record.seq))
        row.set_key("external_ids", INSTALLED_KEY, "true" if record.installed else "false")
        if record.vlan is None or record.network_id is None:
            row.delete_key("external_ids", NETWORK_KEY)
        else:
            row.set("tag", int(record.vlan))
            row.set_key("external_ids", NETWORK_KEY, record.network_id)


class RecordKeeper:
    """Keeps the Port rows as is wanted; its one task is `run`."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._wanted: Mailbox[PortId, PortRecord] = Mailbox()
        self._writing: dict[PortId, PortRecord] = {}
        self._refused: dict[PortId, PortRecord] = {}
        self._offer_again = 0.0

    def want(self, port_id: PortId, record: PortRecord) -> None:
        """The port's row shall say this."""
        self._wanted.put(port_id, record)

    def forget(self, port_ids: Iterable[PortId]) -> None:
        """What is to be remembered of these is decided anew: the rows may be other ones, of other attachments."""
        for port_id in port_ids:
            self._wanted.drop(port_id)
            self._writing.pop(port_id, None)
            self._refused.pop(port_id, None)

    async def run(self) -> NoReturn:
        """Write, for ever."""
        while True:
            self._writing = await self._next()
            try:
                await self._write()
            except OvsdbUnavailable as error:
                log.warning(
                    "Port rows not written yet",
                    ports=len(self._writing),
                    error=str(error),
                    do="see that ovsdb-server runs; they are written as soon as it does",
                )
                for port_id, record in self._writing.items():
                    if port_id not in self._wanted:
                        self._wanted.put(port_id, record)
                await asyncio.sleep(AWAY_RETRY)

    async def _next(self) -> dict[PortId, PortRecord]:
        """Wait for new ones, or until those that were refused are due again."""
        try:
            async with asyncio.timeout_at(self._offer_again if self._refused else None):
                wanted = await self._wanted.take()
        except TimeoutError:
            wanted, self._refused = self._refused, {}
        for port_id in wanted:
            self._refused.pop(port_id, None)
        return dict(wanted)

    async def _write(self) -> None:
        """Write in one transaction; what ovsdb-server refuses, one by one: a wrong one stops no other."""
        try:
            await self._transact(self._writing)
        except TransactionFailed as refusal:
            error = str(refusal)
        else:
            return
        for port_id in list(self._writing) if len(self._writing) > 1 else ():
            if (record := self._writing.get(port_id)) is not None:
                with suppress(TransactionFailed):
                    await self._transact({port_id: record})
                    self._writing.pop(port_id, None)
        if self._writing:
            ports = list(self._writing)
            log.error(
                "ovsdb-server refuses what we write",
                ports=len(ports),
                port=ports[0],
                error=error,
                do="see whether it is a backup server or out of space; it is tried again, a restart would forget it",
            )
        # Perhaps all are refused, for a while: what is not written would be forgotten at the next restart.
        self._refused |= self._writing
        self._offer_again = asyncio.get_running_loop().time() + REFUSED_RETRY

    async def _transact(self, records: Mapping[PortId, PortRecord]) -> None:
        await self._database.transact(partial(write, self._picture, records))
