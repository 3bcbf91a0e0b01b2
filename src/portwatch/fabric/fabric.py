"""What we know: claims, local attachments, the switch's own ports. Feed it, and it says which entries were touched.

A touched key names an entry that may have changed; what the entry now is, `l2pop` and `pipeline` compute from here.
One event touches only what it concerns, whatever the size of the network.
"""

from collections import Counter
from collections.abc import Iterable

from portwatch.events import ClaimKey, key_of
from portwatch.fabric.admission import Admission
from portwatch.fabric.attachment import Attachment, SwitchPorts
from portwatch.fabric.claims import Verdict, winner
from portwatch.fabric.heard import Heard
from portwatch.fabric.keys import Base, Flood, LocalFlood, Neighbor, Peer, Touched, Unicast, Wire
from portwatch.fabric.moves import Moves
from portwatch.fabric.residences import Residence, Residences
from portwatch.fabric.segments import SegmentView
from portwatch.model import (
    Claim,
    HostName,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Port,
    PortId,
    Segment,
    TunnelEndpoint,
)


class Fabric:
    """Everything known on this host about ports, its own and the others'."""

    def __init__(self, host: HostName, endpoint: TunnelEndpoint | None) -> None:
        self.host = host
        self.endpoint = endpoint
        self.ports = SwitchPorts()
        self.local: dict[PortId, Attachment] = {}
        self.heard = Heard()
        self.segments: dict[Segment, SegmentView] = {}
        self.peers: Counter[Peer] = Counter()
        self.tunnel_types: Counter[NetworkType] = Counter()
        """The types of tunnels that the segments wired here need, and how many do."""
        self.apart: set[Segment] = set()
        """Segments of our networks that only others have: they disagree with us, or our ports are not wired yet."""
        self.moves = Moves()
        self.dismissed: set[HostName] = set()
        """Hosts that are gone for longer than is waited for them: their claims do not count."""
        self.residences = Residences(host, endpoint)
        self._admission = Admission()
        self.vlans = self._admission.vlans
        self._networks: dict[NetworkId, set[PortId]] = {}
        self._comings_and_goings = 0
        """Of networks."""
        self._left: set[NetworkId] = set()

    # --- what is here --------------------------------------------------------------------------------------------

    def attach(self, claim: Claim, ofport: OfPort, hint: LocalVlan | None = None) -> Touched:
        """A port of ours is here, or is here as before with other properties. *hint* is the VLAN it had before."""
        port_id = claim.port.port_id
        touched: Touched = set()
        before = self.local.get(port_id)
        after = Attachment(claim, ofport)
        if before is not None and before.claim.port.network_id != claim.port.network_id:
            touched |= self.detach(port_id)
            before = None
        self.local[port_id] = after
        if (network_id := claim.port.network_id) is not None and before is None:
            if network_id not in self._networks:
                self._comings_and_goings += 1
            self._networks.setdefault(network_id, set()).add(port_id)
        was = before.claim.port.segment if before and port_id not in self._admission.waiting else None
        now = self._admission.admit(claim.port, hint)
        if before and was and was == now:
            return touched | self._rewire(was, before, after)
        if before and was:
            touched |= self._unwire(was, before)
        if now:
            touched |= self._wire(now, after)
        self._drop_if_empty(was)
        return touched

    def detach(self, port_id: PortId) -> Touched:
        """A port of ours has gone. No message can do this: only OVSDB."""
        before = self.local.pop(port_id, None)
        if before is None:
            return set()
        touched: Touched = set()
        segment = before.claim.port.segment
        if self._admission.waiting.pop(port_id, None) is None and segment:
            touched |= self._unwire(segment, before)
            self._drop_if_empty(segment)
        if (network_id := before.claim.port.network_id) is not None:
            ports = self._networks[network_id]
            ports.discard(port_id)
            if not ports:
                del self._networks[network_id]
                self._left.add(network_id)
                self._comings_and_goings += 1
        return touched

    def prune(self) -> Touched:
        """Forget what others say about the networks that have no port here any more: after a batch of changes."""
        touched: Touched = set()
        for network_id in self._left - self._networks.keys():
            touched |= self._forget_network(network_id)
        self._left.clear()
        return touched

    def retry_waiting(self) -> tuple[Touched, set[PortId]]:
        """Wire the ports that waited for a VNI or a VLAN and can have it now; return also which."""
        touched: Touched = set()
        admitted: set[PortId] = set()
        if not self._admission.has_room():
            return touched, admitted
        for port_id in list(self._admission.waiting):
            attachment = self.local[port_id]
            if segment := self._admission.admit(attachment.claim.port, None):
                touched |= self._wire(segment, attachment)
                admitted.add(port_id)
        return touched, admitted

    def problem(self, port_id: PortId) -> str | None:
        """Return why an attached port is not wired (`code: words`), or None when it is."""
        return self._admission.waiting.get(port_id)

    def lacks_tunnel(self, port_id: PortId) -> bool:
        """Must a tunnel port be made before an attached port can reach the other hosts?"""
        network_type = self.local[port_id].claim.port.network_type
        return network_type.tunnelled and self.endpoint is not None and self.ports.tunnel(network_type) is None

    def set_ports(self, ports: SwitchPorts) -> Touched:
        """The switch's own ports are these now: everything that names one of them is touched."""
        if ports == self.ports:
            return set()
        self.ports = ports
        return self.everything()

    # --- what the others say -------------------------------------------------------------------------------------

    def feed(self, claim: Claim) -> Touched:
        """Another host's claim is this now. Claims of networks that have no port here are not held."""
        if claim.host == self.host or not self.hosts(claim.port.network_id):
            return set()
        before = self.heard.put(claim)
        return set() if before == claim else self._replace(before, claim)

    def withdraw(self, key: ClaimKey) -> Touched:
        """A claim has ended. This deletes nothing by itself: what follows is computed from the claims that remain."""
        before = self.heard.pop(key)
        return self._replace(before, None) if before else set()

    def hosts(self, network_id: NetworkId | None) -> bool:
        """Has this network a port here?"""
        return network_id in self._networks

    @property
    def networks(self) -> Iterable[NetworkId]:
        """The networks that have a port here: the ones to listen to."""
        return self._networks.keys()

    @property
    def interest(self) -> tuple[int, int]:
        """Another one when `networks`, or the hosts heard of, are others: what to listen to on the bus."""
        return self._comings_and_goings, self.heard.changes

    def segments_of(self, network_id: NetworkId) -> set[Segment]:
        """Return what the ports here call a network; several, if they disagree."""
        ports = (self.local[port_id].claim.port for port_id in self._networks.get(network_id, ()))
        return {port.segment for port in ports if port.segment is not None}

    # --- questions -----------------------------------------------------------------------------------------------

    def rivals(self, port: Port) -> list[Claim]:
        """Return the other hosts' claims of this port or of its MAC, in its network."""
        keys = set(self.heard.of_port(port.network_id, port.port_id))
        view = self.segments.get(port.segment) if port.segment else None
        if view is not None and port.mac is not None:
            keys |= {key for key in view.stations.get(port.mac, ()) if key[1] != self.host}
        return [self.heard.claims[key] for key in keys]

    def counts(self, claim: Claim) -> bool:
        """May another host's claim win here at all? mobility.md, rule 1, and the same address twice."""
        return claim.forwards and claim.host not in self.dismissed and self.residences.may_tunnel(claim)

    def reached_at(self, claim: Claim) -> TunnelEndpoint | None:
        """Return where a claim's host is reached from here: not at our own address, nor over the other IP version."""
        endpoint = claim.tunnel_ip
        if self.endpoint is None or endpoint is None or endpoint == self.endpoint:
            return None
        return endpoint if endpoint.version == self.endpoint.version else None

    def verdict(self, segment: Segment, mac: Mac) -> Verdict:
        """Return who gets the frames for *mac*."""
        view = self.segments.get(segment)
        claims = view.stations.get(mac, {}).values() if view else ()
        return winner(claims, self.host, frozen=(segment, mac) in self.moves.frozen)

    def watch_move(self, segment: Segment, mac: Mac, clock: float) -> Touched:
        """Something about a station's claims has changed: follow its winner, and freeze or thaw it."""
        view = self.segments.get(segment)
        claims = view.stations.get(mac) if view else None
        if view is None or not claims:
            self.moves.forget((segment, mac))
            return set()
        verdict = winner(claims.values(), None)  # that all hosts count the same moves
        changed = self.moves.observe((segment, mac), verdict.winner.host if verdict.winner else None, clock)
        if len(claims) == 1:
            changed |= self.moves.settle_down((segment, mac))
        return view.around(mac) if changed else set()

    def thaw(self, clock: float) -> Touched:
        """Let go of the stations that have been quiet for long."""
        touched: Touched = set()
        for segment, mac in self.moves.quiet(clock):
            view = self.segments.get(segment)
            if view is not None and mac in view.stations:
                touched |= view.around(mac)
        return touched

    def dismiss(self, host: HostName) -> Touched:
        """A host is gone for too long: its claims do not count any more (mobility.md, rule 1). They are still held."""
        if host in self.dismissed:
            return set()
        held = self.heard.of_hosts({host})
        touched = {each for claim in held for each in self._replace(claim, None, held=True)}
        self.dismissed.add(host)
        return touched

    def readmit(self, host: HostName) -> Touched:
        """A dismissed host is back: its claims count again."""
        if host not in self.dismissed:
            return set()
        self.dismissed.discard(host)
        held = self.heard.of_hosts({host})
        return {each for claim in held for each in self._replace(None, claim, held=True)}

    def resides(self, host: HostName, residence: Residence | None) -> Touched:
        """A living host, this one perhaps, has a tunnel address since then; None: it does not live, or has none."""
        return {key for endpoint in self.residences.resides(host, residence) for key in self._settle_holder(endpoint)}

    def everything(self) -> Touched:
        """Return the key of every entry there is: for a full recompute."""
        touched: Touched = {Base()}
        touched.update(self.peers)
        for segment, view in self.segments.items():
            touched.update((LocalFlood(segment), Flood(segment)))
            touched.update(Unicast(segment, mac) for mac in view.stations)
            touched.update(Neighbor(segment, address) for address in view.addresses)
            touched.update(Wire(port_id) for port_id in view.wired)
        return touched

    # --- within --------------------------------------------------------------------------------------------------

    def _wire(self, segment: Segment, attachment: Attachment) -> Touched:
        view = self.segments.setdefault(segment, SegmentView(segment))
        touched: Touched = {Wire(attachment.claim.port.port_id), LocalFlood(segment)}
        if not view.wired:
            self.apart.discard(segment)
            if segment.network_type.tunnelled:
                self.tunnel_types[segment.network_type] += 1
            touched.add(Flood(segment))
            # The segment's first port here: it has a VLAN now, and all that is known of it becomes entries.
            touched.update(Unicast(segment, mac) for mac in view.stations)
            touched.update(Neighbor(segment, address) for address in view.addresses)
            touched.update([self._meet(segment, endpoint) for endpoint in view.members])
        view.wired[attachment.claim.port.port_id] = attachment
        return touched | view.index(attachment.claim)

    def _rewire(self, segment: Segment, before: Attachment, after: Attachment) -> Touched:
        view = self.segments[segment]
        view.wired[after.claim.port.port_id] = after
        touched: Touched = {Wire(after.claim.port.port_id), LocalFlood(segment)}
        return touched | view.unindex(before.claim) | view.index(after.claim)

    def _unwire(self, segment: Segment, attachment: Attachment) -> Touched:
        view = self.segments[segment]
        port_id = attachment.claim.port.port_id
        touched: Touched = {Wire(port_id), LocalFlood(segment)}
        touched |= view.unindex(attachment.claim)
        del view.wired[port_id]
        if not view.wired:
            touched.add(Flood(segment))
            self.apart.add(segment)
            if segment.network_type.tunnelled:
                self.tunnel_types -= Counter((segment.network_type,))
            self._admission.release(segment)
            touched.update(Unicast(segment, mac) for mac in view.stations)
            touched.update(Neighbor(segment, address) for address in view.addresses)
            touched.update([self._part(segment, endpoint) for endpoint in view.members])
        return touched

    def _replace(self, before: Claim | None, after: Claim | None, *, held: bool = False) -> Touched:
        """Put *after* where *before* was in the indexes. *held*: the claim itself is held before and after."""
        touched: Touched = set()
        old = before.port.segment if before and self.counts(before) else None
        new = after.port.segment if after and self.counts(after) else None
        if before and old:
            touched |= self._leave(old, before)
        if after and new:
            view = self.segments.setdefault(new, SegmentView(new))
            if not view.wired:
                self.apart.add(new)
            touched |= view.index(after)
            if (endpoint := self.reached_at(after)) is not None:
                view.members[endpoint] += 1
                if view.members[endpoint] == 1:
                    touched.add(Flood(new))
                    if view.wired:
                        touched.add(self._meet(new, endpoint))
        if old:
            self._drop_if_empty(old)
        return touched | (self._relocate(before, after) if not held else set())

    def _relocate(self, before: Claim | None, after: Claim | None) -> Touched:
        """A claim names another tunnel address now, or is the first or the last of its host to name it."""
        return {key for endpoint in self.residences.named(before, after) for key in self._settle_holder(endpoint)}

    def _settle_holder(self, endpoint: TunnelEndpoint) -> Touched:
        """Let the claims count of whoever holds a tunnel address by now, and nobody else's."""
        residences = self.residences
        holder = residences.rightful(endpoint)
        if holder == residences.holders.get(endpoint):
            return set()
        hosts = residences.affected(endpoint, holder)
        held = [claim for claim in self.heard.of_hosts(hosts) if claim.tunnel_ip == endpoint]
        touched = {each for claim in held for each in self._replace(claim, None, held=True)}
        residences.hold(endpoint, holder)
        return touched | {each for claim in held for each in self._replace(None, claim, held=True)}

    def _leave(self, segment: Segment, claim: Claim) -> Touched:
        view = self.segments.get(segment)
        if view is None:
            return set()  # the claim has neither MAC nor address nor endpoint: it left no trace
        touched = view.unindex(claim)
        if (endpoint := self.reached_at(claim)) is not None:
            view.members[endpoint] -= 1
            if not view.members[endpoint]:
                del view.members[endpoint]
                touched.add(Flood(segment))
                if view.wired:
                    touched.add(self._part(segment, endpoint))
        return touched

    def _meet(self, segment: Segment, endpoint: TunnelEndpoint) -> Peer:
        peer = Peer(segment.network_type, endpoint)
        self.peers[peer] += 1
        return peer

    def _part(self, segment: Segment, endpoint: TunnelEndpoint) -> Peer:
        peer = Peer(segment.network_type, endpoint)
        self.peers[peer] -= 1
        if not self.peers[peer]:
            del self.peers[peer]
        return peer

    def _forget_network(self, network_id: NetworkId) -> Touched:
        touched: Touched = set()
        for claim in list(self.heard.of_network(network_id)):
            touched |= self.withdraw(key_of(claim))
        return touched

    def _drop_if_empty(self, segment: Segment | None) -> None:
        if segment is not None and (view := self.segments.get(segment)) is not None and view.empty:
            del self.segments[segment]
            self.apart.discard(segment)
