"""Who owns a lab and what it started: the record by which a sweep knows what it may end.

A pid alone proves nothing, for pids come back: a process is its pid *and* its start time.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lab import namespaces, shell
from tests.lab.waiting import eventually

STATE_DIRECTORIES = Path("/tmp")  # short, because a unix socket's path holds 108 bytes
PREFIX = "pw"
KILL_SECONDS = 15.0


@dataclass(frozen=True)
class ProcessId:
    """One process, for all time."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        stat = read_stat(pid)
        return None if stat is None else cls(pid, stat.start_time)

    def alive(self) -> bool:
        stat = read_stat(self.pid)
        return stat is not None and stat.start_time == self.start_time and stat.state not in "ZX"

    def kill(self) -> None:
        """End it by SIGKILL; one that is gone already is no error."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Stat:
    """What the lab reads from /proc/PID/stat."""

    state: str
    session: int
    start_time: int


def read_stat(pid: int, task: int | None = None) -> Stat | None:
    """Return a process's (or one of its threads') state, or None when it is gone."""
    path = f"/proc/{pid}/stat" if task is None else f"/proc/{pid}/task/{task}/stat"
    try:
        text = Path(path).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Stat(state=fields[0], session=int(fields[3]), start_time=int(fields[19]))


@dataclass(frozen=True)
class Record:
    """A lab's state directory: its owner and the processes it started."""

    token: str

    @property
    def directory(self) -> Path:
        return STATE_DIRECTORIES / f"{PREFIX}{self.token}"

    @property
    def namespace_prefix(self) -> str:
        return f"{PREFIX}{self.token}-"

    @property
    def _owner(self) -> Path:
        return self.directory / "owner"

    @property
    def _processes(self) -> Path:
        return self.directory / "processes"

    def open(self) -> bool:
        """Make the directory, owned by this process; False when the token is taken."""
        try:
            self.directory.mkdir(mode=0o755)
        except FileExistsError:
            return False
        me = ProcessId.of(os.getpid())
        assert me is not None
        # renamed into place: a sweep must never read half an owner
        draft = self.directory / "owner.draft"
        draft.write_text(json.dumps([me.pid, me.start_time]))
        draft.rename(self._owner)
        self._processes.touch()
        return True

    def owner(self) -> ProcessId | None:
        """Return the recorded owner; None when this is no lab's directory (or not one yet)."""
        try:
            pid, start_time = json.loads(self._owner.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ProcessId(pid, start_time)

    def note(self, process: ProcessId) -> None:
        """Write down a process that was started, before anything else is done with it."""
        with self._processes.open("a") as file:
            file.write(json.dumps([process.pid, process.start_time]) + "\n")

    def processes(self) -> list[ProcessId]:
        """Return every process that was ever started."""
        if not self._processes.exists():
            return []
        lines = self._processes.read_text().splitlines(keepends=True)
        return [ProcessId(*json.loads(line)) for line in lines if line.endswith("\n")]

    def kill(self) -> None:
        """End every process that was started, and what those have started in turn; return when they are gone."""

        def none_left() -> bool:
            living = [process for process in (*self.processes(), *self.kin()) if process.alive()]
            for process in living:
                process.kill()
            return not living

        eventually(none_left, KILL_SECONDS, f"all processes of lab {self.token} are gone")

    def kin(self) -> Iterator[ProcessId]:
        """Yield the living descendants of what was started: in its session *and* in this lab's namespaces."""
        started = {process.pid: process for process in self.processes()}
        paths = [shell.NAMESPACES / name for name in namespaces.existing(self.namespace_prefix)]
        places = {_inode(path) for path in paths} - {None}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            stat = read_stat(int(entry.name))
            if stat is None or stat.session not in started:
                continue
            leader = read_stat(stat.session)
            if leader is not None and leader.start_time != started[stat.session].start_time:
                continue  # the pid came back as somebody else's session
            if _inode(entry / "ns/net") in places:
                yield ProcessId(int(entry.name), stat.start_time)


def records() -> list[Record]:
    """Return the records of all labs on this machine, running or left behind."""
    found = [Record(path.name.removeprefix(PREFIX)) for path in STATE_DIRECTORIES.glob(f"{PREFIX}*")]
    return [record for record in found if record.owner() is not None]


def _inode(path: Path) -> int | None:
    """Return which namespace this is; None when it is gone."""
    try:
        return path.stat().st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None
