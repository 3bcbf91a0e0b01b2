"""Frames seen on a device, as tcpdump prints them, one a line."""

import re
from collections.abc import Callable

from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process
from tests.lab.waiting import eventually

STAMP = re.compile(r"\d+\.\d{6} ")
LISTEN_SECONDS = 10.0
FRAME_SECONDS = 5.0


class Capture:
    """A running tcpdump. It listens when this returns; frames sent from then on are seen."""

    def __init__(self, children: Children, namespace: Namespace, device: str, expression: str = "") -> None:
        options = ["-l", "-n", "-e", "-tt", "--immediate-mode", "-Z", "root", "-i", device]
        argv = ["tcpdump", *options, *([expression] if expression else [])]
        name = children.unique(f"{namespace.name}-tcpdump")
        self._process = Process(children, name, argv, namespace=namespace, ready=_wait_until_it_listens)
        self._process.start()

    def lines(self) -> list[str]:
        """Return what was seen up to now. What a tunnel carries stands in the line of the packet that carries it."""
        frames: list[str] = []
        for line in self._process.output.all():
            if STAMP.match(line):
                frames.append(line)
            elif frames and not line[:1].isspace():
                frames[-1] += f" {line}"
            # else a frame that tcpdump cannot read, followed by its bytes, indented
        return frames

    def wait_for(self, wanted: str | Callable[[str], bool], timeout: float = FRAME_SECONDS) -> str:
        """Return the first line that holds *wanted*, a text or a test; wait for it."""
        test = wanted if callable(wanted) else lambda line: wanted in line
        what = f"a frame with {wanted!r} on {self._process.name}"
        return eventually(lambda: next(filter(test, self.lines()), None), timeout, what)

    def stop(self) -> list[str]:
        """End the recording and return all that was seen."""
        self._process.stop()
        return self.lines()


def _wait_until_it_listens(process: Process) -> None:
    process.until(lambda: "listening on" in process.errors.tail(5), LISTEN_SECONDS, "listens")
