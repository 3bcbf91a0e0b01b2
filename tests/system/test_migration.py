"""Ports move between hypervisors while they are pinged from a third: what is lost, to whom it is due, what stays.

Each lost probe is accounted for by the moment it was sent. The moments are those of Open vSwitch's own tools (when the
destination's database had the activation, when a switch had its entry) and of a capture on the pinging card.
"""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest

from portwatch.fabric.tables import INT_CLASSIFY, INT_DISCOVERY, INT_FLOOD, INT_SOURCE, LEARNED_COOKIE
from portwatch.openflow.flow import FlowKey
from tests.demo.moments import BRIDGES, FlowChange, Moments, watching
from tests.lab import Capture, Hypervisor, Nic, Probe, Vm, eventually
from tests.system.conftest import Site
from tests.system.tables import Carried, statistics

pytestmark = pytest.mark.system

INTERVAL = 0.01
MOVERS, MOVES = 5, 4
"""Each guest moves four times: a MAC that moves more than five times in 180 s may be frozen (docs/mobility.md)."""
TRANSIT = 0.02
"""Seconds: the stamps' resolution, and what a probe takes from the card that sends it to the switch that decides."""
CACHED = 0.5
"""Seconds: vswitchd forwards by its cache, which follows the tables when its revalidators have gone through it."""
USUAL, WORST = 0.1, 2.0
"""Seconds of switching over that a busy machine may take: for half of the migrations, and for any."""
ECHO = re.compile(r"^(?P<time>[\d.]+) .*ICMP echo (?P<kind>request|reply), id \d+, seq (?P<seq>\d+)")
SENT = re.compile(r"^.* > (?P<towards>[\d.]+)\.4789: VXLAN.*ICMP echo request, id \d+, seq (?P<seq>\d+)")
INACTIVE, ACTIVE = {"iface-status": "inactive"}, {"iface-status": "active"}


@dataclass(frozen=True)
class Move:
    """One migration and its moments."""

    nic: Nic
    source: Hypervisor
    destination: Hypervisor
    begun: float
    left: float
    """The guest still ran at the source."""
    arrived: float
    """It runs at the destination."""
    activated: float
    """The destination's database has `iface-status=active`."""
    turned: float
    """The third host's tunnel bridge sends to the destination."""
    delivered: float
    """The destination's integration bridge delivers to the guest's port."""

    @property
    def due(self) -> float:
        """From here on the guest is there to answer, and portwatch has been told."""
        return max(self.arrived, self.activated)

    @property
    def done(self) -> float:
        """From here on every probe must arrive."""
        return max(self.due, self.turned, self.delivered)


@dataclass(frozen=True)
class Lost:
    """A probe without an answer."""

    sent: float
    towards: str | None
    """The tunnel address it was sent to, by a capture on the third host's uplink."""
    how: str
    """How far it came, by a capture on the guest's own card."""


@dataclass
class Account:
    """The lost probes of many migrations, each on somebody's account."""

    moves: list[Move] = field(default_factory=list)
    sent: int = 0
    orchestrator: int = 0
    """Sent while the guest was in no place of which portwatch had been told."""
    portwatch: int = 0
    """Sent while the guest was there to answer, portwatch had been told, and a switch did not know it yet."""
    cached: int = 0
    """Sent by the third host to the source although its table said otherwise: vswitchd's cache was not yet renewed."""
    unexplained: list[str] = field(default_factory=list)
    duplicates: int = 0

    def book(self, lost: list["Lost"], moves: list[Move]) -> None:
        for probe in lost:
            sent = probe.sent
            move = next((move for move in reversed(moves) if move.begun <= sent), None)
            if move is None or not min(move.left, move.activated) - TRANSIT <= sent <= move.done + CACHED:
                self.unexplained.append(f"{probe.how}, to {probe.towards}, sent {_beside(sent, move)}")
            elif sent > move.done + TRANSIT:
                if probe.towards == move.source.ip:
                    self.cached += 1
                else:
                    self.unexplained.append(f"{probe.how}, to {probe.towards}, sent {_beside(sent, move)}")
            elif sent < move.due:
                self.orchestrator += 1
            else:
                self.portwatch += 1

    def words(self) -> str:
        turned = [1000 * (move.turned - move.activated) for move in self.moves]
        delivered = [1000 * (move.delivered - move.activated) for move in self.moves]
        return (
            f"{len(self.moves)} migrations, {self.sent} probes;"
            f" activation → third host: {_spread(turned)}; → the destination itself: {_spread(delivered)};"
            f" lost: {self.orchestrator} before guest and activation were both there,"
            f" {self.portwatch} in switching over, {self.cached} by vswitchd's cache, {len(self.unexplained)} otherwise"
        )


