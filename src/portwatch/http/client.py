"""How commands ask the local agent: one answer, or its events as they come. Blocking, for the command line.

Whatever goes wrong on the way is `AgentNotRunning`, in words for people.
"""

import contextlib
from collections.abc import Generator, Iterator
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Final
from urllib.parse import quote

from portwatch.errors import PortwatchError
from portwatch.http.messages import Event, address_text

FETCH_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 45.0
"""Three of the server's heartbeats."""

_LOCAL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where others listen, not we


class AgentNotRunning(PortwatchError):
    """The local agent does not answer. The operator starts it, or asks elsewhere; exit status 1."""

    def __init__(self, listen: tuple[str, int] | None, detail: str) -> None:
        self.listen, self.detail = listen, detail
        where = f" at {address_text(listen)}" if listen else ""
        super().__init__(f"no answer from the portwatch agent{where}: {detail}")


def fetch(listen: tuple[str, int] | None, path: str, timeout: float = FETCH_SECONDS) -> tuple[int, bytes]:
    """Return the status and the body of the local agent's answer."""
    with _asked(listen, path, timeout) as response:
        return response.status, response.read()


def act(listen: tuple[str, int] | None, path: str, timeout: float = FETCH_SECONDS) -> tuple[int, bytes]:
    """Have the local agent do something; return the status and the body of its answer."""
    with _asked(listen, path, timeout, method="POST") as response:
        return response.status, response.read()


def events(listen: tuple[str, int] | None, path: str, timeout: float = SILENCE_SECONDS) -> Generator[Event]:
    """Yield the local agent's events until it ends the stream."""
    with _asked(listen, path, timeout) as response:
        if response.status != HTTPStatus.OK:
            words = response.read().decode(errors="replace").strip()
            raise AgentNotRunning(listen, f"it says {response.status} {response.reason}: {words}")
        yield from _events(response)


@contextlib.contextmanager
def _asked(listen: tuple[str, int] | None, path: str, timeout: float, *, method: str = "GET") -> Iterator[HTTPResponse]:
    """Ask, and give the answer to read; all faults of the way there and back have one name."""
    if listen is None:
        raise AgentNotRunning(listen, "http.listen is off in this configuration")
    host, port = listen
    connection = HTTPConnection(_LOCAL.get(host, host), port, timeout=timeout)
    try:
        connection.request(method, quote(path, safe="/?&=%:@,;+~!$'()*"), headers={"x-portwatch": "cli"})
        with connection.getresponse() as response:
            yield response
    except ConnectionRefusedError:
        raise AgentNotRunning(listen, "nobody listens there; is `portwatch run` running?") from None
    except TimeoutError:
        raise AgentNotRunning(listen, f"nothing came for {timeout:g} s") from None
    except (IncompleteRead, ConnectionResetError):
        raise AgentNotRunning(listen, "it broke off; has it been stopped?") from None
    except HTTPException as error:
        raise AgentNotRunning(listen, f"this is not its HTTP: {type(error).__name__} {error}".rstrip()) from None
    except OSError as error:
        raise AgentNotRunning(listen, error.strerror or str(error)) from None
    finally:
        connection.close()


def _events(response: HTTPResponse) -> Iterator[Event]:
    """Read server-sent events (WHATWG HTML, 9.2.6); comments, such as heartbeats, are passed over."""
    kind, identity, data = "", "", list[str]()
    for line in _lines(response):
        name, _, value = line.decode(errors="replace").removesuffix("\r").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            identity = value
        elif line in (b"", b"\r"):
            if data:
                yield Event("\n".join(data), kind, identity)
            kind, data = "", []


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    # not `for line in response`: that takes an answer which breaks off for one that has ended
    rest = b""
    while piece := response.read1():
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
