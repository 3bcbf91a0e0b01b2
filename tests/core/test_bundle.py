"""The difference of two tables as a bundle: a strict switch takes it, and holds just what was wanted."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.tables import COOKIE, LEARNED_COOKIE, LEARNT, OWN
from portwatch.model import LocalVlan, Mac, OfPort
from portwatch.openflow import actions, fields, parse
from portwatch.openflow.actions import Action
from portwatch.openflow.bundle import BUCKETS_A_MESSAGE, Bundle, Purge, diff
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Bucket, Flow, FlowKey, Group, GroupKey, Item, ItemKey, flow, group
from tests.core.switch import Switch

MAC = Mac("fa:16:3e:00:00:01")
VLAN = LocalVlan(5)


def a_flow(number: int = 1, *then: Action) -> Flow:
    return flow(COOKIE, 20, 200, (fields.dl_vlan(LocalVlan(number)),), then or (actions.output(OfPort(number)),))


def a_bucket(number: int, port: int | None = None) -> Bucket:
    return Bucket(number, (actions.output(OfPort(port or number)),))


def a_group(*members: int, group_id: int = 7) -> Group:
    return group(group_id, tuple(map(a_bucket, members)))


def to_group(group_id: int = 7) -> Flow:
    return a_flow(1, actions.to_group(group_id))


def table(items: Iterable[Item]) -> dict[ItemKey, Item]:
    return {item.key: item for item in items}


def change(before: Iterable[Item], after: Iterable[Item]) -> Bundle:
    return diff(table(before), table(after), OWN)


def a_purge(*station: Field, vlan: int = 5) -> Purge:
    """Return the farewell to what was learned in a VLAN."""
    return Purge(LEARNT, 20, (fields.learned_vlan(LocalVlan(vlan)), *station))


def lines(bundle: Bundle) -> list[str]:
    return bundle.text().splitlines()


def a_switch(items: Iterable[Item]) -> Switch:
    switch = Switch()
    for item in items:
        if isinstance(item, Flow):
            switch.flows[item.key] = item
        else:
            switch.groups[item.key] = item
    return switch


# --- one change --------------------------------------------------------------------------------------------------


def test_no_difference_is_an_empty_bundle() -> None:
    bundle = change([a_flow(), a_group(1)], [a_flow(), a_group(1)])

    assert not bundle
    assert (len(bundle), bundle.text()) == (0, "")


def test_a_new_flow_is_added() -> None:
    assert lines(change([], [a_flow()])) == [f"flow add {a_flow().text()}"]


def test_a_changed_flow_is_added_again_and_nothing_is_deleted() -> None:
    after = a_flow(1, actions.POP_VLAN)

    assert lines(change([a_flow()], [after])) == [f"flow add {after.text()}"]


def test_a_flow_under_another_cookie_is_added_again() -> None:
    stale = flow(COOKIE + 8, 20, 200, a_flow().key.match, a_flow().actions)

    assert lines(change([stale], [a_flow()])) == [f"flow add {a_flow().text()}"]


def test_a_flow_that_goes_is_deleted_strictly_and_only_if_it_is_ours() -> None:
    (line,) = lines(change([a_flow()], []))

    assert line == "flow delete_strict cookie=0x7077000000000000/0xffff000000000000,table=20,priority=200,dl_vlan=1"


def test_deleting_never_asks_for_the_whole_cookie() -> None:
    """ovs-vswitchd then looks at every flow there is: ten times slower."""
    bundle = diff(table([a_flow()]), {}, OWN, {a_flow().key: (a_purge(),)})

    assert len(bundle) == 2
    assert all("/0xffffffffffffffff" not in line and "/-1" not in line for line in lines(bundle))


def test_adds_come_before_deletes() -> None:
    bundle = change([a_flow(1), a_flow(2)], [a_flow(3), a_flow(4)])

    assert [mod.op for mod in bundle.mods] == ["add", "add", "delete", "delete"]
    assert {mod.key for mod in bundle.mods} == {a_flow(number).key for number in range(1, 5)}


def test_a_group_comes_before_the_flow_that_uses_it() -> None:
    assert [mod.key for mod in change([], [to_group(), a_group(1)]).mods] == [GroupKey(7), to_group().key]


def test_a_group_goes_after_the_flow_that_used_it() -> None:
    assert [mod.key for mod in change([to_group(), a_group(1)], []).mods] == [to_group().key, GroupKey(7)]


def test_a_flow_that_turns_from_one_group_to_another_has_a_group_all_the_time() -> None:
    bundle = change([to_group(7), a_group(1)], [to_group(8), a_group(1, group_id=8)])

    assert [mod.key for mod in bundle.mods] == [GroupKey(8), to_group().key, GroupKey(7)]


def test_a_new_member_of_a_group_is_inserted() -> None:
    assert lines(change([a_group(1)], [a_group(1, 2)])) == [
        "group insert_bucket group_id=7,command_bucket_id=last,bucket=bucket_id:2,actions=output:2"
    ]


def test_a_member_that_goes_is_removed_when_the_flows_have_changed() -> None:
    bundle = change([a_group(1, 2), a_flow(2)], [a_group(2), a_flow(3)])

    assert lines(bundle)[-1] == "group remove_bucket group_id=7,command_bucket_id=1"


def test_one_member_in_and_one_out_is_two_small_changes() -> None:
    assert [line.split(" ")[1] for line in lines(change([a_group(1, 2)], [a_group(2, 3)]))] == [
        "insert_bucket",
        "remove_bucket",
    ]


def test_a_member_that_is_reached_otherwise_makes_the_group_anew() -> None:
    after = group(7, (a_bucket(1), a_bucket(2, port=9)))

    assert lines(change([a_group(1, 2)], [after])) == [f"group add_or_mod {after.text()}"]


def test_a_group_of_anothers_type_under_our_id_is_made_anew() -> None:
    theirs = parse.group("group_id=7,type=select,bucket=bucket_id:1,actions=output:1")

    assert lines(change([theirs], [a_group(1, 2)])) == [f"group add_or_mod {a_group(1, 2).text()}"]


@pytest.mark.parametrize("size", [BUCKETS_A_MESSAGE, BUCKETS_A_MESSAGE + 1, 2500])
@pytest.mark.parametrize("before", [[], [a_group(1)]])
def test_a_large_group_is_built_in_messages_that_openflow_can_carry(size: int, before: list[Item]) -> None:
    after = a_group(*range(1, size + 1))
    switch = a_switch(before)

    bundle = change(before, [after])
    switch.commit(bundle.text())

    assert switch.groups == {after.key: after}
    assert all(line.count("bucket=") <= BUCKETS_A_MESSAGE for line in lines(bundle))
    assert len(bundle) <= -(-size // BUCKETS_A_MESSAGE)


# --- farewell ----------------------------------------------------------------------------------------------------


def a_learned_flow(vlan: int, mac: Mac = MAC) -> Flow:
    return flow(
        LEARNED_COOKIE,
        20,
        100,
        (fields.learned_vlan(LocalVlan(vlan)), fields.dl_dst(mac)),
        (actions.output(OfPort(3)),),
    )


def test_learned_flows_leave_with_the_flow_that_says_farewell_to_them() -> None:
    stays, goes, strangers = a_learned_flow(4), a_learned_flow(5), flow(1, 20, 100, (fields.learned_vlan(VLAN),), ())
    switch = a_switch([a_flow(), stays, goes, strangers])

    switch.commit(diff(table([a_flow()]), {}, OWN, {a_flow().key: (a_purge(),)}).text())

    assert set(switch.flows.values()) == {stays, strangers}


def test_a_farewell_takes_no_flow_that_is_wanted() -> None:
    """A VLAN may go on under another tunnel key: what is programmed for it stays, what was learned for it goes."""
    before, added, kept = a_flow(1), a_flow(5), flow(COOKIE, 20, 200, (fields.dl_vlan(VLAN), fields.dl_dst(MAC)), ())
    switch = a_switch([before, kept, a_learned_flow(5)])
    switch.commit(diff(table([before, kept]), table([added, kept]), OWN, {before.key: (a_purge(),)}).text())

    assert set(switch.flows.values()) == {added, kept}


def test_there_is_no_farewell_to_a_flow_that_stays_or_changes() -> None:
    bundle = diff(table([a_flow()]), table([a_flow(1, actions.POP_VLAN)]), OWN, {a_flow().key: (a_purge(),)})

    assert [line.split(" ")[1] for line in lines(bundle)] == ["add"]


# --- any change --------------------------------------------------------------------------------------------------

_some_groups = st.dictionaries(
    st.integers(1, 3), st.dictionaries(st.integers(1, 5), st.integers(1, 2), min_size=1), max_size=3
).map(
    lambda members: tuple(
        group(group_id, tuple(a_bucket(number, port) for number, port in buckets.items()))
        for group_id, buckets in members.items()
    )
)


@st.composite
def tables(draw: st.DrawFn) -> dict[ItemKey, Item]:
    """Return a table in which no flow refers to a group that is not there."""
    groups = draw(_some_groups)
    ways = [
        actions.output(OfPort(1)),
        actions.output(OfPort(2)),
        *(actions.to_group(each.key.group_id) for each in groups),
    ]
    flows = draw(st.dictionaries(st.integers(1, 6), st.sampled_from(ways), max_size=6))
    return {**table(groups), **table(a_flow(number, way) for number, way in flows.items())}


@given(tables(), tables())
def test_a_strict_switch_takes_every_bundle_and_then_holds_what_is_wanted(
    before: dict[ItemKey, Item], after: dict[ItemKey, Item]
) -> None:
    strangers: list[Item] = [flow(1, 20, 200, (fields.ARP,), (actions.output(OfPort(9)),)), group(99, (a_bucket(1),))]
    switch = a_switch([*before.values(), *strangers])

    switch.commit(diff(before, after, OWN).text())

    assert table(switch.items()) == table([*after.values(), *strangers])


@given(tables(), tables())
def test_a_flow_that_stays_or_changes_is_never_missing_on_the_way(
    before: dict[ItemKey, Item], after: dict[ItemKey, Item]
) -> None:
    staying = {key for key in before.keys() & after.keys() if isinstance(key, FlowKey)}
    switch = a_switch(before.values())

    for line in lines(diff(before, after, OWN)):
        switch.commit(line)
        assert staying <= switch.flows.keys()


@given(tables(), tables())
def test_a_bundle_there_and_the_bundle_back_lead_home(
    before: Mapping[ItemKey, Item], after: Mapping[ItemKey, Item]
) -> None:
    switch = a_switch(before.values())

    switch.commit(diff(before, after, OWN).text())
    switch.commit(diff(after, before, OWN).text())

    assert table(switch.items()) == before


@given(tables(), tables())
def test_a_bundle_names_nothing_that_is_already_as_wanted(
    before: dict[ItemKey, Item], after: dict[ItemKey, Item]
) -> None:
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}

    assert {mod.key for mod in diff(before, after, OWN).mods} == differing
