"""The HTTP server against raw sockets, and the CLI's client against the server."""

import asyncio
import contextlib
import json
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import islice

import pytest
import structlog

from portwatch.http import client
from portwatch.http.client import AgentNotRunning
from portwatch.http.connection import Limits
from portwatch.http.messages import (
    HTML,
    Event,
    EventStream,
    Request,
    Response,
    json_response,
)
from portwatch.http.server import CannotListen, Handler, Server

LOCAL = ("127.0.0.1", 0)
HASTY = Limits(
    request_seconds=0.3,
    idle_seconds=0.3,
    answer_seconds=0.3,
    send_seconds=0.3,
    heartbeat_seconds=0.1,
    linger_seconds=0.3,
)

asyncio_test = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


class Ticker:
    """A source of events that notices when it is closed."""

    def __init__(self, *given: Event, ends: bool = False) -> None:
        self.given, self.ends, self.opened, self.closed = given, ends, 0, 0

    async def events(self) -> AsyncIterator[Event]:
        self.opened += 1
        try:
            for event in self.given:
                yield event
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.closed += 1

    def __call__(self, _: Request) -> EventStream:
        return EventStream(self.events())


def echo(request: Request) -> Response:
    return json_response([request.path, list(request.segments), dict(request.query)])


async def slow_echo(request: Request) -> Response:
    await asyncio.sleep(0)
    return echo(request)


def broken(_: Request) -> Response:
    raise RuntimeError("no such luck")


async def endless(_: Request) -> Response:
    await asyncio.sleep(3600)
    raise AssertionError("unreachable")


ROUTES: dict[str, Handler] = {
    "/": lambda _: Response(200, b"<p>hello", HTML),
    "/echo": echo,
    "/echo/*": slow_echo,
    "/teapot": lambda _: Response(418, b"short and stout"),
    "/large": lambda _: Response(200, b"x" * 32_000_000),
    "/broken": broken,
    "/endless": endless,
    "/nonsense": lambda _: "a string",  # type: ignore[dict-item, return-value]
    "/unsayable": lambda _: Response(200, b"", "text/plain\r\nset-cookie: a"),
}


async def ask(server: Server, *requests: bytes) -> bytes:
    """Send, say that nothing follows, and return all that comes."""
    reader, writer = await asyncio.open_connection(*server.address)
    with contextlib.suppress(OSError):
        writer.write(b"".join(requests))
        await writer.drain()
        writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/{version}", "Host: x", *headers, "", "")).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def headers(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


@contextlib.asynccontextmanager
async def talking(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is awaited happens inside the server, which rings no bell
            await asyncio.sleep(0.01)


# --- answers ------------------------------------------------------------------------------------------------


@asyncio_test
async def test_a_route_answers() -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, get("/echo?a=1&b=&a=2&c=%2Fx+y"))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body(answer)) == ["/echo", ["echo"], {"a": "2", "b": "", "c": "/x y"}]
    assert headers(answer)["content-type"] == "application/json"
    assert headers(answer)["content-length"] == str(len(body(answer)))
    assert headers(answer)["cache-control"] == "no-store"
    assert headers(answer)["x-content-type-options"] == "nosniff"
    assert headers(answer)["date"].endswith(" GMT")
    assert "content-security-policy" not in headers(answer)


