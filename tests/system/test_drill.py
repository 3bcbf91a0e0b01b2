"""Ten prepared faults, as an operator meets them: each is found within a minute, by what docs/troubleshooting.md says.

A minute is three commands: each may take 20 s here, and takes two. The page shows what `/v1` tells; that it does,
tests/adapters/test_page.py proves.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Hypervisor, Port, eventually
from tests.system.conftest import Site
from tests.system.provoked import (
    NOT_RUNNING,
    forbidding_broker,
    make_restless,
    narrow_underlay,
    pair,
    without_broker,
    without_its_device,
)

pytestmark = pytest.mark.system

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
WITHIN_A_MINUTE = 3
CONTROLLER = "tcp:127.0.0.1:6633"


@dataclass(frozen=True)
class Clue:
    """A command, what it says (a regular expression), and its exit status."""

    command: Sequence[str]
    says: str
    status: int = 0


@dataclass(frozen=True)
class Drill:
    """Where the operator looks, what is said there, and what the page of that host is told."""

    at: Hypervisor
    clues: Sequence[Clue]
    page: str | None = None
    """What is asked of /v1, or `/readyz`, and shown."""
    shows: str = ""
    environment: dict[str, str] = field(default_factory=dict)


Fault = Callable[[Site], AbstractContextManager[Drill]]


@contextmanager
def wrong_vni(site: Site) -> Iterator[Drill]:
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    here, there = (Port(f"{blue.id}-{name}", site.lab.mac(), blue) for name in ("here", "there"))
    site.plug(hv1, here)
    site.plug(hv2, there, {"segmentation-id": "4242"})
    eventually(lambda: site.ask(hv1, "networks")[0]["disagreeing"], 5, "hv1 has heard of it")
    says = f"hv2 has {blue.id} \\(vxlan 4242\\)"
    clues = (
        Clue(("doctor",), f"peer-not-reached\n.*{says}"),
        Clue(("explain", there.mac), f"not reached from here: {says}"),
    )
    yield Drill(hv1, clues, "networks", r"'disagreeing': \[\{'host': 'hv2', 'type': 'vxlan', 'id': 4242")


@contextmanager
def missing_network_id(site: Site) -> Iterator[Drill]:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    port = Port(f"{blue.id}-lost", site.lab.mac(), blue)
    site.plug(hv1, port, {"network-id": None})
    eventually(lambda: site.port(hv1, port), 5, "it is seen")
    says = f"port-without-details\n  {port.id} is not wired: details-missing: network-id"
    clues = (Clue(("doctor",), says, 1), Clue(("explain", port.id), "missing: network-id"))
    yield Drill(hv1, clues, "ports", "'status': 'BUILD', 'reason': 'details-missing: network-id not set")


@contextmanager
def acl_that_refuses_publishing(site: Site) -> Iterator[Drill]:
    hv1 = site.hypervisors[0]
    pair(site)
    with forbidding_broker(site, hv1):
        yield Drill(hv1, (Clue(("doctor",), "broker-forbids\n.*ports/.*/hv1/", 1),), "/readyz", "access control list")


@contextmanager
def path_mtu_too_small(site: Site) -> Iterator[Drill]:
    hv1, hv2, _ = site.hypervisors
    pair(site)
    with narrow_underlay(site, hv2):
        yield Drill(hv1, (Clue(("doctor",), "path-mtu\n  packets of 1550 bytes do not get through to hv2", 1),))


@contextmanager
def duplicate_host_name(site: Site) -> Iterator[Drill]:
    hv3 = site.hypervisors[2]
    site.agents["hv3"].stop()
    environment = {"PORTWATCH_HOST": "hv1"}
    double = site.lab.agent(hv3, environment=environment)
    double.start()
    try:
        assert double.process.wait(30) == 3
        assert "hv1" in double.log_lines()[-1]
        says = "host-name-taken\n  another living agent has the name hv1"
        yield Drill(hv3, (Clue(("doctor",), says, 1),), environment=environment)
    finally:
        site.agents["hv3"].start()
        site.agents["hv3"].wait_ready()


@contextmanager
def orphaned_interface(site: Site) -> Iterator[Drill]:
    hv1 = site.hypervisors[0]
    _, nic = site.guest(hv1, site.network("blue"), "10.0.0.1/24")
    site.wait_active(hv1, nic)
    with without_its_device(hv1, nic):
        yield Drill(hv1, (Clue(("doctor",), f"orphaned-interface\n.*{nic.port.device}"),))


@contextmanager
def foreign_controller(site: Site) -> Iterator[Drill]:
    hv1 = site.hypervisors[0]
    hv1.vsctl("set-controller", "br-int", CONTROLLER)
    try:
        says = f"foreign-controller\n  br-int has an OpenFlow controller: {CONTROLLER}"
        yield Drill(hv1, (Clue(("doctor",), says, 1),))
    finally:
        hv1.vsctl("del-controller", "br-int")  # at which Open vSwitch empties the bridge
        eventually(lambda: site.held(hv1, "br-int") == site.wanted(hv1, "br-int"), 5, "it is filled again")


@contextmanager
def stopped_broker(site: Site) -> Iterator[Drill]:
    with without_broker(site):
        yield Drill(site.hypervisors[0], (Clue(("doctor",), "broker-unreachable\n.*refused", 1),), "/readyz", '"bus"')


@contextmanager
def frozen_mac(site: Site) -> Iterator[Drill]:
    _, hv2, hv3 = site.hypervisors
    blue = site.network("blue")
    watching = Port(f"{blue.id}-third", site.lab.mac(), blue)
    site.plug(hv3, watching)
    site.wait_active(hv3, watching)
    mac = make_restless(site, blue, hv3).mac
    claimed = f"{mac} in {blue.id} \\(claimed by hv1, hv2\\)"
    eventually(lambda: site.ask(hv3, "networks")[0]["frozen"], 5, "it is frozen")
    clues = (
        Clue(("doctor",), f"mac-frozen\n.*{claimed}", 1),
        Clue(("explain", mac), "moved too often: flood and learn"),
    )
    yield Drill(hv3, clues, "networks", f"'frozen': \\[{{'mac': '{mac}', 'hosts': \\['hv1', 'hv2'\\]")
    site.unplug(hv2, next(port for place, port in site.plugged if place is hv2))


@contextmanager
def spoofing_vm(site: Site) -> Iterator[Drill]:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    rogue, nic = site.guest(hv1, blue, "10.0.0.99/24", keys={"fixed-ips": "10.0.0.1"})
    _, other = site.guest(hv1, blue, "10.0.0.2/24")
    for each in (nic, other):
        site.wait_active(hv1, each)
    rogue.namespace.ip(f"neighbour add 10.0.0.2 lladdr {other.port.mac} dev eth0")  # it sends without asking first
    probe = rogue.probe("10.0.0.2")
    name = nic.port.id
    clues = (
        Clue(("doctor",), f"port-spoofs\n  {name} sent \\d+ frames in 2 s .*\n.*\n.*tcpdump -nnei {nic.port.device}"),
        Clue(("trace", name, other.port.mac, "--source", "10.0.0.99"), "anti-spoofing"),
        Clue(("explain", name), "fixed-ips=10.0.0.1,"),
    )
    yield Drill(hv1, clues)
    assert probe.stop().received == 0


FAULTS: tuple[Fault, ...] = (
    wrong_vni,
    missing_network_id,
    acl_that_refuses_publishing,
    path_mtu_too_small,
    duplicate_host_name,
    orphaned_interface,
    foreign_controller,
    stopped_broker,
    frozen_mac,
    spoofing_vm,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_fault_is_found_within_a_minute_by_what_the_docs_say(site: Site, fault: Fault) -> None:
    path = _documented()[fault.__name__]
    with fault(site) as drill:
        assert len(drill.clues) <= WITHIN_A_MINUTE
        for clue in drill.clues:
            asleep = NOT_RUNNING if drill.environment else {}
            text = site.command(drill.at, *clue.command, status=clue.status, **drill.environment, **asleep).stdout
            assert re.search(clue.says, text), text
            assert f"portwatch {clue.command[0]}" in path, "the docs say so"
            if clue.command == ("doctor",):
                assert f"`{clue.says.partition(chr(10))[0]}`" in path, "the docs name the finding"
                assert "  → " in text, "and it says what to do"
        if drill.page:
            assert re.search(drill.shows, _told(site, drill.at, drill.page))
            assert "the page" in path


def _told(site: Site, hypervisor: Hypervisor, question: str) -> str:
    """Return what an agent tells the page."""
    if question.startswith("/"):
        return site.agents[hypervisor.name].http_get(question)[1]
    answer: Any = site.ask(hypervisor, question)
    return str(answer)


def _documented() -> dict[str, str]:
    """Return the rows of the table of ten faults, by the name that the fault has here."""
    table = PAGE.read_text().partition("## Ten faults")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    names = {re.sub(r"\W+", "_", row.split("|")[1].strip().lower()): row for row in rows}
    assert len(rows) == len(FAULTS) + 1, "ten faults, and the head"
    return names
