"""Plugs and details in whatever order they come, and what a restart must not tell too early."""

import json
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch import wire
from portwatch.errors import Refused
from portwatch.events import PortAdded
from portwatch.fabric.directory import PATIENCE, Directory, merge
from portwatch.model import (
    GENEVE,
    VXLAN,
    AddressPair,
    Claim,
    HostName,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    OfPort,
    Plug,
    Port,
    PortDetails,
    PortId,
    Status,
    Vni,
    fixed_ip,
)
from portwatch.ovsdb import rows
from tests.core.fleet import START

TOPICS = wire.Topics("portwatch/v1")
P1, P2 = PortId("p1"), PortId("p2")
MAC = Mac("fa:16:3e:00:00:01")
BLUE, RED = NetworkId("blue"), NetworkId("red")
DETAILS = PortDetails(
    network_id=BLUE,
    network_type=GENEVE,
    segmentation_id=Vni(100),
    mac=MAC,
    fixed_ips=(fixed_ip("10.0.0.5"), fixed_ip("fd00::5")),
    allowed_address_pairs=(AddressPair.parse("fa:16:3e:00:00:09/10.1.0.0/16"),),
    device_owner="compute:nova",
    kind=Kind.SHARED,
    admin_up=False,
)
NEW = PortDetails(network_id=BLUE, segmentation_id=Vni(100))


def a_plug(port_id: PortId = P1, *, mac: Mac | None = MAC) -> Plug:
    return Plug(Port(port_id, mac=mac, from_directory=True), OfPort(5))


def wired(plug: Plug, network: NetworkId = BLUE) -> Plug:
    """Return *plug* as a process before us has left it."""
    return replace(plug, vlan=LocalVlan(7), seq=42, remembered=network, installed=True)


def a_claim(port: Port, seq: int = 42) -> Claim:
    return Claim(HostName("hv1"), port, None, Status.ACTIVE, "before", seq, 3)


def a_directory(*plugs: Plug) -> Directory:
    directory = Directory()
    directory.plugged({plug.port.port_id: plug for plug in plugs})
    return directory


def port_of(directory: Directory, port_id: PortId = P1) -> Port:
    """Return a port as it is told by the news there is."""
    plug = directory.take()[port_id]
    assert plug is not None
    return plug.port


# --- one port's plug and details ---------------------------------------------------------------------------------


def test_a_plug_gets_all_of_its_details_and_keeps_what_libvirt_says() -> None:
    merged = merge(a_plug(), DETAILS)

    port = merged.port
    assert (port.port_id, port.mac, merged.ofport) == (P1, MAC, 5)
    assert (port.network_id, port.network_type, port.segmentation_id) == (BLUE, GENEVE, 100)
    assert (port.fixed_ips, port.allowed_address_pairs) == (DETAILS.fixed_ips, DETAILS.allowed_address_pairs)
    assert (port.device_owner, port.kind, port.admin_up, port.fault) == ("compute:nova", Kind.SHARED, False, None)


def test_the_kind_follows_from_the_owner_unless_it_is_said() -> None:
    owner = "network:router_interface_distributed"

    assert merge(a_plug(), replace(NEW, device_owner=owner)).port.kind is Kind.SHARED
    assert merge(a_plug(), replace(NEW, device_owner=owner, kind=Kind.SINGLE)).port.kind is Kind.SINGLE


def test_a_mac_that_is_not_the_one_plugged_in_is_a_fault() -> None:
    fault = merge(a_plug(), replace(NEW, mac=Mac("fa:16:3e:00:00:99"))).port.fault

    assert fault == "mac-mismatch: attached-mac is fa:16:3e:00:00:01, the directory says fa:16:3e:00:00:99"


def test_the_mac_of_the_directory_is_no_substitute_for_the_one_that_is_plugged_in() -> None:
    assert merge(a_plug(mac=None), DETAILS).port.lacks == "attached-mac not set on the Interface"


