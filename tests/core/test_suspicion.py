"""When a bridge is read back: by what the monitor tells, and without it."""

from portwatch.switch.suspicion import AUDIT_EVERY, ECHO, SUSPECT_EVERY, SUSPECT_REST, Suspicion

TOOK = 0.02


def a_suspicion(*, commits: int = 0, took: float = TOOK) -> Suspicion:
    """Return that of a bridge that was read back at 0 s, and then given so many changes."""
    suspicion = Suspicion()
    suspicion.reads(0.0)
    suspicion.has_read(took)
    if commits:
        suspicion.commits(commits, 0.0)
        suspicion.committed(0.0)
    return suspicion


def test_a_bridge_that_was_never_read_back_is_due() -> None:
    assert Suspicion().due_in(0.0) == 0.0


def test_while_nothing_is_told_there_is_an_audit_now_and_then() -> None:
    suspicion = a_suspicion()

    assert suspicion.due_in(10.0) == AUDIT_EVERY - 10.0
    assert suspicion.due_in(AUDIT_EVERY + 1.0) == 0.0


def test_as_many_changes_as_a_commit_makes_are_ours_and_one_more_is_not() -> None:
    suspicion = a_suspicion(commits=2)

    assert [suspicion.changed(ECHO / 2) for _ in range(3)] == [False, False, True]


def test_changes_long_after_a_commit_are_not_ours_however_many_it_made() -> None:
    suspicion = a_suspicion(commits=2)

    assert suspicion.changed(ECHO * 2)


def test_a_change_while_a_long_commit_is_under_way_is_ours_still_when_it_has_just_ended() -> None:
    suspicion = a_suspicion()
    suspicion.commits(1, 1.0)
    suspicion.committed(9.0)

    assert not suspicion.changed(9.0 + ECHO / 2)


def test_changes_are_ours_while_a_commit_is_under_way_however_long_it_takes() -> None:
    suspicion = a_suspicion()
    suspicion.commits(1, 1.0)

    assert not suspicion.changed(1.0 + 2 * ECHO)


def test_the_changes_of_a_commit_may_be_told_after_the_next_one_has_begun() -> None:
    suspicion = a_suspicion(commits=2)
    suspicion.commits(1, ECHO / 4)
    suspicion.committed(ECHO / 4)

    assert [suspicion.changed(ECHO / 2) for _ in range(4)] == [False, False, False, True]


def test_a_long_tale_of_our_own_changes_is_heard_to_its_end() -> None:
    suspicion = a_suspicion(commits=9)

    assert not any(suspicion.changed(number * ECHO / 2) for number in range(1, 10))
    assert suspicion.changed(5 * ECHO)


def test_a_read_back_in_the_middle_of_the_tale_makes_no_stranger_of_us() -> None:
    suspicion = a_suspicion(commits=2)
    suspicion.changed(ECHO / 4)
    suspicion.reads(ECHO / 3)

    assert not suspicion.changed(ECHO / 2)
    assert suspicion.changed(ECHO / 2)


def test_of_a_refused_commit_nothing_is_told() -> None:
    suspicion = a_suspicion(commits=1)
    suspicion.commits(100, ECHO / 4)
    suspicion.refused(100)
    suspicion.committed(ECHO / 4)

    assert [suspicion.changed(ECHO / 2) for _ in range(2)] == [False, True]


def test_a_suspicious_change_is_looked_at_once_the_bridge_has_had_its_rest() -> None:
    suspicion = a_suspicion()
    suspicion.changed(0.0)

    assert suspicion.due_in(0.0) == SUSPECT_REST * TOOK


def test_no_table_is_so_large_that_tampering_with_it_is_looked_at_only_by_the_audit() -> None:
    suspicion = a_suspicion(took=10 * SUSPECT_EVERY)
    suspicion.changed(0.0)

    assert suspicion.due_in(0.0) == SUSPECT_EVERY


def test_a_read_back_settles_what_was_suspected_before_it() -> None:
    suspicion = a_suspicion()
    suspicion.changed(1.0)
    suspicion.reads(2.0)

    assert suspicion.due_in(2.0) == AUDIT_EVERY
