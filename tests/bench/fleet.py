"""A fleet on the bus: hosts with 50 ports each, of whose networks this host has a few. The rest must cost nothing."""

import asyncio

from portwatch.switch.monitor import Change
from tests.bench.ports import plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import sightings
from tests.bench.stage import Cost, agents
from tests.lab import Lab, Network, Port, crowd

HOSTS = (100, 1_000, 10_000)
OURS = 5
"""Networks that have a port here."""
NEIGHBOURS = 20
"""Hosts in each of them, whatever the fleet."""
PORTS = 10
SHARED = 5
"""Networks that a host is in: 5 of 10 ports each."""


async def measure(scale: float) -> list[Row]:
    """Start an agent in ever larger fleets."""
    rows = []
    for number in HOSTS if scale >= 1 else HOSTS[:1]:
        say(f"a fleet of {number} hosts with {PORTS * SHARED} ports each comes to the bus")
        with Lab(2) as lab:
            ours = [Network(f"ours{each}", 100 + each) for each in range(OURS)]
            neighbours = crowd.members(NEIGHBOURS, 1, PORTS)
            for network in ours:
                crowd.come(lab.broker, network, neighbours)
            strangers = crowd.members(number - NEIGHBOURS, NEIGHBOURS + 1, PORTS)
            for group in range(0, len(strangers), NEIGHBOURS):
                for each in range(SHARED):
                    network = Network(f"theirs{group}-{each}", 10_000 + group * SHARED + each)
                    crowd.come(lab.broker, network, strangers[group : group + NEIGHBOURS])
            rows += await _one(lab, number, ours, [mac for member in neighbours for mac in member.macs])
    return rows


async def _one(lab: Lab, number: int, ours: list[Network], macs: list[str]) -> list[Row]:
    here, elsewhere = lab.hypervisors
    with agents(lab) as (_, far_agent):
        async with plugger(here) as hands, plugger(elsewhere) as far_hands, sightings(elsewhere, "br-tun") as far:
            loads = []
            for network in ours:
                began = await far_hands.plug(Port(f"far-{network.id}", lab.mac(), network))
                loads.append(await far.last(Change.ADDED, macs) - began)
                await hands.plug(Port(f"near-{network.id}", lab.mac(), network))
            await asyncio.sleep(5.0)  # not measured: all settles
            samples = []
            for turn in range(30):
                port = Port(f"one{turn}", lab.mac(), ours[0])
                began = await hands.plug(port)
                samples.append(await far.last(Change.ADDED, [port.mac]) - began)
                await hands.until_numbered(port)
                await hands.unplug(port)
                await far.last(Change.DELETED, [port.mac])
                await hands.until_gone(port)
                await asyncio.sleep(0.05)
            cost = Cost.of(far_agent.process.pid)
            _, metrics = far_agent.http_get("/metrics")
    remote = sum(
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith("portwatch_port_events_total") and 'origin="remote"' in line
    )
    name = f"fleet of {number} hosts"
    return [
        Row(f"{name}: a network's first port → last of its {len(macs)} entries", Samples.of(loads)),
        Row(f"{name}: one change, on another host", Samples.of(samples)),
        Row(f"{name}: memory", figure=cost.memory / 1e6, unit="MB"),
        Row(f"{name}: port events heard", figure=remote, unit="events"),
    ]
