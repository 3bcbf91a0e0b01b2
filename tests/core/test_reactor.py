"""One hypervisor's decisions among others': ports come, move, change and go; processes restart; the bus forgets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.events import ClaimGone, PortEvent, PortRemoved, PortUpdated, key_of, manifest_of
from portwatch.fabric.announcer import INSIST_EVERY
from portwatch.fabric.claims import Rule
from portwatch.fabric.pipeline import Bridge, Policy
from portwatch.fabric.reactor import StaleEvent
from portwatch.fabric.status import PortRecord
from portwatch.fabric.tables import COOKIE
from portwatch.model import (
    SEQ_MAX,
    Claim,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Plug,
    Port,
    PortId,
    State,
    Status,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from portwatch.openflow import parse
from tests.core.fleet import (
    INT,
    START,
    SWITCH_PORTS,
    TOPICS,
    TUN,
    Fleet,
    Host,
    Row,
    a_claim,
    a_port,
    a_vni,
    an_endpoint,
)

P1, P2, P3 = a_port("p1"), a_port("p2"), a_port("p3")
BLUE, RED = NetworkId("blue"), NetworkId("red")


def mac(name: str) -> str:
    return str(a_port(name).mac)


def a_fleet(*hosts: str, policy: Policy | None = None, settled: bool = True, grace: float | None = None) -> Fleet:
    """Return a fleet by what is plugged in where: `a_fleet("p1 p4", "p2", "p3/red")`."""
    fleet = Fleet(len(hosts), policy, grace=grace)
    for number, names in enumerate(hosts, 1):
        for name in names.split():
            port, _, network = name.partition("/")
            fleet[f"hv{number}"].plug(a_port(port, network or "blue"))
    if settled:
        fleet.settle()
    return fleet


def said_by(fleet: Fleet, host: str) -> int:
    """Return how often a host has published."""
    return sum(f"/{host}" in topic for topic, _ in fleet.said)


def programmed(host: Host) -> list[str]:
    """Return every line that was ever committed on a host."""
    return [line for bridge in (INT, TUN) for line in host.bridges[bridge].log]


def publish(fleet: Fleet, claim: Claim, *, removed: bool = False) -> None:
    """Let somebody who is no member of the fleet say something."""
    topic = TOPICS.port(claim.port.network_id, claim.host, claim.port.port_id)
    kind = PortRemoved if removed else PortUpdated
    fleet.broker((Publication(topic, wire.encode_event(kind(claim, 1, fleet.now)), retain=not removed),))


# --- ports come and go -------------------------------------------------------------------------------------------


def test_a_port_hears_of_those_that_were_there_before_it() -> None:
    fleet = a_fleet("p1", "p2", "")

    fleet["hv3"].plug(P3)
    fleet.settle()

    assert fleet.hears("hv3/p3") == {"hv1/p1", "hv2/p2"}
    assert fleet.hears("hv3/p3", mac("p2")) == {"hv2/p2"}
    assert fleet.hears("hv2/p2", mac("p3")) == {"hv3/p3"}


def test_only_hosts_with_a_port_in_a_network_hear_of_it() -> None:
    fleet = a_fleet("p1", "p2", "p8/red")

    assert (fleet["hv1"].knows("blue"), fleet["hv3"].knows("blue")) == (1, 0)
    assert fleet["hv3"].peers() == set()


def test_the_last_port_of_a_network_leaves_nothing_on_its_host() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    empty = Fleet(1)["hv1"].flows()

    fleet["hv1"].unplug("p1")
    fleet.settle()

    assert fleet["hv1"].flows() == empty
    assert (fleet["hv1"].knows("blue"), fleet["hv1"].peers()) == (0, set())
    assert fleet["hv2"].peers() == {"hv3"}
    assert fleet.hears("hv2/p2") == {"hv3/p3"}


def test_the_last_port_of_a_network_leaves_nothing_on_the_bus_but_a_manifest_that_counts_none() -> None:
    fleet = a_fleet("p1", "p2")

    fleet["hv1"].unplug("p1")
    fleet.settle()

    left = {topic.removeprefix("portwatch/v1/") for topic in fleet.retained if "/hosts/" not in topic}
    assert left == {"manifests/blue/hv1", "manifests/blue/hv2", "ports/blue/hv2/p2"}
    assert b'"count":0' in fleet.retained[TOPICS.manifest(BLUE, fleet["hv1"].name)]


def test_the_only_port_of_a_network_that_is_replaced_in_one_batch_keeps_the_others_in_sight() -> None:
    fleet = a_fleet("p1", "p2")

    fleet["hv1"].batch({"p1": None, "p4": a_port("p4")})
    fleet.settle()

    assert fleet.hears("hv1/p4") == {"hv2/p2"}
    assert fleet.hears("hv2/p2", mac("p4")) == {"hv1/p4"}


def test_two_ports_that_swap_their_networks_in_one_batch_keep_both_in_sight() -> None:
    fleet = a_fleet("p1/blue p5/red", "p2/blue p6/red")

    fleet["hv1"].batch({"p1": a_port("p1", "red"), "p5": a_port("p5", "blue")})
    fleet.settle()

    assert fleet.hears("hv1/p1") == {"hv2/p6"}
    assert fleet.hears("hv1/p5") == {"hv2/p2"}


def test_a_network_that_was_left_and_joined_before_the_link_looked_is_told_anew() -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]

    host.link_is_busy = True
    host.unplug("p1")
    host.plug(a_port("p4"))
    host.link_is_busy = False
    fleet.carry_out(host)
    fleet.settle()

    assert fleet.hears("hv1/p4") == {"hv2/p2"}
    assert host.peers() == {"hv2"}


def test_a_peer_stays_accepted_until_the_last_network_that_is_shared_with_it() -> None:
    fleet = a_fleet("p1 p5/red", "p2 p6/red")

    fleet["hv2"].unplug("p2")
    fleet.settle()
    assert fleet["hv1"].peers() == {"hv2"}

    fleet["hv2"].unplug("p6")
    fleet.settle()
    assert fleet["hv1"].peers() == set()


def test_a_port_that_is_pulled_and_comes_back_is_wired_again() -> None:
    fleet = a_fleet("p1", "p2")

    for _ in range(3):
        fleet["hv1"].unplug("p1")
        fleet["hv1"].plug(P1)
    fleet.settle()

    assert fleet["hv1"].status("p1") is Status.ACTIVE
    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p1"}


# --- said first, planned then -----------------------------------------------------------------------------------------


def test_what_the_others_hear_of_a_port_does_not_wait_for_its_flows_to_be_planned() -> None:
    host = a_fleet("p1")["hv1"]
    reactor = host.reactor

    reactor.plugged({PortId("p2"): Plug(P2, OfPort(22))}, SWITCH_PORTS, host.now)
    assert [(event.key[2], event.claim.status) for event in reactor.events] == [("p2", Status.BUILD)]
    assert not any(ledger.owes for ledger in reactor.ledgers.values())

    reactor.plan(host.now)
    assert reactor.ledgers[INT].owes


def test_a_port_whose_flows_are_not_planned_yet_is_not_active_whatever_the_switch_has_taken() -> None:
    host = a_fleet("p1")["hv1"]
    reactor = host.reactor
    reactor.plugged({PortId("p2"): Plug(P2, OfPort(22))}, SWITCH_PORTS, host.now)

    for bridge in Bridge:
        assert reactor.committed(bridge, reactor.progress.generation, host.now) == ()
    assert {event.claim.status for event in reactor.events} == {Status.BUILD}

    reactor.plan(host.now)
    assert "p2" not in reactor.progress.installed


def test_what_is_heard_between_saying_and_planning_is_planned_with_it() -> None:
    fleet = a_fleet("p1", "")
    host = fleet["hv1"]
    host.plugged[PortId("p3")] = (P3, OfPort(33))
    host.reactor.plugged({PortId("p3"): host.plug_of("p3")}, SWITCH_PORTS, host.now)

    fleet["hv2"].plug(P2)
    fleet.settle()

    assert host.status("p3") is Status.ACTIVE
    assert fleet.hears("hv1/p1") == {"hv1/p3", "hv2/p2"}
    assert host.peers() == {"hv2"}


def test_a_port_that_may_be_wired_at_last_and_is_pulled_before_that_is_planned_is_awaited_by_nobody() -> None:
    fleet = a_vni_conflict()
    host = fleet["hv1"]

    host.reactor.plugged({PortId("p1"): None}, SWITCH_PORTS, host.now)
    host.reactor.plugged({PortId("p5"): None}, SWITCH_PORTS, host.now)
    host.plugged.clear()
    fleet.carry_out(host)
    fleet.settle()

    assert not host.reactor.progress.awaited
    assert fleet.hears("hv2/p2") == set()


# --- status, and what is written ---------------------------------------------------------------------------------


def test_a_port_is_active_once_both_bridges_hold_its_flows() -> None:
    fleet = a_fleet("", "p2")
    host = fleet["hv1"]
    host.programmed = {INT}
    host.plug(P1)
    assert host.status("p1") is Status.BUILD
    assert PortId("p1") not in host.rows

    host.programmed = {INT, TUN}
    fleet.carry_out(host)

    assert host.status("p1") is Status.ACTIVE
    assert host.rows[PortId("p1")].installed


def test_what_was_committed_before_the_port_came_does_not_make_it_active() -> None:
    fleet = a_fleet("p2")
    host = fleet["hv1"]
    before = host.reactor.progress.generation
    host.programmed = set()
    host.plug(P1)

    for bridge in (INT, TUN):
        assert host.reactor.committed(bridge, before, host.now) == ()

    assert host.status("p1") is Status.BUILD


def test_the_ports_that_a_commit_installs_are_told() -> None:
    fleet = a_fleet("", "p2")
    host = fleet["hv1"]
    host.programmed = set()
    host.plug(P1)
    generation = host.reactor.progress.generation

    assert host.reactor.committed(INT, generation, host.now) == ()
    assert host.reactor.committed(TUN, generation, host.now) == ("p1",)


def test_a_port_is_said_to_be_built_and_then_active_and_nothing_more() -> None:
    fleet = a_fleet("", "p2")

    fleet["hv1"].plug(P1)
    fleet.settle()

    events = [TOPICS.decode(topic, said) for topic, said in fleet.said if topic.endswith("/hv1/p1")]
    assert [event.claim.status for event in events if isinstance(event, PortEvent)] == [
        Status.BUILD,
        Status.ACTIVE,
    ]


def test_a_wired_ports_row_remembers_its_network_tag_and_age() -> None:
    fleet = a_fleet("p1")
    host = fleet["hv1"]

    assert host.rows[PortId("p1")] == Row(LocalVlan(1), BLUE, host.claim("p1").seq, installed=True)


@pytest.mark.parametrize("changes", [{"admin_up": False}, {"mac": None}, {"fault": "bad-attached-mac: zz"}])
def test_a_ports_row_forgets_the_network_when_it_is_wired_no_more(changes: dict[str, object]) -> None:
    fleet = a_fleet("p1")
    host = fleet["hv1"]
    seq = host.claim("p1").seq

    host.change("p1", **changes)

    row = host.rows[PortId("p1")]
    assert (row.network_id, row.installed, row.seq) == (None, False, seq)


@pytest.mark.parametrize("changes", [{}, {"admin_up": False}])
def test_what_is_on_the_row_already_is_not_written_again(changes: dict[str, object]) -> None:
    host = a_fleet("p1")["hv1"]
    host.change("p1", **changes)

    host.reactor.plugged({PortId("p1"): host.plug_of("p1")}, SWITCH_PORTS, host.now)
    host.reactor.plan(host.now)

    assert host.reactor.records == {}


def test_what_somebody_else_wrote_over_on_the_row_is_written_again() -> None:
    host = a_fleet("p1")["hv1"]
    good = host.rows[PortId("p1")]
    host.rows[PortId("p1")] = replace(good, tag=LocalVlan(77))

    host.reactor.plugged({PortId("p1"): host.plug_of("p1")}, SWITCH_PORTS, host.now)
    host.reactor.plan(host.now)

    assert host.reactor.records == {"p1": PortRecord(good.network_id, good.tag, good.seq or 0, good.installed)}


def test_a_port_that_is_pulled_is_not_written_on() -> None:
    host = a_fleet("")["hv1"]
    host.reactor.plugged({PortId("p1"): None}, SWITCH_PORTS, host.now)
    host.reactor.plan(host.now)
    host.programmed = set()
    host.plug(P1)

    host.unplug("p1")

    assert host.reactor.records == {}


# --- ports change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"fixed_ips": ()},
        {"fixed_ips": (fixed_ip("10.0.0.77"), fixed_ip("fd00::77"))},
        {"device_owner": "network:dhcp"},
        {"state": State.PREPARING},
        {"kind": Kind.SHARED},
        {"mac": Mac("fa:16:3e:00:00:77")},
        {"segmentation_id": Vni(77)},
        {"network_id": RED, "segmentation_id": a_vni("red")},
    ],
)
def test_a_port_that_changed_is_active_again(changes: dict[str, object]) -> None:
    fleet = a_fleet("p1 p4", "p2")

    fleet["hv1"].change("p1", **changes)
    fleet.settle()

    assert fleet["hv1"].status("p1") is Status.ACTIVE
    assert fleet["hv1"].rows[PortId("p1")].installed


def test_a_change_of_network_moves_the_port_from_the_one_to_the_other() -> None:
    fleet = a_fleet("p1 p4", "p2 p6/red")

    fleet["hv1"].change("p1", network_id=RED, segmentation_id=a_vni("red"))
    fleet.settle()

    assert fleet.hears("hv1/p1") == {"hv2/p6"}
    assert fleet.hears("hv2/p6", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p4"}, "unknown there by now, so it is flooded"
    assert fleet["hv1"].rows[PortId("p1")].network_id == RED


def test_a_change_of_mac_is_followed_everywhere() -> None:
    fleet = a_fleet("p1 p4", "p2 p5")

    fleet["hv1"].change("p1", mac=Mac("fa:16:3e:00:00:77"))
    fleet.settle()

    assert fleet.hears("hv2/p2", "fa:16:3e:00:00:77") == {"hv1/p1"}
    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p1", "hv1/p4", "hv2/p5"}, "nobody's by now, so it is flooded"


def test_a_change_of_address_is_followed_everywhere() -> None:
    fleet = a_fleet("p1", "p2")

    fleet["hv1"].change("p1", fixed_ips=(fixed_ip("10.0.0.77"),))
    fleet.settle()

    answers = [line for line in fleet["hv2"].flows() if "arp_tpa=" in line]
    assert all("arp_tpa=10.0.0.77," in line for line in answers)
    assert len(answers) == 2


def test_a_port_that_goes_down_is_down_everywhere_and_comes_back() -> None:
    fleet = a_fleet("p1 p4", "p2")

    fleet["hv1"].change("p1", admin_up=False)
    fleet.settle()
    assert fleet["hv1"].status("p1") is Status.DOWN
    assert fleet.hears("hv2/p2") == {"hv1/p4"}
    assert mac("p1") not in "".join(fleet["hv2"].flows())

    fleet["hv1"].change("p1", admin_up=True)
    fleet.settle()
    assert fleet["hv1"].status("p1") is Status.ACTIVE
    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p1"}


def test_a_host_whose_last_port_of_a_network_goes_down_is_flooded_to_no_more() -> None:
    fleet = a_fleet("p1", "p2", "p3")

    fleet["hv1"].change("p1", admin_up=False)
    fleet.settle()

    assert fleet["hv2"].peers() == {"hv3"}
    assert fleet["hv1"].peers() == set()


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"mac": None}, Status.BUILD, "details-missing: "),
        ({"network_id": None}, Status.BUILD, "details-missing: "),
        ({"segmentation_id": None}, Status.BUILD, "details-missing: "),
        ({"fault": "bad-attached-mac: zz"}, Status.ERROR, "bad-attached-mac: "),
        ({"fault": "bad-attached-mac: zz", "admin_up": False}, Status.ERROR, "bad-attached-mac: "),
        ({"admin_up": False, "mac": None}, Status.DOWN, ""),
    ],
)
def test_a_port_with_bad_keys_says_so_and_harms_no_other(
    changes: dict[str, object], status: Status, reason: str
) -> None:
    fleet = a_fleet("p1 p4", "p2")
    before = [line for line in fleet["hv1"].flows() if mac("p4") in line]

    fleet["hv1"].change("p1", **changes)
    fleet.settle()

    claim = fleet["hv1"].claim("p1")
    assert claim.status is status
    assert (claim.reason or "").startswith(reason)
    assert [line for line in fleet["hv1"].flows() if mac("p4") in line] == before
    assert fleet.hears("hv2/p2") == {"hv1/p4"}
    assert fleet.hears("hv2/p2", mac("p4")) == {"hv1/p4"}


def test_keys_that_come_one_by_one_end_as_if_they_had_come_at_once() -> None:
    fleet, at_once = a_fleet("", "p2"), a_fleet("", "p2")
    keys = {"mac": P1.mac, "segmentation_id": P1.segmentation_id, "fixed_ips": P1.fixed_ips, "network_id": BLUE}

    fleet["hv1"].plug(Port(PortId("p1")))
    for key, value in keys.items():
        fleet["hv1"].change("p1", **{key: value})
        fleet.settle()
    at_once["hv1"].plug(P1)
    at_once.settle()

    assert fleet["hv1"].flows() == at_once["hv1"].flows()
    assert fleet["hv2"].flows() == at_once["hv2"].flows()
    assert [topic for topic in fleet.retained if "/ports/_/" in topic] == []


def test_a_port_of_an_unknown_network_is_said_under_an_underscore() -> None:
    fleet = a_fleet("", "p2")

    fleet["hv1"].plug(a_port("p1", None))
    fleet.settle()

    assert TOPICS.port(None, fleet["hv1"].name, PortId("p1")) in fleet.retained
    assert fleet["hv1"].status("p1") is Status.BUILD


def test_a_new_ofport_is_where_the_port_is_delivered_to() -> None:
    fleet = a_fleet("p1", "p2")

    fleet["hv1"].plug(P1, ofport=77)
    fleet.settle()

    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv1/p1") == {"hv2/p2"}


def test_two_ports_whose_ofports_change_places_row_by_row_end_in_the_right_ones() -> None:
    fleet = a_fleet("p1 p4", "p2")
    host = fleet["hv1"]
    first, second = (host.plugged[PortId(name)][1] for name in ("p1", "p4"))

    host.plug(P1, ofport=second)
    host.change("p4", fixed_ips=())
    host.plug(host.port("p4"), ofport=first)
    fleet.settle()

    for name in ("p1", "p4"):
        assert fleet.hears("hv2/p2", mac(name)) == {f"hv1/{name}"}
        assert fleet.hears(f"hv1/{name}", mac("p2")) == {"hv2/p2"}


def test_a_network_that_is_not_tunnelled_is_announced_and_stays_on_its_host() -> None:
    fleet = Fleet(2)
    flat = {"network_type": NetworkType("flat"), "segmentation_id": None}
    for host, names in (("hv1", ("p1", "p4")), ("hv2", ("p2",))):
        for name in names:
            fleet[host].plug(a_port(name, **flat))
    fleet.settle()

    assert fleet["hv1"].status("p1") is Status.ACTIVE
    assert fleet["hv1"].knows("blue") == 1
    assert fleet.hears("hv1/p1") == {"hv1/p4"}
    assert fleet.hears("hv1/p1", mac("p4")) == {"hv1/p4"}


def test_a_port_whose_tunnel_is_not_made_yet_is_not_active_before_the_switch_holds_the_way_through_it() -> None:
    geneve = NetworkType("geneve")
    fleet = a_fleet("", "")
    (host, _) = fleet.hosts.values()
    host.plug(a_port("p1", network_type=geneve))
    host.plug(a_port("p2"))
    fleet.settle()
    assert (host.status("p1"), host.status("p2")) == (Status.BUILD, Status.ACTIVE)

    host.programmed = {INT}
    with_geneve = replace(SWITCH_PORTS, tunnels=(*SWITCH_PORTS.tunnels, (geneve, OfPort(4))))
    host.reactor.plugged({}, with_geneve, host.now)
    fleet.carry_out(host)
    assert host.status("p1") is Status.BUILD

    host.programmed = {INT, TUN}
    fleet.carry_out(host)
    assert host.status("p1") is Status.ACTIVE


# --- two networks want one VNI -----------------------------------------------------------------------------------


def a_vni_conflict() -> Fleet:
    """Return a fleet in which red, second on hv1, claims blue's VNI."""
    fleet = a_fleet("p1", "p2")
    fleet["hv1"].plug(a_port("p5", "red", segmentation_id=a_vni("blue")))
    fleet.settle()
    return fleet


