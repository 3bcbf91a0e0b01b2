"""Which local ports can be wired, into which segment, and why the others wait: details, VNIs and VLANs."""

from portwatch.fabric.vlans import LocalVlans
from portwatch.model import LocalVlan, NetworkType, Port, PortId, Segment, Vni


class Admission:
    """Ports come with `admit`; a segment whose last port has gone, with `release`."""

    def __init__(self) -> None:
        self.vlans = LocalVlans()
        self.waiting: dict[PortId, str] = {}
        """The ports that are not wired, and why: `code: words`."""
        self._by_vni: dict[tuple[NetworkType, Vni], Segment] = {}
        self._vnis_left = 0
        self._tried = (0, 0)

    def admit(self, port: Port, hint: LocalVlan | None) -> Segment | None:
        """Return the segment in which the port is wired, with a VLAN; None, with the reason noted, when it is not."""
        self.waiting.pop(port.port_id, None)
        segment = port.segment
        reason = None
        if port.fault:
            reason = port.fault
        elif segment is None or port.mac is None:
            reason = f"details-missing: {port.lacks}"
        elif not port.admin_up:
            reason = "admin-down: admin-state is down"
        elif segment.vni and self._by_vni.get((segment.network_type, segment.vni), segment) != segment:
            other = self._by_vni[segment.network_type, segment.vni]
            reason = f"vni-conflict: {segment.network_type} {segment.vni} is in use here by network {other.network_id}"
        elif self.vlans.assign(segment, hint) is None:
            reason = f"vlans-used-up: all {LocalVlan.HIGHEST} local VLANs of this host are in use"
        if reason or segment is None:
            self.waiting[port.port_id] = reason or ""
            return None
        if segment.network_type.tunnelled and segment.vni:
            self._by_vni[segment.network_type, segment.vni] = segment
        return segment

    def release(self, segment: Segment) -> None:
        """The segment has no port here any more: its VLAN and its VNI are free for others."""
        self.vlans.release(segment)
        if segment.vni:
            self._by_vni.pop((segment.network_type, segment.vni), None)
            self._vnis_left += 1

    def has_room(self) -> bool:
        """Was anything given back since this was asked last? Only then do those ask who wait, and may be many."""
        before, self._tried = self._tried, (self.vlans.rests, self._vnis_left)
        return self._tried != before
