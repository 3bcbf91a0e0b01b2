"""What an operator takes away: a dead host's words on the bus, and everything of ours on a host of his."""

import json
from collections.abc import Iterator

import pytest

from tests.lab import Hypervisor, Lab, Network, Port, eventually
from tests.system.conftest import BRIDGES, Site

pytestmark = pytest.mark.system

BLUE = Network("blue", 100)
OURS = "cookie=0x7077000000000000/0xffff000000000000"


@pytest.fixture
def site() -> Iterator[Site]:
    with Lab(2) as lab:
        agents = {hypervisor.name: lab.agent(hypervisor) for hypervisor in lab.hypervisors}
        for agent in agents.values():
            agent.start()
        for agent in agents.values():
            agent.wait_ready()
        yield Site(lab, agents)


def test_a_dead_host_is_forgotten_and_a_living_one_is_not(site: Site) -> None:
    hv1, hv2 = site.hypervisors
    _, here = site.guest(hv1, BLUE, "10.0.0.1/24")
    _, there = site.guest(hv2, BLUE, "10.0.0.2/24")
    site.wait_known(hv1, there.port.mac, hv2)
    site.wait_active(hv2, there)
    eventually(lambda: site.lab.broker.retained("portwatch/v1/manifests/blue/hv2"), 5, "hv2 has said all")
    before = site.lab.broker.retained("portwatch/v1/#")

    refusal = site.command(hv1, "forget", "hv2", status=1).stderr
    assert "an agent lives under the name hv2" in refusal
    assert site.lab.broker.retained("portwatch/v1/#") == before
    assert site.port(hv2, there), "and it goes on"

    news = site.lab.broker.subscribe("portwatch/v1/ports/#")
    site.agents["hv2"].pause()  # hangs, and the broker has not noticed: its status says online
    said = site.command(hv1, "forget", "hv2").stdout

    assert said == "3 retained messages of hv2 withdrawn\n"
    assert not [topic for topic in site.lab.broker.retained("portwatch/v1/#") if "hv2" in topic]
    site.wait_known(hv1, there.port.mac, None)
    end = news.wait_for(lambda each: not each.snapshot and bool(each.payload), "the end of hv2's port, in words")
    assert end.json()["type"] == "portwatch.port.removed"
    assert "holds nothing of hv2" in site.command(hv1, "forget", "hv2").stdout
    site.agents["hv2"].kill()
    assert site.port(hv1, here)


def test_cleanup_takes_everything_of_ours_and_nothing_else(site: Site) -> None:
    hv1, hv2 = site.hypervisors
    _, here = site.guest(hv1, BLUE, "10.0.0.1/24")
    _, there = site.guest(hv2, BLUE, "10.0.0.2/24")
    site.wait_known(hv1, there.port.mac, hv2)
    site.wait_active(hv1, here)
    hv1.vsctl("set", "Port", here.port.device, "external_ids:theirs=stays")
    for bridge in BRIDGES:
        hv1.ofctl("-O", "OpenFlow15", "add-flow", bridge, "cookie=0x5,table=200,actions=drop")
        hv1.ofctl("-O", "OpenFlow15", "add-group", bridge, "group_id=7,type=all")
    assert "stop it first" in site.command(hv1, "cleanup", status=1).stderr
    assert site.agents["hv1"].stop() == 0
    held = _held(site, hv1)

    plan = json.loads(site.command(hv1, "cleanup", "--dry-run", "--json").stdout)
    assert _held(site, hv1) == held, "a dry run removes nothing"
    assert plan["ports"] == ["patch-int", "patch-tun", "pw-vxlan"]
    assert plan["keys"] == [here.port.device]
    assert len(plan["topics"]) == 3

    site.command(hv1, "cleanup")

    for bridge in BRIDGES:
        assert hv1.dump_flows(bridge, OURS) == []
        assert [line for line in hv1.dump_flows(bridge) if "cookie=0x5" in line]
        assert [line.partition(",")[0] for line in hv1.dump_groups(bridge)] == ["group_id=7"]
    assert not [topic for topic in site.lab.broker.retained("portwatch/v1/#") if "hv1" in topic]
    row = hv1.row("Port", here.port.device)
    assert row is not None
    assert (row["external_ids"], row["tag"]) == ({"theirs": "stays"}, [])
    assert sorted(hv1.vsctl("list-ports", "br-int").split()) == [here.port.device]
    assert hv1.vsctl("list-ports", "br-tun").split() == []
    assert hv1.vsctl("get", "Open_vSwitch", ".", "datapaths").startswith("{netdev="), "anybody may read that row"
    again = json.loads(site.command(hv1, "cleanup", "--json").stdout)
    assert again == {
        "dry_run": False,
        "topics": [],
        "flows": {"br-int": 0, "br-tun": 0},
        "groups": {"br-int": 0, "br-tun": 0},
        "ports": [],
        "keys": [],
        "troubles": [],
    }
    site.agents["hv1"].start()
    site.agents["hv1"].wait_ready()
    site.wait_active(hv1, here)


def test_what_cannot_be_reached_stops_no_other_part_of_a_cleanup(site: Site) -> None:
    hv1, _ = site.hypervisors
    port = Port("p1", site.lab.mac(), BLUE)
    site.plug(hv1, port)
    site.wait_active(hv1, port)
    assert site.agents["hv1"].stop() == 0
    site.lab.broker.kill()

    told = site.command(hv1, "cleanup", status=1)

    assert "bus: " in told.stderr
    assert [line for bridge in BRIDGES for line in hv1.dump_flows(bridge, OURS)] == []


def _held(site: Site, hypervisor: Hypervisor) -> list[object]:
    """Return all that a cleanup may touch."""
    flows = [site.held(hypervisor, bridge) for bridge in BRIDGES]
    ports = [hypervisor.vsctl("--columns=name,tag,external_ids", "list", "Port")]
    return [flows, ports, site.lab.broker.retained("portwatch/v1/#")]
