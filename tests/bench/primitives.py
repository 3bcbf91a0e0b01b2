"""The bare parts, one at a time, without portwatch at work: what a plug cannot be quicker than."""

import asyncio
import time
from contextlib import AsyncExitStack
from time import perf_counter

from portwatch.bus.connection import Message, Publication
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.switch.ofctl import OfCtl
from tests.bench.ports import plugger
from tests.bench.samples import Samples
from tests.lab import Hypervisor, Lab, Port

PAUSE = 0.02
"""Seconds between two samples: what the one before left to be done in the background is done."""


async def ofport_assignment(lab: Lab, hypervisor: Hypervisor, count: int) -> Samples:
    """A plug's commit is sent → vswitchd has given the ofport, and OVSDB tells it."""
    samples = []
    async with plugger(hypervisor) as hands:
        for number in range(count):
            port = Port(f"bare{number}", lab.mac(), device_owner=None)
            committed = await hands.plug(port)
            await hands.until_numbered(port)
            samples.append(time.time() - committed)
            await hands.unplug(port)
            await hands.until_gone(port)
            await asyncio.sleep(PAUSE)
    return Samples.of(samples)


async def bundle(hypervisor: Hypervisor, count: int, *, ahead: bool) -> Samples:
    """One `ovs-ofctl bundle` of one flow; *ahead*: the process was started before."""
    samples = []
    hypervisor.create_bridge("br-bench")
    try:
        async with OfCtl(hypervisor.rundir) as kept:
            await kept.commit("br-bench", "")  # from here on a process waits, started ahead of time
            for number in range(count):
                text = f"flow add table=9,priority={number + 1},actions=drop\n"
                await asyncio.sleep(PAUSE)
                async with OfCtl(hypervisor.rundir) as fresh:
                    started = perf_counter()
                    await (kept if ahead else fresh).commit("br-bench", text)
                    samples.append(perf_counter() - started)
    finally:
        hypervisor.vsctl("del-br", "br-bench")
    return Samples.of(samples)


def broker_round_trip(lab: Lab, hypervisor: Hypervisor, count: int) -> Samples:
    """Publish by one connection → received by another, QoS 1, both from the hypervisor's own namespace."""
    return hypervisor.namespace.inside(lambda: asyncio.run(_broker_round_trip(lab.broker.url, count)))


async def _broker_round_trip(url: str, count: int) -> Samples:
    samples = []
    heard = asyncio.Event()

    def receive(message: Message) -> None:
        heard.set()

    broker = MqttBroker(MqttSettings(url))
    async with AsyncExitStack() as stack:
        will = Publication("bench/will", b"")
        hears = await stack.enter_async_context(broker.connect(client_id="bench-in", will=will, receive=receive))
        says = await stack.enter_async_context(broker.connect(client_id="bench-out", will=will, receive=receive))
        await hears.subscribe("bench/topic")
        for _ in range(count):
            heard.clear()
            started = perf_counter()
            publishing = asyncio.ensure_future(says.publish(Publication("bench/topic", b"x" * 600, retain=True)))
            await heard.wait()
            samples.append(perf_counter() - started)
            await publishing
            await asyncio.sleep(PAUSE)
        await says.publish(Publication("bench/topic", b"", retain=True))
    return Samples.of(samples)
