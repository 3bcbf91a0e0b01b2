"""What the agent knows, as plain data for `/v1` and the commands: one function for each question. Reads only."""

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from portwatch import __version__
from portwatch.agent import Agent
from portwatch.entries import View, entry_of, fdb, not_mixed_in, segments
from portwatch.events import OFFLINE, ClaimKey
from portwatch.fabric.claims import Rule
from portwatch.fabric.keys import Key, Neighbor, Unicast, Wire
from portwatch.fabric.pipeline import Bridge
from portwatch.fabric.unreached import disagreements
from portwatch.model import IpAddress, PortId, Segment
from portwatch.openflow.flow import Flow

__all__ = ["audit", "convergence", "explain", "fdb", "flows", "host", "metrics", "networks", "peers", "ports"]


def host(agent: Agent) -> View:
    """Return who this agent is, and whether it has been drained."""
    identity = agent.identity
    return {
        "host": identity.host,
        "session": identity.session,
        "tunnel_ip": str(identity.endpoint) if identity.endpoint else None,
        "tunnel_type": agent.config.tunnel.type,
        "version": __version__,
        "started_at": agent.exchange.started_at.isoformat(),
        "leaving": agent.reactor.leaving,
    }


def convergence(agent: Agent) -> list[View]:
    """Return how long the latest news took, by stage, the oldest first."""
    return [
        {
            "time": timing.time.isoformat(timespec="milliseconds"),
            "stage": timing.stage,
            "network_id": timing.claim[0],
            "host": timing.claim[1],
            "port_id": timing.claim[2],
            "seconds": round(timing.seconds, 6),
        }
        for timing in agent.convergence.latest
    ]


def ports(agent: Agent) -> list[View]:
    """Return this host's ports, those that cannot be published among them."""
    reactor, picture = agent.reactor, agent.picture
    rows = []
    for port_id, plug in sorted(reactor.plugs.items()):
        claim = reactor.announcer.claims.get(port_id)
        interface = picture.interface(port_id)
        segment = plug.port.segment
        problem = reactor.fabric.problem(port_id)
        wired = segment is not None and problem is None
        rows.append(
            {
                "port_id": port_id,
                "interface": interface.name if interface else None,
                "ofport": int(plug.ofport),
                "status": claim.status if claim else "BUILD",
                "reason": (claim.reason if claim else None) or problem,
                "state": plug.port.state,
                "network_id": plug.port.network_id,
                "network_type": plug.port.network_type,
                "segmentation_id": plug.port.segmentation_id,
                "local_vlan": reactor.fabric.vlans.of.get(segment) if wired and segment else None,
                "mac": plug.port.mac,
                "fixed_ips": [str(address) for address in plug.port.fixed_ips],
                "device_owner": plug.port.device_owner,
                "kind": plug.port.kind,
                "seq": claim.seq if claim else None,
                "revision": claim.revision if claim else None,
            }
        )
    rows.extend(
        {"port_id": None, "interface": unfit.interface, "status": "ERROR", "reason": unfit.reason}
        for unfit in picture.unfit.values()
    )
    return rows


def networks(agent: Agent) -> list[View]:
    """Return the networks that have a port here."""
    fabric, snapshots = agent.reactor.fabric, agent.reactor.snapshots
    late = snapshots.incomplete(agent.clock())
    apart = disagreements(fabric)
    rows = []
    for network_id in sorted(fabric.networks):
        segments = [segment for segment in fabric.vlans.of if segment.network_id == network_id]
        others = sorted(Counter(claim.host for claim in fabric.heard.of_network(network_id)).items())
        tunnelled = (each for each in segments if each.network_type.tunnelled)
        endpoints = {str(endpoint) for each in tunnelled for endpoint in fabric.segments[each].members}
        rows.append(
            {
                "network_id": network_id,
                "segments": [
                    {"type": each.network_type, "id": each.vni, "local_vlan": fabric.vlans.of[each]}
                    for each in segments
                ],
                "hosts": {fabric.host: sum(len(fabric.segments[each].wired) for each in segments), **dict(others)},
                "local_ports": sum(len(fabric.segments[each].wired) for each in segments),
                "remote_ports": sum(1 for _ in fabric.heard.of_network(network_id)),
                "peers": sorted(endpoints),
                "complete": network_id not in late,
                "settled": snapshots.settled(network_id),
                "incomplete_hosts": sorted(late.get(network_id, ())),
                "disagreeing": [
                    {"host": host, "type": each.network_type, "id": each.vni}
                    for each, hosts in apart.items()
                    for host in sorted(hosts)
                    if each.network_id == network_id
                ],
                **_fights(agent, segments),
            }
        )
    return rows