@dataclass
class Pinged:
    """A probe on its way, and its echoes on the card that sends it, on the wire, and on the other card."""

    probe: Probe
    here: Capture
    there: Capture
    wire: Capture

    def stop(self) -> tuple[int, int, list[Lost]]:
        """Return how many went out, how many answers came twice, and the lost ones."""
        self.probe.stop()
        time.sleep(0.05)
        here, there = _echoes(self.here.stop()), _echoes(self.there.stop())
        towards = {int(sent["seq"]): sent["towards"] for sent in filter(None, map(SENT.match, self.wire.stop()))}
        last = max(here["reply"])
        lost = [
            Lost(
                times[0],
                towards.get(seq),
                "answered" if seq in there["reply"] else "heard" if seq in there["request"] else "unheard",
            )
            for seq, times in sorted(here["request"].items())
            if seq <= last and seq not in here["reply"]
        ]
        return len(here["request"]), sum(len(times) - 1 for times in here["reply"].values()), lost


def pinging(third: Hypervisor, watcher: Vm, guest: Vm, address: str) -> Pinged:
    """Let *watcher*, on the *third* host, ping *guest* a hundred times a second."""
    here, there = (vm.capture(f"icmp and host {address}") for vm in (watcher, guest))
    wire = third.capture("uplink", f"udp port 4789 and src host {third.ip}")
    pinged = Pinged(watcher.probe(address, INTERVAL), here, there, wire)
    eventually(lambda: pinged.probe.answers() > 20, 5, f"{watcher.name} pings {address}")
    return pinged


def _echoes(lines: list[str]) -> dict[str, dict[int, list[float]]]:
    """Return the moments of each request and each reply, by sequence number."""
    moments: dict[str, dict[int, list[float]]] = {"request": {}, "reply": {}}
    for echo in filter(None, map(ECHO.match, lines)):
        moments[echo["kind"]].setdefault(int(echo["seq"]), []).append(float(echo["time"]))
    return moments


def migrate(
    site: Site,
    moments: dict[str, Moments],
    nic: Nic,
    source: Hypervisor,
    destination: Hypervisor,
    *,
    active_first: bool,
) -> Move:
    """Migrate a guest as an orchestrator does, in one order or the other, and find the moments."""
    (third,) = {each.name for each in site.hypervisors} - {source.name, destination.name}
    begun = time.time()
    site.plug(destination, nic, INACTIVE)
    site.wait_active(destination, nic)
    if active_first:
        destination.set_external_ids(nic, ACTIVE)
    left = time.time()
    nic.run_on(destination.name)
    arrived = time.time()
    if not active_first:
        destination.set_external_ids(nic, ACTIVE)
    site.unplug(source, nic)
    device, mac = nic.port.device, nic.port.mac

    def activation() -> float | None:
        rows = [row for row in moments[destination.name].rows(begun) if row.name == device and row.action == "new"]
        return next((row.time for row in rows if "iface-status=active" in row.keys), None)

    activated = eventually(activation, 5, "the activation in the destination's database")
    turned = moments[third].switched(
        "br-tun", lambda change: entry(change, mac) and change.sends_to(destination.ip), begun
    )
    ofport = destination.ofport(nic)
    delivered = moments[destination.name].switched(
        "br-int", lambda change: entry(change, mac) and f"output:{ofport}" in change.text, begun
    )
    return Move(nic, source, destination, begun, left, arrived, activated, turned, delivered)


def entry(change: FlowChange, mac: str) -> bool:
    """Is this change a programmed entry for frames to *mac*, as it is now?"""
    return change.event != "DELETED" and change.says_where(mac) and "in_port=" not in change.text


