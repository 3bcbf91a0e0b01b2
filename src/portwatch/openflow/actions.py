"""Actions and instructions: each made by a constructor from typed values, spelt as the switch prints it.

As in a dump (OpenFlow 1.5, `--no-names`; ovs-actions(7)); see `fields`.
"""

from ipaddress import IPv4Address
from typing import Final, NewType

from portwatch.model import LocalVlan, Mac, OfPort, TunnelEndpoint, Vni
from portwatch.openflow.fields import address_text

Action = NewType("Action", str)
"""One action or instruction, as `output:5`."""

VLAN_PRESENT: Final = 0x1000
"""OpenFlow's OFPVID_PRESENT: set in `vlan_vid` for a tagged packet."""

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
    return Action(f"set_field:{address_text(endpoint)}->{name}")


def set_eth_src(mac: Mac) -> Action:
    return Action(f"set_field:{mac}->eth_src")


def set_arp_sender(mac: Mac, address: IPv4Address) -> tuple[Action, Action]:
    return Action(f"set_field:{mac}->arp_sha"), Action(f"set_field:{address_text(address)}->arp_spa")


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
