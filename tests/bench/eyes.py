"""A process that says when a bridge's flows changed: one line each, `time change text`. The first line: it looks.

It is a process of its own so that whoever plugs 500 ports and hears of them does not see late what came in time.
"""

import asyncio
import sys
import time
from pathlib import Path

from portwatch.switch.monitor import watch
from portwatch.switch.ofctl import OfCtl


async def _look(rundir: Path, bridge: str) -> None:
    async with OfCtl(rundir) as ofctl, watch(ofctl, bridge) as events:
        print("looking", flush=True)
        async for event in events:
            print(f"{time.time():.6f} {event.change} {event.text}", flush=True)


if __name__ == "__main__":
    asyncio.run(_look(Path(sys.argv[1]), sys.argv[2]))
