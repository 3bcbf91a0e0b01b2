"""What a switch refuses: found, set aside by name, and offered again after a while, so that the rest goes in.

A bundle is applied whole or not at all. Mostly the switch names the line that it minds; where it does not, halves of
the bundle are committed apart until what it minds stands alone.
"""

import math
from time import perf_counter
from typing import Final

import structlog

from portwatch.errors import BundleInvalid, BundleRejected, OutcomeUnknown, SwitchUnavailable
from portwatch.metrics import Metrics
from portwatch.openflow.bundle import Bundle, Mod
from portwatch.openflow.ledger import Ledger
from portwatch.switch.fault import LineRejected
from portwatch.switch.ofctl import OfCtl

REFUSED_AGAIN: Final = 300.0
"""Seconds after which the switch is offered again what it has refused."""

log = structlog.get_logger()


class Refusals:
    """One bridge's."""

    def __init__(self, bridge: str, ledger: Ledger, ofctl: OfCtl, metrics: Metrics) -> None:
        self._bridge = bridge
        self._ledger = ledger
        self._ofctl = ofctl
        self._rejected = metrics.bundles.labels(bridge, "rejected")
        self._offered_at = -math.inf

    def offer_again(self) -> None:
        """Owe again what was refused, if that was not done just lately."""
        if perf_counter() - self._offered_at > REFUSED_AGAIN:
            self._offered_at = perf_counter()
            self._ledger.retry_refused()

    async def set_aside(self, bundle: Bundle, error: BundleRejected | BundleInvalid) -> None:
        """Find what the switch does not take of a rejected *bundle*, set it aside by name, and let the rest in."""
        self._rejected.inc()
        self._ledger.failed()
        place = error.line - 1 if isinstance(error, BundleInvalid) else -1
        if isinstance(error, LineRejected) and error.index is not None:
            place = error.index
        if 0 <= place < len(bundle):
            self._refuse(bundle.mods[place], error)
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
                await self._ofctl.commit(self._bridge, Bundle(half).text())
            except (BundleRejected, BundleInvalid) as error:
                self._rejected.inc()
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
            bridge=self._bridge,
            reason=reason,
            flow=mod.line,
            do="see the reason in docs/alerts.md, PortwatchFlowsRefused; it is offered again every five minutes",
        )
