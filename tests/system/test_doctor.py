"""`portwatch doctor`: each fault is made on real hypervisors, found, and gone when it is mended."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab import Hypervisor, Nic, Port, eventually
from tests.system.conftest import Site

pytestmark = pytest.mark.system

NOT_RUNNING = {"PORTWATCH_HTTP__LISTEN": "127.0.0.1:1"}


def test_a_healthy_host_has_no_fault(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    _pair(site)

    assert _found(site, hv1).keys() <= {"clock-unsynchronised"}
    assert _found(site, hv2).keys() <= {"clock-unsynchronised"}


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
    found = _found(site, site.hypervisors[0], status=1, **environment)

    assert words in found[name]["what"]


def test_bridges_that_others_use_or_that_speak_too_old_a_version_are_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    hv1.vsctl("add-br", "br-old", "--", "set", "Bridge", "br-old", "datapath_type=netdev", "protocols=OpenFlow10")
    hv1.vsctl("add-br", "br-theirs", "--", "set", "Bridge", "br-theirs", "datapath_type=netdev")
    try:
        hv1.vsctl("set-controller", "br-theirs", "tcp:127.0.0.1:6633")
        hv1.ofctl("add-flow", "br-theirs", "cookie=0x1234,table=0,priority=2,in_port=1,actions=drop")
        bridges = {"PORTWATCH_BRIDGES__INTEGRATION": "br-theirs", "PORTWATCH_BRIDGES__TUNNEL": "br-old"}
        found = _found(site, hv1, status=1, **bridges)
    finally:
        hv1.vsctl("del-br", "br-old", "--", "del-br", "br-theirs")

    assert "ovs-vsctl add bridge br-old protocols OpenFlow15" in found["openflow-version"]["todo"]
    assert "tcp:127.0.0.1:6633" in found["foreign-controller"]["what"]
    assert "0x1234" in found["foreign-flows"]["what"]


def test_a_path_too_narrow_for_the_tunnel_is_found_and_so_is_one_that_is_cut(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    _pair(site)
    underlay = site.lab.underlay
    underlay.namespace.ip("link set hv2 mtu 1500")
    try:
        narrow = _found(site, hv1, status=1)
        underlay.cut("hv2")
        cut = _found(site, hv1)
    finally:
        underlay.namespace.ip("link set hv2 mtu 1600")
        underlay.mend("hv2")

    assert "packets of 1550 bytes do not get through to hv2" in narrow["path-mtu"]["what"]
    assert f"hv2 ({hv2.ip})" in cut["peer-silent"]["what"]
    assert _found(site, hv1).keys() <= {"clock-unsynchronised"}


def test_a_double_of_name_or_tunnel_address_is_found(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors

    name = _found(site, hv2, status=1, PORTWATCH_HOST="hv1", **NOT_RUNNING)
    address = _found(site, hv2, status=1, PORTWATCH_HOST="new", PORTWATCH_TUNNEL__LOCAL_IP=hv1.ip, **NOT_RUNNING)

    assert hv1.ip in name["host-name-taken"]["what"]
    assert "hv1 has this host's own tunnel address" in address["tunnel-address-taken"]["what"]


def test_a_host_that_lives_in_the_future_is_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    here, _ = _pair(site)
    network = here.network
    assert network is not None
    topic = f"portwatch/v1/ports/{network.id}/hv9/late"
    site.lab.broker.publish(topic, _event(network.id), retain=True)
    try:
        found = _found(site, hv1, status=1)
    finally:
        site.lab.broker.publish(topic, "", retain=True)

    assert "hv9 is 3" in found["clock-off"]["what"]
    assert "s ahead of this one" in found["clock-off"]["what"]


def test_ports_that_are_not_wired_and_devices_that_are_gone_are_found(site: Site) -> None:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    bare, wrong = Port("bare", site.lab.mac()), Port("wrong", site.lab.mac(), blue)
    site.plug(hv1, bare)
    site.plug(hv1, wrong, {"segmentation-id": "0"})
    _, lost = site.guest(hv1, blue, "10.0.0.1/24")
    site.wait_active(hv1, lost)

    with _without_its_device(hv1, lost):
        found = _found(site, hv1, status=1)
    asleep = _found(site, hv1, status=1, **NOT_RUNNING)

    assert "bare is not wired" in found["port-without-details"]["what"]
    assert "segmentation-id is '0'" in found["port-in-error"]["what"]
    assert lost.port.device in found["orphaned-interface"]["what"]
    assert {"port-without-details", "port-in-error"} <= asleep.keys(), "its agent need not run for that"


def test_an_agent_that_waits_is_told_with_what_it_waits_for(site: Site) -> None:
    hv1 = site.hypervisors[0]
    site.lab.broker.kill()
    try:
        eventually(lambda: site.agents["hv1"].http_get("/readyz")[0] == 503, 5, "the agent has noticed")
        found = _found(site, hv1, status=1)
    finally:
        site.lab.broker.start()
        for agent in site.agents.values():
            agent.wait_ready()

    assert "waits for bus" in found["agent-not-ready"]["what"]
    assert "broker-unreachable" in found
    text = site.command(hv1, "doctor").stdout
    assert "fault: " not in text


def _pair(site: Site) -> tuple[Port, Port]:
    """Plug a port on hv1 and one on hv2, in one network, and wait until they know of each other."""
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    here, there = (Port(f"{blue.id}-{name}", site.lab.mac(), blue) for name in ("here", "there"))
    site.plug(hv1, here)
    site.plug(hv2, there)
    site.wait_known(hv1, there.mac, hv2)
    site.wait_known(hv2, here.mac, hv1)
    site.wait_active(hv1, here)
    for hypervisor in (hv1, hv2):
        eventually(lambda each=hypervisor: _complete(site, each, blue.id), 15, "it is complete")  # type: ignore[misc]
    return here, there


def _complete(site: Site, hypervisor: Hypervisor, network_id: str) -> bool:
    return any(row["network_id"] == network_id and row["complete"] for row in site.ask(hypervisor, "networks"))


def _found(site: Site, hypervisor: Hypervisor, *, status: int = 0, **environment: str) -> dict[str, dict[str, str]]:
    """Return what the doctor finds, by name; of several of one name, all that they say."""
    told = site.command(hypervisor, "doctor", "--json", status=status, **environment).stdout
    found: dict[str, dict[str, str]] = {}
    for finding in json.loads(told):
        before = found.get(finding["name"], dict.fromkeys(finding, ""))
        found[finding["name"]] = {key: f"{before[key]}\n{text}" for key, text in finding.items()}
    return found


@contextmanager
def _without_its_device(hypervisor: Hypervisor, nic: Nic) -> Iterator[None]:
    """Take a port's device away, as a VM that dies leaves its row behind."""
    device = nic.port.device
    hypervisor.namespace.ip(f"link del {device}")
    eventually(lambda: (hypervisor.row("Interface", device) or {})["ifindex"] == 0, 5, "ovs-vswitchd has noticed")
    yield
    nic.cable(hypervisor.name, hypervisor.namespace)


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
