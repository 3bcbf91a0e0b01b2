"""diff(installed, wanted) → Bundle: the difference as a value, ordered so that nothing refers to the missing.

A bundle is applied whole or not at all (OpenFlow 1.5.1, 6.9; ovs-ofctl(8), "bundle"). Adds come before deletes, so
that no packet finds a gap; groups come before the flows that use them, and go after them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Flow, FlowKey, Group, GroupKey, Item, ItemKey, match_text

BUCKETS_A_MESSAGE: Final = 400
"""An OpenFlow message holds 64 KiB, about 700 buckets of ours; larger groups are built in parts."""


@dataclass(frozen=True, slots=True)
class Mod:
    """One line of a bundle: what is done (`add`, `delete`, or `purge`), to which item or for its sake."""

    op: str
    key: ItemKey
    line: str


class Ownership:
    """How our own flows are told from others': cookie bits under a mask. Deletes never reach beyond it."""

    def __init__(self, cookie: int, mask: int) -> None:
        self.cookie, self.mask = cookie, mask
        self.text = f"cookie={cookie:#x}/{mask:#x}"

    def holds(self, flow: Flow) -> bool:
        return self.marks(flow.cookie)

    def marks(self, cookie: int) -> bool:
        return cookie & self.mask == self.cookie


@dataclass(frozen=True, slots=True)
class Purge:
    """Delete, with a flow that leaves, whatever of *own* flows *match* still finds in *table* (learned entries).

    The switch may learn it once more, from packets that it counts later; so it is worth a second time
    (`Bundle.purges`).
    """

    own: Ownership
    table: int
    match: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Modifications of one bridge, in order. Empty when nothing is to be done."""

    mods: tuple[Mod, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.mods)

    def __len__(self) -> int:
        return len(self.mods)

    @property
    def purges(self) -> tuple[Mod, ...]:
        """What deletes entries that the switch has learned by itself."""
        return tuple(mod for mod in self.mods if mod.op == "purge")

    def text(self) -> str:
        """Return the bundle as `ovs-ofctl bundle` reads it, a line for each modification."""
        return "".join(f"{mod.line}\n" for mod in self.mods)


def diff(
    installed: Mapping[ItemKey, Item],
    wanted: Mapping[ItemKey, Item],
    own: Ownership,
    farewell: Mapping[FlowKey, tuple[Purge, ...]] | None = None,
) -> Bundle:
    """Return what turns *installed* into *wanted*; *farewell* says what else goes when a flow goes."""
    first: list[Mod] = []
    adds: list[Mod] = []
    deletes: list[Mod] = []
    last: list[Mod] = []
    for key, item in wanted.items():
        before = installed.get(key)
        if before == item:
            continue
        if isinstance(item, Flow):
            adds.append(Mod("add", key, f"flow add {item.text()}"))
        else:
            grow, shrink = _group_change(before if isinstance(before, Group) else None, item)
            first += (Mod("add", key, line) for line in grow)
            last += (Mod("add", key, line) for line in shrink)
    for key in installed.keys() - wanted.keys():
        if isinstance(key, GroupKey):
            last.append(Mod("delete", key, f"group delete group_id={key.group_id}"))
        else:
            deletes.append(Mod("delete", key, f"flow delete_strict {own.text},{match_text(key)}"))
            for purge in (farewell or {}).get(key, ()):
                fields = ",".join((purge.own.text, f"table={purge.table}", *purge.match))
                deletes.append(Mod("purge", key, f"flow delete {fields}"))
    return Bundle((*first, *adds, *deletes, *last))


def _group_change(before: Group | None, after: Group) -> tuple[list[str], list[str]]:
    """Return the lines that let a group grow, and those that let it shrink when its flows have changed."""
    new = {bucket.bucket_id: bucket for bucket in after.buckets}
    old = {bucket.bucket_id: bucket for bucket in before.buckets} if before else {}
    kept = old.keys() & new.keys()
    group_id = after.key.group_id
    if before is None or before.kind != after.kind or any(old[number] != new[number] for number in kept) or -1 in old:
        parts = list(_parts(after))
        head = f"group add_or_mod group_id={group_id},{after.kind}"
        return [_line(head, parts[0]), *_inserts(group_id, parts[1:])], []
    grown = Group(after.key, tuple(bucket for bucket in after.buckets if bucket.bucket_id not in old))
    gone = [number for number in old if number not in new]
    remove = [f"group remove_bucket group_id={group_id},command_bucket_id={number}" for number in sorted(gone)]
    return (list(_inserts(group_id, list(_parts(grown)))) if grown.buckets else []), remove


def _parts(group: Group) -> Iterator[tuple[str, ...]]:
    texts = tuple(bucket.text() for bucket in group.buckets)
    yield texts[:BUCKETS_A_MESSAGE]
    for start in range(BUCKETS_A_MESSAGE, len(texts), BUCKETS_A_MESSAGE):
        yield texts[start : start + BUCKETS_A_MESSAGE]


def _inserts(group_id: int, parts: list[tuple[str, ...]]) -> Iterator[str]:
    for part in parts:
        yield _line(f"group insert_bucket group_id={group_id},command_bucket_id=last", part)


def _line(head: str, buckets: tuple[str, ...]) -> str:
    return ",".join((head, *buckets))
