"""The VMs talk: DHCP and DNS, pings across hosts and through the gateway, and never with the other tenant."""

import re
import time
from collections import Counter
from itertools import permutations

from tests.demo.proofs import Proof
from tests.demo.screen import milliseconds
from tests.demo.stage import Stage
from tests.demo.tenants import (
    AMBER_APP,
    AMBER_WEB,
    BLUE_APP,
    BLUE_DB,
    BLUE_DHCP,
    BLUE_GATEWAY,
    BLUE_JOB,
    BLUE_WEB,
    NAME,
    SERVERS,
    TENANTS,
    VMS,
    Guest,
    tenant_of,
)
from tests.lab import eventually

PINGS = 3
SILENCE_SECONDS = 0.3
HEARD_SECONDS = 5.0
VNI = re.compile(r"VXLAN, .* vni (\d+)")


def addresses(stage: Stage) -> None:
    """Every VM gets its address by DHCP and resolves a name, from its own tenant's server."""
    rows: list[list[str]] = []
    with stage.proofs.proving("each VM has its address by DHCP, from its tenant", "hv3") as proof:
        rows += [_lease(stage, vm, proof) for vm in VMS]
        stage.screen.table(("VM", "on", "address", "gateway", "DNS", "leased by", "took"), rows)
        proof.figure = f"{len(rows)} leases, across the overlay"
    claim = "one question to 10.0.0.2, each tenant's own answer"
    with stage.proofs.proving(claim, "hv1", "hv3") as proof:
        heard = {vm.name: stage.vm(vm).resolve(NAME, BLUE_DHCP.card.address) for vm in (BLUE_WEB, AMBER_WEB)}
        wanted = {BLUE_WEB.name: [BLUE_DB.card.address], AMBER_WEB.name: [AMBER_APP.card.address]}
        proof.require(heard == wanted, f"{NAME} is, for each: {heard}; should be {wanted}")
        proof.figure = f"{NAME}: blue {BLUE_DB.card.address}, amber {AMBER_APP.card.address}"


def pings(stage: Stage) -> None:
    """VMs of one network ping each other across hosts, and blue's two networks through the gateway on hv3."""
    uplink = stage.host("hv1").capture("uplink", "udp dst port 4789")
    with stage.proofs.proving("VMs of one network ping each other across hosts", "hv1", "hv2") as proof:
        pairs = [
            (one, other)
            for one, other in permutations(VMS, 2)
            if one.card.network == other.card.network and one.host != other.host
        ]
        rows = [
            [one.name, one.host, other.name, other.host, other.card.address, _ping(stage, one, other, proof)]
            for one, other in pairs
        ]
        stage.screen.table(("from", "on", "to", "on", "address", "answered"), rows)
        proof.figure = f"{PINGS * len(pairs)} of {PINGS * len(pairs)} pings answered"
    with stage.proofs.proving("blue's two networks meet through its gateway", *stage.agents) as proof:
        answered = _ping(stage, BLUE_WEB, BLUE_DB, proof)
        passed = f"{BLUE_WEB.card.address} > {BLUE_DB.card.address}: ICMP echo request"
        stage.captures[BLUE_GATEWAY.cards[1].port].wait_for(passed)
        proof.figure = f"hv1 - {BLUE_GATEWAY.name} on hv3 - hv2: {answered} pings"
    with stage.proofs.proving("a host's cable carries its own networks only", "hv1") as proof:
        seen = Counter(vni[1] for line in uplink.stop() if (vni := VNI.search(line)))
        here = {str(vm.card.network.segmentation_id) for vm in VMS if vm.host == "hv1"}
        proof.require(set(seen) == here, f"on hv1's cable: {dict(seen)}; its own VNIs: {sorted(here)}")
        figures = ", ".join(f"{count} of VNI {vni}" for vni, count in sorted(seen.items()))
        proof.figure = f"VXLAN at hv1: {figures}"