@pytest.mark.parametrize(
    "active_first", [False, True], ids=["change-over-then-activation", "activation-then-change-over"]
)
def test_twenty_migrations_lose_no_probe_that_the_guest_was_there_to_answer(
    site: Site, tmp_path: Path, *, active_first: bool
) -> None:
    """Beyond the time that the switches take to follow; and nothing of the migrations is left behind."""
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    watcher, watching_nic = site.guest(hv3, blue, "10.0.0.3/24")
    residents = [site.guest(hypervisor, blue, f"10.0.0.{20 + place}/24") for place, hypervisor in enumerate((hv1, hv2))]
    movers = [site.guest(hv1, blue, f"10.0.0.{100 + place}/24")[1] for place in range(MOVERS)]
    for nic in movers:
        site.wait_known(hv3, nic.port.mac, hv1)
        watcher.reach(nic.port.fixed_ips[0])
    for vm, _ in residents:
        watcher.reach(vm.nics["eth0"].port.fixed_ips[0])
    site.check()
    before = {(host, bridge): statistics(host, bridge) for host in site.hypervisors for bridge in BRIDGES}
    account = Account()

    with watching(site.hypervisors, tmp_path) as moments:
        begun = time.time()
        for nic in movers:
            moves = []
            pinged = pinging(hv3, watcher, nic.vm, nic.port.fixed_ips[0])
            for source, destination in [(hv1, hv2), (hv2, hv1)] * (MOVES // 2):
                moves.append(migrate(site, moments, nic, source, destination, active_first=active_first))
                site.wait_known(hv3, nic.port.mac, destination)
            _goes_on(pinged.probe)
            sent, duplicates, lost = pinged.stop()
            account.moves += moves
            account.sent += sent
            account.duplicates += duplicates
            account.book(lost, moves)
        site.check()
        seen, inside = (moments["hv3"].flows(bridge, begun) for bridge in ("br-tun", "br-int"))

    print(account.words())
    assert account.unexplained == [], "\n".join([account.words(), *account.unexplained])
    assert account.duplicates == 0
    switching = [move.done - move.due for move in account.moves]
    assert median(switching) < USUAL, account.words()
    assert max(switching) < WORST, account.words()
    for nic in movers:
        told = [change for change in seen if change.says_where(nic.port.mac)]
        assert [change.event for change in told].count("DELETED") == 0, "a moment without an entry"
        assert len(told) == MOVES, "one change of the entry a migration"
        assert [change for change in inside if change.says_where(nic.port.mac)] == [], "to the tunnel bridge, as before"
    for (host, bridge), old in before.items():
        new = statistics(host, bridge)
        for key, carried in old.items():
            if not _concerns(host, bridge, key, movers, hv3):
                assert key in new, f"{host.name} {bridge} has lost {key}"
                assert carried.went_on(new[key]), f"{host.name} {bridge} {key}: {carried}, then {new[key]}"
    retained = site.lab.broker.retained(f"portwatch/v1/ports/{blue.id}/#")
    expected = {f"portwatch/v1/ports/{blue.id}/hv1/{nic.port.id}" for nic in movers}
    expected |= {f"portwatch/v1/ports/{blue.id}/hv3/{watching_nic.port.id}"}
    expected |= {f"portwatch/v1/ports/{blue.id}/hv{place}/{nic.port.id}" for place, (_, nic) in enumerate(residents, 1)}
    assert set(retained) == expected


def test_a_late_removal_at_the_source_and_replayed_words_of_it_change_nothing(site: Site, tmp_path: Path) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    guest, nic = site.guest(hv1, blue, "10.0.0.1/24")
    mac, broker = nic.port.mac, site.lab.broker
    topic, host_topic = f"portwatch/v1/ports/{blue.id}/hv1/{nic.port.id}", "portwatch/v1/hosts/hv1"
    site.wait_known(hv3, mac, hv1)
    site.wait_active(hv1, nic)
    old = broker.retained(topic)[topic]
    hv1.set_external_ids(nic, {"device-owner": "compute:other"})  # a newer revision of the same session
    eventually(lambda: broker.retained(topic)[topic] != old, 5, "a newer revision is retained")
    status = json.loads(broker.retained(host_topic)[host_topic])
    site.plug(hv2, nic, INACTIVE)
    site.wait_active(hv2, nic)
    nic.run_on("hv2")
    hv2.set_external_ids(nic, ACTIVE)
    site.wait_known(hv3, mac, hv2)
    site.wait_known(hv1, mac, hv1)  # the source still has it, and delivers to it
    watcher.reach("10.0.0.1")
    pinged = pinging(hv3, watcher, guest, "10.0.0.1")
    before = _ways(hv3, mac)
    assert len(before) == 2, "one entry on each bridge"

    with watching(site.hypervisors, tmp_path) as moments:
        begun = time.time()
        refused = _refused(site, hv3, "stale")
        broker.publish(topic, old, retain=True)  # the past, replayed
        eventually(lambda: _refused(site, hv3, "stale") == refused + 1, 5, "hv3 refuses a lower revision")
        broker.publish(host_topic, json.dumps(status | {"state": "offline"}), retain=True)  # a delayed last will
        eventually(lambda: _state(site, host_topic) == "online", 5, "hv1 says that it lives")
        time.sleep(1)
        site.unplug(hv1, nic)  # the removal, seconds late
        eventually(lambda: site.port(hv1, nic) is None, 5, "hv1 has let go")
        eventually(lambda: not broker.retained(topic), 5, "its claim is gone")
        broker.publish(topic, old, retain=True)  # and the past once more, when nothing newer is held
        eventually(lambda: not broker.retained(topic), 5, "hv1 clears what is not true")
        broker.publish(host_topic, json.dumps(status | {"state": "offline"}), retain=True)
        eventually(lambda: _state(site, host_topic) == "online", 5, "hv1 says that it lives")
        _goes_on(pinged.probe)
        seen = moments["hv3"].flows("br-tun", begun) + moments["hv3"].flows("br-int", begun)

    _, duplicates, lost = pinged.stop()
    assert (lost, duplicates) == ([], 0)
    assert [change for change in seen if change.says_where(mac)] == []
    after = _ways(hv3, mac)
    assert after.keys() == before.keys()
    for key, carried in before.items():
        assert carried.went_on(after[key]), f"{key}: {carried}, then {after[key]}"
    assert after[_tunnelled(after)].packets > before[_tunnelled(before)].packets


def test_a_living_agent_answers_its_own_last_will_that_comes_late(site: Site) -> None:
    """As after a connection that only the agent has given up: the broker tells its will when the new one stands."""
    broker, topic = site.lab.broker, "portwatch/v1/hosts/hv1"
    status = json.loads(broker.retained(topic)[topic])

    broker.publish(topic, json.dumps(status | {"state": "offline"}), retain=True)

    eventually(lambda: _state(site, topic) == "online", 3, "hv1 says that it lives")


def test_an_aborted_migration_changes_nothing_anywhere(site: Site, tmp_path: Path) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    guest, nic = site.guest(hv1, blue, "10.0.0.1/24")
    _, resident = site.guest(hv2, blue, "10.0.0.2/24")
    for hypervisor, of in ((hv2, hv1), (hv3, hv1)):
        site.wait_known(hypervisor, nic.port.mac, of)
    for hypervisor in (hv1, hv3):
        site.wait_known(hypervisor, resident.port.mac, hv2)
    watcher.reach("10.0.0.1")
    site.check()
    tables = {(host, bridge): site.held(host, bridge) for host in site.hypervisors for bridge in BRIDGES}
    pinged = pinging(hv3, watcher, guest, "10.0.0.1")

    with watching(site.hypervisors, tmp_path) as moments:
        begun = time.time()
        site.plug(hv2, nic, INACTIVE)
        site.wait_active(hv2, nic)
        eventually(lambda: len(_claims(site, hv3, nic)) == 2, 5, "hv3 has heard of the destination")
        time.sleep(0.2)
        hv2.unplug(nic)
        site.plugged.remove((hv2, nic))
        eventually(lambda: len(_claims(site, hv3, nic)) == 1, 5, "hv3 has heard of its end")
        _goes_on(pinged.probe)
        seen = {host.name: [c for b in BRIDGES for c in moments[host.name].flows(b, begun)] for host in (hv1, hv3)}
        at_destination = moments["hv2"].flows("br-int", begun)

    _, duplicates, lost = pinged.stop()
    assert (lost, duplicates) == ([], 0)
    assert {host: [change for change in changes if not _learned(change)] for host, changes in seen.items()} == {
        "hv1": [],
        "hv3": [],
    }
    # What comes by tunnel for the destination, nobody sends it; its own entry for the guest never pointed elsewhere.
    pointed = [change for change in at_destination if change.says_where(nic.port.mac) and "in_port=" not in change.text]
    assert pointed == []
    site.check()
    assert {(host, bridge): site.held(host, bridge) for host, bridge in tables} == tables


def test_a_destination_never_activated_takes_over_when_the_source_leaves(site: Site) -> None:
    blue = site.network("blue")
    hv1, hv2, hv3 = site.hypervisors
    watcher, _ = site.guest(hv3, blue, "10.0.0.3/24")
    _, nic = site.guest(hv1, blue, "10.0.0.1/24")
    site.wait_known(hv3, nic.port.mac, hv1)
    site.plug(hv2, nic, INACTIVE)
    site.wait_active(hv2, nic)
    nic.run_on("hv2")

    site.unplug(hv1, nic)

    site.wait_known(hv3, nic.port.mac, hv2)
    site.wait_known(hv2, nic.port.mac, hv2)
    watcher.reach("10.0.0.1")


def _ways(hypervisor: Hypervisor, mac: str) -> dict[tuple[str, FlowKey], Carried]:
    """Return the programmed entries that say where frames to *mac* go."""
    return {
        (bridge, key): carried
        for bridge in BRIDGES
        for key, carried in statistics(hypervisor, bridge).items()
        if f"dl_dst={mac}" in key.match
    }


def _tunnelled(ways: dict[tuple[str, FlowKey], Carried]) -> tuple[str, FlowKey]:
    return next(key for key in ways if key[0] == "br-tun")


def _claims(site: Site, hypervisor: Hypervisor, nic: Nic) -> list[Any]:
    rows = site.ask(hypervisor, "fdb")
    return [claim for row in rows if row["mac"] == nic.port.mac for claim in row["claims"]]


def _state(site: Site, host_topic: str) -> str:
    state: str = json.loads(site.lab.broker.retained(host_topic)[host_topic])["state"]
    return state


def _learned(change: FlowChange) -> bool:
    return f"cookie={LEARNED_COOKIE:#x}" in change.text


def _refused(site: Site, hypervisor: Hypervisor, reason: str) -> float:
    """Return how many messages an agent has refused for a reason."""
    _, text = site.agents[hypervisor.name].http_get("/metrics")
    told = re.search(rf'^portwatch_bus_rejected_total{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    return float(told[1]) if told else 0.0


def _concerns(host: Hypervisor, bridge: str, key: FlowKey, movers: list[Nic], third: Hypervisor) -> bool:
    """May a migration of *movers* make this flow anew?

    On the third host only the entries that say where they are; on the two others also who is flooded to among the
    ports there, the movers' own admissions, and the answers for their addresses.
    """
    words = {f"dl_dst={nic.port.mac}" for nic in movers}
    if host is third:
        return bridge == "br-tun" and bool(words & set(key.match))
    words |= {f"arp_tpa={nic.port.fixed_ips[0]}" for nic in movers}
    admission = key.table in (INT_CLASSIFY, INT_SOURCE, INT_DISCOVERY) and any(
        field.startswith("in_port=") for field in key.match
    )
    return bool(words & set(key.match)) or (bridge == "br-int" and (key.table == INT_FLOOD or admission))


def _goes_on(probe: Probe) -> None:
    answered = probe.answers()
    eventually(lambda: probe.answers() > answered + 10, 5, "the ping goes on")


def _beside(sent: float, move: Move | None) -> str:
    """Tell a moment by the moments of the migration before it, in milliseconds."""
    if move is None:
        return "before all migrations"
    names = ("begun", "left", "arrived", "activated", "turned", "delivered")
    return ", ".join(f"{1000 * (sent - getattr(move, name)):+.1f} ms from {name}" for name in names)


def _spread(milliseconds: list[float]) -> str:
    """Return median, 95th percentile and maximum."""
    late = quantiles(milliseconds, n=20, method="inclusive")[-1]
    return f"p50 {median(milliseconds):.1f} ms, p95 {late:.1f} ms, max {max(milliseconds):.1f} ms"
