"""A model test of the whole: three hosts, whatever happens to ports, processes, switches, the broker and messages.

At every step the increments equal a full recompute, and P5 of docs/mobility.md holds; after each message P4 and P7.
When all is quiet every host knows exactly what there is, and does with every MAC what the reference says (P1, P2, P3,
`reference.py`); frames arrive (P6). `MODEL_STORIES=2000 pytest -s --hypothesis-seed=1 …` looks longer.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from portwatch.events import ClaimKey, PortEvent, PortRemoved, key_of
from portwatch.model import (
    DISTRIBUTED_ROUTER,
    Claim,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    Port,
    PortId,
    Segment,
    State,
    Status,
    Vni,
    fixed_ip,
)
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import FlowKey, GroupKey
from tests.core import reference
from tests.core.fleet import INT, PATCH_TO_TUNNEL, TOPICS, TUN, Fleet, Host, a_port, a_vni, an_endpoint
from tests.core.switch import BROADCAST, Frame

STORIES = int(os.environ.get("MODEL_STORIES", "280"))
STEPS = int(os.environ.get("MODEL_STEPS", "50"))
SEED = os.environ.get("MODEL_SEED")
"""CI tells the same stories each time; with this set, and pytest's `--hypothesis-seed`, others."""
WIRED_FOR = timedelta(seconds=1801)
"""After this long without a move nothing is frozen any more."""

HOSTS = ("hv1", "hv2", "hv3")
NAMES = ("p1", "p2", "p3", "p4")
ROUTER = "p9"
hosts = st.sampled_from(HOSTS)
names = st.sampled_from(NAMES)
networks = st.sampled_from(["blue", "blue", "red"])
CHANGES: dict[str, dict[str, Any]] = {
    "no addresses": {"fixed_ips": ()},
    "the address of another": {"fixed_ips": (fixed_ip("10.0.0.2"),)},
    "two addresses": {"fixed_ips": (fixed_ip("10.0.0.99"), fixed_ip("fd00::1"))},
    "no MAC": {"mac": None},
    "the MAC of p1": {"mac": Mac("fa:16:3e:00:00:01")},
    "another MAC": {"mac": Mac("fa:16:3e:00:00:99")},
    "network blue": {"network_id": NetworkId("blue"), "segmentation_id": a_vni("blue")},
    "network red": {"network_id": NetworkId("red"), "segmentation_id": a_vni("red")},
    "no network": {"network_id": None},
    "no VNI": {"segmentation_id": None},
    "VNI 7": {"segmentation_id": Vni(7)},
    "the VNI of blue": {"segmentation_id": a_vni("blue")},
    "active": {"state": State.ACTIVE},
    "preparing": {"state": State.PREPARING},
    "a distributed router": {"device_owner": DISTRIBUTED_ROUTER},
    "no owner": {"device_owner": ""},
    "single": {"kind": Kind.SINGLE},
    "shared": {"kind": Kind.SHARED},
    "up": {"admin_up": True},
    "down": {"admin_up": False},
    "a fault": {"fault": "bad-port-kind: both"},
    "no fault": {"fault": None},
}

Place = tuple[str, str]
"""Where a port is plugged in: host and port id."""
Way = tuple[str, frozenset[str]]
"""What a switch does with the frames for a MAC: `port` and its number, `tunnel` or `flood` and the endpoints."""


def some_port(machine: "Hypervisors") -> bool:
    return bool(machine.places)


def somebody_lives(machine: "Hypervisors") -> bool:
    return bool(machine.living)


def some_message(machine: "Hypervisors") -> bool:
    return any(host.inbox for host in machine.fleet.hosts.values())


plugged = st.runner().flatmap(lambda machine: st.sampled_from(machine.places))
waiting = st.runner().flatmap(lambda machine: st.sampled_from(machine.waiting))
living = st.runner().flatmap(lambda machine: st.sampled_from(machine.living))
dead = st.runner().flatmap(lambda machine: st.sampled_from(sorted(set(HOSTS) - set(machine.living))))