@asyncio_test
async def test_a_page_may_load_nothing_from_elsewhere() -> None:
    async with Server(LOCAL, ROUTES) as server:
        policy = headers(await ask(server, get("/")))["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy


@asyncio_test
async def test_a_response_may_have_its_own_headers() -> None:
    policy = ("Content-Security-Policy", "default-src 'none'")
    route = {"/": lambda _: Response(200, b"", HTML, (policy, ("X-More", "1")))}
    async with Server(LOCAL, route) as server:
        answer = await ask(server, get("/"))

    assert headers(answer)["content-security-policy"] == "default-src 'none'"
    assert headers(answer)["x-more"] == "1"


@asyncio_test
async def test_head_answers_as_get_without_the_body() -> None:
    async with Server(LOCAL, ROUTES) as server:
        got, head = await ask(server, get("/teapot")), await ask(server, get("/teapot", method="HEAD"))

    assert status(head) == 418
    assert body(head) == b""
    assert headers(head)["content-length"] == headers(got)["content-length"] == "15"


@pytest.mark.parametrize("path", ["/nothing", "/echo/", "/echo/a/b", "//", "/Echo", "/../etc/passwd", "/%2e%2e/x"])
@asyncio_test
async def test_what_is_not_there_is_404_in_json(path: str) -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, get(path))

    assert status(answer) == 404
    assert json.loads(body(answer)) == {"error": "there is nothing of this name"}


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/echo/fa:16:3e:00:00:01", "fa:16:3e:00:00:01"),
        ("/echo/a%2Fb", "a/b"),
        ("/echo/%2e%2e", ".."),
        ("/echo/gr%C3%BCn", "grün"),
        ("/echo/a+b", "a+b"),
        ("/%65cho/x?y", "x"),
        ("http://somewhere:80/echo/x", "x"),
    ],
)
@asyncio_test
async def test_segments_are_decoded_one_by_one(path: str, last: str) -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, get(path))

    assert status(answer) == 200
    assert json.loads(body(answer))[1] == ["echo", last]


@pytest.mark.parametrize(
    "path",
    [
        "/echo/%",
        "/echo/%zz",
        "/echo/%ff",
        "/echo/%00",
        "/echo/a%0ab",
        "/echo?%zz",
        "/echo?a=%ff",
        "echo",
        "*",
    ],
)
@asyncio_test
async def test_what_cannot_be_decoded_is_400_and_the_connection_goes_on(path: str) -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, get(path), get("/teapot"))

    assert status(answer) == 400
    assert answer.endswith(b"short and stout")


@asyncio_test
async def test_a_query_of_a_thousand_fields_is_refused() -> None:
    async with Server(LOCAL, ROUTES) as server:
        assert status(await ask(server, get("/echo?" + "&".join(f"a{n}=1" for n in range(1000))))) == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "FOO"])
@asyncio_test
async def test_other_methods_are_405_and_the_connection_goes_on(method: str) -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, get("/echo", "Content-Length: 5", method=method) + b"hello", get("/teapot"))

    assert status(answer) == 405
    assert headers(answer)["allow"] == "GET, HEAD, POST"
    assert answer.endswith(b"short and stout")


@asyncio_test
async def test_a_handler_that_fails_is_500_and_logged_and_the_server_goes_on() -> None:
    with structlog.testing.capture_logs() as logs:
        async with Server(LOCAL, ROUTES) as server:
            answer = await ask(server, get("/broken"), get("/nonsense"), get("/unsayable"), get("/teapot"))

    assert answer.count(b"HTTP/1.1 500 Internal Server Error") == 3
    assert b"no such luck" not in answer
    assert b"set-cookie" not in answer
    assert answer.endswith(b"short and stout")
    assert [(entry["event"], entry["path"]) for entry in logs] == [
        ("request failed", "/broken"),
        ("request failed", "/nonsense"),
        ("request failed", "/unsayable"),
    ]


@asyncio_test
async def test_a_handler_that_hangs_is_500_in_the_end() -> None:
    with structlog.testing.capture_logs():
        async with Server(LOCAL, ROUTES, HASTY) as server:
            assert status(await ask(server, get("/endless"))) == 500


# --- the protocol -------------------------------------------------------------------------------------------


@asyncio_test
async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with Server(LOCAL, ROUTES) as server, talking(server) as (reader, writer):
        for _ in range(3):
            writer.write(get("/teapot"))
            answer = await reader.readuntil(b"short and stout")
            assert "connection" not in headers(answer)


@asyncio_test
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, *(get(f"/echo/{number}") for number in range(500)))

    assert answer.count(b"HTTP/1.1 200 OK") == 500
    order = [answer.index(f'"/echo/{number}"'.encode()) for number in range(500)]
    assert order == sorted(order)


@asyncio_test
async def test_an_old_client_gets_its_answer_and_the_connection_is_closed() -> None:
    async with Server(LOCAL, ROUTES) as server, talking(server) as (reader, writer):
        writer.write(b"GET /teapot HTTP/1.0\r\n\r\n")
        answer = await reader.read()

    assert status(answer) == 418
    assert headers(answer)["connection"] == "close"


