"""`ovs-ofctl`, the project's only child process: bundles in, dumps and the flow monitor out.

A child gets its whole text at once, or is killed before it can act on a part of it: half a text is a valid
bundle too, and `flow delete_strict table=20,…` cut after `flow delete` empties the bridge. No child is left
behind, and none costs a thread: their ends are pidfd events (Linux 5.3).
"""

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final, Self

from portwatch.errors import OutcomeUnknown, SwitchUnavailable
from portwatch.switch.fault import fault

KNOCK: Final = 0.01
"""Seconds between two looks whether a bridge has come: 0.02 ms of work each, a thousandth of an `ovs-ofctl` in vain."""

SPARES: Final = 2
"""Processes started ahead for each bridge."""
REST: Final = 0.2
"""Seconds without a commit after which the spares are made up: a start costs milliseconds of the machine, just when the
other bridge, and the other hosts of a small one, are at work on the same news."""

_Process = subprocess.Popen[bytes]

_STDERR_MAX: Final = 64 * 1024
_CHUNK: Final = 64 * 1024


class OfCtl:
    """The bridges whose sockets lie in *rundir*. An async context manager: leaving it ends every child.

    Most of a bundle's time is the start of a process, so each bridge's next *spares* `ovs-ofctl` are started
    ahead, in quiet moments. They connect only when they have read their text to the end: they may wait as long as
    they like, and the switch may restart meanwhile.
    """

    def __init__(self, rundir: Path, *, program: str = "ovs-ofctl", timeout: float = 5.0, spares: int = SPARES) -> None:
        self.timeout = timeout
        self._most = spares
        self._rundir, self._program = rundir, program
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._spares: defaultdict[str, deque[_Child]] = defaultdict(deque)
        self._preparing: dict[str, asyncio.TimerHandle] = {}
        self._running: set[_Process] = set()
        self._entered = False

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered = False
        for process in self._running:
            _end(process)
        for preparing in self._preparing.values():
            preparing.cancel()
        while self._spares:
            for spare in self._spares.popitem()[1]:
                spare.close()

    def socket(self, bridge: str) -> str:
        """Return the path at which *bridge* listens."""
        return f"{self._rundir}/{bridge}.mgmt"

    async def commit(self, bridge: str, text: str) -> None:
        """Apply the lines of *text* (`flow add …`, `group delete …`), all of them in this order, or none.

        One bundle at a time for each bridge. Cancelled, as after OutcomeUnknown, it may stand or not.
        """
        async with self._turns[bridge]:
            try:
                status, _, stderr = await self._finish(self._fed(bridge, text.encode()))
            except TimeoutError:
                raise OutcomeUnknown(bridge, f"no answer to a bundle within {self.timeout:g} s") from None
            finally:
                self._prepare_later(bridge)
        if status < 0:
            raise OutcomeUnknown(bridge, f"{self._program} was ended by signal {-status}")
        if status > 0:
            raise fault(bridge, stderr, lines=len(text.splitlines()))

    async def dump_flows(self, bridge: str, cookie: int, mask: int, *, statistics: bool = False) -> str:
        """Return what `dump-flows` prints of the flows whose cookie is *cookie* under *mask*."""
        brief = () if statistics else ("--no-stats",)
        return await self._ask(bridge, "dump-flows", *brief, f"cookie={cookie:#x}/{mask:#x}")

    async def dump_groups(self, bridge: str) -> str:
        """Return what `dump-groups` prints: every group of the bridge, whoever made it."""
        return await self._ask(bridge, "dump-groups")

    async def comes(self, bridge: str) -> None:
        """Return once *bridge* begins to listen; of one that listens all the time, never."""
        for awaited in (False, True):
            while _listens(self.socket(bridge)) is not awaited:  # noqa: ASYNC110 - a socket's coming is told to nobody
                await asyncio.sleep(KNOCK)

    @asynccontextmanager
    async def monitor(self, bridge: str, watch: str) -> AsyncIterator[AsyncIterator[str]]:
        """Run `ovs-ofctl monitor`; hand out what it prints and logs, line by line, until it ends.

        A slow reader costs no memory: the pipe fills, then the socket, then the switch pauses the monitor.
        """
        # Without --unixctl=none it insists on a control socket in the switch's own run directory.
        argv = self._argv(bridge, "monitor", "--unixctl=none", "-vofctl:console:dbg", watch)
        with ExitStack() as files:
            (stdin, _leash), (source, output) = _pipe(files), _pipe(files)
            with self._run(_start(bridge, argv, stdin, output, output)) as process:
                _end_with_owner(process, stdin)
                stdin.close()
                output.close()
                yield _lines(source)

    async def _ask(self, bridge: str, command: str, *arguments: str) -> str:
        child = _Child(bridge, self._argv(bridge, command, *arguments), b"")
        try:
            status, stdout, stderr = await self._finish(child)
        except TimeoutError:
            raise SwitchUnavailable(bridge, f"no answer to {command} within {self.timeout:g} s") from None
        if status == 0:
            return stdout
        error = fault(bridge, stderr)
        # A question leaves nothing behind that could stand or not.
        raise error if isinstance(error, SwitchUnavailable) else SwitchUnavailable(bridge, error.detail)

    def _fed(self, bridge: str, text: bytes) -> "_Child":
        while spares := self._spares[bridge]:
            spare = spares.popleft()
            if spare.feed(text):
                return spare
            spare.close()
        return self._bundle(bridge, text)

    def _prepare_later(self, bridge: str) -> None:
        """Start spares when it is quiet; the first one soon, after the caller has gone on with what it has learned."""
        if (waiting := self._preparing.pop(bridge, None)) is not None:
            waiting.cancel()
        delay = REST if self._spares[bridge] else 0.0
        self._preparing[bridge] = asyncio.get_running_loop().call_later(delay, self._prepare, bridge)

    def _prepare(self, bridge: str) -> None:
        spares = self._spares[bridge]
        if not self._entered or len(spares) >= self._most:
            return
        with suppress(SwitchUnavailable, OSError):  # the next commit meets the same and says so
            spares.append(self._bundle(bridge, None))
            if len(spares) < self._most:
                self._prepare_later(bridge)

    def _bundle(self, bridge: str, text: bytes | None) -> "_Child":
        return _Child(bridge, self._argv(bridge, "bundle", "-"), text)

    def _argv(self, bridge: str, command: str, *arguments: str) -> list[str]:
        if not self._entered:
            raise RuntimeError("OfCtl is used outside of its `async with`")
        # Without --no-names each call would first ask the switch for its tables and ports: some 6 ms.
        options = ("--no-names", "-O", "OpenFlow15")
        return [self._program, *options, command, f"unix:{self.socket(bridge)}", *arguments]

    async def _finish(self, child: "_Child") -> tuple[int, str, str]:
        with closing(child), self._run(child.process):
            async with asyncio.timeout(self.timeout):
                return await child.finish()

    @contextmanager
    def _run(self, process: _Process) -> Iterator[_Process]:
        self._running.add(process)
        try:
            yield process
        finally:
            self._running.discard(process)
            _end(process)


