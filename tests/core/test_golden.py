"""The settled fabric and the published payloads, as files: what changes there changes for operators and programs.

`REWRITE_GOLDEN=1 pytest tests/core/test_golden.py` writes them anew; look at the difference before you keep it.
"""

import os
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest

from portwatch import wire
from portwatch.events import OFFLINE, ONLINE, HostStatus, PortAdded, PortEvent, PortRemoved, PortUpdated, manifest_of
from portwatch.model import (
    GENEVE,
    AddressPair,
    Kind,
    NetworkId,
    NetworkType,
    State,
    Status,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from portwatch.openflow.flow import Flow, Item
from tests.core.fleet import INT, START, SWITCH_PORTS, TOPICS, TUN, Fleet, Host, a_claim, a_port

GOLDEN = Path(__file__).parent.parent / "golden"
REWRITE = bool(os.environ.get("REWRITE_GOLDEN"))


def is_golden(name: str, text: str) -> None:
    """Compare *text* with the golden file of that name, or write it."""
    file = GOLDEN / name
    if REWRITE:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{file} says otherwise; if that is meant: REWRITE_GOLDEN=1"


# --- the settled fabric ------------------------------------------------------------------------------------------


@cache
def the_settled_fabric() -> Fleet:
    """Return three hosts and two networks whose addresses overlap; blue has a distributed and an HA router.

    All is as by default, on a datapath that can do everything.
    """
    fleet = Fleet(3, checked=True, ports=replace(SWITCH_PORTS, nd_extensions=True))
    shared = partial(a_port, network="blue", segmentation_id=Vni(100), kind=Kind.SHARED)
    router = shared("p9", fixed_ips=(fixed_ip("10.0.0.1"),), device_owner="network:router_interface_distributed")
    ha_router = shared("p7", fixed_ips=(fixed_ip("10.0.0.9"),), device_owner="network:ha_router_replicated_interface")
    for host, port in (
        ("hv1", a_port("p1", "blue", segmentation_id=Vni(100))),
        ("hv1", a_port("p5", "red", segmentation_id=Vni(200), mac=a_port("p2").mac, fixed_ips=a_port("p2").fixed_ips)),
        ("hv2", a_port("p2", "blue", segmentation_id=Vni(100))),
        ("hv2", a_port("p6", "red", segmentation_id=Vni(200), mac=a_port("p1").mac, fixed_ips=a_port("p1").fixed_ips)),
        ("hv3", a_port("p3", "blue", segmentation_id=Vni(100), fixed_ips=(fixed_ip("10.0.0.4"), fixed_ip("fd00::4")))),
        ("hv3", a_port("p4", "blue", segmentation_id=Vni(100), admin_up=False)),
        ("hv1", router),
        ("hv2", router),
        ("hv1", ha_router),
        ("hv2", ha_router),
    ):
        fleet[host].plug(port)
    fleet.settle()
    return fleet


def as_text(host: Host) -> str:
    """Return all that a host's switch holds of ours, by bridge, table and priority."""
    lines = []
    for bridge, name in ((INT, "br-int"), (TUN, "br-tun")):
        items = sorted(host.reactor.ledgers[bridge].installed.values(), key=_order)
        lines += [f"# {name}", *(item.text() for item in items), ""]
    return "\n".join(lines)


def _order(item: Item) -> tuple[int, int, str]:
    if isinstance(item, Flow):
        return (item.table, -item.key.priority, item.text())
    return (256, item.key.group_id, "")


@pytest.mark.parametrize("name", ["hv1", "hv2", "hv3"])
def test_the_settled_fabric_is_programmed_as_it_always_was(name: str) -> None:
    fleet = the_settled_fabric()

    is_golden(f"{name}.txt", as_text(fleet[name]))


def test_the_settled_fabric_reaches_whom_it_should() -> None:
    """Guards the files: what they hold is a fabric that works."""
    fleet = the_settled_fabric()

    assert fleet.hears("hv3/p3", ip_src="10.0.0.4") == {"hv1/p1", "hv1/p7", "hv1/p9", "hv2/p2", "hv2/p7", "hv2/p9"}
    assert fleet.hears("hv1/p5", ip_src="10.0.0.3") == {"hv2/p6"}


# --- the payloads ------------------------------------------------------------------------------------------------

RICH = a_port(
    "p1",
    "blue",
    segmentation_id=Vni(100),
    fixed_ips=(fixed_ip("10.0.0.5"), fixed_ip("fd00::5")),
    allowed_address_pairs=(
        AddressPair.parse("10.0.0.0/24"),
        AddressPair.parse("fa:16:3e:00:00:09/10.0.0.9"),
        AddressPair.parse("fd00::9"),
    ),
    device_owner="compute:nova",
)
BARE = a_port("p1", None, segmentation_id=None, mac=None, fixed_ips=())
EVENTS: dict[str, PortEvent] = {
    "port-added": PortAdded(a_claim(RICH, status=Status.BUILD), 1, START),
    "port-updated": PortUpdated(a_claim(RICH, seq=2**63 - 1, revision=2), 2, START.replace(microsecond=998000)),
    "port-removed": PortRemoved(a_claim(RICH, revision=3), 3, START),
    "port-in-error": PortUpdated(
        a_claim(RICH, status=Status.ERROR, reason='vni-conflict: vxlan 100 is in use here by network "red" – é'),
        4,
        START,
    ),
    "port-of-an-unknown-network": PortAdded(a_claim(BARE, status=Status.BUILD, tunnel_ip=None), 5, START),
    "port-that-is-shared-and-leaving": PortUpdated(
        a_claim(
            a_port("p1", kind=Kind.SHARED, state=State.LEAVING, network_type=GENEVE),
            tunnel_ip=tunnel_endpoint("2001:db8::12"),
        ),
        6,
        START,
    ),
    "port-that-is-down": PortUpdated(
        a_claim(
            a_port("p1", network_type=NetworkType("flat"), segmentation_id=None, admin_up=False), status=Status.DOWN
        ),
        7,
        START,
    ),
}


@pytest.mark.parametrize("name", list(EVENTS))
def test_a_port_event_is_said_as_it_always_was(name: str) -> None:
    event = EVENTS[name]
    said = wire.encode_event(event)

    is_golden(f"{name}.json", said.decode() + "\n")
    assert TOPICS.decode(TOPICS.port(*event.key), said) == event


def test_a_manifest_is_said_as_it_always_was() -> None:
    share = [a_claim(RICH), a_claim(a_port("p2"), revision=7)]

    said = wire.encode_manifest(manifest_of(NetworkId("blue"), share[0].host, share[0].session, share))

    is_golden("manifest.json", said.decode() + "\n")


@pytest.mark.parametrize("state", [ONLINE, OFFLINE])
def test_a_host_status_is_said_as_it_always_was(state: str) -> None:
    claim = a_claim()
    status = HostStatus(claim.host, claim.session, state, claim.tunnel_ip, "vxlan", "1.2.3", START, START)

    is_golden(f"host-{state}.json", wire.encode_host(status).decode() + "\n")
