"""Addresses that float: routers on many hosts, virtual MACs, swaps, re-used addresses, ports made again.

What is programmed must not stand in the way of what stations tell each other; what is learned must not outlive
its truth.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from portwatch.fabric.tables import INT_FLOOD
from portwatch.switch.programmer import PURGE_AGAIN
from tests.demo.moments import BRIDGES, watching
from tests.lab import Hypervisor, Nic, Port, Probe, Vm, eventually, frames
from tests.lab.frames import BROADCAST
from tests.lab.ports import key_arguments
from tests.system.conftest import Site
from tests.system.tables import learned, statistics

pytestmark = pytest.mark.system

HA_ROUTER = "network:ha_router_replicated_interface"
VIRTUAL_MAC, VIRTUAL_ADDRESS = "00:00:5e:00:01:05", "10.0.0.100"
PAIRS = {"allowed-address-pairs": f"{VIRTUAL_MAC}/{VIRTUAL_ADDRESS}"}
AT_ONCE = 1.0
SOON = 2.0
"""For an announcement that is repeated within 10 s: the switch counts it up to 0.5 s late, or more when it is busy."""


# --- routers and virtual MACs: the data plane learns -------------------------------------------------------------


def ha_router(site: Site, *hypervisors: Hypervisor, owner: str = HA_ROUTER) -> list[tuple[Vm, Nic]]:
    """Plug one router port on several hosts, as Neutron does; no instance has the address yet."""
    blue = site.network("ha")
    port_id, mac, instances = f"ha-{blue.id}", site.lab.mac(), []
    for hypervisor in hypervisors:
        vm = site.lab.vm(f"{blue.id}-{hypervisor.name}")
        nic = vm.nic(port_id, mac, ("10.0.0.254/24",), blue, device_owner=owner, configure=False)
        # Neutron takes the link-local address from a router that stands by, or it would be heard of, too.
        vm.namespace.sysctl({"ipv6/conf/eth0/disable_ipv6": "1"})
        site.plug(hypervisor, nic)
        site.wait_active(hypervisor, nic)
        instances.append((vm, nic))
    return instances


def take_over(vm: Vm, nic: Nic, before: Vm | None = None) -> None:
    """Let an instance become the master, as keepalived does: it has the address, and tells everybody."""
    address = nic.port.addresses[0]
    if before:
        before.exec("ip", "address", "del", address, "dev", "eth0")
    vm.exec("ip", "address", "add", address, "dev", "eth0")
    vm.send(frames.gratuitous_arp(nic.port.mac, nic.port.fixed_ips[0]))


def test_a_router_on_two_hosts_is_flooded_to_and_learned_and_its_announcement_moves_it_at_once(site: Site) -> None:
    hv1, hv2, hv3 = site.hypervisors
    (one, nic), (two, _) = ha_router(site, hv1, hv2)
    assert nic.port.network
    guest, _ = site.guest(hv3, nic.port.network, "10.0.0.3/24")
    mac, address = nic.port.mac, nic.port.fixed_ips[0]
    eventually(lambda: len(_claims(site, hv3, mac)) == 2, 5, "hv3 has heard of both")
    assert _places(site, hv3, mac) == [None]
    take_over(one, nic)

    guest.reach(address)
    on_the_wire = hv3.capture("uplink", "udp port 4789")
    assert guest.who_has(address) == [mac], "the router itself answers, and once"
    on_the_wire.wait_for(f"who-has {address}")
    on_the_wire.stop()

    for bridge in BRIDGES:
        programmed = [
            line for line in site.held(hv3, bridge) if f"dl_dst={mac}" in line or f"arp_tpa={address}" in line
        ]
        assert programmed == [], "neither an entry nor an answer"
    eventually(lambda: _points_to(hv3, mac, hv1), 2, "the tunnel bridge has learned where the router is")
    for master, failed, place in ((two, one, hv2), (one, two, hv1)):
        failed.exec("ip", "address", "del", nic.port.addresses[0], "dev", "eth0")
        time.sleep(1)  # a standby waits for longer than that before it takes over
        with probing(guest, address) as probe:
            take_over(master, nic)
            eventually(lambda: probe.answers() > 5, AT_ONCE, "the other instance answers")
        assert _points_to(hv3, mac, place)


def test_a_router_handed_over_under_traffic_follows_its_announcement_at_once(site: Site) -> None:
    """A busy master gives its address up: its last packets must not outweigh what the new one has said since."""
    hv1, hv2, hv3 = site.hypervisors
    for _ in range(4):
        (one, nic), (two, _) = ha_router(site, hv1, hv2)
        assert nic.port.network
        guest, _ = site.guest(hv3, nic.port.network, "10.0.0.3/24")
        take_over(one, nic)
        guest.reach(nic.port.fixed_ips[0])
        with probing(guest, nic.port.fixed_ips[0], 0.002) as probe:
            eventually(lambda: probe.answers() > 200, 5, "a busy router")
            take_over(two, nic, one)
            answered = probe.answers()
            eventually(lambda: probe.answers() > answered + 5, AT_ONCE, "the other instance answers")  # noqa: B023


def test_a_guest_on_the_standby_routers_host_reaches_the_master(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    (one, nic), (two, _) = ha_router(site, hv1, hv2)
    assert nic.port.network
    beside_master, _ = site.guest(hv1, nic.port.network, "10.0.0.1/24")
    beside_standby, _ = site.guest(hv2, nic.port.network, "10.0.0.2/24")
    take_over(one, nic)

    beside_master.reach(nic.port.fixed_ips[0], timeout=3)
    beside_standby.reach(nic.port.fixed_ips[0], timeout=3)
    take_over(two, nic, one)
    beside_standby.reach(nic.port.fixed_ips[0], timeout=3)
    beside_master.reach(nic.port.fixed_ips[0], timeout=3)


def test_a_router_fails_over_to_and_fro_and_guests_beside_it_beside_its_standby_and_elsewhere_follow(
    site: Site,
) -> None:
    hv1, hv2, _ = site.hypervisors
    (one, nic), (two, _) = ha_router(site, hv1, hv2)
    assert nic.port.network
    mac, address = nic.port.mac, nic.port.fixed_ips[0]
    guests = [site.guest(hv, nic.port.network, f"10.0.0.{n}/24")[0] for n, hv in enumerate(site.hypervisors, 1)]
    take_over(one, nic)
    for guest in guests:
        guest.reach(address)

    with ExitStack() as stack:
        probes = [stack.enter_context(probing(guest, address)) for guest in guests]
        for master, standby in ((two, one), (one, two)) * 3:
            time.sleep(1)  # VRRP's interval: the switch has counted by then what the old master has said
            take_over(master, nic, standby)
            for probe in probes:
                wanted = probe.answers() + 3
                eventually(lambda: probe.answers() >= wanted, SOON, "the new master answers")  # noqa: B023

    strays = [two.capture(f"ether dst {mac}"), hv1.capture("uplink", f"udp port 4789 and src host {hv1.ip}")]
    assert all(guest.ping(address, count=50, interval=0.01).ok for guest in guests), "each answered, and once"
    missed = [line for stray in strays for line in stray.stop() if f"> {mac}" in line]
    assert missed == [], "nothing for the master goes to its standby, nor from its own host to anybody else"


def test_a_distributed_router_is_always_the_instance_here(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    instances = ha_router(site, hv1, hv2, owner="network:router_interface_distributed")
    nic = instances[0][1]
    assert nic.port.network
    mac, address = nic.port.mac, nic.port.fixed_ips[0]
    guests = [site.guest(hv, nic.port.network, f"10.0.0.{n}/24")[0] for n, hv in enumerate((hv1, hv2), 1)]
    for vm, _ in instances:
        vm.exec("ip", "address", "add", nic.port.addresses[0], "dev", "eth0")
    for guest in guests:
        guest.exec("ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0")

    for speaks, _ in instances:
        speaks.send(frames.gratuitous_arp(mac, address))
        strays = [hv.capture("uplink", "udp port 4789") for hv in (hv1, hv2)]
        assert all(guest.ping(address, count=20, interval=0.01).ok for guest in guests)
        assert [line for stray in strays for line in stray.stop() if f"> {mac}" in line] == []


def test_a_virtual_mac_is_learned_and_follows_its_announcement(site: Site) -> None:
    """A MAC from allowed-address-pairs is no port's own: nobody claims it, and it may be anywhere."""
    blue = site.network("vrrp")
    hv1, hv2, hv3 = site.hypervisors
    one, one_nic = site.guest(hv1, blue, "10.0.0.1/24", keys=PAIRS)
    two, two_nic = site.guest(hv2, blue, "10.0.0.2/24", keys=PAIRS)
    guest, guest_nic = site.guest(hv3, blue, "10.0.0.3/24")
    for nic, place in ((one_nic, hv1), (two_nic, hv2)):
        site.wait_known(hv3, nic.port.mac, place)
        site.wait_known(place, guest_nic.port.mac, hv3)
    guest.exec("ip", "neigh", "replace", VIRTUAL_ADDRESS, "lladdr", VIRTUAL_MAC, "dev", "eth0")
    assert not learned(hv3, VIRTUAL_MAC)

    for speaks, silent, place in ((one, two, hv1), (two, one, hv2), (one, two, hv1)):
        told = time.time()
        speaks.send(frames.gratuitous_arp(VIRTUAL_MAC, VIRTUAL_ADDRESS))
        eventually(lambda: _points_to(hv3, VIRTUAL_MAC, place), AT_ONCE, "the learned entry follows")  # noqa: B023
        assert time.time() - told < AT_ONCE
        hears = speaks.capture(f"ether dst {VIRTUAL_MAC}")
        while not hears.lines():  # the switch forwards by its cache for some more milliseconds
            guest.ping(VIRTUAL_ADDRESS, timeout=0.05)  # nobody has the address in earnest
            assert time.time() - told < 2 * AT_ONCE
        hears_not = silent.capture(f"ether dst {VIRTUAL_MAC}")
        before = len(hears.lines())
        guest.ping(VIRTUAL_ADDRESS, count=5, interval=0.02, timeout=0.1)
        eventually(lambda: len(hears.lines()) > before, 2, "frames for the virtual MAC")  # noqa: B023
        hears.stop()
        assert hears_not.stop() == []
    assert not [row for row in site.ask(hv3, "fdb") if row["mac"] == VIRTUAL_MAC]
    assert f"arp_tpa={VIRTUAL_ADDRESS}" not in "\n".join(hv3.dump_flows("br-tun")), "never answered for"


