"""Facts → findings about all around the agent: Open vSwitch, this host, the bus. Pure: each check is of the facts."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from portwatch.config import MemoryBus
from portwatch.doctor.facts import Bridge, Facts, Row
from portwatch.doctor.finding import FAULT, WARNING, Finding, some
from portwatch.fabric.unreached import ANOTHERS_ADDRESS, OWN_ADDRESS

FAR_OFF: Final = 5.0
"""Seconds by which a clock is far off: `seq`, which decides between two claims, is a time of day."""


# --- Open vSwitch ------------------------------------------------------------------------------------------------


def ovsdb(facts: Facts) -> Iterator[Finding]:
    if facts.ovsdb_trouble is not None:
        yield Finding(
            "ovsdb-unreachable",
            FAULT,
            f"no answer from OVSDB: {facts.ovsdb_trouble}",
            "No port is seen; what is wired already goes on as it is.",
            "Start Open vSwitch (systemctl start openvswitch-switch), or mend ovsdb.remote; run portwatch as root or"
            " as a member of the group that owns the socket.",
        )


def bridges(facts: Facts) -> Iterator[Finding]:
    for bridge in facts.bridges:
        if not bridge.exists:
            yield Finding(
                "bridge-missing",
                FAULT,
                f"there is no bridge {bridge.name}",
                "No port can be plugged in, or none reaches another host.",
                "portwatch run makes it; if it runs, its log says why it could not. If the bridge has another name"
                " here, set bridges.integration or bridges.tunnel.",
            )
        elif bridge.protocols and "OpenFlow15" not in bridge.protocols:
            yield Finding(
                "openflow-version",
                FAULT,
                f"{bridge.name} speaks {', '.join(sorted(bridge.protocols))}, and not OpenFlow15",
                "portwatch cannot program it.",
                f"ovs-vsctl add bridge {bridge.name} protocols OpenFlow15",
            )
        elif bridge.trouble is not None:
            yield Finding(
                "switch-unreachable",
                FAULT,
                f"the switch does not answer for {bridge.name}: {bridge.trouble}",
                "Nothing can be programmed.",
                "Start ovs-vswitchd (systemctl start openvswitch-switch), or mend openflow.rundir.",
            )


def others_on_the_bridges(facts: Facts) -> Iterator[Finding]:
    for bridge in facts.bridges:
        if bridge.controllers:
            yield Finding(
                "foreign-controller",
                FAULT,
                f"{bridge.name} has an OpenFlow controller: {', '.join(bridge.controllers)}",
                "Two programs write its flows. Neutron's agent sets one (tcp:127.0.0.1:6633).",
                f"Stop and disable the other program, then: ovs-vsctl del-controller {bridge.name}. Open vSwitch"
                " empties the bridge at that, and portwatch fills it again at once.",
            )
        if bridge.strangers:
            yield _strangers(bridge)


def _strangers(bridge: Bridge) -> Finding:
    cookies = Counter(flow.cookie for flow in bridge.strangers)
    (cookie, number), *_ = cookies.most_common(1)
    return Finding(
        "foreign-flows",
        FAULT,
        f"{bridge.name} has {len(bridge.strangers)} flows of others in portwatch's tables; {number} have the cookie"
        f" {cookie:#x}, such as {next(flow.text() for flow in bridge.strangers if flow.cookie == cookie)}",
        "Packets may go another way than portwatch says; `portwatch trace` shows which.",
        "Find out whose they are (Neutron's agent: neutron-openvswitch-agent), stop and disable it, then: ovs-ofctl -O"
        f" OpenFlow15 del-flows {bridge.name} cookie={cookie:#x}/-1",
    )


# --- this host ---------------------------------------------------------------------------------------------------


def tunnel_address(facts: Facts) -> Iterator[Finding]:
    if facts.local_ip_here is False:
        yield Finding(
            "tunnel-address-not-here",
            FAULT,
            f"tunnel.local_ip = {facts.config.tunnel.local_ip} is no address of this host",
            "Other hosts send here and nobody listens; what this host sends has a wrong sender and is dropped.",
            "Give the address to an interface (ip address add …), or set tunnel.local_ip to one of this host's.",
        )
    if facts.config.tunnel.local_ip is None and not isinstance(facts.config.bus.url, MemoryBus):
        yield Finding(
            "no-tunnel-address",
            WARNING,
            "no tunnel address is configured: tunnel.local_ip is not set",
            "Nothing is tunnelled: the other hosts hear of this one's ports, and cannot send them a frame.",
            "Set tunnel.local_ip to an address of this host that the other hosts reach.",
        )


def paths(facts: Facts) -> Iterator[Finding]:
    small = [path for path in facts.paths if path.least and not path.full]
    if small:
        needed = max(path.needed for path in small)
        yield Finding(
            "path-mtu",
            FAULT,
            f"packets of {needed} bytes do not get through to {some([path.host for path in small])}",
            "VMs can ping and connect, and large transfers hang: tunnelled frames are not fragmented.",
            f"Raise the MTU of the underlay to at least {needed} on every interface and switch of the way, or lower the"
            " MTU of the VMs by as much as is missing.",
        )
    silent = [path for path in facts.paths if not path.least]
    if silent:
        yield Finding(
            "peer-silent",
            WARNING,
            f"no echo from the tunnel address of {some([f'{path.host} ({path.endpoint})' for path in silent])}",
            "The host is down, the underlay does not carry packets to it, or it answers no pings.",
            "ping it from this host; then look at routes and firewalls between the two (UDP 4789 for vxlan, 6081 for"
            " geneve, IP protocol 47 for gre).",
        )


def clock(facts: Facts) -> Iterator[Finding]:
    late = {row["host"]: row["clock"] for row in facts.agent.peers if (row.get("clock") or 0.0) > FAR_OFF}
    early = {**facts.bus.ahead} if facts.bus else {}
    early |= {row["host"]: -row["clock"] for row in facts.agent.peers if (row.get("clock") or 0.0) < -FAR_OFF}
    apart = [f"{host} is {seconds:.0f} s ahead of this one" for host, seconds in sorted(early.items())]
    apart += [f"{host} is {seconds:.0f} s behind this one" for host, seconds in sorted(late.items())]
    if apart:
        yield Finding(
            "clock-off",
            FAULT,
            f"clocks differ: {some(apart)}",
            "Of two claims of one port the one with the later time may win for years, whoever attached it last.",
            "Let chrony or systemd-timesyncd run on all hosts (timedatectl shows it); then restart portwatch where the"
            " clock was wrong.",
        )
    elif facts.clock_disciplined is False:
        yield Finding(
            "clock-unsynchronised",
            WARNING,
            "nothing keeps this host's clock right",
            "A clock that is off lets a wrong host win a port that two claim.",
            "Let chrony or systemd-timesyncd run (timedatectl shows it).",
        )


# --- the bus -----------------------------------------------------------------------------------------------------


def bus(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.config.bus.url, MemoryBus):
        yield Finding(
            "no-broker",
            WARNING,
            "no broker is configured: bus.url = memory://",
            "This host is alone: its ports are wired among themselves, and no other host hears of them.",
            "Set bus.url, and tunnel.local_ip, if there are other hosts. A host that shall be alone is well as it is.",
        )
    if facts.bus is None:
        return
    if facts.bus.trouble is not None:
        yield Finding(
            "broker-unreachable",
            FAULT,
            f"no connection to the broker: {facts.bus.trouble}",
            "Ports here are wired among themselves; nothing new is heard from other hosts, nor they from this one.",
            "Start the broker, or mend bus.url, bus.username, bus.password_file and the certificates.",
        )
    if facts.bus.forbidden:
        yield Finding(
            "broker-forbids",
            FAULT,
            some(facts.bus.forbidden),
            "The broker's access list keeps this host from speaking, or from hearing.",
            "Let its user write ports/+/HOST/+, manifests/+/HOST and hosts/HOST below the prefix, and read all of it"
            f" ({facts.config.bus.prefix}/#); HOST is {facts.host}.",
        )
    elif facts.bus.told < facts.bus.stated or facts.bus.choked is not None:  # what is forbidden is missing, too
        told = f"the broker told {facts.bus.told} of {facts.bus.stated} retained port events"
        choked = f"the broker told {facts.bus.choked} retained messages and never answered the subscription"
        yield Finding(
            "broker-drops",
            FAULT,
            told if facts.bus.choked is None else choked,
            "Its queue limits are too small for the retained set (mosquitto's own keep about 1,000), or a host has not"
            " said all: networks stay incomplete.",
            "mosquitto: max_queued_messages 1000000 (a number, not 0), then restart it; `portwatch networks` shows when"
            " they are complete.",
        )


def identity(facts: Facts) -> Iterator[Finding]:
    if facts.bus is not None and facts.bus.namesake is not None:
        yield Finding(
            "host-name-taken",
            FAULT,
            f"another living agent has the name {facts.host} on the bus: {facts.bus.namesake}",
            "An agent here ends with status 3: two of one name would undo each other's words.",
            "Give this host a name of its own (key host), or stop the other agent.",
        )
    doubles = [f"{host} {OWN_ADDRESS}" for host in (facts.bus.doubles if facts.bus else ())]
    doubles += [row["reason"] for row in facts.agent.peers if shares_an_address(row)]
    if doubles:
        yield Finding(
            "tunnel-address-taken",
            FAULT,
            some(doubles),
            "Packets for the one reach the other; the claims of whoever came later are ignored.",
            "Give each host an address of its own (tunnel.local_ip).",
        )


def shares_an_address(row: Row) -> bool:
    """Is this what keeps a peer apart: that two hosts have one tunnel address?"""
    return any(words in (row.get("reason") or "") for words in (OWN_ADDRESS, ANOTHERS_ADDRESS))
