"""A short benchmark: what a port costs beside its bare parts, which no busy machine can make worse than so much."""

import asyncio

import pytest

from tests.bench import plug

pytestmark = pytest.mark.system


def test_a_port_costs_no_more_than_a_few_times_its_bare_parts() -> None:
    rows = asyncio.run(plug.measure(0.2))
    ratio = next(row for row in rows if row.name == plug.WHOLE)
    assert ratio.ratio is not None
    assert ratio.ratio <= plug.BOUND, "\n".join(f"{row.name}: {row.cells()}" for row in rows)
