"""python-ovs's session with ovsdb-server, tamed: it connects for ever, and says why when there is no connection.

It never waits: `database` decides when to run it. The library's session, with its back-off and its probes, lives as
long as we do. The replica (`idl`) lives for one connection and is made of the schema that the server gives then: after
a reconnect the IDL does not tell which rows went away, so none of the old one is kept and all is told again.
"""

import errno
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ovs.jsonrpc
import ovs.reconnect
import ovs.stream
import ovs.timeval

from portwatch.errors import OvsdbError
from portwatch.ovsdb.framing import Frames
from portwatch.ovsdb.idl import Replica
from portwatch.ovsdb.poller import Wants

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
    def replica(self) -> Replica | None:
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
