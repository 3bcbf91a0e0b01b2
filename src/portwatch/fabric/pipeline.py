"""Entries to flows, one small function for each kind of entry; the numbers are those of `tables`.

Two bridges. The integration bridge admits by port and delivers explicitly; the tunnel bridge sends to the peers and
answers for what is there (docs/contract.md, section 6).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from zlib import crc32

from portwatch.fabric import l2pop, neighbors, spoofing
from portwatch.fabric.fabric import Fabric
from portwatch.fabric.keys import Base, Flood, Key, LocalFlood, Neighbor, Peer, Unicast, Wire
from portwatch.fabric.tables import (
    ANNOUNCED,
    ANNOUNCED_FOR,
    ENTRY,
    EXCEPTION,
    EXEMPTION,
    INT_CLASSIFY,
    INT_DELIVER,
    INT_FLOOD,
    INT_SOURCE,
    LEARNED,
    LEARNED_FOR,
    MISS,
    TUN_CLASSIFY,
    TUN_FLOOD,
    TUN_FLOOD_PART,
    TUN_FROM_INTEGRATION,
    TUN_FROM_TUNNEL,
    TUN_LEARN,
    TUN_NEIGHBORS,
    TUN_UNICAST,
    UNPINNED,
    programmed,
)
from portwatch.fabric.tables import COOKIE as COOKIE
from portwatch.fabric.tables import GROUPS as GROUPS
from portwatch.fabric.tables import LEARNED_COOKIE as LEARNED_COOKIE
from portwatch.fabric.tables import LEARNT as LEARNT
from portwatch.fabric.tables import OWN as OWN
from portwatch.model import IpAddress, LocalVlan, Mac, OfPort, Port, PortId, Segment, TunnelEndpoint
from portwatch.openflow import flow as of
from portwatch.openflow.bundle import Purge
from portwatch.openflow.flow import Action, Bucket, Field, Flow, FlowKey, Group, GroupKey, Item, group

GROUP_PEERS: Final = 400
"""Peers in the one group of a segment. What a packet sets off must fit into 64 KiB of datapath actions, or the switch
stops at that: after 780 copies (VXLAN over IPv4 on the userspace datapath, Open vSwitch 3.1), and says nothing."""
GROUP_PARTS: Final = 15
"""Groups to which the one group of a larger segment relays. All from the start, so that nobody changes his place when
others come. Four bits of a group id; with 0 it is the one group itself."""
AFRESH: Final = GROUPS.start
"""The group that lets a packet begin anew, with 64 KiB of its own: a group that selects by a hash of the datapath's
sends the packet back to get it (recirculation)."""
_BUCKET_MAX: Final = 0xFFFF_FF00
"""OpenFlow 1.5's OFPG_BUCKET_MAX: bucket ids are below it."""


