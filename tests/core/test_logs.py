"""The log, as an operator reads it: constant words, fields, what to do; and no storm."""

import ast
from pathlib import Path

import pytest
import structlog

import portwatch
from portwatch.logs import REPEATS, WITHIN, Restraint

SOURCES = sorted(Path(portwatch.__file__).parent.rglob("*.py"))
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
CALLS = [
    pytest.param(node, id=f"{path.stem}:{node.lineno}")
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call)
    and isinstance(node.func, ast.Attribute)
    and isinstance(node.func.value, ast.Name)
    and node.func.value.id == "log"
    and node.func.attr in LEVELS
]


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def passes(restraint: Restraint, words: str = "no broker", level: str = "warning") -> dict[str, object] | None:
    """Return the event as it is let through; None when it is held back."""
    try:
        return dict(restraint(None, level, {"event": words}))
    except structlog.DropEvent:
        return None


@pytest.mark.parametrize("call", CALLS)
def test_a_line_has_words_that_can_be_searched_for_and_says_the_rest_in_fields(call: ast.Call) -> None:
    """Both branches of a choice are constants, too."""
    assert len(call.args) == 1
    words = [call.args[0].body, call.args[0].orelse] if isinstance(call.args[0], ast.IfExp) else [call.args[0]]
    assert all(isinstance(each, ast.Constant) for each in words)


@pytest.mark.parametrize("call", CALLS)
def test_whatever_alarms_says_what_to_do(call: ast.Call) -> None:
    assert isinstance(call.func, ast.Attribute)
    alarms = call.func.attr not in ("debug", "info")

    assert alarms == any(keyword.arg == "do" for keyword in call.keywords)


def test_what_repeats_is_told_a_few_times_and_then_counted() -> None:
    clock = Clock()
    restraint = Restraint(clock)

    told = [passes(restraint) for _ in range(REPEATS + 3)]
    clock.now += WITHIN
    again = passes(restraint)

    assert told == [{"event": "no broker"}] * REPEATS + [None] * 3
    assert again == {"event": "no broker", "held_back": 3}


def test_one_storm_hides_nothing_else() -> None:
    restraint = Restraint(Clock())
    for _ in range(REPEATS + 1):
        passes(restraint)

    assert passes(restraint) is None
    assert passes(restraint, "no switch") == {"event": "no switch"}
    assert passes(restraint, level="info") == {"event": "no broker"}


def test_what_is_seldom_is_always_told() -> None:
    clock = Clock()
    restraint = Restraint(clock)

    for _ in range(3 * REPEATS):
        assert passes(restraint) == {"event": "no broker"}
        clock.now += WITHIN
