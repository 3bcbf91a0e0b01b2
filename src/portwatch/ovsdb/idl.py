"""python-ovs, tamed: a session that always connects again, and one connection's replica of watched columns.

The only file that imports `ovs`. It never waits: `database` decides when to run it. The library's session,
with its back-off and its probes, lives as long as we do. The replica lives for one connection and is made of
the schema that the server gives then: after a reconnect the IDL does not tell which rows went away, so none
of the old one is kept and all is told again. What the library calls private is touched here only.
"""

import errno
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import ovs.db.custom_index
import ovs.db.data
import ovs.db.error
import ovs.db.idl
import ovs.jsonrpc
import ovs.reconnect
import ovs.stream
import ovs.timeval

from portwatch.errors import OvsdbError
from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.framing import Frames
from portwatch.ovsdb.poller import Wants
from portwatch.ovsdb.transaction import RowEdit
from portwatch.ovsdb.values import for_ovs, plain, refusal, texts

SUCCESS: Final[str] = ovs.db.idl.Transaction.SUCCESS
UNCHANGED: Final[str] = ovs.db.idl.Transaction.UNCHANGED
INCOMPLETE: Final[str] = ovs.db.idl.Transaction.INCOMPLETE
TRY_AGAIN: Final[str] = ovs.db.idl.Transaction.TRY_AGAIN

_SHORTEST_BACKOFF: Final = 100
_LONGEST_BACKOFF: Final = 2000
_READ: Final = 65536


class DatabaseMismatch(OvsdbError):
    """The server has not what is to be watched: a wrong socket, or another schema. Waiting does not help."""

    def __init__(self, remote: str, database: str, *, table: str = "", column: str = "") -> None:
        self.remote, self.database, self.table, self.column = remote, database, table, column
        where = ", ".join(f"{kind} {name}" for kind, name in (("table", table), ("column", column)) if name)
        lacking = f"{where} in database {database}" if where else f"database {database}"
        super().__init__(f"{remote}: no {lacking}: is this the socket of Open vSwitch's own database?")


@dataclass(frozen=True, slots=True)
class Tls:
    """The files for an `ssl:` remote. python-ovs keeps one set for the whole process."""

    private_key: Path
    certificate: Path
    ca_cert: Path


