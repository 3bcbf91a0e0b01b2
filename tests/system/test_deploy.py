"""What stands in deploy/: each file looked at by a real tool for its format, each script run as it is meant to be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portwatch import __version__, config
from tests.lab import Lab, eventually, shell

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).parents[2] / "deploy"
TOOLS = Path(sys.executable).parent
EXPOSURE_AT_MOST = 20
"""A tenth of systemd's scale, where 0 is best and 100 worst."""
LOOKED_AT_ELSEWHERE = {"mosquitto", "prometheus", "grafana", "authority"}
"""By mosquitto and openssl in test_security.py and test_bridge.py; metrics and rules by their own tests."""


def test_every_folder_is_looked_at() -> None:
    here = {"image", "systemd", "compose", "kubernetes", "libvirt", "directory"}

    assert {path.name for path in DEPLOY.iterdir()} - LOOKED_AT_ELSEWHERE == here


@pytest.mark.parametrize("user", ["root", "portwatch"])
def test_the_unit_is_understood_and_hardened(tmp_path: Path, user: str) -> None:
    unit = tmp_path / "portwatch.service"
    text = (DEPLOY / "systemd" / unit.name).read_text()
    if user != "root":  # --offline reads no drop-ins
        text += (DEPLOY / "systemd" / "portwatch-user.conf").read_text()
    unit.write_text(text.replace("/usr/local/bin/portwatch", sys.executable))  # verify wants the program to be there

    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], check=True, capture_output=True, text=True
    ).stderr
    shell.run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST}", str(unit))

    assert [line for line in said.splitlines() if "portwatch" in line] == []


def test_compose_is_valid_and_has_this_version() -> None:
    path = DEPLOY / "compose" / "compose.yaml"

    shell.run(str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path))

    assert f"image: portwatch:{__version__}\n" in path.read_text()
    assert f"ARG VERSION={__version__}\n" in (DEPLOY.parent / "Dockerfile").read_text()


def test_kubernetes_takes_the_resources() -> None:
    resources = [str(DEPLOY / "kubernetes" / name) for name in ("namespace.yaml", "daemonset.yaml")]

    shell.run(str(TOOLS / "kubernetes-validate"), "--strict", *resources)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="this distribution has no kubectl")
def test_kustomize_renders_them_with_this_version_and_a_configuration_that_is_one(tmp_path: Path) -> None:
    rendered = shell.run("kubectl", "kustomize", str(DEPLOY / "kubernetes"))

    (tmp_path / "all.yaml").write_text(rendered)
    shell.run(str(TOOLS / "kubernetes-validate"), "--strict", str(tmp_path / "all.yaml"))
    assert f"image: registry.example/portwatch:{__version__}\n" in rendered
    assert config.load(DEPLOY / "kubernetes" / "portwatch.toml", {}).warnings == ()


def test_the_shell_scripts_are_sound() -> None:
    ours = [DEPLOY / "authority", DEPLOY / "directory" / "fill", *sorted((DEPLOY.parent / ".ci").iterdir())]

    shell.run(str(TOOLS / "shellcheck"), "--severity=warning", *map(str, ours))


@pytest.mark.parametrize("name", ["a b", "../hv1", "hv1/x", "+", "-hv1", "", "x" * 65, "hosts-ca", "broker"])
def test_the_authority_refuses_what_is_no_host_name_and_makes_nothing(tmp_path: Path, name: str) -> None:
    argv = [DEPLOY / "authority", tmp_path / "pki"]
    subprocess.run([*argv, "init"], check=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    refused = subprocess.run([*argv, "host", name], check=False, capture_output=True, text=True)

    assert refused.returncode != 0
    assert (name or "NAME") in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_libvirt_takes_the_domain() -> None:
    shell.run("virt-xml-validate", str(DEPLOY / "libvirt" / "domain.xml"), "domain")


def test_a_guest_described_in_libvirts_xml_is_wired_by_the_hook() -> None:
    xml = (DEPLOY / "libvirt" / "domain.xml").read_text()
    with Lab(1, broker=False) as lab:
        hypervisor = lab.hypervisors[0]
        agent = lab.agent(hypervisor, environment={"PORTWATCH_BUS__URL": "memory://"})
        agent.start()
        agent.wait_ready()
        hypervisor.create_bridge()
        keys = {"iface-id": "web-1", "attached-mac": "fa:16:3e:00:00:01", "iface-status": "active"}
        plug = ["--", "add-port", "br-int", "tap-web-1", "--", "set", "Interface", "tap-web-1", "type=internal"]
        hypervisor.vsctl(*plug, *(f'external_ids:{key}="{value}"' for key, value in keys.items()))

        for stage in ("prepare", "start", "started", "release"):
            shell.run(
                *(sys.executable, str(DEPLOY / "libvirt" / "qemu"), "web-1", stage, "begin", "-"),
                stdin=xml,
                environment=os.environ | {"OVS_RUNDIR": str(hypervisor.rundir)},
            )

        eventually(lambda: '"status":"ACTIVE"' in agent.http_get("/v1/ports")[1].replace(" ", ""), 5, "it is wired")
        ports = agent.http_get("/v1/ports")[1]
        for word in ("blue", "10.0.0.5", "fd00::5", "web-1"):
            assert word in ports


def test_a_script_fills_the_directory_and_empties_it(tmp_path: Path) -> None:
    table = "port,network-id,segmentation-id,fixed-ips\nweb-1,blue,100,10.0.0.5 fd00::5\nweb-2,blue,100,\n"
    with Lab(0) as lab:
        (tmp_path / "portwatch.toml").write_text(f'bus.url = "mqtt+unix://{lab.broker.socket}"\n')
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PORTWATCH_")},
            "PORTWATCH_CONFIG": str(tmp_path / "portwatch.toml"),
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
        }

        shell.run(str(DEPLOY / "directory" / "fill"), stdin=table, environment=environment)

        held = lab.broker.retained("portwatch/v1/directory/+")
        assert sorted(held) == ["portwatch/v1/directory/web-1", "portwatch/v1/directory/web-2"]
        assert '"fixed_ips":["10.0.0.5","fd00::5"]' in held["portwatch/v1/directory/web-1"]
        shell.run(
            str(DEPLOY / "directory" / "fill"), stdin="port,network-id\nweb-1,\nweb-2,\n", environment=environment
        )
        assert lab.broker.retained("portwatch/v1/directory/+") == {}
