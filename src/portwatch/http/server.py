"""An HTTP/1.1 server for given routes: GET and HEAD, whole answers and event streams; POST for a few actions.

`async with Server(listen, routes):` and it serves; leaving the block ends every connection. A client can
neither stop it nor take more than its `Limits`; a handler that fails is logged and answered with 500.
"""

import asyncio
import errno
import inspect
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import structlog

from portwatch.errors import PortwatchError
from portwatch.http.access import Access
from portwatch.http.connection import Connection, Limits
from portwatch.http.messages import EventStream, Reply, Request, Response, address_text, close, failure, not_allowed

Handler = Callable[[Request], Reply | Awaitable[Reply]]

ANY: Final = "*"
"""A route's last segment, when it takes whatever stands there: `request.segments[-1]`, decoded."""

ACTION_HEADER: Final = "x-portwatch"
"""What an action must bring, whatever its value: a page of somebody else's cannot make a browser send it unasked."""

log = structlog.get_logger(__name__)


class CannotListen(PortwatchError):
    """The address cannot be had: another program has it, or it is none of this host. The operator decides."""

    def __init__(self, listen: tuple[str, int], detail: str, *, taken: bool = False) -> None:
        self.listen, self.detail = listen, detail
        ask = "is portwatch running already? If not, " if taken else ""
        super().__init__(f"cannot listen on {address_text(listen)}: {detail}; {ask}choose another http.listen")


class CannotServe(PortwatchError):
    """The certificate, its key or the token cannot be used. The operator mends the file."""


class Server:
    """Serves *routes* at *listen* while its `async with` block lasts."""

    def __init__(
        self,
        listen: tuple[str, int],
        routes: Mapping[str, Handler],
        limits: Limits | None = None,
        actions: Mapping[str, Handler] | None = None,
        access: Access | None = None,
    ) -> None:
        """*routes* are asked by GET and HEAD; *actions* change something, and are asked by POST."""
        self._access = access or Access()
        self._routes = _by_segments(routes)
        self._actions = _by_segments(actions or {})
        self._listen, self._limits = listen, limits or Limits()
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._turned_away: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens: with port 0 the system chose."""
        if self._server is None:
            raise RuntimeError("not listening")
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def __aenter__(self) -> Self:
        host, port = self._listen
        tls = self._tls()
        options: dict[str, Any] = {"limit": self._limits.head_bytes, "ssl": tls}
        if tls is not None:
            options["ssl_handshake_timeout"] = self._limits.request_seconds
        try:
            if host == "::":  # for people that means all addresses, as it does for Prometheus and OVS
                both = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
                self._server = await asyncio.start_server(self._accept, sock=both, **options)
            else:
                self._server = await asyncio.start_server(self._accept, host, port, **options)
        except OSError as error:
            # asyncio puts the address into strerror once more; name resolution has its own, negative numbers
            number = error.errno or 0
            detail = os.strerror(number) if number > 0 else error.strerror or error
            raise CannotListen(self._listen, str(detail), taken=number == errno.EADDRINUSE) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._server.close()
        while tasks := {*self._connections, *self._turned_away}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._server.wait_closed()

    def _tls(self) -> ssl.SSLContext | None:
        """Read certificate, key and token once before anybody asks, so that what is wrong with them ends the start."""
        try:
            self._access.token()
            return self._access.for_server()
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            why = error.strerror if isinstance(error, OSError) else str(error)
            place = getattr(error, "filename", None) or self._access.certificate or self._access.token_file
            raise CannotServe(f"cannot use {place}: {why or error}") from error

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._answer, self._limits)
        if len(self._connections) < self._limits.connections:
            task = asyncio.create_task(_guarded(connection.serve()), name="http: connection")
            self._connections[task] = connection
            task.add_done_callback(self._connections.pop)
        elif len(self._turned_away) < self._limits.connections:
            task = asyncio.create_task(_guarded(connection.turn_away()), name="http: no room")
            self._turned_away.add(task)
            task.add_done_callback(self._turned_away.discard)
        else:
            writer.transport.abort()

    async def _answer(self, request: Request) -> Reply:
        """Return what the request's handler says, or why there is no answer."""
        try:
            admitted = self._access.admits(request.path, request.headers)
        except (OSError, ValueError) as error:
            log.error(
                "the token cannot be read; nobody is let in",
                error=str(error),
                do="write the token into the file that http.token_file names, readable for the agent; it is read anew",
            )
            admitted = False
        if not admitted:
            refusal = failure(HTTPStatus.UNAUTHORIZED, "the token is needed: Authorization: Bearer TOKEN")
            challenge = (("www-authenticate", 'Basic realm="portwatch"'),)
            return Response(refusal.status, refusal.body, refusal.content_type, challenge)
        route, action = (_found(handlers, request.segments) for handlers in (self._routes, self._actions))
        handler = action if request.method == "POST" else route
        if handler is None:
            return _no_handler(route, action)
        if handler is action and ACTION_HEADER not in request.headers:
            return failure(HTTPStatus.FORBIDDEN, f"an action needs the header {ACTION_HEADER}")
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                reply = handler(request)
                if inspect.isawaitable(reply):
                    reply = await reply
            if not isinstance(reply, Response | EventStream):
                raise TypeError(f"{reply!r} is not a reply")
        except Exception:
            log.exception("request failed", path=request.path, do="report this, it is a fault of portwatch's")
            return failure(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed here; the agent's log says how")
        if isinstance(reply, EventStream) and self._streams() >= self._limits.streams:
            await close(reply.events)
            return failure(HTTPStatus.SERVICE_UNAVAILABLE, "too many event streams")
        return reply

    def _streams(self) -> int:
        return sum(connection.streaming for connection in self._connections.values())


def _by_segments(routes: Mapping[str, Handler]) -> dict[tuple[str, ...], Handler]:
    for route in routes:
        if not route.startswith("/"):
            raise ValueError(f"{route!r} is not a path")
    return {tuple(route[1:].split("/")): handler for route, handler in routes.items()}


def _found(routes: Mapping[tuple[str, ...], Handler], segments: tuple[str, ...]) -> Handler | None:
    handler = routes.get(segments)
    if handler is None and segments[-1]:
        handler = routes.get((*segments[:-1], ANY))
    return handler


def _no_handler(route: Handler | None, action: Handler | None) -> Response:
    """Return why a request is not answered; there may be somebody for another method."""
    if route is None and action is None:
        return failure(HTTPStatus.NOT_FOUND, "there is nothing of this name")
    return not_allowed("GET", "HEAD") if route else not_allowed("POST")


async def _guarded(serving: Coroutine[None, None, None]) -> None:
    """Let no connection's fault be the agent's."""
    try:
        await serving
    except Exception:
        log.exception("connection failed", do="report this, it is a fault of portwatch's")
