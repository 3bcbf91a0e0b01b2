"""Facts → findings: all checks, in the order in which what they find is best mended."""

from collections.abc import Callable, Iterator
from typing import Final

from portwatch.doctor import surroundings, wiring
from portwatch.doctor.facts import Facts
from portwatch.doctor.finding import FAULT, Finding

CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (
    *(surroundings.ovsdb, surroundings.bridges, surroundings.others_on_the_bridges),
    *(surroundings.tunnel_address, surroundings.paths, surroundings.clock),
    *(surroundings.bus, surroundings.identity),
    *(wiring.agent, wiring.peers, wiring.fights, wiring.ports, wiring.spoofers),
)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return all that is wrong in the order in which it is best mended: first what stops something from working."""
    found = (finding for check in CHECKS for finding in check(facts))
    return tuple(sorted(found, key=lambda finding: finding.severity is not FAULT))
