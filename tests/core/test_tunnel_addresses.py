"""Two hosts with one tunnel address: who has had it longer keeps it, and what the other says is ignored."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from portwatch.events import LEAVING, OFFLINE, ONLINE, STOPPED, HostStatus, PortUpdated, key_of
from portwatch.fabric.claims import Rule
from portwatch.fabric.tenure import Tenure
from portwatch.fabric.unreached import unreached
from portwatch.model import SEQ_MAX, HostName, Port, TunnelEndpoint
from tests.core.fleet import START, Fleet, Host, a_claim, a_port, an_endpoint

P1, P2, P3 = a_port("p1"), a_port("p2"), a_port("p3")
ADDRESS = an_endpoint(1)
REFUSED = {HostName("hv2"): ADDRESS}


def a_fleet_with_a_double(second: Port | None = P2) -> Fleet:
    """Return hv1 with p1, hv3 with p3, and hv2, which has hv1's tunnel address and came later, with *second*."""
    fleet = Fleet(3, endpoints={2: ADDRESS})
    fleet["hv1"].plug(P1)
    fleet["hv3"].plug(P3)
    fleet.settle()
    if second:
        fleet["hv2"].plug(second)
        fleet.settle()
    return fleet


def sends_to(fleet: Fleet, port: Port, host: str = "hv3") -> str | None:
    """Return whom a host holds for the owner of a port's MAC."""
    assert port.segment
    assert port.mac
    winner = fleet[host].reactor.fabric.verdict(port.segment, port.mac).winner
    return winner.host if winner else None


def renumber(host: Host, endpoint: TunnelEndpoint) -> None:
    """Give a host another tunnel address: its agent is configured anew and starts again."""
    host.stop()
    host.start(endpoint=endpoint)


def test_the_claims_of_a_host_with_anothers_tunnel_address_are_ignored_by_all_and_it_knows() -> None:
    fleet = a_fleet_with_a_double()

    assert (sends_to(fleet, P1), sends_to(fleet, P2)) == ("hv1", None)
    assert {name: host.reactor.fabric.residences.refused for name, host in fleet.hosts.items()} == dict.fromkeys(
        ("hv1", "hv2", "hv3"), REFUSED
    )


def test_it_takes_nothing_from_the_holder_even_with_a_newer_claim() -> None:
    fleet = a_fleet_with_a_double(P1)

    assert sends_to(fleet, P1) == "hv1"
    assert fleet.hears("hv3/p3", str(P1.mac)) >= {"hv1/p1"}


def test_why_is_told() -> None:
    fleet = a_fleet_with_a_double()
    fabric = fleet["hv3"].reactor.fabric

    reasons = {claim.host: unreached(fabric, claim) for claim in fabric.heard.claims.values()}

    assert reasons == {
        "hv1": None,
        "hv2": "hv2 has the tunnel address of hv1, 192.0.2.11: its claims are ignored",
    }


def test_its_own_ports_are_delivered_to_all_the_same() -> None:
    fleet = a_fleet_with_a_double()
    fleet["hv2"].plug(a_port("p5"))
    fleet.settle()

    assert "hv2/p2" in fleet.hears("hv2/p5", str(P2.mac))


@pytest.mark.parametrize("who", ["hv1", "hv2", "hv3"])
@pytest.mark.parametrize("late", [False, True])
def test_a_restart_of_anybody_turns_nothing_round(who: str, late: bool) -> None:  # both ways
    fleet = a_fleet_with_a_double()
    fleet.settle(3600 * late)

    fleet[who].restart()
    fleet.settle()

    assert fleet["hv3"].reactor.fabric.residences.refused == REFUSED


def test_a_holder_that_is_drained_keeps_its_address() -> None:
    fleet = a_fleet_with_a_double()
    said = HostStatus(HostName("hv1"), fleet["hv1"].reactor.identity.session, LEAVING, ADDRESS, tunnel_since=START)

    fleet["hv3"].reactor.seen(said, fleet.clock)

    assert fleet["hv3"].reactor.fabric.residences.refused == REFUSED


@pytest.mark.parametrize("end", [Host.kill, Host.stop])
def test_who_does_not_live_any_more_holds_no_address(end: Callable[[Host], None]) -> None:
    """A host was renamed, say, and the claims under its old name linger."""
    fleet = a_fleet_with_a_double(P1)

    end(fleet["hv1"])
    fleet.settle()

    assert sends_to(fleet, P1) == "hv2"
    assert fleet["hv3"].reactor.fabric.residences.refused == {HostName("hv1"): ADDRESS}


def test_an_address_that_was_lost_with_a_last_will_is_not_taken_back() -> None:
    fleet = a_fleet_with_a_double()
    fleet["hv1"].kill()
    fleet.settle()

    fleet["hv1"].start()
    fleet.settle()

    assert fleet["hv3"].reactor.fabric.residences.refused == {HostName("hv1"): ADDRESS}
    assert sends_to(fleet, P2) == "hv2"


@pytest.mark.parametrize("who", ["hv1", "hv2"])
def test_another_address_heals_it(who: str) -> None:
    fleet = a_fleet_with_a_double()

    renumber(fleet[who], an_endpoint(9))
    fleet.settle()

    assert [host.reactor.fabric.residences.refused for host in fleet.hosts.values()] == [{}, {}, {}]
    assert (sends_to(fleet, P1), sends_to(fleet, P2)) == ("hv1", "hv2")
    assert fleet.hears("hv3/p3", str(P2.mac)) == {"hv2/p2"}


