"""Flows, groups and their text: what goes to the switch, letter by letter."""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.model import LocalVlan, Mac, OfPort, Vni, tunnel_endpoint
from portwatch.openflow import flow as of
from portwatch.openflow.flow import Bucket, Field, FlowKey, GroupKey, flow, group

MAC = Mac("fa:16:3e:00:00:01")
V4, V6 = tunnel_endpoint("192.0.2.12"), tunnel_endpoint("2001:db8::12")
FIELDS = (of.ARP, of.tun_id(Vni(7)), of.tun_src(V4), of.in_port(OfPort(5)), of.dl_vlan(LocalVlan(1)), of.dl_dst(MAC))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (of.in_port(OfPort(5)), "in_port=5"),
        (of.dl_vlan(LocalVlan(4094)), "dl_vlan=4094"),
        (of.learned_vlan(LocalVlan(5)), "vlan_tci=0x0005/0x0fff"),
        (of.learned_vlan(LocalVlan(4094)), "vlan_tci=0x0ffe/0x0fff"),
        (of.UNTAGGED, "vlan_tci=0x0000/0x1fff"),
        (of.dl_dst(MAC), "dl_dst=fa:16:3e:00:00:01"),
        (of.tun_id(Vni(100)), "tun_id=0x64"),
        (of.tun_src(V4), "tun_src=192.0.2.12"),
        (of.tun_src(V6), "tun_ipv6_src=2001:db8::12"),
        (of.arp_spa(IPv4Address("10.0.0.1")), "arp_spa=10.0.0.1"),
        (of.arp_tpa(IPv4Address("10.0.0.1")), "arp_tpa=10.0.0.1"),
        (of.arp_sha(MAC), "arp_sha=fa:16:3e:00:00:01"),
        (of.dl_src(MAC), "dl_src=fa:16:3e:00:00:01"),
        (of.nd_target(IPv6Address("fd00::1")), "nd_target=fd00::1"),
        (of.nd_sll(MAC), "nd_sll=fa:16:3e:00:00:01"),
        (of.nd_tll(MAC), "nd_tll=fa:16:3e:00:00:01"),
    ],
)
def test_a_field_is_spelt_as_the_switch_prints_it(field: Field, text: str) -> None:
    assert field == text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (of.arp_from(IPv4Network("10.0.0.1")), "arp,arp_spa=10.0.0.1"),
        (of.arp_from(IPv4Network("10.0.0.0/24")), "arp,arp_spa=10.0.0.0/24"),
        (of.arp_from(IPv4Network("0.0.0.0/0")), "arp"),
        (of.ip_from(IPv4Network("10.0.0.0/24")), "ip,nw_src=10.0.0.0/24"),
        (of.ip_from(IPv4Network("0.0.0.0")), "ip,nw_src=0.0.0.0"),
        (of.ip_from(IPv6Network("fd00::/64")), "ipv6,ipv6_src=fd00::/64"),
        (of.ip_from(IPv6Network("::/0")), "ipv6"),
        (of.icmp6_from(IPv6Address("::"), 133), "icmp6,ipv6_src=::,icmp_type=133"),
        (of.nd_target_within(IPv6Network("fd00::/127")), "nd_target=fd00::/127"),
        (of.nd_target_within(IPv6Network("::/0")), ""),
    ],
)
def test_a_network_is_spelt_as_the_switch_prints_it(fields: tuple[Field, ...], text: str) -> None:
    assert ",".join(fields) == text


