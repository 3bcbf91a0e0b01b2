"""Actions, letter by letter."""

from ipaddress import IPv4Address

import pytest

from portwatch.model import LocalVlan, Mac, OfPort, Vni, tunnel_endpoint
from portwatch.openflow import actions
from portwatch.openflow.actions import Action

MAC = Mac("fa:16:3e:00:00:01")
V4, V6 = tunnel_endpoint("192.0.2.12"), tunnel_endpoint("2001:db8::12")


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (actions.note_who_answers(MAC, router=False), "set_field:0xfa163e000001->xreg0,set_field:0x60000000->reg2"),
        (actions.note_who_answers(MAC, router=True), "set_field:0xfa163e000001->xreg0,set_field:0xe0000000->reg2"),
        ((actions.resubmit(22),), "resubmit(,22)"),
        ((actions.output(OfPort(5)),), "output:5"),
        ((actions.goto_table(41),), "goto_table:41"),
        ((actions.to_group(0x70770001),), "group:1886846977"),
        ((actions.PUSH_VLAN, actions.set_vlan_vid(LocalVlan(5))), "push_vlan:0x8100,set_field:4101->vlan_vid"),
        ((actions.POP_VLAN,), "pop_vlan"),
        ((actions.set_tun_id(Vni(100)),), "set_field:0x64->tun_id"),
        ((actions.set_tun_dst(V4),), "set_field:192.0.2.12->tun_dst"),
        ((actions.set_tun_dst(V6),), "set_field:2001:db8::12->tun_ipv6_dst"),
        ((actions.set_eth_src(MAC),), "set_field:fa:16:3e:00:00:01->eth_src"),
        (
            actions.set_arp_sender(MAC, IPv4Address("10.0.0.1")),
            "set_field:fa:16:3e:00:00:01->arp_sha,set_field:10.0.0.1->arp_spa",
        ),
        ((actions.IN_PORT,), "IN_PORT"),
    ],
)
def test_an_action_is_spelt_as_the_switch_prints_it(made: tuple[Action, ...], text: str) -> None:
    assert ",".join(made) == text


@pytest.mark.parametrize(("version", "family"), [(4, "IPV4"), (6, "IPV6")])
def test_learning_writes_the_way_back_to_the_tunnel_endpoint(version: int, family: str) -> None:
    learn = actions.learn_tunnel_source(20, 100, 0x7077_0000_0000_0002, 300, version)

    assert learn == (
        "learn(table=20,hard_timeout=300,priority=100,cookie=0x7077000000000002,"
        "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],"
        f"load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],load:NXM_NX_TUN_{family}_SRC[]->NXM_NX_TUN_{family}_DST[],"
        "output:OXM_OF_IN_PORT[])"
    )


@pytest.mark.parametrize(("tagged", "untag"), [(True, ""), (False, "load:0->NXM_OF_VLAN_TCI[],")])
def test_learning_writes_the_way_back_to_the_port(untag: str, *, tagged: bool) -> None:
    assert actions.learn_source(41, 100, 0x7077_0000_0000_0002, 300, tagged=tagged) == (
        "learn(table=41,hard_timeout=300,priority=100,cookie=0x7077000000000002,"
        f"NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],{untag}output:OXM_OF_IN_PORT[])"
    )
