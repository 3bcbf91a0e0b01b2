"""How a port of ours is, for the bus and for people, and what its Port row shall remember of us."""

from collections.abc import Iterable
from dataclasses import dataclass

from portwatch.fabric.keys import Flood, Key, LocalFlood, Unicast, Wire
from portwatch.model import LocalVlan, NetworkId, Plug, Status
from portwatch.openflow.ledger import Ledger


@dataclass(frozen=True, slots=True)
class PortRecord:
    """What a Port row shall remember of us. `vlan` None: the port is not wired, and its tag is no business of ours."""

    network_id: NetworkId | None
    vlan: LocalVlan | None
    seq: int
    installed: bool


def status_of(plug: Plug, problem: str | None, refusal: str | None, *, installed: bool) -> tuple[Status, str | None]:
    """Return a port's status and its reason: *problem*, why it is not wired; *refusal*, what the switch said to it."""
    if plug.port.fault:
        return Status.ERROR, plug.port.fault
    if not plug.port.admin_up:
        return Status.DOWN, None
    if problem is None and refusal is not None:
        return Status.ERROR, f"flow-refused: {refusal}"
    if problem is None:
        return (Status.ACTIVE if installed else Status.BUILD), None
    waits = problem.startswith("details-missing:")
    return (Status.BUILD if waits else Status.ERROR), problem


def refusal(plug: Plug, ledgers: Iterable[Ledger]) -> str | None:
    """Return the switch's words on a flow of this port that it did not take."""
    keys: list[Key] = [Wire(plug.port.port_id)]
    if plug.port.segment and plug.port.mac:
        keys += [Unicast(plug.port.segment, plug.port.mac), LocalFlood(plug.port.segment), Flood(plug.port.segment)]
    return next((words for ledger in ledgers for key in keys if (words := ledger.refusal(key))), None)
