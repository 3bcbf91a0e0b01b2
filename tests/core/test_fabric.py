"""What is known on one host, and which entries an event touches: no more than it concerns, and never less."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portwatch.events import key_of
from portwatch.fabric import l2pop
from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.claims import Rule
from portwatch.fabric.fabric import Fabric
from portwatch.fabric.keys import Base, Flood, Key, LocalFlood, Neighbor, Peer, Touched, Unicast, Wire
from portwatch.fabric.l2pop import FdbEntry, FloatingEntry, FloodGroup, NeighborEntry
from portwatch.fabric.pipeline import Planned, Policy, plan
from portwatch.model import (
    GENEVE,
    VXLAN,
    AddressPair,
    Claim,
    HostName,
    IpAddress,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Port,
    PortId,
    Segment,
    State,
    Status,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from tests.core.fleet import SWITCH_PORTS, a_claim, a_port, a_vni, an_endpoint

BLUE = Segment(NetworkId("blue"), VXLAN, a_vni("blue"))
HV1 = HostName("hv1")
OTHER_VNI = Vni(99)


def a_fabric(*ports: Port, remote: Iterable[Claim] = (), endpoint: TunnelEndpoint | None = an_endpoint(1)) -> Fabric:  # noqa: B008  # a value
    """Return hv1's fabric with *ports* attached, at OpenFlow ports 10, 11 …, and *remote* claims."""
    fabric = Fabric(HV1, endpoint)
    fabric.set_ports(SWITCH_PORTS)
    for number, port in enumerate(ports, 10):
        attach(fabric, port, number)
    for claim in remote:
        fabric.feed(claim)
    return fabric


def attach(fabric: Fabric, port: Port, ofport: int = 9, **changes: object) -> Touched:
    claim = a_claim(port, host=1, tunnel_ip=fabric.endpoint, status=Status.BUILD, **changes)
    return fabric.attach(claim, OfPort(ofport))


def fdb(fabric: Fabric, port: Port) -> FdbEntry | None:
    assert port.segment
    assert port.mac
    return l2pop.fdb_entry(fabric, port.segment, port.mac)


def flood(fabric: Fabric, segment: Segment = BLUE) -> FloodGroup | None:
    return l2pop.flood_group(fabric, segment)


def neighbor(fabric: Fabric, text: str, segment: Segment = BLUE) -> NeighborEntry | None:
    return l2pop.neighbor_entry(fabric, segment, fixed_ip(text))


def mac_of(port: Port) -> Mac:
    assert port.mac
    return port.mac


P1, P2, P3 = a_port("p1"), a_port("p2"), a_port("p3")
AT_HV2, AT_HV3 = an_endpoint(2), an_endpoint(3)


# --- entries -----------------------------------------------------------------------------------------------------


def test_a_port_here_is_delivered_to_its_own_ofport() -> None:
    fabric = a_fabric(P1)

    assert fdb(fabric, P1) == FdbEntry(BLUE, mac_of(P1), LocalVlan(1), ofport=OfPort(10))


def test_a_port_elsewhere_is_reached_at_its_hosts_endpoint() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    assert fdb(fabric, P2) == FdbEntry(BLUE, mac_of(P2), LocalVlan(1), endpoint=AT_HV2)


def test_floods_go_to_the_ports_here_and_once_to_each_host() -> None:
    fabric = a_fabric(P1, P3, remote=[a_claim(P2), a_claim(a_port("p4")), a_claim(a_port("p5"), host=3)])

    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10), OfPort(11)), (AT_HV2, AT_HV3))


def test_an_address_elsewhere_is_answered_here() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    assert neighbor(fabric, "10.0.0.3") == NeighborEntry(BLUE, LocalVlan(1), P2.fixed_ips[0], mac_of(P2))


def test_an_address_here_is_left_to_its_port_to_answer() -> None:
    assert neighbor(a_fabric(P1), "10.0.0.2") is None


def test_an_ipv6_address_is_answered_like_any_other() -> None:
    fabric = a_fabric(P1, remote=[a_claim(a_port("p2", fixed_ips=(fixed_ip("fd00::2"),)))])

    entry = neighbor(fabric, "fd00::2")
    assert entry is not None
    assert entry.mac == P2.mac


