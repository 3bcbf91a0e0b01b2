"""Hostile input: whatever is said on the bus or written into OVSDB, none of it becomes flow text, and nobody falls.

Both tests are fuzz targets, too: `make fuzz` lets atheris look for what hypothesis' few hundred examples miss.
"""

import json
import re
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from portwatch import wire
from portwatch.errors import Refused
from portwatch.events import ONLINE, HostStatus, PortEvent, PortUpdated, manifest_of
from portwatch.fabric.directory import Directory
from portwatch.fabric.tenure import Tenure
from portwatch.model import SEQ_MAX, HostName, NetworkId, OfPort, Plug, PortId
from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.picture import OFPORT_PATIENCE, Picture, PictureChange
from tests.core.fleet import START, SWITCH_PORTS, TOPICS, Fleet, Host, a_claim, a_port, an_endpoint
from tests.core.ovsdb import Ovsdb, ids_of, remembered

ALLOWED = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
MARK = "evil"
"""Stands in every text that tries to become flow syntax: where it shows up in a bundle, one has."""
LINE = re.compile(r"(flow (add|delete|delete_strict)|group [a-z_]+) [a-zA-Z0-9_=,:./()\[\]>-]+")
ENDPOINT = re.compile(r"(?:tun_src=|tun_ipv6_src=|set_field:)([0-9a-f.:]+)(?:->tun_dst|->tun_ipv6_dst|,|$)")

BLUE, HV1, HV2 = NetworkId("blue"), HostName("hv1"), HostName("hv2")

