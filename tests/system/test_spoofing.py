"""A port sends only from its own MAC and addresses: proved by raw frames, and by who hears them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from portwatch.fabric.tables import INT_DISCOVERY, INT_SOURCE
from portwatch.model import Mac, link_local
from tests.lab import Agent, Hypervisor, Keys, Lab, Network, Nic, Vm, eventually, frames
from tests.system.conftest import Site

pytestmark = pytest.mark.system

VIRTUAL, NESTED = "00:00:5e:00:01:07", "fa:16:3e:7e:57:ed"
"""The MACs that the speaker has by its pairs: of a virtual router, and of a machine within it."""
PAIRS: Keys = {"allowed-address-pairs": f"10.0.0.100,10.9.0.0/16,fd00:9::/64,{VIRTUAL}/10.0.0.200,{NESTED}/fd00::200"}
STRANGER = "fa:16:3e:ee:ee:ee"
V4_ALL, V6_ALL = "10.0.0.255", "ff02::1"
TO_ALL_NODES = "33:33:00:00:00:01"
ETHERNET, END = 14, bytes(86)


def ll(mac: str) -> str:
    """Return the link-local address that a station makes itself of its MAC."""
    return str(link_local(Mac(mac)))


@dataclass
class Trio:
    """Who speaks (10.0.0.1, fd00::1), who hears it on the same hypervisor (….2), and who on another (….3)."""

    site: Site
    speaker: Vm
    nic: Nic
    here: Vm
    there: Vm
    other: str
    """The MAC of the one on the same hypervisor."""

    @property
    def mac(self) -> str:
        return self.nic.port.mac

    def hear(self, *sent: bytes) -> list[list[str]]:
        """Send frames; return what of them is heard here, and there."""
        captures = [vm.capture() for vm in (self.here, self.there)]
        for frame in (*sent, frames.experiment(self.mac, END)):
            self.speaker.send(frame)
        for capture in captures:
            capture.wait_for(is_end)
        return [[line for line in capture.stop() if not is_end(line)] for capture in captures]


def a_trio(site: Site, keys: Keys | None = None, **options: Any) -> Trio:
    """Plug three ports in, and silence the guests' kernels: from then on they say nothing by themselves."""
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    places = (hv1, hv1, hv2)
    guests = [
        site.guest(places[0], blue, "10.0.0.1/24", "fd00::1/64", keys=keys, **options),
        *(site.guest(places[n - 1], blue, f"10.0.0.{n}/24", f"fd00::{n}/64") for n in (2, 3)),
    ]
    (speaker, nic), (here, other), (there, _) = guests
    for hypervisor, (_, plugged) in zip(places, guests, strict=True):
        site.wait_active(hypervisor, plugged)
        for knowing in (hv1, hv2):
            site.wait_known(knowing, plugged.port.mac, hypervisor)
    here.reach("10.0.0.3")  # and the tunnel's own ends know each other
    for vm, _ in guests:
        vm.namespace.sysctl({"ipv6/conf/all/disable_ipv6": "1"})
    return Trio(site, speaker, nic, here, there, other.port.mac)


def is_end(line: str) -> bool:
    """Is this the frame that ends a test?"""
    return "0x88b5" in line and f"length {ETHERNET + len(END)}:" in line


@pytest.fixture(scope="module")
def trio(running: Site) -> Iterator[Trio]:
    """Three ports for a whole module: most tests change nothing."""
    yield a_trio(running, PAIRS)
    running.check()
    running.clear()


# --- what is heard by nobody -------------------------------------------------------------------------------------

Spoof = Callable[[str, str], bytes]
"""Of the speaker's MAC and another's, a frame."""

