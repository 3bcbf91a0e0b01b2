"""What an agent says of what it knows: the agent of test_agent.py, without partners."""

from typing import Any

import pytest

from portwatch import views
from portwatch.agent import Agent
from portwatch.events import PortAdded
from portwatch.model import Mac, OfPort, Plug, Port, Vni, fixed_ip
from tests.adapters.test_agent import an_agent
from tests.core.fleet import START, SWITCH_PORTS, a_claim, a_port
from tests.core.ovsdb import Ovsdb, ids_of

pytestmark = pytest.mark.adapters


def an_agent_with(*ports: Port) -> Agent:
    """Return an agent on whose host these are plugged in."""
    one = an_agent()
    one.reactor.plugged({port.port_id: Plug(port, OfPort(5)) for port in ports}, SWITCH_PORTS, START)
    one.reactor.plan(START)
    return one


def whose_rows_are(one: Agent, ovsdb: Ovsdb) -> Agent:
    one.picture.apply(ovsdb.whole(), 0.0, whole=True)
    one.reactor.plugged(dict(one.picture.plugs), SWITCH_PORTS, START)
    one.reactor.plan(START)
    return one


def test_a_network_under_another_vni_is_told_with_ours_though_our_only_port_of_it_is_not_wired() -> None:
    taken = a_port("p1", "blue").segmentation_id
    one = an_agent_with(a_port("p1", "blue"), a_port("p2", "back", segmentation_id=taken))

    there = a_port("p3", "back", segmentation_id=Vni(4242))
    one.reactor.heard(PortAdded(a_claim(there), 1, START), START, 0.0)

    (peer,) = views.peers(one)
    assert peer["reason"] == f"hv2 has back (vxlan 4242), this host back (vxlan {taken}): the two are not mixed"


def test_a_port_that_is_down_has_the_reason() -> None:
    one = an_agent_with(a_port("p1", admin_up=False))

    (row,) = views.ports(one)
    assert (row["status"], row["reason"]) == ("DOWN", "admin-down: admin-state is down")


@pytest.mark.parametrize("name", ["p1", "FA:16:3E:00:00:01", "10.0.0.2", "fd00:0::1"])
def test_a_station_is_explained_by_its_name_its_mac_or_its_address(name: str) -> None:
    one = an_agent_with(a_port("p1"), a_port("p2", fixed_ips=()))
    there = a_port("p3", mac=Mac("fa:16:3e:00:00:09"), fixed_ips=(*a_port("p3").fixed_ips, fixed_ip("fd00::1")))
    one.reactor.heard(PortAdded(a_claim(there), 1, START), START, 0.0)

    (entry,) = views.explain(one, name)

    assert entry["mac"] == (there.mac if ":0::" in name else "fa:16:3e:00:00:01")


@pytest.mark.parametrize(
    ("keys", "missing"), [({"attached_mac": "zz"}, []), ({"attached_mac": None}, ["attached-mac"])]
)
def test_what_is_wrong_is_not_said_to_be_missing(keys: dict[str, Any], missing: list[str]) -> None:
    ovsdb = Ovsdb()
    ovsdb.add("tap1", ids_of("p1", **keys))
    one = whose_rows_are(an_agent(), ovsdb)

    (entry,) = views.explain(one, "p1")

    assert entry["port"]["missing"] == missing


@pytest.mark.parametrize("name", ["tap1", "p1"])
def test_an_interface_without_an_openflow_port_is_explained(name: str) -> None:
    ovsdb = Ovsdb()
    ovsdb.add("tap1", ids_of("p1"), ofport=-1)
    ovsdb.add("tap2", ids_of("p2"))
    one = whose_rows_are(an_agent(), ovsdb)

    (entry,) = views.explain(one, name)

    assert entry["interface"]["name"] == "tap1"
    assert "no OpenFlow port" in entry["interface"]["reason"]
    assert entry["interface"]["ovsdb"]["iface-id"] == "p1"
