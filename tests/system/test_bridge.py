"""Two locked brokers, bridged over TLS by deploy/mosquitto/bridge: what is said on one is known on the other."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Agent, Authority, Broker, Lab, Network, eventually, shell
from tests.lab.underlay import BROKER

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

BLUE = Network("blue", 100)
BRIDGE_PORT = 8885
CLAIM = "portwatch/v1/ports/blue/hv1/web1"
AGAIN_SECONDS = 30.0
"""Until a cut bridge stands again: 15 s of silence, and up to 10 s until it is tried again."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def lab(authority: Authority) -> Iterator[Lab]:
    with Lab(2, broker=False, authority=authority) as lab:
        yield lab


@pytest.fixture
def second(lab: Lab, authority: Authority) -> Broker:
    """The second broker; both run, and what is retained goes across."""
    second = lab.bridge(authority)
    lab.broker.start()
    second.start()
    second.publish("portwatch/v1/hosts/mark", "1", retain=True)
    eventually(lambda: lab.broker.retained("portwatch/v1/hosts/mark"), 10, "the bridge stands")
    second.publish("portwatch/v1/hosts/mark", retain=True)
    return second


@pytest.fixture
def agents(lab: Lab, second: Broker) -> list[Agent]:
    """An agent on each hypervisor, with a guest: hv1 at the first broker, hv2 at the second."""
    agents = [
        lab.agent(lab.hypervisors[0]),
        lab.agent(lab.hypervisors[1], environment={"PORTWATCH_BUS__URL": second.url}),
    ]
    for agent in agents:
        agent.start()
    for number, agent in enumerate(agents, 1):
        agent.wait_ready()
        plug(lab, agent, f"web{number}")
    eventually(lambda: all(len(known(agent)) == 2 for agent in agents), 10, "each knows both stations")
    return agents


def plug(lab: Lab, agent: Agent, name: str) -> str:
    """Plug a new guest beside *agent*; return its MAC."""
    number = len(lab.vms) + 1
    nic = lab.vm(name).nic(name, lab.mac(), (f"10.0.0.{number}/24",), BLUE)
    agent.hypervisor.plug(nic)
    return nic.port.mac


def known(agent: Agent) -> dict[str, str]:
    return {row["mac"]: row["host"] for row in json.loads(agent.http_get("/v1/fdb")[1])}


def state(broker: Broker, host: str) -> str:
    said = broker.retained(f"portwatch/v1/hosts/{host}")
    return json.loads(next(iter(said.values())))["state"] if said else "unknown"


def meant(broker: Broker) -> dict[str, object]:
    """Return what a broker retains: of a port event the port's state alone."""
    said = {topic: json.loads(payload) for topic, payload in broker.retained("portwatch/#").items()}
    return {topic: event.get("data", event) for topic, event in said.items()}


def wait_same(one: Broker, other: Broker) -> None:
    """Wait until both retain the same; how often, and when, it was said aside."""
    differs: dict[str, object] = {}

    def same() -> bool:
        nonlocal differs
        here, there = meant(one), meant(other)
        differs = {topic: (here.get(topic), there.get(topic)) for topic in here | there}
        differs = {topic: pair for topic, pair in differs.items() if here.get(topic) != there.get(topic)}
        return not differs

    eventually(same, 10, lambda: f"both retain the same; they differ in {differs}")


def test_claims_their_ends_and_last_wills_cross_the_bridge(lab: Lab, second: Broker, agents: list[Agent]) -> None:
    lab.vms["web1"].reach("10.0.0.2")
    assert CLAIM in second.retained("portwatch/v1/ports/#")

    late = plug(lab, agents[0], "late")
    eventually(lambda: known(agents[1]).get(late) == "hv1", 5, "hv2 knows the new station")
    agents[0].hypervisor.unplug(lab.vms["late"].nics["eth0"])
    eventually(lambda: late not in known(agents[1]), 5, "and that it has gone")
    wait_same(lab.broker, second)
    assert "portwatch/v1/ports/blue/hv1/late" not in second.retained("portwatch/v1/ports/#")

    agents[0].process.kill()
    eventually(lambda: state(second, "hv1") == "offline", 10, "hv1's last will is on the second")
    assert lab.vms["web2"].ping("10.0.0.1").received == 1


def test_what_is_said_while_the_bridge_is_cut_crosses_it_afterwards(
    lab: Lab, second: Broker, agents: list[Agent]
) -> None:
    lab.vms["web1"].reach("10.0.0.2")
    probe = lab.vms["web1"].probe("10.0.0.2", interval=0.01)

    lab.underlay.cut("second")
    added = plug(lab, agents[0], "added")
    agents[0].hypervisor.unplug(lab.vms["added"].nics["eth0"])
    kept = plug(lab, agents[0], "kept")
    eventually(lambda: kept in known(agents[0]), 5, "the first broker has it")
    assert kept not in known(agents[1])
    lab.underlay.mend("second")

    eventually(lambda: kept in known(agents[1]), AGAIN_SECONDS, "hv2 hears of what came meanwhile")
    wait_same(lab.broker, second)
    assert added not in known(agents[1])
    assert probe.stop().lost == ()


def test_a_broker_that_comes_back_empty_has_all_again_from_the_other(
    lab: Lab, second: Broker, agents: list[Agent]
) -> None:
    before = second.retained("portwatch/v1/ports/#")

    lab.broker.kill()
    lab.broker.database.unlink(missing_ok=True)
    lab.broker.start()

    eventually(lambda: lab.broker.retained("portwatch/v1/ports/#").keys() == before.keys(), AGAIN_SECONDS, "all again")
    wait_same(lab.broker, second)
    for agent in agents:
        agent.wait_ready()


def test_nobody_but_the_bridge_may_write_where_it_comes_in(lab: Lab, second: Broker, authority: Authority) -> None:
    where = (
        "-h",
        BROKER.ipv4,
        "-p",
        str(BRIDGE_PORT),
        "-V",
        "5",
        "-q",
        "1",
        "-d",
        "-t",
        "portwatch/v1/hosts/x",
        "-m",
        "{}",
    )

    def said(certificate: Path) -> str:
        options = authority.options(certificate)
        return shell.run(
            "mosquitto_pub", *where, *options, namespace=lab.hypervisors[0].namespace.name, accept=range(256)
        )

    assert "RC:135" in said(authority.reader("grafana"))
    assert "PUBACK" not in said(authority.host("hv1"))
    assert lab.broker.retained("portwatch/v1/hosts/x") == {}
