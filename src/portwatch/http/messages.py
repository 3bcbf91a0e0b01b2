"""What goes over HTTP here: Request, Response, Event, EventStream. Values only, no I/O.

A request has been taken apart and decoded when a handler sees it; a response says what it is when it is made.
"""

import json
import re
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import parse_qsl, unquote

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"

QUERY_FIELDS_MAX: Final = 32
STATUSES: Final = frozenset(HTTPStatus) - {100, 101, 102, 103, 204, 205, 304}

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPES: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TOKEN: Final = re.compile(r"[A-Za-z0-9-]+")
_PRINTED: Final = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: the path as it was sent, its segments decoded, the query (of doubles, the last)."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    segments: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"

    @classmethod
    def parse(cls, target: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Self:
        """Take a request target apart; ValueError when its escapes are wrong or hide control characters."""
        if "://" in target.partition("?")[0] and not target.startswith("/"):  # the form that proxies use
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        if not path.startswith("/"):
            raise ValueError(f"{target!r} is not a path")
        pairs = parse_qsl(_checked(query), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
        segments = tuple(_decoded(segment) for segment in path[1:].split("/"))
        return cls(path, dict(pairs), segments, headers or {}, method)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that is known as a whole. `headers` come after the server's own, and in place of them."""

    status: int = 200
    body: bytes = b""
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"{self.status} is not the status of an answer with a body")
        for name, value in (("content-type", self.content_type), *self.headers):
            if not _TOKEN.fullmatch(name) or not _PRINTED.fullmatch(value):
                raise ValueError(f"{name!r}: {value!r} is not a header")


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `type` is what browsers listen for, `message` if it is empty."""

    data: str
    type: str = ""
    id: str = ""

    def encode(self) -> bytes:
        """Return the event as it goes over the wire (WHATWG HTML, 9.2.6)."""
        for name in (self.type, self.id):
            if _CONTROL.search(name):
                raise ValueError(f"{name!r} cannot name an event")
        lines = [f"{name}: {value}" for name, value in (("event", self.type), ("id", self.id)) if value]
        lines += (f"data: {line}" for line in re.split("\r\n|\r|\n", self.data))
        return "\n".join((*lines, "", "")).encode()


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer that goes on: *events* as they come, closed when the client goes."""

    events: AsyncIterable[Event]


Reply = Response | EventStream


def json_response(content: object, status: int = 200) -> Response:
    """Return *content* as JSON, one line, ending in a newline."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(status, f"{text}\n".encode(), JSON)


def failure(status: int, words: str) -> Response:
    """Return an answer that says in JSON what went wrong."""
    return json_response({"error": words}, status)


def not_allowed(*methods: str) -> Response:
    """Return the answer to a method that is not one of these (RFC 9110, 15.5.6)."""
    refusal = failure(HTTPStatus.METHOD_NOT_ALLOWED, f"{' and '.join(methods)} only")
    return Response(refusal.status, refusal.body, refusal.content_type, (("allow", ", ".join(methods)),))


async def close(events: AsyncIterable[Event]) -> None:
    """End what gives events, if it is something that ends, as generators are."""
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()


def address_text(listen: tuple[str, int]) -> str:
    """Return an address as it is written in `http.listen`."""
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _checked(text: str) -> str:
    if _ESCAPES.search(text) or _CONTROL.search(unquote(text, errors="strict")):
        raise ValueError(f"{text!r} has a wrong escape or hides a control character")
    return text


def _decoded(segment: str) -> str:
    return unquote(_checked(segment), errors="strict")
