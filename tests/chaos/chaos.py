"""Random faults of all kinds while ports come and go: after each round everything is as it must be.

A round has a seed of its own: `make chaos SEED=…` begins with it, and plays the same acts in the same order.
"""

import time
from collections.abc import Callable, Iterator
from random import Random

from tests.chaos.churn import Churn
from tests.chaos.harms import Course, harms
from tests.faults.stage import Stage

ACTS = 12
"""In a round."""
LONGEST = 1.5
"""Seconds between two acts, at most."""
CONVERGE_SECONDS = 60.0
"""Back-off of all links, and the slowest repair behind it."""

Tell = Callable[[str], None]


def seeds(first: str) -> Iterator[str]:
    """Yield the seeds of the rounds; each can be the first of another run."""
    seed = first
    while True:
        yield seed
        seed = f"{Random(seed).getrandbits(48):x}"


def play(stage: Stage, seed: str, tell: Tell) -> float:
    """Play one round; return the seconds from the end of the last harm until all was well."""
    random = Random(seed)
    churn = Churn(stage, random)
    kinds = harms(stage, churn, random)
    under_way: dict[str, tuple[str, Course]] = {}

    def end(victim: str) -> None:
        name, course = under_way.pop(victim)
        tell(f"over: {name}")
        next(course, None)

    try:
        for _ in range(ACTS):
            harm = random.choice(kinds)
            if harm.victim in under_way:
                end(harm.victim)
            else:
                tell(harm.name)
                course = harm.course()
                next(course)
                under_way[harm.victim] = (harm.name, course)
            for _ in range(random.randrange(4)):
                tell(churn.act())
            time.sleep(random.uniform(0, LONGEST))
    finally:
        for victim in list(under_way):
            end(victim)
    begin = time.monotonic()
    churn.until_converged(CONVERGE_SECONDS)
    seconds = time.monotonic() - begin
    churn.clear()
    churn.until_converged(CONVERGE_SECONDS)
    return seconds
