"""Three hypervisors of one network with guests that talk: what a fault plays on, and what is to be known of it."""

import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from portwatch.openflow.flow import FlowKey
from tests.lab import Agent, Hypervisor, LabError, Nic, Port, Probe, ProbeResult, Vm, eventually
from tests.system.conftest import BRIDGES, Site
from tests.system.tables import Carried, statistics

REACH_SECONDS = 15.0
ANSWERS = 20
"""So many answers show that a probe is well."""
CROWD = 6
"""Ports on each hypervisor beside the guests: a table shall not be empty."""
HTTP_SECONDS = 2.0

Claims = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Talk:
    """Two guests that probe each other."""

    name: str
    speaker: Vm
    address: str
    places: tuple[Hypervisor, ...]
    """The hypervisors that it passes."""

    def port_changes(self) -> int:
        """Return how often ports have come or gone on its way, up to now."""
        return sum(hypervisor.port_changes for hypervisor in self.places)


@dataclass(frozen=True)
class Loss:
    """What the talks that fared worst have lost."""

    probes: int
    silence: float
    """The longest time without an answer, in seconds: what waits in a queue meanwhile is late, and not lost."""


class Stage:
    """The site with its guests: `near` and `beside` on the hypervisor that is hit, `there` and `far` on the others."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.hv, self.second, self.third = site.hypervisors
        self.network = site.network("faults")
        self.near, self.near_nic = site.guest(self.hv, self.network, "10.0.0.1/16")
        self.beside, self.beside_nic = site.guest(self.hv, self.network, "10.0.0.2/16")
        self.there, self.there_nic = site.guest(self.second, self.network, "10.0.0.3/16")
        self.far, self.far_nic = site.guest(self.third, self.network, "10.0.0.4/16")
        for place, hypervisor in enumerate(site.hypervisors, 1):
            crowd = [self.port(f"10.0.{place}.{number}/16") for number in range(1, CROWD + 1)]
            hypervisor.plug_many(crowd)
            site.plugged += [(hypervisor, port) for port in crowd]
        self.talks = (
            Talk("to another hypervisor", self.near, "10.0.0.3", (self.hv, self.second)),
            Talk("from another hypervisor", self.far, "10.0.0.1", (self.third, self.hv)),
            Talk("within the hypervisor", self.near, "10.0.0.2", (self.hv,)),
            Talk("between two others", self.there, "10.0.0.4", (self.second, self.third)),
        )
        for talk in self.talks:
            talk.speaker.reach(talk.address, REACH_SECONDS)
        self.notes: list[str] = []
        """What a story has measured beside the columns."""
        self.wrong: list[str] = []
        """What was not as promised."""
        self.results: list[ProbeResult] = []
        """What the probes saw, in the order of `talks`; for the second half of a story."""

        self.alone: dict[Callable[[Stage], object], Loss] = {}
        """What a harm costs while portwatch does not run: measured once."""

    @property
    def agent(self) -> Agent:
        """The agent of the hypervisor that is hit."""
        return self.site.agents[self.hv.name]

    @property
    def agents(self) -> list[Agent]:
        return list(self.site.agents.values())

    def note(self, words: str) -> None:
        """Say something for the table."""
        self.notes.append(words)

    def promise(self, kept: bool, words: str) -> None:
        """Hold it against the row when a promise is not kept."""
        if not kept:
            self.wrong.append(words)

    def port(self, *addresses: str) -> Port:
        """Return a new port of the network, to be plugged as an internal device."""
        mac = self.site.lab.mac()
        return Port(f"f{mac.replace(':', '')[6:]}", mac, self.network, addresses)

    def plug(self, hypervisor: Hypervisor, *addresses: str, wait: bool = True) -> Port:
        """Plug a new port; the site unplugs it at its end, if the story does not."""
        port = self.port(*addresses)
        self.site.plug(hypervisor, port, wait=wait)
        return port

    def unplug(self, hypervisor: Hypervisor, port: Nic | Port) -> None:
        self.site.unplug(hypervisor, port)

    # --- what is -------------------------------------------------------------------------------------------------

    def probe(self) -> list[Probe]:
        """Start to ping in all four directions; each has been answered when this returns."""
        probes = [talk.speaker.probe(talk.address) for talk in self.talks]
        self.until_answered(probes)
        return probes

    def until_answered(self, probes: list[Probe], seconds: float = REACH_SECONDS) -> None:
        """Wait until each probe has had some more answers."""
        before = [probe.answers() for probe in probes]

        def well() -> bool:
            return all(probe.answers() >= count + ANSWERS for probe, count in zip(probes, before, strict=True))

        eventually(well, seconds, "all probes are answered (again)")

    def hit(self, talk: Talk) -> bool:
        """Tell whether it passes the hypervisor that is hit."""
        return self.hv in talk.places

    def loss(self) -> Loss:
        """Return what the talks through the hypervisor that is hit have lost."""
        results = [result for talk, result in zip(self.talks, self.results, strict=True) if self.hit(talk)]
        silence = max(result.longest_gap.seconds for result in results)
        return Loss(max(len(result.lost) for result in results), silence)

    def flows(self) -> dict[tuple[str, FlowKey], Carried]:
        """Return age and packets of each flow of the hypervisor that is hit."""
        found: dict[tuple[str, FlowKey], Carried] = {}
        for bridge in BRIDGES:
            found.update(((bridge, key), carried) for key, carried in statistics(self.hv, bridge).items())
        return found

    def claims(self) -> Claims:
        """Return sequence and local VLAN of each port of the hypervisor that is hit."""
        return {row["port_id"]: (row["seq"], row["local_vlan"]) for row in self.ask(self.hv, "ports")}

    def ask(self, hypervisor: Hypervisor, path: str) -> Any:
        """Return what an agent answers under /v1."""
        return self.site.ask(hypervisor, path)

    def metric(self, hypervisor: Hypervisor, name: str) -> float:
        """Return the sum of a metric over its labels."""
        _, text = self.site.agents[hypervisor.name].http_get("/metrics")
        lines = (line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name)
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def lacking(self) -> Iterator[str]:
        """Tell what is not as it must be after every fault; nothing when all is well."""
        for hypervisor in self.site.hypervisors:
            try:
                yield from self._lacking_on(hypervisor)
            except (OSError, http.client.HTTPException, LabError) as error:
                yield f"{hypervisor.name}: {error}"
        try:
            yield from self._disagreements()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            yield f"who has which port cannot be told: {error}"

    def _lacking_on(self, hypervisor: Hypervisor) -> Iterator[str]:
        agent = self.site.agents[hypervisor.name]
        status, body = agent.http_get("/readyz", HTTP_SECONDS)
        if status != http.HTTPStatus.OK:
            yield f"{hypervisor.name} is not ready: {body}"
            return
        audit = self.ask(hypervisor, "audit")
        if audit != {"recompute_differs": [], "settled": True, "spared": [], "refused": 0}:
            yield f"{hypervisor.name} says {audit}"
            return
        for bridge in BRIDGES:
            wanted = {row["text"] for row in self.ask(hypervisor, "flows") if row["bridge"] == bridge}
            held = set(self.site.held(hypervisor, bridge))
            if wanted != held:
                yield f"{hypervisor.name} {bridge} lacks {sorted(wanted - held)[:3]}, has {sorted(held - wanted)[:3]}"

    def _disagreements(self) -> Iterator[str]:
        views: dict[str, dict[str, set[tuple[str, ...]]]] = {}
        for hypervisor in self.site.hypervisors:
            views[hypervisor.name] = {row["network_id"]: set() for row in self.ask(hypervisor, "networks")}
            for row in self.ask(hypervisor, "fdb"):
                view = views[hypervisor.name].setdefault(row["network_id"], set())
                view.add((row["mac"], str(row["host"]), str(row["port_id"])))
        for one, other in combinations(views, 2):
            for network in views[one].keys() & views[other].keys():
                if apart := views[one][network] ^ views[other][network]:
                    yield f"{one} and {other} are not of one mind: {sorted(apart)[:3]}"

    def until_converged(self, seconds: float) -> None:
        """Wait until nothing is lacking."""
        last: str | None = None

        def well() -> bool:
            nonlocal last
            last = next(self.lacking(), None)
            return last is None

        eventually(well, seconds, lambda: f"all has converged; still: {last}")
