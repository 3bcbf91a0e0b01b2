"""Bridges, patch ports and the tunnel port, on a real ovsdb-server and a real ovs-vswitchd (with a dummy datapath)."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from portwatch.errors import OvsdbUnavailable, TransactionFailed
from portwatch.model import GENEVE, GRE, VXLAN, NetworkType
from portwatch.ovsdb import bridges
from portwatch.ovsdb.bridges import BridgeConflict, Bridges, ensure
from tests.adapters.ovsdb_server import OvsdbServer
from tests.adapters.vswitchd import VSwitchd, a_switch

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

ADDRESS = ip_address("192.0.2.11")
TUNNELLED = Bridges(local_ip=ADDRESS)


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[VSwitchd]:
    with a_switch(tmp_path) as switch:
        yield switch


def column(switch: VSwitchd, table: str, name: str, *columns: str) -> list[str]:
    return [line.strip('"') for line in switch.vsctl("get", table, name, *columns).splitlines()]


def rows(switch: VSwitchd, *ports: str) -> list[Any]:
    """The Port rows with all their columns, the version that every change moves included."""
    where = [{"op": "select", "table": "Port", "where": [["name", "==", port]]} for port in ports]
    return switch.database.transact(*where)


def assert_threads_end() -> None:
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        thread.join(10)
        assert not thread.is_alive(), thread


def open_files() -> list[str]:
    return sorted(str(path) for path in Path("/proc/self/fd").iterdir())


def remote(switch: VSwitchd) -> str:
    return switch.database.remote


# --- what is made --------------------------------------------------------------------------------------------


async def test_both_bridges_and_the_patch_between_them_are_made(switch: VSwitchd) -> None:
    await ensure(remote(switch), Bridges())

    assert switch.vsctl("list-br").split() == ["br-int", "br-tun"]
    for bridge in ("br-int", "br-tun"):
        assert column(switch, "Bridge", bridge, "fail_mode", "datapath_type") == ["secure", "system"]
    assert switch.vsctl("list-ports", "br-int").split() == ["patch-tun"]
    assert switch.vsctl("list-ports", "br-tun").split() == ["patch-int"]
    assert column(switch, "Interface", "patch-tun", "type", "options") == ["patch", "{peer=patch-int}"]
    assert column(switch, "Interface", "patch-int", "type", "options") == ["patch", "{peer=patch-tun}"]
    for port in ("patch-tun", "patch-int"):
        assert column(switch, "Port", port, "external_ids:portwatch-owner") == ["true"]
        assert int(*column(switch, "Interface", port, "ofport")) > 0


@pytest.mark.parametrize(
    ("wanted", "name", "kind", "options"),
    [
        (
            Bridges(local_ip=ADDRESS),
            "pw-vxlan",
            "vxlan",
            '{key=flow, local_ip="192.0.2.11", remote_ip=flow}',
        ),
        (
            Bridges(local_ip=ADDRESS, type=GENEVE, port=6082),
            "pw-geneve",
            "geneve",
            '{dst_port="6082", key=flow, local_ip="192.0.2.11", remote_ip=flow}',
        ),
        (
            Bridges(local_ip=ADDRESS, type=GRE, port=4789),
            "pw-gre",
            "gre",
            '{key=flow, local_ip="192.0.2.11", remote_ip=flow}',
        ),
        (
            Bridges(local_ip=ip_address("fd00::11")),
            "pw-vxlan",
            "vxlan",
            '{key=flow, local_ip="fd00::11", remote_ip=flow}',
        ),
        (
            Bridges(local_ip=ip_address("fd00::11"), type=GRE),
            "pw-gre",
            "ip6gre",
            '{key=flow, local_ip="fd00::11", packet_type=legacy_l2, remote_ip=flow}',
        ),
    ],
    ids=["vxlan", "geneve-on-another-port", "gre-has-no-port", "vxlan-over-ipv6", "gre-over-ipv6"],
)
async def test_one_tunnel_port_leads_to_all_peers(
    switch: VSwitchd, wanted: Bridges, name: str, kind: str, options: str
) -> None:
    await ensure(remote(switch), wanted)

    assert switch.vsctl("list-ports", "br-tun").split() == ["patch-int", name]
    assert column(switch, "Interface", name, "type", "options") == [kind, options]
    assert column(switch, "Port", name, "external_ids:portwatch-owner") == ["true"]
    assert int(*column(switch, "Interface", name, "ofport")) > 0


async def test_each_tunnel_type_in_use_has_a_port_and_only_the_main_one_the_configured_number(switch: VSwitchd) -> None:
    wanted = Bridges(local_ip=ADDRESS, port=4790, types=frozenset({VXLAN, GENEVE, GRE}))

    await ensure(remote(switch), wanted)

    names = ["pw-geneve", "pw-gre", "pw-vxlan"]
    assert sorted(switch.vsctl("list-ports", "br-tun").split()) == ["patch-int", *names]
    flow_based = 'key=flow, local_ip="192.0.2.11", remote_ip=flow}'
    options = [column(switch, "Interface", name, "options") for name in names]
    assert options == [["{" + flow_based], ["{" + flow_based], ['{dst_port="4790", ' + flow_based]]


async def test_without_a_tunnel_address_no_type_has_a_tunnel_port(switch: VSwitchd) -> None:
    await ensure(remote(switch), Bridges(types=frozenset({GENEVE})))

    assert switch.vsctl("list-ports", "br-tun").split() == ["patch-int"]


async def test_a_tunnel_port_that_cannot_be_as_wanted_holds_up_no_other(switch: VSwitchd) -> None:
    switch.vsctl("add-br", "br-tun", "--", "add-port", "br-tun", "pw-geneve")

    with pytest.raises(BridgeConflict, match="pw-geneve: exists and is no tunnel port that portwatch made"):
        await ensure(remote(switch), Bridges(local_ip=ADDRESS, types=frozenset({GENEVE, GRE})))

    assert {"pw-vxlan", "pw-gre", "patch-int"} <= set(switch.vsctl("list-ports", "br-tun").split())


async def test_bridges_have_the_names_and_the_datapath_type_that_are_wanted(switch: VSwitchd) -> None:
    await ensure(remote(switch), Bridges(integration="br-a", tunnel="br-b", datapath_type="netdev"))

    assert switch.vsctl("list-br").split() == ["br-a", "br-b"]
    assert switch.vsctl("list-ports", "br-a").split() == ["patch-tun"]
    assert column(switch, "Bridge", "br-b", "datapath_type") == ["netdev"]


@pytest.mark.parametrize("kind", [VXLAN, GENEVE, GRE])
async def test_a_second_call_writes_nothing_at_all(switch: VSwitchd, kind: NetworkType) -> None:
    wanted = Bridges(local_ip=ADDRESS, type=kind, port=4790)
    await ensure(remote(switch), wanted)
    numbers = switch.vsctl("get", "Open_vSwitch", ".", "next_cfg", "cur_cfg")
    written = switch.database.file.read_bytes()

    for _ in range(3):
        await ensure(remote(switch), wanted)

    assert switch.vsctl("get", "Open_vSwitch", ".", "next_cfg", "cur_cfg") == numbers
    assert switch.database.file.read_bytes() == written  # every transaction would have been appended


async def test_it_leaves_neither_threads_nor_descriptors_behind(switch: VSwitchd) -> None:
    await ensure(remote(switch), TUNNELLED)
    files = open_files()

    for number in range(5):
        await ensure(remote(switch), Bridges(local_ip=ADDRESS + number))

    assert_threads_end()
    assert open_files() == files


async def test_the_switch_says_what_the_datapath_can_when_it_is_asked(switch: VSwitchd) -> None:
    await ensure(remote(switch), Bridges(datapath_type="netdev"))
    assert column(switch, "Open_vSwitch", ".", "datapaths") == ["{}"]

    await ensure(remote(switch), Bridges(datapath_type="netdev", ask_datapath=True))

    (row,) = column(switch, "Open_vSwitch", ".", "datapaths:netdev")
    assert column(switch, "Datapath", row, "capabilities:nd_ext") == ["true"]


async def test_the_row_of_a_datapath_that_somebody_else_has_made_stays_theirs(switch: VSwitchd) -> None:
    make = ("--id=@row", "create", "Datapath", "datapath_version=7", "external_ids:theirs=1")
    switch.vsctl(*make, "--", "set", "Open_vSwitch", ".", "datapaths:system=@row")
    wanted = Bridges(ask_datapath=True)
    await ensure(remote(switch), wanted)
    written = switch.database.file.read_bytes()

    await ensure(remote(switch), wanted)

    (row,) = column(switch, "Open_vSwitch", ".", "datapaths:system")
    assert column(switch, "Datapath", row, "datapath_version", "external_ids:theirs") == ["7", "1"]
    assert switch.database.file.read_bytes() == written


# --- what is there already -----------------------------------------------------------------------------------


async def test_a_bridge_that_exists_keeps_its_fail_mode_protocols_and_datapath_type(switch: VSwitchd) -> None:
    settings = ("fail_mode=standalone", "protocols=OpenFlow13", "datapath_type=netdev", "other_config:a=b")
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", *settings)
    before = column(switch, "Bridge", "br-int", "_uuid", "fail_mode", "protocols", "datapath_type", "other_config")

    await ensure(remote(switch), Bridges(datapath_type="netdev"))

    after = column(switch, "Bridge", "br-int", "_uuid", "fail_mode", "protocols", "datapath_type", "other_config")
    assert after == before
    assert switch.vsctl("list-ports", "br-int").split() == ["patch-tun"]


async def test_bridges_of_different_datapath_types_are_refused_for_no_patch_would_join_them(
    switch: VSwitchd,
) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")

    with pytest.raises(BridgeConflict, match="br-int is netdev and br-tun is system"):
        await ensure(remote(switch), Bridges())

    assert switch.vsctl("list-br").split() == ["br-int"]


async def test_other_peoples_ports_are_not_touched(switch: VSwitchd) -> None:
    switch.add_bridge("br-int", "tap1", "tap2")
    switch.vsctl("set", "Bridge", "br-int", "datapath_type=system")
    switch.vsctl("set", "Port", "tap1", "tag=7", "external_ids:theirs=1")
    before = rows(switch, "tap1", "tap2", "br-int")

    await ensure(remote(switch), TUNNELLED)

    assert rows(switch, "tap1", "tap2", "br-int") == before


async def test_patch_ports_that_neutron_made_are_used_and_stay_neutrons(switch: VSwitchd) -> None:
    switch.vsctl("add-br", "br-int", "--", "add-br", "br-tun")
    patch(switch, "br-int", "patch-tun", "patch-int")
    patch(switch, "br-tun", "patch-int", "patch-tun")
    before = rows(switch, "patch-int", "patch-tun")

    await ensure(remote(switch), Bridges())

    assert rows(switch, "patch-int", "patch-tun") == before


async def test_the_missing_half_of_a_patch_is_made(switch: VSwitchd) -> None:
    switch.vsctl("add-br", "br-int")
    patch(switch, "br-int", "patch-tun", "patch-int")

    await ensure(remote(switch), Bridges())

    assert column(switch, "Interface", "patch-int", "type", "options") == ["patch", "{peer=patch-tun}"]


def patch(switch: VSwitchd, bridge: str, name: str, peer: str) -> None:
    words = ("set", "Interface", name, "type=patch", f"options:peer={peer}")
    switch.vsctl("--no-wait", "add-port", bridge, name, "--", *words)


def a_port_without_a_patch(switch: VSwitchd) -> None:
    switch.vsctl("add-port", "br-int", "patch-tun", "--", "set", "Interface", "patch-tun", "type=internal")


def a_patch_to_elsewhere(switch: VSwitchd) -> None:
    patch(switch, "br-int", "patch-tun", "elsewhere")


def a_patch_on_another_bridge(switch: VSwitchd) -> None:
    switch.vsctl("add-br", "br-ex")
    patch(switch, "br-ex", "patch-tun", "patch-int")


@pytest.mark.parametrize("make", [a_port_without_a_patch, a_patch_to_elsewhere, a_patch_on_another_bridge])
async def test_a_name_that_something_else_has_is_said_and_nothing_is_made(
    switch: VSwitchd, make: Callable[[VSwitchd], None]
) -> None:
    switch.vsctl("add-br", "br-int")
    make(switch)
    before = switch.vsctl("list-br")

    with pytest.raises(BridgeConflict, match="patch-tun: exists and is no patch port of br-int") as conflict:
        await ensure(remote(switch), Bridges())

    assert conflict.value.name == "patch-tun"
    assert switch.vsctl("list-br") == before


async def test_a_tunnel_port_of_that_name_that_is_not_ours_is_said_and_left_alone(switch: VSwitchd) -> None:
    switch.vsctl("add-br", "br-tun")
    options = ("type=vxlan", "options:remote_ip=192.0.2.99")
    switch.vsctl("add-port", "br-tun", "pw-vxlan", "--", "set", "Interface", "pw-vxlan", *options)

    with pytest.raises(BridgeConflict, match="pw-vxlan: exists and is no tunnel port that portwatch made"):
        await ensure(remote(switch), TUNNELLED)

    assert column(switch, "Interface", "pw-vxlan", "options") == ['{remote_ip="192.0.2.99"}']


async def test_an_interface_of_that_name_in_a_bond_is_refused_in_ovsdb_servers_words(switch: VSwitchd) -> None:
    switch.vsctl("--no-wait", "add-br", "br-int", "--", "add-bond", "br-int", "bond0", "patch-tun", "eth1")

    with pytest.raises(TransactionFailed, match=r'constraint violation: .*"Interface".*patch-tun'):
        await ensure(remote(switch), Bridges())


# --- what changes --------------------------------------------------------------------------------------------


async def test_another_tunnel_address_changes_the_port_in_place(switch: VSwitchd) -> None:
    await ensure(remote(switch), Bridges(local_ip=ADDRESS, port=4790))
    switch.vsctl("set", "Interface", "pw-vxlan", "options:csum=true")  # an operator's own wish
    port = column(switch, "Port", "pw-vxlan", "_uuid")

    await ensure(remote(switch), Bridges(local_ip=ip_address("192.0.2.12")))

    assert column(switch, "Port", "pw-vxlan", "_uuid") == port
    (options,) = column(switch, "Interface", "pw-vxlan", "options")
    assert options == '{csum="true", key=flow, local_ip="192.0.2.12", remote_ip=flow}'


async def test_what_somebody_writes_at_the_same_moment_is_kept(
    switch: VSwitchd, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure(remote(switch), TUNNELLED)
    looks: list[Any] = []
    look = bridges._missing  # noqa: SLF001  # between the look and the write is no other moment to step in

    def look_and_be_late(api: Any, wanted: Bridges) -> Iterator[Any]:
        changes = list(look(api, wanted))
        if not looks:
            switch.database.vsctl("set", "Interface", "pw-vxlan", "options:csum=true")
        looks.append(changes)
        return iter(changes)

    monkeypatch.setattr(bridges, "_missing", look_and_be_late)

    await ensure(remote(switch), Bridges(local_ip=ip_address("192.0.2.12")))

    assert len(looks) == 2
    (options,) = column(switch, "Interface", "pw-vxlan", "options")
    assert options == '{csum="true", key=flow, local_ip="192.0.2.12", remote_ip=flow}'


async def test_without_a_tunnel_address_a_tunnel_port_that_is_there_stays(switch: VSwitchd) -> None:
    await ensure(remote(switch), TUNNELLED)
    number = column(switch, "Interface", "pw-vxlan", "ofport")

    await ensure(remote(switch), Bridges())

    assert column(switch, "Interface", "pw-vxlan", "ofport") == number


# --- what goes wrong -----------------------------------------------------------------------------------------


async def test_a_tunnel_port_that_the_switch_cannot_make_is_said_in_its_words(switch: VSwitchd) -> None:
    await ensure(remote(switch), TUNNELLED)
    switch.kill()
    # What ovs-vswitchd writes when a port of somebody else has the same tunnel; a dummy has no tunnels.
    words = "could not add network device pw-vxlan to ofproto (File exists)"
    switch.database.vsctl("set", "Interface", "pw-vxlan", "ofport=-1", f'error="{words}"')

    with pytest.raises(BridgeConflict, match=rf"pw-vxlan: ovs-vswitchd cannot make it: {re.escape(words)}") as conflict:
        await ensure(remote(switch), TUNNELLED)

    assert conflict.value.name == "pw-vxlan"


async def test_a_datapath_that_this_host_does_not_have_is_said(switch: VSwitchd) -> None:
    with pytest.raises(BridgeConflict, match=r"br-int: ovs-vswitchd has not made it: .*datapath type nonsense"):
        await ensure(remote(switch), Bridges(datapath_type="nonsense"), timeout=2)


async def test_a_database_that_open_vswitch_has_not_filled_yet_is_unavailable(tmp_path: Path) -> None:
    server = OvsdbServer(tmp_path)
    server.start()
    try:
        with pytest.raises(OvsdbUnavailable, match="the database is empty"):
            await ensure(server.remote, Bridges())
    finally:
        server.kill()


async def test_a_switch_that_does_not_follow_is_named_and_when_it_runs_all_is_well(switch: VSwitchd) -> None:
    switch.kill()
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(OvsdbUnavailable, match="ovs-vswitchd has not followed: is it running"):
            await ensure(remote(switch), TUNNELLED, timeout=2)
    assert time.monotonic() - start < 10

    switch.start()

    await ensure(remote(switch), TUNNELLED)
    assert int(*column(switch, "Interface", "pw-vxlan", "ofport")) > 0


async def test_no_ovsdb_server_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(OvsdbUnavailable, match=r"no such socket: .*the bridges were not looked at"):
        await ensure(OvsdbServer(tmp_path).remote, Bridges(), timeout=0.2)


async def test_an_ovsdb_server_that_hangs_is_given_up_in_time_and_holds_no_thread(
    switch: VSwitchd, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure(remote(switch), Bridges())
    files = open_files()
    look = bridges._missing  # noqa: SLF001  # the worst moment to hang is right before the answer

    def look_and_hang(api: Any, wanted: Bridges) -> Iterator[Any]:
        switch.database.stop()
        return look(api, wanted)

    monkeypatch.setattr(bridges, "_missing", look_and_hang)
    start = time.monotonic()
    with pytest.raises(OvsdbUnavailable, match="does not answer; the bridges may or may not have been arranged"):
        await ensure(remote(switch), TUNNELLED, timeout=2)

    assert time.monotonic() - start < 10
    assert_threads_end()
    assert open_files() == files
    switch.database.go_on()
