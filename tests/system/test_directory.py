"""Details from the bus: libvirt says who a port is, the directory says the rest. Real hypervisors and a broker."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from portwatch import wire
from portwatch.model import PortId
from tests.lab import Agent, Hypervisor, Lab, Network, Nic, eventually
from tests.system.conftest import Site

pytestmark = pytest.mark.system

TOPICS = wire.Topics("portwatch/v1")
ORCHESTRATOR = ("network-id", "network-type", "segmentation-id", "fixed-ips", "device-owner")
BARE = dict.fromkeys(ORCHESTRATOR)
"""What libvirt does not write."""


class Orchestrator(Site):
    """A site whose ports have libvirt's keys only, and who writes the directory."""

    def bare(self, hypervisor: Hypervisor, network: Network, *addresses: str) -> Nic:
        """Plug a guest of which only the bus can tell more."""
        return self.guest(hypervisor, network, *addresses, keys=BARE)[1]

    def write(self, nic: Nic, **changes: Any) -> dict[str, Any]:
        """Put the details of a port into the directory."""
        network = nic.port.network
        assert network is not None
        details = {
            "network_id": network.id,
            "segmentation_id": network.segmentation_id,
            "fixed_ips": list(nic.port.fixed_ips),
            "device_owner": "compute:nova",
        }
        details |= changes
        self.put(nic, json.dumps(details))
        return details

    def put(self, nic: Nic, payload: str) -> None:
        self.lab.broker.publish(TOPICS.directory(PortId(nic.port.id)), payload, retain=True)

    def wait_reason(self, hypervisor: Hypervisor, nic: Nic, status: str, word: str) -> str:
        """Wait until a port has that status, for a reason with that word in it."""

        def told() -> str | None:
            row = self.port(hypervisor, nic)
            fits = row is not None and row["status"] == status and word in (row["reason"] or "")
            return row["reason"] if row and fits else None

        return eventually(told, 5, lambda: f"{status} for {word}; it is {self.port(hypervisor, nic)}")


@pytest.fixture(scope="module")
def orchestrated() -> Iterator[Orchestrator]:
    with Lab(2) as lab:
        environment = {"PORTWATCH_PORTS__DETAILS": "directory"}
        agents = {each.name: lab.agent(each, environment=environment) for each in lab.hypervisors}
        for agent in agents.values():
            agent.start()
        for agent in agents.values():
            agent.wait_ready()
        yield Orchestrator(lab, agents)
        for agent in agents.values():
            if agent.process.running:
                assert agent.stop() == 0


@pytest.fixture
def site(orchestrated: Orchestrator) -> Iterator[Orchestrator]:
    yield orchestrated
    orchestrated.check()
    orchestrated.clear()
    for hypervisor in orchestrated.hypervisors:
        eventually(lambda each=hypervisor: not orchestrated.ask(each, "ports"), 5, "no port is left")  # type: ignore[misc]
    orchestrated.check()


def test_a_port_whose_details_were_there_first_is_wired_at_plug(site: Orchestrator) -> None:
    hv1, hv2 = site.hypervisors
    blue = site.network("blue")
    vm = site.lab.vm("early")
    early = vm.nic("early", site.lab.mac(), ("10.0.0.1/24",), blue)
    site.write(early)
    site.plug(hv1, early, BARE)
    late = site.bare(hv2, blue, "10.0.0.2/24")
    site.write(late)

    vm.reach("10.0.0.2", timeout=5)

    row = site.wait_active(hv1, early)
    assert (row["network_id"], row["segmentation_id"]) == (blue.id, blue.segmentation_id)
    assert (row["fixed_ips"], row["device_owner"]) == (["10.0.0.1"], "compute:nova")


def test_a_port_whose_details_come_after_the_plug_waits_for_them_and_is_wired_at_once(site: Orchestrator) -> None:
    hv1, _ = site.hypervisors
    nic = site.bare(hv1, site.network("blue"), "10.0.0.1/24")
    reason = site.wait_reason(hv1, nic, "BUILD", "details-missing")
    assert reason == "details-missing: network-id, segmentation-id not in the directory"
    assert nic.port.mac not in "\n".join(site.held(hv1, "br-int"))

    site.write(nic)

    site.wait_active(hv1, nic)
    installed = [each for each in site.agents["hv1"].log_records() if each.get("port") == nic.port.id]
    assert [each["seconds"] < 0.5 for each in installed if each["event"] == "port installed"] == [True]


