"""What a certificate file says of itself: until when it is valid, and for whom (RFC 5280, as far as that takes).

The standard library tells that of a peer's certificate only, not of one's own.
"""

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_CONTEXT_0: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG: Final = 0x80
_COMMON_NAME: Final = bytes((0x06, 3, 0x55, 0x04, 0x03))


@dataclass(frozen=True, slots=True)
class Certificate:
    """Its subject's common name, and the last moment at which it is valid."""

    common_name: str | None
    not_after: datetime


def read(path: Path) -> Certificate:
    """Return what the file's first certificate says; OSError or ValueError when there is none to be read."""
    match = _PEM.search(path.read_bytes())
    if match is None:
        raise ValueError(f"{path} holds no certificate")
    try:
        return _parse(ssl.PEM_cert_to_DER_cert(match[0].decode("ascii")))
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} holds no certificate that can be read: {error}") from None


def _parse(der: bytes) -> Certificate:
    certificate = _parts(der)[0]
    fields = _parts(_parts(certificate[1])[0][1])
    if fields[0][0] == _CONTEXT_0:  # the version; version 1 has none
        del fields[0]
    _serial, _algorithm, _issuer, validity, subject = fields[:5]
    kind, text = _parts(validity[1])[1]
    return Certificate(_common_name(subject[1]), _moment(kind, text.decode("ascii")))


def _common_name(names: bytes) -> str | None:
    for _, one_or_more in _parts(names):
        for _, name in _parts(one_or_more):
            if name.startswith(_COMMON_NAME):
                return _parts(name)[1][1].decode()
    return None


def _moment(kind: int, text: str) -> datetime:
    if kind == _UTC_TIME:  # its two digits of a year mean 1950 to 2049
        text = f"{'19' if text[0] >= '5' else '20'}{text}"
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Take a row of DER elements apart, each into its tag and its content."""
    parts = []
    while der:
        tag, length, start = der[0], der[1], 2
        if length >= _LONG:
            start += length - _LONG
            length = int.from_bytes(der[2:start])
        if len(der) < start + length:
            raise ValueError("it breaks off")
        parts.append((tag, der[start : start + length]))
        der = der[start + length :]
    return parts
