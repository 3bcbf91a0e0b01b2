"""One name, one agent: who owns this host's name on the bus (docs/contract.md, section 4). A state machine, no I/O.

And since when this host has its tunnel address: the process before us may have told the bus.

A starting agent announces itself before it says anything else. Whoever lives under that name answers, and the one that
started later steps down. What is retained from before the announcement is no answer: its author may be long dead.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from portwatch.events import OFFLINE, HostStatus
from portwatch.model import TunnelEndpoint


class Reply(Enum):
    """What is to be done about a status under our own name."""

    NOTHING = "nothing"
    ANSWER = "publish our own status again"
    STEP_DOWN = "another agent owns the name: end, and change nothing"


@dataclass(slots=True)
class Tenure:
    """One process's claim to its host's name. *session* and *started_at* are what it publishes of itself."""

    session: str
    started_at: datetime
    endpoint: TunnelEndpoint | None = None
    tunnel_since: datetime = field(init=False)
    announced: bool = False
    """Our announcement has come back: what comes now was said after it."""
    owner: bool = False
    predecessor: bool = False
    """What was retained before our announcement says that somebody is alive: wait for his answer."""

    def __post_init__(self) -> None:
        self.tunnel_since = self.started_at

    def announce(self) -> None:
        """A connection begins: we announce ourselves (again)."""
        self.announced = self.owner = self.predecessor = False

    def settle(self) -> None:
        """Nobody has answered in time: the name is ours."""
        self.owner = True

    def hear(self, status: HostStatus) -> Reply:
        """Somebody has published a status under our name, perhaps we."""
        alive = status.lives
        if status.session == self.session:
            # Of our own session only the broker says `offline`: the will of a connection that we have given up.
            self.announced |= alive
            return Reply.ANSWER if self.owner and not alive and status.state == OFFLINE else Reply.NOTHING
        if not self.announced:
            self.predecessor = alive
            if status.state != OFFLINE and status.tunnel_ip == self.endpoint and status.tunnel_since is not None:
                self.tunnel_since = min(self.tunnel_since, status.tunnel_since)
            return Reply.NOTHING
        if not alive:
            # A last will, or a farewell: its author is gone, and ours must be the word that stays.
            self.predecessor = False
            return Reply.ANSWER
        theirs = (status.started_at or datetime.min.replace(tzinfo=UTC), status.session)
        return Reply.STEP_DOWN if theirs < (self.started_at, self.session) else Reply.ANSWER
