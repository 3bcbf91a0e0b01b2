"""Is what we hold all there is? Manifests against claims: what proves an end, and what proves nothing."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.events import ClaimKey, key_of, manifest_of
from portwatch.fabric.snapshots import PATIENCE, PORTION, QUIET, REPLAY_MAX, SILENCE, Snapshots
from portwatch.model import Claim, HostName, NetworkId
from tests.core.fleet import a_claim, a_port

BLUE, RED = NetworkId("blue"), NetworkId("red")
HV1, HV2, HV3 = HostName("hv1"), HostName("hv2"), HostName("hv3")
P2, P3 = a_claim(a_port("p2")), a_claim(a_port("p3"))
ON_HV3 = a_claim(a_port("p4"), host=3)
START = 100.0


def a_snapshot(*claims: Claim, settled: bool = False) -> Snapshots:
    """Return hv1's view of blue, with its own share complete and *claims* complete under their manifests."""
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.subscribed(BLUE, START)
    state(snapshots, HV1)
    for claim in claims:
        snapshots.arrived(claim, START)
    for host in {claim.host for claim in claims}:
        state(snapshots, host, *(claim for claim in claims if claim.host == host))
    if settled:
        snapshots.settle(START + QUIET)
    return snapshots


def state(snapshots: Snapshots, host: HostName, *claims: Claim, now: float = START) -> set[ClaimKey]:
    """Let the manifest of a host's share arrive."""
    return snapshots.stated(manifest_of(BLUE, host, f"session-of-{host}", claims), now)


def settles(snapshots: Snapshots, now: float = START + QUIET) -> bool:
    return BLUE in snapshots.settle(now)


def late(snapshots: Snapshots, now: float = START + 1000) -> tuple[HostName, ...]:
    """Return the hosts whose share of blue is called incomplete."""
    return snapshots.incomplete(now).get(BLUE, ())


# --- settling ----------------------------------------------------------------------------------------------------


def test_a_network_settles_once_every_share_matches_its_manifest() -> None:
    snapshots = a_snapshot(P2, P3, ON_HV3)

    assert settles(snapshots)
    assert snapshots.settled(BLUE)


def test_a_network_says_only_once_that_it_has_settled() -> None:
    snapshots = a_snapshot(P2)

    assert settles(snapshots)
    assert not settles(snapshots, START + 100)
    assert snapshots.settled(BLUE)


def test_a_network_does_not_settle_before_it_was_quiet_for_a_while() -> None:
    snapshots = a_snapshot(P2)

    assert not settles(snapshots, START + QUIET - 0.1)
    assert settles(snapshots, START + QUIET)


def test_a_network_does_not_settle_before_our_own_share_has_come_back_to_us() -> None:
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.subscribed(BLUE, START)
    snapshots.arrived(P2, START)
    state(snapshots, HV2, P2)
    assert not settles(snapshots)

    state(snapshots, HV1)

    assert settles(snapshots)


def test_a_network_does_not_settle_before_it_is_subscribed_to() -> None:
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    state(snapshots, HV1)

    assert not settles(snapshots, START + 1000)


@pytest.mark.parametrize(
    ("why", "arrive"),
    [
        ("no manifest", lambda s: s.arrived(ON_HV3, START)),
        ("no claims", lambda s: state(s, HV3, ON_HV3)),
        ("a claim less", lambda s: (s.arrived(P3, START), state(s, HV2, P2, P3, a_claim(a_port("p9"))))),
        ("a claim more", lambda s: s.arrived(P3, START) or state(s, HV2, P2)),
        ("another revision", lambda s: state(s, HV2, a_claim(a_port("p2"), revision=2))),
    ],
)
def test_a_network_with_a_share_that_does_not_match_does_not_settle(
    why: str, arrive: Callable[[Snapshots], object]
) -> None:
    snapshots = a_snapshot(P2)

    arrive(snapshots)

    assert not settles(snapshots), why


def test_a_host_whose_share_is_empty_keeps_nobody_waiting() -> None:
    snapshots = a_snapshot(P2)

    state(snapshots, HV3)

    assert settles(snapshots)


@given(st.permutations([P2, P3, ON_HV3, "hv1", "hv2", "hv3"]))
def test_p2_a_network_settles_in_whatever_order_its_messages_come(order: list[Claim | str]) -> None:
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.subscribed(BLUE, START)
    shares = {"hv1": (), "hv2": (P2, P3), "hv3": (ON_HV3,)}

    ended: set[ClaimKey] = set()
    for news in order:
        if isinstance(news, Claim):
            ended |= snapshots.arrived(news, START)
        else:
            ended |= state(snapshots, HostName(news), *shares[news])

    assert settles(snapshots)
    assert ended == set()
    assert late(snapshots) == ()


