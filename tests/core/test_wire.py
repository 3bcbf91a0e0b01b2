"""The published contract: topics and payloads, there and back, and everything that is refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch import wire
from portwatch.errors import Refused
from portwatch.events import (
    ClaimGone,
    HostStatus,
    Manifest,
    PortAdded,
    PortEvent,
    PortRemoved,
    PortUpdated,
)
from portwatch.model import (
    SEQ_MAX,
    AddressPair,
    HostName,
    Kind,
    Mac,
    NetworkId,
    NetworkType,
    PortId,
    State,
    Status,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from tests.core.fleet import START, TOPICS, a_claim, a_port
from tests.core.strategies import events, host_statuses, manifests

HV2, BLUE, P1 = HostName("hv2"), NetworkId("blue"), PortId("p1")
PORT_TOPIC = "portwatch/v1/ports/blue/hv2/p1"
MANIFEST_TOPIC = "portwatch/v1/manifests/blue/hv2"
HOST_TOPIC = "portwatch/v1/hosts/hv2"

CONTRACTS_EXAMPLE = b"""
{"specversion": "1.0", "id": "hv1/6f2c/42", "source": "/portwatch/hosts/hv1",
 "type": "portwatch.port.added", "subject": "3f0c", "time": "2026-11-22T09:13:22.998Z",
 "datacontenttype": "application/json",
 "data": {"port_id": "3f0c", "host": "hv1", "network_id": "blue", "network_type": "vxlan",
          "segmentation_id": 100, "mac": "fa:16:3e:00:00:01", "fixed_ips": ["10.0.0.5", "fd00::5"],
          "allowed_address_pairs": [], "device_owner": "compute:nova", "kind": "single",
          "tunnel_ip": "192.0.2.11", "state": "active", "status": "ACTIVE",
          "session": "6f2c", "seq": 1763802802998, "revision": 3}}
