"""What can go wrong in the lab, named by what the reader looks at next."""

from collections.abc import Sequence


class LabError(Exception):
    """Anything the lab itself has to say."""


class CommandFailed(LabError):
    """A command ended with a status other than 0."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        self.argv, self.status, self.output = tuple(argv), status, output
        super().__init__(f"{' '.join(argv)[:300]}: exit status {status}: {output.strip()}")


class CommandTooSlow(LabError):
    """A command did not end in time and was killed."""

    def __init__(self, argv: Sequence[str], timeout: float) -> None:
        self.argv, self.timeout = tuple(argv), timeout
        super().__init__(f"{' '.join(argv)[:300]}: no end within {timeout:g} s")


class NotInTime(LabError):
    """A condition did not become true in time."""

    def __init__(self, what: str, timeout: float) -> None:
        self.what, self.timeout = what, timeout
        super().__init__(f"not within {timeout:g} s: {what}")


class ProcessFailed(LabError):
    """A long-lived process did not start, or ended when it should run; carries the tail of its output."""

    def __init__(self, name: str, problem: str, tail: str) -> None:
        self.name, self.problem, self.tail = name, problem, tail
        super().__init__(f"{name}: {problem}; its last words:\n{tail or '(none)'}")
