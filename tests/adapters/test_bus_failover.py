"""Two real brokers: the preferred one dies, and comes back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from portwatch.bus.connection import Message, Publication
from portwatch.bus.failover import Failover
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.errors import BusUnavailable
from tests.adapters.inbox import BOTH_LOOPS
from tests.adapters.mosquitto import Mosquitto

pytestmark = [BOTH_LOOPS, pytest.mark.adapters, pytest.mark.timeout(30)]

WILL = Publication("hosts/hv1", b"offline", retain=True)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    brokers = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        brokers.append(Mosquitto(tmp_path / name))
    try:
        yield brokers[0], brokers[1]
    finally:
        for broker in brokers:
            broker.stop()


def failover(pair: tuple[Mosquitto, Mosquitto], home_seconds: float = 0.05) -> Failover:
    return Failover([MqttBroker(MqttSettings(each.url)) for each in pair], home_seconds)


async def heard_by(broker: Mosquitto) -> list[Message]:
    """Return what is retained on *broker*."""
    heard: list[Message] = []
    async with MqttBroker(MqttSettings(broker.url)).connect(client_id="ear", will=WILL, receive=heard.append) as ear:
        await ear.subscribe("#")
        await ear.publish(Publication("mark", b"x"))
        await asyncio.sleep(0)
    return [message for message in heard if message.replayed]


async def test_the_preferred_broker_is_used_while_it_answers(pair: tuple[Mosquitto, Mosquitto]) -> None:
    for broker in pair:
        broker.start()

    async with failover(pair).connect(client_id="hv1", will=WILL, receive=lambda _: None) as connection:
        await connection.publish(Publication("a", b"1", retain=True))

    assert [message.topic for message in await heard_by(pair[0])] == ["a"]
    assert await heard_by(pair[1]) == []


async def test_the_second_takes_over_when_the_first_dies_and_hands_back_when_it_returns(
    pair: tuple[Mosquitto, Mosquitto],
) -> None:
    first, second = pair
    second.start()
    broker = failover(pair)

    async with broker.connect(client_id="hv1", will=WILL, receive=lambda _: None) as connection:
        await connection.publish(Publication("a", b"1", retain=True))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.closed(), 0.3)
        first.start()
        with pytest.raises(BusUnavailable, match="a preferred broker answers again"):
            await asyncio.wait_for(connection.closed(), 10)

    assert await heard_by(first) == [], "whoever looked has said nothing, not even a will"
    assert [message.topic for message in await heard_by(second)] == ["a"]
    async with broker.connect(client_id="hv1", will=WILL, receive=lambda _: None) as connection:
        await connection.publish(Publication("b", b"2", retain=True))
    assert [message.topic for message in await heard_by(first)] == ["b"]


async def test_the_end_of_the_second_is_an_end(pair: tuple[Mosquitto, Mosquitto]) -> None:
    pair[1].start()

    async with failover(pair, 60).connect(client_id="hv1", will=WILL, receive=lambda _: None) as connection:
        pair[1].kill()
        with pytest.raises(BusUnavailable, match=r"second/mosquitto\.sock"):
            await asyncio.wait_for(connection.closed(), 10)


async def test_when_none_answers_each_is_named_with_its_reason(pair: tuple[Mosquitto, Mosquitto]) -> None:
    with pytest.raises(BusUnavailable, match=r"first/mosquitto\.sock: .*; .*second/mosquitto\.sock: "):
        async with failover(pair).connect(client_id="hv1", will=WILL, receive=lambda _: None):
            pass
