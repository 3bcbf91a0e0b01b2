"""What an agent costs that has nothing to do, and what one that never rests: its CPU, its memory, its loop's lag."""

import asyncio
import time
from collections import deque

from portwatch.switch.monitor import Change
from tests.bench.ports import Plugger, plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import sightings
from tests.bench.stage import Cost, agents
from tests.lab import Agent, Lab, Network, Port, crowd

LOCAL = (0, 100, 500)
GOALS = {100: (0.1, 60.0)}
"""Local ports → percent of a core, megabytes: at most."""
SECONDS = 60.0
REMOTE = 1_000
PORTS = 50
CHANGES = 50
"""A second, while it churns: half of them plugs, half unplugs."""
CHURN_SECONDS = 60.0
LIFE = 20
"""Ports that are there at a time."""
PROBE = 0.1


async def measure(scale: float) -> list[Row]:
    """Let an agent with ever more local ports, and 1,000 remote ones, sit still; then give it no rest."""
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
                name, (share, memory) = f"idle, {number} local ports", GOALS.get(number, (None, None))
                rows += [
                    Row(f"{name}: of one core", figure=_share(before, after, seconds), unit="%", goal=share),
                    Row(f"{name}: memory", figure=after.memory / 1e6, unit="MB", goal=memory),
                ]
            rows += await _restless(lab, agent, hands, network, CHURN_SECONDS * min(scale, 1.0))
    return rows


def _share(before: Cost, after: Cost, seconds: float) -> float:
    return 100 * (after.cpu - before.cpu) / seconds


async def _restless(lab: Lab, agent: Agent, hands: Plugger, network: Network, seconds: float) -> list[Row]:
    """Churn twice: once for its CPU, and once asked for its health all the time, which costs CPU, too."""
    say(f"{CHANGES} changes a second, twice for {seconds:g} s")
    before, began = Cost.of(agent.process.pid), time.perf_counter()
    done = await _churn(lab, hands, network, seconds)
    after, took = Cost.of(agent.process.pid), time.perf_counter() - began
    asking = asyncio.create_task(_ask(agent))
    await _churn(lab, hands, network, seconds)
    asking.cancel()
    lags = await asking
    name = f"{CHANGES} changes a second"
    return [
        Row(f"{name}: as many came", figure=done / took, unit="changes/s"),
        Row(f"{name}: of one core", figure=_share(before, after, took), unit="%"),
        Row(f"{name}: memory", figure=after.memory / 1e6, unit="MB"),
        Row(f"{name}: an answer to /healthz (lag of the loop)", Samples.of(lags)),
    ]


async def _churn(lab: Lab, hands: Plugger, network: Network, seconds: float) -> int:
    """Plug and unplug by the clock; return how many changes that were."""
    living: deque[Port] = deque()
    turns = round(seconds * CHANGES / 2)
    began = time.perf_counter()
    changes = 0
    for turn in range(turns):
        await asyncio.sleep(max(0.0, began + 2 * turn / CHANGES - time.perf_counter()))
        port = Port(f"churn{turn}", lab.mac(), network)
        await hands.plug(port)
        living.append(port)
        changes += 1
        if len(living) > LIFE:
            oldest = living.popleft()
            await hands.until_numbered(oldest)
            await hands.unplug(oldest)
            changes += 1
    await hands.until_numbered(*living)
    await hands.unplug(*living)
    await hands.until_gone(*living)
    return changes


async def _ask(agent: Agent) -> list[float]:
    """Ask how it is until cancelled; return how long each answer took."""
    waits = []
    try:
        while True:
            asked = time.perf_counter()
            await asyncio.to_thread(agent.http_get, "/healthz")
            waits.append(time.perf_counter() - asked)
            await asyncio.sleep(PROBE)
    except asyncio.CancelledError:
        return waits
