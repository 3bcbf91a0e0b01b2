"""The bus, as it speaks: each event is shown when it comes, one aligned line, and remembered."""

import threading
from types import TracebackType
from typing import Any, Self

from tests.demo.screen import Screen
from tests.lab import Broker, Message, eventually

PREFIX = "portwatch/v1"
LOOK_SECONDS = 0.01
EVENT_SECONDS = 10.0
WIDTHS = (7, 3, 9, 14, 6, 17, 0)


class News:
    """Follows all ports and hosts on the bus, from `with` to its end."""

    def __init__(self, broker: Broker, screen: Screen) -> None:
        self._recorder = broker.subscribe(f"{PREFIX}/hosts/+", f"{PREFIX}/ports/#")
        self._screen = screen
        self._shown = 0
        self._ports: dict[tuple[str, str], dict[str, Any]] = {}
        self._hosts: dict[str, tuple[str, str]] = {}  # what was shown of each last
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="news", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._recorder.stop()

    def head(self) -> None:
        """Name the columns of the port events to come."""
        self._screen.head("seconds", _columns("event", "on", "network", "port", "status", "MAC", "addresses"))

    def wait_for(self, port: str, host: str, **wanted: str) -> None:
        """Wait until a port's last event on *host* says what is *wanted* (`status="ACTIVE"`), and is shown."""

        def last() -> dict[str, Any]:
            return self._ports.get((port, host), {})

        def told() -> bool:
            return all(last().get(key) == value for key, value in wanted.items())

        words = ", ".join(f"{key} {value}" for key, value in wanted.items())
        eventually(told, EVENT_SECONDS, lambda: f"an event of {port} on {host} with {words}; the last: {last()}")

    def wait_for_hosts(self, *hosts: str) -> None:
        """Wait until each of *hosts* has said that it is online."""

        def told() -> bool:
            return all(host in self._hosts and self._hosts[host][0] == "online" for host in hosts)

        eventually(told, EVENT_SECONDS, lambda: f"online: {', '.join(hosts)}")

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for message in self._recorder.messages[self._shown :]:
                self._shown += 1
                if message.payload:  # an empty one ends what a `removed` has told already
                    self._tell(message, message.json())

    def _tell(self, message: Message, body: dict[str, Any]) -> None:
        since = message.time - self._screen.started
        if "data" not in body:
            host, state, tunnel_ip = body["host"], body["state"], body["tunnel_ip"] or "-"
            if self._hosts.get(host) != (state, tunnel_ip):  # it says more of itself than is shown here
                self._screen.news(since, [("host", 7), (host, 3), (state, 9), (tunnel_ip, 0)])
            self._hosts[host] = state, tunnel_ip
            return
        kind, port = body["type"].rpartition(".")[2], body["data"]
        state = "" if port["state"] == "active" else f" {port['state']}"
        network, mac, addresses = port["network_id"] or "-", port["mac"] or "-", ", ".join(port["fixed_ips"])
        cells = _columns(kind, port["host"], network, port["port_id"], port["status"], mac, addresses + state)
        self._screen.news(since, cells)
        self._ports[port["port_id"], port["host"]] = port | {"type": kind}


def _columns(*cells: str) -> list[tuple[str, int]]:
    return list(zip(cells, WIDTHS, strict=True))
