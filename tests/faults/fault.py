"""A fault as a value: its name, what is done, what is promised."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from tests.faults.stage import Stage

Story = Generator[None, None, None]


@dataclass(frozen=True)
class Fault:
    """One row of the matrix."""

    name: str
    story: Callable[[Stage], Story]
    alone: Callable[[Stage], object] | None = None
    """The same harm done while portwatch does not run: what the switch loses by itself may be lost."""
    lost: int | None = 0
    """How many probes in a row may be lost, beside those that the switch loses alone. None: the harm says that."""
    lost_elsewhere: int = 0
    """How many may be lost between the two hypervisors that are not hit."""
    flows: int | None = 0
    """How many flows of the hypervisor that is hit may be made again, changed or removed. None: any."""
    elsewhere: int | None = 0
    """How many changes of flows the other hypervisors may see. None: any."""
    within: float = 10.0
    """Seconds until all has converged."""
    same_claims: bool = True
    """Do sequences and local VLANs stay as they were?"""
    often: bool = True
    """Does `make test` play it, too? It shall not take more than some seconds."""


class Rows:
    """The faults of one file, in the order in which they are written."""

    def __init__(self, about: str) -> None:
        self.about = about
        self.faults: list[Fault] = []

    def fault(
        self,
        name: str,
        *,
        alone: Callable[[Stage], object] | None = None,
        lost: int | None = 0,
        lost_elsewhere: int = 0,
        flows: int | None = 0,
        elsewhere: int | None = 0,
        within: float = 10.0,
        same_claims: bool = True,
        often: bool = True,
    ) -> Callable[[Callable[[Stage], Story]], Callable[[Stage], Story]]:
        """Enter the story that follows into the matrix."""

        def enter(story: Callable[[Stage], Story]) -> Callable[[Stage], Story]:
            self.faults.append(
                Fault(name, story, alone, lost, lost_elsewhere, flows, elsewhere, within, same_claims, often)
            )
            return story

        return enter
