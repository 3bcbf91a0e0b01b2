"""For which addresses is answered here, by which flows, and that what a datapath cannot do stands apart."""

from dataclasses import replace
from uuid import UUID

import pytest

from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.fabric import Fabric
from portwatch.fabric.keys import Base, Neighbor
from portwatch.fabric.neighbors import advertisement, is_optional, unanswered
from portwatch.fabric.pipeline import Policy, plan
from portwatch.fabric.tables import COOKIE, OWN, TUN_ADVERTISE, programmed
from portwatch.model import (
    VXLAN,
    AddressPair,
    Claim,
    HostName,
    Kind,
    Mac,
    NetworkId,
    OfPort,
    Port,
    PortId,
    Segment,
    State,
    Status,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from portwatch.openflow import parse
from portwatch.openflow.flow import Flow, Item
from portwatch.openflow.ledger import Ledger
from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.picture import Picture

BLUE = Segment(NetworkId("blue"), VXLAN, Vni(100))
CAPABLE = SwitchPorts(OfPort(1), OfPort(2), ((VXLAN, OfPort(3)),), nd_extensions=True)
INCAPABLE = replace(CAPABLE, nd_extensions=False)


def a_port(number: int, **changes: object) -> Port:
    """Return a port of blue with two addresses; say only what matters."""
    known: dict[str, object] = {
        "network_id": BLUE.network_id,
        "segmentation_id": BLUE.vni,
        "mac": Mac(f"fa:16:3e:00:00:0{number}"),
        "fixed_ips": (fixed_ip(f"10.0.0.{number}"), fixed_ip(f"fd00::{number}")),
    }
    return Port(PortId(f"p{number}"), **{**known, **changes})  # type: ignore[arg-type]  # of the right types


def a_claim(port: Port, host: int, seq: int = 1) -> Claim:
    endpoint = tunnel_endpoint(f"192.0.2.1{host}")
    return Claim(HostName(f"hv{host}"), port, endpoint, Status.ACTIVE, f"session-of-hv{host}", seq, 1)


def a_fabric(*remote: Claim, here: Port | None = None, ports: SwitchPorts = CAPABLE) -> Fabric:
    """Return what hv1 knows: p1 is plugged in here, and *here*; the others' claims are *remote*."""
    fabric = Fabric(HostName("hv1"), tunnel_endpoint("192.0.2.11"))
    fabric.set_ports(ports)
    fabric.attach(a_claim(a_port(1), 1), OfPort(10))
    for claim in remote:
        fabric.feed(claim)
    if here:
        fabric.attach(a_claim(here, 1), OfPort(11))
    return fabric


def answers(fabric: Fabric, address: str, policy: Policy | None = None) -> list[str]:
    """Return the flows that answer for an address, without our cookie."""
    planned = plan(fabric, policy or Policy(), Neighbor(BLUE, fixed_ip(address)))
    return [item.text().removeprefix(f"cookie={COOKIE:#x},") for _, item in planned]


# --- for which addresses -----------------------------------------------------------------------------------------


def test_a_remote_address_is_one_flow_that_says_who_answers() -> None:
    assert answers(a_fabric(a_claim(a_port(2), 2)), "fd00::2") == [
        "table=21,priority=200,icmp6,dl_vlan=1,icmp_type=135,nd_target=fd00::2,"
        "actions=set_field:0xfa163e000002->xreg0,set_field:0x60000000->reg2,goto_table:24"
    ]


def test_a_router_says_that_it_is_one() -> None:
    router = a_port(2, device_owner="network:router_interface")

    (flow,) = answers(a_fabric(a_claim(router, 2)), "fd00::2")

    assert "set_field:0xe0000000->reg2" in flow


def test_an_address_here_is_not_answered_for() -> None:
    assert answers(a_fabric(a_claim(a_port(2), 2)), "fd00::1") == []


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_an_address_of_a_port_here_is_left_to_it_even_while_another_host_has_it(address: str) -> None:
    """A migration's destination, not active yet: the guest must be able to check its own address."""
    arriving = a_port(2, state=State.PREPARING)

    assert answers(a_fabric(a_claim(a_port(2), 2)), address) != []
    assert answers(a_fabric(a_claim(a_port(2), 2), here=arriving), address) == []


def test_an_address_of_a_shared_port_is_not_answered_for() -> None:
    assert answers(a_fabric(a_claim(a_port(2, kind=Kind.SHARED), 2)), "fd00::2") == []


def test_an_address_of_a_pair_is_not_answered_for() -> None:
    paired = a_port(2, allowed_address_pairs=(AddressPair.parse("fd00::9"),))

    assert answers(a_fabric(a_claim(paired, 2)), "fd00::9") == []


def test_of_two_that_have_an_address_the_higher_seq_answers() -> None:
    rivals = [a_claim(a_port(n, fixed_ips=(fixed_ip("fd00::9"),)), n, seq=n) for n in (2, 3)]

    (flow,) = answers(a_fabric(*rivals), "fd00::9")

    assert "fa163e000003" in flow


# --- who wants it, and what can it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "ports", "answered"),
    [
        (None, CAPABLE, True),
        (None, INCAPABLE, False),
        (True, INCAPABLE, True),
        (True, CAPABLE, True),
        (False, CAPABLE, False),
    ],
)
def test_auto_asks_the_datapath_and_a_plain_word_does_not(
    wanted: bool | None,
    ports: SwitchPorts,
    answered: bool,
) -> None:
    fabric, policy = a_fabric(a_claim(a_port(2), 2), ports=ports), Policy(nd_responder=wanted)
    base = [item for _, item in plan(fabric, policy, Base())]

    assert bool(answers(fabric, "fd00::2", policy)) is answered
    assert any(is_optional(item.key) for item in base) is answered
    assert unanswered() in base, "always: entries may outlive the rest"
    assert answers(fabric, "10.0.0.2", policy), "ARP is another matter"


