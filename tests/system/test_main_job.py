"""Plug a port, and every hypervisor of its network forwards to it: proved by packets and by the switches' tables."""

import itertools
import json
import subprocess

import pytest

from portwatch import wire
from portwatch.fabric.tables import OWN
from portwatch.openflow import parse
from portwatch.openflow.bundle import Bundle, diff
from tests.lab import Hypervisor, Port, eventually, frames
from tests.system.conftest import BRIDGES, Site

pytestmark = pytest.mark.system

TOPICS = wire.Topics("portwatch/v1")


def test_every_port_of_a_network_reaches_every_other_over_three_hosts(site: Site) -> None:
    blue = site.network("blue")
    guests = [
        site.guest(hypervisor, blue, f"10.0.0.{10 * place + more}/24")
        for place, hypervisor in enumerate(site.hypervisors, 1)
        for more in (1, 2)
    ]

    for (vm, _), (_, other) in itertools.permutations(guests, 2):
        vm.reach(other.port.fixed_ips[0], timeout=5)


def test_ipv6_reaches_across_hosts(site: Site) -> None:
    blue = site.network("blue")
    one, _ = site.guest(site.hypervisors[0], blue, "fd00::1/64")
    site.guest(site.hypervisors[1], blue, "fd00::2/64")

    one.reach("fd00::2", timeout=5)


def test_nothing_crosses_from_one_network_to_another_even_with_the_same_addresses(site: Site) -> None:
    red, green = site.network("red"), site.network("green")
    hv1, hv2, hv3 = site.hypervisors
    red_one, _ = site.guest(hv1, red, "10.0.0.1/24")
    red_two, red_nic = site.guest(hv2, red, "10.0.0.2/24")
    green_one, _ = site.guest(hv1, green, "10.0.0.1/24")
    _, green_nic = site.guest(hv2, green, "10.0.0.2/24")
    only_red, only_nic = site.guest(hv3, red, "10.0.0.3/24")
    red_one.reach("10.0.0.2", timeout=5)
    green_one.reach("10.0.0.2", timeout=5)
    red_one.reach("10.0.0.3", timeout=5)

    assert red_one.who_has("10.0.0.2") == [red_nic.port.mac]
    assert green_one.who_has("10.0.0.2") == [green_nic.port.mac]
    heard = [vm.capture(f"not ether src {nic.port.mac}") for vm, nic in ((only_red, only_nic), (red_two, red_nic))]
    assert green_one.cannot_reach("10.0.0.3")
    assert green_one.ping("10.0.0.2").received == 1
    assert [capture.stop() for capture in heard] == [[], []]


