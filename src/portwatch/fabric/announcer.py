"""What this host says of its own ports: claims with sequence, revision and status, and the events between them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from portwatch.events import (
    ClaimKey,
    Manifest,
    PortEvent,
    PortRemoved,
    PortUpdated,
    changes,
    key_of,
    manifest_of,
)
from portwatch.model import SEQ_MAX, Claim, HostName, NetworkId, Port, PortId, Status, TunnelEndpoint

INSIST_EVERY: Final = 1.0
"""Seconds between two repetitions of a claim that others clear or overwrite: no two ever shout each other down."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: *session* is random for each start of the process."""

    host: HostName
    session: str
    endpoint: TunnelEndpoint | None


class Announcer:
    """The claims that this host holds up. Every change of one is one event, with the next revision."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.claims: dict[PortId, Claim] = {}
        self.ended: set[ClaimKey] = set()
        """Claims that we ended on this connection to the bus: what still comes of them is an echo."""
        self._echoes: dict[PortId, int] = {}
        """The revision of each claim that has come back to us from the bus."""
        self._insisted: dict[PortId, float] = {}
        """When a claim was last said again because of others."""
        self._to_insist: dict[PortId, int] = {}
        """The claims that are to be said again for that, after which revision."""
        self._revision = 0
        """The highest used for a port that has gone: should it come back, its topic and readers are the same."""
        self._shares: dict[NetworkId, set[PortId]] = {}
        self._number = 0

    def say(
        self,
        port: Port,
        seq: int,
        status: Status,
        reason: str | None,
        now: datetime,
        *,
        known_before: bool = False,
    ) -> tuple[PortEvent, ...]:
        """The port is this now. *known_before*: others may hold a claim of it from before our restart."""
        before = self.claims.get(port.port_id)
        claim = Claim(
            host=self.identity.host,
            port=port,
            tunnel_ip=self.identity.endpoint,
            status=status,
            session=self.identity.session,
            seq=seq,
            revision=_after(before.revision if before else self._revision),
            reason=reason,
        )
        events = changes(before, claim)
        if not events:
            return ()
        self.claims[port.port_id] = claim
        self.ended.update(event.key for event in events if isinstance(event, PortRemoved))
        self.ended.discard(key_of(claim))
        self._share_out(before, claim)
        if before is None and known_before:
            events = (PortUpdated(claim),)
        return self._stamped(events, now)

    def end(self, port_id: PortId, now: datetime) -> tuple[PortEvent, ...]:
        """The port is gone from here. Its revisions go on, should it come back: the topic is the same."""
        before = self.claims.pop(port_id, None)
        if before is None:
            return ()
        last = replace(before, revision=_after(before.revision))
        self._revision = max(self._revision, last.revision)
        self._share_out(before, None)
        for table in (self._echoes, self._insisted, self._to_insist):
            table.pop(port_id, None)
        self.ended.add(key_of(before))
        return self._stamped(changes(last, None), now)

    def again(self, now: datetime) -> tuple[PortEvent, ...]:
        """Say everything once more, as it stands: on a new connection."""
        return self._stamped((PortUpdated(claim) for claim in self.claims.values()), now)

    def connecting(self) -> None:
        """A connection to the bus begins: what is retained there comes, and none of it is an echo."""
        self.ended.clear()
        self._echoes.clear()

    def heard(self, claim: Claim) -> None:
        """A claim of ours has come back to us."""
        mine = self.claims.get(claim.port.port_id)
        if mine is not None and _as_heard(mine) == claim:
            self._echoes[claim.port.port_id] = claim.revision

    def contradicted(self, event: PortEvent) -> bool:
        """Has somebody else spoken on the topic of a claim that we hold up: a replay of the past, or a forgery?

        A topic keeps its order: what comes after our present claim, and is not that, we have not said. Nor do others
        count in our session.
        """
        claim, mine = event.claim, self.claims.get(event.claim.port.port_id)
        if mine is None or key_of(mine) != event.key:
            return False
        if claim.session == mine.session and claim.revision > mine.revision:
            return True
        echoed = self._echoes.get(mine.port.port_id) == mine.revision
        return echoed and (isinstance(event, PortRemoved) or _as_heard(mine) != claim)

    def cleared(self, key: ClaimKey) -> bool:
        """A claim of ours was cleared on the bus. Did somebody else do that, to the claim that we hold up now?

        A topic keeps its order: what is cleared after we have heard our present claim was not cleared by us.
        """
        self.ended.discard(key)
        claim = self.claims.get(key[2])
        if claim is None or key_of(claim) != key:
            return False
        return self._echoes.pop(key[2], None) == claim.revision

    def insist(self, port_id: PortId, now: datetime, clock: float, after: int = 0) -> tuple[PortEvent, ...]:
        """Say a claim again that somebody else has cleared or overwritten, with a revision *after* that of his.

        Not at once when that was said just now: `settle` makes up for it. *clock*: seconds that only go forward.
        """
        if clock - self._insisted.get(port_id, -INSIST_EVERY) < INSIST_EVERY:
            self._to_insist[port_id] = max(after, self._to_insist.get(port_id, 0))
            return ()
        self._insisted[port_id] = clock
        claim = self.claims[port_id]
        claim = self.claims[port_id] = replace(claim, revision=_after(max(claim.revision, after)))
        return self._stamped((PortUpdated(claim),), now)

    @property
    def waits(self) -> bool:
        """Is there a claim to be said again as soon as it may be?"""
        return bool(self._to_insist)

    def settle(self, now: datetime, clock: float) -> tuple[PortEvent, ...]:
        """Time has passed: say again what was to wait, if it may be said by now."""
        waiting, self._to_insist = self._to_insist, {}
        return tuple(event for port_id, after in waiting.items() for event in self.insist(port_id, now, clock, after))

    def disown(self, claim: Claim, now: datetime) -> tuple[PortEvent, ...]:
        """End a claim that an earlier process of this host left on the bus."""
        self.ended.add(key_of(claim))
        ended = replace(claim, session=self.identity.session, revision=_after(self._revision))
        return self._stamped((PortRemoved(ended),), now)

    def share(self, network_id: NetworkId) -> tuple[Claim, ...]:
        """Return our claims in a network."""
        return tuple(self.claims[port_id] for port_id in self._shares.get(network_id, ()))

    def manifest(self, network_id: NetworkId) -> Manifest:
        """Return the manifest of our share of a network."""
        return manifest_of(network_id, self.identity.host, self.identity.session, self.share(network_id))

    def _share_out(self, before: Claim | None, after: Claim | None) -> None:
        """Keep the ports of each network."""
        old, new = (claim.port.network_id if claim else None for claim in (before, after))
        if before and old is not None and old != new:
            self._shares[old].discard(before.port.port_id)
            if not self._shares[old]:
                del self._shares[old]
        if after and new is not None:
            self._shares.setdefault(new, set()).add(after.port.port_id)

    @property
    def last_number(self) -> int:
        """The number of the last event of this session."""
        return self._number

    def _stamped(self, events: Iterable[PortEvent], now: datetime) -> tuple[PortEvent, ...]:
        stamped = []
        for event in events:
            self._number += 1
            stamped.append(type(event)(event.claim, self._number, now))
        return tuple(stamped)


def _after(revision: int) -> int:
    """Return the next revision. Who is driven to the end by a forgery stays there: equal revisions are not refused."""
    return min(SEQ_MAX, revision + 1)


def _as_heard(claim: Claim) -> Claim:
    """Return a claim of ours as it comes back: what makes its status travels as that."""
    port, admin_up = claim.port, claim.status is not Status.DOWN
    if port.fault is None and not port.from_directory and port.admin_up == admin_up:
        return claim  # which is what nearly all are like, and a copy takes 10 µs
    return replace(claim, port=replace(port, fault=None, from_directory=False, admin_up=admin_up))
