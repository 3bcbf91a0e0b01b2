"""The facts in which stories end: who hears whom, who is answered, what stands on the bus, what is reported."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import permutations

from portwatch.fabric.claims import Rule
from portwatch.fabric.unreached import disagreements
from portwatch.model import Mac, Port, PortId, link_local
from tests.core.fleet import INT, PREFIX, Fleet, a_port
from tests.core.stories.story import Fact, apart
from tests.core.switch import BROADCAST, PRESENT, Frame

UNKNOWN_MAC = "fa:16:3e:99:99:99"
SOLICITED, OVERRIDE, ROUTER = 0x4000_0000, 0x2000_0000, 0x8000_0000
"""The flags of a neighbour advertisement (RFC 4861, 4.4)."""

# --- frames ------------------------------------------------------------------------------------------------------


def a_frame(sender: Port, to: str, source: str | None = None, **changes: object) -> Frame:
    """Return an IP packet to the MAC *to*, from the sender's first address or from *source*."""
    address = source or (str(sender.fixed_ips[0]) if sender.fixed_ips else "")
    kind = "ipv6" if ":" in address else "ip"
    frame = Frame(str(sender.mac), to, kind=kind, ip_src=address)
    return replace(frame, **changes)  # type: ignore[arg-type]  # builders are called with the right types


def a_question(sender: Port, address: str, says: str | None = None) -> Frame:
    """Return the ARP request, or neighbour solicitation, for *address*; the sender *says* who it is."""
    asker = str(sender.mac)
    wanted = ip_address(address)
    if isinstance(wanted, IPv4Address):
        own = next((str(each) for each in sender.fixed_ips if isinstance(each, IPv4Address)), "0.0.0.0")
        request = Frame(asker, BROADCAST, kind="arp", arp_op=1, arp_sha=asker, arp_tpa=address)
        return replace(request, arp_spa=own if says is None else says)
    tail = f"{int(wanted) & 0xFFFFFF:06x}"
    group = "33:33:ff:" + ":".join(tail[place : place + 2] for place in (0, 2, 4))
    own = str(link_local(Mac(asker))) if says is None else says
    to = str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(tail, 16)))
    known = Frame(asker, group, kind="icmp6", icmp_type=135, ip_src=own, ip_dst=to, nd_target=address)
    return known if own == "::" else replace(known, nd_sll=asker)


def is_question(frame: Frame) -> bool:
    return frame.arp_op == 1 or frame.icmp_type == 135


def sent(fleet: Fleet, sender: str, frame: Frame) -> tuple[list[tuple[str, Frame]], list[str]]:
    """Let *sender* send; return who heard what, and through which tunnels it went, from host to host."""
    before = len(fleet.copies)
    heard = fleet.send(sender, frame)
    names = sorted(name for name, _ in heard)
    assert len(set(names)) == len(names), f"{names} heard twice what {sender} sent: {frame}"
    return heard, sorted(f"{here} to {there}" for here, there in fleet.copies[before:])


def hearers(fleet: Fleet, sender: str, frame: Frame) -> set[str]:
    heard, _ = sent(fleet, sender, frame)
    return {name for name, _ in heard}


def the_port(fleet: Fleet, place: str) -> Port:
    """Return a port as its guest believes it to be: it has the addresses that the orchestrator gave it."""
    host, name = apart(place)
    port = fleet[host].port(name)
    if not fleet.details_come_from_the_bus:
        return port
    details = fleet.directory.get(name)
    return replace(port, fixed_ips=details.fixed_ips if details else a_port(name).fixed_ips)


# --- who hears whom ----------------------------------------------------------------------------------------------


def talk(*places: str) -> Fact:
    """These ports are a network of their own.

    What one sends to all, the others hear and nobody else, by one copy to each of their hosts; what one sends to
    another, that one hears alone, by at most one copy.
    """

    def holds(fleet: Fleet) -> None:
        for sender in places:
            port, (here, _) = the_port(fleet, sender), apart(sender)
            heard, copies = sent(fleet, sender, a_frame(port, BROADCAST))
            assert {name for name, _ in heard} == {*places} - {sender}, f"who hears what {sender} sends to all"
            hosts = {apart(place)[0] for place in places} - {here}
            assert copies == sorted(f"{here} to {host}" for host in hosts), f"copies of what {sender} sends to all"
        for sender, receiver in permutations(places, 2):
            (here, _), (there, _) = apart(sender), apart(receiver)
            frame = a_frame(the_port(fleet, sender), str(the_port(fleet, receiver).mac))
            heard, copies = sent(fleet, sender, frame)
            assert {name for name, _ in heard} == {receiver}, f"who hears what {sender} sends to {receiver}"
            assert all(each == frame for _, each in heard), f"what {receiver} hears of {sender}"
            assert copies == ([] if here == there else [f"{here} to {there}"]), f"copies from {sender} to {receiver}"

    return holds


