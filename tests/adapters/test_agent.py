"""One agent without a switch and without OVSDB: what it says of what it hears."""

import asyncio
from dataclasses import replace
from typing import cast

import pytest
from structlog.testing import capture_logs

from portwatch import agent, wire
from portwatch.agent import Agent
from portwatch.bus.memory import MemoryBroker
from portwatch.config import Config
from portwatch.events import PortUpdated
from portwatch.fabric.announcer import Identity
from portwatch.metrics import Metrics
from portwatch.model import HostName, OfPort, Plug, Vni
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture
from portwatch.switch.ofctl import OfCtl
from tests.core.fleet import START, SWITCH_PORTS, a_claim, a_port, an_endpoint

NOWHERE = object()
"""Stands for partners who are not asked."""


@pytest.mark.asyncio
async def test_hundreds_of_hosts_that_disagree_are_told_in_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "TICK", 0.001)
    identity = Identity(HostName("hv1"), "session", an_endpoint(1))
    one = Agent(
        Config(),
        identity,
        Picture("br-int", "br-tun"),
        cast("Database", NOWHERE),
        cast("OfCtl", NOWHERE),
        MemoryBroker(),
        Metrics("0", bridges=("br-int", "br-tun"), reasons=wire.REASONS),
    )
    port = a_port("p1")
    one.reactor.plugged({port.port_id: Plug(port, OfPort(5))}, SWITCH_PORTS, START)
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
