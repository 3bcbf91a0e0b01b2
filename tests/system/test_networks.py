"""Networks of every type and size: several tunnel types on one host, IPv6 underlays, disagreements, large floods."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from portwatch import wire
from portwatch.fabric.tables import LEARNED_COOKIE
from tests.lab import Hypervisor, Lab, Network, Nic, Port, Vm, crowd, eventually, frames
from tests.lab.crowd import Member
from tests.system.conftest import BRIDGES, Site

pytestmark = pytest.mark.system

TOPICS = wire.Topics("portwatch/v1")
STRANGER = "fa:16:3e:ee:ee:ee"
ETHERTYPE = 0x88B5  # for local experiments (IEEE 802)
ON_THE_WIRE = {"vxlan": "udp port 4789", "geneve": "udp port 6081", "gre": "ip proto 47"}


@contextmanager
def a_site(hypervisors: int, environment: Callable[[Hypervisor], Mapping[str, str]]) -> Iterator[Site]:
    """A lab of its own, whose agents are configured otherwise; looked after at its end as the common one is."""
    with Lab(hypervisors) as lab:
        agents = {each.name: lab.agent(each, environment=environment(each)) for each in lab.hypervisors}
        for agent in agents.values():
            agent.start()
        for agent in agents.values():
            agent.wait_ready()
        site = Site(lab, agents)
        yield site
        site.check()
        for agent in agents.values():
            assert agent.stop() == 0


def of_type(network: Network, kind: str) -> Network:
    return replace(network, type=kind)


# --- several types of tunnels on one host -------------------------------------------------------------------------


def test_networks_of_three_tunnel_types_work_side_by_side_each_through_its_own_tunnel(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    pairs: dict[str, tuple[Vm, Nic]] = {}
    for kind in ON_THE_WIRE:
        network = of_type(site.network(kind), kind)
        one, nic = site.guest(hv1, network, "10.0.0.1/24")
        _, other = site.guest(hv2, network, "10.0.0.2/24")
        pairs[kind] = (one, nic)
        site.wait_known(hv1, other.port.mac, hv2)
        site.wait_known(hv2, nic.port.mac, hv1)
    for one, _ in pairs.values():
        one.reach("10.0.0.2", timeout=5)
    seen = {kind: hv1.capture("uplink", expression) for kind, expression in ON_THE_WIRE.items()}

    probes = {kind: one.probe("10.0.0.2") for kind, (one, _) in pairs.items()}
    for kind, probe in probes.items():
        eventually(lambda probe=probe: probe.answers() >= 20, 5, f"{kind} answers while the others do")  # type: ignore[misc]

    for kind, probe in probes.items():
        result = probe.stop()
        assert (result.lost, result.duplicates) == ((), 0), kind
    for kind, capture in seen.items():
        there = [line for line in capture.stop() if hv1.ip in line and hv2.ip in line]
        assert len(there) >= 40, f"{len(there)} frames went there and back by {kind}"


def test_a_tunnel_port_of_another_type_is_made_when_the_first_port_of_such_a_network_comes() -> None:
    with a_site(1, lambda hypervisor: {}) as site:
        (hv1,) = site.hypervisors
        assert [hv1.ofport(name) is not None for name in ("pw-vxlan", "pw-geneve")] == [True, False]

        site.guest(hv1, of_type(site.network("other"), "geneve"), "10.0.0.1/24")

        eventually(lambda: hv1.ofport("pw-geneve"), 5, "the geneve tunnel port is there")
        assert hv1.ofport("pw-gre") is None


def test_a_tunnel_port_that_cannot_be_made_holds_up_no_other() -> None:
    with a_site(1, lambda hypervisor: {}) as site:
        (hv1,) = site.hypervisors
        hv1.vsctl("add-port", "br-tun", "pw-geneve", "--", "set", "Interface", "pw-geneve", "type=internal")

        site.guest(hv1, of_type(site.network("theirs"), "geneve"), "10.0.0.1/24")
        _, nic = site.guest(hv1, of_type(site.network("ours"), "gre"), "10.0.0.1/24")

        site.wait_active(hv1, nic)
        eventually(lambda: hv1.ofport("pw-gre"), 5, "the gre tunnel port is there")
        status, words = site.agents["hv1"].http_get("/readyz")
        assert status == 503
        assert "pw-geneve" in words
        hv1.vsctl("del-port", "br-tun", "pw-geneve")
        site.agents["hv1"].wait_ready()


@pytest.mark.parametrize("kind", ["vxlan", "geneve", "gre"])
def test_what_is_learned_goes_out_of_the_tunnel_it_came_in_by(site: Site, kind: str) -> None:
    hv1, hv2, _ = site.hypervisors
    network = of_type(site.network(kind), kind)
    one, nic = site.guest(hv1, network, "10.0.0.1/24")
    _, other = site.guest(hv2, network, "10.0.0.2/24", keys={"port-kind": "shared"})
    site.wait_active(hv1, nic)
    site.wait_active(hv2, other)

    one.reach("10.0.0.2", timeout=5)

    def learned() -> list[str]:
        lines = hv1.dump_flows("br-tun", "table=20")
        return [line for line in lines if f"cookie={LEARNED_COOKIE:#x}" in line and other.port.mac in line]

    eventually(learned, 5, "the MAC is learned")
    tunnel = hv1.ofport(f"pw-{kind}")
    assert all(line.endswith(f"output:{tunnel}") for line in learned())
    assert one.ping("10.0.0.2", count=5).ok


# --- IPv6 endpoints -----------------------------------------------------------------------------------------------


def test_tunnels_over_ipv6_carry_guests_and_a_host_of_the_other_ip_version_is_shown_and_not_mixed_in() -> None:
    def address(hypervisor: Hypervisor) -> dict[str, str]:
        old = hypervisor.name == "hv3"
        return {"PORTWATCH_TUNNEL__LOCAL_IP": hypervisor.ip if old else hypervisor.ip6}

    with a_site(3, address) as site:
        hv1, hv2, hv3 = site.hypervisors
        for kind in ("vxlan", "geneve", "gre"):
            network = of_type(site.network(kind), kind)
            one, nic = site.guest(hv1, network, "10.0.0.1/24", "fd00::1/64")
            two, other = site.guest(hv2, network, "10.0.0.2/24", "fd00::2/64")
            three, far = site.guest(hv3, network, "10.0.0.3/24")
            site.wait_known(hv1, other.port.mac, hv2)
            site.wait_known(hv2, nic.port.mac, hv1)

            two.reach("10.0.0.1", timeout=5)
            one.reach("fd00::2", timeout=5)
            whole = one.exec("ping", "-n", "-q", "-M", "do", "-s", "1472", "-c", "3", "-i", "0.1", "10.0.0.2")
            assert " 3 received" in whole, f"whole frames go through {kind}"

            site.wait_active(hv3, far)
            eventually(lambda: len(site.ask(hv1, "peers")) == 2, 5, "hv1 has heard of hv3")
            assert three.cannot_reach("10.0.0.1")
            reasons = {row["host"]: row["reason"] for row in site.ask(hv1, "peers")}
            words = "hv3 tunnels over IPv4 and this host over IPv6: the two cannot be mixed"
            assert reasons == {"hv2": None, "hv3": words}
            assert [row["reason"] for row in site.ask(hv1, f"explain/{far.port.mac}")] == [words]
            assert hv3.ip not in "\n".join((*hv1.dump_flows("br-tun"), *hv1.dump_groups("br-tun")))
            site.clear()
            eventually(lambda: not site.ask(hv1, "peers"), 5, "hv1 has forgotten them")


# --- networks that are not tunnelled ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat", "vlan", "local"])
def test_a_network_that_is_not_tunnelled_is_announced_and_wired_here_and_never_on_the_tunnel_bridge(
    site: Site, kind: str
) -> None:
    hv1, hv2, _ = site.hypervisors
    network = of_type(site.network(kind), kind)
    keys = {"segmentation-id": "77" if kind == "vlan" else None}
    before = {hypervisor.name: site.held(hypervisor, "br-tun") for hypervisor in (hv1, hv2)}
    on_the_wire = hv1.capture("uplink", "udp port 4789 or udp port 6081 or ip proto 47")
    one, nic = site.guest(hv1, network, "10.0.0.1/24", keys=keys)
    _, near = site.guest(hv1, network, "10.0.0.2/24", keys=keys)
    _, far = site.guest(hv2, network, "10.0.0.3/24", keys=keys)
    for hypervisor, each in ((hv1, nic), (hv1, near), (hv2, far)):
        site.wait_active(hypervisor, each)

    one.reach("10.0.0.2", timeout=5)
    assert one.cannot_reach("10.0.0.3")

    assert {hypervisor.name: site.held(hypervisor, "br-tun") for hypervisor in (hv1, hv2)} == before
    assert on_the_wire.stop() == []
    (said,) = site.lab.broker.retained(f"portwatch/v1/ports/{network.id}/hv2/+").values()
    assert f'"network_type":"{kind}"' in said
    (row,) = site.ask(hv1, "networks")
    assert (row["remote_ports"], row["peers"], row["segments"][0]["type"]) == (1, [], kind)


# --- who disagrees ------------------------------------------------------------------------------------------------


def test_hosts_that_disagree_on_vnis_are_reported_and_never_mixed(site: Site) -> None:
    """Two networks whose VNIs the two hosts have the other way round, and one that makes them accepted peers."""
    hv1, hv2, _ = site.hypervisors
    blue, red, green = (site.network(name) for name in ("blue", "red", "green"))
    here = (blue, red)
    there = (replace(blue, segmentation_id=red.segmentation_id), replace(red, segmentation_id=blue.segmentation_id))
    guests = [site.guest(hv1, network, "10.0.0.1/24") for network in here]
    others = [site.guest(hv2, network, "10.0.0.2/24") for network in there]
    one, _ = site.guest(hv1, green, "10.0.0.1/24")
    site.guest(hv2, green, "10.0.0.2/24")
    one.reach("10.0.0.2", timeout=5)

    def disagreeing() -> dict[str, Any]:
        return {row["network_id"]: row["disagreeing"] for row in site.ask(hv1, "networks")}

    wanted = {each.id: [{"host": "hv2", "type": "vxlan", "id": each.segmentation_id}] for each in there}
    eventually(lambda: disagreeing() == {**wanted, green.id: []}, 5, "hv1 reports both")
    heard = [vm.capture(f"ether src {nic.port.mac}") for (vm, _), (_, nic) in (*zip(guests, others, strict=True),)]
    crossed = [vm.capture(f"ether src {nic.port.mac}") for (vm, _), (_, nic) in zip(guests, others[::-1], strict=True)]
    for vm, _ in (*guests, *others):
        assert vm.who_has("10.0.0.2" if (vm, _) in guests else "10.0.0.1") == []
    assert [capture.stop() for capture in (*heard, *crossed)] == [[], [], [], []]

    (reason,) = {row["reason"] for row in site.ask(hv1, f"explain/{others[0][1].port.mac}")}
    assert reason == (
        f"hv2 has {blue.id} (vxlan {red.segmentation_id}), this host {blue.id} (vxlan {blue.segmentation_id}): "
        "the two are not mixed"
    )
    assert [row["reason"] is not None for row in site.ask(hv1, "peers")] == [True]

    def warnings() -> list[Any]:
        records = site.agents["hv1"].log_records()
        return [
            record["network"]
            for record in records
            if record["event"].startswith("a host has a network under another") and record["network"] in wanted
        ]

    eventually(lambda: sorted(warnings()) == sorted(wanted), 5, "hv1 has warned once of each")

    site.unplug(hv2, others[1][1])
    hv2.set_external_ids(others[0][1], {"segmentation-id": str(blue.segmentation_id)})
    guests[0][0].reach("10.0.0.2", timeout=5)
    eventually(lambda: disagreeing()[blue.id] == [], 5, "they agree")
    assert sorted(warnings()) == sorted(wanted)


def test_hosts_that_disagree_on_a_networks_type_are_reported_and_never_mixed(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    blue = site.network("blue")
    one, nic = site.guest(hv1, blue, "10.0.0.1/24")
    two, other = site.guest(hv2, of_type(blue, "geneve"), "10.0.0.2/24")
    site.wait_active(hv1, nic)
    site.wait_active(hv2, other)

    def disagreeing(hypervisor: Hypervisor) -> Any:
        return [row["disagreeing"] for row in site.ask(hypervisor, "networks")]

    number = blue.segmentation_id
    eventually(lambda: disagreeing(hv1) == [[{"host": "hv2", "type": "geneve", "id": number}]], 5, "hv1 reports it")
    eventually(lambda: disagreeing(hv2) == [[{"host": "hv1", "type": "vxlan", "id": number}]], 5, "hv2 reports it")
    assert one.who_has("10.0.0.2") == []
    assert two.who_has("10.0.0.1") == []


def test_of_two_networks_with_one_vni_on_a_host_the_second_is_refused_until_the_first_goes(site: Site) -> None:
    hv1, hv2, _ = site.hypervisors
    first = site.network("first")
    second = site.network("second", first.segmentation_id)
    _, early = site.guest(hv1, first, "10.0.0.1/24")
    site.wait_active(hv1, early)

    late_vm, late = site.guest(hv1, second, "10.0.0.1/24")
    _, far = site.guest(hv2, second, "10.0.0.2/24")

    site.wait_active(hv2, far)
    eventually(lambda: (site.port(hv1, late) or {}).get("status") == "ERROR", 5, "the second is refused")
    row = site.port(hv1, late)
    assert row is not None
    assert row["reason"] == f"vni-conflict: vxlan {first.segmentation_id} is in use here by network {first.id}"
    assert late_vm.who_has("10.0.0.2") == []
    topic = f"portwatch/v1/ports/{second.id}/hv1/{late.port.id}"
    assert '"status":"ERROR"' in site.lab.broker.retained(topic)[topic]

    site.unplug(hv1, early)

    site.wait_active(hv1, late)
    late_vm.reach("10.0.0.2", timeout=5)


# --- unknown unicast ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["flood", "drop"])
def test_unknown_unicast_is_flooded_or_dropped_as_the_operator_chose(choice: str) -> None:
    with a_site(2, lambda hypervisor: {"PORTWATCH_PORTS__UNKNOWN_UNICAST": choice}) as site:
        hv1, hv2 = site.hypervisors
        blue = site.network("blue")
        one, nic = site.guest(hv1, blue, "10.0.0.1/24")
        near, _ = site.guest(hv1, blue, "10.0.0.2/24")
        far, other = site.guest(hv2, blue, "10.0.0.3/24")
        site.guest(hv2, blue, "10.0.0.4/24", keys={"port-kind": "shared"})
        site.wait_known(hv1, other.port.mac, hv2)
        site.wait_known(hv2, nic.port.mac, hv1)
        one.reach("10.0.0.3", timeout=5)
        hearing = [vm.capture(f"ether proto {ETHERTYPE:#x}") for vm in (near, far)]

        one.send(frames.ethernet(STRANGER, nic.port.mac, ETHERTYPE, b"to nobody"))
        one.send(frames.ethernet(frames.BROADCAST, nic.port.mac, ETHERTYPE, b"to all"))

        for capture in hearing:  # in order: what comes before the broadcast has come when that is there
            capture.wait_for(f"> {frames.BROADCAST}")
        expected = [1, 1] if choice == "flood" else [0, 0]
        assert [sum(f"> {STRANGER}" in line for line in capture.stop()) for capture in hearing] == expected
        one.reach("10.0.0.4", timeout=5)  # a MAC that may be at many places is known, though at no one of them
        assert one.ping("10.0.0.2").ok


# --- a crowd ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [1000, 2500])
def test_a_network_of_thousands_of_hosts_floods_one_copy_to_each_of_them(number: int) -> None:
    with a_site(1, lambda hypervisor: {}) as site:
        (hv1,) = site.hypervisors
        blue = site.network("blue")
        _lay_the_way(site.lab, hv1)
        vm, nic = site.guest(hv1, blue, "10.0.0.1/24")
        site.wait_active(hv1, nic)
        everybody = crowd.members(number)

        began = time.monotonic()
        crowd.come(site.lab.broker, blue, everybody)
        published = time.monotonic() - began
        _wait_for(site, hv1, everybody)
        print(f"{number} hosts: {published:.2f} s to publish, {time.monotonic() - began:.2f} s until all is programmed")
        assert _copies(site.lab, vm, nic.port, len(everybody)) == {each.ip: 1 for each in everybody}

        began = time.monotonic()
        crowd.go(site.lab.broker, blue, everybody[: number // 5])
        crowd.come(site.lab.broker, blue, new := crowd.members(50, number + 1))
        staying = [*everybody[number // 5 :], *new]
        _wait_for(site, hv1, staying)
        print(f"{number // 5} go and 50 come: {time.monotonic() - began:.2f} s until all is programmed")
        assert _copies(site.lab, vm, nic.port, len(staying)) == {each.ip: 1 for each in staying}

        before = {bridge: site.held(hv1, bridge) for bridge in BRIDGES}
        site.agents["hv1"].kill()
        began = time.monotonic()
        site.agents["hv1"].start()
        site.agents["hv1"].wait_ready()
        assert _copies(site.lab, vm, nic.port, len(staying)) == {each.ip: 1 for each in staying}, "in between"
        _wait_for(site, hv1, staying)
        print(f"a restart: {time.monotonic() - began:.2f} s until all is known again")
        assert {bridge: site.held(hv1, bridge) for bridge in BRIDGES} == before
        _, metrics = site.agents["hv1"].http_get("/metrics")
        mods = [line for line in metrics.splitlines() if line.startswith("portwatch_flow_mods_total")]
        assert [line.rpartition(" ")[2] for line in mods] == ["0.0"] * 4, "not even for a moment"
        assert _copies(site.lab, vm, nic.port, len(staying)) == {each.ip: 1 for each in staying}


def _lay_the_way(lab: Lab, hypervisor: Hypervisor) -> None:
    """Let the crowd's addresses be reached by way of one gateway, so that they need no neighbour entry each."""
    lab.underlay.namespace.ip("address add 192.0.2.1/24 dev switch")
    hypervisor.namespace.ip("route add 10.9.0.0/16 via 192.0.2.1 dev br-phy")
    hypervisor.appctl("tnl/arp/set", "br-phy", "192.0.2.1", "02:00:00:00:00:01")
    eventually(lambda: "10.9.0.0/16" in hypervisor.appctl("ovs/route/show"), 5, "the switch knows the route")