def test_a_network_that_has_settled_stays_settled_through_later_changes() -> None:
    snapshots = a_snapshot(P2, settled=True)

    snapshots.arrived(P3, START + 9)
    snapshots.subscribed(BLUE, START + 10)

    assert snapshots.settled(BLUE)


def test_a_network_that_was_left_begins_anew() -> None:
    snapshots = a_snapshot(P2, settled=True)

    snapshots.ignore(BLUE)
    assert (snapshots.settled(BLUE), list(snapshots.networks), list(snapshots.hosts(BLUE))) == (False, [], [])
    snapshots.listen(BLUE)

    assert not settles(snapshots, START + 1000)


def test_listening_twice_is_listening_once() -> None:
    snapshots = a_snapshot(P2, settled=True)

    snapshots.listen(BLUE)

    assert snapshots.settled(BLUE)


# --- what proves an end ------------------------------------------------------------------------------------------


def test_after_a_new_subscription_a_matching_manifest_ends_the_claims_that_did_not_come_again() -> None:
    snapshots = a_snapshot(P2, P3)

    snapshots.subscribed(BLUE, START + 10)
    assert snapshots.arrived(P2, START + 10) == set()

    assert state(snapshots, HV2, P2, now=START + 10) == {key_of(P3)}


def test_it_ends_them_as_well_when_the_manifest_comes_before_the_claims() -> None:
    snapshots = a_snapshot(P2, P3)

    snapshots.subscribed(BLUE, START + 10)
    assert state(snapshots, HV2, P2, now=START + 10) == set()

    assert snapshots.arrived(P2, START + 10) == {key_of(P3)}


def test_a_manifest_that_counts_nothing_ends_everything_of_its_host() -> None:
    snapshots = a_snapshot(P2, P3, ON_HV3)

    snapshots.subscribed(BLUE, START + 10)

    assert state(snapshots, HV2, now=START + 10) == {key_of(P2), key_of(P3)}


def test_a_manifest_that_does_not_match_ends_nothing() -> None:
    snapshots = a_snapshot(P2, P3)

    snapshots.subscribed(BLUE, START + 10)

    assert state(snapshots, HV2, a_claim(a_port("p9")), now=START + 10) == set()


def test_a_broker_that_lost_everything_ends_nothing() -> None:
    snapshots = a_snapshot(P2, P3)

    snapshots.subscribed(BLUE, START + 10)
    snapshots.subscribed(BLUE, START + 10, HV1)

    assert snapshots.settle(START + 1000) <= {BLUE}
    assert late(snapshots) == (HV1, HV2), "but it is seen"


def test_our_own_share_comes_by_a_subscription_for_itself() -> None:
    snapshots = a_snapshot(P2)

    snapshots.subscribed(BLUE, START + 10)

    assert late(snapshots) == (HV2,)
    assert snapshots.complete(BLUE) == {HV1}


def test_a_claim_that_has_ended_by_itself_is_not_ended_again_by_the_manifest() -> None:
    snapshots = a_snapshot(P2, P3)

    assert snapshots.ended(key_of(P3), START) == set()

    assert state(snapshots, HV2, P2) == set()


@given(st.permutations(["ended", "ended", "stated"]))
def test_p2_an_end_and_its_manifest_may_come_in_any_order_and_twice(order: list[str]) -> None:
    snapshots = a_snapshot(P2, P3)

    for news in order:
        if news == "ended":
            snapshots.ended(key_of(P3), START)
        else:
            state(snapshots, HV2, P2)

    assert late(snapshots) == ()
    assert settles(snapshots)


@pytest.mark.parametrize("again", [1, 2])
def test_a_message_that_comes_again_changes_nothing(again: int) -> None:
    snapshots = a_snapshot(P2, P3)

    for _ in range(again):
        assert snapshots.arrived(P2, START + 1) == set()
        assert state(snapshots, HV2, P2, P3) == set()
        assert snapshots.arrived(P3, START + 1) == set()

    assert late(snapshots) == ()


def test_a_claim_of_another_network_or_of_none_is_not_of_interest() -> None:
    snapshots = a_snapshot(P2)

    assert snapshots.arrived(a_claim(a_port("p8", "red")), START) == set()
    assert snapshots.arrived(a_claim(a_port("p8", None)), START) == set()
    assert snapshots.ended((RED, HV3, P2.port.port_id), START) == set()
    assert snapshots.ended((None, HV3, P2.port.port_id), START) == set()
    assert snapshots.stated(manifest_of(RED, HV3, "s", []), START) == set()
    snapshots.unstated(RED, HV3, START)
    snapshots.subscribed(RED, START)

    assert settles(snapshots)


