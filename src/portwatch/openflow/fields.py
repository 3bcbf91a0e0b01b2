"""The fields of a match: each made by a constructor from a typed value, spelt as the switch prints it.

That is as in a dump (OpenFlow 1.5, `--no-names`; ovs-fields(7)), so that what is sent and what is read back are equal.
There is no other way to make one but `parse`, which reads what the switch itself printed.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NewType

from portwatch.model import IpAddress, IpNetwork, LocalVlan, Mac, OfPort, TunnelEndpoint, Vni

Field = NewType("Field", str)
"""One field of a match, as `dl_vlan=5`."""

# The order in which the switch prints the fields that we use (lib/match.c).
_PRINTED: Final = {
    name: place
    for place, name in enumerate(
        (
            *("ip", "udp", "ipv6", "arp", "rarp", "icmp6"),
            *("tun_id", "tun_src", "tun_ipv6_src", "in_port", "vlan_tci", "dl_vlan", "dl_src", "dl_dst"),
            *("arp_spa", "arp_tpa", "arp_op", "arp_sha", "nw_src", "nw_dst", "ipv6_src", "ipv6_dst", "nw_ttl"),
            *("tp_src", "tp_dst", "icmp_type", "nd_target", "nd_sll", "nd_tll"),
        )
    )
}

ARP: Final = Field("arp")
ARP_REQUEST: Final = Field("arp_op=1")
BROADCAST: Final = Field("dl_dst=ff:ff:ff:ff:ff:ff")
DHCP_DISCOVERY: Final = (
    Field("udp"),
    Field("nw_src=0.0.0.0"),
    Field("nw_dst=255.255.255.255"),
    Field("tp_src=68"),
    Field("tp_dst=67"),
)
"""A DHCP client that has no address yet (RFC 2131, 4.1)."""
FROM_NOBODY: Final = Field("ipv6_src=::")
ICMP6: Final = Field("icmp6")
IPV4: Final = Field("ip")
IPV6: Final = Field("ipv6")
MULTICAST: Final = Field("dl_dst=01:00:00:00:00:00/01:00:00:00:00:00")
NEIGHBOR_ADVERTISEMENT: Final = Field("icmp_type=136")
NEIGHBOR_SOLICITATION: Final = Field("icmp_type=135")
NO_SOURCE_LINK_LAYER: Final = Field("nd_sll=00:00:00:00:00:00")
NO_TARGET_LINK_LAYER: Final = Field("nd_tll=00:00:00:00:00:00")
RARP: Final = Field("rarp")
SENT_BY_A_NEIGHBOR: Final = Field("nw_ttl=255")
"""The hop limit that no router leaves untouched: neighbour discovery takes nothing else (RFC 4861, 7.1)."""
TO_A_SOLICITED_NODE: Final = Field("ipv6_dst=ff02::1:ff00:0/104")
UNICAST: Final = Field("dl_dst=00:00:00:00:00:00/01:00:00:00:00:00")
UNTAGGED: Final = Field("vlan_tci=0x0000/0x1fff")


def in_port(port: OfPort) -> Field:
    return Field(f"in_port={port:d}")


def dl_vlan(vlan: LocalVlan) -> Field:
    return Field(f"dl_vlan={vlan:d}")


def learned_vlan(vlan: LocalVlan) -> Field:
    """Return the field by which a learned flow matches a VLAN: `learn` copies the id, and not that there is a tag."""
    return Field(f"vlan_tci={vlan:#06x}/0x0fff")


def reg0(number: int) -> Field:
    return Field(f"reg0={number:#x}")


def dl_src(mac: Mac) -> Field:
    return Field(f"dl_src={mac}")


def dl_dst(mac: Mac) -> Field:
    return Field(f"dl_dst={mac}")


def tun_id(vni: Vni) -> Field:
    return Field(f"tun_id={vni:#x}")


def tun_src(endpoint: TunnelEndpoint) -> Field:
    return Field(f"{'tun_src' if isinstance(endpoint, IPv4Address) else 'tun_ipv6_src'}={address_text(endpoint)}")


def arp_spa(address: IPv4Address) -> Field:
    return Field(f"arp_spa={address_text(address)}")


def arp_tpa(address: IPv4Address) -> Field:
    return Field(f"arp_tpa={address_text(address)}")


def arp_sha(mac: Mac) -> Field:
    return Field(f"arp_sha={mac}")


def arp_from(network: IPv4Network) -> tuple[Field, ...]:
    """Return the fields of an ARP packet whose sender is in *network*."""
    return ARP, *_within("arp_spa", network)


def ip_from(network: IpNetwork) -> tuple[Field, ...]:
    """Return the fields of a packet that comes from *network*."""
    if isinstance(network, IPv4Network):
        return IPV4, *_within("nw_src", network)
    return IPV6, *_within("ipv6_src", network)


def icmp6_from(address: IPv6Address, kind: int) -> tuple[Field, ...]:
    """Return the fields of an ICMPv6 message of type *kind*."""
    return ICMP6, Field(f"ipv6_src={address_text(address)}"), Field(f"icmp_type={kind:d}")


def nd_target(address: IPv6Address) -> Field:
    return Field(f"nd_target={address_text(address)}")


def nd_target_within(network: IPv6Network) -> tuple[Field, ...]:
    return _within("nd_target", network)


def nd_sll(mac: Mac) -> Field:
    return Field(f"nd_sll={mac}")


def nd_tll(mac: Mac) -> Field:
    return Field(f"nd_tll={mac}")


def in_printed_order(match: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields in the order in which the switch prints them."""
    if len(match) <= 1:
        return match
    return tuple(sorted(match, key=lambda field: _PRINTED.get(field.partition("=")[0], len(_PRINTED))))


@lru_cache(maxsize=1024)  # one address stands in several flows, a tunnel endpoint in very many
def address_text(address: IpAddress) -> str:
    """Return an address as the switch prints it, by inet_ntop(3): IPv4 within IPv6 has dots, which Python omits."""
    if isinstance(address, IPv6Address):
        head, tail = divmod(int(address), 1 << 32)
        if head == 0xFFFF or (head == 0 and tail > 0xFFFF):  # noqa: PLR2004 - ::ffff:0:0/96 and ::/96, RFC 4291, 2.5.5
            return f"::{'ffff:' if head else ''}{IPv4Address(tail)}"
    return str(address)


def _within(name: str, network: IpNetwork) -> tuple[Field, ...]:
    """Return the field that confines an address to *network*: none, when every address is in it."""
    if not network.prefixlen:
        return ()
    whole = network.prefixlen == network.max_prefixlen
    address = address_text(network.network_address)
    return (Field(f"{name}={address}" if whole else f"{name}={address}/{network.prefixlen:d}"),)
