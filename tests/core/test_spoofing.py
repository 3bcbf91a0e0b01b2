"""What a port may send from, and that its flows let through just that."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.spoofing import checks, common, sources
from portwatch.fabric.tables import INT_DELIVER, INT_DISCOVERY, INT_SOURCE
from portwatch.model import AddressPair, IpAddress, IpNetwork, Mac, OfPort, Port, PortId, fixed_ip, link_local
from portwatch.openflow import parse
from portwatch.openflow.flow import Flow

OWN, OTHER, PAIRED = (Mac(f"fa:16:3e:00:00:0{n}") for n in (1, 2, 3))
FIVE, SIX = OfPort(5), OfPort(6)
Packet = Mapping[str, str]
"""A frame's fields by the names that the switch has for them; `kind` is its protocol."""


def a_port(fixed: Iterable[str] = ("10.0.0.1", "fd00::1"), pairs: Iterable[str] = (), **changes: object) -> Port:
    """Return a port; say only what matters."""
    addresses, allowed = tuple(map(fixed_ip, fixed)), tuple(map(AddressPair.parse, pairs))
    known: dict[str, object] = {"mac": OWN, "fixed_ips": addresses, "allowed_address_pairs": allowed}
    return Port(PortId("p1"), **{**known, **changes})  # type: ignore[arg-type]  # builders are called with the right types


def texts(port: Port) -> list[str]:
    """Return a port's own flows, without our cookie and where they lead."""
    return [flow.text().partition(",")[2] for flow in checks(FIVE, port)]


def passes(port: Port, packet: Packet, ofport: OfPort = FIVE) -> bool:
    """Does the frame get to where it is delivered?"""
    flows = [*common(), *checks(FIVE, port)]
    table = INT_SOURCE
    while table != INT_DELIVER:
        frame = {"in_port": str(ofport), "dl_src": OWN, **packet}
        fitting = [flow for flow in flows if flow.table == table and all(_fits(each, frame) for each in flow.key.match)]
        if not fitting:
            return False
        highest = max(flow.key.priority for flow in fitting)
        (actions,) = {flow.actions for flow in fitting if flow.key.priority == highest}
        if actions == ("drop",):
            return False
        table = int(actions[0].removeprefix("goto_table:"))
    return True


def _fits(field: str, frame: Packet) -> bool:
    name, _, text = field.partition("=")
    kind = frame["kind"]
    match name:
        case "ip":
            return kind in ("ip", "udp")
        case "ipv6":
            return kind in ("ipv6", "icmp6")
        case "arp" | "rarp" | "udp" | "icmp6":
            return kind == name
        case "arp_spa" | "nw_src" | "ipv6_src" | "nd_target":
            return ip_address(frame.get(name, "::")) in ip_network(text)
    return frame.get(name, "00:00:00:00:00:00") == text


def ip(source: IpAddress | str, mac: str = OWN) -> Packet:
    """A packet of no protocol that matters."""
    address = ip_address(source)
    if isinstance(address, IPv4Address):
        return {"kind": "ip", "dl_src": mac, "nw_src": str(address)}
    return {"kind": "ipv6", "dl_src": mac, "ipv6_src": str(address)}


def arp(sender: str, op: int = 1, mac: str = OWN, sha: str | None = None) -> Packet:
    return {"kind": "arp", "dl_src": mac, "arp_spa": sender, "arp_op": str(op), "arp_sha": sha or mac}


def icmp6(source: str, kind: int, mac: str = OWN, **fields: str) -> Packet:
    return {"kind": "icmp6", "dl_src": mac, "ipv6_src": source, "icmp_type": str(kind), **fields}


def ll(mac: str) -> str:
    return str(link_local(Mac(mac)))


# --- the text ----------------------------------------------------------------------------------------------------


