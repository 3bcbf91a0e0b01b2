"""The page in a real Chromium, before an agent that says what the test wants: everything it shows comes from `/v1`."""

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Self

import pytest

from portwatch.http import page
from portwatch.http.messages import Event, EventStream, Request, Response, failure, json_response
from portwatch.http.server import Handler, Server
from tests.browser import NOT_HERE, Browser, browser

pytestmark = [
    pytest.mark.adapters,
    pytest.mark.skipif(NOT_HERE, reason="Ubuntu's Chromium is a snap, which runs in no namespace of ours"),
]

LIGHT, DARK = "light", "dark"
PHONE, DESK = (360, 740), (1280, 900)
PATIENCE = 5.0
AXE = files("axe_core_python").joinpath("axe.min.js")


def a_port(port_id: str, **changes: Any) -> dict[str, Any]:
    """Return a port as `/v1/ports` tells it."""
    return {
        "port_id": port_id,
        "interface": f"tap{port_id[:11]}",
        "ofport": 7,
        "status": "ACTIVE",
        "reason": None,
        "state": "active",
        "network_id": "blue",
        "network_type": "vxlan",
        "segmentation_id": 100,
        "local_vlan": 3,
        "mac": "fa:16:3e:00:00:01",
        "fixed_ips": ["10.0.0.5", "fd00::5"],
        "device_owner": "compute:nova",
        "kind": "single",
        "seq": 1795339202998,
        "revision": 3,
    } | changes


def a_network(network_id: str, hosts: dict[str, int], **changes: Any) -> dict[str, Any]:
    """Return a network as `/v1/networks` tells it; the first of *hosts* is this one."""
    here, *others = hosts.values()
    return {
        "network_id": network_id,
        "segments": [{"type": "vxlan", "id": 100, "local_vlan": 3}],
        "hosts": hosts,
        "local_ports": here,
        "remote_ports": sum(others),
        "peers": [],
        "complete": True,
        "settled": True,
        "incomplete_hosts": [],
        "disagreeing": [],
        "frozen": [],
        "contested": [],
    } | changes


def a_peer(host: str, state: str | None = "online", **changes: Any) -> dict[str, Any]:
    """Return a peer as `/v1/peers` tells it."""
    known = {"host": host, "state": state, "tunnel_ip": "192.0.2.12", "version": "1.0", "ports": 2, "reason": None}
    return known | changes


def a_timing(stage: str, seconds: float, second: int) -> dict[str, Any]:
    """Return a timing as `/v1/convergence` tells it."""
    moment = datetime(2026, 11, 22, 9, 13, second, tzinfo=UTC).isoformat()
    return {"time": moment, "stage": stage, "network_id": "blue", "host": "hv1", "port_id": "web", "seconds": seconds}


def an_explained_port(port_id: str, **changes: Any) -> dict[str, Any]:
    """Return a port as `/v1/explain` tells it."""
    keys = {"iface-id": port_id, "network-id": "blue", "segmentation-id": "100"}
    return a_port(port_id, ovsdb=keys, missing=[]) | changes


def an_explanation(**changes: Any) -> dict[str, Any]:
    """Return an entry of `/v1/explain`."""
    claim = {"status": "ACTIVE", "kind": "single", "seq": 1795339202998, "revision": 3, "tunnel_ip": "192.0.2.12"}
    applied = {"applied": "2026-11-22T09:13:23.010+00:00", "took": 0.012}
    return {
        "network_id": "blue",
        "network_type": "vxlan",
        "segmentation_id": 100,
        "local_vlan": 3,
        "mac": "fa:16:3e:00:00:01",
        "fixed_ips": ["10.0.0.5"],
        "host": "hv2",
        "port_id": "web",
        "tunnel_ip": "192.0.2.12",
        "rule": "higher seq",
        "conflict": False,
        "reason": None,
        "claims": [
            {"host": "hv1", "port_id": "web", "state": "leaving", **claim, "applied": None, "took": None},
            {"host": "hv2", "port_id": "web", "state": "active", **claim, **applied},
        ],
        "port": an_explained_port("web"),
        "flows": [
            {"bridge": "br-tun", "text": "table=20,priority=2,dl_vlan=3 actions=strip_vlan", "installed": True},
            {"bridge": "br-int", "text": "table=41,priority=2,dl_vlan=3 actions=output:2", "installed": False},
        ],
    } | changes


