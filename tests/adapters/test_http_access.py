"""Who may ask the agent: with TLS and the token, as the commands and a browser bring it, and without."""

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from portwatch.http import client
from portwatch.http.access import Access
from portwatch.http.client import AgentNotRunning
from portwatch.http.messages import Response
from portwatch.http.server import CannotServe, Server
from tests.adapters.test_certificate import a_certificate

asyncio_test = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
TOKEN = "a long secret"


@pytest.fixture
def access(tmp_path: Path) -> Access:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return Access(a_certificate(tmp_path, "/CN=hv1"), tmp_path / "key.pem", tmp_path / "token")


@asynccontextmanager
async def serving(access: Access) -> AsyncIterator[tuple[str, int]]:
    routes = {"/healthz": lambda _: Response(body=b"ok\n"), "/metrics": lambda _: Response(body=b"metrics\n")}
    async with Server(("127.0.0.1", 0), routes, access=access) as server:
        yield server.address


async def ask(at: tuple[str, int], access: Access, path: str = "/metrics") -> tuple[int, bytes]:
    return await asyncio.to_thread(client.fetch, at, path, access=access)


@asyncio_test
async def test_the_commands_ask_with_certificate_and_token(access: Access) -> None:
    async with serving(access) as at:
        assert await ask(at, access) == (200, b"metrics\n")


@asyncio_test
async def test_without_the_token_there_is_only_the_health(access: Access, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("a long secret!")
    without = Access(access.certificate)
    wrong = Access(access.certificate, token_file=tmp_path / "other")
    async with serving(access) as at:
        for stranger in (without, wrong):
            assert (await ask(at, stranger))[0] == 401
            assert (await ask(at, stranger, "/nothing"))[0] == 401
            assert (await ask(at, stranger, "/healthz")) == (200, b"ok\n")


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Basic {base64.b64encode(f'anybody:{TOKEN}'.encode()).decode()}", True),
        (f"Basic {base64.b64encode(TOKEN.encode()).decode()}", False),
        ("Basic %%%", False),
        ("Basic /w==", False),
        (f"Digest {TOKEN}", False),
        ("Bearer", False),
        ("Bearer ", False),
        ("Bearer \xe4", False),
        ("", False),
    ],
)
def test_the_token_comes_as_bearer_or_as_a_browsers_password(access: Access, header: str, admitted: bool) -> None:
    assert access.admits("/metrics", {"authorization": header} if header else {}) is admitted


@asyncio_test
async def test_in_clear_nothing_is_said(access: Access) -> None:
    def ask_in_clear(at: tuple[str, int]) -> bytes:
        with socket.create_connection(at, 5) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                return plain.recv(1000)
            except ConnectionResetError:
                return b""

    async with serving(access) as at:
        assert b"ok" not in await asyncio.to_thread(ask_in_clear, at)
        with pytest.raises(AgentNotRunning):
            await ask(at, Access())


@asyncio_test
async def test_another_certificate_than_the_named_one_gets_no_token(access: Access, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Access(a_certificate(tmp_path / "other", "/CN=hv1"), token_file=access.token_file)
    async with serving(access) as at:
        with pytest.raises(AgentNotRunning, match=r"not the certificate that http\.certificate names"):
            await ask(at, other)


@asyncio_test
async def test_certificate_and_token_renewed_on_disk_count_at_once(access: Access, tmp_path: Path) -> None:
    async with serving(access) as at:
        old = await asyncio.to_thread(ssl.get_server_certificate, at)
        a_certificate(tmp_path, "/CN=hv1")
        (tmp_path / "token").write_text("another secret")

        assert await asyncio.to_thread(ssl.get_server_certificate, at) != old
        assert await ask(at, access) == (200, b"metrics\n")


@asyncio_test
async def test_nobody_is_let_in_while_the_token_cannot_be_read(access: Access) -> None:
    assert access.token_file is not None
    without = Access(access.certificate)
    async with serving(access) as at:
        access.token_file.write_text("")
        with structlog.testing.capture_logs() as logs:
            assert (await ask(at, without))[0] == 401
        assert [line["event"] for line in logs] == ["the token cannot be read; nobody is let in"]


@asyncio_test
@pytest.mark.parametrize("broken", ["certificate.pem", "key.pem", "token"])
async def test_what_cannot_be_used_ends_the_start_and_is_named(access: Access, tmp_path: Path, broken: str) -> None:
    (tmp_path / broken).unlink()

    with pytest.raises(CannotServe, match=f"cannot use {tmp_path}"):
        async with serving(access):
            pass


@asyncio_test
async def test_an_empty_token_ends_the_start(access: Access, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" \n")

    with pytest.raises(CannotServe, match="token is empty"):
        async with serving(access):
            pass