def test_of_two_networks_with_one_vni_the_first_goes_on_and_the_second_is_in_error() -> None:
    fleet = a_vni_conflict()

    assert fleet["hv1"].status("p1") is Status.ACTIVE
    assert fleet["hv1"].status("p5") is Status.ERROR
    assert (fleet["hv1"].claim("p5").reason or "").startswith("vni-conflict: ")
    assert fleet.hears("hv2/p2") == {"hv1/p1"}


def test_a_restart_does_not_turn_a_vni_conflict_round() -> None:
    fleet = a_vni_conflict()
    host = fleet["hv1"]
    host.kill()
    host.plugged = dict(reversed(host.plugged.items()))

    host.start()
    fleet.settle()

    assert (host.status("p1"), host.status("p5")) == (Status.ACTIVE, Status.ERROR)


def test_a_vni_conflict_heals_when_the_first_network_leaves() -> None:
    fleet = a_vni_conflict()

    fleet["hv1"].unplug("p1")
    fleet.settle()

    assert fleet["hv1"].status("p5") is Status.ACTIVE
    assert fleet.hears("hv2/p2") == set()


def test_a_vni_conflict_heals_when_the_second_network_takes_another_vni() -> None:
    fleet = a_vni_conflict()

    fleet["hv1"].change("p5", segmentation_id=a_vni("red"))
    fleet.settle()

    assert fleet["hv1"].status("p5") is Status.ACTIVE
    assert (fleet["hv1"].claim("p5").reason, fleet.hears("hv1/p5")) == (None, set())


