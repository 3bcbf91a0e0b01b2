"""A virtual machine: a network namespace, with network cards that a hypervisor plugs.

What the guest sees as `eth0` is a Linux bridge of one cable: that to the hypervisor on which it runs. A live
migration lays a second cable and then changes over, and the guest keeps its card, MAC, addresses, routes and
neighbours, as a real one does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab import frames, shell
from tests.lab.capture import Capture
from tests.lab.namespaces import Namespace
from tests.lab.ports import Network, Port
from tests.lab.probe import PingResult, Probe, ping
from tests.lab.processes import Children
from tests.lab.services import Dnsmasq, Lease, dhcp, resolve
from tests.lab.underlay import QUIET_BRIDGE
from tests.lab.waiting import eventually

MTU = 1500
REACH_SECONDS = 10.0
SILENCE_PINGS = 3


@dataclass
class Nic:
    """One network card of a VM; *runs_on* names the hypervisor whose cable is connected."""

    vm: "Vm"
    name: str
    port: Port
    runs_on: str | None = None

    def cable(self, hypervisor: str, there: Namespace) -> None:
        """Lay a cable to a hypervisor; the first one is connected at once."""
        ours, theirs = self._cable(hypervisor), self.port.device
        peer = f"name {theirs} mtu {MTU} netns {there.name}"
        self.vm.namespace.ip(f"link add {ours} mtu {MTU} type veth peer {peer}")
        self.vm.namespace.checksum_in_software(ours)
        # A cable is no card: one that is not connected must not answer for the guest.
        self.vm.namespace.ip(f"link set {ours} arp off addrgenmode none up")
        if self.runs_on is None:
            self.run_on(hypervisor, announce=False)

    def uncable(self, hypervisor: str, there: Namespace) -> None:
        """Take a cable away."""
        there.ip(f"link delete {self.port.device}")
        if self.runs_on == hypervisor:
            self.runs_on = None

    def run_on(self, hypervisor: str, *, announce: bool = True) -> None:
        """Change over to another cable, as when a migrated guest goes on there.

        With *announce* the new place is told by a RARP, as QEMU does it.
        """
        lines = [f"link set {self._cable(self.runs_on)} nomaster"] if self.runs_on else []
        self.vm.namespace.ip(*lines, f"link set {self._cable(hypervisor)} master {self.name}")
        self.runs_on = hypervisor
        if announce:
            self.vm.send(frames.rarp(self.port.mac), self.name)

    def _cable(self, hypervisor: str) -> str:
        return f"{self.name}-{hypervisor}"


class Vm:
    """A guest. It can do what a guest can: ping, send frames, listen, run commands; as *router*, forward."""

    def __init__(self, name: str, namespace: Namespace, children: Children, *, router: bool = False) -> None:
        self.name = name
        self.namespace = namespace
        self.nics: dict[str, Nic] = {}
        self._children = children
        forwarding = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"} if router else {}
        quiet = {"accept_dad": "0", "accept_ra": "0", "router_solicitations": "0"}
        namespace.sysctl(forwarding | {f"ipv6/conf/default/{key}": value for key, value in quiet.items()})

    def nic(
        self,
        port_id: str,
        mac: str,
        addresses: tuple[str, ...] = (),
        network: Network | None = None,
        *,
        gateways: tuple[str, ...] = (),
        device_owner: str | None = "compute:nova",
        configure: bool = True,
    ) -> Nic:
        """Add a card, `eth0`, then `eth1`, …, to be plugged; without *configure* it has no addresses."""
        name = f"eth{len(self.nics)}"
        nic = Nic(self, name, Port(port_id, mac, network, addresses, device_owner))
        card = f"link add {name} address {mac} mtu {MTU} type bridge {QUIET_BRIDGE}"
        # A second member that is always there: without one, a change of cables would be a loss of carrier.
        carrier = f"link add {name}-carrier mtu {MTU} type veth peer name {name}-void mtu {MTU}"
        lines = [f"address add {address} dev {name}" for address in addresses if configure]
        routes = [f"route add default via {gateway} dev {name}" for gateway in gateways]
        mute = [f"link set {name}-{end} arp off addrgenmode none up" for end in ("carrier", "void")]
        member = f"link set {name}-carrier master {name}"
        self.namespace.ip(card, carrier, *mute, member, f"link set {name} up", *lines, *routes)
        self.nics[name] = nic
        return nic

    def exec(self, *argv: str, timeout: float = shell.COMMAND_SECONDS) -> str:
        """Run a command in the guest and return its output."""
        return self.namespace.run(*argv, timeout=timeout)

    def ping(self, address: str, count: int = 1, interval: float = 0.1, timeout: float = 1.0) -> PingResult:
        """Ping *count* times, waiting *timeout* for the last answer."""
        return ping(self.namespace, address, count, interval, timeout)

    def reach(self, address: str, timeout: float = REACH_SECONDS) -> None:
        """Return once *address* answers a ping."""
        what = f"{self.name} reaches {address}"
        eventually(lambda: self.ping(address, timeout=0.2).received, timeout, what)

    def cannot_reach(self, address: str) -> bool:
        """Tell whether a few pings in a row go unanswered."""
        return self.ping(address, SILENCE_PINGS, interval=0.2, timeout=0.5).received == 0

    def probe(self, address: str, interval: float = 0.01) -> Probe:
        """Start to ping at a high rate, to see later what was lost and for how long."""
        return Probe(self._children, self.namespace, address, interval)

    def capture(self, expression: str = "", device: str = "eth0") -> Capture:
        """Start to record the frames on a card, the guest's own included."""
        return Capture(self._children, self.namespace, device, expression)

    def send(self, frame: bytes, device: str = "eth0") -> None:
        """Send one raw frame; `frames` builds them."""
        self.namespace.inside(lambda: frames.send(frame, device))

    def who_has(self, address: str, *, device: str = "eth0", wait: float = 0.5) -> list[str]:
        """Ask by ARP or neighbour solicitation, and return the MAC of every answer within *wait* seconds."""
        port = self.nics[device].port
        sender = next((ip for ip in port.fixed_ips if (":" in ip) == (":" in address)), None)
        return self.namespace.inside(lambda: frames.ask(device, port.mac, sender, address, wait))

    def dhcp(self, device: str = "eth0") -> Lease:
        """Get an address by DHCP and configure the card by it; no lease is an error."""
        return dhcp(self._children, self.namespace, device)

    def resolve(self, name: str, server: str, kind: str = "A") -> list[str]:
        """Ask a DNS server; return the addresses, none when it has none."""
        return resolve(self.namespace, name, server, kind)

    def dnsmasq(
        self,
        *options: str,
        dhcp_range: str | None = None,
        hosts: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        domain: str | None = None,
        device: str = "eth0",
    ) -> Dnsmasq:
        """Start a DHCP and DNS server here: *hosts* maps MAC to address, *names* maps name to address."""
        return Dnsmasq(
            self._children,
            self.namespace,
            dhcp_range=dhcp_range,
            hosts=hosts,
            names=names,
            domain=domain,
            device=device,
            options=options,
        )
