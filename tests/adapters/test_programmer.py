"""The programmer against a real switch that others restart and tamper with, and that refuses."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portwatch.errors import BundleRejected
from portwatch.fabric.tables import COOKIE, GROUPS, OWN
from portwatch.metrics import Metrics
from portwatch.openflow import parse
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Drift, Ledger
from portwatch.switch.monitor import FlowEvent
from portwatch.switch.ofctl import OfCtl
from portwatch.switch.programmer import Programmer
from portwatch.switch.suspicion import AUDIT_EVERY
from tests.adapters.vswitchd import VSwitchd, a_switch, children

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

GROUP = 0x70770005
SOON = AUDIT_EVERY / 5
"""Seconds: what is mended by then was not found by the audit."""


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[VSwitchd]:
    with a_switch(tmp_path) as switch:
        switch.add_bridge("br-tun", "patch")
        yield switch


class Account:
    """Whoever decides what is wanted, for a ledger that is filled by hand."""

    generation = 0
    group_ids = GROUPS

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def concerns(self, event: FlowEvent) -> bool:
        return event.cookie == COOKIE

    async def dump_flows(self, ofctl: OfCtl) -> str:
        return await ofctl.dump_flows("br-tun", OWN.cookie, OWN.mask)

    def examine(self, items: Iterable[Item]) -> None:
        pass

    def read_back(self, items: Iterable[Item]) -> Drift:
        return self._ledger.read_back(items)

    def committed(self, generation: int) -> None:
        pass


class Bridge:
    """br-tun under a programmer, holding what is wanted."""

    def __init__(self, switch: VSwitchd, ledger: Ledger, programmer: Programmer, metrics: Metrics) -> None:
        self.switch, self.ledger, self.programmer = switch, ledger, programmer
        self._metrics = metrics

    async def want(self, *items: Item) -> None:
        """Want these, and nothing else; return when the switch holds them."""
        self.ledger.want("test", items)
        self.programmer.kick()
        await self.holds(*items)

    async def holds(self, *items: Item) -> None:
        """Wait until the switch holds just these."""
        wanted = sorted(item.text() for item in items)
        await until(lambda: self.held() == wanted)

    def held(self) -> list[str]:
        items: list[Item] = [
            *parse.flows("\n".join(self.switch.flows("br-tun"))),
            *parse.groups("\n".join(self.switch.groups("br-tun"))),
        ]
        return sorted(item.text() for item in items)

    @property
    def drift(self) -> float:
        return self._metrics.registry.get_sample_value("portwatch_flow_drift_total", {"bridge": "br-tun"}) or 0.0

    @property
    def readings(self) -> float:
        """How often it was read back, and anything might have been otherwise."""
        return self._metrics.registry.get_sample_value("portwatch_resync_seconds_count") or 0.0


@asynccontextmanager
async def programmed(
    switch: VSwitchd, *items: Item, timeout: float = 5.0, door: type[OfCtl] = OfCtl
) -> AsyncIterator[Bridge]:
    """Run a programmer whose bridge holds *items*."""
    ledger, metrics = Ledger(OWN), Metrics("test", bridges=("br-tun",))
    async with door(switch.rundir, timeout=timeout) as ofctl:
        programmer = Programmer("br-tun", ledger, Account(ledger), ofctl, metrics)
        running = asyncio.create_task(programmer.run())
        bridge = Bridge(switch, ledger, programmer, metrics)
        try:
            await bridge.want(*items)
            yield bridge
        finally:
            running.cancel()
            await asyncio.wait({running})
    assert running.cancelled()


def _bundles(pid: int) -> bool:
    return b"bundle" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a switch tells a test nothing by itself
            await asyncio.sleep(0.01)


def a_flow(vlan: int, table: int = 22) -> Item:
    return parse.flow(f"cookie={COOKIE:#x}, table={table}, priority=1,dl_vlan={vlan} actions=group:{GROUP}")


def a_group(*buckets: int) -> Item:
    words = "".join(f",bucket=bucket_id:{bucket},actions=output:1" for bucket in buckets)
    return parse.group(f"group_id={GROUP},type=all{words}")


async def test_a_group_that_somebody_falsifies_is_put_back_at_once_and_counted(switch: VSwitchd) -> None:
    items = (a_group(1, 2), a_flow(5))
    async with programmed(switch, *items) as bridge:
        switch.ofctl("mod-group", "br-tun", f"group_id={GROUP},type=all")

        await bridge.holds(*items)
        assert bridge.drift == 1


async def test_groups_that_somebody_deletes_all_come_back_and_with_them_their_flows(switch: VSwitchd) -> None:
    items = (a_group(1, 2), a_flow(5))
    async with programmed(switch, *items) as bridge:
        switch.ofctl("del-groups", "br-tun")

        await bridge.holds(*items)
        assert bridge.drift == 2


async def test_who_tampers_again_and_again_is_followed_every_time(switch: VSwitchd) -> None:
    items = (a_group(1), a_flow(5), a_flow(6))
    async with programmed(switch, *items) as bridge:
        async with asyncio.timeout(SOON):
            for _ in range(10):
                switch.ofctl("del-flows", "br-tun")
                await bridge.holds(*items)

        assert bridge.drift == 20


async def test_our_own_changes_are_no_drift(switch: VSwitchd) -> None:
    async with programmed(switch, a_group(1), a_flow(5)) as bridge:
        for number in range(6, 16):
            await bridge.want(a_group(1, number), a_flow(number))

        assert bridge.drift == 0


async def test_a_burst_is_not_read_back_however_late_the_switch_is_heard_to_tell_of_it(switch: VSwitchd) -> None:
    async with programmed(switch, a_group(1), a_flow(5)) as bridge:
        readings = bridge.readings
        flows = [a_flow(vlan) for vlan in range(5, 3000)]
        for number in (2000, 2001, 2500, 2501, 2990):
            bridge.ledger.want("test", [a_group(1), *flows[:number]])
            bridge.programmer.kick()
            await until(lambda: not bridge.ledger.owes)
            time.sleep(0.2)  # noqa: ASYNC251 - the loop has else to do, and the tale waits in the pipe
        await bridge.want(a_group(1), *flows)
        assert bridge.drift == 0

        # What somebody else does now is told behind all that.
        switch.ofctl("del-flows", "br-tun", "table=22,dl_vlan=5")
        await until(lambda: bridge.drift == 1)
        assert bridge.readings == readings + 1


async def test_a_switch_that_is_restarted_gets_everything_again(switch: VSwitchd) -> None:
    items = (a_group(1, 2), a_flow(5))
    async with programmed(switch, *items) as bridge:
        switch.kill()
        await until(lambda: bridge.programmer.trouble is not None)
        await asyncio.to_thread(switch.start)

        await bridge.holds(*items)
        await until(lambda: bridge.programmer.trouble is None)
        assert bridge.drift == 0


async def test_what_a_restarted_switch_has_been_given_by_others_is_found(switch: VSwitchd) -> None:
    items = (a_group(1, 2), a_flow(5))
    async with programmed(switch, *items) as bridge:
        switch.kill()
        await until(lambda: bridge.programmer.trouble is not None)
        await asyncio.to_thread(switch.start)
        switch.ofctl("add-flow", "br-tun", f"table=22,cookie={COOKIE:#x},priority=1,dl_vlan=9,actions=drop")

        await bridge.holds(*items)


async def test_a_command_that_hangs_is_ended_and_its_bundle_tried_again(switch: VSwitchd) -> None:
    async with programmed(switch, a_group(1), timeout=0.5) as bridge:
        hanging = next(filter(_bundles, children()))
        os.kill(hanging, signal.SIGSTOP)

        await bridge.want(a_group(1), a_flow(5))

        assert hanging not in children()


class Unnamed(OfCtl):
    """ovs-ofctl when it cannot be told which line of a bundle the switch has refused."""

    async def commit(self, bridge: str, text: str) -> None:
        try:
            await super().commit(bridge, text)
        except BundleRejected as error:
            raise BundleRejected(bridge, error.code, error.culprit) from None


def let_no_more_into_table_22(switch: VSwitchd) -> None:
    limit = ["--id=@full", "create", "Flow_Table", "flow_limit=1", "overflow_policy=refuse"]
    switch.vsctl("--", *limit, "--", "set", "Bridge", "br-tun", "flow_tables:22=@full")


async def test_a_flow_that_is_refused_is_set_aside_and_the_rest_goes_in(switch: VSwitchd) -> None:
    async with programmed(switch, a_group(1), a_flow(5)) as bridge:
        let_no_more_into_table_22(switch)
        bridge.ledger.want("test", (a_group(1, 2), a_flow(5), a_flow(6)))
        bridge.programmer.kick()

        await bridge.holds(a_group(1, 2), a_flow(5))
        assert bridge.ledger.refused[a_flow(6).key][1] == "OFPFMFC_TABLE_FULL"
        assert bridge.ledger.settled


async def test_a_flow_that_is_refused_and_not_named_is_found_among_the_others(switch: VSwitchd) -> None:
    others = [a_flow(vlan, table=21) for vlan in range(1, 8)]
    async with programmed(switch, a_group(1), a_flow(5), door=Unnamed) as bridge:
        let_no_more_into_table_22(switch)
        bridge.ledger.want("test", (a_group(1, 2), a_flow(5), *others, a_flow(6), a_flow(7)))
        bridge.programmer.kick()

        await bridge.holds(a_group(1, 2), a_flow(5), *others)
        await until(lambda: bridge.ledger.settled)
        assert bridge.ledger.refused.keys() == {a_flow(6).key, a_flow(7).key}
