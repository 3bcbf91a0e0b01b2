"""The JSON texts in OVSDB's byte stream: feed bytes, take messages. No I/O, and nothing of python-ovs.

JSON-RPC over OVSDB has no delimiter: a message ends where its braces balance. Only ASCII is looked at, so it
does not matter where a read cuts a UTF-8 character in two: python-ovs decodes each message's reads for
themselves, and drops the connection when a burst is cut there. (The standard library's JSON parser also
halves the time of the first load.)
"""

import json
import re
from typing import Final

# Possessive (it never turns back): at C's speed up to the next brace, or to a string that has no end yet.
_PLAIN: Final = re.compile(rb'(?:[^{}"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_OPEN: Final = ord("{")
_CLOSE: Final = ord("}")


class Frames:
    """Bytes in, messages out, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self.pending = False
        """May `take` have more to give before anything is fed?"""

    def feed(self, octets: bytes) -> None:
        self._buffer += octets
        self.pending = True

    def take(self) -> object | None:
        """Return the next whole message, or None while there is none; `ValueError` when it is no JSON."""
        end = self._end()
        if end is None:
            self.pending = False
            return None
        text = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._scanned = self._depth = 0
        self.pending = bool(self._buffer)
        message: object = json.loads(text)
        return message

    def _end(self) -> int | None:
        """Where the first message ends. What was scanned before is not scanned again."""
        buffer, at = self._buffer, self._scanned
        while True:
            match = _PLAIN.match(buffer, at)
            at = match.end() if match else at
            if at == len(buffer) or buffer[at] not in (_OPEN, _CLOSE):
                self._scanned = at
                return None
            self._depth += 1 if buffer[at] == _OPEN else -1
            at += 1
            if self._depth <= 0:
                return at
