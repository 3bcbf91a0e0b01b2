"""What a switch does with a packet, read out of `ofproto/trace` and put into words. Pure.

The words follow the tables of docs/contract.md, section 6; a flow of somebody else's is named as such.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from portwatch.fabric.tables import (
    ANNOUNCED,
    INT_CLASSIFY,
    INT_DELIVER,
    INT_DISCOVERY,
    INT_FLOOD,
    INT_SOURCE,
    LEARNED,
    MISS,
    OWN,
    TUN_ADVERTISE,
    TUN_FLOOD,
    TUN_NEIGHBORS,
    TUN_UNICAST,
)

_BRIDGE: Final = re.compile(r'\s*bridge\("([^"]+)"\)')
_STEP: Final = re.compile(r"(\s*)(\d+)\. (.*)")
_PRIORITY: Final = re.compile(r"(?:(?P<match>.*), )?priority (?P<priority>\d+)(?:, cookie (?P<cookie>0x[0-9a-f]+))?")
_NO_MATCH: Final = re.compile(r"No match\.|reg0=0x[12], priority 0")
"""A table without a flow for the packet: in words on the first bridge, behind a patch port by Open vSwitch's own rule
for that, which bears no cookie."""
_ENDPOINT: Final = re.compile(r"(?:set_field|load):(\S+?)->(tun_dst|tun_ipv6_dst|NXM_NX_TUN_IPV[46]_DST\[\])")
_OUTPUT: Final = re.compile(r"output:(\d+)$")
_SKIPPED: Final = ">> skipping output to input port"
_FAILED: Final = ("native tunnel routing failed", "neighbor cache miss", "tunneling decided against output")
_ACTIONS_AT: Final = 4
"""Letters by which a step's actions are further in than its table's number, which takes two."""


@dataclass(slots=True)
class Step:
    """One flow that the packet met, and what it did."""

    bridge: str
    table: int
    match: str
    priority: int | None
    cookie: int
    actions: list[str] = field(default_factory=list)
    depth: int = 0

    @property
    def ours(self) -> bool:
        return self.cookie & OWN.mask == OWN.cookie

    @property
    def drops(self) -> bool:
        return self.actions in ([], ["drop"])


@dataclass(frozen=True, slots=True)
class Site:
    """What the numbers in a trace stand for on this host."""

    integration: str
    tunnel: str
    ports: Mapping[int, Mapping[str, Any]]
    """OpenFlow number on the integration bridge → the port, as `portwatch ports` shows it."""
    hosts: Mapping[str, str]
    """Tunnel address → host."""
    status: str
    """Of the port that sends: why it is not wired, if it is not."""
    unreached: str
    """Why no other host gets what is flooded, if none does."""


@dataclass(slots=True)
class Fate:
    """What becomes of the packet."""

    words: list[str] = field(default_factory=list)
    """Step by step."""
    delivered: list[str] = field(default_factory=list)
    """To these ports here."""
    tunnelled: list[str] = field(default_factory=list)
    """To these hosts, or tunnel addresses of which no host is known."""
    answered: bool = False
    """The switch itself answers the one who asked."""
    dropped: str | None = None
    """Why nobody gets it."""

    @property
    def end(self) -> str:
        """Where it ends, in one sentence."""
        ways = ["answered by the switch itself, for the one that is asked for"] if self.answered else []
        ways += [f"delivered here to {', '.join(self.delivered)}"] if self.delivered else []
        ways += [f"sent through the tunnel to {', '.join(self.tunnelled)}"] if self.tunnelled else []
        if ways:
            return f"It is {', and '.join(ways)}."
        return f"Nobody gets it: {self.dropped or 'no other port is in this network'}."


def steps(text: str) -> Iterator[Step]:
    """Yield the flows that a trace went through, each with all that it did, whatever came between."""
    bridge = ""
    open_: list[Step] = []
    found: list[Step] = []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if header := _BRIDGE.match(line):
            bridge = header[1]
        elif step := _STEP.fullmatch(line):
            depth = len(step[1]) + len(step[2]) - 2
            open_ = [each for each in open_ if each.depth < depth]
            open_.append(_step(bridge, int(step[2]), step[3], depth))
            found.append(open_[-1])
        elif line.strip() and indent >= _ACTIONS_AT and not line.strip().startswith("---"):
            open_ = [each for each in open_ if each.depth + _ACTIONS_AT <= indent]
            if open_:
                open_[-1].actions.append(line.strip())
    yield from found


def fate(text: str, site: Site) -> Fate:
    """Return what a trace says of the packet, in words."""
    found = Fate()
    for step in steps(text):
        if step.bridge not in (site.integration, site.tunnel):
            continue
        words = _words(step, site)
        if words:
            found.words.append(f"{step.bridge}, table {step.table}: {words}")
        _follow(step, site, found)
        if step.drops and not found.delivered and not found.tunnelled:
            found.dropped = f"dropped in table {step.table} of {step.bridge}; {words}"
    return found


def _step(bridge: str, table: int, rest: str, depth: int) -> Step:
    flow = _PRIORITY.fullmatch(rest)
    if flow is None or _NO_MATCH.fullmatch(rest):
        return Step(bridge, table, "", None, OWN.cookie, [], depth)
    cookie = int(flow["cookie"], 16) if flow["cookie"] else 0
    return Step(bridge, table, flow["match"] or "", int(flow["priority"]), cookie, [], depth)


def _follow(step: Step, site: Site, found: Fate) -> None:
    """Note who gets the packet by this step."""
    for place, action in enumerate(step.actions):
        skipped = step.actions[place + 1 : place + 2] == [_SKIPPED]
        output = _OUTPUT.fullmatch(action)
        if output and step.bridge == site.integration and not skipped and not found.answered:
            if (port := site.ports.get(int(output[1]))) is not None:
                found.delivered.append(port["port_id"])
        elif endpoint := _ENDPOINT.match(action):
            address = _address(*endpoint.groups())
            found.tunnelled.append(f"{site.hosts[address]} ({address})" if address in site.hosts else address)
        elif action == "IN_PORT" and step.table in (TUN_NEIGHBORS, TUN_ADVERTISE):
            found.answered = True
        elif any(words in action for words in _FAILED):
            found.words.append(f"{step.bridge}: the switch cannot send it there: {action.removeprefix('-> ')}")


def _words(step: Step, site: Site) -> str:
    if step.priority is not None and not step.ours:
        return f"a flow that is not portwatch's takes it ({step.match or 'any packet'}): {', '.join(step.actions)}"
    integration = step.bridge == site.integration
    if integration and step.table == INT_CLASSIFY and step.drops:
        return f"the port is not let in: {site.status}"
    if not integration and step.table == TUN_FLOOD and step.drops:
        return f"no other host to flood to: {site.unreached}"
    told = _ON_INTEGRATION if integration else _ON_TUNNEL
    return told[step.table](step) if step.table in told else ""


def _classified(step: Step) -> str:
    tag = next((each for each in step.actions if each.endswith("->vlan_vid")), None)
    if tag is None:
        return "from the tunnel bridge"
    return f"admitted, into local VLAN {int(tag.partition(':')[2].partition('->')[0]) & 0xFFF}"


def _sent_by(step: Step) -> str:
    if step.drops:
        return f"anti-spoofing: the port may not send this from this MAC and address (it met {_met(step)})"
    return "anti-spoofing: the sender's MAC and address are the port's own"


def _tells(step: Step) -> str:
    if step.drops:
        return f"anti-spoofing: the port may not tell or ask this of an address (it met {_met(step)})"
    return "anti-spoofing: what it says of addresses is its own to say"


def _claimed(step: Step) -> str:
    if "dl_dst=01:00:00:00:00:00/01" in step.match:
        return "broadcast or multicast: flooded"
    if step.drops:
        return "nobody claims this MAC, and unknown ones are dropped (ports.unknown_unicast)"
    if step.priority in (LEARNED, ANNOUNCED):
        return "the switch has learned where this MAC is"
    return "nobody claims this MAC: flooded" if step.priority == MISS else "this MAC is claimed"


def _flooded(step: Step) -> str:
    return "nobody else is in this network" if step.drops else "to all others of the network"


def _sought(step: Step) -> str:
    return "nobody is known to have this address: flooded" if step.priority == MISS else "the address is known"


_ON_INTEGRATION: Final[Mapping[int, Callable[[Step], str]]] = {
    INT_CLASSIFY: _classified,
    INT_SOURCE: _sent_by,
    INT_DISCOVERY: _tells,
    INT_DELIVER: _claimed,
    INT_FLOOD: _flooded,
}
_ON_TUNNEL: Final[Mapping[int, Callable[[Step], str]]] = {
    TUN_UNICAST: _claimed,
    TUN_NEIGHBORS: _sought,
    TUN_FLOOD: _flooded,
}


def _met(step: Step) -> str:
    return step.match or ("no flow" if step.priority is None else "the last flow of the table")


def _address(text: str, register: str) -> str:
    """Return the endpoint that was set: learned flows load it as a number."""
    if not text.startswith("0x"):
        return text
    return str(IPv6Address(int(text, 16)) if "IPV6" in register else IPv4Address(int(text, 16)))
