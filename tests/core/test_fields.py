"""The fields of a match, letter by letter."""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.model import LocalVlan, Mac, OfPort, Vni, tunnel_endpoint
from portwatch.openflow import fields
from portwatch.openflow.fields import Field

MAC = Mac("fa:16:3e:00:00:01")
V4, V6 = tunnel_endpoint("192.0.2.12"), tunnel_endpoint("2001:db8::12")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (fields.in_port(OfPort(5)), "in_port=5"),
        (fields.dl_vlan(LocalVlan(4094)), "dl_vlan=4094"),
        (fields.learned_vlan(LocalVlan(5)), "vlan_tci=0x0005/0x0fff"),
        (fields.learned_vlan(LocalVlan(4094)), "vlan_tci=0x0ffe/0x0fff"),
        (fields.UNTAGGED, "vlan_tci=0x0000/0x1fff"),
        (fields.dl_dst(MAC), "dl_dst=fa:16:3e:00:00:01"),
        (fields.tun_id(Vni(100)), "tun_id=0x64"),
        (fields.tun_src(V4), "tun_src=192.0.2.12"),
        (fields.tun_src(V6), "tun_ipv6_src=2001:db8::12"),
        (fields.arp_spa(IPv4Address("10.0.0.1")), "arp_spa=10.0.0.1"),
        (fields.arp_tpa(IPv4Address("10.0.0.1")), "arp_tpa=10.0.0.1"),
        (fields.arp_sha(MAC), "arp_sha=fa:16:3e:00:00:01"),
        (fields.dl_src(MAC), "dl_src=fa:16:3e:00:00:01"),
        (fields.nd_target(IPv6Address("fd00::1")), "nd_target=fd00::1"),
        (fields.nd_sll(MAC), "nd_sll=fa:16:3e:00:00:01"),
        (fields.nd_tll(MAC), "nd_tll=fa:16:3e:00:00:01"),
    ],
)
def test_a_field_is_spelt_as_the_switch_prints_it(field: Field, text: str) -> None:
    assert field == text


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (fields.arp_from(IPv4Network("10.0.0.1")), "arp,arp_spa=10.0.0.1"),
        (fields.arp_from(IPv4Network("10.0.0.0/24")), "arp,arp_spa=10.0.0.0/24"),
        (fields.arp_from(IPv4Network("0.0.0.0/0")), "arp"),
        (fields.ip_from(IPv4Network("10.0.0.0/24")), "ip,nw_src=10.0.0.0/24"),
        (fields.ip_from(IPv4Network("0.0.0.0")), "ip,nw_src=0.0.0.0"),
        (fields.ip_from(IPv6Network("fd00::/64")), "ipv6,ipv6_src=fd00::/64"),
        (fields.ip_from(IPv6Network("::/0")), "ipv6"),
        (fields.icmp6_from(IPv6Address("::"), 133), "icmp6,ipv6_src=::,icmp_type=133"),
        (fields.nd_target_within(IPv6Network("fd00::/127")), "nd_target=fd00::/127"),
        (fields.nd_target_within(IPv6Network("::/0")), ""),
    ],
)
def test_a_network_is_spelt_as_the_switch_prints_it(match: tuple[Field, ...], text: str) -> None:
    assert ",".join(match) == text


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
    assert fields.nd_target(IPv6Address(text)) == f"nd_target={text}"


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is(address: IPv6Address) -> None:
    assert fields.nd_target(address) == f"nd_target={socket.inet_ntop(socket.AF_INET6, address.packed)}"


def test_a_field_that_we_never_use_is_printed_last() -> None:
    strange = Field("nw_tos=4")

    assert fields.in_printed_order((strange, fields.ARP)) == (fields.ARP, strange)
