"""Entries to flows, one small function for each kind of entry; the numbers are those of `tables`.

Two bridges. The integration bridge admits by port and delivers explicitly; the tunnel bridge sends to the peers and
answers for what is there (docs/contract.md, section 6).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from ipaddress import IPv4Address

from portwatch.fabric import l2pop, neighbors, spoofing
from portwatch.fabric.fabric import Fabric
from portwatch.fabric.groups import AFRESH, bucket_ids, flood_parts, group_id
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
    LEARNED_COOKIE,
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
from portwatch.model import IpAddress, LocalVlan, OfPort, Port, PortId, Segment, TunnelEndpoint
from portwatch.openflow import actions, fields
from portwatch.openflow.actions import Action
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import HASHED, Bucket, Group, GroupKey, Item, group


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
    yield INT, programmed(INT_DELIVER, ENTRY, (fields.MULTICAST,), (actions.goto_table(INT_FLOOD),))
    if policy.flood_unknown:
        yield INT, programmed(INT_DELIVER, MISS, (), (actions.goto_table(INT_FLOOD),))
    if (patch := fabric.ports.patch_to_tunnel) is not None:
        yield INT, programmed(INT_CLASSIFY, ENTRY, (fields.in_port(patch),), (actions.goto_table(INT_DELIVER),))
    if policy.anti_spoofing:
        yield from ((INT, flow) for flow in spoofing.common())

    yield TUN, programmed(TUN_CLASSIFY, MISS, (), ())
    if (patch := fabric.ports.patch_to_integration) is not None and fabric.endpoint is not None:
        onward = (actions.goto_table(TUN_FROM_INTEGRATION),)
        yield TUN, programmed(TUN_CLASSIFY, ENTRY, (fields.in_port(patch),), onward)
        yield from learning(patch, fabric.endpoint)
    yield TUN, programmed(TUN_FROM_INTEGRATION, ENTRY, (fields.UNICAST,), (actions.goto_table(TUN_UNICAST),))
    yield TUN, programmed(TUN_FROM_INTEGRATION, ENTRY, (fields.MULTICAST,), (actions.goto_table(TUN_FLOOD),))
    to_neighbors = (actions.goto_table(TUN_NEIGHBORS),)
    request = (fields.ARP, fields.ARP_REQUEST, fields.BROADCAST)
    solicitation = (fields.ICMP6, fields.NEIGHBOR_SOLICITATION, fields.MULTICAST)
    yield TUN, programmed(TUN_FROM_INTEGRATION, EXCEPTION, request, to_neighbors)
    yield TUN, programmed(TUN_FROM_INTEGRATION, EXCEPTION, solicitation, to_neighbors)
    yield TUN, programmed(TUN_NEIGHBORS, MISS, (), (actions.goto_table(TUN_FLOOD),))
    yield TUN, neighbors.unanswered()
    if policy.advertises(fabric):
        yield from ((TUN, flow) for flow in neighbors.advertisement())
    if policy.flood_unknown:
        yield TUN, programmed(TUN_UNICAST, MISS, (), (actions.goto_table(TUN_FLOOD),))


def learning(patch: OfPort, endpoint: TunnelEndpoint) -> Iterator[Planned]:
    """What comes by tunnel tells where its source is, and goes on to the integration bridge."""
    learn = partial(actions.learn_tunnel_source, TUN_UNICAST, ip_version=endpoint.version)
    for priority, announcement, learned in _lessons(ENTRY, EXCEPTION, learn):
        yield TUN, programmed(TUN_LEARN, priority, announcement, (*learned, actions.output(patch)))


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
    advertisement = (fields.ICMP6, fields.NEIGHBOR_ADVERTISEMENT, fields.MULTICAST)
    for announcement in ((fields.ARP, fields.BROADCAST), (fields.RARP,), advertisement):
        yield above, announcement, (announced, lasting)


def admission(fabric: Fabric, policy: Policy, port_id: PortId) -> Iterator[Planned]:
    """What a wired port sends is put into its segment's VLAN. It sends untagged: it can choose no VLAN itself."""
    attachment = fabric.local[port_id]
    segment = attachment.claim.port.segment
    vlan = fabric.vlans.of.get(segment) if segment else None
    if vlan is None or fabric.problem(port_id) is not None:
        return
    ofport, port = attachment.ofport, attachment.claim.port
    match = (fields.in_port(ofport), fields.UNTAGGED)
    yield INT, programmed(INT_CLASSIFY, ENTRY, match, (*_enter_vlan(vlan), _after_admission(policy, port)))
    if policy.checks(port):
        yield from ((INT, flow) for flow in spoofing.checks(ofport, port))


