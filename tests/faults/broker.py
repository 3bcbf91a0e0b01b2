"""The broker gone, silent, forgetful, forbidding: local wiring never waits for it, and nothing known is lost."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portwatch import wire
from portwatch.events import ONLINE, HostStatus, PortAdded, manifest_of
from portwatch.hearing import now
from portwatch.model import Claim, HostName, Mac, NetworkId, PortId, Status, Vni, tunnel_endpoint
from portwatch.model import Port as LogicalPort
from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage
from tests.lab import Agent, Broker, Hypervisor, Network, Nic, Port, eventually

ROWS = Rows("The broker")
fault = ROWS.fault

TOPICS = wire.Topics("portwatch/v1")
BACK = 20.0
"""Seconds until all are back at a broker that was away for long: the last comes after eight."""
ANSWERS = 16
"""Flows that answer ARP, gone and made again: who has not been heard of again for 2 s is not answered for,
and the question is flooded. All else stays (fabric/inheritance.py)."""
LOCAL_SECONDS = 1.0
"""More than enough to wire a port here, whatever becomes of the broker."""
THOUSANDS = 5000
ALL_ALLOWED = "topic readwrite #\ntopic readwrite $lab/#\n"
CLIENT = re.compile(r" as (portwatch-\S+-[0-9a-f]{12}) ")


@fault("killed and started, nothing of what it retained is left", within=BACK)
def killed(stage: Stage) -> Story:
    _broker(stage).kill()
    _broker(stage).start()
    yield


@fault("away when an agent starts anew", flows=ANSWERS, within=BACK)
def away_at_start(stage: Stage) -> Story:
    _broker(stage).kill()
    try:
        stage.agent.kill()
        stage.agent.start()
        eventually(lambda: _troubles(stage.agent) == {"bus"}, 10, "the agent waits for nothing but the bus")
    finally:
        _broker(stage).start()
    yield


@fault("away while ports are plugged in, pulled and moved", flows=None, elsewhere=None, within=BACK)
def away_under_churn(stage: Stage) -> Story:
    before = list(stage.site.plugged)
    going, moving = stage.plug(stage.second, "10.0.8.1/16"), stage.plug(stage.second, "10.0.8.2/16")
    stage.until_converged(10)
    _broker(stage).kill()
    try:
        _wire_here(stage, stage.hv, stage.port("10.0.8.3/16"))
        stage.unplug(stage.second, going)
        stage.unplug(stage.second, moving)
        _wire_here(stage, stage.hv, moving)
    finally:
        _broker(stage).start()
    yield
    places = {row["mac"]: row["host"] for row in stage.ask(stage.third, "fdb")}
    assert going.mac not in places
    assert places[moving.mac] == stage.hv.name
    _unplug_all_but(stage, before)


@fault("standing still for 3 s (SIGSTOP)")
def still_for_a_moment(stage: Stage) -> Story:
    with _paused(_broker(stage)):
        time.sleep(3)
    yield


@fault(
    "cut off in silence until all give it up, and it says all last wills",
    flows=None,
    elsewhere=None,
    within=BACK,
    often=False,
)
def half_open(stage: Stage) -> Story:
    before = list(stage.site.plugged)
    broker, underlay = _broker(stage), stage.site.lab.underlay
    underlay.cut("broker")
    try:
        for number, hypervisor in enumerate(stage.site.hypervisors):
            _wire_here(stage, hypervisor, stage.port(f"10.0.8.{number + 1}/16"))
        eventually(lambda: set(_states(broker).values()) == {"offline"}, 40, "the broker has said all last wills")
        eventually(lambda: all("bus" in _troubles(agent) for agent in stage.agents), 30, "all have given it up")
    finally:
        underlay.mend("broker")
    yield
    eventually(lambda: set(_states(broker).values()) == {"online"}, 10, "all are online")
    _unplug_all_but(stage, before)


@fault("all last wills said at once, of agents that live", within=BACK)
def last_wills(stage: Stage) -> Story:
    broker = _broker(stage)
    said = broker.retained("portwatch/v1/hosts/+")
    broker.retain((topic, text.replace('"online"', '"offline"').encode()) for topic, text in said.items())
    yield
    eventually(lambda: set(_states(broker).values()) == {"online"}, 10, "all are online")


@fault("a session taken over by another client of that name", within=BACK)
def taken_over(stage: Stage) -> Story:
    names = [found[1] for line in _broker(stage).log_lines() if (found := CLIENT.search(line))]
    name = next(name for name in reversed(names) if name.startswith(f"portwatch-{stage.hv.name}-"))
    before = stage.metric(stage.hv, "portwatch_reconnects_total")
    _broker(stage).take_over(name)
    eventually(lambda: stage.metric(stage.hv, "portwatch_reconnects_total") > before, 10, "it connects again")
    yield


@fault("a stale copy says again what agents said before they were restarted", elsewhere=None, within=BACK)
def replay(stage: Stage) -> Story:
    past = _broker(stage).retained("portwatch/v1/#")
    for agent in stage.agents:
        agent.restart()
    stage.until_converged(BACK)
    _broker(stage).retain((topic, payload.encode()) for topic, payload in past.items())
    yield
    now_said = _broker(stage).retained("portwatch/v1/ports/#")
    assert all(now_said[topic] != past[topic] for topic in now_said)


@fault("an old database of it put back", flows=None, elsewhere=None, within=BACK, often=False)
def old_database(stage: Stage) -> Story:
    broker, going = _broker(stage), stage.plug(stage.second, "10.0.8.1/16")
    with configured(broker, persistent=True):
        stage.until_converged(BACK)
        broker.stop()
        copy = broker.database.with_suffix(".old")
        shutil.copy(broker.database, copy)
        broker.start()
        stage.until_converged(BACK)
        stage.unplug(stage.second, going)
        coming = stage.plug(stage.second, "10.0.8.2/16")
        stage.until_converged(BACK)
        broker.stop()
        shutil.copy(copy, broker.database)
        broker.start()
        yield
        macs = {row["mac"] for row in stage.ask(stage.third, "fdb")}
        assert coming.mac in macs
        assert going.mac not in macs
        stage.unplug(stage.second, coming)
        broker.stop()
        broker.database.unlink()
    broker.database.unlink(missing_ok=True)


@fault("a part of what it retained is lost, and he who said it is stopped", within=BACK, often=False)
def lost_in_part(stage: Stage) -> Story:
    broker, third = _broker(stage), stage.site.agents[stage.third.name]
    said = {topic: text.encode() for topic, text in broker.retained("portwatch/v1/#").items() if "/hv3" in topic}
    ports = sorted(topic for topic in said if topic.startswith("portwatch/v1/ports/"))
    third.stop()
    try:
        with _paused(stage.agent), _paused(stage.site.agents[stage.second.name]):
            broker.kill()
            broker.start()
            broker.retain((topic, payload) for topic, payload in said.items() if topic not in ports[::2])
        eventually(lambda: _incomplete(stage, stage.hv) == {stage.third.name}, 30, "the rest is missed, and visibly so")
    finally:
        third.start()
    yield
    eventually(lambda: not _incomplete(stage, stage.hv), 10, "nothing is missed")


@fault(
    f"mosquitto's default limits, {THOUSANDS} retained messages in the network, all agents anew", within=30, often=False
)
def default_limits(stage: Stage) -> Story:
    broker = _broker(stage)
    with configured(broker, default_limits=True):
        stage.until_converged(BACK)
        broker.retain(_many(stage.network))
        for agent in stage.agents:
            agent.restart()
            agent.wait_ready(BACK)
        eventually(lambda: all(_known(stage, each) == THOUSANDS for each in stage.site.hypervisors), 60, "all is heard")
        yield
        broker.retain((topic, b"") for topic, _ in _many(stage.network))


@fault("it refuses what an agent publishes (access list), until that is mended", within=BACK)
def refused(stage: Stage) -> Story:
    broker = _broker(stage)
    with denying(broker, stage.hv) as access:
        eventually(lambda: "access control list" in _reason(stage.agent, "bus"), 20, "the agent says so")
        access.write_text(ALL_ALLOWED)
        broker.reload()
        yield


# --- hands --------------------------------------------------------------------------------------------------------


def _broker(stage: Stage) -> Broker:
    return stage.site.lab.broker


@contextmanager
def _paused(process: Agent | Broker) -> Iterator[None]:
    process.pause()
    try:
        yield
    finally:
        process.resume()


@contextmanager
def denying(broker: Broker, hypervisor: Hypervisor) -> Iterator[Path]:
    """Let the broker take nothing of a hypervisor's ports; yield the access list that says so."""
    access = broker.database.with_name("acl")
    access.write_text(f"{ALL_ALLOWED}topic deny portwatch/v1/ports/+/{hypervisor.name}/#\n")
    with configured(broker, f"acl_file {access}"):
        yield access
    access.unlink()


