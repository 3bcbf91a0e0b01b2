"""Hostile neighbours on the bus: a flood of what is wrong, beside which all goes on."""

import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage
from tests.lab import Port, eventually
from tests.lab.flood import Flood
from tests.system.conftest import BRIDGES

ROWS = Rows("Hostile messages")
fault = ROWS.fault

RATE = 10_000
PLUGS = 6
STARVED = 25
"""Probes: the flood, its readers and the switches share the cores of one machine."""
USUAL = 20
"""So many times as long a plug may take in the flood as without it: a busy machine, not a queue of messages."""
GROWTH = 40_000
"""KiB of memory: none of it is kept."""
LINES = 40
"""Of the log, for what may be 100,000 messages."""
EVIL = "fa:16:3e:ee:ee:ee"
EVENT = {
    "specversion": "1.0",
    "id": "evil/s/1",
    "source": "/portwatch/hosts/evil",
    "type": "portwatch.port.added",
    "subject": "evil",
    "time": "2026-11-22T09:13:22.998Z",
}
BAD: tuple[bytes | Mapping[str, object], ...] = (
    *(b"{", b"\xff\xfe\x00", b"[" * 3000, b"[]", b"null", b'{"specversion": "1.0"}'),
    {"mac": f"{EVIL},actions=NORMAL\nflow add table=0,actions=NORMAL"},
    {"mac": "01:00:5e:00:00:01"},
    {"segmentation_id": 2**24},
    {"tunnel_ip": "127.0.0.1,actions=flood"},
    {"fixed_ips": ["10.0.0.1,actions=NORMAL"]},
    {"seq": 2**63},
    {"revision": -1},
    {"host": "hv1"},
    {"network_id": "another"},
)
"""Whole messages, or what makes a good one bad."""


@fault(
    f"{RATE} bad ones a second, while ports are plugged in",
    lost=STARVED,
    lost_elsewhere=STARVED,
    flows=None,
    elsewhere=None,
    within=20,
)
def flood(stage: Stage) -> Story:
    own = stage.site.network("flooded")
    reader = Port("flooded", stage.site.lab.mac(), own)
    stage.site.plug(stage.hv, reader)
    quiet = [_plug_seconds(stage) for _ in range(PLUGS)]
    counted, lines, memory = _refused(stage), len(_said_of_messages(stage)), _memory(stage.agent.process.pid)
    with Flood(stage.site.lab.broker, _messages(own.id), RATE) as messages:
        time.sleep(1)
        busy = [_plug_seconds(stage) for _ in range(PLUGS)]
        time.sleep(1)
        grown = _memory(stage.agent.process.pid) - memory
    # An agent that cannot keep up may be given up by the broker, or give it up: what waited for it then is lost.
    what = "a good part is counted"
    eventually(lambda: sum((_refused(stage) - counted).values()) >= messages.sent // 4, 20, what)
    reasons = _refused(stage) - counted
    usual, now = 1000 * statistics.median(quiet), 1000 * statistics.median(busy)
    share = round(100 * sum(reasons.values()) / messages.sent)
    stage.note(f"{messages.sent} messages, {share} % of them heard")
    stage.note(f"a plug took {now:.0f} ms (median; {usual:.0f} ms without), {grown} KiB more are held")
    assert set(reasons) >= {"not-json", "wrong-shape", "wrong-value", "topic-mismatch", "too-large"}
    assert now <= USUAL * usual
    assert grown <= GROWTH
    assert len(_said_of_messages(stage)) - lines <= LINES
    assert not any(EVIL in flow for bridge in BRIDGES for flow in stage.hv.dump_flows(bridge))
    yield
    stage.unplug(stage.hv, reader)


def _messages(network: str) -> list[tuple[str, bytes]]:
    """Return messages of a thousand hosts, all read by the one hypervisor that has a port in the network."""
    return [
        (f"portwatch/v1/ports/{network}/evil{number}/evil", _message(f"evil{number}", network, number))
        for number in range(1000)
    ]


def _message(host: str, network: str, number: int) -> bytes:
    data = {
        "port_id": "evil",
        "host": host,
        "network_id": network,
        "segmentation_id": 1,
        "mac": EVIL,
        "tunnel_ip": "192.0.2.99",
        "state": "active",
        "status": "ACTIVE",
        "session": "s",
        "seq": 1,
        "revision": 1,
    }
    if number == 0:
        return b" " * 70_000
    bad = BAD[number % len(BAD)]
    if isinstance(bad, bytes):
        return bad
    return json.dumps({**EVENT, "data": {**data, **bad}}).encode()


def _plug_seconds(stage: Stage) -> float:
    """Return how long it takes from a plug until the port is installed, as OVSDB shows it."""
    port = stage.port()
    begin = time.monotonic()
    stage.site.plug(stage.hv, port, wait=False)
    stage.hv.vsctl("wait-until", "Port", port.device, "external_ids:portwatch-installed=true")
    seconds = time.monotonic() - begin
    stage.unplug(stage.hv, port)
    return seconds


def _refused(stage: Stage) -> Counter[str]:
    text = stage.agent.http_get("/metrics")[1]
    found = re.findall(r'portwatch_bus_rejected_total{reason="([a-z-]+)"} (\S+)', text)
    return Counter({reason: int(float(number)) for reason, number in found})


def _said_of_messages(stage: Stage) -> list[str]:
    return [line for line in stage.agent.log_lines() if "message from the bus" in line]


def _memory(pid: int) -> int:
    """Return what a process holds in memory, in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
