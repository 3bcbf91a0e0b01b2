"""What a switch tells of its flows beside what they do: how old they are, and what they have carried."""

import re
import time
from dataclasses import dataclass

from portwatch.fabric.tables import LEARNED_COOKIE, OWN
from portwatch.openflow import parse
from portwatch.openflow.flow import FlowKey
from tests.lab import Hypervisor

DURATION = re.compile(r"\bduration=([\d.]+)s")
PACKETS = re.compile(r"\bn_packets=(\d+)")
STATISTICS = re.compile(r"\b(?:duration|n_packets|n_bytes|idle_age|hard_age)=[^ ,]+,? ?")
TOLERANCE = 0.1
"""Seconds: between the switch's look at its clock and ours there is the start of a process."""


@dataclass(frozen=True)
class Carried:
    """When a flow was added, by our clock, and how many packets it has carried."""

    added: float
    packets: int

    def went_on(self, later: "Carried") -> bool:
        """Is this flow, looked at *later*, still the same one, neither made again nor counted anew?"""
        return abs(later.added - self.added) < TOLERANCE and later.packets >= self.packets


def statistics(hypervisor: Hypervisor, bridge: str) -> dict[FlowKey, Carried]:
    """Return age and packets of each flow that portwatch has programmed on a bridge."""
    text = hypervisor.ofctl("--no-names", "-O", "OpenFlow15", "dump-flows", bridge)
    now = time.time()
    found: dict[FlowKey, Carried] = {}
    for line in text.splitlines():
        age, packets = DURATION.search(line), PACKETS.search(line)
        if age is None or packets is None:
            continue
        flow = parse.flow(STATISTICS.sub("", line.strip()))
        if OWN.holds(flow) and flow.cookie != LEARNED_COOKIE:
            found[flow.key] = Carried(now - float(age[1]), int(packets[1]))
    return found


def learned(hypervisor: Hypervisor, mac: str) -> list[str]:
    """Return the flows for *mac* that the tunnel bridge has learned by itself."""
    return [
        line
        for line in hypervisor.dump_flows("br-tun")
        if f"cookie={LEARNED_COOKIE:#x}" in line and f"dl_dst={mac} " in line.replace(",", " ")
    ]
