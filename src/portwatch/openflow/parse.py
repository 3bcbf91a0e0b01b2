"""Dump text to Flow and Group: the way back from the switch, for resync.

Reads what `ovs-ofctl --no-names -O OpenFlow15 dump-flows --no-stats` and `dump-groups` print. A line that cannot be
read is a ValueError that holds the line: the dialect has changed, and guessing would delete what should stay.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

from portwatch.openflow.actions import Action
from portwatch.openflow.fields import Field, in_printed_order
from portwatch.openflow.flow import ALL, HASHED, Bucket, Flow, FlowKey, Group, GroupKey

DEFAULT_PRIORITY = 32768
_OWN_WORDS = (
    "idle_timeout",
    "hard_timeout",
    "importance",
    "send_flow_rem",
    "check_overlap",
    "reset_counts",
    "no_packet_counts",
    "no_byte_counts",
)
_STATISTICS = re.compile(
    r"duration=(?P<seconds>[0-9.]+)s, |n_packets=(?P<packets>[0-9]+), |n_bytes=[0-9]+, |\w+_age=\d+, "
)


@dataclass(frozen=True, slots=True)
class Use:
    """For how many seconds a flow has been there, and how many packets it has met."""

    seconds: float
    packets: int


def uses(dump: str) -> Iterator[tuple[Flow, Use]]:
    """Yield the flows of a `dump-flows` that was asked for statistics, each with its own."""
    for line in dump.splitlines():
        if "actions=" in line:
            told = {
                name: text for found in _STATISTICS.finditer(line) for name, text in found.groupdict().items() if text
            }
            yield flow(_STATISTICS.sub("", line)), Use(float(told.get("seconds", 0)), int(told.get("packets", 0)))


def flows(dump: str) -> Iterator[Flow]:
    """Yield the flows of a `dump-flows`."""
    for line in dump.splitlines():
        if "actions=" in line:
            yield flow(line)


def flow(line: str) -> Flow:
    """Read one flow as the switch prints it, or as `Flow.text` writes it."""
    try:
        return _flow(line)
    except ValueError as error:
        raise ValueError(f"cannot read the flow {line!r}: {error}") from None


def _flow(line: str) -> Flow:
    head, found, tail = line.partition("actions=")
    if not found:
        raise ValueError("it has no actions")
    cookie, table, priority = 0, 0, DEFAULT_PRIORITY
    match: list[Field] = []
    timed: list[Action] = []
    for word in head.replace(" ", ",").split(","):
        name, _, value = word.partition("=")
        if not word:
            continue
        if name == "cookie":
            cookie = int(value, 16)
        elif name == "table":
            table = int(value)
        elif name == "priority":
            priority = int(value)
        elif name in _OWN_WORDS:
            # We make none of these: kept among the actions, so that such a flow never equals one of ours.
            timed.append(Action(word))
        else:
            match.append(Field(word))
    actions = (*timed, *map(Action, _split(tail.strip())))
    return Flow(cookie, FlowKey(table, priority, in_printed_order(tuple(match))), actions)


def groups(dump: str, ids: Container[int] | None = None) -> Iterator[Group]:
    """Yield the groups of a `dump-groups` whose id is in *ids*: others' may be of kinds that we do not read."""
    for line in dump.splitlines():
        number = line.strip().removeprefix("group_id=").partition(",")[0]
        if number.isdigit() and (ids is None or int(number) in ids):
            yield group(line)


def group(line: str) -> Group:
    """Read one group as the switch prints it, or as `Group.text` writes it."""
    try:
        return _group(line)
    except ValueError as error:
        raise ValueError(f"cannot read the group {line!r}: {error}") from None


def _group(line: str) -> Group:
    head, *parts = line.strip().split(",bucket=")
    properties = dict(word.partition("=")[::2] for word in head.split(","))
    if "group_id" not in properties:
        raise ValueError("it has no id")
    buckets = []
    for part in parts:
        name, _, actions = part.partition("actions=")
        number, *others = name.removeprefix("bucket_id:").rstrip(",").split(",")
        # What we put in no bucket (weights, watched ports) is kept among the actions, so that it equals none of ours.
        buckets.append(Bucket(int(number), (*map(Action, others), *map(Action, _split(actions)))))
    kind = HASHED if head.partition(",")[2] == HASHED else ALL
    if kind == ALL and (other := properties.get("type")) != "all":
        # Not of our making; a bucket that no group of ours has makes it differ from each of them.
        buckets.append(Bucket(-1, (Action(f"type={other}"),)))
    ordered = tuple(sorted(buckets, key=lambda bucket: bucket.bucket_id))
    return Group(GroupKey(int(properties["group_id"])), ordered, kind)


def _split(text: str) -> Iterator[str]:
    """Split at the commas outside of parentheses: `learn(a,b),output:1` is two actions."""
    if "(" not in text:
        yield from text.split(",")
        return
    depth = start = 0
    for place, letter in enumerate(text):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]