@contextmanager
def configured(broker: Broker, *lines: str, default_limits: bool = False, persistent: bool = False) -> Iterator[None]:
    """Let the broker run otherwise for a while; what it retained is gone each time."""
    _restart(broker, *lines, default_limits=default_limits, persistent=persistent)
    try:
        yield
    finally:
        _restart(broker)


def _restart(broker: Broker, *lines: str, default_limits: bool = False, persistent: bool = False) -> None:
    broker.kill()
    broker.configure(*lines, default_limits=default_limits, persistent=persistent)
    broker.start()


def _wire_here(stage: Stage, hypervisor: Hypervisor, port: Port) -> None:
    """Plug a port in, and see it ACTIVE as soon as ever."""
    begin = time.monotonic()
    stage.site.plug(hypervisor, port)
    stage.site.wait_active(hypervisor, port)
    seconds = time.monotonic() - begin
    stage.note(f"a port plugged in meanwhile was wired in {1000 * seconds:.0f} ms")
    assert seconds < LOCAL_SECONDS


def _unplug_all_but(stage: Stage, before: list[tuple[Hypervisor, Nic | Port]]) -> None:
    for hypervisor, port in stage.site.plugged[len(before) :]:
        stage.unplug(hypervisor, port)


def _troubles(agent: Agent) -> set[str]:
    try:
        return set(json.loads(agent.http_get("/readyz")[1])["reasons"])
    except OSError:
        return {"not there"}


