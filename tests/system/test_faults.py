"""The fault matrix, each row once that takes no more than some seconds: see tests/faults."""

from collections.abc import Iterator

import pytest

from tests.faults.matrix import FAULTS
from tests.faults.runner import suffer
from tests.faults.stage import Stage
from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def stage(running: Site) -> Iterator[Stage]:
    yield Stage(running)
    running.clear()


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.often])
def test_what_a_fault_costs_is_what_is_promised(stage: Stage, name: str) -> None:
    assert suffer(stage, FAULTS[name]).wrong == []
