"""Since when each of our ports is attached here: docs/mobility.md, "Sequence".

A new attachment comes after every claim of its port or MAC that is visible, and what is visible is known once the
network's snapshot has settled: until then a sequence is *young* and may be raised, once. It is raised above the claims
that were there before we listened and that our own clock had not reached when they came: no clock that goes like ours
can have made those, so their milliseconds tell nothing. All others are judged by their value, for an attachment
elsewhere that is newer than ours may be heard of in the same moment. A restart is no attachment.
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
        self._young: dict[PortId, tuple[Young, int]] = {}
        """Why a sequence is young, and our own clock when we found its port."""
        self._any_saved = False
        self._ahead: dict[ClaimKey, int] = {}
        """Sequences of claims that were there before we listened, and ahead of our clock; kept while any is young."""

    def begin(self, plug: Plug, now: datetime, *, at_start: bool) -> None:
        """The port is plugged in; *at_start*: it was so before we came."""
        port_id = plug.port.port_id
        if plug.seq is not None:
            self.of[port_id] = plug.seq
            self._any_saved = True
        elif at_start:
            self.of[port_id] = 0
            self._young[port_id] = Young.FOUND, _milliseconds(now)
        else:
            self.of[port_id] = max(self._after_rivals(plug.port), _milliseconds(now))
            self._young[port_id] = Young.NEW, self.of[port_id]

    def came_before(self, claim: Claim, now: datetime) -> None:
        """A claim was replayed to us: its host had made it before we listened."""
        if self._young and claim.seq > _milliseconds(now):
            self._ahead[key_of(claim)] = claim.seq

    def end(self, port_id: PortId) -> None:
        """The port is gone."""
        del self.of[port_id]
        self._young.pop(port_id, None)

    def recall(self, port_id: PortId, seq: int) -> bool:
        """The bus still holds our own claim, from before our restart. True when this gives the port its sequence."""
        if self._young.get(port_id, (None,))[0] is not Young.FOUND:
            return False
        del self._young[port_id]
        self.of[port_id] = seq
        return True

    def grow_up(self, ports: Iterable[Port], *, just_come: bool = False) -> set[PortId]:
        """The networks of *ports* have settled: all rivals are visible. Return the ports whose sequence rose.

        *just_come*: they come into networks that had settled before, where whatever is held was there before them.
        """
        risen = set()
        for port in ports:
            why, found = self._young.pop(port.port_id, (None, 0))
            if why is None or (why is Young.FOUND and not self._any_saved):
                # If nothing was remembered at all, its age is unknown, and 0 lets every real newer claim win. If others
                # were and this one not, it came while we were away.
                continue
            before = self.of[port.port_id]
            after = max(before, found, self._after_rivals(port) if just_come else self._after_those_ahead(port))
            if after != before:
                self.of[port.port_id] = after
                risen.add(port.port_id)
        if not self._young:
            self._ahead.clear()
        return risen

    def young_in(self, network_ids: Iterable[NetworkId | None]) -> set[PortId]:
        """Return the ports of these networks whose sequence is young."""
        wanted = set(network_ids)
        local = self._fabric.local
        return {name for name in self._young if name in local and local[name].claim.port.network_id in wanted}

    def _after_rivals(self, port: Port) -> int:
        return _after(claim.seq for claim in self._fabric.rivals(port))

    def _after_those_ahead(self, port: Port) -> int:
        return _after(self._ahead.get(key_of(claim), -1) for claim in self._fabric.rivals(port))


def _after(seqs: Iterable[int]) -> int:
    return min(SEQ_MAX, 1 + max(seqs, default=-1))


def _milliseconds(now: datetime) -> int:
    return int(now.timestamp() * 1000)