@asyncio_test
async def test_a_client_that_wants_to_close_is_heard() -> None:
    async with Server(LOCAL, ROUTES) as server, talking(server) as (reader, writer):
        writer.write(get("/teapot", "Connection: close"))
        assert (await reader.read()).endswith(b"short and stout")


@asyncio_test
async def test_an_offer_to_speak_another_protocol_is_passed_over() -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, get("/teapot", "Connection: upgrade", "Upgrade: websocket"), get("/teapot"))

    assert answer.count(b"HTTP/1.1 418") == 2


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\r\n\r\n\r\nfoo\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\0\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 100_000, 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"8000\r\n" + b"x" * 32768 + b"\r\n"
            b"8000\r\n" + b"x" * 32768 + b"\r\n1\r\nx\r\n0\r\n\r\n",
            413,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 400),
    ],
)
@asyncio_test
async def test_what_is_not_http_gets_its_refusal_and_the_server_goes_on(sent: bytes, code: int) -> None:
    async with Server(LOCAL, ROUTES) as server:
        answer = await ask(server, sent)
        after = await ask(server, get("/teapot"))

    assert status(answer) == code
    assert headers(answer)["connection"] == "close"
    assert "error" in json.loads(body(answer))
    assert status(after) == 418


@asyncio_test
async def test_an_action_is_asked_by_post_with_our_header_and_by_nothing_else() -> None:
    done: list[str] = []

    def act(request: Request) -> Response:
        done.append(request.path)
        return Response(body=b"done")

    async with Server(LOCAL, ROUTES, actions={"/act": act}) as server:
        by_get = await ask(server, get("/act"))
        bare = await ask(server, get("/act", method="POST"))
        elsewhere = await ask(server, get("/teapot", "X-Portwatch: yes", method="POST"))
        nowhere = await ask(server, get("/nothing", "X-Portwatch: yes", method="POST"))
        asked = await ask(server, get("/act", "X-Portwatch: yes", method="POST"))

    answers = (by_get, bare, elsewhere, nowhere, asked)
    assert [status(answer) for answer in answers] == [405, 403, 405, 404, 200]
    assert (headers(by_get)["allow"], headers(elsewhere)["allow"]) == ("POST", "GET, HEAD")
    assert done == ["/act"]


@asyncio_test
async def test_who_asks_before_sending_a_body_gets_the_answer_without_it() -> None:
    async with Server(LOCAL, ROUTES) as server, talking(server) as (reader, writer):
        writer.write(get("/echo", "Content-Length: 1000000", "Expect: 100-continue", method="PUT"))
        answer = await reader.read()

    assert status(answer) == 405
    assert headers(answer)["connection"] == "close"


@asyncio_test
async def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    async with Server(LOCAL, ROUTES) as server, talking(server) as (reader, writer):
        writer.write(get("/", "Content-Length: 900000") + b"x" * 900_000)
        await writer.drain()
        assert status(await reader.read()) == 413


@asyncio_test
async def test_noise_of_any_kind_leaves_the_server_standing() -> None:
    noise = random.Random(7)
    sound = get("/echo/x?y=z", "Content-Length: 4", "Connection: keep-alive") + b"body" + get("/teapot")
    with structlog.testing.capture_logs() as logs:
        async with Server(LOCAL, ROUTES, HASTY) as server:
            for _ in range(300):
                sent = bytearray(sound)
                for _ in range(noise.randrange(1, 6)):
                    sent[noise.randrange(len(sent))] = noise.randrange(256)
                cut = noise.randrange(len(sent))
                await ask(server, bytes(sent[:cut]), bytes(sent[cut:] if cut % 3 else b""))
            assert status(await ask(server, get("/teapot"))) == 418
    assert logs == []


# --- the slow and the many ----------------------------------------------------------------------------------


@asyncio_test
async def test_a_request_in_drops_is_cut_off() -> None:
    async with Server(LOCAL, ROUTES, HASTY) as server, talking(server) as (reader, writer):
        answer = asyncio.create_task(reader.read())
        for byte in get("/teapot", "X-Long: " + "x" * 1000):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.02)
            if answer.done():
                break
        assert status(await answer) == 408


