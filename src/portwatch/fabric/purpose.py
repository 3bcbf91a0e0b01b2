"""What an item that the switch holds is for: read from its match and actions, when nobody remembers who wanted it.

Somebody may have written it by hand under our cookie: what cannot be read (a mask, for instance) is for nobody.
"""

from collections.abc import Container
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple, Self

from portwatch.fabric.groups import AFRESH
from portwatch.fabric.tables import (
    EXCEPTION,
    GROUPS,
    INT_CLASSIFY,
    INT_DELIVER,
    LEARNED_COOKIE,
    LEARNT,
    OWN,
    PRIORITIES,
    TUN_FLOOD,
    TUN_FLOOD_PART,
    TUN_FROM_TUNNEL,
    TUN_NEIGHBORS,
    TUN_UNICAST,
)
from portwatch.model import LocalVlan, Mac, TunnelEndpoint
from portwatch.openflow import fields, parse
from portwatch.openflow.actions import VLAN_PRESENT, Action
from portwatch.openflow.bundle import Purge
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Flow, FlowKey, Group, Item, ItemKey


def is_ours(item: Item) -> bool:
    """Did portwatch program this? Learned flows aside: the switch makes those."""
    if isinstance(item, Group):
        return item.key.group_id in GROUPS
    return OWN.holds(item) and item.cookie != LEARNED_COOKIE


def concerns(cookie: int, table: int, match: str, installed: Container[ItemKey]) -> bool:
    """Is a flow that came, changed or went ours, or in the place of one of ours? Its *match* is as the switch says it.

    Who overwrites a flow gives it a cookie of his own, and so does `mod-flows` up to OpenFlow 1.3. The switch tells no
    priority. What it has learned for us is no news.
    """
    if OWN.marks(cookie):
        return cookie != LEARNED_COOKIE
    try:
        words = parse.flow(f"{match} actions=drop").key.match
    except ValueError:
        return True  # nothing that we have seen a switch say: to be looked at
    return any(FlowKey(table, priority, words) in installed for priority in PRIORITIES)


def farewell(item: Flow) -> tuple[Purge, ...]:
    """Return which learned flows leave with a flow: they go with their entry, network or port."""
    if item.table == TUN_UNICAST and (vlan := _vlan_matched(item.key)) is not None:
        station = tuple(field for field in item.key.match if field.startswith("dl_dst="))
        return (Purge(LEARNT, TUN_UNICAST, (fields.learned_vlan(vlan), *station)),)
    if item.table in TUN_FROM_TUNNEL.values() and (vlan := _vlan_set_by(item.actions)) is not None:
        return (Purge(LEARNT, TUN_UNICAST, (fields.learned_vlan(vlan),)),)
    if item.table == INT_CLASSIFY and item.key.priority == EXCEPTION:
        # A port that is learned no more may have gone, and its number may be another's next.
        vlan, mac = _vlan_matched(item.key) or _vlan_set_by(item.actions), _mac_matched(item.key, "dl_src")
        if vlan is not None and mac is not None:
            return (Purge(LEARNT, INT_DELIVER, (fields.learned_vlan(vlan), fields.dl_dst(mac))),)
    return ()


class Purpose(NamedTuple):
    """For whose sake an item is there, as far as other hosts' claims decide it."""

    vlan: LocalVlan | None
    """The segment's; None when local state alone decides."""
    peer: TunnelEndpoint | None
    """Whose packets it takes in."""
    station: tuple[Field, ...] | None
    """The match of a unicast entry."""
    mac: Mac | None
    """The station's."""
    endpoints: frozenset[TunnelEndpoint]
    """Where it sends to."""
    flood: bool
    relays: bool

    @classmethod
    def of(cls, item: Item) -> Self:
        """Read it from the item."""
        vlan = depends_on(item)
        station = station_of(item) if vlan is not None else None
        return cls(
            vlan=vlan,
            peer=accepted_peer(item),
            station=station,
            mac=None if station is None or isinstance(item, Group) else _mac_matched(item.key, "dl_dst"),
            endpoints=frozenset(tunnels_to(item)),
            flood=serves_flood(item),
            relays=serves_relays(item),
        )


