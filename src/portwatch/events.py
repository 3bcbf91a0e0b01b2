"""What happens to ports: PortAdded, PortUpdated, PortRemoved. Each carries the whole claim.

News is a hint: whoever missed one is right again after the next. `changes` is the only place where events are born.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from portwatch.model import Claim, HostName, NetworkId, PortId, TunnelEndpoint

ClaimKey = tuple[NetworkId | None, HostName, PortId]


@dataclass(frozen=True, slots=True)
class PortEvent:
    """One change of one claim. `number` counts the events of a session; `time` is the publisher's clock, UTC."""

    type: ClassVar[str] = ""
    claim: Claim
    number: int = 0
    time: datetime | None = None

    @property
    def key(self) -> ClaimKey:
        """Whose state this is: one retained topic."""
        return key_of(self.claim)


@dataclass(frozen=True, slots=True)
class PortAdded(PortEvent):
    """The port was attached to the claim's host, or came into this network."""

    type: ClassVar[str] = "portwatch.port.added"


@dataclass(frozen=True, slots=True)
class PortUpdated(PortEvent):
    """The port is there as before and something about it changed, or its host says it again."""

    type: ClassVar[str] = "portwatch.port.updated"


@dataclass(frozen=True, slots=True)
class PortRemoved(PortEvent):
    """The claim has ended: the port left the host, or left this network."""

    type: ClassVar[str] = "portwatch.port.removed"


EVENT_TYPES: dict[str, type[PortEvent]] = {event.type: event for event in (PortAdded, PortUpdated, PortRemoved)}


@dataclass(frozen=True, slots=True)
class ClaimGone:
    """The retained message of a claim was cleared: it has ended, whatever else is said."""

    key: ClaimKey


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which claims make up `host`'s share of `network_id`: their number and the digest over them."""

    network_id: NetworkId
    host: HostName
    session: str
    count: int
    digest: str


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What a host says of itself, or its last will says in its place."""

    host: HostName
    session: str
    state: str
    tunnel_ip: TunnelEndpoint | None = None
    tunnel_type: str | None = None
    version: str = ""
    started_at: datetime | None = None
    tunnel_since: datetime | None = None
    """Since when this host has had this tunnel address without a last will, through restarts of its agent."""

    @property
    def lives(self) -> bool:
        """Is its agent at work, as far as it has said?"""
        return self.state in (ONLINE, LEAVING)


ONLINE, STOPPED, LEAVING, OFFLINE = "online", "stopped", "leaving", "offline"
HOST_STATES = (ONLINE, STOPPED, LEAVING, OFFLINE)


def key_of(claim: Claim) -> ClaimKey:
    """Return the key under which *claim* is held: its topic, in values."""
    return (claim.port.network_id, claim.host, claim.port.port_id)


def changes(before: Claim | None, after: Claim | None) -> tuple[PortEvent, ...]:
    """Return the events that lead from one claim of a port to the next; none when nothing changed.

    Session and revision are the publisher's, not the port's: they make no event by themselves. A port that changes
    its network ends in the old one and begins in the new one, for other hosts listen to each.
    """
    if before is None:
        return () if after is None else (PortAdded(after),)
    if after is None:
        return (PortRemoved(before),)
    if before.port.network_id != after.port.network_id:
        return (PortRemoved(before), PortAdded(after))
    same = replace(before, session=after.session, revision=after.revision)
    return () if same == after else (PortUpdated(after),)


def rewires(held: Claim | None, event: PortEvent) -> bool:
    """Can this event change a flow elsewhere, when *held* is what was known of the claim?

    That a port has become active changes none: its flows are there since it was built.
    """
    if held is None or isinstance(event, PortRemoved):
        return (held is None) != isinstance(event, PortRemoved)
    claim = event.claim
    told = replace(held, status=claim.status, session=claim.session, revision=claim.revision, reason=claim.reason)
    return told != claim or held.forwards != claim.forwards


def manifest_of(network_id: NetworkId, host: HostName, session: str, claims: Iterable[Claim]) -> Manifest:
    """Return the manifest over *claims*, one host's share of a network."""
    lines = sorted(f"{claim.port.port_id} {claim.session} {claim.revision}" for claim in claims)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Manifest(network_id, host, session, len(lines), digest)
