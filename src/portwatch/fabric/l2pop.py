"""What a network needs: FdbEntry, FloodGroup, NeighborEntry, computed from the fabric, one entry a key.

The entries are l2population's: who is reached where, who gets the floods, which addresses are answered here.
"""

from dataclasses import dataclass

from portwatch.fabric.attachment import Attachment
from portwatch.fabric.claims import Rule, answering
from portwatch.fabric.fabric import Fabric
from portwatch.model import Claim, IpAddress, Kind, LocalVlan, Mac, OfPort, Segment, TunnelEndpoint


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """(segment, MAC) is delivered to a local port or to a tunnel endpoint; *behind* are its ports here, then."""

    segment: Segment
    mac: Mac
    vlan: LocalVlan
    ofport: OfPort | None = None
    endpoint: TunnelEndpoint | None = None
    behind: tuple[OfPort, ...] = ()


@dataclass(frozen=True, slots=True)
class FloatingEntry:
    """(segment, MAC) is at no one place: flooded, and learned where it speaks. *instances*: its ports here.

    *frozen*: because it moved too often, as far as this host has seen; others may still pin it.
    """

    segment: Segment
    mac: Mac
    vlan: LocalVlan
    instances: tuple[Attachment, ...]
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class FloodGroup:
    """Who gets a segment's broadcast, unknown unicast and multicast: ports here, endpoints elsewhere."""

    segment: Segment
    vlan: LocalVlan
    ofports: tuple[OfPort, ...]
    endpoints: tuple[TunnelEndpoint, ...]


@dataclass(frozen=True, slots=True)
class NeighborEntry:
    """(segment, IP) is answered with this MAC, here."""

    segment: Segment
    vlan: LocalVlan
    address: IpAddress
    mac: Mac
    router: bool = False


def fdb_entry(fabric: Fabric, segment: Segment, mac: Mac) -> FdbEntry | None:
    """Return where frames for *mac* go; None when they are flooded."""
    vlan = fabric.vlans.of.get(segment)
    if vlan is None:
        return None
    verdict = fabric.verdict(segment, mac)
    if (claim := verdict.winner) is None:
        return None
    if claim.host == fabric.host:
        return FdbEntry(segment, mac, vlan, ofport=_attached(fabric, segment, claim).ofport)
    if (endpoint := fabric.reached_at(claim)) is None:
        return None
    behind = tuple(sorted(_attached(fabric, segment, second).ofport for second in verdict.here))
    return FdbEntry(segment, mac, vlan, endpoint=endpoint, behind=behind)


def floating_entry(fabric: Fabric, segment: Segment, mac: Mac) -> FloatingEntry | None:
    """Return whom to learn; None when the MAC is not left to flooding and learning on purpose."""
    vlan, verdict = fabric.vlans.of.get(segment), fabric.verdict(segment, mac)
    if vlan is None or verdict.rule not in (Rule.SHARED, Rule.FROZEN):
        return None
    instances = (_attached(fabric, segment, claim) for claim in verdict.here)
    ports = tuple(sorted(instances, key=lambda instance: instance.ofport))
    return FloatingEntry(segment, mac, vlan, ports, frozen=verdict.rule is Rule.FROZEN)


def flood_group(fabric: Fabric, segment: Segment) -> FloodGroup | None:
    """Return the members of the segment; None while it has no port here."""
    vlan, view = fabric.vlans.of.get(segment), fabric.segments.get(segment)
    if vlan is None or view is None:
        return None
    ofports = tuple(sorted(attachment.ofport for attachment in view.wired.values()))
    return FloodGroup(segment, vlan, ofports, tuple(sorted(view.members, key=int)))


def neighbor_entry(fabric: Fabric, segment: Segment, address: IpAddress) -> NeighborEntry | None:
    """Return the answer for *address*; None when nobody elsewhere has it, or nobody may be pinned to it."""
    vlan, view = fabric.vlans.of.get(segment), fabric.segments.get(segment)
    if vlan is None or view is None or not segment.network_type.tunnelled:
        return None
    holders = view.addresses.get(address, {}).values()
    if any(holder.port.kind is Kind.SHARED or holder.host == fabric.host for holder in holders):
        return None  # a port here that has the address answers for itself, and probes for itself
    winners: dict[Mac, Claim] = {}
    for mac in {holder.port.mac for holder in holders if holder.port.mac}:
        if (verdict := fabric.verdict(segment, mac)).winner is not None:
            winners[mac] = verdict.winner
    claim = answering(holders, winners)
    if claim is None or claim.port.mac is None or claim.host == fabric.host or fabric.reached_at(claim) is None:
        return None
    return NeighborEntry(segment, vlan, address, claim.port.mac, claim.port.routes)


def _attached(fabric: Fabric, segment: Segment, claim: Claim) -> Attachment:
    return fabric.segments[segment].wired[claim.port.port_id]
