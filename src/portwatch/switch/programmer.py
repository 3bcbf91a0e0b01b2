"""Keep one bridge as its ledger wants it: read back, commit, try again. The only task that programs the bridge.

While one bundle is in flight the next one collects in the ledger: no timers, and bursts fold by themselves. The switch
itself tells of changes (`monitor`, `groups`); which of them are looked at, and when, `suspicion` says. What the switch
does not take is set aside (`refusals`).
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any, Final, NoReturn, Protocol

import structlog

from portwatch.errors import BundleInvalid, BundleRejected, OutcomeUnknown, SwitchUnavailable
from portwatch.metrics import Metrics
from portwatch.openflow import parse
from portwatch.openflow.bundle import Bundle, Mod
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Drift, Ledger
from portwatch.switch.groups import ALL_GROUPS, watch_groups
from portwatch.switch.monitor import FlowEvent, watch
from portwatch.switch.ofctl import OfCtl
from portwatch.switch.refusals import Refusals
from portwatch.switch.suspicion import AUDIT_EVERY, Suspicion

BACKOFF: Final = (0.05, 2.0)
"""Seconds to wait for a switch that does not answer: at first, and at most."""
PURGE_AGAIN: Final = 1.0
"""Seconds after which learned entries are purged once more: the switch counts packets up to 0.5 s late, and learns from
them what has just been purged."""
MADE_WITHIN: Final = 1.0
"""Seconds after the start in which a missing bridge is worth no word: we are just making it."""
SLICE: Final = 500
"""Flows read before other tasks get their turn."""

log = structlog.get_logger()


class Account(Protocol):
    """What the programmer asks of whoever decides what is wanted."""

    @property
    def generation(self) -> int:
        """Counts the changes of what is wanted."""

    @property
    def group_ids(self) -> range:
        """The ids that our groups may have; empty on a bridge where we make none, which is not asked for any."""

    def concerns(self, event: FlowEvent) -> bool:
        """Is this news of a flow that we program, or of one that took its place, with another cookie?"""

    async def dump_flows(self, ofctl: OfCtl) -> str:
        """Return the dump of our flows."""

    def examine(self, items: Iterable[Item]) -> None:
        """Some of what `read_back` will tell has been read."""

    def read_back(self, items: Iterable[Item]) -> Drift:
        """The switch holds these, and nothing else."""

    def committed(self, generation: int) -> None:
        """What was wanted at *generation* stands in the switch."""


class Backoff:
    """Growing pauses, with jitter: a thousand hosts come back at once."""

    def __init__(self) -> None:
        self._pause, self._most = BACKOFF

    def reset(self) -> None:
        self._pause = BACKOFF[0]

    def next(self) -> float:
        """Return the seconds to wait now."""
        pause, self._pause = self._pause, min(self._pause * 2, self._most)
        return pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


class Programmer:
    """One bridge's. `kick` after the ledger has changed; `hurry` when the bridge may have come."""

    def __init__(self, bridge: str, ledger: Ledger, account: Account, ofctl: OfCtl, metrics: Metrics) -> None:
        self.bridge = bridge
        self.trouble: str | None = "not yet connected"
        """Why the bridge does not hold what is wanted, for people; None when it does."""
        self._ledger = ledger
        self._account = account
        self._ofctl = ofctl
        self._metrics = metrics
        self._work = asyncio.Event()
        self._come = asyncio.Event()
        self._backoff = Backoff()
        self._newly_come = False
        self._connected = 0
        self._begun = perf_counter()
        self._told: str | None = None
        """The trouble that was last told of, if it is not over."""
        self._unknown = 0
        self._suspicion = Suspicion()
        self._refusals = Refusals(bridge, ledger, ofctl, metrics)
        self._held: tuple[str, str] | None = None
        self._purges: deque[tuple[float, tuple[Mod, ...]]] = deque()
        """What to purge again, and when: the earliest first."""

    def kick(self) -> None:
        """There may be something to do."""
        self._work.set()

    def hurry(self) -> None:
        """The bridge may have come: do not sleep through it."""
        self._come.set()
        self._work.set()

    async def run(self) -> None:
        """Work for ever: watch the switch, read it back, program it; and from the start when it goes."""
        while True:
            try:
                if self._newly_come and not self._ledger.fresh:
                    await self._fill()
                # The monitors first: what is read back once they stand misses nothing, and they end with the switch.
                async with AsyncExitStack() as stack:
                    flows = await stack.enter_async_context(watch(self._ofctl, self.bridge))
                    following = [partial(self._follow_flows, flows)]
                    if self._account.group_ids:
                        groups = await stack.enter_async_context(watch_groups(self._ofctl, self.bridge))
                        following.append(partial(self._follow_groups, groups))
                    self._connected += 1
                    self._suspicion = Suspicion()  # of what was committed before they stood they do not tell
                    if self._connected > 1:
                        self._metrics.reconnects.labels("switch").inc()
                    await self._read_back()
                    self._backoff.reset()
                    await self._serve(following)
            except SwitchUnavailable as error:
                if self._ledger.known:
                    self._ledger.lost()
                self._ledger.retry_refused()
                self._say_trouble(error.detail)
                self._newly_come = await self._pause()

    async def _fill(self) -> None:
        """Give a switch all at once. It has just come and holds nothing: believe that first, and look afterwards."""
        self._newly_come = False
        self._account.read_back(())
        await self._commit()
        self._ledger.lost()
        self._ledger.retry_refused()  # if it did hold something, that was what it minded

    # --- within -------------------------------------------------------------------------------------------------------

    async def _serve(self, following: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> NoReturn:
        """Commit what is owed and look after what drifts, until the switch goes."""
        tasks = [asyncio.create_task(follow()) for follow in following]
        for task in tasks:
            task.add_done_callback(lambda _: self._work.set())
        try:
            while True:
                if not self._ledger.known:
                    await self._read_back()
                if self._ledger.owes:
                    await self._commit()
                    continue
                self._say_trouble(None)
                self._work.clear()
                for ended in (task for task in tasks if task.done()):
                    ended.result()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(self._until_audit(), self._until_purge())):
                        await self._work.wait()
                if self._until_purge() <= 0:
                    await self._purge_again()
                if self._until_audit() <= 0 and not self._ledger.owes:
                    await self._audit()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow_flows(self, events: AsyncIterator[FlowEvent]) -> None:
        """Look at each change of a flow of ours; the end of them is the switch's: SwitchUnavailable."""
        async for event in events:
            if self._account.concerns(event) and self._suspicion.changed(perf_counter()):
                self._work.set()

    async def _follow_groups(self, group_ids: AsyncIterator[int]) -> None:
        async for group_id in group_ids:
            ours = group_id in self._account.group_ids or group_id == ALL_GROUPS
            if ours and self._suspicion.changed(perf_counter()):
                self._work.set()

    def _until_audit(self) -> float:
        return self._suspicion.due_in(perf_counter())

    def _until_purge(self) -> float:
        return max(0.0, self._purges[0][0] - perf_counter()) if self._purges else AUDIT_EVERY

    async def _purge_again(self) -> None:
        """Delete what the switch has learned again from packets before the first time."""
        _, purges = self._purges.popleft()
        try:
            await self._ofctl.commit(self.bridge, Bundle(purges).text())
        except (BundleRejected, BundleInvalid, OutcomeUnknown) as error:
            # It was taken the first time, and what it is about ends by itself (LEARNED_FOR).
            log.info("learned entries could not be purged again", bridge=self.bridge, error=error.detail)

    async def _audit(self) -> None:
        """Read back, and owe what is not as we left it."""
        self._refusals.offer_again()
        drift = await self._read_back()
        if drift.total:
            self._metrics.flow_drift.labels(self.bridge).inc(drift.total)
            log.warning(
                "flows of ours were changed by somebody else; putting them back",
                bridge=self.bridge,
                missing=drift.missing,
                changed=drift.changed,
                unknown=drift.unknown,
                do="see who else programs this bridge: ovs-vsctl get-controller, another agent, a person",
            )

    async def _read_back(self) -> Drift:
        """Learn what the switch holds."""
        started = perf_counter()
        self._suspicion.reads(started)
        flow_dump = await self._account.dump_flows(self._ofctl)
        dumps = (flow_dump, await self._ofctl.dump_groups(self.bridge) if self._account.group_ids else "")
        if self._ledger.known and dumps == self._held:
            self._suspicion.has_read(perf_counter() - started)
            return Drift(0, 0, 0)
        items: list[Item] = [*parse.groups(dumps[1], self._account.group_ids)]
        flows = parse.flows(dumps[0])
        while part := list(islice(flows, SLICE)):
            self._account.examine(part)
            items += part
            await asyncio.sleep(0)
        first = not self._ledger.known
        drift = self._account.read_back(items)
        seconds = perf_counter() - started
        self._suspicion.has_read(seconds)
        self._held = None if self._ledger.owes else dumps
        self._metrics.resync_seconds.observe(seconds)
        if first:
            self.trouble = "what the switch holds is being brought up to date" if self._ledger.owes else None
            log.info(
                "switch read back",
                bridge=self.bridge,
                items=len(self._ledger.installed),
                seconds=round(seconds, 4),
            )
        await asyncio.sleep(0)  # that was a large step, and what follows may be another
        return drift

    async def _pause(self) -> bool:
        """Wait for the switch a little longer each time, but do not sleep through its coming: True when it has come."""
        self._come.clear()
        told, comes = (asyncio.ensure_future(each) for each in (self._come.wait(), self._ofctl.comes(self.bridge)))
        try:
            await asyncio.wait({told, comes}, timeout=self._backoff.next(), return_when=asyncio.FIRST_COMPLETED)
            return comes.done()
        finally:
            told.cancel()
            comes.cancel()

    async def _commit(self) -> None:
        generation = self._account.generation
        bundle = self._ledger.take()
        if not bundle:
            self._ledger.committed()
            self._account.committed(generation)
            return
        started = perf_counter()
        self._held = None
        changes = len(bundle) - len(bundle.purges)
        self._suspicion.commits(changes, started)
        try:
            await self._ofctl.commit(self.bridge, bundle.text())
        except asyncio.CancelledError:
            self._ledger.lost()
            raise
        except (BundleRejected, BundleInvalid) as error:
            self._suspicion.refused(changes)
            await self._refusals.set_aside(bundle, error)
        except OutcomeUnknown as error:
            self._count("unknown")
            self._ledger.lost()
            self._unknown += 1
            if self._unknown == 1:
                log.warning(
                    "commit without an answer, reading the switch back",
                    bridge=self.bridge,
                    error=error.detail,
                    do="nothing, if it is one; else see what keeps ovs-vswitchd busy",
                )
            else:
                self._say_trouble(f"commits go unanswered: {error.detail}")
                await self._pause()
        except SwitchUnavailable:
            self._count("unavailable")
            self._ledger.lost()
            raise
        else:
            seconds = perf_counter() - started
            self._unknown = 0
            self._ledger.committed()
            if purges := bundle.purges:
                self._purges.append((perf_counter() + PURGE_AGAIN, purges))
            self._count("committed")
            self._metrics.bundle_seconds.labels(self.bridge).observe(seconds)
            for op in ("add", "delete"):
                if number := sum(mod.op == op for mod in bundle.mods):
                    self._metrics.flow_mods.labels(self.bridge, op).inc(number)
            log.debug("bundle committed", bridge=self.bridge, mods=len(bundle), seconds=round(seconds, 6))
            self._account.committed(generation)
        finally:
            self._suspicion.committed(perf_counter())

    def _count(self, result: str) -> None:
        self._metrics.bundles.labels(self.bridge, result).inc()

    def _say_trouble(self, trouble: str | None) -> None:
        self.trouble = trouble
        making = not self._connected and perf_counter() - self._begun < MADE_WITHIN
        if trouble == self._told or making:
            return
        if trouble is None:
            log.info("the switch holds what is wanted", bridge=self.bridge)
        else:
            log.warning(
                "the switch does not hold what is wanted",
                bridge=self.bridge,
                why=trouble,
                do="see that ovs-vswitchd runs, and that openflow.rundir is its; it is tried again",
            )
        self._told = trouble
