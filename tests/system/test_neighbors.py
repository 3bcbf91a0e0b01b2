"""Solicitations for remote addresses are answered here: proved by raw frames, real guests, and the tunnel's silence."""

import json
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from portwatch.fabric.tables import TUN_ADVERTISE, TUN_NEIGHBORS
from tests.lab import Agent, Capture, Hypervisor, Lab, Network, Nic, Vm, eventually, frames
from tests.system.conftest import Site

pytestmark = pytest.mark.system

VXLAN = "udp port 4789"
ALL_NODES = "33:33:00:00:00:01"


def a_pair(site: Site, **options: object) -> tuple[Vm, Nic, Vm, Nic]:
    """Plug in who asks (fd00::1, on hv1) and who is asked for (fd00::2, on hv2), each known to the other's host."""
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    asking, asker = site.guest(hv1, blue, "fd00::1/64")
    asked, target = site.guest(hv2, blue, "fd00::2/64", **options)  # type: ignore[arg-type]  # as `Vm.nic` takes them
    site.wait_known(hv1, target.port.mac, hv2)
    site.wait_known(hv2, asker.port.mac, hv1)
    return asking, asker, asked, target


def ask(vm: Vm, question: bytes) -> list[bytes]:
    """Send a solicitation; return the advertisements that come of it."""
    heard = vm.namespace.inside(lambda: frames.exchange(question, "eth0", 0.5))
    return [frame for frame in heard if frame[12:14] == b"\x86\xdd" and frame[54] == frames.NEIGHBOR_ADVERTISEMENT]


def flags_of(frame: bytes) -> int:
    flags: int = struct.unpack("!I", frame[58:62])[0]
    return flags


def told(capture: Capture) -> list[str]:
    """Return what of neighbour discovery was seen."""
    return [line for line in capture.stop() if "neighbor" in line]


def test_a_guest_finds_a_remote_one_without_a_frame_on_the_tunnel(site: Site) -> None:
    asking, _, asked, target = a_pair(site)
    asking.reach("fd00::2", timeout=5)  # the tunnel's own ends know each other by now
    for vm in (asking, asked):
        vm.exec("ip", "-6", "neigh", "flush", "dev", "eth0")
    on_the_wire = site.hypervisors[0].capture("uplink", VXLAN)

    assert asking.ping("fd00::2").received == 1

    assert asking.exec("ip", "-6", "neigh", "show", "fd00::2").split() == [
        *("fd00::2", "dev", "eth0", "lladdr", target.port.mac, "REACHABLE")
    ]
    lines = on_the_wire.stop()
    assert any("echo request" in line for line in lines)
    assert not [line for line in lines if "neighbor solicitation" in line], "neither way"


def test_the_answer_is_a_solicited_advertisement_from_the_target_to_the_asker(site: Site) -> None:
    asking, asker, _, target = a_pair(site)

    (answer,) = ask(asking, frames.neighbor_solicitation(asker.port.mac, "fd00::1", "fd00::2"))

    assert answer == frames.icmpv6(
        target.port.mac,
        "fd00::2",
        "fd00::1",
        frames.NEIGHBOR_ADVERTISEMENT,
        struct.pack("!I", frames.SOLICITED | frames.OVERRIDE)
        + IPv6Address("fd00::2").packed
        + frames.link_layer_option(frames.TARGET_LINK_LAYER_ADDRESS, target.port.mac),
        destination=asker.port.mac,
    ), "byte by byte, the checksum among them"


def test_a_routers_address_is_answered_as_a_routers(site: Site) -> None:
    """Else its neighbours would strike it off their default routers (RFC 4861, 7.2.5)."""
    asking, asker, _, _ = a_pair(site, device_owner="network:router_interface")

    (answer,) = ask(asking, frames.neighbor_solicitation(asker.port.mac, "fd00::1", "fd00::2"))

    assert flags_of(answer) == frames.ROUTER | frames.SOLICITED | frames.OVERRIDE


@pytest.mark.parametrize("enhanced", ["1", "0"], ids=["with a nonce", "without options"])
def test_a_guest_that_takes_anothers_address_hears_that_it_is_taken(site: Site, enhanced: str) -> None:
    asking, _, _, _ = a_pair(site)
    dad = {key: enhanced for place in ("all", "eth0") for key in (f"ipv6/conf/{place}/enhanced_dad",)}
    asking.namespace.sysctl({**dad, "ipv6/conf/eth0/accept_dad": "1"})
    on_the_wire = site.hypervisors[0].capture("uplink", VXLAN)

    asking.namespace.ip("address add fd00::2/64 dev eth0")

    eventually(lambda: "dadfailed" in asking.exec("ip", "-6", "address", "show", "dev", "eth0"), 5, "it is refused")
    assert not [line for line in told(on_the_wire) if "fd00::2" in line]


