"""Each alert of deploy/ is made to fire by the fault that it is for, alone, and to stop: by a real Prometheus.

`PortwatchVlansNearlyUsedUp` needs 3,900 networks on a host, `PortwatchTunnelAddressConflict` hosts with one address:
recorded series prove them, as they do the others.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import Agent, Authority, Hypervisor, Lab, Network, Port, Prometheus, eventually
from tests.system.conftest import Site
from tests.system.provoked import make_restless, missing_ports, plug_a_double

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/portwatch.json").read_text())
BASE = Network("base", 500)
PATIENCE = 20.0

Cure = Callable[[], object]
Fault = Callable[[Site], Cure]


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[Site, Prometheus]]:
    """Three hypervisors with a common network, and a Prometheus that watches them."""
    with Lab(3) as lab:
        managed = dict(_managed(lab))
        authority = Authority(lab.state / "authority")
        certificate = authority.broker("hypervisors", *managed.values())
        token_file = lab.state / "token"
        token_file.write_text("for-the-lab-alone-and-long-enough\n")
        access = {
            "PORTWATCH_HTTP__CERTIFICATE": str(certificate),
            "PORTWATCH_HTTP__PRIVATE_KEY": str(certificate.with_suffix(".key")),
            "PORTWATCH_HTTP__TOKEN_FILE": str(token_file),
        }
        agents = {
            hypervisor.name: lab.agent(hypervisor, environment=access | {"PORTWATCH_HTTP__LISTEN": f"{address}:9476"})
            for hypervisor, address in managed.items()
        }
        prometheus = lab.prometheus(DEPLOY / "prometheus/alerts.yml", agents.values(), authority.ca, token_file)
        for agent in agents.values():
            agent.start()
        prometheus.start()
        for agent in agents.values():
            agent.wait_ready()
        site = Site(lab, agents)
        for number, hypervisor in enumerate(lab.hypervisors, 1):
            port = Port(f"base-{number}", lab.mac(), BASE, (f"10.0.0.{number}/24",))
            site.plug(hypervisor, port)
            site.wait_active(hypervisor, port)
        yield site, prometheus


def _managed(lab: Lab) -> Iterator[tuple[Hypervisor, str]]:
    """Lay a management cable to each hypervisor, and yield its address there: an alarm must not hang on the switch."""
    monitoring = lab.broker.namespace
    for number, hypervisor in enumerate(lab.hypervisors, 1):
        here, there = f"198.51.100.{4 * number + 1}", f"198.51.100.{4 * number + 2}"
        monitoring.ip(
            f"link add mgmt{number} type veth peer name mgmt netns {hypervisor.namespace.name}",
            f"address add {here}/30 dev mgmt{number}",
            f"link set mgmt{number} up",
        )
        hypervisor.namespace.ip(f"address add {there}/30 dev mgmt", "link set mgmt up")
        yield hypervisor, there


# --- faults: each returns its cure --------------------------------------------------------------------------------


def an_agent_is_stopped(site: Site) -> Cure:
    site.agents["hv3"].stop()
    return site.agents["hv3"].start


def an_agent_is_killed(site: Site) -> Cure:
    site.agents["hv3"].kill()
    return site.agents["hv3"].start


def ovsdb_server_is_gone(site: Site) -> Cure:
    server = site.hypervisors[0].ovsdb_server
    server.stop()
    return server.start


def the_switch_is_gone(site: Site) -> Cure:
    site.hypervisors[0].vswitchd.kill()
    return site.hypervisors[0].vswitchd.start


def the_broker_is_gone(site: Site) -> Cure:
    site.lab.broker.stop()
    return site.lab.broker.start


def the_connection_to_the_switch_breaks_again_and_again(site: Site) -> Cure:
    agent = site.agents["hv1"]
    before = _reconnects(agent)
    for number in range(1, 6):
        os.kill(_monitors(agent.process.pid).pop(), signal.SIGKILL)
        eventually(lambda number=number: _reconnects(agent) == before + number, 5, "it has reconnected")  # type: ignore[misc]
    return lambda: None


def _reconnects(agent: Agent) -> float:
    """Return how often an agent has connected to its switch again."""
    found = re.search(
        r'^portwatch_reconnects_total{component="switch"} (\S+)$', agent.http_get("/metrics")[1], re.MULTILINE
    )
    assert found
    return float(found[1])


def _monitors(parent: int) -> set[int]:
    """Return the processes of an agent that watch its bridges."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return {child for child, command in commands.items() if b"\0monitor\0" in command}


def a_port_has_a_wrong_vni(site: Site) -> Cure:
    site.plug(site.hypervisors[0], Port("wrong", site.lab.mac(), BASE), {"segmentation-id": "0"})
    return lambda: None


