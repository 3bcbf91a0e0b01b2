"""OVSDB restarted, stopped, slow, replaced, refusing: what the switch goes on doing by itself is disturbed by nothing.

With the userspace datapath ovs-vswitchd forwards nothing while it has no connection to ovsdb-server, and it takes up to
8 s until it tries again: so long traffic stands still with portwatch and without. What its log says of that is the
measure of these rows.
"""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from tests.faults.fault import Rows, Story
from tests.faults.restarts import FAR_FLOWS, PORT_FLOWS
from tests.faults.stage import Stage
from tests.lab import Message, Port, eventually

ROWS = Rows("OVSDB")
fault = ROWS.fault

HEARTBEAT_SECONDS = 15.0
"""The agent asks after 5 s of silence and gives up 5 s later."""
EDGE = 0.15
"""Seconds of silence that nobody is blamed for: a port that comes or goes lets ovs-vswitchd stand still so long."""
MANY = 2000
CONFIGURE_SECONDS = 20.0


def restart_alone(stage: Stage) -> None:
    stage.hv.ovsdb_server.restart()


@fault("ovsdb-server restarted", alone=restart_alone, lost=None)
def server_restarted(stage: Stage) -> Story:
    with _news(stage) as news, _reconnects(stage):
        stage.hv.ovsdb_server.restart()
    yield
    _promise_no_more_than_the_switch_itself(stage)
    assert news.seen == [], "nothing has changed, and nothing is told"


@fault(
    "ovsdb-server restarted and ports come and go while the agent stands still (SIGSTOP)",
    lost=None,
    flows=4 * PORT_FLOWS,
    elsewhere=6 * FAR_FLOWS,
)
def changes_behind_its_back(stage: Stage) -> Story:
    going, passing = stage.plug(stage.hv, "10.0.8.1/16"), stage.port("10.0.8.2/16")
    stage.until_converged(5)
    with _news(stage) as news, _reconnects(stage):
        stage.agent.pause()
        try:
            stage.hv.ovsdb_server.restart()
            stage.unplug(stage.hv, going)
            coming = stage.plug(stage.hv, "10.0.8.3/16")
            stage.hv.plug(passing)
            stage.hv.unplug(passing)
        finally:
            stage.agent.resume()
        stage.site.wait_active(stage.hv, coming)
    yield
    _promise_no_more_than_the_switch_itself(stage)
    assert news.of(going) == ["portwatch.port.removed", "cleared"]
    assert news.of(coming) == ["portwatch.port.added", "portwatch.port.updated"], "BUILD, then ACTIVE"
    assert len(news.seen) == 4, "nothing is told of any other port"
    stage.unplug(stage.hv, coming)


@fault("ovsdb-server stands still (SIGSTOP) until the agent's own heartbeat notices")
def server_stopped(stage: Stage) -> Story:
    with _news(stage) as news:
        stage.hv.ovsdb_server.pause()
        try:
            eventually(lambda: "ovsdb" in _reasons(stage), HEARTBEAT_SECONDS, "the agent says that OVSDB is silent")
        finally:
            stage.hv.ovsdb_server.resume()
    yield
    assert news.seen == []


@fault(
    "ovsdb-server slow: it stands still for most of four seconds, in bits",
    flows=PORT_FLOWS,
    elsewhere=2 * FAR_FLOWS,
)
def server_slow(stage: Stage) -> Story:
    coming = stage.plug(stage.hv, "10.0.8.1/16", wait=False)
    for _ in range(10):
        stage.hv.ovsdb_server.pause()
        time.sleep(0.35)  # the slowness
        stage.hv.ovsdb_server.resume()
    yield
    stage.site.wait_active(stage.hv, coming)
    stage.unplug(stage.hv, coming)


@fault(
    "the database replaced by an older copy of itself",
    lost=None,
    flows=4 * PORT_FLOWS,
    elsewhere=8 * FAR_FLOWS,
)
def database_replaced(stage: Stage) -> Story:
    old = stage.plug(stage.hv, "10.0.8.1/16")
    stage.until_converged(5)
    database = stage.hv.rundir / "conf.db"
    copy = stage.hv.rundir / "conf.db.copy"
    shutil.copy(database, copy)
    new = stage.plug(stage.hv, "10.0.8.2/16")
    stage.hv.unplug(old)
    stage.until_converged(5)
    with _reconnects(stage):
        stage.hv.ovsdb_server.stop()
        shutil.copy(copy, database)
        stage.hv.ovsdb_server.start()
    stage.site.wait_active(stage.hv, old)
    yield
    _promise_no_more_than_the_switch_itself(stage)
    known = {row["mac"] for row in stage.ask(stage.third, "fdb")}
    assert (old.mac in known, new.mac in known) == (True, False)
    stage.unplug(stage.hv, old)
    stage.unplug(stage.hv, new)


@fault(
    "ovsdb-server refuses writes for a while: what is to be remembered is written later",
    lost=None,
    flows=PORT_FLOWS,
    elsewhere=2 * FAR_FLOWS,
)
def writes_refused(stage: Stage) -> Story:
    refusals = _refusals(stage)
    stage.agent.pause()
    try:
        coming = stage.plug(stage.hv, "10.0.8.1/16")
        with _read_only(stage):
            stage.agent.resume()
            stage.site.wait_active(stage.hv, coming)
            eventually(lambda: _refusals(stage) > refusals, 5, "a write is refused")
    finally:
        stage.agent.resume()
    yield
    _promise_no_more_than_the_switch_itself(stage)
    eventually(lambda: _remembered(stage, coming), 10, "the Port row remembers that the port is wired")
    stage.unplug(stage.hv, coming)


def many_rows_alone(stage: Stage) -> None:
    _add_many_rows(stage)
    _remove_many_rows(stage)


