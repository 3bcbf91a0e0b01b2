"""Ports that come, change, move and go at random; and where each of them must be seen by every host."""

from collections import Counter
from random import Random

from tests.faults.stage import Stage
from tests.lab import Hypervisor, Nic, Port, eventually

MOST = 12
"""Ports in play."""
MOVES = 4
"""Of one port: what moves more often is frozen, rightly."""
CONVERGE_SECONDS = 30.0


class Churn:
    """Acts on one hypervisor after the other, as its random numbers have it."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self.acts = 0
        self._stage, self._random = stage, random
        self._places: dict[Port, Hypervisor] = {}
        self._moves: Counter[Port] = Counter()
        self._addresses = 0

    def act(self) -> str:
        """Do one thing, and say what."""
        self.acts += 1
        hypervisors, there = self._stage.site.hypervisors, list(self._places)
        kinds = ["plug"] * (len(self._places) < MOST) + ["pull", "move", "change"] * bool(there)
        kind, hypervisor = self._random.choice(kinds), self._random.choice(hypervisors)
        port = self._random.choice(there) if there and kind != "plug" else self._stage.port(self._address())
        match kind:
            case "plug":
                self._plug(hypervisor, port)
            case "pull":
                self._stage.unplug(self._places.pop(port), port)
            case "move" if hypervisor is not self._places[port] and self._moves[port] < MOVES:
                source = self._places[port]
                self._moves[port] += 1
                self._stage.site.plug(hypervisor, port, {"iface-status": "inactive"}, wait=False)
                hypervisor.set_external_ids(port, {"iface-status": "active"})
                self._stage.unplug(source, port)
                self._places[port] = hypervisor
            case _:
                kind, hypervisor = "change", self._places[port]
                hypervisor.set_external_ids(port, {"fixed-ips": self._address().partition("/")[0]})
        return f"{kind} {port.id} on {hypervisor.name}"

    def clear(self) -> None:
        """Pull all ports."""
        for port, hypervisor in self._places.items():
            self._stage.unplug(hypervisor, port)
        self._places.clear()

    def until_converged(self, seconds: float = CONVERGE_SECONDS) -> None:
        """Wait until nothing is lacking, every host sees each port where it is, and the guests reach each other."""
        self._stage.until_converged(seconds)
        last: list[str] = []

        def seen() -> bool:
            last[:] = self._misplaced()
            return not last

        eventually(seen, seconds, lambda: f"every port is seen where it is; {last[:3]}")
        for talk in self._stage.talks:
            talk.speaker.reach(talk.address)

    def _misplaced(self) -> list[str]:
        site = self._stage.site
        plugged = [(hypervisor, port.port if isinstance(port, Nic) else port) for hypervisor, port in site.plugged]
        network = self._stage.network
        expected = {port.mac: hypervisor.name for hypervisor, port in plugged if port.network == network}
        found = []
        for hypervisor in site.hypervisors:
            table = self._stage.ask(hypervisor, "fdb")
            rows = {row["mac"]: row["host"] for row in table if row["network_id"] == network.id}
            found += [f"{hypervisor.name}: {mac} {host}" for mac, host in sorted(rows.items() ^ expected.items())]
        return found

    def _plug(self, hypervisor: Hypervisor, port: Port) -> None:
        self._stage.site.plug(hypervisor, port, wait=False)
        self._places[port] = hypervisor

    def _address(self) -> str:
        self._addresses += 1
        return f"10.0.{100 + self._addresses // 250 % 100}.{1 + self._addresses % 250}/16"
