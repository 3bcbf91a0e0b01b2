"""Who wins: a pure function of the claims that are present. docs/mobility.md."""

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.claims import Rule, Verdict, answering, rank, winner
from portwatch.model import (
    Claim,
    HostName,
    Kind,
    Mac,
    NetworkId,
    PortId,
    State,
    Status,
    TunnelEndpoint,
    tunnel_endpoint,
)
from tests.core.fleet import a_claim, a_port, an_endpoint

HERE, ELSEWHERE = HostName("hv9"), HostName("hv8")


def state(host: int, how: State, seq: int = 1, **changes: object) -> Claim:
    return a_claim(a_port(state=how), host, seq=seq, **changes)


def on(endpoint: str | None, host: int = 2) -> Claim:
    return a_claim(host=host, tunnel_ip=tunnel_endpoint(endpoint) if endpoint else None)


def shared(host: int) -> Claim:
    return a_claim(a_port(kind=Kind.SHARED), host)


# --- each rule ---------------------------------------------------------------------------------------------------


def test_without_a_claim_nobody_wins() -> None:
    assert winner([], HERE) == Verdict(None, Rule.NONE)


def test_the_only_claim_wins() -> None:
    assert winner([a_claim()], HERE) == Verdict(a_claim(), Rule.ONLY)


@pytest.mark.parametrize("how", list(State))
def test_the_only_claim_wins_in_whatever_state(how: State) -> None:
    claim = state(2, how)

    assert winner([claim], HERE) == Verdict(claim, Rule.ONLY)


@pytest.mark.parametrize("status", [Status.DOWN, Status.ERROR])
def test_a_claim_that_does_not_forward_takes_no_part(status: Status) -> None:
    aside, weaker = a_claim(status=status, seq=9), a_claim(host=3, seq=1)

    assert winner([aside], HERE) == Verdict(None, Rule.NONE)
    assert winner([aside, weaker], HERE) == Verdict(weaker, Rule.ONLY)


def test_active_comes_before_leaving_before_preparing_whatever_the_seq() -> None:
    active, leaving, preparing = (
        state(2, State.ACTIVE, seq=1),
        state(3, State.LEAVING, seq=2),
        state(4, State.PREPARING, seq=3),
    )

    assert winner([preparing, leaving, active], HERE) == Verdict(active, Rule.STATE)
    assert winner([preparing, leaving], HERE) == Verdict(leaving, Rule.STATE)


def test_of_two_in_the_same_state_the_later_attached_wins() -> None:
    older, newer = a_claim(host=2, seq=41), a_claim(host=3, seq=42)

    assert winner([older, newer], HERE) == Verdict(newer, Rule.SEQ)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("192.0.2.9", "192.0.2.10"),
        ("9.255.255.255", "10.0.0.0"),
        ("223.255.255.255", "2001:db8::1"),
        ("2001:db8::9", "2001:db8::10"),
        ("2001:db8::1", None),
    ],
)
def test_a_tie_goes_to_the_lower_tunnel_address_as_a_number(lower: str, higher: str | None) -> None:
    first, second = on(lower, host=3), on(higher, host=2)

    assert winner([second, first], HERE) == Verdict(first, Rule.ENDPOINT)


def test_a_tie_at_the_same_address_goes_to_the_lower_host_name() -> None:
    first, second = on("192.0.2.1", host=2), on("192.0.2.1", host=3)

    assert winner([second, first], HERE) == Verdict(first, Rule.HOST)


def test_a_tie_on_one_host_goes_to_the_lower_port_id() -> None:
    mac = Mac("fa:16:3e:00:00:77")
    first, second = a_claim(a_port("a", mac=mac)), a_claim(a_port("b", mac=mac))

    assert winner([second, first], HERE).winner == first
    assert winner([first, second], HERE).winner == first


def test_any_shared_claim_leaves_the_mac_to_flooding() -> None:
    assert winner([shared(2)], HERE) == Verdict(None, Rule.SHARED)
    assert winner([shared(2), shared(3)], HERE) == Verdict(None, Rule.SHARED)
    assert winner([a_claim(host=3, seq=99), shared(2)], HERE) == Verdict(None, Rule.SHARED)


def test_a_shared_claim_that_is_down_does_not_count() -> None:
    single = a_claim(host=3)

    assert winner([replace(shared(2), status=Status.DOWN), single], HERE) == Verdict(single, Rule.ONLY)


# --- rule 0: what is attached here -------------------------------------------------------------------------------


