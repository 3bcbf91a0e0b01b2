"""A little of `make soak`."""

import time
from collections.abc import Iterator

import pytest

from tests.faults.stage import Stage
from tests.soak.soak import soak
from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SOAK_SECONDS = 10.0


@pytest.fixture
def stage(running: Site) -> Iterator[Stage]:
    yield Stage(running)
    running.clear()


def test_ports_that_come_and_go_leave_no_descriptor_thread_or_child_behind(stage: Stage) -> None:
    looks = list(soak(stage, SOAK_SECONDS, seed := f"{time.time_ns():x}"))

    for name in looks[0]:
        first, last = looks[0][name].counted, looks[-1][name].counted
        assert last == first, f"{name}: descriptors, threads, children; seed {seed}"
