"""`make soak` and `make chaos`: see the package. Exit status: 0 when all promises held, 1 when not."""

import sys
import time
from contextlib import ExitStack

from tests.chaos.chaos import play, seeds
from tests.chaos.soak import judge, soak
from tests.faults.__main__ import a_site
from tests.faults.stage import Stage
from tests.lab import LabError


def main(kind: str, minutes: str, seed: str = "") -> int:
    """Run for so long."""
    seed = seed or f"{time.time_ns():x}"
    print(f"{kind}, {minutes} minutes, seed {seed}", flush=True)
    with ExitStack() as stack:
        stage = Stage(a_site(stack))
        return (_soak if kind == "soak" else _chaos)(stage, float(minutes) * 60, seed)


def _soak(stage: Stage, seconds: float, seed: str) -> int:
    looks = []
    begin = time.monotonic()
    for look in soak(stage, seconds, seed):
        looks.append(look)
        held = ", ".join(f"{name} {each.counted} {each.memory} KiB" for name, each in look.items())
        print(f"{time.monotonic() - begin:7.0f} s  {held}", flush=True)
    verdicts = list(judge(looks))
    print("\n".join(verdicts))
    return int(any(words.startswith("NOT SO") for words in verdicts))


def _chaos(stage: Stage, seconds: float, seed: str) -> int:
    begin = time.monotonic()
    for number, each in enumerate(seeds(seed), 1):
        if time.monotonic() - begin >= seconds:
            break
        print(f"round {number}, seed {each}", flush=True)
        try:
            converged = play(stage, each, lambda words: print(f"    {words}", flush=True))
        except (LabError, AssertionError) as error:
            print(f"NOT SO: {error}\nplay it again with SEED={each}")
            return 1
        print(f"  well again after {converged:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