def _reason(agent: Agent, component: str) -> str:
    return str(json.loads(agent.http_get("/readyz")[1])["reasons"].get(component, ""))


def _states(broker: Broker) -> dict[str, str]:
    said = broker.retained("portwatch/v1/hosts/+")
    return {topic: json.loads(text)["state"] for topic, text in said.items()}


def _incomplete(stage: Stage, hypervisor: Hypervisor) -> set[str]:
    rows = stage.ask(hypervisor, "networks")
    return next(set(row["incomplete_hosts"]) for row in rows if row["network_id"] == stage.network.id)


def _known(stage: Stage, hypervisor: Hypervisor) -> int:
    """Return how many ports of far hosts are known."""
    return sum(row["ports"] for row in stage.ask(hypervisor, "peers") if row["host"].startswith("far"))


def _many(network: Network, hosts: int = 50) -> Iterator[tuple[str, bytes]]:
    """Yield what hosts say that have many ports in the network, all of them down: known to all, and in no flow."""
    for number in range(hosts):
        yield from _share(network, HostName(f"far{number}"), number * THOUSANDS // hosts, THOUSANDS // hosts)


def _share(network: Network, host: HostName, first: int, ports: int) -> Iterator[tuple[str, bytes]]:
    network_id, endpoint = NetworkId(network.id), tunnel_endpoint("10.9.0.1")
    claims = []
    for place in range(first + 1, first + ports + 1):
        port = LogicalPort(
            PortId(f"far-{place}"),
            network_id,
            segmentation_id=Vni(network.segmentation_id),
            mac=Mac(f"0a:00:00:{place.to_bytes(3).hex(':')}"),
            admin_up=False,
        )
        claims.append(Claim(host, port, endpoint, Status.DOWN, "far", seq=1, revision=1))
    for claim in claims:
        yield TOPICS.port(network_id, host, claim.port.port_id), wire.encode_event(PortAdded(claim, 1, now()))
    yield TOPICS.manifest(network_id, host), wire.encode_manifest(manifest_of(network_id, host, "far", claims))
    yield TOPICS.host(host), wire.encode_host(HostStatus(host, "far", ONLINE, endpoint))
