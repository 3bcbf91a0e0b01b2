"""Facts → findings about the agent, the peers, the MACs and the ports. Pure: each check is a function of the facts."""

from collections.abc import Iterator
from typing import Final

from portwatch.doctor.facts import Facts, Row
from portwatch.doctor.finding import FAULT, WARNING, Finding, some
from portwatch.doctor.surroundings import shares_an_address
from portwatch.fabric.moves import MOVES_MAX, QUIET, WITHIN
from portwatch.model import LocalVlan

VLANS_LEFT: Final = 400
"""Local VLANs, about a tenth, below which they count as nearly used up."""


_TODO: Final = {
    "details-missing": "Have the orchestrator write the keys (ovs-vsctl set Interface … external_ids:network-id=…), or,"
    " with ports.details = directory, portwatch directory set; `portwatch explain` shows what is there.",
    "vni-conflict": "Give one of the two networks another segmentation-id, on all hosts.",
}
"""What to do about a port that is not wired, by its reason's code…"""
_CORRECT: Final = "Correct what the reason names; `portwatch explain` tells all that is known of the port."
"""… and by any other."""


def agent(facts: Facts) -> Iterator[Finding]:
    if facts.agent.trouble is not None:
        yield Finding(
            "agent-not-running",
            FAULT,
            facts.agent.trouble,
            "What is wired goes on; no change is followed, here or elsewhere.",
            "Start it (portwatch run), or set http.listen as it has it; its log says why it ended.",
        )
    if facts.agent.reasons:
        yield Finding(
            "agent-not-ready",
            FAULT,
            "the agent waits for " + "; for ".join(_waits(facts)),
            "It goes on by itself as soon as that is there.",
            "See to that; the other findings may say how.",
        )
    if facts.agent.drained:
        yield Finding(
            "host-drained",
            WARNING,
            "this host is drained: its claims are leaving",
            "An active claim of another host comes before them, that of a port that is plugged in now, too.",
            "Take it back when the maintenance is over: portwatch drain --undo",
        )
    late = [row["network_id"] for row in facts.agent.networks if not row["complete"]]
    if late:
        yield Finding(
            "network-incomplete",
            WARNING,
            f"not all of {some(late)} has been heard",
            "Nothing is removed there until it has; new entries are not held up.",
            "`portwatch networks --json` names the hosts (incomplete_hosts). If one is dead: portwatch forget HOST.",
        )


def _waits(facts: Facts) -> Iterator[str]:
    """Yield what the agent waits for, and why: each reason once."""
    for reason in dict.fromkeys(facts.agent.reasons.values()):
        components = sorted(each for each, why in facts.agent.reasons.items() if why == reason)
        yield f"{' and '.join(components)}: {reason}"


def peers(facts: Facts) -> Iterator[Finding]:
    for row in facts.agent.peers:
        reason = row.get("reason")
        if reason and not shares_an_address(row):
            yield Finding(
                "peer-not-reached",
                WARNING,
                f"nothing is sent to {row['host']}: {reason}",
                "Its ports and this host's do not hear each other.",
                "Make both hosts agree: tunnel addresses of one IP version, one type and one VNI a network"
                " (`portwatch networks` shows who disagrees).",
            )


def fights(facts: Facts) -> Iterator[Finding]:
    frozen = [_fight(row, station) for row in facts.agent.networks for station in row.get("frozen", ())]
    if frozen:
        yield Finding(
            "mac-frozen",
            FAULT,
            f"moved more than {MOVES_MAX} times in {WITHIN / 60:g} minutes: {some(frozen)}",
            "Two hosts fight over it, or a loop brings it back. It is flooded until one claim is left, or it has been"
            f" quiet for {QUIET / 60:g} minutes.",
            "Unplug it where it does not belong: `portwatch explain MAC` shows since when each host has it,"
            " `portwatch events` what happens there.",
        )
    contested = [_fight(row, station) for row in facts.agent.networks for station in row.get("contested", ())]
    if contested:
        yield Finding(
            "mac-conflict",
            FAULT,
            f"attached here, and another host's claim would win: {some(contested)}",
            "Each of the hosts delivers to its own port; all others reach only one of the two.",
            "Unplug one: a cloned guest, or a migration whose source was left. If they share the MAC on purpose, set"
            " port-kind=shared on both.",
        )


def _fight(network: Row, station: Row) -> str:
    return f"{station['mac']} in {network['network_id']} (claimed by {', '.join(station['hosts'])})"


def ports(facts: Facts) -> Iterator[Finding]:
    for port in facts.waiting:
        code = port.reason.partition(":")[0]
        yield Finding(
            "port-without-details" if code == "details-missing" else "port-in-error",
            FAULT,
            f"{port.port} is not wired: {port.reason}",
            "It neither sends nor hears a frame.",
            _TODO.get(code, _CORRECT),
        )
    if facts.orphans:
        gone = some([_orphan(each.name, each.error) for each in facts.orphans])
        yield Finding(
            "orphaned-interface",
            WARNING,
            f"the device is gone and its row is left: {gone}",
            "The port is not there, whatever OVSDB says; thousands of such rows slow ovs-vswitchd down.",
            f"ovs-vsctl del-port {facts.config.bridges.integration} NAME, when its VM is really gone.",
        )
    left = LocalVlan.HIGHEST - facts.vlans_used
    if left < VLANS_LEFT:
        yield Finding(
            "vlans-nearly-used-up",
            WARNING,
            f"{left} of {LocalVlan.HIGHEST} local VLANs are left",
            "A host has one for each network that has a port here; the next networks' ports would get ERROR.",
            "Place the VMs of new networks on other hosts.",
        )


def spoofers(facts: Facts) -> Iterator[Finding]:
    for spoofer in facts.spoofers:
        yield Finding(
            "port-spoofs",
            WARNING,
            f"{spoofer.port} sent {spoofer.frames} frames in {spoofer.seconds:.0f} s from a MAC or an address that is"
            " not its own",
            "They are dropped here. Its VM has addresses that nobody told of, bridges or routes for others, or forges.",
            f"See from which: tcpdump -nnei {spoofer.device}; and what it may send from: `portwatch explain"
            f" {spoofer.port}`. Its own, rightly? Add it (fixed-ips, allowed-address-pairs). If not, see to the VM.",
        )


def _orphan(name: str, error: str | None) -> str:
    return f"{name} ({error})" if error else name
