"""What waits on one topic is one word: which one, and whether it was there before we listened."""

from functools import partial

import pytest

from portwatch.events import ClaimGone, PortUpdated, key_of
from portwatch.hearing import newer
from portwatch.mailbox import Mailbox
from portwatch.model import HostName
from portwatch.wire import News
from tests.core.fleet import a_claim

HELD = PortUpdated(a_claim(seq=5, revision=2))
NEXT = PortUpdated(a_claim(seq=5, revision=3))
ATTACHED_ANEW = PortUpdated(a_claim(seq=9, revision=3))
OTHER_SESSION = PortUpdated(a_claim(seq=5, revision=1, session="another"))
GONE = ClaimGone(key_of(HELD.claim))


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ((HELD, False), (NEXT, False), (NEXT, False)),
        ((NEXT, False), (HELD, True), (NEXT, False)),
        ((HELD, True), (NEXT, False), (NEXT, True)),
        ((HELD, False), (NEXT, True), (NEXT, False)),
        ((HELD, True), (ATTACHED_ANEW, False), (ATTACHED_ANEW, False)),
        ((NEXT, True), (OTHER_SESSION, False), (OTHER_SESSION, False)),
        ((HELD, True), (GONE, False), (GONE, False)),
    ],
)
def test_of_two_words_on_one_topic_one_is_kept(
    old: tuple[News, bool], new: tuple[News, bool], kept: tuple[News, bool]
) -> None:
    inbox: Mailbox[str, tuple[News, bool]] = Mailbox(partial(newer, HostName("elsewhere")))

    inbox.put("topic", old)
    inbox.put("topic", new)

    assert inbox.take_now() == {"topic": kept}


def test_on_a_topic_of_our_own_the_last_word_is_kept_be_it_older() -> None:
    assert newer(HELD.claim.host, (NEXT, False), (HELD, False)) == (HELD, False)
