"""The fault matrix, each row once: see tests/faults."""

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


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_fault_costs_is_what_is_promised(stage: Stage, name: str) -> None:
    assert suffer(stage, FAULTS[name]).wrong == []