def test_duplicate_address_detection_is_answered_to_all_nodes_in_a_frame_to_the_asker(site: Site) -> None:
    asking, asker, _, target = a_pair(site)
    lie = frames.link_layer_option(frames.TARGET_LINK_LAYER_ADDRESS, asker.port.mac)

    for options in (b"", b"\x0e\x01nonce!", lie):
        (answer,) = ask(asking, frames.neighbor_solicitation(asker.port.mac, "::", "fd00::2", options=options))

        body = bytes(4) + IPv6Address("fd00::2").packed + options
        assert answer == frames.icmpv6(
            target.port.mac,
            "fd00::2",
            "ff02::1",
            frames.NEIGHBOR_ADVERTISEMENT,
            body,
            destination=asker.port.mac,
        )


def test_nobody_but_the_asker_hears_the_answer(site: Site) -> None:
    asking, asker, _, _ = a_pair(site)
    third, nic = site.guest(site.hypervisors[0], _network_of(asker), "fd00::3/64")
    site.wait_active(site.hypervisors[0], nic)
    overheard = third.capture("icmp6 and ip6[40] == 136")

    for sender in ("::", "fd00::1"):
        assert len(ask(asking, frames.neighbor_solicitation(asker.port.mac, sender, "fd00::2"))) == 1

    assert overheard.stop() == []


def test_a_solicitation_to_one_station_goes_to_that_station(site: Site) -> None:
    """Neighbour unreachability detection asks the neighbour itself: an answer from elsewhere would prove nothing."""
    asking, asker, asked, target = a_pair(site)
    arrived = asked.capture(f"icmp6 and ether src {asker.port.mac}")
    question = frames.neighbor_solicitation(
        asker.port.mac, "fd00::1", "fd00::2", to="fd00::2", destination=target.port.mac
    )

    assert len(ask(asking, question)) == 1

    arrived.wait_for("fd00::1 > fd00::2: ICMP6, neighbor solicitation")
    arrived.stop()


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("it has no room for a MAC", {"options": b""}),
        ("it comes from beyond a router", {"hops": 64}),
        ("it is not for the target's group", {"to": "ff02::1", "destination": ALL_NODES}),
        ("nobody has the address", {"target": "fd00::77"}),
        ("the address is a pair's", {"target": "fd00::200"}),
        ("the address is nobody's fixed one", {"target": "fe80::77"}),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_solicitation_that_is_not_answered_is_flooded(site: Site, why: str, changes: dict[str, object]) -> None:
    asking, asker, asked, _ = a_pair(site, keys={"allowed-address-pairs": "fd00::200"})
    third, nic = site.guest(site.hypervisors[0], _network_of(asker), "fd00::3/64")
    site.wait_active(site.hypervisors[0], nic)
    heard = [vm.capture("icmp6 and ip6[40] == 135") for vm in (asked, third)]
    details = {"target": "fd00::2", **changes}

    asking.send(frames.neighbor_solicitation(asker.port.mac, "fd00::1", **details))  # type: ignore[arg-type]

    for capture in heard:
        capture.wait_for(f"who has {details['target']}")
        capture.stop()


def test_an_unsolicited_advertisement_is_flooded(site: Site) -> None:
    asking, asker, asked, _ = a_pair(site)
    heard = asked.capture("icmp6 and ip6[40] == 136")

    asking.send(frames.neighbor_advertisement(asker.port.mac, "fd00::1", "fd00::1"))

    heard.wait_for("tgt is fd00::1")
    heard.stop()


def test_the_address_of_a_port_here_is_answered_by_that_port(site: Site) -> None:
    """Also while another host has it: a guest that has just moved must be able to check its own address."""
    asking, asker, _, target = a_pair(site)
    hv1, hv2, _ = site.hypervisors
    assert _entries(hv1, "fd00::2")

    hv1.plug(target, {"iface-status": "inactive"})
    site.plugged.append((hv1, target))
    eventually(lambda: not _entries(hv1, "fd00::2"), 5, "hv1 answers for it no more")

    site.wait_known(hv1, target.port.mac, hv2)
    site.plugged.remove((hv1, target))
    hv1.unplug(target)
    eventually(lambda: _entries(hv1, "fd00::2"), 5, "hv1 answers for it again")
    assert len(ask(asking, frames.neighbor_solicitation(asker.port.mac, "fd00::1", "fd00::2"))) == 1


