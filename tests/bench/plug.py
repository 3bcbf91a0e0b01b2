"""Plug and unplug, measured through portwatch: from the commit sent to OVSDB to the switches' tables.

The switches themselves say when a flow stands (`ovs-ofctl monitor`), and the broker when an event is out; portwatch's
own word is taken for one figure only, the moment at which its process saw the port (the time in its first event).
"""

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime

from portwatch.switch.monitor import Change
from tests.bench import primitives
from tests.bench.ports import Plugger, plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import Sightings, sightings
from tests.bench.stage import agents
from tests.lab import Lab, Message, Network, Port

PAUSE = 0.05
COUNT = 100
BOUND = 8.0
"""Of the whole to its parts: twice what was seen on a busy machine."""
WHOLE = "another host / sum of the bare parts (p50)"
PARTS = ("ofport assignment by vswitchd", "ovs-ofctl bundle of one flow, started ahead", "broker round trip")


@dataclass
class Chain:
    """Seconds since the OVSDB commit of each plug, by stage."""

    commits: dict[str, float] = field(default_factory=dict)
    event: list[float] = field(default_factory=list)
    here: list[float] = field(default_factory=list)
    on_the_bus: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    gone_here: list[float] = field(default_factory=list)
    gone_on_the_bus: list[float] = field(default_factory=list)
    gone_elsewhere: list[float] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        yield Row("commit → event in the process", Samples.of(self.event))
        yield Row("commit → committed here", Samples.of(self.here))
        yield Row("commit → on the bus (mosquitto_sub)", Samples.of(self.on_the_bus))
        yield Row("commit → committed on another host", Samples.of(self.elsewhere))
        yield Row("unplug's commit → gone here", Samples.of(self.gone_here))
        yield Row("unplug's commit → on the bus", Samples.of(self.gone_on_the_bus))
        yield Row("unplug's commit → gone on another host", Samples.of(self.gone_elsewhere))


async def measure(scale: float) -> list[Row]:
    """The bare parts, then a port from OVSDB to another host, in one lab."""
    count = max(5, round(COUNT * scale))
    with Lab(2) as lab:
        here = lab.hypervisors[0]
        here.create_bridge()
        say("measuring the bare parts")
        figures = (
            await primitives.ofport_assignment(lab, here, count),
            await primitives.bundle(here, count, ahead=True),
            await asyncio.to_thread(primitives.broker_round_trip, lab, here, count),
        )
        parts = [Row(name, samples) for name, samples in zip(PARTS, figures, strict=True)]
        cold = Row("(ovs-ofctl bundle of one flow, cold)", await primitives.bundle(here, count, ahead=False))
        with agents(lab):
            say(f"plugging and unplugging {count} ports, one by one")
            chain = await _chain(lab, count)
    rows = [*parts, cold, *chain.rows()]
    whole = Samples.of(chain.elsewhere)
    together = sum(samples.p50 for samples in figures)
    rows.append(Row(WHOLE, ratio=whole.p50 / together, bound=BOUND, goal=1.3))
    rows.append(Row("another host: p95 / p50", ratio=whole.p95 / whole.p50, bound=8.0, goal=2))
    return rows


async def _chain(lab: Lab, count: int) -> Chain:
    """Plug and unplug *count* ports on the first hypervisor, one by one; the second has a port in the network."""
    here, elsewhere = lab.hypervisors[:2]
    network = Network("bench", 4242)
    measured = Chain()
    async with AsyncExitStack() as stack:
        hands = await stack.enter_async_context(plugger(here))
        far_hands = await stack.enter_async_context(plugger(elsewhere))
        near = await stack.enter_async_context(sightings(here, "br-int"))
        far = await stack.enter_async_context(sightings(elsewhere, "br-tun"))
        for number, plugs in enumerate((hands, far_hands)):
            first = Port(f"first{number}", lab.mac(), network, ("10.0.200.1/16",))
            await plugs.plug(first)
            await plugs.until_numbered(first)  # and seen: the next plug would take it out again
        await asyncio.sleep(1.0)  # not measured: the network comes up on both
        recorder = lab.broker.subscribe(f"portwatch/v1/ports/{network.id}/{here.name}/+")
        try:
            for number in range(count):
                port = Port(f"bench{number}", lab.mac(), network, (f"10.0.{number // 250}.{number % 250 + 1}/16",))
                await _one(hands, port, near, far, measured)
            _read(recorder.messages, measured)
        finally:
            recorder.stop()
    return measured


async def _one(hands: Plugger, port: Port, near: Sightings, far: Sightings, measured: Chain) -> None:
    committed = measured.commits[port.id] = await hands.plug(port)
    measured.here.append(await near.last(Change.ADDED, [port.mac]) - committed)
    measured.elsewhere.append(await far.last(Change.ADDED, [port.mac]) - committed)
    await hands.until_numbered(port)
    await asyncio.sleep(PAUSE)
    committed = measured.ends[port.id] = await hands.unplug(port)
    measured.gone_here.append(await near.last(Change.DELETED, [port.mac]) - committed)
    measured.gone_elsewhere.append(await far.last(Change.DELETED, [port.mac]) - committed)
    await hands.until_gone(port)
    await asyncio.sleep(PAUSE)


def _read(messages: Iterable[Message], measured: Chain) -> None:
    """Take the event's own time, and the time of its arrival at a plain subscriber."""
    for message in messages:
        if not message.payload or message.snapshot:
            continue
        event = json.loads(message.payload)
        subject = event["subject"]
        if event["type"] == "portwatch.port.removed" and subject in measured.ends:
            measured.gone_on_the_bus.append(message.time - measured.ends[subject])
        elif event["type"] == "portwatch.port.added" and (committed := measured.commits.get(subject)):
            measured.event.append(datetime.fromisoformat(event["time"]).timestamp() - committed)
            measured.on_the_bus.append(message.time - committed)