def test_a_ports_own_flows_letter_by_letter() -> None:
    mac, local = "fa:16:3e:00:00:01", "fe80::f816:3eff:fe00:1"
    sender = f"in_port=5,dl_src={mac}"

    assert texts(a_port()) == [
        f"table=39,priority=200,{sender},actions=goto_table:41",
        f"table=39,priority=400,rarp,{sender},arp_sha={mac},actions=goto_table:41",
        f"table=39,priority=400,arp,{sender},arp_spa=10.0.0.1,arp_sha={mac},actions=goto_table:41",
        f"table=39,priority=400,ip,{sender},nw_src=10.0.0.1,actions=goto_table:41",
        f"table=39,priority=400,ipv6,{sender},ipv6_src=fd00::1,actions=goto_table:40",
        f"table=39,priority=400,ipv6,{sender},ipv6_src={local},actions=goto_table:40",
        f"table=39,priority=400,arp,{sender},arp_spa=0.0.0.0,arp_sha={mac},actions=goto_table:40",
        f"table=39,priority=400,ip,{sender},nw_src=0.0.0.0,actions=goto_table:40",
        f"table=39,priority=400,ipv6,{sender},ipv6_src=::,actions=goto_table:40",
        f"table=40,priority=400,icmp6,{sender},icmp_type=135,nd_sll={mac},actions=goto_table:41",
        f"table=40,priority=400,icmp6,{sender},icmp_type=135,nd_sll=00:00:00:00:00:00,actions=goto_table:41",
        f"table=40,priority=400,icmp6,{sender},icmp_type=136,nd_target=fd00::1,nd_tll={mac},actions=goto_table:41",
        f"table=40,priority=400,icmp6,{sender},icmp_type=136,nd_target=fd00::1,nd_tll=00:00:00:00:00:00,"
        "actions=goto_table:41",
        f"table=40,priority=400,icmp6,{sender},icmp_type=136,nd_target={local},nd_tll={mac},actions=goto_table:41",
        f"table=40,priority=400,icmp6,{sender},icmp_type=136,nd_target={local},nd_tll=00:00:00:00:00:00,"
        "actions=goto_table:41",
    ]


def test_a_port_without_fixed_ips_needs_one_flow() -> None:
    assert texts(a_port(fixed=())) == ["table=39,priority=400,in_port=5,dl_src=fa:16:3e:00:00:01,actions=goto_table:41"]


@pytest.mark.parametrize("number", [1, 2, 16, 256])
def test_flows_are_as_many_as_addresses(number: int) -> None:
    """At most two for an IPv4 address and three for an IPv6 address, and ten beside."""
    v4, v6 = [f"10.{n}.0.1" for n in range(number)], [f"fd00:{n:x}::1" for n in range(number)]

    flows = texts(a_port(fixed=[*v4, *v6]))

    assert len(flows) == len(set(flows)) == 2 * number + 3 * number + 10


@given(st.lists(st.ip_addresses().map(str), max_size=5), st.lists(st.ip_addresses().map(str), max_size=5))
def test_every_flow_is_read_back_as_it_was_written(fixed: list[str], pairs: list[str]) -> None:
    port = a_port((text for text in fixed if _is_fixed_ip(text)), (f"{text}/{len(text)}" for text in pairs))

    flows: list[Flow] = [*common(), *checks(FIVE, port)]
    assert [parse.flow(flow.text()) for flow in flows] == flows


def _is_fixed_ip(text: str) -> bool:
    try:
        fixed_ip(text)
    except ValueError:
        return False
    return True


# --- what a port may send from -----------------------------------------------------------------------------------


def test_sources_are_the_own_mac_with_its_addresses_and_each_pairs_mac_with_its_own() -> None:
    port = a_port(("10.0.0.1",), ("10.0.0.2", "10.1.0.0/16", f"{OWN}/10.0.0.3", f"{PAIRED}/fd00::/64"))

    own, paired = sources(port)

    assert (own.mac, paired.mac) == (OWN, PAIRED)
    assert own.networks == tuple(
        map(ip_network, ("10.0.0.1", "10.0.0.2", "10.1.0.0/16", "10.0.0.3", "fe80::f816:3eff:fe00:1"))
    )
    assert paired.networks == (ip_network("fd00::/64"), ip_network("fe80::f816:3eff:fe00:3"))


def test_without_fixed_ips_the_own_mac_is_free_and_a_pairs_is_not() -> None:
    own, paired = sources(a_port((), ("10.0.0.2", f"{PAIRED}/10.0.0.9")))

    assert own.networks is None
    assert paired.networks == (ip_network("10.0.0.9"), ip_network(ll(PAIRED)))