# --- who says nothing --------------------------------------------------------------------------------------------


def a_snapshot_with_a_silent_host() -> Snapshots:
    """Return hv1's view of blue: hv2 has stated its manifest, hv3 has a claim and states none."""
    snapshots = a_snapshot(P2)
    snapshots.arrived(ON_HV3, START)
    return snapshots


def test_a_host_that_is_online_and_states_nothing_has_nothing() -> None:
    snapshots = a_snapshot_with_a_silent_host()
    online = {HV2: START, HV3: START}

    assert snapshots.silent(online, START + SILENCE - 0.1) == set()
    assert snapshots.silent(online, START + SILENCE) == {key_of(ON_HV3)}
    assert set(snapshots.hosts(BLUE)) == {HV1, HV2}, "nobody waits for it any more"
    assert settles(snapshots, START + SILENCE)


@pytest.mark.parametrize(
    ("why", "online", "subscribed"),
    [
        ("it came later", START + 10, START),
        ("we have heard of it only since then", START, START + 10),
    ],
)
def test_its_silence_is_counted_from_the_later_of_its_coming_and_our_own(
    why: str, online: float, subscribed: float
) -> None:
    snapshots = a_snapshot(P2)
    snapshots.subscribed(BLUE, subscribed)
    snapshots.arrived(ON_HV3, subscribed)

    assert snapshots.silent({HV3: online}, START + SILENCE + 9.9) == set(), why
    assert snapshots.silent({HV3: online}, START + SILENCE + 10) == {key_of(ON_HV3)}


def test_asking_again_for_what_a_silent_host_has_does_not_let_it_be_silent_for_longer() -> None:
    snapshots = a_snapshot_with_a_silent_host()

    for seconds in (10, 20, 29):
        snapshots.subscribed(BLUE, START + seconds)
        state(snapshots, HV2, P2, now=START + seconds)

    assert snapshots.silent({HV2: START, HV3: START}, START + SILENCE) == {key_of(ON_HV3)}


def test_a_host_whose_manifest_is_lost_is_silent_only_since_then() -> None:
    snapshots = a_snapshot_with_a_silent_host()

    snapshots.subscribed(BLUE, START + 10)

    assert snapshots.silent({HV2: START}, START + SILENCE + 9.9) == set()
    assert snapshots.silent({HV2: START}, START + SILENCE + 10) == {key_of(P2)}


def test_a_host_of_which_nobody_knows_that_it_is_online_may_say_nothing_for_ever() -> None:
    snapshots = a_snapshot_with_a_silent_host()

    assert snapshots.silent({HV2: START}, START + 1000) == set()
    assert set(snapshots.hosts(BLUE)) == {HV1, HV2, HV3}


def test_our_own_silence_proves_nothing() -> None:
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.subscribed(BLUE, START)
    snapshots.arrived(a_claim(a_port("p1"), host=1), START)

    assert snapshots.silent({HV1: START}, START + 1000) == set()
    assert set(snapshots.hosts(BLUE)) == {HV1}


def test_a_network_that_is_not_subscribed_to_yet_has_no_silent_hosts() -> None:
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.arrived(ON_HV3, START)

    assert snapshots.silent({HV3: START}, START + 1000) == set()


# --- what is forgotten -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("claim", "manifest"), ("manifest", "claim")])
def test_a_host_that_was_forgotten_keeps_nobody_waiting(order: tuple[str, str]) -> None:
    snapshots = a_snapshot(P2, ON_HV3)

    for cleared in order:
        if cleared == "claim":
            snapshots.ended(key_of(ON_HV3), START)
        else:
            snapshots.unstated(BLUE, HV3, START)

    assert list(snapshots.hosts(BLUE)) == [HV1, HV2]
    assert late(snapshots) == ()
    assert settles(snapshots)


def test_news_of_the_end_of_what_was_never_here_keeps_nobody_waiting() -> None:
    snapshots = a_snapshot(P2)

    snapshots.unstated(BLUE, HV3, START)
    snapshots.ended(key_of(ON_HV3), START)

    assert settles(snapshots)


def test_a_manifest_that_was_cleared_ends_nothing_and_proves_nothing_any_more() -> None:
    snapshots = a_snapshot(P2, P3)

    snapshots.unstated(BLUE, HV2, START)

    assert snapshots.arrived(a_claim(a_port("p9")), START) == set()
    assert not settles(snapshots)