def test_claims_that_still_name_the_address_that_their_host_has_left_do_not_count() -> None:
    fleet = a_fleet_with_a_double()
    moved = HostStatus(HostName("hv1"), "s9", ONLINE, an_endpoint(9), tunnel_since=START)

    fleet["hv3"].reactor.seen(moved, fleet.clock)

    assert fleet["hv3"].reactor.fabric.residences.refused == {HostName("hv1"): ADDRESS}
    assert (sends_to(fleet, P1), sends_to(fleet, P2)) == (None, "hv2")


def test_it_heals_when_the_last_port_of_either_has_gone() -> None:
    fleet = a_fleet_with_a_double()

    fleet["hv1"].unplug("p1")
    fleet.settle()

    assert fleet["hv3"].reactor.fabric.residences.refused == {}
    assert sends_to(fleet, P2) == "hv2"


def test_it_heals_when_an_operator_forgets_the_holder() -> None:
    fleet = a_fleet_with_a_double()

    fleet["hv3"].reactor.forgot(HostName("hv1"))

    assert fleet["hv3"].reactor.fabric.residences.refused == {HostName("hv1"): ADDRESS}


def test_of_hosts_that_nothing_is_known_of_nobody_is_refused() -> None:
    fleet = a_fleet_with_a_double()

    for name in ("hv1", "hv2"):
        fleet["hv3"].reactor.forgot(HostName(name))

    assert fleet["hv3"].reactor.fabric.residences.refused == {}
    assert (sends_to(fleet, P1), sends_to(fleet, P2)) == ("hv1", "hv2")


def test_a_host_that_is_gone_for_too_long_does_not_count_whoever_holds_its_address() -> None:
    fleet = a_fleet_with_a_double()
    fabric = fleet["hv3"].reactor.fabric
    fabric.dismiss(HostName("hv2"))
    fabric.resides(HostName("hv1"), None)
    assert sends_to(fleet, P2) is None

    fabric.readmit(HostName("hv2"))

    assert sends_to(fleet, P2) == "hv2"


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_p2_the_order_of_what_is_heard_does_not_matter(order: tuple[int, ...]) -> None:
    fleet = Fleet(3)
    fleet["hv3"].plug(P3)
    fleet.settle()
    reactor = fleet["hv3"].reactor
    older, newer = HostName("hv7"), HostName("hv6")
    claims = [a_claim(P1, 7, tunnel_ip=ADDRESS), a_claim(P1, 6, tunnel_ip=ADDRESS, seq=SEQ_MAX)]
    statuses = [
        HostStatus(older, claims[0].session, ONLINE, ADDRESS, started_at=START + timedelta(1), tunnel_since=START),
        HostStatus(newer, claims[1].session, ONLINE, ADDRESS, started_at=START + timedelta(seconds=1)),
    ]

    for number in order:
        if number < 2:
            reactor.heard(PortUpdated(claims[number]), fleet.now, fleet.clock)
        else:
            reactor.seen(statuses[number - 2], fleet.clock)
        fleet.carry_out(fleet["hv3"])
        fleet.check()

    assert sends_to(fleet, P1) == "hv7"
    assert reactor.fabric.residences.refused == {newer: ADDRESS}
    reactor.fabric.withdraw(key_of(claims[0]))
    assert reactor.fabric.residences.refused == {}
    assert reactor.fabric.verdict(P1.segment, P1.mac).rule is Rule.ONLY  # type: ignore[arg-type]  # both are known


def test_of_two_that_have_had_it_equally_long_the_lower_name_holds_it() -> None:
    fleet = a_fleet_with_a_double()
    for name in ("hv2", "hv1"):
        fleet["hv3"].reactor.seen(HostStatus(HostName(name), "s", ONLINE, ADDRESS), fleet.clock)

    assert fleet["hv3"].reactor.fabric.residences.refused == REFUSED


# --- since when --------------------------------------------------------------------------------------------------


def a_tenure(started_at: datetime = START) -> Tenure:
    tenure = Tenure("ours", started_at, ADDRESS)
    tenure.announce()
    return tenure


def a_predecessor(state: str = STOPPED, **changes: object) -> HostStatus:
    known: dict[str, object] = {"tunnel_ip": ADDRESS, "tunnel_since": START - timedelta(days=9)}
    return HostStatus(HostName("hv1"), "theirs", state, **{**known, **changes})  # type: ignore[arg-type]  # a builder


def test_a_tunnel_address_is_held_since_the_start_if_nobody_had_it_before() -> None:
    assert a_tenure().tunnel_since == START


@pytest.mark.parametrize("state", [STOPPED, ONLINE, LEAVING])
def test_a_tunnel_address_is_held_since_the_process_before_us_held_it(state: str) -> None:
    tenure = a_tenure()

    tenure.hear(a_predecessor(state))

    assert tenure.tunnel_since == START - timedelta(days=9)


@pytest.mark.parametrize(
    "predecessor",
    [
        a_predecessor(OFFLINE),
        a_predecessor(tunnel_ip=an_endpoint(9)),
        a_predecessor(tunnel_since=None),
        a_predecessor(tunnel_since=START + timedelta(days=1)),
    ],
)
def test_nothing_is_inherited_of_a_last_will_or_of_another_address(predecessor: HostStatus) -> None:
    tenure = a_tenure()

    tenure.hear(predecessor)

    assert tenure.tunnel_since == START


def test_what_is_said_under_our_name_after_our_announcement_is_no_predecessors() -> None:
    tenure = a_tenure()
    tenure.hear(replace(a_predecessor(ONLINE), session="ours"))

    tenure.hear(a_predecessor())

    assert tenure.tunnel_since == START
