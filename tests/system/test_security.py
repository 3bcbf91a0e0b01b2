"""The locked bus of deploy/mosquitto: who may speak, under which name, and what becomes of everybody else.

What each test shows stands in docs/security.md.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Agent, Authority, Hypervisor, Lab, Network, Nic, eventually, shell
from tests.lab.agent import COMMAND
from tests.lab.broker import HOSTS_PORT, READERS_PORT
from tests.lab.underlay import BROKER

pytestmark = pytest.mark.system

BLUE = Network("blue", 100)
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--", *COMMAND)
NOT_AUTHORIZED = 0x87


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def lab(authority: Authority) -> Iterator[Lab]:
    """Three hypervisors with a guest each, on the locked bus; the agents have no capability."""
    with Lab(3, authority=authority) as lab:
        for agent in [lab.agent(hypervisor, WITHOUT_CAPABILITIES) for hypervisor in lab.hypervisors]:
            agent.start()
        for number, (hypervisor, agent) in enumerate(zip(lab.hypervisors, lab.agents, strict=True), 1):
            agent.wait_ready()
            hypervisor.plug(a_nic(lab, f"web{number}", number))
        yield lab


def a_nic(lab: Lab, name: str, number: int) -> Nic:
    return lab.vm(name).nic(name, lab.mac(), (f"10.0.0.{number}/24",), BLUE)


def publish(
    lab: Lab, hypervisor: Hypervisor, certificate: Path, topic: str, payload: str, port: int = HOSTS_PORT
) -> int:
    """Publish one retained message from a hypervisor, as whoever holds *certificate*; return the reason code."""
    assert lab.broker.authority is not None
    where = ("-h", BROKER.ipv4, "-p", str(port), *lab.broker.authority.options(certificate))
    said = shell.run(
        *("mosquitto_pub", *where, "-V", "5", "-q", "1", "-r", "-d", "-t", topic, "-s"),
        namespace=hypervisor.namespace.name,
        stdin=payload,
        accept=(0, 1, 7, 8, NOT_AUTHORIZED),
    )
    return next(int(line.rpartition("RC:")[2].rstrip(")")) for line in said.splitlines() if "received PUBACK" in line)


def fdb(agent: Agent) -> dict[str, str]:
    return {row["mac"]: row["host"] for row in json.loads(agent.http_get("/v1/fdb")[1])}


def metric(agent: Agent, series: str) -> float:
    lines = agent.http_get("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def test_three_hosts_work_over_tls_with_the_access_list_on(lab: Lab) -> None:
    def settled(agent: Agent) -> bool:
        return len(fdb(agent)) == 3 and bool(json.loads(agent.http_get("/v1/audit")[1])["settled"])

    eventually(lambda: all(map(settled, lab.agents)), 10, "each host has the entries of the three stations")

    for one, other in ((1, 2), (1, 3), (2, 3)):
        # Not the first packet: the userspace datapath drops it while it asks for the other host's MAC.
        assert lab.vms[f"web{one}"].ping(f"10.0.0.{other}", count=2, timeout=0.3).received > 0
    expiry = metric(lab.agents[0], 'portwatch_certificate_expiry_timestamp_seconds{component="bus"}')
    assert expiry > 1_800_000_000
    for agent in lab.agents:
        status = Path(f"/proc/{agent.process.pid}/status").read_text()
        assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 3


@pytest.mark.parametrize("topic", ["ports/blue/hv2/web2", "ports/_/hv2/x", "manifests/blue/hv2", "hosts/hv2"])
def test_a_host_that_publishes_under_anothers_name_is_refused_by_the_broker(
    lab: Lab, authority: Authority, topic: str
) -> None:
    before = lab.broker.retained("portwatch/#")

    code = publish(lab, lab.hypervisors[0], authority.folder / "hv1.pem", f"portwatch/v1/{topic}", "{}")

    assert code == NOT_AUTHORIZED
    assert lab.broker.retained("portwatch/#") == before


def test_a_last_will_under_anothers_name_is_not_published(lab: Lab, authority: Authority) -> None:
    one = lab.hypervisors[0]
    topic = "portwatch/v1/hosts/hv2"
    before = lab.broker.retained(topic)
    heard = lab.broker.subscribe("portwatch/v1/hosts/+")
    start = len(heard.messages)
    argv = ["mosquitto_sub", "-h", BROKER.ipv4, "-p", str(HOSTS_PORT), *authority.options(authority.folder / "hv1.pem")]
    wills = ["--will-topic", topic, "--will-payload", "{}", "--will-retain", "--will-qos", "1"]

    # -W: it leaves after a second; --will-… is published only for whoever goes without a goodbye, so it is killed first
    killed = ["timeout", "--signal", "KILL", "0.5", *argv, "-V", "5", "-t", "portwatch/v1/hosts/hv2", *wills]
    shell.run(*killed, namespace=one.namespace.name, accept=(137, -9))
    lab.broker.publish("portwatch/v1/hosts/mark", "later")

    heard.wait_for(lambda message: message.topic.endswith("/mark"), "what was published after it", after=start)
    assert [message.topic for message in heard.messages[start:]] == ["portwatch/v1/hosts/mark"]
    assert lab.broker.retained(topic) == before
    heard.stop()


def test_what_a_host_says_of_another_on_its_own_topic_is_ignored_by_the_readers(lab: Lab, authority: Authority) -> None:
    stolen = next(iter(lab.broker.retained("portwatch/v1/ports/blue/hv2/web2").values()))
    before = fdb(lab.agents[2])
    refused = 'portwatch_bus_rejected_total{reason="topic-mismatch"}'
    count = metric(lab.agents[2], refused)
    topic = "portwatch/v1/ports/blue/hv1/web2"

    code = publish(lab, lab.hypervisors[0], authority.folder / "hv1.pem", topic, stolen.replace("ACTIVE", "BUILD"))

    assert code == 0
    eventually(lambda: metric(lab.agents[2], refused) > count, 5, "hv3 has refused and counted it")
    assert fdb(lab.agents[2]) == before
    lab.broker.publish(topic, retain=True)


@pytest.mark.parametrize("topic", ["hosts/grafana", "ports/blue/grafana/x", "ports/blue/hv1/web1", "directory/web1"])
def test_a_consumer_cannot_write_not_even_under_its_own_name(lab: Lab, authority: Authority, topic: str) -> None:
    reader = authority.reader("grafana")
    before = lab.broker.retained("portwatch/#")

    assert publish(lab, lab.hypervisors[0], reader, f"portwatch/v1/{topic}", "{}", READERS_PORT) == NOT_AUTHORIZED

    assert lab.broker.retained("portwatch/#") == before


def test_a_consumer_reads_and_the_orchestrator_fills_the_directory(lab: Lab, authority: Authority) -> None:
    where = ("-h", BROKER.ipv4, "-p", str(READERS_PORT), *authority.options(authority.reader("grafana")))
    read = shell.run(
        *("mosquitto_sub", *where, "-t", "portwatch/v1/ports/#", "-C", "3", "-W", "5", "-F", "%t"),
        namespace=lab.hypervisors[0].namespace.name,
    )
    assert sorted(read.split()) == [f"portwatch/v1/ports/blue/hv{number}/web{number}" for number in (1, 2, 3)]

    written = authority.reader("orchestrator")
    topic = "portwatch/v1/directory/db"
    assert publish(lab, lab.hypervisors[0], written, topic, '{"network_id": "blue"}', READERS_PORT) in (0, 0x10)
    assert topic in lab.broker.retained(topic)
    assert publish(lab, lab.hypervisors[0], written, "portwatch/v1/hosts/hv1", "{}", READERS_PORT) == NOT_AUTHORIZED


def test_a_consumers_certificate_makes_no_host(lab: Lab, authority: Authority) -> None:
    words = trouble_with(lab, authority.reader("hv3"))

    assert words.startswith(f"mqtts://{BROKER.ipv4}:{HOSTS_PORT}: ")
    assert re.search("it knows no authority that signed it|it may refuse our certificate", words), words


def test_an_expired_certificate_is_refused_in_words(lab: Lab, authority: Authority) -> None:
    expired = authority.host("hv3", STARTS="20240101000000Z", ENDS="20250101000000Z")

    assert re.search("our certificate(: it)? has expired", trouble_with(lab, expired))


def test_a_certificate_of_another_name_lets_nothing_be_said_and_says_why(lab: Lab, authority: Authority) -> None:
    other = authority.host("hv9")
    log: list[str] = []

    words = trouble_with(lab, other, log)

    assert re.match(
        r"the broker refused to take portwatch/v1/(hosts|ports/\w+|manifests/\w+)/hv3\b.*: Not authorized", words
    )
    said = [json.loads(line) for line in log if "is of another name" in line]
    assert [(line["name"], line["host"], line["file"]) for line in said] == [("hv9", "hv3", str(other))]


def test_a_revoked_certificate_is_refused_and_a_new_one_on_disk_is_used_without_a_restart(
    lab: Lab, authority: Authority
) -> None:
    third = lab.agents[2]
    authority.host("hv3")
    third.start()
    third.wait_ready()
    pid = third.process.pid
    authority.revoke("hv3")

    lab.broker.restart()

    refused = re.compile("it was revoked|it may refuse our certificate")
    eventually(lambda: refused.search(third.http_get("/readyz")[1]), 10, "hv3 says that it is refused")
    assert lab.vms["web3"].ping("10.0.0.1").received == 1
    expiry = metric(third, 'portwatch_certificate_expiry_timestamp_seconds{component="bus"}')
    authority.host("hv3", DAYS="700")
    third.wait_ready()
    assert third.process.pid == pid
    assert metric(third, 'portwatch_certificate_expiry_timestamp_seconds{component="bus"}') > expiry


def trouble_with(lab: Lab, certificate: Path, log: list[str] | None = None) -> str:
    """Have hv3's agent come with *certificate*; return what it says is wrong with the bus."""
    regular = lab.agents[2]
    if regular.process.running:
        regular.stop()
    assert lab.broker.authority is not None
    agent = lab.agent(lab.hypervisors[2], environment=lab.broker.authority.settings(certificate))
    lab.agents.remove(agent)
    agent.start()
    words = ""

    def told() -> bool:
        nonlocal words
        words = json.loads(agent.http_get("/readyz")[1])["reasons"].get("bus", "")
        return bool(words) and words not in ("waits for OVSDB", "not yet connected")

    try:
        agent.process.until(lambda: answers(agent) and told(), 10, "it says what is wrong")
        assert agent.process.running
    finally:
        (log if log is not None else []).extend(agent.log_lines())
        assert agent.stop() == 0
    return words


def answers(agent: Agent) -> bool:
    try:
        return agent.http_get("/healthz")[0] == 200
    except OSError:
        return False
