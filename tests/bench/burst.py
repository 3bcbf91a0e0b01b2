"""Many ports, in one transaction and one by one: to the last entry on another host, beside the last ofport here."""

import asyncio
import time
from collections.abc import Sequence

from portwatch.switch.monitor import Change
from tests.bench.ports import Plugger, plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import Sightings, sightings
from tests.bench.stage import agents
from tests.lab import Lab, Network, Port

SIZES = {1: 20, 10: 10, 100: 5, 500: 3, 1_000: 2}
"""Ports at once → how often."""
WAYS = ("in one transaction", "one by one")


async def measure(scale: float) -> list[Row]:
    """Plug ever larger bursts."""
    rows = []
    with Lab(2) as lab:
        here, elsewhere = lab.hypervisors
        network = Network("bench", 4242)
        with agents(lab):
            async with plugger(here) as hands, plugger(elsewhere) as far_hands, sightings(elsewhere, "br-tun") as far:
                for number, plugs in enumerate((hands, far_hands)):
                    await plugs.plug(Port(f"first{number}", lab.mac(), network, ("10.0.200.1/16",)))
                await asyncio.sleep(1.0)  # not measured: the network comes up on both
                sizes = list(SIZES.items()) if scale >= 1 else list(SIZES.items())[:-1]
                for way in WAYS:
                    for size, often in sizes if way == WAYS[0] else sizes[1:]:
                        say(f"{size} ports {way}")
                        numbers, entries = [], []
                        for turn in range(max(1, round(often * scale))):
                            names = [f"{way[0]}{size}-{turn}-{number}" for number in range(size)]
                            ports = [Port(name, lab.mac(), network) for name in names]
                            numbered, entry = await _one(hands, far, ports, at_once=way == WAYS[0])
                            numbers.append(numbered)
                            entries.append(entry)
                        rows += [
                            Row(f"{size} ports {way}: last ofport here", Samples.of(numbers)),
                            Row(
                                f"{size} ports {way}: last entry on another host",
                                Samples.of(entries),
                                series=way,
                                size=size,
                            ),
                        ]
    return rows


async def _one(hands: Plugger, far: Sightings, ports: Sequence[Port], *, at_once: bool) -> tuple[float, float]:
    """Return the seconds to the last ofport here, and to the last entry there."""
    macs = [port.mac for port in ports]
    if at_once:
        committed = await hands.plug(*ports)
    else:
        committed, *_ = [await hands.plug(port) for port in ports]
    await hands.until_numbered(*ports)
    numbered = time.time() - committed
    entry = await far.last(Change.ADDED, macs) - committed
    await hands.unplug(*ports)
    await far.last(Change.DELETED, macs)
    await hands.until_gone(*ports)
    await asyncio.sleep(0.2)
    return numbered, entry
