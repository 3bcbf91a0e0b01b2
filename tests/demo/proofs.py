"""Claims that hold or end the demo: each is shown when it is proved, and all of them again at the end."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.demo.screen import Screen
from tests.lab import Agent, LabError

TAIL_LINES = 15


class Failed(Exception):
    """A claim did not hold; the screen has told which and why."""


class NotSo(Exception):
    """What was seen instead of what was claimed."""


@dataclass
class Proof:
    """One claim on its way; its *figure* is what was measured."""

    claim: str
    figure: str = ""

    def require(self, holds: object, instead: str) -> None:
        """Go on only if it *holds*; *instead* says what was seen."""
        if not holds:
            raise NotSo(instead)


class Proofs:
    """All that was proved, in order."""

    def __init__(self, screen: Screen, agents: Mapping[str, Agent]) -> None:
        self.done: list[Proof] = []
        self._screen = screen
        self._agents = agents

    @contextmanager
    def proving(self, claim: str, *hosts: str) -> Iterator[Proof]:
        """Prove one claim. If it fails, tell why, and what the agents on *hosts* said last; then raise Failed."""
        proof = Proof(claim)
        try:
            yield proof
        except (NotSo, LabError, OSError) as error:
            self._screen.failed(claim)
            for line in str(error).splitlines() or [type(error).__name__]:
                self._screen.line(line, 6)
            for host in hosts:
                self._show_log(host)
            raise Failed(claim) from error
        self._screen.proved(proof.claim, proof.figure)
        self.done.append(proof)

    def _show_log(self, host: str) -> None:
        agent = self._agents[host]
        now = "" if agent.process.running else ", which does not run,"
        self._screen.chapter(f"The last that portwatch on {host}{now} said:")
        for line in agent.log_lines()[-TAIL_LINES:] or ["(nothing)"]:
            self._screen.line(readable(line), 6)


def readable(line: str) -> str:
    """Return a line of an agent's log for people; one that is no JSON object as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    head = [str(record.pop(key, "")) for key in ("timestamp", "level", "event")]
    rest = " ".join(f"{key}={value}" for key, value in record.items())
    return f"{head[0][11:23]}  {head[1]:<7}  {head[2]}  {rest}".rstrip()
