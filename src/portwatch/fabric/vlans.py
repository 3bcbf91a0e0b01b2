"""Local VLANs: this host's tag for each segment, between its two bridges.

A tag that was given back rests until the switch no longer knows it: the two bridges are programmed in parallel, and a
tag that meant the red network on one and the blue on the other, for a millisecond, would join them.
"""

from portwatch.model import LocalVlan, Segment


class LocalVlans:
    """The tags in use. The next one is sought behind the last one given out, so that tags rest as long as can be."""

    def __init__(self) -> None:
        self.of: dict[Segment, LocalVlan] = {}
        self.continued: set[LocalVlan] = set()
        """Those that mean what they meant before our restart: what the switch holds of them is their segment's."""
        self._taken: dict[LocalVlan, Segment] = {}
        self._resting: set[LocalVlan] = set()
        self._last = 0
        self.rests = 0
        """Counts how often tags became free: whether it is worth while to ask again."""

    @property
    def free(self) -> int:
        """How many tags can still be given out."""
        return LocalVlan.HIGHEST - len(self._taken) - len(self._resting)

    def segment(self, vlan: LocalVlan) -> Segment | None:
        """Return whose tag this is."""
        return self._taken.get(vlan)

    def assign(self, segment: Segment, hint: LocalVlan | None = None) -> LocalVlan | None:
        """Return the segment's tag, giving it one if need be: *hint*, when it is free. None when all are used up."""
        if (vlan := self.of.get(segment)) is not None:
            return vlan
        vlan = hint if hint is not None and self._is_free(hint) else None
        if vlan is not None:
            self.continued.add(vlan)
        else:
            vlan = self._next_free()
        if vlan is not None:
            self.of[segment] = vlan
            self._taken[vlan] = segment
        return vlan

    def seek_behind(self, vlan: LocalVlan) -> None:
        """Give out tags behind *vlan* first: lower ones may still mean something to the switch."""
        self._last = max(self._last, vlan)

    def release(self, segment: Segment) -> None:
        """Take the segment's tag back; it rests."""
        if (vlan := self.of.pop(segment, None)) is not None:
            del self._taken[vlan]
            self.continued.discard(vlan)
            self._resting.add(vlan)

    def rested(self) -> bool:
        """The switch holds nothing more of the resting tags: free them. True when there were any."""
        resting = bool(self._resting)
        self._resting.clear()
        self.rests += resting
        return resting

    def _is_free(self, vlan: LocalVlan) -> bool:
        return vlan not in self._taken and vlan not in self._resting

    def _next_free(self) -> LocalVlan | None:
        if self.free <= 0:
            return None
        number = self._last
        while True:
            number = number % LocalVlan.HIGHEST + 1
            if self._is_free(vlan := LocalVlan(number)):
                self._last = number
                return vlan
