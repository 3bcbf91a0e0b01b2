"""The `ovs-ofctl` processes of an agent: found by their parent, and frozen at the worst moment."""

import fcntl
import os
import signal
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lab import Agent, eventually
from tests.lab.ownership import ProcessId

START_SECONDS = 5.0


@dataclass(frozen=True)
class Command:
    """One `ovs-ofctl bundle` that waits for its text."""

    process: ProcessId

    def fed(self) -> bool:
        """Has it been handed its text, and not read it yet?"""
        with suppress(FileNotFoundError), Path(f"/proc/{self.process.pid}/fd/0").open("rb", buffering=0) as pipe:
            octets: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
            return octets > 0
        return False

    def alive(self) -> bool:
        return self.process.alive()


def waiting(agent: Agent, bridge: str, timeout: float = START_SECONDS) -> Command:
    """Return the command that an agent has started ahead for its next bundle."""

    def found() -> list[Command]:
        pid = agent.process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        identities = filter(None, map(ProcessId.of, children))
        return [Command(child) for child in identities if _bundles(child.pid, bridge)]

    return eventually(found, timeout, f"an ovs-ofctl waits for a bundle to {bridge}")[0]


@contextmanager
def frozen(*commands: Command) -> Iterator[None]:
    """Let them stand still (SIGSTOP) for a while; who has been killed meanwhile is let be."""
    for command in commands:
        os.kill(command.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for command in commands:
            if command.alive():
                os.kill(command.process.pid, signal.SIGCONT)


def _bundles(pid: int, bridge: str) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"bundle" in words and any(word.endswith(f"/{bridge}.mgmt".encode()) for word in words)
    return False
