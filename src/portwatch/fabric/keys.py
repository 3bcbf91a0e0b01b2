"""The names of entries: what an event touches. What an entry is by then, `l2pop` and `pipeline` compute."""

from typing import NamedTuple

from portwatch.model import IpAddress, Mac, NetworkType, PortId, Segment, TunnelEndpoint


class Base(NamedTuple):
    """What each bridge needs whatever the ports are."""

    entry: str = "base"


class Wire(NamedTuple):
    """A local port's admission."""

    port_id: PortId
    entry: str = "wire"
    """Keys are told apart by what is in them: a port may be called `base`."""


class Unicast(NamedTuple):
    """(segment, MAC) → where it is delivered."""

    segment: Segment
    mac: Mac


class LocalFlood(NamedTuple):
    """A segment's floods among the ports here, and into the tunnel bridge."""

    segment: Segment
    where: str = "here"


class Flood(NamedTuple):
    """A segment's floods to its other hosts, and its tunnel key. A port more or less here does not touch it."""

    segment: Segment


class Neighbor(NamedTuple):
    """(segment, IP) → the MAC that is answered."""

    segment: Segment
    address: IpAddress


class Peer(NamedTuple):
    """A tunnel endpoint from which packets are accepted."""

    network_type: NetworkType
    endpoint: TunnelEndpoint


Key = Base | Wire | Unicast | LocalFlood | Flood | Neighbor | Peer
Touched = set[Key]