# --- ports move --------------------------------------------------------------------------------------------------


def test_a_port_that_moved_is_reached_where_it_is() -> None:
    fleet = a_fleet("p1", "p4", "p3")

    fleet["hv2"].plug(P1)
    fleet["hv1"].unplug("p1")
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}
    assert fleet.hears("hv2/p4", mac("p1")) == {"hv2/p1"}
    assert fleet["hv3"].peers() == {"hv2"}


def test_p4_during_a_move_there_is_a_way_to_the_port_at_every_moment() -> None:
    fleet = a_fleet("p1 p5", "p4", "p3")
    watcher = fleet["hv3"]

    def reached() -> bool:
        return bool(fleet.hears("hv3/p3", mac("p1")) & {"hv1/p1", "hv2/p1"})

    fleet["hv2"].plug(P1)
    assert reached()
    while watcher.inbox:
        fleet.hear(watcher)
        assert reached()
    fleet["hv1"].unplug("p1")
    while watcher.inbox:
        fleet.hear(watcher)
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_p4_when_the_removal_is_heard_first_the_port_is_flooded_for_until_the_rest_is_heard() -> None:
    fleet = a_fleet("p1", "p4", "p3")
    watcher = fleet["hv3"]

    fleet["hv2"].plug(P1)
    fleet["hv1"].unplug("p1")
    watcher.inbox.sort(key=lambda message: "/hv2/" in message[0])
    while watcher.inbox:
        fleet.hear(watcher)
        assert "hv2/p1" in fleet.hears("hv3/p3", mac("p1")) or fleet.hears("hv3/p3", mac("p1")) == set()
        if not any("/hv1/" in topic for topic, _ in watcher.inbox):
            assert "hv2/p1" in fleet.hears("hv3/p3", mac("p1"))
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_a_removal_that_comes_late_from_the_old_host_takes_nothing_from_the_new_one() -> None:
    fleet = a_fleet("p1", "p4", "p3")
    watcher = fleet["hv3"]
    fleet["hv1"].unplug("p1")
    late, watcher.inbox = watcher.inbox, []

    fleet["hv2"].plug(P1)
    fleet.settle()
    watcher.inbox = late
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_the_destination_of_a_migration_is_second_until_it_is_active() -> None:
    fleet = a_fleet("p1", "p4", "p3")

    fleet["hv2"].plug(a_port("p1", state=State.PREPARING))
    fleet.settle()
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv2/p4", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv3/p3") == {"hv1/p1", "hv2/p1", "hv2/p4"}
    assert fleet["hv2"].status("p1") is Status.ACTIVE

    fleet["hv2"].change("p1", state=State.ACTIVE)
    fleet.settle()
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}
    assert fleet.hears("hv2/p4", mac("p1")) == {"hv2/p1"}


def test_the_destination_of_a_migration_wins_when_the_source_leaves() -> None:
    fleet = a_fleet("p1", "p4", "p3")
    fleet["hv2"].plug(a_port("p1", state=State.PREPARING))

    fleet["hv1"].unplug("p1")
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}
    assert fleet.hears("hv2/p4", mac("p1")) == {"hv2/p1"}


def test_a_port_on_two_hosts_is_reached_at_the_later_and_each_keeps_its_own() -> None:
    fleet = a_fleet("p1 p5", "p4", "p3")

    fleet["hv2"].plug(P1)
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}
    assert fleet.hears("hv1/p5", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv2/p4", mac("p1")) == {"hv2/p1"}
    segment = P1.segment
    assert segment
    assert P1.mac
    verdicts = {name: host.reactor.fabric.verdict(segment, P1.mac) for name, host in fleet.hosts.items()}
    assert {name: verdict.contested for name, verdict in verdicts.items()} == {"hv1": True, "hv2": False, "hv3": False}
    assert verdicts["hv3"].rule is Rule.SEQ


def test_p5_who_loses_a_port_says_nothing() -> None:
    fleet = a_fleet("p1", "p4", "p3")
    before = said_by(fleet, "hv1")

    fleet["hv2"].plug(P1)
    fleet.settle()
    fleet.settle(600)

    assert said_by(fleet, "hv1") == before


def test_p5_what_others_say_makes_nobody_say_anything() -> None:
    fleet = a_fleet("p1", "p2")
    before = {host: said_by(fleet, host) for host in fleet.hosts}

    for number in range(20):
        publish(fleet, a_claim(a_port(f"p{number + 1}"), host=9, seq=SEQ_MAX - number, revision=number))
        fleet.settle()

    assert {host: said_by(fleet, host) for host in fleet.hosts} == before


def test_a_mac_that_moved_too_often_is_flooded_until_it_has_been_quiet() -> None:
    fleet = a_fleet("", "p1 p4", "p3")
    for host in ("hv1", "hv2") * 3:
        other = "hv2" if host == "hv1" else "hv1"
        fleet[host].plug(P1)
        fleet.hush()
        fleet[other].unplug("p1")
        fleet.hush()
    fleet["hv1"].plug(P1)
    fleet.settle()
    assert fleet.hears("hv3/p3", mac("p1")) >= {"hv1/p1", "hv2/p1"}

    fleet.settle(1801)

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}


# --- since when --------------------------------------------------------------------------------------------------


def test_a_restart_is_not_a_move() -> None:
    fleet = a_fleet("p1", "p4", "p3")
    fleet["hv2"].plug(P1)
    fleet.settle()
    seq = fleet["hv1"].claim("p1").seq

    fleet["hv1"].restart()
    fleet.settle()

    assert fleet["hv1"].claim("p1").seq == seq
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_a_restart_of_an_agent_that_could_not_write_its_rows_is_not_a_move_either() -> None:
    fleet = Fleet(3)
    fleet["hv1"].writes_rows = False
    fleet["hv1"].plug(P1)
    fleet["hv3"].plug(P3)
    fleet.settle()
    seq = fleet["hv1"].claim("p1").seq
    fleet["hv2"].plug(P1)
    fleet.settle()

    fleet["hv1"].restart()
    fleet.settle()

    assert fleet["hv1"].claim("p1").seq == seq
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


@pytest.mark.parametrize("to", ["red", None])
def test_the_bus_remembers_a_ports_age_though_its_network_changed_while_nobody_watched(to: str | None) -> None:
    fleet = Fleet(2)
    fleet["hv1"].writes_rows = False
    fleet["hv1"].plug(P1)
    fleet.settle()
    seq = fleet["hv1"].claim("p1").seq
    fleet["hv1"].kill()
    fleet["hv1"].plug(a_port("p1", to))

    fleet["hv1"].start()
    fleet.settle()

    assert fleet["hv1"].claim("p1").seq == seq
    assert [topic for topic in fleet.retained if "/ports/" in topic] == [TOPICS.port(*key_of(fleet["hv1"].claim("p1")))]


