"""The field's nouns: Port, Claim, Segment, TunnelEndpoint, Mac, Vni, OfPort, LocalVlan.

Values only. A string or number from outside becomes one of these types at the border, once, or is a `ValueError`
that names the text; whoever holds a `Mac` need not check it again, and may write it into flow text.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, Self

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
TunnelEndpoint = IPv4Address | IPv6Address
"""A host's VTEP address (RFC 7348). Made by `tunnel_endpoint`."""

_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_ID: Final = re.compile(r"[^/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")
_TYPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")

_IPV4_MULTICAST: Final = IPv4Address("224.0.0.0")
"""From here on no IPv4 address is one host's: multicast, reserved, broadcast."""
_MAC_COLONS: Final = 5

SEQ_MAX: Final = 2**63 - 1


class Mac(str):
    """The MAC address of one station: lower case, colons; neither multicast nor zero."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        mac = text.lower()
        if not _MAC.fullmatch(mac):
            raise ValueError(f"{text!r} is not a MAC address (six octets as in fa:16:3e:00:00:01)")
        if int(mac[:2], 16) & 1:
            raise ValueError(f"{text!r} is a multicast MAC address, no station's own")
        if mac == "00:00:00:00:00:00":
            raise ValueError(f"{text!r} is the zero MAC address, no station's own")
        return super().__new__(cls, mac)


class _Id(str):
    """A name that can stand as one level of an MQTT topic."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _ID.fullmatch(text) or text.startswith("$") or text == "_":
            raise ValueError(
                f"{text!r} is not an id (1 to 128 characters, no / + # or control character, no leading $)"
            )
        return super().__new__(cls, text)


class PortId(_Id):
    """The logical port's id: `iface-id`."""

    __slots__ = ()


class NetworkId(_Id):
    """The network's id: `network-id`."""

    __slots__ = ()


class HostName(_Id):
    """A hypervisor's name on the bus."""

    __slots__ = ()


class NetworkType(str):
    """Neutron's network type: `vxlan`, `geneve`, `gre` are tunnelled; any other is not."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _TYPE.fullmatch(text):
            raise ValueError(f"{text!r} is not a network type (vxlan, geneve, gre, or another lower-case word)")
        return super().__new__(cls, text)

    @property
    def tunnelled(self) -> bool:
        return self in TUNNEL_TYPES


VXLAN: Final = NetworkType("vxlan")
GENEVE: Final = NetworkType("geneve")
GRE: Final = NetworkType("gre")
TUNNEL_TYPES: Final = frozenset({VXLAN, GENEVE, GRE})


class _Ranged(int):
    """An integer within the bounds of its kind."""

    __slots__ = ()
    LOWEST = 1
    HIGHEST = 0
    WORDS = ""

    def __new__(cls, number: int) -> Self:
        if not cls.LOWEST <= number <= cls.HIGHEST:
            raise ValueError(f"{number} is not {cls.WORDS} ({cls.LOWEST} to {cls.HIGHEST})")
        return super().__new__(cls, number)


class Vni(_Ranged):
    """A VXLAN network identifier (RFC 7348), or the tunnel key of geneve and gre."""

    __slots__ = ()
    HIGHEST = 2**24 - 1
    WORDS = "a VNI"


class OfPort(_Ranged):
    """A port's OpenFlow number on its bridge; OVS gives out 1 to 65279."""

    __slots__ = ()
    HIGHEST = 0xFEFF
    WORDS = "an OpenFlow port number"


class LocalVlan(_Ranged):
    """The tag that this host has for a segment, between its two bridges."""

    __slots__ = ()
    HIGHEST = 4094
    WORDS = "a VLAN"


@lru_cache(maxsize=4096)  # each host says its own in every event
def tunnel_endpoint(text: str) -> TunnelEndpoint:
    """Read a VTEP address; refuse what no host can be reached at (unspecified, loopback, multicast, broadcast)."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError(f"{text!r} cannot be a tunnel endpoint: write it without scope or IPv4 mapping")
    beyond = isinstance(address, IPv4Address) and address >= _IPV4_MULTICAST
    if address.is_unspecified or address.is_loopback or address.is_multicast or beyond:
        raise ValueError(f"{text!r} cannot be a tunnel endpoint: it is not the address of one host")
    return address


def fixed_ip(text: str) -> IpAddress:
    """Read an address that a port may own: unicast, specified, without a scope."""
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise ValueError(f"{text!r} is not an address of one station")
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError(f"{text!r}: write it without the scope")
    if address == IPv4Address("255.255.255.255"):
        raise ValueError(f"{text!r} is not an address of one station")
    return address


def link_local(mac: Mac) -> IPv6Address:
    """Return the address that a station makes itself of its MAC (modified EUI-64; RFC 4291, 2.5.1 and 2.5.6)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface)


class Kind(StrEnum):
    """May the port's MAC be on many hosts at once? mobility.md."""

    SINGLE = "single"
    SHARED = "shared"


DISTRIBUTED_ROUTER: Final = "network:router_interface_distributed"
SHARED_OWNERS: Final = frozenset(
    {
        DISTRIBUTED_ROUTER,
        "network:ha_router_replicated_interface",
        "network:router_ha_interface",
    }
)


NETWORK_OWNERS: Final = "network:"
"""How the owners begin that are the network's own: Neutron trusts them, and so do we."""
ROUTER_OWNERS: Final = ("network:router", "network:ha_router")


