"""`make chaos`: random faults of all kinds while ports come, go, move and change.

A bout is a number of random steps on random hypervisors, none of which waits until the one before is got over. Then
all is left alone, and must converge: every switch holds what is wanted, which equals a full recompute, all hosts
agree, and what they agree on is what was plugged where; guests reach each other. The seed is printed, and plays the
same steps again: `make chaos SEED=7`.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import Random

from portwatch.fabric.tables import GROUPS
from portwatch.openflow import parse
from tests.faults import commands
from tests.faults.__main__ import a_site
from tests.faults.stage import Stage
from tests.lab import Hypervisor, LabError, Port, eventually
from tests.options import minutes
from tests.system.conftest import BRIDGES

STEPS = 25
PORTS = 12
PAUSE = 0.3
"""Seconds between two steps, at most."""
CONVERGED_SECONDS = 60.0


class Chaos:
    """One run by a seed."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = Random(seed)
        self.steps: list[str] = []
        """What was done in this bout, in words."""
        self._places: dict[Port, Hypervisor] = {}
        self._addresses = 0
        self._past: list[tuple[str, bytes]] = []

    def bout(self, steps: int = STEPS) -> float:
        """Do so many random steps; return the seconds until all had converged afterwards."""
        self.steps.clear()
        for _ in range(steps):
            deeds = CHURN if self.random.random() < 2 / 3 else HARMS
            hypervisor = self.random.choice(self.stage.site.hypervisors)
            deed = self.random.choice(deeds)
            self.steps.append(f"{deed.__name__} on {hypervisor.name}")
            deed(self, hypervisor)
            time.sleep(self.random.uniform(0, PAUSE))  # the moment of the next step is part of the chaos
        started = time.monotonic()
        self.stage.until_converged(CONVERGED_SECONDS)
        eventually(
            lambda: not self.astray(), CONVERGED_SECONDS, lambda: f"all are where they were plugged: {self.astray()}"
        )
        took = time.monotonic() - started
        for talk in self.stage.talks:
            talk.speaker.reach(talk.address, CONVERGED_SECONDS)
        return took

    def clear(self) -> None:
        """Unplug what is left of the ports that came."""
        for port, hypervisor in self._places.items():
            hypervisor.unplug(port)
        self._places.clear()

    def astray(self) -> set[tuple[str, str]]:
        """Return each (MAC, host) that is wanted and not held, or held and not wanted."""
        plugged = [*self.stage.site.plugged, *((hv, port) for port, hv in self._places.items())]
        ports = ((item if isinstance(item, Port) else item.port, hv.name) for hv, item in plugged)
        network = self.stage.network
        wanted = {(port.mac, name) for port, name in ports if port.network == network}
        rows = self.stage.ask(self.stage.hv, "fdb")
        return wanted ^ {(row["mac"], row["host"]) for row in rows if row["network_id"] == network.id}

    # --- churn ---------------------------------------------------------------------------------------------------

    def plug(self, hypervisor: Hypervisor) -> None:
        if len(self._places) < PORTS:
            port = self.stage.port(self._address())
            hypervisor.plug(port, wait=False)
            self._places[port] = hypervisor

    def unplug(self, hypervisor: Hypervisor) -> None:
        if here := self._on(hypervisor):
            port = self.random.choice(here)
            hypervisor.unplug(port)
            del self._places[port]

    def move(self, hypervisor: Hypervisor) -> None:
        if here := self._on(hypervisor):
            port = self.random.choice(here)
            there = self.random.choice([each for each in self.stage.site.hypervisors if each is not hypervisor])
            there.plug(port, wait=False)
            hypervisor.unplug(port)
            self._places[port] = there

    def change(self, hypervisor: Hypervisor) -> None:
        if here := self._on(hypervisor):
            address = self._address().partition("/")[0]
            hypervisor.set_external_ids(self.random.choice(here), {"fixed-ips": address})

    def _on(self, hypervisor: Hypervisor) -> list[Port]:
        return [port for port, place in self._places.items() if place is hypervisor]

    def _address(self) -> str:
        self._addresses += 1
        return f"10.0.{100 + self._addresses // 250}.{self._addresses % 250 + 1}/16"

    # --- harm ----------------------------------------------------------------------------------------------------

    def kill_agent(self, hypervisor: Hypervisor) -> None:
        agent = self.stage.site.agents[hypervisor.name]
        agent.kill()
        agent.start()

    def stop_agent(self, hypervisor: Hypervisor) -> None:
        agent = self.stage.site.agents[hypervisor.name]
        agent.stop()
        agent.start()

    def kill_command(self, hypervisor: Hypervisor) -> None:
        with suppress(LabError):  # none may be waiting just now
            commands.waiting(self.stage.site.agents[hypervisor.name], "br-int", timeout=0.1).process.kill()

    def kill_vswitchd(self, hypervisor: Hypervisor) -> None:
        hypervisor.vswitchd.kill()
        hypervisor.vswitchd.start()

    def restart_ovsdb_server(self, hypervisor: Hypervisor) -> None:
        hypervisor.ovsdb_server.restart()

    def delete_flows(self, hypervisor: Hypervisor) -> None:
        with suppress(LabError):  # the bridge may just be gone
            hypervisor.ofctl("-O", "OpenFlow15", "del-flows", self.random.choice(BRIDGES))

    def falsify_group(self, hypervisor: Hypervisor) -> None:
        with suppress(LabError):
            groups = parse.groups("\n".join(hypervisor.dump_groups("br-tun")), GROUPS)
            for group in list(groups)[:1]:
                hypervisor.ofctl("-O", "OpenFlow15", "mod-group", "br-tun", f"group_id={group.key.group_id},type=all")

    def delete_tunnel_bridge(self, hypervisor: Hypervisor) -> None:
        hypervisor.vsctl("--if-exists", "del-br", "br-tun")

    def kill_broker(self, hypervisor: Hypervisor) -> None:
        self.stage.site.lab.broker.kill()
        self.stage.site.lab.broker.start()

    def stall_broker(self, hypervisor: Hypervisor) -> None:
        self.stage.site.lab.broker.pause()
        time.sleep(self.random.uniform(0, 2))  # so long it stands still
        self.stage.site.lab.broker.resume()

    def cut_broker_off(self, hypervisor: Hypervisor) -> None:
        self.stage.site.lab.underlay.cut("broker")
        time.sleep(self.random.uniform(0, 2))  # so long nothing passes
        self.stage.site.lab.underlay.mend("broker")

    def note_retained(self, hypervisor: Hypervisor) -> None:
        self._past = self._retained()

    def say_the_past_again(self, hypervisor: Hypervisor) -> None:
        self.stage.site.lab.broker.retain(self._past)

    def clear_half_of_what_is_retained(self, hypervisor: Hypervisor) -> None:
        self.stage.site.lab.broker.retain((topic, b"") for topic, _ in self._retained()[::2])

    def write_garbage_over_what_is_retained(self, hypervisor: Hypervisor) -> None:
        self.stage.site.lab.broker.retain((topic, b"{") for topic, _ in self._retained())

    def _retained(self) -> list[tuple[str, bytes]]:
        retained = self.stage.site.lab.broker.retained("portwatch/v1/#")
        return [(topic, payload.encode()) for topic, payload in sorted(retained.items())]