class Bridge(StrEnum):
    """Our two bridges, by their job."""

    INTEGRATION = "integration"
    TUNNEL = "tunnel"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator chose: configuration section `ports`."""

    arp_responder: bool = True
    flood_unknown: bool = True
    anti_spoofing: bool = True
    nd_responder: bool | None = None
    """None: if the datapath can."""

    def checks(self, port: Port) -> bool:
        """Is it looked at what this port sends from?"""
        return self.anti_spoofing and not port.trusted

    def answers(self, fabric: Fabric, address: IpAddress) -> bool:
        """Is a question for such an address answered here?"""
        return self.arp_responder if isinstance(address, IPv4Address) else self.advertises(fabric)

    def advertises(self, fabric: Fabric) -> bool:
        """Are neighbour solicitations answered here?"""
        return fabric.ports.nd_extensions if self.nd_responder is None else self.nd_responder


Planned = tuple[Bridge, Item]
INT, TUN = Bridge.INTEGRATION, Bridge.TUNNEL


def plan(fabric: Fabric, policy: Policy, key: Key) -> tuple[Planned, ...]:
    """Return everything that the entry *key* needs on both bridges, from what is known now."""
    return tuple(_planned(fabric, policy, key))


def _planned(fabric: Fabric, policy: Policy, key: Key) -> Iterator[Planned]:  # noqa: C901, PLR0912 - a table
    match key:
        case Unicast(segment, mac):
            if entry := l2pop.fdb_entry(fabric, segment, mac):
                yield from unicast(fabric, entry)
            elif floating := l2pop.floating_entry(fabric, segment, mac):
                yield from floats(fabric, policy, floating)
        case Neighbor(segment, address):
            if policy.answers(fabric, address) and (neighbor := l2pop.neighbor_entry(fabric, segment, address)):
                yield from ((TUN, flow) for flow in neighbors.responder(neighbor))
        case LocalFlood(segment):
            if members := l2pop.flood_group(fabric, segment):
                yield from local_flood(fabric, members)
        case Flood(segment):
            if members := l2pop.flood_group(fabric, segment):
                yield from flood(fabric, members)
        case Wire(port_id):
            if port_id in fabric.local:
                yield from admission(fabric, policy, port_id)
        case Peer():
            if key in fabric.peers:
                yield from acceptance(fabric, key)
        case Base():
            yield from base(fabric, policy)


# --- one function for each kind of entry -------------------------------------------------------------------------


def base(fabric: Fabric, policy: Policy) -> Iterator[Planned]:
    """Drop by default; the ways through the tables."""
    yield INT, programmed(INT_CLASSIFY, MISS, (), ())
    yield INT, programmed(INT_DELIVER, ENTRY, (of.MULTICAST,), (of.goto_table(INT_FLOOD),))
    if policy.flood_unknown:
        yield INT, programmed(INT_DELIVER, MISS, (), (of.goto_table(INT_FLOOD),))
    if (patch := fabric.ports.patch_to_tunnel) is not None:
        yield INT, programmed(INT_CLASSIFY, ENTRY, (of.in_port(patch),), (of.goto_table(INT_DELIVER),))
    if policy.anti_spoofing:
        yield from ((INT, flow) for flow in spoofing.common())

    yield TUN, programmed(TUN_CLASSIFY, MISS, (), ())
    if (patch := fabric.ports.patch_to_integration) is not None and fabric.endpoint is not None:
        yield TUN, programmed(TUN_CLASSIFY, ENTRY, (of.in_port(patch),), (of.goto_table(TUN_FROM_INTEGRATION),))
        yield from learning(patch, fabric.endpoint)
    yield TUN, programmed(TUN_FROM_INTEGRATION, ENTRY, (of.UNICAST,), (of.goto_table(TUN_UNICAST),))
    yield TUN, programmed(TUN_FROM_INTEGRATION, ENTRY, (of.MULTICAST,), (of.goto_table(TUN_FLOOD),))
    to_neighbors = (of.goto_table(TUN_NEIGHBORS),)
    solicitation = (of.ICMP6, of.NEIGHBOR_SOLICITATION, of.MULTICAST)
    yield TUN, programmed(TUN_FROM_INTEGRATION, EXCEPTION, (of.ARP, of.ARP_REQUEST, of.BROADCAST), to_neighbors)
    yield TUN, programmed(TUN_FROM_INTEGRATION, EXCEPTION, solicitation, to_neighbors)
    yield TUN, programmed(TUN_NEIGHBORS, MISS, (), (of.goto_table(TUN_FLOOD),))
    yield TUN, neighbors.unanswered()
    if policy.advertises(fabric):
        yield from ((TUN, flow) for flow in neighbors.advertisement())
    if policy.flood_unknown:
        yield TUN, programmed(TUN_UNICAST, MISS, (), (of.goto_table(TUN_FLOOD),))


def learning(patch: OfPort, endpoint: TunnelEndpoint) -> Iterator[Planned]:
    """What comes by tunnel tells where its source is, and goes on to the integration bridge."""
    learn = partial(of.learn_tunnel_source, TUN_UNICAST, ip_version=endpoint.version)
    for priority, announcement, learned in _lessons(ENTRY, EXCEPTION, learn):
        yield TUN, programmed(TUN_LEARN, priority, announcement, (*learned, of.output(patch)))


def _lessons(
    usual: int, above: int, learn: Callable[..., Action]
) -> Iterator[tuple[int, tuple[Field, ...], tuple[Action, ...]]]:
    """Yield what is learned of every packet, at the *usual* priority, and of those that announce a station, *above* it.

    What announces a station is learned twice, at first for a moment and above all else that was learned: the switch
    counts the last packets of the old place up to half a second late, and learns from them again.
    """
    lasting = learn(priority=LEARNED, cookie=LEARNED_COOKIE, hard_timeout=LEARNED_FOR)
    announced = learn(priority=ANNOUNCED, cookie=LEARNED_COOKIE, hard_timeout=ANNOUNCED_FOR)
    yield usual, (), (lasting,)
    advertisement = (of.ICMP6, of.NEIGHBOR_ADVERTISEMENT, of.MULTICAST)
    for announcement in ((of.ARP, of.BROADCAST), (of.RARP,), advertisement):
        yield above, announcement, (announced, lasting)


def admission(fabric: Fabric, policy: Policy, port_id: PortId) -> Iterator[Planned]:
    """What a wired port sends is put into its segment's VLAN. It sends untagged: it can choose no VLAN itself."""
    attachment = fabric.local[port_id]
    segment = attachment.claim.port.segment
    vlan = fabric.vlans.of.get(segment) if segment else None
    if vlan is None or fabric.problem(port_id) is not None:
        return
    ofport, port = attachment.ofport, attachment.claim.port
    match = (of.in_port(ofport), of.UNTAGGED)
    yield INT, programmed(INT_CLASSIFY, ENTRY, match, (*_enter_vlan(vlan), _after_admission(policy, port)))
    if policy.checks(port):
        yield from ((INT, flow) for flow in spoofing.checks(ofport, port))


