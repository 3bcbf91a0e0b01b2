"""ovs-ofctl as portwatch runs it, against a real switch."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from portwatch.errors import BundleInvalid, OutcomeUnknown, SwitchUnavailable
from portwatch.switch.fault import LineRejected, OpenFlowVersionRefused
from portwatch.switch.ofctl import OfCtl
from tests.adapters.cut import Cut, a_cut_connection
from tests.adapters.ovsdb_server import within_ten_seconds
from tests.adapters.vswitchd import VSwitchd, a_switch, children, name_of

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])]

COOKIE, MASK = 0x7077 << 48, 0xFFFF << 48
DIALECT = Path(__file__).with_name("dialect.txt")


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[VSwitchd]:
    with a_switch(tmp_path) as switch:
        switch.add_bridge("br-tun", "patch", "other", "vxlan")
        yield switch


@pytest_asyncio.fixture
async def ofctl(switch: VSwitchd) -> AsyncIterator[OfCtl]:
    async with OfCtl(switch.rundir, spares=1) as ofctl:
        yield ofctl
    assert children() == []


def a_flow(vlan: int, *, cookie: int = COOKIE, table: int = 20, priority: int = 2, actions: str = "drop") -> str:
    match = f"table={table},priority={priority},cookie={cookie:#x},dl_vlan={vlan}"
    return f"flow add {match},actions={actions}\n"


def flows(number: int) -> str:
    return "".join(a_flow(n % 4000 + 1, priority=n // 4000 + 1) for n in range(number))


async def a_spare(ofctl: OfCtl) -> int:
    """Commit something and return the process that then waits for the next bundle."""
    await ofctl.commit("br-tun", "")
    await until_spares(1)
    return the_child()


async def until_spares(number: int) -> None:
    async with asyncio.timeout(10):
        while len(children()) != number:  # noqa: ASYNC110 - a child tells nobody when it takes its name
            await asyncio.sleep(0.005)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def the_child() -> int:
    """The only ovs-ofctl; in the first moment of its life it has not taken this name yet."""
    within_ten_seconds(children, "an ovs-ofctl")
    (child,) = children()
    return child


# --- what is committed stands --------------------------------------------------------------------------------------


async def test_a_flow_is_committed(switch: VSwitchd, ofctl: OfCtl) -> None:
    await ofctl.commit("br-tun", "flow add table=20,priority=2,cookie=0x7077000000000001,dl_vlan=5,actions=drop\n")

    assert switch.flows("br-tun") == ["cookie=0x7077000000000001, table=20, priority=2,dl_vlan=5 actions=drop"]


async def test_flows_and_the_groups_they_need_are_committed_in_one_bundle(switch: VSwitchd, ofctl: OfCtl) -> None:
    await ofctl.commit("br-tun", "group add group_id=5,type=all\n" + a_flow(5, actions="group:5"))

    assert switch.groups("br-tun") == ["group_id=5,type=all"]
    assert len(switch.flows("br-tun", "out_group=5")) == 1


async def test_a_later_bundle_takes_the_process_that_was_started_ahead(switch: VSwitchd, ofctl: OfCtl) -> None:
    spare = await a_spare(ofctl)

    await ofctl.commit("br-tun", a_flow(5))

    assert len(switch.flows("br-tun")) == 1
    assert name_of(spare) is None


async def test_ten_thousand_flows_are_one_bundle(switch: VSwitchd, ofctl: OfCtl) -> None:
    await a_spare(ofctl)

    await ofctl.commit("br-tun", flows(10_000))

    assert len(switch.flows("br-tun")) == 10_000
    assert len((await ofctl.dump_flows("br-tun", COOKIE, MASK)).splitlines()) == 10_000


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_a_text_at_the_limit_of_the_pipe_is_committed_whole(switch: VSwitchd, ofctl: OfCtl, more: int) -> None:
    text = flows(500)
    await a_spare(ofctl)

    await ofctl.commit("br-tun", text + "#" * (65536 + more - len(text)))

    assert len(switch.flows("br-tun")) == 500


async def test_many_bundles_at_once_on_two_bridges_are_all_applied(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.add_bridge("br-int")

    async with asyncio.TaskGroup() as tasks:
        for vlan in range(1, 51):
            tasks.create_task(ofctl.commit(("br-tun", "br-int")[vlan % 2], a_flow(vlan)))

    assert len(switch.flows("br-tun")) == len(switch.flows("br-int")) == 25


async def test_bundles_of_one_bridge_keep_their_order(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with asyncio.TaskGroup() as tasks:
        for cookie in range(1, 11):
            tasks.create_task(ofctl.commit("br-tun", a_flow(5, cookie=COOKIE + cookie)))

    assert "cookie=0x707700000000000a" in switch.flows("br-tun")[0]


async def test_buckets_come_and_go_in_their_order(switch: VSwitchd, ofctl: OfCtl) -> None:
    def insert(place: str, number: int) -> str:
        bucket = f"bucket=bucket_id={number},actions=output:1"
        return f"group insert_bucket group_id=5,command_bucket_id={place},{bucket}\n"

    await ofctl.commit("br-tun", "group add group_id=5,type=all\n" + insert("last", 1) + insert("last", 2))
    await ofctl.commit("br-tun", insert("first", 3) + insert("last", 4))
    await ofctl.commit("br-tun", "group remove_bucket group_id=5,command_bucket_id=1\n")

    (group,) = switch.groups("br-tun")
    assert [bucket.split(",")[0] for bucket in group.split("bucket_id:")[1:]] == ["3", "2", "4"]


async def test_a_group_of_a_thousand_buckets_is_built_in_parts(switch: VSwitchd, ofctl: OfCtl) -> None:
    def part(first: int) -> str:
        buckets = (
            f"bucket=bucket_id={n},actions=set_field:192.0.2.9->tun_dst,output:3" for n in range(first, first + 500)
        )
        return "group insert_bucket group_id=5,command_bucket_id=last," + ",".join(buckets) + "\n"

    await ofctl.commit("br-tun", "group add group_id=5,type=all\n" + part(0) + part(500))

    numbers = [bucket.split(",")[0] for bucket in (await ofctl.dump_groups("br-tun")).split("bucket_id:")[1:]]
    assert numbers == [str(n) for n in range(1000)]


# --- what is read back -----------------------------------------------------------------------------------------------


async def test_only_flows_with_the_cookie_are_read_back(switch: VSwitchd, ofctl: OfCtl) -> None:
    await ofctl.commit("br-tun", a_flow(5, cookie=COOKIE + 7) + a_flow(6, cookie=0x1) + a_flow(7, cookie=0x7078 << 48))

    dump = await ofctl.dump_flows("br-tun", COOKIE, MASK)

    assert dump.splitlines() == [" cookie=0x7077000000000007, table=20, priority=2,dl_vlan=5 actions=drop"]


def dialect() -> list[tuple[str, str]]:
    lines = [line for line in DIALECT.read_text().splitlines() if line and not line.startswith("#")]
    return [
        (sent.removeprefix("sent "), back.removeprefix("back "))
        for sent, back in zip(lines[::2], lines[1::2], strict=True)
    ]


@pytest.mark.asyncio
async def test_the_switch_prints_what_the_dialect_file_says(switch: VSwitchd, ofctl: OfCtl) -> None:
    needed = "group add group_id=1886846978,type=all\n"
    for sent, back in dialect():
        for text in (sent, f"{sent.split()[0]} add {back}"):
            flow = sent.startswith("flow")
            group = "group add group_id=1886846977,type=all\n" if flow else ""
            await ofctl.commit("br-tun", f"flow delete\ngroup delete\n{needed}{group}{text}\n")

            printed = switch.flows("br-tun") if flow else switch.groups("br-tun")
            assert [line for line in printed if "group_id=1886846978,type" not in line] == [back]


# --- what is refused leaves everything as it was ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "culprit"),
    [
        ("group add group_id=5,type=all", "OFPGMFC_GROUP_EXISTS", "ADD group_id=5,type=all"),
        ("group modify group_id=6,type=all", "OFPGMFC_UNKNOWN_GROUP", "MOD group_id=6,type=all"),
        (
            "group remove_bucket group_id=5,command_bucket_id=7",
            "OFPGMFC_UNKNOWN_BUCKET",
            "REMOVE_BUCKET command_bucket_id:7,group_id=5",
        ),
        (
            "group insert_bucket group_id=5,command_bucket_id=last,bucket=bucket_id=1,actions=drop",
            "OFPGMFC_BUCKET_EXISTS",
            "INSERT_BUCKET command_bucket_id:last,group_id=5,bucket=bucket_id:1,actions=drop",
        ),
        (
            "flow add table=20,priority=2,cookie=0x7077000000000001,dl_vlan=9,actions=group:99",
            "OFPBAC_BAD_OUT_GROUP",
            "ADD table:20 priority=2,dl_vlan=9 cookie:0x7077000000000001 actions=group:99",
        ),
        (
            "flow add table=20,dl_vlan=9,actions=set_field:6->vlan_vid",
            "OFPBAC_BAD_SET_ARGUMENT",
            "***decode error: OFPBAC_BAD_SET_ARGUMENT***",
        ),
        (
            "group add group_id=7,type=all"
            + "".join(f",bucket=bucket_id={n},actions=set_field:192.0.2.9->tun_dst,output:3" for n in range(2000)),
            "OFPGMFC_BAD_BUCKET",
            "(***only uses 14488 bytes out of 80024***)",
        ),
    ],
    ids=lambda value: value.split(",")[0][:40],
)
@pytest.mark.asyncio
async def test_a_refused_line_is_named_and_its_bundle_leaves_no_trace(
    switch: VSwitchd, ofctl: OfCtl, line: str, code: str, culprit: str
) -> None:
    group = "group add group_id=5,type=all,bucket=bucket_id=1,actions=output:1\n"
    await ofctl.commit("br-tun", a_flow(4000) + group)
    before = switch.flows("br-tun"), switch.groups("br-tun")

    for place in (0, 1, 300):
        bundle = [a_flow(n + 1) for n in range(301)]
        bundle[place] = f"{line}\n"
        with pytest.raises(LineRejected) as refusal:
            await ofctl.commit("br-tun", "".join(bundle))

        assert (refusal.value.code, refusal.value.culprit, refusal.value.index) == (code, culprit, place)
        assert (switch.flows("br-tun"), switch.groups("br-tun")) == before


@pytest.mark.parametrize(
    "line",
    [
        "flow add table=1,dl_vlan=99999,actions=drop",
        "flow add table=1,dl_vlan=5,actions=bogus",
        "flow add table=1,actions=output:eth9",
        "flow delete_strict table=1,cookie=0x1,dl_vlan=3",
        "flow add table=1,icmp6,actions=set_field:fa:16:3e:00:00:01->nd_tll",
        "group add group_id=1,type=al",
        "group insert_buckets group_id=1,bucket=bucket_id=2,actions=drop",
        "group insert_bucket group_id=5,bucket=bucket_id=1,actions=drop",
        "nonsense",
    ],
)
@pytest.mark.asyncio
async def test_an_unreadable_line_is_named_and_nothing_is_sent(switch: VSwitchd, ofctl: OfCtl, line: str) -> None:
    for place in (0, 300, 3000):
        bundle = [a_flow(n + 1) for n in range(3001)]
        bundle[place] = f"{line}\n"
        with pytest.raises(BundleInvalid) as fault:
            await ofctl.commit("br-tun", "".join(bundle))

        assert fault.value.line == place + 1
    assert switch.flows("br-tun") == []


async def test_actions_that_contradict_the_match_are_invalid_without_a_line(ofctl: OfCtl) -> None:
    with pytest.raises(BundleInvalid) as fault:
        await ofctl.commit("br-tun", a_flow(5) + "flow add table=1,actions=pop_vlan\n")

    assert fault.value.line == 0


# --- no switch -------------------------------------------------------------------------------------------------------


async def test_a_bridge_that_is_not_there_is_named(ofctl: OfCtl, switch: VSwitchd) -> None:
    for asked in (ofctl.commit("br-x", a_flow(5)), ofctl.dump_flows("br-x", 0, 0), ofctl.dump_groups("br-x")):
        with pytest.raises(SwitchUnavailable, match=f"there is no {switch.rundir}/br-x.mgmt"):
            await asked


async def test_a_dead_switch_is_unavailable(ofctl: OfCtl, switch: VSwitchd) -> None:
    switch.kill()

    with pytest.raises(SwitchUnavailable, match=r"br-tun\.mgmt: ovs-vswitchd does not run"):
        await ofctl.commit("br-tun", a_flow(5))


async def test_a_socket_that_may_not_be_opened_is_named(switch: VSwitchd, tmp_path: Path) -> None:
    socket = switch.rundir / "br-tun.mgmt"
    socket.chmod(0)
    program = tmp_path / "unprivileged-ovs-ofctl"
    drop = "setpriv --reuid=65534 --regid=65534 --clear-groups " if os.geteuid() == 0 else ""
    program.write_text(f'#!/bin/sh\nexec {drop}ovs-ofctl "$@"\n')
    program.chmod(0o755)

    async with OfCtl(switch.rundir, program=str(program), spares=1) as ofctl:
        with pytest.raises(SwitchUnavailable, match=f"may not open {socket}: portwatch needs write permission"):
            await ofctl.commit("br-tun", a_flow(5))


async def test_a_missing_program_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with OfCtl(tmp_path) as ofctl:
        for _ in range(2):
            with pytest.raises(SwitchUnavailable, match="no program ovs-ofctl: install openvswitch-common"):
                await ofctl.commit("br-tun", a_flow(5))


async def test_a_bridge_that_forbids_openflow_1_5_says_how_to_allow_it(ofctl: OfCtl, switch: VSwitchd) -> None:
    switch.vsctl("set", "bridge", "br-tun", "protocols=OpenFlow10,OpenFlow13")

    for asked in (ofctl.commit("br-tun", a_flow(5)), ofctl.dump_flows("br-tun", 0, 0)):
        with pytest.raises(OpenFlowVersionRefused, match=r"and not 1\.5: ovs-vsctl add bridge br-tun"):
            await asked

    switch.vsctl("add", "bridge", "br-tun", "protocols", "OpenFlow15")
    await ofctl.commit("br-tun", a_flow(5))


@pytest.mark.parametrize(("cut", "applied"), [(Cut.BEFORE_COMMIT, 0), (Cut.AFTER_COMMIT, 1)])
async def test_a_connection_lost_under_a_bundle_leaves_the_outcome_unknown(
    switch: VSwitchd, ofctl: OfCtl, cut: Cut, applied: int
) -> None:
    async with a_cut_connection(switch.rundir, "br-tun", "br-cut", cut):
        with pytest.raises(OutcomeUnknown, match="End of file"):
            await ofctl.commit("br-cut", a_flow(5))

    assert len(switch.flows("br-tun")) == applied


async def test_a_stopped_switch_meets_the_time_limit_and_works_when_it_goes_on(switch: VSwitchd) -> None:
    async with OfCtl(switch.rundir, timeout=0.2, spares=1) as ofctl:
        switch.stop()

        with pytest.raises(OutcomeUnknown, match=r"no answer to a bundle within 0\.2 s"):
            await ofctl.commit("br-tun", a_flow(5))
        with pytest.raises(SwitchUnavailable, match=r"no answer to dump-groups within 0\.2 s"):
            await ofctl.dump_groups("br-tun")
        the_child()  # the next spare, and nothing else

        switch.go_on()
        await ofctl.commit("br-tun", a_flow(6))
    assert "dl_vlan=6 " in switch.flows("br-tun")[-1]


async def test_a_switch_killed_before_it_answered_has_applied_nothing(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.stop()
    commit = asyncio.create_task(ofctl.commit("br-tun", a_flow(5)))
    await asyncio.sleep(0.1)
    switch.kill()

    with pytest.raises(SwitchUnavailable, match="before the switch had said hello"):
        await commit


# --- the coming of a switch ------------------------------------------------------------------------------------------


async def test_the_coming_of_a_switch_is_told_though_its_old_socket_lies_about(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.kill()
    coming = asyncio.create_task(ofctl.comes("br-tun"))
    await asyncio.sleep(0.1)
    assert not coming.done()

    await asyncio.to_thread(switch.start)

    await asyncio.wait_for(coming, 1)


async def test_a_switch_that_is_there_does_not_come_though_it_be_stopped(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.stop()
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ofctl.comes("br-tun"), 0.2)
    finally:
        switch.go_on()


# --- the process started ahead, and the end of processes -------------------------------------------------------------


async def test_a_spare_survives_a_restart_of_the_switch(switch: VSwitchd, ofctl: OfCtl) -> None:
    spare = await a_spare(ofctl)

    switch.kill()
    switch.start()
    assert name_of(spare) == "ovs-ofctl"
    await ofctl.commit("br-tun", a_flow(5))

    assert len(switch.flows("br-tun")) == 1
    assert name_of(spare) is None


async def test_spares_are_made_up_in_quiet_and_taken_one_after_the_other(switch: VSwitchd) -> None:
    async with OfCtl(switch.rundir, spares=2) as ofctl:
        await ofctl.commit("br-tun", "")
        await until_spares(2)
        spares = children()

        await ofctl.commit("br-tun", a_flow(5))
        await ofctl.commit("br-tun", a_flow(6))

        assert [name_of(spare) for spare in spares] == [None, None]
        await until_spares(2)
        assert len(switch.flows("br-tun")) == 2
    assert children() == []


async def test_a_spare_that_somebody_killed_is_replaced(switch: VSwitchd, ofctl: OfCtl) -> None:
    spare = await a_spare(ofctl)

    os.kill(spare, signal.SIGTERM)
    await asyncio.sleep(0.05)
    await ofctl.commit("br-tun", a_flow(5))

    assert len(switch.flows("br-tun")) == 1
    assert spare not in children()


async def test_a_child_killed_under_a_bundle_leaves_the_outcome_unknown(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.stop()
    commit = asyncio.create_task(ofctl.commit("br-tun", a_flow(5)))
    await asyncio.sleep(0.05)

    os.kill(the_child(), signal.SIGKILL)

    with pytest.raises(OutcomeUnknown, match="ovs-ofctl was ended by signal 9"):
        await commit
    switch.go_on()


async def test_a_cancelled_bundle_leaves_no_child(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.stop()
    commit = asyncio.create_task(ofctl.commit("br-tun", a_flow(5)))
    await asyncio.sleep(0.05)
    child = the_child()

    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit

    assert name_of(child) is None
    switch.go_on()


async def test_leaving_ends_what_still_runs(switch: VSwitchd) -> None:
    async with OfCtl(switch.rundir) as ofctl:
        switch.stop()
        commit = asyncio.create_task(ofctl.commit("br-tun", a_flow(5)))
        dump = asyncio.create_task(ofctl.dump_groups("br-tun"))
        await asyncio.sleep(0.05)

    assert children() == []
    with pytest.raises(OutcomeUnknown):
        await commit
    with pytest.raises(SwitchUnavailable):
        await dump
    await asyncio.sleep(0)
    assert children() == []


async def test_no_child_and_no_thread_is_left_behind(switch: VSwitchd) -> None:
    threads = threading.active_count()
    before = descriptors()
    async with OfCtl(switch.rundir) as ofctl:
        for vlan in range(1, 6):
            await ofctl.commit("br-tun", a_flow(vlan))
            await ofctl.dump_groups("br-tun")
            assert threading.active_count() == threads

    assert children() == []
    assert descriptors() == before


OWNER = """
import asyncio, sys
from pathlib import Path
from portwatch.switch.monitor import watch
from portwatch.switch.ofctl import OfCtl

