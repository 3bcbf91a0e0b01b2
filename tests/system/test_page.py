"""The page of a real agent in a real browser; what the picture shows is measured where it happens."""

import re
from collections.abc import Iterator

import pytest

from tests.browser import NOT_HERE, Browser, browser
from tests.lab import Port, eventually
from tests.system.conftest import Site

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(NOT_HERE, reason="Ubuntu's Chromium is a snap, which runs in no namespace of ours"),
]


@pytest.fixture(scope="module")
def chromium(running: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser on hv1 itself: the agent listens to its own host only."""
    place = running.hypervisors[0].namespace
    prefix = ["nsenter", f"--net=/run/netns/{place.name}"]
    with browser(tmp_path_factory.mktemp("chromium"), prefix, place.inside) as window:
        yield window


@pytest.fixture
def window(chromium: Browser, site: Site) -> Iterator[Browser]:
    chromium.open("http://127.0.0.1:9476/")
    eventually(lambda: chromium.text("#live") == "live", 5, "the page follows the events")
    yield chromium
    chromium.open("about:blank")
    # Chromium itself notes each 503 of /readyz: an agent on a busy machine may be behind for a moment.
    assert [line for line in chromium.complaints() if "503 (Service Unavailable)" not in line] == []


def test_a_real_port_appears_is_explained_and_vanishes(site: Site, window: Browser) -> None:
    hv1, hv2, _ = site.hypervisors
    network = site.network("seen")
    here = Port("seen-here", site.lab.mac(), network, ("10.0.0.5/24",))
    there = Port("seen-there", site.lab.mac(), network, ("10.0.0.6/24",))

    site.plug(hv1, here)
    site.plug(hv2, there)

    eventually(lambda: re.search(r"seen-here.*ACTIVE", window.text("#ports"), re.DOTALL), 5, "the port is shown")
    eventually(lambda: "1 port here, 1 on 1 other host" in window.text("#networks"), 5, "so is its network")
    eventually(lambda: "✓ online" in window.text("#peers"), 10, "and the other host")
    eventually(lambda: "seen-there" in window.text("#events-list"), 5, "the other host's event was shown")
    eventually(lambda: "remote" in window.text("#stages"), 5, "what its way took was measured")
    window.type("#name", there.mac)
    window.press("Enter")
    eventually(lambda: f"is delivered to hv2 ({hv2.ip})" in window.text("dialog"), 5, "a remote MAC is explained")
    assert "✓ installed" in window.text("dialog")
    window.press("Escape")

    site.unplug(hv1, here)

    eventually(lambda: "seen-here" not in window.text("#ports"), 5, "it vanishes")
    assert "− removed" in window.text("#events-list")


def test_the_page_says_that_the_bus_is_gone_and_back(site: Site, window: Browser) -> None:
    site.lab.broker.stop()

    eventually(lambda: "✕ bus" in window.text("#components"), 15, "the page tells that the bus is gone")

    site.lab.broker.start()
    eventually(lambda: "✓ bus" in window.text("#components"), 15, "and that it is back")
    for agent in site.agents.values():
        agent.wait_ready()