class Hypervisors(RuleBasedStateMachine):
    """Whatever may happen, in any order."""

    steps: ClassVar[int] = 0
    fleet: Fleet

    @initialize(
        skews=st.tuples(*[st.sampled_from([0, 0, 0, -3, 3])] * 3),
        grace=st.sampled_from([None, None, 30.0]),
        one_address=st.sampled_from([False, False, False, True]),
        ports=st.lists(st.tuples(hosts, names, networks), max_size=6, unique_by=lambda each: each[:2]),
    )
    def begin(
        self, skews: tuple[int, ...], grace: float | None, one_address: bool, ports: list[tuple[str, str, str]]
    ) -> None:  # drawn by name
        """*skews*: by how many hours the clocks are wrong; *one_address*: hv3 has the tunnel address of hv1."""
        self.fleet = Fleet(3, endpoints={3: an_endpoint(1)} if one_address else {}, grace=grace)
        for host, hours in zip(self.fleet.hosts.values(), skews, strict=True):
            host.skew = timedelta(hours=hours)
        self.claimed: dict[str, dict[tuple[Segment, Mac], set[str]]] = {name: {} for name in HOSTS}
        self.tags: dict[str, dict[Segment, LocalVlan]] = {name: {} for name in HOSTS}
        self.settled_in: dict[str, set[NetworkId]] = {name: set() for name in HOSTS}
        self.fleet.committed, self.fleet.carried_out = self._p4_through_each_bundle, self._p4_and_p7
        self.allowed: Counter[Place] = Counter()
        self.unprovable = False
        self.forgetful: set[str] = set()
        """Hosts that have lost what OVSDB remembered, and depend on what the bus does."""
        self.seen = dict.fromkeys(HOSTS, (0, ""))
        self.numbers = count()
        self.attached: dict[Place, int] = {}
        self.settled: dict[Place, tuple[int, int]] = {}
        self.outranks: dict[Place, tuple[int, str, dict[Place, int]]] = {}
        for name, port, network in ports:
            self._plug(name, a_port(port, network))
        self.fleet.settle()

    # --- ports ---------------------------------------------------------------------------------------------------

    @rule(
        host=hosts, name=names, network=networks, state=st.sampled_from([State.ACTIVE, State.ACTIVE, State.PREPARING])
    )
    def plug(self, host: str, name: str, network: str, state: State) -> None:
        """A port is plugged in, or changed to be like this."""
        self._plug(host, a_port(name, network, state=state))

    @precondition(some_port)
    @rule(port=plugged)
    def unplug(self, port: Place) -> None:
        self._unplug(port)

    @precondition(some_port)
    @rule(port=plugged, to=st.sampled_from(sorted(CHANGES)))
    def change(self, port: Place, to: str) -> None:
        host, name = port
        self.fleet[host].change(name, **CHANGES[to])

    @precondition(some_port)
    @rule(port=plugged, to=hosts, unplugged_first=st.booleans())
    def move(self, port: Place, to: str, unplugged_first: bool) -> None:  # drawn by name
        described = self.fleet[port[0]].port(port[1])
        if unplugged_first or to == port[0]:
            self._unplug(port)
            self._plug(to, described)
        else:
            self._plug(to, described)
            self._unplug(port)

    @precondition(some_port)
    @rule(port=plugged, to=hosts, heard=st.booleans())
    def migrate(self, port: Place, to: str, heard: bool) -> None:  # drawn by name
        """A live migration, by the book; *heard*: each step before the next."""
        described = self.fleet[port[0]].port(port[1])
        if to == port[0]:
            return
        for state in (State.PREPARING, State.ACTIVE):
            self._plug(to, replace(described, state=state))
            if heard:
                self.fleet.hush()
        self._unplug(port)

    @precondition(lambda self: self.places and len(self.living) == len(HOSTS))
    @rule(port=plugged, to=hosts)
    def take_over(self, port: Place, to: str) -> None:
        """A port is attached elsewhere while all is quiet: that is the later attachment, whatever the clocks say."""
        described = self.fleet[port[0]].port(port[1])
        if to != port[0]:
            self._come_to_rest()
            self._replug(to, described)
            self.fleet.settle()
            self.fleet.settle()
            self._sequences_are_as_old_as_their_attachments()

    @precondition(some_port)
    @rule(port=plugged, to=hosts)
    def fight(self, port: Place, to: str) -> None:
        """A port goes to and fro so often that its MAC is frozen."""
        described = self.fleet[port[0]].port(port[1])
        self._unplug(port)
        for there in (to, port[0]) * 4:
            self._replug(there, described)
            self.fleet.hush()
            self._unplug((there, port[1]))
        self._replug(to, described)

    @precondition(lambda self: len(self.places) > 1)
    @rule(one=plugged, other=plugged)
    def swap_addresses(self, one: Place, other: Place) -> None:
        """Two ports swap MACs and addresses, one after the other."""
        first, second = self.fleet[one[0]].port(one[1]), self.fleet[other[0]].port(other[1])
        self.fleet[one[0]].change(one[1], mac=second.mac, fixed_ips=second.fixed_ips)
        self.fleet[other[0]].change(other[1], mac=first.mac, fixed_ips=first.fixed_ips)

    @rule(host=hosts, owner=st.sampled_from(["", "", DISTRIBUTED_ROUTER]))
    def bring_or_take_a_router(self, host: str, owner: str) -> None:
        """A port that may be on many hosts."""
        if PortId(ROUTER) in self.fleet[host].plugged:
            self._unplug((host, ROUTER))
        else:
            self._plug(host, a_port(ROUTER, "blue", kind=Kind.SHARED, device_owner=owner))

    @precondition(some_port)
    @rule(port=plugged, after=names, network=networks)
    def replace(self, port: Place, after: str, network: str) -> None:
        """One port goes and another comes, in one transaction."""
        host, before = port
        if before != after:
            self._note(host, after)
            self.attached.pop(port, None)
            self.fleet[host].batch({before: None, after: a_port(after, network)})

    @precondition(some_port)
    @rule(port=plugged)
    def renumber(self, port: Place) -> None:
        """The port has another number on its bridge."""
        host, name = self.fleet[port[0]], port[1]
        host.next_ofport += 1
        host.plug(host.port(name), ofport=host.next_ofport)

    # --- processes, hosts and switches ---------------------------------------------------------------------------

    @precondition(somebody_lives)
    @rule(host=living)
    def restart(self, host: str) -> None:
        self.fleet[host].restart()
        self._forget_expectations(host)

    @precondition(somebody_lives)
    @rule(host=living)
    def kill(self, host: str) -> None:
        self.fleet[host].kill()
        self._forget_expectations(host)

    @precondition(lambda self: len(self.living) < len(HOSTS))
    @rule(host=dead, read_back=st.booleans(), rows_lost=st.booleans())
    def start(self, host: str, read_back: bool, rows_lost: bool) -> None:  # drawn by name
        """*rows_lost*: OVSDB has forgotten what we wrote."""
        if rows_lost:
            self.fleet[host].rows.clear()
            self.forgetful.add(host)
        self.fleet[host].start(read_back=read_back)
        self._interrupt(host, unless=not self.fleet[host].link_is_busy)

    @precondition(lambda self: len(self.living) == len(HOSTS))
    @rule(host=hosts)
    def forget(self, host: str) -> None:
        """OVSDB forgets all that we wrote, and the process ends: the bus remembers."""
        self._come_to_rest()
        self._sequences_are_as_old_as_their_attachments()
        self.fleet[host].kill()
        self.fleet[host].rows.clear()
        self.fleet[host].start()
        self.fleet.settle()
        self.fleet.settle()
        self._sequences_are_as_old_as_their_attachments()

    @precondition(somebody_lives)
    @rule(host=living, number=st.sampled_from([1, 3, 4]))
    def readdress(self, host: str, number: int) -> None:
        """A host gets another tunnel address, perhaps one that another host has."""
        self.unprovable = True
        self.fleet[host].stop()
        self._forget_expectations(host)
        self.fleet[host].start(endpoint=an_endpoint(number))

    @precondition(somebody_lives)
    @rule(host=living, leaving=st.booleans())
    def drain(self, host: str, leaving: bool) -> None:  # drawn by name
        for name in self.fleet[host].plugged:
            self.allowed[host, name] += 1
        self.fleet[host].drain(leaving=leaving)

    @rule(host=hosts, writes=st.booleans())
    def rows_can_be_written(self, host: str, writes: bool) -> None:  # drawn by name
        self.fleet[host].writes_rows = writes

    @precondition(somebody_lives)
    @rule(host=living)
    def restart_the_switch(self, host: str) -> None:
        """It holds nothing then, and the bridges are programmed one after the other."""
        self.tags[host] = {}
        self.fleet[host].forget_flows()

    @precondition(somebody_lives)
    @rule(host=living)
    def read_the_switch_back(self, host: str) -> None:
        self.fleet[host].read_back()

    # --- messages ------------------------------------------------------------------------------------------------

    @precondition(some_message)
    @rule(message=waiting)
    def hear(self, message: tuple[str, str]) -> None:
        """A host hears the oldest message of a topic, whatever came before it on others."""
        self._hear(*message)

    @precondition(some_message)
    @rule(message=waiting)
    def hear_twice(self, message: tuple[str, str]) -> None:
        inbox = self.fleet[message[0]].inbox
        first = next(number for number, (each, _) in enumerate(inbox) if each == message[1])
        inbox.insert(first, inbox[first])
        self._hear(*message)
        self._hear(*message)

    @precondition(some_message)
    @rule(host=hosts)
    def hear_the_newest_of_each_topic(self, host: str) -> None:
        """The inbox folds what waits on one topic."""
        self.fleet[host].inbox = list(dict(self.fleet[host].inbox).items())
        self.fleet.hear_all(self.fleet[host])

    @precondition(some_message)
    @rule(host=hosts, last_first=st.booleans())
    def hear_all(self, host: str, last_first: bool) -> None:  # drawn by name
        while self.fleet[host].inbox:
            self.fleet.hear(self.fleet[host], -1 if last_first else 0)

    @rule()
    def hear_everything(self) -> None:
        self.fleet.hush()

    @precondition(somebody_lives)
    @rule(host=living)
    def say_manifests(self, host: str) -> None:
        self.fleet[host].publish_manifests()

    @precondition(somebody_lives)
    @rule(host=living)
    def lose_what_comes(self, host: str) -> None:
        """Messages are lost with their session; the connection after that brings what is retained."""
        if self.fleet[host].connected:
            self._interrupt(host)
            self.fleet[host].connect()

    @precondition(somebody_lives)
    @rule(host=living, silently=st.booleans(), last_will=st.booleans())
    def lose_the_connection(self, host: str, silently: bool, last_will: bool) -> None:  # drawn by name
        """*silently*: what is said until that is noticed is lost."""
        self._interrupt(host)
        if silently:
            self.fleet[host].deaf_and_mute = self.fleet[host].connected
        else:
            self.fleet[host].disconnect()
        if last_will:
            self.fleet[host].last_will()

    @precondition(somebody_lives)
    @rule(host=living)
    def say_a_last_will_late(self, host: str) -> None:
        self.fleet[host].last_will()

    @precondition(somebody_lives)
    @rule(host=living, hears_first=st.booleans())
    def connect(self, host: str, hears_first: bool) -> None:  # drawn by name
        self._interrupt(host)
        self.fleet[host].connect(hears_first=hears_first)

    @rule(host=hosts, busy=st.booleans())
    def occupy_the_link(self, host: str, busy: bool) -> None:  # drawn by name
        self._interrupt(host)
        self.fleet[host].link_is_busy = busy

    @rule(lost=st.sampled_from(["nothing", "everything", "ports", "manifests", "hosts", "hv1", "hv2"]))
    def restart_the_broker(self, lost: str) -> None:
        """All sessions are lost, and some of what is retained."""
        for host in self.fleet.hosts.values():
            self._interrupt(host.name)
            host.disconnect()
        for topic in list(self.fleet.retained):
            if lost == "everything" or lost in topic.split("/"):
                del self.fleet.retained[topic]
        if lost != "nothing":
            self.unprovable = True
            for name in HOSTS:
                self._forget_ages(name)
                self._forget_expectations(name)

    @rule(seconds=st.sampled_from([0, 3, 3, 12, 40, 200]))
    def wait(self, seconds: int) -> None:
        self.fleet.now += timedelta(seconds=seconds)
        self.fleet.tick()

    # --- at every step -------------------------------------------------------------------------------------------

    @invariant()
    def at_every_step(self) -> None:
        if not hasattr(self, "fleet"):
            return
        type(self).steps += 1
        self._p5_news_make_nobody_say_anything()
        self.fleet.check()

    def _p4_and_p7(self, host: Host) -> None:
        """P4: there is an entry to somebody who claims the MAC, or a flood to all; P7: what is here is delivered to."""
        if not _is_judged(host):
            return
        claimed = self.claimed[host.name] = self._counted(host)
        self.tags[host.name] = dict(host.reactor.fabric.vlans.of)
        known = host.reactor.snapshots
        self.settled_in[host.name] = {network_id for network_id in known.networks if known.settled(network_id)}
        members: dict[Segment, set[str]] = {}
        for (segment, _), endpoints in claimed.items():
            members.setdefault(segment, set()).update(endpoints)
        here: dict[tuple[Segment, Mac], set[str]] = {}
        shared: set[tuple[Segment, Mac]] = {
            (claim.port.segment, claim.port.mac)
            for claim in host.reactor.fabric.heard.claims.values()
            if claim.port.kind is Kind.SHARED and claim.port.segment and claim.port.mac
        } | set(host.reactor.fabric.moves.frozen)
        for port, ofport in self._wired_on(host):
            if port.segment and port.mac and port.state is State.ACTIVE:
                here.setdefault((port.segment, port.mac), set()).add(str(int(ofport)))
            if port.segment and port.mac and port.kind is Kind.SHARED:
                shared.add((port.segment, port.mac))
        for station in {*claimed, *here}:
            if station in shared and (station in here or host.reactor.leaving):
                continue  # it floats, or serves its own host: judged by frames
            kind, where = self._way(host, *station)
            if station in here:
                assert kind == "port", f"P7: {host.name} does not deliver {station} to its own port but to {where}"
                assert where <= here[station]
            elif kind == "tunnel" and host.reactor.snapshots.settled(station[0].network_id):
                # Until then what the process before us left may serve a claim that has not been heard again yet.
                assert where <= claimed[station], f"P4: {host.name} sends {station} to {where}, which claims it not"
            elif kind == "flood":
                assert where >= members[station[0]], f"P4: {host.name} floods {station} to {where} only"

    def _p4_through_each_bundle(self, host: Host) -> None:
        """Who is claimed before and after has an entry, or a flood to him, between two bundles, too."""
        if not _is_judged(host) or self._one_address_for_two():
            return
        before, now = self.claimed[host.name], self._counted(host)
        for station in before.keys() & now.keys():
            if host.reactor.fabric.vlans.of[station[0]] != self.tags[host.name].get(station[0]):
                continue  # the last port here has gone, and another has come: it is not wired before both have it
            kind, where = self._way(host, *station)
            if kind == "tunnel" and station[0].network_id in self.settled_in[host.name]:
                assert where <= before[station] | now[station], (
                    f"P4: between bundles {host.name} sends {station} astray"
                )
            elif kind == "flood":
                assert where >= before[station] & now[station], f"P4: between bundles {host.name} cuts off {station}"

    def _counted(self, host: Host) -> dict[tuple[Segment, Mac], set[str]]:
        """Return the endpoints of the other hosts that claim each MAC, as far as this host has heard and can reach."""
        fabric = host.reactor.fabric
        counted: dict[tuple[Segment, Mac], set[str]] = {}
        for claim in fabric.heard.claims.values():
            port, endpoint = claim.port, claim.tunnel_ip
            if not (claim.forwards and port.segment and port.segment in fabric.vlans.of and port.mac and endpoint):
                continue
            if claim.host in fabric.dismissed or fabric.residences.holders.get(endpoint, claim.host) != claim.host:
                continue
            if endpoint != host.endpoint:
                counted.setdefault((port.segment, port.mac), set()).add(str(endpoint))
        return counted

    def _p5_news_make_nobody_say_anything(self) -> None:
        """At most a change and its completion for each change in OVSDB; news make a port older once, and no more."""
        allowed: Counter[Place] = Counter()
        for host in self.fleet.hosts.values():
            changes, session = self.seen[host.name]
            if host.reactor.identity.session != session:
                for name in (*NAMES, ROUTER):  # what the process before it left on the bus may be heard at any time
                    self.allowed[host.name, name] = 3
                    allowed[host.name, name] += 2
            for name in (*NAMES, ROUTER):
                allowed[host.name, name] += 2 * (host.changes - changes)
            self.seen[host.name] = host.changes, host.reactor.identity.session
        said, self.fleet.events = self.fleet.events, []
        for host, event in said:
            self._spend(allowed, host, event)
        self.fleet.said.clear()

    def _spend(self, allowed: Counter[Place], host: Host, event: PortEvent) -> None:
        place = (str(host.name), str(event.claim.port.port_id))
        if isinstance(event, PortRemoved):
            return  # a claim ends once: the broker would not hold a second end
        purse = allowed if allowed[place] else self.allowed
        assert purse[place], f"P5: {place} changes without a reason: {event}"
        purse[place] -= 1

    # --- when all is quiet ---------------------------------------------------------------------------------------

    @rule()
    def no_network_hears_another(self) -> None:
        for host in self.fleet.hosts.values():
            if host.alive and not all(ledger.known for ledger in host.reactor.ledgers.values()):
                host.read_back()
        for host, port in self._wired():
            for heard, _ in self.fleet.send(f"{host.name}/{port.port_id}", Frame(str(port.mac), BROADCAST)):
                where, _, name = heard.partition("/")
                # What a process that was killed had wired stays wired.
                attachment = self.fleet[where].reactor.fabric.local[PortId(name)]
                assert attachment.claim.port.segment == port.segment

    @precondition(lambda self: len(self.living) == len(HOSTS))
    @rule()
    def when_all_is_quiet_all_know_what_there_is(self) -> None:
        self._quiet()

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self._quiet()
            self.fleet.now += WIRED_FOR
            self.fleet.settle()
            assert not any(host.reactor.fabric.moves.frozen for host in self.fleet.hosts.values())
            self._each_does_what_the_reference_says()

    def _come_to_rest(self) -> None:
        for name in self.fleet.hosts:
            self._up(name)
        for _ in range(4):  # the last ones for what stays incomplete and is asked for again
            self.fleet.settle(12)
        self.forgetful.clear()

    def _quiet(self) -> None:
        self._come_to_rest()
        self._everybody_knows_exactly_what_there_is()
        self._every_port_says_how_it_is()
        self._each_does_what_the_reference_says()
        self._sequences_are_as_old_as_their_attachments()
        self._frames_reach_whom_they_should()
        self._p6_who_shares_a_mac_is_reached_where_it_spoke_last()
        self._p5_news_make_nobody_say_anything()

    def _up(self, name: str) -> None:
        host = self.fleet[name]
        host.link_is_busy, host.writes_rows = False, True
        if not host.alive:
            host.start()
        if not host.connected or host.deaf_and_mute:
            self._interrupt(name)
            host.connect()
        if not all(ledger.known for ledger in host.reactor.ledgers.values()):
            host.read_back()
        self.fleet.carry_out(host)

    def _claims(self) -> dict[ClaimKey, Claim]:
        """Return what all hosts say: the truth."""
        return {
            key_of(claim): claim
            for host in self.fleet.hosts.values()
            for claim in host.reactor.announcer.claims.values()
        }

    def _everybody_knows_exactly_what_there_is(self) -> None:
        claims = self._claims()
        for host in self.fleet.hosts.values():
            heard = {
                key: replace(claim, port=replace(claim.port, fault=None, admin_up=claim.status is not Status.DOWN))
                for key, claim in claims.items()
                if key[0] in set(host.reactor.fabric.networks) and key[1] != host.name
            }
            assert host.reactor.fabric.heard.claims == heard, f"{host.name} knows something else than there is"
            assert host.reactor.snapshots.incomplete(self.fleet.clock + 3600) == {}
            # What serves an address that the bus does not name any more is spared: nothing proves that nobody has it.
            assert self.unprovable or all(not ledger.spares for ledger in host.reactor.ledgers.values())
        retained = {topic for topic in self.fleet.retained if "/ports/" in topic}
        assert retained == {TOPICS.port(*key) for key in claims}

    def _every_port_says_how_it_is(self) -> None:
        wired = {(host.name, port.port_id) for host, port in self._wired()}
        for host in self.fleet.hosts.values():
            assert host.reactor.announcer.claims.keys() == host.plugged.keys()
            for name, claim in host.reactor.announcer.claims.items():
                assert (claim.status is Status.ACTIVE) is ((host.name, name) in wired)
                assert host.rows[name].installed is (claim.status is Status.ACTIVE)
                assert host.rows[name].seq == claim.seq

    def _each_does_what_the_reference_says(self) -> None:
        """P1, P2 and P3: by what the bus retains and the switches hold alone."""
        for host in self.fleet.hosts.values():
            view = reference.View(self.fleet.retained, host.name, str(host.endpoint))
            assert {name for name in host.reactor.fabric.residences.refused if name != host.name} == view.refused
            frozen = {(_named(segment), str(mac)) for segment, mac in host.reactor.fabric.moves.frozen}
            tags = {_named(segment): vlan for segment, vlan in host.reactor.fabric.vlans.of.items()}
            for segment, mac in view.stations:
                expected = view.expected(segment, mac, frozen=(segment, mac) in frozen)
                kind, where = _way(host, int(tags[segment]), mac)
                if expected.floats:
                    continue  # judged by frames, below
                if expected.ports:
                    numbers = {str(int(host.plugged[PortId(name)][1])) for name in expected.ports}
                    assert (kind, where <= numbers) == ("port", True), f"{host.name} {mac}: {expected}, not {where}"
                elif expected.endpoint:
                    assert (kind, *where) == ("tunnel", expected.endpoint), f"{host.name} {mac}: not {expected}"
                else:
                    assert kind == "flood", f"{host.name} {mac}: flooded is expected, not {kind} {where}"

    def _sequences_are_as_old_as_their_attachments(self) -> None:
        """A restart is no move, and whoever could see the others' claims comes after them, whatever the clocks say."""
        seqs = {(claim.host, claim.port_id): claim.seq for claim in reference.claims(self.fleet.retained)}
        networks = {(claim.host, claim.port_id): claim.network_id for claim in reference.claims(self.fleet.retained)}
        for place, (attachment, network_id, rivals) in self.outranks.items():
            # One that left the network before it could hear who else is there has nothing to come after.
            if self.attached.get(place) == attachment and networks.get(place) == network_id:
                there = {rival: seq for rival, seq in rivals.items() if networks.get(rival) == network_id}
                beaten = all(seqs[place] > seq for rival, seq in there.items() if seqs[rival] == seq)
                assert beaten, f"{place} came later than {rivals} and has seq {seqs[place]}"
        self.outranks.clear()
        for place, attachment in self.attached.items():
            before, seq = self.settled.get(place, (-1, 0))
            assert before != attachment or seqs[place] == seq, f"{place} was {seq} and is {seqs[place]}"
            self.settled[place] = attachment, seqs[place]

    def _frames_reach_whom_they_should(self) -> None:
        """P6, and that nothing is heard twice; where two hosts have one tunnel address nobody can know."""
        if self._one_address_for_two():
            return
        wired = {f"{host.name}/{port.port_id}": port for host, port in self._wired()}
        for sender, port in wired.items():
            here = self.fleet[sender.partition("/")[0]]
            segment = {name: other for name, other in wired.items() if other.segment == port.segment}
            assert self.fleet.hears(sender) == segment.keys() - {sender}
            for mac in {other.mac for other in segment.values() if other.mac} - {port.mac}:
                owners = {name for name, other in segment.items() if other.mac == mac}
                shared = any(segment[name].kind is Kind.SHARED for name in owners)
                frozen = port.segment and (port.segment, mac) in here.reactor.fabric.moves.frozen
                if (shared or frozen) and any(name.startswith(f"{here.name}/") for name in owners):
                    continue  # judged by frames, below
                heard = self.fleet.hears(sender, mac)
                if (shared or frozen) and not heard & owners:
                    # An instance may have gone where it was learned: who is left speaks for itself, as VRRP has it.
                    self.fleet.announces(min(owners))
                    heard = self.fleet.hears(sender, mac)
                assert heard & owners, f"P6: {sender} reaches nobody who has {mac}"
                if len(owners) == 1 and not shared and not frozen:
                    assert heard == owners

    def _p6_who_shares_a_mac_is_reached_where_it_spoke_last(self) -> None:
        if self._one_address_for_two():
            return
        stations: dict[tuple[Segment, Mac], dict[str, Port]] = {}
        for host, port in self._wired():
            if port.segment and port.mac:
                stations.setdefault((port.segment, port.mac), {})[f"{host.name}/{port.port_id}"] = port
        for (segment, mac), instances in stations.items():
            others = [
                name for (there, its), ports in stations.items() if there == segment and its != mac for name in ports
            ]
            if all(port.kind is Kind.SHARED and not port.distributed for port in instances.values()):
                for speaks in instances:
                    self.fleet.announces(speaks)
                    assert all(self.fleet.hears(name, mac) == {speaks} for name in others)
            elif all(port.distributed for port in instances.values()):
                for name in others:
                    here = {each for each in instances if each.partition("/")[0] == name.partition("/")[0]}
                    if here:
                        assert self.fleet.hears(name, mac) <= here

    # --- within --------------------------------------------------------------------------------------------------

    def _one_address_for_two(self) -> bool:
        """Have two hosts one tunnel address? Then nobody can know whom a packet reaches."""
        return len({host.endpoint for host in self.fleet.hosts.values()}) < len(HOSTS)

    @property
    def places(self) -> list[Place]:
        return [(str(name), str(port)) for name, host in self.fleet.hosts.items() for port in host.plugged]

    @property
    def living(self) -> list[str]:
        return [name for name, host in self.fleet.hosts.items() if host.alive]

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """The topics of which messages wait at each host."""
        hosts = self.fleet.hosts.items()
        return [(name, topic) for name, host in hosts for topic in dict.fromkeys(topic for topic, _ in host.inbox)]

    def _hear(self, host: str, topic: str) -> None:
        inbox = self.fleet[host].inbox
        found = next((number for number, (each, _) in enumerate(inbox) if each == topic), None)
        if found is not None:
            self.fleet.hear(self.fleet[host], found)

    def _plug(self, host: str, port: Port) -> None:
        if port.port_id not in self.fleet[host].plugged:
            self._note(host, port.port_id)
            self._expect_to_outrank(host, port)
        self.fleet[host].plug(port)

    def _unplug(self, place: Place) -> None:
        self.attached.pop(place, None)
        self.fleet[place[0]].unplug(place[1])

    def _replug(self, host: str, port: Port) -> None:
        """Plug the port in anew: it is taken out before, if it is there."""
        place = (host, str(port.port_id))
        if place in self.attached:
            self._unplug(place)
        self._plug(host, port)

    def _note(self, host: str, name: str) -> None:
        """A port is attached: its sequence may rise once."""
        place = (host, str(name))
        self.attached[place] = next(self.numbers)
        self.allowed[place] += 1

    def _expect_to_outrank(self, host: str, port: Port) -> None:
        """If all is quiet, the host can see the others' claims of the port, or will as soon as it listens."""
        if port.network_id is None:
            return  # what is in no network yet is listened to by nobody
        everybody = self.fleet.hosts.values()
        if any(not each.alive or not each.connected or each.deaf_and_mute or each.inbox for each in everybody):
            return
        if any(each.link_is_busy or each.manifests_due for each in everybody):
            return
        rivals = {
            (claim.host, claim.port_id): claim.seq
            for claim in reference.claims(self.fleet.retained)
            if claim.host != host and claim.network_id == port.network_id and claim.port_id == port.port_id
        }
        place = (host, str(port.port_id))
        self.outranks[place] = self.attached[place], str(port.network_id), rivals

    def _forget_expectations(self, host: str) -> None:
        """A process ends. A sequence that has not settled may stay what it was."""
        self._interrupt(host)
        self.outranks = {place: known for place, known in self.outranks.items() if place[0] != host}

    def _interrupt(self, host: str, *, unless: bool = False) -> None:
        """The conversation with the bus is broken off, perhaps before the host has heard how old its ports are."""
        if host in self.forgetful and not unless:
            self._forget_ages(host)

    def _forget_ages(self, host: str) -> None:
        """What remembers the ages of this host's ports is lost, or part of it."""
        self.settled = {place: known for place, known in self.settled.items() if place[0] != host}

    def _wired(self) -> Iterator[tuple[Host, Port]]:
        for host in self.fleet.hosts.values():
            if host.alive:
                for port, _ in self._wired_on(host):
                    yield host, port

    def _wired_on(self, host: Host) -> Iterator[tuple[Port, int]]:
        for attachment in host.reactor.fabric.local.values():
            port = attachment.claim.port
            if host.reactor.fabric.problem(port.port_id) is None:
                yield port, int(attachment.ofport)

    def _way(self, host: Host, segment: Segment, mac: Mac) -> Way:
        return _way(host, int(host.reactor.fabric.vlans.of[segment]), mac)