def _wait_for(site: Site, hypervisor: Hypervisor, hosts: list[Member]) -> None:
    """Wait until the switch holds an entry for each of these hosts, and owes nothing."""

    def programmed() -> bool:
        (row,) = site.ask(hypervisor, "networks")
        if row["remote_ports"] != len(hosts):
            return False
        audit = site.ask(hypervisor, "audit")
        return bool(audit["settled"] and not audit["spared"])

    eventually(programmed, 60, f"{len(hosts)} hosts are programmed")
    told = "\n".join(hypervisor.dump_groups("br-tun"))
    named = Counter(part.partition("->tun_dst")[0] for part in told.split("set_field:")[1:] if "->tun_dst" in part)
    assert named == {each.ip: 1 for each in hosts}


def _copies(lab: Lab, vm: Vm, port: Port, expected: int) -> dict[str, int]:
    """Let a guest send one broadcast, and return how often it left for each tunnel address: seen on the underlay."""
    frame = frames.ethernet(
        frames.BROADCAST, port.mac, ETHERTYPE, b"one copy to each " + time.monotonic_ns().to_bytes(8)
    )
    with lab.underlay.namespace.inside(
        lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ) as wire:
        wire.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)  # SO_RCVBUFFORCE: none may be dropped here
        wire.bind(("hv1", 0))
        wire.settimeout(2)
        vm.send(frame)
        seen: Counter[str] = Counter()
        try:
            while True:
                packet = wire.recv(2048)
                if packet[36:38] == (4789).to_bytes(2) and packet.endswith(frame):
                    seen[socket.inet_ntoa(packet[30:34])] += 1
                    if seen.total() >= expected:
                        wire.settimeout(0.3)  # a second copy would come at once
        except TimeoutError:
            return dict(seen)
