"""A model test of the whole: three hosts, whatever happens to ports, processes, switches and messages.

At every moment the increments equal a full recompute, no host's own port is lost to a message, and no network hears
another. When all is quiet every host knows exactly what there is, all agree on the winners (P1), and who alone has a
port has it (P3). `PORTWATCH_MODEL_EXAMPLES=2000 pytest …` looks longer.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portwatch.events import ClaimKey, key_of
from portwatch.fabric import l2pop
from portwatch.fabric.claims import Rule, winner
from portwatch.model import (
    DISTRIBUTED_ROUTER,
    Claim,
    HostName,
    Kind,
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
from tests.core.fleet import TOPICS, Fleet, Host, a_port, a_vni

EXAMPLES = int(os.environ.get("PORTWATCH_MODEL_EXAMPLES", "60"))
STEPS = int(os.environ.get("PORTWATCH_MODEL_STEPS", "25"))

hosts = st.sampled_from(["hv1", "hv2", "hv3"])
names = st.sampled_from(["p1", "p2", "p3", "p4"])
networks = st.sampled_from(["blue", "blue", "red"])
changes = st.sampled_from(
    [
        *({"fixed_ips": ips} for ips in ((), (fixed_ip("10.0.0.2"),), (fixed_ip("10.0.0.99"), fixed_ip("fd00::1")))),
        *({"mac": mac} for mac in (None, Mac("fa:16:3e:00:00:01"), Mac("fa:16:3e:00:00:99"))),
        *({"network_id": NetworkId(name), "segmentation_id": a_vni(name)} for name in ("blue", "red")),
        {"network_id": None},
        *({"segmentation_id": vni} for vni in (None, Vni(7), a_vni("blue"))),
        *({"state": state} for state in State),
        *({"kind": kind} for kind in Kind),
        *({"device_owner": owner} for owner in ("", DISTRIBUTED_ROUTER)),
        *({"admin_up": up} for up in (True, False)),
        *({"fault": fault} for fault in (None, "bad-port-kind: both")),
    ]
)


class Hypervisors(RuleBasedStateMachine):
    """Whatever may happen, in any order."""

    fleet: Fleet

    @initialize(plugged=st.lists(st.tuples(hosts, names, networks), max_size=6, unique_by=lambda each: each[:2]))
    def begin(self, plugged: list[tuple[str, str, str]]) -> None:
        self.fleet = Fleet(3)
        for host, name, network in plugged:
            self.fleet[host].plug(a_port(name, network))
        self.fleet.settle()

    # --- ports ---------------------------------------------------------------------------------------------------

    @rule(
        host=hosts, name=names, network=networks, state=st.sampled_from([State.ACTIVE, State.ACTIVE, State.PREPARING])
    )
    def plug(self, host: str, name: str, network: str, state: State) -> None:
        """A port is plugged in, or changed to be like this."""
        self.fleet[host].plug(a_port(name, network, state=state))

    @rule(host=hosts, name=names)
    def unplug(self, host: str, name: str) -> None:
        if PortId(name) in self.fleet[host].plugged:
            self.fleet[host].unplug(name)

    @rule(host=hosts, name=names, after=changes)
    def change(self, host: str, name: str, after: dict[str, object]) -> None:
        if PortId(name) in self.fleet[host].plugged:
            self.fleet[host].change(name, **after)

    @rule(name=names, source=hosts, to=hosts, unplugged_first=st.booleans())
    def move(self, name: str, source: str, to: str, unplugged_first: bool) -> None:  # drawn by name
        port = self.fleet[source].plugged.get(PortId(name), (None,))[0]
        if port is None or source == to:
            return
        if unplugged_first:
            self.fleet[source].unplug(name)
        self.fleet[to].plug(port)
        if not unplugged_first:
            self.fleet[source].unplug(name)

    @rule(host=hosts, owner=st.sampled_from(["", "", DISTRIBUTED_ROUTER]))
    def bring_or_take_a_router(self, host: str, owner: str) -> None:
        """A port that may be on many hosts."""
        if PortId("p9") in self.fleet[host].plugged:
            self.fleet[host].unplug("p9")
        else:
            self.fleet[host].plug(a_port("p9", "blue", kind=Kind.SHARED, device_owner=owner))

    @rule(host=hosts, before=names, after=names, network=networks)
    def replace(self, host: str, before: str, after: str, network: str) -> None:
        """One port goes and another comes, in one transaction."""
        if PortId(before) in self.fleet[host].plugged and before != after:
            self.fleet[host].batch({before: None, after: a_port(after, network)})

    @rule(host=hosts, name=names)
    def renumber(self, host: str, name: str) -> None:
        """The port has another number on its bridge."""
        held = self.fleet[host].plugged.get(PortId(name))
        if held is not None:
            self.fleet[host].next_ofport += 1
            self.fleet[host].plug(held[0], ofport=self.fleet[host].next_ofport)

    # --- processes and switches ----------------------------------------------------------------------------------

    @rule(host=hosts)
    def restart(self, host: str) -> None:
        self._up(host)
        self.fleet[host].restart()

    @rule(host=hosts)
    def kill(self, host: str) -> None:
        if self.fleet[host].alive:
            self.fleet[host].kill()

    @rule(host=hosts, read_back=st.booleans())
    def start(self, host: str, read_back: bool) -> None:  # drawn by name
        if not self.fleet[host].alive:
            self.fleet[host].start(read_back=read_back)

    @rule(host=hosts, writes=st.booleans())
    def rows_can_be_written(self, host: str, writes: bool) -> None:  # drawn by name
        self.fleet[host].writes_rows = writes

    @rule(host=hosts)
    def restart_the_switch(self, host: str) -> None:
        if self.fleet[host].alive:
            self.fleet[host].forget_flows()

    @rule(host=hosts)
    def read_the_switch_back(self, host: str) -> None:
        if self.fleet[host].alive:
            self.fleet[host].read_back()

    # --- messages ------------------------------------------------------------------------------------------------

    @rule(host=hosts, places=st.lists(st.integers(0, 50), min_size=1, max_size=8))
    def hear(self, host: str, places: list[int]) -> None:
        """Some messages are heard, in any order across topics."""
        for place in places:
            self.fleet.hear(self.fleet[host], place)

    @rule(host=hosts, place=st.integers(0, 50))
    def hear_twice(self, host: str, place: int) -> None:
        inbox = self.fleet[host].inbox
        if inbox:
            topic = inbox[place % len(inbox)][0]
            first = next(number for number, (each, _) in enumerate(inbox) if each == topic)
            inbox.insert(first, inbox[first])
            self.fleet.hear(self.fleet[host], first)

    @rule(host=hosts)
    def hear_the_newest_of_each_topic(self, host: str) -> None:
        """The inbox folds what waits on one topic."""
        self.fleet[host].inbox = list(dict(self.fleet[host].inbox).items())

    @rule()
    def hear_everything(self) -> None:
        self.fleet.hush()

    @rule(host=hosts)
    def say_manifests(self, host: str) -> None:
        if self.fleet[host].alive:
            self.fleet[host].publish_manifests()

    @rule(host=hosts)
    def lose_what_comes(self, host: str) -> None:
        """Messages are lost; the connection after that brings what is retained."""
        if self.fleet[host].connected:
            self.fleet[host].inbox.clear()
            self.fleet[host].connect()

    @rule(host=hosts, silently=st.booleans())
    def lose_the_connection(self, host: str, silently: bool) -> None:  # drawn by name
        """*silently*: what is said until that is noticed is lost."""
        if self.fleet[host].alive and silently:
            self.fleet[host].deaf_and_mute = True
        elif self.fleet[host].alive:
            self.fleet[host].disconnect()

    @rule(host=hosts, hears_first=st.booleans())
    def connect(self, host: str, hears_first: bool) -> None:  # drawn by name
        if self.fleet[host].alive:
            self.fleet[host].connect(hears_first=hears_first)

    @rule(host=hosts, busy=st.booleans())
    def occupy_the_link(self, host: str, busy: bool) -> None:  # drawn by name
        self.fleet[host].link_is_busy = busy

    @rule()
    def wait(self) -> None:
        self.fleet.tick()

    # --- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def increments_equal_a_full_recompute(self) -> None:
        if hasattr(self, "fleet"):
            self.fleet.check()

    @invariant()
    def p7_a_port_here_is_delivered_to(self) -> None:
        for host, port in self._wired() if hasattr(self, "fleet") else ():
            if port.state is State.ACTIVE and port.segment and port.mac:
                fabric = host.reactor.fabric
                entry = l2pop.fdb_entry(fabric, port.segment, port.mac)
                floating = l2pop.floating_entry(fabric, port.segment, port.mac)
                if floating is None:
                    assert entry is not None
                    assert entry.ofport is not None
                else:  # it gets what is flooded, and is learned when it speaks
                    assert port.port_id in {each.claim.port.port_id for each in floating.instances}
                    assert port.kind is Kind.SHARED or fabric.verdict(port.segment, port.mac).rule is Rule.FROZEN

    @rule()
    def no_network_hears_another(self) -> None:
        for host in self.fleet.hosts.values():
            if host.alive and not all(ledger.known for ledger in host.reactor.ledgers.values()):
                host.read_back()
        for host, port in self._wired():
            for heard in self.fleet.hears(f"{host.name}/{port.port_id}"):
                where, _, name = heard.partition("/")
                # What a process that was killed had wired stays wired.
                attachment = self.fleet[where].reactor.fabric.local[PortId(name)]
                assert attachment.claim.port.segment == port.segment

    @precondition(lambda self: all(host.alive for host in self.fleet.hosts.values()))
    @rule()
    def when_all_is_quiet_all_know_what_there_is(self) -> None:
        self._quiet()

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self._quiet()

    # --- when all is quiet ---------------------------------------------------------------------------------------

    def _quiet(self) -> None:
        for name in self.fleet.hosts:
            self._up(name)
        for _ in range(4):  # the last ones for what stays incomplete and is asked for again
            self.fleet.settle(12)
        self._everybody_knows_exactly_what_there_is()
        self._every_port_says_how_it_is()
        self._all_agree_on_the_winners()
        self._frames_reach_whom_they_should()
        self._p6_who_shares_a_mac_is_reached_where_it_spoke_last()

    def _up(self, name: str) -> None:
        host = self.fleet[name]
        host.link_is_busy, host.writes_rows = False, True
        if not host.alive:
            host.start()
        if not host.connected or host.deaf_and_mute:
            host.connect()
        if not all(ledger.known for ledger in host.reactor.ledgers.values()):
            host.read_back()
        self.fleet.carry_out(host)

    def _wired(self) -> Iterator[tuple[Host, Port]]:
        for host in self.fleet.hosts.values():
            if host.alive:
                for attachment in host.reactor.fabric.local.values():
                    port = attachment.claim.port
                    if host.reactor.fabric.problem(port.port_id) is None:
                        yield host, port

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
            assert host.reactor.fabric.claims == heard, f"{host.name} knows something else than there is"
            assert host.reactor.snapshots.incomplete(self.fleet.clock + 3600) == {}
            assert all(not ledger.spares for ledger in host.reactor.ledgers.values())
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

    def _all_agree_on_the_winners(self) -> None:
        nobody = HostName("nobody")
        stations: dict[tuple[Segment, Mac], list[Claim]] = {}
        for claim in self._claims().values():
            if claim.forwards and claim.port.segment and claim.port.mac:
                stations.setdefault((claim.port.segment, claim.port.mac), []).append(claim)
        for (segment, mac), claims in stations.items():
            agreed = winner(claims, nobody)
            if len(claims) == 1 and agreed.rule is not Rule.SHARED:
                assert agreed.winner == claims[0]
            for host in self.fleet.hosts.values():
                verdict = host.reactor.fabric.verdict(segment, mac)
                if segment in host.reactor.fabric.vlans.of and verdict.rule not in (Rule.LOCAL, Rule.FROZEN):
                    assert _who(verdict.winner) == _who(agreed.winner)

    def _frozen(self, sender: str, port: Port, mac: Mac) -> bool:
        host = self.fleet[sender.partition("/")[0]]
        return host.reactor.fabric.verdict(port.segment, mac).rule is Rule.FROZEN if port.segment else False

    def _frames_reach_whom_they_should(self) -> None:
        wired = {f"{host.name}/{port.port_id}": port for host, port in self._wired()}
        for sender, port in wired.items():
            others = {name for name, other in wired.items() if name != sender and other.segment == port.segment}
            assert self.fleet.hears(sender) == others
            for name in others:
                mac = wired[name].mac
                alone = [other.mac for other in wired.values() if other.segment == port.segment].count(mac) == 1
                if mac and alone and wired[name].kind is Kind.SINGLE:
                    heard = self.fleet.hears(sender, mac)
                    # P6: what is frozen is flooded, and so it arrives, too.
                    assert name in heard if self._frozen(sender, port, mac) else heard == {name}

    def _p6_who_shares_a_mac_is_reached_where_it_spoke_last(self) -> None:
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


def _who(claim: Claim | None) -> tuple[str, str] | None:
    return None if claim is None else (claim.host, claim.port.port_id)


TestHypervisors = Hypervisors.TestCase
TestHypervisors.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