def unicast(fabric: Fabric, entry: l2pop.FdbEntry) -> Iterator[Planned]:
    """(VLAN, MAC) → the local port; or → the tunnel bridge, and there → the peer.

    What comes by tunnel for a port here that is second goes to it: it cannot go back into the tunnel, and another host
    has chosen this one, because it knows more of a migration than we do, or less.
    """
    match = (of.dl_vlan(entry.vlan), of.dl_dst(entry.mac))
    if entry.ofport is not None:
        yield INT, programmed(INT_DELIVER, ENTRY, match, (of.POP_VLAN, of.output(entry.ofport)))
    elif entry.endpoint is not None and (way := _way_out(fabric, entry.segment)) is not None:
        patch, tunnel = way
        yield INT, programmed(INT_DELIVER, ENTRY, match, (of.output(patch),))
        encapsulate = (*_enter_tunnel(entry.segment), of.set_tun_dst(entry.endpoint), of.output(tunnel))
        yield TUN, programmed(TUN_UNICAST, ENTRY, match, encapsulate)
        if entry.behind:
            yield from _delivered_from_tunnel(patch, match, entry.behind)


def floats(fabric: Fabric, policy: Policy, entry: l2pop.FloatingEntry) -> Iterator[Planned]:
    """What is at no one place is sent to all its places until it speaks, and then to where it spoke last.

    The tunnel bridge learns at which host that is; here it is learned whether it is this host at all. From its own
    ports and the tunnel only, and from a port before it is checked: its own MAC is nothing that it could feign.
    """
    here, speaks = of.dl_vlan(entry.vlan), of.dl_src(entry.mac)
    learn = partial(of.learn_source, INT_DELIVER)
    way = _way_out(fabric, entry.segment)
    if way is not None:
        for priority, announcement, learned in _lessons(EXCEPTION, EXEMPTION, partial(learn, tagged=True)):
            match = (of.in_port(way[0]), here, speaks, *announcement)
            yield INT, programmed(INT_CLASSIFY, priority, match, (*learned, of.goto_table(INT_DELIVER)))
    for instance in entry.instances:
        after = _after_admission(policy, instance.claim.port)
        for priority, announcement, learned in _lessons(EXCEPTION, EXEMPTION, partial(learn, tagged=False)):
            match = (of.in_port(instance.ofport), of.UNTAGGED, speaks, *announcement)
            yield INT, programmed(INT_CLASSIFY, priority, match, (*_enter_vlan(entry.vlan), *learned, after))
    station = (here, of.dl_dst(entry.mac))
    if entry.instances:
        tagged = (of.output(way[0]),) if way else ()
        untagged = tuple(of.output(instance.ofport) for instance in entry.instances)
        yield INT, programmed(INT_DELIVER, UNPINNED, station, (*tagged, of.POP_VLAN, *untagged))
        if way is not None and len(entry.instances) == 1:  # whatever was learned
            yield from _delivered_from_tunnel(way[0], station, (entry.instances[0].ofport,))
    elif not policy.flood_unknown:
        yield INT, programmed(INT_DELIVER, UNPINNED, station, (of.goto_table(INT_FLOOD),))
    if way is not None and not policy.flood_unknown:
        yield TUN, programmed(TUN_UNICAST, UNPINNED, station, (of.goto_table(TUN_FLOOD),))


def _delivered_from_tunnel(patch: OfPort, station: tuple[Field, ...], ofports: Iterable[OfPort]) -> Iterator[Planned]:
    outputs = (of.output(ofport) for ofport in ofports)
    yield INT, programmed(INT_DELIVER, EXCEPTION, (of.in_port(patch), *station), (of.POP_VLAN, *outputs))


