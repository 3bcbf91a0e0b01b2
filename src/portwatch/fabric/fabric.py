"""What we know: claims, local attachments, the switch's own ports. Feed it, and it says which entries were touched.

A touched key names an entry that may have changed; what the entry now is, `l2pop` and `pipeline` compute from here.
One event touches only what it concerns, whatever the size of the network.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from portwatch.events import ClaimKey, key_of
from portwatch.fabric.claims import Verdict, winner
from portwatch.fabric.moves import Moves
from portwatch.fabric.vlans import LocalVlans
from portwatch.model import (
    Claim,
    HostName,
    IpAddress,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Port,
    PortId,
    Segment,
    TunnelEndpoint,
    Vni,
)

OWN_ADDRESS: Final = "has this host's own tunnel address"
ANOTHERS_ADDRESS: Final = "has the tunnel address of"
"""Said of hosts that are not reached for these reasons."""

# --- keys: the names of entries ----------------------------------------------------------------------------------


class Base(NamedTuple):
    """What each bridge needs whatever the ports are."""

    entry: str = "base"


class Wire(NamedTuple):
    """A local port's admission."""

    port_id: PortId


class Unicast(NamedTuple):
    """(segment, MAC) → where it is delivered."""

    segment: Segment
    mac: Mac


class LocalFlood(NamedTuple):
    """A segment's floods among the ports here, and into the tunnel bridge."""

    segment: Segment
    where: str = "here"


class Flood(NamedTuple):
    """A segment's floods to its other hosts, and its tunnel key. A port more or less here does not touch it."""

    segment: Segment


class Neighbor(NamedTuple):
    """(segment, IP) → the MAC that is answered."""

    segment: Segment
    address: IpAddress


class Peer(NamedTuple):
    """A tunnel endpoint from which packets are accepted."""

    network_type: NetworkType
    endpoint: TunnelEndpoint


Key = Base | Wire | Unicast | LocalFlood | Flood | Neighbor | Peer
Touched = set[Key]