def _fights(agent: Agent, segments: Sequence[Segment]) -> dict[str, list[View]]:
    """Return the MACs that hosts fight over, and who claims them.

    `frozen`: it moved too often. `contested`: it is attached here, and another host's claim would win.
    """
    fabric = agent.reactor.fabric
    found: dict[str, list[View]] = {"frozen": [], "contested": []}
    for segment in segments:
        stations = fabric.segments[segment].stations
        for mac in sorted(mac for mac, claims in stations.items() if len(claims) > 1):
            station = {"mac": mac, "hosts": sorted({claim.host for claim in stations[mac].values()})}
            verdict = fabric.verdict(segment, mac)
            if verdict.rule is Rule.FROZEN:
                found["frozen"].append(station)
            elif verdict.contested:
                found["contested"].append(station)
    return found


def peers(agent: Agent) -> list[View]:
    """Return the other hosts that share a network with this one."""
    reactor = agent.reactor
    claims = reactor.fabric.heard.claims.values()
    endpoints = {claim.host: claim.tunnel_ip for claim in claims}
    reasons = {claim.host: words for claim in claims if (words := not_mixed_in(agent, claim))}
    rows = []
    for host, number in sorted(reactor.fabric.heard.hosts.items()):
        status = reactor.presence.hosts.get(host)
        endpoint = endpoints.get(host)
        rows.append(
            {
                "host": host,
                "state": status.state if status else None,
                "tunnel_ip": str(endpoint) if endpoint else None,
                "version": status.version if status else None,
                "ports": number,
                "clock": agent.exchange.hearing.clocks.get(host),
                "reason": reasons.get(host),
            }
        )
    return rows


def flows(agent: Agent) -> list[View]:
    """Return every flow and group that is wanted or installed, and whether the one equals the other."""
    names = {Bridge.INTEGRATION: agent.config.bridges.integration, Bridge.TUNNEL: agent.config.bridges.tunnel}
    rows = []
    for bridge, ledger in agent.reactor.ledgers.items():
        for key in sorted(ledger.wanted.keys() | ledger.installed.keys(), key=str):
            want, have = ledger.wanted.get(key), ledger.installed.get(key)
            item = want or have
            assert item is not None
            state = (
                "installed" if want == have else "owed" if have is None else "leaving" if want is None else "changing"
            )
            if key in ledger.refused:
                state = f"refused: {ledger.refused[key][1]}"
            kind = "flow" if isinstance(item, Flow) else "group"
            rows.append(
                {
                    "bridge": names[bridge],
                    "kind": kind,
                    "state": state,
                    "text": item.text(),
                    "wanted": want.text() if want else None,
                    "installed": have.text() if have else None,
                }
            )
    return rows


def audit(agent: Agent) -> View:
    """Compare the incremental result with a full recompute, and what is installed with what is wanted."""
    reactor = agent.reactor
    whole = reactor.planner.recomputed()
    differing = [
        str(key)
        for bridge, ledger in reactor.ledgers.items()
        for key in ledger.wanted.keys() | whole[bridge].keys()
        if ledger.wanted.get(key) != whole[bridge].get(key)
    ]
    ledgers = reactor.ledgers.values()
    return {
        "recompute_differs": [] if reactor.unplanned else sorted(differing),
        "settled": not reactor.unplanned and all(ledger.settled for ledger in ledgers),
        "spared": [item.text() for ledger in ledgers for item in ledger.spared],
        "refused": sum(len(ledger.refused) for ledger in ledgers),
    }


