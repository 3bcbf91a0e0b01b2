"""When python-ovs is run again: readers, writers and the timer, with real sockets."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest

from portwatch.ovsdb.poller import PATIENCE, POLLIN, POLLOUT, Wakeups, Wants

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])]


class Wakes:
    """Counts the wakeups, and lets a test wait for one."""

    def __init__(self) -> None:
        self.count = 0
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self.count += 1
        self._woken.set()

    async def next(self, seconds: float = 5) -> None:
        self._woken.clear()
        async with asyncio.timeout(seconds):
            await self._woken.wait()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield ours, theirs


def wants(*sockets: tuple[socket.socket, int], seconds: float | None = None) -> Wants:
    noted = Wants()
    for fd, events in sockets:
        noted.fd_wait(fd, events)
    if seconds is not None:
        noted.timer_wait(seconds * 1000)
    return noted


async def test_octets_that_arrive_wake(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    wakes = Wakes()
    wakeups = Wakeups(wakes.wake)
    wakeups.arm(wants((ours, POLLIN)), connected=True)
    theirs.send(b"x")
    await wakes.next()
    wakeups.disarm()


async def test_room_to_write_wakes_only_while_it_is_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    wakes = Wakes()
    wakeups = Wakeups(wakes.wake)
    wakeups.arm(wants((ours, POLLIN), (ours, POLLOUT)), connected=True)
    await wakes.next()
    wakeups.arm(wants((ours, POLLIN)), connected=True)
    with pytest.raises(TimeoutError):
        await wakes.next(0.05)
    wakeups.disarm()


@pytest.mark.parametrize("events", [POLLIN, POLLOUT, POLLIN | POLLOUT])
async def test_a_socket_that_was_closed_is_let_go_and_the_next_one_with_its_number_is_watched(events: int) -> None:
    wakes = Wakes()
    wakeups = Wakeups(wakes.wake)
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    with closing(theirs), closing(ours):
        wakeups.arm(wants((ours, events)), connected=True)
    ours, theirs = socket.socketpair()
    with closing(theirs), closing(ours):
        assert ours.fileno() == number
        wakeups.arm(wants((ours, POLLIN)), connected=True)
        with pytest.raises(TimeoutError):
            await wakes.next(0.05)
        theirs.send(b"x")
        await wakes.next()
        wakeups.disarm()


async def test_after_disarming_nothing_is_open_and_nothing_wakes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    wakes = Wakes()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    wakeups = Wakeups(wakes.wake)
    wakeups.arm(wants((ours, POLLIN), seconds=0.01), connected=True)
    wakeups.disarm()
    theirs.send(b"x")

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    with pytest.raises(TimeoutError):
        await wakes.next(0.05)


async def test_the_timer_rings_at_the_earliest_time_that_is_asked_for() -> None:
    wakes = Wakes()
    wakeups = Wakeups(wakes.wake)
    wakeups.arm(wants(seconds=60), connected=True)
    noted = wants(seconds=60)
    noted.timer_wait(10)
    noted.timer_wait(30_000)
    wakeups.arm(noted, connected=True)
    await wakes.next()
    assert wakes.count == 1


async def test_without_a_connection_nothing_makes_it_hurry(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    wakes = Wakes()
    wakeups = Wakeups(lambda: None)

    def again() -> None:  # as python-ovs does while a TLS handshake waits: writable, and run again at once
        wakes.wake()
        noted = wants((ours, POLLOUT))
        noted.immediate_wake()
        wakeups.arm(noted, connected=False)

    wakeups = Wakeups(again)
    again()
    await asyncio.sleep(20 * PATIENCE)
    wakeups.disarm()

    assert 2 <= wakes.count <= 25


async def test_what_tls_has_decrypted_already_wakes_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    class Decrypted(ssl.SSLSocket):
        def pending(self) -> int:
            return 1

    tls = Decrypted.__new__(Decrypted)
    assert wants((tls, POLLIN), seconds=60).seconds == 0
