"""Every promise that docs/operations.md makes names what keeps it: a test, or a row of the fault matrix."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operations.md"
KEEPER = re.compile(r"`(tests/\w+/\w+\.py)::(\w+)`")


def promises() -> list[str]:
    """Return the rows below the heads of the page's tables."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith("| when … |")]


def test_the_page_makes_promises() -> None:
    assert promises()


@pytest.mark.parametrize("promise", promises())
def test_what_keeps_a_promise_exists(promise: str) -> None:
    keepers = KEEPER.findall(promise)

    assert keepers, "no test is named"
    for path, name in keepers:
        text = (ROOT / path).read_text()
        assert f"\ndef {name}(" in text or f"\nasync def {name}(" in text, f"{path} has no {name}"