def test_what_is_missing_is_said_with_the_place_where_it_should_be() -> None:
    assert a_plug(mac=None).port.lacks == (
        "attached-mac not set on the Interface; network-id, segmentation-id not in the directory"
    )
    assert replace(a_plug().port, from_directory=False).lacks == "network-id, segmentation-id not set on the Interface"


@pytest.mark.parametrize(("before", "remembered"), [(BLUE, BLUE), (RED, None)])
def test_the_vlan_is_remembered_for_the_network_that_it_was_and_for_no_other(
    before: NetworkId, remembered: NetworkId | None
) -> None:
    assert merge(wired(a_plug(), before), NEW).remembered == remembered


def test_a_row_keeps_its_network_in_mind_until_the_bus_has_told_the_port_s() -> None:
    ids = {"iface-id": "p1", "attached-mac": str(MAC), "network-id": "a/b", "segmentation-id": "none"}
    saved = {rows.NETWORK_KEY: "blue", rows.SEQ_KEY: "42", rows.INSTALLED_KEY: "true"}
    uuid = uuid4()
    interface = rows.InterfaceRow(uuid, "tap1", "", 5, ids)
    port = rows.PortRow(uuid, "tap1", frozenset({uuid}), 7, saved)

    assert rows.plug(interface, port, directory=True) == wired(a_plug())


# --- in any order ------------------------------------------------------------------------------------------------


def test_details_may_come_after_the_plug_and_change() -> None:
    directory = a_directory(a_plug())
    assert port_of(directory).network_id is None

    directory.told(P1, NEW)
    assert port_of(directory).network_id == BLUE

    directory.told(P1, replace(NEW, fixed_ips=DETAILS.fixed_ips))
    assert port_of(directory).fixed_ips == DETAILS.fixed_ips
    assert directory.take() == {}


def test_a_change_of_the_plug_keeps_its_details() -> None:
    directory = a_directory(a_plug())
    directory.told(P1, NEW)
    directory.take()

    directory.plugged({P1: replace(a_plug(), ofport=OfPort(9))})

    assert directory.take() == {P1: merge(replace(a_plug(), ofport=OfPort(9)), NEW)}


def test_details_of_a_port_that_is_not_here_are_nothing_to_us() -> None:
    directory = a_directory()

    directory.told(P1, NEW)
    directory.refused(P1, "no")
    directory.gone(P1)
    directory.plugged({P1: a_plug()})

    assert directory.take() == {P1: a_plug()}


def test_deleted_details_stay_until_the_port_is_unplugged() -> None:
    directory = a_directory(a_plug())
    directory.told(P1, NEW)
    directory.take()

    directory.gone(P1)
    assert directory.take() == {}

    directory.plugged({P1: None})
    directory.plugged({P1: a_plug()})
    assert port_of(directory).network_id is None


def test_refused_details_are_shown_only_while_there_are_none_better() -> None:
    directory = a_directory(a_plug())

    directory.refused(P1, "x" * 2000)
    fault = port_of(directory).fault
    assert fault is not None
    assert fault.startswith("bad-details: xxx")
    assert len(fault) <= 1000

    directory.told(P1, NEW)
    assert port_of(directory).fault is None
    directory.refused(P1, "no")
    assert port_of(directory) == merge(a_plug(), NEW).port


def test_whatever_is_refused_what_is_said_of_the_port_can_be_read() -> None:
    """Else its peers would refuse the event in turn, and hold on to what was said before."""
    directory = a_directory(a_plug())
    with pytest.raises(Refused) as caught:
        TOPICS.decode("portwatch/v1/directory/p1", rb'{"port_id": "p2\nnew line, \u009b2J"}')

    directory.refused(P1, caught.value.detail)

    port = replace(port_of(directory), network_id=None)
    claim = replace(a_claim(port), status=Status.ERROR, reason=port.fault)
    event = PortAdded(claim, 1, START)
    assert TOPICS.decode(TOPICS.port(*event.key), wire.encode_event(event)).key == event.key  # type: ignore[union-attr]


