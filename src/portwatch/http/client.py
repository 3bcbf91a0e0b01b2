"""How commands ask the local agent: one answer, or its events as they come. Blocking, for the command line.

Whatever goes wrong on the way is `AgentNotRunning`, in words for people.
"""

import contextlib
from collections.abc import Generator, Iterator
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from ssl import SSLCertVerificationError
from typing import Final
from urllib.parse import quote

from portwatch.errors import PortwatchError
from portwatch.http.access import Access
from portwatch.http.messages import Event, address_text

FETCH_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 45.0
"""Three of the server's heartbeats."""

OPEN: Final = Access()

_LOCAL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where others listen, not we


class AgentNotRunning(PortwatchError):
    """The local agent does not answer. The operator starts it, or asks elsewhere; exit status 1."""

    def __init__(self, listen: tuple[str, int] | None, detail: str) -> None:
        self.listen, self.detail = listen, detail
        where = f" at {address_text(listen)}" if listen else ""
        super().__init__(f"no answer from the portwatch agent{where}: {detail}")


def fetch(
    listen: tuple[str, int] | None, path: str, timeout: float = FETCH_SECONDS, *, access: Access = OPEN
) -> tuple[int, bytes]:
    """Return the status and the body of the local agent's answer."""
    with _asked(listen, path, timeout, access) as response:
        return response.status, response.read()


def act(
    listen: tuple[str, int] | None, path: str, timeout: float = FETCH_SECONDS, *, access: Access = OPEN
) -> tuple[int, bytes]:
    """Have the local agent do something; return the status and the body of its answer."""
    with _asked(listen, path, timeout, access, method="POST") as response:
        return response.status, response.read()


def events(
    listen: tuple[str, int] | None, path: str, timeout: float = SILENCE_SECONDS, *, access: Access = OPEN
) -> Generator[Event]:
    """Yield the local agent's events until it ends the stream."""
    with _asked(listen, path, timeout, access) as response:
        if response.status != HTTPStatus.OK:
            words = response.read().decode(errors="replace").strip()
            raise AgentNotRunning(listen, f"it says {response.status} {response.reason}: {words}")
        yield from _events(response)


@contextlib.contextmanager
def _asked(
    listen: tuple[str, int] | None, path: str, timeout: float, access: Access, *, method: str = "GET"
) -> Iterator[HTTPResponse]:
    """Ask, and give the answer to read; all faults of the way there and back have one name."""
    if listen is None:
        raise AgentNotRunning(listen, "http.listen is off in this configuration")
    host, port = listen
    connection = None
    try:
        connection = _connection(_LOCAL.get(host, host), port, timeout, access)
        headers = {"x-portwatch": "cli"}
        if (token := access.token()) is not None:
            headers["authorization"] = f"Bearer {token}"
        connection.request(method, quote(path, safe="/?&=%:@,;+~!$'()*"), headers=headers)
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
    except SSLCertVerificationError:
        raise AgentNotRunning(listen, "it has not the certificate that http.certificate names") from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise AgentNotRunning(listen, f"{place}{error.strerror or error}") from None
    except ValueError as error:
        raise AgentNotRunning(listen, str(error)) from None
    finally:
        if connection is not None:
            connection.close()


def _connection(host: str, port: int, timeout: float, access: Access) -> HTTPConnection:
    context = access.for_client()
    if context is None:
        return HTTPConnection(host, port, timeout=timeout)
    return HTTPSConnection(host, port, timeout=timeout, context=context)


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