@fault(f"{2 * MANY:,} rows in one update, and all of them gone in the next", alone=many_rows_alone)
def many_rows(stage: Stage) -> Story:
    with _news(stage) as news:
        _add_many_rows(stage)
        _remove_many_rows(stage)
    yield
    assert news.seen == []


@dataclass
class News:
    """What the hypervisor that is hit has said of its ports meanwhile."""

    seen: list[Message] = field(default_factory=list)

    def of(self, port: Port) -> list[str]:
        """Return the types of what was said of one port, in order."""
        said = [message for message in self.seen if message.topic.endswith(f"/{port.id}")]
        return [message.json()["type"] if message.payload else "cleared" for message in said]


@contextmanager
def _news(stage: Stage) -> Iterator[News]:
    """Listen to the bus; what was said is complete when the agent has nothing more to do."""
    recorder = stage.site.lab.broker.subscribe(f"portwatch/v1/ports/+/{stage.hv.name}/+")
    news = News()
    try:
        yield news
        stage.until_converged(HEARTBEAT_SECONDS)
        news.seen += [message for message in recorder.messages if not message.snapshot]
    finally:
        recorder.stop()


def _promise_no_more_than_the_switch_itself(stage: Stage) -> None:
    """Hold the silence of the talks against the time in which ovs-vswitchd says that it had no ovsdb-server."""
    begin, end = _last(stage, "closed by peer"), _last(stage, ": connected")
    away = end - begin if begin >= min(result.answered[0] for result in stage.results) else 0.0
    silence = stage.loss().silence
    stage.note(f"ovs-vswitchd was without ovsdb-server for {1000 * away:,.0f} ms")
    stage.promise(
        silence <= away + EDGE, f"traffic stood still for {silence:.2f} s, the switch itself for {away:.2f} s"
    )


def _last(stage: Stage, words: str) -> float:
    """Return when ovs-vswitchd has logged a line with this end for the last time; 0 when it has not."""
    lines = (stage.hv.rundir / "ovs-vswitchd.log").read_text().splitlines()
    moments = [line.partition("|")[0] for line in lines if line.endswith(words)]
    return datetime.fromisoformat(moments[-1]).timestamp() if moments else 0.0


@contextmanager
def _reconnects(stage: Stage) -> Iterator[None]:
    """Wait, at the end, until the agent has noticed and is connected again."""
    name = "portwatch_reconnects_total"
    before = stage.metric(stage.hv, name)
    yield
    eventually(lambda: stage.metric(stage.hv, name) > before, HEARTBEAT_SECONDS, "the agent is connected again")


@contextmanager
def _read_only(stage: Stage) -> Iterator[None]:
    """Make ovsdb-server the backup of one that is not there: it refuses every write."""
    stage.hv.appctl("ovsdb-server/set-active-ovsdb-server", "tcp:127.0.0.1:1", target="ovsdb-server")
    stage.hv.appctl("ovsdb-server/connect-active-ovsdb-server", target="ovsdb-server")
    try:
        yield
    finally:
        stage.hv.appctl("ovsdb-server/disconnect-active-ovsdb-server", target="ovsdb-server")


def _refusals(stage: Stage) -> int:
    """Return how often the agent has said that its writes were refused."""
    return sum(record["event"] == "ovsdb-server refuses what we write" for record in stage.agent.log_records())


def _reasons(stage: Stage) -> dict[str, str]:
    _, body = stage.agent.http_get("/readyz")
    reasons: dict[str, str] = json.loads(body)["reasons"]
    return reasons


def _remembered(stage: Stage, port: Port) -> bool:
    row = stage.hv.row("Port", port.device) or {}
    keys = row.get("external_ids")
    return isinstance(keys, dict) and keys.get("portwatch-installed") == "true"


def _add_many_rows(stage: Stage) -> None:
    """Add a bridge whose ports have no devices, all in one transaction."""
    names = [f"none{number}" for number in range(MANY)]
    interfaces = [
        {"op": "insert", "table": "Interface", "row": {"name": name}, "uuid-name": f"i{name}"} for name in names
    ]
    ports = [
        {
            "op": "insert",
            "table": "Port",
            "row": {"name": name, "interfaces": ["named-uuid", f"i{name}"]},
            "uuid-name": f"p{name}",
        }
        for name in names
    ]
    members = ["set", [["named-uuid", f"p{name}"] for name in names]]
    bridge = {"name": "br-many", "datapath_type": "netdev", "fail_mode": "secure", "ports": members}
    mutations = [["bridges", "insert", ["named-uuid", "b"]], ["next_cfg", "+=", 1]]
    _transact(
        stage,
        *interfaces,
        *ports,
        {"op": "insert", "table": "Bridge", "row": bridge, "uuid-name": "b"},
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": mutations},
    )
    eventually(lambda: _configured(stage), CONFIGURE_SECONDS, "ovs-vswitchd has looked at all of it")


def _remove_many_rows(stage: Stage) -> None:
    stage.hv.vsctl("del-br", "br-many")


def _configured(stage: Stage) -> bool:
    return len(set(stage.hv.vsctl("get", "Open_vSwitch", ".", "next_cfg", "cur_cfg").split())) == 1


def _transact(stage: Stage, *operations: object) -> None:
    request = {"id": 1, "method": "transact", "params": ["Open_vSwitch", *operations]}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONFIGURE_SECONDS)
        connection.connect(str(stage.hv.db))
        connection.sendall(json.dumps(request).encode())
        said = b""
        while True:
            said += connection.recv(1 << 20)
            try:
                answer = json.loads(said)
            except ValueError:
                continue
            break
    assert answer["error"] is None, answer
    assert not any("error" in result for result in answer["result"] if result), answer
