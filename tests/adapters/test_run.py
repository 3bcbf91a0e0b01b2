"""`portwatch run` as a process: how its log looks to people and to programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.ovsdb_server import OvsdbServer

pytestmark = pytest.mark.adapters


def first_line(tmp_path: Path, *options: str) -> str:
    """Return the first line that an agent without any partner logs."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTWATCH_")}
    environment |= {"PORTWATCH_OVSDB__REMOTE": f"unix:{tmp_path}/db.sock", "PORTWATCH_HTTP__LISTEN": "off"}
    command = [sys.executable, "-m", "portwatch", "run", *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0
    return line


def test_the_log_is_json_for_programs_and_begins_with_when_how_bad_and_what(tmp_path: Path) -> None:
    record = json.loads(first_line(tmp_path))

    assert list(record)[:3] == ["timestamp", "level", "event"]
    assert (record["level"], record["event"], record["bus"]) == ("info", "portwatch starts", "memory://")


def test_the_log_is_text_for_people_who_ask_for_it(tmp_path: Path) -> None:
    line = first_line(tmp_path, "--log-format", "console")

    assert "[info     ] portwatch starts" in line
    assert "bus=memory://" in line


def test_a_name_in_ovsdb_that_cannot_stand_on_the_bus_ends_the_start_and_is_named(tmp_path: Path) -> None:
    server = OvsdbServer(tmp_path)
    server.start()
    try:
        server.vsctl("--", "init", "--", "set", "Open_vSwitch", ".", "external_ids:hostname=a/b")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTWATCH_")}
        environment |= {"PORTWATCH_OVSDB__REMOTE": server.remote, "PORTWATCH_HTTP__LISTEN": "off"}

        command = [sys.executable, "-m", "portwatch", "run"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=15)
    finally:
        server.kill()

    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("portwatch: OVSDB, Open_vSwitch.external_ids:hostname: host = 'a/b': expected")