def test_details_that_need_another_type_of_tunnel_have_its_port_made(site: Orchestrator) -> None:
    hv1, _ = site.hypervisors
    nic = site.bare(hv1, site.network("blue"), "10.0.0.1/24")
    site.wait_reason(hv1, nic, "BUILD", "details-missing")

    site.write(nic, network_type="gre")

    site.wait_active(hv1, nic)
    assert hv1.ofport("pw-gre")


def test_keys_of_the_orchestrator_on_the_interface_count_for_nothing(site: Orchestrator) -> None:
    hv1, _ = site.hypervisors
    red, blue = site.network("red"), site.network("blue")
    _, nic = site.guest(hv1, blue, "10.0.0.1/24", keys={"network-id": "a/b", "segmentation-id": "0"})
    site.wait_reason(hv1, nic, "BUILD", "details-missing")

    site.write(nic, network_id=red.id, segmentation_id=red.segmentation_id)

    assert site.wait_active(hv1, nic)["network_id"] == red.id


def test_a_change_of_the_fixed_ips_is_followed_by_the_answers_on_the_other_hosts(site: Orchestrator) -> None:
    hv1, hv2 = site.hypervisors
    blue = site.network("blue")
    asking, one = site.guest(hv1, blue, "10.0.0.1/24", keys=BARE)
    two = site.bare(hv2, blue, "10.0.0.2/24")
    site.write(one)
    site.write(two)
    site.wait_known(hv1, two.port.mac, hv2)
    assert asking.who_has("10.0.0.2") == [two.port.mac]

    site.write(two, fixed_ips=["10.0.0.7"])

    eventually(lambda: "arp_tpa=10.0.0.7" in "\n".join(site.held(hv1, "br-tun")), 5, "10.0.0.7 is answered on hv1")
    assert "arp_tpa=10.0.0.2" not in "\n".join(site.held(hv1, "br-tun"))
    assert asking.who_has("10.0.0.7") == [two.port.mac]


def test_a_port_that_changes_its_network_goes_over_to_the_other(site: Orchestrator) -> None:
    hv1, hv2 = site.hypervisors
    red, blue = site.network("red"), site.network("blue")
    vm, nic = site.guest(hv1, blue, "10.0.0.1/24", keys=BARE)
    other = site.bare(hv2, red, "10.0.0.2/24")
    site.write(nic)
    site.write(other)
    site.wait_active(hv1, nic)
    assert vm.cannot_reach("10.0.0.2")

    site.write(nic, network_id=red.id, segmentation_id=red.segmentation_id)

    vm.reach("10.0.0.2", timeout=5)


def test_details_that_are_deleted_stay_while_the_port_is_plugged_in_and_are_gone_when_it_returns(
    site: Orchestrator,
) -> None:
    hv1, hv2 = site.hypervisors
    blue = site.network("blue")
    vm, nic = site.guest(hv1, blue, "10.0.0.1/24", keys=BARE)
    other = site.bare(hv2, blue, "10.0.0.2/24")
    site.write(nic)
    site.write(other)
    vm.reach("10.0.0.2", timeout=5)
    before = site.held(hv1, "br-int"), site.held(hv2, "br-tun")

    site.put(nic, "")
    site.write(other, device_owner="compute:later")  # the topics are independent: this only lets time pass
    eventually(lambda: (site.port(hv2, other) or {})["device_owner"] == "compute:later", 5, "the news is through")

    assert (site.held(hv1, "br-int"), site.held(hv2, "br-tun")) == before
    assert vm.ping("10.0.0.2").received == 1
    site.unplug(hv1, nic)
    site.plug(hv1, nic, BARE)
    site.wait_reason(hv1, nic, "BUILD", "details-missing")


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        ("{", "not-json", "bad-details"),
        ('{"network_id": "blue", "segmentation_id": "100"}', "wrong-shape", "segmentation_id"),
        ('{"network_id": "blue", "segmentation_id": 0}', "wrong-value", "0 is not a VNI"),
        ('{"network_id": "a/b"}', "wrong-value", "a/b"),
        ('{"port_id": "another"}', "topic-mismatch", "another"),
    ],
)
def test_details_that_cannot_be_used_are_refused_counted_and_shown_if_nothing_better_is_known(
    site: Orchestrator, payload: str, reason: str, words: str
) -> None:
    hv1, _ = site.hypervisors
    nic = site.bare(hv1, site.network("blue"), "10.0.0.1/24")
    site.wait_reason(hv1, nic, "BUILD", "details-missing")
    before = _refused(site.agents["hv1"], reason)

    site.put(nic, payload)
    assert words in site.wait_reason(hv1, nic, "ERROR", "bad-details")
    assert _refused(site.agents["hv1"], reason) == before + 1

    site.write(nic)
    site.wait_active(hv1, nic)
    site.put(nic, payload)
    eventually(lambda: _refused(site.agents["hv1"], reason) == before + 2, 5, "it is refused again")
    assert site.wait_active(hv1, nic)["fixed_ips"] == ["10.0.0.1"]
    site.put(nic, "")


