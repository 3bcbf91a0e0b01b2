"""When to run python-ovs next: what its `wait()` asks for, as asyncio readers, writers and one timer.

python-ovs thinks in a main loop: `run()`, then `wait(poller)`, then `poller.block()`. `Wants` takes the
poller's place in `wait()`; `Wakeups` does, without blocking and without `select` (whose file descriptors end
at 1023), what `block()` would have done.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

POLLIN: Final = 0x001
POLLOUT: Final = 0x004

# Seconds between two tries while there is no connection. python-ovs may then ask to be run again at once, for
# ever: while a TLS handshake waits for its answer, for instance, the socket stays writable.
PATIENCE: Final = 0.005


class Wants:
    """Stands in for `ovs.poller.Poller` in `wait()`: notes what is asked for."""

    def __init__(self) -> None:
        self.sockets: dict[socket.socket, int] = {}
        self.seconds: float | None = None

    def fd_wait(self, fd: socket.socket, events: int) -> None:
        self.sockets[fd] = self.sockets.get(fd, 0) | events
        if isinstance(fd, ssl.SSLSocket) and fd.pending():
            self.immediate_wake()  # what TLS has decrypted already makes no socket readable

    def timer_wait(self, msec: float) -> None:
        seconds = max(msec, 0) / 1000
        self.seconds = seconds if self.seconds is None else min(seconds, self.seconds)

    def immediate_wake(self) -> None:
        self.seconds = 0.0


class Wakeups:
    """The readers, writers and the timer that call `wake`. Each `arm` replaces the one before."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        # The loop gets a descriptor of our own: python-ovs closes sockets without a word, and the next socket mostly
        # has the same number. The loop can neither let go of a closed descriptor nor tell the two apart.
        self._armed: dict[socket.socket, tuple[int, int]] = {}

    def arm(self, wants: Wants, *, connected: bool) -> None:
        seconds, sockets = wants.seconds, wants.sockets
        if not connected:
            if sockets or (seconds is not None and seconds < PATIENCE):
                seconds = PATIENCE
            sockets = {}
        self._watch(sockets)
        self._call_in(seconds)

    def disarm(self) -> None:
        self._watch({})
        self._call_in(None)

    def _watch(self, sockets: dict[socket.socket, int]) -> None:
        for stale in [known for known in self._armed if known not in sockets]:
            number, _ = self._armed.pop(stale)
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
            os.close(number)
        for wanted, events in sockets.items():
            number, before = self._armed.get(wanted) or (os.dup(wanted.fileno()), 0)
            self._armed[wanted] = (number, events)
            if events & POLLIN > before & POLLIN:
                self._loop.add_reader(number, self._wake)
            elif events & POLLIN < before & POLLIN:
                self._loop.remove_reader(number)
            if events & POLLOUT > before & POLLOUT:
                self._loop.add_writer(number, self._wake)
            elif events & POLLOUT < before & POLLOUT:
                self._loop.remove_writer(number)

    def _call_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            if seconds is not None and self._timer.when() <= self._loop.time() + seconds:
                return  # it rings early enough
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()