def a_port_has_no_network(site: Site) -> Cure:
    site.plug(site.hypervisors[0], Port("lost", site.lab.mac(), BASE), {"network-id": None})
    return lambda: None


def a_manifest_counts_what_never_comes(site: Site) -> Cure:
    missing = ExitStack()
    missing.enter_context(missing_ports(site, BASE))
    return missing.close


def two_guests_have_one_mac(site: Site) -> Cure:
    plug_a_double(site, BASE)
    return lambda: None


def a_guest_is_here_and_there_and_here(site: Site) -> Cure:
    make_restless(site, BASE, site.hypervisors[2])
    return lambda: None


def somebody_deletes_flows(site: Site) -> Cure:
    site.hypervisors[0].ofctl("-O", "OpenFlow15", "del-flows", "br-int", "table=42")
    return lambda: None


def a_table_of_the_switch_is_full(site: Site) -> Cure:
    hv1 = site.hypervisors[0]
    limit = ("--id=@limit", "create", "Flow_Table", "flow_limit=1", "overflow_policy=refuse")
    hv1.vsctl("--", *limit, "--", "set", "Bridge", "br-int", "flow_tables:41=@limit")
    site.plug(hv1, Port("one-too-many", site.lab.mac(), BASE))
    return lambda: hv1.vsctl("clear", "Bridge", "br-int", "flow_tables")


def somebody_publishes_rubbish(site: Site) -> Cure:
    site.lab.broker.publish("portwatch/v1/ports/base/hv2/rubbish", "rubbish")
    return lambda: None


def the_broker_stands_still(site: Site) -> Cure:
    site.lab.broker.pause()
    site.plug(site.hypervisors[0], Port("late", site.lab.mac(), BASE))
    time.sleep(1.2)  # the fault itself: news that is older than a second when it arrives
    site.lab.broker.resume()
    return lambda: None


def a_row_is_left_of_a_device_that_is_gone(site: Site) -> Cure:
    hv1 = site.hypervisors[0]
    hv1.vsctl("--no-wait", "add-port", "br-int", "tapgone")  # as after a reboot
    return lambda: hv1.vsctl("del-port", "br-int", "tapgone")


FAULTS: dict[Fault, set[str]] = {
    an_agent_is_stopped: {"PortwatchDown"},
    an_agent_is_killed: {"PortwatchDown", "PortwatchPeersOffline"},
    ovsdb_server_is_gone: {"PortwatchDisconnected"},
    the_switch_is_gone: {"PortwatchDisconnected"},
    the_broker_is_gone: {"PortwatchDisconnected"},
    the_connection_to_the_switch_breaks_again_and_again: {"PortwatchReconnecting"},
    a_port_has_a_wrong_vni: {"PortwatchPortsInError"},
    a_port_has_no_network: {"PortwatchPortsWaiting"},
    a_manifest_counts_what_never_comes: {"PortwatchNetworksIncomplete"},
    two_guests_have_one_mac: {"PortwatchMacConflict"},
    a_guest_is_here_and_there_and_here: {"PortwatchMacFrozen", "PortwatchMacConflict"},
    somebody_deletes_flows: {"PortwatchFlowDrift"},
    a_table_of_the_switch_is_full: {"PortwatchFlowsRefused", "PortwatchPortsInError"},
    somebody_publishes_rubbish: {"PortwatchMessagesRefused"},
    the_broker_stands_still: {"PortwatchSlow"},
    a_row_is_left_of_a_device_that_is_gone: {"PortwatchOrphanInterfaces"},
}


# --- tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_fault_fires_its_alert_alone_and_its_end_stops_it(watched: tuple[Site, Prometheus], fault: Fault) -> None:
    site, prometheus = watched

    def fires(alerts: set[str]) -> None:
        words = "no alert fires" if not alerts else f"{alerts} fire"
        eventually(lambda: prometheus.firing() == alerts, PATIENCE, lambda: f"{words}; there are {prometheus.firing()}")

    fires(set())
    base = len(site.plugged)
    with ExitStack() as cures:
        cures.callback(_unplug, site, base)  # also what a fault has plugged that could not be completed
        cures.callback(fault(site))
        fires(FAULTS[fault])
    for agent in site.agents.values():
        agent.wait_ready()
    fires(set())


def _unplug(site: Site, base: int) -> None:
    """Unplug all ports but the first."""
    for hypervisor, port in site.plugged[base:]:
        site.unplug(hypervisor, port)


def test_every_panel_of_the_dashboard_shows_something(watched: tuple[Site, Prometheus]) -> None:
    _, prometheus = watched
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]

    for query in queries:
        asked = query.replace("$instance", ".*").replace("$__rate_interval", "1m")
        assert prometheus.query(asked), query
