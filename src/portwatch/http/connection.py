"""One client's connection: requests in, replies out, each with a time limit. Knows no routes.

h11 holds the state of the protocol; here are the socket and the clock. Whatever a client does or leaves out,
its connection ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11
import structlog

from portwatch.http.messages import (
    EVENTS,
    HTML,
    Event,
    EventStream,
    Reply,
    Request,
    Response,
    close,
    failure,
    not_allowed,
)

METHODS: Final = (b"GET", b"HEAD", b"POST")
HEARTBEAT: Final = b": still here\n\n"
PIECE: Final = 64 * 1024
"""Bytes that are written, or read, at once."""

# Only what this server serves itself, and no text that becomes a script or an element: in a page's data stand names
# that come from outside.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    connections: int = 64
    streams: int = 32
    """Event streams among the connections: those who watch must not keep out those who ask."""
    head_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    """Nothing here takes a body; as much is read and dropped."""
    request_seconds: float = 10.0
    idle_seconds: float = 75.0
    """Between two requests: longer than Prometheus' usual interval of 60 s."""
    answer_seconds: float = 30.0
    send_seconds: float = 20.0
    heartbeat_seconds: float = 15.0
    linger_seconds: float = 1.0


class Connection:
    """An accepted connection: `serve` it or `turn_away`, once."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[Request], Awaitable[Reply]],
        limits: Limits,
    ) -> None:
        self._reader, self._writer, self._answer, self._limits = reader, writer, answer, limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._fresh = True
        self._unread = False
        self.streaming = False

    async def serve(self) -> None:
        """Answer requests until the client goes, errs or is too slow."""
        async with self._closing():
            try:
                while await self._serve_one():
                    self._http.start_next_cycle()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint, f"not understood: {error}")

    async def turn_away(self) -> None:
        """Say that there is no room."""
        async with self._closing():
            await self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")

    async def _serve_one(self) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            head = await self._receive()
        except _TooLarge:
            await self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "nothing here takes a body")
            return False
        if head is None:
            return False
        head_only = head.method == b"HEAD"
        self._unread = self._http.their_state is h11.SEND_BODY
        reply = await self._reply(head)
        if isinstance(reply, EventStream):
            await self._stream(reply.events, head_only=head_only)
            return False
        await self._send(reply, head_only=head_only, last=self._unread)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _receive(self) -> h11.Request | None:
        """Return the head of the next request, its body read and dropped; None when none comes."""
        limits, now = self._limits, asyncio.get_running_loop().time
        begun = self._fresh or bool(self._http.trailing_data[0])
        self._fresh = False
        head: h11.Request | None = None
        dropped = 0
        try:
            async with asyncio.timeout(limits.request_seconds if begun else limits.idle_seconds) as limit:
                while True:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        if self._http.they_are_waiting_for_100_continue:
                            return head  # the answer is the same without the body
                        self._http.receive_data(await self._reader.read(limits.head_bytes))
                        if not begun:
                            begun = True
                            limit.reschedule(now() + limits.request_seconds)
                    elif isinstance(event, h11.Request):
                        head = event
                    elif isinstance(event, h11.Data):
                        dropped += len(event.data)
                        if dropped > limits.body_bytes:
                            raise _TooLarge
                    else:
                        return head if isinstance(event, h11.EndOfMessage) else None
        except TimeoutError:
            if begun:
                await self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request took too long")
            return None

    async def _reply(self, head: h11.Request) -> Reply:
        if head.method not in METHODS:
            return not_allowed("GET", "HEAD", "POST")
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        try:
            request = Request.parse(head.target.decode(), headers, head.method.decode())
        except ValueError:
            return failure(HTTPStatus.BAD_REQUEST, "path or query cannot be decoded")
        return await self._answer(request)

    async def _refuse(self, status: int, words: str) -> None:
        """Answer what is no request, if an answer can still be given, and be done with this client."""
        self._unread = True
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(failure(status, words), last=True)

    async def _send(self, response: Response, *, head_only: bool = False, last: bool = False) -> None:
        headers = _headers(response.content_type, last=last) | {
            "content-length": str(len(response.body)),
            **{name.lower(): value for name, value in response.headers},
        }
        data = self._http.send(_head(response.status, headers))
        if not head_only:
            data += self._http.send(h11.Data(response.body))
        await self._write(data + self._http.send(h11.EndOfMessage()))

    async def _stream(self, events: AsyncIterable[Event], *, head_only: bool) -> None:
        """Send events as they come until they end, the client goes or is too slow; then close them."""
        self.streaming = True
        headers = _headers(EVENTS, last=True) | {"x-accel-buffering": "no"}
        async with _closed(events) as coming:
            await self._write(self._http.send(_head(HTTPStatus.OK, headers)))
            if not head_only:
                await self._send_events(coming)
            await self._write(self._http.send(h11.EndOfMessage()))

    async def _send_events(self, coming: AsyncIterator[Event]) -> None:
        gone = asyncio.create_task(self._until_gone(), name="http: client gone")
        following = asyncio.create_task(_next(coming), name="http: next event")
        try:
            while True:
                await asyncio.wait(
                    (gone, following),
                    timeout=self._limits.heartbeat_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone.done():
                    raise ConnectionResetError("the client has gone")
                data = HEARTBEAT
                if following.done():
                    try:
                        event = following.result()
                        data = event.encode() if event else b""
                    except Exception as error:
                        log.exception("event stream failed", do="report this, it is a fault of portwatch's")
                        raise ConnectionAbortedError("the stream ends here, and not well") from error
                    if event is None:
                        return
                    following = asyncio.create_task(_next(coming), name="http: next event")
                await self._write(self._http.send(h11.Data(data)))
        finally:
            for task in (gone, following):
                task.cancel()
            await asyncio.wait((gone, following))

    async def _until_gone(self) -> None:
        """Return when the client has closed its side; drop what it still says."""
        with contextlib.suppress(OSError):
            while await self._reader.read(PIECE):
                pass

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(self._limits.send_seconds):
            for start in range(0, len(data), PIECE):
                self._writer.write(data[start : start + PIECE])
                await self._writer.drain()

    @contextlib.asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        """Close the socket at the end, whatever happened; what was sent goes out, if the client takes it."""
        try:
            yield
            if self._unread:
                await self._linger()
            self._writer.close()
            async with asyncio.timeout(self._limits.send_seconds):
                await self._writer.wait_closed()
        except OSError:  # TimeoutError is one: the client is gone or too slow, nobody is left to be told
            pass
        finally:
            self._writer.transport.abort()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _linger(self) -> None:
        """Read on for a moment: a socket closed over unread input takes the answer away from the client."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_seconds):
                if self._writer.can_write_eof():  # TLS has no half-closed connection
                    self._writer.write_eof()
                await self._until_gone()


class _TooLarge(Exception):
    """The body is larger than we care to read."""


async def _next(coming: AsyncIterator[Event]) -> Event | None:
    return await anext(coming, None)


@contextlib.asynccontextmanager
async def _closed(events: AsyncIterable[Event]) -> AsyncIterator[AsyncIterator[Event]]:
    """Give the events' iterator and close it at the end, as a generator wants to be."""
    coming = aiter(events)
    try:
        yield coming
    finally:
        await close(coming)


def _head(status: int, headers: dict[str, str]) -> h11.Response:
    return h11.Response(status_code=status, reason=HTTPStatus(status).phrase, headers=list(headers.items()))


def _headers(content_type: str, *, last: bool) -> dict[str, str]:
    headers = {
        "content-type": content_type,
        "date": formatdate(usegmt=True),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    if content_type.startswith(HTML.partition(";")[0]):
        headers |= {"content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "no-referrer"}
    if last:
        headers["connection"] = "close"
    return headers
