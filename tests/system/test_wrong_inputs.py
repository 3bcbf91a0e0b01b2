"""Wrong inputs: each gives one clear line that says what and where, a count, and nothing else suffers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Agent, Hypervisor, Lab, Network, Port, eventually
from tests.system.conftest import Site

pytestmark = pytest.mark.system

BLUE = Network("blue", 100)
MANIFEST_OF_ANOTHER = json.dumps({"host": "hv8", "session": "s", "count": 0, "digest": "0" * 64})


def test_a_wrong_value_in_the_configuration_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    path = tmp_path / "portwatch.toml"
    path.write_text('[tunnel]\nlocal_ip = "192.0.2.300"\n')

    ended = _portwatch("run", "--config", str(path))

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    for word in (str(path), "tunnel.local_ip", "192.0.2.300"):
        assert word in ended.stderr


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    ended = _portwatch("run", PORTWATCH_BUS__URL="amqp://somewhere")

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "PORTWATCH_BUS__URL" in ended.stderr


def test_an_unknown_key_is_a_warning_that_suggests_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "portwatch.toml"
    path.write_text('[tunnel]\nlocal_pi = "192.0.2.3"\n')

    ended = _portwatch("check-config", "--config", str(path))

    assert ended.returncode == 0
    assert "tunnel.local_pi" in ended.stderr
    assert "local_ip" in ended.stderr


def test_a_question_to_an_agent_that_does_not_run_is_one_line_and_exit_status_1() -> None:
    ended = _portwatch("ports", PORTWATCH_HTTP__LISTEN="127.0.0.1:1")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert "127.0.0.1:1" in ended.stderr


@pytest.fixture
def alone() -> Iterator[tuple[Lab, Hypervisor]]:
    """One hypervisor; broker and agent are the test's to start."""
    with Lab(1, broker=False) as lab:
        yield lab, lab.hypervisors[0]


def test_without_ovsdb_it_keeps_trying_and_says_so(alone: tuple[Lab, Hypervisor]) -> None:
    lab, hypervisor = alone
    hypervisor.ovsdb_server.kill()
    agent = lab.agent(hypervisor, environment={"PORTWATCH_BUS__URL": "memory://"})
    agent.start()

    reasons = _reasons(agent, "ovsdb")

    assert str(hypervisor.db) in reasons["ovsdb"]
    assert agent.http_get("/healthz")[0] == 200
    hypervisor.ovsdb_server.start()
    agent.wait_ready()
    assert agent.stop() == 0


def test_without_a_switch_it_keeps_trying_and_says_so(alone: tuple[Lab, Hypervisor]) -> None:
    lab, hypervisor = alone
    hypervisor.vswitchd.kill()
    agent = lab.agent(hypervisor, environment={"PORTWATCH_BUS__URL": "memory://"})
    agent.start()

    reasons = _reasons(agent, "switch")

    assert "ovs-vswitchd" in reasons["switch"]
    hypervisor.vswitchd.start()
    agent.wait_ready()
    assert agent.stop() == 0


def test_without_a_broker_local_ports_are_wired_and_the_rest_follows(alone: tuple[Lab, Hypervisor]) -> None:
    lab, hypervisor = alone
    agent = lab.agent(hypervisor)
    agent.start()
    reasons = _reasons(agent, "bus")
    assert "192.0.2.2:1883" in reasons["bus"]
    one, two = lab.vm("one"), lab.vm("two")
    hypervisor.plug(one.nic("p1", lab.mac(), ("10.0.0.1/24",), BLUE))
    hypervisor.plug(two.nic("p2", lab.mac(), ("10.0.0.2/24",), BLUE))

    one.reach("10.0.0.2", timeout=5)

    assert set(_reasons(agent, "bus")) == {"bus"}
    lab.broker.start()
    agent.wait_ready()
    eventually(lambda: len(lab.broker.retained("portwatch/v1/ports/blue/#")) == 2, 5, "both ports are on the bus")
    assert agent.stop() == 0
    assert json.loads(lab.broker.retained("portwatch/v1/hosts/hv1")["portwatch/v1/hosts/hv1"])["state"] == "stopped"


