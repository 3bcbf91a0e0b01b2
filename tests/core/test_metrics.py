"""The metrics: their names and labels are a contract, their text is Prometheus'."""

import re
import subprocess
from collections.abc import Mapping

import pytest

from portwatch import events, metrics
from portwatch.metrics import Metrics

BRIDGES = ("br-int", "br-tun")

CONTRACT: Mapping[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "portwatch_build_info": ("gauge", {"version": ("1.2.3",)}),
    "portwatch_connected": ("gauge", {"component": ("ovsdb", "switch", "bus")}),
    "portwatch_reconnects_total": ("counter", {"component": ("ovsdb", "switch", "bus")}),
    "portwatch_ports": ("gauge", {"status": ("BUILD", "ACTIVE", "DOWN", "ERROR")}),
    "portwatch_networks": ("gauge", {}),
    "portwatch_peers": ("gauge", {"state": ("online", "stopped", "leaving", "offline")}),
    "portwatch_remote_ports": ("gauge", {}),
    "portwatch_port_events_total": (
        "counter",
        {
            "type": ("portwatch.port.added", "portwatch.port.updated", "portwatch.port.removed"),
            "origin": ("local", "remote"),
        },
    ),
    "portwatch_bus_rejected_total": ("counter", {"reason": ("other", "stale")}),
    "portwatch_flows": ("gauge", {"bridge": BRIDGES}),
    "portwatch_flow_mods_total": ("counter", {"bridge": BRIDGES, "op": ("add", "delete")}),
    "portwatch_bundles_total": (
        "counter",
        {"bridge": BRIDGES, "result": ("committed", "rejected", "unavailable", "unknown")},
    ),
    "portwatch_bundle_seconds": ("histogram", {"bridge": BRIDGES}),
    "portwatch_flow_drift_total": ("counter", {"bridge": BRIDGES}),
    "portwatch_convergence_seconds": ("histogram", {"stage": ("local", "published", "remote")}),
    "portwatch_resync_seconds": ("histogram", {}),
    "portwatch_networks_incomplete": ("gauge", {}),
    "portwatch_mac_conflicts": ("gauge", {}),
    "portwatch_tunnel_address_conflicts": ("gauge", {}),
    "portwatch_mac_moves_total": ("counter", {}),
    "portwatch_mac_frozen": ("gauge", {}),
    "portwatch_vlan_free": ("gauge", {}),
    "portwatch_orphan_interfaces": ("gauge", {}),
    "portwatch_last_event_id": ("gauge", {}),
    "portwatch_certificate_expiry_timestamp_seconds": ("gauge", {}),
}


@pytest.fixture
def counted() -> Metrics:
    return Metrics("1.2.3", bridges=BRIDGES, reasons=("stale",))


def value(counted: Metrics, series: str) -> float:
    for line in counted.render().decode().splitlines():
        name, _, number = line.rpartition(" ")
        if name == series:
            return float(number)
    raise AssertionError(f"no series {series}")


def test_the_metrics_are_those_of_the_contract_with_its_types(counted: Metrics) -> None:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", counted.render().decode(), re.MULTILINE))

    assert types == {name: kind for name, (kind, _) in CONTRACT.items()}


def test_every_series_that_can_be_named_beforehand_is_there_from_the_start(counted: Metrics) -> None:
    labels: dict[str, dict[str, set[str]]] = {}
    for name, text in re.findall(
        r"^(\w+?)(?:_bucket|_sum|_count)?(?:{(.*)})? ", counted.render().decode(), re.MULTILINE
    ):
        for label, found in re.findall(r'(\w+)="([^"]*)"', text):
            if label != "le":
                labels.setdefault(name, {}).setdefault(label, set()).add(found)

    assert labels == {
        name: {label: set(values) for label, values in known.items()} for name, (_, known) in CONTRACT.items() if known
    }


def test_everything_begins_at_zero_but_the_version_and_the_free_vlans(counted: Metrics) -> None:
    values = [line for line in counted.render().decode().splitlines() if not line.startswith("#")]

    assert [line for line in values if not line.endswith(" 0.0")] == [
        'portwatch_build_info{version="1.2.3"} 1.0',
        "portwatch_vlan_free 4094.0",
    ]


def test_event_types_are_the_events_own() -> None:
    assert set(metrics.EVENT_TYPES) == set(events.EVENT_TYPES)


def test_peer_states_are_the_hosts_own() -> None:
    assert set(metrics.PEER_STATES) == set(events.HOST_STATES)


def test_every_metric_explains_itself(counted: Metrics) -> None:
    helps = re.findall(r"^# HELP \S+ (.*)$", counted.render().decode(), re.MULTILINE)

    assert len(helps) == len(CONTRACT)
    assert all(len(words) > 30 and words.endswith(".") for words in helps)


def test_promtool_finds_nothing_to_remark(counted: Metrics) -> None:
    counted.refused("stale")
    counted.bundle_seconds.labels("br-int").observe(0.004)
    counted.convergence_seconds.labels("remote").observe(0.02)

    checked = subprocess.run(["promtool", "check", "metrics"], input=counted.render(), capture_output=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_there_are_no_series_about_when_a_series_was_created(counted: Metrics) -> None:
    assert b"_created" not in counted.render()


def test_two_agents_in_one_process_count_apart() -> None:
    one, other = Metrics("1"), Metrics("2")

    one.mac_moves.inc()

    assert value(one, "portwatch_mac_moves_total") == 1
    assert value(other, "portwatch_mac_moves_total") == 0


def test_a_bundle_of_four_milliseconds_is_told_from_one_of_eight(counted: Metrics) -> None:
    counted.bundle_seconds.labels("br-int").observe(0.004)
    counted.bundle_seconds.labels("br-int").observe(0.008)

    assert value(counted, 'portwatch_bundle_seconds_bucket{bridge="br-int",le="0.002"}') == 0
    assert value(counted, 'portwatch_bundle_seconds_bucket{bridge="br-int",le="0.005"}') == 1
    assert value(counted, 'portwatch_bundle_seconds_bucket{bridge="br-int",le="0.01"}') == 2


def test_buckets_reach_from_half_a_millisecond_to_half_a_minute() -> None:
    assert (min(metrics.SECONDS), max(metrics.SECONDS)) == (0.0005, 30)
    assert list(metrics.SECONDS) == sorted(set(metrics.SECONDS))


def test_a_refusal_is_counted_by_its_reason(counted: Metrics) -> None:
    counted.refused("stale")
    counted.refused("topic-mismatch")

    assert value(counted, 'portwatch_bus_rejected_total{reason="stale"}') == 1
    assert value(counted, 'portwatch_bus_rejected_total{reason="topic-mismatch"}') == 1


def test_reasons_beyond_all_measure_are_counted_together(counted: Metrics) -> None:
    for number in range(1000):
        counted.refused(f"reason-{number}")

    series = re.findall(rb"^portwatch_bus_rejected_total{.*$", counted.render(), re.MULTILINE)
    assert len(series) == metrics.REASONS_MAX
    assert value(counted, 'portwatch_bus_rejected_total{reason="other"}') == 1000 - (metrics.REASONS_MAX - 2)


def test_the_content_type_is_that_of_prometheus_text_format() -> None:
    assert Metrics.content_type == "text/plain; version=0.0.4; charset=utf-8"
