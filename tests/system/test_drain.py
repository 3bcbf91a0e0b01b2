"""Maintenance, and claims that compete: what `portwatch drain` and two claims of one port do to the tables."""

import json
from typing import Any

import pytest

from tests.lab import Hypervisor, Port, eventually
from tests.system.conftest import Site
from tests.system.provoked import found

pytestmark = pytest.mark.system


def test_a_drained_hosts_port_goes_to_whoever_attaches_it_and_the_undo_takes_it_back(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    port = Port("drained", site.lab.mac(), blue, ("10.0.0.1/24",))
    watching = Port("watching", site.lab.mac(), blue, ("10.0.0.3/24",))
    site.plug(hv3, watching)
    site.plug(hv2, port)
    site.wait_known(hv3, port.mac, hv2)
    site.plug(hv1, port)  # attached later: hv1 wins by its sequence
    site.wait_known(hv3, port.mac, hv1)
    try:
        said = site.command(hv1, "drain").stdout

        assert said.startswith("1 port is marked leaving")
        assert "this host is drained" in site.command(hv1, "ports").stdout
        assert "host-drained" in found(site, hv1)
        site.wait_known(hv3, port.mac, hv2)
        entry = _entry(site, hv3, port.mac)
        assert entry["rule"] == "state"
        assert {claim["host"]: claim["state"] for claim in entry["claims"]} == {"hv1": "leaving", "hv2": "active"}
        topic = "portwatch/v1/hosts/hv1"
        assert json.loads(site.lab.broker.retained(topic)[topic])["state"] == "leaving"

        site.agents["hv1"].kill()
        site.agents["hv1"].start()
        site.agents["hv1"].wait_ready()
        eventually(
            lambda: _claims(site, hv3, port.mac).get("hv1") == "leaving", 5, "drained it stays, restarted or not"
        )
    finally:
        site.command(hv1, "drain", "--undo")
    site.wait_known(hv3, port.mac, hv1)


def test_one_port_attached_twice_is_a_conflict_that_is_counted_and_explained(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    port = Port("twice", site.lab.mac(), blue, ("10.0.0.1/24",))
    site.plug(hv3, Port("third", site.lab.mac(), blue))
    site.plug(hv1, port)
    site.wait_known(hv3, port.mac, hv1)

    site.plug(hv2, port)

    site.wait_known(hv3, port.mac, hv2)
    assert _entry(site, hv3, port.mac)["rule"] == "higher seq"
    eventually(lambda: _entry(site, hv1, port.mac)["conflict"], 5, "the loser reports the conflict")
    assert _entry(site, hv1, port.mac)["rule"] == "attached here"
    assert "portwatch_mac_conflicts 1.0" in site.agents["hv1"].http_get("/metrics")[1]


def test_a_mac_that_moves_too_often_is_flooded_until_one_claim_is_left(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    port = Port("restless", site.lab.mac(), blue, ("10.0.0.1/24",))
    site.plug(hv3, Port("calm", site.lab.mac(), blue))
    site.plug(hv1, port)
    site.wait_known(hv3, port.mac, hv1)

    for turn in range(6):
        here, there = (hv2, hv1) if turn % 2 == 0 else (hv1, hv2)
        site.plug(here, port)
        eventually(lambda here=here: here.name in _claims(site, hv3, port.mac), 5, "it is there")  # type: ignore[misc]
        if turn < 5:
            site.unplug(there, port)
            site.wait_known(hv3, port.mac, here)

    eventually(lambda: _entry(site, hv3, port.mac)["rule"].startswith("moved too often"), 5, "hv3 floods it")
    eventually(
        lambda: not [line for line in site.held(hv3, "br-tun") if f"dl_dst={port.mac}" in line], 5, "its entry has gone"
    )
    eventually(lambda: "portwatch_mac_frozen 1.0" in site.agents["hv3"].http_get("/metrics")[1], 5, "and says so")
    site.unplug(hv2, port)
    site.wait_known(hv3, port.mac, hv1)


def _entry(site: Site, hypervisor: Hypervisor, mac: str) -> dict[str, Any]:
    found = site.ask(hypervisor, f"explain/{mac}")
    assert len(found) == 1
    entry: dict[str, Any] = found[0]
    return entry


def _claims(site: Site, hypervisor: Hypervisor, mac: str) -> dict[str, str]:
    return {claim["host"]: claim["state"] for row in site.ask(hypervisor, f"explain/{mac}") for claim in row["claims"]}
