"""Faults that more than one test makes, each with its end; and what the doctor says of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from tests.faults.broker import denying
from tests.lab import Hypervisor, Network, Nic, Port, eventually
from tests.system.conftest import Site

NOT_RUNNING = {"PORTWATCH_HTTP__LISTEN": "127.0.0.1:1"}
NARROW, WIDE = 1500, 1600
"""Octets that the underlay carries: too few for a VM's 1500 in a tunnel, and enough."""


def found(site: Site, hypervisor: Hypervisor, *, status: int = 0, **environment: str) -> dict[str, dict[str, str]]:
    """Return what the doctor finds, by name; of several of one name, all that they say."""
    told = site.command(hypervisor, "doctor", "--json", status=status, **environment)
    assert told.stderr == "", "what is wrong is a finding, and is not said twice"
    findings: dict[str, dict[str, str]] = {}
    for finding in json.loads(told.stdout):
        before = findings.get(finding["name"], dict.fromkeys(finding, ""))
        findings[finding["name"]] = {key: f"{before[key]}\n{text}" for key, text in finding.items()}
    return findings


def pair(site: Site) -> tuple[Port, Port]:
    """Plug a port on hv1 and one on hv2, in one network, and wait until they know of each other."""
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    here, there = (Port(f"{blue.id}-{name}", site.lab.mac(), blue) for name in ("here", "there"))
    site.plug(hv1, here)
    site.plug(hv2, there)
    site.wait_known(hv1, there.mac, hv2)
    site.wait_known(hv2, here.mac, hv1)
    site.wait_active(hv1, here)
    for hypervisor in (hv1, hv2):
        eventually(lambda each=hypervisor: _complete(site, each, blue.id), 15, "it is complete")  # type: ignore[misc]
    return here, there


def _complete(site: Site, hypervisor: Hypervisor, network_id: str) -> bool:
    return any(row["network_id"] == network_id and row["complete"] for row in site.ask(hypervisor, "networks"))


@contextmanager
def narrow_underlay(site: Site, hypervisor: Hypervisor) -> Iterator[None]:
    """Let the way to a hypervisor be too narrow for a full frame in a tunnel."""
    site.lab.underlay.namespace.ip(f"link set {hypervisor.name} mtu {NARROW}")
    try:
        yield
    finally:
        site.lab.underlay.namespace.ip(f"link set {hypervisor.name} mtu {WIDE}")


@contextmanager
def without_its_device(hypervisor: Hypervisor, nic: Nic) -> Iterator[None]:
    """Take a port's device away, as a VM that dies leaves its row behind."""
    device = nic.port.device
    hypervisor.namespace.ip(f"link del {device}")
    eventually(lambda: (hypervisor.row("Interface", device) or {})["ifindex"] == 0, 5, "ovs-vswitchd has noticed")
    yield
    nic.cable(hypervisor.name, hypervisor.namespace)


@contextmanager
def without_broker(site: Site) -> Iterator[None]:
    """Let the broker be gone, and the agents know it."""
    site.lab.broker.kill()
    try:
        for agent in site.agents.values():
            eventually(lambda agent=agent: agent.http_get("/readyz")[0] == 503, 5, "it has noticed")  # type: ignore[misc]
        yield
    finally:
        site.lab.broker.start()
        _wait_ready(site)


@contextmanager
def forbidding_broker(site: Site, hypervisor: Hypervisor) -> Iterator[None]:
    """Let the broker refuse what a hypervisor says of its ports, and its agent know it."""
    agent = site.agents[hypervisor.name]
    try:
        with denying(site.lab.broker, hypervisor):
            eventually(lambda: "access control list" in agent.http_get("/readyz")[1], 20, "it has noticed")
            yield
    finally:
        _wait_ready(site)


def _wait_ready(site: Site) -> None:
    for agent in site.agents.values():
        if agent.process.running:
            agent.wait_ready()


def plug_a_double(site: Site, network: Network) -> tuple[Port, Port]:
    """Plug a guest on hv1, and its clone with the same MAC on hv2."""
    hv1, hv2, _ = site.hypervisors
    mac = site.lab.mac()
    original, clone = (Port(f"{network.id}-{name}", mac, network) for name in ("original", "clone"))
    site.plug(hv1, original)
    eventually(lambda: site.port(hv1, original), 5, "the original is there first")
    site.plug(hv2, clone)
    return original, clone


@contextmanager
def missing_ports(site: Site, network: Network) -> Iterator[None]:
    """Let a manifest of a network count a port that never comes."""
    topic = f"portwatch/v1/manifests/{network.id}/ghost"
    manifest = {"host": "ghost", "session": "s", "count": 1, "digest": "0" * 64}
    site.lab.broker.publish(topic, json.dumps(manifest), retain=True)
    yield
    site.lab.broker.publish(topic, "", retain=True)


def make_restless(site: Site, network: Network, watching: Hypervisor) -> Port:
    """Let a guest be here and there and here, until it is frozen; in the end both hosts have it plugged in."""
    hv1, hv2, _ = site.hypervisors
    port = Port(f"{network.id}-restless", site.lab.mac(), network)
    places = [hv1, hv2, hv1, hv2, hv1, hv2, hv1]
    site.plug(hv1, port)
    for turn, (there, here) in enumerate(pairwise(places)):
        site.wait_known(watching, port.mac, there)
        site.plug(here, port)
        _wait_claimed(site, watching, port, there, here)
        if turn < len(places) - 2:
            site.unplug(there, port)
            _wait_claimed(site, watching, port, here)  # one that nobody claims for a moment begins anew
    return port


def _wait_claimed(site: Site, watching: Hypervisor, port: Port, *hosts: Hypervisor) -> None:
    def claimants() -> set[str]:
        entries = site.ask(watching, f"explain/{port.mac}")
        return {claim["host"] for entry in entries for claim in entry["claims"]}

    wanted = {host.name for host in hosts}
    eventually(lambda: claimants() == wanted, 5, f"{port.mac} is claimed by {wanted}")
