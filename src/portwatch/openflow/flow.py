"""Match, Action, Flow, Group: values, and their text in the switch's own dialect.

A field or an action is made by a constructor from a typed value, spelt as Open vSwitch prints it in a dump (OpenFlow
1.5, `--no-names`; ovs-fields(7), ovs-actions(7)), so that what is sent and what is read back are equal. There is no
other way to make one but `parse`, which reads what the switch itself printed.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple, NewType

from portwatch.model import IpAddress, IpNetwork, LocalVlan, Mac, OfPort, TunnelEndpoint, Vni

Field = NewType("Field", str)
"""One field of a match, as `dl_vlan=5`."""
Action = NewType("Action", str)
"""One action or instruction, as `output:5`."""

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

VLAN_PRESENT: Final = 0x1000
"""OpenFlow's OFPVID_PRESENT: set in `vlan_vid` for a tagged packet."""


class FlowKey(NamedTuple):
    """What makes two flows the same flow: the later replaces the earlier (OpenFlow 1.5.1, 6.4)."""

    table: int
    priority: int
    match: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of one bridge. Make it with `flow()`, which puts the match in the switch's order."""

    cookie: int
    key: FlowKey
    actions: tuple[Action, ...]

    @property
    def table(self) -> int:
        return self.key.table

    def text(self) -> str:
        """Return the flow as ovs-ofctl(8) reads it."""
        return f"cookie={self.cookie:#x},{match_text(self.key)},actions={','.join(self.actions)}"


class GroupKey(NamedTuple):
    """What makes two groups the same group."""

    group_id: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """One member of a group."""

    bucket_id: int
    actions: tuple[Action, ...]

    def text(self) -> str:
        return f"bucket=bucket_id:{self.bucket_id},actions={','.join(self.actions)}"


ALL: Final = "type=all"
"""Every bucket gets a copy."""
HASHED: Final = "type=select,selection_method=dp_hash"
"""One bucket gets the packet, by a hash that the datapath makes: so the packet goes through it once more."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group. Make it with `group()`, which orders the buckets."""

    key: GroupKey
    buckets: tuple[Bucket, ...]
    kind: str = ALL

    @property
    def relays(self) -> bool:
        """Does it hand on to other groups?"""
        return any(action.startswith("group:") for bucket in self.buckets for action in bucket.actions)

    def text(self) -> str:
        """Return the group as ovs-ofctl(8) reads it."""
        return ",".join((f"group_id={self.key.group_id}", self.kind, *(bucket.text() for bucket in self.buckets)))


Item = Flow | Group
ItemKey = FlowKey | GroupKey


def flow(cookie: int, table: int, priority: int, match: tuple[Field, ...], actions: tuple[Action, ...]) -> Flow:
    """Make a flow; no actions means drop."""
    return Flow(cookie, FlowKey(table, priority, in_printed_order(match)), actions or (DROP,))


def group(group_id: int, buckets: tuple[Bucket, ...]) -> Group:
    """Make a group of type `all`."""
    return Group(GroupKey(group_id), tuple(sorted(buckets, key=lambda bucket: bucket.bucket_id)))


