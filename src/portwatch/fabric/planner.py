"""From what was touched to what the ledgers want: each key is planned anew, and costs what it concerns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from portwatch.fabric.fabric import Fabric
from portwatch.fabric.keys import Touched, Unicast
from portwatch.fabric.pipeline import Bridge, Policy, plan
from portwatch.fabric.progress import Progress
from portwatch.openflow.flow import Item, ItemKey
from portwatch.openflow.ledger import Ledger


class Planner:
    """One hypervisor's. `clock`: seconds that only go forward, for the moves of MACs."""

    def __init__(self, fabric: Fabric, policy: Policy, ledgers: Mapping[Bridge, Ledger], progress: Progress) -> None:
        self.clock = 0.0
        self._fabric, self._policy, self._ledgers, self._progress = fabric, policy, ledgers, progress
        self._collected: Touched | None = None

    def wants(self, touched: Touched) -> None:
        """Plan what was touched anew, and tell the ledgers."""
        if self._collected is not None:
            self._collected |= touched
            return
        changed = False
        stations = [key for key in touched if isinstance(key, Unicast)]
        for station in stations:
            touched = touched | self._fabric.watch_move(station.segment, station.mac, self.clock)
        for key in touched:
            by_bridge: dict[Bridge, list[Item]] = {bridge: [] for bridge in Bridge}
            for bridge, item in plan(self._fabric, self._policy, key):
                by_bridge[bridge].append(item)
            for bridge, items in by_bridge.items():
                changed |= self._ledgers[bridge].want(key, items)
        if changed:
            self._progress.generation += 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Plan but once what is touched meanwhile."""
        collected: Touched = set()
        self._collected = collected
        try:
            yield
        finally:
            self._collected = None
            self.wants(collected)

    def recomputed(self) -> dict[Bridge, dict[ItemKey, Item]]:
        """Return what is wanted, computed from nothing but the fabric: must equal the ledgers'."""
        whole: dict[Bridge, dict[ItemKey, Item]] = {bridge: {} for bridge in Bridge}
        for key in self._fabric.everything():
            for bridge, item in plan(self._fabric, self._policy, key):
                whole[bridge][item.key] = item
        return whole
