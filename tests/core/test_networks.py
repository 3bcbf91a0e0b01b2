"""Networks of every type and number: VLANs used up, thousands of hosts, disagreements. Real reactors, no switch."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from portwatch.events import PortAdded
from portwatch.fabric.admission import Admission
from portwatch.fabric.announcer import Identity
from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.groups import AFRESH, GROUP_PARTS, GROUP_PEERS, flood_parts, group_id
from portwatch.fabric.pipeline import Bridge, Policy
from portwatch.fabric.purpose import depends_on, tunnels_to
from portwatch.fabric.reactor import Reactor
from portwatch.fabric.tables import TUN_FLOOD, TUN_FLOOD_PART
from portwatch.fabric.unreached import disagreements, unreached
from portwatch.model import (
    GENEVE,
    GRE,
    VXLAN,
    Claim,
    HostName,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Plug,
    Port,
    PortId,
    Segment,
    Status,
    Vni,
)
from portwatch.openflow import parse
from portwatch.openflow.flow import Flow, Group, GroupKey, Item

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HERE = ip_address("192.0.2.11")
TUN = Bridge.TUNNEL
SWITCH = SwitchPorts(OfPort(1), OfPort(2), ((VXLAN, OfPort(3)), (GENEVE, OfPort(4)), (GRE, OfPort(5))))


def mac(number: int) -> Mac:
    return Mac(f"02:00:00:{number.to_bytes(3).hex(':')}")


def a_port(number: int, network: str = "blue", vni: int | None = 100, kind: NetworkType = VXLAN) -> Port:
    name = PortId(f"p{number}")
    return Port(name, NetworkId(network), kind, None if vni is None else Vni(vni), mac(number))


def a_plug(port: Port, vlan: LocalVlan | None = None) -> Plug:
    number = int(port.port_id[1:])
    return Plug(port, OfPort(100 + number), vlan, seq=1, remembered=port.network_id if vlan else None)


def a_claim(number: int, port: Port | None = None, address: str | None = None) -> Claim:
    """Return the claim of the host of this number; its address follows from it."""
    endpoint = ip_address(address) if address else ip_address("10.9.0.0") + number
    return Claim(HostName(f"far{number}"), port or a_port(number), endpoint, Status.ACTIVE, "s", seq=1, revision=1)


def a_reactor(policy: Policy | None = None) -> Reactor:
    reactor = Reactor(Identity(HostName("hv1"), "session", HERE), policy or Policy())
    for bridge in Bridge:
        reactor.read_back(bridge, ())
    return reactor


def plug(reactor: Reactor, *ports: Port) -> None:
    reactor.plugged({port.port_id: a_plug(port) for port in ports}, SWITCH, NOW)
    reactor.plan(NOW)


def unplug(reactor: Reactor, *ports: Port) -> None:
    reactor.plugged({port.port_id: None for port in ports}, SWITCH, NOW)
    reactor.plan(NOW)


def hear(reactor: Reactor, *claims: Claim) -> None:
    with reactor.planner.together():
        for claim in claims:
            reactor.heard(PortAdded(claim, 1, NOW), NOW, 0.0)


def commit(reactor: Reactor) -> None:
    """Let both switches take what is owed, until nothing is."""
    while any(ledger.owes for ledger in reactor.ledgers.values()):
        for bridge, ledger in reactor.ledgers.items():
            ledger.take()
            ledger.committed()
            reactor.committed(bridge, reactor.progress.generation, NOW)


def said(reactor: Reactor, port: Port) -> tuple[Status, str | None]:
    claim = reactor.announcer.claims[port.port_id]
    return claim.status, claim.reason


def installed(reactor: Reactor, bridge: Bridge = TUN) -> list[Item]:
    return list(reactor.ledgers[bridge].installed.values())


def flooded_to(items: Iterable[Item]) -> list[str]:
    """Return whom the groups name, each as often as he is named."""
    buckets = (bucket for item in items if isinstance(item, Group) for bucket in item.buckets)
    texts = (action for bucket in buckets for action in bucket.actions if action.endswith("->tun_dst"))
    return sorted(text.removeprefix("set_field:").partition("->")[0] for text in texts)


# --- tunnel types -------------------------------------------------------------------------------------------------


def test_the_types_of_tunnels_that_are_needed_follow_the_ports_that_are_wired() -> None:
    reactor = a_reactor()
    fabric = reactor.fabric

    plug(reactor, one := a_port(1, "red", 1, GENEVE), two := a_port(2, "green", 2, GENEVE), a_port(3, "blue", 3, GRE))
    plug(reactor, a_port(4, "flat", None, NetworkType("flat")))
    assert set(fabric.tunnel_types) == {GENEVE, GRE}

    unplug(reactor, one)
    assert set(fabric.tunnel_types) == {GENEVE, GRE}
    unplug(reactor, two)
    assert set(fabric.tunnel_types) == {GRE}


def test_one_vni_under_two_types_is_no_conflict_and_each_goes_out_of_its_own_tunnel() -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1, "red", 7, VXLAN), a_port(2, "green", 7, GENEVE))

    hear(reactor, a_claim(11, a_port(11, "red", 7, VXLAN)), a_claim(12, a_port(12, "green", 7, GENEVE)))
    commit(reactor)

    ways = {
        action
        for item in installed(reactor)
        if isinstance(item, Flow) and item.table == 20 and tunnels_to(item)
        for action in item.actions
        if action.startswith("output:")
    }
    assert ways == {"output:3", "output:4"}


# --- who disagrees, who is not reached ----------------------------------------------------------------------------


def test_what_others_call_a_network_of_ours_is_told_until_they_agree() -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1, "blue", 100))
    other = Segment(NetworkId("blue"), VXLAN, Vni(200))

    hear(reactor, a_claim(2, a_port(2, "blue", 200)), a_claim(3, a_port(3, "blue", 200)), a_claim(4, a_port(4)))
    commit(reactor)
    assert disagreements(reactor.fabric) == {other: {"far2", "far3"}}
    assert flooded_to(installed(reactor)) == ["10.9.0.4"]

    hear(reactor, a_claim(2), a_claim(3))
    commit(reactor)
    assert disagreements(reactor.fabric) == {}
    assert flooded_to(installed(reactor)) == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]


def test_a_network_of_two_vnis_on_one_host_disagrees_with_neither() -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1, "blue", 100), a_port(2, "blue", 200))

    hear(reactor, a_claim(3, a_port(3, "blue", 200)))

    assert disagreements(reactor.fabric) == {}


def test_a_port_whose_keys_are_not_complete_yet_disagrees_with_nobody() -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1, "blue", None))

    hear(reactor, a_claim(2))

    assert disagreements(reactor.fabric) == {}


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("2001:db8::1", VXLAN, "far2 tunnels over IPv6 and this host over IPv4: the two cannot be mixed"),
        ("192.0.2.11", VXLAN, "far2 has this host's own tunnel address"),
        ("10.9.0.2", VXLAN, None),
        ("2001:db8::1", NetworkType("flat"), None),
    ],
)
def test_why_a_host_is_not_tunnelled_to_is_told(address: str, kind: NetworkType, words: str | None) -> None:
    reactor = a_reactor()

    assert unreached(reactor.fabric, a_claim(2, a_port(2, "blue", 100, kind), address)) == words


# --- VLANs used up ------------------------------------------------------------------------------------------------


def test_when_all_vlans_are_used_up_the_port_says_so_and_it_is_wired_when_one_is_free() -> None:
    reactor = a_reactor()
    ports = [a_port(number, f"net{number}", number) for number in range(1, 4095)]
    plug(reactor, *ports)
    commit(reactor)
    assert reactor.fabric.vlans.free == 0

    late = a_port(5000, "late", 5000)
    plug(reactor, late)
    commit(reactor)
    assert said(reactor, late) == (Status.ERROR, "vlans-used-up: all 4094 local VLANs of this host are in use")
    assert said(reactor, ports[0]) == (Status.ACTIVE, None)

    unplug(reactor, ports[17])
    assert said(reactor, late)[0] is Status.ERROR, "the tag rests until the switch has forgotten it"
    commit(reactor)
    assert said(reactor, late) == (Status.ACTIVE, None)
    assert reactor.fabric.vlans.of[Segment(NetworkId("late"), VXLAN, Vni(5000))] == LocalVlan(18)


def test_a_thousand_ports_that_wait_for_a_vlan_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor = a_reactor()
    plug(reactor, *(a_port(number, f"net{number}", number) for number in range(1, 4095)))
    plug(reactor, *(a_port(number, f"net{number}", number) for number in range(5000, 6000)))
    commit(reactor)
    tried: list[Port] = []
    admit = Admission.admit

    def count(admission: Admission, port: Port, hint: LocalVlan | None) -> Segment | None:
        tried.append(port)
        return admit(admission, port, hint)

    monkeypatch.setattr(Admission, "admit", count)  # what is counted is how often somebody asks in vain

    started = time.perf_counter()
    plug(reactor, one := a_port(7000, "net1", 1))
    commit(reactor)
    seconds = time.perf_counter() - started

    assert said(reactor, one) == (Status.ACTIVE, None)
    assert len(tried) == 1
    assert seconds < 0.5  # 0.5 ms where it was measured


# --- unknown unicast ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flood_unknown", [True, False])
def test_a_mac_that_is_at_no_one_place_is_flooded_even_when_unknown_ones_are_dropped(*, flood_unknown: bool) -> None:
    reactor = a_reactor(Policy(flood_unknown=flood_unknown))
    plug(reactor, a_port(1))
    shared = Port(PortId("p2"), NetworkId("blue"), VXLAN, Vni(100), mac(2), kind=Kind.SHARED)

    hear(reactor, a_claim(2, shared))
    commit(reactor)

    about = {
        bridge: [item.text() for item in installed(reactor, bridge) if f"dl_dst={mac(2)}" in item.text()]
        for bridge in Bridge
    }
    cookie = "cookie=0x7077000000000001"
    match = f"dl_vlan=1,dl_dst={mac(2)}"
    assert about == (
        {Bridge.INTEGRATION: [], TUN: []}
        if flood_unknown
        else {
            Bridge.INTEGRATION: [f"{cookie},table=41,priority=50,{match},actions=goto_table:42"],
            TUN: [f"{cookie},table=20,priority=50,{match},actions=goto_table:22"],
        }
    )


# --- thousands of hosts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, GROUP_PEERS, GROUP_PEERS + 1, 1000, 2500])
def test_each_host_of_a_network_is_in_one_group_and_once(number: int) -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1))

    hear(reactor, *(a_claim(place) for place in range(2, number + 2)))
    commit(reactor)

    items = installed(reactor)
    assert flooded_to(items) == sorted(str(a_claim(place).tunnel_ip) for place in range(2, number + 2))
    groups = {item.key.group_id: item for item in items if isinstance(item, Group)}
    assert max(len(group.buckets) for group in groups.values()) <= GROUP_PEERS
    first = groups[group_id(LocalVlan(1))]
    assert first.relays is (number > GROUP_PEERS)
    assert (AFRESH in groups) is first.relays
    if first.relays:
        handed_on = {action for bucket in first.buckets for action in bucket.actions if action.startswith("set_field")}
        flows = {item.key.match[0]: item.actions for item in items if isinstance(item, Flow) and item.table == 23}
        parts = groups.keys() - {AFRESH, first.key.group_id}
        assert handed_on == {f"set_field:{part:#x}->reg0" for part in parts}
        assert flows == {f"reg0={part:#x}": (f"group:{part}",) for part in parts}


def test_nobody_changes_his_group_when_others_come_and_go() -> None:
    everybody = tuple(ip_address("10.9.0.0") + number for number in range(1, 3001))
    many, few = flood_parts(everybody), flood_parts(everybody[:500])

    assert all(set(part) <= set(many[number]) for number, part in few.items())
    assert many.keys() == set(range(1, GROUP_PARTS + 1))


def test_what_serves_a_large_flood_belongs_to_its_segments_vlan() -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1))
    hear(reactor, *(a_claim(place) for place in range(2, 1002)))
    commit(reactor)

    serving = [item for item in installed(reactor) if isinstance(item, Group) or item.table in (22, 23)]
    serving = [item for item in serving if not (isinstance(item, Group) and item.key == GroupKey(AFRESH))]
    assert len(serving) == 32
    assert {depends_on(item) for item in serving} == {LocalVlan(1)}


def test_groups_of_both_kinds_are_read_back_as_they_were_sent() -> None:
    reactor = a_reactor()
    plug(reactor, a_port(1))
    hear(reactor, *(a_claim(place) for place in range(2, 502)))
    commit(reactor)

    groups = [item for item in installed(reactor) if isinstance(item, Group)]
    assert [parse.group(group.text()) for group in groups] == groups


@pytest.mark.parametrize("number", [3, 1000])
def test_a_restart_owes_the_switch_nothing_while_the_hosts_of_a_network_are_heard_again(number: int) -> None:
    claims = [a_claim(place) for place in range(2, number + 2)]
    before = a_reactor()
    plug(before, port := a_port(1))
    hear(before, *claims)
    commit(before)
    held = {bridge: installed(before, bridge) for bridge in Bridge}

    after = Reactor(Identity(HostName("hv1"), "another", HERE), Policy())
    after.plugged({port.port_id: a_plug(port, LocalVlan(1))}, SWITCH, NOW)
    after.plan(NOW)
    for bridge in Bridge:
        after.read_back(bridge, held[bridge])
    commit_nothing(after)
    for start in range(0, number, 90):
        hear(after, *claims[start : start + 90])
        commit_nothing(after)

    assert {bridge: set(after.ledgers[bridge].wanted.values()) for bridge in Bridge} == {
        bridge: set(items) for bridge, items in held.items()
    }


def test_a_large_network_of_which_the_bus_has_lost_everything_is_flooded_to_as_before() -> None:
    before = a_reactor()
    plug(before, port := a_port(1))
    hear(before, *(a_claim(place) for place in range(2, 1002)))
    commit(before)
    held = installed(before)

    after = Reactor(Identity(HostName("hv1"), "another", HERE), Policy())
    after.plugged({port.port_id: a_plug(port, LocalVlan(1))}, SWITCH, NOW)
    after.plan(NOW)
    for bridge in Bridge:
        after.read_back(bridge, installed(before, bridge))
    after.snapshots.subscribed(NetworkId("blue"), 0.0)
    after.snapshots.arrived(after.announcer.claims[port.port_id], 0.0)
    after.stated(after.announcer.manifest(NetworkId("blue")), 0.0)
    after.settle(NOW, 3.0)
    commit(after)

    assert after.snapshots.settled(NetworkId("blue"))
    floods = {item for item in held if isinstance(item, Group) or item.table in (TUN_FLOOD, TUN_FLOOD_PART)}
    assert floods <= set(installed(after))
    assert any(isinstance(item, Group) and item.relays for item in floods)


def commit_nothing(reactor: Reactor) -> None:
    for bridge, ledger in reactor.ledgers.items():
        bundle = ledger.take()
        assert bundle.text() == "", bridge
        ledger.committed()
        reactor.committed(bridge, reactor.progress.generation, NOW)