def test_a_killed_agent_leaves_its_last_will(alone: tuple[Lab, Hypervisor]) -> None:
    lab, hypervisor = alone
    lab.broker.start()
    agent = lab.agent(hypervisor)
    agent.start()
    agent.wait_ready()

    agent.kill()

    topic = "portwatch/v1/hosts/hv1"
    eventually(lambda: '"offline"' in lab.broker.retained(topic)[topic], 20, "the last will is published")


def test_a_bridge_that_forbids_openflow_15_is_named_with_what_to_do(alone: tuple[Lab, Hypervisor]) -> None:
    lab, hypervisor = alone
    hypervisor.create_bridge()
    hypervisor.vsctl("set", "Bridge", "br-int", "protocols=OpenFlow10,OpenFlow13")
    agent = lab.agent(hypervisor, environment={"PORTWATCH_BUS__URL": "memory://"})
    agent.start()

    reasons = _wait_for_reason(agent, "switch", "OpenFlow")

    assert "br-int" in reasons
    hypervisor.vsctl("add", "Bridge", "br-int", "protocols", "OpenFlow15")
    agent.wait_ready()
    assert agent.stop() == 0


def test_memory_bus_wires_ports_with_no_broker_and_no_configuration_file(alone: tuple[Lab, Hypervisor]) -> None:
    lab, hypervisor = alone
    bare = {"PORTWATCH_BUS__URL": "memory://", "PORTWATCH_TUNNEL__LOCAL_IP": ""}
    agent = lab.agent(hypervisor, environment=bare)
    for name in ("PORTWATCH_BUS__URL", "PORTWATCH_TUNNEL__LOCAL_IP", "PORTWATCH_HOST"):
        agent.environment.pop(name)
    agent.start()
    agent.wait_ready()
    one, two, other = lab.vm("one"), lab.vm("two"), lab.vm("other")
    hypervisor.plug(one.nic("p1", lab.mac(), ("10.0.0.1/24",), BLUE))
    hypervisor.plug(two.nic("p2", lab.mac(), ("10.0.0.2/24",), BLUE))
    hypervisor.plug(other.nic("p3", lab.mac(), ("10.0.0.3/24",), Network("green", 200)))

    one.reach("10.0.0.2", timeout=5)

    assert one.cannot_reach("10.0.0.3")
    assert agent.stop() == 0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"attached-mac": "zz"}, "attached-mac is 'zz'"),
        ({"segmentation-id": "0"}, "segmentation-id is '0'"),
        ({"segmentation-id": "16777216"}, "segmentation-id is '16777216'"),
        ({"fixed-ips": "10.0.0.1, ten"}, "fixed-ips is '10.0.0.1, ten'"),
        ({"allowed-address-pairs": "x/y"}, "allowed-address-pairs is 'x/y'"),
        ({"network-type": "VX LAN"}, "network-type is 'VX LAN'"),
        ({"port-kind": "double"}, "port-kind is 'double'"),
        ({"admin-state": "sideways"}, "admin-state is 'sideways'"),
    ],
)
def test_a_port_with_a_wrong_key_is_in_error_with_the_reason_and_harms_no_other(
    site: Site, keys: dict[str, str], words: str
) -> None:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    wrong = Port("wrong", site.lab.mac(), blue, ("10.0.0.9/24",))
    site.plug(hv1, wrong, keys)
    _, one_nic = site.guest(hv1, blue, "10.0.0.1/24")
    two, _ = site.guest(site.hypervisors[1], blue, "10.0.0.2/24")

    two.reach("10.0.0.1", timeout=5)

    site.wait_active(hv1, one_nic)
    row = site.port(hv1, wrong)
    assert row is not None
    assert row["status"] == "ERROR"
    assert words in row["reason"]
    assert 'portwatch_ports{status="ERROR"} 1.0' in site.agents["hv1"].http_get("/metrics")[1]
    retained = site.lab.broker.retained(f"portwatch/v1/ports/{blue.id}/hv1/wrong")
    assert [json.loads(payload)["data"]["status"] for payload in retained.values()] == ["ERROR"]
    hv1.set_external_ids(wrong, {key: wrong.keys().get(key) for key in keys})
    site.wait_active(hv1, wrong)


