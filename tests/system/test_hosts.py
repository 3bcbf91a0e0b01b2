"""README's "On a real host", typed word by word on fresh machines that run systemd: `make host-test` makes them."""

import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, Network, Nic, Vm, eventually
from tests.lab.machine import HOME, Machine
from tests.lab.ports import key_arguments
from tests.lab.underlay import SECOND, UPLINK, Address

BASE = Path(os.environ.get("HOST_BASE", "/nowhere"))
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(1200),
    pytest.mark.skipif("HOST_BASE" not in os.environ, reason="minutes of installing: make host-test"),
]

ROOT = Path(__file__).parents[2]
ADDRESSES = {"broker.example": SECOND, "hv1": Address(11), "hv2": Address(12)}
OTHER = {"hv1": "hv2", "192.0.2.11": "192.0.2.12", "web-1": "web-2", "00:00:01": "00:00:02", "10.0.0.5": "10.0.0.6"}
"""What reads otherwise on the second hypervisor."""
READY_SECONDS = 30.0
KERNEL_DATAPATH = Path("/sys/module/openvswitch").exists()
BLUE = Network("blue", 100)

# Where the kernel has no Open vSwitch: its scripts may not fail for that, and bridges are the userspace's.
MODPROBE = "#!/bin/sh\nexit 0\n"
DATAPATH = "[Service]\nEnvironment=PORTWATCH_BRIDGES__DATAPATH_TYPE=netdev\n"
BRIDGED_UPLINK = f"""\
mac=$(ip -br link show {UPLINK} | awk "{{print \\$3}}")
ovs-vsctl add-br br-phy -- set Bridge br-phy datapath_type=netdev other_config:hwaddr=\\"$mac\\"
ovs-vsctl add-port br-phy {UPLINK}
ip address flush dev {UPLINK}
ip address add %s/24 dev br-phy
ip link set br-phy up
"""


def blocks(page: str, heading: str) -> list[str]:
    """Return what a page has typed below a heading, one script a block; `#` is the prompt, but in a here-document."""
    level = heading.partition(" ")[0]
    section = (ROOT / page).read_text().partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]
    scripts = []
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        lines, ends = [], ""
        for line in block.splitlines():
            lines.append(line if ends or not line.startswith("# ") else line.removeprefix("# "))
            if begun := re.search(r"<<'(\w+)'$", line):
                ends = begun[1]
            elif line == ends:
                ends = ""
        scripts.append("\n".join(lines))
    return scripts


BROKER, HYPERVISOR, PORT = blocks("README.md", "## On a real host")


def checkout(machine: Machine) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        place = machine.root / HOME.lstrip("/") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place)