class Told:
    """An agent that says what it is told to, at a real server, in a thread of its own."""

    def __init__(self) -> None:
        self.clear()
        self._queues: set[asyncio.Queue[Event]] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.url = ""

    def clear(self) -> None:
        """Know nothing, and be well."""
        self.trouble: str | None = None
        self.reasons: dict[str, str] = {}
        self.views: dict[str, Any] = {
            "host": {
                "host": "hv1",
                "version": "1.0",
                "tunnel_ip": "192.0.2.11",
                "tunnel_type": "vxlan",
                "leaving": False,
            },
            "ports": [],
            "networks": [],
            "peers": [],
            "convergence": [],
        }
        self.explanations: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    def happens(self, kind: str, **data: Any) -> None:
        """Let every follower hear of an event."""
        known = {"port_id": "web", "host": "hv2", "network_id": "blue", "status": "ACTIVE", "state": "active"}
        event = {"time": datetime.now(UTC).isoformat(), "data": known | data}
        said = Event(json.dumps(event), f"portwatch.port.{kind}")
        for queue in list(self._queues):
            self._loop.call_soon_threadsafe(queue.put_nowait, said)

    async def _serve(self) -> None:
        async with Server(("127.0.0.1", 0), self._routes()) as server:
            self.url = f"http://127.0.0.1:{server.address[1]}/"
            self._started.set()
            await self._end.wait()

    def _routes(self) -> dict[str, Handler]:
        return {
            **page.routes(),
            "/readyz": lambda request: json_response({"reasons": self.reasons}, 503 if self.reasons else 200),
            "/v1/events": lambda request: EventStream(self._events()),
            "/v1/*": self._show,
            "/v1/explain/*": self._explain,
        }

    def _show(self, request: Request) -> Response:
        return failure(503, self.trouble) if self.trouble else json_response(self.views[request.segments[-1]])

    def _explain(self, request: Request) -> Response:
        self.asked.append(request.segments[-1])
        return json_response(self.explanations.get(request.segments[-1], []))

    async def _events(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)