def test_an_address_pair_is_never_answered_for() -> None:
    pair = AddressPair.parse("10.0.0.99")
    fabric = a_fabric(P1, remote=[a_claim(a_port("p2", fixed_ips=(), allowed_address_pairs=(pair,)))])

    assert neighbor(fabric, "10.0.0.99") is None


def test_an_address_that_a_shared_port_lists_is_not_pinned() -> None:
    gateway = a_port("p2", kind=Kind.SHARED)
    fabric = a_fabric(P1, remote=[a_claim(gateway), a_claim(a_port("p3", fixed_ips=gateway.fixed_ips), host=3)])

    assert neighbor(fabric, "10.0.0.3") is None


def test_an_address_passes_to_the_mac_that_listed_it_later() -> None:
    older, newer = a_claim(P2, seq=1), a_claim(a_port("p3", fixed_ips=P2.fixed_ips), host=3, seq=2)
    fabric = a_fabric(P1, remote=[newer, older])
    assert (entry := neighbor(fabric, "10.0.0.3")) is not None
    assert entry.mac == P3.mac

    touched = fabric.withdraw(key_of(newer))

    assert Neighbor(BLUE, P2.fixed_ips[0]) in touched
    assert (entry := neighbor(fabric, "10.0.0.3")) is not None
    assert entry.mac == P2.mac


def test_an_address_that_is_here_too_is_left_to_its_port_here_if_that_came_later() -> None:
    fabric = a_fabric(remote=[])
    attach(fabric, a_port("p1", fixed_ips=P2.fixed_ips), seq=2)
    fabric.feed(a_claim(P2, seq=1))

    assert neighbor(fabric, "10.0.0.3") is None


def test_a_network_without_a_port_here_needs_nothing() -> None:
    fabric = a_fabric(a_port("p9", "red"), remote=[a_claim(P2)])

    assert (fdb(fabric, P2), flood(fabric), neighbor(fabric, "10.0.0.3")) == (None, None, None)
    assert fabric.heard.claims == {}


def test_without_a_tunnel_address_only_ports_here_are_reached() -> None:
    fabric = a_fabric(P1, P3, remote=[a_claim(P2)], endpoint=None)

    assert fdb(fabric, P1) is not None
    assert (fdb(fabric, P2), neighbor(fabric, "10.0.0.3")) == (None, None)
    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10), OfPort(11)), ())
    assert fabric.peers == {}


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (None, "it has none"),
        (an_endpoint(1), "it is our own"),
        (tunnel_endpoint("2001:db8::2"), "we have IPv4"),
    ],
)
def test_a_host_that_cannot_be_reached_is_no_member_and_no_peer(endpoint: TunnelEndpoint | None, why: str) -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2, tunnel_ip=endpoint)])

    assert fdb(fabric, P2) is None, why
    assert neighbor(fabric, "10.0.0.3") is None
    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10),), ())
    assert fabric.peers == {}


def test_hosts_with_ipv6_endpoints_reach_each_other() -> None:
    here, there = tunnel_endpoint("2001:db8::1"), tunnel_endpoint("2001:db8::2")
    fabric = a_fabric(P1, remote=[a_claim(P2, tunnel_ip=there), a_claim(P3, host=3)], endpoint=here)

    assert fdb(fabric, P2) == FdbEntry(BLUE, mac_of(P2), LocalVlan(1), endpoint=there)
    assert fdb(fabric, P3) is None
    assert fabric.peers == {Peer(VXLAN, there): 1}


def test_a_shared_mac_is_flooded_and_learned() -> None:
    router = a_port("p2", kind=Kind.SHARED)
    fabric = a_fabric(P1, remote=[a_claim(router), a_claim(router, host=3)])

    assert fdb(fabric, router) is None
    assert l2pop.floating_entry(fabric, BLUE, mac_of(router)) == FloatingEntry(BLUE, mac_of(router), LocalVlan(1), ())
    assert l2pop.floating_entry(fabric, BLUE, mac_of(P1)) is None
    assert (members := flood(fabric)) is not None
    assert members.endpoints == (AT_HV2, AT_HV3)


def test_a_shared_mac_that_is_here_too_is_learned_from_its_ports() -> None:
    router = a_port("p2", kind=Kind.SHARED)
    fabric = a_fabric(P1, router, remote=[a_claim(router)])

    assert fdb(fabric, router) is None
    assert (entry := l2pop.floating_entry(fabric, BLUE, mac_of(router))) is not None
    assert [(each.claim.port, each.ofport) for each in entry.instances] == [(router, 11)]


