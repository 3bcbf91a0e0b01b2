"""The story, step by step: what happens, in order. Each step's own file does it."""

import time

from tests.demo import moving, plugging, tables, talking
from tests.demo.moments import BRIDGES, watching
from tests.demo.screen import Screen, milliseconds
from tests.demo.stage import Stage
from tests.demo.tenants import BLUE_JOB, BLUE_WEB, SERVICES, VMS
from tests.lab import Hypervisor


def tell(stage: Stage) -> None:
    """Play all that follows once the lab is up; the first claim that does not hold raises Failed."""
    _show_lab(stage)
    stage.screen.step("portwatch starts on each")
    _start(stage)
    with watching(stage.lab.hypervisors, stage.lab.state) as stage.moments:
        _play(stage)


def _play(stage: Stage) -> None:
    screen = stage.screen
    screen.step("The tenants' network services on hv3: DHCP, DNS and a gateway")
    _networks(screen)
    stage.news.head()
    plugging.services(stage)

    screen.step("VMs on hv1 and hv2, plugged as libvirt does it")
    plugging.vms(stage)

    screen.step("The VMs ask for their addresses, and resolve a name")
    talking.addresses(stage)

    screen.step("The VMs ping each other")
    talking.pings(stage)

    screen.step("The tenants do not meet, though their addresses are the same")
    talking.isolation(stage)

    screen.step(f"{BLUE_WEB.name} moves to another host while it is pinged")
    moving.move(stage)

    screen.step(f"{BLUE_JOB.name} is unplugged")
    moving.unplug(stage)

    screen.step("What there is now")
    tables.show(stage)
    talking.silence(stage)
    tables.nothing_odd(stage)


def _show_lab(stage: Stage) -> None:
    with stage.proofs.proving("three switches and a broker run") as proof:
        version = stage.lab.hypervisors[0].vsctl("--version").splitlines()[0].split()[-1]
        took = milliseconds(time.time() - stage.screen.started)
        proof.figure = f"Open vSwitch {version}, mosquitto; in {took}"


def _start(stage: Stage) -> None:
    """Start the agents on switches that have neither a bridge for ports nor one for tunnels."""
    with stage.proofs.proving("portwatch is ready on each, with bridges it made", *stage.agents) as proof:
        made = [hypervisor.name for hypervisor in stage.lab.hypervisors if _bridges(hypervisor) & set(BRIDGES)]
        proof.require(not made, f"bridges are there before it starts, on {', '.join(made)}")
        before = time.monotonic()
        for agent in stage.agents.values():
            agent.start()
        for agent in stage.agents.values():
            agent.wait_ready()
        took = time.monotonic() - before
        stage.news.wait_for_hosts(*stage.agents)
        for hypervisor in stage.lab.hypervisors:
            bridges = _bridges(hypervisor)
            proof.require(bridges >= set(BRIDGES), f"{hypervisor.name} has the bridges {bridges}")
        proof.figure = f"{' and '.join(BRIDGES)} on {len(stage.agents)} hosts; {milliseconds(took)}"


def _bridges(hypervisor: Hypervisor) -> set[str]:
    return set(hypervisor.vsctl("list-br").split())


def _networks(screen: Screen) -> None:
    """Show which networks there are, and who is in them."""
    guests = [(guest, card) for guest in (*SERVICES, *VMS) for card in guest.cards]
    rows = []
    for network in dict.fromkeys(card.network for _, card in guests):
        subnet = next(card.address for _, card in guests if card.network == network).rpartition(".")[0]
        members = [
            f"{guest.name.partition('-')[2]} .{card.address.rpartition('.')[2]}"
            for guest, card in guests
            if card.network == network
        ]
        rows.append((network.id, str(network.segmentation_id), f"{subnet}.0/24", ", ".join(members)))
    screen.table(("network", "VNI", "subnet", "who"), rows)
    screen.line()
