"""What one agent says, hears and counts, on a broker within the process that may refuse, and be lost."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from portwatch import wire
from portwatch.bus.connection import Connection, Message, Publication
from portwatch.bus.memory import MemoryBroker
from portwatch.config import Config
from portwatch.convergence import Convergence
from portwatch.errors import PublishRefused
from portwatch.events import PortAdded, PortRemoved, PortUpdated
from portwatch.exchange import Exchange
from portwatch.fabric.announcer import Identity
from portwatch.fabric.pipeline import Policy
from portwatch.fabric.reactor import Reactor
from portwatch.hearing import now
from portwatch.metrics import Metrics
from portwatch.model import HostName, OfPort, Plug, PortId, Status
from tests.core.fleet import SWITCH_PORTS, TOPICS, a_claim, a_port, an_endpoint

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

PATIENCE = 5.0
REMOTE = a_claim(a_port("p2"), status=Status.BUILD)
TOPIC = TOPICS.port(REMOTE.port.network_id, REMOTE.host, REMOTE.port.port_id)


class Forbidding(MemoryBroker):
    """A broker that takes no message on some topics, and remembers who has connected last."""

    def __init__(self) -> None:
        super().__init__()
        self.forbidden = ""
        self.client_id = ""

    @asynccontextmanager
    async def connect(
        self, *, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> AsyncGenerator[Connection]:
        self.client_id = client_id
        async with super().connect(client_id=client_id, will=will, receive=receive) as connection:
            publish = connection.publish

            async def unless_forbidden(*publications: Publication) -> None:
                await publish(*(each for each in publications if each.topic != self.forbidden))
                if self.forbidden in {each.topic for each in publications}:
                    raise PublishRefused(self.forbidden, 0x87, "Not authorized")

            connection.publish = unless_forbidden  # type: ignore[method-assign]
            yield connection


class Agent:
    """What an exchange needs of one: hv1, with port p1 in network blue."""

    def __init__(self, broker: MemoryBroker) -> None:
        identity = Identity(HostName("hv1"), "session-of-hv1", an_endpoint(1))
        self.metrics = Metrics("1")
        self.reactor = Reactor(identity, Policy())
        self.decisions = asyncio.Event()
        self.exchange = Exchange(
            Config(), identity, self.reactor, broker, self.metrics, Convergence(self.metrics), self.decisions.set
        )
        port = a_port("p1")
        self.reactor.plugged({PortId("p1"): Plug(port, OfPort(11))}, SWITCH_PORTS, now())
        self.exchange.carry_out(0.0)

    async def hear(self, payload: bytes) -> None:
        """Let somebody else publish on p2's topic, and wait until it has been heard."""
        self.decisions.clear()
        self.exchange.receive(Message(TOPIC, payload, replayed=False))
        await asyncio.wait_for(self.decisions.wait(), PATIENCE)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  whoever is waited for tells nobody
                await asyncio.sleep(0.001)

    def reconnects(self) -> bool:
        return b'portwatch_reconnects_total{component="bus"} 1.0' in self.metrics.render()


@pytest.fixture
def broker() -> Forbidding:
    return Forbidding()


@asynccontextmanager
async def an_agent(broker: Forbidding) -> AsyncIterator[Agent]:
    """An agent that is connected."""
    agent = Agent(broker)
    tasks = [asyncio.create_task(agent.exchange.link.run()), asyncio.create_task(agent.exchange.hearing.read())]
    try:
        await agent.until(lambda: agent.exchange.link.trouble is None)
        yield agent
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_connection_that_is_made_again_is_counted_and_a_refusal_is_not(broker: Forbidding) -> None:
    async with an_agent(broker) as agent:
        broker.drop(broker.client_id)
        await agent.until(lambda: agent.exchange.link.connections == 2)
        await agent.until(agent.reconnects)

        broker.forbidden = "portwatch/v1/hosts/hv1"
        agent.exchange.say_presence()
        await agent.until(lambda: agent.exchange.link.refused)

        assert agent.reconnects()


async def test_news_that_rewires_is_measured_and_what_only_tells_of_progress_is_not(broker: Forbidding) -> None:
    async with an_agent(broker) as agent:
        await agent.hear(wire.encode_event(PortAdded(REMOTE, 1, now())))
        active = replace(REMOTE, status=Status.ACTIVE, revision=2)
        await agent.hear(wire.encode_event(PortUpdated(active, 2, now())))

        assert [claim for _, _, claim in agent.exchange.hearing.remote_seen] == [("blue", "hv2", "p2")]
        assert agent.exchange.hearing.remote_seen[0][0] == agent.reactor.progress.generation


async def test_who_follows_hears_of_the_end_even_if_only_the_retained_message_was_cleared(broker: Forbidding) -> None:
    async with an_agent(broker) as agent:
        await agent.hear(wire.encode_event(PortAdded(REMOTE, 1, now())))
        following = agent.exchange.followers.follow()
        heard = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)

        await agent.hear(b"")

        assert PortRemoved.type.encode() in await asyncio.wait_for(heard, PATIENCE)
        await following.aclose()