"""


def an_event(**changes: object) -> dict[str, Any]:
    """Return a port event as JSON, good but for *changes*; `data.mac=…` is written `data__mac=…`."""
    message: dict[str, Any] = json.loads(wire.encode_event(PortUpdated(a_claim(), 7, START)))
    return changed(message, changes)


def a_manifest(**changes: object) -> dict[str, Any]:
    return changed({"host": "hv2", "session": "s", "count": 0, "digest": "0" * 64}, changes)


def a_host(**changes: object) -> dict[str, Any]:
    return changed({"host": "hv2", "session": "s", "state": "online", "tunnel_ip": "192.0.2.12"}, changes)


def changed(message: dict[str, Any], changes: dict[str, object]) -> dict[str, Any]:
    for name, value in changes.items():
        *path, last = name.split("__")
        place = message
        for level in path:
            place = place[level]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return message


def refusal(topic: str, payload: object, allowed: tuple[IPv4Network | IPv6Network, ...] = ()) -> str:
    """Return why a message is refused."""
    said = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(Refused) as caught:
        TOPICS.decode(topic, said, allowed)
    assert caught.value.detail
    return caught.value.reason


def topic_of(event: PortEvent) -> str:
    return TOPICS.port(*event.key)


# --- there and back ----------------------------------------------------------------------------------------------


@given(events)
def test_every_port_event_is_read_back_as_it_was_said(event: PortEvent) -> None:
    assert TOPICS.decode(topic_of(event), wire.encode_event(event)) == event


@given(manifests)
def test_every_manifest_is_read_back_as_it_was_said(manifest: Manifest) -> None:
    topic = TOPICS.manifest(manifest.network_id, manifest.host)

    assert TOPICS.decode(topic, wire.encode_manifest(manifest)) == manifest


@given(host_statuses)
def test_every_host_status_is_read_back_as_it_was_said(status: HostStatus) -> None:
    assert TOPICS.decode(TOPICS.host(status.host), wire.encode_host(status)) == status


def test_the_contracts_example_says_what_the_contract_says() -> None:
    event = TOPICS.decode("portwatch/v1/ports/blue/hv1/3f0c", CONTRACTS_EXAMPLE)

    assert isinstance(event, PortAdded)
    assert (event.number, event.time) == (42, datetime(2026, 11, 22, 9, 13, 22, 998000, UTC))
    assert event.claim == a_claim(
        a_port(
            port_id=PortId("3f0c"),
            segmentation_id=Vni(100),
            fixed_ips=(fixed_ip("10.0.0.5"), fixed_ip("fd00::5")),
            device_owner="compute:nova",
        ),
        host=1,
        session="6f2c",
        seq=1763802802998,
        revision=3,
    )


def test_what_we_say_is_a_cloud_event_with_the_contracts_fields_and_no_other() -> None:
    example = json.loads(CONTRACTS_EXAMPLE)

    said = an_event()

    assert said.keys() == example.keys()
    assert said["data"].keys() == example["data"].keys()
    assert (said["id"], said["source"], said["subject"]) == (
        "hv2/session-of-hv2/7",
        "/portwatch/hosts/hv2",
        "p1",
    )


def test_a_reason_is_said_when_there_is_one_and_only_then() -> None:
    claim = a_claim(status=Status.ERROR, reason="vni-conflict: 7 is in use")

    said = json.loads(wire.encode_event(PortUpdated(claim, 1, START)))

    assert said["data"]["reason"] == "vni-conflict: 7 is in use"
    assert "reason" not in an_event()["data"]


def test_time_is_said_in_utc() -> None:
    there = START.astimezone(timezone(timedelta(hours=5)))

    assert wire.encode_event(PortAdded(a_claim(), 1, there)) == wire.encode_event(PortAdded(a_claim(), 1, START))


def test_unknown_fields_are_passed_over() -> None:
    message = an_event(data__vhost="x", traceparent="y", data__more={"a": [1]})

    assert isinstance(TOPICS.decode(PORT_TOPIC, json.dumps(message).encode()), PortUpdated)
    assert isinstance(TOPICS.decode(MANIFEST_TOPIC, json.dumps(a_manifest(more=1)).encode()), Manifest)
    assert isinstance(TOPICS.decode(HOST_TOPIC, json.dumps(a_host(more=1)).encode()), HostStatus)


def test_what_may_be_missing_has_its_default() -> None:
    optional = ("network_type", "segmentation_id", "mac", "fixed_ips", "allowed_address_pairs")
    message = an_event(**{f"data__{name}": ... for name in (*optional, "device_owner", "kind", "tunnel_ip")})

    event = TOPICS.decode(PORT_TOPIC, json.dumps(message).encode())

    assert isinstance(event, PortUpdated)
    assert event.claim == a_claim(a_port(segmentation_id=None, mac=None, fixed_ips=()), tunnel_ip=None)


def test_a_mac_is_taken_in_any_case_and_kept_in_lower_case() -> None:
    event = TOPICS.decode(PORT_TOPIC, json.dumps(an_event(data__mac="FA:16:3E:AB:CD:EF")).encode())

    assert isinstance(event, PortUpdated)
    assert event.claim.port.mac == "fa:16:3e:ab:cd:ef"


@pytest.mark.parametrize("name", ["", "hv2/s", "hv2/s/x", "hv2/s/-1", "hv2/s/٣", "hv2/s/" + "9" * 40])
def test_an_id_without_a_number_of_ours_is_no_reason_to_refuse(name: str) -> None:
    event = TOPICS.decode(PORT_TOPIC, json.dumps(an_event(id=name)).encode())

    assert isinstance(event, PortUpdated)
    assert event.number == 0


def test_a_port_that_is_down_is_down_at_the_readers_too() -> None:
    claim = a_claim(a_port(admin_up=False), status=Status.DOWN)

    event = TOPICS.decode(PORT_TOPIC, wire.encode_event(PortUpdated(claim, 1, START)))

    assert isinstance(event, PortUpdated)
    assert event.claim == claim


def test_removal_says_the_whole_last_state() -> None:
    event = PortRemoved(a_claim(a_port(kind=Kind.SHARED, state=State.LEAVING)), 3, START)

    assert TOPICS.decode(PORT_TOPIC, wire.encode_event(event)) == event


# --- topics ------------------------------------------------------------------------------------------------------


def test_topics_are_named_as_the_contract_says() -> None:
    assert TOPICS.port(BLUE, HV2, P1) == PORT_TOPIC
    assert TOPICS.port(None, HV2, P1) == "portwatch/v1/ports/_/hv2/p1"
    assert TOPICS.manifest(BLUE, HV2) == MANIFEST_TOPIC
    assert TOPICS.host(HV2) == HOST_TOPIC
    assert TOPICS.of_network(BLUE) == ("portwatch/v1/ports/blue/+/+", "portwatch/v1/manifests/blue/+")
    assert TOPICS.of_everything() == ("portwatch/v1/ports/+/+/+",)
    assert TOPICS.of_everything("blue", "hv2") == ("portwatch/v1/ports/blue/hv2/+",)


def test_a_port_of_an_unknown_network_stands_under_an_underscore() -> None:
    event = PortAdded(a_claim(a_port(network=None)), 1, START)

    assert TOPICS.decode("portwatch/v1/ports/_/hv2/p1", wire.encode_event(event)) == event
    assert refusal(PORT_TOPIC, wire.encode_event(event)) == "topic-mismatch"


@pytest.mark.parametrize(
    ("topic", "news"),
    [
        (PORT_TOPIC, ClaimGone((BLUE, HV2, P1))),
        ("portwatch/v1/ports/_/hv2/p1", ClaimGone((None, HV2, P1))),
        (MANIFEST_TOPIC, wire.ManifestGone(BLUE, HV2)),
        (HOST_TOPIC, wire.HostGone(HV2)),
    ],
)
def test_an_empty_message_is_the_end_of_its_topic(topic: str, news: wire.News) -> None:
    assert TOPICS.decode(topic, b"") == news


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "portwatch/v1",
        "portwatch/v1/",
        "portwatch/v1/ports/blue/hv2",
        "portwatch/v1/ports/blue/hv2/p1/more",
        "portwatch/v1/manifests/blue",
        "portwatch/v1/hosts/hv2/more",
        "portwatch/v1/directory/p1/more",
        "portwatch/v2/ports/blue/hv2/p1",
        "portwatch/v11/ports/blue/hv2/p1",
        "ports/blue/hv2/p1",
    ],
)
def test_a_topic_of_another_form_is_foreign(topic: str) -> None:
    assert refusal(topic, an_event()) == "foreign-topic"


@pytest.mark.parametrize(
    "topic",
    [
        "portwatch/v1/ports/blue//p1",
        "portwatch/v1/ports/$x/hv2/p1",
        "portwatch/v1/ports/blue/hv2/\x01",
        "portwatch/v1/ports/blue/hv2/" + "p" * 129,
        "portwatch/v1/manifests/_/hv2",
        "portwatch/v1/hosts/",
    ],
)
def test_a_topic_with_what_is_no_id_is_refused(topic: str) -> None:
    assert refusal(topic, b"") == "wrong-value"


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data__mac": "01:00:5e:00:00:01"}, "wrong-value"),
        ({"data__mac": "00:00:00:00:00:00"}, "wrong-value"),
        ({"data__mac": "zz"}, "wrong-value"),
        ({"data__mac": 5}, "wrong-shape"),
        ({"data__tunnel_ip": "0.0.0.0"}, "wrong-value"),
        ({"data__tunnel_ip": "::"}, "wrong-value"),
        ({"data__tunnel_ip": "127.0.0.1"}, "wrong-value"),
        ({"data__tunnel_ip": "::1"}, "wrong-value"),
        ({"data__tunnel_ip": "224.0.0.1"}, "wrong-value"),
        ({"data__tunnel_ip": "ff02::1"}, "wrong-value"),
        ({"data__tunnel_ip": "255.255.255.255"}, "wrong-value"),
        ({"data__tunnel_ip": "hv2.example"}, "wrong-value"),
        ({"data__segmentation_id": 0}, "wrong-value"),
        ({"data__segmentation_id": 16777216}, "wrong-value"),
        ({"data__segmentation_id": "100"}, "wrong-shape"),
        ({"data__segmentation_id": 1.5}, "wrong-shape"),
        ({"data__segmentation_id": True}, "wrong-shape"),
        ({"data__network_type": "VXLAN"}, "wrong-value"),
        ({"data__fixed_ips": ["10.0.0.256"]}, "wrong-value"),
        ({"data__fixed_ips": ["224.0.0.1"]}, "wrong-value"),
        ({"data__fixed_ips": "10.0.0.5"}, "wrong-shape"),
        ({"data__fixed_ips": ["10.0.0.5"] * 1025}, "wrong-shape"),
        ({"data__allowed_address_pairs": ["10.0.0.0/33"]}, "wrong-value"),
        ({"data__allowed_address_pairs": ["fe80::1%x,actions=drop"]}, "wrong-value"),
        ({"data__seq": -1}, "wrong-shape"),
        ({"data__seq": SEQ_MAX + 1}, "wrong-shape"),
        ({"data__seq": 10**400}, "wrong-shape"),
        ({"data__revision": -1}, "wrong-shape"),
        ({"data__revision": SEQ_MAX + 1}, "wrong-shape"),
        ({"data__state": "idle"}, "wrong-shape"),
        ({"data__status": "active"}, "wrong-shape"),
        ({"data__kind": "both"}, "wrong-shape"),
        ({"data__session": "s" * 257}, "wrong-shape"),
        ({"data__device_owner": None}, "wrong-shape"),
        ({"data__seq": ...}, "wrong-shape"),
        ({"data__revision": ...}, "wrong-shape"),
        ({"data__session": ...}, "wrong-shape"),
        ({"data__status": ...}, "wrong-shape"),
        ({"data__state": ...}, "wrong-shape"),
        ({"data__port_id": ...}, "wrong-shape"),
        ({"data": []}, "wrong-shape"),
        ({"data": ...}, "wrong-shape"),
        ({"type": "portwatch.port.moved"}, "wrong-shape"),
        ({"specversion": "0.3"}, "wrong-shape"),
        ({"time": "yesterday"}, "wrong-shape"),
        ({"time": "2026-11-22T09:13:22"}, "wrong-shape"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "wrong-value"),
        ({"time": "9999-12-31T23:59:59-23:59"}, "wrong-value"),
        ({"data__port_id": "p2"}, "topic-mismatch"),
        ({"data__host": "hv3"}, "topic-mismatch"),
        ({"data__network_id": "red"}, "topic-mismatch"),
        ({"data__network_id": None}, "topic-mismatch"),
        ({"data__network_id": ...}, "topic-mismatch"),
    ],
)
def test_a_wrong_port_event_is_refused_by_its_reason(changes: dict[str, object], reason: str) -> None:
    assert refusal(PORT_TOPIC, an_event(**changes)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host": "hv3"}, "topic-mismatch"),
        ({"count": -1}, "wrong-shape"),
        ({"count": ...}, "wrong-shape"),
        ({"digest": "0" * 63}, "wrong-shape"),
        ({"digest": "A" * 64}, "wrong-shape"),
        ({"digest": "0" * 64 + "\n"}, "wrong-shape"),
        ({"session": None}, "wrong-shape"),
    ],
)
def test_a_wrong_manifest_is_refused_by_its_reason(changes: dict[str, object], reason: str) -> None:
    assert refusal(MANIFEST_TOPIC, a_manifest(**changes)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host": "hv3"}, "topic-mismatch"),
        ({"state": "asleep"}, "wrong-shape"),
        ({"tunnel_ip": "224.0.0.1"}, "wrong-value"),
        ({"session": 5}, "wrong-shape"),
        ({"started_at": "now"}, "wrong-shape"),
        ({"started_at": "0001-01-01T00:00:00+23:59"}, "wrong-value"),
    ],
)
def test_a_wrong_host_status_is_refused_by_its_reason(changes: dict[str, object], reason: str) -> None:
    assert refusal(HOST_TOPIC, a_host(**changes)) == reason


@pytest.mark.parametrize("topic", [PORT_TOPIC, MANIFEST_TOPIC, HOST_TOPIC])
@pytest.mark.parametrize(
    "payload",
    [b" ", b"{", b"\xff\xfe", b"nan", b'{"session": "', b'{"more": ' + b"[" * 60_000],
)
def test_what_is_not_json_is_refused(topic: str, payload: bytes) -> None:
    assert refusal(topic, payload) == "not-json"


@pytest.mark.parametrize("text", [b"\xff", b"\\ud800", b"\xed\xa0\x80"])
def test_text_that_is_no_unicode_is_refused(text: bytes) -> None:
    for topic, field in ((PORT_TOPIC, b"id"), (MANIFEST_TOPIC, b"session"), (HOST_TOPIC, b"session")):
        assert refusal(topic, b'{"%s": "%s"}' % (field, text)) == "not-json"


@pytest.mark.parametrize("topic", [PORT_TOPIC, MANIFEST_TOPIC, HOST_TOPIC])
@pytest.mark.parametrize("payload", [b"[]", b"null", b"5", b'"x"', b"{}"])
def test_json_of_another_shape_is_refused(topic: str, payload: bytes) -> None:
    assert refusal(topic, payload) == "wrong-shape"


def test_a_payload_of_more_than_64_kib_is_refused_unread() -> None:
    payload = json.dumps(an_event(more="x" * wire.PAYLOAD_MAX)).encode()

    assert refusal(PORT_TOPIC, payload) == "too-large"


def test_an_endpoint_outside_of_the_allowed_peers_is_refused() -> None:
    here, elsewhere = ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")

    for topic, message in ((PORT_TOPIC, an_event()), (HOST_TOPIC, a_host())):
        assert refusal(topic, message, (elsewhere,)) == "endpoint-not-allowed"
        TOPICS.decode(topic, json.dumps(message).encode(), (elsewhere, here))


def test_a_claim_without_an_endpoint_is_welcome_whoever_the_allowed_peers_are() -> None:
    message = an_event(data__tunnel_ip=None)

    event = TOPICS.decode(PORT_TOPIC, json.dumps(message).encode(), (ip_network("192.0.2.0/24"),))

    assert isinstance(event, PortUpdated)
    assert event.claim.tunnel_ip is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = sorted([*an_event(), *(f"data__{name}" for name in an_event()["data"])])


@given(st.sampled_from(_FIELDS), _JSON)
def test_a_port_event_with_anything_in_one_field_is_read_or_refused(field: str, value: object) -> None:
    read_or_refused(PORT_TOPIC, json.dumps(an_event(**{field: value})).encode())


@given(st.sampled_from([PORT_TOPIC, MANIFEST_TOPIC, HOST_TOPIC]) | st.text(max_size=40), st.binary(max_size=60))
def test_any_bytes_on_any_topic_are_read_or_refused(topic: str, payload: bytes) -> None:
    read_or_refused(topic, payload)


def read_or_refused(topic: str, payload: bytes) -> None:
    try:
        news = TOPICS.decode(topic, payload)
    except Refused as refused:
        assert refused.reason in {
            "foreign-topic",
            "too-large",
            "not-json",
            "wrong-shape",
            "wrong-value",
            "endpoint-not-allowed",
            "topic-mismatch",
        }
    else:
        if isinstance(news, PortEvent):
            assert TOPICS.decode(topic_of(news), wire.encode_event(news)) == news
            assert topic_of(news) == topic


@pytest.mark.parametrize(
    "make",
    [
        lambda: a_port(fixed_ips=tuple(fixed_ip(str(ip_address("fd00::") + number)) for number in range(1, 257))),
        lambda: a_port(
            allowed_address_pairs=tuple(
                AddressPair.parse(f"{Mac('fa:16:3e:00:00:01')}/fd00:0:0:{number:x}::/64") for number in range(256)
            )
        ),
        lambda: a_port(device_owner="x" * 255, network_type=NetworkType("x" * 32)),
    ],
)
def test_a_large_port_is_said_whole(make: Callable[[], Any]) -> None:
    event = PortAdded(a_claim(make(), tunnel_ip=tunnel_endpoint("2001:db8::1")), 1, START)

    assert TOPICS.decode(PORT_TOPIC, wire.encode_event(event)) == event
