"""What the doctor knows of a host, whether its agent runs or not. Values only; `look` and `bus` gather them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portwatch.config import Config
from portwatch.model import TunnelEndpoint
from portwatch.openflow.flow import Flow

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Agent:
    """What the agent says of itself. `trouble`: why it says nothing."""

    trouble: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why it is not ready, by component."""
    drained: bool = False
    ports: tuple[Row, ...] = ()
    networks: tuple[Row, ...] = ()
    peers: tuple[Row, ...] = ()

    @property
    def runs(self) -> bool:
        return self.trouble is None


@dataclass(frozen=True, slots=True)
class Bridge:
    """One of the two bridges, as OVSDB and the switch have it."""

    name: str
    exists: bool = True
    protocols: frozenset[str] = frozenset()
    """Empty: all that Open vSwitch speaks."""
    controllers: tuple[str, ...] = ()
    strangers: tuple[Flow, ...] = ()
    """Flows of others in tables of ours."""
    trouble: str | None = None
    """Why the switch does not tell of it."""


@dataclass(frozen=True, slots=True)
class Device:
    """An Interface on the integration bridge that gives a port."""

    name: str
    port_id: str
    error: str | None = None
    """ovs-vswitchd's words: it has no such device."""
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A port that is plugged in and not wired, and why."""

    port: str
    reason: str


@dataclass(frozen=True, slots=True)
class Spoofer:
    """A port whose VM sends what anti-spoofing drops: so many frames within so many seconds."""

    port: str
    device: str
    frames: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Path:
    """The way to another host's tunnel address: what of an echo of full and of least size came back."""

    host: str
    endpoint: TunnelEndpoint
    needed: int
    """Bytes of an IP packet that carries a full frame of a VM."""
    full: bool
    least: bool


@dataclass(frozen=True, slots=True)
class Bus:
    """What a short visit to the broker showed. None of it is known if `trouble` says why."""

    trouble: str | None = None
    forbidden: tuple[str, ...] = ()
    """What the access list refuses, in the broker's words or ours."""
    stated: int = 0
    """Port topics that manifests count in the networks of this host."""
    told: int = 0
    """How many of these the broker told."""
    choked: int | None = None
    """It told so many retained messages, and then never answered: mosquitto's queue limit (seen with 2.0.11)."""
    namesake: str | None = None
    """Another living agent has this host's name: where it tunnels."""
    doubles: tuple[str, ...] = ()
    """Other living hosts that have this host's tunnel address."""
    ahead: Mapping[str, float] = field(default_factory=dict)
    """Hosts whose words are from the future, by so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. None: not looked at, for something else has to be mended first, or it does not apply."""

    config: Config
    host: str = ""
    agent: Agent = Agent()
    ovsdb_trouble: str | None = None
    bridges: tuple[Bridge, ...] = ()
    devices: tuple[Device, ...] = ()
    orphans: tuple[Device, ...] = ()
    """Those whose device was gone each time that it was looked at."""
    waiting: tuple[Waiting, ...] = ()
    spoofers: tuple[Spoofer, ...] = ()
    vlans_used: int = 0
    local_ip_here: bool | None = None
    paths: tuple[Path, ...] = ()
    bus: Bus | None = None
    clock_disciplined: bool | None = None