def depends_on(item: Item) -> LocalVlan | None:
    """Return the VLAN of the segment whose remote claims may want *item*; None when local state alone decides."""
    if isinstance(item, Group):
        return _vlan(item.key.group_id & 0xFFF)
    if item.table == TUN_FLOOD_PART:
        return _vlan_of_part(item.key)
    if item.table in (INT_CLASSIFY, INT_DELIVER, TUN_UNICAST, TUN_NEIGHBORS, TUN_FLOOD):
        return _vlan_matched(item.key)
    return None


def accepted_peer(item: Item) -> TunnelEndpoint | None:
    """Return the endpoint whose packets *item* takes in: wanted for the sake of any segment."""
    if isinstance(item, Group):
        return None
    text = next((field for field in item.key.match if field.startswith(("tun_src=", "tun_ipv6_src="))), None)
    return _endpoint(text.partition("=")[2]) if text is not None else None


def station_of(item: Item) -> tuple[Field, ...] | None:
    """Return the match (VLAN, MAC) of a unicast entry, the same on both bridges."""
    if isinstance(item, Group) or item.table not in (INT_DELIVER, TUN_UNICAST) or _vlan_matched(item.key) is None:
        return None
    return item.key.match


def serves_flood(item: Item) -> bool:
    """Is this a flow that sends a segment's floods to its groups, or the group that relays to the others?"""
    return item.table in (TUN_FLOOD, TUN_FLOOD_PART) if isinstance(item, Flow) else item.relays


def serves_relays(item: Item) -> bool:
    """Is this the group that all relays have in common?"""
    return isinstance(item, Group) and item.key.group_id == AFRESH


def tunnels_to(item: Item) -> set[TunnelEndpoint]:
    """Return the endpoints that *item* sends to."""
    actions = item.actions if isinstance(item, Flow) else [each for bucket in item.buckets for each in bucket.actions]
    texts = [action for action in actions if action.endswith(("->tun_dst", "->tun_ipv6_dst"))]
    found = (_endpoint(text.removeprefix("set_field:").partition("->")[0]) for text in texts)
    return {endpoint for endpoint in found if endpoint is not None}


@lru_cache(maxsize=4096)  # hundreds of entries lead to one endpoint
def _endpoint(text: str) -> TunnelEndpoint | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _matched(key: FlowKey, name: str) -> str | None:
    head = f"{name}="
    for field in key.match:
        if field.startswith(head):
            return field[len(head) :]
    return None


def _mac_matched(key: FlowKey, name: str) -> Mac | None:
    text = _matched(key, name)
    try:
        return Mac(text) if text is not None else None
    except ValueError:
        return None  # with a mask: whose flow this was is not known any more


def _vlan_of_part(key: FlowKey) -> LocalVlan | None:
    text = _matched(key, "reg0")
    try:
        return _vlan(int(text, 16) & 0xFFF) if text is not None else None
    except ValueError:
        return None


def _vlan_matched(key: FlowKey) -> LocalVlan | None:
    text = _matched(key, "dl_vlan")
    return _vlan(int(text)) if text is not None and text.isdigit() else None


def _vlan_set_by(actions: tuple[Action, ...]) -> LocalVlan | None:
    head, tail = "set_field:", "->vlan_vid"
    text = next((action[len(head) : -len(tail)] for action in actions if action.endswith(tail)), "")
    return _vlan(int(text) - VLAN_PRESENT) if text.isdigit() else None


def _vlan(number: int) -> LocalVlan | None:
    return LocalVlan(number) if LocalVlan.LOWEST <= number <= LocalVlan.HIGHEST else None
