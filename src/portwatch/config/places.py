"""Where things are: OVSDB remotes, broker URLs, the listening address; and names that reach files and topics.

Values only. What an operator writes is read here or is a `ValueError`; `str(value)` writes it back.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import quote, unquote

from portwatch.model import IpAddress

PORT_MAX: Final = 65535
MQTT_PORT: Final = 1883
MQTTS_PORT: Final = 8883

_UNPRINTED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BRIDGE: Final = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,14}")
_LEVEL: Final = re.compile(r"[^/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{1,5}))?")
_SCHEME: Final = re.compile(r" *mqtts?://")
_PREFIX_MAX: Final = 256
_NAME_MAX: Final = 253


class Advice(ValueError):
    """Not usable, and why is worth more than the general form: the text says what would be right instead."""


class BridgeName(str):
    """A bridge's name, fit for a file name and for ovs-ofctl, where `:` and `@` have own meanings."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _BRIDGE.fullmatch(text) or text in (".", ".."):
            raise ValueError(f"{text!r} is not the name of a bridge")
        return super().__new__(cls, text)


class TopicPrefix(str):
    """The first levels of every topic: none empty or a wildcard, none the beginning of `$SYS`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if len(text) > _PREFIX_MAX or text.startswith("$") or not all(map(_LEVEL.fullmatch, text.split("/"))):
            raise ValueError(f"{text!r} cannot begin a topic")
        return super().__new__(cls, text)


class Listen(NamedTuple):
    """Where the HTTP server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT` or `[v6]:PORT`."""
        return cls(*_host_and_port(text))

    @property
    def local(self) -> bool:
        """Whether only this very host reaches it."""
        return _local(self.host)

    def __str__(self) -> str:
        return _joined(self.host, self.port)


@dataclass(frozen=True, slots=True)
class OvsdbSocket:
    """ovsdb-server on this host, at its Unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class OvsdbTcp:
    """ovsdb-server over TCP, or over TLS when `ssl`."""

    address: IpAddress
    port: int
    ssl: bool = False

    def __str__(self) -> str:
        return f"{'ssl' if self.ssl else 'tcp'}:{_joined(str(self.address), self.port)}"


OvsdbRemote = OvsdbSocket | OvsdbTcp


@dataclass(frozen=True, slots=True)
class MemoryBus:
    """No broker: this host alone."""

    def __str__(self) -> str:
        return "memory://"


@dataclass(frozen=True, slots=True)
class MqttBus:
    """A broker over TCP, or over TLS when `tls`."""

    host: str
    port: int
    user: str | None = None
    tls: bool = False

    @property
    def local(self) -> bool:
        """Whether the broker is on this very host, as far as its name tells."""
        return _local(self.host)

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{_joined(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class MqttBrokers:
    """Several brokers, the preferred one first, reached alike."""

    brokers: tuple[MqttBus, ...]

    @property
    def user(self) -> str | None:
        return self.brokers[0].user

    @property
    def tls(self) -> bool:
        return self.brokers[0].tls

    @property
    def local(self) -> bool:
        return all(broker.local for broker in self.brokers)

    def __str__(self) -> str:
        return ",".join(map(str, self.brokers))


@dataclass(frozen=True, slots=True)
class MqttSocketBus:
    """A broker on this host, at its Unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"mqtt+unix://{quote(str(self.path))}"


BusUrl = MemoryBus | MqttBus | MqttBrokers | MqttSocketBus


def absolute_path(text: str) -> Path:
    """Read a path that means the same in every working directory."""
    if not text.startswith("/") or _UNPRINTED.search(text):
        raise ValueError(f"{text!r} is not an absolute path")
    return Path(text)


def ovsdb_remote(text: str) -> OvsdbRemote:
    """Read `unix:PATH`, `tcp:IP:PORT` or `ssl:IP:PORT`."""
    method, _, rest = text.partition(":")
    if method == "unix":
        return OvsdbSocket(absolute_path(rest))
    if method not in ("tcp", "ssl"):
        raise ValueError(f"{text!r} is not an OVSDB remote")
    host, port = _host_and_port(rest)
    return OvsdbTcp(_address(host), port, ssl=method == "ssl")


def bus_url(text: str) -> BusUrl:
    """Read `memory://`, `mqtt://[user@]host[:port]`, `mqtts://…`, several of these, or `mqtt+unix:///path`."""
    if "," in text and not text.startswith("mqtt+unix:"):
        return _brokers([bus_url(part.strip()) for part in text.split(",")])
    scheme, _, rest = text.partition("://")
    if text == "memory://":
        return MemoryBus()
    if scheme == "mqtt+unix":
        return MqttSocketBus(absolute_path(_decoded(rest)))
    if scheme not in ("mqtt", "mqtts"):
        raise ValueError("not the URL of a bus")
    user, at, place = rest.rpartition("@")
    if ":" in user:
        raise Advice("no password inside the URL; write it into a file and name that in bus.password_file")
    if at and not user:
        raise ValueError("an @ without a user")
    tls = scheme == "mqtts"
    host, port = _host_and_port(place.removesuffix("/"), MQTTS_PORT if tls else MQTT_PORT)
    return MqttBus(host, port, _decoded(user) if user else None, tls)


def _brokers(urls: list[BusUrl]) -> MqttBrokers:
    brokers = tuple(url for url in urls if isinstance(url, MqttBus))
    if len(brokers) < len(urls) or len({(broker.user, broker.tls) for broker in brokers}) > 1:
        raise Advice("several brokers that are reached alike: all mqtt:// or all mqtts://, by one user")
    if len(set(brokers)) < len(brokers):
        raise Advice("several brokers, each of them once")
    return MqttBrokers(brokers)


def masked(text: str) -> str:
    """Return what was written as a URL, or several, right or wrong, without anything in it that may be a password."""
    parts = text.split(",")
    if len(parts) > 1 and all(_SCHEME.match(part) for part in parts):
        return ",".join(map(masked, parts))
    before, at, after = text.rpartition("@")
    scheme, slashes, user = before.partition("://")
    name, colon, port = after.partition("?")[0].rpartition(":")
    if colon and not port.startswith("//") and not port.partition("/")[0].isdecimal() and "]" not in port:
        after = f"{name}:***"
    elif "?" in after:
        after = f"{after.partition('?')[0]}?***"
    if not at:
        return after
    return f"{scheme}://{user.partition(':')[0]}:***@{after}" if slashes and ":" in user else f"***@{after}"


def _local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _host_and_port(text: str, default: int | None = None) -> tuple[str, int]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not HOST:PORT")
    host = match["host"]
    port = int(match["port"]) if match["port"] else default
    if port is None or not 1 <= port <= PORT_MAX:
        raise ValueError(f"{text!r} has no port between 1 and {PORT_MAX}")
    if host.startswith("["):
        return str(_address(host, bracketed=True)), port
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdecimal():
        return str(_address(host)), port
    if len(host) > _NAME_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{host!r} is not the name of a host")
    return host, port


def _address(text: str, *, bracketed: bool = False) -> IpAddress:
    address = ip_address(text.strip("[]"))
    if isinstance(address, IPv6Address):
        if address.scope_id is not None and not _SCOPE.fullmatch(address.scope_id):
            raise ValueError(f"{text!r} has a scope that is no interface")
    elif bracketed:
        raise ValueError(f"{text!r}: brackets are for IPv6")
    return address


def _decoded(text: str) -> str:
    decoded = unquote(text, errors="strict")
    if _UNPRINTED.search(decoded) or not decoded:
        raise ValueError("control characters, or nothing at all")
    return decoded


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
