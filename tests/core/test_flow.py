"""Flows, groups and their text: what goes to the switch, letter by letter."""

from hypothesis import given
from hypothesis import strategies as st

from portwatch.model import LocalVlan, Mac, OfPort, Vni, tunnel_endpoint
from portwatch.openflow import actions, fields
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Bucket, FlowKey, GroupKey, flow, group

MAC = Mac("fa:16:3e:00:00:01")
V4, V6 = tunnel_endpoint("192.0.2.12"), tunnel_endpoint("2001:db8::12")
FIELDS = (
    fields.ARP,
    fields.tun_id(Vni(7)),
    fields.tun_src(V4),
    fields.in_port(OfPort(5)),
    fields.dl_vlan(LocalVlan(1)),
    fields.dl_dst(MAC),
)


def test_a_flow_is_cookie_table_priority_match_and_actions() -> None:
    made = flow(0x7077_0000_0000_0001, 4, 200, (fields.tun_id(Vni(7)),), (actions.PUSH_VLAN, actions.goto_table(10)))

    assert made.text() == (
        "cookie=0x7077000000000001,table=4,priority=200,tun_id=0x7,actions=push_vlan:0x8100,goto_table:10"
    )
    assert (made.key, made.table) == (FlowKey(4, 200, (fields.tun_id(Vni(7)),)), 4)


def test_a_flow_without_actions_drops() -> None:
    assert flow(1, 0, 5, (), ()).text() == "cookie=0x1,table=0,priority=5,actions=drop"


@given(st.permutations(FIELDS))
def test_a_match_is_in_the_switchs_order_however_it_was_made(match: list[Field]) -> None:
    assert flow(1, 0, 5, tuple(match), ()).key.match == FIELDS


def test_flows_are_the_same_flow_by_table_priority_and_match_and_equal_by_all() -> None:
    one = flow(1, 0, 5, (fields.ARP,), (actions.output(OfPort(5)),))

    assert flow(1, 0, 5, (fields.ARP,), ()).key == one.key
    assert flow(1, 0, 5, (fields.ARP,), ()) != one
    assert flow(2, 0, 5, (fields.ARP,), (actions.output(OfPort(5)),)) != one
    assert len({one.key, flow(1, 1, 5, (fields.ARP,), ()).key, flow(1, 0, 6, (fields.ARP,), ()).key}) == 3


def test_a_groups_buckets_are_in_the_order_of_their_ids() -> None:
    near, far = Bucket(1, (actions.output(OfPort(1)),)), Bucket(2, (actions.output(OfPort(2)),))

    assert group(5, (far, near)) == group(5, (near, far))
    assert group(5, (far, near)).key == GroupKey(5)
    assert group(5, (far, near)).text() == (
        "group_id=5,type=all,bucket=bucket_id:1,actions=output:1,bucket=bucket_id:2,actions=output:2"
    )


def test_an_empty_group_has_no_buckets() -> None:
    assert group(5, ()).text() == "group_id=5,type=all"
