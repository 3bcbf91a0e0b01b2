"""Many ports in one transaction: from the commit to the last entry on another host, beside the last ofport here."""

import asyncio
import time

from portwatch.switch.monitor import Change
from tests.bench.ports import plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import sightings
from tests.bench.stage import agents
from tests.lab import Lab, Network, Port

SIZES = {1: 20, 10: 10, 100: 5, 500: 3}
"""Ports at once → how often."""


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
                for size, often in SIZES.items():
                    say(f"{size} ports in one transaction")
                    entries, numbers = [], []
                    for turn in range(max(1, round(often * scale))):
                        ports = [Port(f"b{size}-{turn}-{number}", lab.mac(), network) for number in range(size)]
                        macs = [port.mac for port in ports]
                        began, committed = time.perf_counter(), time.time()
                        await hands.plug(*ports)
                        await hands.until_numbered(*ports)
                        numbers.append(time.perf_counter() - began)
                        entries.append(await far.last(Change.ADDED, macs) - committed)
                        await hands.unplug(*ports)
                        await far.last(Change.DELETED, macs)
                        await hands.until_gone(*ports)
                        await asyncio.sleep(0.2)
                    rows.append(Row(f"burst of {size}: last ofport here", Samples.of(numbers)))
                    rows.append(Row(f"burst of {size}: last entry on another host", Samples.of(entries)))
    return rows
