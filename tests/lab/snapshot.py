"""Reads all that a broker retains, whatever its queue limits: a tiny MQTT 3.1.1 client for this one question.

mosquitto drops messages for a reader that does not take them at once. This one has so large a receive buffer that
the kernel takes them; and it asks for a marker of its own last, so that a dropped message does not go unnoticed.
"""

import socket
from collections.abc import Iterable, Iterator
from uuid import uuid4

from tests.lab.failures import LabError

READ_SECONDS = 20.0
BUFFER_BYTES = 1 << 28

# first bytes of packets, MQTT 3.1.1 section 2.2
CONNECT, LIVE, RETAINED, SUBSCRIBE, PINGREQ, PINGRESP, DISCONNECT = 0x10, 0x30, 0x31, 0x82, 0xC0, 0xD0, 0xE0
CLEAN_SESSION = 2
QOS_1 = 2
ACKNOWLEDGEMENT = 4  # bytes of a CONNACK, and of a PUBACK


def read(address: tuple[str, int], filters: Iterable[str]) -> dict[str, str]:
    """Return topic → payload; must be called where *address* can be reached."""
    marker = f"$lab/snapshot-end/{uuid4().hex}"  # below `$`, where the filter `#` does not see it
    with socket.socket() as broker:
        broker.settimeout(READ_SECONDS)
        broker.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        broker.connect(address)
        variable = _text("MQTT") + bytes([4, CLEAN_SESSION]) + bytes(2)
        subscription = b"".join(_text(topic) + b"\0" for topic in (*filters, marker))
        questions = [
            _packet(CONNECT, variable + _text("")),
            _packet(RETAINED, _text(marker) + b"end"),
            _packet(SUBSCRIBE, b"\0\1" + subscription),
            _packet(PINGREQ),
        ]
        broker.sendall(b"".join(questions))
        # packets are answered in order: what is retained comes before the PINGRESP, or was dropped
        retained = dict(_until_pong(broker))
        broker.sendall(_packet(RETAINED, _text(marker)) + _packet(DISCONNECT))
    if retained.pop(marker, None) is None:
        raise LabError(f"the broker dropped messages: it retains more than {len(retained)}, or did not let us in")
    return retained


def _until_pong(broker: socket.socket) -> Iterator[tuple[str, str]]:
    with broker.makefile("rb") as stream:
        while head := stream.read(1):
            size, shift = 0, 0
            while True:
                byte = stream.read(1)[0]
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            body = stream.read(size)
            if head[0] == PINGRESP:
                return
            if head[0] == RETAINED:
                end = 2 + int.from_bytes(body[:2])
                yield body[2:end].decode(), body[end:].decode(errors="replace")
    raise LabError("the broker closed the connection")


def hello(client: str = "") -> bytes:
    """Return a CONNECT, of a client without a name if it has none."""
    return _packet(CONNECT, _text("MQTT") + bytes([4, CLEAN_SESSION]) + bytes(2) + _text(client))


def live(topic: str, payload: bytes, number: int) -> bytes:
    """Return a PUBLISH with QoS 1 that is not to be retained."""
    return _packet(LIVE | QOS_1, _text(topic) + number.to_bytes(2) + payload)


def retained(topic: str, payload: bytes, number: int) -> bytes:
    """Return a retained PUBLISH with QoS 1: what is sent with QoS 0 mosquitto drops for a slow reader."""
    return _packet(RETAINED | QOS_1, _text(topic) + number.to_bytes(2) + payload)


def goodbye() -> bytes:
    return _packet(DISCONNECT)


def _packet(first: int, body: bytes = b"") -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([first]) + length + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()


_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; root may go beyond net.core.rmem_max
