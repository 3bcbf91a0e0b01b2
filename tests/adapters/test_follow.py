"""`portwatch events` as a process, beside a real mosquitto."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.events import PortAdded
from portwatch.model import HostName, NetworkId, PortId
from portwatch.visit import visit
from tests.adapters.mosquitto import Mosquitto, a_mosquitto
from tests.core.fleet import START, TOPICS, a_claim, a_port

pytestmark = pytest.mark.adapters


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with a_mosquitto(tmp_path) as broker:
        yield broker


@pytest.mark.parametrize("signalled", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["added", "portwatch.port.added"])
def test_it_shows_the_types_that_were_asked_for_and_a_signal_ends_it_with_status_0(
    broker: Mosquitto, kind: str, signalled: signal.Signals
) -> None:
    asyncio.run(_retain_a_port(broker))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTWATCH_")}
    environment["PORTWATCH_BUS__URL"] = broker.url
    command = [sys.executable, "-m", "portwatch", "events", "--type", kind]

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signalled)

    assert (process.returncode, "added" in line) == (0, True)


async def _retain_a_port(broker: Mosquitto) -> None:
    claim = a_claim(a_port("p1", "blue"))
    topic = TOPICS.port(NetworkId("blue"), HostName("hv2"), PortId("p1"))
    async with visit(MqttBroker(MqttSettings(url=broker.url)), TOPICS.prefix, "test") as visitor:
        await visitor.publish(Publication(topic, wire.encode_event(PortAdded(claim, 1, START)), True))
