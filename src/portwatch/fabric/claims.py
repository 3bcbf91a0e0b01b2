"""Claims and winners: docs/mobility.md as code.

The winner of (network, MAC) is a pure function of the claims that are present: the same on every host, with no clock
and no memory that outlives the claims.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from portwatch.model import Claim, HostName, Kind, Mac, State, TunnelEndpoint


class Rule(StrEnum):
    """What decided: the names that `portwatch explain` shows."""

    NONE = "no claim that forwards"
    LOCAL = "attached here"
    SHARED = "shared: flood and learn"
    FROZEN = "moved too often: flood and learn"
    ONLY = "only claim"
    STATE = "state"
    SEQ = "higher seq"
    ENDPOINT = "lower tunnel address"
    HOST = "lower host name"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who gets the frames for a MAC, and why. `winner` is None when they are flooded."""

    winner: Claim | None
    rule: Rule
    contested: bool = False
    """A local active port stays although another host's claim would win: mobility.md, rule 0."""
    here: tuple[Claim, ...] = ()
    """Our own claims, when none of them is the winner: among those that are flooded to, or second to another host's."""


_STATES = {State.ACTIVE: 0, State.LEAVING: 1, State.PREPARING: 2}


def _endpoint_order(endpoint: TunnelEndpoint | None) -> tuple[int, int]:
    return (9, 0) if endpoint is None else (endpoint.version, int(endpoint))


def rank(claim: Claim) -> tuple[int, int, tuple[int, int], HostName, str]:
    """Return the sort key by which the lowest wins: rules 3, 4 and 5, and last the port id for one host's two ports."""
    return (
        _STATES[claim.port.state],
        -claim.seq,
        _endpoint_order(claim.tunnel_ip),
        claim.host,
        claim.port.port_id,
    )


def winner(claims: Collection[Claim], here: HostName | None, *, frozen: bool = False) -> Verdict:
    """Return who gets the frames, over all claims of one (network, MAC), as host *here* sees it; None: any other."""
    present = [claim for claim in claims if claim.forwards]
    if not present:
        return Verdict(None, Rule.NONE)
    if len(present) > 1:
        present.sort(key=rank)
    elif present[0].host != here and present[0].port.kind is not Kind.SHARED:
        return Verdict(present[0], Rule.ONLY)  # as below, but sooner: nearly all stations are like this
    ours = tuple([claim for claim in present if claim.host == here])
    local = next((claim for claim in ours if claim.port.state is State.ACTIVE or claim.port.distributed), None)
    shared = any(claim.port.kind is Kind.SHARED for claim in present)
    fought_over = frozen and len(present) > 1
    contested = local is not None and local is not present[0] and not shared
    if local is not None and (local.port.distributed or not (local.port.kind is Kind.SHARED or fought_over)):
        return Verdict(local, Rule.LOCAL, contested)
    if shared:
        return Verdict(None, Rule.SHARED, here=ours)
    if fought_over:
        return Verdict(None, Rule.FROZEN, contested, ours)
    return Verdict(present[0], _why(present), here=() if present[0] in ours else ours)


def answering(claims: Iterable[Claim], winners: dict[Mac, Claim]) -> Claim | None:
    """Return the claim that answers for an address, over all that list it: one that wins its MAC, higher seq first."""
    candidates = [claim for claim in claims if claim.port.mac is not None and winners.get(claim.port.mac) == claim]
    return min(candidates, key=lambda claim: rank(claim)[1:], default=None)


def _why(ranked: list[Claim]) -> Rule:
    if len(ranked) == 1:
        return Rule.ONLY
    first, second = rank(ranked[0]), rank(ranked[1])
    for rule, mine, other in zip((Rule.STATE, Rule.SEQ, Rule.ENDPOINT), first, second, strict=False):
        if mine != other:
            return rule
    return Rule.HOST
