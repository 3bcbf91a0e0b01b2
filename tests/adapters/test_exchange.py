"""What an agent makes of what it hears on the bus, whoever says it; the broker is in memory, or not needed at all."""

import asyncio
import time
from datetime import timedelta
from ipaddress import ip_network

import pytest
from structlog.testing import capture_logs

from portwatch import wire
from portwatch.bus.connection import Message, Publication
from portwatch.bus.memory import MemoryBroker
from portwatch.config import Config
from portwatch.config.keys import Tunnel
from portwatch.convergence import Convergence
from portwatch.events import ONLINE, HostStatus, PortUpdated, key_of
from portwatch.exchange import Exchange
from portwatch.fabric.announcer import Identity
from portwatch.fabric.pipeline import Policy
from portwatch.fabric.reactor import Reactor
from portwatch.metrics import Metrics
from portwatch.model import HostName, OfPort, Plug, Port, PortId
from tests.adapters.inbox import a_client
from tests.adapters.waiting import until
from tests.core.fleet import START, SWITCH_PORTS, TOPICS, a_claim, a_port, an_endpoint

HV1 = HostName("hv1")


class Hearer:
    """An exchange, and what it has counted."""

    def __init__(self, *ports: Port, config: Config | None = None) -> None:
        identity = Identity(HV1, "session", an_endpoint(1))
        self.reactor = Reactor(identity, Policy())
        plugs = {port.port_id: Plug(port, OfPort(number)) for number, port in enumerate(ports, 5)}
        self.reactor.plugged(plugs, SWITCH_PORTS, START)
        self.metrics = Metrics("0", reasons=wire.REASONS)
        self.broker = MemoryBroker()
        convergence = Convergence(self.metrics)
        self.exchange = Exchange(
            config or Config(), identity, self.reactor, self.broker, self.metrics, convergence, self._decided
        )

    def _decided(self) -> None:
        self.exchange.carry_out(0.0)

    def hear(self, topic: str, payload: bytes) -> None:
        """Let a message come, and be handled."""
        self.exchange.receive(Message(topic, payload, replayed=False))
        self.exchange.subscribing(frozenset())  # what has come is handled first

    def refused(self, reason: str) -> str:
        """Return the line of the metric."""
        lines = self.metrics.render().decode().splitlines()
        return next(line for line in lines if line.startswith(f'portwatch_bus_rejected_total{{reason="{reason}"}}'))


def test_refused_messages_are_all_counted_and_logged_once_a_reason() -> None:
    hearer = Hearer()

    with capture_logs() as logged:
        for number in range(1000):
            hearer.hear(f"portwatch/v1/ports/blue/hv2/p{number}", b"{")
            hearer.hear(f"portwatch/v1/hosts/hv{number}", b"[]")

    assert [(line["reason"], line["more"]) for line in logged] == [("not-json", 0), ("wrong-shape", 0)]
    assert hearer.refused("not-json").endswith(" 1000.0")
    assert hearer.refused("wrong-shape").endswith(" 1000.0")


def test_messages_that_trip_us_are_passed_over_counted_and_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hearer = Hearer()
    monkeypatch.setattr(hearer.reactor, "heard", lambda *_, **__: 1 / 0)
    claim = a_claim(a_port("p1"))

    with capture_logs() as logged:
        for _ in range(1000):
            hearer.hear(
                TOPICS.port(claim.port.network_id, claim.host, PortId("p1")),
                wire.encode_event(PortUpdated(claim, 1, START)),
            )

    assert [(line["log_level"], line["more"]) for line in logged] == [("error", 0)]
    assert hearer.refused("fault").endswith(" 1000.0")


def test_whoever_speaks_under_our_name_again_and_again_is_answered_and_logged_once() -> None:
    hearer = Hearer()
    ours = hearer.exchange.announcement()
    hearer.hear(ours.topic, ours.payload)

    with capture_logs() as logged:
        for number in range(1000):
            younger = HostStatus(HV1, f"s{number}", ONLINE, started_at=hearer.exchange.started_at + timedelta(days=1))
            hearer.hear(ours.topic, wire.encode_host(younger))

    assert [line["event"] for line in logged] == ["another agent spoke under this host's name"]


def test_what_comes_back_to_us_is_not_refused_though_we_are_not_our_own_peer() -> None:
    """Else our own share of a network would never be complete."""
    config = Config(tunnel=Tunnel(allowed_peers=(ip_network("198.51.100.0/24"),)))
    hearer = Hearer(a_port("p1"), config=config)

    for event in hearer.reactor.announcer.again(START):
        hearer.hear(TOPICS.port(*event.key), wire.encode_event(event))
    stranger = a_claim(a_port("p2"))
    hearer.hear(TOPICS.port(*key_of(stranger)), wire.encode_event(PortUpdated(stranger, 1, START)))

    assert hearer.refused("endpoint-not-allowed").endswith(" 1.0")


def test_a_replay_on_our_own_topic_is_not_hidden_by_the_word_before_it() -> None:
    hearer = Hearer(a_port("p1"))
    (past,) = hearer.reactor.announcer.again(START)
    (now_said,) = hearer.reactor.announcer.insist(PortId("p1"), START, 0.0)
    topic = TOPICS.port(*past.key)

    for event in (now_said, past):
        hearer.exchange.receive(Message(topic, wire.encode_event(event), replayed=False))
    hearer.exchange.subscribing(frozenset())

    assert hearer.reactor.announcer.claims[PortId("p1")].revision > now_said.claim.revision


@pytest.mark.parametrize("payload", [b"", b"{", b"x" * 100_000])
@pytest.mark.asyncio
async def test_what_others_clear_or_overwrite_of_ours_is_said_again(payload: bytes) -> None:
    hearer = Hearer(a_port("p1"))
    broker, exchange = hearer.broker, hearer.exchange
    exchange.carry_out(0.0)
    tasks = [
        asyncio.create_task(work)
        for work in (exchange.link.run(), exchange.publish_manifests(), exchange.hearing.read())
    ]
    ours = {"portwatch/v1/ports/blue/hv1/p1", "portwatch/v1/manifests/blue/hv1", "portwatch/v1/hosts/hv1"}
    await until(lambda: broker.retained.keys() == ours)
    await until(lambda: exchange.link.connections)

    async with a_client(broker, "evil") as (connection, _):
        await connection.publish(*(Publication(topic, payload, retain=True) for topic in ours))

    def said_again() -> bool:
        exchange.heal(time.monotonic())
        exchange.carry_out(0.0)
        return broker.retained.keys() == ours and all(b"session" in each.payload for each in broker.retained.values())

    await until(said_again)
    exchange.link.stop()
    await tasks.pop(0)
    for task in tasks:
        task.cancel()
