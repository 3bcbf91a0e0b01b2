"""Each metric is moved by what it is for, on real hypervisors: by what is told here, or by the test that is named."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.lab import Hypervisor, Port, eventually
from tests.system.conftest import Site

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
SAMPLE = re.compile(r"^(portwatch_\w+(?:{[^}]*})?) (\S+)$", re.MULTILINE)
BEHIND_A_NAME = re.compile(r"{.*|_(bucket|count|sum|created)({.*)?$")
PLUGGED = {
    'portwatch_ports{status="ACTIVE"}': 1,
    "portwatch_networks": 1,
    "portwatch_vlan_free": -1,
    'portwatch_peers{state="online"}': 1,
    "portwatch_remote_ports": 1,
    'portwatch_port_events_total{origin="local",type="portwatch.port.added"}': 1,
    'portwatch_port_events_total{origin="remote",type="portwatch.port.added"}': 1,
    'portwatch_convergence_seconds_count{stage="local"}': 1,
}
"""By how much they change when a port is plugged in here, and one of its network elsewhere."""
RISE = (
    "portwatch_last_event_id",
    'portwatch_convergence_seconds_count{stage="published"}',
    'portwatch_convergence_seconds_count{stage="remote"}',
    'portwatch_flows{bridge="br-int"}',
    'portwatch_flows{bridge="br-tun"}',
    'portwatch_flow_mods_total{bridge="br-int",op="add"}',
    'portwatch_bundles_total{bridge="br-int",result="committed"}',
    'portwatch_bundle_seconds_count{bridge="br-int"}',
)
ELSEWHERE = {
    "portwatch_connected": "test_alerts.py::the_broker_is_gone",
    "portwatch_reconnects_total": "test_alerts.py::the_connection_to_the_switch_breaks_again_and_again",
    "portwatch_bus_rejected_total": "test_alerts.py::somebody_publishes_rubbish",
    "portwatch_flow_drift_total": "test_alerts.py::somebody_deletes_flows",
    "portwatch_networks_incomplete": "test_alerts.py::a_manifest_counts_what_never_comes",
    "portwatch_mac_conflicts": "test_alerts.py::two_guests_have_one_mac",
    "portwatch_mac_frozen": "test_alerts.py::a_guest_is_here_and_there_and_here",
    "portwatch_orphan_interfaces": "test_alerts.py::a_row_is_left_of_a_device_that_is_gone",
    "portwatch_tunnel_address_conflicts": "test_identity.py::"
    "test_a_host_with_the_tunnel_address_of_another_is_ignored_by_all_and_says_so_until_it_has_its_own",
    "portwatch_certificate_expiry_timestamp_seconds": "test_security.py::"
    "test_three_hosts_work_over_tls_with_the_access_list_on",
}


def test_what_comes_and_moves_is_counted(site: Site) -> None:
    hv1, hv2, hv3 = site.hypervisors
    blue = site.network("blue")
    here, there, third = (Port(f"{blue.id}-{name}", site.lab.mac(), blue) for name in ("here", "there", "third"))
    before = _metrics(site, hv1)

    site.plug(hv1, here)
    site.wait_active(hv1, here)
    site.plug(hv2, there)
    site.wait_known(hv1, there.mac, hv2)

    eventually(lambda: _changes(before, _metrics(site, hv1), PLUGGED) == PLUGGED, 5, "all are counted")
    risen = _changes(before, _metrics(site, hv1), RISE)
    assert all(risen[name] > 0 for name in RISE), risen
    assert before["portwatch_resync_seconds_count"] > 0, "it has compared with the switch at its start"
    assert [name for name in before if name.startswith("portwatch_build_info{")]

    site.plug(hv3, third)
    moves = _metrics(site, hv1)["portwatch_mac_moves_total"]
    site.plug(hv3, there)
    site.wait_known(hv1, there.mac, hv3)
    site.unplug(hv2, there)
    eventually(lambda: _metrics(site, hv1)["portwatch_mac_moves_total"] == moves + 1, 5, "the move is counted")


def test_no_metric_is_without_a_test(site: Site) -> None:
    told = {BEHIND_A_NAME.sub("", name) for name in _metrics(site, site.hypervisors[0])}
    moved = {BEHIND_A_NAME.sub("", name) for name in (*PLUGGED, *RISE)}
    moved |= {"portwatch_resync_seconds", "portwatch_build_info", "portwatch_mac_moves_total"}

    assert told <= moved | ELSEWHERE.keys()
    for keeper in ELSEWHERE.values():
        file, name = keeper.split("::")
        assert f"def {name}" in (HERE / file).read_text(), keeper


def _metrics(site: Site, hypervisor: Hypervisor) -> dict[str, float]:
    _, text = site.agents[hypervisor.name].http_get("/metrics")
    return {name: float(value) for name, value in SAMPLE.findall(text)}


def _changes(before: dict[str, float], after: dict[str, float], names: Iterable[str]) -> dict[str, float]:
    return {name: after.get(name, 0.0) - before.get(name, 0.0) for name in names}
