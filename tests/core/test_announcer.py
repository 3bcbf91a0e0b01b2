"""What this host says of its ports: sessions, revisions, numbers, and what it ends."""

from dataclasses import replace
from datetime import timedelta

import pytest

from portwatch.events import PortAdded, PortEvent, PortRemoved, PortUpdated, manifest_of
from portwatch.fabric.announcer import Announcer, Identity
from portwatch.model import Claim, HostName, Mac, NetworkId, Port, PortId, Status
from tests.core.fleet import START, a_claim, a_port, an_endpoint

HV1 = HostName("hv1")
BLUE = NetworkId("blue")
P1 = a_port("p1")


def an_announcer(session: str = "s1") -> Announcer:
    return Announcer(Identity(HV1, session, an_endpoint(1)))


def say(
    announcer: Announcer, port: Port = P1, status: Status = Status.ACTIVE, **changes: object
) -> tuple[PortEvent, ...]:
    known: dict[str, object] = {"seq": 5, "status": status, "reason": None, "now": START}
    return announcer.say(port, **{**known, **changes})  # type: ignore[arg-type]  # the builder's own keywords


def left_behind(port: Port = P1) -> Claim:
    """Return a claim that an earlier process of this host left on the bus."""
    return a_claim(port, host=1, session="s0", revision=7)


def test_a_new_port_is_added_with_all_that_is_known() -> None:
    (event,) = say(an_announcer(), reason="why", status=Status.ERROR)

    claim = a_claim(P1, host=1, session="s1", seq=5, revision=1, status=Status.ERROR, reason="why")
    assert event == PortAdded(claim, 1, START)


def test_the_same_again_is_not_said_again() -> None:
    announcer = an_announcer()
    say(announcer)

    assert say(announcer, now=START + timedelta(seconds=9)) == ()
    assert announcer.last_number == 1


def test_every_change_is_one_event_with_the_next_revision_and_number() -> None:
    announcer = an_announcer()

    events = [
        *say(announcer, status=Status.BUILD),
        *say(announcer),
        *say(announcer, replace(P1, mac=Mac("fa:16:3e:00:00:77"))),
        *say(announcer, seq=6),
    ]

    assert [event.claim.revision for event in events] == [1, 2, 3, 4]
    assert [event.number for event in events] == [1, 2, 3, 4]
    assert [type(event) for event in events] == [PortAdded, PortUpdated, PortUpdated, PortUpdated]


def test_numbers_run_over_all_ports_and_revisions_over_each() -> None:
    announcer = an_announcer()

    events = [*say(announcer), *say(announcer, a_port("p2")), *say(announcer, status=Status.DOWN)]

    assert [event.number for event in events] == [1, 2, 3]
    assert [event.claim.revision for event in events] == [1, 1, 2]


def test_a_port_that_was_known_before_our_restart_is_updated_and_not_added() -> None:
    (event,) = say(an_announcer(), known_before=True)

    assert isinstance(event, PortUpdated)


def test_a_port_that_changes_its_network_ends_in_the_old_and_begins_in_the_new() -> None:
    announcer = an_announcer()
    say(announcer)

    removed, added = say(announcer, a_port("p1", "red"))

    assert isinstance(removed, PortRemoved)
    assert isinstance(added, PortAdded)
    assert (removed.key, added.key) == (("blue", "hv1", "p1"), ("red", "hv1", "p1"))
    assert (announcer.share(BLUE), len(announcer.share(NetworkId("red")))) == ((), 1)
    assert announcer.ended == {removed.key}


def test_the_end_of_a_port_is_later_than_all_that_was_said_of_it() -> None:
    announcer = an_announcer()
    (added,) = say(announcer)

    (removed,) = announcer.end(P1.port_id, START)

    assert isinstance(removed, PortRemoved)
    assert removed.claim == replace(added.claim, revision=2)
    assert announcer.claims == {}
    assert announcer.ended == {removed.key}


def test_the_end_of_an_unknown_port_is_not_said() -> None:
    assert an_announcer().end(P1.port_id, START) == ()


def test_a_port_that_comes_back_goes_on_counting() -> None:
    """The topic is the same: a lower revision of this session would be refused."""
    announcer = an_announcer()
    say(announcer)
    announcer.end(P1.port_id, START)

    (event,) = say(announcer)

    assert isinstance(event, PortAdded)
    assert event.claim.revision == 3
    assert announcer.ended == set()


def test_a_port_that_comes_back_to_a_network_goes_on_counting_there() -> None:
    announcer = an_announcer()
    revisions = [
        event.claim.revision
        for network in ("blue", "red", "blue")
        for event in say(announcer, a_port("p1", network))
        if event.claim.port.network_id == "blue"
    ]

    assert revisions == sorted(revisions)
    assert revisions[-1] > revisions[0]


def test_on_a_new_connection_all_is_said_again_as_it_stands() -> None:
    announcer = an_announcer()
    before = [*say(announcer), *say(announcer, a_port("p2"))]
    say(announcer, a_port("p3"))
    announcer.end(PortId("p3"), START)

    again = announcer.again(START)

    assert [event.claim for event in again] == [event.claim for event in before]
    assert all(isinstance(event, PortUpdated) for event in again)
    assert [event.number for event in again] == [5, 6]


def test_an_older_claim_that_comes_back_after_the_present_one_was_put_there_by_somebody_else() -> None:
    announcer = an_announcer()
    (first,) = say(announcer, status=Status.BUILD)
    (second,) = say(announcer)

    def contradicted(event: PortEvent) -> bool:
        found = announcer.contradicted(event)
        announcer.heard(event.claim)
        return found

    assert not contradicted(first), "it was on its way when the second was said"
    assert not contradicted(second)
    assert not contradicted(second), "it came twice"
    assert contradicted(first)


def test_what_an_earlier_process_left_behind_is_ended_in_our_name() -> None:
    announcer = an_announcer()

    (removed,) = announcer.disown(left_behind(), START)

    assert isinstance(removed, PortRemoved)
    assert (removed.key, removed.claim.session) == (("blue", "hv1", "p1"), "s1")
    assert announcer.ended == {removed.key}


def test_ending_what_was_left_behind_elsewhere_does_not_touch_the_port_that_is_here() -> None:
    announcer = an_announcer()
    say(announcer)

    announcer.disown(left_behind(a_port("p1", "red")), START)

    assert announcer.claims[P1.port_id].port.network_id == BLUE


def test_a_manifest_is_over_our_own_claims_of_the_network() -> None:
    announcer = an_announcer()
    say(announcer)
    say(announcer, a_port("p2"))
    say(announcer, a_port("p8", "red"))

    manifest = announcer.manifest(BLUE)

    assert manifest == manifest_of(BLUE, HV1, "s1", announcer.share(BLUE))
    assert manifest.count == 2


def test_a_manifest_of_a_network_that_was_left_counts_nothing() -> None:
    announcer = an_announcer()
    say(announcer)
    announcer.end(P1.port_id, START)

    assert announcer.manifest(BLUE) == manifest_of(BLUE, HV1, "s1", [])


@pytest.mark.parametrize("status", list(Status))
def test_whatever_is_held_is_what_was_last_said(status: Status) -> None:
    announcer = an_announcer()
    say(announcer, status=Status.BUILD)

    events = say(announcer, status=status)

    held = announcer.claims[P1.port_id]
    assert held.status is status
    assert [event.claim for event in events] == ([held] if status is not Status.BUILD else [])
