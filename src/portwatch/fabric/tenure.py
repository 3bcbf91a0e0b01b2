"""One name, one agent: who owns this host's name on the bus (docs/contract.md, section 4). A state machine, no I/O.

And since when this host has its tunnel address: the process before us may have told the bus.

A starting agent announces itself before it says anything else. Whoever lives under that name answers, and the one that
was announced later steps down. What is retained from before the announcement is no answer: its author may be long dead.
Who was first, the order of the topic says, which both hear alike; no clock does.
"""

from dataclasses import dataclass, field
from datetime import datetime
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
    """One process's claim to its host's name. It publishes *session*, *started_at*, *endpoint*."""

    session: str
    started_at: datetime
    endpoint: TunnelEndpoint | None = None
    tunnel_since: datetime = field(init=False)
    announced: bool = False
    """Our announcement has come back: what comes now was said after it."""
    owner: bool = False
    _before: set[str] = field(default_factory=set)
    """Sessions that were alive by what was said before our announcement: wait for their answer."""
    _late: str | None = None
    """One of them that has spoken although the name was ours by then: said again by somebody else, or a late answer."""

    @property
    def predecessor(self) -> bool:
        """Is an answer to be waited for?"""
        return bool(self._before)

    def __post_init__(self) -> None:
        self.tunnel_since = self.started_at

    def announce(self) -> None:
        """A connection begins: we announce ourselves (again)."""
        self.announced = self.owner = False
        self._before.clear()
        self._late = None

    def settle(self) -> None:
        """Nobody has answered in time: the name is ours."""
        self.owner = True

    def hear(self, status: HostStatus) -> Reply:
        """Somebody has published a status under our name, perhaps we."""
        alive, theirs = status.lives, status.session
        if theirs == self.session:
            # Of our own session only the broker says `offline`: the will of a connection that we have given up.
            self.announced |= alive
            return Reply.ANSWER if self.owner and not alive and status.state == OFFLINE else Reply.NOTHING
        if not self.announced and status.state != OFFLINE and status.tunnel_ip == self.endpoint:
            self.tunnel_since = min(self.tunnel_since, status.tunnel_since or self.tunnel_since)
        if not alive:
            # A last will, or a farewell: its author is gone, and ours must be the word that stays.
            self._before.discard(theirs)
            return Reply.ANSWER if self.announced else Reply.NOTHING
        if not self.announced:
            self._before.add(theirs)
            return Reply.NOTHING
        if theirs in self._before and (not self.owner or self._late == theirs):
            return Reply.STEP_DOWN
        # Whoever lives hears this, and answers again if he was first.
        self._late = theirs
        return Reply.ANSWER