class State(StrEnum):
    """How much of an owner the claim's host is: mobility.md."""

    PREPARING = "preparing"
    ACTIVE = "active"
    LEAVING = "leaving"


class Status(StrEnum):
    """How far a port is: Neutron's words."""

    BUILD = "BUILD"
    ACTIVE = "ACTIVE"
    DOWN = "DOWN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class AddressPair:
    """An address or prefix that a port may use besides its own; with `mac` when it does so from another MAC."""

    network: IpNetwork
    mac: Mac | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[MAC/]IP[/LEN]`."""
        if "%" in text:
            raise ValueError(f"{text!r}: write it without the scope")
        head, slash, rest = text.partition("/")
        if slash and head.count(":") == _MAC_COLONS and _MAC.fullmatch(head.lower()):
            return cls(ip_network(rest, strict=False), Mac(head))
        return cls(ip_network(text, strict=False))

    def __str__(self) -> str:
        whole = self.network.prefixlen == self.network.max_prefixlen
        address = str(self.network.network_address) if whole else str(self.network)
        return f"{self.mac}/{address}" if self.mac else address


class Segment(NamedTuple):
    """What is kept apart on the wire: a network under one type and key. Peers that disagree are never mixed."""

    network_id: NetworkId
    network_type: NetworkType
    vni: Vni | None

    def __str__(self) -> str:
        return f"{self.network_id} ({self.network_type} {self.vni if self.vni is not None else '-'})"


@dataclass(frozen=True, slots=True)
class Port:
    """The logical port as its host's OVSDB describes it. `fault` is `code: words` when a key of it is wrong."""

    port_id: PortId
    network_id: NetworkId | None = None
    network_type: NetworkType = VXLAN
    segmentation_id: Vni | None = None
    mac: Mac | None = None
    fixed_ips: tuple[IpAddress, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    device_owner: str = ""
    kind: Kind = Kind.SINGLE
    state: State = State.ACTIVE
    admin_up: bool = True
    fault: str | None = None
    from_directory: bool = False
    """Does what is not on its Interface come from the bus?"""

    @property
    def segment(self) -> Segment | None:
        """The segment, once all that makes it is known."""
        if self.network_id is None or (self.network_type.tunnelled and self.segmentation_id is None):
            return None
        return Segment(self.network_id, self.network_type, self.segmentation_id)

    @property
    def trusted(self) -> bool:
        """It belongs to the network itself, and may send from any address."""
        return self.device_owner.startswith(NETWORK_OWNERS)

    @property
    def routes(self) -> bool:
        """It is a router's: to its neighbours a router, not a host (RFC 4861, 4.4)."""
        return self.device_owner.startswith(ROUTER_OWNERS)

    @property
    def distributed(self) -> bool:
        """Each host has an instance of its own, and all of them serve: none stands by."""
        return self.kind is Kind.SHARED and self.device_owner == DISTRIBUTED_ROUTER

    @property
    def missing(self) -> tuple[str, ...]:
        """The OVSDB keys without which the port cannot be wired."""
        return tuple(
            key
            for key, absent in (
                ("attached-mac", self.mac is None),
                ("network-id", self.network_id is None),
                ("segmentation-id", self.network_type.tunnelled and self.segmentation_id is None),
            )
            if absent
        )

    @property
    def lacks(self) -> str:
        """Say where what is `missing` should be."""
        if not self.from_directory:
            return f"{', '.join(self.missing)} not set on the Interface"
        there = [key for key in self.missing if key != "attached-mac"]
        words = ["attached-mac not set on the Interface"] if len(there) < len(self.missing) else []
        words += [f"{', '.join(there)} not in the directory"] if there else []
        return "; ".join(words)


@dataclass(frozen=True, slots=True)
class Claim:
    """Host `host` has port `port` since `seq`: what one retained message says. mobility.md."""

    host: HostName
    port: Port
    tunnel_ip: TunnelEndpoint | None
    status: Status
    session: str
    seq: int
    revision: int
    reason: str | None = None

    @property
    def forwards(self) -> bool:
        """A port that is down or in error takes no part in forwarding."""
        return self.status not in (Status.DOWN, Status.ERROR)


@dataclass(frozen=True, slots=True)
class Plug:
    """A port as it is plugged into this host's integration bridge, and what its Port row remembers of us."""

    port: Port
    ofport: OfPort
    vlan: LocalVlan | None = None
    """The tag it has: the VLAN that its network had here, if `remembered`."""
    seq: int | None = None
    """`portwatch-seq`: since when it is attached; None for an attachment that is new to us."""
    remembered: NetworkId | None = None
    """`portwatch-network`: the network for which we wired it."""
    installed: bool = False
    """`portwatch-installed`."""


@dataclass(frozen=True, slots=True)
class PortDetails:
    """What the orchestrator says of a port in the directory, instead of in keys of its Interface."""

    network_id: NetworkId | None = None
    network_type: NetworkType = VXLAN
    segmentation_id: Vni | None = None
    mac: Mac | None = None
    """Not what the port gets, but a check on what is plugged in: the Interface's `attached-mac`."""
    fixed_ips: tuple[IpAddress, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    device_owner: str = ""
    kind: Kind | None = None
    """None: what `device_owner` implies."""
    admin_up: bool = True