def test_a_link_local_address_follows_from_the_mac() -> None:
    """RFC 4291, appendix A: the universal bit is turned over, and ff:fe stands in the middle."""
    assert str(link_local(Mac("34:56:78:9a:bc:de"))) == "fe80::3656:78ff:fe9a:bcde"
    assert str(link_local(Mac("02:00:00:00:00:01"))) == "fe80::ff:fe00:1"


# --- what passes -------------------------------------------------------------------------------------------------

PORT = a_port(pairs=("10.0.0.100", "10.9.0.0/16", "fd00:9::/64", f"{PAIRED}/10.0.0.200", f"{PAIRED}/fd00::200"))
DHCP = {"kind": "udp", "nw_src": "0.0.0.0", "nw_dst": "255.255.255.255", "tp_src": "68", "tp_dst": "67"}


@pytest.mark.parametrize(
    ("what", "packet"),
    [
        ("its MAC with a fixed IP", ip("10.0.0.1")),
        ("a pair's address", ip("10.0.0.100")),
        ("a pair's prefix", ip("10.9.255.255")),
        ("a pair's MAC with its address", ip("10.0.0.200", PAIRED)),
        ("a fixed IPv6 address", ip("fd00::1")),
        ("its link-local address", ip(ll(OWN))),
        ("the link-local address of a pair's MAC", ip(ll(PAIRED), PAIRED)),
        ("ARP for a fixed IP", arp("10.0.0.1")),
        ("an ARP reply", arp("10.0.0.1", op=2)),
        ("ARP for a pair's prefix", arp("10.9.0.1")),
        ("ARP of a pair's MAC", arp("10.0.0.200", mac=PAIRED)),
        ("an ARP probe", arp("0.0.0.0")),
        ("DHCP", DHCP),
        ("RARP", {"kind": "rarp", "arp_sha": OWN}),
        ("duplicate address detection", icmp6("::", 135, nd_target="fd00::77")),
        ("a router solicitation without address", icmp6("::", 133)),
        ("listener reports without address", icmp6("::", 143)),
        ("a listener report", icmp6(ll(OWN), 143)),
        ("a solicitation", icmp6("fd00::1", 135, nd_target="fd00::77", nd_sll=OWN)),
        ("an advertisement", icmp6("fd00::1", 136, nd_target="fd00::1", nd_tll=OWN)),
        ("an advertisement without a MAC", icmp6(ll(OWN), 136, nd_target="fd00::1")),
        ("an advertisement of a pair's prefix", icmp6(ll(OWN), 136, nd_target="fd00:9::7", nd_tll=OWN)),
        ("an advertisement of a pair's MAC", icmp6(ll(PAIRED), 136, PAIRED, nd_target="fd00::200", nd_tll=PAIRED)),
        ("what has no address at all", {"kind": "0x88cc"}),
    ],
)
def test_it_admits(what: str, packet: Packet) -> None:
    assert passes(PORT, packet), what
    assert not passes(PORT, packet, SIX), "another port has no part in this"


@pytest.mark.parametrize(
    ("what", "packet"),
    [
        ("another MAC", {"kind": "0x88cc", "dl_src": OTHER}),
        ("another MAC with a fixed IP", ip("10.0.0.1", OTHER)),
        ("another address", ip("10.0.0.2")),
        ("what is beside the prefix", ip("10.10.0.0")),
        ("a pair's address from the own MAC", ip("10.0.0.200")),
        ("a fixed IP from a pair's MAC", ip("10.0.0.1", PAIRED)),
        ("another IPv6 address", ip("fd00::2")),
        ("the link-local address of another MAC", ip(ll(OTHER))),
        ("a link-local address of its own choice", ip("fe80::1")),
        ("no address, and no DHCP", ip("0.0.0.0")),
        ("a DHCP server without address", {**DHCP, "tp_src": "67", "tp_dst": "68"}),
        ("DHCP to one station", {**DHCP, "nw_dst": "10.0.0.2"}),
        ("ARP for another address", arp("10.0.0.2")),
        ("ARP at another MAC", arp("10.0.0.1", sha=OTHER)),
        ("ARP from another MAC", arp("10.0.0.1", mac=OTHER)),
        ("an ARP probe at another MAC", arp("0.0.0.0", sha=OTHER)),
        ("an ARP reply from nobody", arp("0.0.0.0", op=2)),
        ("RARP of another", {"kind": "rarp", "arp_sha": OTHER}),
        ("IPv6 without address", ip("::")),
        ("an echo request without address", icmp6("::", 128)),
        ("a router advertisement without address", icmp6("::", 134)),
        ("a solicitation at another MAC", icmp6("fd00::1", 135, nd_target="fd00::77", nd_sll=OTHER)),
        ("a solicitation from another address", icmp6("fd00::2", 135, nd_target="fd00::77", nd_sll=OWN)),
        ("an advertisement of another address", icmp6("fd00::1", 136, nd_target="fd00::2", nd_tll=OWN)),
        ("one of another address without a MAC", icmp6("fd00::1", 136, nd_target="fd00::2")),
        ("an advertisement at another MAC", icmp6("fd00::1", 136, nd_target="fd00::1", nd_tll=OTHER)),
        ("an advertisement from another address", icmp6("fd00::2", 136, nd_target="fd00::1", nd_tll=OWN)),
        ("a pair's advertisement at the own MAC", icmp6("fd00::1", 136, nd_target="fd00::200", nd_tll=OWN)),
    ],
)
def test_it_drops(what: str, packet: Packet) -> None:
    assert not passes(PORT, packet), what