@asyncio_test
async def test_who_connects_and_says_nothing_is_cut_off() -> None:
    async with Server(LOCAL, ROUTES, HASTY) as server, talking(server) as (reader, _):
        assert status(await reader.read()) == 408


@asyncio_test
async def test_who_says_no_more_is_left_without_a_word() -> None:
    async with Server(LOCAL, ROUTES, HASTY) as server, talking(server) as (reader, writer):
        writer.write(get("/teapot"))
        assert (await reader.read()).endswith(b"short and stout")


@asyncio_test
async def test_who_pauses_between_requests_has_more_time_than_who_pauses_within_one() -> None:
    patient = replace(HASTY, idle_seconds=5)
    async with Server(LOCAL, ROUTES, patient) as server, talking(server) as (reader, writer):
        writer.write(get("/teapot"))
        await reader.readuntil(b"short and stout")
        await asyncio.sleep(0.6)
        writer.write(get("/teapot"))
        await reader.readuntil(b"short and stout")
        writer.write(b"G")
        assert status(await reader.read()) == 408


@asyncio_test
async def test_who_does_not_take_the_answer_is_cut_off() -> None:
    async with Server(LOCAL, ROUTES, HASTY) as server, talking(server) as (reader, writer):
        writer.write(get("/large"))
        await asyncio.sleep(0.1)
        assert connections(server) == 1
        await eventually(lambda: connections(server) == 0)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(32_000_000)


@asyncio_test
async def test_who_takes_the_answer_gets_all_of_it() -> None:
    async with Server(LOCAL, ROUTES) as server:
        assert len(body(await ask(server, get("/large")))) == 32_000_000


@asyncio_test
async def test_beyond_the_bound_a_connection_is_turned_away_until_there_is_room() -> None:
    async with Server(LOCAL, ROUTES, Limits(connections=8)) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(talking(server)) for _ in range(8)]
        await eventually(lambda: connections(server) == 8)
        answer = await ask(server, get("/teapot"))
        assert status(answer) == 503
        assert json.loads(body(answer)) == {"error": "too many connections"}

        clients[0][1].close()
        await eventually(lambda: connections(server) == 7)
        assert status(await ask(server, get("/teapot"))) == 418


@asyncio_test
async def test_a_thousand_connections_at_once_leave_it_bounded_and_alive() -> None:
    async def one(server: Server) -> bytes:
        try:
            return await ask(server, get("/teapot"))
        except OSError:
            return b""

    async with Server(LOCAL, ROUTES) as server:
        answers = await asyncio.gather(*(one(server) for _ in range(1000)))
        assert {status(answer) for answer in answers if answer} <= {418, 503}
        assert status(await ask(server, get("/teapot"))) == 418


