"""Ports come: the services' first, then the VMs', each timed from its plug to forwarding on the other hosts."""

import time
from statistics import median

from tests.demo.moments import BRIDGES, FlowChange
from tests.demo.screen import milliseconds
from tests.demo.stage import Stage
from tests.demo.tenants import BLUE_GATEWAY, DOMAIN, SERVERS, SERVICES, VMS, Card, Guest, Server

LIMIT = 1.0
HOW = (
    "Until each host in that network forwards to the new MAC: from the commit of the plug (ovsdb-client"
    " monitor) to the last flow for it on br-int and br-tun (ovs-ofctl monitor)."
)


def services(stage: Stage) -> None:
    """Plug the networks' own ports on hv3: DHCP and DNS servers, and blue's gateway."""
    stage.make(*SERVICES, *VMS)
    with stage.proofs.proving("the networks' service ports are ACTIVE", "hv3") as proof:
        for guest in SERVICES:
            for card in guest.cards:
                _plug(stage, guest, card)
        proof.figure = f"{len(stage.places)} ports, device owners network:*"
    with stage.proofs.proving("each network has its dnsmasq; blue has a router") as proof:
        for server in SERVERS:
            _serve(stage, server)
        forwarding = stage.vm(BLUE_GATEWAY).exec("cat", "/proc/sys/net/ipv4/ip_forward").strip()
        proof.require(forwarding == "1", "blue-gw does not forward")
        proof.figure = f"{len(SERVERS)} DHCP and DNS servers, 1 gateway"


def vms(stage: Stage) -> None:
    """Plug the VMs one by one, and tell how long each took to be known everywhere."""
    hosts = [hypervisor.name for hypervisor in stage.lab.hypervisors]
    remote: list[float] = []
    rows: list[list[str]] = []
    with stage.proofs.proving("from plug to forwarding on the other hosts", *hosts) as proof:
        for guest in VMS:
            before = time.time()
            plugged = _plug(stage, guest, guest.card)
            others = stage.others(guest.name)
            took = {host: forwarding(stage, guest, host, before) - plugged for host in (guest.host, *others)}
            remote += [took[host] for host in others]
            cells = [milliseconds(took[host]) if host in took else "-" for host in hosts]
            rows.append([guest.name, guest.host, *cells])
        stage.screen.line()
        stage.screen.table(("plugged", "on", *hosts), rows)
        stage.screen.note(HOW)
        proof.require(max(remote) < LIMIT, f"the longest took {milliseconds(max(remote))}")
        middle, longest = milliseconds(median(remote)), milliseconds(max(remote))
        proof.figure = f"median {middle}, longest {longest}, n = {len(remote)}"


def forwarding(stage: Stage, guest: Guest, host: str, since: float) -> float:
    """Return when *host* had its flows to a new port: the host's own to the port, another's into the tunnel."""
    mac = stage.mac(guest)

    def entry(change: FlowChange) -> bool:
        return change.event != "DELETED" and change.says_where(mac)

    bridges = BRIDGES[:1] if host == guest.host else BRIDGES
    return max(stage.moments[host].switched(bridge, entry, since) for bridge in bridges)


def _plug(stage: Stage, guest: Guest, card: Card) -> float:
    """Plug as libvirt does; return when ovsdb-server had it, once the port's events are here."""
    before, nic = time.time(), stage.nics[card.port]
    stage.host(guest.host).plug(nic)
    stage.places[card.port] = guest.host
    stage.news.wait_for(card.port, guest.host, status="ACTIVE")
    device = nic.port.device
    return stage.moments[guest.host].changed(lambda row: row.action == "insert" and row.name == device, before)


def _serve(stage: Stage, server: Server) -> None:
    network = server.guest.card.network
    leases = {stage.mac(vm): vm.card.address for vm in VMS if vm.card.network == network}
    gateway = f"--dhcp-option=option:router{',' + server.gateway if server.gateway else ''}"
    stage.servers[server.guest.name] = stage.vm(server.guest).dnsmasq(
        gateway,
        dhcp_range=f"{server.guest.card.address},static",
        hosts=leases,
        names=dict(server.names),
        domain=DOMAIN,
    )
