"""The flow monitor, against a real switch."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from portwatch.errors import SwitchUnavailable
from portwatch.switch.fault import OpenFlowVersionRefused
from portwatch.switch.monitor import Change, FlowEvent, parse_event, watch
from portwatch.switch.ofctl import OfCtl
from tests.adapters.vswitchd import VSwitchd, a_switch, children

pytestmark = [pytest.mark.adapters]
on_both_loops = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[VSwitchd]:
    with a_switch(tmp_path) as switch:
        switch.add_bridge("br-tun", "patch", "other")
        yield switch


@pytest_asyncio.fixture
async def ofctl(switch: VSwitchd) -> AsyncIterator[OfCtl]:
    async with OfCtl(switch.rundir) as ofctl:
        yield ofctl
    assert children() == []


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            " event=ADDED table=1 cookie=0x7077000000000001 dl_vlan=5,dl_dst=fa:16:3e:00:00:01 "
            "actions=pop_vlan,set_field:0x64->tun_id,output:3",
            FlowEvent(
                Change.ADDED,
                1,
                0x7077000000000001,
                "dl_vlan=5,dl_dst=fa:16:3e:00:00:01 actions=pop_vlan,set_field:0x64->tun_id,output:3",
            ),
        ),
        (
            " event=MODIFIED table=1 cookie=0x9 dl_vlan=5 actions=output:2",
            FlowEvent(Change.MODIFIED, 1, 9, "dl_vlan=5 actions=output:2"),
        ),
        (" event=ADDED table=20 hard_timeout=1 cookie=0", FlowEvent(Change.ADDED, 20, 0, "")),
        (
            " event=DELETED reason=hard table=1 idle_timeout=5 hard_timeout=1 cookie=0 ",
            FlowEvent(Change.DELETED, 1, 0, ""),
        ),
        (
            " event=ADDED table=10 cookie=0x1 actions=learn(table=20,priority=1,cookie=0x2,NXM_OF_ETH_SRC[])",
            FlowEvent(Change.ADDED, 10, 1, "actions=learn(table=20,priority=1,cookie=0x2,NXM_OF_ETH_SRC[])"),
        ),
        ("OFPST_FLOW_MONITOR reply (OF1.5) (xid=0x0):", None),
        ("NXT_FLOW_MONITOR_PAUSED (OF1.5) (xid=0x0):", None),
        ("OFPT_ECHO_REQUEST (OF1.5) (xid=0x0): 0 bytes of payload", None),
        (" event=ABBREV xid=0x5", None),
    ],
)
def test_an_event_is_read_from_its_line(line: str, event: FlowEvent | None) -> None:
    assert parse_event(line) == event


@on_both_loops
async def test_what_others_do_to_a_flow_is_told(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with watch(ofctl, "br-tun") as events:
        switch.ofctl("add-flow", "br-tun", "table=1,cookie=0x7077000000000001,priority=3,dl_vlan=5,actions=output:1")
        switch.ofctl("mod-flows", "br-tun", "table=1,dl_vlan=5,actions=output:2")
        switch.ofctl("add-flow", "br-tun", "table=1,cookie=0x9,priority=3,dl_vlan=5,actions=drop")
        switch.ofctl("del-flows", "br-tun", "table=1")
        switch.ofctl("add-flow", "br-tun", "table=2,hard_timeout=1,actions=drop")

        told = [await anext(events) for _ in range(6)]

    assert told == [
        FlowEvent(Change.ADDED, 1, 0x7077000000000001, "dl_vlan=5 actions=output:1"),
        FlowEvent(Change.MODIFIED, 1, 0x7077000000000001, "dl_vlan=5 actions=output:2"),
        FlowEvent(Change.ADDED, 1, 0x9, "dl_vlan=5"),
        FlowEvent(Change.DELETED, 1, 0x9, "dl_vlan=5"),
        FlowEvent(Change.ADDED, 2, 0, ""),
        FlowEvent(Change.DELETED, 2, 0, ""),
    ]


@on_both_loops
async def test_once_entered_no_change_is_missed(switch: VSwitchd, ofctl: OfCtl) -> None:
    for table in range(1, 26):
        async with watch(ofctl, "br-tun") as events:
            await ofctl.commit("br-tun", f"flow add table={table},actions=drop\n")

            assert await anext(events) == FlowEvent(Change.ADDED, table, 0, "")


@pytest.mark.asyncio
async def test_neither_groups_nor_ports_nor_earlier_flows_are_told(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.ofctl("add-flow", "br-tun", "table=1,actions=drop")
    async with watch(ofctl, "br-tun") as events:
        switch.ofctl("add-group", "br-tun", "group_id=5,type=all")
        switch.ofctl("del-groups", "br-tun")
        switch.vsctl("add-port", "br-tun", "new", "--", "set", "interface", "new", "type=dummy")
        switch.vsctl("del-port", "new")
        switch.ofctl("add-flow", "br-tun", "table=2,actions=drop")

        assert await anext(events) == FlowEvent(Change.ADDED, 2, 0, "")


@on_both_loops
async def test_a_killed_switch_ends_it_within_a_second(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with watch(ofctl, "br-tun") as events:
        switch.kill()

        async with asyncio.timeout(1):
            with pytest.raises(SwitchUnavailable, match="the flow monitor has ended: vconn_recv"):
                await anext(events)


@on_both_loops
async def test_a_deleted_bridge_ends_it_within_a_second(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with watch(ofctl, "br-tun") as events:
        switch.vsctl("del-br", "br-tun")

        async with asyncio.timeout(1):
            with pytest.raises(SwitchUnavailable, match="the flow monitor has ended"):
                await anext(events)


@on_both_loops
async def test_a_bridge_that_is_not_there_cannot_be_watched(switch: VSwitchd, ofctl: OfCtl) -> None:
    with pytest.raises(SwitchUnavailable, match=f"there is no {switch.rundir}/br-x.mgmt"):
        async with watch(ofctl, "br-x"):
            pass


@pytest.mark.asyncio
async def test_a_bridge_that_forbids_openflow_1_5_cannot_be_watched(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.vsctl("set", "bridge", "br-tun", "protocols=OpenFlow13")

    with pytest.raises(OpenFlowVersionRefused, match=r"allows OpenFlow 1\.3 and not 1\.5"):
        async with watch(ofctl, "br-tun"):
            pass


@on_both_loops
async def test_a_stopped_switch_meets_the_time_limit(switch: VSwitchd) -> None:
    async with OfCtl(switch.rundir, timeout=0.2) as ofctl:
        switch.stop()

        with pytest.raises(SwitchUnavailable, match=r"no flow monitor within 0\.2 s"):
            async with watch(ofctl, "br-tun"):
                pass

        assert children() == []


@on_both_loops
async def test_leaving_and_cancelling_end_the_child(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with watch(ofctl, "br-tun"):
        pass
    assert children() == []

    async def look() -> None:
        async with watch(ofctl, "br-tun") as events:
            entered.set()
            await anext(events)

    entered = asyncio.Event()
    task = asyncio.create_task(look())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


@on_both_loops
async def test_the_end_of_ofctl_ends_it(switch: VSwitchd) -> None:
    async with OfCtl(switch.rundir) as ofctl:
        monitor = watch(ofctl, "br-tun")
        events = await monitor.__aenter__()

    with pytest.raises(SwitchUnavailable):
        await anext(events)
    assert children() == []


@on_both_loops
async def test_who_does_not_look_holds_nobody_up_and_learns_the_end_of_it(switch: VSwitchd, ofctl: OfCtl) -> None:
    def table(number: int) -> str:
        flow = f"flow add table={number},priority={{}},dl_vlan={{}},actions=set_field:{number}->reg0\n"
        return "".join(flow.format(n // 4000 + 1, n % 4000 + 1) for n in range(8000))

    standing = set[tuple[int, str]]()
    async with watch(ofctl, "br-tun") as events:
        for number in range(1, 7):
            await ofctl.commit("br-tun", table(number))
        for number in range(1, 6):
            await ofctl.commit("br-tun", f"flow delete table={number}\n")
        await ofctl.commit("br-tun", "flow add table=100,actions=drop\n")

        added = deleted = 0
        while added - deleted < 8001:
            event = await anext(events)
            added += event.change is Change.ADDED
            deleted += event.change is Change.DELETED
            standing.add((event.table, event.text))

    assert (100, "") in standing
    assert added < 6 * 8000  # the switch did not keep what nobody took