SPOOFS: dict[str, Spoof] = {
    "from another's MAC": lambda mac, other: frames.experiment(other),
    "from a MAC that nobody has": lambda mac, other: frames.experiment(STRANGER),
    "IPv4 from another's MAC and address": lambda mac, other: frames.udp(frames.BROADCAST, other, "10.0.0.2", V4_ALL),
    "IPv4 from another's address": lambda mac, other: frames.udp(frames.BROADCAST, mac, "10.0.0.2", V4_ALL),
    "IPv4 from beside an allowed prefix": lambda mac, other: frames.udp(frames.BROADCAST, mac, "10.10.0.1", V4_ALL),
    "IPv4 from a pair's address, but not its MAC": lambda mac, other: frames.udp(
        frames.BROADCAST, mac, "10.0.0.200", V4_ALL
    ),
    "IPv4 from a pair's MAC, but not its address": lambda mac, other: frames.udp(
        frames.BROADCAST, VIRTUAL, "10.0.0.1", V4_ALL
    ),
    "IPv4 from no address, and no DHCP": lambda mac, other: frames.udp(frames.BROADCAST, mac, "0.0.0.0", V4_ALL),
    "a DHCP server that has no address": lambda mac, other: frames.udp(
        frames.BROADCAST, mac, "0.0.0.0", "255.255.255.255", (67, 68)
    ),
    "ARP for another's address": lambda mac, other: frames.gratuitous_arp(mac, "10.0.0.2"),
    "an ARP reply for another's address": lambda mac, other: frames.arp_reply(
        mac, "10.0.0.2", frames.BROADCAST, "10.0.0.3"
    ),
    "ARP for the own address at another's MAC": lambda mac, other: frames.arp_request(
        mac, "10.0.0.1", "10.0.0.1", other
    ),
    "an ARP reply from no address": lambda mac, other: frames.arp_reply(mac, "0.0.0.0", frames.BROADCAST, "10.0.0.3"),
    "RARP of another": frames.rarp,
    "IPv6 from another's address": lambda mac, other: frames.udp(TO_ALL_NODES, mac, "fd00::2", V6_ALL),
    "IPv6 from another's link-local address": lambda mac, other: frames.udp(TO_ALL_NODES, mac, ll(other), V6_ALL),
    "IPv6 from a link-local address of its own choice": lambda mac, other: frames.udp(
        TO_ALL_NODES, mac, "fe80::7", V6_ALL
    ),
    "IPv6 from no address": lambda mac, other: frames.udp(TO_ALL_NODES, mac, "::", V6_ALL),
    "an echo request from no address": lambda mac, other: frames.icmpv6(mac, "::", V6_ALL, 128, bytes(4)),
    "an advertisement of another's address": lambda mac, other: frames.neighbor_advertisement(
        mac, "fd00::1", "fd00::2"
    ),
    "an advertisement of another's link-local address": lambda mac, other: frames.neighbor_advertisement(
        mac, "fd00::1", ll(other)
    ),
    "an advertisement of another's address without a MAC": lambda mac, other: frames.neighbor_advertisement(
        mac, "fd00::1", "fd00::2", options=b""
    ),
    "an advertisement from another's address": lambda mac, other: frames.neighbor_advertisement(
        mac, "fd00::2", "fd00::1"
    ),
    "an advertisement of the own address at another's MAC": lambda mac, other: frames.neighbor_advertisement(
        mac, "fd00::1", "fd00::1", options=frames.link_layer_option(frames.TARGET_LINK_LAYER_ADDRESS, other)
    ),
    "an advertisement that says two MACs": lambda mac, other: frames.neighbor_advertisement(
        mac,
        "fd00::1",
        "fd00::1",
        options=b"".join(frames.link_layer_option(frames.TARGET_LINK_LAYER_ADDRESS, each) for each in (mac, other)),
    ),
    "a solicitation from another's address": lambda mac, other: frames.neighbor_solicitation(
        mac, "fd00::2", "fd00::77"
    ),
    "a solicitation at another's MAC": lambda mac, other: frames.neighbor_solicitation(
        mac, "fd00::1", "fd00::77", options=frames.link_layer_option(frames.SOURCE_LINK_LAYER_ADDRESS, other)
    ),
}


@pytest.mark.parametrize("spoof", SPOOFS.values(), ids=SPOOFS.keys())
def test_what_is_not_the_ports_own_is_heard_by_nobody(trio: Trio, spoof: Spoof) -> None:
    frame = spoof(trio.mac, trio.other)

    assert trio.hear(frame, frame) == [[], []]


# --- what passes -------------------------------------------------------------------------------------------------

