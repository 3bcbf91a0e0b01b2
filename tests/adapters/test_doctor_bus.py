"""What the doctor, and whoever visits the bus for a moment, sees of a real mosquitto."""

import asyncio
from pathlib import Path

import pytest

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.doctor import bus
from portwatch.doctor.facts import Bus
from portwatch.events import OFFLINE, ONLINE, HostStatus, PortAdded, manifest_of
from portwatch.model import HostName, NetworkId, PortId, tunnel_endpoint
from portwatch.visit import visit
from tests.adapters.mosquitto import Mosquitto, a_mosquitto
from tests.adapters.waiting import until
from tests.core.fleet import START, a_claim, a_port

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

PREFIX = "portwatch/v1"
TOPICS = wire.Topics(PREFIX)
BLUE = NetworkId("blue")
HV1, HV2 = HostName("hv1"), HostName("hv2")
NO_LIMITS = ("max_queued_messages 1000000", "max_inflight_messages 0")


async def test_an_access_list_that_lets_us_neither_speak_nor_hear_is_told_topic_by_topic(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic write portwatch/v1/manifests/+/hv1\ntopic write portwatch/v1/ports/+/hv1/+\n")
    with a_mosquitto(tmp_path, f"acl_file {acl}") as broker:
        seen = await _look(broker)

    assert seen.trouble is None
    refused, deaf = seen.forbidden
    assert "hosts/hv1" in refused
    assert "access control list" in refused
    assert "does not come back" in deaf


async def test_what_the_readme_says_of_an_access_list_is_enough(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text(
        "topic write portwatch/v1/ports/+/hv1/+\ntopic write portwatch/v1/manifests/+/hv1\n"
        "topic write portwatch/v1/hosts/hv1\ntopic read portwatch/v1/#\n"
    )
    with a_mosquitto(tmp_path, f"acl_file {acl}", *NO_LIMITS) as broker:
        assert await _look(broker) == Bus()


async def test_port_events_that_manifests_count_and_the_broker_does_not_tell_are_counted(tmp_path: Path) -> None:
    with a_mosquitto(tmp_path, *NO_LIMITS) as broker:
        await _share(broker, said=2, stated=5)
        seen = await _look(broker)

    assert (seen.told, seen.stated, seen.choked) == (2, 5, None)


async def test_a_broker_whose_queue_is_too_short_for_what_it_holds_is_told_from_one_that_is_not_there(
    tmp_path: Path,
) -> None:
    with a_mosquitto(tmp_path, "max_queued_messages 10") as broker:
        await _share(broker, said=5000, stated=5000)
        seen = await _look(broker, answer_timeout=1.0)

    assert seen.trouble is None
    assert seen.choked or seen.told < seen.stated


async def test_a_dead_hosts_words_prove_no_namesake_and_a_living_ones_do(tmp_path: Path) -> None:
    status = HostStatus(HV1, "session", ONLINE, tunnel_endpoint("192.0.2.11"), "vxlan", "1", START)
    topic = TOPICS.host(HV1)
    said = Publication(topic, wire.encode_host(status), True, wire.JSON_CONTENT_TYPE)
    with a_mosquitto(tmp_path, *NO_LIMITS) as broker:
        async with visit(_broker(broker), PREFIX, "test") as visitor:
            await visitor.publish(said)
            dead = await _look(broker, agent_runs=False)
            await visitor.read(topic)

            async def live() -> None:
                """Answer for the name, as an agent does that hears its own last will."""
                while True:
                    heard = visitor.heard(topic)
                    if heard is not None and heard != said.payload:
                        await visitor.publish(said)
                    await asyncio.sleep(0.01)

            living = asyncio.create_task(live())
            alive = await _look(broker, agent_runs=False)
            living.cancel()

    assert dead.namesake is None
    assert alive.namesake == "it tunnels from 192.0.2.11"


async def test_nonsense_under_a_name_proves_nobody_and_stops_nothing(tmp_path: Path) -> None:
    with a_mosquitto(tmp_path, *NO_LIMITS) as broker:
        async with visit(_broker(broker), PREFIX, "test") as visitor:
            await visitor.publish(Publication(TOPICS.host(HV1), b"nonsense", True))
        seen = await _look(broker, agent_runs=False)

    assert seen == Bus()


async def test_who_answers_for_a_name_under_which_nonsense_stands_lives(tmp_path: Path) -> None:
    topic = TOPICS.host(HV1)
    status = HostStatus(HV1, "session", ONLINE, tunnel_endpoint("192.0.2.11"), "vxlan", "1", START)
    said = Publication(topic, wire.encode_host(status), True, wire.JSON_CONTENT_TYPE)
    with a_mosquitto(tmp_path, *NO_LIMITS) as broker:
        async with (
            visit(_broker(broker), PREFIX, "test") as agent,
            visit(_broker(broker), PREFIX, "test") as visitor,
        ):
            await agent.publish(Publication(topic, b"nonsense", True))
            await agent.read(topic)
            asked = asyncio.create_task(visitor.lives(HV1))
            await until(lambda: OFFLINE.encode() in (agent.heard(topic) or b""))
            await agent.publish(said)

            assert await asked


async def test_a_broker_that_is_not_there_is_trouble_and_nothing_else(tmp_path: Path) -> None:
    with a_mosquitto(tmp_path) as broker:
        broker.kill()
        seen = await _look(broker)

    assert seen.trouble is not None
    assert seen.forbidden == ()


async def test_withdrawn_is_all_that_was_read_and_nonsense_too(tmp_path: Path) -> None:
    claim = a_claim(a_port("p1", "blue"))
    with a_mosquitto(tmp_path, *NO_LIMITS) as broker:
        async with visit(_broker(broker), PREFIX, "test") as visitor:
            await visitor.publish(
                Publication(TOPICS.port(BLUE, HV2, PortId("p1")), wire.encode_event(PortAdded(claim, 1, START)), True),
                Publication(TOPICS.port(BLUE, HV2, PortId("p2")), b"nonsense", True),
            )
            await visitor.read(*TOPICS.of_ourselves(HV2))
            await visitor.publish(*visitor.withdrawal(HV2))
            visitor.retained.clear()
            assert await visitor.read(*TOPICS.of_ourselves(HV2)) == {}


async def _share(broker: Mosquitto, *, said: int, stated: int) -> None:
    """Let hv2 state so many ports in blue, and say so many."""
    claims = [a_claim(a_port(f"p{number}", "blue")) for number in range(stated)]
    manifest = manifest_of(BLUE, HV2, claims[0].session, claims)
    words = [
        Publication(TOPICS.port(BLUE, HV2, claim.port.port_id), wire.encode_event(PortAdded(claim, 1, START)), True)
        for claim in claims[:said]
    ]
    async with visit(_broker(broker), PREFIX, "test") as visitor:
        await visitor.publish(*words, Publication(TOPICS.manifest(BLUE, HV2), wire.encode_manifest(manifest), True))


async def _look(broker: Mosquitto, *, agent_runs: bool = False, answer_timeout: float = 10.0) -> Bus:
    partner = _broker(broker, answer_timeout)
    return await bus.look(partner, PREFIX, HV1, [BLUE], agent_runs=agent_runs, endpoint=None)


def _broker(broker: Mosquitto, answer_timeout: float = 10.0) -> MqttBroker:
    return MqttBroker(MqttSettings(url=broker.url, answer_timeout=answer_timeout))
