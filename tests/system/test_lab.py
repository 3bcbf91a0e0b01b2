"""The lab keeps its promises: real tunnels, real guests, real faults, and no trace afterwards."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import (
    Hypervisor,
    Lab,
    Network,
    Nic,
    NotInTime,
    Port,
    ProcessFailed,
    Vm,
    eventually,
    frames,
)
from tests.lab.namespaces import existing
from tests.lab.ownership import ProcessId, Record, records
from tests.lab.sweep import sweep

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).parents[2]
BLUE = Network("blue", 100)

AN_AGENT = """
import http.server, json, os, signal, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ready = threading.Event()
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if ready.is_set() else 503)
        self.end_headers()
        self.wfile.write(b"yes" if ready.is_set() else b"the bus is not connected")
        ready.set()
    def log_message(self, *_): pass
settings = {key: value for key, value in os.environ.items() if key.startswith("PORTWATCH_")}
print(json.dumps({"event": "started", **settings}), file=sys.stderr, flush=True)
host, _, port = os.environ["PORTWATCH_HTTP__LISTEN"].rpartition(":")
http.server.HTTPServer((host, int(port)), Answers).serve_forever()
"""

AN_OWNER = """
import signal, sys, time
from tests.lab import Lab
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored
with Lab(hypervisors=1) as lab:
    lab.agent(lab.hypervisors[0], ["sh", "-c", "sleep 600 & wait"]).start()
    print(lab.token, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def running_lab() -> Iterator[Lab]:
    with Lab(hypervisors=3) as lab:
        yield lab


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """The same lab for each test, with empty hypervisors."""
    yield running_lab
    for hypervisor in running_lab.hypervisors:
        for bridge in ("br-int", "br-tun"):
            hypervisor.vsctl("--if-exists", "del-br", bridge)


def a_guest(lab: Lab, name: str, *addresses: str, gateways: tuple[str, ...] = ()) -> tuple[Vm, Nic]:
    vm = lab.vm(name)
    return vm, vm.nic(name, lab.mac(), addresses, BLUE, gateways=gateways)


def switch_as_usual(hypervisor: Hypervisor) -> None:
    """Let br-int learn and flood like any switch."""
    hypervisor.create_bridge()
    hypervisor.ofctl("add-flow", "br-int", "actions=NORMAL")


def tunnel(here: Hypervisor, there: Hypervisor, kind: str, *, ipv6: bool = False) -> None:
    """Program by hand what portwatch will: one flow-based tunnel port, and patch ports to br-int."""
    switch_as_usual(here)
    here.create_bridge("br-tun")
    local, remote = (here.ip6, there.ip6) if ipv6 else (here.ip, there.ip)
    options = [f'options:local_ip="{local}"', "options:remote_ip=flow", "options:key=flow"]
    here.vsctl(
        *("add-port", "br-int", "patch-tun", "--"),
        *("set", "Interface", "patch-tun", "type=patch", "options:peer=patch-int", "--"),
        *("add-port", "br-tun", "patch-int", "--"),
        *("set", "Interface", "patch-int", "type=patch", "options:peer=patch-tun", "--"),
        *("add-port", "br-tun", "tunnel", "--"),
        *("set", "Interface", "tunnel", f"type={kind}", *options),
    )
    patch, port = here.ofport("patch-int"), here.ofport("tunnel")
    field = "tun_ipv6_dst" if ipv6 else "tun_dst"
    outwards = f"set_field:{BLUE.segmentation_id}->tun_id,set_field:{remote}->{field},output:{port}"
    flows = [
        f"in_port={patch} actions={outwards}",
        f"in_port={port},tun_id={BLUE.segmentation_id} actions=output:{patch}",
    ]
    here.ofctl("add-flows", "br-tun", "-", stdin="\n".join(flows))


def send_by_tcp(sender: Vm, receiver: Vm, address: str, size: int) -> int:
    """Send *size* bytes and return how many arrived."""
    listener = receiver.namespace.inside(lambda: socket.create_server((address, 7000)))
    arrived = 0

    def receive() -> None:
        nonlocal arrived
        connection, _ = listener.accept()
        connection.settimeout(10)
        with connection:
            while block := connection.recv(65536):
                arrived += len(block)

    def send() -> None:
        with socket.create_connection((address, 7000), timeout=10) as connection:
            connection.sendall(b"x" * size)

    listener.settimeout(10)
    receiving = threading.Thread(target=receive)
    receiving.start()
    sender.namespace.inside(send)
    receiving.join(20)
    listener.close()
    return arrived


def traces(token: str) -> list[str]:
    """What there is of a lab: its directory, its namespaces, and processes that name either."""
    record = Record(token)
    found = [str(record.directory)] if record.directory.exists() else []
    found += existing(record.namespace_prefix)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (identity := ProcessId.of(int(entry.name))) and identity.alive():
            command = (entry / "cmdline").read_bytes()
            if f"pw{token}".encode() in command:
                found.append(command.decode())
    return found


@pytest.mark.parametrize("version", [4, 6])
def test_hypervisors_reach_each_other_and_the_broker(lab: Lab, version: int) -> None:
    hv1, hv2, hv3 = lab.hypervisors

    addresses = ["192.0.2.2", hv2.ip, hv3.ip] if version == 4 else ["2001:db8::2", hv2.ip6, hv3.ip6]

    for address in addresses:
        hv1.namespace.run("ping", "-n", "-c", "1", "-W", "2", address)


def test_a_hypervisor_answers_for_its_tunnel_address_once(lab: Lab) -> None:
    hv1, hv2, _ = lab.hypervisors

    answers = hv1.namespace.inside(lambda: frames.ask("br-phy", hv1.mac, hv1.ip, hv2.ip, wait=0.3))
    answers6 = hv1.namespace.inside(lambda: frames.ask("br-phy", hv1.mac, hv1.ip6, hv2.ip6, wait=0.3))

    assert answers == answers6 == [hv2.mac]


@pytest.mark.parametrize(("kind", "ipv6"), [("vxlan", False), ("geneve", False), ("gre", False), ("vxlan", True)])
def test_guests_talk_through_a_flow_based_tunnel(lab: Lab, kind: str, *, ipv6: bool) -> None:
    hv1, hv2, _ = lab.hypervisors
    tunnel(hv1, hv2, kind, ipv6=ipv6)
    tunnel(hv2, hv1, kind, ipv6=ipv6)
    name = f"{kind}{6 if ipv6 else 4}"
    left, left_nic = a_guest(lab, f"l{name}", "10.0.0.1/24", "fd00::1/64")
    right, right_nic = a_guest(lab, f"r{name}", "10.0.0.2/24", "fd00::2/64")

    hv1.plug(left_nic)
    hv2.plug(right_nic)

    left.reach("10.0.0.2")
    left.reach("fd00::2")
    assert left.ping("10.0.0.2", count=20, interval=0.01).ok
    assert left.ping("fd00::2", count=20, interval=0.01).ok
    assert send_by_tcp(left, right, "10.0.0.2", 1_000_000) == 1_000_000
    hv1.unplug(left_nic)
    hv2.unplug(right_nic)


def test_a_guest_gets_its_address_by_dhcp_and_resolves_names(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    switch_as_usual(hv1)
    server, server_nic = a_guest(lab, "dhcp", "10.0.0.2/24")
    guest = lab.vm("dhcp-guest")
    mac = lab.mac()
    guest_nic = guest.nic("dhcp-guest", mac, ("10.0.0.77/24",), BLUE, configure=False)
    hv1.plug_many([server_nic, guest_nic])
    of_this_machine = Path("/etc/resolv.conf").read_bytes()
    server.dnsmasq(
        "--dhcp-option=option:router,10.0.0.1",
        dhcp_range="10.0.0.50,10.0.0.99,1h",
        hosts={mac: "10.0.0.77"},
        names={"web.blue.test": "10.0.0.5"},
    )

    lease = guest.dhcp()

    assert (lease.ip, lease.router, lease.dns) == ("10.0.0.77/24", "10.0.0.1", "10.0.0.2")
    assert guest.resolve("web.blue.test", lease.dns) == ["10.0.0.5"]
    assert guest.resolve("nobody.blue.test", lease.dns) == []
    assert guest.ping("10.0.0.2").ok
    assert "default via 10.0.0.1" in guest.exec("ip", "route")
    assert Path("/etc/resolv.conf").read_bytes() == of_this_machine


def test_a_guest_with_two_cards_routes_between_networks(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    hv1.create_bridge()
    left, left_nic = a_guest(lab, "left", "10.1.0.5/24", "fd01::5/64", gateways=("10.1.0.1", "fd01::1"))
    right, right_nic = a_guest(lab, "right", "10.2.0.5/24", "fd02::5/64", gateways=("10.2.0.1", "fd02::1"))
    router = lab.vm("router", router=True)
    to_left = router.nic("to-left", lab.mac(), ("10.1.0.1/24", "fd01::1/64"), BLUE)
    to_right = router.nic("to-right", lab.mac(), ("10.2.0.1/24", "fd02::1/64"), Network("red", 200))
    hv1.plug_many([left_nic, right_nic, to_left, to_right])
    cables = [(hv1.ofport(left_nic), hv1.ofport(to_left)), (hv1.ofport(right_nic), hv1.ofport(to_right))]
    both_ways = [(a, b) for pair in cables for a, b in (pair, pair[::-1])]
    hv1.ofctl("add-flows", "br-int", "-", stdin="\n".join(f"in_port={a} actions={b}" for a, b in both_ways))

    left.reach("10.2.0.5")
    left.reach("fd02::5")
    assert right.ping("10.1.0.5", count=3).ok


def test_a_migrated_guest_keeps_its_card_and_loses_little(lab: Lab) -> None:
    hv1, hv2, _ = lab.hypervisors
    tunnel(hv1, hv2, "vxlan")
    tunnel(hv2, hv1, "vxlan")
    watcher, watcher_nic = a_guest(lab, "watcher", "10.0.0.1/24")
    mover, mover_nic = a_guest(lab, "mover", "10.0.0.2/24", gateways=("10.0.0.1",))
    hv1.plug(watcher_nic)
    hv1.plug(mover_nic)
    watcher.reach("10.0.0.2")
    before = mover.exec("ip", "-o", "address", "show", "dev", "eth0"), mover.exec("ip", "route")
    announced = watcher.capture("ether proto 0x8035")
    probe = watcher.probe("10.0.0.2")
    eventually(lambda: probe.answers() > 20, 5, "answers before the move")

    lab.move(mover_nic, hv1, hv2)

    answered = probe.answers()
    eventually(lambda: probe.answers() > answered + 20, 5, "answers after the move")
    result = probe.stop()
    assert result.longest_gap.seconds < 1
    assert result.duplicates == 0
    assert len(result.lost) < 100
    assert (mover.exec("ip", "-o", "address", "show", "dev", "eth0"), mover.exec("ip", "route")) == before
    assert hv1.row("Interface", "tapmover") is None
    assert mover_nic.runs_on == "hv2"
    announced.wait_for(mover_nic.port.mac)


def test_a_plugged_port_carries_the_keys_of_libvirt_and_orchestrator(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    port = Port("3f0c6a1e-0001", lab.mac(), BLUE, ("10.0.0.5/24", "fd00::5/64"))

    hv1.plug(port, {"fixed-ips": "not an address", "device-owner": None, "port-kind": "shared"})

    assert external_ids(hv1, port) == {
        "iface-id": "3f0c6a1e-0001",
        "attached-mac": port.mac,
        "iface-status": "active",
        "network-id": "blue",
        "network-type": "vxlan",
        "segmentation-id": "100",
        "fixed-ips": "not an address",
        "port-kind": "shared",
    }
    hv1.set_external_ids(port, {"port-kind": None, "iface-status": "inactive"})
    assert "port-kind" not in external_ids(hv1, port)
    assert external_ids(hv1, port)["iface-status"] == "inactive"
    hv1.unplug(port)
    assert hv1.row("Interface", port.device) is None


def test_a_burst_of_ports_is_one_transaction(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    ports = [Port(f"burst{number}", lab.mac(), BLUE) for number in range(100)]

    hv1.plug_many(ports)
    hv1.plug(Port("bare", lab.mac()), bare=True)

    assert all(hv1.ofport(port) for port in ports)
    assert hv1.ofport("tapbare")
    assert external_ids(hv1, Port("bare", "")) == {}
    hv1.unplug_many(ports)
    assert hv1.vsctl("list-ports", "br-int").split() == ["tapbare"]


def test_a_cut_cable_is_silent_and_can_be_mended(lab: Lab) -> None:
    hv1, hv2, _ = lab.hypervisors
    lab.underlay.cut("hv2")

    with pytest.raises(NotInTime, match="hv2 answers"):
        eventually(lambda: pings(hv1, hv2), 0.5, "hv2 answers")

    lab.underlay.mend("hv2")
    eventually(lambda: pings(hv1, hv2), 10, "hv2 answers")


def test_a_raw_frame_reaches_a_capture(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    switch_as_usual(hv1)
    sender, sender_nic = a_guest(lab, "sender", "10.0.0.1/24")
    hearer, hearer_nic = a_guest(lab, "hearer", "10.0.0.2/24")
    hv1.plug_many([sender_nic, hearer_nic])
    sender.reach("10.0.0.2")
    capture = hearer.capture("ether src fa:16:3e:99:99:99")

    sender.send(frames.gratuitous_arp("fa:16:3e:99:99:99", "10.0.0.9"))
    sender.send(frames.ethernet(frames.BROADCAST, "fa:16:3e:99:99:99", 0x88B5, b"hello"))

    capture.wait_for("10.0.0.9")
    capture.wait_for("0x88b5")
    assert len(capture.stop()) == 2
    assert sender.who_has("10.0.0.2") == [hearer_nic.port.mac]
    assert sender.cannot_reach("10.0.0.3")


def test_a_recorder_hears_what_is_retained_and_what_comes(lab: Lab) -> None:
    lab.broker.publish("test/kept", '{"a": 1}', retain=True, content_type="application/cloudevents+json")

    recorder = lab.broker.subscribe("test/#")
    lab.broker.publish("test/live", "söme wörds")
    lab.broker.publish("test/kept", "", retain=True)

    gone = recorder.wait_for(lambda message: message.payload == "", "the end of test/kept")
    kept, live, _ = recorder.messages
    assert (kept.topic, kept.json(), kept.retain, kept.snapshot) == ("test/kept", {"a": 1}, True, True)
    assert kept.properties["content-type"] == "application/cloudevents+json"
    assert (live.payload, live.retain, live.snapshot) == ("söme wörds", False, False)
    assert (gone.topic, gone.retain, gone.snapshot) == ("test/kept", True, False)
    assert live.time <= gone.time


@pytest.mark.parametrize("default_limits", [False, True])
def test_retained_messages_are_read_completely(*, default_limits: bool) -> None:
    with Lab(hypervisors=0, default_limits=default_limits) as lab:
        wanted = {f"test/many/{number}": f"{number}-{'x' * 80}" for number in range(5000)}
        publish_many(lab, wanted)

        assert lab.broker.retained("test/many/#") == wanted
        assert lab.broker.retained("#") == wanted
        assert lab.broker.retained("test/many/7", "nothing/#") == {"test/many/7": wanted["test/many/7"]}


def test_a_persistent_broker_remembers() -> None:
    with Lab(hypervisors=0, persistent_broker=True) as lab:
        lab.broker.publish("test/kept", "before", retain=True)

        assert lab.broker.restart() == 0

        assert lab.broker.retained("#") == {"test/kept": "before"}


def test_a_killed_broker_forgets_and_a_recorder_comes_back(lab: Lab) -> None:
    lab.broker.publish("test/kept", "before", retain=True)
    recorder = lab.broker.subscribe("test/#")

    assert lab.broker.kill() == -signal.SIGKILL
    lab.broker.start()

    assert lab.broker.retained("#") == {}

    def heard() -> bool:
        lab.broker.publish("test/live", "after")
        return len(recorder.messages) > 1

    eventually(heard, 10, "a message again")


def test_a_killed_switch_comes_back_with_its_tunnel_address(lab: Lab) -> None:
    hv1, hv2, _ = lab.hypervisors
    port = Port("stays", lab.mac(), BLUE)
    hv2.plug(port)

    assert hv2.vswitchd.kill() == -signal.SIGKILL
    assert not pings(hv1, hv2)
    hv2.vswitchd.start()

    eventually(lambda: pings(hv1, hv2), 10, "hv2 answers")
    assert hv2.ofport(port)


def test_a_killed_database_comes_back_with_its_ports(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    port = Port("stays", lab.mac(), BLUE)
    hv1.plug(port)

    assert hv1.ovsdb_server.kill() == -signal.SIGKILL
    hv1.ovsdb_server.start()

    assert hv1.row("Interface", port.device)
    # ofport is not on disk: vswitchd writes it again when it has found its way back
    eventually(lambda: hv1.ofport(port), 15, "the port has its number again")


@pytest.mark.parametrize("daemon", ["vswitchd", "ovsdb_server"])
def test_a_daemon_stops_starts_pauses_and_resumes(lab: Lab, daemon: str) -> None:
    hv3 = lab.hypervisors[2]
    process = getattr(hv3, daemon)

    process.pause()
    process.resume()
    assert process.restart() == -signal.SIGTERM  # OVS cleans up, then lets the signal have its way

    hv3.plug(Port("new", lab.mac(), BLUE))
    assert hv3.ofport("tapnew")


def test_a_paused_switch_carries_nothing(lab: Lab) -> None:
    hv1, hv2, _ = lab.hypervisors

    hv2.vswitchd.pause()
    assert not pings(hv1, hv2)
    hv2.vswitchd.resume()

    eventually(lambda: pings(hv1, hv2), 10, "hv2 answers")


def test_an_agent_runs_where_its_hypervisor_is(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    agent = lab.agent(hv1, [sys.executable, "-c", AN_AGENT], {"PORTWATCH_PEERS__GRACE": "5"})

    agent.start()
    agent.wait_ready()

    assert agent.http_get("/readyz") == (200, "yes")
    started = agent.log_records()[0]
    assert started["PORTWATCH_OVSDB__REMOTE"] == f"unix:{hv1.db}"
    assert started["PORTWATCH_TUNNEL__LOCAL_IP"] == "192.0.2.11"
    assert started["PORTWATCH_BUS__URL"] == "mqtt://192.0.2.2:1883"
    assert started["PORTWATCH_PEERS__GRACE"] == "5"
    assert agent.restart() == 0
    agent.wait_ready()
    assert agent.kill() == -signal.SIGKILL
    with pytest.raises(ConnectionRefusedError):
        agent.http_get("/readyz")
    assert len(agent.log_records()) == 2


def test_a_process_outlives_the_thread_that_started_it(lab: Lab) -> None:
    agent = lab.agent(lab.hypervisors[0], ["sleep", "600"])
    thread = threading.Thread(target=agent.start)
    thread.start()
    thread.join()

    with pytest.raises(NotInTime):
        agent.process.wait(0.5)
    agent.kill()


def test_an_agent_that_ends_or_stays_unready_says_why(lab: Lab) -> None:
    hv1, *_ = lab.hypervisors
    ending = lab.agent(hv1, [sys.executable, "-c", "import sys; sys.exit('portwatch: no such key: tunel')"])
    unready = lab.agent(hv1, [sys.executable, "-c", AN_AGENT.replace("ready.set()", "pass")])

    ending.start()
    with pytest.raises(ProcessFailed, match=r"(?s)status 1.*no such key: tunel"):
        ending.wait_ready()

    unready.start()
    with pytest.raises(ProcessFailed, match="the bus is not connected"):
        unready.wait_ready(timeout=1)
    assert unready.stop() == 0


def test_a_switch_that_cannot_start_fails_with_its_last_words(lab: Lab) -> None:
    hv3 = lab.hypervisors[2]
    hv3.vswitchd.stop()
    hv3.ovsdb_server.stop()
    database = hv3.rundir / "conf.db"
    sound = database.read_bytes()
    database.write_text("no database at all")

    with pytest.raises(ProcessFailed, match=r"(?s)hv3-ovsdb-server: ended with status 1.*conf\.db"):
        hv3.ovsdb_server.start()

    database.write_bytes(sound)
    hv3.ovsdb_server.start()
    hv3.vswitchd.start()


def test_nothing_remains_after_the_context() -> None:
    lab = Lab(hypervisors=1)

    with pytest.raises(ZeroDivisionError), lab:  # noqa: PT012
        vm, nic = a_guest(lab, "vm", "10.0.0.1/24")
        lab.hypervisors[0].plug(nic)
        vm.probe("10.0.0.2")
        lab.hypervisors[0].vswitchd.pause()
        lab.agent(lab.hypervisors[0], ["sh", "-c", "sleep 600 & wait"]).start()
        grandchild = eventually(lambda: sleeper(lab.token), 5, "the agent's own child")
        raise ZeroDivisionError

    assert not grandchild.alive()
    assert traces(lab.token) == []


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_nothing_remains_after_a_signal(sign: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", AN_OWNER], cwd=REPOSITORY, stdout=-1, stderr=-1) as owner:
        assert owner.stdout
        token = owner.stdout.readline().decode().strip()
        assert traces(token)

        owner.send_signal(sign)
        owner.communicate(timeout=20)

    assert traces(token) == []


def test_a_sweep_removes_what_a_killed_owner_left_and_nothing_else(lab: Lab) -> None:
    with subprocess.Popen([sys.executable, "-c", AN_OWNER], cwd=REPOSITORY, stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        token = owner.stdout.readline().decode().strip()
        assert token not in sweep()
        grandchild = eventually(lambda: sleeper(token), 5, "the agent's own child")
        owner.kill()
    children = Record(token).processes()
    eventually(lambda: not any(child.alive() for child in children), 5, "all children died with their owner")
    assert grandchild.alive()

    assert token in sweep()

    assert not grandchild.alive()
    assert traces(token) == []
    assert lab.token in [record.token for record in records()]
    assert all(hypervisor.vswitchd.running for hypervisor in lab.hypervisors)


def sleeper(token: str) -> ProcessId | None:
    """The process that AN_OWNER's agent has started in turn."""
    kin = list(Record(token).kin())
    return next((one for one in kin if Path(f"/proc/{one.pid}/comm").read_text() == "sleep\n"), None)


def pings(here: Hypervisor, there: Hypervisor) -> bool:
    output = here.namespace.run("sh", "-c", f"ping -n -c 1 -W 0.3 {there.ip} || true")
    return " 1 received" in output


def external_ids(hypervisor: Hypervisor, port: Port) -> dict[str, object]:
    row = hypervisor.row("Interface", port.device)
    assert row is not None
    keys = row["external_ids"]
    assert isinstance(keys, dict)
    return dict(keys)


def publish_many(lab: Lab, messages: dict[str, str]) -> None:
    """Publish thousands of retained messages in one go, as a stream of MQTT 3.1.1 packets."""
    with socket.socket(socket.AF_UNIX) as broker:
        broker.settimeout(10)
        broker.connect(str(lab.broker.socket))
        broker.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        assert broker.recv(4) == b"\x20\x02\x00\x00"
        for topic, payload in messages.items():
            body = len(topic).to_bytes(2) + topic.encode() + payload.encode()
            broker.sendall(b"\x31" + bytes([len(body)]) + body)
        broker.sendall(b"\xc0\x00")  # PINGREQ: its answer comes when all else is done
        assert broker.recv(2) == b"\xd0\x00"
