"""The l2pop reactor, quiet: feed it what OVSDB, the bus and the switch say; take what to publish, program and write.

It owns the fabric and one ledger a bridge, and it is the same for live updates, start-up and resync. Its callers
bring the time and do the work: no clock, no I/O.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial

from portwatch.events import (
    OFFLINE,
    ClaimGone,
    ClaimKey,
    HostStatus,
    Manifest,
    PortEvent,
    PortRemoved,
    key_of,
)
from portwatch.fabric.announcer import Announcer, Identity
from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.fabric import Fabric
from portwatch.fabric.inheritance import Inheritance
from portwatch.fabric.keys import Base, Touched
from portwatch.fabric.neighbors import is_optional
from portwatch.fabric.pipeline import Bridge, Policy
from portwatch.fabric.planner import Planner
from portwatch.fabric.presence import Presence, residence
from portwatch.fabric.progress import Progress
from portwatch.fabric.purpose import farewell, is_ours
from portwatch.fabric.sequences import Sequences
from portwatch.fabric.snapshots import Snapshots
from portwatch.fabric.status import PortRecord, refusal, status_of
from portwatch.fabric.tables import OWN
from portwatch.model import (
    Claim,
    HostName,
    NetworkId,
    Plug,
    Port,
    PortId,
    State,
    Status,
)
from portwatch.openflow.flow import Item, ItemKey
from portwatch.openflow.ledger import Drift, Ledger


class StaleEvent(ValueError):
    """An event of the session we hold, with a lower revision: the broker or a bridge replays the past."""


class Reactor:
    """One hypervisor's view and decisions."""

    def __init__(self, identity: Identity, policy: Policy, grace: float | None = None) -> None:
        """*grace*: for how many seconds the claims of a host that went offline count; None for ever."""
        self.identity = identity
        self.fabric = Fabric(identity.host, identity.endpoint)
        self.announcer = Announcer(identity)
        self.snapshots = Snapshots(identity.host)
        self.presence = Presence()
        self.plugs: dict[PortId, Plug] = {}
        self._inheritance = Inheritance(self.fabric, self.snapshots, self.presence.endpoints)
        self._sequences = Sequences(self.fabric)
        inherits = self._inheritance
        self.ledgers = {
            bridge: Ledger(OWN, farewell, partial(inherits.spare, bridge), is_optional, inherits.serves_many)
            for bridge in Bridge
        }
        self.progress = Progress()
        self.planner = Planner(self.fabric, policy, self.ledgers, self.progress)
        self.events: list[PortEvent] = []
        """To publish, in order. The caller takes them."""
        self.manifests: set[NetworkId] = set()
        """Networks whose manifest of ours is to be published anew. The caller takes them."""
        self.records: dict[PortId, PortRecord] = {}
        """To write to Port rows. The caller takes them."""
        self._left_behind: dict[ClaimKey, Claim] = {}
        self._loaded = False
        self.unplanned = self._other_ways = False
        """Is there anything that `plan` has not seen; and does it concern the ways of all ports?"""
        self._admitted: set[PortId] = set()
        self._refused: frozenset[ItemKey] = frozenset()
        """What the switches refused when our ports were told of last."""
        self._said_more = False
        self._grace = grace
        self.leaving = False
        """Has an operator drained this host?"""
        self.planner.wants({Base()})

    # --- OVSDB says ---------------------------------------------------------------------------------------------------

    def plugged(self, plugs: Mapping[PortId, Plug | None], ports: SwitchPorts, now: datetime) -> None:
        """These ports are plugged in like this now, or are gone (None); the switch's own ports are *ports*.

        The first call must bring all there are. `plan` is to follow soon: what others shall hear need not wait for it.
        """
        self.planner.put_off()
        touched = self.fabric.set_ports(ports)
        self._other_ways |= bool(touched)
        if not self._loaded:
            for vlan in (plug.vlan for plug in plugs.values() if plug is not None and plug.vlan is not None):
                self.fabric.vlans.seek_behind(vlan)
        for port_id, plug in plugs.items():
            if plug is None:
                touched |= self._unplug(port_id, now)
        # Those that we have wired before come first: a restart takes no VLAN and no VNI from one to another.
        present = ((port_id, plug) for port_id, plug in plugs.items() if plug is not None)
        for port_id, plug in sorted(present, key=lambda each: each[1].remembered is None):
            touched |= self._plug(port_id, plug, now)
        touched |= self.fabric.prune()
        for network_id in self.snapshots.networks - set(self.fabric.networks):
            self.snapshots.ignore(network_id)
            self._reconsider()
        again, admitted = self.fabric.retry_waiting()
        self.planner.wants(touched | again)
        self._admitted |= admitted
        self.unplanned = True
        for port_id in {*plugs, *admitted}:
            self._tell(port_id, now)
        if not self._loaded:
            self._loaded = True
            for claim in self._left_behind.values():
                self._left_over(claim, now)
            self._left_behind.clear()

    def plan(self, now: datetime) -> tuple[frozenset[PortId], tuple[PortId, ...]]:
        """Plan the flows for what was `plugged`, and expect them of the switch.

        Return the ports that are admitted by this, whatever they have waited for, and those that are installed, for
        what was committed since then: perhaps others than were plugged.
        """
        if not self.unplanned:
            return frozenset(), ()
        self.unplanned = False
        admitted, self._admitted = frozenset(self._admitted), set()
        self.planner.plan()
        self.progress.expect((*admitted, *(self.progress.awaited if self._other_ways else ())))
        self._other_ways = False
        return admitted, self._advance(now)

    def drain(self, now: datetime, *, leaving: bool) -> int:
        """Let this host's ports go elsewhere, or no more: mobility.md, state `leaving`. Return how many there are."""
        if leaving != self.leaving:
            self.leaving = leaving
            for port_id in list(self.plugs):
                self._claim_again(port_id, now)
        return len(self.plugs)

    # --- the bus says -------------------------------------------------------------------------------------------------

    def connecting(self) -> None:
        """A connection to the bus begins: what is retained there under our name comes, and is no mere echo."""
        self.announcer.connecting()
        self.presence.connecting()

    def heard(self, event: PortEvent | ClaimGone, now: datetime, clock: float, *, replayed: bool = True) -> bool:
        """Another host's event; `StaleEvent` when it is older than what is held. False when it is of no interest here.

        *replayed*: it was retained before we subscribed, so it is older than what has happened here since.
        """
        self.planner.clock = clock
        network_id, host, _ = event.key
        if host == self.identity.host:
            if isinstance(event, PortEvent):
                self._own_echo(event, now, clock)
            elif self.announcer.cleared(event.key):
                self.insist(event.key[2], now, clock)
            else:
                self.snapshots.ended(event.key, clock)
            return False
        if network_id is None or not self.fabric.hosts(network_id):
            return False
        held = self.fabric.heard.claims.get(event.key)
        if isinstance(event, PortEvent) and held is not None:
            revision, session = event.claim.revision, event.claim.session
            if held.session == session and revision < held.revision:
                raise StaleEvent(f"revision {revision} after {held.revision} of session {session}")
        if isinstance(event, ClaimGone | PortRemoved):
            self._withdraw({event.key, *self.snapshots.ended(event.key, clock)})
            return True
        self._said_more = True
        if replayed and (held is None or held.seq != event.claim.seq):
            self._sequences.came_before(event.claim, now)
        self.planner.wants(self.fabric.feed(event.claim))
        self._withdraw(self.snapshots.arrived(event.claim, clock, replayed=replayed))
        return True

    def stated(self, manifest: Manifest, clock: float) -> None:
        """A host's manifest. One under our own name that is not true (any more) is said anew."""
        if manifest.host == self.identity.host:
            mine = self.announcer.manifest(manifest.network_id)
            if (mine.count, mine.digest) != (manifest.count, manifest.digest):
                self.manifests.add(manifest.network_id)
        self._said_more = True
        self._withdraw(self.snapshots.stated(manifest, clock))

    def seen(self, status: HostStatus, clock: float) -> None:
        """A host's own status, or its last will. Its entries stay: a silent host is a fact about the watcher.

        Only who set `peers.grace` lets them go, that long after the last will. `stopped` is no absence: it was meant.
        """
        self._said_more = True
        self.presence.seen(status, clock)
        if status.state != OFFLINE:
            self.planner.wants(self.fabric.readmit(status.host))
        self.planner.wants(self.fabric.resides(status.host, residence(status)))

    def forgot(self, host: HostName) -> None:
        """A host's status was cleared: an operator has forgotten it."""
        self.presence.forgot(host)
        self.planner.wants(self.fabric.resides(host, None))

    def settle(self, now: datetime, clock: float) -> None:
        """Time has passed: networks may have become complete, and what was spared for their sake may go."""
        settled = self.snapshots.settle(clock)
        if settled or (self._said_more and any(ledger.spares for ledger in self.ledgers.values())):
            self._reconsider()
        self._said_more = False
        self.planner.clock = clock
        self._publish(self.announcer.settle(now, clock))
        self.planner.wants(self.fabric.thaw(clock))
        if self._grace is not None:
            for host in self.presence.gone(clock - self._grace):
                self.planner.wants(self.fabric.dismiss(host))
        self._withdraw(self.snapshots.silent(self.presence.online_since, clock))
        self._grow_up(self._sequences.young_in(settled), now)

    @property
    def waits(self) -> bool:
        """Is there anything that goes on with time alone, so that `settle` is to be called soon?"""
        dismissing = self._grace is not None and not self.presence.gone() <= self.fabric.dismissed
        return dismissing or self._said_more or self.announcer.waits or self.snapshots.waits

    def say_again(self, now: datetime) -> tuple[PortEvent, ...]:
        """Return all our claims as events: for a new connection to the broker."""
        self.manifests.update(
            claim.port.network_id for claim in self.announcer.claims.values() if claim.port.network_id is not None
        )
        return self.announcer.again(now)

    def insist(self, port_id: PortId, now: datetime, clock: float, after: int = 0) -> None:
        """Say a claim again that somebody else has cleared or overwritten, with a revision *after* that of his."""
        self._publish(self.announcer.insist(port_id, now, clock, after))

    # --- the switch says ----------------------------------------------------------------------------------------------

    def examine(self, bridge: Bridge, items: Iterable[Item]) -> None:
        """The bridge holds these, too, as `read_back` will tell: to look at all of them at once would take long."""
        if self.ledgers[bridge].fresh:
            self._inheritance.found(item for item in items if is_ours(item))

    def read_back(self, bridge: Bridge, items: Iterable[Item]) -> Drift:
        """The bridge holds *items*; those of others are passed over."""
        ours = [item for item in items if is_ours(item)]
        fresh = self.ledgers[bridge].fresh
        if fresh:
            self._inheritance.found(ours)
        drift = self.ledgers[bridge].read_back(ours)
        if fresh and all(map(self.snapshots.settled, self.snapshots.networks)):
            self._reconsider()  # nothing more is going to settle
        return drift

    def committed(self, bridge: Bridge, generation: int, now: datetime) -> tuple[PortId, ...]:
        """The bridge holds what was wanted at *generation*. Return the ports that are installed by this."""
        self.progress.committed(bridge, generation)
        return self._advance(now)

    # --- questions ----------------------------------------------------------------------------------------------------

    @property
    def interest(self) -> tuple[int, ...]:
        """Changes whenever there is something else to listen to: networks, or hosts."""
        return *self.fabric.interest, self.snapshots.interest

    @property
    def hosts_of_interest(self) -> set[HostName]:
        """The other hosts whose status matters here: those in our networks."""
        stated = (self.snapshots.hosts(network_id) for network_id in self.fabric.networks)
        return {*self.fabric.heard.hosts, *(host for hosts in stated for host in hosts)} - {self.identity.host}

    # --- within -------------------------------------------------------------------------------------------------------

    def _plug(self, port_id: PortId, plug: Plug, now: datetime) -> Touched:
        before = self.plugs.get(port_id)
        self.plugs[port_id] = plug
        if before is None:
            self._sequences.begin(plug, now, at_start=not self._loaded)
        elif (before.port, before.ofport) == (plug.port, plug.ofport):
            return set()
        if (network_id := plug.port.network_id) is not None:
            self.snapshots.listen(network_id)
            if self.snapshots.settled(network_id):
                self._sequences.grow_up((plug.port,), just_come=True)
        if before is None or _wiring(before) != _wiring(plug):
            self.progress.rewired(port_id)
        hint = plug.vlan if plug.remembered == network_id else None
        return self.fabric.attach(self._claim(plug), plug.ofport, hint)

    def _unplug(self, port_id: PortId, now: datetime) -> Touched:
        plug = self.plugs.pop(port_id, None)
        if plug is None:
            return set()
        touched = self.fabric.detach(port_id)
        self._sequences.end(port_id)
        self.progress.forget(port_id)
        self._admitted.discard(port_id)
        self.records.pop(port_id, None)
        self._publish(self.announcer.end(port_id, now))
        return touched

    def _claim(self, plug: Plug) -> Claim:
        return Claim(
            host=self.identity.host,
            port=self._as_claimed(plug),
            tunnel_ip=self.identity.endpoint,
            status=Status.BUILD,
            session=self.identity.session,
            seq=self._sequences.of[plug.port.port_id],
            revision=0,
        )

    def _as_claimed(self, plug: Plug) -> Port:
        port = plug.port
        return replace(port, state=State.LEAVING) if self.leaving and port.state is State.ACTIVE else port

    def _grow_up(self, port_ids: Iterable[PortId], now: datetime) -> None:
        """All rivals of these ports are visible now."""
        for port_id in self._sequences.grow_up(self.plugs[port_id].port for port_id in port_ids):
            self._claim_again(port_id, now)

    def _claim_again(self, port_id: PortId, now: datetime) -> None:
        """The port has another sequence."""
        plug = self.plugs[port_id]
        self.planner.wants(self.fabric.attach(self._claim(plug), plug.ofport))
        self._tell(port_id, now)

    def _reconsider(self) -> None:
        """What was spared may go, if the bus has said enough by now."""
        self._inheritance.heard_more()
        for ledger in self.ledgers.values():
            ledger.reconsider()
        if all(ledger.known and not ledger.inherits for ledger in self.ledgers.values()):
            self._inheritance.over()

    def _tell(self, port_id: PortId, now: datetime) -> None:
        """Say how a port of ours is, if it is otherwise than last said."""
        if (plug := self.plugs.get(port_id)) is None:
            return
        problem, installed = self.fabric.problem(port_id), port_id in self.progress.installed
        status, reason = status_of(plug, problem, refusal(plug, self.ledgers.values()), installed=installed)
        seq = self._sequences.of[port_id]
        self._publish(
            self.announcer.say(self._as_claimed(plug), seq, status, reason, now, known_before=plug.seq is not None)
        )
        segment = plug.port.segment
        wired = segment is not None and problem is None
        if wired and status is Status.BUILD and not (plug.installed and self._loaded):
            return  # one write, when its flows are committed; but what is not true any more is taken back at once
        vlan = self.fabric.vlans.of.get(segment) if wired and segment else None
        record = PortRecord(plug.port.network_id if wired else None, vlan, seq, status is Status.ACTIVE)
        known = PortRecord(
            plug.remembered, plug.vlan if wired else None, -1 if plug.seq is None else plug.seq, plug.installed
        )
        if record == known:
            self.records.pop(port_id, None)
        else:
            self.records[port_id] = record

    def _publish(self, events: Iterable[PortEvent]) -> None:
        for event in events:
            self.events.append(event)
            if (network_id := event.claim.port.network_id) is not None:
                self.manifests.add(network_id)

    def _own_echo(self, event: PortEvent, now: datetime, clock: float) -> None:
        """What the bus holds under our own name: our own words, or what an earlier process of ours left behind."""
        claim = event.claim
        if self.announcer.contradicted(event):
            after = claim.revision if claim.session == self.identity.session else 0
            self.insist(claim.port.port_id, now, clock, after)
        elif isinstance(event, PortRemoved):
            self.snapshots.ended(event.key, clock)
        elif claim.session == self.identity.session and self._holds(event.key):
            self.announcer.heard(claim)
            self.snapshots.arrived(claim, clock)
        elif self._loaded:
            self._left_over(claim, now)
        else:
            self._left_behind[event.key] = claim

    def _holds(self, key: ClaimKey) -> bool:
        mine = self.announcer.claims.get(key[2])
        return mine is not None and key_of(mine) == key

    def _left_over(self, claim: Claim, now: datetime) -> None:
        """A claim under our name that this process has not made: it tells a port's age, or it is ended."""
        key, port_id = key_of(claim), claim.port.port_id
        if self._holds(key):
            if claim.port.state is State.LEAVING:
                self.drain(now, leaving=True)  # as the process before us was told
        elif key not in self.announcer.ended:
            self._publish(self.announcer.disown(claim, now))
        if port_id in self.plugs and self._sequences.recall(port_id, claim.seq):  # though its network be another now
            self._claim_again(port_id, now)

    def _withdraw(self, keys: Iterable[ClaimKey]) -> None:
        touched: Touched = set()
        for key in keys:
            touched |= self.fabric.withdraw(key)
        self.planner.wants(touched)

    def _advance(self, now: datetime) -> tuple[PortId, ...]:
        """Find the ports whose flows are committed on both bridges by now."""
        if self.unplanned:
            return ()  # `plan` looks again: till then nobody knows what is wanted
        progress, fabric = self.progress, self.fabric
        for bridge, ledger in self.ledgers.items():
            if ledger.settled:
                progress.committed(bridge, progress.generation)
        installed = tuple(
            each for each in progress.ready() if fabric.problem(each) is None and not fabric.lacks_tunnel(each)
        )
        for port_id in installed:
            progress.install(port_id)
            self._tell(port_id, now)
        if all(ledger.known for ledger in self.ledgers.values()):
            for port_id in progress.awaited:
                self._tell(port_id, now)
        settled = all(ledger.settled for ledger in self.ledgers.values())
        refused = frozenset(key for ledger in self.ledgers.values() for key in ledger.refused)
        if settled and refused != self._refused:
            self._refused = refused
            for port_id in self.plugs:
                self._tell(port_id, now)  # whose flows these are is asked so seldom that no index is worth it
        if settled and fabric.vlans.rested():
            again, admitted = fabric.retry_waiting()
            self.planner.wants(again)
            progress.expect(admitted)
        return installed


def _wiring(plug: Plug) -> tuple[object, ...]:
    """Return what wires a port: while it stays, an ACTIVE port stays ACTIVE through other changes, of addresses too."""
    return plug.ofport, plug.port.segment, plug.port.mac, plug.port.admin_up, plug.port.fault
