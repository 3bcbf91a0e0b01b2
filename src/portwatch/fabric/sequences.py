"""Since when each of our ports is attached here: docs/mobility.md, "Sequence".

A new attachment comes after every claim of its port or MAC that is visible, and what is visible is known once the
network's snapshot has settled: until then a sequence is *young* and may be raised, once, above the claims that were
there before it. Those that came live are newer attachments: they are to win. A restart is no attachment.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum

from portwatch.events import ClaimKey, key_of
from portwatch.fabric.fabric import Fabric
from portwatch.model import SEQ_MAX, Claim, NetworkId, Plug, Port, PortId


class Young(Enum):
    """Why a sequence may still change."""

    NEW = "attached while we watched; the others' claims may not have come yet"
    FOUND = "was there when we came, and its row remembers nothing: the bus may"


class Sequences:
    """The sequence of each port that is plugged in here."""

    def __init__(self, fabric: Fabric) -> None:
        self.of: dict[PortId, int] = {}
        self._fabric = fabric
        self._young: dict[PortId, Young] = {}
        self._any_saved = False
        self._before: set[ClaimKey] = set()
        """Claims that were there when we subscribed to their network; kept while any sequence is young."""

    def begin(self, plug: Plug, now: datetime, *, at_start: bool) -> None:
        """The port is plugged in; *at_start*: it was so before we came."""
        port_id = plug.port.port_id
        if plug.seq is not None:
            self.of[port_id] = plug.seq
            self._any_saved = True
        elif at_start:
            self.of[port_id] = 0
            self._young[port_id] = Young.FOUND
        else:
            self.of[port_id] = self._after_all(plug.port, now)
            self._young[port_id] = Young.NEW

    def came_before(self, key: ClaimKey) -> None:
        """A claim was replayed to us: it is older than what was attached here since."""
        if self._young:
            self._before.add(key)

    def end(self, port_id: PortId) -> None:
        """The port is gone."""
        del self.of[port_id]
        self._young.pop(port_id, None)

    def recall(self, port_id: PortId, seq: int) -> bool:
        """The bus still holds our own claim, from before our restart. True when this gives the port its sequence."""
        if self._young.get(port_id) is not Young.FOUND:
            return False
        del self._young[port_id]
        self.of[port_id] = seq
        return True

    def grow_up(self, ports: Iterable[Port], now: datetime, *, just_come: bool = False) -> set[PortId]:
        """The networks of *ports* have settled: all rivals are visible. Return the ports whose sequence rose.

        *just_come*: they come into networks that had settled before, where whatever is held was there before them.
        """
        risen = set()
        for port in ports:
            young = self._young.pop(port.port_id, None)
            if young is None:
                continue
            before = self.of[port.port_id]
            if young is Young.FOUND:
                # Others were remembered and this one not: it came while we were away. If nothing was remembered at
                # all, its age is unknown, and 0 lets every real newer claim win.
                after = self._after_all(port, now) if self._any_saved else before
            else:
                rivals = (claim for claim in self._fabric.rivals(port) if just_come or key_of(claim) in self._before)
                after = max(before, self._after(rivals))
            if after != before:
                self.of[port.port_id] = after
                risen.add(port.port_id)
        if not self._young:
            self._before.clear()
        return risen

    def young_in(self, network_ids: Iterable[NetworkId | None]) -> set[PortId]:
        """Return the ports of these networks whose sequence is young."""
        wanted = set(network_ids)
        local = self._fabric.local
        return {name for name in self._young if name in local and local[name].claim.port.network_id in wanted}

    def _after(self, claims: Iterable[Claim]) -> int:
        return min(SEQ_MAX, 1 + max((claim.seq for claim in claims), default=-1))

    def _after_all(self, port: Port, now: datetime) -> int:
        return min(SEQ_MAX, max(self._after(self._fabric.rivals(port)), int(now.timestamp() * 1000)))
