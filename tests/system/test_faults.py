"""The fault matrix, each row once that takes no more than some seconds, and a bout of chaos: see tests/faults."""

import secrets
from collections.abc import Iterator

import pytest

from tests.faults.chaos import Chaos
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


def test_random_faults_under_churn_end_where_they_must(stage: Stage) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"make chaos SEED={seed}")
    chaos = Chaos(stage, seed)
    try:
        chaos.bout()
    finally:
        print(*chaos.steps, sep="\n")
        chaos.clear()
