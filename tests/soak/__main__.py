"""`make soak`: see the package. Exit status: 0 when all promises held, 1 when not."""

import argparse
import sys
import time
from contextlib import ExitStack

from tests.faults.__main__ import a_site
from tests.faults.stage import Stage
from tests.options import minutes
from tests.soak.soak import judge, soak


def main() -> int:
    """Let ports come and go for so long."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("minutes", metavar="MINUTES", type=minutes, help="how long")
    parser.add_argument("seed", metavar="SEED", nargs="?", help="do what a run with this seed has done")
    options = parser.parse_args()
    seed = options.seed or f"{time.time_ns():x}"
    print(f"{options.minutes:g} minutes, seed {seed}", flush=True)
    looks = []
    begin = time.monotonic()
    with ExitStack() as stack:
        for look in soak(Stage(a_site(stack)), options.minutes * 60, seed):
            looks.append(look)
            held = ", ".join(f"{name} {each.counted} {each.memory} KiB" for name, each in look.items())
            print(f"{time.monotonic() - begin:7.0f} s  {held}", flush=True)
    verdicts = list(judge(looks))
    print("\n".join(verdicts))
    return int(any(words.startswith("NOT SO") for words in verdicts))


if __name__ == "__main__":
    sys.exit(main())