# --- claims come and go ------------------------------------------------------------------------------------------


def test_the_first_port_of_a_host_makes_it_a_member_and_a_peer() -> None:
    fabric = a_fabric(P1)

    touched = fabric.feed(a_claim(P2))

    assert touched == {
        Unicast(BLUE, mac_of(P2)),
        Neighbor(BLUE, P2.fixed_ips[0]),
        Flood(BLUE),
        Peer(VXLAN, AT_HV2),
    }
    assert fabric.peers == {Peer(VXLAN, AT_HV2): 1}


def test_another_port_of_a_host_touches_only_its_own_entries() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    assert fabric.feed(a_claim(P3)) == {Unicast(BLUE, mac_of(P3)), Neighbor(BLUE, P3.fixed_ips[0])}


def test_the_last_port_of_a_host_leaves_the_flood_group() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    touched = fabric.withdraw(key_of(a_claim(P2)))

    assert touched == {Unicast(BLUE, mac_of(P2)), Neighbor(BLUE, P2.fixed_ips[0]), Flood(BLUE), Peer(VXLAN, AT_HV2)}
    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10),), ())
    assert (fabric.peers, fabric.heard.claims, dict(fabric.heard.hosts)) == ({}, {}, {})


def test_a_peer_of_two_networks_stays_until_the_last() -> None:
    fabric = a_fabric(P1, a_port("p9", "red"), remote=[a_claim(P2), a_claim(a_port("p8", "red"))])

    assert Peer(VXLAN, AT_HV2) in fabric.withdraw(key_of(a_claim(P2)))
    assert fabric.peers == {Peer(VXLAN, AT_HV2): 1}
    fabric.withdraw(key_of(a_claim(a_port("p8", "red"))))
    assert fabric.peers == {}


def test_the_same_claim_again_touches_nothing() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    assert fabric.feed(a_claim(P2)) == set()


def test_the_end_of_an_unknown_claim_touches_nothing() -> None:
    assert a_fabric(P1).withdraw(key_of(a_claim(P2))) == set()


def test_a_claim_under_our_own_name_is_not_taken_from_the_bus() -> None:
    fabric = a_fabric(P1)

    assert fabric.feed(a_claim(P2, host=1)) == set()
    assert fabric.heard.claims == {}


def test_a_claim_that_goes_down_leaves_forwarding_and_is_still_held() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    fabric.feed(a_claim(P2, status=Status.DOWN, revision=2))

    assert fdb(fabric, P2) is None
    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10),), ())
    assert len(fabric.heard.claims) == 1


def test_a_move_passes_the_entry_whichever_message_comes_first() -> None:
    old, new = a_claim(P2, host=2, seq=1), a_claim(P2, host=3, seq=2)
    removal_last, removal_first = a_fabric(P1, remote=[old]), a_fabric(P1, remote=[old])

    removal_last.feed(new)
    assert fdb(removal_last, P2) == FdbEntry(BLUE, mac_of(P2), LocalVlan(1), endpoint=AT_HV3)
    removal_last.withdraw(key_of(old))
    removal_first.withdraw(key_of(old))
    removal_first.feed(new)

    assert fdb(removal_first, P2) == fdb(removal_last, P2)
    assert flood(removal_first) == flood(removal_last)


def test_a_host_that_changes_its_endpoint_moves_as_a_whole() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    touched = fabric.feed(a_claim(P2, tunnel_ip=AT_HV3, revision=2))

    assert {Peer(VXLAN, AT_HV2), Peer(VXLAN, AT_HV3), Flood(BLUE), Unicast(BLUE, mac_of(P2))} <= touched
    assert fabric.peers == {Peer(VXLAN, AT_HV3): 1}


def test_peers_that_disagree_on_the_key_of_a_network_are_never_mixed() -> None:
    fabric = a_fabric(P1, remote=[a_claim(a_port("p2", segmentation_id=OTHER_VNI))])

    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10),), ())
    assert l2pop.fdb_entry(fabric, BLUE, mac_of(P2)) is None
    assert neighbor(fabric, "10.0.0.3") is None
    assert fabric.peers == {}