def test_a_host_whose_manifest_was_cleared_has_its_time_to_say_it_again() -> None:
    """It was online for long, and we have listened for long: counted from either, that time would be over at once."""
    snapshots = a_snapshot(P2)
    online = {HV2: START}

    snapshots.unstated(BLUE, HV2, START + 100)

    assert snapshots.silent(online, START + 100 + SILENCE - 1) == set()
    assert snapshots.silent(online, START + 100 + SILENCE) == {key_of(P2)}


# --- what is seen ------------------------------------------------------------------------------------------------


def test_a_mismatch_is_called_incomplete_only_after_a_while() -> None:
    snapshots = a_snapshot(P2)

    snapshots.arrived(P3, START + 10)

    assert late(snapshots, START + 10 + PATIENCE) == ()
    assert late(snapshots, START + 10 + PATIENCE + 0.1) == (HV2,)


def test_a_mismatch_that_lasts_is_as_old_as_its_beginning() -> None:
    snapshots = a_snapshot(P2)

    snapshots.arrived(P3, START + 10)
    state(snapshots, HV2, a_claim(a_port("p9")), now=START + 14)

    assert late(snapshots, START + 10 + PATIENCE + 0.1) == (HV2,)


def test_what_was_asked_for_in_vain_stays_incomplete_and_is_asked_for_ever_more_rarely() -> None:
    snapshots = a_snapshot(P2)
    snapshots.arrived(P3, START)
    asked = []

    for seconds in range(1, 200):
        if snapshots.to_ask_again(START + seconds):
            asked.append(seconds)
            snapshots.subscribed(BLUE, START + seconds)
            snapshots.arrived(P2, START + seconds)
            state(snapshots, HV2, P2, P3, now=START + seconds)
        assert (HV2 in late(snapshots, START + seconds)) is (seconds > PATIENCE)

    assert asked == [10, 30, 70, 150]


def test_what_is_missing_of_many_hosts_is_asked_for_in_portions_that_a_broker_does_not_drop() -> None:
    shares = {
        HostName(f"far{number}"): [
            replace(a_claim(a_port(f"p{1000 * number + port}")), host=HostName(f"far{number}")) for port in range(100)
        ]
        for number in range(10)
    }
    snapshots = a_snapshot()
    for host, claims in shares.items():
        state(snapshots, host, *claims)

    def come(hosts: Iterable[HostName], now: float) -> None:
        for host in hosts:
            snapshots.subscribed(BLUE, now, host)
            for claim in shares[host]:
                snapshots.arrived(claim, now)
            state(snapshots, host, *shares[host], now=now)

    now, portions = START + 11, []
    while portion := snapshots.to_ask_again(now).get(BLUE):
        assert sum(1 + len(shares[host]) for host in portion) <= PORTION
        assert snapshots.asked == {BLUE: portion}
        portions.append(portion)
        come(portion, now)
        now += 0.5

    assert sorted(host for portion in portions for host in portion) == sorted(shares)
    assert late(snapshots, now) == ()
    assert snapshots.to_ask_again(now) == {}
    assert snapshots.asked == {}


def test_of_what_does_not_come_others_are_asked_for_first_and_ever_more_rarely() -> None:
    snapshots = a_snapshot()
    for number in range(8):
        host = HostName(f"far{number}")
        state(snapshots, host, *(replace(a_claim(a_port(f"p{port}")), host=host) for port in range(99)))

    asked = {seconds: portion[BLUE] for seconds in range(60) if (portion := snapshots.to_ask_again(START + seconds))}

    assert list(asked) == [10, 30]
    assert sorted(asked[10] + asked[30]) == sorted(f"far{number}" for number in range(8))


def test_nothing_is_asked_for_again_while_the_broker_still_replays() -> None:
    snapshots = a_snapshot(ON_HV3)
    state(snapshots, HV2, P2, P3)
    snapshots.arrived(P2, START + 9, replayed=True)

    assert snapshots.to_ask_again(START + 18) == {}
    assert snapshots.to_ask_again(START + 19) == {BLUE: (HV2,)}


def test_a_broker_that_replays_for_ever_does_not_keep_from_asking_for_ever() -> None:
    snapshots = a_snapshot(ON_HV3)
    state(snapshots, HV2, P2, P3)

    for seconds in range(1, 200, 9):
        snapshots.arrived(P2, START + seconds, replayed=True)
        if snapshots.to_ask_again(START + seconds):
            break

    assert REPLAY_MAX < seconds < REPLAY_MAX + 20


