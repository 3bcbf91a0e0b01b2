"""When a bridge's own monitor told of a station's flow: the wall clock, by (change, MAC); for whomever's flows."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from portwatch.switch.monitor import Change
from tests.bench.ports import Plugger
from tests.lab import Hypervisor, LabError, Port

TIMEOUT = 300.0
PAUSE = 0.05
"""Seconds of rest between two ports."""
LINE = 1 << 20
"""Bytes of a line at most: a flood's flow names every host."""

Station = Callable[[str], str | None]
"""Text of a flow → the MAC that it forwards to; None of any other flow."""


def by_vlan(text: str) -> str | None:
    """Of portwatch's flows, and of Neutron's, which match the local VLAN and the MAC."""
    return text.partition("dl_dst=")[2][:17] if "dl_vlan=" in text else None


class Sightings:
    """Each sighting is waited for once: the next one of the same change and MAC is another."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._seen: dict[tuple[Change, str], asyncio.Future[float]] = {}

    async def last(self, change: Change, macs: Iterable[str]) -> float:
        """Return the time at which the last of these stations' flows was *change*d."""
        keys = [(change, mac) for mac in macs]
        async with asyncio.timeout(TIMEOUT):
            times = [await self._of(key) for key in keys]
        for key in keys:
            del self._seen[key]
        return max(times)

    async def follow(self, lines: asyncio.StreamReader) -> None:
        """Take in what the eyes say, to the end."""
        async for line in lines:
            seen, change, text = line.decode().rstrip("\n").split(" ", 2)
            mac = self._station(text)
            if mac is not None and not (sighting := self._of((Change(change), mac))).done():
                sighting.set_result(float(seen))

    def _of(self, key: tuple[Change, str]) -> asyncio.Future[float]:
        if key not in self._seen:
            self._seen[key] = asyncio.get_running_loop().create_future()
        return self._seen[key]


async def come_and_go(hands: Plugger, far: Sightings, port: Port) -> float:
    """Plug a port and pull it again; return after how many seconds another host had its entry."""
    began = await hands.plug(port)
    seconds = await far.last(Change.ADDED, [port.mac]) - began
    await hands.until_numbered(port)
    await hands.unplug(port)
    await far.last(Change.DELETED, [port.mac])
    await hands.until_gone(port)
    await asyncio.sleep(PAUSE)
    return seconds


@asynccontextmanager
async def sightings(hypervisor: Hypervisor, bridge: str, station: Station = by_vlan) -> AsyncIterator[Sightings]:
    """Watch a bridge of a hypervisor."""
    argv = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "tests.bench.eyes"]
    eyes = await asyncio.create_subprocess_exec(
        *argv, str(hypervisor.rundir), bridge, stdout=asyncio.subprocess.PIPE, limit=LINE
    )
    assert eyes.stdout is not None
    try:
        if await eyes.stdout.readline() != b"looking\n":
            raise LabError(f"no flow monitor of {bridge} on {hypervisor.name}")
        seen = Sightings(station)
        following = asyncio.create_task(seen.follow(eyes.stdout), name=f"monitor of {bridge}")
        yield seen
        following.cancel()
    finally:
        if eyes.returncode is None:
            eyes.kill()
        await eyes.wait()
