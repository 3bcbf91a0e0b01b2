"""One segment's indexes: its ports here, who claims which MAC and address, and the endpoints of its members."""

from collections import Counter
from dataclasses import dataclass, field

from portwatch.events import ClaimKey, key_of
from portwatch.fabric.attachment import Attachment
from portwatch.fabric.keys import Neighbor, Touched, Unicast
from portwatch.model import Claim, IpAddress, Mac, PortId, Segment, TunnelEndpoint


@dataclass(slots=True)
class SegmentView:
    """All that is known of one segment: indexes over its claims."""

    segment: Segment
    wired: dict[PortId, Attachment] = field(default_factory=dict)
    stations: dict[Mac, dict[ClaimKey, Claim]] = field(default_factory=dict)
    addresses: dict[IpAddress, dict[ClaimKey, Claim]] = field(default_factory=dict)
    members: Counter[TunnelEndpoint] = field(default_factory=Counter)

    @property
    def empty(self) -> bool:
        return not (self.wired or self.stations or self.addresses or self.members)

    def index(self, claim: Claim) -> Touched:
        """Enter a claim under its MAC and its addresses."""
        key, port = key_of(claim), claim.port
        touched: Touched = set()
        if port.mac is not None:
            self.stations.setdefault(port.mac, {})[key] = claim
            touched |= self.around(port.mac)
        for address in port.fixed_ips:
            self.addresses.setdefault(address, {})[key] = claim
            touched.add(Neighbor(self.segment, address))
        return touched

    def unindex(self, claim: Claim) -> Touched:
        """Take a claim out."""
        key, port = key_of(claim), claim.port
        touched: Touched = set()
        if port.mac is not None:
            touched |= self.around(port.mac)
            claims = self.stations[port.mac]
            del claims[key]
            if not claims:
                del self.stations[port.mac]
        for address in port.fixed_ips:
            holders = self.addresses.get(address, {})
            holders.pop(key, None)
            if not holders:
                self.addresses.pop(address, None)
            touched.add(Neighbor(self.segment, address))
        return touched

    def around(self, mac: Mac) -> Touched:
        """Return the entries that hang on who wins *mac*: its own, and the addresses of all who claim it."""
        touched: Touched = {Unicast(self.segment, mac)}
        for claim in self.stations[mac].values():
            touched.update(Neighbor(self.segment, address) for address in claim.port.fixed_ips)
        return touched