def test_a_port_of_unknown_age_wins_alone_and_gives_way_to_any_other() -> None:
    fleet = Fleet(3)
    fleet["hv1"].writes_rows = False
    fleet["hv1"].plug(P1)
    fleet["hv3"].plug(P3)
    fleet.settle()
    fleet["hv1"].kill()
    fleet.retained.pop(TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id))

    fleet["hv1"].start()
    fleet.settle()
    assert fleet["hv1"].claim("p1").seq == 0
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}

    fleet["hv2"].plug(P1)
    fleet.settle()
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def a_fast_clock(*hosts: str) -> Fleet:
    """Return a fleet in which hv1's clock is an hour ahead."""
    fleet = Fleet(len(hosts))
    fleet["hv1"].skew = timedelta(hours=1)
    for number, names in enumerate(hosts, 1):
        for name in names.split():
            fleet[f"hv{number}"].plug(a_port(name))
    fleet.settle()
    return fleet


def test_a_move_from_a_host_with_a_fast_clock_is_a_move() -> None:
    fleet = a_fast_clock("p1", "p4", "p3")

    fleet["hv2"].plug(P1)
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_it_is_so_for_the_first_port_of_its_network_there() -> None:
    fleet = a_fast_clock("p1", "", "p3")

    fleet["hv2"].plug(P1)
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


@pytest.mark.parametrize("network_known", ["p4", ""])
def test_it_is_so_when_the_keys_come_one_by_one(network_known: str) -> None:
    fleet = a_fast_clock("p1", network_known, "p3")

    fleet["hv2"].plug(Port(PortId("p1")))
    for key in ("network_id", "segmentation_id", "mac"):
        fleet["hv2"].change("p1", **{key: getattr(P1, key)})
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("step", [timedelta(hours=-5), timedelta(days=1), timedelta(days=-1), timedelta(days=400)])
def test_clocks_that_are_apart_and_are_stepped_while_we_run_change_no_decision(first: int, step: timedelta) -> None:
    """Each of the acts comes after a step of one host's clock; what is programmed in the end is as with true clocks."""
    one, two, three = ("hv1", "hv2", "hv3")

    def act(fleet: Fleet, number: int) -> None:
        match number:
            case 0:
                fleet[two].plug(P1)
                fleet.settle()
                fleet[one].unplug("p1")
            case 1:
                fleet[three].plug(P1)
            case 2:
                fleet[two].restart()
                fleet[two].unplug("p1")
            case 3:
                fleet[one].plug(a_port("p1", mac=Mac("fa:16:3e:00:00:77")))
                fleet[three].unplug("p1")
            case 4:
                fleet[one].kill()
                fleet[one].start()
                fleet[one].change("p1", mac=P1.mac)
            case _:
                fleet[one].reactor.drain(fleet[one].now, leaving=True)
                fleet[two].plug(P1)
        fleet.settle()

    stepped, true = a_fleet("p1", "p2", "p3"), a_fleet("p1", "p2", "p3")
    for number in range(6):
        stepped[f"hv{(first + number) % 3 + 1}"].skew += step
        for fleet in (stepped, true):
            act(fleet, number)
        assert {name: host.flows() for name, host in stepped.hosts.items()} == {
            name: host.flows() for name, host in true.hosts.items()
        }
    assert stepped.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_a_port_with_another_mac_comes_after_its_own_older_claim() -> None:
    fleet = a_fast_clock("p1", "p4", "p3")

    fleet["hv2"].plug(a_port("p1", mac=Mac("fa:16:3e:00:00:77")))
    fleet.settle()

    assert fleet["hv2"].claim("p1").seq == fleet["hv1"].claim("p1").seq + 1


def test_of_two_attachments_before_the_network_has_settled_the_later_wins() -> None:
    fleet = a_fleet("", "p4", "")

    fleet["hv1"].plug(P1)
    fleet["hv3"].plug(P1)
    fleet.settle()
    fleet.settle()

    assert fleet.hears("hv2/p4", mac("p1")) == {"hv3/p1"}


@pytest.mark.parametrize("hours", [-3, 3])
@pytest.mark.parametrize("skewed", ["hv1", "hv2"])
@pytest.mark.parametrize("there_before", ["", "p4"])
def test_a_move_is_a_move_whoever_of_the_two_has_a_wrong_clock(skewed: str, hours: int, there_before: str) -> None:
    """When the later one can see the earlier one's claim, clocks do not matter."""
    fleet = Fleet(3)
    fleet[skewed].skew = timedelta(hours=hours)
    for host, names in (("hv1", "p1"), ("hv2", there_before), ("hv3", "p3")):
        for name in names.split():
            fleet[host].plug(a_port(name))
    fleet.settle()

    fleet["hv2"].plug(P1)
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


@pytest.mark.parametrize("hours", [-3, 3])
@pytest.mark.parametrize("skewed", ["hv1", "hv2"])
def test_a_newer_attachment_that_is_heard_of_live_is_not_outbid(skewed: str, hours: int) -> None:
    """A network that has not settled is no reason to come before those that came after."""
    fleet = a_fleet("p4", "", "p3", settled=False)
    fleet[skewed].skew = timedelta(hours=hours)
    fleet["hv1"].plug(P1)
    fleet.hush()

    fleet["hv2"].plug(P1)
    fleet.settle()
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_who_was_cut_off_does_not_outbid_what_was_attached_elsewhere_meanwhile() -> None:
    fleet = a_fleet("", "", "p3")
    fleet["hv1"].disconnect()
    fleet["hv1"].plug(P1)
    fleet.settle(600)

    fleet["hv2"].plug(P1)
    fleet.settle(600)
    fleet["hv1"].connect()
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_a_port_that_came_while_we_were_away_came_after_those_that_were_elsewhere_before() -> None:
    fleet = a_fleet("p2", "p1", "p3")
    fleet["hv1"].kill()
    fleet["hv1"].plug(P1)

    fleet["hv1"].start()
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}


def test_a_port_that_came_while_we_were_away_does_not_outbid_one_that_came_since() -> None:
    fleet = a_fleet("p2", "p4", "p3")
    fleet["hv1"].kill()
    fleet["hv1"].plug(P1)
    fleet["hv1"].start()
    fleet.hush()

    fleet["hv2"].plug(P1)
    fleet.settle()
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_a_claim_from_a_fast_clock_that_is_heard_once_more_has_not_come_before_for_that() -> None:
    fleet = a_fleet("p4", "", "p3", settled=False)
    fleet["hv2"].skew = timedelta(hours=3)
    fleet["hv1"].plug(P1)
    fleet.hush()
    fleet["hv2"].plug(P1)
    fleet.hush()

    fleet["hv1"].connect()
    fleet.settle()

    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}


def test_an_old_claim_that_comes_after_the_network_has_settled_does_not_make_a_port_younger() -> None:
    """Being alive is no reason to claim again: else two hosts would overbid each other for ever."""
    fleet = a_fleet("p1", "p2")
    seq = fleet["hv1"].claim("p1").seq

    publish(fleet, a_claim(P1, host=9, seq=seq + 5))
    fleet.settle()
    fleet.settle(600)

    assert fleet["hv1"].claim("p1").seq == seq


def test_the_highest_seq_there_is_can_be_equalled_and_said() -> None:
    fleet = a_fleet("", "p2")
    publish(fleet, rival := a_claim(P1, host=9, seq=SEQ_MAX))
    manifest = manifest_of(BLUE, rival.host, rival.session, [rival])
    fleet.broker((Publication(TOPICS.manifest(BLUE, rival.host), wire.encode_manifest(manifest), retain=True),))
    fleet.settle()

    fleet["hv1"].plug(P1)
    fleet.settle()
    fleet["hv1"].restart()
    fleet.settle()

    assert fleet["hv1"].claim("p1").seq == SEQ_MAX
    assert fleet["hv1"].status("p1") is Status.ACTIVE


def test_a_port_is_as_old_as_the_clock_when_nobody_else_has_it() -> None:
    fleet = a_fleet("", "p2")

    fleet["hv1"].plug(P1)

    assert START <= START + timedelta(milliseconds=fleet["hv1"].claim("p1").seq - START.timestamp() * 1000) <= fleet.now


# --- drained -----------------------------------------------------------------------------------------------------


def test_a_drained_host_gives_way_to_whoever_has_the_port_besides() -> None:
    fleet = a_fleet("p4", "p1", "p3")
    fleet["hv1"].plug(P1)
    fleet.settle()
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}

    fleet["hv1"].drain()
    fleet.settle()

    assert {fleet["hv1"].claim(name).port.state for name in ("p1", "p4")} == {State.LEAVING}
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv2/p1"}
    assert fleet.hears("hv3/p3", mac("p4")) == {"hv1/p4"}, "who leaves and is alone stays the owner"


def test_a_port_that_is_no_owner_yet_does_not_leave() -> None:
    fleet = Fleet(2)
    fleet["hv1"].plug(a_port("p1", state=State.PREPARING))

    fleet["hv1"].drain()

    assert fleet["hv1"].claim("p1").port.state is State.PREPARING


@pytest.mark.parametrize("end", [Host.restart, lambda host: (host.kill(), host.start())])
def test_a_host_that_was_drained_is_so_after_a_restart_until_it_is_taken_back(end: Callable[[Host], None]) -> None:
    fleet = a_fleet("p1 p4", "p2")
    fleet["hv1"].drain()
    fleet.settle()

    end(fleet["hv1"])
    fleet["hv1"].plug(a_port("p5"))
    fleet.settle()
    assert {fleet["hv1"].claim(name).port.state for name in ("p1", "p4", "p5")} == {State.LEAVING}

    fleet["hv1"].drain(leaving=False)
    fleet["hv1"].restart()
    fleet.settle()
    assert {fleet["hv1"].claim(name).port.state for name in ("p1", "p4", "p5")} == {State.ACTIVE}