Deed = Callable[[Chaos, Hypervisor], None]
CHURN: tuple[Deed, ...] = (Chaos.plug, Chaos.plug, Chaos.unplug, Chaos.move, Chaos.change)
HARMS: tuple[Deed, ...] = (
    Chaos.kill_agent,
    Chaos.stop_agent,
    Chaos.kill_command,
    Chaos.kill_vswitchd,
    Chaos.restart_ovsdb_server,
    Chaos.delete_flows,
    Chaos.falsify_group,
    Chaos.delete_tunnel_bridge,
    Chaos.kill_broker,
    Chaos.stall_broker,
    Chaos.cut_broker_off,
    Chaos.note_retained,
    Chaos.say_the_past_again,
    Chaos.clear_half_of_what_is_retained,
    Chaos.write_garbage_over_what_is_retained,
)


def main() -> int:
    """Bout after bout, until the time is up; return the exit status."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=minutes, default=10.0, help="how long (default 10)")
    parser.add_argument("--seed", type=int, default=None, help="play what a run with this seed has played")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    ends = time.monotonic() + 60 * options.minutes
    with ExitStack() as stack:
        chaos = Chaos(Stage(a_site(stack)), seed)
        number = 0
        while time.monotonic() < ends:
            number += 1
            try:
                took = chaos.bout()
            except (LabError, AssertionError) as error:
                print(f"bout {number} of seed {seed}: {error}", *chaos.steps, sep="\n  ")
                return 1
            print(f"bout {number}: {len(chaos.steps)} steps, converged {took:.1f} s later", flush=True)
    print(f"All of it held, {number} times.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
