"""`make bench`: what a port costs beside the bare parts it is made of; and bursts, crowds, restarts, idling, fleets."""

import argparse
import asyncio
import json
import logging
import platform
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tests.bench import burst, change, fleet, idle, peers, plug, restart
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
RESULTS = Path("docs/performance/results.json")


def main() -> None:
    """Measure, print tables, and end with 1 when a ratio is above its bound."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (default all)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of samples (default 1)")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS}")
    options = parser.parse_args()
    if unknown := set(options.benches) - BENCHES.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    report: dict[str, list[Row]] = {}
    for name in options.benches or BENCHES:
        print(f"{name}:", flush=True)
        report[name] = asyncio.run(_run(name, options.scale))
        print(f"\n{table(name, report[name])}\n", flush=True)
    if options.write:
        _write(report)
    if worse := [row for rows in report.values() for row in rows if row.fails]:
        sys.exit("\n".join(f"{row.name}: {row.ratio:.2f}, more than {row.bound:g}" for row in worse))


async def _run(name: str, scale: float) -> list[Row]:
    return await BENCHES[name](scale)


def _write(report: dict[str, list[Row]]) -> None:
    """Keep the figures; benchmarks that were not run keep theirs."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    for name, rows in report.items():
        known[name] = {"when": when, "python": platform.python_version(), "rows": [row.json() for row in rows]}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