def test_a_mac_that_is_not_the_one_plugged_in_is_an_error_until_they_agree(site: Orchestrator) -> None:
    hv1, _ = site.hypervisors
    nic = site.bare(hv1, site.network("blue"), "10.0.0.1/24")

    site.write(nic, mac="fa:16:3e:99:99:99")
    words = site.wait_reason(hv1, nic, "ERROR", "mac-mismatch")
    assert nic.port.mac in words
    assert "fa:16:3e:99:99:99" in words

    site.write(nic, mac=nic.port.mac.upper())
    site.wait_active(hv1, nic)


def test_a_port_is_listened_to_from_its_plug_to_its_unplug(site: Orchestrator) -> None:
    hv1, _ = site.hypervisors
    nic = site.bare(hv1, site.network("blue"), "10.0.0.1/24")
    topic = TOPICS.directory(PortId(nic.port.id))
    site.write(nic)
    site.wait_active(hv1, nic)

    site.unplug(hv1, nic)

    def said(word: str) -> bool:
        lines = site.lab.broker.log_lines()
        return any(word in line for line in lines[-400:]) and any(line.endswith(f"\t{topic}") for line in lines[-400:])

    eventually(lambda: said("Received UNSUBSCRIBE from portwatch-hv1"), 5, "hv1 unsubscribes")
    before = _refused(site.agents["hv1"], "not-json")
    site.put(nic, "{")
    site.put(nic, "")
    assert _refused(site.agents["hv1"], "not-json") == before


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_cuts_nobody_off_even_when_the_details_were_deleted(
    site: Orchestrator, end: str, *, deleted: bool
) -> None:
    hv1, hv2 = site.hypervisors
    blue = site.network("blue")
    vm, nic = site.guest(hv1, blue, "10.0.0.1/24", keys=BARE)
    other = site.bare(hv2, blue, "10.0.0.2/24")
    missing = site.bare(hv1, blue, "10.0.0.3/24")
    site.write(nic)
    site.write(other)
    vm.reach("10.0.0.2", timeout=5)
    before = site.wait_active(hv1, nic)
    flows = {bridge: site.held(hv1, bridge) for bridge in ("br-int", "br-tun")}
    agent = site.agents["hv1"]
    heard = site.lab.broker.subscribe(TOPICS.port(None, "+", "+").replace("/_/", "/+/"))  # type: ignore[arg-type]
    probe = vm.probe("10.0.0.2")
    if deleted:
        site.put(nic, "")

    getattr(agent, end)()
    agent.start()
    agent.wait_ready()

    after = site.wait_active(hv1, nic)
    seen = probe.stop()
    assert not seen.lost, seen
    assert {key: after[key] for key in ("seq", "local_vlan", "fixed_ips")} == {
        key: before[key] for key in ("seq", "local_vlan", "fixed_ips")
    }
    site.wait_reason(hv1, missing, "BUILD", "details-missing")
    assert {bridge: site.held(hv1, bridge) for bridge in flows} == flows
    ends = [each for each in heard.messages if each.topic.endswith(f"/{nic.port.id}") and not each.payload]
    assert not ends, "the port was never gone"
    heard.stop()