def test_refused_details_that_are_taken_away_are_forgotten() -> None:
    directory = a_directory(a_plug())
    directory.refused(P1, "no")

    directory.gone(P1)

    assert port_of(directory).fault is None


def test_whose_details_are_of_interest_is_known_from_the_plug_to_the_unplug() -> None:
    directory = a_directory(a_plug())
    before = directory.interest
    directory.plugged({P1: replace(a_plug(), ofport=OfPort(9))})
    assert (set(directory.plugs), directory.interest) == ({P1}, before)

    directory.plugged({P2: a_plug(P2)})
    assert directory.interest > before

    before = directory.interest
    directory.plugged({P1: None})
    assert set(directory.plugs) == {P2}
    assert directory.interest > before


_NEWS = st.lists(st.sampled_from(["plug", "other", "unplug", "told", "more", "refused", "gone"]), max_size=12)


@given(_NEWS)
def test_what_is_told_is_always_what_follows_from_the_last_of_each(news: list[str]) -> None:
    directory = a_directory()
    held: dict[PortId, Plug] = {}
    plug, details, refusal = None, None, None
    for each in news:
        match each:
            case "plug" | "other":
                plug = replace(a_plug(), ofport=OfPort(5 if each == "plug" else 6))
                directory.plugged({P1: plug})
            case "unplug":
                plug = details = refusal = None
                directory.plugged({P1: None})
            case "told" | "more":
                said = NEW if each == "told" else DETAILS
                directory.told(P1, said)
                details, refusal = (said, None) if plug else (None, None)
            case "refused":
                directory.refused(P1, "no")
                refusal = "bad-details: no" if plug else None
            case "gone":
                directory.gone(P1)
                refusal = None
        for port_id, told in directory.take().items():
            held.pop(port_id, None)
            if told is not None:
                held[port_id] = told

    assert held == ({P1: merge(plug, details, refusal)} if plug else {})


# --- a restart ---------------------------------------------------------------------------------------------------


def test_nothing_is_told_before_the_details_of_what_is_wired_have_come() -> None:
    directory = a_directory(wired(a_plug()), a_plug(P2))
    directory.connecting(100.0)
    directory.told(P2, NEW)
    assert (directory.waiting, directory.take()) == (True, {})

    directory.told(P1, NEW)

    assert directory.take() == {P1: merge(wired(a_plug()), NEW), P2: merge(a_plug(P2), NEW)}


def test_a_host_with_no_port_of_before_waits_for_nothing() -> None:
    assert not a_directory().waiting
    assert not a_directory(a_plug()).waiting


def test_a_wired_port_that_is_unplugged_is_waited_for_no_longer() -> None:
    directory = a_directory(wired(a_plug()))

    directory.plugged({P1: None})

    assert not directory.waiting


def test_a_port_that_was_never_wired_is_waited_for_only_until_the_connection_stands() -> None:
    directory = a_directory(replace(a_plug(), seq=42))
    directory.settle(100.0)
    assert directory.waiting

    directory.connecting(100.0)
    directory.settle(100.1)

    assert not directory.waiting


def test_where_the_details_were_deleted_our_own_claim_remembers_them() -> None:
    plug = wired(a_plug())
    was = merge(plug, DETAILS).port
    directory = a_directory(plug)
    directory.connecting(100.0)

    directory.recalled(a_claim(was))
    directory.settle(100.0 + PATIENCE - 0.1)
    assert directory.waiting
    directory.settle(100.0 + PATIENCE)

    assert port_of(directory) == was