def test_what_was_learned_of_a_busy_station_goes_with_its_entry(site: Site) -> None:
    """Packets of its last moments must not bring the learned entry back: it would stand for 300 s."""
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    watcher, _ = site.guest(hv1, blue, "10.0.0.1/24")
    site.guest(hv2, blue, "10.0.0.2/24")
    for place in range(5):
        _, gone = site.guest(hv2, blue, f"10.0.0.{30 + place}/24")
        site.wait_known(hv1, gone.port.mac, hv2)
        with probing(watcher, gone.port.fixed_ips[0], 0.002) as probe:
            eventually(lambda: probe.answers() > 100, 5, "a busy station")
            assert learned(hv1, gone.port.mac)
            site.unplug(hv2, gone)
            site.wait_known(hv1, gone.port.mac, None)
        time.sleep(PURGE_AGAIN + 1)  # what would come back has done so after 0.5 s

        assert learned(hv1, gone.port.mac) == []


def test_a_mac_plugged_elsewhere_is_not_looked_for_where_it_was(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    watcher, _ = site.guest(hv1, blue, "10.0.0.1/24")
    _, old = site.guest(hv2, blue, "10.0.0.9/24")
    site.guest(hv2, blue, "10.0.0.2/24")
    watcher.reach("10.0.0.9", timeout=5)
    site.unplug(hv2, old)
    again = site.lab.vm("again")
    new = again.nic("again", old.port.mac, ("10.0.0.9/24",), blue)
    site.plug(hv3, new)
    site.wait_known(hv1, new.port.mac, hv3)
    strays = hv2.capture("uplink", f"udp port 4789 and host {hv1.ip}")

    watcher.reach("10.0.0.9", timeout=2)
    assert watcher.ping("10.0.0.9", count=10, interval=0.01).ok

    assert [line for line in strays.stop() if f"> {new.port.mac}" in line] == []


# --- ARP and RARP pass -------------------------------------------------------------------------------------------


def test_announcements_replies_and_rarp_pass_and_questions_are_answered_as_they_should(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    (one, one_nic), (two, two_nic), (three, three_nic) = (
        site.guest(hypervisor, blue, f"10.0.0.{place}/24") for place, hypervisor in enumerate(site.hypervisors, 1)
    )
    nics = ((hv1, one_nic), (hv2, two_nic), (hv3, three_nic))
    for hypervisor, _ in nics:
        for place, nic in nics:
            site.wait_known(hypervisor, nic.port.mac, place)
    mine, other = one_nic.port.mac, two_nic.port.mac
    heard, overheard = (vm.capture(f"(arp or rarp) and ether src {mine}") for vm in (two, three))
    answers = one.capture(f"arp and not ether src {mine}")

    one.send(frames.gratuitous_arp(mine, "10.0.0.1"))
    for capture in (heard, overheard):
        capture.wait_for(f"{mine} > {BROADCAST}")
        assert "Request who-has 10.0.0.1 tell 10.0.0.1" in capture.lines()[-1]
    one.send(frames.rarp(mine))
    for capture in (heard, overheard):
        capture.wait_for("Reverse Request")
    announced = frames.arp_reply(mine, "10.0.0.1", BROADCAST, "10.0.0.1")
    one.send(announced)
    for capture in (heard, overheard):
        capture.wait_for("Reply 10.0.0.1 is-at")
    assert answers.lines() == [], "nobody answers an announcement"

    flooded = len(overheard.lines())
    one.send(frames.arp_reply(mine, "10.0.0.1", other, "10.0.0.2"))
    heard.wait_for(lambda line: f"{mine} > {other}" in line and "Reply" in line)
    unicast = frames.arp_request(mine, "10.0.0.1", "10.0.0.2")
    one.send(bytes.fromhex(other.replace(":", "")) + unicast[6:])
    heard.wait_for(lambda line: f"{mine} > {other}" in line and "Request who-has 10.0.0.2" in line)
    answers.wait_for(f"Reply 10.0.0.2 is-at {other}")
    assert len(overheard.lines()) == flooded, "what is said to one is heard by one"

    assert one.namespace.inside(lambda: frames.ask("eth0", mine, None, "10.0.0.2", 0.5)) == [other], "a probe"
    assert one.namespace.inside(lambda: frames.ask("eth0", mine, None, "10.0.0.1", 0.5)) == [], "its own address"
    for capture in (heard, overheard, answers):
        capture.stop()


@pytest.mark.parametrize("place", [0, 1], ids=["at the source", "at the destination"])
def test_a_probe_for_the_own_address_is_not_answered_while_two_hosts_have_the_port(site: Site, place: int) -> None:
    """A guest that looks for a duplicate of its address during its migration must not find itself."""
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    vm, nic = site.guest(hv1, blue, "10.0.0.1/24")
    site.guest(hv2, blue, "10.0.0.2/24")
    site.plug(hv2, nic, {"iface-status": "inactive"})
    site.wait_active(hv2, nic)
    eventually(lambda: all(len(_claims(site, hv, nic.port.mac)) == 2 for hv in (hv1, hv2)), 5, "both know of both")
    if place:
        nic.run_on("hv2")

    assert vm.namespace.inside(lambda: frames.ask("eth0", nic.port.mac, None, "10.0.0.1", 0.5)) == []


# --- addresses change hands --------------------------------------------------------------------------------------


def test_two_ports_swap_their_addresses(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    asking, _ = site.guest(hv3, blue, "10.0.0.3/24")
    (one, one_nic), (two, two_nic) = (site.guest(hv, blue, f"10.0.0.{n}/24") for n, hv in ((1, hv1), (2, hv2)))
    site.wait_known(hv3, one_nic.port.mac, hv1)
    site.wait_known(hv3, two_nic.port.mac, hv2)
    assert asking.who_has("10.0.0.1") == [one_nic.port.mac]

    hv1.set_external_ids(one_nic, {"fixed-ips": "10.0.0.2"})
    hv2.set_external_ids(two_nic, {"fixed-ips": "10.0.0.1"})
    for vm, gone, come in ((one, 1, 2), (two, 2, 1)):
        vm.exec("ip", "address", "del", f"10.0.0.{gone}/24", "dev", "eth0")
        vm.exec("ip", "address", "add", f"10.0.0.{come}/24", "dev", "eth0")

    eventually(lambda: asking.who_has("10.0.0.1", wait=0.2) == [two_nic.port.mac], 3, "the one is the other's")
    eventually(lambda: asking.who_has("10.0.0.2", wait=0.2) == [one_nic.port.mac], 3, "and the other the one's")
    asking.exec("ip", "neigh", "flush", "all")
    asking.reach("10.0.0.1")
    asking.reach("10.0.0.2")


def test_an_address_is_the_newer_ports_before_and_after_the_older_one_goes(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    asking, _ = site.guest(hv3, blue, "10.0.0.3/24")
    _, older = site.guest(hv1, blue, "10.0.0.1/24")
    site.wait_known(hv3, older.port.mac, hv1)
    _, newer = site.guest(hv2, blue, "10.0.0.1/24")
    site.wait_known(hv3, newer.port.mac, hv2)
    answers = [_answer(hv3, "10.0.0.1")]
    assert newer.port.mac in answers[0]

    site.unplug(hv1, older)
    site.wait_known(hv3, older.port.mac, None)

    assert _answer(hv3, "10.0.0.1") == answers[0]
    assert asking.who_has("10.0.0.1") == [newer.port.mac]
    asking.reach("10.0.0.1")


def test_one_mac_in_two_networks_is_two_stations(site: Site) -> None:
    red, green = site.network("red"), site.network("green")
    hv1, hv2, hv3 = site.hypervisors
    mac = site.lab.mac()
    nics = []
    for hypervisor, network in ((hv1, red), (hv2, green)):
        nic = site.lab.vm(f"twin-{network.id}").nic(f"twin-{network.id}", mac, ("10.0.0.1/24",), network)
        site.plug(hypervisor, nic)
        nics.append(nic)
    in_red, _ = site.guest(hv3, red, "10.0.0.3/24")
    in_green, _ = site.guest(hv3, green, "10.0.0.3/24")
    eventually(lambda: set(_places(site, hv3, mac)) == {"hv1", "hv2"}, 5, "hv3 knows both")
    in_red.reach("10.0.0.1", timeout=5)
    in_green.reach("10.0.0.1", timeout=5)

    site.unplug(hv1, nics[0])

    eventually(lambda: _places(site, hv3, mac) == ["hv2"], 5, "the other one stays")
    assert in_green.ping("10.0.0.1", count=5, interval=0.01).ok
    assert in_red.cannot_reach("10.0.0.1")


# --- ports made again --------------------------------------------------------------------------------------------


def test_a_port_on_two_interfaces_of_a_host_stays_until_the_last_has_gone(site: Site) -> None:
    blue = site.network("blue")
    hv1, _, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    _, first = site.guest(hv1, blue, "10.0.0.1/24")
    site.wait_known(hv3, first.port.mac, hv1)
    topic = f"portwatch/v1/ports/{blue.id}/hv1/{first.port.id}"
    # the same iface-id and MAC on a device of another name
    other = site.lab.vm("second").nic("second", first.port.mac, ("10.0.0.1/24",), blue)
    site.plug(hv1, other, {"iface-id": first.port.id})
    time.sleep(0.3)
    watcher.reach("10.0.0.1")
    recorder = site.lab.broker.subscribe(topic)

    site.unplug(hv1, first)

    eventually(lambda: f"output:{hv1.ofport(other)}" in _delivered(hv1, first.port.mac), 5, "delivered to the other")
    watcher.reach("10.0.0.1")
    site.wait_known(hv3, first.port.mac, hv1)
    recorder.stop()
    assert [message.payload for message in recorder.messages if not message.payload] == [], "the claim has stayed"
    assert not [message for message in recorder.messages if "port.removed" in message.payload]
    site.unplug(hv1, other)
    site.wait_known(hv3, first.port.mac, None)
    assert site.lab.broker.retained(topic) == {}


def test_a_name_plugged_again_with_another_port_in_one_transaction_is_the_other_port(site: Site) -> None:
    blue = site.network("blue")
    hv1, _, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    vm, nic = site.guest(hv1, blue, "10.0.0.1/24")
    site.wait_known(hv3, nic.port.mac, hv1)
    old, new = nic.port.mac, site.lab.mac()
    vm.exec("ip", "link", "set", "eth0", "address", new)
    keys = {**nic.port.keys(), "iface-id": "another-port", "attached-mac": new}

    _plug_again(hv1, nic, keys)

    site.wait_known(hv3, new, hv1)
    site.wait_known(hv3, old, None)
    watcher.exec("ip", "neigh", "flush", "all")
    watcher.reach("10.0.0.1", timeout=3)
    retained = site.lab.broker.retained(f"portwatch/v1/ports/{blue.id}/hv1/#")
    assert [topic.rpartition("/")[2] for topic in retained] == ["another-port"]


def test_a_port_plugged_unplugged_and_plugged_within_milliseconds_is_there(site: Site) -> None:
    blue = site.network("blue")
    hv1, _, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    vm = site.lab.vm("hasty")
    nic = vm.nic("hasty", site.lab.mac(), ("10.0.0.1/24",), blue)
    site.plug(hv1, nic, wait=False)
    for _ in range(3):
        hv1.vsctl("--no-wait", "del-port", "br-int", nic.port.device)
        _plug_again(hv1, nic, nic.port.keys(), "--no-wait")

    row = site.wait_active(hv1, nic)
    site.wait_known(hv3, nic.port.mac, hv1)

    watcher.reach("10.0.0.1")
    eventually(lambda: _remembered(hv1, nic).get("portwatch-installed") == "true", 5, "the new row is written")
    assert (site.port(hv1, nic) or {})["ofport"] == hv1.ofport(nic)
    assert _remembered(hv1, nic)["portwatch-seq"] == str(row["seq"])


def test_an_interface_made_again_gets_its_flows_at_its_new_number(site: Site) -> None:
    blue = site.network("blue")
    hv1, _, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    beside, _ = site.guest(hv1, blue, "10.0.0.2/24")
    _, nic = site.guest(hv1, blue, "10.0.0.1/24")
    watcher.reach("10.0.0.1", timeout=5)
    before = hv1.ofport(nic)

    number = (before or 0) + 500
    _plug_again(hv1, nic, nic.port.keys(), ofport=number)

    eventually(
        lambda: f"output:{(before or 0) + 500}" in _delivered(hv1, nic.port.mac), 5, "delivered to the new number"
    )
    watcher.reach("10.0.0.1")
    beside.reach("10.0.0.1")
    site.check()
    assert f"in_port={before}," not in "\n".join(site.held(hv1, "br-int"))


def test_flows_that_stay_are_not_made_again_while_ports_come_and_go(site: Site, tmp_path: Path) -> None:
    """Make before break: neither age nor counters of what others need begin anew."""
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    one, one_nic = site.guest(hv1, blue, "10.0.0.1/24")
    _, two_nic = site.guest(hv2, blue, "10.0.0.2/24")
    site.wait_known(hv1, two_nic.port.mac, hv2)
    site.wait_known(hv2, one_nic.port.mac, hv1)
    site.check()
    one.reach("10.0.0.2")
    probe = one.probe("10.0.0.2")
    eventually(lambda: probe.answers() > 10, 5, "the probe runs")
    before = {(hv, bridge): statistics(hv, bridge) for hv in (hv1, hv2) for bridge in BRIDGES}

    with watching((hv1, hv2), tmp_path) as moments:
        begun = time.time()
        for hypervisor in (hv1, hv2, hv3):
            ports = [Port(f"many-{n}", site.lab.mac(), blue, (f"10.0.1.{n}/24",)) for n in range(5)]
            hypervisor.plug_many(ports)
            site.wait_known(hv1, ports[-1].mac, hypervisor)
            site.wait_known(hv2, ports[-1].mac, hypervisor)
            hypervisor.unplug_many(ports)
            site.wait_known(hv1, ports[-1].mac, None)
            site.wait_known(hv2, ports[-1].mac, None)
        site.check()
        seen = [change for hv in (hv1, hv2) for bridge in BRIDGES for change in moments[hv.name].flows(bridge, begun)]

    result = probe.stop()
    # Open vSwitch stands still when a port comes or goes, and may lose a packet: without portwatch, too.
    assert len(result.lost) <= 2
    for (hypervisor, bridge), old in before.items():
        new = statistics(hypervisor, bridge)
        for key, carried in old.items():
            if bridge == "br-int" and key.table == INT_FLOOD:
                continue  # its members change
            assert carried.went_on(new[key]), f"{hypervisor.name} {bridge} {key}: {carried}, then {new[key]}"
    for nic in (one_nic, two_nic):
        assert [change for change in seen if change.says_where(nic.port.mac)] == []


@contextmanager
def probing(vm: Vm, address: str, interval: float = 0.01) -> Iterator[Probe]:
    """Let *vm* ping as long as this lasts, whichever way it ends."""
    probe = vm.probe(address, interval)
    try:
        yield probe
    finally:
        probe.stop()


# --- questions ---------------------------------------------------------------------------------------------------


def _claims(site: Site, hypervisor: Hypervisor, mac: str) -> list[object]:
    return [claim for row in site.ask(hypervisor, "fdb") if row["mac"] == mac for claim in row["claims"]]


def _places(site: Site, hypervisor: Hypervisor, mac: str) -> list[str | None]:
    return [row["host"] for row in site.ask(hypervisor, "fdb") if row["mac"] == mac]


def _points_to(hypervisor: Hypervisor, mac: str, place: Hypervisor) -> bool:
    """Has the tunnel bridge learned that *mac* is there: does the highest of the learned entries say so?"""
    ranked = sorted(learned(hypervisor, mac), key=lambda line: int(line.partition("priority=")[2].partition(",")[0]))
    return bool(ranked) and f"{place.ip}->tun_dst" in ranked[-1]


def _answer(hypervisor: Hypervisor, address: str) -> str:
    """Return the responder's flow for *address*."""
    flows = hypervisor.dump_flows("br-tun")
    return next(
        line for line in flows if f"arp_tpa={address}," in line and "arp_spa" not in line.partition("actions")[0]
    )


def _delivered(hypervisor: Hypervisor, mac: str) -> str:
    """Return the integration bridge's entry for *mac*."""
    return next((line for line in hypervisor.dump_flows("br-int") if f"dl_dst={mac} " in line), "")


def _remembered(hypervisor: Hypervisor, nic: Nic) -> dict[str, object]:
    keys = (hypervisor.row("Port", nic.port.device) or {}).get("external_ids")
    return dict(keys) if isinstance(keys, dict) else {}


def _plug_again(
    hypervisor: Hypervisor, nic: Nic, keys: dict[str, str], *options: str, ofport: int | None = None
) -> None:
    """Take a cabled card's interface out of the bridge and make it again, in one transaction."""
    device = nic.port.device
    hypervisor.vsctl(
        *options,
        *("--", "--if-exists", "del-port", "br-int", device),
        *("--", "add-port", "br-int", device, "--", "set", "Interface", device, "type=system"),
        *([f"ofport_request={ofport}"] if ofport else []),
        *key_arguments(keys),
    )
