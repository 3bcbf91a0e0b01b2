"""The numbers of our flows: cookies, tables, priorities, group ids. They are named here and nowhere else.

Two bridges. The integration bridge has numbers that Neutron's agent does not use there, but for table 0; the tunnel
bridge keeps the ones that operators know from Neutron (docs/contract.md, section 6).
"""

from typing import Final

from portwatch.model import GENEVE, GRE, VXLAN
from portwatch.openflow.actions import Action
from portwatch.openflow.bundle import Ownership
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Flow, flow

COOKIE: Final = 0x7077_0000_0000_0001
LEARNED_COOKIE: Final = 0x7077_0000_0000_0002
OWN: Final = Ownership(0x7077_0000_0000_0000, 0xFFFF_0000_0000_0000)
LEARNT: Final = Ownership(LEARNED_COOKIE, 0xFFFF_0000_0000_FFFF)
"""What the switch learned for us; not a full mask, which is ten times slower (docs/dependencies.md, trap 14)."""
GROUPS: Final = range(0x7077_0000, 0x7078_0000)

# The integration bridge.
INT_CLASSIFY: Final = 0
INT_SOURCE: Final = 39
INT_DISCOVERY: Final = 40
INT_DELIVER: Final = 41
INT_FLOOD: Final = 42

# The tunnel bridge: Neutron's numbers, but for the last two, which it has on the integration bridge only.
TUN_CLASSIFY: Final = 0
TUN_FROM_INTEGRATION: Final = 2
TUN_FROM_TUNNEL: Final = {GRE: 3, VXLAN: 4, GENEVE: 6}
TUN_LEARN: Final = 10
TUN_UNICAST: Final = 20
TUN_NEIGHBORS: Final = 21
TUN_FLOOD: Final = 22
TUN_FLOOD_PART: Final = 23
TUN_ADVERTISE: Final = 24

# A miss is 1 and not 0: in table 0 of a bridge that others made, 0 is theirs (Open vSwitch's own NORMAL flow).
MISS: Final = 1
UNPINNED: Final = 50
LEARNED: Final = 100
ANNOUNCED: Final = 110
ENTRY: Final = 200
EXCEPTION: Final = 300
EXEMPTION: Final = 400
"""From an exception."""
PRIORITIES: Final = (MISS, UNPINNED, ENTRY, EXCEPTION, EXEMPTION)
"""All that our own flows have; the switch's, which it learned, are between."""

LEARNED_FOR: Final = 300
"""Seconds, as Neutron and most bridges."""
ANNOUNCED_FOR: Final = 2
"""Seconds: the switch has counted every packet from before the announcement by then (at most 0.5 s late)."""


def programmed(table: int, priority: int, match: tuple[Field, ...], actions: tuple[Action, ...]) -> Flow:
    """Make a flow of ours."""
    return flow(COOKIE, table, priority, match, actions)