def test_a_claim_that_leaves_the_segment_leaves_its_entries() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    fabric.feed(a_claim(a_port("p2", network_type=GENEVE), revision=2))

    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10),), ())
    assert l2pop.fdb_entry(fabric, BLUE, mac_of(P2)) is None
    assert fabric.peers == {}


def test_a_claim_without_mac_address_and_endpoint_comes_changes_and_goes() -> None:
    fabric = a_fabric(a_port("p1", admin_up=False))
    bare = a_claim(a_port("p2", mac=None), tunnel_ip=None)

    for revision in range(1, 4):
        fabric.feed(replace(bare, revision=revision))
        fabric.feed(a_claim(a_port("p3", mac=None, fixed_ips=()), host=3, tunnel_ip=None, revision=revision))
    fabric.withdraw(key_of(bare))

    assert [claim.host for claim in fabric.heard.claims.values()] == ["hv3"]


# --- ports here come and go --------------------------------------------------------------------------------------


def test_the_first_port_of_a_segment_makes_entries_of_all_that_is_known() -> None:
    fabric = a_fabric(a_port("p1", admin_up=False), remote=[a_claim(P2), a_claim(P3, host=3)])
    assert flood(fabric) is None

    touched = attach(fabric, P1)

    assert touched >= {
        Wire(PortId("p1")),
        LocalFlood(BLUE),
        Flood(BLUE),
        *(Unicast(BLUE, mac_of(port)) for port in (P1, P2, P3)),
        *(Neighbor(BLUE, port.fixed_ips[0]) for port in (P1, P2, P3)),
        Peer(VXLAN, AT_HV2),
        Peer(VXLAN, AT_HV3),
    }
    assert fdb(fabric, P2) is not None
    assert sum(fabric.peers.values()) == 2


def test_the_last_port_of_a_network_takes_everything_with_it() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    fabric.detach(P1.port_id)
    touched = fabric.prune()

    assert (fabric.heard.claims, fabric.segments, fabric.peers) == ({}, {}, {})
    assert (fabric.vlans.of, list(fabric.networks)) == ({}, [])
    assert Unicast(BLUE, mac_of(P2)) in touched


def test_the_last_port_that_is_replaced_in_one_batch_takes_nothing_with_it() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    fabric.detach(P1.port_id)
    attach(fabric, P3)
    fabric.prune()

    assert len(fabric.heard.claims) == 1
    assert fdb(fabric, P2) is not None


def test_another_port_here_touches_nothing_that_concerns_other_hosts() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    touched = attach(fabric, P3)

    assert LocalFlood(BLUE) in touched
    assert not {key for key in touched if isinstance(key, Flood | Peer | Base)}


def test_a_port_that_is_pulled_and_unknown_touches_nothing() -> None:
    assert a_fabric(P1).detach(PortId("p7")) == set()


def test_a_port_that_goes_down_stays_attached_and_is_wired_no_more() -> None:
    fabric = a_fabric(P1, P3)

    attach(fabric, replace(P1, admin_up=False), 10)

    assert fdb(fabric, P1) is None
    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(11),), ())
    assert fabric.problem(P1.port_id) == "admin-down: admin-state is down"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"network_id": None}, "details-missing: network-id"),
        ({"mac": None}, "details-missing: attached-mac"),
        ({"segmentation_id": None}, "details-missing: segmentation-id"),
        ({"fault": "bad-attached-mac: zz"}, "bad-attached-mac: zz"),
        ({"admin_up": False}, "admin-down: "),
    ],
)
def test_a_port_that_cannot_be_wired_says_why_and_harms_no_other(changes: dict[str, object], problem: str) -> None:
    fabric = a_fabric(P1, a_port("p2", **changes))  # type: ignore[arg-type]  # the builder's own keywords

    assert (fabric.problem(PortId("p2")) or "").startswith(problem)
    assert fabric.problem(PortId("p1")) is None
    assert flood(fabric) == FloodGroup(BLUE, LocalVlan(1), (OfPort(10),), ())


def test_the_second_network_that_claims_a_vni_waits_until_the_first_has_left_it() -> None:
    red = a_port("p2", "red", segmentation_id=BLUE.vni)
    fabric = a_fabric(P1, red)
    assert (fabric.problem(PortId("p2")) or "").startswith("vni-conflict: ")
    assert red.segment not in fabric.vlans.of

    fabric.detach(P1.port_id)
    touched, admitted = fabric.retry_waiting()

    assert admitted == {"p2"}
    assert Wire(PortId("p2")) in touched
    assert fabric.problem(PortId("p2")) is None


