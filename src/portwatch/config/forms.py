"""The forms that values have: how each is read from TOML and from a variable, and how it is written.

A form says in words what it expects; reading is a `ValueError` when the value is not that.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Network, ip_network
from typing import Generic, TypeVar

from portwatch.config import places
from portwatch.model import GENEVE, GRE, VXLAN, HostName, IpNetwork, NetworkType, tunnel_endpoint

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_WHOLE = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_WORDS = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}")
_SWITCHES = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_SECONDS_MAX = 1_000_000_000


class Loop(StrEnum):
    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"


class DatapathType(StrEnum):
    SYSTEM = "system"
    NETDEV = "netdev"


class Details(StrEnum):
    OVSDB = "ovsdb"
    DIRECTORY = "directory"


class UnknownUnicast(StrEnum):
    FLOOD = "flood"
    DROP = "drop"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """`expected` in words, `read` from TOML's value, `from_text` from a variable to what TOML would have."""

    expected: str
    read: Callable[[object], T]
    from_text: Callable[[str], object] = str
    word: str | None = None
    """How None is written, where it can be."""
    conceal: Callable[[str], str] = str
    """What may be shown of a wrong value: somebody may have put a password there."""


def of_text(expected: str, parse: Callable[[str], T]) -> Form[T]:
    """Return the form of what is written as a string."""

    def read(value: object) -> T:
        if isinstance(value, str):
            return parse(value)
        raise ValueError("not a string")

    return Form(expected, read)


def one_of(words: type[E]) -> Form[E]:
    """Return the form of a choice."""
    return of_text(" or ".join((", ".join(list(words)[:-1]), list(words)[-1])), words)


def or_word(word: str, form: Form[T]) -> Form[T | None]:
    """Return the form of a value that may also be *word*: then it is None here."""

    def read(value: object) -> T | None:
        return None if value == word else form.read(value)

    def from_text(text: str) -> object:
        return text if text == word else form.from_text(text)

    return Form(f"{form.expected}, or {word}", read, from_text, word)


def written(value: object, word: str | None = None) -> str:
    """Return *value* as TOML has it; None as its word."""
    if value is None and word is not None:
        return written(word)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple) and not isinstance(value, places.Listen):
        return f"[{', '.join(map(written, value))}]"
    return json.dumps(str(value), ensure_ascii=False)


def _read_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("neither true nor false")


def _read_port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= places.PORT_MAX:
        raise ValueError("not a port")
    return value


def _read_seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _SECONDS_MAX:
        raise ValueError("not a time")
    return float(value)


def _read_networks(value: object) -> tuple[IpNetwork, ...]:
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return tuple(map(_network, value))
    raise ValueError("not a list of strings with something in it")


def _network(value: str) -> IpNetwork:
    network = ip_network(value, strict=False)
    if isinstance(network, IPv6Network) and network.network_address.scope_id is not None:
        raise ValueError("a scope means nothing on another host")
    try:
        return ip_network(value)
    except ValueError:
        raise places.Advice(f"networks: {value!r} is an address in {network}") from None


def _tunnelled(text: str) -> NetworkType:
    if text not in (VXLAN, GENEVE, GRE):
        raise ValueError("not tunnelled")
    return NetworkType(text)


def _words(text: str) -> str:
    if not _WORDS.fullmatch(text):
        raise ValueError("not one line of text")
    return text


SWITCH = Form("true or false", _read_switch, lambda text: _SWITCHES.get(text.lower(), text))
PORT = Form("a port number, 1 to 65535", _read_port, lambda text: int(text) if _WHOLE.fullmatch(text) else text)
SECONDS = Form("seconds, 0 or more", _read_seconds, lambda text: float(text) if _NUMBER.fullmatch(text) else text)
NETWORKS = Form(
    'CIDRs such as ["192.0.2.0/24", "2001:db8::/64"]; comma-separated in a variable',
    _read_networks,
    lambda text: [part.strip() for part in text.split(",") if part.strip()],
)
WORDS = of_text("one line of text, 1 to 256 characters", _words)
PATH = of_text("an absolute path", places.absolute_path)
PASSWORD_FILE = replace(
    of_text("the absolute path of the file that holds the password", places.absolute_path),
    conceal=lambda _: "***",
)
TOKEN_FILE = replace(PASSWORD_FILE, expected="the absolute path of the file that holds the token")
HOST_NAME = of_text("a name of 1 to 128 characters without / + # or control characters and no leading $", HostName)
BRIDGE = of_text("a bridge's name: 1 to 15 of the characters A-Z a-z 0-9 _ . + - and no - first", places.BridgeName)
ENDPOINT = of_text(
    "an IPv4 or IPv6 address of this host that other hosts reach: not 0.0.0.0 or ::, loopback or multicast",
    tunnel_endpoint,
)
TUNNEL_TYPE = of_text("vxlan, geneve or gre", _tunnelled)
REMOTE = of_text("unix:PATH (absolute), tcp:IP:PORT or ssl:IP:PORT, IPv6 in brackets", places.ovsdb_remote)
BUS = replace(
    of_text(
        "memory://, mqtt://[user@]host[:1883], mqtts://[user@]host[:8883] or mqtt+unix:///path;"
        " several brokers separated by commas",
        places.bus_url,
    ),
    conceal=places.masked,
)
PREFIX = of_text(
    "topic levels joined by /, none empty, without + # or control characters and no leading $",
    places.TopicPrefix,
)
LISTEN = of_text("HOST:PORT or [v6]:PORT, such as 127.0.0.1:9476", places.Listen.parse)
