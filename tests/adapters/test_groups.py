"""Group changes, as a real switch tells them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from portwatch.errors import SwitchUnavailable
from portwatch.switch.groups import ALL_GROUPS, watch_groups
from portwatch.switch.ofctl import OfCtl
from tests.adapters.vswitchd import VSwitchd, a_switch

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])]


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[VSwitchd]:
    with a_switch(tmp_path) as switch:
        switch.add_bridge("br-tun")
        yield switch


@pytest_asyncio.fixture
async def ofctl(switch: VSwitchd) -> AsyncIterator[OfCtl]:
    async with OfCtl(switch.rundir, timeout=0.5) as ofctl:
        yield ofctl


async def test_each_change_of_a_group_is_told_and_no_flow(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with watch_groups(ofctl, "br-tun") as changes:
        switch.ofctl("add-group", "br-tun", "group_id=5,type=all,bucket=bucket_id:1,actions=drop")
        switch.ofctl("mod-group", "br-tun", "group_id=5,type=all")
        switch.ofctl("add-flow", "br-tun", "table=1,actions=group:5")
        await ofctl.commit("br-tun", "group add group_id=6,type=all\n")
        switch.ofctl("del-groups", "br-tun", "group_id=5")
        switch.ofctl("del-groups", "br-tun")

        assert [await anext(changes) for _ in range(5)] == [5, 5, 6, 5, ALL_GROUPS]


async def test_once_entered_no_change_is_missed(switch: VSwitchd, ofctl: OfCtl) -> None:
    for number in range(1, 26):
        async with watch_groups(ofctl, "br-tun") as changes:
            await ofctl.commit("br-tun", f"group add group_id={number},type=all\n")

            assert await anext(changes) == number


async def test_a_killed_switch_ends_it_within_a_second(switch: VSwitchd, ofctl: OfCtl) -> None:
    async with watch_groups(ofctl, "br-tun") as changes:
        switch.kill()

        async with asyncio.timeout(1):
            with pytest.raises(SwitchUnavailable, match="closed the connection"):
                await anext(changes)


async def test_a_bridge_that_is_not_there_cannot_be_watched(switch: VSwitchd, ofctl: OfCtl) -> None:
    with pytest.raises(SwitchUnavailable, match=r"br-x\.mgmt: No such file"):
        async with watch_groups(ofctl, "br-x"):
            pass


async def test_a_stopped_switch_meets_the_time_limit(switch: VSwitchd, ofctl: OfCtl) -> None:
    switch.stop()
    try:
        with pytest.raises(SwitchUnavailable, match=r"no group monitor within 0\.5 s"):
            async with watch_groups(ofctl, "br-tun"):
                pass
    finally:
        switch.go_on()
