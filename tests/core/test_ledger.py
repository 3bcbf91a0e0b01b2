"""One bridge's account: wanted, installed, owed; refused, inherited and spared."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.tables import OWN
from portwatch.model import Mac, OfPort
from portwatch.openflow import actions, fields
from portwatch.openflow.flow import Flow, GroupKey, Item
from portwatch.openflow.ledger import Drift, Ledger
from tests.core.switch import Switch
from tests.core.test_bundle import a_flow, a_group, a_learned_flow, a_purge, a_switch, table, to_group

ONE, TWO, THREE = a_flow(1), a_flow(2), a_flow(3)


def a_ledger(*held: Item, spare: Iterable[Item] = ()) -> Ledger:
    """Return a ledger that has read *held* back from its switch and spares *spare*."""
    spared = set(spare)
    ledger = Ledger(OWN, spare=spared.__contains__)
    ledger.read_back(held)
    return ledger


def commit(ledger: Ledger, switch: Switch | None = None) -> list[str]:
    """Take what is owed and commit it; return what was done to which table or group."""
    bundle = ledger.take()
    if switch:
        switch.commit(bundle.text())
    ledger.committed()
    return [" ".join(line.split(" ")[:2]) for line in bundle.text().splitlines()]


# --- wanting -----------------------------------------------------------------------------------------------------


def test_what_is_wanted_is_owed_until_it_is_committed() -> None:
    ledger = a_ledger()

    assert ledger.want("p1", [ONE]) is True
    assert (ledger.owes, ledger.settled) == (True, False)
    assert commit(ledger) == ["flow add"]
    assert (ledger.owes, ledger.settled, ledger.installed) == (False, True, table([ONE]))


def test_wanting_the_same_again_is_no_change() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE, TWO])

    assert ledger.want("p1", [TWO, ONE]) is False


def test_what_its_owner_wants_no_more_goes() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE, TWO])
    commit(ledger)

    assert ledger.want("p1", [TWO]) is True
    assert ledger.wanted == table([TWO])
    assert commit(ledger) == ["flow delete_strict"]


def test_an_owner_that_wants_nothing_leaves_nothing() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    commit(ledger)

    ledger.want("p1", [])
    commit(ledger)

    assert (ledger.wanted, ledger.installed) == ({}, {})


def test_an_item_passes_from_one_owner_to_another_without_going() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    commit(ledger)

    ledger.want("p2", [ONE])
    ledger.want("p1", [])

    assert ledger.wanted == table([ONE])
    assert commit(ledger) == []


def test_an_item_stays_as_long_as_one_of_its_owners_wants_it() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    ledger.want("p2", [ONE])

    ledger.want("p2", [])

    assert ledger.wanted == table([ONE])


def test_an_owners_older_wish_counts_again_when_the_newer_owner_has_gone() -> None:
    older, newer = a_flow(1, actions.output(OfPort(5))), a_flow(1, actions.output(OfPort(6)))
    ledger = a_ledger()
    ledger.want("p1", [older])
    ledger.want("p2", [newer])
    assert ledger.wanted == table([newer])

    ledger.want("p2", [])

    assert ledger.wanted == table([older])


def test_a_change_that_is_taken_back_in_time_costs_nothing() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    commit(ledger)

    ledger.want("p1", [TWO])
    ledger.want("p1", [ONE])

    assert commit(ledger) == []
    assert ledger.settled


def test_many_changes_of_one_item_are_one_modification() -> None:
    ledger = a_ledger()
    for number in range(1, 100):
        ledger.want("p1", [a_flow(1, actions.output(OfPort(number)))])

    assert commit(ledger) == ["flow add"]
    assert ledger.installed == table([a_flow(1, actions.output(OfPort(99)))])


# --- committing --------------------------------------------------------------------------------------------------


def test_what_is_wanted_while_a_bundle_is_in_flight_is_owed_after_it() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    ledger.take()

    ledger.want("p1", [TWO])
    ledger.committed()

    assert ledger.installed == table([ONE])
    assert commit(ledger) == ["flow add", "flow delete_strict"]


def test_one_bundle_at_a_time() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    ledger.take()

    with pytest.raises(AssertionError):
        ledger.take()
    with pytest.raises(AssertionError):
        ledger.read_back([])


def test_a_bundle_that_failed_is_owed_again() -> None:
    ledger = a_ledger(TWO)
    ledger.want("p1", [ONE])
    before = ledger.take().text()

    ledger.failed()

    assert (ledger.owes, ledger.settled, ledger.installed) == (True, False, table([TWO]))
    assert ledger.take().text() == before


def test_a_switch_that_is_lost_is_not_settled_until_it_is_read_back() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    commit(ledger)

    ledger.lost()
    assert (ledger.known, ledger.settled) == (False, False)
    drift = ledger.read_back([])

    assert drift == Drift(missing=1, changed=0, unknown=0)
    assert commit(ledger) == ["flow add"]


def test_a_commit_without_an_answer_is_settled_by_reading_back() -> None:
    for applied in (True, False):
        ledger = a_ledger()
        ledger.want("p1", [ONE])
        ledger.take()
        ledger.lost()

        ledger.read_back([ONE] if applied else [])

        assert commit(ledger) == ([] if applied else ["flow add"])
        assert ledger.settled


# --- reading back ------------------------------------------------------------------------------------------------


def test_reading_back_counts_what_is_missing_changed_and_unknown() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE, TWO])
    commit(ledger)

    drift = ledger.read_back([a_flow(2, actions.POP_VLAN), THREE])

    assert drift == Drift(missing=1, changed=1, unknown=1)
    assert drift.total == 3


def test_drift_is_mended_by_the_next_bundle() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE, TWO])
    commit(ledger)
    switch = a_switch([a_flow(2, actions.POP_VLAN), THREE])

    ledger.read_back(switch.items())
    commit(ledger, switch)

    assert table(switch.items()) == table([ONE, TWO])


def test_reading_back_what_is_wanted_owes_nothing() -> None:
    ledger = Ledger(OWN)
    ledger.want("p1", [ONE])

    ledger.read_back([ONE])

    assert (ledger.owes, ledger.settled) == (False, True)


# --- what the switch refuses -------------------------------------------------------------------------------------


def refuse(ledger: Ledger, item: Item) -> None:
    bundle = ledger.take()
    ledger.failed()
    ledger.refuse(next(mod for mod in bundle.mods if mod.key == item.key), "OFPBAC_BAD_TYPE")


def test_what_the_switch_refuses_is_set_aside_and_the_rest_goes_in() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE, TWO])

    refuse(ledger, TWO)

    assert commit(ledger) == ["flow add"]
    assert (ledger.installed, ledger.settled) == (table([ONE]), True)


def test_the_owner_of_what_was_refused_hears_why() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    ledger.want("p2", [TWO])

    refuse(ledger, TWO)

    assert ledger.refusal("p1") is None
    assert ledger.refusal("p2") == "OFPBAC_BAD_TYPE"


def test_what_was_refused_is_tried_again_when_it_is_wanted_otherwise() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    refuse(ledger, ONE)
    assert commit(ledger) == []

    ledger.want("p1", [a_flow(1, actions.POP_VLAN)])

    assert ledger.refusal("p1") is None
    assert commit(ledger) == ["flow add"]


def test_what_was_refused_is_not_tried_again_at_every_turn() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    refuse(ledger, ONE)

    ledger.want("p2", [TWO])
    assert commit(ledger) == ["flow add"]
    ledger.read_back([TWO])

    assert commit(ledger) == []


def test_what_was_refused_is_tried_again_on_demand() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    refuse(ledger, ONE)
    commit(ledger)

    ledger.retry_refused()

    assert commit(ledger) == ["flow add"]
    assert ledger.refusal("p1") is None


def test_what_was_refused_and_is_wanted_no_more_is_forgotten() -> None:
    ledger = a_ledger()
    ledger.want("p1", [ONE])
    refuse(ledger, ONE)

    ledger.want("p1", [])
    commit(ledger)

    assert ledger.settled
    assert ledger.refusal("p1") is None
    assert ledger.want("p1", [ONE]) is True
    assert commit(ledger) == ["flow add"]


# --- what the process before us left -----------------------------------------------------------------------------


def test_what_an_earlier_process_left_and_nobody_wants_goes() -> None:
    ledger = a_ledger(ONE, a_group(1))

    assert commit(ledger) == ["flow delete_strict", "group delete"]
    assert ledger.settled


def test_what_must_be_spared_stays_until_it_is_reconsidered() -> None:
    spared = {ONE}
    ledger = Ledger(OWN, spare=spared.__contains__)
    ledger.read_back([ONE, TWO])

    assert commit(ledger) == ["flow delete_strict"]
    assert (ledger.installed, ledger.settled, list(ledger.spared)) == (table([ONE]), True, [ONE])

    spared.clear()
    ledger.reconsider()

    assert commit(ledger) == ["flow delete_strict"]
    assert (ledger.installed, list(ledger.spared)) == ({}, [])


def test_what_was_spared_and_is_wanted_after_all_was_never_gone() -> None:
    ledger = a_ledger(ONE, spare=[ONE])
    assert commit(ledger) == []

    ledger.want("p1", [ONE])

    assert commit(ledger) == []
    assert (ledger.settled, list(ledger.spared)) == (True, [])


def test_what_was_once_wanted_by_us_is_spared_no_more() -> None:
    ledger = a_ledger(ONE, spare=[ONE])
    ledger.want("p1", [ONE])
    commit(ledger)

    ledger.want("p1", [])

    assert commit(ledger) == ["flow delete_strict"]


def test_what_serves_many_is_spared_also_when_one_of_them_has_come_and_gone() -> None:
    ledger = Ledger(OWN, spare=[ONE, TWO].__contains__, joint=[ONE].__contains__)
    ledger.want("p1", [ONE, TWO])
    ledger.read_back([ONE, TWO])

    ledger.want("p1", [])

    assert commit(ledger) == ["flow delete_strict"]
    assert (ledger.installed, ledger.spared) == (table([ONE]), [ONE])


def test_a_spared_flow_that_is_wanted_otherwise_changes_at_once() -> None:
    ledger = a_ledger(ONE, spare=[ONE])
    commit(ledger)

    ledger.want("p1", [after := a_flow(1, actions.POP_VLAN)])

    assert commit(ledger) == ["flow add"]
    assert ledger.installed == table([after])


def test_only_what_an_earlier_process_left_is_ever_spared() -> None:
    ledger = a_ledger(spare=[ONE])
    ledger.want("p1", [ONE])
    commit(ledger)

    ledger.want("p1", [])

    assert commit(ledger) == ["flow delete_strict"]


def test_a_spared_group_keeps_its_old_members_beside_the_new_ones() -> None:
    """Not all that are in the network may have been heard of yet: nobody is cut off meanwhile."""
    left = a_group(1, 2)
    switch = a_switch([left, to_group()])
    spared: set[Item] = {left, a_group(1, 2, 3)}
    ledger = Ledger(OWN, spare=spared.__contains__)
    ledger.read_back(switch.items())

    ledger.want("blue", [a_group(2, 3), to_group()])
    commit(ledger, switch)
    assert switch.groups == {GroupKey(7): a_group(1, 2, 3)}

    spared.clear()
    ledger.reconsider()
    commit(ledger, switch)
    assert switch.groups == {GroupKey(7): a_group(2, 3)}


def test_a_group_that_was_wanted_before_the_switch_was_read_keeps_its_old_members_too() -> None:
    left, both = a_group(1), a_group(1, 2)
    ledger = Ledger(OWN, spare={left, both}.__contains__)
    ledger.want("blue", [a_group(2)])

    ledger.read_back([left])
    commit(ledger)

    assert ledger.installed == table([both])


def test_a_flow_that_was_wanted_before_the_switch_was_read_is_spared_no_more() -> None:
    ledger = Ledger(OWN, spare={ONE}.__contains__)
    ledger.want("p1", [ONE])
    ledger.read_back([ONE])

    ledger.want("p1", [])

    assert commit(ledger) == ["flow delete_strict"]


def test_what_turns_up_at_a_later_reading_was_not_left_by_an_earlier_process() -> None:
    ledger = a_ledger(spare=[ONE])

    ledger.read_back([ONE])

    assert commit(ledger) == ["flow delete_strict"]


def test_what_was_left_and_has_gone_is_spared_no_more_should_it_turn_up_again() -> None:
    ledger = a_ledger(ONE, spare=[ONE])
    assert commit(ledger) == []

    ledger.read_back([])
    assert not ledger.spares
    ledger.read_back([ONE])

    assert commit(ledger) == ["flow delete_strict"]


def test_what_goes_says_farewell_to_what_was_learned_from_it() -> None:
    mac = Mac("fa:16:3e:00:00:01")
    ledger = Ledger(OWN, farewell=lambda flow: (a_purge(fields.dl_dst(mac), vlan=1),))
    switch = a_switch([ONE, a_learned_flow(1, mac), a_learned_flow(1, Mac("fa:16:3e:00:00:02"))])
    ledger.read_back([ONE])

    commit(ledger, switch)

    assert [*switch.flows.values()] == [a_learned_flow(1, Mac("fa:16:3e:00:00:02"))]


# --- any story ---------------------------------------------------------------------------------------------------

_wishes = st.tuples(
    st.sampled_from(["p1", "p2", "blue"]),
    st.lists(
        st.sampled_from([ONE, TWO, THREE, a_flow(1, actions.POP_VLAN)]), max_size=3, unique_by=lambda item: item.key
    ),
    st.lists(st.integers(1, 4), max_size=3, unique=True),
)
_turns = st.sampled_from(["commit", "fail", "lose", "lose after commit", "drift", "restart of the switch", "wait"])


def _items(owner: str, flows: list[Flow], members: list[int]) -> list[Item]:
    # each owner has flows and a group of its own, as entries have
    number = {"p1": 1, "p2": 2, "blue": 3}[owner]
    mine: list[Item] = [a_flow(item.key.match[0].endswith("1") + 10 * number, *item.actions) for item in flows[:1]]
    if members:
        group_id = 10 + number
        mine += [a_group(*members, group_id=group_id), a_flow(20 + number, actions.to_group(group_id))]
    return mine


@given(st.lists(st.tuples(_wishes, _turns), max_size=12))
def test_whatever_happens_the_switch_ends_with_what_is_wanted(
    story: list[tuple[tuple[str, list[Flow], list[int]], str]],
) -> None:
    switch, ledger = Switch(), Ledger(OWN)
    ledger.read_back([])

    for (owner, flows, members), turn in story:
        ledger.want(owner, _items(owner, flows, members))
        if turn != "wait":
            _turn(turn, ledger, switch)
    commit(ledger, switch)

    assert table(switch.items()) == ledger.wanted == ledger.installed
    assert ledger.settled


def _turn(turn: str, ledger: Ledger, switch: Switch) -> None:
    bundle = ledger.take().text()
    if turn in ("commit", "lose after commit", "drift", "restart of the switch"):
        switch.commit(bundle)
    if turn == "fail":
        ledger.failed()
    elif turn.startswith("lose"):
        ledger.lost()
        ledger.read_back(switch.items())
    else:
        ledger.committed()
    if turn == "drift" and switch.flows:
        del switch.flows[next(iter(switch.flows))]
    if turn == "restart of the switch":
        switch.forget()
        ledger.lost()
    if turn in ("drift", "restart of the switch"):
        ledger.read_back(switch.items())
