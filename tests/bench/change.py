"""One change in a network of many ports: it must cost what it costs in a small one.

The others of the network are a crowd on the bus, 50 ports a host.
"""

import asyncio
from collections.abc import Sequence

from portwatch.switch.monitor import Change
from tests.bench.ports import plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import come_and_go, sightings
from tests.bench.stage import agents
from tests.lab import Lab, Network, Port, crowd

SIZES = (10, 1_000, 10_000)
COUNT = 40
PORTS = 50
BOUND = 4.0
FIRSTS = 3
"""How often a network's first port comes."""


async def measure(scale: float) -> list[Row]:
    """Plug one port on one host into ever larger networks; look at another host."""
    count = max(5, round(COUNT * scale))
    sizes = SIZES if scale >= 1 else SIZES[:2]
    figures: dict[int, Samples] = {}
    rows = []
    with Lab(2) as lab, agents(lab):
        for size in sizes:
            network = Network(f"of{size}", 4000 + len(figures))
            say(f"a network of {size} ports")
            members = crowd.members(max(1, size // PORTS), 1, min(size, PORTS))
            macs = [mac for member in members for mac in member.macs]
            crowd.come(lab.broker, network, members)
            figures[size], loaded = await _in_one_network(lab, network, macs, count)
            name = f"first port of a network of {size} ports: last of its entries"
            rows.append(Row(name, loaded, series="first port", size=size))
            name = f"one change in a network of {size} ports: on another host"
            rows.append(Row(name, figures[size], series="one change", size=size))
            crowd.go(lab.broker, network, members)
    few, many = sizes[0], sizes[-1]
    ratio = figures[many].p50 / figures[few].p50
    rows.append(Row(f"one change: {many} ports / {few} ports (p50)", ratio=ratio, bound=BOUND, goal=1.5))
    return rows


async def _in_one_network(lab: Lab, network: Network, macs: Sequence[str], count: int) -> tuple[Samples, Samples]:
    here, elsewhere = lab.hypervisors
    samples = []
    async with plugger(here) as hands, plugger(elsewhere) as far_hands, sightings(elsewhere, "br-tun") as far:
        mine, theirs = (Port(f"first-{network.id}-{number}", lab.mac(), network) for number in range(2))
        loaded = []
        for turn in range(FIRSTS):
            committed = await far_hands.plug(theirs)
            loaded.append(await far.last(Change.ADDED, macs) - committed)
            if turn < FIRSTS - 1:
                await far_hands.until_numbered(theirs)
                await far_hands.unplug(theirs)
                await far.last(Change.DELETED, macs)
                await far_hands.until_gone(theirs)
                await asyncio.sleep(1.0)  # not measured: all settles
        await hands.plug(mine)
        await far.last(Change.ADDED, [mine.mac])
        await asyncio.gather(hands.until_numbered(mine), far_hands.until_numbered(theirs))
        await asyncio.sleep(3.0)  # not measured: the network settles
        for number in range(count):
            port = Port(f"one-{network.id}-{number}", lab.mac(), network, (f"10.0.0.{number + 1}/16",))
            samples.append(await come_and_go(hands, far, port))
        await hands.unplug(mine)
        await far_hands.unplug(theirs)
        await asyncio.gather(hands.until_gone(mine), far_hands.until_gone(theirs))
    return Samples.of(samples), Samples.of(loaded)