def test_arp_and_neighbour_discovery_are_turned_off_apart() -> None:
    fabric, policy = a_fabric(a_claim(a_port(2), 2)), Policy(arp_responder=False)

    assert answers(fabric, "10.0.0.2", policy) == []
    assert answers(fabric, "fd00::2", policy) != []


def test_a_datapath_that_can_touches_everything() -> None:
    fabric = a_fabric(a_claim(a_port(2), 2), ports=INCAPABLE)

    assert {Base(), Neighbor(BLUE, fixed_ip("fd00::2"))} <= fabric.set_ports(CAPABLE)


# --- the advertisement -------------------------------------------------------------------------------------------


def test_an_advertisement_is_made_in_two_passes() -> None:
    assert [flow.text().removeprefix(f"cookie={COOKIE:#x},") for flow in (unanswered(), *advertisement())] == [
        "table=24,priority=1,actions=resubmit(,22)",
        "table=24,priority=200,icmp6,ipv6_dst=ff02::1:ff00:0/104,nw_ttl=255,icmp_type=135,actions="
        "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:OXM_OF_PKT_REG0[0..47]->NXM_OF_ETH_SRC[],"
        "move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],"
        "set_field:136->icmpv6_type,move:NXM_NX_REG2[]->ERICOXM_OF_ICMPV6_ND_RESERVED[],"
        "set_field:2->nd_options_type,resubmit(,24)",
        "table=24,priority=200,icmp6,icmp_type=136,actions=move:OXM_OF_PKT_REG0[0..47]->NXM_NX_ND_TLL[],IN_PORT",
        "table=24,priority=300,icmp6,icmp_type=135,nd_sll=00:00:00:00:00:00,actions=resubmit(,22)",
        "table=24,priority=400,icmp6,ipv6_src=::,ipv6_dst=ff02::1:ff00:0/104,nw_ttl=255,icmp_type=135,actions="
        "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:OXM_OF_PKT_REG0[0..47]->NXM_OF_ETH_SRC[],"
        "set_field:ff02::1->ipv6_dst,move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],"
        "set_field:136->icmpv6_type,IN_PORT",
    ]


def test_it_is_read_back_as_it_was_written() -> None:
    flows: list[Flow] = [unanswered(), *advertisement()]

    assert [parse.flow(flow.text()) for flow in flows] == flows


# --- a bundle of its own -----------------------------------------------------------------------------------------

ENTRY: Item = programmed(20, 200, (), ())
ANOTHER: Item = programmed(22, 200, (), ())


def a_ledger(*held: Item) -> Ledger:
    ledger = Ledger(OWN, optional=is_optional)
    ledger.read_back(held)
    return ledger


def tables(ledger: Ledger) -> list[set[str]]:
    """Commit until nothing is owed; return the tables that each bundle touched."""
    touched = []
    while ledger.owes:
        bundle = ledger.take()
        ledger.committed()
        touched.append(
            {word for line in bundle.text().split() for word in line.split(",") if word.startswith("table=")}
        )
    return touched