def test_a_pair_of_all_addresses_leaves_the_mac_to_be_checked() -> None:
    port = a_port(pairs=("0.0.0.0/0", "::/0"))

    for packet in (ip("198.51.100.1"), ip("0.0.0.0"), arp("198.51.100.1", op=2), ip("2001:db8::1")):
        assert passes(port, packet)
    assert passes(port, icmp6("2001:db8::1", 136, nd_target="2001:db8::2", nd_tll=OWN))
    for packet in (ip("198.51.100.1", OTHER), arp("198.51.100.1", sha=OTHER), ip("2001:db8::1", OTHER)):
        assert not passes(port, packet)
    assert not passes(port, icmp6("2001:db8::1", 136, nd_target="2001:db8::2", nd_tll=OTHER))


_macs = st.sampled_from((OWN, OTHER, PAIRED))
_addresses = st.sampled_from([*map(IPv4Address, range(0x0A000000, 0x0A000008)), *map(IPv6Address, range(1, 8))])
_networks = st.builds(
    lambda address, bits: ip_network((address, address.max_prefixlen - bits), strict=False),
    _addresses,
    st.integers(0, 4),
)
_pairs = st.builds(AddressPair, _networks, st.none() | _macs)


@given(
    st.lists(_addresses, min_size=1, max_size=3, unique=True),
    st.lists(_pairs, max_size=4, unique=True),
    _macs,
    _addresses,
)
def test_an_address_passes_with_a_mac_just_when_it_goes_with_it(
    fixed: list[IpAddress], pairs: list[AddressPair], mac: Mac, address: IpAddress
) -> None:
    port = a_port(fixed_ips=tuple(fixed), allowed_address_pairs=tuple(pairs))
    allowed: list[IpNetwork] = [pair.network for pair in pairs if (pair.mac or OWN) == mac]
    allowed += map(ip_network, fixed) if mac == OWN else ()
    owned = any(address in network for network in allowed)

    assert passes(port, ip(address, mac)) is owned
    if isinstance(address, IPv4Address):
        assert passes(port, arp(str(address), 2, mac)) is owned
    else:
        told = icmp6(str(address), 136, mac, nd_target=str(address), nd_tll=mac)
        assert passes(port, told) is owned


# --- who is checked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "trusted", "routes"),
    [
        ("compute:nova", False, False),
        ("", False, False),
        ("networks:mine", False, False),
        ("network:dhcp", True, False),
        ("network:router_interface", True, True),
        ("network:ha_router_replicated_interface", True, True),
        ("network:floatingip", True, False),
    ],
)
def test_the_networks_own_ports_are_trusted(owner: str, trusted: bool, routes: bool) -> None:
    port = a_port(device_owner=owner)

    assert (port.trusted, port.routes) == (trusted, routes)


def test_the_tables_lead_onwards_only() -> None:
    """`goto_table` leads to higher numbers (OpenFlow 1.5.1, 5.1): the switch refuses another."""
    assert INT_SOURCE < INT_DISCOVERY < INT_DELIVER