def soon(condition: Callable[[], object], what: str) -> None:
    """Wait for *condition*."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@pytest.fixture(scope="module")
def serving() -> Iterator[Told]:
    with Told() as told:
        yield told


@pytest.fixture
def told(serving: Told) -> Told:
    serving.clear()
    return serving


@pytest.fixture
def window(chromium: Browser, told: Told) -> Iterator[Browser]:
    """Lend out the browser; at the end it must have nothing to complain of."""
    chromium.prefer(LIGHT)
    chromium.resize(*DESK)
    yield chromium
    chromium.open("about:blank")
    assert chromium.complaints() == []


def look(window: Browser, told: Told) -> None:
    """Open the page, and wait until it shows what there is."""
    window.open(told.url)
    soon(lambda: "hv1" in window.text("h1"), "the page shows its host")
    soon(lambda: window.text("#live") == "live", "the page follows the events")


def busy(told: Told) -> None:
    """Let the agent know of ports, networks and peers in every state there is."""
    told.views["ports"] = [
        a_port("web"),
        a_port("db", status="BUILD", network_id=None, local_vlan=None, reason="details-missing: network-id not set"),
        a_port("mail", status="DOWN", state="preparing"),
        a_port("3f0c1a52-8f4e-4b1c-9d22-6f1f0a7be001", status="ERROR", reason="vni-conflict: VNI 100 is red's here"),
        {"port_id": None, "interface": "tapodd", "status": "ERROR", "reason": "bad-id: a slash in iface-id"},
    ]
    told.views["networks"] = [
        a_network("blue", {"hv1": 3, "hv2": 2, "hv3": 4, "hv4": 1, "hv5": 1}, incomplete_hosts=["hv3"], complete=False),
        a_network("green", {"hv1": 1, "hv2": 9}, disagreeing=[{"host": "hv2", "type": "vxlan", "id": 7}]),
        a_network("grey", {"hv1": 1}),
    ]
    states = ("online", "stopped", "leaving", "offline", None)
    told.views["peers"] = [a_peer(f"hv{number}", state) for number, state in enumerate(states, 2)]
    told.views["convergence"] = [
        a_timing(stage, seconds * (1 + number % 7), number)
        for number in range(40)
        for stage, seconds in (("local", 0.004), ("published", 0.0011), ("remote", 0.009))
    ]
    told.explanations["web"] = [an_explanation()]


# --- what it shows ------------------------------------------------------------------------------------------------


def test_a_port_that_comes_and_goes_is_shown_without_reloading(window: Browser, told: Told) -> None:
    look(window, told)
    assert "No port is plugged in here." in window.text("#ports")

    told.views["ports"] = [a_port("web", status="BUILD")]
    told.happens("added", port_id="web", host="hv1", status="BUILD")
    soon(lambda: "BUILD" in window.text("#ports"), "the port is there")

    told.views["ports"] = [a_port("web")]
    told.happens("updated", port_id="web", host="hv1")
    soon(lambda: "ACTIVE" in window.text("#ports"), "the port is active")

    told.views["ports"] = []
    told.happens("removed", port_id="web", host="hv1")
    soon(lambda: "No port is plugged in here." in window.text("#ports"), "the port is gone")
    assert [line for line in window.text("#events-list").splitlines() if line[:1] in "+~−"] == [
        "− removed",
        "~ updated",
        "+ added",
    ]


def test_what_is_wrong_comes_first_and_says_why(window: Browser, told: Told) -> None:
    busy(told)
    look(window, told)

    rows = window.script("return [...document.querySelectorAll('#ports tbody tr')].map((row) => row.innerText)")
    assert [next(word for word in ("ERROR", "BUILD", "DOWN", "ACTIVE") if word in row) for row in rows] == [
        "ERROR",
        "ERROR",
        "BUILD",
        "DOWN",
        "ACTIVE",
    ]
    assert "vni-conflict: VNI 100 is red's here" in rows[0]
    assert "tapodd" in rows[1]
    assert window.text("#peers tbody tr").startswith("hv5")
    assert "Incomplete: not all ports of hv3 have arrived." in window.text("#networks")
    assert "hv2 has it as vxlan 7: the two are not mixed." in window.text("#networks")


def test_the_ports_can_be_filtered(window: Browser, told: Told) -> None:
    told.views["ports"] = [a_port("web", fixed_ips=["10.0.0.5"]), a_port("db", fixed_ips=["10.0.0.66"])]
    look(window, told)

    window.type("#filter", "0.66")

    assert "db" in window.text("#ports tbody")
    assert "web" not in window.text("#ports tbody")


def test_a_thousand_ports_do_not_bury_the_page(window: Browser, told: Told) -> None:
    told.views["ports"] = [a_port(f"port-{number:04}") for number in range(1000)]
    look(window, told)

    assert "200 of 1000 are shown" in window.text("#ports")
    assert window.script("return document.querySelectorAll('#ports tbody tr').length") == 200


def test_the_map_tells_the_hosts_of_the_chosen_network_in_words_too(window: Browser, told: Told) -> None:
    busy(told)
    look(window, told)
    label = "return document.querySelector('#map svg').getAttribute('aria-label')"
    assert window.script(label) == (
        "Hosts of the network blue. hv1: this host, 3 ports; hv5: offline, 1 port; hv3: incomplete, 4 ports;"
        " hv4: leaving, 1 port; hv2: online, 2 ports."
    )

    window.click("#networks-list li:nth-child(2) button")

    assert "hv2: another VNI, 9 ports" in window.script(label)
    pressed = "return document.querySelector('#networks-list [aria-pressed=true]').innerText"
    assert window.script(pressed).startswith("green")


def test_macs_that_hosts_fight_over_are_told_beside_their_network(window: Browser, told: Told) -> None:
    station = {"mac": "fa:16:3e:00:00:01", "hosts": ["hv1", "hv2"]}
    calm, hosts = a_network("calm", {"hv1": 1}), {"hv1": 1, "hv2": 1}
    told.views["networks"] = [calm, a_network("restless", hosts, frozen=[station])]
    look(window, told)

    assert "fa:16:3e:00:00:01 moved too often between hv1 and hv2: it is flooded." in window.text("#networks-list")
    assert "1 needs a look" in window.text("#figures")
    label = window.script("return document.querySelector('#map svg').getAttribute('aria-label')")
    assert label.startswith("Hosts of the network restless."), "the network that needs a look comes up"

    told.views["networks"] = [calm, a_network("doubled", hosts, contested=[station])]
    look(window, told)

    assert "fa:16:3e:00:00:01 is claimed by hv1 and hv2: each delivers" in window.text("#networks-list")


def test_a_network_of_many_hosts_is_drawn_with_the_troubled_ones_first(window: Browser, told: Told) -> None:
    told.views["networks"] = [a_network("blue", {f"hv{number}": 1 for number in range(1, 301)})]
    told.views["peers"] = [a_peer(f"hv{number}", "offline" if number == 250 else "online") for number in range(2, 301)]
    look(window, told)

    drawn = "return [...document.querySelectorAll('#map .host title')].map((title) => title.textContent)"
    assert window.script(drawn)[:2] == ["hv1", "hv250"]
    assert len(window.script(drawn)) == 60
    assert "And 240 more hosts, none worse than these." in window.text("#map")


def test_convergence_is_a_plot_and_its_numbers(window: Browser, told: Told) -> None:
    told.views["convergence"] = [a_timing("local", seconds, 1) for seconds in (0.002, 0.004, 0.9)]
    look(window, told)

    assert window.script("return document.querySelectorAll('#plot .local').length") == 3
    assert [cell for cell in window.text("#stages tbody").split() if cell != "ms"][-3:] == ["4.0", "900", "900"]


def test_an_agent_that_is_not_ready_says_why(window: Browser, told: Told) -> None:
    told.reasons = {"bus": "connection refused"}
    look(window, told)
    assert "bus: connection refused" in window.text("#components")
    assert "switch connected" in window.script("return document.querySelector('#components').textContent")

    told.trouble = "not ready: ovsdb: the first picture is being read"
    told.happens("updated")

    soon(lambda: "the first picture is being read" in window.text("#trouble"), "the page tells the trouble")
    window.open("about:blank")
    # Chromium itself notes every answer of 503.
    assert all("503 (Service Unavailable)" in line for line in window.complaints())


def test_events_can_be_paused(window: Browser, told: Told) -> None:
    look(window, told)
    window.click("#pause")
    told.views["ports"] = [a_port("web")]

    told.happens("added", port_id="web")

    soon(lambda: "web" in window.text("#ports"), "the rest of the page goes on")
    assert window.text("#events-list") == ""


# --- explain ------------------------------------------------------------------------------------------------------


def test_a_click_on_a_port_explains_it(window: Browser, told: Told) -> None:
    busy(told)
    look(window, told)

    window.click("#ports [data-explain=web]")

    soon(lambda: "is delivered to" in window.text("dialog"), "the explanation")
    words = window.text("dialog")
    assert "fa:16:3e:00:00:01 in blue (vxlan 100) is delivered to hv2 (192.0.2.12)" in words
    assert "because it was attached there last" in words
    assert re.search(r":13:23\s+after 12.ms", words), "when its news was applied here"
    assert "network-id=blue" in words, "what OVSDB says of it"
    assert "Flows on br-tun ✓ installed" in words
    assert "Flows on br-int … 1 owed" in words
    assert "table=41,priority=2,dl_vlan=3 actions=output:2" in words
    window.click("#close")
    assert not window.script("return document.querySelector('dialog').open")


def test_an_interface_that_gives_no_port_is_explained_too(window: Browser, told: Told) -> None:
    keys = {"iface-id": "web"}
    no_port = {"name": "tapweb", "reason": "it has no OpenFlow port", "ovsdb": keys}
    told.explanations["tapweb"] = [{"interface": no_port, "claims": [], "flows": []}]
    look(window, told)

    window.type("#name", "tapweb")
    window.press("Enter")

    soon(lambda: "gives no port here: it has no OpenFlow port" in window.text("dialog"), "the answer")
    assert "iface-id=web" in window.text("dialog")


def test_what_is_not_known_is_said_so_whatever_the_name(window: Browser, told: Told) -> None:
    look(window, told)

    window.type("#name", "50% of <b>ä?&#x</b>")
    window.press("Enter")

    soon(lambda: "Nothing is known here of 50% of <b>ä?&#x</b>." in window.text("dialog"), "the answer")
    assert told.asked == ["50% of <b>ä?&#x</b>"]


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>document.title='owned'</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "\u202egnp.exe",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_written_by_others_are_text_and_nothing_else(window: Browser, told: Told, text: str) -> None:
    told.views["ports"] = [a_port(text, reason=text, interface=text, network_id=text)]
    other = {"host": text, "type": text, "id": 1}
    told.views["networks"] = [a_network(text, {"hv1": 1, text: 1}, incomplete_hosts=[text], disagreeing=[other])]
    told.views["peers"] = [a_peer(text, version=text, reason=text)]
    told.views["convergence"] = [{**a_timing("local", 0.1, 1), "port_id": text, "host": text}]
    told.explanations[text] = [
        an_explanation(host=text, reason=text, port=an_explained_port(text, reason=text, ovsdb={text: text}))
    ]
    look(window, told)
    told.happens("added", port_id=text, host=text, network_id=text, reason=text)
    soon(lambda: "added" in window.text("#events-list"), "the event")

    window.click("#ports [data-explain]")

    soon(lambda: text in window.text("dialog"), "the explanation")
    assert window.script("return document.title") == "hv1 – portwatch"
    for place in ("#ports", "#networks-list", "#peers", "#events-list", "dialog"):
        assert text in window.script("return document.querySelector(arguments[0]).textContent", place)
    assert window.script("return document.querySelectorAll('img, [onload], [onerror], script:not([src])').length") == 0


def test_the_browser_itself_lets_no_text_become_an_element(window: Browser, told: Told) -> None:
    look(window, told)

    with pytest.raises(Exception, match="TrustedHTML"):
        window.script("document.body.innerHTML = '<p>'")

    assert any("TrustedHTML" in line for line in window.complaints())


# --- whoever reads it, on whatever --------------------------------------------------------------------------------


def test_all_of_it_works_by_keyboard(window: Browser, told: Told) -> None:
    busy(told)
    look(window, told)
    focused = "return document.activeElement.textContent.trim() || document.activeElement.id"
    passed = []
    while "web" not in passed:
        window.press("Tab")
        passed.append(window.script(focused))
        assert len(passed) < 30, passed
    assert passed[:4] == ["Skip to the content", "name", "Explain", "filter"]

    window.press("Enter")
    soon(lambda: "is delivered to" in window.text("dialog"), "the explanation")
    told.happens("updated")
    window.press("Escape")

    assert not window.script("return document.querySelector('dialog').open")
    assert window.script(focused) == "web"


def test_the_focus_stays_where_it_is_when_a_row_changes(window: Browser, told: Told) -> None:
    told.views["ports"] = [a_port("db"), a_port("web", status="BUILD")]
    look(window, told)
    window.script("document.querySelector('[data-explain=web]').focus()")

    told.views["ports"] = [a_port("db"), a_port("web", status="BUILD", reason="waits")]
    told.happens("updated")

    soon(lambda: "waits" in window.text("#ports"), "the row has changed")
    assert window.script("return document.activeElement.dataset.explain") == "web"


def test_a_phone_shows_it_without_scrolling_sideways(window: Browser, told: Told) -> None:
    busy(told)
    window.resize(*PHONE)
    look(window, told)
    too_wide = """
        const outside = (each) => each.getBoundingClientRect().right > 361 && !each.closest(".unseen, .skip, thead");
        return [...document.querySelectorAll("body *")].filter(outside).map((each) => each.outerHTML.slice(0, 80))"""

    assert window.script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert window.script(too_wide) == []
    window.click("#ports [data-explain=web]")
    soon(lambda: "is delivered to" in window.text("dialog"), "the explanation")
    assert window.script(too_wide) == []


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("size", [DESK, PHONE])
def test_axe_finds_nothing_to_remark(window: Browser, told: Told, scheme: str, size: tuple[int, int]) -> None:
    busy(told)
    window.prefer(scheme)
    window.resize(*size)
    look(window, told)
    told.happens("added")
    told.happens("removed", reason="gone")
    soon(lambda: "removed" in window.text("#events-list"), "the events")
    window.script(AXE.read_text())
    run = """
        const words = (found) => `${found.impact} ${found.id}: ${found.nodes.map((node) => node.html)}`;
        return axe.run(document).then((result) => result.violations.map(words))"""

    assert window.script(run) == []
    window.click("#ports [data-explain=web]")
    soon(lambda: "is delivered to" in window.text("dialog"), "the explanation")
    assert window.script(run) == []


def test_light_and_dark_follow_the_reader(window: Browser, told: Told) -> None:
    look(window, told)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = window.script(ground)

    window.prefer(DARK)

    assert (light, window.script(ground)) == ("rgb(243, 245, 248)", "rgb(16, 21, 28)")