ADMITTED: dict[str, Callable[[str], bytes]] = {
    "IPv4": lambda mac: frames.udp(frames.BROADCAST, mac, "10.0.0.1", V4_ALL),
    "IPv4 from a pair's address": lambda mac: frames.udp(frames.BROADCAST, mac, "10.0.0.100", V4_ALL),
    "IPv4 from a pair's prefix": lambda mac: frames.udp(frames.BROADCAST, mac, "10.9.8.7", V4_ALL),
    "IPv4 from a pair's MAC and address": lambda mac: frames.udp(frames.BROADCAST, VIRTUAL, "10.0.0.200", V4_ALL),
    "DHCP": lambda mac: frames.udp(frames.BROADCAST, mac, "0.0.0.0", "255.255.255.255", (68, 67)),
    "a gratuitous ARP": lambda mac: frames.gratuitous_arp(mac, "10.0.0.1"),
    "a gratuitous ARP for a pair": lambda mac: frames.gratuitous_arp(VIRTUAL, "10.0.0.200"),
    "an ARP request": lambda mac: frames.arp_request(mac, "10.0.0.1", "10.0.0.77"),
    "an ARP reply": lambda mac: frames.arp_reply(mac, "10.0.0.1", frames.BROADCAST, "10.0.0.3"),
    "an ARP probe": lambda mac: frames.arp_request(mac, "0.0.0.0", "10.0.0.77"),
    "RARP": frames.rarp,
    "IPv6": lambda mac: frames.udp(TO_ALL_NODES, mac, "fd00::1", V6_ALL),
    "IPv6 from its link-local address": lambda mac: frames.udp(TO_ALL_NODES, mac, ll(mac), V6_ALL),
    "IPv6 from a pair's prefix": lambda mac: frames.udp(TO_ALL_NODES, mac, "fd00:9::9", V6_ALL),
    "IPv6 from a pair's MAC and address": lambda mac: frames.udp(TO_ALL_NODES, NESTED, "fd00::200", V6_ALL),
    "IPv6 from the link-local address of a pair's MAC": lambda mac: frames.udp(
        TO_ALL_NODES, VIRTUAL, ll(VIRTUAL), V6_ALL
    ),
    "DHCPv6": lambda mac: frames.udp("33:33:00:01:00:02", mac, ll(mac), "ff02::1:2", (546, 547)),
    "duplicate address detection": lambda mac: frames.neighbor_solicitation(mac, "::", "fd00::77"),
    "a router solicitation": lambda mac: frames.icmpv6(mac, "::", "ff02::2", frames.ROUTER_SOLICITATION, bytes(4)),
    "a listener report from no address": lambda mac: frames.icmpv6(
        mac, "::", "ff02::16", frames.LISTENER_REPORT, bytes(4), hops=1
    ),
    "a listener report": lambda mac: frames.icmpv6(mac, ll(mac), "ff02::16", frames.LISTENER_REPORT, bytes(4), hops=1),
    "a solicitation": lambda mac: frames.neighbor_solicitation(mac, "fd00::1", "fd00::77"),
    "an advertisement": lambda mac: frames.neighbor_advertisement(mac, "fd00::1", "fd00::1"),
    "an advertisement without a MAC": lambda mac: frames.neighbor_advertisement(mac, ll(mac), "fd00::1", options=b""),
    "an advertisement of its link-local address": lambda mac: frames.neighbor_advertisement(mac, ll(mac), ll(mac)),
    "an advertisement of a pair's prefix": lambda mac: frames.neighbor_advertisement(mac, ll(mac), "fd00:9::9"),
    "an advertisement of a pair's MAC": lambda mac: frames.neighbor_advertisement(NESTED, ll(NESTED), "fd00::200"),
}


@pytest.mark.parametrize("own", ADMITTED.values(), ids=ADMITTED.keys())
def test_what_is_the_ports_own_passes(trio: Trio, own: Callable[[str], bytes]) -> None:
    here, there = trio.hear(own(trio.mac))

    assert (len(here), len(there)) == (1, 1), (here, there)


# --- who is checked ----------------------------------------------------------------------------------------------


