"""Messages at a steady rate from a thread of their own: what a hostile client does to a broker and its readers."""

import itertools
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.lab import snapshot
from tests.lab.broker import Broker
from tests.lab.failures import LabError

BATCHES = 50
"""In a second."""
NUMBERS = 10_000
"""Packet identifiers in use; the broker has long acknowledged the first when they begin anew."""


class Flood:
    """From `with` to its end, *messages* again and again, *rate* a second, with QoS 1: the broker may drop none."""

    def __init__(self, broker: Broker, messages: Sequence[tuple[str, bytes]], rate: int) -> None:
        self.sent = 0
        self._broker = broker
        self._packets = [snapshot.live(*messages[n % len(messages)], n + 1) for n in range(NUMBERS)]
        self._rate = rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flood")
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise LabError(f"the flood broke off: {self._failure}")

    def _run(self) -> None:
        size = self._rate // BATCHES
        try:
            with self._broker.connection() as connection, connection.makefile("rb") as answers:
                packets = itertools.cycle(self._packets)
                due = time.monotonic()
                while not self._stopped.is_set():
                    connection.sendall(b"".join(itertools.islice(packets, size)))
                    answers.read(size * snapshot.ACKNOWLEDGEMENT)
                    self.sent += size
                    due += 1 / BATCHES
                    time.sleep(max(0.0, due - time.monotonic()))
                connection.sendall(snapshot.goodbye())
        except OSError as error:
            self._failure = error