def test_the_claim_of_a_port_that_has_left_while_we_were_drained_drains_nobody() -> None:
    fleet = a_fleet("p1 p4", "p2")
    fleet["hv1"].drain()
    fleet.settle()
    fleet["hv1"].kill()
    leaving = fleet.retained[TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id)]
    fleet["hv1"].start()
    fleet["hv1"].drain(leaving=False)
    fleet["hv1"].unplug("p1")
    fleet.settle()

    fleet.broker((Publication(TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id), leaving, retain=True),))
    fleet.settle()

    assert not fleet["hv1"].reactor.leaving
    assert TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id) not in fleet.retained, "it is ended"


# --- gone for too long -------------------------------------------------------------------------------------------


def test_the_claims_of_a_host_that_is_gone_for_too_long_do_not_count_until_it_is_back() -> None:
    fleet = a_fleet("p1", "p2", "p3", grace=30.0)
    fleet["hv1"].kill()

    fleet.settle(29)
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}
    assert fleet["hv3"].peers() == {"hv1", "hv2"}
    fleet.settle(1)
    fleet.settle(30)

    assert fleet["hv3"].peers() == {"hv2"}
    assert fleet["hv3"].knows("blue") == 2, "they are held all the same"
    assert set(fleet["hv3"].reactor.fabric.heard.hosts) == {"hv1", "hv2"}
    assert PortId("p1") not in {name.partition("/")[2] for name in fleet.hears("hv3/p3")}

    fleet["hv1"].start()
    fleet.settle()
    assert fleet.hears("hv3/p3", mac("p1")) == {"hv1/p1"}
    assert fleet["hv3"].peers() == {"hv1", "hv2"}


def test_a_host_that_was_stopped_is_not_gone() -> None:
    fleet = a_fleet("p1", "p3", grace=30.0)
    fleet["hv1"].stop()

    fleet.settle(3600)

    assert fleet.hears("hv2/p3", mac("p1")) == {"hv1/p1"}


def test_who_is_gone_and_says_something_late_is_still_gone() -> None:
    fleet = a_fleet("p1", "p3", grace=30.0)
    fleet["hv1"].kill()
    fleet.settle(31)

    publish(fleet, a_claim(a_port("p7"), host=1))
    fleet.settle()

    assert fleet["hv2"].peers() == set()


# --- restarts ----------------------------------------------------------------------------------------------------


def stop_and_start(_: Fleet, host: Host) -> None:
    host.restart()


def kill_and_start(_: Fleet, host: Host) -> None:
    host.kill()
    host.start()


def start_twice(_: Fleet, host: Host) -> None:
    host.restart()
    host.restart()


def find_the_switch_late(fleet: Fleet, host: Host) -> None:
    host.kill()
    host.start(read_back=False)
    fleet.hush()
    host.read_back()


def find_the_switch_twice(_: Fleet, host: Host) -> None:
    host.kill()
    host.start()
    host.read_back()


def find_the_ports_in_another_order(_: Fleet, host: Host) -> None:
    host.kill()
    host.plugged = dict(reversed(host.plugged.items()))
    host.start()


RESTARTS = (
    stop_and_start,
    kill_and_start,
    start_twice,
    find_the_switch_late,
    find_the_switch_twice,
    find_the_ports_in_another_order,
)
Restart = Callable[[Fleet, Host], None]


@pytest.mark.parametrize("restart", RESTARTS)
def test_a_restart_changes_no_flow_at_any_moment(restart: Restart) -> None:
    fleet = a_fleet("p1 p4 p5/red p7/green", "p2 p6/red", "p3 p8/green")
    fleet["hv2"].plug(a_port("p9", kind=Kind.SHARED))
    fleet["hv1"].unplug("p5")
    fleet["hv1"].plug(a_port("p5", "red"))
    fleet.settle()
    host = fleet["hv1"]
    before, lines = host.flows(), len(programmed(host))

    restart(fleet, host)
    assert host.flows() == before
    fleet.settle()
    fleet.settle(600)

    assert host.flows() == before
    assert programmed(host)[lines:] == []


@pytest.mark.parametrize("restart", RESTARTS)
def test_a_restart_is_told_to_the_others_as_what_it_is(restart: Restart) -> None:
    fleet = a_fleet("p1", "p2")
    peer = fleet["hv2"]
    before, lines = peer.flows(), len(programmed(peer))

    restart(fleet, fleet["hv1"])
    fleet.settle()

    assert (peer.flows(), programmed(peer)[lines:]) == (before, [])
    events = [TOPICS.decode(topic, said) for topic, said in fleet.said if topic.endswith("/hv1/p1")]
    assert isinstance(events[-1], PortUpdated)
    assert events[-1].claim.session == fleet["hv1"].reactor.identity.session
    assert fleet["hv1"].status("p1") is Status.ACTIVE


def test_what_vanished_while_we_were_away_goes_once_the_snapshot_is_complete_and_not_before() -> None:
    fleet = a_fleet("p1", "p2 p4", "p3")
    host = fleet["hv1"]
    host.kill()
    fleet["hv2"].unplug("p4")
    fleet["hv3"].unplug("p3")
    fleet.hush()
    before = host.flows()

    host.start()
    assert host.flows() == before
    fleet.settle()

    gone = "".join(host.flows())
    assert mac("p4") not in gone
    assert mac("p3") not in gone
    assert "192.0.2.13" not in gone
    assert fleet.hears("hv1/p1") == {"hv2/p2"}


def test_a_host_that_vanished_with_its_last_word_unheard_goes_too() -> None:
    """It has nothing left in the network: only its manifest says so, and its own status where it was."""
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    host.kill()
    fleet["hv2"].unplug("p2")
    fleet.hush()

    host.start()
    fleet.settle()
    fleet.settle()

    assert "192.0.2.12" not in "".join(host.flows())


def test_what_appeared_while_we_were_away_is_there_at_once() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    fleet["hv1"].kill()
    fleet["hv2"].plug(a_port("p5"))
    fleet["hv3"].unplug("p3")
    fleet["hv3"].plug(a_port("p6"))
    fleet.hush()

    fleet["hv1"].start()
    fleet.hush()

    assert fleet.hears("hv1/p1", mac("p5")) == {"hv2/p5"}
    assert fleet.hears("hv1/p1", mac("p6")) == {"hv3/p6"}


def test_ports_that_went_while_we_were_away_are_ended_in_our_name() -> None:
    fleet = a_fleet("p1 p4 p5/red", "p2 p6/red")
    host = fleet["hv1"]
    host.kill()
    host.unplug("p4", "p5")

    host.start()
    fleet.settle()

    ours = {topic.rpartition("/")[2] for topic in fleet.retained if "/ports/" in topic and "/hv1/" in topic}
    assert ours == {"p1"}
    assert fleet.hears("hv2/p2") == {"hv1/p1"}
    assert fleet["hv2"].knows("red") == 0
    assert fleet["hv2"].reactor.snapshots.incomplete(fleet.clock + 60) == {}


def test_a_port_that_changed_its_network_while_we_were_away_is_ended_in_the_old_one() -> None:
    fleet = a_fleet("p1", "p2 p6/red")
    host = fleet["hv1"]
    host.kill()
    host.change("p1", network_id=RED, segmentation_id=a_vni("red"))

    host.start()
    fleet.settle()

    assert (fleet["hv2"].knows("blue"), fleet["hv2"].knows("red")) == (0, 1)
    assert fleet.hears("hv2/p6") == {"hv1/p1"}
    assert fleet.hears("hv2/p2") == set()


@pytest.mark.parametrize("read_back", [True, False])
def test_a_vni_that_changed_while_we_were_away_is_followed(read_back: bool) -> None:  # both orders
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    host.kill()
    for each in ("hv1", "hv2"):
        fleet[each].change(f"p{each[-1]}", segmentation_id=Vni(77))
    fleet.hush()

    host.start(read_back=read_back)
    fleet.hush()
    host.read_back()
    fleet.settle()

    assert fleet.hears("hv1/p1", mac("p2")) == {"hv2/p2"}
    assert fleet.hears("hv2/p2") == {"hv1/p1"}


def test_a_port_that_is_new_at_a_restart_takes_no_vlan_from_another_network() -> None:
    fleet = a_fleet("p1/red", "p2/red")
    host = fleet["hv1"]
    host.kill()
    kept = [line for line in host.flows() if "dl_vlan=1," in line]
    host.plug(a_port("p9", "green"))
    host.plugged = dict(reversed(host.plugged.items()))

    host.start()
    fleet.settle()

    assert kept
    assert set(kept) <= set(host.flows())
    assert host.rows[PortId("p9")].tag != 1


@pytest.mark.parametrize("how", ["another port", "the same port"])
def test_a_network_that_is_new_at_a_restart_inherits_nothing_of_one_that_has_gone(how: str) -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv2"]
    host.kill()
    if how == "another port":
        host.unplug("p2")
        host.plug(a_port("p2", "red"))
    else:
        host.change("p2", network_id=RED, segmentation_id=a_vni("red"))

    host.start()

    for _ in range(3):
        assert fleet.hears("hv2/p2") == set()
        assert fleet.hears("hv2/p2", mac("p1")) == set()
        fleet.settle()


