"""A fleet on the bus: hosts with 50 ports each, of whose networks this host has a few. The rest must cost nothing."""

import asyncio
from collections.abc import Sequence

from portwatch.switch.monitor import Change
from tests.bench.ports import plugger
from tests.bench.restart import again
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import come_and_go, sightings
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
IN_ONE = (100, 1_000)
"""Hosts with all of their 50 ports in one network that is here, too: what is run quickly, and in full."""
CHANGES = 30
STRANGE = b"/theirs"
"""What the topics of networks that are not here have in them."""


async def measure(scale: float) -> list[Row]:
    """Start an agent in ever larger fleets."""
    rows: list[Row] = []
    memories: list[float] = []
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
            macs = [mac for member in neighbours for mac in member.macs]
            some, memory = await _one(lab, f"fleet of {number} hosts", ours, macs)
            rows += [
                *some,
                Row(f"fleet of {number} hosts: memory", figure=memory, unit="MB", series="fleet", size=number),
            ]
            memories.append(memory)
    if len(memories) > 1:
        name = f"fleet of {HOSTS[-1]} hosts: memory above that of {HOSTS[0]}"
        rows.append(Row(name, figure=memories[-1] - memories[0], unit="MB", goal=20))
    number = IN_ONE[scale >= 1]
    say(f"{number} hosts with {PORTS * SHARED} ports each come to one network")
    with Lab(2) as lab:
        network, members = Network("ours", 100), crowd.members(number, 1, PORTS * SHARED)
        crowd.come(lab.broker, network, members)
        macs = [mac for member in members for mac in member.macs]
        some, memory = await _one(lab, f"{number} hosts in one network", [network], macs)
        rows += [*some, Row(f"{number} hosts in one network: memory", figure=memory, unit="MB")]
    return rows


async def _one(lab: Lab, name: str, ours: Sequence[Network], macs: Sequence[str]) -> tuple[list[Row], float]:
    """Have ports in our networks on both hypervisors; return what the second pays, and the megabytes that it holds."""
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
            for turn in range(CHANGES):
                port = Port(f"one{turn}", lab.mac(), ours[0])
                samples.append(await come_and_go(hands, far, port))
            cost = Cost.of(far_agent.process.pid)
            ready, blocked = await asyncio.to_thread(again, far_agent)
            cold = Cost.of(far_agent.process.pid)
    heard, strange = _messages(lab, elsewhere.name)
    return [
        Row(f"{name}: a network's first port → last of its {len(macs)} entries", Samples.of(loads)),
        Row(f"{name}: one change, on another host", Samples.of(samples)),
        Row(f"{name}: process start → ready", Samples.of([ready])),
        Row(f"{name}: longest wait for an answer meanwhile", Samples.of([blocked])),
        Row(f"{name}: CPU of that start", figure=cold.cpu, unit="s"),
        Row(f"{name}: CPU of all before", figure=cost.cpu, unit="s"),
        Row(f"{name}: messages sent to this host", figure=heard, unit=""),
        Row(f"{name}: of networks that are not here", figure=strange, unit="", goal=0),
    ], cost.memory / 1e6


def _messages(lab: Lab, host: str) -> tuple[int, int]:
    """Return how many messages the broker has sent to a host's agents, and how many of these of others' networks."""
    mark = f"Sending PUBLISH to portwatch-{host}-".encode()
    heard = strange = 0
    with lab.broker.process.errors.path.open("rb") as lines:
        for line in lines:
            if mark in line:
                heard += 1
                strange += STRANGE in line
    assert heard, "mosquitto logs what it sends"
    return heard, strange