def local_flood(fabric: Fabric, members: l2pop.FloodGroup) -> Iterator[Planned]:
    """A copy to each local port, and one, tagged, to the tunnel bridge.

    OpenFlow never sends a packet back to the port it came from, so these outputs serve all directions.
    """
    way = _way_out(fabric, members.segment)
    tagged = (of.output(way[0]),) if way else ()
    untagged = tuple(of.output(ofport) for ofport in members.ofports)
    yield INT, programmed(INT_FLOOD, ENTRY, (of.dl_vlan(members.vlan),), (*tagged, of.POP_VLAN, *untagged))


def flood(fabric: Fabric, members: l2pop.FloodGroup) -> Iterator[Planned]:
    """What comes by tunnel is put into the segment's VLAN; what floods there goes to each peer."""
    segment, vlan = members.segment, members.vlan
    way = _way_out(fabric, segment)
    if way is None or segment.vni is None:
        return
    table = TUN_FROM_TUNNEL[segment.network_type]
    arrive = (*_enter_vlan(vlan), of.goto_table(TUN_LEARN))
    yield TUN, programmed(table, ENTRY, (of.tun_id(segment.vni),), arrive)
    parts = flood_parts(members.endpoints)
    for number, part in parts.items():
        buckets = tuple(_bucket(bucket, endpoint, way[1]) for bucket, endpoint in bucket_ids(part).items())
        yield TUN, group(group_id(vlan, number), buckets)
    if parts and 0 not in parts:
        yield from relay(vlan, parts)
    if parts:
        all_of_it = of.to_group(group_id(vlan))
        yield TUN, programmed(TUN_FLOOD, ENTRY, (of.dl_vlan(vlan),), (*_enter_tunnel(segment), all_of_it))


def relay(vlan: LocalVlan, parts: Iterable[int]) -> Iterator[Planned]:
    """Let a flood begin anew for each part of its peers: in one go the switch would stop after some hundred copies."""
    yield TUN, Group(GroupKey(AFRESH), (Bucket(0, (of.resubmit(TUN_FLOOD_PART),)),), of.HASHED)
    ids = {number: group_id(vlan, number) for number in parts}
    buckets = (Bucket(number, (of.set_reg0(part), of.to_group(AFRESH))) for number, part in ids.items())
    yield TUN, group(group_id(vlan), tuple(buckets))
    for part in ids.values():
        yield TUN, programmed(TUN_FLOOD_PART, ENTRY, (of.reg0(part),), (of.to_group(part),))


@lru_cache(maxsize=65536)
def _bucket(number: int, endpoint: TunnelEndpoint, tunnel: OfPort) -> Bucket:
    return Bucket(number, (of.set_tun_dst(endpoint), of.output(tunnel)))


def acceptance(fabric: Fabric, peer: Peer) -> Iterator[Planned]:
    """Packets from a known peer's address are taken in; from anyone else they are dropped."""
    if (tunnel := fabric.ports.tunnel(peer.network_type)) is not None:
        match = (of.in_port(tunnel), of.tun_src(peer.endpoint))
        yield TUN, programmed(TUN_CLASSIFY, ENTRY, match, (of.goto_table(TUN_FROM_TUNNEL[peer.network_type]),))


# --- numbers that follow from values -----------------------------------------------------------------------------


def group_id(vlan: LocalVlan, part: int = 0) -> int:
    """Return the id of a flood group of the segment with this VLAN: the low twelve bits are the VLAN."""
    return GROUPS.start + (part << 12) + vlan


def flood_parts(endpoints: tuple[TunnelEndpoint, ...]) -> dict[int, tuple[TunnelEndpoint, ...]]:
    """Share a segment's peers out among its groups, so that each stays where it is when others come and go.

    Small groups serve the read-back, too: the reply to a dump is one OpenFlow message of 64 KiB for each group, and
    ovs-vswitchd (3.1 to 3.7) ends itself when a group does not fit (1,364 peers with IPv6 addresses do).
    """
    if len(endpoints) <= GROUP_PEERS:
        return {0: endpoints} if endpoints else {}
    parts: dict[int, list[TunnelEndpoint]] = {}
    for endpoint in endpoints:
        parts.setdefault(1 + crc32(endpoint.packed) % GROUP_PARTS, []).append(endpoint)
    return {part: tuple(parts[part]) for part in sorted(parts)}


def bucket_ids(endpoints: tuple[TunnelEndpoint, ...]) -> dict[int, TunnelEndpoint]:
    """Return a bucket id for each endpoint: the address itself for IPv4, so that a peer has the same one for ever.

    IPv6 addresses do not fit and are hashed; should two meet, the higher one moves on. OpenFlow 1.5.1, 7.2.2.3.
    """
    ids: dict[int, TunnelEndpoint] = {}
    for endpoint in sorted(endpoints, key=int):
        number = crc32(endpoint.packed) if isinstance(endpoint, IPv6Address) else int(endpoint)
        while (number := number % _BUCKET_MAX) in ids:
            number += 1
        ids[number] = endpoint
    return ids