def test_an_inherited_entry_gives_way_to_flooding_as_soon_as_somebody_shares_the_mac() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    host = fleet["hv2"]
    host.kill()
    fleet["hv3"].plug(a_port("p1", kind=Kind.SHARED))
    fleet["hv1"].unplug("p1")
    fleet["hv1"].disconnect()
    fleet.hush()
    del fleet.retained[TOPICS.manifest(BLUE, fleet["hv3"].name)]

    host.start()
    fleet.hush()
    fleet.tick()

    assert not host.reactor.snapshots.settled(BLUE)
    assert fleet.hears("hv2/p2", mac("p1")) == {"hv3/p1"}


def test_a_settled_fleet_waits_for_nothing() -> None:
    fleet = a_fleet("p1", "p2", "p3")

    assert not any(host.reactor.waits for host in fleet.hosts.values())


def test_a_reactor_waits_for_the_moment_at_which_it_may_insist_again() -> None:
    reactor = a_fleet("p1", "p2")["hv1"].reactor
    port_id, clock = PortId("p1"), 1000.0

    reactor.insist(port_id, START, clock)
    once = reactor.waits
    reactor.insist(port_id, START, clock + 0.1)
    twice = reactor.waits
    reactor.settle(START, clock + INSIST_EVERY)

    assert (once, twice, reactor.waits) == (False, True, False)


def test_a_reactor_that_has_heard_something_waits_to_look_what_follows_from_it() -> None:
    fleet = a_fleet("p1", "p2")
    reactor = fleet["hv1"].reactor

    reactor.seen(next(iter(reactor.presence.hosts.values())), fleet.clock)
    heard = reactor.waits
    fleet.tick()

    assert (heard, reactor.waits) == (True, False)


@pytest.mark.parametrize("name", ["base", "here", "wire"])
def test_a_port_may_be_called_as_an_entry_is(name: str) -> None:
    fleet = a_fleet("p1 p3", "p2")

    fleet["hv1"].plug(a_port(name, mac=Mac("fa:16:3e:00:00:99"), fixed_ips=()))
    fleet.hush()

    assert fleet.hears("hv2/p2") == {"hv1/p1", "hv1/p3", f"hv1/{name}"}
    fleet["hv1"].unplug(name)
    fleet.settle()
    assert fleet.hears("hv2/p2") == {"hv1/p1", "hv1/p3"}


@pytest.mark.parametrize("bridge", Bridge)
@pytest.mark.parametrize(
    "text",
    [
        "table=20,priority=200,dl_vlan=1,dl_dst=fa:16:3e:00:00:77,actions=set_field:10.0.0.0/255.255.255.0->tun_dst,output:3",
        "table=0,priority=200,tun_src=10.0.0.0/255.0.0.0,in_port=3,actions=goto_table:4",
        "table=0,priority=300,dl_vlan=1,dl_src=fa:16:3e:00:00:00/ff:ff:ff:00:00:00,actions=drop",
        "table=23,priority=5,actions=drop",
        "table=23,priority=5,reg0=0x1/0xff,actions=drop",
    ],
)
def test_what_somebody_wrote_by_hand_under_our_cookie_is_taken_away_at_a_start(bridge: Bridge, text: str) -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    host.kill()
    written = parse.flow(f"cookie={COOKIE:#x},{text}")
    host.bridges[bridge].flows[written.key] = written

    host.start()
    fleet.settle(12)

    assert written.key not in host.bridges[bridge].flows


def test_nothing_is_kept_of_an_inheritance_that_is_over_when_the_switch_is_read_late() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    host = fleet["hv2"]
    host.kill()
    host.start(read_back=False)
    fleet.settle(12)

    host.read_back()
    fleet.settle()

    assert not any(ledger.inherits for ledger in host.reactor.ledgers.values())
    assert not host.reactor._inheritance._purposes  # noqa: SLF001


def test_nothing_is_kept_of_an_inheritance_that_is_over() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    host = fleet["hv2"]
    host.kill()
    host.start()
    inheritance = host.reactor._inheritance  # noqa: SLF001  # what it holds is memory, and shows nowhere else
    assert inheritance._purposes  # noqa: SLF001
    assert any(ledger.inherits for ledger in host.reactor.ledgers.values())

    fleet.settle(12)

    assert not any(ledger.inherits for ledger in host.reactor.ledgers.values())
    assert not inheritance._purposes  # noqa: SLF001


def test_a_network_that_was_left_while_its_snapshot_was_not_complete_leaves_nothing() -> None:
    fleet = a_fleet("p1 p5/red", "p2")
    host = fleet["hv1"]
    fleet["hv2"].disconnect()
    host.kill()
    fleet.retained.clear()
    host.start()

    host.unplug("p1")
    fleet.settle()

    assert [line for line in host.flows() if "192.0.2.12" in line or mac("p2") in line] == []


def test_after_a_restart_of_the_switch_everything_is_programmed_again_at_once() -> None:
    fleet = a_fleet("p1 p5/red", "p2 p6/red")
    host = fleet["hv1"]
    before = host.flows()

    host.forget_flows()

    assert host.flows() == before
    fleet.settle()
    assert (host.status("p1"), fleet.hears("hv1/p1")) == (Status.ACTIVE, {"hv2/p2"})


def test_while_the_switch_is_away_ports_may_come_and_go() -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    for bridge in (INT, TUN):
        host.reactor.ledgers[bridge].lost()

    host.plug(a_port("p4"))
    host.unplug("p1")
    fleet.hush()
    assert host.status("p4") is Status.BUILD
    host.forget_flows()
    fleet.settle()

    assert host.status("p4") is Status.ACTIVE
    assert fleet.hears("hv2/p2") == {"hv1/p4"}


# --- the bus forgets, repeats, and is away -----------------------------------------------------------------------


def test_a_broker_that_lost_everything_takes_nothing_from_anybody() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    before = {name: host.flows() for name, host in fleet.hosts.items()}

    fleet.retained.clear()
    for host in fleet.hosts.values():
        host.disconnect()
    for name in ("hv1", "hv2"):
        fleet[name].connect()
    fleet.settle(600)

    assert {name: host.flows() for name, host in fleet.hosts.items()} == before


def test_a_host_that_says_again_what_it_has_port_by_port_loses_none_of_it_meanwhile() -> None:
    def forwards(host: Host) -> list[str]:
        """Return the flows but for the answers to ARP: without one, the question is flooded."""
        return [line for line in host.flows() if "table=21," not in line]

    fleet = a_fleet("p1", "p2 p4", "p3")
    host, other = fleet["hv1"], fleet["hv2"]
    before = forwards(host)
    host.kill()
    said = [(topic, words) for topic, words in fleet.retained.items() if "/ports/blue/hv2/" in topic]
    fleet.retained.clear()
    other.disconnect()
    host.start()
    fleet.settle()
    fleet.settle()

    for topic, words in said:
        fleet.broker([Publication(topic, words, retain=True)])
        fleet.settle()
        assert forwards(host) == before


@pytest.mark.parametrize("restarted", [False, True])
def test_a_stale_copy_of_the_broker_that_says_the_past_again_is_put_right(*, restarted: bool) -> None:
    """Within a session the others would refuse it; of another session they cannot tell which is the newer."""
    fleet = a_fleet("p1", "p2", "p3")
    past = dict(fleet.retained)
    if restarted:
        fleet["hv1"].restart()
        fleet.settle()
    fleet["hv1"].change("p1", mac=Mac("fa:16:3e:00:00:77"))
    fleet["hv1"].plug(a_port("p4"))
    fleet.settle()
    before = fleet["hv2"].flows()

    fleet.broker(Publication(topic, payload, retain=True) for topic, payload in past.items())
    fleet.settle()

    assert fleet["hv2"].flows() == before
    fleet["hv3"].restart()
    fleet.settle()
    assert fleet.hears("hv3/p3", "fa:16:3e:00:00:77") == {"hv1/p1"}


@pytest.mark.parametrize("session", ["ours", "another"])
@pytest.mark.parametrize("revision", [0, 1, 1000, SEQ_MAX])
@pytest.mark.parametrize("kind", [PortUpdated, PortRemoved])
def test_who_speaks_for_a_port_of_ours_does_not_have_the_last_word(
    session: str, revision: int, kind: type[PortEvent]
) -> None:
    fleet = a_fleet("p1", "p2")
    mine = fleet["hv1"].claim("p1")
    before = fleet["hv2"].flows()
    forged = replace(
        mine,
        port=replace(mine.port, mac=Mac("fa:16:3e:00:00:77"), state=State.LEAVING),
        session=mine.session if session == "ours" else "another",
        revision=revision,
    )

    topic = TOPICS.port(*key_of(mine))
    fleet.broker([Publication(topic, wire.encode_event(kind(forged, 1, fleet.now)), retain=True)])
    fleet.settle()

    assert fleet["hv2"].flows() == before
    fleet["hv1"].change("p1", fixed_ips=(fixed_ip("10.7.7.7"),))
    fleet.settle()
    assert b"10.7.7.7" in fleet.retained[topic]
    assert "10.7.7.7" in "".join(fleet["hv2"].flows())


def test_who_speaks_for_a_port_of_ours_again_and_again_is_answered_once_a_second() -> None:
    fleet = a_fleet("p1", "p2")
    mine = fleet["hv1"].claim("p1")
    topic = TOPICS.port(*key_of(mine))
    fleet.said.clear()

    for number in range(100):
        forged = replace(mine, session="another", revision=number)
        fleet.broker([Publication(topic, wire.encode_event(PortUpdated(forged, 1, fleet.now)), retain=True)])
        fleet.hush()

    assert sum(mine.session.encode() in payload for where, payload in fleet.said if where == topic) <= 3
    fleet.settle()
    assert mine.session.encode() in fleet.retained[topic]