def heard_by(sender: str, to: str, *places: str) -> Fact:
    """What *sender* sends to the MAC *to* these ports hear, and nobody else."""

    def holds(fleet: Fleet) -> None:
        found = hearers(fleet, sender, a_frame(the_port(fleet, sender), to))
        assert found == {*places}, f"who hears what {sender} sends to {to}"

    return holds


def to_all(sender: str, *places: str) -> Fact:
    """What *sender* broadcasts these ports hear, and nobody else."""
    return heard_by(sender, BROADCAST, *places)


def to_unknown(sender: str, *places: str) -> Fact:
    """What *sender* sends to a MAC that nobody has these ports hear, and nobody else."""
    return heard_by(sender, UNKNOWN_MAC, *places)


def cut_off(*places: str) -> Fact:
    """These ports are plugged in and not wired: nobody hears a thing of what they send."""

    def holds(fleet: Fleet) -> None:
        for place in places:
            port = the_port(fleet, place)
            sender = port if port.mac else a_port(port.port_id)
            for to in (BROADCAST, UNKNOWN_MAC, *(str(a_port(name).mac) for name in ("p1", "p2", "p3"))):
                assert not hearers(fleet, place, a_frame(sender, to)), f"{place} is heard, sending to {to}"

    return holds


def copies(sender: str, to: str, *hosts: str) -> Fact:
    """What *sender* sends to the MAC *to* goes through the tunnels to these hosts, once to each."""

    def holds(fleet: Fleet) -> None:
        _, found = sent(fleet, sender, a_frame(the_port(fleet, sender), to))
        here, _ = apart(sender)
        assert found == sorted(f"{here} to {host}" for host in hosts), f"copies of what {sender} sends to {to}"

    return holds


def arrives(sender: str, name: str, to: str | None = None) -> Fact:
    """What *sender* sends to a port is heard by it, somewhere, whoever else may hear it."""

    def holds(fleet: Fleet) -> None:
        found = hearers(fleet, sender, a_frame(the_port(fleet, sender), to or str(a_port(name).mac)))
        assert any(place.endswith(f"/{name}") for place in found), f"{sender} reaches {name} nowhere, but {found}"

    return holds


def learned(speaker: str, asker: str, *places: str) -> Fact:
    """Once *speaker* has broadcast something, what *asker* sends to its MAC these ports hear, and nobody else."""

    def holds(fleet: Fleet) -> None:
        port = the_port(fleet, speaker)
        sent(fleet, speaker, a_frame(port, BROADCAST))
        found = hearers(fleet, asker, a_frame(the_port(fleet, asker), str(port.mac)))
        assert found == {*places}, f"who hears what {asker} sends to where {speaker} has spoken"

    return holds


# --- who is answered ---------------------------------------------------------------------------------------------


def answered(asker: str, address: str, by: str, *, says: str | None = None, router: bool = False) -> Fact:
    """Who asks for *address* is answered at once, with the MAC *by*, and no tunnel carries the question."""

    def holds(fleet: Fleet) -> None:
        port = the_port(fleet, asker)
        heard, carried = sent(fleet, asker, a_question(port, address, says))
        answers = [(name, frame) for name, frame in heard if not is_question(frame)]
        assert [name for name, _ in answers] == [asker], f"who is answered when {asker} asks for {address}"
        assert not carried, f"the question of {asker} for {address} went {carried}"
        answer = answers[0][1]
        assert (answer.src, answer.dst) == (by, str(port.mac)), f"the frame in which {address} is told"
        if answer.kind == "arp":
            assert (answer.arp_op, answer.arp_sha, answer.arp_spa) == (2, by, address)
        elif says == "::":
            assert (answer.icmp_type, answer.nd_target, answer.ip_dst) == (136, address, "ff02::1")
        else:
            flags = SOLICITED | OVERRIDE | (ROUTER if router else 0)
            assert (answer.icmp_type, answer.nd_target, answer.ip_src) == (136, address, address)
            assert (answer.nd_tll, answer.nd_reserved, answer.nd_sll) == (by, flags, "00:00:00:00:00:00")

    return holds