def explain(agent: Agent, name: str) -> list[View]:
    """Return all that is known of a port id, an interface, a MAC or an address; empty when nothing is."""
    rows = ports(agent)
    address = _address(name)
    found = []
    for segment, view in segments(agent, None):
        for mac, claims in view.stations.items():
            named = {claim.port.port_id for claim in claims.values()}
            addresses = {each for claim in claims.values() for each in claim.port.fixed_ips}
            if name.lower() == mac or address in addresses or name in named or name in _interfaces(rows, named):
                here = next((_described(agent, row) for row in rows if row["port_id"] in named), None)
                keys: list[Key] = [Unicast(segment, mac), *(Neighbor(segment, each) for each in addresses)]
                keys += [Wire(port_id) for port_id in named if port_id in agent.reactor.plugs]
                entry = {**entry_of(agent, segment, mac, view), "port": here, "flows": _flows_of(agent, keys)}
                for claim in entry["claims"]:
                    claim.update(_applied(agent, (segment.network_id, claim["host"], claim["port_id"])))
                found.append(entry)
    told = {entry["port"]["port_id"] for entry in found if entry["port"]}
    unfit = {each.interface for each in agent.picture.unfit.values() if {name, name.lower()} & each.names}
    waiting = [
        row
        for row in rows
        if name in (row["port_id"], row["interface"]) or name.lower() == row.get("mac") or row["interface"] in unfit
    ]
    for row in waiting:
        if row["port_id"] not in told:
            wire = [Wire(row["port_id"])] if row["port_id"] else []
            found.append({"port": _described(agent, row), "claims": [], "flows": _flows_of(agent, wire)})
    for interface, reason in agent.picture.portless(name):
        keys_there = dict(sorted(interface.external_ids.items()))
        no_port = {"name": interface.name, "reason": reason, "ovsdb": keys_there}
        found.append({"interface": no_port, "claims": [], "flows": []})
    return found


def _address(text: str) -> IpAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _applied(agent: Agent, key: ClaimKey) -> View:
    """Return when the latest news of a claim was committed here, and after how long, if that is still remembered."""
    timings = reversed(agent.convergence.latest)
    last = next((each for each in timings if each.claim == key and each.stage != "published"), None)
    if last is None:
        return {"applied": None, "took": None}
    return {"applied": last.time.isoformat(timespec="milliseconds"), "took": round(last.seconds, 4)}


def _described(agent: Agent, row: View) -> View:
    """Return a port of this host with what OVSDB says of it, and which details are missing."""
    port_id = row["port_id"]
    plug, interface = agent.reactor.plugs.get(port_id), agent.picture.interface(port_id)
    keys = sorted(interface.external_ids.items()) if interface else []
    missing = plug.port.missing if plug and not plug.port.fault else ()  # what is wrong is there, and told as wrong
    return {**row, "ovsdb": dict(keys), "missing": list(missing)}


def _interfaces(rows: list[View], named: set[PortId]) -> set[str]:
    return {row["interface"] for row in rows if row["port_id"] in named}


def _flows_of(agent: Agent, keys: Sequence[Key]) -> list[View]:
    return [
        {
            "bridge": agent.programmers[bridge].bridge,
            "text": item.text(),
            "installed": ledger.installed.get(item.key) == item,
        }
        for bridge, ledger in agent.reactor.ledgers.items()
        for key in keys
        for item in ledger.items_of(key)
    ]


def metrics(agent: Agent) -> None:
    """Bring the gauges up to date: they are read off the state, not kept beside it."""
    reactor, gauges = agent.reactor, agent.metrics
    statuses = Counter(claim.status for claim in reactor.announcer.claims.values())
    for status in ("BUILD", "ACTIVE", "DOWN", "ERROR"):
        unfit = len(agent.picture.unfit) if status == "ERROR" else 0
        gauges.ports.labels(status).set(statuses[status] + unfit)  # type: ignore[index]  # a Status is a str
    gauges.networks.set(sum(1 for _ in reactor.fabric.networks))
    gauges.remote_ports.set(len(reactor.fabric.heard.claims))
    hosts = Counter(
        reactor.presence.hosts[host].state if host in reactor.presence.hosts else OFFLINE
        for host in reactor.fabric.heard.hosts
    )
    for state in ("online", "stopped", "leaving", "offline"):
        gauges.peers.labels(state).set(hosts[state])
    for bridge, programmer in agent.programmers.items():
        installed = reactor.ledgers[bridge].installed.values()
        gauges.flows.labels(programmer.bridge).set(sum(isinstance(item, Flow) for item in installed))
    conflicts = (
        reactor.fabric.verdict(segment, mac).contested
        for segment, view in reactor.fabric.segments.items()
        for mac, claims in view.stations.items()
        if len(claims) > 1
    )
    gauges.mac_conflicts.set(sum(conflicts))
    gauges.tunnel_address_conflicts.set(len(reactor.fabric.residences.refused))
    gauges.networks_incomplete.set(len(reactor.snapshots.incomplete(agent.clock())))
    gauges.orphan_interfaces.set(len(agent.picture.orphans))
    gauges.vlan_free.set(reactor.fabric.vlans.free)
    gauges.last_event_id.set(reactor.announcer.last_number)
    for component in ("ovsdb", "switch", "bus"):
        gauges.connected.labels(component).set(component not in agent.troubles)