def test_the_orchestrator_s_word_counts_more_than_what_we_said() -> None:
    directory = a_directory(wired(a_plug()), wired(a_plug(P2)))
    directory.connecting(100.0)
    directory.recalled(a_claim(merge(a_plug(), NEW).port))
    directory.told(P1, replace(NEW, network_id=RED))
    directory.settle(101.0)

    directory.settle(101.0 + PATIENCE)

    assert port_of(directory).network_id == RED


@pytest.mark.parametrize("claim", [a_claim(merge(a_plug(), NEW).port, seq=41), a_claim(a_plug().port)])
def test_a_claim_of_another_attachment_or_without_a_network_remembers_nothing(claim: Claim) -> None:
    directory = a_directory(wired(a_plug()), a_plug(P2))
    directory.connecting(100.0)
    directory.told(P2, NEW)
    directory.recalled(claim)
    directory.settle(100.0)

    directory.settle(100.0 + PATIENCE)

    assert port_of(directory).network_id is None


def test_a_bus_that_has_lost_everything_proves_nothing() -> None:
    directory = a_directory(wired(a_plug()))
    directory.connecting(100.0)

    directory.settle(1000.0)
    assert directory.waiting

    directory.told(P1, NEW)
    assert port_of(directory).network_id == BLUE


# --- the bus's JSON and the command's keys -----------------------------------------------------------------------


@pytest.mark.parametrize("details", [PortDetails(), NEW, DETAILS])
def test_details_are_read_back_as_they_were_said(details: PortDetails) -> None:
    assert TOPICS.decode(TOPICS.directory(P1), wire.encode_details(details)) == wire.DirectoryEntry(P1, details)
    assert rows.details(rows.keys(details)) == details


def test_what_an_orchestrator_may_write_by_hand_is_understood() -> None:
    payload = b'{"port_id": "p1", "network_id": "blue", "segmentation_id": 100, "mac": "FA:16:3E:00:00:01", "x": 1}'

    news = TOPICS.decode("portwatch/v1/directory/p1", payload)

    assert news == wire.DirectoryEntry(P1, replace(NEW, network_type=VXLAN, mac=MAC))


def test_an_empty_message_is_the_end_of_the_details() -> None:
    assert TOPICS.decode(TOPICS.directory(P1), b"") == wire.DirectoryGone(P1)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"segmentation_id": "100"}, "wrong-shape"),
        ({"admin_state": "sideways"}, "wrong-shape"),
        ({"kind": "double"}, "wrong-shape"),
        ({"fixed_ips": ["10.0.0.1"] * 257}, "wrong-shape"),
        ({"device_owner": "x" * 256}, "wrong-shape"),
        ({"segmentation_id": 0}, "wrong-value"),
        ({"network_id": "a/b"}, "wrong-value"),
        ({"network_type": "VX LAN"}, "wrong-value"),
        ({"mac": "01:00:5e:00:00:01"}, "wrong-value"),
        ({"fixed_ips": ["ten"]}, "wrong-value"),
        ({"allowed_address_pairs": ["x/y"]}, "wrong-value"),
        ({"port_id": "p2"}, "topic-mismatch"),
    ],
)
def test_details_that_are_not_as_the_contract_says_are_refused(details: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        TOPICS.decode(TOPICS.directory(P1), json.dumps(details).encode())

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("topic", "port_id"),
    [
        ("portwatch/v1/directory/p1", P1),
        ("portwatch/v1/directory/p1/more", None),
        ("portwatch/v1/directory/", None),
        ("portwatch/v1/ports/blue/hv1/p1", None),
        ("directory/p1", None),
    ],
)
def test_the_port_of_a_refused_message_is_known_by_its_topic(topic: str, port_id: PortId | None) -> None:
    assert TOPICS.described(topic) == port_id


@pytest.mark.parametrize(
    ("keys", "words"),
    [({"network-id": "a/b"}, "bad-network-id"), ({"segmentation-id": "x"}, "segmentation-id is 'x'")],
)
def test_a_wrong_key_of_the_command_is_named(keys: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rows.details(keys)