def test_an_active_port_here_is_delivered_to_whatever_the_others_say() -> None:
    mine, newer = a_claim(host=9, seq=1), a_claim(host=2, seq=2)

    assert winner([mine, newer], HERE) == Verdict(mine, Rule.LOCAL, contested=True)


def test_an_active_port_here_that_would_win_anyway_is_not_contested() -> None:
    mine, older = a_claim(host=9, seq=2), a_claim(host=2, seq=1)

    assert winner([mine, older], HERE) == Verdict(mine, Rule.LOCAL, contested=False)


@pytest.mark.parametrize("how", list(State))
def test_a_shared_port_here_is_one_of_those_that_are_flooded_to(how: State) -> None:
    mine, others = a_claim(a_port(kind=Kind.SHARED, state=how), 9), replace(shared(2), seq=5)

    assert winner([mine], HERE) == Verdict(None, Rule.SHARED, here=(mine,))
    assert winner([mine, others], HERE) == Verdict(None, Rule.SHARED, here=(mine,))


@pytest.mark.parametrize("how", list(State))
def test_a_distributed_router_here_is_delivered_to_in_whatever_state_and_not_contested(how: State) -> None:
    router = a_port(kind=Kind.SHARED, device_owner="network:router_interface_distributed")
    mine, others = a_claim(replace(router, state=how), 9), a_claim(router, 2, seq=5)

    assert winner([mine, others], HERE) == Verdict(mine, Rule.LOCAL, contested=False)
    assert winner([mine, others], ELSEWHERE) == Verdict(None, Rule.SHARED)


def test_a_single_port_here_is_delivered_to_though_another_host_calls_its_mac_shared() -> None:
    mine = a_claim(host=9)

    assert winner([mine, shared(2)], HERE) == Verdict(mine, Rule.LOCAL, contested=False)


def test_a_frozen_mac_is_flooded_here_too_and_contested_where_it_would_lose() -> None:
    mine, newer = a_claim(host=9, seq=1), a_claim(host=2, seq=2)

    assert winner([mine, newer], HERE, frozen=True) == Verdict(None, Rule.FROZEN, contested=True, here=(mine,))
    assert winner([mine, newer], newer.host, frozen=True) == Verdict(None, Rule.FROZEN, here=(newer,))
    assert winner([mine, newer], ELSEWHERE, frozen=True) == Verdict(None, Rule.FROZEN)
    assert winner([mine], HERE, frozen=True) == Verdict(mine, Rule.LOCAL), "nobody to fight with"


@pytest.mark.parametrize("how", [State.PREPARING, State.LEAVING])
def test_a_port_here_that_is_not_active_gives_way(how: State) -> None:
    mine, theirs = state(9, how, seq=5), state(2, State.ACTIVE, seq=1)

    assert winner([mine, theirs], HERE) == Verdict(theirs, Rule.STATE, here=(mine,))


def test_a_destination_of_a_migration_is_delivered_to_once_the_source_has_gone() -> None:
    mine = state(9, State.PREPARING)

    assert winner([mine], HERE) == Verdict(mine, Rule.ONLY)


def test_a_port_here_that_is_down_is_not_delivered_to() -> None:
    theirs = a_claim(host=2)

    assert winner([a_claim(host=9, status=Status.DOWN), theirs], HERE) == Verdict(theirs, Rule.ONLY)


# --- P1 ----------------------------------------------------------------------------------------------------------

_endpoints: st.SearchStrategy[TunnelEndpoint | None] = st.sampled_from(
    [None, *(tunnel_endpoint(text) for text in ("192.0.2.1", "192.0.2.2", "2001:db8::1"))]
)


@st.composite
def rivals(draw: st.DrawFn, kinds: tuple[Kind, ...] = tuple(Kind)) -> list[Claim]:
    """Return claims of one MAC, from pools so small that ties are common; one a host and port."""
    claims = draw(
        st.lists(
            st.builds(
                lambda host, port, kind, how, seq, endpoint, status: Claim(
                    host=HostName(f"hv{host}"),
                    port=a_port(
                        port_id=PortId(port),
                        kind=kind,
                        state=how,
                        mac=Mac("fa:16:3e:00:00:01"),
                        network_id=NetworkId("n"),
                    ),
                    tunnel_ip=endpoint,
                    status=status,
                    session="s",
                    seq=seq,
                    revision=1,
                ),
                st.integers(1, 4),
                st.sampled_from(["p", "q"]),
                st.sampled_from(kinds),
                st.sampled_from(State),
                st.integers(0, 2),
                _endpoints,
                st.sampled_from([Status.ACTIVE, Status.ACTIVE, Status.BUILD, Status.DOWN, Status.ERROR]),
            ),
            max_size=6,
        )
    )
    return list({(claim.host, claim.port.port_id): claim for claim in claims}.values())