def test_a_manifest_that_somebody_clears_cuts_nobody_off() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    fleet.settle(60)
    fleet.settle(60)

    fleet.broker([Publication(TOPICS.manifest(BLUE, fleet["hv2"].name), b"", retain=True)])
    fleet.settle()

    assert fleet.hears("hv1/p1") == {"hv2/p2", "hv3/p3"}


def test_a_broker_that_lost_everything_and_our_own_restart_cut_nobody_off() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    fleet["hv2"].disconnect()
    fleet.retained.clear()

    fleet["hv1"].restart()
    fleet["hv3"].connect()
    fleet.settle()
    fleet.settle(600)

    assert fleet.hears("hv1/p1", mac("p2")) == {"hv2/p2"}
    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv1/p1") == {"hv2/p2", "hv3/p3"}
    assert fleet.hears("hv2/p2") == {"hv1/p1", "hv3/p3"}


@pytest.mark.parametrize("heard_by", ["claim", "status"])
def test_of_what_the_bus_has_lost_only_those_that_it_knows_nothing_of_keep_their_entries(heard_by: str) -> None:
    fleet = a_fleet("p1", "p2 p5", "p3")
    host = fleet["hv1"]
    host.kill()
    fleet["hv3"].kill()
    fleet["hv2"].unplug("p2", *(["p5"] if heard_by == "status" else []))
    fleet.hush()
    lost = [topic for topic in fleet.retained if "hv3" in topic]
    for topic in (*lost, *([TOPICS.host(fleet["hv2"].name)] if heard_by == "claim" else [])):
        del fleet.retained[topic]

    host.start()
    fleet.settle()
    fleet.settle()

    entries = [line for line in host.flows() if "table=20" in line and "dl_dst" in line]
    assert [mac("p2") in line for line in entries].count(True) == 0
    assert [mac("p3") in line for line in entries].count(True) == 1
    assert "hv3" in host.peers()

    fleet["hv3"].unplug("p3")
    fleet["hv3"].plug(a_port("p6"))
    fleet["hv3"].start()
    fleet.settle()
    assert not any("table=20" in line and mac("p3") in line for line in host.flows())


def test_an_entry_that_serves_an_address_nobody_has_any_more_does_not_hold_a_mac_that_is_elsewhere_now() -> None:
    fleet = a_fleet("p1", "p2 p5", "")
    fleet["hv1"].kill()
    fleet["hv2"].stop()
    fleet["hv2"].start(endpoint=an_endpoint(9))
    fleet["hv2"].change("p2", kind=Kind.SHARED)

    fleet["hv1"].start()
    fleet.settle()

    assert "hv2/p2" in fleet.hears("hv1/p1", mac("p2"))


def test_it_is_so_too_when_unknown_unicast_is_dropped() -> None:
    fleet = a_fleet("p1", "p2", policy=Policy(flood_unknown=False))
    fleet["hv2"].disconnect()
    fleet.retained.clear()

    fleet["hv1"].restart()
    fleet.settle()
    fleet.settle(600)

    assert fleet.hears("hv1/p1", mac("p2")) == {"hv2/p2"}
    assert fleet.hears("hv1/p1") == {"hv2/p2"}


def test_the_last_wills_of_all_at_once_delete_nothing() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    before = fleet["hv1"].flows()

    fleet["hv2"].kill()
    fleet["hv3"].kill()
    fleet.settle(3600)

    assert fleet["hv1"].flows() == before
    assert fleet["hv1"].reactor.presence.hosts[fleet["hv2"].name].state == "offline"


def test_while_the_bus_is_away_ports_here_are_wired_all_the_same() -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    host.disconnect()

    host.plug(a_port("p4"))

    assert host.status("p4") is Status.ACTIVE
    assert fleet.hears("hv1/p4", mac("p1")) == {"hv1/p1"}
    assert fleet.hears("hv1/p4", mac("p2")) == {"hv2/p2"}


@pytest.mark.parametrize("hears_first", [True, False])
def test_what_happened_on_both_sides_of_a_broken_connection_is_made_up_for(hears_first: bool) -> None:  # both orders
    fleet = a_fleet("p1 p4 p5/red", "p2 p6 p7/red")
    host = fleet["hv1"]
    host.disconnect()
    host.unplug("p1", "p5")
    host.plug(a_port("p8"))
    fleet["hv2"].unplug("p2", "p7")
    fleet["hv2"].plug(a_port("p9"))
    fleet.hush()

    host.connect(hears_first=hears_first)
    fleet.settle()

    assert fleet.hears("hv1/p4") == {"hv1/p8", "hv2/p6", "hv2/p9"}
    assert fleet.hears("hv2/p6") == {"hv1/p4", "hv1/p8", "hv2/p9"}
    assert [topic for topic in fleet.retained if "/ports/red" in topic] == []


@pytest.mark.parametrize("hears_first", [True, False])
def test_a_removal_that_was_lost_with_the_connection_is_made_up_for(hears_first: bool) -> None:  # both orders
    fleet = a_fleet("p1 p4", "p2")
    host = fleet["hv1"]
    host.deaf_and_mute = True
    host.unplug("p1")

    host.connect(hears_first=hears_first)
    fleet.settle()

    assert fleet.hears("hv2/p2") == {"hv1/p4"}
    assert mac("p1") not in "".join(fleet["hv2"].flows())
    assert [topic for topic in fleet.retained if topic.endswith("/hv1/p1")] == []


@pytest.mark.parametrize("how", ["connection lost", "killed"])
def test_a_manifest_that_was_lost_is_made_up_for_even_in_a_network_that_was_left(how: str) -> None:
    fleet = a_fleet("p1", "p2", "")
    host = fleet["hv1"]
    host.unplug("p1")
    if how == "killed":
        host.kill()
        host.start()
    else:
        host.deaf_and_mute = True
        host.publish_manifests()
        host.connect()
    fleet.settle()
    fleet["hv3"].plug(P3)
    fleet.settle()

    for name in ("hv2", "hv3"):
        assert fleet[name].reactor.snapshots.incomplete(fleet.clock + 60) == {}
        assert fleet[name].reactor.snapshots.settled(BLUE)


def test_a_host_that_lost_messages_is_right_again_after_its_next_connection() -> None:
    fleet = a_fleet("p1", "p2 p5", "p3")
    fleet["hv2"].unplug("p2")
    fleet["hv3"].unplug("p3")
    fleet["hv2"].plug(a_port("p6"))
    fleet["hv1"].inbox.clear()

    fleet["hv1"].connect()
    fleet.settle()

    assert fleet.hears("hv1/p1") == {"hv2/p5", "hv2/p6"}
    assert fleet["hv1"].peers() == {"hv2"}


def test_a_claim_of_ours_that_somebody_else_cleared_is_said_again() -> None:
    fleet = a_fleet("p1", "p2")

    fleet.broker((Publication(TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id), b"", retain=True),))
    fleet.settle()

    assert fleet.hears("hv2/p2", mac("p1")) == {"hv1/p1"}
    assert fleet["hv2"].knows("blue") == 1


def test_a_claim_of_ours_over_which_somebody_wrote_an_older_one_is_said_again_once() -> None:
    fleet = a_fleet("p1", "p2")
    topic = TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id)
    older = fleet.retained[topic]
    fleet["hv1"].change("p1", fixed_ips=(fixed_ip("10.0.0.77"),))
    fleet.settle()
    said = len(fleet.said)

    fleet.broker((Publication(topic, older, retain=True),))
    fleet.settle()

    assert b"10.0.0.77" in fleet.retained[topic]
    assert [topic for topic, _ in fleet.said[said + 1 :]].count(topic) == 1


def test_it_is_said_again_also_after_the_port_had_been_away() -> None:
    fleet = a_fleet("p1 p4", "p2")
    for _ in range(3):
        fleet["hv1"].unplug("p1")
        fleet["hv1"].plug(P1)
        fleet["hv1"].inbox = fleet["hv1"].inbox[-1:]  # what came on one topic at once is one word to us
    fleet.settle()

    fleet.broker((Publication(TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id), b"", retain=True),))
    fleet.settle()

    assert TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id) in fleet.retained
    assert fleet["hv2"].knows("blue") == 2


def test_the_echo_of_our_own_clearing_makes_us_say_nothing() -> None:
    fleet = a_fleet("p1", "p2")
    fleet["hv1"].unplug("p1")
    fleet["hv1"].plug(P1)
    said = [topic for topic, _ in fleet.said].count(TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id))

    fleet.settle()

    assert [topic for topic, _ in fleet.said].count(TOPICS.port(BLUE, fleet["hv1"].name, P1.port_id)) == said


def test_an_echo_of_what_we_have_ended_since_is_not_ended_once_more() -> None:
    fleet = a_fleet("p1", "p2")
    fleet["hv1"].plug(a_port("p5"))
    fleet["hv1"].unplug("p5")
    before = [topic for topic, _ in fleet.said].count(TOPICS.port(BLUE, fleet["hv1"].name, PortId("p5")))

    fleet.settle()

    assert [topic for topic, _ in fleet.said].count(TOPICS.port(BLUE, fleet["hv1"].name, PortId("p5"))) == before


def test_our_own_end_of_which_only_the_clearing_is_heard_is_an_end_all_the_same() -> None:
    """What comes on one topic at once is one word to us: the last."""
    fleet = a_fleet("p1 p4", "p2")
    host = fleet["hv1"]
    host.unplug("p1")
    host.inbox = list(dict(host.inbox).items())

    fleet.settle()

    assert host.reactor.snapshots.incomplete(fleet.clock + 60) == {}


