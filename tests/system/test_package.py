"""What is released: wheel and sdist, built here, and portwatch from the wheel in an environment of its own."""

import hashlib
import os
import re
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from portwatch import __version__
from tests.adapters.mosquitto import a_free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 150
START_SECONDS = 15.0


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Return what a command says; portwatch's own variables, and Python's, do not reach it."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("PORTWATCH_", "PYTHON"))}
    ended = subprocess.run(
        command, cwd=cwd, env=ours | environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def build(source: Path, into: Path, *targets: str) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-d", into, *(word for each in targets for word in ("-t", each)),
        cwd=source)  # fmt: skip


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, "sdist", "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    return packages / f"portwatch-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the locked dependencies and the wheel, put there as CONTRIBUTING.md says."""
    place = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", place)
    install = (place / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-build-isolation")
    run(*install, "--require-hashes", "-r", "requirements/build.txt")
    run(*install, "--require-hashes", "-r", "requirements/run.txt")
    run(*install, "--no-deps", "--no-index", wheel)
    return place / "bin"


def test_wheel_holds_what_is_in_the_source_and_the_licence_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    information = f"portwatch-{__version__}.dist-info"
    metadata = [f"{information}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")]
    manual = f"portwatch-{__version__}.data/data/share/man/man1/portwatch.1"

    names = zipfile.ZipFile(wheel).namelist()

    assert sorted(names) == sorted(
        [*(str(path.relative_to(source)) for path in files), *metadata, manual, f"{information}/licenses/LICENSE"]
    )


def test_sdist_gives_the_same_wheel_byte_by_byte(packages: Path, wheel: Path, tmp_path: Path) -> None:
    run("tar", "--extract", "--file", packages / f"portwatch-{__version__}.tar.gz", cwd=tmp_path)

    build(tmp_path / f"portwatch-{__version__}", tmp_path, "wheel")

    assert hashlib.sha256((tmp_path / wheel.name).read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_the_wheel_alone_gives_a_working_command(installed: Path, tmp_path: Path) -> None:
    portwatch = installed / "portwatch"

    assert run(portwatch, "--version", cwd=tmp_path).strip() == f"portwatch, version {__version__}"
    commands = run(portwatch, "--help", cwd=tmp_path)
    assert {"run", "check-config", "explain"} <= set(re.findall(r"^  ([a-z-]+) ", commands, re.MULTILINE))
    assert 'url = "memory://"' in run(portwatch, "check-config", cwd=tmp_path)
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


def test_it_runs_waits_for_open_vswitch_and_stops_when_asked(installed: Path, tmp_path: Path) -> None:
    port = a_free_port()
    settings = {
        "PORTWATCH_HTTP__LISTEN": f"127.0.0.1:{port}",
        "PORTWATCH_OVSDB__REMOTE": f"unix:{tmp_path}/db.sock",
        "PORTWATCH_OPENFLOW__RUNDIR": str(tmp_path),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    with subprocess.Popen(
        [installed / "portwatch", "run"], cwd=tmp_path, env=settings, stderr=subprocess.PIPE
    ) as agent:
        try:
            assert "portwatch_build_info" in wait_for(f"http://127.0.0.1:{port}/metrics", agent)
        finally:
            agent.terminate()
        assert agent.wait(10) == 0


def wait_for(url: str, agent: "subprocess.Popen[bytes]") -> str:
    """Return what stands at *url* as soon as somebody answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own, on loopback
                return str(answer.read().decode())
        except OSError:
            assert agent.poll() is None, agent.stderr.read() if agent.stderr else ""
            assert time.monotonic() < deadline, f"nobody answers at {url}"
            time.sleep(0.05)
