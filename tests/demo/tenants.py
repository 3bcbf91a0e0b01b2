"""Who plays: two tenants with the same addresses, their networks, their services on hv3, their VMs. Data only."""

from dataclasses import dataclass

from tests.lab import Network

DOMAIN = "lan"
DHCP, ROUTER, COMPUTE = "network:dhcp", "network:router_interface", "compute:nova"

TENANTS = ("blue", "amber")
BLUE, BLUE_BACK, AMBER = Network("blue", 100), Network("blue-back", 101), Network("amber", 200)


@dataclass(frozen=True)
class Card:
    """A network card, and the port that it is plugged into."""

    port: str
    network: Network
    address: str
    owner: str = COMPUTE


@dataclass(frozen=True)
class Guest:
    """A VM, or a namespace with a network service, and the hypervisor on which it begins."""

    name: str
    host: str
    cards: tuple[Card, ...]

    @property
    def card(self) -> Card:
        """The first card; most have no other."""
        return self.cards[0]


@dataclass(frozen=True)
class Server:
    """What the DHCP and DNS server of one network tells its VMs."""

    guest: Guest
    gateway: str | None
    names: tuple[tuple[str, str], ...]


def tenant_of(name: str) -> str:
    """Return whose a guest, port or network is: the word before the first hyphen."""
    return name.partition("-")[0]


def _vm(name: str, host: str, network: Network, address: str) -> Guest:
    return Guest(name, host, (Card(name, network, address),))


def _server(name: str, network: Network, address: str) -> Guest:
    return Guest(name, "hv3", (Card(name, network, address, DHCP),))


BLUE_DHCP = _server("blue-dhcp", BLUE, "10.0.0.2")
BLUE_BACK_DHCP = _server("blue-back-dhcp", BLUE_BACK, "10.0.1.2")
AMBER_DHCP = _server("amber-dhcp", AMBER, "10.0.0.2")
BLUE_GATEWAY = Guest(
    "blue-gw",
    "hv3",
    (
        Card("blue-gw", BLUE, "10.0.0.1", ROUTER),
        Card("blue-back-gw", BLUE_BACK, "10.0.1.1", ROUTER),
    ),
)
SERVICES = (BLUE_DHCP, BLUE_BACK_DHCP, BLUE_GATEWAY, AMBER_DHCP)

BLUE_WEB = _vm("blue-web", "hv1", BLUE, "10.0.0.10")
BLUE_APP = _vm("blue-app", "hv2", BLUE, "10.0.0.11")
BLUE_JOB = _vm("blue-job", "hv1", BLUE, "10.0.0.12")
BLUE_DB = _vm("blue-db", "hv2", BLUE_BACK, "10.0.1.10")
AMBER_WEB = _vm("amber-web", "hv1", AMBER, "10.0.0.10")
AMBER_APP = _vm("amber-app", "hv2", AMBER, "10.0.0.11")
VMS = (BLUE_WEB, AMBER_WEB, BLUE_APP, AMBER_APP, BLUE_JOB, BLUE_DB)

# Both tenants ask 10.0.0.2 for db.lan, and each must hear its own answer.
NAME = f"db.{DOMAIN}"
_BLUE_NAMES = ((NAME, BLUE_DB.card.address), (f"app.{DOMAIN}", BLUE_APP.card.address))
SERVERS = (
    Server(BLUE_DHCP, BLUE_GATEWAY.cards[0].address, _BLUE_NAMES),
    Server(BLUE_BACK_DHCP, BLUE_GATEWAY.cards[1].address, _BLUE_NAMES),
    Server(AMBER_DHCP, None, ((NAME, AMBER_APP.card.address),)),
)