def test_a_host_that_had_nothing_and_whose_manifest_has_expired_since_is_not_waited_for() -> None:
    snapshots = a_snapshot(P2, settled=True)
    state(snapshots, HV3)

    snapshots.subscribed(BLUE, START + 100_000)
    state(snapshots, HV1, now=START + 100_000)
    snapshots.arrived(P2, START + 100_000)
    state(snapshots, HV2, P2, now=START + 100_000)

    assert not snapshots.waits
    assert late(snapshots, START + 200_000) == ()


def test_what_is_just_said_puts_no_asking_off() -> None:
    snapshots = a_snapshot(ON_HV3)
    state(snapshots, HV2, P2, P3)
    snapshots.arrived(P2, START + 9)

    assert snapshots.to_ask_again(START + 10) == {BLUE: (HV2,)}


def test_a_host_with_more_than_a_portion_is_asked_for_alone() -> None:
    snapshots = a_snapshot()
    state(snapshots, HV2, *(a_claim(a_port(f"p{port}")) for port in range(1000)))
    state(snapshots, HV3, ON_HV3)

    assert snapshots.to_ask_again(START + 10) == {BLUE: (HV2,)}


def test_who_is_asked_for_by_himself_has_his_time_to_state_his_manifest() -> None:
    snapshots = a_snapshot(P2)

    snapshots.subscribed(BLUE, START + 100, HV2)

    assert snapshots.silent({HV2: START}, START + 100 + SILENCE - 1) == set()


def test_a_share_that_matches_again_is_complete_again() -> None:
    snapshots = a_snapshot(P2)
    snapshots.arrived(P3, START + 10)

    state(snapshots, HV2, P2, P3, now=START + 20)

    assert late(snapshots) == ()


def test_a_mismatch_at_the_very_beginning_of_the_clock_counts_too() -> None:
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.subscribed(BLUE, 0.0)
    snapshots.arrived(P2, 0.0)

    state(snapshots, HV2, now=4.0)

    assert late(snapshots, PATIENCE + 0.1) == (HV2,)


def test_what_to_listen_to_changes_with_the_hosts_that_are_heard_of() -> None:
    snapshots = a_snapshot(P2)
    before = snapshots.interest

    snapshots.arrived(P3, START)
    assert snapshots.interest == before
    state(snapshots, HV3)

    assert snapshots.interest != before
    assert set(snapshots.hosts(BLUE)) == {HV1, HV2, HV3}


# --- any story ---------------------------------------------------------------------------------------------------

_messages = st.lists(
    st.one_of(
        st.tuples(st.just("arrived"), st.sampled_from(["p1", "p2", "p3"]), st.integers(1, 2)),
        st.tuples(st.just("ended"), st.sampled_from(["p1", "p2", "p3"]), st.just(0)),
        st.tuples(st.just("stated"), st.lists(st.sampled_from(["p1", "p2", "p3"]), unique=True).map(tuple), st.just(1)),
        st.tuples(st.just("unstated"), st.just(""), st.just(0)),
        st.tuples(st.just("subscribed"), st.just(""), st.just(0)),
    ),
    max_size=15,
)


@given(_messages, st.sets(st.sampled_from(["p1", "p2", "p3"])))
def test_after_whatever_was_heard_a_new_subscription_finds_what_there_is(
    story: list[tuple[str, str, int]], present: set[str]
) -> None:
    """Lost, doubled and reordered messages change nothing in the end."""
    snapshots = Snapshots(HV1)
    snapshots.listen(BLUE)
    snapshots.subscribed(BLUE, START)
    held: dict[ClaimKey, Claim] = {}

    def hear(verb: str, name: str | tuple[str, ...], revision: int) -> None:
        claim = a_claim(a_port(name or "p1"), revision=revision) if isinstance(name, str) else P2
        match verb:
            case "arrived":
                held[key_of(claim)] = claim
                gone = snapshots.arrived(claim, START)
            case "ended":
                held.pop(key_of(claim), None)
                gone = snapshots.ended(key_of(claim), START)
            case "stated":
                gone = state(snapshots, HV2, *(a_claim(a_port(each), revision=revision) for each in name))
            case "unstated":
                snapshots.unstated(BLUE, HV2, START)
                gone = set()
            case _:
                snapshots.subscribed(BLUE, START)
                gone = set()
        for key in gone:
            held.pop(key, None)

    for message in story:
        hear(*message)
    hear("subscribed", "", 0)
    for name in sorted(present):
        hear("arrived", name, 7)
    hear("stated", tuple(sorted(present)), 7)
    state(snapshots, HV1)

    assert {key[2] for key in held} == present
    assert settles(snapshots, START + QUIET)
    assert late(snapshots) == ()