def test_a_restart_without_a_broker_leaves_all_as_it_is_until_the_broker_is_back(site: Orchestrator) -> None:
    hv1, hv2 = site.hypervisors
    blue = site.network("blue")
    vm, nic = site.guest(hv1, blue, "10.0.0.1/24", keys=BARE)
    other = site.bare(hv2, blue, "10.0.0.2/24")
    site.write(nic)
    site.write(other)
    vm.reach("10.0.0.2", timeout=5)
    site.wait_active(hv1, nic)
    agent = site.agents["hv1"]
    agent.stop()
    site.lab.broker.kill()
    agent.start()
    eventually(lambda: "waits for the bus" in _ready(agent), 10, "it says what it waits for")

    assert vm.ping("10.0.0.2").received == 1

    site.lab.broker.start()  # it remembers nothing, and that proves nothing
    eventually(lambda: "bus" not in json.loads(_ready(agent))["reasons"], 10, "hv1 is connected again")
    assert vm.ping("10.0.0.2", count=30).received == 30
    site.write(nic)
    site.write(other)
    agent.wait_ready()
    site.agents["hv2"].wait_ready()
    site.wait_active(hv1, nic)
    assert vm.ping("10.0.0.2").received == 1


def test_the_commands_write_read_and_delete_what_the_agents_follow(site: Orchestrator) -> None:
    hv1, _ = site.hypervisors
    blue = site.network("blue")
    nic = site.bare(hv1, blue, "10.0.0.1/24")
    port = nic.port.id

    assert _directory(site, "get", port).returncode == 1
    keys = (f"network-id={blue.id}", f"segmentation-id={blue.segmentation_id}", "fixed-ips=10.0.0.1, FD00::1")
    assert _directory(site, "set", port, *keys).returncode == 0
    assert site.wait_active(hv1, nic)["fixed_ips"] == ["10.0.0.1", "fd00::1"]
    assert _directory(site, "set", port, "device-owner=compute:nova", "fixed-ips=").returncode == 0
    eventually(lambda: (site.port(hv1, nic) or {})["fixed_ips"] == [], 5, "the addresses are taken back")

    told = _directory(site, "get", "--json", port)
    assert json.loads(told.stdout) == {
        "network_id": blue.id,
        "network_type": "vxlan",
        "segmentation_id": blue.segmentation_id,
        "device_owner": "compute:nova",
    }
    shown = _directory(site, "get", port).stdout
    assert re.search(rf"network-id +{blue.id}\n", shown), shown
    assert _directory(site, "delete", port).returncode == 0
    assert site.lab.broker.retained(TOPICS.directory(PortId(port))) == {}
    assert "nothing" in _directory(site, "get", port).stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("segmentation-id=0", "segmentation-id is '0'"),
        ("network-id=a/b", "'a/b' is not an id"),
        ("fixed-ip=10.0.0.1", "did you mean fixed-ips?"),
        ("network_id=blue", "did you mean network-id?"),
        ("zzz=1", "the keys are network-id,"),
        ("fixed-ips", "fixed-ips=VALUE"),
    ],
)
def test_a_wrong_key_or_value_is_named_and_nothing_is_published(site: Orchestrator, change: str, words: str) -> None:
    ended = _directory(site, "set", "nobody", "network-type=vxlan", change)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert site.lab.broker.retained(TOPICS.directory(PortId("nobody"))) == {}


def test_without_a_broker_the_commands_say_so(site: Orchestrator) -> None:
    for command in (("set", "p", "network-id=blue"), ("get", "p"), ("delete", "p")):
        memory = _directory(site, *command, url="memory://")
        assert (memory.returncode, memory.stderr.count("\n")) == (2, 1), memory.stderr
        assert "memory://" in memory.stderr
        nobody = _directory(site, *command, url="mqtt://127.0.0.1:1")
        assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1), nobody.stderr


def _directory(site: Orchestrator, *arguments: str, url: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "portwatch", "directory", *arguments]
    hypervisor = site.hypervisors[0]
    environment = {**site.agents["hv1"].environment, "PORTWATCH_BUS__URL": url or site.lab.broker.url}
    del environment["PORTWATCH_PORTS__DETAILS"]  # who writes needs no agent of that kind beside it
    inside = ["nsenter", f"--net=/run/netns/{hypervisor.namespace.name}"]
    return subprocess.run([*inside, *command], env=environment, capture_output=True, text=True, timeout=20, check=False)


def _refused(agent: Agent, reason: str) -> int:
    found = re.search(rf'portwatch_bus_rejected_total{{reason="{reason}"}} (\d+)', agent.http_get("/metrics")[1])
    return int(found[1]) if found else 0


def _ready(agent: Agent) -> str:
    try:
        return agent.http_get("/readyz")[1]
    except OSError:
        return ""