def test_a_shared_address_is_not_answered_for(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, _ = site.hypervisors
    site.guest(hv1, blue, "fd00::1/64")
    _, shared = site.guest(hv2, blue, "fd00::2/64", keys={"port-kind": "shared"})
    _, single = site.guest(hv2, blue, "fd00::3/64")
    site.wait_known(hv1, single.port.mac, hv2)
    eventually(lambda: shared.port.mac in {row["mac"] for row in site.ask(hv1, "fdb")}, 5, "hv1 knows both")

    assert _entries(hv1, "fd00::3")
    assert not _entries(hv1, "fd00::2")


# --- datapaths that cannot, and operators who do not want it ----------------------------------------------------------


@pytest.fixture
def two() -> Iterator[tuple[Lab, Hypervisor, Hypervisor]]:
    """Two hypervisors; the agents are the test's to start."""
    with Lab(2) as lab:
        yield lab, *lab.hypervisors  # type: ignore[misc]  # there are two


def _start(lab: Lab, hypervisor: Hypervisor, nd_responder: str) -> Agent:
    agent = lab.agent(hypervisor, environment={"PORTWATCH_PORTS__ND_RESPONDER": nd_responder})
    agent.start()
    agent.wait_ready()
    return agent


def _plug(lab: Lab, places: tuple[Hypervisor, Hypervisor]) -> list[Vm]:
    vms = [lab.vm(name) for name in ("one", "two")]
    for number, (vm, hypervisor) in enumerate(zip(vms, places, strict=True), 1):
        hypervisor.plug(vm.nic(vm.name, lab.mac(), (f"fd00::{number}/64",), Network("blue", 100)))
    return vms


def _ask(agent: Agent, path: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(agent.http_get(f"/v1/{path}")[1])
    return rows


def test_a_datapath_that_refuses_loses_the_answers_and_nothing_else(two: tuple[Lab, Hypervisor, Hypervisor]) -> None:
    lab, hv1, hv2 = two
    hv1.create_bridge("br-tun")
    hv1.appctl("dpif/set-dp-features", "br-tun", "nd_ext", "false")
    agents = [_start(lab, hypervisor, "true") for hypervisor in (hv1, hv2)]

    one, _ = _plug(lab, (hv1, hv2))
    one.reach("fd00::2", timeout=10)

    refused = [row for row in _ask(agents[0], "flows") if row["state"] not in ("installed", "owed")]
    assert [row["state"] for row in refused] == ["refused: OFPBAC_BAD_SET_ARGUMENT"]
    assert "nd_options_type" in refused[0]["text"]
    assert _entries(hv1, "fd00::2"), "harmless without the rest: what is not answered is flooded"
    for agent in agents:
        assert agent.stop() == 0


def test_auto_asks_the_datapath_first(two: tuple[Lab, Hypervisor, Hypervisor]) -> None:
    lab, hv1, hv2 = two
    agents = [_start(lab, hypervisor, "auto") for hypervisor in (hv1, hv2)]
    one, _ = _plug(lab, (hv1, hv2))
    one.reach("fd00::2", timeout=10)
    eventually(lambda: _entries(hv1, "fd00::2"), 5, "the datapath can, and answers")

    # As ovs-vswitchd writes it on a kernel's datapath.
    uuid = hv1.vsctl("get", "Open_vSwitch", ".", "datapaths:netdev").strip()
    hv1.vsctl("set", "Datapath", uuid, "capabilities:nd_ext=false")

    eventually(lambda: not _advertising(hv1), 5, "nothing of it is left")
    assert not _entries(hv1, "fd00::2")
    one.exec("ip", "-6", "neigh", "flush", "dev", "eth0")
    one.reach("fd00::2", timeout=5)
    hv1.vsctl("set", "Datapath", uuid, "capabilities:nd_ext=true")
    eventually(lambda: _advertising(hv1) and _entries(hv1, "fd00::2"), 5, "it is back")
    assert {row["state"] for row in _ask(agents[0], "flows")} == {"installed"}
    for agent in agents:
        assert agent.stop() == 0


def test_it_is_off_by_configuration(two: tuple[Lab, Hypervisor, Hypervisor]) -> None:
    lab, hv1, hv2 = two
    agents = [_start(lab, hypervisor, "false") for hypervisor in (hv1, hv2)]

    one, _ = _plug(lab, (hv1, hv2))
    one.reach("fd00::2", timeout=10)

    assert not _advertising(hv1)
    assert not _entries(hv1, "fd00::2")
    assert hv1.vsctl("get", "Open_vSwitch", ".", "datapaths").strip() == "{}", "nor is the datapath asked"
    for agent in agents:
        assert agent.stop() == 0


def _entries(hypervisor: Hypervisor, address: str) -> list[str]:
    lines = hypervisor.dump_flows("br-tun", f"table={TUN_NEIGHBORS}")
    return [line for line in lines if f"nd_target={address} " in line]


def _advertising(hypervisor: Hypervisor) -> list[str]:
    return [line for line in hypervisor.dump_flows("br-tun", f"table={TUN_ADVERTISE}") if "icmp6" in line]


def _network_of(nic: Nic) -> Network:
    assert nic.port.network is not None
    return nic.port.network
