"""Where ports are on the bridges: the switch's own between the bridges, and the local ones that are plugged in."""

from dataclasses import dataclass

from portwatch.model import Claim, NetworkType, OfPort


@dataclass(frozen=True, slots=True)
class SwitchPorts:
    """The switch's own: the numbers of the ports between the bridges and of the tunnel ports; None: there is none."""

    patch_to_tunnel: OfPort | None = None
    patch_to_integration: OfPort | None = None
    tunnels: tuple[tuple[NetworkType, OfPort], ...] = ()
    nd_extensions: bool = False
    """Can the datapath make an advertisement of a solicitation? IPv6 neighbour discovery."""

    def tunnel(self, network_type: NetworkType) -> OfPort | None:
        return dict(self.tunnels).get(network_type)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A claim of our own, and where on the integration bridge its port is."""

    claim: Claim
    ofport: OfPort