def asked_of(asker: str, address: str, *places: str, says: str | None = None) -> Fact:
    """Nobody answers for *address*: the question goes to these ports, and to nobody else."""

    def holds(fleet: Fleet) -> None:
        heard, _ = sent(fleet, asker, a_question(the_port(fleet, asker), address, says))
        assert all(is_question(frame) for _, frame in heard), f"{asker} was answered for {address}"
        assert {name for name, _ in heard} == {*places}, f"who is asked when {asker} asks for {address}"

    return holds


# --- what a port may send ----------------------------------------------------------------------------------------


def passes(sender: str, source: str, by: str | None = None) -> Fact:
    """A packet of *sender* from the address *source* (and the MAC *by*) is heard by somebody."""
    return lambda fleet: _checked(fleet, sender, source, by, passes=True)


def dropped(sender: str, source: str, by: str | None = None) -> Fact:
    """A packet of *sender* from the address *source* (and the MAC *by*) is heard by nobody."""
    return lambda fleet: _checked(fleet, sender, source, by, passes=False)


def _checked(fleet: Fleet, sender: str, source: str, by: str | None, *, passes: bool) -> None:
    port = the_port(fleet, sender)
    speaker = replace(port, mac=Mac(by)) if by else port
    speaks = str(speaker.mac)
    if ":" in source:
        to_all_nodes = {"icmp_type": 136, "ip_dst": "ff02::1", "nd_target": source, "nd_tll": speaks}
        tells = a_frame(speaker, "33:33:00:00:00:01", source, **{**to_all_nodes, "kind": "icmp6"})
    else:
        tells = a_frame(speaker, BROADCAST, kind="arp", ip_src="", arp_op=2, arp_sha=speaks, arp_spa=source)
    for frame in (a_frame(speaker, BROADCAST, source), tells):
        found = hearers(fleet, sender, frame)
        assert bool(found) is passes, f"{found} heard what {sender} sent as {speaks} from {source}: {frame}"


# --- what stands on the bus, and on the rows ---------------------------------------------------------------------


def said(place: str, status: str, reason: str = "", **fields: object) -> Fact:
    """The port stands on the bus once, with this status, a reason that begins so, and these fields."""

    def holds(fleet: Fleet) -> None:
        found = _retained(fleet, place)
        assert len(found) == 1, f"{place} stands on the bus as {sorted(found)}"
        (claim,) = found.values()
        assert claim["status"] == status, f"{place}: {claim['status']} {claim.get('reason')}"
        assert str(claim.get("reason") or "").startswith(reason), f"{place}: {claim.get('reason')}"
        assert bool(claim.get("reason")) is bool(reason), f"{place}: {claim.get('reason')}"
        assert {name: claim[name] for name in fields} == fields, f"{place}: {claim}"

    return holds


def active(*places: str) -> Fact:
    """These ports stand on the bus as ACTIVE, and their rows remember that, and the tag that their frames get."""

    def holds(fleet: Fleet) -> None:
        for place in places:
            said(place, "ACTIVE")(fleet)
            host, name = apart(place)
            row, (claim,) = fleet[host].rows[name], _retained(fleet, place).values()
            assert (row.installed, row.network_id) == (True, claim["network_id"]), f"{place}: {row}"
            assert row.tag == _tag_given(fleet, place), f"{place}: {row}"

    return holds


def gone(*places: str) -> Fact:
    """Nothing stands on the bus of these ports."""

    def holds(fleet: Fleet) -> None:
        for place in places:
            assert not _retained(fleet, place), f"{place} stands on the bus"

    return holds


def row(place: str, *, installed: bool) -> Fact:
    """The port's row remembers whether its flows are committed."""

    def holds(fleet: Fleet) -> None:
        host, name = apart(place)
        assert fleet[host].rows[name].installed is installed, f"{place}: {fleet[host].rows[name]}"

    return holds


