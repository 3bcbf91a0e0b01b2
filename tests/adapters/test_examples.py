"""The example consumers, against a real broker: what they print of a port that stands, comes and goes."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.events import PortAdded, PortRemoved, key_of
from portwatch.visit import visit
from tests.adapters.mosquitto import Mosquitto, a_free_port, a_mosquitto
from tests.core.fleet import START, TOPICS, a_claim, a_port

pytestmark = pytest.mark.adapters

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
CLAIM = a_claim(a_port("p1", "blue"))
TOPIC = TOPICS.port(*key_of(CLAIM))
ADDED = Publication(TOPIC, wire.encode_event(PortAdded(CLAIM, 1, START)), retain=True)
REMOVED = Publication(TOPIC, wire.encode_event(PortRemoved(CLAIM, 2, START)))
CLEARED = Publication(TOPIC, b"", retain=True)


def test_the_shell_example_prints_one_line_an_event(tmp_path: Path) -> None:
    port = a_free_port()
    with a_mosquitto(tmp_path, port=port) as broker:
        _publish(broker, ADDED)
        told = _told(["sh", str(EXAMPLES / "follow.sh"), "127.0.0.1", "blue"], broker, 2, PORT=str(port))

    assert [line.split("\t")[1:4] for line in told] == [
        ["portwatch.port.added", "hv2", "p1"],
        ["portwatch.port.removed", "hv2", "p1"],
    ]


def test_the_python_example_keeps_the_ports_that_there_are(tmp_path: Path) -> None:
    port = a_free_port()
    with a_mosquitto(tmp_path, port=port) as broker:
        _publish(broker, ADDED)
        told = _told([sys.executable, str(EXAMPLES / "follow.py"), "127.0.0.1", str(port)], broker, 2)

    assert told == ["['hv2/p1 ACTIVE']", "[]"]


def _told(command: list[str], broker: Mosquitto, lines: int, **environment: str) -> list[str]:
    """Run a consumer; when it has told of the port that stands, end the port; return its first *lines*."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin", **environment}, process_group=0
    ) as consumer:
        assert consumer.stdout is not None
        try:
            told = [consumer.stdout.readline().strip()]
            _publish(broker, REMOVED, CLEARED)
            told += [consumer.stdout.readline().strip() for _ in range(lines - 1)]
        finally:
            _end(consumer)
    return told


def _end(consumer: "subprocess.Popen[str]") -> None:
    """End the consumer and its children: the group is its own."""
    subprocess.run(["kill", "-TERM", "--", f"-{consumer.pid}"], check=True)
    deadline = time.monotonic() + 5
    while consumer.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def _publish(broker: Mosquitto, *publications: Publication) -> None:
    async def publish() -> None:
        async with visit(MqttBroker(MqttSettings(url=broker.url)), TOPICS.prefix, "test") as visitor:
            await visitor.publish(*publications)

    asyncio.run(publish())
