"""The network between the hypervisors: one Linux bridge, a cable to each, addresses for each.

Addresses: the broker is 192.0.2.2 and 2001:db8::2, hypervisor N is 192.0.2.(10+N) and 2001:db8::(10+N).
"""

from dataclasses import dataclass

from tests.lab.namespaces import Namespace

BRIDGE = "switch"
UPLINK = "uplink"
MTU = 1600  # guests have 1500, and the widest tunnel header is 70 bytes (VXLAN or Geneve over IPv6)

# Without snooping: nobody queries here, and neighbour discovery must not depend on it.
QUIET_BRIDGE = "stp_state 0 forward_delay 0 mcast_snooping 0"


@dataclass(frozen=True)
class Address:
    """Where somebody is on the underlay."""

    number: int

    @property
    def ipv4(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"2001:db8::{self.number}"

    @property
    def with_prefixes(self) -> tuple[str, str]:
        return f"{self.ipv4}/24", f"{self.ipv6}/64"


BROKER = Address(2)
SECOND = Address(3)
"""Where a second broker is, when it is to have a machine of its own."""


def hypervisor_address(number: int) -> Address:
    """Return the address of hypervisor *number*, counted from 1."""
    return Address(10 + number)


class Underlay:
    """The bridge, in a namespace of its own, and the cables plugged into it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def start(self) -> None:
        self.namespace.sysctl({"ipv6/conf/default/disable_ipv6": "1"})
        self.namespace.ip(
            f"link add {BRIDGE} mtu {MTU} type bridge {QUIET_BRIDGE}",
            f"link set {BRIDGE} up",
        )

    def connect(self, name: str, there: Namespace) -> None:
        """Lay a cable: its end in *there* is called `uplink`, its end here is called *name*."""
        self.namespace.ip(
            f"link add {name} mtu {MTU} type veth peer name {UPLINK} mtu {MTU} netns {there.name}",
            f"link set {name} master {BRIDGE} up",
        )
        there.checksum_in_software(UPLINK)

    def cut(self, name: str) -> None:
        """Cut somebody off (`hv1`, `broker`) in silence: no frame passes, and no carrier is lost."""
        self.namespace.ip(f"link set {name} nomaster")

    def mend(self, name: str) -> None:
        """Undo a cut."""
        self.namespace.ip(f"link set {name} master {BRIDGE}")
