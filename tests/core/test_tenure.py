"""One name, one agent: who stays and who goes, by the order of what is said under the name."""

from datetime import timedelta

import pytest

from portwatch.events import OFFLINE, ONLINE, STOPPED, HostStatus
from portwatch.fabric.tenure import Reply, Tenure
from portwatch.model import HostName
from tests.core.fleet import START

DAY = timedelta(days=1)


class Topic:
    """The topic of the name: each agent hears what is retained, and all that is said, in one order, itself included."""

    def __init__(self) -> None:
        self.retained: HostStatus | None = None
        self.agents: dict[str, Tenure] = {}
        self.gone: list[str] = []

    def start(self, session: str, started_at: timedelta = timedelta()) -> Tenure:
        """Let an agent start, by its own clock, and announce itself."""
        tenure = self.agents[session] = Tenure(session, START)
        tenure.announce()
        if self.retained is not None:
            tenure.hear(self.retained)
        self.say(session, ONLINE, started_at)
        return tenure

    def say(self, session: str, state: str, started_at: timedelta = timedelta()) -> None:
        """Let a status be published, by whomever, and all that follows from it."""
        statuses = [HostStatus(HostName("hv1"), session, state, started_at=START + started_at)]
        for count, status in enumerate(statuses):
            assert count < 20, "they never stop answering each other"
            self.retained = status
            for name, tenure in list(self.agents.items()):
                reply = tenure.hear(status)
                if reply is Reply.STEP_DOWN:
                    del self.agents[name]
                    self.gone.append(name)
                elif reply is Reply.ANSWER:
                    statuses.append(HostStatus(status.host, name, ONLINE, started_at=START))


@pytest.mark.parametrize("clock", [-DAY, timedelta(), DAY])
def test_who_comes_later_steps_down_whatever_the_clocks_say(clock: timedelta) -> None:
    topic = Topic()
    topic.start("first").settle()

    topic.start("later", clock)

    assert topic.gone == ["later"]
    assert topic.retained is not None
    assert topic.retained.session == "first"


def test_of_two_that_start_together_the_one_announced_first_stays() -> None:
    topic = Topic()
    one = topic.start("one")

    other = Tenure("other", START)
    other.announce()
    assert topic.retained is not None
    other.hear(topic.retained)
    topic.agents["other"] = other
    topic.say("other", ONLINE)
    one.settle()

    assert topic.gone == ["other"]


@pytest.mark.parametrize("last_word", [ONLINE, OFFLINE, STOPPED])
def test_a_name_whose_owner_is_dead_has_a_new_one(last_word: str) -> None:
    topic = Topic()
    topic.say("dead", last_word)

    tenure = topic.start("alive")

    assert tenure.predecessor is (last_word == ONLINE)
    tenure.settle()
    assert not topic.gone


def test_the_last_will_of_a_predecessor_ends_the_waiting_and_is_not_the_last_word() -> None:
    topic = Topic()
    topic.say("dead", ONLINE)
    tenure = topic.start("alive")

    topic.say("dead", OFFLINE)

    assert not tenure.predecessor
    assert topic.retained is not None
    assert (topic.retained.session, topic.retained.state) == ("alive", ONLINE)


@pytest.mark.parametrize("session", ["dead", "long dead"])
def test_what_a_stale_broker_says_again_makes_nobody_step_down(session: str) -> None:
    topic = Topic()
    topic.say("dead", ONLINE)
    topic.start("alive").settle()

    topic.say(session, ONLINE, -DAY)

    assert not topic.gone
    assert topic.retained is not None
    assert topic.retained.session == "alive"


def test_an_answer_that_comes_too_late_is_an_answer_still() -> None:
    topic = Topic()
    first = topic.start("first")
    first.settle()
    del topic.agents["first"]  # it hangs
    topic.start("later").settle()

    topic.agents["first"] = first
    topic.say("first", ONLINE)

    assert topic.gone == ["later"]


def test_our_own_last_will_is_taken_back() -> None:
    topic = Topic()
    topic.start("alive").settle()

    topic.say("alive", OFFLINE)

    assert topic.retained is not None
    assert topic.retained.state == ONLINE
