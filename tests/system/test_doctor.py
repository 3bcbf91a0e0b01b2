"""`portwatch doctor`: each fault is made on real hypervisors, found, and gone when it is mended."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab import Port, eventually
from tests.system.conftest import Site
from tests.system.provoked import (
    NOT_RUNNING,
    found,
    missing_ports,
    narrow_underlay,
    pair,
    plug_a_double,
    without_broker,
    without_its_device,
)

pytestmark = pytest.mark.system


def test_a_healthy_host_has_no_fault(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    pair(site)

    assert found(site, hv1).keys() <= {"clock-unsynchronised"}
    assert found(site, hv2).keys() <= {"clock-unsynchronised"}


@pytest.mark.parametrize(
    ("environment", "name", "words"),
    [
        ({"PORTWATCH_OVSDB__REMOTE": "unix:/nowhere/db.sock"}, "ovsdb-unreachable", "/nowhere/db.sock"),
        ({"PORTWATCH_BRIDGES__TUNNEL": "br-none"}, "bridge-missing", "br-none"),
        ({"PORTWATCH_OPENFLOW__RUNDIR": "/nowhere"}, "switch-unreachable", "br-int"),
        ({"PORTWATCH_TUNNEL__LOCAL_IP": "192.0.2.99"}, "tunnel-address-not-here", "192.0.2.99"),
        ({"PORTWATCH_BUS__URL": "mqtt://192.0.2.2:1"}, "broker-unreachable", "192.0.2.2:1"),
        (NOT_RUNNING, "agent-not-running", "127.0.0.1:1"),
    ],
)
def test_what_is_not_where_the_configuration_has_it_is_found(
    site: Site, environment: dict[str, str], name: str, words: str
) -> None:
    told = found(site, site.hypervisors[0], status=1, **environment)

    assert words in told[name]["what"]


def test_bridges_that_others_use_or_that_speak_too_old_a_version_are_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    hv1.vsctl("add-br", "br-old", "--", "set", "Bridge", "br-old", "datapath_type=netdev", "protocols=OpenFlow10")
    hv1.vsctl("add-br", "br-theirs", "--", "set", "Bridge", "br-theirs", "datapath_type=netdev")
    try:
        hv1.vsctl("set-controller", "br-theirs", "tcp:127.0.0.1:6633")
        hv1.ofctl("add-flow", "br-theirs", "cookie=0x1234,table=0,priority=2,in_port=1,actions=drop")
        bridges = {"PORTWATCH_BRIDGES__INTEGRATION": "br-theirs", "PORTWATCH_BRIDGES__TUNNEL": "br-old"}
        told = found(site, hv1, status=1, **bridges)
    finally:
        hv1.vsctl("del-br", "br-old", "--", "del-br", "br-theirs")

    assert "ovs-vsctl add bridge br-old protocols OpenFlow15" in told["openflow-version"]["todo"]
    assert "tcp:127.0.0.1:6633" in told["foreign-controller"]["what"]
    assert "0x1234" in told["foreign-flows"]["what"]


def test_a_path_too_narrow_for_the_tunnel_is_found_and_so_is_one_that_is_cut(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    pair(site)
    with narrow_underlay(site, hv2):
        narrow = found(site, hv1, status=1)
        site.lab.underlay.cut("hv2")
        try:
            cut = found(site, hv1)
        finally:
            site.lab.underlay.mend("hv2")

    assert "packets of 1550 bytes do not get through to hv2" in narrow["path-mtu"]["what"]
    assert f"hv2 ({hv2.ip})" in cut["peer-silent"]["what"]
    assert found(site, hv1).keys() <= {"clock-unsynchronised"}


def test_a_double_of_name_or_tunnel_address_is_found(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors

    name = found(site, hv2, status=1, PORTWATCH_HOST="hv1", **NOT_RUNNING)
    address = found(site, hv2, status=1, PORTWATCH_HOST="new", PORTWATCH_TUNNEL__LOCAL_IP=hv1.ip, **NOT_RUNNING)

    assert hv1.ip in name["host-name-taken"]["what"]
    assert "hv1 has this host's own tunnel address" in address["tunnel-address-taken"]["what"]


def test_a_host_that_lives_in_the_future_is_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    here, _ = pair(site)
    network = here.network
    assert network is not None
    topic = f"portwatch/v1/ports/{network.id}/hv9/late"
    site.lab.broker.publish(topic, _event(network.id), retain=True)
    try:
        told = found(site, hv1, status=1)
    finally:
        site.lab.broker.publish(topic, "", retain=True)

    assert "hv9 is 3" in told["clock-off"]["what"]
    assert "s ahead of this one" in told["clock-off"]["what"]


def test_ports_that_are_not_wired_and_devices_that_are_gone_are_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    bare, wrong = Port("bare", site.lab.mac()), Port("wrong", site.lab.mac(), blue)
    site.plug(hv1, bare)
    site.plug(hv1, wrong, {"segmentation-id": "0"})
    _, lost = site.guest(hv1, blue, "10.0.0.1/24")
    site.wait_active(hv1, lost)

    with without_its_device(hv1, lost):
        told = found(site, hv1, status=1)
    asleep = found(site, hv1, status=1, **NOT_RUNNING)

    assert "bare is not wired" in told["port-without-details"]["what"]
    assert "segmentation-id is '0'" in told["port-in-error"]["what"]
    assert lost.port.device in told["orphaned-interface"]["what"]
    assert {"port-without-details", "port-in-error"} <= asleep.keys(), "its agent need not run for that"


def test_an_agent_that_waits_is_told_with_what_it_waits_for(site: Site) -> None:
    hv1 = site.hypervisors[0]
    with without_broker(site):
        told = found(site, hv1, status=1)

    assert "waits for bus" in told["agent-not-ready"]["what"]
    assert "broker-unreachable" in told
    text = site.command(hv1, "doctor").stdout
    assert "fault: " not in text


def test_a_mac_that_two_hosts_have_and_a_network_that_is_not_whole_are_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    original, _ = plug_a_double(site, blue)
    with missing_ports(site, blue):
        eventually(lambda: site.ask(hv1, "networks")[0]["contested"], 5, "the claims conflict")
        eventually(lambda: not site.ask(hv1, "networks")[0]["complete"], 10, "the network is incomplete")
        told = found(site, hv1, status=1)

    assert f"{original.mac} in {blue.id} (claimed by hv1, hv2)" in told["mac-conflict"]["what"]
    assert blue.id in told["network-incomplete"]["what"]


def _event(network: str) -> str:
    time = datetime.now(UTC) + timedelta(seconds=3600)
    data = {
        "port_id": "late",
        "host": "hv9",
        "network_id": network,
        "segmentation_id": 1,
        "mac": "fa:16:3e:99:99:99",
        "tunnel_ip": "192.0.2.99",
        "state": "active",
        "status": "ACTIVE",
        "session": "s",
        "seq": 1,
        "revision": 1,
    }
    event = {
        "specversion": "1.0",
        "id": "hv9/s/1",
        "source": "/portwatch/hosts/hv9",
        "subject": "late",
        "type": "portwatch.port.added",
        "time": time.isoformat(),
        "data": data,
    }
    return json.dumps(event)
