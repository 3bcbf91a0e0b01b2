"""Facts → findings. That the facts are gathered rightly, tests/system shows on real hypervisors."""

import pathlib
import re
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from portwatch.config import Config, MqttBus
from portwatch.config.keys import Bus as BusConfig
from portwatch.config.keys import Tunnel
from portwatch.doctor.facts import Agent, Bridge, Bus, Device, Facts, Path, Spoofer, Waiting
from portwatch.doctor.finding import Severity
from portwatch.doctor.findings import examine
from portwatch.doctor.look import overhead
from portwatch.doctor.probe import _checksum
from portwatch.fabric.unreached import ANOTHERS_ADDRESS, OWN_ADDRESS
from portwatch.openflow import parse

ROOT = pathlib.Path(__file__).parents[2]
HV1, HV2 = ip_address("192.0.2.11"), ip_address("192.0.2.12")
ALONE = Config()
CONFIG = Config(bus=BusConfig(url=MqttBus("broker", 1883)), tunnel=Tunnel(local_ip=HV1))


def peer(**told: Any) -> Agent:
    row = {"host": "hv2", "state": "online", "tunnel_ip": "192.0.2.12", "clock": 0.01, "reason": None}
    return Agent(peers=({**row, **told},))


def fought_over(how: str) -> Agent:
    station = {"mac": "fa:16:3e:00:00:01", "hosts": ["hv1", "hv2"]}
    return Agent(networks=({"network_id": "blue", "complete": True, how: [station]},))


def test_nothing_is_wrong_where_nothing_is_wrong() -> None:
    healthy = Facts(
        config=CONFIG,
        agent=peer(),
        bridges=(Bridge("br-int"), Bridge("br-tun", protocols=frozenset({"OpenFlow13", "OpenFlow15"}))),
        devices=(Device("tap1", "p1", mtu=1500),),
        vlans_used=3694,
        local_ip_here=True,
        paths=(Path("hv2", HV2, 1550, full=True, least=True),),
        bus=Bus(stated=3, told=3),
        clock_disciplined=True,
    )

    assert examine(healthy) == ()


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("ovsdb-unreachable", {"ovsdb_trouble": "unix:/x: no such socket"}, "no such socket"),
    ("bridge-missing", {"bridges": (Bridge("br-int", exists=False),)}, "br-int"),
    ("openflow-version", {"bridges": (Bridge("br-int", protocols=frozenset({"OpenFlow13"})),)}, "OpenFlow13"),
    ("switch-unreachable", {"bridges": (Bridge("br-int", trouble="no br-int.mgmt"),)}, "no br-int.mgmt"),
    ("foreign-controller", {"bridges": (Bridge("br-tun", controllers=("tcp:127.0.0.1:6633",)),)}, "6633"),
    (
        "foreign-flows",
        {"bridges": (Bridge("br-tun", strangers=(parse.flow("cookie=0x12, priority=1 actions=drop"),)),)},
        "0x12",
    ),
    ("tunnel-address-not-here", {"local_ip_here": False}, "no address of this host"),
    ("path-mtu", {"paths": (Path("hv2", HV2, 1550, full=False, least=True),)}, "1550 bytes"),
    ("clock-off", {"agent": peer(clock=61.0)}, "hv2 is 61 s behind this one"),
    ("clock-off", {"agent": peer(clock=-61.0)}, "hv2 is 61 s ahead of this one"),
    ("clock-off", {"bus": Bus(ahead={"hv9": 3600.0})}, "hv9 is 3600 s ahead of this one"),
    ("broker-unreachable", {"bus": Bus(trouble="mqtt://b:1883: Connection refused")}, "refused"),
    ("broker-forbids", {"bus": Bus(forbidden=("the broker refused to take x",))}, "refused to take x"),
    ("broker-drops", {"bus": Bus(stated=20_000, told=1_020)}, "1020 of 20000"),
    ("broker-drops", {"bus": Bus(choked=267)}, "never answered"),
    ("host-name-taken", {"host": "hv1", "bus": Bus(namesake="it tunnels from 192.0.2.9")}, "192.0.2.9"),
    ("tunnel-address-taken", {"bus": Bus(doubles=("hv7",))}, "hv7"),
    ("tunnel-address-taken", {"agent": peer(reason=f"hv2 {OWN_ADDRESS}")}, "hv2"),
    ("tunnel-address-taken", {"agent": peer(reason=f"hv2 {ANOTHERS_ADDRESS} hv3, 192.0.2.13")}, "hv3"),
    ("agent-not-running", {"agent": Agent(trouble="nobody listens there")}, "nobody listens"),
    ("agent-not-ready", {"agent": Agent(reasons={"switch": "not made yet"})}, "waits for switch: not made yet"),
    (
        "agent-not-ready",
        {"agent": Agent(reasons={"ovsdb": "no such file", "switch": "waits for OVSDB", "bus": "waits for OVSDB"})},
        "the agent waits for ovsdb: no such file; for bus and switch: waits for OVSDB",
    ),
    ("mac-frozen", {"agent": fought_over("frozen")}, "fa:16:3e:00:00:01 in blue (claimed by hv1, hv2)"),
    ("mac-conflict", {"agent": fought_over("contested")}, "fa:16:3e:00:00:01 in blue (claimed by hv1, hv2)"),
    ("port-without-details", {"waiting": (Waiting("p1", "details-missing: network-id not set"),)}, "network-id"),
    ("port-in-error", {"waiting": (Waiting("p1", "vni-conflict: vxlan 100 is in use"),)}, "vni-conflict"),
]
WARNINGS: list[tuple[str, dict[str, Any], str]] = [
    ("no-broker", {"config": ALONE}, "memory://"),
    ("no-tunnel-address", {"config": replace(CONFIG, tunnel=Tunnel())}, "tunnel.local_ip"),
    ("host-drained", {"agent": Agent(drained=True)}, "drained"),
    ("peer-silent", {"paths": (Path("hv2", HV2, 1550, full=False, least=False),)}, "hv2 (192.0.2.12)"),
    ("clock-unsynchronised", {"clock_disciplined": False}, "clock"),
    ("peer-not-reached", {"agent": peer(reason="hv2 has no tunnel address")}, "no tunnel address"),
    ("network-incomplete", {"agent": Agent(networks=({"network_id": "blue", "complete": False},))}, "blue"),
    ("orphaned-interface", {"orphans": (Device("tap1", "p1", "No such device"),)}, "tap1 (No such device)"),
    ("vlans-nearly-used-up", {"vlans_used": 3695}, "399 of 4094"),
    ("port-spoofs", {"spoofers": (Spoofer("web", "tapweb", 20, 2.0),)}, "web sent 20 frames in 2 s"),
]