def test_a_host_that_an_operator_forgot_is_gone() -> None:
    fleet = a_fleet("p1", "p2", "p3")
    fleet["hv3"].kill()
    fleet.settle()

    for topic in [topic for topic in fleet.retained if "/hv3" in topic]:
        fleet.broker((Publication(topic, b"", retain=True),))
    fleet.settle()

    assert fleet["hv1"].peers() == {"hv2"}
    assert "hv3" not in fleet["hv1"].reactor.presence.hosts
    assert fleet["hv1"].reactor.snapshots.incomplete(fleet.clock + 60) == {}


# --- what is refused or passed over ------------------------------------------------------------------------------


def heard(fleet: Fleet, claim: Claim, *, removed: bool = False) -> bool:
    host = fleet["hv1"]
    kind = PortRemoved if removed else PortUpdated
    news = host.reactor.heard(kind(claim, 1, fleet.now), host.now, fleet.clock)
    fleet.carry_out(host)
    return news


def test_of_one_session_a_lower_revision_is_stale_and_changes_nothing() -> None:
    fleet = a_fleet("p1")
    heard(fleet, a_claim(P2, revision=5))
    before = fleet["hv1"].flows()

    for removed in (False, True):
        with pytest.raises(StaleEvent):
            heard(fleet, a_claim(replace(P2, mac=Mac("fa:16:3e:00:00:77")), revision=4), removed=removed)

    assert fleet["hv1"].flows() == before


def test_the_same_revision_again_and_any_of_another_session_are_not_stale() -> None:
    fleet = a_fleet("p1")
    heard(fleet, a_claim(P2, revision=5))

    assert heard(fleet, a_claim(P2, revision=5))
    assert heard(fleet, a_claim(P2, session="another", revision=1))
    assert fleet["hv1"].knows("blue") == 1


def test_what_is_said_in_networks_without_a_port_here_is_passed_over() -> None:
    fleet = a_fleet("p1")

    assert heard(fleet, a_claim(a_port("p6", "red"))) is False
    assert heard(fleet, a_claim(a_port("p6", None))) is False
    assert fleet["hv1"].reactor.heard(ClaimGone((RED, fleet["hv1"].name, P2.port_id)), fleet.now, fleet.clock) is False
    assert fleet["hv1"].reactor.fabric.heard.claims == {}


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [(an_endpoint(1), "our own address"), (None, "none"), (tunnel_endpoint("2001:db8::9"), "of another family")],
)
def test_a_claim_from_where_we_cannot_reach_harms_nobody(endpoint: TunnelEndpoint | None, why: str) -> None:
    fleet = a_fleet("p1 p4", "p2")
    before = fleet["hv1"].flows()

    publish(fleet, a_claim(a_port("p9"), host=9, tunnel_ip=endpoint))
    publish(fleet, a_claim(P1, host=9, tunnel_ip=endpoint, seq=SEQ_MAX))
    fleet.settle()

    assert fleet["hv1"].flows() == before, why
    assert fleet.hears("hv1/p4", mac("p1")) == {"hv1/p1"}


def test_hosts_that_speak_ipv6_reach_each_other_and_those_that_speak_ipv4_among_themselves() -> None:
    fleet = Fleet(4, endpoints={3: tunnel_endpoint("2001:db8::3"), 4: tunnel_endpoint("2001:db8::4")})
    for number in range(1, 5):
        fleet[f"hv{number}"].plug(a_port(f"p{number}"))
    fleet.settle()

    assert fleet.hears("hv1/p1") == {"hv2/p2"}
    assert fleet.hears("hv3/p3") == {"hv4/p4"}
    assert fleet.hears("hv4/p4", mac("p3")) == {"hv3/p3"}
    assert fleet.hears("hv1/p1", mac("p3")) == {"hv2/p2"}, "it cannot be reached, so it is flooded"


def test_a_host_without_a_tunnel_address_wires_its_own_ports_and_harms_nobody() -> None:
    fleet = Fleet(3, endpoints={3: None})
    for host, name in (("hv1", "p1"), ("hv2", "p2"), ("hv3", "p3"), ("hv3", "p4")):
        fleet[host].plug(a_port(name))
    fleet.settle()

    assert fleet.hears("hv3/p3") == {"hv3/p4"}
    assert fleet["hv3"].status("p3") is Status.ACTIVE
    assert fleet.hears("hv1/p1") == {"hv2/p2"}


# --- what the switch refuses -------------------------------------------------------------------------------------


def refuse(fleet: Fleet, host: Host, fragment: str) -> None:
    """Let the switch refuse every flow whose text holds *fragment*; do as the programmer does."""
    for bridge in (INT, TUN):
        ledger = host.reactor.ledgers[bridge]
        bundle = ledger.take()
        ledger.failed()
        for mod in bundle.mods:
            if fragment in mod.line:
                ledger.refuse(mod, "OFPBAC_BAD_TYPE")
        while ledger.owes:
            generation = host.reactor.progress.generation
            host.bridges[bridge].commit(ledger.take().text())
            ledger.committed()
            host.reactor.committed(bridge, generation, host.now)
    fleet.carry_out(host)


def test_a_port_whose_flow_the_switch_refuses_is_in_error_and_harms_no_other() -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    host.programmed = set()
    host.plug(a_port("p4"))
    host.plug(a_port("p5"))

    refuse(fleet, host, f"dl_dst={mac('p4')}")
    host.programmed = {INT, TUN}
    fleet.hush()

    assert host.status("p4") is Status.ERROR
    assert host.claim("p4").reason == "flow-refused: OFPBAC_BAD_TYPE"
    assert (host.status("p1"), host.status("p5")) == (Status.ACTIVE, Status.ACTIVE)
    assert fleet.hears("hv2/p2", mac("p5")) == {"hv1/p5"}
    assert not host.rows[PortId("p4")].installed


def test_a_port_whose_flow_was_refused_is_active_when_it_is_taken_otherwise() -> None:
    fleet = a_fleet("p1", "p2")
    host = fleet["hv1"]
    host.programmed = set()
    host.plug(a_port("p4"))
    refuse(fleet, host, f"dl_dst={mac('p4')}")
    host.programmed = {INT, TUN}

    host.change("p4", mac=Mac("fa:16:3e:00:00:77"))
    fleet.settle()

    assert host.status("p4") is Status.ACTIVE


@pytest.mark.parametrize("mended", ["by the port's addresses", "by the switch"])
def test_a_port_in_error_for_a_refused_flow_is_active_again_though_nothing_wires_it_anew(mended: str) -> None:
    fleet = Fleet(2, checked=True)
    host, right = fleet["hv1"], (fixed_ip("10.0.0.4"),)
    host.plug(a_port("p4", fixed_ips=right))
    fleet.settle()
    host.programmed = set()
    host.change("p4", fixed_ips=(fixed_ip("10.9.9.9"),))
    refuse(fleet, host, "nw_src=10.9.9.9")
    host.programmed = {INT, TUN}
    fleet.hush()
    assert (host.status("p4"), host.rows[PortId("p4")].installed) == (Status.ERROR, False)

    if mended == "by the switch":
        host.reactor.ledgers[INT].retry_refused()
        fleet.carry_out(host)
    else:
        host.change("p4", fixed_ips=right)
    fleet.hush()

    assert (host.status("p4"), host.rows[PortId("p4")].installed) == (Status.ACTIVE, True)


# --- local VLANs -------------------------------------------------------------------------------------------------


def test_a_vlan_rests_until_both_bridges_have_forgotten_it() -> None:
    fleet = a_fleet("p1 p5/red", "p2")
    host = fleet["hv1"]
    vlan = host.rows[PortId("p1")].tag
    host.programmed = {INT}
    host.unplug("p1")

    host.rows[PortId("p7")] = Row(vlan, NetworkId("green"), 1)
    host.plug(a_port("p7", "green"))
    assert host.reactor.fabric.vlans.of[a_port("p7", "green").segment] != vlan  # type: ignore[index]  # it has one

    host.programmed = {INT, TUN}
    fleet.carry_out(host)
    host.rows[PortId("p8")] = Row(vlan, NetworkId("white"), 1)
    host.plug(a_port("p8", "white"))

    assert host.reactor.fabric.vlans.of[a_port("p8", "white").segment] == vlan  # type: ignore[index]  # it has one


# --- cost --------------------------------------------------------------------------------------------------------


def a_host_in_a_network_of(size: int) -> Fleet:
    fleet = a_fleet("p1 p2")
    for number in range(100, 100 + size):
        heard(fleet, a_claim(a_port(f"p{number}"), host=2 + number % 5))
    return fleet


CHANGES: dict[str, Callable[[Fleet], object]] = {
    "a port elsewhere appears": lambda fleet: heard(fleet, a_claim(a_port("p90"))),
    "a port elsewhere moves": lambda fleet: heard(fleet, a_claim(a_port("p100"), host=3, seq=2)),
    "a port elsewhere goes": lambda fleet: heard(fleet, a_claim(a_port("p100"), revision=2), removed=True),
    "a port elsewhere changes": lambda fleet: heard(fleet, a_claim(a_port("p100", fixed_ips=()), revision=2)),
    "a port appears here": lambda fleet: fleet["hv1"].plug(a_port("p91")),
    "a port here changes": lambda fleet: fleet["hv1"].change("p1", mac=Mac("fa:16:3e:77:00:00")),
    "a port here goes": lambda fleet: fleet["hv1"].unplug("p1"),
    "a host joins": lambda fleet: heard(fleet, a_claim(a_port("p90"), host=9)),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_one_change_programs_as_many_lines_in_a_large_network_as_in_a_small_one(change: str) -> None:
    lines = []
    for size in (10, 600):
        fleet = a_host_in_a_network_of(size)
        before = len(programmed(fleet["hv1"]))
        CHANGES[change](fleet)
        lines.append(len(programmed(fleet["hv1"])) - before)

    assert lines[0] == lines[1]
    assert 0 < lines[0] <= 10
