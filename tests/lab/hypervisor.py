"""A hypervisor: a namespace with an Open vSwitch, a tunnel address on `br-phy`, and ports to plug and unplug.

OVS's userspace tunnels leave through an OVS bridge whose own port holds the tunnel address; so `uplink`, the
cable to the underlay, has no address and is a port of `br-phy`.
"""

from collections.abc import Iterable
from pathlib import Path

from tests.lab import underlay
from tests.lab.capture import Capture
from tests.lab.flowwatch import FlowWatch
from tests.lab.namespaces import Namespace
from tests.lab.openvswitch import OpenVSwitch, Value
from tests.lab.ports import Keys, Port, key_arguments
from tests.lab.processes import Children
from tests.lab.underlay import Address
from tests.lab.vm import Nic
from tests.lab.waiting import eventually

INTEGRATION = "br-int"
PHYSICAL = "br-phy"
BRIDGE_SECONDS = 15.0


class Hypervisor:
    """One of the lab's hypervisors, `hv1` to `hvN`."""

    def __init__(self, number: int, namespace: Namespace, children: Children) -> None:
        self.name = f"hv{number}"
        self.namespace = namespace
        self.address: Address = underlay.hypervisor_address(number)
        self.port_changes = 0
        """Transactions in which ports came or went, up to now: at each the switch itself stands still for a moment."""
        self._children = children
        # Not the uplink's own, or the kernel would take frames from the uplink, too, and answer them twice.
        self.mac = f"02:70:77:00:00:{number:02x}"
        self.switch = OpenVSwitch(self.name, namespace, children, self._address_physical_bridge)
        self.ovsdb_server = self.switch.ovsdb_server
        self.vswitchd = self.switch.vswitchd
        self.vsctl = self.switch.vsctl
        self.ofctl = self.switch.ofctl
        self.appctl = self.switch.appctl
        self.row = self.switch.row

    @property
    def db(self) -> Path:
        """The unix socket of its ovsdb-server."""
        return self.switch.db

    @property
    def rundir(self) -> Path:
        """Where `<bridge>.mgmt` and the pid files lie."""
        return self.switch.rundir

    @property
    def ip(self) -> str:
        """The tunnel address, IPv4."""
        return self.address.ipv4

    @property
    def ip6(self) -> str:
        """The tunnel address, IPv6."""
        return self.address.ipv6

    def begin(self, template: Path) -> None:
        """Take the first of three steps to a running hypervisor; each begins what takes time, and returns.

        It is connected to the underlay already. Several hypervisors take a step each, and so come up together.
        """
        self._silence(underlay.UPLINK)
        self.switch.make_database(template)
        self.ovsdb_server.start(wait=False)

    def configure(self) -> None:
        """Take the second step: what the switch shall find when it starts."""
        self.ovsdb_server.wait_ready()
        self.vsctl(
            *("--no-wait", "--", "init"),
            *("--", "set", "Open_vSwitch", ".", f"external_ids:hostname={self.name}"),
            *("--", "set", "Open_vSwitch", ".", f"external_ids:system-id={self.namespace.name}"),
            *("--", "add-br", PHYSICAL),
            *("--", "set", "Bridge", PHYSICAL, "datapath_type=netdev", f'other_config:hwaddr="{self.mac}"'),
            *("--", "set", "Interface", PHYSICAL, f"mtu_request={underlay.MTU}"),
            *("--", "add-port", PHYSICAL, underlay.UPLINK),
        )
        self.vswitchd.start(wait=False)

    def wait_ready(self) -> None:
        """Take the last step; it can carry tunnels when this returns."""
        self.vswitchd.wait_ready()

    def create_bridge(self, bridge: str = INTEGRATION) -> None:
        """Make a bridge unless it is there; a new one drops everything."""
        self.vsctl(*_bridge_arguments(bridge))

    def wait_for_bridge(self, bridge: str = INTEGRATION, timeout: float = BRIDGE_SECONDS) -> None:
        """Wait until somebody else has made a bridge and it speaks OpenFlow."""
        management = self.rundir / f"{bridge}.mgmt"
        eventually(management.is_socket, timeout, f"{self.name} has the bridge {bridge}")

    def plug(self, port: Nic | Port, keys: Keys | None = None, *, bare: bool = False, wait: bool = True) -> None:
        """Plug one port into br-int, as libvirt and an orchestrator do; *keys* go on top of the port's own.

        A Nic is cabled to its VM, a mere Port becomes an internal device with nothing behind it. A *bare* one
        has no keys at all. Without *wait* the database has it, and vswitchd perhaps not yet. A missing br-int
        is made.
        """
        self.plug_many([port], keys, bare=bare, wait=wait)

    def plug_many(
        self, ports: Iterable[Nic | Port], keys: Keys | None = None, *, bare: bool = False, wait: bool = True
    ) -> None:
        """Plug many ports in one transaction."""
        ports = list(ports)
        arguments = _bridge_arguments(INTEGRATION)
        for item in ports:
            port = _port(item)
            arguments += ["--", "add-port", INTEGRATION, port.device, "--", "set", "Interface", port.device]
            arguments += [f'mac="{port.mac}"', "type=internal"] if isinstance(item, Port) else ["type=system"]
            arguments += [] if bare else key_arguments(port.keys(keys))
        for nic in (item for item in ports if isinstance(item, Nic)):
            nic.cable(self.name, self.namespace)
            self._silence(nic.port.device)
        self.port_changes += 1
        self.vsctl(*([] if wait else ["--no-wait"]), *arguments)

    def unplug(self, port: Nic | Port) -> None:
        """Take a port out of the bridge, then remove its device."""
        self.unplug_many([port])

    def unplug_many(self, ports: Iterable[Nic | Port]) -> None:
        """Unplug many ports in one transaction."""
        ports = list(ports)
        arguments: list[str] = []
        for item in ports:
            arguments += ["--", "--if-exists", "del-port", INTEGRATION, _port(item).device]
        self.port_changes += 1
        self.vsctl(*arguments)
        for nic in (item for item in ports if isinstance(item, Nic)):
            nic.uncable(self.name, self.namespace)

    def set_external_ids(self, port: Nic | Port, keys: Keys) -> None:
        """Change keys of a plugged port in one transaction; None takes a key away."""
        device = _port(port).device
        arguments: list[str] = []
        gone = [key for key, value in keys.items() if value is None]
        kept = {key: value for key, value in keys.items() if value is not None}
        if gone:
            arguments += ["--", "remove", "Interface", device, "external_ids", *gone]
        if kept:
            arguments += ["--", "set", "Interface", device, *key_arguments(kept)]
        self.vsctl(*arguments)

    def ofport(self, port: Nic | Port | str) -> int | None:
        """Return a device's OpenFlow port number; None while it has none."""
        device = port if isinstance(port, str) else _port(port).device
        row: dict[str, Value] = self.row("Interface", device) or {}
        number = row.get("ofport")
        return number if isinstance(number, int) and number > 0 else None

    def dump_flows(self, bridge: str, *match: str) -> list[str]:
        """Return a bridge's flows, without statistics, ports as numbers."""
        text = self.ofctl("--no-names", "--no-stats", "-O", "OpenFlow15", "dump-flows", bridge, *match)
        return [line.strip() for line in text.splitlines() if "actions=" in line]

    def dump_groups(self, bridge: str) -> list[str]:
        """Return a bridge's groups, ports as numbers."""
        text = self.ofctl("--no-names", "-O", "OpenFlow15", "dump-groups", bridge)
        return [line.strip() for line in text.splitlines() if "group_id=" in line]

    def capture(self, device: str, expression: str = "") -> Capture:
        """Start to record the frames on one of this namespace's devices."""
        return Capture(self._children, self.namespace, device, expression)

    def watch_flows(self, bridge: str) -> FlowWatch:
        """Start to record what changes in a bridge's flow tables."""
        return FlowWatch(self._children, self.name, self.rundir, bridge)

    def _silence(self, device: str) -> None:
        """Keep the kernel's own stack off a device that belongs to OVS: it would answer a second time."""
        self.namespace.sysctl({f"ipv6/conf/{device}/disable_ipv6": "1"})
        self.namespace.ip(f"link set {device} arp off up")

    def _address_physical_bridge(self) -> None:
        # Needed once: the tap br-phy outlives vswitchd, even a killed one, with its addresses. Again is no change.
        self.namespace.sysctl({f"ipv6/conf/{PHYSICAL}/{key}": value for key, value in _IPV6_AT_ONCE.items()})
        addresses = [f"address replace {address} dev {PHYSICAL}" for address in self.address.with_prefixes]
        self.namespace.ip(f"link set {PHYSICAL} up", *addresses)


def _port(item: Nic | Port) -> Port:
    return item.port if isinstance(item, Nic) else item


_IPV6_AT_ONCE = {"disable_ipv6": "0", "accept_dad": "0", "accept_ra": "0"}


def _bridge_arguments(bridge: str) -> list[str]:
    settings = ["datapath_type=netdev", "fail_mode=secure"]
    return ["--", "--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, *settings]