@pytest.mark.parametrize(("name", "facts", "words"), FAULTS + WARNINGS)
def test_each_finding_says_what_is_wrong_what_it_means_and_what_to_do(
    name: str, facts: dict[str, Any], words: str
) -> None:
    (finding,) = examine(Facts(**{"config": CONFIG, **facts}))

    assert finding.name == name
    assert words in finding.what
    assert finding.means
    assert finding.todo
    assert finding.severity is (Severity.FAULT if (name, facts, words) in FAULTS else Severity.WARNING)


@pytest.mark.parametrize(
    ("reason", "todo"),
    [
        ("details-missing: network-id not set", "network-id="),
        ("bad-attached-mac: attached-mac is 'zz', not a MAC address", "Correct what the reason names"),
        ("vni-conflict: vxlan 100 is in use here by network red", "another segmentation-id"),
    ],
)
def test_what_to_do_about_a_port_that_is_not_wired_fits_its_reason(reason: str, todo: str) -> None:
    (finding,) = examine(Facts(config=CONFIG, waiting=(Waiting("p1", reason),)))

    assert todo in finding.todo


def test_the_docs_name_each_finding_with_its_severity() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").partition("## What the doctor finds")[2]
    rows = (row.split("|")[1:3] for row in page.splitlines() if row.startswith("| `"))
    told = {
        (name, severity.strip())
        for findings, severities in rows
        for names, severity in zip(findings.split("·"), severities.split("·"), strict=True)
        for name in re.findall(r"`([a-z-]+)`", names)
    }

    known = {(name, "fault") for name, _, _ in FAULTS} | {(name, "warning") for name, _, _ in WARNINGS}
    assert told == known


def test_what_stops_something_from_working_is_told_first() -> None:
    names = [each.name for each in examine(Facts(config=CONFIG, clock_disciplined=False, local_ip_here=False))]

    assert names == ["tunnel-address-not-here", "clock-unsynchronised"]


def test_a_broker_that_forbids_is_not_said_to_drop_what_it_forbids() -> None:
    (finding,) = examine(Facts(config=CONFIG, bus=Bus(forbidden=("the broker refused x",), stated=2, told=1)))

    assert finding.name == "broker-forbids"


def test_of_many_things_of_one_kind_some_are_named_and_all_are_counted() -> None:
    orphans = tuple(Device(f"tap{number}", "p", "gone") for number in range(1591))

    (finding,) = examine(Facts(config=CONFIG, orphans=orphans))

    assert "tap4" in finding.what
    assert "tap5" not in finding.what
    assert "and 1586 more" in finding.what


@pytest.mark.parametrize(
    ("kind", "version", "octets"), [("vxlan", 4, 50), ("geneve", 6, 70), ("gre", 4, 42), ("gre", 6, 62)]
)
def test_a_tunnel_costs_what_its_headers_take(kind: str, version: int, octets: int) -> None:
    assert overhead(kind, version) == octets


def test_the_checksum_is_that_of_rfc_1071() -> None:
    octets = bytes.fromhex("0001f203f4f5f6f7")

    assert _checksum(octets) == 0x220D
    assert _checksum(octets + _checksum(octets).to_bytes(2)) == 0
