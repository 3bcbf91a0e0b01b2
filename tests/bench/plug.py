"""Plug and unplug, measured through portwatch: from the commit sent to OVSDB to the switches' tables.

The switches themselves say when a flow stands (`ovs-ofctl monitor`), and the broker when an event is out; portwatch's
own word is taken for one figure only, the moment at which its process saw the port (the time in its first event).
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime

from portwatch.switch.monitor import Change, FlowEvent, watch
from portwatch.switch.ofctl import OfCtl
from tests.bench.ports import Plugger, plugger
from tests.bench.samples import Samples
from tests.lab import Hypervisor, Lab, Message, Network, Port

PAUSE = 0.05
TIMEOUT = 10.0


@dataclass
class Chain:
    """Seconds since the OVSDB commit of each plug, by stage."""

    event: list[float] = field(default_factory=list)
    here: list[float] = field(default_factory=list)
    on_the_bus: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    gone_elsewhere: list[float] = field(default_factory=list)

    def samples(self) -> dict[str, Samples]:
        return {
            "commit → event in the process": Samples.of(self.event),
            "commit → committed here": Samples.of(self.here),
            "commit → on the bus (mosquitto_sub)": Samples.of(self.on_the_bus),
            "commit → committed on another host": Samples.of(self.elsewhere),
            "unplug's commit → gone on another host": Samples.of(self.gone_elsewhere),
        }


class Sightings:
    """When a bridge's monitor told of a station's flow: the wall clock, by (change, MAC)."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Change, str], asyncio.Future[float]] = {}

    def of(self, change: Change, mac: str) -> asyncio.Future[float]:
        loop = asyncio.get_running_loop()
        return self._seen.setdefault((change, mac), loop.create_future())

    async def follow(self, events: AsyncIterator[FlowEvent]) -> None:
        async for event in events:
            mac = event.text.partition("dl_dst=")[2][:17]
            sighting = self.of(event.change, mac)
            if "dl_vlan=" in event.text and not sighting.done():
                sighting.set_result(time.time())


async def chain(lab: Lab, count: int) -> Chain:
    """Plug and unplug *count* ports on the first hypervisor, one by one; the second has a port in the network."""
    here, elsewhere = lab.hypervisors[:2]
    network = Network("bench", 4242)
    measured = Chain()
    async with AsyncExitStack() as stack:
        hands = await stack.enter_async_context(plugger(here))
        far_hands = await stack.enter_async_context(plugger(elsewhere))
        near = await _sightings(stack, here, "br-int")
        far = await _sightings(stack, elsewhere, "br-tun")
        for plugs in (hands, far_hands):
            await plugs.plug(Port(f"first{id(plugs) % 1000}", lab.mac(), network, ("10.0.200.1/16",)))
        await asyncio.sleep(1.0)  # not measured: the network comes up on both
        recorder = lab.broker.subscribe(f"portwatch/v1/ports/{network.id}/{here.name}/+")
        try:
            for number in range(count):
                await _one(hands, lab.mac(), number, network, near, far, measured)
            _read(recorder.messages, measured)
        finally:
            recorder.stop()
    return measured


async def _one(
    hands: Plugger, mac: str, number: int, network: Network, near: Sightings, far: Sightings, measured: Chain
) -> None:
    port = Port(f"bench{number}", mac, network, (f"10.0.{number // 250}.{number % 250 + 1}/16",))
    committed = _COMMITS[port.id] = time.time()
    await hands.plug(port)
    async with asyncio.timeout(TIMEOUT):
        measured.here.append(await near.of(Change.ADDED, mac) - committed)
        measured.elsewhere.append(await far.of(Change.ADDED, mac) - committed)
        await hands.until_numbered(port)
    await asyncio.sleep(PAUSE)
    committed = time.time()
    await hands.unplug(port)
    async with asyncio.timeout(TIMEOUT):
        measured.gone_elsewhere.append(await far.of(Change.DELETED, mac) - committed)
        await hands.until_gone(port)
    await asyncio.sleep(PAUSE)


_COMMITS: dict[str, float] = {}


def _read(messages: Iterable[Message], measured: Chain) -> None:
    """Take the event's own time, and the time of its arrival at a plain subscriber."""
    for message in messages:
        if not message.payload or message.snapshot:
            continue
        event = json.loads(message.payload)
        committed = _COMMITS.get(event["subject"])
        if event["type"] == "portwatch.port.added" and committed:
            measured.event.append(datetime.fromisoformat(event["time"]).timestamp() - committed)
            measured.on_the_bus.append(message.time - committed)


async def _sightings(stack: AsyncExitStack, hypervisor: Hypervisor, bridge: str) -> Sightings:
    ofctl = await stack.enter_async_context(OfCtl(hypervisor.rundir))
    events = await stack.enter_async_context(watch(ofctl, bridge))
    sightings = Sightings()
    following = asyncio.create_task(sightings.follow(events), name=f"monitor of {bridge}")
    stack.callback(following.cancel)
    return sightings
