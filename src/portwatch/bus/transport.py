"""Where the broker is, and the way there: URL, password, TLS, and an asyncio transport dressed as a socket.

The transport is asyncio's own: it connects and shakes hands without a thread, can be cancelled at any moment
and disables Nagle's algorithm. An MQTT library that wants a socket gets a `Wire`: no system call per packet.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from portwatch import certificate

CHUNK: Final = 16 * 1024
"""Bytes read at a time: some 40 port events, 1.5 ms of work; then others have their turn."""

BUSY_SECONDS: Final = 0.01

_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_FORMS: Final = "mqtt://[user@]host[:1883], mqtts://[user@]host[:8883] or mqtt+unix:///path"

_REFUSALS: Final = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the broker refuses our certificate: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the broker refuses our certificate: it was revoked",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker refuses our certificate: it knows no authority that signed it",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a certificate of us; set certificate and private_key",
}
"""What a broker's alerts mean for people (RFC 8446, section 6.2)."""


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How to reach the broker. What cannot be used is a `ValueError`; files are read at each connect."""

    url: str
    username: str | None = None
    password_file: Path | None = None
    ca_cert: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    connect_timeout: float = 5.0
    answer_timeout: float = 10.0
    keepalive: int = 10

    def __post_init__(self) -> None:
        address = self.address
        if (self.ca_cert or self.certificate or self.private_key) and not address.tls:
            raise ValueError(f"{address}: ca_cert, certificate and private_key are for mqtts:// only")
        if self.private_key and not self.certificate:
            raise ValueError(f"{address}: private_key needs the certificate that belongs to it")
        if self.password_file and not address.user:
            raise ValueError(f"{address}: password_file needs a username")

    @property
    def address(self) -> "Address":
        return Address.parse(self.url, self.username)

    def password(self) -> str | None:
        """Read the password: the file's text without the end of the line."""
        return self.password_file.read_text("utf-8").rstrip("\r\n") if self.password_file else None

    def doubt(self, now: datetime) -> str:
        """Return what the broker may have against us when it hangs up without a word, for people; perhaps nothing.

        In TLS 1.3 its refusal comes when we have spoken already, and its hanging up may overtake it.
        """
        if self.certificate is None:
            wanting = "; it may want a certificate of us (certificate, private_key)"
            return wanting if self.url.startswith("mqtts:") else ""
        try:
            own = certificate.read(self.certificate)
        except (OSError, ValueError):
            return ""
        if own.not_after < now:
            return f"; our certificate has expired ({own.not_after:%Y-%m-%d})"
        return f"; it may refuse our certificate (of {own.common_name}, valid until {own.not_after:%Y-%m-%d})"

    def tls_context(self) -> ssl.SSLContext:
        for path in filter(None, (self.ca_cert, self.certificate, self.private_key)):
            path.open("rb").close()  # ssl's own error does not name the file
        context = ssl.create_default_context(cafile=self.ca_cert)
        if self.certificate:
            # An empty pass phrase: a key that has one is an error, not a question on the terminal.
            context.load_cert_chain(self.certificate, self.private_key, password="")
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """A broker's URL, taken apart. As text it is the URL without a secret."""

    text: str
    user: str | None
    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False

    @classmethod
    def parse(cls, url: str, username: str | None = None) -> "Address":
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(f"not a broker's URL: expected {_FORMS}") from None
        if parts.password is not None:
            raise ValueError("a password does not belong in the broker's URL: use password_file")
        user = username or unquote(parts.username or "") or None
        if parts.scheme == "mqtt+unix" and not parts.hostname and parts.path.startswith("/"):
            address = cls(f"mqtt+unix://{parts.path}", user, path=unquote(parts.path))
        elif parts.scheme in _DEFAULT_PORTS and parts.hostname and port != 0 and parts.path in ("", "/"):
            port = port or _DEFAULT_PORTS[parts.scheme]
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            text = f"{parts.scheme}://{host}:{port}"
            address = cls(text, user, parts.hostname, port, tls=parts.scheme == "mqtts")
        else:
            raise ValueError(f"{url!r} is not a broker's URL: expected {_FORMS}")
        if parts.query or parts.fragment:
            raise ValueError(f"{address}: a broker's URL ends here, without ? or #")
        return address

    def __str__(self) -> str:
        return self.text


async def connect(address: Address, wire: "Wire", context: ssl.SSLContext | None) -> None:
    """Connect the wire; an `OSError` says why not."""
    loop = asyncio.get_running_loop()
    try:
        if address.path:
            await loop.create_unix_connection(lambda: wire, sock=await _unix_socket(address.path))
        else:
            await loop.create_connection(lambda: wire, address.host, address.port, ssl=context)
    except BaseException:
        wire.transport = None  # the loop closes what it has begun; uvloop does not tell the protocol
        raise


async def _unix_socket(path: str) -> socket.socket:
    """Connect a unix socket. asyncio would take "the listener's queue is full" for connected: wait here."""
    unix = socket.socket(socket.AF_UNIX)
    try:
        unix.setblocking(False)
        while True:
            try:
                unix.connect(path)
                return unix
            except BlockingIOError:
                await asyncio.sleep(BUSY_SECONDS)
    except BaseException:
        unix.close()
        raise


def words(error: OSError) -> str:
    """What happened, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {error.verify_message}; check ca_cert"
    if isinstance(error, ssl.SSLError) and error.reason in _REFUSALS:
        return _REFUSALS[error.reason]
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}; check ca_cert, certificate and private_key"
    if error.filename:
        return f"cannot read {error.filename}: {error.strerror}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


class Wire(asyncio.BufferedProtocol):
    """An asyncio transport with a non-blocking socket's manners: `recv` and `send` of what is in memory.

    `readable` is called when there is something to receive, `lost` when the other side is gone. What the other
    side is slow to take stays in memory; who sends sees to it that this has a bound.
    """

    def __init__(self, readable: Callable[[], None], lost: Callable[[Exception | None], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        self._readable, self._lost = readable, lost
        self._chunk = memoryview(bytearray(CHUNK))
        self._unread = self._chunk[:0]
        self._unsent: list[bytes] = []

    @property
    def unread(self) -> int:
        return len(self._unread)

    def flush(self) -> None:
        """Hand all that was sent to the transport, in one piece."""
        if self._unsent and self.transport is not None:
            self.transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def abort(self) -> None:
        """Let go at once; `gone` is set a turn of the loop later."""
        if self.transport is not None:
            self.transport.abort()

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        self._unread = self._chunk[:nbytes]
        self._readable()
        self._unread = self._chunk[:0]  # what nobody wants any more; the next read fills the same chunk
        if nbytes == CHUNK and self.transport is not None and not self.transport.is_closing():
            # There is more. uvloop would read on, up to 0.2 s in a snapshot, before anybody else has a turn.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._lost(exc)

    # --- the socket's side ---

    def recv(self, buffer_size: int) -> bytes:
        if not self._unread:
            raise BlockingIOError
        taken, self._unread = self._unread[:buffer_size], self._unread[buffer_size:]
        return bytes(taken)

    def send(self, buffer: bytes | bytearray) -> int:
        self._unsent.append(bytes(buffer))
        return len(buffer)

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  # the socket's signature
        """It never blocks."""

    def close(self) -> None:
        """The library is done with it; the transport's end is its owner's business."""