# --- values ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwitchPorts:
    """The switch's own: the numbers of the ports between the bridges and of the tunnel ports; None: there is none."""

    patch_to_tunnel: OfPort | None = None
    patch_to_integration: OfPort | None = None
    tunnels: tuple[tuple[NetworkType, OfPort], ...] = ()
    nd_extensions: bool = False
    """Can the datapath make an advertisement of a solicitation? IPv6 neighbour discovery."""

    def tunnel(self, network_type: NetworkType) -> OfPort | None:
        return dict(self.tunnels).get(network_type)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A claim of our own, and where on the integration bridge its port is."""

    claim: Claim
    ofport: OfPort


@dataclass(slots=True)
class SegmentView:
    """All that is known of one segment: indexes over its claims."""

    wired: dict[PortId, Attachment] = field(default_factory=dict)
    stations: dict[Mac, dict[ClaimKey, Claim]] = field(default_factory=dict)
    addresses: dict[IpAddress, dict[ClaimKey, Claim]] = field(default_factory=dict)
    members: Counter[TunnelEndpoint] = field(default_factory=Counter)

    @property
    def empty(self) -> bool:
        return not (self.wired or self.stations or self.addresses or self.members)


class Fabric:
    """Everything known on this host about ports, its own and the others'."""

    def __init__(self, host: HostName, endpoint: TunnelEndpoint | None) -> None:
        self.host = host
        self.endpoint = endpoint
        self.ports = SwitchPorts()
        self.vlans = LocalVlans()
        self.local: dict[PortId, Attachment] = {}
        self.claims: dict[ClaimKey, Claim] = {}
        self.segments: dict[Segment, SegmentView] = {}
        self.peers: Counter[Peer] = Counter()
        self.tunnel_types: Counter[NetworkType] = Counter()
        """The types of tunnels that the segments wired here need, and how many do."""
        self.apart: set[Segment] = set()
        """Segments of our networks that only others have: they disagree with us, or our ports are not wired yet."""
        self.neighbours: Counter[HostName] = Counter()
        """The other hosts whose claims are held, and how many."""
        self.interest = 0
        """Counts the changes of `networks` and `neighbours`: what to listen to on the bus."""
        self.moves = Moves()
        self.dismissed: set[HostName] = set()
        """Hosts that are gone for longer than is waited for them: their claims do not count."""
        self.holders: dict[TunnelEndpoint, HostName] = {}
        """Of the tunnel addresses that several hosts claim, whose each is: the others' claims do not count."""
        self._at: dict[TunnelEndpoint, Counter[HostName]] = {}
        """Tunnel address → the other hosts whose claims name it, and how many do."""
        self._residences: dict[HostName, tuple[TunnelEndpoint, datetime]] = {}
        """Where each living host says it is tunnelled to, and since when."""
        self._waiting: dict[PortId, str] = {}
        self._vnis_left = 0
        self._tried = (0, 0)
        self._by_vni: dict[tuple[NetworkType, Vni], Segment] = {}
        self._networks: dict[NetworkId, set[PortId]] = {}
        self._holders: dict[tuple[NetworkId | None, PortId], set[ClaimKey]] = {}
        self._left: set[NetworkId] = set()
        self._remote: dict[NetworkId, set[ClaimKey]] = {}

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
                self.interest += 1
            self._networks.setdefault(network_id, set()).add(port_id)
        was = before.claim.port.segment if before and port_id not in self._waiting else None
        now = self._admit(after, hint)
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
        if self._waiting.pop(port_id, None) is None and segment:
            touched |= self._unwire(segment, before)
            self._drop_if_empty(segment)
        if (network_id := before.claim.port.network_id) is not None:
            ports = self._networks[network_id]
            ports.discard(port_id)
            if not ports:
                del self._networks[network_id]
                self._left.add(network_id)
                self.interest += 1
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
        if (room := (self.vlans.rests, self._vnis_left)) == self._tried:
            return touched, admitted  # nothing was given back: whoever waits may be many
        self._tried = room
        for port_id in list(self._waiting):
            attachment = self.local[port_id]
            if segment := self._admit(attachment, None):
                touched |= self._wire(segment, attachment)
                admitted.add(port_id)
        return touched, admitted

    def problem(self, port_id: PortId) -> str | None:
        """Return why an attached port is not wired (`code: words`), or None when it is."""
        return self._waiting.get(port_id)

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
        key = key_of(claim)
        before = self.claims.get(key)
        if before == claim:
            return set()
        self.claims[key] = claim
        assert claim.port.network_id is not None, "hosts() is true of known networks only"
        self._remote.setdefault(claim.port.network_id, set()).add(key)
        return self._replace(key, before, claim)

    def withdraw(self, key: ClaimKey) -> Touched:
        """A claim has ended. This deletes nothing by itself: what follows is computed from the claims that remain."""
        before = self.claims.pop(key, None)
        if before is None:
            return set()
        network_id = before.port.network_id
        assert network_id is not None, "only claims of known networks are held"
        self._remote[network_id].discard(key)
        return self._replace(key, before, None)

    def hosts(self, network_id: NetworkId | None) -> bool:
        """Has this network a port here?"""
        return network_id in self._networks

    @property
    def networks(self) -> Iterable[NetworkId]:
        """The networks that have a port here: the ones to listen to."""
        return self._networks.keys()

    def remote(self, network_id: NetworkId) -> Iterable[Claim]:
        """Return the other hosts' claims in a network."""
        return (self.claims[key] for key in self._remote.get(network_id, ()))

    # --- questions -----------------------------------------------------------------------------------------------

    def rivals(self, port: Port) -> list[Claim]:
        """Return the other hosts' claims of this port or of its MAC, in its network."""
        keys = set(self._holders.get((port.network_id, port.port_id), ()))
        view = self.segments.get(port.segment) if port.segment else None
        if view is not None and port.mac is not None:
            keys |= {key for key in view.stations.get(port.mac, ()) if key[1] != self.host}
        return [self.claims[key] for key in keys]

    def reached_at(self, claim: Claim) -> TunnelEndpoint | None:
        """Return where a claim's host is reached from here: not at our own address, nor over the other IP version."""
        endpoint = claim.tunnel_ip
        if self.endpoint is None or endpoint is None or endpoint == self.endpoint:
            return None
        return endpoint if endpoint.version == self.endpoint.version else None

    def unreached(self, claim: Claim) -> str | None:
        """Return, for people, why nothing is tunnelled to a claim's host; None when it is, or need not be."""
        if not self._may_tunnel(claim) and claim.tunnel_ip is not None:
            holder = self.holders[claim.tunnel_ip]
            return f"{claim.host} {ANOTHERS_ADDRESS} {holder}, {claim.tunnel_ip}: its claims are ignored"
        if not claim.port.network_type.tunnelled or self.reached_at(claim) is not None:
            return None
        if self.endpoint is None:
            return "this host has no tunnel address (tunnel.local_ip)"
        if claim.tunnel_ip is None:
            return f"{claim.host} has no tunnel address"
        if claim.tunnel_ip == self.endpoint:
            return f"{claim.host} {OWN_ADDRESS}"
        there, here = claim.tunnel_ip.version, self.endpoint.version
        return f"{claim.host} tunnels over IPv{there} and this host over IPv{here}: the two cannot be mixed"

    def disagreements(self) -> dict[Segment, set[HostName]]:
        """Return what others call a network of ours by another type or VNI, and who they are. Never mixed in."""
        found: dict[Segment, set[HostName]] = {}
        for segment in self.apart:
            ports = self._networks.get(segment.network_id, ())
            ours = {self.local[port_id].claim.port.segment for port_id in ports} - {None}
            if ours and segment not in ours:
                claims = (claim for claim in self.remote(segment.network_id) if claim.port.segment == segment)
                found[segment] = {claim.host for claim in claims if self._counts(claim)}
        return found

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
        return self._around(segment, view, mac) if changed else set()

    def thaw(self, clock: float) -> Touched:
        """Let go of the stations that have been quiet for long."""
        touched: Touched = set()
        for segment, mac in self.moves.quiet(clock):
            view = self.segments.get(segment)
            if view is not None and mac in view.stations:
                touched |= self._around(segment, view, mac)
        return touched

    def dismiss(self, host: HostName) -> Touched:
        """A host is gone for too long: its claims do not count any more (mobility.md, rule 1). They are still held."""
        if host in self.dismissed:
            return set()
        held = [(key, claim) for key, claim in self.claims.items() if key[1] == host]
        touched = {each for key, claim in held for each in self._replace(key, claim, None, counted=False)}
        self.dismissed.add(host)
        return touched

    def readmit(self, host: HostName) -> Touched:
        """A dismissed host is back: its claims count again."""
        if host not in self.dismissed:
            return set()
        self.dismissed.discard(host)
        held = [(key, claim) for key, claim in self.claims.items() if key[1] == host]
        return {each for key, claim in held for each in self._replace(key, None, claim, counted=False)}

    def resides(self, host: HostName, residence: tuple[TunnelEndpoint, datetime] | None) -> Touched:
        """A living host, this one perhaps, has a tunnel address since then; None: it does not live, or has none."""
        before = self._residences.pop(host, None)
        if residence is not None:
            self._residences[host] = residence
        changed = {each[0] for each in (before, residence) if each is not None}
        return {key for endpoint in changed for key in self._settle_holder(endpoint)}

    @property
    def refused(self) -> dict[HostName, TunnelEndpoint]:
        """The hosts, this one perhaps among them, whose tunnel address is another's: see `holders`."""
        told = self.host in self._residences  # before, nobody could know that we are there
        return {
            host: endpoint
            for endpoint, holder in self.holders.items()
            for host in self._claimants(endpoint)
            if host != holder and (host != self.host or told)
        }

    def _counts(self, claim: Claim) -> bool:
        return claim.forwards and claim.host not in self.dismissed and self._may_tunnel(claim)

    def _may_tunnel(self, claim: Claim) -> bool:
        return claim.tunnel_ip is None or self.holders.get(claim.tunnel_ip, claim.host) == claim.host

    def _claimants(self, endpoint: TunnelEndpoint) -> set[HostName]:
        return {*self._at.get(endpoint, ()), *((self.host,) if endpoint == self.endpoint else ())}

    def _settle_holder(self, endpoint: TunnelEndpoint) -> Touched:
        """Find whose a tunnel address is: of the living hosts that claim it, who has had it longest (mobility.md)."""
        claimants = self._claimants(endpoint)
        living = [
            (found[1], host) for host in claimants if (found := self._residences.get(host)) and found[0] == endpoint
        ]
        holder = min(living)[1] if living and len(claimants) > 1 else None
        before = self.holders.get(endpoint)
        if holder == before:
            return set()
        changed = {host for host in claimants if (before in (None, host)) != (holder in (None, host))}
        held = [(key, claim) for key, claim in self.claims.items() if key[1] in changed and claim.tunnel_ip == endpoint]
        touched = {each for key, claim in held for each in self._replace(key, claim, None, counted=False)}
        if holder is None:
            del self.holders[endpoint]
        else:
            self.holders[endpoint] = holder
        return touched | {each for key, claim in held for each in self._replace(key, None, claim, counted=False)}

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

    def _admit(self, attachment: Attachment, hint: LocalVlan | None) -> Segment | None:
        """Return the segment in which the port is wired, with a VLAN; None, with the reason noted, when it is not."""
        port = attachment.claim.port
        self._waiting.pop(port.port_id, None)
        segment = port.segment
        reason = None
        if port.fault:
            reason = port.fault
        elif segment is None or port.mac is None:
            reason = f"details-missing: {port.lacks}"
        elif not port.admin_up:
            reason = "admin-down: admin-state is down"
        elif segment.vni and self._by_vni.get((segment.network_type, segment.vni), segment) != segment:
            other = self._by_vni[segment.network_type, segment.vni]
            reason = f"vni-conflict: {segment.network_type} {segment.vni} is in use here by network {other.network_id}"
        elif self.vlans.assign(segment, hint) is None:
            reason = f"vlans-used-up: all {LocalVlan.HIGHEST} local VLANs of this host are in use"
        if reason or segment is None:
            self._waiting[port.port_id] = reason or ""
            return None
        if segment.network_type.tunnelled and segment.vni:
            self._by_vni[segment.network_type, segment.vni] = segment
        return segment

    def _wire(self, segment: Segment, attachment: Attachment) -> Touched:
        view = self.segments.setdefault(segment, SegmentView())
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
        return touched | self._index(segment, view, attachment.claim)

    def _rewire(self, segment: Segment, before: Attachment, after: Attachment) -> Touched:
        view = self.segments[segment]
        view.wired[after.claim.port.port_id] = after
        touched: Touched = {Wire(after.claim.port.port_id), LocalFlood(segment)}
        return touched | self._unindex(segment, view, before.claim) | self._index(segment, view, after.claim)

    def _unwire(self, segment: Segment, attachment: Attachment) -> Touched:
        view = self.segments[segment]
        port_id = attachment.claim.port.port_id
        touched: Touched = {Wire(port_id), LocalFlood(segment)}
        touched |= self._unindex(segment, view, attachment.claim)
        del view.wired[port_id]
        if not view.wired:
            touched.add(Flood(segment))
            self.apart.add(segment)
            if segment.network_type.tunnelled:
                self.tunnel_types -= Counter((segment.network_type,))
            self.vlans.release(segment)
            if segment.vni:
                self._by_vni.pop((segment.network_type, segment.vni), None)
                self._vnis_left += 1
            touched.update(Unicast(segment, mac) for mac in view.stations)
            touched.update(Neighbor(segment, address) for address in view.addresses)
            touched.update([self._part(segment, endpoint) for endpoint in view.members])
        return touched

    def _replace(self, key: ClaimKey, before: Claim | None, after: Claim | None, *, counted: bool = True) -> Touched:
        """Put *after* where *before* was in the indexes. Not *counted*: the claim itself is held before and after."""
        touched: Touched = set()
        if counted:
            self._count(key, (after is not None) - (before is not None))
        old = before.port.segment if before and self._counts(before) else None
        new = after.port.segment if after and self._counts(after) else None
        if before and old:
            touched |= self._leave(old, before)
        if after and new:
            view = self.segments.setdefault(new, SegmentView())
            if not view.wired:
                self.apart.add(new)
            touched |= self._index(new, view, after)
            if (endpoint := self.reached_at(after)) is not None:
                view.members[endpoint] += 1
                if view.members[endpoint] == 1:
                    touched.add(Flood(new))
                    if view.wired:
                        touched.add(self._meet(new, endpoint))
        if old:
            self._drop_if_empty(old)
        return touched | (self._relocate(before, after) if counted else set())

    def _relocate(self, before: Claim | None, after: Claim | None) -> Touched:
        """A claim names another tunnel address now, or is the first or the last of its host to name it."""
        changed: set[TunnelEndpoint] = set()
        for claim, by in ((before, -1), (after, 1)):
            if claim is not None and claim.tunnel_ip is not None:
                hosts = self._at.setdefault(claim.tunnel_ip, Counter())
                hosts[claim.host] += by
                if hosts[claim.host] == max(by, 0):
                    changed.add(claim.tunnel_ip)
                if not hosts[claim.host]:
                    del hosts[claim.host]
                if not hosts:
                    del self._at[claim.tunnel_ip]
        return {key for endpoint in changed for key in self._settle_holder(endpoint)}

    def _count(self, key: ClaimKey, by: int) -> None:
        """Another host's claim has come (1), gone (-1), or changed (0)."""
        network_id, host, port_id = key
        holders = self._holders.setdefault((network_id, port_id), set())
        if by > 0:
            holders.add(key)
        elif by < 0:
            holders.discard(key)
        if not holders:
            del self._holders[network_id, port_id]
        if by and self.neighbours[host] + by in (0, by):
            self.interest += 1
        self.neighbours[host] += by
        if not self.neighbours[host]:
            del self.neighbours[host]

    def _leave(self, segment: Segment, claim: Claim) -> Touched:
        view = self.segments.get(segment)
        if view is None:
            return set()  # the claim has neither MAC nor address nor endpoint: it left no trace
        touched = self._unindex(segment, view, claim)
        if (endpoint := self.reached_at(claim)) is not None:
            view.members[endpoint] -= 1
            if not view.members[endpoint]:
                del view.members[endpoint]
                touched.add(Flood(segment))
                if view.wired:
                    touched.add(self._part(segment, endpoint))
        return touched

    def _index(self, segment: Segment, view: SegmentView, claim: Claim) -> Touched:
        key, port = key_of(claim), claim.port
        touched: Touched = set()
        if port.mac is not None:
            view.stations.setdefault(port.mac, {})[key] = claim
            touched |= self._around(segment, view, port.mac)
        for address in port.fixed_ips:
            view.addresses.setdefault(address, {})[key] = claim
            touched.add(Neighbor(segment, address))
        return touched

    def _unindex(self, segment: Segment, view: SegmentView, claim: Claim) -> Touched:
        key, port = key_of(claim), claim.port
        touched: Touched = set()
        if port.mac is not None:
            touched |= self._around(segment, view, port.mac)
            claims = view.stations[port.mac]
            del claims[key]
            if not claims:
                del view.stations[port.mac]
        for address in port.fixed_ips:
            holders = view.addresses.get(address, {})
            holders.pop(key, None)
            if not holders:
                view.addresses.pop(address, None)
            touched.add(Neighbor(segment, address))
        return touched

    def _around(self, segment: Segment, view: SegmentView, mac: Mac) -> Touched:
        """Return the entries that hang on who wins *mac*: its own, and the addresses of all who claim it."""
        touched: Touched = {Unicast(segment, mac)}
        for claim in view.stations[mac].values():
            touched.update(Neighbor(segment, address) for address in claim.port.fixed_ips)
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
        for key in self._remote.pop(network_id, set()):
            touched |= self._replace(key, self.claims.pop(key), None)
        return touched

    def _drop_if_empty(self, segment: Segment | None) -> None:
        if segment is not None and (view := self.segments.get(segment)) is not None and view.empty:
            del self.segments[segment]
            self.apart.discard(segment)
