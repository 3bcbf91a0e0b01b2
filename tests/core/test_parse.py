"""Dump text back to flows and groups: what was sent and what is read back are equal."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.pipeline import Bridge, Policy
from portwatch.fabric.tables import GROUPS
from portwatch.model import GENEVE, GRE, Kind, LocalVlan, NetworkType, OfPort, Vni, fixed_ip, tunnel_endpoint
from portwatch.openflow import actions, fields, parse
from portwatch.openflow.actions import Action
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Bucket, Flow, FlowKey, Group, Item, flow, group
from tests.core.fleet import INT, TUN, Fleet, a_port
from tests.core.strategies import endpoints, macs
from tests.core.switch import Switch

ofports = st.integers(OfPort.LOWEST, OfPort.HIGHEST).map(OfPort)
vlans = st.integers(LocalVlan.LOWEST, LocalVlan.HIGHEST).map(LocalVlan)
vnis = st.integers(Vni.LOWEST, Vni.HIGHEST).map(Vni)
tables = st.integers(0, 254)
addresses = st.ip_addresses(v=4).map(lambda address: IPv4Address(int(address)))
cookies = st.integers(0, 2**64 - 1)

some_fields: st.SearchStrategy[Field] = st.one_of(
    st.sampled_from(
        [
            fields.ARP,
            fields.ARP_REQUEST,
            fields.BROADCAST,
            fields.ICMP6,
            fields.MULTICAST,
            fields.NEIGHBOR_SOLICITATION,
            fields.UNICAST,
            fields.UNTAGGED,
        ]
    ),
    ofports.map(fields.in_port),
    vlans.map(fields.dl_vlan),
    vlans.map(fields.learned_vlan),
    macs.map(fields.dl_src),
    macs.map(fields.dl_dst),
    vnis.map(fields.tun_id),
    endpoints.map(fields.tun_src),
    addresses.map(fields.arp_spa),
    addresses.map(fields.arp_tpa),
)
some_actions: st.SearchStrategy[Action] = st.one_of(
    st.sampled_from([actions.DROP, actions.IN_PORT, actions.POP_VLAN, actions.PUSH_VLAN, *actions.ARP_REPLY]),
    ofports.map(actions.output),
    tables.map(actions.goto_table),
    st.integers(0, 2**32 - 256).map(actions.to_group),
    vlans.map(actions.set_vlan_vid),
    vnis.map(actions.set_tun_id),
    endpoints.map(actions.set_tun_dst),
    macs.map(actions.set_eth_src),
    st.builds(lambda mac, address: actions.set_arp_sender(mac, address)[1], macs, addresses),
    st.builds(
        actions.learn_tunnel_source,
        tables,
        st.integers(0, 65535),
        cookies,
        st.integers(0, 65535),
        st.sampled_from([4, 6]),
    ),
    st.builds(
        actions.learn_source, tables, st.integers(0, 65535), cookies, st.integers(0, 65535), tagged=st.booleans()
    ),
)
flows = st.builds(
    flow,
    cookies,
    tables,
    st.integers(0, 65535),
    st.lists(some_fields, max_size=4, unique_by=lambda field: field.partition("=")[0]).map(tuple),
    st.lists(some_actions, max_size=5).map(tuple),
)
buckets = st.builds(Bucket, st.integers(0, 0xFFFFFF00), st.lists(some_actions, min_size=1, max_size=3).map(tuple))
groups = st.builds(
    group,
    st.integers(0, 2**32 - 256),
    st.lists(buckets, max_size=4, unique_by=lambda bucket: bucket.bucket_id).map(tuple),
)


def a_rich_fabric(family: int, policy: Policy) -> list[tuple[Bridge, Item]]:
    """Return all that is wanted on hv1 of a fabric with ports of every kind."""
    endpoint = {
        number: tunnel_endpoint(f"192.0.2.{number}" if family == 4 else f"2001:db8::{number}") for number in (1, 2, 3)
    }
    fleet = Fleet(3, policy, endpoint)
    for number, network in enumerate(("blue", "red", "blue", "green", "blue"), 1):
        fleet["hv1"].plug(a_port(f"p{number}", network))
        fleet["hv2"].plug(
            a_port(f"p{number + 10}", network, fixed_ips=(fixed_ip(f"10.0.0.{number}"), fixed_ip("fd00::9")))
        )
        fleet["hv3"].plug(a_port(f"p{number + 20}", network))
    fleet["hv1"].plug(a_port("p30", "flat", network_type=NetworkType("flat"), segmentation_id=None))
    fleet["hv3"].plug(a_port("p31", "blue", kind=Kind.SHARED))
    fleet["hv2"].plug(a_port("p31", "blue", kind=Kind.SHARED))
    fleet["hv1"].plug(a_port("p34", "blue", kind=Kind.SHARED))
    fleet["hv1"].plug(a_port("p32", "other", network_type=GENEVE))
    fleet["hv1"].plug(a_port("p33", "old", network_type=GRE))
    fleet.settle()
    return [
        (bridge, item) for bridge, ledger in fleet["hv1"].reactor.ledgers.items() for item in ledger.wanted.values()
    ]


POLICIES = [Policy(), Policy(arp_responder=False, flood_unknown=False)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("family", [4, 6])
def test_whatever_the_pipeline_plans_is_read_back_as_itself(family: int, policy: Policy) -> None:
    planned = a_rich_fabric(family, policy)

    assert len(planned) > 40
    for _, item in planned:
        assert (parse.flow(item.text()) if isinstance(item, Flow) else parse.group(item.text())) == item


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("family", [4, 6])
def test_what_the_switch_prints_of_it_is_read_back_as_itself(family: int, policy: Policy) -> None:
    planned = a_rich_fabric(family, policy)
    for bridge in (INT, TUN):
        items = [item for where, item in planned if where is bridge]
        switch = Switch()
        switch.groups = {item.key: item for item in items if isinstance(item, Group)}
        switch.flows = {item.key: item for item in items if isinstance(item, Flow)}

        assert [*parse.flows(switch.dump_flows())] == [*switch.flows.values()]
        assert [*parse.groups(switch.dump_groups(), GROUPS)] == [*switch.groups.values()]


@given(flows)
def test_every_flow_that_can_be_made_is_read_back_as_itself(made: Flow) -> None:
    assert parse.flow(made.text()) == made


@given(flows)
def test_the_switch_prints_spaces_where_we_write_commas(made: Flow) -> None:
    switch = Switch()
    switch.flows[made.key] = made

    assert [*parse.flows(switch.dump_flows())] == [made]


@given(groups)
def test_every_group_that_can_be_made_is_read_back_as_itself(made: Group) -> None:
    assert parse.group(made.text()) == made
    dump = f"OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):\n {made.text()}\n"
    assert [*parse.groups(dump, [made.key.group_id])] == [made]
    assert [*parse.groups(dump, [])] == []


def test_a_dumps_heading_and_empty_lines_are_no_flows() -> None:
    dump = "OFPST_FLOW reply (OF1.5) (xid=0x2):\n\n cookie=0x1, table=3, priority=7,arp actions=drop\n"

    assert [*parse.flows(dump)] == [flow(1, 3, 7, (fields.ARP,), ())]
    assert [*parse.groups("OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):\n", GROUPS)] == []


def test_others_groups_are_not_read_whatever_they_hold() -> None:
    theirs = " group_id=7,type=select,selection_method=dp_hash,bucket=weight:100,actions=output:1\n group_id=x\n"

    assert [*parse.groups(theirs, GROUPS)] == []


def test_what_the_switch_does_not_print_is_the_default() -> None:
    assert parse.flow(" cookie=0x0, actions=NORMAL") == Flow(0, FlowKey(0, 32768, ()), (Action("NORMAL"),))


@pytest.mark.parametrize(
    "word", ["idle_timeout=5", "hard_timeout=300", "importance=3", "send_flow_rem", "reset_counts"]
)
def test_a_flow_with_a_timeout_or_flag_that_we_never_set_equals_none_of_ours(word: str) -> None:
    ours = parse.flow("cookie=0x1,table=3,priority=7,arp,actions=drop")

    theirs = parse.flow(f" cookie=0x1, table=3, {word}, priority=7,arp actions=drop")

    assert theirs.key == ours.key
    assert theirs != ours


def test_a_learn_action_is_one_action() -> None:
    learn = actions.learn_tunnel_source(20, 100, 2, 300, 4)

    assert parse.flow(f"cookie=0x1,table=10,priority=1,actions={learn},output:2").actions == (learn, "output:2")


@pytest.mark.parametrize("kind", ["select", "indirect", "ff"])
def test_a_group_of_another_type_equals_none_of_ours(kind: str) -> None:
    ours = parse.group("group_id=5,type=all,bucket=bucket_id:1,actions=output:1")

    assert parse.group(f"group_id=5,type={kind},bucket=bucket_id:1,actions=output:1") != ours


@pytest.mark.parametrize("words", ["weight:5", "watch_port:3", "watch_port:3,watch_group:5"])
def test_a_bucket_with_what_we_put_in_none_equals_none_of_ours(words: str) -> None:
    ours = parse.group("group_id=5,type=all,bucket=bucket_id:1,actions=output:1")

    theirs = parse.group(f"group_id=5,type=all,bucket=bucket_id:1,{words},actions=output:1")

    assert theirs.key == ours.key
    assert theirs != ours


@pytest.mark.parametrize(
    "line",
    [
        "",
        "cookie=0x1,table=0",
        "cookie=zz,table=0,priority=1,actions=drop",
        "cookie=0x1,table=x,priority=1,actions=drop",
        "cookie=0x1,table=0,priority=,actions=drop",
    ],
)
def test_a_line_that_is_no_flow_is_an_error_that_holds_it(line: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse.flow(line)

    assert repr(line) in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "type=all,bucket=bucket_id:1,actions=drop",
        "group_id=x,type=all",
        "group_id=5,type=all,bucket=actions=drop",
        "group_id=5,type=all,bucket=bucket_id:x,actions=drop",
        "group_id=5,type=all,bucket=weight:5,actions=drop",
        "group_id=5,type=all,bucket=bucket_id:1,bucket=bucket_id:,actions=drop",
    ],
)
def test_a_line_that_is_no_group_is_an_error_that_holds_it(line: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse.group(line)

    assert repr(line) in str(caught.value)
