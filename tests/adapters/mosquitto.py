"""A real broker for tests: mosquitto as a direct child, in a folder of its own, ended by its pid."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 10.0


class Mosquitto:
    """Listens on a unix socket in `folder`, or with `port` on 127.0.0.1; `lines` go to its configuration."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        self.folder, self.port = folder, port
        self.socket = folder / "mosquitto.sock"
        listener = f"listener {port} 127.0.0.1" if port else f"listener 0 {self.socket}"
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            "\n".join(
                (
                    "user root",  # as root it would become another user, who cannot write here
                    "persistence false",
                    "set_tcp_nodelay true",
                    # Its default, 1000, drops most of a large snapshot. Not 0: until 2.0.22, who has a publication
                    # refused is then thrown out.
                    "max_queued_messages 1000000",
                    listener,
                    "allow_anonymous true" if "allow_anonymous false" not in lines else "",
                    *lines,
                    "",
                )
            )
        )
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}" if self.port else f"mqtt+unix://{self.socket}"

    @property
    def child(self) -> subprocess.Popen[bytes]:
        assert self._child is not None, "mosquitto was not started"
        return self._child

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._child = subprocess.Popen(
                ["mosquitto", "-c", self._configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"mosquitto does not listen on {self.url}: {self.log}")
            time.sleep(0.002)

    def _listens(self) -> bool:
        family = socket.AF_INET if self.port else socket.AF_UNIX
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(("127.0.0.1", self.port) if self.port else str(self.socket)) == 0

    def kill(self) -> None:
        """End it as a crash does."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        """End it, also when it was stopped by SIGSTOP or has ended already."""
        if self._child is not None and self._child.poll() is None:
            self.kill()


@contextmanager
def a_mosquitto(folder: Path, *lines: str, port: int | None = None) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, *lines, port=port)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
