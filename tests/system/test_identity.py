"""One name, one agent; and our own words on the bus, whoever meddles with them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import Agent, Lab, Network, Port, eventually

pytestmark = pytest.mark.system

BLUE = Network("blue", 100)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(2) as lab:
        yield lab


def test_a_second_agent_of_the_same_name_steps_down_and_changes_nothing(lab: Lab) -> None:
    one, other = lab.hypervisors
    first = lab.agent(one)
    first.start()
    first.wait_ready()
    one.plug(Port("p1", lab.mac(), BLUE, ("10.0.0.1/24",)))
    eventually(lambda: "ACTIVE" in str(lab.broker.retained("portwatch/v1/ports/#")), 5, "p1 is on the bus")
    manifest = "portwatch/v1/manifests/blue/hv1"
    eventually(lambda: lab.broker.retained(manifest), 5, "and the manifest behind it")
    eventually(lambda: first.http_get("/v1/networks")[1].count('"settled":true'), 10, "the network is complete")
    before = lab.broker.retained("portwatch/v1/ports/#", "portwatch/v1/manifests/#")
    other.plug(Port("p2", lab.mac(), BLUE, ("10.0.0.2/24",)))
    second = lab.agent(other, environment={"PORTWATCH_HOST": "hv1"})

    second.start()

    assert second.process.wait(30) == 3
    last = second.log_lines()[-1]
    assert "hv1" in last
    assert "Traceback" not in "\n".join(second.log_lines())
    assert lab.broker.retained("portwatch/v1/ports/#", "portwatch/v1/manifests/#") == before
    status = json.loads(lab.broker.retained("portwatch/v1/hosts/hv1")["portwatch/v1/hosts/hv1"])
    assert (status["state"], status["tunnel_ip"]) == ("online", one.ip)
    first.wait_ready()
    assert first.stop() == 0


def test_an_agent_that_was_killed_may_return_at_once(lab: Lab) -> None:
    agent = lab.agent(lab.hypervisors[0])
    agent.start()
    agent.wait_ready()

    agent.kill()
    agent.start()

    agent.wait_ready(5)
    assert agent.stop() == 0


def test_a_host_that_comes_with_the_tunnel_address_of_a_living_one_ends_with_status_3_and_leaves_no_claim() -> None:
    with Lab(2) as lab:
        holder, double = lab.hypervisors
        first, second = lab.agent(holder), lab.agent(double, environment={"PORTWATCH_TUNNEL__LOCAL_IP": holder.ip})
        first.start()
        first.wait_ready()
        double.plug(Port("p2", lab.mac(), BLUE, ("10.0.0.2/24",)))

        second.start()

        assert second.process.wait(20) == 3
        (words,) = [line for line in second.log_lines() if line.startswith("portwatch: ")]
        assert all(part in words for part in (holder.ip, "'hv1'", "tunnel.local_ip", "portwatch forget hv1"))
        assert '"state":"stopped"' in str(lab.broker.retained("portwatch/v1/hosts/hv2"))
        assert not lab.broker.retained("portwatch/v1/ports/#")
        first.stop()
        second.start()
        second.wait_ready()
        assert second.stop() == 0


def test_a_host_with_the_tunnel_address_of_another_is_ignored_by_all_and_says_so_until_it_has_its_own() -> None:
    with Lab(3) as lab:
        holder, watcher, double = lab.hypervisors
        first, second = lab.agent(holder), lab.agent(watcher)
        third = lab.agent(double, environment={"PORTWATCH_TUNNEL__LOCAL_IP": holder.ip})
        for hypervisor in lab.hypervisors:
            number = hypervisor.name[-1]
            hypervisor.plug(Port(f"p{number}", lab.mac(), BLUE, (f"10.0.0.{number}/24",)))
        for agent in (first, second):
            agent.start()
            agent.wait_ready()
        # The broker has forgotten hv1, which is silent for the moment, when hv3 comes.
        first.pause()
        lab.broker.process.restart()
        third.start()
        third.wait_ready()
        first.resume()

        def asked(agent: Agent, path: str) -> Any:
            return json.loads(agent.http_get(path)[1])

        def peers() -> dict[str, str | None]:
            return {row["host"]: row["reason"] for row in asked(second, "/v1/peers")}

        ignored = f"hv3 has the tunnel address of hv1, {holder.ip}: its claims are ignored"
        refused = {"hv1": None, "hv3": ignored}
        eventually(lambda: peers() == refused, 10, "hv2 ignores hv3")
        assert {row["host"] for row in asked(second, "/v1/fdb")} == {"hv1", "hv2"}
        assert "portwatch_tunnel_address_conflicts 1.0" in second.http_get("/metrics")[1]
        eventually(lambda: "tunnel" in asked(third, "/readyz")["reasons"], 5, "hv3 knows")
        assert third.http_get("/readyz")[0] == 503
        eventually(lambda: any("its claims are ignored" in line for line in second.log_lines()), 5, "hv2 has said so")

        first.restart()
        first.wait_ready()
        eventually(lambda: first.http_get("/v1/fdb")[1].count('"host":"hv2"'), 10, "hv1 knows the others again")
        eventually(lambda: peers() == refused, 5, "a restart turns nothing round")
        first.wait_ready()

        third.stop()
        own = lab.agent(double)
        own.start()
        own.wait_ready()
        eventually(lambda: peers() == {"hv1": None, "hv3": None}, 10, "hv2 heeds hv3")
        eventually(lambda: {row["host"] for row in asked(second, "/v1/fdb")} == {"hv1", "hv2", "hv3"}, 5, "all three")
        assert [agent.stop() for agent in (first, second, own)] == [0, 0, 0]


def test_a_claim_that_somebody_clears_is_said_again(lab: Lab) -> None:
    hypervisor = lab.hypervisors[0]
    agent = lab.agent(hypervisor)
    agent.start()
    agent.wait_ready()
    hypervisor.plug(Port("p1", lab.mac(), BLUE, ("10.0.0.1/24",)))
    topic = "portwatch/v1/ports/blue/hv1/p1"
    eventually(lambda: "ACTIVE" in str(lab.broker.retained(topic)), 5, "p1 is ACTIVE on the bus")

    lab.broker.publish(topic, "", retain=True)

    eventually(lambda: "ACTIVE" in str(lab.broker.retained(topic)), 5, "p1 is on the bus again")
    assert agent.stop() == 0


def test_flows_that_somebody_deletes_come_back_and_are_counted(lab: Lab) -> None:
    hypervisor = lab.hypervisors[0]
    agent = lab.agent(hypervisor)
    agent.start()
    agent.wait_ready()
    hypervisor.plug(Port("p1", lab.mac(), BLUE, ("10.0.0.1/24",)))
    eventually(lambda: "ACTIVE" in agent.http_get("/v1/ports")[1], 5, "p1 is ACTIVE")
    before = {bridge: sorted(hypervisor.dump_flows(bridge)) for bridge in ("br-int", "br-tun")}

    for bridge in before:
        hypervisor.ofctl("del-flows", bridge, "cookie=0x7077000000000000/0xffff000000000000")

    def held() -> dict[str, list[str]]:
        return {bridge: sorted(hypervisor.dump_flows(bridge)) for bridge in before}

    eventually(lambda: held() == before, 5, "all are back")
    drift = f'portwatch_flow_drift_total{{bridge="br-int"}} {len(before["br-int"])}.0'
    eventually(lambda: drift in agent.http_get("/metrics")[1], 5, "they are counted")
    assert agent.stop() == 0


def test_a_restart_of_the_switch_brings_everything_back(lab: Lab) -> None:
    hypervisor = lab.hypervisors[0]
    agent = lab.agent(hypervisor)
    agent.start()
    agent.wait_ready()
    one, two = lab.vm("one"), lab.vm("two")
    hypervisor.plug(one.nic("p1", lab.mac(), ("10.0.0.1/24",), BLUE))
    hypervisor.plug(two.nic("p2", lab.mac(), ("10.0.0.2/24",), BLUE))
    one.reach("10.0.0.2", timeout=5)

    hypervisor.vswitchd.kill()
    hypervisor.vswitchd.start()

    one.reach("10.0.0.2", timeout=10)
    agent.wait_ready()
    assert agent.stop() == 0


def test_a_strangers_group_of_another_kind_ends_nobody(lab: Lab) -> None:
    hypervisor = lab.hypervisors[0]
    hypervisor.create_bridge()
    hypervisor.ofctl(
        *("-O", "OpenFlow15", "add-group", "br-int"),
        "group_id=7,type=select,bucket=bucket_id:1,weight:5,actions=drop",
    )
    agent = lab.agent(hypervisor)

    agent.start()

    agent.wait_ready()
    assert agent.stop() == 0
