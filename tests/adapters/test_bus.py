"""What the bus promises, kept by the memory broker and by a real mosquitto alike."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portwatch.bus.connection import Broker, Message, Publication
from portwatch.bus.memory import MemoryBroker
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.errors import BusUnavailable
from tests.adapters.inbox import BOTH_LOOPS, MARK, PATIENCE, WILL, a_client
from tests.adapters.inbox import nothing_goes_wrong_in_silence as nothing_goes_wrong_in_silence
from tests.adapters.mosquitto import a_mosquitto

pytestmark = [BOTH_LOOPS, pytest.mark.adapters, pytest.mark.timeout(30)]


@pytest.fixture(params=["memory", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    if request.param == "memory":
        yield MemoryBroker()
    else:
        with a_mosquitto(tmp_path) as mosquitto:
            yield MqttBroker(MqttSettings(mosquitto.url))


# --- retained messages --------------------------------------------------------------------------------------


async def test_retained_message_comes_with_the_subscription(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.publish(Publication("ports/blue/p1", b"here", retain=True))

        await connection.subscribe("ports/blue/#")

        assert await inbox.next() == Message("ports/blue/p1", b"here", replayed=True)


async def test_newest_retained_message_replaces_the_one_before(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.publish(Publication("a", b"old", retain=True), Publication("a", b"new", retain=True), MARK)

        await connection.subscribe("a", "mark")
        await connection.publish(MARK)

        assert [message.payload for message in await inbox.take(2)] == [b"new", b"here"]


async def test_retained_message_outlives_its_publisher(broker: Broker) -> None:
    async with a_client(broker, "writer") as (connection, _):
        await connection.publish(Publication("a", b"1", retain=True))

    async with a_client(broker, "reader") as (connection, inbox):
        await connection.subscribe("a")

        assert (await inbox.next()).payload == b"1"


async def test_retained_messages_come_again_when_asked_again(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.publish(Publication("a", b"1", retain=True))
        await connection.subscribe("a")
        await inbox.next()

        await connection.subscribe("a")

        assert (await inbox.next()).payload == b"1"


async def test_empty_retained_message_ends_the_topic_and_says_so(broker: Broker) -> None:
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("ports/#")
        await watcher.publish(Publication("ports/p1", b"here", retain=True))
        await seen.next()

        await watcher.publish(Publication("ports/p1", b"", retain=True))

        assert await seen.next() == Message("ports/p1", b"", replayed=False)
        async with a_client(broker, "newcomer") as (newcomer, inbox):
            await newcomer.publish(Publication("ports/p2", b"still here", retain=True))
            await newcomer.subscribe("ports/#")
            await newcomer.subscribe("mark")
            await newcomer.publish(MARK)
            assert [message.topic for message in await inbox.take(2)] == ["ports/p2", "mark"]


async def test_live_message_is_no_replay_however_it_was_published(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("a")

        await connection.publish(Publication("a", b"state", retain=True), Publication("a", b"news"))

        assert [message.replayed for message in await inbox.take(2)] == [False, False]


async def test_news_does_not_replace_what_is_retained(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.publish(Publication("a", b"state", retain=True), Publication("a", b"news"))

        await connection.subscribe("a")

        assert (await inbox.next()).payload == b"state"


async def test_expired_retained_message_is_forgotten(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("mark")
        await connection.publish(Publication("a", b"1", retain=True, expiry=1))
        deadline = time.monotonic() + PATIENCE

        topics = ["a"]
        while topics != ["mark"] and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            await connection.subscribe("a")
            await connection.publish(MARK)
            topics = [(await inbox.next()).topic]
            if topics == ["a"]:
                await inbox.next()

        assert topics == ["mark"]


# --- topics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "topics"),
    [
        ("a", {"a"}),
        ("a/b", {"a/b"}),
        ("#", {"a", "a/b", "a/b/c", "b", "/b"}),
        ("a/#", {"a", "a/b", "a/b/c"}),
        ("a/b/c/#", {"a/b/c"}),
        ("+", {"a", "b"}),
        ("+/b", {"a/b", "/b"}),
        ("+/+", {"a/b", "/b"}),
        ("a/+/c", {"a/b/c"}),
        ("a/+", {"a/b"}),
        ("+/#", {"a", "a/b", "a/b/c", "b", "/b"}),
        ("$own/#", {"$own/b"}),
        ("$own/+", {"$own/b"}),
        ("c/#", set()),
    ],
)
async def test_wildcards_match_as_mqtt_says(broker: Broker, topic_filter: str, topics: set[str]) -> None:
    everything = ("a", "a/b", "a/b/c", "b", "/b", "$own/b")
    async with a_client(broker) as (connection, inbox):
        await connection.publish(*(Publication(topic, b"1", retain=True) for topic in everything))

        await connection.subscribe(topic_filter)
        replayed = await inbox.take(len(topics))
        await connection.publish(*(Publication(topic, b"2", retain=True) for topic in everything))
        live = await inbox.take(len(topics))

        await connection.unsubscribe(topic_filter)
        assert {message.topic for message in replayed} == topics
        assert {message.topic for message in live} == topics
        assert inbox.empty()


@pytest.mark.parametrize("topic_filter", ["", "a#", "a/#/b", "a+", "+a/b"])
async def test_filter_that_is_none_is_a_value_error(broker: Broker, topic_filter: str) -> None:
    async with a_client(broker) as (connection, _):
        with pytest.raises(ValueError, match="filter"):
            await connection.subscribe(topic_filter)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b"])
async def test_topic_that_is_none_cannot_be_published_on(topic: str) -> None:
    with pytest.raises(ValueError, match="not a topic"):
        Publication(topic, b"1")


async def test_unsubscribed_topic_brings_nothing_more(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("a", "b", "mark")

        await connection.unsubscribe("a", "b", "never/asked/for")

        await connection.publish(Publication("a", b"1"), Publication("b", b"1"), MARK)
        assert (await inbox.next()).topic == "mark"


async def test_who_asks_for_nothing_gets_nothing(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.publish()
        await connection.subscribe()
        await connection.unsubscribe()

        assert inbox.empty()


# --- messages -----------------------------------------------------------------------------------------------


async def test_who_subscribes_to_what_he_publishes_hears_himself(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("mark")

        await connection.publish(MARK)

        assert await inbox.next() == Message("mark", b"here", replayed=False)


@pytest.mark.parametrize("payload", [b"", b"\x00\xff\xfe", bytes(range(256)) * 400], ids=["0", "3", "100kB"])
@pytest.mark.parametrize("content_type", [None, "application/cloudevents+json"])
async def test_payload_and_content_type_arrive_as_they_were_sent(
    broker: Broker, payload: bytes, content_type: str | None
) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("a")

        await connection.publish(Publication("a", payload, content_type=content_type, expiry=60))

        assert await inbox.next() == Message("a", payload, replayed=False, content_type=content_type)


async def test_many_large_publications_arrive_whole(broker: Broker) -> None:
    payloads = [bytes([number]) * 100_000 for number in range(100)]
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("a")

        await connection.publish(*(Publication("a", payload) for payload in payloads))

        assert [message.payload for message in await inbox.take(100)] == payloads


async def test_many_publications_arrive_in_the_order_of_their_topic(broker: Broker) -> None:
    async with a_client(broker) as (connection, inbox):
        await connection.subscribe("ports/+")
        seen: dict[str, list[int]] = {}

        await asyncio.gather(
            *(
                connection.publish(*(Publication(f"ports/p{port}", b"%d" % number) for number in range(500)))
                for port in range(10)
            )
        )
        for message in await inbox.take(5000):
            seen.setdefault(message.topic, []).append(int(message.payload))

        assert seen == {f"ports/p{port}": list(range(500)) for port in range(10)}


async def test_who_receives_may_publish(broker: Broker) -> None:
    answers: list[asyncio.Task[None]] = []
    async with a_client(broker, "caller") as (caller, inbox):

        def answer(message: Message) -> None:
            answers.append(asyncio.create_task(caller.publish(Publication("answer", message.payload))))

        async with broker.connect(client_id="answerer", will=WILL, receive=answer) as answerer:
            await answerer.subscribe("question")
            await caller.subscribe("answer")

            await caller.publish(Publication("question", b"1"), Publication("question", b"2"))

            assert [message.payload for message in await inbox.take(2)] == [b"1", b"2"]
            await asyncio.gather(*answers)


# --- the end of a connection --------------------------------------------------------------------------------


async def test_goodbye_keeps_the_will_back(broker: Broker) -> None:
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("hosts/+", "mark")

        async with a_client(broker, "hv1") as (connection, _):
            await connection.publish(Publication("hosts/hv1", b"stopped", retain=True))

        await watcher.publish(MARK)
        assert [message.payload for message in await seen.take(2)] == [b"stopped", b"here"]


async def test_goodbye_amid_unread_messages_keeps_the_will_back(broker: Broker) -> None:
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.publish(*(Publication(f"a/{n}", b"x" * 1000, retain=True) for n in range(2000)))
        await watcher.subscribe("hosts/+", "mark")

        async with a_client(broker, "hv1") as (connection, _):
            await connection.subscribe("a/#")

        await watcher.publish(MARK)
        assert (await seen.next()).topic == "mark"


class Failed(Exception):
    pass


async def test_leaving_by_an_exception_leaves_the_will(broker: Broker) -> None:
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("hosts/+")

        with pytest.raises(Failed):
            async with a_client(broker, "hv1"):
                raise Failed

        assert await seen.next() == Message("hosts/hv1", b"offline", replayed=False)


async def test_cancelled_connection_leaves_the_will_and_it_is_retained(broker: Broker) -> None:
    connected = asyncio.Event()

    async def host() -> None:
        async with a_client(broker, "hv1") as (connection, _):
            connected.set()
            await connection.closed()

    task = asyncio.create_task(host())
    await asyncio.wait_for(connected.wait(), PATIENCE)
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("hosts/+")

        task.cancel()

        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert await seen.next() == Message("hosts/hv1", b"offline", replayed=False)
        await watcher.subscribe("hosts/hv1")
        assert await seen.next() == Message("hosts/hv1", b"offline", replayed=True)


async def test_will_carries_its_content_type(broker: Broker) -> None:
    will = Publication("hosts/hv1", b"{}", retain=True, content_type="application/json", expiry=60)
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("hosts/+")

        with pytest.raises(Failed):
            async with a_client(broker, "hv1", will=will):
                raise Failed

        assert await seen.next() == Message("hosts/hv1", b"{}", replayed=False, content_type="application/json")


async def test_newer_connection_takes_over_its_client_id(broker: Broker) -> None:
    async with a_client(broker, "hv1") as (older, _), a_client(broker, "hv1") as (newer, inbox):
        with pytest.raises(BusUnavailable):
            await asyncio.wait_for(older.closed(), PATIENCE)

        await newer.subscribe("mark")
        await newer.publish(MARK)
        assert (await inbox.next()).topic == "mark"
        with pytest.raises(BusUnavailable):
            await older.publish(MARK)


async def test_taken_over_connection_leaves_its_will(broker: Broker) -> None:
    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("hosts/+")

        async with a_client(broker, "hv1"), a_client(broker, "hv1"):
            assert (await seen.next()).payload == b"offline"


async def test_new_connection_knows_nothing_of_old_subscriptions(broker: Broker) -> None:
    async with a_client(broker) as (connection, _):
        await connection.subscribe("a", "mark")

    async with a_client(broker) as (connection, inbox):
        assert not connection.session_present
        await connection.publish(Publication("a", b"1"))
        await connection.subscribe("mark")
        await connection.publish(MARK)

        assert (await inbox.next()).topic == "mark"


async def test_what_receive_raises_ends_the_connection_and_comes_out_of_closed(broker: Broker) -> None:
    failure = Failed("no")
    calls: list[Message] = []

    def fail(message: Message) -> None:
        calls.append(message)
        raise failure

    async def host() -> None:
        async with broker.connect(client_id="hv1", will=WILL, receive=fail) as connection:
            await connection.subscribe("mark")
            with suppress(BusUnavailable):
                await connection.publish(*[MARK] * 5)
            await connection.closed()

    async with a_client(broker, "watcher") as (watcher, seen):
        await watcher.subscribe("hosts/+")

        with pytest.raises(Failed) as raised:
            await asyncio.wait_for(host(), PATIENCE)

        assert raised.value is failure
        assert len(calls) == 1
        assert (await seen.next()).payload == b"offline"


async def test_what_receive_raised_comes_out_of_a_normal_leaving_too(broker: Broker) -> None:
    called = asyncio.Event()

    def fail(message: Message) -> None:
        called.set()
        raise Failed

    async def host() -> None:
        async with broker.connect(client_id="hv1", will=WILL, receive=fail) as connection:
            await connection.subscribe("mark")
            with suppress(BusUnavailable):
                await connection.publish(MARK)
            await called.wait()
            with pytest.raises(BusUnavailable, match="Failed"):
                await connection.publish(MARK)

    with pytest.raises(Failed):
        await asyncio.wait_for(host(), PATIENCE)


async def test_left_connection_is_unavailable(broker: Broker) -> None:
    async with a_client(broker) as (connection, _):
        waiting = asyncio.create_task(connection.closed())
        await asyncio.sleep(0)

    for call in (connection.publish(MARK), connection.subscribe("a"), connection.unsubscribe("a"), waiting):
        with pytest.raises(BusUnavailable, match="left"):
            await asyncio.wait_for(call, PATIENCE)


# --- memory only --------------------------------------------------------------------------------------------


async def test_dropped_connection_is_lost_and_leaves_its_will() -> None:
    broker = MemoryBroker()
    async with a_client(broker, "watcher") as (watcher, seen), a_client(broker, "hv1") as (connection, _):
        await watcher.subscribe("hosts/+")

        broker.drop("hv1")

        with pytest.raises(BusUnavailable, match="cut"):
            await connection.closed()
        with pytest.raises(BusUnavailable):
            await connection.publish(MARK)
        assert (await seen.next()).payload == b"offline"
        broker.drop("nobody")


async def test_memory_broker_shows_what_it_holds_and_can_be_made_to_forget() -> None:
    broker = MemoryBroker()
    async with a_client(broker) as (connection, inbox):
        publication = Publication("a", b"1", retain=True, expiry=60)
        await connection.publish(publication)
        assert broker.retained == {"a": publication}

        broker.retained.clear()

        await connection.subscribe("#")
        assert inbox.empty()


async def test_memory_broker_has_called_every_receiver_when_publish_returns() -> None:
    broker = MemoryBroker()
    async with a_client(broker, "1") as (writer, _), a_client(broker, "2") as (reader, inbox):
        await reader.subscribe("#")

        await writer.publish(Publication("a", b"1"), Publication("b", b"2"))

        assert not inbox.empty()
        assert [message.topic for message in await inbox.take(2)] == ["a", "b"]
