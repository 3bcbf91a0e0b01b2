"""Takes the pictures of docs/page anew: the page of a real agent among five hypervisors, in a headless Chromium.

What they show of convergence is measured here and now: `make pictures` on a calm machine. Most of it before the browser
is there, which needs more of a small machine than all agents together.
"""

import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Final

from tests.browser import Browser, browser
from tests.lab import Hypervisor, Lab, Network, Port, eventually
from tests.system.conftest import Site

PLACE: Final = Path(__file__).parents[1] / "docs/page"
DESK, TALL, PHONE = (1280, 900), (1280, 1390), (360, 780)
PATIENCE: Final = 20.0
STAY: Final = 2
"""Of the ports that come and go, so many are there at a time."""
EVERY: Final = 0.4
"""Seconds between changes: the plot shall have some breadth."""

BLUE, GREEN, OPS, RED = Network("blue", 100), Network("green", 200), Network("ops", 300), Network("red", 100)
PORTS: Final = {
    "hv1": ((BLUE, "web-1", "web-2"), (GREEN, "db-1"), (OPS, "bastion"), (RED, "mail")),
    "hv2": ((BLUE, "web-3", "web-4"), (GREEN, "db-2"), (OPS, "monitor")),
    "hv3": ((BLUE, "web-5"), (GREEN, "cache-1")),
    "hv4": ((BLUE, "web-6"),),
    "hv5": ((BLUE, "web-7"),),
}


def main() -> None:
    """Build the lab, let things happen, take the pictures."""
    with Lab(len(PORTS)) as lab, ExitStack() as stack:
        agents = {hypervisor.name: lab.agent(hypervisor) for hypervisor in lab.hypervisors}
        for agent in agents.values():
            agent.start()
        for agent in agents.values():
            agent.wait_ready()
        site, here = Site(lab, agents), lab.hypervisors[0]
        prefix = ["nsenter", f"--net=/run/netns/{here.namespace.name}"]
        _furnish(site)
        eventually(lambda: all(row["settled"] for row in site.ask(here, "networks")), PATIENCE, "all has been heard")
        agents["hv4"].kill()
        _bustle(site, range(1, 19))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        window = stack.enter_context(browser(folder, prefix, here.namespace.inside))
        window.open("http://127.0.0.1:9476/")
        _shown(window, "#live", "live")
        _bustle(site, range(19, 25))
        _shown(window, "#peers", "offline")
        _shown(window, "#events-list", "removed")
        _take(window, "light", "light", TALL)
        _take(window, "dark", "dark", TALL)
        _take(window, "phone", "light", PHONE)
        window.resize(*DESK)
        window.click("#ports [data-explain=web-4]")
        _shown(window, "dialog", "Claims")
        _take(window, "explain", "light", DESK)


def _furnish(site: Site) -> None:
    """Plug in what stays: among it a port whose VNI is taken, one that nobody described, and one on its way here."""
    numbers = count(10)
    made: dict[str, Port] = {}

    def port(name: str, network: Network | None) -> Port:
        return Port(name, site.lab.mac(), network, (f"10.0.1.{next(numbers)}/24",))

    for hypervisor in site.hypervisors:
        for network, *names in PORTS[hypervisor.name]:
            for name in names:
                made[name] = port(name, network)
                site.plug(hypervisor, made[name])
                if network is not RED:
                    site.wait_active(hypervisor, made[name])
    here = site.hypervisors[0]
    site.plug(here, port("new-vm", None))
    site.plug(here, made["web-4"], {"iface-status": "inactive"})


def _bustle(site: Site, turns: range) -> None:
    """Let ports come and go, one at a time."""
    hv1, hv2, _, _, hv5 = site.hypervisors
    before: list[tuple[Hypervisor, Port]] = []
    for turn in turns:
        hypervisor, network = ((hv1, GREEN), (hv2, BLUE), (hv5, BLUE))[turn % 3]
        made = Port(f"batch-{turn:02d}", site.lab.mac(), network, (f"10.0.2.{turn}/24",))
        site.plug(hypervisor, made)
        site.wait_active(hypervisor, made)
        before.append((hypervisor, made))
        if len(before) > STAY:
            site.unplug(*before.pop(0))
        time.sleep(EVERY)


def _take(window: Browser, name: str, scheme: str, size: tuple[int, int]) -> None:
    window.resize(*size)
    window.prefer(scheme)
    time.sleep(1)  # the map and the plot are drawn anew for their width; what has just come fades
    (PLACE / f"{name}.png").write_bytes(window.picture())


def _shown(window: Browser, selector: str, words: str) -> None:
    eventually(lambda: words in window.text(selector), PATIENCE, f"{words} is shown at {selector}")


if __name__ == "__main__":
    main()
