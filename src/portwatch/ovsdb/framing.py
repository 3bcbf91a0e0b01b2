"""The JSON texts in OVSDB's byte stream: feed bytes, take messages. No I/O, and nothing of python-ovs.

JSON-RPC over OVSDB has no delimiter: a message ends where its braces balance. Only ASCII is looked at, so it
does not matter where a read cuts a UTF-8 character in two: python-ovs decodes each message's reads for
themselves, and drops the connection when a burst is cut there. (The standard library's JSON parser also
halves the time of the first load.)
"""

import json
import re
from typing import Final

# At C's speed to the next brace, or to a string that has no end yet; and within a string to its end. Neither has more
# than one way to match. (Possessive quantifiers would say so, but are broken in Debian 12's Python, gh-106052.)
_PLAIN: Final = re.compile(rb'(?:[^{}"]+|"[^"\\]*(?:\\.[^"\\]*)*")*', re.DOTALL)
_IN_STRING: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_OPEN: Final = ord("{")
_QUOTE: Final = ord('"')


class Frames:
    """Bytes in, messages out, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_string = False
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
            at = _skip(_IN_STRING if self._in_string else _PLAIN, buffer, at)
            if at == len(buffer) or (self._in_string and buffer[at] != _QUOTE):
                self._scanned = at
                return None
            octet = buffer[at]
            at += 1
            if octet == _QUOTE:
                self._in_string = not self._in_string
                continue
            self._depth += 1 if octet == _OPEN else -1
            if self._depth <= 0:
                return at


def _skip(pattern: re.Pattern[bytes], buffer: bytearray, at: int) -> int:
    match = pattern.match(buffer, at)
    return match.end() if match else at