def test_a_port_without_fixed_ips_is_held_to_its_mac_alone(site: Site) -> None:
    trio = a_trio(site, {"fixed-ips": None})

    here, there = trio.hear(
        frames.udp(frames.BROADCAST, trio.mac, "10.7.7.7", V4_ALL),
        frames.gratuitous_arp(trio.mac, "10.7.7.7"),
        frames.neighbor_advertisement(trio.mac, "fe80::7", "fd00:7::7"),
        frames.udp(frames.BROADCAST, STRANGER, "10.7.7.7", V4_ALL),
    )

    assert (len(here), len(there)) == (3, 3)
    assert not any(STRANGER in line for line in (*here, *there))


def test_the_networks_own_ports_are_not_checked(site: Site) -> None:
    trio = a_trio(site, device_owner="network:dhcp")

    here, there = trio.hear(
        frames.udp(frames.BROADCAST, STRANGER, "10.7.7.7", V4_ALL), frames.gratuitous_arp(STRANGER, "10.7.7.7")
    )

    assert (len(here), len(there)) == (2, 2)


def test_a_port_follows_its_addresses_and_stays_active(site: Site) -> None:
    trio = a_trio(site)
    hv1 = site.hypervisors[0]
    old, new = (frames.udp(frames.BROADCAST, trio.mac, address, V4_ALL) for address in ("10.0.0.1", "10.0.0.7"))
    before = site.port(hv1, trio.nic)
    assert [len(heard) for heard in trio.hear(old, new)] == [1, 1]

    hv1.set_external_ids(trio.nic, {"fixed-ips": "10.0.0.7"})
    eventually(lambda: _flows_with(hv1, "nw_src=10.0.0.7"), 5, "the new address is admitted")

    here, there = trio.hear(old, new)
    assert (len(here), len(there)) == (1, 1)
    assert "10.0.0.7.9 >" in here[0]
    after = site.port(hv1, trio.nic)
    assert before is not None
    assert after is not None
    assert (before["status"], after["status"]) == ("ACTIVE", "ACTIVE")


def test_it_is_off_by_configuration() -> None:
    with Lab(1, broker=False) as lab:
        hypervisor = lab.hypervisors[0]
        vms = [lab.vm(name) for name in ("one", "two")]
        one, _ = nics = [vm.nic(vm.name, lab.mac(), (), Network("blue", 100), configure=False) for vm in vms]
        keys = {"fixed-ips": "10.0.0.1"}
        for nic in nics:
            hypervisor.plug(nic, keys)
        for anti_spoofing, heard in (("true", False), ("false", True), ("true", False)):
            environment = {"PORTWATCH_BUS__URL": "memory://", "PORTWATCH_PORTS__ANTI_SPOOFING": anti_spoofing}
            agent = lab.agent(hypervisor, environment=environment)
            agent.start()
            agent.wait_ready()
            eventually(lambda: _status(agent) == {"ACTIVE"}, 5, "both are wired")  # noqa: B023 - called in here
            capture = vms[1].capture("udp or ether proto 0x88b5")

            vms[0].send(frames.udp(frames.BROADCAST, one.port.mac, "10.7.7.7", V4_ALL))
            vms[0].send(frames.experiment(one.port.mac, END))

            capture.wait_for(is_end)
            assert any("10.7.7.7" in line for line in capture.stop()) is heard
            checks = [line for line in hypervisor.dump_flows("br-int") if _is_check(line)]
            assert bool(checks) is not heard, "nothing of it is left when it is off"
            assert agent.stop() == 0


# --- real guests -------------------------------------------------------------------------------------------------


