"""The keys of the configuration: each with its form, its default and its meaning, once.

`Config()` is the configuration of one hypervisor alone. What crosses keys is checked in `loading`.
"""

# ruff: noqa: RUF009 - key() and optional() declare fields, as dataclasses.field() does

from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from portwatch.config import forms
from portwatch.config.forms import DatapathType, Details, Form, LogFormat, LogLevel, Loop, UnknownUnicast
from portwatch.config.places import BridgeName, BusUrl, Listen, MqttBrokers, MqttBus, OvsdbRemote, TopicPrefix
from portwatch.model import GENEVE, VXLAN, HostName, IpNetwork, NetworkType, TunnelEndpoint

T = TypeVar("T")

UDP_PORTS: Final = MappingProxyType({VXLAN: 4789, GENEVE: 6081})
"""What IANA gave the tunnel types; gre has no ports."""


@dataclass(frozen=True, slots=True)
class Key:
    """All there is to know of a key. `absent` says what holds while nobody has set it."""

    form: Form[Any]
    meaning: str
    default: object
    absent: str


def key(default: object, form: Form[T], meaning: str) -> T:
    """Declare a key by its default, as TOML would have it."""
    value = form.read(default)
    declared: T = field(default=value, metadata={"key": Key(form, meaning, value, "")})
    return declared


