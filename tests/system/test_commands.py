"""The commands, as an operator uses them: on real hypervisors, beside real agents."""

import json
import sys
from typing import Any

import jsonschema
import pytest

from tests.lab import Hypervisor, Port, eventually
from tests.system.conftest import Site

pytestmark = pytest.mark.system


def test_trace_tells_where_a_packet_goes_and_why(site: Site) -> None:
    hv1, hv2, hv3 = site.hypervisors
    blue, green = site.network("blue"), site.network("green")
    one, one_nic = site.guest(hv1, blue, "10.0.0.1/24", "fd00::1/64")
    _, here = site.guest(hv1, blue, "10.0.0.2/24")
    _, there = site.guest(hv2, blue, "10.0.0.3/24", "fd00::3/64")
    _, elsewhere = site.guest(hv3, green, "10.0.0.4/24")
    for nic, host in ((here, hv1), (there, hv2)):
        site.wait_known(hv1, nic.port.mac, host)
    one.reach("10.0.0.3", timeout=5)  # and the switch knows the way to hv2
    name = one_nic.port.id

    question, ping = _trace(site, hv1, name, "10.0.0.3")
    assert question["answered"]
    assert ping["end"] == f"It is sent through the tunnel to hv2 ({hv2.ip})."
    question, ping = _trace(site, hv1, name, "fd00::3")
    assert question["answered"]
    assert ping["tunnelled"] == [f"hv2 ({hv2.ip})"]
    question, ping = _trace(site, hv1, name, "10.0.0.2")
    assert (question["answered"], question["tunnelled"]) == (False, [f"hv2 ({hv2.ip})"])
    assert (ping["delivered"], ping["tunnelled"]) == ([here.port.id], [])
    (ping,) = _trace(site, hv1, name, here.port.mac, "--source", "10.0.0.9")
    assert ping["dropped"].startswith("dropped in table 39 of br-int; anti-spoofing")
    (question,) = _trace(site, hv1, name, "10.0.0.4")  # another tenant's: nobody here has it, so it is flooded
    assert (question["delivered"], question["tunnelled"]) == ([here.port.id], [f"hv2 ({hv2.ip})"])

    (ping,) = _trace(site, hv1, name, there.port.id)[1:]
    assert ping["tunnelled"] == [f"hv2 ({hv2.ip})"]
    _, lonely = site.guest(hv2, site.network("lonely"), "10.0.0.1/24")
    site.wait_active(hv2, lonely)
    (question,) = _trace(site, hv2, lonely.port.id, "10.0.0.9")
    assert question["dropped"].endswith("no other host to flood to: none has a wired port in this network")
    wrong = Port("wrong", site.lab.mac(), blue)
    site.plug(hv1, wrong, {"attached-mac": "zz"})
    eventually(lambda: site.port(hv1, wrong), 5, "it is seen")
    (question,) = _trace(site, hv1, "wrong", "10.0.0.3")[:1]
    assert "not let in: bad-attached-mac" in question["dropped"]

    bare = Port("bare", site.lab.mac())
    site.plug(hv1, bare)
    eventually(lambda: site.port(hv1, bare), 5, "it is seen")
    (question,) = _trace(site, hv1, "bare", "10.0.0.3")
    assert "not let in" in question["dropped"]
    assert "network-id" in question["dropped"]
    text = site.command(hv1, "trace", name, elsewhere.port.mac, "--raw").stdout
    assert "nobody claims this MAC: flooded" in text
    assert "Datapath actions" in text
    assert "nothing is known of nobody" in site.command(hv1, "trace", "nobody", "10.0.0.1", status=1).stderr
    site.command(hv1, "trace", name, "somewhere", status=2)


def test_trace_names_a_flow_that_is_somebody_elses(site: Site) -> None:
    hv1 = site.hypervisors[0]
    blue = site.network("blue")
    _, one = site.guest(hv1, blue, "10.0.0.1/24")
    _, two = site.guest(hv1, blue, "10.0.0.2/24")
    site.wait_active(hv1, one)
    site.wait_active(hv1, two)
    hv1.ofctl("add-flow", "br-int", f"cookie=0x5,table=0,priority=999,in_port={hv1.ofport(one)},actions=drop")
    try:
        (ping,) = _trace(site, hv1, one.port.id, two.port.mac)
    finally:
        hv1.ofctl("del-flows", "br-int", "cookie=0x5/-1")

    assert "not portwatch's" in ping["dropped"]