def test_a_guest_gets_its_address_by_dhcp_and_uses_no_other(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    server, server_nic = site.guest(hv2, blue, "10.0.0.2/24", device_owner="network:dhcp")
    guest, nic = site.guest(hv1, blue, "10.0.0.5/24", configure=False)
    site.wait_known(hv1, server_nic.port.mac, hv2)
    site.wait_known(hv2, nic.port.mac, hv1)
    dnsmasq = server.dnsmasq(dhcp_range="10.0.0.0,static,255.255.255.0", hosts={nic.port.mac: "10.0.0.5"})
    try:
        assert guest.dhcp().ip == "10.0.0.5/24"
    finally:
        dnsmasq.stop()
    guest.reach("10.0.0.2", timeout=5)

    guest.exec("ip", "address", "replace", "10.0.0.6/24", "dev", "eth0")
    guest.exec("ip", "address", "delete", "10.0.0.5/24", "dev", "eth0")

    assert guest.cannot_reach("10.0.0.2")


def test_a_guest_configures_ipv6_by_itself_as_if_nobody_looked(site: Site) -> None:
    """Duplicate address detection, for its link-local address and another; then it talks by both."""
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    _, other = site.guest(hv2, blue, "fd00::2/64")
    guest, nic = site.guest(hv1, blue, "fd00::1/64", configure=False)
    site.wait_known(hv1, other.port.mac, hv2)
    site.wait_known(hv2, nic.port.mac, hv1)
    heard = other.vm.capture("icmp6 and ip6[40] == 135")
    guest.namespace.sysctl({"ipv6/conf/eth0/accept_dad": "1"})
    guest.namespace.ip("link set eth0 down", "link set eth0 up", "address add fd00::1/64 dev eth0")

    for address in (ll(nic.port.mac), "fd00::1"):
        heard.wait_for(lambda line, address=address: " :: > " in line and f"who has {address}," in line)  # type: ignore[misc]
    eventually(
        lambda: "tentative" not in guest.exec("ip", "-6", "address", "show", "dev", "eth0"), 5, "all are its own"
    )
    assert "dadfailed" not in guest.exec("ip", "-6", "address", "show", "dev", "eth0")
    guest.reach("fd00::2", timeout=5)
    guest.reach(f"{ll(other.port.mac)}%eth0", timeout=5)


# --- what the switch holds ---------------------------------------------------------------------------------------

ODD: Keys = {
    "fixed-ips": "10.0.0.1,fd00::1,fd00:0:0:1:0:0:0:1,fd00:0:1:1:1:1:1:1",
    "allowed-address-pairs": ",".join(
        (
            *("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.1", "10.0.0.7/31", "255.255.255.255"),
            *("::/0", "::/1", "8000::/1", "::", "::1", "::ffff", "::1:0", "::10.0.0.1", "::/96", "::/128"),
            *("::ffff:10.0.0.1", "::ffff:0:0", "::ffff:0.0.0.0/96", "::ffff:255.255.255.0/120", "::fffe:a00:1"),
            *("fd00::/127", "fe80::/10", f"{VIRTUAL}/0.0.0.0/0", f"{VIRTUAL}/::/0", f"{NESTED}/10.0.0.0/24"),
        )
    ),
}


def test_odd_addresses_are_told_by_the_switch_as_they_were_sent(site: Site) -> None:
    """`check` holds what is wanted against the switch's own dump: what it spells otherwise it would send for ever."""
    hv1 = site.hypervisors[0]
    _, nic = site.guest(hv1, site.network("blue"), "10.0.0.1/24", keys=ODD)
    site.wait_active(hv1, nic)

    site.check()

    held = [line for line in site.held(hv1, "br-int") if f"in_port={hv1.ofport(nic)}," in line]
    assert len(held) > 100
    assert any("ipv6_src=::10.0.0.1," in line for line in held)
    assert any("nd_target=::ffff:10.0.0.1," in line for line in held)


def test_a_port_of_many_addresses_costs_as_many_flows(site: Site) -> None:
    hv1 = site.hypervisors[0]
    many = {
        "fixed-ips": ",".join(f"10.1.{n}.1" for n in range(256)),
        "allowed-address-pairs": ",".join(f"fd00:{n:x}::/64" for n in range(256)),
    }
    _, nic = site.guest(hv1, site.network("blue"), "10.0.0.1/24", keys=many)
    site.wait_active(hv1, nic)

    assert len([line for line in hv1.dump_flows("br-int") if _is_check(line)]) < 256 * 2 + 256 * 3 + 40


def _flows_with(hypervisor: Hypervisor, text: str) -> list[str]:
    return [line for line in hypervisor.dump_flows("br-int") if text in line]


def _is_check(line: str) -> bool:
    return any(f"table={table}," in line for table in (INT_SOURCE, INT_DISCOVERY))


def _status(agent: Agent) -> set[str]:
    return {row["status"] for row in json.loads(agent.http_get("/v1/ports")[1])}
