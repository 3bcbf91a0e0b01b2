"""The ports plugged in here joined with their details, when those come from the bus. No clock, no I/O.

What was known of a port stays while it is plugged in: details that are deleted or cannot be used change nothing.
After a restart nothing is told before the details of the ports that we had wired have come (again): they carry
traffic, and without details they would be cut off.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from portwatch.model import SHARED_OWNERS, Claim, Kind, Plug, PortDetails, PortId

PATIENCE: Final = 2.0
"""Seconds after the connection, and after the last that came, in which all that is retained has come."""
REASON_MAX: Final = 1000
"""Characters of a reason: an event takes 1,024."""


class Directory:
    """Feed it plugs and details; take the plugs that are otherwise by this."""

    def __init__(self) -> None:
        self.plugs: dict[PortId, Plug] = {}
        """As OVSDB tells them: whose details to listen to."""
        self.interest = 0
        """Counts the changes of whose details to listen to."""
        self.waiting = True
        """Is it too early to tell anything?"""
        self._details: dict[PortId, PortDetails] = {}
        self._refused: dict[PortId, str] = {}
        self._changed: dict[PortId, Plug | None] = {}
        self._started = False
        self._owed: set[PortId] = set()
        """The ports that a process before us has had, and of which the bus has said nothing yet."""
        self._recalled: dict[PortId, PortDetails] = {}
        self._since: float | None = None
        self._more = False

    # --- OVSDB says ---------------------------------------------------------------------------------------------------

    def plugged(self, plugs: Mapping[PortId, Plug | None]) -> None:
        """These ports are plugged in like this now, or are gone (None). The first call must bring all there are."""
        for port_id, plug in plugs.items():
            if plug is None:
                self._forget(port_id)
                continue
            if port_id not in self.plugs:
                self.interest += 1
            self.plugs[port_id] = plug
            self._merge(port_id)
        if not self._started:
            self._started = True
            self._owed = {port_id for port_id, plug in self.plugs.items() if plug.seq is not None}
        self._go_on()

    # --- the bus says -------------------------------------------------------------------------------------------------

    def told(self, port_id: PortId, details: PortDetails) -> None:
        """The orchestrator's word on a port."""
        if port_id not in self.plugs:
            return
        self._more |= port_id in self._owed
        self._owed.discard(port_id)
        self._refused.pop(port_id, None)
        self._details[port_id] = details
        self._merge(port_id)
        self._go_on()

    def refused(self, port_id: PortId, why: str) -> None:
        """What stands there cannot be used: shown, unless something better is known."""
        if port_id in self.plugs:
            self._refused[port_id] = f"bad-details: {why}"[:REASON_MAX]
            self._merge(port_id)

    def gone(self, port_id: PortId) -> None:
        """The details were deleted. A port that has some keeps them until it is unplugged."""
        if self._refused.pop(port_id, None) is not None:
            self._merge(port_id)

    def recalled(self, claim: Claim) -> None:
        """The bus still holds what we ourselves said of a port before our restart: the last that was known of it."""
        port, plug = claim.port, self.plugs.get(claim.port.port_id)
        if not self.waiting or plug is None or plug.seq != claim.seq or port.network_id is None:
            return
        self._recalled[port.port_id] = PortDetails(
            network_id=port.network_id,
            network_type=port.network_type,
            segmentation_id=port.segmentation_id,
            fixed_ips=port.fixed_ips,
            allowed_address_pairs=port.allowed_address_pairs,
            device_owner=port.device_owner,
            kind=port.kind,
            admin_up=port.admin_up,
        )

    def connecting(self, clock: float) -> None:
        """A connection to the bus begins: all that is retained comes (again)."""
        self._since = clock

    def settle(self, clock: float) -> None:
        """Time has passed on a connection that stands: what has not come by now will not come.

        But a bus that knows nothing at all has lost it: that proves nothing, and there is nothing to wire by it.
        """
        if not self.waiting or not self._started or self._since is None:
            return
        if self._more:
            self._since, self._more = clock, False
        wired = any(self.plugs[port_id].remembered is not None for port_id in self._owed)
        if wired and (clock - self._since < PATIENCE or not (self._details or self._recalled)):
            return
        for port_id in self._owed & self._recalled.keys():
            self._details[port_id] = self._recalled[port_id]
            self._merge(port_id)
        self._owed.clear()
        self._go_on()

    # --- and so -------------------------------------------------------------------------------------------------------

    def take(self) -> dict[PortId, Plug | None]:
        """Return the ports that are otherwise since the last time, with their details; nothing while waiting."""
        if self.waiting:
            return {}
        changed, self._changed = self._changed, {}
        return changed

    # --- within -------------------------------------------------------------------------------------------------------

    def _forget(self, port_id: PortId) -> None:
        if self.plugs.pop(port_id, None) is None:
            return
        self.interest += 1
        self._owed.discard(port_id)
        for table in (self._details, self._refused, self._recalled):
            table.pop(port_id, None)
        self._changed[port_id] = None

    def _merge(self, port_id: PortId) -> None:
        self._changed[port_id] = merge(self.plugs[port_id], self._details.get(port_id), self._refused.get(port_id))

    def _go_on(self) -> None:
        if self.waiting and self._started and not self._owed:
            self.waiting = False
            self._recalled.clear()


def merge(plug: Plug, details: PortDetails | None, refusal: str | None = None) -> Plug:
    """Return *plug* with its details; without any, *refusal* says why, if somebody has said something."""
    port = plug.port
    if details is None:
        return replace(plug, port=replace(port, fault=port.fault or refusal), remembered=None)
    fault = port.fault
    if fault is None and port.mac is not None and details.mac not in (None, port.mac):
        fault = f"mac-mismatch: attached-mac is {port.mac}, the directory says {details.mac}"
    implied = Kind.SHARED if details.device_owner in SHARED_OWNERS else Kind.SINGLE
    described = replace(
        port,
        network_id=details.network_id,
        network_type=details.network_type,
        segmentation_id=details.segmentation_id,
        fixed_ips=details.fixed_ips,
        allowed_address_pairs=details.allowed_address_pairs,
        device_owner=details.device_owner,
        kind=details.kind or implied,
        admin_up=details.admin_up,
        fault=fault,
    )
    return replace(plug, port=described, remembered=plug.remembered if plug.remembered == details.network_id else None)