@given(rivals(), st.randoms(use_true_random=False))
def test_p1_the_same_claims_have_the_same_winner_in_whatever_order(claims: list[Claim], random: Random) -> None:
    shuffled = list(claims)
    random.shuffle(shuffled)

    for here in (HERE, HostName("hv1")):
        assert winner(shuffled, here) == winner(claims, here)


@given(rivals())
def test_p1_every_host_without_a_port_of_its_own_sees_the_same_winner(claims: list[Claim]) -> None:
    assert winner(claims, HERE) == winner(claims, ELSEWHERE)


@given(rivals())
def test_p1_a_host_with_a_port_of_its_own_differs_only_by_delivering_to_it(claims: list[Claim]) -> None:
    everywhere = winner(claims, HERE)

    for here in {claim.host for claim in claims}:
        verdict = winner(claims, here)
        if verdict.rule is Rule.LOCAL:
            assert verdict.winner is not None
            assert (verdict.winner.host, verdict.winner.port.state) == (here, State.ACTIVE)
            mine = everywhere.winner is not None and everywhere.winner == verdict.winner
            assert verdict.contested is (not mine and everywhere.rule is not Rule.SHARED)
        else:
            assert replace(verdict, here=()) == everywhere
            assert all(claim.host == here for claim in verdict.here)


@given(rivals((Kind.SINGLE,)))
def test_a_winner_is_one_of_the_claims_that_forward_and_there_is_one_if_any_does(claims: list[Claim]) -> None:
    verdict = winner(claims, HERE)

    forwarding = [claim for claim in claims if claim.forwards]
    assert (verdict.winner in forwarding) is bool(forwarding)
    assert (verdict.winner is None) is not bool(forwarding)


@given(rivals((Kind.SINGLE,)))
def test_losers_that_go_change_nothing(claims: list[Claim]) -> None:
    before = winner(claims, HERE).winner

    for loser in claims:
        if loser != before:
            assert winner([claim for claim in claims if claim != loser], HERE).winner == before


@given(rivals((Kind.SINGLE,)))
def test_the_rule_that_is_named_is_the_first_in_which_winner_and_second_differ(claims: list[Claim]) -> None:
    verdict = winner(claims, HERE)
    ranked = sorted((claim for claim in claims if claim.forwards), key=rank)
    if len(ranked) < 2:
        return

    first, second = ranked[:2]
    differs = {
        Rule.STATE: first.port.state != second.port.state,
        Rule.SEQ: first.seq != second.seq,
        Rule.ENDPOINT: first.tunnel_ip != second.tunnel_ip,
        Rule.HOST: True,
    }
    assert verdict.rule is next(rule for rule, different in differs.items() if different)


# --- addresses ---------------------------------------------------------------------------------------------------


def test_the_winner_of_its_mac_answers_for_its_address() -> None:
    claim, loser = a_claim(seq=2), a_claim(host=3, seq=1)

    assert answering([loser, claim], {Mac("fa:16:3e:00:00:01"): claim}) == claim


def test_a_claim_that_has_not_won_its_mac_answers_for_nothing() -> None:
    loser = a_claim(host=3, seq=1)

    assert answering([loser], {Mac("fa:16:3e:00:00:01"): a_claim(seq=2)}) is None
    assert answering([loser], {}) is None


def test_of_two_macs_with_one_address_the_later_attached_answers_in_whatever_order() -> None:
    older = a_claim(a_port("p1"), host=2, seq=1)
    newer = a_claim(a_port("p2", fixed_ips=older.port.fixed_ips), host=3, seq=2)
    winners = {claim.port.mac: claim for claim in (older, newer) if claim.port.mac}

    for order in permutations([older, newer]):
        assert answering(order, winners) == newer


def test_a_tie_over_an_address_goes_to_the_lower_tunnel_address() -> None:
    low = a_claim(a_port("p1"), host=2)
    high = a_claim(a_port("p2", fixed_ips=low.port.fixed_ips), host=3)
    winners = {claim.port.mac: claim for claim in (low, high) if claim.port.mac}

    assert answering([high, low], winners) == low
    assert low.tunnel_ip == an_endpoint(2)


def test_a_claim_without_a_mac_answers_for_nothing() -> None:
    assert answering([a_claim(a_port(mac=None))], {}) is None
