"""Flood groups: which peers share one, and the ids of groups and buckets, which follow from the members alone."""

from ipaddress import IPv6Address
from typing import Final
from zlib import crc32

from portwatch.fabric.tables import GROUPS
from portwatch.model import LocalVlan, TunnelEndpoint

GROUP_PEERS: Final = 400
"""Peers in the one group of a segment. What a packet sets off must fit into 64 KiB of datapath actions, or the switch
stops at that: after 780 copies (VXLAN over IPv4 on the userspace datapath, Open vSwitch 3.1), and says nothing."""
GROUP_PARTS: Final = 15
"""Groups to which the one group of a larger segment relays. All from the start, so that nobody changes his place when
others come. Four bits of a group id; with 0 it is the one group itself."""
AFRESH: Final = GROUPS.start
"""The group that lets a packet begin anew, with 64 KiB of its own: a group that selects by a hash of the datapath's
sends the packet back to get it (recirculation)."""
_BUCKET_MAX: Final = 0xFFFF_FF00
"""OpenFlow 1.5's OFPG_BUCKET_MAX: bucket ids are below it."""


def group_id(vlan: LocalVlan, part: int = 0) -> int:
    """Return the id of a flood group of the segment with this VLAN: the low twelve bits are the VLAN."""
    return GROUPS.start + (part << 12) + vlan


def flood_parts(endpoints: tuple[TunnelEndpoint, ...]) -> dict[int, tuple[TunnelEndpoint, ...]]:
    """Share a segment's peers out among its groups, so that each stays where it is when others come and go.

    Small groups serve the read-back, too: the reply to a dump is one OpenFlow message of 64 KiB for each group, and
    ovs-vswitchd (3.1 to 3.7) ends itself when a group does not fit (1,364 peers with IPv6 addresses do).
    """
    if len(endpoints) <= GROUP_PEERS:
        return {0: endpoints} if endpoints else {}
    parts: dict[int, list[TunnelEndpoint]] = {}
    for endpoint in endpoints:
        parts.setdefault(1 + crc32(endpoint.packed) % GROUP_PARTS, []).append(endpoint)
    return {part: tuple(parts[part]) for part in sorted(parts)}


def bucket_ids(endpoints: tuple[TunnelEndpoint, ...]) -> dict[int, TunnelEndpoint]:
    """Return a bucket id for each endpoint: the address itself for IPv4, so that a peer has the same one for ever.

    IPv6 addresses do not fit and are hashed; should two meet, the higher one moves on. OpenFlow 1.5.1, 7.2.2.3.
    """
    ids: dict[int, TunnelEndpoint] = {}
    for endpoint in sorted(endpoints, key=int):
        number = crc32(endpoint.packed) if isinstance(endpoint, IPv6Address) else int(endpoint)
        while (number := number % _BUCKET_MAX) in ids:
            number += 1
        ids[number] = endpoint
    return ids
