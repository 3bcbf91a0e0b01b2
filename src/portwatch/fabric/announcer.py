"""What this host says of its own ports: claims with sequence, revision and status, and the events between them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

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
from portwatch.model import Claim, HostName, NetworkId, Port, PortId, Status, TunnelEndpoint


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
        self._revisions: dict[PortId, int] = {}
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
        claim = Claim(
            host=self.identity.host,
            port=port,
            tunnel_ip=self.identity.endpoint,
            status=status,
            session=self.identity.session,
            seq=seq,
            revision=self._revisions.get(port.port_id, 0) + 1,
            reason=reason,
        )
        before = self.claims.get(port.port_id)
        events = changes(before, claim)
        if not events:
            return ()
        self.claims[port.port_id] = claim
        self.ended.update(event.key for event in events if isinstance(event, PortRemoved))
        self.ended.discard(key_of(claim))
        self._revisions[port.port_id] = claim.revision
        if before is None and known_before:
            events = (PortUpdated(claim),)
        return self._stamped(events, now)

    def end(self, port_id: PortId, now: datetime) -> tuple[PortEvent, ...]:
        """The port is gone from here. Its revisions go on, should it come back: the topic is the same."""
        before = self.claims.pop(port_id, None)
        if before is None:
            return ()
        self._revisions[port_id] += 1
        self.ended.add(key_of(before))
        return self._stamped(changes(replace(before, revision=self._revisions[port_id]), None), now)

    def again(self, now: datetime) -> tuple[PortEvent, ...]:
        """Say everything once more, as it stands: on a new connection."""
        return self._stamped((PortUpdated(claim) for claim in self.claims.values()), now)

    def disown(self, claim: Claim, now: datetime) -> tuple[PortEvent, ...]:
        """End a claim that an earlier process of this host left on the bus."""
        self.ended.add(key_of(claim))
        ended = replace(claim, session=self.identity.session, revision=self._revisions.get(claim.port.port_id, 0) + 1)
        return self._stamped((PortRemoved(ended),), now)

    def share(self, network_id: NetworkId) -> tuple[Claim, ...]:
        """Return our claims in a network."""
        return tuple(claim for claim in self.claims.values() if claim.port.network_id == network_id)

    def manifest(self, network_id: NetworkId) -> Manifest:
        """Return the manifest of our share of a network."""
        return manifest_of(network_id, self.identity.host, self.identity.session, self.share(network_id))

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