def later(place: str, than: str) -> Fact:
    """The one was attached later than the other: so it says itself."""

    def holds(fleet: Fleet) -> None:
        one, other = (int(str(claim["seq"])) for each in (place, than) for claim in _retained(fleet, each).values())
        assert one > other, f"{place} since {one}, {than} since {other}"

    return holds


def _retained(fleet: Fleet, place: str) -> dict[str, dict[str, object]]:
    host, name = apart(place)
    head, tail = f"{PREFIX}/ports/", f"/{host}/{name}"
    return {
        topic: json.loads(text)["data"]
        for topic, text in fleet.retained.items()
        if topic.startswith(head) and topic.endswith(tail)
    }


def _tag_given(fleet: Fleet, place: str) -> int | None:
    """Return the tag that the switch gives to what comes from a port."""
    host, name = apart(place)
    _, ofport = fleet[host].plugged[name]
    for flow in fleet[host].bridges[INT].flows.values():
        if f"in_port={ofport}" in flow.key.match and flow.table == 0:
            tags = [action for action in flow.actions if action.endswith("->vlan_vid")]
            return int(tags[0].removeprefix("set_field:").removesuffix("->vlan_vid")) - PRESENT
    return None


# --- what a host holds, and reports ------------------------------------------------------------------------------


def accepts(host: str, *peers: str) -> Fact:
    """The host takes tunnelled packets from these hosts only."""

    def holds(fleet: Fleet) -> None:
        assert fleet[host].peers() == {*peers}, f"whose packets {host} accepts"

    return holds


def holds_nothing(host: str) -> Fact:
    """The host's switch holds what it holds where nothing is plugged in, and the host knows of nobody."""

    def holds(fleet: Fleet) -> None:
        like = {1: fleet[host].endpoint}
        empty = Fleet(1, fleet.policy, like, checked=True, ports=fleet.ports)["hv1"].flows()
        assert fleet[host].flows() == empty, f"{host} holds what nobody there needs"
        assert not fleet[host].reactor.fabric.heard.claims, f"{host} knows of others' ports"

    return holds


def contested(host: str, name: str, *, is_so: bool = True) -> Fact:
    """The host reports that a port of its own belongs to another host, too."""

    def holds(fleet: Fleet) -> None:
        port = fleet[host].port(name)
        assert port.segment is not None
        assert port.mac is not None
        found = fleet[host].reactor.fabric.verdict(port.segment, port.mac).contested
        assert found is is_so, f"does {host} report a conflict over {name}?"

    return holds


def decided(host: str, name: str, rule: Rule) -> Fact:
    """The host says by which rule it knows where a port is."""

    def holds(fleet: Fleet) -> None:
        ports = [each.plugged[PortId(name)][0] for each in fleet.hosts.values() if PortId(name) in each.plugged]
        segment, station = ports[0].segment, ports[0].mac
        assert segment is not None
        assert station is not None
        assert fleet[host].reactor.fabric.verdict(segment, station).rule is rule

    return holds


def disagree(host: str, *others: str) -> Fact:
    """The host reports that these call a network of its own by another type or VNI."""

    def holds(fleet: Fleet) -> None:
        found = disagreements(fleet[host].reactor.fabric).values()
        assert {name for names in found for name in names} == {*others}, f"who disagrees with {host}"

    return holds


def incomplete(host: str, **networks: str) -> Fact:
    """The host reports these networks as incomplete, and whose share it is: `incomplete("hv1", blue="hv2")`."""

    def holds(fleet: Fleet) -> None:
        found = fleet[host].reactor.snapshots.incomplete(fleet.clock)
        assert {str(name): " ".join(hosts) for name, hosts in found.items()} == networks

    return holds


def not_frozen(host: str, name: str) -> Fact:
    return lambda fleet: _frozen(fleet, host, name, is_so=False)


def frozen(host: str, name: str) -> Fact:
    """The host reports that a port has moved too often."""
    return lambda fleet: _frozen(fleet, host, name, is_so=True)


def _frozen(fleet: Fleet, host: str, name: str, *, is_so: bool) -> None:
    stations = {station for _, station in fleet[host].reactor.fabric.moves.frozen}
    assert (a_port(name).mac in stations) is is_so, f"is {name} frozen on {host}?"