async def main(rundir, program, text):
    async with OfCtl(Path(rundir), program=program, spares=1) as ofctl, watch(ofctl, "br-tun"):
        await ofctl.commit("br-tun", "")
        commit = asyncio.create_task(ofctl.commit("br-tun", text))
        await asyncio.sleep(0.1)
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:3], sys.stdin.read()))
"""


@contextmanager
def an_owner(switch: VSwitchd, text: str, program: str = "ovs-ofctl") -> Iterator[subprocess.Popen[str]]:
    """Another process, which watches, has a spare, commits *text*, and is killed in the end."""
    argv = [sys.executable, "-c", OWNER, str(switch.rundir), program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write(text)
        owner.stdin.close()
        assert owner.stdout.readline() == "ready\n"
        yield owner
        owner.kill()


@pytest.mark.asyncio
async def test_a_killed_owner_leaves_no_child_and_no_change(switch: VSwitchd) -> None:
    with an_owner(switch, "flow add table=1,actions=drop\n") as owner:
        orphans = children_of(owner.pid)
        assert len(orphans) == 2  # the spare and the monitor

    within_ten_seconds(lambda: not any(name_of(pid) == "ovs-ofctl" for pid in orphans), "orphans end")
    assert switch.flows("br-tun") == ["table=1, actions=drop"]


@pytest.mark.asyncio
async def test_a_bundle_whose_owner_is_killed_is_not_applied_in_part(switch: VSwitchd, tmp_path: Path) -> None:
    slow = tmp_path / "slow-ovs-ofctl"
    slow.write_text('#!/bin/sh\ncase "$*" in *" bundle "*) sleep 0.5;; esac\nexec ovs-ofctl "$@"\n')
    slow.chmod(0o755)
    switch.ofctl("add-flow", "br-tun", "table=99,actions=drop")

    with an_owner(switch, flows(8000) + "flow delete_strict table=1,priority=1\n", str(slow)):
        pass

    within_ten_seconds(lambda: len(switch.flows("br-tun")) > 1, "the bundle of the dead")
    assert len(switch.flows("br-tun")) == 8001


async def test_it_is_not_used_outside_of_its_context(switch: VSwitchd) -> None:
    with pytest.raises(RuntimeError, match="outside"):
        await OfCtl(switch.rundir).commit("br-tun", a_flow(5))
