"""portwatch and OVN in alternation, in one run: a port, bursts, one change in ever larger networks.

Measured is from the moment at which the interface's transaction is sent to OVSDB to the forwarding entry on another
host. OVN's logical ports exist before, and all hosts know of them: an orchestrator's time counts for nobody.
"""

import asyncio
from collections.abc import Sequence

from portwatch.switch.monitor import Change
from tests.bench.samples import Row, Samples, say
from tests.bench.sides import Side, sides
from tests.bench.sightings import TIMEOUT
from tests.lab import Network, Port, crowd

PLUGS = 60
BURSTS = {100: 10, 500: 6}
"""Ports at once → how often."""
SIZES = {10: 40, 1_000: 20, 10_000: 10}
"""Ports of a network → how many changes in it."""
PORTS = 50
PAUSE = 0.1
SETTLE = 3.0
GOALS = {"plug": 0.9, "burst of 100": 0.7, "burst of 500": 0.3, "one change, 10000 ports": 0.05}
"""Asked of portwatch's median, as a share of OVN's."""

Times = dict[str, list[float]]
"""By the name of a side."""


async def measure(scale: float) -> list[Row]:
    """Set both up once, and let them take turns."""
    rows: list[Row] = []
    async with sides(peers=True) as both:
        network = Network("bench", 4242)
        firsts = await _open(both, network, 0)
        say(f"a port, {_times(PLUGS, scale)} times each")
        entries, ends = await _turns(both, network, 1, _times(PLUGS, scale))
        rows += _rows("plug", entries, "plug", 1)
        rows += _rows("unplug", ends)
        for size, often in BURSTS.items():
            say(f"bursts of {size} ports, {_times(often, scale)} times each")
            entries, _ = await _turns(both, network, size, _times(often, scale))
            rows += _rows(f"burst of {size}", entries, "burst", size)
        await _shut(both, network, 0, firsts)
        for number, (size, often) in enumerate(SIZES.items() if scale >= 1 else list(SIZES.items())[:2]):
            say(f"a network of {size} ports")
            network = Network(f"of{size}", 4300 + number)
            loaded: Times = {}
            try:
                firsts = await _open(both, network, size, loaded)
            except TimeoutError:
                done = " and ".join(loaded) or "nobody"
                say(f"only {done} had all entries of it within {TIMEOUT:g} s: this size is left out")
                break
            say(f"one change in it, {_times(often, scale)} times each")
            entries, _ = await _turns(both, network, 1, _times(often, scale))
            rows += _rows(f"first port, {size} ports elsewhere", loaded, "first", size)
            rows += _rows(f"one change, {size} ports", entries, "change", size)
            await _shut(both, network, size, firsts)
    return rows


def _times(often: int, scale: float) -> int:
    return max(2, round(often * scale))


def _rows(case: str, times: Times, kind: str = "", size: int = 0) -> list[Row]:
    figures = {name: Samples.of(each) for name, each in times.items()}
    rows = [
        Row(f"{case}: {name}", samples, series=f"{kind}: {name}" if kind else "", size=size)
        for name, samples in figures.items()
    ]
    ratio = figures["portwatch"].p50 / figures["OVN"].p50
    return [*rows, Row(f"{case}: portwatch / OVN (p50)", ratio=ratio, goal=GOALS.get(case))]


async def _open(both: Sequence[Side], network: Network, size: int, loaded: Times | None = None) -> list[list[Port]]:
    """Have a network with *size* ports elsewhere and one on either hypervisor, whose plugs are the first ones."""
    others = crowd.members(max(1, size // PORTS), 1, min(size, PORTS)) if size else []
    macs = [mac for member in others for mac in member.macs]
    firsts = []
    for side in both:
        mine, theirs = (Port(f"{network.id}-first{number}", side.lab.mac(), network) for number in range(2))
        await side.found(network, others)
        await side.introduce([mine, theirs])
        await asyncio.sleep(PAUSE)
        committed = await side.far_hands.plug(theirs)
        if loaded is not None:
            loaded[side.name] = [await side.far.last(Change.ADDED, macs) - committed]
        await side.hands.plug(mine)
        await side.far.last(Change.ADDED, [mine.mac])
        await asyncio.gather(side.hands.until_numbered(mine), side.far_hands.until_numbered(theirs))
        firsts.append([mine, theirs])
    await asyncio.sleep(SETTLE)
    return firsts


async def _shut(both: Sequence[Side], network: Network, size: int, firsts: list[list[Port]]) -> None:
    others = crowd.members(max(1, size // PORTS), 1, min(size, PORTS)) if size else []
    for side, (mine, theirs) in zip(both, firsts, strict=True):
        await side.hands.unplug(mine)
        await side.far_hands.unplug(theirs)
        await asyncio.gather(side.hands.until_gone(mine), side.far_hands.until_gone(theirs))
        await side.dismiss([mine, theirs])
        await side.close(network, others)


async def _turns(both: Sequence[Side], network: Network, size: int, often: int) -> tuple[Times, Times]:
    """Plug and unplug *size* ports *often* times on each side; return until the last entry came, and was gone."""
    entries: Times = {side.name: [] for side in both}
    ends: Times = {side.name: [] for side in both}
    for turn in range(often):
        for side in both if turn % 2 else reversed(both):
            names = [f"{size}t{turn}n{number}" for number in range(size)]
            ports = [
                Port(name, side.lab.mac(), network, (f"10.0.{2 + place // 250}.{place % 250 + 1}/16",))
                for place, name in enumerate(names)
            ]
            came, went = await _turn(side, ports)
            entries[side.name].append(came)
            ends[side.name].append(went)
    return entries, ends


async def _turn(side: Side, ports: Sequence[Port]) -> tuple[float, float]:
    macs = [port.mac for port in ports]
    await side.introduce(ports)
    await asyncio.sleep(PAUSE)
    committed = await side.hands.plug(*ports)
    came = await side.far.last(Change.ADDED, macs) - committed
    await side.hands.until_numbered(*ports)
    await asyncio.sleep(PAUSE)
    committed = await side.hands.unplug(*ports)
    went = await side.far.last(Change.DELETED, macs) - committed
    await side.hands.until_gone(*ports)  # vswitchd needs 17 ms to delete a device: until then it is deaf
    await side.dismiss(ports)
    return came, went
