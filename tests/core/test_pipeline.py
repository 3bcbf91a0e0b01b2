"""Entries to flows: their text by kind, and by frames what the flows of whole hosts do. docs/contract.md, section 6."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.claims import Rule
from portwatch.fabric.fabric import Fabric
from portwatch.fabric.groups import GROUP_PARTS, GROUP_PEERS, bucket_ids, flood_parts, group_id
from portwatch.fabric.keys import Base, Flood, LocalFlood, Neighbor, Peer, Unicast, Wire
from portwatch.fabric.pipeline import Bridge, Policy, plan
from portwatch.fabric.purpose import (
    accepted_peer,
    concerns,
    depends_on,
    farewell,
    is_ours,
    serves_flood,
    station_of,
    tunnels_to,
)
from portwatch.fabric.tables import COOKIE, GROUPS, LEARNED_COOKIE, OWN
from portwatch.model import (
    GENEVE,
    GRE,
    VXLAN,
    AddressPair,
    Kind,
    LocalVlan,
    NetworkType,
    OfPort,
    Port,
    Segment,
    State,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from portwatch.openflow import parse
from portwatch.openflow.flow import Flow, Group, group
from tests.core.fleet import (
    INT,
    PATCH_TO_INTEGRATION,
    TUN,
    TUNNEL,
    Fleet,
    Host,
    a_claim,
    a_port,
    a_vni,
    an_endpoint,
)
from tests.core.strategies import endpoints
from tests.core.switch import BROADCAST, Frame, Switch
from tests.core.test_fabric import a_fabric, mac_of

P1, P2 = a_port("p1"), a_port("p2")
ROUTER = a_port("p9", kind=Kind.SHARED)
GUESTS = ("hv1/p1", "hv2/p2", "hv3/p3")
BLUE = P1.segment or pytest.fail("p1 has a segment")
MULTICAST_MAC, UNKNOWN_MAC = "01:00:5e:00:00:05", "fa:16:3e:99:99:99"
ALL_TUNNELS = SwitchPorts(OfPort(1), OfPort(2), ((GENEVE, OfPort(6)), (GRE, OfPort(4)), (VXLAN, OfPort(3))))


def texts(fabric: Fabric, *keys: object, policy: Policy | None = None) -> list[str]:
    """Return what the entries need, a bridge and an item a line, without our cookie."""
    return [
        f"{bridge} {item.text().removeprefix(f'cookie={COOKIE:#x},')}"
        for key in keys
        for bridge, item in plan(fabric, policy or Policy(anti_spoofing=False), key)  # type: ignore[arg-type]  # keys of all kinds
    ]


def segment_of(port: Port) -> Segment:
    assert port.segment
    return port.segment


# --- the text of each kind of entry ------------------------------------------------------------------------------


def test_a_wired_port_is_admitted_untagged_into_its_segments_vlan() -> None:
    assert texts(a_fabric(P1), Wire(P1.port_id)) == [
        "integration table=0,priority=200,in_port=10,vlan_tci=0x0000/0x1fff,"
        "actions=push_vlan:0x8100,set_field:4097->vlan_vid,goto_table:41"
    ]


def test_a_port_here_is_delivered_to_explicitly() -> None:
    assert texts(a_fabric(P1), Unicast(BLUE, mac_of(P1))) == [
        "integration table=41,priority=200,dl_vlan=1,dl_dst=fa:16:3e:00:00:01,actions=pop_vlan,output:10"
    ]


def test_a_port_elsewhere_is_one_entry_on_each_bridge() -> None:
    assert texts(a_fabric(P1, remote=[a_claim(P2)]), Unicast(BLUE, mac_of(P2))) == [
        "integration table=41,priority=200,dl_vlan=1,dl_dst=fa:16:3e:00:00:02,actions=output:1",
        "tunnel table=20,priority=200,dl_vlan=1,dl_dst=fa:16:3e:00:00:02,"
        "actions=pop_vlan,set_field:0x20c->tun_id,set_field:192.0.2.12->tun_dst,output:3",
    ]


@pytest.mark.parametrize(("anti_spoofing", "then"), [(False, 41), (True, 39)])
def test_a_shared_mac_is_learned_from_its_port_here_and_from_the_tunnel(then: int, *, anti_spoofing: bool) -> None:
    def learn(priority: int, seconds: int, untag: str) -> str:
        return (
            f"learn(table=41,hard_timeout={seconds},priority={priority},cookie=0x7077000000000002,"
            f"NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],{untag}output:OXM_OF_IN_PORT[])"
        )

    def learned(who: str, says: str, untag: str, goes_on: str) -> list[str]:
        lasting, announced = learn(100, 300, untag), learn(110, 2, untag)
        station = f"{who},dl_src=fa:16:3e:00:00:09"
        announcements = (
            f"arp,{station},dl_dst=ff:ff:ff:ff:ff:ff",
            f"rarp,{station}",
            f"icmp6,{station},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,icmp_type=136",
        )
        return [
            f"integration table=0,priority=300,{station},actions={says}{lasting},{goes_on}",
            *(
                f"integration table=0,priority=400,{each},actions={says}{announced},{lasting},{goes_on}"
                for each in announcements
            ),
        ]

    fabric = a_fabric(P1, ROUTER, remote=[a_claim(ROUTER)])
    admit, port = "push_vlan:0x8100,set_field:4097->vlan_vid,", "in_port=11,vlan_tci=0x0000/0x1fff"
    assert texts(fabric, Unicast(BLUE, mac_of(ROUTER)), policy=Policy(anti_spoofing=anti_spoofing)) == [
        *learned("in_port=1,dl_vlan=1", "", "", "goto_table:41"),
        *learned(port, admit, "load:0->NXM_OF_VLAN_TCI[],", f"goto_table:{then}"),
        "integration table=41,priority=50,dl_vlan=1,dl_dst=fa:16:3e:00:00:09,actions=output:1,pop_vlan,output:11",
        "integration table=41,priority=300,in_port=1,dl_vlan=1,dl_dst=fa:16:3e:00:00:09,actions=pop_vlan,output:11",
    ]


def test_a_port_behind_ipv6_is_reached_by_ipv6() -> None:
    there = tunnel_endpoint("2001:db8::2")
    fabric = a_fabric(P1, remote=[a_claim(P2, tunnel_ip=there)], endpoint=tunnel_endpoint("2001:db8::1"))

    assert "set_field:2001:db8::2->tun_ipv6_dst" in texts(fabric, Unicast(BLUE, mac_of(P2)))[1]
    assert texts(fabric, Peer(VXLAN, there)) == [
        "tunnel table=0,priority=200,tun_ipv6_src=2001:db8::2,in_port=3,actions=goto_table:4"
    ]
    assert "load:NXM_NX_TUN_IPV6_SRC[]->NXM_NX_TUN_IPV6_DST[]" in "".join(texts(fabric, Base()))


def test_a_segment_is_its_floods_its_key_and_its_group() -> None:
    assert texts(a_fabric(P1, remote=[a_claim(P2)]), LocalFlood(BLUE), Flood(BLUE)) == [
        "integration table=42,priority=200,dl_vlan=1,actions=output:1,pop_vlan,output:10",
        "tunnel table=4,priority=200,tun_id=0x20c,actions=push_vlan:0x8100,set_field:4097->vlan_vid,goto_table:10",
        "tunnel group_id=1886846977,type=all,"
        "bucket=bucket_id:3221225996,actions=set_field:192.0.2.12->tun_dst,output:3",
        "tunnel table=22,priority=200,dl_vlan=1,actions=pop_vlan,set_field:0x20c->tun_id,group:1886846977",
    ]


def test_a_segment_that_nobody_else_has_needs_no_group() -> None:
    assert [line.split(",")[0] for line in texts(a_fabric(P1), LocalFlood(BLUE), Flood(BLUE))] == [
        "integration table=42",
        "tunnel table=4",
    ]


@pytest.mark.parametrize(("kind", "table", "tunnel"), [(GRE, 3, 4), (VXLAN, 4, 3), (GENEVE, 6, 6)])
def test_each_tunnel_type_has_neutrons_table_and_its_own_port(kind: NetworkType, table: int, tunnel: int) -> None:
    port = a_port("p1", network_type=kind)
    fabric = a_fabric(port, remote=[a_claim(a_port("p2", network_type=kind))])
    fabric.set_ports(ALL_TUNNELS)

    assert f"tunnel table={table},priority=200,tun_id=0x20c" in "".join(texts(fabric, Flood(segment_of(port))))
    assert texts(fabric, Unicast(segment_of(port), mac_of(P2)))[1].endswith(f"output:{tunnel}")
    assert texts(fabric, Peer(kind, an_endpoint(2))) == [
        f"tunnel table=0,priority=200,tun_src=192.0.2.12,in_port={tunnel},actions=goto_table:{table}"
    ]


def test_arp_for_a_remote_address_is_answered_and_announcements_are_flooded() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])

    assert texts(fabric, Neighbor(BLUE, fixed_ip("10.0.0.3"))) == [
        "tunnel table=21,priority=200,arp,dl_vlan=1,arp_tpa=10.0.0.3,arp_op=1,"
        "actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:2->arp_op,"
        "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],"
        "set_field:fa:16:3e:00:00:02->eth_src,set_field:fa:16:3e:00:00:02->arp_sha,"
        "set_field:10.0.0.3->arp_spa,IN_PORT",
        "tunnel table=21,priority=300,arp,dl_vlan=1,arp_spa=10.0.0.3,arp_tpa=10.0.0.3,arp_op=1,actions=goto_table:22",
    ]
    assert texts(fabric, Neighbor(BLUE, fixed_ip("10.0.0.3")), policy=Policy(arp_responder=False)) == []


def test_both_bridges_drop_by_default() -> None:
    base = texts(a_fabric(), Base())

    assert "integration table=0,priority=1,actions=drop" in base
    assert "tunnel table=0,priority=1,actions=drop" in base


def test_unknown_unicast_has_a_way_only_if_the_operator_wants_it() -> None:
    ways = {"integration table=41,priority=1,actions=goto_table:42", "tunnel table=20,priority=1,actions=goto_table:22"}

    assert ways <= set(texts(a_fabric(), Base()))
    assert ways.isdisjoint(texts(a_fabric(), Base(), policy=Policy(flood_unknown=False)))


def test_while_the_switchs_own_ports_are_not_there_only_ports_here_are_wired() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])
    fabric.set_ports(SwitchPorts())

    assert len(texts(fabric, Wire(P1.port_id), Unicast(BLUE, mac_of(P1)))) == 2
    assert texts(fabric, Unicast(BLUE, mac_of(P2)), Peer(VXLAN, an_endpoint(2))) == []
    assert texts(fabric, LocalFlood(BLUE), Flood(BLUE)) == [
        "integration table=42,priority=200,dl_vlan=1,actions=pop_vlan,output:10"
    ]
    assert not [line for line in texts(fabric, Base()) if "in_port" in line]


@pytest.mark.parametrize(
    ("why", "ports"),
    [
        ("no patch port", SwitchPorts(None, None, ((VXLAN, OfPort(3)),))),
        ("no tunnel port", SwitchPorts(OfPort(1), OfPort(2), ())),
        ("no tunnel port of its type", SwitchPorts(OfPort(1), OfPort(2), ((GENEVE, OfPort(3)),))),
    ],
)
def test_a_segment_without_a_way_out_stays_on_its_host(why: str, ports: SwitchPorts) -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)])
    fabric.set_ports(ports)

    assert texts(fabric, Unicast(BLUE, mac_of(P2)), Flood(BLUE)) == [], why
    assert texts(fabric, LocalFlood(BLUE)) == ["integration table=42,priority=200,dl_vlan=1,actions=pop_vlan,output:10"]


def test_without_a_tunnel_address_nothing_is_tunnelled() -> None:
    fabric = a_fabric(P1, remote=[a_claim(P2)], endpoint=None)

    everything = texts(fabric, *fabric.everything())

    assert not [line for line in everything if "learn" in line or "tun_" in line or "goto_table:2," in line]
    assert "integration table=42,priority=200,dl_vlan=1,actions=pop_vlan,output:10" in everything


def test_a_network_that_is_not_tunnelled_never_leaves_the_host() -> None:
    flat = {"network_type": NetworkType("flat"), "segmentation_id": None}
    here, there = a_port("p1", **flat), a_port("p2", **flat)
    fabric = a_fabric(here, remote=[a_claim(there)])

    entries = texts(
        fabric, *fabric.everything() - {Base(), Wire(here.port_id), Unicast(segment_of(here), mac_of(here))}
    )

    assert entries == ["integration table=42,priority=200,dl_vlan=1,actions=pop_vlan,output:10"]


def test_an_entry_that_nobody_needs_any_more_is_nothing() -> None:
    fabric = a_fabric(P1)
    elsewhere = segment_of(a_port(network="red"))

    assert (
        texts(fabric, Wire(P2.port_id), Unicast(elsewhere, mac_of(P1)), LocalFlood(elsewhere), Flood(elsewhere)) == []
    )
    assert texts(fabric, Neighbor(elsewhere, fixed_ip("10.0.0.9")), Peer(VXLAN, an_endpoint(7))) == []


# --- whose it is -------------------------------------------------------------------------------------------------


def rich() -> list[tuple[Bridge, Flow | Group]]:
    fabric = a_fabric(P1, a_port("p9", "red"), remote=[a_claim(P2), a_claim(a_port("p3"), host=3)])
    return [each for key in fabric.everything() for each in plan(fabric, Policy(), key)]


def test_everything_that_is_planned_is_recognisably_ours() -> None:
    for _, item in rich():
        assert is_ours(item)
        if isinstance(item, Flow):
            assert item.cookie >> 48 == 0x7077
        else:
            assert 0x7077_0000 <= item.key.group_id <= 0x7077_FFFF


@pytest.mark.parametrize(
    "line",
    [
        "cookie=0x0,table=0,priority=0,actions=NORMAL",
        "cookie=0x7076000000000001,table=0,priority=0,actions=drop",
        "cookie=0x707,table=0,priority=0,actions=drop",
    ],
)
def test_others_flows_are_not_ours(line: str) -> None:
    assert not is_ours(parse.flow(line))
    assert not OWN.holds(parse.flow(line))


def test_others_groups_are_not_ours() -> None:
    for number in (1, GROUPS.start - 1, GROUPS.stop):
        assert not is_ours(parse.group(f"group_id={number},type=all"))
    assert is_ours(parse.group(f"group_id={GROUPS.start},type=all"))


def test_news_of_ours_is_what_has_our_mark_or_stands_in_a_place_of_ours() -> None:
    ours = parse.flow("cookie=0x7077000000000001,table=20,priority=200,dl_vlan=5,dl_dst=fa:16:3e:00:00:01,actions=drop")
    default = parse.flow("cookie=0x7077000000000001,table=41,priority=1,actions=goto_table:42")
    installed = {ours.key, default.key}

    assert concerns(0, 20, "dl_vlan=5,dl_dst=fa:16:3e:00:00:01", installed)
    assert concerns(5, 41, "", installed)
    assert concerns(5, 41, "cookie=odd", installed), "what cannot be read is looked at"
    assert concerns(ours.cookie + 8, 99, "dl_vlan=6", installed), "a stray one"
    assert not concerns(0, 21, "dl_vlan=5,dl_dst=fa:16:3e:00:00:01", installed), "in another table"
    assert not concerns(0, 20, "dl_vlan=6,dl_dst=fa:16:3e:00:00:01", installed)
    assert not concerns(LEARNED_COOKIE, 20, "dl_vlan=5,dl_dst=fa:16:3e:00:00:01", installed)


def test_what_the_switch_learned_carries_our_mark_and_is_not_programmed_by_us() -> None:
    learned = parse.flow(f"cookie={LEARNED_COOKIE:#x},table=20,hard_timeout=300,priority=100,actions=drop")

    assert OWN.holds(learned)
    assert not is_ours(learned)


def test_every_group_that_a_segment_may_have_has_an_id_of_its_own_and_of_ours() -> None:
    ids = [group_id(LocalVlan(vlan), part) for vlan in (1, 2, 4094) for part in range(GROUP_PARTS)]

    assert len(set(ids)) == len(ids)
    assert all(number in GROUPS for number in ids)
    assert {depends_on(group(number, ())) for number in ids} == {1, 2, 4094}


# --- buckets -----------------------------------------------------------------------------------------------------


@given(st.lists(endpoints, max_size=20, unique=True))
def test_every_endpoint_has_a_bucket_of_its_own(members: list[TunnelEndpoint]) -> None:
    ids = bucket_ids(tuple(members))

    assert sorted(ids.values(), key=str) == sorted(members, key=str)
    assert all(0 <= number < 0xFFFFFF00 for number in ids)


@given(st.lists(endpoints.filter(lambda each: each.version == 4), min_size=1, max_size=20, unique=True))
def test_a_peer_at_ipv4_has_the_same_bucket_for_ever(members: list[TunnelEndpoint]) -> None:
    (number,) = bucket_ids((members[0],))

    assert bucket_ids(tuple(members))[number] == members[0]


def test_two_ipv6_endpoints_whose_hashes_meet_have_two_buckets() -> None:
    lower, higher = (tunnel_endpoint(f"2001:db8::{end}") for end in ("9af7:5a07:98df:5aa3", "adc8:875f:b9df:b7b0"))
    alone = [*bucket_ids((lower,)), *bucket_ids((higher,))]
    assert alone[0] == alone[1], "found by search"

    assert bucket_ids((higher, lower)) == {alone[0]: lower, alone[0] + 1: higher}


@pytest.mark.parametrize("number", [0, 1, GROUP_PEERS, GROUP_PEERS + 1, 5 * GROUP_PEERS])
def test_a_segments_peers_are_shared_out_among_groups_that_can_be_read_back(number: int) -> None:
    peers = tuple(tunnel_endpoint(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(1, number + 1))

    parts = flood_parts(peers)

    assert sorted(peer for part in parts.values() for peer in part) == sorted(peers)
    assert all(part for part in parts.values())
    assert all(len(part) <= GROUP_PEERS for part in parts.values())
    assert set(parts) <= set(range(GROUP_PARTS + 1))


def test_a_peer_more_moves_no_other_from_its_group() -> None:
    peers = tuple(tunnel_endpoint(f"10.0.{n >> 8}.{n & 255}") for n in range(1, GROUP_PEERS + 500))
    before, after = flood_parts(peers[:-1]), flood_parts(peers)

    assert {part: tuple(each for each in members if each != peers[-1]) for part, members in after.items()} == before


def test_a_flood_to_many_peers_goes_once_to_each_of_them() -> None:
    fabric = a_fabric(P1)
    number = GROUP_PEERS + 50
    for n in range(1, number + 1):
        fabric.feed(a_claim(a_port(f"p{n + 1}"), tunnel_ip=tunnel_endpoint(f"10.0.{n >> 8}.{n & 255}")))
    switch = Switch()
    for key in fabric.everything():
        for bridge, item in plan(fabric, Policy(), key):
            if bridge is TUN and isinstance(item, Flow):
                switch.flows[item.key] = item
            elif isinstance(item, Group):
                switch.groups[item.key] = item
    assert max(len(each.buckets) for each in switch.groups.values()) <= GROUP_PEERS

    outputs = switch.receive(PATCH_TO_INTEGRATION, Frame(mac_of(P1), BROADCAST, vlan=1))

    assert len(switch.groups) > 1
    assert len(outputs) == number
    assert len({frame.tun_dst for _, frame in outputs}) == number


# --- what a read-back needs to know ------------------------------------------------------------------------------


def planned(fragment: str) -> Flow | Group:
    (found,) = [item for _, item in rich() if fragment in item.text()]
    return found


def test_a_remote_entry_depends_on_its_segments_vlan_and_sends_to_its_peer() -> None:
    entry = planned("table=20,priority=200,dl_vlan=1,dl_dst=fa:16:3e:00:00:02")

    assert depends_on(entry) == 1
    assert tunnels_to(entry) == {an_endpoint(2)}
    assert station_of(entry) == ("dl_vlan=1", "dl_dst=fa:16:3e:00:00:02")


def test_a_group_depends_on_its_segments_vlan_and_sends_to_all_its_peers() -> None:
    members = planned("group_id=")

    assert depends_on(members) == 1
    assert tunnels_to(members) == {an_endpoint(2), an_endpoint(3)}
    assert station_of(members) is None
    assert accepted_peer(members) is None


def test_what_sends_floods_to_the_group_is_known_as_that() -> None:
    assert serves_flood(planned("table=22,priority=200,dl_vlan=1"))
    assert not serves_flood(planned("table=42,priority=200,dl_vlan=1"))
    assert not serves_flood(planned("group_id="))


def test_an_acceptance_names_its_peer() -> None:
    assert accepted_peer(planned("tun_src=192.0.2.12")) == an_endpoint(2)
    assert accepted_peer(parse.flow("cookie=0x1,table=0,tun_ipv6_src=2001:db8::2,actions=drop")) == tunnel_endpoint(
        "2001:db8::2"
    )
    assert accepted_peer(planned("tun_id=0x20c,actions=push")) is None


@pytest.mark.parametrize(
    "fragment", ["table=0,priority=200,in_port=10", "tun_id=0x20c,actions=push", "table=42,priority=200,dl_vlan=1"]
)
def test_what_local_state_alone_decides_depends_on_no_segments_claims(fragment: str) -> None:
    assert depends_on(planned(fragment)) is None


def test_learned_entries_leave_with_their_station_or_their_network() -> None:
    (station,) = farewell(planned("table=20,priority=200,dl_vlan=1,dl_dst=fa:16:3e:00:00:02"))  # type: ignore[arg-type]  # a flow
    (network,) = farewell(planned("tun_id=0x20c,actions=push"))  # type: ignore[arg-type]  # a flow

    assert (station.table, station.match) == (20, ("vlan_tci=0x0001/0x0fff", "dl_dst=fa:16:3e:00:00:02"))
    assert (network.table, network.match) == (20, ("vlan_tci=0x0001/0x0fff",))
    assert farewell(planned("table=42,priority=200,dl_vlan=1")) == ()  # type: ignore[arg-type]  # a flow


def test_what_the_integration_bridge_learned_of_a_station_leaves_with_what_it_was_learned_from() -> None:
    fabric = a_fabric(P1, ROUTER, remote=[a_claim(ROUTER)])
    flows = [item for _, item in plan(fabric, Policy(), Unicast(BLUE, mac_of(ROUTER))) if isinstance(item, Flow)]

    purges = [purge for flow in flows for purge in farewell(flow)]

    assert [(purge.table, purge.match) for purge in purges] == [
        (41, ("vlan_tci=0x0001/0x0fff", "dl_dst=fa:16:3e:00:00:09"))
    ] * 2, "once for the tunnel and once for the port"


def test_what_is_learned_from_the_tunnel_depends_on_the_segments_claims_and_from_a_port_here_on_nothing_else() -> None:
    fabric = a_fabric(P1, ROUTER, remote=[a_claim(ROUTER)])

    depends = [depends_on(item) for _, item in plan(fabric, Policy(), Unicast(BLUE, mac_of(ROUTER)))]

    assert depends == [1] * 4 + [None] * 4 + [1] * 2


# --- by frames ---------------------------------------------------------------------------------------------------


def a_fleet(*ports: tuple[str, Port], policy: Policy | None = None, hosts: int = 3) -> Fleet:
    """Return a settled fleet with each port on its host."""
    fleet = Fleet(hosts, policy)
    for host, port in ports:
        fleet[host].plug(port)
    fleet.settle()
    return fleet


def a_router_on_two_hosts(policy: Policy | None = None) -> Fleet:
    """Return a guest on each of three hosts, and instances of one router on two of them."""
    ports = (("hv1", P1), ("hv2", P2), ("hv3", a_port("p3")), ("hv1", ROUTER), ("hv2", ROUTER))
    return a_fleet(*ports, policy=policy)


def learned_here(host: Host) -> list[str]:
    """Return what the integration bridge has learned."""
    return [flow.text() for flow in host.bridges[INT].flows.values() if flow.cookie == LEARNED_COOKIE]


def blue_everywhere(policy: Policy | None = None) -> Fleet:
    """Return p1 and p4 on hv1, p2 on hv2, p3 on hv3, all in blue."""
    places = (("hv1", "p1"), ("hv2", "p2"), ("hv3", "p3"), ("hv1", "p4"))
    return a_fleet(*((host, a_port(name)) for host, name in places), policy=policy)


@pytest.mark.parametrize("to", [BROADCAST, MULTICAST_MAC, "33:33:00:00:00:01"])
def test_a_multicast_is_heard_once_by_every_other_port_of_its_network_and_by_none_else(to: str) -> None:
    fleet = blue_everywhere()
    fleet["hv2"].plug(a_port("p7", "red"))
    fleet.settle()

    assert fleet.hears("hv1/p1", to) == {"hv1/p4", "hv2/p2", "hv3/p3"}
    assert fleet.hears("hv3/p3", to) == {"hv1/p1", "hv1/p4", "hv2/p2"}
    assert fleet.hears("hv2/p7", to) == set()


def test_a_unicast_is_heard_by_its_port_alone() -> None:
    fleet = blue_everywhere()

    assert fleet.hears("hv1/p1", mac_of(a_port("p2"))) == {"hv2/p2"}
    assert fleet.hears("hv1/p1", mac_of(a_port("p4"))) == {"hv1/p4"}
    assert fleet.hears("hv3/p3", mac_of(a_port("p1"))) == {"hv1/p1"}


def test_a_frame_to_its_own_sender_is_heard_by_nobody() -> None:
    assert blue_everywhere().hears("hv1/p1", mac_of(P1)) == set()


def test_unknown_unicast_is_flooded_or_dropped_as_the_operator_chose() -> None:
    assert blue_everywhere().hears("hv1/p1", UNKNOWN_MAC) == {"hv1/p4", "hv2/p2", "hv3/p3"}
    assert blue_everywhere(Policy(flood_unknown=False)).hears("hv1/p1", UNKNOWN_MAC) == set()


def test_with_unknown_unicast_dropped_known_ports_and_multicast_are_reached_all_the_same() -> None:
    fleet = blue_everywhere(Policy(flood_unknown=False))

    assert fleet.hears("hv1/p1", mac_of(a_port("p2"))) == {"hv2/p2"}
    assert fleet.hears("hv1/p1") == {"hv1/p4", "hv2/p2", "hv3/p3"}


@pytest.mark.parametrize("vlan", [0, 1, 2, 100, 4095])
def test_a_port_cannot_choose_a_vlan(vlan: int) -> None:
    fleet = blue_everywhere()
    fleet["hv1"].plug(a_port("p7", "red"))
    fleet.settle()

    assert fleet.send("hv1/p1", Frame(mac_of(P1), BROADCAST, vlan=vlan)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"admin_up": False},
        {"mac": None},
        {"network_id": None},
        {"segmentation_id": None},
        {"fault": "bad-attached-mac: zz"},
        {"network_id": "red"},  # whose VNI is then blue's
    ],
)
def test_a_port_that_is_not_wired_neither_sends_nor_hears_a_single_frame(changes: dict[str, object]) -> None:
    fleet = blue_everywhere()

    fleet["hv1"].change("p4", **changes)
    fleet.settle()

    assert fleet.hears("hv1/p1") == {"hv2/p2", "hv3/p3"}
    assert "hv1/p4" not in fleet.hears("hv2/p2", mac_of(a_port("p4")))
    for to in (BROADCAST, mac_of(P1), mac_of(P2), UNKNOWN_MAC):
        assert fleet.send("hv1/p4", Frame(mac_of(a_port("p4")), to)) == []


def test_a_port_that_was_pulled_hears_and_sends_nothing_even_if_its_device_stays() -> None:
    fleet = blue_everywhere()
    _, ofport = fleet["hv1"].plugged[a_port("p4").port_id]

    fleet["hv1"].unplug("p4")
    fleet.settle()

    outputs = fleet["hv1"].bridges[INT].receive(OfPort(11), Frame(mac_of(P1), BROADCAST))
    assert ofport not in {port for port, _ in outputs}
    assert fleet["hv1"].bridges[INT].receive(ofport, Frame(mac_of(a_port("p4")), BROADCAST)) == []


def test_two_networks_with_the_same_macs_and_addresses_never_hear_each_other() -> None:
    twin = {"mac": mac_of(P2), "fixed_ips": P2.fixed_ips}
    fleet = a_fleet(
        ("hv1", a_port("p1", "blue")),
        ("hv2", a_port("p2", "blue")),
        ("hv1", a_port("p11", "red", mac=P1.mac, fixed_ips=P1.fixed_ips)),
        ("hv3", a_port("p12", "red", **twin)),
    )

    for to in (BROADCAST, mac_of(P2), UNKNOWN_MAC):
        assert fleet.hears("hv1/p1", to) == {"hv2/p2"}
        assert fleet.hears("hv1/p11", to) == {"hv3/p12"}
    assert fleet.hears("hv2/p2", mac_of(P1)) == {"hv1/p1"}
    assert fleet.hears("hv3/p12", mac_of(P1)) == {"hv1/p11"}


def test_hosts_that_disagree_on_a_networks_vni_never_hear_each_other() -> None:
    fleet = a_fleet(("hv1", a_port("p1")), ("hv2", a_port("p2", segmentation_id=Vni(99))), ("hv3", a_port("p3")))

    assert fleet.hears("hv1/p1") == {"hv3/p3"}
    assert fleet.hears("hv2/p2") == set()
    assert fleet.hears("hv1/p1", mac_of(P2)) == {"hv3/p3"}, "flooded, among those who agree"


def test_two_networks_with_one_vni_on_different_hosts_never_hear_each_other() -> None:
    """Nobody on either host can see the conflict: only that packets are taken from known peers keeps them apart."""
    vni = a_vni("blue")
    fleet = a_fleet(("hv1", a_port("p1")), ("hv2", a_port("p2", "red", segmentation_id=vni)), ("hv3", a_port("p3")))

    assert fleet.hears("hv2/p2") == set()
    assert fleet.hears("hv1/p1") == {"hv3/p3"}


# --- frames out of the tunnel ------------------------------------------------------------------------------------


def out_of_the_tunnel(fleet: Fleet, host: str, *, source: str, vni: int, to: str = BROADCAST) -> list[int]:
    """Return the ports of the tunnel bridge out of which a packet from *source* goes."""
    packet = Frame(UNKNOWN_MAC, to, tun_id=vni, tun_src=source)
    return [port for port, _ in fleet[host].bridges[TUN].receive(TUNNEL, packet)]


def test_packets_are_taken_from_known_peers_and_under_known_keys_only() -> None:
    fleet = a_fleet(("hv1", a_port("p1")), ("hv2", a_port("p2")))
    vni = a_vni("blue")

    assert out_of_the_tunnel(fleet, "hv1", source="192.0.2.12", vni=vni) == [PATCH_TO_INTEGRATION]
    assert out_of_the_tunnel(fleet, "hv1", source="192.0.2.13", vni=vni) == []
    assert out_of_the_tunnel(fleet, "hv1", source="192.0.2.11", vni=vni) == [], "our own address is no peer"
    assert out_of_the_tunnel(fleet, "hv1", source="198.51.100.1", vni=vni) == []
    assert out_of_the_tunnel(fleet, "hv1", source="192.0.2.12", vni=vni + 1) == []
    assert out_of_the_tunnel(fleet, "hv1", source="192.0.2.12", vni=0) == []


def test_what_comes_from_a_tunnel_never_goes_into_a_tunnel_again() -> None:
    fleet = blue_everywhere()

    assert fleet.hears("hv2/p2", UNKNOWN_MAC) == {"hv1/p1", "hv1/p4", "hv3/p3"}
    for to in (BROADCAST, UNKNOWN_MAC, mac_of(a_port("p3"))):
        assert out_of_the_tunnel(fleet, "hv1", source="192.0.2.12", vni=a_vni("blue"), to=to) == [PATCH_TO_INTEGRATION]


def test_a_shared_mac_is_flooded_until_it_has_spoken_and_then_reached_where_it_spoke() -> None:
    router = a_port("p9", kind=Kind.SHARED)
    fleet = a_fleet(("hv1", a_port("p1")), ("hv2", router), ("hv3", router))
    assert fleet.hears("hv1/p1", mac_of(router)) == {"hv2/p9", "hv3/p9"}

    fleet.hears("hv3/p9")

    assert fleet.hears("hv1/p1", mac_of(router)) == {"hv3/p9"}


@pytest.mark.parametrize("policy", [Policy(), Policy(flood_unknown=False)], ids=["flooding", "dropping"])
def test_a_guest_beside_an_instance_that_stands_by_reaches_the_master(policy: Policy) -> None:
    fleet = a_router_on_two_hosts(policy)
    unspoken = [fleet.hears(guest, mac_of(ROUTER)) - {"hv3/p3"} for guest in GUESTS]
    assert unspoken == [{"hv1/p9", "hv2/p9"}] * 3, "where no instance is, all hear it"

    for master in ("hv1/p9", "hv2/p9") * 10:
        fleet.announces(master)

        assert [fleet.hears(guest, mac_of(ROUTER)) for guest in GUESTS] == [{master}] * 3
        assert fleet.hears(master, mac_of(P1)) == {"hv1/p1"}


def test_what_a_shared_mac_said_last_counts_even_when_it_announces_nothing() -> None:
    fleet = a_router_on_two_hosts()

    for master in ("hv1/p9", "hv2/p9", "hv1/p9"):
        assert fleet.hears(master, mac_of(P1)) == {"hv1/p1"}
        fleet.hears(master)

        assert [fleet.hears(guest, mac_of(ROUTER)) for guest in GUESTS] == [{master}] * 3


def test_an_announcement_outweighs_for_a_moment_what_is_counted_late_of_the_old_place() -> None:
    fleet = a_router_on_two_hosts()
    fleet.announces("hv1/p9")

    fleet.announces("hv2/p9")
    fleet.hears("hv1/p9")
    assert [fleet.hears(guest, mac_of(ROUTER)) for guest in GUESTS] == [{"hv2/p9"}] * 3
    fleet.hears("hv2/p9")
    fleet.settle()

    assert [fleet.hears(guest, mac_of(ROUTER)) for guest in GUESTS] == [{"hv2/p9"}] * 3


def test_two_instances_on_one_host_take_turns() -> None:
    other = a_port("p8", mac=ROUTER.mac, kind=Kind.SHARED)
    fleet = a_fleet(("hv1", P1), ("hv1", ROUTER), ("hv1", other), ("hv2", P2))

    for master in ("hv1/p9", "hv1/p8", "hv1/p9"):
        fleet.announces(master)
        assert [fleet.hears(guest, mac_of(ROUTER)) for guest in ("hv1/p1", "hv2/p2")] == [{master}] * 2
    fleet["hv1"].unplug("p9")
    fleet.settle()

    assert learned_here(fleet["hv1"]) == [], "what was learned of a port that has gone is gone"
    assert fleet.hears("hv1/p1", mac_of(ROUTER)) >= {"hv1/p8"}


def test_a_distributed_router_is_the_one_here_whoever_speaks() -> None:
    router = replace(ROUTER, device_owner="network:router_interface_distributed")
    fleet = a_fleet(("hv1", P1), ("hv1", router), ("hv2", P2), ("hv2", router))

    for speaks in ("hv1/p9", "hv2/p9"):
        fleet.announces(speaks)
        assert fleet.hears("hv1/p1", mac_of(router)) == {"hv1/p9"}
        assert fleet.hears("hv2/p2", mac_of(router)) == {"hv2/p9"}


@pytest.mark.parametrize(
    "end",
    [
        lambda host: host.unplug("p9"),
        lambda host: host.change("p9", kind=Kind.SINGLE),
        lambda host: host.change("p9", device_owner="network:router_interface_distributed"),
        lambda host: host.change("p9", admin_up=False),
        lambda host: host.plug(ROUTER, ofport=77),
    ],
    ids=["unplugged", "single", "distributed", "down", "at another number"],
)
def test_what_was_learned_of_a_port_here_goes_when_it_is_not_to_be_learned_there_any_more(
    end: Callable[[Host], None],
) -> None:
    fleet = a_router_on_two_hosts()
    fleet.announces("hv1/p9")
    assert learned_here(fleet["hv1"])

    end(fleet["hv1"])
    fleet.settle(1)

    assert learned_here(fleet["hv1"]) == []


def test_a_frozen_mac_is_reached_where_it_spoke_last_also_beside_a_port_that_claims_it() -> None:
    fleet = a_fleet(("hv1", P1), ("hv2", P2), ("hv3", a_port("p3")), ("hv1", a_port("p9")))
    for here, there in (("hv2", "hv1"), ("hv1", "hv2")) * 3:
        fleet[here].plug(a_port("p9"))
        fleet.settle()
        fleet[there].unplug("p9")
        fleet.settle()
    fleet["hv2"].plug(a_port("p9"))
    fleet.settle()
    assert {host.reactor.fabric.verdict(BLUE, mac_of(ROUTER)).rule for host in fleet.hosts.values()} == {Rule.FROZEN}

    for place in ("hv1/p9", "hv2/p9", "hv1/p9"):
        fleet.announces(place)
        assert [fleet.hears(guest, mac_of(ROUTER)) for guest in GUESTS] == [{place}] * 3
    fleet["hv2"].unplug("p9")
    fleet.settle()

    assert learned_here(fleet["hv1"]) == []
    assert [fleet.hears(guest, mac_of(ROUTER)) for guest in GUESTS] == [{"hv1/p9"}] * 3


def test_two_ports_here_with_one_frozen_mac_get_what_those_send_who_do_not_know_of_it() -> None:
    fleet = a_fleet(("hv1", P1), ("hv2", P2), ("hv3", a_port("p3")), ("hv1", a_port("p9")))
    for here, there in (("hv3", "hv1"), ("hv1", "hv3")) * 3:
        fleet[here].plug(a_port("p9"))
        fleet.settle()
        fleet[there].unplug("p9")
        fleet.settle()
    fleet["hv3"].plug(a_port("p9"))
    fleet["hv3"].plug(a_port("p8", mac=mac_of(ROUTER)))
    fleet.settle()
    fleet["hv2"].restart()
    fleet.settle()
    rules = {name: host.reactor.fabric.verdict(BLUE, mac_of(ROUTER)).rule for name, host in fleet.hosts.items()}
    assert rules == {"hv1": Rule.FROZEN, "hv2": Rule.SEQ, "hv3": Rule.FROZEN}

    fleet.announces("hv1/p9")

    assert fleet.hears("hv2/p2", mac_of(ROUTER)) == {"hv3/p8", "hv3/p9"}


def test_the_destination_of_a_migration_delivers_what_others_send_to_it_before_it_has_switched_over_itself() -> None:
    fleet = a_fleet(("hv1", P1), ("hv2", P2), ("hv3", a_port("p9")))
    fleet["hv2"].plug(a_port("p9", state=State.PREPARING))
    fleet.settle()
    assert fleet.hears("hv1/p1", mac_of(ROUTER)) == {"hv3/p9"}

    fleet["hv2"].programmed.clear()  # its switch is slow
    fleet["hv2"].change("p9", state=State.ACTIVE)
    fleet.settle()

    assert fleet.hears("hv1/p1", mac_of(ROUTER)) == {"hv2/p9"}
    assert fleet.hears("hv2/p2", mac_of(ROUTER)) == {"hv3/p9"}


def test_a_drained_port_gets_what_those_send_who_know_of_no_other() -> None:
    fleet = a_fleet(("hv1", P1), ("hv2", P2), ("hv2", a_port("p9")), ("hv3", a_port("p3")))
    fleet["hv2"].drain()
    fleet.settle()
    fleet["hv1"].disconnect()

    fleet["hv3"].plug(a_port("p9"))
    fleet.settle()

    assert fleet.hears("hv1/p1", mac_of(ROUTER)) == {"hv2/p9"}
    assert [fleet.hears(guest, mac_of(ROUTER)) for guest in ("hv2/p2", "hv3/p3")] == [{"hv3/p9"}] * 2


def test_a_programmed_entry_comes_before_a_learned_one() -> None:
    fleet = a_fleet(("hv1", a_port("p1")), ("hv2", a_port("p2")), ("hv3", a_port("p3")))

    fleet.send("hv3/p3", Frame(mac_of(P2), BROADCAST))  # p3 pretends to be p2

    assert fleet.hears("hv1/p1", mac_of(P2)) == {"hv2/p2"}


def test_what_was_learned_in_a_network_goes_with_it() -> None:
    fleet = blue_everywhere()
    fleet.hears("hv2/p2")
    assert [flow for flow in fleet["hv1"].bridges[TUN].flows.values() if flow.cookie == LEARNED_COOKIE]

    fleet["hv1"].unplug("p1", "p4")
    fleet.settle()

    assert not [flow for flow in fleet["hv1"].bridges[TUN].flows.values() if flow.cookie == LEARNED_COOKIE]


# --- ARP ---------------------------------------------------------------------------------------------------------


def ask(sender: Port, wanted: str, says: str, to: str = BROADCAST) -> Frame:
    """Return the ARP request of *sender*, who says that it is *says*, for *wanted*."""
    mac = mac_of(sender)
    return Frame(mac, to, kind="arp", arp_op=1, arp_sha=mac, arp_spa=says, arp_tpa=wanted, arp_tha="00:00:00:00:00:00")


def who_hears(fleet: Fleet, sender: str, frame: Frame) -> set[str]:
    return {name for name, _ in fleet.send(sender, frame)}


def test_a_request_for_a_remote_address_is_answered_here_and_leaves_not_this_host() -> None:
    fleet = blue_everywhere()

    ((name, reply),) = [
        (name, frame) for name, frame in fleet.send("hv1/p1", ask(P1, "10.0.0.3", "10.0.0.2")) if frame.arp_op == 2
    ]

    assert name == "hv1/p1"
    assert reply == Frame(
        src=mac_of(P2),
        dst=mac_of(P1),
        kind="arp",
        arp_op=2,
        arp_sha=mac_of(P2),
        arp_spa="10.0.0.3",
        arp_tha=mac_of(P1),
        arp_tpa="10.0.0.2",
    )
    assert who_hears(fleet, "hv1/p1", ask(P1, "10.0.0.3", "10.0.0.2")) == {"hv1/p1", "hv1/p4"}


@pytest.mark.parametrize(
    ("why", "wanted", "says"),
    [
        ("gratuitous", "10.0.0.3", "10.0.0.3"),
        ("for an address that nobody has", "10.0.0.200", "10.0.0.2"),
        ("for an address here", "10.0.0.5", "10.0.0.2"),
        ("a probe for the own address", "10.0.0.2", "0.0.0.0"),
    ],
)
def test_a_request_that_is_not_answered_is_flooded(why: str, wanted: str, says: str) -> None:
    heard = blue_everywhere().send("hv1/p1", ask(P1, wanted, says))

    assert {name for name, _ in heard} == {"hv1/p4", "hv2/p2", "hv3/p3"}, why
    assert all(frame.arp_op == 1 for _, frame in heard)


def test_a_probe_for_another_ports_address_is_answered() -> None:
    assert "hv1/p1" in who_hears(blue_everywhere(), "hv1/p1", ask(P1, "10.0.0.3", "0.0.0.0"))


def test_a_probe_for_the_own_address_is_never_answered_even_if_another_lists_it_too() -> None:
    fleet = a_fleet(("hv1", P1), ("hv2", a_port("p2", fixed_ips=P1.fixed_ips)))

    assert "hv1/p1" not in who_hears(fleet, "hv1/p1", ask(P1, "10.0.0.2", "0.0.0.0"))


def test_a_request_to_one_station_goes_to_that_station() -> None:
    fleet = blue_everywhere()

    assert who_hears(fleet, "hv1/p1", ask(P1, "10.0.0.3", "10.0.0.2", to=mac_of(P2))) == {"hv2/p2"}


def test_a_reply_is_delivered_like_any_frame() -> None:
    reply = replace(ask(P1, "10.0.0.3", "10.0.0.2", to=mac_of(P2)), arp_op=2)

    assert who_hears(blue_everywhere(), "hv1/p1", reply) == {"hv2/p2"}
    assert who_hears(blue_everywhere(), "hv1/p1", replace(reply, dst=BROADCAST)) == {"hv1/p4", "hv2/p2", "hv3/p3"}


def test_without_the_responder_every_request_is_flooded() -> None:
    fleet = blue_everywhere(Policy(arp_responder=False))

    assert who_hears(fleet, "hv1/p1", ask(P1, "10.0.0.3", "10.0.0.2")) == {"hv1/p4", "hv2/p2", "hv3/p3"}


def test_a_neighbour_solicitation_is_flooded() -> None:
    frame = Frame(mac_of(P1), "33:33:ff:00:00:02", kind="icmp6", icmp_type=135)

    assert who_hears(blue_everywhere(), "hv1/p1", frame) == {"hv1/p4", "hv2/p2", "hv3/p3"}


def test_an_address_of_a_pair_is_flooded_for() -> None:
    paired = a_port("p2", allowed_address_pairs=(AddressPair.parse("10.0.0.99"),))
    fleet = a_fleet(("hv1", P1), ("hv2", paired))

    assert who_hears(fleet, "hv1/p1", ask(P1, "10.0.0.99", "10.0.0.2")) == {"hv2/p2"}