_MACS = (
    *("fa:16:3e:00:00:02", "FA:16:3E:00:00:02", "fa:16:3e:00:00:02,actions=evil", "01:00:5e:00:00:01", "0:0:0:0:0:0"),
    *("fa:16:3e:00:00:02\n", "fa-16-3e-00-00-02", "٠a:16:3e:00:00:02", "fa:16:3e:00:00:02/10.0.0.0/8"),
)
_ADDRESSES = (
    *("10.0.0.2", "10.0.0.2/0", "010.0.0.2", "10.0.0.2,evil", "0.0.0.0", "255.255.255.255", "10.0.0.0/255.0.0.255"),
    *("192.0.2.13", "192.0.2.11", "198.51.100.1", "::ffff:192.0.2.13", "127.0.0.1", "224.0.0.1", "192.0.2.13\n"),
    *("fe80::1%evil", "fe80::1%evil,actions=output:1/64", "2001:db8::13", "::", "ff02::1", "fd00::/0", "::1"),
)
_TIMES = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-22T09:13:22.998Z", "2026-11-22")
_IDS = ("_", "$evil", "evil/+/#", "hv1", "p1", "e" * 128, "e" * 129, "p,actions=evil", "p1\nflow add actions=evil")
_NUMBERS = ("0x64", "1e3", "-1", "٣", "0", "100", "16777216", "9" * 5000, str(SEQ_MAX), str(SEQ_MAX + 1))
_WORDS = (
    *("", "vxlan", "geneve", "gre", "vlan", "vxlan,actions=evil", "network:router_evil", "e" * 300, "e" * 70_000),
    *("evil\0", "evil\r", "$(evil)", "'; evil", "%n", "\x9b2Jevil", "\u2028evil", "\ud800", "\U000e0001" * 300),
    *("single", "shared", "active", "leaving", "up", "down", "ACTIVE", "ERROR", "DOWN", "online", "offline"),
    *("portwatch.port.removed", "[" * 60_000),
)
texts = st.sampled_from([*_MACS, *_ADDRESSES, *_TIMES, *_IDS, *_NUMBERS, *_WORDS]) | st.text(max_size=40)
numbers = st.sampled_from(
    [-1, 0, 1, 100, 2**24 - 1, 2**24, SEQ_MAX - 1, SEQ_MAX, SEQ_MAX + 1, 2**64, 10**400, 1.5, 1e300]
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


# --- the bus ------------------------------------------------------------------------------------------------------

_claim = a_claim(a_port("p2"))
MESSAGES: dict[str, bytes] = {
    TOPICS.port(BLUE, HV2, _claim.port.port_id): wire.encode_event(PortUpdated(_claim, 1, START)),
    TOPICS.manifest(BLUE, HV2): wire.encode_manifest(manifest_of(BLUE, HV2, _claim.session, [_claim])),
    TOPICS.host(HV2): wire.encode_host(HostStatus(HV2, _claim.session, ONLINE, an_endpoint(2), "vxlan", "1", START)),
    TOPICS.directory(_claim.port.port_id): b'{"port_id": "p2", "network_id": "blue", "segmentation_id": 524}',
}
_PORT_MESSAGES = [item for item in MESSAGES.items() if "/ports/" in item[0]]
_addresses = st.sampled_from(_ADDRESSES)
_fitting: dict[str, st.SearchStrategy[Any]] = {
    "mac": st.sampled_from(_MACS),
    "fixed_ips": st.lists(_addresses, max_size=3) | _addresses.map(lambda text: [text] * 1100),
    "allowed_address_pairs": st.lists(
        _addresses | st.builds(lambda mac, address: f"{mac}/{address}", st.sampled_from(_MACS), _addresses), max_size=3
    ),
    "tunnel_ip": _addresses,
    "segmentation_id": numbers,
    "seq": numbers,
    "revision": numbers,
    **dict.fromkeys(("time", "started_at"), st.sampled_from(_TIMES)),
    **dict.fromkeys(("network_id", "host", "port_id"), st.sampled_from(_IDS)),
    **dict.fromkeys(("network_type", "device_owner", "kind", "state", "status"), st.sampled_from(_WORDS)),
}
"""What is nearly right for a field, and so comes far."""


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a message that was good, until fields, the topic or bytes of it were made something else."""
    topic, good = draw(st.sampled_from([*MESSAGES.items(), *_PORT_MESSAGES * 4]))
    message = json.loads(good)
    places = [(message, name) for name in message]
    places += [(message["data"], name) for name in message.get("data", ())] * 2
    for place, name in draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        place[name] = draw(_fitting.get(name, anything) if draw(_mostly) else anything)
    return _topic(draw, topic, message), _bytes(draw, message)


_mostly = st.sampled_from([True, True, True, True, True, False])


def _topic(draw: st.DrawFn, topic: str, message: dict[str, Any]) -> str:
    """Return a topic: that which the payload speaks of, another, or anything."""
    if not draw(_mostly):
        return draw(texts | st.lists(texts, max_size=4).map(lambda levels: f"portwatch/v1/{'/'.join(levels)}"))
    if not draw(_mostly):
        return topic
    named = {**message, **data} if isinstance(data := message.get("data"), dict) else message
    ids = {"blue": "network_id", "hv2": "host", "p2": "port_id"}  # in the topics, and whose they are in the payload
    return "/".join(str(named.get(ids.get(level, ""), level)) for level in topic.split("/"))


def _bytes(draw: st.DrawFn, message: dict[str, Any]) -> bytes:
    said = json.dumps(message, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    if draw(_mostly):
        return said
    if draw(_mostly):
        where, cut, put = draw(st.tuples(st.integers(0, 900), st.integers(0, 9), st.binary(max_size=9)))
        return said[:where] + put + said[where + cut :]
    return draw(st.binary(max_size=200))


@settings(max_examples=300)
@given(st.lists(messages(), min_size=1, max_size=4))
def test_whatever_is_said_on_the_bus_is_refused_by_a_known_reason_or_harms_nothing(
    said: list[tuple[str, bytes]],
) -> None:
    fleet = Fleet(1)
    host = fleet["hv1"]
    host.plug(a_port("p1"))
    fleet.hush()
    hearer = _Hearer(fleet, host)
    before = host.flows()

    for topic, payload in said:
        hearer.hear(topic, payload)

    fleet.hush()
    fleet.check()
    _check_lines(host)
    if not hearer.heard:
        assert host.flows() == before


class _Hearer:
    """An agent's ears, with everything behind them that needs no loop."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self.fleet, self.host = fleet, host
        self.heard = 0
        self._tenure = Tenure(host.reactor.identity.session, host.now)
        self._directory = Directory()
        self._directory.plugged({PortId("p2"): Plug(a_port("p2", network=None, from_directory=True), OfPort(5))})
        self._carry_over()

    def hear(self, topic: str, payload: bytes) -> None:
        try:
            news = TOPICS.decode(topic, payload, ALLOWED)
        except Refused as refused:
            assert refused.reason in wire.REASONS
            if (port_id := TOPICS.described(topic)) is not None:
                self._directory.refused(port_id, refused.detail)
                self._carry_over()
            return
        self.heard += 1
        match news:
            case PortEvent():
                assert TOPICS.port(*news.key) == topic
                assert TOPICS.decode(topic, wire.encode_event(news)) == news
            case HostStatus():
                self._tenure.hear(news)
            case wire.DirectoryEntry(port_id, details):
                self._directory.told(port_id, details)
                self._carry_over()
            case _:
                pass
        self.fleet.deliver(self.host, topic, payload)

    def _carry_over(self) -> None:
        """What the directory makes of it is published, and must be what others read."""
        for plug in self._directory.take().values():
            assert plug is not None
            self.host.plug(plug.port)
        for topic, payload in self.fleet.said:
            TOPICS.decode(topic, payload)


def _check_lines(host: Host) -> None:
    """Nothing but words and numbers of our own in what was programmed; no endpoint that is not allowed."""
    for switch in host.bridges.values():
        for line in switch.log:
            assert LINE.fullmatch(line), line
            assert MARK not in line, line
            for address in ENDPOINT.findall(line):
                if "." in address or "::" in address:
                    assert any(ip_address(address) in network for network in ALLOWED), line


# --- OVSDB --------------------------------------------------------------------------------------------------------

_KEYS = [
    *("iface-id", "attached-mac", "iface-status", "network-id", "network-type", "segmentation-id", "fixed-ips"),
    *("allowed-address-pairs", "device-owner", "port-kind", "admin-state", "evil"),
]
_PLAIN = [word for word in _WORDS if word.isascii() or word.isprintable()]
_column_texts = texts.filter(lambda text: "\ud800" not in text)
"""ovsdb-server takes Unicode alone."""
_integers = st.sampled_from([None, -1, 0, 1, 5, 6, 4094, 4095, 65279, 65280, 65534, 2**63 - 1, -(2**63)])


@st.composite
def changes_of_rows(draw: st.DrawFn) -> list[RowChange]:
    """Return rows as a host's OVSDB could hold them, if nobody who writes there means well; some are left out."""
    ovsdb = Ovsdb()
    fitting = {
        "iface-id": _IDS,
        "network-id": _IDS,
        "attached-mac": _MACS,
        "fixed-ips": _ADDRESSES,
        "allowed-address-pairs": _ADDRESSES,
        "segmentation-id": _NUMBERS,
        "portwatch-seq": _NUMBERS,
        "portwatch-network": _IDS,
    }

    def written(keys: list[str]) -> dict[str, str]:
        chosen = draw(st.lists(st.sampled_from(keys), max_size=3))
        return {key: draw(st.sampled_from(fitting.get(key, _PLAIN)) | _column_texts) for key in chosen}

    for number in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([f"tap{number}", "patch-tun", "patch-int", "pw-vxlan", "evil\n", ""]))
        ids = ids_of(f"p{draw(st.integers(1, 3))}")
        ids |= written(_KEYS)
        row = remembered() | written(list(remembered()))
        bridge = draw(st.sampled_from(["br-int", "br-int", "br-tun"]))
        ovsdb.add(name, ids, draw(_integers), bridge, draw(_integers), row if draw(st.booleans()) else {})
    rows = ovsdb.whole()
    datapaths = {draw(_column_texts): UUID(int=7), "netdev": UUID(int=8)}
    rows.append(RowChange("Open_vSwitch", UUID(int=9), {"external_ids": {"hostname": "h"}, "datapaths": datapaths}))
    rows.append(RowChange("Datapath", UUID(int=8), {"capabilities": {draw(_column_texts): "true", "nd_ext": "evil"}}))
    return [row for row in draw(st.permutations(rows)) if draw(st.integers(0, 9))]


@settings(max_examples=200)
@given(st.lists(st.tuples(changes_of_rows(), st.booleans()), min_size=1, max_size=4))
def test_whatever_stands_in_ovsdb_is_wired_or_explained_and_what_is_said_of_it_can_be_read(
    steps: list[tuple[list[RowChange], bool]],
) -> None:
    fleet, picture = Fleet(2), Picture("br-int", "br-tun")
    one, other = fleet["hv1"], fleet["hv2"]
    other.plug(a_port("p9", segmentation_id=100))
    fleet.hush()
    clock = 0.0

    def take(change: PictureChange) -> None:
        one.reactor.plugged(change.plugs, SWITCH_PORTS, fleet.now)
        fleet.carry_out(one)

    for rows, whole in steps:
        clock += 1
        take(picture.apply(rows, clock, whole=whole))
    fleet.hush()
    fleet.check()
    take(picture.expire(clock + OFPORT_PATIENCE))
    fleet.hush()
    fleet.check()

    for topic, payload in fleet.said:
        TOPICS.decode(topic, payload)
    for unfit in picture.unfit.values():
        assert unfit.reason
    for host in (one, other):
        _check_lines(host)