def _is_judged(host: Host) -> bool:
    """Does the process live, and know what its switch holds?"""
    return host.alive and all(ledger.known for ledger in host.reactor.ledgers.values())


def _named(segment: Segment) -> reference.Segment:
    return str(segment.network_id), str(segment.network_type), int(segment.vni or 0)


_SENT_TO = re.compile(r"set_field:([0-9a-f.:]+)->tun_(?:ipv6_)?dst")


def _way(host: Host, vlan: int, mac: str) -> Way:
    """Return what a host's switch does with the frames for a MAC, read from its tables."""
    network = Field(f"dl_vlan={vlan}")
    station = (network, Field(f"dl_dst={mac}"))
    here = host.bridges[INT].flows.get(FlowKey(41, 200, station))
    out = here.actions[-1].removeprefix("output:") if here else str(int(PATCH_TO_TUNNEL))
    if out != str(int(PATCH_TO_TUNNEL)):
        return "port", frozenset({out})
    there = host.bridges[TUN].flows.get(FlowKey(20, 200, station))
    if there is not None:
        return "tunnel", frozenset(_SENT_TO.findall(",".join(there.actions)))
    flood = host.bridges[TUN].flows.get(FlowKey(22, 200, (network,)))
    groups = (
        [int(action.removeprefix("group:")) for action in flood.actions if action.startswith("group:")] if flood else []
    )
    texts = (host.bridges[TUN].groups[GroupKey(group)].text() for group in groups)
    return "flood", frozenset(address for text in texts for address in _SENT_TO.findall(text))


@pytest.mark.timeout(300)
def test_whatever_happens_the_promises_of_mobility_hold() -> None:
    """Thousands of steps; a failure prints the shortest story that it could find, a step a line."""
    Hypervisors.steps = 0
    run_state_machine_as_test(
        Hypervisors,
        settings=settings(
            max_examples=STORIES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=SEED is None,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
    print(f"{Hypervisors.steps} steps in {STORIES} stories")
    assert Hypervisors.steps >= STORIES * STEPS * 0.75, "hypothesis has given up on many stories: do not count on it"
