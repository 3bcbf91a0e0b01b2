"""The image's file system, as a sidecar of a lab hypervisor: `make image-test` builds it and says where it is."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from portwatch import __version__
from tests.lab import Agent, Hypervisor, Lab, Network, eventually, shell

ROOT = Path(os.environ.get("IMAGE_ROOT", "/nowhere"))
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif("IMAGE_ROOT" not in os.environ, reason="minutes of building: make image-test"),
]

LOCK = Path(__file__).parents[2] / "requirements" / "run.txt"
BLUE = Network("blue", 100)

# As a container engine would, by deploy/compose: a read-only root, the switch's sockets, no capability.
ENTER = """\
set -e
mount --bind "$IMAGE" "$IMAGE"
mount --bind /dev "$IMAGE/dev"
mount --bind "$OVS" "$IMAGE/run/openvswitch"
mount -o remount,bind,ro "$IMAGE"
exec chroot "$IMAGE" /usr/bin/setpriv --reuid="$WHO" --regid="$WHO" --groups="$GROUPS_OF" \
    --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
SOCKETS_GROUP = 4711
"""As `openvswitch` may be on a host that has deploy/systemd/openvswitch-group.conf."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(2) as lab:
        yield lab


def in_image(lab: Lab, who: int, *command: str) -> tuple[str, ...]:
    """Return the command line that runs *command* of the image beside hv1, as user *who* in the sockets' group."""
    (ROOT / "run" / "openvswitch").mkdir(exist_ok=True)
    settings = (f"IMAGE={ROOT}", f"OVS={lab.hypervisors[0].rundir}", f"WHO={who}", f"GROUPS_OF={SOCKETS_GROUP}")
    return ("unshare", "--mount", "--propagation", "private", "env", *settings, "sh", "-c", ENTER, "-", *command)


def open_to_the_group(hypervisor: Hypervisor) -> None:
    """Make the bridges, and leave all sockets of the switch to the group as well."""
    hypervisor.create_bridge()
    hypervisor.vsctl("add-br", "br-tun", "--", "set", "Bridge", "br-tun", "datapath_type=netdev")
    for socket in filter(Path.is_socket, hypervisor.rundir.iterdir()):
        os.chown(socket, 0, SOCKETS_GROUP)
        socket.chmod(0o770)


@pytest.mark.parametrize("who", [0, 65534])
def test_it_runs_beside_a_hypervisor_and_a_guest_behind_it_is_reached_from_another_host(lab: Lab, who: int) -> None:
    config = json.loads(os.environ["IMAGE_CONFIG"])
    entry = [*config["Entrypoint"], *config["Cmd"]]
    environment = {
        "PORTWATCH_OVSDB__REMOTE": "unix:/run/openvswitch/db.sock",
        "PORTWATCH_OPENFLOW__RUNDIR": "/run/openvswitch",
    }
    one, other = lab.hypervisors
    if who:
        assert config["User"] == f"{who}:{who}"
        open_to_the_group(one)
    agents = [lab.agent(one, in_image(lab, who, *entry), environment), lab.agent(other)]
    vms = [lab.vm(name) for name in ("one", "other")]
    for agent in agents:
        agent.start()
    for number, (agent, vm) in enumerate(zip(agents, vms, strict=True), 1):
        agent.wait_ready()
        agent.hypervisor.plug(vm.nic(vm.name, lab.mac(), (f"10.0.0.{number}/24",), BLUE))

    eventually(lambda: vms[1].ping("10.0.0.1", timeout=0.3).received, 10, "the guest behind the image answers")
    assert vms[0].ping("10.0.0.2").received == 1
    assert healthy(lab, agents[0], config, who) == 0
    assert agents[0].stop() == 0
    assert vms[1].ping("10.0.0.1").received == 1
    assert healthy(lab, agents[0], config, who) != 0


def healthy(lab: Lab, agent: Agent, config: dict[str, dict[str, list[str]]], who: int) -> int:
    """Return the exit status of the image's own health check."""
    kind, *check = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{agent.hypervisor.namespace.name}", *in_image(lab, who, *check)],
        env=agent.environment,
        capture_output=True,
        check=False,
    ).returncode


def test_where_the_sockets_are_roots_alone_another_user_is_told_so(lab: Lab) -> None:
    config = json.loads(os.environ["IMAGE_CONFIG"])
    agent = lab.agent(
        lab.hypervisors[0],
        in_image(lab, 65534, *config["Entrypoint"], *config["Cmd"]),
        {"PORTWATCH_OVSDB__REMOTE": "unix:/run/openvswitch/db.sock"},
    )

    agent.start()

    said = "permission denied: portwatch must be in the group that owns the socket"
    eventually(lambda: any(said in line for line in agent.log_lines()), 10, "it says what it lacks")
    assert agent.stop() == 0


def test_it_starts_as_nobody_in_particular() -> None:
    config = json.loads(os.environ["IMAGE_CONFIG"])

    said = shell.run("chroot", f"--userspec={config['User']}", str(ROOT), *config["Entrypoint"], "--version")

    assert config["User"] != "0:0"
    assert said.strip() == f"portwatch, version {__version__}"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__


def test_it_holds_what_it_needs_and_no_tools_to_build_or_fetch_with() -> None:
    commands = {path.name for folder in ("usr/bin", "usr/sbin", "usr/local/bin") for path in (ROOT / folder).iterdir()}

    assert {"ovs-ofctl", "ovs-appctl", "portwatch", "healthy"} <= commands
    assert commands & {"gcc", "cc", "c++", "make", "pip", "pip3", "curl", "wget", "ssh", "ovsdb-server"} == set()


def test_its_inventory_names_every_locked_dependency_with_its_licence() -> None:
    share = ROOT / "usr" / "share" / "portwatch"
    locked = re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(), re.MULTILINE)
    inventory = json.loads((share / "sbom.cdx.json").read_text())
    purls = {component["purl"] for component in inventory["components"]}
    licences = (share / "THIRD-PARTY-LICENCES").read_text()

    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str((share / "sbom.cdx.json").read_text()) is None
    for name, version in locked:
        assert f"pkg:pypi/{name}@{version}" in purls
    assert any(purl.startswith("pkg:deb/debian/openvswitch-common@3.1") for purl in purls)
    assert all(component["licenses"] for component in inventory["components"] if "pypi" in component["purl"])
    for words in ("Permission is hereby granted", "Redistribution and use in source", "Apache License"):
        assert words in licences
    for name in re.findall(r"\(Debian\): /usr/share/doc/(\S+)/copyright", licences):
        assert (ROOT / "usr" / "share" / "doc" / name).exists(), name
