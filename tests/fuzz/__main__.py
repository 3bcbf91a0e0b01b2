"""`make fuzz`: atheris searches where hypothesis samples, led by what code was reached.

`bus` and `ovsdb` have the judges of tests/core/test_hostile.py; `bytes`, quick, has the decoder alone. A finding ends
it with the input and a traceback: say it again in a plain test. What was worth keeping lies in the folder CORPUS.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

from tests.options import minutes

with atheris.instrument_imports(include=["portwatch"]):
    from tests.core import test_hostile, test_wire

SEEDS = 20
SEED_BYTES = 2048
SLOW_SECONDS = 20


def read_or_refused(said: bytes) -> None:
    """Decode a message: the first line is its topic."""
    topic, _, payload = said.partition(b"\n")
    test_wire.read_or_refused(topic.decode(errors="replace"), payload)


def judge(test: Callable[..., None]) -> Callable[[bytes], None]:
    """Return what takes the bytes by which hypothesis shall choose the examples of *test*."""
    return test.hypothesis.fuzz_one_input  # type: ignore[attr-defined, no-any-return]  # hypothesis puts it there


TARGETS: dict[str, Callable[[bytes], None]] = {
    "bytes": read_or_refused,
    "bus": judge(test_hostile.test_whatever_is_said_on_the_bus_is_refused_by_a_known_reason_or_harms_nothing),
    "ovsdb": judge(test_hostile.test_whatever_stands_in_ovsdb_is_wired_or_explained_and_what_is_said_of_it_can_be_read),
}


def main() -> None:
    """Fuzz one target; atheris ends the process."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("target", metavar="TARGET", choices=TARGETS, help=f"one of {', '.join(TARGETS)}")
    parser.add_argument("minutes", metavar="MINUTES", type=minutes, help="how long")
    parser.add_argument("corpus", metavar="CORPUS", type=Path, help="the folder of what was worth keeping")
    options = parser.parse_args()
    folder = options.corpus / options.target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(options.target)):
        (folder / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={options.minutes * 60:.0f}", f"-timeout={SLOW_SECONDS}", "-len_control=0"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}-", str(folder)], TARGETS[options.target])
    atheris.Fuzz()


def _seeds(target: str) -> list[bytes]:
    if target == "bytes":
        return [f"{topic}\n".encode() + payload for topic, payload in test_hostile.MESSAGES.items()]
    return [Random(number).randbytes(SEED_BYTES) for number in range(SEEDS)]


if __name__ == "__main__":
    main()
