"""Before it says anything else, an agent finds out whether its name and its tunnel address are its own.

`fabric.tenure` decides by what is heard under our name; here that is waited for. Afterwards whoever speaks under our
name is answered. docs/contract.md, section 4; docs/mobility.md, the same name or address twice.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from portwatch.errors import AddressTaken, IdentityTaken
from portwatch.events import HostStatus
from portwatch.fabric.announcer import Identity
from portwatch.fabric.tenure import Reply, Tenure
from portwatch.logs import Seldom
from portwatch.model import HostName

ANSWER_SECONDS: Final = 2.0
"""How long a starting agent waits for the answer of one that lives under its name (docs/contract.md, section 4)."""

log = structlog.get_logger()


class Introduction:
    """One process's, over all its connections. It calls *answer* when our own status is to be said again."""

    def __init__(self, identity: Identity, started_at: datetime, answer: Callable[[], None]) -> None:
        self.done = False
        """Has a connection come so far that the name and the tunnel address are ours?"""
        self._identity = identity
        self._answer = answer
        self._tenure = Tenure(identity.session, started_at, identity.endpoint)
        self._heard = asyncio.Event()
        self._at_our_address: dict[HostName, HostStatus] = {}
        self._stepping_down = False
        self._seldom = Seldom()

    @property
    def tunnel_since(self) -> datetime:
        """Since when this host has its tunnel address: a process before us may have told the bus."""
        return self._tenure.tunnel_since

    def begin(self) -> None:
        """A connection begins: we announce ourselves (again)."""
        self._tenure.announce()
        self._heard.clear()
        self._at_our_address.clear()

    def hear_ourselves(self, status: HostStatus) -> None:
        """A status under our own name: an echo, or another agent. IdentityTaken if the name is his, and was ours."""
        reply = self._tenure.hear(status)
        if reply is Reply.STEP_DOWN:
            self._stepping_down = True
            if self._tenure.owner:
                raise self._taken()
        elif reply is Reply.ANSWER:
            if (more := self._seldom.unsaid("tenure")) is not None:
                log.warning(
                    "another agent spoke under this host's name",
                    host=self._identity.host,
                    session=status.session,
                    more=more,
                    do="give one of the two another name (key host); it has been told, and should have stopped",
                )
            self._answer()
        self._heard.set()

    def hear_of_stranger(self, status: HostStatus) -> None:
        """Another host, before we are introduced: does it live at our tunnel address?"""
        if status.lives and status.tunnel_ip is not None and status.tunnel_ip == self._identity.endpoint:
            self._at_our_address[status.host] = status
        else:
            self._at_our_address.pop(status.host, None)

    async def complete(self) -> bool:
        """Wait for our announcement to come back, and, if somebody seems to live under our name, for his answer.

        True when this is the first time. IdentityTaken, AddressTaken: another had the name, or the address, first.
        """
        await self._answered_within(ANSWER_SECONDS, lambda: self._tenure.announced)
        if self._tenure.predecessor:
            log.info("another agent of this name was online; waiting for its answer", host=self._identity.host)
            await self._answered_within(ANSWER_SECONDS, lambda: not self._tenure.predecessor)
        self._tenure.settle()
        if self.done:
            return False
        self._yield_to_holder()
        self.done = True
        self._at_our_address.clear()
        return True

    async def _answered_within(self, seconds: float, answered: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not answered() and not self._stepping_down:
                    self._heard.clear()
                    await self._heard.wait()
        if self._stepping_down:
            raise self._taken()

    def _yield_to_holder(self) -> None:
        ours = (self._tenure.tunnel_since, self._identity.host)
        for status in self._at_our_address.values():
            since = status.tunnel_since or status.started_at
            if since is not None and (since, status.host) < ours:
                raise AddressTaken(
                    f"the tunnel address {status.tunnel_ip} (key `tunnel.local_ip`) is that of {status.host!r},"
                    f" which lives; give this host its own, or, if that one is no more: portwatch forget {status.host}"
                )

    def _taken(self) -> IdentityTaken:
        return IdentityTaken(
            f"another agent that lives and was there before this one owns the name {self._identity.host!r} on the bus;"
            " give this host another one (key `host`), or stop the other agent"
        )