def test_broadcast_arp_for_a_known_address_is_answered_without_a_frame_on_the_tunnel(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    asking, _ = site.guest(hv1, blue, "10.0.0.1/24")
    _, asked = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_known(hv1, asked.port.mac, hv2)
    on_the_wire = hv1.capture("uplink", "udp port 4789")

    assert asking.who_has("10.0.0.2") == [asked.port.mac]
    assert [line for line in on_the_wire.stop() if "ARP" in line] == []


def test_gratuitous_arp_is_flooded_and_not_answered(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    # Anti-spoofing lets it speak for the other's address: as machines do that take one over from another.
    pair = {"allowed-address-pairs": "fa:16:3e:aa:aa:aa/10.0.0.2"}
    speaking, _ = site.guest(hv1, blue, "10.0.0.1/24", keys=pair)
    hearing, heard = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_known(hv1, heard.port.mac, hv2)
    speaking.reach("10.0.0.2")
    capture = hearing.capture("arp")
    answers = speaking.capture(f"arp and ether src {heard.port.mac}")

    speaking.send(frames.gratuitous_arp("fa:16:3e:aa:aa:aa", "10.0.0.2"))

    capture.wait_for("10.0.0.2")
    assert answers.stop() == []


def test_the_first_and_the_last_port_of_a_host_enter_and_leave_the_flood_groups_of_the_others(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    _, one = site.guest(hv1, blue, "10.0.0.1/24")
    _, two = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_known(hv1, two.port.mac, hv2)
    assert _flooded_to(site, hv1, one.port) == {hv2.ip}

    _, first = site.guest(hv3, blue, "10.0.0.3/24")
    _, second = site.guest(hv3, blue, "10.0.0.4/24")
    site.wait_known(hv1, second.port.mac, hv3)
    assert _flooded_to(site, hv1, one.port) == {hv2.ip, hv3.ip}

    site.unplug(hv3, first)
    site.wait_known(hv1, first.port.mac, None)
    assert _flooded_to(site, hv1, one.port) == {hv2.ip, hv3.ip}

    site.unplug(hv3, second)
    for hypervisor, port in ((hv1, one.port), (hv2, two.port)):
        site.wait_known(hypervisor, second.port.mac, None)
        assert hv3.ip not in _flooded_to(site, hypervisor, port)
    assert not [line for line in site.held(hv3, "br-tun") if f"tun_id={blue.segmentation_id:#x}" in line]


def test_an_unplug_removes_the_entries_everywhere(site: Site) -> None:
    blue = site.network("blue")
    nics = [site.guest(hv, blue, f"10.0.0.{place}/24") for place, hv in enumerate(site.hypervisors, 1)]
    nics[0][0].reach("10.0.0.3", timeout=5)
    gone = nics[2][1]

    site.unplug(site.hypervisors[2], gone)

    for hypervisor in site.hypervisors:
        site.wait_known(hypervisor, gone.port.mac, None)
        for bridge in BRIDGES:
            told = "\n".join(hypervisor.dump_flows(bridge))
            assert gone.port.mac not in told, "an entry, or a learned one, is left"
            assert "arp_tpa=10.0.0.3" not in told


def test_an_unwired_interface_neither_hears_nor_sends_a_frame(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    one, one_nic = site.guest(hv1, blue, "10.0.0.1/24")
    site.guest(hv2, blue, "10.0.0.2/24")
    one.reach("10.0.0.2", timeout=5)
    stranger = site.lab.vm("stranger")
    bare = stranger.nic("stranger", site.lab.mac(), ("10.0.0.9/24",))
    site.plug(hv1, bare, bare=True)
    hears = stranger.capture(f"not ether src {bare.port.mac}")
    one_hears = one.capture(f"ether src {bare.port.mac}")

    one.send(frames.arp_request(one_nic.port.mac, "10.0.0.1", "10.0.0.9"))
    one.send(frames.ethernet(bare.port.mac, one_nic.port.mac, 0x0800, b"x" * 50))
    stranger.send(frames.arp_request(bare.port.mac, "10.0.0.9", "10.0.0.1"))
    stranger.send(frames.ethernet(one_nic.port.mac, bare.port.mac, 0x0800, b"x" * 50))
    assert stranger.cannot_reach("10.0.0.1")

    assert one.ping("10.0.0.2").received == 1
    assert (hears.stop(), one_hears.stop()) == ([], [])


def test_a_port_chooses_no_vlan_for_itself(site: Site) -> None:
    """A tagged frame from a port goes nowhere: the tag between our bridges is ours alone."""
    red, green = site.network("red"), site.network("green")
    hv1 = site.hypervisors[0]
    one, one_nic = site.guest(hv1, red, "10.0.0.1/24")
    other, other_nic = site.guest(hv1, green, "10.0.0.2/24")
    vlan = site.wait_active(hv1, other_nic)["local_vlan"]
    site.wait_active(hv1, one_nic)
    heard = other.capture(f"ether src {one_nic.port.mac}")

    tag = vlan.to_bytes(2) + b"\x08\x06"
    one.send(frames.ethernet("ff:ff:ff:ff:ff:ff", one_nic.port.mac, 0x8100, tag + b"y" * 50))
    assert one.cannot_reach("10.0.0.2")

    assert heard.stop() == []


def test_unicast_to_another_host_is_not_heard_by_a_third_port(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    one, one_nic = site.guest(hv1, blue, "10.0.0.1/24")
    third, _ = site.guest(hv1, blue, "10.0.0.3/24")
    _, two_nic = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_known(hv1, two_nic.port.mac, hv2)
    site.wait_known(hv2, one_nic.port.mac, hv1)
    one.reach("10.0.0.2")
    overheard = third.capture("icmp")

    assert one.ping("10.0.0.2", count=5).received == 5

    assert overheard.stop() == []


def test_foreign_flows_stay_byte_identical(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    theirs = {
        "br-int": ("table=0,priority=0,actions=NORMAL", "cookie=0x5,table=60,priority=7,in_port=4,actions=drop"),
        "br-tun": ("table=0,priority=0,actions=drop", "cookie=0x6,table=20,priority=3,dl_vlan=4000,actions=drop"),
    }
    for bridge, flows in theirs.items():
        for flow in flows:
            hv1.ofctl("add-flow", bridge, flow)
        hv1.ofctl("-O", "OpenFlow15", "add-group", bridge, "group_id=7,type=all,bucket=actions=drop")
    before = {bridge: (site.foreign(hv1, bridge), _foreign_groups(site, bridge)) for bridge in BRIDGES}
    try:
        one, nic = site.guest(hv1, blue, "10.0.0.1/24")
        site.guest(hv2, blue, "10.0.0.2/24")
        one.reach("10.0.0.2", timeout=5)
        site.unplug(hv1, nic)
        eventually(lambda: site.port(hv1, nic) is None, 5, "the port is gone")
        site.agents["hv1"].restart()
        site.agents["hv1"].wait_ready()

        assert {bridge: (site.foreign(hv1, bridge), _foreign_groups(site, bridge)) for bridge in BRIDGES} == before
    finally:
        for bridge in BRIDGES:
            hv1.ofctl("--strict", "del-flows", bridge, "table=0,priority=0")
            hv1.ofctl("del-flows", bridge, "cookie=0x5/-1")
            hv1.ofctl("del-flows", bridge, "cookie=0x6/-1")
            hv1.ofctl("-O", "OpenFlow15", "del-groups", bridge, "group_id=7")


def test_a_plain_subscriber_sees_the_contracts_events_and_after_the_unplug_nothing_retained(site: Site) -> None:
    blue = site.network("blue")
    hv1 = site.hypervisors[0]
    recorder = site.lab.broker.subscribe(f"portwatch/v1/ports/{blue.id}/#", f"portwatch/v1/manifests/{blue.id}/#")
    try:
        _, nic = site.guest(hv1, blue, "10.0.0.1/24")
        site.wait_active(hv1, nic)
        topic = f"portwatch/v1/ports/{blue.id}/hv1/{nic.port.id}"
        recorder.wait_for(lambda message: message.topic == topic and "ACTIVE" in message.payload, "ACTIVE")
        retained = site.lab.broker.retained(topic)
        site.unplug(hv1, nic)
        recorder.wait_for(lambda message: message.topic == topic and not message.payload, "the topic cleared")
        emptied = recorder.wait_for(
            lambda message: message.topic.startswith("portwatch/v1/manifests/") and message.json()["count"] == 0,
            "an empty manifest",
        )
    finally:
        recorder.stop()

    told = [message for message in recorder.messages if message.topic == topic]
    kinds = [json.loads(message.payload)["type"] for message in told if message.payload]
    assert kinds == ["portwatch.port.added", "portwatch.port.updated", "portwatch.port.removed"]
    statuses = [json.loads(message.payload)["data"]["status"] for message in told if message.payload]
    assert statuses == ["BUILD", "ACTIVE", "ACTIVE"]
    assert [message.retain for message in told] == [True, True, False, True]
    assert told[0].properties["content-type"] == "application/cloudevents+json"
    event = json.loads(retained[topic])
    assert event["specversion"] == "1.0"
    assert event["source"] == "/portwatch/hosts/hv1"
    assert event["subject"] == nic.port.id
    assert event["data"]["fixed_ips"] == ["10.0.0.1"]
    assert event["data"]["tunnel_ip"] == hv1.ip
    assert event["data"]["segmentation_id"] == blue.segmentation_id
    assert emptied.topic == f"portwatch/v1/manifests/{blue.id}/hv1"
    assert site.lab.broker.retained(f"portwatch/v1/ports/{blue.id}/#") == {}


def test_promtool_accepts_the_metrics(site: Site) -> None:
    status, text = site.agents["hv1"].http_get("/metrics")

    assert status == 200
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_moved_port_is_forwarded_to_its_new_host_at_once(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    _, nic = site.guest(hv1, blue, "10.0.0.1/24")
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    site.guest(hv2, blue, "10.0.0.2/24")
    watcher.reach("10.0.0.1", timeout=5)
    probe = watcher.probe("10.0.0.1")
    eventually(lambda: probe.answers() > 20, 5, "the probe runs")

    site.lab.move(nic, hv1, hv2)
    site.plugged[site.plugged.index((hv1, nic))] = (hv2, nic)

    site.wait_known(hv3, nic.port.mac, hv2)
    moved = probe.answers()
    eventually(lambda: probe.answers() > moved + 20, 5, "the probe goes on")
    result = probe.stop()
    longest = result.longest_gap.seconds
    assert longest < 0.5, f"a gap of {longest} s: the move was not followed at once"


def test_what_every_kind_of_flow_says_comes_back_from_the_switch_as_it_was_sent(site: Site) -> None:
    """The text of each flow and group, sent to a bare bridge, is dumped as the very same values."""
    blue = site.network("blue")
    hv1 = site.hypervisors[0]
    for place, hypervisor in enumerate(site.hypervisors, 1):
        _, nic = site.guest(hypervisor, blue, f"10.0.0.{place}/24", f"fd00::{place}/64")
        site.wait_known(hv1, nic.port.mac, hypervisor)
    hv1.create_bridge("br-bare")
    try:
        for bridge in BRIDGES:
            texts = [(row["kind"], row["text"]) for row in site.ask(hv1, "flows") if row["bridge"] == bridge]
            items = [parse.flow(text) if kind == "flow" else parse.group(text) for kind, text in texts]
            assert len(items) > 4
            bundle: Bundle = diff({}, {item.key: item for item in items}, OWN)
            hv1.ofctl("--no-names", "-O", "OpenFlow15", "bundle", "br-bare", "-", stdin=bundle.text())
            assert site.held(hv1, "br-bare") == sorted(item.text() for item in items)
            hv1.ofctl("del-flows", "br-bare")
            hv1.ofctl("-O", "OpenFlow15", "del-groups", "br-bare")
    finally:
        hv1.vsctl("del-br", "br-bare")


def test_the_port_row_remembers_and_a_restart_changes_no_flow(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    one, nic = site.guest(hv1, blue, "10.0.0.1/24")
    _, other = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_active(hv1, nic)
    site.wait_known(hv1, other.port.mac, hv2)
    one.reach("10.0.0.2")
    eventually(lambda: _remembered(site, nic.port).get("portwatch-installed") == "true", 5, "the row is written")
    row, seq = _remembered(site, nic.port), site.port(hv1, nic)
    assert row["portwatch-network"] == blue.id
    assert seq is not None
    assert row["portwatch-seq"] == str(seq["seq"])
    before = {bridge: site.held(hv1, bridge) for bridge in BRIDGES}
    probe = one.probe("10.0.0.2")

    assert site.agents["hv1"].kill() != 0
    site.agents["hv1"].start()
    site.agents["hv1"].wait_ready()
    site.wait_known(hv1, other.port.mac, hv2)
    site.wait_active(hv1, nic)

    assert {bridge: site.held(hv1, bridge) for bridge in BRIDGES} == before
    result = probe.stop()
    assert result.sent - result.received <= 1, "the last one may be under way"
    again = site.port(hv1, nic)
    assert again is not None
    assert again["seq"] == seq["seq"]


def test_a_hundred_ports_plugged_in_one_transaction_are_all_forwarded(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    _, here = site.guest(hv2, blue, "10.0.9.1/16")
    site.wait_active(hv2, here)
    ports = [Port(f"many-{place}", site.lab.mac(), blue, (f"10.0.1.{place}/16",)) for place in range(100)]
    try:
        hv1.plug_many(ports)

        eventually(lambda: len(site.ask(hv2, "fdb")) == 101, 20, "hv2 knows 101 stations")
        eventually(lambda: {row["status"] for row in site.ask(hv1, "ports")} == {"ACTIVE"}, 20, "all are ACTIVE on hv1")
        site.check()
    finally:
        hv1.unplug_many(ports)
    eventually(lambda: len(site.ask(hv2, "fdb")) == 1, 20, "hv2 has forgotten them")


def test_keys_that_arrive_one_by_one_in_any_order_make_a_port_when_it_is_complete(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    two, _ = site.guest(hv2, blue, "10.0.0.2/24")
    vm = site.lab.vm("slow")
    nic = vm.nic("slow", site.lab.mac(), ("10.0.0.1/24",), blue)
    site.plug(hv1, nic, bare=True)
    keys = nic.port.keys()

    for key in ("fixed-ips", "segmentation-id", "iface-id", "network-id", "network-type", "device-owner"):
        hv1.set_external_ids(nic, {key: keys[key]})
    eventually(lambda: (site.port(hv1, nic) or {}).get("network_id") == blue.id, 5, "the port is seen")
    row = site.port(hv1, nic)
    assert row is not None
    assert (row["status"], row["reason"]) == ("BUILD", "details-missing: attached-mac not set on the Interface")
    hv1.set_external_ids(nic, {"attached-mac": keys["attached-mac"], "iface-status": "active"})

    site.wait_active(hv1, nic)
    two.reach("10.0.0.1", timeout=5)


def _flooded_to(site: Site, hypervisor: Hypervisor, port: Port) -> set[str]:
    """Return the peers in the flood group of the port's network, as the switch tells them."""
    row = site.port(hypervisor, port)
    assert row is not None
    number = 0x70770000 + row["local_vlan"]
    groups = {group.key.group_id: group for group in parse.groups("\n".join(hypervisor.dump_groups("br-tun")))}
    if number not in groups:
        return set()
    texts = (action for bucket in groups[number].buckets for action in bucket.actions)
    return {text[len("set_field:") :].partition("->")[0] for text in texts if text.endswith("->tun_dst")}


def _foreign_groups(site: Site, bridge: str) -> list[str]:
    return [line for line in site.hypervisors[0].dump_groups(bridge) if "group_id=1886" not in line]


def _remembered(site: Site, port: Port) -> dict[str, object]:
    """Return what the Port row says of the port."""
    row = site.hypervisors[0].row("Port", port.device) or {}
    keys = row["external_ids"]
    assert isinstance(keys, dict)
    return dict(keys)
