"""`make soak`: see the package. Exit status: 0 when all promises held, 1 when not."""

import sys
import time
from contextlib import ExitStack

from tests.faults.__main__ import a_site
from tests.faults.stage import Stage
from tests.soak.soak import judge, soak


def main(minutes: str, seed: str = "") -> int:
    """Let ports come and go for so long."""
    seed = seed or f"{time.time_ns():x}"
    print(f"{minutes} minutes, seed {seed}", flush=True)
    looks = []
    begin = time.monotonic()
    with ExitStack() as stack:
        for look in soak(Stage(a_site(stack)), float(minutes) * 60, seed):
            looks.append(look)
            held = ", ".join(f"{name} {each.counted} {each.memory} KiB" for name, each in look.items())
            print(f"{time.monotonic() - begin:7.0f} s  {held}", flush=True)
    verdicts = list(judge(looks))
    print("\n".join(verdicts))
    return int(any(words.startswith("NOT SO") for words in verdicts))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