def test_a_vni_is_one_of_its_type() -> None:
    fabric = a_fabric(P1, a_port("p2", "red", segmentation_id=BLUE.vni, network_type=GENEVE))

    assert fabric.problem(PortId("p2")) is None


def test_networks_that_are_not_tunnelled_share_no_key_space() -> None:
    vlan = NetworkType("vlan")
    fabric = a_fabric(
        a_port("p1", "blue", network_type=vlan, segmentation_id=Vni(7)),
        a_port("p2", "red", network_type=vlan, segmentation_id=Vni(7)),
    )

    assert (fabric.problem(PortId("p1")), fabric.problem(PortId("p2"))) == (None, None)
    assert len(set(fabric.vlans.of.values())) == 2


def test_a_port_waits_when_all_vlans_are_used_up_and_has_the_first_that_comes_back() -> None:
    fabric = a_fabric()
    for number in range(1, LocalVlan.HIGHEST + 1):
        fabric.vlans.assign(Segment(NetworkId(f"n{number}"), VXLAN, Vni(number)))
    attach(fabric, P1)
    assert (fabric.problem(P1.port_id) or "").startswith("vlans-used-up: ")

    fabric.vlans.release(Segment(NetworkId("n7"), VXLAN, Vni(7)))
    fabric.vlans.rested()
    _, admitted = fabric.retry_waiting()

    assert admitted == {"p1"}
    assert fabric.vlans.of[BLUE] == 7


def test_a_port_that_changes_its_network_leaves_nothing_in_the_old_one() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    touched = attach(fabric, a_port("p1", "red"), 10) | fabric.prune()

    red = a_port(network="red").segment
    assert {Unicast(BLUE, mac_of(P1)), Unicast(BLUE, mac_of(P2)), Flood(BLUE)} <= touched
    assert (list(fabric.networks), list(fabric.segments), list(fabric.vlans.of)) == (["red"], [red], [red])
    assert fabric.vlans.of[red] != 1, "the tag rests"  # type: ignore[index]  # it has a segment


def test_a_port_that_changes_its_mac_takes_its_entry_along() -> None:
    fabric = a_fabric(P1)
    after = replace(P1, mac=Mac("fa:16:3e:00:00:77"))

    touched = attach(fabric, after, 10)

    assert {Unicast(BLUE, mac_of(P1)), Unicast(BLUE, mac_of(after))} <= touched
    assert fdb(fabric, P1) is None
    assert fdb(fabric, after) == FdbEntry(BLUE, mac_of(after), LocalVlan(1), ofport=OfPort(10))


def test_a_port_with_a_new_ofport_is_delivered_to_there() -> None:
    fabric = a_fabric(P1)

    touched = attach(fabric, P1, 33)

    assert {Wire(P1.port_id), Unicast(BLUE, mac_of(P1)), LocalFlood(BLUE)} <= touched
    assert fdb(fabric, P1) == FdbEntry(BLUE, mac_of(P1), LocalVlan(1), ofport=OfPort(33))


def test_when_the_switchs_own_ports_change_everything_is_touched() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    touched = fabric.set_ports(SwitchPorts())

    assert touched == fabric.everything()
    assert touched >= {Base(), Wire(P1.port_id), LocalFlood(BLUE), Flood(BLUE), Peer(VXLAN, AT_HV2)}
    assert fabric.set_ports(SwitchPorts()) == set()


def test_a_port_here_that_another_host_claims_too_is_seen_as_contested() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P1, seq=99)])

    verdict = fabric.verdict(BLUE, mac_of(P1))
    assert (verdict.rule, verdict.contested) == (Rule.LOCAL, True)
    assert fdb(fabric, P1) == FdbEntry(BLUE, mac_of(P1), LocalVlan(1), ofport=OfPort(10))


# --- what to listen to -------------------------------------------------------------------------------------------


