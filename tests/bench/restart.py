"""An agent that is started again on a switch full of entries: until it is ready, and how long its loop is blocked."""

import asyncio
import http.client
import time

from portwatch.switch.monitor import Change
from tests.bench.ports import plugger
from tests.bench.samples import Row, Samples, say
from tests.bench.sightings import sightings
from tests.bench.stage import Cost, agents
from tests.lab import Agent, Lab, Network, Port, crowd

SIZES = (100, 1_000, 10_000)
TURNS = 3
PORTS = 50
LIMIT = 180.0


async def measure(scale: float) -> list[Row]:
    """Kill and start an agent that has entries for ever more ports of one network."""
    rows = []
    for size in SIZES if scale >= 1 else SIZES[:1]:
        say(f"restarts with {size} entries")
        with Lab(1) as lab, agents(lab) as (agent,):
            network = Network("bench", 4242)
            members = crowd.members(max(1, size // PORTS), 1, min(size, PORTS))
            crowd.come(lab.broker, network, members)
            async with plugger(lab.hypervisors[0]) as hands, sightings(lab.hypervisors[0], "br-tun") as seen:
                await hands.plug(Port("first", lab.mac(), network))
                await seen.last(Change.ADDED, [mac for member in members for mac in member.macs])
            await asyncio.sleep(3.0)  # not measured: the network settles
            turns = [await asyncio.to_thread(again, agent) for _ in range(max(1, round(TURNS * scale)))]
            memory = Cost.of(agent.process.pid).memory
        ready, blocked = Samples.of(each[0] for each in turns), 1000 * max(each[1] for each in turns)
        largest = size == SIZES[-1]
        name = f"restart with {size} entries"
        rows += [
            Row(f"{name}: process start → ready", ready, goal=1.5 if largest else None, series="ready", size=size),
            Row(f"{name}: longest wait for an answer", figure=blocked, unit="ms", goal=100 if largest else None),
            Row(f"memory with {size} remote ports", figure=memory / 1e6, unit="MB"),
        ]
    return rows


def again(agent: Agent) -> tuple[float, float]:
    """Return the seconds until ready, and the longest that it took to answer meanwhile and in the second after."""
    agent.kill()
    began = time.perf_counter()
    agent.start()
    ready = None
    longest = 0.0
    while ready is None or time.perf_counter() - began < ready + 1.0:
        asked = time.perf_counter()
        try:
            status, _ = agent.http_get("/readyz")
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)
            continue
        longest = max(longest, time.perf_counter() - asked)
        if ready is None and status == http.HTTPStatus.OK:
            ready = time.perf_counter() - began
        if time.perf_counter() - began > LIMIT:
            raise TimeoutError(f"not ready within {LIMIT:g} s")
        time.sleep(0.005)
    return ready, longest
