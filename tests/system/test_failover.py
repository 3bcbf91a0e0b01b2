"""Two brokers: the second takes over when the first dies, and nothing is lost."""

import json

import pytest

from tests.lab import Agent, Lab, Network, eventually

pytestmark = pytest.mark.system

BLUE = Network("blue", 100)


def known(agent: Agent) -> set[str]:
    return {row["mac"] for row in json.loads(agent.http_get("/v1/fdb")[1])}


def test_the_second_broker_takes_over_and_neither_a_packet_nor_an_event_is_lost() -> None:
    with Lab(3) as lab:
        lab.standby.start()
        several = {"PORTWATCH_BUS__URL": f"{lab.broker.url},{lab.standby.url}"}
        agents = [lab.agent(hypervisor, environment=several) for hypervisor in lab.hypervisors]
        for agent in agents:
            agent.start()
        nics = []
        for number, (hypervisor, agent) in enumerate(zip(lab.hypervisors, agents, strict=True), 1):
            agent.wait_ready()
            nics.append(lab.vm(f"web{number}").nic(f"web{number}", lab.mac(), (f"10.0.0.{number}/24",), BLUE))
            hypervisor.plug(nics[-1])
        eventually(lambda: all(len(known(agent)) == 3 for agent in agents), 10, "each knows the three stations")
        eventually(lambda: lab.vms["web1"].ping("10.0.0.2", timeout=0.3).received, 5, "they reach each other")
        before = set(lab.broker.retained("portwatch/v1/ports/#"))

        probe = lab.vms["web1"].probe("10.0.0.2", interval=0.01)
        lab.broker.kill()
        late = lab.vm("late").nic("late", lab.mac(), ("10.0.0.9/24",), BLUE)
        lab.hypervisors[2].plug(late)
        for agent in agents:
            agent.wait_ready(10)

        eventually(lambda: all(late.port.mac in known(agent) for agent in agents), 5, "all have heard of the late one")
        eventually(lambda: lab.vms["web1"].ping("10.0.0.9", timeout=0.3).received, 5, "and reach it")
        result = probe.stop()
        assert result.lost == ()
        assert set(lab.standby.retained("portwatch/v1/ports/#")) == before | {"portwatch/v1/ports/blue/hv3/late"}