def test_interest_changes_with_networks_and_neighbours_and_with_nothing_else() -> None:
    fabric = a_fabric()
    seen = [fabric.interest]

    def changes(act: Callable[[], object]) -> bool:
        act()
        seen.append(fabric.interest)
        return seen[-1] != seen[-2]

    assert changes(lambda: attach(fabric, P1))
    assert not changes(lambda: attach(fabric, a_port("p4")))
    assert changes(lambda: fabric.feed(a_claim(P2)))
    assert not changes(lambda: fabric.feed(a_claim(P3)))
    assert not changes(lambda: fabric.feed(a_claim(P3, revision=2)))
    assert not changes(lambda: fabric.withdraw(key_of(a_claim(P3))))
    assert changes(lambda: fabric.withdraw(key_of(a_claim(P2))))
    assert not changes(lambda: fabric.detach(PortId("p4")))
    assert changes(lambda: fabric.detach(P1.port_id))


def test_neighbours_are_the_other_hosts_whose_claims_are_held() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2), a_claim(P3), a_claim(a_port("p4"), host=3)])

    assert dict(fabric.heard.hosts) == {"hv2": 2, "hv3": 1}


def test_rivals_are_the_other_hosts_claims_of_the_port_or_of_its_mac() -> None:
    same_port = a_claim(a_port("p1", mac=Mac("fa:16:3e:00:00:99")), host=2)
    same_mac = a_claim(a_port("p7", mac=P1.mac), host=3)
    other_network = a_claim(a_port("p1", "red"), host=3)
    fabric = a_fabric(P1, a_port("p9", "red"), remote=[same_port, same_mac, other_network, a_claim(P2)])

    assert {claim.host for claim in fabric.rivals(P1)} == {"hv2", "hv3"}
    assert len(fabric.rivals(P1)) == 2


# --- cost --------------------------------------------------------------------------------------------------------


def a_large_fabric(size: int) -> Fabric:
    fabric = a_fabric(P1, a_port("p2"))
    for number in range(100, 100 + size):
        fabric.feed(a_claim(a_port(f"p{number}"), host=2 + number % 3))
    return fabric


def work(fabric: Fabric, touched: Touched) -> tuple[int, int]:
    """Return how many entries are touched, and how many flows and groups are planned for them."""
    return len(touched), sum(len(plan(fabric, Policy(), key)) for key in touched)