class Session:
    """Connects for ever. `replica` is there while a connection stands and has been loaded."""

    def __init__(
        self,
        remote: str,
        database: str,
        tables: Mapping[str, Collection[str]],
        *,
        heartbeat: float,
        tls: Tls | None,
    ) -> None:
        if not ovs.stream.Stream.is_valid_name(remote):
            raise ValueError(f"{remote!r} is no database's address (unix:PATH, tcp:IP:PORT or ssl:IP:PORT)")
        for table, columns in tables.items():
            if not columns:  # to the IDL that means: all of them, statistics too
                raise ValueError(f"say which columns of {table} are to be watched")
        if tls is not None:
            ovs.stream.Stream.ssl_set_private_key_file(str(tls.private_key))
            ovs.stream.Stream.ssl_set_certificate_file(str(tls.certificate))
            ovs.stream.Stream.ssl_set_ca_cert_file(str(tls.ca_cert))
        self._remote, self._database, self._tables = remote, database, tables
        self._reconnect = _Reconnect(heartbeat)
        self._session = ovs.jsonrpc.Session(self._reconnect, None, [remote])
        self._session.pick_remote()
        self._reconnect.enable(ovs.timeval.msec())
        self._connection: int | None = None
        self._question: Any = None
        self._replica: Replica | None = None
        self._was_loaded = False

    @property
    def replica(self) -> "Replica | None":
        return self._replica if self._replica is not None and self._replica.loaded else None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, loaded or not."""
        return bool(self._session.is_connected())

    @property
    def reason(self) -> str:
        """Why there was no connection the last time that there was none."""
        return self._reconnect.reason

    def run(self) -> None:
        """Do all that can be done without waiting. `DatabaseMismatch` when waiting would not help."""
        try:
            (self._session if self._replica is None else self._replica).run()
        except OSError as error:  # a TLS file that cannot be read: the operator may just be renewing it
            self._reconnect.failed(error)
        if not self.connected:
            self._forget()
        elif self._session.get_seqno() != self._connection:
            self._forget()
            self._greet()
        elif self._replica is None:
            self._listen()
        elif self._replica.loaded:
            self._was_loaded = True
            self._reconnect.backoff = 0  # it was a good one: the next is tried soon
        elif self._was_loaded or self._session.rpc.refusal:
            # The schema was converted beneath us, or the monitor was refused: begin anew with the new one.
            self._reconnect.reason = f"{self._remote}: {self._session.rpc.refusal or 'the schema changed'}"
            self._session.force_reconnect()

    def wait(self, wants: Wants) -> None:
        """Say when to run next. To be asked after every run, for it may have stopped with more to do."""
        self._session.wait(wants)
        self._session.recv_wait(wants)

    def close(self) -> None:
        self._forget()
        self._session.close()

    def _forget(self) -> None:
        self._connection = self._replica = self._question = None
        self._was_loaded = False

    def _greet(self) -> None:
        self._connection = self._session.get_seqno()
        self._session.rpc = _Wire(self._session.rpc.stream)
        self._question = ovs.jsonrpc.Message.create_request("get_schema", [self._database])
        self._session.send(self._question)

    def _listen(self) -> None:
        message = self._session.recv()
        if message is None or message.id != self._question.id:
            return
        if message.type != ovs.jsonrpc.Message.T_REPLY:
            raise DatabaseMismatch(self._remote, self._database)
        tables = message.result["tables"]
        for table, columns in self._tables.items():
            if table not in tables:
                raise DatabaseMismatch(self._remote, self._database, table=table)
            for column in columns:
                if column not in tables[table]["columns"]:
                    raise DatabaseMismatch(self._remote, self._database, table=table, column=column)
        self._session.rpc.refusal = ""
        self._replica = Replica(self._session, self._remote, message.result, self._tables)
        self._replica.run()


class Replica(ovs.db.idl.Idl):
    """The watched columns as this connection has told them. Photographs leave it, rows never do."""

    def __init__(
        self, session: Any, remote: str, schema: Mapping[str, Any], tables: Mapping[str, Collection[str]]
    ) -> None:
        self.schema = schema
        helper = ovs.db.idl.SchemaHelper(schema_json=schema)
        for table, columns in tables.items():
            helper.register_columns(table, list(columns))
        super().__init__(remote, helper, leader_only=False)
        self._session = session
        self.touched: dict[tuple[str, UUID], None] = {}
        for name, table in self.tables.items():
            table.rows = _Rows(table, name, self.touched)

    @property
    def loaded(self) -> bool:
        return bool(self.state == self.IDL_S_MONITORING)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:  # noqa: ARG002  # the library's signature
        """Note what the library tells us of; `_Rows` notes what it keeps to itself."""
        self.touched[row._table.name, row.uuid] = None  # noqa: SLF001

    @property
    def version(self) -> int:
        """Another one after every change."""
        return int(self.change_seqno)

    @property
    def size(self) -> int:
        return sum(len(table.rows) for table in self.tables.values())

    def everything(self) -> Iterable[RowChange]:
        """Photographs of all rows."""
        for name, table in self.tables.items():
            for uuid in table.rows:
                yield RowChange(name, uuid, self.columns(name, uuid))

    def columns(self, table: str, uuid: UUID) -> Mapping[str, object] | None:
        """A photograph of a row's watched columns; None when there is no such row."""
        row = self.tables[table].rows.get(uuid)
        if row is None:
            return None
        data = row._data  # noqa: SLF001  # its attributes want the tables that are referred to replicated too
        return {name: plain(data[name]) for name in self.tables[table].columns}

    def check(self, table: str, column: str, value: object) -> None:
        """`ValueError` when ovsdb-server would not take this value, or would drop the connection for it."""
        try:
            kind = self.tables[table].columns[column].type
        except KeyError:
            raise ValueError(f"{table}.{column} is not a watched column") from None
        try:
            if isinstance(value, Mapping) is not kind.is_map():
                raise ValueError("it is a map" if kind.is_map() else "it is not a map")
            for text in texts(value):
                if "\0" in text.encode().decode():
                    raise ValueError("a string in OVSDB has no NUL character")
            ovs.db.data.Datum.from_python(kind, for_ovs(value), lambda atom: atom)
        except (ValueError, ovs.db.error.Error) as error:
            raise ValueError(f"{table}.{column} = {value!r}: {getattr(error, 'msg', error)}") from None

    def send(self, edits: Iterable[RowEdit]) -> "Sent":
        """Send the edits as one transaction."""
        transaction = ovs.db.idl.Transaction(self)
        try:
            for edit in edits:
                self._apply(transaction, edit)
            return Sent(transaction)
        except BaseException:
            transaction.abort()  # left open, it would stop the next run
            raise

    def _apply(self, transaction: Any, edit: RowEdit) -> None:
        rows = self.tables[edit.table].rows
        row = transaction.insert(rows.table, edit.uuid) if edit.new else rows[edit.uuid]
        for column in edit.verified:
            row.verify(column)
        for column, value in edit.values.items():
            setattr(row, column, for_ovs(value))
        for column, keys in edit.keys.items():
            for key, text in keys.items():
                if not edit.new:
                    row.delkey(column, key)  # inserting alone would leave a value that somebody else set
                if text is not None:
                    row.setkey(column, key, text)