@asyncio_test
async def test_those_who_watch_do_not_keep_out_those_who_ask() -> None:
    ticker = Ticker()
    few = Limits(connections=8, streams=3)
    async with (
        Server(LOCAL, {**ROUTES, "/events": ticker}, few) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(3):
            reader, writer = await stack.enter_async_context(talking(server))
            writer.write(get("/events"))
            await reader.readuntil(b"\r\n\r\n")
        answer = await ask(server, get("/events"), get("/teapot"))

    assert status(answer) == 503
    assert json.loads(body(answer).split(b"\n")[0]) == {"error": "too many event streams"}
    assert answer.endswith(b"short and stout")


# --- event streams ------------------------------------------------------------------------------------------


@asyncio_test
async def test_events_are_sent_as_they_come_with_heartbeats_between() -> None:
    ticker = Ticker(Event("one", "portwatch.port.added", "1"), Event("two\nthree"))
    async with Server(LOCAL, {"/events": ticker}, HASTY) as server, talking(server) as (reader, writer):
        writer.write(get("/events"))
        answer = await reader.readuntil(b": still here\n\n")

    assert status(answer) == 200
    assert headers(answer)["content-type"] == "text/event-stream"
    assert headers(answer)["cache-control"] == "no-store"
    assert b"event: portwatch.port.added\nid: 1\ndata: one\n\n" in answer
    assert b"data: two\ndata: three\n\n" in answer


@asyncio_test
async def test_a_client_that_goes_ends_its_events() -> None:
    ticker = Ticker(Event("one"))
    async with Server(LOCAL, {"/events": ticker}) as server:
        async with talking(server) as (reader, writer):
            writer.write(get("/events"))
            await reader.readuntil(b"one")
            assert ticker.closed == 0
        await eventually(lambda: ticker.closed == 1)
        assert connections(server) == 0


@asyncio_test
async def test_a_client_that_is_reset_ends_its_events() -> None:
    ticker = Ticker(Event("one"))
    async with Server(LOCAL, {"/events": ticker}) as server:
        async with talking(server) as (reader, writer):
            writer.write(get("/events"))
            await reader.readuntil(b"one")
            writer.transport.abort()
        await eventually(lambda: ticker.closed == 1)


@asyncio_test
async def test_a_client_that_does_not_take_its_events_is_cut_off() -> None:
    class Flood(Ticker):
        async def events(self) -> AsyncIterator[Event]:
            try:
                while True:
                    yield Event("x" * 100_000)
            finally:
                self.closed += 1

    flood = Flood()
    async with Server(LOCAL, {"/events": flood}, HASTY) as server, talking(server) as (_, writer):
        writer.write(get("/events"))
        await eventually(lambda: flood.closed == 1)


@asyncio_test
async def test_events_that_end_end_the_stream_well() -> None:
    ticker = Ticker(Event("one"), ends=True)
    async with Server(LOCAL, {"/events": ticker}) as server, talking(server) as (reader, writer):
        writer.write(get("/events"))
        answer = await reader.read()

    assert answer.endswith(b"0\r\n\r\n")
    assert ticker.closed == 1


@asyncio_test
async def test_events_that_fail_end_the_stream_short_and_are_logged() -> None:
    async def failing() -> AsyncIterator[Event]:
        yield Event("one")
        raise OSError("no such luck")

    routes: dict[str, Handler] = {"/events": lambda _: EventStream(failing())}
    with structlog.testing.capture_logs() as logs:
        async with Server(LOCAL, routes) as server, talking(server) as (reader, writer):
            writer.write(get("/events"))
            answer = await reader.read()

    assert b"one" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert [entry["event"] for entry in logs] == ["event stream failed"]


@asyncio_test
async def test_an_old_client_gets_events_without_chunks() -> None:
    ticker = Ticker(Event("one"), ends=True)
    async with Server(LOCAL, {"/events": ticker}) as server, talking(server) as (reader, writer):
        writer.write(b"GET /events HTTP/1.0\r\n\r\n")
        answer = await reader.read()

    assert body(answer) == b"data: one\n\n"


@asyncio_test
async def test_head_of_a_stream_opens_no_events() -> None:
    ticker = Ticker(Event("one"))
    async with Server(LOCAL, {"/events": ticker}) as server:
        answer = await ask(server, get("/events", method="HEAD"))

    assert status(answer) == 200
    assert body(answer) == b""
    assert ticker.opened == 0


def test_what_stands_in_an_event_cannot_make_another() -> None:
    assert Event("a\rdata: b\r\n\nevent: c").encode() == (b"data: a\ndata: data: b\ndata: \ndata: event: c\n\n")
    with pytest.raises(ValueError, match="cannot name an event"):
        Event("a", "x\ndata: y").encode()
    with pytest.raises(ValueError, match="cannot name an event"):
        Event("a", id="1\n2").encode()


@pytest.mark.parametrize(
    ("code", "kind", "more"),
    [
        (99, "text/plain", ()),
        (101, "text/plain", ()),
        (204, "text/plain", ()),
        (700, "text/plain", ()),
        (200, "text/plain\n", ()),
        (200, "", ()),
        (200, "text/plain", (("x y", "z"),)),
        (200, "text/plain", (("x", "é"),)),
    ],
)
def test_a_response_that_cannot_be_sent_cannot_be_made(code: int, kind: str, more: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match="is not"):
        Response(code, b"", kind, more)


def test_json_says_no_nan() -> None:
    assert json_response({"a": "ü"}).body == b'{"a":"\\u00fc"}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_response(float("nan"))


# --- listening and leaving ----------------------------------------------------------------------------------


@asyncio_test
async def test_leaving_ends_streams_requests_and_idle_connections_without_a_trace() -> None:
    ticker = Ticker(Event("one"))
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as stack:
        async with Server(LOCAL, {**ROUTES, "/events": ticker}) as server:
            address = server.address
            streaming = await stack.enter_async_context(talking(server))
            streaming[1].write(get("/events"))
            await streaming[0].readuntil(b"one")
            waiting = await stack.enter_async_context(talking(server))
            waiting[1].write(get("/endless"))
            idle = await stack.enter_async_context(talking(server))
            taking_nothing = await stack.enter_async_context(talking(server))
            taking_nothing[1].write(get("/large"))
            await eventually(lambda: connections(server) == 4)
            await asyncio.sleep(0.05)
            clock = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - clock < 1
        assert ticker.closed == 1
        assert asyncio.all_tasks() == before
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        assert await idle[0].read() == b""


@asyncio_test
async def test_what_goes_wrong_inside_the_block_comes_out_of_it_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with Server(LOCAL, ROUTES):
            raise LookupError("mine")


@asyncio_test
async def test_cancelling_who_serves_leaves_nothing_behind() -> None:
    started = asyncio.Event()
    before = asyncio.all_tasks()

    async def serving() -> None:
        async with Server(LOCAL, ROUTES):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serving())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


