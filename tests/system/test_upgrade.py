"""Hosts of several versions on one bus: one that says less, one that says more, and one that says it otherwise.

The policy stands in docs/deployment.md: within a major version (`portwatch/v1`) the schema only grows.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import Agent, Network, Port, eventually
from tests.system.conftest import Site

pytestmark = pytest.mark.system

DEFAULTS = ("network_type", "fixed_ips", "allowed_address_pairs", "device_owner", "kind", "tunnel_ip", "reason")
"""What a port event may leave out, and what its header may: a revision that did not know it yet said nothing of it."""
PREFIX = "portwatch/v1"


@pytest.fixture
def blue(site: Site) -> Iterator[Network]:
    """A network with a port on hv1, and nothing left of the hosts that the test has invented."""
    network = site.network("upgrade")
    site.plug(site.hypervisors[0], Port("own", site.lab.mac(), network))
    yield network
    broker = site.lab.broker
    for topic in broker.retained(f"{PREFIX}/+/{network.id}/#", f"{PREFIX}/hosts/+"):
        if "/other-" in topic:
            broker.publish(topic, retain=True)


def an_event(site: Site, network: Network, host: str, **changes: Any) -> dict[str, Any]:
    """Return hv1's own event of the network, as if *host* had said it of a port of its own."""
    broker = site.lab.broker
    topic = f"{PREFIX}/ports/{network.id}/hv1/own"
    said = eventually(lambda: broker.retained(topic).get(topic), 5, "hv1 has said that it has the port")
    event: dict[str, Any] = json.loads(said)
    event["id"] = f"{host}/s/1"
    event["data"] |= {"host": host, "port_id": "p", "mac": site.lab.mac(), "tunnel_ip": "192.0.2.99", "session": "s"}
    return event | changes


def say(site: Site, network: Network, event: dict[str, Any]) -> str:
    """Publish an event as its host does; return the MAC that it claims."""
    data = event["data"]
    topic = f"{PREFIX}/ports/{network.id}/{data['host']}/{data['port_id']}"
    site.lab.broker.publish(topic, json.dumps(event), retain=True, content_type="application/cloudevents+json")
    return str(data["mac"])


def stations(agent: Agent) -> dict[str, str]:
    return {row["mac"]: row["host"] for row in json.loads(agent.http_get("/v1/fdb")[1])}


def refused(agent: Agent) -> float:
    lines = agent.http_get("/metrics")[1].splitlines()
    return sum(float(each.rpartition(" ")[2]) for each in lines if each.startswith("portwatch_bus_rejected_total"))


def test_of_a_newer_host_what_is_unknown_is_passed_over(site: Site, blue: Network) -> None:
    agent = site.agents["hv1"]
    event = an_event(site, blue, "other-newer", dataschema="https://example/port/7", traceparent="00-1-2-01")
    event["data"] |= {"mtu": 9000, "trunk": {"subports": [1, 2]}, "qos": None}
    status = {"host": "other-newer", "session": "s", "state": "online", "tunnel_ip": "192.0.2.99", "zones": ["a"]}
    before = refused(agent)

    site.lab.broker.publish(f"{PREFIX}/hosts/other-newer", json.dumps(status), retain=True)
    mac = say(site, blue, event)

    eventually(lambda: stations(agent).get(mac) == "other-newer", 5, "its port is a station like any other")
    assert refused(agent) == before


def test_of_an_older_host_what_is_left_out_has_its_default(site: Site, blue: Network) -> None:
    agent = site.agents["hv1"]
    event = an_event(site, blue, "other-older")
    event["data"] = {key: value for key, value in event["data"].items() if key not in DEFAULTS} | {
        "tunnel_ip": "192.0.2.99"
    }
    del event["datacontenttype"]

    mac = say(site, blue, event)

    eventually(lambda: stations(agent).get(mac) == "other-older", 5, "its port is a station like any other")


@pytest.mark.parametrize("otherwise", [{"specversion": "2.0"}, {"type": "portwatch.port.trunked"}])
def test_of_another_major_version_nothing_is_taken_and_it_shows(
    site: Site, blue: Network, otherwise: dict[str, str]
) -> None:
    agent = site.agents["hv1"]
    before = refused(agent)

    mac = say(site, blue, an_event(site, blue, "other-next", **otherwise))

    eventually(lambda: refused(agent) == before + 1, 5, "it is refused and counted")
    assert mac not in stations(agent)
    assert [each for each in agent.log_records() if each["event"] == "message from the bus refused"]
