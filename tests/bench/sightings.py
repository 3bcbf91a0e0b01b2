"""When a bridge's own monitor told of a station's flow: the wall clock, by (change, MAC); for whomever's flows."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from portwatch.switch.monitor import Change, FlowEvent, watch
from portwatch.switch.ofctl import OfCtl
from tests.lab import Hypervisor

TIMEOUT = 60.0

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

    async def follow(self, events: AsyncIterator[FlowEvent]) -> None:
        async for event in events:
            mac = self._station(event.text)
            if mac is not None and not (sighting := self._of((event.change, mac))).done():
                sighting.set_result(time.time())

    def _of(self, key: tuple[Change, str]) -> asyncio.Future[float]:
        if key not in self._seen:
            self._seen[key] = asyncio.get_running_loop().create_future()
        return self._seen[key]


@asynccontextmanager
async def sightings(hypervisor: Hypervisor, bridge: str, station: Station = by_vlan) -> AsyncIterator[Sightings]:
    """Watch a bridge of a hypervisor."""
    async with OfCtl(hypervisor.rundir) as ofctl, watch(ofctl, bridge) as events:
        seen = Sightings(station)
        following = asyncio.create_task(seen.follow(events), name=f"monitor of {bridge}")
        try:
            yield seen
        finally:
            following.cancel()
