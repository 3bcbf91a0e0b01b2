"""docs/parity.md names what there is."""

import re
from pathlib import Path

from tests.core.stories import STORIES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]


def test_each_story_and_test_that_the_page_names_exists() -> None:
    stories = {name for row in ROWS for name in re.findall(r'"([^"]+)"', row)}
    tests = set(re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", PAGE))

    assert stories - {story.name for story in STORIES} == set()
    missing = {
        f"{file}::{name}" for file, name in tests if f"def {name}(" not in (ROOT / "tests" / file).read_text("utf-8")
    }
    assert missing == set()
    assert {story.name for story in STORIES} - stories == set(), "what are these stories for?"
    assert len(tests) > 40


def test_each_row_of_the_page_says_what_covers_it_or_whose_business_it_is() -> None:
    heads = {"| Neutron | here |", "| case | here |"}
    covered = re.compile(r'"[^"]+"|::test_|not ours|every story|the same|orchestrator')

    assert [row for row in ROWS if row not in heads and not covered.search(row.split(" | ")[1])] == []
