"""When does a switch speak OpenFlow (again)? Asked a thousand times a second, by a HELLO and an ECHO."""

import socket
import struct
import threading
import time
from pathlib import Path

OPENFLOW_15 = 6
HELLO, ECHO_REQUEST, ECHO_REPLY = 0, 2, 3
HEADER = struct.Struct("!BBHI")
PAUSE = 0.001
SECONDS = 20.0


class FirstAnswer:
    """Asks in a thread of its own from now on, until all *sockets* have answered since they were there anew."""

    def __init__(self, *sockets: Path) -> None:
        self.since = time.time()
        self._sockets = sockets
        self._time: float | None = None
        self._thread = threading.Thread(target=self._ask, name="first OpenFlow answer")
        self._thread.start()

    def wait(self) -> float:
        """Return when the last of them answered for the first time: seconds since the epoch."""
        self._thread.join()
        assert self._time is not None, f"no OpenFlow on {self._sockets} within {SECONDS:g} s"
        return self._time

    def _ask(self) -> None:
        deadline = time.monotonic() + SECONDS
        for path in self._sockets:
            while not _answers(path):
                if time.monotonic() > deadline:
                    return
                time.sleep(PAUSE)
        self._time = time.time()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(HEADER.pack(OPENFLOW_15, HELLO, HEADER.size, 1))
            connection.sendall(HEADER.pack(OPENFLOW_15, ECHO_REQUEST, HEADER.size, 2))
            with connection.makefile("rb") as stream:
                while header := stream.read(HEADER.size):
                    _, kind, length, _ = HEADER.unpack(header)
                    stream.read(length - HEADER.size)
                    if kind == ECHO_REPLY:
                        return True
        except OSError:
            return False
    return False
