"""Flow, Group and their keys: values, and their text as ovs-ofctl(8) reads it.

A match is made of `fields`, and what is done of `actions`.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from portwatch.openflow.actions import DROP, Action
from portwatch.openflow.fields import Field, in_printed_order


class FlowKey(NamedTuple):
    """What makes two flows the same flow: the later replaces the earlier (OpenFlow 1.5.1, 6.4)."""

    table: int
    priority: int
    match: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of one bridge. Make it with `flow()`, which puts the match in the switch's order."""

    cookie: int
    key: FlowKey
    actions: tuple[Action, ...]

    @property
    def table(self) -> int:
        return self.key.table

    def text(self) -> str:
        """Return the flow as ovs-ofctl(8) reads it."""
        return f"cookie={self.cookie:#x},{match_text(self.key)},actions={','.join(self.actions)}"


class GroupKey(NamedTuple):
    """What makes two groups the same group."""

    group_id: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """One member of a group."""

    bucket_id: int
    actions: tuple[Action, ...]

    def text(self) -> str:
        return f"bucket=bucket_id:{self.bucket_id},actions={','.join(self.actions)}"


ALL: Final = "type=all"
"""Every bucket gets a copy."""
HASHED: Final = "type=select,selection_method=dp_hash"
"""One bucket gets the packet, by a hash that the datapath makes: so the packet goes through it once more."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group. Make it with `group()`, which orders the buckets."""

    key: GroupKey
    buckets: tuple[Bucket, ...]
    kind: str = ALL

    @property
    def relays(self) -> bool:
        """Does it hand on to other groups?"""
        return any(action.startswith("group:") for bucket in self.buckets for action in bucket.actions)

    def text(self) -> str:
        """Return the group as ovs-ofctl(8) reads it."""
        return ",".join((f"group_id={self.key.group_id}", self.kind, *(bucket.text() for bucket in self.buckets)))


Item = Flow | Group
ItemKey = FlowKey | GroupKey


def flow(cookie: int, table: int, priority: int, match: tuple[Field, ...], actions: tuple[Action, ...]) -> Flow:
    """Make a flow; no actions means drop."""
    return Flow(cookie, FlowKey(table, priority, in_printed_order(match)), actions or (DROP,))


def group(group_id: int, buckets: tuple[Bucket, ...]) -> Group:
    """Make a group of type `all`."""
    return Group(GroupKey(group_id), tuple(sorted(buckets, key=lambda bucket: bucket.bucket_id)))


def match_text(key: FlowKey) -> str:
    """Return table, priority and match as ovs-ofctl reads them."""
    return ",".join((f"table={key.table}", f"priority={key.priority}", *key.match))