def pki(machine: Machine) -> Path:
    return machine.root / HOME.lstrip("/") / "pki"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(0, broker=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def broker(lab: Lab) -> Machine:
    machine = lab.machine("broker.example", BASE, ADDRESSES)
    checkout(machine)
    machine.start()
    machine.run(BROKER)
    machine.run("deploy/authority pki host hv2")
    return machine


@pytest.fixture(scope="module")
def hypervisors(lab: Lab, broker: Machine) -> list[Machine]:
    """The two hypervisors, with all that README types, but for the port."""
    machines = []
    for name in ("hv1", "hv2"):
        machine = lab.machine(name, BASE, ADDRESSES)
        checkout(machine)
        pki(machine).mkdir()
        for file in (f"{name}.pem", f"{name}.key", "hosts-ca.pem"):
            shutil.copy2(pki(broker) / file, pki(machine))
        if not KERNEL_DATAPATH:
            machine.write("usr/local/sbin/modprobe", MODPROBE, 0o755)
            machine.write("etc/systemd/system/portwatch.service.d/datapath.conf", DATAPATH)
        machine.start()
        machine.run(typed(HYPERVISOR, name))
        if not KERNEL_DATAPATH:
            machine.run(BRIDGED_UPLINK % ADDRESSES[name].ipv4)
        machines.append(machine)
    return machines


def typed(script: str, name: str) -> str:
    """Return *script* as it is typed on that hypervisor."""
    return changed(script, OTHER if name == "hv2" else {})


def changed(script: str, words: dict[str, str]) -> str:
    for here, there in words.items():
        script = script.replace(here, there)
    return script


def get(machine: Machine, path: str) -> str:
    """Return what the agent answers, over the machine's own loopback; nothing when it does not listen."""

    def ask() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", 9476, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    return machine.namespace.inside(ask)


def wait_ready(machine: Machine) -> None:
    said = ""

    def ready() -> bool:
        nonlocal said
        said = get(machine, "/readyz")
        return bool(said) and bool(json.loads(said)["ready"])

    eventually(ready, READY_SECONDS, lambda: f"{machine.name} is ready; it says {said}")


def wait_wired(machine: Machine, ports: int) -> None:
    eventually(lambda: get(machine, "/v1/ports").count('"ACTIVE"') == ports, 10, f"{ports} ports are wired")


def main_pid(machine: Machine) -> str:
    return machine.unit("portwatch", "MainPID")


@pytest.fixture(scope="module")
def guests(lab: Lab, hypervisors: list[Machine]) -> list[Vm]:
    """A guest on each hypervisor, beside the port that README plugs there."""
    vms = []
    for number, machine in enumerate(hypervisors, 1):
        wait_ready(machine)
        plugged, asked = typed(PORT, machine.name).split("portwatch ports")
        machine.run(plugged)
        wait_wired(machine, 1)
        said = machine.run("portwatch ports" + asked)
        assert f"web-{number}" in said
        assert "blue" in said
        vm = lab.vm(f"guest-{number}")
        plug(machine, vm.nic(f"guest-{number}", f"fa:16:3e:00:01:0{number}", (f"10.0.0.{10 + number}/24",), BLUE))
        wait_wired(machine, 2)
        vms.append(vm)
    return vms


def plug(machine: Machine, nic: Nic) -> None:
    """Plug a guest's card as libvirt and an orchestrator do."""
    device = nic.port.device
    nic.cable(machine.name, machine.namespace)
    machine.namespace.ip(f"link set {device} up")
    keys = shlex.join(key_arguments(nic.port.keys()))
    machine.run(f"ovs-vsctl add-port br-int {device} -- set Interface {device} {keys}")


def test_what_readme_says_gives_two_hosts_that_carry_a_network(hypervisors: list[Machine], guests: list[Vm]) -> None:
    hypervisors[0].run("ping -c 1 -W 5 10.0.0.6")
    guests[0].reach("10.0.0.12")

    for machine, other in zip(hypervisors, reversed(hypervisors), strict=True):
        assert other.name in machine.run("portwatch fdb blue")
        found = json.loads(machine.run("portwatch doctor --json", accept=(0, 1)))
        assert [each for each in found if each["severity"] == "fault"] == []


def test_the_manual_is_found(hypervisors: list[Machine]) -> None:
    one = hypervisors[0]
    one.run("apt install man-db")

    assert "portwatch trace" in one.run("man portwatch")


def test_the_unit_has_no_capability_no_new_privileges_and_a_filter_of_calls(
    hypervisors: list[Machine], guests: list[Vm]
) -> None:
    one = hypervisors[0]

    status = one.run(f"cat /proc/{main_pid(one)}/status")

    assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 3
    assert re.findall(r"^(?:NoNewPrivs|Seccomp):\t(\d)$", status, re.MULTILINE) == ["1", "2"]
    for place in ("/usr", "/etc", "/run"):
        assert "Read-only" in one.run(f"nsenter -t {main_pid(one)} --mount touch {place}/new 2>&1", accept=(1,))


def test_a_killed_agent_is_started_again_and_no_packet_is_lost(hypervisors: list[Machine], guests: list[Vm]) -> None:
    one = hypervisors[0]
    guests[0].reach("10.0.0.12")
    before = main_pid(one)
    probe = guests[0].probe("10.0.0.12", interval=0.01)

    one.run("systemctl kill --signal=KILL portwatch")
    eventually(lambda: main_pid(one) not in ("0", before), READY_SECONDS, "systemd starts it again")
    wait_ready(one)

    assert probe.stop().lost == ()
    assert one.unit("portwatch", "NRestarts") == "1"


def test_it_outlives_a_restart_of_open_vswitch_and_one_of_the_broker(
    broker: Machine, hypervisors: list[Machine], guests: list[Vm]
) -> None:
    one = hypervisors[0]
    before = main_pid(one)

    one.run("systemctl restart openvswitch-switch")
    broker.run("systemctl restart mosquitto")

    guests[0].reach("10.0.0.12")
    wait_ready(one)
    assert main_pid(one) == before


def test_a_wrong_configuration_stops_it_for_good_and_the_journal_says_why(hypervisors: list[Machine]) -> None:
    two = hypervisors[1]
    two.run(
        "cp /etc/portwatch/portwatch.toml /etc/portwatch/right\nsed -i 's/mqtts:/mqtt5:/' /etc/portwatch/portwatch.toml"
    )

    two.run("systemctl restart portwatch", accept=(0, 1))

    eventually(lambda: two.unit("portwatch", "ActiveState") == "failed", READY_SECONDS, "it stays down")
    assert two.unit("portwatch", "ExecMainStatus") == "2"
    assert "bus.url" in two.run("journalctl -u portwatch -o cat -n 20")
    two.run("mv /etc/portwatch/right /etc/portwatch/portwatch.toml && systemctl restart portwatch")
    wait_ready(two)


def test_after_a_reboot_all_is_as_before_by_itself(hypervisors: list[Machine], guests: list[Vm]) -> None:
    two = hypervisors[1]

    two.run("systemctl stop portwatch")
    assert two.unit("portwatch", "Result") == "success"
    two.off()
    two.start()

    wait_ready(two)
    assert two.unit("portwatch", "NRestarts") == "0"


def test_it_runs_as_a_user_of_its_own_where_the_sockets_are_a_groups(
    hypervisors: list[Machine], guests: list[Vm]
) -> None:
    one = hypervisors[0]

    one.run(blocks("docs/deployment.md", "### Not as root")[0])

    wait_ready(one)
    guests[0].reach("10.0.0.12")
    status = one.run(f"cat /proc/{main_pid(one)}/status")
    user = one.run("id -u portwatch").strip()
    assert re.findall(r"^Uid:(.*)$", status, re.MULTILINE) == [f"\t{user}" * 4]
    assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 3
    another = {"web-1": "web-9", "web0": "web9", "00:00:01": "00:00:09", "10.0.0.5": "10.0.0.9"}
    one.run(changed(PORT.partition("portwatch ports")[0], another))
    wait_wired(one, 3)
    assert "readable" not in one.run("portwatch doctor", accept=(0, 1))