def unicast(fabric: Fabric, entry: l2pop.FdbEntry) -> Iterator[Planned]:
    """(VLAN, MAC) → the local port; or → the tunnel bridge, and there → the peer.

    What comes by tunnel for a port here that is second goes to it: it cannot go back into the tunnel, and another host
    has chosen this one, because it knows more of a migration than we do, or less.
    """
    match = (fields.dl_vlan(entry.vlan), fields.dl_dst(entry.mac))
    if entry.ofport is not None:
        yield INT, programmed(INT_DELIVER, ENTRY, match, (actions.POP_VLAN, actions.output(entry.ofport)))
    elif entry.endpoint is not None and (way := _way_out(fabric, entry.segment)) is not None:
        patch, tunnel = way
        yield INT, programmed(INT_DELIVER, ENTRY, match, (actions.output(patch),))
        encapsulate = (*_enter_tunnel(entry.segment), actions.set_tun_dst(entry.endpoint), actions.output(tunnel))
        yield TUN, programmed(TUN_UNICAST, ENTRY, match, encapsulate)
        if entry.behind:
            yield from _delivered_from_tunnel(patch, match, entry.behind)


def floats(fabric: Fabric, policy: Policy, entry: l2pop.FloatingEntry) -> Iterator[Planned]:
    """What is at no one place is sent to all its places until it speaks, and then to where it spoke last.

    The tunnel bridge learns at which host that is; here it is learned whether it is this host at all. From its own
    ports and the tunnel only, and from a port before it is checked: its own MAC is nothing that it could feign.
    """
    here, speaks = fields.dl_vlan(entry.vlan), fields.dl_src(entry.mac)
    learn = partial(actions.learn_source, INT_DELIVER)
    way = _way_out(fabric, entry.segment)
    if way is not None:
        for priority, announcement, learned in _lessons(EXCEPTION, EXEMPTION, partial(learn, tagged=True)):
            match = (fields.in_port(way[0]), here, speaks, *announcement)
            yield INT, programmed(INT_CLASSIFY, priority, match, (*learned, actions.goto_table(INT_DELIVER)))
    for instance in entry.instances:
        after = _after_admission(policy, instance.claim.port)
        for priority, announcement, learned in _lessons(EXCEPTION, EXEMPTION, partial(learn, tagged=False)):
            match = (fields.in_port(instance.ofport), fields.UNTAGGED, speaks, *announcement)
            yield INT, programmed(INT_CLASSIFY, priority, match, (*_enter_vlan(entry.vlan), *learned, after))
    station = (here, fields.dl_dst(entry.mac))
    if entry.instances:
        tagged = (actions.output(way[0]),) if way else ()
        untagged = tuple(actions.output(instance.ofport) for instance in entry.instances)
        yield INT, programmed(INT_DELIVER, UNPINNED, station, (*tagged, actions.POP_VLAN, *untagged))
        if way is not None and (len(entry.instances) == 1 or entry.frozen):  # whatever was learned
            yield from _delivered_from_tunnel(way[0], station, (each.ofport for each in entry.instances))
    elif not policy.flood_unknown:
        yield INT, programmed(INT_DELIVER, UNPINNED, station, (actions.goto_table(INT_FLOOD),))
    if way is not None and not policy.flood_unknown:
        yield TUN, programmed(TUN_UNICAST, UNPINNED, station, (actions.goto_table(TUN_FLOOD),))


def _delivered_from_tunnel(patch: OfPort, station: tuple[Field, ...], ofports: Iterable[OfPort]) -> Iterator[Planned]:
    outputs = (actions.output(ofport) for ofport in ofports)
    yield INT, programmed(INT_DELIVER, EXCEPTION, (fields.in_port(patch), *station), (actions.POP_VLAN, *outputs))


