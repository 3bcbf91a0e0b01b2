"""The field's nouns: what can be one, what cannot, and how it is written."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.bus.connection import Publication
from portwatch.model import (
    GENEVE,
    GRE,
    VXLAN,
    AddressPair,
    HostName,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    PortId,
    Segment,
    State,
    Status,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from tests.core.fleet import TOPICS, a_claim, a_port
from tests.core.strategies import macs, pairs

IDS = (PortId, NetworkId, HostName)


@pytest.mark.parametrize("text", ["FA:16:3E:00:00:01", "fa:16:3E:00:00:01", "fa:16:3e:00:00:01"])
def test_a_mac_is_written_in_lower_case_whatever_the_case_it_came_in(text: str) -> None:
    assert Mac(text) == "fa:16:3e:00:00:01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zz",
        "fa:16:3e:00:00",
        "fa:16:3e:00:00:01:02",
        "fa-16-3e-00-00-01",
        "fa163e000001",
        " fa:16:3e:00:00:01",
        "fa:16:3e:00:00:01\n",
        "fa:16:3e:00:00:0g",
        "ﬁ:16:3e:00:00:01",
        "01:00:5e:00:00:01",
        "33:33:00:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
    ],
)
def test_what_is_no_stations_mac_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Mac(text)

    assert repr(text) in str(caught.value)


@given(macs)
def test_a_mac_that_was_read_is_read_as_itself(mac: Mac) -> None:
    assert Mac(mac) == mac


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("text", ["a", "3f0c-11", "tap é", "a" * 128, "__", "a$", "日本"])
def test_an_id_is_one_level_of_a_topic(kind: Callable[[str], str], text: str) -> None:
    assert kind(text) == text


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize(
    "text",
    ["", "a" * 129, "a/b", "a+", "+", "#", "a#", "a\0", "a\n", "a\x7f", "a\x85", "$a", "_", "a\ud800"],
)
def test_what_cannot_stand_as_one_level_of_a_topic_is_no_id(kind: Callable[[str], str], text: str) -> None:
    with pytest.raises(ValueError):
        kind(text)


@given(st.text(max_size=130))
def test_whatever_is_an_id_can_be_published_under_and_read_back(text: str) -> None:
    try:
        port_id = PortId(text)
    except ValueError:
        return

    topic = TOPICS.port(NetworkId("blue"), HostName("hv1"), port_id)

    assert Publication(topic, b"").topic.split("/")[2:] == ["ports", "blue", "hv1", text]
    assert len(topic.encode()) < 65536


@pytest.mark.parametrize(
    ("text", "tunnelled"),
    [("vxlan", True), ("geneve", True), ("gre", True), ("vlan", False), ("flat", False), ("my_type-2", False)],
)
def test_vxlan_geneve_and_gre_are_tunnelled_and_no_other_type(text: str, tunnelled: bool) -> None:
    assert NetworkType(text).tunnelled is tunnelled


@pytest.mark.parametrize("text", ["", "VXLAN", "1vxlan", "v xlan", "a" * 33, "vxlan\n"])
def test_a_network_type_is_a_lower_case_word(text: str) -> None:
    with pytest.raises(ValueError):
        NetworkType(text)


@pytest.mark.parametrize(("kind", "lowest", "highest"), [(Vni, 1, 16777215), (OfPort, 1, 65279), (LocalVlan, 1, 4094)])
def test_a_number_lies_within_the_bounds_of_its_kind(kind: Callable[[int], int], lowest: int, highest: int) -> None:
    assert (kind(lowest), kind(highest)) == (lowest, highest)
    for wrong in (lowest - 1, highest + 1, -1):
        with pytest.raises(ValueError) as caught:
            kind(wrong)
        assert str(wrong) in str(caught.value)


@pytest.mark.parametrize("text", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fe80::1", "223.255.255.255"])
def test_a_tunnel_endpoint_is_the_address_of_one_host(text: str) -> None:
    assert str(tunnel_endpoint(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hv1",
        "192.0.2.1/24",
        "192.0.2.01",
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "fe80::1%eth0",
        "::ffff:192.0.2.1",
    ],
)
def test_where_no_host_can_be_reached_is_no_tunnel_endpoint(text: str) -> None:
    with pytest.raises(ValueError):
        tunnel_endpoint(text)


@pytest.mark.parametrize(
    "text", ["", "x", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "fe80::1%eth0"]
)
def test_what_no_station_can_own_is_no_fixed_ip(text: str) -> None:
    with pytest.raises(ValueError):
        fixed_ip(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("10.0.0.7", AddressPair(ip_network("10.0.0.7/32"))),
        ("10.0.0.7/24", AddressPair(ip_network("10.0.0.0/24"))),
        ("fd00::7", AddressPair(ip_network("fd00::7/128"))),
        ("fa:16:3e:00:00:07/10.0.0.7", AddressPair(ip_network("10.0.0.7/32"), Mac("fa:16:3e:00:00:07"))),
        ("FA:16:3E:00:00:07/fd00::/64", AddressPair(ip_network("fd00::/64"), Mac("fa:16:3e:00:00:07"))),
    ],
)
def test_an_address_pair_is_an_address_or_prefix_with_or_without_a_mac(text: str, pair: AddressPair) -> None:
    assert AddressPair.parse(text) == pair


@given(pairs)
def test_an_address_pair_is_read_back_from_its_own_text(pair: AddressPair) -> None:
    assert AddressPair.parse(str(pair)) == pair


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "10.0.0.7/33",
        "10.0.0",
        "fa:16:3e:00:00:07",
        "fa:16:3e:00:00:07/",
        "01:00:5e:00:00:01/10.0.0.7",
        "fe80::1%eth0",
        "fe80::1%eth0/64",
        "fe80::1%a,actions=drop",
        "fa:16:3e:00:00:07/fe80::1%a,actions=drop",
    ],
)
def test_what_is_no_address_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        AddressPair.parse(text)


def test_a_port_is_in_a_segment_once_network_and_key_are_known() -> None:
    port = a_port(segmentation_id=Vni(7))

    assert port.segment == Segment(NetworkId("blue"), VXLAN, Vni(7))
    assert replace(port, segmentation_id=None).segment is None
    assert replace(port, network_id=None).segment is None


def test_a_network_that_is_not_tunnelled_needs_no_key() -> None:
    port = a_port(network_type=NetworkType("flat"), segmentation_id=None)

    assert port.segment == Segment(NetworkId("blue"), NetworkType("flat"), None)
    assert port.missing == ()


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, ()),
        ({"mac": None}, ("attached-mac",)),
        ({"network_id": None}, ("network-id",)),
        ({"segmentation_id": None}, ("segmentation-id",)),
        (
            {"mac": None, "network_id": None, "segmentation_id": None},
            ("attached-mac", "network-id", "segmentation-id"),
        ),
        ({"fixed_ips": ()}, ()),
    ],
)
def test_a_port_names_the_keys_that_it_misses(changes: dict[str, object], missing: tuple[str, ...]) -> None:
    assert a_port(**changes).missing == missing  # type: ignore[arg-type]  # the builder's own keywords


def test_a_network_under_another_key_or_type_is_another_segment() -> None:
    segments = {a_port(segmentation_id=Vni(7), network_type=kind).segment for kind in (VXLAN, GENEVE, GRE)} | {
        a_port(segmentation_id=Vni(8)).segment
    }

    assert len(segments) == 4


@pytest.mark.parametrize(
    ("status", "forwards"),
    [(Status.BUILD, True), (Status.ACTIVE, True), (Status.DOWN, False), (Status.ERROR, False)],
)
def test_a_claim_that_is_down_or_in_error_takes_no_part_in_forwarding(status: Status, forwards: bool) -> None:
    for state in State:
        assert a_claim(a_port(state=state), status=status).forwards is forwards