class Sent:
    """A transaction that is under way, or over."""

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self.status: str = transaction.commit()

    def ask(self) -> str:
        """How it stands after the last run."""
        self.status = self._transaction.commit()
        return self.status

    @property
    def words(self) -> str:
        """ovsdb-server's own, when it refused."""
        return refusal(str(self._transaction.get_error()))


class _Rows(ovs.db.custom_index.IndexedRows):
    """A table's rows, noting which come and go: `notify` is silent on a new row that has only defaults."""

    def __init__(self, table: Any, name: str, touched: dict[tuple[str, UUID], None]) -> None:
        super().__init__(table)
        self._name, self._touched = name, touched

    def __setitem__(self, uuid: UUID, row: Any) -> None:
        super().__setitem__(uuid, row)
        self._touched[self._name, uuid] = None

    def __delitem__(self, uuid: UUID) -> None:
        super().__delitem__(uuid)
        self._touched[self._name, uuid] = None


class _Wire(ovs.jsonrpc.Connection):
    """A connection that minds no UTF-8 character cut in two by a read; see `framing`."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._frames = Frames()
        self.refusal = ""

    def recv(self) -> tuple[int, Any]:
        while not self.status:
            try:
                said = self._frames.take()
            except ValueError:
                self.error(errno.EPROTO)
                break
            if said is not None:
                return self._message(said)
            error, octets = self.stream.recv(_READ)
            if error == errno.EAGAIN:
                return error, None
            if error or not octets:
                self.error(error or ovs.jsonrpc.EOF)
                break
            self.received_bytes += len(octets)
            self._frames.feed(octets)
        return self.status, None

    def recv_wait(self, poller: Wants) -> None:
        if self.status or self._frames.pending:
            poller.immediate_wake()
        else:
            self.stream.recv_wait(poller)

    def _message(self, said: object) -> tuple[int, Any]:
        message = ovs.jsonrpc.Message.from_json(said)
        if not isinstance(message, ovs.jsonrpc.Message):
            self.error(errno.EPROTO)
            return self.status, None
        if message.type == ovs.jsonrpc.Message.T_ERROR:
            # It may be the monitor that is refused: the IDL has no ear for that and would wait for ever.
            fault = message.error if isinstance(message.error, dict) else {"error": message.error}
            if fault.get("error") not in ("unknown method", "unknown database"):  # the IDL knows these two
                self.refusal = str(fault.get("details") or fault.get("error"))
        return 0, message


class _Reconnect(ovs.reconnect.Reconnect):
    """The library's back-off and probes, shorter than its setters allow, and the reason in words."""

    def __init__(self, heartbeat: float) -> None:
        super().__init__(ovs.timeval.msec())
        self.min_backoff, self.max_backoff = _SHORTEST_BACKOFF, _LONGEST_BACKOFF
        # On unix sockets too: a server that is stopped gives no sign of it there.
        self.probe_interval = heartbeat * 1000
        self.reason = ""

    def failed(self, error: OSError) -> None:
        self.connect_failed(ovs.timeval.msec(), error.errno or errno.EIO)
        self.reason = f"{self.name}: {error}"

    def disconnected(self, now: float, error: int) -> None:
        if self.state.name == "CONNECTING":
            self.reason = f"{self.name}: {_advice(self.name, error)}"
        elif error in (ovs.reconnect.EOF, errno.ECONNRESET, errno.EPIPE):
            self.reason = f"{self.name}: ovsdb-server closed the connection"
        elif error > 0:
            self.reason = f"{self.name}: {os.strerror(error)}"
        elif self.state.name == "IDLE":
            self.reason = f"{self.name}: ovsdb-server does not answer"
        super().disconnected(now, error)


def _advice(remote: str, error: int) -> str:
    match error:
        case errno.ENOENT:
            return "no such socket: is ovsdb-server running?"
        case errno.ECONNREFUSED:
            return "connection refused: is ovsdb-server running?"
        case errno.EACCES:
            return "permission denied: portwatch must be in the group that owns the socket"
        case errno.EPERM if remote.startswith("ssl:"):
            return "the TLS handshake failed: do the certificates of both sides fit?"
        case 0:
            return "no answer to the attempt to connect"
    return os.strerror(error)