def test_explain_tells_what_ovsdb_says_who_claims_and_since_when(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    _, here = site.guest(hv1, blue, "10.0.0.1/24")
    _, there = site.guest(hv2, blue, "10.0.0.3/24")
    site.wait_known(hv1, there.port.mac, hv2)
    site.wait_active(hv1, here)

    text = site.command(hv1, "explain", here.port.id).stdout
    assert f"{here.port.id} is here, on {here.port.device}: ACTIVE" in text
    assert f"network-id={blue.id}" in text
    (entry,) = json.loads(site.command(hv1, "explain", there.port.mac, "--json").stdout)
    assert (entry["host"], entry["rule"]) == ("hv2", "only claim")
    assert entry["claims"][0]["applied"] > entry["claims"][0]["since"]
    assert 0 < entry["claims"][0]["took"] < 5
    assert [claim["since"][:4] for claim in entry["claims"]] == [entry["flows"][0]["since"][:4]]
    assert all(flow["installed"] and flow["since"] and flow["packets"] >= 0 for flow in entry["flows"])

    bare = Port("bare", site.lab.mac())
    site.plug(hv1, bare)
    eventually(lambda: site.ask(hv1, "explain/bare"), 5, "it is seen")
    for name in ("bare", bare.mac, bare.mac.upper()):
        assert "missing: network-id, segmentation-id" in site.command(hv1, "explain", name).stdout
    site.command(hv1, "explain", "nobody", status=1)
    assert there.port.mac in site.command(hv1, "explain", "10.0.0.3").stdout
    hv1.vsctl("add-port", "br-int", "nowhere0", "--", "set", "Interface", "nowhere0", "external_ids:iface-id=lost")
    try:
        eventually(lambda: site.ask(hv1, "explain/lost"), 5, "its row is seen")
        text = site.command(hv1, "explain", "lost").stdout
    finally:
        hv1.vsctl("del-port", "br-int", "nowhere0")
    assert "the interface nowhere0 gives no port here: it has no OpenFlow port" in text


def test_the_tables_speak_to_people_and_to_programs(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    _, here = site.guest(hv1, blue, "10.0.0.1/24")
    _, there = site.guest(hv2, blue, "10.0.0.3/24")
    site.wait_known(hv1, there.port.mac, hv2)
    site.wait_active(hv1, here)

    for question, word in (("ports", here.port.id), ("networks", blue.id), ("peers", "hv2"), ("fdb", there.port.mac)):
        text = site.command(hv1, question).stdout
        assert word in text
        assert "\x1b" not in text, "a pipe gets no colours"
        assert word in json.dumps(json.loads(site.command(hv1, question, "--json").stdout))
    eventually(lambda: "all of it installed" in site.command(hv1, "flows", "--difference").stdout, 5, "it owes nothing")
    assert json.loads(site.command(hv1, "flows", "--difference", "--json").stdout) == []


def test_events_are_told_as_they_happen_to_who_follows_one_network(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    blue, green = site.network("blue"), site.network("green")
    told: dict[str, list[str]] = {}
    for form in ((), ("--json",)):
        follow = (sys.executable, "-m", "portwatch", "events", "--network", blue.id, *form)
        reader = site.lab.agent(hv1, follow)
        reader.start()
        port, other = (Port(f"{net.id}-{len(form)}", site.lab.mac(), net) for net in (blue, green))
        site.plug(hv2, other)
        site.plug(hv2, port)
        lines = reader.process.output.all
        eventually(lambda lines=lines: any("ACTIVE" in line for line in lines()), 10, "it is told")  # type: ignore[misc]
        site.unplug(hv2, port)
        eventually(lambda lines=lines: any("removed" in line for line in lines()), 10, "its end is told")  # type: ignore[misc]
        told["json" if form else "words"] = lines()
        reader.kill()

    assert not [line for lines in told.values() for line in lines if green.id in line]
    assert told["words"][-1].split()[2:6] == ["removed", "hv2", blue.id, f"{blue.id}-0"]
    assert json.loads(told["json"][-1])["type"] == "portwatch.port.removed"


def test_what_is_on_the_bus_fits_the_published_schemas(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    news = site.lab.broker.subscribe("portwatch/v1/#")
    _, here = site.guest(hv1, blue, "10.0.0.1/24", "fd00::1/64")
    _, there = site.guest(hv2, blue, "10.0.0.3/24", keys={"allowed-address-pairs": "10.9.0.0/16"})
    site.plug(hv1, Port("bare", site.lab.mac()))
    site.plug(hv1, Port("wrong", site.lab.mac(), blue), {"segmentation-id": "0"})
    site.wait_known(hv1, there.port.mac, hv2)
    site.wait_active(hv1, here)
    site.unplug(hv2, there)
    kinds = {"ports": "port-event", "manifests": "manifest", "hosts": "host"}
    news.wait_for(lambda each: "portwatch.port.removed" in each.payload, "the end of a port")
    eventually(
        lambda: f"manifests/{blue.id}/hv1" in str(site.lab.broker.retained("portwatch/v1/#").keys()), 5, "it is said"
    )
    printed = json.loads(site.command(hv1, "schema").stdout)
    seen = set()

    for message in news.messages:
        if message.payload:
            kind = kinds[message.topic.split("/")[2]]
            jsonschema.Draft202012Validator(printed[kind]).validate(message.json())
            seen.add((kind, message.json().get("type") or message.json().get("state")))

    assert {kind for kind, _ in seen} == set(kinds.values())
    assert {name for kind, name in seen if kind == "port-event"} == {
        f"portwatch.port.{each}" for each in ("added", "updated", "removed")
    }


def _trace(site: Site, hypervisor: Hypervisor, *arguments: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(site.command(hypervisor, "trace", *arguments, "--json").stdout)
    return told
