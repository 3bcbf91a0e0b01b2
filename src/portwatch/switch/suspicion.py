"""When to read a bridge back: soon after a change that no commit of ours explains, and else now and then. Pure.

The monitor does not say who made a change. So of as many as our commits make it is believed that they are ours, for
as long as it may still be telling of them; one more is drift. Seconds are of any clock that only goes on.
"""

import math
from typing import Final

AUDIT_EVERY: Final = 25.0
"""Seconds between read-backs that nothing has asked for: own flows are back within 30 (docs/contract.md, section 6)."""
SUSPECT_REST: Final = 10
"""Between read-backs that the monitor asks for lie so many times the seconds that the last one took, …"""
SUSPECT_EVERY: Final = 1.0
"""… but at most these: who goes on tampering with a large table must not keep us from all else."""
ECHO: Final = 1.0
"""Seconds after a commit, or after the last change that was ours, in which we may not have heard of all that is: in a
burst there is much to hear, and else to do."""


class Suspicion:
    """One bridge's. It is told of commits, read-backs and changes, and says when the next read-back is due."""

    def __init__(self) -> None:
        self._suspect = False
        self._echoes = 0
        """How many changes the monitor may still tell that are our own doing."""
        self._committing = False
        self._echoed_at = self._read_at = -math.inf
        self._read_took = 0.0

    def commits(self, changes: int, now: float) -> None:
        """A commit begins that makes so many changes."""
        self._forget_echoes(now)
        self._echoes += changes
        self._committing = True

    def refused(self, changes: int) -> None:
        """The commit that began was refused: it makes none of these changes."""
        self._echoes = max(0, self._echoes - changes)

    def committed(self, now: float) -> None:
        """It is over, however it went."""
        self._committing = False
        self._echoed_at = now

    def changed(self, now: float) -> bool:
        """The monitor tells of a change. Return whether it is to be looked at: our own doings do not explain it."""
        self._forget_echoes(now)
        if self._echoes:
            self._echoes -= 1
            self._echoed_at = now
            return False
        self._suspect = True
        return True

    def reads(self, now: float) -> None:
        """A read-back begins: it finds whatever has been told of before."""
        self._suspect = False
        self._read_at = now

    def has_read(self, seconds: float) -> None:
        """It took so long."""
        self._read_took = seconds

    def due_in(self, now: float) -> float:
        """Return the seconds until the bridge is to be read back."""
        rest = min(SUSPECT_EVERY, SUSPECT_REST * self._read_took) if self._suspect else AUDIT_EVERY
        return max(0.0, rest - (now - self._read_at))

    def _forget_echoes(self, now: float) -> None:
        """Not every change that was asked for is one: what has not been told of by now never will be."""
        if not self._committing and now - self._echoed_at > ECHO:
            self._echoes = 0
