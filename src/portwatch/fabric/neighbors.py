"""The flows that answer, here, who asks for the MAC of an address elsewhere: ARP and IPv6 neighbour discovery.

What they do not answer is flooded, as without them: docs/contract.md, section 6. Which addresses they answer for is
`l2pop.neighbor_entry`'s to say.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from portwatch.fabric.l2pop import NeighborEntry
from portwatch.fabric.tables import (
    ENTRY,
    EXCEPTION,
    EXEMPTION,
    MISS,
    TUN_ADVERTISE,
    TUN_FLOOD,
    TUN_NEIGHBORS,
    programmed,
)
from portwatch.openflow import actions, fields
from portwatch.openflow.flow import Flow, FlowKey, ItemKey

_FLOODED = (actions.resubmit(TUN_FLOOD),)
"""From TUN_ADVERTISE: `goto_table` leads to higher numbers only."""


def responder(entry: NeighborEntry) -> Iterator[Flow]:
    """Answer for one address."""
    if isinstance(entry.address, IPv4Address):
        return _arp_responder(entry, entry.address)
    return _nd_responder(entry, entry.address)


def _arp_responder(entry: NeighborEntry, address: IPv4Address) -> Iterator[Flow]:
    """Answer requests (RFC 826), but for the gratuitous ones, which are announcements."""
    asked = (fields.ARP, fields.ARP_REQUEST, fields.dl_vlan(entry.vlan), fields.arp_tpa(address))
    answer = (
        *actions.ARP_REPLY,
        actions.set_eth_src(entry.mac),
        *actions.set_arp_sender(entry.mac, address),
        actions.IN_PORT,
    )
    yield programmed(TUN_NEIGHBORS, ENTRY, asked, answer)
    yield programmed(TUN_NEIGHBORS, EXCEPTION, (*asked, fields.arp_spa(address)), (actions.goto_table(TUN_FLOOD),))


def _nd_responder(entry: NeighborEntry, address: IPv6Address) -> Iterator[Flow]:
    """Answer solicitations (RFC 4861): say who answers, and let `advertisement` do the rest, the same for all."""
    asked = (fields.ICMP6, fields.NEIGHBOR_SOLICITATION, fields.dl_vlan(entry.vlan), fields.nd_target(address))
    answer = (*actions.note_who_answers(entry.mac, router=entry.router), actions.goto_table(TUN_ADVERTISE))
    yield programmed(TUN_NEIGHBORS, ENTRY, asked, answer)


def unanswered() -> Flow:
    """What nothing makes an advertisement of is flooded: wanted always, for entries may outlive `advertisement`."""
    return programmed(TUN_ADVERTISE, MISS, (), _FLOODED)


def advertisement() -> Iterator[Flow]:
    """Make an advertisement of a solicitation."""
    asked, told = (fields.ICMP6, fields.NEIGHBOR_SOLICITATION), (fields.ICMP6, fields.NEIGHBOR_ADVERTISEMENT)
    sound = (*asked, fields.TO_A_SOLICITED_NODE, fields.SENT_BY_A_NEIGHBOR)
    yield programmed(TUN_ADVERTISE, ENTRY, sound, (*actions.ADVERTISE, actions.resubmit(TUN_ADVERTISE)))
    yield programmed(TUN_ADVERTISE, ENTRY, told, (actions.ADVERTISE_LINK_LAYER, actions.IN_PORT))
    # Without the asker's MAC in it there is no room for ours, and Open vSwitch would write behind the packet's end.
    yield programmed(TUN_ADVERTISE, EXCEPTION, (*asked, fields.NO_SOURCE_LINK_LAYER), _FLOODED)
    to_all = (*actions.ADVERTISE_TO_ALL_NODES, actions.IN_PORT)
    yield programmed(TUN_ADVERTISE, EXEMPTION, (*sound, fields.FROM_NOBODY), to_all)


def is_optional(key: ItemKey) -> bool:
    """May the datapath be unable to do this? Then it shares no bundle with what must not be lost."""
    return isinstance(key, FlowKey) and key.table == TUN_ADVERTISE and key.priority > MISS
