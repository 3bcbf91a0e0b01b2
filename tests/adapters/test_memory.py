"""The garbage collector, tamed: cycles of the young go by themselves, and nothing looks at everything meanwhile."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from portwatch import memory

pytestmark = pytest.mark.adapters


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def full_collections() -> int:
    return int(gc.get_stats()[2]["collections"])


def test_what_grows_large_is_not_looked_through_again_and_again() -> None:
    before = full_collections()
    grown = [[number] for number in range(500_000)]
    assert full_collections() > before, "as it is by default"
    memory.tame()
    before = full_collections()

    grown += [[number] for number in range(2_000_000)]

    assert full_collections() == before


def test_young_objects_in_a_cycle_go_by_themselves() -> None:
    memory.tame()
    knot = weakref.ref(Knot())

    made = [[number] for number in range(5 * memory.YOUNG[0])]

    assert knot() is None
    assert made
