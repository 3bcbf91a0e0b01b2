"""Whose claims lead nowhere from here, and why, in words for people."""

from typing import Final

from portwatch.fabric.fabric import Fabric
from portwatch.model import Claim, HostName, Segment

OWN_ADDRESS: Final = "has this host's own tunnel address"
ANOTHERS_ADDRESS: Final = "has the tunnel address of"
"""Said of hosts that are not reached for these reasons."""


def unreached(fabric: Fabric, claim: Claim) -> str | None:
    """Return why nothing is tunnelled to a claim's host; None when it is, or need not be."""
    if not fabric.residences.may_tunnel(claim) and claim.tunnel_ip is not None:
        holder = fabric.residences.holders[claim.tunnel_ip]
        return f"{claim.host} {ANOTHERS_ADDRESS} {holder}, {claim.tunnel_ip}: its claims are ignored"
    if not claim.port.network_type.tunnelled or fabric.reached_at(claim) is not None:
        return None
    if fabric.endpoint is None:
        return "this host has no tunnel address (tunnel.local_ip)"
    if claim.tunnel_ip is None:
        return f"{claim.host} has no tunnel address"
    if claim.tunnel_ip == fabric.endpoint:
        return f"{claim.host} {OWN_ADDRESS}"
    there, here = claim.tunnel_ip.version, fabric.endpoint.version
    return f"{claim.host} tunnels over IPv{there} and this host over IPv{here}: the two cannot be mixed"


def disagreements(fabric: Fabric) -> dict[Segment, set[HostName]]:
    """Return what others call a network of ours by another type or VNI, and who they are. Never mixed in."""
    found: dict[Segment, set[HostName]] = {}
    for segment in fabric.apart:
        ours = fabric.segments_of(segment.network_id)
        if ours and segment not in ours:
            claims = (claim for claim in fabric.heard.of_network(segment.network_id) if claim.port.segment == segment)
            found[segment] = {claim.host for claim in claims if fabric.counts(claim)}
    return found
