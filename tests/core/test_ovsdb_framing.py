"""JSON texts out of a stream of bytes, wherever the reads cut it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.ovsdb import framing
from portwatch.ovsdb.framing import Frames

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MESSAGES = st.dictionaries(st.text(), VALUES, min_size=1, max_size=4)


def take_all(frames: Frames) -> list[object]:
    taken = []
    while (message := frames.take()) is not None:
        taken.append(message)
    return taken


@given(st.lists(MESSAGES, max_size=4), st.lists(st.integers(1, 20), max_size=50))
def test_every_message_comes_whole_and_in_order_wherever_a_read_ends(
    messages: list[object], lengths: list[int]
) -> None:
    octets = "".join(json.dumps(message, ensure_ascii=False) for message in messages).encode()
    frames = Frames()
    taken: list[object] = []
    for length in [*lengths, len(octets) + 1]:
        frames.feed(octets[:length])
        octets = octets[length:]
        taken += take_all(frames)

    assert taken == messages


def test_what_was_looked_at_in_vain_is_not_pending() -> None:
    frames = Frames()
    frames.feed(b'{"a": "b')
    assert frames.pending
    assert frames.take() is None
    assert not frames.pending


def test_what_follows_a_message_is_pending_until_it_was_looked_at() -> None:
    frames = Frames()
    frames.feed(b'{"a": 1}{"b": 2}{"c"')
    assert frames.take() == {"a": 1}
    assert frames.pending
    assert frames.take() == {"b": 2}
    assert frames.pending
    assert frames.take() is None
    assert not frames.pending


@pytest.mark.parametrize("octets", [b"}", b"text {}", b'{"a" 1}', b'{"\xff": 1}', b'{"a": [1}'])
def test_what_is_no_json_is_an_error(octets: bytes) -> None:
    frames = Frames()
    frames.feed(octets)
    with pytest.raises(ValueError, match=r"."):
        frames.take()


def test_a_large_message_that_comes_in_many_reads_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": f"tap{number}"} for number in range(5_000)]
    octets = json.dumps({"text": "\\x" * 20_000, "rows": rows}).encode()
    looked_at: list[int] = []
    skip = framing._skip  # noqa: SLF001  # how often is no part of the outcome

    def counting(pattern: re.Pattern[bytes], buffer: bytearray, at: int) -> int:
        looked_at.append(skip(pattern, buffer, at) - at)
        return at + looked_at[-1]

    monkeypatch.setattr(framing, "_skip", counting)
    frames = Frames()
    taken: list[object] = []
    for start in range(0, len(octets), 100):
        frames.feed(octets[start : start + 100])
        taken += take_all(frames)

    assert len(taken) == 1
    assert sum(looked_at) < 1.2 * len(octets)