def isolation(stage: Stage) -> None:
    """The same address is another machine for each tenant, and what only blue has is nothing for amber."""
    stage.screen.note(
        "blue-app and amber-app are both 10.0.0.11. Who is it that answers? The MAC in the asker's neighbour"
        " table tells, and captures on both: who heard the echo requests."
    )
    for asker, own, other in ((BLUE_WEB, BLUE_APP, AMBER_APP), (AMBER_WEB, AMBER_APP, BLUE_APP)):
        _same_address(stage, asker, own, other)
    with stage.proofs.proving("what only blue has, amber cannot reach", *stage.agents) as proof:
        vm, sent, answers = stage.vm(AMBER_WEB), 0, 0
        for lonely in (BLUE_JOB, BLUE_GATEWAY):
            _ping(stage, BLUE_APP, lonely, proof)
            address = lonely.card.address
            result, claimed = vm.ping(address, PINGS, timeout=SILENCE_SECONDS), vm.who_has(address)
            proof.require(not result.received, f"{address} answers amber's pings: {result}")
            proof.require(not claimed, f"{address} is claimed before amber, by {', '.join(claimed)}")
            sent += result.sent
            answers += result.received
        proof.figure = f"{BLUE_JOB.card.address}, {BLUE_GATEWAY.card.address}: {answers} of {sent} pings, no ARP"


def _same_address(stage: Stage, asker: Guest, own: Guest, other: Guest) -> None:
    address, mac = own.card.address, stage.mac(own)
    claim = f"{address}, pinged by {asker.name}, is {own.name}"
    with stage.proofs.proving(claim, asker.host, own.host) as proof:
        stage.vm(asker).exec("ip", "neigh", "flush", "dev", "eth0")
        before = _requests(stage, own, asker)
        _ping(stage, asker, own, proof)
        neighbour = stage.vm(asker).exec("ip", "neigh", "show", address, "dev", "eth0")
        proof.require(mac in neighbour, f"{asker.name}, whose neighbour should be {mac}, has {neighbour}")

        def heard() -> int:
            return _requests(stage, own, asker) - before

        eventually(lambda: heard() >= PINGS, HEARD_SECONDS, f"{own.name} hears {PINGS} echo requests")
        astray = _requests(stage, other, asker)
        proof.require(heard() == PINGS and not astray, f"{own.name} heard {heard()}, {other.name} {astray}")
        proof.figure = f"{mac} heard {heard()}, {other.name} {astray}"


def silence(stage: Stage) -> None:
    """No card of a tenant ever saw a frame that came from the other tenant."""
    with stage.proofs.proving("no frame of one tenant on any card of the other", *stage.agents) as proof:
        figures = []
        for tenant, other in permutations(TENANTS):
            seen = Counter(
                line.split()[1]
                for port, capture in stage.captures.items()
                if tenant_of(port) == tenant
                for line in capture.lines()
            )
            foreign = {mac: seen[mac] for mac in stage.sources(other) if seen[mac]}
            proof.require(not foreign, f"{tenant}'s cards saw frames of {other}'s: {foreign}")
            own = sum(seen[mac] for mac in stage.sources(tenant))
            proof.require(own, f"{tenant}'s cards saw nothing at all")
            figures.append(f"{sum(foreign.values())} of {seen.total():,} at {tenant}'s")
        proof.figure = ", ".join(figures)


def _lease(stage: Stage, vm: Guest, proof: Proof) -> list[str]:
    server = next(server for server in SERVERS if server.guest.card.network == vm.card.network)
    before = time.monotonic()
    lease = stage.vm(vm).dhcp()
    took = time.monotonic() - before
    proof.require(lease.ip == f"{vm.card.address}/24", f"{vm.name} got {lease.ip} instead of {vm.card.address}")
    mac = stage.mac(vm)
    by = [
        name
        for name, dnsmasq in stage.servers.items()
        if any("DHCPACK" in line and mac in line for line in dnsmasq.log_lines())
    ]
    proof.require(by == [server.guest.name], f"{vm.name} was served by {', '.join(by)}")
    return [vm.name, vm.host, vm.card.address, lease.router or "-", lease.dns, by[0], milliseconds(took)]


def _ping(stage: Stage, one: Guest, other: Guest, proof: Proof) -> str:
    result = stage.vm(one).ping(other.card.address, PINGS)
    answered = f"{result.received} of {result.sent}"
    proof.require(result.ok, f"{one.name} pings {other.name} at {other.card.address}: {answered} answered")
    return answered


def _requests(stage: Stage, heard_by: Guest, sender: Guest) -> int:
    """Return how many echo requests of *sender* were seen on a guest's card up to now."""
    lines = stage.captures[heard_by.card.port].lines()
    return sum(1 for line in lines if line.split()[1] == stage.mac(sender) and "echo request" in line)
