"""The link to the bus: what a broker refuses, and how a thousand links come back."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from portwatch.bus.connection import Broker, Connection, Message, Publication
from portwatch.bus.link import Backoff, Link, Words
from portwatch.bus.memory import MemoryBroker
from portwatch.errors import PublishRefused, SubscribeRefused
from tests.adapters.inbox import PATIENCE
from tests.adapters.waiting import until

HELLO, GREETING = Publication("hosts/hv1", b"hello"), tuple(Publication(f"ports/{name}", b"1", True) for name in "ab")


class Forbidding:
    """A broker that forbids some topics, as one with an access list does: the rest of what is asked is done."""

    def __init__(self) -> None:
        self.memory = MemoryBroker()
        self.forbidden: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.own: dict[str, bool] = {}
        """Filter → was it asked for what the client says itself, too?"""

    @asynccontextmanager
    async def connect(
        self, *, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> AsyncGenerator[Connection]:
        async with self.memory.connect(client_id=client_id, will=will, receive=receive) as connection:
            yield _Forbidding(self, connection)

    def refused(self, topics: Iterable[str]) -> list[str]:
        self.asked.update(asked := list(topics))
        return [topic for topic in asked if topic in self.forbidden]


class _Forbidding:
    session_present = False

    def __init__(self, broker: Forbidding, connection: Connection) -> None:
        self._broker, self._connection = broker, connection
        self.unsubscribe, self.closed = connection.unsubscribe, connection.closed

    async def publish(self, *publications: Publication) -> None:
        refused = self._broker.refused(each.topic for each in publications)
        await self._connection.publish(*(each for each in publications if each.topic not in refused))
        if refused:
            error = PublishRefused(refused[0], 0x87, "Not authorized")
            error.others = tuple(refused[1:])
            raise error

    async def subscribe(self, *filters: str, own: bool = True) -> None:
        refused = self._broker.refused(filters)
        self._broker.own |= dict.fromkeys(filters, own)
        await self._connection.subscribe(*(each for each in filters if each not in refused), own=own)
        if refused:
            error = SubscribeRefused(refused[0], 0x87, "Not authorized")
            error.others = tuple(refused[1:])
            raise error


class Speaker:
    """Says hello, and greets with two ports."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.introduced_once = asyncio.Event()

    def will(self) -> Publication:
        return Publication("hosts/hv1", b"gone")

    def greeting(self) -> Iterable[Publication]:
        return GREETING

    def farewell(self) -> Iterable[Publication]:
        return ()

    def subscribing(self, filters: frozenset[str]) -> None:
        pass

    def speaks_of_us(self, topic_filter: str) -> bool:
        return topic_filter == "hosts/hv1"

    def receive(self, message: Message) -> None:
        self.heard.append(message.topic)

    def announcement(self) -> Publication:
        return HELLO

    async def introduced(self) -> None:
        self.introduced_once.set()


@asynccontextmanager
async def a_link(broker: Broker, speaker: Speaker, *filters: str) -> AsyncGenerator[Link]:
    link = Link(broker, "hv1", speaker)
    link.listen(filters)
    running = asyncio.create_task(link.run())
    try:
        yield link
        link.stop()
        await asyncio.wait_for(running, PATIENCE)
    finally:
        running.cancel()


@pytest.mark.asyncio
async def test_all_that_was_refused_is_asked_again_and_said_when_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portwatch.bus.link.REFUSED_AGAIN", 0.02)
    broker, speaker = Forbidding(), Speaker()
    broker.forbidden = {HELLO.topic, "ports/a", "ports/b", "ports/c", "ports/d", "news/1", "news/2"}
    said: list[str] = []
    async with a_link(broker, speaker, "news/1", "news/2", "news/3") as link:
        await until(lambda: link.connections)
        for topic in ("ports/c", "ports/d", "ports/e"):
            link.say(topic, Words((Publication(topic, b"1", True),), partial(said.append, topic)))
        await until(lambda: link.refused.keys() == broker.forbidden and said)
        assert said == ["ports/e"]
        assert all("Not authorized" in words for words in link.refused.values())

        broker.forbidden.clear()

        await until(lambda: len(broker.memory.retained) == 5 and sorted(said) == ["ports/c", "ports/d", "ports/e"])

        def hears_all() -> bool:
            for number in (1, 2, 3):
                link.say(f"news/{number}", Words((Publication(f"news/{number}", b"1"),)))
            return set(speaker.heard) == {"news/1", "news/2", "news/3"}

        await until(hears_all)


@pytest.mark.asyncio
async def test_only_the_filters_that_speak_of_us_bring_back_what_we_say() -> None:
    broker, speaker = Forbidding(), Speaker()
    async with a_link(broker, speaker, "hosts/hv1", "ports/blue/+") as link:
        await until(lambda: link.connections)
        link.listen({"hosts/hv1", "ports/blue/+", "hosts/hv2"})
        await until(lambda: "hosts/hv2" in broker.own)

    assert broker.own == {"hosts/hv1": True, "ports/blue/+": False, "hosts/hv2": False}


@pytest.mark.asyncio
async def test_what_was_refused_and_is_said_otherwise_meanwhile_is_not_said_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("portwatch.bus.link.REFUSED_AGAIN", 0.02)
    broker, speaker = Forbidding(), Speaker()
    broker.forbidden = {"ports/a", "ports/c"}
    async with a_link(broker, speaker) as link:
        await until(lambda: "ports/a" in link.refused)
        broker.forbidden = {"ports/c"}

        link.say("ports/a", Words((Publication("ports/a", b"newer", True),)))
        link.say("ports/c", Words((Publication("ports/c", b"1", True),)))

        await until(lambda: broker.asked["ports/c"] >= 3)
        assert broker.memory.retained["ports/a"].payload == b"newer"


@pytest.mark.parametrize("outage", [0.0, 0.3, 3.0, 30.0, 300.0])
def test_a_thousand_links_that_were_thrown_out_together_do_not_come_back_together(outage: float) -> None:
    random.seed(outage)
    arrivals: Counter[int] = Counter()

    for _ in range(1000):
        backoff, clock = Backoff(), 0.0
        while (clock := clock + backoff.pause()) < outage:
            pass
        arrivals[int((clock - outage) * 10)] += 1

    assert max(arrivals.values()) <= 150, "in a tenth of a second"
    assert max(arrivals) <= 80, "nobody is later than eight seconds"
