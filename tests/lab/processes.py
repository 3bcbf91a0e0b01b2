"""Long-lived child processes: started, paused and ended by the pid we hold, their output in a file.

Each runs in a session of its own, so that a Ctrl-C at the terminal reaches us alone, and dies with us
(`setpriv --pdeathsig`), even when we are killed.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tests.lab import shell
from tests.lab.failures import NotInTime, ProcessFailed
from tests.lab.namespaces import Namespace
from tests.lab.ownership import ProcessId, Record, read_stat
from tests.lab.waiting import eventually

T = TypeVar("T")

TAIL_LINES = 15
STOP_SECONDS = 15.0


class Children:
    """All processes of one lab, on record, so that somebody else can end them, too."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.processes: list[Process] = []

    @property
    def directory(self) -> Path:
        """Where their files lie."""
        return self.record.directory

    def unique(self, name: str) -> str:
        """Return a name for one more process of a kind."""
        return f"{name}-{len(self.processes)}"

    def kill(self) -> None:
        """End them all, and what they have started in turn."""
        running = [process for process in self.processes if process.running]
        for process in running:
            process.doom()
        for process in running:
            process.wait(STOP_SECONDS)
        self.record.kill()


class Process:
    """One command that is started and ended as often as you like; its output grows in one file."""

    def __init__(
        self,
        children: Children,
        name: str,
        argv: Sequence[str],
        *,
        namespace: Namespace | None = None,
        environment: Mapping[str, str] | None = None,
        ready: Callable[["Process"], object] | None = None,
        log: Path | None = None,
    ) -> None:
        """*ready* returns when a started process does its work; *log* holds what stderr does not."""
        self.name = name
        self.argv = list(argv)
        self.output = Lines(children.directory / f"{name}.out")
        self.errors = Lines(children.directory / f"{name}.err")
        self._log = Lines(log) if log else None
        self._record = children.record
        children.processes.append(self)
        self._namespace = namespace.name if namespace else None
        self._environment = environment
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the running process."""
        if self._child is None or not self.running:
            raise ProcessFailed(self.name, "does not run", self._tail())
        return self._child.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it, and return when it does its work (at once without *wait*)."""
        if self.running:
            raise ProcessFailed(self.name, f"runs already, as pid {self.pid}", "")
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *self.argv]
        with self.output.path.open("ab") as output, self.errors.path.open("ab") as errors:
            shell.start(
                argv,
                self._namespace,
                self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                adopt=self._adopt,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it does its work; one that ends meanwhile, or takes too long, is an error."""
        if self._ready:
            self._ready(self)

    def until(self, condition: Callable[[], T | None], timeout: float, what: str | Callable[[], str]) -> T:
        """Wait for *condition* as long as this process lives; its end meanwhile is an error at once."""

        def words() -> str:
            return what if isinstance(what, str) else what()

        def checked() -> T | None:
            if not self.running:
                status = self._child.returncode if self._child else None
                problem = f"ended with status {status}; awaited: {words()}"
                raise ProcessFailed(self.name, problem, self._tail())
            return condition()

        try:
            return eventually(checked, timeout, words)
        except NotInTime as error:
            raise ProcessFailed(self.name, str(error), self._tail()) from error

    def stop(self, sign: signal.Signals = signal.SIGTERM, timeout: float = STOP_SECONDS) -> int:
        """Ask it to end, and return its exit status; one that does not is killed, and that is an error."""
        self._signal(sign)
        try:
            return self.wait(timeout)
        except NotInTime as error:
            self.kill()
            raise ProcessFailed(self.name, f"did not end after {sign.name}: {error}", self._tail()) from error

    def kill(self) -> int:
        """End it by SIGKILL and return its exit status; one that has ended is no error."""
        self.doom()
        return self.wait(STOP_SECONDS)

    def doom(self) -> None:
        """Send SIGKILL and go on; one that has ended, perhaps this moment, is no error."""
        if self._child is not None:
            self._child.kill()

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit status (negative: the signal that ended it)."""
        if self._child is None:
            raise ProcessFailed(self.name, "was never started", "")
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise NotInTime(f"{self.name}: its end", timeout) from error

    def restart(self) -> int:
        """Stop it, start it again, and return the exit status of the stop."""
        status = self.stop()
        self.start()
        return status

    def pause(self) -> None:
        """Freeze it (SIGSTOP); returns when every thread stands still."""
        self._signal(signal.SIGSTOP)
        eventually(lambda: self._states() <= {"T"}, STOP_SECONDS, f"{self.name}: all threads stopped")

    def resume(self) -> None:
        """Thaw it (SIGCONT); returns when it runs again and does its work."""
        self._signal(signal.SIGCONT)
        eventually(lambda: "T" not in self._states(), STOP_SECONDS, f"{self.name}: running again")
        self.wait_ready()

    def _adopt(self, child: subprocess.Popen[bytes]) -> None:
        identity = ProcessId.of(child.pid)
        assert identity is not None, "our own child, not waited for, is in /proc"
        self._record.note(identity)
        self._child = child

    def _signal(self, sign: signal.Signals) -> None:
        os.kill(self.pid, sign)  # our child, not waited for: the pid cannot be another's

    def _states(self) -> set[str]:
        pid = self.pid
        tasks = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        stats = [read_stat(pid, task) for task in tasks]
        return {stat.state for stat in stats if stat is not None}

    def _tail(self) -> str:
        logs = [log.tail(TAIL_LINES) for log in (self._log, self.errors) if log]
        return "\n".join(filter(None, logs))


class Lines:
    """The complete lines of a file that somebody else is writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: list[str] = []
        self._offset = 0

    def all(self) -> list[str]:
        """Return every complete line up to now."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._offset)
                complete = file.read().rpartition(b"\n")
            if complete[1]:
                self._offset += len(complete[0]) + 1
                self._read += complete[0].decode(errors="replace").split("\n")
        return list(self._read)

    def tail(self, count: int) -> str:
        return "\n".join(self.all()[-count:])
