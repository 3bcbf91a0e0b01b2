"""Keep one bridge as its ledger wants it: read back, commit, try again. The only task that programs the bridge.

While one bundle is in flight the next one collects in the ledger: no timers, and bursts fold by themselves.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from time import perf_counter
from typing import NoReturn, Protocol

import structlog

from portwatch.errors import BundleInvalid, BundleRejected, OutcomeUnknown, SwitchUnavailable
from portwatch.metrics import Metrics
from portwatch.openflow import parse
from portwatch.openflow.bundle import Bundle, Mod, Ownership
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Drift, Ledger
from portwatch.switch.monitor import FlowEvent, watch
from portwatch.switch.ofctl import OfCtl

BACKOFF = (0.05, 2.0)
"""Seconds to wait for a switch that does not answer: at first, and at most."""

log = structlog.get_logger()


class Account(Protocol):
    """What the programmer asks of whoever decides what is wanted."""

    @property
    def generation(self) -> int:
        """Counts the changes of what is wanted."""

    def read_back(self, items: Iterable[Item]) -> Drift:
        """The switch holds these."""

    def committed(self, generation: int) -> None:
        """What was wanted at *generation* stands in the switch."""


class Programmer:
    """One bridge's. `kick` after the ledger has changed; `lost` when the switch may have forgotten."""

    def __init__(
        self, bridge: str, ledger: Ledger, own: Ownership, account: Account, ofctl: OfCtl, metrics: Metrics
    ) -> None:
        self.bridge = bridge
        self.trouble: str | None = "not yet connected"
        """Why the bridge cannot be programmed, for people; None when it can."""
        self._ledger = ledger
        self._own = own
        self._account = account
        self._ofctl = ofctl
        self._metrics = metrics
        self._work = asyncio.Event()
        self._was_connected = False
        self._on_change: Callable[[], None] = lambda: None

    def kick(self) -> None:
        """There may be something to do."""
        self._work.set()

    def lost(self) -> None:
        """The switch may not hold what we think: read it back before anything else."""
        if self._ledger.known:
            self._ledger.lost()
        self._work.set()

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Call *notify* whenever `trouble` comes or goes."""
        self._on_change = notify

    async def run(self) -> None:
        """Work for ever: watch the switch, read it back, program it; and from the start when it goes."""
        pause, most = BACKOFF
        while True:
            try:
                # The monitor first: what is read back once it stands misses nothing, and its end tells the switch's.
                async with watch(self._ofctl, self.bridge) as events:
                    await self._read_back()
                    pause = BACKOFF[0]
                    await self._serve(events)
            except SwitchUnavailable as error:
                self._unavailable(error)
                self._work.clear()
                try:
                    # A kick may say that the bridge has come: do not sleep through it.
                    await asyncio.wait_for(self._work.wait(), pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter is no secret
                except TimeoutError:
                    pause = min(pause * 2, most)

    # --- within --------------------------------------------------------------------------------------------------

    async def _serve(self, events: AsyncIterator[FlowEvent]) -> NoReturn:
        """Commit what is owed, until the switch goes."""
        gone = asyncio.ensure_future(_end_of(events))
        try:
            while True:
                if not self._ledger.known:
                    await self._read_back()
                if self._ledger.owes:
                    await self._commit()
                    continue
                self._work.clear()
                work = asyncio.ensure_future(self._work.wait())
                await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
                work.cancel()
                if gone.done():
                    gone.result()
        finally:
            gone.cancel()

    async def _read_back(self) -> None:
        """Learn what the switch holds."""
        started = perf_counter()
        dump = await self._ofctl.dump_flows(self.bridge, self._own.cookie, self._own.mask)
        groups = await self._ofctl.dump_groups(self.bridge)
        drift = self._account.read_back([*parse.flows(dump), *parse.groups(groups)])
        self._available()
        self._metrics.resync_seconds.observe(perf_counter() - started)
        log.info("switch read back", bridge=self.bridge, items=len(self._ledger.installed), otherwise=drift.total)

    async def _commit(self) -> None:
        generation = self._account.generation
        bundle = self._ledger.take()
        if not bundle:
            self._ledger.committed()
            self._account.committed(generation)
            return
        started = perf_counter()
        try:
            await self._ofctl.commit(self.bridge, bundle.text())
        except asyncio.CancelledError:
            self._ledger.lost()
            raise
        except (BundleRejected, BundleInvalid) as error:
            self._count("rejected")
            await self._set_aside(bundle, error)
        except OutcomeUnknown as error:
            self._count("unknown")
            log.warning("commit without an answer, reading the switch back", bridge=self.bridge, error=error.detail)
            self._ledger.lost()
        except SwitchUnavailable:
            self._count("unavailable")
            self._ledger.lost()
            raise
        else:
            seconds = perf_counter() - started
            self._ledger.committed()
            self._count("committed")
            self._metrics.bundle_seconds.labels(self.bridge).observe(seconds)
            for op in ("add", "delete"):
                if number := sum(mod.op == op for mod in bundle.mods):
                    self._metrics.flow_mods.labels(self.bridge, op).inc(number)
            log.debug("bundle committed", bridge=self.bridge, mods=len(bundle), seconds=round(seconds, 6))
            self._account.committed(generation)

    async def _set_aside(self, bundle: Bundle, error: BundleRejected | BundleInvalid) -> None:
        """Find what the switch does not take, set it aside by name, and let the rest in."""
        self._ledger.failed()
        if isinstance(error, BundleInvalid) and 1 <= error.line <= len(bundle):
            self._refuse(bundle.mods[error.line - 1], error)
        elif len(bundle) == 1:
            self._refuse(bundle.mods[0], error)
        else:
            await self._halve(bundle.mods)
            self._ledger.lost()

    async def _halve(self, mods: tuple[Mod, ...]) -> None:
        """Commit the halves apart until the culprits stand alone. Order is kept, so nothing refers to the missing."""
        middle = len(mods) // 2
        for half in (mods[:middle], mods[middle:]):
            if not half:
                continue
            try:
                await self._ofctl.commit(self.bridge, Bundle(half).text())
            except (BundleRejected, BundleInvalid) as error:
                self._count("rejected")
                if len(half) == 1:
                    self._refuse(half[0], error)
                else:
                    await self._halve(half)
            except (SwitchUnavailable, OutcomeUnknown):
                return  # whatever stands now is read back next

    def _refuse(self, mod: Mod, error: BundleRejected | BundleInvalid) -> None:
        reason = error.code if isinstance(error, BundleRejected) else error.detail
        self._ledger.refuse(mod, reason)
        log.error(
            "the switch refuses a flow; it is set aside and the rest goes in",
            bridge=self.bridge,
            reason=reason,
            flow=mod.line,
        )

    def _count(self, result: str) -> None:
        self._metrics.bundles.labels(self.bridge, result).inc()

    def _unavailable(self, error: SwitchUnavailable) -> None:
        if self._ledger.known:
            self._ledger.lost()
        if self.trouble != error.detail:
            log.warning("the switch cannot be programmed", bridge=self.bridge, error=error.detail)
        self.trouble = error.detail
        self._on_change()

    def _available(self) -> None:
        if self._was_connected and self.trouble is not None:
            self._metrics.reconnects.labels("switch").inc()
        self._was_connected = True
        self.trouble = None
        self._on_change()


async def _end_of(events: AsyncIterator[FlowEvent]) -> None:
    """Read *events* to their end, which is the switch's: SwitchUnavailable."""
    async for _ in events:
        pass