def optional(form: Form[T], meaning: str, *, absent: str = "none") -> T | None:
    """Declare a key that is None unless somebody sets it."""
    declared: T | None = field(default=None, metadata={"key": Key(form, meaning, None, absent)})
    return declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Ovsdb:
    remote: OvsdbRemote = key(
        "unix:/run/openvswitch/db.sock",
        forms.REMOTE,
        "where ovsdb-server listens: `unix:PATH`, `tcp:IP:PORT` or `ssl:IP:PORT`",
    )
    ca_cert: Path | None = optional(forms.PATH, "for `ssl:`: the authority that signed the server's certificate")
    certificate: Path | None = optional(forms.PATH, "for `ssl:`: this host's certificate")
    private_key: Path | None = optional(forms.PATH, "for `ssl:`: the key of this host's certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFlow:
    rundir: Path = key("/run/openvswitch", forms.PATH, "the directory where `<bridge>.mgmt` lies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridges:
    integration: BridgeName = key(
        "br-int",
        forms.BRIDGE,
        "the bridge that ports are plugged into; created when missing, never recreated",
    )
    tunnel: BridgeName = key(
        "br-tun", forms.BRIDGE, "the bridge that holds the tunnels; created when missing, never recreated"
    )
    datapath_type: DatapathType = key(
        "system",
        forms.one_of(DatapathType),
        "`system` for the kernel's datapath, `netdev` for the userspace one",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    local_ip: TunnelEndpoint | None = optional(
        forms.ENDPOINT,
        "this host's tunnel endpoint (VTEP), IPv4 or IPv6; without it nothing is tunnelled and only local"
        " ports are wired",
    )
    type: NetworkType = key("vxlan", forms.TUNNEL_TYPE, "`vxlan`, `geneve` or `gre`")
    port: int | None = optional(
        forms.PORT, "UDP destination port of the tunnels; `gre` has none", absent="the type's own"
    )
    allowed_peers: tuple[IpNetwork, ...] | None = key(
        "any",
        forms.or_word("any", forms.NETWORKS),
        "the networks from which tunnel endpoints are accepted, as CIDRs, or `any`",
    )

    @property
    def udp_port(self) -> int | None:
        """The tunnels' UDP port: the configured one, else the type's own; None for gre."""
        return None if self.type not in UDP_PORTS else self.port or UDP_PORTS[self.type]

    def allows(self, peer: TunnelEndpoint) -> bool:
        """Say whether *peer* may be a tunnel endpoint of ours."""
        return self.allowed_peers is None or any(peer in network for network in self.allowed_peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    url: BusUrl = key(
        "memory://",
        forms.BUS,
        "`memory://` (this host alone), `mqtt://[user@]host[:1883]`, `mqtts://host[:8883]` or `mqtt+unix:///path`;"
        " several brokers, the preferred one first: comma-separated",
    )
    prefix: TopicPrefix = key("portwatch/v1", forms.PREFIX, "the first levels of every topic")
    username: str | None = optional(forms.WORDS, "the user to log in as; may stand in `bus.url` instead")
    password_file: Path | None = optional(forms.PASSWORD_FILE, "the file that holds the password, in its first line")
    ca_cert: Path | None = optional(
        forms.PATH,
        "for `mqtts://`: the authority that signed the broker's certificate",
        absent="the system's own",
    )
    certificate: Path | None = optional(forms.PATH, "for `mqtts://`: this host's certificate")
    private_key: Path | None = optional(forms.PATH, "for `mqtts://`: the key of this host's certificate")

    @property
    def user(self) -> str | None:
        """The user to log in as, from wherever it was given."""
        return self.username or (self.url.user if isinstance(self.url, MqttBus | MqttBrokers) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    details: Details = key(
        "ovsdb",
        forms.one_of(Details),
        "where a port's network comes from: `ovsdb` (external_ids of its Interface) or `directory` (the bus)",
    )
    anti_spoofing: bool = key(True, forms.SWITCH, "a port sends only from its own MAC and addresses")
    arp_responder: bool = key(True, forms.SWITCH, "answer ARP requests for remote ports on this host")
    nd_responder: bool | None = key(
        "auto",
        forms.or_word("auto", forms.SWITCH),
        "answer IPv6 neighbour solicitations for remote ports on this host; `auto`: if the datapath can",
    )
    unknown_unicast: UnknownUnicast = key(
        "flood",
        forms.one_of(UnknownUnicast),
        "what happens to unicast for a MAC that nobody claims: `flood` or `drop`",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    grace: float | None = key(
        "keep",
        forms.or_word("keep", forms.SECONDS),
        "how long the entries of a vanished host stay: `keep`, or seconds",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    listen: Listen | None = key(
        "127.0.0.1:9476",
        forms.or_word("off", forms.LISTEN),
        "where metrics, health, API and page are served; `off` for none; beyond this host only with the three below",
    )
    certificate: Path | None = optional(forms.PATH, "serve over TLS, with this certificate")
    private_key: Path | None = optional(forms.PATH, "the key of this certificate")
    token_file: Path | None = optional(
        forms.TOKEN_FILE, "the file that holds the token which everything but `/healthz` asks for"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: LogLevel = key("info", forms.one_of(LogLevel), "`debug`, `info`, `warning` or `error`")
    format: LogFormat = key("json", forms.one_of(LogFormat), "`json` for programs, `console` for people")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an operator may decide. Frozen: a change takes a restart, which is cheap."""

    host: HostName | None = optional(
        forms.HOST_NAME,
        "this hypervisor's name on the bus",
        absent="OVSDB `Open_vSwitch.external_ids:hostname`, else the system's host name",
    )
    loop: Loop = key("asyncio", forms.one_of(Loop), "the event loop: `asyncio`, or `uvloop` if it is installed")
    ovsdb: Ovsdb = Ovsdb()
    openflow: OpenFlow = OpenFlow()
    bridges: Bridges = Bridges()
    tunnel: Tunnel = Tunnel()
    bus: Bus = Bus()
    ports: Ports = Ports()
    peers: Peers = Peers()
    http: Http = Http()
    log: Log = Log()


TOP: Final[MappingProxyType[str, Key]] = MappingProxyType(
    {item.name: item.metadata["key"] for item in fields(Config) if item.metadata}
)
"""The keys that stand in no section."""

SECTIONS: Final[MappingProxyType[str, type[Any]]] = MappingProxyType(
    {item.name: type(item.default) for item in fields(Config) if not item.metadata}
)

KEYS: Final[MappingProxyType[str, Key]] = MappingProxyType(
    {
        **TOP,
        **{
            f"{section}.{item.name}": item.metadata["key"]
            for section, kind in SECTIONS.items()
            for item in fields(kind)
        },
    }
)
"""Every key by its dotted name, in the order of the reference."""


def variable_of(dotted: str) -> str:
    """Return the environment variable that sets a key."""
    return f"PORTWATCH_{dotted.replace('.', '__')}".upper()


class Row(NamedTuple):
    """A line of the reference for operators, in Markdown."""

    key: str
    default: str
    meaning: str


def reference() -> tuple[Row, ...]:
    """Return all keys with their defaults and meanings."""
    return tuple(Row(dotted, default_words(described), described.meaning) for dotted, described in KEYS.items())


def default_words(described: Key) -> str:
    """Return a key's default as an operator would write it, or in words when there is nothing to write."""
    if described.absent:
        return described.absent
    text = forms.written(described.default, described.form.word).strip('"')
    return f"`{text}`"
