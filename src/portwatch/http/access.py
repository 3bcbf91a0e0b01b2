"""Who may ask: whoever reaches the address, or, beyond this host, who has the token, over TLS.

Files are read when they are needed, so that what is renewed on disk counts from the next connection or request on.
"""

import base64
import binascii
import hmac
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OPEN_TO_ALL: Final = frozenset({"/healthz"})
"""What a supervisor asks without a token: it says that the process does its work, and nothing else."""


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked of those who connect; nothing, unless it is set."""

    certificate: Path | None = None
    private_key: Path | None = None
    token_file: Path | None = None

    def token(self) -> str | None:
        """Return the token; OSError or ValueError when it is to be had and is not there."""
        if self.token_file is None:
            return None
        token = self.token_file.read_text("utf-8").strip()
        if not token:
            raise ValueError(f"{self.token_file} is empty")
        return token

    def admits(self, path: str, headers: Mapping[str, str]) -> bool:
        """Say whether this request brings the token, as `Bearer`, or as a browser's password."""
        token = self.token()
        if token is None or path in OPEN_TO_ALL:
            return True
        kind, _, text = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                text = base64.b64decode(text, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(text.strip().encode(), token.encode())

    def for_server(self) -> ssl.SSLContext | None:
        """Return what a server needs for TLS: each handshake takes the certificate that is there then."""
        if self.certificate is None:
            return None

        def take_what_is_there(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._loaded()

        context = self._loaded()
        context.sni_callback = take_what_is_there
        return context

    def for_client(self) -> ssl.SSLContext | None:
        """Return what the commands need to ask the agent here: they trust its very certificate, whatever its name."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(cafile=self.certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context

    def _loaded(self) -> ssl.SSLContext:
        assert self.certificate is not None, "asked for with a certificate only"
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.private_key, password="")
        return context
