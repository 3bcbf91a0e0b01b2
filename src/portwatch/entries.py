"""Who has which MAC, by which rule, and who else claims it: an entry as plain data, for the views. Reads only."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from portwatch.agent import Agent
from portwatch.fabric.segments import SegmentView
from portwatch.fabric.unreached import disagreements, unreached
from portwatch.model import Claim, Mac, Segment

View = dict[str, Any]


def fdb(agent: Agent, network: str | None = None) -> list[View]:
    """Return where each MAC is delivered, and by which rule."""
    return [
        entry_of(agent, segment, mac, view)
        for segment, view in segments(agent, network)
        for mac in sorted(view.stations)
    ]


def segments(agent: Agent, network: str | None) -> Iterator[tuple[Segment, SegmentView]]:
    """Yield the segments, of one network or of all."""
    for segment, view in sorted(agent.reactor.fabric.segments.items(), key=lambda pair: str(pair[0])):
        if network is None or segment.network_id == network:
            yield segment, view


def entry_of(agent: Agent, segment: Segment, mac: Mac, view: SegmentView) -> View:
    """Return where a MAC is delivered, by which rule, and all who claim it."""
    fabric = agent.reactor.fabric
    verdict = fabric.verdict(segment, mac)
    # Our own as last said: the fabric does not follow how far we are with them.
    own = agent.reactor.announcer.claims
    told = (
        own.get(claim.port.port_id, claim) if claim.host == fabric.host else claim
        for claim in view.stations[mac].values()
    )
    claims = sorted(told, key=lambda claim: claim.host)
    return {
        "network_id": segment.network_id,
        "network_type": segment.network_type,
        "segmentation_id": segment.vni,
        "local_vlan": fabric.vlans.of.get(segment),
        "mac": mac,
        "fixed_ips": sorted({str(address) for claim in claims for address in claim.port.fixed_ips}),
        "host": verdict.winner.host if verdict.winner else None,
        "port_id": verdict.winner.port.port_id if verdict.winner else None,
        "tunnel_ip": str(verdict.winner.tunnel_ip) if verdict.winner and verdict.winner.tunnel_ip else None,
        "rule": verdict.rule,
        "conflict": verdict.contested,
        "reason": not_mixed_in(agent, verdict.winner) if verdict.winner else None,
        "claims": [_claim(claim) for claim in claims],
    }


def not_mixed_in(agent: Agent, claim: Claim) -> str | None:
    """Return why nothing goes from here to a claim of another host; None when it does."""
    fabric, segment = agent.reactor.fabric, claim.port.segment
    if claim.host == fabric.host:
        return None
    if segment in fabric.apart and claim.host in disagreements(fabric).get(segment, ()):
        ours = map(str, fabric.segments_of(segment.network_id))
        return f"{claim.host} has {segment}, this host {' and '.join(sorted(ours))}: the two are not mixed"
    return unreached(fabric, claim)


def _claim(claim: Claim) -> View:
    return {
        "host": claim.host,
        "port_id": claim.port.port_id,
        "state": claim.port.state,
        "status": claim.status,
        "kind": claim.port.kind,
        "seq": claim.seq,
        "since": _since(claim.seq),
        "revision": claim.revision,
        "reason": claim.reason,
        "tunnel_ip": str(claim.tunnel_ip) if claim.tunnel_ip else None,
    }


def _since(seq: int) -> str | None:
    """Return the time that a sequence tells: milliseconds of the attaching host's clock, if nobody pushed it on."""
    try:
        return datetime.fromtimestamp(seq / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None
