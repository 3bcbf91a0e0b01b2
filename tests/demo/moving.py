"""Ports move and go: a live migration while a ping runs, and an unplug that leaves nothing behind."""

import time
from itertools import pairwise

from tests.demo.moments import BRIDGES, FlowChange
from tests.demo.news import PREFIX
from tests.demo.screen import milliseconds
from tests.demo.stage import Stage
from tests.demo.tenants import BLUE_APP, BLUE_JOB, BLUE_WEB
from tests.lab import eventually

INTERVAL = 0.01
GAP_LIMIT = 1.0
ANSWERS_BEFORE, ANSWERS_AFTER = 50, 100
SECONDS = 10.0
ACTIVE = "iface-status=active"
DESTINATION = "hv3"


def move(stage: Stage) -> None:
    """Move blue-web from hv1 to hv3 while blue-app on hv2 pings it a hundred times a second."""
    lab, mac = stage.lab, stage.mac(BLUE_WEB)
    source, destination, third = stage.host(BLUE_WEB.host), stage.host(DESTINATION), BLUE_APP.host
    nic = stage.nics[BLUE_WEB.card.port]
    stage.screen.note(
        f"{BLUE_APP.name} on {third} pings it every {milliseconds(INTERVAL)}. As in a live migration: plugged on"
        f" {DESTINATION} (preparing), changed over, activated there, unplugged on {source.name}."
    )
    hosts = (source.name, destination.name, third)
    with stage.proofs.proving(f"{BLUE_WEB.name} moved from {source.name} to {DESTINATION}, live", *hosts) as proof:
        probe = stage.vm(BLUE_APP).probe(BLUE_WEB.card.address, INTERVAL)
        eventually(lambda: probe.answers() >= ANSWERS_BEFORE, SECONDS, "the ping runs")
        before = time.time()
        lab.move(nic, source, destination)
        stage.places[nic.port.id] = DESTINATION
        stage.news.wait_for(nic.port.id, source.name, type="removed")
        stage.news.wait_for(nic.port.id, DESTINATION, status="ACTIVE", state="active")
        answered = probe.answers()
        eventually(lambda: probe.answers() >= answered + ANSWERS_AFTER, SECONDS, "the ping goes on after the move")
        result = probe.stop()
        gap = _longest_silence(stage, mac, before)
        proof.require(not result.duplicates, f"{result.duplicates} answers came twice")
        proof.require(gap < GAP_LIMIT, f"no answer for {milliseconds(gap)}; {len(result.lost)} of {result.sent} lost")
        proof.figure = f"{result.sent} pings, {len(result.lost)} lost, longest gap {milliseconds(gap)}"
    with stage.proofs.proving("the other hosts' switches followed the move", *hosts) as proof:
        device = nic.port.device
        activated = stage.moments[DESTINATION].changed(
            lambda row: row.action == "new" and row.name == device and ACTIVE in row.keys, before
        )

        def turned(change: FlowChange) -> bool:
            return change.event != "DELETED" and change.says_where(mac) and change.sends_to(destination.ip)

        took = {
            host: stage.moments[host].switched("br-tun", turned, before) - activated
            for host in stage.others(nic.port.id)
        }
        figures = ", ".join(f"{host} {milliseconds(seconds)}" for host, seconds in sorted(took.items()))
        proof.figure = f"after its activation: {figures}"


def _longest_silence(stage: Stage, mac: str, since: float) -> float:
    """Return the longest time between two answers of *mac* on blue-app's card, from the last one before *since* on.

    Not the ping's own longest gap, which counts the time that it took to begin.
    """
    lines = [line.split() for line in stage.captures[BLUE_APP.card.port].lines() if "echo reply" in line]
    times = [float(words[0]) for words in lines if words[1] == mac]
    return max(later - earlier for earlier, later in pairwise(times) if later > since)


def unplug(stage: Stage) -> None:
    """Unplug blue-job from hv1: what was made for it goes, on every host and on the bus."""
    host, mac, port = stage.host(BLUE_JOB.host), stage.mac(BLUE_JOB), BLUE_JOB.card.port
    nic, others = stage.nics[port], stage.others(port)
    with stage.proofs.proving(f"{port} is unplugged: its entries are gone", *stage.agents) as proof:
        before = time.time()
        host.unplug(nic)
        del stage.places[port]
        stage.news.wait_for(port, host.name, type="removed")
        unplugged = stage.moments[host.name].changed(
            lambda row: row.action == "delete" and row.name == nic.port.device, before
        )
        gone = {
            name: max(
                stage.moments[name].switched(
                    bridge, lambda change: change.event == "DELETED" and change.says_where(mac), before
                )
                for bridge in BRIDGES
            )
            for name in others
        }
        eventually(
            lambda: not _flows_with(stage, mac), SECONDS, lambda: f"no flow has {mac}; left: {_flows_with(stage, mac)}"
        )
        figures = ", ".join(f"{name} {milliseconds(moment - unplugged)}" for name, moment in sorted(gone.items()))
        proof.figure = f"after the commit: {figures}"
    with stage.proofs.proving("and the broker retains nothing of it") as proof:
        left = stage.lab.broker.retained(f"{PREFIX}/ports/+/+/{port}")
        proof.require(not left, f"retained: {left}")
        kept = stage.lab.broker.retained(f"{PREFIX}/ports/#")
        proof.require(len(kept) == len(stage.places), f"retained: {sorted(kept)}; plugged: {sorted(stage.places)}")
        proof.figure = f"{len(kept)} retained messages for {len(stage.places)} ports"
    with stage.proofs.proving(f"{host.name}, without a port of blue, has forgotten it", host.name) as proof:
        macs = stage.sources("blue")

        def remembered() -> list[str]:
            flows = [flow for bridge in BRIDGES for flow in host.dump_flows(bridge)]
            return [flow for flow in flows if any(mac in flow for mac in macs)]

        eventually(lambda: not remembered(), SECONDS, lambda: f"no flow for blue on {host.name}; left: {remembered()}")
        networks = [network["network_id"] for network in stage.ask(host.name, "networks")]
        proof.require(networks == ["amber"], f"its networks: {networks}")
        proof.figure = f"its networks: {', '.join(networks)}"


def _flows_with(stage: Stage, mac: str) -> list[str]:
    return [
        f"{hypervisor.name} {bridge} {flow}"
        for hypervisor in stage.lab.hypervisors
        for bridge in BRIDGES
        for flow in hypervisor.dump_flows(bridge)
        if mac in flow
    ]