@asyncio_test
async def test_an_address_in_use_is_named() -> None:
    async with Server(LOCAL, ROUTES) as server:
        host, port = server.address
        with pytest.raises(CannotListen) as caught:
            async with Server((host, port), ROUTES):
                pass

    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; is portwatch running already?"
        " If not, choose another http.listen"
    )


@asyncio_test
async def test_an_address_of_somewhere_else_is_named() -> None:
    with pytest.raises(CannotListen, match=r"^cannot listen on \[2001:db8::1\]:9476: (Cannot assign|could not bind)"):
        async with Server(("2001:db8::1", 9476), ROUTES):
            pass
    with pytest.raises(CannotListen, match=r"^cannot listen on nowhere\.invalid:9476: .*[Nn]ame"):
        async with Server(("nowhere.invalid", 9476), ROUTES):
            pass


@asyncio_test
async def test_it_listens_on_ipv6() -> None:
    async with Server(("::1", 0), ROUTES) as server:
        assert server.address[0] == "::1"
        assert status(await ask(server, get("/teapot"))) == 418


@asyncio_test
async def test_all_addresses_means_ipv4_too() -> None:
    async with Server(("::", 0), ROUTES) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.address[1])
        writer.write(get("/teapot", "Connection: close"))
        assert status(await reader.read()) == 418
        writer.close()
        await writer.wait_closed()


def test_a_route_that_is_no_path_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="is not a path"):
        Server(LOCAL, {"echo": echo})


def connections(server: Server) -> int:
    return len(server._connections)  # noqa: SLF001 - what it holds is what is asked here


# --- the command line's side --------------------------------------------------------------------------------


@asyncio_test
async def test_a_command_gets_status_and_body() -> None:
    async with Server(LOCAL, ROUTES) as server:
        assert await asyncio.to_thread(client.fetch, server.address, "/teapot") == (418, b"short and stout")
        found, answer = await asyncio.to_thread(client.fetch, server.address, "/echo/grün und rot?a=b%2Fc")
        missing, _ = await asyncio.to_thread(client.fetch, server.address, "/nothing")

    assert found == 200
    assert json.loads(answer)[1:] == [["echo", "grün und rot"], {"a": "b/c"}]
    assert missing == 404


@asyncio_test
async def test_a_command_asks_here_when_the_agent_listens_everywhere() -> None:
    async with Server(("0.0.0.0", 0), ROUTES) as server:
        everywhere = ("0.0.0.0", server.address[1])
        assert (await asyncio.to_thread(client.fetch, everywhere, "/teapot"))[0] == 418
    async with Server(("::", 0), ROUTES) as server:
        assert (await asyncio.to_thread(client.fetch, ("::", server.address[1]), "/teapot"))[0] == 418