@pytest.mark.parametrize(
    "text",
    [
        *("::", "::1", "::ffff", "::0.1.0.0", "::10.0.0.1", "::255.255.255.255"),
        *("::ffff:0.0.0.0", "::ffff:10.0.0.1", "::1:0:0:0", "::fffe:a00:1", "1::", "1:0:1:1:1:1:1:1", "1:0:0:1::1"),
    ],
)
def test_an_ipv6_address_is_spelt_as_inet_ntop_does(text: str) -> None:
    """IPv4 within IPv6 has dots there, and not in Python: what is spelt otherwise would be sent for ever."""
    assert socket.inet_ntop(socket.AF_INET6, IPv6Address(text).packed) == text
    assert of.nd_target(IPv6Address(text)) == f"nd_target={text}"


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is(address: IPv6Address) -> None:
    assert of.nd_target(address) == f"nd_target={socket.inet_ntop(socket.AF_INET6, address.packed)}"


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (of.note_who_answers(MAC, router=False), "set_field:0xfa163e000001->xreg0,set_field:0x60000000->reg2"),
        (of.note_who_answers(MAC, router=True), "set_field:0xfa163e000001->xreg0,set_field:0xe0000000->reg2"),
        ((of.resubmit(22),), "resubmit(,22)"),
        ((of.output(OfPort(5)),), "output:5"),
        ((of.goto_table(41),), "goto_table:41"),
        ((of.to_group(0x70770001),), "group:1886846977"),
        ((of.PUSH_VLAN, of.set_vlan_vid(LocalVlan(5))), "push_vlan:0x8100,set_field:4101->vlan_vid"),
        ((of.POP_VLAN,), "pop_vlan"),
        ((of.set_tun_id(Vni(100)),), "set_field:0x64->tun_id"),
        ((of.set_tun_dst(V4),), "set_field:192.0.2.12->tun_dst"),
        ((of.set_tun_dst(V6),), "set_field:2001:db8::12->tun_ipv6_dst"),
        ((of.set_eth_src(MAC),), "set_field:fa:16:3e:00:00:01->eth_src"),
        (
            of.set_arp_sender(MAC, IPv4Address("10.0.0.1")),
            "set_field:fa:16:3e:00:00:01->arp_sha,set_field:10.0.0.1->arp_spa",
        ),
        ((of.IN_PORT,), "IN_PORT"),
        ((), "drop"),
    ],
)
def test_an_action_is_spelt_as_the_switch_prints_it(actions: tuple[of.Action, ...], text: str) -> None:
    assert flow(1, 0, 5, (), actions).text().partition("actions=")[2] == text


@pytest.mark.parametrize(("version", "family"), [(4, "IPV4"), (6, "IPV6")])
def test_learning_writes_the_way_back_to_the_tunnel_endpoint(version: int, family: str) -> None:
    learn = of.learn_tunnel_source(20, 100, 0x7077_0000_0000_0002, 300, version)

    assert learn == (
        "learn(table=20,hard_timeout=300,priority=100,cookie=0x7077000000000002,"
        "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],"
        f"load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],load:NXM_NX_TUN_{family}_SRC[]->NXM_NX_TUN_{family}_DST[],"
        "output:OXM_OF_IN_PORT[])"
    )


@pytest.mark.parametrize(("tagged", "untag"), [(True, ""), (False, "load:0->NXM_OF_VLAN_TCI[],")])
def test_learning_writes_the_way_back_to_the_port(untag: str, *, tagged: bool) -> None:
    assert of.learn_source(41, 100, 0x7077_0000_0000_0002, 300, tagged=tagged) == (
        "learn(table=41,hard_timeout=300,priority=100,cookie=0x7077000000000002,"
        f"NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],{untag}output:OXM_OF_IN_PORT[])"
    )


def test_a_flow_is_cookie_table_priority_match_and_actions() -> None:
    made = flow(0x7077_0000_0000_0001, 4, 200, (of.tun_id(Vni(7)),), (of.PUSH_VLAN, of.goto_table(10)))

    assert made.text() == (
        "cookie=0x7077000000000001,table=4,priority=200,tun_id=0x7,actions=push_vlan:0x8100,goto_table:10"
    )
    assert (made.key, made.table) == (FlowKey(4, 200, (of.tun_id(Vni(7)),)), 4)


@given(st.permutations(FIELDS))
def test_a_match_is_in_the_switchs_order_however_it_was_made(match: list[Field]) -> None:
    assert flow(1, 0, 5, tuple(match), ()).key.match == FIELDS


def test_a_field_that_we_never_use_is_printed_last() -> None:
    strange = Field("nw_tos=4")

    assert of.in_printed_order((strange, of.ARP)) == (of.ARP, strange)


def test_flows_are_the_same_flow_by_table_priority_and_match_and_equal_by_all() -> None:
    one = flow(1, 0, 5, (of.ARP,), (of.output(OfPort(5)),))

    assert flow(1, 0, 5, (of.ARP,), ()).key == one.key
    assert flow(1, 0, 5, (of.ARP,), ()) != one
    assert flow(2, 0, 5, (of.ARP,), (of.output(OfPort(5)),)) != one
    assert len({one.key, flow(1, 1, 5, (of.ARP,), ()).key, flow(1, 0, 6, (of.ARP,), ()).key}) == 3


def test_a_groups_buckets_are_in_the_order_of_their_ids() -> None:
    near, far = Bucket(1, (of.output(OfPort(1)),)), Bucket(2, (of.output(OfPort(2)),))

    assert group(5, (far, near)) == group(5, (near, far))
    assert group(5, (far, near)).key == GroupKey(5)
    assert group(5, (far, near)).text() == (
        "group_id=5,type=all,bucket=bucket_id:1,actions=output:1,bucket=bucket_id:2,actions=output:2"
    )


def test_an_empty_group_has_no_buckets() -> None:
    assert group(5, ()).text() == "group_id=5,type=all"
