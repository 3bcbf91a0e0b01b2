"""A little of `make soak` and of `make chaos`: see tests/chaos."""

import time
from collections.abc import Iterator

import pytest

from tests.chaos.chaos import play, seeds
from tests.chaos.soak import soak
from tests.faults.stage import Stage
from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SOAK_SECONDS = 10.0
CHAOS_SECONDS = 15.0


@pytest.fixture
def stage(running: Site) -> Iterator[Stage]:
    yield Stage(running)
    running.clear()


def test_ports_that_come_and_go_leave_no_descriptor_thread_or_child_behind(stage: Stage) -> None:
    looks = list(soak(stage, SOAK_SECONDS, seed := f"{time.time_ns():x}"))

    for name in looks[0]:
        first, last = looks[0][name].counted, looks[-1][name].counted
        assert last == first, f"{name}: descriptors, threads, children; seed {seed}"


def test_random_faults_while_ports_come_and_go_leave_everything_as_it_must_be(stage: Stage) -> None:
    """A failure prints the seed of its round: `make chaos SEED=…` plays it again."""
    end = time.monotonic() + CHAOS_SECONDS
    for seed in seeds(f"{time.time_ns():x}"):
        print(f"seed {seed}")
        play(stage, seed, print)
        if time.monotonic() >= end:
            break
