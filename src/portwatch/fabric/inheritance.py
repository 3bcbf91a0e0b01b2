"""What the process before us left in the switch, and which of it must stay until we have heard of who wants it.

A restart must cut nobody off: entries that nobody wants *yet* stay while their network's snapshot is not settled. What
serves a tunnel endpoint of which the bus has said nothing at all stays even then: a broker that lost everything proves
nothing. ARP answers are no such entries: without one, the question is flooded.
"""

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from portwatch.fabric.fabric import Fabric
from portwatch.fabric.pipeline import Bridge
from portwatch.fabric.purpose import Purpose, accepted_peer, serves_flood
from portwatch.fabric.snapshots import Snapshots
from portwatch.model import HostName, LocalVlan, NetworkId, Segment, TunnelEndpoint
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Flow, Item, ItemKey


class Inheritance:
    """Asked by the ledgers about items that were there when we came, and that nobody wants."""

    def __init__(self, fabric: Fabric, snapshots: Snapshots, endpoints: dict[HostName, TunnelEndpoint]) -> None:
        """*endpoints* is kept by the reactor: what hosts said of themselves."""
        self._fabric = fabric
        self._snapshots = snapshots
        self._endpoints = endpoints
        self._reached: defaultdict[LocalVlan, set[TunnelEndpoint]] = defaultdict(set)
        self._stations: dict[tuple[Field, ...], frozenset[TunnelEndpoint]] = {}
        self._purposes: dict[ItemKey, tuple[Item, Purpose]] = {}
        """Read once: who restarts beside a large network is asked about each item again and again."""
        self._heard: dict[NetworkId, set[TunnelEndpoint]] = {}

    def found(self, items: Iterable[Item]) -> None:
        """A bridge held these *items* of ours when we came. They may be told in parts, and again."""
        for item in items:
            if self._knows(item):
                continue
            purpose = self._purpose(item)
            if purpose.vlan is None or not purpose.endpoints:
                continue
            self._reached[purpose.vlan] |= purpose.endpoints
            if purpose.station is not None:
                self._stations[purpose.station] = purpose.endpoints

    def heard_more(self) -> None:
        """The bus has said more: ask again."""
        self._heard.clear()

    def over(self) -> None:
        """Nothing is left of it: nobody will ask again."""
        self._purposes.clear()
        self._stations.clear()
        self._reached.clear()

    @staticmethod
    def serves_many(flow: Flow) -> bool:
        """Is this inherited for the sake of all whom a host, or a segment, has?"""
        return serves_flood(flow) or accepted_peer(flow) is not None

    def spare(self, bridge: Bridge, item: Item) -> bool:
        """Must this inherited item stay, although it is not wanted?"""
        purpose = self._purpose(item)
        if purpose.peer is not None:
            return any(self._needs(vlan, purpose.peer) for vlan in self._fabric.vlans.of.values())
        if purpose.relays:
            return any(self._waits(segment, vlan) for segment, vlan in self._fabric.vlans.of.items())
        vlan = purpose.vlan
        segment = self._fabric.vlans.segment(vlan) if vlan is not None else None
        if vlan is None or segment is None or vlan not in self._fabric.vlans.continued:
            return False  # what it served has gone: under that tag another network would inherit it
        view = self._fabric.segments.get(segment)
        if view is not None and purpose.mac in view.stations:
            return False  # those who claim it now have said what they want, and it is not this
        if not self._snapshots.settled(segment.network_id):
            return True
        served: AbstractSet[TunnelEndpoint]
        if bridge is Bridge.INTEGRATION:
            served = self._stations.get(purpose.station, frozenset()) if purpose.station is not None else frozenset()
        else:
            served = self._reached[vlan] if purpose.flood else purpose.endpoints
        return not served <= self._heard_in(segment.network_id)

    def _purpose(self, item: Item) -> Purpose:
        if not self._knows(item):
            self._purposes[item.key] = item, Purpose.of(item)
        return self._purposes[item.key][1]

    def _knows(self, item: Item) -> bool:
        known = self._purposes.get(item.key)
        return known is not None and known[0] is item

    def _waits(self, segment: Segment, vlan: LocalVlan) -> bool:
        """Is not all heard of yet to whom the segment's floods went?"""
        if vlan not in self._fabric.vlans.continued:
            return False
        unsettled = not self._snapshots.settled(segment.network_id)
        return unsettled or bool(self._reached[vlan] - self._heard_in(segment.network_id))

    def _needs(self, vlan: LocalVlan, peer: TunnelEndpoint) -> bool:
        segment = self._fabric.vlans.segment(vlan)
        if segment is None or vlan not in self._fabric.vlans.continued:
            return False
        unsettled = not self._snapshots.settled(segment.network_id)
        return unsettled or (peer in self._reached[vlan] and peer not in self._heard_in(segment.network_id))

    def _heard_in(self, network_id: NetworkId) -> set[TunnelEndpoint]:
        """Return the endpoints of which the bus has said what they have in a network."""
        if (known := self._heard.get(network_id)) is None:
            # A host of which but a part has come has not said yet what it has: its entries are still to be kept.
            whole = self._snapshots.complete(network_id)
            claimed = {claim.tunnel_ip for claim in self._fabric.heard.of_network(network_id) if claim.host in whole}
            stated = {self._endpoints.get(host) for host in whole}
            known = self._heard[network_id] = {each for each in claimed | stated if each is not None}
        return known
