"""One agent without a switch and without OVSDB: what it says of what it hears."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from portwatch import agent, views, wire
from portwatch.agent import Agent
from portwatch.bus.connection import Message
from portwatch.bus.memory import MemoryBroker
from portwatch.config import Config
from portwatch.events import PortUpdated
from portwatch.fabric.announcer import Identity
from portwatch.fabric.pipeline import Bridge
from portwatch.metrics import Metrics
from portwatch.model import HostName, OfPort, Plug, PortId, Vni
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture, PictureChange
from portwatch.switch.ofctl import OfCtl
from tests.adapters.waiting import until
from tests.core.fleet import START, SWITCH_PORTS, a_claim, a_port, an_endpoint

NOWHERE = object()
"""Stands for partners who are not asked."""


def an_agent(broker: MemoryBroker | None = None, *, tunnels: bool = True) -> Agent:
    return Agent(
        Config(),
        Identity(HostName("hv1"), "session", an_endpoint(1) if tunnels else None),
        Picture("br-int", "br-tun"),
        cast("Database", NOWHERE),
        cast("OfCtl", NOWHERE),
        broker or MemoryBroker(),
        Metrics("0", bridges=("br-int", "br-tun"), reasons=wire.REASONS),
    )


@asynccontextmanager
async def time_kept(one: Agent, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """Let the agent look at what only time decides; yield when it did."""
    monkeypatch.setattr(agent, "TICK", 0.001)
    monkeypatch.setattr(agent, "REST", 60.0)
    looks: list[float] = []
    settle = one.reactor.settle

    def look(now: datetime, clock: float) -> None:
        looks.append(clock)
        settle(now, clock)

    monkeypatch.setattr(one.reactor, "settle", look)
    keeping = asyncio.create_task(one.keep_time())
    yield looks
    keeping.cancel()


async def many_looks_long() -> None:
    """Leave time for many a look, to see that there is none."""
    await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_an_agent_for_which_nothing_waits_looks_at_the_time_when_something_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = an_agent()

    async with time_kept(one, monkeypatch) as looks:
        await many_looks_long()
        assert looks == []

        one.drain(leaving=True)
        await until(lambda: looks)
        await many_looks_long()
        assert len(looks) == 1


@pytest.mark.asyncio
async def test_an_agent_at_rest_says_again_at_once_what_others_overwrite(monkeypatch: pytest.MonkeyPatch) -> None:
    one = an_agent()
    monkeypatch.setattr(one.exchange, "heal", lambda _: one.exchange.hearing.take_overwritten())

    async with time_kept(one, monkeypatch) as looks:
        await many_looks_long()
        one.exchange.receive(Message("portwatch/v1/hosts/hv1", b"{", replayed=False))
        await until(lambda: looks)
        await many_looks_long()
        assert len(looks) == 1


@pytest.mark.asyncio
async def test_an_agent_looks_again_and_again_while_a_network_has_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    one = an_agent()
    port = a_port("p1")
    one.reactor.plugged({port.port_id: Plug(port, OfPort(5))}, SWITCH_PORTS, START)
    one.reactor.plan(START)

    async with time_kept(one, monkeypatch) as looks:
        await until(lambda: len(looks) > 2)


@pytest.mark.asyncio
async def test_a_port_is_on_the_bus_before_its_flows_are_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()
    one = an_agent(broker)
    linking = asyncio.create_task(one.exchange.link.run())
    reading = asyncio.create_task(one.exchange.hearing.read())
    await until(lambda: one.exchange.link.trouble is None)
    plan, on_the_bus_then = one.reactor.plan, []

    def look_and_plan(now: datetime) -> tuple[frozenset[PortId], tuple[PortId, ...]]:
        on_the_bus_then.append("portwatch/v1/ports/blue/hv1/p1" in broker.retained)
        return plan(now)

    monkeypatch.setattr(one.reactor, "plan", look_and_plan)
    port = a_port("p1")

    await one.plugged(PictureChange({port.port_id: Plug(port, OfPort(5))}))

    assert on_the_bus_then == [True]
    assert one.reactor.ledgers[Bridge.INTEGRATION].owes
    for task in (linking, reading):
        task.cancel()


def let_the_switch_take_all(one: Agent) -> None:
    for bridge, ledger in one.reactor.ledgers.items():
        if not ledger.known:
            one.reactor.read_back(bridge, [])
        ledger.take()
        ledger.committed()
        one.committed(bridge, one.reactor.progress.generation)


@pytest.mark.asyncio
@pytest.mark.parametrize("changes", [{"fault": "bad-attached-mac: zz"}, {"admin_up": False}, {"network_id": None}])
async def test_how_long_a_port_is_in_error_or_down_is_not_how_long_it_takes_to_wire_it(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    seconds = 0.0
    monkeypatch.setattr(agent, "time", SimpleNamespace(perf_counter=lambda: seconds, monotonic=time.monotonic))
    one = an_agent(tunnels=False)
    good = a_port("p1")
    bad = replace(good, **changes)  # type: ignore[arg-type]  # as `a_port`

    for port in (bad, good, bad, good):
        await one.plugged(PictureChange({good.port_id: Plug(port, OfPort(5))}))
        seconds += 0.01 if port is good else 60.0
        let_the_switch_take_all(one)

    assert [round(timing.seconds, 3) for timing in one.convergence.latest if timing.stage == "local"] == [0.01, 0.01]


@pytest.mark.asyncio
async def test_a_port_that_may_be_wired_at_last_has_taken_as_long_as_from_then(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0
    monkeypatch.setattr(agent, "time", SimpleNamespace(perf_counter=lambda: seconds, monotonic=time.monotonic))
    one = an_agent(tunnels=False)
    first, second = a_port("p1", "blue", segmentation_id=Vni(7)), a_port("p2", "red", segmentation_id=Vni(7))
    changes: tuple[dict[PortId, Plug | None], ...] = (
        {first.port_id: Plug(first, OfPort(5)), second.port_id: Plug(second, OfPort(6))},
        {first.port_id: None},
    )
    for change in changes:
        await one.plugged(PictureChange(change))
        seconds += 0.01
        let_the_switch_take_all(one)
        seconds += 60.0

    timings = {timing.claim[2]: round(timing.seconds, 3) for timing in one.convergence.latest}
    assert timings == {"p1": 0.01, "p2": 0.01}


@pytest.mark.asyncio
async def test_a_port_that_is_committed_while_the_next_one_is_said_is_timed_and_told_of_too() -> None:
    one = an_agent(tunnels=False)
    first, second = a_port("p1"), a_port("p2")
    await one.plugged(PictureChange({first.port_id: Plug(first, OfPort(5))}))

    coming = asyncio.create_task(one.plugged(PictureChange({second.port_id: Plug(second, OfPort(6))})))
    await asyncio.sleep(0)  # it begins
    assert one.reactor.unplanned
    let_the_switch_take_all(one)
    assert not one.convergence.latest
    await coming

    assert [timing.claim[2] for timing in one.convergence.latest] == ["p1"]
    let_the_switch_take_all(one)
    assert [timing.claim[2] for timing in one.convergence.latest] == ["p1", "p2"]


@pytest.mark.asyncio
async def test_who_audits_between_saying_and_planning_is_told_that_it_is_not_settled_and_of_no_difference() -> None:
    one = an_agent(tunnels=False)
    port = a_port("p1")
    for ledger in one.reactor.ledgers.values():
        ledger.read_back(ledger.wanted.values())
    assert views.audit(one)["settled"]

    coming = asyncio.create_task(one.plugged(PictureChange({port.port_id: Plug(port, OfPort(5))})))
    await asyncio.sleep(0)  # it begins
    assert one.reactor.unplanned
    between = views.audit(one)
    await coming

    assert (between["settled"], between["recompute_differs"]) == (False, [])


@pytest.mark.asyncio
async def test_hundreds_of_hosts_that_disagree_are_told_in_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "TICK", 0.001)
    one = an_agent()
    port = a_port("p1")
    one.reactor.plugged({port.port_id: Plug(port, OfPort(5))}, SWITCH_PORTS, START)
    one.reactor.plan(START)
    for number in range(200):
        claim = replace(a_claim(a_port("p2", segmentation_id=Vni(7))), host=HostName(f"far{number}"))
        one.reactor.heard(PortUpdated(claim, 1, START), START, 0.0)

    with capture_logs() as logged:
        keeping = asyncio.create_task(one.keep_time())
        while not logged:  # noqa: ASYNC110  # until it has looked
            await asyncio.sleep(0.001)
        keeping.cancel()

    told = [line for line in logged if "another type or VNI" in line["event"]]
    assert len(told) == 5
    assert told[0]["more"] == 195
