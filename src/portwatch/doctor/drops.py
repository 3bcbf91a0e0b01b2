"""What anti-spoofing drops of each port: read off the counts of its flows, twice. Pure.

The flows that drop serve all ports, so their counts name nobody. But what a port sends meets one of its own flows in
table 0, and what of that is let on meets one of its own in table 39: the rest was dropped there. What table 40 drops
(feigned neighbour discovery) is not told apart.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from portwatch.fabric.tables import INT_CLASSIFY, INT_SOURCE, OWN
from portwatch.model import OfPort
from portwatch.openflow import actions, parse
from portwatch.openflow.flow import Flow, FlowKey

_LOOKED_AT = actions.goto_table(INT_SOURCE)


@dataclass(frozen=True, slots=True)
class Reading:
    """The frames of each port that were not let on, and the flows that this was read off."""

    dropped: Mapping[OfPort, int]
    flows: Mapping[OfPort, frozenset[FlowKey]]

    @property
    def any(self) -> bool:
        """Was ever anything dropped? Perhaps not: the count of a flow that was taken away is missing."""
        return any(number > 0 for number in self.dropped.values())


def read(dump: str) -> Reading:
    """Read a `dump-flows` of the integration bridge, with statistics."""
    dropped: Counter[OfPort] = Counter()
    flows: defaultdict[OfPort, set[FlowKey]] = defaultdict(set)
    for flow, use in parse.uses(dump):
        ofport = _ofport(flow)
        if ofport is None or not OWN.holds(flow):
            continue
        if flow.key.table == INT_CLASSIFY and _LOOKED_AT in flow.actions:
            dropped[ofport] += use.packets
        elif flow.key.table == INT_SOURCE:
            dropped[ofport] -= use.packets
        else:
            continue
        flows[ofport].add(flow.key)
    return Reading(dropped, {ofport: frozenset(keys) for ofport, keys in flows.items()})


def rises(before: tuple[Reading, ...], after: tuple[Reading, ...]) -> Iterator[tuple[OfPort, int]]:
    """Yield how many frames of each port were dropped between *before* and *after*: of each, readings close together.

    The switch may add a packet to the one table's count before a reading and to the other's behind it. One of two
    readings is wrong by that; so what counts is the least rise between any two.
    """
    readings = (*before, *after)
    if not before or not after:
        return
    for ofport in sorted(readings[0].dropped):
        if all(each.flows.get(ofport) == readings[0].flows[ofport] for each in readings):
            rise = min(each.dropped[ofport] for each in after) - max(each.dropped[ofport] for each in before)
            if rise > 0:
                yield ofport, rise


def _ofport(flow: Flow) -> OfPort | None:
    ports = (field.removeprefix("in_port=") for field in flow.key.match if field.startswith("in_port="))
    return next((OfPort(int(port)) for port in ports if port.isdigit()), None)