@pytest.mark.parametrize("keys", [{"network-id": "a/b"}, {"iface-id": "a+b"}, {"iface-id": "x" * 129}])
def test_an_id_that_cannot_stand_in_a_topic_is_counted_and_explained_and_not_published(
    site: Site, keys: dict[str, str]
) -> None:
    hv1 = site.hypervisors[0]
    wrong = Port("unfit", site.lab.mac(), site.network("blue"))

    site.plug(hv1, wrong, keys)

    def unfit() -> list[str]:
        return [row["reason"] for row in site.ask(hv1, "ports") if row["interface"] == wrong.device]

    assert "bad-id" in eventually(unfit, 5, "the interface is explained")[0]
    assert 'portwatch_ports{status="ERROR"} 1.0' in site.agents["hv1"].http_get("/metrics")[1]
    for name in (keys.get("iface-id", wrong.id), wrong.mac.upper(), wrong.device):
        assert "bad-id" in site.command(hv1, "explain", name).stdout


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("ports/{network}/hv9/p9", "{", "not-json"),
        ("ports/{network}/hv9/p9", "[]", "wrong-shape"),
        ("ports/{network}/hv9/p9", '{"specversion": "1.0"}', "wrong-shape"),
        ("ports/{network}/hv9/p8", "EVENT", "topic-mismatch"),
        ("ports/{network}/hv9/p9", "BAD MAC", "wrong-value"),
        ("manifests/{network}/hv9", MANIFEST_OF_ANOTHER, "topic-mismatch"),
    ],
)
def test_a_malformed_message_is_refused_counted_and_changes_nothing(
    site: Site, topic: str, payload: str, reason: str
) -> None:
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    one, nic = site.guest(hv1, blue, "10.0.0.1/24")
    _, other = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_known(hv1, other.port.mac, hv2)
    one.reach("10.0.0.2")
    before = site.held(hv1, "br-tun"), _refused(site, reason)
    event = _event(blue.id)
    if payload == "BAD MAC":
        event["data"]["mac"] = "zz; drop"
    text = json.dumps(event) if payload in ("EVENT", "BAD MAC") else payload

    site.lab.broker.publish("portwatch/v1/" + topic.format(network=blue.id), text)

    eventually(lambda: _refused(site, reason) == before[1] + 1, 5, f"one more message is refused as {reason}")
    assert site.held(hv1, "br-tun") == before[0]
    assert one.ping("10.0.0.2").received == 1
    assert site.port(hv1, nic)


def _portwatch(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PORTWATCH_")}
    command = [sys.executable, "-m", "portwatch", *arguments]
    return subprocess.run(command, env={**ours, **environment}, capture_output=True, text=True, timeout=20, check=False)


def _reasons(agent: Agent, component: str) -> dict[str, str]:
    """Wait until /readyz names *component*, and return all that it names."""
    found: dict[str, str] = {}

    def named() -> bool:
        found.clear()
        try:
            status, text = agent.http_get("/readyz")
        except OSError:
            return False
        found.update(json.loads(text)["reasons"])
        return (
            status == 503
            and component in found
            and not found[component].endswith(("not yet connected", "waits for OVSDB"))
        )

    eventually(named, 10, lambda: f"/readyz names {component}; it says {found}")
    return found


def _wait_for_reason(agent: Agent, component: str, word: str) -> str:
    return eventually(
        lambda: text if word in (text := _reasons(agent, component)[component]) else None,
        10,
        f"/readyz speaks of {word}",
    )


def _refused(site: Site, reason: str) -> int:
    text = site.agents["hv1"].http_get("/metrics")[1]
    found = re.search(rf'portwatch_bus_rejected_total{{reason="{reason}"}} (\d+)', text)
    return int(found[1]) if found else 0


def _event(network: str) -> dict[str, Any]:
    """Return a port event as hv9 would publish it."""
    data = {
        "port_id": "p9",
        "host": "hv9",
        "network_id": network,
        "network_type": "vxlan",
        "segmentation_id": 1,
        "mac": "fa:16:3e:99:99:99",
        "fixed_ips": [],
        "allowed_address_pairs": [],
        "device_owner": "",
        "kind": "single",
        "tunnel_ip": "192.0.2.99",
        "state": "active",
        "status": "ACTIVE",
        "session": "s",
        "seq": 1,
        "revision": 1,
    }
    return {
        "specversion": "1.0",
        "id": "hv9/s/1",
        "source": "/portwatch/hosts/hv9",
        "subject": "p9",
        "type": "portwatch.port.added",
        "time": "2026-11-22T09:13:22.998Z",
        "data": data,
    }
