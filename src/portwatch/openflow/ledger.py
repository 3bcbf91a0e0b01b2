"""What is wanted, what is installed, what is owed: one bridge's account, kept in step with a real switch.

Quiet: it decides and remembers; the programmer commits. `want` → `take` → commit → `committed` or `failed`; after
silence or a restart of the switch, `read_back`.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from portwatch.openflow.bundle import Bundle, Mod, Ownership, Purge, diff
from portwatch.openflow.flow import Flow, FlowKey, Group, Item, ItemKey


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the switch was from what we thought it held, at a read-back."""

    missing: int
    changed: int
    unknown: int

    @property
    def total(self) -> int:
        return self.missing + self.changed + self.unknown


class Ledger:
    """The account of one bridge. Every item wanted has an owner, so that whoever wanted it can stop wanting it."""

    def __init__(
        self,
        own: Ownership,
        farewell: Callable[[Flow], tuple[Purge, ...]] = lambda flow: (),
        spare: Callable[[Item], bool] = lambda item: False,
        optional: Callable[[ItemKey], bool] = lambda key: False,
        joint: Callable[[Flow], bool] = lambda flow: False,
    ) -> None:
        """*farewell* says what is purged with a flow that goes; *spare* which unwanted items must not go yet.

        *optional* items are those that the switch may be unable to take: they share no bundle with others. *joint*
        flows serve many: that one of these came and went says nothing of the others, who may be unheard of yet.
        """
        self.own = own
        self.wanted: dict[ItemKey, Item] = {}
        self.installed: dict[ItemKey, Item] = {}
        self.refused: dict[ItemKey, tuple[Item | None, str]] = {}
        self.known = False
        """Do we know what the switch holds? Not before the first `read_back`, and not when it was `lost`."""
        self._farewell = farewell
        self._spare = spare
        self._optional = optional
        self._joint = joint
        self._wants: dict[ItemKey, dict[Hashable, Item]] = {}
        """Who wants what of a key. Two may, for a moment: the later one counts, and what it leaves is the other's."""
        self._by_owner: dict[Hashable, tuple[ItemKey, ...]] = {}
        self._owed: set[ItemKey] = set()
        self.fresh = True
        """Has it never been read back?"""
        self._inherited: set[ItemKey] = set()
        self._spared: set[ItemKey] = set()
        self._in_flight: dict[ItemKey, Item | None] = {}

    def want(self, owner: Hashable, items: Iterable[Item]) -> bool:
        """Record that *owner* wants exactly *items*; True when this changes anything."""
        after = {item.key: item for item in items}
        before = self._by_owner.pop(owner, ())
        if after:
            self._by_owner[owner] = tuple(after)
        changed = False
        for key in before:
            if key not in after:
                wants = self._wants[key]
                del wants[owner]
                changed |= self._settle_on(key, next(reversed(wants.values()), None))
                if not wants:
                    del self._wants[key]
        for key, item in after.items():
            self._wants.setdefault(key, {})[owner] = item
            changed |= self._settle_on(key, item)
        return changed

    def _settle_on(self, key: ItemKey, item: Item | None) -> bool:
        """Let *item* be what is wanted of *key*; True when that is news."""
        if self.wanted.get(key) == item:
            return False
        self.refused.pop(key, None)
        if item is None:
            del self.wanted[key]
        else:
            self.wanted[key] = item
        if item is not None and key in self._inherited and not self._serves_many(item):
            self._inherited.discard(key)
        self._owed.add(key)
        return True

    @property
    def owes(self) -> bool:
        """Is there anything to take?"""
        return bool(self._owed)

    @property
    def settled(self) -> bool:
        """Does the switch hold all that is wanted, as far as we know? Spared and refused items aside."""
        return self.known and not self._owed and not self._in_flight

    def lost(self) -> None:
        """The switch is gone, or a commit has had no answer: what it holds is to be read back."""
        self.failed()
        self.known = False

    def take(self) -> Bundle:
        """Return what is owed as one bundle, and hold it as being in flight until `committed` or `failed`.

        Optional items come last, when nothing else is owed.
        """
        assert not self._in_flight, "one bundle a bridge at a time"
        before: dict[ItemKey, Item] = {}
        after: dict[ItemKey, Item] = {}
        taken = {key for key in self._owed if not self._optional(key)} or self._owed
        for key in taken:
            have, want = self.installed.get(key), self.wanted.get(key)
            if key in self.refused and self.refused[key][0] == want:
                continue
            if have is not None and have != want and key in self._inherited and self._spare(have):
                kept = _kept(have, want)
                if kept != want:
                    self._spared.add(key)
                want = kept
            if have == want:
                continue
            self._in_flight[key] = want
            if have is not None:
                before[key] = have
            if want is not None:
                after[key] = want
        self._owed = self._owed - taken
        leaving = {key: self._farewell(item) for key, item in before.items() if isinstance(item, Flow)}
        purges: Mapping[FlowKey, tuple[Purge, ...]] = {key: gone for key, gone in leaving.items() if gone}  # type: ignore[misc]
        return diff(before, after, self.own, purges)

    def committed(self) -> None:
        """What was taken now stands in the switch."""
        for key, item in self._in_flight.items():
            if item is None:
                self.installed.pop(key, None)
            else:
                self.installed[key] = item
        self._in_flight.clear()

    def failed(self) -> None:
        """Nothing of what was taken was applied: it is owed again."""
        self._owed.update(self._in_flight)
        self._in_flight.clear()

    def refuse(self, mod: Mod, reason: str) -> None:
        """Set the item of *mod* aside: the switch does not take it. It is tried again when it is wanted otherwise."""
        self.refused[mod.key] = (self.wanted.get(mod.key), reason)

    def retry_refused(self) -> None:
        """Owe again what was set aside."""
        self._owed.update(self.refused)
        self.refused.clear()

    def reconsider(self) -> None:
        """Owe again what was spared and need not be any more."""
        asked = self._inherited | self._spared
        still = {key for key in asked if (have := self.installed.get(key)) is not None and self._spare(have)}
        self._owed |= self._spared - still
        self._spared &= still
        self._inherited &= still

    def items_of(self, owner: Hashable) -> list[Item]:
        """Return what *owner* wants."""
        return [self._wants[key][owner] for key in self._by_owner.get(owner, ())]

    def refusal(self, owner: Hashable) -> str | None:
        """Return why the switch did not take something that *owner* wants."""
        if not self.refused:
            return None
        return next((self.refused[key][1] for key in self._by_owner.get(owner, ()) if key in self.refused), None)

    @property
    def inherits(self) -> bool:
        """Is there anything left of what was there when we came, that may have to stay unwanted?"""
        return bool(self._inherited)

    @property
    def spares(self) -> bool:
        """Does anything stay that is not wanted as it is?"""
        return bool(self._spared)

    @property
    def spared(self) -> list[Item]:
        """The items that stay although they are not wanted as they are."""
        return [
            have
            for key in self._spared
            if (have := self.installed.get(key)) is not None and have != self.wanted.get(key)
        ]

    def _serves_many(self, item: Item) -> bool:
        return isinstance(item, Group) or self._joint(item)

    def read_back(self, items: Iterable[Item]) -> Drift:
        """Take *items* as what the switch holds of ours; what differs from the wanted is owed."""
        assert not self._in_flight, "no reading while a bundle is in flight"
        real = {item.key: item for item in items}
        thought, wanted = self.installed, self.wanted
        drift = Drift(
            missing=len(thought.keys() - real.keys()),
            changed=len(_changed(thought, real)),
            unknown=len(real.keys() - thought.keys()),
        )
        if self.fresh:
            # Left by the process before us: what we do not want of it we may want as soon as we have heard all.
            joint = (key for key in real.keys() & wanted.keys() if self._serves_many(real[key]))
            self._inherited = (real.keys() - wanted.keys()).union(joint)
            self.fresh = False
        self._inherited &= real.keys()
        self.installed = real
        self.known = True
        self._spared.clear()
        self._owed = (real.keys() ^ wanted.keys()) | _changed(real, wanted)
        return drift


def _changed(before: Mapping[ItemKey, Item], after: Mapping[ItemKey, Item]) -> set[ItemKey]:
    """Return what is in both and is not the same."""
    return {key for key in before.keys() & after.keys() if before[key] != after[key]}


def _kept(have: Item, want: Item | None) -> Item | None:
    """Return what may stand while *have* must not go: the new one, and for a group the old members besides."""
    if want is None:
        return have
    if isinstance(have, Group) and isinstance(want, Group):
        if have.relays and not want.relays:
            return have  # the groups that it hands on to stay, too: who is named here besides would get two copies
        named = {bucket.bucket_id for bucket in want.buckets}
        stay = tuple(bucket for bucket in have.buckets if bucket.bucket_id not in named)
        return Group(want.key, tuple(sorted((*want.buckets, *stay), key=lambda bucket: bucket.bucket_id)))
    return want