def local_flood(fabric: Fabric, members: l2pop.FloodGroup) -> Iterator[Planned]:
    """A copy to each local port, and one, tagged, to the tunnel bridge.

    OpenFlow never sends a packet back to the port it came from, so these outputs serve all directions.
    """
    way = _way_out(fabric, members.segment)
    tagged = (actions.output(way[0]),) if way else ()
    untagged = tuple(actions.output(ofport) for ofport in members.ofports)
    yield INT, programmed(INT_FLOOD, ENTRY, (fields.dl_vlan(members.vlan),), (*tagged, actions.POP_VLAN, *untagged))


def flood(fabric: Fabric, members: l2pop.FloodGroup) -> Iterator[Planned]:
    """What comes by tunnel is put into the segment's VLAN; what floods there goes to each peer."""
    segment, vlan = members.segment, members.vlan
    way = _way_out(fabric, segment)
    if way is None or segment.vni is None:
        return
    table = TUN_FROM_TUNNEL[segment.network_type]
    arrive = (*_enter_vlan(vlan), actions.goto_table(TUN_LEARN))
    yield TUN, programmed(table, ENTRY, (fields.tun_id(segment.vni),), arrive)
    parts = flood_parts(members.endpoints)
    for number, part in parts.items():
        buckets = tuple(_bucket(bucket, endpoint, way[1]) for bucket, endpoint in bucket_ids(part).items())
        yield TUN, group(group_id(vlan, number), buckets)
    if parts and 0 not in parts:
        yield from relay(vlan, parts)
    if parts:
        all_of_it = actions.to_group(group_id(vlan))
        yield TUN, programmed(TUN_FLOOD, ENTRY, (fields.dl_vlan(vlan),), (*_enter_tunnel(segment), all_of_it))


def relay(vlan: LocalVlan, parts: Iterable[int]) -> Iterator[Planned]:
    """Let a flood begin anew for each part of its peers: in one go the switch would stop after some hundred copies."""
    yield TUN, Group(GroupKey(AFRESH), (Bucket(0, (actions.resubmit(TUN_FLOOD_PART),)),), HASHED)
    ids = {number: group_id(vlan, number) for number in parts}
    buckets = (Bucket(number, (actions.set_reg0(part), actions.to_group(AFRESH))) for number, part in ids.items())
    yield TUN, group(group_id(vlan), tuple(buckets))
    for part in ids.values():
        yield TUN, programmed(TUN_FLOOD_PART, ENTRY, (fields.reg0(part),), (actions.to_group(part),))


@lru_cache(maxsize=65536)
def _bucket(number: int, endpoint: TunnelEndpoint, tunnel: OfPort) -> Bucket:
    return Bucket(number, (actions.set_tun_dst(endpoint), actions.output(tunnel)))


def acceptance(fabric: Fabric, peer: Peer) -> Iterator[Planned]:
    """Packets from a known peer's address are taken in; from anyone else they are dropped."""
    if (tunnel := fabric.ports.tunnel(peer.network_type)) is not None:
        match = (fields.in_port(tunnel), fields.tun_src(peer.endpoint))
        yield TUN, programmed(TUN_CLASSIFY, ENTRY, match, (actions.goto_table(TUN_FROM_TUNNEL[peer.network_type]),))


def _way_out(fabric: Fabric, segment: Segment) -> tuple[OfPort, OfPort] | None:
    """Return the patch port and the tunnel port of a segment that can leave this host."""
    if segment.vni is None or fabric.endpoint is None:
        return None
    patch, tunnel = fabric.ports.patch_to_tunnel, fabric.ports.tunnel(segment.network_type)
    return None if patch is None or tunnel is None else (patch, tunnel)


def _enter_vlan(vlan: LocalVlan) -> tuple[Action, ...]:
    return actions.PUSH_VLAN, actions.set_vlan_vid(vlan)


def _after_admission(policy: Policy, port: Port) -> Action:
    return actions.goto_table(INT_SOURCE if policy.checks(port) else INT_DELIVER)


def _enter_tunnel(segment: Segment) -> tuple[Action, ...]:
    assert segment.vni is not None, "only tunnelled segments have a way out"
    return actions.POP_VLAN, actions.set_tun_id(segment.vni)
