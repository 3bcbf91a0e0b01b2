"""What an agent costs that has nothing to do, and one in a fleet of which most is none of its business."""

import asyncio

from portwatch.switch.monitor import Change
from tests.bench.ports import plugger
from tests.bench.samples import Row, say
from tests.bench.sightings import sightings
from tests.bench.stage import Cost, agents
from tests.lab import Lab, Network, Port, crowd

LOCAL = (0, 100, 500)
SECONDS = 30.0
REMOTE = 1_000
PORTS = 50


async def measure(scale: float) -> list[Row]:
    """Let an agent with ever more local ports, and 1,000 remote ones, sit still."""
    rows = []
    with Lab(1) as lab, agents(lab) as (agent,):
        (here,) = lab.hypervisors
        network = Network("bench", 4242)
        members = crowd.members(REMOTE // PORTS, 1, PORTS)
        async with plugger(here) as hands, sightings(here, "br-tun") as far, sightings(here, "br-int") as near:
            plugged = 0
            for number in LOCAL if scale >= 1 else LOCAL[:2]:
                ports = [Port(f"idle{plugged + place}", lab.mac(), network) for place in range(number - plugged)]
                if ports:
                    await hands.plug(*ports)
                    await near.last(Change.ADDED, [port.mac for port in ports])
                if plugged == 0 and ports:
                    crowd.come(lab.broker, network, members)
                    await far.last(Change.ADDED, [mac for member in members for mac in member.macs])
                plugged = number
                await asyncio.sleep(5.0)  # not measured: all settles
                say(f"idle with {number} local ports")
                seconds = max(5.0, SECONDS * min(scale, 1.0))
                before = Cost.of(agent.process.pid)
                await asyncio.sleep(seconds)
                after = Cost.of(agent.process.pid)
                share = 100 * (after.cpu - before.cpu) / seconds
                rows.append(Row(f"idle, {number} local ports: of one core", figure=share, unit="%"))
                rows.append(Row(f"idle, {number} local ports: memory", figure=after.memory / 1e6, unit="MB"))
    return rows
