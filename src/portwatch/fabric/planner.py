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
        self._touched: Touched = set()
        self._put_off = False

    def wants(self, touched: Touched) -> None:
        """Plan what was touched anew, and tell the ledgers; not before `plan`, if that is put off."""
        self._touched |= touched
        if not self._put_off:
            self.plan()

    def put_off(self) -> None:
        """Only collect what is touched, until `plan`."""
        self._put_off = True

    def plan(self) -> None:
        """Plan all that was touched, each but once."""
        self._put_off = False
        touched, self._touched = self._touched, set()
        for station in [key for key in touched if isinstance(key, Unicast)]:
            touched |= self._fabric.watch_move(station.segment, station.mac, self.clock)
        changed = False
        for key in touched:
            planned = plan(self._fabric, self._policy, key)
            for bridge, ledger in self._ledgers.items():
                changed |= ledger.want(key, [item for where, item in planned if where is bridge])
        if changed:
            self._progress.generation += 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Plan but once what is touched meanwhile."""
        self.put_off()
        try:
            yield
        finally:
            self.plan()

    def recomputed(self) -> dict[Bridge, dict[ItemKey, Item]]:
        """Return what is wanted, computed from nothing but the fabric: must equal the ledgers'."""
        whole: dict[Bridge, dict[ItemKey, Item]] = {bridge: {} for bridge in Bridge}
        for key in self._fabric.everything():
            for bridge, item in plan(self._fabric, self._policy, key):
                whole[bridge][item.key] = item
        return whole
