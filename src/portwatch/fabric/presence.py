"""Which hosts live, since when, and where they are: what host topics say of them.

Times are seconds of a clock that only goes forward.
"""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from math import inf

from portwatch.events import OFFLINE, HostStatus
from portwatch.fabric.residences import Residence
from portwatch.model import HostName, TunnelEndpoint


class Presence:
    """What each host last said of itself, or its last will for it."""

    def __init__(self) -> None:
        self.hosts: dict[HostName, HostStatus] = {}
        self.endpoints: dict[HostName, TunnelEndpoint] = {}
        """Where each is, or was last."""
        self.online_since: dict[HostName, float] = {}
        """Of those that live: since when that is known of the session they are in."""
        self._offline_since: dict[HostName, float] = {}

    def connecting(self) -> None:
        """A connection to the bus begins: what was true on another, with another broker perhaps, proves nothing."""
        self.online_since.clear()

    def seen(self, status: HostStatus, clock: float) -> None:
        """A host's own status, or its last will. `stopped` is no absence: it was meant."""
        before = self.hosts.get(status.host)
        self.hosts[status.host] = status
        if status.state == OFFLINE:
            self._offline_since.setdefault(status.host, clock)
        else:
            self._offline_since.pop(status.host, None)
        if not status.lives:
            self.online_since.pop(status.host, None)
        elif before is None or before.session != status.session or status.host not in self.online_since:
            self.online_since[status.host] = clock
        if status.tunnel_ip is not None:
            self.endpoints[status.host] = status.tunnel_ip

    def forgot(self, host: HostName) -> None:
        """A host's status was cleared."""
        self.hosts.pop(host, None)

    def gone(self, since: float = inf) -> AbstractSet[HostName]:
        """Return the hosts that went offline by then."""
        return {host for host, when in self._offline_since.items() if when <= since}


def residence(status: HostStatus) -> Residence | None:
    """Return at which tunnel address a host lives, and since when; None when it does not, or has none."""
    if not status.lives or status.tunnel_ip is None:
        return None
    return status.tunnel_ip, status.tunnel_since or status.started_at or datetime.min.replace(tzinfo=UTC)