def test_what_the_datapath_may_be_unable_to_do_comes_last_and_alone() -> None:
    ledger = a_ledger()
    ledger.want("base", [unanswered(), *advertisement(), ENTRY])
    ledger.want("entry", [ANOTHER])

    assert tables(ledger) == [{"table=20", "table=22", f"table={TUN_ADVERTISE}"}, {f"table={TUN_ADVERTISE}"}]
    assert ledger.settled


def test_it_goes_alone_too() -> None:
    ledger = a_ledger(*advertisement(), ENTRY)

    ledger.want("entry", [])

    assert tables(ledger) == [{"table=20"}, {f"table={TUN_ADVERTISE}"}]
    assert ledger.installed == {}


def test_refused_it_takes_nothing_with_it() -> None:
    ledger = a_ledger()
    ledger.want("base", [*advertisement(), ENTRY])
    ledger.take()
    ledger.committed()

    bundle = ledger.take()
    ledger.failed()
    for mod in bundle.mods:
        ledger.refuse(mod, "OFPBAC_BAD_SET_ARGUMENT")
    ledger.take()
    ledger.committed()

    assert ledger.settled
    assert list(ledger.installed.values()) == [ENTRY]
    assert len(ledger.refused) == len(bundle)


def test_what_comes_after_it_does_not_wait_for_it() -> None:
    ledger = a_ledger()
    ledger.want("base", advertisement())
    ledger.want("entry", [ENTRY])

    assert "table=20," in ledger.take().text()


# --- what the datapath can ---------------------------------------------------------------------------------------

SWITCH, KERNEL, USERSPACE, BRIDGE = map(UUID, map("{:032x}".format, range(4)))


def a_row(table: str, uuid: UUID, **columns: object) -> RowChange:
    return RowChange(table, uuid, columns)


def a_picture(*rows: RowChange) -> Picture:
    picture = Picture("br-int", "br-tun")
    picture.apply([_bridge("netdev"), *rows], 0.0, whole=True)
    return picture


def _bridge(datapath_type: str) -> RowChange:
    columns = {"ports": frozenset(), "fail_mode": "secure", "protocols": frozenset()}
    return a_row("Bridge", BRIDGE, name="br-tun", datapath_type=datapath_type, **columns)


BOTH = a_row("Open_vSwitch", SWITCH, external_ids={}, datapaths={"system": KERNEL, "netdev": USERSPACE})
CAN, CANNOT = {"nd_ext": "true"}, {"nd_ext": "false"}


def test_it_is_asked_of_the_datapath_beneath_our_bridges() -> None:
    rows = (BOTH, a_row("Datapath", USERSPACE, capabilities=CAN), a_row("Datapath", KERNEL, capabilities=CANNOT))
    picture = a_picture(*rows)

    assert (picture.capabilities, picture.switch_ports.nd_extensions) == (CAN, True)
    change = picture.apply([_bridge("")], 0.0)
    assert change.switch
    assert (picture.capabilities, picture.switch_ports.nd_extensions) == (CANNOT, False)


def test_rows_may_come_in_any_order_and_the_last_one_is_news() -> None:
    picture = a_picture()
    assert not picture.switch_ports.nd_extensions

    assert not picture.apply([a_row("Datapath", USERSPACE, capabilities=CAN)], 0.0).switch
    assert picture.apply([BOTH], 0.0).switch
    assert picture.switch_ports.nd_extensions


def test_it_is_news_when_the_datapath_says_otherwise_or_nothing_any_more() -> None:
    picture = a_picture(BOTH, a_row("Datapath", USERSPACE, capabilities={}))
    assert not picture.switch_ports.nd_extensions

    assert picture.apply([a_row("Datapath", USERSPACE, capabilities=CAN)], 0.0).switch
    assert not picture.apply([a_row("Datapath", USERSPACE, capabilities={**CAN, "recirc": "true"})], 0.0).switch
    assert picture.apply([RowChange("Datapath", USERSPACE, None)], 0.0).switch
    assert not picture.switch_ports.nd_extensions


def test_a_whole_picture_without_the_row_forgets_it() -> None:
    picture = a_picture(BOTH, a_row("Datapath", USERSPACE, capabilities=CAN))

    picture.apply([_bridge("netdev"), BOTH], 0.0, whole=True)

    assert picture.capabilities == {}
    assert not picture.switch_ports.nd_extensions
