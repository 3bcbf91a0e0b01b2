"""The MQTT broker, and what a test wants to know of it: publish, record, read what is retained.

The lab's own clients do not come over the underlay, so that no cut of it reaches them.
"""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

from tests.lab import shell, snapshot
from tests.lab.authority import DEPLOY, Authority
from tests.lab.failures import LabError
from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process
from tests.lab.underlay import BROKER, SECOND, UPLINK, Address
from tests.lab.waiting import eventually

PORT = 1883
HOSTS_PORT = 8883
READERS_PORT = 8884
START_SECONDS = 10.0
MESSAGE_SECONDS = 10.0
RETAIN_SECONDS = 60.0
AT_ONCE = 500
"""Messages before their acknowledgements are read: with its default limits mosquitto drops those beyond 1,000."""

# "No limits": mosquitto's own drop all but about 1,000 of a large retained snapshot.
NO_LIMITS = ["max_queued_messages 1000000", "max_queued_bytes 0", "max_inflight_messages 0", "set_tcp_nodelay true"]


@dataclass(frozen=True)
class Message:
    """One message as a subscriber saw it; *snapshot*: it was retained before the subscription."""

    topic: str
    payload: str
    retain: bool
    qos: int
    time: float
    properties: dict[str, Any]
    snapshot: bool

    def json(self) -> Any:
        """Return the payload as JSON."""
        return json.loads(self.payload)


