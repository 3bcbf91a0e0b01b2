"""Starts commands, in a network namespace if asked, and says why one failed.

A namespace is entered by another thread than the caller's: short work by a thread of its own, the start of a
process by one that lives as long as we do. For the kernel sends a child's parent-death signal when the
*thread* that started it ends: a child started from a short-lived thread would die with that.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TypeVar

from tests.lab.failures import CommandFailed, CommandTooSlow

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # sched.h
COMMAND_SECONDS = 30.0

_libc = ctypes.CDLL(None, use_errno=True)


def run(
    *argv: str,
    namespace: str | None = None,
    stdin: str | bytes = "",
    timeout: float = COMMAND_SECONDS,
    environment: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """Run a command to its end and return its standard output; a status not in *accept* is CommandFailed."""
    process = start(argv, namespace, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            output, errors = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
        except subprocess.TimeoutExpired as error:
            raise CommandTooSlow(argv, timeout) from error
        finally:
            process.kill()  # does nothing to one that has ended
    if process.returncode not in accept:
        raise CommandFailed(argv, process.returncode, (errors or output).decode(errors="replace"))
    return output.decode(errors="replace")


def start(
    argv: Sequence[str],
    namespace: str | None,
    environment: Mapping[str, str] | None,
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    adopt: Callable[[subprocess.Popen[bytes]], object] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in *namespace* and return at once.

    One that is to last gets a session of its own, and is handed to *adopt* before anything else can happen: an
    interrupt reaches the caller's thread only, and must not leave a process that nobody knows.
    """

    def work() -> subprocess.Popen[bytes]:
        with _entered(namespace):
            child = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=adopt is not None,
            )
        if adopt:
            adopt(child)
        return child

    if namespace is None and adopt is None:
        return work()  # clean-up at interpreter exit comes this way, when no thread may be used any more
    return _starter().do(work)


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Do *work* in a thread that is in *namespace*: a socket opened there stays there."""

    def entered() -> T:
        with _entered(namespace):
            return work()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-inside") as thread:
        return thread.submit(entered).result()


class _Starter:
    """A thread that does one thing after the other, to the end of this program.

    No ThreadPoolExecutor: that one hangs at the program's end if an interrupt comes while it starts its thread.
    """

    def __init__(self) -> None:
        self._orders: SimpleQueue[Callable[[], object]] = SimpleQueue()
        threading.Thread(target=self._serve, name="lab-starter", daemon=True).start()

    def do(self, work: Callable[[], T]) -> T:
        """Do *work* in the thread and return or raise what it does."""
        done: Future[T] = Future()

        def order() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001  whatever it is, the caller gets it
                done.set_exception(error)

        self._orders.put(order)
        return done.result()

    def _serve(self) -> None:
        while True:
            self._orders.get()()


@cache
def _starter() -> _Starter:
    return _Starter()


@contextmanager
def _entered(namespace: str | None) -> Iterator[None]:
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(NAMESPACES / namespace, os.O_RDONLY)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
