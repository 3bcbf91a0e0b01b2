"""A real ovsdb-server of the tests' own, on a unix socket; as a direct child, ended by its process id."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


class OvsdbServer:
    """ovsdb-server with a database in *folder*. It may be killed, started again, stopped and continued."""

    def __init__(self, folder: Path, *, schema: Path = SCHEMA, options: tuple[str, ...] = ()) -> None:
        self.folder, self.options = folder, options
        self.socket = folder / "db.sock"
        self.file = folder / "conf.db"
        self.database = str(json.loads(schema.read_text())["name"])
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(["ovsdb-tool", "create", self.file, schema], check=True)

    @property
    def remote(self) -> str:
        return f"unix:{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                "ovsdb-server",
                self.file,
                f"--remote=punix:{self.socket}",
                f"--unixctl={self.folder / 'ovsdb.ctl'}",
                f"--log-file={self.folder / 'ovsdb.log'}",
                "--no-chdir",
                "-vconsole:off",
                *self.options,
            ]
        )
        within_ten_seconds(self._answers, f"ovsdb-server in {self.folder}")

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def transact(self, *operations: Mapping[str, Any]) -> list[Any]:
        """Apply operations (RFC 7047, 5.2) by a connection of our own."""
        with self._connection() as connection:
            return _asked(connection, "transact", [self.database, *operations])

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """A connection for many small transactions."""
        with self._connection() as connection:
            yield Client(connection, self.database)

    def transact_offline(self, *operations: Mapping[str, Any]) -> None:
        """Apply operations while the server is down."""
        text = json.dumps([self.database, *operations])
        subprocess.run(["ovsdb-tool", "transact", self.file, text], check=True, stdout=subprocess.DEVNULL)

    def vsctl(self, *words: str) -> str:
        """ovs-vsctl, which does not wait for a switch."""
        return subprocess.run(
            ["ovs-vsctl", "--no-wait", f"--db={self.remote}", *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def _connection(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(10)
            connection.connect(_short(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "ovsdb.log").read_text()
        try:
            with self._connection() as connection:
                _asked(connection, "list_dbs", [])
        except OSError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Client:
    """Somebody else who writes into the same database."""

    def __init__(self, connection: socket.socket, database: str) -> None:
        self._connection, self._database = connection, database

    def transact(self, *operations: Mapping[str, Any]) -> list[Any]:
        return _asked(self._connection, "transact", [self._database, *operations])


def insert(table: str, reference: str, /, **columns: object) -> dict[str, Any]:
    """A new row, which other rows of the same transaction call *reference*."""
    return {"op": "insert", "table": table, "uuid-name": reference, "row": columns}


def within_ten_seconds(condition: Any, words: str) -> None:
    """Look until *condition* holds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, words
        time.sleep(0.005)


def _asked(connection: socket.socket, method: str, parameters: list[Any]) -> list[Any]:
    connection.sendall(json.dumps({"method": method, "params": parameters, "id": 0}).encode())
    said = b""
    while True:
        octets = connection.recv(65536)
        if not octets:
            raise ConnectionResetError("ovsdb-server closed the connection")
        said += octets
        try:
            answer = json.loads(said)
        except ValueError:
            continue
        assert answer["error"] is None, answer
        result: list[Any] = answer["result"]
        return result


def _short(path: Path) -> str:
    """A unix socket's path has at most 107 bytes; pytest's folders may be deeper."""
    return os.path.relpath(path) if len(str(path)) > 100 else str(path)