CHANGES: dict[str, Callable[[Fabric], Touched]] = {
    "a port elsewhere appears": lambda fabric: fabric.feed(a_claim(a_port("p9"))),
    "a port elsewhere changes": lambda fabric: fabric.feed(a_claim(a_port("p100", state=State.LEAVING), host=3)),
    "a port elsewhere goes": lambda fabric: fabric.withdraw(key_of(a_claim(a_port("p100"), host=3))),
    "a port moves": lambda fabric: fabric.feed(a_claim(a_port("p100"), host=4, seq=2)),
    "a port comes here": lambda fabric: attach(fabric, a_port("p100")),
    "a port appears here": lambda fabric: attach(fabric, a_port("p9")),
    "a port here changes": lambda fabric: attach(fabric, replace(P1, fixed_ips=()), 10),
    "a port here goes": lambda fabric: fabric.detach(P1.port_id) | fabric.prune(),
    "a host joins": lambda fabric: fabric.feed(a_claim(a_port("p9"), host=9)),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_one_change_costs_the_same_in_a_large_network_as_in_a_small_one(change: str) -> None:
    small, large = a_large_fabric(6), a_large_fabric(1500)

    assert work(large, CHANGES[change](large)) == work(small, CHANGES[change](small))
    assert work(large, CHANGES[change](large))[0] <= 10


# --- any story ---------------------------------------------------------------------------------------------------

_NETWORKS = ("blue", "red")
_ADDRESSES: tuple[tuple[IpAddress, ...], ...] = (
    (),
    (fixed_ip("10.0.0.1"),),
    (fixed_ip("10.0.0.1"), fixed_ip("10.0.0.2"), fixed_ip("10.0.0.1")),
    (fixed_ip("fd00::1"),),
)
_MACS = (None, Mac("fa:16:3e:00:00:01"), Mac("fa:16:3e:00:00:02"))
_ENDPOINTS = (None, an_endpoint(1), an_endpoint(2), an_endpoint(3), tunnel_endpoint("2001:db8::2"))

_ports = st.builds(
    a_port,
    name=st.sampled_from(["p1", "p2", "p3"]),
    network=st.sampled_from([*_NETWORKS, None]),
    segmentation_id=st.sampled_from([None, Vni(7), Vni(7), Vni(8)]),
    network_type=st.sampled_from([VXLAN, VXLAN, GENEVE, NetworkType("flat")]),
    mac=st.sampled_from(_MACS),
    fixed_ips=st.sampled_from(_ADDRESSES),
    kind=st.sampled_from([Kind.SINGLE, Kind.SINGLE, Kind.SHARED]),
    state=st.sampled_from([State.ACTIVE, State.ACTIVE, State.PREPARING]),
    admin_up=st.sampled_from([True, True, True, False]),
)
_remote = st.builds(
    a_claim,
    _ports.filter(lambda port: port.network_id is not None),
    host=st.integers(2, 4),
    tunnel_ip=st.sampled_from(_ENDPOINTS),
    status=st.sampled_from([Status.ACTIVE, Status.BUILD, Status.DOWN]),
    seq=st.integers(0, 2),
    revision=st.integers(0, 1),
)
_Step = Callable[[Fabric], Touched]
_steps: st.SearchStrategy[_Step] = st.one_of(
    st.tuples(_ports, st.integers(10, 12)).map(lambda made: lambda fabric: attach(fabric, made[0], made[1])),
    st.sampled_from(["p1", "p2", "p3"]).map(lambda name: lambda fabric: fabric.detach(PortId(name))),
    _remote.map(lambda claim: lambda fabric: fabric.feed(claim)),
    _remote.map(lambda claim: lambda fabric: fabric.feed(claim)),
    _remote.map(lambda claim: lambda fabric: fabric.withdraw(key_of(claim))),
    st.just(lambda fabric: fabric.prune()),
    st.just(lambda fabric: fabric.retry_waiting()[0]),
    st.sampled_from([SWITCH_PORTS, SwitchPorts(), SwitchPorts(OfPort(1), OfPort(2), ())]).map(
        lambda ports: lambda fabric: fabric.set_ports(ports)
    ),
)


@settings(max_examples=200)
@given(st.lists(_steps, max_size=25))
def test_what_is_planned_for_the_touched_entries_alone_is_what_a_full_recompute_plans(story: list[_Step]) -> None:
    fabric = Fabric(HV1, an_endpoint(1))
    planned: dict[Key, tuple[Planned, ...]] = {}

    for step in story:
        touched = step(fabric) | fabric.prune()
        for key in touched | {Base()}:
            planned[key] = plan(fabric, Policy(), key)

        whole = {key: plan(fabric, Policy(), key) for key in fabric.everything()}
        assert {key: items for key, items in planned.items() if items} == {
            key: items for key, items in whole.items() if items
        }


@given(st.lists(_remote, max_size=12), st.randoms(use_true_random=False))
def test_p2_the_order_in_which_claims_come_does_not_matter(claims: list[Claim], random: Random) -> None:
    claims = list({key_of(claim): claim for claim in claims}.values())
    shuffled = claims * 2
    random.shuffle(shuffled)
    here = (a_port("p1", segmentation_id=Vni(7)), a_port("p2", "red", segmentation_id=Vni(8)))

    one, other = a_fabric(*here, remote=claims), a_fabric(*here, remote=shuffled)

    assert one.everything() == other.everything()
    for key in one.everything():
        assert plan(one, Policy(), key) == plan(other, Policy(), key)


@given(st.lists(_remote, max_size=12))
def test_claims_that_came_and_went_leave_nothing(claims: list[Claim]) -> None:
    fabric = a_fabric(P1, a_port("p2", "red"))
    before = fabric.everything()

    for claim in claims:
        fabric.feed(claim)
    for claim in claims:
        fabric.withdraw(key_of(claim))

    assert (fabric.everything(), fabric.heard.claims, fabric.peers, dict(fabric.heard.hosts)) == (before, {}, {}, {})


@given(st.lists(_remote, max_size=12))
def test_p7_no_message_takes_a_port_here_from_its_own_delivery(claims: list[Claim]) -> None:
    fabric = a_fabric(P1, a_port("p9", mac=Mac("fa:16:3e:00:00:02")), remote=claims)

    for port, ofport in ((P1, 10), (a_port("p9", mac=Mac("fa:16:3e:00:00:02")), 11)):
        assert (entry := fdb(fabric, port)) is not None
        assert entry.ofport == ofport