def test_where_nobody_listens_the_command_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(LOCAL)
        address = taken.getsockname()
        with pytest.raises(AgentNotRunning) as caught:
            client.fetch(address, "/")

    assert str(caught.value) == (
        f"no answer from the portwatch agent at 127.0.0.1:{address[1]}: "
        "nobody listens there; is `portwatch run` running?"
    )


def test_where_listening_is_off_the_command_says_so() -> None:
    with pytest.raises(AgentNotRunning, match=r"http\.listen is off"):
        client.fetch(None, "/")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "it broke off"),
        (b"220 mail.example.org ESMTP\r\n", "this is not its HTTP: BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "it broke off"),
        (None, "nothing came for 0.3 s"),
    ],
)
def test_where_something_else_answers_the_command_says_so(said: bytes | None, words: str) -> None:
    with somebody_else(said) as address, pytest.raises(AgentNotRunning, match=words) as caught:
        client.fetch(address, "/", timeout=0.3)

    assert len(str(caught.value).splitlines()) == 1


def test_a_name_that_is_not_known_is_said() -> None:
    with pytest.raises(AgentNotRunning, match=r"at nowhere\.invalid:9476: .*[Nn]ame"):
        client.fetch(("nowhere.invalid", 9476), "/")


@asyncio_test
async def test_a_command_follows_events() -> None:
    given = (Event("one", "portwatch.port.added", "1"), Event("two\nthree"), Event("grün", id="3"))

    async def events() -> AsyncIterator[Event]:
        for event in given:
            yield event
            await asyncio.sleep(0.15)  # longer than a heartbeat

    async with Server(LOCAL, {"/events": lambda _: EventStream(events())}, HASTY) as server:
        followed = await asyncio.to_thread(lambda: list(client.events(server.address, "/events")))

    assert [(event.data, event.type) for event in followed] == [(event.data, event.type) for event in given]
    assert [event.id for event in followed] == ["1", "1", "3"]


@asyncio_test
async def test_a_command_that_has_seen_enough_goes_and_the_server_notices() -> None:
    ticker = Ticker(Event("one"), Event("two"))

    def first(address: tuple[str, int]) -> list[Event]:
        with contextlib.closing(client.events(address, "/events")) as following:
            return list(islice(following, 1))

    async with Server(LOCAL, {"/events": ticker}) as server:
        assert await asyncio.to_thread(first, server.address) == [Event("one")]
        await eventually(lambda: ticker.closed == 1)


@asyncio_test
async def test_a_command_is_told_when_the_agent_stops() -> None:
    ticker = Ticker(Event("one"))
    seen = threading.Event()

    def follow(address: tuple[str, int]) -> None:
        for _ in client.events(address, "/events"):
            seen.set()

    async with Server(LOCAL, {"/events": ticker}) as server:
        following = asyncio.create_task(asyncio.to_thread(follow, server.address))
        await asyncio.to_thread(seen.wait, 5)
    with pytest.raises(AgentNotRunning, match="it broke off; has it been stopped"):
        await following


@asyncio_test
async def test_a_command_is_told_when_the_agent_falls_silent() -> None:
    ticker = Ticker(Event("one"))
    async with Server(LOCAL, {"/events": ticker}) as server:
        with pytest.raises(AgentNotRunning, match=r"nothing came for 0\.3 s"):
            await asyncio.to_thread(lambda: list(client.events(server.address, "/events", timeout=0.3)))


@asyncio_test
async def test_a_command_is_told_when_there_are_no_events_to_be_had() -> None:
    async with Server(LOCAL, ROUTES) as server:
        with pytest.raises(AgentNotRunning, match=r"it says 404 Not Found: .*nothing of this name"):
            await asyncio.to_thread(lambda: list(client.events(server.address, "/events")))


@contextlib.contextmanager
def somebody_else(said: bytes | None) -> Iterator[tuple[str, int]]:
    """Another program that says *said* to whoever connects, or is silent."""
    with socket.create_server(LOCAL) as listening:

        def answer() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(65536)
                if said is not None:
                    taken.sendall(said)
                else:
                    taken.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()
        thread.join(5)