# --- what a read-back needs to know ------------------------------------------------------------------------------


def is_ours(item: Item) -> bool:
    """Did portwatch program this? Learned flows aside: the switch makes those."""
    if isinstance(item, Group):
        return item.key.group_id in GROUPS
    return OWN.holds(item) and item.cookie != LEARNED_COOKIE


def farewell(item: Flow) -> tuple[Purge, ...]:
    """Return which learned flows leave with a flow: they go with their entry, network or port."""
    if item.table == TUN_UNICAST and (vlan := _vlan_matched(item.key)) is not None:
        station = tuple(field for field in item.key.match if field.startswith("dl_dst="))
        return (Purge(LEARNT, TUN_UNICAST, (of.learned_vlan(vlan), *station)),)
    if item.table in TUN_FROM_TUNNEL.values() and (vlan := _vlan_set_by(item.actions)) is not None:
        return (Purge(LEARNT, TUN_UNICAST, (of.learned_vlan(vlan),)),)
    if item.table == INT_CLASSIFY and item.key.priority == EXCEPTION:
        # A port that is learned no more may have gone, and its number may be another's next.
        vlan, mac = _vlan_matched(item.key) or _vlan_set_by(item.actions), _matched(item.key, "dl_src")
        if vlan is not None and mac is not None:
            return (Purge(LEARNT, INT_DELIVER, (of.learned_vlan(vlan), of.dl_dst(Mac(mac)))),)
    return ()


def depends_on(item: Item) -> LocalVlan | None:
    """Return the VLAN of the segment whose remote claims may want *item*; None when local state alone decides."""
    if isinstance(item, Group):
        return _vlan(item.key.group_id & 0xFFF)
    if item.table == TUN_FLOOD_PART:
        return _vlan(int(item.key.match[0].partition("=")[2], 16) & 0xFFF)
    if item.table in (INT_CLASSIFY, INT_DELIVER, TUN_UNICAST, TUN_NEIGHBORS, TUN_FLOOD):
        return _vlan_matched(item.key)
    return None


def accepted_peer(item: Item) -> TunnelEndpoint | None:
    """Return the endpoint whose packets *item* takes in: wanted for the sake of any segment."""
    if isinstance(item, Group):
        return None
    heads = ("tun_src=", "tun_ipv6_src=")
    found = (ip_address(field.partition("=")[2]) for field in item.key.match if field.startswith(heads))
    return next(found, None)


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
    texts = (action.removeprefix("set_field:").partition("->") for action in actions)
    return {ip_address(value) for value, _, field in texts if field in ("tun_dst", "tun_ipv6_dst")}


def _matched(key: FlowKey, name: str) -> str | None:
    words = (field.partition("=") for field in key.match)
    return next((value for field, _, value in words if field == name), None)


def _vlan_matched(key: FlowKey) -> LocalVlan | None:
    text = _matched(key, "dl_vlan")
    return _vlan(int(text)) if text is not None and text.isdigit() else None


def _vlan_set_by(actions: tuple[Action, ...]) -> LocalVlan | None:
    head, tail = "set_field:", "->vlan_vid"
    text = next((action[len(head) : -len(tail)] for action in actions if action.endswith(tail)), "")
    return _vlan(int(text) - of.VLAN_PRESENT) if text.isdigit() else None


def _vlan(number: int) -> LocalVlan | None:
    return LocalVlan(number) if LocalVlan.LOWEST <= number <= LocalVlan.HIGHEST else None


def _way_out(fabric: Fabric, segment: Segment) -> tuple[OfPort, OfPort] | None:
    """Return the patch port and the tunnel port of a segment that can leave this host."""
    if segment.vni is None or fabric.endpoint is None:
        return None
    patch, tunnel = fabric.ports.patch_to_tunnel, fabric.ports.tunnel(segment.network_type)
    return None if patch is None or tunnel is None else (patch, tunnel)


def _enter_vlan(vlan: LocalVlan) -> tuple[Action, ...]:
    return of.PUSH_VLAN, of.set_vlan_vid(vlan)


def _after_admission(policy: Policy, port: Port) -> Action:
    return of.goto_table(INT_SOURCE if policy.checks(port) else INT_DELIVER)


def _enter_tunnel(segment: Segment) -> tuple[Action, ...]:
    assert segment.vni is not None, "only tunnelled segments have a way out"
    return of.POP_VLAN, of.set_tun_id(segment.vni)