class _Child:
    """One `ovs-ofctl`. It prints into files in memory, so that nobody needs to listen while it runs."""

    def __init__(self, bridge: str, argv: list[str], text: bytes | None) -> None:
        """Start it with *text* to read; with None it waits for `feed`."""
        with ExitStack() as files:
            self._stdout, self._stderr = _memory(files), _memory(files)
            self._sink: FileIO | None = None
            if text is None:
                stdin, self._sink = _pipe(files)
            else:
                stdin = _memory(files, text)
            self.process = _start(bridge, argv, stdin, self._stdout, self._stderr)
            stdin.close()
            self._files = files.pop_all()

    def feed(self, text: bytes) -> bool:
        """Hand over the whole *text*. False: it is dead, or *text* is more than it takes at once."""
        if self._sink is None or len(text) > fcntl.fcntl(self._sink, fcntl.F_GETPIPE_SZ):
            return False
        try:
            # It fits into the empty pipe, so it is written in one go even if we are killed meanwhile.
            self._sink.write(text)
        except BrokenPipeError:
            return False
        self._sink.close()
        return True

    async def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return its status (negative: a signal's number), output and errors."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            await _readable(pidfd)
        finally:
            os.close(pidfd)
        return self.process.wait(), _content(self._stdout), _content(self._stderr, _STDERR_MAX)

    def close(self) -> None:
        """End it at once. The process first: the end of its input would set it off."""
        _end(self.process)
        self._files.close()


def _start(bridge: str, argv: list[str], stdin: FileIO, stdout: FileIO, stderr: FileIO) -> _Process:
    try:
        # In a process group of its own, so that Ctrl-C in a terminal does not cut a bundle off.
        return subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, process_group=0)  # noqa: S603
    except FileNotFoundError:
        raise SwitchUnavailable(bridge, f"there is no program {argv[0]}: install openvswitch-common") from None
    except OSError as error:
        raise SwitchUnavailable(bridge, f"cannot start {argv[0]}: {error.strerror}") from error


def _listens(path: str) -> bool:
    """Is there somebody, though he may be too busy to answer?"""
    with socket.socket(socket.AF_UNIX) as knock:
        knock.setblocking(False)
        try:
            knock.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def _end(process: _Process) -> None:
    """Kill it if it still runs, and reap it: 0.2 ms, better than an await that can be cancelled."""
    process.kill()
    process.wait()


def _end_with_owner(process: _Process, stdin: FileIO) -> None:
    """Have the kernel end *process* (SIGIO) once nobody holds the other end of its *stdin*, as if we are killed.

    `ovs-ofctl monitor` never reads its input and does not mind a broken output: it would live on for ever.
    """
    fcntl.fcntl(stdin, fcntl.F_SETOWN, process.pid)
    fcntl.fcntl(stdin, fcntl.F_SETFL, fcntl.fcntl(stdin, fcntl.F_GETFL) | os.O_ASYNC)


async def _lines(source: FileIO) -> AsyncIterator[str]:
    rest = b""
    while True:
        await _readable(source.fileno())
        chunk = source.read(_CHUNK)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _pipe(files: ExitStack) -> tuple[FileIO, FileIO]:
    source, sink = os.pipe()
    return files.enter_context(FileIO(source, "rb")), files.enter_context(FileIO(sink, "wb"))


def _memory(files: ExitStack, content: bytes = b"") -> FileIO:
    file = files.enter_context(FileIO(os.memfd_create("ovs-ofctl"), "r+b"))
    file.write(content)
    file.seek(0)
    return file


def _content(file: FileIO, limit: int = sys.maxsize) -> str:
    # By position: the offset is the child's too, and stands where it stopped writing.
    size = min(os.fstat(file.fileno()).st_size, limit)
    return os.pread(file.fileno(), size, 0).decode(errors="replace")