def in_printed_order(match: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields in the order in which the switch prints them."""
    if len(match) <= 1:
        return match
    return tuple(sorted(match, key=lambda field: _PRINTED.get(field.partition("=")[0], len(_PRINTED))))


def match_text(key: FlowKey) -> str:
    """Return table, priority and match as ovs-ofctl reads them."""
    return ",".join((f"table={key.table}", f"priority={key.priority}", *key.match))


# --- fields ------------------------------------------------------------------------------------------------------

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
    return Field(f"{'tun_src' if isinstance(endpoint, IPv4Address) else 'tun_ipv6_src'}={_text(endpoint)}")


def arp_spa(address: IPv4Address) -> Field:
    return Field(f"arp_spa={_text(address)}")


def arp_tpa(address: IPv4Address) -> Field:
    return Field(f"arp_tpa={_text(address)}")


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
    return ICMP6, Field(f"ipv6_src={_text(address)}"), Field(f"icmp_type={kind:d}")


def nd_target(address: IPv6Address) -> Field:
    return Field(f"nd_target={_text(address)}")


def nd_target_within(network: IPv6Network) -> tuple[Field, ...]:
    return _within("nd_target", network)


def nd_sll(mac: Mac) -> Field:
    return Field(f"nd_sll={mac}")


def nd_tll(mac: Mac) -> Field:
    return Field(f"nd_tll={mac}")


def _within(name: str, network: IpNetwork) -> tuple[Field, ...]:
    """Return the field that confines an address to *network*: none, when every address is in it."""
    if not network.prefixlen:
        return ()
    whole = network.prefixlen == network.max_prefixlen
    address = _text(network.network_address)
    return (Field(f"{name}={address}" if whole else f"{name}={address}/{network.prefixlen:d}"),)


@lru_cache(maxsize=1024)  # one address stands in several flows, a tunnel endpoint in very many
def _text(address: IpAddress) -> str:
    """Return an address as the switch prints it, by inet_ntop(3): IPv4 within IPv6 has dots, which Python omits."""
    if isinstance(address, IPv6Address):
        head, tail = divmod(int(address), 1 << 32)
        if head == 0xFFFF or (head == 0 and tail > 0xFFFF):  # noqa: PLR2004 - ::ffff:0:0/96 and ::/96, RFC 4291, 2.5.5
            return f"::{'ffff:' if head else ''}{IPv4Address(tail)}"
    return str(address)


# --- actions -----------------------------------------------------------------------------------------------------

DROP: Final = Action("drop")
IN_PORT: Final = Action("IN_PORT")
POP_VLAN: Final = Action("pop_vlan")
PUSH_VLAN: Final = Action("push_vlan:0x8100")

# The answer to an ARP request, out of the request (RFC 826): all but who answers.
ARP_REPLY: Final = (
    Action("move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]"),
    Action("set_field:2->arp_op"),
    Action("move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]"),
    Action("move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]"),
)


# The answer to a neighbour solicitation, out of the solicitation (RFC 4861, 7.2.4), in two passes: what is the target's
# link-layer address is a field only of what is an advertisement already. Who answers, and how, waits in registers.
ADVERTISE: Final = (
    Action("move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]"),
    Action("move:OXM_OF_PKT_REG0[0..47]->NXM_OF_ETH_SRC[]"),
    Action("move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[]"),
    Action("move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[]"),
    Action("set_field:136->icmpv6_type"),
    Action("move:NXM_NX_REG2[]->ERICOXM_OF_ICMPV6_ND_RESERVED[]"),
    Action("set_field:2->nd_options_type"),
)
ADVERTISE_LINK_LAYER: Final = Action("move:OXM_OF_PKT_REG0[0..47]->NXM_NX_ND_TLL[]")
# To one who has no address yet: to all nodes, in a frame to the asker alone (RFC 6085). It needs no more than to hear
# that the address is taken (RFC 4862, 5.4.4), and its question may have no option that could hold a MAC.
ADVERTISE_TO_ALL_NODES: Final = (
    Action("move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]"),
    Action("move:OXM_OF_PKT_REG0[0..47]->NXM_OF_ETH_SRC[]"),
    Action("set_field:ff02::1->ipv6_dst"),
    Action("move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[]"),
    Action("set_field:136->icmpv6_type"),
)
_SOLICITED, _OVERRIDE, _ROUTER = 0x4000_0000, 0x2000_0000, 0x8000_0000
"""The flags of an advertisement (RFC 4861, 4.4)."""


def output(port: OfPort) -> Action:
    return Action(f"output:{port:d}")


def goto_table(table: int) -> Action:
    return Action(f"goto_table:{table:d}")


def to_group(group_id: int) -> Action:
    return Action(f"group:{group_id:d}")


def set_reg0(number: int) -> Action:
    return Action(f"set_field:{number:#x}->reg0")


def set_vlan_vid(vlan: LocalVlan) -> Action:
    return Action(f"set_field:{VLAN_PRESENT + vlan:d}->vlan_vid")


def set_tun_id(vni: Vni) -> Action:
    return Action(f"set_field:{vni:#x}->tun_id")


def set_tun_dst(endpoint: TunnelEndpoint) -> Action:
    name = "tun_dst" if isinstance(endpoint, IPv4Address) else "tun_ipv6_dst"
    return Action(f"set_field:{_text(endpoint)}->{name}")


def set_eth_src(mac: Mac) -> Action:
    return Action(f"set_field:{mac}->eth_src")


def set_arp_sender(mac: Mac, address: IPv4Address) -> tuple[Action, Action]:
    return Action(f"set_field:{mac}->arp_sha"), Action(f"set_field:{_text(address)}->arp_spa")


def note_who_answers(mac: Mac, *, router: bool) -> tuple[Action, Action]:
    """Put into registers what `ADVERTISE` takes from there: the MAC, and the flags."""
    flags = _SOLICITED | _OVERRIDE | (_ROUTER if router else 0)
    return Action(f"set_field:{int(mac.replace(':', ''), 16):#x}->xreg0"), Action(f"set_field:{flags:#x}->reg2")


def resubmit(table: int) -> Action:
    """Look the packet up again, as it is now; unlike `goto_table`, in any table."""
    return Action(f"resubmit(,{table:d})")


def learn_tunnel_source(table: int, priority: int, cookie: int, hard_timeout: int, ip_version: int) -> Action:
    """Learn, from a frame of local VLAN V that came in by tunnel, where its source is reached.

    Writes into *table*: (V, the frame's source MAC) → untag, the same tunnel key, back to the same tunnel endpoint.
    *hard_timeout* is in seconds. ovs-actions(7), "learn".
    """
    family = f"IPV{ip_version:d}"
    way_back = (
        *("load:0->NXM_OF_VLAN_TCI[]", "load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[]"),
        f"load:NXM_NX_TUN_{family}_SRC[]->NXM_NX_TUN_{family}_DST[]",
    )
    return _learn(table, priority, cookie, hard_timeout, way_back)


def learn_source(table: int, priority: int, cookie: int, hard_timeout: int, *, tagged: bool) -> Action:
    """Learn, from a frame of local VLAN V, behind which port of this bridge its source is.

    Writes into *table*: (V, the frame's source MAC) → that port; without the tag, if it is not to be *tagged*.
    """
    return _learn(table, priority, cookie, hard_timeout, () if tagged else ("load:0->NXM_OF_VLAN_TCI[]",))


def _learn(table: int, priority: int, cookie: int, hard_timeout: int, way_back: tuple[str, ...]) -> Action:
    words = (
        f"table={table:d},hard_timeout={hard_timeout:d},priority={priority:d},cookie={cookie:#x}",
        "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]",
        *way_back,
        "output:OXM_OF_IN_PORT[]",
    )
    return Action(f"learn({','.join(words)})")