class Broker:
    """mosquitto in a namespace of its own."""

    def __init__(
        self,
        namespace: Namespace,
        children: Children,
        *,
        default_limits: bool,
        persistent: bool,
        authority: Authority | None = None,
        name: str = "mosquitto",
        port: int = PORT,
        address: Address = BROKER,
    ) -> None:
        """With an *authority* it is the locked one of deploy/mosquitto; the lab listens on loopback, in clear."""
        self.authority = authority
        self.address = address
        self.url = f"mqtts://{address.ipv4}:{HOSTS_PORT}" if authority else f"mqtt://{address.ipv4}:{port}"
        self._ears = ("127.0.0.1" if authority else address.ipv4, port)
        self.namespace = namespace
        self.socket = children.directory / f"{name}.sock"
        self.database = children.directory / f"{name}.db"
        self._children = children
        self._configuration = children.directory / f"{name}.conf"
        if authority:
            if not (authority.folder / "broker.pem").exists():
                both = (each for broker in (BROKER, SECOND) for each in (broker.ipv4, broker.ipv6))
                authority.broker("broker.lab", *both)
            self._configuration.write_text(self._locked(authority))
        else:
            self.configure(default_limits=default_limits, persistent=persistent)
        self.process = Process(
            children,
            name,
            ["mosquitto", "-c", str(self._configuration)],
            namespace=namespace,
            ready=self._wait_until_it_answers,
        )
        self.start = self.process.start
        self.stop = self.process.stop
        self.kill = self.process.kill
        self.pause = self.process.pause
        self.resume = self.process.resume
        self.restart = self.process.restart

    def configure(self, *more: str, default_limits: bool = False, persistent: bool = False) -> None:
        """Write the configuration, *more* lines of it at its end; the next start reads it."""
        lines = ["user root", "allow_anonymous true", "log_type all"]
        lines += [f"listener {self._ears[1]} {address}" for address in (self.address.ipv4, self.address.ipv6)]
        lines += [f"listener 0 {self.socket}"]
        lines += [] if default_limits else NO_LIMITS
        lines += [f"persistence {str(persistent).lower()}", f"persistence_location {self._children.directory}/"]
        self._configuration.write_text("\n".join((*lines, *more)) + "\n")

    def include(self, file: str, **changed: str) -> None:
        """Add a file of deploy/mosquitto to a locked one's configuration; the next start reads it."""
        assert self.authority is not None
        text = self._placed((DEPLOY / "mosquitto" / file).read_text(), self.authority)
        for here, there in changed.items():
            text = text.replace(here, there)
        with self._configuration.open("a") as configuration:
            configuration.write(text)

    def reload(self) -> None:
        """Let it read its access list anew."""
        os.kill(self.process.pid, signal.SIGHUP)

    def agent_settings(self, host: str) -> dict[str, str]:
        """Return what the agent of *host* needs beside the URL: its certificate, made when it is first asked for."""
        if self.authority is None:
            return {}
        certificate = self.authority.folder / f"{host}.pem"
        return self.authority.settings(certificate if certificate.exists() else self.authority.host(host))

    def connect(self) -> None:
        """Give the namespace's cable its addresses; once, before the first start."""
        addresses = [f"address add {address} dev {UPLINK} nodad" for address in self.address.with_prefixes]
        self.namespace.ip(f"link set {UPLINK} up", *addresses)

    def publish(
        self, topic: str, payload: str | bytes = "", *, retain: bool = False, content_type: str | None = None
    ) -> None:
        """Publish one message with QoS 1; an empty retained one takes a retained one away."""
        properties = ["-D", "publish", "content-type", content_type] if content_type else []
        body = ["-s"] if payload else ["-n"]  # mosquitto_pub refuses an empty standard input
        retained = ["-r"] if retain else []
        self._client("mosquitto_pub", "-t", topic, *body, *retained, *properties, stdin=payload)

    def retain(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Publish many retained messages over one connection; return when the broker has taken them all."""
        with self.connection() as connection, connection.makefile("rb") as stream:
            numbered = enumerate(messages, 1)
            while some := list(islice(numbered, AT_ONCE)):
                connection.sendall(b"".join(snapshot.retained(topic, said, number) for number, (topic, said) in some))
                acknowledged = len(some) * snapshot.ACKNOWLEDGEMENT
                if len(stream.read(acknowledged)) < acknowledged:
                    raise LabError("the broker did not take all that is to be retained")
            connection.sendall(snapshot.goodbye())

    def take_over(self, client: str) -> None:
        """Connect under another client's name, which ends the connection of that, and leave."""
        with self.connection(client) as connection:
            connection.sendall(snapshot.goodbye())

    def subscribe(self, *filters: str) -> "Recorder":
        """Start to record; what is retained is there when this returns."""
        return Recorder(self, self._children, filters)

    def retained(self, *filters: str) -> dict[str, str]:
        """Return what the broker retains now, topic → payload: all of it, or an error."""
        return self.namespace.inside(lambda: snapshot.read(self._ears, filters))

    def log_lines(self) -> list[str]:
        """Return mosquitto's own log."""
        return self.process.errors.all()

    @contextmanager
    def connection(self, client: str = "") -> Iterator[socket.socket]:
        """Connect, not over the underlay."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(RETAIN_SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(snapshot.hello(client))
            connection.recv(snapshot.ACKNOWLEDGEMENT)
            yield connection

    def _client(self, program: str, *arguments: str, stdin: str | bytes = "") -> None:
        shell.run(program, "--unix", str(self.socket), "-V", "5", "-q", "1", *arguments, stdin=stdin)

    def _locked(self, authority: Authority) -> str:
        text = self._placed((DEPLOY / "mosquitto" / "portwatch.conf").read_text(), authority)
        ears = (f"listener {PORT} 127.0.0.1", f"listener 0 {self.socket}")
        lines = (line for each in ears for line in (each, "allow_anonymous true"))
        return "\n".join((text, "user root", f"persistence_file {self.database.name}", *lines, ""))

    def _placed(self, text: str, authority: Authority) -> str:
        """Return a configuration of deploy/mosquitto, with its files where they lie in the lab."""
        for path in (DEPLOY / "mosquitto").rglob("*.acl"):
            text = text.replace(f"/etc/mosquitto/portwatch/{path.name}", str(path))
        text = text.replace("/etc/mosquitto/portwatch", str(authority.folder))
        return text.replace("/var/lib/mosquitto/", f"{self._children.directory}/")

    def _wait_until_it_answers(self, process: Process) -> None:
        process.until(self._answers, START_SECONDS, "answers a CONNECT")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00")  # CONNECT, 3.1.1, clean
                return connection.recv(1) == b"\x20"  # CONNACK
            except OSError:
                return False


class Recorder:
    """A running subscription and all that it has heard.

    mosquitto sends what is retained filter by filter, in the order of the SUBSCRIBE packet: a retained
    marker, asked for last, comes when all else has come. It is below `$`, where the filter `#` does not see.
    """

    def __init__(self, broker: Broker, children: Children, filters: tuple[str, ...]) -> None:
        self._messages: list[Message] = []
        self._lines_read = 0
        self._in_snapshot = True
        self._marker = f"$lab/snapshot-end/{uuid4().hex}"
        options = ["--unix", str(broker.socket), "-V", "5", "-q", "1", "--retain-as-published", "-F", "%j"]
        topics = [word for topic in (*filters, self._marker) for word in ("-t", topic)]
        self._process = Process(
            children,
            children.unique("mosquitto_sub"),
            ["mosquitto_sub", *options, *topics],
            ready=self._wait_for_marker,
        )
        broker.publish(self._marker, "end", retain=True)
        try:
            self._process.start()
        finally:
            broker.publish(self._marker, "", retain=True)

    @property
    def messages(self) -> list[Message]:
        """All messages up to now, in order."""
        lines = self._process.output.all()
        for line in lines[self._lines_read :]:
            self._hear(json.loads(line))
        self._lines_read = len(lines)
        return list(self._messages)

    def wait_for(
        self, wanted: Callable[[Message], bool], what: str, timeout: float = MESSAGE_SECONDS, after: int = 0
    ) -> Message:
        """Return the first message that *wanted* holds for; the first *after* messages do not count."""

        def first() -> list[Message]:
            return [message for message in self.messages[after:] if wanted(message)][:1]

        return eventually(first, timeout, f"a message: {what}")[0]

    def stop(self) -> None:
        """End the subscription; what was heard stays."""
        self._process.kill()

    def _hear(self, heard: dict[str, Any]) -> None:
        if heard["topic"] == self._marker:
            self._in_snapshot = False
            return
        message = Message(
            topic=heard["topic"],
            payload=heard["payload"] or "",  # an empty one is told as null
            retain=bool(heard["retain"]),
            qos=heard["qos"],
            time=datetime.strptime(heard["tst"], "%Y-%m-%dT%H:%M:%S.%fZ%z").timestamp(),
            properties=heard.get("properties", {}),
            snapshot=self._in_snapshot,
        )
        self._messages.append(message)

    def _wait_for_marker(self, process: Process) -> None:
        ended = f'"{self._marker}"'
        what = "has heard all that is retained (with default limits the broker may drop some)"
        process.until(lambda: any(ended in line for line in process.output.all()), MESSAGE_SECONDS, what)
