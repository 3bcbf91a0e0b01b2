"""`make bench`: what a port costs beside the bare parts it is made of; and bursts, crowds, restarts, idling, fleets."""

import argparse
import asyncio
import logging
import sys
import traceback
from collections.abc import Awaitable, Callable

import structlog

from tests.bench import burst, change, fleet, idle, peers, plug, report, restart
from tests.bench.samples import Row, table

BENCHES: dict[str, Callable[[float], Awaitable[list[Row]]]] = {
    "plug": plug.measure,
    "burst": burst.measure,
    "change": change.measure,
    "restart": restart.measure,
    "idle": idle.measure,
    "fleet": fleet.measure,
    "peers": peers.measure,
}
"""Name → measures with so many times the usual samples; below 1 it leaves the largest sizes out."""
BESIDE = ("peers",)
"""What is measured only when it is named: it needs more than `make setup` brings."""


def main() -> None:
    """Measure, print tables, and end with 1 when a ratio is above its bound, or a benchmark has failed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = ", ".join(BENCHES)
    parser.add_argument("benches", nargs="*", metavar="NAME", help=f"which: {names} (default all but peers)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of samples (default 1)")
    parser.add_argument(
        "--write", action="store_true", help=f"keep the figures: {report.RESULTS}, {report.PAGE}, plots"
    )
    parser.add_argument("--redraw", action="store_true", help="measure nothing; write tables and plots of what is kept")
    options = parser.parse_args()
    if options.redraw:
        report.publish(list(BENCHES))
        return
    if unknown := set(options.benches) - BENCHES.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {names}")
    complaints = []
    for name in options.benches or [each for each in BENCHES if each not in BESIDE]:
        print(f"{name}:", flush=True)
        try:
            rows = asyncio.run(_run(name, options.scale))
        except Exception:  # noqa: BLE001  an hour's other figures are not lost for it
            traceback.print_exc()
            complaints.append(f"{name}: failed, see above")
            continue
        print(f"\n{table(name, rows)}\n", flush=True)
        complaints += [f"{row.name}: {row.ratio:.2f}, more than {row.bound:g}" for row in rows if row.fails]
        if options.write:
            report.keep(name, rows, options.scale)
    if options.write:
        report.publish(list(BENCHES))
    if complaints:
        sys.exit("\n".join(complaints))


async def _run(name: str, scale: float) -> list[Row]:
    return await BENCHES[name](scale)


if __name__ == "__main__":
    main()
